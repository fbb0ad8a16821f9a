"""Colours and glyphs, and what stands in for them where a terminal has few colours, none, or only ASCII.

Meaning never rests on colour alone: numbers are printed beside it, and every colour mode keeps the six levels of heat
apart. The thresholds and the ramp are `app.heat`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from app import heat

DARK = Theme(
    name="likely-dark",
    primary="#5aa7f8",
    secondary="#7eaefc",
    accent="#f5a742",
    warning="#f2da4a",
    error="#ff6b6b",
    success="#7fc8a9",
    foreground="#e3e5e8",
    background="#101214",
    surface="#15181b",
    panel="#20282f",
    dark=True,
    variables={
        "bar": "#7eaefc",
        "bar-cut": "#56657f",
        "bar-chosen": "#f2da4a",
        "faint": "#8b939c",
        "rule": "#333c45",
        "footer-key-foreground": "#f5a742",
        "block-cursor-foreground": "#101214",
        "block-cursor-background": "#e3e5e8",
        "input-cursor-background": "#e3e5e8",
        "input-cursor-foreground": "#101214",
        **{f"heat-{i}": colour for i, colour in enumerate(heat.DARK) if colour},
        **{f"heat-text-{i}": colour for i, colour in enumerate(heat.DARK_TEXT) if colour},
    },
)
LIGHT = Theme(
    name="likely-light",
    primary="#0b5cad",
    secondary="#2f6fd0",
    accent="#a85200",
    warning="#7a5c00",
    error="#b3261e",
    success="#1f6f50",
    foreground="#1b1f23",
    background="#fcfcfa",
    surface="#f4f4f0",
    panel="#e6e8ea",
    dark=False,
    variables={
        "bar": "#2f6fd0",
        "bar-cut": "#a7b4c9",
        "bar-chosen": "#a85200",
        "faint": "#646b73",
        "rule": "#c9cdd1",
        "footer-key-foreground": "#a85200",
        "block-cursor-foreground": "#fcfcfa",
        "block-cursor-background": "#1b1f23",
        "input-cursor-background": "#1b1f23",
        "input-cursor-foreground": "#fcfcfa",
        **{f"heat-{i}": colour for i, colour in enumerate(heat.LIGHT) if colour},
        **{f"heat-text-{i}": colour for i, colour in enumerate(heat.LIGHT_TEXT) if colour},
    },
)
# 16 colours: the terminal's own, with levels told apart by attributes too (app.heat.BASIC)
_BASIC = ("", "cyan", "underline cyan", "yellow", "reverse yellow", "bold reverse yellow")
# no colour at all (app.heat.PLAIN)
_PLAIN = ("", "", "underline", "bold underline", "reverse", "bold reverse")


@dataclass(frozen=True)
class Look:
    """The styles of everything drawn cell by cell, resolved for one theme and terminal."""

    heat: tuple[Style, ...]
    text: Style
    faint: Style
    rule: Style
    you: Style
    model: Style
    bar: Style
    bar_cut: Style
    chosen: Style
    tick: Style
    cursor: Style
    accent: Style
    heading: Style


def look(variables: Mapping[str, str], colours: str) -> Look:
    """The styles for a theme's variables. `colours` is `rich` (256 and up), `basic` (16) or `plain` (none)."""
    if colours != "rich":
        basic = colours == "basic"
        return Look(
            heat=tuple(Style.parse(style) for style in (_BASIC if basic else _PLAIN)),
            text=Style(),
            faint=Style(dim=True),
            rule=Style(dim=True),
            you=Style(bold=True, color="blue" if basic else None),
            model=Style(bold=True, color="yellow" if basic else None),
            bar=Style(color="blue" if basic else None),
            bar_cut=Style(dim=True),
            chosen=Style(bold=True, color="yellow" if basic else None),
            tick=Style(bold=True),
            cursor=Style(reverse=True, bold=True, underline=True),
            accent=Style(color="yellow" if basic else None, bold=not basic),
            heading=Style(bold=True, dim=True),
        )

    def ink(name: str, **more: Any) -> Style:
        return Style(color=variables.get(name, "default"), **more)

    levels = [Style()]
    levels += [
        Style(color=variables[f"heat-text-{i}"], bgcolor=variables[f"heat-{i}"])
        if f"heat-{i}" in variables
        else Style(color=heat.DARK_TEXT[i], bgcolor=heat.DARK[i])
        for i in range(1, 6)
    ]
    return Look(
        heat=tuple(levels),
        text=ink("foreground"),
        faint=ink("faint"),
        rule=ink("rule"),
        you=ink("primary", bold=True),
        model=ink("accent", bold=True),
        bar=ink("bar"),
        bar_cut=ink("bar-cut"),
        chosen=ink("bar-chosen"),
        tick=ink("foreground", bold=True),
        cursor=Style(color=variables.get("background"), bgcolor=variables.get("foreground"), bold=True),
        accent=ink("accent"),
        heading=ink("faint", bold=True),
    )


