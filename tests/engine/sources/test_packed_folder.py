"""Folders that mlx quantised, kept packed: their numbers, the model that they make, and who takes the graph."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.weights.sources import packed_folder
from likely.engine.weights.sources.checkpoint import load, not_native
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.model_info import describe
from likely.metal import mx
from likely.metal.packed import PackedMatrix
from likely.models.native_path.native import NativeModel
from likely.models.packed_weights.packed import PackedModel
from tests.engine.sources.test_gguf_packed import EXACT, near
from tests.engine.tiny import LLAMA, weights, write_folder

pytestmark = pytest.mark.linux
CONFIG = LLAMA | {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
AFFINE = [(bits, group) for bits in (4, 8) for group in (32, 64, 128)]


def write(
    folder: Path, bits: int = 4, group: int = 64, dtype: mx.Dtype = mx.bfloat16, own: Any = None, **changes: Any
) -> Path:
    """A folder as mlx-lm writes it; `own`: a path's end -> settings of its own, False for plain numbers."""
    config = CONFIG | changes
    arrays: dict[str, mx.array] = {}
    packing: dict[str, Any] = {"group_size": group, "bits": bits, "mode": "affine"}
    for name, numbers in weights(config).items():
        path, said = name.removesuffix(".weight"), packing
        for end, settings in (own or {}).items():
            if path.endswith(end):
                packing[path] = said = settings
        if numbers.ndim == 1 or said is False:
            arrays[name] = mx.array(numbers).astype(dtype)
            continue
        how = {key: said.get(key, packing[key]) for key in ("group_size", "bits", "mode")}
        parts = mx.quantize(mx.array(numbers).astype(dtype), **how)
        arrays |= dict(zip((name, f"{path}.scales", f"{path}.biases"), parts, strict=False))
    return write_folder(folder, config | {"quantization": packing}, arrays)


def check(folder: Path) -> None:
    """Packed as expanded: numbers to the bit, logits within the rounding of activations, greedy tokens the same."""
    fast, graph = load(folder), load(folder, precision=EXACT)
    assert isinstance(fast.model, NativeModel) and not_native(fast.info) is None
    want = graph.model.arrays
    for name, array in fast.model.graph.arrays.items():
        np.testing.assert_array_equal(np.array(array), np.array(want[name]), err_msg=name)
    x = mx.array(np.random.default_rng(0).integers(0, 250, (2, 50)))
    near(lambda: np.array(fast.model(x)), np.array(graph.model(x)))
    ids, greedy = [int(token) for token in x[0]], RunControl(SamplingConfig(greedy=True))
    one, other = (list(Session(each).generate(ids, greedy, max_tokens=20)) for each in (fast, graph))
    tokens = [event.step.token for event in one if isinstance(event, Emitted)]
    assert tokens == [event.step.token for event in other if isinstance(event, Emitted)] and len(tokens) > 1


@pytest.mark.parametrize(("bits", "group"), AFFINE)
def test_mlxs_layouts_run_packed_as_expanded(bits: int, group: int, tmp_path: Path) -> None:
    dtype = {32: mx.float32, 64: mx.bfloat16, 128: mx.float16}[group]
    path = write(tmp_path / "m", bits, group, dtype, tie_word_embeddings=bits == 4)
    check(path)
    read = dict(packed_folder.read_packed(path, json.loads((path / "config.json").read_text())))
    layouts = {found.layout for found in read.values() if isinstance(found, PackedMatrix)}
    assert layouts == {f"AFFINE{bits}"}


def test_what_has_no_packed_layout_in_it_is_expanded(tmp_path: Path) -> None:
    own = {"lm_head": False, "up_proj": {"group_size": 32, "bits": 6}, "down_proj": {"group_size": 128, "bits": 8}}
    check(write(tmp_path / "m", own=own))


def test_a_family_that_renames_its_tensors_runs_too(tmp_path: Path) -> None:
    """Gemma 3, whose text model's tensors have a prefix where there is an eye as well."""
    text = CONFIG | {
        "model_type": "gemma3_text", "tie_word_embeddings": True, "query_pre_attn_scalar": 32, "sliding_window": 16,
        "hidden_activation": "gelu_pytorch_tanh", "rope_local_base_freq": 10_000.0,
    }  # fmt: skip
    folder = write(tmp_path / "text", own={}, **text)
    check(folder)
    config = json.loads((folder / "config.json").read_text())
    arrays = mx.load(str(folder / "model.safetensors"))
    assert isinstance(arrays, dict)
    eye = {f"language_model.{name}": array for name, array in arrays.items()}
    eye["vision_tower.patch.weight"] = mx.zeros((4, 4))
    packing = config.pop("quantization")
    check(write_folder(tmp_path / "eye", {"model_type": "gemma3", "text_config": config, "quantization": packing}, eye))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bits": 6}, "nothing in it is packed in affine codes of 4 or 8 bits"),
        ({"own": {"q_proj": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}}, "a mode that is not affine"),
        ({"attn_logit_softcapping": 50.0, "model_type": "gemma2"}, "a cap on scores"),
    ],
)
def test_who_takes_the_graph_says_why(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    more = {"query_pre_attn_scalar": 32, "sliding_window": 16, "hidden_activation": "gelu_pytorch_tanh"}
    changes = changes | (more if "model_type" in changes else {})
    checkpoint = load(write(tmp_path / "m", group=64, **changes))
    assert not isinstance(checkpoint.model, NativeModel) and not_native(checkpoint.info) == reason


def test_a_plain_folder_and_one_without_memory_take_the_graph(tmp_path: Path) -> None:
    arrays = {name: mx.array(w) for name, w in weights(CONFIG).items()}
    folder = write_folder(tmp_path / "plain", CONFIG, arrays)
    reason = "nothing in it is packed in affine codes of 4 or 8 bits"
    assert not_native(describe(folder)) == reason and not isinstance(load(folder).model, NativeModel)
    mixed = write(tmp_path / "mixed", own={"up_proj": {"group_size": 64, "bits": 6}})
    config = json.loads((mixed / "config.json").read_text())
    stored = packed_folder.tensors(mixed)
    assert packed_folder.refused(stored, config, expand=True) is None
    assert packed_folder.refused(stored, config, expand=False) == packed_folder.NO_MEMORY


def test_damage_is_named_in_a_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    file, config = folder / "model.safetensors", json.loads((folder / "config.json").read_text())
    whole = file.read_bytes()
    file.write_bytes(whole[:-5000])
    with pytest.raises(CheckpointError, match="ends after the file does; it is truncated, fetch it again"):
        load(folder)
    file.write_bytes(whole)
    arrays = dict(mx.load(str(file)))
    for changed, message in (
        ({"stranger.weight": mx.zeros((3, 3))}, r"stranger\.weight \[3, 3\] has no place in the model"),
        ({"model.layers.0.self_attn.q_proj.weight": mx.zeros((3, 3))}, "q_proj.* is not packed as the config"),
        ({"model.norm.weight": mx.zeros((3,))}, r"model\.norm\.weight must be \[128\] by the config"),
    ):
        broken = write_folder(tmp_path / "broken", config, arrays | changed)
        with pytest.raises(CheckpointError, match=message):
            checkpoint = load(broken, precision=Precision(mx.float32, packed=False, native=True))
            assert isinstance(checkpoint.model, PackedModel)
