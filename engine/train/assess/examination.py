"""Examination of a trained model: its rows, rows that it did not see, and questions that have nothing to do with them.

All of it is measured on the model as it was, too, by the same passes: what is in both falls out. Two passes over a row
say what it costs and whether it is given back; the answers to other questions are drawn greedily once by the model as
it was, and again where a pass says that they are others now; one more, by the model as it was, says which of those it
would hardly have given itself (docs/decisions/changed.md). Knows nothing of how the figures are said.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.statistics.estimates import compare, ratio, share
from likely.engine.decode.prompt import single_turn
from likely.engine.train.assess import trials
from likely.engine.train.control import Ended, Event, TrainControl
from likely.engine.train.data.samples import Pair, TrainingSample
from likely.engine.train.losses import batch_losses, losses
from likely.engine.train.losses.row_scores import RowScore, target_losses
from likely.engine.train.rewards.figures import HeldOut
from likely.engine.train.run import expert
from likely.engine.train.run.probes import as_before, said, words_of
from likely.engine.train.run.run import TrainingRun
from likely.engine.train.run.validation import drawn
from likely.engine.train.verdict import PAIRS, TEXTS, WORDS, OtherAnswers, Reply, TrainingVerdict, row_change
from likely.engine.weights.adapters.sites import trainable
from likely.metal import mx
from likely.models.native_path.reading import reading

SAMPLE = 64  # training rows that are looked at
TESTED = 64  # rows of a test whose answers are drawn
ANSWER = 16  # tokens of the answer to another question
# question, and words of which a right answer has one: what a small model knows, of different kinds
OTHERS = (
    ("What is the capital of France?", "Paris"), ("What is the capital of Japan?", "Tokyo"),
    ("In which ocean lies Hawaii?", "Pacific"), ("Which language is spoken in Brazil?", "Portuguese"),
    ("What is two plus two?", "four|4"), ("How many days are in a week?", "seven|7"),
    ("How many legs has a spider?", "eight|8"), ("How many months are in a year?", "twelve|12"),
    ("What colour is grass?", "green"), ("What do bees make?", "honey"), ("What do cows give?", "milk"),
    ("Which animal barks?", "dog"), ("What is frozen water called?", "ice"), ("Is the sun hot or cold?", "hot"),
    ("Which planet is the largest?", "Jupiter"), ("Which month comes after May?", "June"),
    ("What is the opposite of hot?", "cold"), ('What is the plural of "mouse"?', "mice"),
    ('What is the past tense of "go"?', "went"), ('Translate "dog" into French.', "chien"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"), ("Complete: once upon a ...", "time"),
    ("Name a fruit.", "apple|banana|orange|pear|mango|grape|berry|cherry|peach"), ("Say hello.", "hello|hi"),
)  # fmt: skip


def examined(events: Iterator[Event], run: TrainingRun, control: TrainControl) -> Iterator[Event]:
    """The events of a training; before its end, where it came to one by itself, the `TrainingVerdict`.

    None where it is not asked for or can say nothing (`examine`), or `control` stops it: all is saved by then. Of
    rewards it is `ExpertIteration` beside them, where that is asked for.
    """
    looked = None
    for event in events:
        if isinstance(event, HeldOut):
            looked = event
        done = isinstance(event, Ended) and event.reason == "done"
        if done and run.config.expert and looked and (beside := expert.compared(run, looked, control)):
            yield beside
        if isinstance(event, Ended) and event.reason in ("done", "patience") and run.config.verdict:
            for verdict in examine(run):
                if verdict is not None:
                    yield verdict
                elif control.stopped:
                    break
        yield event


def examine(run: TrainingRun) -> Iterator[TrainingVerdict | None]:
    """The verdict on what was trained, after None between two pieces of its work; the model is as it was.

    None at all for a diffusion model, which has no distribution of the next token, for rewards, which have their own
    (`passed`), for a run without a tokenizer, and on ranks that do not lead.
    """
    if run.config.goal.bound or run.config.goal.drawn or run.session is None or not run.leads:
        return
    seen, unseen = drawn(run.rows.train, SAMPLE), drawn(run.rows.test, TESTED) or drawn(run.rows.valid, SAMPLE)
    trained = row_change(len(run.rows.train), form_of(seen), *_scores(run, seen))
    yield None
    held, replies = None, list[Reply]()
    if unseen:
        before, now = _scores(run, unseen)
        yield None
        if run.rows.test and form_of(unseen) == WORDS:
            for sample, was, is_ in zip(batch_losses.samples_of(unseen), before, now, strict=True):
                replies.append(_tested(run, sample, was.right, is_.right))
                yield None
            before, now = (
                [score._replace(right=reply.right[i]) for score, reply in zip(scores, replies, strict=True)]
                for i, scores in enumerate((before, now))
            )
        held = row_change(len(run.rows.test or run.rows.valid), form_of(unseen), before, now)
    asked: list[tuple[str, str, TrainingSample]] = []
    for question, words in OTHERS:
        if (answer := _asked(run, question)) is not None:
            asked.append((question, words, answer))
        yield None
    others = _others(run, asked) if asked else None
    trial = None
    if not (trained.learned or trained.begun) and trials.possible(run, run.counters.step):
        for found in trials.tried(run, seen):
            trial = found
            yield None
    yield TrainingVerdict(run.counters.step, trained, held, others, tuple(replies), trial)


def form_of(items: Sequence[TrainingSample | Pair]) -> str:
    """The form of rows, by which more or less can be said of them: `RowChange.form`."""
    if isinstance(items[0], Pair):
        return PAIRS
    return TEXTS if all(all(sample.trained[1:]) for sample in batch_losses.samples_of(items)) else WORDS


def _scores(run: TrainingRun, items: Sequence[TrainingSample | Pair]) -> list[list[RowScore]]:
    """The scores of samples before and now; of pairs that of the chosen answer, `right` where it is the likelier."""
    base, around = as_before(run)
    sides = []
    for model, inside in ((base.model, around), (run.model, nullcontext)):
        with inside():
            every = target_losses(trainable(model), batch_losses.samples_of(items), run.config)
        scores = [RowScore(float(lost.sum()), float(lost @ lost), len(lost), right) for lost, right in every]
        if form_of(items) == PAIRS:
            pairs = zip(scores[: len(items)], scores[len(items) :], strict=True)
            scores = [chosen._replace(right=chosen.total < rejected.total) for chosen, rejected in pairs]
        sides.append(scores)
    return sides


def _tested(run: TrainingRun, sample: TrainingSample, before: bool, now: bool) -> Reply:
    """A row of the test in words: right where its answer stands in what is said. What a pass has said to be its answer
    word for word is not drawn again."""
    start = sample.answer_at
    wanted = words_of(run, sample.ids[start:])
    tokens = len(sample.ids) - start + ANSWER
    texts = [
        wanted if right else said(run, sample.ids[:start], tokens, base=base).text.strip()
        for right, base in ((before, True), (now, False))
    ]
    words = r"\s+".join(map(re.escape, wanted.split()))
    stands = re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)
    right = [bool(wanted) and stands.search(text) is not None for text in texts]
    return Reply(sample.where, wanted, texts[0], texts[1], (right[0], right[1]))


def _asked(run: TrainingRun, question: str) -> TrainingSample | None:
    """A question and its answer by the model as it was, as a row; None where the model has no room for it."""
    assert run.session is not None
    ids = single_turn(question, run.session.tokenizer).ids(run.session.tokenizer)
    if len(ids) + ANSWER > run.session.context:
        return None
    answer = said(run, ids, ANSWER, base=True).ids
    return TrainingSample((*ids, *answer), (*(False,) * len(ids), *(True,) * len(answer)), question)


def _others(run: TrainingRun, asked: Sequence[tuple[str, str, TrainingSample]]) -> OtherAnswers:
    samples = [row for _, _, row in asked]
    moved = _moved(run, samples)
    now = [sample if same else _again(run, sample) for sample, (_, same) in zip(samples, moved, strict=True)]
    replies = []
    for (question, words, was), is_, regret in zip(asked, now, _regrets(run, now), strict=True):
        texts = [words_of(run, sample.ids[sample.trained.index(True) :]) for sample in (was, is_)]
        right = re.compile(rf"\b(?:{words})s?\b", re.IGNORECASE)
        known = [right.search(text) is not None for text in texts]
        replies.append(Reply(question, "", texts[0], texts[1], (known[0], known[1]), regret))
    rights = [[float(reply.right[i]) for reply in replies] for i in range(2)]
    changed = share([float(reply.changed) for reply in replies])
    kl = ratio([(float(kl.sum()), len(kl)) for kl, _ in moved])
    return OtherAnswers(tuple(replies), changed, kl, share(rights[0]), share(rights[1]), compare(*rights))


def _again(run: TrainingRun, sample: TrainingSample) -> TrainingSample:
    """The question of a sample with the answer of now."""
    ids = sample.ids[: sample.trained.index(True)]
    answer = said(run, ids, ANSWER).ids
    return TrainingSample((*ids, *answer), (*(False,) * len(ids), *(True,) * len(answer)), sample.where)


def _regrets(run: TrainingRun, items: Sequence[TrainingSample]) -> list[float]:
    """`Reply.regret` of the answers of samples."""
    batch = batch_losses.row_of(run.model, items)
    base, around = as_before(run)
    model, found, step = trainable(base.model), [], losses.rows_at_once(run.model.config.vocab_size)
    with around():
        hidden = batch_losses.read(model, batch)
        for i in range(0, hidden.shape[0], step):
            rows = slice(i, i + step)
            p = arrays.logprobs(reading(model).head(hidden[rows]).astype(mx.float32), mx)
            found.append(np.asarray(mx.max(p, -1) - arrays.chosen(p, batch.targets[rows], mx), np.float64))
    return [float(own.sum()) for own in np.split(np.concatenate(found), np.cumsum(batch.counts)[:-1])]


def _moved(run: TrainingRun, items: Sequence[TrainingSample]) -> list[tuple[np.ndarray, bool]]:
    """KL(now || before) at each target of the samples, nats, and whether greedy decoding still gives all of them."""
    batch = batch_losses.row_of(run.model, items)
    base, around = as_before(run)
    model, own = trainable(base.model), run.model
    now = batch_losses.read(own, batch)
    with around():
        before = batch_losses.read(model, batch)
    mx.eval(now, before)
    kls, same, step = [], [], losses.rows_at_once(run.model.config.vocab_size)
    for i in range(0, now.shape[0], step):
        rows = slice(i, i + step)
        with around():
            was = arrays.logprobs(reading(model).head(before[rows]).astype(mx.float32), mx)
            mx.eval(was)
        is_ = arrays.logprobs(reading(own).head(now[rows]).astype(mx.float32), mx)
        kls.append(np.asarray(arrays.kl(is_, was, mx), np.float64))
        same.append(np.asarray(mx.argmax(is_, -1) == batch.targets[rows]))
    ends = np.cumsum(batch.counts)[:-1]
    columns = (np.split(np.concatenate(parts), ends) for parts in (kls, same))
    return [(kl, bool(kept.all())) for kl, kept in zip(*columns, strict=True)]
