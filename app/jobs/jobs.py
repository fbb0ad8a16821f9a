"""Jobs of an engine worker: how a request becomes an iterator of events, for models and for a training.

Several generations take turns, an event each, and each counts its own time. The models and the trainer come from
outside (`ModelProvider`, `Trainer`): nothing here imports mlx.
"""

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from likely.app.jobs import requests as r
from likely.app.jobs.calls import Engine, ids_of
from likely.app.jobs.worker import WORKED, Tell, worked
from likely.engine.base.errors import CheckpointError, Interrupted, LikelyError
from likely.engine.decode.loop.events import Done, Emitted, Waiting
from likely.engine.decode.sampled.budget import Budget
from likely.engine.sampling.thinking import with_thought, without_thought
from likely.engine.train.control import Answer, Compare, Complete, Paused, TrainControl, TrainingPlan
from likely.engine.train.control import Event as TrainEvent

if TYPE_CHECKING:
    from likely.app.results.training_kind import TrainingConfig
    from likely.engine.weights.sources.fetch.progress import Report


class ModelProvider(Protocol):
    """Opens models by name and lists those that can be opened."""

    def choose(self, prefer: Sequence[str]) -> str:
        """The first of `prefer` that is on this machine, else any model that is; "" where there is none."""
        ...

    def opening(self, model: str, progress: "Report") -> Generator[Any, None, Engine]:
        """Open a model in pieces: yields None after a piece that waited; the generator returns the model."""
        ...

    def offers(self) -> Sequence[r.ModelOffer]: ...


class Trainer(Protocol):
    """A training run; used by one thread only. Everything it gives is plain Python."""

    def open(self, config: "TrainingConfig", resume: bool, progress: "Report") -> TrainingPlan: ...
    def foretell(self, config: "TrainingConfig", progress: "Report") -> Sequence[str]:
        """Cost of a run in lines, the most wanted first; nothing is fetched for it and nothing written."""
        ...

    def train(self, control: TrainControl) -> Iterator[TrainEvent | Answer]:
        """Train on from where the run is, with samples between; may be called again after it has ended or raised."""
        ...

    def answer(self, request: Complete | Compare) -> Answer:
        """Answer by the model's present weights, between two steps or after the run."""
        ...


