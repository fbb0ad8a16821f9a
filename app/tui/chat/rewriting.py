"""Rewriting of an answer: what a person says in its place, until the model has measured it."""

from dataclasses import dataclass

from likely.engine.chat.conversation import Fork


@dataclass(frozen=True, slots=True)
class Rewriting:
    """An answer that a person writes anew: where its branch leaves, and `whole`, where it would without the tokens
    that stay."""

    fork: Fork
    joins: bool
    text: str
    whole: Fork
    go_on: bool
