"""The attention page from scripted data: how it looks at several sizes, what it asks for, and what its keys do."""

from collections.abc import Iterator

import numpy as np
import pytest

from app import looks
from app.tui.inside.attention_page import SCORES, AttentionPage
from app.tui.inside.reading import Reading
from tests.pictures import assert_picture
from tests.tui.pages import HEADS, LAYERS, NAMES, TEXT, Scene, number, reading


def weights(n: int, first: int = 0) -> np.ndarray:
    """What each head reads, [H, N, T]: much of one token, of the others a little."""
    found = np.zeros((HEADS, n - first, n), np.float32)
    for head in range(HEADS):
        for i in range(n - first):
            row = np.array([0.02 + number(head, i, j) for j in range(first + i + 1)])
            row[(head * 5 + i) % len(row)] += 3 + i / 4
            found[head, i, : len(row)] = row / row.sum()
    return found


def kinds(layers: int = LAYERS) -> looks.Kinds:
    """Scores of all heads; those of the first have a name, in each way."""
    names = ("induction", "duplicate", "previous", "first", "distance", "entropy")
    scores = {
        name: np.array([[0.49 * number(n, l, h) for h in range(HEADS)] for l in range(layers)], np.float32)
        for n, name in enumerate(names)
    }
    for layer, (name, value) in enumerate(
        (("induction", 0.5), ("duplicate", 0.9), ("previous", 1.0), ("first", 0.75), ("first", 0.74))
    ):
        if layer < layers:
            scores[name][layer, layer % HEADS] = value
    scores["entropy"] *= 5
    scores["distance"] *= 23
    return looks.Kinds(scores)


def known(
    at: int = -1,
    *,
    layer: int = 0,
    first: int = 0,
    layers: int = LAYERS,
    ids: tuple[int, ...] = TEXT,
    kv_heads: int = 3,
) -> Reading:
    """A reading with the kinds of all heads, and what those of a layer read."""
    found = reading(ids, first=first, layers=layers, kv_heads=kv_heads)
    found.take(looks.KindsLook(), kinds(layers))
    found.take(looks.PatternLook(layer), looks.Pattern(layer, weights(len(ids), first)))
    found.position = at % len(ids)
    return found


def page(**state: object) -> AttentionPage:
    found = AttentionPage()
    for name, value in state.items():
        assert hasattr(found, name)
        setattr(found, name, value)
    return found


def ablated(at: Reading, layer: int, head: int, effect: float) -> Reading:
    at.take(looks.AblationLook(at.position, layer, head), looks.Ablated(22, 2.0, effect))
    return at


def wide() -> Iterator[Scene]:
    yield Scene("the last token", page(), ablated(known(), 0, 0, 1.5), (118, 34))
    yield Scene(
        "just wide and tall", page(layer=3, head=3, by="distance"), ablated(known(9, layer=3), 3, 3, -0.25), (100, 30)
    )
    yield Scene("not tall", page(layer=11, head=5, by="entropy"), known(16, layer=11), (100, 29))
    yield Scene("more layers than there is room for", page(layer=30), known(9, layer=30, layers=40), (100, 16))
    yield Scene("low", page(layer=1, head=1), known(0, layer=1), (101, 17))
    yield Scene("room for what is notable", page(layer=1, head=1), known(5, layer=1, layers=3), (104, 22))
    yield Scene(
        "no room for what is notable", page(layer=1, head=5), known(5, layer=1, layers=3, kv_heads=6), (104, 21)
    )
    yield Scene("without the first token", page(no_sink=True), known(12), (100, 18))


def middle() -> Iterator[Scene]:
    yield Scene("a layer is two columns", page(layer=2, head=2, by="duplicate"), known(7, layer=2), (76, 20))
    yield Scene("side by side as far as it goes", page(layer=2, head=1, by="previous"), known(7, layer=2), (56, 16))
    yield Scene("one below the other", page(layer=2, head=1, by="first"), known(7, layer=2), (55, 19))
    yield Scene("one row of text", page(head=4), known(7, kv_heads=1), (60, 15))
    yield Scene("a layer is one column", page(layer=7, head=5), known(7, layer=7), (29, 12))
    yield Scene("a layer is two columns, just so", page(layer=7, head=5), known(7, layer=7), (30, 12))
    yield Scene("two rows of text", page(), known(12), (36, 20))
    yield Scene("not all layers and heads", page(layer=7, head=4), known(7, layer=7), (14, 11))
    yield Scene("not all layers and heads, the last", page(layer=11, head=0), known(7, layer=11), (14, 11))
    yield Scene("without colours", page(layer=2, head=2), known(7, layer=2), (60, 16), "plain")


