"""`load`: a name, a folder or a GGUF file -> a model, its tokenizer and what it is.

Each kind of file becomes a Hugging Face style config and weights by Hugging Face's names, and `models.build` makes the
transformer of those; nothing past this module knows where a model came from.
"""

import copy
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import likely.models as models
from likely.engine.base import distributed
from likely.engine.base.concurrency.background_thread import awaited, begun
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import CheckpointError, ConfigError
from likely.engine.text.tokenizer import Tokenizer, from_folder, from_gguf
from likely.engine.weights.sources import gguf, hf_folder, mlx_lm_folder, packed_folder, store
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.engine.weights.sources.gguf import mapping, weights
from likely.engine.weights.sources.gguf.packed import read_packed
from likely.engine.weights.sources.gguf.precision import Precision, choose
from likely.engine.weights.sources.model_info import ModelInfo, quantization_of, read_config
from likely.metal import kernel, malloc, memory, mx
from likely.metal.packed import LAYOUTS, SIXTEEN
from likely.models.configuration import rope_scaling
from likely.models.configuration.rope_scaling import RopeScaling
from likely.models.native_path import native

if TYPE_CHECKING:
    from likely.engine.base.distributed import Ranks
    from likely.models.model import LanguageModel
    from likely.models.parallel.shard import Sharding

T = TypeVar("T")
GPU = "a GPU runs the graph"


@dataclass(frozen=True)
class Checkpoint:
    """A model that is ready to run. `config` is in Hugging Face's terms; `general` are the general keys of a GGUF
    file's header."""

    model: "LanguageModel"
    tokenizer: Tokenizer
    info: ModelInfo
    config: dict[str, Any]
    precision: Precision
    general: Mapping[str, Any] = field(default_factory=dict)

    def twin(self) -> "Checkpoint":
        """A second model over the same arrays: what is attached to one, or trained, is not on the other.

        To be called by the thread that runs this one. All that it holds is evaluated, since another thread can read an
        array and cannot compute one that belongs to this thread's stream: the twin may be given away.
        """
        copies: dict[int, Any] = {}
        model = copy.deepcopy(self.model, copies)
        mx.eval([array for array in copies.values() if isinstance(array, mx.array)])
        return replace(self, model=model)

    def with_activations(self, bits: int | None) -> "Checkpoint":
        """The checkpoint with activations of so many bits, with None as it is loaded; what is attached stays attached.

        CheckpointError where its weights are not packed, ConfigError where they gain nothing.
        """
        precision = replace(self.precision, activation_bits=SIXTEEN if bits is None else bits)
        if isinstance(self.model, native.NativeModel):
            return replace(self, model=self.model.with_activations(bits), precision=precision)
        if bits is None:
            return self
        reason = not_native(self.info) or "ranks share it"
        raise CheckpointError(
            f"{bits}-bit activations are for weights that stay packed, and {self.info.name} runs by the graph "
            f"({reason}): leave its activations exact"
        )

    def widened(self) -> "Checkpoint | None":
        """The checkpoint with activations in the next wider type; None where there is none. Reads the file again."""
        names = {mx.float16: mx.bfloat16, mx.bfloat16: mx.float32}
        if (dtype := names.get(self.precision.dtype)) is None:
            return None
        return load(self.info.place, precision=replace(self.precision, dtype=dtype))

    def with_rope(self, scaling: RopeScaling | None) -> "Checkpoint":
        """A second model over the same arrays, whose context is longer, or with None as long as its file says; what is
        attached to this one is not on it.

        ConfigError, in a line that says why, where there is none.
        """
        if not isinstance(self.model, models.Transformer | native.NativeModel):
            raise _by_mlx_lm(self.info)
        info = self.info if not self.info.rope else store.resolve(rope_scaling.apart(self.info.name)[0]) or self.info
        info = replace(info, name=rope_scaling.apart(self.info.name)[0])
        config = {key: value for key, value in self.config.items() if key != rope_scaling.KEY}
        if scaling is not None:
            info, config = info.longer(scaling), {**config, rope_scaling.KEY: str(scaling)}
        if isinstance(self.model, native.NativeModel):
            model = self.model.configured(config, expandable=not self.precision.packed)
            return replace(self, model=model, info=info, config=config)
        shape, twin = models.configure(config), self.twin()
        turned = replace(self.model.config, context=shape.context, ropes=shape.ropes)
        twin.model.turn_by(turned)  # type: ignore[attr-defined]
        return replace(twin, info=info, config=config)


