"""Forecast of what a training does beside its steps: it asks the base before them, and looks at the model after them.

What is read is reckoned as steps are (`report`); how fast this model draws, no shape says: it answers a few questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from likely.engine.pace import now, since
from likely.engine.tune import batch_losses, examination, rehearsal
from likely.engine.tune.probes import said
from likely.engine.tune.report import reading_s
from likely.engine.tune.run import TrainingRun
from likely.engine.tune.samples import TrainingSample
from likely.engine.tune.validation import drawn
from likely.engine.tune.verdict import WORDS

TRIED = 2  # answers that are drawn, of the base's own
PIECE_S = 1e-5  # seconds a token of the vocabulary, whose piece is spelled and compared where questions are reworded
AGAIN = 0.5  # of the answers before, that are drawn by what was trained too: those that a pass does not say


@dataclass(frozen=True, slots=True)
class Beside:
    """Seconds that a training should take beside its steps."""

    asking_s: float  # the base, before them
    looking_s: float  # all validations, and at what was learned and forgotten


def beside(run: TrainingRun) -> Beside:
    """Forecast for a prepared run that is looked at in the end. Draws a few answers."""
    return Beside(_asking_s(run), _looking_s(run))


def _asking_s(run: TrainingRun) -> float:
    """Seconds in which the base is asked what is to be rehearsed, and which words are near those of the rows."""
    near = run.model.config.vocab_size * PIECE_S if run.config.reword > 0 else 0.0
    if run.session is None or run.config.rehearsal <= 0:
        return near
    every = rehearsal.asked(run, rehearsal.count(run))
    lengths, tokens = [len(ids) + rehearsal.ANSWER for _, ids in every], rehearsal.ANSWER * len(every)
    there_and_back = reading_s(run.model, run.config, lengths, 2 * tokens)  # through the head
    return near + there_and_back + tokens * _token_s(run)


def _looking_s(run: TrainingRun) -> float:
    """Seconds of all validations, and of the look at what was learned and forgotten."""
    c = run.config
    valid = batch_losses.samples_of(drawn(run.rows.valid, c.eval_rows))
    times = 1 + (run.steps - run.counters.step - 1) // c.eval_every if c.eval_every else 1
    validating = times * _read_s(run, valid) if valid else 0.0
    if not c.verdict or c.goal.bound or run.session is None or not run.leads:
        return validating
    tested = drawn(run.rows.test, examination.TESTED)
    seen = [*drawn(run.rows.train, examination.SAMPLE), *(tested or drawn(run.rows.valid, examination.SAMPLE))]
    tokens = examination.ANSWER * len(examination.OTHERS)
    if tested and examination.form_of(tested) == WORDS:
        tokens += sum(sample.targets + examination.ANSWER for sample in batch_losses.samples_of(tested))
    return validating + 2 * _read_s(run, batch_losses.samples_of(seen)) + (1 + AGAIN) * tokens * _token_s(run)


def _read_s(run: TrainingRun, items: Sequence[TrainingSample]) -> float:
    return reading_s(run.model, run.config, [len(item.ids) for item in items], sum(item.targets for item in items))


def _token_s(run: TrainingRun) -> float:
    """Seconds a token that an answer may have: what its question takes and its early end are reckoned in."""
    if not (questions := [ids for _, ids in rehearsal.asked(run, TRIED)]):
        return 0.0  # it has no room for an answer
    said(run, questions[0], 1)  # the first pass makes what later ones find
    began = now()
    for ids in questions:
        said(run, ids, rehearsal.ANSWER)
    return since(began) / (rehearsal.ANSWER * len(questions))
