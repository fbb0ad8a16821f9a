"""Paths of scripted events: what each is made of, when a run is stopped, and what is chosen of them."""

import math
from dataclasses import replace
from typing import Any

import pytest

from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Event, Forked, Prefilled, Pruned, Rated, Stats
from likely.engine.measure.reason.paths import PathCollector, ReasoningPath, by_score, by_vote
from likely.engine.measure.reason.scorers import SCORERS
from likely.engine.sampling.trace.step import TokenStep
from tests.laws.test_votes import step

STATS = Stats(1, 0, 1, 0.0, 0.0)


def said(text: str, position: int = 0, p: float = 0.5) -> TokenStep:
    return replace(step([p, 1 - p]), text=text, position=position)


def done(branch: int, reason: str = "eot", rest: str = "") -> Done:
    return Done(branch, reason, STATS, rest)


def collector(n: int = 4, **more: Any) -> PathCollector:
    return PathCollector(Extraction("all"), n, RunControl(), **more)


def answers(*found: str | None) -> list[Event]:
    """A path of one token for each answer; of None one that is cancelled."""
    events: list[Event] = []
    for i, answer in enumerate(found):
        events += [Emitted(i, said(answer or "?")), done(i, "eot" if answer else "cancelled")]
    return events


def test_a_path_has_what_its_events_say() -> None:
    a, b, c, d = (said(text, 10 + i) for i, text in enumerate("abcd"))
    events: list[Event] = [
        Prefilled(1, 1),
        *(Emitted(0, a), Emitted(0, b), Forked(0, 1), Emitted(1, c), Emitted(0, d)),
        *(Rated(0, {"score": 1.5, "drawn": 9}), Rated(0, {"other": 3.0}), Rated(0, {"score": 2.0, "drawn": 7})),
        *(Emitted(2, a), Pruned(2), Pruned(5), Forked(4, 3), Emitted(3, d)),
        *(done(0, rest="z"), done(1, "cancelled"), done(2, rest="y"), done(3, "length"), done(6)),
    ]
    found = list(collector(9).watch(events))
    assert [(p.branch, p.text, p.answer, p.finish) for p in found] == [
        (0, "abdz", "abdz", "eot"), (1, "abc", None, "cancelled"), (2, "y", "y", "eot"), (3, "d", "d", "length"),
        (6, "", None, "eot"),
    ]  # fmt: skip
    assert [(p.tokens, p.drawn, p.scores, p.whole) for p in found] == [
        (3, 7, (1.5, 2.0), True), (3, 1, (), False), (0, 0, (), True), (1, 1, (), True), (0, 0, (), True),
    ]  # fmt: skip
    assert found[0].figures == {"score": 2.0, "drawn": 7} and found[1].figures == {}
    assert found[0].logprob == pytest.approx(3 * math.log(0.5), abs=1e-6)


STOPPED = [
    ("a", 2, 0.66, True), ("a", 2, 0.68, False), ("a", 2, None, False), ("aa", 3, 0.95, True),
    ("ab", 3, 0.95, False), ("aba", 3, 0.95, False), ("--a", 4, 0.66, True), ("--a", 4, 0.68, False),
    ("-", 4, 0.1, False), ("aa", 16, 0.95, False), ("aaaaaaa", 9, 0.95, True),
]  # fmt: skip


def test_a_run_is_stopped_by_its_confidence_alone() -> None:
    """A dash is a path that was given up: it votes no more. One of one against none is overtaken by one more with a
    probability of 1 / 3."""
    for found, n, confidence, stopped in STOPPED:
        paths = collector(n, confidence=confidence)
        list(paths.watch(answers(*(None if c == "-" else c for c in found))))
        assert paths.control.cancelled == stopped


def test_the_path_that_says_the_answer_is_the_likeliest_a_token() -> None:
    short, long = (
        ReasoningPath(0, (said("a", p=0.7),), "", "a", "eot"),
        ReasoningPath(1, (said("a", p=0.8),) * 4, "", "a", "eot"),
    )
    other, empty = ReasoningPath(2, (said("a", p=0.99),), "", "b", "eot"), ReasoningPath(3, (), "", "a", "eot")
    assert by_vote([short, long, other]).chosen is long
    assert by_vote([short, other, long, empty]).chosen is empty
    nothing = by_vote([replace(short, answer=None)])
    assert nothing.chosen is None and nothing.answer is None and nothing.votes == {} and nothing.scores == ()
    assert by_vote([], SCORERS["mean"]).answer is None


def test_a_vote_is_weighed_by_its_scorer() -> None:
    """Two unlikely a and a likely b: of one vote each a wins, by their likelihoods b."""
    found = [
        ReasoningPath(0, (said("x", p=0.2),) * 2, "", "a", "eot"),
        ReasoningPath(1, (said("x", p=0.1),) * 2, "", "a", "eot"),
        ReasoningPath(2, (said("x", p=0.9),) * 2, "", "b", "eot"),
    ]  # fmt: skip
    gone = ReasoningPath(3, (said("x", p=0.95),), "", "c", "cancelled")
    assert by_vote([*found, gone]).votes == {"a": 2.0, "b": 1.0}
    weighed = by_vote([*found, gone], SCORERS["logprob"])
    assert weighed.answer == "b" and weighed.paths == (*found, gone)
    assert weighed.votes == {"b": pytest.approx(1.0), "a": pytest.approx((0.04 + 0.01) / 0.81, rel=1e-4)}


def test_the_first_of_the_best_scores_is_chosen() -> None:
    found = [
        ReasoningPath(0, (), "", "z", "cancelled"), ReasoningPath(1, (), "", None, "eot"),
        ReasoningPath(2, (), "", "a", "eot"),
        ReasoningPath(3, (), "", "b", "length"), ReasoningPath(4, (), "", "c", "eot"),
    ]  # fmt: skip
    scores = {0: 9.0, 1: 8.0, 2: 0.5, 3: 2.0, 4: 2.0}
    best = by_score(found, lambda path: scores[path.branch])
    assert best.chosen is found[3] and best.answer == "b" and best.paths == tuple(found)
    assert best.scores == (None, None, 0.5, 2.0, 2.0) and best.votes == {"a": 1.0, "b": 1.0, "c": 1.0}
    first = by_score(found[2:], lambda path: 0.0)
    assert first.chosen is found[2]
    none = by_score(found[:2], lambda path: 1.0)
    assert none.chosen is None and none.answer is None and none.scores == (None, None)
