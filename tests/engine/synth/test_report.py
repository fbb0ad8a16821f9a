"""The report on made rows: planted differences are seen, planted copies too, and where there is none nothing is."""

import math
import random

import numpy as np
import pytest

from likely.engine.base.statistics.estimates import mean, share
from likely.engine.measure.synth.report import (
    Runs,
    coverage,
    divergence,
    histogram,
    nearest,
    neighbours,
    privacy,
    report,
    template,
)
from likely.engine.measure.synth.row import RowSource, SynthRow

WORDS = [f"{a}{b}" for a in "bcdfg" for b in "aeiou"]


def texts(count: int, seed: int, words: list[str] | None = None, length: int = 24) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choice(words or WORDS) for _ in range(length)) for _ in range(count)]


def rows(said: list[str], **attributes: str) -> list[SynthRow]:
    return [
        SynthRow({"text": text}, RowSource("grid", i, 0, 0, "p", attributes=attributes)) for i, text in enumerate(said)
    ]


def pairs(said: list[str]) -> list[tuple[str, str]]:
    return [("", text) for text in said]


def test_rows_of_one_law_are_not_told_apart_and_of_another_are() -> None:
    real, heldout = pairs(texts(60, 0)), pairs(texts(60, 1))
    same = report(rows(texts(60, 2)), real, heldout=heldout)
    assert same.figures["mmd2_p"].mean > 0.05 and same.figures["longest_run"].mean < 6
    for name in ("nearer", "shares_more"):  # 5 % where nothing is given away
        low, high = same.figures[name].interval
        assert low <= 0.05 <= high
    other = report(rows(texts(60, 2, WORDS[:8])), real, heldout=heldout)
    assert other.figures["mmd2_p"].mean < 0.01 and other.figures["distinct_1"].mean < same.figures["distinct_1"].mean


def test_copies_of_real_rows_are_seen() -> None:
    real, heldout = texts(60, 0), texts(60, 1)
    found = report(rows(real[:30] + texts(30, 2)), pairs(real), heldout=pairs(heldout)).figures
    assert found["nearer"].mean >= 0.5 and found["shares_more"].mean >= 0.5
    assert found["longest_run"].mean > 12 > found["longest_run_heldout"].mean


def test_the_longest_run_is_that_of_the_definition() -> None:
    chance = random.Random(3)
    real = [[chance.choice("abc") for _ in range(12)] for _ in range(4)]
    runs = Runs(real)
    for _ in range(30):
        text = [chance.choice("abc") for _ in range(9)]
        shared = [
            n for n in range(1, 10) for i in range(10 - n) for other in real for j in range(13 - n)
            if text[i : i + n] == other[j : j + n]
        ]  # fmt: skip
        assert len(runs.shared(text)) == max(shared, default=0)


def test_nearest_is_the_least_of_all_distances() -> None:
    random_ = np.random.default_rng(0)
    x, y = random_.normal(size=(7, 3)), random_.normal(size=(5, 3))
    wanted = [min(math.dist(a, b) for b in y) for a in x]
    far, at = nearest(x, y)
    assert far == pytest.approx(wanted)
    assert far == pytest.approx([math.dist(a, y[i]) for a, i in zip(x, at, strict=True)])


def test_histograms_templates_and_labels() -> None:
    assert divergence(histogram(["a"], ["b"])).mean == pytest.approx(math.log(2))
    assert divergence(histogram(["a", "b"], ["b", "a"])).mean == 0
    assert template(["what", "is", "12", "plus", "3"]) == "what is ## plus"
    real = [(f"{text}?", "yes" if i % 2 else "no") for i, text in enumerate(texts(20, 0))]
    made = [SynthRow({"prompt": f"Tell me {i} {text}", "completion": "yes"}, RowSource("grid", i, 0, 0, "p"))
            for i, text in enumerate(texts(20, 1))]  # fmt: skip
    found = report(made, real)
    assert found.labels == (("no", 0.0, 0.5), ("yes", 1.0, 0.5))
    assert found.figures["label_js"].mean == pytest.approx(0.2157615543)  # of (0, 1) and (1/2, 1/2), in nats
    text, ours, theirs = found.template
    assert text.startswith("tell me #") and ours <= 0.5 and theirs == 0
    assert "no held-out rows" in found.notes[0]
    assert sum(made for _, made, _ in found.lengths) == pytest.approx(1)


def test_coverage_counts_what_was_asked_for() -> None:
    grid = {"topic": ("cats", "rain"), "style": ("plain", "rhymed")}
    made = rows(["a", "b"], topic="cats", style="plain") + rows(["c"], topic="rain", style="plain")
    found = coverage(made, grid)
    assert found is not None and (found.filled, found.cells) == (2, 4)
    assert found.counts == {"topic": {"cats": 2, "rain": 1}, "style": {"plain": 3, "rhymed": 0}}


def made_row(job: int, says: str, asks: str = "", parent: str = "p", dropped: str = "", **attributes: str) -> SynthRow:
    content = {"prompt": asks, "completion": says} if asks else {"text": says}
    return SynthRow(content, RowSource("m", job, 0, 0, parent, attributes=attributes), {}, dropped)


def test_privacy_counts_what_is_beyond_nineteen_of_twenty() -> None:
    held, theirs = np.arange(1.0, 22.0), list(range(21))  # the edges are 2 and 19
    found = privacy(np.array([1.9, 2.1, 5.0, 0.5]), [19, 20, 3], held, theirs)
    assert found == {
        "nearest_heldout": mean(held.tolist()), "longest_run_heldout": mean(theirs), "nearer": share([1.0, 0, 0, 1]),
        "shares_more": share([0.0, 1.0, 0.0]),
    }  # fmt: skip
    made, real = [made_row(i, f"t{i}") for i in range(3)], [("q", "r"), ("", "s")]
    near = np.array([0.5, 0.25, 0.1234567]), np.array([0, 1, 1])
    shown = list(neighbours(made, real, near, [("a",), ("a", "b"), ("c",)]))
    assert shown == [
        {"id": "000001-000", "longest_run": 2, "words": "a b", "nearest": 0.25, "real": "s"},
        {"id": "000002-000", "longest_run": 1, "words": "c", "nearest": 0.123457, "real": "s"},
        {"id": "000000-000", "longest_run": 1, "words": "a", "nearest": 0.5, "real": "q\nr"},
    ]


def test_more_rows_of_one_kind_are_left_out_by_chance_and_it_is_said() -> None:
    found = report(rows(texts(16, 2)), pairs(texts(14, 0)), heldout=pairs(texts(12, 1)))
    assert (found.made, found.real) == (16, 14) and len(found.beside) == 16
    assert found.notes == ("distances, precision and recall are of 14 rows of each, by chance",)
