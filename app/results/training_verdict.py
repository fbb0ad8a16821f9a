"""Verdict on a training in words and as JSON: one sentence, the figures behind it, and what to change. No mlx."""

from collections.abc import Iterator, Sequence
from typing import Any

from likely.app.results.training_command import beside, resumed
from likely.app.results.training_plan import FEW
from likely.app.words.units import bits, finite
from likely.engine.base.statistics.estimates import Change, Estimate
from likely.engine.train.verdict import PAIRS, TEXTS, OtherAnswers, Reply, RowChange, TrainingVerdict
from likely.engine.weights.adapters.config import FASTER, PULL, Config

MANY = 0.25  # share of other answers, more changed than which is worth a word
SHOWN = 4  # answers that a terminal shows
BETA = 5  # times the strength that holds pairs to the model of before, or as many times less


def sentence(verdict: TrainingVerdict) -> str:
    """`learned 52 of 60 rows, 12 of 15 held out (0 before); 2 of 24 other answers changed, 12 worded otherwise`."""
    parts = [_learned(verdict.trained)]
    if verdict.held is not None:
        parts[0] += f", {_share(verdict.held)} held out{_before(verdict.held)}"
    if (others := verdict.others) is not None:
        same = others.worded - others.count
        also = f", {same} worded otherwise" if same else ""
        parts.append(f"{others.count} of {len(others.replies)} other answers changed{also}")
    return "; ".join(parts)


def has_learned(verdict: TrainingVerdict) -> bool:
    """Whether the sentence says of most rows that they are learned, however few the steps; of texts it does not."""
    return verdict.trained.form != TEXTS and verdict.trained.learned


def _learned(rows: RowChange) -> str:
    verb = {TEXTS: "reads its rows at", PAIRS: "ranks"}.get(rows.form, "learned")
    sample = f" (a sample of {rows.of:,})" if rows.of > rows.right.n else ""
    return f"{verb} {_share(rows)}{'' if rows.form == TEXTS else ' pairs' if rows.form == PAIRS else ' rows'}{sample}"


def _share(rows: RowChange) -> str:
    if rows.form == TEXTS:
        return f"{bits(rows.loss.mean):.2f} bits a token (before {bits(rows.loss_before.mean):.2f})"
    return f"{rows.counts[1]:,} of {rows.right.n:,}"


def _before(rows: RowChange) -> str:
    return "" if rows.form == TEXTS else f" ({rows.counts[0]:,} before)"


def lines(verdict: TrainingVerdict) -> Iterator[str]:
    """The figures with their 95 % intervals, before and now."""
    for name, rows in (("trained", verdict.trained), ("held out", verdict.held)):
        if rows is not None:
            share, before = _range(rows.right, 100), f"{100 * rows.right_before.mean:.0f}"
            given = {TEXTS: "", PAIRS: f"{share} % ranked as wanted, {before} before; "}.get(
                rows.form, f"{share} % given back, {before} before; "
            )
            costs = [f"{bits(loss.mean):.2f}" for loss in (rows.loss_before, rows.loss)]
            fall = _range(rows.cost.estimate, bits(1), ".2f")
            alone = "; one row: no interval" if rows.right.n == 1 else ""
            yield f"{name:<9} {given}bits a token {costs[0]}, now {costs[1]} ({fall} by row{alone})"
    if (trial := verdict.trial) is not None:
        costs = [f"{bits(loss):.2f}" for loss in (verdict.trained.loss_before.mean, trial.loss)]
        yield f"tried     rate {trial.rate:g}: {costs[0]} -> {costs[1]} bits a token of its rows in {trial.steps} steps"
    if (others := verdict.others) is not None:
        right = [round(e.mean * e.n) for e in (others.right_before, others.right)]
        alone = " (one answer: no interval)" if others.right.n == 1 else ""
        yield (
            f"others    {_range(others.changed, 100)} % changed, {right[1]} of {others.right.n} right ({right[0]} "
            f"before), KL {_range(others.kl, bits(1), '.3f')} bits a token of the answers{alone}"
        )
    replies = [reply for reply in verdict.tested if not reply.right[1]]
    changed = [reply for reply in (others.replies if others is not None else ()) if reply.changed]
    replies += sorted(changed, key=lambda reply: -reply.regret)
    for reply in replies[:SHOWN]:
        yield f"          {reply.question}: {reply.now!r} ({_beside(reply)})"


