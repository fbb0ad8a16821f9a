"""A family of models as its module tells it: how a configuration is read, what tensors are called, how they are kept.

A module of this folder gives `configure` and `NAMES`, and of the rest what differs from Llama. Knows no tensor's value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

from likely.metal import mx
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.modules.parts import EXPERTS, TensorNames

TOP = {
    "embed": "model.embed_tokens",
    "layer": "model.layers.{}",
    "norm": "model.norm",
    "head": "lm_head",
}


@dataclass(frozen=True, slots=True)
class Family:
    """A family: how a configuration is read, what its tensors are called, how they are kept."""

    configure: Callable[[Keys, str], ModelConfig]
    top: Mapping[str, str]  # what there is outside the layers, whatever the configuration
    names: Callable[[ModelConfig], TensorNames]
    prepare: Callable[[dict[str, mx.array], ModelConfig], None] | None  # make of a file's tensors those in `names`
    rename: Callable[[str], str | None]  # a file's name of a tensor -> that in `names`; None for what is not read
    spell: Callable[[str], str]  # and mlx-lm's, which is what is written
    arrange: Callable[[str, mx.array, ModelConfig], mx.array]  # and how it keeps the rows
    turned: Callable[[str], bool]  # whether a file's matrix of this name is stored [in, out]
    by_head: frozenset[str]  # roles whose rows a file keeps head by head: a head's q, k and v together
    experts: Mapping[str, str]  # what a file calls the matrices of its experts -> which of ours they are


def of(module: ModuleType) -> Family:
    """The family that a module tells."""

    top, known = TOP | getattr(module, "TOP", {}), module.NAMES

    return Family(
        module.configure,
        top,
        lambda config: TensorNames(top, known(config) if callable(known) else known),
        getattr(module, "prepare", None),
        getattr(module, "rename", str),
        getattr(module, "spell", str),
        getattr(module, "arrange", lambda name, array, shape: array),
        getattr(module, "turned", lambda name: False),
        frozenset(getattr(module, "BY_HEAD", ())),
        {f"{part}_proj": part for part in EXPERTS} | getattr(module, "EXPERTS", {}),
    )
