"""Gemma 3, the text model: Gemma 2 with norms on q and k, five sliding layers to a full one, and two rotations."""

import struct
from dataclasses import replace

from likely.metal import mx
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import Rope, read_rope, scaled
from likely.models.families import gemma, llama

NAMES = gemma.BOTH_SIDES | {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
# What the configurations of the larger ones leave out.
DEFAULTS = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
}
PICTURES = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def configure(keys: Keys, model_type: str) -> ModelConfig:
    if model_type == "gemma3":  # with an eye: its text model alone
        for name in ("vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index"):
            keys.take(name, None)
        text = Keys(keys.table("text_config"), "config: text_config")
        text.fixed("model_type", "gemma3_text")
        inner = configure(text, "gemma3_text")
        text.done()
        return replace(inner, tied=keys.flag("tie_word_embeddings", True))
    keys.assume(**DEFAULTS)
    fields = gemma.common(keys, model_type, context=keys.integer("max_position_embeddings", 131_072))
    layers, size = fields["layers"], fields["head_size"]
    keys.fixed("use_bidirectional_attention", False)
    fields["embed_scale"] = _bfloat16(fields["embed_scale"])
    pattern = keys.integer("sliding_window_pattern", keys.integer("_sliding_window_pattern", 6))
    windows = llama.read_windows(keys, layers, lambda i: (i + 1) % pattern != 0)
    near, far = _ropes(keys, size, fields["context"])
    return ModelConfig(
        **fields,
        windows=windows,
        ropes=tuple(near if window else far for window in windows),
        scale=keys.number("query_pre_attn_scalar", 256.0) ** -0.5,
        qk_norm="head",
        softcap=keys.number("attn_logit_softcapping", None),
        logit_softcap=keys.number("final_logit_softcapping", None),
    )


def _ropes(keys: Keys, size: int, context: int) -> tuple[Rope, Rope]:
    """The rotations of sliding and of full layers."""
    both = keys.table("rope_parameters")
    if both:
        near, far = ({**both.get(name, {})} for name in ("sliding_attention", "full_attention"))
        thetas = near.pop("rope_theta", 10_000.0), far.pop("rope_theta", 1e6)
        return scaled(keys, near, size, context, thetas[0]), scaled(keys, far, size, context, thetas[1])
    return Rope(keys.number("rope_local_base_freq", 10_000.0), size), read_rope(keys, size, context, theta=1e6)


def _bfloat16(x: float) -> float:
    """x as the embedding's scale is kept where the model was trained."""
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    rounded: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return rounded


def rename(name: str) -> str | None:
    if name.startswith(PICTURES):
        return None
    if "language_model." not in name:
        return name
    tail = name.split("language_model.", 1)[1]
    return tail if tail.startswith(("model.", "lm_head.")) else f"model.{tail}"


def prepare(weights: dict[str, mx.array], config: ModelConfig) -> None:
    """Leave the eye out, and call the text model's tensors as if it stood alone."""
    for name in list(weights):
        array = weights.pop(name)
        if (ours := rename(name)) is not None:
            weights[ours] = array
