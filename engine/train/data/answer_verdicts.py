"""Verdicts of a run: each answer to a problem is judged once, however often it is drawn, and remembered on disk.

A program is asked several at a time, and what it says is in `verdicts.jsonl` before it counts, by the content of what
was asked and of the program: a run that goes on asks nothing twice, and one whose program was mended asks anew. The
file grows by some 60 bytes for each different answer. Comparisons are made again: they cost nothing. No model.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from likely.engine.base import journal
from likely.engine.base.journal import Journal
from likely.engine.decode.answers.comparison import same_number, same_words
from likely.engine.decode.answers.extraction import is_number
from likely.engine.decode.answers.program import VerifierError
from likely.engine.train.data.samples import RewardedAnswer
from likely.engine.train.rewards.figures import Rollout

FILE = "verdicts.jsonl"
AT_ONCE = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class RewardProblem:
    """A prompt and the answer that is right."""

    ids: tuple[int, ...]
    prompt: str  # the question, without the template around it
    answer: str
    where: str

    def with_(self, answer: Sequence[int], weight: float = 0.0) -> RewardedAnswer:
        """The row of an answer to it, each of whose tokens counts so much."""
        trained = (*(False,) * len(self.ids), *(True,) * len(answer))
        return RewardedAnswer((*self.ids, *answer), trained, self.where, weight)


Judge = Callable[[RewardProblem, str], float]  # VerifierError where there is no verdict


def compared(problem: RewardProblem, said: str) -> float:
    """1 where an answer is the row's, as `likely eval` compares."""
    return float((same_number if is_number(problem.answer) else same_words)(said, problem.answer))


@dataclass
class Verdicts:
    """The verdicts that are known, None where the program gave none, by what was asked (`_key`)."""

    judge: Judge
    program: str = ""  # another one for another program; "" where no other process is asked
    known: dict[str, float | None] = field(default_factory=dict)
    why: str = ""  # there was no verdict, the last time
    journal: Journal = field(default_factory=lambda: Journal(None, {}))
    _missing: list[str] = field(default_factory=list)  # without a verdict, of a step that may end for it

    def of(self, problem: RewardProblem, answers: Iterable[str]) -> dict[str, float | None]:
        """The verdict on each different answer to a problem."""
        keys = {said: self._key(problem, said) for said in answers}
        new = [said for said, key in keys.items() if key not in self.known]
        if not self.program:
            return {said: self.judge(problem, said) for said in keys}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = {pool.submit(self.judge, problem, said): keys[said] for said in new}
            for done in as_completed(asked):
                try:
                    self._note(asked[done], done.result())
                except VerifierError as error:
                    self.why = str(error)
                    self._note(asked[done], None)
        return {said: self.known[key] for said, key in keys.items()}

    def hear(self, problem: RewardProblem, group: Iterable[Rollout]) -> None:
        """Take in the verdicts that another rank was given."""
        for one in group:
            if self.program and not one.cut and (key := self._key(problem, one.text)) not in self.known:
                self._note(key, one.reward)

    def accept(self) -> None:
        """Remember that there was no verdict on some, with which a step has been taken nevertheless."""
        for key in self._missing:
            self.journal.add({"of": key, "verdict": None})
        self._missing.clear()

    def _note(self, key: str, verdict: float | None) -> None:
        self.known[key] = verdict
        if verdict is None:
            self._missing.append(key)
        else:
            self.journal.add({"of": key, "verdict": verdict})

    def _key(self, problem: RewardProblem, said: str) -> str:
        asked = json.dumps([self.program, problem.prompt, problem.answer, said])
        return hashlib.blake2b(asked.encode(errors="surrogatepass"), digest_size=16).hexdigest()


@contextmanager
def opened(verdicts: Verdicts, folder: Path) -> Iterator[None]:
    """Have the verdicts of a run's folder, and keep new ones there; over ranks rank 0 does. DataError where the file is
    damaged or cannot be written."""
    if not verdicts.program:
        yield
        return
    with journal.opened(folder / FILE, {"verdicts": 1}, {"of": str, "verdict": (float, None)}) as there:
        verdicts.known |= {entry["of"]: entry["verdict"] for entry in there.entries}
        before, verdicts.journal = verdicts.journal, there
        try:
            yield
        finally:
            verdicts.journal = before
