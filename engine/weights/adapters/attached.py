"""Adapters attached to a loaded model, and changes of them in words, as plain data: no mlx."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from likely.engine.base.errors import ParameterError
from likely.engine.base.files.home import expanded

AdapterChange = Literal["add", "weigh", "only", "remove"]


@dataclass(frozen=True, slots=True)
class Attached:
    """One adapter of a running model. `weight` is how much of its change counts: 1 as trained, 0 not at all."""

    name: str
    folder: Path
    weight: float
    kind: str  # lora | dora | steering
    rank: int
    scale: float  # the multiplier it was trained with
    modules: tuple[str, ...]  # by their name within a layer
    parameters: int
    trained_on: str  # the model that its directory names, "" where it names none
    posterior: str = ""  # over its weights: laplace | swag | ensemble, "" for none


def change(text: str, names: Sequence[str]) -> tuple[AdapterChange, str, float]:
    """The change that a line asks for where the adapters `names` are on: what, of which folder or name, the weight.

    `NAME`, `NAME 0.5`, `NAME only` or `NAME off`; a number, `only` or `off` alone are of the one that is there.
    ParameterError where none or several are.
    """
    what, _, how = text.rpartition(" ")
    if (how in ("off", "only") or weight_of(how) is not None) and not what and text not in names:
        if len(names) != 1:
            raise ParameterError(
                f"/adapter {text} wants a name: {', '.join(names)}" if names else "there is no adapter on the model"
            )
        what = names[0]
    if how == "off" and what in names:
        return "remove", what, 0.0
    if how == "only" and what in names:
        return "only", what, 1.0
    if (weight := weight_of(how)) is not None and what:
        return ("weigh", what, weight) if what in names else ("add", str(expanded(what)), weight)
    return ("weigh", text, 1.0) if text in names else ("add", str(expanded(text)), 1.0)


def weight_of(text: str) -> float | None:
    """The number that a text spells; None where it spells none."""
    try:
        return float(text)
    except ValueError:
        return None
