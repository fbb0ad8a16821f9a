"""The map page from scripted data: how it looks at several sizes, what it asks for, and what its keys do."""

from collections.abc import Iterator

import numpy as np
import pytest

from app import looks
from app.tui.inside.map_page import MapPage
from app.tui.inside.reading import Reading
from tests.pictures import assert_picture
from tests.tui.pages import NAMES, PIECES, TEXT, Scene, number, reading

FAMILIES = (
    ("people", (7, 8, 9, 10)), ("colours", (14, 15, 16)), ("animals", (18, 19)), ("towns", (20, 21, 26)),
    ("verbs", (27, 28, 29, 30)), ("rest", (31, 32)), ("family", (33, 34)), ("an eighth", (1, 2)),
)  # fmt: skip
SUM = (7, 8), (9,)  # king - man + woman


def points() -> np.ndarray:
    return np.array([[10 * number(i, 1) - 4, 6 * number(i, 2) - 3] for i in range(len(PIECES))], np.float32)


def made(relations: int = 3, families: int = 8) -> looks.WordMap:
    rows = [
        looks.RelationRow("man : woman", 90, 0.1, 0.62, 0.15),
        looks.RelationRow("walk : walked", 132, 0.33, 0.04, 0.1),
    ]
    rows = [*rows[: relations - 1], looks.RelationRow("all", 222, 0.2, 0.95, 0.08)]
    norms = np.array([1 + number(i, 3) for i in range(len(PIECES))])
    return looks.WordMap(points(), 0.43, FAMILIES[:families], norms, 0.27, tuple(rows))


def near(count: int = 12) -> looks.Near:
    found = tuple((20 + i, 0.91 - i / 15) for i in range(count))
    return looks.Near(found, tuple((9 + i, 0.8 - i / 9) for i in range(6)), (), 0.123, 0.456)


def known(at: int = -1, *, table: str = "input", relations: int = 3, families: int = 8) -> Reading:
    """A reading with the map, the nearest tokens to the cursor's, and those to a sum."""
    found = reading()
    found.position = at % len(TEXT)
    found.take(looks.MapLook(table), made(relations, families))
    found.take(looks.NearLook((TEXT[at],), (), table), near())
    found.take(looks.NearLook(*SUM, table), near(5))
    return found


def page(**state: object) -> MapPage:
    found = MapPage()
    for name, value in state.items():
        assert hasattr(found, name)
        setattr(found, name, value)
    return found


