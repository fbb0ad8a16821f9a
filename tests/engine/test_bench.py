"""The benchmark: its arithmetic on contestants whose time is known, and both engines on a tiny model."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from likely.app.cli.commands.bench import block, table
from likely.engine.base.errors import ParameterError
from likely.engine.decode.bench import Rate, plot, run, timed
from likely.engine.decode.session import Session
from likely.engine.weights.mlx_lm_baseline import MlxLm
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.model_info import describe
from likely.metal import mx
from likely.models.native_path.compiled import CompiledStep
from tests.engine.tiny import LLAMA, weights, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny", LLAMA, {name: mx.array(w) for name, w in weights(LLAMA).items()})


class Clockwork:
    """Takes exactly as long as it says, and remembers what it was asked for."""

    name = "clockwork"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def decode(self, ids: Sequence[int], tokens: int) -> tuple[float, list[float]]:
        self.asked.append(("decode", len(ids)))
        return len(ids) / 1000, [0.01 + 1e-5 * len(ids)] * (tokens - 1)

    def batch(self, ids: Sequence[int], branches: int, tokens: int) -> float:
        self.asked.append(("batch", len(ids)))
        return 0.5


def test_a_rate_is_amount_over_time_and_its_lower_quartile_is_the_slower() -> None:
    rate = Rate.of("x", "tokens/s", "a", 10, [1.0, 2.0, 4.0, 5.0, 10.0], bound=5.0)
    assert (rate.median, rate.lower) == (2.5, 2.0) and rate.spread == pytest.approx((5 - 2) / 2.5)
    assert rate.share == 0.5


@pytest.mark.slow
def test_contestants_take_turns_and_their_seconds_become_speeds(folder: Path) -> None:
    checkpoint, load_s = timed(lambda: load(folder))
    peer = Clockwork()
    bench = run(Session(checkpoint), peer, rounds=2, tokens=4, contexts=[8, 16], branches=3, prefill=32, load_s=load_s)
    one = [("decode", 32), ("decode", 8), ("decode", 16), ("batch", 8)]
    assert peer.asked == one * 3
    theirs = {rate.name: rate.median for rate in bench.rates if rate.contestant == "clockwork"}
    assert theirs["prefill 32"] == pytest.approx(1000) and theirs["3 answers at 8"] == pytest.approx(24)
    assert theirs["decode at 16"] == pytest.approx(1 / (0.01 + 16e-5))
    ours = {rate.name: rate for rate in bench.rates if rate.contestant == "likely"}
    assert set(ours) == set(theirs) and all(rate.median > 0 for rate in ours.values())
    assert bench.ratio("prefill 32") == pytest.approx(ours["prefill 32"].median / 1000)
    assert bench.weights_nbytes == sum(w.nbytes for w in weights(LLAMA).values())
    assert bench.cache_nbytes[16] == 2 * 2 * 16 * 2 * 16 * 4  # k and v, layers, rows, heads, size, float32


@pytest.mark.slow
def test_mlx_lm_gets_the_same_weights(folder: Path) -> None:
    checkpoint = load(folder)
    peer = MlxLm(describe(folder), mx.float32)
    tokens = mx.array([[1, 2, 3, 4]])
    assert mx.allclose(peer.model(tokens), checkpoint.model(tokens), atol=1e-4)
    first, each = peer.decode([1, 2, 3], 5)
    assert first > 0 and len(each) == 4 and peer.batch([1, 2, 3], 2, 3) > 0


def test_what_cannot_be_measured_is_refused(folder: Path) -> None:
    session = Session(load(folder))
    with pytest.raises(ParameterError, match="has 128 positions and this needs 520"):
        run(session, contexts=[64], tokens=8)
    with pytest.raises(ParameterError, match="at least 2 rounds"):
        run(session, contexts=[8], prefill=8, tokens=4, rounds=1)


@pytest.mark.slow
def test_the_table_has_a_line_a_contestant_and_what_is_pasted_into_an_issue_every_ratio(folder: Path) -> None:
    session = Session(load(folder))
    bench = run(session, Clockwork(), rounds=2, tokens=3, contexts=[4, 8, 16], branches=2, prefill=8)
    text = "\n".join(table(bench))
    assert "each token of context adds 10.00 µs" in text and "a line explains 100.0%" in text
    assert text.count("clockwork") == 6 and "of limit" in text and "x" in text
    assert bench.as_dict()["rates"][0]["unit"] == "tokens/s"
    assert [line.count("█") for line in plot({10: 1.0, 20: 2.0}, width=10)] == [5, 10]
    begin, *lines, end = block(bench, "float16 packed", "all 26 comparisons pass")[3:]
    assert begin == end == "```" and all(len(line.replace(str(folder), "")) < 120 for line in lines)
    text = "\n".join(lines)
    machine, version = bench.machine["chip"], f"mlx {bench.machine['versions']['mlx']}"
    for said in (machine, version, bench.model, "float16 packed", "kernels: all 26 comparisons pass"):
        assert said in text
    for name in {rate.name for rate in bench.rates}:
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert "likely " in line and "clockwork " in line and line.endswith(f": {bench.ratio(name):.2f}x")
    session.pool.step = CompiledStep(session.model, lambda step: step)  # measured beside those that are not
    bench = run(session, rounds=2, tokens=3, contexts=[4], branches=2, prefill=8)
    assert {rate.contestant for rate in bench.rates} == {"likely", "eager"}
    assert session.pool.step.traces and bench.ratio("decode at 4") is not None
