"""Speculation: the tokens of greedy and of lookup, what is left behind, and when guessing is switched off."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.decode.drafts.draft import Draft, PromptLookup
from likely.engine.decode.drafts.draft_length import GRACE, TOLERANCE, DraftLength
from likely.engine.decode.drafts.speculative import Speculative, reject
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Waiting
from likely.engine.decode.loop.sampler import Sampler
from likely.engine.decode.sampled.sample import Sample
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import DRY, XTC, MinP, RepetitionPenalty, Temperature, TopK, TopP, Typical
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import ByteTokenizer, MarkovModel, random_table
from tests.support.decoding import at, transformer
from tests.support.everyday import everyday

PROMPT = list(b"the cat and the dog and the cat")
GREEDY = SamplingConfig(greedy=True)
RECIPES = [
    SamplingConfig(), SamplingConfig((Temperature(0.7), TopP(0.9))),
    SamplingConfig((RepetitionPenalty(1.2), TopK(20), Typical(0.95), Temperature(1.3))),
    SamplingConfig((DRY(0.8), MinP(0.05), XTC(0.5, 0.05))),
]  # fmt: skip


def drawing(
    place: Branches, strategy: Any, control: RunControl, *, seed: int = 0, limit: int
) -> Generator[TokenStep, None, None]:
    """The steps of a strategy's events."""
    sampler = Sampler.start(control.recipe, place.ids, seed=seed, vocabulary=ByteTokenizer())
    with closing(strategy.steps(place, sampler, control, limit=limit)) as events:
        for event in events:
            if not isinstance(event, Waiting):  # others have a turn while a draft model reads
                assert isinstance(event, Emitted) and event.branch == 0
                yield event.step


def run(model: Any, strategy: Any, recipe: SamplingConfig, *, seed: int = 0, limit: int = 30) -> list[TokenStep]:
    place = at(model, PROMPT)
    steps = list(drawing(place, strategy, RunControl(recipe), seed=seed, limit=limit))
    (ids,) = place.ids
    assert place.length == place.cache.length == len(ids)
    assert ids == PROMPT + tokens(steps)[: len(ids) - len(PROMPT)]
    return steps


def tokens(steps: list[TokenStep]) -> list[int]:
    return [s.token for s in steps]


@pytest.mark.parametrize("length", everyday([3, 1, 8], 3))
@pytest.mark.parametrize("drafter", [lambda: PromptLookup(least=1), lambda: Draft(transformer(1))])
def test_greedy_tokens_are_those_of_plain_decoding(length: int, drafter: Callable[[], Any]) -> None:
    """A draft that is the model is always right."""
    want = tokens(run(transformer(), Sample(), GREEDY, limit=40))
    for guess in (drafter(), Draft(transformer())):
        strategy = Speculative(guess, length)
        assert tokens(run(transformer(), strategy, GREEDY, limit=40)) == want and strategy.pace.guessed > 0
    assert strategy.pace.accepted == strategy.pace.guessed and strategy.pace.rounds <= 40 / min(length, 3) + 1


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("limit", [1, 2, 3, 30])
def test_lookup_draws_the_tokens_that_sampling_draws(recipe: SamplingConfig, limit: int) -> None:
    """Every number of every step as well: the guesses leave no trace in what is recorded."""
    table = random_table(5, 0.5)
    table[list(b"the cat")] *= 6  # some of it is predictable
    want = run(MarkovModel(table), Sample(), recipe, seed=3, limit=limit)
    got = run(MarkovModel(table), Speculative(PromptLookup(least=1), 4), recipe, seed=3, limit=limit)
    assert tokens(got) == tokens(want) and len(got) == limit
    for a, b in zip(got, want, strict=True):
        assert (a.position, a.kept, a.rank) == (b.position, b.kept, b.rank)
        assert (a.logprob, a.logprob_after) == pytest.approx((b.logprob, b.logprob_after))


def test_a_closed_iterator_leaves_the_cursor_at_the_last_step_given() -> None:
    for given in range(1, 9):
        place = at(transformer(), PROMPT)
        steps = drawing(place, Speculative(Draft(transformer()), 3), RunControl(GREEDY), limit=20)
        drawn = [next(steps).token for _ in range(given)]
        steps.close()
        (ids,) = place.ids
        assert ids == PROMPT + drawn and place.length == place.cache.length == len(ids)


