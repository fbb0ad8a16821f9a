"""`Start`: what a command line asked of the chats of a full screen. Plain data; knows nothing of screens."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

from likely.app.tui.base.sampling import Sampling
from likely.engine.chat.conversation import Conversation
from likely.engine.sampling.trace.step import SamplingConfig


@dataclass(frozen=True)
class Start:
    """Settings that conversations begin with, each None or "" where the screen's own hold."""

    recipe: SamplingConfig | None = None
    order: tuple[str, ...] = ()  # of the recipe's transforms by name
    system: str = ""
    seed: int | None = None  # of the first answer; the next ones count on from it
    max_tokens: int | None = None

    def of(self, conversation: Conversation) -> Conversation:
        """A conversation with what was asked for in place of its own."""
        talk = conversation
        if self.recipe is not None:
            talk = replace(talk, recipe=self.recipe, order=self.order)
        return replace(talk, system=self.system) if self.system else talk

    def fresh(self, id: str, now: float) -> Conversation:
        """A new conversation."""
        return self.of(Conversation(id, recipe=Sampling().recipe, created=now, updated=now))

    @cached_property
    def new_seed(self) -> Callable[[], int] | None:
        """Seeds of one answer after another; None where nobody asked."""
        return None if self.seed is None else count(self.seed).__next__
