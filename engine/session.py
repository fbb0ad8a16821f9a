"""`Session`: a model, its tokenizer, and the places in the tree that were visited, each with its cache.

Takes ids and a `RunControl`, gives events. Budget, stop strings, end of text and cancelling live here; how a token is
drawn is the strategy's. Everything of mlx stays inside: what comes out is plain Python and numpy. One thread owns a
session.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.decode.batch import BatchCursor, draws
from engine.decode.control import RunControl
from engine.decode.cursor import CHUNK, Cursor
from engine.decode.events import Done, Emitted, Event, Prefilled, Stats
from engine.decode.lockstep import Lockstep
from engine.decode.sample import Sample
from engine.decode.strategy import Strategy
from engine.decode.text_stream import TextStream, with_text
from engine.errors import ContextOverflow, OutOfMemory, ParameterError
from engine.prefix import SEGMENT, Prefixes
from engine.trace.observe import observe
from engine.trace.trace import Recipe, TokenStep
from metal.device import device, wired
from models.cache import RowSize
from models.compiled import CompiledStep

if TYPE_CHECKING:
    from engine.ranks.together import Ranks
    from engine.sources.checkpoint import Checkpoint

Rows = Generator[list[TokenStep], Sequence[int] | None, None]  # a step of each branch; takes those that go on

CURSORS = 4  # places kept: a conversation, and the branches a person walks between
FORK_ABOVE = 32  # tokens worth a copy of the cache rather than reading them again
SPARE = 2 << 30  # bytes that stay resident beside weights and caches: what a forward pass works with
SCORED_AT_ONCE = 64  # rows [V] of logits held while a text is scored


class Session:
    """A loaded model to talk to.

    `generate` draws, `score` measures a given text, `logits_after` gives one exact distribution. All three find the
    longest prefix of their ids among the cursors kept, and read only the rest.
    """

    def __init__(
        self,
        checkpoint: "Checkpoint",
        prefixes: Prefixes | None = None,
        *,
        ranks: "Ranks | None" = None,
        kv_budget: int | None = None,
        **cache: Any,
    ) -> None:
        """`prefixes` keeps the beginnings of prompts; `cache` says how caches are made (`LanguageModel.make_cache`).

        `kv_budget` are the bytes that the keys and values of a run may take: it ends where the next would not fit.
        With `ranks`, the model is one that they share, and what rank 0 is asked to generate holds for all.
        """
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer
        self.info = checkpoint.info
        self.ranks = ranks
        self.step = CompiledStep(self.model)  # of every token that is drawn
        self._prefixes = prefixes
        self._kv_budget = kv_budget
        self._cache = cache
        self._cursors: list[Cursor] = []  # the most recently used last
        self._running: list[Cursor] = []  # those that a run holds; several runs may take turns

    @property
    def context(self) -> int:
        """Positions that the model was made for."""
        return int(self.model.config.context)

    @property
    def cache_nbytes(self) -> int:
        return sum(cursor.cache.nbytes for cursor in self._cursors)

    def generate(
        self,
        ids: Sequence[int],
        control: RunControl,
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        strategy: Strategy | None = None,
    ) -> Iterator[Event]:
        """Continue `ids`. Closing the iterator, or `control.cancel()`, leaves the session at the last whole token.

        Raises ContextOverflow if `ids` leaves no room for a token, ParameterError if there is nothing to continue.
        """
        began = time.perf_counter()
        strategy = strategy or Sample()
        if self.ranks is not None:
            ids, seed, max_tokens = self.ranks.say([list(ids), seed, max_tokens])
            strategy = Lockstep(self.ranks, strategy, control)
            control = RunControl(control.recipe, control.forced)  # cancelled when all are
        with self._held(ids, max_tokens) as (cursor, budget):

            def drawn() -> Rows:
                steps = strategy.steps(cursor, control, seed=seed, limit=budget, vocabulary=self.tokenizer)
                with closing(steps):
                    for step in steps:
                        yield [step]

            yield from self._run(cursor, ids, control, stop, 1, began, drawn)

    def answers(
        self,
        ids: Sequence[int],
        control: RunControl,
        branches: int,
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[Event]:
        """Continue `ids` in several branches at once, read side by side over the one prompt; each has its own `Done`.

        Branch b draws what `generate` draws with seed + b, up to rounding. Raises what `generate` raises.
        """
        if branches < 1:
            raise ParameterError(f"the number of answers must be 1 or more, got {branches}")
        began = time.perf_counter()
        with self._held(ids, max_tokens, branches) as (cursor, budget):

            def drawn() -> Rows:
                batch, seeds = BatchCursor(cursor, branches), [seed + branch for branch in range(branches)]
                return draws(batch, control, seeds=seeds, limit=budget, vocabulary=self.tokenizer)

            yield from self._run(cursor, ids, control, stop, branches, began, drawn)

    def _run(
        self,
        cursor: Cursor,
        ids: Sequence[int],
        control: RunControl,
        stop: Sequence[str],
        branches: int,
        began: float,
        drawn: Callable[[], Rows],
    ) -> Iterator[Event]:
        """Read what is new of `ids`, then give what is drawn of each branch, until it ends."""
        reused = cursor.length
        answers = [TextStream(self.tokenizer, stop) for _ in range(branches)]
        first = None

        def end(branch: int) -> Iterator[Event]:
            answer, now = answers[branch], time.perf_counter()
            for certain in answer.flush():
                yield Emitted(branch, certain)
            stats = Stats(len(ids), reused, answer.tokens, (first or now) - began, now - (first or now))
            reason = answer.reason or ("cancelled" if control.cancelled else "length")
            yield Done(branch, reason, stats, answer.rest)

        alive = list(range(branches))
        for done in self._read(cursor, ids):
            yield Prefilled(reused + done, len(ids))
            if control.cancelled:
                break
        else:
            with closing(drawn()) as rows:
                steps = next(rows, None)
                while steps is not None:
                    now = time.perf_counter()
                    first = first or now
                    for branch, raw in zip(alive, steps, strict=True):
                        for certain in answers[branch].push(raw, now - began):
                            yield Emitted(branch, certain)
                    kept = [row for row, branch in enumerate(alive) if not answers[branch].reason]
                    if control.cancelled or not kept:
                        break
                    for branch in alive:
                        if answers[branch].reason:
                            yield from end(branch)
                    alive = [alive[row] for row in kept]
                    try:
                        steps = rows.send(kept)
                    except StopIteration:
                        break
        for branch in alive:
            yield from end(branch)

    def score(
        self, ids: Sequence[int], *, start: int = 0, progress: Callable[[int, int], None] | None = None
    ) -> list[TokenStep]:
        """What the model says of each token of a given text: one step for each of ids[start:], teacher-forced.

        The first token of a text has no distribution before it: its numbers are None.
        """
        if not ids:
            return []
        if len(ids) > self.context:
            raise ContextOverflow(
                f"the text has {len(ids)} tokens and this model reads at most {self.context}: shorten it"
            )
        cursor = self._covering(ids[:-1]) or self._at(ids[:-1])
        reused = min(cursor.length, len(ids) - 1)
        for done in cursor.read(ids[reused : len(ids) - 1]):
            if progress is not None:
                progress(reused + done, len(ids))
        detokenizer = self.tokenizer.detokenizer(special=True)
        texts = [detokenizer.push(token) for token in ids]
        texts[-1] += detokenizer.flush()
        steps = []
        if start == 0:
            steps.append(with_text(self.tokenizer, _first(ids[0]), texts[0], 0.0))
        for low in range(max(start, 1), len(ids), SCORED_AT_ONCE):
            high = min(low + SCORED_AT_ONCE, len(ids))
            rows = np.asarray(cursor.logits_at(low - 1, high - 1))
            for i in range(low, high):
                step = observe(rows[i - low], ids[i], recipe=Recipe(), position=i, origin="given")
                steps.append(with_text(self.tokenizer, step, texts[i], 0.0))
        return steps

    def logits_after(self, ids: Sequence[int]) -> np.ndarray:
        """The raw logits [V] of the token that follows `ids`; one product with the head where `ids` has been read."""
        self._check(ids)
        cursor = self._covering(ids) or self._at(ids)
        for _ in cursor.read(ids[cursor.length :]):
            pass
        return np.array(cursor.logits_at(len(ids) - 1, len(ids))[0])

    def forget(self) -> None:
        """Drop every cache, and what was compiled: the model may have other weights now."""
        self._cursors.clear()
        self.step.forget()

    def changed(self, adapter: str) -> None:
        """The model computes something else from now on: nothing that was read before is used again.

        `adapter` is a hash of what was put on the model, "" for nothing; it is part of the names under which prefixes
        are kept. An answer that is being drawn goes on with what it has read.
        """
        self.forget()
        if self._prefixes is not None:
            self._prefixes.adapter = adapter

    def _read(self, cursor: Cursor, ids: Sequence[int]) -> Iterator[int]:
        """Read what is new of a prompt, and keep its beginnings, unless the model changed meanwhile."""
        for done in cursor.read(ids[cursor.length :]):
            if self._prefixes is not None and cursor in self._cursors:
                self._prefixes.keep(cursor)
            yield done

    @contextmanager
    def _held(self, ids: Sequence[int], max_tokens: int | None, branches: int = 1) -> Iterator[tuple[Cursor, int]]:
        """A cursor that other runs leave alone while the block runs, and how many tokens it may draw after `ids`."""
        self._check(ids)
        room = self._room(len(ids), branches)
        budget = room if max_tokens is None else min(max_tokens, room)
        with self._wired(len(ids) + branches * budget):
            cursor = self._at(ids)
            self._running.append(cursor)
            try:
                yield cursor, budget
            finally:
                self._running.remove(cursor)

    def _room(self, length: int, branches: int) -> int:
        """How many tokens each branch may draw after a prompt of this length."""
        room, budget = self.context - length, self._kv_budget
        if budget is None:
            return room
        config, cache = self.model.config, self.model.make_cache(**self._cache)
        row = RowSize(config.kv_heads * config.head_size, self.model.dtype.size)

        def needs(drawn: int) -> int:
            if branches == 1:
                return cache.needs(length + drawn, row, CHUNK)
            return cache.needs(length, row, CHUNK) + branches * cache.needs(drawn, row, CHUNK)

        if (least := needs(1)) > budget:
            raise OutOfMemory(
                f"keys and values of {length} tokens take {least / 1e6:.3g} MB, the budget is {budget / 1e6:.3g} MB: "
                "raise it, pack them in fewer bits, or shorten the prompt"
            )
        return bisect_right(range(1, room + 1), budget, key=needs)

    def _wired(self, positions: int) -> AbstractContextManager[None]:
        """Keeps resident what so many positions take: the weights, 16-bit keys and values, and room to work."""
        if not device().working_set:
            return nullcontext()
        config = self.model.config
        rows = sum(min(window, positions) if window else positions for window in config.windows)
        weights = sum(array.nbytes for array in self.model.arrays.values())
        return wired(weights + rows * 2 * config.kv_heads * config.head_size * 2 + SPARE)

    def _check(self, ids: Sequence[int]) -> None:
        if not ids:
            raise ParameterError("there is nothing to continue: give a prompt of at least one token")
        if len(ids) >= self.context:
            raise ContextOverflow(
                f"the prompt has {len(ids)} tokens and this model reads at most {self.context}: "
                "shorten it or choose a model with a longer context"
            )

    def _covering(self, ids: Sequence[int]) -> Cursor | None:
        """A cursor that has read all of `ids`, and perhaps more: to look back without moving it."""
        read = (c for c in self._cursors if min(c.length, len(c.ids)) >= len(ids))
        return next((c for c in read if c.ids[: len(ids)] == list(ids)), None)

    def _at(self, ids: Sequence[int]) -> Cursor:
        """A cursor at the longest prefix of `ids` that has been read, the most recently used from now on."""
        best, shared = None, 0
        for cursor in self._cursors:
            common = _common_prefix(cursor.ids, ids)
            if not cursor.reaches(common):
                continue
            if common > shared or (best is None and not cursor.length):
                best, shared = cursor, common
        if best is None or (self._prefixes is not None and shared < SEGMENT):
            best = Cursor(self.model, self.model.make_cache(**self._cache), step=self.step.hidden)
            if self._prefixes is not None:
                self._prefixes.restore(ids, best)
        elif best in self._running or best.length - shared > FORK_ABOVE:
            best = best.fork()
            best.rewind(shared)
        else:
            best.rewind(shared)
            self._cursors.remove(best)
        self._cursors.append(best)
        del self._cursors[: -CURSORS if self._kv_budget is None else -1]
        return best


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n


def _first(token: int) -> TokenStep:
    return TokenStep(token, b"", "", None, None, None, None, None, 0, Recipe(), None, None, 0, origin="given")
