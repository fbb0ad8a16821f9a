"""Registry of the strategies, and the one parser of their text form. No mlx."""

from dataclasses import MISSING, Field, replace
from importlib import import_module
from typing import Any, get_args

from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.strategy import OVER, Strategy
from likely.engine.decode.sampled.sample import Sample

STRATEGIES = {  # by its name the class of each, imported where it is asked for: a plain answer waits for no other
    name: f"likely.engine.decode.{place}"
    for name, place in {
        "sample": "sampled.sample.Sample",
        "ngram": "drafts.prompt_lookup.NGram",
        "draft": "drafts.prompt_lookup.Drafting",
        "beam": "searches.beam.Beam",
        "gnmt": "searches.beam.GNMT",
        "hf-beam": "searches.beam.HuggingFaceBeam",
        "diverse": "searches.beam.DiverseBeam",
        "stochastic": "searches.stochastic_beam.StochasticBeam",
        "exact": "searches.exact.ExactMode",
        "power": "searches.power.Power",
        "vote": "sampled.several.Vote",
        "entropy": "sampled.entropy_branching.EntropyBranching",
        "budget": "sampled.budget.Budget",
        "contrast": "drafts.combine.Contrast",
        "dola": "drafts.combine.Layers",
        "guidance": "drafts.combine.Guidance",
    }.items()
}
PLAIN = Sample()


def _kind(name: str) -> type[Strategy]:
    module, _, of = STRATEGIES[name].rpartition(".")
    found: type[Strategy] = getattr(import_module(module), of)
    return found


def parse(text: str, *, constrained: bool = False) -> Strategy:
    """The strategy of a text form such as `ngram 4`; none said, or `plain`, is `sample`. ParameterError for others.

    Where answers are `constrained`, beams that are told no length penalty have `beam.CONSTRAINED_PENALTY`.
    """
    whole, over, inner = text.partition(OVER)
    if over:
        from likely.engine.decode.drafts.combine import Combination

        combination = parse(whole)
        if not isinstance(combination, Combination):
            names = " or ".join(name for name in STRATEGIES if issubclass(_kind(name), Combination))
            raise ParameterError(f"{whole.strip()} combines nothing: {names} does")
        return combination.over(parse(inner, constrained=constrained))
    name, _, rest = text.strip().partition(" ")
    name = "sample" if name in ("", "plain") else name
    if name not in STRATEGIES:
        raise ParameterError(f"{text.strip()!r} is no way of drawing: one of {forms()}")
    kind = _kind(name)
    wanted = kind.settings()
    words = rest.split(maxsplit=max(len(wanted) - 1, 0)) if wanted else rest.split()
    needed = sum(f.default is MISSING for f in wanted)
    if not needed <= len(words) <= len(wanted):
        raise ParameterError(f"{text.strip()!r} is no way of drawing: expected {kind.form()}")
    values = {field.name: _value(field, word, kind) for field, word in zip(wanted, words, strict=False)}
    if constrained:
        from likely.engine.decode.searches.beam import CONSTRAINED_PENALTY, Beam

        if issubclass(kind, Beam):
            values.setdefault("penalty", CONSTRAINED_PENALTY)
    return kind(**values)


def with_setting(strategy: Strategy, name: str, word: str) -> Strategy:
    """The strategy with another setting, as it is written. ParameterError for what it cannot be."""
    field = next(field for field in strategy.settings() if field.name == name)
    return replace(strategy, **{name: _value(field, word, type(strategy))})


def forms() -> str:
    """How the text forms are written."""
    return ", ".join(_kind(name).form() for name in STRATEGIES)


def offers(models: tuple[str, ...] = ()) -> list[Strategy]:
    """All strategies to choose from, where these models are loaded."""
    return [strategy for name in STRATEGIES for strategy in _kind(name).offers(models)]


def _value(field: "Field[Any]", word: str, kind: type[Strategy]) -> Any:
    of = (get_args(field.type) or (field.type,))[0]
    try:
        return of(word.strip())  # type: ignore[operator]
    except ValueError:
        raise ParameterError(f"{field.name} of {kind.form()!r} must be a number, got {word!r}") from None
