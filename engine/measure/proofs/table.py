"""Table of the proofs: each law by name, what draws it, and the fault that is planted in its place.

`proving` draws on, from evidence that there is or from nothing: yields it again after every few draws.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.estimates import Z
from likely.engine.decode.searches.stochastic_beam import StochasticBeam
from likely.engine.measure.proofs import bounds, draws, enumeration, faults
from likely.engine.measure.proofs.bigram import session, smaller
from likely.engine.measure.proofs.bounds import Bounds
from likely.engine.measure.proofs.claim import Bracketed, Centred, Claim, Covering, Evidence, Listed
from likely.engine.measure.proofs.draws import Draw
from likely.engine.sampling.transforms import RepetitionPenalty, Temperature, TopP

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

DRAWS = 2000  # of each law, where nobody says how many
AT_ONCE = 50  # draws between two looks
SPREAD = 1 << 32  # seeds of a run's draws

TOP_P, PENALTY, ALPHA, PROPOSALS, KEPT = 0.72, 2.0, 2.0, 8, 4
BEAMS = 2  # whose law is listed
CONTINUED, ROUNDED = 4, 1e-2  # tokens of a text of any model, and nats that are lost of it to rounding


@dataclass(frozen=True)
class Proof:
    """A claim and what draws for it, or the numbers that are bounded."""

    claim: Claim
    draw: Draw | None = None
    bounds: Bounds | None = None


@dataclass(frozen=True)
class PlantedFault:
    """Draws of a law with one thing wrong, which its proof has to see."""

    name: str
    law: str
    about: str
    draw: Draw


def _listed(
    name: str,
    title: str,
    exact: str,
    p: np.ndarray,
    draw: Draw,
    why: str,
    *,
    page: str = "enumeration",
    names: tuple[str, ...] = enumeration.NAMES,
    fails: bool = False,
    meant: np.ndarray | None = None,
) -> Proof:
    return Proof(Listed(name, page, title, exact, why, names, p, meant=meant, fails=fails), draw)


def _bits(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q)."""
    with np.errstate(divide="ignore"):
        return float(arrays.kl(np.log(p), np.log(q), np)) / math.log(2)


