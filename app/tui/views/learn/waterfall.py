"""`WaterfallPicture`: what each token of a text costs, from where the sum stood; a person's guesses beside the model's.

Of one text every token is priced. Another is shown token by token: the next one is hidden until a person has said, in
per cents, what it might be. What was left of them is spread evenly over all tokens that were not named.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from textual.binding import Binding, BindingType

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.lessons.expression import Value
from likely.app.lessons.guessed_distribution import EXAMPLE, GuessedDistribution, read
from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.theme import bar
from likely.app.tui.chat.inspecting.formulas import of_text
from likely.app.tui.chat.inspecting.word_surprisals import figures, running_sum
from likely.app.tui.views.learn.picture import LessonPicture
from likely.app.tui.widgets.lists.overlays import Ask
from likely.engine.base.arrays import softmax
from likely.engine.base.errors import ParameterError
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import TokenStep

BEGUN = 3  # tokens of the guessed text that are shown from the first
LAST = 6  # guesses that are drawn
FAVOURITES = 8  # of the model, that may be shown beside what was named
NAME, NUMBER = 11, 9  # cells
TALL = 30  # rows from which on both halves are seen


@dataclass(frozen=True, slots=True)
class GuessedToken:
    """A token that was hidden, the law that a person had for it, and the model's: of the truth, of what was named and
    of its favourites, likeliest first."""

    token: int
    yours: GuessedDistribution
    its: Mapping[int, float]

    @property
    def your_bits(self) -> float:
        return self.yours.bits(self.token)

    @property
    def its_bits(self) -> float:
        share = self.its[self.token]
        return -math.log2(share) if share else math.inf


class WaterfallPicture(LessonPicture):
    """The sum of a text's bits, a law beside another at a hidden token, and both surprisals of the last ones."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "guess", "Guess", id="waterfall.guess", tooltip="what the hidden word is, in per cents"),
        Binding("t", "text", "Text", id="waterfall.text", tooltip="the price of another text"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("g", "Guess"), ("t", "Text"))

    def __init__(self) -> None:
        super().__init__()
        self.text = self.other = self.failure = ""
        self.steps: Sequence[TokenStep] = ()
        self.hidden: Sequence[TokenStep] = ()  # of the text that is guessed, those that were guessed among them
        self.law: np.ndarray | None = None  # p [V] of the token to be guessed
        self.guesses: list[GuessedToken] = []
        self.turn = 0  # of what was asked for: answers to what is asked no more are not heard
        self.guessing = False  # it is the guesses that are seen, where not both halves can be

    # -- what it is of -----------------------------------------------------------------------------------------------

    def set_state(self, state: Mapping[str, str]) -> None:
        self.text, self.other = state.get("text", ""), state.get("guess", "")
        self.models_changed()

    def models_changed(self) -> None:
        """Begin anew: nothing of another model holds."""
        self.turn += 1
        self.steps, self.hidden, self.failure, self.guessing = (), (), "", False
        self._price(self.text)
        if self.other:
            self._ask(calls.score, Prompt(parts=(self.other,)), self._begin)

    def _price(self, text: str) -> None:
        """Have a text measured."""

        def priced(event: Any) -> None:
            if isinstance(event, r.Scored):
                self.text, self.steps, self.failure = text, event.steps, ""

        if text:
            self._ask(calls.score, Prompt(parts=(text,)), priced)

    def _begin(self, event: Any) -> None:
        """Hide the text that is guessed, but for its beginning."""
        if isinstance(event, r.Scored):
            self.hidden, self.guesses = event.steps, []
            self._next()

    @property
    def first(self) -> int:
        """The first token that is hidden."""
        return BEGUN + sum(step.special for step in self.hidden[:BEGUN])

    @property
    def at(self) -> int:
        """The token that is guessed next."""
        return self.first + len(self.guesses)

    def _next(self) -> None:
        """Have the model's law for the next hidden token."""

        def known(event: Any) -> None:
            if isinstance(event, np.ndarray):
                self.law = softmax(event.astype(np.float64))

        self.law = None
        if self.at < len(self.hidden):
            before = tuple(step.token for step in self.hidden[: self.at])
            self._ask(calls.logits, Prompt(parts=(before,), whole=True), known)

    def _ask(self, what: Any, prompt: Prompt, hear: Callable[[Any], None]) -> None:
        facts, turn = self.host.engine.current, self.turn

        def heard(job: int, events: list[Any]) -> None:
            if turn != self.turn or not self.is_attached:
                return
            for event in events:
                if isinstance(event, Failed):
                    self.failure = event.line
                    self.host.say(event.line, alarm=True)
                else:
                    hear(event)
            self.redraw()

        if facts is not None:
            self.host.engine.submit(call(what, facts.name, prompt), heard)
        self.redraw()

    def numbers(self) -> Mapping[str, Value]:
        if not self.steps:
            return {}
        numbers = figures(self.steps, self.text) | {"guesses": float(len(self.guesses))}
        if not self.guesses:
            return numbers
        yours, its = ([getattr(each, name) for each in self.guesses] for name in ("your_bits", "its_bits"))
        measured = {
            "your_bits": yours[-1], "its_bits": its[-1],
            "your_mean": math.fsum(yours) / len(yours), "its_mean": math.fsum(its) / len(its),
        }  # fmt: skip
        finite = {name: value for name, value in measured.items() if math.isfinite(value)}
        return numbers | {"word": self.names.name(self.guesses[-1].token)} | finite

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_text(self) -> None:
        """Price another text."""

        def typed(text: str | None) -> None:
            if text and text.strip():
                self.guessing = False
                self._price(text.rstrip())

        self.app.push_screen(Ask("the price of which text?", self.text), typed)

    def action_guess(self) -> None:
        """Have a person say what the hidden token is; at the end of the text, begin it again."""
        if self.hidden and self.at >= len(self.hidden):
            self.guesses = []
            self._next()
        elif self.law is None:
            self.host.say(self.failure or "it is being measured…")
        else:
            self._ask_for(self.law)

    def _ask_for(self, law: np.ndarray, said: str = "", wrong: str = "") -> None:
        question = f"{self._before(30)}: which word, in per cents?"

        def typed(text: str | None) -> None:
            if text is None or law is not self.law:
                return
            try:
                self._guessed(read(text, self._token_of, len(law)), law)
            except ParameterError as error:
                self._ask_for(law, text, cells.clean(str(error)))

        self.app.push_screen(Ask(f"{wrong}\n{question}" if wrong else question, said, EXAMPLE), typed)

    def _token_of(self, word: str) -> int | None:
        """The token of a word with the space before it, of a sign without."""
        found = self.names.words(word)
        return None if not found else found[0 if word[0].isalnum() else -1]

    def _guessed(self, yours: GuessedDistribution, law: np.ndarray) -> None:
        truth = self.hidden[self.at].token
        shown = {truth, *yours.shares, *np.argsort(-law, kind="stable")[:FAVOURITES].tolist()}
        its = {token: float(law[token]) for token in sorted(shown, key=lambda token: -law[token])}
        self.guesses.append(GuessedToken(truth, yours, its))
        self.guessing = True
        self._next()

    def formula(self) -> Formula | None:
        return of_text(self.steps)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, sheet: Canvas) -> None:
        if not self.steps:
            self.wait(sheet, 1)
            return
        tall = sheet.height >= TALL
        body = sheet.part(1, 1 if tall else 0, sheet.width - 2)
        below = 21 if tall else 0
        if tall or not self.guessing:
            rows = body.height - below - 3
            self._sum(body, max(rows, 3))
        if tall:
            self._guess(body.part(0, min(len(self._priced), rows) + 4))
        elif self.guessing:
            self._guess(body)

    @property
    def _priced(self) -> list[TokenStep]:
        return [step for step in self.steps if step.logprob is not None]

    def _sum(self, sheet: Canvas, rows: int) -> None:
        """Each token's bar begins where the sum stood; of a long text the last ones."""
        look, glyphs, steps = sheet.look, sheet.glyphs, self._priced
        sums = running_sum(steps)
        room, most = sheet.width - NAME - 2 * NUMBER + 2, max(sums[-1], 1e-9)
        left = max(len(steps) - rows, 0)
        about = "−log₂ p(x_i | x_<i), one after another" if not left else f"the last {rows} of {len(steps)} tokens"
        sheet.heading(0, "SUM", about)
        sheet.right(0, "bits", look.faint, end=sheet.width - NUMBER + 2)
        sheet.right(0, "sum", look.faint)
        for y, index in enumerate(range(left, len(steps)), 1):
            cost = sums[index + 1] - sums[index]
            sheet.put(0, y, self.names.name(steps[index].token), look.text, size=NAME - 1)
            _bar(sheet, NAME, y, room * sums[index] / most, room * sums[index + 1] / most)
            sheet.right(y, f"{cost:.2f}", look.text, end=sheet.width - NUMBER + 2)
            sheet.right(y, f"{sums[index + 1]:.1f}", look.faint)
        y = min(len(steps), rows) + 1
        sheet.put(NAME, y, f"└{glyphs.line * (room - 2)}┘", look.rule)
        sheet.right(y, f"{sums[-1]:.1f} bits", look.chosen)
        sheet.right(y + 1, f"p = 2^−{sums[-1]:.1f}", look.chosen)
        for value in plot.ticks(0, most, max(room // 10, 1)):
            sheet.put(NAME + int(value / most * (room - 1)), y + 1, f"{value:g}", look.faint)

    def _guess(self, sheet: Canvas) -> None:
        """The last guess beside the model's law, the surprisals of the last ones, and what is hidden now."""
        if not self.hidden:
            if self.other:
                self.wait(sheet, 0)
            return
        if not self.guesses:
            sheet.heading(0, "YOUR GUESS AND ITS", "the next word is hidden until you guess")
            self._hidden(sheet.part(0, 2))
            return
        tall = sheet.height > 16
        rows = sheet.height - (12 if tall else 6)
        y = self._table(sheet, self.guesses[-1], min(rows, FAVOURITES))
        if tall:
            y = self._surprisals(sheet.part(0, y + 1)) + y + 2
        self._hidden(sheet.part(0, y))

    def _hidden(self, sheet: Canvas) -> None:
        """The text as far as it was guessed."""
        look = sheet.look
        left = self.at < len(self.hidden)
        told = " what is next?  " if left else " begins again: that was all of  "
        text = self._before(sheet.width - cells.width(told) - 1)
        sheet.words(0, 0, ("g", look.accent), (told, look.faint), (text, look.text))
        if sheet.height > 1 and not self.guesses:
            sheet.put(0, 1, f"in per cents, as in {EXAMPLE}; what is left is spread evenly", look.faint)

    def _before(self, size: int, until: int | None = None) -> str:
        """The words before a hidden token, the one to be guessed next by default; their end where there is no room."""
        shown = self.hidden[: self.at if until is None else until]
        text = cells.clean("".join(step.text for step in shown if not step.special)).replace("\n", " ")
        words, room = text, size - 6
        while cells.width(words) > room:
            words = words[1:]
        return f"“{'…' if words != text else ''}{words}{' ___' * (len(shown) < len(self.hidden))}”"

    def _table(self, sheet: Canvas, guess: GuessedToken, most: int) -> int:
        """The rows of what was named, of the truth and of the model's favourites; gives the row after it."""
        look, glyphs = sheet.look, sheet.glyphs
        named = sorted(guess.yours.shares, key=lambda token: -guess.yours.shares[token])
        others = [token for token in guess.its if token not in guess.yours.shares and token != guess.token]
        tokens = list(dict.fromkeys((guess.token, *named, *others)))[:most]  # the truth whatever there is no room for
        tokens.sort(key=lambda token: (-guess.yours.p(token), -guess.its[token]))
        half = (sheet.width - NAME - 2) // 2
        sheet.heading(0, "YOUR GUESS AND ITS", f"for {self._before(sheet.width - 26, self.at - 1)}")
        sheet.put(2, 1, "next", look.faint)
        for column, head in enumerate(("you %", "model %")):
            sheet.right(1, head, look.faint, end=NAME + 2 + (column + 1) * half - 1)
        laws = [guess.yours.p(token) for token in tokens], [guess.its[token] for token in tokens]
        shares = [[*law, max(1 - math.fsum(law), 0.0)] for law in laws]
        rows: list[int | None] = [*tokens, None]
        for y, token in enumerate(rows, 2):
            here = token == guess.token
            ink = look.chosen if here else look.faint if token is None else look.text
            sheet.put(0, y, glyphs.chosen if here else " ", look.chosen)
            sheet.put(2, y, "all else" if token is None else self.names.name(token), ink, size=NAME - 1)
            for column, own in enumerate(shares):
                share, x = own[y - 2], NAME + 2 + column * half
                fill = look.chosen_bar if here else look.bar
                sheet.put(x, y, bar(share / max(own), half - NUMBER - 1, glyphs), fill)
                sheet.right(y, _per_cent(share), ink, end=x + half - 1)
        y = len(rows) + 2
        yours, rest = guess.yours, 100 * guess.yours.rest
        told = "What you did not name has 0 % of yours, and would have cost ∞ bits."
        if rest:
            many = yours.size - len(yours.shares)
            told = f"Your other {rest:.3g} % are spread over {many:,} tokens, {_per_cent(yours.each)} % each."
        sheet.put(0, y, cells.fit(told, sheet.width), look.faint)
        cost = f"you {_bits(guess.your_bits)} bits, the model {_bits(guess.its_bits)}"
        sheet.put(0, y + 1, f"{self.names.name(guess.token)}: {cost}", look.chosen)
        return y + 2

    def _surprisals(self, sheet: Canvas) -> int:
        """A column a guess: both surprisals; below, the means of all. Gives the row after it."""
        look, glyphs = sheet.look, sheet.glyphs
        last = self.guesses[-LAST:]
        sheet.words(
            0, 0, ("SURPRISAL", look.heading), ("  of your last guesses   ", look.faint),
            (glyphs.blocks[-1], look.chosen_bar), (" you   ", look.faint),
            (glyphs.blocks[-1], look.bar), (" model", look.faint),
        )  # fmt: skip
        size = sheet.width // LAST
        finite = [each for guess in last for each in (guess.your_bits, guess.its_bits) if math.isfinite(each)]
        most = max(finite, default=1.0) or 1.0
        for column, guess in enumerate(last):
            x = column * size
            sheet.put(x, 1, cells.fit(self.names.name(guess.token), size - 1), look.text)
            for y, cost, ink in ((2, guess.your_bits, look.chosen_bar), (3, guess.its_bits, look.bar)):
                sheet.put(x, y, bar(cost / most, size - 1, glyphs), ink)
            sheet.put(x, 4, f"{_bits(guess.your_bits)}  {_bits(guess.its_bits)}", look.text)
        n = len(self.guesses)
        yours, its = (math.fsum(getattr(each, name) for each in self.guesses) / n for name in ("your_bits", "its_bits"))
        sheet.put(0, 5, f"mean of {n}: {_bits(yours, 2)} you, {_bits(its, 2)} model", look.chosen)
        return 6


def _bar(sheet: Canvas, x: int, y: int, start: float, end: float) -> None:
    """A bar from one place to another, in cells behind x; its beginning is known to half a cell."""
    at, half = divmod(round(2 * start), 2)
    if half:
        sheet.put(x + at, y, sheet.glyphs.half, sheet.look.bar)
    size = max(end - at - half, 0.0 if half else 0.1)
    room = math.ceil(size)
    if room:
        sheet.put(x + at + half, y, bar(size / room, room, sheet.glyphs), sheet.look.bar)


def _per_cent(share: float) -> str:
    """A share in three digits."""
    value = 100 * share
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}" if value >= 1e-4 or not value else f"{value:.0e}"


def _bits(bits: float, digits: int = 1) -> str:
    return f"{bits:.{digits}f}" if math.isfinite(bits) else "∞"
