"""A live proof as pictures and rows of words: p as draws come, score and bound, the numbers beside, the verdict."""

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np

from likely.app.tui.base.drawing.plot import Curve, Picture
from likely.app.tui.base.text import cells
from likely.app.tui.widgets.caption import Words
from likely.app.words.proof_text import decided, fit_words, in_bits, p_words, sign, verdict_words
from likely.app.words.units import LN2
from likely.engine.measure.proofs.claim import PAGES, Bracketed, Centred, Claim, Covering, Evidence, Listed

FAR = 3.0  # standard errors from what is expected, from which on a number is red
UNIFORM = "Under the right law p is uniform: one look in 20 is below 0.05."


def page_tabs(page: str) -> Words:
    """The pages, the one that is open in its ink."""
    parts: list[tuple[str, str]] = []
    for name in PAGES:
        parts += [(" ", "text"), (f" {name} ", "tab" if name == page else "faint")]
    return parts


def law_tabs(claims: Sequence[Claim], chosen: Claim, width: int) -> Words:
    """The laws of a page, as many around the chosen one as there is room for."""
    first, names = 0, [claim.title for claim in claims]
    at = [claim.name for claim in claims].index(chosen.name)
    while first < at and 7 + sum(len(name) + 3 for name in names[first : at + 1]) > width - 8:
        first += 1
    parts: list[tuple[str, str]] = [(" law " if not first else " ‥   ", "faint")]
    for place, name in enumerate(names[first:], first):
        parts += [(" ", "text"), (f" {name} ", "tab" if place == at else "faint")]
    return parts


def sentence(claim: Claim) -> str:
    """A line of what the page shows."""
    return PAGES[claim.page]


def track_picture(evidence: Evidence) -> Picture:
    """p as the draws came."""
    heading = [("CHI-SQUARE", "heading"), ("  p-value as the draws come", "faint")]
    heading += [("; cells under 5 pooled", "faint")] if isinstance(evidence.claim, Listed) else []
    if not evidence.track:
        return Picture(heading, axis=False)
    draws, ps = [point[0] for point in evidence.track], [point[1] for point in evidence.track]
    curve = Curve(draws, ps, "chosen" if evidence.claim.holds(evidence) else "alarm")
    top = (0.0, 1.0, " ", "text")  # so that the axis always goes to 1
    return Picture(
        heading, [curve], right=float(evidence.draws), along="draws", floor=0.0, up=((0.0, "0"), (1.0, "1")),
        points=(top,),
    )  # fmt: skip


def chart_picture(evidence: Evidence) -> Picture:
    """The mean of what was drawn within the funnel that it should keep to; or score and bound of every pass."""
    claim = evidence.claim
    if isinstance(claim, Centred):
        sd = claim.sd or evidence.sd
        draws = np.array([point[0] for point in evidence.track], float)
        means = np.array([point[2] for point in evidence.track]) / LN2
        funnel = 1.96 * sd / np.sqrt(np.maximum(draws, 1)) / LN2
        heading = [("MEAN", "heading"), ("  bits; within ±1.96 standard errors 19 times in 20", "faint")]
        if not evidence.track:
            return Picture(heading, axis=False)
        curves = [Curve(draws, side * funnel, "bar", dotted=True) for side in (1.0, -1.0)]
        curves += [Curve((0.0, float(evidence.draws)), (0.0, 0.0), "rule"), Curve(draws, means, "chosen")]
        return Picture(heading, curves, right=float(evidence.draws), along="draws")
    passes = [bound for bound in evidence.bounds if bound.name.startswith("pass ")]
    best, scores = in_bits(passes[0], "nats")[1] if passes else 0.0, [in_bits(bound, "nats") for bound in passes]
    at = np.arange(1, len(passes) + 1, dtype=float)
    heading = [("SCORE AND BOUND", "heading"), ("  bits; less is likelier  ", "faint")]
    heading += [("  bound", "bar"), ("  best so far", "chosen"), ("  listed", "better")]
    finite = [high if math.isfinite(high) else math.nan for _, _, high in scores]
    curves = [
        Curve(at, [best] * len(at), "better", dotted=True),
        Curve(at, [low for low, _, _ in scores], "bar"), Curve(at, finite, "chosen"),
    ]  # fmt: skip
    return Picture(heading, curves, left=1.0, right=float(max(len(at), 2)), along="pass")


def verdict_rows(evidence: Evidence) -> list[Words]:
    """The test, and what it comes to."""
    result, claim = evidence.result, evidence.claim
    ink = "faint" if not decided(evidence) else "better" if result.holds else "alarm"
    note = UNIFORM if claim.fit(evidence).p is not None and result.holds else ""
    return [
        ((fit_words(evidence) + "   ", "chosen"), (f"{sign(evidence)} {verdict_words(evidence)}", ink)),
        ((note, "faint"),),
    ]


