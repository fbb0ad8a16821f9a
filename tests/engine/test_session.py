"""Sessions and sampling on a model whose every probability is known."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ContextOverflow, NotFinite, OutOfMemory, ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event, Reloaded
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import parse
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.replay import replay_drawn, states_at
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import LogitBias, RepetitionPenalty, Temperature, TopK, TopP
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import mx
from tests.fakes import EOS, VOCAB, FakeCheckpoint, MarkovModel, certain_table, random_table
from tests.support.decoding import PROMPT, Found, at, endless, log_softmax, run, session, transformer

pytestmark = pytest.mark.usefixtures("either_device")  # transforms in numpy, and queued ahead in mlx
GREEDY = SamplingConfig(greedy=True)


def drawn(of: Any, most: int = 10, *, prompt: list[int] = PROMPT, seed: int = 1, **more: Any) -> list[int]:
    return run(of, prompt=prompt, seed=seed, max_tokens=most, **more).tokens[0]


def reused(of: Session, prompt: list[int]) -> int:
    return run(of, prompt=prompt, max_tokens=1).ends[0].stats.reused_tokens


def test_numbers_of_a_step_are_the_models_own() -> None:
    table = random_table(1)
    before = PROMPT[-1]
    for step in run(table, SamplingConfig((Temperature(0.5),)), seed=3, max_tokens=5).steps[0]:
        row = table[before].astype(np.float32).astype(np.float64)
        logp = log_softmax(row)
        assert step.logprob == pytest.approx(logp[step.token], abs=1e-5)
        assert step.logprob_after == pytest.approx(log_softmax(row / 0.5)[step.token], abs=1e-5)
        assert step.entropy == pytest.approx(-(np.exp(logp) * logp).sum(), abs=1e-5)
        assert step.rank == 1 + (row > row[step.token]).sum()
        before = step.token


@pytest.mark.parametrize("how", ["sample", "ngram", "sample of 2"])
def test_a_temperature_that_moves_is_kept_with_each_token(tmp_path: Path, how: str) -> None:
    """In the file, against log-softmaxes in float64 of the model's logits at the temperature that held."""
    table, n = endless(4), 2 if how == "sample of 2" else 1
    control, steps = RunControl(SamplingConfig((TopK(20), Temperature(0.8)))), list[TokenStep]()
    strategy = parse(how.partition(" ")[0])
    for event in session(table).generate(PROMPT, control, n=n, seed=3, max_tokens=12, strategy=strategy):
        if isinstance(event, Emitted) and event.branch == n - 1:
            steps.append(event.step)
            if len(steps) == 5:
                control.recipe = SamplingConfig((TopK(20), Temperature(0.4)))
    file.save([Trace("m", "", {}, 3 + n - 1, tuple(PROMPT), tuple(steps))], tmp_path / "run.jsonl")
    (trace,) = file.load(tmp_path / "run.jsonl")
    assert len(json.loads((tmp_path / "run.jsonl").read_text().partition("\n")[0])["recipes"]) == 2
    held = [step.recipe.transforms[1].temperature for step in trace.steps]  # type: ignore[attr-defined]
    assert held == sorted(held, reverse=True) and held[:5] == [0.8] * 5 and held[-3:] == [0.4] * 3
    before = PROMPT[-1]
    for place, (step, temperature) in enumerate(zip(trace.steps, held, strict=True)):
        row = table[before].astype(np.float32).astype(np.float64) / temperature
        row[row < np.sort(row)[-20]] = -np.inf
        law = np.exp(log_softmax(row))
        assert step.logprob_after == pytest.approx(np.log(law[step.token]), abs=1e-5)
        states = states_at(step.recipe.transforms, trace.lexicon, trace.prompt, trace.steps[:place])
        seen = replay_drawn(step, states, (trace.seed, step.position))
        assert seen is not None and seen.exact and seen.kept == (20, 20)
        np.testing.assert_allclose(seen.middle, law[seen.ids], atol=1e-6)
        before = step.token


