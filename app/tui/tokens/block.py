"""One message on the screen: its tokens, and the rows they make.

The rows come in parts, each laid out only when it is looked at. A part ends with a line break, where wrapping begins
anew, so all of them together are the rows of the whole; of one that was not laid out yet, the rows are estimated.
Plain Python; how a row looks is the widget's.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.cells import cell_len

from app.tui.tokens.wrap import Wrap

WORD = re.compile(r"\s*\S+|\s+")
THINKING = (b"<think>", b"</think>")
END_MARK = "∎"
HEADING_ROWS = 2  # a blank row, then who speaks
PART = 64  # tokens of a part at least: it goes on to the next line break
RAGGED = 4  # columns that a row leaves free on average, since words stay whole


class ShownToken(NamedTuple):
    """One token as the transcript shows it."""

    text: str
    level: int = 0  # heat
    special: bool = False
    given: bool = False  # not drawn: a person's words or choice


@dataclass(slots=True)
class Part:
    """Tokens from one line break to a later one, or to the end of the message."""

    first: int
    end: int
    rows: int = 0  # estimated until there is a wrap
    wrap: Wrap | None = None


@dataclass
class MessageBlock:
    """One message: its heading, its tokens in rows, and where its thinking is folded away."""

    key: str  # id of the message's first node
    who: str
    note: str = ""
    notes: tuple[str, ...] = ()  # the same shorter and shorter, for less room
    tokens: list[ShownToken] = field(default_factory=list)
    scored: bool = False  # tokens are the model's; else a person's words, not looked at yet
    thinking: tuple[int, int] | None = None  # half-open token range
    folded: bool = False
    specials: bool = False  # show control tokens
    edited: bool = False  # an answer with words of a person's: given tokens are told apart
    rendered: list[Any] | None = None  # strips of the Markdown view, in place of the tokens
    width: int = 0  # columns; 0: not on a screen yet
    parts: list[Part] = field(default_factory=lambda: [Part(0, 0)])
    laid: int = 0  # tokens that were laid out, each time anew: what the work is counted in
    _lead: int = 0  # the first token that shows something
    _tops: list[int] | None = None  # the row at which each part begins

    # -- tokens ------------------------------------------------------------------------------------------------------

    def fill(self, tokens: Iterable[ShownToken]) -> None:
        """Hold these tokens and no others."""
        self.tokens, self.thinking = list(tokens), None
        self._think(0)
        self._divide()

    def fold(self, folded: bool) -> None:
        """Fold the thinking away, or show it."""
        self.folded = folded
        self._divide()

    def show_specials(self, on: bool) -> None:
        """Show control tokens, or hide them."""
        self.specials = on
        self._divide()

    def extend(self, tokens: Iterable[ShownToken]) -> int:
        """Append tokens; gives the first body row that changed."""
        first = len(self.tokens)
        self.tokens += tokens
        self._think(first)
        self._lay(len(self.parts) - 1)
        dirty = self.body_rows - 1
        for token in range(first, len(self.tokens)):
            dirty = min(dirty, self._push(token))
        return dirty

    def shown(self, token: int) -> str:
        """The text of a token as it is laid out: empty where it is hidden."""
        it = self.tokens[token]
        if self.thinking is not None and self.thinking[0] <= token < self.thinking[1]:
            return "" if self.folded or it.special else it.text
        if it.special and not self.specials:
            return END_MARK if token == len(self.tokens) - 1 and self.scored and not it.given else ""
        # a reply begins with a space or line breaks that say nothing
        return it.text if token > self._lead else it.text.lstrip()

    def visible(self, token: int) -> bool:
        """Whether the cursor stops at a token: those hidden on purpose are passed over."""
        it = self.tokens[token]
        folded = self.folded and self.thinking is not None and self.thinking[0] <= token < self.thinking[1]
        return not folded and (not it.special or bool(self.shown(token)))

    def _think(self, first: int) -> None:
        """Find the model's thinking in the tokens from `first` on."""
        if self.who != "model":
            return
        for index in range(first, len(self.tokens)):
            if self.thinking is None:
                if self.tokens[index].text.strip() == "<think>":
                    self.thinking = (index, index + 1)
            elif self.thinking[1] == index and self.tokens[index - 1].text.strip() != "</think>":
                self.thinking = (self.thinking[0], index + 1)

    # -- rows --------------------------------------------------------------------------------------------------------

    @property
    def head_rows(self) -> int:
        """Rows above the body: the heading, and the line that stands for thinking."""
        return HEADING_ROWS + self.fold_rows

    @property
    def fold_rows(self) -> int:
        return int(self.thinking is not None and self.rendered is None)

    @property
    def body_rows(self) -> int:
        return len(self.rendered) if self.rendered is not None else self.tops[-1] + self.parts[-1].rows

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
        for part in self.parts:
            part.rows, part.wrap = 0, None
        self._tops = None

    def part_of(self, token: int) -> int:
        """The part that holds a token."""
        return bisect_right(self.parts, token, key=lambda part: part.first) - 1

    def part_at(self, row: int) -> int:
        """The part that holds a body row."""
        return bisect_right(self.tops, row) - 1

    def wrap(self, part: int) -> Wrap:
        """The rows of a part, laid out where they were not yet."""
        wrap = self.parts[part].wrap
        return self._lay(part) if wrap is None else wrap

    def _divide(self) -> None:
        """Find the parts, after what is shown of the tokens has changed. Nothing is laid out."""
        count = len(self.tokens)
        self._lead = count
        self._lead = next((token for token in range(count) if self.shown(token)), count)
        self.parts, first = [], 0
        for end, token in enumerate(self.tokens, 1):
            if end - first >= PART and token.text.endswith("\n") and self._ends_line(end - 1):
                self.parts.append(Part(first, end))
                first = end
        self.parts.append(Part(first, count))
        self._tops = None

    def _lay(self, index: int) -> Wrap:
        part = self.parts[index]
        if part.wrap is None:
            wrap = part.wrap = Wrap(self.width, part.first)
            for token in range(part.first, part.end):
                wrap.push(self.shown(token))
            self.laid += part.end - part.first
            if index < len(self.parts) - 1:
                wrap.close()
            part.rows = len(wrap.rows)
            self._tops = None
        return part.wrap

    def _push(self, token: int) -> int:
        """Lay the next token out; gives the first body row that changed."""
        part, text = self.parts[-1], self.shown(token)
        if not text and self._lead == token:
            self._lead += 1
        top, wrap = self.tops[-1], part.wrap
        assert wrap is not None
        dirty = top + wrap.push(text)
        self.laid += 1
        part.end = token + 1
        if part.end - part.first >= PART and text.endswith("\n"):
            wrap.close()
            part.rows = len(wrap.rows)
            self.parts.append(Part(part.end, part.end, 1, Wrap(self.width, part.end)))
            self.tops.append(top + part.rows)
        else:
            part.rows = len(wrap.rows)
        return dirty

    def _ends_line(self, token: int) -> bool:
        return self.shown(token).endswith("\n")

    def _estimate(self, index: int) -> int:
        part = self.parts[index]
        room = max(self.width - RAGGED, 1)
        lines = "".join(map(self.shown, range(part.first, part.end))).split("\n")
        rows = sum(max(-(-cell_len(line) // room), 1) for line in lines)
        return rows - (index < len(self.parts) - 1)


def words(text: str) -> list[ShownToken]:
    """A person's text as one token a word, until the model has looked at it."""
    return [ShownToken(word, given=True) for word in WORD.findall(text)]
