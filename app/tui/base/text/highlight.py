"""Syntax of code as faces, line by line while it streams, by the lexers of Pygments.

A lexer goes on from the last line at which one of its tokens began, with the stack that it had there, so a line costs
itself and not all of the code before it. Lexers that are no state machines begin anew at every line.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from likely.app.tui.base.text.text_style import COMMENT, KEYWORD, NAME, NUMBER, STRING


class LexerState(NamedTuple):
    """Where to go on: a character of the text, and the lexer's stack there."""

    at: int
    stack: tuple[str, ...] = ("root",)


class Highlight:
    """The faces of a language's words."""

    def __init__(self, language: str) -> None:
        """A language that is not known has no faces."""
        self._lexer = _lexer(language.lower())

    def line(self, text: str, state: LexerState, start: int, end: int) -> tuple[list[tuple[int, int, int]], LexerState]:
        """The faces of `text` from `start` to `end`, as (start, end, face), and where to go on after that."""
        faces: list[tuple[int, int, int]] = []
        if self._lexer is None:
            return faces, LexerState(end)
        began = state.at
        for at, face, size, stack in self._read(text[began:end], state.stack):
            at += began
            if stack is not None and text[at - 1 : at] == "\n":
                state = LexerState(at, stack)
            if at + size > start and face:
                faces.append((max(at, start), min(at + size, end), face))
        return faces, state

    def _read(self, text: str, stack: tuple[str, ...]) -> Iterator[tuple[int, int, int, tuple[str, ...] | None]]:
        """Tokens as (start, face, size), with the stack before each where there is one."""
        resumable, lexer = self._lexer
        if not resumable:
            for at, kind, value in lexer.get_tokens_unprocessed(text):
                yield at, _face(kind), len(value), ("root",)
            return
        from pygments.lexer import LexerContext

        context = LexerContext(text, 0, list(stack))
        for at, kind, value in lexer.get_tokens_unprocessed(context=context):
            yield at, _face(kind), len(value), tuple(context.stack)


@lru_cache
def _lexer(language: str) -> Any:
    """Whether a language's lexer can go on from a stack, and the lexer; None for an unknown language."""
    from pygments.lexer import ExtendedRegexLexer, RegexLexer
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return None
    kind = type(lexer)
    if not isinstance(lexer, RegexLexer) or isinstance(lexer, ExtendedRegexLexer):
        return False, lexer
    # the loop that every such lexer inherits, in the form that works on a stack of its own, which can be kept
    return True, type(f"Resumed{kind.__name__}", (kind,), {"get_tokens_unprocessed": _resumed})()


def _resumed(self: Any, text: str = "", stack: Sequence[str] = ("root",), context: Any = None) -> Iterator[Any]:
    from pygments.lexer import ExtendedRegexLexer, LexerContext

    context = context or LexerContext(text, 0, list(stack))
    yield from ExtendedRegexLexer.get_tokens_unprocessed(self, context=context)


@lru_cache(256)
def _face(kind: Any) -> int:
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    for group, face in (
        (Comment, COMMENT), (String, STRING), (Number, NUMBER), (Keyword, KEYWORD), (Operator.Word, KEYWORD),
        (Name.Function, NAME), (Name.Class, NAME), (Name.Tag, NAME), (Name.Decorator, NAME),
    ):  # fmt: skip
        if kind in group:
            return face
    return 0
