"""What crosses between the screen's thread and the engine's: commands go in, reports come out. Plain data only.

Every command that starts work carries a number chosen by the screen, and every report of that work carries it back.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from engine.decode.control import RunControl
from engine.decode.events import Stats
from engine.trace.trace import TokenStep
from engine.tune.attached import Attached

# -- what is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Context:
    """What stands before the next token.

    `turns` (role, text) go through the chat template; without any the text is raw. `parts` follow: words as text, and
    tokens that were drawn as their ids, so that a branch continues from exactly the tokens on the screen.
    """

    turns: tuple[tuple[str, str], ...] = ()
    parts: tuple[str | tuple[int, ...], ...] = ()
    whole: bool = False  # `parts` are everything: no template and no token for the beginning of a text is added


@dataclass(frozen=True, slots=True)
class Load:
    """Make a model ready; `control` can break off a download.

    Without a name it is the first of `prefer` that is on this machine, else any that is. Where none is, `Offered` is
    the answer.
    """

    work: int
    model: str
    prefer: tuple[str, ...] = ()
    control: RunControl = field(default_factory=RunControl)


@dataclass(frozen=True, slots=True)
class Unload:
    model: str


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue a context. `force` are words to take before anything is drawn. Stopped through `control`.

    `strategy` draws token by token (""), or guesses ahead: from the text ("ngram"), or with a smaller model that is
    loaded ("draft NAME").
    """

    work: int
    model: str
    context: Context
    control: RunControl
    seed: int = 0
    max_tokens: int | None = None
    force: str = ""
    stop: tuple[str, ...] = ()
    strategy: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """Measure every token of a context. `contents` are texts to find in it: the report says which tokens cover each."""

    work: int
    model: str
    context: Context
    contents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exact:
    """The whole raw distribution after a context."""

    work: int
    model: str
    context: Context


@dataclass(frozen=True, slots=True)
class Count:
    """How many tokens a text is, and the first of them."""

    work: int
    model: str
    text: str


@dataclass(frozen=True, slots=True)
class Offer:
    """Which models there are: here, and to be had."""

    work: int


@dataclass(frozen=True, slots=True)
class Adapt:
    """Change the adapters on a model, from its next token on.

    `change` is "add" (`what` is a directory), "weigh", "only" (the others get weight 0) or "remove" (`what` is a name).
    """

    work: int
    model: str
    change: Literal["add", "weigh", "only", "remove"]
    what: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Close:
    """Free everything and end the thread."""


Command = Load | Unload | Generate | Score | Exact | Count | Offer | Adapt | Close

# -- what is reported ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the screen needs to know of a loaded model."""

    name: str
    context: int  # positions
    vocabulary: tuple[bytes, ...]  # piece of each id
    chat: bool  # has a chat template
    nbytes: int = 0  # weights
    title: str = ""  # shorter, where the name is a path
    family: str = ""
    quantization: str = ""
    digest: str = ""  # of the weights
    eos: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class ModelOffer:
    """A model that can be chosen."""

    name: str
    nbytes: int  # on disk, or to be fetched; 0 where unknown
    licence: str
    here: bool
    fits: bool  # in this machine's memory
    about: str = ""


@dataclass(frozen=True, slots=True)
class Loading:
    work: int
    model: str
    stage: str
    done: int = 0
    total: int = 0  # 0: unknown


@dataclass(frozen=True, slots=True)
class Ready:
    work: int
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class Began:
    """A run has started: the ids that its first token follows."""

    work: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """So many of the prompt's tokens have been read."""

    work: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Drew:
    work: int
    step: TokenStep


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is over; `text` is what the detokeniser still held back, `cache_nbytes` what the caches hold."""

    work: int
    reason: str
    stats: Stats
    text: str = ""
    cache_nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """A step for every token; `spans` are the token ranges that cover the contents asked for (None: not found)."""

    work: int
    steps: tuple[TokenStep, ...]
    spans: tuple[tuple[int, int] | None, ...] = ()


@dataclass(frozen=True, slots=True)
class ExactLogits:
    """Raw logits of the whole vocabulary, float32 [V], read-only."""

    work: int
    logits: np.ndarray


@dataclass(frozen=True, slots=True)
class Counted:
    work: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Offered:
    work: int
    offers: tuple[ModelOffer, ...]


@dataclass(frozen=True, slots=True)
class Adapted:
    """What is on a model now."""

    work: int
    model: str
    attached: tuple[Attached, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A piece of work did not succeed. `trace` is set where it was a bug rather than something to act on."""

    work: int
    line: str
    trace: str = ""


# nothing more of that work comes after these
Last = Ended | Failed | Ready | Scored | ExactLogits | Counted | Offered | Adapted

Report = Last | Loading | Began | Reading | Drew