@dataclass(frozen=True)
class Partition:
    """How a model is parted between the processes that run it together."""

    ranks: "Ranks"
    way: str  # tensor | pipeline, as likely.models.parallel.shard has them

    def share(self, config: Mapping[str, Any], tensors: Iterable[str], unit: int) -> "Sharding":
        """This rank's share of a checkpoint whose values come `unit` at a time."""
        from likely.models.parallel import shard  # no business of a single process

        return shard.share(config, tensors, self.way, self.ranks.rank, self.ranks.size, unit)

    def agreed(self, precision: Precision) -> Precision:
        """Rank 0's, whatever the other machines would choose."""
        dtype, packed = self.ranks.broadcast([str(precision.dtype).removeprefix("mlx.core."), precision.packed])
        return Precision(getattr(mx, dtype), packed)


def load(
    name: str | Path,
    progress: Report = silent,
    *,
    precision: Precision | None = None,
    parting: Partition | None = None,
    activation_bits: int | None = None,
) -> Checkpoint:
    """The checkpoint that `name` stands for (an alias, a hub repository, a folder, a .gguf file), fetched if need be.

    `precision` is chosen for this machine unless given. `activation_bits`, where weights stay packed, are of all
    that is read (`Precision`): CheckpointError where they do not, ConfigError where none of them gains by it. With
    `parting`, every rank calls this and reads what is its own. CheckpointError where it cannot be found, fetched,
    verified, or is no model that can be run here. Belongs in the thread that will run the model.
    """
    return whole(loading(name, progress, precision=precision, parting=parting, activation_bits=activation_bits))


def loading(
    name: str | Path,
    progress: Report = silent,
    *,
    precision: Precision | None = None,
    parting: Partition | None = None,
    activation_bits: int | None = None,
) -> Generator[bool | None, None, Checkpoint]:
    """`load` in pieces: None after one in which it waited for a file or the tokenizer, which are read beside it."""
    info = yield from _find(str(name), progress)
    progress(f"loading {info.name}", 0, 0)
    memory.bound()
    with malloc.giving_back():
        checkpoint = yield from _load(info, precision, parting, progress)
    return checkpoint if activation_bits is None else checkpoint.with_activations(activation_bits)


def _find(name: str, progress: Report) -> Generator[None, None, ModelInfo]:
    """The model on disk, fetched if need be; the same on all ranks."""

    def find() -> ModelInfo:
        return store.resolve(name) or store.pull(name, progress)

    together = distributed.joined()
    if together is None:
        return (yield from awaited(begun(find)))
    info = together.in_turn(find)
    if together.broadcast(info.weights) != info.weights:
        raise CheckpointError(f"{info.name} has other weights here than on rank 0: fetch the same model on both")
    return info


