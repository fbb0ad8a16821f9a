"""Colours and glyphs, and what stands in for them where a terminal has few colours, none, or only ASCII.

Meaning never rests on colour alone: numbers are printed beside it, and every colour mode keeps the levels of heat
apart. Amber in running text is surprise, blue is probability, yellow the cursor, orange a label or a key; the rest is
grey. The thresholds and the ramps are `app.heat`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from likely.app.tui.base.text import text_style
from likely.app.words import heat

DARK = Theme(
    name="likely-dark",
    primary="#5aa7f8",
    secondary="#7eaefc",
    accent="#f5a742",
    warning="#f2da4a",
    error="#ff7b7b",
    success="#7fc8a9",
    foreground="#e3e5e8",
    background="#101214",
    surface="#15181b",
    panel="#1c2329",
    dark=True,
    variables={
        "bar": "#7eaefc",
        "bar-cut": "#56657f",
        "chosen": "#f2da4a",
        "chosen-bar": "#f2da4a",
        "cursor-ink": "#101214",
        "cursor-fill": "#f2da4a",
        "faint": "#8b939c",
        "cut": "#7b838c",
        "rule": "#333c45",
        "track": "#39434d",
        "row": "#242c34",
        "tint": "#27508f",
        "tile": "#4c93f7",
        "shared-1": "#17232f",
        "shared-2": "#1b3049",
        "shared-3": "#214066",
        "footer-key-foreground": "#f5a742",
        "block-cursor-foreground": "#e3e5e8",
        "block-cursor-background": "#242c34",
        "input-cursor-background": "#e3e5e8",
        "input-cursor-foreground": "#101214",
    },
)
LIGHT = Theme(
    name="likely-light",
    primary="#0b5cad",
    secondary="#2f6fd0",
    accent="#a04e00",
    warning="#6b5200",
    error="#b3261e",
    success="#1f6f50",
    foreground="#1b1f23",
    background="#fcfcfa",
    surface="#f4f4f0",
    panel="#e9ebec",
    dark=False,
    variables={
        "bar": "#2f6fd0",
        "bar-cut": "#a7b4c9",
        "chosen": "#6b5200",
        "chosen-bar": "#d9a400",
        "cursor-ink": "#1b1f23",
        "cursor-fill": "#ffd84a",
        "faint": "#5c636b",
        "cut": "#6a7179",
        "rule": "#c9cdd1",
        "track": "#c3c8cd",
        "row": "#e6e8ea",
        "tint": "#a3c4f3",
        "tile": "#2f6fd0",
        "shared-1": "#eaf1fa",
        "shared-2": "#d9e7f9",
        "shared-3": "#c5dbf7",
        "footer-key-foreground": "#a04e00",
        "block-cursor-foreground": "#1b1f23",
        "block-cursor-background": "#e6e8ea",
        "input-cursor-background": "#1b1f23",
        "input-cursor-foreground": "#fcfcfa",
    },
)


@dataclass(frozen=True)
class Look:
    """The styles of everything drawn cell by cell, resolved for one theme and terminal."""

    heat: tuple[Style, ...]
    text: Style
    faint: Style
    cut: Style
    rule: Style
    track: Style
    you: Style
    model: Style
    bar: Style
    bar_cut: Style
    chosen: Style
    chosen_bar: Style
    tick: Style
    cursor: Style  # the token that a person stands on
    row: Style  # a row that is picked
    tab: Style  # where one is
    band: Style  # the ground of a heading that is a bar
    accent: Style
    alarm: Style
    better: Style
    heading: Style
    tints: tuple[Style, ...]  # a share 0 to 1 behind words: the ground's colour towards one hue, or levels of heat
    tiles: tuple[Style, ...]  # the same of cells without words; () where there are no colours for it
    shared: tuple[Style, ...]  # behind what no, few, most, all texts of a search begin with
    kinds: Mapping[int, Style]  # of each bit of a face
    _faces: dict[int, Style | None] = field(default_factory=dict, compare=False, repr=False)

    def face(self, bits: int) -> Style | None:
        """The style of a face; None for plain text."""
        if bits not in self._faces:
            styles = [style for bit, style in self.kinds.items() if bits & bit]
            self._faces[bits] = Style.combine(styles) if styles else None
        return self._faces[bits]

    def ground(self, bits: int) -> Style | None:
        """How a face is drawn where there is no word."""
        return self.face(bits & text_style.CODE)


SHADES = 17  # steps of a tint
# what a face is in every colour mode: underline is surprise alone
SHAPES = {
    text_style.BOLD: Style(bold=True),
    text_style.ITALIC: Style(italic=True),
    text_style.STRIKE: Style(strike=True),
    text_style.TITLE: Style(bold=True),
    text_style.KEYWORD: Style(bold=True),
    text_style.NAME: Style(bold=True),
    text_style.COMMENT: Style(italic=True, dim=True),
}


def tinted(tint: heat.Tint) -> Style:
    """A level of heat as a style."""

    def colour(name: str) -> str | None:
        return name if name.startswith("#") or not name else f"color({name})"

    return Style(
        color=colour(tint.ink) or None,
        bgcolor=colour(tint.fill) or None,
        underline=tint.underline or None,
        bold=tint.bold or None,
        reverse=tint.reverse or None,
    )


def look(variables: Mapping[str, str], colours: str, dark: bool = True) -> Look:
    """The styles for a theme's variables. `colours` is `true`, `256`, `16` or `plain` (none)."""
    levels = tuple(map(tinted, heat.RAMPS[colours, dark]))
    if colours in ("16", "plain"):
        basic = colours == "16"
        blue, yellow = ("blue", "yellow") if basic else (None, None)
        return Look(
            heat=levels,
            text=Style(),
            faint=Style(dim=True),
            cut=Style(dim=True),
            rule=Style(dim=True),
            track=Style(dim=True),
            you=Style(bold=True, color=blue),
            model=Style(bold=True, color=yellow),
            bar=Style(color=blue),
            bar_cut=Style(dim=True),
            chosen=Style(bold=True, color=yellow),
            chosen_bar=Style(bold=True, color=yellow),
            tick=Style(bold=True),
            cursor=Style(reverse=True, bold=True, underline=True),
            row=Style(reverse=True),
            tab=Style(reverse=True, bold=True),
            band=Style(),
            accent=Style(color=yellow, bold=not basic),
            alarm=Style(color="red" if basic else None, bold=True),
            better=Style(color="green" if basic else None, bold=True),
            heading=Style(bold=True, dim=True),
            tints=levels,
            tiles=(),
            shared=(Style(), *[Style(dim=True)] * 3),
            kinds=SHAPES | {text_style.LINK: Style(color=blue), text_style.MARKUP: Style(dim=True)},
        )

    def ink(name: str, **more: Any) -> Style:
        return Style(color=variables.get(name, "default"), **more)

    def on(name: str, ground: str, **more: Any) -> Style:
        return ink(name, bgcolor=variables.get(ground), **more)

    return Look(
        heat=levels,
        text=ink("foreground"),
        faint=ink("faint"),
        cut=ink("cut"),
        rule=ink("rule"),
        track=ink("track"),
        you=ink("primary", bold=True),
        model=ink("accent", bold=True),
        bar=ink("bar"),
        bar_cut=ink("bar-cut"),
        chosen=ink("chosen", bold=True),
        chosen_bar=ink("chosen-bar"),
        tick=ink("foreground", bold=True),
        cursor=on("cursor-ink", "cursor-fill", bold=True),
        row=on("foreground", "row", bold=True),
        band=Style(bgcolor=variables.get("panel")),
        tab=on("background", "foreground", bold=True),
        accent=ink("accent"),
        alarm=ink("error"),
        better=ink("success"),
        heading=ink("faint", bold=True),
        tints=_towards(variables, "tint", 1.1),
        tiles=_towards(variables, "tile", 0.8),
        shared=(Style(), *(Style(bgcolor=variables.get(f"shared-{level}")) for level in (1, 2, 3))),
        kinds=SHAPES
        | {
            text_style.LINK: ink("primary"),
            text_style.CODE: Style(bgcolor=variables.get("row")),
            text_style.KEYWORD: ink("secondary"),
            text_style.STRING: ink("success"),
            text_style.NUMBER: ink("success"),
            text_style.COMMENT: ink("faint", italic=True),
            text_style.MARKUP: ink("faint"),
        },
    )


