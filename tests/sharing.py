"""How a run is shared out among processes: how many there are, and which files come first.

Slow tests wait for processes, terminals and disks: one process more than there are cores uses that time. The everyday
part waits for nothing, and each process that collects it costs seconds: one a core. A file is one process's, so those
that take longest come first, lest the last of them be waited for alone. `slow(seconds)` says of a test how long that
is, where it is more than about one. Loaded with `-p tests.sharing`.
"""

import gc
import os
from collections import Counter

import pytest


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.hookimpl(optionalhook=True, tryfirst=True)  # xdist has its own count
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return cores() + ("not slow" not in config.option.markexpr)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one that got its part from another process
        taken: Counter[str] = Counter()
        for item in items:
            taken[file_of(item)] += seconds(item)
        items.sort(key=lambda item: -taken[file_of(item)])  # stable: within a file as it stands there


def pytest_configure() -> None:
    """Garbage is looked for less often than by itself (700), which was half of the time of who makes many objects."""
    gc.set_threshold(20_000)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no collection of garbage looks at it again."""
    gc.collect()
    gc.freeze()


def file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def seconds(item: pytest.Item) -> float:
    """Of processor time, about."""
    if (marked := item.get_closest_marker("slow")) is not None:
        return float(marked.args[0]) if marked.args else 1.0
    return 5.0 if item.get_closest_marker("real") else 0.1
