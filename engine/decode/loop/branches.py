"""`Branches`: B >= 1 places in the tree that p(x_i | x_<i) spans, as a strategy sees them.

They can say what comes next (`logits`), go there (`feed`), come back (`rewind`), and be kept, copied or dropped
(`select`); all stand at the same depth. What they begin with alike is held once: B branches of a prompt cost B times
what they drew, not B times the prompt. The hidden state of every position is kept, so that a distribution can be had
again by one product with the head, long after its token was drawn. Knows nothing of transforms, text or stopping.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.arrays import Array
from likely.engine.base.concurrency.pace import Pace
from likely.engine.base.errors import ContextOverflow
from likely.engine.decode.loop.events import Forked, Pruned, Waiting
from likely.metal import memory, mx
from likely.metal.device import device
from likely.models.native_path.native import last_logits

if TYPE_CHECKING:
    from likely.models.caches.kv_cache import Cache
    from likely.models.model import LanguageModel

ForwardFn = Callable[[mx.array, "Cache"], mx.array]  # `LanguageModel.hidden`: tokens [B, T] -> [B, T, C]

CHUNK, WIDE = 512, 2048  # tokens read at once: bounds the memory of a prefill, and how long a cancel waits
ROOMY = 16 << 30  # bytes of a Mac's memory from which that is the wider
MANY = 16  # branches, from which on others have a turn between the model's pass and what is made of it
SCORED_AT_ONCE = 64  # positions whose logits [V] are held while they are scored


def chunk() -> int:
    """How many tokens are read at once: a GPU's products are faster the more rows they have."""
    return WIDE if device().memory >= ROOMY else CHUNK


def ahead() -> bool:
    """Whether a chunk is queued before the one before it is waited for: on a GPU, which the host would leave idle."""
    return mx.default_device() != mx.cpu


