"""Text as terminal cells: clusters that every terminal draws equally wide, and nothing that can move its cursor.

What terminals disagree about is taken apart rather than guessed: joined emoji stand side by side, flags are their
letters. The text itself is never changed; copying and files use the original.
"""

import re
import unicodedata
from codecs import getincrementaldecoder
from functools import lru_cache

from rich.cells import cell_len, get_character_cell_size

from likely.app.words.heat import visible

TAB = 4
DOTTED = "◌"  # carries a combining mark that has nothing to stand on
_DROPPED = re.compile("[\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f\U000e0100-\U000e01ef]")
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_RUNS = re.compile(r"\n|\t|[ \u00a0]+|[^\n\t \u00a0]+")
# letters that join with their neighbours into something of another width (conjoining Hangul, Indic with viramas)
_JOINS = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")


def clean(text: str) -> str:
    """Text that is safe to send: control characters as their pictures, nothing that terminals measure differently."""
    if text.isascii() and text.isprintable():
        return text
    parts = re.split("([\n\t])", text.replace("\r\n", "\n"))
    text = _DROPPED.sub("", "".join(part if part in "\n\t" else visible(part) for part in parts))
    text = _FLAG.sub(lambda match: chr(ord(match.group()) - 0x1F1E6 + ord("A")), _SKIN.sub("", text))
    text = _JOINS.sub(DOTTED, _SURROGATE.sub("�", text))
    return text.replace("\u2028", "⏎").replace("\u2029", "⏎")


def one_to_one(text: str) -> str:
    """A line that is being edited, made safe character by character, so that the cursor's arithmetic holds."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else p if len(p := visible(c)) == 1 else "␣" for c in text)


def runs(text: str) -> list[str]:
    """Cleaned text cut where a line may break: line breaks, tabs, spaces, words."""
    return _RUNS.findall(text)


@lru_cache(8192)
def width(text: str) -> int:
    """Cells of cleaned text."""
    return len(text) if text.isascii() else sum(map(cell, text))


def cell(character: str) -> int:
    """Cells of one cleaned character."""
    return get_character_cell_size(character)


@lru_cache(8192)
def clusters(word: str) -> tuple[tuple[str, int], ...]:
    """A word as its clusters and their widths; a mark that begins it is a cluster of width 0, for the one before."""
    if word.isascii():
        return tuple((character, 1) for character in word)
    pairs: list[tuple[str, int]] = []
    for character in word:
        size = cell(character)
        if size == 0 and pairs:
            pairs[-1] = (pairs[-1][0] + character, pairs[-1][1])
        else:
            pairs.append((character, size))
    return tuple(pairs)


def has_wide(word: str) -> bool:
    """Whether a word holds characters two cells wide: a line may break beside each."""
    return not word.isascii() and any(cell(character) == 2 for character in word)


def fit(text: str, size: int, end: str = "…") -> str:
    """Cleaned text on one line, cut to at most `size` cells, with `end` where something was cut."""
    text = text.replace("\n", "⏎").replace("\t", " ")
    if width(text) <= size:
        return text
    fitting, used = [], 0
    room = size - width(end)
    for cluster, cells in clusters(text):
        if used + cells > room:
            break
        fitting.append(cluster)
        used += cells
    return "".join(fitting) + (end if size >= width(end) else "")


def pad(text: str, size: int, right: bool = False) -> str:
    """Cleaned text in exactly `size` cells."""
    text = fit(text, size)
    space = " " * (size - width(text))
    return space + text if right else text + space


def piece_text(piece: bytes) -> str:
    """A piece as a name: leading spaces as `·`, line breaks as `⏎`, bytes that are no text as hexadecimal."""
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02X}" if byte >= 0x80 else chr(byte) for byte in piece)
    stripped = text.lstrip(" ")
    text = "·" * (len(text) - len(stripped)) + stripped
    if text.endswith(" "):
        text = text.rstrip(" ") + "·" * (len(text) - len(text.rstrip(" ")))
    text = clean(text).replace("\n", "⏎").replace("\t", "⇥")
    if text and unicodedata.combining(text[0]):
        text = DOTTED + text
    return text or "∅"


def unfinished(piece: bytes) -> bool:
    """Whether bytes end inside a character."""
    decoder = getincrementaldecoder("utf-8")("replace")
    decoder.decode(piece)
    return bool(decoder.getstate()[0])


def same_width(text: str) -> bool:
    """Whether the terminal library measures a cleaned text as we do (tested for everything that `clean` gives)."""
    return cell_len(text) == width(text)
