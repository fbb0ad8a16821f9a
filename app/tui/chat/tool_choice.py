"""Choice of a tool as a table for the panel: how likely each tool was to be called, and none, and what was said to it.

From what is kept with the answer, without the model. A row of an argument is the probability of all its tokens, given
all that stands before it.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from likely.app.tui.base.theme import Glyphs
from likely.app.tui.chat.candidates import Candidate, CandidateTable
from likely.app.words.units import bits
from likely.engine.chat.tools.tool import ToolDistribution
from likely.engine.chat.tools.tool_prompt import CallField, ToolChoice
from likely.engine.chat.tools.use import WORDS

NO_CALL, OTHER = "no call", "another form"
ROWS = 6  # tools and what else could come; the rest is one row
NOTHING = -1  # a token: these rows are none


@dataclass(frozen=True, slots=True)
class ChoiceTable(CandidateTable):
    """The candidate table's place: bars over what could be called, and over each argument as it was written."""

    undecided: float = 0.0
    NAMES: ClassVar[int] = 18
    OF: ClassVar[str] = "called next"
    HEADS: ClassVar[tuple[str, ...]] = ("p %", "bits")
    BAR: ClassVar[tuple[str, str]] = ("at least; t: the token's own", "")

    def summary(self, glyphs: Glyphs) -> str:
        return f"undecided {100 * self.undecided:.2f} % {glyphs.dot} over all spellings"


def shares(law: ToolDistribution) -> list[tuple[str, float]]:
    """Probabilities, at least, of what could come, the likeliest first: tools, a call in another form, no call."""
    rest = [(NO_CALL, law.none), (OTHER, law.other)]
    named = [(NO_CALL if name == WORDS else name, p) for name, p in law.tools]
    return sorted([*named, *((name, p) for name, p in rest if p)], key=lambda share: -share[1])


def law_words(law: ToolDistribution) -> str:
    """The law in words: the three likeliest."""
    return ", ".join(f"{name} {p:.0%}" for name, p in shares(law)[:3] if p >= 0.005)


def table(choice: ToolChoice, token: int) -> ChoiceTable | None:
    """Of a choice, with what was called marked, or the argument that the `token` of the answer is of; None where there
    is nothing to show."""
    called = choice.calls[0][0] if choice.calls else NO_CALL
    fields = [_of_field(field, token) for _, fields in choice.calls for field in fields]
    marked = "" if any(row.chosen for row in fields) else called
    found = shares(choice.law) if choice.law is not None else []
    kept = [share for index, share in enumerate(found) if index < ROWS or share[0] == called]
    rows = [_of_law(name, p, name == marked) for name, p in kept]
    if rest := [share for share in found if share not in kept]:
        rows.append(_of_law(f"{len(rest)} others", sum(p for _, p in rest), False))
    if not rows + fields:
        return None
    numbers = next((f"{-math.log2(p):z.1f} bits" for name, p in found if name == called and p > 0), "")
    nothing = (0, (0, 0), (0.0, 0.0), "", True, False)  # no sampling is meant
    undecided = 0.0 if choice.law is None else choice.law.undecided
    return ChoiceTable("CHOICE", called, numbers, (*rows, *fields), *nothing, undecided)


def _of_law(name: str, p: float, chosen: bool) -> Candidate:
    return Candidate(NOTHING, name, p, None, chosen=chosen, more=(f"{-math.log2(p):z.1f}" if p > 0 else "",))


def _of_field(field: CallField, token: int) -> Candidate:
    here = field.tokens[0] <= token < field.tokens[1]
    own = f"{bits(-field.logprob):z.1f}"
    return Candidate(NOTHING, f"  {field.name} =", math.exp(field.logprob), None, chosen=here, more=(own,))
