"""The transcript in detail: every row and cell of some messages, beside places that were looked at."""

import random
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from app.tui.tokens.block import MessageBlock, ShownToken
from app.tui.tokens.layout import HEAD, BlockLayout, Spot, TokenPlace
from app.tui.tokens.wrap import NOBODY
from tests.pictures import assert_picture

LONG = (" It", " is", "\n", "日本", " wide", " and long", "\n", "", "ab", " cd\n", "x", "\n", "\n", "end", "<end>")
TALK: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("you", ("Why", " is it", " blue?")),
    ("model", LONG),
    ("you", ()),
    ("model", ("<think>", "so\n", "</think>", "\n\n", "No", ".", "<end>")),
)


@pytest.fixture(autouse=True)
def small_parts() -> Iterator[None]:
    with patch("app.tui.tokens.block.PART", 3):
        yield


def talk(width: int = 12, *, rendered: bool = False) -> BlockLayout:
    layout = BlockLayout(width)
    blocks = []
    for number, (who, texts) in enumerate(TALK):
        block = MessageBlock(f"key {number}", who, scored=True, rendered=rendered)
        block.fill([ShownToken(text, special=text == "<end>") for text in texts])
        block.fold(True)
        blocks.append(block)
    layout.replace(blocks)
    return layout


def places(layout: BlockLayout) -> list[TokenPlace]:
    return [TokenPlace(i, token) for i, block in enumerate(layout.blocks) for token in range(len(block.tokens))]


def told(layout: BlockLayout) -> list[str]:
    """Every row with what it belongs to and the tokens of its cells, then every token with where it is."""
    lines = [f"{layout.height} rows, tops {[layout.top(i) for i in range(len(layout.blocks))]}"]
    for y in range(-1, layout.height + 1):
        spot = layout.spot(y)
        if spot is None:
            lines.append(f"  {y}: outside")
            continue
        row = layout.row(spot)
        text = "(no tokens)" if row is None else row.text.replace("\n", "⏎")
        found = [layout.token_at(x, y) for x in range(layout.width)]
        cells = "".join("." if place is None else f"{place.token % 10}" for place in found)
        at = f"{spot.block} {spot.part} {spot.row}{' last' * layout.is_last(spot)}"
        lines.append(f"  {y}: {at} |{text}| {cells}")
    for place in places(layout):
        steps = [layout.step(place, by) for by in (-1, 1)]
        rises = [layout.rise(place, by) for by in (-3, -1, 0, 1, 3)]
        told = [f"{p.block}.{p.token}" for p in (*steps, *rises, *layout.edges(place))]
        spots = " ".join(f"{s.block}/{s.part}/{s.row}" for s in layout.spots_of(place))
        lines.append(
            f"  {place.block}.{place.token}: cell {layout.cell_of(place)} lit {layout.lit(place)} on {spots},"
            f" steps {' '.join(told[:2])}, rises {' '.join(told[2:7])}, row from {told[7]} to {told[8]}"
        )
    return lines


@pytest.mark.parametrize("width", [7, 12, 40])
def test_rows_and_tokens_are_where_they_were_looked_at(width: int) -> None:
    layout = talk(width)
    layout.reveal(0, 0, 10**6)
    assert_picture(f"tui/pictures/texts/transcript-{width}.txt", told(layout))


def test_what_is_laid_out_bit_by_bit_is_the_same() -> None:
    rng = random.Random(2)
    for width in (7, 12):
        whole = talk(width)
        whole.reveal(0, 0, 10**6)
        everything = [whole.spot(y) for y in range(whole.height)]
        for _ in range(12):
            layout = talk(width)
            order = places(layout)
            rng.shuffle(order)
            for place in order[:9]:
                x, y = layout.cell_of(place)
                assert layout.spot(y) == whole.spot(whole.cell_of(place)[1])
                assert (x, layout.spots_of(place)) == (whole.cell_of(place)[0], whole.spots_of(place))
                by = rng.choice((-2, -1, 1, 2))
                assert layout.rise(place, by) == whole.rise(place, by)
                assert layout.edges(place) == whole.edges(place)
            layout.reveal(rng.randrange(layout.height), 99, 99)
            assert [layout.spot(y) for y in range(layout.height)] == everything


@pytest.mark.parametrize(("above", "below"), [(0, 0), (1, 0), (0, 1), (2, 3)])
def test_as_much_is_laid_out_as_is_looked_at(above: int, below: int) -> None:
    for y in range(-2, 40):
        layout = talk()
        seen = layout.reveal(y, above, below)
        assert 0 <= seen < layout.height
        for row in range(max(seen - above, 0), min(seen + below, layout.height - 1) + 1):
            spot = layout.spot(row)
            assert spot is not None
            assert spot.part == HEAD or layout.blocks[spot.block].parts[spot.part].wrap is not None
        rough = [part for block in layout.blocks for part in block.parts if part.wrap is None]
        assert rough or below > 20 or above + below > 2 or layout.height < 20


