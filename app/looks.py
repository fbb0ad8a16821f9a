"""Looks into a model and what is found, as plain data: what the inside view asks for and gets. No mlx.

A look is a part of one `Inside` request on one text. Whoever asked knows which look an answer is for.
"""

from dataclasses import dataclass

import numpy as np

from likely.engine.prompt import Prompt

# -- what is asked for -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenLook:
    """The text as the model reads it, and the model's shape: `InspectedModel`."""


@dataclass(frozen=True, slots=True)
class LensLook:
    """The lens, first at the positions `start`..`stop`, then at the others: `LensPart` after `LensPart`."""

    start: int
    stop: int
    tuned: bool = False
    known: tuple[int, ...] = ()  # positions that are left out


@dataclass(frozen=True, slots=True)
class PatternLook:
    """The heads of one layer, and what each reads: `Pattern`."""

    layer: int


@dataclass(frozen=True, slots=True)
class KindsLook:
    """The kind of each head, on random tokens that come twice: `Kinds`. Says nothing of the text."""


@dataclass(frozen=True, slots=True)
class RolloutLook:
    """Attention through all layers, mean heads: `Rollout`."""


@dataclass(frozen=True, slots=True)
class MapLook:
    """The plane of the families' words, all tokens on it, and how often relations come out: `WordMap`."""

    table: str = "input"


@dataclass(frozen=True, slots=True)
class NearLook:
    """The nearest tokens to a token, or to a sum: `NearestTokens`. Says nothing of the text, which may be none."""

    plus: tuple[int, ...]
    minus: tuple[int, ...] = ()
    table: str = "input"


@dataclass(frozen=True, slots=True)
class AttributionLook:
    """Which part wrote how much of the logit after a position: `LogitAddends`."""

    position: int
    against: int | None = None


@dataclass(frozen=True, slots=True)
class WhyLook:
    """Why a token comes after the text rather than its foil: `engine.inside.why.Why`, then an `Omission` for each
    earlier word, then `WhyEnded`. The favourite other token is the foil if none is named."""

    target: int
    foil: int | None = None


@dataclass(frozen=True, slots=True)
class ImportanceLook:
    """Which tokens up to a position mattered for what comes next: `TokenImportance`."""

    position: int


@dataclass(frozen=True, slots=True)
class AblationLook:
    """The logit after a position without one head: `HeadAblation`."""

    position: int
    layer: int
    head: int


@dataclass(frozen=True, slots=True)
class PatchLook:
    """Patches of another prompt's activations, up to a position: `PatchEffects`."""

    position: int
    corrupted: Prompt
    part: str = "residual"


@dataclass(frozen=True, slots=True)
class SpellingsLook:
    """The merges that made a word, and its other tokenisations: `WordSpellings`. The word is ids `start`..`stop`."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ShiftLook:
    """How far the adapters on the model move what comes next, along the end of the text: `AdapterShift`."""


@dataclass(frozen=True, slots=True)
class DoubtLook:
    """Uncertainty of what follows the text, over samples of the posterior of an adapter, with these candidates:
    `DoubtPart`s while all of them read, then `Doubt`."""

    tokens: tuple[int, ...]


Look = (
    OpenLook
    | LensLook
    | PatternLook
    | KindsLook
    | RolloutLook
    | MapLook
    | NearLook
    | AttributionLook
    | WhyLook
    | ImportanceLook
    | AblationLook
    | PatchLook
    | SpellingsLook
    | ShiftLook
    | DoubtLook
)


def answered(look: Look) -> Look:
    """The question of a look: the same for the lens of one kind, wherever it begins."""
    return LensLook(0, 0, look.tuned) if isinstance(look, LensLook) else look


# -- what is found ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WhyEnded:
    """The end of an answer to a `WhyLook`: every word was left out that is to be."""


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


@dataclass(frozen=True, eq=False, slots=True)
class LensPart:
    """The lens at the positions from `start` on, [layers + 1, n]; `best` and `shares` [layers + 1, n, k]."""

    start: int
    top: np.ndarray
    p: np.ndarray
    kl: np.ndarray  # nats
    rank: np.ndarray
    best: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Pattern:
    """Weights of a layer's heads, [H, N, T]: rows are the positions from `first` on."""

    layer: int
    weights: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Kinds:
    """Scores by name, [layers, H]."""

    scores: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, slots=True)
