"""Loading: every kind of file gives the same model; every kind of damage is one line."""

import json
import os
import random
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.gguf.precision import Precision, available_memory, choose
from likely.engine.weights.sources.model_info import ModelInfo, describe
from likely.metal import mx
from tests.engine import tiny

CONFIG = tiny.LLAMA
TOKENS = mx.array([[1, 5, 9, 200, 3, 17]])
FULL, PACKED = Precision(mx.float32, packed=False), Precision(mx.float32, packed=True)


def arrays(config: dict[str, Any] = CONFIG) -> dict[str, mx.array]:
    return {name: mx.array(array) for name, array in tiny.weights(config).items()}


def logits(config: dict[str, Any], weights: dict[str, mx.array]) -> np.ndarray:
    return np.asarray(models.build(dict(config), dict(weights))(TOKENS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "tiny", CONFIG, arrays())


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
     "generation_config.json", "chat_template.jinja", "README.md", "tiny.gguf"],
)  # fmt: skip
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder: Path, name: str) -> None:
    """Nobody writes into it. Where the model needs no such file it is as if there were none."""
    path = folder.parent / name if name.endswith("gguf") else folder / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    if name in ("tokenizer_config.json", "generation_config.json", "chat_template.jinja", "README.md"):
        assert load(folder).tokenizer.encode("a")
        return
    with pytest.raises(CheckpointError, match=r"pipe, and a file is wanted|expected a tokenizer\.json|there is no"):
        load(path if name.endswith("gguf") else folder)


@pytest.mark.parametrize("precision", [FULL, PACKED])
def test_folder_of_awq(tmp_path: Path, precision: Precision) -> None:
    packed, whole = arrays(), arrays()
    for name in [name for name in packed if name.endswith("_proj.weight")]:
        codes, scales, biases = mx.quantize(packed.pop(name), 32, 4)
        path = name.removesuffix(".weight")
        zeros = mx.clip(mx.round(-biases / scales), 0, 15)
        whole[name] = mx.dequantize(codes, scales, -zeros * scales, 32, 4)
        nibbles = (codes[..., None] >> mx.arange(0, 32, 4, dtype=mx.uint32)) & 15
        for part, values in (("qweight", nibbles.reshape(codes.shape[0], -1)), ("qzeros", zeros.astype(mx.uint32))):
            eights = values.T.reshape(values.shape[1], -1, 8)
            shifts = mx.array([0, 16, 4, 20, 8, 24, 12, 28], dtype=mx.uint32)
            packed[f"{path}.{part}"] = mx.sum(eights << shifts, axis=-1).view(mx.int32)
        packed[f"{path}.scales"] = scales.T
    config = {**CONFIG, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}}
    model = load(tiny.write_folder(tmp_path / "m", config, packed), precision=precision).model
    np.testing.assert_allclose(np.asarray(model(TOKENS)), logits(CONFIG, whole), atol=1e-4)


@pytest.mark.parametrize("shards", [1, 3])
def test_folder(tmp_path: Path, shards: int) -> None:
    path = tiny.write_folder(tmp_path / "m", CONFIG, arrays(), shards)
    checkpoint = load(path)
    np.testing.assert_array_equal(np.asarray(checkpoint.model(TOKENS)), logits(CONFIG, arrays()))
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("héllo")) == "héllo"
    assert checkpoint.tokenizer.eos == {tiny.EOS}
    assert (checkpoint.info.family, checkpoint.info.quantization) == ("llama", "F32")
    assert checkpoint.info.parameters == sum(array.size for array in arrays().values())


