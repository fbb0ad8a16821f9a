"""Random tiny Llama models, and the settings in which their beams are searched. numpy only."""

from collections.abc import Iterator
from typing import Any

import numpy as np

CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": 60,
    "max_position_embeddings": 128,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


def weights(model: int, sharp: float) -> dict[str, np.ndarray]:
    """Random weights under Hugging Face's names, float32; `sharp` is how far the head's logits lie apart."""
    random = np.random.default_rng(model)
    c, m, v, d = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"], CONFIG["head_dim"]
    h, hkv = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (v, c), "lm_head.weight": (v, c), "model.norm.weight": (c,)}
    for i in range(CONFIG["num_hidden_layers"]):
        layer = {
            "self_attn.q_proj": (h * d, c), "self_attn.k_proj": (hkv * d, c), "self_attn.v_proj": (hkv * d, c),
            "self_attn.o_proj": (c, h * d), "mlp.gate_proj": (m, c), "mlp.up_proj": (m, c), "mlp.down_proj": (c, m),
            "input_layernorm": (c,), "post_attention_layernorm": (c,),
        }  # fmt: skip
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    made = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            made[name] = (1 + 0.1 * random.normal(size=shape)).astype(np.float32)
        else:
            scale = sharp / np.sqrt(c) if name == "lm_head.weight" else 1 / np.sqrt(shape[-1])
            made[name] = (scale * random.normal(size=shape)).astype(np.float32)
    return made


def settings(count: int = 200) -> Iterator[dict[str, Any]]:
    """Settings with several ends of text, every way to stop, and transforms in every third."""
    random = np.random.default_rng(15)
    for i in range(count):
        setting: dict[str, Any] = {
            "model": int(random.integers(20)),
            "sharp": float(random.choice([0.7, 1.5, 3.0])),
            "prompt": random.integers(10, 60, random.integers(1, 12)).tolist(),
            "beams": int(random.integers(2, 9)),
            "penalty": float(random.choice([0.0, 1.0, -0.5, 0.6, 2.0])),
            "early": [False, True, "never"][int(random.integers(3))],
            "max_tokens": int(random.integers(1, 25)),
            "eos": sorted(random.choice(np.arange(2, 60), random.integers(1, 5), replace=False).tolist()),
        }
        if i % 3 == 0:
            if random.integers(2):
                setting["repetition_penalty"] = round(float(random.uniform(1.05, 1.6)), 2)
            if random.integers(2):
                setting["temperature"] = round(float(random.uniform(0.5, 2.0)), 2)
            if random.integers(2):
                setting["top_k"] = int(random.integers(9, 40))
        yield setting
