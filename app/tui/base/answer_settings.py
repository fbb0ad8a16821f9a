"""Settings of answers: the sliders, how tokens are found, what form an answer has, how many are drawn, by which seed,
of how many tokens, thought out or not.

One parser of what a person writes, for a line of the prompt and for a row of the panel, by the words of the flags of
`likely run`; and the rows that stand over the sliders. Plain data; knows no widget.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from likely.app.store.sampling_text import ARROW, change, form_words, words
from likely.app.tui.base.sampling import Sampling, pairs
from likely.engine.base.errors import LikelyError, ParameterError
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.searches.beam import CONSTRAINED_PENALTY, FREE_PENALTY, Beam
from likely.engine.decode.strategy_table import PLAIN, parse, with_setting
from likely.engine.measure.answer_form import FORMS, AnswerForm
from likely.engine.sampling.presets import PARAMETERS
from likely.engine.sampling.trace.step import SamplingConfig

STRATEGY, ANSWERS, FORM, SEED = "strategy", "answers", "constraint", "seed"  # rows; `=name` is a setting of a strategy
LENGTH, THINK = "max", "think"
THINKS = {"on": True, "off": False, "as usual": None}
OFF = "off"  # the word that lifts a form or a seed
MOST = 256  # answers side by side
LONGER = 16  # tokens of a step
WHOLE = (STRATEGY, THINK, *FORMS)  # what takes the rest of a line


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """How the next answer is asked for. `seed` is its own, of chance where it is None; the ones after it count on.

    `max_tokens` is the most that it has, None for as many as there is room for; `thinking` says whether the chat
    template is told to think, None leaves it to that.
    """

    sampling: Sampling = field(default_factory=Sampling)
    strategy: Strategy = PLAIN
    form: AnswerForm | None = None
    answers: int = 1
    seed: int | None = None
    max_tokens: int | None = None
    thinking: bool | None = None

    @classmethod
    def of(cls, sampling: Sampling, asked: Mapping[str, str]) -> "AnswerSettings":
        """With the sliders, and what `asked` gave; what cannot be had any more, as a schema's file, is left out."""
        settings = cls(sampling)
        for name, text in asked.items():
            with suppress(LikelyError):
                settings = settings.read(name, text)
        return settings

    @property
    def asked(self) -> dict[str, str]:
        """All but the sliders, as it is typed by name; what is not set is left out."""
        form = {} if self.form is None else {self.form.kind: self.form.text}
        names = [name for name in (STRATEGY, ANSWERS, SEED, LENGTH, THINK) if self.off(name) != self]
        return form | {name: self.text(name) for name in names}

    @property
    def found_by(self) -> Strategy:
        """The strategy for so many answers: of a search the best. ParameterError where it cannot give them."""
        if self.answers == 1:
            return self.strategy
        if self.strategy.SEARCHES:
            return self.strategy.best(self.answers)
        self.strategy.check(self.answers)
        return self.strategy

    @property
    def side_by_side(self) -> int:
        """How many answers are drawn at once; a search gives its several by itself."""
        return 1 if self.strategy.SEARCHES else self.answers

    @property
    def recipe(self) -> SamplingConfig:
        """The sliders as the strategy takes them: a search draws nothing, and of them only bans and biases act."""
        return (self.sampling.unshaped() if self.strategy.SEARCHES else self.sampling).recipe

    def label(self, adapters: str = "") -> str:
        """How an answer is drawn, in words, where the recipe of its tokens does not say it."""
        strategy, recipe, form = self.found_by, self.recipe, self.form
        search = str(strategy) if strategy.SEARCHES or strategy.FORKS else ""
        drawn = "" if strategy.SEARCHES and not recipe.transforms else words(recipe)
        bound = "" if form is None else form_words(form.kind, form.text)
        return " · ".join(filter(None, (search, bound, drawn, adapters))) if search or bound or adapters else ""

    def picked(self, by_hand: bool = True) -> "AnswerSettings":
        """Those of a person who picks every token: one by one, of one answer; others as they are."""
        return replace(self, strategy=PLAIN, answers=1) if by_hand else self

    # -- values ------------------------------------------------------------------------------------------------------

    def typed(self, text: str) -> "AnswerSettings":
        """With what a person typed, all of it or nothing: `temp 1.2 answers 4`, `regex [0-9]{4}`, a temperature alone.

        Raises ParameterError for an unknown name and for a value that cannot be, DataError for no file.
        """
        values = pairs(text, WHOLE)
        sliders = {name: value for name, value in values.items() if name not in (*WHOLE, ANSWERS, SEED, LENGTH)}
        changed = replace(self, sampling=self.sampling.with_read(sliders))
        for name in (name for name in values if name not in sliders):
            changed = changed._with(name, values[name])
        return changed.checked()

    def read(self, name: str, text: str) -> "AnswerSettings":
        """With the value of one row, or of a kind of form, as a person writes it; raises as `typed`."""
        if name in PARAMETERS:
            return replace(self, sampling=self.sampling.with_read({name: text})).checked()
        return self._with(name, text).checked()

    def _with(self, name: str, text: str) -> "AnswerSettings":
        if name == STRATEGY:
            return replace(self, strategy=parse(text, constrained=self.form is not None))
        if name == ANSWERS:
            return replace(self, answers=_whole(name, text, 1, MOST))
        if name == SEED:
            return replace(self, seed=None if text.strip() == OFF else _whole(name, text, 0, 2**31 - 1))
        if name == LENGTH:
            return replace(self, max_tokens=None if text.strip() == OFF else _whole(name, text, 0, 2**31 - 1) or None)
        if name == THINK:
            if text.strip() not in THINKS:
                raise ParameterError(f"think takes {', '.join(THINKS)}, got {text.strip() or 'nothing'}")
            return replace(self, thinking=THINKS[text.strip()])
        if name in FORMS:
            if not text.strip():
                raise ParameterError(f"{name} wants {FORMS[name]}, or {OFF}; got nothing")
            return self._formed(None if text.strip() == OFF else AnswerForm.read(name, text.strip()))
        return replace(self, strategy=with_setting(self.strategy, name.removeprefix("="), text))

    def _formed(self, form: AnswerForm | None) -> "AnswerSettings":
        """With another form, or none; beams whose length penalty nobody has said have the one that goes with it."""
        strategy = self.strategy
        if isinstance(strategy, Beam) and (self.form is None) != (form is None):
            penalties = (FREE_PENALTY, CONSTRAINED_PENALTY)
            was, usual = penalties if form is not None else penalties[::-1]
            strategy = replace(strategy, penalty=usual) if strategy.penalty == was else strategy
        return replace(self, strategy=strategy, form=form)

    def checked(self) -> "AnswerSettings":
        """Itself. ParameterError where its parts do not go together."""
        assert self.found_by
        if self.form is not None and not self.strategy.RANKS:
            self.form.check(self.sampling.recipe)
        return self

    def stepped(self, name: str, by: int) -> "AnswerSettings":
        """With a row moved by so many steps; what has no steps stays."""
        if name in PARAMETERS:
            return replace(self, sampling=self.sampling.stepped(name, by)).checked()
        if name == ANSWERS:
            return replace(self, answers=min(max(self.answers + by, 1), MOST)).checked()
        if name == SEED:
            seed = by - 1 if self.seed is None else self.seed + by
            return replace(self, seed=seed if seed >= 0 else None)
        if name == LENGTH:
            most = (self.max_tokens or 0) + by * LONGER
            return replace(self, max_tokens=most if most > 0 else None)
        if name == THINK:
            known = [None, False, True]
            return replace(self, thinking=known[min(max(known.index(self.thinking) + by, 0), 2)])
        value = getattr(self.strategy, name.removeprefix("="), None)
        if not isinstance(value, int | float):
            return self
        return self.read(name, str(value + by) if isinstance(value, int) else f"{value + by / 10:g}")

    def off(self, name: str) -> "AnswerSettings":
        """With a row switched off."""
        if name in PARAMETERS:
            p = PARAMETERS[name]
            return replace(self, sampling=self.sampling.with_value(name, p.default if p.off is None else p.off))
        if name.startswith("#"):
            return replace(self, sampling=self.sampling.lift(int(name[1:])))
        none = {
            ANSWERS: replace(self, answers=1), SEED: replace(self, seed=None), FORM: self._formed(None),
            LENGTH: replace(self, max_tokens=None), THINK: replace(self, thinking=None),
        }  # fmt: skip
        return none.get(name) or replace(self, strategy=PLAIN)

    # -- rows --------------------------------------------------------------------------------------------------------

    def rows(self, *, whole: bool) -> list[str]:
        """The rows over the sliders that are set, or all of them."""
        found = [] if self.strategy == PLAIN and not whole else [STRATEGY]
        found += [f"={f.name}" for f in self.strategy.settings() if getattr(self.strategy, f.name) is not None]
        found += [ANSWERS] * (self.answers > 1 or whole) + [FORM] * (self.form is not None or whole)
        found += [LENGTH] * (self.max_tokens is not None) + [THINK] * (self.thinking is not None)
        return [*found, *[SEED] * whole]

    def text(self, name: str) -> str:
        """The value of a row as it is typed."""
        if name == STRATEGY:
            return "plain" if self.strategy == PLAIN else str(self.strategy)
        if name == FORM:
            return self.form.text if self.form is not None else OFF
        if name == SEED:
            return OFF if self.seed is None else str(self.seed)
        if name == LENGTH:
            return OFF if self.max_tokens is None else str(self.max_tokens)
        if name == THINK:
            return next(word for word, thinking in THINKS.items() if thinking is self.thinking)
        value = self.answers if name == ANSWERS else getattr(self.strategy, name.removeprefix("="))
        return f"{value:g}" if isinstance(value, float) else str(value)

    def shown(self, name: str) -> tuple[str, str]:
        """The label of a row, and its value in words."""
        if name == FORM and self.form is not None:
            return self.form.kind, self.form.text
        plain = {STRATEGY: PLAIN.TITLE, FORM: "none", SEED: "by chance", LENGTH: "as many as fit"}
        text, label = self.text(name), "max tokens" if name == LENGTH else name.removeprefix("=").replace("_", " ")
        return label, plain.get(name, text) if text in ("plain", OFF) else text

    def share(self, name: str) -> float | None:
        """How far a row's value is along its slider, 0 to 1; None where it has none."""
        span, value = self._span(name), getattr(self.strategy, name.removeprefix("="), self.answers)
        return None if span is None or not isinstance(value, int | float) else (value - span[0]) / (span[1] - span[0])

    def dragged(self, name: str, share: float) -> "AnswerSettings":
        """With a row's value `share` of the way along its slider; it is whole where it was."""
        if name in PARAMETERS:
            p = PARAMETERS[name]
            value = p.low + round(share * (p.high - p.low) / p.step) * p.step
            return replace(self, sampling=self.sampling.with_value(name, round(value, 6))).checked()
        span = self._span(name)
        if span is None:
            return self
        value = span[0] + share * (span[1] - span[0])
        return self.read(name, f"{round(value, 1):g}" if "." in self.text(name) else str(round(value)))

    def _span(self, name: str) -> tuple[float, float] | None:
        return (1, 16) if name == ANSWERS else self.strategy.SPANS.get(name.removeprefix("="))

    def named(self, name: str) -> str:
        """The question to a person who types the value of a row, or a form of a kind."""
        if name in PARAMETERS:
            p = PARAMETERS[name]
            return f"{p.label}, the slider from {p.low:g} to {p.high:g} · {p.help}"
        if name == STRATEGY:
            return f"how tokens are found: {self.strategy.form()}"
        if name in FORMS:
            return f"{name} {FORMS[name]}, or {OFF} · {ABOUT[name]}"
        return ABOUT.get(name) or f"{name[1:]} of {self.strategy.form()}"