class ModelJobs:
    """The executor of `ModelRequest`s: the models that are loaded, by name."""

    def __init__(self, provider: ModelProvider) -> None:
        self.provider = provider
        self.engines: dict[str, Engine] = {}
        self._loading: set[str] = set()  # models that come in pieces: whoever asks for one waits

    def execute(self, request: r.ModelRequest, tell: Tell) -> Iterator[Any]:
        match request:
            case r.Load():
                yield (yield from self._load(request, tell))
            case r.Unload(name):
                while name in self._loading:
                    yield None
                self._unload(name)
            case r.Generate():
                yield from self._generate(request)
            case r.Call(model, function, args, options):
                yield from self._call((model,), lambda engines: function(*engines, *args, **options))
            case r.JointCall(models, function, args):
                yield from self._call(models, lambda engines: function(engines, *args))
            case r.Offer():
                yield r.Offered(tuple(self.provider.offers()))

    def close(self) -> None:
        for engine in self.engines.values():
            engine.close()

    def _load(self, request: r.Load, tell: Tell) -> Generator[Any, None, r.Loaded | r.Offered]:
        name = request.model or self.provider.choose(request.prefer)
        if not name:
            return r.Offered(tuple(self.provider.offers()))

        def progress(stage: str, done: int = 0, total: int = 0) -> None:
            if request.control.cancelled:
                raise LikelyError(f"{name} was not loaded: it was stopped")
            tell(r.Progressed(name, stage, done, total))

        while name in self._loading:
            yield None
        engine = self.engines.get(name)
        if engine is None:
            self._loading.add(name)
            try:
                engine = yield from worked(self.provider.opening(name, progress))
            except CheckpointError:
                if not (meant := self._begun(name)):
                    raise
            finally:
                self._loading.remove(name)
            if engine is None:
                return (yield from self._load(replace(request, model=meant), tell))
            self.engines[engine.facts.name] = engine
            gc.collect()
            gc.freeze()  # the weights' Python objects live until the end: leave them out of every later collection
        return r.Loaded(engine.facts)

    def _begun(self, name: str) -> str:
        """The one model that is here and whose name begins so, "" for none; CheckpointError for several."""
        matches = [offer.name for offer in self.provider.offers() if offer.here and offer.name.startswith(name)]
        if len(matches) > 1 and name not in matches:
            raise CheckpointError(f"{name} is the beginning of several names: {', '.join(matches)}; write one of them")
        return matches[0] if len(matches) == 1 and matches[0] != name else ""

    def _unload(self, name: str) -> None:
        gone = self.engines.pop(name, None)
        if gone is not None:
            gone.close()
            gc.unfreeze()
            gc.collect()

    def _generate(self, request: r.Generate) -> Iterator[Any]:
        engine = yield from self._engine(request.model)
        if request.force:
            request.control.force(engine.tokenizer.encode(request.force))
        ids = yield from ids_of(engine, request.prompt)
        strategy = request.strategy.bind(self.engines, engine.tokenizer)
        if request.form is not None:
            head, own, mark = ids[: len(ids) - request.own], ids[len(ids) - request.own :], ""
            if request.prompt.thinking or isinstance(strategy, Budget):
                head, mark = with_thought(head, engine.tokenizer)
            elif not own:
                head = without_thought(head, engine.tokenizer)
            ids = [*head, *own]
            binding = engine.binding(ids, request.form, strategy, request.own, mark)
            request.control.binds = yield from worked(binding)
        events = engine.generate(
            ids,
            request.control,
            n=request.n,
            seed=request.seed,
            max_tokens=request.max_tokens,
            stop=request.stop,
            strategy=strategy,
        )
        yield r.Began(tuple(ids))
        spent_s, done = 0.0, False
        while self.engines.get(request.model) is engine:
            if request.control.paused:
                yield None
                continue
            began = perf_counter()
            event = next(events, None)
            spent_s += perf_counter() - began
            if event is None:
                if not done:
                    raise RuntimeError("a run ended without saying why")
                return
            if isinstance(event, Emitted):  # with the seconds that were this run's own: several take turns
                event = replace(event, step=replace(event.step, elapsed_s=spent_s))
            elif isinstance(event, Done):
                yield r.Cached(engine.cache_nbytes)
                done = True
            yield WORKED if isinstance(event, Waiting) else event
        raise LikelyError(f"{request.model} was unloaded")

    def _call(self, models: Sequence[str], function: Callable[[Sequence[Engine]], Any]) -> Iterator[Any]:
        """The events of a call; LikelyError once a model is another one or gone."""
        engines: list[Engine] = []
        for model in models:
            engines += [(yield from self._engine(model))]
        result = function(engines)
        if not isinstance(result, Iterator):
            yield result
            return
        for event in result:
            yield event
            for model, engine in zip(models, engines, strict=True):
                if self.engines.get(model) is not engine:
                    raise LikelyError(f"{model} was unloaded")

    def _engine(self, name: str) -> Generator[None, None, Engine]:
        while name in self._loading:
            yield None
        if name not in self.engines:
            raise LikelyError(f"{name or 'no model'} is not loaded: choose a model first")
        return self.engines[name]


class TrainingJobs:
    """The executor of one run: it trains, and its model answers what is asked between two steps, or afterwards."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def execute(self, request: r.Train | r.TrainOn | r.Foretell | Complete | Compare, tell: Tell) -> Iterator[Any]:
        match request:
            case r.Foretell(config, control):
                yield tuple(self.trainer.foretell(config, _report(config, control, tell)))
            case r.Train(config, resume, control):
                progress = _report(config, control, tell)
                plan = self.trainer.open(config, resume, progress)
                progress("training", 0, 0)
                yield plan
                yield from self._train(control)
            case r.TrainOn(control):
                yield from self._train(control)
            case Complete() | Compare():
                yield self.trainer.answer(request)

    def close(self) -> None:
        """Does nothing: a run has closed its files when it ends."""

    def _train(self, control: TrainControl) -> Iterator[TrainEvent | Answer | None]:
        for event in self.trainer.train(control):
            yield event
            while isinstance(event, Paused) and control.waiting:
                yield None


def _report(config: "TrainingConfig", control: TrainControl, tell: Tell) -> "Report":
    """Tell how far the opening of a run is, which ends there where the run was stopped."""

    def progress(stage: str, done: int, total: int) -> None:
        if control.stopped:
            raise Interrupted("the run was stopped before it began")
        tell(r.Progressed(config.out, stage, done, total))

    return progress
