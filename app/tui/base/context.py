"""Prompts of a conversation: for each of its places, the turns and parts that stand before it."""

from collections.abc import Callable, Sequence

from likely.engine.base.files.foreign_json import parse
from likely.engine.chat.conversation import ROOT, Conversation, Fork
from likely.engine.decode.prompt import Prompt, Turn
from likely.engine.sampling.thinking import answer_tokens

Opens = Callable[[Sequence[int]], bool]


def never(prompt: Sequence[int]) -> bool:
    """Whether a prompt ends within a thought, where nobody knows its tokens."""
    return False


def before(conversation: Conversation, fork: Fork, opens: Opens = never) -> Prompt:
    """The prompt that stands before a fork: the turns, and of an answer or text that it leaves, the words or the very
    tokens. `opens` says of a prompt whether it ends within a thought."""
    parts: list[str | tuple[int, ...]] = []
    while fork.node != ROOT and conversation.nodes[fork.node].role not in ("user", "tool"):
        node = conversation.nodes[fork.node]
        own = node.text[: fork.at] if not node.drawn else tuple(step.token for step in node.steps[: fork.at])
        parts.insert(0, own)
        fork = node.fork
        if not node.joins:
            break
    return Prompt(turns(conversation, fork, opens), tuple(part for part in parts if part))


def turns(conversation: Conversation, fork: Fork, opens: Opens = never) -> tuple[Turn, ...]:
    """Who said what before a fork, the system prompt first. What the model thought before it answered is not
    said: no model is trained to read its earlier thoughts, and not every template drops them. An answer that called
    tools and their results are the turns that the results' node was labelled with."""
    messages: list[Turn] = []
    called = False  # the turn before is one of those
    parts: list[tuple[str, str]] = []  # of a message: what a token is written as, and what of it is text
    while fork.node != ROOT:
        node = conversation.nodes[fork.node]
        own = [(step.written, "" if step.special else step.text)
               for step in node.steps[: fork.at]] if node.drawn else [(node.text[: fork.at],) * 2]  # fmt: skip
        parts = [*own, *parts]
        if not node.joins and node.role == "tool" and (known := _called(node.label)):
            messages[:0] = known
            parts, called = [], True
        elif not node.joins and called:
            parts, called = [], False
        elif not node.joins:
            role = "user" if node.role == "tool" else node.role
            if node.role == "assistant":
                parts = [parts[i] for i in answer_tokens([piece for piece, _ in parts], opens(node.prompt)) or ()]
            messages.insert(0, (role, "".join(text for _, text in parts)))
            parts = []
        fork = node.fork
    if conversation.system:
        messages.insert(0, ("system", conversation.system))
    return tuple(messages)


def _called(label: str) -> list[Turn]:
    """The turns that stand for an answer's calls and their results; none where a file from elsewhere does not say."""
    try:
        found = parse(label, [{"role": str, "content": str}])
    except ValueError:
        return []
    return list(found)
