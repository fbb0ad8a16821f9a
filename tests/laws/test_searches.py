"""Searches of the tree that a model spans: against all of its texts, which are few enough to be counted."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event, Forked, Rated
from likely.engine.decode.searches.beam import GNMT, Beam, DiverseBeam, HuggingFaceBeam
from likely.engine.decode.searches.exact import ExactMode
from likely.engine.decode.searches.stochastic_beam import StochasticBeam, below, expected, inclusion
from likely.engine.decode.session import Session
from likely.engine.measure import tiny_models
from likely.engine.measure.proofs.enumeration import END, MOST, TABLE
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import RepetitionPenalty, Temperature, TopK
from likely.engine.weights.sources import checkpoint
from likely.metal import mx
from tests.data.beams.cases import CONFIG, weights
from tests.fakes import EOS
from tests.support.decoding import (
    PROMPT,
    Found,
    few,
    log_softmax,
    misfit,
    plackett_luce,
    rows,
    search,
    session,
    texts,
)

CASES = json.loads((Path(__file__).parents[1] / "data/beams/cases.json").read_text())["cases"]


# -- beams -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_the_hypotheses_are_those_of_transformers(part: int) -> None:
    """Sequences in order, and scores to 1e-4."""
    for case in CASES[part::8]:
        arrays = {name: mx.array(w) for name, w in weights(case["model"], case["sharp"]).items()}
        made = session(models.build(CONFIG | {"model_type": "llama"}, arrays))
        made.tokenizer.eos = frozenset(case["eos"])
        made.tokenizer.piece = lambda token: bytes([token])  # type: ignore[method-assign]
        transforms = (
            *([RepetitionPenalty(case["repetition_penalty"], 1000)] if "repetition_penalty" in case else []),
            *([Temperature(case["temperature"])] if "temperature" in case else []),
            *([TopK(case["top_k"])] if "top_k" in case else []),
        )
        early = {False: "false", True: "true", "never": "never"}[case["early"]]
        beam = HuggingFaceBeam(case["beams"], case["penalty"], early)
        found = search(made, beam, case["max_tokens"], SamplingConfig(transforms), prompt=case["prompt"])
        want = [one for one in case["found"] if one["score"] > -1e6]  # a beam without a beginning of its own is none
        assert found.scores == pytest.approx([one["score"] for one in want], abs=1e-4), case
        assert found.ids == [one["ids"] for one in want], case
        assert found.most <= 3 * case["beams"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "weigh"), [(Beam, lambda n: n), (GNMT, lambda n: (5 + n) / 6)])
def test_as_many_beams_as_there_are_texts_find_them_all(seed: int, kind: type[Beam], weigh: Any) -> None:
    table = few(seed)
    every = {ids: p / weigh(len(ids)) ** 0.7 for ids, p in texts(table, 4).items()}
    found = search(table, kind(256, 0.7, "never"), 4)
    assert found.scores == pytest.approx(sorted(every.values(), reverse=True)[:256], abs=1e-4)
    assert len(set(map(tuple, found.ids))) == 256  # of equals any may be the last, and their order is free
    assert found.scores == pytest.approx([every[tuple(ids)] for ids in found.ids], abs=1e-4)


def by_sorting(table: np.ndarray, beams: int, groups: int, diversity: float, length: int) -> list[tuple[float, Any]]:
    """Algorithm 1 of Vijayakumar et al. by sorting all children, for texts that cannot end before `length`."""
    logp = log_softmax(table)
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
@pytest.mark.parametrize(("beams", "groups"), [(1, 1), (3, 1), (6, 3)])
def test_beams_are_those_of_the_algorithm(seed: int, beams: int, groups: int) -> None:
    """One is greed."""
    table = few(seed)
    table[:, EOS] = -np.inf
    diversity = 0.3 + 0.2 * seed
    want = by_sorting(table, beams, groups, diversity, 4)
    plain = Beam(beams, 0.0, "never")
    found = search(table, DiverseBeam(beams, 0.0, apart=groups, diversity=diversity) if groups > 1 else plain, 4)
    assert found.scores == pytest.approx([score for score, _ in want], abs=1e-4)
    assert sorted(map(tuple, found.ids)) == sorted(ids for _, ids in want)


def transformed_texts(
    table: np.ndarray, length: int, recipe: dict[str, float], letters: range = range(97, 101)
) -> dict[tuple[int, ...], float]:
    """The log-probability of every text of at most `length` tokens as sampling draws it: in float64, from the raw
    logits by a repetition penalty over prompt and text, then a temperature, then the `top_k` likeliest."""
    found, open_ = {}, [((), 0.0)]
    for n in range(1, length + 1):
        further = []
        for body, total in open_:
            ids = (*PROMPT, *body)
            row = table.astype(np.float32).astype(np.float64)[ids[-1]]
            seen = sorted({*ids})
            row[seen] = np.where(row[seen] > 0, row[seen] / recipe["penalty"], row[seen] * recipe["penalty"])
            row /= recipe["temperature"]
            if recipe["top_k"]:
                row[row < np.sort(row)[-int(recipe["top_k"])]] = -np.inf
            logp = log_softmax(row)
            for token in (*letters, EOS):
                if logp[token] > -np.inf:
                    text = ((*body, token), total + float(logp[token]))
                    if token == EOS or n == length:
                        found[text[0]] = text[1]
                    else:
                        further.append(text)
        open_ = further
    return found


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(
    ("temperature", "penalty", "top_k"), [(0.5, 1.0, 0), (1.0, 1.6, 0), (1.7, 1.3, 0), (0.7, 1.2, 3)]
)
def test_beams_and_the_mode_are_of_the_distribution_that_sampling_draws_by(
    seed: int, temperature: float, penalty: float, top_k: int
) -> None:
    """100 cases: with room for all texts both find the likeliest of all; scores are sums of `logprob_after`."""
    table = few(seed)
    transforms = [RepetitionPenalty(penalty, 1000), Temperature(temperature), *([TopK(top_k)] if top_k else [])]
    every = transformed_texts(table, 3, {"temperature": temperature, "penalty": penalty, "top_k": top_k})
    assert sum(map(math.exp, every.values())) == pytest.approx(1)
    recipe = SamplingConfig(tuple(transforms))
    beams, mode = (search(table, how, 3, recipe) for how in (Beam(200, 0.0, "never"), ExactMode(500)))
    want = sorted(every, key=lambda ids: -every[ids])
    assert len(beams.ids) == len(every) and beams.scores == pytest.approx([every[ids] for ids in want], abs=2e-5)
    assert every[tuple(mode.ids[0])] == pytest.approx(every[want[0]], abs=2e-5) and mode.figures[0]["proven"]
    for found in (beams, mode):
        for branch in found.order:
            after = [step.logprob_after for step in found.steps[branch]]
            assert found.figures[branch]["score"] == pytest.approx(math.fsum(after), abs=2e-5)
            assert found.figures[branch]["score"] == pytest.approx(every[tuple(found.tokens[branch])], abs=2e-5)
    named = search(table, HuggingFaceBeam(200, 0.0, "never"), 3, recipe)
    assert all(figures["normalized"] is False for figures in named.figures.values())


@pytest.mark.slow(3)
def test_of_tiny_bigram_beams_and_the_mode_name_the_likeliest_text_of_all(tmp_path: Path) -> None:
    """100 random temperatures and penalties, against all of its texts in float64."""
    tiny_models.bigram(tmp_path)
    made = Session(checkpoint.load(str(tmp_path)))
    logits = np.maximum(np.log(np.where(TABLE > 0, TABLE, 1e-30)), tiny_models.NEVER)
    random = np.random.default_rng(5)
    for _ in range(100):
        temperature, penalty = random.uniform(0.3, 2.5), random.uniform(0.7, 2.5)
        every = {(): 0.0}
        for length in range(MOST):
            for body in [ids for ids in every if len(ids) == length and ids[-1:] != (END,)]:
                row, total = logits[(END, *body)[-1]].copy(), every.pop(body)
                seen = list({END, *body})
                row[seen] = np.where(row[seen] > 0, row[seen] / penalty, row[seen] * penalty)
                logp = log_softmax(row / temperature)
                every |= {(*body, token): total + float(logp[token]) for token in range(len(logp))}
        best = max(every, key=lambda ids: every[ids])
        recipe = SamplingConfig((RepetitionPenalty(penalty, 1000), Temperature(temperature)))
        for strategy in (Beam(256, 0.0, "never"), ExactMode(2000)):
            found = search(made, strategy, MOST, recipe, prompt=[END])
            assert tuple(found.ids[0]) == best
            after = math.fsum(step.logprob_after or 0.0 for step in found.steps[found.order[0]])
            assert found.scores[0] == pytest.approx(every[best], abs=2e-5) == pytest.approx(after, abs=2e-5)


# -- without replacement -----------------------------------------------------------------------------------------------

RUNS = 1500
TREE = rows({PROMPT[-1]: {97: 0.5, 98: 0.3, EOS: 0.2}, 97: {98: 0.6, EOS: 0.4}, 98: {99: 0.25, EOS: 0.75},
             99: {EOS: 1.0}})  # fmt: skip
SIX = texts(TREE, 4, 3)  # of unequal length and probability


@pytest.mark.slow
def test_samples_have_the_law_of_drawing_without_replacement_and_estimates_know_their_error() -> None:
    """Ordered pairs of the six texts, against Plackett and Luce; and the mean length of a text from two of six, 1500
    times: within 4.5 standard errors, which are those that are estimated, to a quarter."""
    names, p, length = list(SIX), np.exp([*SIX.values()]), sum(math.exp(p) * len(ids) for ids, p in SIX.items())
    assert p.sum() == pytest.approx(1) and len(names) == 6
    made, drawn, means, errors = session(TREE), Counter[Any](), [], []
    for seed in range(RUNS):
        found = search(made, StochasticBeam(2), 4, seed=seed)
        drawn[tuple(names.index(tuple(ids)) for ids in found.ids)] += 1
        said = [found.figures[branch]["inclusion"] for branch in found.order]
        mean, error = expected([len(ids) for ids in found.ids], [SIX[tuple(ids)] for ids in found.ids], said)
        means.append(mean)
        errors.append(error**2)
    assert misfit(drawn, plackett_luce(p, 2)) < 1
    assert np.mean(means) == pytest.approx(length, abs=4.5 * np.std(means) / math.sqrt(RUNS))
    assert np.mean(errors) == pytest.approx(np.var(means), rel=0.25)


@pytest.mark.slow
def test_estimates_stay_unbiased_where_texts_are_cut_and_some_are_dropped() -> None:
    """Of three, cut at three tokens, those that begin with a are dropped at their second, half of the time an event
    later: the mean of a function over the others, within 4.5 standard errors. With the places filled again it is 6 off.
    """
    table = few(2, 3, 1.0)
    every = texts(table, 3, 3)
    worth = {ids: 1.0 + (ids[-1] == EOS) + len(ids) for ids in every}
    want = sum(math.exp(p) * worth[ids] for ids, p in every.items() if ids[0] != 97)
    made, means = session(table), []

    def run(seed: int) -> Iterator[Event]:
        control, doomed, begun = RunControl(), set[int](), dict[int, list[int]]()
        for event in made.generate(PROMPT, control, strategy=StochasticBeam(3), max_tokens=3, seed=seed):
            match event:
                case Forked(parent, child):
                    begun[child] = list(begun.get(parent, ()))
                case Emitted(branch, step):
                    begun.setdefault(branch, []).append(step.token)
            doomed |= {branch for branch, ids in begun.items() if len(ids) > 1 and ids[0] == 97}
            if seed % 2 or isinstance(event, Rated):
                control.given_up |= doomed
            yield event

    for seed in range(900):
        found = Found(run(20_000 + seed))
        left = [branch for branch in found.order if found.steps[branch][0].token != 97]
        ids = [tuple(found.tokens[branch]) for branch in left]
        said = [found.figures[branch]["inclusion"] for branch in left]
        means.append(expected([worth[i] for i in ids], [every[i] for i in ids], said)[0])
    assert np.mean(means) == pytest.approx(want, abs=4.5 * np.std(means) / math.sqrt(len(means)))


def test_texts_that_a_stop_has_cut_are_included_by_the_same_threshold() -> None:
    """Whether they have ended or not: what was drawn is a sample of texts as long as they are by then."""
    table, control = few(2, 3, 1.0), RunControl()
    every = texts(table, 2, 3) | texts(table, 3, 3)

    def stopped() -> Iterator[Event]:
        for event in session(table).generate(PROMPT, control, strategy=StochasticBeam(4), max_tokens=9, seed=5):
            if isinstance(event, Emitted) and event.step.position == len(PROMPT) + 2:
                control.cancel()
            yield event

    found = Found(stopped())
    assert set(found.reasons.values()) == {"cancelled", "eot"} and len(found.ids) == 4
    told = [found.figures[branch] for branch in found.order]
    said = [(every[tuple(ids)], each["inclusion"]) for ids, each in zip(found.ids, told, strict=True)]
    thresholds = [logp - math.log(-math.log1p(-q)) for logp, q in said]
    assert thresholds == pytest.approx([thresholds[0]] * 4, abs=1e-4)
    assert all(each["perturbed"] > thresholds[0] for each in told)


def test_gumbel_sums_under_their_largest() -> None:
    """Appendix B.3 of arXiv:1903.06059 against the formula itself, in float64 where that keeps its digits."""
    sums = np.array([0.5, -1.0, 2.0, -3.0, 1.9])
    for largest in (-2.0, 0.0, 3.0):
        want = -np.log(np.exp(-largest) - np.exp(-sums.max()) + np.exp(-sums))
        np.testing.assert_allclose(below(largest, sums), want, rtol=1e-9)
    assert below(1.0, np.array([5.0, -np.inf])).tolist() == [pytest.approx(1.0), -np.inf]
    for logprob, threshold in ((-1.0, -2.0), (-5.0, 1.0), (-0.1, -0.1)):
        assert inclusion(logprob, threshold) == pytest.approx(1 - math.exp(-math.exp(logprob - threshold)))
    assert inclusion(-1.0, -math.inf) == 1.0 and inclusion(-800.0, 0.0) == 0.0
    assert inclusion(-20.0, 0.0) == pytest.approx(math.exp(-20), rel=1e-6)


# -- the mode ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_mode_is_the_likeliest_of_all_texts_or_there_is_a_bound(seed: int) -> None:
    table = few(seed)
    table[:, EOS] -= 2.0
    every = texts(table, 5)
    best = max(every.values())
    found = search(table, ExactMode(5000), 5)
    figures = found.figures[0]
    assert figures["proven"] and figures["score"] == pytest.approx(best, abs=1e-5)
    assert every[tuple(found.ids[0])] == pytest.approx(best, abs=1e-5) and figures["passes"] < len(every) / 3
    assert sum(step.logprob or 0.0 for step in found.steps[0]) == pytest.approx(best, abs=1e-4)
    table[:, EOS] -= 1.0
    best = max(texts(table, 5).values())
    for budget in (1, 2, 5):
        figures = search(table, ExactMode(budget), 5).figures[0]
        assert figures["passes"] <= budget and (figures["proven"] or figures["passes"] == budget)
        assert not (figures["proven"] and seed == 3)
        assert figures["score"] - 1e-5 <= best <= figures["bound"] + 1e-5


def test_wide_beams_come_to_the_empty_answer_and_it_is_shown_to_be_the_mode() -> None:
    """The curse of beam search: the text that two beams find is less likely than none at all. Cooled, another is."""
    table = few(4)
    table[:, EOS] = table[:, 97:101].max(axis=1) - 1.0
    mode = search(table, ExactMode(), 6)
    assert mode.ids == [[EOS]] and mode.figures[0]["proven"]
    narrow, wide = (search(table, Beam(beams, 0.0, "never"), 6) for beams in (2, 16))
    assert len(narrow.ids[0]) == 6 and narrow.scores[0] < mode.scores[0] - 2
    assert wide.ids[0] == [EOS] and wide.scores[0] == pytest.approx(mode.scores[0], abs=1e-5)
    for temperature in (2.0, 0.4):  # of what the transforms leave
        found = search(table, ExactMode(), 6, SamplingConfig((Temperature(temperature),)))
        every = texts(table / temperature, 6)
        assert every[tuple(found.ids[0])] == pytest.approx(max(every.values()), abs=1e-5)
