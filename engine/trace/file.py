"""Traces as a file: JSON lines, a header and then a line a token. Arrays are base64 of little-endian bytes.

The header says what was run, lists each recipe once (a step names it by its index), and counts the steps, so that a
file that was cut short is noticed. Runs that were drawn together stand one after another. Another format gets another
version number.
"""

import base64
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DataError, LikelyError
from engine.trace.fields import FIELDS
from engine.trace.trace import Lexicon, Recipe, TokenStep, Trace
from engine.transforms import TRANSFORMS, Transform
from engine.transforms.snapshot import ARRAYS, BINS, Snapshot
from engine.whole_file import write_whole

VERSION = 1
_REMOVED_BY = "cut"  # the key of version 1

_TRANSFORMS = {kind.__name__: kind for kind in TRANSFORMS}
_MOMENTS = ("lse", "mean", "variance")
_HEADER: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "weights": (str,),
    "versions": (dict,),
    "seed": (int,),
    "finish": (str,),
    "meta": (dict,),
}


def save(traces: Sequence[Trace], path: Path) -> None:
    """Writes the traces; the file appears whole or not at all."""
    rows = (line for trace in traces for line in _lines(trace))
    write_whole(path, (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def load(path: Path) -> list[Trace]:
    """The traces of a file, at least one. Raises DataError, with file and line, for damage and for another version."""
    number = 1
    try:
        with path.open(encoding="utf-8") as file:
            traces: list[Trace] = []
            while (line := file.readline()) or not traces:
                header = _header(json.loads(line))
                recipes, run = [recipe_from_row(row) for row in header["recipes"]], _run(header)
                steps: list[TokenStep] = []
                while len(steps) < header["steps"]:
                    number += 1
                    if not (line := file.readline()):
                        raise ValueError(f"the header promises {header['steps']} steps and {len(steps)} are here")
                    steps.append(step_from_row(json.loads(line), recipes))
                traces.append(replace(run, steps=tuple(steps)))
                number += 1
            return traces
    except OSError as error:
        raise DataError(f"{path}: the trace cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, LikelyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}:{number}: not a trace of version {VERSION}, or a damaged one: {reason}") from error


def _run(header: Mapping[str, Any]) -> Trace:
    """The trace that a header begins, without its steps."""
    return Trace(
        prompt=tuple(map(operator.index, header["prompt"])),
        steps=(),
        lexicon=Lexicon(
            {int(token): _bytes(piece) for token, piece in header["pieces"].items()}, frozenset(header["eos"])
        ),
        **_typed(header, _HEADER),
    )


def _lines(trace: Trace) -> Iterator[Mapping[str, Any]]:
    recipes = list(dict.fromkeys(step.recipe for step in trace.steps))
    yield {
        "likely": "trace",
        "version": VERSION,
        **{name: getattr(trace, name) for name in _HEADER},
        "prompt": list(trace.prompt),
        "eos": sorted(trace.lexicon.eos),
        "pieces": {str(token): _text(piece) for token, piece in trace.lexicon.pieces.items()},
        "recipes": [recipe_row(recipe) for recipe in recipes],
        "steps": len(trace.steps),
    }
    places = {recipe: place for place, recipe in enumerate(recipes)}
    for step in trace.steps:
        yield step_row(step, places[step.recipe])


def step_row(step: TokenStep, recipe: int) -> Mapping[str, Any]:
    """A step as JSON values; its recipe is named by its place in a list."""
    row = {field.name: field.to_json(getattr(step, field.name)) for field in FIELDS} | {"recipe": recipe}
    if step.snapshot is not None:
        row["snapshot"] = {
            field.name: _text(np.asarray(value, ARRAYS[field.name]).tobytes()) if field.name in ARRAYS else value
            for field in fields(Snapshot)
            for value in [getattr(step.snapshot, field.name)]
        }
    if step.removed_by is not None:
        row[_REMOVED_BY] = _text(np.asarray(step.removed_by, np.int8).tobytes())
    return row


def _header(header: Any) -> Mapping[str, Any]:
    if not isinstance(header, dict) or header.get("likely") != "trace":
        raise ValueError("a line that should be a trace's header is none")
    if header.get("version") != VERSION:
        raise ValueError(f"its version is {header.get('version')}: use the likely that wrote it")
    return header


def step_from_row(line: Any, recipes: list[Recipe]) -> TokenStep:
    """The step that `step_row` made a row of; ValueError, KeyError or TypeError where it is damaged."""
    snapshot = _snapshot(line["snapshot"]) if "snapshot" in line else None
    removed_by = np.frombuffer(_bytes(line[_REMOVED_BY]), np.int8) if _REMOVED_BY in line else None
    if removed_by is not None and snapshot is not None and len(removed_by) != len(snapshot.ids):
        raise ValueError(f"{len(removed_by)} of `cut` for {len(snapshot.ids)} candidates")
    if not 0 <= line["recipe"] < len(recipes):
        raise ValueError(f"recipe {line['recipe']} of {len(recipes)}")
    values = {field.name: field.of_json(line) for field in FIELDS}
    return TokenStep(recipe=recipes[line["recipe"]], snapshot=snapshot, removed_by=removed_by, **values)


def _snapshot(row: Mapping[str, Any]) -> Snapshot:
    values: dict[str, Any] = {name: np.frombuffer(_bytes(row[name]), kind) for name, kind in ARRAYS.items()}
    sizes = {name: len(array) for name, array in values.items()}
    bins = {"edges": BINS + 1, "counts": BINS, "lses": BINS}
    if sizes != {"ids": sizes["ids"], "logits": sizes["ids"], **bins}:
        raise ValueError(f"a snapshot's arrays have lengths {sizes}")
    values |= {name: float(row[name]) for name in _MOMENTS}
    return Snapshot(vocab=operator.index(row["vocab"]), **values)


def _typed(row: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    for name, allowed in types.items():
        if type(row[name]) not in allowed:
            raise TypeError(f"{name} is {row[name]!r}")
    return {name: row[name] for name in types}


def recipe_row(recipe: Recipe) -> Mapping[str, Any]:
    """A recipe as JSON values."""
    rows = [
        {"transform": type(transform).__name__} | {f.name: getattr(transform, f.name) for f in fields(transform)}  # type: ignore[arg-type]
        for transform in recipe.transforms
    ]
    beside = {"adapters": list(recipe.adapters)} if recipe.adapters else {}
    return {"greedy": recipe.greedy, "transforms": rows, **beside}


def recipe_from_row(row: Mapping[str, Any]) -> Recipe:
    """The recipe that `recipe_row` made a row of; raises as `step_from_row`, ParameterError out of a range."""
    adapters = row.get("adapters", [])
    if not isinstance(adapters, list) or not all(isinstance(each, str) for each in adapters):
        raise TypeError(f"adapters is {adapters!r}")
    return Recipe(tuple(_transform(dict(each)) for each in row["transforms"]), row["greedy"], tuple(adapters))


def _transform(row: dict[str, Any]) -> Transform:
    kind = _TRANSFORMS[row.pop("transform")]
    return kind(**{name: _frozen(value) for name, value in row.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
