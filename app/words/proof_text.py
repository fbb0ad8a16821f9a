"""Words of a proof, for the command and for the screen: p-values, the test, the verdict. Draws nothing."""

from likely.app.words.units import LN2
from likely.engine.measure.proofs.claim import OPEN, Bound, Bracketed, Centred, Covering, Evidence

LEAST = 1e-300  # of a p that is told as a number
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def p_words(p: float | None) -> str:
    """A probability: 0.97, 2·10⁻⁴, 10⁻⁹⁹, or that there is none yet."""
    if p is None:
        return "none yet"
    if p >= 0.0005:
        return f"{p:.2f}" if p >= 0.01 else f"{p:.3f}"
    size, _, power = f"{max(p, LEAST):.0e}".partition("e")
    few = f"{size}·" if p > 1e-9 else ""
    return f"{'' if p >= LEAST else '< '}{few}10{str(int(power)).translate(SUPERSCRIPT)}"


def fit_words(evidence: Evidence) -> str:
    """The test of what was drawn, or how many numbers are within their bounds."""
    result, claim = evidence.result, evidence.claim
    if isinstance(claim, Bracketed):
        inside = sum(one.low <= one.value <= one.high for one in evidence.bounds)
        return f"{inside} of {len(evidence.bounds)} within their bounds"
    if result.chi2 is None:
        return f"p {p_words(result.p)}"
    return f"χ² {result.chi2:.1f} on {result.df}   p {p_words(result.p)}"


def decided(evidence: Evidence) -> bool:
    """Whether there is enough to say anything of the claim."""
    return bool(evidence.bounds) or evidence.result.p is not None


def sign(evidence: Evidence) -> str:
    """✓ where it holds, ✗ where it does not, · where that cannot be said yet."""
    return ("✓" if evidence.result.holds else "✗") if decided(evidence) else "·"


def verdict_words(evidence: Evidence) -> str:
    """The verdict in a few words."""
    result, claim = evidence.result, evidence.claim
    if not decided(evidence):
        return "too few draws to tell" if evidence.draws else "nothing yet"
    if claim.fails:
        return "not this law, as it has to be" if not result.holds else "not yet seen to fail: draw on"
    if not result.holds:
        return "not within its bounds" if isinstance(claim, Bracketed) else "not this law"
    if isinstance(claim, Bracketed):
        return "bounded, not proven" if any(one.name == OPEN for one in evidence.bounds) else "proven"
    if isinstance(claim, Centred):
        return "0 in the mean, within its error"
    return "covers as it says" if isinstance(claim, Covering) else "draws from this law"


def in_bits(bound: Bound, unit: str) -> tuple[float, float, float]:
    """A number and its bounds as a person reads them: log-probabilities in bits, as surprise."""
    if unit != "nats":
        return bound.low, bound.value, bound.high
    return -bound.high / LN2, -bound.value / LN2, -bound.low / LN2
