"""The lens page from scripted data: how it looks at several sizes, what it asks for, and what its keys do."""

from collections.abc import Iterator

import numpy as np
import pytest

from app import looks
from app.tui.chat.candidates import LN2
from app.tui.inside.lens_page import LensPage
from app.tui.inside.reading import Reading
from tests.pictures import assert_picture
from tests.tui.pages import LAYERS, NAMES, TEXT, Scene, number, reading

DECIDED = (3, 0, 12, 6, 5, 11, 1, 12, 8, 7, 3, 2)  # of each position, in turn


def part(start: int, stop: int, layers: int = LAYERS, tuned: bool = False) -> looks.LensPart:
    """The lens at some positions: from the layer `DECIDED` on the final token, before it others."""
    n = stop - start
    top, rank = np.zeros((layers + 1, n), np.int32), np.ones((layers + 1, n), np.int32)
    p, kl = np.zeros((layers + 1, n), np.float32), np.zeros((layers + 1, n), np.float32)
    best, shares = np.zeros((layers + 1, n, 5), np.int32), np.zeros((layers + 1, n, 5), np.float32)
    for layer in range(layers + 1):
        for i, position in enumerate(range(start, stop)):
            final, decided = 6 + position % 9, DECIDED[position % 12] * layers // LAYERS
            top[layer, i] = final if layer >= decided else 16 + (layer * 5 + position) % 14
            if layer < decided:
                rank[layer, i] = 2 + int((50_000 if position % 2 else 7) * number(layer, position))
            p[layer, i] = number(layer, position, 3)
            kl[layer, i] = LN2 * (layers - layer) * (0.5 + number(layer, position, 4)) * (0.5 if tuned else 1)
            best[layer, i] = [top[layer, i], final - 1, final if layer < decided else 30, 31, 32]
            shares[layer, i] = p[layer, i] / np.arange(1, 6)
    kl[0] = LN2 * 101
    return looks.LensPart(start, top, p, kl, rank, best, shares)


def known(*spans: tuple[int, int], first: int = 0, at: int = -1, layers: int = LAYERS) -> Reading:
    """A reading of which the lens is known at some positions."""
    found = reading(first=first, layers=layers)
    for start, stop in spans or ((first, len(TEXT)),):
        found.take(looks.LensLook(0, 0), part(start, stop, layers))
    found.position = at % len(TEXT)
    return found


def page(**state: object) -> LensPage:
    found = LensPage()
    for name, value in state.items():
        assert hasattr(found, name)
        setattr(found, name, value)
    return found


def wide() -> Iterator[Scene]:
    yield Scene("all is known, the cursor at the end", page(), known(), (112, 30))
    yield Scene("no room for what needs much", page(layer=0), known(at=12), (100, 29))
    yield Scene("the first position", page(layer=5), known(at=0), (99, 30))
    yield Scene("three rows of text", page(layer=12, by_kl=True), known(first=3, at=5), (100, 36))
    yield Scene("a small rank", page(layer=2), known(at=10), (100, 30))


def middle() -> Iterator[Scene]:
    yield Scene("folded", page(), known(at=4), (72, 12))
    yield Scene("folded, a layer that would be hidden", page(layer=1), known(at=5), (72, 9))
    yield Scene("all layers", page(layer=6, folded=False), known(at=7), (72, 10))
    yield Scene("all layers, the first", page(layer=0, folded=False), known(at=7), (60, 8))
    yield Scene("all layers, the last", page(layer=12, folded=False), known(at=7), (60, 8))
    yield Scene("a curve and no second", page(layer=7), known(at=9), (71 + 9, 24))
    yield Scene("the lowest curve", page(layer=7), known(at=9), (72, 13))
    yield Scene("two curves", page(layer=3), known(at=9), (75, 25))
    yield Scene("few layers", page(), known(layers=3, at=2), (84, 25))


def small() -> Iterator[Scene]:
    yield Scene("no panel", page(), known(at=13), (71, 16))
    yield Scene("by KL", page(layer=3, by_kl=True), known(at=13), (40, 8))
    yield Scene("nearly nothing", page(), known(at=13), (16, 4))
    yield Scene("text before what is looked at, no room to say so", page(), known(first=4, at=23), (123, 5))
    yield Scene("text before what is looked at", page(), known(first=4, at=23), (124, 5))
    yield Scene("text before what is looked at, from its start", page(), known(first=4, at=4), (130, 4))
    yield Scene("hidden columns, no room to say so", page(), known(at=5), (58, 4))
    yield Scene("hidden columns", page(), known(at=5), (59, 4))
    yield Scene("without colours", page(layer=4), known(at=8), (80, 9), "plain")


