"""Traces as a file: JSON lines, a header and then a line a token. Arrays are base64 of little-endian bytes.

The header says what was run, lists each recipe once (a step names it by its index), and counts the steps, so that a
file that was cut short is noticed. Behind the steps of a run of diffusion stands a line for each of its passes. Runs
that were drawn together stand one after another. Another format gets another version number.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.base.errors import DataError, LikelyError
from likely.engine.base.files.foreign_json import check, parse, shown
from likely.engine.base.files.whole_file import read_whole, write_whole
from likely.engine.sampling.trace import record
from likely.engine.sampling.trace.consistency import check_changes, check_run, check_step
from likely.engine.sampling.trace.fields import FIELDS, UNITS
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep, TokenStrings
from likely.engine.sampling.transforms import TRANSFORMS, Transform
from likely.engine.sampling.transforms.snapshot import ARRAYS, BINS, Snapshot

VERSION = 1
LARGEST = 1 << 28  # bytes: some 100,000 tokens
_REMOVED_BY = "cut"  # the key of version 1

_TRANSFORMS = {kind.__name__: kind for kind in TRANSFORMS}
_PARAMETERS = {int: int, float: float, bool: bool, str: str, tuple[str, ...]: [str]}
_MOMENTS = ("lse", "mean", "variance")
_FACTS = {"model": str, "weights": str, "versions": {str: str}, "seed": int, "finish": str, "meta": {str: str}}
_RECIPE = {"greedy": bool, "transforms": [{"transform": str}], "adapters?": [str]}
_HEADER = {"likely": str, "prompt": [int], "eos": [int], "pieces": {str: str}, "recipes": [_RECIPE], "steps": int}
_HEADER |= {"denoising?": record.HEADER}
_SNAPSHOT = {"vocab": int} | dict.fromkeys(_MOMENTS, float) | dict.fromkeys(ARRAYS, str)
_STEP = {"recipe": int, "snapshot?": _SNAPSHOT, f"{_REMOVED_BY}?": str}
_CHECKSUM = "sha256"  # of the header without it and of the lines of its steps; files of before have none


def save(traces: Sequence[Trace], path: Path) -> None:
    """Writes the traces; the file appears whole or not at all."""
    write_whole(path, lines(traces))


def load(path: Path) -> list[Trace]:
    """The traces of a file, at least one. Raises DataError, with file and line, for damage and for another version."""
    return read(read_whole(path, largest=LARGEST), str(path))


def read(text: str, name: str) -> list[Trace]:
    """The traces whose `lines` are a text of this name, at least one. Raises DataError, with name and line."""
    lines = text.removesuffix("\n").split("\n")
    number = 1
    try:
        traces: list[Trace] = []
        while number <= len(lines):
            header = _header(parse(lines[number - 1], dict))
            recipes, run = [recipe_from_row(row) for row in header["recipes"]], _run(header)
            denoising = header.get("denoising")
            begin, end = number, number + header["steps"]
            behind = end + (denoising["passes"] if denoising else 0)
            steps: list[TokenStep] = []
            for line in lines[begin:end]:
                number += 1
                steps.append(step_from_row(parse(line, dict), recipes))
            passes: list[Any] = []
            for line in lines[end:behind]:
                number += 1
                passes.append(parse(line, dict))
            number += 1
            if number <= behind:
                promised = f"{header['steps']} steps" + (f" and {denoising['passes']} passes" if denoising else "")
                raise ValueError(f"the header promises {promised} and {len(lines) - begin} are here")
            blamed, number = number, begin  # what is wrong with the run as a whole is said of its header
            loaded = replace(run, steps=tuple(steps))
            if denoising is not None:
                loaded = replace(loaded, denoising=record.from_rows(denoising, passes, steps))
            check_run(loaded)
            if loaded.denoising is not None:
                record.check(loaded.denoising, loaded.prompt, loaded.finish)
            if header.get(_CHECKSUM, "") not in ("", _checksum(header, lines[begin:behind])):
                raise ValueError("its checksum is of other lines: they were changed after they were written")
            traces.append(loaded)
            number = blamed
        return traces
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, LikelyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{name}:{number}: not a trace of version {VERSION}, or a damaged one: {reason}") from error


def read_denoising(text: str, name: str) -> tuple[Trace, ...]:
    """The runs that filled one canvas; raises as `read`, and where it was not one."""
    runs = read(text, name)
    try:
        check_changes(runs)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    return tuple(runs)


def _run(header: Mapping[str, Any]) -> Trace:
    """The trace that a header begins, without its steps."""
    return Trace(
        prompt=tuple(header["prompt"]),
        steps=(),
        lexicon=TokenStrings(
            {int(token): _bytes(piece) for token, piece in header["pieces"].items()}, frozenset(header["eos"])
        ),
        **{name: header[name] for name in _FACTS},
    )


def lines(traces: Sequence[Trace]) -> Iterator[str]:
    """The lines of the traces' file, one trace after another."""
    for trace in traces:
        yield from _lines(trace)


