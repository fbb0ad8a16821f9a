"""Interventions: what the model says when a part of it is silenced, or is given what it computed for another text.

Ablation silences a head at every position. Activation patching (causal tracing, Meng et al. 2022) runs a corrupted text
and puts, at one layer and position, what the clean text had there: where that brings the clean answer back, the answer
passes through there. All layers and positions are one sweep: what a patch does not reach, the layers below it and the
positions before it, is read once, and all patches of a position go through the layers above side by side. A head is
patched at all positions at once: which head carries the answer, beside which layer and position. Attribution patching
(Nanda 2023) is the first-order estimate of the same table, from one pass and its gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.inside.heads import check
from likely.engine.inside.questions import PARTS, Ablation, Patching
from likely.engine.inside.subject import InspectedText
from likely.metal import mx
from likely.models.caches.kv_cache import Cache
from likely.models.modules.linear import bare
from likely.models.native_path.native import NativeModel
from likely.models.tap import Tap, TappedPass
from likely.models.transformer import Transformer

Array = mx.array
TOGETHER = 4096  # tokens of heads' patches that go through the layers side by side, of one layer at least


def ablate(subject: InspectedText, layer: int, head: int, token: int | None = None) -> Ablation:
    """Silence one head at every position, its output is 0: the logit of `token`, the favourite if left out, and what
    changes of it. ParameterError where there is no such head."""
    check(subject.model, layer, head)
    reading, name = subject.reading, f"layers.{layer}.heads"
    if isinstance(reading, NativeModel) and (without := reading.without(layer, head)) is not None:
        tokens = mx.array([subject.ids])
        intact, ablated = (model.head(model.hidden(tokens)[:, -1])[0] for model in (reading, without))
    else:
        silent = mx.arange(subject.model.config.heads)[:, None] == head
        taps: tuple[Tap, Tap] = (
            lambda at, x: x,
            lambda at, x: mx.where(silent, 0, x).astype(x.dtype) if at == name else x,
        )
        intact, ablated = (_logits(subject.model, subject.whole().run(tap)) for tap in taps)
    token = int(mx.argmax(intact)) if token is None else token
    return Ablation(float(intact[token]), float(ablated[token] - intact[token]), token)


def _logits(model: Transformer, x: Array) -> Array:
    """Logits [V] after the last position of a residual stream [1, T, C]."""
    return model.head(model.norm(x[:, -1]))[0].astype(mx.float32)


@dataclass(frozen=True, slots=True)
class PromptPair:
    """A clean and a corrupted text of one length T, and the two tokens whose logits are compared after them."""

    model: Transformer
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    answer: int
    foil: int


def pair(
    clean: InspectedText, corrupted: InspectedText, *, answer: int | None = None, foil: int | None = None
) -> PromptPair:
    """The two texts, compared by what each says most likely unless tokens are given.

    ParameterError for texts of different lengths, for equal texts, and where both say the same.
    """
    a, b = clean.ids, corrupted.ids
    if len(a) != len(b):
        raise ParameterError(
            f"patching puts one text's activations in the place of another's, position by position: both must have as "
            f"many tokens, got {len(a)} and {len(b)}; reword one, or look at their tokens with likely explain"
        )
    if a == b:
        raise ParameterError("the two texts are the same: there is nothing to patch")
    model = clean.model
    best = [int(mx.argmax(_logits(model, s.whole().run(lambda name, x: x)))) for s in (clean, corrupted)]
    answer, foil = (best[0] if answer is None else answer), (best[1] if foil is None else foil)
    for token in (answer, foil):
        if not 0 <= token < model.config.vocab_size:
            raise ParameterError(f"a token's id must be 0 to {model.config.vocab_size - 1}, got {token}")
    if answer == foil:
        raise ParameterError(
            f"both texts are answered by token {answer}: name another to compare it with, or change the corrupted text"
        )
    return PromptPair(model, a, b, answer, foil)


def patch(texts: PromptPair, part: str = "residual") -> Patching:
    """Patch `part` ("residual" after a layer, or what its "attention" or "mlp" adds) at every layer and position, or
    every one of its "heads" at all positions.

    ParameterError for a part that is none.
    """
    _check_part(part)
    effects = _head_sweeps(texts) if part == "heads" else _sweeps(texts, part)
    return Patching(part, texts.corrupted, texts.answer, texts.foil, *effects, estimate(texts, part))


def estimate(texts: PromptPair, part: str = "residual") -> np.ndarray:
    """Attribution patching: the same table to first order, from the gradient at the corrupted text.

    effect(l, i) = (clean - corrupted activation) . d difference / d activation, float32 [layers, T], as shares too; of
    heads [layers, H], over all positions.
    """
    _check_part(part)
    model = texts.model
    clean, corrupted = (_activations(model, ids, heads=part == "heads") for ids in (texts.clean, texts.corrupted))
    low, high = (_difference(texts, stream.final) for stream in (corrupted, clean))
    over = (1, 3) if part == "heads" else -1  # [1, T, H, D], or [1, T, C]
    names = [f"layers.{index}.{part}" for index in range(len(model.blocks))]

    def metric(added: list[Array]) -> Array:
        added_by_name = dict(zip(names, added, strict=True))
        run = TappedPass(model, mx.array([texts.corrupted]), dtype=mx.float32)
        logits = _logits(model, run.run(lambda name, x: x + added_by_name[name] if name in added_by_name else x))
        return logits[texts.answer] - logits[texts.foil]

    slopes = mx.grad(metric)([mx.zeros_like(corrupted.parts[name]) for name in names])
    moves = [
        mx.sum(slope * (clean.parts[name] - corrupted.parts[name]), axis=over)[0]
        for name, slope in zip(names, slopes, strict=True)
    ]
    return np.array(mx.stack(moves)) / (float(high) - float(low))


def _sweeps(texts: PromptPair, part: str) -> tuple[float, float, np.ndarray]:
    """The differences of the clean and of the corrupted text, and the effects [layers, T]."""
    model, t = texts.model, len(texts.corrupted)
    ids = mx.array([texts.corrupted])
    cache = model.make_cache(capacity=t)
    clean, corrupted = _activations(model, texts.clean), _activations(model, texts.corrupted, cache)
    low, high = _differences(texts, corrupted, clean)
    patched = _patched(model, part, clean, corrupted)
    table = np.full((len(model.blocks), t), low, np.float64)
    differ = next(i for i, (a, b) in enumerate(zip(texts.clean, texts.corrupted, strict=True)) if a != b)
    for position in range(differ, t):  # before that both texts have computed the same
        if cache.room >= t - position:
            before = cache.fork()
            before.rewind(t - position)
        else:  # a layer that slides has let go of it
            before = model.make_cache(capacity=t)
            before.expected = t
            if position:
                mx.eval(TappedPass(model, ids[:, :position], before, dtype=mx.float32).run(lambda name, x: x))
        before.freeze()
        rest = TappedPass(model, ids[:, position:], before, dtype=mx.float32)
        table[:, position] = _sweep(texts, rest, [x[:, position] for x in patched], corrupted, position)
    return high, low, ((table - low) / (high - low)).astype(np.float32)


def _head_sweeps(texts: PromptPair) -> tuple[float, float, np.ndarray]:
    """The differences of the clean and of the corrupted text, and the effects [layers, H]."""
    model, heads = texts.model, texts.model.config.heads
    clean, corrupted = (_activations(model, ids, heads=True) for ids in (texts.clean, texts.corrupted))
    low, high = _differences(texts, corrupted, clean)
    layers, together = len(model.blocks), max(1, TOGETHER // (heads * len(texts.clean)))
    spans = [range(first, min(first + together, layers)) for first in range(0, layers, together)]
    table = np.concatenate([_head_sweep(texts, clean, corrupted, span) for span in spans])
    return high, low, ((table - low) / (high - low)).astype(np.float32)


def _head_sweep(texts: PromptPair, clean: "_Stream", corrupted: "_Stream", layers: range) -> np.ndarray:
    """The difference of logits [these layers, H] with each head's patch.

    At each of these layers the batch grows by one copy of the corrupted text for every head, and all go on to the end.
    """
    model, heads = texts.model, texts.model.config.heads
    rest = TappedPass(model, mx.array([texts.corrupted]), dtype=mx.float32)
    batch = mx.zeros((0, *rest.x.shape[1:]))
    for index in range(layers.start, len(model.blocks)):
        count = batch.shape[0]
        if index in layers:
            before = corrupted.parts[f"layers.{index - 1}.residual" if index else "embedding"]
            batch = mx.concatenate([batch, mx.repeat(before, heads, axis=0)])

        def tap(name: str, x: Array, index: int = index, count: int = count) -> Array:
            if index not in layers or name != f"layers.{index}.heads":
                return x
            mine = mx.eye(heads)[:, None, :, None] == 1  # of each copy the head that is its own
            patched = mx.where(mine, clean.parts[name], x[count:])
            return mx.concatenate([x[:count], patched])

        rest.x = batch
        rest.step.lengths = mx.full((batch.shape[0],), len(texts.corrupted), dtype=mx.int32)
        rest.layer(index, tap)
        batch = rest.x
        mx.eval(batch)
    logits = model.head(model.norm(batch[:, -1])).astype(mx.float32)
    return np.array(logits[:, texts.answer] - logits[:, texts.foil]).reshape(len(layers), heads)


@dataclass(frozen=True, slots=True)
class _Stream:
    """The activations of one text, by name, and its residual stream [1, T, C] at the end."""

    parts: dict[str, Array]
    final: Array


def _activations(model: Transformer, ids: Sequence[int], cache: Cache | None = None, *, heads: bool = False) -> _Stream:
    activations: dict[str, Array] = {}

    def keep(name: str, x: Array) -> Array:
        if heads or not name.endswith("heads"):
            activations[name] = x
        return x

    final = TappedPass(model, mx.array([ids]), cache, dtype=mx.float32).run(keep)
    mx.eval(final, activations)
    return _Stream(activations, final)


def _patched(model: Transformer, part: str, clean: _Stream, corrupted: _Stream) -> list[Array]:
    """The corrupted residual stream [1, T, C] after each layer, at every position as a patch there makes it."""
    rows, before = [], "embedding"
    for index in range(len(model.blocks)):
        name = f"layers.{index}"
        if part == "residual":
            row = clean.parts[f"{name}.residual"]
        elif part == "mlp":
            row = corrupted.parts[f"{name}.residual"] - corrupted.parts[f"{name}.mlp"] + clean.parts[f"{name}.mlp"]
        else:  # the MLP looks at each position by itself: it answers to the patch at the same position
            core, x = bare(model.blocks[index]), corrupted.parts[before]
            h = x + clean.parts[f"{name}.attention"]
            source = x if core.parallel else h
            source = source if core.mlp_norm is None else core.mlp_norm(source)
            row = h + core.scaled(core.mlp(source), core.mlp_post_norm)
        rows.append(row)
        before = f"{name}.residual"
    mx.eval(rows)
    return rows


def _sweep(
    texts: PromptPair, rest: TappedPass, patched: Sequence[Array], corrupted: _Stream, position: int
) -> np.ndarray:
    """The difference of logits [layers] with the patch of each layer at one position.

    `rest` is the pass over the positions from this one on. At every layer its batch grows by one: the patch there.
    """
    model = texts.model
    batch = mx.zeros((0, *rest.x.shape[1:]))
    for index, value in enumerate(patched):
        if batch.shape[0]:
            rest.x = batch
            rest.layer(index)
            batch = rest.x
        rest.caches[index] = None  # nobody reads its rows again
        after = corrupted.parts[f"layers.{index}.residual"][:, position + 1 :]
        batch = mx.concatenate([batch, mx.concatenate([value[None], after], axis=1)])
        mx.eval(batch)
    logits = model.head(model.norm(batch[:, -1])).astype(mx.float32)
    return np.array(logits[:, texts.answer] - logits[:, texts.foil])


def _check_part(part: str) -> None:
    if part not in PARTS:
        raise ParameterError(f"what is patched must be one of {', '.join(PARTS)}, got {part}")


def _differences(texts: PromptPair, corrupted: _Stream, clean: _Stream) -> tuple[float, float]:
    """Of the corrupted and of the clean text; ParameterError where they are the same."""
    low, high = (_difference(texts, stream.final) for stream in (corrupted, clean))
    if high == low:
        raise ParameterError(
            "both texts give the two tokens the same difference of logits: there is nothing to bring back"
        )
    return low, high


def _difference(texts: PromptPair, x: Array) -> float:
    logits = _logits(texts.model, x)
    return float(logits[texts.answer] - logits[texts.foil])
