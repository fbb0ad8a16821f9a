"""Variations of tasks and what is said of them: by hand, and by a law that knows which letter it goes by."""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.measure.evaluate.figures.figures import Tally
from likely.engine.measure.evaluate.figures.robustness import figures, moved
from likely.engine.measure.evaluate.tasks.tasks import (
    Choices,
    Item,
    Problem,
    Question,
    Result,
    Row,
    Task,
    TaskSettings,
)
from likely.engine.measure.evaluate.tasks.variations import Variation, contexts, order, typos, varied

CHOICES = [{"context": f"What is item {i}?", "choices": ["red", "blue", "green"], "gold": i % 3} for i in range(20)]
QUESTIONS = [{"prompt": f"Say {i}", "answer": str(i), "paraphrases": [f"Tell {i}", f"Speak {i}"]} for i in range(6)]


def task(rows: list[dict[str, Any]], **settings: Any) -> Task:
    def made() -> Iterator[Row]:
        yield from rows

    return Task("t", made, "t", TaskSettings(**settings))


def bodies(found: Task) -> list[Any]:
    return [entry.body if isinstance(entry, Item) else entry for entry in found.items() if not _example(entry)]


def _example(entry: Item | Problem) -> bool:
    return isinstance(entry, Problem) and entry.kind == "example"


def test_items_keep_their_numbers_and_examples_have_no_typos() -> None:
    plain = task(CHOICES, shots=2)
    other = varied(plain, Variation("typos", 1))
    assert [e.number for e in other.items()] == [e.number for e in plain.items()] and other.identity != plain.identity
    for a, b in zip(bodies(plain), bodies(other), strict=True):
        examples = a.context[: a.context.rindex("What")]
        assert b.context.startswith(examples) and a.context != b.context and b.choices == a.choices
    assert bodies(other) == bodies(varied(plain, Variation("typos", 1)))
    assert bodies(other) != bodies(varied(plain, Variation("typos", 2)))
    assert bodies(other) != bodies(varied(plain, Variation("typos", 1, seed=1)))
    (odd,) = bodies(varied(task([{"prompt": "1 + 1 =", "answer": "2"}]), Variation("typos", 1)))
    assert odd.kind == "unanswerable" and "no letter" in odd.words


def test_choices_are_listed_under_letters_in_another_order() -> None:
    plain = task(CHOICES, shots=1)
    first, other = varied(plain, Variation("choices", 0)), varied(plain, Variation("choices", 1))
    listed = "\nA. red\nB. blue\nC. green\nAnswer:"
    shown = f"What is item 0?{listed} A\n\nWhat is item 1?{listed}"
    assert bodies(first)[0] == Choices(shown, ("A", "B", "C"), 1)
    moved_ = 0
    for number, (row, body) in enumerate(zip(CHOICES[1:], bodies(other), strict=True), 1):
        places = order(Variation("choices", 1), number, 3)
        lines = [line[3:] for line in body.context.splitlines()[-4:-1]]
        assert lines == [row["choices"][i] for i in places] and lines[body.gold] == row["choices"][row["gold"]]
        moved_ += places != [0, 1, 2]
    assert moved_ > 10
    many = task([{"context": "c", "choices": [f"c{i}" for i in range(27)], "gold": 0}])
    assert "27 choices are more than there are letters" in bodies(varied(many, Variation("choices", 0)))[0].words


def test_examples_in_another_order() -> None:
    plain = task(CHOICES, shots=3)
    for number in range(1, 6):
        body = bodies(varied(plain, Variation("examples", number)))[0]
        parts, own = body.context.split("\n\n"), bodies(plain)[0].context.split("\n\n")
        assert sorted(parts[:3]) == sorted(own[:3]) and parts[:3] != own[:3] and parts[3] == own[3]


def test_paraphrases_of_the_rows_or_from_elsewhere() -> None:
    plain = task([*QUESTIONS, {"prompt": "Say 6", "answer": "6"}, {"prompt": "x", "answer": "x", "paraphrase": "x"}])
    *found, lacking, same = bodies(varied(plain, Variation("paraphrase", 2)))
    assert [body.prompt for body in found] == [f"Speak {i}" for i in range(6)]
    assert "no paraphrase 2" in lacking.words and "no paraphrase 2" in same.words
    assert "paraphrase 1 is no other text" in bodies(varied(plain, Variation("paraphrase", 1)))[-1].words
    told = varied(plain, Variation("paraphrase", 1, said={0: ["Yell 0"]}))
    assert bodies(told)[0] == Question("Yell 0", ("0",), QUESTIONS[0]) and isinstance(bodies(told)[1], Problem)
    both = bodies(contexts(plain, told))
    assert [(each.context, each.changed) for each in both] == [("Say 0", "Yell 0")]
    (none,) = contexts(plain, task([{"prompt": "", "answer": "a"}])).items()
    assert isinstance(none, Problem) and "no item stands in both" in none.words


