"""A model as a GGUF file that llama.cpp loads: F16, Q8_0 or Q4_0, for the Llama, Qwen and Gemma families.

The reading side's tables (`engine.sources.gguf.mapping`) are used backwards: names, interleaved query and key rows,
shifted norms. Embedding and head are kept a step better than the rest, norms in float32. A base that is a GGUF file
itself hands its metadata on; of a folder they are made (`gguf_config` of the shape, `gguf_tokenizer` of the tokenizer).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import quantize

from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.weights.adapters import sites
from likely.engine.weights.adapters.stored import write_whole
from likely.engine.weights.sources import gguf as reading
from likely.engine.weights.sources.checkpoint import Checkpoint
from likely.engine.weights.sources.gguf import mapping
from likely.engine.weights.write import fuse, gguf_config, gguf_tokenizer
from likely.metal import mx

KINDS = {
    "f16": (GGMLQuantizationType.F16, 1),
    "q8_0": (GGMLQuantizationType.Q8_0, 7),
    "q4_0": (GGMLQuantizationType.Q4_0, 2),
}
PLAIN = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
BETTER = {
    GGMLQuantizationType.F16: GGMLQuantizationType.F16,
    GGMLQuantizationType.Q8_0: GGMLQuantizationType.F16,
    GGMLQuantizationType.Q4_0: GGMLQuantizationType.Q8_0,
}
Entry = tuple[str, Any, GGUFValueType, GGUFValueType | None]  # key, value, its type, that of its elements
WRITTEN = ("general.file_type", "general.quantization_version", "general.architecture")


def write(checkpoint: Checkpoint, path: Path, kind: str) -> None:
    """Write the model; the file lands whole. Raises CheckpointError and ParameterError for what cannot be written."""
    if kind not in KINDS:
        raise ParameterError(f"a GGUF file is written as {', '.join(KINDS)}, got {kind!r}")
    block, file_type = KINDS[kind]
    source, shape = checkpoint.info.path, checkpoint.model.config
    extra = gguf_config.tensors(shape)
    architecture, arch = target(checkpoint)
    if source.is_file():
        entries = list(_copied(source))
    else:
        fields = gguf_config.metadata(shape, checkpoint.info.name)
        sizes = {name: a.shape for name, a in _named(checkpoint, arch).items()}
        gguf_config.check(shape, fields, sizes | {name: a.shape for name, a in extra.items()})
        fields |= gguf_tokenizer.metadata(checkpoint.tokenizer, source, shape.vocab_size)
        entries = [(key, value, *_kind(value)) for key, value in fields.items()]
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        yield from extra.items()
        for name, array in _named(checkpoint, arch).items():
            numbers = np.array(array.astype(mx.float32))
            if mapping.is_interleaved(name, arch):
                numbers = tangled(numbers, heads[name.split(".")[-2]])
            yield name, numbers + np.float32(arch.norm_offset) if mapping.is_shifted(name, arch) else numbers

    write_whole(path, lambda beside: _write(beside, architecture, entries, tensors(), block, file_type))


def target(checkpoint: Checkpoint) -> tuple[str, mapping.Architecture]:
    """The model's architecture in GGUF: name, and what is done to its tensors. CheckpointError where it has none."""
    source, shape = checkpoint.info.path, checkpoint.model.config
    if not source.is_file():
        name = str(gguf_config.metadata(shape, checkpoint.info.name)["general.architecture"])
        return name, mapping.MIXTRAL if shape.family == "mixtral" else mapping.ARCHITECTURES[name]
    header = reading.read_header(source)
    name = str(header.metadata.get("general.architecture"))
    if name not in gguf_config.ARCHITECTURES.values():
        known = ", ".join(dict.fromkeys(gguf_config.ARCHITECTURES.values()))
        raise CheckpointError(f"a {name} is not written as GGUF; known: {known}")
    return name, mapping.architecture(header)


def _copied(source: Path) -> Iterator[Entry]:
    """The metadata of a file, less what is written anew."""
    for field in GGUFReader(str(source)).fields.values():
        if not field.name.startswith("GGUF."):
            kind, inner = field.types[0], field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            yield field.name, field.contents(), kind, inner


def _kind(value: Any) -> tuple[GGUFValueType, GGUFValueType | None]:
    """How a value of Python is kept."""
    if isinstance(value, list):
        inner = {str: GGUFValueType.STRING, int: GGUFValueType.INT32, float: GGUFValueType.FLOAT32}
        return GGUFValueType.ARRAY, inner[type(value[0])]
    plain = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
    return plain.get(type(value), GGUFValueType.STRING), None


def _named(checkpoint: Checkpoint, arch: mapping.Architecture) -> dict[str, mx.array]:
    """The model's tensors under GGUF's names."""
    theirs = names(arch, checkpoint.model.config.layers)
    return {
        theirs[name]: array for name, array in fuse.arrays(sites.trainable(checkpoint.model), plain=True)[0].items()
    }


def _write(
    path: Path,
    architecture: str,
    entries: Sequence[Entry],
    tensors: Iterable[tuple[str, np.ndarray]],
    block: GGMLQuantizationType,
    file_type: int,
) -> None:
    writer = GGUFWriter(str(path), architecture)
    for name, value, kind, inner in entries:
        if name not in WRITTEN:
            writer.add_key_value(name, value, kind, sub_type=inner)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    for name, numbers in tensors:
        wanted = _block(name, numbers, block)
        if wanted in PLAIN:
            writer.add_tensor(name, numbers.astype(PLAIN[wanted]))
        else:
            writer.add_tensor(name, quantize(numbers, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _block(name: str, numbers: np.ndarray, block: GGMLQuantizationType) -> GGMLQuantizationType:
    """How a tensor is kept in a file of such blocks: what is small or matters most, a step better than the rest.

    llama.cpp rounds the inputs of a Q8_0 product to 8 bits too, and of all products the head's goes straight into the
    logits: as Q8_0 it made a quarter of SmolLM2's KL.
    """
    if numbers.ndim == 1 or ".ffn_gate_inp." in name:
        return GGMLQuantizationType.F32
    if name in ("token_embd.weight", "output.weight"):
        block = BETTER[block]
    return GGMLQuantizationType.F16 if block not in PLAIN and numbers.shape[-1] % 32 else block


def names(arch: mapping.Architecture, layers: int) -> dict[str, str]:
    """GGUF's name of each of Hugging Face's."""
    theirs = [f"{name}.{kind}" for name in mapping.TOP_NAMES for kind in ("weight", "bias")]
    for part in {**mapping.NAMES, **arch.names}:
        theirs += [f"blk.{i}.{part}.{kind}" for i in range(layers) for kind in ("weight", "bias")]
    return {ours: name for name in theirs if (ours := mapping.weight_name(name, arch)) is not None}


def tangled(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows [H, 2, D / 2] as [H, D / 2, 2]: what the reader undoes."""
    return np.ascontiguousarray(rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2)).reshape(rows.shape)
