"""Limits of an answer: its seed, its length, and the texts that end it. Knows nothing of who asks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Which draw, and when it ends, at the latest where the context does."""

    seed: int
    max_tokens: int
    stop: tuple[str, ...]
