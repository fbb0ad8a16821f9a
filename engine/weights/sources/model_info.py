"""`ModelInfo`: what can be said of a checkpoint on disk by reading its headers, without loading it.

Plain data and no mlx, so that a list of models is quick and the screen may show it. Knows nothing of the store.
"""

import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError, ConfigError
from likely.engine.base.files import foreign_json
from likely.engine.weights.sources import safetensors
from likely.engine.weights.sources.gguf.header import Header, read_header
from likely.models.configuration.rope_scaling import MARK, RopeScaling

# general.file_type of a GGUF file (llama.h, llama_ftype), where it is not the name of its commonest block type
FILE_TYPES = {
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M",
}  # fmt: skip
SLICES, SLICE_BYTES = 64, 4096


@dataclass(frozen=True)
class ModelInfo:
    """Facts of a model. `weights` identifies its weights: equal files, equal `weights`, wherever they came from."""

    name: str
    path: Path  # the GGUF file, or the folder
    source: str
    family: str
    quantization: str
    parameters: int
    context: int  # positions; 0 where the checkpoint does not say
    license: str  # "" where it does not say
    nbytes: int  # on disk
    weights: str  # SHA-256, hex
    rope: str = ""  # how its RoPE is scaled for a longer context than its file says, as `RopeScaling` is written

    def as_dict(self) -> dict[str, Any]:
        """The facts as an object of JSON."""
        facts = {**asdict(self), "path": str(self.path)}
        return facts if self.rope else {name: fact for name, fact in facts.items() if name != "rope"}

    @property
    def place(self) -> str:
        """A name for it wherever it lies."""
        return f"{self.path}{MARK}{self.rope}" if self.rope else str(self.path)

    def longer(self, scaling: RopeScaling) -> "ModelInfo":
        """The model with a longer context: another function of the same weights, which is known by a digest of both.
        ConfigError where it is scaled already."""
        if self.rope:
            raise ConfigError(f"{self.name} has a longer RoPE already: leave out {MARK}{scaling}")
        weights = hashlib.sha256(f"{self.weights} {scaling}".encode()).hexdigest()
        name, context = f"{self.name}{MARK}{scaling}", scaling.context(self.context)
        return replace(self, name=name, context=context, weights=weights, rope=str(scaling))


def describe(path: Path, *, name: str = "", source: str = "") -> ModelInfo:
    """The ModelInfo of a GGUF file or of a folder in Hugging Face's layout; CheckpointError if it is neither."""
    name, source = name or path.stem, source or ("file" if path.is_file() else "folder")
    if path.is_file() or path.is_fifo():
        return _describe_gguf(read_header(path), name, source)
    return _describe_folder(path, name, source)


def read_json(
    path: Path, schema: foreign_json.Schema = dict, *, of: str = "a model in Hugging Face's layout"
) -> dict[str, Any]:
    """The JSON object in a file; CheckpointError if there is none, with what its folder is not `of` then, or none by
    the schema."""
    try:
        values: dict[str, Any] = foreign_json.read(path, schema, error=CheckpointError)
        return values
    except CheckpointError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CheckpointError(f"{path.parent} has no {path.name}: it is not {of}") from None
        raise


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json; what other tools say of its packing, wherever they say it, as mlx does where it can.

    CheckpointError if there is none, or it is damaged.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").exists():
        raise CheckpointError(f"{folder} is an adapter, no model: -A {shlex.quote(str(folder))} puts it on one")
    config = read_json(folder / "config.json")
    inner, beside = config.get("text_config"), folder / "hf_quant_config.json"
    if not config.get("quantization_config"):
        if isinstance(inner, dict) and inner.get("quantization_config"):
            config["quantization_config"] = inner["quantization_config"]
        elif beside.is_file():
            config["quantization_config"] = {"quant_method": "modelopt", **read_json(beside)}
    if not config.get("quantization") and (layout := _in_mlx_terms(config.get("quantization_config"))):
        config["quantization"] = layout
    return config


def _in_mlx_terms(published: object) -> dict[str, Any] | None:
    """The layout of mlx that a `quantization_config` of another tool means; None where it means none."""
    match published:
        case {"quant_method": "mxfp4"} | {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}:
            return {"group_size": 32, "bits": 4, "mode": "mxfp4"}
        case {"quant_method": "mxfp8"} | {"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": [32, 32]}:
            return {"group_size": 32, "bits": 8, "mode": "mxfp8"}
        case (
            {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}
            | {"quant_method": "modelopt", "quant_algo": "NVFP4"}
            | {"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4"}}
        ):
            return {"group_size": 16, "bits": 4, "mode": "nvfp4"}
    return None


