"""Contamination of a task by training texts that are known: shared runs of words, and whether the model gives it away.

An item whose words share a run of 13 with a training text is taken as seen (Brown et al. 2020, app. C); one of 8 to 12
words where all of them stand there in a row; of a shorter one nothing is said. A paraphrase is not found. No mlx.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from likely.engine.base.statistics.estimates import Estimate, bootstrap, share
from likely.engine.measure.evaluate.figures import samples
from likely.engine.measure.evaluate.figures.figures import Tally
from likely.engine.measure.evaluate.tasks.conditional import ChangedContext, ConditionedText, JudgedPair, RestatedText
from likely.engine.measure.evaluate.tasks.tasks import (
    Choices,
    Document,
    Item,
    KnownDistribution,
    MinimalPair,
    Question,
    Task,
)
from likely.engine.measure.evaluate.tasks.tool_questions import ToolQuestion

RUN, LEAST = 13, 8  # words
WORD = re.compile(r"\w+")


@dataclass
class WordRuns:
    """Training texts, and the runs of words in them, by length, as far as they were asked for."""

    texts: Sequence[Sequence[str]]
    runs: dict[int, set[tuple[object, ...]]] = field(default_factory=dict)

    def has(self, text_words: Sequence[str]) -> bool | None:
        """Whether they share a run with these words; None where there are too few to tell."""
        n = min(RUN, len(text_words))
        if n < LEAST:
            return None
        if n not in self.runs:
            self.runs[n] = samples.ngrams(self.texts, n)
        return any(gram in self.runs[n] for gram in samples.grams(text_words, n))


def known(texts: Iterable[str]) -> WordRuns:
    """Training texts to look items up in."""
    return WordRuns([words(text) for text in texts])


def words(text: str) -> list[str]:
    """A text's words in lower case, without what stands between them."""
    return WORD.findall(text.casefold())


def seen(task: Task, training: WordRuns) -> dict[int, bool]:
    """Of each item, by number, whether it was seen: its own words and the right answer, without the examples before it.
    Items too short to tell are not in it."""
    by_number = {}
    for item in task.bare.items():
        if isinstance(item, Item) and (seen_before := training.has(words(text_of(item)))) is not None:
            by_number[item.number] = seen_before
    return by_number


def text_of(item: Item) -> str:
    """An item as one text, with the right answer."""
    match item.body:
        case Question(prompt, answers):
            return f"{prompt} {answers[0]}"
        case Choices(context, choices, gold):
            return f"{context} {choices[gold]}"
        case MinimalPair(good):
            return good
        case ConditionedText(context, continuation):
            return f"{context} {continuation}"
        case ToolQuestion(prompt):
            return prompt
        case JudgedPair(text) | RestatedText(text) | ChangedContext(text) | Document(text) | KnownDistribution(text):
            return text


def figures(tally: Tally, told: Mapping[int, bool], least: Mapping[int, float]) -> dict[str, Estimate]:
    """`contaminated`, the share of items that were seen; the first measure over those that were not, as `NAME_clean`;
    and where `least` has the min-k% of documents, `min_20_auc`: how often one that was seen has the higher one, 0.5
    where the model does not give it away (Shi et al. 2024).

    `least`: a document's mean log-probability of its 20 % least likely tokens, in nats.
    """
    numbers = [number for number in tally.numbers if number in told]
    estimates = {"contaminated": share([float(told[number]) for number in numbers])}
    clean = tally.only({number for number in tally.numbers if not told.get(number)})
    if clean.numbers:
        name = clean.headline
        estimates[f"{name}_clean"] = clean.estimate(name)
    rows = np.array([[float(told[number]), least[number]] for number in numbers if number in least]).reshape(-1, 2)
    if 0 < rows[:, 0].sum() < len(rows):
        estimates["min_20_auc"] = bootstrap(rows, _auc, samples=500)
    return estimates


def _auc(rows: np.ndarray) -> float:
    """P(one that was seen is above one that was not), ties by half, of rows [n, 2]; 0.5 where there is one kind."""
    ours, others = rows[rows[:, 0] == 1, 1], rows[rows[:, 0] == 0, 1]
    if not len(ours) or not len(others):
        return 0.5
    above = np.sign(ours[:, None] - others[None])
    return float((above.mean() + 1) / 2)


def least_likely(logprobs: np.ndarray, part: float = 0.2) -> float:
    """The mean of the least log-probabilities, a fifth of them or one at least; NaN of none."""
    if not len(logprobs):
        return math.nan
    return float(np.sort(logprobs)[: max(1, int(len(logprobs) * part))].mean())