def test_a_run_resumed_or_beside_another_goes_on_as_if_it_were_alone() -> None:
    table = endless(2, 1.0)
    whole = drawn(table, 20, seed=5)
    assert whole[8:] == drawn(table, 12, prompt=PROMPT + whole[:8], seed=5)
    made = session(table)
    runs = [made.generate(PROMPT, RunControl(), seed=s, max_tokens=10) for s in (5, 6)]
    together: list[list[Event]] = [[], []]
    for one, other in zip(*runs, strict=False):
        together[0].append(one)
        together[1].append(other)
    assert [Found(events).tokens[0] for events in together] == [whole[:10], drawn(table, 10, seed=6)]


def test_what_ends_a_run() -> None:
    found = run(certain_table(b"kabcdef"), GREEDY, stop=["cd"])
    assert "".join(s.text for s in found.steps[0]) == "ab" and found.reasons[0] == "stop" and found.ends[0].text == ""
    (end,) = run(endless(3), max_tokens=4).ends.values()
    assert (end.reason, end.stats.prompt_tokens, end.stats.reused_tokens, end.stats.tokens) == ("length", 3, 0, 4)
    assert 0 < end.stats.prefill_s < 300 and 0 < end.stats.decode_s < 300  # each from its own beginning
    assert end.stats.tokens_per_s == 3 / end.stats.decode_s
    assert run(MarkovModel(endless(3), 10)).ends[0].stats.tokens == 7  # as many as there are positions
    with pytest.raises(ContextOverflow, match=r"3 tokens.*at most 3"):
        run(MarkovModel(random_table(3), 3))
    with pytest.raises(ParameterError, match="nothing to continue"):
        run(random_table(3), prompt=[])


def test_a_cancelled_and_a_closed_run_leave_the_session_at_the_last_whole_token() -> None:
    made, control = session(endless(4)), RunControl()

    def until() -> Iterator[Event]:
        for event in made.generate(PROMPT, control, seed=1):
            yield event
            if isinstance(event, Emitted) and event.step.position == len(PROMPT) + 2:
                control.cancel()

    seen = Found(until())
    assert seen.reasons[0] == "cancelled" and len(seen.tokens[0]) == 3
    assert seen.tokens[0] + drawn(made, 5, prompt=PROMPT + seen.tokens[0]) == drawn(endless(4), 8)
    made = session(endless(4))
    events = made.generate(PROMPT, RunControl(), seed=1)
    given = [e.step.token for e, _ in zip((e for e in events if isinstance(e, Emitted)), range(3), strict=False)]
    events.close()
    place = made.pool.branches[-1]
    assert place.ids[0][: len(PROMPT) + 3] == PROMPT + given
    assert place.length == place.cache.length == len(place.ids[0])


def test_a_common_prefix_is_not_read_again_and_a_far_branch_keeps_the_longer_one_too() -> None:
    made = session(endless(5))
    ids = PROMPT + drawn(made)
    read = made.model.read
    assert reused(made, [*ids[:8], 7]) == 8 and made.model.read == read + 1
    ids = PROMPT + drawn(made, 100)
    reused(made, [*PROMPT, 7])
    assert reused(made, ids) >= len(PROMPT) + 99


@pytest.mark.parametrize(
    "live", [SamplingConfig((TopK(1),)), SamplingConfig((RepetitionPenalty(1.5), Temperature(0.3), TopP(0.5)))]
)
def test_a_recipe_changed_in_mid_answer_holds_from_the_next_token_not_yet_queued(
    live: SamplingConfig, either_device: str
) -> None:
    hot = SamplingConfig((Temperature(1.5),))
    control, recipes = RunControl(hot), []
    for event in session(endless(6)).generate(PROMPT, control, seed=1, max_tokens=8):
        if isinstance(event, Emitted):
            recipes.append(event.step.recipe)
            if len(recipes) == 4:
                control.recipe = live
    before = 4 if either_device == "cpu" else 5  # a GPU has one token queued
    assert recipes == [hot] * before + [live] * (8 - before)


def test_transforms_with_a_memory_see_the_whole_text() -> None:
    """A strong repetition penalty on a model that wants to repeat: no token of the window comes again."""
    table = np.zeros((VOCAB, VOCAB))
    table[:, :30] = 5.0
    table[:, EOS] = -50
    recipe = SamplingConfig((LogitBias({0: 1.0}), RepetitionPenalty(10.0, window=20)))
    tokens = run(table, replace(recipe, greedy=True), max_tokens=30).tokens[0]
    assert all(t not in tokens[max(0, i - 20) : i] for i, t in enumerate(tokens))


