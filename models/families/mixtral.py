"""Mixtral: Mistral with a mixture of experts in every layer (arXiv:2401.04088)."""

from likely.metal import mx
from likely.models.configuration.config import Experts, ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama
from likely.models.modules.mlp import stack

NAMES = llama.NAMES | {"router": "block_sparse_moe.gate", "experts": "block_sparse_moe.switch_mlp"}
EXPERTS = {"w1": "gate", "w2": "down", "w3": "up"}


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = llama.common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-5))
    layers, size = fields["layers"], fields["head_size"]
    experts = Experts(
        count=keys.integer("num_local_experts", 8),
        active=keys.integer("num_experts_per_tok", 2),
        width=fields["mlp_width"],
    )
    return ModelConfig(
        **fields,
        windows=llama.read_windows(keys, layers),
        ropes=(read_rope(keys, size, fields["context"], theta=1e6),) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", False),
        experts=experts,
        sparse=(True,) * layers,
    )


def prepare(weights: dict[str, mx.array], config: ModelConfig) -> None:
    """Make one tensor of each layer's experts."""
    assert config.experts is not None
    for i in range(config.layers):
        at = f"model.layers.{i}.block_sparse_moe"
        names = {old: f"{at}.switch_mlp.{new}_proj" for old, new in EXPERTS.items()}
        stack(weights, f"{at}.experts", names, config.experts.count)
