"""Adapters in PEFT's form, read and written: LoRA, rsLoRA, DoRA and PiSSA, and what is saved beside the factors.

Both factors are transposed against mlx-lm's, and scale = alpha / r (rsLoRA: alpha / sqrt(r)), by site where patterns
say so. A table that embeds and is the head at once is two modules there: an adapter of the embedding leaves the head
alone unless `ensure_weight_tying` is set, in which case the head's factors are the embedding's, transposed. What is
not understood is refused by its name: a file that loads computes what PEFT computes.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.weights.adapters.stored import (
    CONFIG,
    PEFT_WEIGHTS,
    StoredAdapter,
    read_config,
    read_factors,
    write_arrays,
    write_json,
)
from likely.engine.weights.sources.fetch import catalogue
from likely.metal import mx

if TYPE_CHECKING:
    from likely.engine.weights.adapters.lora import Adapter
    from likely.models import Transformer

PREFIX = "base_model.model."
MATRIX, TABLE = ("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")
LEAVES = {  # what PEFT calls a tensor of a module -> what `adapters.build` does
    **dict.fromkeys((MATRIX[0], TABLE[0]), "lora_a"),
    **dict.fromkeys((MATRIX[1], TABLE[1]), "lora_b"),
    "lora_B.bias": "shift",
    "lora_magnitude_vector": "m",
    "base_layer.weight": "base",  # saved beside an adapted embedding, untrained
    "base_layer.bias": "bias",
    "weight": "whole",  # of modules_to_save
    "bias": "bias",
}
STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # those that leave the base as it is
SCHEMA = {
    "peft_type?": str,
    "init_lora_weights?": (bool, str, None),
    "r": int,
    "lora_alpha": float,
    "alpha_pattern?": ({str: float}, None),
    "lora_dropout?": (float, None),
    "base_model_name_or_path?": (str, None),
    **dict.fromkeys(("use_rslora?", "use_dora?", "ensure_weight_tying?"), (bool, None)),
}
PATTERN = re.compile(r"(?:[\w-]|\.\*?|\\[.\d-])*")  # a name, or its end, in which any names may stand: no program
UNKNOWN = (
    "layer_replication", "target_parameters", "trainable_token_indices", "alora_invocation_tokens", "use_qalora",
    "fan_in_fan_out", "megatron_config", "arrow_config", "use_bdlora", "velora_config", "kasa_config",
)  # fmt: skip


def read(folder: Path) -> StoredAdapter:
    """The adapter in a directory of PEFT's; CheckpointError that names what is not understood."""
    config = read_config(folder, SCHEMA)
    kind, start = config.get("peft_type", "LORA"), config.get("init_lora_weights", True)
    if kind != "LORA":
        raise CheckpointError(f"{folder / CONFIG}: peft_type must be LORA, got {kind!r}")
    for key in UNKNOWN:
        if config.get(key):
            raise CheckpointError(f"{folder / CONFIG}: {key} is not supported, got {config[key]!r}")
    if start not in (*STARTS, "pissa"):
        raise CheckpointError(
            f"{folder / CONFIG}: init_lora_weights = {start!r} changed the base in a way that the file does not hold: "
            "save it in PEFT with path_initial_model_for_weight_conversion"
        )
    rank, alpha = config["r"], config["lora_alpha"]
    if rank < 1:
        raise CheckpointError(f"{folder / CONFIG}: r must be 1 or more, got {rank}")
    patterns = config.get("alpha_pattern") or {}
    for pattern in patterns:
        if not PATTERN.fullmatch(pattern) or pattern.count("*") > 2:
            raise CheckpointError(f"{folder / CONFIG}: the alpha_pattern {pattern!r} is more than a name")
    arrays, ranks = {}, {}
    for name, array in read_factors(folder / PEFT_WEIGHTS).items():
        plain = name.removeprefix(PREFIX).replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
        theirs = next((leaf for leaf in LEAVES if plain.endswith(f".{leaf}")), None)
        if theirs is None or "lora_" in (path := plain.removesuffix(f".{theirs}")):
            raise CheckpointError(f"{folder / PEFT_WEIGHTS}: {name} is not a LoRA factor")
        ours = LEAVES[theirs]
        if ours in ("lora_a", "lora_b") and (array.ndim != 2 or not array.size):
            raise CheckpointError(f"{folder / PEFT_WEIGHTS}: {name} is {list(array.shape)}, a matrix expected")
        if ours == "lora_a":
            ranks[path] = array.shape[0]
        arrays[f"{path}.{ours}"] = mx.contiguous(array.T) if ours in ("lora_a", "lora_b") else array
    root = bool(config.get("use_rslora"))
    alphas = {path: _by_pattern(patterns, path, alpha) for path in ranks}
    return StoredAdapter(
        "dora" if config.get("use_dora") else "lora",
        arrays,
        alpha / (rank**0.5 if root else rank),
        -1,
        float(config.get("lora_dropout") or 0),
        config.get("base_model_name_or_path") or "",
        scales={path: alphas[path] / (r**0.5 if root else r) for path, r in ranks.items()},
        tied=bool(config.get("ensure_weight_tying")),
        pissa=start == "pissa",
    )


