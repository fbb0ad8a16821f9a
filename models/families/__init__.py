"""Model families: how each maps its configuration and weight names to ours.

Read first: family.py. Uses: configuration, modules.
"""

# `model_type` -> the module that knows it
FAMILIES = {
    "Dream": "dream",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "gpt_neox": "gpt_neox",
    "granite": "granite",
    "granitemoe": "granite",
    "llada": "llada",
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "mixtral",
    "olmo2": "olmo2",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3",
    "smollm3": "smollm3",
    "starcoder2": "starcoder2",
}