def test_forced_tokens_are_taken_and_measured() -> None:
    table, control = random_table(8), RunControl()
    control.force([65, 66])
    steps = run(table, control=control, seed=1, max_tokens=3).steps[0]
    assert [s.token for s in steps][:2] == [65, 66] and [s.origin for s in steps] == ["forced", "forced", "drawn"]
    assert steps[0].logprob == pytest.approx(log_softmax(table[PROMPT[-1]])[65], abs=1e-4)


def test_split_characters_become_text_when_they_are_whole() -> None:
    found = run(certain_table(b"k" + "é".encode()), GREEDY)
    assert [s.text for s in found.steps[0]] == ["", "é", ""] and found.ends[0].text == ""


# -- scores and distributions ------------------------------------------------------------------------------------------


def test_scoring_a_text_is_the_sum_of_its_parts_and_what_was_drawn_says_the_same() -> None:
    table, text = random_table(9), list(b"measure this")
    steps = session(table).score(text)
    assert [s.token for s in steps] == text and steps[0].logprob is None
    want = sum(log_softmax(table)[a, b] for a, b in pairwise(text))
    assert math.fsum(s.logprob for s in steps if s.logprob is not None) == pytest.approx(want, abs=1e-4)
    assert [s.token for s in session(table).score(text, start=5)] == text[5:] and session(table).score([]) == []
    assert len(session(MarkovModel(table, len(text))).score(text)) == len(text)
    with pytest.raises(ContextOverflow, match="has 12 tokens and this model reads at most 11"):
        session(MarkovModel(table, 11)).score(text)
    steps = run(table, seed=1, max_tokens=10).steps[0]
    scored = session(table).score([*PROMPT, *(s.token for s in steps)])[len(PROMPT) :]
    for a, b in zip(steps, scored, strict=True):
        assert (a.token, a.rank) == (b.token, b.rank) and a.logprob == pytest.approx(b.logprob, abs=1e-6)


def test_looking_back_costs_no_reading_and_moves_nothing() -> None:
    """A distribution or a score of what was read before leaves the cache at its end, in the middle of a run too."""
    table = endless(13)
    made, ids = session(table), list(PROMPT)
    for event in made.generate(PROMPT, RunControl(), seed=1, max_tokens=12):
        if isinstance(event, Emitted):
            ids.append(event.step.token)
            if len(ids) == 11:
                for _ in range(8):
                    made.logits_after(ids[:5])
                    made.score(ids[:6])
    read = made.model.read
    np.testing.assert_allclose(made.logits_after(ids[:6]), table[ids[5]], atol=1e-5)
    along = np.concatenate([rows for rows in made.logits_along(ids[:-1], 2) if rows is not None])
    np.testing.assert_allclose(along, table[ids[2:-1]], atol=1e-5)
    assert made.model.read == read and ids[len(PROMPT) :] == drawn(table, 12)
    assert reused(made, ids) == len(PROMPT) + 11 and made.model.read == read + 1


# -- caches that forget ------------------------------------------------------------------------------------------------


def test_a_window_that_has_moved_on_is_read_anew() -> None:
    """A cache that dropped its oldest rows cannot go back to a shorter prefix; the session starts another."""
    made = session(transformer(model_type="mistral", sliding_window=8))
    prompt = [(7 * i) % 250 for i in range(120)]

    def greedy(ids: list[int]) -> list[int]:
        return run(made, GREEDY, prompt=ids, max_tokens=4).tokens[0]

    first, shorter, again = greedy(prompt), greedy(prompt[:50]), greedy(prompt)
    made.forget()
    assert shorter == greedy(prompt[:50]) and again == first


