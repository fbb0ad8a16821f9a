"""Distribution of the next token, p(x_i | x_<i), over the whole vocabulary. Plain numpy: no model is read any more.

Log-probabilities in nats, float32. It keeps the ids before it, which penalties look at.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.transforms import draw, run, start
from likely.table import Table

if TYPE_CHECKING:
    from likely.engine.text.tokenizer import Tokenizer
    from likely.sampling import Sampling

BARS = 8  # of a page


class Distribution:
    """`np.asarray(d)` are its log-probabilities [V]; `d[" Paris"]` and `d[7042]` one of them, nats."""

    def __init__(
        self, logits: np.ndarray, tokenizer: "Tokenizer", before: Sequence[int] = (), cut: Table | None = None
    ) -> None:
        """`logits` [V] are normalized here, and kept: penalties act on them as they are. `cut` says what each transform
        removed, where there were any."""
        self.logits: np.ndarray = np.array(logits, np.float32)
        self.logprobs: np.ndarray = np.asarray(arrays.logprobs(self.logits, np), np.float32)
        self.logits.flags.writeable = self.logprobs.flags.writeable = False
        self.tokenizer, self.before, self.cut = tokenizer, tuple(before), cut

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.logprobs, dtype) if copy or dtype not in (None, self.logprobs.dtype) else self.logprobs

    def __len__(self) -> int:
        return len(self.logprobs)

    def __getitem__(self, token: str | int) -> float:
        return float(self.logprobs[self.token(token)])

    def token(self, word: str | int) -> int:
        """The id of a token, given as its text or its id. ParameterError for a text that is no one token."""
        if isinstance(word, str):
            ids = self.tokenizer.encode(word)
            if len(ids) != 1:
                spelled = ", ".join(repr(self._text(i)) for i in ids) or "none"
                raise ParameterError(f"{word!r} is not one token of this model, but {len(ids)}: {spelled}")
            return ids[0]
        if not 0 <= int(word) < len(self):
            raise ParameterError(f"the vocabulary has the ids 0 to {len(self) - 1}, got {word}")
        return int(word)

    def p(self, token: str | int) -> float:
        """The probability of a token."""
        return float(np.exp(self.logprobs[self.token(token)]))

    def rank(self, token: str | int) -> int:
        """The rank of a token, 1 for the likeliest."""
        return int(arrays.rank(self.logprobs, np.array(self.token(token)), np))

    def top(self, k: int = BARS) -> Table:
        """The k likeliest tokens: id, token, p, logprob (nats). Those that a transform removed are none."""
        if k < 1:
            raise ParameterError(f"the number of tokens must be 1 or more, got {k}")
        ids = np.asarray(arrays.top(self.logprobs, min(k, len(self)), np))
        ids = ids[np.isfinite(self.logprobs[ids])]
        logp = self.logprobs[ids]
        texts = [self._text(int(i)) for i in ids]
        return Table({"id": ids, "token": texts, "p": np.exp(logp), "logprob": logp}, self._caption(), bar="p")

    @property
    def entropy(self) -> float:
        """Nats: between 0 and log V."""
        return float(arrays.entropy(self.logprobs.astype(np.float64), np))

    def kl(self, other: "Distribution") -> float:
        """KL(self || other), nats; infinite where the other rules out what this does not. ParameterError for another
        vocabulary."""
        p, q = self._both(other)
        return float(arrays.kl(p, q, np))

    def js(self, other: "Distribution") -> float:
        """The Jensen-Shannon divergence, nats: between 0 and log 2."""
        p, q = self._both(other)
        return float(arrays.js(p, q, np))

    def under(self, sampling: "Sampling", seed: int = 0) -> "Distribution":
        """What is drawn from under sampling parameters; its `cut` says what each transform removed. `seed` is for
        those that are random themselves (XTC)."""
        recipe = sampling.recipe
        states = start(recipe.transforms, self.tokenizer, self.before, np)
        key = (seed, len(self.before))
        after, removed_by = run(recipe.transforms, self.logits, states, key, np, greedy=recipe.greedy)
        if not np.isfinite(np.max(after)):
            raise ParameterError("these parameters leave no token to draw")
        names = [type(transform).__name__ for transform in recipe.transforms]
        mass, where = np.exp(self.logprobs.astype(np.float64)), np.asarray(removed_by)
        rows = [(name, where == i) for i, name in enumerate(names)]
        rows += [("greedy", where == len(names))] if recipe.greedy else []
        cut = Table(
            {
                "transform": [name for name, _ in rows],
                "removed": [int(gone.sum()) for _, gone in rows],
                "mass": [float(mass[gone].sum()) for _, gone in rows],
            },
            f"{sampling!r}",
        )
        return Distribution(np.asarray(after), self.tokenizer, self.before, cut)

    def sample(self, seed: int = 0) -> int:
        """The id of a token drawn from it; the same for the same seed, and the one that `Model.generate` draws here."""
        return int(draw(self.logits, (seed, len(self.before)), np))

    def __repr__(self) -> str:
        return repr(self.top())

    def _repr_html_(self) -> str:
        return self.top()._repr_html_()

    def _caption(self) -> str:
        size = int(np.isfinite(self.logprobs).sum())
        return f"{self.entropy / np.log(2):.2f} bits over {size:,} tokens"

    def _text(self, token: int) -> str:
        return self.tokenizer.piece(token).decode(errors="replace")

    def _both(self, other: "Distribution") -> tuple[np.ndarray, np.ndarray]:
        if len(self) != len(other) or self.tokenizer.fingerprint != other.tokenizer.fingerprint:
            raise ParameterError(
                f"two distributions over different vocabularies cannot be compared: {len(self)} tokens, {len(other)}"
            )
        p, q = (arrays.logprobs(d.logprobs.astype(np.float64), np) for d in (self, other))  # float32 sums to 1 nearly
        return p, q
