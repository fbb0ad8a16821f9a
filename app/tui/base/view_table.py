"""The table of full-screen views: a line each. Keys, tabs, palette, slash commands, goto keys and help derive from it.

Views of the first row have a tab and its key; those of the second are in the palette. A view's module is imported when
it is first shown.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from textual.binding import Binding
from textual.screen import Screen


@dataclass(frozen=True, slots=True)
class ViewEntry:
    """One full-screen view: the key that goes there from anywhere ("": the palette alone), its class, and what it is in
    words.

    `opens` is the kind of conversation that is shown there, `within` the view whose tab it shares; where that
    is itself, the tab is there while the view is.
    """

    key: str
    path: str  # "module:Class"
    title: str
    about: str
    opens: str = ""
    within: str = ""

    def load(self) -> type[Screen[Any]]:
        """The view's class, imported now."""
        module, _, name = self.path.partition(":")
        kind: type[Screen[Any]] = vars(import_module(module))[name]
        return kind


VIEWS: dict[str, ViewEntry] = {
    "chat": ViewEntry(
        "f2", "likely.app.tui.views.chatting.chat:ChatScreen", "chat", "the conversation, token by token", "chat"
    ),
    "compare": ViewEntry(
        "f3",
        "likely.app.tui.views.comparing.compare:CompareScreen",
        "compare",
        "the same prompt in several columns",
        "compare",
    ),
    "text": ViewEntry(
        "f4", "likely.app.tui.views.text:TextScreen", "text mode", "any text, without a chat template", "text"
    ),
    "tune": ViewEntry("f5", "likely.app.tui.views.tune:TuneScreen", "fine-tuning", "a training, watched as it goes"),
    "inside": ViewEntry(
        "f6", "likely.app.tui.views.inside:InsideScreen", "the inside", "layers, heads, embeddings, causes"
    ),
    "runs": ViewEntry(
        "f7", "likely.app.tui.views.runs:RunsScreen", "evaluations", "how good models are, and how sure that is"
    ),
    "ladders": ViewEntry(
        "",
        "likely.app.tui.views.ladders:SweepsScreen",
        "ladders",
        "scaling laws: what more compute would give",
        within="runs",
    ),
    "watch": ViewEntry(
        "",
        "likely.app.tui.views.watch:WatchScreen",
        "a server",
        "a server's requests as they run, with their tokens",
        within="chat",
    ),
    "learn": ViewEntry(
        "f10",
        "likely.app.tui.views.learn.screen:LearnScreen",
        "the course",
        "what a language model is, in twelve chapters",
        within="learn",
    ),
    "proofs": ViewEntry(
        "",
        "likely.app.tui.views.proofs:ProofsScreen",
        "proofs",
        "what is drawn, against laws whose every probability is listed",
        within="learn",
    ),
}


def view_bindings() -> list[Binding]:
    """The keys that go to each view that has one."""
    return [
        Binding(entry.key, f"go('{name}')", entry.title.capitalize(), priority=True, id=f"app.{name}")
        for name, entry in VIEWS.items()
        if entry.key
    ]


def by_digit() -> dict[str, str]:
    """The views that have a key of one digit, by it: F2 is 2."""
    return {entry.key[1:]: name for name, entry in VIEWS.items() if entry.key[1:] in [*"23456789"]}
