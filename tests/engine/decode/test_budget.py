"""A budget of thought: cut where it is spent, gone on with where it would end too early, else the law of sampling."""

from types import SimpleNamespace

import numpy as np
import pytest

from likely.engine.decode.budget import Budget
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted
from likely.engine.decode.strategies import parse
from likely.engine.errors import ParameterError
from likely.engine.session import Session
from tests.fakes import EOS, VOCAB, ByteTokenizer, FakeCheckpoint, MarkovModel

PROMPT = list(b"?")


def told(strategy: Budget, go_on: float, seed: int = 0, most: int = 30) -> tuple[str, list[str]]:
    """A text of a model that thinks in `x`, ends a thought by `|` and says `y` and its end; where tokens came from."""
    rows = np.full((VOCAB, VOCAB), -np.inf)
    rows[:, ord("x")], rows[:, ord("|")] = np.log(go_on), np.log(1 - go_on)
    rows[ord("|")] = rows[ord("y")] = -np.inf
    rows[ord("|"), ord("y")] = rows[ord("y"), EOS] = 0.0
    session = Session(FakeCheckpoint(MarkovModel(rows)))  # type: ignore[arg-type]
    events = session.generate(PROMPT, RunControl(), seed=seed, max_tokens=most, strategy=strategy)
    steps = [event.step for event in events if isinstance(event, Emitted)]
    return "".join(step.text for step in steps), [step.origin for step in steps]


def bound(tokens: int, waits: int = 0) -> Budget:
    return Budget(tokens, waits, marker="|", word="ww").bind({}, ByteTokenizer())


def test_a_thought_is_cut_where_its_budget_is_spent() -> None:
    text, origins = told(bound(5), 0.999999)
    assert text == "xxxxx|y" and origins == ["drawn"] * 5 + ["forced"] + ["drawn"] * 2


def test_a_thought_that_would_end_waits() -> None:
    text, origins = told(bound(20, 2), 0.000001)
    assert text == "wwww|y" and origins[:4] == ["forced"] * 4


def test_no_wait_goes_beyond_the_budget() -> None:
    text, _ = told(bound(4, 9), 0.000001)
    assert text == "wwww|y"


def test_a_budget_that_is_never_spent_changes_nothing() -> None:
    for seed in range(8):
        plain, _ = told(bound(1000), 0.7, seed)
        session_text, _ = told(bound(29), 0.7, seed)
        assert plain == session_text and set(plain) <= set("x|y")


def test_a_model_that_does_not_think_is_refused() -> None:
    with pytest.raises(ParameterError, match="this model does not think: its tokenizer has no token </think>"):
        parse("budget 64").bind({}, SimpleNamespace(encode=lambda text, special=False: list(text.encode())))
    with pytest.raises(ParameterError, match="watches over one answer"):
        Budget().check(2)