def test_what_cannot_be_varied_is_refused() -> None:
    pairs = task([{"good": "a", "bad": "b"}])
    for found, kind, said in (
        (pairs, "typos", "typos are varied of choices and questions: t has pairs"),
        (task(QUESTIONS), "choices", "choices are varied of choices: t has questions"),
        (task(CHOICES, shots=1), "examples", "t has 1 examples: to order them otherwise give --shots 2"),
        (task([{"text": "a"}]), "typos", "typos are varied of choices and questions"),
        (
            task([{"context": "c", "choices": [str(i) for i in range(27)], "gold": 0}]),
            "colours",
            "no variation colours",
        ),
        (task(CHOICES), "colours", "there is no variation colours: one of typos, paraphrase, choices, examples"),
    ):
        with pytest.raises(ParameterError, match=said):
            varied(found, Variation(kind, 1))


def test_figures_of_robustness_by_hand() -> None:
    """Three items; right: base 1 1 0, first variant 1 0 0, second 1 1 1."""
    log = np.log([[0.7, 0.3], [0.4, 0.6]])
    base = {n: Result(0, None, {"acc": a}, {"loglikelihoods": log[0]}) for n, a in enumerate((1.0, 1.0, 0.0))}
    first = {n: Result(0, None, {"acc": a}, {"loglikelihoods": log[1]}) for n, a in enumerate((1.0, 0.0, 0.0))}
    second = {n: Result(0, None, {"acc": a}, {"loglikelihoods": log[0] - 3}) for n, a in enumerate((1.0, 1.0, 1.0))}
    second[7] = Result(0, None, {"acc": 0.0}, {"loglikelihoods": log[0]})  # an item that the others lack
    found = figures(base, [first, second], "typos", ["acc"])
    assert found["acc_typos"].mean == pytest.approx(2 / 3) and found["acc_typos"].n == 3
    change = found["acc_typos_change"]
    assert change.mean == pytest.approx(0) and change.error == pytest.approx(math.sqrt(1 / 4 / 3))  # 0, -1/2, 1/2
    assert found["acc_typos_spread"].mean == pytest.approx(np.std([2 / 3, 1 / 3, 1], ddof=1))
    assert found["acc_typos_worst"].mean == pytest.approx(1 / 3)
    kl = 0.4 * math.log(0.4 / 0.7) + 0.6 * math.log(0.6 / 0.3)
    assert found["kl_typos"].mean == pytest.approx(kl / 2) and found["flips_typos"].mean == pytest.approx(0.5)
    assert figures(base, [], "typos", ["acc"]) == {} == figures(base, [{}], "typos", ["acc"])


def test_the_variants_of_an_item_are_one_cluster() -> None:
    tallies = []
    for shift in (0.0, 0.2):
        tally = Tally()
        for number, kl in enumerate((1.0, 2.0, 4.0)):
            tally.add(number, str(number), {"kl": kl + shift, "same_top": 1.0})
        tallies.append(tally)
    found = moved(tallies, "typos")
    assert found["kl_typos"].mean == pytest.approx(7 / 3 + 0.1) and found["kl_typos"].df == pytest.approx(2)
    assert found["same_top_typos"].mean == 1 and found["same_top_typos"].interval[0] < 1


def test_typos_and_orders_of_a_seed_are_those_of_every_version() -> None:
    text = "The quick brown fox jumps over the lazy dog, twice."
    assert [typos(text, random.Random(seed), 0.2) for seed in range(4)] == [
        "Thee quick brown fox hums overr rge lazt og, twice.",
        "The qic rbown fox ujmps over the alyy dog, twwice.",
        "The uiick brpwn gox umos ovre the lazy dog, twiec.",
        "TThe quuick rbown foxx jumps ovre the layz dogg, twuce.",
    ]
    asked = ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))
    assert [order(Variation("choices", number, seed), i, 4) for number, seed, i in asked] == [
        [0, 1, 2, 3], [3, 2, 1, 0], [0, 3, 1, 2], [1, 3, 0, 2], [1, 2, 0, 3],
    ]  # fmt: skip
