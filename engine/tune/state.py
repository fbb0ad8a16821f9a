"""A run on disk: everything that a resumed one needs to give the same weights, in one file that lands whole.

One safetensors file holds the parameters, the optimiser's state and, as JSON in its metadata, the counters. The order
of the data and dropout are functions of the seed and the step, so there is no random state to keep.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, DataError
from engine.sources import safetensors
from engine.tune.config import RENAMED, Config
from engine.tune.stored import write_arrays
from metal import mx

FILE = "state.safetensors"
# what may differ between a run and its resumption: where things are, how long and how often
FREE = ("out", "data", "steps", "epochs", "eval_every", "eval_rows", "save_every", "patience", "tensorboard", "kl_data")

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


@dataclass
class State:
    """Parameters, optimiser and counters."""

    parameters: dict[str, mx.array]
    optimiser: dict[str, dict[str, mx.array]]
    counters: Counters


def save(folder: Path, state: State, config: Config, data: str, steps: int) -> None:
    """Write the state; DataError where the disk is full, with the state before it untouched."""
    arrays = {f"parameter/{name}": a for name, a in state.parameters.items()}
    arrays |= {f"{key}/{name}": a for name, kept in state.optimiser.items() for key, a in kept.items()}
    facts = {"counters": asdict(state.counters), "config": asdict(config), "data": data, "steps": steps}
    write_arrays(folder / FILE, arrays, {"likely": json.dumps(facts)})


def load(folder: Path, config: Config, data: str) -> tuple[State, int, Config]:
    """The state, how many steps the run was to have, and the options with what the run had chosen by its data.

    CheckpointError where there is none; DataError where options or data are not those it was written with.
    """
    path = folder / FILE
    if not path.exists():
        raise CheckpointError(f"{folder} has no run to resume: expected {FILE}")
    safetensors.read_header(path)
    loaded: Any = mx.load(str(path), return_metadata=True)
    arrays, metadata = loaded
    facts: dict[str, Any] = json.loads(metadata["likely"])
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
    return State(parameters, optimiser, Counters(**facts["counters"])), int(facts["steps"]), _chosen(config, then)


def _same(folder: Path, then: Mapping[str, Any], now: Config) -> None:
    free = FREE if now.batch else (*FREE, *CHOSEN)
    for f in fields(now):
        value = getattr(now, f.name)
        before = tuple(then[f.name]) if isinstance(then.get(f.name), list) else then.get(f.name)
        if f.name not in free and before != value:
            raise DataError(f"{folder} began with {f.name} = {before!r}, got {value!r}: resume with the same options")


def _chosen(now: Config, then: Mapping[str, Any]) -> Config:
    names = (() if now.batch else CHOSEN) + (() if now.steps or now.epochs else ("steps", "epochs"))
    return replace(now, **{name: then[name] for name in names})
