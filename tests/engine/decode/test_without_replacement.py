"""Stochastic beams: a sample without replacement from the law of all texts, which are few enough to be counted."""

import math
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest

from likely.engine.decode.beam import Beam
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted, Event, Forked, Rated
from likely.engine.decode.exact import ExactMode
from likely.engine.decode.stochastic_beam import StochasticBeam, below, expected, inclusion
from likely.engine.decode.strategy import Strategy
from likely.engine.trace.step import Recipe
from likely.engine.transforms import Temperature
from tests.engine.decode.test_beam import PROMPT, Found, few, markov, search, texts
from tests.fakes import EOS, VOCAB

RUNS = 1500


def plackett_luce(p: np.ndarray, k: int) -> dict[tuple[int, ...], float]:
    """The probability of each ordered sample of k without replacement."""
    found = {}
    for order in permutations(range(len(p)), k):
        left, chance = 1.0, 1.0
        for i in order:
            chance *= p[i] / left
            left -= p[i]
        found[order] = chance
    return found


def chi_square_bound(cells: int) -> float:
    """Exceeded by chance once in 10^5 (Wilson and Hilferty's approximation)."""
    df = cells - 1
    return float(df * (1 - 2 / (9 * df) + 4.265 * math.sqrt(2 / (9 * df))) ** 3)


