"""Tasks: where items come from, their form, and how they are asked and judged. Plain data, no model.

Rows have the keys of one of the forms or are rows to train on, or a task says how to make a form of their columns
(`engine.evaluate.task_files` reads them). What is wrong with a row becomes a `Problem` beside the items: listed and
counted, so that a score always says of how many rows it is.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any, ClassVar, Self

from likely.engine.base.errors import DataError
from likely.engine.base.files.foreign_json import parse
from likely.engine.measure.evaluate.tasks.conditional import ChangedContext, ConditionedText, JudgedPair, RestatedText
from likely.engine.measure.evaluate.tasks.tool_questions import ToolQuestion
from likely.engine.text.rows.training_row import FORMS as LEARNED
from likely.engine.text.rows.training_row import RowFault, form_of, sides
from likely.engine.text.rows.training_row import parse as parse_row

Row = Mapping[str, Any]
ODD = "likely: odd"  # the key by which a row that is made says what is wrong with it, as "kind: words"


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two texts, of which the first should be the more likely."""

    good: str
    bad: str

    NAME: ClassVar[str] = "pairs"
    KEYS: ClassVar[tuple[str, ...]] = ("good", "bad")


@dataclass(frozen=True, slots=True)
class Choices:
    """A beginning, and the ways to go on, of which one is right."""

    context: str
    choices: tuple[str, ...]
    gold: int

    NAME: ClassVar[str] = "choices"
    KEYS: ClassVar[tuple[str, ...]] = ("context", "choices", "gold")


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt whose answer is drawn and judged; any of `answers` is right. `row` is for a program that judges."""

    prompt: str
    answers: tuple[str, ...]
    row: Row = field(default_factory=dict)

    NAME: ClassVar[str] = "questions"
    KEYS: ClassVar[tuple[str, ...]] = ("prompt", "answer")


@dataclass(frozen=True, slots=True)
class Document:
    """A text, of which every token is scored."""

    text: str

    NAME: ClassVar[str] = "documents"
    KEYS: ClassVar[tuple[str, ...]] = ("text",)


@dataclass(frozen=True, slots=True)
class KnownDistribution:
    """A beginning, and the true probability of each way to go on: none begins another, and they sum to 1."""

    context: str
    law: tuple[tuple[str, float], ...]

    NAME: ClassVar[str] = "laws"
    KEYS: ClassVar[tuple[str, ...]] = ("context", "law")


Body = (
    MinimalPair
    | Choices
    | ToolQuestion
    | Question
    | JudgedPair
    | ConditionedText
    | RestatedText
    | ChangedContext
    | Document
    | KnownDistribution
)
FORMS: tuple[type[Body], ...] = (
    MinimalPair, Choices, ToolQuestion, Question, JudgedPair, ConditionedText, RestatedText, ChangedContext, Document,
    KnownDistribution,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a task, ready to be asked."""

    number: int  # of the row, from 0
    body: Body
    cluster: str | None = None  # items of one name are not independent


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that is not like the others, and whether it is scored nevertheless."""

    number: int
    kind: str  # duplicate | empty | unanswerable | too long | boundary | example | verifier
    words: str
    scored: bool = False

    @classmethod
    def too_long(cls, number: int, tokens: int, most: int, text: str = "") -> Self:
        """Of a row, or of a `text` of it, that has more tokens than the model reads."""
        return cls(number, "too long", f"{text and text + ' '}has {tokens} tokens, the model reads at most {most}")


@dataclass(frozen=True, slots=True)
class Result:
    """Result of an item: numbers by measure, and what else is worth keeping of it."""

    number: int
    cluster: str | None
    values: Mapping[str, float]
    detail: Mapping[str, Any] = field(default_factory=dict)


Outcome = Result | Problem


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """The lines of a task's TOML file beside its columns."""

    shots: int = 0  # examples before each question
    separator: str = "\n\n"  # between them
    delimiter: str = " "  # between a context and a choice
    scorers: tuple[str, ...] = ()  # of answers; () for those that fit
    pattern: str = ""  # what of an answer counts: a regular expression, its first group if it has one, the last match
    program: tuple[str, ...] = ()  # judges an answer: see `engine.evaluate.verifiers`
    seconds: float = 10.0  # after which it hangs
    max_tokens: int = 256
    stop: tuple[str, ...] = ("\n\n",)
    cluster: str = ""  # the column that names the cluster
    judge: str = ""  # what a judge of pairs is asked, with {prompt}, {first} and {second}; "" for our own words


