"""Ways of drawing: whole texts have the law that each promises, by counting every text."""

import base64
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.decode.drafts.combine import Contrast, Guidance, Layers
from likely.engine.decode.drafts.draft import Draft
from likely.engine.decode.drafts.speculative import Speculative, reject
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.loop.sampler import Sampler
from likely.engine.decode.sampled.entropy_branching import EntropyBranching
from likely.engine.decode.sampled.infill import Holes
from likely.engine.decode.sampled.resampling import constrained, effective_size, log_weight, resampled, shares
from likely.engine.decode.searches.power import Power, effective
from likely.engine.decode.strategy_table import parse
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStrings
from likely.engine.sampling.transforms import Constraint, RepetitionPenalty, Temperature, TopP
from likely.metal import mx
from tests.fakes import EOS, VOCAB, ByteTokenizer, MarkovModel, random_table
from tests.support.decoding import (
    PROMPT,
    at,
    few,
    log_softmax,
    misfit,
    plackett_luce,
    rows,
    run,
    search,
    session,
    texts,
    transformer,
)
from tests.support.everyday import everyday
from tests.support.merging import merging

# -- plain draws and what narrows them ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_draws_have_the_law_of_the_model_and_of_what_a_constraint_allows() -> None:
    p = dict(enumerate([0.3, 0.25, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02]))
    plain, digits = session(rows(dict.fromkeys(range(VOCAB), p))), session(random_table(9, 1.0))
    drawn = Counter(run(plain, seed=i, max_tokens=1).tokens[0][0] for i in range(2000))
    assert misfit(drawn, p) < 1
    recipe = SamplingConfig((Constraint("regex", "[0-9]", len(PROMPT)),))
    drawn = Counter(run(digits, recipe, seed=i, max_tokens=1).tokens[0][0] for i in range(300))
    row = log_softmax(random_table(9, 1.0)[PROMPT[-1], 48:58])
    assert misfit(drawn, dict(enumerate(np.exp(row), 48))) < 1


@pytest.mark.slow
def test_two_ways_at_high_entropy_are_drawn_without_replacement() -> None:
    """Three ways at first (1.49 bits), one way behind them."""
    table = rows({PROMPT[-1]: {97: 0.5, 98: 0.3, 99: 0.2}, 97: {100: 1.0}, 98: {100: 1.0}, 99: {100: 1.0},
                  100: {EOS: 1.0}})  # fmt: skip
    drawn = Counter[Any]()
    for seed in range(400):
        found = run(table, strategy=EntropyBranching(2, bits=1.2), seed=seed, max_tokens=8).tokens
        drawn[found[0][0] - 97, found[1][0] - 97] += 1
    assert misfit(drawn, plackett_luce([0.5, 0.3, 0.2], 2)) < 1


# -- speculation -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        SamplingConfig(),
        SamplingConfig((RepetitionPenalty(1.5), Temperature(1.3))),
        SamplingConfig((TopP(0.8), Temperature(0.7))),
    ],
)
def test_with_a_draft_whole_texts_have_the_law_of_sampling(recipe: SamplingConfig) -> None:
    """All 4 ** 3 texts of three tokens of a vocabulary of four: the product over positions of the probabilities that
    the transforms leave, of which a forced text says each."""
    table, other = np.full((2, VOCAB, VOCAB), -np.inf)
    random = np.random.default_rng(0)
    table[:, :4], other[:, :4] = random.normal(size=(2, VOCAB, 4)) * 1.2
    law = {}
    for text in product(range(4), repeat=3):
        control = RunControl(recipe)
        control.force(list(text))
        steps = run(table, control=control, max_tokens=3).steps[0]
        law[text] = math.exp(sum(s.logprob_after for s in steps if s.logprob_after is not None))
    assert sum(law.values()) == pytest.approx(1, abs=1e-5)
    drawn = Counter[Any]()
    for seed in range(1000):
        place = at(MarkovModel(table), PROMPT)
        sampler = Sampler.start(recipe, place.ids, seed=seed, vocabulary=ByteTokenizer())
        strategy = Speculative(Draft(MarkovModel(other)), 2)  # type: ignore[arg-type]
        events = strategy.steps(place, sampler, RunControl(recipe), limit=3)
        drawn[tuple(event.step.token for event in events if isinstance(event, Emitted))] += 1
    assert misfit(drawn, law) < 1


