"""Words about speed, sizes and machines, from facts made by hand; what is read before a model is opened."""

import io
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from likely.app.cli.commands import bench, doctor, quantize
from likely.app.cli.options.opening import Progress, check_place, read_text, weighed_adapter
from likely.app.results import preflight
from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.bench import Bench, Growth, Rate
from likely.metal import tuning_cache
from tests.cli.conftest import Likely

RATES = [
    Rate("prefill", "tokens/s", "likely", 1234.56, 1200.0, 0.0456, 0.5),
    Rate("prefill", "tokens/s", "mlx-lm", 1000.0, 990.0, 0.01),
    Rate("decode at 64", "tokens/s", "likely", 50.0, 49.0, 0.1),
]  # fmt: skip
BENCH = Bench(
    "tiny", {"chip": "M9", "device": "metal", "memory": 17_179_869_184, "system": "macOS 15",
             "versions": {"likely": "1", "mlx": "2", "mlx-lm": "3"}},
    98.76, RATES, 12_345_678, {64: 1_000_000, 256: 4_000_000}, 987_654_321, 1.234, {"likely": {64: 2.0, 256: 4.0}},
    {"likely": Growth(12.345, 6.789, 0.98765)},
)  # fmt: skip


def test_speed_is_a_table() -> None:
    """Medians with their spread, and of the two engines how much faster ours is, from the numbers of the object."""
    lines = [*bench.table(BENCH), *bench.block(BENCH, "bfloat16", "tested")]
    said = "\n".join(lines)
    for words in ("1234.6", "1200.0", "1000.0", "1.23x", "50.0", "98.8 GB/s", "M9"):
        assert words in said, (words, said)
    assert not any("mlx-lm" in line for line in bench.table(replace(BENCH, load_s=None, growth={}, rates=RATES[:1])))


def test_what_fewer_bits_cost_is_told() -> None:
    report: Any = SimpleNamespace(
        path=Path("m-4bit"), nbytes=1_234_567_890, nbytes_before=4_000_000_000, weight_bits=4.5, kl=0.01234,
        kl_interval=(0.01, 0.015),
        tokens=2048, predicted=2032, flips=0.0345, perplexity=12.25, perplexity_before=12.0,
        cost=Estimate(0.028, 0.1, bounds=(0.02, 0.036)),
        worst=[("layers.0", 0.123), ("head", 0.05)],
    )  # fmt: skip
    assert quantize.lines(report) == [
        "m-4bit", "size          1,234.6 MB, 4.50 bits a weight (4,000.0 MB before)",
        "KL            0.0178 bits a token (0.0144 to 0.0216; 95 %, 2,048 tokens held out)", "top-1 flips   3.5%",
        "perplexity    12.00 before, 12.25 after (+0.0404 bits a token, +0.0289 to +0.0519); "
        "predicted 2,032 of 2,048 tokens",
        "worst layers  layers.0 12.3%, head 5.0% (error of what the layer adds)",
    ]  # fmt: skip
    report.nbytes_before = 98_000_000
    assert quantize.lines(report)[1].endswith("(98.0 MB before, so it is larger)")
    report.worst = []
    assert len(quantize.lines(report)) == 5


def test_an_adapter_has_its_weight() -> None:
    assert [weighed_adapter(given) for given in ("a", "a=0.5", "a=b=-2", "=1")] == [
        ("a", 1.0), ("a", 0.5), ("a=b", -2.0), ("", 1.0),
    ]  # fmt: skip
    with pytest.raises(click.UsageError, match="takes FOLDER or FOLDER=WEIGHT, got a=x: x is no number"):
        weighed_adapter("a=x")


def test_a_text_is_an_argument_or_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(data: bytes, terminal: bool) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: terminal, buffer=io.BytesIO(data)))

    assert read_text("words", "TEXT") == "words" and read_text("", "TEXT") == ""
    for terminal in (True, False):
        typed("é".encode(), terminal)
        assert read_text("-", "TEXT") == "é"
    typed(b"in", False)
    assert read_text(None, "TEXT") == "in"
    typed(b"in", True)
    with pytest.raises(click.UsageError, match="missing TEXT: give it as an argument or on standard input"):
        read_text(None, "TEXT")
    typed(b"a\xff", False)
    with pytest.raises(DataError, match="standard input must be UTF-8, got the byte 0xff at offset 1"):
        read_text("-", "TEXT")


def test_a_run_is_saved_where_a_file_can_be(tmp_path: Path) -> None:
    check_place(None), check_place(tmp_path / "x")
    with pytest.raises(DataError, match="--save takes the name of a file, got the folder"):
        check_place(tmp_path)
    with pytest.raises(DataError, match="nowhere is no folder: make it first"):
        check_place(tmp_path / "nowhere" / "x")


