"""Law over choices: by enumeration on a model whose every probability is known, each in whichever way it is asked."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import ParameterError
from likely.engine.decode.drafts.combine import Layers
from likely.engine.decode.drafts.prompt_lookup import NGram
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.sampled.sample import Sample
from likely.engine.decode.searches.beam import Beam
from likely.engine.decode.searches.exact import ExactMode
from likely.engine.decode.searches.stochastic_beam import StochasticBeam
from likely.engine.decode.session import Session
from likely.engine.measure import choice_scores
from likely.engine.measure.answer_form import AnswerForm, binding
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.replay import recorded, replay, replay_drawn, states_at
from likely.engine.sampling.trace.row import measured
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep, TokenStrings
from likely.engine.sampling.transforms import (
    DRY,
    ChoiceDistribution,
    LogitBias,
    RepetitionPenalty,
    Temperature,
    TopK,
    start,
)
from tests.fakes import BOS, EOS, VOCAB, FakeCheckpoint, MarkovModel, random_table
from tests.models.oracle import ours, reference
from tests.models.test_families import SAME
from tests.support.decoding import PROMPT, log_softmax, run, search
from tests.support.merging import Merging

TEXTS = ("ab", "abc", "d", "dcd", "é")
SPELLED = ((258,), (258, 99), (100,), (100, 259), (0xC3, 0xA9))
ENDS = frozenset({EOS, BOS})


@pytest.fixture(params=range(3))
def model(request: pytest.FixtureRequest) -> tuple[Session, np.ndarray]:
    """A session, and log p [5] of the texts as answers: of their own tokens, and of either end behind them."""
    raw = random_table(request.param, 2.0, 260)
    logp = log_softmax(raw)
    session = Session(FakeCheckpoint(MarkovModel(raw), Merging()))  # type: ignore[arg-type]
    session.tokenizer.eos = ENDS
    every = [
        sum(logp[pair] for pair in pairwise((PROMPT[-1], *own))) + np.logaddexp(*logp[own[-1], [EOS, BOS]])
        for own in SPELLED
    ]
    return session, np.array(every)


def steps_of(session: Session, recipe: SamplingConfig, forced: tuple[int, ...] = (), **more: Any) -> list[TokenStep]:
    control = RunControl(recipe)
    control.force(list(forced))
    return run(session, control=control, max_tokens=9, **more).steps[0]


def test_each_is_scored_and_drawn_with_its_share_of_the_probability(model: tuple[Session, np.ndarray]) -> None:
    session, every = model
    found = choice_scores.scored(session, PROMPT, [*TEXTS, "d"])
    assert [(c.text, c.tokens[:-1]) for c in found] == list(zip(TEXTS, SPELLED, strict=True))
    assert [c.logprob for c in found] == pytest.approx(every, abs=1e-5)
    two = np.where(every >= np.sort(every)[-2], every, -np.inf)
    for transforms, row in (((), every), ((Temperature(2.0),), every / 2), ((TopK(2),), two)):
        recipe = choice_scores.bound(found, SamplingConfig(transforms), Sample(), len(PROMPT))
        expected = {c.tokens: p for c, p in zip(found, log_softmax(row), strict=True) if p > -np.inf}
        for tokens, logp in expected.items():
            steps = steps_of(session, recipe, tokens)
            assert sum(step.logprob_after or 0.0 for step in steps) == pytest.approx(logp, abs=1e-5)
            assert choice_scores.probability(recipe, tokens) == pytest.approx(math.exp(logp), abs=1e-5)
        for strategy in (Sample(), NGram(3)):
            drawn = {tuple(s.token for s in steps_of(session, recipe, seed=i, strategy=strategy)) for i in range(9)}
            assert drawn <= set(expected)
    begun = math.exp(float(np.logaddexp(every[0], every[1]) - np.logaddexp.reduce(every)))
    drawn_from = choice_scores.bound(found, SamplingConfig(), Sample(), len(PROMPT))
    assert choice_scores.probability(drawn_from, [258]) == pytest.approx(begun, abs=1e-5)  # of "ab", cut: it and "abc"
    likeliest = choice_scores.bound(found, SamplingConfig(greedy=True), Sample(), len(PROMPT))
    assert tuple(s.token for s in steps_of(session, likeliest)) == found[int(every.argmax())].tokens


def test_they_are_scored_through_a_window_of_keys_that_has_moved_on() -> None:
    config = SAME["llama"] | {"vocab_size": VOCAB}
    checkpoint, ids = (
        FakeCheckpoint(ours(config, reference(config))),
        np.random.default_rng(1).integers(VOCAB, size=300).tolist(),
    )
    session, other = (Session(checkpoint, window=16, sinks=2) for _ in range(2))  # type: ignore[arg-type]
    for end in (290, 300):
        for _ in session.read(ids[:end]):
            pass
    for choice in choice_scores.scored(session, ids[:40], ["ab", "ba"]):
        text = [*ids[:40], *choice.tokens]
        said = [
            log_softmax(other.logits_after(text[:end]).astype(np.float64))[text[end]] for end in range(40, len(text))
        ]
        assert choice.logprob == pytest.approx(sum(said), abs=1e-4)


def test_searches_order_them_by_log_p_and_draw_them_without_replacement(model: tuple[Session, np.ndarray]) -> None:
    session, every = model
    found = choice_scores.scored(session, PROMPT, TEXTS)
    ended = {c.tokens: p for c, p in zip(found, every, strict=True)}
    for strategy in (Beam(5, 0.0, "never"), ExactMode()):
        got = search(session, strategy, 9, choice_scores.bound(found, SamplingConfig(), strategy, len(PROMPT)))
        order = sorted(ended, key=lambda ids: -sum(s.logprob or 0.0 for s in steps_of(session, SamplingConfig(), ids)))
        assert [tuple(ids) for ids in got.ids] == order[: len(got.ids)]
    every_text = search(
        session, StochasticBeam(9), 9, choice_scores.bound(found, SamplingConfig(), StochasticBeam(9), len(PROMPT))
    )
    assert {tuple(ids) for ids in every_text.ids} == set(ended)


def test_a_drawn_choice_is_replayed_from_its_file(model: tuple[Session, np.ndarray], tmp_path: Path) -> None:
    session, _ = model
    recipe = choice_scores.bound(choice_scores.scored(session, PROMPT, TEXTS), SamplingConfig(), Sample(), len(PROMPT))
    lexicon = TokenStrings({i: session.tokenizer.piece(i) for i in range(VOCAB)}, ENDS)
    steps = tuple(steps_of(session, recipe))
    file.save([Trace("m", "0", {}, 1, tuple(PROMPT), steps, "eot", lexicon=lexicon)], tmp_path / "t.jsonl")
    (trace,) = file.load(tmp_path / "t.jsonl")
    for n, step in enumerate(trace.steps):
        assert step.recipe == recipe and step.snapshot is not None and step.logprob_after is not None
        states = states_at(recipe.transforms, trace.lexicon, trace.prompt, trace.steps[:n])
        again = replay(step.snapshot, recipe.transforms, states, (0, step.position))
        assert again.exact and again.middle[again.ids == step.token] == pytest.approx(np.exp(step.logprob_after))
        np.testing.assert_array_equal(again.removed_by, step.removed_by)


def test_what_has_no_meaning_for_a_choice_is_refused_by_name(model: tuple[Session, np.ndarray]) -> None:
    session, _ = model
    found = choice_scores.scored(session, PROMPT, TEXTS)
    for transform, name in (
        (RepetitionPenalty(2.0), "repetition_penalty"), (LogitBias({5: 1}), "logit_bias"), (DRY(1.0), "dry_multiplier")
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=f"^{name} acts on single tokens"):
            choice_scores.bound(found, SamplingConfig((transform,)), Sample(), len(PROMPT))
    with pytest.raises(ParameterError, match="scored by the model alone, not as dola"):
        choice_scores.bound(found, SamplingConfig(), Layers(), len(PROMPT))
    for texts in ([], [""]):
        with pytest.raises(ParameterError, match="one text or more, none of them empty"):
            choice_scores.scored(session, PROMPT, texts)
    with pytest.raises(ParameterError, match="a choice's token must be a whole number"):
        ChoiceDistribution(((1.5, EOS),), (0.0,))  # type: ignore[arg-type]
    z = np.zeros(99, np.float32)  # of another model: these ids are none there
    law = (ChoiceDistribution(((258, EOS),), (0.0,)),)
    with pytest.raises(ParameterError, match="must be below 99 for this model, got 258"):
        replay(measured(z, 3).snapshot, law, start(law, None, [], np), (0, 0))
    session.tokenizer.eos = frozenset()
    with pytest.raises(ParameterError, match="names no end of text"):
        choice_scores.scored(session, PROMPT, TEXTS)


def test_a_form_goes_on_with_a_choice_that_has_begun_and_is_replayed_without_its_prompt(
    model: tuple[Session, np.ndarray],
) -> None:
    """Behind "ab" comes its end or "c", by the whole texts' probabilities at temperature 2."""
    session, every = model
    begun = [*PROMPT, SPELLED[0][0]]
    form, control = AnswerForm.read("choice", " | ".join(TEXTS)), RunControl(SamplingConfig((Temperature(2.0),)))
    control.binds = whole(binding(session, begun, form, Sample(), own=1))
    step = run(session, control=control, prompt=begun, max_tokens=1).steps[0][0]
    law = dict(zip((True, False), log_softmax(every[:2] / 2), strict=True))  # whether it ends there
    assert step.logprob_after == pytest.approx(law[step.token in ENDS], abs=1e-5)
    recipe = recorded(step, step.recipe, 1)
    states = states_at(recipe.transforms, None, begun[-1:], ())
    again = replay_drawn(replace(step, recipe=recipe), states, (0, step.position))
    assert again is not None and again.exact and again.kept == (2, 2)
    p = dict(zip(again.ids.tolist(), again.middle, strict=True))
    assert p[SPELLED[1][1]] == pytest.approx(math.exp(law[False]), abs=1e-5)
    with pytest.raises(ParameterError, match="none of choice"):
        whole(binding(session, [*PROMPT, 99], form, Sample(), own=1))
