"""Dream: Qwen2.5 made into a masked diffusion model, whose logits still stand one position before."""

from dataclasses import replace

from models.checkpoint.keys import Keys
from models.config import MaskedDiffusion, ModelConfig
from models.families import qwen2

NAMES = qwen2.NAMES


def configure(keys: Keys, model_type: str) -> ModelConfig:
    diffusion = MaskedDiffusion(keys.integer("mask_token_id"), shifted=True)
    return replace(qwen2.configure(keys, model_type), diffusion=diffusion)