TAKES = {**FORMS, ANSWERS: "N", SEED: "N"}
ABOUT = {
    "regex": "the answer matches all of it",
    "json-schema": "JSON by a schema: a file, or written here",
    "choice": "the answer is one of these",
    ANSWERS: f"answers side by side, 1 to {MOST}",
    SEED: f"seed of the next answer, or {OFF}; then it counts on",
    LENGTH: f"most tokens of an answer, or {OFF}",
    THINK: f"whether the model is told to think: {', '.join(THINKS)}",
}


def _whole(name: str, text: str, least: int, most: int) -> int:
    """A whole number as a person writes it. ParameterError for another."""
    if not text.strip().isdecimal() or not least <= int(text) <= most:
        raise ParameterError(f"{name} must be a whole number from {least} to {most:,}, got {text.strip() or 'nothing'}")
    return int(text)


def moved(before: AnswerSettings, after: AnswerSettings) -> Iterator[str]:
    """The differences from one to the next, a phrase each: `T 0.80 → 1.20`."""
    if before.sampling != after.sampling:
        yield change(before.sampling.recipe, after.sampling.recipe) or "another order"
    for name in (STRATEGY, ANSWERS, FORM, SEED, LENGTH, THINK):
        (label, was), (other, now) = before.shown(name), after.shown(name)
        if (label, was) != (other, now):
            yield f"{label if other == FORM else other} {was}{ARROW}{now}"
