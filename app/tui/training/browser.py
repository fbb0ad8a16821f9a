"""Browser of rows: a data set's files, the rows of one in some order, where one stands, and what is chosen by hand.

No widgets. What takes long (where lines begin, the numbers of all rows) is a function that any thread may call.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import refuse_pipe
from likely.engine.train.data import row_choices, row_file
from likely.engine.train.data.row_file import FileRow

BITS = "bits"  # a token: the surprisal in the mean
LOOKED_AT = 200  # rows by which it is decided which numbers there are
HIDDEN = {"logprob"}  # numbers that are shown in another unit


@dataclass(frozen=True, slots=True)
class OpenedRows:
    """The rows of a file, and the names of the numbers that they have, the surprisal first."""

    path: Path
    rows: Sequence[FileRow]
    numbers: tuple[str, ...]
    choices: Mapping[str, bool]


def opened(path: Path, names: Mapping[str, str] | None, beside: Path) -> OpenedRows:
    """A file, and the choices `beside` it; DataError where either cannot be read."""
    chosen = row_choices.read(beside)
    rows = row_file.opened(path, names)
    some = [rows[i] for i in range(min(len(rows), LOOKED_AT))]
    values: defaultdict[str, set[float]] = defaultdict(set)
    for row in some:
        for name, value in row.scores.items():
            values[name].add(value)
    known = sorted(
        (name for name in values if name not in HIDDEN), key=lambda name: len(values[name]) == 1
    )  # what is always the same says least
    surprise = (BITS,) if any(row.surprisal is not None for row in some) else ()
    return OpenedRows(path, rows, (*surprise, *known), chosen)


def number(row: FileRow, name: str) -> float | None:
    """A row's number by its name; None where it has none."""
    return row.surprisal if name == BITS else row.scores.get(name)


def columns(rows: Sequence[FileRow], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Numbers of all rows by their names, NaN where a row has none: every row is read, once."""
    table = {name: np.full(len(rows), np.nan) for name in names}
    for at, row in enumerate(rows):
        for name, column in table.items():
            if (value := number(row, name)) is not None:
                column[at] = value
    return table


class RowBrowser:
    """Where a person is in a data set. `files` are those that there are; nothing is open before `show`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.files, self.why = files(source)
        self.file = 0
        self.opened: OpenedRows | None = None
        self.order: np.ndarray | None = None  # None: as they stand in the file
        self.columns: dict[str, np.ndarray] = {}  # the numbers of all rows, once they were asked for
        self.by = ""
        self.at = 0

    def relist(self) -> None:
        """Look again for which files there are; the one that is open stays it, where it is still there."""
        before = self.path
        self.files, self.why = files(self.source)
        self.file = self.files.index(before) if before in self.files else 0

    @property
    def beside(self) -> Path:
        """Where choices are written."""
        return row_choices.beside(expanded(self.source))

    @property
    def path(self) -> Path | None:
        return self.files[self.file] if self.files else None

    @property
    def rows(self) -> Sequence[FileRow]:
        return self.opened.rows if self.opened is not None else ()

    @property
    def numbers(self) -> tuple[str, ...]:
        return self.opened.numbers if self.opened is not None else ()

    @property
    def here(self) -> FileRow | None:
        return self.row(self.at) if len(self.rows) else None

    def row(self, at: int) -> FileRow:
        """The row at a place of the order."""
        row: FileRow = self.rows[at if self.order is None else int(self.order[at])]
        return row

    def show(self, file: OpenedRows) -> None:
        """Show the rows of a file; the place stays where the file is the one before."""
        same = self.opened is not None and self.opened.path == file.path
        self.opened, self.why = file, ""
        self.order, self.by, self.columns = None, "", {}
        self.go(self.at if same else 0)

    def fail(self, why: str) -> None:
        """There is nothing to show, and why."""
        self.opened, self.why, self.order, self.by, self.at = None, why, None, "", 0

    def sort(self, by: str) -> None:
        """Show the rows by a number whose column is there, the largest first and those without one last, or by ""
        as they stand in the file; from their beginning on."""
        self.order, self.by, self.at = np.argsort(-self.columns[by], kind="stable") if by else None, by, 0

    def go(self, at: int) -> None:
        self.at = min(max(at, 0), max(len(self.rows) - 1, 0))

    @property
    def next_order(self) -> str:
        """The number after the one that the rows are ordered by, "" for none."""
        names = ("", *self.numbers)
        return names[(names.index(self.by) + 1) % len(names)]

    @property
    def changed(self) -> bool:
        """Whether the file is another by now, or gone."""
        if not isinstance(self.rows, row_file.RowFile):
            return False
        try:
            return row_file.stamp(self.rows.path) != self.rows.stamp
        except OSError:
            return True

    # -- what is chosen by hand --------------------------------------------------------------------------------------

    def choice(self, row: FileRow) -> bool | None:
        """Whether a row was kept or dropped by hand; None for neither."""
        if row.row is None or self.opened is None or not self.opened.choices:
            return None
        return self.opened.choices.get(row_choices.key(row.row))

    def choose(self, keep: bool) -> str:
        """Keep or drop the row here, and write it down; of one that a choice was made for, take that back.

        Gives what is to be said. DataError where it cannot be written, and nothing is changed.
        """
        row, rows_file = self.here, self.opened
        if row is None or rows_file is None:
            return "there is no row here"
        if row.row is None:
            return "this is no row: nothing is trained on it"
        chosen = self.choice(row) is not None
        if not chosen:
            if keep and not row.dropped:
                return "it is kept as it is"
            if keep and not row_choices.can_come_back(row.dropped):
                return f"it cannot come back: {row.dropped}"
            if not keep and row.dropped:
                return f"it is dropped already: {row.dropped}"
        chosen_rows = row_choices.choose(self.beside, {row_choices.key(row.row): None if chosen else keep})
        self.opened = OpenedRows(rows_file.path, rows_file.rows, rows_file.numbers, chosen_rows)
        if chosen:
            return "the choice is taken back"
        return "kept: likely synth brings it back" if keep else "dropped: left out of trainings that begin after this"

    @property
    def by_hand(self) -> tuple[int, int]:
        """How many rows of the folder were dropped and kept by hand."""
        marks = list(self.opened.choices.values()) if self.opened is not None else []
        return marks.count(False), marks.count(True)


def files(source: str) -> tuple[list[Path], str]:
    """The files of a data set, and why there are none."""
    if not source.strip():
        return [], "data: give a file or a folder first"
    path = expanded(source)
    try:
        if not path.exists():
            return [], f"there is no {source} on this machine: a file or a folder is shown"
        refuse_pipe(path)
        return row_file.listed(path), ""
    except (OSError, ValueError, DataError) as error:
        return [], f"cannot read {source}: {getattr(error, 'strerror', None) or error}"
