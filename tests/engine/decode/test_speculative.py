"""Speculation: the tokens of greedy and of lookup, the law of sampling with a draft, and when it stops."""

import math
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.decode.branches import Branches
from likely.engine.decode.control import RunControl
from likely.engine.decode.draft import Draft, PromptLookup
from likely.engine.decode.draft_length import GRACE, TOLERANCE, DraftLength
from likely.engine.decode.events import Emitted, Waiting
from likely.engine.decode.guessing import Drafting
from likely.engine.decode.sample import Sample
from likely.engine.decode.sampler import Sampler
from likely.engine.decode.speculative import Speculative, reject
from likely.engine.errors import ParameterError
from likely.engine.trace.step import Recipe, TokenStep
from likely.engine.transforms import (
    DRY,
    XTC,
    MinP,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
    draw,
    uniform,
)
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import VOCAB, ByteTokenizer, MarkovModel, random_table

PROMPT = list(b"the cat and the dog and the cat")
RECIPES = [
    Recipe(),
    Recipe((Temperature(0.7), TopP(0.9))),
    Recipe((RepetitionPenalty(1.2), TopK(20), Typical(0.95), Temperature(1.3))),
    Recipe((DRY(0.8), MinP(0.05), XTC(0.5, 0.05))),
]


class Named(ByteTokenizer):
    def __init__(self, fingerprint: str = "bytes") -> None:
        self.fingerprint = fingerprint


def drafting(model: Any) -> Draft:
    return Draft(model)


def transformer(seed: int) -> Any:
    return models.build(LLAMA, {name: mx.array(w) for name, w in weights(LLAMA, seed).items()})


def markov(seed: int, scale: float = 1.0) -> MarkovModel:
    return MarkovModel(random_table(seed, scale))


def at(model: Any) -> Branches:
    """Behind the prompt."""
    place = Branches(model, model.make_cache())
    list(place.read(PROMPT))
    return place


def drawing(
    place: Branches, strategy: Sample | Speculative, control: RunControl, *, seed: int = 0, limit: int
) -> Generator[TokenStep, None, None]:
    """The steps of a strategy's events."""
    sampler = Sampler.start(control.recipe, place.ids, seed=seed, vocabulary=ByteTokenizer())
    with closing(strategy.steps(place, sampler, control, limit=limit)) as events:
        for event in events:
            if isinstance(event, Waiting):  # others have a turn while a draft model reads
                continue
            assert isinstance(event, Emitted) and event.branch == 0
            yield event.step


def run(
    model: Any, strategy: Sample | Speculative, recipe: Recipe, *, seed: int = 0, limit: int = 30
) -> list[TokenStep]:
    place = at(model)
    steps = list(drawing(place, strategy, RunControl(recipe), seed=seed, limit=limit))
    (ids,) = place.ids
    assert place.length == place.cache.length == len(ids)
    assert ids == PROMPT + [s.token for s in steps][: len(ids) - len(PROMPT)]
    return steps


def tokens(steps: list[TokenStep]) -> list[int]:
    return [s.token for s in steps]


@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize("drafter", [lambda: PromptLookup(least=1), lambda: drafting(transformer(1))])
def test_greedy_tokens_are_those_of_plain_decoding(length: int, drafter: Callable[[], Any]) -> None:
    model = transformer(0)
    strategy = Speculative(drafter(), length)
    want = tokens(run(model, Sample(), Recipe(greedy=True), limit=40))
    assert tokens(run(model, strategy, Recipe(greedy=True), limit=40)) == want
    assert strategy.pace.guessed > 0


def test_a_perfect_draft_is_always_right() -> None:
    model = transformer(0)
    strategy = Speculative(drafting(transformer(0)), 4)
    want = tokens(run(model, Sample(), Recipe(greedy=True), limit=31))
    assert tokens(run(model, strategy, Recipe(greedy=True), limit=31)) == want
    assert strategy.pace.accepted == strategy.pace.guessed >= 20 and strategy.pace.rounds < 10


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("limit", [1, 2, 3, 30])
def test_lookup_draws_the_tokens_that_sampling_draws(recipe: Recipe, limit: int) -> None:
    """Every number of every step as well: the guesses leave no trace in what is recorded."""
    table = random_table(5, 0.5)
    table[list(b"the cat")] *= 6  # some of it is predictable
    want = run(MarkovModel(table), Sample(), recipe, seed=3, limit=limit)
    got = run(MarkovModel(table), Speculative(PromptLookup(least=1), 4), recipe, seed=3, limit=limit)
    assert tokens(got) == tokens(want) and len(got) == limit
    for a, b in zip(got, want, strict=True):
        assert a.position == b.position and a.kept == b.kept and a.rank == b.rank
        assert a.logprob == pytest.approx(b.logprob) and a.logprob_after == pytest.approx(b.logprob_after)


