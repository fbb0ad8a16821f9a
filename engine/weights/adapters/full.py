"""Full fine-tuning: the weights of the model themselves as parameters, under their checkpoint's names.

Trains the matrices and norms of the chosen layers, and with all layers also the embedding, the final norm and the head.
"""

from dataclasses import dataclass, field, replace

from likely.engine.base.errors import ParameterError
from likely.metal import mx
from likely.models import Transformer
from likely.models.modules.parts import ModelPart

Array = mx.array


@dataclass(frozen=True)
class Slot:
    """One array that is trained: a part's weight or its bias."""

    part: ModelPart
    leaf: str

    @property
    def array(self) -> Array:
        matrix = self.part.matrix if self.leaf == "weight" else self.part.bias
        assert isinstance(matrix, Array)
        return matrix

    @property
    def offset(self) -> float:
        """The checkpoint stores this much less."""
        return self.part.offset if self.leaf == "weight" else 0.0


@dataclass
class FullWeights:
    """The trained weights of a model; the same members as an adapter's."""

    model: Transformer
    slots: dict[str, Slot] = field(default_factory=dict)
    start: dict[str, Array] | None = None  # the weights before training, where something is measured from them

    def parameters(self) -> dict[str, Array]:
        return {name: slot.array for name, slot in self.slots.items()}

    def set(self, parameters: dict[str, Array]) -> None:
        for name, array in parameters.items():
            slot = self.slots[name]
            self.model.put(slot.part, **{slot.leaf: array})

    def head(self, model: Transformer) -> list[str]:
        """The names of those that logits are made with, past the hidden states."""
        role = "embed" if model.config.tied else "head"
        return [name for name, slot in self.slots.items() if slot.part.role == role]

    def keep(self) -> None:
        """Hold on to the weights as they are now: a second copy, once they move."""
        self.start = self.parameters()

    def stored(self, parameters: dict[str, Array]) -> dict[str, Array]:
        """Parameters as a checkpoint stores them: without the offset that some norms' weights are given here."""
        return {name: a - self.slots[name].offset if self.slots[name].offset else a for name, a in parameters.items()}

    def unstored(self, arrays: dict[str, Array]) -> dict[str, Array]:
        return {
            n: a + self.slots[n].offset if n in self.slots and self.slots[n].offset else a for n, a in arrays.items()
        }

    def layer(self, index: int) -> "FullWeights":
        """The weights of one layer alone."""
        return replace(self, slots={name: slot for name, slot in self.slots.items() if slot.part.layer == index})

    @property
    def lowest(self) -> int:
        """The lowest layer with a trained weight: nothing below it is differentiated."""
        return min(slot.part.layer for slot in self.slots.values())


def weights(model: Transformer, layers: int = -1) -> FullWeights:
    """The weights of the last `layers` layers (-1: of the whole model), as parameters.

    Splits what the model joined, so that every matrix has its own name. ParameterError where weights are quantised.
    """
    config = model.config
    if layers == 0 or layers < -1 or layers > config.layers:
        raise ParameterError(f"layers must be -1 (all) or 1 to the model's {config.layers}, got {layers}")
    parts = model.parts()
    packed = [part.path for part in parts if part.layout is not None]
    if packed:
        raise ParameterError(f"full fine-tuning needs plain weights and {packed[0]} is quantised: use kind = lora")
    if config.experts is not None:
        raise ParameterError("full fine-tuning of a mixture of experts is not supported: use kind = lora")
    model.split()
    inside = range(config.layers - layers, config.layers)
    chosen = [part for part in parts if layers == -1 or part.layer in inside]
    return FullWeights(model, {f"{part.path}.{leaf}": Slot(part, leaf) for part in chosen for leaf in part.arrays()})
