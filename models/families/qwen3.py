"""Qwen3, dense and mixture of experts: Llama with a norm on each head of q and k."""

from collections.abc import Mapping
from typing import Any

from likely.metal import mx
from likely.models.configuration.config import Experts, ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama
from likely.models.modules.mlp import stack

NAMES = llama.NAMES | {
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
    "router": "mlp.gate",
    "experts": "mlp.switch_mlp",
}


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = llama.common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-6))
    layers, size = fields["layers"], fields["head_size"]
    return ModelConfig(
        **fields,
        **llama.biased(keys),
        **(_experts(keys, layers) if model_type == "qwen3_moe" else {}),
        windows=llama.read_switched_windows(keys, layers),
        ropes=(read_rope(keys, size, fields["context"]),) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", False),
        qk_norm="head",
    )


def _experts(keys: Keys, layers: int) -> Mapping[str, Any]:
    dense, step = keys.sequence("mlp_only_layers") or [], keys.integer("decoder_sparse_step", 1)
    newer = keys.integer("num_local_experts", None)  # transformers 5 saves it under this name
    experts = Experts(
        count=keys.integer("num_experts") if newer is None else keys.integer("num_experts", newer),
        active=keys.integer("num_experts_per_tok"),
        width=keys.integer("moe_intermediate_size"),
        among="all",
        normalise=keys.flag("norm_topk_prob", False),
    )
    return {"experts": experts, "sparse": tuple(i not in dense and (i + 1) % step == 0 for i in range(layers))}


def prepare(weights: dict[str, mx.array], config: ModelConfig) -> None:
    """Make one tensor of each layer's experts."""
    if config.experts is None:
        return
    for i in range(config.layers):
        at = f"model.layers.{i}.mlp"
        names = {f"{name}_proj": f"{at}.switch_mlp.{name}_proj" for name in ("gate", "up", "down")}
        stack(weights, f"{at}.experts", names, config.experts.count)
