"""Live proofs: what is listed is so by a second way, p-values are uniform where a law holds, and faults are seen."""

import json
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli import likely
from likely.engine.base.statistics.goodness import above, chi_square
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.texts import texts_of
from likely.engine.decode.searches.beam import Beam
from likely.engine.measure.proofs import alignment, learned, searches
from likely.engine.measure.proofs.bigram import session
from likely.engine.measure.proofs.claim import Covering, Listed
from likely.engine.measure.proofs.table import FAULTS, Proof, proofs, proving
from tests.fakes import EOS, VOCAB
from tests.laws import by_definition
from tests.laws.test_drawing import proposed, sharp_texts
from tests.support.decoding import PROMPT, plackett_luce

DRAWN = (
    "sample", "top-p", "penalty", "branches", "stochastic-beams", "power", "speculative", "guessing",
    "token-by-token", "resampling", "distinct", "distinct-resampling", "orders", "bound", "martingale", "intervals",
)  # fmt: skip
LETTERS = "∎aenst"


def table() -> np.ndarray:
    """p(next | last) [6, 6] as the session says it."""
    made = session()
    logits = np.stack([made.logits_after([last]) for last in range(6)]).astype(np.float64)
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def by_letters(rows: np.ndarray, change: Any = lambda row, text: row) -> dict[str, float]:
    """The probability of every text by products of rows [6], each changed by what stands before."""
    found = {}
    for ids in product(range(6), repeat=3):
        text, p, seen = "", 1.0, [0]
        for token in ids:
            row = change(rows[seen[-1]], seen)
            p *= row[token] / row.sum()
            text, seen = text + LETTERS[token], [*seen, token]
            if token == 0:
                break
        if p > 0:
            found[text] = p
    return found


