"""Handle on a run: the recipe that holds now, tokens to take, and whether to stop. Plain data, no mlx.

A strategy reads its `RunControl` before every draw, so a slider acts in the middle of an answer; it never stops by
itself: budget, stop strings, end of text and cancelling are the session's.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event as Flag

from likely.engine.sampling.trace.step import SamplingConfig


@dataclass(slots=True)
class RunControl:
    """The handle on a run. Written by one thread, read by the engine's between two tokens; each write is one reference.

    `recipe` is how the next token that is not yet queued is drawn. `force` names tokens to take instead of drawing.
    `adapters` are those on the model by now, and `binds` is what the form of the answer makes of any recipe: the
    session's, not a person's, to write. Branches that are `given_up` end at their next token, as if they alone were
    cancelled.
    """

    recipe: SamplingConfig = field(default_factory=SamplingConfig)
    forced: deque[int] = field(default_factory=deque)
    adapters: tuple[str, ...] = ()
    binds: Callable[[SamplingConfig], SamplingConfig] = lambda recipe: recipe
    given_up: set[int] = field(default_factory=set)
    _cancelled: Flag = field(default_factory=Flag)
    _paused: Flag = field(default_factory=Flag)

    @property
    def drawn_by(self) -> SamplingConfig:
        """The recipe, bound to the answer's form, with the adapters that are on the model."""
        recipe = self.binds(self.recipe)
        return recipe if recipe.adapters == self.adapters else replace(recipe, adapters=self.adapters)

    def cancel(self) -> None:
        """Stop before the next token; the tokens so far and the cache stay usable."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def pause(self, on: bool) -> None:
        """Have whoever draws the events take no more of them, or go on; a run that is cancelled goes on."""
        (self._paused.set if on else self._paused.clear)()

    @property
    def paused(self) -> bool:
        return self._paused.is_set() and not self.cancelled

    def force(self, tokens: list[int]) -> None:
        """Take these tokens next, whatever is drawn; their log-probabilities are recorded all the same."""
        self.forced.extend(tokens)

    def take_forced(self) -> int | None:
        """The token to take now, if one is named."""
        return self.forced.popleft() if self.forced else None

    def put_back(self, token: int) -> None:
        """Make a forced token that was not drawn after all the next one again."""
        self.forced.appendleft(token)
