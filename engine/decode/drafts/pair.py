"""`PairedBranches`: branches whose logits are a formula of two, behind prompts or models of their own.

The second cache forks, rewinds and drops its rows with the first. Knows nothing of transforms.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from likely.engine.base.arrays import logprobs
from likely.engine.base.concurrency.pace import Pace
from likely.engine.base.errors import ContextOverflow
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.events import Waiting
from likely.metal import mx
from likely.models.native_path.native import drawing

if TYPE_CHECKING:
    from likely.models.model import LanguageModel

Formula = Callable[[mx.array, mx.array], mx.array]  # log-probabilities [B, V] of the first and of the second


def second(
    model: "LanguageModel", ids: Sequence[int], rows: int, *, paced: bool = False
) -> Generator[Waiting, None, Branches]:
    """A model at the end of a prompt, as often as the first one stands there; others have turns while it reads."""
    model = drawing(model)
    branches = Branches(model, model.make_cache(), pace=Pace() if paced else None)
    for _ in branches.read(ids):
        yield Waiting()
    branches.select([0] * rows)
    return branches


def contrasted(strength: float, least: float) -> Formula:
    """(1 + strength) a - strength b where a is plausible."""
    return lambda a, b: mx.where(plausible(a, least), (1 + strength) * a - strength * b, -mx.inf)


def plausible(p: mx.array, least: float) -> mx.array:
    """Whether a token of log-probabilities [..., V] has at least this share of the largest probability."""
    return p >= mx.max(p, axis=-1, keepdims=True) + mx.log(mx.array(least))


def guided(scale: float) -> Formula:
    """b + scale (a - b): b where a is as likely, and where neither is possible."""
    return lambda a, b: mx.where(mx.isfinite(a) & mx.isfinite(b), b + scale * (a - b), a)


class PairedBranches(Branches):
    """The first of two, with the logits of a formula; it says where both stand."""

    def __init__(self, first: Branches, other: Branches, formula: Formula) -> None:
        self.first, self.other, self.formula = first, other, formula
        self._combined: mx.array | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.first, name)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def length(self) -> int:
        return self.first.length

    def raw_logits(self) -> mx.array:
        if self._combined is None:
            rows = [logprobs(branches.logits().astype(mx.float32), mx) for branches in (self.first, self.other)]
            self._combined = self.formula(*rows)
        return self._combined

    def own_logits(self) -> mx.array:
        return self.first.logits().astype(mx.float32)

    def own_logits_at(self, start: int, end: int) -> mx.array:
        return self.first.logits_at(start, end)

    def logits_at(self, start: int, end: int) -> mx.array:
        apart = self._apart
        pairs = self.first.logits_at(start, end), self.other.logits_at(start - apart, end - apart)
        return self.formula(*(logprobs(rows, mx) for rows in pairs))

    def feed(self, tokens: Sequence[Any]) -> None:
        self._leave()
        self.first.feed(tokens)
        self.other.feed(tokens)

    def descend(self, tokens: Sequence[Any]) -> Iterator[Waiting]:
        self._leave()
        both = [(branches, branches.length) for branches in (self.first, self.other)]
        try:
            for branches, _ in both:
                yield from branches.descend(tokens)
        except BaseException:
            for branches, length in both:
                branches.rewind(length)
            raise

    def _leave(self) -> None:
        """Forget the combined row; ContextOverflow where the second model has no room for a token more."""
        context = int(self.other.model.config.context)
        if self.other.length + 1 > context:
            raise ContextOverflow(f"the second of two distributions has no room for more than {context} tokens")
        self._combined = None

    def settle(self, tokens: Sequence[int]) -> None:
        self.first.settle(tokens)
        self.other.settle(tokens)

    def select(self, rows: Sequence[int]) -> None:
        rows = list(rows)
        self._combined = None
        self.first.select(rows)
        self.other.select(rows)

    def reaches(self, length: int) -> bool:
        return self.first.reaches(length) and self.other.reaches(length - self._apart)

    def rewind(self, length: int) -> None:
        apart = self._apart
        self._combined = None
        self.first.rewind(length)
        self.other.rewind(length - apart)

    def name(self) -> int:
        return self.first.name()

    def fork(self) -> "PairedBranches":
        return PairedBranches(self.first.fork(), self.other.fork(), self.formula)

    def read(self, ids: Sequence[int]) -> Iterator[int]:
        raise NotImplementedError("a pair stands behind prompts that were read")

    @property
    def _apart(self) -> int:
        """How many positions the first is ahead of the second."""
        return self.first.length - self.other.length
