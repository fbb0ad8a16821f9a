"""The way of decoding in a chat: those to choose from, and what follows from a choice."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from likely.app.tui.base.engine_client import EngineClient
from likely.app.tui.base.presets import Choice
from likely.app.tui.chat.comparison import strategies
from likely.engine.decode.guessing import Drafting
from likely.engine.decode.strategies import PLAIN, parse
from likely.engine.decode.strategy import Strategy
from likely.engine.errors import ParameterError

if TYPE_CHECKING:
    from likely.app.tui.views.chat import ChatScreen


def offered(engine: EngineClient) -> Sequence[Choice]:
    """The ways of finding tokens that need no other model than is loaded, for a list."""
    return [choice for choice in strategies(others(engine)) if choice[0] != Drafting.NAME]


def others(engine: EngineClient) -> list[str]:
    """Names of loaded models beside the current one."""
    return [name for name, facts in engine.models.items() if facts is not engine.current]


def read(text: str) -> Strategy:
    """The strategy of a text form, or of the list's `strategy ...`. ParameterError for none."""
    return parse(text.removeprefix("strategy "))


def choose(screen: "ChatScreen", strategy: Strategy) -> None:
    """Decode so from the next answer on. ParameterError, nothing changed, where a model that it needs is not loaded."""
    missing = [name for name in strategy.needs if name not in screen.host.engine.models]
    if missing:
        raise ParameterError(f"{strategy} needs {missing[0]}, which is not loaded: f3 loads a second model in a column")
    screen.talk.strategy = strategy
    screen.inspector.sampler.show_strategy(strategy)
    screen.inspector.look()
    if strategy == PLAIN:
        said = "tokens are found one by one"
    elif strategy.SEARCHES:
        said = f"{strategy}: {strategy.about} · of the sampler only bans and biases act"
    else:
        said = f"{strategy}: {strategy.about}"
    screen.hints.say(f"{said} · from the next answer on" if screen.talk.running else said)
