"""Runs of a ladder: parameters, tokens and loss of each, read from a table that whoever trained them wrote.

A row that no law is about (a loss that is no number, no tokens) is left out with its reason, never in silence. Knows
nothing of fits, but for which rows they found to have diverged.
"""

import csv
import difflib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files.whole_file import read_whole
from likely.engine.measure.scaling.scaling_law import FLOP

COLUMNS = ("parameters", "tokens", "loss", "compute", "unique", "embedding", "seconds")
NAME = "run"  # the column of names, where there is one


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row of the table that is not fitted: its number, the header being row 1, why, and the run's name."""

    row: int
    reason: str
    run: str = ""

    def __str__(self) -> str:
        return f"row {self.row}{f' ({self.run})' if self.run else ''}: {self.reason}"


@dataclass(frozen=True)
class ScalingSweep:
    """Columns of n runs, float64 [n] each: losses in nats a token; `unique` tokens where some were read more than once,
    `embedding` parameters where they are known apart, `seconds` that it took (nan where that is not known)."""

    parameters: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    row: np.ndarray  # of the table
    unique: np.ndarray | None = None
    embedding: np.ndarray | None = None
    seconds: np.ndarray | None = None
    run: np.ndarray | None = None  # names

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def compute(self) -> np.ndarray:
        """Floating-point operations, 6 N D."""
        operations: np.ndarray = FLOP * self.parameters * self.tokens
        return operations

    def where(self, kept: np.ndarray) -> "ScalingSweep":
        """Some of them, by a mask [n]."""
        columns = ((field.name, getattr(self, field.name)) for field in fields(self))
        return replace(self, **{name: column[kept] for name, column in columns if column is not None})


@dataclass(frozen=True, slots=True)
class MappedColumn:
    """Where one of COLUMNS is in a table, and what its numbers are multiplied by."""

    name: str
    times: float = 1.0


def mapping(texts: Sequence[str]) -> dict[str, MappedColumn]:
    """Columns from texts such as `tokens=train tokens (B)*1e9`. Raises ParameterError."""
    columns: dict[str, MappedColumn] = {}
    for text in texts:
        ours, equals, theirs = text.partition("=")
        if not equals or ours not in COLUMNS or not theirs:
            raise ParameterError(f"--map takes NAME=COLUMN[*NUMBER], NAME one of {', '.join(COLUMNS)}; got {text!r}")
        name, star, factor = theirs.rpartition("*")
        try:
            columns[ours] = MappedColumn(name, float(factor)) if star else MappedColumn(theirs)
        except ValueError:
            columns[ours] = MappedColumn(theirs)  # a star of the column's name
        if not 0 < columns[ours].times < math.inf:
            raise ParameterError(f"--map multiplies by a number above 0, got {text!r}")
    return columns


def read_runs(
    path: Path, mapped: Mapping[str, MappedColumn], *, keep_all: bool = False
) -> tuple[ScalingSweep, list[LeftOut]]:
    """The runs of a CSV file with a header, tokens from `compute` / 6 N where that is mapped instead.

    Raises DataError where the file is no such table; with keep_all also where a row cannot be fitted.
    """
    table = csv.reader(io.StringIO(read_whole(path, newline="")))
    try:
        header = [name.strip() for name in next(table, [])]
        columns = _columns(path, header, mapped)
        rows: list[dict[str, Any]] = []
        named = header.index(NAME) if header.count(NAME) == 1 else len(header)
        left_out: list[LeftOut] = []
        for number, cells in enumerate(table, 2):
            if not any(cell.strip() for cell in cells):
                continue
            name = cells[named].strip() if named < len(cells) else ""
            try:
                known = {NAME: name} if named < len(header) else {}
                rows.append({"row": number, **known, **_row(columns, header, cells)})
            except ValueError as error:
                left_out.append(LeftOut(number, str(error), name))
    except csv.Error as error:
        raise DataError(f"{path} is no table of comma-separated values: {error}") from None
    if keep_all and left_out:
        raise DataError(f"{path}, {left_out[0]}; such a run cannot be kept: leave out --keep-all")
    if not rows:
        reason = f": {left_out[0]}" if left_out else ""
        raise DataError(f"{path} has no run to fit{reason}")
    runs = ScalingSweep(**{name: np.array([row[name] for row in rows]) for name in rows[0]})
    few = int((runs.tokens < runs.parameters).sum())
    if 2 * few > len(runs) and not keep_all:
        raise DataError(
            f"{path}: {few} of {len(runs)} runs saw fewer tokens than they have parameters, so a unit is probably "
            "another: say --map tokens=COLUMN*1e9, or --keep-all if it is so"
        )
    return runs, left_out


def _columns(path: Path, header: Sequence[str], mapped: Mapping[str, MappedColumn]) -> dict[str, MappedColumn]:
    """Where each of COLUMNS is; those that a fit needs have to be there."""
    columns = {name: MappedColumn(name) for name in COLUMNS if name in header} | dict(mapped)
    for name, column in columns.items():
        if header.count(column.name) != 1:
            there = "twice" if column.name in header else "not"
            near = difflib.get_close_matches(column.name, header, 1)
            hint = f"; did you mean {near[0]!r}?" if near and there == "not" else ""
            raise DataError(f"{path} has column {column.name!r} ({name}) {there}{hint} It has {', '.join(header)}")
    if "tokens" not in columns and "compute" not in columns:
        columns["tokens"] = MappedColumn("tokens")
    for name in ("parameters", "loss", *(() if "compute" in columns else ("tokens",))):
        if columns.get(name, MappedColumn(name)).name not in header:
            raise DataError(
                f"{path} has no column {name!r}, but {', '.join(header) or 'no header'}: say --map {name}=COLUMN"
            )
    return columns


def _row(columns: Mapping[str, MappedColumn], header: Sequence[str], cells: Sequence[str]) -> dict[str, float]:
    """The numbers of a row. ValueError, with the reason, where no law is about them."""
    numbers = {}
    for name, column in columns.items():
        at = header.index(column.name)
        text = cells[at].strip() if at < len(cells) else ""
        try:
            numbers[name] = float(text) * column.times
        except ValueError:
            if name != "seconds":
                raise ValueError(f"{name} is no number: {text[:40]!r}") from None
            numbers[name] = math.nan
    seconds = numbers.pop("seconds", None)
    compute = numbers.pop("compute", None)
    if "tokens" not in numbers and compute is not None:
        numbers["tokens"] = compute / FLOP / numbers["parameters"] if numbers["parameters"] else math.nan
    if not math.isfinite(numbers["loss"]):
        raise ValueError(f"it diverged: its loss is {numbers['loss']}")
    for name, value in numbers.items():
        if not 0 <= value < math.inf or (value == 0 and name != "embedding"):
            raise ValueError(f"{name} must be above 0 and finite, got {value:g}")
    if numbers.get("embedding", 0) >= numbers["parameters"]:
        raise ValueError(f"embedding parameters must be fewer than all, got {numbers['embedding']:g}")
    return numbers if seconds is None else {**numbers, "seconds": seconds if 0 < seconds < math.inf else math.nan}
