"""What is asked of answers: strategy, form, number and seed, by keys that the screen names itself, and taken back."""

import json
import math
from pathlib import Path
from time import sleep

import pytest

from likely.app.tui.chat.start import Start
from tests.serve.served import write_model
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen
from tests.support.shop import TinyShop

ASK = "Why is the sky blue?"


def chosen(screen: Screen, words: str, entry: str) -> None:
    """Choose an entry of the palette by what a person would call it."""
    screen.do("palette")
    screen.type(words)
    assert f"  {entry}" in screen.text
    screen.do("do it")


def row(screen: Screen, label: str) -> str:
    """A row of the panel under SAMPLER."""
    rows = [line.partition("▏")[2].strip() for line in screen.lines]
    begin = next(y for y, text in enumerate(rows) if text.startswith("SAMPLER"))
    return next((" ".join(text.split()) for text in rows[begin:] if text.startswith(label)), "")


def answered(screen: Screen, text: str = "") -> str:
    """The answer to a text, once a model that really draws has ended it: it reads its prompt in another thread."""
    if text:
        screen.say(text)
    while "esc Stop" in screen.text or "reading the prompt" in screen.text:
        sleep(0.01)
        screen.wait()
    return screen.said[-1]


def test_a_vote_of_eight(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.plans = {"vote 8": "paths 8"}
    with Screen(tmp_path, engine) as screen:
        chosen(screen, "vote", "strategy: vote")
        assert row(screen, "strategy") == "strategy vote" and row(screen, "paths").endswith(" 16")
        screen.press("escape")  # what was done is told in the place of the keys, until one is pressed
        screen.do("Sampler")
        screen.press(*[screen.key("Row", 0)] * 9)  # to the top
        screen.do("Type")
        assert "how tokens are found: vote [PATHS] [RULE]" in screen.text
        screen.say("vote 8")
        assert row(screen, "strategy") == "strategy vote 8" and row(screen, "paths").endswith(" 8")
        screen.press("escape")
        answered(screen, ASK)
        assert "8 PATHS  8 ended" in screen.text and engine.strategies[0] == "vote 8"


@pytest.mark.slow(1)
def test_json_by_a_schema(tmp_path: Path) -> None:
    """By a model of random weights: what it says without the schema is no JSON."""
    whole = {"n": {"enum": [1, 2, 3]}, "ok": {"type": "boolean"}}
    schema = {"type": "object", "properties": whole, "required": ["n", "ok"], "additionalProperties": False}
    (tmp_path / "s.json").write_text(json.dumps(schema))
    with Screen(tmp_path, shop=TinyShop(write_model(tmp_path / "tiny"))) as screen:
        chosen(screen, "json", "answer: JSON by a schema")
        screen.type("s.json")
        screen.press("enter")
        assert row(screen, "json-schema") == "json-schema s.json"
        found = json.loads(answered(screen, "ab"))
        assert found.keys() == whole.keys() and found["n"] in (1, 2, 3) and found["ok"] in (True, False)
        assert "model  JSON by a schema · T 0.80" in screen.text
        (talk,) = screen.kept
        step = talk.messages()[-1].steps[1]
        screen.press("tab", "ctrl+home", "down", "right")
        assert step.logprob_after is not None
        line = next(line for line in screen.lines if "▶" in line)  # by what was recorded, without the model
        assert float(line.split()[-1]) == pytest.approx(100 * math.exp(step.logprob_after), abs=0.006)
        assert "cut by" in screen.text and "json" in screen.text and "if moved" not in screen.text
        screen.do("Re-sample")  # from the middle on: the whole is of the form, not the rest
        assert json.loads(answered(screen)).keys() == whole.keys()
        screen.press("escape", "escape")
        assert "undone: json-schema s.json → none" in screen.say("/undo")
        screen.say("/max 8")
        with pytest.raises(json.JSONDecodeError):
            json.loads(answered(screen, "ab"))


def test_undo_that(screen: Screen) -> None:
    screen.do("Sampler")
    screen.press(*[screen.key("Move")] * 3)
    assert row(screen, "temperature").endswith("0.95")
    screen.do("Undo")  # a walk is one change
    assert row(screen, "temperature").endswith("0.80") and "undone: T 0.95 → 0.80" in screen.lines[-1]
    screen.press("escape")
    screen.say("/set temperature 1.2 answers 3", "/set regex [0-9]{4}")
    assert (row(screen, "answers")[-1], row(screen, "regex")) == ("3", "regex [0-9]{4}")
    screen.press("escape")
    chosen(screen, "undo", "sample: Undo  regex none → [0-9]{4}")
    assert row(screen, "regex") == "" and "undone: regex [0-9]{4} → none" in screen.lines[-1]
    assert "undone: T 1.20 → 0.80, answers 3 → 1" in screen.say("/undo")
    assert row(screen, "temperature").endswith("0.80") and row(screen, "answers") == ""
    assert "no setting was changed yet" in screen.say("/undo")


REFUSED = {
    "temp 0.5 answers 300": "answers must be a whole number from 1 to 256, got 300",
    "temp 0.5 seed x": "seed must be a whole number from 0",
    "temp 0.5 regex [0-9": "this regular expression cannot be followed",
    "regex": "regex wants RE, or off; got nothing", "answers 2 json-schema none.json": "none.json",
    "temp 0.5 json-schema {1}": "this is no JSON schema", "seed 3 choice a | ": "none of them empty",
    "answers 2 strategy vote 4": "vote has several answers", "answers 9 strategy beam 4": "9",
    "dry_multiplier 1 choice a | b": "a choice is drawn as a whole",
}  # fmt: skip


def test_what_cannot_be_is_refused_and_nothing_of_it_done(screen: Screen) -> None:
    for typed, said in REFUSED.items():
        assert said in screen.say(f"/set {typed}")
    screen.press("ctrl+g")
    assert [row(screen, name) for name in ("strategy", "constraint", "seed")] == [
        "strategy one by one", "constraint none", "seed 0",
    ]  # fmt: skip
    assert row(screen, "answers")[-1] == "1" and row(screen, "temperature").endswith("0.80")


@pytest.mark.slow(1)
def test_several_answers_side_by_side_are_those_of_their_seeds(tmp_path: Path) -> None:
    with Screen(tmp_path, shop=TinyShop(write_model(tmp_path / "tiny"))) as screen:
        screen.say("/max 6", "/set answers 3 seed 5")
        answered(screen, "ab")
        (talk,) = screen.kept
        together = {node.seed: [step.token for step in node.steps] for node in talk.nodes.values() if node.drawn}
        assert together.keys() == {5, 6, 7} and "TREE  3 leaves" in screen.text
        screen.press("ctrl+g")
        assert row(screen, "seed") == "seed 8"  # it counts on past all three
        screen.press("escape")
        screen.say("/set answers 1")
        for seed in together:
            answered(screen, f"/seed {seed}")
            (talk,) = screen.kept
            assert [step.token for step in talk.messages()[-1].steps] == together[seed]


@pytest.mark.parametrize("told", [True, False])
def test_thinking_is_refused_at_once_where_the_template_cannot_be_told(told: bool, tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny")
    if not told:
        settings = path / "tokenizer_config.json"
        settings.write_text(settings.read_text().replace("enable_thinking", "nothing_known"))
    with Screen(tmp_path, shop=TinyShop(path)) as screen:
        screen.say("/max 2")
        answered(screen, "ab")
        for typed in ("on", "off"):
            said = screen.say(f"/think {typed}")
            assert (f"thinking is {typed}" in said) if told else ("chat template cannot be told" in said)
        answered(screen, "ab")  # nothing was set that this one could not have
        assert len(screen.said) == 4 and screen.said[-1]


def test_a_new_conversation_is_asked_as_the_last_one_and_one_that_is_opened_as_it_was_left(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.say("/set temp 1.2 seed 5", "/max 5", ASK, "/think off", "/set choice red | blue")
        (talk,) = screen.kept
        asked = {"choice": "red | blue", "seed": "6", "max": "5", "think": "off"}
        assert talk.asked == asked and len(talk.messages()[-1].steps) == 5
        screen.press("ctrl+n")
        said = "as before: choice red | blue, max 5, think off · 0 in the panel (^g) switches one off"
        assert said in screen.lines[-1] and row(screen, "temperature").endswith("1.20")
        assert "think off → as usual" in screen.say("/set think as usual")
        assert "undone: think as usual → off" in screen.say("/undo") and row(screen, "max") == "max tokens 5"
        screen.say("/set choice off", "/think as usual", "/set strategy vote 4", ASK)
    with Screen(tmp_path, resume=talk.id, start=Start()) as screen:
        assert [row(screen, name) for name in ("choice", "think", "max")] == [
            "choice red | blue", "think off", "max tokens 5",
        ]  # fmt: skip
        screen.press("ctrl+g")
        assert row(screen, "seed") == "seed 6" and row(screen, "strategy") == "strategy one by one"
