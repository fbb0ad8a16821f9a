"""One column of a comparison: a way to draw, its answer, and what it came to."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Label

from app.tui import cells
from app.tui.sampling import words
from app.tui.talk import Talk, perplexity
from app.tui.widgets.token_view import TokenView


class Column(Vertical):
    """A `Talk` and the view of its answer."""

    def __init__(self, talk: Talk, model: str) -> None:
        super().__init__()
        self.talk = talk
        self.model = model  # a name to load; "" for the one that is current

    def compose(self) -> ComposeResult:
        yield Label("", classes="column-head", markup=False)
        yield TokenView()
        yield Label("", classes="column-foot", markup=False)

    @property
    def view(self) -> TokenView:
        return self.query_one(TokenView)

    @property
    def label(self) -> str:
        """What this column does differently, in words."""
        model = self.talk.facts.title if self.talk.facts is not None and self.model else self.model
        name = self.talk.sampling.preset_name or words(self.talk.sampling.recipe)
        order = f" · {self.talk.sampling.order_name} order" if self.talk.sampling.order_name != "mlx-lm" else ""
        return f"{name}{order}" + (f" · {model}" if model else "")

    def show(self, *, follow: bool | None = None) -> None:
        """Show the answer alone: the prompt is the same everywhere, and the foot says what the heading would."""
        blocks = self.talk.blocks()[1:]
        for block in blocks:
            block.note = ""
        self.view.show(blocks, follow=follow)

    def head(self) -> None:
        self.query_one(".column-head", Label).update(cells.fit(cells.clean(self.label), max(self.size.width - 3, 4)))

    def foot(self, first: bool, divergence: int | None) -> None:
        """Perplexity, tokens, speed, and where it first differs from the first column."""
        steps = self.talk.shown[-1].steps if self.talk.shown else []
        parts = []
        if divergence is not None and not first:
            parts.append(f"differs at {divergence + 1}")
        elif steps and not first:
            parts.append("the same so far" if self.talk.running else "the same")
        ppl = perplexity(steps)
        if ppl is not None:
            parts.append(f"ppl {ppl:.1f}")
        if steps:
            parts.append(f"{len(steps)} tok")
        spent = steps[-1].elapsed_s - steps[0].elapsed_s if len(steps) > 1 else 0.0
        if spent > 0:
            parts.append(f"{(len(steps) - 1) / spent:.0f} tok/s")
        self.query_one(".column-foot", Label).update(cells.fit(" · ".join(parts), max(self.size.width - 3, 4)))
