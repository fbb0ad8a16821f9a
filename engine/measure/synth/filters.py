"""Filters: what is wrong with a row by itself (length, language, repetition, verdict), and the tails of perplexity.

Each gives the number that it looks at and a reason, or none. Thresholds are the person's: none of these is right for
every kind of row. Languages are told by py3langid (alive, needs numpy alone, 4.5 MB with its model), which is unsure of
texts of a few words.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.base.machine.installation import adding
from likely.engine.measure.evaluate.figures.contamination import words
from likely.engine.measure.evaluate.figures.samples import grams
from likely.engine.measure.synth.config import FilterOptions
from likely.engine.measure.synth.row import SynthRow

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

CHUNK = 32  # rows that a model scores between two entries of the journal


def alone(rows: Sequence[SynthRow], options: FilterOptions) -> Iterator[SynthRow]:
    """Each row with its numbers, and kept aside where one is out of bounds; those that are aside as they are."""
    language = classifier() if options.languages else None
    for row in rows:
        if row.dropped:
            yield row
            continue
        row_words = words(row.completion)
        repeated = repetition(row.completion)
        row = row.scored(words=len(row_words), repetition=repeated)
        why = ""
        if row.scores.get("verified") == 0:
            why = "verifier"
        elif len(row_words) < options.least_words:
            why = "too short"
        elif options.most_words and len(row_words) > options.most_words:
            why = "too long"
        elif options.repetition and repeated > options.repetition:
            why = "repetition"
        elif language is not None and language(row.text) not in options.languages:
            why = "language"
        yield row.out(f"filter: {why}") if why else row


def tails(rows: Sequence[SynthRow], options: FilterOptions) -> list[SynthRow]:
    """Rows whose `perplexity` is among the lowest or the highest share are kept aside, and those below the judge's
    least `p_true`; rows that are aside already are left as they are."""
    marked = list(rows)
    at = [i for i, row in enumerate(marked) if not row.dropped and "perplexity" in row.scores]
    if at and (options.low_tail or options.high_tail):
        order = sorted(at, key=lambda i: marked[i].scores["perplexity"])
        low, high = (math.floor(share * len(order)) for share in (options.low_tail, options.high_tail))
        for i in order[:low]:
            marked[i] = marked[i].out("filter: low perplexity")
        for i in order[len(order) - high :]:
            marked[i] = marked[i].out("filter: high perplexity")
    if options.judge:
        marked = [
            row.out("filter: judge") if not row.dropped and row.scores.get("p_true", 1.0) < options.judge else row
            for row in marked
        ]
    return marked


def repetition(text: str, n: int = 3) -> float:
    """The share of a text's n-grams of words that stand in it before (Rae et al. 2021, app. A, by number)."""
    every = grams(words(text), n)
    return 1 - len(set(every)) / len(every) if every else 0.0


def classifier() -> Callable[[str], str]:
    """The ISO 639-1 code of a text's language."""
    try:
        import py3langid
    except ImportError:
        raise DataError(f"filter.languages needs py3langid: {adding('py3langid')}") from None
    return lambda text: str(py3langid.classify(text)[0])


def perplexities(session: "Session", rows: Sequence[SynthRow]) -> dict[str, dict[str, float]]:
    """Perplexity of what each row says after what it is asked: exp of the mean surprisal; of a text without its first
    token where nothing stands before it. Rows of no token, or longer than the context, have none."""
    from likely.engine.measure.evaluate.evaluation import after
    from likely.engine.measure.evaluate.scoring.likelihood import Request, loglikelihoods
    from likely.engine.measure.evaluate.scoring.protocol import Protocol

    prefix = Protocol().token(session.tokenizer)
    row_ids, requests = [], []
    for row in rows:
        asks, says = row.sides
        if not says.strip():
            continue
        ids, start, _ = after(asks, says, session.tokenizer, prefix)
        if max(start, 1) < len(ids) <= session.context:
            row_ids.append(row.id)
            requests.append(Request((tuple(ids),), (max(start, 1),)))
    likelihoods = (likelihood for (likelihood,) in loglikelihoods(session.model, requests))
    return {
        i: {"perplexity": math.exp(-float(np.mean(likelihood.tokens)))}
        for i, likelihood in zip(row_ids, likelihoods, strict=True)
    }


def judged(session: "Session", rows: Sequence[SynthRow]) -> dict[str, dict[str, float]]:
    """P(true) of each row's answer, as the judge is asked (`engine.reason.belief`)."""
    from likely.engine.measure.reason.belief import p_true

    return {row.id: {"p_true": p_true(session, *row.sides)} for row in rows}
