"""Training on made rows: does it help? Adapters from one start on real rows, on made ones, on both, at equal tokens.

Each arm begins at the base anew, as STaR does, and is asked the same items, so that differences are paired. Equal
tokens are as near as whole steps come; how many each arm saw is told.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Change, Estimate, compare, share_or_mean
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.evaluation import evaluate
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.tasks.tasks import Result, Task
from likely.engine.measure.synth.config import TrainOptions
from likely.engine.measure.synth.writer import Writer
from likely.engine.text.rows.training_row import TrainingRow, parse, sides
from likely.engine.train.open_run import Tuning
from likely.engine.train.taught import teach
from likely.engine.weights.adapters.config import configure

if TYPE_CHECKING:
    from likely.engine.weights.sources.checkpoint import Checkpoint

GREEDY = Protocol()
SIDE_BY_SIDE = 64  # rows of a generation over one prompt


@dataclass(frozen=True, slots=True)
class Arm:
    """An adapter trained on rows: what it took, each item's measure, and how it differs from others on the same."""

    name: str
    rows: int
    tokens: int  # read in training, every pass counted
    values: tuple[float, ...]

    @property
    def accuracy(self) -> Estimate:
        return share_or_mean(self.values)

    def over(self, other: "Arm") -> Change:
        """How far it is above another, paired by item."""
        return compare(other.values, self.values)


def taught(
    checkpoint: "Checkpoint", rows: Sequence[TrainingRow], options: TrainOptions, folder: Path, *, tokens: int = 0
) -> tuple[Tuning, int]:
    """`teach` by the options of a pipeline; the adapter is kept in the folder."""
    settings = {"out": str(folder), "steps": options.steps, "rate": options.rate, "rank": options.rank, "valid": 0.0,
                "batch": options.batch, "loss": "completion", "eval_every": 0, "save_every": 0, "packing": False,
                "seed": options.seed, "length": options.length}  # fmt: skip
    return teach(checkpoint, configure(settings), rows, tokens=tokens)


def measure(name: str, session: Session, task: Task, rows: int, tokens: int, protocol: Protocol = GREEDY) -> Arm:
    """The task's first measure of every item by a model."""
    values = {result.number: next(iter(result.values.values()))
             for result in evaluate(session, task, protocol) if isinstance(result, Result)}  # fmt: skip
    if not values:
        raise DataError(f"{task.name}: no item of it can be asked")
    return Arm(name, rows, tokens, tuple(values[number] for number in sorted(values)))


def arms(
    checkpoint: "Checkpoint",
    rows: Mapping[str, Sequence[TrainingRow]],
    task: Task,
    options: TrainOptions,
    folder: Path,
) -> Iterator[Arm]:
    """The base, then an arm for each set of rows: the first by the options' steps, the others at its tokens."""
    yield measure("base", Session(checkpoint, reload=False), task, 0, 0)
    equal = 0
    for name, some in rows.items():
        opened, read = taught(checkpoint, some, options, folder / name, tokens=equal)
        equal = equal or read
        assert opened.run.session is not None
        yield measure(name, opened.run.session, task, len(some), read)


class TaughtModel:
    """A learner of rows of training by an adapter, for `engine.synth.collapse`: it draws answers to the rows' own
    prompts, in turn, or texts from their beginning."""

    def __init__(
        self, checkpoint: "Checkpoint", options: TrainOptions, writer: Writer, folder: Path, stop: tuple[str, ...] = ()
    ) -> None:
        """`writer` says how rows are drawn, until `stop`; its session is that of the model without an adapter."""
        self.checkpoint, self.options, self.writer, self.folder = checkpoint, options, writer, folder
        self._stop = stop
        self._rows: Sequence[TrainingRow] = ()

    def fit(self, rows: Sequence[TrainingRow]) -> None:
        self._rows = rows

    def draw(self, n: int, seed: int) -> list[TrainingRow]:
        wanted = Counter(sides(self._rows[i % len(self._rows)])[0] for i in range(n))
        rows: list[TrainingRow] = []
        opened, _ = taught(self.checkpoint, self._rows, self.options, self.folder)
        assert opened.run.session is not None
        writer = replace(self.writer, session=opened.run.session)
        for number, (prompt, count) in enumerate(wanted.items()):
            begin = writer.prompt(prompt) if prompt else _beginning(opened.run.session)
            for low in range(0, count, SIDE_BY_SIDE):
                own = crc32(f"{seed} {number} {low}".encode()) >> 1
                paths = writer.draw(begin, min(SIDE_BY_SIDE, count - low), own, self._stop)
                rows += [_row(prompt, path.text) for path in paths]
        return rows


def _beginning(session: Session) -> Prompt:
    """Before a text: its BOS token, or the end of another text."""
    tokenizer = session.tokenizer
    first = tokenizer.bos if tokenizer.bos is not None else tokenizer.end
    return Prompt(parts=((first,),) if first is not None else ("\n",), whole=True)


def _row(prompt: str, text: str) -> TrainingRow:
    return parse({"prompt": prompt, "completion": text} if prompt else {"text": text}, "made")
