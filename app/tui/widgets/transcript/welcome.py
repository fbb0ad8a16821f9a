"""The welcome of an empty conversation: what the tints mean, and the few keys that lead to everything else."""

from collections.abc import Sequence
from textwrap import wrap

from rich.segment import Segment
from rich.style import Style

from likely.app.tui.base import keys
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.widgets.host import host
from likely.app.words import heat

FIRST = "Ask anything. The words that surprised the model are marked, from 2 bits on:"
# keys by their actions, and what they are for
WAYS = (
    ("app.learn", "what a language model is, in twelve chapters: guess, see, reckon"),
    ("tab", "then arrow keys: look at a token, and what else could have come"),
    ("token.alternatives", "on a token: another one instead, and on from there"),
    ("token.step", "in the answer: choose every token yourself"),
    ("chat.sampler", "sliders; they act in the middle of an answer too"),
    ("chat.sessions", "your conversations"),
    ("app.compare", "one prompt under several settings or models, side by side"),
    ("app.text", "any text, measured as you type"),
)


EXAMPLES = (
    "Why is the sky blue? Answer in three sentences.",
    "Write a haiku about rain on a tin roof.",
    "Continue this list: red, orange, yellow,",
)


class Welcome(LineWidget):
    """Shown instead of the transcript while the conversation is empty; one of its examples is highlighted."""

    picked = 0

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        lines: list[Line] = [[]]
        lines += [[Segment(f" {row}", look.text)] for row in wrap(FIRST, max(width - 2, 8))]
        lines += [[], self._ramp(width), []]
        for index, words in enumerate(EXAMPLES):
            key, ink = ("⏎", look.text) if index == self.picked else ("", look.faint)
            lines += self._item(key, words, width, ink)
        lines += [*self._item("↓", "another example; or write your own", width, look.faint), []]
        for action, words in WAYS:
            lines += self._item(self._key(action), words, width, look.faint)
        return lines[:height]

    def _item(self, key: str, words: str, width: int, ink: Style) -> list[Line]:
        """A key and what it is for, in as many rows as that takes."""
        rows = wrap(words, max(width - 10, 8))
        heads = [key, *[""] * (len(rows) - 1)]
        pairs = zip(heads, rows, strict=True)
        return [[Segment(f" {head:<7} ", self.look.accent), Segment(row, ink)] for head, row in pairs]

    def turn(self) -> None:
        """Pick the next example."""
        self.picked = (self.picked + 1) % len(EXAMPLES)
        self.redraw()

    def _ramp(self, width: int) -> Line:
        """The tints and the bits at which they begin."""
        steps = (Segment(f" {words} ", self.look.heat[level]) for words, level in heat.legend("surprisal"))
        return [Segment(" "), *steps, Segment(" bits", self.look.faint)]

    def _key(self, action: str) -> str:
        return keys.pretty(host(self).keys_of(action)) if "." in action else action
