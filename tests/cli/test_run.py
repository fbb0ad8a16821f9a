"""The command line as a person calls it: output, exit codes, one line for each problem."""

import json
import math
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from likely.app import cli
from likely.app.cli.options.sampling import MAX_TOKENS
from likely.app.store import system_prompts
from likely.engine.sampling.trace.file import load, save
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Temperature
from tests.cli.conftest import Likely
from tests.engine import tiny
from tests.support import bigram
from tests.support.bigram import EOS

TABLE = bigram.certain_table(":xyz")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bigram.write(tmp_path_factory.mktemp("run") / "xyz", TABLE)


@pytest.fixture(autouse=True)
def chosen(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that answers "xyz" to anything."""
    monkeypatch.setenv("LIKELY_MODEL", str(model))


def test_run_writes_the_answer_to_stdout_and_statistics_to_stderr(likely: Likely) -> None:
    code, out, err = likely("run", "hello", "--temp", "0", "--seed", "3")
    assert (code, out) == (0, "xyz\n")
    assert "4 tokens" in err and "seed 3" in err and "eot" in err


@pytest.mark.parametrize(
    ("words", "stdin", "prompt", "system"),
    [
        ((), b"in\n", "in\n", ""),
        (("Sum:",), b"a\n\nb\n", "Sum:\n\na\n\nb", ""),
        (("Sum:",), b" \n", "Sum:", ""),  # as good as nothing
        (("Sum:", "-f", "one", "-f", "two"), b"in", "Sum:\n\n1\n\n2\n\nin", ""),
        (("-", "-f", "one"), b"in", "in\n\n1", ""),
        (("-f", "one", "--system", "two"), b"", "1\n", "2"),
        (("Sum:", "--system", "brief"), b"", "Sum:", "Say little."),
    ],
)
def test_a_prompt_is_words_files_and_what_is_piped_in(
    likely: Likely, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], stdin: bytes, prompt: str,
    system: str,
) -> None:  # fmt: skip
    """The model reads what it reads of one argument; a system prompt may be a file's, or be kept by its name."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("one", "1\n"), ("two", "2\n")):
        Path(name).write_text(text)
    (tmp_path / "home").mkdir()
    system_prompts.keep(tmp_path / "home", "brief", "Say little.")
    how = ("--temp", "0", "-q", "--save")
    assert likely("run", *words, *how, "read.jsonl", stdin=stdin)[:2] == (0, "xyz\n")
    likely("run", prompt, *how, "told.jsonl", *(("--system", system) if system else ()))
    assert load(Path("read.jsonl"))[0].prompt == load(Path("told.jsonl"))[0].prompt


def test_a_bound_on_the_context_is_of_prompt_and_answer_and_at_most_what_the_model_reads(
    likely: Likely, tmp_path: Path
) -> None:
    table = bigram.random_table(0)
    table[:, EOS] = -50.0  # an answer is as long as it may be
    model = bigram.write(tmp_path / "m", table, 40)
    asked = ("run", "x", "--raw", "-M", model, "-q", "--seed", 1)

    def tokens(*words: object) -> int:
        code, out, _ = likely(*asked, "--json", *words)
        assert code == 0
        return len(out.splitlines()) - 1  # behind the prompt's one; the last line is about the answer

    assert [tokens(), tokens("--context", 40), tokens("--context", 12)] == [39, 39, 11]
    code, out, err = likely(*asked, "--context", 41)
    assert (code, out) == (1, "") and "--context must be at most 40, which" in err and "--rope" in err
    assert "at most 80" in likely(*asked, "--rope", "linear:2", "--context", 81).err
    code, out, err = likely("run", "x" * 12, "--raw", "-M", model, "--context", 12)
    assert (code, out) == (1, "") and "bounded to 12 of the 40" in err
    assert "at most 40, which" in likely("serve", "-M", model, "--context", 41).err
    assert "bounded to 12 of the 40" in likely("chat", "--plain", "-M", model, "--context", 12, stdin=b"x" * 12).err


def test_a_preset_is_what_the_models_publisher_recommends(likely: Likely, tmp_path: Path) -> None:
    model = bigram.write(tmp_path / "m", TABLE)
    asked = ("run", "hello", "-M", model, "--preset", "recommended", "-q", "--save", tmp_path / "a.jsonl")
    assert "comes without recommended values: leave out --preset recommended" in likely(*asked).err
    (model / "generation_config.json").write_text('{"temperature": 0.6, "top_k": 20, "top_p": 7.0, "eos_token_id": 1}')
    assert likely(*asked)[:2] == (0, "xyz\n")
    assert likely(*asked[:4], "--temp", "0.6", "--top-k", "20", "-q", "--save", tmp_path / "b.jsonl").code == 0
    assert load(tmp_path / "a.jsonl")[0].steps[0].recipe == load(tmp_path / "b.jsonl")[0].steps[0].recipe
    assert "likely pull qwen3-4b first" in likely("run", "hi", "-M", "qwen3-4b", "--preset", "recommended").err


def test_run_json_is_an_object_a_token(likely: Likely) -> None:
    _, out, _ = likely("run", "hello", "--temp", "0", "--json")
    *tokens, end = [json.loads(line) for line in out.splitlines()]
    assert [t["text"] for t in tokens] == ["x", "y", "z", ""]
    assert all(t["logprob"] <= 0 and t["rank"] == 1 for t in tokens)
    assert end["finish"] == "eot"


def test_limits(likely: Likely) -> None:
    assert likely("run", "hello", "--temp", "0", "--max-tokens", "2")[1] == "xy\n"
    elsewhere = likely("run", "hello", "--temperature", "0", "--max-new-tokens", "2", "-n", "2")
    assert elsewhere[1] == "[1]\nxy\n[2]\nxy\n" and "2 answers at temperature 0 are the same one" in elsewhere[2]
    assert likely("run", "hello", "--temp", "0", "--stop", "z")[1] == "xy\n"


@pytest.mark.slow(3)
def test_a_longer_rope_holds_what_the_context_does_not(likely: Likely, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("ab" * 4200)
    run = ("run", "--raw", "-f", str(tmp_path / "long.txt"), "--temp", "0", "-m", "1")
    assert "this model reads at most 4096" in likely(*run).err and likely(*run, "--rope", "linear:2.5").code == 0
    code, out, _ = likely("eval", "--text", str(tmp_path / "long.txt"), "--window", "5000", "--rope", "ntk:2", "--json")
    assert code == 0 and json.loads(out.splitlines()[0])["model"].endswith("@ntk:2")


def test_guessing_ahead_changes_nothing_of_the_answer(likely: Likely) -> None:
    assert likely("run", "hello", "--temp", "0", "--ngram")[:2] == (0, "xyz\n")
    assert likely("run", "hello", "--temp", "0", "--strategy", "ngram 3")[:2] == (0, "xyz\n")


def test_several_answers_stand_under_their_numbers(likely: Likely) -> None:
    """Their control tokens too, where they are asked for; of an object a token it is said whose it is."""
    asked = ("run", "hello", "--temp", "0", "-n", "2")
    code, out, err = likely(*asked, "--seed", "5")
    assert (code, out) == (0, "[1]\nxyz\n[2]\nxyz\n")
    assert "seed 5" in err and "seed 6" in err
    one = likely("run", "hello", "--temp", "0", "--special")[1]
    assert likely(*asked, "--special")[1] == f"[1]\n{one}[2]\n{one}" != out
    rows = [json.loads(line) for line in likely(*asked, "--json")[1].splitlines()]
    for answer in (1, 2):
        *tokens, end = [row for row in rows if row["answer"] == answer]
        assert [t["text"] for t in tokens] == ["x", "y", "z", ""] and end["finish"] == "eot"


def test_several_answers_are_saved_in_one_file(likely: Likely, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    likely("run", "hello", "--seed", "4", "--temp", "1", "-n", "3", "--save", str(path), "--max-tokens", "5")
    saved = load(path)
    assert [trace.seed for trace in saved] == [4, 5, 6]
    for trace in saved:  # each is what its seed draws alone
        alone = tmp_path / "alone.jsonl"
        likely("run", "hello", "--seed", str(trace.seed), "--temp", "1", "--save", str(alone), "--max-tokens", "5")
        assert [s.token for s in load(alone)[0].steps] == [s.token for s in trace.steps]
    code, out, _ = likely("run", "--replay", str(path), "--temp", "1")
    assert code == 0 and [f"[{n}]" in out for n in (1, 2, 3, 4)] == [True, True, True, False]
    code, out, _ = likely("run", "--replay", str(path), "--temp", "1", "--json")
    assert {json.loads(line)["answer"] for line in out.splitlines()} == {1, 2, 3}


def test_prefill_begins_the_answer(likely: Likely) -> None:
    assert likely("run", "hello", "--temp", "0", "--prefill", "so: x")[1] == "so: xyz\n"


def test_a_trace_is_saved_and_shown_again_under_other_parameters(likely: Likely, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    likely("run", "hello", "--seed", "1", "--temp", "0.9", "--save", str(path))
    code, out, _ = likely("run", "--replay", str(path), "--temp", "0.5", "--json")
    assert code == 0
    for line in (json.loads(line) for line in out.splitlines()):
        assert line["replayed"]["p_after"][0] <= line["replayed"]["p_after"][1]
        assert line["drawn"]["recipe"] != line["replayed"]["recipe"]
    code, out, _ = likely("run", "--replay", str(path), "--json")  # as it was drawn
    assert code == 0
    for line in (json.loads(line) for line in out.splitlines()):
        was, again = line["drawn"], line["replayed"]
        assert again["p_after"] == pytest.approx([math.exp(was["logprob_after"])] * 2) and again["exact"]
        assert was["recipe"]["transforms"] == [{"transform": "Temperature", "temperature": 0.9}]
        assert again["recipe"] == was["recipe"]
    (trace,) = load(path)
    cold = SamplingConfig((Temperature(0.5),))
    moved = replace(trace, steps=(*trace.steps[:2], *(replace(step, recipe=cold) for step in trace.steps[2:])))
    save([moved], path)
    lines = likely("run", "--replay", str(path))[1].splitlines()
    assert "as drawn under T 0.90 → 0.50" in lines[0] and lines[4] == "◆ from here on T 0.90 → 0.50"


def test_explain_names_continuations(likely: Likely) -> None:
    _, out, _ = likely("explain", "k:", "-c", "xy", "-c", "q", "--json")
    first, second = json.loads(out)["continuations"]
    assert first["logprob"] > -0.01 > second["logprob"]


def test_explain_for_people(likely: Likely, tmp_path: Path) -> None:
    """In bits, which the rows add up to; the object has the same in nats, and says so."""
    file = tmp_path / "text"
    file.write_text("k:xyz")
    code, out, _ = likely("explain", "--file", str(file))
    _, *rows, total = out.splitlines()
    bits = [float(row.split()[1]) for row in rows if "nothing precedes it" not in row]
    assert code == 0 and len(rows) == 5 and len(bits) == 4
    found = re.fullmatch(r"predicted 4 of 5 tokens · (.*) bits · perplexity (.*) · (.*) bits a byte", total)
    assert found is not None
    whole, perplexity, density = map(float, found.groups())
    assert whole == pytest.approx(sum(bits), abs=0.02) and density == pytest.approx(whole / 4, abs=1e-3)
    assert perplexity == pytest.approx(2 ** (whole / 4), rel=1e-3)
    told = json.loads(likely("explain", "k:xyz", "--json")[1])
    assert told["predicted"] == 4 and told["units"]["total_logprob"] == told["units"]["logprob"] == "nats"
    assert -told["total_logprob"] / math.log(2) == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize(
    "verb",
    [
        ("run", "hi", "--seed", "3", "-m", "6"),
        ("run", "hi", "--beam", "2", "-m", "6"),
        ("explain", "xyz", "-c", "x"),
        ("reason", "hi"),
    ],
)
def test_every_object_says_what_its_numbers_are_in(likely: Likely, verb: tuple[str, ...]) -> None:
    """Whatever is a logarithm of a probability, at any depth, is among the object's units; nothing else is."""

    def keys(found: Any) -> set[str]:
        if isinstance(found, dict):
            return {key for key, value in found.items() if value is not None}.union(*map(keys, found.values()))
        return set().union(*map(keys, found)) if isinstance(found, list) else set()

    code, out, _ = likely(*verb, "--json")
    assert code == 0
    for line in out.splitlines():
        found = json.loads(line)
        units = found.pop("units", {})
        logs = {name for name in keys(found) if "logprob" in name or "entropy" in name or name == "score"}
        assert units == dict.fromkeys(logs, "nats")


def test_plain_chat_talks_line_by_line(likely: Likely) -> None:
    code, out, err = likely("chat", "--plain", "--temp", "0", stdin=b"hello\n/redo\n/nonsense\n/quit\n")
    assert code == 0 and out == "xyz\nxyz\n" and "unknown command /nonsense" in err
    code, out, err = likely("chat", "--plain", "--temp", "0", stdin=b"hello\n/retry\n/help\n/bye\nhello\n")
    assert code == 0 and out == "xyz\nxyz\n" and "/redo draws the last answer again" in err and "unknown" not in err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["run", " "], 1, "the prompt is empty"),
        (["run"], 1, "the prompt is empty"),
        (["run", "hi", "--min-p", "1.2"], 1, "min-p must be in"),
        (["run", "hi", "--temp", "-1"], 1, "temperature"),
        (["run", "hi", "--logit-bias", "x"], 1, "ID=BIAS"),
        (["run", "hi", "--raw", "--system", "s"], 1, "--raw"),
        (
            ["run", "hi", "--system", "/tmp"],
            1,
            "a system prompt is words, one that was kept, or a file; /tmp is a folder",
        ),
        (["run", "hi", "--system", "none.txt"], 1, "there is no file none.txt"),
        (
            ["run", b"hi \xff".decode(errors="surrogateescape")],
            1,
            "PROMPT must be UTF-8, got the byte 0xff at character 4",
        ),
        (["run", "hi", "--rope", "yarn"], 1, "KIND:FACTOR"),
        (["run", "hi", "--stop", ""], 1, "--stop"),
        (["run", "hi", "--tempp", "1"], 2, "--temp"),
        (["run", "hi", "-n", "2", "--ngram"], 2, "several fill it"),
        (["run", "hi", "--save", "/nowhere/at/all/x.jsonl"], 1, "/nowhere/at/all is no folder"),
        (["run", "hi", "--kv-budget", "0"], 2, "kv-budget"),
        (["run", "hi", "-n", "2", "--draft-model", "x"], 2, "several fill it"),
        (["run", "hi", "--ngram", "--draft-model", "x"], 2, "choose one"),
        (["run", "hi", "--kv-bits", "3"], 2, "kv-bits"),
        (["run", "hi", "--seed", "x"], 2, "seed"),
        (["run", "--replay", "/nowhere/at/all.jsonl"], 1, "/nowhere/at/all.jsonl"),
        (["run", "hi", "--save", ""], 1, "the name of a file"),
        (["run", "hi", "-f", "/nowhere"], 1, "cannot read /nowhere: No such file"),
        (["run", "hi", "-f", "/dev/zero"], 1, "it is a device, and a file is wanted"),
        (["run", "hi", "--logit-bias", "99999999999999999999=1"], 1, "the id of a token"),
        (["run", "hi", "--kv-budget", "nan"], 2, "--kv-budget"),
        (["run", "hi", "--kv-budget", "inf"], 2, "--kv-budget"),
        (["serve", "--memory", "inf"], 2, "takes a finite number, got inf"),
        (["explain", ""], 1, "empty"),
        (["explain", "--file", "/nowhere/at/all"], 1, "cannot read"),
        (["nonsense"], 2, "The commands are"),
        (["chat"], 2, "--plain"),
    ],
)
def test_a_problem_is_one_line_and_an_exit_code(likely: Likely, args: list[str], code: int, says: str) -> None:
    got, out, err = likely(*args, stdin=b"")
    assert (got, out) == (code, "") and says in err
    if code == 1:
        assert err.count("\n") == 1 and err.startswith("likely: ")


def test_bytes_that_are_not_text_are_refused(likely: Likely) -> None:
    code, _, err = likely("run", stdin=b"caf\xe9")
    assert code == 1 and "0xe9 at offset 3" in err


@pytest.mark.slow
def test_an_answer_imports_nothing_that_others_need(tmp_path: Path) -> None:
    """`likely run` on a GGUF file, to its end: not what other verbs, models, constraints and tools need."""
    model = tiny.write_gguf(tmp_path / "tiny.gguf", "llama", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    heavy = {"transformers", "mlx_lm", "scipy", "textual", "torch", "huggingface_hub", "gguf", "rich", "jinja2"}
    heavy |= {"llguidance", "starlette", "uvicorn", "anyio", "email", "subprocess", "numpy.random", "tokenizers"}
    heavy |= {"regex", "asyncio", "concurrent.futures", "logging", "sqlite3", "ssl", "tempfile"}
    heavy |= {f"likely.engine.{name}" for name in ("diffusion", "tune", "inside", "answers", "tools")}
    heavy |= {f"likely.engine.decode.{name}" for name in ("beam", "combine", "exact", "kernel_draw", "power")}
    heavy |= {f"likely.metal.{name}" for name in ("metal_attention", "vocab")} | {"likely.app.cli.generate.tooled"}
    code = (
        "import atexit, sys; from likely.app.__main__ import main; "
        f"atexit.register(lambda: print('\\n', sorted({heavy} & set(sys.modules)), file=sys.stderr)); main()"
    )
    command = [sys.executable, "-c", code, "run", "--model", str(model), "--raw", "--quiet", "--max-tokens", "2", "ab"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.split("\n")[-2].strip() == "[]" and done.stdout


@pytest.mark.slow
def test_kernels_are_counted_where_there_is_no_metal(likely: Likely) -> None:
    code, out, _ = likely("bench", "kernels", "--case", "cascade")
    assert code == 0 and "not times" in out and "cascade" in out
    code, out, _ = likely("bench", "kernels", "--case", "cascade", "--json")
    found = json.loads(out)
    assert found["kind"] == "simulator" and all(t["got"] <= t["limit"] for c in found["counts"] for t in c["targets"])


def test_what_the_first_person_with_a_mac_is_asked_to_run_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    text = (root / "docs" / "first-mac.md").read_text()
    rows = re.findall(r"^\| \d \| `([^`]+)` \|", text, re.MULTILINE)
    assert len(rows) == 5
    targets = re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE)
    for row in rows:
        program, verb, *words = shlex.split(row)
        if program == "make":
            assert verb in targets
        else:
            assert program == "venv/bin/likely"
            command = cli.likely.get_command(click.Context(cli.likely), verb)
            assert command is not None
            command.make_context(verb, words)  # a usage error where an option is not there


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("run", "smollm2", "Hi"), "Quote words that belong together; a model is named with --model."),
        (("run", "Why", "is", "it?"), "Quote words that belong together; a model is named with --model."),
        (("pull", "one", "two"), "Quote words that belong together.\n"),
        (("tune", "rows.jsonl", "-m", "smollm2"), "No such option '-m'; a model is named with --model.\n"),
        (("run", "Hi", "-m", "smollm2"), "is not a valid integer range; a model is named with --model.\n"),
        (("run", "Hi", "-m", "0"), "0 is not in the range x>=1.\n"),
    ],
)
def test_too_many_arguments_say_what_to_do(likely: Likely, args: tuple[str, ...], hint: str) -> None:
    code, out, err = likely(*args)
    assert (code, out) == (2, "")
    assert hint in err


