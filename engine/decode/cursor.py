"""`Cursor`: one place in the tree that p(x_i | x_<i) spans, as a strategy sees it.

A cursor can say what comes next (`logits`), go there (`feed`) and come back (`rewind`). It keeps the hidden state of
every position that it has read, so that a distribution can be had again by one product with the head, long after its
token was drawn. Knows nothing of transforms, text or stopping.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from engine.errors import ContextOverflow
from metal import mx

if TYPE_CHECKING:
    from models.cache import Cache
    from models.model import LanguageModel

ForwardFn = Callable[[mx.array, "Cache"], mx.array]  # `LanguageModel.hidden`: tokens [B, T] -> [B, T, C]

CHUNK = 512  # tokens read at once: bounds the memory of a prefill, and how long a cancel waits


class Cursor:
    """A model, its cache, and the ids that the cache stands for.

    `ids` may be one token ahead of the host: after `feed` with a token that is still being computed, its place holds
    None until `settle` names it. `step` feeds tokens, in place of the model itself: a compiled one, say.
    """

    def __init__(
        self, model: "LanguageModel", cache: "Cache", ids: Sequence[int] = (), *, step: ForwardFn | None = None
    ) -> None:
        self.model = model
        self.step = step or model.hidden
        self.cache = cache
        self.ids: list[int] = list(ids)
        self._hidden: list[mx.array] = []  # rows [T_i, C]; together one row for each position in the cache
        self._rows = 0
        self._moves = 0  # readings, steps and returns since it was empty

    @property
    def straight(self) -> bool:
        """Whether what it holds was read in one go: what is packed, or how keys are turned, can depend on that."""
        return self._moves <= 1

    @property
    def length(self) -> int:
        """Positions read, a token in flight included."""
        return self._rows

    def read(self, ids: Sequence[int]) -> Iterator[int]:
        """Feed known tokens in chunks, saying after each how many have been read; stopping between two is safe.

        Raises ContextOverflow before anything is read if the model has no positions for them.
        """
        context = self.model.config.context
        if self.length + len(ids) > context:
            raise ContextOverflow(
                f"the text has {self.length + len(ids)} tokens and this model reads at most {context}: shorten it"
            )
        self._moves += 1
        again = self._unread(self.length + len(ids))
        for count in self._take([*again, *ids]):
            yield max(0, count - len(again))

    def _take(self, ids: Sequence[int]) -> Iterator[int]:
        for start in range(0, len(ids), CHUNK):
            chunk = list(ids[start : start + CHUNK])
            hidden = self.model.hidden(mx.array([chunk]), self.cache)[0]
            mx.eval(hidden)
            self._append(hidden)
            self.ids += chunk
            yield start + len(chunk)

    def _unread(self, length: int) -> list[int]:
        """Make the cache fit for `length` positions; the ids, now forgotten, that it has to read again for that.

        Rotary frequencies can depend on how long a text is (longrope); keys turned with others are of no use then.
        """
        again: list[int] = []
        if self.model.crosses(self.cache, length):
            again = list(self.ids)
            self.rewind(0)
        self.cache.expected = length
        return again

    def resume(self, ids: Sequence[int], hidden: mx.array) -> None:
        """Stand where the cache already is: after `ids`, with hidden states [T, C]. For a cursor without a past."""
        assert not self.ids and self.cache.length == len(ids)
        self._append(hidden)
        self.ids = list(ids)

    def feed(self, token: mx.array) -> None:
        """Go to the child `token` [1], which may still be in flight, or down a path [T]; nothing is waited for."""
        if self.model.crosses(self.cache, self.length + token.size):
            for _ in self._take(self._unread(self.length + token.size)):
                pass
        self._moves += 1
        self._append(self.step(token[None], self.cache)[0])

    def settle(self, token: int) -> None:
        """Name the token that `feed` took."""
        self.ids.append(token)

    def logits(self) -> mx.array:
        """The raw logits [V] of the next token, as the model computes them, not yet evaluated."""
        return self.model.head(self._hidden[-1][-1:])[0]

    def last_logits(self, n: int) -> mx.array:
        """The raw logits [n, V] after each of the last n positions, which one `feed` took; not yet evaluated."""
        return self.model.head(self._hidden[-1][-n:]).astype(mx.float32)

    def logits_at(self, start: int, end: int) -> mx.array:
        """The raw logits [end - start, V] after each of the positions start..end-1, from the stored hidden states."""
        return self.model.head(self.hidden(start, end)).astype(mx.float32)

    def hidden(self, start: int, end: int) -> mx.array:
        """The stored hidden states [end - start, C]."""
        if len(self._hidden) > 1:
            self._hidden = [mx.concatenate(self._hidden)]
            mx.eval(self._hidden)
        return self._hidden[0][start:end]

    def reaches(self, length: int) -> bool:
        """Whether the cache can go back to the first `length` positions: a window that has moved on cannot."""
        return self._rows - length <= self.cache.room

    def rewind(self, length: int) -> None:
        """Go back to the first `length` positions."""
        surplus = self._rows - length
        if surplus <= 0:
            return
        self.cache.rewind(surplus)
        while surplus:
            rows = self._hidden[-1].shape[0]
            if rows <= surplus:
                self._hidden.pop()
                surplus -= rows
            else:
                self._hidden[-1] = self._hidden[-1][: rows - surplus]
                surplus = 0
        self._rows = length
        self._moves = self._moves + 1 if length else 0
        del self.ids[length:]

    def fork(self) -> "Cursor":
        """A second cursor at the same place; the caches part when one of them writes."""
        twin = Cursor(self.model, self.cache.fork(), self.ids, step=self.step)
        twin._hidden, twin._rows, twin._moves = list(self._hidden), self._rows, self._moves
        return twin

    def _append(self, hidden: mx.array) -> None:
        self._hidden.append(hidden)
        self._rows += hidden.shape[0]
