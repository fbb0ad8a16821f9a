"""The panel beside the transcript: candidates, entropy, sliders, tree. A sheet over it where the screen is narrow."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from app.tui.widgets.candidates import Candidates
from app.tui.widgets.canvas import CachedWidget
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.sampler import Sampler
from app.tui.widgets.tree import TreePane


class Hidden(Widget):
    """Only an arrangement of others, behind which nothing of it is seen: it gives no rows."""

    def render_lines(self, crop: Region) -> list[Strip]:
        return []


class Body(Horizontal, Hidden):
    """What stands between the top line and the prompt."""


class Left(Vertical, Hidden):
    """The transcript and what lies over it."""


class Inspector(Vertical, CachedWidget):
    """Only an arrangement; the screen feeds the parts."""

    def compose(self) -> ComposeResult:
        yield Candidates(id="candidates")
        yield EntropyRow(id="entropy")
        yield Sampler(id="sampler")
        yield TreePane(id="tree")
