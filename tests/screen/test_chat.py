"""A conversation: a message and its answer, stopping and going on, answering anew, and what goes wrong meanwhile."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.everyday import everyday
from tests.support.model import BLUE, SKY, ScriptedEngine, ScriptedShop
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def test_what_was_said_and_answered_is_seen_and_kept(screen: Screen) -> None:
    assert "Why is the sky blue?" in screen.text and not screen.kept  # as an example of what could be asked
    screen.say(ASK)
    assert screen.said == [ASK, SKY] and " 76/8192 ctx" in screen.lines[0]
    (talk,) = screen.kept
    assert talk.leaf is not None and talk.leaf.finish == "eot" and talk.leaf.seed == 0 and talk.title == ASK
    assert "TOKEN 67/67" in screen.text and "67 tok · ppl 2.2" in screen.text
    screen.say("and why red")
    assert screen.said == [ASK, SKY, "and why red", BLUE] and "TOKEN 15/15" in screen.text
    screen.press("up", "up")
    assert f"│ {ASK}" in screen.text  # what was said before, to be said again
    screen.press("down", "down")
    assert "│ Message" in screen.text


def test_an_answer_that_is_stopped_keeps_its_words_and_goes_on(screen: Screen) -> None:
    screen.hold(after=5)
    screen.say(ASK)
    assert "The sky looks blue because" in screen.text and "esc Stop" in screen.lines[-1]
    screen.say("and red?")
    assert "‖ 1  and red?" in screen.text and "esc" in screen.lines[-1]  # it waits
    screen.press("escape")
    assert screen.said[1] == " The sky looks blue because" and "5 tok · ppl" in screen.text
    assert "stopped" in screen.text and "esc Stop" not in screen.lines[-1]
    screen.release()
    assert screen.said[1] == " The sky looks blue because"
    screen.press("ctrl+u")
    screen.say("/continue")
    assert screen.said[1].startswith(" The sky looks blue because") and len(screen.said[1]) > 60
    assert [node.joins for node in screen.kept[0].nodes.values()] == [False, False, True]


def test_another_answer_is_a_sibling_and_both_stay(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("ctrl+r")
    assert "branch 2/2" in screen.text and screen.said[1] == BLUE and "TREE  2 leaves" in screen.text
    screen.press("tab", "[")
    assert "branch 1/2" in screen.text and screen.said[1] == SKY


def test_another_branch_in_the_middle_of_an_answer_loses_no_token(screen: Screen) -> None:
    screen.say(ASK)
    screen.hold(after=6)
    screen.press("ctrl+r")
    assert "Blue light is scattered in all" in screen.text and "branch 2/2" in screen.text
    assert [line for line in screen.lines if "TREE" in line or "Blue light" in line][-1].count("Blue light") == 1
    screen.press("tab", "[")
    screen.release()
    assert screen.said[1] == SKY
    cut = [node for node in screen.kept[0].nodes.values() if node.finish == "cancelled"]
    assert [sum(1 for _ in node.steps) for node in cut] == [6]


def test_a_message_is_edited_and_answered_anew_and_nothing_is_lost(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("tab", "ctrl+home", "e")
    assert screen.text.count(ASK) >= 1
    screen.press("end", "ctrl+u")
    screen.say("Why red ?")
    assert screen.said == ["Why red ?", BLUE] and "branch 2/2" in screen.text
    screen.press("escape", "tab", "ctrl+home", "]")
    assert screen.said == [ASK, SKY]


def test_a_model_that_is_near_the_limit_of_the_memory_says_so_where_the_keys_are(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.facts = replace(engine.facts, warning="slow beyond 3,100 tokens: more memory is lent")
    with Screen(tmp_path, engine) as screen:
        assert "slow beyond 3,100 tokens" in screen.lines[-1]
        screen.say(ASK)
        assert screen.said == [ASK, SKY] and "slow beyond" not in screen.text


def test_what_goes_wrong_keeps_the_text_and_the_model_is_loaded_again(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.fail_at = 4
    with Screen(tmp_path, engine) as screen:
        screen.say(ASK)
        assert screen.said[1] == " The sky looks blue"
        news = screen.foot
        assert "the engine stopped" in news and "/reload loads" in news and "crash.txt" in news
        assert "told to fail" in (screen.home / "crash.txt").read_text()
        engine.fail_at = None
        screen.say("/reload")
        screen.say("again")
        assert screen.said[-1].strip() and len(screen.said) == 4


def test_a_message_waits_for_the_model_and_another_model_answers_the_next(tmp_path: Path) -> None:
    shop = ScriptedShop(ScriptedEngine(), ScriptedEngine("other", scripts=[" Blue light."]))
    opening, held = shop.opening, [True]

    def waits(model: str, progress):  # type: ignore[no-untyped-def]
        while held[0]:
            yield None
        return (yield from opening(model, progress))

    shop.opening = waits  # type: ignore[method-assign]
    with Screen(tmp_path, shop=shop) as screen:
        screen.say(ASK)
        assert "as soon as the model is loaded" in screen.lines[-1] and screen.said == [ASK]
        held[0] = False
        screen.wait()
        assert screen.said == [ASK, SKY]
        screen.say("/model")
        assert "too big" in screen.text
        screen.press("down", "enter")
        assert "│ other" in screen.lines[0]
        screen.say("and now?")
        assert screen.said[-1] == " Blue light."
        screen.say("/model missing")
        assert "no model missing" in screen.lines[-1] and "│ other" in screen.lines[0]


@pytest.mark.parametrize(
    ("answer", "title"),
    everyday([
        (' "**Blue skies**" \nmore', "Blue skies"), (" Blue skies", "Blue skies"), (" It is blue", ASK),
        (" One two three four five six", ASK), ("# One two three four five", "One two three four five"),
        (" Blue skies.", ASK), (" Why blue?", ASK),
    ], 3),
)  # fmt: skip
def test_a_conversation_is_named_by_the_model_where_that_is_no_sentence(
    tmp_path: Path, answer: str, title: str
) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[answer])) as screen:
        screen.say(ASK)
        assert screen.kept[0].title == title
        screen.say("/title Mine")
        screen.press("ctrl+r")
        assert screen.kept[0].title == "Mine"


def test_a_reader_is_not_scrolled_away(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[SKY * 12]), size=(80, 24)) as screen:
        screen.hold(after=700)
        screen.say(ASK)
        screen.press("tab", "pageup", "pageup")
        seen = [line[:78] for line in screen.lines[2:10]]
        screen.release()
        assert [line[:78] for line in screen.lines[2:10]] == seen and "new tokens" in screen.text
        screen.press("end")
        assert (
            "new tokens" not in screen.text
            and "sensitive there" in screen.text
            and [line[:78] for line in screen.lines[2:10]] != seen
        )


def test_a_terminal_is_shrunk_in_mid_answer_and_widened_again(screen: Screen) -> None:
    screen.hold(after=10)
    screen.say(ASK)
    screen.resize(20, 5)
    assert max(map(len, screen.lines)) <= 20 and screen.running
    screen.release()
    screen.resize(120, 40)
    assert screen.said[1] == SKY and "dominate" in screen.text
    screen.resize(80, 24)
    assert any("bits" in line for line in screen.lines[-9:-4])  # the token in the drawer
    screen.resize(80, 20)
    assert any("bits" in line for line in screen.lines[-6:-3])  # and in one line
    screen.resize(60, 20)
    assert max(map(len, screen.lines)) <= 60
    screen.say("/set warmth 2")
    foot = " ".join(" ".join(screen.lines[-3:]).split())
    assert "no sampling parameter warmth" in foot and "top_k, top_p" in foot, (
        foot
    )  # what is too long for a row has more of them


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b]52;c;aGk=\x07\x1b[2J\u202e\x9b end"
    with Screen(tmp_path, ScriptedEngine(scripts=[hostile])) as screen:
        screen.paste("a\x1b[31mb")
        screen.press("enter")
        assert "␛" in screen.text and " end" in screen.text and screen.clipboard == ""
        assert not any(ord(character) < 32 and character != "\n" for character in screen.text)
        assert "\x9b" not in screen.text and "\u202e" not in screen.text
        assert screen.said[1] == hostile  # and is kept as it was drawn


def test_files_are_attached_by_name_and_by_path(tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("Blue light is scattered ```here```\x1b[31m")
    (tmp_path / "bytes.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "big.txt").write_text("Blue light " * 9000)
    with Screen(tmp_path) as screen:
        screen.type("look @my")
        screen.press("tab")
        assert '│ look @"my notes.txt"' in screen.text
        screen.press("enter")
        assert "````my notes.txt\nBlue light is scattered ```here```" in screen.said[0]
        for typed, line in (
            ("@bytes.bin", "not UTF-8"), ("@big.txt", "left of the context: this model reads "),
            ("@noets.txt says?", "noets.txt"),
        ):  # fmt: skip
            screen.hold(after=0)
            screen.say(typed)
            assert line in screen.lines[-1], typed
            screen.press("escape", "ctrl+u")
            screen.release()
        assert screen.said[-2] == "@noets.txt says?"  # a word, and it was said that there is no such file
        for path in (str(tmp_path / "my notes.txt"), (tmp_path / "my notes.txt").as_uri()):
            screen.press("escape", "end", "ctrl+u")
            screen.paste(path)
            assert '@"' in screen.text and "notes.txt" in screen.text
        screen.press("end", "ctrl+u")
        screen.paste("x" * 1_000_000)
        assert "1,000,000 characters" in screen.text and "│ Message" in screen.text
        screen.press("escape")
        assert "1,000,000 characters" not in screen.text


def test_the_system_prompt_is_a_line_with_its_tokens_that_opens_and_is_edited(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    words = ("Be brief and kind . " * 12).strip()
    with Screen(tmp_path, engine, size=(80, 30)) as screen:
        screen.say(f"/system {words}")
        count = len(engine.tokenizer.encode(words))
        assert screen.lines[1].startswith(" ▸ system  Be brief") and screen.lines[1].endswith(f"…  {count} tok")
        screen.click("▸ system")
        assert screen.lines[1].startswith(" ▾ system") and " ".join("".join(screen.lines[2:6]).split()) == words
        screen.click("kind . Be")  # its words: they are edited
        screen.press("ctrl+end", *["ctrl+u", "backspace"] * 4)
        screen.say("Be red .")
        assert screen.lines[1].endswith(" 5 tok") and screen.lines[2] == "   Be red ."
        screen.click("│ Message")
        screen.say(ASK)
        asked = next(ids for verb, ids in engine.calls if verb == "generate")
        assert screen.kept[0].system == "Be red ." and engine.tokenizer.encode(" red")[0] in asked


def test_a_conversation_is_resumed_where_it_was_left(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        screen.press("ctrl+r", "ctrl+q")
        id = screen.left
    assert id
    with Screen(tmp_path, resume=id) as screen:
        assert "branch 2/2" in screen.text and BLUE.strip()[:50] in screen.text
        screen.press("tab", "left")
        assert "raw %" in screen.text and "is scattered" in screen.text
    with Screen(tmp_path, resume="nowhere") as screen:
        assert "nowhere" in screen.lines[-1]


def test_keys_are_remapped_and_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    keys = tmp_path / "home" / "keys.toml"
    keys.write_text('[chat]\nheat = "f9"\n')
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        screen.press("f9")
        assert "heat: entropy" in screen.lines[-1] or "entropy" in screen.lines[0]
        screen.press("f1")
        assert "f9" in screen.text
    keys.write_text('[chat]\nhaet = "f9"\n')
    with Screen(tmp_path, size=(240, 40)) as screen:  # the file's name is before it
        assert "there is no action chat.haet: did you" in screen.lines[-1]


def test_tokens_are_guessed_ahead_where_it_is_asked_for(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Screen(tmp_path, engine) as screen:
        for text in ("/strategy ngram", ASK, "/strategy plain", "and red?"):
            screen.say(text)
        assert screen.said[1] == SKY and "ngram" in engine.strategies
