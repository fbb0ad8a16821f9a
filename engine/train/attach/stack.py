"""Stack of adapters on a loaded model, put on, weighed, switched and taken off between two answers.

The model is never loaded again and never copied: without adapters its products are the very ones it was loaded with,
so its logits are the base's bit for bit. What was read under other adapters or weights is never used again: the session
forgets it, and the prefixes it keeps are named by what is on the model.

    stack = stack_of(session)
    stack.add("my-adapter")                        # beside those that are there
    stack.add("another", weight=0.5, name="style")
    stack.weigh("style", 0.8)
    stack.only("my-adapter")                       # the others stay loaded, with weight 0
    stack.remove("style"); stack.clear()
    stack.attached                                 # plain data, for a screen

Belongs to the thread that owns the session. A change in the middle of an answer holds from its next token on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.base.files import artifacts
from likely.engine.decode.session import Session
from likely.engine.inside import steering
from likely.engine.inside.subject import transformer
from likely.engine.train.posterior import stored as stored_posterior
from likely.engine.train.posterior.averaged import AveragedModel
from likely.engine.train.posterior.posterior import Posterior
from likely.engine.weights.adapters import adapters, lora
from likely.engine.weights.adapters.attached import AdapterChange, Attached
from likely.engine.weights.adapters.stored import digest
from likely.metal import mx
from likely.models.native_path.native import as_graph, renew
from likely.models.transformer import Transformer

LARGEST = 10.0  # a weight past this is a slip of the finger


@dataclass
class _Entry:
    shown: Attached
    adapter: "lora.Adapter | _Steering"
    digest: str  # of its files
    posterior: Posterior | None = None


@dataclass
class _Steering:
    """A direction of the residual stream, on the model or off it."""

    model: Transformer
    direction: steering.Direction
    on: steering.SteeredBlock | None = None

    def weigh(self, weight: float) -> None:
        if self.on is not None and weight:
            self.on.weight = weight
        elif self.on is not None:
            steering.detach(self.model, self.direction.layer, self.on)
            self.on = None
        elif weight:
            self.on = steering.attach(self.model, self.direction, weight)


class Stack:
    """The adapters of one session's model, in the order in which they were added."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._entries: dict[str, _Entry] = {}

    @property
    def attached(self) -> tuple[Attached, ...]:
        """The adapters in their order, those with weight 0 included."""
        return tuple(entry.shown for entry in self._entries.values())

    def shift(self, ids: Sequence[int]) -> float:
        """KL(as it is now || without any adapter) of the next token, the mean over the text's last positions, nats.

        ParameterError for a model whose layers are not ours.
        """
        transformer(self.session)  # or it says why not
        moved = steering.next_logprobs(self.session.model, ids)
        felt = {name: entry.shown.weight for name, entry in self._entries.items() if entry.shown.weight}
        try:
            for name in felt:
                self._set(self._entries[name], 0.0)
            renew(self.session.model)
            plain = steering.next_logprobs(self.session.model, ids)
        finally:
            for name, weight in felt.items():
                self._set(self._entries[name], weight)
            renew(self.session.model)
        return float(mx.mean(arrays.kl(moved, plain, mx)))

    @property
    def identity(self) -> str:
        """A hash of what the model computes beside the base: "" where that is nothing."""
        felt = [f"{e.digest} {e.shown.weight!r}" for e in self._entries.values() if e.shown.weight]
        return hashlib.sha256("\n".join(felt).encode()).hexdigest()[:32] if felt else ""

    def add(self, folder: str | Path, weight: float = 1.0, name: str = "") -> Attached:
        """Put an adapter's directory (mlx-lm's, PEFT's, a direction's) on the model; `name`: the folder's if left out.

        CheckpointError for an adapter that is damaged or for another model, with the model as it was; ParameterError
        for a name that is taken, a DoRA adapter on the sites of another, whole weights, and a weight out of range.
        """
        folder = artifacts.place(folder)
        name = name or artifacts.called(folder)
        self.check_name(name)
        _check(weight)
        if steering.is_direction(folder):
            return self._steer(folder, weight, name)
        stored = adapters.read(folder)
        if stored.kind == "full":
            raise ParameterError(f"{folder} holds whole weights, not an adapter: load it as a model of its own")
        adapter = adapters.build(self.session.model, stored, str(folder))
        assert isinstance(adapter, lora.Adapter)
        factors, files = list(adapter.factors.values()), digest(folder)
        posterior = self._posterior(folder, adapter, files)
        shown = Attached(
            name=name,
            folder=folder,
            weight=weight,
            kind=stored.kind,
            rank=max(f.rank for f in factors),
            scale=stored.scale,
            modules=tuple(dict.fromkeys(f.site.name for f in factors)),
            parameters=sum(p.size for p in adapter.parameters().values()),
            trained_on=stored.model,
            posterior="" if posterior is None else posterior.KIND,
        )
        if stored.kind == "dora" and weight not in (0, 1):
            raise ParameterError(f"a DoRA adapter is on or off: its weight must be 0 or 1, got {weight:g}")
        self._entries[name] = _Entry(shown, adapter, files, posterior)
        if weight:
            try:
                lora.attach(adapter, weight=weight)
            except ParameterError:
                del self._entries[name]
                raise
        self._tell()
        return shown

    def _posterior(self, folder: Path, adapter: lora.Adapter, files: str) -> Posterior | None:
        """The posterior beside an adapter, where there is one; CheckpointError where it is not this one's."""
        if not stored_posterior.has(folder):
            return None
        shapes = {name: array.shape for name, array in adapter.parameters().items()}
        return stored_posterior.read(folder, shapes, adapter=files, base=self.session.info.weights)[0]

    def averaged(self, samples: int) -> AveragedModel:
        """The model that is the mean over samples of the posterior of the adapter that has one (0: as many as may be).

        ParameterError where none has one, or several have, and for a number of samples that cannot be.
        """
        felt = [e for e in self._entries.values() if e.shown.weight and e.posterior is not None]
        if len(felt) != 1:
            why = (
                f"{felt[0].shown.name} and {felt[1].shown.name} have one each: take one off" if felt else "none has one"
            )
            raise ParameterError(f"a posterior is that of one adapter on the model, and {why}")
        entry, model = felt[0], as_graph(self.session.model)
        assert model is not None and entry.posterior is not None and isinstance(entry.adapter, lora.Adapter)
        return AveragedModel(model, entry.adapter, entry.posterior, samples=samples)

    def check_name(self, name: str) -> None:
        """ParameterError for a name that is taken."""
        if name in self._entries:
            raise ParameterError(f"an adapter called {name} is on the model already: remove it, or give another name")

    def _steer(self, folder: Path, weight: float, name: str) -> Attached:
        """Put a direction on the model (`engine.inside.steering`)."""
        model, direction = as_graph(self.session.model), steering.read(folder)
        if model is None:
            raise ParameterError(f"{self.session.info.name} cannot be steered: its layers are not likely's own")
        entry = _Steering(model, direction)
        entry.weigh(weight)
        size = direction.vector.size
        layer = (f"layers.{direction.layer}",)
        shown = Attached(name, folder, weight, "steering", 1, 1.0, layer, size, direction.model)
        self._entries[name] = _Entry(shown, entry, digest(folder, (steering.CONFIG, steering.VECTOR)))
        self._tell()
        return shown

    def change(self, change: AdapterChange, what: str, weight: float = 1.0) -> None:
        """Add the adapter in a folder, or weigh, switch to or remove the one of this name. Errors as of these."""
        match change:
            case "add":
                self.add(what, weight)
            case "weigh":
                self.weigh(what, weight)
            case "only":
                self.only(what, weight)
            case "remove":
                self.remove(what)

    def weigh(self, name: str, weight: float) -> None:
        """Let so much of an adapter's change count; 0 takes it off and keeps it loaded."""
        self._weigh({name: weight})

    def only(self, name: str, weight: float = 1.0) -> None:
        """Switch to this adapter: the others keep their place with weight 0."""
        self._entry(name)
        self._weigh({other: weight if other == name else 0.0 for other in self._entries})

    def remove(self, name: str) -> None:
        """Take an adapter off and forget it."""
        entry = self._entry(name)
        if entry.shown.weight:
            self._set(entry, 0.0)
        del self._entries[name]
        self._tell()

    def clear(self) -> None:
        """Take every adapter off and forget it: the model is the base."""
        for name in list(self._entries):
            self.remove(name)

    def _weigh(self, weights: dict[str, float]) -> None:
        for name, weight in weights.items():
            entry = self._entry(name)
            _check(weight)
            if entry.shown.kind == "dora" and weight not in (0, 1):
                raise ParameterError(f"a DoRA adapter is on or off: its weight must be 0 or 1, got {weight:g}")
        before = {name: self._entries[name].shown.weight for name in weights}
        try:
            # off first: what stands alone (DoRA) may take the place of what leaves
            for name, weight in sorted(weights.items(), key=lambda item: item[1] != 0):
                self._set(self._entries[name], weight)
        except ParameterError:
            for name, weight in sorted(before.items(), key=lambda item: item[1] != 0):
                self._set(self._entries[name], weight)
            raise
        finally:
            self._tell()

    def _set(self, entry: _Entry, weight: float) -> None:
        was = entry.shown.weight
        if isinstance(entry.adapter, _Steering):
            entry.adapter.weigh(weight)
        elif was and weight:
            lora.rescale(entry.adapter, weight)
        elif was:
            lora.detach(entry.adapter)
        elif weight:
            lora.attach(entry.adapter, weight=weight)
        entry.shown = replace(entry.shown, weight=weight)

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            known = ", ".join(self._entries) or "none"
            raise ParameterError(f"no adapter called {name} is on the model; there: {known}")
        return self._entries[name]

    def _tell(self) -> None:
        renew(self.session.model)
        felt = [entry for entry in self._entries.values() if entry.shown.weight]
        names = (f"{e.shown.name}={e.shown.weight:g} {e.digest[:16]}" for e in felt)
        uncertain = any(entry.posterior is not None for entry in felt)
        self.session.changed(self.identity, tuple(names), self.averaged if uncertain else None)


_STACKS: WeakKeyDictionary[Session, Stack] = WeakKeyDictionary()


def stack_of(session: Session) -> Stack:
    """The one stack of a session, empty at first: whoever changes its adapters changes the same."""
    return _STACKS.setdefault(session, Stack(session))


def _check(weight: float) -> None:
    if not -LARGEST <= weight <= LARGEST:  # NaN too
        raise ParameterError(f"an adapter's weight must be {-LARGEST:g} to {LARGEST:g}, got {weight:g}")
