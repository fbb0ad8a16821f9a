"""A diffusion model as a function from canvases to logits: a position sees all others, or its block and those before.

What a shifted model says of position i stands at i - 1, of the first at itself. Knows nothing of
how masks become tokens, nor of what is kept between two passes (`engine.diffusion.cached`).
"""

from typing import TYPE_CHECKING

import numpy as np

from likely.engine.base.arrays import logprobs
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.unmasking import Disagreement
from likely.metal import mx
from likely.metal.attention import FULL, Mask
from likely.models.configuration.config import MaskedDiffusion

if TYPE_CHECKING:
    from likely.models.model import LanguageModel


def of_model(model: "LanguageModel", name: str) -> MaskedDiffusion:
    """Facts of the model's diffusion; ParameterError, with its name, for one that has none."""
    settings = getattr(model.config, "diffusion", None)
    if settings is None:
        raise ParameterError(
            f"{name} is autoregressive and has no mask token (mask_token_id in its config.json): choose a diffusion "
            "model, such as likely pretrain --objective mdlm makes"
        )
    assert isinstance(settings, MaskedDiffusion)
    return settings


class ModelDenoiser:
    """Logits and log-probabilities of a diffusion model.

    With `guidance` w they are un + (w + 1) (c - un), where `un` are those of a canvas whose `given` tokens, bool [T],
    are masked too (arXiv:2410.18514, eq. 5; 2502.09992, app. B).
    """

    def __init__(
        self,
        model: "LanguageModel",
        name: str = "this model",
        *,
        given: np.ndarray | None = None,
        guidance: float = 0.0,
    ) -> None:
        self.model, self.diffusion = model, of_model(model, name)
        self.mask = Mask(block=self.diffusion.block) if self.diffusion.block else FULL
        self.given, self.guidance = given, guidance
        self.disagreement: Disagreement | None = None  # of the last pass, where it was measured
        if guidance and (given is None or not given.any()):
            raise ParameterError("guidance is towards what is given, and the canvas has nothing but masks")

    def begin(self, positions: np.ndarray) -> None:
        """Another block of masks is begun: `positions`, ascending, are all that become tokens before the next."""

    def logits(self, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Logits [n, V] float32 at n positions, ascending, of the canvas ids [T]."""
        rows = ids[None].astype(np.int32)
        if self.guidance and self.given is not None:
            rows = np.concatenate([rows, np.where(self.given, self.diffusion.mask, rows)])
        logits = self.model.head(self._hidden(rows, positions)).astype(mx.float32)
        if self.guidance:
            unmasked = logits[1] + (self.guidance + 1) * (logits[0] - logits[1])  # whose mask is -inf less -inf
            token = mx.arange(logits.shape[-1]) == self.diffusion.mask
            logits = mx.where(token, -mx.inf, unmasked)[None]
        return np.array(logits[0])

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """[B, T, V] of canvases ids [B, T]."""
        hidden = self._hidden(ids.astype(np.int32), np.arange(ids.shape[1]))
        logp: np.ndarray = logprobs(np.array(self.model.head(hidden).astype(mx.float32)), np)
        return logp

    def _hidden(self, rows: np.ndarray, positions: np.ndarray) -> mx.array:
        """[B, n, C] of which `head` says what stands at n positions of the canvases [B, T]."""
        end = end_of(positions, self.diffusion.block, rows.shape[1])  # of blocks nobody sees those behind
        hidden = self.model.hidden(mx.array(rows[:, :end]), mask=self.mask)
        return hidden[:, mx.array(self.sources(positions))]

    def sources(self, positions: np.ndarray) -> np.ndarray:
        """The positions whose hidden states predict the tokens at these positions: int32 [n]."""
        before = np.maximum(positions - 1, 0) if self.diffusion.shifted else positions
        return np.asarray(before, np.int32)


def end_of(positions: np.ndarray, block: int, length: int) -> int:
    """The end of the last block that one of the positions is in."""
    return min(length, (int(positions[-1]) // block + 1) * block) if block else length
