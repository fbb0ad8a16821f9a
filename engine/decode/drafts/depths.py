"""`Depths`: a model that keeps the hidden states of lower layers beside the last, for a formula of both.

They stand in one row [B, T, (1 + m) C], which forks and rewinds as any hidden state does. Knows nothing of transforms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likely.engine.base.arrays import js, logprobs
from likely.engine.base.errors import ParameterError
from likely.engine.decode.drafts.pair import plausible
from likely.engine.decode.loop.branches import Branches
from likely.metal import mx

if TYPE_CHECKING:
    from likely.models.caches.kv_cache import Cache
    from likely.models.model import LanguageModel


@dataclass(frozen=True, slots=True)
class Depths:
    """A model whose head contrasts its last layer with that of `layers` which says most else."""

    model: "LanguageModel"
    layers: tuple[int, ...]
    least: float

    @classmethod
    def of(cls, model: "LanguageModel", below: int, least: float) -> "Depths":
        """The model, with every second of the first `below` layers as a candidate, the embedding too; 0: of half.

        ParameterError for more than there are."""
        most = int(model.config.layers)
        if below > most:
            raise ParameterError(f"the model has {most} layers, so there are none below {below}: name a lower one")
        return cls(model, tuple(range(0, below or max(most // 2, 1), 2)), least)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def hidden(self, tokens: mx.array, cache: "Cache | None" = None) -> mx.array:
        states = self.model.inspect(tokens, cache)
        return mx.concatenate([states.final, *(states.hidden[layer] for layer in self.layers)], axis=-1)

    def own_head(self, hidden: mx.array) -> mx.array:
        """The logits of the last layer alone."""
        last: mx.array = mx.split(hidden, 1 + len(self.layers), axis=-1)[0]
        return self.model.head(last).astype(mx.float32)

    def head(self, hidden: mx.array) -> mx.array:
        last, *lower = mx.split(hidden, 1 + len(self.layers), axis=-1)
        p = logprobs(self.model.head(last).astype(mx.float32), mx)
        q = mx.stack([logprobs(self.model.lens(state).astype(mx.float32), mx) for state in lower])
        far = mx.argmax(js(p[None], q, mx, fast=True), axis=0)
        chosen = mx.take_along_axis(q, far[None, ..., None], axis=0)[0]
        return mx.where(plausible(p, self.least), p - chosen, -mx.inf)


class DepthBranches(Branches):
    """Branches of a `Depths`: their logits are the contrast of layers."""

    model: Depths  # type: ignore[assignment]

    def own_logits(self) -> mx.array:
        rows: mx.array = self._shared(self.model.own_head(self._hidden[-1][:, -1:]))[:, -1]
        return rows

    def own_logits_at(self, start: int, end: int) -> mx.array:
        rows: mx.array = self._shared(self.model.own_head(self.hidden(start, end)))
        return rows


def read_again(branches: Branches, model: Depths) -> Branches:
    """The branches for a model that stores more hidden states: the last token of each is read again."""
    again = branches.fork()
    last: Sequence[int] = [ids[-1] for ids in again.ids]
    if not again.reaches(again.length - 1):
        raise ParameterError("this model's cache slides and cannot go back by a token: contrast it with another model")
    again.rewind(again.length - 1)
    deeper = DepthBranches(model, again.cache)  # type: ignore[arg-type]
    deeper.ids, deeper.numbers = again.ids, again.numbers
    deeper._hidden, deeper._rows, deeper._named = [], again.length, again._named
    deeper.feed(last)
    deeper.settle(last)
    return deeper