def logs(row: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(row)


def penalised(row: np.ndarray, seen: list[int]) -> np.ndarray:
    changed: np.ndarray = np.exp(by_definition.penalised(logs(row), seen, 20, repetition=2.0))
    return changed


def walked(rows: np.ndarray, proposals: int) -> dict[str, float]:
    """The law of power sampling by the tests' own chain, on the letters as tokens of the fakes' vocabulary."""
    ids = [EOS, *range(97, 102)]
    whole = np.full((VOCAB, VOCAB), -np.inf)
    whole[np.ix_([PROMPT[-1], *ids[1:]], ids)] = logs(rows)
    law = sharp_texts(whole, (), 3, 2.0)
    for _ in range(proposals):
        law = proposed(law, whole, 3, 2.0, tokens=5)
    return {"".join(LETTERS[ids.index(token)] for token in text): p for text, p in law.items()}


def resampled(q: dict[str, float], p: dict[str, float], count: int) -> dict[str, float]:
    """Of every choice of so many texts, each drawn again by its weight."""
    names = list(q)
    each, weights = np.array([q[n] for n in names]), np.array([p[n] / q[n] for n in names])
    places = np.indices((len(names),) * count).reshape(count, -1)
    chance, weight = each[places].prod(axis=0), weights[places]
    law = sum(
        np.bincount(at, chance * w / weight.sum(axis=0), len(names)) for at, w in zip(places, weight, strict=True)
    )
    return dict(zip(names, law, strict=True))


@pytest.mark.slow(2)
def test_what_is_listed_is_so_by_a_second_way() -> None:
    """From what the session says of each letter: 155 texts, laws by products, by the tests' own transforms, chain, and
    order of draws; the coverage by all numbers of right answers, from Wilson's formula."""
    rows = table()
    p = by_letters(rows)
    assert len(p) == 155 and sum(p.values()) == pytest.approx(1)
    assert p["te∎"] == pytest.approx(0.28 * 0.70 * 0.45) and max(p, key=p.__getitem__) == "te∎"
    squares = {text: q * q for text, q in p.items()}
    fits = {text: q for text, q in p.items() if text.endswith("n")}
    masked = by_letters(
        rows, lambda row, seen: row * (np.arange(6) == 3 if len(seen) == 3 else np.arange(6) > 0)
    )  # fmt: skip
    distinct = by_letters(rows, lambda row, seen: row * ~np.isin(np.arange(6), seen))
    names = list(p)
    two = dict.fromkeys(names, 0.0)
    for order, chance in plackett_luce([p[name] for name in names], 2).items():
        for place in order:
            two[names[place]] += chance / 2
    want = {
        "sample": p, "speculative": p, "guessing": p, "orders": p,
        "top-p": by_letters(rows, lambda row, _: row * (by_definition.top_p(logs(row), 0.72) >= 0)),
        "penalty": by_letters(rows, penalised),
        "branches": {LETTERS[a] + LETTERS[b]: rows[0, a] * rows[0, b] for a in range(1, 6) for b in range(1, 6)},
        "stochastic-beams": two,
        "power": walked(rows, 8),
        "low-temperature": {text: q / sum(squares.values()) for text, q in squares.items()},
        "token-by-token": masked,
        "resampling": resampled(masked, fits, 4),
        "distinct": distinct,
        "distinct-resampling": resampled(distinct, {text: q for text, q in p.items() if text in distinct}, 4),
    }  # fmt: skip
    claims = {name: proof.claim for name, proof in proofs().items()}
    listed = {name: claim for name, claim in claims.items() if isinstance(claim, Listed)}
    assert {*want} == {*listed} - {"intervals"}
    for name, law in want.items():
        said = dict(zip(listed[name].names, listed[name].p.tolist(), strict=True))
        assert {text: q for text, q in said.items() if q} == pytest.approx(law, rel=1e-5, abs=1e-12), name
    covering = claims["intervals"]
    assert isinstance(covering, Covering)
    n, share, z = 40, covering.truth, 1.959963985
    sides = [0.0, 0.0, 0.0]
    for right in range(n + 1):
        q = right / n
        middle, half = q + z * z / (2 * n), z * math.sqrt(q * (1 - q) / n + z * z / (4 * n * n))
        low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
        sides[0 if high < share else 2 if low > share else 1] += (
            math.comb(n, right) * share**right * (1 - share) ** (n - right)
        )
    assert covering.p.tolist() == pytest.approx(sides)


def tail(chi2: float, df: int) -> float:
    """P(X >= chi2) in closed form: a sum of Poisson terms, or with the error function."""
    y = chi2 / 2
    if df % 2 == 0:
        return math.fsum(math.exp(k * math.log(y) - math.lgamma(k + 1) - y) for k in range(df // 2))
    terms = (math.exp((k - 0.5) * math.log(y) - math.lgamma(k + 0.5) - y) for k in range(1, (df - 1) // 2 + 1))
    return math.erfc(math.sqrt(y)) + math.fsum(terms)


def test_chi_square_and_its_tail() -> None:
    for df, chi2 in product((1, 2, 5, 28, 63, 400), (1e-3, 0.5, 5.0, 60.0, 554.0, 1400.0)):
        assert above(chi2, df) == pytest.approx(tail(chi2, df), rel=1e-9, abs=1e-14)
    law = np.array([0.5, 0.3, 0.15, 0.03, 0.02, 0.0])
    counts = np.array([55, 25, 14, 4, 2, 0])
    wanted, seen = [50, 30, 15, 5], [55, 25, 14, 6]  # those that expect 3 and 2 are one
    fit = chi_square(counts, law)
    assert fit.chi2 == pytest.approx(sum((s - w) ** 2 / w for s, w in zip(seen, wanted, strict=True)))
    assert fit.df == 3 and fit.p == pytest.approx(tail(fit.chi2 or 0.0, 3))
    assert chi_square(counts[::-1], law[::-1]) == fit  # whatever stands first
    assert chi_square(counts // 2, law).df == 2  # 2.5 in the last cell, to which 7.5 are added
    assert chi_square(counts + np.eye(6, dtype=int)[5], law).p == 0.0  # it cannot be
    assert chi_square(counts // 12, law).p is None


def p_values(proof: Proof, seeds: int, draws: int) -> np.ndarray:
    found = []
    for seed in range(seeds):
        *_, evidence = proving(proof, draws, seed=1000 + seed)
        assert evidence.result.p is not None and evidence.draws == draws
        found.append(evidence.result.p)
    return np.sort(found)


def uniform(ps: np.ndarray) -> float:
    """p of Kolmogorov and Smirnov's test for a uniform law, by its asymptotic series (Stephens 1970)."""
    n = len(ps)
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - ps).max(), (ps - steps[:-1]).max())
    x = distance * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))
    return min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101)))


