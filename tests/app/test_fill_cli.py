"""`likely fill` on a random diffusion model: the object that programs read, the steps that a person sees, refusals."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import likely as program
from engine.diffusion.infilling import pieces
from engine.errors import ContextOverflow, LikelyError, ParameterError
from metal import mx
from tests.engine import tiny

CONFIG: dict[str, Any] = {**tiny.LLAMA, "mask_token_id": 286, "max_position_embeddings": 32}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    arrays = {name: mx.array(array) for name, array in tiny.weights(CONFIG).items()}
    return str(tiny.write_folder(tmp_path_factory.mktemp("fill") / "m", CONFIG, arrays))


def fill(model: str, *words: str) -> Result:
    return CliRunner().invoke(program, ["fill", "-M", model, "--seed", "3", *words])


def test_the_object_says_every_token_and_every_revision(model: str) -> None:
    text = "The [MASK:4] of \\[MASK:8][MASK:2]"
    words = ("--json", "--quiet", "--steps", "3", "--revise", "4")
    result = fill(model, text, *words)
    found = json.loads(result.stdout)
    assert set(found) == {"ids", "tokens", "revisions"} and result.stderr == ""
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


def test_holes_are_read_as_they_are_written() -> None:
    assert list(pieces("[MASK:2]")) == [2]
    assert list(pieces("a[MASK:12]b[MASK:1][MASK:3]")) == ["a", 12, "b", 1, 3]
    assert list(pieces("\\[MASK:8] is [MASK] [MASK:1]")) == ["[MASK:8] is [MASK] ", 1]
    for wrong in ("[MASK:0]", "[MASK:]", "[MASK:-1]", "[MASK:x]", "[MASK:²]", "[MASK:99999999]"):
        with pytest.raises(ParameterError, match="a whole number from 1, got"):
            list(pieces(f"a {wrong}"))


def test_what_cannot_be_is_refused_by_name(model: str, tmp_path: Path) -> None:
    plain = str(tiny.write_folder(tmp_path / "p", tiny.LLAMA, {
        name: mx.array(array) for name, array in tiny.weights(tiny.LLAMA).items()
    }))  # fmt: skip
    for name, words, line in (
        (plain, ["a[MASK:4]"], "p is autoregressive and has no mask token"),
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
    error = CliRunner().invoke(program, ["run", "-M", model, "hello"]).exception
    assert isinstance(error, LikelyError) and "does not go from left to right" in str(error)
