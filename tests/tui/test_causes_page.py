"""The causes page from scripted data: how it looks at several sizes, what it asks for, and what its keys do."""

from collections.abc import Iterator

import numpy as np
import pytest

from app import looks
from app.tui.inside.causes_page import CausesPage
from app.tui.inside.reading import Reading
from engine.prompt import Prompt
from tests.pictures import assert_picture
from tests.tui.pages import HEADS, LAYERS, NAMES, TEXT, Scene, number, reading

OTHER = Prompt(parts=("another text",))


def attributed(layers: int = LAYERS) -> looks.Attributed:
    heads = np.array([[number(l, h) - 0.45 for h in range(HEADS)] for l in range(layers)], np.float32)
    heads[3 % layers, 2] = 2.5
    heads[5 % layers, 1] = -1.75
    mlp = np.array([1.2 * number(l, 5) - 0.5 for l in range(layers)], np.float32)
    total = float(heads.sum() + mlp.sum() + 0.75 + 0.25)
    return looks.Attributed(10, 0.75, heads, mlp, 0.25, total, total + 0.125)


def mattered(position: int, agreement: float | None = 0.625) -> looks.Mattered:
    """Every fourth token brings much, every seventh takes."""
    brought = [
        2 * number(j) if j % 4 == 0 else -1.0 if j % 7 == 6 else 0.05 * number(j, 1) for j in range(position + 1)
    ]
    return looks.Mattered(10, np.array(brought, np.float32), agreement)


def known(at: int = -1, against: int | None = None, layers: int = LAYERS, ids: tuple[int, ...] = TEXT) -> Reading:
    """A reading with what was written, and what each token brought."""
    found = reading(ids, layers=layers)
    found.position = at % len(ids)
    found.take(looks.AttributionLook(found.position, against), attributed(layers))
    found.take(looks.ImportanceLook(found.position), mattered(found.position))
    return found


def silenced(at: Reading, count: int = 6, effect: float = -1.0, against: int | None = None) -> Reading:
    """So many of the heads that wrote most are silenced; what goes without them is not quite what they wrote."""
    for n, asked in enumerate(page(against=against).silenced(at)[:count]):
        value = {part.head: part.value for part in page(against=against).parts(at)}[asked.layer, asked.head]
        at.take(asked, looks.Ablated(10, 3.0, effect * (value + 0.2 * (n % 2))))
    return at


