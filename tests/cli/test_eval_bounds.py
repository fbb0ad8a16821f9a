"""`likely eval` of a diffusion model: bounds that say so, beside exact numbers, and what they cannot answer."""

import json
import math
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from likely.engine.diffusion.bound import exact
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.cli.conftest import Likely
from tests.engine import tiny

TEXT = "abcde"
MASK = 286


@pytest.fixture(name="likely")
def evaluates(likely: Likely, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Likely:
    arrays = {name: mx.array(4 * array) for name, array in tiny.weights(tiny.LLAMA).items()}
    tiny.write_folder(tmp_path / "diffusion", {**tiny.LLAMA, "mask_token_id": MASK}, dict(arrays))
    tiny.write_folder(tmp_path / "plain", tiny.LLAMA, dict(arrays))
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "long.txt").write_text(TEXT * 8)
    pairs = [{"good": f"a{c}", "bad": f"{c}a"} for c in "bcdefgh"]
    choices = [{"context": "x", "choices": ["b", "cd"], "gold": i % 2} for i in range(3)]
    for name, rows in (("pairs", pairs), ("choices", choices), ("asked", [{"prompt": "1+1", "answer": "2"}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return lambda *words: likely("eval", *words)


def figures(out: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["model"], row["measure"]): row for row in map(json.loads, out.splitlines()) if "value" in row}


def test_a_text_has_a_bound_that_says_so_beside_an_exact_number(likely: Likely, tmp_path: Path) -> None:
    code, out, err = likely("--text", "text.txt", "-M", "plain", "-M", "diffusion", "--json")
    assert code == 0, err
    found = figures(out)
    checkpoint = load(str(tmp_path / "diffusion"))
    ids = checkpoint.tokenizer.encode(TEXT)
    prefix = found["diffusion", "nats_at_most"]["protocol"]["prefix_token"]
    said = ModelDenoiser(checkpoint.model).log_probabilities
    truth = exact(said, [prefix, *ids], MASK, [False] + [True] * len(ids))  # all 31 masks, fewer than are drawn
    assert found["diffusion", "nats_at_most"]["value"] == pytest.approx(truth, rel=1e-5)
    assert found["diffusion", "bits_per_byte_at_most"]["value"] == pytest.approx(truth / math.log(2) / 5, rel=1e-5)
    assert found["diffusion", "bits_per_byte_draw_error"]["value"] == 0
    assert ("diffusion", "nats") not in found and ("plain", "nats_at_most") not in found
    for (model, measure), row in found.items():
        assert ("bound" in row) == measure.endswith("at_most") and (row["protocol"].get("draws") == 128) == (
            model == "diffusion"
        )
    drawn = figures(likely("--text", "long.txt", "-M", "diffusion", "--json", "--draws", "16", "--seed", "3")[1])
    assert drawn["diffusion", "bits_per_byte_draw_error"]["value"] > 0
    code, out, err = likely("--text", "text.txt", "-M", "plain", "-M", "diffusion")
    lines = out.splitlines()
    assert code == 0 and all("<= " in line for line in lines if "at_most" in line) and "(of diffusion at most)" in out
    (nats,) = (line for line in lines if "diffusion" in line and "bits_per_byte_at_most" in line)
    assert f"<= {truth / math.log(2) / 5:.4f}" in nats


LONG = "".join(f"{i} and {i * i}, " for i in range(90))


def told(out: str) -> re.Match[str]:
    """The difference a token of two models on a text, and over how many items."""
    found = re.search(r"bits: .* ([+-][0-9.]+) bits a token .*?; ([0-9]+) items", out)
    assert found is not None, out
    return found


@pytest.mark.slow(1)
def test_a_difference_is_that_of_the_figures_beside_it(likely: Likely, tmp_path: Path) -> None:
    """A text's windows are the same for a model and one of diffusion, though this reads one token less."""
    (tmp_path / "text.txt").write_text(LONG)
    asked = ("--text", "text.txt", "--draws", "16", "-M", "plain", "-M", "diffusion")
    found = figures(likely(*asked, "--json")[1])
    before, now = found["plain", "perplexity"], found["diffusion", "perplexity_at_most"]
    difference = told(likely(*asked)[1])
    assert before["n"] == now["n"] == int(difference[2]) > 6
    assert float(difference[1]) == pytest.approx(math.log2(now["value"] / before["value"]), abs=5.1e-5)


def test_windows_that_end_alike_are_what_two_models_have_in_common(likely: Likely, tmp_path: Path) -> None:
    """Models of other contexts have other windows of a text: these are added up where both end, and said."""
    (tmp_path / "text.txt").write_text(LONG)
    arrays = {name: mx.array(4 * array) for name, array in tiny.weights(tiny.LLAMA).items()}
    ends, nats = [], []
    for context in (97, 65):
        tiny.write_folder(tmp_path / f"of{context}", {**tiny.LLAMA, "max_position_embeddings": context}, dict(arrays))
        out = likely("--text", "text.txt", "-M", f"of{context}", "--json", "--items")[1]
        items = [json.loads(line) for line in out.splitlines()]
        ends.append(list(accumulate(item["bytes"] for item in items)))
        nats.append(dict(zip(ends[-1], accumulate(item["nats"] for item in items), strict=True)))
    common = sorted(nats[0].keys() & nats[1].keys())
    assert 2 < len(common) < len(ends[0]) < len(ends[1]) and common[-1] == len(LONG)
    tokens = sum(item["tokens"] for item in items) * math.log(2)
    out = likely("--text", "text.txt", "-M", "of97", "-M", "of65")[1]
    assert int(told(out)[2]) == len(common)
    assert float(told(out)[1]) == pytest.approx((nats[1][common[-1]] - nats[0][common[-1]]) / tokens, abs=5.1e-5)
    means = " and ".join(f"{each[common[-1]] / tokens:.4f}" for each in nats)
    assert f"items that both have of {len(ends[0])} and {len(ends[1])}, with {means}" in out
    assert "windows of 64 and 96 tokens" in out and "--window 64" in out
    assert f"predicted {len(LONG):,} of {len(LONG):,} tokens" in out


def test_choices_are_taken_by_bounds_and_what_bounds_cannot_answer_is_refused(likely: Likely) -> None:
    code, out, err = likely("pairs.jsonl", "choices.jsonl", "-M", "diffusion", "--json")
    assert code == 0, err
    measures = {measure for _, measure in figures(out)}
    assert measures == {"acc_by_bound", "acc_norm_by_bound", "acc_bytes_by_bound"}
    for words, args in (
        ("asks for questions, and diffusion is a diffusion model", ["asked.jsonl", "-M", "diffusion"]),
        ("leave out --paths", ["--text", "text.txt", "--paths", "4", "-M", "diffusion"]),
        ("leave out --positions", ["--text", "text.txt", "--positions", "-M", "diffusion"]),
        ("give --draws 128, got 20", ["pairs.jsonl", "--draws", "20", "-M", "diffusion"]),
        ("--draws is of diffusion models", ["pairs.jsonl", "--draws", "16", "-M", "plain"]),
        ("give --window 127", ["--text", "text.txt", "--window", "128", "-M", "diffusion"]),
    ):
        code, _, err = likely(*args)
        assert code and words in err.strip().splitlines()[-1], err
