"""A model as a GGUF file that llama.cpp loads: F16, Q8_0 or Q4_0, for the Llama, Qwen and Gemma families.

The reading side's tables (`engine.gguf.mapping`) are used backwards: names, interleaved query and key rows, shifted
norms. Embedding and head stay at least Q8_0, norms are float32. The tokenizer's metadata are the base file's, so the
base has to be a GGUF file itself; from a folder llama.cpp's own converter knows more tokenizers than this program does.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import quantize

from engine import gguf as reading
from engine.checkpoint import Checkpoint
from engine.errors import CheckpointError, ParameterError
from engine.gguf import mapping
from engine.tune import fuse
from engine.tune.adapters import write_whole
from metal import mx

KINDS = {
    "f16": (GGMLQuantizationType.F16, 1),
    "q8_0": (GGMLQuantizationType.Q8_0, 7),
    "q4_0": (GGMLQuantizationType.Q4_0, 2),
}
FAMILIES = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3")
WRITTEN = ("general.file_type", "general.quantization_version", "general.architecture")


def write(checkpoint: Checkpoint, path: Path, kind: str) -> None:
    """Write the model; the file lands whole. Raises CheckpointError and ParameterError for what cannot be written."""
    if kind not in KINDS:
        raise ParameterError(f"a GGUF file is written as {', '.join(KINDS)}, got {kind!r}")
    source = checkpoint.info.path
    if not source.is_file():
        raise CheckpointError(
            f"{checkpoint.info.name} is a folder: GGUF files are written from GGUF bases, whose tokenizer they keep; "
            "fuse into a folder and use llama.cpp's convert_hf_to_gguf.py"
        )
    header = reading.read_header(source)
    architecture = str(header.metadata.get("general.architecture"))
    if architecture not in FAMILIES:
        raise CheckpointError(f"a {architecture} is not written as GGUF; known: {', '.join(FAMILIES)}")
    block, file_type = KINDS[kind]
    write_whole(path, lambda beside: _write(checkpoint, beside, header.path, architecture, block, file_type))


def _write(
    checkpoint: Checkpoint, path: Path, source: Path, architecture: str, block: GGMLQuantizationType, file_type: int
) -> None:
    writer = GGUFWriter(str(path), architecture)
    for field in GGUFReader(str(source)).fields.values():
        if field.name.startswith("GGUF.") or field.name in WRITTEN:
            continue
        kind, inner = field.types[0], field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    arch = mapping.architecture(reading.read_header(source))
    names = _names(arch, checkpoint.model.config.layers)
    arrays, _ = fuse.arrays(checkpoint.model, plain=True)
    shape = checkpoint.model.config
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}
    for name, array in arrays.items():
        theirs = names[name]
        numbers = np.array(array.astype(mx.float32))
        if mapping.is_interleaved(theirs, arch):
            numbers = _tangled(numbers, heads[theirs.split(".")[-2]])
        if mapping.is_shifted(theirs, arch):
            numbers = numbers + np.float32(arch.norm_offset)
        wanted = block
        if numbers.ndim == 1:
            wanted = GGMLQuantizationType.F32
        elif wanted == GGMLQuantizationType.Q4_0 and theirs in ("token_embd.weight", "output.weight"):
            wanted = GGMLQuantizationType.Q8_0
        if wanted not in (GGMLQuantizationType.F32, GGMLQuantizationType.F16) and numbers.shape[-1] % 32:
            wanted = GGMLQuantizationType.F16
        if wanted == GGMLQuantizationType.F32:
            writer.add_tensor(theirs, numbers)
        elif wanted == GGMLQuantizationType.F16:
            writer.add_tensor(theirs, numbers.astype(np.float16))
        else:
            writer.add_tensor(theirs, quantize(numbers, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _names(arch: mapping.Architecture, layers: int) -> dict[str, str]:
    """GGUF's name of each of Hugging Face's."""
    theirs = [f"{name}.{kind}" for name in mapping.TOP_NAMES for kind in ("weight", "bias")]
    for part in {**mapping.NAMES, **arch.names}:
        theirs += [f"blk.{i}.{part}.{kind}" for i in range(layers) for kind in ("weight", "bias")]
    return {ours: name for name in theirs if (ours := mapping.weight_name(name, arch)) is not None}


def _tangled(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows [H, 2, D / 2] as [H, D / 2, 2]: what the reader undoes."""
    return np.ascontiguousarray(rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2)).reshape(rows.shape)
