"""Tools in the chat: calls that wait for a yes, results that are read, what is taken back."""

import json
import re
import sys
import time
from pathlib import Path

import pytest

from likely.app.words.units import bits
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

SCRIPT = Path(__file__).parents[1] / "support" / "tool_server.py"
ECHO = '<tool_call>{"name": "echo", "arguments": {"text": "blue"}}</tool_call>'
HANG = ECHO.replace("echo", "hang")

pytestmark = pytest.mark.slow(4)


def until(screen: Screen, words: str) -> None:
    """Look until words stand there: a server is another process, which no clock of ours moves."""
    for _ in range(6000):
        if words in screen.text:
            return
        time.sleep(0.01)
        screen.wait(0.1)
    raise AssertionError(f"never seen: {words}\n{screen.text}")


@pytest.fixture
def servers(tmp_path: Path) -> Path:
    file = tmp_path / "servers.json"
    entry = {"command": sys.executable, "args": [str(SCRIPT), "well"]}
    file.write_text(json.dumps({"mcpServers": {"scripted": entry}}))
    return file


def test_a_call_waits_for_a_yes_and_its_result_is_read(tmp_path: Path, servers: Path) -> None:
    engine = ScriptedEngine(scripts=(ECHO, " The sky looks blue.", ECHO, " It is blue."))
    with Screen(tmp_path, engine, size=(80, 24)) as screen:
        screen.say(f"/tools {servers}", "Why?")  # which waits until there are tools
        until(screen, "echo of scripted is to be called")
        assert 'text = "blue"' in screen.text and "yes, this once" in screen.text
        screen.press("down", "down", "enter")  # in this conversation
        until(screen, "The sky looks blue.")
        assert "tool" in screen.text and '{"text": "blue"}' in screen.text
        screen.say("And red?")
        until(screen, "It is blue.")  # nothing was asked
        assert "tools: echo, codes" in screen.say("/tools")
        asked = [ids for verb, ids in engine.calls if verb == "generate"]
        read = ["".join(engine.tokenizer.piece(token).decode() for token in ids) for ids in asked]
        assert read[0] == "<|user|>Why?<|im_end|><|model|>"
        assert any(text.endswith('<|user|>{"text": "blue"}<|im_end|><|model|>') for text in read)
        screen.press("tab", "up")
        assert re.search(r"TOKEN +blue +.* raw %", screen.text)  # the result, token by token
        screen.press("enter")
        assert "a tool's result stays as it came" in screen.text
        (kept,) = screen.kept
        said = kept.messages()
        assert [message.role for message in said] == ["user", "assistant", "tool", "assistant"] * 2
        assert said[2].text == '{"text": "blue"}' and all(step.logprob is not None for step in said[2].steps)
    with Screen(tmp_path, ScriptedEngine(scripts=(" Again.",)), resume=kept.id) as screen:
        screen.press("tab", "ctrl+home", "right", "right")  # the first call: what else could have been called is known
        assert "CHOICE  echo  4.3 bits" in screen.text and re.search(r"no call +\S+ +50.00 +1.0", screen.text)
        assert re.search(r"▶ echo +\S+ +5.00 +4.3", screen.text)
        (field,) = said[1].last.choice.calls[0][1]
        screen.press(*["right"] * field.tokens[0])
        assert re.search(rf"▶ +text = +\S+ +\S+ +{bits(-field.logprob):.1f}\b", screen.text)
        screen.press("t")
        assert "TOKEN" in screen.text and "CHOICE" not in screen.text
        screen.press("escape")
        screen.say("Once more")  # without tools: what was called is read all the same
        assert "Again." in screen.text
        first = next(ids for verb, ids in screen.models[0].calls if verb == "generate")
        read = "".join(screen.models[0].tokenizer.piece(token).decode() for token in first)
        assert read.count('<|user|>{"text": "blue"}<|im_end|>') == 2


