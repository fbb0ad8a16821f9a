"""A comparison as data: where answers part, what is kept of them all."""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from likely.app.tui.base.text import cells
from likely.app.tui.chat.transcript import ShownMessage
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.sampling.trace.step import TokenStep


def divergence(first: Sequence[TokenStep], other: Sequence[TokenStep], start: int = 0) -> int | None:
    """The first place, from `start` on, at which two answers differ in their bytes; None while one begins the other."""
    for index in range(start, min(len(first), len(other))):
        if first[index].piece != other[index].piece:
            return index
    return None


Answers = Sequence[tuple[str, Sequence[ShownMessage]]]  # a column's label and its messages, the prompt first


def gathered(base: Conversation, answers: Answers, now: float) -> Conversation:
    """One conversation of all columns: their answers are siblings, the last one checked out; `base` gives the rest."""
    alone = replace(base, kind="chat", nodes={}, chosen={}, pruned=frozenset(), marks={}, title="")
    talk = replace(alone, id=secrets.token_hex(4), created=now, updated=now)
    question = Node(secrets.token_hex(6), Fork(), "user", text=answers[-1][1][0].message.text)
    talk = talk.add(question)
    for label, messages in answers:
        for shown in messages[1:]:
            answer = _answer(secrets.token_hex(6), Fork(question.id), label, shown)
            talk = talk.add(replace(answer, finish=answer.finish or "cancelled"))
    return talk


def updated(talk: Conversation, answers: Answers, now: float) -> Conversation:
    """A comparison with what its columns hold by now: answers that are there already have grown, others are added."""
    question = next(iter(talk.nodes.values()), None)
    if question is None:
        first = answers[0][1][0].message
        question = Node(first.last.id, Fork(), "user", text=first.text)
        title = talk.title or cells.fit(cells.clean(" ".join(first.text.split())), 60)
        talk = replace(talk.add(question), title=title)
    for label, messages in answers:
        for shown in messages[1:]:
            answer = _answer(shown.message.last.id, Fork(question.id), label, shown)
            known = talk.nodes.get(answer.id)
            if known is None:
                talk = talk.add(answer)
            elif not known.finish:
                fresh = answer.steps[len(known.steps) :]
                talk = talk.began(known.id, answer.prompt)
                talk = talk.extend(known.id, fresh, answer.finish, denoising=answer.denoising)
    return replace(talk, updated=now)


def put_away(talk: Conversation, answer: str) -> Conversation:
    """A comparison without the answer of a column that is gone, or has another one."""
    return talk.prune(talk.nodes[answer].fork, answer) if answer in talk.nodes else talk


def columns(talk: Conversation) -> list[Conversation]:
    """A kept comparison taken apart: for each answer a conversation that ends in it."""
    question = next(iter(talk.nodes.values()))
    answers = [talk.nodes[way] for way in talk.options(Fork(question.id)) if way is not None]
    alone = replace(talk, kind="chat", chosen={}, pruned=frozenset())
    return [
        replace(alone, nodes={question.id: question, answer.id: answer}, recipe=answer.steps[-1].recipe, order=())
        for answer in answers
        if answer.steps
    ]


def _answer(id: str, fork: Fork, label: str, shown: ShownMessage) -> Node:
    last = shown.message.last
    return Node(
        id, fork, "assistant", steps=tuple(shown.steps), seed=last.seed, finish=last.finish, label=label,
        model=last.model, prompt=shown.message.segments[0].node.prompt, denoising=last.denoising,
    )  # fmt: skip
