"""The screens' client of the engine worker: jobs with those who hear of them, the loaded models, the current one.

No widgets: what follows from a job for the screens goes to a `Listener`.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Protocol

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Closed, Failed, Worker
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt
from likely.engine.weights.adapters.attached import AdapterChange, Attached

Handler = Callable[[int, list[Any]], None]  # a job's id, and its events since the last time


class Listener(Protocol):
    """The screens, as far as models concern all of them."""

    def say(self, line: str, alarm: bool = False) -> None: ...
    def models_changed(self) -> None:
        """A model is loading, loaded or gone."""
        ...

    def model_known(self, facts: r.ModelFacts) -> None:
        """A model was loaded, for whatever use."""
        ...

    def models_offered(self, offers: Sequence[r.ModelOffer]) -> None:
        """There is no model on this machine; these could be had."""
        ...

    def models_in_use(self) -> set[str]:
        """Those that have to stay loaded, beside the current one."""
        ...

    def adapters_changed(self) -> None: ...


class EngineClient:
    """Submits requests, hands their events to handlers, and knows what is loaded."""

    def __init__(
        self,
        worker: Worker,
        listener: Listener,
        busy: Callable[[], None],
        adapters: Sequence[tuple[str, float]] = (),
    ) -> None:
        """`busy` is called when there is something to drain for. `adapters` (directory, weight) are put on the first
        model that becomes current."""
        self.worker = worker
        self.models: dict[str, r.ModelFacts] = {}
        self.current: r.ModelFacts | None = None
        self.adapters: dict[str, tuple[Attached, ...]] = {}  # by model
        self.loading: r.Progressed | None = None  # of the model that will be the current one
        self.handlers: dict[int, Handler] = {}  # by job
        self._listener, self._busy = listener, busy
        self._load: tuple[int, RunControl] | None = None
        self._to_attach = tuple(adapters)

    # -- jobs --------------------------------------------------------------------------------------------------------

    def submit(self, request: r.ModelRequest, handler: Handler | None = None) -> int:
        """Have a request done; its events go to `handler`, as many at once as have come by the next `drain`."""
        job = self.worker.submit(request)
        if handler is not None:
            self.handlers[job] = handler
            self._busy()
        return job

    def drain(self) -> bool:
        """Hand every event to its handler; gives whether more is to come."""
        for job, group in groupby(self.worker.drain(), key=lambda reported: reported[0]):
            events = [event for _, event in group]
            handler = self.handlers.get(job)
            if isinstance(events[-1], Closed):
                events.pop()
                self.handlers.pop(job, None)
            if handler is not None and events:
                handler(job, events)
        return bool(self.handlers)

    # -- models ------------------------------------------------------------------------------------------------------

    def load(self, name: str, prefer: Sequence[str] = (), adapters: Sequence[tuple[str, float]] | None = None) -> None:
        """Make a model ready, and the current one: `name`, else one of `prefer` that is here, else any that is."""
        if adapters is not None:
            self._to_attach = tuple(adapters)
        if self._load is not None:
            self._load[1].cancel()
        control = RunControl()
        self.loading = r.Progressed(name, "loading")
        self._load = self.submit(r.Load(name, tuple(prefer), control), self._loaded), control
        self._listener.models_changed()

    def stop_loading(self) -> bool:
        """Break off a download; gives whether there was one. What came of it is there when it is asked for again."""
        if self.loading is None or self._load is None or not self.loading.total:
            return False
        self._load[1].cancel()
        return True

    def unload(self, name: str) -> None:
        """Let a model go."""
        self.models.pop(name, None)
        self.adapters.pop(name, None)
        if self.current is not None and self.current.name == name:
            self.current = None
        self.submit(r.Unload(name))

    def release(self) -> None:
        """Free the models that no screen uses: memory holds one, unless a comparison needs more."""
        used = self._listener.models_in_use() | ({self.loading.model} if self.loading is not None else set())
        for name in [name for name in self.models if name not in used and self.models[name] is not self.current]:
            self.unload(name)

    def adopt(self, facts: r.ModelFacts) -> None:
        """Know a model that was loaded."""
        self.models[facts.name] = facts
        self._listener.model_known(facts)

    def _loaded(self, job: int, events: list[Any]) -> None:
        wanted = self._load is not None and self._load[0] == job  # else another was asked for meanwhile
        for event in events:
            match event:
                case r.Loaded(facts):
                    self.adopt(facts)
                    if wanted:
                        self.loading, self.current = None, facts
                        self.release()
                        if facts.warning:
                            self._listener.say(facts.warning, alarm=True)
                        to_attach, self._to_attach = self._to_attach, ()
                        for folder, weight in to_attach:
                            self.adapt("add", folder, weight)
                case r.Progressed() if wanted:
                    self.loading = event
                case r.Offered(offers) if wanted:
                    self.loading = None
                    self._listener.models_offered(offers)
                case Failed(line) if wanted:
                    self.loading = None
                    self._listener.say(line, alarm=True)
        self._listener.models_changed()

    # -- adapters ----------------------------------------------------------------------------------------------------

    @property
    def attached(self) -> tuple[Attached, ...]:
        """The adapters on the current model."""
        return self.adapters.get(self.current.name, ()) if self.current is not None else ()

    def adapt(
        self,
        change: AdapterChange,
        what: str,
        weight: float = 1.0,
        heard: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Change the adapters on the current model, from its next token on. `heard` is told why not, or ""."""
        if self.current is None:
            self._listener.say("an adapter wants a model: /model chooses one", alarm=True)
        else:
            request = call(calls.adapt, self.current.name, change, what, weight)
            self.submit(request, lambda _, events: self._adapted(request.model, events, heard))

    def put_on(self, adapters: Sequence[tuple[str, float]]) -> None:
        """Have these adapters (directory, weight) on the current model, and no others."""
        for other in self.attached:
            self.adapt("remove", other.name)
        for folder, weight in adapters:
            self.adapt("add", folder, weight)

    def steer(self, name: str, toward: Sequence[str], away: Sequence[str], layer: int | None) -> None:
        """Put a direction between texts on the current model, from its next token on."""
        if self.current is None:
            self._listener.say("a direction wants a model: /model chooses one", alarm=True)
            return
        to, off = (tuple(Prompt(parts=(text,)) for text in side) for side in (toward, away))
        request = call(calls.steer, self.current.name, name, to, off, layer)
        self.submit(request, lambda _, events: self._adapted(request.model, events, lambda _: None))

    def _adapted(self, model: str, events: list[Any], heard: Callable[[str], None]) -> None:
        for event in events:
            if isinstance(event, Failed):
                self._listener.say(event.line, alarm=True)
                heard(event.line)
            else:
                self.adapters[model] = event
                words = [f"{adapter.name} {adapter.weight:g}" for adapter in event]
                self._listener.say(f"adapters: {', '.join(words)}" if words else "no adapter: the model as it came")
                self._listener.adapters_changed()
                heard("")