def test_reason_prints_one_object_of_paths_and_votes(likely: Likely) -> None:
    code, out, _ = likely("reason", "hello", "-n", "3", "--extract", "line", "--temp", "0", "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and list(found) == ["answer", "votes", "paths", "tokens", "units"]
    assert (found["answer"], found["votes"], found["tokens"]) == ("xyz", {"xyz": 3.0}, 12)
    assert [(p["text"], p["answer"], p["tokens"]) for p in found["paths"]] == [("xyz", "xyz", 4)] * 3
    assert all(list(path) == ["text", "answer", "logprob", "tokens"] for path in found["paths"])
    assert all(path["logprob"] == found["paths"][0]["logprob"] < 0 for path in found["paths"])


def test_reason_counts_what_gave_no_answer(likely: Likely) -> None:
    code, out, err = likely("reason", "hello", "-n", "2", "--temp", "0")
    assert code == 0 and "2 of 2 paths gave no answer that the rule finds" in out and "no path has an answer" in out
    assert "8 tokens" in err


def test_a_verifier_that_crashes_keeps_the_paths(likely: Likely) -> None:
    asked = "reason", "hello", "-n", "2", "--temp", "0", "--method", "best", "--extract", "line", "--verifier"
    code, out, err = likely(*asked, "sh -c 'exit 3'")
    assert code == 0 and out.count("xyz") >= 3 and err.count("the verifier ended with 3: it said nothing") == 1
    assert "no path has an answer that was judged" in out
    code, out, err = likely(*asked, "false", "--json")  # which says wrong
    assert code == 0 and [path["score"] for path in json.loads(out)["paths"]] == [0.0, 0.0] and "verifier" not in err


def test_a_search_by_steps_says_what_its_verifier_says(likely: Likely) -> None:
    asked = "reason", "hello", "-n", "4", "--beams", "2", "--temp", "0", "--method", "steps", "--extract", "line"
    code, out, err = likely(*asked, "--verifier", "sh -c 'exit 3'")
    assert code == 0 and "answer: xyz" in out and err.count("the verifier ended with 3: it said nothing") == 1


def test_power_sampling_says_what_it_cost(likely: Likely) -> None:
    for verb in (["run", "hello", "--strategy", "power 2 3 4"], ["reason", "hello", "--method", "power"]):
        code, _, err = likely(*verb, "--max-tokens", "6")
        assert code == 0 and "of the proposals taken, worth" in err and "log₂p of the walk" in err
        assert "each, none read twice" in err


def test_first_wrong_steps_of_a_file(likely: Likely, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"hello {i}", "answer": "xyz"}) + "\n" for i in range(3)))
    asked = "reason", "--file", str(file), "-n", "1", "--extract", "line", "--analyse", "--temp", "0", "--verifier"
    code, out, _ = likely(*asked, "false", "--json")
    assert code == 0 and json.loads(out)["first_wrong"] == {"1": 3}
    code, out, _ = likely(*asked, "true")
    assert code == 0 and "no step is wrong      3 of 3" in out
    code, out, _ = likely(*asked[:4], "2", *asked[5:-1])
    heading, *shares = [line for line in out.splitlines() if line.startswith((" paths", "     1 ", "     2 "))]
    begin = heading.index("a vote is right")
    assert code == 0 and [line[begin:].split("%")[0] for line in shares] == ["100.0 ", "100.0 "]  # under its name
    code, out, err = likely(*asked, "sh -c 'exit 3'")
    assert code == 0 and "the verifier judged no beginning" in out and err.count("ended with 3") == 1


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["run", "x", "--beam", "0"], "the number of beams must be a whole number in [1, 256], got 0"),
        (["run", "x", "--beam", "4", "--groups", "3"], "4 beams cannot be parted into 3 groups of one size"),
        (["run", "x", "--beam", "2", "-n", "3"], "the number of answers of 2 beams must be"),
        (["run", "x", "--beam", "2", "--temp", "0"], "a search has no use for temperature 0"),
        (["run", "x", "--eos", "999"], "--eos must be an id below 288, got 999"),
        (["run", "x", "--budget", "3"], "--budget bounds the search for the mode"),
        (["run", "x", "--beam", "2", "--exact-mode"], "are three searches: choose one of them"),
        (["run", "x", "--beam", "2", "--ngram"], "choose one of them"),
        (["reason", "x", "-n", "0"], "the number of paths must be in [1, 256], got 0"),
        (["reason", "x", "--verifier", "true"], "--verifier chooses the best"),
        (["reason", "x", "--extract", "(a"], "is no regular expression"),
        (
            ["reason", "x", "--hopeless", "0.1", "--method", "best"],
            "--hopeless is of paths that are drawn side by side",
        ),
        (["reason", "x", "--method", "entropy", "--bits", "-1"], "the entropy must be in [0, 64], got -1"),
        (["reason", "x", "--template", "y"], "is no template"),
    ],
)
def test_what_cannot_be_searched_is_one_line(likely: Likely, args: list[str], line: str) -> None:
    code, out, err = likely(*args)
    assert code in (1, 2) and not out and line in err and "Traceback" not in err


