"""A law of many cases: some of them every day, each of them where all tests run."""

from collections.abc import Iterable
from typing import Any

import pytest


def everyday(cases: Iterable[Any], every: int) -> list[Any]:
    """Cases of a parametrised test, of which each `every`-th belongs to the everyday part, and the others to the slow
    one. A number that has no factor in common with how often a column of theirs comes round goes through all of it."""
    many = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=() if i % every == 0 else pytest.mark.slow) for i, case in enumerate(many)]