def test_no_more_than_what_is_looked_at_is_laid_out() -> None:
    layout = talk()
    layout.reveal(0, 0, 1)  # the heading of the first message
    assert [part.wrap is None for block in layout.blocks for part in block.parts] == [True] * sum(
        len(block.parts) for block in layout.blocks
    )
    layout.reveal(0, 0, 2)
    assert [part.wrap is None for part in layout.blocks[0].parts] == [False]
    assert all(part.wrap is None for block in layout.blocks[1:] for part in block.parts)
    top = layout.top(1)
    layout.reveal(top + 2, 0, 0)
    assert [part.wrap is None for part in layout.blocks[1].parts][:2] == [False, True]
    last = layout.blocks[3].parts
    layout.reveal(layout.height - 1, 0, 0)
    assert last[-1].wrap is not None


def test_from_one_spot_to_another_everything_is_laid_out() -> None:
    ranges = (Spot(0, HEAD, 0), Spot(0, 0, 0)), (Spot(1, 1, 0), Spot(1, 2, 0)), (Spot(0, 0, 0), Spot(3, HEAD, 0))
    for first, last in ranges:
        layout = talk()
        layout.reveal_between(first, last)
        for index, block in enumerate(layout.blocks):
            for number, part in enumerate(block.parts):
                inside = (first.block, first.part) <= (index, number) <= (last.block, last.part)
                assert (part.wrap is not None) is inside, (first, last, index, number)
    layout = talk()
    layout.reveal_between(Spot(3, 0, 0), Spot(9, 0, 0))
    assert all(part.wrap is not None for part in layout.blocks[3].parts)


def test_spots_are_those_of_their_rows() -> None:
    layout = talk()
    layout.reveal(0, 0, 99)
    one_by_one = [layout.spot(y) for y in range(-3, layout.height + 3)]
    for y in range(-3, layout.height + 3):
        for count in (0, 1, 2, 9):
            found = list(layout.spots(y, count))
            assert len(found) == count
            assert found == [*one_by_one, *[None] * 9][y + 3 : y + 3 + count]
    for y, spot in enumerate(one_by_one[3:-3]):
        assert spot is not None and layout.y(spot) == y
        assert Spot.numbered(spot.number) == spot


@pytest.mark.parametrize(
    ("spot", "number"),
    [
        (Spot(0, HEAD, 0), 0), (Spot(0, HEAD, 5), 5), (Spot(0, 0, 0), 1 << 24), (Spot(1, HEAD, 0), 1 << 48),
        (Spot(2, 3, 4), (2 << 48) + (4 << 24) + 4), (Spot(1, (1 << 24) - 2, (1 << 24) - 1), (2 << 48) - 1),
    ],
)  # fmt: skip
def test_spots_have_numbers(spot: Spot, number: int) -> None:
    assert spot.number == number and Spot.numbered(number) == spot


def test_what_is_seen_moves_with_what_is_put_right_above_it() -> None:
    """The first row that is seen stays the same words, whatever is laid out elsewhere."""
    for y in range(25):
        for block, part in ((0, 0), (1, 0), (1, 1), (1, 2), (1, 3), (3, 0)):
            layout = talk(7)
            layout.seen = layout.reveal(y, 0, 0)
            here = layout.spot(layout.seen)
            if part < len(layout.blocks[block].parts):
                layout.reveal_between(Spot(block, part, 0), Spot(block, part, 0))
            assert layout.spot(layout.seen) == here
            assert layout.height == sum(each.rows for each in layout.blocks)


def test_what_is_seen_in_the_middle_of_an_estimate_stays_as_far_in_it() -> None:
    layout = BlockLayout(12)
    block = MessageBlock("key", "model", scored=True)
    block.fill([ShownToken("ab ") for _ in range(40)])
    layout.replace([block])
    guess = block.parts[0].rows
    assert (guess, layout.height) == (15, 17)  # 120 columns by 8
    layout.seen = 2 + 9
    layout.reveal_between(Spot(0, 0, 0), Spot(0, 0, 0))
    rows = block.parts[0].rows
    assert rows == 10  # four words a row
    assert layout.seen == 2 + 9 * 10 // 15 and layout.height == 12
    other = BlockLayout(12)
    block.resize(12)
    other.replace([block])
    assert other.reveal(2 + 9, 0, 0) == 2 + 9 * 10 // 15
    after = BlockLayout(12)
    block.resize(12)
    after.replace([block, MessageBlock("next", "you")])
    after.seen = 17  # the first row after the part
    after.reveal_between(Spot(0, 0, 0), Spot(0, 0, 0))
    assert after.seen == 12 and after.top(1) == 12
    before = BlockLayout(12)
    block.resize(12)
    before.replace([block])
    before.seen = 2  # its first row
    before.reveal_between(Spot(0, 0, 0), Spot(0, 0, 0))
    assert before.seen == 2