def tree() -> np.ndarray:
    """Five texts of unequal length and probability."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[PROMPT[-1], [97, 98, EOS]] = np.log([0.5, 0.3, 0.2])
    table[97, [98, EOS]] = np.log([0.6, 0.4])
    table[98, [99, EOS]] = np.log([0.25, 0.75])
    table[99, EOS] = 0.0
    return table


@pytest.mark.slow
def test_samples_have_the_law_of_drawing_without_replacement() -> None:
    """Ordered pairs of the six texts of a tree, against Plackett and Luce."""
    every = texts(tree(), 4, 3)
    names = [ids for ids, p in every.items() if p > -math.inf]
    p = np.exp([every[ids] for ids in names])
    assert p.sum() == pytest.approx(1) and len(names) == 6
    want = plackett_luce(p, 2)
    counts = dict.fromkeys(want, 0)
    session = markov(tree())
    for seed in range(RUNS):
        found = search(session, StochasticBeam(2), 4, seed=seed)
        counts[tuple(names.index(tuple(ids)) for ids in found.ids)] += 1
    chi = sum((counts[pair] - RUNS * q) ** 2 / (RUNS * q) for pair, q in want.items())
    assert chi < chi_square_bound(len(want))


@pytest.mark.slow
def test_estimates_are_unbiased_and_know_their_error() -> None:
    """The mean length of a text from two of six, 1500 times: within 4.5 standard errors, which are those that are
    estimated to a tenth."""
    every = {ids: p for ids, p in texts(tree(), 4, 3).items() if p > -math.inf}
    want = sum(math.exp(p) * len(ids) for ids, p in every.items())
    session, means, errors = markov(tree()), [], []
    for seed in range(RUNS):
        found = search(session, StochasticBeam(2), 4, seed=10_000 + seed)
        said = [found.figures[branch]["inclusion"] for branch in found.order]
        mean, error = expected([len(ids) for ids in found.ids], [every[tuple(ids)] for ids in found.ids], said)
        means.append(mean)
        errors.append(error**2)
    assert np.mean(means) == pytest.approx(want, abs=4.5 * np.std(means) / math.sqrt(RUNS))
    assert np.mean(errors) == pytest.approx(np.var(means), rel=0.25)


@pytest.mark.slow
def test_estimates_stay_unbiased_where_texts_are_cut_and_some_are_dropped() -> None:
    """Of three, cut at three tokens, those that begin with a are dropped at their second, half of the time an event
    later: the mean of a function over the others, within 4.5 standard errors. With the places filled again it is 6 off.
    """
    table = few(2, 3, 1.0)
    every = {ids: p for ids, p in texts(table, 3, 3).items() if p > -math.inf}
    worth = {ids: 1.0 + (ids[-1] == EOS) + len(ids) for ids in every}
    want = sum(math.exp(p) * worth[ids] for ids, p in every.items() if ids[0] != 97)
    session, means = markov(table), []

    def run(seed: int) -> Iterator[Event]:
        control, doomed, begun = RunControl(), set[int](), dict[int, list[int]]()
        for event in session.generate(PROMPT, control, strategy=StochasticBeam(3), max_tokens=3, seed=seed):
            match event:
                case Forked(parent, child):
                    begun[child] = list(begun.get(parent, ()))
                case Emitted(branch, step):
                    begun.setdefault(branch, []).append(step.token)
            doomed |= {branch for branch, ids in begun.items() if len(ids) > 1 and ids[0] == 97}
            if seed % 2 or isinstance(event, Rated):
                control.given_up |= doomed
            yield event

    for seed in range(900):
        found = Found(run(20_000 + seed))
        left = [branch for branch in found.order if found.steps[branch][0].token != 97]
        ids = [tuple(step.token for step in found.steps[branch]) for branch in left]
        said = [found.figures[branch]["inclusion"] for branch in left]
        means.append(expected([worth[i] for i in ids], [every[i] for i in ids], said)[0])
    assert np.mean(means) == pytest.approx(want, abs=4.5 * np.std(means) / math.sqrt(len(means)))


def test_texts_that_a_stop_has_cut_are_included_by_the_same_threshold() -> None:
    """Whether they have ended or not: what was drawn is a sample of texts as long as they are by then."""
    table, control = few(2, 3, 1.0), RunControl()
    every = texts(table, 2, 3) | texts(table, 3, 3)

    def stopped() -> Iterator[Event]:
        for event in markov(table).generate(PROMPT, control, strategy=StochasticBeam(4), max_tokens=9, seed=5):
            if isinstance(event, Emitted) and event.step.position == len(PROMPT) + 2:
                control.cancel()
            yield event

    found = Found(stopped())
    assert {end.reason for end in found.ends.values()} == {"cancelled", "eot"} and len(found.ids) == 4
    told = [found.figures[branch] for branch in found.order]
    said = [(every[tuple(ids)], each["inclusion"]) for ids, each in zip(found.ids, told, strict=True)]
    thresholds = [logp - math.log(-math.log1p(-q)) for logp, q in said]
    assert thresholds == pytest.approx([thresholds[0]] * 4, abs=1e-4)
    assert all(each["perturbed"] > thresholds[0] for each in told)


# -- the mode --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_mode_is_the_likeliest_of_all_texts(seed: int) -> None:
    table = few(seed)
    table[:, EOS] -= 2.0
    every = texts(table, 5)
    found = search(markov(table), ExactMode(5000), 5)
    figures = found.figures[0]
    assert figures["proven"] and figures["score"] == pytest.approx(max(every.values()), abs=1e-5)
    assert every[tuple(found.ids[0])] == pytest.approx(max(every.values()), abs=1e-5)
    assert figures["passes"] < len(every) / 3
    drawn = [step.logprob for step in found.steps[0]]
    assert sum(p for p in drawn if p is not None) == pytest.approx(figures["score"], abs=1e-4)


@pytest.mark.parametrize("budget", [1, 2, 5])
def test_without_a_proof_there_is_a_bound(budget: int) -> None:
    table = few(3)
    table[:, EOS] -= 3.0
    best = max(texts(table, 6).values())
    figures = search(markov(table), ExactMode(budget), 6).figures[0]
    assert not figures["proven"] and figures["passes"] == budget
    assert figures["score"] <= best + 1e-5 and best <= figures["bound"] + 1e-5


def test_the_mode_is_that_of_what_the_transforms_leave() -> None:
    """Hot enough, the many texts share what the likeliest had, and the empty answer is the mode."""
    table = few(4)
    table[:, EOS] = table[:, 97:101].max(axis=1) - 1.0
    hot = search(markov(table), ExactMode(), 6, Recipe((Temperature(2.0),)))
    logp = table / 2 - np.logaddexp.reduce(table / 2, axis=-1, keepdims=True)
    every = texts(logp, 6)
    assert every[tuple(hot.ids[0])] == pytest.approx(max(every.values()), abs=1e-5)


def test_wide_beams_come_to_the_empty_answer_and_it_is_shown_to_be_the_mode() -> None:
    """The curse of beam search: the text that two beams find is less likely than none at all."""
    table = few(4)
    table[:, EOS] = table[:, 97:101].max(axis=1) - 1.0
    mode = search(markov(table), ExactMode(), 6)
    assert mode.ids == [[EOS]] and mode.figures[0]["proven"]
    narrow, wide = (search(markov(table), Beam(beams, 0.0, "never"), 6) for beams in (2, 16))
    assert len(narrow.ids[0]) == 6 and narrow.scores[0] < mode.figures[0]["score"] - 2
    assert wide.ids[0] == [EOS] and wide.scores[0] == pytest.approx(mode.figures[0]["score"], abs=1e-5)


@pytest.mark.parametrize("strategy", [ExactMode(500), StochasticBeam(3)])
def test_words_that_are_put_in_front_are_no_part_of_the_search(strategy: Strategy) -> None:
    table, control = few(6), RunControl()
    control.force(list(b"ba"))
    forced = search(markov(table), strategy, 6, control=control, seed=4)
    assert all(ids[:2] == list(b"ba") for ids in forced.ids) and len(forced.ids) in (1, 3)
    if isinstance(strategy, ExactMode):
        plain = search(markov(table), strategy, 4, prompt=[*PROMPT, *b"ba"])
        assert forced.ids == [[*b"ba", *ids] for ids in plain.ids]


def test_gumbel_sums_under_their_largest() -> None:
    """Appendix B.3 against the formula itself, in float64 where that keeps its digits."""
    sums = np.array([0.5, -1.0, 2.0, -3.0, 1.9])
    for largest in (-2.0, 0.0, 3.0):
        z = sums.max()
        want = -np.log(np.exp(-largest) - np.exp(-z) + np.exp(-sums))
        np.testing.assert_allclose(below(largest, sums), want, rtol=1e-9)
    assert below(1.0, np.array([5.0]))[0] == pytest.approx(1.0) and below(1.0, np.array([5.0, -np.inf]))[1] == -np.inf
    for logprob, threshold in ((-1.0, -2.0), (-5.0, 1.0), (-0.1, -0.1)):
        assert inclusion(logprob, threshold) == pytest.approx(1 - math.exp(-math.exp(logprob - threshold)))
    assert inclusion(-1.0, -math.inf) == 1.0 and inclusion(-800.0, 0.0) == 0.0
    assert inclusion(-20.0, 0.0) == pytest.approx(math.exp(-20), rel=1e-6)
    mean, error = expected([1.0, 3.0], [math.log(0.5), math.log(0.2)], [0.8, 0.4])
    assert mean == pytest.approx(0.5 / 0.8 + 3 * 0.2 / 0.4)
    assert error == pytest.approx(math.sqrt(0.2 * 0.625**2 + 0.6 * 1.5**2))