@pytest.mark.slow(4)
@pytest.mark.parametrize("name", DRAWN)
def test_p_is_uniform_where_the_law_holds(name: str) -> None:
    assert uniform(p_values(proofs()[name], 10, 120)) > 1e-3


@pytest.mark.soak
@pytest.mark.parametrize("name", DRAWN)
def test_p_is_uniform_over_many_seeds(name: str) -> None:
    assert uniform(p_values(proofs()[name], 200, 400)) > 1e-3


@pytest.mark.slow(2)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str) -> None:
    """Within 1,000 draws, by the command, which ends as one does whose law does not hold."""
    done = CliRunner().invoke(likely, ["prove", "--with-fault", fault, "--draws", "1000", "--json"])
    told = json.loads(done.stdout)
    assert told["law"] == FAULTS[fault].law and not told["holds"] and told["p"] < 1e-6 and told["draws"] == 1000
    assert done.exit_code == 1 and f"{told['law']} does not hold" in str(done.exception)


def test_bounds_hold_and_the_mode_is_proven() -> None:
    best = math.log(max(by_letters(table()).values()))
    *_, mode = proving(proofs()["mode"])
    *_, precision = proving(proofs()["precision"])
    assert mode.result.holds and precision.result.holds and mode.result.p is None and mode.draws == 0
    passes = [bound for bound in mode.bounds if bound.name.startswith("pass")]
    assert all(bound.value == pytest.approx(best) and bound.low <= best <= bound.high for bound in passes)
    assert passes[-1].low == pytest.approx(passes[-1].high, abs=1e-5) and passes[0].high > best + 1
    assert {bound.name: round(math.exp(bound.value), 4) for bound in mode.bounds[-4:]} == {
        "proven": 0.0882, "read again: te∎": 0.0882, "beam 2: te∎": 0.0882, "greedy: se∎": 0.0459,
    }  # fmt: skip
    assert [bound.name for bound in precision.bounds] == list(LETTERS)
    assert all(0 < abs(bound.value) < bound.high for bound in precision.bounds)


