"""Steering vectors: a direction in the residual stream that is added after a layer, as a thing on the model.

The direction is the difference of means, over two sets of prompts, of the residual stream after a layer at the last
position (arXiv:2308.10248, arXiv:2312.06681); at weight 1 the model is moved by just that difference. It is kept in a
folder and put on a model as an adapter is (`engine.attach.stack`): weighed, switched and taken off in a running chat,
and without it the model's blocks are the very ones it was loaded with. Knows nothing of sessions and stacks.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from likely.engine.base import arrays
from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.home import home
from likely.engine.base.files.whole_file import write_whole
from likely.engine.weights.sources import array_file
from likely.metal import mx
from likely.models.model import LanguageModel
from likely.models.native_path.native import as_graph, renew
from likely.models.tap import after
from likely.models.transformer import Transformer

CONFIG, VECTOR = "steering.json", "steering.safetensors"
FORMAT = 1
NAMED = frozenset(ascii_letters + digits + "-_.")
LAST = 64  # positions of a text along which KL is measured


@dataclass(frozen=True, slots=True)
class Direction:
    """A direction added to the residual stream after a layer, counted from 0: float32 [C]."""

    layer: int
    vector: mx.array
    model: str = ""  # that it was made with

    @property
    def norm(self) -> float:
        return float(mx.linalg.norm(self.vector))


class SteeredBlock:
    """A block with a direction added to what it gives; everything else of it is the block's."""

    def __init__(self, base: Any, vector: mx.array, weight: float) -> None:
        self.base, self.vector, self.weight = base, vector, weight

    def __call__(self, x: mx.array, *rest: Any) -> mx.array:
        return self.onto(self.base(x, *rest))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["base"], name)

    def onto(self, y: mx.array) -> mx.array:
        """y [B, T, C] moved along the direction."""
        return y + self.shift.astype(y.dtype)

    @property
    def shift(self) -> mx.array:
        """The vector that is added, [C]."""
        return self.vector * self.weight


def direction(
    model: LanguageModel, toward: Sequence[Sequence[int]], away: Sequence[Sequence[int]], layer: int, name: str = ""
) -> Direction:
    """From the prompts `away` to the prompts `toward`, each the ids of one; ParameterError for an empty set or layer
    that is none."""
    if not toward or not away or not all(toward) or not all(away):
        raise ParameterError("a direction lies between two sets of prompts: give at least one of each, none empty")
    _check(model, layer)

    def mean(prompts: Sequence[Sequence[int]]) -> mx.array:
        total = mx.zeros((model.config.width,))
        for ids in prompts:
            x = after(model, layer + 1, mx.array([list(ids)]))
            total = total + x[0, -1].astype(mx.float32)
            mx.eval(total)
        return total / len(prompts)

    vector = mean(toward) - mean(away)
    mx.eval(vector)
    if not float(mx.linalg.norm(vector)):
        raise ParameterError("the two sets of prompts leave the same state: there is no direction between them")
    return Direction(layer, vector, name)


def attach(model: Transformer, added: Direction, weight: float = 1.0) -> SteeredBlock:
    """Put it on the model, in place; what `detach` takes off and whose `weight` may be set."""
    _check(model, added.layer)
    if added.vector.shape != (model.config.width,):
        raise CheckpointError(
            f"a direction of {added.vector.shape[0]} numbers does not fit a model of width {model.config.width}: "
            f"it was made with {added.model or 'another model'}"
        )
    steered = SteeredBlock(model.blocks[added.layer], added.vector, weight)
    model.blocks[added.layer] = steered  # type: ignore[call-overload]
    return steered


def detach(model: Transformer, layer: int, steered: SteeredBlock) -> None:
    """Take it off; others on the same layer stay."""
    around: Any = model.blocks[layer]
    if around is steered:
        model.blocks[layer] = steered.base
        return
    while around.base is not steered:
        around = around.base
    around.base = steered.base


def shift(model: LanguageModel, added: Direction, ids: Sequence[int], weight: float) -> float:
    """KL(steered || as it is) of the next token, the mean over the last positions of a text, nats."""
    graph = as_graph(model)
    assert graph is not None
    plain = next_logprobs(model, ids)
    steered = attach(graph, added, weight)
    try:
        renew(model)
        return float(mx.mean(arrays.kl(next_logprobs(model, ids), plain, mx)))
    finally:
        detach(graph, added.layer, steered)
        renew(model)


def next_logprobs(model: LanguageModel, ids: Sequence[int]) -> mx.array:
    """Log-probabilities of the next token after each of the last positions of a text, float32 [N, V], N <= `LAST`."""
    hidden = model.hidden(mx.array([list(ids)]))[0, -LAST:]
    logp: mx.array = arrays.logprobs(model.head(hidden).astype(mx.float32), mx)
    mx.eval(logp)
    return logp


def save(folder: Path, added: Direction) -> None:
    """Write a folder that `read`, and `likely chat --adapter`, take; DataError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from None
    array_file.write(folder / VECTOR, {"vector": added.vector})
    config = {"format": FORMAT, "layer": added.layer, "model": added.model}
    write_whole(folder / CONFIG, [json.dumps(config) + "\n"])


def folder_of(name: str) -> Path:
    """The folder of a direction of that name; ParameterError for a name that is no folder's."""
    if not name or name.startswith(".") or not set(name) <= NAMED:
        raise ParameterError(f"a direction's name is of letters, digits, - _ and ., got {name!r}")
    return home() / "directions" / name


def is_direction(folder: Path) -> bool:
    """Whether a folder holds a direction, and not an adapter."""
    return (folder / CONFIG).is_file()


def read(folder: Path) -> Direction:
    """The direction in a folder; CheckpointError for one that is damaged or of another format."""
    schema = {"format": int, "layer": int, "model?": str}
    try:
        config = foreign_json.read(folder / CONFIG, schema, error=CheckpointError)
        vector = array_file.read(folder / VECTOR)[0].get("vector")
    except CheckpointError as error:
        raise CheckpointError(f"{folder} holds no direction that can be read: {error}") from error
    sound = vector is not None and vector.ndim == 1 and bool(mx.all(mx.isfinite(vector)))
    if config["format"] != FORMAT or vector is None or not sound:
        raise CheckpointError(f"{folder} holds a direction of another format, or numbers that are none: make it again")
    return Direction(config["layer"], vector.astype(mx.float32), config.get("model", ""))


def _check(model: LanguageModel, layer: int) -> None:
    if not 0 <= layer < model.config.layers:
        raise ParameterError(f"a layer must be 0 to {model.config.layers - 1}, got {layer}")
