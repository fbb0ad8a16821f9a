"""Executor of a server's requests: texts that are drawn in one batch, from models loaded when they are asked for.

A request's job yields tuples of the engine's events, one a turn. A plain one joins the batch of its model, and the turn
of whichever comes first does a pass for all; other strategies take turns as in a chat. Models stand within a budget of
bytes, and the least recently used one leaves when it is idle. Runs in a worker's thread; knows no protocol.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from app import requests as r
from app.serve.asks import AnswerOpened, AnswerRequest, Embedded, EmbeddingRequest, RequestRefused
from app.worker import Tell
from engine import choices
from engine.decode.batch import ContinuousBatch
from engine.decode.control import RunControl
from engine.decode.events import Event, Prefilled, Waiting
from engine.decode.strategies import PLAIN
from engine.prompt import Prompt
from engine.session import Session
from engine.transforms import Constraint, LogitBias

THINK = "<think>"


@dataclass(eq=False)
class ServedModel:
    """A model that is loaded, the batch of its texts, and how many requests are at work on it."""

    session: Session
    facts: r.ModelFacts
    batch: ContinuousBatch
    joins: bool  # whether its caches stand side by side
    running: int = 0
    adapter: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        self.longest = max(map(len, self.facts.vocabulary), default=1)  # bytes of a token

    def ids(self, prompt: Prompt, field: str) -> list[int]:
        """The ids of a prompt. RequestRefused for one that cannot fit, before it costs the others seconds to find out
        how many tokens it has, and for ids that are none of this model's."""
        contents = (str(message.get("content", "")) for message in prompt.messages)
        size = sum(len(text) for text in (*contents, *prompt.parts) if isinstance(text, str))
        if size > (most := self.facts.context * self.longest):
            raise RequestRefused(f"{field}: {size:,} characters, {self.facts.context:,} tokens hold {most:,}", field)
        ids, below = prompt.ids(self.session.tokenizer), self.session.tokenizer.vocab_size
        if max(ids, default=0) >= below:
            raise RequestRefused(f"{field}: ids of tokens are below {below}, got {max(ids)}", field)
        return ids

    @contextmanager
    def used(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class ServingJobs:
    """The models of a server, by name, the least recently used first."""

    def __init__(
        self, open: Callable[[str], Any], names: Callable[[], Sequence[str]], budget: int, adapters: dict[str, str]
    ) -> None:
        """`open` loads a model, `names` are those that may be asked for; `budget` are bytes of weights. `adapters` are
        folders by the name that a request may say."""
        self._open, self._names, self._budget, self._adapters = open, names, budget, adapters
        self.models: dict[str, ServedModel] = {}
        self._queue: deque[object] = deque()  # of requests that wait for their models

    def execute(self, request: Any, tell: Tell) -> Iterator[Any]:
        match request:
            case AnswerRequest():
                yield from self._answer(request)
            case EmbeddingRequest():
                yield from self._embed(request)
            case r.Load(name):
                with ExitStack() as used:
                    (model,) = yield from self._ready((name,), used)
                    yield r.Loaded(model.facts)

    def close(self) -> None:
        for model in self.models.values():
            model.session.forget()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _answer(self, ask: AnswerRequest) -> Generator[Any]:
        if ask.adapter is not None and ask.adapter[0] not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise RequestRefused(f"there is no adapter {ask.adapter[0][:80]!r} here: {known}", "likely.adapter", 404)
        needs = tuple(ask.strategy.needs)
        with ExitStack() as used:
            model, *others = yield from self._ready((ask.model, *needs), used, ask.control, ask.adapter)
            yield from self._drawn(ask, model, {n: m.session for n, m in zip(needs, others, strict=True)})

    def _drawn(self, ask: AnswerRequest, model: ServedModel, others: dict[str, Any]) -> Generator[Any]:
        session, control = model.session, ask.control
        tokenizer = session.tokenizer
        if tokenizer.chat_template is None and (ask.prompt.options or ask.prompt.tools):
            name = "tools" if ask.prompt.tools else "chat_template_kwargs"
            raise RequestRefused(f"{name}: {model.facts.name} has no chat template that could read it", name)
        ids = model.ids(ask.prompt, "prompt")
        biased = [token for t in control.recipe.transforms if isinstance(t, LogitBias) for token in dict(t.bias)]
        if max(biased, default=0) >= tokenizer.vocab_size:
            raise RequestRefused(f"logit_bias: there is no token {max(biased)}", "logit_bias")
        if ask.choices:
            control.recipe = choices.bound(
                choices.scored(session, ids, ask.choices), control.recipe, ask.strategy, len(ids)
            )
        elif ask.constraint is not None:
            bound = Constraint(*ask.constraint, len(ids))
            control.recipe = replace(control.recipe, transforms=(bound, *control.recipe.transforms))
        thinking = tokenizer.decode(ids[-8:]).rstrip().endswith(THINK)
        yield AnswerOpened(model.facts, len(ids), thinking, tuple(ids))
        if ask.shown.echo:
            steps = session.score(ids)
            begins = 0 if ask.prompt.whole else len(tokenizer.encode("", bos=True))  # tokens that nobody wrote
            yield r.Scored(tuple(steps[begins:]))
        if ask.max_tokens == 0:
            return
        batch = model.batch if ask.strategy == PLAIN and model.joins else None
        events = session.generate(
            ids,
            control,
            n=1 if ask.strategy.SEARCHES else ask.drawn,
            seed=ask.seed,
            max_tokens=ask.max_tokens,
            stop=ask.stop,
            strategy=ask.strategy.bind(others, tokenizer),
            batch=batch,
        )
        new: list[Event] = []
        for event in events:
            if not isinstance(event, Waiting):
                new.append(event)
            part = isinstance(event, Prefilled) and event.done < event.total  # others go on between two of them
            if batch is None or part or isinstance(event, Waiting):
                yield tuple(new)
                new = []
        yield tuple(new)

    def _embed(self, ask: EmbeddingRequest) -> Generator[Any]:
        from engine.evaluate.features import mean_hidden  # for who asks: evaluation is not for every server

        with ExitStack() as used:
            (model,) = yield from self._ready((ask.model,), used, ask.control)
            rows, tokens = [], 0
            for prompt in ask.texts:
                ids = model.ids(prompt, "input")
                rows.append(tuple(mean_hidden(model.session, ids, ask.layer).tolist()))
                tokens += len(ids)
                yield ()
                if ask.control.cancelled:
                    return
            yield Embedded(tuple(rows), tokens)

    # -- models ------------------------------------------------------------------------------------------------------

    def _ready(
        self,
        names: Sequence[str],
        used: ExitStack,
        control: RunControl | None = None,
        adapter: tuple[str, float] | None = None,
    ) -> Generator[Any, None, list[ServedModel]]:
        """The models of these names, in use until `used` is closed, the first with its adapter and the others without.

        Who has to wait, for room or for those who draw with another adapter, has all who come later wait behind: else
        they might go on for ever.
        """
        known = self._names()
        names = [name or known[0] for name in names]
        for name in names:
            if name not in known:
                line = f"there is no model {name[:80]!r} here: {', '.join(known)}"
                raise RequestRefused(line, "model", 404, "model_not_found")
        place = object()
        self._queue.append(place)
        try:
            while self._queue[0] is not place or (found := self._claimed(names, adapter)) is None:
                yield None
                if control is not None and control.cancelled:
                    raise RequestRefused("the client went away")
        finally:
            self._queue.remove(place)
        for model in found:
            used.enter_context(model.used())
        return found

    def _claimed(self, names: Sequence[str], adapter: tuple[str, float] | None) -> list[ServedModel] | None:
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
                self.models[name] = self._opened(name)
            self.models[name] = self.models.pop(name)
            if self.models[name].adapter != wanted[name]:
                self._adapt(self.models[name], wanted[name])
        self._leave(self._budget + 1, wanted)
        return [self.models[name] for name in names]

    def _opened(self, name: str) -> ServedModel:
        session = self._open(name)
        session.reload = False  # a batch is of one model
        joins = session.model.make_cache().joins and not any(rope.rope.varies for rope in session.model.rotations)
        batch = ContinuousBatch(session.model, session.pool.step.hidden)
        return ServedModel(session, session.facts, batch, joins)

    def _leave(self, below: int, wanted: Collection[str]) -> None:
        """Idle models leave until the others take fewer bytes than this."""
        for name in [name for name, model in self.models.items() if not model.running and name not in wanted]:
            if self._held() < below:
                return
            self.models.pop(name).session.forget()

    def _held(self) -> int:
        return sum(model.facts.nbytes for model in self.models.values())

    def _adapt(self, model: ServedModel, adapter: tuple[str, float] | None) -> None:
        """Have one adapter on a model that nobody draws from, or none."""
        session: Any = model.session
        if model.adapter is not None:
            session.adapt("remove", model.adapter[0], 0.0)
            model.adapter = None
        if adapter is not None:
            session.adapt("add", self._adapters[adapter[0]], adapter[1])
        model.adapter = adapter
        model.joins = session.model.make_cache().joins
