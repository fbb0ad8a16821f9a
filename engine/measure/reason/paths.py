"""Paths: several sampled answers to one question, and what is chosen of them: by vote, by a score, by a verifier.

Takes the events of a run, whatever way they were drawn; stops it when the vote is decided, and a path of it that has no
prospect. Knows nothing of models.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from likely.engine.decode.answers import vote
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.answers.program import VerifierError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Event
from likely.engine.decode.loop.texts import GrownText, Texts
from likely.engine.measure.reason.scorers import WINDOW, Scorer, confidences, groups, logprob
from likely.engine.sampling.thinking import Thinking
from likely.engine.sampling.trace.step import TokenStep

Judge = Callable[["ReasoningPath"], float | None]  # None: no verdict


@dataclass(frozen=True, slots=True)
class ReasoningPath:
    """One sampled answer, as far as it came: `finish` is why it ended."""

    branch: int
    steps: tuple[TokenStep, ...]
    text: str
    answer: str | None
    finish: str
    drawn: int | None = None  # tokens for it alone: not those that it has of another path, but those that were rejected
    figures: Mapping[str, float] = field(default_factory=dict)  # what its strategy said of it in the end
    scores: tuple[float, ...] = ()  # each time that it was rated
    trouble: str = ""  # why no answer could be looked for

    @property
    def tokens(self) -> int:
        return len(self.steps)

    @property
    def logprob(self) -> float:
        """The raw log-probability of all its tokens, nats."""
        return logprob(self.steps)

    @property
    def whole(self) -> bool:
        """Whether it was gone to its end, or to the end of what was allowed."""
        return self.finish != "cancelled"

    @property
    def cut(self) -> bool:
        """Whether it was what is allowed that ended it."""
        return self.finish == "length"


@dataclass(frozen=True, slots=True)
class VoteOutcome:
    """Outcome of the paths: the answer, the weight of each, and the one that says it; None where no path has one."""

    answer: str | None
    votes: dict[str, float]
    paths: tuple[ReasoningPath, ...]
    chosen: ReasoningPath | None
    scores: tuple[float | None, ...] = ()  # of each path, where they were judged

    @property
    def tokens(self) -> int:
        """Drawn in all, also in paths that were stopped, and what was rejected."""
        return sum(path.tokens if path.drawn is None else path.drawn for path in self.paths)

    @property
    def unanswered(self) -> int:
        """Whole paths in which no answer was found: they are no wrong ones."""
        return sum(path.whole and path.answer is None for path in self.paths)


@dataclass(slots=True)
class PathCollector:
    """Paths while they are drawn: `watch` takes the events of a run and gives each path when it ends.

    With a `confidence` the run is cancelled once a vote of its `n` paths is decided so surely. With a `doubt` a path is
    given up whose last `WINDOW` tokens are less confident than that (Fu et al., arXiv:2508.15260, online).
    """

    extract: Extraction
    n: int
    control: RunControl
    confidence: float | None = None
    doubt: float | None = None
    paths: list[ReasoningPath] = field(default_factory=list)
    thinking: Thinking | None = None  # the marks of who draws them
    group: dict[int, deque[float]] = field(default_factory=dict)  # confidences of a branch's last tokens

    def despair(self, share: float) -> None:
        """From now on give up a path that is, at some place, less confident than this share of the whole ones were at
        their least confident one."""
        lows = [float(groups(path.steps).min()) for path in self.paths if path.whole]
        self.doubt = float(np.quantile(lows, share)) if lows else None
        self.group.clear()

    def watch(self, events: Iterable[Event]) -> Iterator[ReasoningPath]:
        texts = Texts[GrownText]()
        for event in texts.follow(events):
            match event:
                case Emitted(branch, step) if self._doubted(branch, step):
                    self.control.given_up.add(branch)
                case Done(branch):
                    self.paths.append(self._path(branch, texts.pop(branch)))
                    yield self.paths[-1]
                    self._stop()

    def _doubted(self, branch: int, step: TokenStep) -> bool:
        """Whether the group that ends with a branch's newest token is less confident than may be."""
        if self.doubt is None:
            return False
        group = self.group.setdefault(branch, deque(maxlen=WINDOW))
        group.extend(confidences([step]).tolist())
        return len(group) == WINDOW and sum(group) / WINDOW < self.doubt

    def _path(self, branch: int, grown: GrownText) -> ReasoningPath:
        text, said, reason = grown.text, grown.said(thinking=self.thinking), grown.reason
        answer, trouble = answer_in(said, self.extract) if reason != "cancelled" else (None, "")
        drawn = int(grown.figures.get("drawn", len(grown.steps) - grown.shared))
        return ReasoningPath(
            branch, tuple(grown.steps), text, answer, reason, drawn, grown.figures, tuple(grown.scores), trouble
        )

    def _stop(self) -> None:
        whole = [path.answer for path in self.paths if path.whole]
        n = self.n - len(self.paths) + len(whole)  # what was given up votes no more
        if self.confidence is not None and len(whole) < n and vote.decided(whole, n, self.confidence):
            self.control.cancel()


def answer_in(text: str, extract: Extraction) -> tuple[str | None, str]:
    """The answer in a text, and why none could be looked for."""
    try:
        return extract(text), ""
    except VerifierError as error:
        return None, str(error)


def by_vote(paths: Sequence[ReasoningPath], scorer: Scorer | None = None, *, seed: int = 0) -> VoteOutcome:
    """The answer that most whole paths give, each weighed by a scorer if there is one."""
    whole = [path for path in paths if path.whole]
    weights = None
    if scorer is not None and whole:
        weights = [float(w) for w in scorer.weight(np.array([scorer.of(path.steps) for path in whole]))]
    votes = vote.tally([path.answer for path in whole], weights)
    answer = vote.winner(votes, seed)
    saying = [path for path in whole if path.answer == answer and answer is not None]
    return VoteOutcome(
        answer, votes, tuple(paths), max(saying, key=lambda p: p.logprob / max(p.tokens, 1), default=None)
    )


def by_score(paths: Sequence[ReasoningPath], judge: Judge) -> VoteOutcome:
    """The answer of the path with the largest score, of those that have an answer and a verdict."""
    scores = [judge(path) if path.whole and path.answer is not None else None for path in paths]
    judged = [(score, -i) for i, score in enumerate(scores) if score is not None]
    chosen = paths[-max(judged)[1]] if judged else None
    votes = vote.tally([path.answer for path in paths if path.whole])
    return replace(
        VoteOutcome(None, votes, tuple(paths), chosen, tuple(scores)), answer=chosen.answer if chosen else None
    )
