"""Optimisers, one pure step a tensor: (parameter, gradient, state, rate, step) -> parameter and state.

Weight decay is decoupled from the gradient (arXiv:1711.05101) and left to `update`, with the L1 proximal step. State is
a flat dict of arrays, so that a checkpoint is a list of names and arrays.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from likely.engine.base.errors import ParameterError
from likely.engine.weights.adapters.config import SCHEDULES
from likely.metal import mx

Array = mx.array
State = dict[str, Array]


class Step(Protocol):
    """Protocol of an optimiser's step."""

    def __call__(self, g: Array, state: State, t: int, inputs_first: bool = False) -> tuple[Array, State]:
        """Direction and state of a gradient at step `t`, from 1. `inputs_first`: a matrix is kept [in, out]."""
        ...


def adamw(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Step:
    """m_hat / (sqrt(v_hat) + eps), both bias-corrected (arXiv:1412.6980, algorithm 1)."""

    def step(g: Array, state: State, t: int, inputs_first: bool = False) -> tuple[Array, State]:
        m = beta1 * state.get("m", mx.zeros_like(g)) + (1 - beta1) * g
        v = beta2 * state.get("v", mx.zeros_like(g)) + (1 - beta2) * mx.square(g)
        return (m / (1 - beta1**t)) / (mx.sqrt(v / (1 - beta2**t)) + eps), {"m": m, "v": v}

    return step


def lion(beta1: float = 0.9, beta2: float = 0.99) -> Step:
    """sign(beta1 m + (1 - beta1) g) (arXiv:2302.06675, algorithm 2)."""

    def step(g: Array, state: State, t: int, inputs_first: bool = False) -> tuple[Array, State]:
        m = state.get("m", mx.zeros_like(g))
        return mx.sign(beta1 * m + (1 - beta1) * g), {"m": beta2 * m + (1 - beta2) * g}

    return step


def sgd(momentum: float = 0.9) -> Step:
    """The running sum of gradients, each `momentum` times less than the next."""

    def step(g: Array, state: State, t: int, inputs_first: bool = False) -> tuple[Array, State]:
        if not momentum:
            return g, {}
        m = momentum * state.get("m", mx.zeros_like(g)) + g
        return m, {"m": m}

    return step


def muon(momentum: float = 0.95, steps: int = 5) -> Step:
    """Momentum made orthogonal by Newton-Schulz, times sqrt(max(1, outputs / inputs)); vectors take its sign.

    Keller Jordan's Muon with Nesterov momentum and his scale, which he writes by the rows and columns of W [out, in]:
    it goes by what the matrix itself maps, so A (in to r) has 1 and B (r to out) sqrt(out / r), in whichever order they
    are kept. Moonlight's rule (arXiv:2502.16982, 0.2 sqrt(max(out, in)), the same either way round) brings a step to
    the size of AdamW's; it is not used here, and rates are Muon's own.
    """

    def step(g: Array, state: State, t: int, inputs_first: bool = False) -> tuple[Array, State]:
        m = momentum * state.get("m", mx.zeros_like(g)) + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * m
        if u.ndim < 2:
            return mx.sign(u), {"m": m}
        outputs, inputs = u.shape[-2:][::-1] if inputs_first else u.shape[-2:]
        return orthogonal(u, steps) * max(1.0, outputs / inputs) ** 0.5, {"m": m}

    return step


def orthogonal(x: Array, steps: int = 5) -> Array:
    """x [..., m, n] with its singular values brought near 1 by a quintic iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x
    x = x / (mx.sqrt(mx.sum(mx.square(x), axis=(-2, -1), keepdims=True)) + 1e-7)
    for _ in range(steps):
        s = x @ x.swapaxes(-1, -2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.swapaxes(-1, -2) if tall else x


def adafactor(decay: float = 0.8, eps: float = 1e-30, clip: float = 1.0) -> Step:
    """Gradients over the root of factored second moments, clipped by their mean square (arXiv:1804.04235, alg. 4).

    The step size is the schedule's: relative steps and momentum are left out.
    """

    def step(g: Array, state: State, t: int, inputs_first: bool = False) -> tuple[Array, State]:
        beta = 1 - t**-decay
        square = mx.square(g) + eps
        if g.ndim < 2:
            v = beta * state.get("v", mx.zeros_like(g)) + (1 - beta) * square
            state, u = {"v": v}, g * mx.rsqrt(v)
        else:
            rows, columns = mx.mean(square, axis=-1), mx.mean(square, axis=-2)
            row = beta * state.get("row", mx.zeros_like(rows)) + (1 - beta) * rows
            column = beta * state.get("column", mx.zeros_like(columns)) + (1 - beta) * columns
            share = mx.rsqrt(row / mx.mean(row, axis=-1, keepdims=True))
            state, u = {"row": row, "column": column}, g * share[..., None] * mx.rsqrt(column)[..., None, :]
        return u / mx.maximum(1.0, mx.sqrt(mx.mean(mx.square(u))) / clip), state

    return step


DECAY = 0.2  # share of wsd's steps in which the rate falls
OPTIMISERS: dict[str, Callable[..., Step]] = {
    "adamw": adamw,
    "muon": muon,
    "adafactor": adafactor,
    "lion": lion,
    "sgd": sgd,
}


@dataclass(frozen=True)
class ParameterGroup:
    """How parameters follow their gradients: by which optimiser, at what multiple of the schedule's rate, and with how
    much decoupled decay."""

    step: Step
    rate: float = 1.0
    decay: float = 0.0


def update(
    parameters: Mapping[str, Array],
    gradients: Mapping[str, Array],
    states: Mapping[str, State],
    groups: Mapping[str, ParameterGroup],
    t: int,
    rate: float,
    l1: float = 0.0,
) -> tuple[dict[str, Array], dict[str, State]]:
    """One step of each: w <- prox((1 - rate decay) w - rate direction), at its group's rate.

    Vectors (norms, biases) are not penalised; L1 is by its proximal operator, which gives exact zeros.
    """
    new: dict[str, Array] = {}
    after: dict[str, State] = {}
    for name, w in parameters.items():
        group = groups[name]
        own = rate * group.rate
        turned = w.ndim == 2 and name.endswith((".lora_a", ".lora_b"))  # experts' factors are kept [out, in]
        direction, after[name] = group.step(gradients[name].astype(mx.float32), states.get(name, {}), t, turned)
        value = w.astype(mx.float32)
        if group.decay and w.ndim > 1:
            value = value * (1 - own * group.decay)
        value = value - own * direction
        if l1 and w.ndim > 1:
            value = mx.sign(value) * mx.maximum(mx.abs(value) - own * l1, 0)
        new[name] = value.astype(w.dtype)
    return new, after


def norm(gradients: Mapping[str, Array]) -> Array:
    """The Euclidean norm of all together."""
    return mx.sqrt(sum((mx.sum(mx.square(g.astype(mx.float32))) for g in gradients.values()), mx.array(0.0)))


def decay_start(steps: int, warmup: int) -> int:
    """The first step at which wsd may be below its peak: those before are the same however many steps follow."""
    return warmup + 1 + math.floor((1 - DECAY) * max(1, steps - warmup - 1))


def rate(schedule: str, peak: float, step: int, steps: int, warmup: int, floor: float = 0.0) -> float:
    """The learning rate of step 1..`steps`: a linear warm-up to `peak`, then the schedule down to `floor` x peak.

    wsd: constant, then linear over the last fifth. Where that ends at 0 the last step is half a step before it: none
    is spent at rate 0.
    """
    if warmup and step <= warmup:
        return peak * step / warmup
    if schedule == "constant":
        return peak
    at = steps - 0.5 if step == steps > warmup + 1 and not floor else step
    share = (at - warmup - 1) / max(1, steps - warmup - 1)
    if schedule == "linear":
        factor = 1 - share
    elif schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    elif schedule == "wsd":
        factor = min(1.0, (1 - share) / DECAY)
    else:
        raise ParameterError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    return peak * (floor + (1 - floor) * max(0.0, factor))