COLUMNS = tuple(dict.fromkeys(key for form in FORMS for key in form.KEYS))


@dataclass(frozen=True)
class Task:
    """Items by a name. `identity` changes with whatever would change a score; `entropy` is the law's own, in nats a
    symbol, where it is known."""

    name: str
    rows: Callable[[], Iterator[Row]]
    identity: str
    settings: TaskSettings = TaskSettings()
    columns: Mapping[str, Any] = field(default_factory=dict)  # key of a form -> template over the columns of a row
    examples: Callable[[], Iterator[Row]] | None = None
    entropy: float | None = None
    about: str = ""  # what its measures are, and are not
    vary: Callable[[Body, Row, int], Body | str] | None = None  # an item, its row and number -> another, or what is odd
    arrange: Callable[[list[Body]], list[Body]] | None = None  # the examples

    @property
    def aside(self) -> int:
        """Rows at the beginning that are examples and not asked."""
        return 0 if self.examples else self.settings.shots

    @property
    def bare(self) -> "Task":
        """Every row as an item, without the examples before it."""
        return replace(self, settings=replace(self.settings, shots=0))

    def items(self, limit: int | None = None) -> Iterator[Item | Problem]:
        """Every row as an item or a problem, or both, in order, the first `limit` after the examples; DataError for
        rows of no form."""
        first, shots, form = self._examples()
        before: set[bytes] = set()
        for number, row in enumerate(islice(self._rows(), None if limit is None else first + limit)):
            if number < first:
                yield Problem(number, "example", "shown before the others, not asked")
                continue
            body = self._body(row, number, form)
            if isinstance(body, Problem):
                yield body
                continue
            digest = hashlib.blake2b(repr(body).encode("utf-8", "replace"), digest_size=8).digest()
            if digest in before:
                yield Problem(number, "duplicate", "equal to a row before it", scored=True)
            before.add(digest)
            varied = self.vary(body, row, number) if self.vary is not None else body
            if isinstance(varied, str):
                yield _odd(number, varied)
                continue
            yield Item(number, _after(shots, varied, self.settings), self._cluster(row))

    @property
    def form(self) -> type[Body]:
        """Of its first row; DataError where there is none."""
        for row in self._rows():
            return self._form(row, 0)
        raise DataError(f"{self.name} has no rows: expected at least one")

    def _rows(self, source: Callable[[], Iterator[Row]] | None = None) -> Iterator[Row]:
        """The rows, or those of `source`, with the keys of a form."""
        own = (source or self.rows)()
        return own if self.columns else map(of_training, own)

    def _examples(self) -> tuple[int, list[Body], type[Body]]:
        """How many rows are set aside, the examples, and the form."""
        form, wanted = self.form, self.settings.shots
        if not wanted:
            return 0, [], form
        parsed = [self._body(row, number, form) for number, row in enumerate(islice(self._rows(self.examples), wanted))]
        bodies = [body for body in parsed if not isinstance(body, Problem)]
        if len(bodies) < wanted:
            raise DataError(
                f"{self.name}: {wanted} examples are wanted, {len(bodies)} of the first {wanted} rows serve"
            )
        if form not in (Choices, Question):
            raise DataError(f"{self.name}: examples go before choices and questions, not before {form.NAME}")
        return self.aside, self.arrange(bodies) if self.arrange is not None else bodies, form

    def _cluster(self, row: Row) -> str | None:
        if not self.settings.cluster:
            return None
        if self.settings.cluster not in row:
            raise DataError(f"{self.name}: there is no column {self.settings.cluster!r} in {_keys(row)}")
        return str(row[self.settings.cluster])

    def _form(self, row: Row, number: int) -> type[Body]:
        keys = self.columns or row
        for form in FORMS:
            if all(key in keys for key in form.KEYS):
                return form
        wanted = "; ".join(", ".join(form.KEYS) for form in FORMS)
        learned = "; ".join(map(", ".join, LEARNED))
        raise DataError(
            f"{self.name}, row {number + 1}: expected the keys of one form ({wanted}), or of a row to train on "
            f"({learned}), got {_keys(keys)}"
        )

    def _body(self, row: Row, number: int, form: type[Body]) -> Body | Problem:
        if ODD in row:
            return _odd(number, str(row[ODD]))
        if not self.columns and (missing := [key for key in form.KEYS if key not in row]):
            return Problem(number, "unanswerable", f"lacks {', '.join(missing)}, which the first row has")
        values = {key: _value(row, self.columns.get(key), key, self.name, number) for key in form.KEYS}
        body = _MAKERS[form](values, row)
        return _odd(number, body) if isinstance(body, str) else body


