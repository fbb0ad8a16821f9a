"""Lines about a walk of power sampling: what came of its proposals, what it cost, and how likely its texts were."""

import math
from collections.abc import Mapping, Sequence

LEVELS = "▁▂▃▄▅▆▇█"
POINTS = 60  # cells of the plot


def walk_lines(figures: Mapping[str, float], scores: Sequence[float], tokens: int) -> list[str]:
    """Of a text of so many tokens: `scores` are log p of the walk's text after each proposal, nats. None, where it
    comes of no walk."""
    if "accepted" not in figures:
        return []
    drawn = int(figures["drawn"])
    lines = [
        f"{figures['accepted']:.0%} of the proposals taken, worth {figures['effective']:.1f} independent texts · "
        f"{drawn} tokens drawn for {tokens}, {drawn / max(tokens, 1):.1f} each, none read twice"
    ]
    if len(scores) > 1:
        lines.append(f"log₂p of the walk {plot(scores)} {_bits(min(scores))} to {_bits(max(scores))}")
    return lines


def plot(values: Sequence[float]) -> str:
    """Values from left to right, at most `POINTS` of them, the lowest as the lowest block."""
    shown = (
        [values[round(i * (len(values) - 1) / (POINTS - 1))] for i in range(POINTS)] if len(values) > POINTS else values
    )
    low, high = min(shown), max(shown)
    return "".join(LEVELS[round((value - low) / (high - low or 1.0) * (len(LEVELS) - 1))] for value in shown)


def _bits(nats: float) -> str:
    return f"{nats / math.log(2):.1f}"