@pytest.mark.slow
def test_rejection_has_the_target_law_whatever_the_draft_says() -> None:
    """5,000 guesses from q and what becomes of them, for q near, far, and without some of p's tokens; as many are taken
    as can be."""
    random = np.random.default_rng(1)
    logits = random.normal(size=8).astype(np.float32)
    p = np.exp(log_softmax(logits))
    hole = logits.copy()
    hole[np.argsort(-logits)[:3]] = -np.inf
    for q_logits in (logits + 0.3, -logits, hole, random.normal(size=8).astype(np.float32)):
        q = np.exp(log_softmax(q_logits))
        guesses = random.choice(8, size=5_000, p=q / q.sum())
        sampler = Sampler.start(SamplingConfig(), [[]], seed=9, xp=np)
        drawn = [int(reject(logits, int(g), q_logits, sampler, i).token) for i, g in enumerate(guesses)]
        assert misfit(Counter(drawn), dict(enumerate(p))) < 1
        assert np.mean(np.array(drawn) == guesses) >= np.minimum(p, q).sum() - 4 * math.sqrt(0.25 / 5_000)


# -- powers of the law -------------------------------------------------------------------------------------------------

PUBLISHED = rows({PROMPT[-1]: {97: 0.6, 98: 0.4}, 97: {99: 0.5, 100: 0.5}, 98: {99: 0.95, 100: 0.05}})
UNEVEN = rows({PROMPT[-1]: {97: 0.55, EOS: 0.45}, 97: {98: 0.7, EOS: 0.3}, 98: {97: 0.5, 99: 0.3, EOS: 0.2},
               99: {99: 0.5, EOS: 0.5}})  # fmt: skip
Texts = dict[tuple[int, ...], float]


def power_law(table: np.ndarray, length: int, alpha: float, tokens: int = 4) -> Texts:
    every = {ids: alpha * p for ids, p in texts(table, length, tokens).items()}
    total = np.logaddexp.reduce([*every.values()])
    return {ids: math.exp(p - total) for ids, p in every.items()}


def sharp_texts(table: np.ndarray, begin: tuple[int, ...], most: int, alpha: float) -> Texts:
    """The chance of every text that goes on from a beginning by tokens that are sharpened each by itself."""
    if begin[-1:] == (EOS,) or len(begin) == most:
        return {begin: 1.0}
    chances = np.exp(log_softmax(alpha * table[(*PROMPT, *begin)[-1]]))
    found: Texts = {}
    for token in np.flatnonzero(chances):
        after = sharp_texts(table, (*begin, int(token)), most, alpha)
        found |= {ids: float(chances[token]) * p for ids, p in after.items()}
    return found


