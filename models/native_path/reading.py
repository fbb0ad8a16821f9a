"""A graph of packed weights as whoever learns reads it: natively, forward and back, where it has only low ranks on it.

What is read are whole texts. Gradients are those of the low ranks' A and B, and of the hidden states that logits are
made of; the weights have none, and are unpacked a few rows at a time. With more on the graph (dropout, DoRA, an adapted
embedding, other weights) it is the graph that is read. Knows neither adapters nor losses.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from likely.metal import mx
from likely.metal.attention import Mask
from likely.models.configuration.config import ModelConfig
from likely.models.native_path import native_graph
from likely.models.packed_weights.additions import PackedAdditions, PackedGradients
from likely.models.packed_weights.texts import PackedTexts
from likely.models.transformer import Transformer

Array = mx.array


class PackedReading:
    """Hidden states and logits of whole texts, by a `Transformer` over packed weights."""

    def __init__(self, model: Transformer, fast: PackedTexts, keep: int = 0) -> None:
        """`keep`: bytes of a pass that may stay for the way back; what does not is computed again."""
        self.model, self._fast, self._keep = model, fast, keep

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def hidden(
        self, tokens: Array, *, mask: Mask | None = None, documents: Sequence[int] = (), after: Sequence[int] = ()
    ) -> Array:
        """[B, T, C] that `head` takes; `documents` are the lengths of texts that stand in tokens [1, T], `after` the
        earlier one that each goes on from, or -1."""
        known = native_graph.differentiable(self.model) if mask is None else None
        if known is None:
            return self.model.hidden(tokens, mask=mask, documents=documents, after=after)
        added, factors = known
        ids, shape = np.array(tokens, np.int32).reshape(-1), (*tokens.shape, self.config.width)
        lengths = documents or (tokens.shape[1],) * tokens.shape[0]
        fast = self._fast.with_additions(PackedAdditions(added, self._fast.model.outputs) if added else None)
        texts = fast.read(ids, lengths, self._keep, after)

        @mx.custom_function
        def read(*factors: Array) -> Array:
            return mx.array(texts.hidden.reshape(shape))

        @read.vjp
        def back(factors: Any, slope: Array, _: Any) -> tuple[Array, ...]:
            gradients = PackedGradients(added.layers)
            fast.back(texts, np.array(slope).reshape(texts.hidden.shape), gradients)
            return tuple(mx.array(array) for pair in gradients.pairs for array in pair)

        outputs: Any = read(*factors) if factors else mx.array(texts.hidden.reshape(shape))
        hidden: Array = outputs
        return hidden

    def head(self, hidden: Array) -> Array:
        """Logits [..., V] of hidden states [..., C]."""
        if packed_of(self.model) is None:
            return self.model.head(hidden)
        out, config = self._fast.model.out, self.config

        @mx.custom_function
        def product(hidden: Array) -> Array:
            rows = np.array(hidden).reshape(-1, config.width)
            return mx.array(out.product(rows).reshape(*hidden.shape[:-1], -1))

        @product.vjp
        def back(hidden: Array, slope: Array, _: Array) -> Array:
            rows = np.array(slope).reshape(-1, config.vocab_size)
            return mx.array(out.back(rows).reshape(hidden.shape))

        logits: Any = product(hidden)
        return self.model.scaled(logits)

    def losses(self, hidden: Array, targets: Array, smoothing: float = 0.0) -> Array | None:
        """-log p of `targets` [n] after `hidden` [n, C], nats, a share of each `smoothing` over all tokens.

        Differentiable in the hidden states. None where the native call has not the logits.
        """
        if packed_of(self.model) is None or self.config.logit_softcap is not None:
            return None
        lost, slope = self._fast.losses(np.array(hidden), np.array(targets), smoothing)

        @mx.custom_function
        def read(hidden: Array) -> Array:
            return mx.array(lost)

        @read.vjp
        def back(hidden: Array, cotangent: Array, _: Array) -> Array:
            return cotangent[:, None] * mx.array(slope)

        outputs: Any = read(hidden)
        found: Array = outputs
        return found


def reading(model: Transformer, keep: int = 0) -> "Transformer | PackedReading":
    """The model as whoever learns reads it; `keep` as there."""
    return model if model.packed is None else PackedReading(model, model.packed, keep)


def packed_of(model: Transformer) -> PackedTexts | None:
    """The native call by which it is read, as it is now; None where it is the graph."""
    return None if model.packed is None or native_graph.differentiable(model) is None else model.packed


def reusing(model: Transformer) -> AbstractContextManager[None]:
    """Let native passes over texts take the memory of those before, for as long as a block runs."""
    return nullcontext() if model.packed is None else model.packed.reusing()
