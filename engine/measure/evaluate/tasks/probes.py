"""Factual probes: names, dates and numbers of texts as questions with others of their kind to choose from. No model.

Found by their form alone: a name is a run of capitalised words that does not begin a sentence, so it is one of a
language that writes names so.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BLOCK = 256  # texts whose entities are each other's distractors
EACH = 4  # probes of one text at most
CHOICES = 4
BEFORE = 5  # words that stand before a probe at least

NAMED = "January|February|March|April|May|June|July|August|September|October|November|December"
KINDS = {
    "date": re.compile(rf"\b\d{{1,2}} (?:{NAMED})(?: \d{{4}})?\b|\b(?:{NAMED}) \d{{1,4}}(?:, \d{{4}})?\b"),
    "year": re.compile(r"(?<![\w.,-])(?:1\d|20)\d\d(?![\w-]|[.,]\d)"),
    "number": re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w-])"),
    "name": re.compile(r"(?<=[^.!?:\"“(\s] )[A-Z][\w'-]+(?: (?:of |the |de |van |von )?[A-Z][\w'-]+)*"),
}


@dataclass(frozen=True, slots=True)
class Probe:
    """A question: what stands before an entity, and it among others of its kind."""

    context: str
    choices: tuple[str, ...]
    gold: int
    kind: str  # name | date | year | number


@dataclass(frozen=True, slots=True)
class Entity:
    """A name, date or number where it stands in a text."""

    kind: str
    words: str
    start: int


def entities(text: str) -> list[Entity]:
    """In order; each is of the first kind that it has the form of."""
    entities_found: list[Entity] = []
    spans: list[tuple[int, int]] = []
    for kind, form in KINDS.items():
        for match in form.finditer(text):
            low, high = match.span()
            if match[0] == "I" or any(low < b and a < high for a, b in spans):
                continue
            spans.append((low, high))
            entities_found.append(Entity(kind, match[0], low))
    return sorted(entities_found, key=lambda entity: entity.start)


def probes(texts: Iterator[tuple[int, str]], *, seed: int = 0) -> Iterator[tuple[int, Probe | str]]:
    """Each text's number with its probes, `EACH` at most, or with what is odd where there is none.

    Distractors are entities of one kind from other texts of the same block that do not stand in this one.
    """
    chance = random.Random(seed)
    waiting: list[tuple[int, str]] = []
    for numbered in texts:
        waiting.append(numbered)
        if len(waiting) == BLOCK:
            yield from _block(waiting, chance)
            waiting.clear()
    yield from _block(waiting, chance)


def _block(texts: Sequence[tuple[int, str]], chance: random.Random) -> Iterator[tuple[int, Probe | str]]:
    by_text = [entities(text) for _, text in texts]
    there = {kind: sorted({entity.words for row in by_text for entity in row if entity.kind == kind}) for kind in KINDS}
    for (number, text), row in zip(texts, by_text, strict=True):
        items: list[Probe] = []
        for entity in chance.sample(row, len(row)):
            before = text[: entity.start].rstrip()
            others = [words for words in there[entity.kind] if words not in text]
            parted = text[: entity.start] != before  # the choice stands after a space, as it does in the text
            if not parted or len(before.split()) < BEFORE or len(others) < CHOICES - 1:
                continue
            choices = chance.sample([entity.words, *chance.sample(others, CHOICES - 1)], CHOICES)
            items.append(Probe(before, tuple(choices), choices.index(entity.words), entity.kind))
            if len(items) == EACH:
                break
        if not items:
            yield number, "unanswerable: there is no name, date or number in it that others of its kind stand beside"
        yield from ((number, probe) for probe in items)
