"""One training step: the gradient of several batches, weighed by their tokens, and what the optimiser makes of it.

A function of the seed, the data and the step's number alone. With several processes (`mx.distributed`) each computes
its part of every batch, and the sums of gradients are added.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from likely.engine.train.control import TrainControl
from likely.engine.train.data import batches
from likely.engine.train.data.samples import RewardedAnswer, TrainingSample
from likely.engine.train.losses import batch_losses, masked
from likely.engine.train.run import optimizers, rehearsal, rollouts
from likely.engine.train.run.run import TrainingRun
from likely.engine.weights.adapters import full, lora
from likely.metal import mx

Array = mx.array


def accumulated(
    run: TrainingRun, batches_read: Sequence[Sequence[int]], t: int, control: TrainControl | None = None
) -> tuple[list[float], dict[str, Array]]:
    """Sums of loss, count, KL, pairs ranked right and trained tokens over a step's batches, and of the gradients.

    After those five stand the sum of |g|^2 of the batches' own mean gradients, and how many batches it is of: what the
    noise of gradients is known by. The control is told after each batch how many tokens of the step have been read.
    """
    control = control or TrainControl()
    control.reading = (0, sum(run.rows.train[i].targets for indices in batches_read for i in indices))
    c = run.config
    rank, ranks = run.place
    total, run.answered = [0.0] * 7, []
    ratio = masked.ratio(t, run.steps, c.anneal)
    several = len(batches_read) * ranks > 1
    gradients: dict[str, Array] = {}
    draws: list[rollouts.DrawnGroups] = []
    for k, indices in enumerate(batches_read):
        mine = batches.share(indices, rank, ranks)
        items: Sequence[Any] = [run.rows.train[i] for i in mine]
        if c.goal.drawn:  # by all ranks, also those that have no share
            items, draw = rollouts.rewarded(run, t, indices)
            draws.append(draw)
            total[1] += 1 / ranks  # the weights are of a mean already
        if not items:  # every group is all right or all wrong, or there is no share: there is nothing to learn
            continue
        if run.rewording is not None:
            items = [
                run.rewording.of(item, t, k, i) for i, item in zip(mine, batch_losses.samples_of(items), strict=True)
            ]
        if isinstance(run.trained, lora.Adapter):
            batch_losses.set_dropout(run.model, c.dropout, c.seed, t, k * ranks + rank)
        anchors, weight = _anchors(run, items, t, k, rank)
        key = (c.seed, t, k * ranks + rank)
        if c.goal.drawn:
            sums, new, answered = _of_answers(run, items)
            run.answered += answered
        elif run.rehearsed:
            many = rehearsal.beside(len(mine))
            first = ((t - 1) * c.accumulate + k) * rehearsal.beside(len(indices)) + rank * many
            some = rehearsal.drawn(run.rehearsed, first, many)
            sums, new = rehearsal.gradient(run.model, run.trained, items, some, c)
        else:
            sums, new = batch_losses.gradient(run.model, run.trained, items, c, anchors, weight, key, ratio)
        gradients = {name: gradients[name] + g for name, g in new.items()} if gradients else new
        size = optimizers.norm(new) if several else mx.array(0.0)
        mx.eval(gradients, sums.lost, sums.kl, sums.right, size)
        trained = sum(item.targets for item in items)
        square = (float(size) / max(1, sums.count)) ** 2
        parts = (float(sums.lost), float(sums.count), float(sums.kl), float(sums.right), float(trained), square, 1.0)
        total = [a + b for a, b in zip(total, parts, strict=True)]
        control.reading = (int(total[4]), control.reading[1])
    if draws:
        run.rewarded = rollouts.figures(t, draws)
        run.drawn = [one for draw in draws for group in draw.groups for one in group]
    if isinstance(run.trained, lora.Adapter):
        batch_losses.set_dropout(run.model, 0.0, 0, 0, 0)
    gradients = _added_up(run, gradients)
    if ranks > 1:
        summed: list[float] = mx.distributed.all_sum(mx.array(total), group=run.group).tolist()  # type: ignore[assignment]
        total = summed
    return total, gradients


def once_more(run: TrainingRun, count: float) -> tuple[dict[str, Array], float]:
    """The gradient of the step's answers by the weights as they are now, by clipped ratios, and its norm."""
    found = _added_up(run, _of_answers(run, run.answered)[1])
    gradients = {name: g / count for name, g in found.items()}
    regularise(run, gradients)
    return gradients, float(optimizers.norm(gradients))


