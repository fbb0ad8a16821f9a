"""Texts of one search or vote side by side: which are alive, what each is worth, and which is on the screen.

Plain data, from a conversation; how it looks is the list's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.tui.chat import tallies
from app.tui.chat.candidates import LN2
from engine.conversation import Conversation
from engine.reason.scorers import logprob


@dataclass(frozen=True, slots=True)
class Ranked:
    """One text: where it parts from the others, and its numbers as they are shown."""

    node: str
    text: str
    numbers: tuple[str, ...]
    ended: bool
    on: bool  # the screen


@dataclass(frozen=True, slots=True)
class Ranking:
    """All texts that are alive, those of a search the best first, with the heads of their numbers."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Ranked, ...]

    @property
    def words(self) -> str:
        """How many go on, and how many have ended."""
        ended = sum(row.ended for row in self.rows)
        return f"{len(self.rows) - ended} growing, {ended} ended" if ended < len(self.rows) else f"{ended} ended"


def ranking(talk: Conversation, count: tallies.VoteCount | None) -> Ranking | None:
    """Those beside the last message, whose votes are counted if it is a path of one, without what is put away; None
    where it is alone."""
    leaf = talk.leaf
    if leaf is None or not leaf.label:
        return None
    how = tallies.found_by(leaf.label)
    if count is None and (how is None or not how.SEARCHES):
        return None
    nodes = tallies.paths(talk, leaf)
    if len(nodes) < 2:
        return None
    if count is None:
        nodes.sort(key=lambda node: -node.figures.get("score", -math.inf))
    lines = {node.id: tallies.steps(talk, node) for node in nodes}
    texts = _apart(["".join(s.text for s in lines[node.id] if not s.special).strip() for node in nodes])
    rows = []
    for node, text in zip(nodes, texts, strict=True):
        total, tokens = logprob(lines[node.id]), len(lines[node.id])
        score = node.figures.get("score", math.nan)
        if count is None:
            numbers = bits(total), str(tokens), bits(score)
        else:
            numbers = count.said.get(node.id) or "", str(tokens), bits(total / tokens if tokens else math.nan)
        rows.append(Ranked(node.id, text, numbers, bool(node.finish), node.id == leaf.id))
    if count is None:
        return Ranking(f"{len(rows)} BEST", ("log₂p", "tok", "score"), tuple(rows))
    return Ranking(f"{len(rows)} PATHS", ("answer", "tok", "log₂p/tok"), tuple(rows))


def _apart(texts: Sequence[str]) -> list[str]:
    """Texts from the word on with which the first of them parts from another."""
    low, high = min(texts), max(texts)  # what these begin with alike, all do
    alike = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    at = low[:alike].rfind(" ") + 1
    return [("…" if at else "") + " ".join(text[at:].split()) for text in texts]


def bits(nats: float) -> str:
    """A log-probability in bits; "" for none."""
    return f"{nats / LN2:.2f}".replace("-", "−") if math.isfinite(nats) else ""
