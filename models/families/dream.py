"""Dream: Qwen2.5 made into a masked diffusion model, whose logits still stand one position before."""

from dataclasses import replace

from likely.models.configuration.config import MaskedDiffusion, ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.families import qwen2

NAMES = qwen2.NAMES


def configure(keys: Keys, model_type: str) -> ModelConfig:
    diffusion = MaskedDiffusion(keys.integer("mask_token_id"), shifted=True)
    return replace(qwen2.configure(keys, model_type), diffusion=diffusion)
