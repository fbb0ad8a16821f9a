"""Limits of an answer: its seed, its length, and the texts that end it. Knows nothing of who asks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The seed of an answer, its length in tokens (at most the context's), and the texts that end it."""

    seed: int
    max_tokens: int
    stop: tuple[str, ...]
