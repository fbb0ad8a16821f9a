"""What is minimised: negative log-likelihood on chosen positions, a pull to the base, preferences.

Logits are computed where a token is trained and in chunks, never [tokens, V] at once. The gradient of the loss of one
position with respect to its hidden state does not depend on the others, so it is computed in the same pass as the loss
itself and only scaled afterwards: the head is multiplied twice, not three times, and one exponential is taken a logit.
Nats throughout.
"""

from collections.abc import Callable
from typing import Any

from metal import mx

Array = mx.array
CELLS = 1 << 22  # logits at once


def rows_at_once(vocab: int) -> int:
    """Positions in a chunk."""
    return max(16, CELLS // vocab)


def nll(head: Callable[[Array], Array], hidden: Array, targets: Array, chunk: int = 0) -> Array:
    """-log p(target) [N] for hidden states [N, C]; differentiable in `hidden`, with a constant head."""
    return token_losses(head, hidden, targets, None, chunk)[0]


def token_losses(
    head: Callable[[Array], Array], hidden: Array, targets: Array, base: Array | None, chunk: int = 0
) -> tuple[Array, Array]:
    """-log p(target) [N] and, with the base's hidden states [N, C], KL(p || p_base) [N] over the whole vocabulary.

    Both are differentiable in `hidden`; the head is taken as constant.
    """

    @mx.custom_function
    def losses(hidden: Array) -> tuple[Array, ...]:
        rows = chunk or rows_at_once(_vocab(head, hidden))
        parts: list[tuple[Array, ...]] = []
        for i in range(0, hidden.shape[0], rows):
            part = hidden[i : i + rows]
            if parts:  # one chunk after another, or the logits of all would stand at once
                part = mx.depends([part], [parts[-1][-1]])[0]
            parts.append(_chunk(head, part, targets[i : i + rows], None if base is None else base[i : i + rows]))
        if len(parts) == 1:
            return parts[0]
        return tuple(mx.concatenate(list(column)) for column in zip(*parts, strict=True))

    @losses.vjp
    def backward(primal: Any, cotangents: Any, outputs: Any) -> Array:
        gradient: Array = cotangents[0][:, None] * outputs[2]
        return gradient if base is None else gradient + cotangents[1][:, None] * outputs[3]

    found: Any = losses(hidden)
    return found[0], found[1]


def _vocab(head: Callable[[Array], Array], hidden: Array) -> int:
    return int(head(hidden[:1]).shape[-1])  # nothing is computed: only the shape is asked for


def _chunk(head: Callable[[Array], Array], hidden: Array, targets: Array, base: Array | None) -> tuple[Array, ...]:
    """nll [n], KL [n], d nll / d hidden [n, C] (and d KL / d hidden)."""
    logits = head(hidden).astype(mx.float32)
    p = mx.softmax(logits, axis=-1, precise=True)
    top = mx.max(logits, axis=-1)
    lse = top - mx.log(mx.max(p, axis=-1))  # from the softmax, whose largest entry is at least 1 / V
    at = targets[:, None]
    lost = lse - mx.take_along_axis(logits, at, axis=-1)[:, 0]
    # d nll / d logits = p - onehot
    hot = mx.put_along_axis(p, at, mx.take_along_axis(p, at, axis=-1) - 1, axis=-1)
    gradient = _back(head, hidden, hot)
    if base is None:
        return lost, mx.zeros_like(lost), gradient
    logits0 = head(base).astype(mx.float32)
    ratio = (logits - lse[:, None]) - (logits0 - mx.logsumexp(logits0, axis=-1, keepdims=True))
    kl = mx.sum(p * ratio, axis=-1)
    return lost, kl, gradient, _back(head, hidden, p * (ratio - kl[:, None]))


def _back(head: Callable[[Array], Array], hidden: Array, cotangent: Array) -> Array:
    """The gradient of `hidden` for one of the logits; where the head is linear its output is not computed again."""
    return mx.vjp(lambda h: [head(h).astype(mx.float32)], [hidden], [cotangent])[1][0]


def nll_with_head(
    head: Callable[[Array, Array], Array], hidden: Array, weight: Array, targets: Array, chunk: int = 0
) -> Array:
    """The same as `nll` where the head's weight [V, C] is trained too; logits are computed again to go back."""

    def plain(hidden: Array, weight: Array, targets: Array) -> Array:
        logits = head(hidden, weight).astype(mx.float32)
        return mx.logsumexp(logits, axis=-1) - mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]

    rows = chunk or rows_at_once(weight.shape[0])
    pieces = [slice(i, i + rows) for i in range(0, hidden.shape[0], rows)]

    @mx.custom_function
    def losses(hidden: Array, weight: Array) -> Array:
        parts: list[Array] = []
        for s in pieces:
            row = mx.depends([hidden[s]], parts[-1:])[0] if parts else hidden[s]
            parts.append(plain(row, weight, targets[s]))
        return mx.concatenate(parts)

    @losses.vjp
    def backward(primals: Any, cotangent: Any, _: Any) -> tuple[Array, Array]:
        hidden, weight = primals
        parts, total = [], mx.zeros_like(weight)
        for s in pieces:
            part = targets[s]
            row = mx.depends([hidden[s]], [total])[0]
            _, (dh, dw) = mx.vjp(lambda h, w, part=part: [plain(h, w, part)], [row, weight], [cotangent[s]])
            parts.append(dh)
            total = total + dw
        return mx.concatenate(parts), total

    found: Any = losses(hidden, weight)
    lost: Array = found
    return lost


def dpo(policy: Array, reference: Array, beta: float) -> Array:
    """-log sigmoid(beta margin) [pairs] of summed log-probabilities [2, pairs], chosen first (2305.18290, eq. 7)."""
    margin = (policy[0] - policy[1]) - (reference[0] - reference[1])
    return _softplus(-beta * margin)


def odds_ratio(mean: Array) -> Array:
    """-log sigmoid(log odds ratio) [pairs] of mean log-probabilities a token [2, pairs] (2403.07691, eq. 6-7)."""
    mean = mx.minimum(mean, -1e-6)  # p = 1 has no odds
    odds = mean - mx.log(-mx.expm1(mean))
    return _softplus(-(odds[0] - odds[1]))


def _softplus(x: Array) -> Array:
    return mx.logaddexp(x, mx.zeros_like(x))
