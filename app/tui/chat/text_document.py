"""A text that is written and drawn by turns, as a tree: what was changed leaves a branch, nothing is lost.

Plain Python: where a new text parts from the lineage.
"""

from collections.abc import Callable

from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.sampling.trace.step import TokenStep


def text_of(talk: Conversation) -> str:
    """The text that is checked out."""
    return "".join(segment.text for segment in talk.lineage())


def divide(talk: Conversation, text: str) -> tuple[Fork, str]:
    """Where `text` parts from the lineage, and the rest of it. A drawn segment is left between two tokens only."""
    fork, rest = Fork(), text
    for segment in talk.lineage():
        node = segment.node
        if not node.drawn:
            common = _common(segment.text, rest)
            fork, rest = talk.canonical(Fork(node.id, common)), rest[common:]
            if common < segment.length:
                return fork, rest
            continue
        for index, step in enumerate(segment.steps):
            shown = "" if step.special else step.text
            if not rest.startswith(shown) or (not rest and shown):
                return talk.canonical(Fork(node.id, index)), rest
            rest = rest[len(shown) :]
        fork = talk.canonical(Fork(node.id, segment.length))
    return fork, rest


def commit(talk: Conversation, text: str, new_id: Callable[[], str]) -> tuple[Conversation, Fork]:
    """The conversation with `text` as what is checked out, and the fork at its end."""
    fork, rest = divide(talk, text)
    if rest:
        node = Node(new_id(), fork, "text", text=rest, joins=True)
        talk = talk.add(node)
        return talk, Fork(node.id)
    return talk, fork


def spans(steps: tuple[TokenStep, ...] | list[TokenStep]) -> list[tuple[int, int]]:
    """The characters of a text that each of its tokens covers, half-open; one inside a character covers nothing."""
    bounds, at = [], 0
    for step in steps:
        size = 0 if step.special else len(step.text)
        bounds.append((at, at + size))
        at += size
    return bounds


def _common(a: str, b: str) -> int:
    size = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        size += 1
    return size
