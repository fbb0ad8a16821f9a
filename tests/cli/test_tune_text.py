"""Words of trainings and of searches among them, from runs made by hand: plans, progress, ends, tables."""

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from likely.app.cli import tune_search
from likely.app.cli.training import follow, leave
from likely.app.training_kind import KINDS, PRETRAIN, TUNE, chat_with, kind_of, look_at
from likely.app.training_plan import duration, out_of, outcome
from likely.engine.adapters.config import FLOOR, Config
from likely.engine.errors import LikelyError
from likely.engine.estimate.search import SearchPoint, SearchResult
from likely.engine.pretrain.config import PretrainConfig
from likely.engine.statistics.estimates import Estimate
from likely.engine.tune.control import Ended, Stepped, Validated

Captured = pytest.CaptureFixture[str]


def test_times_are_in_their_two_largest_units() -> None:
    given = (0, 59.4, 59.6, 60, 3599.4, 3600, 90_061, math.inf, math.nan)
    assert [duration(s) for s in given] == [
        "0 s", "59 s", "1 min 00 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "25 h 01 min", "?", "?",
    ]  # fmt: skip


def test_a_run_that_did_little_says_what_would_do_more() -> None:
    words = ["tune", "a b", "--resume", "--out", "x"]
    again = "likely tune 'a b' --out x"
    assert list(outcome(0.5, 20, 0.1, words)) == ["moved 0.7213 bits a token from the base (KL, on rows of the data)"]
    assert list(outcome(None, 19, 0.1, words)) == [f"19 steps teach little: {again} --resume --steps {FLOOR}"]
    assert next(outcome(None, 1, 0.1, words)).startswith(f"1 step teaches little: {again}")
    moved, little = outcome(0.0009, 20, 0.1, words)
    assert moved.startswith("moved 0.0013") and little == f"that is next to nothing: {again} --rate 1 --out x-2"
    assert len(list(outcome(0.001, 20, 0.1, words))) == 1 and list(outcome(None, 20, 0.1, words)) == []
    given = ["--out=y"], ["--out", "a", "--out", "b"], ["--out"], ["x"]
    assert [out_of(each) for each in given] == ["y", "b", "", "adapter"]


STEPPED = Stepped(
    step=3, steps=9, epoch=0.5, loss=2.5, smooth=2.25, rate=0.1, norm=1.0, tokens=30, tokens_per_s=12_345.6, kl=0.0,
    right=0.0, memory=2_250_000_000, elapsed_s=30.0,
)  # fmt: skip
VALID = Validated(step=3, loss=2.0, low=1.5, high=2.75, best=True, right=0.0, bits_per_byte=1.25)


