"""An export to a file, from any view: nothing that is there already is replaced before a person has chosen so.

Knows nothing of what is written.
"""

from collections.abc import Callable
from pathlib import Path

from textual.app import App

from app import export
from app.tui.dialogs.overlays import Pick
from engine.whole_file import refuse_pipe


def export_file(app: App[None], path: Path, write: Callable[[Path], None]) -> None:
    """Write a file, after asking where one is there already. Raises DataError for a pipe."""
    refuse_pipe(path)
    if not path.exists():
        write(path)
        return
    other = export.free(path)
    options = [("both", f"keep both: write {other.name}"), ("over", f"replace {path.name}")]
    answers = {"both": other, "over": path}

    def chosen(choice: str | None) -> None:
        if choice is not None:
            write(answers[choice])

    app.push_screen(Pick(f"{path.absolute()} is there already", options), chosen)
