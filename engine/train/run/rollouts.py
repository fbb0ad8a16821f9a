"""Rollouts: answers that the model draws to problems, their rewards, and the rows that a policy gradient makes of them.

A problem is a training row: what stands before its answer is the prompt, the answer is what is right. What is drawn is
a function of the run's seed, the step, the problem and the branch, so that a run that goes on draws what it would have
drawn. Log-probabilities and KL in nats.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from likely.engine.base import distributed
from likely.engine.base.errors import DataError, ParameterError, TemplateError
from likely.engine.decode.answers.extraction import canonical, number
from likely.engine.decode.answers.program import RIGHT
from likely.engine.decode.loop.texts import GrownText
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.train.data.answer_verdicts import RewardProblem
from likely.engine.train.data.batches import share
from likely.engine.train.data.paraphrases import frame_of
from likely.engine.train.data.samples import RewardedAnswer, TrainingSample
from likely.engine.train.losses.row_scores import answer_losses
from likely.engine.train.rewards.advantages import advantages, weights
from likely.engine.train.rewards.figures import Rewarded, Rollout, summary
from likely.engine.train.run.probes import as_before, texts, words_of
from likely.engine.train.run.run import TrainingRun
from likely.engine.weights.adapters.sites import trainable

PROBED = 4  # problems whose verdicts are looked at before the first step
TAGS = "<think></think>", "<answer></answer>", "\\boxed{}", "####"  # forms without an answer
SHOWN = 2  # where KL costs nothing and is shown alone, every second answer is read by the base too
MISSING = 0.05  # of a step's answers without a verdict: more, and the verifier is at fault


def check(run: TrainingRun) -> None:
    """ParameterError for a run that rewards cannot be learned in."""
    if run.session is None:
        raise ParameterError("objective = reward draws answers, which needs a tokenizer: give the run a session")
    if run.config.tokens >= (context := run.session.context):
        raise ParameterError(
            f"tokens are those of an answer, which stands behind its problem in a context of {context:,}: expected "
            f"fewer, got {run.config.tokens:,}"
        )
    if run.config.expert and run.group is not None:
        raise ParameterError("expert iteration runs in one process, not under mlx.launch: leave expert out")
    if run.config.expert and not (run.rows.test or run.rows.valid):
        raise ParameterError("expert is compared on held-out problems: give test, or valid above 0")


def probe(run: TrainingRun) -> float | None:
    """Ask for verdicts on answers that say nothing, before anything is learned from them; one verdict, where all are
    that, even on the right answers. Over ranks rank 0 asks for all.

    DataError where one of them is right: it is what would be learned; and where there is no verdict on any.
    """
    rows, given = run.rows.train[:PROBED] if run.leads else (), set[float | None]()
    problems = [problem(run, row) for row in rows if isinstance(row, TrainingSample)]
    for each, other in zip(problems, (*problems[1:], *problems[:1]), strict=True):
        nothing = {
            "an empty answer": "",
            "the problem itself": each.prompt,
            "every number to 100": " ".join(map(str, range(101))),
            "the answer to another problem": other.answer,
            **{f"the bare form {tag}": tag for tag in TAGS},
        }
        found = run.verdicts.of(each, (*nothing.values(), each.answer))
        given |= {*found.values()}
        if {*found.values()} == {None}:
            raise DataError(f"{each.where}: {run.verdicts.why}; it was asked about the right answer and about others")
        for name, said in nothing.items():
            value = found[said]
            if value is not None and value >= RIGHT and said != each.answer and not stands(each.answer, said):
                raise DataError(
                    f"{each.where}: {name} is judged right ({value:g}), and that is what would be learned: mend the "
                    "verifier"
                )
    if (together := _together(run)) is not None:
        run.verdicts.known = together.broadcast(run.verdicts.known)
    return given.pop() if len(given) == 1 else None


def stands(answer: str, said: str) -> bool:
    """Whether an answer, or its number, is among the words that are said."""
    forms = {canonical(answer), str(number(answer))}
    return not forms.isdisjoint(map(canonical, said.split()))


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


def said(
    run: TrainingRun, each: RewardProblem, n: int, key: Sequence[int], *, base: bool = False, tokens: int = 0
) -> list[GrownText]:
    """n answers to a problem, by the model as it is now, or as it was before training; of so many `tokens` at most, if
    not of as many as the run's."""
    seed = int(np.random.SeedSequence([run.config.seed, *key]).generate_state(1)[0])
    stop = run.rows.judging.stop if run.rows.judging is not None else ()
    return texts(
        run, each.ids, tokens or run.config.tokens, n=n, recipe=SamplingConfig(), seed=seed, base=base, stop=stop
    )


def judged(run: TrainingRun, each: RewardProblem, drawn: Sequence[GrownText]) -> list[Rollout]:
    """Answers with their rewards. Which folder the problem is from is left out: the run may go on from another."""
    verdicts = run.verdicts.of(each, (text.text for text in drawn if text.reason != "length"))
    found = []
    for text in drawn:
        cut = text.reason == "length"  # what has not ended is no answer: unbiased under the limit
        spread = sum(step.entropy or 0.0 for step in text.steps)
        value = 0.0 if cut else verdicts[text.text]
        where = each.where.rpartition("/")[2]
        found.append(Rollout(where, tuple(text.ids), text.text, value, text.logprob, spread, cut))
    return found


