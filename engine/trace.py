"""What a run leaves behind: `Step` (one token), `Recipe` (how it was drawn), `Trace` (a run). Plain Python and numpy.

The screen, the files, evaluation and tests all read these. Every number was captured when its token was drawn; none
comes from a second run. Knows nothing of mlx, models or the screen.
"""

from dataclasses import dataclass, field

import numpy as np

from engine.transforms import Transform

CANDIDATES = 256
BINS = 64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Enough of one step's raw logits [V] to see it under other transforms without the model.

    The `CANDIDATES` most likely tokens are kept exactly, with the tokens that a penalty or a bias touches (their raw
    logits too); the rest only as a histogram over `edges`.
    """

    vocab: int
    ids: np.ndarray  # int32 [K], most likely first, then the touched ones that are not among them
    logits: np.ndarray  # float32 [K], raw
    lse: float  # nats: log-sum-exp of all V raw logits
    mean: float  # of all V raw logits
    variance: float
    edges: np.ndarray  # float32 [BINS + 1], ascending, raw logits
    counts: np.ndarray  # int32 [BINS]: tokens of the rest in each bin
    lses: np.ndarray  # float32 [BINS], nats: log-sum-exp of their logits (-inf for an empty bin)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How tokens are drawn: the transforms in the order they run. `greedy` takes the most likely token instead."""

    transforms: tuple[Transform, ...] = ()
    greedy: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One token: what the model said at its position, and what was drawn. Log-probabilities and entropies in nats.

    `logprob`, `entropy` and `rank` (1 is the most likely) are the model's own, before the transforms;
    `logprob_after`, `entropy_after` and `kept` (tokens left to draw from) after them. `origin` says whose choice it
    was. The first token of a text that nothing precedes has no distribution: its `logprob` is None.
    """

    token: int
    piece: bytes  # the token's own bytes
    text: str  # what became valid text with this token: "" inside a split character
    logprob: float | None
    logprob_after: float | None
    entropy: float | None
    entropy_after: float | None
    rank: int | None
    kept: int
    recipe: Recipe
    snapshot: Snapshot | None
    cut: np.ndarray | None  # int8 [K] beside snapshot.ids: index of the transform that removed it, -1 if it stayed
    position: int  # index in the model's context
    origin: str = "drawn"  # drawn | forced | given (prompt or prefilled text)
    special: bool = False  # a control token: not part of the text unless asked for
    elapsed_s: float = 0.0  # since the run began


@dataclass(frozen=True)
class Trace:
    """One run: what was asked, how it was drawn, and every step. Saved as JSONL: a header line, then a line a token."""

    model: str
    weights: str  # SHA-256 of the weights' fingerprint
    versions: dict[str, str]
    seed: int
    prompt: tuple[int, ...]
    steps: tuple[Step, ...]
    finish: str = ""  # stop | length | cancelled | eot
    meta: dict[str, str] = field(default_factory=dict)
