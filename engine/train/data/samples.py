"""From rows to what is trained: token ids, and which of them are targets. Knows nothing of batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.decode.prompt import Prompt, Spans
from likely.engine.text.rows.training_row import Message, TrainingRow


class Tokens(Spans, Protocol):
    """Protocol of a tokenizer that samples are made with."""

    bos: int | None
    eos: frozenset[int]

    @property
    def chat_template(self) -> str | None: ...
    def piece(self, token: int, /) -> bytes: ...


@dataclass(frozen=True)
class TrainingSample:
    """Ids, and for each whether it is trained. From left to right the first is no target: nothing stands before it."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    where: str

    @property
    def targets(self) -> int:
        return int(sum(self.trained[1:]))

    @property
    def answer_at(self) -> int:
        """Where its last answer begins: the last id that is trained behind one that is not."""
        return max(i for i, (one, last) in enumerate(pairwise((True, *self.trained))) if last and not one)


@dataclass(frozen=True)
class RewardedAnswer(TrainingSample):
    """An answer that was drawn; the loss of each of its tokens counts `weight`, below 0 for one to be unlearned.

    `before`: where it is learned again, the log-probability of each as it was drawn, nats.
    """

    weight: float = 0.0
    before: tuple[float, ...] = ()


@dataclass(frozen=True)
class RehearsedAnswer:
    """An answer of the model before training, of n tokens, with what is needed to stay at it (`rehearsal`)."""

    sample: TrainingSample
    slopes: np.ndarray  # float32 [n, C]: the gradient of each token's -log p by the hidden state of before
    least: float  # nats: the sum of -log p - h . slopes before training


@dataclass(frozen=True)
class Pair:
    """A preference: two samples that differ in the answer."""

    chosen: TrainingSample
    rejected: TrainingSample

    @property
    def ids(self) -> tuple[int, ...]:
        return self.chosen.ids + self.rejected.ids

    @property
    def targets(self) -> int:
        return self.chosen.targets + self.rejected.targets


@dataclass(frozen=True)
class Samples:
    """Samples of the rows of a part, and what was done to those that did not fit."""

    samples: tuple[TrainingSample, ...]
    pairs: tuple[Pair, ...] = ()
    too_long: int = 0  # rows longer than the limit
    pieces: int = 0  # samples that those became by splitting
    lost: int = 0  # tokens cut off or dropped
    untrained: tuple[str, ...] = ()  # rows without any target, left out


def prepare(
    rows: Sequence[TrainingRow], tokenizer: Tokens, *, length: int, loss: str = "answers", too_long: str = "split"
) -> Samples:
    """The samples of rows, none longer than `length` tokens.

    DataError where all rows are without a target, and for a row that is too long when they are refused.
    """
    samples: list[TrainingSample] = []
    pairs: list[Pair] = []
    long = pieces = lost = 0
    untrained: list[str] = []
    for row in rows:
        if row.form == "preference":
            both = [encode(messages, row, tokenizer, "completion") for messages in (row.messages, row.rejected)]
            if max(len(s.ids) for s in both) > length:
                long += 1
                if too_long == "refuse":
                    raise _refused(row, max(len(s.ids) for s in both), length)
                lost += sum(len(s.ids) for s in both)  # half of an answer is no preference
            elif min(s.targets for s in both) == 0:
                untrained.append(row.where)
            else:
                pairs.append(Pair(*both))
            continue
        sample = encode(row.messages, row, tokenizer, loss)
        if len(sample.ids) <= length:
            fitted = [sample]
        else:
            long += 1
            if too_long == "refuse":
                raise _refused(row, len(sample.ids), length)
            fitted = fit(sample, length, too_long)
            pieces += len(fitted) if too_long == "split" else 0
            lost += 0 if too_long == "split" else len(sample.ids) - sum(len(s.ids) for s in fitted)
        usable = [s for s in fitted if s.targets]
        if not usable:
            untrained.append(row.where)
        samples += usable
    if rows and not samples and not pairs:
        raise DataError(
            f"none of the {len(rows)} rows has a token to train on: the first is {rows[0].where}; "
            "look at --loss and --length"
        )
    return Samples(tuple(samples), tuple(pairs), long, pieces, lost, tuple(untrained))


def _refused(row: TrainingRow, got: int, length: int) -> DataError:
    return DataError(
        f"{row.where}: {got} tokens where {length} are allowed: raise --length, or --too-long split or cut"
    )


def fit(sample: TrainingSample, length: int, how: str) -> list[TrainingSample]:
    """The sample in pieces of at most `length` tokens, or its first piece, or nothing.

    Every target stays a target: pieces overlap by one token, which is the context of the next one's first target.
    """
    if how == "drop":
        return []
    if how == "cut":
        return [TrainingSample(sample.ids[:length], sample.trained[:length], sample.where)]
    return [
        TrainingSample(sample.ids[i : i + length], sample.trained[i : i + length], sample.where)
        for i in range(0, len(sample.ids) - 1, length - 1)
    ]


def encode(messages: Sequence[Message], row: TrainingRow, tokenizer: Tokens, loss: str) -> TrainingSample:
    """One row's ids and targets. Without a chat template a completion follows its prompt as text follows text."""
    templated = row.form not in ("text", "problem") and tokenizer.chat_template is not None
    if row.form == "text":
        prompt = Prompt(parts=(row.text,))
    elif templated:
        prompt = Prompt(tuple(messages), tools=tuple(row.tools))
    elif len(messages) == 2 and messages[1]["role"] == "assistant":
        asks, says = (str(message["content"]) for message in messages)
        apart = row.form in ("question", "problem") and not (
            asks[-1:].isspace() or says[:1].isspace()
        )  # as it will be asked
        prompt = Prompt(parts=(asks, " " * apart + says))
    else:
        raise DataError(
            f"{row.where}: this model has no chat template, so a row is a text or a prompt with one completion; "
            f"got {len(messages)} messages"
        )
    ids, spans = prompt.spans(tokenizer)
    ended = row.form == "text" and ids and ids[-1] in tokenizer.eos
    if not templated and not ended and (end := text_end(tokenizer)) is not None:
        spans[-1] = range(spans[-1].start, len(ids) + 1)
        ids = [*ids, end]
    if row.form == "text" or loss == "all":
        spans = [range(len(ids))]
    elif templated:
        spans = [span for message, span in zip(messages, spans, strict=True) if message["role"] == "assistant"]
    trained = [False] * len(ids)
    for span in spans if loss == "answers" and templated else spans[-1:]:
        trained[span.start : span.stop] = [True] * len(span)
    return TrainingSample(tuple(ids), tuple(trained), row.where)


def text_end(tokenizer: Tokens) -> int | None:
    """The token that ends a text: of several, one spelled as such, not one that ends a turn."""
    ends = sorted(tokenizer.eos)
    spelled = [t for t in ends if b"text" in (piece := tokenizer.piece(t)) or piece in (b"</s>", b"<eos>")]
    return next(iter(spelled or ends), None)