@dataclass(frozen=True)
class Glyphs:
    """The characters that are pictures."""

    chosen: str = "▶"
    cut: str = "┊"
    tick: str = "│"
    blocks: str = " ▏▎▍▌▋▊▉█"
    levels: str = "▁▂▃▄▅▆▇█"
    line: str = "─"
    full: str = "━"
    knob: str = "●"
    live: str = "●"
    held: str = "‖"
    branch: str = "├─ "
    last: str = "└─ "
    pipe: str = "│  "
    here: str = "◀"
    fold: str = "▸"
    unfold: str = "▾"
    down: str = "▼"
    dot: str = "·"
    approx: str = "≈"


GLYPHS = Glyphs()
# what a terminal or a font without pictures gets in their place, cell for cell
ASCII = {
    ord(picture): stand_in
    for pictures, stand_in in (
        ("▶▸", ">"), ("◀", "<"), ("▾▼↓", "v"), ("↑", "^"), ("┊", ":"), ("│▏", "|"), ("▎▍▌▋▊▉█", "#"), ("▁␣", "_"),
        ("▂·…", "."), ("▃─", "-"), ("▄≈", "~"), ("▅━", "="), ("▆├╭╮╰╯", "+"), ("▇", "*"), ("●◌∅", "o"), ("‖", "="),
        ("└", "`"), ("∎◆", "#"), ("⏎", "$"), ("⇥→", ">"), ("←", "<"), ("┤", "+"), ("▲", "^"), ("±", "~"), ("−", "-"),
    )
    for picture in pictures
}  # fmt: skip
# braille: dots in the upper half of the cell, in the lower half, in both
ASCII |= {0x2800 + dots: " '.:"[bool(dots & 0x1B) + 2 * bool(dots & 0xE4)] for dots in range(256)}


class Ascii(LineFilter):
    """Draws every picture as its ASCII stand-in, on all screens at once."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.text.isascii()
            else Segment(segment.text.translate(ASCII), segment.style, segment.control)
            for segment in segments
        ]


def track(share: float, size: int, look: Look, glyphs: Glyphs, *, on: bool, picked: bool) -> list[Segment]:
    """A slider of `size` cells with its knob at `share` of the way."""
    knob = min(max(round(share * (size - 1)), 0), size - 1)
    return [
        Segment(glyphs.full * knob, look.bar if on else look.rule),
        Segment(glyphs.knob, (look.accent if picked else look.text) if on else look.faint),
        Segment(glyphs.line * (size - 1 - knob), look.rule),
    ]


def bar(share: float, size: int, glyphs: Glyphs) -> str:
    """A bar of `share` of `size` cells, in fractions of a cell; what is left is blank."""
    parts = len(glyphs.blocks) - 1
    eighths = round(min(max(share, 0.0), 1.0) * size * parts)
    if share > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, parts)
    return (glyphs.blocks[-1] * full + (glyphs.blocks[rest] if rest else "")).ljust(size)
