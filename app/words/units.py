"""Units: what a number of a token is counted in, and of how many tokens a figure is.

Log-probabilities, entropies and divergences are nats in code, in files and in what `--json` prints, where the object's
`units` say so, and bits wherever a person reads them. A loss that is minimised stays in nats, as its laws have it, with
the unit beside it. Knows nothing of models and screens.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite, log
from typing import Any

from likely.engine.base.statistics.measures import MEASURES
from likely.engine.sampling.trace import fields as of_token

LN2 = log(2)
SEARCHED = ("score", "bound", "perturbed")  # figures of a search's text that are log-probabilities, nats
NATS, PER_TOKEN = "nats", "nats a token"
# Of the numbers that any verb prints of a token or of a text, by their key; what its name says (`elapsed_s`,
# `bits_per_byte`) or has no unit (`rank`, `perplexity`, a probability) is not here.
UNITS: Mapping[str, str] = (
    of_token.UNITS
    | {each.name: each.unit for each in MEASURES if each.unit == NATS}
    | dict.fromkeys(("logprobs", "total_logprob", "log_weight", "entropy_total", "aleatoric", "epistemic"), NATS)
)


def many(count: int, noun: str) -> str:
    """`1 path`, `3 paths`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def bits(nats: float) -> float:
    """Nats as bits; a rounded zero has no sign."""
    return nats / LN2 + 0.0


def margin(nats: float, high: float | None, unit: str = "") -> str:
    """A validation loss in bits, with half of its interval: `2.885 ± 0.120`."""
    loss = f"{bits(nats):.3f}"
    return f"{loss}{unit} (one row: no interval)" if high is None else f"{loss} ± {bits(high - nats):.3f}{unit}"


def proof(figures: Mapping[str, float]) -> str:
    """How far the text of a search for the mode may be from it, by the search's `score` and `bound` (nats); "" for a
    search that has no bound."""
    if not {"bound", "score", "proven"} <= figures.keys():
        return ""
    short = bits(figures["bound"] - figures["score"])
    return "proven" if figures["proven"] else f"within {short:.2f} bits of the mode" if isfinite(short) else "none yet"


def searched(figures: Mapping[str, float]) -> str:
    """Figures of a search's text in words, bits where they are log-probabilities."""
    words = [_searched(name, value) for name, value in figures.items() if name != "proven"]
    return " · ".join(filter(None, (*words, proof(figures))))


def _searched(name: str, value: float) -> str:
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} {bits(value):.2f} bits" if name in SEARCHED else f"{name} {value:.4g}"


def predicted(scored: int, tokens: int) -> str:
    """How many tokens of a text have a distribution, the ones that a perplexity is of: the first has none
    where nothing stands before it."""
    return f"predicted {scored:,} of {many(tokens, 'token')}"


def finite(x: float) -> float | None:
    """A number as JSON has it, which knows no infinity."""
    return x if isfinite(x) else None


def json_line(values: Mapping[str, Any], /, **units: str) -> str:
    """An object as `--json` prints it, in one line; last in it the units of those keys of it, at any depth, that have
    one. `units` are those of keys that mean something else in other verbs."""
    keys = _keys(values)
    named = {key: unit for key, unit in {**UNITS, **units}.items() if key in keys}
    return json.dumps({**values, **({"units": named} if named else {})}, ensure_ascii=False, default=plain)


def plain(value: Any) -> Any:
    """A value that JSON has no form of as one that it has: a dataclass as its fields, or as what its `JSON` names
    ("?": left out where it is None); an array as a list; bytes as text; whatever else as a text."""
    if is_dataclass(value) and not isinstance(value, type):
        names = getattr(value, "JSON", None) or [field.name for field in fields(value)]
        parts = {name: getattr(value, name.removesuffix("?")) for name in names}
        return {name.removesuffix("?"): x for name, x in parts.items() if x is not None or not name.endswith("?")}
    if hasattr(value, "tolist"):
        return value.tolist()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _keys(values: Any) -> set[str]:
    """The keys of an object and of those in it whose value is not nothing."""
    values = plain(values) if is_dataclass(values) else values
    if isinstance(values, Mapping):
        own = {key for key, value in values.items() if value is not None}
        return own.union(*map(_keys, values.values()))
    if isinstance(values, list | tuple) and values and not isinstance(values[0], str | float):
        return set().union(*map(_keys, values))
    return set()
