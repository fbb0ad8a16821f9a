"""The three requests of lm-evaluation-harness, which itself is not needed: its base class is stood in for."""

import math
import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine import arrays
from likely.engine.errors import ParameterError
from likely.engine.evaluate.harness import model
from likely.engine.session import Session
from tests.fakes import BOS, EOS, ByteTokenizer, FakeCheckpoint, MarkovModel, certain_table, random_table


class Beginning(ByteTokenizer):
    """Knows a token to begin with, which texts do not begin with by themselves."""

    bos = BOS
    end = EOS

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        return list(text.encode())


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ModuleType("lm_eval.api.model")
    api.LM = type("LM", (), {})  # type: ignore[attr-defined]
    for name, module in (("lm_eval", ModuleType("lm_eval")), ("lm_eval.api", ModuleType("api")), (api.__name__, api)):
        monkeypatch.setitem(sys.modules, name, module)


def asked(*args: Any) -> list[Any]:
    return [SimpleNamespace(args=each) for each in args]


def session(table: np.ndarray) -> Session:
    return Session(FakeCheckpoint(MarkovModel(table), Beginning()))  # type: ignore[arg-type]


def logprob(table: np.ndarray, ids: list[int]) -> float:
    said = arrays.logprobs(table, np)
    return math.fsum(said[a, b] for a, b in pairwise(ids))


@pytest.mark.usefixtures("harness")
def test_requests_are_answered_in_their_order() -> None:
    table = random_table(0)
    found = model(session(table), window=16)
    pairs = [("a b", " c"), ("a b", " dd"), ("", "xyz"), ("q ", "r"), ("a b", " c")]
    starts = [b"b c", b"b dd", b"", b"q r", b"b c"]
    exact = [logprob(table, list(text)) if text else logprob(table, [BOS, *b"xyz"]) for text in starts]
    answers = found.loglikelihood(asked(*pairs))
    assert [total for total, _ in answers] == pytest.approx(exact, abs=1e-4)
    assert not any(greedy for _, greedy in answers)
    texts = ["one text", "a longer text of more than sixteen bytes, twice"]
    rolling = found.loglikelihood_rolling(asked(*[(text,) for text in texts]))
    assert rolling == pytest.approx([logprob(table, [BOS, *text.encode()]) for text in texts], abs=1e-4)


@pytest.mark.usefixtures("harness")
def test_answers_end_where_they_are_told_to() -> None:
    found = model(session(certain_table(b":xyz")))
    ways = [{"until": ["z"]}, {"until": "y"}, {}, {"max_gen_toks": 1}]
    assert found.generate_until(asked(*[("say:", way) for way in ways])) == ["xy", "x", "xyz", "x"]
    ((_, greedy),) = found.loglikelihood(asked(("say:", "xyz")))
    assert greedy
    with pytest.raises(ParameterError, match="do_sample"):
        found.generate_until(asked(("say:", {"do_sample": True})))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ParameterError, match="pip install lm-eval"):
        model(session(random_table(0)))
