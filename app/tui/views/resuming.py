"""Resumption of the conversation that the program was asked for."""

from typing import TYPE_CHECKING

from likely.engine.errors import DataError

if TYPE_CHECKING:
    from likely.app.tui.widgets.host import ViewHost
    from likely.engine.conversation import Conversation


def resumed(host: "ViewHost") -> "Conversation | None":
    """The conversation; None where none was asked for, or where it cannot be read, which the host says then."""
    if not host.resume or host.store is None:
        return None
    try:
        return host.store.load(host.resume)
    except DataError as error:
        host.store_news = str(error)
        return None
