"""Form of an answer: all of it matches a regular expression or a JSON schema, or it is one of several texts.

As a person writes it, and what it makes of a recipe once it is known where the answer begins (`binding`). Which law is
drawn so is said in `engine.transforms.constraint` and `engine.choices`. Knows no flag and no screen; no mlx while it is
loaded.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from likely.engine.base.concurrency.background_thread import awaited, begun
from likely.engine.base.errors import ParameterError
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import read_whole
from likely.engine.measure import choice_scores
from likely.engine.sampling.transforms import Constraint

if TYPE_CHECKING:
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.decode.session import Session
    from likely.engine.sampling.trace.step import SamplingConfig

Binding = Callable[["SamplingConfig"], "SamplingConfig"]
FORMS = {"regex": "RE", "json-schema": "FILE", "choice": "TEXT | TEXT"}  # kinds by the names of their flags
APART = "|"  # between two texts of a choice


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """One of `FORMS`: `text` is what was written, `grammar` the expression or the schema, `texts` the choices."""

    kind: str
    text: str
    grammar: str = ""
    texts: tuple[str, ...] = ()

    @classmethod
    def read(cls, kind: str, text: str) -> Self:
        """The form that a person writes: RE, FILE (or the schema itself), TEXT | TEXT. DataError for no file,
        ParameterError for what cannot be followed."""
        if kind == "choice":
            texts = tuple(part.strip() for part in text.split(APART))
            choice_scores.check(texts)
            return cls(kind, text, texts=texts)
        schema = kind == "json-schema" and not text.lstrip().startswith(("{", "true", "false"))
        form = cls(kind, text, read_whole(expanded(text)) if schema else text)
        form.constraint(0)
        return form

    def constraint(self, start: int, after: str = "") -> Constraint:
        """The grammar that binds what comes behind `start` tokens, and behind a thought that the mark `after` ends.
        Of choices it is their pattern: what masks tokens, not the law of whole texts (`engine.choices`)."""
        if self.texts:
            return Constraint("regex", pattern(self.texts), start, after)
        return Constraint("json" if self.kind == "json-schema" else self.kind, self.grammar, start, after)

    def check(self, recipe: "SamplingConfig") -> None:
        """ParameterError for a transform that has no meaning where whole texts are drawn."""
        if self.texts:
            choice_scores.check(self.texts, recipe.transforms)


def binding(
    session: "Session", ids: Sequence[int], form: AnswerForm, strategy: "Strategy", own: int = 0, after: str = ""
) -> Generator[int | None, None, Binding]:
    """The binding of recipes to a form, for an answer of whose tokens the last `own` of `ids` are the first; in pieces,
    None while another thread works. `after` is the mark that ends a thought, where one comes first.

    ParameterError where these begin no such answer, and for a strategy that cannot follow it.
    """
    start = len(ids) - own
    if form.texts and not after:
        yield from session.read(ids[:start])
        among = yield from choice_scores.scoring(session, ids[:start], form.texts)
        if not any(choice.tokens[:own] == tuple(ids[start:]) for choice in among):
            raise _left(form)
        return lambda recipe: choice_scores.bound(among, recipe, strategy, start)
    constraint = form.constraint(start, after)
    begins = yield from awaited(begun(lambda: constraint.init(session.tokenizer, ids, np)))
    if begins.matcher is None:
        raise _left(form)
    return lambda recipe: replace(recipe, transforms=(constraint, *recipe.transforms))


def pattern(texts: Sequence[str]) -> str:
    """The regular expression that these texts alone match."""
    return "|".join("".join(f"\\{c}" if c in r"\.+*?()|[]{}^$#&-~" else c for c in text) for text in texts)


def _left(form: AnswerForm) -> ParameterError:
    return ParameterError(f"what the answer begins with is none of {form.kind} {form.text}: draw it anew, or lift that")
