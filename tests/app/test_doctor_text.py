"""Words about a machine, its models and its speed, of facts made by hand."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from app import preflight
from app.cli import bench, choosing, doctor, kernel_table, opening, quantize
from app.cli import likely as program
from app.cli.opening import Progress, check_place, read_text, weighed_adapter
from app.preflight import Check, Host
from engine import machine
from engine.bench import Bench, Growth, Rate
from engine.errors import CheckpointError, DataError
from engine.evaluate.estimates import Estimate
from engine.sources import catalogue, preferences, store
from metal import packed, tuning_cache
from metal.autotune import KernelTimings, Timing
from metal.tuning_cache import Record
from tests.pictures import assert_picture

Captured = pytest.CaptureFixture[str]
MACHINE = machine.Machine(
    "Linux 6.1",
    "Xeon",
    "cpu",
    8,
    17_179_869_184,
    "OpenBLAS",
    "/lib/blas.so",
    "",
    4,
    True,
    True,
    {"likely": "1", "mlx": "2"},
)


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine of which nothing is measured."""
    given = SimpleNamespace(
        machine=MACHINE,
        advice=["mend this"],
        native=("off: no", ""),
        checks=[Check("Python", True, "3.11"), Check("macOS", False, "old")],
    )
    monkeypatch.setattr(machine, "inspect", lambda: given.machine)
    monkeypatch.setattr(machine, "gflops", lambda: 123.4)
    monkeypatch.setattr(machine, "bandwidth", lambda: 12.34)
    monkeypatch.setattr(machine, "advice", lambda found, gflops: given.advice)
    monkeypatch.setattr(preflight, "inspect", lambda: None)
    monkeypatch.setattr(preflight, "checks", lambda host: given.checks)
    monkeypatch.setattr(doctor, "kernels", lambda: "tested")
    monkeypatch.setattr(doctor, "native", lambda: given.native)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=7_600_000_000))
    monkeypatch.setenv("LIKELY_HOME", "/likely")
    return given


def test_a_machine_is_a_line_a_fact(facts: Any) -> None:
    first = CliRunner().invoke(program, ["doctor"]).output
    facts.machine = replace(MACHINE, threads=None, one_row=False, compiles=False, device="metal")
    facts.advice, facts.native, facts.checks = [], ("packed", "to float32: KL 0"), []
    assert_picture("app/pictures/doctor.txt", first + CliRunner().invoke(program, ["doctor"]).output)
    told = json.loads(CliRunner().invoke(program, ["doctor", "--json"]).output)
    assert told["store"] == "/likely" and told["store_free"] == 7_600_000_000 and told["gflops"] == 123.4
    assert told["rounding"] == "to float32: KL 0" and len(told["paths"]) == 15 and told["preflight"] == []
    facts.native = ("off: no", "")
    assert json.loads(CliRunner().invoke(program, ["doctor", "--json"]).output)["paths"] == []


