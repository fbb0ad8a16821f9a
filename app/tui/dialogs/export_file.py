"""An export to a file, from any view: nothing that is there already is replaced before a person has chosen so.

Knows nothing of what is written.
"""

from collections.abc import Callable
from pathlib import Path

from textual.app import App

from likely.app.store import export
from likely.app.tui.widgets.bars import Hints
from likely.app.tui.widgets.lists.overlays import Ask, Pick
from likely.engine.base.errors import DataError
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import refuse_pipe


def export_file(app: App[object], path: Path, write: Callable[[Path], None]) -> None:
    """Write a file, after asking where one is there already. Raises DataError for a pipe and for what is no path."""
    refuse_pipe(path)
    try:
        other = export.free(path)
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise DataError(f"{path} was not written: {error.strerror}") from error
    if other == path:
        write(path)
        return
    options = [("both", f"keep both: write {other.name}"), ("over", f"replace {path.name}")]
    answers = {"both": other, "over": path}

    def chosen(choice: str | None) -> None:
        if choice is not None:
            write(answers[choice])

    app.push_screen(Pick(f"{path.absolute()} is there already", options), chosen)


def export_as(app: App[object], question: str, path: Path, write: Callable[[Path], None], hints: Hints) -> None:
    """Write a file that a person names, `path` where nothing else is typed, and say so, or why not. `write` raises
    DataError where it cannot."""

    def written(path: Path) -> None:
        try:
            write(path)
            hints.say(f"written: {path}")
        except DataError as error:
            hints.say(str(error), alarm=True)

    def named(text: str | None) -> None:
        if text is not None and text.strip():
            try:
                export_file(app, expanded(text.strip()), written)
            except DataError as error:
                hints.say(str(error), alarm=True)

    app.push_screen(Ask(question, str(path)), named)
