"""How the rows of a transcript look: headings, folded thinking, and tokens in their tints."""

from collections.abc import Iterator, Sequence

from rich.segment import Segment
from rich.style import Style

from likely.app.tui.base.text import cells
from likely.app.tui.base.text.block import MessageBlock
from likely.app.tui.base.text.text_style import RULE
from likely.app.tui.base.text.wrap import NOBODY, CellRow, Span
from likely.app.tui.base.theme import GLYPHS, Glyphs, Look

GUTTER = 1
UNDERLINED = Style(underline=True, bold=True)
OVERLINED = Style(overline=True)


def heading(block: MessageBlock, width: int, look: Look) -> list[Segment]:
    """Who speaks, and the words beside."""
    who = look.you if block.who != "model" else look.model
    space = width - GUTTER - len(block.who) - 3
    fitting = next((note for note in (block.note, *block.notes) if cells.width(note) <= space), "")
    note = f"  {fitting}" if fitting else ""
    return [Segment(" " * GUTTER + block.who, who), Segment(note, look.faint)]


def fold(block: MessageBlock, width: int, look: Look, glyphs: Glyphs) -> list[Segment]:
    """The line that stands for what can be folded; a thought that is open has what is known of it beside."""
    start, end = block.folding or (0, 0)
    sign = glyphs.fold if block.folded else glyphs.unfold
    if block.thinking is None:
        cut = f" {glyphs.dot} its first {start} are shown, z shows all" if block.folded else ""
        return [Segment(cells.fit(f"{' ' * GUTTER}{sign} result {glyphs.dot} {end} tokens{cut}", width), look.faint)]
    seconds = f" {glyphs.dot} {block.thought_s:.1f} s" if block.thought_s >= 0.05 else ""
    cut = "" if block.growing or block.thought_ended else f" {glyphs.dot} it has no end: no answer"
    line = f"{' ' * GUTTER}{sign} thinking {glyphs.dot} {end - start} tokens{seconds}{cut}"
    notes = (f" {glyphs.dot} {note}" for note in block.thought_notes if note)
    return [Segment(line + next((note for note in notes if cells.width(line + note) <= width), ""), look.faint)]


def tokens(
    block: MessageBlock,
    row: CellRow,
    look: Look,
    lit: int = -1,
    mark: int = -1,
    ends: bool = False,
    shared: Sequence[int] = (),
) -> Iterator[Segment]:
    """The tokens of a row. `lit` is under the cursor; `mark` is underlined; with `ends` every line end is seen; the
    levels of `shared` are grounds. A row from which on tokens are drawn otherwise has a sign before it.

    Only words are tinted, no space around them; but a cursor on a token without a word is seen.
    """
    moved = any(span.token != NOBODY and block.tokens[span.token].moved for span in row.spans)
    yield Segment((GLYPHS.moved if moved else " ") * GUTTER, look.accent if moved else None)
    plain: list[str] = []
    for span in row.spans:
        text, under = span.text, span.token == lit != NOBODY
        style = look.cursor if under else _ink(block, span, look)
        if span.token == mark != NOBODY:
            style = (style or Style()) + UNDERLINED
        if moved and span.token != NOBODY and block.tokens[span.token].moved:
            style = (style or Style()) + OVERLINED
        if text == "\n":
            visible = under or ends
            text = ("⏎" if visible else " ") * span.width
            style = (style or look.faint) if visible else look.face(row.fill)
        elif style is not None and not text.strip(" \u00a0"):
            style = style if under and not block.tokens[lit].text.strip(" \u00a0") else look.ground(span.face)
        if NOBODY < span.token < len(shared) and shared[span.token]:
            style = look.shared[shared[span.token]] + style
        if style is None:
            plain.append(text)
            continue
        if plain:
            yield Segment("".join(plain))
            plain.clear()
        if text:
            yield Segment(text, style)
    if plain:
        yield Segment("".join(plain))
    if row.fill and row.width < block.width:
        yield Segment(" " * (block.width - row.width), look.face(row.fill))


def _ink(block: MessageBlock, span: Span, look: Look) -> Style | None:
    """A token's own style, over that of its face; None for plain text."""
    face = look.face(span.face) if span.face else None
    if span.token == NOBODY:
        return face
    it = block.tokens[span.token]
    level = block.level(span.token)
    style = look.heat[level] if level and not span.face & RULE else None
    if it.given and block.edited and not it.special:  # a person's words in an answer
        style = (style or look.you) + Style(italic=True, bold=False)
    thinking = block.thinking
    if it.special or (style is None and thinking is not None and thinking[0] <= span.token < thinking[1]):
        style = look.faint
    return face + style if face is not None and style is not None else style or face
