"""GPT-NeoX and Pythia: attention and MLP read the same input, and part of a head turns (arXiv:2204.06745)."""

from likely.metal import mx
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import scaled
from likely.models.families import llama

TOP = {"embed": "embed_in", "layer": "layers.{}", "norm": "final_layer_norm", "head": "embed_out"}
NAMES = {
    "attn_norm": "input_layernorm",
    "qkv": "attention.query_key_value",
    "o": "attention.dense",
    "mlp_norm": "post_attention_layernorm",
    "up": "mlp.dense_h_to_4h",
    "down": "mlp.dense_4h_to_h",
}
BY_HEAD = ("qkv",)


def configure(keys: Keys, model_type: str) -> ModelConfig:
    activation = keys.activation("hidden_act", "gelu")
    fields = llama.common(keys, model_type, eps=keys.number("layer_norm_eps", 1e-5), activation=activation)
    layers, size = fields["layers"], fields["head_size"]
    table = {**keys.table("rope_scaling"), **keys.table("rope_parameters")}
    share = keys.number("rotary_pct", float(table.pop("partial_rotary_factor", 0.25)))
    theta = keys.number("rotary_emb_base", float(table.pop("rope_theta", 10_000.0)))
    bias = keys.flag("attention_bias", True)
    return ModelConfig(
        **fields,
        windows=(0,) * layers,
        ropes=(scaled(keys, table, int(size * share), fields["context"], theta),) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", False),
        norm="layer",
        gated=False,
        parallel=keys.flag("use_parallel_residual", True),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=True,
    )


def rename(name: str) -> str:
    ours = name.removeprefix("model.").removeprefix("gpt_neox.")
    return f"layers.{ours[2:]}" if ours.startswith("h.") else ours


def spell(name: str) -> str:
    return f"model.h.{name[len('layers.') :]}" if name.startswith("layers.") else f"model.{name}"


def arrange(name: str, array: mx.array, config: ModelConfig) -> mx.array:
    """q, k, v by head again."""
    if ".query_key_value." not in name:
        return array
    return array.reshape(3, config.heads, config.head_size, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


def prepare(weights: dict[str, mx.array], config: ModelConfig) -> None:
    """One name for each part, whoever wrote the file, and q, k, v one after the other instead of by head."""
    heads, size = config.heads, config.head_size
    for name in list(weights):
        array, ours = weights.pop(name), rename(name)
        if ".query_key_value." in ours and array.shape[0] == 3 * heads * size:
            rest = array.shape[1:]
            array = array.reshape(heads, 3, size, *rest).swapaxes(0, 1).reshape(3 * heads * size, *rest)
        weights[ours] = array
