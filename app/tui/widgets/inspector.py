"""The panel beside the transcript: candidates, entropy, sliders, tree. A sheet over it where the screen is narrow."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from app.tui.widgets.candidates import Candidates
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.sampler import Sampler
from app.tui.widgets.tree import TreePane


class Body(Horizontal):
    """What stands between the top line and the prompt; it paints nothing of its own."""

    BLANK = True


class Left(Vertical):
    """The transcript and what lies over it; it paints nothing of its own."""

    BLANK = True


class Inspector(Vertical):
    """Only an arrangement; the screen feeds the parts."""

    def compose(self) -> ComposeResult:
        yield Candidates(id="candidates")
        yield EntropyRow(id="entropy")
        yield Sampler(id="sampler")
        yield TreePane(id="tree")
