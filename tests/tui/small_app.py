"""An application with nothing in it but the look and the style sheet: what a dialog needs to be on a screen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen

import app.tui
from app.tui.theme import DARK, GLYPHS
from tests.tui.drawn import LOOK


class SmallApp(App[None]):
    """Holds what a screen gave when it went, one after another."""

    CSS_PATH = Path(app.tui.__file__).with_name("likely.tcss")
    look, glyphs = LOOK, GLYPHS

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.given: list[Any] = []


@asynccontextmanager
async def shown(screen: Screen[Any], size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[SmallApp, Pilot[None]]]:
    """A screen over nothing."""
    small = SmallApp()
    async with small.run_test(size=size) as pilot:
        small.push_screen(screen, small.given.append)
        await pilot.pause()
        yield small, pilot


def rows(small: SmallApp) -> list[str]:
    """What is on the screen, as text, without the rows that are blank."""
    strips = small.screen._compositor.render_strips()
    found = ["".join(segment.text for segment in strip).rstrip() for strip in strips]
    return [row for row in found if row.strip()]
