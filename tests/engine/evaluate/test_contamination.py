"""Items that training texts hold: found by their runs of words, and by what a model says of them."""

import numpy as np
import pytest

from likely.engine.evaluate import contamination
from likely.engine.evaluate.figures import Tally
from likely.engine.evaluate.tasks import Task, TaskSettings

WORDS = [f"w{i}" for i in range(400)]


def text(first: int, n: int = 20) -> str:
    return " ".join(WORDS[first : first + n])


def task(rows: list[dict[str, object]], **settings: object) -> Task:
    return Task("t", lambda: iter(rows), "t", TaskSettings(**settings))  # type: ignore[arg-type]


def test_a_run_of_thirteen_words_is_found_and_twelve_are_not() -> None:
    training = contamination.known([text(0, 60)])
    rows: list[dict[str, object]] = [
        {"text": f"{text(100, 9)} {text(5, 13)} {text(120, 9)}"},
        {"text": f"{text(100, 9)} {text(5, 12)} {text(120, 9)}"},
        {"text": text(30, 8).upper().replace(" ", ", ")},  # all of it, however it is written
        {"text": f"{text(30, 7)} other"},
        {"text": text(30, 7)},  # too short to tell
    ]
    assert contamination.seen(task(rows), training) == {0: True, 1: False, 2: True, 3: False}


def test_the_examples_before_an_item_do_not_count_as_its_own() -> None:
    shot = {"prompt": text(0), "answer": "yes"}
    rows: list[dict[str, object]] = [shot, {"prompt": text(200), "answer": "no"}, {"prompt": text(3), "answer": "no"}]
    found = contamination.seen(task(rows, shots=1), contamination.known([text(0, 60)]))
    assert found == {0: True, 1: False, 2: True}


def test_a_model_that_knows_a_text_by_heart_gives_it_away_and_one_that_does_not_is_not_accused() -> None:
    random = np.random.default_rng(0)
    for shift, low, high in ((0.0, 0.3, 0.7), (3.0, 0.9, 1.0)):
        tally, least = Tally(), {}
        for number in range(80):
            tally.add(number, None, {"nats": 9.0, "tokens": 3.0, "bytes": 9.0})
            logs = random.normal(-4 + shift * (number < 40), 1, 50)
            least[number] = contamination.least_likely(logs)
            assert least[number] == pytest.approx(np.sort(logs)[:10].mean())
        assert np.isnan(contamination.least_likely(np.zeros(0)))  # of no token nothing is known
        found = contamination.figures(tally, {number: number < 40 for number in range(80)}, least)
        assert low < found["min_20_auc"].mean <= high and "bits_per_byte_clean" in found
        assert (found["min_20_auc"].interval[0] > 0.5) == bool(shift)
