"""`Tutor`: a course that is being taken: which chapter is open, with which model, and how far each chapter is.

It keeps what is answered as soon as it is answered, so that a chapter can be left at any point. Knows no screen.
"""

from dataclasses import replace
from pathlib import Path

from likely.app.lessons import progress
from likely.app.lessons.chapter import Chapter
from likely.app.lessons.course import Course
from likely.app.lessons.lesson import DO, PREDICT, Lesson, Standing
from likely.app.lessons.lesson_views import LESSON_VIEWS
from likely.engine.base.errors import DataError

HOME = "learn"  # the view of the course itself


class Tutor:
    """A course, its progress by model and seed, and the lesson that is open."""

    def __init__(self, course: Course, home: Path, seed: int = 0) -> None:
        self.course, self.home, self.seed = course, home, seed
        self.model = ""
        self.standings: dict[int, Standing] = progress.read(home, course.name, "", seed)
        self.lesson: Lesson | None = None
        self.placed = False  # the view was begun as the chapter wants it
        self.last = 0  # number of the chapter that was open last

    @property
    def place(self) -> str:
        """The view that the lesson stands in: the course's own, where nothing may be shown yet, and for a picture."""
        lesson = self.lesson
        if lesson is None or lesson.stage == PREDICT or LESSON_VIEWS[lesson.chapter.view].path:
            return HOME
        return lesson.chapter.view

    def standing(self, chapter: Chapter) -> Standing:
        return self.standings.get(chapter.number, Standing())

    def with_model(self, name: str) -> None:
        """Go on with another model, which has progress of its own; the chapter that is open says so."""
        if not name or name == self.model:
            return
        before, self.model = self.model, name
        self.standings = progress.read(self.home, self.course.name, name, self.seed)
        if self.lesson is not None:
            self.open(self.lesson.chapter)
            news = f"{name} reads now: its chapters are its own, and those with {before} are kept"
            self.lesson = replace(self.lesson, news=news if before else "")

    def open(self, chapter: Chapter) -> None:
        """Go on in a chapter where it was left."""
        self.lesson, self.placed, self.last = Lesson(chapter, self.standing(chapter)), False, chapter.number

    def close(self) -> None:
        """Leave the chapter."""
        self.lesson = None

    def beside(self, by: int) -> None:
        """To the next chapter, or the one before."""
        if self.lesson is not None:
            self.open(self.course.beside(self.lesson.chapter, by))

    def begin(self) -> dict[str, str] | None:
        """How the view begins, once for each time that a chapter is opened; None where it has begun."""
        if self.lesson is None or self.placed or self.lesson.stage == PREDICT:
            return None
        self.placed = True
        return dict(self.lesson.chapter.state)

    def take(self, lesson: Lesson) -> str:
        """Go on with this; gives a line where it could not be kept."""
        self.lesson = lesson
        if self.standing(lesson.chapter) == lesson.standing:
            return ""
        self.standings[lesson.chapter.number] = lesson.standing
        try:
            progress.keep(self.home, self.course.name, self.model, self.seed, {lesson.chapter.number: lesson.standing})
        except (DataError, OSError) as error:
            return f"your progress is not kept: {error}"
        return ""

    @property
    def working(self) -> bool:
        """Whether the view has the keys, rather than the lesson."""
        return self.lesson is not None and self.lesson.stage == DO