def objects(likely: Likely, *args: str) -> list[dict[str, Any]]:
    """What `run --raw hello: --max-tokens 6 --json` prints, a line each."""
    code, out, _ = likely("run", "--raw", "hello:", "--max-tokens", "6", "--seed", "3", "--json", *args)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def test_a_beam_prints_objects_the_best_first(likely: Likely, tmp_path: Path) -> None:
    found = objects(likely, "--beam", "3", "--length-penalty", "0", "--early-stopping", "never")
    assert len(found) == 3 and found[0]["ids"] == [*bigram.ids("xyz"), EOS] and found[0]["finish"] == "eot"
    assert all(list(one) == ["ids", "text", "logprob", "score", "finish", "tokens", "units"] for one in found)
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert all(one["logprob"] == pytest.approx(one["score"], abs=1e-5) for one in found)
    for one in found:
        assert one["logprob"] == pytest.approx(math.fsum(token["logprob"] for token in one["tokens"]))
        assert [token["id"] for token in one["tokens"]] == one["ids"]
    one_by_one = objects(likely)  # a token a line
    assert [*found[0]["tokens"][0], "units"] == list(next(row for row in one_by_one if "id" in row))
    out = likely("run", "--raw", "hello:", "--beam", "3", "-n", "1", "-q", "--max-tokens", "6")[1]
    assert out.splitlines()[1:] == ["xyz"]
    saved = "--max-tokens", "6", "--save", str(tmp_path / "beams")
    said = re.findall("score .* bits", likely("run", "--raw", "hello:", "--beam", "3", "-n", "2", "-q", *saved)[1])
    told = likely("run", "--replay", saved[-1])[1]
    assert len(said) == 2 and all(f"found by beam 3 1.0 false 2 · {score}\n" in told for score in said)
    ends = objects(likely, "--beam", "2", "--eos", str(bigram.ids("y")[0]))
    assert ends[0]["ids"] == bigram.ids("xy") and ends[0]["finish"] == "eot"


