"""Facts of a machine and speeds of scripted contestants, journals, folders of data, and numbers that are none."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import bench, home, json_reader, machine, numerics, ranks
from engine.bench import Bench, Growth, Rate, cache_nbytes, plot, run
from engine.errors import ConfigError, DataError, NotFinite, ParameterError
from engine.execution import PATHS
from engine.journal import Journal, opened
from engine.machine import Machine, advice
from metal import mx


def this(**more: Any) -> Machine:
    told = {
        "system": "Linux 6",
        "chip": "c",
        "device": "cpu",
        "cores": 4,
        "memory": 1,
        "blas": "tuned",
        "blas_path": "",
        "blas_reason": "no wheel",
        "threads": None,
        "one_row": True,
        "compiles": False,
        "versions": {},
    }
    return Machine(**{**told, **more})  # type: ignore[arg-type]


def test_what_is_slow_is_said_and_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    for facts, speed, lines in (
        ({}, 20.0, []),
        ({}, 19.9, ["reaches only 20 GFLOP/s"]),
        ({"device": "metal"}, 1.0, []),
        ({"blas": "reference"}, 1.0, ["100 times slower than they could be: no wheel"]),
        ({"blas": "reference", "device": "metal"}, 99.0, ["100 times"]),
        ({"threads": 1}, 99.0, ["4 cores, but they were busy"]),
        ({"threads": 1, "cores": 1}, 99.0, []),
        ({"threads": 2}, 99.0, []),
        ({"system": "Darwin 24"}, 99.0, ["mlx finds no Metal device"]),
        ({"system": "Darwin 24", "device": "metal"}, 99.0, []),
        ({"threads": 1}, 1.0, ["reaches only 1 GFLOP/s", "busy when the program began"]),
    ):
        found = advice(this(**facts), speed)
        assert len(found) == len(lines) and all(line in told for line, told in zip(lines, found, strict=True)), facts
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert advice(this(threads=1), 99.0) == []


def test_facts_are_those_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = machine.inspect()
    assert (
        found.memory == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        and found.device == "cpu"
        and found.chip
    )
    assert found.cores == len(os.sched_getaffinity(0)) and set(found.versions) == set(machine.PACKAGES)
    assert found.versions["numpy"] == np.__version__
    monkeypatch.setattr(machine, "PACKAGES", ("no-such-package",))
    assert machine.versions() == {"no-such-package": "missing"}
    monkeypatch.setattr(machine.platform, "mac_ver", lambda: ("15.2", "", ""))
    assert machine._system() == "macOS 15.2"
    monkeypatch.setattr(machine.platform, "mac_ver", lambda: ("", "", ""))
    assert machine._system() == f"{machine.platform.system()} {machine.platform.release()}"
    for metal, cuda, device in (
        (True, False, "metal"),
        (False, True, "cuda"),
        (True, True, "metal"),
        (False, False, "cpu"),
    ):
        monkeypatch.setattr(machine.mx.metal, "is_available", lambda metal=metal: metal)
        monkeypatch.setattr(machine.mx.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(machine, "_chip", lambda: "chip")
        assert machine.inspect().device == device
    told = tmp_path / "status"
    told.write_text("VmPeak:  9 kB\nVmHWM:\t  7 kB\n")
    monkeypatch.setattr(machine, "Path", lambda name: told)
    assert machine.peak_memory() == 7 * 1024
    told.write_text("nothing")
    resource = __import__("resource")
    assert machine.peak_memory() >= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * 0.9


def test_speeds_are_work_over_the_best_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.5, 0.25, 1.0] * 3)
    monkeypatch.setattr(machine, "_seconds", lambda lazy: next(seconds))
    assert machine.gflops(3) == pytest.approx(2 * 768**3 / 0.25 / 1e9)
    monkeypatch.setattr(machine, "WEIGHT", 4 * 768 * 10)
    assert machine.bandwidth(3) == pytest.approx(4 * 768 * 10 / 0.25 / 1e9)


# -- speeds ------------------------------------------------------------------------------------------------------------


class Steady:
    """Takes as long as it says, more with every round, and remembers what it was asked."""

    def __init__(self, name: str, slow: float = 1.0) -> None:
        self.name, self.slow, self.asked = name, slow, list[Any]()

    def decode(self, ids: Sequence[int], tokens: int) -> tuple[float, list[float]]:
        self.asked.append(("decode", len(ids), tokens))
        first = 99.0 if len(self.asked) <= 4 else 0.1 * self.slow  # the first round warms up
        return first, [99.0 if len(self.asked) <= 4 else 0.001 * len(ids) * self.slow] * (tokens - 1)

    def batch(self, ids: Sequence[int], branches: int, tokens: int) -> float:
        self.asked.append(("batch", len(ids), branches, tokens))
        return 99.0 if len(self.asked) <= 4 else 0.5 * self.slow


def scripted(monkeypatch: pytest.MonkeyPatch, on: bool = True, **config: Any) -> tuple[Any, dict[str, Steady]]:
    made: dict[str, Steady] = {}

    def contestant(session: Any, eager: bool = False) -> Steady:
        return made.setdefault(
            "eager" if eager else "likely", Steady("eager" if eager else "likely", 4.0 if eager else 1.0)
        )

    monkeypatch.setattr(bench, "EngineContestant", contestant)
    monkeypatch.setattr(machine, "peak_memory", lambda: 77)
    monkeypatch.setattr(machine, "bandwidth", lambda: 2.0)
    shape = {"vocab_size": 50, "windows": (0, 8, 0), "kv_heads": 2, "head_size": 4, **config}
    model = SimpleNamespace(config=SimpleNamespace(**shape), arrays={"a": mx.zeros(100)}, dtype=mx.float16)
    session: Any = SimpleNamespace(
        context=64,
        model=model,
        tokenizer=SimpleNamespace(vocab_size=20),
        info=SimpleNamespace(name="m"),
        pool=SimpleNamespace(step=SimpleNamespace(on=on)),
    )
    return session, made


def test_contestants_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    session, made = scripted(monkeypatch)
    peer, told = Steady("peer", 2.0), list[Any]()
    found = run(
        session,
        peer,
        rounds=2,
        tokens=3,
        contexts=[10, 20],
        branches=5,
        prefill=30,
        load_s=1.5,
        progress=lambda *step: told.append(step),
    )
    one = [("decode", 30, 1), ("decode", 10, 3), ("decode", 20, 3), ("batch", 10, 5, 3)]
    assert peer.asked == made["likely"].asked == made["eager"].asked == one * 3
    assert told == [("measuring", i, 36) for i in range(36)]
    rates = {(rate.name, rate.contestant): rate for rate in found.rates}
    assert [name for name, who in rates if who == "peer"] == [
        "prefill 30",
        "decode at 10",
        "decode at 20",
        "5 answers at 10",
    ]
    for who, slow in (("likely", 1.0), ("peer", 2.0), ("eager", 4.0)):
        assert (
            rates["prefill 30", who].median == pytest.approx(30 / (0.1 * slow))
            and rates["prefill 30", who].share is None
        )
        assert rates["decode at 20", who].median == pytest.approx(1 / (0.02 * slow))
        assert rates["5 answers at 10", who].median == pytest.approx(15 / (0.5 * slow))
        assert (
            found.token_ms[who] == {10: pytest.approx(10 * slow), 20: pytest.approx(20 * slow)}
            and found.growth[who] is None
        )
    held = {context: 2 * (2 * context + 8) * 2 * 4 * 2 for context in (10, 20)}
    assert found.cache_nbytes == held and rates["decode at 20", "likely"].share == pytest.approx(
        50 / (2e9 / (400 + held[20]))
    )
    assert (found.model, found.bandwidth, found.weights_nbytes, found.peak_nbytes, found.load_s) == (
        "m",
        2.0,
        400,
        77,
        1.5,
    )
    assert (
        found.ratio("prefill 30") == pytest.approx(2.0)
        and found.ratio("none") is None
        and found.as_dict()["load_s"] == 1.5
    )
    alone, _ = scripted(monkeypatch, on=False)
    only = run(alone, rounds=2, tokens=2, contexts=[4, 8, 16], prefill=4)
    assert (
        {rate.contestant for rate in only.rates} == {"likely"}
        and only.ratio("prefill 4") is None
        and only.load_s is None
    )
    growth = only.growth["likely"]
    assert (
        growth is not None
        and growth.slope_us == pytest.approx(1000)
        and {rate.name for rate in only.rates} >= {"8 answers at 4"}
    )


def test_what_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = scripted(monkeypatch)
    run(session, rounds=2, tokens=4, contexts=[60], prefill=4)
    run(session, rounds=2, tokens=4, contexts=[4], prefill=60)
    for how, line in (
        ({"tokens": 5, "contexts": [60], "prefill": 4}, "m has 64 positions and this needs 65"),
        ({"tokens": 5, "contexts": [4], "prefill": 60}, "needs 65"),
        ({"rounds": 1, "tokens": 2, "contexts": [4], "prefill": 4}, "got 1 of 2"),
        ({"rounds": 2, "tokens": 1, "contexts": [4], "prefill": 4}, "got 2 of 1"),
    ):
        with pytest.raises(ParameterError, match=line):
            run(session, **how)  # type: ignore[arg-type]


def test_prompts_are_of_tokens_that_both_know(monkeypatch: pytest.MonkeyPatch) -> None:
    for vocab, known in ((50, 20), (20, 20), (7, 7)):
        session, _ = scripted(monkeypatch, vocab_size=vocab)
        ids = bench._prompt(session, 40)
        assert (
            ids == np.random.default_rng(40).integers(0, known, 40).tolist()
            and cache_nbytes(session, 4) == 2 * 12 * 2 * 4 * 2
        )


def test_bars_and_rates_and_lines() -> None:
    assert plot({8: 1.0, 16: 2.0}, width=4) == ["      8 ██       1.00 ms", "     16 ████     2.00 ms"]
    assert (
        plot({8: 1.0, 1000: 32.0}, width=4)[0] == "      8 ▏        1.00 ms"
        and plot({5: 7.0, 6: 8.0})[0].count("█") == 35
    )
    rate = Rate.of("n", "u", "c", 12.0, [1.0, 2.0, 3.0, 4.0, 6.0])
    assert (rate.median, rate.lower, rate.spread, rate.share) == (4.0, 3.0, pytest.approx((6 - 3) / 4), None)
    held = {1: 10, 2: 30, 4: 70}
    line = Growth.of({1: 1.0, 2: 3.0, 4: 4.0}, held, 0.5)
    x, y = np.array([1, 2, 4.0]), np.array([1, 3, 4.0])
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    rest = ((y - y.mean() - slope * (x - x.mean())) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert (
        line is not None
        and line.slope_us == pytest.approx(1e3 * slope)
        and line.bound_us == pytest.approx(20 / 0.5 / 1e3)
    )
    assert line.r2 == pytest.approx(1 - rest) and Growth.of({1: 1.0, 2: 1.0}, held, 1.0) is None
    flat = Growth.of({1: 2.0, 2: 2.0, 4: 2.0}, held, 1.0)
    assert flat is not None and flat.r2 == pytest.approx(1.0)
    assert Bench("m", {}, 1.0, [], 0, {}, 0).token_ms == {} and {path.path for path in PATHS} == {"native", "graph"}


# -- journals and folders ----------------------------------------------------------------------------------------------


def test_a_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a" / "j"
    first = Journal(path, {"of": 1})
    first.add({"n": 1})
    first.add({"n": 2})
    first.close()
    assert path.read_text() == '{"of": 1}\n{"n": 1}\n{"n": 2}\n' and first.entries == [{"n": 1}, {"n": 2}]
    with path.open("a") as file:
        file.write('{"n": 3}')  # cut before its line ended
    again = Journal(path, {"of": 1}, {"n": int})
    assert again.entries == [{"n": 1}, {"n": 2}] and path.read_text().endswith('{"n": 2}\n')
    again.add({"n": 4})
    again.close()
    with opened(path, {"of": 1}) as third:
        assert third.entries == [{"n": 1}, {"n": 2}, {"n": 4}]
    for head, line in (
        ({"of": 2}, "belongs to a run with another of: choose"),
        ({"of": 1, "by": 3}, "another by:"),
        ({"if": 1}, "another if, of:"),
    ):
        with pytest.raises(DataError, match=line):
            Journal(path, head)
    for text, schema in (('{"of": 1}\n{]\n', dict), ('{"of": 1}\n{"n": "x"}\n', {"n": int}), ("[]\n", dict)):
        path.write_text(text)
        with pytest.raises(DataError, match="is damaged: move it away"):
            Journal(path, {"of": 1}, schema)
    path.write_text('{"of"')
    with opened(path, {"of": 1}) as fresh:
        assert fresh.entries == [] and path.read_text() == '{"of": 1}\n'
    with pytest.raises(DataError, match=r"cannot open .*: Is a directory"):
        Journal(tmp_path, {})
    memory = Journal(None, {"of": 1})
    memory.add({"n": 1})
    memory.close()
    assert memory.entries == [{"n": 1}] and json_reader.parse(json.dumps(memory.entries)) == [{"n": 1}]


def test_an_entry_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j", {})
    journal.add({"n": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("engine.journal.os.fsync", full)
        with pytest.raises(DataError, match=r"cannot write .*: No space left on device; make room"):
            journal.add({"n": 2})
    assert journal.entries == [{"n": 1}] and (tmp_path / "j").read_text() == '{}\n{"n": 1}\n'
    real = journal._file
    assert real is not None
    slow: Any = SimpleNamespace(
        write=lambda data: real.write(data[:3]),
        seek=real.seek,
        fileno=real.fileno,
        truncate=real.truncate,
        close=real.close,
    )
    journal._file = slow
    journal.add({"n": 33})
    journal.close()
    assert (tmp_path / "j").read_text() == '{}\n{"n": 1}\n{"n": 33}\n'


def test_over_ranks_the_journal_is_rank_0s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for leads in (True, False):
        together = SimpleNamespace(leads=leads, broadcast=lambda value: [{"n": 9}])
        monkeypatch.setattr(ranks, "_joined", together)
        with opened(tmp_path / str(leads), {}) as journal:
            assert journal.entries == [{"n": 9}] and (tmp_path / str(leads)).exists() == leads


def test_data_are_kept_where_the_system_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LIKELY_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.home() == tmp_path / ".local/share/likely"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert home.home() == Path("/data/likely")
    monkeypatch.setattr(home.sys, "platform", "darwin")
    assert home.home() == tmp_path / "Library/Application Support/likely"
    monkeypatch.setenv("LIKELY_HOME", "~/x")
    assert home.home() == tmp_path / "x" and home.expanded("~nobody-here/x") == Path("~nobody-here/x")
    monkeypatch.delenv("LIKELY_HOME")
    monkeypatch.setattr(home.os.path, "expanduser", lambda path: path)
    with pytest.raises(ParameterError, match="set LIKELY_HOME"):
        home.home()


# -- numbers that are none ---------------------------------------------------------------------------------------------


def test_logits_that_are_none_are_refused() -> None:
    numerics.require_finite(np.array([-np.inf, 1.0]))
    for row in ([np.nan, 1.0], [np.inf, 0.0], [-np.inf, -np.inf]):
        with pytest.raises(NotFinite, match="they hold NaN or infinity"):
            numerics.require_finite(np.array(row))


def test_the_first_place_without_numbers_is_named() -> None:
    def at(layer: int | None, token: int) -> Any:
        hidden = [mx.ones((1, 4, 3))] * 3
        if layer is not None:
            hidden[layer] = mx.where((mx.arange(4) == token)[None, :, None], mx.nan, hidden[layer])
        return SimpleNamespace(inspect=lambda ids: SimpleNamespace(hidden=hidden), dtype=mx.float16)

    assert numerics.not_finite(mx.ones((1, 2, 3)), 1) == ""
    for layer, token, line in (
        (0, 0, "after token 1 (the embedding is the first)"),
        (2, 3, "after token 4 (layer 2 is the first)"),
        (None, 0, "after token 4 (the head is the first)"),
    ):
        assert numerics.first_not_finite(at(layer, token), [1, 2, 3, 4], [1]) == line
    later = at(1, 2)
    calls = iter([at(None, 0).inspect(None), later.inspect(None)])
    assert (
        numerics.first_not_finite(SimpleNamespace(inspect=lambda ids: next(calls)), [1], [1, 2, 3])
        == "after token 3 (layer 1 is the first)"
    )  # type: ignore[arg-type]

    def blind(ids: mx.array) -> Any:
        raise ConfigError("no inside")

    assert numerics.first_not_finite(SimpleNamespace(inspect=blind), [1, 2]) == "after 2 tokens"  # type: ignore[arg-type]
    told = str(numerics.damaged("m", at(2, 3), [1, 2, 3, 4]))
    narrow = "float16 is too narrow for it, or its weights are damaged, fetch it again"
    assert told == f"m gives NaN after token 4 (layer 2 is the first): {narrow}"
    wide = at(2, 3)
    wide.dtype = mx.float32
    assert "too narrow" not in str(numerics.damaged("m", wide, [1])) and "float32" not in str(
        numerics.damaged("m", SimpleNamespace(inspect=blind), [1])
    )  # type: ignore[arg-type]
    assert str(numerics.damaged_at("m", "here")) == "m gives NaN here: its weights are damaged, fetch it again"
