"""Information of a thought about its answer: the surprise of the answer's tokens given the thought, and without it.

log p(answer | prompt, thought) - log p(answer | prompt) is the pointwise usable information of Ethayarajh et al. (ICML
2022, eq. 4), by one model for both. Where that is most of the answer's surprise, the model has decided while it
thought; below 0 the thought spoke against what was said. Without a thought means behind an empty one: its marks stand
where they stood, and blanks beside them. Plain Python: whatever scores a text is handed in.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from likely.engine.base.statistics.scores import perplexity, total
from likely.engine.sampling.thinking import ThoughtSpan
from likely.engine.sampling.trace.step import TokenStep


class TextScorer(Protocol):
    """A session as far as a given text is scored in it."""

    def scoring(self, ids: Sequence[int], *, start: int = 0) -> Generator[int, None, Sequence[TokenStep]]: ...


@dataclass(frozen=True, slots=True)
class PartFigures:
    """The tokens of a thought, or of what is said behind it: their number, perplexity and mean entropy (nats), None
    where no distribution of any is known."""

    tokens: int
    perplexity: float | None
    entropy: float | None


@dataclass(frozen=True, slots=True)
class ThoughtInformation:
    """The log-probabilities, in nats, of an answer's tokens, those behind its thought: as they were drawn, `given` the
    thought, and `without` it. None for a token that has none."""

    given: tuple[float | None, ...]
    without: tuple[float | None, ...]

    @property
    def nats(self) -> float:
        """The difference of both, over the tokens that have both."""
        known = (pair for pair in zip(self.given, self.without, strict=True) if None not in pair)
        return math.fsum((a or 0.0) - (b or 0.0) for a, b in known)

    def as_dict(self) -> dict[str, float]:
        """The sums as an object of JSON, in nats."""
        return {
            "answer_logprob": total(self.given),
            "answer_logprob_without_thought": total(self.without),
            "thought_information": self.nats,
        }


def span_of(steps: Sequence[TokenStep], opened: bool) -> ThoughtSpan:
    """The thought in an answer; `opened`: the prompt ends within one."""
    found = ThoughtSpan(opened)
    for step in steps:
        found.push(step.written)
    return found


def part_figures(steps: Sequence[TokenStep], opened: bool = False) -> dict[str, PartFigures]:
    """Figures of an answer's `thought`, marks included, and of the `answer` behind it; empty where it did not think."""
    found = span_of(steps, opened)
    if found.span is None:
        return {}
    at = found.span[1] if found.closed else len(steps)
    return {name: _figures(part) for name, part in (("thought", steps[:at]), ("answer", steps[at:]))}


def _figures(steps: Sequence[TokenStep]) -> PartFigures:
    entropies = [step.entropy for step in steps if step.entropy is not None]
    mean = math.fsum(entropies) / len(entropies) if entropies else None
    return PartFigures(len(steps), perplexity(step.logprob for step in steps), mean)


def informing(
    scorer: TextScorer, prompt: Sequence[int], steps: Sequence[TokenStep], opened: bool = False, *, anew: bool = False
) -> Generator[int, None, ThoughtInformation | None]:
    """The information in pieces, each the tokens read so far. None for an answer without a thought, with one that says
    nothing or has no end, or with nothing behind it. `anew`: the model is not the one that drew it, so that the answer
    is measured behind its thought too, as one that was drawn in another precision than this measures in."""
    found = span_of(steps, opened)
    if found.span is None or not found.closed or found.span[1] == len(steps):
        return None
    low, high = found.inner
    while low < high and not steps[low].written.strip():
        low += 1
    while low < high and not steps[high - 1].written.strip():
        high -= 1
    if low == high:
        return None
    left = [step.token for step in (*steps[:low], *steps[high:])]
    start = len(prompt) + low + found.span[1] - high
    scored = yield from scorer.scoring([*prompt, *left], start=start)
    said = steps[found.span[1] :]
    if anew or any(step.precision != measured.precision for step, measured in zip(said, scored, strict=True)):
        ids = [*prompt, *(step.token for step in steps)]
        said = yield from scorer.scoring(ids, start=len(ids) - len(said))
    given = tuple(step.logprob for step in said)
    return ThoughtInformation(given, tuple(step.logprob for step in scored))
