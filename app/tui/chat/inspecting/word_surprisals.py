"""Surprisal by the word, its running sum, and the figures of a text. Plain Python; how it looks is a widget's.

A word is what stands between two spaces, with the space before it; its surprisal is the sum over its tokens (the chain
rule), without what was not measured: the first token, which follows nothing.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from likely.app.lessons.expression import Value
from likely.app.tui.base.text import cells
from likely.app.tui.chat.candidates import LN2
from likely.app.words.units import bits
from likely.engine.base.statistics.scores import perplexity, total
from likely.engine.sampling.trace.step import TokenStep


class WordSurprisal(NamedTuple):
    """A word, half-open ranges of characters and of tokens; `bits` is None where nothing was measured."""

    text: str
    start: int
    end: int
    first: int
    last: int
    bits: float | None


def bits_of_words(steps: Sequence[TokenStep]) -> list[WordSurprisal]:
    """The words of a measured text. A token of several words counts to the first of them, one without text (control
    tokens, parts of a character) to the word that it stands in."""
    words: list[WordSurprisal] = []
    at = 0
    for index, step in enumerate(steps):
        text = "" if step.special else step.text
        bits = None if step.logprob is None else -step.logprob / LN2
        last = words[-1] if words else None
        begins = text[:1].isspace() or (last is not None and last.text[-1:].isspace())
        if last is None or (begins and text and last.text.strip()):
            words.append(WordSurprisal(text, at, at + len(text), index, index + 1, bits))
        else:
            both = [part for part in (last.bits, bits) if part is not None]
            whole = sum(both) if both else None
            words[-1] = WordSurprisal(last.text + text, last.start, at + len(text), last.first, index + 1, whole)
        at += len(text)
    return words


def running_sum(steps: Sequence[TokenStep]) -> list[float]:
    """Bits of all tokens up to each, from 0.0 before the first: one more than there are tokens."""
    return list(accumulate((-(step.logprob or 0.0) / LN2 for step in steps), initial=0.0))


def figures(steps: Sequence[TokenStep], text: str) -> dict[str, Value]:
    """Of a measured text, by the names that chapters have for them; those of surprisal where there is any."""
    known = [step for step in steps if step.logprob is not None]
    found: dict[str, Value] = {"text": text, "tokens": float(len(steps)), "characters": float(len(text))}
    if not known:
        return found
    highest_surprisal = min(known, key=lambda step: step.logprob or 0.0)
    return found | {
        "predicted": float(len(known)), "bits": bits(-total(step.logprob for step in known)),
        "perplexity": perplexity(step.logprob for step in known) or 1.0,
        "dearest": cells.piece_text(highest_surprisal.piece), "dearest_bits": bits(-(highest_surprisal.logprob or 0.0)),
    }  # fmt: skip
