"""Executor of a server's requests: texts that are drawn in one batch, from models loaded when they are asked for.

A request's job yields tuples of the engine's events, one a turn. A plain one joins the batch of its model, and the turn
of whichever comes first does a pass for all; other strategies take turns as in a chat. Models stand within a budget of
bytes, and the least recently used one leaves when it is idle. Runs in a worker's thread; knows no protocol.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from app import requests as r
from app.serve.asks import AnswerOpened, AnswerRequest, Embedded, EmbeddingRequest, RequestRefused
from app.worker import Tell
from engine.decode.batch import ContinuousBatch
from engine.decode.events import Event, Waiting
from engine.decode.strategies import PLAIN
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

    def execute(self, request: Any, tell: Tell) -> Iterator[Any]:
        match request:
            case AnswerRequest():
                yield from self._answer(request)
            case EmbeddingRequest():
                yield from self._embed(request)
            case r.Load(name):
                model = yield from self._ready(name)
                yield r.Loaded(model.facts)

    def close(self) -> None:
        for model in self.models.values():
            model.session.forget()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _answer(self, ask: AnswerRequest) -> Generator[Any]:
        model = yield from self._ready(ask.model)
        while model.adapter != ask.adapter and model.running and not ask.control.cancelled:
            yield None  # what is on a model is on it for all: the others end first
        others = {}
        for name in ask.strategy.needs:
            others[name] = (yield from self._ready(name, keep=model)).session
        if model.adapter != ask.adapter:
            self._adapt(model, ask.adapter)
        with model.used():
            yield from self._drawn(ask, model, others)

    def _drawn(self, ask: AnswerRequest, model: ServedModel, others: dict[str, Any]) -> Generator[Any]:
        session, control = model.session, ask.control
        tokenizer = session.tokenizer
        if tokenizer.chat_template is None and (ask.prompt.options or ask.prompt.tools):
            name = "tools" if ask.prompt.tools else "chat_template_kwargs"
            raise RequestRefused(f"{name}: {model.facts.name} has no chat template that could read it", name)
        ids = ask.prompt.ids(tokenizer)
        if any(token >= tokenizer.vocab_size for token in ids):
            raise RequestRefused(f"prompt: ids of tokens are below {tokenizer.vocab_size}, got {max(ids)}", "prompt")
        biased = [token for t in control.recipe.transforms if isinstance(t, LogitBias) for token in dict(t.bias)]
        if max(biased, default=0) >= tokenizer.vocab_size:
            raise RequestRefused(f"logit_bias: there is no token {max(biased)}", "logit_bias")
        if ask.constraint is not None:
            bound = Constraint(*ask.constraint, len(ids))
            control.recipe = replace(control.recipe, transforms=(bound, *control.recipe.transforms))
        yield AnswerOpened(model.facts, len(ids), tokenizer.decode(ids[-8:]).rstrip().endswith(THINK))
        if ask.shown.echo:
            yield r.Scored(tuple(session.score(ids)))
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
            if batch is None or isinstance(event, Waiting) or not batch.slots:
                yield tuple(new)
                new = []
        yield tuple(new)

    def _embed(self, ask: EmbeddingRequest) -> Generator[Any]:
        from engine.evaluate.features import mean_hidden  # for who asks: evaluation is not for every server

        model = yield from self._ready(ask.model)
        with model.used():
            rows, tokens = [], 0
            for prompt in ask.texts:
                ids = prompt.ids(model.session.tokenizer)
                rows.append(tuple(mean_hidden(model.session, ids, ask.layer).tolist()))
                tokens += len(ids)
                yield ()
                if ask.control.cancelled:
                    return
            yield Embedded(tuple(rows), tokens)

    # -- models ------------------------------------------------------------------------------------------------------

    def _ready(self, name: str, keep: ServedModel | None = None) -> Generator[Any, None, ServedModel]:
        """The model of a name, the first that may be asked for where none is said; waits where others must leave."""
        names = self._names()
        if not name and names:
            name = next(reversed(self.models), names[0])
        if name not in names:
            known = ", ".join(names)
            raise RequestRefused(f"there is no model {name[:80]!r} here: {known}", "model", 404, "model_not_found")
        while name not in self.models and self.models and self._held() >= self._budget:
            idle = next((n for n, m in self.models.items() if not m.running and m is not keep), None)
            if idle is None:
                yield None
                continue
            self.models.pop(idle).session.forget()
        if name not in self.models:
            session = self._open(name)
            session.reload = False  # a batch is of one model
            joins = session.model.make_cache().joins and not any(rope.rope.varies for rope in session.model.rotations)
            batch = ContinuousBatch(session.model, session.pool.step.hidden)
            self.models[name] = ServedModel(session, session.facts, batch, joins)
        self.models[name] = self.models.pop(name)
        return self.models[name]

    def _held(self) -> int:
        return sum(model.facts.nbytes for model in self.models.values())

    def _adapt(self, model: ServedModel, adapter: tuple[str, float] | None) -> None:
        """Have one adapter on a model that nobody draws from, or none."""
        session: Any = model.session
        if adapter is not None and adapter[0] not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise RequestRefused(f"there is no adapter {adapter[0][:80]!r} here: {known}", "likely.adapter", 404)
        if model.adapter is not None:
            session.adapt("remove", model.adapter[0], 0.0)
            model.adapter = None
        if adapter is not None:
            session.adapt("add", self._adapters[adapter[0]], adapter[1])
        model.adapter = adapter
        model.joins = session.model.make_cache().joins
