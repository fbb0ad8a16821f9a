"""Adapters on disk: a directory exactly as mlx-lm reads and writes it, and adapters placed on a model.

mlx-lm: adapters.safetensors with `<path>.lora_a` [in, r], `<path>.lora_b` [r, out] and DoRA's `.m`; adapter_config.json
with `fine_tune_type`, `num_layers` and `lora_parameters` {rank, scale, dropout, keys}. PEFT's form is in `peft`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.base.files import artifacts
from likely.engine.base.options import typed
from likely.engine.weights.adapters import full, peft
from likely.engine.weights.adapters.config import HINTS, RENAMED
from likely.engine.weights.adapters.factors import Factors, largest, shapes
from likely.engine.weights.adapters.lora import Adapter
from likely.engine.weights.adapters.sites import sites, trainable
from likely.engine.weights.adapters.stored import (
    CONFIG,
    PEFT_WEIGHTS,
    WEIGHTS,
    StoredAdapter,
    read_config,
    read_factors,
    write_arrays,
    write_json,
)
from likely.metal import mx
from likely.models import LanguageModel, Transformer
from likely.models.modules.parts import ModelPart
from likely.models.modules.parts import head as model_head

SCHEMA = {
    "fine_tune_type?": str,
    "lora_parameters?": ({"scale?": float, "dropout?": float}, None),
    "num_layers?": int,
    "model?": (str, None),
    "data?": (str, None),
    "map?": ([str], None),
}
SAME = 1e-2  # of the largest number: how far a saved base may be from this one, which may be in fewer bits


def save(folder: Path, trained: "Adapter | full.FullWeights", model: Transformer, settings: Mapping[str, Any]) -> None:
    """Write the directory. `settings`: model, kind, dropout, and whatever else should stand in its config."""
    if isinstance(trained, full.FullWeights):
        lowest = max(0, trained.lowest)
        lora = None
    else:
        inside = [f.site.layer for f in trained.factors.values() if 0 <= f.site.layer < model.config.layers]
        first = next(iter(trained.factors.values()))
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
    write_arrays(
        folder / WEIGHTS, {name: mx.contiguous(a) for name, a in _stored(trained, trained.parameters()).items()}
    )


def _stored(trained: "Adapter | full.FullWeights", parameters: dict[str, mx.array]) -> dict[str, mx.array]:
    """The arrays of the file, by their names there: `parameters` themselves where it has them as they are."""
    if isinstance(trained, full.FullWeights):
        return trained.stored(parameters)
    arrays = dict[str, mx.array]()
    for path, f in trained.factors.items():
        a, b = f.whole()
        arrays |= {f"{path}.lora_a": a, f"{path}.lora_b": b} | ({} if f.m is None else {f"{path}.m": f.m})
    return arrays


def held(trained: "Adapter | full.FullWeights") -> frozenset[str]:
    """The parameters that the file holds as they are, by their names: none from which a start is subtracted there."""
    parameters = trained.parameters()
    arrays = _stored(trained, parameters)
    return frozenset(name for name, parameter in parameters.items() if arrays.get(name) is parameter)


def read(folder: Path) -> StoredAdapter:
    """The adapter in a directory of mlx-lm's or PEFT's form; CheckpointError for what it lacks."""
    if not folder.is_dir():
        near = artifacts.nearest(folder.name)
        meant = f"did you mean {near}?" if near else "`likely models` lists those that were made here"
        raise CheckpointError(f"there is no adapter directory {folder}: {meant}")
    if (folder / PEFT_WEIGHTS).exists():
        return peft.read(folder)
    config = read_config(folder, SCHEMA)
    if not (folder / WEIGHTS).exists():
        raise CheckpointError(f"{folder} has neither {WEIGHTS} (mlx-lm) nor {PEFT_WEIGHTS} (PEFT)")
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora", "full"):
        raise CheckpointError(f"{folder / CONFIG}: fine_tune_type must be lora, dora or full, got {kind!r}")
    lora = config.get("lora_parameters") or {}
    if kind != "full" and "scale" not in lora:
        raise CheckpointError(f"{folder / CONFIG}: lora_parameters.scale is missing")
    return StoredAdapter(
        kind,
        read_factors(folder / WEIGHTS),
        float(lora.get("scale", 1.0)),
        config.get("num_layers", -1),
        float(lora.get("dropout", 0.0)),
        config.get("model") or "",
        data=config.get("data") or "",
        map=tuple(config.get("map") or ()),
    )


def options(folder: Path) -> tuple[dict[str, Any], bool]:
    """The options that a directory says its adapter was trained with, by name, and whether `likely tune` wrote them.

    Of another program's those that are called as ours and are of our type. CheckpointError for a damaged config,
    ParameterError for an option of ours that is of another type.
    """
    described = read_config(folder, {"lora_parameters?": ({"keys?": ([str], None)}, None)})
    ours, values = "step" in described, {}
    for raw, value in described.items():
        name = RENAMED.get(raw, raw) if ours else raw
        if name in HINTS:
            try:
                values[name] = typed(name, value, HINTS[name])
            except ParameterError:
                if ours:
                    raise
    if keys := (described.get("lora_parameters") or {}).get("keys"):
        values["modules"] = tuple(keys)
    return values, ours


def build(base: LanguageModel, stored: StoredAdapter, where: str = "the adapter") -> "Adapter | full.FullWeights":
    """The adapter made for the model `base`, not attached yet; whole weights are put in place at once.

    ParameterError for a model that cannot be trained here; CheckpointError that names the first tensor with no place in
    the model, of another shape, or missing.
    """
    model = trainable(base)
    if stored.kind == "full":
        trained = full.weights(model, -1)
        arrays = trained.unstored(stored.arrays)
        slots = {name: slot for name, slot in trained.slots.items() if name in arrays}
        for name, array in arrays.items():
            if name not in slots:
                raise CheckpointError(f"{where}: {name} has no place in this model")
            _fits(where, name, array, slots[name].array.shape)
        trained.slots = slots
        trained.set({n: a.astype(slots[n].array.dtype) for n, a in arrays.items()})
        return trained
    by_path = {site.path: site for site in sites(model)}
    head = model.names.path("head")
    if model.config.tied:  # a part of its own to PEFT, over the same numbers
        by_path[head] = model_head(model.names, model.config.layers, model)
    paths: dict[str, dict[str, mx.array]] = {}
    for name, array in sorted(stored.arrays.items()):
        path, _, leaf = name.rpartition(".")
        if leaf not in PLACED or path not in by_path:
            raise CheckpointError(
                f"{where} is for another model: {name} {list(array.shape)} has no place here"
                + (f" (it was trained on {stored.model})" if stored.model else "")
            )
        paths.setdefault(path, {})[leaf] = array
    if model.config.tied and stored.tied and model.names.path("embed") in paths:
        paths.pop(head, None)  # the embedding's, transposed
    adapter = Adapter()
    for path, leaves in paths.items():
        if (f := _factors(where, by_path[path], leaves, stored)) is not None:
            adapter.factors[path] = f
    if not adapter.factors:
        raise CheckpointError(f"{where} holds no tensors")
    return adapter


PLACED = ("lora_a", "lora_b", "m", "shift", "bias", "whole", "base")


def _factors(where: str, site: ModelPart, leaves: Mapping[str, mx.array], stored: StoredAdapter) -> Factors | None:
    """The factors of a site; None where nothing is changed."""
    path, scale = site.path, stored.scales.get(site.path, stored.scale)
    if "base" in leaves:
        _fits(where, f"{path}.weight", leaves["base"], site.matrix.shape)
        numbers = site.numbers().astype(mx.float32)
        if float(mx.max(mx.abs(leaves["base"] - numbers))) > SAME * float(mx.max(mx.abs(numbers))):
            raise CheckpointError(f"{where} was trained on another base: its {path} is not the one of this model")
        if set(leaves) == {"base"}:
            return None
    if "whole" in leaves:
        f = _whole(where, site, leaves["whole"])
    else:
        for leaf in ("lora_a", "lora_b", *(["m"] if stored.kind == "dora" else [])):
            if leaf not in leaves:
                raise CheckpointError(f"{where}: {path}.{leaf} is missing")
        a, b = leaves["lora_a"].astype(mx.float32), leaves["lora_b"].astype(mx.float32)
        rank = _rank(where, site, a)
        for leaf, array, shape in zip(("lora_a", "lora_b"), (a, b), shapes(site, rank), strict=True):
            _fits(where, f"{path}.{leaf}", array, shape)
        f = Factors(site, scale, a, b)
        if stored.pissa:
            f.a0, f.b0 = largest(site, rank, scale)
    f.tied = stored.tied
    shift = scale * leaves["shift"].astype(mx.float32) if "shift" in leaves else None
    if "bias" in leaves:
        before = mx.zeros((site.height,)) if site.bias is None else site.bias.astype(mx.float32)
        _fits(where, f"{path}.bias", leaves["bias"], before.shape)
        change = leaves["bias"].astype(mx.float32) - before
        shift = change if shift is None else shift + change
    if shift is not None:
        if site.kind != "matrix" or stored.kind == "dora":
            raise CheckpointError(f"{where}: a bias of {path} is not supported, only beside the LoRA of a matrix")
        _fits(where, f"{path}.bias", shift, (site.height,))
        f.shift = shift
    if stored.kind == "dora" and "whole" not in leaves:
        if site.kind != "matrix":
            raise CheckpointError(f"{where}: DoRA on {path} is not supported, only on matrices")
        _fits(where, f"{path}.m", leaves["m"], (site.height,))
        f.m = leaves["m"].astype(mx.float32)
        f.measure()
    return f


def _whole(where: str, site: ModelPart, weight: mx.array) -> Factors:
    """A part that was trained whole, as a change of full rank."""
    if site.kind == "experts":
        raise CheckpointError(f"{where}: {site.path} was trained whole, which is not supported for experts")
    _fits(where, f"{site.path}.weight", weight, site.matrix.shape)
    change, one = weight.astype(mx.float32) - site.numbers().astype(mx.float32), mx.eye(site.width)
    return Factors(site, 1.0, change, one) if site.kind == "table" else Factors(site, 1.0, one, change.T)


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


__all__ = ["CONFIG", "PEFT_WEIGHTS", "WEIGHTS", "StoredAdapter", "build", "read", "save"]
