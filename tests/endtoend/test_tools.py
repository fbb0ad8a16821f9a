"""A task done with a tool in a real terminal: asked, taken back, asked again, allowed by a key, answered; and kept."""

import re
import sys
from pathlib import Path

import pytest

from likely.engine.chat.tools.tool import ToolCall
from likely.engine.decode.prompt import Prompt
from tests.processes import ROOT
from tests.support import thinkers, tmux
from tests.support.thinkers import Thinker
from tests.support.tmux import Tmux

QUESTION, ANSWER = "What is 17 * 23?", "It is 391."
CALL = ToolCall("calculate", {"expression": "17 * 23"})
WRITTEN = '<tool_call>{"name": "calculate", "arguments": {"expression": "17 * 23"}}</tool_call>'
TURNS = """{% if tools %}{% endif %}{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\
{% for c in m.tool_calls or [] %}<tool_call>{"name": "{{ c.function.name }}", \
"arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %};{% endfor %}"""


@pytest.mark.slow(20)
@pytest.mark.skipif(tmux.MISSING, reason="tmux is not installed")
def test_a_question_is_answered_by_a_tool(tmp_path: Path) -> None:
    called = {"role": "assistant", "content": "", "tool_calls": [CALL.message]}
    heard = Prompt((("user", QUESTION), called, {"role": "tool", "content": "391"}))
    family = Thinker("a:", ("<tool_call>", "</tool_call>"), "", turns=TURNS)
    thinkers.write(tmp_path / "model", family, WRITTEN, asked=QUESTION, then=(heard, ANSWER))
    env = f"env -u NO_COLOR -u COLUMNS -u LINES LIKELY_HOME={tmp_path}/home PYTHONPATH={ROOT} OPENBLAS_NUM_THREADS=1"
    chat, terminal = f"{env} {sys.executable} -m likely.app chat", Tmux(tmp_path)
    try:
        terminal.run(f"{chat} -M {tmp_path}/model --temp 0")
        terminal.until(lambda s: " ctx" in s and "Message" in s, "a chat with a model")
        terminal.keys("/tools calculator", "Enter")
        terminal.until(lambda s: "tools: calculate" in s, "the tools")
        terminal.keys(QUESTION, "Enter")
        screen = terminal.until(lambda s: "calculate of calculator is to be called" in s, "the call")
        assert 'expression = "17 * 23"' in screen
        terminal.keys("Escape")
        terminal.until(lambda s: "the call was taken back" in s, "the call, taken back")
        terminal.keys("C-r")
        terminal.until(lambda s: "calculate of calculator is to be called" in s, "the call again")
        terminal.keys("Down", "Enter")
        screen = terminal.until(lambda s: ANSWER in s and "CHOICE  no call" in s, "the answer")
        assert "\n 391 " in screen and "branch 2/2" in screen
        terminal.keys("Tab", "Up")
        terminal.until(lambda s: re.search(r"TOKEN 3/3  1  [\d.]+ bits", s), "the result, token by token")
        terminal.keys("Up")
        terminal.until(lambda s: "CHOICE  calculate" in s and "expression =" in s, "the choice that was made")
        terminal.keys("C-q")
        terminal.until(lambda s: "--resume" in s, "the way back")
    finally:
        terminal.close()