def is_training(row: Row) -> bool | None:
    """Whether a row is one to train on, a question or a text as well; False of any other form, None of no form."""
    own = next((form for form in FORMS if all(key in row for key in form.KEYS)), None)
    if own in (None, Question, Document) and form_of(row) is not None:
        return True
    return None if own is None else False


def of_training(row: Row) -> Row:
    """A row to train on with the keys of a form beside its own: what is asked and what is learned of it as a question,
    a preference as choices or as a pair. Other rows are as they were."""
    if any(all(key in row for key in form.KEYS) for form in FORMS if form is not Document):
        return row
    if (keys := form_of(row)) is None or keys == Document.KEYS:
        return row
    try:
        parsed = parse_row(row, "")
    except RowFault as fault:
        form = MinimalPair if LEARNED[keys] == "preference" else Question
        return {**row, **dict.fromkeys(form.KEYS, ""), ODD: f"unanswerable: {fault.words}"}
    asks, says = sides(parsed)
    if parsed.form != "preference":
        return {**row, "prompt": asks, "answer": row["answer"] if parsed.form == "question" else says}
    other = sides(replace(parsed, messages=parsed.rejected))[1]
    made = {"context": asks, "choices": [says, other], "gold": 0} if asks else {"good": says, "bad": other}
    return {**row, **made}


def _odd(number: int, trouble: str) -> Problem:
    kind, _, words = trouble.partition(": ")
    return Problem(number, kind, words)


def _keys(row: Row) -> str:
    return ", ".join(map(str, row)) or "nothing"


def _value(row: Row, template: Any, key: str, task: str, number: int) -> Any:
    """The value of a form's key: the row's own, or what a template makes of its columns."""
    if template is None:
        return row.get(key)
    if isinstance(template, list):
        return [_value(row, part, key, task, number) for part in template]

    def column(name: str) -> Any:
        if name not in row:
            raise DataError(f"{task}, row {number + 1}: no column {name!r} for {key}, only {_keys(row)}")
        return row[name]

    if re.fullmatch(r"\w+", template) and key in ("choices", "gold", "law"):
        return column(template)
    if alone := re.fullmatch(r"\{(\w+)\}", template):
        return column(alone[1])
    return re.sub(r"\{(\w+)\}", lambda match: str(column(match[1])), template)


def _pair(values: Row, _: Row) -> MinimalPair | str:
    good, bad = values["good"], values["bad"]
    if not all(isinstance(text, str) and text.strip() for text in (good, bad)):
        return "empty: good and bad must be texts"
    return "unanswerable: good and bad are the same text" if good == bad else MinimalPair(good, bad)