def test_the_defaults_of_a_beam_are_those_that_are_printed(likely: Likely) -> None:
    found = objects(likely, "--beam", "4")
    assert objects(likely, "--beam", "4", "--length-penalty", "1", "--early-stopping", "false") == found
    assert objects(likely, "--strategy", "beam 4") == found and objects(likely, "--beam", "4", "-n", "2") == found[:2]
    assert len({tuple(one["ids"]) for one in found}) == 4
    bound = objects(likely, "--beam", "4", "--regex", "[a-z]{2,4}")  # the likeliest, not the likeliest a token
    assert objects(likely, "--strategy", "beam 4", "--regex", "[a-z]{2,4}") == bound
    assert objects(likely, "--strategy", "beam 4 1", "--regex", "[a-z]{2,4}") != bound
    assert all(one["score"] == pytest.approx(one["logprob"], abs=1e-5) for one in bound)
    for one in found:  # nothing of a preset: what is searched is what the model says
        assert one["score"] == pytest.approx(one["logprob"] / len(one["ids"]), abs=1e-6)
        assert all(token["logprob_after"] == pytest.approx(token["logprob"], abs=1e-6) for token in one["tokens"])
    for one in objects(likely, "--beam", "4", "--temp", "2"):  # a score is of the distribution that sampling draws by
        after = math.fsum(token["logprob_after"] for token in one["tokens"])
        assert one["score"] == pytest.approx(after / len(one["ids"]), rel=1e-4, abs=1e-6) and "normalized" not in one
    for one in objects(likely, "--strategy", "hf-beam 4", "--temp", "2"):  # temperature acts on log-probabilities
        assert one["score"] == pytest.approx(one["logprob"] / len(one["ids"]) / 2, rel=1e-4, abs=1e-6)
        assert one["normalized"] is False


