"""The root of every error a person can act on, and the one that kernels raise.

They stand in the lowest folder so that every folder can raise them; this module imports nothing of ours.
"""

from collections.abc import Iterable


class LikelyError(Exception):
    """Something a person can act on: one line that says what was expected, what came and what to do.

    `app` shows the line and exits with 1. Any other exception is a bug and keeps its traceback.
    """

    @property
    def lines(self) -> tuple[str, ...]:
        """Its text, a line for each thing to act on."""
        return (str(self),)


class KernelError(LikelyError):
    """A shape, dtype or size that a kernel does not support; names the argument, what was expected and what came."""


def nearest_names(name: str, known: Iterable[str], most: int = 1, likeness: float = 0.6) -> list[str]:
    """The names that may have been meant by a wrong one, best first."""
    from difflib import get_close_matches  # the imports of an error are not the start's

    return get_close_matches(name, list(known), most, likeness)