def test_what_is_asked_for_is_laid_out_and_measured() -> None:
    for block, part in ((1, 0), (1, 1), (1, 3), (3, 0)):
        for ask in (
            lambda it, block, part: it.row(Spot(block, part, 0)),
            lambda it, block, part: it.spots_of(TokenPlace(block, it.blocks[block].parts[part].first)),
            lambda it, block, part: it.cell_of(TokenPlace(block, it.blocks[block].parts[part].first)),
        ):
            layout = talk(7)
            ask(layout, block, part)
            assert layout.blocks[block].parts[part].wrap is not None
            assert layout.height == sum(each.rows for each in layout.blocks)
            assert layout.top(3) == sum(each.rows for each in layout.blocks[:3])


def test_blocks_that_have_the_width_are_kept_as_they_are() -> None:
    layout = talk(12)
    layout.reveal(0, 0, 99)
    laid = [block.laid for block in layout.blocks]
    layout.replace(layout.blocks)
    layout.reveal(0, 0, 99)
    assert [block.laid for block in layout.blocks] == laid
    other = BlockLayout(13)
    other.replace(layout.blocks)
    assert [block.width for block in other.blocks] == [13] * 4
    assert all(part.wrap is None for block in other.blocks for part in block.parts)


def test_another_width_shows_the_same_token_first() -> None:
    layout = talk(40)
    layout.seen = layout.cell_of(TokenPlace(1, 8))[1]
    layout.resize(7)
    assert layout.seen == layout.cell_of(TokenPlace(1, 8))[1] and layout.width == 7
    empty = BlockLayout(5)
    empty.resize(9)
    assert (empty.width, empty.seen, empty.height) == (9, 0, 0)
    assert BlockLayout().width == 80
    assert empty.first_seen() is None and empty.ends() is None and empty.reveal(3, 1, 1) == 3
    nothing = BlockLayout(9)
    nothing.replace([MessageBlock("key", "you")])
    assert nothing.first_seen() is None and nothing.ends() is None


def test_the_first_seen_token_is_at_or_below_the_first_seen_row() -> None:
    layout = talk(12)
    layout.reveal(0, 0, 99)
    found = []
    for y in range(layout.height):
        layout.seen = y
        place = layout.first_seen()
        found.append("-" if place is None else f"{place.block}.{place.token}")
    rows = "0.0 0.0 0.0 0.2 1.0 1.0 1.0 1.3 1.5 1.8 1.10 1.12 1.13"
    assert found == [*rows.split(), *["3.4"] * 7]


def test_the_last_block_grows_alone() -> None:
    layout = talk(12)
    layout.reveal(0, 0, 99)
    before = layout.height
    layout.blocks[-1].extend([ShownToken("\n"), ShownToken("more")])
    layout.grow()
    assert layout.height == before + 1 == sum(block.rows for block in layout.blocks)
    layout.measure()
    assert layout.height == before + 1
    empty = BlockLayout(5)
    empty.grow()
    assert empty.height == 0


def test_the_ends_are_tokens_that_can_be_stood_on() -> None:
    layout = talk()
    assert layout.ends() == (TokenPlace(0, 0), TokenPlace(3, 6))
    layout.blocks = layout.blocks[2:]
    layout.measure()
    assert layout.ends() == (TokenPlace(1, 3), TokenPlace(1, 6))  # what is folded away is passed over
    layout.blocks = layout.blocks[:1]
    assert layout.ends() is None


def test_one_token_at_a_time_is_shown_as_it_was_written() -> None:
    layout = BlockLayout(20)
    for number in range(2):
        block = MessageBlock(f"{number}", "model", scored=True, rendered=True)
        block.fill([ShownToken(text) for text in ("**a", "** b")])
        layout.blocks.append(block)
    layout.replace(layout.blocks)
    layout.reveal(0, 0, 99)
    assert not layout.show_raw(None)
    assert layout.show_raw(TokenPlace(1, 0)) and [block.raw for block in layout.blocks] == [NOBODY, 0]
    layout.reveal(0, 0, 99)
    assert not layout.show_raw(TokenPlace(1, 0))
    assert layout.show_raw(TokenPlace(0, 1)) and [block.raw for block in layout.blocks] == [1, NOBODY]
    layout.reveal(0, 0, 99)
    assert layout.show_raw(None) and [block.raw for block in layout.blocks] == [NOBODY, NOBODY]


def test_a_goal_is_kept_over_short_rows() -> None:
    layout = talk(40)
    at = TokenPlace(1, 5)
    x, y = layout.cell_of(at)
    short = layout.rise(at, 2)
    assert layout.cell_of(short) == (1, y + 2)
    assert layout.rise(short, -2) == TokenPlace(1, 3)
    assert layout.rise(short, -2, x) == at
    assert layout.rise(TokenPlace(0, 0), -1) == TokenPlace(0, 0)
    assert layout.rise(TokenPlace(3, 6), 5) == TokenPlace(3, 6)
