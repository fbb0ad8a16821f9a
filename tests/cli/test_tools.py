"""`likely run` with tools: calls that wait for a yes, results that are read, and the law of the choice."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from likely.engine.sampling.trace.file import load
from tests.cli.conftest import Likely
from tests.support import bigram
from tests.support.bigram import EOS
from tests.support.tmux import MISSING, Tmux

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "support" / "tool_server.py"
TEMPLATE = """{% for t in tools or [] %}{{ t.function.name }} {% endfor %}{% for m in messages %}{{ m.role[0] }}:\
{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{"name": "{{ c.function.name }}", "arguments": \
{{ c.function.arguments | tojson }}}</tool_call>{% endfor %};{% endfor %}a:"""
CALL = '<tool_call>{"name": "echo", "arguments": {"text": "hi"}}</tool_call>'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that ends an answer behind a call, and says "xyz" to all else."""
    table = bigram.certain_table(":xyz")
    table[bigram.ids(">")[0], EOS] = 20.0
    folder = bigram.write(tmp_path_factory.mktemp("tools") / "model", table)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    return folder


@pytest.fixture
def servers(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIKELY_MODEL", str(model))
    file = tmp_path / "servers.json"
    command = {"command": sys.executable, "args": [str(SCRIPT), "well"]}
    file.write_text(json.dumps({"mcpServers": {"scripted": command}}))
    return file


@pytest.mark.slow(2)
def test_a_call_is_made_and_its_result_is_read(likely: Likely, servers: Path, tmp_path: Path) -> None:
    words = ("run", "say", "--tools", servers, "--tool", "echo", "--tool", "image", "--prefill", CALL, "--temp", 0)
    code, out, err = likely(*words, "--yes", "echo", "--yes", "image", "--save", tmp_path / "run.jsonl")
    assert (code, out) == (0, "xyz\n")
    assert '→ echo(text="hi") · bits: text ' in err and '← {"text": "hi"}' in err and "bits under the model" in err
    first, second = load(tmp_path / "run.jsonl")
    text = "".join(second.lexicon.piece(token).decode() for token in second.prompt)
    assert first.finish == second.finish == "eot"
    assert text == f'echo image u:say;a:{CALL};t:{{"text": "hi"}};a:'
    code, out, err = likely(*words, "--yes", "echo", "--yes", "image", "--max-calls", 0)
    assert (code, out) == (0, "") and "--max-calls is 0" in err


@pytest.mark.slow(2)
def test_programs_read_calls_results_and_the_law(likely: Likely, servers: Path) -> None:
    code, out, _ = likely("run", "say", "--tools", servers, "--tool", "echo", "--yes", "echo", "--prefill", CALL,
        "--temp", 0, "--json", "--law")  # fmt: skip
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and "".join(row.get("text", "") for row in rows if "id" in row) == CALL + "xyz"
    call, result, heard = (next(row[name] for row in rows if name in row) for name in ("call", "result", "heard"))
    assert (call["name"], call["arguments"]) == ("echo", {"text": "hi"})
    assert result == {"text": '{"text": "hi"}', "is_error": False, "cut": 0}
    drawn = [row["logprob"] for row in rows if "id" in row]
    (field,) = call["fields"]
    assert field["text"] == '"hi"' and field["logprob"] == pytest.approx(sum(drawn[slice(*field["tokens"])]))
    table = bigram.certain_table(":xyz")
    table[bigram.ids(">")[0], EOS] = 20.0
    assert heard["logprob"] == pytest.approx(bigram.logprob(table, result["text"], bigram.ids(":")[0]), abs=1e-3)
    for law in (row["law"] for row in rows if "law" in row):
        p = [*law["tools"].values(), law["other_call"], law["no_call"], law["undecided"]]
        assert sum(p) == pytest.approx(1) and {*law["tools"]} == {"echo"}
        behind = np.exp(bigram.logprob(table, "<", bigram.ids(":")[0]))
        assert law["no_call"] + law["undecided"] >= 1 - behind


@pytest.mark.slow(2)
def test_what_cannot_be_honoured_is_one_line(likely: Likely, servers: Path) -> None:
    for more, line in (
        ((), "say --yes echo"),
        (("--tool", "none"), "there is no tool none"),
        (("--yes", "none"), "there is no tool none"),
        (("--raw",), "--raw is not of an answer with tools"),
        (("--beam", "2"), "--beam is not of an answer with tools"),
    ):
        code, out, err = likely("run", "say", "--tools", servers, *more)
        assert code and not out and line in err
    assert "goes with --tools or --tool" in likely("run", "say", "--law").err


@pytest.mark.slow(2)
def test_a_model_without_calls_is_bound_by_a_grammar(
    likely: Likely, servers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKELY_MODEL", str(bigram.write(tmp_path / "model", bigram.certain_table(":xyz"))))
    call = CALL.removeprefix("<tool_call>").removesuffix("</tool_call>")
    code, _, err = likely("run", "say", "--tools", servers, "--tool", "echo", "--yes", "echo", "--prefill", call,
        "-m", 60, "--law", "--temp", 0)  # fmt: skip
    assert code == 0 and "a grammar binds the answer" in err and '← {"text": "hi"}' in err
    assert "answer_in_words" in err


@pytest.mark.slow(6)
@pytest.mark.skipif(MISSING, reason="tmux is not installed")
def test_a_person_is_asked_and_what_is_always_allowed_is_kept(servers: Path, tmp_path: Path, model: Path) -> None:
    home, terminal = tmp_path / "home", Tmux(tmp_path, 100, 50)
    try:
        env = f"PYTHONPATH={ROOT} LIKELY_METAL=0 OPENBLAS_NUM_THREADS=1 LIKELY_HOME={home}"
        words = f"run say -M {model} --tools {servers} --tool echo --prefill '{CALL}' --temp 0"
        run = f"{env} {sys.executable} -m likely.app {words}"
        for count, (key, line) in enumerate((("n", "did not allow"), ("a", '← {"text": "hi"}')), 1):
            terminal.run(f"clear; {run}; echo end {count} is $?")  # by number: the screen before may still be seen
            screen = terminal.until(lambda text: "or no (n)" in text and "is 0" not in text, "the question")
            assert "echo of scripted" in screen and 'text = "hi"' in screen
            terminal.run(key)
            assert line in terminal.until(lambda text, end=f"end {count} is 0": end in text, f"the end of run {count}")
        terminal.run(f"clear; {run}; echo end 3 is $?")
        screen = terminal.until(lambda text: "end 3 is 0" in text, "a run without a question")
        assert "or no (n)" not in screen and '← {"text": "hi"}' in screen
        hang = run.replace("--tool echo", "--tool hang").replace('"echo"', '"hang"')
        for number, answers in enumerate(((), ("o",))):  # at the question, and while it is called
            terminal.run(f"clear; {hang}; echo ended {number} by $?")
            terminal.until(
                lambda text, last=f"ended {number - 1}": "or no (n)" in text and last not in text, "the question"
            )
            for answer in answers:
                terminal.run(answer)
                terminal.until(lambda text: "no (n): o" in text, "the answer")
            terminal.keys("C-c")
            screen = terminal.until(
                lambda text, end=f"ended {number} by 130": end in text, "the end of a call that hangs"
            )
            assert "Traceback" not in screen and "the call was taken back" in screen
    finally:
        terminal.close()
