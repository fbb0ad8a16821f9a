"""Variations of a task: the same items with typos, in other words, with their choices or examples in another order.

A variation is a task by itself, whose items have the numbers of the first one's, so that both can be set side by side;
what is drawn is drawn by a seed, the variation's number and the item's. No model.
"""

import hashlib
import random
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from likely.engine.base.errors import ParameterError
from likely.engine.measure.evaluate.tasks.conditional import ChangedContext
from likely.engine.measure.evaluate.tasks.tasks import ODD, Body, Choices, Item, Question, Row, Task, TaskSettings

KINDS = ("typos", "paraphrase", "choices", "examples")
TYPOS = 0.05  # of letters, one at least
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LETTERS = string.ascii_uppercase

NAMED = re.compile(rf" \((?:{'|'.join(KINDS)}) \d+\)$")  # behind a task's name: of which variation it is

Paraphrases = Mapping[int, Sequence[str]]  # of items by number


@dataclass(frozen=True, slots=True)
class Variation:
    """How a task is varied: of what kind, the how-manyeth, by which seed; `said` are paraphrases from elsewhere."""

    kind: str
    number: int
    seed: int = 0
    said: Paraphrases | None = None

    def chance(self, *of: object) -> random.Random:
        return random.Random(f"{self.kind} {self.seed} {self.number} {of}")


def varied(task: Task, variation: Variation) -> Task:
    """A task's variation. Choices in another order are listed under letters in the context, and the letters asked for,
    as otherwise their order is nowhere to be seen; number 0 of that kind is the order as it is.

    ParameterError for a task that has none of what is varied.
    """
    kind = variation.kind
    check(task, kind)
    vary, arrange = _WAYS[kind]
    return replace(
        task,
        name=f"{task.name} ({kind} {variation.number})",
        identity=f"{task.identity} varied 1 {kind} {variation.number} {variation.seed} {_key(variation.said)}",
        vary=None if vary is None else lambda body, row, number: vary(variation, body, row, number),
        arrange=None if arrange is None else lambda bodies: arrange(variation, bodies),
    )


def task_of(name: str) -> str:
    """The name of the task that one of this name is a variation of; of any other its own."""
    return NAMED.sub("", name)


def _key(given_texts: Paraphrases | None) -> str:
    """Equal for the same paraphrases."""
    if given_texts is None:
        return ""
    return hashlib.sha256(repr(sorted((n, tuple(texts)) for n, texts in given_texts.items())).encode()).hexdigest()


def check(task: Task, kind: str) -> None:
    """ParameterError for a kind that there is not, or that a task cannot be varied in."""
    if kind not in KINDS:
        raise ParameterError(f"there is no variation {kind}: one of {', '.join(KINDS)}")
    if task.form not in ((Choices,) if kind == "choices" else (Choices, Question)):
        of = "choices" if kind == "choices" else "choices and questions"
        raise ParameterError(f"{kind} are varied of {of}: {task.name} has {task.form.NAME}")
    if kind == "examples" and task.settings.shots < 2:
        raise ParameterError(f"{task.name} has {task.settings.shots} examples: to order them otherwise give --shots 2")


def _varied(body: Body, text: str) -> Body:
    """An item with another context or prompt."""
    if isinstance(body, Choices):
        return replace(body, context=text)
    assert isinstance(body, Question)
    return replace(body, prompt=text)


def text_of(body: Body) -> str:
    """The context or prompt of an item."""
    return body.context if isinstance(body, Choices) else body.prompt if isinstance(body, Question) else ""


def typos(text: str, chance: random.Random, rate: float = TYPOS) -> str:
    """A text with a letter in twenty, one at least, left out, doubled, changed for its neighbour on the keyboard, or
    swapped with the letter after it. One without letters is as it was."""
    letters = list(text)
    places = [i for i, c in enumerate(text) if c.isascii() and c.isalpha()]
    for i in chance.sample(places, max(1, round(rate * len(places))) if places else 0):
        own = text[i]
        how = chance.choice(("left out", "doubled", "neighbour", "swapped"))
        if how == "left out":
            letters[i] = ""
        elif how == "neighbour":
            near = _beside(own.lower())
            letters[i] = chance.choice(near.upper() if own.isupper() else near)
        elif how == "swapped" and i + 1 < len(text) and text[i + 1].isalpha() and own != text[i + 1]:
            letters[i], letters[i + 1] = text[i + 1], own
        else:
            letters[i] = own * 2
    return "".join(letters)


