"""Registry of the strategies, and the one parser of their text form. No mlx."""

from dataclasses import MISSING, Field, replace
from typing import Any, get_args

from likely.engine.decode.beam import CONSTRAINED_PENALTY, GNMT, Beam, DiverseBeam
from likely.engine.decode.budget import Budget
from likely.engine.decode.combine import OVER, Combination, Contrast, Guidance, Layers
from likely.engine.decode.entropy_branching import EntropyBranching
from likely.engine.decode.exact import ExactMode
from likely.engine.decode.guessing import Drafting, NGram
from likely.engine.decode.power import Power
from likely.engine.decode.sample import Sample
from likely.engine.decode.several import Vote
from likely.engine.decode.stochastic_beam import StochasticBeam
from likely.engine.decode.strategy import Strategy
from likely.engine.errors import ParameterError

COMBINATIONS: tuple[type[Combination], ...] = (Contrast, Layers, Guidance)
KINDS: tuple[type[Strategy], ...] = (
    *(Sample, NGram, Drafting),
    *(Beam, GNMT, DiverseBeam, StochasticBeam, ExactMode, Power, Vote, EntropyBranching, Budget),
    *COMBINATIONS,
)
STRATEGIES = {kind.NAME: kind for kind in KINDS}
PLAIN = Sample()


def parse(text: str, *, constrained: bool = False) -> Strategy:
    """The strategy of a text form such as `ngram 4`; none said, or `plain`, is `sample`. ParameterError for others.

    Where answers are `constrained`, beams that are told no length penalty have `CONSTRAINED_PENALTY`.
    """
    whole, over, inner = text.partition(OVER)
    if over:
        combination = parse(whole)
        if not isinstance(combination, Combination):
            raise ParameterError(f"{whole.strip()} combines nothing: {' or '.join(c.NAME for c in COMBINATIONS)} does")
        return combination.over(parse(inner, constrained=constrained))
    name, _, rest = text.strip().partition(" ")
    kind = STRATEGIES.get("sample" if name in ("", "plain") else name)
    if kind is None:
        raise ParameterError(f"{text.strip()!r} is no way of drawing: one of {forms()}")
    wanted = kind.settings()
    words = rest.split(maxsplit=max(len(wanted) - 1, 0)) if wanted else rest.split()
    needed = sum(f.default is MISSING for f in wanted)
    if not needed <= len(words) <= len(wanted):
        raise ParameterError(f"{text.strip()!r} is no way of drawing: expected {kind.form()}")
    values = {field.name: _value(field, word, kind) for field, word in zip(wanted, words, strict=False)}
    if constrained and issubclass(kind, Beam):
        values.setdefault("penalty", CONSTRAINED_PENALTY)
    return kind(**values)


def with_setting(strategy: Strategy, name: str, word: str) -> Strategy:
    """The strategy with another setting, as it is written. ParameterError for what it cannot be."""
    field = next(field for field in strategy.settings() if field.name == name)
    return replace(strategy, **{name: _value(field, word, type(strategy))})


def forms() -> str:
    """How the text forms are written."""
    return ", ".join(kind.form() for kind in STRATEGIES.values())


def offers(models: tuple[str, ...] = ()) -> list[Strategy]:
    """All strategies to choose from, where these models are loaded."""
    return [strategy for kind in STRATEGIES.values() for strategy in kind.offers(models)]


def _value(field: "Field[Any]", word: str, kind: type[Strategy]) -> Any:
    of = (get_args(field.type) or (field.type,))[0]
    try:
        return of(word.strip())  # type: ignore[operator]
    except ValueError:
        raise ParameterError(f"{field.name} of {kind.form()!r} must be a number, got {word!r}") from None
