"""`Reasoning`: a way of thinking about a question: how it is asked, drawn several times, and an answer chosen.

The one route of `likely reason`, for a question and for a file of problems. Prints nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import ParameterError
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.answers.program import Verifier, VerifierError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Event, Rated
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.sampled.entropy_branching import EntropyBranching
from likely.engine.decode.searches.power import Power
from likely.engine.measure.reason.belief import p_true
from likely.engine.measure.reason.paths import PathCollector, ReasoningPath, VoteOutcome, by_score, by_vote
from likely.engine.measure.reason.reflection import again
from likely.engine.measure.reason.scorers import Scorer, scorer
from likely.engine.measure.reason.step_beam import StepBeam
from likely.engine.measure.reason.thought import Thought
from likely.engine.sampling.thinking import thinking_of
from likely.engine.sampling.trace.step import TokenStep

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

METHODS = ("vote", "best", "power", "entropy", "steps", "reflect")


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
    hopeless: float | None = None  # the share of a vote's first half of which the other's paths must not be worse
    alpha: float = 4.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    raw: bool = False  # a question is the prompt, as it is
    believes: bool = False  # the model is asked how sure it is of an answer, and that chooses the best
    beams: int = 4  # of a search by steps, of n ways in all at each
    step_end: str = "\n"
    bits: float = 3.0  # of entropy, at which paths part

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 256:
            raise ParameterError(f"the number of paths must be in [1, 256], got {self.n}")
        self._strategy()
        if self.method == "steps":
            self._search()
        if self.method == "reflect" and self.raw:
            raise ParameterError("a reflection asks again by its template, which --raw leaves out: drop --raw")
        if self.method == "reflect" and self.n < 2:
            raise ParameterError(f"a reflection asks again: it takes 2 answers or more, got {self.n}")

    @property
    def once(self) -> "Reasoning":
        """The reasoning with one answer and no vote, verifier or early end."""
        return replace(self, method="vote", n=1, confidence=None, hopeless=None, verifier=None)

    def ids(self, session: "Session", question: str) -> list[int]:
        """The prompt of a question."""
        if self.raw:
            return Prompt(parts=(question,)).ids(session.tokenizer)
        return self.asks.ask(question, chat=session.tokenizer.chat_template is not None).ids(session.tokenizer)

    def _search(self) -> StepBeam:
        ways, rest = divmod(self.n, max(self.beams, 1))
        search = StepBeam(self.beams, max(ways, 1), self.step_end, self.max_tokens, self.stop)
        if ways < 2 or rest:  # of one way each nothing is chosen
            raise ParameterError(
                f"a search by steps tries as many ways from each of its beams, 2 or more: expected --paths that are a "
                f"multiple of --beams {self.beams}, such as {self.beams * max(2, ways)}, got {self.n}"
            )
        return search

    def draw(
        self, session: "Session", ids: Sequence[int], control: RunControl, seed: int, question: str = ""
    ) -> Iterator[ReasoningPath]:
        """Each path when it ends; `question` is for a method that judges or asks again on the way."""
        if self.method == "steps":
            return self._search_steps(session, ids, control, seed, question)
        if self.method == "reflect":
            return self._reflect(session, ids, control, seed, question)
        return self._side_by_side(session, ids, control, seed)

    def choose(
        self,
        session: "Session",
        paths: Sequence[ReasoningPath],
        question: str,
        seed: int,
        complain: Callable[[ReasoningPath, str], None],
    ) -> VoteOutcome:
        """The answer that the method takes; `complain` hears of a path that has no verdict, or in which no answer could
        be looked for."""
        for path in paths:
            if path.trouble:
                complain(path, path.trouble)
        if self.method in ("steps", "reflect"):
            answered = [path for path in paths if path.answer is not None]
            chosen = None if not answered else answered[0] if self.method == "steps" else answered[-1]
            outcome = by_vote(paths, seed=seed)
            return replace(outcome, answer=chosen.answer if chosen else None, chosen=chosen)
        if self.method != "best":
            return by_vote(paths, self.weigh, seed=seed)

        def judge(path: ReasoningPath) -> float | None:
            if self.believes:
                return p_true(session, question, path.text.strip())
            try:
                return self._worth(question, path.text, path.steps, path.answer)
            except VerifierError as error:
                complain(path, str(error))
                return None

        return by_score(paths, judge)

    def _worth(self, question: str, text: str, steps: Sequence[TokenStep], answer: str | None) -> float:
        """A text's worth: the verifier's verdict, or what its tokens weigh. VerifierError where there is no verdict."""
        if self.verifier is None:
            return (self.weigh or scorer("mean")).of(steps)
        return self.verifier(question, text, answer=answer)

    def _reflect(
        self, session: "Session", ids: Sequence[int], control: RunControl, seed: int, question: str
    ) -> Iterator[ReasoningPath]:
        """An answer, and what becomes of it each time that the model is asked to check it."""
        once, texts = self.once, list[str]()
        for i in range(self.n):
            (path,) = once.draw(session, ids, control, seed + i)
            yield replace(path, branch=i)
            if control.cancelled:
                return
            texts.append(path.text)
            chat = session.tokenizer.chat_template is not None
            ids = again(self.asks, question, texts, chat=chat).ids(session.tokenizer)

    def _search_steps(
        self, session: "Session", ids: Sequence[int], control: RunControl, seed: int, question: str
    ) -> Iterator[ReasoningPath]:
        trouble = ""

        def value(text: str, steps: Sequence[TokenStep], whole: bool) -> float | None:
            nonlocal trouble
            try:
                return self._worth(question, text, steps, self.extract(text) if whole else None)
            except VerifierError as error:
                trouble = trouble or str(error)
                return None

        for path in self._search().search(session, ids, control, value, extract=self.extract, seed=seed):
            yield replace(path, trouble=trouble)

    def _side_by_side(
        self, session: "Session", ids: Sequence[int], control: RunControl, seed: int
    ) -> Iterator[ReasoningPath]:
        """Paths that are drawn together; where hopeless ones are to be given up, the second half after the first."""
        confidence = self.confidence if self.method == "vote" else None
        collector = PathCollector(self.extract, self.n, control, confidence, thinking=thinking_of(session.tokenizer))
        if self.hopeless is None or self.n == 1:
            yield from collector.watch(self._events(session, ids, control, seed, self.n))
            return
        half = (self.n + 1) // 2
        yield from collector.watch(self._events(session, ids, control, seed, half))
        if control.cancelled:
            return
        collector.despair(self.hopeless)
        for path in collector.watch(self._events(session, ids, control, seed + half, self.n - half)):
            yield replace(path, branch=path.branch + half)

    def _strategy(self) -> Strategy | None:
        """The strategy of each run; None for samples side by side."""
        if self.method == "power":
            return Power(self.alpha)
        return EntropyBranching(self.n, bits=self.bits) if self.method == "entropy" else None

    def _events(
        self, session: "Session", ids: Sequence[int], control: RunControl, seed: int, n: int
    ) -> Iterator[Event]:
        """The events of n paths drawn side by side, or of n chains drawn one after the other."""
        options: dict[str, Any] = {"max_tokens": self.max_tokens, "stop": self.stop, "strategy": self._strategy()}
        if self.method != "power":
            yield from session.generate(ids, control, n=1 if self.method == "entropy" else n, seed=seed, **options)
            return
        for i in range(n):
            for event in session.generate(ids, control, seed=seed + i, **options):
                yield replace(event, branch=i) if isinstance(event, Emitted | Done | Rated) else event
