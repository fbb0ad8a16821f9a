"""Figures of items and of documents against sums in numpy, the comparisons of models, and what was left out."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from likely.engine.base.statistics.estimates import Change, Estimate, bootstrap, clustered, compare, holm, mean, share
from likely.engine.measure.evaluate.figures import calibration
from likely.engine.measure.evaluate.figures.figures import (
    CALIBRATION,
    ComparedMeasure,
    Tally,
    changed,
    comparisons,
    counterpart,
    left_out,
)
from likely.engine.measure.evaluate.tasks.tasks import Problem

TEXTS = [(10.0, 4.0, 20.0), (3.0, 2.0, 9.0), (8.0, 3.0, 30.0), (6.0, 5.0, 11.0), (1.0, 1.0, 4.0)]


def documents(clusters: list[str | None], end: str = "", variances: list[float] | None = None) -> Tally:
    tally = Tally()
    for number, (cluster, (nats, tokens, size)) in enumerate(zip(clusters, TEXTS, strict=True)):
        more = {} if variances is None else {"draw_variance": variances[number]}
        tally.add(number, cluster, {f"nats{end}": nats, "tokens": tokens, "bytes": size} | more)
    return tally


@pytest.mark.parametrize("clusters", [[None] * 5, list("abacb"), list("aabbb"), ["a"] * 5])
def test_what_documents_add_up_to(clusters: list[Any]) -> None:
    found = documents(clusters).figures()
    rows = np.array(TEXTS)
    names = np.array([str(i) if c is None else c for i, c in enumerate(clusters)])
    sums = np.array([rows[names == name].sum(0) for name in np.unique(names)])
    groups = len(sums)
    nats, tokens, size = rows.sum(0)
    assert set(found) == {"nats", "tokens", "bytes", "perplexity", "bits_per_byte"}
    assert all(each.n == groups for each in found.values())
    assert [(found[name].mean, found[name].error, found[name].df) for name in ("tokens", "bytes")] == [
        (15.0, 0.0, math.inf), (74.0, 0.0, math.inf)
    ]  # fmt: skip

    def error(column: int, total: float) -> float:
        if groups == 1:
            return math.inf
        apart = sums[:, 0] - nats / total * sums[:, column]
        return float(np.sqrt((apart**2).sum() * groups / (groups - 1)) / total)

    token, byte = error(1, tokens), error(2, size)
    assert found["nats"].mean == 28.0 and found["nats"].error == pytest.approx(token * tokens)
    assert found["perplexity"].mean == pytest.approx(math.exp(28 / 15))
    assert found["perplexity"].error == pytest.approx(token * math.exp(28 / 15))
    assert found["bits_per_byte"].mean == pytest.approx(28 / 74 / math.log(2))
    assert found["bits_per_byte"].error == pytest.approx(byte / math.log(2))
    assert {found[name].df for name in ("nats", "perplexity", "bits_per_byte")} == {max(1, groups - 1)}
    if groups > 1:
        low, high = Estimate(28 / 15, token, groups - 1).interval
        assert found["perplexity"].interval == pytest.approx((math.exp(max(low, 0)), math.exp(high)))
        low, high = Estimate(28 / 74, byte, groups - 1).interval
        assert found["bits_per_byte"].interval == pytest.approx((max(low, 0) / math.log(2), high / math.log(2)))


def test_no_interval_of_a_text_goes_below_what_can_be() -> None:
    """Three windows of which the first alone costs anything: Student's interval of two degrees would go below 0."""
    tally = Tally()
    for number, nats in enumerate((40.0, 1.0, 0.5)):
        tally.add(number, None, {"nats": nats, "tokens": 60, "bytes": 240})
    found = tally.figures()
    lows = {name: found[name].interval[0] for name in ("nats", "perplexity", "bits_per_byte")}
    assert lows == {"nats": 0.0, "perplexity": 1.0, "bits_per_byte": 0.0}
    assert all(found[name].interval[1] > found[name].mean for name in lows)


def test_bounds_say_so_and_by_how_much_the_draws_vary() -> None:
    exact = documents([None] * 5).figures()
    tally = documents([None] * 5, "_at_most", [0.5, 0.25, 1.0, 0.0, 2.25])
    found = tally.figures()
    assert tally.bounded and tally.texts and tally.headline == "bits_per_byte_at_most"
    assert found["bits_per_byte_at_most"] == exact["bits_per_byte"] and found["nats_at_most"] == exact["nats"]
    assert found["perplexity_at_most"] == exact["perplexity"] == tally.main
    draw = found["bits_per_byte_draw_error"]
    assert (draw.mean, draw.error, draw.n) == (pytest.approx(2 / 74 / math.log(2)), 0.0, 5)
    assert len(found) == 6