def patterns() -> Iterator[Scene]:
    yield Scene("all of it", page(whole=True), known(7), (60, 30))
    yield Scene("a token is two columns, just so", page(whole=True), known(), (57, 12))
    yield Scene("a token is one column", page(whole=True), known(), (56, 12))
    yield Scene("not all tokens", page(whole=True, head=2), known(19), (30, 11))
    yield Scene("not all tokens, from the first on", page(whole=True, head=2), known(3), (30, 11))
    yield Scene("only those that are looked at", page(whole=True), known(21, first=18), (60, 16))
    yield Scene("too low", page(whole=True), known(), (40, 5))
    yield Scene("just high enough", page(whole=True), known(), (40, 6))
    yield Scene("nothing but a newline", page(whole=True), known(0, ids=(4,)), (30, 10))


def partly() -> Iterator[Scene]:
    yield Scene("nothing is known", page(layer=2, head=3), reading(), (100, 30))
    yield Scene("nothing is known, on a small screen", page(layer=2, head=3), reading(), (60, 16))
    at = known(layer=1)
    yield Scene("another layer than the one that is known", page(layer=2), at, (60, 14))
    refused = reading()
    refused.refused |= {looks.PatternLook(0): "it is too long", looks.KindsLook(): "it has no heads"}
    yield Scene("refused", page(), refused, (60, 12))
    at = known()
    at.refused[looks.AblationLook(at.position, 0, 0)] = "it was not to be done, for a reason that has a name"
    yield Scene("refused to leave a head out", page(), at, (70, 16))
    yield Scene("through all layers, not known", page(rolled=True), known(), (100, 20))
    at = known()
    at.take(looks.RolloutLook(), looks.Rollout(weights(len(TEXT))[1].astype(float)))
    yield Scene("through all layers", page(rolled=True, layer=4), at, (100, 30))


@pytest.mark.parametrize("scenes", [wide, middle])
def test_attention_looks_as_in_its_pictures(scenes: object) -> None:
    assert callable(scenes)
    assert_picture(f"tui/pictures/page-attention-{scenes.__name__}.txt", (scene.text() for scene in scenes()))


@pytest.mark.parametrize("scenes", [patterns, partly])
def test_a_pattern_and_what_is_not_known_look_as_in_their_pictures(scenes: object) -> None:
    assert callable(scenes)
    assert_picture(f"tui/pictures/page-attention-{scenes.__name__}.txt", (scene.text() for scene in scenes()))


def test_no_window_is_too_narrow_for_a_pattern() -> None:
    for width in range(12):
        text = Scene("narrow", page(whole=True), known(), (width, 12)).text()
        assert "one row"[: width - 1] in text if width > 9 else "one" not in text


def test_what_is_asked_for_comes_one_after_another() -> None:
    heads, at = page(layer=3), reading()
    assert heads.wants(at, 80, 24) == looks.PatternLook(3)
    at.take(looks.PatternLook(2), looks.Pattern(2, weights(24)))
    assert heads.wants(at, 80, 24) == looks.PatternLook(3)
    at.take(looks.PatternLook(3), looks.Pattern(3, weights(24)))
    assert heads.wants(at, 80, 24) == looks.KindsLook()
    assert heads.does("ablate", at) == "reading the text without head 3.0…"
    asked = looks.AblationLook(23, 3, 0)
    assert heads.ablated == asked and heads.wants(at, 80, 24) == asked
    heads.restart()
    assert heads.ablated is None
    heads.ablated = asked
    at.take(asked, looks.Ablated(4, 1.0, 0.5))
    assert heads.does("ablate", at) == "" and heads.wants(at, 80, 24) == looks.KindsLook()
    at.take(looks.KindsLook(), kinds())
    assert heads.wants(at, 80, 24) is None
    heads.rolled = True
    assert heads.wants(at, 80, 24) == looks.RolloutLook()
    at.refused[looks.RolloutLook()] = "no"
    assert heads.wants(at, 80, 24) is None
    heads.layer = 4
    at.refused[looks.PatternLook(4)] = "no"
    assert heads.wants(at, 80, 24) is None
    at = reading()
    at.refused[looks.KindsLook()] = at.refused[looks.PatternLook(4)] = "no"
    heads.rolled, heads.ablated = False, None
    assert heads.wants(at, 80, 24) is None


