"""Sessions and sampling on a model whose every probability is known."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Event, Reloaded
from likely.engine.decode.strategies import parse
from likely.engine.errors import ContextOverflow, NotFinite, OutOfMemory, ParameterError
from likely.engine.session import Session
from likely.engine.sources.gguf.precision import Precision
from likely.engine.trace import file
from likely.engine.trace.replay import replay_drawn, states_at
from likely.engine.trace.step import Recipe, TokenStep
from likely.engine.trace.trace import Trace
from likely.engine.transforms import LogitBias, RepetitionPenalty, Temperature, TopK, TopP
from likely.metal import mx
from tests.fakes import EOS, VOCAB, FakeCheckpoint, MarkovModel, certain_table, random_table

PROMPT = list(b"ask")
pytestmark = pytest.mark.usefixtures("either_device")  # transforms in numpy, and queued ahead in mlx


def session(table: np.ndarray, context: int = 4096) -> Session:
    return Session(FakeCheckpoint(MarkovModel(table, context)))  # type: ignore[arg-type]


def run(events: Iterable[Event]) -> tuple[list[TokenStep], Done]:
    steps = []
    for event in events:
        if isinstance(event, Emitted):
            steps.append(event.step)
        if isinstance(event, Done):
            return steps, event
    raise AssertionError("no Done")


def tokens(steps: Iterable[TokenStep]) -> list[int]:
    return [s.token for s in steps]


def test_numbers_of_a_step_are_the_models_own() -> None:
    table = random_table(1)
    steps, _ = run(session(table).generate(PROMPT, RunControl(Recipe((Temperature(0.5),))), seed=3, max_tokens=5))
    before = PROMPT[-1]
    for step in steps:
        row = table[before].astype(np.float32).astype(np.float64)
        logp = row - np.log(np.exp(row).sum())
        cold = row / 0.5 - np.log(np.exp(row / 0.5).sum())
        assert step.logprob == pytest.approx(logp[step.token], abs=1e-5)
        assert step.logprob_after == pytest.approx(cold[step.token], abs=1e-5)
        assert step.entropy == pytest.approx(-(np.exp(logp) * logp).sum(), abs=1e-5)
        assert step.rank == 1 + (row > row[step.token]).sum()
        before = step.token


@pytest.mark.parametrize("how", ["sample", "ngram", "sample of 2"])
def test_a_temperature_that_moves_is_kept_with_each_token(tmp_path: Path, how: str) -> None:
    """In the file, against log-softmaxes in float64 of the model's logits at the temperature that held."""
    table, n = random_table(4), 2 if how == "sample of 2" else 1
    table[:, EOS] = -50
    control, steps = RunControl(Recipe((TopK(20), Temperature(0.8)))), list[TokenStep]()
    strategy = parse(how.partition(" ")[0])
    for event in session(table).generate(PROMPT, control, n=n, seed=3, max_tokens=12, strategy=strategy):
        if isinstance(event, Emitted) and event.branch == n - 1:
            steps.append(event.step)
            if len(steps) == 5:
                control.recipe = Recipe((TopK(20), Temperature(0.4)))
    file.save([Trace("m", "", {}, 3 + n - 1, tuple(PROMPT), tuple(steps))], tmp_path / "run.jsonl")
    (trace,) = file.load(tmp_path / "run.jsonl")
    assert len(json.loads((tmp_path / "run.jsonl").read_text().partition("\n")[0])["recipes"]) == 2
    held = [step.recipe.transforms[1].temperature for step in trace.steps]  # type: ignore[attr-defined]
    assert held == sorted(held, reverse=True) and held[:5] == [0.8] * 5 and held[-3:] == [0.4] * 3
    before = PROMPT[-1]
    for at, (step, temperature) in enumerate(zip(trace.steps, held, strict=True)):
        row = table[before].astype(np.float32).astype(np.float64) / temperature
        row[row < np.sort(row)[-20]] = -np.inf
        law = np.exp(row) / np.exp(row).sum()
        assert step.logprob_after == pytest.approx(np.log(law[step.token]), abs=1e-5)
        states = states_at(step.recipe.transforms, trace.lexicon, trace.prompt, trace.steps[:at])
        seen = replay_drawn(step, states, (trace.seed, step.position))
        assert seen is not None and seen.exact and seen.kept == (20, 20)
        np.testing.assert_allclose(seen.middle, law[seen.ids], atol=1e-6)
        before = step.token


