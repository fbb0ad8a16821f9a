"""Power sampling: the law of whole texts is p ** alpha, by counting all of them, also where they differ in length."""

import math

import numpy as np
import pytest

from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted, Rated
from likely.engine.decode.power import Power, effective
from likely.engine.trace.step import Recipe
from likely.engine.transforms import Temperature
from tests.engine.decode.test_beam import PROMPT, few, markov, search, texts
from tests.engine.decode.test_without_replacement import chi_square_bound
from tests.fakes import EOS, VOCAB

RUNS = 400


def published() -> np.ndarray:
    """.6/.4, then .5/.5 behind the first and .95/.05 behind the second: a low temperature takes the wrong one."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[PROMPT[-1], [97, 98]] = np.log([0.6, 0.4])
    table[97, [99, 100]] = np.log([0.5, 0.5])
    table[98, [99, 100]] = np.log([0.95, 0.05])
    return table


def uneven() -> np.ndarray:
    """Texts of one to four tokens."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[PROMPT[-1], [97, EOS]] = np.log([0.55, 0.45])
    table[97, [98, EOS]] = np.log([0.7, 0.3])
    table[98, [97, 99, EOS]] = np.log([0.5, 0.3, 0.2])
    table[99, [99, EOS]] = np.log([0.5, 0.5])
    return table


def law(table: np.ndarray, length: int, alpha: float) -> dict[tuple[int, ...], float]:
    every = {ids: alpha * p for ids, p in texts(table, length, 4).items() if p > -math.inf}
    total = np.logaddexp.reduce(list(every.values()))
    return {ids: math.exp(p - total) for ids, p in every.items()}


def test_the_published_values() -> None:
    """At alpha 2; the same of tokens by themselves: .34615, .34615, .30684, .00085."""
    assert list(law(published(), 2, 2.0).values()) == pytest.approx([0.27709, 0.27709, 0.44458, 0.00123], abs=1e-5)


def sharp_texts(table: np.ndarray, begin: tuple[int, ...], most: int, alpha: float) -> dict[tuple[int, ...], float]:
    """The chance of every text that goes on from a beginning by tokens that are sharpened each by itself."""
    if begin[-1:] == (EOS,) or len(begin) == most:
        return {begin: 1.0}
    row = alpha * table[(*PROMPT, *begin)[-1]]
    chances = np.exp(row - np.logaddexp.reduce(row))
    found: dict[tuple[int, ...], float] = {}
    for token in np.flatnonzero(chances):
        after = sharp_texts(table, (*begin, int(token)), most, alpha)
        found |= {ids: float(chances[token]) * p for ids, p in after.items()}
    return found


def proposed(
    state: dict[tuple[int, ...], float], table: np.ndarray, most: int, alpha: float
) -> dict[tuple[int, ...], float]:
    """The law of the text after one more proposal: Metropolis and Hastings as in a textbook, each cut by itself."""
    goal, after = law(table, most, alpha), dict.fromkeys(state, 0.0)
    for x, mass in state.items():
        for cut in range(len(x)):
            ways = sharp_texts(table, x[:cut], most, alpha)
            for y, there in ways.items():
                taken = min(1.0, goal[y] / len(y) * ways[x] / (goal[x] / len(x) * there))
                for text, share in ((y, taken), (x, 1 - taken)):
                    after[text] = after.get(text, 0.0) + mass / len(x) * there * share
    return after


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "length", "strategy"),
    [
        (published(), 2, Power(2.0, 4)), (published(), 2, Power(2.0, 3, 1)),
        (uneven(), 4, Power(1.5, 5)), (uneven(), 4, Power(1.5, 3, 2)),
    ],
)  # fmt: skip
def test_texts_have_the_law_of_a_chain_whose_rest_is_the_power(table: np.ndarray, length: int, strategy: Power) -> None:
    """Few proposals are enough: their law is known exactly, not only where it tends to."""
    goal = law(table, length, strategy.alpha)
    assert proposed(goal, table, length, strategy.alpha) == pytest.approx(goal, abs=1e-12)
    want: dict[tuple[int, ...], float] = {(): 1.0}
    for most in range(min(strategy.block, length), length + 1, strategy.block):
        longer: dict[tuple[int, ...], float] = {}
        for begin, mass in want.items():
            for ids, p in sharp_texts(table, begin, most, strategy.alpha).items():
                longer[ids] = longer.get(ids, 0.0) + mass * p
        want = longer
        for _ in range(strategy.proposals):
            want = proposed(want, table, most, strategy.alpha)
    session, counts = markov(table), dict.fromkeys(want, 0)
    for seed in range(RUNS):
        counts[tuple(search(session, strategy, length, seed=seed).ids[0])] += 1
    rare = [ids for ids, p in want.items() if p * RUNS < 5]
    cells = [(counts[ids], p) for ids, p in want.items() if ids not in rare]
    cells += [(sum(counts[ids] for ids in rare), sum(want[ids] for ids in rare))] if rare else []
    chi = sum((seen - RUNS * p) ** 2 / (RUNS * p) for seen, p in cells)
    assert chi < chi_square_bound(len(cells))


