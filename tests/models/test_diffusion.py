"""Models that see both ways: published layouts loaded from folders, against the definition in float64."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base.errors import ConfigError, ParameterError
from likely.engine.decode.session import Session
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.diffusion.infilling import infill
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import Unmasking
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from likely.metal.attention import FULL
from likely.models.tap import TappedPass
from tests.engine import tiny

LLADA: dict[str, Any] = {  # every key of the published configuration
    "activation_type": "silu", "alibi": False, "alibi_bias_max": 8.0, "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0, "attention_layer_norm": False, "attention_layer_norm_with_affine": True,
    "auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig"}, "bias_for_layer_norm": False, "block_group_size": 1,
    "block_type": "llama", "d_model": 64, "embedding_dropout": 0.0, "embedding_size": 288, "eos_token_id": 287,
    "flash_attention": False, "include_bias": False, "include_qkv_bias": False, "init_cutoff_factor": None,
    "init_device": "meta", "init_fn": "mitchell", "init_std": 0.02, "input_emb_norm": False, "layer_norm_type": "rms",
    "layer_norm_with_affine": True, "mask_token_id": 286, "max_sequence_length": 64, "mlp_hidden_size": 96,
    "mlp_ratio": 4, "model_type": "llada", "multi_query_attention": None, "n_heads": 4, "n_kv_heads": 2, "n_layers": 2,
    "pad_token_id": 287, "precision": "amp_bf16", "residual_dropout": 0.0, "rms_norm_eps": 1e-5, "rope": True,
    "rope_full_precision": True, "rope_theta": 500000.0, "scale_logits": False, "transformers_version": "4.46.3",
    "use_cache": False, "vocab_size": 288, "weight_tying": False,
}  # fmt: skip
DREAM: dict[str, Any] = {
    "architectures": ["DreamModel"], "attention_dropout": 0.0, "bos_token_id": 285, "eos_token_id": 287,
    "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 96, "mask_token_id": 286,
    "max_position_embeddings": 64, "max_window_layers": 2, "model_type": "Dream", "num_attention_heads": 4,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "pad_token_id": 287, "rms_norm_eps": 1e-5, "rope_scaling": None,
    "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "float32",
    "transformers_version": "4.46.2", "use_cache": True, "use_mrope": False, "use_sliding_window": False,
    "vocab_size": 288,
}  # fmt: skip
PARTS = {  # of a layer: LLaDA's name, Dream's, the shape
    "attn_norm": ("attn_norm", "input_layernorm", (64,)),
    "q": ("q_proj", "self_attn.q_proj", (64, 64)),
    "k": ("k_proj", "self_attn.k_proj", (32, 64)),
    "v": ("v_proj", "self_attn.v_proj", (32, 64)),
    "o": ("attn_out", "self_attn.o_proj", (64, 64)),
    "mlp_norm": ("ff_norm", "post_attention_layernorm", (64,)),
    "gate": ("ff_proj", "mlp.gate_proj", (96, 64)),
    "up": ("up_proj", "mlp.up_proj", (96, 64)),
    "down": ("ff_out", "mlp.down_proj", (64, 96)),
}


def checkpoint(config: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]], dict[str, Any]]:
    """Arrays by the family's names, the same by layer and role, and those outside the layers."""
    random = np.random.default_rng(3)
    ours = config["model_type"] == "llada"
    layer = "model.transformer.blocks.{}." if ours else "model.layers.{}."
    names = ("model.transformer.wte", "model.transformer.ln_f", "model.transformer.ff_out") if ours else (
        "model.embed_tokens", "model.norm", "lm_head")  # fmt: skip
    top = {
        n: random.normal(0, 0.3, s)
        for n, s in zip(("embed", "norm", "head"), ((288, 64), (64,), (288, 64)), strict=True)
    }
    arrays = {f"{name}.weight": array for name, array in zip(names, top.values(), strict=True)}
    layers: list[dict[str, np.ndarray]] = []
    for i in range(2):
        found = {role: random.normal(0, 0.2, shape) for role, (_, _, shape) in PARTS.items()}
        arrays |= {f"{layer.format(i)}{PARTS[role][not ours]}.weight": a for role, a in found.items()}
        if not ours:
            found |= {f"{r}_bias": random.normal(0, 0.2, PARTS[r][2][:1]) for r in "qkv"}
            arrays |= {f"{layer.format(i)}{PARTS[r][1]}.bias": found[f"{r}_bias"] for r in "qkv"}
        layers.append(found)
    return arrays, layers, top


