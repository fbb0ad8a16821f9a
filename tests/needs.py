"""What a test needs of the machine, by its marker; and, at the end of a run, what was not run and why.

    linux   Linux's interfaces (/proc, namespaces, ELF)         metal   a GPU that Metal runs on
    real    the real SmolLM2, fetched once                      slow, soak   time

A run of the everyday part names what has grown too dear for it. All but the tests marked `metal` leave a Mac's GPU
alone, and so do the processes that they begin: LIKELY_METAL says it to both. Loaded with `-p tests.needs`.
"""

import os
import platform
from collections import Counter
from collections.abc import Iterator
from time import process_time  # not by `time.`: a test that has a clock of its own would be measured by that

import pytest

os.environ["LIKELY_METAL"] = "0"  # before mlx is asked for anything
os.environ["MLX_ENABLE_TF32"] = "0"  # an M5 rounds float32 products to 10 bits otherwise: references are of all 24

from likely.metal import METAL, mx

DEAR_SECONDS = 0.8  # of processor time: twice what an everyday test may take, for a busy machine stretches even that


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = {}
    if platform.system() != "Linux":
        lacking["linux"] = "needs Linux"
    if not mx.metal.is_available():
        lacking["metal"] = "needs a GPU that Metal runs on"
    for item in items:
        for marker, reason in lacking.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    started = process_time()
    try:
        yield
    finally:
        item.user_properties.append(("processor seconds", process_time() - started))


@pytest.fixture(autouse=True)
def _on_metal(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("metal") is None:
        yield
        return
    del os.environ[METAL]
    mx.set_default_device(mx.gpu)
    mx.enable_compile()
    yield
    mx.disable_compile()
    mx.set_default_device(mx.cpu)
    os.environ[METAL] = "0"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        where = report.longrepr
        reasons[where[2].removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)] += 1
    lines = [f"{count:>5}  {reason}" for reason, count in sorted(reasons.items())]
    if config.option.markexpr:
        left = len(terminalreporter.stats.get("deselected", [])) or ""
        lines.append(f"{left:>5}  left out by -m {config.option.markexpr!r}")
    if lines:
        terminalreporter.write_line("not run:")
    for line in lines:
        terminalreporter.write_line(line)
    dear: dict[str, float] = {}
    for report in terminalreporter.stats.get("passed", []) if "not slow" in (config.option.markexpr or "") else ():
        seconds = dict(report.user_properties).get("processor seconds", 0.0)
        if report.when == "call" and seconds > DEAR_SECONDS:
            dear[report.nodeid] = seconds
    for name, seconds in sorted(dear.items(), key=lambda pair: -pair[1])[:20]:
        terminalreporter.write_line(f"{seconds:5.1f} s of processor time in the everyday part (mark it slow): {name}")
