"""Adapters on disk: a directory exactly as mlx-lm reads and writes it, and PEFT's both ways.

mlx-lm: adapters.safetensors with `<path>.lora_a` [in, r], `<path>.lora_b` [r, out] and DoRA's `.m`; adapter_config.json
with `fine_tune_type`, `num_layers` and `lora_parameters` {rank, scale, dropout, keys}. PEFT: both factors transposed,
scale = alpha / r (rsLoRA: alpha / sqrt(r)). Files land whole: written beside, then renamed.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, DataError, ParameterError
from engine.sources import safetensors
from engine.sources.model_info import read_json
from engine.tune import full
from engine.tune.factors import Factors, shapes
from engine.tune.lora import Adapter
from engine.tune.sites import sites, trainable
from metal import mx
from models import LanguageModel, Transformer
from models.parts import ModelPart

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
PEFT_WEIGHTS, PEFT_PREFIX = "adapter_model.safetensors", "base_model.model."
PEFT_MATRIX, PEFT_TABLE = ("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")
PEFT_LEAVES = {
    **dict.fromkeys((PEFT_MATRIX[0], PEFT_TABLE[0]), "lora_a"),
    **dict.fromkeys((PEFT_MATRIX[1], PEFT_TABLE[1]), "lora_b"),
    "lora_magnitude_vector": "m",
}


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter directory as read: arrays by mlx-lm's names."""

    kind: str  # "lora" | "dora" | "full"
    arrays: dict[str, mx.array]
    scale: float
    layers: int
    dropout: float
    model: str  # what it was trained on, "" where the directory does not say
    data: str = ""  # on which rows, likewise


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, make it durable, and put it in place in one step.

    DataError where the disk is full or may not be written; what was at `path` is untouched then.
    """
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        descriptor = os.open(beside, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
        raise DataError(f"cannot write {path}: {reason}; make room or choose another --out") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, lambda beside: beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, mx.array], metadata: Mapping[str, str] | None = None) -> None:
    write_whole(path, lambda beside: mx.save_safetensors(str(beside), dict(arrays), dict(metadata or {})))


def save(folder: Path, trained: "Adapter | full.FullWeights", model: Transformer, settings: Mapping[str, Any]) -> None:
    """Write the directory. `settings`: model, kind, dropout, and whatever else should stand in its config."""
    if isinstance(trained, full.FullWeights):
        arrays = trained.stored(trained.parameters())
        lowest = max(0, trained.lowest)
        lora = None
    else:
        inside = [f.site.layer for f in trained.factors.values() if 0 <= f.site.layer < model.config.layers]
        first = next(iter(trained.factors.values()))
        arrays = {}
        for path, f in trained.factors.items():
            a, b = f.whole()
            arrays |= {f"{path}.lora_a": a, f"{path}.lora_b": b} | ({} if f.m is None else {f"{path}.m": f.m})
        lowest = min(inside, default=model.config.layers)
        lora = {
            "rank": first.rank,
            "scale": first.scale,
            "dropout": settings.get("dropout", 0.0),
            "keys": list(dict.fromkeys(f.site.name for f in trained.factors.values())),
        }
    config = {
        **settings,
        "fine_tune_type": settings["kind"],
        "num_layers": model.config.layers - lowest,
        "lora_parameters": lora,
    }
    write_json(folder / CONFIG, config)
    write_arrays(folder / WEIGHTS, {name: mx.contiguous(a) for name, a in arrays.items()})


def read(folder: Path) -> StoredAdapter:
    """The adapter in a directory of mlx-lm's or PEFT's form; CheckpointError for what it lacks."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no adapter directory {folder}")
    if (folder / PEFT_WEIGHTS).exists():
        return _read_peft(folder)
    config = read_json(folder / CONFIG)
    if not (folder / WEIGHTS).exists():
        raise CheckpointError(f"{folder} has neither {WEIGHTS} (mlx-lm) nor {PEFT_WEIGHTS} (PEFT)")
    safetensors.read_header(folder / WEIGHTS)
    arrays: dict[str, mx.array] = mx.load(str(folder / WEIGHTS))  # type: ignore[assignment]
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora", "full"):
        raise CheckpointError(f"{folder / CONFIG}: fine_tune_type must be lora, dora or full, got {kind!r}")
    lora = config.get("lora_parameters") or {}
    if kind != "full" and not isinstance(lora.get("scale"), int | float):
        raise CheckpointError(f"{folder / CONFIG}: lora_parameters.scale must be a number, got {lora.get('scale')!r}")
    return StoredAdapter(
        kind,
        arrays,
        float(lora.get("scale", 1.0)),
        int(config.get("num_layers", -1)),
        float(lora.get("dropout", 0.0)),
        str(config.get("model") or ""),
        data=str(config.get("data") or ""),
    )


