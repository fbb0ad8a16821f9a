"""Tables and objects of tokens, from what was found made by hand: products, replayed runs, passes."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.cli.generate import replaying, replaying_passes
from likely.app.cli.generate.replayed_text import as_object, best, spread, under
from likely.app.cli.generate.replaying_passes import pass_line
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.record import DenoisingRecord
from likely.engine.sampling.trace.replay import StepReplay
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep, TokenStrings
from likely.engine.sampling.trace.unmasking import DenoisingStep, OpenMask, Unmasked, Unmasking
from likely.engine.sampling.transforms import MinP, Snapshot, Temperature

LN2 = math.log(2)
PIECES = (b"The", b" cat", b"\n", b"\x1b[31m", b" a word that is longer than the table has room for it", b"")
SNAPSHOT = Snapshot(
    6, np.array([1, 0, 2, 5], "<i4"), np.array([-0.1, -1.0, -2.0, -9.0], "<f4"), 0.5, 0.0, 1.0, np.zeros(65, "<f4"),
    np.zeros(64, "<i4"), np.full(64, -np.inf, "<f4"),
)  # fmt: skip
Captured = pytest.CaptureFixture[str]


def step(token: int, bits: float | None, position: int = 0, **more: Any) -> TokenStep:
    given = {
        "logprob": None if bits is None else -bits * LN2, "logprob_after": -LN2,
        "entropy": None if bits is None else 1.5 * LN2,
        "entropy_after": 1.0, "rank": 7, "kept": 3, "recipe": SamplingConfig(), "snapshot": SNAPSHOT,
        "removed_by": np.array([-1, -1, 0, 0], np.int8),
    }  # fmt: skip
    return TokenStep(token, PIECES[token], PIECES[token].decode(), position=position, **given | more)


LEXICON = TokenStrings(dict(enumerate(PIECES)), frozenset({5}))
RECIPE = SamplingConfig((Temperature(0.5), MinP(0.1)))
RUN = Trace(
    "tiny", "w", {}, 3, (0,), (step(1, 1.0, 1), step(2, 2.0, 2, logprob_after=None), step(4, 8.0, 3)), lexicon=LEXICON
)


SHARES = np.array([0.5, 0.3, 0.1, 0.06, 0.03, 0.01])


def drawn(token: int, position: int) -> TokenStep:
    """As it is observed where the six tokens have these shares."""
    raw = np.log(SHARES).astype(np.float32)
    seen = observe(raw, token, after=raw, recipe=SamplingConfig(), position=position)
    return replace(seen, piece=PIECES[token], text=PIECES[token].decode())


def test_a_run_is_drawn_again_under_other_parameters(capsys: Captured, tmp_path: Path) -> None:
    """What is printed for a person are the shares of the object, of each answer under its number."""
    kept = replace(RUN, steps=tuple(drawn(token, i) for i, token in enumerate((1, 0, 4))))
    file.save([kept, kept], tmp_path / "two")
    file.save([kept], tmp_path / "one")
    replaying.show_replay(tmp_path / "two", RECIPE, as_json=True)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["answer"] for line in told] == [1, 1, 1, 2, 2, 2] and told[0]["replayed"]["exact"] is True
    squares = SHARES[:2] ** 2  # temperature 0.5; the third is below a tenth of the first then
    for line, share in zip(told, (*(squares / squares.sum())[[1, 0]], 0.0), strict=False):
        was, now = line["drawn"], line["replayed"]
        assert now["kept"] == [2, 2] and now["p_after"] == pytest.approx([share, share], abs=1e-6)
        own = math.log(SHARES[line["id"]])  # it was drawn from what the model said, of which all was left
        assert was["kept"] == 6 and [line["logprob"], was["logprob_after"]] == pytest.approx([own, own], abs=1e-6)
        assert was["entropy_after"] == pytest.approx(-(SHARES * np.log(SHARES)).sum(), abs=1e-5)
        assert was["recipe"] == {"greedy": False, "transforms": []}
        assert [each["transform"] for each in now["recipe"]["transforms"]] == ["Temperature", "MinP"]
        assert not {"p_after", "logprob_after", "entropy_after", "kept"} & line.keys()  # of which distribution?
    assert [each["id"] for each in told[0]["replayed"]["candidates"]] == [0, 1]
    replaying.show_replay(tmp_path / "two", RECIPE, as_json=False)
    said = capsys.readouterr().out
    assert "[1] " in said and "[2] " in said and said.count("26.47%") >= 2
    replaying.show_replay(tmp_path / "one", RECIPE, as_json=True)
    assert "answer" not in json.loads(capsys.readouterr().out.splitlines()[0])


def test_a_probability_that_is_not_known_is_a_range() -> None:
    assert [spread(*each) for each in ((0.5, 0.50009), (0.5, 0.50011), (0.0, 1.0))] == [
        "50.00%",
        "50.00% to 50.01%",
        "0.00% to 100.00%",
    ]
    assert under(RUN, RECIPE) == "drawn again under T 0.50 · min-p 0.10"
    new = StepReplay(
        np.arange(6), np.array([0.1, 0.2, 0.0, 0.05, 0.04, 0.3]), np.array([0.1, 0.4, 0.0, 0.05, 0.04, 0.3]),
        np.zeros(6, np.int8), (2, 4), (0.0, 0.01),
    )  # fmt: skip
    assert best(RUN, new) == " cat 20.00% to 40.00%  '' 30.00%  The 10.00%  \\x1b[31m 5.00%"
    told = as_object(RUN, step(1, 1.0), new, RECIPE)["replayed"]
    assert (
        told["p_after"] == [0.2, 0.4]
        and told["kept"] == [2, 4]
        and told["rest"] == [0.0, 0.01]
        and told["exact"] is False
    )
    assert [each["id"] for each in told["candidates"]] == [0, 1, 3, 4, 5]
    assert "replayed" not in as_object(RUN, step(1, 1.0), None, None)


MASK = 9
PASSES = (
    DenoisingStep(
        1, (Unmasked(1, step(1, 1.0, 1)),),
        (OpenMask(2, LN2, np.array([1, 0, 5]), np.array([-1.0, -2.0, -math.inf])),
         OpenMask(3, 3 * LN2, np.array([0]), np.array([0.0]))),
    ),
    DenoisingStep(2, (Unmasked(2, step(0, 3.0, 2)), Unmasked(2, step(2, 2.0, 1), before=1)), ()),
)  # fmt: skip


def test_passes_are_shown_with_their_canvas(capsys: Captured) -> None:
    record = DenoisingRecord(MASK, 1, Unmasking(), PASSES)
    run = replace(RUN, prompt=(0, MASK, MASK), denoising=record, steps=record.steps)
    replaying_passes.show_passes(run, SamplingConfig(), "", as_json=False, answer={})
    said = capsys.readouterr().out
    assert said.startswith("tiny · seed 3 · 3 tokens in 2 passes") and said.count("░") == 1 and " was " in said
    replaying_passes.show_passes(run, SamplingConfig(), "", as_json=True, answer={"answer": 2})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["answer"], line["pass"], line.get("position"), "open" in line) for line in lines] == [
        (2, 1, 1, False), (2, 1, None, True), (2, 2, 2, False), (2, 2, 1, False), (2, 2, None, True),
    ]  # fmt: skip
    assert lines[1]["open"][0] == {
        "position": 2, "entropy": LN2,
        "candidates": [{"id": 1, "text": " cat", "logprob": -1.0}, {"id": 0, "text": "The", "logprob": -2.0}],
    }  # fmt: skip
    assert [line.get("before") for line in lines] == [None, None, None, 1, None]


def test_a_pass_is_a_line() -> None:
    assert pass_line(3, ["a", None, "b\n\x1b"]) == "   3  a░b ␛" and pass_line(12345, []) == "12345  "