def test_the_cursor_goes_by_tokens_and_heads_and_keys_by_layers() -> None:
    heads, at = AttentionPage(), reading()
    assert (heads.layer, heads.head, heads.by) == (0, 0, "induction")
    assert not (heads.no_sink or heads.rolled or heads.whole) and heads.ablated is None
    at.position = 5
    heads.move(at, 1, 0)
    assert (at.position, heads.head) == (6, 0)
    for dy, head in ((-1, 0), (4, 4), (1, 5), (1, 5), (-2, 3)):
        heads.move(at, 0, dy)
        assert (at.position, heads.head) == (6, head)
    for key, layer in (("previous", 0), ("next", 1), ("next", 2), ("previous", 1)):
        assert heads.does(key, at) == "" and heads.layer == layer
    heads.layer = 11
    assert heads.does("next", at) == "" and heads.layer == 11
    closed = Reading("m", at.prompt, NAMES)
    heads.move(closed, 0, -1)
    heads.does("previous", closed)
    assert (heads.layer, heads.head) == (11, 3)


def test_keys_say_what_they_do() -> None:
    heads, at = AttentionPage(), reading()
    for name in [*list(SCORES)[1:], "induction"]:
        assert heads.does("score", at) == f"heads by {name}: {SCORES[name]}" and heads.by == name
    assert heads.does("sink", at).startswith("without the first token") and heads.no_sink
    assert heads.does("sink", at) == "with the first token" and not heads.no_sink
    assert heads.does("rollout", at).startswith("attention through all layers") and heads.rolled
    assert heads.does("rollout", at) == "" and not heads.rolled
    assert heads.does("fold", at) == "" and heads.whole
    assert heads.does("fold", at) == "" and not heads.whole
    assert heads.facts(at) == ("24 tokens", "12 × 6 heads")
    assert heads.facts(Reading("m", at.prompt, NAMES)) == ()
    assert (heads.title(), page(layer=3, head=2).title()) == ("0.0", "3.2")
    assert page(rolled=True).title() == "all layers"


def test_what_is_shown_is_what_is_written() -> None:
    at = known(layer=3)
    given = weights(24)
    assert page(layer=2).export(at) is None and page().export(reading()) is None
    assert page(layer=3, head=4).export(at) == ("attention", given[4].tolist())
    rolled = page(layer=3, rolled=True)
    assert rolled.export(at) is None
    at.take(looks.RolloutLook(), looks.Rollout(given[2]))
    assert rolled.export(at) == ("rollout", given[2].tolist())
    found = page(layer=3, head=4, no_sink=True).export(at)
    assert found is not None
    shown = np.array(found[1])
    assert (shown[1:, 0] == 0).all()
    np.testing.assert_allclose(shown[1:, 1:], given[4, 1:, 1:] / given[4, 1:, 1:].sum(axis=1, keepdims=True), rtol=1e-5)


def test_the_formula_has_the_sum_and_the_entropy_of_the_row() -> None:
    at = known(6, first=4)
    assert at.pattern is not None
    at.pattern.weights[0, 2, :] = 0
    at.pattern.weights[0, 2, 1:4] = 0.5, 0.25, 0.125  # bits: 0.5 + 0.5 + 0.375
    assert page().formula(at) == (
        ("a(6, j) = softmax_j(q·k_j / √16)   Σ_j = ", False), ("0.875", True), ("   H = ", False), ("1.38 bits", True),
    )  # fmt: skip
    at.take(looks.RolloutLook(), looks.Rollout(at.pattern.weights[0]))
    assert page(rolled=True).formula(at)[0] == ("R = Π (A + I) / 2   Σ_j = ", False)
    assert page(layer=1).formula(at) == () and page().formula(reading()) == ()
