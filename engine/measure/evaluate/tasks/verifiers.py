"""Verifiers: whether an answer that was drawn is right, from plain comparison to a program that is asked.

Each says exactly what it does, since a score is worth no more than its verifier. No model.
"""

from collections.abc import Callable

from likely.engine.base.errors import ParameterError
from likely.engine.base.machine.installation import adding
from likely.engine.decode.answers import mathematics, program
from likely.engine.decode.answers.comparison import exact, normalised, same_number, same_words
from likely.engine.decode.answers.extraction import RULES, canonical, is_number, number, sought
from likely.engine.decode.answers.program import RIGHT, Verifier, VerifierError
from likely.engine.measure.evaluate.tasks.conditional import check_judge
from likely.engine.measure.evaluate.tasks.tasks import Question, TaskSettings

SCORERS = ("exact", "normalised", "numeric", "regex", "math", "program")


def check(settings: TaskSettings) -> None:
    """ParameterError for scorers that there are not, or that lack what they need."""
    for name in settings.scorers:
        if name not in SCORERS:
            raise ParameterError(f"there is no scorer {name!r}: one of {', '.join(SCORERS)}")
    if "program" in settings.scorers and not settings.program:
        raise ParameterError("the scorer program needs a program: a list of the words that start it")
    if "program" in settings.scorers:
        program.check(settings.program)
    if "math" in settings.scorers and not mathematics.is_there():
        raise ParameterError(f"the scorer math needs math-verify, which is not installed: {adding('math-verify')}")
    if "regex" in settings.scorers and not settings.pattern:
        raise ParameterError("the scorer regex needs a pattern")
    if lacking := check_judge(settings.judge):
        raise ParameterError(lacking)
    if settings.pattern:
        sought(settings.pattern)


def judge(question: Question, said: str, settings: TaskSettings) -> dict[str, float]:
    """1 or 0 by each scorer: those that are set, or exact, normalised and, where the answer is a number, numeric.

    Raises VerifierError where a program, math-verify or the pattern gives no verdict.
    """
    names = settings.scorers
    if not names:
        numeric = all(map(is_number, question.answers))
        names = ("exact", "normalised", *(["numeric"] if numeric else []))
    values = {}
    for name in names:
        if name == "program":
            verifier = Verifier(settings.program, settings.seconds)
            verdict = verifier(question.prompt, said, answers=question.answers, row=question.row)
            values[name] = float(verdict >= RIGHT)
        else:
            values[name] = float(any(_RIGHT[name](said, answer, settings) for answer in question.answers))
    return values


def final(said: str, scorer: str, settings: TaskSettings) -> str:
    """The answer in the form in which two of them are the same answer, for a vote."""
    if scorer == "numeric":
        value = number(said)
        return "" if value is None else str(value)
    if scorer == "math":
        return canonical(RULES["boxed"](said) or said)
    if scorer == "regex":
        try:
            return sought(settings.pattern)(said) or ""
        except VerifierError:  # `judge` has said so
            return ""
    return normalised(said) if scorer == "normalised" else said.strip()


_RIGHT: dict[str, Callable[[str, str, TaskSettings], bool]] = {
    "exact": lambda said, answer, _: exact(said, answer),
    "normalised": lambda said, answer, _: same_words(said, answer),
    "numeric": lambda said, answer, _: same_number(said, answer),
    "math": lambda said, answer, s: mathematics.same(said, answer, s.seconds),
    "regex": lambda said, answer, s: (sought(s.pattern)(said) or "").strip() == answer.strip(),
}
