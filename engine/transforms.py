"""Placeholder until the transforms land."""

from typing import Protocol


class Transform(Protocol):
    """One change of the logits before the draw."""
