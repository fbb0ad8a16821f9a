"""Sampling parameters by name: what turns the model's distribution into the one that is drawn from.

The names, ranges and orders are those of the command line (`likely run --help`) and of the chat's sliders.
"""

from collections.abc import Mapping

from likely.engine.base.errors import ParameterError
from likely.engine.sampling.presets import ORDERS, PRESETS, recipe
from likely.engine.sampling.trace.step import SamplingConfig


class Sampling:
    """`Sampling(temp=0.8, top_p=0.95)`, `Sampling("precise")`, `Sampling("precise", min_p=0)`; `Sampling()` is the
    model's own distribution. Temperature 0 is greedy."""

    def __init__(
        self, preset: str = "", *, order: str = "mlx-lm", bias: Mapping[int, float] | None = None, **values: float
    ) -> None:
        """`values` stand over the preset's; `bias` is added to the logits of ids; `order` is the program whose order
        the transforms run in. ParameterError for a name that there is not and a value out of its range."""
        for name, kind, known in ((preset, "preset", PRESETS), (order, "order", ORDERS)):
            if name and name not in known:
                raise ParameterError(f"no {kind} {name!r}: one of {', '.join(known)}")
        self.recipe: SamplingConfig = recipe({**PRESETS.get(preset, {}), **values}, ORDERS[order], bias=bias)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sampling) and self.recipe == other.recipe

    def __repr__(self) -> str:
        from likely.app.store.sampling_text import words

        return f"Sampling: {words(self.recipe)}"
