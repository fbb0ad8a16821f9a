"""A model from nothing is a model like any other: every verb takes its folder, and all say the same of a text."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.cli.conftest import Likely
from tests.engine.pretrain.texts import words

SHAPE = "layers = 2\nwidth = 64\nheads = 2\n"


@pytest.mark.slow
def test_every_verb_takes_a_pretrained_model(likely: Likely, tmp_path: Path) -> None:
    text, mine, rows = words(tmp_path, 4000), tmp_path / "mine", tmp_path / "rows.jsonl"
    (tmp_path / "shape.toml").write_text(SHAPE)
    rows.write_text("".join(json.dumps({"prompt": "ae", "completion": f"io {i}"}) + "\n" for i in range(4)))

    def told(*args: Any) -> str:
        code, out, err = likely(*args)
        assert not code, err
        return out

    def surprisals(*options: Any) -> np.ndarray:
        found = json.loads(told("explain", "-f", text.with_name("line"), "--json", *options))
        return np.array([each["logprob"] for each in found["tokens"][1:]])

    text.with_name("line").write_text(" ".join(text.read_text().split()[:12]))
    how = ["--vocab", 300, "--context", 64, "--batch", 4, "--accumulate", 1, "--tokens", 12_000, "--eval-every", 0]
    said = told(
        "pretrain", text, "--size", tmp_path / "shape.toml", "--out", mine, *how, "--sample-tokens", 0, "--json"
    )
    end = json.loads(said.splitlines()[-1])
    assert end["event"] == "pretrained" and end["loss"] < 0.75 * np.log(300), end
    model = ["-M", mine]
    spoken = subprocess.run(
        [sys.executable, "-c", "from likely.app.cli import main; main()", "chat", "--plain", "-M", str(mine)],
        input="ae\n/quit\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(spoken.stdout.strip()) > 4

    plain = surprisals(*model)
    checkpoint = load(mine)
    ids = checkpoint.tokenizer.encode(text.with_name("line").read_text())
    logits = checkpoint.model(mx.array([ids]))[0]
    exact = np.asarray(logits - mx.logsumexp(logits, axis=-1, keepdims=True))[np.arange(len(ids) - 1), ids[1:]]
    assert plain[-len(exact) :] == pytest.approx(exact, abs=1e-3)
    inside = json.loads(told("inside", "-f", text.with_name("line"), *model, "--json"))
    assert len(inside["ids"]) >= len(ids)
    measured = [json.loads(line) for line in told("eval", "--text", text, *model, "--json").splitlines()]
    (bits,) = [each["value"] for each in measured if each["measure"] == "bits_per_byte"]
    assert bits == pytest.approx(end["bits_per_byte"], rel=0.15)  # of all of it, in other windows

    told("quantize", mine, "--bits", 8, "--group", 32, "--to", tmp_path / "small", "--text", text)
    assert not (tmp_path / "small" / "pretrain.json").exists()  # no run to go on with
    assert surprisals("-M", tmp_path / "small") == pytest.approx(plain, abs=0.1)
    for kind, off in (("f16", 0.02), ("q8_0", 0.1)):
        told("quantize", mine, "--gguf", kind, "--to", tmp_path / f"{kind}.gguf", "--text", text)
        assert surprisals("-M", tmp_path / f"{kind}.gguf") == pytest.approx(plain, abs=off)

    told("tune", rows, *model, "--out", tmp_path / "adapter", "--steps", 8, "--batch", 2, "--rate", 0.02, "--json")
    tuned = surprisals(*model, "-A", tmp_path / "adapter")
    assert np.abs(tuned - plain).max() > 0.01
    told("fuse", tmp_path / "adapter", "--out", tmp_path / "fused.gguf", "--gguf", "f16")
    assert surprisals("-M", tmp_path / "fused.gguf") == pytest.approx(tuned, abs=0.05)
