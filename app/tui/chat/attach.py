"""Attachments of a message (files named with `@path`, lines of one with `@path:10-40`), the history of prompts on disk,
code blocks in an answer.
"""

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from likely.engine.base.errors import DataError
from likely.engine.base.files.foreign_json import parse
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import read_whole, refuse_pipe

LARGEST = 4_000_000  # bytes of a file that are worth counting
KEPT = 500  # prompts remembered
HISTORY = "history.jsonl"  # where, in likely's folder
PART = 0.5  # of the room that is left, for a part of a file: an answer wants some too
_LINES = re.compile(r"(.+):(\d+)-(\d*)")
_NAMED = re.compile(r'(?<!\S)@("[^"]+"|[^\s@]+)')
_FENCE = re.compile(r"^(`{3,}|~{3,})[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    text: str


def attachments(text: str) -> list[Attachment]:
    """The files that a prompt names with `@path`, and lines of them, counted from 1. Raises DataError for one that
    cannot be read as text, and for lines that it has not.

    A word that begins with @ and names no file stays a word.
    """
    attachments = []
    for match in _NAMED.finditer(text):
        path, lines = _place(match[1])
        if path.is_dir():
            raise DataError(f"@{path} is a folder: name a text file")
        if path.is_file():
            attachments.append(read(path) if lines is None else _part(read(path), *lines))
        elif "/" in match[1] or match[1].startswith('"'):
            raise DataError(f"there is no file {path}: nothing was sent")
    return attachments


def _place(named: str) -> tuple[Path, tuple[int, int | None] | None]:
    """The path that is named, and the first and the last of its lines, None for the last there is."""
    path = expanded(named.strip('"'))
    match = _LINES.fullmatch(named.strip('"'))
    if match is None or path.is_file():
        return path, None
    return expanded(match[1]), (int(match[2]), int(match[3]) if match[3] else None)


def _part(whole: Attachment, first: int, last: int | None) -> Attachment:
    lines = whole.text.splitlines()
    last = len(lines) if last is None else last
    if not 1 <= first <= last <= len(lines):
        raise DataError(
            f"@{whole.name} has {len(lines):,} line{'s' * (len(lines) != 1)}: {first}-{last} are none of them"
        )
    return Attachment(f"{whole.name}:{first}-{last}", "\n".join(lines[first - 1 : last]))


def narrowed(text: str, share: float) -> tuple[str, str]:
    """A prompt with so much of the last file that it names, in whole lines, and the name of what is left of that.

    "" for both where there is no line to leave out.
    """
    for match in [*_NAMED.finditer(text)][::-1]:
        path, lines = _place(match[1])
        if path.is_file():
            count = len(read(path).text.splitlines())
            first, last = lines or (1, None)
            last = count if last is None else last
            until = first + int((last - first + 1) * share) - 1
            if first <= until < last:
                named = [_named(path, f":{a}-{b}") for a, b in ((first, until), (until + 1, last))]
                return text[: match.start()] + named[0] + text[match.end() :], named[1]
            break
    return "", ""


def mistaken(text: str) -> str:
    """A line about a word that begins with @ and looks like a file's name but names none, or ""."""
    names = [match[1] for match in _NAMED.finditer(text)]
    absent = [name for name in names if len(Path(name).suffix) > 1 and not expanded(name).is_file()]
    return f"there is no file {absent[0]} here: it was sent as a word" if absent else ""


def read(path: Path) -> Attachment:
    """A text file. Raises DataError where it is none, or too large."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise DataError(f"{path} has {size / 1e6:.1f} MB: at most {LARGEST / 1e6:.0f} MB can be attached")
        return Attachment(path.name, path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: only text can be attached") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def joined(text: str, attachments: Sequence[Attachment]) -> str:
    """A prompt with its attachments after it, fenced and named."""
    parts = [text.rstrip()] if text.strip() else []
    for item in attachments:
        longest = max((len(run) for run in re.findall("`+", item.text)), default=0)
        fence = "`" * max(3, longest + 1)
        parts.append(f"{fence}{item.name}\n{item.text.rstrip()}\n{fence}")
    return "\n\n".join(parts)


def complete(text: str) -> list[str]:
    """A prompt that ends in the beginning of `@path`, completed in every way."""
    match = re.search(r'(?<!\S)@("[^"]*|\S*)$', text)
    if match is None:
        return []
    written = match[1].removeprefix('"')
    typed = expanded(written)
    folder, stem = (typed, "") if written.endswith("/") or not written else (typed.parent, typed.name)
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.name.startswith(stem))
    except OSError:
        return []
    shown = [entry for entry in entries if stem.startswith(".") or not entry.name.startswith(".")]
    return [text[: match.start()] + _named(entry) for entry in shown[:50]]


def _named(path: Path, lines: str = "") -> str:
    """`@path`, with its lines, in quotes where it has a space: a folder's stay open, for what is in it."""
    if " " not in str(path):
        return f"@{path}{'/' if path.is_dir() else lines}"
    return f'@"{path}/' if path.is_dir() else f'@"{path}{lines}"'


def pasted(text: str) -> str | None:
    """`@path` for a paste that is the path of a file, as a terminal gives it when one is dropped there; else None."""
    line = text.strip()
    if not line or "\n" in line or len(line) > 1000:
        return None
    line = unquote(line.removeprefix("file://")) if line.startswith("file://") else line.strip("'\"")
    for path in (expanded(line), expanded(line.replace("\\ ", " "))):
        try:
            if "/" in line and path.is_file():
                return _named(path)
        except OSError:
            return None
    return None


def code_block(text: str, before: int) -> str | None:
    """The code block that begins last before a character, or else the first; None where there is none."""
    blocks = [(match.start(), match[2]) for match in _FENCE.finditer(text)]
    if not blocks:
        return None
    earlier = [code for start, code in blocks if start <= before]
    return (earlier[-1] if earlier else blocks[0][1]).rstrip("\n")


def read_history(path: Path) -> list[str]:
    """The prompts of earlier times, oldest first; lines that cannot be read are left out."""
    prompts = []
    try:
        refuse_pipe(path)
        lines = read_whole(path).split("\n")[-KEPT - 1 :]
    except DataError:
        return []
    for line in lines:
        with contextlib.suppress(ValueError):
            prompts.append(parse(line, str))
    return prompts


def append_history(path: Path, prompt: str) -> None:
    """Remember a prompt; where that fails nothing else does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_pipe(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(prompt) + "\n")
    except (OSError, DataError):
        return