def _load(
    info: ModelInfo, precision: Precision | None, parting: Partition | None, progress: Report
) -> Generator[bool | None, None, Checkpoint]:
    general: dict[str, Any] = {}
    if info.path.is_file():
        header = yield from awaited(begun(lambda: gguf.read_header(info.path)))
        general = {key: value for key, value in header.metadata.items() if key.startswith("general.")}
        tokenizer, config, arrays, precision, share = yield from _read_gguf(header, info, precision, parting)
    else:
        config = _config(info)
        if parting is None and mlx_lm_folder.reads(config):
            if info.rope:
                raise _by_mlx_lm(info)
            return (yield from _load_by_mlx_lm(info, config, precision, progress))
        tokenizer, config, arrays, precision, share = yield from _read_folder(info, config, precision, parting)
    layers = config.get("num_hidden_layers", 0)
    if share is None and isinstance(layers, int) and layers > len(arrays):
        raise CheckpointError(f"config: num_hidden_layers is {layers:,}, but there are only {len(arrays):,} tensors")
    model: LanguageModel
    if precision.native:
        model = native.build(config, arrays, expandable=not precision.packed)
    else:
        model = models.build(config, arrays, dense=None if precision.packed else precision.dtype, share=share)
    if kernel.available():
        _ready_kernels(model, precision, progress)
    if mx.default_device() == mx.cpu and not precision.native:
        yield from hf_folder.settled(model.arrays.values())
    if share is not None and parting is not None:
        from likely.models.parallel.exchange import connect

        assert isinstance(model, models.Transformer)  # `share` refuses others
        model = connect(model, share, parting.ranks.group)
    return Checkpoint(model, tokenizer, info, _of_model(config, precision), precision, general)


def _load_by_mlx_lm(
    info: ModelInfo, config: dict[str, Any], precision: Precision | None, progress: Report
) -> Generator[bool | None, None, Checkpoint]:
    tokenizer = yield from awaited(begun(lambda: from_folder(info.path)))
    if precision is None and mx.default_device() == mx.cpu:
        precision = choose(info.parameters, config["model_type"])
    model = yield from mlx_lm_folder.read_model(info.path, config, precision)
    precision = precision or Precision(model.dtype, packed=True)
    if kernel.available():
        _ready_kernels(model, precision, progress)
    return Checkpoint(model, tokenizer, info, _of_model(config, precision), precision)


def _of_model(config: dict[str, Any], precision: Precision) -> dict[str, Any]:
    """The configuration without what it says of the file and no longer holds for the model."""
    if precision.packed and not precision.native:
        return config
    return {key: value for key, value in config.items() if not key.startswith("quantization")}


def _ready_kernels(model: "LanguageModel", precision: Precision, progress: Report) -> None:
    """Test, time and compile the kernels that this model will launch, so that none of it falls into the first token.

    Attention, unless it is of mlx-lm's class, and what reads a row of logits. Nothing that a compiler or driver refuses
    stops the model: that kernel is off.
    """
    from likely.metal import autotune
    from likely.metal.dispatch import Shape

    c, dtype = model.config, precision.dtype
    windows = sorted(set(c.windows)) if isinstance(model, models.Transformer) else []
    shapes = [Shape(c.head_size, c.heads, c.kv_heads, dtype, window=window, softcap=c.softcap) for window in windows]
    autotune.prepare(shapes, progress, logits=dtype)
    autotune.warm(shapes, c.vocab_size, dtype)
    autotune.guarded([kernel.variant("qkv_prepare", dtype, c.head_size)], lambda: model.warm(dtype))


def _by_mlx_lm(info: ModelInfo) -> ConfigError:
    return rope_scaling.refused(f"a {info.family} runs by mlx-lm's class, which turns keys itself")


Read = tuple[Tokenizer, dict[str, Any], dict[str, Any], Precision, "Sharding | None"]  # arrays, or packed matrices


def _read_gguf(
    header: gguf.Header, info: ModelInfo, precision: Precision | None, parting: Partition | None
) -> Generator[bool | None, None, Read]:
    architecture = mapping.architecture(header)
    config = _longer(info, mapping.config(header, lambda tensor: weights.read_values(header, tensor)))
    if precision is None:
        precision = _choose(info, config["model_type"], None, parting)
        if parting is None and _file_not_native(header, config, precision) is None:
            precision = replace(precision, native=True)
    heads = config["num_attention_heads"], config["num_key_value_heads"]
    share = None
    if parting is not None:
        names = [name for tensor in header.tensors if (name := mapping.weight_name(tensor, architecture))]
        share = parting.share(config, names, weights.whole_groups(header))
        heads = share.config.heads, share.config.kv_heads
    tokenizer = begun(lambda: from_gguf(header.metadata))
    if precision.native:
        packed = yield from awaited(begun(lambda: read_packed(header, architecture, heads)))
        return (yield from awaited(tokenizer)), config, packed, precision, None
    whole = share is None and not precision.packed and precision.dtype == mx.float32
    joins = models.joins(config) if whole else {}
    arrays = yield from _gathered(weights.read_weights(header, architecture, heads, precision, share, joins))
    if precision.packed:
        config["quantization"] = weights.packed_config(header, architecture)
    return (yield from awaited(tokenizer)), config, arrays, precision, share


