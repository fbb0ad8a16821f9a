"""Widgets drawn alone: no app, a look whose inks all differ."""

import pytest

from likely.app.tui.base.canvas import Canvas
from likely.app.tui.base.theme import GLYPHS
from tests.tui.widgets.drawing import LOOK, Pictures


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Pictures:
    found = Pictures()
    monkeypatch.setattr(Canvas, "look", LOOK)
    monkeypatch.setattr(Canvas, "glyphs", GLYPHS)
    monkeypatch.setattr(Canvas, "size", property(lambda self: self._size))
    monkeypatch.setattr(Canvas, "redraw", lambda self: found.redrawn.append(self))
    return found
