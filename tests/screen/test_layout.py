"""The transcript laid out in parts, beside the same laid out whole by one wrap; and how much is laid out at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.app.tui.base.block import MessageBlock, ShownToken
from likely.app.tui.base.layout import HEAD, BlockLayout, Spot, TokenPlace
from likely.app.tui.base.wrap import Wrap
from tests.screen.test_wrap import shown

TEXTS = st.lists(
    st.sampled_from(["ab", " cd", "\n", ".\n\n", " ", "é日", "x" * 30, "\t", "", "a\nb"]), max_size=12
).map(lambda texts: texts * 17)  # of several parts
WHO = st.sampled_from(["you", "model"])


def block(texts: list[str], who: str = "model", width: int = 12) -> MessageBlock:
    made = MessageBlock("key", who, scored=True)
    made.fill([ShownToken(text, special=text == "<|im_end|>") for text in texts])
    made.resize(width)
    return made


def rows_of(it: MessageBlock) -> list[str]:
    """The rows of all parts."""
    return [row for part in range(len(it.parts)) for row in shown(it.wrap(part))]


def whole(it: MessageBlock) -> list[str]:
    """The rows of the same tokens in one wrap."""
    wrap = Wrap(it.width)
    for token in range(len(it.tokens)):
        wrap.push(it.shown(token))
    return shown(wrap)


@pytest.mark.slow
@settings(max_examples=60)
@given(TEXTS, st.integers(4, 14), st.randoms(use_true_random=False))
def test_parts_in_any_order_are_the_rows_of_the_whole(texts, width, random) -> None:  # type: ignore[no-untyped-def]
    it = block([*texts, "<|im_end|>"], width=width)
    order = list(range(len(it.parts)))
    random.shuffle(order)
    for part in order:
        it.wrap(part)
    assert rows_of(it) == whole(it)
    assert it.body_rows == len(whole(it)) and it.laid == len(it.tokens)
    for part, top in enumerate(it.tops):
        assert it.part_at(top) == part == it.part_of(it.parts[part].first)


@pytest.mark.slow
@settings(max_examples=60)
@given(TEXTS, TEXTS, st.integers(4, 14))
def test_a_stream_gives_the_same_parts(before, after, width) -> None:  # type: ignore[no-untyped-def]
    grown, at_once = block(before, width=width), block(before + after, width=width)
    grown.wrap(len(grown.parts) - 1)
    old = rows_of(grown)
    dirty = min((grown.extend([ShownToken(text)]) for text in after), default=len(old))
    assert rows_of(grown) == whole(at_once) and rows_of(grown)[:dirty] == old[:dirty]
    assert [(part.first, part.end) for part in grown.parts] == [(part.first, part.end) for part in at_once.parts]
    assert grown.body_rows == len(whole(at_once))


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, WHO), min_size=1, max_size=6), st.integers(4, 14), st.data())
def test_what_is_seen_stays_while_more_is_laid_out(messages, width, data) -> None:  # type: ignore[no-untyped-def]
    layout, reference = BlockLayout(width), BlockLayout(width)
    layout.replace([block(texts, who, width) for texts, who in messages])
    reference.replace([block(texts, who, width) for texts, who in messages])
    reference.reveal(0, 0, 10**6)
    everything = [reference.spot(y) for y in range(reference.height)]
    for _ in range(data.draw(st.integers(1, 8))):
        y = data.draw(st.integers(0, layout.height - 1))
        layout.scroll = y
        layout.scroll = layout.reveal(y, 5, 10)
        here = layout.spot(layout.scroll)
        assert here is not None
        window = [layout.spot(y) for y in range(max(layout.scroll - 5, 0), min(layout.scroll + 10, layout.height))]
        at = everything.index(window[0])
        assert window == everything[at : at + len(window)]  # as if all were laid out
        assert all(
            spot == layout.spot(layout.y(spot)) and Spot.numbered(spot.number) == spot for spot in window if spot
        )
        other = data.draw(st.integers(0, len(layout.blocks) - 1))
        if layout.blocks[other].tokens:
            place = TokenPlace(other, data.draw(st.integers(0, len(layout.blocks[other].tokens) - 1)))
            x, y = layout.cell_of(place)
            assert (x, layout.spot(y)) == (reference.cell_of(place)[0], reference.spot(reference.cell_of(place)[1]))
            assert layout.spot(layout.scroll) == here  # laying out elsewhere has not moved what is seen
            assert layout.step(place, 1) == reference.step(place, 1)
            assert layout.rise(place, 3) == reference.rise(place, 3)
            assert layout.rise(place, -3) == reference.rise(place, -3)
            rows = [reference.cell_of(reference.rise(place, by))[1] for by in (-1, 1)]
            assert rows[0] <= reference.cell_of(place)[1] <= rows[1]
            assert layout.edges(place) == reference.edges(place)
            assert layout.spot(layout.scroll) == here
    assert layout.ends() == reference.ends()
    assert list(layout.spots(-2, layout.height + 4)) == [layout.spot(y) for y in range(-2, layout.height + 2)]
    layout.reveal_between(everything[0], everything[-1])  # type: ignore[arg-type]
    assert layout.height == reference.height


def test_spots_are_numbered_in_reading_order() -> None:
    spots = [Spot(0, HEAD, 1), Spot(0, 0, 0), Spot(0, 0, 7), Spot(0, 1, 0), Spot(1, HEAD, 0), Spot(1, 0, 0)]
    assert sorted(spot.number for spot in spots) == [spot.number for spot in spots]


def test_after_another_width_the_same_token_is_seen_first() -> None:
    layout = BlockLayout(40)
    layout.replace([block([f" word{i}" + (".\n" if i % 9 == 8 else "") for i in range(400)], width=40)])
    layout.scroll = layout.reveal(37, 10, 20)
    first = layout.first_seen()
    layout.resize(23)
    assert first is not None and layout.cell_of(first)[1] == layout.scroll


def test_a_step_back_from_a_blocks_first_token_is_to_the_last_of_the_block_before() -> None:
    layout = BlockLayout()
    layout.blocks[:] = [block(["ab", " cd", "é"]), block([]), block(["x", "y"])]
    assert layout.step(TokenPlace(2, 0), -1) == TokenPlace(0, 2)
    assert layout.step(TokenPlace(0, 2), 1) == TokenPlace(2, 0)
    assert layout.step(TokenPlace(0, 0), -1) == TokenPlace(0, 0)