def by_definition(ids: list[int], layers: list[dict[str, np.ndarray]], top: dict[str, Any], theta: float) -> np.ndarray:
    """Logits [T, V] by a Llama block without causality, in float64."""

    def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * weight

    def turned(x: np.ndarray) -> np.ndarray:  # [H, T, 16]
        angle = np.arange(x.shape[1])[:, None] * theta ** (-np.arange(8) / 8)
        a, b = x[..., :8], x[..., 8:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)

    x = top["embed"][ids]
    for w in layers:
        h = norm(x, w["attn_norm"])
        q, k, v = (
            (h @ w[r].T + w.get(f"{r}_bias", 0.0)).reshape(len(ids), -1, 16).swapaxes(0, 1) for r in ("q", "k", "v")
        )
        q, k, v = turned(q), np.repeat(turned(k), 2, axis=0), np.repeat(v, 2, axis=0)
        scores = q @ k.swapaxes(1, 2) / 4
        share = np.exp(scores - scores.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        x = x + (share @ v).swapaxes(0, 1).reshape(len(ids), 64) @ w["o"].T
        h = norm(x, w["mlp_norm"])
        gate = h @ w["gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["up"].T)) @ w["down"].T
    return norm(x, top["norm"]) @ top["head"].T


@pytest.mark.parametrize("config", [LLADA, DREAM], ids=["llada", "dream"])
def test_a_published_layout_gives_the_logits_of_its_definition(config: dict[str, Any], tmp_path: Path) -> None:
    arrays, layers, top = checkpoint(config)
    folder = tiny.write_folder(tmp_path / "m", config, {n: mx.array(a.astype(np.float32)) for n, a in arrays.items()})
    found = load(folder)
    assert found.info.context == 64 and found.info.family == config["model_type"]
    ids = np.array([5, 286, 17, 286, 286, 200, 31])
    theta = config["rope_theta"]
    wanted = by_definition(ids.tolist(), layers, top, theta)
    got = np.array(found.model.head(found.model.hidden(mx.array(ids[None]), mask=FULL)))[0]
    keep = np.arange(288) != 286
    assert np.abs(got - wanted)[:, keep].max() < 2e-4 * np.abs(wanted).max() and np.all(got[:, 286] == -np.inf)
    places = np.array([0, 1, 3, 4])
    said = ModelDenoiser(found.model).logits(ids, places)
    seen = np.maximum(places - 1, 0) if config is DREAM else places
    assert np.abs(said - wanted[seen])[:, keep].max() < 2e-4 * np.abs(wanted).max() and np.all(said[:, 286] == -np.inf)
    every = ModelDenoiser(found.model).log_probabilities(np.stack([ids, ids[::-1]]))
    assert np.abs(np.exp(every).sum(axis=-1) - 1).max() < 1e-5
    part = said - np.log(np.exp(said - said.max(axis=-1, keepdims=True)).sum(axis=-1, keepdims=True))
    assert np.abs(every[0, places][:, keep] - (part - said.max(axis=-1, keepdims=True))[:, keep]).max() < 1e-4


@pytest.mark.parametrize("config", [LLADA, DREAM], ids=["llada", "dream"])
def test_a_quantised_folder_gives_the_logits_of_its_numbers_and_is_filled_with_every_cache(
    config: dict[str, Any], tmp_path: Path
) -> None:
    arrays = checkpoint(config)[0]
    packed, plain = {}, {}
    for name, array in arrays.items():
        plain[name] = packed[name] = mx.array(array.astype(np.float32))
        if array.ndim == 2:
            stem = name.removesuffix(".weight")
            codes, scales, biases = mx.quantize(plain[name], group_size=32, bits=4)
            packed |= {name: codes, f"{stem}.scales": scales, f"{stem}.biases": biases}
            plain[name] = mx.dequantize(codes, scales, biases, group_size=32, bits=4)
    settings = {**config, "quantization": {"group_size": 32, "bits": 4}}
    found = load(tiny.write_folder(tmp_path / "q", settings, packed))
    wanted = load(tiny.write_folder(tmp_path / "p", config, plain))
    ids, places = np.array([5, 286, 17, 286, 286, 200, 31]), np.array([1, 3, 4])
    said = [ModelDenoiser(each.model).logits(ids, places) for each in (found, wanted)]
    keep = np.arange(288) != 286
    assert np.abs(said[0][:, keep] - said[1][:, keep]).max() < 1e-3 * np.abs(said[1][:, keep]).max()
    blocks = load(tiny.write_folder(tmp_path / "b", {**settings, "block_size": 2}, packed))
    for checkpoint_, how in ((found, {"cache": "prefix"}), (found, {"cache": "dual"}), (blocks, {"cache": "exact"})):
        order = Unmasking(block=2 if checkpoint_ is found else 0, check=checkpoint_ is found, **how)
        canvas = [5, 286, 17, 6, 286, 286, 200, 286]
        passes = list(infill(Session(checkpoint_), canvas, order, SamplingConfig(), seed=1))
        tokens = {one.token.position: one.token.token for each in passes for one in each.unmasked}
        assert sorted(tokens) == [1, 4, 5, 7] and 286 not in tokens.values()
        assert len([each for each in passes if each.disagreement]) == (2 if checkpoint_ is found else 0)
        if checkpoint_ is blocks:
            again = infill(Session(blocks), canvas, Unmasking(), SamplingConfig(), seed=1)
            assert tokens == {one.token.position: one.token.token for each in again for one in each.unmasked}


def test_what_would_read_it_from_left_to_right_is_refused() -> None:
    config = tiny.LLAMA | {"mask_token_id": 286}
    weights = {name: mx.array(array) for name, array in tiny.weights(config).items()}
    model = models.build(config, weights)
    with pytest.raises(ConfigError, match="does not go from left to right"):
        model(mx.array([[1, 2, 3]]), model.make_cache())
    for looked in (model.inspect, partial(TappedPass, model)):
        with pytest.raises(ConfigError, match="does not go from left to right"):
            looked(mx.array([[1, 2, 3]]))
    ids = mx.array([[1, 286, 3]])
    swapped = model.hidden(mx.array([[1, 286, 4]]), mask=FULL)
    assert float(mx.abs(model.hidden(ids, mask=FULL) - swapped)[0, 1].max()) > 1e-3  # it sees what follows


def test_a_configuration_that_is_none_is_refused() -> None:
    for changes, line in (
        ({"mask_token_id": None}, "mask_token_id is missing"),
        ({"mask_token_id": 288}, "one of the 288 tokens, got 288"),
        ({"block_type": "sequential"}, "block_type must be 'llama' here"),
        ({"input_emb_norm": True}, "input_emb_norm must be False here"),
    ):
        with pytest.raises(ConfigError, match=line):
            models.configure(LLADA | changes)
    with pytest.raises(ParameterError, match="mine is autoregressive and has no mask token"):
        plain = {name: mx.array(array) for name, array in tiny.weights(tiny.LLAMA).items()}
        ModelDenoiser(models.build(dict(tiny.LLAMA), plain), "mine")