def _towards(variables: Mapping[str, str], name: str, power: float) -> tuple[Style, ...]:
    """Grounds from the background to a colour of the theme, for shares 0 to 1."""
    ground, hue = (Color.parse(variables.get(variable, "#000000")) for variable in ("background", name))
    steps = [ground.blend(hue, (i / (SHADES - 1)) ** power) for i in range(SHADES)]
    return tuple(Style(bgcolor=step.hex) for step in steps)


def shade(steps: Sequence[Style], share: float) -> Style:
    """The step of a share 0 to 1."""
    return steps[round(min(max(share, 0.0), 1.0) * (len(steps) - 1))]


@dataclass(frozen=True)
class Glyphs:
    """The characters that are pictures."""

    chosen: str = "▶"
    cut: str = "┊"
    tick: str = "│"
    blocks: str = " ▏▎▍▌▋▊▉█"
    half: str = "▐"  # the end of a bar to the left
    levels: str = "▁▂▃▄▅▆▇█"
    line: str = "─"
    full: str = "━"
    knob: str = "●"
    live: str = "●"
    held: str = "‖"
    ended: str = "■"
    branch: str = "├─ "
    last: str = "└─ "
    pipe: str = "│  "
    here: str = "◀"
    fold: str = "▸"
    unfold: str = "▾"
    lift: str = "✕"
    holds: str = "✓"
    fails: str = "✗"
    down: str = "▼"
    dot: str = "·"
    moved: str = "◆"


