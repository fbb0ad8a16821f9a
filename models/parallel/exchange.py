"""Messages between the ranks that share a model, put into the model that one of them built of its share.

A sum after each half block or a message from rank to rank, and the logits at the end: `connect`. The rest of the model
does not know that it is a part. Opens no connection.
"""

from collections.abc import Sequence
from typing import Any, cast

from likely.metal import mx
from likely.models.modules.linear import AnyLinear, Embedding, Norm, Product, linear
from likely.models.modules.weights import cut
from likely.models.parallel.shard import ACROSS, Sharding
from likely.models.transformer import Transformer

Array = mx.array


def connect(model: Transformer, share: Sharding, group: Any) -> Transformer:
    """The model with what its ranks exchange in it; `group` is of `mx.distributed`."""
    exchange = Exchange(group)
    if share.way == "tensor":
        across = [part for part in model.parts() if part.role in ACROSS or part.kind == "experts"]
        for part in across:
            if share.rank and part.kind == "matrix":
                part.holder.bias = None  # it counts once
        for owner, slot in {(id(part.owner), part.slot): (part.owner, part.slot) for part in across}.values():
            setattr(owner, slot, RankSum(getattr(owner, slot), exchange))
    else:
        if share.rank:
            model.embed = ReceivedStates(share.config.width, model.embed.dtype, share.rank - 1, exchange)
        following = share.rank + 1 if share.rank + 1 < share.ranks else None
        model.norm = cast(Norm, ForwardedNorm(model.norm, following, exchange))
    out = _rows(model.out, *share.vocabulary(share.rank)) if share.config.tied else model.out
    sizes = [end - start for start, end in map(share.vocabulary, range(share.ranks))]
    model.out = cast(AnyLinear, GatheredHead(out, sizes, exchange))
    return model


class Exchange:
    """The ranks' collectives, one after another: each waits for the one before it, on every rank in the same order.

    Nothing else orders them: two sums that do not need each other, or two passes that were queued together, would be
    evaluated as each rank's graph has it, and the ranks would add up what does not belong together.
    """

    __slots__ = ("_last", "group")

    def __init__(self, group: Any) -> None:
        self.group = group  # of `mx.distributed`
        self._last: Array | None = None

    def sum(self, x: Array) -> Array:
        """The sum of what each rank has."""
        return self._then(mx.distributed.all_sum(self._after(x), group=self.group))

    def gather(self, x: Array) -> Array:
        """The arrays of all ranks, along a new first axis."""
        return self._then(mx.distributed.all_gather(self._after(x[None]), group=self.group))

    def send(self, x: Array, rank: int) -> None:
        """x to a neighbour, before whatever comes next."""
        self._then(mx.distributed.send(self._after(x), rank, group=self.group))

    def receive(self, shape: Sequence[int], dtype: mx.Dtype, rank: int) -> Array:
        """The array that a neighbour sends."""
        if self._last is not None:
            mx.eval(self._last)  # receiving has no input that could wait
        return self._then(mx.distributed.recv(shape, dtype, rank, group=self.group))

    def _after(self, x: Array) -> Array:
        return x if self._last is None else cast(Array, mx.depends(x, self._last))

    def _then(self, y: Array) -> Array:
        self._last = y
        return y


class RankSum:
    """The sum over the ranks of what each makes of its part."""

    __slots__ = ("base", "exchange")

    def __init__(self, base: Product, exchange: Exchange) -> None:
        self.base, self.exchange = base, exchange

    def __call__(self, x: Array) -> Array:
        return self.exchange.sum(self.base(x))

    def onto(self, residual: Array, x: Array) -> Array:
        """residual + self(x)."""
        return residual + self(x)


class GatheredHead:
    """Logits of the whole vocabulary, of which each rank computes those of its rows of the head."""

    __slots__ = ("base", "exchange", "sizes")

    def __init__(self, base: Product, sizes: list[int], exchange: Exchange) -> None:
        self.base, self.sizes, self.exchange = base, sizes, exchange

    def __call__(self, x: Array) -> Array:
        y = self.base(x)
        most = max(self.sizes)
        if y.shape[-1] < most:
            y = mx.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, most - y.shape[-1])])
        parts = self.exchange.gather(y)  # [ranks, ..., rows]
        if min(self.sizes) == most:
            return mx.moveaxis(parts, 0, -2).reshape(*x.shape[:-1], -1)
        return mx.concatenate([part[..., :size] for part, size in zip(parts, self.sizes, strict=True)], axis=-1)


class ReceivedStates(Embedding):
    """The hidden states that the rank before sends, in place of an embedding."""

    __slots__ = ("exchange", "source", "width")

    def __init__(self, width: int, dtype: mx.Dtype, source: int, exchange: Exchange) -> None:
        super().__init__(mx.zeros((0, width)), dtype)
        self.width, self.source, self.exchange = width, source, exchange

    def __call__(self, tokens: Array) -> Array:
        return self.exchange.receive((*tokens.shape, self.width), self.dtype, self.source)


class ForwardedNorm:
    """The final norm, after the hidden states went through the ranks that follow and came back to all."""

    __slots__ = ("base", "exchange", "following")

    def __init__(self, base: Norm, following: int | None, exchange: Exchange) -> None:
        self.base, self.following, self.exchange = base, following, exchange

    def __call__(self, x: Array) -> Array:
        if self.following is not None:
            self.exchange.send(x, self.following)
            x = mx.zeros(x.shape, x.dtype)
        return self.base(self.exchange.sum(x))


def _rows(head: AnyLinear, start: int, end: int) -> AnyLinear:
    """Rows of a head that is an embedding's whole table: a view."""
    return linear(cut(head.matrix, start, end))
