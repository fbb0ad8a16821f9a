"""Surprise as a tint of the words: levels in bits, one amber hue that grows in strength and in shape.

Nothing is drawn below the first level. The levels differ in shape as well (colour, underline, dark fill, full fill), so
they hold in grey and for every kind of colour blindness; text on its ground has a contrast of 4.5:1 and more.
Knows nothing of textual: the plain commands and the HTML export use it too.
"""

import math
import os
import re
import shutil
import sys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from likely.engine.sampling.trace.step import TokenStep

BITS = (2.0, 4.0, 6.0, 8.0)  # p < 25 %, 6 %, 1.6 %, 0.4 %: where the levels 1..4 begin
RANKS = (3, 6, 21, 101)  # the lowest rank of each level
MOVED = (0.1, 0.3, 1.0, 3.0)  # nats of KL between two distributions of the next token
MARKED = 2  # the level from which a token is underlined or filled: 4 bits
HEATS = ("surprisal", "entropy", "rank", "off")


@dataclass(frozen=True, slots=True)
class Tint:
    """How text of one level looks. A colour is `#rrggbb`, one of 16 or of 256 by its number, "" the ground's own."""

    ink: str = ""
    fill: str = ""
    underline: bool = False
    bold: bool = False
    reverse: bool = False


Ramp = tuple[Tint, Tint, Tint, Tint, Tint]
# by how many colours there are, then whether the ground is dark
RAMPS: dict[tuple[str, bool], Ramp] = {
    ("true", True): (
        Tint(), Tint("#f0d8ad"), Tint("#f2b257", underline=True),
        Tint("#ffc477", "#3b2910"), Tint("#fff1d6", "#94560b"),
    ),
    ("true", False): (
        Tint(), Tint("#55400f"), Tint("#9a5200", underline=True),
        Tint("#7d4200", "#fbe3bd"), Tint("#ffffff", "#a85200"),
    ),
    ("256", True): (Tint(), Tint("223"), Tint("215", underline=True), Tint("222", "58"), Tint("231", "130")),
    ("256", False): (Tint(), Tint("58"), Tint("94", underline=True), Tint("94", "230"), Tint("231", "130")),
    ("16", True): (
        Tint(), Tint(), Tint(underline=True), Tint(underline=True, bold=True), Tint("3", reverse=True),
    ),
    ("16", False): (
        Tint(), Tint(), Tint(underline=True), Tint(underline=True, bold=True), Tint(reverse=True),
    ),
}  # fmt: skip
RAMPS[("plain", True)] = RAMPS[("plain", False)] = RAMPS[("16", False)]

_WORDS = re.compile(r"[^\s\u00a0]+(?:[^\S\n]+[^\s\u00a0]+)*")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
OWN = re.compile(r"\x1b\[[\d;]*m|\r?\x1b\[K")  # colours, and a line that is written anew: what this program sends
LONGEST = 2000  # characters of a line of error


def level(bits: float | None, least: float = BITS[0]) -> int:
    """The level 0..4 of a surprisal in bits; 0 where there is none, and below `least`, which a person chooses."""
    return 0 if bits is None or bits < least else max(bisect_right(BITS, bits), 1)


def moved_level(kl: float) -> int:
    """The level 0..4 of a KL in nats."""
    return bisect_right(MOVED, kl)


def heat_level(step: "TokenStep", heat: str, least: float = BITS[0]) -> int:
    """The level 0..4 of a step under one way of looking."""
    if heat == "surprisal":
        return level(None if step.logprob is None else -step.logprob / math.log(2), least)
    if heat == "entropy":
        return level(None if step.entropy is None else step.entropy / math.log(2), least)
    if heat == "rank" and step.rank is not None:
        return bisect_right(RANKS, step.rank)
    return 0


def legend(heat: str, least: float = BITS[0]) -> list[tuple[str, int]]:
    """Where each level begins that can be seen, in words, and the level: `4+`, 2."""
    if heat == "off":
        return []
    if heat == "rank":
        return [(f"{rank}+", number) for number, rank in enumerate(RANKS, 1)]
    ends = (*BITS[1:], math.inf)
    return [
        (f"{least if number == 1 else max(begin, least):g}+", number)
        for number, (begin, end) in enumerate(zip(BITS, ends, strict=True), 1)
        if least < end
    ]


