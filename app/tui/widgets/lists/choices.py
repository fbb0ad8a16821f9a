"""List of options to pick from. What was picked is the option itself: its index is another one's when a list was filled
anew before anybody heard of it. Knows nothing of what is listed.
"""

from typing import Generic, TypeVar

from rich.text import Text
from textual.widgets import OptionList
from textual.widgets.option_list import Option

T = TypeVar("T")


class ChoiceOption(Option, Generic[T]):
    """A line, and what it stands for."""

    def __init__(self, line: Text, value: T) -> None:
        super().__init__(line)
        self.value = value


class ChoiceList(OptionList):
    """An option list that has pages only once it has room: Textual's looks for a line that was not laid out yet."""

    def action_page_up(self) -> None:
        if self.scrollable_content_region:
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        if self.scrollable_content_region:
            super().action_page_down()  # type: ignore[no-untyped-call]
