"""The processes that run one thing together: how they meet, what they agree on, and that none outlives another.

A launcher (`mlx.launch`) starts the program once a rank, and what it says in the environment is the only switch
(`launch`). Arrays go through `mx.distributed`, by the backend that the launcher chose. Beside it the ranks hold each
other by sockets, in a line from rank to rank (`link`): plain values go along it (a token, a line of a chat), and it
says when a process has ended, which a collective does not: it waits (`together`). Knows no model.

A process alone, which is nearly every one, imports no more than this.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.ranks.together import Ranks

_joined: "Ranks | None" = None


def joined() -> "Ranks | None":
    """The ranks that this process has met (`together.join`); None if it is alone."""
    return _joined