def partly() -> Iterator[Scene]:
    yield Scene("some positions", page(), known((14, 24), at=13), (100, 30))
    yield Scene("some positions, one that is known", page(), known((14, 24), at=14), (82, 25))
    yield Scene("nothing", page(), known((0, 0)), (72, 10))
    yield Scene("nothing yet", page(), reading(), (100, 30))
    yield Scene("the tuned one is not known", page(is_tuned=True), known(), (80, 10))
    refused = reading()
    refused.refused[looks.LensLook(0, 0)] = "there is no room in this machine's memory for it"
    yield Scene("refused", page(), refused, (80, 14))


@pytest.mark.parametrize("scenes", [wide, middle])
def test_the_lens_looks_as_in_its_pictures(scenes: object) -> None:
    assert callable(scenes)
    assert_picture(f"tui/pictures/page-lens-{scenes.__name__}.txt", (scene.text() for scene in scenes()))


@pytest.mark.parametrize("scenes", [small, partly])
def test_where_little_has_room_or_is_known_the_lens_looks_as_in_its_pictures(scenes: object) -> None:
    assert callable(scenes)
    assert_picture(f"tui/pictures/page-lens-{scenes.__name__}.txt", (scene.text() for scene in scenes()))


def test_what_is_on_the_screen_is_asked_for_first_and_what_is_known_is_left_out() -> None:
    at, lens = known((0, 0)), page()
    at.position = 0
    assert lens.wants(at, 100, 30) == looks.LensLook(0, 6, False)  # (100 - 38 - 7 - 1) // 9
    assert lens.wants(at, 99, 30) == looks.LensLook(0, 6, False)  # (99 - 30 - 7 - 1) // 9 = 6
    assert lens.wants(at, 106, 30) == looks.LensLook(0, 6, False)
    assert lens.wants(at, 109, 30) == looks.LensLook(0, 7, False)
    at.position = 6
    assert lens.wants(at, 100, 30) == looks.LensLook(1, 7, False)  # the window follows the cursor, no farther
    at.position = 0
    assert lens.wants(at, 100, 30) == looks.LensLook(0, 6, False)
    at.position = 23
    assert lens.wants(at, 71, 30) == looks.LensLook(17, 24, False)
    assert lens.wants(at, 124, 30) == looks.LensLook(16, 24, False)  # there is room for more now
    assert lens.wants(at, 400, 30) == looks.LensLook(0, 24, False)
    at = known((5, 8), (10, 11))
    assert lens.wants(at, 24, 30) == looks.LensLook(23, 24, False, (5, 6, 7, 10))
    assert page(is_tuned=True).wants(at, 71, 30) == looks.LensLook(17, 24, True)
    at.refused[looks.LensLook(0, 0, True)] = "no"
    assert page(is_tuned=True).wants(at, 71, 30) is None and lens.wants(at, 71, 30) is not None
    assert page().wants(known(), 71, 30) is None
    at = known((8, 10), first=4)
    assert page().wants(at, 12, 30) == looks.LensLook(23, 24, False, (8, 9))
    assert page().wants(known((0, 0), first=20), 120, 30) == looks.LensLook(20, 24, False)


def test_another_text_is_shown_from_its_beginning() -> None:
    lens = page(start=7, layer=3)
    lens.restart()
    assert (lens.start, lens.layer) == (0, 3)


def test_keys_say_what_they_do() -> None:
    lens, at = LensPage(), reading()
    assert (lens.layer, lens.by_kl, lens.folded, lens.is_tuned) == (None, False, True, False)
    assert lens.does("kl", at) == "tinted by KL to the last layer" and lens.by_kl
    assert lens.does("kl", at) == "tinted by probability" and not lens.by_kl
    assert lens.does("fold", at) == "" and not lens.folded
    assert lens.does("fold", at) == "" and lens.folded
    assert lens.does("tuned", at).startswith("the tuned lens: each layer is translated") and lens.is_tuned
    assert lens.does("tuned", at) == "the plain lens" and not lens.is_tuned
    assert "likely inside --tune-lens" in lens.does("tuned", reading(tuned=False)) and not lens.is_tuned
    assert "likely inside --tune-lens" in lens.does("tuned", Reading("m", at.prompt, NAMES)) and not lens.is_tuned


