"""Adapters as PEFT writes them, and the logits that transformers computes with them.

Needs torch, transformers and peft, which nothing else here does; run where they are:

    python -m tests.data.peft.bases FOLDER        by this project's environment: the base models
    python tests/data/peft/make.py FOLDER         by the other one: the adapters, beside this script
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import peft
import torch
import transformers

HERE = Path(__file__).parent
IDS = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38]
EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# name: base, options of LoraConfig
CASES = {
    "embedding": ("tied", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding-tied": ("tied", {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}),
    "saved-embedding": ("tied", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "saved-embedding-tied": (
        "tied", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "head": ("tied", {"target_modules": ["lm_head"]}),
    "saved-head": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "patterns": (
        "llama",
        {
            "target_modules": EVERY, "rank_pattern": {"q_proj": 3, "layers.1.mlp.up_proj": 1},
            "alpha_pattern": {"down_proj": 7, "layers.0.self_attn.v_proj": 1},
        },
    ),
    "pissa": ("llama", {"target_modules": ["q_proj", "down_proj"], "init_lora_weights": "pissa"}),
    "bias": ("qwen2", {"target_modules": ["q_proj", "v_proj"], "bias": "lora_only"}),
    "lora-bias": ("qwen2", {"target_modules": ["q_proj", "v_proj"], "lora_bias": True, "use_rslora": True}),
    "mistral": ("mistral", {"target_modules": EVERY}),
    "gemma": ("gemma", {"target_modules": EVERY}),
    "gemma2": ("gemma2", {"target_modules": EVERY, "use_dora": True}),
    "qwen3_moe": ("qwen3_moe", {"target_modules": ["q_proj", "o_proj"]}),
}  # fmt: skip


def moved(model: torch.nn.Module) -> None:
    """Let everything that is trained differ from its start."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                step = torch.randn(p.shape, generator=random)
                p += (0.02 if "modules_to_save" in name else 0.2) * step


def make(bases: Path, name: str) -> None:
    base, options = CASES[name]
    model = transformers.AutoModelForCausalLM.from_pretrained(bases / base, dtype=torch.float32).eval()
    config = peft.LoraConfig(r=2, lora_alpha=5, task_type="CAUSAL_LM", **options)
    adapted = peft.get_peft_model(model, config).eval()
    moved(adapted)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = adapted(ids).logits[0].numpy()
    out = HERE / name
    shutil.rmtree(out, ignore_errors=True)
    adapted.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    settings = json.loads((out / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = base
    (out / "adapter_config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
    np.save(out / "logits.npy", logits.astype(np.float32))


def check(bases: Path, exported: Path) -> None:
    """What this project exported, computed by PEFT: the largest difference of logits, relative."""
    for folder in sorted(exported.iterdir()):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            bases / folder.name.split(".")[0], dtype=torch.float32
        )
        adapted = peft.PeftModel.from_pretrained(model, folder).eval()
        with torch.no_grad():
            logits = adapted(torch.tensor([IDS])).logits[0].numpy()
        ours = np.load(folder / "logits.npy")
        print(folder.name, np.abs(logits - ours).max() / np.abs(ours).max())


if __name__ == "__main__":
    if len(sys.argv) > 2:
        check(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        for case in CASES:
            make(Path(sys.argv[1]), case)
