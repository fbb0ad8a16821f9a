"""What tests of other views still take from here."""

from typing import Any

from textual.app import App, ComposeResult
from textual.message import Message

from likely.app.tui.base.block import MessageBlock, ShownToken
from likely.app.tui.base.theme import GLYPHS
from likely.app.tui.widgets.rows import TranscriptRows
from likely.app.tui.widgets.token_view import TokenView
from tests.tui.drawn import LOOK


class ViewApp(App[None]):
    """A view and nothing else."""

    CSS = """TokenView {
        height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable; scrollbar-size-vertical: 1;
    }"""
    look, glyphs = LOOK, GLYPHS

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Message] = []

    def compose(self) -> ComposeResult:
        yield TokenView(id="view")

    def on_transcript_rows_follow_changed(self, event: TranscriptRows.FollowChanged) -> None:
        self.heard.append(event)

    def on_token_view_cursor_moved(self, event: TokenView.CursorMoved) -> None:
        self.heard.append(event)

    def on_token_view_chosen(self, event: TokenView.Chosen) -> None:
        self.heard.append(event)

    def on_token_view_fold_toggled(self, event: TokenView.FoldToggled) -> None:
        self.heard.append(event)


def block(key: str, *tokens: str | ShownToken, who: str = "model", **more: Any) -> MessageBlock:
    made = MessageBlock(key, who, scored=True, **more)
    made.fill([ShownToken(token) if isinstance(token, str) else token for token in tokens])
    return made


def question() -> MessageBlock:
    return block("q", "Why", " is", " it", "?", who="you")


def lines(count: int, start: int = 0) -> list[str]:
    return [part for i in range(start, start + count) for part in (f"line{i}", " more", "\n")]
