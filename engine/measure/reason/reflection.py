"""Reflection: a model is shown its own answer, asked to check it, and answers again.

Without a check from outside it turns right answers into wrong ones about as readily (Huang et al., arXiv:2310.01798):
both are to be counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likely.engine.decode.prompt import Prompt

if TYPE_CHECKING:
    from likely.engine.measure.reason.paths import ReasoningPath
    from likely.engine.measure.reason.thought import Thought

CHECK = "Check this answer step by step. If it is wrong, correct it. Then give the final answer again."


def again(asks: "Thought", question: str, texts: Sequence[str], *, chat: bool) -> Prompt:
    """The prompt that shows what was said and asks for it anew."""
    first = asks.ask(question, chat=chat)
    if chat:
        turns = list(first.turns)
        for text in texts:
            turns += [("assistant", text), ("user", CHECK + asks.after)]
        return Prompt(tuple(turns), system=asks.system)
    shown = "".join(f" {text.strip()}\n\n{CHECK}\nAnswer:" for text in texts)
    return Prompt(parts=("".join(map(str, first.parts)) + shown,))


@dataclass(frozen=True, slots=True)
class Flips:
    """How often answers changed from the first to the last."""

    right_to_wrong: int
    wrong_to_right: int
    kept: int


def flips(pairs: Sequence[tuple[bool, bool]]) -> Flips:
    """Counts of answers kept and changed, from whether the first and the last of each problem are right."""
    lost, won = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return Flips(lost, won, len(pairs) - lost - won)


def ends(paths: "Sequence[ReasoningPath]") -> Iterator["ReasoningPath"]:
    """The first and the last of the answers that were given."""
    answered = [path for path in paths if path.answer is not None]
    yield from (answered[0], answered[-1]) if answered else ()
