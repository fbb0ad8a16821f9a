"""`Texts`: what the events of a run come to, each branch's steps, ratings, text and end. Knows nothing of models."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, Self, TypeVar

from likely.engine.decode.loop.events import Done, Emitted, Event, Forked, Prefilled, Pruned, Rated, Reloaded, Waiting
from likely.engine.sampling.thinking import Thinking, spoken
from likely.engine.sampling.trace.step import TokenStep


@dataclass(slots=True)
class GrownText:
    """The text of one branch, as far as it has come."""

    steps: list[TokenStep] = field(default_factory=list)
    figures: Mapping[str, float] = field(default_factory=dict)  # by which a search rated it last
    scores: list[float] = field(default_factory=list)  # each time that it was rated
    done: Done | None = None
    shared: int = 0  # tokens that it has of the branch that it parted from

    @property
    def text(self) -> str:
        return "".join(step.text for step in self.steps) + (self.done.text if self.done is not None else "")

    def said(self, opened: bool = False, thinking: Thinking | None = None) -> str:
        """The text behind its thought (`engine.thinking.spoken`)."""
        return spoken(self.steps, self.done.text if self.done is not None else "", opened, thinking)

    @property
    def reason(self) -> str:
        """Why it ended, "" while it has not."""
        return self.done.reason if self.done is not None else ""

    @property
    def ids(self) -> list[int]:
        return [step.token for step in self.steps]

    @property
    def logprob(self) -> float:
        """The sum of the raw log-probabilities of its tokens, in nats."""
        return math.fsum(step.logprob for step in self.steps if step.logprob is not None)

    @property
    def score(self) -> float:
        """Rank among the texts of a search, the larger the better; -inf where nothing rated it."""
        return self.figures.get("score", -math.inf)

    def fork(self) -> Self:
        """The text of a branch that parts here, which nothing has rated yet."""
        return replace(self, steps=list(self.steps), figures={}, scores=[], shared=len(self.steps))


T = TypeVar("T", bound=GrownText)


class Texts(dict[int, T], Generic[T]):
    """The texts of a run, by branch: those that there are from the beginning, and those that come up; a branch that is
    given up is not among them."""

    def __init__(self, n: int = 0, begin: Callable[[], T] = GrownText) -> None:  # type: ignore[assignment]
        super().__init__((branch, begin()) for branch in range(n))
        self._begin = begin

    def __missing__(self, branch: int) -> T:
        return self.setdefault(branch, self._begin())

    def follow(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events; each is taken in, then passed on."""
        for event in events:
            match event:
                case Emitted(branch, step):
                    self[branch].steps.append(step)
                case Forked(parent, child):
                    self[child] = self[parent].fork()
                case Pruned(branch):
                    self.pop(branch, None)
                case Rated(branch, figures):
                    text = self[branch]
                    text.figures = figures
                    text.scores += [figures["score"]] if "score" in figures else []
                case Done(branch):
                    self[branch].done = event
            yield event

    def ended(self) -> list[T]:
        """Those that have ended, in the order of their branches."""
        return [self[branch] for branch in sorted(self) if self[branch].done is not None]


class RatedText(Protocol):
    """Anything that a search has rated."""

    @property
    def figures(self) -> Mapping[str, float]: ...


R = TypeVar("R", bound=RatedText)


def search_answers(texts: Iterable[R], n: int | None = None) -> list[R]:
    """The answers of a search: the `n` texts with the highest score, best first; all of them without `n`.

    However a text ended, it takes part: a stop string ends texts before the search has chosen. Equal scores keep their
    order, and texts without a score come last.
    """
    return sorted(texts, key=lambda text: -text.figures.get("score", -math.inf))[:n]


def answer_events(events: Iterable[Event]) -> Iterator[Event]:
    """The events of a search, with the tokens and the end of its best answer alone, once the search is over."""
    grown = Texts[GrownText]()
    for event in grown.follow(events):
        if isinstance(event, Prefilled | Reloaded | Waiting):
            yield event
    for answer in search_answers(grown.ended(), 1):
        assert answer.done is not None
        for step in answer.steps:
            yield Emitted(answer.done.branch, step)
        yield answer.done


def texts_of(events: Iterable[Event]) -> list[GrownText]:
    """The texts of a run that goes to its end now, in the order of their branches."""
    grown = Texts[GrownText]()
    for _ in grown.follow(events):
        pass
    return grown.ended()