def _by_pattern(patterns: Mapping[str, float], path: str, otherwise: float) -> float:
    """The value of the first pattern that is the end of a path, from a dot on."""
    return next((value for end, value in patterns.items() if re.match(rf"(.*\.)?({end})$", path)), otherwise)


def write(
    folder: Path,
    adapter: "Adapter",
    model: "Transformer",
    *,
    name: str = "",
    dropout: float = 0.0,
    rslora: bool = False,
) -> None:
    """Write the adapter of `model` as PEFT reads it. ParameterError for what its files have no place for."""
    first = next(iter(adapter.factors.values()))
    arrays: dict[str, mx.array] = {}
    ranks, alphas, tied = {}, {}, False
    for path, f in adapter.factors.items():
        if f.site.kind == "experts":
            raise ParameterError(f"PEFT's files have no place for the experts at {path}: leave them out by modules")
        if f.shift is not None:
            raise ParameterError(f"{path} has a bias beside its factors, which is not written for PEFT")
        a, b = f.whole()
        first_name, second_name = TABLE if f.site.kind == "table" else MATRIX
        arrays[f"{PREFIX}{path}.{first_name}"] = mx.contiguous(a.T)
        arrays[f"{PREFIX}{path}.{second_name}"] = mx.contiguous(b.T)
        if f.m is not None:
            arrays[f"{PREFIX}{path}.lora_magnitude_vector"] = f.m
        if f.site.kind == "table" and model.config.tied and f.tied:
            tied, head = True, model.names.path("head")
            arrays[f"{PREFIX}{head}.{MATRIX[0]}"] = mx.contiguous(b)
            arrays[f"{PREFIX}{head}.{MATRIX[1]}"] = mx.contiguous(a)
        ranks[path], alphas[path] = f.rank, f.scale * (f.rank**0.5 if rslora else f.rank)
    rank, alpha = ranks[first.site.path], alphas[first.site.path]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": name,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {re.escape(path): r for path, r in ranks.items() if r != rank},
        "alpha_pattern": {re.escape(path): value for path, value in alphas.items() if value != alpha},
        "lora_dropout": dropout,
        "use_rslora": rslora,
        "use_dora": first.m is not None,
        "ensure_weight_tying": tied,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        **_targets(adapter),
    }
    write_json(folder / CONFIG, config)
    write_arrays(folder / PEFT_WEIGHTS, arrays, {"format": "pt"})


def base_name(name: str, path: Path) -> tuple[str, str]:
    """The name by which AutoPeft finds the base, and a line for a person where it needs their help.

    The repository of the hub where the base has one, else the path.
    """
    known = catalogue.named(name)
    if known is not None and isinstance(known.source, catalogue.Hub) and not Path(name).exists():
        return known.source.repo, ""
    where = str(path.resolve())
    if path.is_dir():
        return where, f"base_model_name_or_path is the folder {where}"
    return where, (
        f"base_model_name_or_path is {where}, which transformers does not load as it is: "
        f"put the original model's name there, in {CONFIG}"
    )


def _targets(adapter: "Adapter") -> dict[str, Any]:
    """Which modules PEFT is to adapt: by name and layer where these say just them, else by whole path.

    A module that is named and not in the file would be adapted all the same, and trained by whoever goes on.
    """
    sites = [f.site for f in adapter.factors.values()]
    names = dict.fromkeys(site.name.rsplit(".", 1)[-1] for site in sites)
    layers = sorted({site.layer for site in sites})
    if any(site.name == site.path for site in sites) or len(sites) < len(names) * len(layers):
        return {"target_modules": list(adapter.factors)}
    return {"target_modules": list(names), "layers_to_transform": layers}
