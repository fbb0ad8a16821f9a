"""GGUF: headers, blocks and names against the gguf package's reader, its dequantisers and its table of names."""

import random
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

import likely.models as models
from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.gguf import mapping
from likely.engine.weights.sources.gguf.blocks import expand, pack, packed_bits
from likely.engine.weights.sources.gguf.header import TYPES, TensorInfo, read_header
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.gguf.weights import packed_config, read_values, read_weights
from likely.metal import mx
from tests.engine import tiny

FULL = Precision(mx.float32, packed=False)
BLOCK_BYTES = {name: nbytes for name, _, nbytes in TYPES.values()}


def read_all(
    path: Path, precision: Precision = FULL, *, join: bool = False
) -> tuple[dict[str, Any], dict[str, mx.array]]:
    header = read_header(path)
    config = mapping.config(header, lambda name: read_values(header, name))
    heads = config["num_attention_heads"], config["num_key_value_heads"]
    joins = models.joins(config) if join else {}
    return config, dict(read_weights(header, mapping.architecture(header), heads, precision, joins=joins))


# -- blocks ------------------------------------------------------------------------------------------------------------


def random_blocks(type_: str, blocks: int, seed: int = 0) -> np.ndarray:
    """Bytes of any value: the float16 scales among them are anything, infinities and NaN included."""
    return np.random.default_rng(seed).integers(0, 256, (blocks, BLOCK_BYTES[type_]), np.uint8)


def test_types_and_block_sizes_are_the_packages() -> None:
    for number, (name, values, nbytes) in TYPES.items():
        assert (GGMLQuantizationType(number).name, GGML_QUANT_SIZES[GGMLQuantizationType(number)]) == (
            name,
            (values, nbytes),
        )


