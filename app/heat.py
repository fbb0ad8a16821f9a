"""Surprisal as colour: fixed thresholds in bits, and text made safe to show.

The ramp is cividis-like: its luminance is strictly monotone, so it reads in grey and for every kind of colour
blindness.
Knows nothing of textual: the plain commands use it too.
"""

import math
import os
import re
from bisect import bisect_right
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from engine.trace.trace import TokenStep

BITS = (1.0, 2.0, 4.0, 6.0, 9.0)  # p > 50 %, 25 %, 6 %, 1.6 %, 0.2 %: the levels 0..5 lie between
MOVED = (0.02, 0.1, 0.3, 1.0, 3.0)  # nats of KL between two distributions of the next token
DARK = (None, "#1f3b6f", "#4d5a6e", "#7b7b78", "#b3a369", "#f2da4a")
LIGHT = (None, "#f5e690", "#cdbb6a", "#9c9473", "#66696f", "#1f3b6f")
DARK_TEXT = (None, "#ffffff", "#ffffff", "#000000", "#000000", "#000000")
LIGHT_TEXT = (None, "#000000", "#000000", "#000000", "#ffffff", "#ffffff")
INDEX_256 = (None, 23, 59, 243, 143, 221)
BASIC = ("", "36", "36;4", "33", "7;33", "7;33;1")  # 16 colours: SGR parameters
PLAIN = ("", "", "4", "4;1", "7", "7;1")  # no colour: attributes alone
HEATS = ("surprisal", "entropy", "rank", "off")
RANKS = (2, 3, 6, 21, 101)  # the lowest rank of each level from 1 on

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def level(bits: float | None) -> int:
    """The step 0..5 of the ramp for a surprisal in bits; 0 where there is none."""
    return 0 if bits is None else bisect_right(BITS, bits)


def moved_level(kl: float) -> int:
    """The step 0..5 of the ramp for a KL in nats."""
    return bisect_right(MOVED, kl)


def heat_level(step: "TokenStep", heat: str) -> int:
    """The level 0..5 of a step under one way of looking."""
    if heat == "surprisal":
        return level(None if step.logprob is None else -step.logprob / math.log(2))
    if heat == "entropy":
        return level(None if step.entropy is None else step.entropy / math.log(2))
    if heat == "rank" and step.rank is not None:
        return sum(step.rank >= rank for rank in RANKS)
    return 0


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


def paint(text: str, step: int, mode: str) -> str:
    """Text in the colours of a heat level, as a terminal's escape codes; unchanged at level 0 or in mode `none`."""
    if not step or mode == "none" or not text:
        return text
    if mode == "true":
        back, front = DARK[step], DARK_TEXT[step]
        assert back is not None and front is not None
        code = f"48;2;{_rgb(back)};38;2;{_rgb(front)}"
    elif mode == "256":
        code = f"48;5;{INDEX_256[step]};38;5;{15 if step < 3 else 16}"
    else:
        code = (BASIC if mode == "16" else PLAIN)[step]
    # a line break is left outside: a terminal would paint the rest of the line
    return "\n".join(f"\x1b[{code}m{part}\x1b[0m" if part and code else part for part in text.split("\n"))


def visible(text: str) -> str:
    """Text that cannot move a cursor or reorder a line: control characters become their pictures."""
    return CONTROL.sub(lambda found: _picture(found.group()), text)


def _picture(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else f"<{code:04X}>"


def _rgb(colour: str) -> str:
    return ";".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
