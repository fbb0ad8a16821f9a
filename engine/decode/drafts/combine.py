"""Decoding from a combination of two distributions: contrast with a weaker model or with earlier layers, guidance away
from another prompt. Any strategy may search what comes of it: `contrast small > beam 4`.

The formula stands where the model's logits do, so transforms act on what it gives, and so does what is recorded: a
replay needs neither of the two. No mlx while it is loaded.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from likely.engine.base.errors import ParameterError
from likely.engine.decode.drafts.prompt_lookup import Drafting, NGram, beside
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Waiting
from likely.engine.decode.loop.strategy import OVER, Steps, Strategy
from likely.engine.decode.sampled.sample import Sample
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Combination(Strategy):
    """Find tokens by `inner` where the logits are a combination."""

    inner: Strategy = field(default=Sample(), repr=False, kw_only=True)

    @property
    def SEARCHES(self) -> bool:  # type: ignore[override]
        return self.inner.SEARCHES

    @property
    def RANKS(self) -> bool:  # type: ignore[override]
        return self.inner.RANKS

    @property
    def FORKS(self) -> bool:  # type: ignore[override]
        return self.inner.FORKS

    @property
    def words(self) -> str:
        return f"{self.TITLE} · {self.inner.words}" if self.inner.words else self.TITLE

    def over(self, inner: Strategy) -> Self:
        """This combination, drawn from by `inner`. ParameterError for a strategy that reads a model by itself."""
        if isinstance(inner, Combination | NGram | Drafting):
            raise ParameterError(f"{inner} asks the model itself, and cannot go over {self.NAME}: a search can")
        return replace(self, inner=inner)

    def best(self, n: int) -> Self:
        return replace(self, inner=self.inner.best(n))

    def check(self, n: int) -> None:
        self.inner.check(n)

    @property
    def most(self) -> int:
        return self.inner.most

    def width(self, n: int) -> int:
        return 2 * self.inner.width(n)

    def combined(self, branches: "Branches") -> "Generator[Waiting, None, Branches]":
        """Places whose logits are the combination, at the places of `branches`."""
        raise NotImplementedError

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        yield from self.inner.steps((yield from self.combined(branches)), sampler, control, limit=limit)

    def __str__(self) -> str:
        own = Strategy.__str__(self)
        return own if self.inner == Sample() else f"{own}{OVER}{self.inner}"


@dataclass(frozen=True, slots=True)
class Contrast(Combination):
    """(1 + `strength`) log p - `strength` log q, q being a weaker `model`'s, of tokens with p at least `least` of the
    largest (Li et al., arXiv:2210.15097; in this form O'Brien and Lewis, arXiv:2309.09117)."""

    NAME: ClassVar[str] = "contrast"
    TITLE: ClassVar[str] = "contrast with a weaker model"
    ABOUT: ClassVar[str] = "what a model says more than a weaker one"

    model: str
    strength: float = 0.5
    least: float = 0.1
    loaded: Any = field(default=None, repr=False, compare=False)  # that model (and its tokenizer), once it is bound

    def __post_init__(self) -> None:
        within("the strength of the contrast", self.strength, "(0, 100]")
        within("the least share", self.least, "(0, 1]")

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.model,)

    @classmethod
    def offers(cls, models: tuple[str, ...]) -> "tuple[Contrast, ...]":
        return tuple(map(cls, models))

    @property
    def about(self) -> str:
        return f"what is said more than {self.model} would"

    def bind(self, models: Mapping[str, Any], tokenizer: Any) -> "Contrast":
        wanted = "a contrast needs two models with one tokenizer"
        return replace(self, loaded=beside(self, self.model, models, tokenizer, wanted))

    def check(self, n: int) -> None:
        if self.loaded is None:
            self.bind({}, None)
        self.inner.check(n)

    def combined(self, branches: "Branches") -> "Generator[Waiting, None, Branches]":
        from likely.engine.decode.drafts.pair import PairedBranches, contrasted, second

        weaker = yield from second(self.loaded.model, branches.ids[0], len(branches), paced=branches.pace is not None)
        return PairedBranches(branches, weaker, contrasted(self.strength, self.least))


@dataclass(frozen=True, slots=True)
class Layers(Combination):
    """log p - log q, q being what one of the lower layers would say, of tokens with p at least `least` of the largest:
    of the candidates below `below` layers, every second one, that which differs most (Chuang et al., arXiv:2309.03883).

    Differs by the Jensen-Shannon divergence. `below` is half of the layers where it is not said.
    """

    NAME: ClassVar[str] = "dola"
    TITLE: ClassVar[str] = "contrast with lower layers"
    ABOUT: ClassVar[str] = "what the upper layers add to the lower ones"

    below: int = 0
    least: float = 0.1

    def __post_init__(self) -> None:
        within("the number of lower layers", self.below, "[0, 1000]", whole=True)
        within("the least share", self.least, "(0, 1]")

    def width(self, n: int) -> int:
        return self.inner.width(n) + 1

    def combined(self, branches: "Branches") -> "Generator[Waiting, None, Branches]":
        from likely.engine.decode.drafts.depths import Depths, read_again

        yield Waiting()
        return read_again(branches, Depths.of(branches.model, self.below, self.least))


@dataclass(frozen=True, slots=True)
class Guidance(Combination):
    """log q + `scale` (log p - log q), q being what follows another prompt: `away`, or, without one, the last token
    alone (Sanchez et al., arXiv:2306.17806). Scale 1 is the model itself."""

    NAME: ClassVar[str] = "guidance"
    TITLE: ClassVar[str] = "guidance"
    ABOUT: ClassVar[str] = "towards the prompt, and away from another one"

    scale: float = 1.5
    away: str = ""
    ids: tuple[int, ...] = field(default=(), repr=False, compare=False)  # of `away`, once it is bound

    def __post_init__(self) -> None:
        within("the scale of the guidance", self.scale, "[0, 100]")

    def bind(self, models: Mapping[str, Any], tokenizer: Any) -> "Guidance":
        from likely.engine.decode.prompt import single_turn

        return replace(self, ids=tuple(single_turn(self.away, tokenizer).ids(tokenizer))) if self.away else self

    def combined(self, branches: "Branches") -> "Generator[Waiting, None, Branches]":
        from likely.engine.decode.drafts.pair import PairedBranches, guided, second

        other = yield from second(
            branches.model, self.ids or branches.ids[0][-1:], len(branches), paced=branches.pace is not None
        )
        return PairedBranches(branches, other, guided(self.scale))
