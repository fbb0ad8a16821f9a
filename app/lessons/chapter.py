"""`Chapter`: one lesson as data, read from one TOML file: a sentence, its formula, what to predict, to do, to check.

    number = 2                     # its place in the course
    title = "next token"
    part = "the object"            # heading in the list of chapters
    minutes = 12
    sentence = "A text costs the sum of the bits of its words."
    formula = ["−log₂ p(x) = Σ −log₂ p(x_i | x_<i)", "= {bits:.1f} bits for {tokens:.0f} tokens"]
    view = "text"                  # of `app.lessons.lesson_views`
    state = {text = "The cat sat on the mat"}
    numbers = {given = 0.125}      # of the chapter's own
    otherwise = "Bits are reckoned without it."    # what can be done where the model lacks what the view measures

    [predict]                      # asked before anything is shown
    question = "Which word will be dearest?"
    answer = "dearest"             # an expression: of numbers of the view and of the chapter
    shown = "{dearest} {dearest_bits:.1f} bits"
    why = "Early words have little before them."    # where the guess was wrong

    [do]                           # one key on the program
    key = "t"
    task = "Type it with a typo."
    done = "text != was_text"      # was_: the number when the task began

    [[check]]                      # a number worked by hand, one or more
    question = "12.5 %: how many bits?"
    answer = "-log2(given)"
    unit = "bits"
    steps = ["−log₂ 0.125 = −log₂ 2⁻³", "= 3"]      # where the answer was wrong

    [[yours]]                      # what the last page has of it
    formula = "−log₂ p(x)"
    value = "{bits:.1f} bits"

Braces hold an expression and how its number is written. Errors are one line: the file, and what is wrong in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from likely.app.lessons.expression import ExpressionError, Value, names, names_in
from likely.app.lessons.lesson_views import LESSON_VIEWS
from likely.app.words.heat import visible
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.options import read_toml, typed, unknown

WAS = "was_"  # before a number's name: as it was when the task began
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question that is asked before anything is shown."""

    question: str
    answer: str
    shown: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Exercise:
    """One key on the program; `done` is an expression that says when, "" for whenever a person says so."""

    task: str
    key: str = ""
    done: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True)