class Branches:
    """A model, its cache, and for each branch the ids that the cache stands for, and a number that stays with it.

    `ids` may be one token behind what was fed: after `feed` with tokens that are still being computed, they are named
    by `settle`. `step` feeds tokens, in place of the model itself: a compiled one, say. `pace` says how many are read
    at once, where that changes nothing, and that others wait for turns. `trunk` is the last place at which this was
    one branch, if it has become several: it may be gone on with when they are of no more use.
    """

    def __init__(
        self,
        model: "LanguageModel",
        cache: "Cache",
        ids: Sequence[int] = (),
        *,
        step: ForwardFn | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.model = model
        self.pace = pace
        self.abreast = None if pace is None else Pace()  # in branches that go a token deeper at once
        self.step = step or model.hidden
        self.cache = cache
        self.ids: list[list[int]] = [list(ids)]
        self.numbers = [0]
        self.trunk: Branches | None = None
        self._named = 1  # branches that had a number
        self._hidden: list[
            mx.array
        ] = []  # [B or 1, T_i, C]; together a row for each of the last, mostly all, positions
        self._logits: Array | None = None
        self._rows = 0
        self._moves = 0  # readings, steps and returns since it was empty

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def length(self) -> int:
        """Positions read, tokens in flight included."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of what is held of them: keys, values and hidden states."""
        return self.cache.nbytes + sum(rows.nbytes for rows in self._hidden)

    @property
    def straight(self) -> bool:
        """Whether what it holds was read in one go: what is packed, or how keys are turned, can depend on that."""
        return self._moves <= 1

    @property
    def free(self) -> bool:
        """Whether what a position leaves in the cache does not depend on what was read together with it."""
        exact = all(layer.EXACT for layer in getattr(self.cache, "layers", ()))
        return exact and not any(rotation.rope.kind == "dynamic" for rotation in getattr(self.model, "rotations", ()))

    # -- going on ----------------------------------------------------------------------------------------------------

    def read(self, ids: Sequence[int]) -> Iterator[int]:
        """Feed known tokens to all in chunks, saying after each how many have been read; stopping between two is safe.

        On a GPU the next chunk is in flight by then, and stands in `ids` and the cache.

        Raises ContextOverflow before anything is read if the model has no positions for them.
        """
        context = self.model.config.context
        if self.length + len(ids) > context:
            raise ContextOverflow(
                f"the text has {self.length + len(ids)} tokens and this model reads at most {context}: shorten it"
            )
        self._moves += 1
        again = self._unread(self.length + len(ids))
        for count in self._take([[*text, *ids] for text in again]):
            yield max(0, count - len(again[0]))

    def feed(self, tokens: Sequence[Any]) -> None:
        """Go to one child each: `tokens` [B], ids or scalars in flight; or down paths of ids [B, T]. Nothing is waited
        for."""
        fed = _fed(tokens)
        if self.model.crosses(self.cache, self.length + fed.shape[1]):
            for _ in self._take(self._unread(self.length + fed.shape[1])):
                pass
        self._moves += 1
        self._append(self.step(fed, self.cache))
        memory.trim(lambda: self.cache.nbytes)

    def descend(self, tokens: Sequence[Any]) -> Iterator[Waiting]:
        """`feed` a token to each. Where they are many, others have a turn behind it; where they have rows of their own,
        and others wait, as many are fed at once as take a turn. Closed between two groups, it leaves all as they were.
        """
        count, pace = len(tokens), self.abreast
        if count < MANY or pace is None or self.cache.part(0, count) is None:
            self.feed(tokens)
        else:
            fed, hidden, end = _fed(tokens), list[mx.array](), 0
            try:
                while end < count:
                    if end:
                        yield Waiting()
                    pace.begin()
                    start, size = end, min(pace.size, count - end)
                    part = self.cache.part(start, start + size)
                    assert part is not None
                    hidden.append(self.step(fed[start : start + size], part))
                    end += size
                    pace.took(size)
            except BaseException:
                self.cache.rewind([int(row < end) for row in range(count)])
                raise
            self._moves += 1
            self._append(mx.concatenate(hidden))
            memory.trim(lambda: self.cache.nbytes)
        if count >= MANY:
            yield Waiting()

    def settle(self, tokens: Sequence[int]) -> None:
        """Name the token that each branch was fed."""
        for ids, token in zip(self.ids, tokens, strict=True):
            ids.append(token)

    def resume(self, ids: Sequence[int], hidden: mx.array) -> None:
        """Stand where the cache already is: after `ids`, with hidden states [T, C]. For one branch without a past."""
        assert self.ids == [[]] and self.cache.length == len(ids)
        self._append(hidden[None])
        self.ids = [list(ids)]

    def moved(self, cache: "Cache", tokens: Sequence[int], hidden: mx.array) -> None:
        """Stand behind `tokens` that were fed elsewhere, to one branch, from here on: what is cached of all since, and
        their hidden states [1, T, C]."""
        self.cache = cache
        self._append(hidden)
        self._moves += 1
        self.ids[0] += tokens

    # -- what the model says -----------------------------------------------------------------------------------------

    def logits(self) -> mx.array:
        """The raw logits [B, V] of each branch's next token, not yet evaluated."""
        raw = self.raw_logits()
        return mx.array(raw) if isinstance(raw, np.ndarray) else raw

    def raw_logits(self) -> Array:
        """`logits` as the model gives them: what native code computed is numpy's, and no copy."""
        if self._logits is None:
            self._logits = self._shared(last_logits(self.model, self._hidden[-1]))
        return self._logits

    def own_logits(self) -> mx.array | None:
        """The model's own logits [B, V], where `logits` are a combination with others; None where they are its own."""
        return None

    def own_logits_at(self, start: int, end: int) -> mx.array | None:
        """`own_logits` after each of positions start..end-1 [B, end - start, V]."""
        return None

    def queue(self) -> None:
        """Let the device begin with the next logits."""
        if not isinstance(logits := self.raw_logits(), np.ndarray):
            mx.async_eval(logits)

    def last_logits(self, n: int) -> mx.array:
        """The raw logits [B, n, V] after each of the last n positions, which one `feed` took; not yet evaluated."""
        rows: mx.array = self._shared(self.model.head(self._hidden[-1][:, -n:]).astype(mx.float32))
        return rows

    def logits_at(self, start: int, end: int) -> mx.array:
        """The raw logits [B, end - start, V] after each of positions start..end-1, from the stored hidden states."""
        rows: mx.array = self._shared(self.model.head(self.hidden(start, end)).astype(mx.float32))
        return rows

    def hidden(self, start: int, end: int) -> mx.array:
        """The stored hidden states [B, end - start, C], or [1, ...] where all have them in common."""
        if len(self._hidden) > 1:
            self._join()
            mx.eval(self._hidden)
        parts, at = [], self._rows - sum(rows.shape[1] for rows in self._hidden)
        for rows in self._hidden:
            low, high, at = max(start - at, 0), end - at, at + rows.shape[1]
            if low < min(high, rows.shape[1]):
                parts.append(rows[:, low:high])
        return parts[0] if len(parts) == 1 else mx.concatenate([self._shared(rows) for rows in parts], axis=1)

    # -- other places ------------------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> None:
        """Keep these branches, in this order; one that is named again goes on as another, with a new number."""
        rows = list(rows)
        if rows == list(range(len(self))):
            return
        if len(self) == 1:  # what is shared from here on is never written again: a second holder costs nothing
            self.trunk = self.fork()
            self.cache.freeze()
        self.cache.select(rows)
        numbers: list[int] = []
        for row in rows:
            fresh = self.numbers[row] in numbers
            numbers.append(self._named if fresh else self.numbers[row])
            self._named += fresh
        index = mx.array(rows, dtype=mx.int32)
        self._join()
        self._hidden = [hidden if hidden.shape[0] == 1 else hidden[index] for hidden in self._hidden]
        mx.async_eval(self._hidden)
        if self._logits is not None:
            self._logits = self._logits[rows if isinstance(self._logits, np.ndarray) else index]
        self.ids, self.numbers = [list(self.ids[row]) for row in rows], numbers

    def part(self, rows: Sequence[int]) -> Iterator[Forked | Pruned]:
        """`select`, and what it means for those who watch: who came from whom, and who is given up."""
        before = self.numbers
        self.select(rows)
        yield from (
            Forked(before[row], child) for row, child in zip(rows, self.numbers, strict=True) if child != before[row]
        )
        yield from (Pruned(number) for number in before if number not in self.numbers)

    def name(self) -> int:
        """A number of its own for a text that ended here, which nothing is held of."""
        self._named += 1
        return self._named - 1

    def reaches(self, length: int) -> bool:
        """Whether the cache can go back to the first `length` positions: a window that has moved on cannot."""
        return self._rows - length <= self.cache.room

    def rewind(self, length: int) -> None:
        """Go back to the first `length` positions, in every branch."""
        surplus = self._rows - length
        if surplus <= 0:
            return
        self.cache.rewind(surplus)
        self._logits = None
        while surplus:
            rows = self._hidden[-1].shape[1]
            if rows <= surplus:
                self._hidden.pop()
                surplus -= rows
            else:
                self._hidden[-1] = self._hidden[-1][:, : rows - surplus]
                surplus = 0
        self._rows = length
        self._moves = self._moves + 1 if length else 0
        for ids in self.ids:
            del ids[length:]

    def fork(self) -> "Branches":
        """A second one at the same places; the caches part when one of them writes."""
        twin = type(self)(self.model, self.cache.fork(), step=self.step, pace=self.pace)
        twin.ids, twin.numbers, twin._named = [list(ids) for ids in self.ids], list(self.numbers), self._named
        twin._hidden, twin._logits, twin._rows, twin._moves = list(self._hidden), self._logits, self._rows, self._moves
        return twin

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take(self, texts: Sequence[Sequence[int]]) -> Iterator[int]:
        total, queued, end = len(texts[0]), ahead(), 0
        pace = self.pace if self.pace is not None and self.free else None
        before: mx.array | None = None
        while end < total:
            if pace is not None and before is None:
                pace.begin()
            start, size = end, chunk() if pace is None else max(1, min(chunk(), pace.size // len(texts)))
            parts = [list(text[start : start + size]) for text in texts]
            hidden = self.model.hidden(mx.array(parts), self.cache)
            (mx.async_eval if queued else mx.eval)(hidden)
            self._append(hidden)
            for ids, part in zip(self.ids, parts, strict=True):
                ids += part
            if before is not None:
                mx.eval(before)
            memory.trim(lambda: self.cache.nbytes)
            end = start + len(parts[0])
            if pace is not None and (before is not None or not queued):
                pace.took(len(texts) * (len(parts[0]) if before is None else before.shape[1]))
            if not queued:
                yield end
            elif end < total:
                before = hidden
                yield start  # what is in flight is in `ids` and the cache, and has not been read
            else:
                if before is not None:
                    yield start
                mx.eval(hidden)
                yield end

    def _unread(self, length: int) -> list[list[int]]:
        """Make the cache fit for `length` positions; the ids, now forgotten, that it has to read again for that.

        Rotary frequencies can depend on how long a text is (longrope); keys turned with others are of no use then.
        """
        again: list[list[int]] = [[] for _ in self.ids]
        if self.model.crosses(self.cache, length):
            again = [list(ids) for ids in self.ids]
            self.rewind(0)
        self.cache.expected = length
        return again

    def _append(self, hidden: mx.array) -> None:
        self._hidden.append(hidden)
        self._rows += hidden.shape[1]
        self._logits = None

    def _join(self) -> None:
        """Hidden states in one array as far as their branches allow it."""
        groups = [list(rows) for _, rows in groupby(self._hidden, key=lambda rows: rows.shape[0])]
        self._hidden = [rows[0] if len(rows) == 1 else mx.concatenate(rows, axis=1) for rows in groups]

    def _shared(self, rows: Array) -> Array:
        """Rows [B, ...] of what all may have in common."""
        if rows.shape[0] == len(self):
            return rows
        return (np if isinstance(rows, np.ndarray) else mx).broadcast_to(rows, (len(self), *rows.shape[1:]))


def _fed(tokens: Sequence[Any]) -> mx.array:
    """Tokens [B, T] of ids or scalars in flight, or of paths of ids."""
    flying = any(isinstance(token, mx.array) for token in tokens)
    if flying:
        return mx.stack([mx.array(token) for token in tokens])[:, None]
    return mx.array(np.array(list(tokens), np.int32).reshape(len(tokens), -1))  # nothing for mlx to evaluate
