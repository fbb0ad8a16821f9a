"""Problems with known answers: a way of reasoning beside greedy decoding, and what more paths would have brought.

Right is an answer that is, in its one form, one of those known; no answer is counted by itself, and is not right.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Change, Estimate, compare, mean, share
from likely.engine.decode.answers.extraction import canonical
from likely.engine.decode.answers.vote import maj_at, pass_at
from likely.engine.decode.loop.control import RunControl
from likely.engine.measure.evaluate.tasks import task_files
from likely.engine.measure.evaluate.tasks.tasks import Problem, Question
from likely.engine.measure.reason.paths import ReasoningPath, VoteOutcome
from likely.engine.measure.reason.reasoning import Reasoning
from likely.engine.measure.reason.reflection import Flips, ends, flips
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.text.rows.training_row import check_map
from likely.engine.text.rows.values import refuse

if TYPE_CHECKING:
    from likely.engine.decode.session import Session


@dataclass(frozen=True, slots=True)
class Attempt:
    """One problem: its greedy path, what the method made of it, and the answers that are right."""

    question: Question
    greedy: ReasoningPath
    outcome: VoteOutcome

    @property
    def known(self) -> frozenset[str]:
        return frozenset(map(canonical, self.question.answers))

    def right(self, path: ReasoningPath) -> bool:
        return path.answer is not None and path.answer in self.known

    @property
    def solved(self) -> bool:
        """Whether the method's answer is right."""
        return self.outcome.answer is not None and self.outcome.answer in self.known

    def answers(self) -> list[str | None]:
        """The answers of all paths; those that are right are one and the same, "right"."""
        return ["right" if self.right(path) else path.answer for path in self.outcome.paths]

    @property
    def plurality(self) -> bool:
        """Whether more paths give a right answer than any other."""
        return maj_at(len(self.outcome.paths), self.answers(), "right") == 1


@dataclass(frozen=True, slots=True)
class AccuracyPoint:
    """Accuracy at a number of paths: one of k is right, a vote of k is, and the tokens that they take."""

    paths: int
    tokens: float
    one: Estimate
    vote: Estimate


@dataclass(frozen=True, slots=True)
class Gain:
    """Figures of a method over problems, each with its interval."""

    greedy: Estimate
    method: Estimate
    change: Change  # from greedy to the method, paired
    greedy_tokens: float
    tokens: float  # of the method, a problem
    unanswered: int  # whole paths without an answer
    curve: tuple[AccuracyPoint, ...]
    plurality: float  # the share of problems in which most paths are right: what a vote of very many tends to
    p: int = 0  # problems
    flips: Flips | None = None  # from the first to the last answer of a reflection


def read(path: Path, limit: int | None = None, names: Mapping[str, str] = {}) -> list[Question]:
    """The problems of a file of rows with a question and an answer, by whatever names a row to train on has them.
    DataError for others, and where there are none."""
    if names:
        check_map(names, task_files.columns(path))
    questions: list[Question] = []
    faults: list[tuple[str, str]] = []
    for task in task_files.read(path, names=names):
        for item in task.items(limit):
            if isinstance(item, Problem):
                if not item.scored and item.kind not in ("example", "duplicate"):
                    faults.append((f"{path}: row {item.number + 1}", item.words))
            elif isinstance(item.body, Question):
                questions.append(item.body)
            else:
                raise DataError(f"{path}: problems are rows with prompt and answer, not {item.body.NAME}")
    refuse(path, faults, len(faults) + len(questions))
    if not questions:
        raise DataError(f"{path}: no problem is in it")
    return questions


def attempt(
    session: "Session",
    questions: Sequence[Question],
    reasoning: Reasoning,
    control: RunControl,
    seed: int,
    complain: Callable[[ReasoningPath, str], None],
) -> Iterator[Attempt]:
    """Each problem when it was thought about; problem i draws with seed + i * paths. Ends early where `control` is
    cancelled: what was not whole is left out."""
    for i, question in enumerate(questions):
        ids = reasoning.ids(session, question.prompt)
        (greedy,) = reasoning.once.draw(session, ids, RunControl(SamplingConfig(greedy=True)), seed)
        own = RunControl(control.recipe)
        paths = []
        for path in reasoning.draw(session, ids, own, seed + i * reasoning.n, question.prompt):
            paths.append(path)
            if control.cancelled:
                own.cancel()
        if control.cancelled:
            return
        outcome = reasoning.choose(session, paths, question.prompt, seed + i, complain)
        yield Attempt(question, greedy, outcome)


def gain(attempts: Sequence[Attempt], method: str = "vote") -> Gain:
    """Figures of attempts; where a method draws each path by itself, pass@k and maj@k without bias for every k up to
    their number (Chen et al., arXiv:2107.03374; a vote's ties count by their share). There is none where paths were
    given up: those that are left are no chance ones."""
    before = [float(attempt.right(attempt.greedy)) for attempt in attempts]
    now = [float(attempt.solved) for attempt in attempts]
    outcomes = [attempt.outcome for attempt in attempts]
    tokens = [outcome.tokens for outcome in outcomes]
    most = min(len(outcome.paths) for outcome in outcomes)
    steps = sorted({*(2**e for e in range(most.bit_length()) if 2**e <= most), most})
    curve = []
    whole = all(path.whole for outcome in outcomes for path in outcome.paths)
    for k in steps if whole and method in ("vote", "best", "power") else ():
        right = [sum(map(attempt.right, attempt.outcome.paths)) for attempt in attempts]
        one = [pass_at(k, count, len(outcome.paths)) for count, outcome in zip(right, outcomes, strict=True)]
        vote = [maj_at(k, attempt.answers(), "right") for attempt in attempts]
        spent = math.fsum(outcome.tokens / len(outcome.paths) * k for outcome in outcomes) / len(attempts)
        curve.append(AccuracyPoint(k, spent, mean(one), mean(vote)))
    pairs = [tuple(map(attempt.right, ends(attempt.outcome.paths))) for attempt in attempts]
    flipped = flips([(pair[0], pair[1]) for pair in pairs if pair]) if method == "reflect" else None
    return Gain(
        share(before), share(now), compare(before, now),
        math.fsum(attempt.greedy.tokens for attempt in attempts) / len(attempts), math.fsum(tokens) / len(attempts),
        sum(outcome.unanswered for outcome in outcomes), tuple(curve),
        sum(attempt.plurality for attempt in attempts) / len(attempts), len(attempts), flipped,
    )  # fmt: skip
