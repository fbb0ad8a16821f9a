"""Options with which a run in a folder began, read from what it has saved: what going on with it takes as given.

Light: reads headers alone, no arrays and no mlx.
"""

from dataclasses import replace
from pathlib import Path

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.options import typed
from likely.engine.weights.adapters.config import HINTS, RENAMED, Config
from likely.engine.weights.sources.safetensors import read_metadata

STATE = "state.safetensors"
FACTS = {"config": dict}


def options(folder: Path) -> Config:
    """The options of the run in a folder. CheckpointError where there is none, DataError for a damaged one."""
    path = folder / STATE
    if not path.exists():
        raise CheckpointError(f"{folder} has no run to resume: expected {STATE}")
    try:
        stored = foreign_json.parse(read_metadata(path).get("likely", ""), FACTS)["config"]
        named = {RENAMED.get(name, name): value for name, value in stored.items()}
        return replace(Config(), **{n: typed(n, value, HINTS[n]) for n, value in named.items() if n in HINTS})
    except ValueError as error:
        raise DataError(f"{path} does not say with which options the run began: {error}") from error
