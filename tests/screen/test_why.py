"""Why a word was said: the sheet over the panel, by its keys, beside the numbers that the engine gave."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from likely.app.store import export
from likely.engine.base.errors import CheckpointError
from likely.engine.decode.loop.control import RunControl
from likely.engine.inside.why import Omission
from tests.support.everyday import everyday
from tests.support.glass import Glass
from tests.support.model import ScriptedShop
from tests.support.screen import Screen


@pytest.fixture
def engine() -> Glass:
    return Glass()


@pytest.fixture
def why(tmp_path: Path, engine: Glass) -> Iterator[Screen]:
    """The sheet of the fifth token from the end."""
    with Screen(tmp_path, engine) as screen:
        yield asked(screen)


def asked(screen: Screen) -> Screen:
    screen.say("Why is the sky blue?")
    screen.press("tab", *["left"] * 4)
    screen.do("Why")
    screen.wait(1)
    return screen


def right(screen: Screen) -> list[str]:
    """The rows of the sheet."""
    return [line.split("▏", 1)[-1].strip() for line in screen.lines]


def parts(screen: Screen) -> tuple[float, dict[str, float]]:
    """WROTE IT: the sum over its rows, and each of them."""
    rows = right(screen)
    at = next(i for i, row in enumerate(rows) if row.startswith("WROTE IT"))
    numbers = [
        (row.split("  ")[0].strip("▌ "), float(row.split()[-1].replace("−", "-")))
        for row in rows[at : at + 11]
        if row and row.split()[-1][0] in "+−"
    ]
    return numbers[0][1], dict(numbers[1:])


def test_why_did_it_say_reflects(tmp_path: Path) -> None:
    """From an empty start, by keys that the screen names: the words it needs, who wrote it, what the layers say."""
    engine = Glass(scripts=(" Air scatters light. It reflects blue of the sky, more than red.",))
    with Screen(tmp_path, engine) as screen:
        look = screen.key("then arrow keys")
        screen.say("Why is the sky blue?")
        screen.press(look)
        while screen.running and not re.search("TOKEN .*·reflects", screen.text):
            screen.press("left")
        screen.do("Why")
        screen.wait(1)
        assert re.search(r"WHY  ·reflects .* 6/16", screen.text)
        (asked,) = engine.looks
        before = [*engine.calls[0][1], *(step.token for step in screen.kept[0].messages()[-1].steps[:5])]
        found = [e for e in engine.look_inside(before, asked, RunControl()) if isinstance(e, Omission)]
        best = max(found, key=lambda omission: omission.nats)
        word = engine.tokenizer.piece(before[best.start]).decode().strip()
        assert f"  {word} {best.nats / math.log(2):.1f} " in screen.text  # without it, most is lost
        assert "  head 3.1 " in screen.text and "3.1 reads" in screen.text
        screen.do("Line", "Line", "Open lens")
        assert "RANK  of ·reflects by layer" in screen.text


def test_it_is_of_the_word_that_was_said(why: Screen, engine: Glass) -> None:
    asked = engine.looks[-1]
    assert asked.method == "why"
    name = engine.tokenizer.pieces[asked.args[0]].decode().replace(" ", "·")
    head = next(row for row in right(why) if row.startswith("WHY"))
    assert name in head and "bits  rank" in head
    row = next(row for row in right(why) if row.startswith(f"▶ {name}"))
    assert (
        row.split()[-2] == next(line for line in why.lines if f"▶ {name}" in line).split()[-2] and "drawn %" in why.text
    )
    assert "drawn under" in why.text and "ROSE  rank by layer" in why.text and "1,000 → 40" in why.text
    total, rows = parts(why)
    assert sum(rows.values()) == pytest.approx(total, abs=0.02) and abs(total) == pytest.approx(2.5 / 0.6931, abs=0.01)
    assert rows["head 3.1"] == pytest.approx(2 * rows["mlp 2"], abs=0.02) and any(
        name.startswith("+ ") for name in rows
    )
    assert "3.1 reads" in why.text


def test_its_foil_swapped_or_named(why: Screen, engine: Glass) -> None:
    total, rows = parts(why)
    why.press("f")
    swapped, turned = parts(why)
    assert swapped == -total and all(turned[name] == -value for name, value in rows.items()) and "not said" in why.text
    why.press("f")
    assert parts(why) == (total, rows) and "rank" in next(row for row in right(why) if row.startswith("WHY"))
    why.press("slash")
    why.say("red")
    red = engine.tokenizer.ids[b" red"]
    assert engine.looks[-1].args[1] == red and "over ·red" in why.text
    why.press("slash")  # of a longer word its first token, as behind a flag
    assert "'blue sky' is 2 tokens here: its first, ' blue', is taken" in why.say("blue sky")
    assert engine.looks[-1].args[1] == engine.tokenizer.ids[b" blue"] and "over ·blue" in why.text
    count, said = len(engine.looks), engine.tokenizer.pieces[engine.looks[-1].args[0]].decode()
    why.press("slash")
    assert "that is the word itself" in why.say(said)
    assert "over ·blue" in why.text and len(engine.looks) == count


def test_it_stays_open_from_word_to_word(why: Screen, engine: Glass) -> None:
    first = engine.looks[-1]
    why.press("left")
    why.wait(1)
    assert engine.looks[-1] != first and "WHY" in why.text
    other = engine.looks[-1]
    why.press("right")
    why.wait(1)
    assert engine.looks[-1] == other and "WROTE IT" in why.text  # what was found of the first is kept
    why.press("escape")
    assert "WHY" not in why.text and "TOKEN" in why.text
    why.press("w")
    assert "WHY" in why.text
    why.press("w")
    assert "TOKEN" in why.text
    why.press("vertical_line")  # the panel's own key: where there is room, nothing is turned
    assert "TOKEN" in why.text


@pytest.mark.parametrize(
    ("downs", "door", "seen"),
    everyday(
        [
            (2, "lens", "LAYER"),
            (0, "alternatives", "Alternatives"),
            (1, "causes", "WROTE"),
            (3, "attention 3.1", "HEAD 3.1"),
        ],
        4,
    ),
)
def test_every_line_is_a_door(why: Screen, downs: int, door: str, seen: str) -> None:
    why.press(*["down"] * downs)
    assert f"Open {door}" in why.lines[-1]
    why.press("enter")
    assert seen.lower() in why.text.lower() and "WHY  " not in why.text


def test_earlier_words_come_one_after_another_and_how_many_are_measured_is_said(tmp_path: Path, engine: Glass) -> None:
    with Screen(tmp_path, engine) as screen:
        screen.say("Why is the sky blue?")
        screen.hold(after=9)
        screen.press("tab", "left")
        screen.do("Why")
        screen.wait(1)
        assert " 9 measured" in screen.text and "WROTE IT" in screen.text
        screen.release()
        assert "measured" not in screen.text and "rest <" in screen.text


@pytest.mark.slow
def test_it_is_kept_with_the_conversation(tmp_path: Path, engine: Glass) -> None:
    """And seen again without the model, and in what its export brings back."""
    with Screen(tmp_path, engine) as screen:
        asked(screen).press("f")
        screen.wait(1)
        screen.press("f")
        before, (talk,) = right(screen), screen.kept
        screen.press("tab")
        screen.say("/export jsonl talk.jsonl")
    for kept in (talk, export.read(tmp_path / "talk.jsonl", "again", 0.0)):
        (reasons,) = kept.reasons.values()
        first, second = (reason.why for reason in reasons)
        assert (first.target, first.foil) == (second.foil, second.target) == (*engine.looks[0].args[:1], first.foil)
        assert first.wrote.sum == pytest.approx(2.5 * (1 if first.target > first.foil else -1))
    count = len(engine.looks)
    with Screen(tmp_path, engine, resume=talk.id) as screen:
        screen.press("tab", *["left"] * 4)
        screen.do("Why")
        screen.wait(1)
        assert right(screen) == before and len(engine.looks) == count


def test_beside_an_answer_it_waits(tmp_path: Path, engine: Glass) -> None:
    with Screen(tmp_path, engine) as screen:
        screen.hold(after=6)
        screen.say("Why is the sky blue?")
        screen.press("tab", "left", "left", "w")
        screen.wait(1)
        assert "drawn %" in screen.text and "the rest when the answer has ended" in screen.text and not engine.looks
        screen.release()
        screen.wait(1)
        assert "the rest when" not in screen.text and "WROTE IT" in screen.text and engine.looks


def test_beside_an_answer_a_foil_is_named_and_asked_for_when_it_has_ended(tmp_path: Path, engine: Glass) -> None:
    with Screen(tmp_path, engine) as screen:
        screen.hold(after=6)
        screen.say("Why is the sky blue?")
        screen.burst("tab", "left", "left", "w", "f", "f", "slash", *"red", "enter", "down", "down")
        screen.release()
        screen.wait(1)
        assert engine.looks[-1].args[1] == engine.tokenizer.ids[b" red"] and "over ·red" in screen.text


@pytest.mark.parametrize(
    ("on", "now"), [("/adapter style 0.5", "style 0.5"), ("/steer calm: blue | red @ 3", "calm 1")]
)
def test_beside_other_adapters_than_drew_the_word_it_waits(why: Screen, engine: Glass, on: str, now: str) -> None:
    count = len(engine.looks)
    why.press("tab")
    why.say(on)
    why.wait(1)
    assert "3.1 reads" in why.text  # what was found before is kept
    why.press("tab", "left")
    why.wait(1)
    assert f"needs no adapter, as it was drawn; now {now}" in " ".join(filter(None, right(why)))
    assert "WROTE IT" in why.text and "3.1 reads" not in why.text and len(engine.looks) == count
    why.press("tab", "tab")
    why.say(f"/adapter {now.split()[0]} off")
    why.wait(1)
    assert "as it was drawn" not in why.text and "3.1 reads" in why.text and len(engine.looks) == count + 1


@pytest.mark.slow
def test_without_a_model_it_says_what_the_rest_needs(tmp_path: Path, engine: Glass) -> None:
    def gone(model: str) -> None:
        raise CheckpointError(f"{model} is not there any more")

    shop = ScriptedShop(engine)
    with Screen(tmp_path, shop=shop) as screen:
        screen.say("Why is the sky blue?")
        there, shop.asked = shop.asked, gone
        screen.say("/reload")
        screen.press("tab", "left", "v")
        screen.wait(1)
        assert "NEAREST  .  needs a model" in screen.text
        shop.asked = there
        screen.press("ctrl+p")
        screen.say("model: switch", engine.facts.name)
        screen.wait(1)
        assert "NEAREST  .  in the embedding" in screen.text and "near it" in screen.text
        shop.asked = gone
        screen.press("escape")
        screen.say("/reload")
        screen.press("tab", "left", "w")
        assert f"the rest needs {engine.facts.name}: /model loads it" in screen.text
        screen.press(*["left"] * 70)
        assert "WHY  Why  needs the model" in screen.text


def test_it_says_where_to_find_a_word_in_a_new_conversation(why: Screen) -> None:
    why.press("ctrl+n")
    assert "no word is looked at: arrow keys in the text move there" in " ".join(filter(None, right(why)))


def test_a_model_that_cannot_be_looked_into_says_so(tmp_path: Path, engine: Glass) -> None:
    engine.refuses = ("why",)
    with Screen(tmp_path, engine) as screen:
        assert "this inside cannot be seen" in asked(screen).text and "▶" in screen.text


def test_where_there_is_little_room(tmp_path: Path) -> None:
    with Screen(tmp_path, Glass(), size=(80, 24)) as screen:
        text = asked(screen).text
        assert all(part in text for part in ("WHY", "EARLIER WORDS", "ROSE", "WROTE IT", "embedding, bias"))
    with Screen(tmp_path / "small", Glass(), size=(60, 20)) as screen:
        assert "EARLIER WORDS" in asked(screen).text and "WROTE IT" not in screen.text
        screen.press("down", "down", "down")
        assert "WROTE IT" in screen.text and "embedding, bias" in screen.text
        screen.press("up", "up", "up")
        assert "EARLIER WORDS" in screen.text


def test_a_word_wider_than_the_screen(tmp_path: Path) -> None:
    with Screen(tmp_path, Glass(scripts=(f"The rule is {'_' * 90}",)), size=(80, 24)) as screen:
        screen.say("Why is the sky blue?")
        screen.press("tab", "left", "w")
        screen.wait(1)
        assert "_____…  4/5" in screen.lines[1] and "WROTE IT" in screen.text


def test_before_anything_was_said(screen: Screen) -> None:
    screen.press("tab", "w")
    assert "nothing is said yet" in screen.lines[-1]
