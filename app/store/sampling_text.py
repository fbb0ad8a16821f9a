"""Recipes in words: what tokens are drawn by, and what changed from one to the next. Knows no file and no screen."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby

from likely.engine.sampling import presets
from likely.engine.sampling.presets import PARAMETERS
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import ChoiceDistribution, ChoiceMask, Constraint, LogitBias, Parameter

BAN = -100.0
ARROW = " → "
_SHORT = {"temp": "T", "repetition_penalty": "rep", "xtc_probability": "XTC", "dry_multiplier": "DRY"}
_FORMS = {p.name: f"{_SHORT.get(p.name, p.label)} {{}}" for p in PARAMETERS.values()}
_FORM = "form"  # of the answer, where it was bound to one
_COUNTS = {"banned": "{} banned", "biased": "{} biased"}
_SWITCHES = tuple(p.name for p in PARAMETERS.values() if p.off is not None)


def drawn_by(steps: Iterable[TokenStep]) -> list[SamplingConfig]:
    """The recipes by which tokens were drawn, each that followed another."""
    return [recipe for recipe, _ in groupby(step.recipe for step in steps if step.origin != "given")]


def words(*recipes: SamplingConfig) -> str:
    """Recipes that held one after another in a few words: `T 0.80 → 0.40 · top-p 0.75`."""
    if recipes and all(recipe.greedy for recipe in recipes):
        counted = (phrase for phrase, _ in _phrases(recipes, (_FORM, *_COUNTS)))
        return " · ".join(("greedy", *counted))
    return " · ".join(phrase for phrase, _ in _phrases(recipes, (_FORM, *_SWITCHES, *_COUNTS))) or "T 1.00"


def adapters(recipe: SamplingConfig) -> str:
    """The adapters that were on the model, with their weights: `style 1 + calm 0.5`; "" for none."""
    named = (adapter.rpartition(" ")[0].rpartition("=") for adapter in recipe.adapters)  # without the hash
    return " + ".join(f"{name} {weight}" for name, _, weight in named)


def change(before: SamplingConfig, after: SamplingConfig) -> str:
    """The differences from one recipe to the next, in words: `T 0.80 → 0.40`; "" where they draw alike."""
    if before == after:
        return ""
    changes = [words for words, moved in _phrases((before, after), (*PARAMETERS, *_COUNTS)) if moved]
    if before.adapters != after.adapters:
        names = (", ".join(adapter.partition(" ")[0] for adapter in it.adapters) or "none" for it in (before, after))
        changes.append(f"adapters {ARROW.join(names)}")
    return " · ".join(changes) or "other biases or another order"


def bound_as(recipe: SamplingConfig, drawn: SamplingConfig) -> SamplingConfig:
    """A recipe in an answer of the form to which another one was bound. Choices are drawn as wholes: it changes
    nothing of those."""
    forms = tuple(t for t in drawn.transforms if isinstance(t, Constraint | ChoiceMask | ChoiceDistribution))
    if any(isinstance(form, ChoiceMask) for form in forms):
        return replace(drawn, adapters=recipe.adapters)
    return replace(recipe, transforms=(*forms, *recipe.transforms)) if forms else recipe


def form_words(kind: str, text: str) -> str:
    """The form of an answer in a few words; `text` is a regular expression."""
    return f"regex {text}" if kind == "regex" else "one of a list" if kind == "choice" else "JSON by a schema"


def shown(parameter: Parameter, value: float) -> str:
    """The text of a parameter's value beside its slider."""
    if parameter.off is not None and value == parameter.off and parameter.name != "temp":
        return "off"
    if parameter.name == "temp" and value == 0:
        return "greedy"
    return f"{value:.0f}" if parameter.whole else f"{value:.2f}"


def _phrases(recipes: tuple[SamplingConfig, ...], names: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """For each name that some recipe sets: its values in turn, as words, and whether they change."""
    values = [_values(recipe) for recipe in recipes]
    for name in names:
        p = PARAMETERS.get(name)
        rest = "0" if p is None else shown(p, p.default if p.off is None else p.off)
        steps = [value for value, _ in groupby(row.get(name, "") for row in values) if value]
        if steps and steps != [rest]:
            way = steps if len(steps) <= 3 else [steps[0], "…", steps[-1]]  # a slider that was walked by its steps
            yield (_COUNTS | _FORMS | {_FORM: "{}"})[name].format(ARROW.join(way)), len(steps) > 1


def _values(recipe: SamplingConfig) -> dict[str, str]:
    """The values of a recipe as text by name; of a greedy one only its bans and biases, which still act."""
    bias: dict[int, float] = {}
    form = "0"
    for transform in recipe.transforms:
        bias |= dict(transform.bias) if isinstance(transform, LogitBias) else {}
        if isinstance(transform, Constraint):
            form = form_words(transform.kind, transform.grammar)
        elif isinstance(transform, ChoiceMask):
            form = form_words("choice", "")
    banned = sum(value <= BAN for value in bias.values())
    counts = {"banned": str(banned), "biased": str(len(bias) - banned), _FORM: form}
    if recipe.greedy:
        return {"temp": "greedy", **counts}
    settings = presets.values(recipe)
    return {**{name: shown(p, settings[name]) for name, p in PARAMETERS.items()}, **counts}