def test_stochastic_beams_and_the_mode_say_what_they_are_worth(likely: Likely) -> None:
    drawn = objects(likely, "--stochastic-beam", "3")
    assert len({tuple(one["ids"]) for one in drawn}) == 3 == len(drawn)
    assert [one["perturbed"] for one in drawn] == sorted((one["perturbed"] for one in drawn), reverse=True)
    assert all(0 < one["inclusion"] <= 1 for one in drawn) and objects(likely, "--strategy", "stochastic 3") == drawn
    (mode,) = objects(likely, "--exact-mode")
    assert mode["ids"] == [*bigram.ids("xyz"), EOS] and mode["proven"] is True
    assert re.search(r"passes \d+ · proven · eot", likely("run", "--raw", "hello:", "--exact-mode")[1])
    cut = likely("run", "--raw", "hello:", "--exact-mode", "--budget", "1")[1]
    score, bound, short = map(float, re.findall(r"(-?[\d.]+) bits(?: ·| of the mode)", cut)[1:])
    assert bound - score == pytest.approx(short, abs=0.011)
    assert list(mode)[:3] == ["ids", "text", "logprob"] and list(mode)[-3:-1] == ["finish", "tokens"]


def test_a_choice_is_drawn_by_its_share_and_not_by_its_beginning(likely: Likely) -> None:
    """After ":" comes "x", nearly surely, and after that no "q": "xqq" begins better than "q" and is worth less."""
    logp = TABLE - np.logaddexp.reduce(TABLE, axis=-1, keepdims=True)
    of = {text: sum(logp[pair] for pair in pairwise((*bigram.ids(f":{text}"), EOS))) for text in ("xqq", "q")}
    share = math.exp(of["q"] - np.logaddexp(*of.values()))
    chosen = ["run", "--raw", ":", "--choice", "xqq", "--choice", "q", "--seed", "3"]
    said, *tokens, end = (json.loads(line) for line in likely(*chosen, "--json")[1].splitlines())
    assert [one["text"] for one in said["choices"]] == ["q", "xqq"] and [t["text"] for t in tokens] == ["q", ""]
    assert [one["logprob"] for one in said["choices"]] == pytest.approx([of["q"], of["xqq"]], abs=1e-4)
    assert said["choices"][0]["probability"] == pytest.approx(share) == end["probability"] and share > 0.99
    assert likely(*chosen, "-n", "3", "-q")[1] == "[1]\nq\n[2]\nq\n[3]\nq\n"
    assert f"{share:.2%} among the choices" in likely(*chosen)[2]
    assert "no --choice begins with --prefill" in likely(*chosen, "--prefill", "y")[2]