def test_gguf_is_the_same_model_and_has_to_have_a_tokenizer(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "m.gguf", "llama", CONFIG, tiny.weights(CONFIG))
    checkpoint = load(path)
    np.testing.assert_allclose(np.asarray(checkpoint.model(TOKENS)), logits(CONFIG, arrays()), atol=1e-6)
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("héllo")) == "héllo"
    assert checkpoint.tokenizer.eos == {tiny.EOS}
    path.write_bytes(path.read_bytes().replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.xxxxxx"))
    refused(path, "tokenizer")


@pytest.mark.parametrize(("bits", "group_size"), [(4, 64), (8, 32), (3, 32)])
@pytest.mark.parametrize("shards", [1, 4])
def test_mlx_quantised(tmp_path: Path, bits: int, group_size: int, shards: int) -> None:
    """As mlx-lm quantises, in bfloat16, against the values that it stands for in float32."""
    packed, whole, wide = {}, {}, mx.float32
    for name, array in arrays().items():
        if array.ndim == 1:
            packed[name] = array.astype(mx.bfloat16)
            whole[name] = packed[name].astype(wide)
            continue
        codes, *parts = mx.quantize(array, group_size, bits)
        parts = [part.astype(mx.bfloat16) for part in parts]
        paths = (f"{name.removesuffix('weight')}{part}" for part in ("scales", "biases"))
        packed |= {name: codes, **dict(zip(paths, parts, strict=True))}
        whole[name] = mx.dequantize(codes, *(part.astype(wide) for part in parts), group_size=group_size, bits=bits)
    packing = {"group_size": group_size, "bits": bits}
    path = tiny.write_folder(tmp_path / "m", {**CONFIG, "quantization": packing}, packed, shards)
    expected = logits(CONFIG, whole)
    np.testing.assert_array_equal(np.asarray(load(path, precision=FULL).model(TOKENS)), expected)
    kept = load(path, precision=PACKED)
    np.testing.assert_allclose(np.asarray(kept.model(TOKENS)), expected, atol=1e-4)
    assert any(array.dtype == mx.uint32 for array in kept.model.arrays.values())
    assert kept.info.quantization == f"{bits}-bit affine"
    assert kept.info.parameters == sum(array.size for array in whole.values())


def test_a_model_that_is_too_narrow_is_read_again_in_the_next_wider_type(tmp_path: Path) -> None:
    path = tiny.write_folder(tmp_path / "m", CONFIG, arrays())
    now, found = load(path, precision=Precision(mx.float16, packed=False)), list[mx.Dtype]()
    while (wider := now.widened()) is not None:
        now = wider
        found.append(now.precision.dtype)
        assert {array.dtype for array in now.model.arrays.values()} == {now.precision.dtype}
    assert found == [mx.bfloat16, mx.float32]


def test_the_choice_of_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU expands what then takes less than half of the free memory; a GPU keeps what the file holds."""
    free = available_memory()
    assert choose(free // 16, "llama") == Precision(mx.float32, packed=False)
    assert choose(free // 2, "llama", mx.bfloat16) == Precision(mx.float32, packed=True)
    monkeypatch.setattr("mlx.core.default_device", lambda: mx.gpu)
    for family, held, dtype in (
        ("llama", mx.bfloat16, mx.bfloat16), ("gemma3_text", mx.bfloat16, mx.bfloat16), ("gemma", None, mx.bfloat16),
        ("llama", None, mx.float16), ("llama", mx.float32, mx.float32), ("llama", mx.float16, mx.float16),
    ):  # fmt: skip
        assert choose(1, family, held) == Precision(dtype, packed=True)


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def config_of(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 48}, r"model\.norm\.weight must be \[48\] by the config, got \[64\]"),
        ({"num_hidden_layers": 3}, r"model\.layers\.2\..* is missing"),
        ({"num_hidden_layers": 1}, "has no place in the model"),
        ({"num_hidden_layers": 1 << 40}, "num_hidden_layers is 1,099,511,627,776, but there are only 21 tensors"),
        ({"num_attention_heads": 8}, "by the config, got"), ({"vocab_size": 300}, "by the config, got"),
        ({"model_type": "bogus"}, "model_type 'bogus'"), ({"model_type": {}}, "model_type must be a string"),
        ({"quantization": {"bits": 4, "group_size": 64}, "hidden_size": "64"}, "hidden_size must be an integer"),
    ],
)  # fmt: skip
def test_config_that_disagrees_with_the_weights(folder: Path, changes: dict[str, Any], message: str) -> None:
    (folder / "config.json").write_text(json.dumps({**config_of(folder), **changes}))
    refused(folder, message)


def header(data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(data) if length is None else length) + data


DAMAGES: tuple[tuple[str, bytes | None, str], ...] = (  # a file, what is in it
    ("config.json", None, r"has no config\.json"), ("model.safetensors", None, r"has no \.safetensors weights"),
    ("tokenizer.json", None, r"expected a tokenizer\.json"), ("config.json", b"{", r"cannot read .*config\.json"),
    ("config.json", b"[]", "an object expected, got a list"), ("tokenizer.json", b"{", "tokenizer.json"),
    ("config.json", b"[" * 100_000, r"cannot read .*config\.json"), ("model.safetensors", b"", "does not fit the file"),
    ("model.safetensors", header(b"{}", 1 << 60), "does not fit the file"),
    ("model.safetensors", header(b"{}{}{", 5), "its header is no table of tensors: Extra data"),
    ("model.safetensors", header(b"[]"), "no table of tensors: an object expected, got a list"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "data", "message"), DAMAGES)
def test_damaged_folders(folder: Path, name: str, data: bytes | None, message: str) -> None:
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    refused(folder, message)


def never_crashes(folder: Path, changes: Iterator[Callable[[], object]], least: int) -> None:
    """Each change of a file: the folder loads, or is one line of CheckpointError."""
    refusals = 0
    for change in changes:
        change()
        try:
            load(folder)
        except CheckpointError as error:
            refusals += 1
            assert len(str(error).splitlines()) == 1
    assert refusals > least


def test_mutated_safetensors_headers_never_crash(folder: Path) -> None:
    """300 headers with one to three bytes changed."""
    path, chosen = folder / "model.safetensors", random.Random(2)
    good = path.read_bytes()
    end = 8 + struct.unpack("<Q", good[:8])[0]

    def change() -> None:
        data = bytearray(good)
        for _ in range(chosen.randint(1, 3)):
            data[chosen.choice((chosen.randrange(8), chosen.randrange(end)))] = chosen.choice((*b'0:"{}[],9', 0xFF))
        path.write_bytes(data)

    never_crashes(folder, repeat(change, 300), 100)


@pytest.mark.slow
def test_mutated_configs_never_crash(folder: Path) -> None:
    """Values of a config replaced by others of every kind."""
    config, chosen = config_of(folder), random.Random(3)
    values = (0, -1, 1, 2, 1 << 40, 0.5, -1e300, True, False, None, "", "x", [], [1], {}, {"type": "x"}, {"factor": 0})
    keys = [*config, "rope_scaling", "sliding_window", "layer_types", "quantization", "partial_rotary_factor"]
    keys.remove("model_type")

    def change() -> None:
        changed = {chosen.choice(keys): chosen.choice(values) for _ in range(chosen.randint(1, 2))}
        (folder / "config.json").write_text(json.dumps({**config, **changed}))

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, hard))  # a size taken at its word ends here, not the machine
    except (ValueError, OSError):
        pytest.skip("needs a limit on the memory of a process, which this system does not set")  # macOS
    try:
        never_crashes(folder, repeat(change, 300), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_nothing_heavy_is_imported() -> None:
    heavy = ("transformers", "mlx_lm", "scipy", "textual", "huggingface_hub", "gguf", "jinja2")
    code = "import sys, likely.engine.weights.sources.checkpoint; from likely import models; models.build; "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PEAK = """
import sys
from likely.engine.weights.sources.checkpoint import load
from likely.engine.base.machine.hardware import peak_memory
from likely.metal import mx
checkpoint = load(sys.argv[1])
cache = checkpoint.model.make_cache()
for _ in range(3):
    mx.eval(checkpoint.model(mx.array([[1, 2, 3]]), cache))
peak = peak_memory()  # before the packed bytes are copied to be counted
print(peak, sum(array.nbytes for array in checkpoint.model.arrays.values()), cache.nbytes)
"""


@pytest.mark.real
def test_peak_memory_of_the_real_model(smollm2: ModelInfo) -> None:
    """The whole process, interpreter included, within 1.3 times its weights and cache."""
    peak, weights, cache = peak_memory(smollm2, "off")
    assert weights > 500e6
    assert peak <= 1.3 * (weights + cache)


@pytest.mark.real
@pytest.mark.linux
def test_peak_memory_of_the_real_model_packed(smollm2: ModelInfo) -> None:
    peak, weights, cache = peak_memory(smollm2, "avx512")
    assert weights < 100e6
    assert peak <= 1.25 * (weights + cache) + 150e6


def peak_memory(model: ModelInfo, way: str) -> list[int]:
    """Bytes of a process at most, those of its weights, and those of its cache."""
    call, env = [sys.executable, "-c", PEAK, str(model.path)], os.environ | {"LIKELY_PACKED": way}
    return list(map(int, subprocess.run(call, capture_output=True, text=True, check=True, env=env).stdout.split()))


@pytest.mark.real
def test_the_real_model_is_what_its_name_says(smollm2: ModelInfo) -> None:
    again = describe(smollm2.path)
    assert again.weights == smollm2.weights
    assert (again.family, again.quantization, again.parameters, again.context) == ("llama", "Q4_1", 134_515_008, 8192)
    assert again.license == "apache-2.0"
