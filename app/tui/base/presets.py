"""Presets as choices for a list: the named ones, those that a person saved, and the orders of the transforms."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from likely.app.jobs.requests import ModelFacts
from likely.app.tui.base.sampling import Sampling
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import write_whole
from likely.engine.sampling.presets import OFF, ORDERS, PARAMETERS, PRESETS, RECOMMENDED

Choice = tuple[str, str]  # its id, and words; without an id it is a heading
FILE = "presets.json"


def given(facts: ModelFacts | None) -> Mapping[str, Mapping[str, float]]:
    """The presets that are there for every model, then what the publisher of this one recommends, if anything."""
    return {**PRESETS, **({RECOMMENDED: facts.sampling} if facts is not None and facts.sampling else {})}


def names(home: Path, facts: ModelFacts | None) -> list[str]:
    """The names of presets: the given ones, then a person's own."""
    return list(dict.fromkeys([*given(facts), *own(home)]))


def name_of(sampling: Sampling, facts: ModelFacts | None) -> str:
    """The given preset that these values are, or ""."""
    return next((name for name, values in given(facts).items() if dict(sampling.values) == {**OFF, **values}), "")


def own(home: Path) -> dict[str, Sampling]:
    """The presets that a person saved; those that cannot be read are left out."""
    own_presets: dict[str, Sampling] = {}
    for name, saved in _saved(home).items():
        with suppress(KeyError, ValueError, OverflowError, ParameterError):
            foreign_json.check(saved, {"order": [str], "values": {str: float}})
            sampling = Sampling().ordered(tuple(saved["order"]))
            own_presets[name] = sampling.with_read({name: repr(value) for name, value in saved["values"].items()})
    return own_presets


def _saved(home: Path) -> dict[str, Any]:
    """Values and order of each preset in the file, by name; {} where it cannot be read."""
    with suppress(DataError):
        saved: dict[str, Any] = foreign_json.read(home / FILE)
        return saved
    return {}


def keep(home: Path, name: str, sampling: Sampling) -> None:
    """Save the values and the order under a name; others stay, also those that cannot be read.

    Raises DataError where the file cannot be written.
    """
    rows = {**_saved(home), name: {"values": dict(sampling.values), "order": sampling.names}}
    write_whole(home / FILE, [json.dumps(rows, indent=1)])


def choices(home: Path, facts: ModelFacts | None) -> list[Choice]:
    """Every preset and every order."""
    return [*named(home, facts), *orders()]


def named(home: Path, facts: ModelFacts | None) -> list[Choice]:
    """The presets, under their heading."""
    rows = {name: ", ".join(map(_value, values.items())) for name, values in given(facts).items()}
    if facts is not None and RECOMMENDED in rows:
        rows[RECOMMENDED] += f", by the files of {facts.title or facts.name}"
    saved = {name: "saved by you" for name in own(home) if name not in rows}
    return _listed("preset", "preset", rows | saved)


def orders() -> list[Choice]:
    """The orders, under their heading, each by the transforms in which they differ."""
    rows = {
        name: " › ".join(_CUTS[kind.__name__] for kind in order if kind.__name__ in _CUTS)
        for name, order in ORDERS.items()
    }
    return _listed("order", "order of the transforms", rows)


def chosen(home: Path, choice: str, sampling: Sampling, facts: ModelFacts | None) -> Sampling:
    """The settings that a choice makes of others. Raises ParameterError for a name that is none."""
    kind, _, name = choice.partition(" ")
    if kind == "order" and name in ORDERS:
        return replace(sampling, order=ORDERS[name])
    if kind == "preset" and name in (known_values := given(facts)):
        return replace(sampling, values={**OFF, **known_values[name]})
    mine = own(home)
    if kind == "preset" and name in mine:
        return replace(mine[name], bias=sampling.bias)
    if kind == "preset" and name == RECOMMENDED and facts is not None:
        raise ParameterError(f"{facts.title or facts.name} comes without recommended values")
    known = list(ORDERS) if kind == "order" else names(home, facts)
    raise ParameterError(f"there is no {kind} {name}: {', '.join(known)}")


_CUTS = {"Temperature": "T", "TopK": "top-k", "TopP": "top-p", "MinP": "min-p", "Typical": "typical"}


def _value(setting: tuple[str, float]) -> str:
    name, value = setting
    return f"{PARAMETERS[name].label} {value:g}"


def _listed(kind: str, heading: str, rows: Mapping[str, str]) -> list[Choice]:
    return [("", heading), *((f"{kind} {name}", f"  {name:<14} {words}") for name, words in rows.items())]