def crowded() -> Reading:
    """More tokens than are drawn, in a grid; of the families' words two lie on one place."""
    at = reading()
    at.position = 9
    whole = made()
    grid = np.array([[n % 64 / 6.4 - 4, n // 64 / 8 - 3] for n in range(64 * 48)], np.float32)
    placed = np.concatenate([points(), grid])
    placed[15] = placed[14]
    norms = np.ones(len(placed))
    at.take(looks.MapLook(), looks.WordMap(placed, 0.4, whole.families, norms, 0.2, whole.relations))
    return at


def wide() -> Iterator[Scene]:
    yield Scene("all is known", page(), known(), (118, 34))
    yield Scene("two times closer", page(zoom=2.56), known(9), (100, 24))
    yield Scene("farther", page(zoom=0.625, token=15), known(9, relations=2), (101, 23))
    yield Scene("the output's table", page(table_name="output"), known(17, table="output", families=2), (100, 18))


def small() -> Iterator[Scene]:
    yield Scene("the list", page(), known(4), (99, 24))
    yield Scene("the list, lower", page(), known(4), (70, 23))
    yield Scene("the list, narrow", page(), known(4), (40, 22))
    yield Scene("the list, narrower", page(), known(4), (39, 21))
    yield Scene("the list, no room for a track", page(), known(4), (41, 30))
    yield Scene("the list, room for a track", page(), known(4), (42, 30))
    yield Scene("one relation", page(), known(4), (60, 17))
    yield Scene("no norm", page(), known(4), (60, 19))
    yield Scene("another sum", page(sum=((7, 8, 10), (9, 11))), known(4), (60, 20))
    yield Scene("no sum", page(), without(), (60, 20))


def without() -> Reading:
    at = known(4)
    at.names = type(NAMES)(NAMES.pieces[:9])
    return at


def maps() -> Iterator[Scene]:
    yield Scene("the map", page(whole=True), known(16), (60, 16))
    yield Scene("the map, narrow", page(whole=True), known(16), (24, 7))
    yield Scene("a crowd", page(whole=True), crowded(), (60, 16))
    yield Scene("a crowd, all of it where it is looked at closely", page(whole=True, zoom=2.1), crowded(), (60, 16))
    yield Scene("a crowd, as close as is a part of it", page(whole=True, zoom=2.0), crowded(), (60, 16))
    yield Scene("as it is", page(whole=True, zoom=1.0), known(16, families=1), (50, 12))
    yield Scene("a little closer", page(whole=True, zoom=1.01), known(16, families=1), (50, 12))


def partly() -> Iterator[Scene]:
    yield Scene("nothing is known", page(), reading(), (100, 26))
    yield Scene("nothing is known, on a small screen", page(), reading(), (50, 20))
    at = reading()
    at.refused |= {
        looks.MapLook(): "it has no table",
        looks.NearLook((TEXT[-1],)): "no room",
        looks.NearLook(*SUM): "no",
    }
    yield Scene("refused", page(), at, (100, 26))


@pytest.mark.parametrize("scenes", [wide, small])
def test_the_map_looks_as_in_its_pictures(scenes: object) -> None:
    assert callable(scenes)
    assert_picture(f"tui/pictures/page-map-{scenes.__name__}.txt", (scene.text() for scene in scenes()))


@pytest.mark.parametrize("scenes", [maps, partly])
def test_a_plane_and_what_is_not_known_look_as_in_their_pictures(scenes: object) -> None:
    assert callable(scenes)
    assert_picture(f"tui/pictures/page-map-{scenes.__name__}.txt", (scene.text() for scene in scenes()))


def test_what_is_asked_for_comes_one_after_another() -> None:
    plane, at = page(table_name="output"), reading()
    assert plane.wants(at, 80, 24) == looks.NearLook((9,), (), "output")
    at.take(looks.NearLook((9,), (), "output"), near())
    assert plane.wants(at, 80, 24) == looks.MapLook("output")
    at.take(looks.MapLook("output"), made())
    assert plane.wants(at, 80, 24) == looks.NearLook((7, 8), (9,), "output")
    at.refused[looks.NearLook((7, 8), (9,), "output")] = "no"
    assert plane.wants(at, 80, 24) is None
    plane.token = 14
    assert plane.wants(at, 80, 24) == looks.NearLook((14,), (), "output")
    plane.restart()
    assert plane.token is None and plane.wants(at, 80, 24) is None and MapPage.SETTLES
    at.names = type(NAMES)(NAMES.pieces[:9])
    assert plane.summands(at) == ((), ())


def test_closer_and_farther_end_somewhere() -> None:
    plane, at, zooms = MapPage(), reading(), []
    for key in ["closer"] * 9 + ["farther"] * 13:
        assert plane.does(key, at) == ""
        zooms.append(plane.zoom)
    np.testing.assert_allclose(zooms[:8], [1.6**n for n in range(1, 8)] + [40.0])  # 1.6 ** 8 is more
    np.testing.assert_allclose(zooms[9:], [max(40 / 1.6**n, 0.2) for n in range(1, 14)])
    assert zooms[8] == 40.0 and zooms[-1] == 0.2 and zooms[-2] == 0.2 and zooms[-3] > 0.2


def test_keys_say_what_they_do() -> None:
    plane, at = MapPage(), reading()
    assert (plane.table_name, plane.token, plane.sum, plane.zoom, plane.whole) == ("input", None, None, 1.0, False)
    assert plane.does("table", at) == "rows of the head" and plane.table_name == "output"
    assert plane.does("table", at) == "rows of the input embedding" and plane.table_name == "input"
    assert plane.does("fold", at) == "" and plane.whole
    assert plane.does("fold", at) == "" and not plane.whole
    assert plane.facts(at) == ("38 tokens", "64 dimensions", "the input table")
    assert plane.facts(Reading("m", at.prompt, NAMES)) == ()
    at.opened = looks.TextOpened(TEXT, 0, 2, 2, 2, 8, 64, True, False)
    assert plane.does("table", at) == "input and output are the same rows in this model" and plane.table_name == "input"
    assert plane.facts(at)[-1] == "tied"
    assert plane.does("table", Reading("m", at.prompt, NAMES)) == "rows of the head"


def test_a_word_is_found_and_a_sum_is_of_words() -> None:
    plane, at = MapPage(), reading()
    assert plane.at_token(at) == TEXT[-1]
    assert plane.told("find", at, " red ") == "" and plane.at_token(at) == 14
    assert plane.told("find", at, "nonsense") == "nonsense is not one token of this model"
    assert plane.told("find", at, " ") == "nothing is not one token of this model" and plane.at_token(at) == 14
    assert plane.summands(at) == SUM
    assert plane.told("arithmetic", at, "red - blue+Paris −Rome") == "" and plane.sum == ((14, 20), (15, 21))
    assert plane.told("arithmetic", at, "-red blue") == "" and plane.sum == ((15,), (14,))
    assert plane.summands(at) == plane.sum
    for words in ("red", "-red -blue", "", "-red"):
        assert plane.told("arithmetic", at, words) == "a sum has two words or more, as in king - man + woman"
    assert plane.told("arithmetic", at, "red + nonsense").startswith("nonsense is not one token of this model: a sum")
    assert plane.sum == ((15,), (14,))


def test_the_cursor_walks_to_the_nearest_word_ahead() -> None:
    at, plane = reading(), MapPage()
    plane.move(at, -2, 0)
    assert at.position == 21 and plane.token is None  # without a map it goes along the text
    at.position = 23
    placed = np.full((len(PIECES), 2), 9.0, np.float32)
    placed[9] = 0, 0
    placed[7], placed[8] = (1, 0.2), (2, 0)  # 1 + 4 * 2 * 0.2 = 2.6, and 2
    placed[14], placed[15], placed[16] = (-3, 0), (-1, -0.2), (0, 1)
    placed[18], placed[19] = (0.1, -2), (0.5, -1)  # 2 * 2 + 4 * 0.1, and 2 * 1 + 4 * 0.5
    families = (("a", (7, 8, 9)), ("b", (14, 15, 16)), ("c", (18, 19)))
    at.take(looks.MapLook(), looks.WordMap(placed, 0.4, families, np.ones(len(PIECES)), 0.2, ()))
    for dx, dy, to in ((1, 0, 8), (-1, 0, 15), (0, -1, 16), (0, 1, 19)):
        plane.token = 9
        plane.move(at, dx, dy)
        assert plane.token == to and at.position == 23
    plane.token = 14
    plane.move(at, -1, 0)
    assert plane.token == 14  # nothing lies on


def test_what_is_shown_is_what_is_written() -> None:
    at = known()
    assert page().export(reading()) is None and page(token=4).export(at) is None
    assert page(table_name="output").export(at) is None
    found = [{"id": 20 + i, "cosine": 0.91 - i / 15} for i in range(12)]
    assert page().export(at) == ("neighbours", found)


def test_the_formula_has_the_nearest_token() -> None:
    said = "cos(a, b) = (e_a − μ)·(e_b − μ) / |·||·|   cos(·man, ·Paris) = "
    assert page().formula(known()) == ((said, False), ("0.910", True))
    assert page().formula(reading()) == () and page(table_name="output").formula(known()) == ()
    at = reading()
    at.take(looks.NearLook((9,)), looks.Near(()))
    assert page().formula(at) == ()