def _gathered(tensors: Iterable[tuple[str, T]]) -> Generator[bool, None, dict[str, T]]:
    loaded: dict[str, T] = {}
    for name, tensor in tensors:
        loaded[name] = tensor
        yield True
    return loaded


def not_native(info: ModelInfo) -> str | None:
    """Why a model on this machine does not decode by native code on packed weights; None if it does."""
    try:
        if not info.path.is_file():
            config = read_config(info.path)
            return _folder_not_native(info, config, choose(info.parameters, str(config.get("model_type"))))
        header = gguf.read_header(info.path)
        config = mapping.config(header, lambda tensor: weights.read_values(header, tensor))
    except CheckpointError as error:
        return str(error)
    return _file_not_native(header, config, choose(info.parameters, config["model_type"]))


def _file_not_native(header: gguf.Header, config: dict[str, Any], precision: Precision) -> str | None:
    if on_gpu():
        return GPU
    if precision.packed and any(len(info.shape) > 1 and info.type not in LAYOUTS for info in header.tensors.values()):
        return packed_folder.NO_MEMORY
    architecture = mapping.architecture(header)
    return native.refused(config, [name for t in header.tensors if (name := mapping.weight_name(t, architecture))])


def _folder_not_native(info: ModelInfo, config: dict[str, Any], precision: Precision) -> str | None:
    if on_gpu():
        return GPU
    stored = packed_folder.tensors(info.path)
    return packed_folder.refused(stored, config, expand=not precision.packed) or native.refused(config, [*stored])


def on_gpu() -> bool:
    """Whether models run on a GPU, by the graph."""
    return mx.default_device() != mx.cpu or kernel.available()


def _config(info: ModelInfo) -> dict[str, Any]:
    config = read_config(info.path)
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"config: model_type must be a string, got {config.get('model_type')!r}")
    return _longer(info, config)


def _longer(info: ModelInfo, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration, with how its RoPE is scaled beyond it."""
    return {**config, rope_scaling.KEY: info.rope} if info.rope else config


def _read_folder(
    info: ModelInfo, config: dict[str, Any], precision: Precision | None, parting: Partition | None
) -> Generator[bool | None, None, Read]:
    share = None
    if parting is not None:
        share = parting.share(config, hf_folder.tensor_names(info.path), _group(config))
    tokenizer = yield from awaited(begun(lambda: from_folder(info.path)))
    if precision is None:
        precision = _choose(info, config["model_type"], hf_folder.stored_dtype(info.path), parting)
        if parting is None and _folder_not_native(info, config, precision) is None:
            precision = replace(precision, native=True)
    if precision.native:
        packed = yield from _gathered(packed_folder.read_packed(info.path, config))
        return tokenizer, config, packed, precision, None
    if share is None:
        arrays = yield from _gathered(hf_folder.read_weights(info.path, precision))
        return tokenizer, config, arrays, precision, None
    return tokenizer, config, hf_folder.read_share(info.path, precision, share), precision, share


def _choose(info: ModelInfo, family: str, stored: mx.Dtype | None, parting: Partition | None) -> Precision:
    if parting is None:
        return choose(info.parameters, family, stored)
    return parting.agreed(choose(info.parameters // parting.ranks.size, family, stored))


def _group(config: dict[str, Any]) -> int:
    """How many values of a row share a scale, at most."""
    packing = quantization_of(config)
    settings = [packing, *(entry for entry in packing.values() if isinstance(entry, dict))] if packing else []
    return max((int(entry.get("group_size", 1)) for entry in settings), default=1)
