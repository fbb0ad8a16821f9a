"""Forecast of what a training does beside its steps: it asks the base before them, and looks at the model after them;
and of steps that draw.

What is read is reckoned as steps are (`report`); how fast this model draws, no shape says: it answers a few questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from likely.engine.base.concurrency.pace import now, since
from likely.engine.train.assess import examination, report
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.losses import batch_losses
from likely.engine.train.run import first_draw, pass_at_k, rehearsal, rollouts
from likely.engine.train.run.probes import said
from likely.engine.train.run.run import TrainingRun
from likely.engine.train.run.validation import drawn
from likely.engine.train.verdict import WORDS
from likely.engine.weights.sources.fetch.progress import Report, silent

TRIED = 2  # answers that are drawn, of the base's own
GROUPS = 4  # of rewards: problems to which answers are drawn, at most
GROUP, LEAST = 2048, 16  # tokens of the answers to one, as far as each may have LEAST; more is reckoned from these
TEACHING = 0.5  # of a run's problems, whose answers are of different worth: all at first, and few in the end
TRIAL = 1 << 28  # in the place of a step in the key of what is drawn: no step comes so far
PIECE_S = 1e-5  # seconds a token of the vocabulary, whose piece is spelled and compared where questions are reworded
AGAIN = 0.5  # of the answers before, that are drawn by what was trained too: those that a pass does not say


@dataclass(frozen=True, slots=True)
class Beside:
    """Seconds that a training should take beside its steps."""

    asking_s: float  # the base, before them
    looking_s: float  # all validations, and at what was learned and forgotten


@dataclass(frozen=True, slots=True)
class Drawing:
    """Steps of rewards, without verdicts: seconds of one and of an answer, as they should be; and the most that an
    update reads at once: the tokens of each problem and of each answer to it, and those of all answers."""

    step_s: float
    answer_s: float
    lengths: Sequence[int]
    targets: int


def beside(run: TrainingRun, drawing: Drawing | None = None) -> Beside:
    """Forecast for a prepared run that is looked at in the end; `drawing` of one by rewards. Draws a few answers."""
    if drawing is None:
        return Beside(_asking_s(run), _looking_s(run))
    return Beside(first_draw.count(run) * run.config.answers * drawing.answer_s, _passing_s(run, drawing))


def drawing(run: TrainingRun, progress: Report = silent) -> Drawing:
    """Forecast of the steps of a run by rewards. Draws a few groups, which are measured: their beginnings, where whole
    ones would take long."""
    c, plain, tried = run.config, replace(run.config, kl=0.0), list[list[int]]()
    rows = [row for row in run.rows.train[:GROUPS] if isinstance(row, TrainingSample)]
    problems = [rollouts.problem(run, row) for row in rows]
    said(run, problems[0].ids, 1)  # the first pass makes what later ones find
    drawn_s = learned_s = 0.0
    begun, left = min(c.tokens, max(GROUP // c.answers, LEAST)), GROUPS * GROUP
    for i, each in enumerate(problems):
        if left <= 0:
            break
        progress("drawing answers, to see how long they take", i, len(problems))
        began = now()
        group = rollouts.said(run, each, c.answers, (TRIAL, i), tokens=begun)
        took_s, known = since(began), [len(one.ids) for one in group]
        prompt, lengths = len(each.ids), whole_lengths(known, [one.reason == "length" for one in group], c.tokens)
        left -= sum(known)
        drawn_s += took_s * sum(lengths) / max(1, sum(known))
        some = lengths[:: 1 if c.kl else rollouts.SHOWN]  # that the base reads, too
        learned_s += report.reading_s(run.model, plain, [prompt, *some], sum(some))
        lowest = max(0, run.trained.lowest)
        update_s = report.seconds(run.model, plain, [prompt, *lengths], sum(lengths), lowest)
        learned_s += TEACHING * c.reuse * update_s
        tried.append([prompt, *lengths])
    together = min(c.batch, len(run.rows.train))  # problems a batch
    share = together * c.accumulate / run.place[1] / len(tried)
    most = max(tried, key=sum)
    at_once = min(together, max(1, c.batch * c.length // sum(most)))
    return Drawing(
        share * (drawn_s + learned_s), drawn_s / c.answers / len(tried), most * at_once, sum(most[1:]) * at_once
    )


def whole_lengths(lengths: Sequence[int], cut: Sequence[bool], limit: int) -> list[int]:
    """The lengths of texts of which some were cut before the limit: these go on as long as a text does that ends with
    each token as often as these did."""
    ends = (len(cut) - sum(cut)) / max(1, sum(lengths))
    room = [limit - length for length in lengths]
    more = [(1 - (1 - ends) ** tokens) / ends if ends else tokens for tokens in room]
    return [n + round(rest) if short else n for n, rest, short in zip(lengths, more, cut, strict=True)]


def _asking_s(run: TrainingRun) -> float:
    """Seconds in which the base is asked what is to be rehearsed, and which words are near those of the rows."""
    if run.counters.step >= run.steps:  # there is nothing left to do
        return 0.0
    near = run.model.config.vocab_size * PIECE_S if run.config.reword > 0 else 0.0
    if run.session is None or run.config.rehearsal <= 0:
        return near
    every = rehearsal.asked(run, rehearsal.count(run))
    lengths, tokens = [len(ids) + rehearsal.ANSWER for _, ids in every], rehearsal.ANSWER * len(every)
    there_and_back = report.reading_s(run.model, run.config, lengths, 2 * tokens)  # through the head
    drawn = rehearsal.ANSWER * len(rehearsal.unasked(run))
    return near + there_and_back + (drawn * _token_s(run) if drawn else 0.0)


def _passing_s(run: TrainingRun, drawing: Drawing) -> float:
    """Seconds of all looks at held-out problems, of which the first asks the base; and of expert iteration."""
    c, left = run.config, run.steps - run.counters.step
    looks = 1 + ((left - 1) // c.eval_every if c.eval_every else 0) + int(c.verdict) + int(c.expert > 0)
    answers = looks * len(pass_at_k.problems(run)) * c.eval_answers / run.place[1]
    return answers * drawing.answer_s + (left * drawing.step_s if c.expert else 0.0)


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
