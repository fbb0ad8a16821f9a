"""Options of a verb as a table: frozen dataclasses whose fields say default, meaning and range, filled from TOML.

An unknown key is an error that names the nearest one. Knows no particular option; no mlx.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, TypeVar

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import read_whole
from likely.metal.errors import nearest_names

LARGEST = 1 << 24  # bytes of a TOML file
SEEDS = 2**32 - 1  # the largest: keys of random numbers are made of 32 bits
LONGEST = 10**18  # of a whole number: what arrays and generators take
TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    flag: str = "",
    metavar: str | None = None,
    usual: str = "",
) -> Any:
    """A field with what its flag needs to know: `flag` where it is not called as the field is, and where nothing is
    given the `usual` value, if the default is none."""
    known = {"help": help, "choices": choices, "low": low, "high": high}
    return field(default=default, metadata={**known, "flag": flag, "metavar": metavar, "usual": usual})


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file; DataError with line and column for what is not TOML, and for tables that are nested deeper
    and whole numbers that are longer than the reader of JSON lets through."""
    import tomllib  # a verb's options are a table, and seldom in a file

    try:
        table = tomllib.loads(read_whole(path, largest=LARGEST))
        foreign_json.check_depth(table)
        _check_numbers(table)
        return table
    except ValueError as error:  # a TOMLDecodeError, or a number of thousands of digits
        raise DataError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise DataError(f"{path}: not TOML that a person wrote: it is nested too deep") from None


def _check_numbers(value: Any) -> None:
    """ValueError for a whole number of more digits than one of 64 bits can have, at any depth."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(item)
    elif isinstance(value, int) and abs(value) >= 10**foreign_json.DIGITS:
        raise ValueError(f"a whole number has at most {foreign_json.DIGITS} digits")


def unknown(name: str, known: Iterable[str]) -> ParameterError:
    """The error of a name that there is not, with the nearest one."""
    known = list(known)
    near = nearest_names(name.replace("-", "_"), known)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return ParameterError(f"unknown option {name}; {hint}")


def typed(name: str, value: Any, kind: Any) -> Any:
    """The value as a field of this type holds it; ParameterError where it is of another."""
    if kind == tuple[str, ...]:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ParameterError(f"{name} must be a list of texts, got {value!r}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ParameterError(f"{name} must be a number, got one of {len(str(value))} digits") from None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ParameterError(f"{name} must be {TYPES[kind]}, got {value!r}")
    if kind is int and not -LONGEST < value < LONGEST:
        raise ParameterError(f"{name} must be a whole number of at most 18 digits, got one of {len(str(abs(value)))}")
    return value


def changes(
    values: Mapping[str, Any], hints: Mapping[str, Any], renamed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The values as the fields of these types hold them; `renamed` maps what fields were called before to their names.

    ParameterError for an unknown name, a wrong type, and a name beside what it was called before.
    """
    changed: dict[str, Any] = {}
    renamed, came = renamed or {}, dict[str, str]()
    for raw, value in values.items():
        name = raw.replace("-", "_")
        name = renamed.get(name, name)
        if (other := came.setdefault(name, raw)) != raw:
            raise ParameterError(f"{other if raw == name else raw} is called {name} now: give one of them")
        if name not in hints:
            raise unknown(raw, hints)
        changed[name] = typed(name, value, hints[name])
    return changed


def check_needs(options: T, named: Container[str], needs: Mapping[str, tuple[Callable[[T], object], str]]) -> None:
    """ParameterError for an option that was given and would change nothing; `needs` has what it goes with, in words."""
    for name, (goes, needed) in needs.items():
        if name in named and not goes(options):
            raise ParameterError(f"{name} goes with {needed}")


def check_ranges(options: Any) -> None:
    """ParameterError for a value of a dataclass that is none of its choices or out of its range."""
    for f in fields(options):
        value, meta = getattr(options, f.name), f.metadata
        if not meta:
            continue
        if meta["choices"] and value not in meta["choices"]:
            raise ParameterError(f"{f.name} must be one of {', '.join(meta['choices'])}, got {value!r}")
        low, high = meta["low"], meta["high"]
        endless = isinstance(value, float) and not math.isfinite(value)
        if (low is not None and value < low) or (high is not None and value > high) or endless:
            allowed = f"at least {low:g}" if high is None else f"{low:g} to {high:.10g}"
            raise ParameterError(f"{f.name} must be {allowed}, got {value:g}")