def test_a_no_is_told_to_the_model_and_escape_takes_a_call_back(tmp_path: Path, servers: Path) -> None:
    engine = ScriptedEngine(scripts=(ECHO, " A pity.", HANG, HANG, HANG))
    with Screen(tmp_path, engine) as screen:
        screen.say(f"/tools {servers}")
        until(screen, "tools: echo, codes")
        screen.say("Why?")
        until(screen, "is to be called")
        screen.press("enter")  # no: what was meant for the prompt allows nothing
        until(screen, "A pity.")
        assert "did not allow this call" in screen.text
        screen.say("And red?")
        until(screen, "hang of scripted is to be called")
        screen.press("down", "enter")
        until(screen, "is being called")
        screen.press("escape")
        until(screen, "the call was taken back")
        screen.press("ctrl+r")  # the turn can be drawn again
        until(screen, "hang of scripted is to be called")
        screen.press("down", "enter")
        until(screen, "is being called")
        screen.press("ctrl+c")
        until(screen, "the call was taken back")
        screen.press("ctrl+r")
        until(screen, "hang of scripted is to be called")
        screen.press("escape")
        until(screen, "the call was taken back")
        screen.say("/tools nonsense")
        assert "there is no file nonsense" in screen.text
        screen.say("/tools")
        assert "tools: echo, codes" in screen.text  # those that there were
        screen.say("/tools off")
        assert "no tools" in screen.text


def test_a_model_that_calls_without_end_is_stopped(tmp_path: Path, servers: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=(ECHO,))) as screen:
        screen.say(f"/tools {servers}")
        until(screen, "tools: echo, codes")
        screen.say("Why?")
        until(screen, "is to be called")
        screen.press("down", "down", "enter")  # in this conversation
        until(screen, "it called 8 times in a row")
        (kept,) = screen.kept
        assert [message.role for message in kept.messages()].count("tool") == 8


def test_a_long_result_is_folded_and_what_happens_to_a_server_is_told(tmp_path: Path, servers: Path) -> None:
    long = ECHO.replace("blue", "light " * 90 + "end")
    grow, leave = (ECHO.replace("echo", name) for name in ("grow", "leave"))
    with Screen(tmp_path, ScriptedEngine(scripts=(long, " Yes.", grow, " No.", leave, " Gone.", ECHO))) as screen:
        screen.say(f"/tools {servers}")
        until(screen, "tools: echo, codes")
        screen.say("Why?")
        until(screen, "is to be called")
        screen.press("down", "enter")
        until(screen, "Yes.")
        assert screen.text.count('light end"}') == 1  # in the call
        screen.press("tab", "z")
        assert screen.text.count('light end"}') == 2 and "▾ result" in screen.text
        screen.press("z", "escape")
        assert screen.text.count('light end"}') == 1 and "z shows all" in screen.text
        screen.say("And red?")
        until(screen, "grow of scripted is to be called")
        screen.press("down", "enter")
        until(screen, "the tools are others now: echo")
        until(screen, "No.")
        screen.say("And green?")
        until(screen, "leave of scripted is to be called")
        screen.press("down", "enter")
        until(screen, "it left with status 3: no more")
        until(screen, "had ended")  # it is asked what it offers, and so started again
        until(screen, "Gone.")
        screen.say("And blue?")
        until(screen, "echo of scripted is to be called")


def test_a_yes_that_is_kept_is_not_of_another_command(tmp_path: Path, servers: Path) -> None:
    entries = json.loads(servers.read_text())
    for more, keys in (([], ["end", "enter"]), ([], []), (["--else"], ["enter"])):
        entries["mcpServers"]["scripted"]["args"][2:] = more
        servers.write_text(json.dumps(entries))
        with Screen(tmp_path, ScriptedEngine(scripts=(ECHO, " It is."))) as screen:
            screen.say(f"/tools {servers}")
            until(screen, "tools: echo, codes")
            screen.say("Why?")
            if keys:
                until(screen, "echo of scripted is to be called")
                screen.press(*keys)
            until(screen, "It is.")
            assert ("did not allow" in screen.text) == bool(more)
