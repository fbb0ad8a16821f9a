"""Stochastic beams: a sample without replacement from the law of all texts, which are few enough to be counted."""

import math
from itertools import permutations

import numpy as np
import pytest

from engine.decode.control import RunControl
from engine.decode.exact import ExactMode
from engine.decode.stochastic_beam import StochasticBeam, below, expected, inclusion
from engine.decode.strategy import Strategy
from engine.errors import ParameterError
from engine.trace.trace import Recipe
from engine.transforms import Temperature
from tests.engine.decode.test_beam import PROMPT, few, markov, search, texts
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


def test_the_published_inclusion_probabilities() -> None:
    """p = (.5, .3, .2), two drawn: sums over the ordered pairs."""
    pairs = plackett_luce(np.array([0.5, 0.3, 0.2]), 2)
    assert [sum(p for pair, p in pairs.items() if i in pair) for i in range(3)] == pytest.approx(
        [0.839286, 0.675, 0.485714], abs=1e-6
    )


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


def test_all_texts_are_drawn_surely_where_there_are_no_more() -> None:
    found = search(markov(tree()), StochasticBeam(16), 4, seed=3)
    assert len(found.ids) == len(set(map(tuple, found.ids))) == 6
    assert all(figures["inclusion"] == 1 for figures in (found.figures[b] for b in found.order))


def test_the_largest_child_has_its_parents_noise() -> None:
    sums = np.random.default_rng(0).normal(size=1000)
    got = below(1.25, sums)
    assert got.max() == got[sums.argmax()] == 1.25 and (np.argsort(got) == np.argsort(sums)).all()
    assert inclusion(-3.0, -math.inf) == 1 and inclusion(-800.0, 0.0) == 0


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


def test_an_exact_search_is_for_one_text() -> None:
    with pytest.raises(ParameterError, match="looks for the one likeliest text"):
        ExactMode().best(2)
    with pytest.raises(ParameterError, match="the budget of passes must be"):
        ExactMode(0)


@pytest.mark.parametrize("strategy", [ExactMode(500), StochasticBeam(3)])
def test_words_that_are_put_in_front_are_no_part_of_the_search(strategy: Strategy) -> None:
    table, control = few(6), RunControl()
    control.force(list(b"ba"))
    forced = search(markov(table), strategy, 6, control=control, seed=4)
    assert all(ids[:2] == list(b"ba") for ids in forced.ids) and len(forced.ids) in (1, 3)
    if isinstance(strategy, ExactMode):
        plain = search(markov(table), strategy, 4, prompt=[*PROMPT, *b"ba"])
        assert forced.ids == [[*b"ba", *ids] for ids in plain.ids]
