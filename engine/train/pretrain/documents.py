"""Documents of a file or a folder of text, one after another, never all in memory.

Text files are cut at blank lines, or at lines where there are none, into documents of some thousand characters, so that
a part of a long one can be set aside; rows of JSONL, JSON, CSV and Parquet with a "text" are documents as they stand.
"""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from likely.engine.base.errors import DataError
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import check_readable, open_file
from likely.engine.text.rows.values import KINDS
from likely.engine.train.data import data

TEXTS = (".txt", ".md", ".rst", ".tex", ".py")
SHORT, LONG = 1 << 11, 1 << 14  # characters of a document that is cut out of a file, at least and at most
PARTS = 64  # documents of a file that is between
READ = 1 << 20  # bytes at once


@dataclass(frozen=True)
class CorpusDocument:
    """A text, and whether it is the end of the one that it is cut from."""

    text: str
    ends: bool = True


def sources(path: str | Path) -> list[Path]:
    """The files at `path`, in the order of their names; DataError where there is none."""
    root = expanded(path)
    if not root.exists():
        raise DataError(f"there is no {root}: expected a file or a folder of text")
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError(f"{root} is a pipe or a device: expected a file or a folder, which is read twice")
    check_readable(root)
    inside = [p for p in root.rglob("*") if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    files = sorted(p for p in inside if p.suffix in (*TEXTS, *KINDS) and p.is_file())
    if not files:
        raise DataError(f"{root} has no text: expected files that end with {', '.join((*TEXTS, *KINDS))}")
    return files


def documents(file: Path) -> Iterator[CorpusDocument]:
    """The documents of a file; DataError for what is no text, with the byte where it is not."""
    if file.suffix not in KINDS:
        yield from _cut(file)
        return
    for row in data.rows(file):
        if row.form != "text":
            raise DataError(f'{row.where}: a row with "text" expected, got a {row.form}: likely tune learns from those')
        try:
            row.text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{row.where}: half of a surrogate pair at character {error.start}: remove it") from None
        if row.text.strip():
            yield CorpusDocument(row.text)


def _cut(file: Path) -> Iterator[CorpusDocument]:
    """A text file in documents of about the same length."""
    long = min(LONG, max(SHORT, file.stat().st_size // PARTS))
    held = ""
    for part in _decoded(file):
        held += part
        while len(held) > 2 * long:
            edges = ((held.rfind(mark, long // 2, long), len(mark)) for mark in ("\n\n", "\n", " "))
            edge = next((at + size for at, size in edges if at > 0), long)
            if held[:edge].strip():
                yield CorpusDocument(held[:edge], ends=False)
            held = held[edge:]
    if held.strip():
        yield CorpusDocument(held)


def _decoded(file: Path) -> Iterator[str]:
    """The text of a file, piece by piece."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    before = 0
    try:
        with open_file(file) as opened:
            while True:
                read = opened.read(READ)
                if b"\0" in read:
                    raise DataError(f"{file} is no text: byte {before + read.index(0)} is zero")
                yield decoder.decode(read, final=not read)
                if not read:
                    return
                before += len(read)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} must be UTF-8: {error.reason} near byte {before + error.start}") from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
