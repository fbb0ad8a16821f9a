"""Judged pairs, texts after contexts, texts restated, contexts changed: against tables of known probabilities."""

import math
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.measure.evaluate.evaluation import evaluate
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.tasks.conditional import (
    JUDGE,
    ChangedContext,
    ConditionedText,
    JudgedPair,
    RestatedText,
    judged,
)
from likely.engine.measure.evaluate.tasks.judging import pairs
from likely.engine.measure.evaluate.tasks.tasks import Item, Problem, Result, TaskSettings
from tests.engine.evaluate.asked import logprob, logs, session, task
from tests.fakes import BOS, VOCAB, random_table


def outcomes(table: np.ndarray, rows: list[dict[str, Any]], prefix: str = "default", **settings: Any) -> list[Any]:
    return list(evaluate(session(table), task(rows, **settings), Protocol(prefix)))


def votes(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


PAIR = JudgedPair("p", "x", "y")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # a clear judge without bias: a wins wherever it stands
        ((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), {"win_rate": 1, "first_position": 0.5, "consistent": 1}),
        # one that says A to everything: no answer wins, the bias is all there is
        ((0.8, 0.1, 0.1), (0.8, 0.1, 0.1), {"win_rate": 0.5, "first_position": 1, "win_probability": 0.5}),
        # one that says B to everything
        ((0.1, 0.8, 0.1), (0.1, 0.8, 0.1), {"win_rate": 0.5, "first_position": 0, "consistent": 0}),
        # ties both times
        ((0.1, 0.1, 0.8), (0.1, 0.1, 0.8), {"win_rate": 0.5, "ties": 1, "consistent": 1, "first_position": 0.5}),
        # b once, a tie once
        ((0.1, 0.8, 0.1), (0.1, 0.1, 0.8), {"win_rate": 0.25, "ties": 0.5, "consistent": 0}),
        # hardly ever a verdict at all: counted as unclear, worth a half
        ((0.2, 0.1, 0.1), (0.1, 0.8, 0.1), {"win_rate": 0.75, "unclear": 0.5, "consistent": 0}),
    ],
)  # fmt: skip
def test_a_judge_s_votes(first: tuple[float, ...], second: tuple[float, ...], expected: dict[str, float]) -> None:
    found = PAIR.measures(votes(*first, *second))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_votes_beside_what_people_said() -> None:
    wins, ties = votes(0.8, 0.1, 0.1, 0.1, 0.8, 0.1), votes(0.8, 0.1, 0.1, 0.8, 0.1, 0.1)
    for said, told, agreed in (("a", wins, 1), ("b", wins, 0), ("tie", wins, 0), ("tie", ties, 1), ("a", ties, 0)):
        assert JudgedPair("p", "x", "y", said).measures(told)["agreement"] == agreed


def test_a_judge_is_asked_both_ways_round() -> None:
    """A model that goes by the last letter of the answer that stands second."""
    template = "{prompt}{first}{second}"
    assert judged(template, "{first}", "{second}", "b") == "{first}{second}b"
    table = np.full((VOCAB, VOCAB), -20.0)
    table[ord("x"), ord(" ")] = table[ord("y"), ord(" ")] = 5.0  # then " A" or " B": a byte each
    table[ord(" "), [ord("A"), ord("B"), ord("C")]] = [3.0, 1.0, 0.0]
    (result,) = outcomes(table, [{"prompt": "p", "answer_a": "ax", "answer_b": "by"}], judge=template)
    exact = [logprob(table, [ord(end), *f" {v}".encode()]) for end in "yx" for v in "ABC"]
    assert result.detail["loglikelihoods"] == pytest.approx(exact, abs=2e-5)
    assert result.values["first_position"] == 1 and result.values["win_rate"] == 0.5
    (found,) = JudgedPair("why", "one", "two").asked(TaskSettings())[1:]
    assert found[0] == judged(JUDGE, "why", "two", "one") and found[1] == (" A", " B", " C")
    with pytest.raises(ParameterError, match=r"judge must hold \{second\}"):
        outcomes(table, [{"prompt": "p", "answer_a": "ax", "answer_b": "by"}], judge="{first}")


def test_answers_of_two_models_become_pairs_of_the_second_s_wins() -> None:
    asked = task([{"prompt": f"q{i}", "answer": "x"} for i in range(4)], shots=1, judge="{first}|{second}")
    made = pairs(asked, ("one", "two"), lambda: iter([(1, "a1", "b1"), (3, "", "b3")]), "id")
    bodies = [item.body for item in made.items() if isinstance(item, Item)]
    assert bodies == [JudgedPair("q1", "b1", "a1"), JudgedPair("q3", "b3", "(no answer)")]
    assert made.name == "t: two against one" and made.settings.judge == "{first}|{second}"


