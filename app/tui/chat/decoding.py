"""The ways of finding tokens as choices for a list, and what the words of a choice mean."""

from collections.abc import Sequence

from likely.app.tui.base.engine_client import EngineClient
from likely.app.tui.base.presets import Choice
from likely.engine.decode.drafts.prompt_lookup import Drafting
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.strategy_table import offers, parse


def strategies(models: Sequence[str]) -> list[Choice]:
    """All ways, for a list; `models` are loaded ones that could guess."""
    kinds = offers(tuple(models))
    size = max(len(title) for title in (*(strategy.TITLE for strategy in kinds), Drafting.TITLE + "…")) + 2
    return [
        ("", "how tokens are found"),
        *((f"strategy {strategy}", f"  {strategy.TITLE:<{size}}{strategy.about}") for strategy in kinds),
        (Drafting.NAME, f"  {Drafting.TITLE + '…':<{size}}{Drafting.ABOUT}"),
    ]


def offered(engine: EngineClient) -> Sequence[Choice]:
    """Those that need no other model than is loaded."""
    return [choice for choice in strategies(others(engine)) if choice[0] != Drafting.NAME]


def others(engine: EngineClient) -> list[str]:
    """Names of loaded models beside the current one."""
    return [name for name, facts in engine.models.items() if facts is not engine.current]


def read(text: str) -> Strategy:
    """The strategy of a text form, or of the list's `strategy ...`. ParameterError for none."""
    return parse(text.removeprefix("strategy "))
