"""`Session`: a model and its tokenizer at work: it draws, measures a given text, or looks at one distribution.

Takes ids and a `RunControl`, gives events. Budget, stop strings, end of text and cancelling live here; how a token is
found is the strategy's, and where texts were read before the pool knows. Everything of mlx stays inside: what comes out
is plain Python and numpy. One thread owns a session.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.errors import ContextOverflow, NotFinite, ParameterError
from likely.engine.base.numerics import damaged, first_not_finite, require_finite
from likely.engine.decode.loop.branches import SCORED_AT_ONCE, Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import (
    Done,
    Emitted,
    Event,
    Forked,
    Prefilled,
    Pruned,
    Rated,
    Reloaded,
    Stats,
    Waiting,
)
from likely.engine.decode.loop.sampler import Sampler
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.loop.text_stream import TextStream, with_text
from likely.engine.decode.pool import Pool
from likely.engine.decode.prefix_cache import Prefixes
from likely.engine.decode.sampled.batch import BatchedSample, ContinuousBatch
from likely.engine.decode.sampled.lockstep import Lockstep
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.sampling.thinking import ThoughtSpan, end_of, opens
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep, unmeasured
from likely.metal import mx
from likely.models.native_path.native import drawing

if TYPE_CHECKING:
    from likely.engine.base.distributed import Ranks
    from likely.engine.weights.sources.checkpoint import Checkpoint
    from likely.models.model import MixtureModel

Averaging = Callable[[int], "MixtureModel"]
GIVEN_AT_ONCE = 16  # positions whose logits [V] are given to somebody who works on each of them, in one turn


class Session:
    """A loaded model to talk to.

    `generate` draws, `score` measures a given text, `logits_after` gives one distribution. All three find the longest
    prefix of their ids among what was read before, and read only the rest. What is drawn may be read with rounded
    activations (`models.native.drawing`), and nothing is measured by that: a number that is asked for is the same
    before a draw and after it. What was drawn keeps the numbers of its draw, and each step names its precision.
    """

    def __init__(
        self,
        checkpoint: "Checkpoint",
        prefixes: Prefixes | None = None,
        *,
        ranks: "Ranks | None" = None,
        context: int | None = None,
        kv_budget: int | None = None,
        reload: bool = True,
        paced: bool = False,
        **cache: Any,
    ) -> None:
        """`prefixes` keeps the beginnings of prompts; `cache` says how caches are made (`LanguageModel.make_cache`).

        `context` are the positions that a text may have at most, where the model has as many.
        `kv_budget` are the bytes that the keys and values of a run may take: it ends where the next would not fit.
        With `ranks`, the model is one that they share, and what rank 0 is asked to generate holds for all. `reload`:
        a model whose numbers leave their type may be loaded again in a wider one; not where somebody else holds it.
        `paced`: texts are read in pieces of a turn, for others who wait for the thread; not on ranks, which have to
        read the same pieces, whatever takes longest where.
        """
        self.ranks = ranks
        self.reload = reload and ranks is None
        self.adapters: tuple[str, ...] = ()  # on the model, as a recipe names them
        self.adapted = False  # whether there is something on the model that is not in its file
        self.average: Averaging | None = None  # where an adapter on it has a posterior
        self._options: dict[str, Any] = {
            "prefixes": prefixes, "context": context, "kv_budget": kv_budget, "paced": paced, **cache
        }  # fmt: skip
        self.adopt(checkpoint)

    def adopt(self, checkpoint: "Checkpoint") -> None:
        """Go on with this model; nothing that was read by another is used."""
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer
        self.info = checkpoint.info
        drawn, options = drawing(self.model), dict(self._options)
        if drawn is not self.model and options.get("kept_nbytes"):
            options["kept_nbytes"] //= 2  # for each of two
        self.pool = Pool(drawn, **options)
        self.measured = self.pool if drawn is self.model else Pool(self.model, **options | {"prefixes": None})

    @property
    def context(self) -> int:
        """Positions that a text may have: those that the model was made for, or fewer where that was asked for."""
        return self.pool.context

    @property
    def bounded(self) -> bool:
        """Whether the model has more positions."""
        return self.context < int(self.model.config.context)

    @property
    def cache_nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(pool.cache_nbytes for pool in {self.pool, self.measured})

    @property
    def nbytes(self) -> int:
        """Bytes of all that is remembered of texts: hidden states, too."""
        return sum(pool.nbytes for pool in {self.pool, self.measured})

    def generate(
        self,
        ids: Sequence[int],
        control: RunControl,
        *,
        n: int = 1,
        seed: int = 0,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        strategy: Strategy | None = None,
        batch: ContinuousBatch | None = None,
        stops_thought: bool = False,
    ) -> Iterator[Event]:
        """Continue `ids` in n branches, read side by side over the one prompt; each has its own `Done`. A `stop` string
        ends what is said, and with `stops_thought` what is thought before that, too.

        With a `batch` of this model the sampled tokens are drawn there, beside those of other runs, and the run yields
        `Waiting` before each pass; a strategy that has its own way of finding tokens is ParameterError then.

        Branch b of a sample draws what it would draw alone with seed + b, up to rounding. Closing the iterator, or
        `control.cancel()`, leaves the session at the last whole token.

        Raises ContextOverflow if `ids` leaves no room for a token, ParameterError if there is nothing to continue or
        the strategy cannot do what is asked, NotFinite where the model gives no numbers in any type. One that gives
        none in float16 or bfloat16 is loaded again in a wider type, says so (`Reloaded`), and the run goes on; of
        several branches only before their first token.
        """
        began, first = time.perf_counter(), 0.0
        if n < 1:
            raise ParameterError(f"the number of answers must be 1 or more, got {n}")
        strategy = strategy or PLAIN
        strategy.check(n)
        run: Strategy | Lockstep | BatchedSample = strategy
        if batch is not None:
            if strategy != PLAIN or self.ranks is not None:
                raise ParameterError(f"{strategy} is not drawn in a batch with others: only plain sampling is")
            run = BatchedSample(batch)
        if self.ranks is not None:
            ids, n, seed, max_tokens = self.ranks.broadcast([list(ids), n, seed, max_tokens])
            run = Lockstep(self.ranks, strategy, control)
            control = RunControl(control.recipe, control.forced)  # cancelled when all are, and no branch alone
        self.check(ids)
        budget = self.pool.token_budget(len(ids), strategy.width(n))
        budget = budget if max_tokens is None else min(max_tokens, budget)
        thought = ThoughtSpan(opens(end_of(ids, self.tokenizer.piece))) if stop and not stops_thought else None
        streams = {branch: TextStream(self.tokenizer, stop, deepcopy(thought)) for branch in range(n)}

        def end(branch: int) -> Iterator[Event]:
            stream, now = streams.pop(branch), time.perf_counter()
            for step in stream.flush():
                yield Emitted(branch, step)
            stats = Stats(len(ids), reused, stream.tokens, (first or now) - began, now - (first or now))
            stopped = control.cancelled or branch in control.given_up
            reason = stream.reason or ("cancelled" if stopped else "length")
            yield Done(branch, reason, stats, stream.rest)

        text, reused = list(ids), 0  # read and drawn, by one branch

        def attempt() -> Iterator[Event]:
            nonlocal first, reused
            read, limit = tuple(text), budget - len(text) + len(ids)
            with self.pool.lease(read, limit, strategy.width(n)) as (branches, reach):
                reused = min(branches.length, len(ids))
                for done in self.pool.read(branches, read):
                    yield Prefilled(reused + done, len(read))
                    if control.cancelled:
                        break
                else:
                    require_finite(np.asarray(mx.logsumexp(branches.logits(), axis=-1).astype(mx.float32)))
                    branches.select([0] * n)
                    control.adapters = self.adapters
                    sampler = Sampler.start(control.drawn_by, branches.ids, seed=seed, vocabulary=self.tokenizer)
                    over = None
                    with closing(run.steps(branches, sampler, control, limit=limit)) as steps:
                        while True:
                            control.adapters = self.adapters
                            try:
                                event = steps.send(over)
                            except StopIteration:
                                break
                            now, over = time.perf_counter(), None
                            first = first or now
                            match event:
                                case Emitted(branch, raw):
                                    reach()
                                    text.append(raw.token)
                                    for step in streams[branch].push(raw, now - began, self.pool.precision):
                                        yield Emitted(branch, step)
                                    over = bool(streams[branch].reason) or (control.cancelled and not strategy.SEARCHES)
                                    over = over or branch in control.given_up
                                    if over:
                                        yield from end(branch)
                                case Forked(parent, child):
                                    streams[child] = streams[parent].fork()
                                    yield event
                                case Pruned(branch):
                                    del streams[branch]
                                    yield event
                                case Rated() | Waiting():
                                    yield event
                for branch in list(streams):
                    yield from end(branch)

        while True:
            try:
                yield from attempt()
                return
            except NotFinite:
                if len(text) > len(ids) and (strategy.width(n) > 1 or strategy.SEARCHES):
                    raise
                yield Reloaded(self._widen(text))

    def _widen(self, ids: Sequence[int]) -> str:
        """Load the model in a wider type than that in which it reads `ids` to no numbers; a line that says so.

        NotFinite where that cannot be, with the place at which they end.
        """
        where = f"{self.info.name} gives NaN {first_not_finite(self.model, ids)}"
        if not (self.adapted or self.reload):
            raise damaged(self.info.name, self.model, ids)
        if self.adapted:
            raise NotFinite(f"{where}: take its adapters off, or use a checkpoint of a wider type")
        wider = self.checkpoint.widened()
        if wider is None:
            raise NotFinite(f"{where}: its weights are damaged, fetch it again")
        narrow, dtype = (str(c.precision.dtype).rpartition(".")[2] for c in (self.checkpoint, wider))
        self.adopt(wider)
        return f"{where} in {narrow}: it was loaded again in {dtype}"

    def score(
        self, ids: Sequence[int], *, start: int = 0, progress: Callable[[int, int], None] | None = None
    ) -> list[TokenStep]:
        """Scores of a given text, teacher-forced: one step for each of ids[start:].

        The first token of a text has no distribution before it: its numbers are None. A model that gives no numbers is
        loaded again in a wider type; NotFinite where that cannot be. `progress` is told of tokens read, and of all.
        """
        scoring = self.scoring(ids, start=start)
        while True:
            try:
                read = next(scoring)
            except StopIteration as end:
                steps: list[TokenStep] = end.value
                return steps
            if progress is not None:
                progress(read, len(ids))

    def scoring(self, ids: Sequence[int], *, start: int = 0) -> Generator[int, None, list[TokenStep]]:
        """`score` in pieces: how many tokens have been read after each, and the steps in the end."""
        if not ids:
            return []
        if len(ids) > self.context:
            raise ContextOverflow(f"the text has {len(ids)} tokens and {self._most}: shorten it")
        while True:
            try:
                return (yield from self._scoring(ids, start))
            except NotFinite:
                self._widen(ids)

    def _scoring(self, ids: Sequence[int], start: int) -> Generator[int, None, list[TokenStep]]:
        known, pace = list(ids[:-1]), self.measured.scoring
        detokenizer = self.tokenizer.detokenizer(special=True)
        texts = [detokenizer.push(token) for token in ids]
        texts[-1] += detokenizer.flush()
        steps = []
        if start == 0:
            steps.append(with_text(self.tokenizer, unmeasured(ids[0]), texts[0], 0.0))
        with self.measured.held(known) as branches:
            reused = min(branches.length, len(known))
            for done in branches.read(known[reused:]):
                yield reused + done
            low = max(start, 1)
            while low < len(ids):
                size = SCORED_AT_ONCE
                if pace is not None:
                    pace.begin()
                    size = min(size, pace.size)
                high = min(low + size, len(ids))
                rows = np.asarray(branches.logits_at(low - 1, high - 1)[0])
                for i in range(low, high):
                    step = observe(rows[i - low], ids[i], recipe=SamplingConfig(), position=i, origin="given")
                    steps.append(with_text(self.tokenizer, step, texts[i], 0.0, self.measured.precision))
                if pace is not None:
                    pace.took(high - low)
                low = high
                yield len(known)
        return steps

    def read(self, ids: Sequence[int]) -> Generator[int]:
        """Read a text to measure it, so that what is asked of it next is found; how many tokens it has so far, after
        each piece."""
        self.check(ids)
        with self.measured.held(ids) as branches:
            for _ in branches.read(ids[branches.length :]):
                yield branches.length

    def branch_after(self, ids: Sequence[int]) -> Generator[None, None, Branches]:
        """A branch of one's own behind a text that is read to measure, in pieces; what was read stays for others."""
        with self.measured.held(ids, back=True) as kept:
            for _ in kept.read(ids[min(kept.length, len(ids)) :]):
                yield
            branch = kept.fork()
        branch.rewind(len(ids))
        return branch

    def logits_after(self, ids: Sequence[int]) -> np.ndarray:
        """The raw logits [V] of the token that follows `ids`, measured, whatever was drawn there; one product with the
        head where `ids` has been read.
        """
        for _ in self.read(ids):
            pass
        branches = self.measured.find(ids)
        assert branches is not None
        row = np.array(branches.logits_at(len(ids) - 1, len(ids))[0, 0])
        try:
            require_finite(row)
        except NotFinite:
            self._widen(ids)
            return self.logits_after(ids)
        return row

    def logits_along(self, ids: Sequence[int], start: int) -> Iterator[np.ndarray | None]:
        """The raw logits [n, V] after each position of a text from `start` on, `GIVEN_AT_ONCE` positions at a time;
        None after a piece of the text that was read."""
        self.check(ids)
        while start < len(ids):
            with self.measured.held(ids) as branches:
                for _ in branches.read(ids[branches.length :]):
                    yield None
                try:
                    while start < len(ids):
                        end = min(start + GIVEN_AT_ONCE, len(ids))
                        rows = np.asarray(branches.logits_at(start, end)[0])
                        require_finite(rows)
                        yield rows
                        start = end
                    return
                except NotFinite:
                    self._widen(ids)

    def forget(self) -> None:
        """Drop every cache, and what was compiled: the model may have other weights now."""
        self.pool.forget()
        self.measured.forget()

    def changed(self, adapter: str, adapters: tuple[str, ...] = (), average: "Averaging | None" = None) -> None:
        """The model computes something else from now on: nothing that was read before is used again.

        `adapter` is a hash of what was put on the model, "" for nothing; it is part of the names under which prefixes
        are kept. `adapters` are its parts as a recipe names them, and `average` makes the model that is the mean over
        so many samples of the posterior of one of them. An answer that is being drawn goes on with what it has read.
        """
        self.forget()
        self.adapted, self.adapters, self.average = bool(adapter), adapters, average
        if self.pool.prefixes is not None:
            self.pool.prefixes.adapter = adapter

    def check(self, ids: Sequence[int]) -> None:
        """ContextOverflow if a prompt leaves no room for a token, ParameterError if there is nothing to continue."""
        if not ids:
            raise ParameterError("there is nothing to continue: give a prompt of at least one token")
        if len(ids) >= self.context:
            raise ContextOverflow(
                f"the prompt has {len(ids)} tokens and {self._most}: "
                f"shorten it or {'allow more' if self.bounded else 'choose a model with a longer context'}"
            )

    @property
    def _most(self) -> str:
        if self.bounded:
            return f"the context is bounded to {self.context} of the {self.model.config.context} that this model reads"
        return f"this model reads at most {self.context}"
