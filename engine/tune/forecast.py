"""Forecast of what a training does beside its steps: it asks the base before them, and looks at the model after them;
and of steps that draw.

What is read is reckoned as steps are (`report`); how fast this model draws, no shape says: it answers a few questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from likely.engine.pace import now, since
from likely.engine.tune import batch_losses, examination, passed, rehearsal, report, rollouts
from likely.engine.tune.probes import said
from likely.engine.tune.run import TrainingRun
from likely.engine.tune.samples import TrainingSample
from likely.engine.tune.validation import drawn
from likely.engine.tune.verdict import WORDS

TRIED = 2  # answers that are drawn, of the base's own
TRIAL = 1 << 28  # in the place of a step in the key of what is drawn: no step comes so far
PIECE_S = 1e-5  # seconds a token of the vocabulary, whose piece is spelled and compared where questions are reworded
AGAIN = 0.5  # of the answers before, that are drawn by what was trained too: those that a pass does not say


@dataclass(frozen=True, slots=True)
class Beside:
    """Seconds that a training should take beside its steps."""

    asking_s: float  # the base, before them
    looking_s: float  # all validations, and at what was learned and forgotten


def beside(run: TrainingRun, drawing: tuple[float, float] = (0.0, 0.0)) -> Beside:
    """Forecast for a prepared run that is looked at in the end; `drawing` of one by rewards. Draws a few answers."""
    return Beside(_asking_s(run), _looking_s(run, *drawing))


def drawing_s(run: TrainingRun) -> tuple[float, float]:
    """Seconds of a step of rewards, and of an answer, without verdicts. Draws a group, which is measured; the update is
    reckoned as if every problem taught something."""
    c, row = run.config, run.rows.train[0]
    assert isinstance(row, TrainingSample)
    each = rollouts.problem(run, row)
    said(run, each.ids, 1)  # the first pass makes what later ones find
    began = now()
    group = rollouts.said(run, each, c.answers, (TRIAL, 0))
    seconds, tokens = since(began), sum(len(one.ids) for one in group)
    read, plain = [len(each.ids) + tokens], replace(c, kl=0.0)
    update = report.seconds(run.model, plain, read, tokens, max(0, run.trained.lowest))
    before = report.reading_s(run.model, plain, read, tokens)
    problems = c.batch * c.accumulate / run.place[1]
    return problems * (seconds + before + c.reuse * update), seconds / c.answers


def _asking_s(run: TrainingRun) -> float:
    """Seconds in which the base is asked what is to be rehearsed, and which words are near those of the rows."""
    near = run.model.config.vocab_size * PIECE_S if run.config.reword > 0 else 0.0
    if run.session is None or run.config.rehearsal <= 0:
        return near
    every = rehearsal.asked(run, rehearsal.count(run))
    lengths, tokens = [len(ids) + rehearsal.ANSWER for _, ids in every], rehearsal.ANSWER * len(every)
    there_and_back = report.reading_s(run.model, run.config, lengths, 2 * tokens)  # through the head
    return near + there_and_back + tokens * _token_s(run)


def _looking_s(run: TrainingRun, step_s: float, answer_s: float) -> float:
    """Seconds of all validations, and of the look at what was learned and forgotten."""
    c = run.config
    if c.goal.drawn:
        left = run.steps - run.counters.step
        looks = 1 + (1 + left // c.eval_every if c.eval_every else 0)  # the first asks the base
        looks += 1 if c.expert else 0
        return (1 + looks) * len(passed.problems(run)) * c.eval_answers * answer_s + (left * step_s if c.expert else 0)
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
    return report.reading_s(
        run.model, run.config, [len(item.ids) for item in items], sum(item.targets for item in items)
    )


def _token_s(run: TrainingRun) -> float:
    """Seconds a token that an answer may have: what its question takes and its early end are reckoned in."""
    if not (questions := [ids for _, ids in rehearsal.asked(run, TRIED)]):
        return 0.0  # it has no room for an answer
    said(run, questions[0], 1)  # the first pass makes what later ones find
    began = now()
    for ids in questions:
        said(run, ids, rehearsal.ANSWER)
    return since(began) / (rehearsal.ANSWER * len(questions))
