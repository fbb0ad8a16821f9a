"""`likely fill` on a random diffusion model: the object that programs read, the steps that a person sees, refusals."""

import json
import math
import re
import signal
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from likely.app.cli import likely as program
from likely.engine.base.errors import ContextOverflow, LikelyError, ParameterError
from likely.engine.decode.session import Session
from likely.engine.diffusion.infilling import lone_space, pieces
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.unmasking import Unmasking
from likely.engine.train.data.samples import text_end
from likely.engine.weights.sources.checkpoint import load
from tests.cli.conftest import random_model
from tests.engine import tiny

CONFIG: dict[str, Any] = {**tiny.LLAMA, "mask_token_id": 286, "max_position_embeddings": 32}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(random_model(tmp_path_factory.mktemp("fill") / "m", **CONFIG))


def fill(model: str, *words: str) -> Result:
    return CliRunner().invoke(program, ["fill", "-M", model, "--seed", "3", *words])


def test_the_object_says_every_token_and_every_revision(model: str) -> None:
    text = "The [MASK:4] of \\[MASK:8][MASK:2]"
    words = ("--json", "--quiet", "--steps", "3", "--revise", "4")
    result = fill(model, text, *words)
    found = json.loads(result.stdout)
    assert set(found) == {"ids", "tokens", "revisions", "units"} and result.stderr == ""
    given = [*b"The ", *[None] * 4, *b" of [MASK:8]", *[None] * 2]
    assert len(found["ids"]) == len(found["tokens"]) == len(given) and 286 not in found["ids"]
    for at, (id_, token, byte) in enumerate(zip(found["ids"], found["tokens"], given, strict=True)):
        assert set(token) == {"position", "id", "text", "step", "logprob", "given"}
        assert token["position"] == at and token["id"] == id_ and token["given"] == (byte is not None)
        if byte is None:
            assert 1 <= token["step"] <= 7 and token["logprob"] < 0
        else:
            assert token["step"] is None and token["logprob"] is None and token["text"] == chr(byte)
    last: dict[int, int] = {}
    for revision in found["revisions"]:
        assert set(revision) == {"position", "step", "from", "to"} and revision["step"] > 3
        assert last.get(revision["position"], revision["from"]) == revision["from"] != revision["to"]
        last[revision["position"]] = revision["to"]
    assert last and all(found["ids"][at] == id_ for at, id_ in last.items())
    assert json.loads(fill(model, text, *words).stdout) == found  # the seed's


def test_a_person_sees_each_pass_and_pipes_the_text(model: str) -> None:
    result = fill(model, "ab[MASK:4]", "--temp", "0")
    lines = result.stderr.splitlines()
    assert len(lines) == 5 and [line.count("░") for line in lines[:4]] == [3, 2, 1, 0]
    assert "4 tokens in 4 passes · 0 revised · seed 3" in lines[4] and result.stdout.startswith("ab")
    measured = fill(model, "ab[MASK:4]", "--block", "2", "--cache", "dual", "--check").stderr.splitlines()
    assert re.match(
        r"cache: at \d of 2 masks in 2 passes another token is likeliest than without, KL \S+ bits", measured[4]
    )