def chi_square(counts: np.ndarray, p: np.ndarray, n: int) -> tuple[float, float]:
    """The statistic over outcomes that are expected 5 times or more, the others pooled; and its bound at 1 in 10,000.

    The bound is Wilson and Hilferty's approximation of the chi-square quantile, z = 3.719.
    """
    often = n * p >= 5
    seen, want = counts[often].astype(float), n * p[often]
    if not often.all():
        seen, want = np.append(seen, counts[~often].sum()), np.append(want, n * p[~often].sum())
    k = len(want) - 1
    return float(((seen - want) ** 2 / np.maximum(want, 1e-9)).sum()), k * (
        1 - 2 / (9 * k) + 3.719 * math.sqrt(2 / (9 * k))
    ) ** 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [Recipe(), Recipe((RepetitionPenalty(1.5), Temperature(1.3))), Recipe((TopP(0.8), Temperature(0.7)))],
)
def test_with_a_draft_whole_texts_have_the_law_of_sampling(recipe: Recipe) -> None:
    """All 4 ** 3 texts of three tokens of a vocabulary of four: frequencies against those that `Sample` gives them.

    The law of `Sample` is enumerated: the product over positions of the probabilities that its transforms leave.
    """
    table, other = np.full((2, VOCAB, VOCAB), -np.inf)
    random = np.random.default_rng(0)
    table[:, :4], other[:, :4] = random.normal(size=(2, VOCAB, 4)) * 1.2
    n = 1000
    law = np.array([enumerate_text(table, recipe, list(text)) for text in product(range(4), repeat=3)])
    assert law.sum() == pytest.approx(1, abs=1e-5)
    counts = np.zeros(64)
    target, draft = MarkovModel(table), MarkovModel(other)
    for seed in range(n):
        strategy = Speculative(drafting(draft), 2)
        drawn = tokens(run(target, strategy, recipe, seed=seed, limit=3))
        counts[np.ravel_multi_index(drawn, (4, 4, 4))] += 1
    statistic, bound = chi_square(counts, law, n)
    assert statistic < bound


def enumerate_text(table: np.ndarray, recipe: Recipe, text: list[int]) -> float:
    """The probability that `Sample` draws this text: from `TokenStep.logprob_after` of forced tokens."""
    control = RunControl(recipe)
    control.force(text)
    steps = drawing(at(MarkovModel(table)), Sample(), control, limit=3)
    return math.exp(sum(s.logprob_after for s in steps if s.logprob_after is not None))


@pytest.mark.slow
def test_rejection_has_the_target_law_whatever_the_draft_says() -> None:
    """5,000 guesses from q and what becomes of them, for q near, far, and without some of p's tokens."""
    random = np.random.default_rng(1)
    logits = random.normal(size=8).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum()
    hole = logits.copy()
    hole[np.argsort(-logits)[:3]] = -np.inf
    for q_logits in (logits + 0.3, -logits, hole, random.normal(size=8).astype(np.float32)):
        q = np.exp(q_logits) / np.exp(q_logits).sum()
        guesses = random.choice(8, size=5_000, p=q.astype(np.float64) / q.sum(dtype=np.float64))
        sampler = Sampler.start(Recipe(), [[]], seed=9, xp=np)
        drawn = [int(reject(logits, int(g), q_logits, sampler, i).token) for i, g in enumerate(guesses)]
        statistic, bound = chi_square(np.bincount(drawn, minlength=8), p, 5_000)
        assert statistic < bound
        accepted = np.mean(np.array(drawn) == guesses)
        assert accepted >= np.minimum(p, q).sum() - 4 * math.sqrt(0.25 / 5_000)


def test_a_closed_iterator_leaves_the_cursor_at_the_last_step_given() -> None:
    model = transformer(0)
    for given in range(1, 9):
        place = at(model)
        strategy = Speculative(drafting(transformer(0)), 3)
        steps = drawing(place, strategy, RunControl(Recipe(greedy=True)), limit=20)
        drawn = [next(steps).token for _ in range(given)]
        steps.close()
        (ids,) = place.ids
        assert ids == PROMPT + drawn and place.length == place.cache.length == len(ids)


def test_forced_tokens_are_taken_whatever_was_guessed() -> None:
    control = RunControl()
    control.force(list(b"xyz"))
    steps = list(drawing(at(markov(3)), Speculative(drafting(markov(3)), 3), control, limit=6))
    assert tokens(steps)[:3] == list(b"xyz") and [s.origin for s in steps] == ["forced"] * 3 + ["drawn"] * 3


def test_a_draft_with_another_tokenizer_is_refused() -> None:
    info = SimpleNamespace(name="gpt2")
    other = SimpleNamespace(model=markov(0), tokenizer=Named("other"), info=info)
    with pytest.raises(ParameterError, match="gpt2 has another one"):
        Drafting("gpt2").bind({"gpt2": other}, Named())


def test_a_draft_whose_window_forgot_the_beginning_starts_anew() -> None:
    config = LLAMA | {"model_type": "mistral", "sliding_window": 16, "max_position_embeddings": 512}
    small = models.build(config, {name: mx.array(w) for name, w in weights(LLAMA, 1).items()})
    draft = drafting(small)
    for text in ([1, 2, 3] * 90, [4, 5, 6] * 90):
        ids = text[:200]
        want = int(mx.argmax(small(mx.array([ids]))[0, -1]))
        assert draft.propose(ids, 2, Sampler.start(Recipe(greedy=True), [ids], xp=np)).tokens[0] == want