def _beside(reply: Reply) -> str:
    return f"wanted {reply.wanted!r}" if reply.wanted else f"before {reply.before!r}"


def _range(estimate: Estimate, scale: float, form: str = ".0f") -> str:
    """A figure with its interval, as far as there is one."""
    low, high = (scale * bound for bound in estimate.interval)
    known = finite(low) is not None and finite(high) is not None
    return f"{scale * estimate.mean + 0.0:{form}}" + (f" [{low + 0.0:{form}}, {high + 0.0:{form}}]" if known else "")


def advice(verdict: TrainingVerdict, config: Config, words: Sequence[str]) -> Iterator[str]:
    """Changes that would help where little was learned or much forgotten: each a command. `words`: of this one."""
    rows, held, others = verdict.trained, verdict.held, verdict.others
    if verdict.step < FEW and not has_learned(verdict):  # `outcome` says it
        return
    if not rows.learned:
        if not rows.begun:
            yield f"it has hardly begun to learn its rows: {beside(words, rate=FASTER * config.rate)}"
        else:
            passes = f"--epochs {2 * config.epochs:g}" if config.epochs else f"--steps {2 * verdict.step}"
            yield f"it is still learning its rows: {resumed(words)} {passes}"
        if rows.form == PAIRS and config.goal.reference:
            less = beside(words, beta=config.beta / BETA)
            yield f"its loss is small before its pairs are ranked, as beta holds it to the model of before: {less}"
    by_heart = rows.learned and held is not None and held.form == rows.form and not held.learned
    elsewhere = others is not None and others.changed.mean > MANY
    wrong = ["it has its rows by heart and not what they say"] * by_heart
    wrong += ["it answers other questions otherwise"] * elsewhere
    if not wrong:
        return
    if config.kind == "lora" and config.objective == "sft" and config.init == "zero" and not config.rehearsal > 0:
        help_ = f"{beside(words, init='contrast', rank=32)} begins at what sets the rows apart"
    elif by_heart:
        help_ = "rows that say the same in other words help, or a larger model"
    elif config.objective == "sft" and config.kind != "full" and not config.kl:
        pull = 3 * config.rehearsal if config.rehearsal > 0 else PULL
        help_ = f"{beside(words, rehearsal=pull)} holds it to the base's own answers"
    elif rows.learned and config.goal.reference:
        help_ = f"{beside(words, beta=BETA * config.beta)} holds it to the model of before"
    else:
        return
    yield f"{', and '.join(wrong)}: {help_}"


def as_json(verdict: TrainingVerdict) -> dict[str, Any]:
    """The verdict as `--json` prints it: shares and nats, each with its interval."""
    parts = {"trained": verdict.trained, "held_out": verdict.held}
    others = verdict.others
    return {
        "step": verdict.step,
        "sentence": sentence(verdict),
        **{name: None if rows is None else _rows(rows) for name, rows in parts.items()},
        "others": None if others is None else _others(others),
        "test": verdict.tested,
        "trial": verdict.trial,
    }


def _rows(rows: RowChange) -> dict[str, Any]:
    return {
        "rows": rows.of, "form": rows.form, "right_before": _estimate(rows.right_before),
        "right": _estimate(rows.right), "rise": _change(rows.rise), "loss_before": _estimate(rows.loss_before),
        "loss": _estimate(rows.loss), "cost": _change(rows.cost),
    }  # fmt: skip


def _others(others: OtherAnswers) -> dict[str, Any]:
    parts = {name: _estimate(getattr(others, name)) for name in ("changed", "kl", "right_before", "right")}
    return {**parts, "worded": others.worded, "rise": _change(others.rise), "replies": others.replies}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    low, high = map(finite, estimate.interval)
    return {"mean": finite(estimate.mean), "low": low, "high": high, "n": estimate.n}


def _change(change: Change) -> dict[str, Any]:
    return {**_estimate(change.estimate), "p": change.p}
