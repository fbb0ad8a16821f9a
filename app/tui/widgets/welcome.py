"""The welcome of an empty conversation: what the tints mean, and the few keys that lead to everything else."""

from collections.abc import Sequence

from rich.segment import Segment

from app import heat
from app.tui import keys
from app.tui.host import host
from app.tui.tokens import cells
from app.tui.widgets.canvas import Canvas, Line

FIRST = "Ask anything. The words that surprised the model are marked, from 2 bits on:"
# keys by their actions, and what they are for
WAYS = (
    ("tab", "then arrow keys: look at a token, and what else could have come"),
    ("token.alternatives", "on a token: another one instead, and on from there"),
    ("token.step", "in the answer: choose every token yourself"),
    ("chat.sampler", "sliders; they act in the middle of an answer too"),
    ("chat.sessions", "your conversations"),
    ("app.compare", "one prompt under several settings or models, side by side"),
    ("app.text", "any text, measured as you type"),
)


class Welcome(Canvas):
    """Stands in the transcript's place until something is said."""

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        lines: list[Line] = [[], [Segment(f" {cells.fit(FIRST, width - 2)}", look.text)], [], self._ramp(width), []]
        for action, words in WAYS:
            key = self._key(action)
            said = cells.fit(words, max(width - 10, 4))
            lines.append([Segment(f" {key:<7} ", look.accent), Segment(said, look.faint)])
        return lines[:height]

    def _ramp(self, width: int) -> Line:
        """The tints and the bits at which they begin."""
        steps = (Segment(f" {words} ", self.look.heat[level]) for words, level in heat.legend("surprisal"))
        return [Segment(" "), *steps, Segment(" bits", self.look.faint)]

    def _key(self, action: str) -> str:
        return keys.pretty(host(self).keys_of(action)) if "." in action else action