def test_lookup_continues_as_the_longest_earlier_match_did() -> None:
    look = PromptLookup(most=3, least=2)
    guess = lambda ids, n=3: look.propose(ids, n, Sampler.start(Recipe(), [ids])).tokens  # noqa: E731
    assert guess([1, 2, 3, 9, 2, 3, 7, 1, 2, 3]) == [9, 2, 3]  # "1 2 3" over the later "2 3"
    assert guess([1, 2, 3, 9, 2, 3, 7, 1, 2, 3, 9]) == [2, 3, 7]
    assert guess([4, 5, 6]) == []
    assert guess([5, 6, 5, 6], 9) == [5, 6]


def simulate(
    rate: float, cost: Callable[[int], float], rounds: int, pace: DraftLength, seed: int = 0
) -> tuple[int, float]:
    """Tokens and seconds of rounds whose guesses are right with probability `rate`; a plain round takes a second."""
    random, drawn, seconds = np.random.default_rng(seed), 0, 0.0
    for _ in range(rounds):
        k = pace.length()
        accepted = next((i for i in range(k) if random.random() > rate), k)
        pace.record(k, accepted, cost(k))
        drawn, seconds = drawn + accepted + 1, seconds + cost(k)
    return drawn, seconds


def test_guessing_that_does_not_pay_is_switched_off() -> None:
    for rate in (0.0, 0.2):
        drawn, seconds = simulate(rate, lambda k: 1 + (1.8 if k else 0) + 0.1 * k, 400, DraftLength((3.0, 1.0)))
        most = TOLERANCE * seconds + GRACE + 3.3  # what it may lose, and one round more
        assert seconds - drawn <= most


def test_guessing_that_pays_goes_on_and_finds_a_good_length() -> None:
    for rate, least in ((0.95, 2.4), (0.8, 1.3)):
        drawn, seconds = simulate(rate, lambda k: 1 + (0.8 if k else 0) + 0.1 * k, 300, DraftLength((3.0, 1.0)))
        assert drawn / seconds > least
    drawn, seconds = simulate(0.6, lambda k: 1 + 0.3 * k, 300, DraftLength((3.0, 1.0)))
    assert drawn / seconds > 1.05  # one or two guesses pay, many do not


def test_guessing_begins_again_when_a_text_becomes_predictable() -> None:
    pace = DraftLength((3.0, 1.0))
    simulate(0.0, lambda k: 1 + 0.1 * k, 200, pace)
    drawn, seconds = simulate(1.0, lambda k: 1 + 0.1 * k, 300, pace)
    assert drawn / seconds > 3


def test_a_free_guess_is_judged_before_it_is_used() -> None:
    """Nothing is lost on a text that only looks predictable; one that is gets guessed after a few tokens."""
    for right, least in ((False, 0), (True, 4)):
        pace = DraftLength(PromptLookup.hope)
        pace.record(0, 0, 1.0)
        assert pace.length() == 0
        for _ in range(6):
            pace.watch(right)
        assert pace.length() == least


def sampler(recipe: Recipe, texts: list[list[int]], seed: int = 5) -> Sampler:
    return Sampler.start(recipe, texts, seed=seed, xp=np)


def test_a_guess_is_taken_with_the_share_that_p_has_of_q() -> None:
    """And else a token of what q falls short of."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    by = sampler(Recipe(), [[0]], 3)
    counts = np.zeros((3, 3))
    for position in range(100):
        for guess in range(3):
            key = (3, position)
            drawn = reject(np.log(p).astype(np.float32), guess, np.log(q).astype(np.float32), by, position)
            taken = uniform(key, "accept") < p[guess] / q[guess]
            rest = np.maximum(p - q, 0)
            with np.errstate(divide="ignore"):
                other = int(draw(np.log(rest).astype(np.float32), key, np))
            assert drawn.token == (guess if taken else other) and drawn.key == key and drawn.origin == "drawn"
            counts[guess, drawn.token] += 1
    assert counts[0, 0] == 100 and counts[1, 1] == 100 and counts[2, 2] > 10 and counts[2, 0] > counts[2, 1] > 0
    same = reject(np.log(p).astype(np.float32), 1, np.log(p).astype(np.float32), by, 0)
    assert same.token == 1
    beyond = reject(np.log(p).astype(np.float32), 3, np.log(np.array([0.1, 0.1, 0.1, 0.7])).astype(np.float32), by, 0)
    assert beyond.token in (0, 1, 2)
    cut = reject(np.log(p).astype(np.float32), 2, np.log(q).astype(np.float32), sampler(Recipe((TopK(1),)), [[0]]), 7)
    assert cut.token == 0 and cut.after is not None and np.isneginf(cut.after[1:]).all()