def test_the_cursor_goes_by_layers_that_are_shown() -> None:
    lens, at = LensPage(), known(at=4)
    lens.move(at, 2, 1)
    assert at.position == 6 and lens.layer is None  # nothing was drawn yet: there are no rows
    assert lens.at_layer(at) == 11
    Scene("", lens, at, (72, 12)).text()  # of the layers 0 2 4 6 8 9 10 11 12
    layers = []
    for dy in (1, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 3):
        lens.move(at, 0, dy)
        layers.append(lens.layer)
    assert layers == [12, 12, 11, 10, 9, 8, 6, 4, 2, 0, 0, 6] and at.position == 6
    lens.layer = 5  # as near to 4 as to 6
    lens.move(at, 0, 1)
    assert lens.layer == 6


def test_the_cursor_leaves_the_rows_of_all_layers_by_one() -> None:
    lens, at = page(folded=False, layer=6), known()
    Scene("", lens, at, (60, 8)).text()  # the layers 4 to 8
    layers = []
    for dy in (1, 1, 1):
        lens.move(at, 0, dy)
        layers.append(lens.layer)
    assert layers == [7, 8, 9]
    lens.layer = 4
    lens.move(at, 0, -1)
    assert lens.layer == 3
    lens.layer = 12
    Scene("", lens, at, (60, 8)).text()
    lens.move(at, 0, 1)
    assert lens.layer == 12
    lens.layer = 0
    Scene("", lens, at, (60, 8)).text()
    lens.move(at, 0, -1)
    assert lens.layer == 0


def test_a_layer_is_the_last_but_one_where_none_was_chosen_and_none_is_beyond_the_last() -> None:
    assert LensPage().at_layer(known()) == 11
    assert LensPage().at_layer(known(layers=1)) == 0
    assert page(layer=99).at_layer(known()) == 12
    closed = Reading("m", known().prompt, NAMES)
    assert LensPage().at_layer(closed) == 0 and page(layer=4).at_layer(closed) == 0


def test_the_top_line_names_the_extent_the_layers_and_the_words() -> None:
    at = known()
    assert LensPage().facts(at) == ("24 tokens", "12 layers", "38 words")
    at.names = type(NAMES)()
    assert LensPage().facts(at) == ("24 tokens", "12 layers")


def test_what_is_written_is_in_nats_and_only_when_all_is_known() -> None:
    lens = LensPage()
    assert lens.export(reading()) is None and lens.export(known((0, 23))) is None
    at = known()
    found = lens.export(at)
    assert found is not None
    name, table = found
    assert name == "lens" and list(table) == ["top", "p", "rank", "kl", "decided"]
    given = part(0, 24)
    assert (
        table["top"] == given.top.tolist() and table["p"] == given.p.tolist() and table["rank"] == given.rank.tolist()
    )
    np.testing.assert_allclose(table["kl"], given.kl, rtol=1e-6)
    assert table["decided"] == (list(DECIDED) * 2)[:24]
    assert page(is_tuned=True).export(at) is None
    at.take(looks.LensLook(0, 0, True), part(0, 24, tuned=True))
    found = page(is_tuned=True).export(at)
    assert found is not None and found[1]["kl"] != table["kl"]


def test_the_formula_has_the_divergence_of_the_cell() -> None:
    at = known(at=5, first=2)
    at.lenses[False].kl[4, 3] = 1.25  # bits, of the position 5
    assert page(layer=4).formula(at) == (
        ("p₄(· | x≤5) = softmax(W_U norm(h₄))   ", False), ("KL(p₁₂ ‖ p₄) = ", False), ("1.25 bits", True),
    )  # fmt: skip
    assert page(is_tuned=True).formula(at) == ()
    at.take(looks.LensLook(0, 0, True), part(2, 24, tuned=True))
    assert page(layer=4, is_tuned=True).formula(at)[0] == ("p₄(· | x≤5) = softmax(W_U norm(translate(h₄)))   ", False)
    assert page().formula(known((8, 9), at=9)) == () and page().formula(known((8, 9), at=8)) != ()
