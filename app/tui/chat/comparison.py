"""A comparison as data: the ways of drawing that a column can take, where answers part, what is kept of them all."""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from app.tui.presets import Choice
from app.tui.tokens.transcript import ShownMessage
from engine.conversation import Conversation, Fork, Node
from engine.decode.guessing import Drafting
from engine.decode.strategies import offers
from engine.trace.trace import TokenStep


def strategies(models: Sequence[str]) -> list[Choice]:
    """The ways of finding tokens, for a list; `models` are loaded ones that could guess."""
    return [
        ("", "how tokens are found: the same ones, at another speed"),
        *((f"strategy {strategy}", f"  {strategy.TITLE:<15}{strategy.about}") for strategy in offers(tuple(models))),
        (Drafting.NAME, f"  {Drafting.TITLE + '…':<15}{Drafting.ABOUT}"),
    ]


def divergence(first: Sequence[TokenStep], other: Sequence[TokenStep], start: int = 0) -> int | None:
    """The first place, from `start` on, at which two answers differ in their bytes; None while one begins the other."""
    for index in range(start, min(len(first), len(other))):
        if first[index].piece != other[index].piece:
            return index
    return None


def gathered(base: Conversation, answers: Sequence[tuple[str, Sequence[ShownMessage]]], now: float) -> Conversation:
    """One conversation of all columns: their answers are siblings, the last one checked out.

    `answers` are a column's label and its messages, the prompt first; `base` gives the rest.
    """
    talk = replace(base, id=secrets.token_hex(4), nodes={}, chosen={}, created=now, updated=now, title="")
    asked = Node(secrets.token_hex(6), Fork(), "user", text=answers[-1][1][0].message.text)
    talk = talk.add(asked)
    for label, messages in answers:
        for shown in messages[1:]:
            last = shown.message.last
            answer = Node(
                secrets.token_hex(6), Fork(asked.id), "assistant", steps=tuple(shown.steps), seed=last.seed,
                finish=last.finish or "cancelled", label=label,
            )  # fmt: skip
            talk = talk.add(answer)
    return talk
