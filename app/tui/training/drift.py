"""Drift of a model in training, for the screen: bars before and now, heat along a text. Plain data.

A token of a text is tinted by how far the distribution that it was predicted from has moved, so that this heat lies on
the tokens that their surprisal would lie on.
"""

import codecs
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from likely.app.tui.base.text.block import MessageBlock, ShownToken
from likely.app.tui.base.theme import Glyphs
from likely.app.tui.chat.candidates import LN2, Candidate, CandidateTable, Names
from likely.app.words.heat import moved_level
from likely.engine.base.statistics.difference import Difference, Position, Shift
from likely.engine.train.control import Compared, TrainingPlan

SHOWN = 10  # candidates of a place
NEXT = " …"  # stands for the token that would come after the text


@dataclass(frozen=True, slots=True)
class Moves(CandidateTable):
    """The candidate table of a place: the tick is the base's probability, the bar the present one."""

    words: str = ""
    HEADS: ClassVar[tuple[str, ...]] = ("base %", "now %")
    BAR: ClassVar[tuple[str, str]] = ("now", "base")

    def share(self, row: Candidate) -> float:
        return row.after or 0.0

    def summary(self, glyphs: Glyphs) -> str:
        return self.words


def _moves(
    title: str, name: str, numbers: str, rows: tuple[Candidate, ...] = (), *, live: bool, words: str = ""
) -> Moves:
    """A table of which nothing is cut."""
    return Moves(title, name, numbers, rows, 0, (0, 0), (0.0, 0.0), "", True, live, words)


NOTHING = _moves("NEXT", "", "", live=False)


def view(difference: Difference, index: int, names: Names, *, live: bool = True) -> Moves:
    """The distribution that the token `index` of a text was predicted from; the one past the end is yet to come."""
    positions = difference.positions
    token = positions[index].token if index < len(positions) else None
    title, name = ("NEXT", "") if token is None else ("TOKEN", names.name(token))
    if index < 1:
        return _moves(title, name, "nothing before it", live=live)
    place = positions[index - 1]
    rows = tuple(
        Candidate(s.token, names.name(s.token), math.exp(s.before), math.exp(s.now), chosen=s.token == token)
        for s in _shown(place)
    )
    before, now = (nats / LN2 for nats in place.entropy)
    words = f"entropy {before:.1f} → {now:.1f} bits"
    return _moves(title, name, f"KL {place.kl / LN2:.3f} bits", rows, live=live, words=words)


def _shown(place: Position) -> list[Shift]:
    """The tokens that were or are the most likely, by their probability now."""
    first = sorted(place.likely, key=lambda s: -max(s.before, s.now))[:SHOWN]
    return sorted(first, key=lambda s: (-s.now, -s.before))


def block(compared: Compared, names: Names, who: str) -> MessageBlock:
    """A text, its tokens tinted by the KL of the distributions that they were predicted from."""
    positions = compared.difference.positions
    note = f"mean KL {compared.difference.kl / LN2:.3f} bits · step {compared.step:,}"
    texts = [*text([place.token for place in positions], names), NEXT]
    levels = [0, *(moved_level(place.kl) for place in positions)]
    message = MessageBlock(who, who, note, scored=True)
    message.extend(ShownToken(words, level) for words, level in zip(texts, levels, strict=True))
    return message


def row(plan: TrainingPlan) -> MessageBlock:
    """One row of the data as the model sees it, the tokens that it is trained on tinted."""
    trained = sum(target for _, target in plan.row)
    message = MessageBlock(
        "row", "row", f"as the model sees it · {trained} of {len(plan.row)} tokens are trained: tinted"
    )
    message.scored = message.specials = True
    texts = text([token for token, _ in plan.row], Names(plan.vocabulary))
    message.extend(ShownToken(words, 3 if target else 0) for words, (_, target) in zip(texts, plan.row, strict=True))
    return message


def text(tokens: Sequence[int], names: Names) -> list[str]:
    """The text that became valid with each token: "" inside a character that several tokens share."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    strings = [decoder.decode(names.piece(token)) for token in tokens]
    if strings:
        strings[-1] += decoder.decode(b"", final=True)
    return strings