@pytest.mark.parametrize("type_", BLOCK_BYTES)
def test_blocks_expand_as_the_package_expands_them(type_: str) -> None:
    raw = random_blocks(type_, 1024)
    values = 1024 * {name: n for name, n, _ in TYPES.values()}[type_]
    with np.errstate(all="ignore"):
        expected = np.asarray(dequantize(raw, GGMLQuantizationType[type_]), np.float32).reshape(-1)
    out = np.full(values, 7, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expand(raw.reshape(-1), type_, BLOCK_BYTES[type_], out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("type_", [name for name in BLOCK_BYTES if packed_bits(name)])
def test_packed_blocks_mean_the_same_to_mlx(type_: str) -> None:
    """Exactly, whatever the codes: mlx unpacks to the values that the package gives."""
    raw, bits = random_blocks(type_, 256), packed_bits(type_)
    assert bits
    expected = np.empty(256 * {name: n for name, n, _ in TYPES.values()}[type_], np.float32)
    expand(raw.reshape(-1), type_, BLOCK_BYTES[type_], expected)
    codes = np.zeros(expected.size * bits // 32, np.uint32)
    scales, biases = np.zeros((2, expected.size // 32), np.float32)
    pack(raw.reshape(-1), type_, BLOCK_BYTES[type_], codes, scales, biases)
    rows = (mx.array(part.reshape(32, -1)) for part in (codes, scales, biases))
    finite = np.isfinite(expected)
    unpacked = np.asarray(mx.dequantize(*rows, group_size=32, bits=bits)).reshape(-1)
    np.testing.assert_array_equal(unpacked[finite], expected[finite])


# -- headers -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return tiny.write_gguf(path, "llama", tiny.LLAMA, tiny.weights(tiny.LLAMA))


def test_header_is_what_the_package_reads(llama_file: Path) -> None:
    header, reader = read_header(llama_file), GGUFReader(llama_file)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert header.metadata == fields
    for theirs in reader.tensors:
        ours = header.tensors[theirs.name]
        assert ours.shape == tuple(reversed(theirs.shape.tolist()))
        assert (ours.type, ours.offset, ours.nbytes) == (theirs.tensor_type.name, theirs.data_offset, theirs.n_bytes)
    assert len(header.tensors) == len(reader.tensors)


def test_a_header_longer_than_what_is_read_first_is_read_to_its_end(tmp_path: Path) -> None:
    """17 million characters in one value, 3,000 long texts in another, and what stands behind them."""
    found = read_header(written(tmp_path / "m.gguf", a=np.ones((2, 3), np.float32)))
    assert found.metadata["then"] == 7 and len(found.metadata["long"]) == 17_000_000
    assert found.metadata["many"] == MANY
    assert found.tensors["a"].shape == (2, 3)


@pytest.mark.slow
def test_mutated_headers_never_crash(llama_file: Path, tmp_path: Path) -> None:
    """500 files with one to three bytes of the header changed: each loads, or is one line of CheckpointError."""
    good, end = llama_file.read_bytes(), min(t.offset for t in read_header(llama_file).tensors.values())
    chosen, refused, path = random.Random(1), 0, tmp_path / "mutated.gguf"
    places = [*range(24), *range(end)]
    for _ in range(500):
        data = bytearray(good)
        for _ in range(chosen.randint(1, 3)):
            data[chosen.choice(places)] = chosen.choice((0, 1, 0x7F, 0x80, 0xFF, chosen.randrange(256)))
        path.write_bytes(data)
        try:
            read_all(path)
        except CheckpointError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert 100 < refused < 500


# -- names, configs and what the converter did -------------------------------------------------------------------------

GEMMA = {"tie_word_embeddings": True, "query_pre_attn_scalar": 16, "sliding_window": 8, "head_dim": 16}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # config beyond LLAMA's, metadata beyond the common
    "llama": ({"model_type": "llama"}, {}),
    "qwen2": ({"model_type": "qwen2"}, {}),
    "qwen3": ({"model_type": "qwen3", "head_dim": 32}, {}),
    "gemma2": (
        {"model_type": "gemma2", **GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        {"attention__sliding_window": 8, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3": (
        {"model_type": "gemma3_text", **GEMMA, "rope_local_base_freq": 10000.0},
        {"attention__sliding_window": 8},
    ),
    "phi3": ({"model_type": "phi3", "partial_rotary_factor": 0.75}, {"rope__dimension_count": 12}),
    "granite": (
        {"model_type": "granite", "attention_multiplier": 0.125, "embedding_multiplier": 12.0,
         "residual_multiplier": 0.5, "logits_scaling": 8.0},
        {"attention__scale": 0.125, "embedding_scale": 12.0, "residual_scale": 0.5, "logit_scale": 8.0},
    ),
    "smollm3": ({"model_type": "smollm3", "no_rope_layer_interval": 4}, {}),
    "olmo2": ({"model_type": "olmo2"}, {}),
    "starcoder2": ({"model_type": "starcoder2", "norm_epsilon": 1e-5}, {}),
    "mixtral": (
        {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
        {"expert_count": 4, "expert_used_count": 2},
    ),
    "qwen3moe": (
        {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
         "norm_topk_prob": True},
        {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32},
    ),
}  # fmt: skip


@pytest.mark.parametrize("architecture", FAMILIES)
def test_config_and_weights_come_back(tmp_path: Path, architecture: str) -> None:
    """Written by llama.cpp's rules and read again: the same config and the same weights under the same names."""
    changes, metadata = FAMILIES[architecture]
    config = {**tiny.LLAMA, **changes}
    if "norm_epsilon" in config:
        del config["rms_norm_eps"]
    weights = tiny.weights(config)
    theirs = "llama" if architecture == "mixtral" else architecture
    path = tiny.write_gguf(tmp_path / "m.gguf", theirs, config, weights, **metadata)
    found, arrays = read_all(path)
    assert {key: found.get(key) for key in config} == config
    assert arrays.keys() == weights.keys()
    for name, expected in weights.items():
        np.testing.assert_allclose(np.asarray(arrays[name]), expected, atol=2e-7, err_msg=name)
    _, joined = read_all(path, join=True)
    parts = set(arrays) - set(joined)
    assert len(parts) == {"phi3": 0, "starcoder2": 12, "qwen2": 16, "mixtral": 6, "qwen3moe": 6}.get(architecture, 10)
    tokens = mx.array([[1, 2, 3]])
    logits = models.build(found, arrays)(tokens)
    assert logits.shape == (1, 3, 288) and mx.array_equal(models.build(found, joined)(tokens), logits)


@pytest.mark.parametrize("type_", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0"])
def test_quantised_rows_are_untangled(tmp_path: Path, type_: str) -> None:
    """Rows of blocks move as wholes: expanded and packed agree, and come near the source."""
    weights = tiny.weights(tiny.LLAMA)
    path = tiny.write_gguf(tmp_path / "m.gguf", "llama", tiny.LLAMA, weights, type_)
    config, arrays = read_all(path)
    _, packed = read_all(path, Precision(mx.float32, packed=True))
    header = read_header(path)
    entries = packed_config(header, mapping.architecture(header))
    assert config["vocab_size"] == 288
    for name, expected in weights.items():
        found = np.asarray(arrays[name])
        np.testing.assert_allclose(found, expected, atol=0.06 if type_[0] == "Q" else 1e-3, err_msg=name)
        module = name.removesuffix(".weight")
        if f"{module}.scales" in packed:
            how = entries[module]
            assert isinstance(how, dict)
            parts = (packed[f"{module}.{part}"] for part in ("weight", "scales", "biases"))
            whole = mx.dequantize(*parts, group_size=how["group_size"], bits=how["bits"])
            np.testing.assert_array_equal(np.asarray(whole), found)
        else:
            np.testing.assert_array_equal(np.asarray(packed[name]), found)
    assert ("model.layers.0.self_attn.q_proj.scales" in packed) == (type_[0] == "Q")


def test_a_type_without_a_layout_is_quantised_again_where_it_must_stay_small(tmp_path: Path) -> None:
    raw = random_blocks("Q6_K", 8)
    raw[:, 208:] = np.array([0.01], np.float16).view(np.uint8)
    path = written(tmp_path / "m.gguf", output__weight=(raw.reshape(8, -1), GGMLQuantizationType.Q6_K))
    header = read_header(path)
    packed = dict(read_weights(header, mapping.ARCHITECTURES["llama"], (1, 1), Precision(mx.float32, packed=True)))
    whole = np.asarray(mx.dequantize(*packed.values(), group_size=32, bits=8))
    expected = read_values(header, "output.weight")
    assert np.abs(whole - expected).max() <= np.ptp(expected.reshape(-1, 32), axis=1).max() / 255


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_llama3_scaling_from_its_factors(tmp_path: Path, theta: float) -> None:
    """The factors as the converter computes them (llama.cpp, generate_extra_tensors), D = 64."""
    config = {**tiny.LLAMA, "rope_theta": theta, "head_dim": 64, "hidden_size": 64}
    wavelengths = 2 * np.pi * theta ** (np.arange(0, 64, 2) / 64)
    smooth = np.clip((8192 / wavelengths - 1) / 3, 0, 1)
    factors, path = 1 / ((1 - smooth) / 32.0 + smooth), tmp_path / "m.gguf"

    def read(factors: np.ndarray) -> Any:
        more = {"rope.freqs.weight": factors.astype(np.float32)}
        return read_all(tiny.write_gguf(path, "llama", config, {**tiny.weights(config), **more}))[0]["rope_scaling"]

    assert read(factors) == {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="RoPE factors"):
        read(factors * 1.5)


def test_longrope_from_its_factors(tmp_path: Path) -> None:
    config = {**tiny.LLAMA, "model_type": "phi3"}
    factors = {name: np.linspace(1, top, 8, dtype=np.float32) for name, top in (("long", 40), ("short", 2))}
    weights = tiny.weights(config) | {f"rope_factors_{name}.weight": array for name, array in factors.items()}
    extra = {"rope__scaling__original_context_length": 64}
    found, arrays = read_all(tiny.write_gguf(tmp_path / "m.gguf", "phi3", config, weights, **extra))
    assert found["original_max_position_embeddings"] == 64
    assert found["rope_scaling"]["type"] == "longrope"
    for name, array in factors.items():
        assert found["rope_scaling"][f"{name}_factor"] == array.tolist()
    assert models.build(found, arrays).config.ropes[0].kind == "longrope"  # type: ignore[union-attr]


def test_metadata_that_contradict_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with pytest.raises(CheckpointError, match="architecture 'mamba' is not supported"):
        read_all(written(path, "mamba"))
    arrays = tiny.weights(tiny.LLAMA)
    tiny.write_gguf(path, "llama", tiny.LLAMA | {"num_hidden_layers": 3}, arrays)
    with pytest.raises(CheckpointError, match="3 layers"):
        read_all(path)
    data = tiny.write_gguf(path, "llama", tiny.LLAMA, arrays).read_bytes()
    heads = b"llama.attention.head_count" + struct.pack("<II", 4, 4)
    assert heads in data
    path.write_bytes(data.replace(heads, heads[:-4] + struct.pack("<I", 5)))
    with pytest.raises(CheckpointError, match="do not divide into 5 heads"):
        read_all(path)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return u64(len(data)) + data


def entry(name: str, dims: list[int], kind: int, offset: int) -> bytes:
    return text(name) + u32(len(dims)) + b"".join(map(u64, dims)) + u32(kind) + u64(offset)


def gguf(path: Path, keys: list[bytes], tensors: list[bytes], data: bytes = b"", **more: Any) -> Path:
    n_tensors, n_keys = more.get("counts") or (len(tensors), len(keys))
    head = b"GGUF" + u32(more.get("version", 3)) + u64(n_tensors) + u64(n_keys) + b"".join(keys) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % more.get("align", 32)) + data if tensors else head)
    return path


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + u32(kind) + value


def test_a_header_holds_every_kind_of_value(tmp_path: Path) -> None:
    nested = u32(9) + u64(2) + u32(4) + u64(2) + u32(1) + u32(2) + u32(8) + u64(1) + text("é")
    keys = [
        key("u8", 0, b"\xff"), key("i8", 1, b"\xff"), key("u16", 2, b"\xff\xff"), key("i16", 3, b"\xfe\xff"),
        key("u32", 4, u32(7)), key("i32", 5, struct.pack("<i", -7)), key("f32", 6, struct.pack("<f", 0.5)),
        key("b", 7, b"\1"), key("s", 8, text("word")), key("u64", 10, u64(1 << 40)),
        key("i64", 11, struct.pack("<q", -9)), key("f64", 12, struct.pack("<d", 0.25)),
        key("bs", 9, u32(7) + u64(3) + b"\0\1\0"), key("nested", 9, nested), key("empty", 9, u32(4) + u64(0)),
    ]  # fmt: skip
    path = tmp_path / "m.gguf"
    found = read_header(gguf(path, keys, [entry("a", [64, 2], 2, 0), entry("b", [3], 0, 96)], bytes(108)))
    assert found.metadata == {
        "u8": 255, "i8": -1, "u16": 65535, "i16": -2, "u32": 7, "i32": -7, "f32": 0.5, "b": True, "s": "word",
        "u64": 1 << 40, "i64": -9, "f64": 0.25, "bs": [False, True, False], "nested": [[1, 2], ["é"]], "empty": [],
    }  # fmt: skip
    start = path.stat().st_size - 108
    assert found.tensors == {
        "a": TensorInfo("a", (2, 64), "Q4_0", start, 72), "b": TensorInfo("b", (3,), "F32", start + 96, 12)
    }  # fmt: skip
    assert start % 32 == 0 and read_header(gguf(path, [], [], version=2)).tensors == {}
    whole = gguf(path, keys, [entry("a", [64, 2], 2, 0)], bytes(72)).read_bytes()
    for cut in range(0, len(whole) - 72, 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r"m\.gguf") as caught:
            read_header(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "odd", ["", "a\0b", "line\nend", "é" * 128, "\0" * 9, "x" * 300, "\n", "\7" + "\0" * 7 + "eighteen"]
)
def test_arrays_of_texts_hold_any_text(tmp_path: Path, odd: str) -> None:
    """A text longer than a length's first byte says, an empty one, zeros and line ends: first, last and between."""
    short = [f"token é {i}" for i in range(300)]
    arrays = {"a": [odd, *short], "b": [*short, odd], "c": [*short, odd, *short, odd], "d": short, "e": [odd] * 70}
    keys = [key(name, 9, u32(8) + u64(len(of)) + b"".join(map(text, of))) for name, of in arrays.items()]
    assert read_header(gguf(tmp_path / "m.gguf", keys, [])).metadata == arrays
    wrong = u32(8) + u64(300) + b"".join(map(text, short[:200])) + text(b"\xc3") + b"".join(map(text, short[:99]))
    with pytest.raises(CheckpointError, match="not UTF-8"):
        read_header(gguf(tmp_path / "m.gguf", [key("a", 9, wrong)], []))
    cut = u32(8) + u64(300) + b"".join(map(text, short))[:-3]
    with pytest.raises(CheckpointError, match="runs past the end"):
        read_header(gguf(tmp_path / "m.gguf", [key("a", 9, cut)], []))


def test_a_header_is_believed_in_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"

    def align(value: int) -> list[bytes]:
        return [key("general.alignment", 4, u32(value))]

    one = [entry("a", [4], 0, 0)]
    two = read_header(gguf(path, align(16), [*one, entry("b", [4], 0, 16)], bytes(32), align=16))
    assert two.tensors["b"].nbytes == 16
    assert read_header(gguf(path, align(1 << 16), one, bytes(16), align=1 << 16)).tensors["a"].offset == 1 << 16
    assert read_header(gguf(path, [], [entry("a", [2, 1, 1, 1], 0, 0)], bytes(8))).tensors["a"].shape == (1, 1, 1, 2)
    deep = u32(9) + u64(1)
    for keys, tensors, data, more, line in (
        ([], [], 0, {"version": 1}, "version 2 or 3 expected, got 1"), ([], [], 0, {"version": 4}, "got 4"),
        ([key("a", 4, u32(1))] * 2, [], 0, {}, "the key 'a' comes twice"),
        ([], [], 0, {"counts": (65537, 0)}, "at most 65,536 tensors expected, got 65,537"),
        ([], [], 0, {"counts": (0, 65537)}, "65,536 keys"), ([key("a", 13, b"")], [], 0, {}, "of unknown type 13"),
        ([key("a", 7, b"\2")], [], 0, {}, "neither 0 nor 1"), ([key("a", 8, text(b"\xff"))], [], 0, {}, "not UTF-8"),
        ([key("a", 8, u64(99))], [], 0, {}, "runs past the end"),
        ([key("a", 9, u32(0) + u64(99))], [], 0, {}, "an array of 99 elements does not fit"),
        ([key("a", 9, deep * 3 + bytes(40))], [], 0, {}, "unknown type 9"),
        (align(12), [], 0, {}, "multiple of 8 expected, got 12"), (align(0), [], 0, {}, "got 0"),
        (align((1 << 16) + 8), [], 0, {}, "multiple of 8"),
        ([key("general.alignment", 8, text("x"))], [], 0, {}, "got 'x'"),
        ([], one * 2, 32, {}, "the tensor 'a' comes twice"),
        ([], [entry("a", [4], 0, 8)], 32, {}, "is not aligned to 32"), ([], one, 15, {}, "ends after the file does"),
        ([], [entry("a", [4], 0, 32)], 47, {}, "ends after"),
        ([], [entry("a", [], 0, 0)], 0, {}, "1 to 4 dimensions expected, got 0"),
        ([], [entry("a", [1] * 5, 0, 0)], 32, {}, "got 5"),
        ([], [entry("a", [4], 4, 0)], 32, {}, "has type 4, which is not supported; known: F32, F16, Q4_0"),
        ([], [entry("a", [0], 0, 0)], 0, {}, r"a shape of \[0\] does not fit F32"),
        ([], [entry("a", [33], 2, 0)], 99, {}, "does not fit Q4_0"),
        ([], [entry("a", [1 << 40], 0, 0)], 0, {}, "does not fit F32"),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match=line):
            read_header(gguf(path, keys, tensors, bytes(data), **more))
    for content, line in ((b"GGUX" + bytes(40), "does not begin with GGUF"), (b"", "is not a GGUF file")):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=line):
            read_header(path)
    with pytest.raises(CheckpointError, match=r"cannot read .*none: No such file"):
        read_header(tmp_path / "none")


MANY = [f"{i:04}" * 300 for i in range(3000)]


def written(path: Path, architecture: str = "llama", **tensors: Any) -> Path:
    """A file of these tensors, each an array, or bytes and their type."""
    writer = GGUFWriter(path, architecture)
    writer.add_string("long", "x" * 17_000_000)
    writer.add_array("many", MANY)
    writer.add_uint32("then", 7)
    for name, array in tensors.items():
        raw, kind = array if isinstance(array, tuple) else (array, None)
        writer.add_tensor(name.replace("__", "."), raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)
