"""A token under inspection: what its distribution under other settings is replayed from, with or without the model.

Plain data, built anew for each look; how it looks is the panel's.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from app.tui.chat import candidates, search_choice
from app.tui.chat.candidates import LN2, CandidateTable, Names, Outcome
from app.tui.chat.search_choice import SearchChoice
from engine.prompt import Prompt
from engine.trace.trace import Recipe, TokenStep

Bits = Sequence[float | None]


@dataclass(frozen=True, eq=False)
class Inspection:
    """A token that was drawn or measured, or (`upcoming`) the place of one that is not there yet.

    `before` and `steps` are what precedes it: ids, then those that have a step. With `logits`, raw [V], all of its
    distribution is known; else it is replayed from the step's snapshot. `prompt` is what the engine reads to stand
    before it, None where it is not to be asked; `key` tells the token apart from others.
    """

    step: TokenStep | None
    recipe: Recipe
    names: Names
    title: str = ""
    before: Sequence[int] = ()
    steps: Sequence[TokenStep] = ()
    seed: int = 0
    live: bool = False
    upcoming: bool = False
    logits: np.ndarray | None = None
    prompt: Prompt | None = None
    key: Hashable = None
    choice: SearchChoice | None = None  # of the search that drew it

    def outcome(self) -> Outcome | None:
        """The candidates under the recipe; None where nothing was kept of the step."""
        if self.logits is not None:
            ids = [*self.before, *(step.token for step in self.steps)]
            place = self.step.position if self.step is not None else len(ids)
            return candidates.exact(self.logits, self.recipe, ids, self.names, (self.seed, place))
        if self.step is None:
            return None
        return candidates.replayed(self.step, self.recipe, self.before, self.steps, self.names, self.seed)

    def table(self, outcome: Outcome | None = None) -> CandidateTable | None:
        """The rows to show, of `outcome` where it is known already."""
        outcome = outcome or self.outcome()
        if not self.upcoming:
            if self.step is None:
                return None
            found = candidates.view(self.step, outcome, self.recipe, self.names, title=self.title, live=self.live)
            return found if self.choice is None else search_choice.table(found, self.choice, self.names)
        if outcome is None:
            return None
        if self.logits is not None:
            return candidates.next_view(outcome, self.recipe, self.names, len(self.logits))
        step = self.step
        if step is None or step.snapshot is None or step.entropy is None:
            return None
        return candidates.next_view(outcome, self.recipe, self.names, step.snapshot.vocab, step.entropy / LN2)


@dataclass(frozen=True, eq=False)
class Subject:
    """A token to look at, with the entropies (bits) around it; `cursor` is None while the newest is followed.

    `instead` is shown where there is no inspection. `model` is what can be asked about it, "" for none, and `exact`
    gives what to ask.
    """

    at: Inspection | None = None
    bits: Bits = ()
    cursor: int | None = None
    instead: CandidateTable | None = None
    model: str = ""
    exact: Callable[[], Inspection] | None = None


def entropies(steps: Sequence[TokenStep], found: list[float | None] | None = None) -> list[float | None]:
    """Entropies in bits; `found`, those of the first steps, grows to all of them."""
    found = [] if found is None else found
    for step in steps[len(found) :]:
        found.append(None if step.entropy is None else step.entropy / LN2)
    return found


def recent(bits: Bits, at: int | None) -> Bits:
    """The last few entropies up to a token, or to the newest."""
    end = len(bits) if at is None else at + 1
    return bits[max(end - 8, 0) : end]
