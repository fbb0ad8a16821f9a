"""Several branches of one prompt: each as if it were alone, on a table of probabilities and on a transformer."""

from collections.abc import Iterable

import numpy as np
import pytest

from likely.engine.decode.branches import Branches
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Event
from likely.engine.session import Session
from likely.engine.trace.step import Recipe
from likely.engine.transforms import DRY, RepetitionPenalty, Temperature, TopP
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import EOS, VOCAB, FakeCheckpoint, MarkovModel, random_table

PROMPT = list(b"ask me")
RECIPES = [
    Recipe(greedy=True),
    Recipe((Temperature(0.8), TopP(0.9))),
    Recipe((RepetitionPenalty(1.3), DRY(0.8), Temperature(1.2))),
]


def collect(events: Iterable[Event]) -> tuple[dict[int, list[int]], dict[int, Done]]:
    """Tokens and end of each branch."""
    tokens: dict[int, list[int]] = {}
    ends: dict[int, Done] = {}
    for event in events:
        if isinstance(event, Emitted):
            assert event.branch not in ends
            tokens.setdefault(event.branch, []).append(event.step.token)
        elif isinstance(event, Done):
            ends[event.branch] = event
    return tokens, ends


def markov(table: np.ndarray) -> Session:
    return Session(FakeCheckpoint(MarkovModel(table)))  # type: ignore[arg-type]


def tiny() -> Session:
    import likely.models as models

    config = LLAMA | {"vocab_size": VOCAB}
    model = models.build(config, {name: mx.array(w) for name, w in weights(config).items()})
    return Session(FakeCheckpoint(model))  # type: ignore[arg-type]


@pytest.mark.usefixtures("either_device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_each_branch_draws_what_it_would_draw_alone(recipe: Recipe) -> None:
    """Branches end at different tokens, so that rows leave the batch on the way."""
    table = random_table(3, scale=1.0)
    table[:, EOS] += 2.0
    tokens, ends = collect(markov(table).generate(PROMPT, RunControl(recipe), n=6, seed=4, max_tokens=40))
    assert recipe.greedy or len({len(t) for t in tokens.values()}) > 2
    for branch in range(6):
        want, end = collect(markov(table).generate(PROMPT, RunControl(recipe), seed=4 + branch, max_tokens=40))
        assert tokens[branch] == want[0]
        assert (ends[branch].reason, ends[branch].stats.tokens) == (end[0].reason, end[0].stats.tokens)


@pytest.mark.usefixtures("either_device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_transformer_over_a_shared_prefix_says_what_it_says_alone(recipe: Recipe) -> None:
    together, _ = collect(tiny().generate(PROMPT, RunControl(recipe), n=4, seed=1, max_tokens=12))
    for branch in range(4):
        alone, _ = collect(tiny().generate(PROMPT, RunControl(recipe), seed=1 + branch, max_tokens=12))
        assert together[branch] == alone[0]


def test_branches_kept_twice_and_dropped_go_on_as_the_texts_they_are() -> None:
    model = tiny().model
    batch = Branches(model, model.make_cache())
    list(batch.read(PROMPT))
    batch.select([0] * 3)
    for tokens in ([5, 6, 7], [8, 9, 10]):
        batch.feed(tokens)
        batch.settle(tokens)
    batch.select([2, 0, 2])
    batch.feed([11, 12, 13])
    batch.settle([11, 12, 13])
    assert batch.ids == [[*PROMPT, 7, 10, 11], [*PROMPT, 5, 8, 12], [*PROMPT, 7, 10, 13]]
    want = np.stack([np.asarray(model(mx.array([ids]))[0, -1]) for ids in batch.ids])
    np.testing.assert_allclose(np.asarray(batch.logits()), want, atol=1e-4)
    root = batch.trunk
    assert root is not None and root.ids == [PROMPT] and root.cache.length == len(PROMPT)


def test_forced_tokens_are_forced_on_all_and_the_rest_differs() -> None:
    table = random_table(8, scale=0.5)
    control = RunControl()
    control.force([65, 66])
    tokens, _ = collect(markov(table).generate(PROMPT, control, n=3, max_tokens=6))
    assert all(t[:2] == [65, 66] for t in tokens.values())
    assert len({tuple(t) for t in tokens.values()}) == 3


def test_cancelling_ends_every_branch_and_the_session_goes_on() -> None:
    table = random_table(8)
    table[:, EOS] = -50
    session, control = markov(table), RunControl()
    ends = {}
    for event in session.generate(PROMPT, control, n=3):
        if isinstance(event, Emitted) and event.step.position == len(PROMPT) + 2:
            control.cancel()
        if isinstance(event, Done):
            ends[event.branch] = event
    assert [(d.reason, d.stats.tokens) for d in ends.values()] == [("cancelled", 3)] * 3
    assert session.pool.leased == []
    assert collect(session.generate(PROMPT, RunControl(), max_tokens=2))[1][0].stats.reused_tokens == len(PROMPT)
