"""A diffusion model as a function from canvases to logits: a position sees all others, or its block and those before.

What a shifted model says of position i stands at i - 1, of the first at itself. Knows nothing of
how masks become tokens.
"""

from typing import TYPE_CHECKING

import numpy as np

from engine.arrays import logprobs
from engine.errors import ParameterError
from metal import mx
from metal.attention import FULL, Mask
from models.config import MaskedDiffusion

if TYPE_CHECKING:
    from models.model import LanguageModel


def of_model(model: "LanguageModel", name: str) -> MaskedDiffusion:
    """Facts of the model's diffusion; ParameterError, with its name, for one that has none."""
    found = getattr(model.config, "diffusion", None)
    if found is None:
        raise ParameterError(
            f"{name} is autoregressive and has no mask token (mask_token_id in its config.json): choose a diffusion "
            "model, such as likely pretrain --objective mdlm makes"
        )
    assert isinstance(found, MaskedDiffusion)
    return found


class ModelDenoiser:
    """Logits and log-probabilities of a diffusion model."""

    def __init__(self, model: "LanguageModel", name: str = "this model") -> None:
        self.model, self.diffusion = model, of_model(model, name)
        self.mask = Mask(block=self.diffusion.block) if self.diffusion.block else FULL

    def logits(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Logits [n, V] float32 at n positions of the canvas ids [T]."""
        hidden = self.model.hidden(mx.array(ids[None].astype(np.int32)), mask=self.mask)
        found: np.ndarray = self._said(hidden, places)[0]
        return found

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """[B, T, V] of canvases ids [B, T]."""
        hidden = self.model.hidden(mx.array(ids.astype(np.int32)), mask=self.mask)
        found: np.ndarray = logprobs(self._said(hidden, np.arange(ids.shape[1])), np)
        return found

    def _said(self, hidden: mx.array, places: np.ndarray) -> np.ndarray:
        """Logits [B, n, V] of n positions."""
        seen = np.maximum(places - 1, 0) if self.diffusion.shifted else places
        return np.array(self.model.head(hidden[:, mx.array(seen.astype(np.int32))]).astype(mx.float32))
