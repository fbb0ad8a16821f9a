"""One message on the screen: its tokens, the rows they make, and which of them are folded away.

The rows come in parts, each laid out only when it is looked at. A part ends with a line break, where wrapping begins
anew, so all of them together are the rows of the whole; of one that was not laid out yet, the rows are estimated.
Plain Python; how a row looks is the widget's.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.cells import cell_len

from likely.app.tui.base.text import cells
from likely.app.tui.base.text.lines import Divider
from likely.app.tui.base.text.markdown import Markdown
from likely.app.tui.base.text.wrap import NOBODY, Wrap
from likely.engine.sampling.thinking import ApartMarks, ThoughtSpan, of_mark

WORD = re.compile(r"\s*\S+|\s+")
END_MARK = "∎"
HEADING_ROWS = 2  # a blank row, then who speaks
BEGINNING, LINES = 400, 8  # characters and lines of a tool's result that are shown where it is folded
PART = 64  # tokens of a part at least: it goes on to the next line break
RAGGED = 4  # columns that a row leaves free on average, since words stay whole


class ShownToken(NamedTuple):
    """One token as the transcript shows it."""

    text: str
    level: int = 0  # heat
    special: bool = False
    given: bool = False  # not drawn: a person's words or choice
    piece: bytes = b""  # its bytes, where they are not those of its text: some are of a character that it shares
    moved: str = ""  # what changed of how tokens are drawn, from this one on


@dataclass(slots=True)
class Part:
    """Tokens from one line break to a later one, or to the end of the message; `listed` where a list may go on."""

    first: int
    end: int
    rows: int = 0  # estimated until there is a wrap
    wrap: Wrap | None = None
    markdown: Markdown | None = None  # what feeds the wrap, where the message is rendered
    listed: bool = False


@dataclass
class MessageBlock:
    """One message: its heading, its tokens in rows, and where a thought, or what a tool's result goes on with, is
    folded away."""

    key: str  # id of the message's first node
    who: str
    note: str = ""
    notes: tuple[str, ...] = ()  # the same shorter and shorter, for less room
    tokens: list[ShownToken] = field(default_factory=list)
    scored: bool = False  # tokens are the model's; else a person's words, not looked at yet
    opened: bool = False  # the prompt before it ends within a thought
    apart: Sequence[str] = ()  # marks around what is said, which are hidden as control tokens are
    thought_s: float = 0.0  # that its thought took
    thought_notes: tuple[str, ...] = ()  # words beside it where it is open, shorter and shorter
    folded: bool = False
    specials: bool = False  # show control tokens
    edited: bool = False  # an answer with words of a person's: given tokens are told apart
    rendered: bool = False  # as Markdown
    growing: bool = False  # more may come
    raw: int = NOBODY  # a token that is shown as it was written, whatever its rendering is
    width: int = 0  # columns; 0: not on a screen yet
    parts: list[Part] = field(default_factory=lambda: [Part(0, 0)])
    laid: int = 0  # tokens that were laid out, each time anew: what the work is counted in
    _thought: ThoughtSpan = field(default_factory=ThoughtSpan)
    _apart: ApartMarks = field(init=False)
    _rest: int = 0  # the first token behind the beginning of a result
    _lead: int = 0  # the first token that shows something
    _tops: list[int] | None = None  # the row at which each part begins

    def __post_init__(self) -> None:
        self._apart = ApartMarks(self.apart)

    # -- tokens ------------------------------------------------------------------------------------------------------

    def fill(self, tokens: Iterable[ShownToken]) -> None:
        """Hold these tokens and no others."""
        self.tokens, self._thought, self._apart = list(tokens), ThoughtSpan(self.opened), ApartMarks(self.apart)
        self._think(0)
        self._rest = _beginning(self.tokens)
        self._divide()

    def open_thought(self) -> None:
        """The prompt before it ends within a thought: what comes is one until its end."""
        if not self.opened:
            self.opened = True
            self.fill(self.tokens)

    @property
    def thinking(self) -> tuple[int, int] | None:
        """The tokens of the thought, a half-open range."""
        return self._thought.span if self.who == "model" else None

    @property
    def folding(self) -> tuple[int, int] | None:
        """The tokens that a fold hides, a half-open range: of an answer its thought, of a tool's result its rest."""
        if self.who == "tool":
            return (self._rest, len(self.tokens)) if self._rest < len(self.tokens) else None
        return self.thinking

    @property
    def thought_ended(self) -> bool:
        return self._thought.closed

    def fold(self, folded: bool) -> None:
        """Fold away what can be, or show it."""
        self.folded = folded
        self._divide()

    def show_specials(self, on: bool) -> None:
        """Show control tokens, or hide them."""
        self.specials = on
        self._divide()

    def render(self, on: bool) -> None:
        """Show Markdown as what it means, or as it was written."""
        if on != self.rendered:
            self.rendered, self.raw = on, NOBODY
            self._divide()

    def grow(self, growing: bool) -> None:
        """Set whether more tokens may come: while they may, Markdown that is open counts as closed at the end."""
        if growing != self.growing:
            self.growing = growing
            self._unlay(len(self.parts) - 1)

    def show_raw(self, token: int) -> bool:
        """Show a token as it was written, and none that was shown so before; whether a part has to be laid out anew."""
        parts = [(owner, self.part_of(owner)) for owner in {self.raw, token} if owner != NOBODY]
        self.raw, changed = token, False
        for owner, index in parts:
            markdown = self.parts[index].markdown
            if markdown is not None and owner in markdown.changed:
                self._unlay(index)
                changed = True
        return changed

    def extend(self, tokens: Iterable[ShownToken]) -> int:
        """Append tokens; gives the first body row that changed."""
        first, before = len(self.tokens), self.thinking
        self.tokens += tokens
        marked = self._think(first)
        begun = self.thinking is not None and before is None and self.thinking[0] < first  # before these
        if begun or marked:
            self._divide()
            return 0
        self._lay(len(self.parts) - 1)
        dirty = self.body_rows - 1
        while first < len(self.tokens):
            end = first + 1  # as many at once as there can be: what is open is rendered anew
            while end < len(self.tokens) and not self.tokens[end - 1].text.endswith("\n"):
                end += 1
            dirty = min(dirty, self._push(first, end))
            first = end
        return dirty

    def shown(self, token: int) -> str:
        """The text of a token as it is laid out: empty where it is hidden."""
        it = self.tokens[token]
        if self.folded and self._foldable(token):
            return ""
        if self.thinking is not None and self._foldable(token):
            return "" if it.special and not of_mark(it.text) else it.text
        if token in self._apart.tokens and not self.specials:
            return ""
        if it.special and not self.specials:
            return END_MARK if token == len(self.tokens) - 1 and self.scored and not it.given else ""
        # a reply begins with a space or line breaks that say nothing
        return it.text if token > self._lead else it.text.lstrip()

    def visible(self, token: int) -> bool:
        """Whether the cursor stops at a token: those hidden on purpose are passed over."""
        it = self.tokens[token]
        folded = self.folded and self._foldable(token)
        return not folded and (not (it.special or token in self._apart.tokens) or bool(self.shown(token)))

    def _foldable(self, token: int) -> bool:
        return self.folding is not None and self.folding[0] <= token < self.folding[1]

    def sharers(self, token: int) -> range:
        """The tokens whose bytes make the first character of a token, itself the last: one cell stands for them all."""
        first, it = token, self.tokens[token]
        if it.piece and it.text and it.text[0] != "�":
            while first and not self.tokens[first - 1].text and self.tokens[first - 1].piece:
                first -= 1
            first -= int(first > 0 and cells.unfinished(self.tokens[first - 1].piece))
        return range(first, token + 1)

    def level(self, token: int) -> int:
        """The heat of a token's cells: the highest of those that they stand for."""
        it = self.tokens[token]
        return max(self.tokens[index].level for index in self.sharers(token)) if it.piece else it.level

    def _think(self, first: int) -> bool:
        """Find the model's thinking in the tokens from `first` on, and marks; whether there are more of these."""
        marked = False
        for token in self.tokens[first:]:
            self._thought.push(token.text)
            marked = self._apart.push(token.text) or marked
        return marked

    # -- rows --------------------------------------------------------------------------------------------------------

    @property
    def head_rows(self) -> int:
        """Rows above the body: the heading, and the line that stands for what can be folded."""
        return HEADING_ROWS + self.fold_rows

    @property
    def fold_rows(self) -> int:
        return int(self.folding is not None)

    @property
    def body_rows(self) -> int:
        return self.tops[-1] + self.parts[-1].rows

    @property
    def rows(self) -> int:
        return self.head_rows + self.body_rows

    @property
    def tops(self) -> list[int]:
        """The body row at which each part begins."""
        if self._tops is None:
            self._tops, top = [], 0
            for index, part in enumerate(self.parts):
                if not part.rows:
                    part.rows = self._estimate(index)
                self._tops.append(top)
                top += part.rows
        return self._tops

    def resize(self, width: int) -> None:
        """Have another width. Nothing is laid out."""
        self.width = width
        for part in range(len(self.parts)):
            self._unlay(part)

    def part_of(self, token: int) -> int:
        """The part that holds a token."""
        return bisect_right(self.parts, token, key=lambda part: part.first) - 1

    def part_at(self, row: int) -> int:
        """The part that holds a body row."""
        return bisect_right(self.tops, row) - 1

    def wrap(self, part: int) -> Wrap:
        """The rows of a part, laid out where they were not yet."""
        return self._lay(part)

    def _divide(self) -> None:
        """Find the parts, after what is shown of the tokens has changed. Nothing is laid out."""
        count = len(self.tokens)
        self._lead = count
        self._lead = next((token for token in range(count) if self.shown(token)), count)
        self.parts, first, listed = [], 0, False
        divider = Divider() if self.rendered else None
        for end, token in enumerate(self.tokens, 1):
            if divider is not None and not token.special:
                divider.push(self.shown(end - 1))
            if end - first >= PART and token.text.endswith("\n") and self.shown(end - 1).endswith("\n"):
                if divider is not None and not divider.ended:
                    continue
                self.parts.append(Part(first, end, listed=listed))
                first, listed = end, divider is not None and divider.listed
        self.parts.append(Part(first, count, listed=listed))
        self._tops = None

    def _unlay(self, index: int) -> None:
        part = self.parts[index]
        part.rows, part.wrap, part.markdown = 0, None, None
        self._tops = None

    def _lay(self, index: int) -> Wrap:
        part = self.parts[index]
        if part.wrap is not None:
            return part.wrap
        wrap = self._begin(part)
        self._put(part, part.first, part.end)
        self.laid += part.end - part.first
        if index < len(self.parts) - 1:
            wrap.close()
        part.rows = len(wrap.rows)
        self._tops = None
        return wrap

    def _begin(self, part: Part) -> Wrap:
        """An empty wrap for a part, of Markdown where the message is rendered."""
        if self.rendered:
            growing = self.growing and part is self.parts[-1]
            part.markdown = Markdown(self.width, part.first, listed=part.listed, raw=self.raw, growing=growing)
        part.wrap = part.markdown.wrap if part.markdown is not None else Wrap(self.width, part.first)
        return part.wrap

    def _put(self, part: Part, first: int, end: int) -> int:
        """Append tokens to a part's wrap; gives the first of its rows that changed."""
        if part.markdown is not None:
            return part.markdown.push((self.shown(token), self.tokens[token].special) for token in range(first, end))
        assert part.wrap is not None
        dirty = len(part.wrap.rows) - 1
        for token in range(first, end):
            part.wrap.push(self.shown(token))
        return dirty

    def _push(self, first: int, end: int) -> int:
        """Lay the next tokens out, of which at most the last ends a line; gives the first body row that changed."""
        part = self.parts[-1]
        top, wrap = self.tops[-1], part.wrap
        assert wrap is not None
        while first <= self._lead < end and not self.shown(self._lead):
            self._lead += 1
        dirty = top + self._put(part, first, end)
        self.laid += end - first
        part.end = end
        ended = part.markdown is None or part.markdown.ended
        if part.end - part.first >= PART and self.shown(end - 1).endswith("\n") and ended:
            wrap.close()
            part.rows = len(wrap.rows)
            self.parts.append(Part(end, end, 1, listed=part.markdown is not None and part.markdown.listed))
            self._begin(self.parts[-1])
            self.tops.append(top + part.rows)
        else:
            part.rows = len(wrap.rows)
        return dirty

    def _estimate(self, index: int) -> int:
        part = self.parts[index]
        room = max(self.width - RAGGED, 1)
        lines = "".join(map(self.shown, range(part.first, part.end))).split("\n")
        rows = sum(max(-(-cell_len(line) // room), 1) for line in lines)
        return rows - (index < len(self.parts) - 1)


def _beginning(tokens: Sequence[ShownToken]) -> int:
    """How many tokens are shown of a result that is folded: whole lines, as a rule."""
    size = lines = 0
    for count, token in enumerate(tokens):
        if size >= BEGINNING or lines >= LINES:
            return count
        size, lines = size + len(token.text), lines + token.text.count("\n")
    return len(tokens)


def words(text: str) -> list[ShownToken]:
    """A person's text as one token a word, until the model has looked at it."""
    return [ShownToken(word, given=True) for word in WORD.findall(text)]
