"""`Reasoning`: a way of thinking about a question: how it is asked, drawn several times, and an answer chosen.

The one route of `likely reason`, for a question and for a file of problems. Prints nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted, Event, Rated
from engine.decode.power import Power
from engine.errors import ParameterError
from engine.evaluate.extraction import Extraction
from engine.evaluate.program import Verifier, VerifierError
from engine.prompt import Prompt
from engine.reason.paths import Path, PathCollector, VoteOutcome, by_score, by_vote
from engine.reason.scorers import Scorer, scorer
from engine.reason.thought import Thought

if TYPE_CHECKING:
    from engine.session import Session

METHODS = ("vote", "best", "power")


@dataclass(frozen=True, slots=True)
class Reasoning:
    """`n` paths of a thought by a method of `METHODS`; `weigh` or a verifier weighs, or chooses the best."""

    asks: Thought
    extract: Extraction
    method: str = "vote"
    n: int = 16
    weigh: Scorer | None = None
    verifier: Verifier | None = None
    confidence: float | None = None  # with which a vote is to be decided before it stops
    alpha: float = 4.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    raw: bool = False  # a question is the prompt, as it is

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 256:
            raise ParameterError(f"the number of paths must be in [1, 256], got {self.n}")

    def ids(self, session: "Session", question: str) -> list[int]:
        """The prompt of a question."""
        if self.raw:
            return Prompt(parts=(question,)).ids(session.tokenizer)
        return self.asks.ask(question, chat=session.tokenizer.chat_template is not None).ids(session.tokenizer)

    def draw(self, session: "Session", ids: Sequence[int], control: RunControl, seed: int) -> Iterator[Path]:
        """Each path when it ends."""
        confidence = self.confidence if self.method == "vote" else None
        collector = PathCollector(self.extract, self.n, control, confidence)
        return collector.watch(self._events(session, ids, control, seed))

    def choose(
        self, paths: Sequence[Path], question: str, seed: int, complain: Callable[[Path, str], None]
    ) -> VoteOutcome:
        """The answer that the method takes; `complain` hears of a path for which the verifier gave no verdict."""
        if self.method != "best":
            return by_vote(paths, self.weigh, seed=seed)

        def judge(path: Path) -> float | None:
            if self.verifier is None:
                return (self.weigh or scorer("mean")).of(path.steps)
            try:
                return self.verifier(question, path.text, answer=path.answer)
            except VerifierError as error:
                complain(path, str(error))
                return None

        return by_score(paths, judge)

    def _events(self, session: "Session", ids: Sequence[int], control: RunControl, seed: int) -> Iterator[Event]:
        """Those of n paths side by side, or of n chains, one after the other."""
        asked: dict[str, Any] = {"max_tokens": self.max_tokens, "stop": self.stop}
        if self.method != "power":
            yield from session.generate(ids, control, n=self.n, seed=seed, **asked)
            return
        for i in range(self.n):
            for event in session.generate(ids, control, seed=seed + i, strategy=Power(self.alpha), **asked):
                yield replace(event, branch=i) if isinstance(event, Emitted | Done | Rated) else event
