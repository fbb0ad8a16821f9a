"""Wordings: questions of rows said otherwise at each step, with their answers as they are.

So an answer comes to hang on words and on what they mean, not on one sentence. Words are left out, or give way to one
that is near in the model's own table of embeddings ("price" for "cost"): random deletion and synonym replacement of
EDA (arXiv:1901.11196), without a thesaurus. What is no word stays, and so does a word that the answer repeats. A
function of the seed, the step and the row, so that a run which goes on reads what it would have read. Knows no losses.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.errors import TemplateError
from likely.engine.prompt import single_turn
from likely.engine.tokenizer.tokenizer import Tokenizer
from likely.engine.tune.samples import Pair, TrainingSample

AS_IT_IS = 0.25  # of a row's readings
LEFT_OUT = 0.375  # of the words that are not as they were; the others give way
TOLD_APART = 0.5  # share of rows whose questions differ in words that can be said otherwise
LOOKED_AT = 128  # rows, for that
WORD = re.compile(r" ?[^\W\d_]+")


@dataclass(frozen=True)
class QuestionFrame:
    """Frame of the question in rows of one question and one answer: the ids of the template before and after it."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    tokenizer: Tokenizer

    def text(self, ids: Sequence[int]) -> str:
        return b"".join(self.tokenizer.piece(t) for t in ids).decode(errors="replace")

    def words(self, sample: TrainingSample) -> Iterator[tuple[tuple[int, ...], bool]]:
        """The ids of each word of the question, and whether it can be said otherwise; nothing of another row."""
        answer = next((i for i, trained in enumerate(sample.trained) if trained), 0)
        first, end = len(self.before), answer - len(self.after)
        if first >= end or sample.ids[:first] != self.before or sample.ids[end:answer] != self.after:
            return
        if sum(b and not a for a, b in zip(sample.trained, sample.trained[1:], strict=False)) != 1:
            return
        repeated = set(re.findall(r"[^\W\d_]+", self.text(sample.ids[answer:]).lower()))
        groups: list[list[int]] = []
        for token in sample.ids[first:end]:
            goes_on = groups and not self.text([token]).startswith(" ")
            if goes_on and WORD.fullmatch(self.text([*groups[-1], token])):
                groups[-1].append(token)
            else:
                groups.append([token])
        for group in groups:
            spelled = self.text(group)
            yield tuple(group), WORD.fullmatch(spelled) is not None and spelled.strip().lower() not in repeated


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


@dataclass(frozen=True)
class Rewording:
    """Rewording of the questions of a run. `near`: for a token that is a word those that may stand for it, with their
    probabilities."""

    frame: QuestionFrame
    share: float  # of a question's words
    seed: int
    near: Mapping[int, tuple[tuple[int, ...], tuple[float, ...]]]

    def of(self, sample: TrainingSample, step: int, batch: int, row: int) -> TrainingSample:
        """The row as it is read in a batch of a step; itself where there is nothing to say otherwise."""
        random = np.random.default_rng([self.seed, step, batch, row])
        words = list(self.frame.words(sample))
        if not words or random.random() < AS_IT_IS:
            return sample
        said: list[int] = []
        for word, can in words:
            chance = random.random() / self.share
            if not can or chance >= 1:
                said += word
            elif chance >= LEFT_OUT:
                near, p = self.near.get(word[0], ((), ())) if len(word) == 1 else ((), ())
                said += (near[int(random.choice(len(near), p=p))],) if near else word
        first = len(self.frame.before)
        end = first + sum(len(word) for word, _ in words)
        if not said:
            return sample
        ids = (*sample.ids[:first], *said, *sample.ids[end:])
        return TrainingSample(ids, (*(False,) * (first + len(said)), *sample.trained[end:]), sample.where)
