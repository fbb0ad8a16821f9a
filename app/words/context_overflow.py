"""Ways on for a conversation that has outgrown its model: drop the oldest, summarise them, or a longer RoPE; in words.

What may stay, what the model is asked for a summary, which scaling is enough, and what its price says. For the full
screen and for lines alike; knows neither, nor how a conversation is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from likely.app.words.units import bits
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.prompt import Prompt
from likely.models.configuration.rope_scaling import MOST, RopeScaling, apart

if TYPE_CHECKING:
    from likely.engine.decode.context_extension_cost import ContextPrice

LEFT = 4  # a quarter of the context is left for what is said next
WORDS, SUMMARY = 120, 400  # of a summary, and its tokens
HALVED = 8  # times, until what is to be summarised can be read
ASKED = f"Summarise this conversation in at most {WORDS} words: who said what, facts, names, numbers, what is wanted."
HEAD = "Earlier in this conversation: "
NOTHING_BEFORE = "there is nothing before this message to be left out: shorten it, or send it in parts"


@dataclass(frozen=True, slots=True)
class Shortening:
    """A conversation without its first `dropped` messages has `size` tokens as a prompt, `whole` with them."""

    dropped: int
    size: int
    whole: int

    def ways(
        self, name: str, context: int, diffuses: bool = False, bounded: bool = False
    ) -> tuple[tuple[str, str], ...]:
        """Ways on with a model of this name and context, which is no longer where it is `bounded`: an id and words for
        each."""
        scaling = None if diffuses or bounded else enough(name, self.whole, context)
        rope = []
        if scaling is not None:
            held = longer(name, scaling, context)
            rope.append(("rope", f"a longer RoPE, {scaling.words}: {held:,} tokens; its price first"))
        return (
            ("drop", f"leave out the oldest {self.dropped} messages: {self.size:,} tokens stay"),
            *(() if diffuses else (("sum", "have the model summarise them, to be edited"),)),
            *rope,
            ("stay", "leave it as it is"),
        )


def shortening(asked: Sequence[int], sizes: Sequence[int], context: int) -> tuple[int, Shortening]:
    """Which of the messages `asked` a conversation may begin with, by its number, and what it is then: each leaves so
    many tokens (`sizes`)."""
    most = context - context // LEFT
    most = most if sizes[0] > most else sizes[0] // 2  # it fits, and a person wants it shorter
    at = next((at for at, size in enumerate(sizes) if at and size <= most), len(asked) - 1)
    return at, Shortening(asked[at], sizes[at], sizes[0])


def summary_tokens(context: int) -> int:
    return min(SUMMARY, context // LEFT)


def summary_prompts(turns: Sequence[tuple[str, str]]) -> tuple[Prompt, ...]:
    """Prompts that ask for a summary: of all, else of the latest half, quarter, ... of it, where that has no room."""
    told = "\n\n".join(f"{role}: {text.strip()}" for role, text in turns)
    parts = [told[-max(len(told) >> halved, 1) :] for halved in range(HALVED)]
    return tuple(Prompt((("user", f"{ASKED}\n\n{part}"),)) for part in parts)


def with_summary(system: str, summary: str) -> str:
    """A system prompt with what was said before."""
    return "\n\n".join(filter(None, (system, HEAD + summary)))


def enough(name: str, tokens: int, context: int) -> RopeScaling | None:
    """YaRN by the least power of two that has room for so many tokens and what is said next; None where none has."""
    scaling = apart(name)[1]
    now = 1.0 if scaling is None else scaling.factor
    factor = 2.0 * now
    while factor <= MOST and tokens > context * (factor / now) * (1 - 1 / LEFT):
        factor *= 2
    return RopeScaling("yarn", factor) if factor <= MOST else None


def longer(name: str, scaling: RopeScaling, context: int) -> int:
    """Positions by a scaling, of a model that has so many now."""
    now = apart(name)[1]
    return scaling.context(context) if now is None else int(context * scaling.factor / now.factor)


def price_lines(price: "ContextPrice") -> tuple[str, ...]:
    """The price of a longer RoPE, bits a token with intervals of 95 %."""
    before, then = (bits(each.mean) for each in price.fits)
    old, new = price.contexts
    lines = [
        f"{price.scaling.words}: {new:,} tokens, {old:,} now",
        f"what fits costs {then:.2f} bits a token, {before:.2f} now: {_signed(price.rise)}",
    ]
    if price.end.n:
        lines.append(f"the last {price.end.n} tokens against dropping the oldest: {_signed(price.end)}")
    return (*lines, f"keys and values, filled: {price.nbytes[1] / 1e6:,.3g} MB, {price.nbytes[0] / 1e6:,.3g} now")


def _signed(estimate: Estimate) -> str:
    low, high = map(bits, estimate.interval)
    span = f", {low:+.2f} to {high:+.2f}" if isfinite(high - low) else ""
    return f"{bits(estimate.mean):+.2f}{span}"
