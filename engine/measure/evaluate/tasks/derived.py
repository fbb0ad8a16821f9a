"""Derived tasks: measurable stand-ins for what texts are, made of the rows of a file by a name before it. No model.

`coherence:essays.jsonl` is a task of the texts of that file; the model that measures it is the judge, and is named with
every figure. What each is, and is not, stands in `about`. What a text is set against (another's first half, another's
prompt) is drawn among some hundreds of rows by a seed, so that a file is read as it comes.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from likely.engine.base.errors import DataError
from likely.engine.measure.evaluate.tasks.conditional import ConditionedText, RestatedText
from likely.engine.measure.evaluate.tasks.probes import probes
from likely.engine.measure.evaluate.tasks.task_files import read
from likely.engine.measure.evaluate.tasks.tasks import (
    ODD,
    Body,
    Choices,
    Document,
    Problem,
    Question,
    Row,
    Task,
    TaskSettings,
)

T = TypeVar("T")
BLOCK = 256  # rows among which another is drawn
LEAST = 8  # words of a text that has two halves
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=\S)|\n+(?=\S)")

Entry = tuple[int, Body | str]  # a row's number, and what it is or what is odd


@dataclass(frozen=True, slots=True)
class Derivation:
    """A derived task's rows from the bodies of another's: as many, in order, unless it says otherwise."""

    about: str
    source: type[Body]
    rows: Callable[[Iterator[Entry]], Iterator[Row]]
    settings: Callable[[TaskSettings], TaskSettings] = lambda own: own
    columns: Mapping[str, str] = field(default_factory=dict)  # of the source's form, where its file does not say


def derived(kind: str, path: Path, names: Mapping[str, str] = {}) -> list[Task]:
    """The tasks `KIND:FILE`; `names` maps its columns to our keys. DataError for rows that the kind is not made of."""
    return [_derived(kind, task) for task in read(path, names=names)]


def _derived(kind: str, task: Task) -> Task:
    way = DERIVATIONS[kind]
    task = replace(task, columns=task.columns or way.columns)
    if task.form is not way.source:
        keys = ", ".join(way.source.KEYS)
        raise DataError(f"{kind} is made of rows with {keys}: {task.name} has {', '.join(task.form.KEYS)}")
    bare = task.bare

    def rows() -> Iterator[Row]:
        return way.rows(_entries(bare))

    return Task(f"{kind}:{task.name}", rows, f"{kind} 1 {task.identity}", way.settings(bare.settings), about=way.about)


def _entries(task: Task) -> Iterator[Entry]:
    for entry in task.items():
        if not isinstance(entry, Problem):
            yield entry.number, entry.body
        elif not entry.scored:
            yield entry.number, f"{entry.kind}: {entry.words}"


def partnered(values: Iterator[T | None], *, block: int = BLOCK, seed: int = 0) -> Iterator[tuple[T, T] | None]:
    """Each value with another one of its block, every one once as such; one that is alone in the last block with one of
    the block before. None stays where it is.

    DataError where there is one value alone.
    """
    chance = random.Random(seed)
    last: T | None = None
    waiting: list[T | None] = []

    def paired() -> Iterator[tuple[T, T] | None]:
        nonlocal last
        there = [value for value in waiting if value is not None]
        order = list(range(len(there)))
        for i in range(len(order) - 1, 0, -1):  # a random cycle (Sattolo 1986): none is its own partner
            j = chance.randrange(i)
            order[i], order[j] = order[j], order[i]
        if len(there) == 1 and last is None:
            raise DataError("a text is set against others: two rows that serve are wanted, there is one")
        at = 0
        for value in waiting:
            if value is None:
                yield None
                continue
            partner = there[order[at]] if len(there) > 1 else last
            assert partner is not None
            yield value, partner
            at += 1
        last = there[-1] if there else last
        waiting.clear()

    for value in values:
        waiting.append(value)
        if len(waiting) == block:
            yield from paired()
    yield from paired()


# -- what there is --------------------------------------------------------------------------------------------------


def _set_against(
    entries: Iterator[Entry], parts: Callable[[Body], tuple[str, str] | str], keys: tuple[str, ...], which: int
) -> Iterator[Row]:
    """Rows of two parts of a text, and as the third one of the parts of another text."""
    odd: list[str] = []

    def values() -> Iterator[tuple[str, str] | None]:
        for _, body in entries:
            rows = body if isinstance(body, str) else parts(body)
            if isinstance(rows, str):
                odd.append(rows)
                yield None
            else:
                yield rows

    for pair in partnered(values()):
        if pair is None:
            yield {**dict.fromkeys(keys), ODD: odd.pop(0)}
        else:
            own, other = pair
            yield dict(zip(keys, (*own, other[which]), strict=True))


def halves(text: str) -> tuple[str, str] | str:
    """A text parted near its middle, between sentences if one ends in its middle half, else between words; the second
    part begins with the space between. What is odd of one that is too short."""
    if len(text.split()) < LEAST:
        return f"unanswerable: it has fewer than {LEAST} words, and no two halves"
    middle = len(text) / 2
    cuts = [match.start() for match in SENTENCE.finditer(text) if middle / 2 < match.start() < 3 * middle / 2]
    cuts = cuts or [match.start() for match in re.finditer(r"(?<=\S)\s+(?=\S)", text)]
    cut = min(cuts, key=lambda at: abs(at - middle))
    return text[:cut], text[cut:]


def _coherence(entries: Iterator[Entry]) -> Iterator[Row]:
    def parts(body: Body) -> tuple[str, str] | str:
        assert isinstance(body, Document)
        return halves(body.text)

    return _set_against(entries, parts, ConditionedText.KEYS, 0)


def _prompt_and_answer(body: Body) -> tuple[str, str] | str:
    assert isinstance(body, Question)
    return body.prompt, body.answers[0]


def _relevance(entries: Iterator[Entry]) -> Iterator[Row]:
    return _set_against(entries, _prompt_and_answer, ConditionedText.KEYS, 0)


def _meaning(entries: Iterator[Entry]) -> Iterator[Row]:
    return _set_against(entries, _prompt_and_answer, RestatedText.KEYS, 1)


def _fluency(entries: Iterator[Entry]) -> Iterator[Row]:
    for _number, body in entries:
        assert isinstance(body, str | Document)
        yield {"text": None, ODD: body} if isinstance(body, str) else {"text": body.text}


def _probes(entries: Iterator[Entry]) -> Iterator[Row]:
    odd: dict[int, str] = {}

    def texts() -> Iterator[tuple[int, str]]:
        for number, body in entries:
            assert isinstance(body, str | Document)
            if isinstance(body, str):
                odd[number] = body
            yield number, "" if isinstance(body, str) else body.text

    for number, probe in probes(texts()):
        if isinstance(probe, str):
            yield {**dict.fromkeys(Choices.KEYS), "text": str(number), ODD: odd.pop(number, probe)}
        else:
            yield {"context": probe.context, "choices": probe.choices, "gold": probe.gold, "text": str(number)}


DERIVATIONS: dict[str, Derivation] = {
    "fluency": Derivation(
        "how expected the texts are to the judge. It does not see how good they are: clichés and repetition are the "
        "most expected texts, so read it beside distinct_n, self_bleu and mauve (--generated)",
        Document, _fluency,
    ),
    "coherence": Derivation(
        "how much less surprising a text's second half is after its own first half, beside another text's. It sees "
        "shared words and topics, not whether the one follows from the other",
        Document, _coherence, lambda own: replace(own, delimiter=""),
    ),
    "relevance": Derivation(
        "pointwise mutual information of answer and prompt, beside another row's prompt. It does not see whether an "
        "answer is right: one that repeats the prompt has much of it",
        Question, _relevance,
    ),
    "meaning": Derivation(
        "likeness of two texts by the cosine of the judge's mean-pooled last hidden states and by two-way pointwise "
        "mutual information, beside another row's paraphrase. A negation moves both but little",
        Question, _meaning, columns={"prompt": "{original}", "answer": "{paraphrase}"},
    ),
    "probes": Derivation(
        "whether a name, date or number of a text is preferred to others of its kind from other texts. It does not see "
        "whether the text is true, and what stands before may give it away; acc_mutual_info discounts what is frequent",
        Document, _probes, lambda own: replace(own, cluster="text"),
    ),
}  # fmt: skip
