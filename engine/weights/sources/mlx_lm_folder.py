"""A model of mlx-lm's own class from a folder, by mlx-lm's own loader: its formats, names and classes are its business.

Ours is what stands around it: damage is one line, AWQ and GPTQ are read by `models.layouts` (mlx-lm takes GPTQ for
AWQ), and numbers get the type that is asked for where the class lets them. mlx-lm is imported for such a model only.
"""

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError, ConfigError
from likely.engine.base.files.whole_file import refuse_pipe
from likely.engine.base.machine.installation import adding
from likely.engine.weights.sources import safetensors
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.hf_folder import FLOATS, settled
from likely.engine.weights.sources.model_info import packed_by, quantization_of, weight_files
from likely.engine.weights.sources.older_names import older_names
from likely.metal import mx
from likely.metal.device import device
from likely.models.configuration import layouts
from likely.models.configuration.keys import MOST
from likely.models.families import FAMILIES
from likely.models.foreign import ForeignModel, commonest, flat
from likely.models.modules.weights import MODES, PackedLayout, PackedRows

TERNARY = "bitnet"  # of `quant_method`: mlx-lm's layer for it is a Metal kernel


def reads(config: Mapping[str, Any]) -> bool:
    """Whether a model is read so: an architecture not written here, or numbers that only mlx-lm's layers work with."""
    ours = config.get("model_type") in FAMILIES
    return not ours or packed_by(config) == TERNARY or bool(config.get("quantize_activations"))


def read_model(
    folder: Path, config: Mapping[str, Any], precision: Precision | None
) -> Generator[bool, None, ForeignModel]:
    """The model in pieces; without a `precision` as the folder has it, number by number.

    bfloat16 is not made float16 unasked for where the chip only emulates it: nobody knows here which architectures
    leave that range (gpt-oss does).
    ConfigError where mlx-lm has no class for it, CheckpointError where it does not take what is there.
    """
    _check_counts(config)
    _check_packing(config)
    on_cpu = mx.default_device() == mx.cpu
    if packed_by(config) == TERNARY and not device().metal:
        raise CheckpointError(f"{TERNARY}: mlx-lm computes with such weights by a kernel for Metal, which is not here")
    if config.get("quantize_activations") and on_cpu:
        raise CheckpointError("config: quantize_activations: mlx multiplies packed by packed on a GPU only")
    for file in {*weight_files(folder), *folder.glob("model*.safetensors")}:
        safetensors.read_header(file)
    for file in folder.glob("*.json"):
        refuse_pipe(file)
    with _quoted(config):
        model = _loaded(folder, config)
    if precision is not None:
        _cast(model, precision.dtype)
        if not precision.packed:
            model = _expanded(model, precision.dtype)
        elif on_cpu and any("global_scale" in module for module in model.modules()):
            raise CheckpointError(
                "weights: global_scale: mlx has nvfp4 with it packed on a GPU only, and there is no memory to expand it"
            )
    if on_cpu:
        yield from settled(flat(model.parameters()).values())
    with _quoted(config):
        return ForeignModel(config, model)