class CheckQuestion:
    """A number worked by hand, or a word."""

    question: str
    answer: str
    unit: str = ""
    steps: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Yours:
    """A line of the last page: a formula, and a person's own numbers in it."""

    formula: str
    value: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One lesson. `numbers` are its own, `state` is how its view begins."""

    number: int
    title: str
    sentence: str
    formula: tuple[str, ...]
    view: str
    predict: Prediction
    do: Exercise
    check: tuple[CheckQuestion, ...]
    part: str = ""
    minutes: int = 10
    otherwise: str = ""
    state: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Value] = field(default_factory=dict)
    yours: tuple[Yours, ...] = ()


PARTS: dict[str, type[Any]] = {"predict": Prediction, "do": Exercise}
LISTS: dict[str, type[Any]] = {"check": CheckQuestion, "yours": Yours}


def read(path: Path) -> Chapter:
    """The chapter of a file. DataError with the file and one line for what is no TOML, a key that is missing, unknown
    or of another type, a view that there is not, and an expression with a name that has no number."""
    table = read_toml(path)
    try:
        values = dict(table)
        for name, kind in PARTS.items():
            if name in values:
                values[name] = _filled(kind, values[name], f"[{name}]")
        for name, kind in LISTS.items():
            if name in values:
                values[name] = tuple(_filled(kind, each, f"[[{name}]]") for each in _list(name, values[name]))
        chapter = _filled(Chapter, values, "the chapter", ready={*PARTS, *LISTS})
        _verify(chapter)
        chapter = replace(chapter, state=_with_files(chapter, path.parent))
    except (ParameterError, ExpressionError) as error:
        raise DataError(f"{path}: {error}") from None
    return chapter


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ParameterError(f"{name} must be one or more tables [[{name}]], got {value!r}")
    return value


def _filled(kind: type[T], table: Any, where: str, ready: set[str] | None = None) -> T:
    """A dataclass from a table; `ready` are keys that hold what is read already."""
    if not isinstance(table, dict):
        raise ParameterError(f"{where} must be a table of keys, got {table!r}")
    hints, known = get_type_hints(kind), {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    for name in table:
        if name not in known:
            raise ParameterError(f"{where}: {unknown(name, known)}")
    for name, each in known.items():
        if name not in table and each.default is MISSING and each.default_factory is MISSING:
            raise ParameterError(f"{where} lacks the key {name}")
    values = {}
    for name, value in table.items():
        if ready is not None and name in ready:
            values[name] = value
        elif get_origin(hints[name]) is Mapping:
            values[name] = _flat(f"{where} {name}", value)
        else:
            values[name] = typed(f"{where} {name}", value, hints[name])
            _refuse_signs(f"{where} {name}", values[name])
    return kind(**values)


def _refuse_signs(name: str, value: Any) -> None:
    """ParameterError for signs that move a terminal, in a text or in one of several."""
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and visible(text) != text:
            raise ParameterError(f"{name} must have no control characters, got {text!r}")


def _flat(name: str, table: Any) -> dict[str, Value]:
    if not isinstance(table, dict):
        raise ParameterError(f"{name} must be a table, got {table!r}")
    for key, value in table.items():
        if not isinstance(value, str | int | float):
            raise ParameterError(f"{name}.{key} must be a number or a text, got {value!r}")
        _refuse_signs(f"{name}.{key}", value)
    return {key: value if isinstance(value, str | bool) else float(value) for key, value in table.items()}


def _with_files(chapter: Chapter, folder: Path) -> Mapping[str, str]:
    """The state, its files as paths. ParameterError for one that is not there."""
    state = dict(chapter.state)
    for key in LESSON_VIEWS[chapter.view].files:
        if key in state and not (folder / state[key]).is_file():
            raise ParameterError(f"state.{key}: {folder / state[key]} is not there")
        if key in state:
            state[key] = str(folder / state[key])
    return state


def _verify(chapter: Chapter) -> None:
    """That all names have numbers, and the view is there and takes the state."""
    if chapter.view not in LESSON_VIEWS:
        raise ParameterError(f"view must be one of {', '.join(LESSON_VIEWS)}, got {chapter.view!r}")
    view = LESSON_VIEWS[chapter.view]
    for key, begins in chapter.state.items():
        if key not in view.state:
            there = ", ".join(view.state) or "none"
            raise ParameterError(f"state.{key} is none of the view {chapter.view}: it takes {there}")
        if not isinstance(begins, str):
            raise ParameterError(f"state.{key} must be text, got {begins!r}")
    if chapter.number < 1:
        raise ParameterError(f"number must be 1 or more, got {chapter.number}")
    if not (chapter.formula and chapter.check):
        raise ParameterError("formula and [[check]] must have a line at least")
    known = {*view.numbers, *chapter.numbers}
    has = ", ".join(view.numbers)
    for where, text, reader in _expressions(chapter):
        try:
            used = reader(text)
        except ExpressionError as error:
            raise ParameterError(f"{where}: {error}") from None
        lacking = used - known - ({WAS + name for name in known} if where == "do.done" else set())
        if lacking:
            raise ParameterError(f"{where}: {min(lacking)} has no number; the view {chapter.view} has {has}")


Reader = Callable[[str], set[str]]


def _expressions(chapter: Chapter) -> list[tuple[str, str, Reader]]:
    """Where an expression stands, itself, and how its names are found."""
    predict, do = chapter.predict, chapter.do
    found: list[tuple[str, str, Reader]] = [("predict.answer", predict.answer, names)]
    if do.done:
        found.append(("do.done", do.done, names))
    found += [("check.answer", check.answer, names) for check in chapter.check]
    texts = [("formula", line) for line in chapter.formula]
    texts += [(f"predict.{key}", text) for key, text in _texts(predict).items() if key != "answer"]
    texts += [(f"do.{key}", text) for key, text in _texts(do).items() if key not in ("done", "key")]
    for check in chapter.check:
        texts += [("check.question", check.question), ("check.hint", check.hint)]
        texts += [("check.steps", step) for step in check.steps]
    texts += [("yours.value", each.value) for each in chapter.yours]
    return [*found, *((where, text, names_in) for where, text in texts)]


def _texts(part: Any) -> dict[str, str]:
    return {each.name: getattr(part, each.name) for each in fields(part)}
