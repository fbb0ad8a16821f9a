"""The inside view on a scripted engine: it shows what the engine says, and leaving it while it works is safe."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.widgets import Input

from app import looks
from app.tui.inside.lens_page import LensPage
from app.tui.inside.page import shown_layers
from app.tui.inside.reading import Reading, wrapped
from app.tui.tokens import cells
from app.tui.tokens.layout import TokenPlace
from app.tui.views.inside import InsideScreen
from engine.decode.control import RunControl
from engine.errors import ParameterError
from engine.prompt import Prompt
from tests.support.model import ScriptedEngine
from tests.tui.conftest import Play, Stage, assert_screen
from tests.tui.test_pictures import SIZES

LAYERS, HEADS = 4, 2
TEXT = "Why is the sky blue?"
ANSWERS = (looks.NearLook, looks.AttributionLook, looks.ImportanceLook, looks.AblationLook, looks.PatchLook)


class Glass(ScriptedEngine):
    """A scripted engine whose inside is drawn at random from its place: every look has one answer. Counts looks."""

    def __init__(self, name: str = "scripted") -> None:
        super().__init__(name)
        self.looks: list[looks.Look] = []
        self.refuses: tuple[type, ...] = ()
        self.first = 0  # position that is looked at first
        self.endless = False  # a lens that never ends, until it is broken off
        self.broken_off = 0

    def look_inside(self, ids: Any, look: looks.Look, control: RunControl) -> Iterator[Any]:
        self.looks.append(look)
        if isinstance(look, self.refuses):
            raise ParameterError("this inside cannot be seen")
        t, rng = len(ids), np.random.default_rng(len(ids))
        match look:
            case looks.OpenLook():
                yield looks.TextOpened(tuple(ids), self.first, LAYERS, HEADS, 1, 8, 16, False, True)
            case looks.LensLook(start, stop, tuned):
                for low, high in ((start, stop), (self.first, start), (stop, t)):
                    while self.endless and not control.cancelled:
                        yield None
                    if control.cancelled:
                        self.broken_off += 1
                        return
                    if low < high:
                        yield self.part(low, high, tuned)
            case looks.PatternLook(layer):
                weights = np.tril(rng.random((HEADS, t, t))).astype(np.float32)
                weights[:, :, layer % t] += np.arange(t) >= layer % t
                yield looks.Pattern(layer, weights / weights.sum(axis=-1, keepdims=True))
            case looks.KindsLook():
                names = ("induction", "duplicate", "previous", "first", "distance", "entropy")
                yield looks.Kinds({name: rng.random((LAYERS, HEADS)).astype(np.float32) for name in names})
            case looks.RolloutLook():
                weights = np.tril(np.ones((t, t)))
                yield looks.Rollout(weights / weights.sum(axis=1, keepdims=True))
            case looks.MapLook():
                points = np.random.default_rng(1).normal(size=(len(self.facts.vocabulary), 2)).astype(np.float32)
                words = tuple(self.tokenizer.ids[word] for word in (b" sky", b" blue", b" red", b" light"))
                rows = (
                    looks.RelationRow("man : woman", 90, 0.1, 0.6, 0.2),
                    looks.RelationRow("all", 90, 0.1, 0.6, 0.2),
                )
                norms = np.linalg.norm(points, axis=1)
                yield looks.WordMap(points, 0.4, (("colour", words),), norms, 0.3, rows)
            case looks.NearLook():
                found = tuple((300 + i, 0.9 - i / 20) for i in range(10))
                yield looks.Near(found, ((301, 0.8),), tuple(0.95 - i / 20 for i in range(10)), 0.1, 0.4)
            case looks.AttributionLook(position):
                heads = rng.normal(size=(LAYERS, HEADS)).astype(np.float32)
                mlp = rng.normal(size=LAYERS).astype(np.float32)
                total = float(heads.sum() + mlp.sum() + 1.5)
                yield looks.Attributed(300 + position, 1.0, heads, mlp, 0.5, total, total)
            case looks.ImportanceLook(position):
                left_out = rng.normal(size=position + 1).astype(np.float32)
                yield looks.Mattered(300 + position, left_out, 1.0)
            case looks.AblationLook(position):
                yield looks.Ablated(300 + position, 2.0, -0.25)
            case looks.PatchLook(position, corrupted, part):
                other = tuple(corrupted.ids(self.tokenizer))
                if len(other) != position + 1:
                    raise ParameterError("both must have as many tokens")
                columns = HEADS if part == "heads" else position + 1
                effects = rng.random((LAYERS, columns)).astype(np.float32)
                yield looks.Patched(other, 300, 301, 4.0, -3.0, effects, 0.75)
            case looks.SpellingsLook(start, stop):
                own = tuple(ids[start:stop])
                word = b"".join(self.facts.vocabulary[id] for id in own)
                yield looks.Spelled(word, ((b"a", b"b"), (b"ab",)), ((own, -1.0, True),), -0.9, False)

    def part(self, low: int, high: int, tuned: bool) -> looks.LensPart:
        """Layer l says token 300 + l at the positions, with probability l / layers; the last two layers agree."""
        n = high - low
        layer = np.minimum(np.arange(LAYERS + 1), LAYERS - 1)[:, None] * np.ones((1, n), np.int64)
        top = (300 + layer).astype(np.int32)
        kl = np.where(np.arange(LAYERS + 1)[:, None] == LAYERS, 0, (0.5 if tuned else 1.0) * (LAYERS - layer))
        best = np.stack([top + i for i in range(5)], axis=-1)
        p = ((layer + 1) / (LAYERS + 1)).astype(np.float32)
        return looks.LensPart(
            low, top, p, kl.astype(np.float32), 1 + LAYERS - 1 - layer, best, p[..., None] / np.arange(1, 6)
        )


async def opened(stage: Stage, text: str = TEXT) -> InsideScreen:
    """The view, on a text."""
    stage.app.looked_into = Prompt(parts=(text,)), 0
    stage.app.go("inside")
    view = stage.app.screen
    assert isinstance(view, InsideScreen)
    await known(stage, view)
    return view


async def known(stage: Stage, view: InsideScreen) -> None:
    """Wait until the page that is shown has all it wants."""

    def settled() -> bool:
        at = view.reading
        return at is not None and at.opened is not None and view.page.wants(at, *view._room()) is None

    await stage.until(settled, "a page that has all it wants")


@pytest.mark.slow
async def test_the_lens_says_what_each_layer_says(play: Play) -> None:
    engine = Glass()
    async with play(engine) as stage:
        view = await opened(stage)
        picture = stage.picture()
        assert view.reading is not None
        names = [cells.fit(view.reading.name(300 + i), 8) for i in range(LAYERS)]
        assert "LAYER 3" in picture and "KL 1.4 bits" in picture  # one nat to the last
        assert all(name in picture for name in names)
        assert "softmax(W_U norm(h₃))" in picture and "1.44 bits" in picture
        asked = len(engine.looks)
        await stage.pilot.press("up", "left", "left", "k", "z")
        assert "LAYER 2" in stage.picture() and len(engine.looks) == asked  # without the model
        await stage.pilot.press("t")
        await known(stage, view)
        assert "translate(h₂)" in stage.picture() and "1.44 bits" in stage.picture()  # half of two nats


@pytest.mark.slow
async def test_heads_change_without_the_model_and_layers_with_it(play: Play) -> None:
    engine = Glass()
    async with play(engine) as stage:
        view = await opened(stage)
        await stage.pilot.press("tab")
        await known(stage, view)
        assert "READS  head 0.0" in stage.picture() and "Σ_j = 1.000" in stage.picture()
        asked = len(engine.looks)
        await stage.pilot.press("down", "left", "g", "s")
        assert "head 0.1" in stage.picture() and len(engine.looks) == asked
        await stage.pilot.press("right_square_bracket")
        await known(stage, view)
        assert "head 1.1" in stage.picture() and engine.looks[asked:] == [looks.PatternLook(1)]
        assert view.reading is not None and view.reading.pattern is not None  # one layer is kept
        assert view.reading.pattern.layer == 1
        await stage.pilot.press("x", "r")
        await known(stage, view)
        assert looks.AblationLook(view.reading.position, 1, 1) in engine.looks
        assert "all layers" in stage.picture() and "Π (A + I) / 2" in stage.picture()


@pytest.mark.slow
async def test_the_map_is_walked_and_asked(play: Play) -> None:
    engine = Glass()
    async with play(engine) as stage:
        view = await opened(stage)
        view.action_show("map")
        await known(stage, view)
        assert "NEAREST" in stage.picture() and "man : woman" in stage.picture() and "60% ±20" in stage.picture()
        await stage.pilot.press("slash", *"red", "enter")
        await known(stage, view)
        assert "to ·red" in stage.picture()
        walked = set()
        for key in ("left", "right", "up", "down"):
            await stage.pilot.press(key)
            walked.add(view.page.at_token(view.reading))  # type: ignore[attr-defined]
        await stage.pilot.press("plus", "plus", "minus")
        await stage.pilot.press("a", *"sky - blue + red", "enter")
        await known(stage, view)
        ids = [engine.tokenizer.ids[word] for word in (b" sky", b" red", b" blue")]
        assert looks.NearLook((ids[0], ids[1]), (ids[2],)) in engine.looks
        assert "sky − blue + red" in stage.picture() and len(walked) > 1
        await stage.pilot.press("a", *"sky - nonsense", "enter")
        assert "nonsense is not one token" in view.hints.news
        await stage.pilot.press("slash", *"nonsense", "enter")
        assert "nonsense is not one token" in view.hints.news


@pytest.mark.slow
async def test_causes_are_measured_beside_what_was_written(play: Play) -> None:
    engine = Glass()
    async with play(engine) as stage:
        view = await opened(stage)
        await stage.pilot.press("c")
        await known(stage, view)
        at = view.reading
        assert at is not None
        made = at.answers[looks.AttributionLook(at.position)]
        assert isinstance(made, looks.Attributed) and f"Σ {made.total:.2f}" in stage.picture()
        await stage.pilot.press("x")
        await known(stage, view)
        assert "-0.250" in stage.picture() and stage.picture().count("head ") > 6
        await stage.pilot.press("p", *"Why is the sky red?", "enter")
        await known(stage, view)
        assert "4.0 here, -3.0 there" in stage.picture() and "correlates by 0.75" in stage.picture()
        await stage.pilot.press("w", "w", "w")
        await known(stage, view)
        assert "PATCHES  of the heads" in stage.picture() and "by head " in stage.picture()
        assert isinstance(engine.looks[-1], looks.PatchLook) and engine.looks[-1].part == "heads"
        await stage.pilot.press("w", "p", *"too short", "enter")
        await known(stage, view)
        assert "both must have as many tokens" in stage.picture()
        await stage.pilot.press("f", *"nonsense", "enter")
        assert "not one token" in view.hints.news
        await stage.pilot.press("f", *"red", "enter")
        await known(stage, view)
        assert "over ·red" in stage.picture()


@pytest.mark.slow
async def test_what_a_page_shows_is_written_as_the_verb_writes_it(play: Play, tmp_path: Path) -> None:
    async with play(Glass()) as stage:
        view = await opened(stage)
        keys = {"attention": "attention", "map": "neighbours", "causes": "attribution", "tokens": "tokenisation"}
        for page, key in {"lens": "lens", **keys}.items():
            view.action_show(page)
            await known(stage, view)
            await stage.pilot.press("e", "enter")
            path = stage.app.home / f"inside-{page}.json"
            found = json.loads(path.read_text())
            assert list(found)[:2] == ["ids", key] and found["ids"] == list(view.reading.ids)  # type: ignore[union-attr]
            assert str(path) in view.hints.news
        lens = json.loads((stage.app.home / "inside-lens.json").read_text())["lens"]
        assert lens["top"][2][0] == 302 and lens["kl"][2][0] == pytest.approx(2) and lens["kl"][-1][0] == 0  # nats
        os.mkfifo(tmp_path / "p")
        for name, page, wanted in (
            ("a.csv", "lens", "embedding,"), ("a.svg", "attention", "<svg"), ("b.svg", "causes", "drawn of a grid"),
            ("a", "lens", "got a name without"), ("gone/a.csv", "lens", "was not written"), ("p", "lens", "is a pipe"),
        ):  # fmt: skip
            view.action_show(page)
            path = tmp_path / name
            await stage.pilot.press("e")
            stage.app.screen.query_one(Input).value = str(path)
            await stage.pilot.press("enter")
            said = view.hints.news if view.hints.alarm else path.read_text()
            assert wanted in said, said
        (tmp_path / "a.csv").write_text("mine")
        view.action_show("lens")
        await stage.pilot.press("e")
        stage.app.screen.query_one(Input).value = str(tmp_path / "a.csv")
        await stage.pilot.press("enter")
        await stage.until(lambda: "there already" in stage.picture())
        await stage.pilot.press("enter")
        assert (tmp_path / "a.csv").read_text() == "mine" and (tmp_path / "a-2.csv").exists()


async def test_a_word_is_cut_in_other_ways(play: Play) -> None:
    async with play(Glass()) as stage:
        view = await opened(stage)
        view.action_show("tokens")
        await known(stage, view)
        assert "MERGES  1 in the order" in stage.picture() and "1.4 bits" in stage.picture()
        assert "p(text | x<i) ≥" in stage.picture()
        await stage.pilot.press("home")
        assert "nothing stands before the first token" in stage.picture()


@pytest.mark.slow
async def test_it_opens_on_the_answer_under_the_cursor(play: Play) -> None:
    async with play(Glass()) as stage:
        await stage.ask(TEXT)
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(1, 3))
        await stage.pilot.press("i")
        view = stage.app.screen
        assert isinstance(view, InsideScreen)
        await known(stage, view)
        at = view.reading
        assert at is not None
        steps = stage.shown[1].steps
        assert list(at.ids[-len(steps) :]) == [step.token for step in steps]
        assert at.ids[at.position + 1] == steps[3].token  # what is said after it is the token that was pressed on


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20)])
async def test_a_tokens_neighbours_stand_in_the_place_of_its_candidates(play: Play, size: tuple[int, int]) -> None:
    engine = Glass()
    async with play(engine, size=size) as stage:
        await stage.ask(TEXT)
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(1, 3))
        assert not engine.looks  # nothing is computed for whoever does not look
        token = stage.shown[1].steps[3].token
        await stage.pilot.press("v")
        table = stage.chat.inspector.table
        await stage.until(lambda: table().rows and table().title == "NEAREST", "neighbours")  # type: ignore[union-attr]
        assert engine.looks == [looks.NearLook((token,))]
        names = stage.chat.names()
        assert names.name(300) in stage.picture() and (size[0] < 120 or "mean removed" in stage.picture())
        await stage.pilot.press("left", "right")
        await stage.until(lambda: table().name == names.name(token))  # type: ignore[union-attr]
        assert engine.looks.count(looks.NearLook((token,))) == 1  # it is known
        found = stage.chat.inspector.formula()
        assert found is not None and "cos(" in found.parts[0][0] and found.parts[1] == ("0.900", True)
        await stage.pilot.press("v")
        assert table().title.startswith("TOKEN")  # type: ignore[union-attr]


@pytest.mark.slow
async def test_neighbours_that_cannot_be_seen_say_so(play: Play) -> None:
    async with play() as stage:  # a script has no embedding
        await stage.ask(TEXT)
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(1, 3))
        await stage.pilot.press("v")
        await stage.until(lambda: "is a script" in stage.picture())


@pytest.mark.slow
async def test_without_a_text_it_says_how_to_get_one(play: Play) -> None:
    async with play(Glass()) as stage:
        await stage.pilot.press("f6")
        await stage.until(lambda: "There is no text to look into" in stage.picture())
        await stage.pilot.press("k", "up", "tab", "c")
        await stage.pilot.press("n", *"sky blue", "enter")
        view = stage.app.screen
        assert isinstance(view, InsideScreen)
        await known(stage, view)
        assert view.reading is not None and len(view.reading.ids) > 1


@pytest.mark.slow
async def test_what_cannot_be_seen_says_so(play: Play) -> None:
    engine = Glass()
    engine.refuses = (looks.OpenLook,)
    async with play(engine) as stage:
        stage.app.looked_into = Prompt(parts=(TEXT,)), 0
        stage.app.go("inside")
        await stage.until(lambda: "this inside cannot be seen" in stage.picture())
        asked = len(engine.looks)
        await stage.pilot.press("tab", "up", "left", "x")
        assert len(engine.looks) == asked  # it is not asked again and again
    engine = Glass()
    engine.refuses = (looks.PatternLook, looks.KindsLook, looks.LensLook, looks.AttributionLook, *ANSWERS)
    async with play(engine) as stage:
        stage.app.looked_into = Prompt(parts=(TEXT,)), 0
        stage.app.go("inside")
        for page in ("lens", "attention", "causes"):
            await stage.until(lambda: "this inside cannot be seen" in stage.picture(), page)
            await stage.pilot.press("tab")
            if page == "attention":
                await stage.pilot.press("tab")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["f2", "escape", "n", "model", "adapter"])
async def test_leaving_while_it_works_breaks_it_off(play: Play, way: str) -> None:
    engine, other = Glass(), Glass("other")
    engine.endless = True
    async with play(engine, other) as stage:
        stage.app.looked_into = Prompt(parts=(TEXT,)), 0
        stage.app.go("inside")
        await stage.until(lambda: any(isinstance(look, looks.LensLook) for look in engine.looks))
        match way:
            case "n":
                await stage.pilot.press("n", *"sky blue red", "enter")
            case "model":
                stage.app.switch_model("other")
            case "adapter":
                stage.app.engine.adapt("add", "somewhere")
            case _:
                await stage.pilot.press(way)
        await stage.until(lambda: engine.broken_off, "a look that was broken off")
        engine.endless = False
        stage.app.go("inside")
        view = stage.app.screen
        assert isinstance(view, InsideScreen)
        await known(stage, view)
        assert view.reading is not None and len(view.reading.ids) == (
            3 if way == "n" else len(engine.tokenizer.encode(TEXT))
        )
        assert view.reading.model == ("other" if way == "model" else "scripted")
        await stage.pilot.press("ctrl+q")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20), (40, 12), (20, 5)])
async def test_every_page_fits_every_size(play: Play, size: tuple[int, int]) -> None:
    async with play(Glass(), size=size) as stage:
        view = await opened(stage, TEXT * 9)
        for page in view.pages:
            view.action_show(page.NAME)
            await known(stage, view)
            for key in ("left", "up", "down", "home", "end", "z", "g"):
                await stage.pilot.press(key)
            lines = stage.picture().splitlines()
            assert len(lines) == size[1] and "inside" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["120x40", "80x24", "60x20"])
async def test_pictures(play: Play, size: str) -> None:
    """Every page beside its picture, the causes with patches of heads."""
    async with play(Glass(), size=SIZES[size]) as stage:
        view = await opened(stage, TEXT * 3)
        for page in view.pages:
            view.action_show(page.NAME)
            if page.NAME == "causes":
                await known(stage, view)
                await stage.pilot.press("x", "w", "w", "w", "p")
                stage.app.screen.query_one(Input).value = "Why is the sky red?" + TEXT * 2
                await stage.pilot.press("enter")
            await known(stage, view)
            view.hints.say("")
            await assert_screen(stage, f"inside-{page.NAME}-{size}.txt", stage.picture)


async def test_a_text_that_is_too_long_says_how_much_of_it_is_looked_at(play: Play) -> None:
    engine = Glass()
    engine.first = 4
    async with play(engine, size=(60, 20)) as stage:
        view = await opened(stage, TEXT * 2)
        count = len(engine.tokenizer.encode(TEXT * 2))
        assert f"{count - 4} of {count} tokens" in stage.picture()
        await stage.pilot.press("home")
        assert view.reading is not None and view.reading.position == 4


def test_layers_that_do_not_fit_are_folded_from_the_first() -> None:
    assert shown_layers(31, 25)[-9:] == list(range(22, 31)) and shown_layers(31, 25)[:4] == [0, 2, 4, 6]
    for count in range(1, 140):
        for rows in range(1, 40):
            found = shown_layers(count, rows)
            assert len(found) == min(count, rows) and found == sorted(set(found))
            assert found[0] >= 0 and found[-1] == count - 1
    assert wrapped(["ab", "c", "def", "g" * 9], 4) == [[0, 1], [2], [3]]


def test_decided_is_where_the_last_answer_begins_to_stay() -> None:
    at = Reading("m", Prompt(), ScriptedNames)  # type: ignore[arg-type]
    at.take(looks.OpenLook(), looks.TextOpened((1, 2, 3), 0, LAYERS, HEADS, 1, 8, 16, True, False))
    at.take(looks.LensLook(0, 0), Glass().part(1, 3, False))
    table = at.lenses[False]
    assert table.known.tolist() == [False, True, True] and not at.has(looks.LensLook(0, 0))
    assert table.decided().tolist()[1:] == [LAYERS - 1, LAYERS - 1]
    page = LensPage()
    assert page.wants(at, 118, 33) == looks.LensLook(0, 3, False, (1, 2))


ScriptedNames = type("ScriptedNames", (), {"pieces": (), "name": lambda self, token: str(token)})()
