"""Preferences of a person: the model to use where none is named, and folders of theirs to look in.

One small JSON file. Does not know whether the model or the folders still exist. Light: the screen imports it.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.home import expanded, home
from likely.engine.base.files.lock import locked, silent
from likely.engine.base.files.whole_file import write_whole
from likely.models.configuration.rope_scaling import apart


def chosen(within: Path | None = None) -> str:
    """The model that was chosen last; "" where none was. `within` is the folder of the data, if not the usual one."""
    name = _read(within).get("model", "")
    return name if isinstance(name, str) else ""


def choose(name: str, within: Path | None = None) -> None:
    """Make this the model to use where none is named, with the context that it was made for; a path is kept so that it
    holds from other folders too.

    A disk that cannot be written leaves it unsaid.
    """
    name, _ = apart(name)
    path = expanded(name)
    if "/" in name and path.exists():
        name = str(path.absolute())
    if name != chosen(within):
        _change(lambda settled: {**settled, "model": name}, within)


def folders() -> tuple[Path, ...]:
    """The person's own folders of models: those of $LIKELY_MODELS (separated as in $PATH), then those added."""
    named = [part for part in os.environ.get("LIKELY_MODELS", "").split(os.pathsep) if part]
    added = _read().get("folders", [])
    added = [folder for folder in added if isinstance(folder, str)] if isinstance(added, list) else []
    return tuple(dict.fromkeys(expanded(folder) for folder in (*named, *added)))


def add_folder(folder: Path) -> None:
    """Look for models in this folder too, from now on. A disk that cannot be written leaves it unsaid."""
    folder = expanded(folder).absolute()

    def with_it(settled: dict[str, Any]) -> dict[str, Any]:
        added = settled.get("folders", [])
        return {**settled, "folders": [*(added if isinstance(added, list) else []), str(folder)]}

    if folder not in folders():
        _change(with_it)


def _read(within: Path | None = None) -> dict[str, Any]:
    try:
        settled: dict[str, Any] = foreign_json.read(_file(within))
        return settled
    except DataError:
        return {}


def _change(change: Callable[[dict[str, Any]], dict[str, Any]], within: Path | None = None) -> None:
    """Put what `change` makes of the preferences in their place; what another program changes meanwhile stays too."""
    path = _file(within)
    with suppress(OSError, DataError), locked(path.with_name(f".{path.name}.lock"), "preferences", wait=silent):
        write_whole(path, [json.dumps(change(_read(within)), indent=1)])


def _file(within: Path | None) -> Path:
    return (within or home()) / "preferences.json"