@contextmanager
def _quoted(config: Mapping[str, Any]) -> Iterator[None]:
    """CheckpointError, with its words, for whatever mlx-lm's classes come across in a damaged configuration."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        kind, method = config["model_type"], packed_by(config)
        what = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if missing := re.fullmatch(r"\S+ missing \d+ required positional arguments?: (.*)", what):
            what = "its configuration lacks " + ", ".join(re.findall(r"'(\w+)'", missing[1]))
            if "rope_parameters" in config:
                what += ", which transformers 5 leaves out: a revision saved before it, or by mlx-lm, has them"
        raise CheckpointError(
            f"mlx-lm's {kind} does not take this checkpoint{f' packed by {method}' if method else ''}: {what}"
        ) from error


def _check_counts(config: Mapping[str, Any]) -> None:
    """ConfigError for more layers or experts than any model has: mlx-lm makes each, and looks for its tensors."""
    inner = config.get("text_config")
    for name, value in [*config.items(), *(inner.items() if isinstance(inner, dict) else ())]:
        counts = name.endswith(("layers", "n_layer", "experts")) and isinstance(value, int)
        if counts and value > MOST:
            raise ConfigError(f"config: {name} must be at most {MOST:,}, got {value:,}")


def _check_packing(config: Mapping[str, Any]) -> None:
    """ConfigError for a layout that mlx has not: asked to pack in groups of none it ends the process."""
    settings = quantization_of(config)
    for table in [settings, *(entry for entry in settings.values() if isinstance(entry, dict))]:
        if "group_size" in table or "bits" in table:
            mode = str(table.get("mode", "affine"))
            bits, groups = MODES.get(mode, ((4,), (32,)))
            PackedLayout(table.get("group_size", groups[0]), table.get("bits", bits[0]), mode)


def _loaded(folder: Path, config: Mapping[str, Any]) -> Any:
    """mlx-lm's model of the folder; nothing is computed yet."""
    try:
        from mlx_lm.utils import load_model
    except ImportError as error:
        kind = config["model_type"]
        raise ConfigError(f"config: model_type {kind!r} needs the package mlx-lm: {adding('mlx-lm')}") from error
    translated = packed_by(config) in layouts.TRANSLATED
    setting = {"quantization_config": config["quantization_config"]} if "quantization_config" in config else {}
    if translated:
        layouts.settings(config)
        setting = {"quantization": {"group_size": 128, "bits": 4}}  # each matrix has its own
    setting |= older_names(config)

    def classes(config: dict[str, Any]) -> tuple[Any, Any]:
        model_class, args_class = _classes(config)

        def made(args: Any) -> Any:
            model = model_class(args)
            if translated:
                model.sanitize = _translating(config, getattr(model, "sanitize", dict))
            return model

        return made, args_class

    model = load_model(folder, lazy=True, model_config=setting, get_model_classes=classes)[0]
    if translated:
        del model.sanitize
    return model


def _classes(config: dict[str, Any]) -> tuple[Any, Any]:
    from mlx_lm.utils import _get_classes

    kind = config["model_type"]
    if not kind.replace("-", "").isidentifier():
        raise ConfigError(f"config: model_type must be a name, got {kind!r}")
    try:
        model_class, args_class = _get_classes(config)
        return model_class, args_class
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"config: model_type {kind!r} is known neither here nor to mlx-lm") from error


def _translating(config: Mapping[str, Any], sanitize: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A class's own reading of names, after the matrices of AWQ and GPTQ have become mlx's."""

    def sanitized(weights: dict[str, mx.array]) -> Any:
        layouts.translate(config, weights)
        return sanitize(weights)

    return sanitized


def _cast(model: Any, dtype: mx.Dtype) -> None:
    """Give numbers the type where the class lets them: all of them float32, a narrower one those in the commonest type.

    What a checkpoint keeps wider than the rest (biases that choose experts, decays) it keeps so for a reason.
    """
    arrays = flat(model.parameters())
    lets, most = getattr(model, "cast_predicate", lambda path: True), commonest(arrays)
    if dtype != mx.float32 and dtype == most:
        return
    for path, array in arrays.items():
        if array.dtype in FLOATS and (dtype == mx.float32 or array.dtype == most) and lets(path):
            arrays[path] = array.astype(dtype)
    model.load_weights([*arrays.items()])


def _expanded(model: Any, dtype: mx.Dtype) -> Any:
    """The model with numbers in the place of packed matrices."""
    from mlx_lm.utils import dequantize_model

    numbers = {
        path: PackedRows(m.weight, m.scales, PackedLayout(m.group_size, m.bits, m.mode), None, m.global_scale)
        for path, m in model.named_modules()
        if "global_scale" in m
    }
    model = dequantize_model(model)
    for path, module in model.named_modules():
        if path in numbers:  # mlx-lm leaves the scale of the whole out
            module.weight = numbers[path].floats(dtype)
    _cast(model, dtype)
    return model
