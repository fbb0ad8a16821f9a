"""An adapter as a GGUF file by itself: what llama.cpp adds to the base's tensors is the adapter's change of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.engine.weights.adapters.lora as lora
from likely.engine.base.errors import ParameterError
from likely.engine.weights.adapters import sites
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.engine.weights.write import gguf_adapter
from likely.metal import mx
from tests.engine import tiny as files

MOE: dict[str, Any] = {
    "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip


def folder(path: Path, **changes: Any) -> Checkpoint:
    config = files.LLAMA | changes
    return load(files.random_folder(path, config))


def adapter_on(checkpoint: Checkpoint, *patterns: str, **options: Any) -> lora.Adapter:
    m: Any = checkpoint.model
    adapter = lora.create(sites.choose(sites.sites(m), -1, patterns, m.config.layers), rank=4, scale=2.0, **options)
    named = adapter.parameters().items()
    adapter.set({n: mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in enumerate(named)})
    return adapter


@pytest.mark.parametrize("changes", [{}, {"model_type": "qwen2"}, MOE], ids=["llama", "qwen2", "qwen3_moe"])
def test_what_llama_cpp_adds_is_the_adapters_change(changes: dict[str, Any], tmp_path: Path) -> None:
    from gguf import GGUFReader

    checkpoint = folder(tmp_path / "base", **changes)
    adapter = adapter_on(checkpoint, "*", "embed_tokens", "lm_head")
    first, *_, last = adapter.factors.values()
    last.scale = 0.5  # a site of its own scale
    gguf_adapter.write(tmp_path / "adapter.gguf", adapter, checkpoint)
    reader = GGUFReader(str(tmp_path / "adapter.gguf"))
    said = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    family = str(said["general.architecture"])
    assert (said["general.type"], said["adapter.type"]) == ("adapter", "lora") and family in (
        "llama", "qwen2", "qwen3moe",
    )  # fmt: skip
    there = {t.name: np.array(t.data) for t in reader.tensors}
    assert len(there) == 2 * len(adapter.factors)
    for path, f in adapter.factors.items():
        name = files.gguf_name(f"{path}.weight", family)
        a, b = there[f"{name}.lora_a"], there[f"{name}.lora_b"]
        scale = said["adapter.lora.alpha"] / b.shape[-1]
        added = scale * (a @ b.T if name.startswith("token_embd") else b @ a)  # rows of A are looked up there
        change = np.array(f.delta())
        if family == "llama" and ("q_proj" in path or "k_proj" in path):
            change = files.interleave(change, 4 if "q_proj" in path else 2)
        assert np.allclose(added, change, rtol=1e-4, atol=1e-4), path
    assert first.scale != last.scale


def test_what_llama_cpp_has_no_place_for_is_refused(tmp_path: Path) -> None:
    checkpoint = folder(tmp_path / "base", tie_word_embeddings=True)
    with pytest.raises(ParameterError, match="embedding and head are one table: leave it out by modules"):
        gguf_adapter.write(tmp_path / "a.gguf", adapter_on(checkpoint, "embed_tokens"), checkpoint)
    with pytest.raises(ParameterError, match=r"llama\.cpp has no DoRA"):
        gguf_adapter.write(tmp_path / "a.gguf", adapter_on(checkpoint, "q_proj", kind="dora"), checkpoint)
    shifted = adapter_on(checkpoint, "q_proj")
    next(iter(shifted.factors.values())).shift = mx.zeros((64,))
    with pytest.raises(ParameterError, match=r"llama\.cpp has no bias beside the factors, and .*q_proj has one"):
        gguf_adapter.write(tmp_path / "a.gguf", shifted, checkpoint)
    assert not (tmp_path / "a.gguf").exists()