def test_it_says_what_it_cost_and_reads_nothing_twice() -> None:
    table = few(2)
    session = markov(table)
    found = search(session, Power(4.0, 10, 4), 8, seed=1)
    figures = found.figures[0]
    assert figures["score"] == pytest.approx(sum(s.logprob or 0 for s in found.steps[0]), abs=1e-4)
    assert 0 <= figures["accepted"] <= 1 and figures["effective"] >= 1
    assert session.model.read <= len(PROMPT) + figures["drawn"]  # every drawn token once at most
    table[:, EOS] -= 6.0
    events = markov(table).generate(PROMPT, RunControl(), seed=1, max_tokens=24, strategy=Power(4.0, 3, 8))
    rated = [event.figures["score"] for event in events if isinstance(event, Rated)]
    assert rated[-1] == rated[-2]  # the text that is told is the one that the walk ended with, to the last digit


@pytest.mark.slow
def test_the_law_is_that_of_what_the_transforms_leave() -> None:
    """A temperature of 1 / 2 under a power of 1 is a power of 2 of each token, in texts of one token."""
    table, counts = few(5), {}
    for seed in range(RUNS):
        ids = search(markov(table), Power(1.0, 1), 1, Recipe((Temperature(0.5),)), seed=seed).ids[0]
        counts[ids[0]] = counts.get(ids[0], 0) + 1
    row = 2 * table[PROMPT[-1]]
    p = np.exp(row - np.logaddexp.reduce(row))
    chi = sum((counts.get(t, 0) - RUNS * p[t]) ** 2 / (RUNS * p[t]) for t in np.flatnonzero(p))
    assert chi < chi_square_bound(5)


def test_words_put_in_front_and_a_run_that_is_cancelled() -> None:
    control = RunControl()
    control.force([97])
    found = search(markov(few(6)), Power(2.0, 3), 5, control=control)
    assert found.ids[0][0] == 97 and found.steps[0][0].origin == "forced"
    control, tokens = RunControl(), []
    table = few(6)
    table[:, EOS] = -50
    for event in markov(table).generate(PROMPT, control, strategy=Power(2.0, 1000, 8), max_tokens=200):
        if isinstance(event, Rated):
            control.cancel()
        tokens += [event.step.token] if isinstance(event, Emitted) else []
    assert len(tokens) == 8  # what there was by then


def test_how_many_draws_a_chain_is_worth() -> None:
    """Geyer's initial positive sequence, written out; and an autoregression, whose worth is known."""
    for values in ([0.0, 1.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]):
        x = np.array(values) - np.mean(values)
        n, total = len(x), -1.0
        rho = [sum(x[i] * x[i + k] for i in range(n - k)) / (x @ x) for k in range(n)]
        for k in range(0, n - 1, 2):
            if rho[k] + rho[k + 1] <= 0:
                break
            total += 2 * (rho[k] + rho[k + 1])
        assert effective(values) == pytest.approx(n / max(total, 1.0))
    chain = [0.0]
    for noise in np.random.default_rng(0).normal(size=20_000):
        chain.append(0.8 * chain[-1] + noise)
    assert effective(chain) == pytest.approx(len(chain) * (1 - 0.8) / (1 + 0.8), rel=0.2)
    assert effective([3.0] * 50) == 1.0
