"""Verified rows and preference pairs: several answers to each problem, and what a verifier says of each.

Verified (rejection sampling; STaR, Zelikman et al. 2022, with hints): every answer is a row with its verdict, and the
filter keeps those that are right. Preferences: the best and the worst of the answers are a pair. A verifier sees what
it sees and no more: an answer that is right by accident is right.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

from likely.engine.base import distributed
from likely.engine.decode.answers.program import RIGHT, Verifier, VerifierError
from likely.engine.measure.evaluate.tasks import verifiers
from likely.engine.measure.evaluate.tasks.tasks import Question, Task
from likely.engine.measure.evaluate.tasks.verifiers import judge
from likely.engine.measure.reason.paths import ReasoningPath
from likely.engine.measure.synth.inputs import AskedProblem, problems, task_of
from likely.engine.measure.synth.method import LONG, RowMethod
from likely.engine.measure.synth.row import SynthRow

HINT = " (hint: {answer})"
PROBED = 8  # problems that a verifier is asked about with answers to others


class OfProblems(RowMethod):
    """Answers to the problems of a task."""

    @cached_property
    def task(self) -> Task:
        task = task_of(self.options.task, self.config.names)
        verifiers.check(task.settings)
        return task

    @cached_property
    def problems(self) -> list[AskedProblem]:
        return problems(self.task, self.options.limit)

    @cached_property
    def verifier(self) -> Verifier | None:
        return Verifier.of(self.options.verifier, self.options.timeout) if self.options.verifier else None

    @property
    def jobs(self) -> int:
        return len(self.problems)

    @property
    def identity(self) -> str:
        return self.task.identity

    def parent(self, problem: AskedProblem) -> str:
        return f"{self.task.name}:{problem.number}"

    def answers(self, problem: AskedProblem, prompt: str, n: int, seed: int) -> list[ReasoningPath]:
        stop = self.options.stop or self.task.settings.stop
        return self.draws.draw(self.draws.prompt(prompt), n, seed, stop)

    def verdict(self, question: Question, said: str) -> tuple[float, str]:
        """The verdict on an answer: larger is better, at least 0.5 is right; and "", or why there is none."""
        together, value, why = distributed.joined(), 0.0, ""
        if together is None or together.leads:
            try:
                value = self._verdict(question, said)
            except VerifierError as error:
                why = str(error)
        if together is not None:  # a program may say one thing here and another there
            value, why = together.broadcast([value, why])
        return value, why

    def verdicts(self, question: Question, paths: Sequence[ReasoningPath]) -> dict[str, tuple[float, str]]:
        """The verdict on each different text, asked for once."""
        return {text: self.verdict(question, text) for text in dict.fromkeys(path.text for path in paths)}

    def _verdict(self, question: Question, said: str) -> float:
        if self.verifier is not None:
            return self.verifier(question.prompt, said, answers=question.answers, row=question.row)
        return min(judge(question, said, self.task.settings).values())

    def fooled(self) -> tuple[int, int]:
        """How many answers to other problems the verifier takes for right, and of how many."""
        questions = [problem.bare for problem in self.problems[: PROBED + 1]]
        wrong = [(a, b.answers[0]) for a, b in pairwise(questions) if b.answers[0] not in a.answers]
        return sum(self.verdict(question, answer)[0] >= RIGHT for question, answer in wrong), len(wrong)


class VerifiedProblems(OfProblems):
    """Every answer with its verdict; where none is right and hints are asked for, as many more that know it."""

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        problem, n = self.problems[job], self.options.answers
        rows = list(self._judged(job, problem, problem.asked.prompt, 0))
        yield from rows
        if self.options.hint and not any(row.scores["verified"] for row in rows):
            scorer = (self.task.settings.scorers or ("exact",))[0]
            answer = verifiers.final(problem.bare.answers[0], scorer, self.task.settings)
            yield from self._judged(job, problem, problem.asked.prompt + HINT.format(answer=answer), n, hinted=True)

    def _judged(
        self, job: int, problem: AskedProblem, prompt: str, first: int, *, hinted: bool = False
    ) -> Iterator[SynthRow]:
        """A row an answer, as if it had been asked without examples and hint."""
        seed = self.seed(job, first)
        paths = self.answers(problem, prompt, self.options.answers, seed)
        verdicts = self.verdicts(problem.bare, paths)
        for path in paths:
            value, why = verdicts[path.text]
            content = {"prompt": problem.bare.prompt, "completion": path.text}
            branch, own = first + path.branch, seed + path.branch
            attributes = {"hint": "yes"} if hinted else {}
            row = self.row(content, job, branch, self.parent(problem), seed=own, path=path, attributes=attributes)
            row = row.scored(verdict=value, verified=float(value >= RIGHT))
            if hinted and "hint" in path.text.casefold():
                row = row.out("generate: speaks of the hint")
            yield row.out(f"generate: no verdict ({why})") if why else row


class Preference(OfProblems):
    """The best and the worst of the answers by the verifier, of equal ones by their mean log-probability."""

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        problem = self.problems[job]
        paths = [p for p in self.answers(problem, problem.asked.prompt, self.options.answers, self.seed(job))
                 if p.finish != "length"]  # fmt: skip
        verdicts = self.verdicts(problem.bare, paths)
        judged = [(verdicts[p.text][0], p.logprob / max(p.tokens, 1), p) for p in paths]
        judged.sort(key=lambda entry: entry[:2])
        if not judged:
            content = {"prompt": problem.bare.prompt, "completion": ""}
            yield self.row(content, job, 0, self.parent(problem)).out(LONG)
            return
        (worst, _, bad), (best, _, good) = judged[0], judged[-1]
        parent = self.parent(problem)
        if best == worst:
            content = {"prompt": problem.bare.prompt, "completion": good.text}
            row = self.row(content, job, good.branch, parent)
            yield row.scored(best=best, worst=worst).out("generate: no answer is better than another")
            return
        content = {"prompt": problem.bare.prompt, "chosen": good.text, "rejected": bad.text}
        yield self.row(content, job, good.branch, parent).scored(best=best, worst=worst)
