"""Strategies that guess ahead: what followed earlier in the text, or what a smaller model would say.

The tokens are those of `Sample`, or have their law, at another speed (`engine.decode.speculative`). No mlx.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler


@dataclass(frozen=True, slots=True)
class NGram(Strategy):
    """Guess what followed the last time that the text ended in the same few tokens, always `length` tokens or, without
    it, as many as pay."""

    NAME: ClassVar[str] = "ngram"
    TITLE: ClassVar[str] = "n-gram"
    ABOUT: ClassVar[str] = "guesses what followed earlier in the text"

    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is not None:
            within("the number of guesses", self.length, "[1, 15]", whole=True)

    @property
    def words(self) -> str:
        return "n-gram guesses" + ("" if self.length is None else f" of {self.length}")

    def check(self, n: int) -> None:
        _alone(self, n)

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        from likely.engine.decode.drafts.draft import PromptLookup
        from likely.engine.decode.drafts.speculative import Speculative

        return Speculative(PromptLookup(), self.length).steps(branches, sampler, control, limit=limit)


@dataclass(frozen=True, slots=True)
class Drafting(Strategy):
    """Guess what `model` would say, a smaller one with the same tokenizer, which is loaded."""

    NAME: ClassVar[str] = "draft"
    TITLE: ClassVar[str] = "draft"
    ABOUT: ClassVar[str] = "guesses of a smaller model with the same tokens"

    model: str
    loaded: Any = field(default=None, repr=False, compare=False)  # that model (and its tokenizer), once it is bound

    @property
    def words(self) -> str:
        return f"drafts of {self.model}"

    @property
    def about(self) -> str:
        return f"guesses of {self.model}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.model,)

    @classmethod
    def offers(cls, models: tuple[str, ...]) -> "tuple[Drafting, ...]":
        return tuple(map(cls, models))

    def check(self, n: int) -> None:
        _alone(self, n)
        if self.loaded is None:
            self.bind({}, None)

    def bind(self, models: Mapping[str, Any], tokenizer: Any) -> "Drafting":
        wanted = "a draft model needs the tokenizer of the model that it drafts for"
        return replace(self, loaded=beside(self, self.model, models, tokenizer, wanted))

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        from likely.engine.decode.drafts.draft import Draft
        from likely.engine.decode.drafts.speculative import Speculative

        return Speculative(Draft(self.loaded.model, paced=branches.pace is not None)).steps(
            branches, sampler, control, limit=limit
        )


def beside(strategy: Strategy, name: str, models: Mapping[str, Any], tokenizer: Any, wanted: str) -> Any:
    """The second model of a strategy. ParameterError where it is not loaded, or has another tokenizer than is
    `wanted`."""
    if name not in models:
        raise ParameterError(f"'{strategy}' is no way of drawing while {name} is not loaded: load it first")
    if models[name].tokenizer.fingerprint != tokenizer.fingerprint:
        raise ParameterError(
            f"{wanted}, and {models[name].info.name} has another one: choose a smaller model of the same family"
        )
    return models[name]


def _alone(strategy: Strategy, n: int) -> None:
    if n > 1:
        raise ParameterError(
            f"{strategy.NAME} uses the room of a pass that one answer leaves, and several fill it: draw one, or "
            "use sample"
        )
