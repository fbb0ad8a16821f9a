"""Choice of a search at a place, as a table for the panel: which next tokens went on, and how they ranked then.

From the conversation alone, where all that a search ever held is a branch, given up or not. Σ log p is the model's own:
what a bias moved is not in it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from likely.app.tui.base.theme import GLYPHS, Glyphs
from likely.app.tui.chat import tallies
from likely.app.tui.chat.candidates import BANNED, CandidateTable, Names
from likely.app.tui.chat.inspecting.ranking import bits
from likely.app.tui.chat.live_run import PRUNED
from likely.app.tui.chat.tallies import AnswerSums
from likely.engine.chat.conversation import Conversation, Fork, Message
from likely.engine.decode.searches.beam import Beam, DiverseBeam
from likely.engine.decode.searches.search import Search, SearchNode

SEARCH = "the search"  # what has cut a token that did not go on


@dataclass(frozen=True, slots=True)
class SearchChoice:
    """Outcome of a place behind `length` of a search's tokens, of `total` nats: of each token that went on, its
    rank among all texts of that step, those that had ended too; 0 where more than log p orders them."""

    total: float
    length: int
    ranks: Mapping[int, int]
    ends: bool  # a text that ends there waits, its end not told yet


@dataclass(frozen=True, slots=True)
class SearchTable(CandidateTable):
    """The candidate table's place: a bar for what went on, a tick for what did not."""

    total: float = 0.0
    HEADS: ClassVar[tuple[str, ...]] = ("raw %", "Σ log₂p", "then rank")
    BAR: ClassVar[tuple[str, str]] = ("went on", "raw")

    def summary(self, glyphs: Glyphs) -> str:
        return f"{self.kept[0]:,.0f} of {self.vocab:,} went on {glyphs.dot} {100 * self.mass[0]:.0f} % of the raw mass"


def choice(talk: Conversation, message: Message, token: int) -> SearchChoice | None:
    """Of the place before a token of a message, by the search that drew that; None where none did, and for a
    token that is not kept yet."""
    like, at = message.last, token
    how = tallies.strategy_of(like.label) if like.label else None
    if not isinstance(how, Search):
        return None
    *before, last = message.segments
    segment = last
    for part in before:
        if at < part.length:
            segment = part
            break
        at -= part.length
    if at >= len(talk.nodes[segment.node.id].steps):
        return None
    fork = talk.canonical(Fork(segment.node.id, at))
    sums = AnswerSums(talk)
    start = sums.before(tallies.chain(talk, like)[0].id)[1]
    drawn = [node for node in talk.nodes.values() if (node.label, node.seed) == (like.label, like.seed)]
    total, depth = sums.of(fork) if talk.nodes[fork.node].role == "assistant" else (0.0, start)
    held: list[tuple[float, int | None]] = []  # the scores of all texts of the step, and the token of those from here
    ends = False
    for node in drawn:
        begun, first = sums.before(node.id)[1], node.fork == fork
        at = depth - begun
        ends = ends or (first and not node.steps and node.finish != PRUNED)
        if 0 <= at < len(node.steps):
            here = first or (node.id == fork.node and at == fork.at)
            place, length = Fork(node.id, at + 1), depth + 1 - start
        elif at >= len(node.steps) and node.finish and node.finish != PRUNED:
            here, place, length = False, Fork(node.id), begun + len(node.steps) - start
        else:
            continue
        p = sums.of(place)[0]
        score = how.score(SearchNode(p, p, 0, -1), max(length, 1))
        held.append((score, node.steps[at].token if here else None))
    ranked = isinstance(how, Beam) and not isinstance(how, DiverseBeam)
    held.sort(key=lambda one: -one[0])
    ranks = {token: rank * ranked for rank, (_, token) in enumerate(held, 1) if token is not None}
    return SearchChoice(total, depth - start, ranks, ends) if ranks else None


def table(shown: CandidateTable, picked: SearchChoice, names: Names) -> SearchTable:
    """The table of a token as what the search made of its place."""
    rows = []
    for row in shown.rows:
        total = bits(picked.total + math.log(row.before)) if row.before > 0 else ""
        rank = picked.ranks.get(row.token)
        if rank is None and picked.ends and row.token in names.eos:
            rank = 0
        if rank is None:
            cut = BANNED if row.removed_by == BANNED else SEARCH
            rows.append(replace(row, removed_by=cut, more=(total, GLYPHS.lift)))
        else:
            rows.append(replace(row, after=row.before, removed_by="", more=(total, str(rank) if rank else "kept")))
    on = [row for row in rows if not row.removed_by]
    mass, cut_by = sum(row.before for row in on), SEARCH if len(on) < len(rows) else ""
    count = max(len(picked.ranks), len(on))
    numbers = f"step {picked.length + 1}  {shown.numbers}"
    return SearchTable(
        "NEXT", shown.name, numbers, tuple(rows), shown.vocab, (count, count), (mass, mass), cut_by, True, shown.live,
        picked.total,
    )  # fmt: skip
