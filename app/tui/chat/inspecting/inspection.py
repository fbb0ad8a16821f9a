"""A token under inspection: what its distribution under other settings is replayed from, with or without the model.

Plain data, built anew for each look; how it looks is the panel's.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from likely.app.store.sampling_text import bound_as, change
from likely.app.tui.chat import candidates
from likely.app.tui.chat.candidates import LN2, CandidateTable, Names, Outcome
from likely.app.tui.chat.inspecting import search_choice
from likely.app.tui.chat.inspecting.search_choice import SearchChoice
from likely.engine.chat.tools.tool_prompt import ToolChoice
from likely.engine.decode.prompt import Prompt
from likely.engine.inside.why import Reason
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms.pipeline import hard

Bits = Sequence[float | None]


def unknown(recipe: SamplingConfig) -> Outcome | None:
    """No outcome is known but those that can be replayed."""
    return None


@dataclass(frozen=True, eq=False)
class Inspection:
    """A token that was drawn or measured, or (`upcoming`) the place of one that is not there yet.

    `recipe` is how one would be drawn now. `before` and `steps` are what precedes it: ids, then those that have a step.
    With `logits`, raw [V], all of its distribution is known; else it is replayed from the step's snapshot. `prompt` is
    what the engine reads to stand before it, None where it is not to be asked; `key` tells the token apart from others.
    """

    step: TokenStep | None
    recipe: SamplingConfig
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
    number: int = 0  # of the token in its text, from 1; 0: its place in the context says it
    moved: str = ""  # what changed of how tokens are drawn, from this one on

    @property
    def drawn_by(self) -> SamplingConfig | None:
        """The recipe that drew it; None where nothing did."""
        return None if self.step is None or self.upcoming or self.step.origin == "given" else self.step.recipe

    @property
    def recipes(self) -> tuple[SamplingConfig, ...]:
        """By which it is looked at: the one that drew it, and the present one where that draws otherwise."""
        drawn = self.drawn_by
        if drawn is None:
            return (self.recipe if self.step is None else bound_as(self.recipe, self.step.recipe),)
        now = bound_as(replace(self.recipe, adapters=drawn.adapters), drawn)
        return (drawn,) if now == drawn or self.choice is not None else (drawn, now)

    @property
    def bound(self) -> bool:
        """Whether the form of an answer bound the draw, of which only what was recorded is known."""
        return self.step is not None and bool(hard(self.step.recipe.transforms))

    def outcome(self, recipe: SamplingConfig | None = None) -> Outcome | None:
        """The candidates under a recipe, the last of `recipes` by default; None where nothing was kept of the step."""
        recipe = recipe or self.recipes[-1]
        if self.logits is not None and not self.bound:
            ids = [*self.before, *(step.token for step in self.steps)]
            place = self.step.position if self.step is not None else len(ids)
            return candidates.exact(self.logits, recipe, ids, self.names, (self.seed, place))
        if self.step is None:
            return None
        return candidates.replayed(self.step, recipe, self.before, self.steps, self.names, self.seed)

    def table(self, known: Callable[[SamplingConfig], Outcome | None] = unknown) -> CandidateTable | None:
        """The rows to show, by the outcomes of recipes that are `known` already."""
        by = self.recipes
        outcome = known(by[-1]) or self.outcome(by[-1])
        if not self.upcoming:
            if self.step is None:
                return None
            drawn = (known(by[0]) or self.outcome(by[0])) if by[1:] else None
            if by[1:] and drawn is None:  # nothing of it was kept
                outcome = None
            parts = (self.moved, f"if moved: {change(*by)}" if by[1:] else "")
            table = candidates.view(
                self.step, outcome, by[-1], self.names, title=self.title, live=self.live, drawn=drawn,
                moved=" · ".join(filter(None, parts)),
            )  # fmt: skip
            return table if self.choice is None else search_choice.table(table, self.choice, self.names)
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
    gives what to ask. `waits` says why no model can be asked for what it was drawn from, "" where one can; `stale`, why
    the entropies are not of the text as it stands, "" where they are.
    """

    at: Inspection | None = None
    bits: Bits = ()
    cursor: int | None = None
    instead: CandidateTable | None = None
    model: str = ""
    waits: str = ""
    stale: str = ""
    exact: Callable[[], Inspection] | None = None
    reasons: tuple[Reason, ...] = ()  # that are kept of why it was said
    choice: ToolChoice | None = None  # of a tool, or none, that was made there
    unit: int = 0  # of its node, that it is


@dataclass(frozen=True, slots=True)
class InspectedPrompt:
    """A prompt for the inside view, and where to begin: `after` tokens before its end, on a page, at a head."""

    prompt: Prompt
    after: int = 0
    page: str = ""
    head: tuple[int, int] | None = None
    foil: int | None = None


def entropies(steps: Sequence[TokenStep], known: list[float | None] | None = None) -> list[float | None]:
    """Entropies in bits; `known`, those of the first steps, grows to all of them."""
    known = [] if known is None else known
    for step in steps[len(known) :]:
        known.append(None if step.entropy is None else step.entropy / LN2)
    return known


def recent(bits: Bits, at: int | None) -> Bits:
    """The last few entropies up to a token, or to the newest."""
    end = len(bits) if at is None else at + 1
    return bits[max(end - 8, 0) : end]