def test_a_text_of_nothing_has_no_figure_and_one_without_likelihood_no_end() -> None:
    tally = Tally()
    tally.add(0, None, {"nats": 0.0, "tokens": 0.0, "bytes": 3.0})
    assert math.isnan(tally.figures()["perplexity"].mean) and tally.figures()["bits_per_byte"].mean == 0
    for nats, value in ((699.0, math.exp(699)), (700.0, math.inf), (1e9, math.inf)):
        one = Tally()
        one.add(0, None, {"nats": nats, "tokens": 1.0, "bytes": 3.0})
        assert one.figures()["perplexity"].mean == value


def items(values: list[dict[str, float]], clusters: list[str] | None = None) -> Tally:
    tally = Tally()
    for number, each in enumerate(values):
        tally.add(10 + number, None if clusters is None else clusters[number], each)
    return tally


def test_the_first_measure_stands_for_the_task() -> None:
    assert Tally().main is None and Tally().first == "" and not Tally().texts and not Tally().bounded
    tally = items([{"acc": 1.0, "tokens": 3.0}, {"acc": 0.0, "tokens": 4.0}])
    assert (tally.first, tally.headline, tally.texts) == ("acc", "acc", False)
    assert tally.main == share([1.0, 0.0]) and tally.figures() == {"acc": share([1.0, 0.0]), "tokens": mean([3.0, 4.0])}
    texts = documents([None] * 5)
    assert (texts.first, texts.headline, texts.texts, texts.bounded) == ("nats", "bits_per_byte", True, False)
    assert texts.main == texts.figures()["perplexity"] == texts.estimate("perplexity")
    assert texts.estimate("tokens") == mean([4.0, 2.0, 3.0, 5.0, 1.0])
    assert items([{"tokens": 1.0, "nats": 2.0, "bytes": 1.0}]).texts  # whatever comes first


def test_items_without_a_measure_are_left_out_of_it_with_their_clusters() -> None:
    tally = items([{"nll": 1.0}, {"nll": 0.25, "len": 3.0}, {"nll": 0.5, "len": 5.0}], list("aab"))
    assert tally.estimate("nll") == clustered([1.0, 0.25, 0.5], list("aab"))
    assert tally.estimate("len") == clustered([3.0, 5.0], list("ab"))


@pytest.mark.parametrize("name", ["win_rate", "win_probability", "first_position", "ties", "unclear"])
def test_parts_that_are_all_alike_have_the_interval_of_a_share(name: str) -> None:
    assert items([{name: 0.5}] * 4).estimate(name) == share([0.5] * 4)
    assert items([{name: 0.5}] * 4, list("aabb")).estimate(name) == share([0.5] * 4, list("aabb"))
    found, plain = items([{name: 0.5}, {name: 0.25}]).estimate(name), mean([0.5, 0.25])
    assert (found.mean, found.error, found.interval) == (plain.mean, plain.error, (0, 1))  # and not -1.2 to 2
    assert items([{name: 0.5 + i / 100} for i in range(9)]).estimate(name) == mean([0.5 + i / 100 for i in range(9)])
    assert items([{"pmi": 0.5}] * 4).estimate("pmi") == mean([0.5] * 4)


@pytest.mark.parametrize("clusters", [None, list("aabbccddee")])
def test_calibration_is_of_bins_with_the_items_resampled(clusters: list[str] | None) -> None:
    random = np.random.default_rng(0)
    rows = np.stack([random.random(10), random.integers(0, 2, 10)], axis=1)
    tally = items([{"acc": right, "confidence": said} for said, right in rows.tolist()], clusters)
    found = tally.figures()
    assert (tally.confidences() == rows).all() and set(found) == {"acc", "confidence", *CALIBRATION}
    equal, even = calibration.reliability(rows[:, 0], rows[:, 1], 15), calibration.adaptive(rows[:, 0], rows[:, 1], 15)
    assert found["ece"].mean == calibration.ece(equal) and found["ece_adaptive"].mean == calibration.ece(even)
    assert found["rmsce_debiased"].mean == calibration.debiased(equal)
    for name, of in CALIBRATION.items():
        assert found[name] == bootstrap(rows, of, clusters, samples=500)
    for lacking in ({"acc": 1.0}, {"confidence": 1.0}):
        assert items([lacking]).confidences() is None and list(items([lacking]).figures()) == list(lacking)


def compared(measure: str, middle: float, p: float, bounds: tuple[bool, bool] = (False, False)) -> str:
    return ComparedMeasure("t", measure, ("a", "b"), Change(Estimate(middle, 0.1), 0.5), p, 9, bounds).verdict


@pytest.mark.parametrize(
    ("measure", "up"),
    [
        *((name, "better") for name in ("acc", "exact", "win_rate", "own_context")),
        *((name, "worse") for name in ("nats", "perplexity", "bits_per_byte", "brier_score", "nll", "ece", "kl", "js")),
        *((name, "worse") for name in ("ece_adaptive", "rmsce_debiased", "unclear", "reverse_kl", "tv")),
        *((f"{name}_at_most", "worse") for name in ("nats", "perplexity", "bits_per_byte")),
    ],
)
def test_of_some_measures_less_is_better(measure: str, up: str) -> None:
    down = "worse" if up == "better" else "better"
    assert (compared(measure, 0.1, 0.01), compared(measure, -0.1, 0.01)) == (up, down)
    assert compared(measure, 0.1, 0.06) == "not seen"