def number_rows(
    evidence: Evidence, others: Mapping[str, Evidence], page: Sequence[Claim], width: int, height: int
) -> list[Words]:
    """Each outcome's exact, expected and drawn number; why it is a proof; and how the page's other laws stand."""
    claim = evidence.claim
    also: list[Words] = [(), (("ON THIS PAGE", "heading"), ("  p so far", "faint"))]
    for each in page:
        other = others.get(each.name)
        if other is None:
            also.append(((each.title, "faint"), ("·".rjust(max(width - len(each.title), 2)), "faint")))
            continue
        said = f"{sign(other)} {p_words(other.result.p)}"
        also.append(((each.title, "text"), (said.rjust(width - len(each.title)), "better" if other.right else "alarm")))
    why: list[Words] = [(), (("WHY THIS IS A PROOF", "heading"),)]
    why += [((line, "faint"),) for line in wrap(claim.why, max(width, 20))]
    room = height - len(why) - (len(also) if len(page) > 1 else 0)
    rows = _outcomes(evidence, width, max(room, 3))
    return [*rows, *why, *(also if len(page) > 1 else ())]


def _outcomes(evidence: Evidence, width: int, rows: int) -> list[Words]:
    claim = evidence.claim
    if isinstance(claim, Listed):
        return _listed(evidence, claim, width, rows)
    if isinstance(claim, Bracketed):
        return _bounds(evidence, claim, width, rows)
    assert isinstance(claim, Centred)
    sd = claim.sd or evidence.sd
    error = sd / math.sqrt(max(evidence.draws, 1))
    named = (
        ("mean, bits", f"{evidence.mean / LN2:+.4f}"), ("its standard error", f"{error / LN2:.4f}"),
        ("standard deviation", f"{evidence.sd / LN2:.3f}"),
        ("  listed", "from the draws" if claim.sd is None else f"{claim.sd / LN2:.3f}"),
        ("mean over error", f"{evidence.mean / error if error else 0.0:+.2f}"), ("draws", f"{evidence.draws:,}"),
    )  # fmt: skip
    return [
        ((claim.exact.upper(), "heading"),),
        *(((name, "text"), (value.rjust(max(width - len(name), 1)), "chosen")) for name, value in named),
    ]


def _listed(evidence: Evidence, claim: Listed, width: int, rows: int) -> list[Words]:
    n, counts = evidence.draws, evidence.counts if evidence.draws else np.zeros(len(claim.p), int)
    covering = isinstance(claim, Covering)
    order = range(len(claim.p)) if covering else np.argsort(-claim.p, kind="stable").tolist()
    order = [i for i in order if claim.p[i] > 0 or counts[i]]
    name = "" if covering else "TEXT" if max(map(len, claim.names)) > 2 else "PAIR"
    head = f"{'exact':>9}{'expected':>10}{'drawn':>9}"
    lines: list[Words] = [((name.ljust(max(width - len(head), 1)), "heading"), (head, "faint"))]
    shown = order if len(order) < rows else order[: rows - 2]
    for i in shown:
        wanted, seen = n * claim.p[i], int(counts[i])
        off = abs(seen - wanted) > FAR * math.sqrt(max(wanted * (1 - claim.p[i]), 0.25))
        lines.append((
            (claim.names[i].ljust(max(width - len(head), 1)), "text"), (f"{claim.p[i]:9.4f}", "text"),
            (f"{wanted:10,.1f}", "faint"), (f"{seen:9,}", "alarm" if off else "chosen"),
        ))  # fmt: skip
    if rest := order[len(shown) :]:
        p, seen = float(claim.p[rest].sum()), int(counts[rest].sum())
        more = f"{len(rest)} more"
        numbers = f"{p:9.4f}{n * p:10,.1f}{seen:9,}"
        lines.append(((more.ljust(max(width - len(numbers), 1)) + numbers, "faint"),))
    return lines


def _bounds(evidence: Evidence, claim: Bracketed, width: int, rows: int) -> list[Words]:
    bits = claim.unit == "nats"
    lines: list[Words] = [(((f"{'':<12}" + "".join(f"{word:>9}" for word in ("at least", "is", "at most"))), "faint"),)]
    for bound in evidence.bounds[-rows + 1 :]:
        inside = bound.low <= bound.value <= bound.high
        numbers = "".join(
            f"{value:9.2f}"
            if bits and math.isfinite(value)
            else f"{value:9.1e}"
            if math.isfinite(value)
            else f"{'·':>9}"
            for value in in_bits(bound, claim.unit)
        )
        lines.append(((cells.pad(bound.name, 12), "text"), (numbers, "chosen" if inside else "alarm")))
    return lines