def proposed(state: Texts, table: np.ndarray, most: int, alpha: float, tokens: int = 4) -> Texts:
    """The law of the text after one more proposal: Metropolis and Hastings as in a textbook, each cut by itself."""
    goal, after = power_law(table, most, alpha, tokens), dict.fromkeys(state, 0.0)
    for x, mass in state.items():
        for cut in range(len(x)):
            ways = sharp_texts(table, x[:cut], most, alpha)
            for y, there in ways.items():
                taken = min(1.0, goal[y] / len(y) * ways[x] / (goal[x] / len(x) * there))
                for text, share in ((y, taken), (x, 1 - taken)):
                    after[text] = after.get(text, 0.0) + mass / len(x) * there * share
    return after


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "length", "strategy"),
    [
        (PUBLISHED, 2, Power(2.0, 4)), (PUBLISHED, 2, Power(2.0, 3, 1)), (UNEVEN, 4, Power(1.5, 5)),
        (UNEVEN, 4, Power(1.5, 3, 2)),
    ],
)  # fmt: skip
def test_texts_have_the_law_of_a_chain_whose_rest_is_the_power(table: np.ndarray, length: int, strategy: Power) -> None:
    """Few proposals are enough: their law is known exactly, not only where it tends to."""
    goal = power_law(table, length, strategy.alpha)
    assert proposed(goal, table, length, strategy.alpha) == pytest.approx(goal, abs=1e-12)
    want: Texts = {(): 1.0}
    for most in range(min(strategy.block, length), length + 1, strategy.block):
        longer: Texts = {}
        for begin, mass in want.items():
            for ids, p in sharp_texts(table, begin, most, strategy.alpha).items():
                longer[ids] = longer.get(ids, 0.0) + mass * p
        want = longer
        for _ in range(strategy.proposals):
            want = proposed(want, table, most, strategy.alpha)
    made = session(table)
    drawn = Counter(tuple(search(made, strategy, length, seed=seed).ids[0]) for seed in range(400))
    assert misfit(drawn, want) < 1


@pytest.mark.slow
def test_the_power_is_of_what_the_transforms_leave() -> None:
    """A temperature of 1 / 2 under a power of 1 is a power of 2 of each token, in texts of one token."""
    recipe = SamplingConfig((Temperature(0.5),))
    drawn = Counter(search(few(5), Power(1.0, 1), 1, recipe, seed=seed).ids[0][0] for seed in range(400))
    assert misfit(drawn, dict(enumerate(np.exp(log_softmax(2 * few(5)[PROMPT[-1]]))))) < 1


def test_how_many_draws_a_chain_is_worth() -> None:
    """Geyer's initial positive sequence, written out; and an autoregression, whose worth is known."""
    for values in ([0.0, 1.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]):
        x = np.array(values) - np.mean(values)
        n, total = len(x), -1.0
        rho = [sum(x[i] * x[i + k] for i in range(n - k)) / (x @ x) for k in range(n)]
        for k in range(0, n - 1, 2):
            if rho[k] + rho[k + 1] <= 0:
                break
            total += 2 * (rho[k] + rho[k + 1])
        assert effective(values) == pytest.approx(n / max(total, 1.0))
    chain = [0.0]
    for noise in np.random.default_rng(0).normal(size=20_000):
        chain.append(0.8 * chain[-1] + noise)
    assert effective(chain) == pytest.approx(len(chain) * (1 - 0.8) / (1 + 0.8), rel=0.2)
    assert effective([3.0] * 50) == 1.0


# -- resampling --------------------------------------------------------------------------------------------------------

ALLOWED = {(): (97, 99, 258, 259), (97,): (98,), (99,): (100,)}  # by `ab|cd`; elsewhere an end alone


