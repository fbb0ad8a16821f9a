"""Tables of runs as they are read, plans of ladders, what they cost, and what their runs gave."""

import math
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.measure.scaling.cost import SpeedProbe, chosen, cost
from likely.engine.measure.scaling.plan import ScalingRun, SweepPlan, amount, read_plan
from likely.engine.measure.scaling.sweep import LeftOut, MappedColumn, ScalingSweep, mapping, read_runs


def table(tmp_path: Path, text: str, **how: Any) -> tuple[ScalingSweep, list[LeftOut]]:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    return read_runs(path, how.pop("mapped", {}), **how)


def test_rows_that_no_law_is_about_are_left_out_with_their_reason(tmp_path: Path) -> None:
    runs, left = table(
        tmp_path,
        "run,parameters,tokens,loss,embedding,seconds\n"
        "a,1e6,2e7,3,0,5\nb,x,2e7,3,0,5\nc,1e6,2e7,nan,0,5\n\nd,1e6,0,3,0,5\ne,1e6,2e7,-1,0,5\n"
        "f,1e6,2e7,3,1e6,5\ng,2e6,4e7,2.5,1e5,inf\nh,1e6,2e7,3\n",
    )
    assert runs.run is not None and runs.run.tolist() == ["a", "g"] and runs.row.tolist() == [2, 9]
    assert runs.embedding is not None and runs.embedding.tolist() == [0, 1e5]
    assert runs.seconds is not None and runs.seconds[0] == 5 and math.isnan(runs.seconds[1])
    assert [(each.row, each.run, each.reason) for each in left] == [
        (3, "b", "parameters is no number: 'x'"), (4, "c", "it diverged: its loss is nan"),
        (6, "d", "tokens must be above 0 and finite, got 0"), (7, "e", "loss must be above 0 and finite, got -1"),
        (8, "f", "embedding parameters must be fewer than all, got 1e+06"), (10, "h", "embedding is no number: ''"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="such a run cannot be kept: leave out --keep-all"):
        read_runs(tmp_path / "runs.csv", {}, keep_all=True)


def test_columns_are_mapped_and_multiplied(tmp_path: Path) -> None:
    assert mapping(["tokens=D (B)*1e9", "loss=a*b", "parameters=N"]) == {
        "tokens": MappedColumn("D (B)", 1e9), "loss": MappedColumn("a*b"), "parameters": MappedColumn("N", 1.0)
    }  # fmt: skip
    for text in ("tokens", "tokens=", "other=x", "=x"):
        with pytest.raises(ParameterError, match="--map takes NAME=COLUMN"):
            mapping([text])
    for text in ("tokens=x*0", "tokens=x*-1", "tokens=x*inf", "tokens=x*nan"):
        with pytest.raises(ParameterError, match="multiplies by a number above 0"):
            mapping([text])
    runs, left = table(tmp_path, "N,D,loss\n1,2,3\n2,9,2\n", mapped=mapping(["parameters=N*1e6", "tokens=D*1e7"]))
    assert runs.parameters.tolist() == [1e6, 2e6] and runs.tokens.tolist() == [2e7, 9e7] and left == []
    assert runs.compute.tolist() == [6 * 2e13, 6 * 18e13] and len(runs) == 2 and runs.run is None
    few = "parameters,tokens,loss\n1e6,1,3\n1e6,1,2\n1e6,2e6,2\n"
    with pytest.raises(DataError, match="2 of 3 runs saw fewer tokens than they have parameters"):
        table(tmp_path, few)
    assert len(table(tmp_path, few, keep_all=True)[0]) == 3
    for text, line in (
        ("parameters,tokens\n1,2\n", "has no column 'loss'"), ("tokens,loss\n1,2\n", "has no column 'parameters'"),
        ("parameters,loss\n1,2\n", "has no column 'tokens'"), ("", "has no column 'parameters', but no header"),
        ("parameters,tokens,loss,loss\n1,2,3,4\n", r"has column 'loss' \(loss\) twice"),
        ("parameters,tokens,loss\n", "has no run to fit"),
        ("parameters,tokens,loss\n1,2,x\n", "has no run to fit: row 2: loss is no number"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=line):
            table(tmp_path, text)
    with pytest.raises(DataError, match=r"has column 'Los' \(loss\) not; did you mean 'Loss'\?"):
        table(tmp_path, "parameters,tokens,Loss\n1,2,3\n", mapped={"loss": MappedColumn("Los")})


@pytest.mark.parametrize(
    ("written", "number"),
    [("15k", 15e3), ("1.5M", 1.5e6), ("2B", 2e9), ("2G", 2e9), ("3T", 3e12), ("1_000", 1e3), (" 7 ", 7.0), (1e4, 1e4)],
)
def test_amounts_are_numbers_with_a_letter(written: Any, number: float) -> None:
    assert amount("x", written) == number


@pytest.mark.parametrize("written", ["", "k", "0", "-1", "inf", "nan", "1kk", True, None])
def test_what_is_no_amount_is_refused_by_its_name(written: Any) -> None:
    with pytest.raises(ParameterError, match="sizes takes numbers above 0 such as 150k"):
        amount("sizes", written)


def test_a_plan_is_read_with_its_defaults_and_its_paths(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('sizes = ["999k", 1000e3, "2.5B", 1234567]\ntokens = ["1M"]\nlayout = "grid"\nout = "here"\n')
    plan = read_plan(path)
    assert plan.sizes == ("999k", "1M", "1.23457M", "2.5B") and plan.tokens == (1e6,) and plan.compute == ()
    assert plan.out == tmp_path / "here" and plan.seeds == (0,) and plan.ratios == (1.0, math.inf)
    for seeds, there in ((5000, True), (5001, False)):
        path.write_text(f"sizes = [1e3, 2e3]\ncompute = [1e9]\nseeds = {list(range(seeds))}\n")
        if there:
            assert len(read_plan(path).seeds) == 5000
        else:
            with pytest.raises(DataError, match="are over 10000 runs"):
                read_plan(path)
    for text, line in (
        ("seeds = [-1]", "seeds takes whole numbers from 0 on"), ("ratios = [1, 2, 3]", "ratios takes the fewest"),
        ("out = ''", "out takes the name of a folder"), ("training = 3", "training must be a table"),
        ("seeds = []", "seeds takes a list of at least one"),
    ):  # fmt: skip
        path.write_text(f"sizes = [1e3]\ncompute = [1e9]\n{text}\n")
        with pytest.raises(DataError, match=line):
            read_plan(path)


def test_rungs_are_sorted_by_compute_and_seed() -> None:
    plan = SweepPlan(("1k", "4k"), "isoflop", compute=(6e7, 6e6), seeds=(1, 0), ratios=(1.0, 10.0))
    rungs, left = plan.rungs({"1k": 1000, "4k": 4000})
    assert [(r.size, r.tokens, r.seed) for r in rungs if r.size == "1k"] == [
        ("1k", 1000, 0), ("1k", 1000, 1), ("1k", 10000, 0), ("1k", 10000, 1)
    ]  # fmt: skip
    assert len(left) == 2 and "4k on 250 tokens: 0.0625 a parameter, not 1 to 10" in left
    assert ScalingRun("1k", 1000, 7, 3).name == "1k-7-3" and ScalingRun("1k", 1000, 7, 3).compute == 6 * 7000


def test_costs_follow_the_probes_in_logarithms() -> None:
    rungs = [ScalingRun(str(n), n, 1000, 0) for n in (10, 100, 1000, 10_000)]
    probes = [SpeedProbe(1000, 4.0, 7.0, 50), SpeedProbe(100, 1.0, 3.0, 90)]
    found = cost(rungs, probes)
    own = [1.0, 1.0, 4.0, 16.0]  # seconds a token: below the least as there, above the most along the last line
    beside = [3.0, 3.0, 7.0, 7.0]
    assert found.seconds == pytest.approx([1000 * a + b for a, b in zip(own, beside, strict=True)])
    assert found.memory == 90 and found.total_s == pytest.approx(sum(found.seconds))
    assert found.rate == pytest.approx(sum(r.compute for r in rungs) / found.total_s)
    single = cost(rungs[1:3], probes[1:])
    assert single.seconds == pytest.approx([1003, 10_003])  # of one probe, in proportion
    assert cost([], []).memory == 0 and SpeedProbe(1, 1.0, 1.0).memory == 0
    sizes = {name: n for n, name in enumerate("edcba")}
    assert chosen(sizes) == ["e", "c", "a"] and chosen({"x": 2, "y": 1}) == ["y", "x"] and chosen({"x": 1}) == ["x"]
