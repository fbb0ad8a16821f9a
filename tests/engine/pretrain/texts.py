"""Texts of known entropy and small runs on them, for the tests of this folder."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.train.pretrain.config import PretrainConfig, configure
from likely.engine.train.pretrain.pretraining import Pretrained, PretrainEvent, pretrain

SYMBOLS = "abcdefgh"


def markov(folder: Path, length: int, seed: int = 0) -> tuple[Path, float]:
    """A text of a first-order chain over 8 letters, and its entropy rate -sum pi_i P_ij log P_ij, nats a letter."""
    random = np.random.default_rng(seed)
    n = len(SYMBOLS)
    law = random.dirichlet(np.full(n, 0.4), n) * 0.98 + 0.02 / n
    values, vectors = np.linalg.eig(law.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    rate = -float((stationary[:, None] * law * np.log(law)).sum())
    ranks, state, out = law.cumsum(1), 0, []
    for u in random.random(length):
        state = min(n - 1, int(np.searchsorted(ranks[state], u)))
        out.append(SYMBOLS[state])
    path = folder / "chain.txt"
    path.write_text("".join(out))
    assert 0.5 < rate < math.log(n)
    return path, rate


def words(folder: Path, count: int = 1500) -> Path:
    """A few kilobytes of lines of made-up words."""
    random = np.random.default_rng(1)
    known = ["".join(random.choice(list("aeioumnrst"), random.integers(2, 7))) for _ in range(60)]
    lines = [" ".join(random.choice(known, 8)) for _ in range(count // 8)]
    path = folder / "words.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def config(data: Path, out: Path, **values: Any) -> PretrainConfig:
    small = {
        "data": str(data), "out": str(out), "size": "20k", "tokenizer": "bytes", "context": 32, "batch": 2,
        "tokens": 128 * 6, "eval_every": 3, "save_every": 2, "sample_tokens": 0, "eval_rows": 8,
    }  # fmt: skip
    return configure(small | values)


def finish(run: PretrainConfig, **how: Any) -> tuple[Pretrained, list[PretrainEvent]]:
    events = list(pretrain(run, **how))
    last = events[-1]
    assert isinstance(last, Pretrained)
    return last, events
