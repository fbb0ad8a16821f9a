"""Analysis of chains of thought: whether the answer comes of them, and where they go wrong first.

A chain is cut in half, one number in it is changed, or it is exchanged for another problem's; the model goes on from
that greedily. An answer that stays was not read off the chain (Lanham et al., arXiv:2307.13702).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from likely.engine.base.statistics.estimates import Estimate, share
from likely.engine.decode.answers.program import Verifier, VerifierError
from likely.engine.decode.loop.control import RunControl
from likely.engine.measure.evaluate.tasks.tasks import Question
from likely.engine.measure.reason.paths import ReasoningPath, answer_in
from likely.engine.measure.reason.problems import Attempt
from likely.engine.measure.reason.reasoning import Reasoning
from likely.engine.measure.reason.steps import units
from likely.engine.sampling.trace.step import SamplingConfig

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

CHANGES = ("kept", "cut", "corrupted", "exchanged")  # kept: how many change by being drawn again alone


def changed(chain: Sequence[str], how: str, other: Sequence[str]) -> str | None:
    """The chain after a change of `CHANGES`; None where it cannot be made."""
    if how == "kept":
        return "".join(chain)
    if how == "cut":
        return "".join(chain[: len(chain) // 2])
    if how == "exchanged":
        return "".join(other) if other and list(other) != list(chain) else None
    numbers = [i for i, unit in enumerate(chain) if re.search(r"\d+", unit)]
    if not numbers:
        return None
    at = numbers[len(numbers) // 2]
    wrong = re.sub(r"\d+(?!.*\d)", lambda match: str(int(match[0]) + 1), chain[at], count=1, flags=re.DOTALL)
    return "".join([*chain[:at], wrong, *chain[at + 1 :]])


def sensitivity(session: "Session", reasoning: Reasoning, attempts: Sequence[Attempt]) -> dict[str, Estimate]:
    """For each of `CHANGES` the share of greedy answers that change with the chain, of those that it can be made for;
    the chain is all of the text but its last step."""
    long = (attempt for attempt in attempts if len(units(attempt.greedy.text)) > 1)
    answered = [attempt for attempt in long if attempt.greedy.answer is not None]
    chains = [units(attempt.greedy.text)[:-1] for attempt in answered]
    flips: dict[str, list[float]] = {how: [] for how in CHANGES}
    for i, attempt in enumerate(answered):
        prompt = reasoning.ids(session, attempt.question.prompt)
        for how in CHANGES:
            text = changed(chains[i], how, chains[(i + 1) % len(chains)])
            if text is None:
                continue
            ids = [*prompt, *session.tokenizer.encode(text)]
            (path,) = reasoning.once.draw(session, ids, RunControl(SamplingConfig(greedy=True)), 0)
            flips[how].append(float(answer_in(text + path.text, reasoning.extract)[0] != attempt.greedy.answer))
    return {how: share(values) for how, values in flips.items()}


def first_wrong(text: str, judge: Callable[[str], float]) -> int | None:
    """The index of the first step with which a text is wrong, by a judge of beginnings (right from 0.5 on); None where
    none is."""
    beginning = ""
    for i, unit in enumerate(units(text)):
        beginning += unit
        if judge(beginning) < 0.5:
            return i
    return None


def first_wrong_steps(
    attempts: Sequence[Attempt], verifier: Verifier, complain: Callable[[ReasoningPath, str], None]
) -> Counter[int | None]:
    """How many greedy texts go wrong first with each of their steps, by a program that is asked of every beginning:
    it reads the answer as null until the text is whole. None: with none. What it cannot judge is left out."""
    counts: Counter[int | None] = Counter()
    for attempt in attempts:
        path, question = attempt.greedy, attempt.question

        def judge(said: str, path: ReasoningPath = path, question: Question = question) -> float:
            answer = path.answer if said == path.text else None
            return verifier(question.prompt, said, answer=answer, answers=question.answers, row=question.row)

        try:
            counts[first_wrong(path.text, judge)] += 1
        except VerifierError as error:
            complain(path, str(error))
    return counts
