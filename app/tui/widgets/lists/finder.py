"""A list of places in a conversation that narrows as a person types."""

from collections.abc import Callable, Sequence

from rich.text import Text

from likely.app.tui.base.text import cells
from likely.app.tui.chat.inspecting.places import MOST, SearchHit
from likely.app.tui.widgets.lists.filter_list import Narrowing

WHO = {"user": "you    ", "assistant": "model  ", "text": ""}


class Finder(Narrowing[SearchHit]):
    """Gives the place that was picked; what lies on the branch in sight comes first."""

    def __init__(
        self, title: str, placeholder: str, search: Callable[[str], Sequence[SearchHit]], query: str = ""
    ) -> None:
        super().__init__(title, placeholder, query)
        self._search = search

    def search(self, query: str) -> Sequence[SearchHit]:
        return self._search(query)

    def count(self, hits: Sequence[SearchHit]) -> str:
        return f"{len(hits)}{' or more' if len(hits) == MOST else ''} found"

    def line(self, hit: SearchHit, width: int) -> Text:
        """The words around a place on one line, the place itself in bold."""
        who = WHO.get(hit.who, f"{hit.who:<6} ")
        tail = "" if hit.here else "  other branch"
        room = width - cells.width(who + tail) - 1
        words = _flat(hit.words)
        before = cells.fit(_flat(hit.before).lstrip()[::-1], max((room - cells.width(words)) // 2, 0), "")[::-1]
        after = cells.fit(_flat(hit.after), max(room - cells.width(before + words), 0))
        line = Text(who, style="dim", no_wrap=True)
        line.append(before)
        line.append(words, style="bold underline")
        line.append(after)
        line.append(tail, style="dim")
        return line


def _flat(text: str) -> str:
    return cells.clean(text.replace("\n", " "))