def test_a_run_resumed_in_the_middle_goes_on_as_if_it_had_not_stopped() -> None:
    table = random_table(2, scale=1.0)
    table[:, EOS] = -50
    whole = tokens(run(session(table).generate(PROMPT, RunControl(), seed=5, max_tokens=20))[0])
    rest = tokens(run(session(table).generate(PROMPT + whole[:8], RunControl(), seed=5, max_tokens=12))[0])
    assert whole[8:] == rest


@pytest.mark.slow
def test_draws_have_the_law_of_the_model() -> None:
    """Frequencies of the first token over 2,000 seeds: chi-square with 7 degrees of freedom, p = 1e-4 at 29.9."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    p = np.array([0.3, 0.25, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02])
    table[:, :8] = np.log(p)
    s = session(table)
    drawn = [tokens(run(s.generate(PROMPT, RunControl(), seed=i, max_tokens=1))[0])[0] for i in range(2000)]
    counts = np.bincount(drawn, minlength=8)[:8]
    assert ((counts - 2000 * p) ** 2 / (2000 * p)).sum() < 29.9


def test_a_stop_string_ends_the_text_before_it() -> None:
    steps, done = run(session(certain_table(b"kabcdef")).generate(PROMPT, RunControl(Recipe(greedy=True)), stop=["cd"]))
    assert "".join(s.text for s in steps) == "ab"
    assert done.reason == "stop" and done.text == ""


def test_a_budget_and_the_context_end_a_run() -> None:
    table = random_table(3)
    table[:, EOS] = -50
    steps, done = run(session(table).generate(PROMPT, RunControl(), max_tokens=4))
    assert len(steps) == 4 and done.reason == "length"
    assert (done.stats.prompt_tokens, done.stats.reused_tokens, done.stats.tokens) == (3, 0, 4)
    assert 0 < done.stats.prefill_s < 300 and 0 < done.stats.decode_s < 300  # each from its own beginning
    assert done.stats.tokens_per_s == 3 / done.stats.decode_s
    steps, done = run(session(table, context=10).generate(PROMPT, RunControl()))
    assert len(steps) == 7 and done.reason == "length"


def test_prompts_that_cannot_be_continued_are_refused() -> None:
    with pytest.raises(ContextOverflow, match=r"3 tokens.*at most 3"):
        run(session(random_table(3), context=3).generate(PROMPT, RunControl()))
    with pytest.raises(ParameterError, match="nothing to continue"):
        run(session(random_table(3)).generate([], RunControl()))


def test_a_cancelled_run_leaves_a_usable_session() -> None:
    table = random_table(4)
    table[:, EOS] = -50
    s, control, seen = session(table), RunControl(), []
    for event in s.generate(PROMPT, control, seed=1):
        if isinstance(event, Emitted):
            seen.append(event.step.token)
            if len(seen) == 3:
                control.cancel()
    assert isinstance(event, Done) and event.reason == "cancelled" and len(seen) == 3
    rest = tokens(run(s.generate(PROMPT + seen, RunControl(), seed=1, max_tokens=5))[0])
    fresh = tokens(run(session(table).generate(PROMPT, RunControl(), seed=1, max_tokens=8))[0])
    assert seen + rest == fresh


def test_a_closed_iterator_leaves_the_cache_at_the_last_whole_token() -> None:
    table = random_table(4)
    table[:, EOS] = -50
    s = session(table)
    events = s.generate(PROMPT, RunControl(), seed=1)
    given = [e.step.token for e, _ in zip((e for e in events if isinstance(e, Emitted)), range(3), strict=False)]
    events.close()
    place = s.pool.places[-1]
    assert place.ids[0][: len(PROMPT) + 3] == PROMPT + given
    assert place.length == place.cache.length == len(place.ids[0])


def test_a_common_prefix_is_not_read_again() -> None:
    table = random_table(5)
    table[:, EOS] = -50
    s = session(table)
    steps, first = run(s.generate(PROMPT, RunControl(), seed=1, max_tokens=10))
    ids = PROMPT + tokens(steps)
    read = s.model.read
    _, again = run(s.generate([*ids[:8], 7], RunControl(), seed=1, max_tokens=1))
    assert first.stats.reused_tokens == 0 and again.stats.reused_tokens == 8
    assert s.model.read == read + 1


def test_a_far_branch_keeps_the_longer_one_too() -> None:
    table = random_table(5)
    table[:, EOS] = -50
    s = session(table)
    steps, _ = run(s.generate(PROMPT, RunControl(), seed=1, max_tokens=100))
    run(s.generate([*PROMPT, 7], RunControl(), seed=1, max_tokens=1))
    _, back = run(s.generate(PROMPT + tokens(steps), RunControl(), max_tokens=1))
    assert back.stats.reused_tokens >= len(PROMPT) + 99


def test_runs_that_take_turns_do_not_disturb_each_other() -> None:
    table = random_table(12)
    table[:, EOS] = -50
    alone = [tokens(run(session(table).generate(PROMPT, RunControl(), seed=s, max_tokens=10))[0]) for s in (1, 2)]
    shared = session(table)
    runs = [shared.generate(PROMPT, RunControl(), seed=s, max_tokens=10) for s in (1, 2)]
    together: list[list[int]] = [[], []]
    while any(len(t) < 10 for t in together):
        for events, drawn in zip(runs, together, strict=True):
            event = next(events)
            drawn += [event.step.token] if isinstance(event, Emitted) else []
    assert together == alone


@pytest.mark.parametrize("live", [Recipe((TopK(1),)), Recipe((RepetitionPenalty(1.5), Temperature(0.3), TopP(0.5)))])
def test_a_recipe_changed_in_mid_answer_holds_from_the_next_token_not_yet_queued(
    live: Recipe, either_device: str
) -> None:
    table = random_table(6)
    table[:, EOS] = -50
    control, recipes = RunControl(Recipe((Temperature(1.5),))), []
    for event in session(table).generate(PROMPT, control, seed=1, max_tokens=8):
        if isinstance(event, Emitted):
            recipes.append(event.step.recipe)
            if len(recipes) == 4:
                control.recipe = live
    before = 4 if either_device == "cpu" else 5  # a GPU has one token queued
    assert recipes == [Recipe((Temperature(1.5),))] * before + [live] * (8 - before)


def test_transforms_with_a_memory_see_the_whole_text() -> None:
    """A strong repetition penalty on a model that wants to repeat: no token of the window comes again."""
    table = np.zeros((VOCAB, VOCAB))
    table[:, :30] = 5.0
    table[:, EOS] = -50
    recipe = Recipe((LogitBias({0: 1.0}), RepetitionPenalty(10.0, window=20)))
    steps, _ = run(session(table).generate(PROMPT, RunControl(replace(recipe, greedy=True)), max_tokens=30))
    drawn = tokens(steps)
    assert all(t not in drawn[max(0, i - 20) : i] for i, t in enumerate(drawn))


def test_forced_tokens_are_taken_and_measured() -> None:
    table = random_table(8)
    control = RunControl()
    control.force([65, 66])
    steps, _ = run(session(table).generate(PROMPT, control, seed=1, max_tokens=3))
    assert tokens(steps)[:2] == [65, 66] and [s.origin for s in steps] == ["forced", "forced", "drawn"]
    row = table[PROMPT[-1]]
    assert steps[0].logprob == pytest.approx(row[65] - np.log(np.exp(row).sum()), abs=1e-4)


def test_split_characters_become_text_when_they_are_whole() -> None:
    steps, done = run(session(certain_table(b"k" + "é".encode())).generate(PROMPT, RunControl(Recipe(greedy=True))))
    assert [s.text for s in steps] == ["", "é", ""] and done.text == ""


def test_scoring_a_text_is_the_sum_of_its_parts() -> None:
    table = random_table(9)
    text = list(b"measure this")
    steps = session(table).score(text)
    assert tokens(steps) == text and steps[0].logprob is None
    logp = table - np.log(np.exp(table).sum(-1, keepdims=True))
    want = sum(logp[a, b] for a, b in pairwise(text))
    assert math.fsum(s.logprob for s in steps if s.logprob is not None) == pytest.approx(want, abs=1e-4)
    assert tokens(session(table).score(text, start=5)) == text[5:]
    assert session(table).score([]) == []
    assert tokens(session(table, context=len(text)).score(text)) == text
    with pytest.raises(ContextOverflow, match="has 12 tokens and this model reads at most 11"):
        session(table, context=11).score(text)


def test_the_exact_distribution_after_any_prefix_costs_no_reading() -> None:
    table = random_table(10)
    table[:, EOS] = -50
    s = session(table)
    steps, _ = run(s.generate(PROMPT, RunControl(), seed=1, max_tokens=10))
    ids, read = PROMPT + tokens(steps), s.model.read
    np.testing.assert_allclose(s.logits_after(ids[:6]), table[ids[5]], atol=1e-5)
    assert s.model.read == read


def test_looking_back_moves_nothing() -> None:
    """A distribution or a score of what was read before leaves the cache at its end, in the middle of a run too."""
    table = random_table(13)
    table[:, EOS] = -50
    s = session(table)
    events = s.generate(PROMPT, RunControl(), seed=1, max_tokens=12)
    drawn: list[int] = []
    for event in events:
        if isinstance(event, Emitted):
            drawn.append(event.step.token)
            if len(drawn) == 8:
                for _ in range(8):
                    s.logits_after((PROMPT + drawn)[:5])
                    s.score((PROMPT + drawn)[:6])
    read = s.model.read
    assert drawn == tokens(run(session(table).generate(PROMPT, RunControl(), seed=1, max_tokens=12))[0])
    _, done = run(s.generate(PROMPT + drawn, RunControl(), max_tokens=1))
    assert done.stats.reused_tokens == len(PROMPT) + 11 and s.model.read == read + 1


def test_drawn_and_scored_numbers_agree() -> None:
    table = random_table(11)
    s = session(table)
    steps, _ = run(s.generate(PROMPT, RunControl(), seed=1, max_tokens=10))
    scored = session(table).score(PROMPT + tokens(steps))[len(PROMPT) :]
    for a, b in zip(steps, scored, strict=True):
        assert (a.token, a.rank) == (b.token, b.rank)
        assert a.logprob == pytest.approx(b.logprob, abs=1e-6)


def test_a_window_that_has_moved_on_is_read_anew() -> None:
    """A cache that dropped its oldest rows cannot go back to a shorter prefix; the session starts another."""
    import likely.models as models
    from tests.engine import tiny

    config = tiny.LLAMA | {"model_type": "mistral", "sliding_window": 8, "vocab_size": 256}
    weights = {name: mx.array(array) for name, array in tiny.weights(config).items()}
    checkpoint = FakeCheckpoint(MarkovModel(random_table(1)))
    checkpoint.model = models.build(config, weights)  # type: ignore[assignment]
    live = Session(checkpoint)  # type: ignore[arg-type]
    recipe = RunControl(Recipe(greedy=True))
    prompt = [(7 * i) % 250 for i in range(120)]
    first, _ = run(live.generate(prompt, recipe, max_tokens=4))
    shorter, _ = run(live.generate(prompt[:50], recipe, max_tokens=4))
    again, _ = run(live.generate(prompt, recipe, max_tokens=4))
    live.forget()
    fresh, _ = run(live.generate(prompt[:50], recipe, max_tokens=4))
    assert tokens(shorter) == tokens(fresh)
    assert tokens(again) == tokens(first)


@pytest.mark.parametrize("branches", [1, 3])
def test_a_text_that_outgrows_its_frequencies_is_read_again(branches: int) -> None:
    """Longrope: past the original length every position turns otherwise, so branches read what they know anew."""
    import likely.models as models
    from likely.engine.decode.branches import Branches
    from tests.engine import tiny

    factors = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    config = tiny.LLAMA | {"rope_scaling": factors | {"original_max_position_embeddings": 20}}
    model = models.build(config, {name: mx.array(array) for name, array in tiny.weights(config).items()})
    ids = [(7 * i) % 250 for i in range(30)]
    whole = model(mx.array([ids]))[0]
    place = Branches(model, model.make_cache())
    assert list(place.read(ids[:18])) == [18]
    place.select([0] * branches)
    for token in ids[18:25]:
        place.feed([token] * branches)
        place.settle([token] * branches)
    assert list(place.read(ids[25:])) == [5]
    assert place.ids == [ids] * branches and place.length == 30
    for row in place.logits_at(0, 30):
        np.testing.assert_allclose(row, whole, atol=1e-4)
    place.rewind(10)
    assert list(place.read(ids[10:12]))[-1] == 2 and place.length == 12
    np.testing.assert_allclose(place.logits_at(0, 12)[0], model(mx.array([ids[:12]]))[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "megabytes", "tokens_"),
    [({}, 0.6, 412), ({"window": 40}, 0.7, 500), ({"bits": 8, "exact": 8}, 0.2, 280)],
    ids=str,
)
@pytest.mark.parametrize("branches", [1, 3])
def test_keys_and_values_stay_within_their_budget(
    options: dict[str, Any], megabytes: float, tokens_: int, branches: int
) -> None:
    """A position takes 1,024 bytes here, or 288 packed."""
    import likely.models as models
    from tests.engine import tiny

    config = tiny.LLAMA | {"vocab_size": VOCAB, "max_position_embeddings": 600, "head_dim": 32}
    checkpoint = FakeCheckpoint(MarkovModel(random_table(1)))
    weights = {name: mx.array(array) for name, array in tiny.weights(config).items()}
    checkpoint.model = models.build(config, weights)  # type: ignore[assignment]
    checkpoint.tokenizer.eos = frozenset()  # type: ignore[misc]
    prompt = [(7 * i) % 250 for i in range(100)]
    budget = int(1e6 * megabytes * branches)
    live = Session(checkpoint, kv_budget=budget, **options)  # type: ignore[arg-type]
    ends = [e for e in live.generate(prompt, RunControl(), n=branches) if isinstance(e, Done)]
    assert live.cache_nbytes <= budget and {end.reason for end in ends} == {"length"}
    assert ends[0].stats.tokens == pytest.approx(tokens_, rel=0.05) if branches == 1 else ends[0].stats.tokens > 100
    small = Session(checkpoint, kv_budget=50_000, **options)  # type: ignore[arg-type]
    with pytest.raises(OutOfMemory, match=r"keys and values of 100 tokens take 0\.\d+ MB, the budget is 0\.05 MB"):
        next(iter(small.generate(prompt, RunControl())))


class Narrow(MarkovModel):
    """Gives NaN after one token, as a model does whose numbers leave their type."""

    def __init__(self, table: np.ndarray, token: int) -> None:
        super().__init__(table)
        self.table[token] = np.nan

    def inspect(self, tokens: mx.array) -> SimpleNamespace:
        read = self.table[tokens]
        return SimpleNamespace(hidden=[tokens[..., None].astype(mx.float32), read, read])


def narrow(token: int, wider: MarkovModel | None) -> tuple[Session, list[str]]:
    """A session of a model that is narrow after `token`, whose checkpoint loads as `wider`."""
    checkpoint, loads = FakeCheckpoint(Narrow(random_table(3), token)), []
    checkpoint.precision = Precision(mx.float16, packed=True)

    def widened() -> FakeCheckpoint | None:
        if wider is None:
            return None
        loads.append("again")
        again = FakeCheckpoint(wider)
        again.precision = Precision(mx.bfloat16, packed=True)
        return again

    checkpoint.widened = widened
    return Session(checkpoint), loads  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [0, 1, 5], ids=["the prompt", "the first token", "a later one"])
def test_a_model_that_gives_nan_is_loaded_wider_and_the_run_goes_on(at: int) -> None:
    plain = Session(FakeCheckpoint(MarkovModel(random_table(3))))  # type: ignore[arg-type]
    expected = [
        e.step.token for e in plain.generate([65], RunControl(), seed=4, max_tokens=12) if isinstance(e, Emitted)
    ]
    session, loads = narrow([65, *expected][at], MarkovModel(random_table(3)))
    events = list(session.generate([65], RunControl(), seed=4, max_tokens=12))
    assert [e.step.token for e in events if isinstance(e, Emitted)] == expected
    lines = [e.line for e in events if isinstance(e, Reloaded)]
    assert lines == [
        f"fake gives NaN after token {at + 1} (layer 1 is the first) in float16: it was loaded again in bfloat16"
    ]
    assert loads == ["again"] and isinstance(events[-1], Done) and events[-1].stats.tokens == len(expected)


def test_a_model_that_gives_nan_in_every_type_is_named_and_no_nan_becomes_a_token() -> None:
    session, _ = narrow(66, None)
    with pytest.raises(NotFinite, match=r"^fake gives NaN after token 2 \(layer 1 is the first\): its weights"):
        list(session.generate([65, 66], RunControl(), max_tokens=3))
    with pytest.raises(NotFinite, match=r"^fake gives NaN after token 2 \(layer 1 is the first\)"):
        session.score([65, 66, 67])
    with pytest.raises(NotFinite, match=r"^fake gives NaN after token 1 "):
        session.logits_after([66])
    with pytest.raises(NotFinite):
        list(session.generate([65, 66], RunControl(), n=3, max_tokens=3))


def test_what_is_on_the_model_is_not_lost_by_loading_it_again() -> None:
    session, loads = narrow(66, MarkovModel(random_table(3)))
    session.changed("an adapter's hash")
    with pytest.raises(NotFinite, match="take its adapters off"):
        list(session.generate([65, 66], RunControl(), max_tokens=3))
    assert not loads