def test_what_is_stopped_ends_after_its_pass_and_is_kept(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that sends the signal: each pass looks at it."""
    path, words, clock = tmp_path / "run.jsonl", ["ab[MASK:6]", "--steps", "6"], time.perf_counter
    whole = fill(model, *words, "--save", str(tmp_path / "whole.jsonl"))
    assert whole.exit_code == 0 and file.load(tmp_path / "whole.jsonl")[0].finish == "length"
    for at in range(2, 40):
        looks = count()

        def rings(looks: "count[int]" = looks, at: int = at) -> float:
            if next(looks) == at:
                signal.raise_signal(signal.SIGTERM)
            return clock()

        with monkeypatch.context() as patch:
            patch.setattr(time, "perf_counter", rings)
            result = fill(model, *words, "--save", str(path))
        passes = re.search(r"(\d) tokens in (\d) passes · 0 revised · seed 3", result.stderr)
        if result.exit_code == 130 and passes is not None and 0 < int(passes[2]) < 6:
            break
    assert result.exit_code == 130 and passes is not None and passes[1] == passes[2]
    assert result.stderr.splitlines()[-1] == f"likely: stopped; what was drawn is in {path}"
    (trace,) = file.load(path)
    assert trace.finish == "cancelled" and trace.denoising is not None
    assert len(trace.denoising.passes) == int(passes[2])
    assert CliRunner().invoke(program, ["fill", "--replay", str(path)]).exit_code == 0


@pytest.mark.parametrize("config", [CONFIG, tiny.LLAMA], ids=["diffusion", "autoregressive"])
def test_behind_a_whole_text_stands_its_end(config: dict[str, Any], tmp_path: Path) -> None:
    folder = str(random_model(tmp_path / "m", **config))
    way = () if config is CONFIG else ("--mcmc", "2")
    fragment, whole = (
        json.loads(fill(folder, "a[MASK:2]b", "--json", *way, *more).stdout) for more in ((), ["--whole"])
    )
    assert len(fragment["ids"]) == 4 and len(whole["ids"]) == 5 and whole["tokens"][4]["given"]
    assert whole["ids"][4] == text_end(load(folder).tokenizer)
    assert whole["tokens"][1]["logprob"] != fragment["tokens"][1]["logprob"] or way  # it is seen from the hole
    if way:  # and counts where a text is judged as a whole
        assert whole["logprob"] == pytest.approx(
            sum(s.logprob for s in Session(load(folder)).score(whole["ids"], start=1))
        )


def test_an_adapter_of_a_model_of_blocks_is_learned_and_fills(tmp_path: Path) -> None:
    folder = str(random_model(tmp_path / "m", **CONFIG | {"block_size": 4, "max_position_embeddings": 64}))
    rows, out = tmp_path / "rows.jsonl", tmp_path / "a"
    rows.write_text("".join(json.dumps({"prompt": f"{'abc'[i % 3]}=", "completion": "qqq"}) + "\n" for i in range(30)))
    how = {"objective": "block", "steps": 15, "rate": 0.03, "batch": 8, "length": 16, "dropout": 0, "eval-every": 0}
    words = [f"--{name}={value}" for name, value in how.items()]
    learned = CliRunner().invoke(program, ["tune", str(rows), "-M", folder, "--out", str(out), *words])
    assert learned.exit_code == 0 and "valid <= " in learned.output, learned.output
    told = ["a=[MASK:3]", "--whole", "--temp", "0", "--quiet"]
    assert fill(folder, *told, "-A", str(out)).stdout.startswith("a=qqq") and "qqq" not in fill(folder, *told).stdout
    cached = fill(folder, *told, "-A", str(out), "--cache", "exact")
    assert cached.stdout.startswith("a=qqq")


def test_holes_are_read_as_they_are_written() -> None:
    assert list(pieces("[MASK:2]")) == [2]
    assert list(pieces("a[MASK:12]b[MASK:1][MASK:3]")) == ["a", 12, "b", 1, 3]
    assert list(pieces("\\[MASK:8] is [MASK] [MASK:1]")) == ["[MASK:8] is [MASK] ", 1]
    for wrong in ("[MASK:0]", "[MASK:]", "[MASK:-1]", "[MASK:x]", "[MASK:²]", "[MASK:99999999]"):
        with pytest.raises(ParameterError, match="a whole number from 1 to 1,048,576, got"):
            list(pieces(f"a {wrong}"))


def test_a_space_before_a_hole_is_said_where_words_bring_their_own() -> None:
    words, letters = SimpleNamespace(encode=str.split), SimpleNamespace(encode=list)
    assert lone_space("of [MASK:1] is \\[MASK:2] [MASK:3]", words) == "of[MASK:1] is \\[MASK:2][MASK:3]"
    assert lone_space("of[MASK:1] \\[MASK:2]", words) is lone_space("of [MASK:1]", letters) is None


def test_what_cannot_be_is_refused_by_name(model: str, tmp_path: Path) -> None:
    plain = str(random_model(tmp_path / "p"))
    for name, words, line in (
        (plain, ["a[MASK:4]"], "p is autoregressive and has no mask token: fill .* with --nbest N or --mcmc N"),
        (model, ["a[MASK:4]", "--mcmc", "3"], "--mcmc is of autoregressive models, and .*m is a diffusion model"),
        (plain, ["[MASK:4]", "--nbest", "3"], "begin the text with a word"),
        (plain, ["a[MASK:4]", "--nbest", "3", "--temp", "0"], "no use for temperature 0"),
        (model, ["no hole"], "there is nothing to fill: write \\[MASK:N\\]"),
        (model, ["a[MASK:4]", "--block", "3"], "4 masks are not divisible into blocks of 3"),
        (model, ["a[MASK:4]", "--dry-multiplier", "1"], "DRY needs tokens in the order of the text"),
        (model, ["a[MASK:4]", "--threshold", "0.5", "--steps", "2"], "leave out steps"),
    ):
        error = fill(name, *words).exception
        assert isinstance(error, LikelyError) and re.search(line, str(error)), (words, error)
    for words, line in (
        (["x" * 30 + "[MASK:3]"], "has 30 tokens and 3 masks"),
        (["[MASK:900000]"], "32 positions"),
        (["xxx[MASK:900000]"], "has 3 tokens and 900000 masks"),
    ):
        error = fill(model, *words).exception
        assert isinstance(error, ContextOverflow) and line in str(error), error
    for name, words, line in (
        (plain, ["--steps", "3"], "--steps is of diffusion models, and .*p is autoregressive"),
        (model, ["--beam", "2"], "--beam is of drawing from left to right, and .*m is a diffusion model"),
        (model, ["--regex", "a"], "--regex is of drawing from left to right"),
        (model, ["--block", "5", "-m", "8"], "8 masks are not divisible into blocks of 5"),
    ):
        error = CliRunner().invoke(program, ["run", "-M", name, "hello", *words]).exception
        assert isinstance(error, LikelyError) and re.search(line, str(error)), (words, error)


@pytest.mark.parametrize("way", ["--nbest", "--mcmc"])
def test_an_autoregressive_model_fills_from_left_to_right(way: str, tmp_path: Path) -> None:
    model = str(random_model(tmp_path / "p"))
    result = fill(model, "ab[MASK:2]c[MASK:1]d", way, "8", "--json")
    found = json.loads(result.stdout)
    session = Session(load(model))
    given = [token["id"] for token in found["tokens"] if token["given"]]
    assert bytes(session.tokenizer.piece(i)[0] for i in given[-2:]) == b"cd"
    assert [token["step"] for token in found["tokens"] if not token["given"]] != [None] * 3
    scored = session.score(found["ids"], start=0)
    logprobs = [step.logprob for step in scored]
    for token in found["tokens"]:
        expected = None if token["given"] else logprobs[token["position"]]
        assert token["logprob"] == pytest.approx(expected, abs=1e-4)
    first = next(token["position"] for token in found["tokens"] if not token["given"])
    assert found["logprob"] == pytest.approx(sum(p or 0 for p in logprobs[first:]), abs=1e-3)
    assert "3 tokens from left to right" in result.stderr
    last: dict[int, int] = {}
    for revision in found["revisions"]:
        assert last.get(revision["position"], revision["from"]) == revision["from"] != revision["to"]
        last[revision["position"]] = revision["to"]
    assert last and all(found["ids"][at] == token for at, token in last.items())


def test_an_answer_by_diffusion_is_read_by_programs_kept_and_shown_again(model: str, tmp_path: Path) -> None:
    kept, again = tmp_path / "run.jsonl", tmp_path / "again.jsonl"
    words = ["run", "-M", model, "Hi", "--seed", "5", "-m", "6", "--prefill", "!", "--steps", "3", "--revise", "2"]
    result = CliRunner().invoke(program, [*words, "--json", "--save", str(kept)])
    *tokens, end = [json.loads(line) for line in result.stdout.splitlines()]
    assert [token["position"] for token in tokens] == [2, 3, 4, 5, 6, 7] and end["finish"] == "length"
    assert [token["given"] for token in tokens] == [True, *[False] * 5]
    assert {"position", "id", "text", "step", "logprob", "given", "entropy", "rank", "kept"} <= set(tokens[1])
    assert end["passes"] == 5 and end["seed"] == 5 and "5 passes" in result.stderr
    text = CliRunner().invoke(program, words).stdout
    assert text == "".join(token["text"] for token in tokens).rstrip("\ufffd") + text[len(text.rstrip("\ufffd\n")) :]

    (trace,) = file.load(kept)
    file.save([trace], again)
    assert again.read_bytes() == kept.read_bytes()
    assert trace.denoising is not None and trace.denoising.how == Unmasking(steps=3, revise=2)
    rows = [json.loads(line) for line in replay(kept, "--json", "--temp", "0.5").splitlines()]
    drawn = {row["position"]: row for row in rows if "id" in row}
    assert all(drawn[token["position"]]["id"] == token["id"] for token in tokens[1:])
    changed = [{"position": r["position"], "step": r["pass"], "from": r["before"], "to": r["id"]}
               for r in rows if r.get("before") is not None]  # fmt: skip
    assert changed == end["revisions"] and changed
    left = [row["open"] for row in rows if "open" in row]
    assert [len(masks) for masks in left] == [3, 1, 0, 0, 0] and len(left[0][0]["candidates"]) == 10
    same = [json.loads(line) for line in replay(kept, "--json", "--preset", "balanced").splitlines()]
    for row in same:  # the parameters that it was drawn with
        if "replayed" in row:
            low, high = row["replayed"]["p_after"]
            assert low - 1e-5 <= math.exp(row["drawn"]["logprob_after"]) <= high + 1e-5
    shown = replay(kept)
    assert [line.count("░") for line in shown.splitlines() if "░" in line] == [3, 1] and " was " in shown


def test_a_chat_by_lines_is_answered_by_diffusion(model: str) -> None:
    words = ["chat", "--plain", "-M", model, "--seed", "5", "-m", "6", "--preset", "balanced"]
    said = CliRunner().invoke(program, words, input="Hi\n/redo\n")
    alone = CliRunner().invoke(program, ["run", "--raw", "-M", model, "Hi\n\n", *words[4:]])
    assert said.exit_code == 0 and said.stdout.startswith(alone.stdout) and len(said.stdout) > len(alone.stdout)


def replay(path: Path, *words: str) -> str:
    result = CliRunner().invoke(program, ["fill", "--replay", str(path), *words])
    assert result.exit_code == 0, result.output
    return result.stdout
