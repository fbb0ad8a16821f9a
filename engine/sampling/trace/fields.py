"""The table of a token step's plain fields, read off `TokenStep`: what files, databases and `--json` write of each.

A number more is a field of `TokenStep`, with a default for what was written before it, and nothing here or in them.
Recipe and snapshot are no columns: whoever writes a step keeps them in a form of its own.
"""

import base64
import math
from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from likely.engine.sampling.trace.step import Json, TokenStep

_SQL = {int: "INTEGER", bool: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}
_JSON = {int: (int,), bool: (bool,), float: (float, int, str), str: (str,), bytes: (str,)}


@dataclass(frozen=True, slots=True)
class Field:
    """One plain field of a step: an int, a float, a bool, a text or bytes, or one of them that may be None."""

    name: str
    type: type
    nullable: bool
    default: Any  # of a step that was written before the field was there; MISSING for those there from the first
    json: Json | None

    @property
    def column(self) -> str:
        """Its definition in an sqlite table."""
        default = "" if self.default in (MISSING, None) else f" DEFAULT {_literal(self.default)}"
        return f"{self.name} {_SQL[self.type]}{'' if self.nullable else ' NOT NULL'}{default}"

    def of_column(self, value: Any) -> Any:
        """The value from what sqlite gives."""
        return bool(value) if self.type is bool else value

    def to_json(self, value: Any) -> Any:
        """Bytes are base64; JSON has no infinity, so a float without an end is a text."""
        if isinstance(value, bytes):
            return base64.b64encode(value).decode("ascii")
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    def of_json(self, row: dict[str, Any]) -> Any:
        """The value in a row that `to_json` made; KeyError, TypeError or ValueError where it is missing or damaged."""
        if self.name not in row and self.default is not MISSING:
            return self.default
        value = row[self.name]
        if value is None and self.nullable:
            return None
        if type(value) not in _JSON[self.type]:
            raise TypeError(f"{self.name} is {value!r}")
        return base64.b64decode(value, validate=True) if self.type is bytes else self.type(value)


def _field(name: str, kind: Any, default: Any) -> Field | None:
    json = next((extra for extra in getattr(kind, "__metadata__", ()) if isinstance(extra, Json)), None)
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    plain = next(member for member in get_args(kind) or (kind,) if member is not NoneType)
    return Field(name, plain, NoneType in get_args(kind), default, json) if plain in _SQL else None


def _literal(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(+value)


FIELDS = tuple(column for f in fields(TokenStep) if (column := _field(f.name, f.type, f.default)) is not None)
UNITS = {f.json.key or f.name: f.json.unit for f in FIELDS if f.json is not None and f.json.unit}


def step_object(step: TokenStep, *, drawn: bool = True) -> dict[str, Any]:
    """A step as `--json` prints it, bytes in hexadecimal; without what is said of the draw where none was made."""
    values: dict[str, Any] = {}
    for field in FIELDS:
        if field.json is not None and (drawn or not field.json.drawn):
            value = getattr(step, field.name)
            values[field.json.key or field.name] = value.hex() if isinstance(value, bytes) else value
    return values
