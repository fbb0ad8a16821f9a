"""A conversation that has outgrown its model: an offer with its numbers, and nothing of it is lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.model import SKY, ScriptedEngine
from tests.support.screen import Screen

ASKED = ("Why is the sky blue?", "and red", "what about sunsets", "and why red")

pytestmark = pytest.mark.slow


def outgrown(folder: Path, size: tuple[int, int] = (120, 40)) -> Screen:
    """The last of these messages has no room behind the others."""
    return Screen(folder, ScriptedEngine(scripts=[SKY], context=220), size=size)


@pytest.mark.parametrize("size", [(120, 40), (60, 20)])
def test_it_goes_on_without_its_oldest_messages_as_a_copy(tmp_path: Path, size: tuple[int, int]) -> None:
    with outgrown(tmp_path, size) as screen:
        screen.say(*ASKED)
        engine = screen.models[0]
        turns = [("user", ASKED[0]), ("assistant", SKY), ("user", ASKED[1]), ("assistant", SKY), ("user", ASKED[2])]
        turns += [("assistant", SKY), ("user", ASKED[3])]
        count = [
            len(engine.tokenizer.chat([{"role": role, "content": text} for role, text in turns[at:]]))
            for at in (0, 2, 4)
        ]
        kept = next(at for at in (1, 2) if count[at] <= 220 - 220 // 4)  # a quarter is left
        assert f"{count[0]} tokens, and the model reads 220" in screen.text
        assert f"the oldest {2 * kept} messages: {count[kept]} tokens stay" in screen.text
        screen.press("enter")
        copy, whole = screen.kept
        assert [message.text for message in copy.messages()][:-1] == [text for _, text in turns[2 * kept :]]
        assert copy.messages()[-1].text and engine.calls[-1][1] != engine.calls[-2][1]
        assert [message.text for message in whole.messages() if message.role == "user"] == [*ASKED]
        screen.press("ctrl+o")
        assert len(screen.kept) == 2


def test_a_context_that_a_person_has_bounded_is_made_no_longer(tmp_path: Path) -> None:
    engine = ScriptedEngine(scripts=[SKY], context=220)
    engine.facts = replace(engine.facts, bounded=True)
    with Screen(tmp_path, engine) as screen:
        screen.say(*ASKED)
        assert "leave out the oldest" in screen.text and "a longer RoPE" not in screen.text
        screen.press("escape")
        screen.say("/rope yarn:2")
        assert "the context is bounded to 220 tokens: begin the chat without --context" in screen.text


def test_its_oldest_messages_are_summarised_and_the_summary_is_edited(tmp_path: Path) -> None:
    with outgrown(tmp_path) as screen:
        screen.say(*ASKED)
        screen.press("down", "enter")
        assert "╭─ system" in screen.text and "Violet scatters even more, but the Sun emits" in screen.text
        screen.press("ctrl+end")
        screen.say(" Briefly.")
        copy = screen.kept[0]
        assert copy.system.startswith("Earlier in this conversation: ") and copy.system.endswith(" Briefly.")
        assert copy.messages()[-1].text == ASKED[-1]
        screen.press("ctrl+r")
        assert screen.kept[0].messages()[-1].role == "assistant" and len(screen.kept) == 2


@pytest.mark.parametrize("size", [(120, 40), (60, 20)])
def test_a_longer_rope_is_taken_after_its_price_and_the_conversation_goes_on(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    longer = ScriptedEngine("scripted@yarn:2", scripts=[SKY], context=440)
    with Screen(tmp_path, ScriptedEngine(scripts=[SKY], context=220), longer, size=size) as screen:
        screen.say(*ASKED)
        assert "a longer RoPE, yarn x2: 440 tokens; its price first" in screen.text
        screen.hold()
        screen.press("down", "down", "enter")
        assert "measuring what yarn x2 costs" in screen.text
        screen.press("escape")
        screen.release()
        assert "stopped: nothing was changed" in screen.text and "take yarn x2" not in screen.text
        screen.say("/compact")
        screen.press("down", "down", "enter")
        for line in ("yarn x2: 440 tokens, 220 now", "4.00 bits a token, 3.00 now: +1.00", "4.4 MB, 2.2 now", "-0.50"):
            assert line in " ".join(screen.text.split())
        screen.press("enter")
        (talk,) = screen.kept
        assert [message.text for message in talk.messages() if message.role == "user"] == [*ASKED]
        last = talk.messages()[-1]
        assert last.text and last.last.model == talk.model == longer.facts.name
        assert longer.facts.name in screen.lines[0]
        screen.hold()
        screen.say("/rope ntk:4")
        screen.press("f3")
        screen.release()
        assert "take ntk" not in screen.text
        screen.go("chat")
        assert "ntk x4 is measured: /rope ntk:4 shows it" in screen.text
        screen.say("/rope off")
        assert longer.facts.name not in screen.lines[0] and "scripted " in screen.lines[0]


def test_a_summary_is_stopped_and_nothing_changes(tmp_path: Path) -> None:
    with outgrown(tmp_path) as screen:
        screen.say(*ASKED)
        before = screen.kept
        screen.hold(after=3)
        screen.press("down", "enter")
        assert "summarising" in screen.text
        screen.press("escape")
        screen.release()
        assert "stopped: nothing was changed" in screen.text and screen.kept == before


def test_it_is_made_shorter_when_a_person_says_so_and_not_where_there_is_one_message(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[SKY])) as screen:
        assert "there is nothing before this message" in screen.say("/compact")
        screen.say(*ASKED[:3], "/compact")
        assert "leave out the oldest" in screen.text
        screen.press("escape")
        assert len(screen.kept) == 1 and len(screen.kept[0].messages()) == 6
        screen.say("/compact")
        screen.press("enter")
        copy, whole = (talk.messages() for talk in screen.kept)
        assert 0 < len(copy) < 6 and [each.text for each in copy] == [each.text for each in whole[-len(copy) :]]
        assert "is among the others (^o)" in screen.lines[-1]
