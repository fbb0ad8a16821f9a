"""Curvature of the loss by an adapter's factors, in one pass over rows: Fisher information, Kronecker-factored.

At each matrix x -> y with a change scale (x A) B, the gradient g of -log p of a token drawn from the model is taken at
y; then A has the factors sum x x^T and sum of its output's gradients, B those of x A and of scale g. Tokens count as
rows of their own (arXiv:2311.00636, "expand"). With `last` only B of the last layer's down projection: behind it are a
norm and the head, so that no layer is differentiated, and the pass is a forward one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.train.data import batches
from likely.engine.train.data.batches import Batch, collate
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.posterior.kronecker import Curvature, Kronecker, Spectrum
from likely.engine.weights.adapters.factors import Factors
from likely.engine.weights.adapters.lora import Adapter
from likely.engine.weights.adapters.observed import ObservedProduct, observed
from likely.metal import mx
from likely.models import Transformer

Array = mx.array
KEPT = 32  # leading directions of a wide side
WHOLE = 64  # a side no wider is kept whole
AT_ONCE = 256  # tokens of a batch: what every watched product gave is held, and its gradient


@dataclass(frozen=True, eq=False, slots=True)
class Curvatures:
    """Kronecker factors by the adapter's names of its arrays; -log p of the rows' targets, nats, and their number."""

    parts: dict[str, Kronecker]
    lost: float
    targets: int


def watched_factors(adapter: Adapter, model: Transformer, *, last: bool) -> list[Factors]:
    """Factors that a posterior is made of; ParameterError, naming the first, for what it is not made for."""
    check_plain(adapter, model)
    factors = list(adapter.factors.values())
    if not last:
        return factors
    top = [f for f in factors if f.site.role == "down" and f.site.layer == model.config.layers - 1]
    if not top:
        raise ParameterError("the last layer's down projection has no adapter: take --structure kron")
    return top


def check_plain(adapter: Adapter, model: Transformer) -> None:
    """ParameterError, naming the first site, for an adapter that is more than LoRA on matrices of the layers."""
    for path, f in adapter.factors.items():
        inside = 0 <= f.site.layer < model.config.layers
        if f.site.kind != "matrix" or not inside or f.m is not None or f.a0 is not None or f.shift is not None:
            raise ParameterError(f"a posterior is over LoRA on the matrices of layers, and {path} has another adapter")


def collect(
    model: Transformer,
    adapter: Adapter,
    samples: Sequence[TrainingSample],
    *,
    last: bool = False,
    draws: int = 1,
    seed: int = 0,
    keep: int = KEPT,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Curvatures:
    """The factors over the rows. `draws` tokens are drawn at each target, or with 0 each token of the vocabulary counts
    by its probability, which needs as many passes through the head and is exact with `last`.

    ParameterError as `watched_factors`.
    """
    factors = watched_factors(adapter, model, last=last)
    plan = batches.plan(samples, size=1, length=AT_ONCE, packing=True, seed=seed, epoch=0)
    sides: dict[str, tuple[Curvature, Curvature]] = {}
    for f in factors:
        shapes = {"lora_b": f.b.shape} if last else {"lora_a": f.a.shape, "lora_b": f.b.shape}
        for leaf, shape in shapes.items():
            left, right = (Curvature(n, n if n <= WHOLE else keep) for n in shape)
            sides[f"{f.site.path}.{leaf}"] = left, right
    inputs: dict[int, Curvature] = {}  # by source: products that read the same array have one
    lost, targets, positions, done = 0.0, 0, 0, 0
    with observed(factors) as watched:
        for number, indices in enumerate(plan):
            batch = collate([samples[i] for i in indices])
            rows = batch.at if last else slice(None)  # elsewhere no loss reaches the last layer
            for turn in range(draws or model.config.vocab_size):
                key = mx.random.key(hash((seed, number, turn)) & 0xFFFFFFFF) if draws else None
                nll, gradients = _gradients(model, batch, list(watched.values()), key, turn)
                shown = dict(zip(watched, gradients, strict=True))
                added: set[int] = set()
                for f in factors:
                    slot, share = (id(f.site.owner), f.site.slot), 1 / (draws or 1)
                    g = shown[slot][0, :, f.start : f.stop][rows] * (f.scale * f.weight * share**0.5)
                    layer = watched[slot]
                    assert layer.read is not None
                    x = layer.read[0][rows]
                    if (both := sides.get(f"{f.site.path}.lora_a")) is not None:
                        left = inputs.setdefault(layer.source, both[0])
                        sides[f"{f.site.path}.lora_a"] = left, both[1]
                        if not turn and layer.source not in added:
                            left.add(_numbers(x))
                            added.add(layer.source)
                        both[1].add(_numbers(g @ f.b.T))
                    if not turn:
                        sides[f"{f.site.path}.lora_b"][0].add(_numbers(x @ f.a))
                    sides[f"{f.site.path}.lora_b"][1].add(_numbers(g))
                lost += 0.0 if turn else nll
            targets += batch.trained
            positions += batch.trained if last else batch.tokens.size
            done += len(indices)
            progress(done, len(samples))
    parts = {}
    different = {id(side): side for both in sides.values() for side in both}
    spectra = {key: side.spectrum() for key, side in different.items()}
    for name, (left, right) in sides.items():
        a, b = spectra[id(left)], spectra[id(right)]
        parts[name] = Kronecker(Spectrum(a.vectors, a.values / positions, a.rest / positions), b)
    return Curvatures(parts, lost, targets)


def _gradients(
    model: Transformer, batch: Batch, watched: Sequence[ObservedProduct], key: Array | None, token: int
) -> tuple[float, list[Array]]:
    """-log p of the batch's targets in all, and gradients [1, N, out] at each watched product of -log p of tokens that
    are drawn with `key`; without one, of `token` everywhere, times the root of its probability."""

    def lost(nudges: list[Array]) -> tuple[Array, ...]:
        for layer, nudge in zip(watched, nudges, strict=True):
            layer.nudge = nudge
        hidden = model.hidden(batch.tokens, documents=batch.documents)[0][batch.at]
        logp = arrays.logprobs(model.head(hidden).astype(mx.float32), mx)
        constant = mx.stop_gradient(logp)
        if key is None:
            goal = -mx.sum(mx.exp(0.5 * constant[:, token]) * logp[:, token])
        else:
            goal = -mx.sum(arrays.chosen(logp, mx.random.categorical(constant, key=key), mx))
        first: dict[int, int] = {}
        for number, layer in enumerate(watched):
            layer.source = first.setdefault(id(layer.read), number)
        return (
            goal,
            -mx.sum(arrays.chosen(constant, batch.targets, mx)),
            *(layer.read for layer in watched if layer.read is not None),
        )

    zeros = [mx.zeros((1, batch.tokens.size, layer.base.outputs)) for layer in watched]
    (_, nll, *reads), gradients = mx.value_and_grad(lost)(zeros)
    mx.eval(nll, reads, gradients)
    for layer, read in zip(watched, reads, strict=True):
        layer.read, layer.nudge = read, None
    return float(nll), gradients


def _numbers(x: Array) -> np.ndarray:
    return np.asarray(x.astype(mx.float32))