def _apart(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation."""
    with np.errstate(divide="ignore"):
        return float(arrays.tv(np.log(p), np.log(q), np))


def _of_rule(rule: str, by_letters: tuple[str, str], again: tuple[str, str]) -> tuple[Proof, Proof]:
    """Masking letter by letter, and one of several such texts drawn again: names and titles of their laws."""
    e = enumeration
    letters, one_of, whole = e.masked(rule), e.resampled(rule, KEPT), e.conditional(rule)
    return (
        _listed(
            *by_letters, "q, masked by letters", letters, draws.sample(draws.by_rule(rule)),
            f"A mask looks one letter ahead, the conditional to the end: q is {_bits(letters, whole):.2f} bits (KL) "
            f"and {_apart(letters, whole):.2f} (TV) from p(x | rule).",
            page="constraint", meant=whole,
        ),
        _listed(
            *again, f"one of {KEPT}, by p/q", one_of, draws.resampled(rule, KEPT),
            f"One of {KEPT} by its weight p/q is {_apart(one_of, whole):.2f} (TV) from p(x | rule), where one alone is "
            f"{_apart(letters, whole):.2f}; the more there are, the nearer.",
            page="constraint", meant=whole,
        ),
    )  # fmt: skip


MODE = Bracketed(
    "mode", "mode", "the mode", "log p of the likeliest text",
    "An open prefix can only lose: every further letter has p ≤ 1, so its bits so far bound all its texts. That is the "
    "whole proof.",
    "nats",
)  # fmt: skip
MARTINGALE = Centred(
    "martingale", "martingale", "surprisal − entropy", "0 in the mean",
    "The mean of −log p(x_i) is the entropy by definition, so that the sum of the differences is a martingale.",
    None,
)  # fmt: skip


def of_model(made: "Session", text: str) -> dict[str, Proof]:
    """The proofs of a model by name. All, where it is the one of six letters; of any other the mode of what goes on
    from a text, and the martingale of what is drawn behind it.

    DataError for a text that it cannot spell; ParameterError for one without a token.
    """
    tokens = map(made.tokenizer.piece, range(made.tokenizer.vocab_size))
    if b"".join(tokens).decode(errors="replace") == enumeration.LETTERS:
        return proofs()
    ids = made.tokenizer.encode(text, bos=True)
    if not ids:
        raise ParameterError("the text has no token: give one that the model can go on from")
    every = (
        Proof(MODE, bounds=bounds.mode(ids, CONTINUED, lost=ROUNDED)),
        Proof(MARTINGALE, draws.surprises(ids, CONTINUED)),
    )
    return {proof.claim.name: proof for proof in every}


@cache
def proofs() -> dict[str, Proof]:
    """Every law by name, in the order of the pages; what is listed is computed once."""
    e, p = enumeration, enumeration.probabilities()
    names, both = e.pairs()
    square, stepped = e.normalised(p**ALPHA), e.walked(ALPHA, PROPOSALS)
    cooled = _bits(e.probabilities(e.tempered(1 / ALPHA)), square)
    sd = float(np.sqrt((p * e.surprises() ** 2).sum()))
    every = (
        _listed(
            "sample", "sample", "p", p, draws.sample(),
            "Every text is listed, Σ p = 1: nothing is estimated on this side. The draws come through the very code "
            "that the chat uses.",
        ),
        _listed(
            "top-p", f"top-p {TOP_P:g}", "p of the nucleus", e.probabilities(e.nucleus(TOP_P)),
            draws.sample(TopP(TOP_P)), f"Behind each letter the least set of letters that holds {TOP_P:g}; listed.",
        ),
        _listed(
            "penalty", f"penalty {PENALTY:g}", "p under the penalty", e.probabilities(e.repeated(PENALTY)),
            draws.sample(RepetitionPenalty(PENALTY)),
            f"A letter that was there has p to the power of {PENALTY:g}: which text it is decides its own law.",
        ),
        _listed(
            "branches", "two branches", "p · p", both, draws.pairs(),
            "Two answers side by side know nothing of each other: their first letters are drawn as p times p.",
            names=names,
        ),
        _listed(
            "stochastic-beams", f"stochastic beams {BEAMS}", "p to be among them", e.included(p),
            draws.beams(StochasticBeam(BEAMS)),
            f"{BEAMS} texts at once, none twice, and one of them at a place that is drawn: by all that may come first.",
        ),
        _listed(
            "power", f"power {ALPHA:g}", f"p^{ALPHA:g} by {PROPOSALS} proposals", stepped,
            draws.power(ALPHA, PROPOSALS),
            f"Every step of the chain is listed, too. After {PROPOSALS} proposals it is {_apart(stepped, square):.3f} "
            f"(TV) from p²/Σp²; it began {_apart(e.walked(ALPHA, 0), square):.3f} from it.",
        ),
        _listed(
            "speculative", "speculative", "p", p, draws.speculative(),
            "A model that forgets even the last letter guesses; taken or refused, what is drawn is p.",
        ),
        _listed(
            "guessing", "guessing", "p", p, draws.guessing(),
            "What stood there before is guessed; right or wrong, each letter is drawn as always.",
        ),
        _listed(
            "low-temperature", "low temperature ½", "p²/Σp²", square, draws.sample(Temperature(1 / ALPHA)),
            f"½ sharpens every letter, p² whole texts, so that it has to fail: KL(temperature ‖ power) is {cooled:.2f} "
            "bits. Under power 2 the halves are mirrors again.",
            fails=True,
        ),
        *_of_rule(e.LAST_N, ("token-by-token", "letter by letter"), ("resampling", f"resampled {KEPT}")),
        *_of_rule(e.DISTINCT, ("distinct", "no letter twice"), ("distinct-resampling", f"distinct, {KEPT}")),
        Proof(MODE, bounds=bounds.mode(best=math.log(p.max()))),
        _listed(
            "orders", "any order", "p", p, draws.orders,
            "Masked diffusion with the exact denoiser: one letter a pass, in an order that is drawn, is p.",
            page="orders",
        ),
        Proof(
            Centred(
                "bound", "orders", "the bound", "bound less −log p: 0 in the mean",
                "L/k times what k masked letters cost, over random masks: where the denoiser knows the law, the bound "
                "on −log p is −log p.",
                None,
            ),
            draws.bounds(),
        ),
        Proof(replace(MARTINGALE, sd=sd), draws.surprises()),
        Proof(
            Covering(
                "intervals", "intervals", "intervals", "coverage, listed",
                f"There are {draws.ITEMS + 1} numbers of right answers, and of each it is known whether its interval "
                "holds the share.",
                ("too low", "holds it", "too high"), e.covered(draws.SHARE, draws.ITEMS, Z), draws.SHARE,
            ),
            draws.intervals,
        ),
        Proof(
            Bracketed(
                "precision", "precision", "packed − float64", "what rounding allows",
                "float32 rounds each term of a sum by half a unit in its last place, at most; float64 is beside it.",
                "",
            ),
            bounds=bounds.precision,
        ),
    )  # fmt: skip
    return {proof.claim.name: proof for proof in every}


FAULTS = {
    fault.name: fault
    for fault in (
        PlantedFault(
            "top-p-renormalised", "top-p", "top-p measures its share again on what it left, normalised",
            draws.sample(faults.RenormalisedTopP(TOP_P)),
        ),
        PlantedFault(
            "stale-penalty", "penalty", "the penalty never hears of the letters that are drawn",
            draws.sample(faults.StalePenalty(PENALTY)),
        ),
        PlantedFault(
            "shared-key", "branches", "two branches draw with one key", draws.pairs(faults.SharedKey()),
        ),
        PlantedFault(
            "biased-acceptance", "speculative", "guesses are accepted as if they had been drawn evenly",
            draws.speculative(lambda: faults.BoastfulDraft(smaller())),
        ),
        PlantedFault(
            "free-gumbels", "stochastic-beams", "noise is not held below that of the beginning",
            draws.beams(faults.FreeGumbels(BEAMS)),
        ),
        PlantedFault(
            "unweighted-bound", "bound", "masks have no weights L/k", draws.bounds(faults.unweighted),
        ),
    )
}  # fmt: skip


def chosen(name: str = "", fault: str = "", known: Mapping[str, Proof] | None = None) -> list[Proof]:
    """The proofs of a law or of a page, all where none is named; of the law of a fault, with that planted.
    `known` are those of a model, the small one if none is given.

    ParameterError for names that there are not, and a fault of another law.
    """
    known = proofs() if known is None else known
    found = [proof for proof in known.values() if name in ("", proof.claim.name, proof.claim.page)]
    if not found:
        pages = {proof.claim.page: None for proof in known.values()}
        if name in proofs():
            raise ParameterError(f"{name} is listed for six letters (tiny-bigram): of this model is {', '.join(known)}")
        raise ParameterError(f"there is no law {name}: {', '.join(known)}; or a page of them: {', '.join(pages)}")
    if not fault:
        return found
    if fault not in FAULTS:
        raise ParameterError(f"there is no fault {fault}: {', '.join(FAULTS)}")
    planted = FAULTS[fault]
    if not any(proof.claim.name == planted.law for proof in found):
        of = name or "a model of other tokens"
        raise ParameterError(f"the fault {fault} is one of {planted.law}, not of {of}: name that law, or none")
    return [replace(known[planted.law], draw=planted.draw)]


def proving(
    proof: Proof, count: int = DRAWS, *, seed: int = 0, evidence: Evidence | None = None, made: "Session | None" = None
) -> Iterator[Evidence]:
    """So many draws more, from `evidence` on: after every few of them what there is by then. Where nothing is drawn,
    after every number. A model that is `made` draws; else the small one."""
    evidence, made = evidence or Evidence(proof.claim), made or session()
    if proof.bounds is not None:
        for bound in proof.bounds(made):
            evidence = evidence.with_bounds([bound])
            yield evidence
    elif proof.draw is not None:
        drawn = proof.draw(made, seed * SPREAD + evidence.draws, count)
        while batch := list(islice(drawn, AT_ONCE)):
            evidence = evidence.with_draws(batch)
            yield evidence
