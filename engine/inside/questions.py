"""Results of looks inside a model, as plain data: what the verb prints, a file holds and a page draws. No mlx.

`JSON`, where a result has it, names what is said of it in JSON, in order; "?" behind a name: left out where there is
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

PARTS = ("residual", "attention", "mlp", "heads")  # of which a patch can be


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """The text as the model reads it, of which the positions from `first` on are looked at, and the model's shape."""

    ids: tuple[int, ...]
    first: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    width: int
    tied: bool
    tuned: bool  # a tuned lens is kept for it


# -- layers and heads --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """The lens after a layer, at N positions from `start` on: arrays [N]; of all layers [layers + 1, N],
    where 0 is the embedding and the last the model's own distribution."""

    JSON: ClassVar = ("top", "p", "kl", "rank", "said", "decided")

    top: np.ndarray  # int32, the most likely token
    p: np.ndarray  # float32, its probability
    kl: np.ndarray  # float32, KL(final || this layer) in nats
    rank: np.ndarray  # int32, of the final layer's token: 1 is the most likely
    best: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int32))  # [..., k], the k most likely tokens
    shares: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # [..., k], their probabilities
    said: np.ndarray = field(
        default_factory=lambda: np.zeros((0, 0), np.int32)
    )  # rank of the text's next token; at its
    start: int = 0  # end, of the final layer's

    @property
    def decided(self) -> np.ndarray:
        """The layer from which the most likely token stays what it is at last, int [N]."""
        return decided(self.top)


