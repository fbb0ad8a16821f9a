"""What a test needs of the machine, by its marker; and, at the end of a run, what was not run and why.

    linux   Linux's interfaces (/proc, namespaces, ELF)         metal   a GPU that Metal runs on
    real    the real SmolLM2, fetched once                      slow, soak   time

All but the tests marked `metal` run on mlx's CPU device, which a Mac does not choose by itself. Loaded with
`-p tests.needs`.
"""

import platform
from collections import Counter
from collections.abc import Iterator

import pytest

from metal import mx


def pytest_configure(config: pytest.Config) -> None:
    if mx.default_device() != mx.cpu:
        mx.set_default_device(mx.cpu)


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


@pytest.fixture(autouse=True)
def _on_metal(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("metal") is None:
        yield
        return
    mx.set_default_device(mx.gpu)
    yield
    mx.set_default_device(mx.cpu)


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