def _beside(letter: str) -> str:
    row = next(row for row in KEYBOARD if letter in row)
    at = row.index(letter)
    return row[max(0, at - 1) : at] + row[at + 1 : at + 2]


def order(variation: Variation, number: int, n: int) -> list[int]:
    """In which order an item's n choices stand: that of the row where the variation's number is 0."""
    return list(range(n)) if variation.number == 0 else variation.chance(number).sample(range(n), n)


def _with_typos(variation: Variation, body: Body, _: Row, number: int) -> Body | str:
    text = text_of(body)
    mistyped = typos(text, variation.chance(number))
    return _varied(body, mistyped) if mistyped != text else "unanswerable: it has no letter to mistype"


def _in_other_words(variation: Variation, body: Body, row: Row, number: int) -> Body | str:
    listed = (
        variation.said.get(number, ())
        if variation.said is not None
        else row.get("paraphrases") or row.get("paraphrase") or ()
    )
    texts = [listed] if isinstance(listed, str) else listed
    if (
        not isinstance(texts, Sequence)
        or len(texts) < variation.number
        or not isinstance(texts[variation.number - 1], str)
    ):
        return f"unanswerable: it has no paraphrase {variation.number}"
    text = texts[variation.number - 1]
    if not text.strip() or text == text_of(body):
        return f"unanswerable: paraphrase {variation.number} is no other text"
    return _varied(body, text)


def _listed(variation: Variation, body: Body, _: Row, number: int) -> Body | str:
    assert isinstance(body, Choices)
    n = len(body.choices)
    if n > len(LETTERS):
        return f"unanswerable: {n} choices are more than there are letters"
    places = order(variation, number, n)
    lines = "\n".join(f"{letter}. {body.choices[i]}" for letter, i in zip(LETTERS, places, strict=False))
    return Choices(f"{body.context}\n{lines}\nAnswer:", tuple(LETTERS[:n]), places.index(body.gold))


def _all_listed(variation: Variation, bodies: list[Body]) -> list[Body]:
    bodies_made = [_listed(variation, body, {}, -1 - i) for i, body in enumerate(bodies)]
    return [body for body in bodies_made if not isinstance(body, str)]


def _otherwise(variation: Variation, bodies: list[Body]) -> list[Body]:
    places = list(range(len(bodies)))
    chance = variation.chance()
    while places == sorted(places):
        chance.shuffle(places)
    return [bodies[i] for i in places]


_Vary = Callable[[Variation, Body, Row, int], Body | str]
_Arrange = Callable[[Variation, list[Body]], list[Body]]
_WAYS: dict[str, tuple[_Vary | None, _Arrange | None]] = {
    "typos": (_with_typos, None),
    "paraphrase": (_in_other_words, None),
    "choices": (_listed, _all_listed),
    "examples": (None, _otherwise),
}


def contexts(task: Task, other: Task) -> Task:
    """A task of two tasks' contexts, of the items that both have: how far the next-token distribution moves."""

    def rows() -> Iterator[Row]:
        others = (entry for entry in other.items() if isinstance(entry, Item))
        ahead, none = next(others, None), True
        for entry in task.items():
            while ahead is not None and ahead.number < entry.number:
                ahead = next(others, None)
            if isinstance(entry, Item) and ahead is not None and ahead.number == entry.number:
                cluster = str(entry.number) if entry.cluster is None else entry.cluster
                yield {"context": text_of(entry.body), "changed": text_of(ahead.body), "cluster": cluster}
                none = False
        if none:
            yield {**dict.fromkeys(ChangedContext.KEYS), ODD: "unanswerable: no item stands in both"}

    identity = f"contexts 1 {task.identity} {other.identity}"
    return Task(f"{other.name} contexts", rows, identity, TaskSettings(cluster="cluster"))