def test_one_of_several_bound_answers_is_drawn_by_its_weight(likely: Likely, tmp_path: Path) -> None:
    bound = ["run", "--raw", ":", "--regex", "xa|xbb", "-n", "5", "--resample", "--seed", "3"]
    *lines, drawn = (
        json.loads(line) for line in likely(*bound, "--json", "-q", "--save", str(tmp_path / "r"))[1].splitlines()
    )
    weights = [end["log_weight"] for end in sorted((o for o in lines if "finish" in o), key=lambda o: o["answer"])]
    allowed = [sum(o["logprob_allowed"] for o in lines if "id" in o and o["answer"] == n) for n in range(1, 6)]
    assert weights == pytest.approx(allowed) and len(set(weights)) > 1
    share = np.exp(weights) / np.exp(weights).sum()
    assert drawn["share"] == pytest.approx(share[drawn["resampled"] - 1])
    assert drawn["effective_size"] == pytest.approx(1 / (share**2).sum())
    traces = load(tmp_path / "r")
    assert [sum(s.logprob_allowed or 0 for s in t.steps) for t in traces] == pytest.approx(weights)
    assert {t.meta["resampled"] for t in traces} == {str(drawn["resampled"])}
    code, out, err = likely(*bound)
    assert (code, out) == (0, "".join(s.text for s in traces[drawn["resampled"] - 1].steps) + "\n")
    assert f"allowed {weights[0] / math.log(2):.2f} bits" in err and f"[{drawn['resampled']}] of 5 by its weight" in err
    for more, line in (
        (["--temp", "0.5"], "--temp is not of --resample"),
        (["--choice", "a"], "--choice is drawn by its law already"),
        (["--beam", "5"], "--beam is not of --resample"),
    ):
        assert line in likely(*bound, *more)[2]
    assert "say of how many with -n" in likely("run", "a", "--regex", "a", "--resample")[2]
    assert "goes with --regex or --json-schema" in likely("run", "a", "-n", "2", "--resample")[2]


