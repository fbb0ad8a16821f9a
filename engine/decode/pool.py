"""Pool of branches, each with its cache, found by the tokens that they have read.

Whoever wants to read a text gets the branch at its longest prefix that was read before, and reads the rest. Knows
what keys and values take and may take, and nothing of drawing.
"""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from likely.engine.base.concurrency.pace import Pace
from likely.engine.base.errors import CacheError, OutOfMemory
from likely.engine.decode.loop.branches import Branches, chunk
from likely.engine.decode.prefix_cache import SEGMENT, Prefixes
from likely.metal.device import device
from likely.metal.memory import SPARE, room, wired
from likely.models.caches.layer_cache import RowSize
from likely.models.native_path.compiled import CompiledStep
from likely.models.native_path.native import precision

if TYPE_CHECKING:
    from likely.models.model import LanguageModel

KEPT = 4  # places: a conversation, and the branches a person walks between
FORK_ABOVE = 32  # tokens worth a copy of the cache rather than reading them again
AHEAD = 1000  # tokens whose keys and values are resident before they are drawn


class Pool:
    """The `Branches` that are kept for one model: each is one branch, unless a run holds it and it became several."""

    def __init__(
        self,
        model: "LanguageModel",
        prefixes: Prefixes | None = None,
        *,
        context: int | None = None,
        kv_budget: int | None = None,
        kept: int = KEPT,
        kept_nbytes: int | None = None,
        paced: bool = False,
        **cache: Any,
    ) -> None:
        """`prefixes` keeps the beginnings of prompts; `context` are the positions that a text may have, where the model
        has as many; `kv_budget` are the bytes that the keys and values of a run may take; `kept` branches are
        remembered, if they take no more than `kept_nbytes`; `paced`: others have turns while a text is read, so pieces
        are as long as one takes on this machine; `cache` says how caches are made (`LanguageModel.make_cache`)."""
        self.model = model
        self.context = min(int(model.config.context), context or sys.maxsize)
        self.prefixes = prefixes
        self.step = CompiledStep(model)  # of every token that is drawn
        self.reading = Pace() if paced else None  # in tokens
        self.scoring = Pace() if paced else None
        self.branches: list[Branches] = []  # the most recently used last
        self.leased: list[Branches] = []  # several runs may take turns
        self._kv_budget, self._kept = kv_budget, kept if kv_budget is None else 1
        self._kept_nbytes = kept_nbytes
        self._cache = cache

    @property
    def precision(self) -> str:
        """In which passes compute, in words."""
        return precision(self.model, **self._cache)

    @property
    def nbytes(self) -> int:
        """Bytes of what is remembered: keys, values and hidden states."""
        return sum(branches.nbytes for branches in self.branches)

    @property
    def cache_nbytes(self) -> int:
        """Bytes of the keys and values that are remembered."""
        return sum(branches.cache.nbytes for branches in self.branches)

    @property
    def weights_nbytes(self) -> int:
        """Bytes of the model's arrays."""
        return sum(array.nbytes for array in self.model.arrays.values())

    @contextmanager
    def lease(self, ids: Sequence[int], drawn: int, width: int = 1) -> Iterator[tuple[Branches, Callable[[], None]]]:
        """`acquire`, for a run that draws `drawn` tokens after `ids` in each of `width` branches: others leave the
        branch alone while the block runs. Those that it has become by then are let go of.

        Weights stay resident, and what keys and values take up to `AHEAD` tokens further on; the function that comes
        with the branches, called now and then, moves that on.
        """
        until, fixed, needs = AHEAD, 0, None
        if device().working_set:
            fixed, needs = SPARE + self.weights_nbytes, self._needs(len(ids), width)

        def resident() -> int:
            try:
                return fixed if needs is None else fixed + needs(min(until, drawn))
            except CacheError:  # a model class that is not ours does not say what its cache takes
                return fixed

        def reach() -> None:
            nonlocal until
            tokens = branches.length - len(ids)
            if until < drawn and until - tokens < AHEAD // 2:
                until = tokens + AHEAD
                ask(resident())

        with self._lent(self.acquire(ids)) as branches, wired(resident()) as ask:
            try:
                yield branches, reach
            finally:
                if branches.trunk is not None:
                    self.branches = [_single(one) if one is branches else one for one in self.branches]

    def acquire(self, ids: Sequence[int]) -> Branches:
        """The branch at the longest prefix of `ids` that has been read, the most recently used from now on."""
        best, shared = None, 0
        for branches in map(_single, self.branches):
            common = _common_prefix(branches.ids[0], ids)
            if not branches.reaches(common):
                continue
            if common > shared or (best is None and not branches.length):
                best, shared = branches, common
        if best is None or (self.prefixes is not None and shared < SEGMENT):
            best = self.empty()
            if self.prefixes is not None:
                self.prefixes.restore(ids, best)
        elif best in self.leased or best not in self.branches or best.length - shared > FORK_ABOVE:
            best = best.fork()
            best.rewind(shared)
        else:
            best.rewind(shared)
            self.branches.remove(best)
        self.branches.append(best)
        del self.branches[: -self._kept]
        while self._kept_nbytes is not None and len(self.branches) > 1 and self.nbytes > self._kept_nbytes:
            del self.branches[0]
        return best

    def empty(self) -> Branches:
        """A branch that has read nothing, with a cache of the pool's kind."""
        return Branches(self.model, self.model.make_cache(**self._cache), step=self.step.hidden, pace=self.reading)

    def find(self, ids: Sequence[int]) -> Branches | None:
        """A branch that has read all of `ids`, and perhaps more: to look back without moving it."""
        for branches in map(_single, self.branches):
            read = branches.ids[0]
            if read[: len(ids)] == list(ids):
                return branches
        return None

    @contextmanager
    def held(self, ids: Sequence[int], *, back: bool = False) -> Iterator[Branches]:
        """A branch that has read all of `ids` (with `back`: one that can go back to their end), or `acquire`: others
        leave it alone while the block runs."""
        branches = self.find(ids)
        if branches is None or (back and not branches.reaches(len(ids))):
            branches = self.acquire(ids)
        with self._lent(branches):
            yield branches

    @contextmanager
    def _lent(self, branches: Branches) -> Iterator[Branches]:
        """Others leave the branch alone while the block runs. If a device fails in it nothing is remembered: what was
        in flight stands in `ids` and the cache as if it had been computed."""
        self.leased.append(branches)
        try:
            yield branches
        except RuntimeError:
            self.branches.clear()
            if self.prefixes is not None:
                self.prefixes.forget()
            raise
        finally:
            self.leased.remove(branches)

    def read(self, branches: Branches, ids: Sequence[int]) -> Iterator[int]:
        """Read what is new of a prompt, and keep its beginnings, unless the model changed meanwhile."""
        for done in branches.read(ids[branches.length :]):
            if self.prefixes is not None and branches in self.branches:
                self.prefixes.keep(branches)
            yield done

    def token_budget(self, length: int, branches: int) -> int:
        """How many tokens each branch may draw after a prompt of this length; OutOfMemory where not even one fits."""
        room, budget = self.context - length, self._kv_budget
        if budget is None:
            return room
        needs = self._needs(length, branches)
        if (least := needs(1)) > budget:
            raise OutOfMemory(
                f"keys and values of {length} tokens take {least / 1e6:.3g} MB, the budget is {budget / 1e6:.3g} MB: "
                "raise it, pack them in fewer bits, or shorten the prompt"
            )
        return bisect_right(range(1, room + 1), budget, key=needs)

    def held_tokens(self) -> int | None:
        """How many tokens' keys and values a GPU holds well beside the weights, of at most what a text may have; None
        without one. All or none where the cache does not say what it takes.
        """
        if not device().working_set:
            return None
        spare = room() - self.weights_nbytes
        try:
            return bisect_right(range(1, self.context + 1), spare, key=self._needs(0, 1))
        except CacheError:
            return self.context if spare >= 0 else 0

    def nbytes_of(self, tokens: int) -> int:
        """Bytes that keys and values of a text of so many tokens take. CacheError where the cache does not say."""
        return self._needs(tokens, 1)(0)

    def _needs(self, length: int, branches: int) -> Callable[[int], int]:
        """The most bytes that keys and values take, by how many tokens each branch has drawn after a prompt."""
        config, cache = self.model.config, self.model.make_cache(**self._cache)
        row = RowSize(config.kv_heads * config.head_size, self.model.dtype.size)
        if branches == 1:
            return lambda drawn: cache.needs(length + drawn, row, chunk())
        return lambda drawn: cache.needs(length, row, chunk()) + branches * cache.needs(drawn, row, chunk())

    def forget(self) -> None:
        """Drop every cache, and what was compiled: the model may have other weights now."""
        self.branches.clear()
        self.step.forget()


def _single(branches: Branches) -> Branches:
    """The branch itself, or the trunk that it was before it became several."""
    return branches if branches.trunk is None else branches.trunk


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
