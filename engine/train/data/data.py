"""From files to rows in three parts: train, valid and test.

A file (JSONL, JSON, CSV, Parquet), a folder with train/valid/test files, a folder of text files, or a data set of the
Hugging Face hub by its id. Without a file of their own the validation rows are chosen by a hash of their content, so
that the same row falls on the same side in every run and however the file is ordered.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import check_readable, put_whole, read_whole
from likely.engine.text.rows import values
from likely.engine.text.rows.training_row import TrainingRow, read_as, read_row
from likely.engine.text.rows.values import KINDS
from likely.engine.train.data import row_choices
from likely.engine.weights.sources.fetch.progress import Report, silent

PARTS = ("train", "valid", "test")
ALSO = {"valid": ("validation", "val", "dev")}
SHARE = 1 << 16
LARGEST = 1 << 30  # bytes of a file of rows
WHOLE = "commit"  # beside the files of a data set that an earlier version fetched whole
SNAPSHOT = "snapshot"  # where in the hub's cache a data set lies whole


@dataclass(frozen=True)
class Judging:
    """How answers to the problems of a task end, and how each is judged: by where the problem stands, its reward."""

    judges: Mapping[str, Callable[[str], float]]  # VerifierError where there is no verdict
    identity: str  # of the task: another one for other problems or another way to judge
    stop: tuple[str, ...] = ()
    asks: bool = False  # another process, whose verdicts are worth keeping

    def beside(self, other: "Judging | None") -> "Judging":
        """With the problems of another task, which are held out."""
        return self if other is None else replace(self, judges={**other.judges, **self.judges})


@dataclass(frozen=True)
class Data:
    """The rows of each part, and what is odd about them."""

    train: tuple[TrainingRow, ...]
    valid: tuple[TrainingRow, ...]
    test: tuple[TrainingRow, ...]
    forms: Mapping[str, int]  # rows of each form
    duplicates: int  # rows of train that are there already
    overlap: int  # rows of valid and test that are in train too
    split: bool  # the validation rows were taken from the train file
    left_out: int = 0  # rows that a person dropped (`engine.tune.choices`)
    columns: str = ""  # how those of the train file are read, in words
    keys: frozenset[str] = frozenset()  # the columns of all files, by their own names
    judging: Judging | None = None  # of a task's problems

    @property
    def fingerprint(self) -> str:
        """Equal for equal rows in the same order."""
        digest = hashlib.sha256()
        for part in (self.train, self.valid):
            for row in part:
                digest.update(row.digest)
            digest.update(b"|")
        digest.update(self.judging.identity.encode() if self.judging else b"")
        return digest.hexdigest()


def read(
    source: str | Path,
    *,
    names: Mapping[str, str] | None = None,
    valid: float = 0.05,
    keep_duplicates: bool = True,
    progress: Report = silent,
) -> Data:
    """The data at `source`; `valid` is the share that is set aside where there is no validation file.

    DataError for what is missing, malformed (with file, line and column) or empty.
    """
    path = expanded(source)
    if not path.exists():
        path = _from_hub(str(source), progress)
    parts: dict[str, list[TrainingRow]] = {name: [] for name in PARTS}
    keys = set[str]()
    if path.is_dir():
        check_readable(path)
        there = files(path)
        if any(there.values()):
            for part, part_files in there.items():
                parts[part] = [row for file in part_files for row in rows(file, names, keys)]
            if not parts["train"]:
                raise DataError(f"{path} has no train file: expected train.jsonl (or .json, .csv, .parquet)")
        else:
            parts["train"] = list(texts(path))
    else:
        parts["train"] = list(rows(path, names, keys))
    if not parts["train"]:
        raise DataError(f"{path} has no rows")
    left_out = 0
    if choice := row_choices.read(row_choices.beside(path)):
        for part, some in parts.items():
            parts[part] = [row for row in some if choice.get(row_choices.key(row), True)]
            left_out += len(some) - len(parts[part])
        if not parts["train"]:
            raise DataError(f"{path}: every row of it was dropped by hand; {row_choices.beside(path)} says which")
    odd = {"left_out": left_out, "columns": columns(path, names), "keys": frozenset(keys)}
    return parted(parts, str(path), valid=valid, keep_duplicates=keep_duplicates, **odd)


def parted(
    parts: Mapping[str, Sequence[TrainingRow]], where: str, *, valid: float, keep_duplicates: bool, **odd: Any
) -> Data:
    """Rows in three parts, of which `valid` is a share of the first where there is none; `odd` are fields of `Data`.
    DataError where they do not go together, or none can be set aside."""
    train, held, test = (list(parts.get(name, ())) for name in PARTS)
    counts = Counter(row.digest for row in train)
    duplicates = len(train) - len(counts)
    if not keep_duplicates:
        train = list({row.digest: row for row in train}.values())
    split = not held and valid > 0
    if split:
        aside = [int.from_bytes(row.digest[:2], "big") < valid * SHARE for row in train]
        if not any(aside) and len(train) > 1:  # few rows: the one with the smallest hash
            least = min(range(len(train)), key=lambda i: train[i].digest)
            aside = [row.digest == train[least].digest for row in train]
        if all(aside):
            raise DataError(f"{where}: its rows are all the same, so none can be set aside; give a valid file")
        held = [row for row, out in zip(train, aside, strict=True) if out]
        train = [row for row, out in zip(train, aside, strict=True) if not out]
    trained = {row.digest for row in train}
    overlap = sum(row.digest in trained for row in (*held, *test))
    forms = Counter(row.form for row in (*train, *held, *test))
    if "preference" in forms and len(forms) > 1:
        raise DataError(
            f"{where} mixes preference pairs with other rows: {dict(forms)}; keep them in separate data sets"
        )
    return Data(tuple(train), tuple(held), tuple(test), dict(forms), duplicates, overlap, split, **odd)


def files(folder: Path) -> dict[str, list[Path]]:
    """The files of each part: train.jsonl, or the shards train-00000-of-00002.parquet, also in data/."""
    candidates = [p for p in sorted(folder.rglob("*")) if p.suffix in KINDS and p.is_file()]
    files: dict[str, list[Path]] = {}
    for part in PARTS:
        names = (part, *ALSO.get(part, ()))
        files[part] = [p for p in candidates if p.stem in names or any(p.stem.startswith(f"{n}-") for n in names)]
    return files


def texts(folder: Path) -> Iterator[TrainingRow]:
    """A row for each text file."""
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in (".txt", ".md") and p.is_file()]
    if not files:
        raise DataError(f"{folder} has neither train{KINDS[0]} (or {', '.join(KINDS[1:])}) nor .txt or .md files")
    for file in files:
        text = _decode(file)
        if text.strip():
            yield TrainingRow("text", str(file), text=text)


def rows(file: Path, names: Mapping[str, str] | None = None, keys: set[str] | None = None) -> Iterator[TrainingRow]:
    """The rows of one file, whose columns are added to `keys`; DataError for a kind that is none of KINDS, and, after
    the last row, for all that are malformed, with their places."""
    if file.suffix in (".txt", ".md"):
        yield TrainingRow("text", str(file), text=_decode(file))
        return
    if values.kind(file) not in KINDS:
        raise DataError(f"{file}: expected a file that ends with {', '.join(KINDS)} or .txt")
    faults: list[tuple[str, str]] = []
    total = 0
    for each in values.read(file, LARGEST):
        total += 1
        if keys is not None and isinstance(each.value, dict):
            keys.update(each.value)
        if (row := read_row(each, names, faults)) is not None:
            yield row
    values.refuse(file, faults, total)


def columns(source: Path, names: Mapping[str, str] | None = None) -> str:
    """How the columns of a file are read, or of a folder's train file, by its first row; "" of texts, which have none.
    DataError where it cannot be read."""
    file = next(iter(files(source)["train"]), source) if source.is_dir() else source
    first = next(values.read(file, LARGEST), None) if values.kind(file) in KINDS and file.is_file() else None
    if first is None or not isinstance(first.value, dict):
        return ""
    mark = {";": "semicolons", "\t": "tabs"}.get(first.delimiter)
    return read_as(first.value, names) + (f"; {mark} part the columns" if mark else "")


def _decode(file: Path) -> str:
    return read_whole(file, encoding="utf-8-sig", largest=LARGEST)


def _from_hub(name: str, progress: Report) -> Path:
    """The folder of a hub data set, fetched; DataError where `name` is neither a path nor an id that can be fetched."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith(KINDS):
        raise DataError(f"there is no {name}: expected a file, a folder, or the id owner/name of a hub data set")
    from likely.engine.base.files.home import home
    from likely.engine.weights.sources.fetch.catalogue import Hub
    from likely.engine.weights.sources.fetch.hub import fetch_data

    folder = home() / "data" / name.replace("/", "--")
    if (folder / WHOLE).exists():  # fetched when they were kept here
        return folder / "files"
    if (folder / SNAPSHOT).is_file() and (snapshot := Path(read_whole(folder / SNAPSHOT))).is_dir():
        return snapshot
    try:
        snapshot = fetch_data(Hub(name), progress, KINDS)
        folder.mkdir(parents=True, exist_ok=True)
        put_whole(folder / SNAPSHOT, lambda beside: beside.write_text(str(snapshot)))
    except CheckpointError as error:
        raise DataError(f"there is no {name} here: {error}") from error
    return snapshot
