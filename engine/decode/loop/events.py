"""Events of a run, as plain data: what was read, drawn, parted, dropped, and how it ended. No mlx.

A strategy yields `Emitted`, `Forked`, `Pruned` and `Rated`, their steps still without text. The session adds
the text, `Prefilled`, and a `Done` for each branch that goes to its end; `Waiting` is a turn for others. Branches are
numbered from 0, and no number comes again in a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from likely.engine.sampling.trace.step import TokenStep


@dataclass(frozen=True, slots=True)
class Stats:
    """Cost of a run: tokens read and drawn, and where the time went."""

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
    """One token more at the end of a branch."""

    branch: int
    step: TokenStep


@dataclass(frozen=True, slots=True)
class Forked:
    """`child` begins as a copy of all that `parent` has emitted, and goes on by itself."""

    parent: int
    child: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """A branch is given up: nothing more comes of it, not even a `Done`."""

    branch: int


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The model gave no numbers as it was and was loaded in a wider type, as `line` says; the run goes on with that."""

    line: str


@dataclass(frozen=True, slots=True)
class Rated:
    """A search's rating of a branch so far: `figures` has the `score` that orders it, and what else is known of it by
    name, such as its inclusion probability."""

    branch: int
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Others have their turn first. A run in a batch has given all that was drawn for it: asked once more, it has the
    batch do a pass; elsewhere a piece of long work is done, and the next comes."""


@dataclass(frozen=True, slots=True)
class Done:
    """A branch is over: reason is eot (the model ended its text), stop (a stop string), length (budget or context) or
    cancelled. `text` is what the detokeniser still held back."""

    branch: int
    reason: str
    stats: Stats
    text: str = ""


Event = Prefilled | Emitted | Forked | Pruned | Rated | Reloaded | Waiting | Done
