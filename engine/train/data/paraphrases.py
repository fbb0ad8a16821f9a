"""Wordings: questions of rows said otherwise at each step, with their answers as they are.

So an answer comes to hang on words and on what they mean, not on one sentence. Content words go, in any order, where
those of another row's question stand, among its function words ("What is the cost of the seal?" for "How much does the
seal cost?"). Words are left out, or give way to one that is near in the model's own table of embeddings ("price" for
"cost"): random deletion and synonym replacement of EDA (arXiv:1901.11196), without a thesaurus. What is no word stays,
and so does a word that the answer repeats. A function of the seed, the step and the row, so that a run which goes on
reads what it would have read. Knows no losses.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from likely.engine.base.errors import TemplateError
from likely.engine.decode.prompt import single_turn
from likely.engine.text.tokenizer.tokenizer import Tokenizer
from likely.engine.train.data.samples import Pair, TrainingSample

AS_IT_IS = 0.25  # of a row's readings
SWAPPED = 0.6  # of the others: among the function words of another row,
MIXED = 0.5  # and of those, with content words in another order
LEFT_OUT = 0.375  # of the words that are not as they were; the others give way
TOLD_APART = 0.5  # share of rows whose questions differ in words that can be said otherwise
LOOKED_AT = 128  # rows, for that
WORD = re.compile(r" ?[^\W\d_]+")
LETTERS = re.compile(r"[^\W\d_]+")
MARK = re.compile(r"[^\w\s]+")  # which may end a question


class QuestionWord(NamedTuple):
    """A word of a question, or what stands between two: its ids, and whether it can be said otherwise."""

    ids: tuple[int, ...]
    can: bool


@dataclass(frozen=True)
class QuestionFrame:
    """Frame of the question in rows of one question and one answer: the ids of the template before and after it."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    tokenizer: Tokenizer

    def text(self, ids: Sequence[int]) -> str:
        return b"".join(self.tokenizer.piece(t) for t in ids).decode(errors="replace")

    def words(self, sample: TrainingSample) -> Iterator[QuestionWord]:
        """The words of the question; nothing of another row."""
        answer = next((i for i, trained in enumerate(sample.trained) if trained), 0)
        first, end = len(self.before), answer - len(self.after)
        if first >= end or sample.ids[:first] != self.before or sample.ids[end:answer] != self.after:
            return
        if sum(b and not a for a, b in zip(sample.trained, sample.trained[1:], strict=False)) != 1:
            return
        repeated = set(LETTERS.findall(self.text(sample.ids[answer:]).lower()))
        groups: list[list[int]] = []
        for token in sample.ids[first:end]:
            goes_on = groups and not self.text([token]).startswith(" ")
            if goes_on and WORD.fullmatch(self.text([*groups[-1], token])):
                groups[-1].append(token)
            else:
                groups.append([token])
        for group in groups:
            spelled = self.text(group)
            can = WORD.fullmatch(spelled) is not None and spelled.strip().lower() not in repeated
            yield QuestionWord(tuple(group), can)


def frame_of(tokenizer: Tokenizer) -> QuestionFrame:
    """Where questions stand, by two that have nothing in common."""
    one, other = (single_turn(text, tokenizer).ids(tokenizer) for text in ("a", "7"))
    ends = []
    for left, right in ((one, other), (one[::-1], other[::-1])):
        ends.append(next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), 0))
    return QuestionFrame(tuple(one[: ends[0]]), tuple(one[len(one) - ends[1] :]), tokenizer)


def told_apart(items: Sequence[TrainingSample | Pair], tokenizer: Tokenizer) -> bool:
    """Whether words that can be said otherwise are what tells the questions of most rows apart: of a rule (a sum, a
    form, an order to be said politely) they are the same in all."""
    some = [item for item in items[:LOOKED_AT] if isinstance(item, TrainingSample)]
    try:
        found = frame_of(tokenizer)
    except TemplateError:  # it wants more than a question
        return False
    keys = {tuple(word for word, can in found.words(item) if can) for item in some}
    return len(keys - {()}) > TOLD_APART * len(some)


def function_words(questions: Sequence[str]) -> frozenset[str]:
    """The words that two general questions, which ask for different things, have in common."""
    seen, common = set[str](), set[str]()
    for question in questions:
        words = set(LETTERS.findall(question.lower()))
        common |= words & seen
        seen |= words
    return frozenset(common)


@dataclass(frozen=True)
class Rewording:
    """Rewording of the questions of a run. `near`: for a token that is a word those that may stand for it, with their
    probabilities; `rows`: those whose function words are lent."""

    frame: QuestionFrame
    share: float  # of a question's words
    seed: int
    near: Mapping[int, tuple[tuple[int, ...], tuple[float, ...]]]
    function: frozenset[str]
    rows: Sequence[TrainingSample]

    def of(self, sample: TrainingSample, step: int, batch: int, row: int) -> TrainingSample:
        """The row as it is read in a batch of a step; itself where there is nothing to say otherwise."""
        random = np.random.default_rng([self.seed, step, batch, row])
        words = list(self.frame.words(sample))
        if not words or random.random() < AS_IT_IS:
            return sample
        if random.random() < SWAPPED:
            lent = list(self.frame.words(self.rows[int(random.integers(len(self.rows)))]))
            words = self._among(words, lent, random)
        said = [token for word in words for token in self._said(word, random)]
        if not said:
            return sample
        first = len(self.frame.before)
        end = sample.answer_at - len(self.frame.after)
        ids = (*sample.ids[:first], *said, *sample.ids[end:])
        return TrainingSample(ids, (*(False,) * (first + len(said)), *sample.trained[end:]), sample.where)

    def _among(
        self, words: list[QuestionWord], lent: list[QuestionWord], random: np.random.Generator
    ) -> list[QuestionWord]:
        """The content words of a question among the function words of another."""
        mark = words[-1:] if MARK.fullmatch(self.frame.text(words[-1].ids).strip()) else []
        content = [run for plain, run in self._runs(words[: len(words) - len(mark)]) if not plain]
        if random.random() < MIXED:
            content = [content[i] for i in random.permutation(len(content))]
        found: list[QuestionWord] = []
        for plain, run in self._runs(lent):
            found += run if plain else content.pop(0) if content else []
        return [*found, *(word for run in content for word in run), *mark]

    def _runs(self, words: Sequence[QuestionWord]) -> Iterator[tuple[bool, list[QuestionWord]]]:
        """Words that stand side by side, and whether they are function words."""
        for plain, run in groupby(words, lambda word: self._plain(word)):
            yield plain, list(run)

    def _plain(self, word: QuestionWord) -> bool:
        return self.frame.text(word.ids).strip().lower() in self.function

    def _said(self, word: QuestionWord, random: np.random.Generator) -> tuple[int, ...]:
        """The ids of a word as it is said; of a function word none other than its own."""
        chance = random.random() / self.share
        if not word.can or chance >= 1:
            return word.ids
        if chance < LEFT_OUT:
            return ()
        near, p = self.near.get(word.ids[0], ((), ())) if len(word.ids) == 1 else ((), ())
        return (near[int(random.choice(len(near), p=p))],) if near and not self._plain(word) else word.ids