def decided(top: np.ndarray) -> np.ndarray:
    """The row from which tokens [rows, N] stay what they are at last, int [N]."""
    stays = np.flip(np.minimum.accumulate(np.flip(top == top[-1], axis=0), axis=0), axis=0)
    return np.asarray(np.argmax(stays, axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class HeadScores:
    """Scores of each head's kind: float32 [layers, H]. All but `distance` and `entropy` lie between 0 and 1."""

    previous: np.ndarray  # mean attention to the token before
    duplicate: np.ndarray  # ... to the same token, earlier
    induction: np.ndarray  # ... to what followed the same token, earlier
    first: np.ndarray  # ... to the first token
    distance: np.ndarray  # how far back it reads, mean, in tokens
    entropy: np.ndarray  # mean, nats

    KINDS: ClassVar = ("induction", "duplicate", "previous", "first")

    def __getitem__(self, name: str) -> np.ndarray:
        """A score by its name."""
        score: np.ndarray = getattr(self, name)
        return score

    def kind(self, layer: int, head: int, least: float = 0.5) -> str:
        """The kind of the head, "" where no score reaches `least`."""
        kind = max(self.KINDS, key=lambda name: float(self[name][layer, head]))
        return kind if self[kind][layer, head] >= least else ""


# -- causes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The addends of a logit after the last position; with `against`, of its difference to that token's."""

    JSON: ClassVar = ("embedding", "attention", "heads", "mlp", "bias", "sum", "logit", "token", "against?")

    token: int
    against: int | None
    embedding: float
    heads: np.ndarray  # float32 [layers, H]
    mlp: np.ndarray  # float32 [layers], each with the bias of its own
    bias: float  # of the products after attention, of the last norm and of the head; and what steers the model
    logit: float  # by the model

    @property
    def attention(self) -> np.ndarray:
        """Contribution of all heads of each layer, [layers]."""
        return np.asarray(self.heads.sum(axis=1))

    @property
    def sum(self) -> float:
        """The sum of the addends: `logit`, up to rounding."""
        return float(self.embedding + self.heads.sum(dtype=np.float64) + self.mlp.sum(dtype=np.float64) + self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class Importance:
    """For each of T tokens, what the next token's log-probability owes to it, nats: positive where it helped."""

    JSON: ClassVar = ("token", "logprob", "left_out", "gradient", "agreement")

    token: int
    logprob: float  # after the whole prompt
    left_out: np.ndarray  # float32 [T], logprob - logprob without the token
    gradient: np.ndarray  # float32 [T], gradient x input

    @property
    def agreement(self) -> float | None:
        """Spearman's rank correlation of the two; None where one does not vary."""
        a, b = (np.argsort(np.argsort(x)).astype(float) for x in (self.left_out, self.gradient))
        flat = np.ptp(self.left_out) == 0 or np.ptp(self.gradient) == 0
        return None if flat else float(np.corrcoef(a, b)[0, 1])


@dataclass(frozen=True, slots=True)
class Ablation:
    """The logit of `token` after the text: by the intact model, and how much it changes without the head."""

    logit: float
    effect: float  # ablated minus intact
    token: int


@dataclass(frozen=True, slots=True, eq=False)
class LayerPass:
    """One layer taken apart at the last of T tokens, float32: one head, the MLP, and the sum that both add to.

    Without the head (`silent`) its output is 0 at every position, and all that follows is of that.
    """

    POINTS: ClassVar = ("embedding", "x in", "+ attn", "x out", "the end")

    ids: tuple[int, ...]  # [T]
    layer: int
    head: int
    silent: bool
    scale: float  # of q·k
    query: np.ndarray  # [D]
    keys: np.ndarray  # [T, D]
    values: np.ndarray  # [T, D]
    scores: np.ndarray  # [T], scale q·k; -inf where it does not look
    weights: np.ndarray  # [T], their softmax
    mixed: np.ndarray  # [D], the values by their weights
    says: tuple[int, ...]  # tokens that its addition speaks for most
    attention: np.ndarray  # [C], what all heads add
    neurons: np.ndarray  # [F]; none of a mixture of experts
    mlp: np.ndarray  # [C], what the MLP adds
    states: np.ndarray  # [5, C], the residual stream at each of POINTS
    target: int
    best: np.ndarray  # int32 [5, k], the likeliest tokens, had the model ended there
    shares: np.ndarray  # [5, k], their probabilities
    rank: np.ndarray  # int32 [5], of the target; 1 is the likeliest
    logp: np.ndarray  # [5], of the target, nats


@dataclass(frozen=True, slots=True, eq=False)
class Patching:
    """Effects of patches: of the logit difference answer - foil, the share that a patch brings back, [layers, T], or
    of heads [layers, H].

    0 is what the corrupted text says, 1 what the clean one says.
    """

    JSON: ClassVar = ("part", "answer", "foil", "clean", "corrupted", "effects", "estimates", "correlation")

    part: str
    ids: tuple[int, ...]  # of the corrupted text
    answer: int
    foil: int
    clean: float  # the difference of logits
    corrupted: float
    effects: np.ndarray  # float32
    estimates: np.ndarray  # by attribution patching

    @property
    def correlation(self) -> float | None:
        """Pearson's r between the estimates and the true effects."""
        if self.effects.std() == 0 or self.estimates.std() == 0:
            return None
        return float(np.corrcoef(self.effects.ravel(), self.estimates.ravel())[0, 1])


# -- embeddings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A token and its cosine."""

    id: int
    cosine: float


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The nearest tokens to a token, the mean row taken off; `raw` are their cosines by the rows as they are."""

    nearest: Sequence[Neighbour]
    raw: tuple[float, ...]
    median: float  # of all others
    below: float  # 99 % of all others are


@dataclass(frozen=True, slots=True)
class WordSum:
    """The nearest tokens to a sum, its own words left out, and with them; how often such sums come out."""

    plus: Sequence[int]
    minus: Sequence[int]
    left_out: Sequence[Neighbour]
    kept: Sequence[Neighbour]
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of a relation's sums that give the word that is right: with the inputs among the answers, and without."""

    name: str
    sums: int
    kept: float
    left_out: float
    interval: tuple[float, float]  # of the latter, 95 %, by pair


@dataclass(frozen=True, slots=True, eq=False)
class WordMap:
    """Two directions of a table: all tokens [V, 2], the families' words, the share of their variance that is kept."""

    points: np.ndarray
    kept: float
    families: tuple[tuple[str, tuple[int, ...]], ...]
    norms: np.ndarray  # [V]
    cosine: float  # of two tokens, mean
    relations: Sequence[Accuracy]


# -- tokens ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write a text: its ids, and the log-probability of all of them after what precedes, nats."""

    ids: tuple[int, ...]
    logprob: float
    own: bool  # the tokenizer's


@dataclass(frozen=True, slots=True)
class Tokenisation:
    """The ways that were scored, the most likely first."""

    JSON: ClassVar = ("spellings", "logprob", "complete")

    spellings: tuple[Spelling, ...]
    complete: bool  # whether there are no others

    @property
    def own(self) -> Spelling:
        return next(spelling for spelling in self.spellings if spelling.own)

    @property
    def logprob(self) -> float:
        """Of the text by all of them, nats: a lower bound where they are not complete."""
        return float(np.logaddexp.reduce([spelling.logprob for spelling in self.spellings]))


@dataclass(frozen=True, slots=True)
class WordSpellings:
    """A word's merges, the pieces after each, and its tokenisations; or why there are none."""

    merges: Sequence[tuple[bytes, ...]]
    ways: Tokenisation | None = None
    refused: str = ""
