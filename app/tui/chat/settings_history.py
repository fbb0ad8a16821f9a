"""Settings of a chat's answers as they are now, and the changes that a person has made of them, the last to be undone.

Knows neither a conversation nor a run.
"""

from collections.abc import Callable
from dataclasses import replace

from likely.app.tui.base.answer_settings import AnswerSettings, moved


class SettingsHistory:
    """Settings of the next answer. A walk by steps along one row is one change, until an answer is drawn."""

    def __init__(self, now: AnswerSettings) -> None:
        self.now = now
        self._changes: list[tuple[AnswerSettings, AnswerSettings]] = []  # each before and after
        self._walking = False  # the last of them goes on with the next step

    def change(self, settings: AnswerSettings, *, walked: bool = False) -> None:
        """Other settings by a person, perhaps by one step of many."""
        before, self.now = self.now, settings
        if settings != before:
            if walked and self._walking and _rows(*self._changes[-1]) == _rows(before, settings):
                before, _ = self._changes.pop()
            self._changes.append((before, settings))
            self._walking = walked

    def seed(self, asked: AnswerSettings, chance: Callable[[], int]) -> int:
        """The seed of an answer that is drawn now, of `chance` where none is set; the one that is counts on, past all
        that are drawn with it."""
        self._walking = False
        if asked.seed is None:
            return chance()
        if asked.seed == self.now.seed:
            self.now = replace(self.now, seed=asked.seed + asked.found_by.width(asked.side_by_side))
        return asked.seed

    @property
    def last(self) -> str:
        """The change that would be undone, in words; "" where there is none."""
        return ", ".join(moved(*self._changes[-1])) if self._changes else ""

    def undo(self) -> str:
        """Take back the last change, and nothing that came since; gives what that moves, in words, "" for none."""
        if not self._changes:
            return ""
        (before, after), here = self._changes.pop(), self.now
        self._walking = False
        self.now = before if before.seed != after.seed else replace(before, seed=here.seed)
        return ", ".join(moved(here, self.now))


def _rows(before: AnswerSettings, after: AnswerSettings) -> list[str]:
    """The rows that a change moves, each by its first word."""
    return [words.partition(" ")[0] for words in moved(before, after)]
