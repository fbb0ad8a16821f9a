"""Continuous batching: runs that join one batch, and leave it, between two passes of the model (Yu et al. 2022, Orca).

Each text keeps its own sampler, control and budget; what they have in common is the pass. A text draws with the keys
that it would have alone, so that it is the same text up to rounding. Who reads the prompts, and when a text is over,
others know: `BatchedSample` is to `Session.generate` what a strategy is.
"""

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from likely.engine.base.concurrency.pace import TURN_S, Pace
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Waiting
from likely.engine.decode.loop.strategy import Steps
from likely.engine.sampling.trace.step import TokenStep
from likely.metal import memory, mx
from likely.models.native_path.native import drawing, last_logits

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches, ForwardFn
    from likely.engine.decode.loop.sampler import Sampler
    from likely.engine.sampling.transforms import Array
    from likely.models.caches.kv_cache import Cache
    from likely.models.model import LanguageModel


@dataclass(eq=False, slots=True)
class BatchSlot:
    """One text of a batch."""

    number: int  # of its branch in its own run
    ids: list[int]  # that stand in the cache
    sampler: "Sampler"
    control: RunControl
    forced: deque[int]
    token: int = 0  # drawn, not yet fed
    logits: "Array | None" = None  # [V] of the next token, not yet drawn
    drawn: deque[TokenStep] = field(default_factory=deque)  # not yet taken
    hidden: list[mx.array] = field(default_factory=list)  # [1, C] of each token fed
    error: BaseException | None = None

    @property
    def waits(self) -> bool:
        """Whether there is nothing to give."""
        return not self.drawn and self.error is None

    def draw(self) -> None:
        """The next token, from its logits. What goes wrong with this text is its own, and raised when it is asked:
        others are in the same pass."""
        logits, self.logits = self.logits, None
        try:
            self.sampler = self.sampler.follow(self.control, [self.ids])
            drawn = self.sampler.choose(logits, len(self.ids), self.forced.popleft() if self.forced else None)
            step = drawn.step(self.ids)
            self.sampler = self.sampler.advance([drawn])
        except BaseException as error:  # a library's panic, too
            self.error = error
            return
        self.token = step.token
        self.drawn.append(step)


class ContinuousBatch:
    """The texts that go on side by side in one cache, each a row of it."""

    def __init__(self, model: "LanguageModel", forward: "ForwardFn | None" = None) -> None:
        """`forward` feeds tokens in place of the model itself: a compiled step, say."""
        self.model = drawing(model)
        self.slots: list[BatchSlot] = []
        self.pace = Pace()  # in texts
        self._forward = forward or model.hidden
        self._cache: Cache | None = None

    def join(self, branches: "Branches", sampler: "Sampler", control: RunControl) -> list[BatchSlot]:
        """A slot for each branch, with its first token's logits. CacheError where such caches cannot stand together."""
        cache = branches.cache.fork()
        if self._cache is None:
            self._cache = cache
        else:
            self._cache.join(cache, (len(self.slots), len(branches)))
        forced = list(control.forced)
        control.forced.clear()
        new = [
            BatchSlot(
                number, list(ids), replace(sampler.select([row]), seed=sampler.seed + number), control, deque(forced)
            )
            for row, (number, ids) in enumerate(zip(branches.numbers, branches.ids, strict=True))
        ]
        self.slots += new
        self._tell(new, branches.raw_logits())
        return new

    def step(self) -> None:
        """Go on by a piece: draw for those who were not asked, as long as a turn lasts, or feed what was drawn, which
        gives every text the logits of its next token; a pass that fails is the end of all."""
        cache = self._cache
        assert cache is not None
        began = time.perf_counter()
        for slot in self.slots:
            if slot.logits is not None:
                if time.perf_counter() - began > TURN_S:
                    return
                slot.draw()
        self.pace.begin()
        try:
            hidden = self._forward(mx.array([[slot.token] for slot in self.slots]), cache)
            logits = last_logits(self.model, hidden)
            if isinstance(logits, mx.array):
                mx.eval(logits)
        except BaseException as error:
            for slot in self.slots:
                slot.error = error
            self.slots, self._cache = [], None  # half a pass stands in it: nobody joins that
            return
        for row, slot in enumerate(self.slots):
            slot.ids.append(slot.token)
            slot.hidden.append(hidden[row])
        self._tell(self.slots, logits)
        memory.trim(lambda: cache.nbytes)
        self.pace.took(len(self.slots))

    def held(self, slot: BatchSlot) -> "Cache":
        """The cache of one text alone."""
        assert self._cache is not None
        own = self._cache.fork()
        own.select([self.slots.index(slot)])
        rows = [array for layer in own.layers for array in (layer.keys, layer.values) if array is not None]
        mx.async_eval(rows)  # else the rows of all stay for as long as these are not read
        return own

    def leave(self, slot: BatchSlot) -> None:
        """End a text; one that ended with all is none any more."""
        if slot not in self.slots:
            return
        assert self._cache is not None
        row = self.slots.index(slot)
        del self.slots[row]
        if self.slots:
            self._cache.select([i for i in range(len(self.slots) + 1) if i != row])
        else:
            self._cache = None

    def _tell(self, slots: list[BatchSlot], logits: "Array") -> None:
        rows = logits
        if slots[0].sampler.xp is np and isinstance(logits, mx.array):
            rows = np.asarray(logits.astype(mx.float32))
        for row, slot in enumerate(slots):
            slot.logits = rows[row]


@dataclass(frozen=True, slots=True)
class BatchedSample:
    """The steps of a run that samples in a batch with others.

    What the model said in a pass is drawn from by each run when it is asked. Where there is nothing to draw from, it
    yields `Waiting` once, for the others to take what is theirs and to leave; asked again, it has the batch do a pass.
    It yields that, too, where its own texts take longer than a turn.
    """

    batch: ContinuousBatch

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        """At most `limit` tokens of each branch; the branches stand behind what one of them read."""
        alone = branches if len(branches) == 1 else None
        slots = self.batch.join(branches, sampler, control)
        remaining = dict.fromkeys(slots, limit)
        began = time.perf_counter()
        try:
            while remaining:
                for slot in list(remaining):
                    while slot.waits:
                        if slot.logits is not None and time.perf_counter() - began < TURN_S:
                            slot.draw()
                            continue
                        yield Waiting()
                        began = time.perf_counter()
                        if slot.waits and slot.logits is None:
                            self.batch.step()
                    if slot.error is not None:
                        raise slot.error
                    over = yield Emitted(slot.number, slot.drawn.popleft())
                    remaining[slot] -= 1
                    if over or not remaining[slot]:
                        del remaining[slot]
                        self._leave(slot, alone)
        finally:
            for slot in remaining:
                self._leave(slot, alone)

    def _leave(self, slot: BatchSlot, alone: "Branches | None") -> None:
        """End a text; the branch that was alone stands behind it then, for who goes on from there."""
        if alone is not None and slot.hidden and slot in self.batch.slots:
            tokens = slot.ids[alone.length :]
            alone.moved(self.batch.held(slot), tokens, mx.stack(slot.hidden, axis=1))
        self.batch.leave(slot)
