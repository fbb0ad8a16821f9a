"""Resampling by weight: its law, by enumeration of all that K answers can be, comes to the one that is meant."""

import math
from collections import Counter
from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest

from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted
from likely.engine.decode.resampling import constrained, effective_size, log_weight, resampled, shares
from likely.engine.trace.step import Recipe, TokenStep
from likely.engine.transforms import Constraint
from tests.engine.decode.test_beam import PROMPT
from tests.engine.test_constraint import merging
from tests.fakes import EOS

RECIPE = Recipe((Constraint("regex", "ab|cd", len(PROMPT)),))
ALLOWED = {(): (97, 99, 258, 259), (97,): (98,), (99,): (100,)}  # elsewhere an end alone


@pytest.mark.parametrize("seed", range(3))
def test_the_law_of_one_of_k_comes_to_that_of_what_matches(seed: int) -> None:
    session, every = merging(seed)
    table = np.asarray(session.model.table, np.float64)
    table -= np.logaddexp.reduce(table, axis=-1, keepdims=True)
    p = {ids: logp for ids, logp in every.items() if len(ids) - (ids[0] < 256) == 2}
    weight = {
        ids: sum(
            float(np.logaddexp.reduce(table[(PROMPT[-1], *ids)[n], list(ALLOWED.get(ids[:n], (EOS,)))]))
            for n in range(len(ids))
        )
        for ids in p
    }
    answers: dict[int, list[TokenStep]] = {}
    for event in session.generate(PROMPT, RunControl(RECIPE), n=16, seed=5, max_tokens=4):
        if isinstance(event, Emitted):
            answers.setdefault(event.branch, []).append(event.step)
    for steps in answers.values():
        ids = tuple(step.token for step in steps)
        assert constrained(steps) and log_weight(steps) == pytest.approx(weight[ids], abs=1e-5)
        assert sum(step.logprob_after or 0.0 for step in steps) == pytest.approx(p[ids] - weight[ids], abs=1e-5)

    meant = np.exp(np.array([*p.values()]) - np.logaddexp.reduce([*p.values()]))
    q = np.exp(np.array([p[ids] - weight[ids] for ids in p]))
    assert q.sum() == pytest.approx(1)
    far = []
    for k in (1, 2, 4, 8, 16):
        law = np.zeros(4)
        for drawn in combinations_with_replacement(range(4), k):
            ways = math.factorial(k) / math.prod(math.factorial(count) for count in Counter(drawn).values())
            share = shares([weight[[*p][i]] for i in drawn])
            np.add.at(law, list(drawn), ways * math.prod(q[i] for i in drawn) * share)
        assert law.sum() == pytest.approx(1, abs=1e-5)
        far.append(0.5 * np.abs(law - meant).sum())
    assert far[0] == pytest.approx(0.5 * np.abs(q - meant).sum()) and far[0] > 0.02
    assert all(later < before for before, later in pairwise(far)) and far[-1] < far[0] / 4


def test_one_is_drawn_in_proportion_to_its_weight() -> None:
    weights = [-800.0, -801.0, -803.0]  # nats: their exponentials are nothing
    p = np.exp([0, -1, -3]) / np.exp([0, -1, -3]).sum()
    assert shares(weights) == pytest.approx(p) and effective_size(weights) == pytest.approx(1 / (p**2).sum())
    counts = np.bincount([resampled(weights, seed) for seed in range(3000)], minlength=3)
    assert ((counts - 3000 * p) ** 2 / (3000 * p)).sum() < 23.1  # exceeded once in 10^5 with 2 degrees of freedom
    assert effective_size([-5.0] * 7) == pytest.approx(7) and resampled([-1e9], 3) == 0