def test_the_command_tells_a_law_a_line_and_goes_on_where_it_was() -> None:
    """Exit code 0 with the law that has to fail among them; draws by themselves, or in two parts, are the same."""
    done = CliRunner().invoke(likely, ["prove", "low-temperature", "--draws", "400", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["holds"] is False
    assert {*json.loads(done.stdout)} == {"law", "draws", "chi2", "df", "p", "holds"}
    (line,) = CliRunner().invoke(likely, ["prove", "intervals", "--draws", "500"]).stdout.splitlines()
    assert line.startswith("✓ intervals") and "500 draws" in line and "on 2" in line
    *_, part = proving(proofs()["martingale"], 70, seed=3)
    *_, parts = proving(proofs()["martingale"], 80, seed=3, evidence=part)
    *_, whole = proving(proofs()["martingale"], 150, seed=3)
    assert parts.draws == 150 and parts.mean == pytest.approx(whole.mean) and parts.result.p == whole.result.p
    for words, said in (
        (["nothing"], "there is no law nothing: sample, top-p"),
        (["--with-fault", "none"], "there is no fault none: top-p"),
        (["mode", "--with-fault", "shared-key"], "is one of branches, not of mode"),
        (["--screen"], "--screen goes with a terminal"),
    ):  # fmt: skip
        refused = CliRunner().invoke(likely, ["prove", *words])
        assert refused.exit_code and said in f"{refused.exception}{refused.output}"


def test_what_is_trained_goes_down_the_slope_and_its_loss_is_entropy_and_kl_over_all_texts() -> None:
    rows, laws = table(), learned.trained(300, 0.5)
    p, uniform, after = (by_letters(each) for each in (rows, laws[0], laws[-1]))
    letters = sum(share * len(text) for text, share in p.items())
    found = learned.divergences(laws[[0, -1]])
    for q, kl in zip((uniform, after), found, strict=True):
        assert kl == pytest.approx(sum(p[text] * math.log(p[text] / q[text]) for text in p) / letters, abs=1e-6)
    assert learned.entropy() == pytest.approx(-sum(share * math.log(share) for share in p.values()) / letters, abs=1e-6)
    assert found[1] < found[0] / 5 and found[0] == pytest.approx(math.log(6) - learned.entropy())
    texts = ["".join(LETTERS[at] for at in text).split("∎")[0] for text in learned.drawn(learned.BATCH, 3).tolist()]
    pairs = [pair for text in texts for pair in zip("∎" + text, (text + "∎")[:3], strict=False)]

    def loss(logits: np.ndarray) -> float:
        each = [logits[LETTERS.index(a)] - np.logaddexp.reduce(logits[LETTERS.index(a)]) for a, _ in pairs]
        return -float(np.mean([row[LETTERS.index(b)] for row, (_, b) in zip(each, pairs, strict=True)]))

    step = np.array(
        [[loss(-1e-4 * np.outer(a, b)) - loss(1e-4 * np.outer(a, b)) for b in np.eye(6)] for a in np.eye(6)]
    )
    moved = np.exp(0.5 * step / 2e-4)
    assert np.allclose(learned.trained(1, 0.5)[1], moved / moved.sum(axis=1, keepdims=True), atol=1e-6)


def test_a_beam_of_the_list_finds_what_the_beams_of_a_chat_find_and_votes_are_masses() -> None:
    made, p = session(), by_letters(table())
    for width in range(1, 9):
        run = made.generate([0], RunControl(), strategy=Beam(width, 0.0), max_tokens=3)
        best, found = max(texts_of(run), key=lambda text: text.logprob), searches.beam(width)
        assert found.text == tuple(best.ids) and math.log(searches.chance(found.text)) == pytest.approx(best.logprob)
        assert all(len(kept) <= width for kept in found.kept) and len(found.kept[0]) == min(width, 5)
    assert searches.rank(searches.beam(1).text) > searches.rank(searches.beam(2).text) == 1
    masses = {str(n): sum(share for text, share in p.items() if len(text.strip("∎")) == n) for n in (3, 2, 1)}
    assert searches.votes(lambda text: str(len(text))) == pytest.approx(masses, abs=1e-6)


def test_a_tilted_law_buys_most_reward_and_the_best_of_n_is_what_n_draws_give() -> None:
    p, rewards, beta = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.0, 2.0, 2.0, 3.0]), 0.7
    found, random = alignment.tilted(p, rewards, beta), np.random.default_rng(3)
    assert beta * math.log(p @ np.exp(rewards / beta)) == pytest.approx(
        found.reward - beta * found.kl
    )  # Donsker, Varadhan
    for other in random.dirichlet(np.ones(4), 200):
        assert other @ rewards - beta * (other @ np.log(other / p)) < found.reward - beta * found.kl
    for count in (1, 2, 3):
        q = np.zeros(4)
        for ids in product(range(4), repeat=count):
            best = [i for i in ids if rewards[i] == rewards[list(ids)].max()]
            for i in best:
                q[i] += np.prod(p[list(ids)]) / len(best)
        assert alignment.best_of(count, p, rewards).q == pytest.approx(q)
    assert alignment.best_of(1, p, rewards).kl == pytest.approx(0.0, abs=1e-12)
