"""Granite 3, dense and mixture of experts: Llama with multipliers on the embedding, scores, residuals and logits."""

from collections.abc import Mapping
from typing import Any

from likely.metal import mx
from likely.models.configuration.config import Experts, ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama

NAMES = llama.NAMES | {"router": "block_sparse_moe.router.layer", "experts": "block_sparse_moe.switch_mlp"}
EXPERTS = {"input_linear": "gate_up", "output_linear": "down"}


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = llama.common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-6))
    layers, size = fields["layers"], fields["head_size"]
    return ModelConfig(
        **fields,
        **llama.biased(keys),
        **(_experts(keys, fields) if model_type == "granitemoe" else {}),
        windows=(0,) * layers,
        ropes=(read_rope(keys, size, fields["context"]),) * layers,
        scale=keys.number("attention_multiplier", 1.0),
        tied=keys.flag("tie_word_embeddings", False),
        embed_scale=keys.number("embedding_multiplier", 1.0),
        residual_scale=keys.number("residual_multiplier", 1.0),
        logit_scale=1 / keys.number("logits_scaling", 1.0),
    )


def _experts(keys: Keys, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    count, active = keys.integer("num_local_experts", 8), keys.integer("num_experts_per_tok", 2)
    return {"experts": Experts(count, active, fields["mlp_width"]), "sparse": (True,) * fields["layers"]}


def prepare(weights: dict[str, mx.array], config: ModelConfig) -> None:
    """Name the experts' matrices, which checkpoints keep in one tensor a layer, as the other families do."""
    for i in range(config.layers if config.experts else 0):
        at = f"model.layers.{i}.block_sparse_moe"
        both = weights.pop(f"{at}.input_linear.weight", None)
        if both is not None:
            gate, up = mx.split(both, 2, axis=1)
            weights[f"{at}.switch_mlp.gate_proj.weight"], weights[f"{at}.switch_mlp.up_proj.weight"] = gate, up
            weights[f"{at}.switch_mlp.down_proj.weight"] = weights.pop(f"{at}.output_linear.weight")
