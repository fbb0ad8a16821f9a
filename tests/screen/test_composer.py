"""Where a person writes: lines, earlier prompts, examples, completions, counted files, an edit in its place."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.model import SKY, ScriptedEngine, ScriptedShop
from tests.support.screen import Screen

ASK = "Why is the sky blue?"
EXAMPLES = ("Why is the sky blue? Answer", "Write a haiku", "Continue this list")


def written(screen: Screen) -> list[str]:
    """The lines of the prompt."""
    box = next(at for at, line in enumerate(screen.lines) if line.startswith("╭"))
    return [line.strip("│ ") for line in screen.lines[box + 1 :] if line.startswith("│")]


def listed(screen: Screen) -> list[str]:
    """What is listed over the prompt; the one that is picked has an ink of its own."""
    box = next(at for at, line in enumerate(screen.lines) if line.startswith("╭"))
    found: list[str] = []
    for line in reversed(screen.lines[:box]):
        if not line.startswith(("  /", "  @")):
            break
        found.insert(0, line.split()[0])
    return found


def test_a_newcomer_begins_with_enter_and_nothing_is_said_twice_by_accident(screen: Screen) -> None:
    picked = screen.ink(EXAMPLES[0])
    assert screen.ink(EXAMPLES[1]) != picked
    for example in (*EXAMPLES[1:], EXAMPLES[0], EXAMPLES[1]):
        screen.press("down")
        assert screen.ink(example) == picked
    screen.press("enter", "enter", "enter")
    messages = screen.kept[0].messages()
    assert [message.text.partition(" on ")[0] for message in messages] == ["Write a haiku about rain", SKY]
    screen.say(" ", "")
    assert len(screen.kept[0].nodes) == 2


@pytest.mark.slow
def test_lines_are_broken_and_earlier_prompts_come_back_with_what_was_written(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[" Blue."])) as screen:
        for lines in (["first"], ["first"], ["second", "line"]):
            screen.type(lines[0])
            for line in lines[1:]:
                screen.press("ctrl+j")
                screen.type(line)
            assert written(screen) == lines
            screen.press("enter")
        assert written(screen)[0].startswith("Message")
        screen.type("draft")
        screen.press("shift+enter")
        screen.type("of two")
        screen.press("up")  # to the first line, where the next one recalls
        assert written(screen) == ["draft", "of two"]
        for key, lines in (
            ("up", ["second", "line"]), ("up", ["second", "line"]), ("up", ["first"]), ("up", ["first"]),
            ("down", ["second", "line"]), ("down", ["draft", "of two"]), ("down", ["draft", "of two"]),
        ):  # fmt: skip
            screen.press(key)
            assert written(screen) == lines, key
        screen.press("up", "up", "up", "enter")
        assert [node.text for node in screen.kept[0].nodes.values() if node.role == "user"][-1] == "second\nline"
        history = (screen.home / "history.jsonl").read_text().splitlines()
        assert list(map(json.loads, history)) == ["first", "second\nline"]  # one after another alike is one
    with Screen(tmp_path) as screen:
        screen.type("/h")
        screen.press("up")  # walks the list, not the prompts
        assert written(screen) == ["/h"]
        screen.press("ctrl+u", "up")
        assert written(screen) == ["second", "line"]
        screen.press("up", "up")
        assert written(screen) == ["first"] and not listed(screen)


def test_a_list_is_walked_row_by_row_and_paths_one_after_another(tmp_path: Path) -> None:
    for name in ("one.txt", "other.txt"):
        (tmp_path / name).write_text("Blue light")
    with Screen(tmp_path, size=(100, 30)) as screen:
        screen.type("/")
        first = listed(screen)
        picked = screen.ink("/help ")
        assert len(first) == 8 and len(screen.inked(picked)) == 1
        screen.press(*["down"] * 7)
        assert listed(screen) == first
        screen.press("down")
        assert listed(screen)[:7] == first[1:] and [text.split()[0] for text in screen.inked(picked)] == [
            listed(screen)[7]
        ]
        screen.burst(*["up"] * 20)
        assert listed(screen) == first
        screen.resize(24, 30)  # half of it is kept for what they do
        assert all(len(line) <= 24 for line in screen.lines) and "…" in screen.text and "  keys" in screen.text
        screen.resize(100, 30)
        screen.press("ctrl+u")
        screen.type("see @o")
        assert listed(screen) == ["@one.txt", "@other.txt"]
        for text in ("see @one.txt", "see @other.txt", "see @one.txt"):
            screen.press("tab")
            assert written(screen) == [text]
        screen.press("ctrl+u")
        screen.type("see @o")
        screen.press("down", "tab")
        assert written(screen) == ["see @other.txt"]
        screen.press("ctrl+u")
        screen.type("/he")
        screen.click("/heat")  # takes it
        assert "/heat" in written(screen)[0]
        screen.press("escape", "ctrl+u")
        screen.type("plain")
        screen.press("tab")  # nothing to be completed: to the transcript
        screen.type("x")
        assert written(screen) == ["plain"]


def test_a_paste_is_made_safe_and_a_big_one_is_attached(screen: Screen) -> None:
    screen.paste("a\tb\r\nc\rd\x1b[31m")
    assert written(screen) == ["a   b", "c", "d␛[31m"]
    screen.press(*["ctrl+u", "backspace"] * 3)
    screen.paste("x" * 20_000)
    assert "attached" not in screen.lines[-1]
    screen.press("ctrl+home", "ctrl+shift+end", "backspace")
    screen.press("escape", "ctrl+n")
    screen.paste("Blue light " * 1819)  # 20,009 characters
    assert "pasted text of 20,009 characters is attached to the next message · esc drops it" in screen.lines[-1]


def test_what_is_attached_is_counted_before_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Blue light\n")
    (tmp_path / "b c.txt").write_text("Blue")
    shop = ScriptedShop(ScriptedEngine())
    opening, held = shop.opening, [True]

    def waits(model: str, progress: Any) -> Any:
        while held[0]:
            yield None
        return (yield from opening(model, progress))

    shop.opening = waits  # type: ignore[method-assign]
    with Screen(tmp_path, shop=shop) as screen:
        said = screen.say("see @a.txt")
        assert "files are attached once the model is loaded" in said and written(screen) == ["see @a.txt"]
        held[0] = False
        screen.wait()
        screen.hold(after=0)
        screen.press("enter")
        whole = "see @a.txt\n\n```a.txt\nBlue light\n```"
        assert screen.kept[0].messages()[0].text == whole
        count = len(next(iter(shop.engines.values())).tokenizer.encode(whole))
        assert f"attached a.txt: {count} tokens" in screen.text
        screen.release()
        assert "there is no file none.txt: nothing was sent" in screen.say("see @./none.txt")
        assert written(screen) == ["see @./none.txt"]
        screen.press("ctrl+u")
        for before, path, after in (
            ("", "a.txt", "@{}/a.txt"), ("see", "a.txt", "see @{}/a.txt"), ("see ", "b c.txt", 'see @"{}/b c.txt"'),
        ):  # fmt: skip
            screen.type(before)
            screen.paste(str(tmp_path / path))
            assert "".join(written(screen)) == after.format(tmp_path)
            assert "its tokens are counted when it is sent" in screen.lines[-1]
            screen.press("end", "ctrl+u")


def test_a_file_that_has_no_room_is_sent_in_parts(tmp_path: Path) -> None:
    lines = [f"{at} Blue light" for at in range(1, 41)]
    (tmp_path / "a b.txt").write_text("\n".join(lines))
    with Screen(tmp_path, ScriptedEngine(scripts=[" Blue."], context=200), size=(100, 30)) as screen:
        said = screen.say('see @"a b.txt"')
        assert re.search(r"a b.txt: \d+ tokens, and 200 are left of the context: ⏎ sends a part", said)
        (part,) = written(screen)
        until = int(part.removeprefix('see @"a b.txt:1-').removesuffix('"'))
        screen.press("enter")
        assert screen.said[0] == f"{part}\n\n```a b.txt:1-{until}\n" + "\n".join(lines[:until]) + "\n```"
        assert 5 < until < 40 and written(screen) == [f'@"a b.txt:{until + 1}-40"']
        screen.press("ctrl+u")
        assert "a b.txt has 40 lines: 30-50 are none of them" in screen.say('@"a b.txt:30-50"')


def test_what_is_said_while_it_answers_waits_is_edited_and_is_sent_in_turn(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Blue light\n")
    with Screen(tmp_path, ScriptedEngine(scripts=[" Blue light."]), size=(60, 20)) as screen:
        screen.hold(after=2)
        screen.say(ASK, "and sunsets?", "why red", "see @a.txt", "Hello")
        rows = [line for line in screen.lines if line.startswith(" ‖")]
        assert [row[3:].split()[0] for row in rows] == ["1", "2", "3"] and rows[2].endswith("1 more")
        screen.type("draft")
        screen.press("up", "ctrl+u", "enter")  # taken back
        screen.press("up", "up")
        assert written(screen) == ["why red"]
        screen.type(" then")
        screen.press("up")  # what was changed stays, and the first is not sent while it is edited
        assert written(screen) == ["and sunsets?"] and " ‖ 2  why red then" in screen.lines
        screen.release()
        assert len(screen.kept[0].nodes) == 2
        screen.burst("end", *" too", "enter")
        screen.wait()
        asked = [node.text for node in screen.kept[0].nodes.values() if node.role == "user"]
        assert asked == [ASK, "and sunsets? too", "why red then", "see @a.txt\n\n```a.txt\nBlue light\n```"]
        assert written(screen) == ["draft"] and not any(line.startswith(" ‖") for line in screen.lines)


@pytest.mark.parametrize("key", ["escape", "ctrl+n"])
def test_where_an_answer_is_stopped_what_waits_is_written_again(screen: Screen, key: str) -> None:
    screen.hold(after=2)
    screen.say(ASK, "and sunsets?", "why red")
    screen.type("draft")
    screen.press("up", key)
    screen.release()
    assert written(screen) == ["and sunsets?", "", "why red", "", "draft"] and len(screen.kept[-1].nodes) == 2
    screen.press("enter")
    assert screen.said[-2] == "and sunsets?\n\nwhy red\n\ndraft"


@pytest.mark.parametrize("size", [(100, 30), (60, 20)])
def test_a_text_is_edited_where_it_stands(tmp_path: Path, size: tuple[int, int]) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[" Blue light."]), size=size) as screen:
        screen.say("Why red ?")
        screen.press("tab", "ctrl+home", "e")
        assert screen.text.count("Why red ?") == 1 and next(line for line in screen.lines if "╭─ you" in line)
        screen.press("end", "ctrl+u")
        assert "a message has words" in screen.say("  ")
        screen.press("ctrl+u")
        screen.paste("z" * 30_000)  # of any size
        screen.press("escape")
        assert "Why red ?" in screen.text and "zzz" not in screen.text and len(screen.kept[0].nodes) == 2
        screen.press("e", "enter")  # as it was: asked once more
        assert [node.text for node in screen.kept[0].nodes.values() if node.role == "user"] == ["Why red ?"] * 2


def test_what_is_undone_and_redone_may_need_no_scrollbar_any_more(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(80, 24)) as screen:
        screen.burst(*["ctrl+j", "x"] * 8)
        screen.press("ctrl+z")
        assert written(screen)[-1] != "x"
        screen.press("ctrl+y")
        screen.type("y")
        assert written(screen)[-1] == "xy"
