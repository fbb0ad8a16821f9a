"""Expressions over named numbers: the arithmetic of a chapter, and of what a person types. Nothing else can be written.

Names, numbers, texts in quotes, + - * / **, comparisons, `and or not`, `a if b else c`, and the functions of
`FUNCTIONS`. Every number is a float, so that no power fills the memory.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from likely.engine.base.errors import DataError

Value = float | str | bool
Numbers = Mapping[str, Value]  # by name
LONGEST = 300  # characters
FUNCTIONS: dict[str, Callable[..., float]] = {
    "log2": math.log2, "log10": math.log10, "ln": math.log, "exp": math.exp, "sqrt": math.sqrt, "abs": abs,
    "min": min, "max": max, "round": lambda x, digits=0: round(x, int(digits)),
    "mean": lambda *values: math.fsum(values) / len(values),
}  # fmt: skip
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: math.pow, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
BRACES = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")  # an expression in a text, and how its number is written

FORM = re.compile(r"[+,]*(?:\.\d)?[efg%]?")


class ExpressionError(DataError):
    """A text that is no expression, or one that has no value."""


def value(text: str, numbers: Numbers) -> Value:
    """The value of an expression. ExpressionError for what is none, a name without a number, and a result that is not
    finite."""
    try:
        found: Value = _value(_parsed(text), numbers)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ExpressionError(f"{text} has no value: {error}") from None
    if isinstance(found, float) and not math.isfinite(found):
        raise ExpressionError(f"{text} has no value: it is {found}")
    return found


def names(text: str) -> set[str]:
    """The names of numbers in an expression. ExpressionError for what is none."""
    tree = _parsed(text)
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in functions}


def names_in(text: str) -> set[str]:
    """The names of numbers in the braces of a text: `{bits:.1f} bits`. ExpressionError as `names`, and for a form of
    numbers that there is not."""
    found: set[str] = set()
    for expression, form in BRACES.findall(text):
        found |= names(expression)
        if not FORM.fullmatch(form):
            raise ExpressionError(f"{form!r} is no form of a number: .1f has one digit after the point")
    if "{" in (rest := BRACES.sub("", text)) or "}" in rest:
        raise ExpressionError(f"a brace is open in {text!r}")
    return found


def parts_of(text: str, numbers: Numbers, missing: str = "–") -> list[tuple[str, bool]]:
    """A text with the values of its braces: (words, whether they are a value). `missing` stands for one that is not
    known."""
    parts, at = [], 0
    for match in BRACES.finditer(text):
        parts.append((text[at : match.start()], False))
        try:
            parts.append((written(value(match[1], numbers), match[2] or ""), True))
        except ExpressionError:
            parts.append((missing, True))
        at = match.end()
    return [part for part in (*parts, (text[at:], False)) if part[0]]


def filled(text: str, numbers: Numbers, missing: str = "–") -> str:
    """A text with the values of its braces."""
    return "".join(words for words, _ in parts_of(text, numbers, missing))


def written(found: Value, form: str = "") -> str:
    """A value as it is shown: by a form of numbers, else in three digits."""
    match found:
        case bool():
            return "yes" if found else "no"
        case str():
            return found
        case _ if form:
            return format(found, form)
        case _:
            return f"{found:,.0f}" if abs(found) >= 1000 or found == int(found) else f"{found:.3g}"


@lru_cache(512)
def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ExpressionError(f"an expression has at most {LONGEST} characters, got {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"{text!r} is no expression") from None
    for node in ast.walk(tree):
        _check(node, text)
    return tree


def _check(node: ast.AST, text: str) -> None:
    match node:
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            return
        case ast.Call():
            raise ExpressionError(f"{text!r} calls what is none of {', '.join(FUNCTIONS)}")
        case ast.Constant(value=int() | float() | str()):  # True is an int
            return
        case ast.Name() | ast.BinOp() | ast.UnaryOp() | ast.BoolOp() | ast.Compare() | ast.IfExp():
            return
        case ast.And() | ast.Or() | ast.Load():
            return
        case _ if type(node) in OPERATORS:
            return
    raise ExpressionError(f"{text!r} is no expression over numbers")


def _value(node: ast.expr, numbers: Numbers) -> Any:
    match node:
        case ast.Constant(value=bool() | str() as constant):
            return constant
        case ast.Constant(value=constant):
            return float(constant)  # type: ignore[arg-type]
        case ast.Name(id=name):
            if name not in numbers:
                raise ExpressionError(f"{name} has no number")
            found = numbers[name]
            return found if isinstance(found, bool | str) else float(found)
        case ast.BinOp(left, op, right):
            return OPERATORS[type(op)](_value(left, numbers), _value(right, numbers))
        case ast.UnaryOp(op, operand):
            return OPERATORS[type(op)](_value(operand, numbers))
        case ast.BoolOp(op, values):
            every = all if isinstance(op, ast.And) else any
            return every(bool(_value(each, numbers)) for each in values)
        case ast.IfExp(test, body, orelse):
            return _value(body if _value(test, numbers) else orelse, numbers)
        case ast.Compare(left, ops, comparators):
            sides = [_value(each, numbers) for each in (left, *comparators)]
            pairs = zip(ops, sides, sides[1:], strict=False)
            return all(OPERATORS[type(op)](a, b) for op, a, b in pairs)
        case ast.Call(func=ast.Name(id=name), args=args):
            return float(FUNCTIONS[name](*(_value(each, numbers) for each in args)))
    raise ExpressionError(f"{ast.unparse(node)} is no expression over numbers")