def test_an_answer_follows_a_constraint(likely: Likely, tmp_path: Path) -> None:
    assert likely("run", "hello", "--regex", "[0-9]{3}", "-q", "--temp", "0")[1].strip().isdigit()
    assert likely("run", "hello", "--choice", "yes", "--choice", "no", "-q")[1].strip() in ("yes", "no")
    (tmp_path / "s.json").write_text('{"type": "integer", "minimum": 3, "maximum": 5}')
    assert likely("run", "hello", "--json-schema", str(tmp_path / "s.json"), "-q", "--temp", "0")[1].strip() in "345"
    beams = likely("run", "hello", "--choice", "yes", "--choice", "no", "--beam", "2", "-q")[1].splitlines()[1::2]
    assert sorted(beams) == ["no", "yes"]
    for args, line in (
        (["--regex", "(a"], "this regular expression cannot be followed"),
        (["--json-schema", '{"type": "integer", "minimum": 5, "maximum": 3}'], "Unsatisfiable schema"),
        (["--json-schema", "none.json"], "cannot read none.json"),
        (["--regex", "a", "--choice", "b"], "choose one of them"),
    ):
        code, out, err = likely("run", "hello", *args)
        assert code in (1, 2) and not out and line in err and "Traceback" not in err


def test_the_formula_multiplies_out_to_the_texts_probability(likely: Likely) -> None:
    found = json.loads(likely("explain", "xyz", "--formula", "--json")[1])
    code, out, _ = likely("explain", "xyz", "--formula")
    lines = out.splitlines()
    assert code == 0 and lines == found["formula"]
    assert lines[0] == "p(x2..x3 | x1) = prod over i of p(xi | x<i)"
    factors = [float(line.rpartition(" = ")[2]) for line in lines[1:3]]
    assert lines[1].startswith("  = p(y | x) = ") and lines[2].startswith("  x p(z | x y) = ")
    assert math.log(math.prod(factors)) == pytest.approx(found["total_logprob"], abs=1e-3)
    bits = -found["total_logprob"] / math.log(2)
    assert f"2^{-bits:.3f}" in lines[3] and lines[4] == f"predicted 2 of 3 tokens: {bits:.3f} bits"
    assert lines[5].endswith(f"= {found['perplexity']:.3f}")