def test_mutual_information_of_a_law_of_the_last_letter() -> None:
    """Only the first byte of a text depends on its context, and on the context's last byte alone."""
    table = random_table(3)
    row = {"context": "ab", "continuation": "xyz", "other": "cd"}
    (result,) = outcomes(table, [row], delimiter="")
    said = logs(table)
    own, other, alone = (said[before, ord("x")] for before in (ord("b"), ord("d"), BOS))
    values = result.values
    assert values["pmi"] == pytest.approx((own - alone) / math.log(2), abs=1e-4)
    assert values["surprisal_drop"] == pytest.approx((own - alone) / math.log(2) / 3, abs=1e-4)
    assert values["pmi_shuffled"] == pytest.approx((other - alone) / math.log(2), abs=1e-4)
    assert values["own_context"] == float(own > other)
    with pytest.raises(ParameterError, match="leave out --prefix-token none"):
        outcomes(table, [row], prefix="none")


def test_two_way_information_of_a_joint_law_is_the_same_both_ways() -> None:
    """Of an exact joint law of two letters log p(b | a) / p(b) is log p(a | b) / p(a); the table holds both."""
    joint = np.array([[0.3, 0.1], [0.05, 0.55]])
    rows, columns = joint.sum(1), joint.sum(0)
    table = np.full((VOCAB, VOCAB), -40.0)
    a, b = [ord("a"), ord("b")], [ord("x"), ord("y")]
    for i in range(2):
        table[a[i], b] = np.log(joint[i] / rows[i])
        table[b[i], a] = np.log(joint[:, i] / columns[i])
    table[BOS, a], table[BOS, b] = np.log(rows / 2), np.log(columns / 2)
    (result,) = outcomes(table, [{"original": "a", "paraphrase": "x", "other": "y"}], delimiter="")
    exact = math.log2(joint[0, 0] / (rows[0] * columns[0])) + 1  # alone each is one of four
    assert result.values["pmi_forward"] == pytest.approx(exact, abs=1e-4)
    assert result.values["pmi_backward"] == pytest.approx(exact, abs=1e-4)
    assert result.values["pmi"] == pytest.approx(exact, abs=1e-4) and result.values["own_pair"] == 1
    other = math.log2(joint[0, 1] / (rows[0] * columns[1])) + 1
    assert result.values["pmi_shuffled"] == pytest.approx(other, abs=1e-4)
    # the fake's hidden state of a token is its id: one number, so every cosine is 1
    assert result.values["cosine"] == pytest.approx(1) == result.values["cosine_shuffled"]


def test_the_divergence_after_two_contexts_is_that_of_their_rows() -> None:
    table = random_table(1)
    (moved, still) = outcomes(table, [{"context": "ab", "changed": "ac"}, {"context": "ab", "changed": "cb"}])
    said = logs(table)
    p, q = said[ord("b")], said[ord("c")]
    assert moved.values["kl"] == pytest.approx(float((np.exp(q) * (q - p)).sum()), rel=1e-4)
    assert moved.values["reverse_kl"] == pytest.approx(float((np.exp(p) * (p - q)).sum()), rel=1e-4)
    assert moved.values["tv"] == pytest.approx(float(np.abs(np.exp(p) - np.exp(q)).sum() / 2), rel=1e-4)
    assert still.values["kl"] == pytest.approx(0, abs=1e-6) and still.values["same_top"] == 1


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        (JudgedPair, {"prompt": "p", "answer_a": "x", "answer_b": ""}, "prompt, answer_a and answer_b must be texts"),
        (JudgedPair, {"prompt": "p", "answer_a": "x", "answer_b": "y", "preferred": "c"}, "must be a, b or tie"),
        (ConditionedText, {"context": "p", "continuation": 3, "other": "y"}, "context, continuation and other must be"),
        (RestatedText, {"original": "p", "paraphrase": None, "other": "y"}, "original, paraphrase and other must be"),
        (ChangedContext, {"context": "p", "changed": " "}, "context and changed must be texts"),
    ],
)  # fmt: skip
def test_odd_rows_are_listed(form: type, row: dict[str, Any], said: str) -> None:
    (problem,) = outcomes(random_table(0), [row])
    assert isinstance(problem, Problem) and said in problem.words


LONG = "x" * 5000


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "answer_a": LONG, "answer_b": "y"}, {"context": LONG, "continuation": "p", "other": "y"},
        {"original": "p", "paraphrase": LONG, "other": "y"}, {"context": LONG, "changed": "p"},
    ],
)  # fmt: skip
def test_what_the_model_cannot_read_is_listed(row: dict[str, Any]) -> None:
    good = dict.fromkeys(row, "abc")
    first, second = outcomes(random_table(0), [row, good])
    assert isinstance(first, Problem) and first.kind == "too long" and isinstance(second, Result)


def test_items_of_several_contexts_keep_their_order() -> None:
    """Requests are read in an order of their lengths; what an item is worth must not depend on it."""
    table = random_table(5)
    rows = [
        {"context": "a" * (i % 7 + 1) + "b", "continuation": "xy"[: i % 2 + 1], "other": "c" * (9 - i % 8) + "d"}
        for i in range(40)
    ]
    several = {each.number: each.values for each in outcomes(table, rows, delimiter="")}
    for number in range(40):
        (alone,) = outcomes(table, [rows[number]], delimiter="")
        assert several[number] == pytest.approx(alone.values, abs=1e-5)
    assert len(several) == 40
