"""Beam search: the hypotheses and scores of transformers, and the best of all texts where all can be counted."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.app.cli.sampling import read_recipe
from likely.engine.arrays import top
from likely.engine.decode.beam import GNMT, Beam, DiverseBeam
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Event, Forked, Pruned, Rated
from likely.engine.decode.strategy import Strategy
from likely.engine.errors import ParameterError
from likely.engine.presets import PARAMETERS
from likely.engine.session import Session
from likely.engine.trace.step import Recipe, TokenStep
from likely.engine.transforms import RepetitionPenalty, Temperature, TopK
from likely.metal import mx
from tests.data.beams.cases import CONFIG, weights
from tests.fakes import EOS, VOCAB, FakeCheckpoint, MarkovModel, random_table

CASES = json.loads((Path(__file__).parents[2] / "data/beams/cases.json").read_text())["cases"]
PROMPT = list(b"ask")


class Found:
    """What a search gives: for each text that is left its steps, figures and end, the best first."""

    def __init__(self, events: Iterator[Event]) -> None:
        self.steps: dict[int, list[TokenStep]] = {0: []}
        self.figures: dict[int, Any] = {}
        self.ends: dict[int, Done] = {}
        self.most = 0
        for event in events:
            match event:
                case Emitted(branch, step):
                    assert branch not in self.ends
                    self.steps[branch].append(step)
                case Forked(parent, child):
                    assert child not in self.steps
                    self.steps[child] = list(self.steps[parent])
                case Pruned(branch):
                    del self.steps[branch]
                case Rated(branch, figures):
                    self.figures[branch] = figures
                case Done(branch):
                    self.ends[branch] = event
            self.most = max(self.most, len(self.steps) - len(self.ends))
        assert set(self.ends) == set(self.steps)
        self.order = sorted(self.ends, key=lambda b: -self.figures[b]["score"])

    @property
    def ids(self) -> list[list[int]]:
        return [[step.token for step in self.steps[branch]] for branch in self.order]

    @property
    def scores(self) -> list[float]:
        return [self.figures[branch]["score"] for branch in self.order]


def markov(table: np.ndarray, eos: frozenset[int] = frozenset({EOS})) -> Session:
    session = Session(FakeCheckpoint(MarkovModel(table)))  # type: ignore[arg-type]
    session.tokenizer.eos = eos
    return session


def search(session: Session, strategy: Strategy, max_tokens: int, recipe: Recipe | None = None, **more: Any) -> Found:
    prompt = more.pop("prompt", PROMPT)
    control = more.pop("control", None) or RunControl(recipe or Recipe())
    return Found(session.generate(prompt, control, strategy=strategy, max_tokens=max_tokens, **more))


def few(seed: int, tokens: int = 4, scale: float = 1.5) -> np.ndarray:
    """A table in which only the first letters and the end can be drawn."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[:, 97 : 97 + tokens] = random_table(seed, scale)[:, :tokens]
    table[:, EOS] = random_table(seed + 1000, 1.0)[:, 0]
    return table


def texts(table: np.ndarray, length: int, tokens: int = 4) -> dict[tuple[int, ...], float]:
    """The log-probability of every text of at most `length` tokens: they end, or are as long as may be."""
    with np.errstate(invalid="ignore"):  # rows that nothing leads to
        logp = table - np.logaddexp.reduce(table, axis=-1, keepdims=True)
    found = {}
    for n in range(1, length + 1):
        for body in product(range(97, 97 + tokens), repeat=n - 1):
            for last in (EOS, *range(97, 97 + tokens)) if n == length else (EOS,):
                ids = (*PROMPT, *body, last)
                found[ids[3:]] = float(sum(logp[ids[i], ids[i + 1]] for i in range(2, len(ids) - 1)))
    return found


# -- transformers ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_the_hypotheses_are_those_of_transformers(part: int) -> None:
    """Sequences in order, and scores to 1e-4."""
    for case in CASES[part::8]:
        arrays = {name: mx.array(w) for name, w in weights(case["model"], case["sharp"]).items()}
        model = models.build(CONFIG | {"model_type": "llama"}, arrays)
        session = Session(FakeCheckpoint(model))  # type: ignore[arg-type]
        session.tokenizer.eos = frozenset(case["eos"])
        session.tokenizer.piece = lambda token: bytes([token])  # type: ignore[method-assign]
        transforms = (
            *([RepetitionPenalty(case["repetition_penalty"], 1000)] if "repetition_penalty" in case else []),
            *([Temperature(case["temperature"])] if "temperature" in case else []),
            *([TopK(case["top_k"])] if "top_k" in case else []),
        )
        early = {False: "false", True: "true", "never": "never"}[case["early"]]
        found = search(
            session, Beam(case["beams"], case["penalty"], early), case["max_tokens"], Recipe(transforms),
            prompt=case["prompt"],
        )  # fmt: skip
        want = [one for one in case["found"] if one["score"] > -1e6]  # a beam without a beginning of its own is none
        assert found.scores == pytest.approx([one["score"] for one in want], abs=1e-4), case
        assert found.ids == [one["ids"] for one in want], case
        assert found.most <= 3 * case["beams"]