def bits_of(text: str) -> float | None:
    """The bits from which on words are tinted, as a person typed them; None where that is no number above 0."""
    try:
        bits = float(text)
    except ValueError:
        return None
    return bits if 0 < bits < math.inf else None


def on_dark(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the ground is dark: by LIKELY_THEME, else by the terminal (COLORFGBG), else it is taken for it."""
    env = os.environ if environ is None else environ
    if wanted := env.get("LIKELY_THEME"):
        return "light" not in wanted
    return env.get("COLORFGBG", "").rpartition(";")[2] not in ("7", "15")


def colour_mode(stream: IO[str], environ: Mapping[str, str] | None = None) -> str:
    """How heat can be shown on a stream: `true`, `256`, `16`, `plain` (attributes only) or `none` (not a terminal)."""
    env = os.environ if environ is None else environ
    if env.get("FORCE_COLOR"):
        return "true"
    if not stream.isatty() or env.get("TERM") == "dumb":
        return "none"
    if env.get("NO_COLOR"):
        return "plain"
    if env.get("COLORTERM") in ("truecolor", "24bit"):
        return "true"
    return "256" if "256" in env.get("TERM", "") else "16"


def columns(mode: str) -> int:
    """The room of a line in characters: as much as it likes where it goes to no terminal."""
    return sys.maxsize if mode == "none" else shutil.get_terminal_size().columns


def paint(text: str, step: int, mode: str, dark: bool | None = None) -> str:
    """Text in the look of a level, as a terminal's escape codes; unchanged at level 0 or in mode `none`.

    Only words are drawn: no space around them, and no line break, which would paint the rest of the line. `dark` is the
    ground, None as the environment says.
    """
    if not step or mode == "none":
        return text
    code = _codes(RAMPS[mode, on_dark() if dark is None else dark][step])
    return _WORDS.sub(lambda match: f"\x1b[{code}m{match.group()}\x1b[0m", text) if code else text


def _codes(tint: Tint) -> str:
    """The parameters of an SGR sequence."""
    kinds = (("1", tint.bold), ("4", tint.underline), ("7", tint.reverse))
    return ";".join([*_colour(tint.ink, 3), *_colour(tint.fill, 4), *(code for code, on in kinds if on)])


def _colour(colour: str, plane: int) -> list[str]:
    """The parameters for a colour of the text (plane 3) or of its ground (4)."""
    if colour.startswith("#"):
        return [f"{plane}8", "2", *(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))]
    if not colour:
        return []
    return [f"{plane}{colour}"] if int(colour) < 8 else [f"{plane}8", "5", colour]


def css(tint: Tint) -> str:
    """A level's look as the body of a CSS rule."""
    parts = [f"color:{tint.ink}" if tint.ink else "", f"background:{tint.fill}" if tint.fill else ""]
    parts.append("text-decoration:underline" if tint.underline else "")
    return ";".join(filter(None, parts))


def visible(text: str) -> str:
    """Text that cannot move a cursor or reorder a line: control characters become their pictures."""
    return CONTROL.sub(lambda match: _picture(match.group()), text)


def harmless(text: str) -> str:
    """Text for a terminal: the program's own colour sequences stay, every other control character becomes a picture."""
    if not CONTROL.search(text):
        return text
    parts, at = [], 0
    for own in OWN.finditer(text):
        parts += [visible(text[at : own.start()]), own.group()]
        at = own.end()
    return "".join(parts) + visible(text[at:])


def sanitize_line(text: str) -> str:
    """A text as one harmless line of at most LONGEST characters, the middle cut out: for errors that quote files."""
    shown = visible(text.replace("\n", " ").replace("\t", " "))
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST // 2]} … {shown[-LONGEST // 4 :]}"


def _picture(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else f"<{code:04X}>"