@dataclass(frozen=True, slots=True)
class DrawnGroups:
    """Answers that were drawn: of each problem a group, KL to the base of those of which it was asked."""

    groups: Sequence[Sequence[Rollout]]
    kls: Sequence[float]
    drawn_s: float
    verified_s: float


def figures(t: int, draws: Sequence[DrawnGroups]) -> Rewarded:
    """The figures of step t, whose batches drew these."""
    groups, kls = [g for draw in draws for g in draw.groups], [kl for draw in draws for kl in draw.kls]
    return summary(t, groups, kls, sum(draw.drawn_s for draw in draws), sum(draw.verified_s for draw in draws))


def rewarded(run: TrainingRun, t: int, indices: Sequence[int]) -> tuple[list[RewardedAnswer], DrawnGroups]:
    """The rows of step t: the answers drawn to the problems of these indices, with what each of their tokens counts.

    Answers whose group tells nothing are left out. Over ranks each draws and judges its share of the problems and
    learns from it; what all have drawn is known to all. DataError where the verifier gives too few verdicts.
    """
    c, began = run.config, time.perf_counter()
    rows = [run.rows.train[i] for i in indices]
    assert all(isinstance(row, TrainingSample) for row in rows)
    problems = [problem(run, row) for row in rows]  # type: ignore[arg-type]
    mine = share(range(len(rows)), *run.place)
    drawn = [said(run, problems[p], c.answers, (t, indices[p])) for p in mine]
    drawn_s = time.perf_counter() - began
    own = [judged(run, problems[p], texts) for p, texts in zip(mine, drawn, strict=True)]
    verified_s = time.perf_counter() - began - drawn_s
    groups = everyones(run, problems, own)
    every = [one for group in groups for one in group]
    lost = sum(one.reward is None for one in every)
    if lost > MISSING * len(every):
        why = f" ({run.verdicts.why})" if run.verdicts.why else ""
        raise DataError(
            f"step {t}: the verifier gave no verdict on {lost} of {len(every)} answers{why}; the weights are those of "
            "before"
        )
    run.verdicts.accept()
    some = 1 if c.kl else SHOWN
    base = _gathered(run, _before(run, [problems[p] for p in mine], [group[::some] for group in own]))
    kls = [
        [one.logprob - was for one, was in zip(group[::some], of, strict=True)]
        for group, of in zip(groups, base, strict=True)
    ]
    known = [[i for i, one in enumerate(group) if one.reward is not None] for group in groups]
    worth = [
        dict(
            zip(
                those,
                advantages([float(group[i].reward or 0.0) - (c.kl and c.kl * kl[i]) for i in those], c.advantage),
                strict=True,
            )
        )
        for group, kl, those in zip(groups, kls, known, strict=True)
    ]
    flat = [(p, one, float(of[i])) for p, (group, of) in enumerate(zip(groups, worth, strict=True))
            for i, one in enumerate(group) if i in of]  # fmt: skip
    counted = weights([a for _, _, a in flat], [len(one.ids) for _, one, _ in flat], c.share)
    items = [
        problems[p].with_(one.ids, float(w))
        for (p, one, _), w in zip(flat, counted, strict=True)
        if w and one.ids and p in mine
    ]
    return items, DrawnGroups(groups, [kl for of in kls for kl in of], drawn_s, verified_s)


def everyones(
    run: TrainingRun, problems: Sequence[RewardProblem], own: Sequence[Sequence[Rollout]]
) -> Sequence[Sequence[Rollout]]:
    """The answers to each of the problems, of which `own` are those of this rank's share; with their verdicts they are
    known on all ranks then. Every rank calls it."""
    if _together(run) is None:
        return own
    told = _gathered(run, [[asdict(one) for one in group] for group in own])
    groups = [[Rollout(**{**one, "ids": tuple(one["ids"])}) for one in group] for group in told]
    for each, group in zip(problems, groups, strict=True):
        run.verdicts.hear(each, group)
    return groups


def _before(
    run: TrainingRun, problems: Sequence[RewardProblem], groups: Sequence[Sequence[Rollout]]
) -> list[list[float]]:
    """The log-probability of each answer by the model as it was before training."""
    base, around = as_before(run)
    with around():
        model = trainable(base.model)
        return [[-float(own.sum()) for own in answer_losses(model, [each.with_(one.ids) for one in group])]
                for each, group in zip(problems, groups, strict=True)]  # fmt: skip


def _gathered(run: TrainingRun, own: list[Any]) -> list[Any]:
    """The parts of a batch that the ranks have made of their shares, in the order of the batch, on each of them."""
    if (together := _together(run)) is None:
        return own
    found = together.gather(own)
    return [found[p % len(found)][p // len(found)] for p in range(sum(map(len, found)))]


def _together(run: TrainingRun) -> distributed.Ranks | None:
    return distributed.joined() if run.group is not None else None
