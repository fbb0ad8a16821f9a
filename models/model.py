"""The protocol of a language model: what whoever decodes, scores or serves one may ask of it.

Three classes keep it: `models.transformer.Transformer`, the model of every family written here,
`models.native.NativeModel`, the same on packed weights on a CPU, and `models.foreign.ForeignModel`, which is mlx-lm's
(docs/passes.md says when which runs). What only the first has (parts that are listed and replaced, an inside that is
traced) is asked of it by name. Knows none of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from likely.metal import mx
from likely.metal.attention import AttentionReport, Emit, Mask
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import FIRST
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.rotation import Rotation


@dataclass(frozen=True, slots=True)
class Activations:
    """Hidden states and attention of one pass."""

    hidden: list[mx.array]  # [B, T, C]: the embedding, then the output of each block, before the final norm
    attention: list[AttentionReport]  # for each layer, what was asked for
    final: mx.array  # [B, T, C]: what `head` takes


class LanguageModel(Protocol):
    """p(x_i | x_<i) as logits: `model(tokens [B, T], cache) -> [B, T, V]`, which is `head(hidden(tokens, cache))`."""

    config: ModelConfig

    def __call__(self, tokens: mx.array, cache: Cache | None = None) -> mx.array:
        """Logits [B, T, V] after each of `tokens` [B, T], which follow what `cache` holds and are added to it."""
        ...

    def hidden(self, tokens: mx.array, cache: Cache | None = None, *, mask: Mask | None = None) -> mx.array:
        """Input of `head`, [B, T, C]. `mask`: what positions see of each other, where that is not what came before.

        CacheError for a mask that this model cannot read with.
        """
        ...

    def head(self, hidden: mx.array) -> mx.array:
        """Logits [..., V] of what `hidden` gave."""
        ...

    def make_cache(
        self,
        capacity: int = FIRST,
        *,
        bits: int | tuple[int, int] | None = None,
        group_size: int | None = None,
        exact: int = 64,
        window: int = 0,
        sinks: int = 0,
    ) -> Cache:
        """An empty cache; CacheError for a kind that this model has not."""
        ...

    def inspect(self, tokens: mx.array, cache: Cache | None = None, *, emit: Emit | None = None) -> Activations:
        """A pass over tokens [B, T] that keeps hidden states and, with `emit`, attention; else ConfigError."""
        ...

    def lens(self, hidden: mx.array) -> mx.array:
        """Logits [..., V] as if the layers after `hidden` [..., C] did nothing; ConfigError as `inspect`."""
        ...

    def crosses(self, cache: Cache, length: int) -> bool:
        """Whether a text of `length` cannot go on from what `cache` holds, and is to be read anew."""
        ...

    def warm(self, dtype: mx.Dtype) -> None:
        """Compile what new rows go through, so that none of it falls into the first token."""
        ...

    @property
    def arrays(self) -> Mapping[str, mx.array]:
        """Every weight once, by a name: to be evaluated, counted or hashed."""
        ...

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the activations, and of keys and values as they come."""
        ...

    @property
    def rotations(self) -> Sequence[Rotation]:
        """How positions turn keys: a prefix that is kept is named by their frequencies."""
        ...


class MixtureModel(LanguageModel, Protocol):
    """A `LanguageModel` whose probabilities are the mean of those of several members."""

    samples: int

    def members(self, hidden: mx.array) -> mx.array:
        """Log-probabilities [M, ..., V] of each member, of what `hidden` gave."""
        ...
