"""What a person has settled about models: the one to use where none is named, and folders of theirs to look in.

One small JSON file. Does not know whether the model or the folders still exist. Light: the screen imports it.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from engine.home import home


def chosen() -> str:
    """The model that was chosen last; "" where none was."""
    name = _read().get("model", "")
    return name if isinstance(name, str) else ""


def choose(name: str) -> None:
    """Make this the model to use where none is named. A disk that cannot be written leaves it unsaid."""
    if name != chosen():
        _write({**_read(), "model": name})


def folders() -> tuple[Path, ...]:
    """The person's own folders of models: those of $LIKELY_MODELS (separated as in $PATH), then those added."""
    named = [part for part in os.environ.get("LIKELY_MODELS", "").split(os.pathsep) if part]
    added = _read().get("folders", [])
    added = [folder for folder in added if isinstance(folder, str)] if isinstance(added, list) else []
    return tuple(dict.fromkeys(Path(folder).expanduser() for folder in (*named, *added)))


def add_folder(folder: Path) -> None:
    """Look for models in this folder too, from now on."""
    folder = folder.expanduser().absolute()
    if folder not in folders():
        settled = _read()
        added = settled.get("folders", [])
        _write({**settled, "folders": [*(added if isinstance(added, list) else []), str(folder)]})


def _read() -> dict[str, Any]:
    try:
        settled = json.loads((home() / "preferences.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settled if isinstance(settled, dict) else {}


def _write(settled: dict[str, Any]) -> None:
    path = home() / "preferences.json"
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(settled, indent=1), encoding="utf-8")
        beside.replace(path)
