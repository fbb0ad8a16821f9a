"""Requests to an engine worker, and the events of their jobs that the engine itself does not have: plain data, no mlx.

What the engine reports goes through under the engine's names (`engine.decode.events`, `engine.tune.control`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.measure.answer_form import AnswerForm
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.train.control import TrainControl

if TYPE_CHECKING:
    from likely.app.results.training_kind import TrainingConfig
    from likely.engine.base.statistics.difference import Difference, Pair
    from likely.engine.weights.quantize.measure import QuantizationReport

# -- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """Make a model ready: `Progressed`, then `Loaded`; `control` can break off a download.

    Without a name it is the first of `prefer` that is on this machine, else any that is. Where none is, `Offered` is
    the answer.
    """

    model: str
    prefer: tuple[str, ...] = ()
    control: RunControl = field(default_factory=RunControl)


@dataclass(frozen=True, slots=True)
class Unload:
    """Let a model go, and end its runs."""

    model: str


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue a prompt: `Began`, the engine's events, `Cached`. Steered and stopped through `control`.

    `force` are words to take before anything is drawn. A model that the strategy needs has to be loaded. `n` answers
    are drawn side by side, each of the `form` that is asked for; of their tokens the prompt ends with the first `own`.
    """

    model: str
    prompt: Prompt
    control: RunControl
    seed: int = 0
    max_tokens: int | None = None
    force: str = ""
    stop: tuple[str, ...] = ()
    strategy: Strategy = PLAIN
    n: int = 1
    form: AnswerForm | None = None
    own: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function with a loaded model's engine (`app.calls`): what it yields, or returns, are the events."""

    model: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JointCall:
    """Call a function with the engines of several loaded models, in this order; as a `Call` of each otherwise."""

    models: tuple[str, ...]
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """Which models there are, here and to be had: `Offered`."""


@dataclass(frozen=True, slots=True)
class Train:
    """Open a run and train: `Progressed`, `TrainingPlan`, the engine's events."""

    config: "TrainingConfig"
    resume: bool
    control: TrainControl


@dataclass(frozen=True, slots=True)
class Foretell:
    """Say what a run would cost and do not begin it: `Progressed`, then lines, the most wanted first."""

    config: "TrainingConfig"
    control: TrainControl


@dataclass(frozen=True, slots=True)
class TrainOn:
    """Train on from where the open run is, after it was stopped or has failed."""

    control: TrainControl


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure models on tasks: `Progressed`, a scoreboard as it grows, and every item's outcome.

    A model is a name or an adapter's folder; "" is the one chosen last. With `vary`, a kind of variation, each task is
    also asked in so many `variants`.
    """

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    limit: int | None = None
    vary: str = ""
    variants: int = 0
    control: RunControl = field(default_factory=RunControl)  # looked at after every item


@dataclass(frozen=True, slots=True)
class Recall:
    """The scoreboard of what was measured before."""


@dataclass(frozen=True, slots=True)
class Examine:
    """One task under one model or two, item by item: `TaskDetail`."""

    task: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Write what the scoreboard shows as one HTML file: `Reported`."""

    path: Path


ModelRequest = Load | Unload | Generate | Call | JointCall | Offer

# -- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A loaded model, as far as whoever asks it for something has to know it."""

    name: str
    context: int  # positions that a text may have
    vocabulary: tuple[bytes, ...]  # piece of each id
    chat: bool  # has a chat template
    nbytes: int = 0  # weights
    title: str = ""  # shorter, where the name is a path
    family: str = ""
    quantization: str = ""
    digest: str = ""  # of the weights
    eos: frozenset[int] = field(default_factory=frozenset)
    mask: int | None = None  # of a diffusion model: the token that stands for one that is to come
    warning: str = ""  # that it is near the limit of this machine's memory
    sampling: Mapping[str, float] = field(default_factory=dict)  # that its publisher recommends
    bounded: bool = False  # the model has more positions
    calls: bool = False  # its chat template has calls of tools that can be read
    thinks: frozenset[bool] = frozenset((True, False))  # which of to think, and not to, its chat template can be told
    apart: tuple[str, ...] = ()  # marks around what it says, which are no part of it
    activation_bits: int | None = None  # to which products round activations, where that was asked for


@dataclass(frozen=True, slots=True)
class ModelOffer:
    """A model that can be chosen."""

    name: str
    nbytes: int  # on disk, or to be fetched; 0 where unknown
    licence: str
    here: bool
    fits: bool  # in this machine's memory
    about: str = ""
    date: float = 0.0  # since when it is here, in seconds since 1970; 0 where it is not, or unknown


@dataclass(frozen=True, slots=True)
class Progressed:
    """A model, or a run that trains it, is being made ready."""

    model: str
    stage: str
    done: int = 0
    total: int = 0  # 0: unknown


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model is ready."""

    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class Began:
    """A run has started: the ids that its first token follows."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CanvasLaid:
    """The canvas of a run, masks and all; what is shown of it begins at `first`. Ids that are `special` are no text."""

    ids: tuple[int, ...]
    first: int
    special: frozenset[int]


@dataclass(frozen=True, slots=True)
class FillEnded:
    """No more passes come: every mask has become a token, or (`cancelled`) a person has stopped it."""

    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Bounding:
    """So many masked canvases of a bound were read."""

    canvases: int


@dataclass(frozen=True, slots=True)
class Bounded:
    """A bound on -log p in nats, of so many tokens in all, with its Monte-Carlo error."""

    bound: Estimate
    tokens: int


@dataclass(frozen=True, slots=True)
class Cached:
    """The bytes that a model's caches hold at the end of a run."""

    nbytes: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A step for every token; `spans` are the token ranges that cover the contents asked for (None: not found), and
    the `last` tokens are those of the prompt's last part."""

    steps: tuple[TokenStep, ...]
    spans: tuple[tuple[int, int] | None, ...] = ()
    last: int = 0


@dataclass(frozen=True, slots=True)
class Crossed:
    """Each law's own text read by each other one: a difference from author to reader, by their places."""

    differences: "Mapping[Pair, Difference]"


@dataclass(frozen=True, slots=True)
class WidthsMeasured:
    """Reports of a model in each number of bits a weight, fewest first."""

    reports: "tuple[QuantizationReport, ...]"


@dataclass(frozen=True, slots=True)
class Offered:
    """The models that can be chosen."""

    offers: tuple[ModelOffer, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """A report was written."""

    path: Path