def place(base: LanguageModel, stored: StoredAdapter, where: str = "the adapter") -> "Adapter | full.FullWeights":
    """The adapter made for the model `base`, not attached yet; whole weights are put in place at once.

    ParameterError for a model that cannot be trained here; CheckpointError that names the first tensor with no place in
    the model, of another shape, or missing.
    """
    model = trainable(base)
    if stored.kind == "full":
        trained = full.weights(model, -1)
        arrays = trained.unstored(stored.arrays)
        kept = {name: slot for name, slot in trained.slots.items() if name in arrays}
        for name, array in arrays.items():
            if name not in kept:
                raise CheckpointError(f"{where}: {name} has no place in this model")
            _fits(where, name, array, kept[name].array.shape)
        trained.slots = kept
        trained.set({n: a.astype(kept[n].array.dtype) for n, a in arrays.items()})
        return trained
    by_path = {site.path: site for site in sites(model)}
    paths: dict[str, dict[str, mx.array]] = {}
    for name, array in sorted(stored.arrays.items()):
        path, _, leaf = name.rpartition(".")
        if leaf not in ("lora_a", "lora_b", "m") or path not in by_path:
            raise CheckpointError(
                f"{where} is for another model: {name} {list(array.shape)} has no place here"
                + (f" (it was trained on {stored.model})" if stored.model else "")
            )
        paths.setdefault(path, {})[leaf] = array
    adapter = Adapter()
    for path, leaves in paths.items():
        site = by_path[path]
        for leaf in ("lora_a", "lora_b", *(["m"] if stored.kind == "dora" else [])):
            if leaf not in leaves:
                raise CheckpointError(f"{where}: {path}.{leaf} is missing")
        a, b = leaves["lora_a"].astype(mx.float32), leaves["lora_b"].astype(mx.float32)
        rank = _rank(where, site, a)
        for leaf, array, shape in zip(("lora_a", "lora_b"), (a, b), shapes(site, rank), strict=True):
            _fits(where, f"{path}.{leaf}", array, shape)
        f = Factors(site, stored.scale, a, b)
        if stored.kind == "dora":
            if site.kind != "matrix":
                raise CheckpointError(f"{where}: DoRA on {path} is not supported, only on matrices")
            _fits(where, f"{path}.m", leaves["m"], (site.height,))
            f.m = leaves["m"].astype(mx.float32)
            f.measure()
        adapter.factors[path] = f
    if not adapter.factors:
        raise CheckpointError(f"{where} holds no tensors")
    return adapter


def _rank(where: str, site: ModelPart, a: mx.array) -> int:
    """The rank that a first factor says."""
    dims = 3 if site.kind == "experts" else 2
    if a.ndim != dims:
        raise CheckpointError(
            f"{where} is for another model: {site.path}.lora_a is {list(a.shape)}, not of {dims} axes"
        )
    return int(a.shape[1])


def _fits(where: str, name: str, array: mx.array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise CheckpointError(
            f"{where} is for another model: {name} is {list(array.shape)} where this one needs {list(shape)}"
        )


def _read_peft(folder: Path) -> StoredAdapter:
    config = read_json(folder / CONFIG)
    safetensors.read_header(folder / PEFT_WEIGHTS)
    found: dict[str, mx.array] = mx.load(str(folder / PEFT_WEIGHTS))  # type: ignore[assignment]
    kind = "dora" if config.get("use_dora") else "lora"
    for key in ("rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias"):
        if config.get(key):
            raise CheckpointError(f"{folder / CONFIG}: {key} is not supported, got {config[key]!r}")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise CheckpointError(f"{folder / CONFIG}: r and lora_alpha must be numbers, got {rank!r} and {alpha!r}")
    arrays = {}
    for name, array in found.items():
        plain = name.removeprefix(PEFT_PREFIX).replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
        theirs = next((leaf for leaf in PEFT_LEAVES if plain.endswith(f".{leaf}")), None)
        if theirs is None:
            raise CheckpointError(f"{folder / PEFT_WEIGHTS}: {name} is not a LoRA factor")
        ours = PEFT_LEAVES[theirs]
        path = plain.removesuffix(f".{theirs}")
        arrays[f"{path}.{ours}"] = array if ours == "m" else mx.contiguous(array.T)
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    return StoredAdapter(
        kind,
        arrays,
        scale,
        -1,
        float(config.get("lora_dropout") or 0),
        str(config.get("base_model_name_or_path") or ""),
    )


def write_peft(folder: Path, adapter: Adapter, *, model: str = "", dropout: float = 0.0, rslora: bool = False) -> None:
    """Write the adapter as PEFT reads it."""
    first = next(iter(adapter.factors.values()))
    arrays: dict[str, mx.array] = {}
    for path, f in adapter.factors.items():
        if f.site.kind == "experts":
            raise ParameterError(f"PEFT's files have no place for the experts at {path}: leave them out by modules")
        a, b = f.whole()
        first_name, second_name = PEFT_TABLE if f.site.kind == "table" else PEFT_MATRIX
        arrays[f"{PEFT_PREFIX}{path}.{first_name}"] = mx.contiguous(a.T)
        arrays[f"{PEFT_PREFIX}{path}.{second_name}"] = mx.contiguous(b.T)
        if f.m is not None:
            arrays[f"{PEFT_PREFIX}{path}.lora_magnitude_vector"] = f.m
    rank = first.rank
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model,
        "r": rank,
        "lora_alpha": first.scale * (rank**0.5 if rslora else rank),
        "lora_dropout": dropout,
        "use_rslora": rslora,
        "use_dora": first.m is not None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        **_targets(adapter),
    }
    write_json(folder / CONFIG, config)
    write_arrays(folder / PEFT_WEIGHTS, arrays, {"format": "pt"})


def _targets(adapter: Adapter) -> dict[str, Any]:
    """Which modules PEFT is to adapt: by name and layer, or by whole path where one stands outside the layers."""
    found = list(adapter.factors.values())
    if any(f.site.name == f.site.path for f in found):
        return {"target_modules": list(adapter.factors)}
    names = dict.fromkeys(f.site.name.rsplit(".", 1)[-1] for f in found)
    return {"target_modules": list(names), "layers_to_transform": sorted({f.site.layer for f in found})}
