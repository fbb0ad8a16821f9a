"""`pytest --simulate=plain` or `--simulate=checked`: every test runs with the simulator in the place of Metal.

The last line of the run says which kernels ran and how often. Loaded with `-p tests.metal.simulator.plugin`.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

_LAUNCHES = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("metal")
    group.addoption(
        "--simulate",
        choices=("plain", "checked"),
        help="run Metal kernels in the simulator, wherever a test reaches one; checked: with every access checked",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LAUNCHES] = Counter()


@pytest.fixture(autouse=True)
def _simulate(request: pytest.FixtureRequest) -> Iterator[None]:
    chosen = request.config.getoption("--simulate")
    if chosen is None:
        yield
        return
    from likely.metal.simulator import simulated

    with simulated(checked=chosen == "checked") as launches:
        yield
    request.config.stash[_LAUNCHES].update(launches)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--simulate") is not None:
        launches = config.stash[_LAUNCHES]
        each = ", ".join(f"{name} {count}" for name, count in sorted(launches.items())) or "none"
        terminalreporter.write_line(f"simulated launches: {each}")