@pytest.mark.parametrize("bounds", [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize(("middle", "p"), [*product((-0.1, 0.0, 0.1), (0.01, 0.0499, 0.05, math.nan))])
def test_a_bound_tells_where_it_is_on_the_right_side(bounds: tuple[bool, bool], middle: float, p: float) -> None:
    """Even what the second has at most is less than the first; even what the first has at most is less."""
    tells = {(False, True): middle < 0, (True, False): middle > 0}.get(bounds, False) and p < 0.05
    said = ("better" if middle < 0 else "worse") if tells else "a bound does not tell"
    assert compared("nats", middle, p, bounds) == said


def test_models_are_compared_with_the_first_over_the_items_that_both_have() -> None:
    random = np.random.default_rng(1)
    tallies = {
        (task, model): items(
            [{"acc": float(random.random() < 0.5), "confidence": 0.5, "nll": float(random.normal())} for _ in range(n)]
        )
        for task in ("t", "u")
        for model, n in (("one", 12), ("two", 9), ("three", 12))
        if (task, model) != ("u", "two")
    }
    tallies["v", "two"] = items([{"acc": 1.0}])  # the first has not been asked
    tallies["w", "one"] = items([{"acc": 1.0}])
    tallies["w", "two"] = Tally([99], [None], {"acc": {99: 1.0}})  # no item in common
    found = comparisons(tallies, ["one", "two", "three"])
    assert [(each.task, each.measure, each.models, each.n) for each in found] == [
        ("t", "acc", ("one", "two"), 9), ("t", "nll", ("one", "two"), 9), ("t", "acc", ("one", "three"), 12),
        ("t", "nll", ("one", "three"), 12), ("u", "acc", ("one", "three"), 12), ("u", "nll", ("one", "three"), 12),
    ]  # fmt: skip
    assert [each.p for each in found] == holm([each.change.p for each in found])
    assert all(each.bounds == (False, False) for each in found)
    for each in found:
        first, second = (list(tallies[each.task, m].values[each.measure].values())[: each.n] for m in each.models)
        assert each.change == compare(first, second)
    assert comparisons(tallies, []) == [] and comparisons(tallies, ["none", "one"]) == []


def test_bounds_are_compared_with_what_is_exact() -> None:
    tallies = {("t", "exact"): documents([None] * 5), ("t", "bound"): documents([None] * 5, "_at_most", [0.1] * 5)}
    (one,) = comparisons(tallies, ["exact", "bound"])
    assert (one.measure, one.bounds, one.n) == ("nats", (False, True), 5)
    (other,) = comparisons(tallies, ["bound", "exact"])
    assert (other.measure, other.bounds) == ("nats", (True, False))
    assert counterpart("acc", ["nats", "acc_by_bound", "acc"]) == "acc_by_bound"
    assert counterpart("nats_at_most", ["acc", "nats"]) == "nats" and counterpart("nats", ["acc"]) is None


@pytest.mark.parametrize("clusters", [None, list("aabbb")])
def test_nats_are_compared_a_token_and_others_as_they_are(clusters: list[str] | None) -> None:
    first = documents([None] * 5 if clusters is None else list(clusters))
    second = Tally(first.numbers[1:], first.clusters[1:], {"nats": {1: 2.0, 2: 9.0, 3: 6.0, 4: 0.5}, "size": {}})
    named = None if clusters is None else clusters[1:]
    before, now = np.array([3.0, 8.0, 6.0, 1.0]), np.array([2.0, 9.0, 6.0, 0.5])
    found, n = changed(first, second, "nats")
    by_hand = compare((before / 2.75).tolist(), (now / 2.75).tolist(), named)  # 11 tokens of 4 texts
    assert n == 4 and found.p == pytest.approx(by_hand.p)
    assert (found.estimate.mean, found.estimate.error) == pytest.approx((by_hand.estimate.mean, by_hand.estimate.error))
    shares = [Tally([0, 1], [None] * 2, {"confidence": dict(enumerate(values))}) for values in ((0.9, 0.1), (0.1, 0.8))]
    assert changed(*shares, "confidence")[0].estimate.interval == (-1.0, 1.0)  # Student's of two would be far wider
    nothing, n = changed(first, Tally([77], [None], {"nats": {77: 1.0}}), "nats")
    assert n == 0 and math.isnan(nothing.estimate.mean)


def test_odd_rows_are_counted_by_kind_and_by_whether_they_are_scored() -> None:
    odd = [("empty", False), ("empty", False), ("duplicate", True), ("too long", False), ("boundary", True)]
    problems = [Problem(i, kind, "", scored) for i, (kind, scored) in enumerate(odd)]
    assert left_out(problems) == {"left out": {"empty": 2, "too long": 1}, "scored": {"duplicate": 1, "boundary": 1}}
    assert left_out(problems[:2]) == {"left out": {"empty": 2}} and left_out([]) == {}
