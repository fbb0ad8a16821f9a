"""`Lockstep`: another strategy on several ranks at once, which all draw the same and stop at the same token.

Every rank draws for itself, from the same logits (`models.parallel`) and by the same hash of (seed, position). Rank 0's
token is said to the others all the same: arithmetic that differs between two machines is an error, not another text.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.decode.control import RunControl
from engine.decode.cursor import Cursor
from engine.decode.strategy import Strategy
from engine.errors import RanksDiffer
from engine.trace.trace import TokenStep
from engine.transforms import Vocabulary

if TYPE_CHECKING:
    from engine.ranks.together import Ranks


@dataclass(frozen=True, slots=True)
class Lockstep:
    """The steps of `strategy`; cancelling `asked` on rank 0 cancels the run on every rank after the same step."""

    ranks: "Ranks"
    strategy: Strategy
    asked: RunControl

    def steps(
        self, cursor: Cursor, control: RunControl, *, seed: int, limit: int, vocabulary: Vocabulary | None = None
    ) -> Generator[TokenStep, None, None]:
        """At most `limit` steps. RanksDiffer where this rank drew another token than rank 0."""
        with closing(self.strategy.steps(cursor, control, seed=seed, limit=limit, vocabulary=vocabulary)) as steps:
            for step in steps:
                token, cancelled = self.ranks.say([step.token, self.asked.cancelled])
                if token != step.token:
                    raise RanksDiffer(
                        f"position {step.position}: token {step.token} was drawn here and {token} on rank 0: their "
                        "arithmetic differs; use machines of one kind, or --temp 0"
                    )
                if cancelled:
                    control.cancel()
                yield step
