"""Reader of JSON that strangers wrote: bounds of size, depth and digits, and types by a schema, in one line of error.

A schema is a type (`int`, `float` of any finite number, `str`, `bool`, `dict`, `list`, None for null, `object` for
anything), a tuple of alternatives, `[S]` for a list of S, `{str: S}` for an object whose values are S, or
`{"name": S, "other?": S}` for one with these keys, of which those with a `?` may be missing; other keys are nobody's
business here. Knows no file format and none of what the values mean.
"""

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

from likely.engine.base.errors import DataError, LikelyError
from likely.engine.base.files.whole_file import read_whole, refuse_pipe

LARGEST = 1 << 25  # characters of one value, which may take twenty times as much memory
DEPTH = 64  # lists and objects inside each other: published files have less than ten
DIGITS = 20  # of a whole number: 2^64 has as many
NAMED: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    None: "nothing",
    NoneType: "nothing",
}

Schema = Any  # as above


def read(
    path: Path,
    schema: Schema = dict,
    *,
    error: type[LikelyError] = DataError,
    largest: int = LARGEST,
    digits: int = DIGITS,
) -> Any:
    """The value in a file of UTF-8; `error` with the path where it cannot be read, is no JSON, or not by the schema."""
    try:
        refuse_pipe(path)
        return parse(read_whole(path, largest=largest), schema, largest=largest, digits=digits)
    except DataError as problem:
        raise error(str(problem)) from problem.__cause__
    except ValueError as problem:
        raise error(f"cannot read {path}: {problem}") from problem


def parse(text: str | bytes, schema: Schema = object, *, largest: int = LARGEST, digits: int = DIGITS) -> Any:
    """The value that a text spells; ValueError, of one line, where it spells none, and as `check` does.

    A `json.JSONDecodeError` says where the text is no JSON. `digits` are the most that a whole number may have.
    """
    if len(text) > largest:
        raise ValueError(f"it has more than {largest / 1e6:,.0f} MB")
    try:
        value = json.loads(text, parse_int=partial(_integer, most=digits))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"UTF-8 expected: {error.reason} at byte {error.start}") from None
    check_depth(value)
    return check(value, schema)


def check_depth(value: Any) -> None:
    """ValueError where lists and objects are nested deeper than DEPTH."""
    inside, depth = [value], 0
    while inside := [
        item
        for container in inside
        for item in (container.values() if type(container) is dict else container if type(container) is list else ())
        if type(item) in (dict, list)
    ]:
        depth += 1
        if depth >= DEPTH:
            raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"it is nested deeper than {DEPTH} lists and objects"


def _integer(digits: str, most: int) -> int:
    if len(digits) > most:
        raise ValueError(f"a whole number has at most {most} digits, got one of {len(digits):,}")
    return int(digits)


def check(value: Any, schema: Schema, where: str = "") -> Any:
    """The value, if it is as the schema says; else ValueError: where, what was expected, what came."""
    if isinstance(schema, tuple):
        if not any(_fits(value, kind) for kind in schema):
            raise ValueError(f"{_at(where)}{' or '.join(map(_named, schema))} expected, got {shown(value)}")
        schema = next(kind for kind in schema if _fits(value, kind))
    if not _fits(value, schema):
        raise ValueError(f"{_at(where)}{_named(schema)} expected, got {shown(value)}")
    if isinstance(schema, list):
        for i, item in enumerate(value):
            check(item, schema[0], f"{where}[{i}]")
    elif isinstance(schema, Mapping):
        for name, kind in schema.items():
            if name is str:
                for key, item in value.items():
                    check(item, kind, f"{where}.{key[:40]}" if where else key[:40])
                continue
            key = name.removesuffix("?")
            inside = f"{where}.{key}" if where else key
            if key in value:
                check(value[key], kind, inside)
            elif key == name:
                raise ValueError(f"{inside} is missing")
    return value


def _fits(value: Any, kind: Schema) -> bool:
    """Whether a value is of a kind, without looking into it."""
    if kind is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    if kind is None or kind is NoneType:
        return value is None
    outer = type(kind) if isinstance(kind, list | dict) else kind
    return outer is object or type(value) is outer


def _named(kind: Schema) -> str:
    return (
        "nothing" if kind is None or kind is NoneType else NAMED[type(kind) if isinstance(kind, list | dict) else kind]
    )


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def shown(value: Any) -> str:
    """A value that came, in a few words."""
    if value is None:
        return NAMED[None]
    return f"{NAMED.get(type(value), type(value).__name__)} ({str(value)[:40]})"
