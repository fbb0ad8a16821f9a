"""The transcript as rows: messages one below another, and the way between a row and column and a token of a message.

Rows are laid out where they are looked at, and estimated elsewhere. When an estimate is put right, what lies below it
moves: `seen`, the first row that a reader sees, moves along, and a `Spot` names a row whatever lies above it.
Plain Python: which row holds what. How a row looks is the widget's.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from likely.app.tui.base.text.block import MessageBlock
from likely.app.tui.base.text.wrap import NOBODY, CellRow

HEAD = -1  # the part of a spot above the body


class TokenPlace(NamedTuple):
    """A token of a message."""

    block: int
    token: int


class Spot(NamedTuple):
    """A row, by what it belongs to: a row of a part of a block's body, or of what stands above it."""

    block: int
    part: int
    row: int

    @property
    def number(self) -> int:
        """A number that orders spots as they are read."""
        return self.block << 48 | (self.part + 1) << 24 | self.row

    @classmethod
    def numbered(cls, number: int) -> "Spot":
        return cls(number >> 48, (number >> 24 & 0xFFFFFF) - 1, number & 0xFFFFFF)


class BlockLayout:
    """Blocks one below another."""

    def __init__(self, width: int = 80) -> None:
        self.width = width
        self.blocks: list[MessageBlock] = []
        self._tops: list[int] = []
        self.height = 0
        self.scroll = 0

    def replace(self, blocks: Sequence[MessageBlock]) -> None:
        """Show other blocks; those that were laid out at this width are kept as they are."""
        for block in blocks:
            if block.width != self.width:
                block.resize(self.width)
        self.blocks = list(blocks)
        self.measure()

    def resize(self, width: int) -> None:
        """Lay out at another width; the row scrolled to still begins with the same token."""
        place = self.first_seen()
        self.width = width
        for block in self.blocks:
            block.resize(width)
        self.measure()
        if place is not None:
            self.scroll = self.cell_of(place)[1]

    def measure(self) -> None:
        """Find where every block begins, after one has grown or shrunk."""
        self._tops, self.height = [], 0
        for block in self.blocks:
            self._tops.append(self.height)
            self.height += block.rows

    def grow(self) -> None:
        """Update the height after the last block alone has changed."""
        if self.blocks:
            self.height = self._tops[-1] + self.blocks[-1].rows

    def show_raw(self, place: TokenPlace | None) -> bool:
        """Show a token as it was written, and none that was shown so before; whether rows have changed."""
        changed = False
        for index, block in enumerate(self.blocks):
            token = place.token if place is not None and place.block == index else NOBODY
            if block.raw != token and block.show_raw(token):
                changed = True
        return changed

    # -- rows --------------------------------------------------------------------------------------------------------

    def top(self, block: int) -> int:
        return self._tops[block]

    def body_top(self, block: int) -> int:
        """The row at which a block's tokens begin."""
        return self._tops[block] + self.blocks[block].head_rows

    def spot(self, y: int) -> Spot | None:
        """The spot of a row of the transcript; None outside."""
        if not 0 <= y < self.height:
            return None
        index = bisect_right(self._tops, y) - 1
        block, row = self.blocks[index], y - self._tops[index]
        if row < block.head_rows:
            return Spot(index, HEAD, row)
        row -= block.head_rows
        part = block.part_at(row)
        return Spot(index, part, row - block.tops[part])

    def spots(self, y: int, count: int) -> Iterator[Spot | None]:
        """The spots of `count` rows from y on; None for rows outside."""
        end = y + count
        while y < end:
            spot = self.spot(y)
            if spot is None:
                yield None
                y += 1
                continue
            block = self.blocks[spot.block]
            rows = block.parts[spot.part].rows if spot.part != HEAD else block.head_rows
            for row in range(spot.row, min(spot.row + end - y, rows)):
                yield Spot(spot.block, spot.part, row)
                y += 1

    def y(self, spot: Spot) -> int:
        """Where a spot is now."""
        if spot.part == HEAD:
            return self._tops[spot.block] + spot.row
        return self.body_top(spot.block) + self.blocks[spot.block].tops[spot.part] + spot.row

    def row(self, spot: Spot) -> CellRow | None:
        """The tokens of a row; None for a heading or a fold."""
        if spot.part == HEAD:
            return None
        self._lay(spot.block, spot.part)
        rows = self.blocks[spot.block].wrap(spot.part).rows
        return rows[min(spot.row, len(rows) - 1)]

    def is_last(self, spot: Spot) -> bool:
        """Whether a row of tokens is its block's last."""
        block = self.blocks[spot.block]
        part = len(block.parts) - 1
        return spot.part == part and spot.row == block.parts[part].rows - 1

    def reveal(self, y: int, above: int, below: int) -> int:
        """Lay out row y with so many rows above and below it; gives where it is now."""
        spot = self.spot(min(max(y, 0), self.height - 1))
        if spot is None:
            return y
        if spot.part != HEAD:
            part = self.blocks[spot.block].parts[spot.part]
            guess = part.rows
            if self._lay(spot.block, spot.part):
                spot = spot._replace(row=spot.row * part.rows // guess)
        while True:
            y = self.y(spot)
            rough = next(self._rough(y - above, y + below), None)
            if rough is None:
                return y
            self._lay(*rough)

    def reveal_between(self, first: Spot, last: Spot) -> None:
        """Lay out everything from one spot to another."""
        for block in range(first.block, min(last.block + 1, len(self.blocks))):
            begin = first.part if block == first.block else 0
            parts = len(self.blocks[block].parts)
            for part in range(max(begin, 0), min(last.part + 1, parts) if block == last.block else parts):
                self._lay(block, part)

    def _rough(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The parts between two rows that have not been laid out, as (block, part)."""
        at = self.spot(max(first, 0))
        if at is None:
            return
        begin = max(at.part, 0)
        for index in range(at.block, len(self.blocks)):
            block = self.blocks[index]
            if self._tops[index] > last:
                return
            top = self.body_top(index)
            for part in range(begin, len(block.parts)):
                if top + block.tops[part] > last:
                    return
                if block.parts[part].wrap is None:
                    yield index, part
            begin = 0

    def _lay(self, index: int, part: int) -> bool:
        """Lay a part out; gives whether it was not yet."""
        block = self.blocks[index]
        if block.parts[part].wrap is not None:
            return False
        guess = block.parts[part].rows
        top = self.body_top(index) + block.tops[part]
        block.wrap(part)
        rows = block.parts[part].rows
        if rows != guess:
            if top + guess <= self.scroll:
                self.scroll += rows - guess
            elif top < self.scroll:
                self.scroll = top + (self.scroll - top) * rows // guess
            self.measure()
        return True

    # -- tokens ------------------------------------------------------------------------------------------------------

    def token_at(self, x: int, y: int) -> TokenPlace | None:
        """The token at a cell; at the end of its row, the row's last one."""
        spot = self.spot(y)
        row = self.row(spot) if spot is not None else None
        token = row.at(x) if row is not None else None
        return TokenPlace(spot.block, token) if spot is not None and token is not None else None

    def first_seen(self) -> TokenPlace | None:
        """The first token at or below the first row that is seen."""
        for y in range(self.scroll, self.height):
            place = self.token_at(0, y)
            if place is not None:
                return place
        return None

    def cell_of(self, place: TokenPlace) -> tuple[int, int]:
        """(x, y) where a token begins to be seen."""
        block = self.blocks[place.block]
        part = block.part_of(place.token)
        self._lay(place.block, part)
        row, x = block.wrap(part).place(self.lit(place))
        return x, self.y(Spot(place.block, part, row))

    def spots_of(self, place: TokenPlace) -> list[Spot]:
        """The rows that a token is seen on."""
        block = self.blocks[place.block]
        part = block.part_of(place.token)
        self._lay(place.block, part)
        return [Spot(place.block, part, row) for row in block.wrap(part).rows_of(self.lit(place))]

    def lit(self, place: TokenPlace) -> int:
        """The token whose cells stand for this one: itself, or the one that completes its character."""
        block = self.blocks[place.block]
        wrap = block.wrap(block.part_of(place.token))
        for row in wrap.rows[wrap.rows_of(place.token)[0] :]:
            for span in row.spans:
                if span.token >= place.token:
                    return span.token
        return place.token

    def step(self, place: TokenPlace, by: int) -> TokenPlace:
        """The next (1) or previous (-1) token that can be stood on; the same at either end."""
        block, token = place
        while True:
            token += by
            while not 0 <= token < len(self.blocks[block].tokens):
                block += by
                if not 0 <= block < len(self.blocks):
                    return place
                token = 0 if by > 0 else len(self.blocks[block].tokens) - 1
            if self.blocks[block].visible(token):
                return TokenPlace(block, token)

    def rise(self, place: TokenPlace, by: int, x: int | None = None) -> TokenPlace:
        """The token `by` rows of tokens below (or above, negative), nearest to column x."""
        column, y = self.cell_of(place)
        goal = column if x is None else x
        sign = 1 if by > 0 else -1
        while by:
            y = self.reveal(y, 1, 1) + sign
            if not 0 <= y < self.height:
                return place
            candidate = self.token_at(goal, y)
            if candidate is not None and self.blocks[candidate.block].visible(candidate.token):
                place = candidate
                by -= sign
        return place

    def ends(self) -> tuple[TokenPlace, TokenPlace] | None:
        """The first and the last token that can be stood on."""
        whole = [i for i, block in enumerate(self.blocks) if block.tokens]
        if not whole:
            return None
        first, last = TokenPlace(whole[0], -1), TokenPlace(whole[-1], len(self.blocks[whole[-1]].tokens))
        return self.step(first, 1), self.step(last, -1)

    def edges(self, place: TokenPlace) -> tuple[TokenPlace, TokenPlace]:
        """The first and the last token of the row that a token is seen on."""
        _, y = self.cell_of(place)
        spot = self.spot(y)
        row = self.row(spot) if spot is not None else None
        if row is None or row.at(0) is None:
            return place, place
        tokens = [span.token for span in row.spans if span.token != NOBODY]
        return TokenPlace(place.block, min(tokens)), TokenPlace(place.block, max(tokens))
