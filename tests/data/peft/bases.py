"""The base models of the adapters here, as folders that transformers reads too: random, and the same every time."""

import sys
from pathlib import Path
from typing import Any

from likely.metal import mx
from tests.engine import tiny

SMALL = {"hidden_size": 32, "head_dim": 8, "intermediate_size": 48, "vocab_size": 288}
BASES: dict[str, dict[str, Any]] = {
    "llama": {},
    "tied": {"tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2"},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "gemma": {"model_type": "gemma", "tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh"},
    "gemma2": {
        "model_type": "gemma2", "tie_word_embeddings": True, "query_pre_attn_scalar": 16, "sliding_window": 64,
        "hidden_activation": "gelu_pytorch_tanh", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    },
}  # fmt: skip
CLASSES = {
    "llama": "Llama", "qwen2": "Qwen2", "mistral": "Mistral", "gemma": "Gemma", "gemma2": "Gemma2",
    "qwen3_moe": "Qwen3Moe",
}  # fmt: skip


def write(folder: Path, name: str) -> Path:
    config = {**tiny.LLAMA, **SMALL, **BASES[name]}
    config["architectures"] = [f"{CLASSES[config['model_type']]}ForCausalLM"]
    arrays: dict[str, mx.array] = {}
    for key, array in tiny.weights(config).items():
        whole = mx.array(array + (1.0 if key.endswith("norm.weight") and "gemma" not in name else 0.0))
        if ".switch_mlp." in key:  # one by one, as the published models have them
            for i in range(len(array)):
                arrays[key.replace("switch_mlp", f"experts.{i}")] = whole[i]
        else:
            arrays[key] = whole
    tiny.write_folder(folder / name, config, arrays)
    mx.save_safetensors(str(folder / name / "model.safetensors"), arrays, {"format": "pt"})
    return folder / name


if __name__ == "__main__":
    for each in BASES:
        write(Path(sys.argv[1]), each)
