"""Executor of a server's requests: texts that are drawn in one batch, from models loaded when they are asked for.

A request's job yields tuples of the engine's events, one a turn. A plain one joins a batch of its model, and the turn
of whichever comes first does a pass for all; other strategies take turns as in a chat. What cannot be cut into turns is
the helper's. Models stand within a budget of bytes, and the least recently used one leaves when it is idle. Runs in a
worker's thread; knows no protocol.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from likely.app.jobs import requests as r
from likely.app.jobs.worker import WORKED, Tell, worked
from likely.app.serve.api.template_fit import answer_begun, fitted
from likely.app.serve.bounds import BOUNDS, TOP
from likely.app.serve.prefill_scheduler import PrefillScheduler
from likely.app.serve.requests import (
    TOO_LONG,
    AnswerOpened,
    AnswerRequest,
    DescribeModel,
    Embedded,
    EmbeddingRequest,
    ListModels,
    RequestRefused,
    refused_by,
)
from likely.engine.base.concurrency.background_thread import Helper
from likely.engine.base.errors import ParameterError
from likely.engine.chat.tools.call_format import JSON, call_format
from likely.engine.decode.loop.events import Event, Prefilled, Waiting
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.sampled.batch import ContinuousBatch
from likely.engine.decode.sampled.budget import Budget
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.measure import choice_scores
from likely.engine.measure.answer_form import pattern
from likely.engine.sampling.presets import ORDERS, PRESETS, Values, recipe
from likely.engine.sampling.thinking import THINK, end_of, opens, thinking_of, with_thought, without_thought
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Constraint, LogitBias


@dataclass(eq=False)
class ServedModel:
    """A model that is loaded, the batch of its texts, and how many requests are at work on it."""

    session: Session
    facts: r.ModelFacts
    joins: bool  # whether its caches stand side by side
    seats: dict[ContinuousBatch, int] = field(default_factory=dict)  # texts that are drawn in each, or will be
    hurried: set[ContinuousBatch] = field(default_factory=set)  # those of brief requests, whose turns come oftener
    running: int = 0
    adapter: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        self.longest = max(map(len, self.facts.vocabulary), default=1)  # bytes of a token

    def ids(self, prompt: Prompt, field: str) -> list[int]:
        """The ids of a prompt. RequestRefused for one that cannot fit, before it costs the others seconds to find out
        how many tokens it has, and for ids that are none of this model's."""
        if (count := len(prompt.messages)) > self.facts.context:  # each of them is a token at least
            line = f"{field}: {count:,} messages have no room in {self.facts.context:,} tokens"
            raise RequestRefused(line, field, kind=TOO_LONG)
        contents = (str(message.get("content", "")) for message in prompt.messages)
        size = sum(len(text) for text in (*contents, *prompt.parts) if isinstance(text, str))
        if size > (most := self.facts.context * self.longest):
            line = f"{field}: {size:,} characters, {self.facts.context:,} tokens hold {most:,}"
            raise RequestRefused(line, field, kind=TOO_LONG)
        try:
            ids, below = prompt.ids(self.session.tokenizer), self.session.tokenizer.vocab_size
        except ParameterError as error:
            if not prompt.options:
                raise
            raise RequestRefused(f"chat_template_kwargs: {error}", "chat_template_kwargs") from None
        if max(ids, default=0) >= below:
            raise RequestRefused(f"{field}: ids of tokens are below {below}, got {max(ids)}", field)
        return ids

    @contextmanager
    def seat(self, texts: int, brief: bool) -> Iterator[ContinuousBatch]:
        """A batch with places for so many texts: as many stand in one as a pass can draw in a turn. Brief ones have
        their own: who has more turns than another must not be in a pass with it."""
        free = (b for b, used in self.seats.items() if used + texts <= b.pace.size)
        batch = next((b for b in free if (b in self.hurried) == brief), None)
        if batch is None:
            batch = ContinuousBatch(self.session.model, self.session.pool.step.hidden)
            self.seats[batch] = 0
            if brief:
                self.hurried.add(batch)
        self.seats[batch] += texts
        try:
            yield batch
        finally:
            self.seats[batch] -= texts
            if not self.seats[batch] and sum((b in self.hurried) == brief for b in self.seats) > 1:
                del self.seats[batch]
                self.hurried.discard(batch)

    @contextmanager
    def used(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


@dataclass(frozen=True, slots=True)
class ServedAdapter:
    """An adapter that requests may name, beside a model or as one: the folder, and the name of its base, if known."""

    folder: str
    base: str


class ServingJobs:
    """The models of a server, by name, the least recently used first."""

    def __init__(
        self,
        opening: Callable[[str], Generator[Any, None, Any]],
        unloaded: Callable[[str], r.ModelFacts],
        names: Callable[[], Sequence[str]],
        budget: int,
        adapters: dict[str, ServedAdapter],
    ) -> None:
        """`opening` loads a model in pieces, `unloaded` says what it is without that; `names` are those that may be
        asked for, `budget` are bytes of weights, and `adapters` are by the name that a request may say."""
        self._unloaded = unloaded
        self._opening, self._names, self._budget, self._adapters = opening, names, budget, adapters
        self.models: dict[str, ServedModel] = {}
        self._helper = Helper()
        self._line = PrefillScheduler()
        self._queue: deque[object] = deque()  # of requests that wait for their models

    def execute(self, request: Any, tell: Tell) -> Iterator[Any]:
        match request:
            case AnswerRequest():
                yield from self._answer(request)
            case EmbeddingRequest():
                yield from self._embed(request)
            case ListModels():
                yield tuple((model.facts, model.session.nbytes) for model in self.models.values())
            case DescribeModel(name):
                (name,), _ = self._meant((name,), None)
                loaded = self.models.get(name)
                yield loaded.facts if loaded else (yield from self._helper.do(partial(self._unloaded, name)))
            case r.Load(name):
                with ExitStack() as used:
                    (model,) = yield from self._ready((name,), used)
                    yield r.Loaded(model.facts)

    def close(self) -> None:
        for model in self.models.values():
            model.session.forget()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _answer(self, request: AnswerRequest) -> Generator[Any]:
        if request.adapter is not None and request.adapter[0] not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise RequestRefused(
                f"there is no adapter {request.adapter[0][:80]!r} here: {known}", "likely.adapter", 404
            )
        needs = tuple(request.strategy.needs)
        with ExitStack() as used:
            model, *others = yield from self._ready((request.model, *needs), used, request.adapter)
            with refused_by(request.field):
                yield from self._drawn(request, model, {n: m.session for n, m in zip(needs, others, strict=True)})

    def _drawn(self, request: AnswerRequest, model: ServedModel, others: dict[str, Any]) -> Generator[Any]:
        session, control = model.session, request.control
        tokenizer = session.tokenizer
        prompt, ignored = yield from self._helper.do(partial(fitted, request, tokenizer, model.facts.name))
        ids = yield from self._helper.do(partial(model.ids, prompt, request.field))
        if prompt.turns and prompt.parts:
            ids = yield from self._helper.do(partial(answer_begun, prompt, tokenizer))
        mark, form = "", request.constraint
        if request.choices or form is not None:
            thinks = request.prompt.thinking or isinstance(request.strategy, Budget)
            if thinks and not (prompt.parts or request.called):
                ids, mark = yield from self._helper.do(partial(with_thought, ids, tokenizer))
            else:
                ids = yield from self._helper.do(partial(without_thought, ids, tokenizer))
        biased = [token for t in control.recipe.transforms if isinstance(t, LogitBias) for token in dict(t.bias)]
        if max(biased, default=0) >= tokenizer.vocab_size:
            raise RequestRefused(f"logit_bias: there is no token {max(biased)}", "logit_bias")
        if not (request.strategy.SEARCHES or request.choices):  # they go by the model's own law
            control.recipe = completed(request, model.facts.sampling or PRESETS["balanced"])
        check_numbers(request, len(ids), model.facts.context)
        if request.choices and mark:
            form = "regex", pattern(request.choices)
        if request.choices and not mark:
            yield from self._line.read(session.read(ids))
            among = yield from self._line.read(choice_scores.scoring(session, ids, request.choices))
            control.recipe = choice_scores.bound(among, control.recipe, request.strategy, len(ids))
        elif form is not None:
            bound = Constraint(*form, len(ids), mark)
            yield from self._helper.do(lambda: bound.compiled(tokenizer))
            control.recipe = replace(control.recipe, transforms=(bound, *control.recipe.transforms))
        strategy = request.strategy
        if strategy != PLAIN:
            try:
                strategy = yield from self._helper.do(lambda: request.strategy.bind(others, tokenizer))
            except ParameterError as error:
                field = "thinking" if request.prompt.thinking else "likely.strategy"
                raise RequestRefused(f"{field}: {error}", field) from None
        if request.max_tokens != 0:
            with refused_by(request.field, ParameterError):
                session.check(ids)  # before a stream has begun
        opened, marks = opens(end_of(ids, tokenizer.piece)), thinking_of(tokenizer) or THINK
        facts = replace(model.facts, name=request.model) if request.model in self._adapters else model.facts
        calls = (call_format(tokenizer) if request.tools else None) or JSON
        yield AnswerOpened(facts, len(ids), opened, tuple(ids), ignored, marks, calls)
        if request.shown.echo:
            steps = yield from self._line.read(session.scoring(ids))
            nobodys = yield from self._helper.do(lambda: tokenizer.encode("", bos=True))  # tokens that nobody wrote
            yield r.Scored(tuple(steps[0 if request.prompt.whole else len(nobodys) :]))
        if request.max_tokens == 0:
            return
        with ExitStack() as seat:
            batch = (
                seat.enter_context(model.seat(request.drawn, request.brief))
                if strategy == PLAIN and model.joins
                else None
            )
            events = session.generate(
                ids,
                control,
                n=1 if strategy.SEARCHES else request.drawn,
                seed=request.seed,
                max_tokens=request.max_tokens,
                stop=request.stop,
                strategy=strategy,
                batch=batch,
            )
            begun = yield from self._line.read(_read(events))
            with self._line.drawing():
                for turn in _turns(chain(begun, events), apart=batch is None):
                    self._line.drew()
                    yield turn

    def _embed(self, request: EmbeddingRequest) -> Generator[Any]:
        from likely.engine.measure.evaluate.scoring.features import (
            averaging,
        )  # for who asks: evaluation is not for every server

        with ExitStack() as used:
            (model,) = yield from self._ready((request.model,), used)
            count, width = len(request.texts), int(model.session.model.config.width)
            if (size := width * count) > BOUNDS.coordinates:
                line = f"{request.field}: {count:,} texts of {width:,} coordinates each are {size:,}"
                line += f", and a request has at most {BOUNDS.coordinates:,}: send fewer texts"
                raise RequestRefused(line, request.field)
            texts = yield from self._helper.do(lambda: [model.ids(text, request.field) for text in request.texts])
            texts = [ids[: model.facts.context] for ids in texts] if request.truncate else texts
            averages = averaging(model.session, texts, request.layer, model.session.pool.reading)
            with refused_by("likely.layer", ParameterError), refused_by(request.field):
                rows = yield from self._line.read(averages)
            yield Embedded(tuple(rows), sum(map(len, texts)))

    # -- models ------------------------------------------------------------------------------------------------------

    def _ready(
        self,
        names: Sequence[str],
        used: ExitStack,
        adapter: tuple[str, float] | None = None,
    ) -> Generator[Any, None, list[ServedModel]]:
        """The models of these names, in use until `used` is closed, the first with its adapter and the others without.

        Who has to wait, for room or for those who draw with another adapter, has all who come later wait behind: else
        they might go on for ever.
        """
        names, adapter = self._meant(names, adapter)
        place = object()
        self._queue.append(place)
        try:
            while self._queue[0] is not place or (claimed := (yield from self._claimed(names, adapter))) is None:
                yield None
        finally:
            self._queue.remove(place)
        for model in claimed:
            used.enter_context(model.used())
        return claimed

    def _meant(
        self, names: Sequence[str], adapter: tuple[str, float] | None
    ) -> tuple[list[str], tuple[str, float] | None]:
        """The models that are meant by these names, and the adapter of the first. RequestRefused for one unknown."""
        known = self._names()
        names = [name or known[0] for name in names]
        if (asked := self._adapters.get(names[0])) is not None:  # an adapter by its name is its base with it
            adapter = adapter or (names[0], 1.0)
            names[0] = asked.base if asked.base in known else known[0]
        for name in names:
            if name not in known:
                line = f"there is no model {name[:80]!r} here: {', '.join(known)}"
                raise RequestRefused(line, "model", 404, "model_not_found")
        return names, adapter

    def _claimed(
        self, names: Sequence[str], adapter: tuple[str, float] | None
    ) -> Generator[Any, None, list[ServedModel] | None]:
        """The models, loaded and with their adapters; None where others must end first. What one request needs stands
        side by side, whatever the budget."""
        wanted = dict.fromkeys(names) | {names[0]: adapter}
        here = {name: self.models[name] for name in wanted if name in self.models}
        if any(model.running and model.adapter != wanted[name] for name, model in here.items()):
            return None
        for name in wanted:
            if name not in self.models:
                self._leave(self._budget, wanted)
                if self._held() >= self._budget and not self.models.keys() <= wanted.keys():
                    return None
                self.models[name] = yield from self._opened(name)
            self.models[name] = self.models.pop(name)
            if self.models[name].adapter != wanted[name]:
                self._adapt(self.models[name], wanted[name])
        self._leave(self._budget + 1, wanted)
        return [self.models[name] for name in names]

    def _opened(self, name: str) -> Generator[Any, None, ServedModel]:
        session = yield from worked(self._opening(name))
        session.reload = False  # a batch is of one model
        joins = session.model.make_cache().joins and not any(rope.rope.varies for rope in session.model.rotations)
        return ServedModel(session, session.facts, joins)

    def _leave(self, below: int, wanted: Collection[str]) -> None:
        """Idle models leave until the others take fewer bytes than this."""
        for name in [name for name, model in self.models.items() if not model.running and name not in wanted]:
            if self._held() < below:
                return
            self.models.pop(name).session.forget()

    def _held(self) -> int:
        return sum(model.facts.nbytes for model in self.models.values())

    def _adapt(self, model: ServedModel, adapter: tuple[str, float] | None) -> None:
        """Put one adapter (name, weight) on a model that no request draws from, or take it off (None)."""
        session: Any = model.session
        if model.adapter is not None:
            session.adapt("remove", model.adapter[0], 0.0)
            model.adapter = None
        if adapter is not None:
            session.adapt("add", self._adapters[adapter[0]].folder, adapter[1])
        model.adapter = adapter
        model.joins = session.model.make_cache().joins


def completed(request: AnswerRequest, others: Values) -> SamplingConfig:
    """The recipe of a request, what it does not say by `others`."""
    biases = [dict(t.bias) for t in request.control.recipe.transforms if isinstance(t, LogitBias)]
    bias = biases[0] if biases else None
    return recipe({**others, **request.sampling}, ORDERS[request.order], bias=bias)


def check_numbers(request: AnswerRequest, count: int, context: int) -> None:
    """RequestRefused for an answer with more log-probabilities to tell than a request may have, behind `count` tokens:
    one a token, and one for each alternative beside it."""
    shown = request.shown
    beside = TOP if shown.snapshot else shown.logprobs or 0
    texts = max(request.drawn, request.strategy.width(request.drawn))
    drawn = texts * min(context - count, context if request.max_tokens is None else request.max_tokens)
    tokens = request.together * (max(drawn, 0) + (request.n * count if shown.echo else 0))
    if tokens * (1 + beside) > BOUNDS.numbers:
        raise RequestRefused(
            f"max_tokens: {tokens:,} tokens with {beside} alternatives each are {tokens * (1 + beside):,} numbers, and "
            f"a request has at most {BOUNDS.numbers:,}: ask for fewer tokens, texts or alternatives",
            "max_tokens",
        )


def _read(events: Iterator[Event]) -> Generator[tuple[Event, ...], None, tuple[Event, ...]]:
    """The beginning of a run, a piece of its prompt a turn, but for its end: that is given."""
    for event in events:
        if not isinstance(event, Prefilled) or event.done >= event.total:
            return (event,)
        yield (event,)
    return ()


def _turns(events: Iterable[Event], *, apart: bool) -> Iterator[Any]:
    """The events of a run by turns: each `apart`, or all until a batch does its next pass."""
    new: list[Event] = []
    for event in events:
        if not isinstance(event, Waiting):
            new.append(event)
        if apart or isinstance(event, Waiting):
            yield tuple(new) if new else WORKED
            new = []
    yield tuple(new) if new else WORKED