def test_forced_tokens_are_taken_whatever_was_guessed_and_what_is_cut_is_not() -> None:
    control, model = RunControl(), MarkovModel(random_table(3, 1.0))
    control.force(list(b"xyz"))
    steps = list(drawing(at(model, PROMPT), Speculative(Draft(model), 3), control, limit=6))  # type: ignore[arg-type]
    assert tokens(steps)[:3] == list(b"xyz") and [s.origin for s in steps] == ["forced"] * 3 + ["drawn"] * 3
    p, q = (np.log(np.array(each, np.float32)) for each in ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]))
    cut = reject(p, 2, q, Sampler.start(SamplingConfig((TopK(1),)), [[0]], seed=5, xp=np), 7)
    assert cut.token == 0 and cut.after is not None and np.isneginf(cut.after[1:]).all()
    beyond = reject(p, 3, np.log(np.array([0.1, 0.1, 0.1, 0.7])), Sampler.start(SamplingConfig(), [[0]], xp=np), 0)
    assert beyond.token in (0, 1, 2)


def test_a_draft_whose_window_forgot_the_beginning_starts_anew() -> None:
    config = LLAMA | {"model_type": "mistral", "sliding_window": 16, "max_position_embeddings": 512}
    small = models.build(config, {name: mx.array(w) for name, w in weights(LLAMA, 1).items()})
    draft = Draft(small)
    for text in ([1, 2, 3] * 90, [4, 5, 6] * 90):
        ids = text[:200]
        want = int(mx.argmax(small(mx.array([ids]))[0, -1]))
        assert draft.propose(ids, 2, Sampler.start(GREEDY, [ids], xp=np)).tokens[0] == want


def test_lookup_continues_as_the_longest_earlier_match_did() -> None:
    for ids, n, guess in (
        ([1, 2, 3, 9, 2, 3, 7, 1, 2, 3], 3, [9, 2, 3]),  # "1 2 3" over the later "2 3"
        ([1, 2, 3, 9, 2, 3, 7, 1, 2, 3, 9], 3, [2, 3, 7]), ([4, 5, 6], 3, []), ([5, 6, 5, 6], 9, [5, 6]),
    ):  # fmt: skip
        assert PromptLookup(most=3, least=2).propose(ids, n, Sampler.start(SamplingConfig(), [ids])).tokens == guess


def simulate(rate: float, cost: Callable[[int], float], rounds: int, pace: DraftLength) -> tuple[int, float]:
    """Tokens and seconds of rounds whose guesses are right with probability `rate`; a plain round takes a second."""
    random, drawn, seconds = np.random.default_rng(0), 0, 0.0
    for _ in range(rounds):
        k = pace.length()
        accepted = next((i for i in range(k) if random.random() > rate), k)
        pace.record(k, accepted, cost(k))
        drawn, seconds = drawn + accepted + 1, seconds + cost(k)
    return drawn, seconds


def test_guessing_goes_on_as_long_as_it_pays_and_begins_again_when_it_does() -> None:
    for rate in (0.0, 0.2):
        drawn, seconds = simulate(rate, lambda k: 1 + (1.8 if k else 0) + 0.1 * k, 400, DraftLength((3.0, 1.0)))
        assert seconds - drawn <= TOLERANCE * seconds + GRACE + 3.3  # what it may lose, and one round more
    for rate, least in ((0.95, 2.4), (0.8, 1.3)):
        drawn, seconds = simulate(rate, lambda k: 1 + (0.8 if k else 0) + 0.1 * k, 300, DraftLength((3.0, 1.0)))
        assert drawn / seconds > least
    drawn, seconds = simulate(0.6, lambda k: 1 + 0.3 * k, 300, DraftLength((3.0, 1.0)))
    assert drawn / seconds > 1.05  # one or two guesses pay, many do not
    pace = DraftLength((3.0, 1.0))
    simulate(0.0, lambda k: 1 + 0.1 * k, 200, pace)
    drawn, seconds = simulate(1.0, lambda k: 1 + 0.1 * k, 300, pace)
    assert drawn / seconds > 3  # the text has become predictable


def test_a_free_guess_is_judged_before_it_is_used() -> None:
    """Nothing is lost on a text that only looks predictable; one that is gets guessed after a few tokens."""
    for right, least in ((False, 0), (True, 4)):
        pace = DraftLength(PromptLookup.hope)
        pace.record(0, 0, 1.0)
        assert pace.length() == 0
        for _ in range(6):
            pace.watch(right)
        assert pace.length() == least