def patched(at: Reading, part: str = "residual", correlation: float | None = 0.75, layers: int = LAYERS) -> Reading:
    columns = HEADS if part == "heads" else at.position + 1
    effects = np.array([[number(l, c, 9) for c in range(columns)] for l in range(layers)], np.float32)
    effects[layers // 2, columns - 2] = 1.1
    ids = tuple(id if n % 3 else 18 + n % 4 for n, id in enumerate(at.ids))
    found = looks.Patched(ids, 20, 21, 4.25, -3.5, effects, correlation)
    at.take(looks.PatchLook(at.position, OTHER, part), found)
    return at


def page(**state: object) -> CausesPage:
    found = CausesPage()
    for name, value in state.items():
        assert hasattr(found, name)
        setattr(found, name, value)
    return found


def wide() -> Iterator[Scene]:
    yield Scene("no patch, nothing silenced", page(), known(), (120, 24))
    at = silenced(patched(known(10, against=15)), against=15)
    yield Scene("all at once", page(silences=True, corrupted=OTHER, against=15), at, (100, 30))
    yield Scene("patches of heads", page(corrupted=OTHER, of="heads"), patched(known(8), "heads", None), (101, 18))
    yield Scene("all parts, few layers", page(), known(4, layers=2), (100, 26))
    at = silenced(known(10), 2)
    at.refused[looks.AblationLook(10, 5, 1)] = "it was not to be done, for some reason that takes more room"
    yield Scene("some are silenced", page(silences=True), at, (100, 14))


def middle() -> Iterator[Scene]:
    yield Scene("words and what was written", page(), known(6), (70, 16))
    yield Scene("low", page(), known(23), (60, 11))
    yield Scene("just high enough for the gradient's ranks", page(), known(23), (60, 12))
    at = known(23)
    at.take(looks.ImportanceLook(23), mattered(23, None))
    yield Scene("without the gradient's ranks", page(against=4), at, (60, 12))
    yield Scene("silenced", page(silences=True), silenced(known(9)), (60, 22))
    yield Scene("silenced, three of them", page(silences=True), silenced(known(9), 3), (60, 22))
    yield Scene("silenced, two of them", page(silences=True), silenced(known(9), 2), (60, 22))
    yield Scene("silenced, all alike", page(silences=True), silenced(known(9), 4, 0.0), (50, 24))
    yield Scene("narrow", page(), known(3), (20, 8))
    yield Scene("nothing mattered", page(), nothing(), (40, 8))


def nothing() -> Reading:
    at = known(5, layers=1)
    at.take(looks.ImportanceLook(5), looks.Mattered(10, np.zeros(6, np.float32), 0.5))
    zeros = np.zeros((1, HEADS), np.float32)
    at.take(looks.AttributionLook(5), looks.Attributed(10, 0.0, zeros, np.zeros(1, np.float32), 0.0, 0.0, 0.0))
    return at


def patches() -> Iterator[Scene]:
    yield Scene("of the residual", page(corrupted=OTHER), patched(known(9)), (60, 18))
    yield Scene("a token is four columns", page(corrupted=OTHER), patched(known(5)), (29, 18))
    yield Scene("a token is three columns", page(corrupted=OTHER), patched(known(5)), (28, 18))
    yield Scene("not all tokens, not all layers", page(corrupted=OTHER, of="mlp"), patched(known(), "mlp"), (20, 12))
    at = patched(known(9), "heads")
    yield Scene("of the heads, two columns each", page(corrupted=OTHER, of="heads"), at, (18, 9))
    yield Scene("of the heads, narrow", page(corrupted=OTHER, of="heads"), patched(known(9), "heads"), (16, 18))
    yield Scene(
        "of the heads, three columns each", page(corrupted=OTHER, of="heads"), patched(known(9), "heads"), (25, 9)
    )
    yield Scene("without colours", page(corrupted=OTHER), patched(known(9), correlation=None), (40, 12), "plain")
    yield Scene("not known", page(corrupted=OTHER), known(9), (40, 9))


def partly() -> Iterator[Scene]:
    yield Scene("nothing is known", page(silences=True, corrupted=OTHER), reading(), (100, 14))
    yield Scene("nothing is known, on a small screen", page(), reading(), (60, 12))
    at = reading()
    at.position = 0
    yield Scene("the first token", page(against=8), at, (60, 12))
    at = reading()
    at.refused |= {looks.AttributionLook(23): "it has no head to be written to", looks.ImportanceLook(23): "no time"}
    yield Scene("refused", page(), at, (60, 12))
    long = TEXT * 3
    at = reading(long)
    at.position = 64
    yield Scene("a long text", page(), at, (70, 10))
    yield Scene("a long text, asked for", page(by_words=64), at, (70, 10))
    at.position = 63
    yield Scene("a text that is not long", page(), at, (70, 10))


@pytest.mark.parametrize("scenes", [wide, middle])
def test_causes_look_as_in_their_pictures(scenes: object) -> None:
    assert callable(scenes)
    assert_picture(f"tui/pictures/page-causes-{scenes.__name__}.txt", (scene.text() for scene in scenes()))


@pytest.mark.parametrize("scenes", [patches, partly])
def test_patches_and_what_is_not_known_look_as_in_their_pictures(scenes: object) -> None:
    assert callable(scenes)
    assert_picture(f"tui/pictures/page-causes-{scenes.__name__}.txt", (scene.text() for scene in scenes()))


def test_what_is_asked_for_comes_one_after_another() -> None:
    causes, at = page(corrupted=OTHER, silences=True, against=4, of="mlp"), reading()
    at.position = 9
    assert causes.wants(at, 80, 24) == looks.AttributionLook(9, 4)
    at.take(looks.AttributionLook(9, 4), attributed())
    assert causes.wants(at, 80, 24) == looks.PatchLook(9, OTHER, "mlp")
    at.refused[looks.PatchLook(9, OTHER, "mlp")] = "no"
    assert causes.wants(at, 80, 24) == looks.ImportanceLook(9)
    at.take(looks.ImportanceLook(9), mattered(9))
    assert causes.wants(at, 80, 24) == looks.AblationLook(9, 3, 2)
    at.refused[looks.AblationLook(9, 3, 2)] = "no"
    assert causes.wants(at, 80, 24) == looks.AblationLook(9, 5, 1)
    silenced(at)
    for each in causes.silenced(at):
        at.refused[each] = "no"
    assert causes.wants(at, 80, 24) is None and len(causes.silenced(at)) == 6
    assert page().wants(at, 80, 24) == looks.AttributionLook(9)
    assert page().silenced(at) == []


def test_each_token_is_left_out_unasked_where_they_are_few() -> None:
    for position, by_words, asked in [
        (0, None, False),
        (0, 0, False),
        (1, None, True),
        (63, None, True),
        (64, None, False),
        (64, 64, True),
        (65, 64, False),
    ]:
        at = reading(TEXT * 3)
        at.position = position
        at.take(looks.AttributionLook(position), attributed())
        assert page(by_words=by_words).wants(at, 80, 24) == (looks.ImportanceLook(position) if asked else None)


def test_parts_are_all_addends_the_largest_first() -> None:
    made, parts = attributed(), page().parts(known())
    assert len(parts) == LAYERS * HEADS + LAYERS + 2
    assert sum(part.value for part in parts) == pytest.approx(made.total, abs=1e-5)
    sizes = [abs(part.value) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    by = {part.name: part for part in parts}
    assert by["head 3.2"].value == 2.5 and by["head 3.2"].head == (3, 2) and parts[0] is by["head 3.2"]
    assert by["mlp 7"].value == float(made.mlp[7]) and by["mlp 7"].head is None
    assert (by["embedding"].value, by["biases"].value, by["biases"].head) == (0.75, 0.25, None)
    assert page().parts(reading()) == []


def test_keys_say_what_they_do() -> None:
    causes, at = CausesPage(), reading()
    assert (causes.against, causes.corrupted, causes.of, causes.silences, causes.by_words) == (
        None, None, "residual", False, None,
    )  # fmt: skip
    assert causes.told("foil", at, "red") == "" and causes.against == 14
    assert causes.told("foil", at, " nonsense ") == "nonsense is not one token of this model" and causes.against == 14
    assert causes.told("foil", at, " ").startswith("the logit by itself") and causes.against is None
    assert causes.told("patch", at, "a text") == "" and causes.corrupted == Prompt(parts=("a text",))
    assert causes.told("patch", at, "  ") == "" and causes.corrupted is None
    assert causes.does("ablate", at) == "the 6 heads that wrote most are silenced, one at a time" and causes.silences
    assert causes.does("ablate", at) == "" and not causes.silences
    for part in ("attention", "mlp", "heads", "residual"):
        assert causes.does("part", at) == f"patches of the {part}" and causes.of == part
    assert causes.does("table", at) == "" and causes.by_words == 23
    at = reading(TEXT * 3)
    for position, said in ((63, ""), (64, "each of 65 tokens is left out once")):
        at.position = position
        assert causes.does("table", at) == said and causes.by_words == position
    causes.corrupted, causes.silences, causes.against, causes.of = OTHER, True, 4, "mlp"
    causes.restart()
    assert (causes.against, causes.corrupted, causes.of, causes.silences, causes.by_words) == (
        4,
        None,
        "mlp",
        False,
        None,
    )
    assert CausesPage.SETTLES
    causes.move(at, 1, 1)
    assert at.position == 65


def test_what_is_shown_is_what_is_written() -> None:
    at, made = known(9), attributed()
    assert page().export(reading()) is None and page(against=3).export(at) is None
    numbers = {"embedding": 0.75, "bias": 0.25, "logit": made.logit, "token": 10}
    rows = {"heads": made.heads.tolist(), "attention": made.heads.sum(axis=1).tolist(), "mlp": made.mlp.tolist()}
    assert page().export(at) == ("attribution", numbers | rows | {"sum": made.total})
    at.take(looks.AttributionLook(9, 3), made)
    assert page(against=3).export(at) == ("attribution", numbers | rows | {"sum": made.total, "against": 3})
    assert page(against=3, corrupted=OTHER).export(at) == (
        "attribution",
        numbers | rows | {"sum": made.total, "against": 3},
    )
    found = page(corrupted=OTHER).export(patched(at))
    assert found is not None and found[0] == "patch"
    effects = found[1].pop("effects")
    assert np.shape(effects) == (LAYERS, 10) and effects[6][8] == pytest.approx(1.1)
    assert found[1] == {
        "part": "residual", "answer": 20, "foil": 21, "clean": 4.25, "corrupted": -3.5, "correlation": 0.75,
    }  # fmt: skip


def test_the_formula_has_the_sum_and_the_models_own_logit() -> None:
    made, at = attributed(), known(9, against=14)
    tail = ((f"{made.total:.3f}", True), ("   by the model ", False), (f"{made.total + 0.125:.3f}", True))
    assert page(against=14).formula(at) == (("logit(·queen) − logit(·red) = Σ_c (W_U · γ c) / r = ", False), *tail)
    assert page().formula(known(9)) == (("logit(·queen) = Σ_c (W_U · γ c) / r = ", False), *tail)
    assert page().formula(at) == () and NAMES.name(10) == "·queen"