def packed_by(config: Mapping[str, Any]) -> str | None:
    """The tool that packed the matrices in a layout which mlx has not; None where none did."""
    published = config.get("quantization_config")
    if config.get("quantization") or not isinstance(published, Mapping):
        return None
    method = published.get("quant_method")
    return None if method is None else str(method)


def quantization_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """How mlx has quantised a model: group_size, bits, mode and what differs by module; empty where it has not."""
    packing = config.get("quantization") or config.get("quantization_config") or {}
    if not isinstance(packing, dict) or not isinstance(packing.get("group_size", 64), int):
        raise CheckpointError(f"config: quantization must be a table with an integer group_size, got {packing!r}")
    return packing


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, every shard that its index names; CheckpointError if one is missing."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError(f"{index}: no weight_map in it; fetch the model again")
        files = [folder / Path(name).name for name in sorted(set(shards.values()))]
    else:
        files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} has no .safetensors weights")
    for file in files:
        if not os.path.exists(file):  # nor where the name is one that no file can have
            raise CheckpointError(f"{folder} lacks {file.name}, which its index names; fetch the model again")
    return files


def weight_bytes(info: ModelInfo) -> int:
    """Bytes of a model's weights as they lie on the disk."""
    return sum(file.stat().st_size for file in weight_files(info.path)) if info.path.is_dir() else info.nbytes


def modified(path: Path) -> float:
    """When a file, or the newest of a folder, was written, in seconds since 1970; 0 where that is not to be had."""
    try:
        files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
        return max((file.stat().st_mtime for file in files), default=0.0)
    except OSError:
        return 0.0


def fingerprint(files: Iterable[Path]) -> str:
    """SHA-256 over the sizes of the files and 64 evenly spaced slices of each: quick, and the same for equal files."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with open(path, "rb") as file:
            for i in range(SLICES):
                file.seek(max(0, size - SLICE_BYTES) * i // (SLICES - 1))
                digest.update(file.read(SLICE_BYTES))
    return digest.hexdigest()


def _describe_gguf(header: Header, name: str, source: str) -> ModelInfo:
    values: Counter[str] = Counter()
    for tensor in header.tensors.values():
        values[tensor.type] += prod(tensor.shape)
    commonest = values.most_common(1)[0][0] if values else "none"
    family = str(header.metadata.get("general.architecture", "unknown"))
    context = header.metadata.get(f"{family}.context_length", 0)
    return ModelInfo(
        name=name,
        path=header.path,
        source=source,
        family=family,
        quantization=FILE_TYPES.get(header.metadata.get("general.file_type", -1), commonest),
        parameters=sum(values.values()),
        context=context if isinstance(context, int) else 0,
        license=str(header.metadata.get("general.license", "")),
        nbytes=header.path.stat().st_size,
        weights=fingerprint([header.path]),
    )


def _describe_folder(path: Path, name: str, source: str) -> ModelInfo:
    config, files = read_config(path), weight_files(path)
    stored = {name: tensor for file in files for name, tensor in safetensors.read_header(file).items()}
    packing = quantization_of(config)
    group_size = packing.get("group_size", 64)
    parameters, dtypes = 0, Counter[str]()
    for key, tensor in stored.items():
        module = key.rpartition(".")[0]
        if key.endswith((".scales", ".biases")) and f"{module}.weight" in stored:
            continue
        scales = stored.get(f"{module}.scales")
        n = prod(scales.shape) * group_size if scales and key.endswith(".weight") else prod(tensor.shape)
        parameters += n
        dtypes[tensor.dtype] += n
    quantization = dtypes.most_common(1)[0][0] if dtypes else "none"
    if isinstance(packing.get("bits"), int):
        quantization = f"{packing['bits']}-bit {packing.get('mode', 'affine')}"
    inner = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    context = inner.get("max_position_embeddings", inner.get("max_sequence_length", 0)) if inner else 0
    return ModelInfo(
        name=name,
        path=path,
        source=source,
        family=str(config.get("model_type", "unknown")),
        quantization=quantization,
        parameters=parameters,
        context=context if isinstance(context, int) else 0,
        license=_card_license(path / "README.md"),
        nbytes=sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        weights=fingerprint(files),
    )


def _card_license(readme: Path) -> str:
    """The licence that the front matter of a model card names."""
    if not readme.is_file():
        return ""
    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            text = file.read(10_000)
    except OSError:
        return ""
    match = re.search(r"^license:\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else ""
