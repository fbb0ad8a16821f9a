"""`load`: a name, a folder or a GGUF file -> a model, its tokenizer and what it is.

Each kind of file becomes a Hugging Face style config and weights by Hugging Face's names, and `models.build` makes the
transformer of those; nothing past this module knows where a model came from.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import models
from engine import folder, gguf, store
from engine.errors import CheckpointError
from engine.fetch.progress import Report, silent
from engine.gguf import mapping, weights
from engine.info import ModelInfo, read_json
from engine.precision import Precision, choose
from engine.tokenizer import Tokenizer
from metal import heap, kernel, mx

if TYPE_CHECKING:
    from models import Transformer


SPARE = 8 << 20  # bytes that mlx may keep for reuse while a model is being put together


@dataclass(frozen=True)
class Checkpoint:
    """A model that is ready to run. `config` is in Hugging Face's terms."""

    model: "Transformer"
    tokenizer: Tokenizer
    info: ModelInfo
    config: dict[str, Any]
    precision: Precision


def load(name: str | Path, progress: Report = silent, *, precision: Precision | None = None) -> Checkpoint:
    """The checkpoint that `name` stands for (an alias, a hub repository, a folder, a .gguf file), fetched if need be.

    `precision` is chosen for this machine unless given. CheckpointError where it cannot be found, fetched, verified,
    or is not a model that can be run here. Belongs in the thread that will run the model.
    """
    info = store.resolve(str(name)) or store.pull(str(name), progress)
    progress(f"loading {info.name}", 0, 0)
    with heap.giving_back():
        return _load(info, precision)


def _load(info: ModelInfo, precision: Precision | None) -> Checkpoint:
    if info.path.is_file():
        tokenizer, config, arrays, precision = _read_gguf(info, precision)
    else:
        tokenizer, config, arrays, precision = _read_folder(info, precision)
    layers = config.get("num_hidden_layers", 0)
    if isinstance(layers, int) and layers > len(arrays):
        raise CheckpointError(f"config: num_hidden_layers is {layers:,}, but there are only {len(arrays):,} tensors")
    model = models.build(config, arrays, dense=None if precision.packed else precision.dtype)
    if not precision.packed:  # what it says of the file no longer holds for the model
        config = {key: value for key, value in config.items() if not key.startswith("quantization")}
    if kernel.available():
        _ready_kernels(model, precision)
    if mx.default_device() == mx.cpu:
        _settle(model)
    return Checkpoint(model, tokenizer, info, config, precision)


def _ready_kernels(model: "Transformer", precision: Precision) -> None:
    """Test, time and compile the kernels that this model will launch, so that none of it falls into the first token."""
    from metal import tune

    config = model.config
    windows = sorted(set(config.windows))
    shapes = [tune.Shape(config.head_size, config.heads, config.kv_heads, precision.dtype, window=w) for w in windows]
    tune.prepare(shapes)
    tune.warm(shapes, config.vocab_size)


def _settle(model: "Transformer") -> None:
    """Join what the model joins, one product at a time, so that the parts of all are never held beside the wholes."""
    for linear in model.linears.values():
        mx.eval(list(linear.arrays().values()))
        if mx.get_cache_memory() > SPARE:
            mx.clear_cache()


def _read_gguf(
    info: ModelInfo, precision: Precision | None
) -> tuple[Tokenizer, dict[str, Any], dict[str, mx.array], Precision]:
    header = gguf.read_header(info.path)
    architecture = mapping.architecture(header)
    config = mapping.config(header, lambda tensor: weights.read_values(header, tensor))
    precision = precision or choose(info.parameters, config["model_type"])
    heads = config["num_attention_heads"], config["num_key_value_heads"]
    with ThreadPoolExecutor(1) as beside:
        tokenizer = beside.submit(Tokenizer.from_gguf, header.metadata)
        arrays = dict(weights.read_weights(header, architecture, heads, precision))
    if precision.packed:
        config["quantization"] = weights.packed_config(header, architecture)
    return tokenizer.result(), config, arrays, precision


def _read_folder(
    info: ModelInfo, precision: Precision | None
) -> tuple[Tokenizer, dict[str, Any], dict[str, mx.array], Precision]:
    config = read_json(info.path / "config.json")
    family = config.get("model_type")
    if not isinstance(family, str):
        raise CheckpointError(f"config: model_type must be a string, got {family!r}")
    tokenizer = Tokenizer.from_folder(info.path)
    precision = precision or choose(info.parameters, family, folder.stored_dtype(info.path))
    return tokenizer, config, folder.read_weights(info.path, precision), precision
