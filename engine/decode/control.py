"""What passes between a run and whoever watches it: `RunControl` goes in, events come out. Plain data, no mlx.

A strategy reads its `RunControl` before every draw, so a slider acts in the middle of an answer; it never stops by
itself: budget, stop strings, end of text and cancelling are the session's.
"""

from collections import deque
from dataclasses import dataclass, field
from threading import Event as Flag

from engine.trace.trace import Recipe, TokenStep


@dataclass(frozen=True, slots=True)
class Stats:
    """What a run cost: tokens read and drawn, and where the time went."""

    prompt_tokens: int
    reused_tokens: int  # of the prompt, found in the cache
    tokens: int  # drawn
    prefill_s: float
    decode_s: float

    @property
    def tokens_per_s(self) -> float:
        """Decode speed; the first token belongs to the prefill."""
        return (self.tokens - 1) / self.decode_s if self.tokens > 1 and self.decode_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Prefilled:
    """So many of the prompt's tokens have been read; sent after every chunk."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Emitted:
    """One token of a branch."""

    step: TokenStep
    branch: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The run is over: reason is eot (the model ended its text), stop (a stop string), length (budget or context) or
    cancelled. `text` is what the detokeniser still held back. Of several branches each has its own end."""

    reason: str
    stats: Stats
    text: str = ""
    branch: int = 0


Event = Prefilled | Emitted | Done


@dataclass(slots=True)
class RunControl:
    """The handle on a run. Written by one thread, read by the engine's between two tokens; each write is one reference.

    `recipe` is how the next token that is not yet queued is drawn. `force` names tokens to take instead of drawing.
    """

    recipe: Recipe = field(default_factory=Recipe)
    forced: deque[int] = field(default_factory=deque)
    _cancelled: Flag = field(default_factory=Flag)

    def cancel(self) -> None:
        """Stop before the next token; the tokens so far and the cache stay usable."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def force(self, tokens: list[int]) -> None:
        """Take these tokens next, whatever is drawn; their log-probabilities are recorded all the same."""
        self.forced.extend(tokens)

    def take_forced(self) -> int | None:
        """The token to take now, if one is named."""
        return self.forced.popleft() if self.forced else None

    def put_back(self, token: int) -> None:
        """This forced token was not taken after all: it is the next again."""
        self.forced.appendleft(token)