class Rollout:
    """Attention through all layers, [N, T]."""

    weights: np.ndarray


@dataclass(frozen=True, slots=True)
class RelationRow:
    """A relation's sums that come out: shares with the inputs among the answers and without, and the half interval."""

    name: str
    sums: int
    kept: float
    left_out: float
    half: float  # of the 95 % interval of `left_out`, by pair


@dataclass(frozen=True, eq=False, slots=True)
class WordMap:
    """Two directions of a table: all tokens [V, 2], the families' words, the share of their variance that is kept."""

    points: np.ndarray
    kept: float
    families: tuple[tuple[str, tuple[int, ...]], ...]
    norms: np.ndarray  # [V]
    cosine: float  # of two tokens, mean
    relations: tuple[RelationRow, ...]


@dataclass(frozen=True, slots=True)
class NearestTokens:
    """The nearest tokens with their cosines, the mean taken off; of a sum, also with its inputs among them. Of a token
    also `raw`, the cosines of the rows as they are."""

    found: tuple[tuple[int, float], ...]
    inputs: tuple[tuple[int, float], ...] = ()
    raw: tuple[float, ...] = ()
    median: float = 0.0
    below: float = 0.0  # 99 % of all others are


@dataclass(frozen=True, eq=False, slots=True)
class LogitAddends:
    """Addends of a logit: `heads` [layers, H], `mlp` [layers]."""

    token: int
    embedding: float
    heads: np.ndarray
    mlp: np.ndarray
    bias: float
    total: float
    logit: float


@dataclass(frozen=True, eq=False, slots=True)
class TokenImportance:
    """Nats of the next token's log-probability that each token up to a position brings, [T]."""

    token: int
    left_out: np.ndarray
    agreement: float | None  # with the ranks by gradient


@dataclass(frozen=True, slots=True)
class HeadAblation:
    """The logit of the intact model's token, and its change without the head."""

    token: int
    logit: float
    effect: float


@dataclass(frozen=True, eq=False, slots=True)
class PatchEffects:
    """Shares of the answer that patches bring back, [layers, T], or of heads [layers, H]."""

    ids: tuple[int, ...]  # of the corrupted prompt
    answer: int
    foil: int
    clean: float
    corrupted: float
    effects: np.ndarray
    correlation: float | None  # with their estimates by the gradient


@dataclass(frozen=True, slots=True)
class WordSpellings:
    """A word's merges (the pieces after each), and its tokenisations with their log-probabilities, nats."""

    word: bytes
    merges: tuple[tuple[bytes, ...], ...]
    ways: tuple[tuple[tuple[int, ...], float, bool], ...]
    logprob: float
    complete: bool
    refused: str = ""  # why there are no ways


@dataclass(frozen=True, slots=True)
class AdapterShift:
    """KL of the next token, the model as it is || without its adapters, nats: a mean over the last positions."""

    kl: float


@dataclass(frozen=True, slots=True)
class DoubtPart:
    """So many of a text's tokens are read by all samples."""

    done: int
    of: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """Bits of entropy in two parts, over samples of a posterior; the standard deviation of each candidate's probability
    over them; how long that took."""

    aleatoric: float
    epistemic: float
    spreads: tuple[tuple[int, float], ...]  # by token
    samples: int
    elapsed_s: float

    @property
    def total(self) -> float:
        """Entropy of the samples' mean."""
        return self.aleatoric + self.epistemic
