"""A run on disk: everything that a resumed one needs to give the same weights, in one file that lands whole.

One safetensors file holds the parameters, the optimiser's state and, as JSON in its metadata, the counters; of a run
that has ended no copy of what the adapter's file beside it holds. The order of the data and dropout are functions of
the seed and the step, so there is no random state to keep.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.options import typed
from likely.engine.train import saved_options
from likely.engine.train.run import optimizers
from likely.engine.train.run.optimizers import ParameterGroup
from likely.engine.weights.adapters.config import HINTS, RENAMED, Config
from likely.engine.weights.adapters.stored import WEIGHTS, write_arrays
from likely.engine.weights.sources import array_file
from likely.metal import mx

FILE = saved_options.STATE
# what may differ between a run and its resumption: where things are, how long and how often
FREE = ("out", "data", "steps", "epochs", "eval_every", "eval_rows", "save_every", "patience", "tensorboard", "kl_data",
        "test", "verdict", "keep_state", "eval_answers", "timeout", "expert")  # fmt: skip

CHOSEN = ("batch", "packing")  # together, by the data, where no batch is asked for


@dataclass
class Counters:
    """How far a run has come. `best` is the lowest validation loss, nats."""

    step: int = 0
    batch: int = 0  # batches taken
    tokens: int = 0  # trained so far
    smooth: float | None = None  # running mean of the loss
    lowest: float | None = None  # the least that was
    best: float | None = None
    best_step: int = 0
    waited: int = 0  # validations since
    elapsed_s: float = 0.0
    begun: int = 0  # the step after which the optimiser began: 0, unless its state went when the run ended
    signal: float = 0.0  # running means for the gradient's noise scale: |G|^2, and the trace of its covariance
    noise: float = 0.0


# what stands beside the arrays
FACTS = {
    "counters": {f"{f.name}?": get_args(f.type) or f.type for f in fields(Counters)},
    "config": dict,
    "data": str,
    "steps": int,
    "ended?": bool,  # whether the optimiser's state went, as the run had ended
    "beside?": bool,  # whether parameters that are not here are in the adapter's file
}


@dataclass
class State:
    """Parameters, optimiser and counters; of a run that has `ended` and kept no more, without its optimiser."""

    parameters: dict[str, mx.array]
    optimiser: dict[str, dict[str, mx.array]]
    counters: Counters
    ended: bool = False
    beside: frozenset[str] = frozenset()  # parameters that the adapter's file holds


def save(folder: Path, state: State, config: Config, data: str, steps: int) -> None:
    """Write the state; DataError where the disk is full, with the state before it untouched."""
    arrays = {f"parameter/{name}": a for name, a in state.parameters.items() if name not in state.beside}
    optimiser = {} if state.ended else state.optimiser
    arrays |= {f"{key}/{name}": a for name, slots in optimiser.items() for key, a in slots.items()}
    facts = {"counters": asdict(state.counters), "config": asdict(config), "data": data, "steps": steps}
    facts |= {"ended": state.ended, "beside": bool(state.beside)}
    write_arrays(folder / FILE, arrays, {"likely": json.dumps(facts)})


def stamp(folder: Path) -> tuple[int, int, int] | None:
    """Identity of the state that lies in a folder: another one has another; None where there is none."""
    try:
        stat = (folder / FILE).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def load(folder: Path, config: Config, data: str) -> tuple[State, int, Config]:
    """The state, how many steps the run was to have, and the options with what the run had chosen by its data.

    CheckpointError where there is none; DataError where options or data are not those it was written with.
    """
    path = folder / FILE
    if not path.exists():
        raise CheckpointError(f"{folder} has no run to resume: expected {FILE}")
    arrays, metadata = array_file.read(path)
    try:
        facts = foreign_json.parse(metadata.get("likely", ""), FACTS)
        counters = Counters(**facts["counters"])
        if min(getattr(counters, f.name) or 0 for f in fields(counters) if f.type is int) < 0 or facts["steps"] < 1:
            raise ValueError("a count below 0")
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} does not say how far the run had come: {error}") from error
    then = {RENAMED.get(name, name): value for name, value in facts["config"].items()}
    _same(folder, then, config)
    if facts["data"] != data:
        raise DataError(f"{folder} was trained on other rows than these: resume with the data it began with")
    parameters: dict[str, mx.array] = {}
    optimiser: dict[str, dict[str, mx.array]] = {}
    for key, array in arrays.items():
        kind, _, name = key.partition("/")
        if kind == "parameter":
            parameters[name] = array
        else:
            optimiser.setdefault(name, {})[kind] = array
    beside = frozenset[str]()
    if facts.get("beside"):
        held, _ = array_file.read(folder / WEIGHTS)
        beside = frozenset(held.keys() - parameters.keys())
        parameters = {**held, **parameters}
    ended = bool(facts.get("ended"))
    if ended:
        counters.begun = counters.step
    return State(parameters, optimiser, counters, ended, beside), facts["steps"], _chosen(config, then)


def check(
    folder: Path, stored: State, parameters: Mapping[str, mx.array], groups: Mapping[str, ParameterGroup]
) -> None:
    """DataError where a state is not of these parameters, or holds NaN or infinity."""
    if set(stored.parameters) != set(parameters):
        raise DataError(f"{folder} is a run on another model: its parameters are not those of this one")
    still = {name: mx.zeros_like(array) for name, array in parameters.items()}
    # a step that nobody evaluates says which arrays the optimiser keeps
    after = optimizers.update(parameters, still, {}, groups, 1, 0.0)[1]
    wanted = {f"parameter {name}": array for name, array in parameters.items()}
    there = {f"parameter {name}": array for name, array in stored.parameters.items()}
    if stored.optimiser or (stored.counters.step and not stored.ended):
        wanted |= {f"{key} of {name}": array for name, slots in after.items() for key, array in slots.items()}
        there |= {f"{key} of {name}": array for name, slots in stored.optimiser.items() for key, array in slots.items()}
    for name in sorted({*wanted, *there}):
        sides = [None if array is None else (array.shape, array.dtype) for array in (there.get(name), wanted.get(name))]
        if sides[0] != sides[1]:
            shapes = ["nothing" if side is None else f"{side[1]} {list(side[0])}" for side in sides]
            raise DataError(
                f"{folder} is a run on another model, or damaged: {name} is {shapes[0]}, expected {shapes[1]}"
            )
    if not mx.all(mx.stack([mx.all(mx.isfinite(array)) for array in there.values()])):
        raise DataError(f"{folder} holds NaN or infinity: its state is damaged, begin again with another --out")


def _same(folder: Path, then: Mapping[str, Any], now: Config) -> None:
    free = (*FREE, *_open(now))
    for f in fields(now):
        value = getattr(now, f.name)
        before = then.get(f.name, f.default)  # a run of before the option existed did what its default does
        before = tuple(before) if isinstance(before, list) else before
        if f.name not in free and before != value:
            raise DataError(f"{folder} began with {f.name} = {before!r}, got {value!r}: resume with the same options")


def _open(now: Config) -> tuple[str, ...]:
    """Options that are chosen by the data, as they are not asked for, beside how long is trained."""
    open_ = {name: not getattr(now, name) for name in ("rate", "rank", "layers")}
    open_ |= {name: getattr(now, name) < 0 for name in ("rehearsal", "reword")}
    open_["packing"] = now.goal.drawn
    return (() if now.batch else CHOSEN) + tuple(name for name, left in open_.items() if left)


def _chosen(now: Config, then: Mapping[str, Any]) -> Config:
    names = (*_open(now), *(() if now.steps or now.epochs else ("steps", "epochs")))
    return replace(
        now, **{name: typed(name, then.get(name, getattr(now, name)), HINTS[name]) for name in names}
    ).checked()