def _choices(values: Row, _: Row) -> Choices | str:
    context, choices, gold = values["context"], values["choices"], values["gold"]
    if isinstance(choices, str):
        choices = _listed(choices)
    if not isinstance(context, str) or not isinstance(choices, Sequence) or not choices:
        return "empty: context must be a text and choices a list of texts"
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return "empty: a choice is empty, or no text"
    if len(choices) < 2:
        return "unanswerable: there is one choice"
    index = _gold(gold, choices)
    if index is None:
        return f"unanswerable: gold must be one of the choices or its number from 0, got {gold!r}"
    return Choices(context, tuple(choices), index)


def _gold(gold: Any, choices: Sequence[str]) -> int | None:
    if isinstance(gold, str):
        if gold in choices:
            return choices.index(gold)
        if re.fullmatch(r"[A-Z]", gold):
            gold = ord(gold) - ord("A")
        elif re.fullmatch(r"\d{1,9}", gold.strip()):
            gold = int(gold)
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        return None
    return gold


def _question(values: Row, row: Row) -> Question | str:
    prompt, answer = values["prompt"], values["answer"]
    answers = answer if isinstance(answer, list) else [answer]
    if not isinstance(prompt, str) or not prompt.strip():
        return "empty: prompt must be a text"
    if not answers or any(a is None or isinstance(a, dict | list) or not str(a).strip() for a in answers):
        return "unanswerable: there is no answer to compare with"
    return Question(prompt, tuple(map(str, answers)), dict(row))


def _document(values: Row, _: Row) -> Document | str:
    text = values["text"]
    return Document(text) if isinstance(text, str) and text else "empty: text must be a text"


def _law(values: Row, _: Row) -> KnownDistribution | str:
    context, law = values["context"], values["law"]
    if not isinstance(context, str) or not isinstance(law, dict) or not law or "" in law:
        return "empty: context must be a text, and law an object of texts and their probabilities"
    if not all(isinstance(p, int | float) and not isinstance(p, bool) and 0 < p <= 1 for p in law.values()):
        return "unanswerable: each probability of a law must be above 0 and at most 1"
    if abs(math.fsum(law.values()) - 1) > 1e-6:
        return f"unanswerable: a law's probabilities must sum to 1, got {math.fsum(law.values()):.6g}"
    if twice := next((a for a, b in pairwise(sorted(law)) if b.startswith(a)), None):
        return f"unanswerable: {twice!r} begins another text of the law"
    return KnownDistribution(context, tuple((text, float(p)) for text, p in law.items()))


_MAKERS: dict[type[Body], Callable[[Row, Row], Body | str]] = {
    MinimalPair: _pair, Choices: _choices, Question: _question, Document: _document, KnownDistribution: _law,
    **{form: form.of for form in (ToolQuestion, JudgedPair, ConditionedText, RestatedText, ChangedContext)},
}  # fmt: skip


def _listed(text: str) -> list[str]:
    """Choices in one cell of a table: a JSON list, or parted by |."""
    try:
        value = parse(text)
    except ValueError:
        value = None
    return value if isinstance(value, list) else text.split("|")


def _after(shots: Sequence[Body], body: Body, settings: TaskSettings) -> Body:
    """The item with the examples before it, each with its answer."""
    if not shots:
        return body
    shown = []
    for shot in shots:
        if isinstance(shot, Choices):
            shown.append(f"{shot.context}{settings.delimiter}{shot.choices[shot.gold]}")
        elif isinstance(shot, Question):
            shown.append(f"{shot.prompt}{settings.delimiter}{shot.answers[0]}")
    before = "".join(f"{text}{settings.separator}" for text in shown)
    if isinstance(body, Choices):
        return replace(body, context=before + body.context)
    assert isinstance(body, Question)
    return replace(body, prompt=before + body.prompt)
