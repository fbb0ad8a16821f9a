"""`Course`: chapters in their order, of the program or of a teacher's folder. Each file of it is one chapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from likely.app.lessons import chapter as chapters
from likely.app.lessons.chapter import Chapter
from likely.engine.base.errors import DataError

SHIPPED = Path(__file__).parent / "chapters"
OWN = "likely"  # what the progress of the shipped course is kept under


@dataclass(frozen=True, slots=True)
class Course:
    """Chapters by their numbers, rising; `name` is what progress is kept under."""

    name: str
    chapters: Sequence[Chapter]

    def number(self, number: int) -> Chapter | None:
        """The chapter of a number."""
        return next((each for each in self.chapters if each.number == number), None)

    def beside(self, chapter: Chapter, by: int) -> Chapter:
        """The chapter so many after another one; the first or the last at the ends."""
        at = [each.number for each in self.chapters].index(chapter.number) + by
        return self.chapters[min(max(at, 0), len(self.chapters) - 1)]


def read(folder: Path | None = None) -> Course:
    """The course of a folder, or the program's own. DataError as `chapter.read`, for a folder without chapters, and for
    two chapters of one number."""
    where = SHIPPED if folder is None else folder
    if not where.is_dir():
        raise DataError(f"{where} is no folder: a course is a folder with a TOML file for each chapter")
    files = sorted(where.glob("*.toml"))
    if not files:
        raise DataError(f"{where} has no chapter: a course is a folder with a TOML file for each chapter")
    seen: dict[int, Path] = {}
    found = []
    for file in files:
        chapter = chapters.read(file)
        if chapter.number in seen:
            raise DataError(f"{file}: number {chapter.number} is {seen[chapter.number].name}'s too: give another one")
        seen[chapter.number] = file
        found.append(chapter)
    return Course(OWN if folder is None else str(where.resolve()), sorted(found, key=lambda each: each.number))