@pytest.mark.parametrize("command", [(), ("chat",)])
def test_a_terminal_that_draws_no_screen_gets_lines_and_is_told(
    likely: Likely, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, err = likely(*command, stdin=b"hello\n")
    assert code == 0 and out == "xyz\n"
    assert err.splitlines()[0] == "this terminal draws no full screen (TERM=dumb): likely chat --plain, line by line"


def test_a_chat_by_lines_ends_an_answer_before_a_stop(likely: Likely) -> None:
    code, out, err = likely("chat", "--plain", "--temp", "0", "--stop", "z", stdin=b"hello\n")
    assert (code, out, err) == (0, "xy\n", "")


def test_what_is_typed_is_answered_line_by_line(
    likely: Likely, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is what `run` draws of the same conversation; another is drawn with the next seed."""
    drawn = bigram.write(tmp_path / "drawn", bigram.random_table(0))
    monkeypatch.setenv("LIKELY_MODEL", str(drawn))
    how = ("--seed", "7", "-m", "5", "--temp", "1")

    def alone(prompt: str, seed: int) -> str:
        return likely("run", "--raw", prompt, "--seed", seed, *how[2:], "-q").out

    typed = b"/redo\nhi\n\n/redo\n/system be\nho\n/new\nhe\n/what now\n/tools x\n/quit\nnever\n"
    code, out, err = likely("chat", "--plain", *how, "--system", "sys", stdin=typed)
    told = (("s:sys;u:hi;a:", 7), ("s:sys;u:hi;a:", 8), ("s:be;u:ho;a:", 8), ("s:be;u:he;a:", 8))
    assert code == 0 and out == "".join(alone(*each) for each in told)
    assert err.startswith("there is no answer to draw again yet\nunknown command /what: ")
    assert err.endswith("tools are for the full screen and `likely run --tools`: line by line none is called\n")


@pytest.mark.slow(3)
def test_lines_that_outgrow_the_model_are_offered_ways_on(
    likely: Likely, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is no number goes on as it is."""
    said = b"one and some words\ntwo and some words\n"

    def chat(typed: bytes, said: bytes = said, context: int = 40) -> tuple[int, str]:
        folder = bigram.write(tmp_path / str(context), bigram.certain_table(":kxyz"), context)
        monkeypatch.setenv("LIKELY_MODEL", str(folder))
        code, out, err = likely("chat", "--plain", "--temp", "0", stdin=said + typed)
        assert code == 0 and out == "kxyz\n" * (len(out) // 5)
        return len(out) // 5, err

    answers, err = chat(b"1\n/compact\n")
    assert answers == 2 and "51 tokens, and the model reads 40" in err and "there is nothing before" in err
    assert "  1 leave out the oldest 2 messages: 23 tokens stay" in err
    answers, err = chat(b"3\n1\nthree\n")
    assert answers == 3 and "yarn x2: 80 tokens, 40 now" in err and "bits a token" in err
    assert chat(b"4\nthree\n", b"one\ntwo\n/compact\n")[0] == 3
    assert "a summary has no room in 40 tokens: nothing was changed" in chat(b"2\n")[1]
    answers, err = chat(b"2\n1\nthree\n", b"one " * 130 + b"\n" + b"two " * 10 + b"\n", 560)
    assert answers == 3 and "summary: kxyz" in err


def test_a_gpu_whose_memory_is_full_is_a_line(likely: Likely, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arrays: Any) -> None:
        raise RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum")

    monkeypatch.setattr("mlx.core.eval", full)
    code, out, err = likely("run", "hello")
    assert (code, out) == (1, "") and err.splitlines()[-1].startswith("likely: the GPU has not enough memory for this")


@pytest.mark.slow(3)
def test_a_limit_stands_where_none_is_given(likely: Likely) -> None:
    """An answer of a small model that loops would go on to the end of the context."""
    said = likely("run", "--raw", "q", "--logit-bias", f"{EOS}=-100", "--logit-bias", "66=100")
    assert len(said.out) == MAX_TOKENS + 1 and "repeats its last 1 token without end" in said.err