GLYPHS = Glyphs()
# what a terminal or a font without pictures gets in their place, cell for cell
ASCII = {
    ord(picture): stand_in
    for pictures, stand_in in (
        ("▶▸", ">"), ("◀", "<"), ("▾▼↓", "v"), ("↑", "^"), ("┊", ":"), ("│▏", "|"), ("▎▍▌▋▊▉█▐", "#"), ("▁␣", "_"),
        ("▂·…", "."), ("▃─", "-"), ("▄≈", "~"), ("▅━", "="), ("▆├╭╮╰╯", "+"), ("▇", "*"), ("●◌∅", "o"), ("‖", "="),
        ("└", "`"), ("∎◆■", "#"), ("⏎", "$"), ("⇥→", ">"), ("←", "<"), ("┤", "+"), ("▲", "^"), ("±", "~"), ("−", "-"),
        ("✕×✗", "x"), ("✓", "v"), ("╶╴–", "-"), ("√", "+"), ("•", "*"), ("░", "."), ("▒", "%"), ("┈", "-"),
        ("○", "."), ("“”", '"'), ("₂²", "2"), ("≤", "<"), ("≥", ">"), ("∝", "~"),
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


class Harmless(LineFilter):
    """Drops what would move a terminal from all that is drawn, whoever wrote it: names, titles, messages. Such
    characters have no width."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if not any(heat.CONTROL.search(segment.text) for segment in segments):
            return segments
        return [Segment(heat.CONTROL.sub("", segment.text), segment.style, segment.control) for segment in segments]


HARMLESS = Harmless()


def track(share: float, size: int, look: Look, glyphs: Glyphs, *, on: bool, picked: bool) -> list[Segment]:
    """A slider of `size` cells with its knob at `share` of the way."""
    knob = min(max(round(share * (size - 1)), 0), size - 1)
    return [
        Segment(glyphs.full * knob, look.bar if on else look.track),
        Segment(glyphs.knob, (look.accent if picked else look.text) if on else look.faint),
        Segment(glyphs.line * (size - 1 - knob), look.track),
    ]


def column(share: float, row: int, rows: int, glyphs: Glyphs) -> str:
    """The cell of a column that is `share` of `rows` high, in the row `row`, 0 the lowest; something of it is seen."""
    levels = glyphs.levels
    full = min(max(round(share * len(levels) * rows), 1), len(levels) * rows) - row * len(levels)
    return levels[min(full, len(levels)) - 1] if full > 0 else " "


def bar(share: float, size: int, glyphs: Glyphs) -> str:
    """A bar of `share` of `size` cells, in fractions of a cell; what is left is blank."""
    parts = len(glyphs.blocks) - 1
    eighths = round(min(max(share, 0.0), 1.0) * size * parts)
    if share > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, parts)
    return (glyphs.blocks[-1] * full + (glyphs.blocks[rest] if rest else "")).ljust(size)


def full_at(scale: float) -> str:
    """Probability that the bars of a panel are drawn to, in words."""
    value = 100 * scale
    return f"bars to {value:.0f} %" if value >= 1 else f"bars to {value:.2g} %"