@pytest.mark.parametrize("seed", range(3))
def test_the_law_of_one_of_k_by_weight_comes_to_that_of_what_matches(seed: int) -> None:
    made, every = merging(seed)
    table = log_softmax(made.model.table)
    p = {ids: logp for ids, logp in every.items() if len(ids) - (ids[0] < 256) == 2}
    weight = {
        ids: sum(
            float(np.logaddexp.reduce(table[(PROMPT[-1], *ids)[n], list(ALLOWED.get(ids[:n], (EOS,)))]))
            for n in range(len(ids))
        )
        for ids in p
    }
    recipe = SamplingConfig((Constraint("regex", "ab|cd", len(PROMPT)),))
    for steps in run(made, recipe, n=16, seed=5, max_tokens=4).steps.values():
        ids = tuple(step.token for step in steps)
        assert constrained(steps) and log_weight(steps) == pytest.approx(weight[ids], abs=1e-5)
        assert sum(step.logprob_after or 0.0 for step in steps) == pytest.approx(p[ids] - weight[ids], abs=1e-5)
    meant = np.exp(log_softmax([*p.values()]))
    q = np.exp(np.array([p[ids] - weight[ids] for ids in p]))
    assert q.sum() == pytest.approx(1)
    far = []
    for k in (1, 2, 4, 8, 16):
        law = np.zeros(4)
        for drawn in combinations_with_replacement(range(4), k):
            ways = math.factorial(k) / math.prod(math.factorial(count) for count in Counter(drawn).values())
            share = shares([weight[[*p][i]] for i in drawn])
            np.add.at(law, list(drawn), ways * math.prod(q[i] for i in drawn) * share)
        assert law.sum() == pytest.approx(1, abs=1e-5)
        far.append(0.5 * np.abs(law - meant).sum())
    assert far[0] == pytest.approx(0.5 * np.abs(q - meant).sum()) and far[0] > 0.02
    assert all(later < before for before, later in pairwise(far)) and far[-1] < far[0] / 4


def test_one_is_drawn_in_proportion_to_its_weight() -> None:
    weights = [-800.0, -801.0, -803.0]  # nats: their exponentials are nothing
    p = np.exp(log_softmax(weights))
    assert shares(weights) == pytest.approx(p) and effective_size(weights) == pytest.approx(1 / (p**2).sum())
    assert misfit(Counter(resampled(weights, seed) for seed in range(3000)), dict(enumerate(p))) < 1
    assert effective_size([-5.0] * 7) == pytest.approx(7) and resampled([-1e9], 3) == 0


# -- two distributions -------------------------------------------------------------------------------------------------

OVER = ["sample", "vote 3", "beam 3", "stochastic 3", "exact 6", "power 2 4 3"]


def weaker(model: Any, **fields: Any) -> Contrast:
    return Contrast("weak", loaded=SimpleNamespace(model=model), **fields)


def contrast(a: np.ndarray, b: np.ndarray, strength: float = 0.5, least: float = 0.1) -> np.ndarray:
    likely = a >= a.max(axis=-1, keepdims=True) + math.log(least)
    return np.asarray(np.where(likely, (1 + strength) * a - strength * b, -np.inf))


@pytest.mark.parametrize("text", OVER)
def test_a_contrast_is_the_model_whose_logits_are_the_formula(text: str) -> None:
    """Of two tables the combination is one more table, and every strategy finds in the two what it finds in that."""
    a, b = (log_softmax(random_table(seed, 1.0)) for seed in (0, 1))
    alone = run(contrast(a, b), strategy=parse(text), seed=3, max_tokens=5)
    both = run(a, strategy=weaker(MarkovModel(b)).over(parse(text)), seed=3, max_tokens=5)
    assert both.tokens == alone.tokens and any(both.tokens.values())
    for branch, steps in both.steps.items():
        want = [step.logprob for step in alone.steps[branch]]
        assert [step.logprob_combined for step in steps] == pytest.approx(want, abs=1e-5)
        ids = [*PROMPT, *(step.token for step in steps)]
        own = [a[before, token] for before, token in pairwise(ids[len(PROMPT) - 1 :])]
        assert [step.logprob for step in steps] == pytest.approx(own, abs=1e-5)
        assert all(step.logprob_combined is None for step in alone.steps[branch])


def test_guidance_is_a_formula_too() -> None:
    table = log_softmax(random_table(4, 1.0))
    (first,) = run(table, strategy=Guidance(2.5, "b", ids=(ord("b"),)), seed=1, max_tokens=1).steps[0]
    p, q = table[ord("k")], table[ord("b")]
    assert first.logprob_combined == pytest.approx(log_softmax(q + 2.5 * (p - q))[first.token], abs=1e-5)
    assert first.logprob == pytest.approx(p[first.token], abs=1e-5)
    assert first.entropy == pytest.approx(-(np.exp(p) * p).sum(), abs=1e-5)
    assert first.rank == 1 + (p > p[first.token]).sum()
    for scale in (1.0, 3.0):  # without another prompt, and a model that knows one token alone, the two are the same
        same = run(table, strategy=Guidance(scale), seed=1, max_tokens=6)
        assert same.tokens == run(table, seed=1, max_tokens=6).tokens


