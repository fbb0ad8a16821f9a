"""StarCoder2: layer norms with biases, a plain MLP, every layer sliding (arXiv:2402.19173)."""

from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama

NAMES = {
    **{part: name for part, name in llama.NAMES.items() if part != "gate"},
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}


def configure(keys: Keys, model_type: str) -> ModelConfig:
    activation = keys.activation("hidden_act", "gelu_pytorch_tanh")
    fields = llama.common(keys, model_type, eps=keys.number("norm_epsilon", 1e-5), activation=activation)
    layers, size = fields["layers"], fields["head_size"]
    keys.fixed("norm_type", "layer_norm")
    keys.fixed("mlp_type", "default")
    bias = keys.flag("use_bias", True)
    return ModelConfig(
        **fields,
        windows=llama.read_windows(keys, layers),
        ropes=(read_rope(keys, size, fields["context"]),) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", True),
        norm="layer",
        gated=False,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
    )