def test_a_retest_forgets_first(facts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[int] = []
    monkeypatch.setattr(tuning_cache, "forget", lambda: forgotten.append(1))
    CliRunner().invoke(program, ["doctor"])
    assert forgotten == []
    CliRunner().invoke(program, ["doctor", "--retest"])
    assert forgotten == [1]


def test_kernels_are_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from metal import device

    monkeypatch.setattr(device, "device", lambda: SimpleNamespace(metal=False))
    assert doctor.kernels() == "reference (no Metal here)"
    monkeypatch.setattr(device, "device", lambda: SimpleNamespace(metal=True))
    record: list[Record | None] = [None]
    monkeypatch.setattr(tuning_cache, "load", lambda: record[0])
    untested = "not tested on this chip yet: loading a model does it, once"
    assert doctor.kernels() == untested
    record[0] = Record("c", "s", "m", "t")
    assert doctor.kernels() == untested
    record[0] = Record("c", "s", "m", "t", {"a": "", "b": ""}, {}, {"x": True, "y": False})
    assert doctor.kernels() == "all 2 comparisons pass; ours taken in 1 of 2 measured cases, stock elsewhere"
    record[0] = Record("c", "s", "m", "t", {}, {"tiles": "wrong", "decode": "slow"}, {})
    assert doctor.kernels() == (
        "tiles is off: wrong; decode is off: slow; ours taken in 0 of 0 measured cases, stock elsewhere; "
        "to test again: likely doctor --retest"
    )
    assert (
        doctor._compile("cpu", False) == "off: not known to pay on cpu"
        and doctor._compile("metal", False) == "off by LIKELY_COMPILE=0"
    )
    assert doctor._compile("cpu", True).startswith("mx.compile for the models")


def test_models_that_stay_packed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.evaluate import activation_rounding
    from engine.evaluate.activation_rounding import ActivationRounding
    from engine.sources import checkpoint

    library: list[Any] = [None]
    monkeypatch.setattr(packed, "load", lambda: library[0])
    monkeypatch.setattr(packed, "available", lambda: False)
    assert doctor.native() == ("off: no kernels for this processor", "")
    library[0] = SimpleNamespace(kernels="avx2")
    assert doctor.native() == (f"off: LIKELY_PACKED={packed.OFF}", "")
    monkeypatch.setattr(packed, "available", lambda: True)
    here: list[Any] = [
        type("", (), {"name": n, "parameters": p, "path": n})() for n, p in (("a", 30), ("b", 20), ("c", 10))
    ]
    monkeypatch.setattr(store, "list", lambda: here)
    monkeypatch.setattr(checkpoint, "not_native", lambda info: "odd" if info.name == "c" else None)
    monkeypatch.setattr(checkpoint, "load", lambda path: path)
    found = [
        ActivationRounding(packed.SIXTEEN, 100, 0.00123, 0.5, 2e-4, 3e-3, 1),
        ActivationRounding(packed.FULL, 100, 0.0, 1e-9, 4e-6, 5e-5, 0),
        ActivationRounding(packed.EIGHT, 100, 0.02, 0.75, 0.1, 0.6, 3),
    ]
    monkeypatch.setattr(activation_rounding, "measure", lambda loaded: found)
    line, rounding = doctor.native()
    assert line == "GGUF files and folders that mlx quantised stay packed (avx2); c by the graph: odd"
    assert rounding == (
        "to float32 activations (b): what is drawn: KL 1.8e-03 bits a token, at most 7.2e-01, log p off by "
        "2.9e-04, at most 4.3e-03, another most likely token in 1 of 100; what is measured: KL 0.0e+00 bits a token, "
        "at most 1.4e-09, log p off by 5.8e-06, at most 7.2e-05, another most likely token in 0 of 100; "
        "--activation-bits 8: KL 2.9e-02 bits a token, at most 1.1e+00, log p off by 1.4e-01, at most "
        "8.7e-01, another most likely token in 3 of 100"
    )
    here[1].parameters = here[0].parameters = 10**9
    assert doctor.native()[1].startswith("to float32 activations (a)")
    here[1].parameters = here[0].parameters = 10**9 + 1
    assert doctor.native()[1] == "not measured: a is large"

    def broken(path: str) -> Any:
        raise CheckpointError("torn")

    here[1].parameters = 5
    monkeypatch.setattr(checkpoint, "load", broken)
    assert doctor.native()[1] == "not measured: torn"
    del here[:2]
    assert doctor.native() == ("GGUF files and folders that mlx quantised stay packed (avx2); c by the graph: odd", "")


# -- speed -----------------------------------------------------------------------------------------------------------

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
    bare = replace(BENCH, load_s=None, growth={}, rates=RATES[:1])
    lines = [*bench.table(BENCH), "--", *bench.table(bare), "--", *bench.block(BENCH, "bfloat16", "tested")]
    assert_picture("app/pictures/bench.txt", "\n".join(lines) + "\n")


def test_kernels_are_timed_or_counted(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from metal import autotune

    asked: list[str] = []
    timings = (Timing("decode 64", 1e-4, 2.5e-4, 10_000_000), Timing("tiles", 2e-3, 1e-3, 1_000_000))

    def total(distinct: int, requested: int) -> Any:
        return SimpleNamespace(distinct=distinct, requested=requested)

    rows: Any = (
        SimpleNamespace(
            case="decode", ours=total(1500, 3000), stock=total(9, 2000), minimum=1000,
            targets=(SimpleNamespace(reached=True), SimpleNamespace(reached=False)),
        ),
        SimpleNamespace(case="tiles", ours=total(1000, 1000), stock=total(9, 0), minimum=1000, targets=()),
        SimpleNamespace(case="alone", ours=total(1000, 1000), stock=None, minimum=1000, targets=()),
    )  # fmt: skip
    for found in (
        KernelTimings("M9", "metal", 200.0, timings), KernelTimings("M9", "metal", None, timings[:1]),
        KernelTimings("sim", "simulator", None, (), rows),
    ):  # fmt: skip
        monkeypatch.setattr(autotune, "bench", lambda only, found=found: asked.append(only) or found)
        kernel_table.show_kernels("de", as_json=False)
    assert_picture("app/pictures/kernels.txt", capsys.readouterr().out)
    monkeypatch.setattr(autotune, "bench", lambda only: KernelTimings("M9", "metal", 200.0, timings))
    kernel_table.show_kernels("", as_json=True)
    assert json.loads(capsys.readouterr().out)["timings"][0]["case"] == "decode 64" and asked == ["de"] * 3


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
    report.worst = []
    assert len(quantize.lines(report)) == 5


# -- choosing a model ------------------------------------------------------------------------------------------------


def known(name: str, nbytes: int) -> Any:
    return SimpleNamespace(
        name=name, nbytes=nbytes, license="mit", good_for="all", memory_gb=4, checked=name != "k1", title=name
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody at a terminal who chooses; what they choose is noted."""
    noted: list[str] = []
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(choosing, "sys", SimpleNamespace(stdin=terminal, stderr=terminal))
    monkeypatch.setattr(preferences, "choose", noted.append)
    monkeypatch.setattr(machine, "memory", lambda: 17_179_869_184)
    return noted


def test_one_of_those_that_are_here_is_chosen(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    here = tuple(SimpleNamespace(name=f"m{i}", nbytes=10**9 - (i == 1), source="hub") for i in range(2))
    monkeypatch.setattr(store, "list", lambda: here)
    prompted: list[Any] = []

    def prompt(words: str, **more: Any) -> int:
        prompted.append((words, more["type"].min, more["type"].max, more["default"], more["err"]))
        return 2

    monkeypatch.setattr(choosing.click, "prompt", prompt)
    assert choosing.ask() == "m1" and asked == ["m1"] and prompted == [("number", 1, 2, 1, True)]
    assert capsys.readouterr().err.splitlines() == [
        "Which model? (asked once; -M names another)",
        f"  1  {'m0':<36}   1.0 GB  hub",
        f"  2  {'m1':<36}  1000 MB  hub",
    ]


@pytest.mark.parametrize(
    ("count", "names"), [(8, [f"k{i}" for i in range(8)]), (9, [*(f"k{i}" for i in range(7)), "k8"])]
)
def test_eight_at_most_are_offered(
    count: int, names: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(store, "list", lambda: ())
    monkeypatch.setattr(catalogue, "offers", lambda memory: [known(f"k{i}", 2_000_000 * (i + 1)) for i in range(count)])
    monkeypatch.setattr(choosing.click, "prompt", lambda *_, **__: 8)
    assert choosing.ask() == names[-1]
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0] == "No model is on this machine yet. These suit its 16 GB of memory:"
        and lines[1] == f"  1  {'k0':<14}     2 MB  mit        all"
    )
    assert [line.split()[1] for line in lines[1:]] == names


def test_a_pipe_is_told_how_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "offers", lambda memory: [known("best", 3_400_000_000)])
    for count, names in ((3, "m0, m1, m2"), (4, "m0, m1, m2, ...")):
        here = tuple(SimpleNamespace(name=f"m{i}") for i in range(count))
        assert choosing._how(here) == (  # type: ignore[arg-type]
            f"{count} models are here and none is chosen ({names}): name one with -M, or choose one for good with "
            "`likely models --default NAME`"
        )
    small = catalogue.KNOWN[catalogue.DEFAULT]
    assert choosing._how(()) == (
        "no model is on this machine: fetch one with `likely pull best` (3.4 GB) or "
        f"`likely pull {small.name}` ({choosing.gigabytes(small.nbytes)}), or name one with -M"
    )
    monkeypatch.setattr(store, "list", lambda: ())
    for inner, outer in ((True, False), (False, True)):
        both = SimpleNamespace(
            stdin=SimpleNamespace(isatty=lambda v=inner: v), stderr=SimpleNamespace(isatty=lambda v=outer: v)
        )
        monkeypatch.setattr(choosing, "sys", both)
        with pytest.raises(CheckpointError, match="no model is on this machine"):
            choosing.ask()


def test_the_catalogue_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {name: known(name, 1_500_000_000) for name in ("k0", "k1")}
    monkeypatch.setattr(catalogue, "KNOWN", entries)
    monkeypatch.setattr(catalogue, "suits", lambda each, memory: each.name == "k1")
    lines = CliRunner().invoke(program, ["models", "--known"]).output.splitlines()
    assert lines[:3] == [
        "  model              size  licence    memory  good for", "- k0               1.5 GB  mit          4 GB  all",
        "  k1              1.5 GB?  mit          4 GB  all",
    ]  # fmt: skip
    told = json.loads(CliRunner().invoke(program, ["models", "--known", "--json"]).output)
    assert told[0] == {
        "name": "k0", "title": "k0", "license": "mit", "nbytes": 1_500_000_000, "memory_gb": 4, "good_for": "all",
        "checked": True,
    }  # fmt: skip


# -- what opening a model takes --------------------------------------------------------------------------------------


def test_an_adapter_has_its_weight() -> None:
    assert [weighed_adapter(given) for given in ("a", "a=0.5", "a=b=-2", "=1")] == [
        ("a", 1.0),
        ("a", 0.5),
        ("a=b", -2.0),
        ("", 1.0),
    ]
    with pytest.raises(click.UsageError, match="takes FOLDER or FOLDER=WEIGHT, got a=x: x is no number"):
        weighed_adapter("a=x")


def test_a_text_is_an_argument_or_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(data: bytes, terminal: bool) -> None:
        monkeypatch.setattr(opening.sys, "stdin", SimpleNamespace(isatty=lambda: terminal, buffer=io.BytesIO(data)))

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
        progress.show("a\nb", 1, 2)
        progress.show("a\nb", 1, 2)
        progress.show("get", 500_000, 1_000_000)
        progress.show("get", 500_001, 1_000_001)
        progress.show("wait", 0, 0)
    assert out.getvalue().split("\r\x1b[K")[1:] == [
        f"a b {'█' * 12}{' ' * 12}  50%", f"get {'█' * 12}{' ' * 12}  50%", f"get {'█' * 12}{' ' * 12}  50% of 1 MB",
        "wait", "",
    ]  # fmt: skip
    assert [opening._bar(share, 2) for share in (-1, 0, 1 / 16, 0.5, 0.97, 1, 2)] == [
        "  ",
        "  ",
        "▏ ",
        "█ ",
        "██",
        "██",
        "██",
    ]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: False))
    assert not opening.on_terminal()


# -- the machine that is looked at -----------------------------------------------------------------------------------


def test_this_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, ...]] = []

    def answers(*command: str) -> str:
        said.append(command)
        return {"/usr/sbin/sysctl": "1", "/usr/bin/sw_vers": "15.1"}[command[0]]

    monkeypatch.setattr(preflight.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(preflight, "_said", answers)
    host = preflight.inspect()
    assert (host.system, host.apple_silicon, host.macos, host.python) == ("Darwin", True, "15.1", sys.version_info[:3])
    assert said == [("/usr/sbin/sysctl", "-n", "hw.optional.arm64"), ("/usr/bin/sw_vers", "-productVersion")]
    monkeypatch.setattr(preflight, "_said", lambda *command: "")
    monkeypatch.setattr(preflight.platform, "mac_ver", lambda: ("14.9", (), ""))
    assert preflight.inspect().macos == "14.9" and not preflight.inspect().apple_silicon
    monkeypatch.setattr(preflight.platform, "system", lambda: "Linux")
    linux = preflight.inspect()
    assert (linux.macos, linux.apple_silicon, linux.hidden) == ("", False, ())


def test_macos_has_to_be_new_enough() -> None:
    host = Host("Darwin", "arm64", True, "14", (3, 11, 0), "python")
    fine = {
        version: preflight.checks(replace(host, macos=version))[1].fine
        for version in ("13.9", "14", "14.1", "15", "", "x")
    }
    assert fine == {"13.9": False, "14": True, "14.1": True, "15": True, "": False, "x": False}
    assert [
        preflight.checks(replace(host, python=version))[2].fine for version in ((3, 10, 9), (3, 11, 0), (4, 0, 0))
    ] == [False, True, True]
    assert "of an unknown version" in preflight.checks(replace(host, macos=""))[1].line
