"""Places in a conversation: where words are said, on any branch, and where a person left a bookmark.

Plain data; a place is a node and a unit of it (a token of what was drawn, a character of what was written).
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.transcript import ShownMessage
from likely.engine.chat.conversation import Conversation, Message, Node, Segment
from likely.engine.sampling.trace.step import TokenStep

AROUND = 32  # characters of text shown on either side
MOST = 200


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A place and the words around it."""

    node: str
    unit: int
    who: str
    before: str
    words: str
    after: str
    here: bool  # on the branch that is checked out


def search(talk: Conversation, query: str) -> list[SearchHit]:
    """Where a text is said, letter case aside: first on the branch that is checked out, then on the others."""
    if not query.strip():
        return []
    pattern = re.compile(re.escape(query), re.IGNORECASE)
    return list(islice(_search(talk, pattern), MOST))


def _search(talk: Conversation, pattern: "re.Pattern[str]") -> Iterator[SearchHit]:
    for message in talk.messages():
        yield from _matches(pattern, message.segments, message.role, here=True)
    shown = {segment.node.id: segment.length for segment in talk.lineage()}
    for node in talk.nodes.values():
        for hit in _matches(pattern, (Segment(node, len(node)),), node.role, here=False):
            if hit.unit >= shown.get(node.id, 0) and not talk.hidden(node.id, hit.unit):
                yield hit


def marked(talk: Conversation, query: str = "") -> list[SearchHit]:
    """The bookmarks whose words, or the text around them, have `query` in them, in the order of the messages."""
    shown = {segment.node.id: segment.length for segment in talk.lineage()}
    order = {node: index for index, node in enumerate(talk.nodes)}
    hits = []
    for (id, unit), words in sorted(talk.marks.items(), key=lambda mark: (order[mark[0][0]], mark[0][1])):
        node = talk.nodes[id]
        if talk.hidden(id, unit):
            continue
        start, end = _span(node, unit)
        text = Segment(node, len(node)).text
        before, after = text[max(start - AROUND, 0) : start], text[end : end + AROUND]
        if query.lower() in f"{words} {before}{text[start:end]}{after}".lower():
            who = f"{words}: " if words else ""
            hits.append(SearchHit(id, unit, who, before, text[start:end], after, unit < shown.get(id, 0)))
    return hits


def on_screen(shown: Sequence[ShownMessage], node: str, unit: int) -> TokenPlace | None:
    """The token of the transcript at a place of the branch that is checked out; None where it is on another."""
    for index, shown_message in enumerate(shown):
        token = 0
        for segment in shown_message.message.segments:
            if segment.node.id == node and unit < segment.length:
                if segment.node.drawn:
                    return TokenPlace(index, token + unit)
                return TokenPlace(index, bisect_right(_ends([it.text for it in shown_message.block.tokens]), unit))
            token += segment.length
    return None


def of(message: Message, texts: Sequence[str], token: int) -> tuple[str, int]:
    """The place of a message's token, the message being shown as tokens of these texts."""
    for segment in message.segments[:-1]:
        if token < segment.length:
            return segment.node.id, token
        token -= segment.length
    last = message.segments[-1]
    return last.node.id, token if last.node.drawn else min(len("".join(texts[:token])), max(last.length - 1, 0))


def _matches(pattern: "re.Pattern[str]", segments: Sequence[Segment], who: str, *, here: bool) -> Iterator[SearchHit]:
    text = "".join(segment.text for segment in segments)
    starts = [0, *_ends([segment.text for segment in segments])]
    units: dict[int, list[int]] = {}  # where each unit of a segment ends, once it is asked for
    for match in pattern.finditer(text):
        start, end = match.span()
        index = bisect_right(starts, start) - 1
        segment, unit = segments[index], start - starts[index]
        if segment.node.drawn:
            if index not in units:
                units[index] = _ends(_texts(segment.steps))
            unit = bisect_right(units[index], unit)
        before, after = text[max(start - AROUND, 0) : start], text[end : end + AROUND]
        yield SearchHit(segment.node.id, unit, who, before, match[0], after, here)


def _span(node: Node, unit: int) -> tuple[int, int]:
    """The characters of a unit: a token's, or the word that begins there."""
    if not node.drawn:
        word = re.compile(r"\s*\S*").match(node.text, unit)
        return unit, word.end() if word is not None else unit + 1
    ends = [0, *_ends(_texts(node.steps[: unit + 1]))]
    return ends[-2], ends[-1]


def _texts(steps: Sequence[TokenStep]) -> list[str]:
    """The visible text of each token."""
    return ["" if step.special else step.text for step in steps]


def _ends(texts: Sequence[str]) -> list[int]:
    """Where each of several texts ends when they stand one after another."""
    return list(accumulate(map(len, texts)))
