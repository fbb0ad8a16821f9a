"""GPT-2: a learned table of positions, layer norms, a plain MLP, and matrices that are stored [in, out]."""

from likely.metal import mx
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys

TOP = {"embed": "wte", "positions": "wpe", "layer": "h.{}", "norm": "ln_f"}
NAMES = {
    "attn_norm": "ln_1",
    "qkv": "attn.c_attn",
    "o": "attn.c_proj",
    "mlp_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}


def configure(keys: Keys, model_type: str) -> ModelConfig:
    width, heads, layers = keys.integer("n_embd"), keys.integer("n_head"), keys.layers("n_layer")
    positions = keys.integer("n_positions", 1024)
    if keys.integer("n_ctx", positions) != positions:
        raise keys.bad(f"n_ctx and n_positions ({positions}) differ")
    keys.fixed("scale_attn_weights", True)
    keys.fixed("scale_attn_by_inverse_layer_idx", False)
    keys.fixed("reorder_and_upcast_attn", False)
    size = width // heads
    return ModelConfig(
        family=model_type,
        vocab_size=keys.integer("vocab_size"),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_size=size,
        mlp_width=keys.integer("n_inner", 4 * width),
        context=positions,
        eps=keys.number("layer_norm_epsilon", 1e-5),
        activation=keys.activation("activation_function", "gelu_new"),
        windows=(0,) * layers,
        ropes=(None,) * layers,
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", True),
        norm="layer",
        gated=False,
        learned_positions=positions,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
    )


def rename(name: str) -> str:
    return name.removeprefix("transformer.").removeprefix("model.")


def spell(name: str) -> str:
    return f"model.{name}"


def turned(name: str) -> bool:
    return not name.startswith("model.")


def prepare(weights: dict[str, mx.array], config: ModelConfig) -> None:
    """Turn the matrices to [out, in]; mlx-lm, which puts `model.` before the names, has done so already."""
    for name in list(weights):
        ours = rename(name)
        array = weights.pop(name)
        weights[ours] = array.T if array.ndim == 2 and ours.startswith("h.") and turned(name) else array
