"""Rollouts: answers that the model draws to problems, their rewards, and the rows that a policy gradient makes of them.

A problem is a training row: what stands before its answer is the prompt, the answer is what is right. What is drawn is
a function of the run's seed, the step, the problem and the branch, so that a run that goes on draws what it would have
drawn. Log-probabilities and KL in nats.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from likely.engine.adapters.sites import trainable
from likely.engine.answers.comparison import same_number, same_words
from likely.engine.answers.extraction import is_number
from likely.engine.answers.program import RIGHT, Verifier, VerifierError
from likely.engine.decode.texts import GrownText
from likely.engine.errors import DataError, ParameterError, TemplateError
from likely.engine.rewards.advantages import advantages, weights
from likely.engine.rewards.figures import Rewarded, Rollout, summary
from likely.engine.trace.step import Recipe
from likely.engine.tune.probes import as_before, texts, words_of
from likely.engine.tune.row_scores import target_losses
from likely.engine.tune.run import TrainingRun
from likely.engine.tune.samples import RewardedAnswer, TrainingSample
from likely.engine.tune.wordings import frame_of

PROBED = 4  # problems whose verdicts are looked at before the first step
TAGS = "<think></think>", "<answer></answer>", "\\boxed{}", "####"  # forms without an answer
MISSING = 0.05  # of a step's answers without a verdict: more, and the verifier is at fault


@dataclass(frozen=True)
class RewardProblem:
    """A prompt and the answer that is right."""

    ids: tuple[int, ...]
    prompt: str  # the question, without the template around it
    answer: str
    where: str


def check(run: TrainingRun) -> None:
    """ParameterError for a run that rewards cannot be learned in."""
    if run.session is None:
        raise ParameterError("objective = reward draws answers, which needs a tokenizer: give the run a session")
    if run.group is not None:
        raise ParameterError("objective = reward runs in one process, not under mlx.launch")


def probe(run: TrainingRun) -> None:
    """Ask for verdicts on answers that say nothing, before anything is learned from them.

    DataError where one of them is right: it is what would be learned.
    """
    for row in run.rows.train[:PROBED]:
        assert isinstance(row, TrainingSample)
        each = problem(run, row)
        nothing = {
            "an empty answer": "",
            "the problem itself": each.prompt,
            "every number to 100": " ".join(map(str, range(101))),
            **{f"the bare form {tag}": tag for tag in TAGS},
        }
        for name, said in nothing.items():
            value = reward(each, said, run.config.verifier, run.config.timeout)
            if value is not None and value >= RIGHT and not stands(each.answer, said):
                raise DataError(
                    f"{each.where}: {name} is judged right ({value:g}), and that is what would be learned: mend the "
                    "verifier"
                )


def stands(answer: str, said: str) -> bool:
    """Whether an answer is among the words that are said."""
    return bool(answer) and answer in said.split()


def problem(run: TrainingRun, sample: TrainingSample) -> RewardProblem:
    """The problem that a row is. DataError where no prompt stands before its answer."""
    assert run.session is not None
    start = sample.answer_at
    asked = sample.ids[:start]
    with suppress(TemplateError):  # of one that wants more than a question, all that stands there
        frame = frame_of(run.session.tokenizer)
        first, last = len(frame.before), start - len(frame.after)
        if first < last and (asked[:first], asked[last:]) == (frame.before, frame.after):
            asked = asked[first:last]
    if not start:
        raise DataError(f"{sample.where}: a problem is a prompt and its answer, and here nothing stands before it")
    return RewardProblem(sample.ids[:start], words_of(run, asked), words_of(run, sample.ids[start:]), sample.where)


def draw(run: TrainingRun, each: RewardProblem, n: int, key: Sequence[int], *, base: bool = False) -> list[Rollout]:
    """n answers to a problem with their rewards, by the model as it is now, or as it was before training."""
    return judged(run, each, said(run, each, n, key, base=base))


def said(run: TrainingRun, each: RewardProblem, n: int, key: Sequence[int], *, base: bool = False) -> list[GrownText]:
    """n answers to a problem, by the model as it is now, or as it was before training."""
    seed = int(np.random.SeedSequence([run.config.seed, *key]).generate_state(1)[0])
    return texts(run, each.ids, run.config.tokens, n=n, recipe=Recipe(), seed=seed, base=base)


def judged(run: TrainingRun, each: RewardProblem, drawn: Sequence[GrownText]) -> list[Rollout]:
    """Answers with their rewards."""
    c = run.config
    verdicts: dict[str, float | None] = {}
    for text in drawn:
        if text.reason != "length" and text.text not in verdicts:  # equal texts are judged once
            verdicts[text.text] = reward(each, text.text, c.verifier, c.timeout)
    found = []
    for text in drawn:
        cut = text.reason == "length"  # what has not ended is no answer: unbiased under the limit
        spread = sum(step.entropy or 0.0 for step in text.steps)
        value = 0.0 if cut else verdicts[text.text]
        found.append(Rollout(each.where, tuple(text.ids), text.text, value, text.logprob, spread, cut))
    return found


def reward(each: RewardProblem, said: str, verifier: str, timeout_s: float) -> float | None:
    """The reward of an answer: what the verifier says, else 1 where it is the row's, as `likely eval` compares; None
    where there is no verdict."""
    try:
        if verifier:
            return Verifier.of(verifier, timeout_s)(each.prompt, said, answers=[each.answer])
        return float((same_number if is_number(each.answer) else same_words)(said, each.answer))
    except VerifierError:
        return None


def rewarded(run: TrainingRun, t: int, indices: Sequence[int]) -> tuple[list[RewardedAnswer], Rewarded]:
    """The rows of step t: the answers drawn to the problems of these indices, with what each of their tokens counts.

    Answers whose group tells nothing are left out. DataError where the verifier gives too few verdicts.
    """
    c, began = run.config, time.perf_counter()
    rows = [run.rows.train[i] for i in indices]
    assert all(isinstance(row, TrainingSample) for row in rows)
    problems = [problem(run, row) for row in rows]  # type: ignore[arg-type]
    drawn = [said(run, each, c.answers, (t, i)) for each, i in zip(problems, indices, strict=True)]
    drawn_s = time.perf_counter() - began
    groups = [judged(run, each, texts) for each, texts in zip(problems, drawn, strict=True)]
    verified_s = time.perf_counter() - began - drawn_s
    every = [one for group in groups for one in group]
    lost = sum(one.reward is None for one in every)
    if lost > MISSING * len(every):
        raise DataError(
            f"step {t}: the verifier gave no verdict on {lost} of {len(every)} answers; the weights are those of before"
        )
    base = _before(run, problems, groups)
    kls = [
        [one.logprob - was for one, was in zip(group, of, strict=True)] for group, of in zip(groups, base, strict=True)
    ]
    known = [[i for i, one in enumerate(group) if one.reward is not None] for group in groups]
    worth = [
        dict(
            zip(
                those,
                advantages([float(group[i].reward or 0.0) - c.kl * kl[i] for i in those], c.advantage),
                strict=True,
            )
        )
        for group, kl, those in zip(groups, kls, known, strict=True)
    ]
    flat = [(each, one, float(of[i])) for each, group, of in zip(problems, groups, worth, strict=True)
            for i, one in enumerate(group) if i in of]  # fmt: skip
    counted = weights([a for _, _, a in flat], [len(one.ids) for _, one, _ in flat], c.share)
    items = [
        RewardedAnswer(
            (*each.ids, *one.ids), (*(False,) * len(each.ids), *(True,) * len(one.ids)), each.where, float(w)
        )
        for (each, one, _), w in zip(flat, counted, strict=True)
        if w and one.ids
    ]
    run.drawn = [one for group in groups for one in group]
    return items, summary(t, groups, [kl for of in kls for kl in of], drawn_s, verified_s)


def _before(
    run: TrainingRun, problems: Sequence[RewardProblem], groups: Sequence[Sequence[Rollout]]
) -> list[list[float]]:
    """The log-probability of each answer by the model as it was before training."""
    samples = [
        TrainingSample((*each.ids, *one.ids), (*(False,) * len(each.ids), *(True,) * len(one.ids)), each.where)
        for each, group in zip(problems, groups, strict=True)
        for one in group
    ]
    base, around = as_before(run)
    with around():
        lost = iter([-float(own.sum()) for own, _ in target_losses(trainable(base.model), samples, run.config)])
    return [[next(lost) for _ in group] for group in groups]
