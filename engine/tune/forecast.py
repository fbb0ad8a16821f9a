"""Forecast of what a training does beside its steps: it asks the base before them, and looks at the model after them.

What is read is reckoned as steps are (`report`); how fast this model draws, no shape says: it draws a few tokens. What
ends early is not known before, so every answer counts as long as it may be, and every second one as drawn again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from likely.engine.pace import now, since
from likely.engine.prompt import single_turn
from likely.engine.tune import batch_losses, examination, rehearsal
from likely.engine.tune.probes import said
from likely.engine.tune.report import reading_s
from likely.engine.tune.run import TrainingRun
from likely.engine.tune.samples import TrainingSample
from likely.engine.tune.validation import drawn
from likely.engine.tune.verdict import WORDS

TRIED = 8  # tokens that are drawn
AGAIN = 0.5  # of the answers before, that are drawn by what was trained too: those that a pass does not say


@dataclass(frozen=True, slots=True)
class Beside:
    """Seconds that a training should take beside its steps."""

    asking_s: float  # the base, before them
    looking_s: float  # all validations, and at what was learned and forgotten


def beside(run: TrainingRun) -> Beside:
    """What a prepared run, which is looked at in the end, should take beside its steps. Draws a few tokens."""
    return Beside(_asking_s(run), _looking_s(run))


def _asking_s(run: TrainingRun) -> float:
    """Seconds in which the base is asked what is to be rehearsed."""
    if run.session is None or run.config.rehearsal <= 0:
        return 0.0
    every = rehearsal.asked(run, rehearsal.count(run))
    lengths = [len(ids) + rehearsal.ANSWER for _, ids in every]
    read = reading_s(run.model, run.config, lengths, 2 * rehearsal.ANSWER * len(every))  # there and back
    return read + _drawing_s(run, [len(ids) for _, ids in every], rehearsal.ANSWER * len(every))


def _looking_s(run: TrainingRun) -> float:
    """Seconds of all validations, and of the look at what was learned and forgotten."""
    c, session = run.config, run.session
    valid = batch_losses.samples_of(drawn(run.rows.valid, c.eval_rows))
    times = 1 + (run.steps - run.counters.step - 1) // c.eval_every if c.eval_every else 1
    validating = times * _read_s(run, valid) if valid else 0.0
    if not c.verdict or c.goal.bound or session is None or not run.leads:
        return validating
    tested = drawn(run.rows.test, examination.TESTED)
    seen = [*drawn(run.rows.train, examination.SAMPLE), *(tested or drawn(run.rows.valid, examination.SAMPLE))]
    asked = [len(single_turn(question, session.tokenizer).ids(session.tokenizer)) for question, _ in examination.OTHERS]
    tokens = examination.ANSWER * len(asked)
    if tested and examination.form_of(tested) == WORDS:
        asked += [len(sample.ids) - sample.targets for sample in batch_losses.samples_of(tested)]
        tokens += sum(sample.targets + examination.ANSWER for sample in batch_losses.samples_of(tested))
    return validating + 2 * _read_s(run, batch_losses.samples_of(seen)) + (1 + AGAIN) * _drawing_s(run, asked, tokens)


def _read_s(run: TrainingRun, items: Sequence[TrainingSample]) -> float:
    return reading_s(run.model, run.config, [len(item.ids) for item in items], sum(item.targets for item in items))


def _drawing_s(run: TrainingRun, asked: Sequence[int], tokens: int) -> float:
    """Seconds in which `tokens` are drawn after questions of so many tokens, by how fast a few are."""
    question = batch_losses.samples_of(run.rows.train[:1])[0].ids[:-1]
    said(run, question, 1)  # the first pass makes what later ones find
    spent = []
    for most in (1, 1 + TRIED):
        began = now()
        count = len(said(run, question, most).steps)
        spent.append((since(began), count))
    (read, one), (whole, all_) = spent
    token = max(0.0, whole - read) / (all_ - one) if all_ > one else read
    return read * sum(asked) / len(question) + token * tokens