def test_a_saved_combination_keeps_both_numbers_and_older_files_open(tmp_path: Path) -> None:
    """A file from before `logprob_combined` has the combination's log-probability, entropy and rank as the model's."""
    table = log_softmax(random_table(0, 1.0))
    strategy = weaker(MarkovModel(random_table(1, 1.0)))
    steps = run(table, SamplingConfig((Temperature(0.8),)), strategy=strategy, seed=3, max_tokens=4).steps[0]
    lexicon = TokenStrings({i: bytes([i]) if i < 256 else b"" for i in range(VOCAB)}, frozenset({EOS}))
    trace = Trace("fake", "0", {}, 3, tuple(PROMPT), tuple(steps), "length", {}, lexicon)
    file.save([trace], tmp_path / "run.jsonl")
    (again,) = file.load(tmp_path / "run.jsonl")
    assert [(step.logprob, step.logprob_combined) for step in again.steps] == [
        (step.logprob, step.logprob_combined) for step in steps
    ]
    header, *lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    del header["sha256"]
    for line in lines:
        line["logprob"] = line.pop("logprob_combined")
        logits = np.frombuffer(base64.b64decode(line["snapshot"]["logits"]), "<f4")
        ids = np.frombuffer(base64.b64decode(line["snapshot"]["ids"]), "<i4")
        line["rank"] = 1 + int((logits > logits[ids == line["token"]]).sum())
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    (old,) = file.load(tmp_path / "old.jsonl")
    assert [step.logprob for step in old.steps] == [step.logprob_combined for step in steps]
    assert [step.logprob_combined for step in old.steps] == [None] * len(steps)


@pytest.mark.parametrize("text", everyday(OVER, 3))
@pytest.mark.parametrize("kind", ["contrast", "guidance", "dola"])
def test_caches_of_two_go_back_and_part_together(kind: str, text: str) -> None:
    """Whole models with caches: each token's numbers are those of the formula over both models read anew."""
    model, weak = transformer(0, 3, num_hidden_layers=4), transformer(1, 3, num_hidden_layers=1)
    away = (9, 8, 7, 6)
    strategy: Any = {
        "contrast": weaker(weak, strength=1.0, least=0.02), "guidance": Guidance(2.0, "away", ids=away),
        "dola": Layers(4, 0.02),
    }[kind]  # fmt: skip
    found = run(model, seed=2, max_tokens=5, strategy=strategy.over(parse(text)))
    assert found.steps and (text.startswith("exact") or sum(map(len, found.steps.values())) >= 5)

    def said(of: Any, ids: list[int]) -> np.ndarray:
        return log_softmax(of(mx.array([ids]))[0, -1])

    for branch in found.steps.values():
        ids = list(PROMPT)
        for step in branch:
            a = said(model, ids)
            if kind == "contrast":
                combined = contrast(a, said(weak, ids), 1.0, 0.02)
            elif kind == "guidance":
                q = said(model, [*away, *ids[len(PROMPT) :]])
                combined = q + 2.0 * (a - q)
            else:
                combined = dola(model, ids, a)
            assert step.logprob_combined == pytest.approx(log_softmax(combined)[step.token], abs=2e-3)
            assert step.logprob == pytest.approx(a[step.token], abs=2e-3)
            ids.append(step.token)


