"""An adapter made part of its model: merged, packed as the base was or as asked, and written in Hugging Face's layout.

What a written file has kept of the adapter is judged in `fusion`.
"""

import json
import shutil
from collections import Counter
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError
from likely.engine.base.files.whole_file import check_new_folder, put_whole
from likely.engine.weights.adapters import full, lora, sites
from likely.engine.weights.adapters.stored import write_arrays, write_whole
from likely.engine.weights.quantize.source import Source
from likely.engine.weights.sources import gguf
from likely.engine.weights.sources.checkpoint import Checkpoint
from likely.engine.weights.sources.hf_folder import FLOATS, stored_dtype
from likely.engine.weights.sources.model_info import ModelInfo
from likely.metal import mx
from likely.models import Transformer
from likely.models.families import registry
from likely.models.modules.weights import PackedLayout

PLAIN = {16: None, 32: mx.float32}  # bits that are not packed; 16: as the base has it, or float16


def merge(
    model: Transformer, trained: "lora.Adapter | full.FullWeights", *, bits: int = 0, group_size: int = 64
) -> None:
    """Add what was trained to the weights of the model it is on.

    What it changes of packed matrices is packed again as it was. With `bits` the products of the layers are packed in
    so many (16 and 32: unpacked). ParameterError where a width is not a multiple of `group_size`.
    """
    layouts = {site.path: layout for site in sites.sites(model) if (layout := site.layout) is not None}
    if isinstance(trained, lora.Adapter):
        lora.merge(model, trained)
    wanted = PackedLayout(group_size, bits, "affine") if bits and bits not in PLAIN else None
    for site in sites.sites(model):
        inside = 0 <= site.layer < model.config.layers
        if site.layout is not None:
            if bits in PLAIN or (wanted and inside and site.layout != wanted):
                model.put(site, site.numbers())
        elif not bits and (layout := layouts.get(site.path)) is not None:
            model.put(site, sites.packed(site.matrix, layout))
    if wanted is not None:
        sites.pack(model, bits, group_size)
    model.unite()


def base_dtype(info: ModelInfo) -> mx.Dtype:
    """The dtype of a checkpoint's plain weights and scales: a GGUF file's by most of its numbers."""
    if not info.path.is_file():
        return stored_dtype(info.path)
    sizes: Counter[str] = Counter()
    for tensor in gguf.read_header(info.path).tensors.values():
        sizes[tensor.type] += prod(tensor.shape)
    (commonest, _), *_ = sizes.most_common(1)
    known = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
    return known.get(commonest, mx.bfloat16 if info.family.startswith("gemma") else mx.float16)


def arrays(model: Transformer, *, plain: bool = False) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """The model's tensors under its checkpoint's names, and the `quantization` entry of its config.

    The joined products come apart again; `plain` expands what is packed.
    """
    stored: dict[str, mx.array] = {}
    settings: dict[str, Any] = {}
    for part in model.parts():
        unpacked = plain and part.role != "positions"
        stored |= {f"{part.path}.{name}": array for name, array in part.stored(plain=unpacked).items()}
        if (layout := part.layout) is not None and not plain:
            settings[part.path] = {"group_size": layout.group_size, "bits": layout.bits, "mode": layout.mode}
    if settings:
        commonest, _ = Counter(tuple(layout.items()) for layout in settings.values()).most_common(1)[0]
        settings = {**dict(commonest), **settings}
    return stored, settings


def write(checkpoint: Checkpoint, folder: Path, *, dtype: mx.Dtype | None = None) -> None:
    """The model as a folder that mlx-lm and `likely` read. `dtype`: of what is not packed; None: as in the base's file.

    The tokenizer's files are those of the base's folder, or made of a GGUF file's metadata. CheckpointError where those
    cannot be said in a tokenizer.json (export to GGUF instead); DataError where the directory is in use.
    """
    check_new_folder(folder, "--out")
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(checkpoint, folder)
    tensors, settings = arrays(sites.trainable(checkpoint.model))
    float_dtype = dtype or base_dtype(checkpoint.info)
    tensors = {n: a.astype(float_dtype) if a.dtype in FLOATS else a for n, a in tensors.items()}
    config = registry.common(checkpoint.config)
    config = {k: v for k, v in config.items() if k not in ("quantization", "quantization_config")}
    config["torch_dtype"] = str(float_dtype).rpartition(".")[2]
    if settings:
        config |= {"quantization": settings, "quantization_config": settings}
    write_arrays(folder / "model.safetensors", {n: mx.contiguous(a) for n, a in tensors.items()}, {"format": "mlx"})
    write_whole(folder / "config.json", lambda beside: beside.write_text(json.dumps(config, indent=1)))


def write_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """The tokenizer's files into a new folder. CheckpointError, and no folder, where no tokenizer.json can say it."""
    source = checkpoint.info.path
    if source.is_file():
        try:
            Source(checkpoint.info).write_tokenizer(folder)
        except CheckpointError:
            folder.rmdir()
            raise CheckpointError(
                f"the tokenizer of {checkpoint.info.name} cannot be written for a folder: export with --gguf"
            ) from None
        return
    for file in source.iterdir():
        copied = file.suffix in (".json", ".jinja", ".model", ".txt") and not file.name.startswith("model.safetensors")
        if file.is_file() and copied and file.name != "config.json":
            put_whole(folder / file.name, partial(shutil.copy, file))
