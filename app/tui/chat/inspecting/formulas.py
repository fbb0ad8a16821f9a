"""Formulas of what a text's views show: of a token by the model, of a draw from it, of a whole text, of its tokens."""

import math
from collections.abc import Sequence

from likely.app.store.sampling_text import change, words
from likely.app.tui.base.text.formula import Formula, Part, low
from likely.app.tui.chat.candidates import LN2, CandidateTable
from likely.app.tui.chat.inspecting.inspection import Inspection
from likely.app.tui.chat.inspecting.neighbors import Neighbours
from likely.app.tui.chat.inspecting.ranking import bits
from likely.app.tui.chat.inspecting.search_choice import SearchTable
from likely.app.words.units import predicted
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.base.statistics.scores import perplexity, surprisal, total
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep


def of_token(at: Inspection) -> Formula | None:
    """The model's own probability of a token that was drawn or measured; None where it gave none."""
    step = at.step
    if step is None or step.logprob is None:
        return None
    name, i = at.names.name(step.token), at.number or step.position + 1
    parts: list[Part] = [
        (f"p(x{low(i)} = {name} | x<{i}) = softmax(logits){low(step.token)} = ", False),
        (share(math.exp(step.logprob)), True),
        ("   −log₂ p = ", False),
        (f"{-step.logprob / LN2:.2f} bits", True),
    ]
    if step.entropy is not None:
        parts += [("   H(p) = ", False), (f"{step.entropy / LN2:.2f} bits", True)]
    return Formula("model", parts, "before the transforms: what the model says, whatever is drawn")


def of_draw(
    table: CandidateTable | None, by: Sequence[SamplingConfig], picked: int | None = None, number: int = 0
) -> Formula | None:
    """A candidate before and after the transforms: the token picked, else the one that was drawn, else the best. `by`
    is the recipe, or those that it was drawn by and that it would be drawn by now; `number` the token's in its text, 0
    for one that is not there yet.

    None where nothing is known of what they leave.
    """
    if table is None or not table.rows:
        return None
    row = next((row for row in table.rows if row.token == picked or (picked is None and row.chosen)), table.rows[0])
    if row.after is None:
        return None
    now = f"0, cut by {row.removed_by}" if row.removed_by else share(row.after)
    at = f"x{low(number)} = {row.name}" if number else row.name
    q: list[Part] = [(f"q({at}) = f(p)({row.name}) = ", False)]
    if by[1:]:
        q += [(share(row.drawn or 0.0), True), ("   if moved ", False)]
    q += [
        (now, True),
        (f"   p({at}) = ", False),
        (share(row.before), True),
        ("   kept ", False),
        (" to ".join(dict.fromkeys(f"{count:,.0f}" for count in table.kept)), True),
        (f" of {table.vocab:,}", False),
    ]
    moved = f" · if moved: {change(*by)}" if by[1:] else ""
    note = f"f: {words(by[0]) or 'nothing changes p'}, the rest shared out to sum to 1{moved}"
    return Formula("decoder", q, note)


def of_choice(table: SearchTable, picked: int | None) -> Formula | None:
    """How a search adds up a candidate: the token picked, else the one that was drawn, else the best."""
    row = next((row for row in table.rows if row.token == picked or (picked is None and row.chosen)), table.rows[0])
    parts: list[Part] = [
        (f"Σ log₂p + log₂p({row.name}) = ", False), (bits(table.total), True), (" + ", False),
        (bits(math.log(row.before)) if row.before > 0 else "−∞", True), (" = ", False), (row.more[0] or "−∞", True),
        ("   then rank ", False), (row.more[1], True),
    ]  # fmt: skip
    return Formula("decoder", parts, "the rank is among all texts of the step by their scores; ✕: given up there")


def of_neighbour(table: Neighbours, picked: int | None) -> Formula | None:
    """How near a token's embedding lies, that of the one picked or the nearest; None where none is known."""
    if not table.rows:
        return None
    row = next((row for row in table.rows if row.token == picked), table.rows[0])
    line = f"cos({table.name}, {row.name}) = (e_a − μ)·(e_b − μ) / |·||·| = "
    parts: list[Part] = [(line, False), (f"{row.after or 0:.3f}", True), ("   of the rows ", False)]
    return Formula("model", [*parts, (f"{row.before:.3f}", True)], "e: rows of the input embedding, μ: their mean")


def of_text(steps: Sequence[TokenStep]) -> Formula | None:
    """The probability of the tokens that have a distribution, and the perplexity; None where there are none."""
    logprobs = [step.logprob for step in steps if step.logprob is not None]
    ppl, bits, n = perplexity(logprobs), -total(logprobs) / LN2, len(logprobs)
    if ppl is None:
        return None
    parts: list[Part] = [
        ("p(x₁..ₙ) = Π p(xᵢ | x<i) = ", False),
        (f"2^−{bits:.1f}", True),
        ("   n = ", False),
        (f"{n:,}", True),
        ("   ppl = p^(−1/n) = ", False),
        (f"{ppl:.2f}", True),
    ]
    return Formula("metric", parts, f"{predicted(n, len(steps))}, {bits / n:.2f} bits each")


def of_answers(answers: Sequence[Sequence[TokenStep]]) -> Formula | None:
    """The mean surprisal of each answer under the model that gave it; None where none was given yet."""
    parts: list[Part] = []
    for number, steps in enumerate(answers, 1):
        if (mean := surprisal(step.logprob for step in steps)) is not None:
            parts += [(f"   column {number} ", False), (f"{mean / LN2:.2f} bits", True)]
    if not parts:
        return None
    return Formula("metric", [("−(1/n) Σ log₂ p(xᵢ | x<i):", False), *parts], "each answer by the model that gave it")


def of_divergence(a: str, b: str, nats: float, number: int, mean: Estimate, interval: str) -> Formula:
    """The KL of one law from another at a token of its text, and the mean over the text, which is in bits."""
    parts: list[Part] = [
        (f"KL({a} ‖ {b}) = Σ {a} log₂ {a}/{b} = ", False),
        (f"{nats / LN2:.2f} bits", True),
        (f"   at x{low(number)}   (1/n) Σ KL = ", False),
        (f"{mean.mean:.2f} bits", True),
        (f"   95 %: {interval}   n = " if interval else "   n = ", False),
        (f"{mean.n}", True),
    ]
    return Formula("metric", parts, "both laws behind the same words, over the whole vocabulary")


def of_ids(count: int, context: int) -> Formula:
    """How many tokens the model reads, of those it can."""
    parts: list[Part] = [("x₁..ₙ = encode(template(messages))   n = ", False), (f"{count:,}", True)]
    return Formula("tokenizer", [*parts, (f" of {context:,}", False)], "every word is read as the ids of its tokens")


def share(p: float) -> str:
    """A probability: in percent, or as a power of two where that would be all zeros."""
    return f"{100 * p:.2f} %" if p >= 5e-5 or p == 0 else f"2^{math.log2(p):.1f}"