def dola(model: Any, ids: list[int], a: np.ndarray) -> np.ndarray:
    """The paper's formulas in float64, of the layers 0 and 2."""
    hidden = model.inspect(mx.array([ids])).hidden
    lower = [log_softmax(model.lens(hidden[layer][:, -1])[0]) for layer in (0, 2)]

    def apart(b: np.ndarray) -> float:
        p, q = np.exp(a), np.exp(b)
        m = (p + q) / 2
        return float((p * np.log(p / m) + q * np.log(q / m)).sum() / 2)

    return np.asarray(np.where(a >= a.max() + math.log(0.02), a - max(lower, key=apart), -np.inf))


# -- holes -------------------------------------------------------------------------------------------------------------

TOKENS, MASK = 3, 9


@dataclass
class Pairs:
    """Log p of a token after the two before it."""

    table: np.ndarray = field(
        default_factory=lambda: np.log(np.random.default_rng(4).dirichlet(np.full(TOKENS, 0.7), (TOKENS, TOKENS)))
    )

    def logits_after(self, ids: Sequence[int], /) -> np.ndarray:
        found: np.ndarray = self.table[ids[-2] if len(ids) > 1 else 0, ids[-1]]
        return found

    def score(self, ids: Sequence[int], /, *, start: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(logprob=float(self.logits_after(ids[:at])[ids[at]])) for at in range(start, len(ids))]

    def conditional(self, canvas: Sequence[int], sharp: float = 1.0) -> Texts:
        """The law of the text given what is given, by adding up; tokens of holes at temperature 1 / sharp."""
        free = [at for at, token in enumerate(canvas) if token == MASK]
        found = {}
        for tokens in product(range(TOKENS), repeat=len(free)):
            text, total = list(canvas), 0.0
            for at_, token in zip(free, tokens, strict=True):
                text[at_] = token
            for at_ in range(free[0], len(text)):
                row = self.logits_after(text[:at_])
                total += (log_softmax(row * sharp) if at_ in free else row)[text[at_]]
            found[tuple(text)] = float(np.exp(total))
        return {text: p / sum(found.values()) for text, p in found.items()}


@pytest.mark.parametrize(
    ("canvas", "sharp"), [((0, 1, MASK, MASK, 2, 0), 1.0), ((1, MASK, 2, MASK, 1), 1.0), ((0, MASK, MASK, 2), 2.0)]
)
def test_the_walk_has_the_exact_law_of_the_hole_given_both_sides(canvas: tuple[int, ...], sharp: float) -> None:
    recipe = SamplingConfig(() if sharp == 1 else (Temperature(1 / sharp),))
    law = Pairs().conditional(canvas, sharp)
    ends, begins = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    for seed in range(200):
        taken = [a for a in Holes(Pairs(), canvas, MASK, recipe, seed).mcmc(16) if a.accepted]
        begins[taken[0].text.ids] += 1
        ends[taken[-1].text.ids] += 1
    assert misfit(ends, law) < 1 < misfit(begins, law)  # which the first draw, that sees the left alone, has not


def test_the_best_of_n_is_the_likeliest_text_of_those_drawn() -> None:
    model, canvas = Pairs(), (0, 1, MASK, 2, MASK, 0)
    law = model.conditional(canvas)
    attempts = list(Holes(model, canvas, MASK, SamplingConfig(), 1).nbest(60))
    best = [a for a in attempts if a.accepted][-1].text
    assert law[best.ids] == max(law[a.text.ids] for a in attempts) == max(law.values())
    assert [a.number for a in attempts] == list(range(1, 61)) and attempts[0].accepted
    assert all(x in (MASK, y) for a in attempts for x, y in zip(canvas, a.text.ids, strict=True))
    for seed in range(6):  # taken is what is likelier than all before it
        totals = [(a.text.total, a.accepted) for a in Holes(model, canvas, MASK, SamplingConfig(), seed).nbest(8)]
        for i, (total, taken) in enumerate(totals):
            assert taken == (i == 0 or total > max(before for before, _ in totals[:i]))
