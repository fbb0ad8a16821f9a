"""What happens inside a model, on the screen: each page by its keys, what it measures, writes and refuses."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from likely.app.jobs.interpretability import Inside, question
from likely.app.tui.base.text import cells
from likely.app.tui.inside.page import shown_layers
from likely.app.tui.inside.reading import Reading, wrapped
from likely.engine.inside.questions import Ablation
from tests.pictures import assert_picture
from tests.support.everyday import everyday
from tests.support.glass import HEADS, LAYERS, Glass
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

TEXT = "Why is the sky blue?"
Look = Callable[..., Screen]


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Look]:
    """Opens a page of the view, on a text of six tokens."""
    with ExitStack() as around:

        def looked(page: str = "lens", engine: ScriptedEngine | None = None, **how: Any) -> Screen:
            screen = around.enter_context(Screen(tmp_path, engine or Glass(), **how))
            screen.press("f6")
            into(screen, TEXT)
            screen.press(*["tab"] * ["lens", "attention", "map", "causes", "tokens"].index(page))
            return screen

        yield looked


def into(screen: Screen, text: str) -> None:
    screen.press("n", "ctrl+a", "ctrl+k")
    screen.say(text)


# -- the pages --------------------------------------------------------------------------------------------------------


def test_the_lens_says_what_each_layer_would_say(look: Look) -> None:
    engine = Glass()
    screen = look(engine=engine)
    assert "LAYER 3  after ?" in screen.text and "softmax(W_U norm(h₃))" in screen.text
    assert "KL 1.4 bits" in screen.text and "KL(p₄ ‖ p₃) = 1.44 bits" in screen.text  # one nat to the last
    for layer in range(LAYERS + 1):
        row = next(line for line in screen.lines if line.lstrip().startswith(f"{layer} ") and "·" in line)
        name = engine.tokenizer.pieces[300 + min(layer, LAYERS - 1)].decode().replace(" ", "·")
        assert row.count(name[:6]) >= 6 and ("◆" in row) == (layer == LAYERS - 1)  # decided from there on
    asked = len(engine.looks)
    screen.press("up", "left", "left", "k", "z")
    assert "LAYER 2  after ·sky" in screen.text and len(engine.looks) == asked  # without the model
    for word, rank in (("·blue", "20"), (name, "2")):  # of the word that was said, then of the favourite
        assert re.search(rf"RANK  of {word} by layer +{rank}\n", screen.text)
        screen.press("o")
    screen.press("t")
    assert "translate(h₂)" in screen.text and "= 1.44 bits" in screen.text  # half of two nats


def test_a_head_reads_shares_that_sum_to_one(look: Look) -> None:
    engine = Glass()
    screen = look("attention", engine)
    assert "READS  head 0.0 from ?" in screen.text and "Σ_j = 1.000" in screen.text
    asked = len(engine.looks)
    screen.press("down", "left", "g", "s")
    assert "head 0.1 from blue" in screen.text.replace("·", "") and len(engine.looks) == asked
    screen.press("right_square_bracket")
    assert "head 1.1" in screen.text and engine.looks[asked:] == [question(Inside.pattern, 1)]
    screen.press("x")
    said = engine.tokenizer.ids[b"?"]  # the token that the text has next, not the favourite
    assert engine.looks[-1] == question(Inside.ablation, 4, 1, 1, said) and "-0.25" in screen.text
    screen.press("r")
    assert "all layers" in screen.text and "Π (A + I) / 2" in screen.text


@pytest.mark.slow
def test_the_map_is_walked_and_asked(look: Look) -> None:
    engine = Glass()
    screen = look("map", engine)
    assert "NEAREST  to ?" in screen.text and "man : woman" in screen.text and "60% ±20" in screen.text
    assert "right, of 132 sums" in screen.text  # of the relation that has most
    screen.press("slash")
    screen.say("red")
    assert "NEAREST  to ·red" in screen.text
    walked = set()
    for key in ("left", "right", "up", "down"):
        screen.press(key)
        walked.add(next(line for line in screen.lines if "NEAREST" in line).split("NEAREST")[1])
    assert len(walked) > 1
    screen.press("plus", "minus", "a")
    screen.say("sky - blue + red")
    sky, blue, red = (engine.tokenizer.ids[word] for word in (b" sky", b" blue", b" red"))
    assert question(Inside.word_sum, (sky, red), (blue,), "input") in engine.looks and "sky − blue + red" in screen.text
    for key, asked, refusal in (
        ("a", "sky - nonsense", "nonsense is not one token"), ("a", "sky", "as in king - man + woman, got 'sky'"),
        ("slash", "nonsense", "nonsense is not one token"),
    ):  # fmt: skip
        screen.press(key)
        screen.say(asked)
        assert refusal in screen.text


@pytest.mark.slow
def test_causes_are_measured_beside_what_was_written(look: Look) -> None:
    engine = Glass()
    screen = look("causes", engine)
    (made,) = engine.look_inside(range(6), question(Inside.attribution, 5, None, None), None)  # type: ignore[arg-type]
    assert f"Σ {made.sum:.2f}" in screen.text and f"= {made.sum:.3f}" in screen.text
    sizes = [float(size) for size in re.findall(r"(?m)^ (?:head|mlp) .*?([+-]\d+\.\d{3})", screen.text)]
    assert len(sizes) == LAYERS * HEADS + LAYERS and sizes == sorted(sizes, key=abs, reverse=True)  # the largest first
    screen.press("x")
    assert screen.text.count("-0.250") >= 6  # the heads that wrote most, silenced
    screen.press("p")
    screen.say("Why is the sky red?")
    assert "4.0 here, -3.0 there" in screen.text and "correlates by 1.00" in screen.text
    screen.press("w", "w", "w")
    assert "PATCHES  of the heads" in screen.text and "by head " in screen.text
    screen.press("w", "p", "ctrl+a", "ctrl+k")
    screen.say("too short")
    assert "both must have as many tokens" in screen.text
    screen.press("f")
    screen.say("nonsense")
    assert "not one token" in screen.text
    screen.press("f", "ctrl+a", "ctrl+k")
    screen.say("red")
    assert "over ·red" in screen.text and "− logit(·red)" in screen.text
    screen.press("left", "left")
    screen.wait(1)
    said = cells.piece_text(engine.tokenizer.pieces[engine.tokenizer.encode(TEXT)[4]])
    assert f"of the logit of {said} over ·red" in screen.text  # the word that comes next in the text
    screen.press("o")
    screen.wait(1)
    assert f"of the logit of {said}" not in screen.text and "of the logit of" in screen.text


def test_a_word_is_cut_in_other_ways(look: Look) -> None:
    screen = look("tokens")
    assert "MERGES  1 in the order" in screen.text and "p(text | x<i) ≥" in screen.text
    screen.press("home")
    assert "nothing stands before the first token" in screen.text


@pytest.mark.parametrize("page", everyday(["lens", "attention", "map", "causes", "tokens"], 2))
def test_a_page_looks_as_in_its_picture(look: Look, page: str) -> None:
    assert_picture(f"screen/pictures/inside-{page}-120x40.txt", look(page).text + "\n")


def test_on_a_small_screen_the_layers_are_there_and_the_last_positions(look: Look) -> None:
    lines = look(size=(60, 20)).lines
    head = next(at for at, line in enumerate(lines) if "LAYER" in line)
    assert lines[head].split()[-1] == "?" and max(map(len, lines)) <= 60
    assert [line.split()[0] for line in lines[head + 1 : head + 6]] == ["0", "1", "2", "3", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["lens", "attention", "map", "causes", "tokens"])
def test_a_page_fits_any_terminal(look: Look, page: str) -> None:
    screen = look(page)
    for size in ((80, 24), (60, 20), (20, 6), (4, 2), (200, 50)):
        screen.resize(*size)
        assert len(screen.lines) == size[1] and max(map(len, screen.lines)) <= size[0]


# -- what is written --------------------------------------------------------------------------------------------------


def export(screen: Screen, name: str = "") -> str:
    """Write what the page shows; what is said of it."""
    screen.press("e")
    if name:
        screen.press("ctrl+a", "ctrl+k")
        screen.type(name)
    screen.press("enter")
    return screen.lines[-1]


@pytest.mark.slow
def test_what_a_page_shows_is_written_as_the_verb_writes_it(look: Look) -> None:
    screen = look()
    for page, key in {
        "lens": "lens", "attention": "attention", "map": "neighbours", "causes": "attribution",
        "tokens": "tokenisation",
    }.items():  # fmt: skip
        export(screen)
        found = json.loads((screen.home / f"inside-{page}.json").read_text())
        assert list(found)[:2] == ["ids", key] and len(found["ids"]) == 6
        screen.press("tab")
    lens = json.loads((screen.home / "inside-lens.json").read_text())["lens"]
    assert lens["top"][2][0] == 302 and lens["kl"][2][0] == pytest.approx(2) and lens["kl"][-1][0] == 0  # nats
    assert lens["decided"] == [LAYERS - 1] * 6


@pytest.mark.slow
def test_files_are_of_the_kind_of_their_name_and_none_is_written_over(look: Look, tmp_path: Path) -> None:
    screen = look()
    os.mkfifo(tmp_path / "p")
    export(screen, "a.csv")
    assert (tmp_path / "a.csv").read_text().split("\n")[1].startswith("embedding,")
    for name, said in (("a", "got a name without"), ("gone/a.csv", "was not written"), ("p", "is a pipe")):
        assert said in export(screen, name)
    (tmp_path / "a.csv").write_text("mine")
    export(screen, "a.csv")
    assert "there already" in screen.text
    screen.press("enter")
    assert (tmp_path / "a.csv").read_text() == "mine" and (tmp_path / "a-2.csv").exists()
    screen.press("tab")
    export(screen, "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<svg")


# -- texts, and leaving -----------------------------------------------------------------------------------------------


def test_it_opens_on_the_answer_under_the_cursor_and_says_what_is_there_without_one(tmp_path: Path) -> None:
    with Screen(tmp_path, Glass()) as screen:
        screen.say(TEXT)
        screen.press("tab", "i")
        assert "less of it and our eyes are less sensitive there." in screen.text and "after ." in screen.text
        screen.press("home", "right")
        assert "1 " in screen.text and "Why" in screen.text
        screen.press("escape")
        assert "Rayleigh" in screen.text and "LAYER" not in screen.text


def test_what_the_model_refuses_stands_where_it_would_be(look: Look) -> None:
    engine = Glass()
    engine.refuses = ("lens", "pattern")
    screen = look(engine=engine)
    assert "this inside cannot be seen" in screen.text
    screen.press("tab")
    assert "this inside cannot be seen" in screen.text
    screen.press("tab")
    assert "NEAREST  to ?" in screen.text
    screen = look(engine=ScriptedEngine())
    assert "there is nothing inside" in screen.text


def test_a_look_is_broken_off_by_leaving_and_by_another_text(look: Look) -> None:
    engine = Glass()
    screen = look(engine=engine)
    engine.endless = True
    into(screen, "Hello sky")
    screen.press("f2")
    assert engine.broken_off == 1
    screen.press("f6")
    engine.endless = False
    into(screen, "what about sunsets")
    assert "LAYER 3  after ·sunsets" in screen.text


# -- laws of what is shown --------------------------------------------------------------------------------------------


def test_layers_that_are_left_out_are_evenly_apart() -> None:
    for count in (1, 2, 5, 13, 33, 100, 400):
        for rows in range(1, 40):
            found = shown_layers(count, rows)
            assert len(found) <= max(rows, 1) and found == sorted({*found}) and found[-1] == count - 1
            assert rows == 1 or found[0] == 0
            assert rows < count or found == list(range(count))


def test_running_tokens_break_between_rows() -> None:
    for texts, width, rows in (
        ([], 4, [[]]), (["ab", "cd", "e"], 4, [[0, 1], [2]]), (["ab", "cde"], 4, [[0], [1]]),
        (["日", "本", "a"], 4, [[0, 1], [2]]), (["", "a"], 0, [[0], [1]]),
    ):  # fmt: skip
        assert wrapped(texts, width) == rows


def test_the_last_answers_are_kept() -> None:
    at = Reading("m", None, None)  # type: ignore[arg-type]
    asked = [question(Inside.ablation, 0, 0, head) for head in range(66)]
    for head, each in enumerate(asked):
        assert not at.has(each)
        at.take(each, Ablation(0.0, 0.0, head))
    assert not at.has(asked[1]) and all(at.has(each) for each in asked[2:])


@pytest.mark.parametrize(
    ("page", "offered", "key", "then", "part"),
    everyday([
        ("map", "Arithmetic", "z", "Zoom", "MAP"), ("attention", "Score", "z", "Heads", "PATTERN"),
        ("causes", "Silence heads", "p", "Part", "PATCHES"),
    ], 3),
)  # fmt: skip
def test_where_there_is_little_room_the_keys_are_those_of_what_is_shown(
    look: Look, page: str, offered: str, key: str, then: str, part: str
) -> None:
    screen = look(page, size=(100, 24))
    for here, other, shown in ((offered, then, False), (then, offered, True)):
        assert here in screen.lines[-1] and other not in screen.lines[-1] and "f1 Keys" in screen.lines[-1]
        assert (part in screen.text) == shown
        if not shown:
            screen.press(key)
            screen.say(*["Why is the sky red?"][: key == "p"])
    screen.resize(60, 20)
    assert re.search(r"\d( bits)?$", screen.lines[-2].rstrip()) and "…" in screen.lines[-2]  # the value stays
