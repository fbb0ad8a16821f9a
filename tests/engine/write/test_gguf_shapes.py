"""A shape in GGUF's keys is read again before it is written: what would come back otherwise is refused by its name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter

import likely.models as models
from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.write import gguf, gguf_config
from tests.engine import tiny


def _said(config: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, tuple[int, ...]]]:
    shape = models.configure(config)
    sizes = {tiny.gguf_name(name, "llama"): array.shape for name, array in tiny.weights(config).items()}
    extra = {name: array.shape for name, array in gguf_config.tensors(shape).items()}
    return shape, gguf_config.metadata(shape, "small"), sizes | extra


def test_the_keys_are_those_of_the_shape() -> None:
    shape, said, sizes = _said(tiny.LLAMA)
    assert said == {
        "general.architecture": "llama", "general.name": "small", "llama.block_count": 2, "llama.context_length": 128,
        "llama.embedding_length": 64, "llama.feed_forward_length": 128, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2, "llama.attention.key_length": 16, "llama.attention.value_length": 16,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.vocab_size": 288, "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": 16,
    }  # fmt: skip
    gguf_config.check(shape, said, sizes)
    gguf_config.check(shape, said | {"llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5))}, sizes)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("context_length", 127, "context is 128 and would be read as 127"),
        ("feed_forward_length", 129, "mlp_width is 128 and would be read as 129"),
        ("attention.head_count_kv", 4, "kv_heads is 2 and would be read as 4"),
        ("attention.layer_norm_rms_epsilon", 1.0001e-5, "eps is 1e-05 and would be read as 1.0001e-05"),
        ("rope.freq_base", 9999.0, "ropes is "),
    ],
)
def test_a_shape_that_does_not_come_back_whole_is_refused(key: str, value: float, words: str) -> None:
    shape, said, sizes = _said(tiny.LLAMA)
    with pytest.raises(CheckpointError, match=rf"this llama is not written as GGUF: {words}"):
        gguf_config.check(shape, said | {f"llama.{key}": value}, sizes)


def test_what_llama_3_divides_its_frequencies_by_is_a_tensor() -> None:
    rotation = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    shape, said, sizes = _said(tiny.LLAMA | {"rope_scaling": rotation})
    (factors,) = gguf_config.tensors(shape).values()
    periods = 2 * np.pi * 10000.0 ** (np.arange(8) / 8)  # in tokens
    smooth = np.clip((32 / periods - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    assert np.allclose(1 / factors, (1 - smooth) / 8.0 + smooth, rtol=1e-6) and factors.dtype == np.float32
    assert sizes["rope_freqs.weight"] == (8,) and not {key for key in said if "scaling" in key}


def test_a_stretched_rotation_has_its_keys() -> None:
    said = _said(tiny.LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}})[1]
    assert (said["llama.rope.scaling.type"], said["llama.rope.scaling.factor"]) == ("linear", 2.0)
    assert "llama.rope.scaling.original_context_length" not in said
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    said = _said(tiny.LLAMA | {"rope_scaling": yarn})[1]
    assert (said["llama.rope.scaling.type"], said["llama.rope.scaling.original_context_length"]) == ("yarn", 32)


def test_a_files_own_metadata_are_written_again_with_their_types(tmp_path: Path) -> None:
    of = GGUFValueType
    entries = [
        ("a.small", 3, of.UINT8, None), ("a.wide", 2**40, of.UINT64, None), ("a.words", "x", of.STRING, None),
        ("a.true", True, of.BOOL, None), ("a.narrow", [1, 2], of.ARRAY, of.UINT8),
        ("a.scores", [0.5, 1.5], of.ARRAY, of.FLOAT64), ("a.texts", ["p", "q"], of.ARRAY, of.STRING),
    ]  # fmt: skip
    writer = GGUFWriter(str(tmp_path / "more.gguf"), "llama")
    for key, value, kind, inner in entries:
        writer.add_key_value(key, value, kind, sub_type=inner)
    plain = tiny.write_gguf(tmp_path / "plain.gguf", "llama", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    for field in GGUFReader(str(plain)).fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner = field.types[-1] if field.types[0] == of.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    for tensor in GGUFReader(str(plain)).tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    gguf.write(load(tmp_path / "more.gguf"), tmp_path / "out.gguf", "f16")
    before, after = (GGUFReader(str(tmp_path / f"{name}.gguf")).fields for name in ("more", "out"))
    for key, value, kind, inner in entries:
        assert after[key].contents() == value and after[key].types == ([kind] if inner is None else [kind, inner])
    shared = before.keys() & after.keys() - {"GGUF.kv_count", "general.file_type"}
    assert len(shared) >= 20 and all(before[key].types == after[key].types for key in shared)
