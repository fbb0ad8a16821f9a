"""Learning from rewards, by enumeration: what a group's gradient is in the mean, and where a price of KL leads.

The policy is a table in float64: two letters and an end, at most three tokens, 15 answers, of which those that ended
with exactly one 0 are right. Its numbers stand in the literature's formulas; scores are central differences' own.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations_with_replacement, product
from math import comb

import numpy as np
import pytest

from likely.engine.train.rewards.advantages import advantages, clipped, weights
from likely.engine.train.rewards.figures import HeldOut, Rewarded, Rollout, held_out, summary
from likely.engine.train.rewards.reward_history import RewardCourse, RewardWarning, recent

END, PREFIXES = 2, [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]
LOGITS = np.array([[np.sin(1 + 1.7 * s + 2.3 * v) for v in range(3)] for s in range(7)])
REFERENCE = np.array([[0.5 * np.cos(0.3 + 0.9 * s + 1.1 * v) for v in range(3)] for s in range(7)])


def texts() -> list[tuple[int, ...]]:
    whole = [(*prefix, END) for prefix in PREFIXES]
    return whole + list(product((0, 1), repeat=3))


ANSWERS = texts()
REWARD = np.array([float(a[-1] == END and a.count(0) == 1) for a in ANSWERS])
LENGTH = [len(a) for a in ANSWERS]


def logprobs(logits: np.ndarray) -> np.ndarray:
    """log p of each answer."""
    table = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.array([sum(table[PREFIXES.index(a[:i]), t] for i, t in enumerate(a)) for a in ANSWERS])


def slopes(f: object, at: np.ndarray) -> np.ndarray:
    """Central differences of an array-valued function of the logits: [values, 21]."""
    columns = []
    for k in range(at.size):
        step = np.zeros(at.size)
        step[k] = 1e-5
        up, down = (f(at + sign * step.reshape(at.shape)) for sign in (1, -1))  # type: ignore[operator]
        columns.append((np.asarray(up) - np.asarray(down)) / 2e-5)
    return np.stack(columns, -1)


P = np.exp(logprobs(LOGITS))
SCORES = slopes(logprobs, LOGITS)
TRUE = slopes(lambda logits: np.exp(logprobs(logits)) @ REWARD, LOGITS)


def expected(
    size: int, how: str, share: str = "answers", rewards: np.ndarray = REWARD, drawn: np.ndarray = P,
    scores: np.ndarray = SCORES,
) -> np.ndarray:  # fmt: skip
    """The mean over all groups of the gradient that a group gives, where answers are drawn by these probabilities."""
    total = np.zeros(SCORES.shape[1])
    for group in product(range(len(ANSWERS)), repeat=size):
        some = list(group)
        counted = weights(advantages(rewards[some], how), [LENGTH[i] for i in some], share)
        total += drawn[some].prod() * (counted @ scores[some])
    return total


def test_the_table_is_the_one_that_was_worked_out() -> None:
    assert P.sum() == pytest.approx(1) and pytest.approx(0.373017781794, abs=1e-11) == REWARD @ P
    assert np.linalg.norm(TRUE) == pytest.approx(0.249026514645, abs=1e-9)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    ("how", "share", "ratios", "cosines"),
    [
        ("others", "answers", (1.0, 1.0), (1.0, 1.0)),  # the gradient of the mean reward
        ("none", "answers", (1.0, 1.0), (1.0, 1.0)),
        ("std", "answers", (0.707007, 1.154501), (1.0, 1.0)),
        ("std", "each", (0.377204, 0.615952), (0.963911, 0.963911)),  # another objective, another way
        ("others", "tokens", (0.482497, 0.467960), (0.993206, 0.997192)),
    ],
)
def test_a_groups_gradient_in_the_mean(
    size: int, how: str, share: str, ratios: tuple[float, ...], cosines: tuple[float, ...]
) -> None:
    found = expected(size, how, share)
    length, true = np.linalg.norm(found), np.linalg.norm(TRUE)
    assert length / true == pytest.approx(ratios[size - 2], abs=2e-6)
    assert found @ TRUE / length / true == pytest.approx(cosines[size - 2], abs=2e-6)


def test_answers_left_out_or_drawn_by_another_law_teach_another_gradient() -> None:
    """Truncated ones have no reward and are learned nevertheless; answers are drawn at the temperature of the law that
    is learned: else the gradient of the mean reward is missed by so much of its length."""
    ended = np.array([[answer[-1] == END] for answer in ANSWERS])
    found = expected(2, "others", scores=SCORES * ended)
    assert np.linalg.norm(found - TRUE) / np.linalg.norm(TRUE) == pytest.approx(0.298856, abs=2e-6)
    cooler = np.exp(logprobs(LOGITS / 0.7))
    true = slopes(lambda logits: np.exp(logprobs(logits / 0.7)) @ REWARD, LOGITS)
    found = expected(2, "others", drawn=cooler)
    assert np.linalg.norm(found - true) / np.linalg.norm(true) == pytest.approx(0.286173, abs=2e-6)
    own = slopes(lambda logits: logprobs(logits / 0.7), LOGITS)
    assert expected(2, "others", drawn=cooler, scores=own) == pytest.approx(true, abs=1e-9)


@pytest.mark.parametrize(("p", "ratio"), [(0.01, 2.440367), (0.1, 2.177354), (0.5, 1.735807)])
def test_the_spread_weighs_rare_successes_more(p: float, ratio: float) -> None:
    """By groups of 8 of one problem: (1/G) sum A_i s_i with s = 1/p where right, -1/(1-p) where wrong, is ratio."""
    total = 0.0
    for right in range(9):
        rewards = [1.0] * right + [0.0] * (8 - right)
        counted = weights(advantages(rewards, "std"), [1] * 8)
        score = np.array([1 / p] * right + [-1 / (1 - p)] * (8 - right))
        total += comb(8, right) * p**right * (1 - p) ** (8 - right) * float(counted @ score)
    assert total == pytest.approx(ratio, rel=2e-3)  # 1e-4 beside the spread


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -3.7])
@pytest.mark.parametrize("how", ["others", "std"])
def test_equal_rewards_teach_nothing_at_all(value: float, how: str) -> None:
    assert (advantages([value] * 7, how) == 0).all()
    assert (advantages([value], how) == 0).all()


def test_a_price_of_kl_in_the_reward_leads_to_the_tilted_reference() -> None:
    """The gradient is that of E r - beta KL, by whole answers, and at ref e^(r / beta) there is none."""
    beta, ref = 0.25, logprobs(REFERENCE)

    def value(logits: np.ndarray) -> float:
        log = logprobs(logits)
        return float(np.exp(log) @ (REWARD - beta * (log - ref)))

    assert np.exp(logprobs(LOGITS)) @ (logprobs(LOGITS) - ref) == pytest.approx(0.377786550856, abs=1e-11)
    priced = REWARD - beta * (logprobs(LOGITS) - ref)
    assert expected(2, "others", rewards=priced) == pytest.approx(slopes(value, LOGITS), abs=1e-9)
    log = ref + REWARD / beta
    best = log - np.log(np.exp(log).sum())
    assert np.exp(best) @ REWARD == pytest.approx(0.939231082415, abs=1e-11)
    assert np.exp(best) @ (best - ref) == pytest.approx(1.205512873887, abs=1e-11)
    worth = REWARD - beta * (best - ref)  # at the optimum every answer is worth the same, beta log Z
    assert worth == pytest.approx(0.637852863943, abs=1e-11)
    assert advantages(worth) == pytest.approx(np.zeros(15), abs=1e-12)


VISITS = np.array([[[a[: len(f)] == f and a[len(f) : len(f) + 1] == (v,) for v in range(3)] for f in PREFIXES]
                   for a in ANSWERS], float)  # fmt: skip


@pytest.mark.slow(1)
@pytest.mark.parametrize(("place", "right", "far"), [("reward", 0.939231, 0.0), ("loss", 0.817472, 0.087247)])
def test_kl_in_the_reward_ends_at_the_tilted_reference_and_in_the_loss_elsewhere(
    place: str, right: float, far: float
) -> None:
    """By drawn groups of 16: k1 in the reward, and k3 = u - 1 - log u, u = ref / p, in the loss, as most have it."""
    beta, ref, logits, random = 0.25, logprobs(REFERENCE), LOGITS.copy(), np.random.default_rng(0)
    steps = 2000
    for t in range(steps):
        log, table = logprobs(logits), np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        some = random.choice(len(ANSWERS), 16, p=np.exp(log) / np.exp(log).sum())
        scores = VISITS[some] - VISITS[some].sum(-1, keepdims=True) * table
        dear = beta * (log - ref)[some]
        counted = weights(advantages(REWARD[some] - dear * (place == "reward")), [LENGTH[i] for i in some])
        if place == "loss":
            counted -= beta * (1 - np.exp((ref - log)[some])) / len(some)
        logits += 0.5 * (1 - t / steps) * np.tensordot(counted, scores, 1)
    log, best = logprobs(logits), ref + REWARD / beta
    best -= np.log(np.exp(best).sum())
    assert np.exp(log) @ REWARD == pytest.approx(right, abs=0.02)
    assert np.exp(log) @ (log - best) == pytest.approx(far, abs=0.005 if place == "reward" else 0.03)


def course(steps: int = 40, **figures: Callable[[int], float]) -> list[Rewarded]:
    """Steps whose figures follow from their number; what is not named stays as it is."""
    calm = Rewarded(0, 0.5, 0.4, 0.6, (1, 2, 1), 0.1, 1.0, 30.0, 30.0, 0.0, 0, 1.0)
    return [replace(calm, step=t, **{name: f(t) for name, f in figures.items()}) for t in range(1, steps + 1)]


def test_the_mean_reward_of_ten_steps_has_the_interval_of_all_their_problems() -> None:
    """Two problems a step: simulated steps hold their mean 93 to 97 % of the time, and no share leaves [0, 1]."""
    random, inside, worlds = np.random.default_rng(5), 0, 1000
    for _ in range(worlds):
        steps = []
        for t in range(1, 13):
            problems = [random.binomial(8, p) for p in random.choice([0.2, 0.6, 0.9], 2)]
            steps.append(summary(t, [answers(right, 8) for right in problems], [0.0], 1.0))
        found = recent(steps)
        low, high = found.interval
        assert found.mean == pytest.approx(np.mean([one.reward for one in steps[-10:]])) and 0 <= low <= high <= 1
        inside += low <= (0.2 + 0.6 + 0.9) / 3 <= high
    assert 0.93 <= inside / worlds <= 0.97
    alone = recent([summary(1, [answers(8, 8), answers(6, 8)], [0.0], 1.0)])  # by Student's t from -0.71 to 2.46
    assert alone.mean == 0.875 and alone.interval == (0.0, 1.0)


@pytest.mark.parametrize("how", ["others", "std"])
@pytest.mark.parametrize("rewards", list(combinations_with_replacement((None, 0.0, 0.2, 0.5, 0.9, 1.0), 3)))
def test_the_groups_that_are_mixed_are_those_that_teach(rewards: tuple[float | None, ...], how: str) -> None:
    judged = [reward for reward in rewards if reward is not None]
    group = [Rollout("p", (1,), "", reward, -1.0, 1.0, False) for reward in rewards]
    wrong, mixed, right = summary(1, [group], [0.0], 1.0).groups
    assert mixed == bool(advantages(judged, how).any())
    assert wrong + mixed + right == bool(judged)
    if not mixed and judged:
        assert (wrong, right) == ((1, 0) if judged[0] < 0.5 else (0, 1))


def answers(right: int, of: int) -> list[Rollout]:
    return [Rollout("p", (1,), "", float(i < right), -1.0, 1.0, False) for i in range(of)]


RISING, NOISE = (lambda t: 0.4 + t / 100), (lambda t: 30 + 9 * np.sin(12.9898 * t))
GOOD, BAD = [3, 4, 4, 3, 4, 2, 4, 3] * 2, [1, 2, 0, 1, 2, 1, 0, 1] * 2  # right of 4 answers to each problem


@pytest.mark.parametrize(
    ("steps", "looks", "name"),
    [
        (course(reward=RISING), [(0, BAD), (20, GOOD), (40, BAD)], "held_out"),
        (course(reward=lambda t: 0.9 - t / 100), [(0, BAD), (20, GOOD), (40, BAD)], ""),  # both fall: not overfitted
        (course(reward=RISING), [(0, BAD), (20, BAD), (40, GOOD)], ""),
        (course(reward=RISING), [(0, GOOD), (40, [*GOOD[1:], 2])], ""),  # one answer less
        (course(entropy=lambda t: 2 * np.exp(-t / 8)), [], "entropy"),
        (course(entropy=lambda t: 2 - t / 25), [], ""),
        (course(length_wrong=lambda t: NOISE(t) + t), [], "length"),
        (course(length_wrong=NOISE), [], ""),
        (course(length_wrong=lambda t: 30 + t, length_right=lambda t: 30 + t), [], ""),  # both: it reasons longer
        (course(5, entropy=lambda t: 9.0 ** (1 - t)), [], ""),  # too few
    ],
)
def test_a_warning_is_given_once_where_its_figures_say_so(
    steps: list[Rewarded], looks: list[tuple[int, list[int]]], name: str
) -> None:
    known, given = RewardCourse(), list[RewardWarning]()
    events = [*steps, *(held_out(BAD, now, 4, step) for step, now in looks)]
    for event in sorted(events, key=lambda each: (each.step, isinstance(each, HeldOut))):
        for warning in known.take(event):
            known.take(warning)
            given.append(warning)
    assert [each.name for each in given] == [name] * bool(name)
    if name == "held_out":
        assert (given[0].before, given[0].now) == (np.mean(GOOD) / 4, np.mean(BAD) / 4)


@pytest.mark.parametrize(
    ("worth", "ratio", "slope"),
    [(1, 0.5, 0.5), (1, 1.279, 1.279), (1, 1.281, 0), (-1, 0.799, 0), (-1, 0.801, -0.801), (-1, 2, -2), (3, 1, 3)],
)
def test_an_answer_that_has_moved_far_enough_is_let_go(worth: float, ratio: float, slope: float) -> None:
    """The slope of what is made large, by the log-probability."""
    up, down = (-clipped(np.log(ratio) + step, np.float64(worth), np) for step in (1e-6, -1e-6))
    assert (up - down) / 2e-6 == pytest.approx(slope, abs=1e-5)
