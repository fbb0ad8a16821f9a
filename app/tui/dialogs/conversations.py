"""All conversations, over the screen: where it is too narrow for a sidebar."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from likely.app.store.store import Summary
from likely.app.tui.widgets.lists.conversations import ConversationList
from likely.app.tui.widgets.lists.dialog import Dialog


class ConversationsDialog(Dialog[str | None]):
    """Gives the id of the conversation to open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+o", "dismiss(None)", "Back")]

    def __init__(
        self, current: Callable[[], str], *, named: Callable[[str], None], removed: Callable[[], None]
    ) -> None:
        super().__init__()
        self.list = ConversationList(current, named=named, removed=removed)

    @property
    def summaries(self) -> list[Summary]:
        return self.list.summaries

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet wide"):
            yield self.list

    def on_mount(self) -> None:
        self.list.action_search()

    def on_conversation_list_conversation_picked(self, event: ConversationList.ConversationPicked) -> None:
        self.dismiss(event.session)

    def on_conversation_list_abandoned(self) -> None:
        self.dismiss(None)