def _lines(trace: Trace) -> Iterator[str]:
    recipes = list(dict.fromkeys(step.recipe for step in trace.steps))
    header = {
        "likely": "trace",
        "version": VERSION,
        **{name: getattr(trace, name) for name in _FACTS},
        "prompt": list(trace.prompt),
        "eos": sorted(trace.lexicon.eos),
        "pieces": {str(token): _text(piece) for token, piece in trace.lexicon.pieces.items()},
        "recipes": [recipe_row(recipe) for recipe in recipes],
        "units": UNITS,
        "steps": len(trace.steps),
    }
    if trace.denoising is not None:
        header["denoising"] = record.header(trace.denoising)
    places = {recipe: place for place, recipe in enumerate(recipes)}
    lines = [_line(step_row(step, places[step.recipe])) for step in trace.steps]
    if trace.denoising is not None:
        lines += map(_line, record.rows(trace.denoising))
    yield f"{_line(header | {_CHECKSUM: _checksum(header, lines)})}\n"
    yield from (f"{line}\n" for line in lines)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def _checksum(header: Mapping[str, Any], lines: Sequence[str]) -> str:
    """SHA-256 of a run's header, a checksum in it aside, and of the lines of its steps."""
    bare = {name: value for name, value in header.items() if name != _CHECKSUM}
    digest = hashlib.sha256(json.dumps(bare).encode())
    for line in lines:
        digest.update(b"\n" + line.encode(errors="surrogatepass"))
    return digest.hexdigest()


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
        raise ValueError(f"its version is {shown(header.get('version'))}: use the likely that wrote it")
    checked: Mapping[str, Any] = check(header, _HEADER | _FACTS)
    if header["steps"] < 0 or header.get("denoising", {"passes": 0})["passes"] < 0 or not 0 <= header["seed"] < 1 << 64:
        raise ValueError(f"a run of {header['steps']} steps with the seed {header['seed']}")
    return checked


def step_from_row(line: Any, recipes: list[SamplingConfig]) -> TokenStep:
    """The step that `step_row` made a row of; ValueError, KeyError or TypeError where it is damaged."""
    check(line, _STEP)
    snapshot = _snapshot(line["snapshot"]) if "snapshot" in line else None
    removed_by = np.frombuffer(_bytes(line[_REMOVED_BY]), np.int8) if _REMOVED_BY in line else None
    if removed_by is not None and snapshot is not None and len(removed_by) != len(snapshot.ids):
        raise ValueError(f"{len(removed_by)} of `cut` for {len(snapshot.ids)} candidates")
    if not 0 <= line["recipe"] < len(recipes):
        raise ValueError(f"recipe {line['recipe']} of {len(recipes)}")
    values = {field.name: field.of_json(line) for field in FIELDS}
    step = TokenStep(recipe=recipes[line["recipe"]], snapshot=snapshot, removed_by=removed_by, **values)
    check_step(step)
    return step


def _snapshot(row: Mapping[str, Any]) -> Snapshot:
    values: dict[str, Any] = {name: np.frombuffer(_bytes(row[name]), kind) for name, kind in ARRAYS.items()}
    sizes = {name: len(array) for name, array in values.items()}
    bins = {"edges": BINS + 1, "counts": BINS, "lses": BINS}
    if sizes != {"ids": sizes["ids"], "logits": sizes["ids"], **bins}:
        raise ValueError(f"a snapshot's arrays have lengths {sizes}")
    values |= {name: float(row[name]) for name in _MOMENTS}
    return Snapshot(vocab=row["vocab"], **values)


def recipe_row(recipe: SamplingConfig) -> Mapping[str, Any]:
    """A recipe as JSON values."""
    rows = [
        {"transform": type(transform).__name__} | {f.name: getattr(transform, f.name) for f in fields(transform)}  # type: ignore[arg-type]
        for transform in recipe.transforms
    ]
    beside = {"adapters": list(recipe.adapters)} if recipe.adapters else {}
    return {"greedy": recipe.greedy, "transforms": rows, **beside}


def recipe_from_row(row: Mapping[str, Any]) -> SamplingConfig:
    """The recipe that `recipe_row` made a row of; raises as `step_from_row`, ParameterError out of a range."""
    check(row, _RECIPE)
    return SamplingConfig(
        tuple(_transform(dict(item)) for item in row["transforms"]), row["greedy"], tuple(row.get("adapters", ()))
    )


def _transform(row: dict[str, Any]) -> Transform:
    kind = _TRANSFORMS[row.pop("transform")]
    check(row, {f"{f.name}?": _PARAMETERS.get(f.type, object) for f in fields(kind)})  # type: ignore[arg-type]
    return kind(**{name: _frozen(value) for name, value in row.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