def _of_answers(
    run: TrainingRun, items: Sequence[RewardedAnswer]
) -> tuple[batch_losses.Sums, dict[str, Array], list[RewardedAnswer]]:
    """The gradient of answers by their weights, read a few problems at a time, each with its prompt once; and the
    answers with the log-probabilities that they were read with first.

    The weights are of a mean already, and the sum of losses by them says nothing: sums are 0.
    """
    c, found, known, zero = run.config, dict[str, Array](), list[RewardedAnswer](), mx.array(0.0)
    for part in _parts(items, c.batch * c.length):
        sums, new = batch_losses.gradient(run.model, run.trained, part, c)
        found = {name: found[name] + g for name, g in new.items()} if found else new
        mx.eval(found, sums.each)
        each = np.split(-np.asarray(sums.each, np.float64), np.cumsum([item.targets for item in part])[:-1])
        known += [replace(one, before=one.before or tuple(own)) for one, own in zip(part, each, strict=True)]
    return batch_losses.Sums(zero, 0, zero, zero, zero), found, known


def _parts(items: Sequence[RewardedAnswer], room: int) -> list[list[RewardedAnswer]]:
    """Answers to a problem stay together, and several problems where they have no more than `room` tokens."""
    parts: list[list[RewardedAnswer]] = []
    for prompt, group in groupby(items, lambda item: item.ids[: item.answer_at]):
        some = list(group)
        if parts and sum(one.targets for one in [*parts[-1], *some]) + len(prompt) <= room:
            parts[-1] += some
        else:
            parts.append(some)
    return parts


def _added_up(run: TrainingRun, gradients: dict[str, Array]) -> dict[str, Array]:
    """The sum of all ranks' gradients; a rank may have had no row."""
    if not gradients:
        gradients = {name: mx.zeros_like(p) for name, p in run.trained.parameters().items()}
    if run.place[1] > 1:
        gradients = {n: mx.distributed.all_sum(g, group=run.group) for n, g in sorted(gradients.items())}
        mx.eval(gradients)
    return gradients


def _anchors(run: TrainingRun, items: Sequence[Any], t: int, k: int, rank: int) -> tuple[list[TrainingSample], float]:
    """As many tokens of `kl_data` as a batch has, and the weight that makes their mean KL count as one a target."""
    rows = run.rows.anchors
    if not rows or not run.config.kl:
        return [], 0.0
    first = (t * run.config.accumulate + k) * run.config.batch + rank
    chosen = [rows[(first + i) % len(rows)] for i in range(min(run.config.batch, len(rows)))]
    return chosen, sum(item.targets for item in items) / sum(len(s.ids) - 1 for s in chosen)


def regularise(run: TrainingRun, gradients: dict[str, Array]) -> None:
    """Add the gradient of alpha / 2 |w - start|^2; for adapters of the change of the matrices, B^T A^T, itself."""
    alpha = run.config.l2_sp
    if not alpha:
        return
    if isinstance(run.trained, full.FullWeights):
        assert run.trained.start is not None
        for name, w in run.trained.parameters().items():
            gradients[name] = gradients[name] + alpha * (w - run.trained.start[name])
        return
    factors = run.trained.factors
    real = run.trained.parameters()

    def pull(parameters: dict[str, Array]) -> Array:
        run.trained.set(parameters)
        total = mx.array(0.0)
        for f in factors.values():
            total = total + f.square()
        return 0.5 * alpha * total

    added = mx.grad(pull)(real)
    run.trained.set(real)
    for name, g in added.items():
        gradients[name] = gradients[name] + g


def update(run: TrainingRun, gradients: dict[str, Array], norm: float, t: int, again: int = 0) -> float:
    """One step of the optimiser, the first of step t's or one `again`; gives the learning rate it had."""
    c = run.config
    rate = optimizers.rate(c.schedule, c.rate, t, run.steps, c.warmup, c.floor)
    if c.clip and norm > c.clip:
        gradients = {name: g * (c.clip / norm) for name, g in gradients.items()}
    parameters = run.trained.parameters()
    own = (t - 1 - run.counters.begun) * c.reuse + again + 1  # steps of the optimiser
    new, run.optimiser = optimizers.update(parameters, gradients, run.optimiser, run.groups, own, rate, c.l1)
    mx.eval(new, run.optimiser)
    run.trained.set(new)
    return rate
