"""An answer as rendered Markdown, in strips that the transcript shows in place of the tokens."""

from typing import Any

from textual.app import App
from textual.strip import Strip

from app.tui.tokens.cells import clean


def strips(app: App[Any], text: str, width: int) -> list[Strip]:
    """Markdown at a width; code blocks are highlighted. Imported and built only when a person asks."""
    from rich.markdown import Markdown

    dark = app.current_theme.dark
    rendered = Markdown(clean(text.strip()), code_theme="monokai" if dark else "friendly", hyperlinks=False)
    options = app.console.options.update(width=width, height=None, highlight=False)
    return [Strip(line) for line in app.console.render_lines(rendered, options, pad=False)]
