"""The bound by masked diffusion on a law of 81 texts, where all of it can be added up."""

import math

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.diffusion.bound import bound, exact
from likely.engine.diffusion.orders import every
from likely.engine.measure.proofs import enumeration, learned
from likely.engine.sampling.trace.noise import SCHEDULES, sizes, times
from tests.laws import small_law as laws


def test_the_exact_denoiser_leaves_no_gap_and_others_the_one_that_they_must() -> None:
    p = laws.drawn()
    found = np.array([exact(laws.exact(p), text, laws.MASK) for text in laws.TEXTS])
    assert np.abs(found + np.log(p)).max() < 1e-12
    each = np.log(laws.marginals(p))
    independent = np.array(
        [exact(lambda ids: np.broadcast_to(each, (len(ids), 4, 3)), t, laws.MASK) for t in laws.TEXTS]
    )
    entropies = -(laws.marginals(p) * each).sum()
    assert p @ independent == pytest.approx(entropies, abs=1e-12) and entropies > -(p @ np.log(p)) + 0.1
    uniform = exact(lambda ids: np.full((*ids.shape, 3), -math.log(3)), laws.TEXTS[5], laws.MASK)
    assert uniform == pytest.approx(4 * math.log(3), abs=1e-12)


def test_of_blocks_it_is_the_sum_of_each_given_those_before_and_of_single_tokens_the_likelihood() -> None:
    p = laws.drawn()
    denoise = laws.exact(p)

    def by_blocks(ids: np.ndarray) -> np.ndarray:  # what follows is not seen
        whole = np.concatenate([ids, np.full((len(ids), laws.LENGTH - ids.shape[1]), laws.MASK)], axis=1)
        return denoise(whole)[:, : ids.shape[1]]

    for block in (1, 2, 3, 4):
        found = np.array([exact(by_blocks, text, laws.MASK, block=block) for text in laws.TEXTS])
        assert np.abs(found + np.log(p)).max() < 1e-12
    text = laws.TEXTS[47]
    beside = np.all(laws.TEXTS[:, [0, 2]] == text[[0, 2]], axis=1)
    some = exact(lambda ids: denoise(ids), text, laws.MASK, [False, True, False, True], block=4)
    assert some == pytest.approx(-math.log(p[47] / p[beside].sum()), abs=1e-12)
    drawn = bound(by_blocks, text, laws.MASK, block=2, draws=16)
    assert drawn.error == 0 and drawn.n == 6 and drawn.mean == pytest.approx(-math.log(p[47]), abs=1e-12)


def test_drawn_masks_give_the_bound_within_the_error_that_they_say() -> None:
    long, vocab = 12, 3
    random = np.random.default_rng(1)
    shares = np.log(random.dirichlet(np.ones(vocab), size=(long + 1, long)))

    def denoise(ids: np.ndarray) -> np.ndarray:  # one that knows how many masks there are, and else nothing
        return shares[(ids == vocab).sum(axis=1)]

    text = random.integers(0, vocab, long)
    truth = exact(denoise, text, vocab)
    found = [bound(denoise, text, vocab, draws=128, seed=seed) for seed in range(200)]
    assert all(each.error > 0 for each in found)
    held = np.mean([low <= truth <= high for low, high in (each.interval for each in found)])
    assert 0.90 <= held <= 0.99
    z = (np.mean([e.mean for e in found]) - truth) / (np.std([e.mean for e in found]) / math.sqrt(200))
    assert abs(z) < 4
    few = bound(denoise, text, vocab, [True] * 6 + [False] * 6, draws=128)
    assert few.error == 0 and few.n == 63  # all masks there are
    for draws in (8, 20):
        with pytest.raises(ParameterError, match=f"by 8, 16 or more: give --draws 128, got {draws}"):
            bound(denoise, text, vocab, draws=draws)
    with pytest.raises(ParameterError, match="got none"):
        bound(denoise, text, vocab, [False] * 12)


def test_no_schedule_changes_the_bound_and_sedd_scores_give_the_same_loss() -> None:
    """The integral over time of weight x P(k masks) is 1 / (k C(L, k)), whatever the schedule (arXiv:2406.07524)."""
    t = (np.arange(200_000) + 0.5) / 200_000
    for schedule in SCHEDULES.values():
        masked = schedule(t)
        weight = (schedule(t + 1e-6) - schedule(t - 1e-6)) / 2e-6 / masked
        for k in range(1, 5):
            mass = masked**k * (1 - masked) ** (4 - k)  # of one mask of that size
            assert np.mean(weight * mass) == pytest.approx(1 / (k * math.comb(4, k)), rel=1e-4)
    # arXiv:2310.16834: the score entropy of absorbing, with the scores that p means
    sigma, p, x0 = 0.7, np.array([0.2, 0.5, 0.3]), 1
    ratio = 1 / math.expm1(sigma)
    scores = p * ratio
    entropy = scores.sum() - ratio * math.log(scores[x0]) + ratio * (math.log(ratio) - 1)
    assert entropy == pytest.approx(-ratio * math.log(p[x0]), abs=1e-12)
    assert entropy == pytest.approx(0.683744, abs=1e-6)


def test_times_cover_the_interval_and_every_size_is_as_likely() -> None:
    found = np.sort(times(8, 0.3))
    assert np.allclose(np.diff(found), 1 / 8) and found[0] >= 0 and found[-1] < 1
    assert np.bincount(sizes(5, times(1000, 0.123)), minlength=6).tolist() == [0, 200, 200, 200, 200, 200]


def test_every_order_has_its_price_their_mean_is_the_bound_and_one_who_knows_asks_the_same_in_all() -> None:
    texts, ids = learned.drawn(300, 4), [2, 1, 5, 3]
    found = every(learned.counted(texts), ids, enumeration.MASK)
    assert found.bound == pytest.approx(exact(learned.counted(texts), ids, enumeration.MASK), abs=1e-12)
    for order, costs in zip(found.orders, found.costs, strict=True):  # by counting
        for turn, at in enumerate(order):
            seen = order[:turn]
            agree = [text for text in texts.tolist() if all(text[i] == ids[i] for i in seen)]
            share = (1 + sum(text[at] == ids[at] for text in agree)) / (6 + len(agree))
            assert costs[turn] == pytest.approx(-math.log(share), abs=1e-12)
    assert found.mixture == pytest.approx(-math.log(np.mean([math.prod(np.exp(-row)) for row in found.costs])))
    assert found.mixture < found.bound and len({tuple(order) for order in found.orders.tolist()}) == 24
    knows = every(
        lambda many: np.log(np.stack([enumeration.unmasked(one) for one in many]) + 1e-300), ids, enumeration.MASK
    )
    assert np.allclose(knows.totals, -enumeration.chained(ids), atol=1e-12)
    pairs = learned.drawn(40_000, 2)
    rows = np.array([np.mean(pairs[pairs[:, 0] == last, 1][:, None] == range(6), axis=0) for last in range(1, 6)])
    assert np.abs(rows - enumeration.TABLE[1:]).max() < 0.02
    for wrong in ([], [1] * 7):
        with pytest.raises(ParameterError, match="1 to 6 tokens"):
            every(learned.counted(texts), wrong, enumeration.MASK)
