"""`Lesson`: a chapter under way: what was guessed, whether the task is done, which checks are right, and what is next.

Immutable: every answer and every look at the view's numbers gives the next lesson. Knows neither the view nor who asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from likely.app.lessons import marking
from likely.app.lessons.chapter import WAS, Chapter
from likely.app.lessons.expression import ExpressionError, Numbers, Value, filled, names, names_in, value, written

PREDICT, DO, CHECK, END = ("predict", "do", "check", "end")
UNKNOWN = "not to be measured here"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a chapter is: what is kept of it. `truth` is what the guess was compared with, `right` whether it was,
    None where nothing was guessed."""

    guess: str | None = None  # "" for a guess that was passed
    truth: str = ""
    right: bool | None = None
    done: bool | None = None  # False: a person went on without
    checked: int = 0  # checks that were answered
    clean: int = 0  # those that were right at once
    yours: tuple[str, ...] = ()  # the values of the last page

    @property
    def begun(self) -> bool:
        return self.guess is not None

    def stages(self, chapter: Chapter) -> tuple[bool, bool, bool]:
        """Whether it was predicted, done, and checked to the end."""
        return bool(self.guess), bool(self.done), self.checked >= len(chapter.check)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A chapter with how far it is, and what was said of the last answer.

    `said` is the last answer, `news` the line about it, `wrong` whether it was wrong: then the steps are shown. `was`
    are the numbers of the view as they stood when the task began.
    """

    chapter: Chapter
    standing: Standing = field(default_factory=Standing)
    news: str = ""
    wrong: bool = False
    hinted: bool = False
    was: Mapping[str, Value] | None = None
    numbers: Mapping[str, Value] = field(default_factory=dict)  # the view's, last seen, and the chapter's own

    @property
    def stage(self) -> str:
        """The next stage: predict, do, check, or the end."""
        it = self.standing
        if not it.begun:
            return PREDICT
        if it.done is None:
            return DO
        return CHECK if it.checked < len(self.chapter.check) else END

    @property
    def question(self) -> str:
        """The question that is open, with its numbers; "" where there is none."""
        if self.stage == PREDICT:
            return filled(self.chapter.predict.question, self.numbers)
        if self.stage == CHECK:
            return filled(self.chapter.check[self.standing.checked].question, self.numbers)
        return ""

    @property
    def hint(self) -> str:
        """A hint for the open question; "" where there is none. Of a prediction there is none that would not tell."""
        if self.stage != CHECK:
            return ""
        check = self.chapter.check[self.standing.checked]
        return filled(check.hint or (check.steps[0] if check.steps else ""), self.numbers)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps to the answer of the open check, which a wrong one shows."""
        if self.stage != CHECK:
            return ()
        check = self.chapter.check[self.standing.checked]
        return tuple(filled(step, self.numbers) for step in check.steps)

    def seen(self, numbers: Numbers, lacks: str = "") -> "Lesson":
        """After a look at what the view measured: the guess is compared, the task may be done. `lacks` is why a view
        has no numbers, where it will have none."""
        if lacks and not numbers:
            return replace(self, news=f"{lacks}; ? goes on without" if self.stage == DO else self.news)
        known = {**self.chapter.numbers, **numbers}
        if known == self.numbers and self.was is not None:
            return self
        lesson = replace(self, numbers=known)
        it = lesson.standing
        if it.begun and not it.truth:
            it = lesson._compared()
        if it.begun and it.done is None and self.was is None and lesson._ready(known):
            lesson = replace(lesson, was=known)
        if it.begun and it.done is None and lesson._is_done(known):
            it = replace(it, done=True)
            lesson = replace(lesson, news="", wrong=False)
        return replace(lesson, standing=lesson._with_yours(it))

    def guessed(self, said: str) -> "Lesson":
        """After a guess; "" is none, and nothing is shown for it."""
        if not said.strip():
            return replace(self, news="guess first, whatever it is; ? goes on without", wrong=False)
        return replace(self, standing=replace(self.standing, guess=said.strip()), news="", wrong=False)

    def passed(self, lacks: str = "") -> "Lesson":
        """Without a guess, without the task; of a check, the hint first, and then the steps. One whose numbers the view
        `lacks` is left out."""
        if self.stage == PREDICT:
            return replace(self, standing=replace(self.standing, guess=""), news="", wrong=False)
        if self.stage == DO:
            truth = self.standing.truth or (UNKNOWN if lacks else "")
            return replace(self, standing=replace(self.standing, done=False, truth=truth), news="", wrong=False)
        if self.stage == CHECK and lacks and not self._measured():
            standing = replace(self.standing, checked=self.standing.checked + 1)
            return replace(self, standing=standing, news=f"left out: {lacks}", wrong=False, hinted=False)
        if self.stage == CHECK:
            return replace(self, hinted=True, wrong=self.hinted or self.wrong, news="")
        return self

    def did(self) -> "Lesson":
        """After a task that has no condition, as a person says that it is done; of another the view says so."""
        if self.stage != DO:
            return self
        if self.chapter.do.done:
            return replace(self, news="it is not done yet; ? goes on without")
        return replace(self, standing=replace(self.standing, done=True), news="", wrong=False)

    def answered(self, said: str) -> "Lesson":
        """After an answer to the open check. An empty one is none; a wrong one shows the steps, and is given again."""
        if self.stage != CHECK:
            return self
        check = self.chapter.check[self.standing.checked]
        if not said.strip():
            return replace(self, news="type the number, or ? for a hint")
        try:
            wanted = value(check.answer, self.numbers)
        except ExpressionError as error:
            return replace(self, news=f"the view has not measured that yet: {error}", wrong=False)
        if not marking.right(said, wanted, check.unit):
            readable = isinstance(wanted, str | bool) or marking.number(said) is not None
            news = (
                f"not {said.strip()}: see the steps"
                if readable
                else f"{said.strip()!r} is no number: 3, 2^-3, 1/8, 12.5 %"
            )
            return replace(self, news=news, wrong=True)
        unit = f" {check.unit}" if check.unit else ""
        it = self.standing
        it = replace(it, checked=it.checked + 1, clean=it.clean + (not self.wrong))
        news = f"right: {said.strip()}{'' if isinstance(wanted, str) else f' is {written(wanted)}{unit}'}"
        return replace(self, standing=it, news=news, wrong=False, hinted=False)

    def again(self) -> "Lesson":
        """The chapter from its beginning; its line of the last page stays until there is another."""
        return Lesson(self.chapter, Standing(yours=self.standing.yours))

    def _measured(self) -> bool:
        """Whether the open check has all numbers of its answer."""
        return names(self.chapter.check[self.standing.checked].answer) <= self.numbers.keys()

    # -- the numbers -------------------------------------------------------------------------------------------------

    def _ready(self, known: Numbers) -> bool:
        """Whether the view has measured what the condition of the task is about."""
        done = self.chapter.do.done
        return not done or {name.removeprefix(WAS) for name in names(done)} <= known.keys()

    def _is_done(self, known: Numbers) -> bool:
        done = self.chapter.do.done
        if not done or self.was is None:
            return False
        try:
            return bool(value(done, {**known, **{WAS + name: found for name, found in self.was.items()}}))
        except ExpressionError:
            return False

    def _compared(self) -> Standing:
        """The guess beside what the view says, once it says so."""
        predict = self.chapter.predict
        try:
            truth = value(predict.answer, self.numbers)
        except ExpressionError:
            return self.standing
        shown = filled(predict.shown, self.numbers) if predict.shown else written(truth)
        guess = self.standing.guess
        right = marking.right(guess, truth) if guess else None
        return replace(self.standing, truth=shown, right=right)

    def _with_yours(self, standing: Standing) -> Standing:
        """With the values of the last page, where all of their numbers are known."""
        if not standing.begun:
            return standing
        old = (*standing.yours, *[""] * len(self.chapter.yours))
        lines = tuple(
            filled(each.value, self.numbers) if names_in(each.value) <= self.numbers.keys() else before
            for each, before in zip(self.chapter.yours, old, strict=False)
        )
        return standing if lines == standing.yours else replace(standing, yours=lines)