# -- enumeration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "weigh"), [(Beam, lambda n: n), (GNMT, lambda n: (5 + n) / 6)])
def test_as_many_beams_as_there_are_texts_find_them_all(seed: int, kind: type[Beam], weigh: Any) -> None:
    table = few(seed)
    want = sorted(((p / weigh(len(ids)) ** 0.7, ids) for ids, p in texts(table, 4).items()), reverse=True)
    found = search(markov(table), kind(256, 0.7, "never"), 4)
    assert found.scores == pytest.approx([score for score, _ in want[:256]], abs=1e-4)
    assert len(set(map(tuple, found.ids))) == 256  # of equals any may be the last, and their order is free
    every = {ids: score for score, ids in want}
    assert found.scores == pytest.approx([every[tuple(ids)] for ids in found.ids], abs=1e-4)


def test_two_beams_find_the_mode_that_greed_misses() -> None:
    """p(0) = .5 leads to at most .35, p(1) = .4 to .9."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[PROMPT[-1], 97:100] = np.log([0.5, 0.4, 0.1])
    table[97, 100:103] = np.log([0.35, 0.33, 0.32])
    table[98, 100:103] = np.log([0.9, 0.05, 0.05])
    table[99, 100:103] = np.log([0.34, 0.33, 0.33])
    table[100:103, EOS] = 0.0
    greedy = search(markov(table), Beam(1, 0.0), 5)
    assert greedy.ids == [[97, 100, EOS]] and greedy.scores == pytest.approx([-1.742969], abs=1e-5)
    mode = search(markov(table), Beam(2), 5)
    assert mode.ids[0] == [98, 100, EOS] and mode.scores[0] == pytest.approx(-0.340550, abs=1e-5)
    raw = [step.logprob for step in mode.steps[mode.order[0]]]
    assert sum(p for p in raw if p is not None) == pytest.approx(-1.021651, abs=1e-5)


def test_one_beam_is_greed() -> None:
    for seed in range(5):
        table = few(seed)
        greedy = [e.step.token for e in markov(table).generate(PROMPT, RunControl(Recipe(greedy=True)), max_tokens=9)
                  if isinstance(e, Emitted)]  # fmt: skip
        assert search(markov(table), Beam(1, 0.0), 9).ids == [greedy]


def slow_diverse(table: np.ndarray, beams: int, groups: int, diversity: float, length: int) -> list[tuple[float, Any]]:
    """Algorithm 1 of Vijayakumar et al. by sorting all children, for texts that cannot end before `length`."""
    logp = table - np.logaddexp.reduce(table, axis=-1, keepdims=True)
    held: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, ())] for _ in range(groups)]
    for _ in range(length):
        taken: list[int] = []
        for g in range(groups):
            children = [
                (score + logp[(*PROMPT, *ids)[-1], t] - diversity * taken.count(t), (*ids, t))
                for score, ids in held[g] for t in range(97, 101)
            ]  # fmt: skip
            held[g] = sorted(children, reverse=True)[: beams // groups]
            taken += [ids[-1] for _, ids in held[g]]
    return sorted((text for group in held for text in group), reverse=True)


@pytest.mark.parametrize("seed", range(6))
def test_diverse_beams_are_those_of_the_algorithm(seed: int) -> None:
    table = few(seed)
    table[:, EOS] = -np.inf
    diversity = 0.3 + 0.2 * seed
    want = slow_diverse(table, 6, 3, diversity, 4)
    found = search(markov(table), DiverseBeam(6, 0.0, apart=3, diversity=diversity), 4)
    assert found.scores == pytest.approx([score for score, _ in want], abs=1e-4)
    assert sorted(map(tuple, found.ids)) == sorted(ids for _, ids in want)


# -- what a person sees and asks -------------------------------------------------------------------------------------


def test_a_stop_string_ends_a_text_among_the_others() -> None:
    table = few(7)
    found = search(markov(table), Beam(3, 0.0, "never"), 6, stop=("b",))
    for branch in found.ends:
        tokens = [step.token for step in found.steps[branch]]
        stopped = found.ends[branch].reason == "stop"
        assert tokens.count(98) == stopped and (not stopped or tokens[-1] == 98)
    assert any(end.reason == "stop" for end in found.ends.values())


def test_what_is_cancelled_keeps_what_was_found() -> None:
    control, table = RunControl(), few(8)
    table[:, EOS] += 1

    def until() -> Iterator[Event]:
        for event in markov(table).generate(PROMPT, control, strategy=Beam(3, 2.0, "never"), max_tokens=40):
            yield event
            if isinstance(event, Emitted) and event.step.position == len(PROMPT) + 3:
                control.cancel()

    found = Found(until())
    reasons = {end.reason for end in found.ends.values()}
    assert reasons == {"cancelled", "eot"} and all(len(steps) for steps in found.steps.values())


def test_words_that_are_put_in_front_count_for_no_length() -> None:
    """Beginnings score on the way as they do without them: 0 for each of the words, then the same."""
    table, control = few(9), RunControl()
    control.force(list(b"bc"))

    def told(session: Session, prompt: list[int], control: RunControl, most: int) -> list[float]:
        events = session.generate(prompt, control, strategy=Beam(3, 0.7, "never"), max_tokens=most)
        return [event.figures["score"] for event in events if isinstance(event, Rated)]

    forced = told(markov(table), PROMPT, control, 6)
    plain = told(markov(table), [*PROMPT, *b"bc"], RunControl(), 4)
    assert forced[:2] == [0, 0] and forced[2:] == pytest.approx(plain, abs=1e-5) and len(plain) > 6


def test_a_step_says_the_raw_log_probability_beside_what_was_made_of_it() -> None:
    table = few(10)
    logp = table - np.logaddexp.reduce(table, axis=-1, keepdims=True)
    found = search(markov(table), Beam(2, 0.0), 4, Recipe((RepetitionPenalty(1.5), Temperature(0.7))))
    for branch in found.order:
        ids = [*PROMPT, *(step.token for step in found.steps[branch])]
        for step in found.steps[branch]:
            assert step.logprob == pytest.approx(logp[ids[step.position - 1], step.token], abs=1e-4)


def test_the_best_of_a_large_vocabulary_are_found_by_their_blocks() -> None:
    """`top` looks at the blocks with the largest peaks alone: equal to sorting all, ties to the lower id."""
    random = np.random.default_rng(0)
    for size, k in ((300, 2), (1000, 1), (5003, 3), (40_007, 16), (152_064, 16)):
        x = random.normal(size=(3, size)).astype(np.float32)
        x[1] = random.integers(0, 4, size)  # nearly all are equal to another
        x[2, 5:] = -np.inf
        np.testing.assert_array_equal(top(x, k, np), np.argsort(-x, axis=-1, kind="stable")[:, :k])


def test_a_search_applies_no_preset_unasked() -> None:
    values = dict.fromkeys(PARAMETERS) | {
        "preset": None, "order": "mlx-lm", "bias": (), "seed": 0, "max_tokens": None, "stop": ()
    }  # fmt: skip
    assert read_recipe(values, searches=True)[0] == Recipe() != read_recipe(values)[0]
    with pytest.raises(ParameterError, match="a search has no use for temperature 0"):
        read_recipe(values | {"temp": 0.0}, searches=True)


def test_a_beginning_that_is_dropped_leaves_its_place_to_others() -> None:
    control = RunControl()

    def dropping() -> Iterator[Event]:
        for event in markov(few(3)).generate(PROMPT, control, strategy=Beam(3), max_tokens=5):
            if isinstance(event, Emitted) and event.branch == 2:
                control.given_up.add(2)
            yield event

    found = Found(dropping())
    dropped = found.steps[2]
    assert found.ends[2].reason == "cancelled" and len(dropped) == 1  # as it was told: it ends there
    others = [found.steps[branch] for branch in found.order if branch != 2]
    assert len(others) == 3 and all(steps[0].token != dropped[0].token for steps in others)


def test_nothing_comes_of_a_beginning_that_is_dropped_between_two_tokens() -> None:
    session, control = markov(few(1)), RunControl()
    assert all(ids[0] == 97 for ids in search(session, Beam(3), 5).ids)  # it would have taken every place

    def dropping() -> Iterator[Event]:
        told = 0
        for event in session.generate(PROMPT, control, strategy=Beam(3), max_tokens=5):
            told += isinstance(event, Emitted)
            yield event
            if isinstance(event, Emitted) and event.step.token == 97 and told <= 3:
                first.append(event.branch)
            if told == 3 and isinstance(event, Emitted):
                control.given_up.update(first)

    first: list[int] = []
    found = Found(dropping())
    assert len(first) == 1 and len(found.ids) == 3 and all(ids[0] != 97 for ids in found.ids)
