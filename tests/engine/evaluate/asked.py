"""A session on a table of known probabilities, and what its texts are worth in float64."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np

from likely.engine.base import arrays
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.tasks.tasks import Result, Task, TaskSettings
from tests.fakes import BOS, EOS, ByteTokenizer, FakeCheckpoint, MarkovModel


class Beginning(ByteTokenizer):
    """Knows a token to begin with, which texts do not begin with by themselves."""

    bos: int | None = BOS
    end: int | None = EOS

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        return list(text.encode())


def session(table: np.ndarray, context: int = 4096, tokenizer: Any = None, name: str = "m") -> Session:
    info = SimpleNamespace(name=name, weights=f"weights of {name}")
    return Session(FakeCheckpoint(MarkovModel(table, context), tokenizer or Beginning(), info))  # type: ignore[arg-type]


def task(rows: list[dict[str, Any]], **settings: Any) -> Task:
    return Task("t", lambda: iter(rows), "t", TaskSettings(**settings))


def logs(table: np.ndarray) -> np.ndarray:
    return np.asarray(arrays.logprobs(table.astype(np.float32).astype(np.float64), np))


def logprob(table: np.ndarray, ids: list[int]) -> float:
    """Of all but the first."""
    return float(sum(logs(table)[a, b] for a, b in pairwise(ids)))


def results(found: Any) -> list[Result]:
    return [each for each in found if isinstance(each, Result)]