def test_progress_is_one_line_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    with Progress() as progress:
        progress.show("hidden", 1, 2)
    assert out.getvalue() == ""
    out.isatty = lambda: True  # type: ignore[method-assign]
    with Progress() as progress:
        for stage, done, total in (("a\nb", 1, 2), ("a\nb", 1, 2), ("get", 500_001, 1_000_001), ("wait", 0, 0)):
            progress.show(stage, done, total)
    assert out.getvalue().split("\r\x1b[K")[1:] == [
        f"a b {'█' * 12}{' ' * 12}  50%", f"get {'█' * 12}{' ' * 12}  50% of 1 MB", "wait", "",
    ]  # fmt: skip
    monkeypatch.setenv("COLUMNS", "44")  # what is longer would wrap, and not be rewritten
    with Progress() as progress:
        progress.show("looking at what it learns", 1, 2)
        progress.show("x" * 50, 0, 0)
    lines = out.getvalue().split("\r\x1b[K")[-3:-1]
    assert lines == [f"looking at w… {'█' * 12}{' ' * 12}  50%", "x" * 41 + "…"]


def mac(monkeypatch: pytest.MonkeyPatch, arm64: str, macos: str) -> None:
    """This machine says that it is a Mac; its own programs say this."""
    said = {"sysctl": arm64, "sw_vers": macos}

    def run(command: Any, **_: Any) -> Any:
        return SimpleNamespace(stdout=said[Path(command[0]).name] + "\n", returncode=0)

    monkeypatch.delenv("LIKELY_METAL")
    monkeypatch.setattr("mlx.core.metal.is_available", lambda: False)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("14.9", (), ""))
    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.parametrize("answers", [("1", "15.1"), ("", "")])
def test_a_mac_is_looked_at_by_its_own_programs(answers: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Which say nothing where they are missing: then the version is Python's."""
    mac(monkeypatch, *answers)
    host = preflight.inspect()
    assert (host.apple_silicon, host.macos) == ((True, "15.1") if answers[0] else (False, "14.9"))
    assert host.python == sys.version_info[:3]


@pytest.mark.slow(4)
@pytest.mark.parametrize("arm64", ["1", "0"])
def test_a_mac_that_cannot_run_models_is_told_what_to_do(
    likely: Likely, monkeypatch: pytest.MonkeyPatch, arm64: str
) -> None:
    mac(monkeypatch, arm64, "13.6")
    code, out, _ = likely("doctor")
    processor = "is an Intel Python, run by Rosetta" if arm64 == "1" else "this Mac has an Intel processor"
    for line in (
        processor, "macOS         WRONG: macOS 13.6: mlx needs 14 or later", "Python        ok",
        "kernels       reference (no Metal here)", "off: not known to pay on cpu", "slow: mlx finds no Metal device",
    ):  # fmt: skip
        assert line in out
    assert code == 0 and "system        macOS 14.9" in out


@pytest.mark.slow(4)
def test_a_mac_with_metal_says_what_is_known_of_its_kernels(
    likely: Likely, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mac(monkeypatch, "1", "15.1")
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr("mlx.core.metal.is_available", lambda: True)
    monkeypatch.setattr("mlx.core.device_info", lambda *_: {"device_name": "Apple M4 Pro"})
    code, out, _ = likely("doctor")
    for line in (
        "processor     ok: Apple Silicon", "macOS         ok: 15.1", "device        metal: Apple M4 Pro",
        "compile       mx.compile for the models", "kernels       not tested on this chip yet",
        "native        off: a GPU runs the graph",
    ):  # fmt: skip
        assert line in out
    assert code == 0 and "no Metal device" not in out
    record = tuning_cache.blank()
    record.verdicts, record.faster = {"a": "the same", "b": "the same"}, {"a": True, "b": False, "c": True}
    tuning_cache.save(record)
    taken = "ours taken in 2 of 3 measured cases, stock elsewhere"
    assert doctor.kernels() == f"all 2 comparisons pass; {taken}"
    record.switched_off = {"attention.wide": "it is off by 0.3"}
    tuning_cache.save(record)
    off = f"attention.wide is off: it is off by 0.3; {taken}; to test again: likely doctor --retest"
    assert doctor.kernels() == off
    _, out, _ = likely("doctor", "--retest")
    assert "kernels       not tested on this chip yet" in out and tuning_cache.load() is None


def test_this_machine_is_told_as_an_object(likely: Likely, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIKELY_MODELS", str(tmp_path))
    code, out, _ = likely("doctor", "--json")
    told = json.loads(out)
    assert code == 0 and told["gflops"] > 0 and told["store"] == str(tmp_path / "home") and told["threads"] != 0
