"""Losses: negative log-likelihood on chosen positions, a pull to the base, preferences.

Logits are computed where a token is trained and in chunks, never [tokens, V] at once. The gradient of the loss of one
position with respect to its hidden state does not depend on the others, so it is computed in the same pass as the loss
itself and only scaled afterwards: the head is multiplied twice, not three times, and one exponential is taken a logit.
Nats throughout.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from likely.engine.base import arrays
from likely.metal import mx

Array = mx.array
Parameters = dict[str, Array]
Head = Callable[[Array, Parameters], Array]  # hidden states [n, C], and what is trained of the head -> logits [n, V]
Base = Callable[[slice], Array]  # rows -> the base's logits [n, V] there
CELLS = 1 << 22  # logits at once


def rows_at_once(vocab: int) -> int:
    """Positions in a chunk."""
    return max(16, CELLS // vocab)


def nll(head: Callable[[Array], Array], hidden: Array, targets: Array, chunk: int = 0, smoothing: float = 0.0) -> Array:
    """-log p(target) [N] for hidden states [N, C]; differentiable in `hidden`, with a constant head."""
    return token_losses(lambda h, _: head(h), {}, hidden, targets, chunk=chunk, smoothing=smoothing)[0]


def token_losses(
    head: Head,
    parameters: Parameters,
    hidden: Array,
    targets: Array,
    base: Base | None = None,
    chunk: int = 0,
    smoothing: float = 0.0,
    at_once: bool = False,
) -> tuple[Array, Array]:
    """-log p(target) [N] and, with the base's logits, KL(p || p_base) [N] over the whole vocabulary.

    Both are differentiable in `hidden` [N, C] and in the head's `parameters`; where it has any, logits are computed
    again on the way back. With `smoothing` s the first is the cross-entropy of (1 - s) target + s / V instead
    (arXiv:1512.00567, sec. 7). `at_once`: a head that is not trained computes when it is called, and so does the rest.
    """
    rows = chunk or rows_at_once(int(head(hidden[:1], parameters).shape[-1]))  # only the shape is asked for
    parts = [slice(i, i + rows) for i in range(0, hidden.shape[0], rows)]
    if parameters:
        outputs: Any = _again(head, parameters, hidden, targets, base, parts, smoothing)
    else:
        outputs = _at_once(head, parameters, hidden, targets, base, parts, smoothing, at_once)
    return outputs[0], outputs[1]


def _at_once(
    head: Head,
    parameters: Parameters,
    hidden: Array,
    targets: Array,
    base: Base | None,
    rows: Sequence[slice],
    smoothing: float,
    at_once: bool,
) -> Any:
    """For a head that is not trained: the gradient of `hidden` is made with the losses."""

    @mx.custom_function
    def losses(hidden: Array) -> tuple[Array, ...]:
        done: list[tuple[Array, ...]] = []
        if at_once:  # what is computed while a gradient is asked for is kept for it, but not of a constant
            hidden = mx.array(np.array(hidden))
        for s in rows:
            part = hidden[s]
            if done:  # all of one chunk before the next, or the logits of all would stand at once
                part = mx.depends([part], list(done[-1]))[0]
            there = None if base is None else base(s)
            done.append(_chunk(lambda h: head(h, parameters), part, targets[s], there, smoothing))
            if at_once:
                mx.eval(done[-1])
        return _rows(done)

    @losses.vjp
    def backward(primal: Any, cotangents: Any, outputs: Any) -> Array:
        gradient: Array = cotangents[0][:, None] * outputs[2]
        return gradient if base is None else gradient + cotangents[1][:, None] * outputs[3]

    return losses(hidden)


def _chunk(
    head: Callable[[Array], Array], hidden: Array, targets: Array, base: Array | None, smoothing: float
) -> tuple[Array, ...]:
    """nll [n], KL [n], d nll / d hidden [n, C] (and d KL / d hidden)."""
    logits = head(hidden).astype(mx.float32)
    p = mx.softmax(logits, axis=-1, precise=True)
    top = mx.max(logits, axis=-1)
    lse = top - mx.log(mx.max(p, axis=-1))  # from the softmax, whose largest entry is at least 1 / V
    at = targets[:, None]
    lost = lse - mx.take_along_axis(logits, at, axis=-1)[:, 0]
    # d nll / d logits = p - onehot
    hot = mx.put_along_axis(p, at, mx.take_along_axis(p, at, axis=-1) - (1 - smoothing), axis=-1)
    if smoothing:
        hot = hot - smoothing / logits.shape[-1]
        lost = (1 - smoothing) * lost + smoothing * (lse - mx.mean(logits, axis=-1))
    gradient = _back(head, hidden, hot)
    if base is None:
        return lost, mx.zeros_like(lost), gradient
    ratio = (logits - lse[:, None]) - _logp(base)
    kl = mx.sum(p * ratio, axis=-1)  # which its gradient needs too
    return lost, kl, gradient, _back(head, hidden, p * (ratio - kl[:, None]))


def _back(head: Callable[[Array], Array], hidden: Array, cotangent: Array) -> Array:
    """The gradient of `hidden` for one of the logits; where the head is linear its output is not computed again."""
    return mx.vjp(lambda h: [head(h).astype(mx.float32)], [hidden], [cotangent])[1][0]


def _again(
    head: Head,
    parameters: Parameters,
    hidden: Array,
    targets: Array,
    base: Base | None,
    rows: Sequence[slice],
    smoothing: float,
) -> Any:
    """For a head that is trained: the way back goes through each chunk anew."""
    names = sorted(parameters)

    def plain(s: slice, hidden: Array, *values: Array) -> list[Array]:
        logp = _logp(head(hidden, dict(zip(names, values, strict=True))))
        lost = -arrays.chosen(logp, targets[s], mx)
        if smoothing:
            lost = (1 - smoothing) * lost - smoothing * mx.mean(logp, axis=-1)
        kl = mx.zeros_like(lost) if base is None else arrays.kl(logp, _logp(base(s)), mx, fast=True)
        return [lost, kl]

    @mx.custom_function
    def losses(hidden: Array, *values: Array) -> tuple[Array, ...]:
        done: list[tuple[Array, ...]] = []
        for s in rows:
            part = mx.depends([hidden[s]], list(done[-1]))[0] if done else hidden[s]
            done.append(tuple(plain(s, part, *values)))
        return _rows(done)

    @losses.vjp
    def backward(primals: Any, cotangents: Any, _: Any) -> tuple[Array, ...]:
        hidden, *values = primals
        parts: list[Array] = []
        totals = [mx.zeros_like(v) for v in values]
        for s in rows:
            part = mx.depends([hidden[s]], [*totals, *parts[-1:]])[0]
            back = [c[s] for c in cotangents]
            _, (dh, *dw) = mx.vjp(lambda h, *w, s=s: plain(s, h, *w), [part, *values], back)
            parts.append(dh)
            totals = [total + d for total, d in zip(totals, dw, strict=True)]
        return mx.concatenate(parts), *totals

    return losses(hidden, *(parameters[name] for name in names))


def _logp(logits: Array) -> Array:
    logp: Array = arrays.logprobs(logits.astype(mx.float32), mx)
    return logp


def _rows(parts: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return parts[0] if len(parts) == 1 else tuple(mx.concatenate(list(column)) for column in zip(*parts, strict=True))


def of_logits(logits: Base, targets: Array, chunk: int = 0) -> Array:
    """-log p(target) [N] by logits that are made where they are asked for; a constant."""
    return greedy(logits, targets, chunk)[0]


def greedy(logits: Base, targets: Array, chunk: int = 0) -> tuple[Array, Array]:
    """-log p(target) [N], and whether another token is likelier, 0 or 1 [N]: constants; logits are made as needed."""
    n = targets.shape[0]
    rows = chunk or rows_at_once(int(logits(slice(0, 1)).shape[-1]))
    done: list[tuple[Array, ...]] = []
    for i in range(0, n, rows):
        s = slice(i, i + rows)
        logp = _logp(logits(s))
        done.append((-arrays.chosen(logp, targets[s], mx), (mx.argmax(logp, -1) != targets[s]).astype(mx.float32)))
        mx.eval(done[-1])
    lost, wrong = _rows(done)
    return mx.stop_gradient(lost), mx.stop_gradient(wrong)
