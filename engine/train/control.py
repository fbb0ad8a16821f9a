"""Plan, control, events and probes of a training, as plain data: no mlx.

The loop is a generator (`trainer.train`), run by the thread that owns the model; the control may be used from any other
thread. Before every step the loop looks at the control: it waits, or ends. Between two of its events the model stands
still, and that thread may ask it something (`probes.answer`):

    control = TrainControl()
    for event in train(run, control):                      # the thread of the model
        outbox.put(event)                                  # events are frozen and hold nothing of mlx
        outbox.put(answer(run, Complete("Tag: cat")))      # by the model as it is now
    ...
    control.pause(); control.go_on(); control.stop()       # any thread

Losses, log-probabilities and KL in nats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from likely.engine.base.statistics.difference import Difference
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.train.rewards.figures import ExpertIteration, HeldOut, Rewarded
from likely.engine.train.rewards.reward_history import RewardWarning
from likely.engine.train.verdict import TrainingVerdict
from likely.engine.weights.sources.fetch.progress import Report, silent

GREEDY = SamplingConfig(greedy=True)


@dataclass(frozen=True, slots=True)
class Complete:
    """Asks for a continuation by the model as it is now; answered by `Completion`.

    `text` is a question, which the chat template frames, or with chat=False (and for a model without a template) a
    beginning. `base` asks the model as it was before training.
    """

    text: str
    chat: bool = True
    tokens: int = 64
    recipe: SamplingConfig = GREEDY
    seed: int = 0
    base: bool = False


@dataclass(frozen=True, slots=True)
class Compare:
    """Asks what moved: every next-token distribution along a text, before training and now; answered by `Compared`.

    `text` "" is the run's first validation row (a training row where there is none), cut to 512 tokens. With `chat` it
    is a question, and the last position is what an answer begins with. `top` tokens that rose, and as many that fell,
    are named at each position.
    """

    text: str = ""
    chat: bool = False
    top: int = 5


Request = Complete | Compare


@dataclass(slots=True)
class TrainControl:
    """The handle on a run. Written by any thread, read by the loop's before a step; each write is one reference,
    so a signal handler may write too. `reading` is the loop's: trained tokens of this step, of so many, or while there
    is a `stage`, which is no step, what that goes through; these it tells `report`, too, on its own thread."""

    paused: bool = False
    stopped: bool = False
    reading: tuple[int, int] = (0, 0)
    stage: str = ""
    report: Report = silent

    def tell(self, stage: str, number: int, count: int) -> None:
        """Say how far the loop is in something that is no step."""
        self.stage, self.reading = stage, (number, count)
        self.report(stage, number, count)

    def pause(self) -> None:
        """Wait after the step that is being taken."""
        self.paused = True

    def go_on(self) -> None:
        self.paused = False

    def stop(self) -> None:
        """End after the step that is being taken, with a checkpoint: nothing is lost, `resume` goes on from there."""
        self.stopped = True

    @property
    def waiting(self) -> bool:
        """Whether no step is to be taken for now."""
        return self.paused and not self.stopped


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak of a step."""

    base: int
    trained: int  # parameters, gradients, the optimiser's state
    activations: int
    head: int

    @property
    def total(self) -> int:
        return self.base + self.trained + self.activations + self.head


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step was taken."""

    step: int  # from 1
    steps: int  # in all
    epoch: float
    loss: float  # a token, or a pair for preferences
    smooth: float  # its running mean
    rate: float  # the learning rate
    norm: float  # of the gradient, before clipping
    tokens: int  # trained so far
    tokens_per_s: float
    kl: float  # to the base, a token; 0 where the objective has none
    right: float  # share of pairs ranked as wanted
    memory: int  # peak bytes: of mlx, or of the process where steps are taken beside mlx
    elapsed_s: float  # of all steps, those before a resumption too; waiting is not counted
    noise_scale: float | None = None  # of the gradient, trained tokens; None where a step is one batch


@dataclass(frozen=True, slots=True)
class Validated:
    """The loss on validation rows with its 95 % interval, clustered by row; `best` if it is the lowest so far.

    `low` and `high` are None for one row, which has no interval. `by_position` are the mean losses of a row's first
    target, its second, the next 2, 4, 8 and so on.
    """

    step: int
    loss: float
    low: float | None
    high: float | None
    best: bool
    right: float
    bits_per_byte: float | None = None  # of the rows' text; None where it is not known how long that is
    by_position: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint landed."""

    step: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Paused:
    """The run waits: sent once, when it begins to. The next step ends it."""

    step: int


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to a `Complete` after `step` steps; `reason` is why it ended, as in `decode.events.Done`."""

    step: int
    request: Complete
    steps: tuple[TokenStep, ...]
    reason: str

    @property
    def text(self) -> str:
        return "".join(step.text for step in self.steps)


@dataclass(frozen=True, slots=True)
class Compared:
    """Difference to the base along a text after `step` steps; `pieces` are the texts of the tokens that it names."""

    step: int
    request: Compare
    difference: Difference
    pieces: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that could not be answered, and why, in one line; the run goes on."""

    step: int
    request: Request
    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event, after the last checkpoint. `why` is one line where there is more to say.

    reason: done | stopped (by the control) | patience (validation no better) | diverged | nan.
    """

    reason: str
    step: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The plan of a run: counts over its training rows, its steps, what time and memory these should take.

    `histogram` is the number of samples up to each length. What stands behind `available` is for who watches the run.
    """

    JSON: ClassVar = (
        "samples", "tokens", "trained", "histogram", "longest", "batches", "steps", "parameters", "seconds", "memory",
        "available", "program", "looking",
    )  # fmt: skip
    samples: int
    tokens: int
    trained: int
    histogram: tuple[tuple[int, int], ...]
    longest: int
    batches: int
    steps: int
    parameters: int
    seconds: float
    memory: Memory
    available: int
    program: int = 0  # bytes that the process holds beside the weights before it begins,
    looking: int = 0  # and those of the look in the end, beside what steps have left
    folder: str = ""
    model: str = ""
    lines: tuple[str, ...] = ()  # all of it in words
    pace: tuple[str, ...] = ()  # rows, batches and steps, and what a step costs, in words
    past: tuple[Stepped | Validated | Rewarded | HeldOut | RewardWarning, ...] = ()  # of a run that goes on
    prompts: tuple[str, ...] = ()  # the beginnings of a few rows, not trained on where there are such
    chat: bool = True  # they go through the chat template, as the rows did
    vocabulary: tuple[bytes, ...] = ()  # piece of each id
    row: tuple[tuple[int, bool], ...] = ()  # one row as the model sees it: each token's id, and whether it is trained

    @property
    def peak(self) -> int:
        """Bytes that the process should hold at most."""
        return self.program + self.memory.total + self.looking


Answer = Completion | Compared | Refused
OfRewards = Rewarded | HeldOut | ExpertIteration | RewardWarning
Event = Stepped | OfRewards | Validated | Saved | Paused | TrainingVerdict | Ended
