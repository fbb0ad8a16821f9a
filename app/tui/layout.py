"""The transcript as rows: messages one below another, and the way between a row and column and a token of a message.

Plain Python: which row holds what. How a row looks is the widget's.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.tui.wrap import Row, Wrap

WORD = re.compile(r"\s*\S+|\s+")
THINKING = (b"<think>", b"</think>")
END_MARK = "∎"
HEADING_ROWS = 2  # a blank row, then who speaks


class Place(NamedTuple):
    """A token of a message."""

    block: int
    token: int


class Token(NamedTuple):
    """What the transcript shows of one token."""

    text: str
    level: int = 0  # heat
    special: bool = False
    given: bool = False  # not drawn: a person's words or choice


@dataclass
class Block:
    """One message: its heading, its tokens in rows, and where its thinking is folded away."""

    key: str  # id of the message's first node
    who: str
    note: str = ""
    tokens: list[Token] = field(default_factory=list)
    scored: bool = False  # tokens are the model's; else a person's words, not looked at yet
    thinking: tuple[int, int] | None = None  # half-open token range
    folded: bool = False
    specials: bool = False  # show control tokens
    rendered: list[Any] | None = None  # strips of the Markdown view, in place of the tokens
    wrap: Wrap = field(default_factory=lambda: Wrap(80))

    @property
    def fold_rows(self) -> int:
        return int(self.thinking is not None and self.rendered is None)

    @property
    def body_rows(self) -> int:
        return len(self.rendered) if self.rendered is not None else len(self.wrap.rows)

    @property
    def rows(self) -> int:
        return HEADING_ROWS + self.fold_rows + self.body_rows

    def shown(self, token: int) -> str:
        """The text of a token as it is laid out: empty where it is hidden."""
        it = self.tokens[token]
        if self.thinking is not None and self.thinking[0] <= token < self.thinking[1]:
            return "" if self.folded or it.special else it.text
        if it.special and not self.specials:
            return END_MARK if token == len(self.tokens) - 1 and self.scored and not it.given else ""
        # a reply begins with a space or line breaks that say nothing
        return it.text.lstrip() if not self.wrap.rows[0].spans and len(self.wrap.rows) == 1 else it.text

    def extend(self, tokens: Iterable[Token]) -> int:
        """Append tokens; gives the first body row that changed."""
        dirty = len(self.wrap.rows) - 1
        for token in tokens:
            self.tokens.append(token)
            self._track_thinking()
            dirty = min(dirty, self.wrap.push(self.shown(len(self.tokens) - 1)))
        return dirty

    def lay(self, width: int) -> None:
        """Wrap everything anew."""
        self.wrap = Wrap(width)
        for token in range(len(self.tokens)):
            self.wrap.push(self.shown(token))

    def visible(self, token: int) -> bool:
        """Whether the cursor stops at a token: those hidden on purpose are passed over."""
        it = self.tokens[token]
        folded = self.folded and self.thinking is not None and self.thinking[0] <= token < self.thinking[1]
        return not folded and (not it.special or bool(self.shown(token)))

    def _track_thinking(self) -> None:
        index, text = len(self.tokens) - 1, self.tokens[-1].text.strip()
        if self.who != "model":
            return
        if text == "<think>" and self.thinking is None:
            self.thinking = (index, index + 1)
        elif self.thinking is not None and self.thinking[1] == index and not self._closed():
            self.thinking = (self.thinking[0], index + 1)

    def _closed(self) -> bool:
        assert self.thinking is not None
        return self.tokens[self.thinking[1] - 1].text.strip() == "</think>"


class Layout:
    """Blocks one below another."""

    def __init__(self, width: int = 80) -> None:
        self.width = width
        self.blocks: list[Block] = []
        self._tops: list[int] = []
        self.height = 0

    def replace(self, blocks: Sequence[Block]) -> None:
        """Show other blocks; those that were laid out at this width are kept as they are."""
        for block in blocks:
            if block.wrap.width != self.width or block.wrap.count != len(block.tokens):
                block.lay(self.width)
        self.blocks = list(blocks)
        self.measure()

    def resize(self, width: int) -> None:
        self.width = width
        for block in self.blocks:
            block.lay(width)
        self.measure()

    def measure(self) -> None:
        """Find where every block begins, after one has grown or shrunk."""
        self._tops, self.height = [], 0
        for block in self.blocks:
            self._tops.append(self.height)
            self.height += block.rows

    def grow(self) -> None:
        """As `measure` where only the last block has changed."""
        if self.blocks:
            self.height = self._tops[-1] + self.blocks[-1].rows

    def locate(self, y: int) -> tuple[int, int]:
        """(block, row within it) of a row of the transcript; (-1, 0) outside."""
        if not 0 <= y < self.height:
            return -1, 0
        block = bisect_right(self._tops, y) - 1
        return block, y - self._tops[block]

    def top(self, block: int) -> int:
        return self._tops[block]

    def body_top(self, block: int) -> int:
        """The row at which a block's tokens begin."""
        return self._tops[block] + HEADING_ROWS + self.blocks[block].fold_rows

    def row(self, y: int) -> Row | None:
        """The tokens of a row; None for a heading, a fold, a rendered row or nothing."""
        block, inner = self.locate(y)
        if block < 0 or self.blocks[block].rendered is not None:
            return None
        inner -= HEADING_ROWS + self.blocks[block].fold_rows
        return self.blocks[block].wrap.rows[inner] if inner >= 0 else None

    def token_at(self, x: int, y: int) -> Place | None:
        """The token at a cell; at the end of its row, the row's last one."""
        row = self.row(y)
        token = row.at(x) if row is not None else None
        return None if token is None else Place(self.locate(y)[0], token)

    def cell_of(self, place: Place) -> tuple[int, int]:
        """(x, y) where a token begins to be seen."""
        block = self.blocks[place.block]
        if block.rendered is not None:
            return 0, self.top(place.block) + 1
        y, x = block.wrap.place(self.lit(place))
        return x, self.body_top(place.block) + y

    def lit(self, place: Place) -> int:
        """The token whose cells stand for this one: itself, or the one that completes its character."""
        wrap = self.blocks[place.block].wrap
        for row in wrap.rows[wrap.rows_of(place.token)[0] :]:
            for span in row.spans:
                if span.token >= place.token:
                    return span.token
        return place.token

    def step(self, place: Place, by: int) -> Place:
        """The next (1) or previous (-1) token that can be stood on; the same at either end."""
        block, token = place
        while True:
            token += by
            while not 0 <= token < len(self.blocks[block].tokens):
                block += by
                if not 0 <= block < len(self.blocks):
                    return place
                token = 0 if by > 0 else len(self.blocks[block].tokens) - 1
            if self.blocks[block].rendered is None and self.blocks[block].visible(token):
                return Place(block, token)

    def rise(self, place: Place, by: int, x: int | None = None) -> Place:
        """The token `by` rows of tokens below (or above, negative), nearest to column x."""
        column, y = self.cell_of(place)
        goal = column if x is None else x
        while by:
            y += 1 if by > 0 else -1
            if not 0 <= y < self.height:
                return place
            found = self.token_at(goal, y)
            if found is not None and self.blocks[found.block].visible(found.token):
                place = found
                by -= 1 if by > 0 else -1
        return place

    def ends(self) -> tuple[Place, Place] | None:
        """The first and the last token that can be stood on."""
        whole = [i for i, block in enumerate(self.blocks) if block.tokens and block.rendered is None]
        if not whole:
            return None
        first, last = Place(whole[0], -1), Place(whole[-1], len(self.blocks[whole[-1]].tokens))
        return self.step(first, 1), self.step(last, -1)

    def edges(self, place: Place) -> tuple[Place, Place]:
        """The first and the last token of the row that a token is seen on."""
        _, y = self.cell_of(place)
        row = self.row(y)
        if row is None or not row.spans:
            return place, place
        return Place(place.block, row.spans[0].token), Place(place.block, row.spans[-1].token)


def words(text: str) -> list[Token]:
    """A person's text as one token a word, until the model has looked at it."""
    return [Token(word, given=True) for word in WORD.findall(text)]
