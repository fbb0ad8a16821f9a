"""`Distribution`: what a model says of the next token. Raw logits, and what follows from them. Nats throughout.

Keeps the raw logits because penalties look at their sign. Knows nothing of models, text or how tokens are drawn.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.transforms.arrays import Array, Namespace, entropy, logsumexp


@dataclass(frozen=True, eq=False)
class Distribution:
    """softmax(logits), [V]. With mlx logits, and `xp` mlx.core, every number is lazy; a token at -inf is impossible."""

    logits: Array
    xp: Namespace = np

    @cached_property
    def lse(self) -> Array:
        """The log-sum-exp of the logits: a scalar."""
        return logsumexp(self.logits, self.xp)

    @cached_property
    def logprobs(self) -> Array:
        """log p, [V]."""
        return self.logits - self.lse

    def logprob(self, token: int) -> Array:
        """log p of one token: a scalar, without an array [V]."""
        return self.logits[token] - self.lse

    def entropy(self) -> Array:
        """H(p): a scalar between 0 and log V."""
        return entropy(self.logits, self.xp)

    def kl(self, other: "Distribution") -> Array:
        """KL(p || q), q the other one: a scalar; infinite where q rules out what p does not."""
        xp = self.xp
        possible = self.logits > -xp.inf
        ratio = xp.where(possible, self.logprobs, 0) - xp.where(possible, other.logprobs, 0)
        return xp.sum(xp.exp(self.logprobs) * ratio)

    def top(self, k: int) -> tuple[Array, Array]:
        """The k most likely tokens, the likeliest first (of equals the lower id), and their log-probabilities."""
        order = np.argsort(-self.logits, kind="stable") if self.xp is np else self.xp.argsort(-self.logits)
        return order[:k], self.logprobs[order[:k]]

    def rank(self, token: int) -> Array:
        """1 for a most likely token, 2 for what one token is ahead of, ...: a scalar."""
        return 1 + self.xp.sum(self.logits > self.logits[token])
