"""Rows near those that are there: rewritten by a model within a distance, or changed by chance without one.

Rewriting goes through one prompt or several, one after another (there and back through another language, say). What a
row is to teach stays: of one with a prompt and an answer, the prompt is rewritten. Changes by chance are those of EDA
(Wei and Zou 2019) and noise of letters; they are the baseline that a model's rows have to beat.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from likely.engine.measure.evaluate.figures.contamination import words
from likely.engine.measure.evaluate.figures.samples import grams
from likely.engine.measure.synth import inputs
from likely.engine.measure.synth.instruct import filled
from likely.engine.measure.synth.method import LONG, RowMethod
from likely.engine.measure.synth.row import SynthRow
from likely.engine.text.rows.training_row import TrainingRow, sides

REWRITE = ("Rewrite this in other words.\n{text}\nIn other words:",)
MASK = "___"


class OfRows(RowMethod):
    """Rows made from rows, each from one."""

    @cached_property
    def rows(self) -> tuple[TrainingRow, ...]:
        return inputs.rows(self.options.data, self.options.limit, self.config.names)

    @property
    def jobs(self) -> int:
        return len(self.rows)

    @property
    def identity(self) -> str:
        return inputs.identity(self.rows)

    def changed(self, row: TrainingRow, text: str) -> dict[str, Any]:
        """The row with another text, or another prompt to the same answer."""
        asks, says = sides(row)
        return {"prompt": text, "completion": says} if asks else {"text": text}


class Rewrite(OfRows):
    """Rewritten rows, each with its distance to what it was."""

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        row, options = self.rows[job], self.options
        asks, says = sides(row)
        text = asks or says
        first, *rest = options.via or REWRITE
        drawn = self.draws.draw(
            self.draws.prompt(filled(first, {"text": text})), options.answers, self.seed(job), options.stop or ("\n\n",)
        )
        for path in drawn:
            last = path
            for phase, template in enumerate(rest, 1):
                prompt = self.draws.prompt(filled(template, {"text": last.text.strip()}))
                last = self.draws.draw(prompt, 1, self.seed(job, phase) + path.branch, options.stop or ("\n\n",))[0]
            rewritten = self.row(self.changed(row, last.text.strip()), job, path.branch, row.where, path=last)
            far = DISTANCES[options.measure](text, last.text)
            rewritten = rewritten.scored(distance=far)
            if path.finish == "length" and not rewritten.dropped:
                rewritten = rewritten.out(LONG)
            if not last.text.strip() and not rewritten.dropped:
                rewritten = rewritten.out("generate: an empty text")
            if not options.least <= far <= options.most and not rewritten.dropped:
                rewritten = rewritten.out("generate: " + ("too near" if far < options.least else "too far"))
            yield rewritten


class Augment(OfRows):
    """Rows changed by chance, without a model: words masked, dropped or swapped, letters exchanged."""

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        row, options = self.rows[job], self.options
        asks, says = sides(row)
        text = asks or says
        for branch in range(options.answers):
            kind = options.changes[branch % len(options.changes)]
            chance = random.Random(f"{self.config.seed} {job} {branch}")
            now = change(text, kind, options.rate, chance)
            rewritten = self.row(self.changed(row, now), job, branch, row.where, attributes={"change": kind})
            rewritten = rewritten.scored(distance=ngram_distance(text, now))
            yield rewritten.out("generate: nothing changed") if now == text else rewritten


def change(text: str, kind: str, rate: float, chance: random.Random) -> str:
    """A text some of whose words are masked, dropped, exchanged with the next, or have a letter exchanged."""
    text_words = text.split()
    if kind == "swap":
        for i in range(len(text_words) - 1):
            if chance.random() < rate:
                text_words[i], text_words[i + 1] = text_words[i + 1], text_words[i]
        return " ".join(text_words)
    changed_words = []
    for word in text_words:
        if chance.random() >= rate:
            changed_words.append(word)
        elif kind == "mask":
            changed_words.append(MASK)
        elif kind == "noise":
            at = chance.randrange(len(word))
            changed_words.append(word[:at] + chance.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1 :])
    return " ".join(changed_words or text_words)


def ngram_distance(a: str, b: str, n: int = 2) -> float:
    """1 minus Jaccard's index of the sets of n-grams of words, of single words where a text has no more."""
    x, y = words(a), words(b)
    n = min(n, max(1, min(len(x), len(y))))
    ours, theirs = set(grams(x, n)), set(grams(y, n))
    return 1 - len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0


def word_kl(a: str, b: str) -> float:
    """KL(b || a) of the words' frequencies in nats, each of either text's words counted half a time more."""
    x, y = Counter(words(a)), Counter(words(b))
    every = sorted(x | y)
    if not every:
        return 0.0
    p = [(y[word] + 0.5) / (y.total() + len(every) / 2) for word in every]
    q = [(x[word] + 0.5) / (x.total() + len(every) / 2) for word in every]
    return math.fsum(u * math.log(u / v) for u, v in zip(p, q, strict=True))


DISTANCES = {"ngram": ngram_distance, "kl": word_kl}
