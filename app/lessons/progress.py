"""Progress: how far every chapter of a course is, by model and seed. One small JSON file beside the conversations.

What another program changes meanwhile stays; a file that cannot be read is as if there were none, and one that cannot
be written raises. Does not know what a chapter is about.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from likely.app.lessons.lesson import Standing
from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.lock import locked, silent
from likely.engine.base.files.whole_file import write_whole

FILE = "learned.json"
KEPT = {
    "guess": (str, None), "truth": str, "right": (bool, None), "done": (bool, None), "checked": int, "clean": int,
    "yours": [str],
}  # fmt: skip


def key(model: str, seed: int) -> str:
    """The name that progress with a model and a seed is kept under."""
    return f"{model} {seed}"


def read(home: Path, course: str, model: str, seed: int) -> dict[int, Standing]:
    """How far each chapter is, by its number; none where nothing was begun, or where the file is damaged."""
    found = _read(home).get(course, {})
    chapters = found.get(key(model, seed), {}) if isinstance(found, dict) else {}
    standings = {}
    for number, kept in chapters.items() if isinstance(chapters, dict) else ():
        try:
            foreign_json.check(kept, KEPT)
            standings[int(number)] = Standing(**{**{name: kept[name] for name in KEPT}, "yours": tuple(kept["yours"])})
        except (ValueError, TypeError, KeyError):
            continue
    return standings


def keep(home: Path, course: str, model: str, seed: int, standings: Mapping[int, Standing]) -> None:
    """Write how far these chapters are. DataError or OSError where the disk cannot be written."""
    path = home / FILE
    home.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), "progress", wait=silent):
        whole = _read(home)
        courses = whole.setdefault(course, {})
        if not isinstance(courses, dict):
            courses = whole[course] = {}
        chapters = courses.setdefault(key(model, seed), {})
        if not isinstance(chapters, dict):
            chapters = courses[key(model, seed)] = {}
        chapters.update({str(number): asdict(each) for number, each in standings.items()})
        write_whole(path, [json.dumps(whole, indent=1)])


def _read(home: Path) -> dict[str, Any]:
    try:
        whole: dict[str, Any] = foreign_json.read(home / FILE)
        return whole
    except DataError:
        return {}
