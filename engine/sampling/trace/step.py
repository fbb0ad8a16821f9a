"""Record of a token: `TokenStep`, and `SamplingConfig`, under which it was drawn. Plain Python and numpy.

The screen, the files, evaluation and tests all read these. Every number was captured when its token was drawn; none
comes from a second run. Knows nothing of mlx, models, files or the screen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Annotated

import numpy as np

from likely.engine.sampling.transforms import Snapshot, Transform


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How tokens are drawn: the transforms in the order they run. `greedy` takes the most likely token instead.

    `adapters` are those on the model then, directions that steer it among them: `NAME=WEIGHT` and a hash of its files.
    """

    transforms: tuple[Transform, ...] = ()
    greedy: bool = False
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Json:
    """That `--json` prints a field, under which key (its name), whether it is of the draw, in which unit."""

    key: str = ""
    drawn: bool = False
    unit: str = ""


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One token: what the model said at its position, and what was drawn. Log-probabilities and entropies in nats.

    `logprob`, `entropy` and `rank` (1 is the most likely) are the model's own, before the transforms;
    `logprob_after`, `entropy_after` and `kept` (tokens left to draw from) after them. `origin` says whose choice it
    was. The first token of a text that nothing precedes has no distribution: its `logprob` is None.
    Where two distributions were combined (contrast, DoLa, guidance), `logprob_combined` is the token's log-probability
    in the combination, before the transforms; the snapshot and the transforms are of the combination. None elsewhere.
    `logprob_allowed` is of all tokens together that a constraint allowed there, before the transforms; None without
    one. Its sum over the tokens drawn is an importance weight (`engine.decode.resampling`). `precision` says how these
    numbers were computed (`models.native.precision`); "" for a step that was written before it was there.

    `engine.trace.fields` reads from here what files, databases and `--json` hold of a step.
    """

    token: Annotated[int, Json("id")]
    piece: Annotated[bytes, Json("bytes")]  # the token's own bytes
    text: Annotated[str, Json()]  # what became valid text with this token: "" inside a split character
    logprob: Annotated[float | None, Json(unit="nats")]
    logprob_after: Annotated[float | None, Json(drawn=True, unit="nats")]
    entropy: Annotated[float | None, Json(unit="nats")]
    entropy_after: Annotated[float | None, Json(drawn=True, unit="nats")]
    rank: Annotated[int | None, Json()]
    kept: Annotated[int, Json(drawn=True)]
    recipe: SamplingConfig
    snapshot: Snapshot | None
    removed_by: (
        np.ndarray | None
    )  # int8 [K] beside snapshot.ids: index of the transform that removed it, -1 if it stayed
    position: int  # index in the model's context
    origin: Annotated[str, Json(drawn=True)] = "drawn"  # drawn | forced | given (prompt or prefilled text)
    special: bool = False  # a control token: not part of the text unless asked for
    elapsed_s: float = 0.0  # since the run began
    logprob_allowed: Annotated[float | None, Json(drawn=True, unit="nats")] = None
    logprob_combined: Annotated[float | None, Json(drawn=True, unit="nats")] = None
    precision: Annotated[str, Json()] = ""

    def told(self, piece: bytes, text: str, *, special: bool, elapsed_s: float, precision: str = "") -> "TokenStep":
        """The step with what its token stands for, and its precision, where that is given; `dataclasses.replace` takes
        twice as long, for every token."""
        values = list(_VALUES(self))
        values[_PIECE], values[_TEXT], values[_SPECIAL], values[_ELAPSED] = piece, text, special, elapsed_s
        values[_PRECISION] = precision or self.precision
        return TokenStep(*values)

    @property
    def written(self) -> str:
        """Its text; a control token's name."""
        return self.piece.decode(errors="replace") if self.special else self.text


_NAMES = tuple(each.name for each in fields(TokenStep))
_VALUES = attrgetter(*_NAMES)
_PIECE, _TEXT, _SPECIAL, _ELAPSED, _PRECISION = map(
    _NAMES.index, ("piece", "text", "special", "elapsed_s", "precision")
)


def unmeasured(token: int, position: int = 0) -> TokenStep:
    """A token that stands in a text and of which no distribution is known."""
    return TokenStep(
        token, b"", "", None, None, None, None, None, 0, SamplingConfig(), None, None, position, origin="given"
    )


@dataclass(frozen=True)
class TokenStrings:
    """Pieces of the tokens of a trace, as much as a trace knows; the `Vocabulary` that transforms ask."""

    pieces: Mapping[int, bytes] = field(default_factory=dict)
    eos: frozenset[int] = frozenset()

    def piece(self, token: int) -> bytes:
        """The token's bytes; none where the trace does not know them."""
        return self.pieces.get(token, b"")

    def encode(self, text: str) -> list[int]:
        """The token that is all of `text`, where there is one."""
        return [token for token, piece in self.pieces.items() if piece == text.encode()][:1]
