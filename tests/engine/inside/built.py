"""A transformer whose weights are set by hand: two layers of one head, which find what followed a token last time.

The residual stream is four one-hot fields: the token, its position, the token before, and what is said next. Layer 0
reads the position before and writes its token; layer 1 looks for the position whose token before is the present one,
and says the token there (arXiv:2209.11895, an induction head). Its MLPs are zero.
"""

import numpy as np

from likely.metal import mx
from likely.models.configuration.config import ModelConfig
from likely.models.modules.block import Block
from likely.models.modules.linear import ACTIVATE, Embedding, Linear, RMSNorm
from likely.models.modules.mlp import Plain
from likely.models.modules.parts import TensorNames
from likely.models.transformer import Transformer

V, POSITIONS = 12, 40
SHARP = 400.0
TOKEN, PLACE, BEFORE, SAID = (
    slice(0, V), slice(V, V + POSITIONS), slice(V + POSITIONS, 2 * V + POSITIONS),
    slice(2 * V + POSITIONS, 3 * V + POSITIONS),
)  # fmt: skip
C, D = 3 * V + POSITIONS, POSITIONS


def induction(said: float = 1.0) -> Transformer:
    """The model; `said` is how strongly it says what it found."""
    config = ModelConfig(
        family="built", vocab_size=V, width=C, layers=2, heads=1, kv_heads=1, head_size=D, mlp_width=4,
        context=POSITIONS, eps=1e-5, windows=(0, 0), ropes=(None, None), scale=1.0, tied=False, gated=False,
        learned_positions=POSITIONS,
    ).check()  # fmt: skip
    embed, positions = np.zeros((V, C)), np.zeros((POSITIONS, C))
    embed[:, TOKEN], positions[:, PLACE] = np.eye(V), np.eye(POSITIONS)
    blocks = []
    for index in range(2):
        q, k, v, out = np.zeros((D, C)), np.zeros((D, C)), np.zeros((D, C)), np.zeros((C, D))
        v[:V, TOKEN] = np.eye(V)
        if index == 0:
            q[:, PLACE], k[:, PLACE] = SHARP * np.eye(POSITIONS, k=1), np.eye(POSITIONS)
            out[BEFORE, :V] = np.eye(V)
        else:
            q[:V, TOKEN], k[:V, BEFORE] = SHARP * np.eye(V), np.eye(V)
            out[SAID, :V] = said * np.eye(V)
        mlp = Plain(_linear(np.zeros((4, C))), _linear(np.zeros((C, 4))), ACTIVATE["relu"])
        qkv = _linear(np.concatenate([q, k, v]))
        blocks.append(Block(config, index, qkv=qkv, out=_linear(out), mlp=mlp, norms={}, rotation=None, turn=0))
    head = np.zeros((V, C))
    head[:, SAID] = 10 * np.eye(V)
    return Transformer(
        config, TensorNames({}, {}), embed=Embedding(_array(embed), mx.float32),
        positions=Embedding(_array(positions), mx.float32), blocks=blocks, rotations=[],
        norm=RMSNorm(mx.ones(C), config.eps), out=_linear(head),
    )  # fmt: skip


def _array(x: np.ndarray) -> mx.array:
    return mx.array(x.astype(np.float32))


def _linear(x: np.ndarray) -> Linear:
    return Linear(_array(x))