@pytest.mark.parametrize("branches", [1, 3])
def test_a_text_that_outgrows_its_frequencies_is_read_again(branches: int) -> None:
    """Longrope: past the original length every position turns otherwise, so branches read what they know anew."""
    factors = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    model = transformer(rope_scaling=factors | {"original_max_position_embeddings": 20})
    ids = [(7 * i) % 250 for i in range(30)]
    place = at(model, ids[:18])
    place.select([0] * branches)
    for token in ids[18:25]:
        place.feed([token] * branches)
        place.settle([token] * branches)
    assert list(place.read(ids[25:])) == [5] and place.ids == [ids] * branches and place.length == 30
    for row in place.logits_at(0, 30):
        np.testing.assert_allclose(row, model(mx.array([ids]))[0], atol=1e-4)
    place.rewind(10)
    assert list(place.read(ids[10:12]))[-1] == 2 and place.length == 12
    np.testing.assert_allclose(place.logits_at(0, 12)[0], model(mx.array([ids[:12]]))[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "megabytes", "tokens"),
    [({}, 0.6, 412), ({"window": 40}, 0.7, 500), ({"bits": 8, "exact": 8}, 0.2, 280)],
    ids=str,
)
@pytest.mark.parametrize("branches", [1, 3])
def test_keys_and_values_stay_within_their_budget(
    options: dict[str, Any], megabytes: float, tokens: int, branches: int
) -> None:
    """A position takes 1,024 bytes here, or 288 packed."""
    model = transformer(max_position_embeddings=600, head_dim=32)
    prompt, budget = [(7 * i) % 250 for i in range(100)], int(1e6 * megabytes * branches)
    live = session(model, kv_budget=budget, **options)
    live.tokenizer.eos = frozenset()
    found = run(live, prompt=prompt, n=branches)
    assert live.cache_nbytes <= budget and set(found.reasons.values()) == {"length"}
    told = found.ends[0].stats.tokens
    assert told == pytest.approx(tokens, rel=0.05) if branches == 1 else told > 100
    with pytest.raises(OutOfMemory, match=r"keys and values of 100 tokens take 0\.\d+ MB, the budget is 0\.05 MB"):
        run(session(model, kv_budget=50_000, **options), prompt=prompt)


def test_of_a_device_that_fails_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had been given to do stands in the cache by then, as if it were done."""
    live = session(transformer())
    run(live, max_tokens=3)
    assert reused(live, PROMPT) == len(PROMPT)

    def fails(*arrays: Any) -> None:
        raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory.")

    longer = [*PROMPT, *PROMPT]
    with monkeypatch.context() as broken, pytest.raises(RuntimeError, match="Insufficient Memory"):
        for name in ("eval", "async_eval"):
            broken.setattr(f"mlx.core.{name}", fails)
        run(live, prompt=longer)
    assert reused(live, PROMPT) == 0 and drawn(live, prompt=longer) == drawn(session(transformer()), prompt=longer)


# -- numbers that leave their type -------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("place", [0, 1, 5], ids=["the prompt", "the first token", "a later one"])
def test_a_model_that_gives_nan_is_loaded_wider_and_the_run_goes_on(place: int) -> None:
    expected = drawn(random_table(3), 12, prompt=[65], seed=4)
    made, loads = narrow([65, *expected][place], MarkovModel(random_table(3)))
    events = list(made.generate([65], RunControl(), seed=4, max_tokens=12))
    found = Found(events)
    assert found.tokens[0] == expected and found.ends[0].stats.tokens == len(expected) and loads == ["again"]
    assert [e.line for e in events if isinstance(e, Reloaded)] == [
        f"fake gives NaN after token {place + 1} (layer 1 is the first) in float16: it was loaded again in bfloat16"
    ]


def test_a_model_that_gives_nan_in_every_type_is_named_and_no_nan_becomes_a_token() -> None:
    made, _ = narrow(66, None)
    second = r"^fake gives NaN after token 2 \(layer 1 is the first\)"
    for call, line in (
        (lambda: run(made, prompt=[65, 66], max_tokens=3), second + ": its weights"),
        (lambda: made.score([65, 66, 67]), second),
        (lambda: made.logits_after([66]), r"^fake gives NaN after token 1 "),
        (lambda: list(made.logits_along([65, 66, 67], 0)), second),
        (lambda: run(made, prompt=[65, 66], n=3, max_tokens=3), ""),
    ):  # fmt: skip
        with pytest.raises(NotFinite, match=line):
            call()
    made, loads = narrow(66, MarkovModel(random_table(3)))
    made.changed("an adapter's hash")  # which would be lost by loading it again
    with pytest.raises(NotFinite, match="take its adapters off"):
        run(made, prompt=[65, 66], max_tokens=3)
    assert not loads
