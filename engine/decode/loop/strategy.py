"""`Strategy`: what every way of decoding offers. Knows no particular one; no mlx, so a screen can name them all."""

from collections.abc import Generator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Event

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler

OVER = " > "  # between the text form of a combination and that of the strategy that goes over it
EARLY = ("false", "true", "never")  # when a beam search is over (`decode.beam`)
Steps = Generator[Event, bool | None, None]  # what is sent back says whether the event's branch is over


@dataclass(frozen=True, slots=True)
class Strategy:
    """How tokens are found: a frozen dataclass of its settings, which are the words of its text form.

    A module of one imports no mlx while it is loaded: what it needs comes with the branches and the sampler, or is
    imported where it runs.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]  # in a list of strategies
    ABOUT: ClassVar[str]  # beside it, where its settings are still to come
    # whether its answers are rated and come best first: no preset's transforms unless asked for, and when the run is
    # cancelled, it tells what it has found
    SEARCHES: ClassVar[bool] = False
    RANKS: ClassVar[bool] = False  # whether it looks for the texts with the largest log p, and draws none
    FORKS: ClassVar[bool] = False  # whether one answer that is asked for becomes several
    SPANS: ClassVar[Mapping[str, tuple[float, float]]] = {}  # between which its settings usually lie, for a slider

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        """Events of a run, for at most `limit` tokens of each branch, their steps without text.

        Each branch that the strategy is given, or forks, goes on until the answer to one of its events is that it is
        over: the text has ended, or the run is cancelled. A branch whose number has been `Pruned` is named no more.
        Closing the iterator leaves the branches at the last tokens given.
        """
        raise NotImplementedError

    def check(self, n: int) -> None:
        """ParameterError where a run for n answers is none for this strategy."""

    def best(self, n: int) -> Self:
        """One that gives its n best answers. ParameterError for what does not order them, and where there are fewer."""
        raise ParameterError(f"{self.NAME} does not order its answers, so there are no {n} best")

    @property
    def most(self) -> int:
        """How many answers a search gives."""
        return 1

    def bind(self, models: Mapping[str, Any], tokenizer: Any) -> Self:
        """The strategy with the models that it `needs`, of those that are loaded, by name, to run with a tokenizer.

        ParameterError where it cannot.
        """
        return self

    def width(self, n: int) -> int:
        """How many branches are held at once, at most, in a run for n answers."""
        return n

    @property
    def words(self) -> str:
        """Words for a run drawn so; "" where there is nothing to say."""
        return str(self)

    @property
    def about(self) -> str:
        """Words beside it in a list of strategies."""
        return self.ABOUT

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of models that have to be loaded."""
        return ()

    @classmethod
    def offers(cls, models: tuple[str, ...]) -> tuple[Self, ...]:
        """The strategies of this kind to choose from, where these models are loaded."""
        return (cls(),)

    @classmethod
    def form(cls) -> str:
        """How its text form is written."""
        words = (f.name.upper() if f.default is MISSING else f"[{f.name.upper()}]" for f in cls.settings())
        return " ".join([cls.NAME, *words])

    @classmethod
    def settings(cls) -> "list[Field[Any]]":
        """The fields of the strategy that its text form has."""
        return [field for field in fields(cls) if field.repr]

    def __str__(self) -> str:
        """The text form: the name and the settings in their order, without those at the end that are as they come."""
        values = [(getattr(self, f.name), f.default) for f in self.settings()]
        while values and values[-1][0] == values[-1][1]:
            values.pop()
        return " ".join([self.NAME, *(str(value) for value, _ in values)])
