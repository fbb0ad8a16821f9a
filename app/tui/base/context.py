"""Prompts of a conversation: for each of its places, the turns and parts that stand before it."""

from likely.engine.conversation import ROOT, Conversation, Fork
from likely.engine.prompt import Prompt


def before(conversation: Conversation, fork: Fork) -> Prompt:
    """The prompt that stands before a fork: the turns, and of an answer or text that it leaves, the words or the very
    tokens."""
    parts: list[str | tuple[int, ...]] = []
    while fork.node != ROOT and conversation.nodes[fork.node].role != "user":
        node = conversation.nodes[fork.node]
        own = node.text[: fork.at] if not node.drawn else tuple(step.token for step in node.steps[: fork.at])
        parts.insert(0, own)
        fork = node.fork
        if not node.joins:
            break
    return Prompt(turns(conversation, fork), tuple(part for part in parts if part))


def turns(conversation: Conversation, fork: Fork) -> tuple[tuple[str, str], ...]:
    """Who said what before a fork, the system prompt first."""
    messages: list[tuple[str, str]] = []
    suffix = ""
    while fork.node != ROOT:
        node = conversation.nodes[fork.node]
        drawn = "".join(step.text for step in node.steps[: fork.at] if not step.special)
        text = drawn if node.drawn else node.text[: fork.at]
        suffix = text + suffix
        if not node.joins:
            messages.insert(0, (node.role, suffix))
            suffix = ""
        fork = node.fork
    if conversation.system:
        messages.insert(0, ("system", conversation.system))
    return tuple(messages)