class Shown:
    """A line of progress that is written down."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []

    def show(self, stage: str, done: int, total: int) -> None:
        self.lines.append((stage, done, total))


def test_a_training_is_followed_in_a_line(capsys: Captured) -> None:
    shown: Any = Shown()
    events = [STEPPED, VALID, STEPPED, replace(VALID, best=False, bits_per_byte=None), Ended("done", 9)]
    found = list(follow(events, True, False, shown, "<= "))
    valid = " · valid <= 2.885 ± 1.082 bits a token"
    assert [event for event, _ in found] == events and [said for _, said in found] == ["", valid, valid, valid, valid]
    assert shown.lines == [
        ("step 3 · loss 3.246 bits a token · 12,346 tokens/s · 2.25 GB · 1 min 00 s left", 3, 9),
        ("", 0, 0),
        (f"step 3 · loss 3.246{valid} · 12,346 tokens/s · 2.25 GB · 1 min 00 s left", 3, 9),
        ("", 0, 0),
        ("", 0, 0),
    ]
    assert capsys.readouterr().err == f"step 3{valid} · <= 1.250 bits a byte · best\nstep 3{valid}\n"


def test_a_run_that_was_stopped_says_how_to_go_on(capsys: Captured) -> None:
    run: Any = SimpleNamespace(saved=4, folder=Path("out"))
    leave(Ended("done", 9), run, ["tune"])
    for words, again in ((["tune", "a b"], "tune 'a b' --resume"), (["tune", "--resume"], "tune --resume")):
        with pytest.raises(SystemExit) as end:
            leave(Ended("stopped", 3), run, words)
        assert end.value.code == 130
        assert capsys.readouterr().err == f"stopped after step 3; go on with: likely {again}\n"
    for reason in ("nan", "diverged"):
        with pytest.raises(LikelyError) as failed:
            leave(Ended(reason, 3, "it broke"), run, [], ", best")
        assert str(failed.value) == "it broke; the weights of step 4 are in out, best"


def test_kinds_of_training_say_what_comes_after(tmp_path: Path) -> None:
    config, scratch = Config(data="d", model="m"), PretrainConfig(data="d")
    masked, other = replace(config, objective="mdlm"), replace(scratch, objective="mdlm")
    assert [kind_of(each) for each in (config, scratch)] == [TUNE, PRETRAIN] == list(KINDS)
    for kind, given, after in (
        (TUNE, config, "likely diff m out TEXT"), (TUNE, masked, "likely fill TEXT -M m -A out"),
        (TUNE, replace(masked, kind="full"), "likely fill TEXT -M out"),
        (PRETRAIN, scratch, "likely chat -M out"), (PRETRAIN, other, "likely fill TEXT -M out"),
    ):  # fmt: skip
        assert (kind_of(given), look_at(given, "out")) == (kind, after)
    full = replace(config, kind="full")
    results = [chat_with(config, str(tmp_path)), chat_with(full, str(tmp_path)), chat_with(scratch, "out")]
    assert results == [("m", str(tmp_path)), None, ("out", "")] and chat_with(other, "out") is None
    (tmp_path / "config.json").write_text("{}")  # the whole model is there
    assert chat_with(full, str(tmp_path)) == (str(tmp_path), "")


# -- searches --------------------------------------------------------------------------------------------------------


def point(rank: int, rate: float, loss: float, failed: str = "") -> SearchPoint:
    estimate = Estimate(loss, 0.125, 2, n=3)
    return SearchPoint({"rank": rank, "rate": rate}, estimate, Estimate(0.755, 0.1), failed)


POINTS = (
    point(4, 0.1, 2.0), point(8, 0.1, 1.0), point(4, 0.01, 3.0, "out of\nmemory"), point(8, 0.01, 1.5),
    point(16, 0.1, 1.25),
)  # fmt: skip
GRID: Any = SimpleNamespace(values={"rank": (4, 8, 16), "rate": (0.1, 0.01)}, folds=3, points=POINTS)
RESULT = SearchResult(GRID, POINTS, POINTS[1], POINTS[1])


def test_a_search_is_a_table_an_option_in_bits() -> None:
    """The best point of each value, its error, a bar of how far it is above the least, and which is chosen."""
    lines = list(tune_search.lines(RESULT))
    table = [[float(each) for each in re.findall(r"[\d.]+", line)][:4] for line in lines if "±" in line and "%" in line]
    best = {4: 2.0, 8: 1.0, 16: 1.25, 0.1: 1.0, 0.01: 1.5}
    nat = 1 / math.log(2)
    assert table == [pytest.approx([value, loss * nat, 0.125 * nat, 75.5], abs=1e-4) for value, loss in best.items()]
    bars = [line.count("█") for line in lines]
    assert bars == [0, 24, 1, 6, 0, 1, 24, 0] and [line.endswith("least, chosen") for line in lines].count(True) == 2
    assert "within one standard error (1.6230) the simplest is rank 8, rate 0.1" in lines[-1]
    lines = list(tune_search.lines(replace(RESULT, chosen=POINTS[0])))
    assert lines[1].endswith("chosen") and "least" in lines[2] and "out of memory" in lines[6]
    assert lines[-1].endswith("the simplest is rank 4, rate 0.1")
    assert not any("█" in line for line in tune_search.lines(replace(RESULT, points=POINTS[1:2])))


def test_a_search_becomes_one_training() -> None:
    words = ["tune", "r.jsonl", "--search", "g.toml", "--rank", "3", "--search=h.toml", "--screen"]
    assert tune_search.as_one_training(words, {"rank": 8, "too_long": "cut"}) == [
        "tune", "r.jsonl", "--rank", "3", "--screen", "--rank", "8", "--too-long", "cut", "--valid", "0",
    ]  # fmt: skip
