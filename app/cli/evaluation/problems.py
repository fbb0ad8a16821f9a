"""A file of problems for `likely reason`: a line for each, then what the method gains over greedy decoding."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from likely.app.words.interruption import INTERRUPTED, stopped_by_signals
from likely.app.words.tables import Columns
from likely.app.words.units import many
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.answers.vote import interval
from likely.engine.decode.loop.control import RunControl
from likely.engine.measure.reason import chains, problems
from likely.engine.measure.reason.paths import ReasoningPath

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.measure.evaluate.tasks.tasks import Question
    from likely.engine.measure.reason.reasoning import Reasoning
    from likely.engine.sampling.trace.step import SamplingConfig


def show_problems(
    session: "Session",
    questions: "Sequence[Question]",
    way: "Reasoning",
    recipe: "SamplingConfig",
    seed: int,
    complain: Callable[[ReasoningPath, str], None],
    *,
    analyse: bool,
    as_json: bool,
) -> None:
    """Write figures over problems; with `as_json` one object at the end. Exit code 130 if it was stopped."""
    control, done = RunControl(recipe), list[problems.Attempt]()
    with stopped_by_signals(control.cancel):
        for one in problems.attempt(session, questions, way, control, seed, complain):
            done.append(one)
            if not as_json:
                signs = {True: "right", False: "wrong"}
                answer = one.outcome.answer if one.outcome.answer is not None else "no answer"
                greedy = signs[one.right(one.greedy)] if one.greedy.answer is not None else "no answer"
                line = " ".join(one.question.prompt.split())[:48]
                click.echo(f"[{len(done)}] {line} · {answer} {signs[one.solved]} · greedy {greedy}")
    if done:
        gain = problems.gain(done, way.method)
        chain = chains.sensitivity(session, way, done) if analyse else {}
        wrong = chains.first_wrong_steps(done, way.verifier, complain) if analyse and way.verifier is not None else None
        if as_json:
            report = gain_object(gain) | {"changed": {how: _object(e) for how, e in chain.items()}}
            if wrong is not None:
                report["first_wrong"] = {"none" if i is None else i + 1: wrong[i] for i in _by_step(wrong)}
            click.echo(json.dumps(report))
        else:
            _show(gain, way)
            _show_chains(chain)
            if wrong is not None:
                _show_first_wrong(wrong)
    if control.cancelled:
        click.echo(f"likely: stopped after {len(done)} of {len(questions)} problems", err=True)
        sys.exit(INTERRUPTED)


def gain_object(gain: problems.Gain) -> dict[str, Any]:
    """The object that `--json` prints."""
    return {
        "problems": gain.p,
        "greedy": _object(gain.greedy) | {"tokens": gain.greedy_tokens},
        "method": _object(gain.method) | {"tokens": gain.tokens},
        "difference": _object(gain.change.estimate) | {"p": gain.change.p},
        "curve": [
            {"paths": s.paths, "tokens": s.tokens, "pass": _object(s.one), "maj": _object(s.vote)} for s in gain.curve
        ],
        "plurality_right": gain.plurality,
        "unanswered": gain.unanswered,
    } | ({"flips": asdict(gain.flips)} if gain.flips is not None else {})


def _object(estimate: Estimate) -> dict[str, Any]:
    low, high = estimate.interval
    return {"mean": estimate.mean, "low": low, "high": high} if estimate.n > 1 else {"mean": estimate.mean}


def _show(gain: problems.Gain, way: "Reasoning") -> None:
    click.echo()
    click.echo(f"greedy  {_share(gain.greedy)}  {gain.greedy_tokens:8.1f} tokens a problem")
    click.echo(f"{way.method:7} {_share(gain.method)}  {gain.tokens:8.1f} tokens a problem · {many(way.n, 'path')}")
    change, low, high = (min(max(x, -1.0), 1.0) for x in (gain.change.estimate.mean, *gain.change.estimate.interval))
    interval = f" [{100 * low:+.1f}, {100 * high:+.1f}]" if gain.p > 1 else ""
    click.echo(f"{way.method} over greedy, paired: {100 * change:+.1f} points{interval}, {gain.change.verdict()}")
    columns = Columns("{paths:>6} {tokens:>9}  {one is right:<19}  {a vote is right}")
    if gain.curve:
        click.echo(columns.heading)
    for spent in gain.curve:
        click.echo(columns.line(str(spent.paths), f"{spent.tokens:.1f}", _share(spent.one), _share(spent.vote)))
    if gain.flips is not None:
        lost, won = gain.flips.right_to_wrong, gain.flips.wrong_to_right
        click.echo(f"from the first answer to the last: {lost} right to wrong, {won} wrong to right")
    none = f" · {many(gain.unanswered, 'path')} without an answer" if gain.unanswered else ""
    if gain.curve:
        click.echo(f"in {gain.plurality:.0%} of {gain.p} problems most paths are right: what a vote tends to{none}")


def _show_chains(changed: dict[str, Estimate]) -> None:
    """Of a chain of thought that is changed, how often the answer changes with it."""
    for how, estimate in changed.items():
        if estimate.n:
            click.echo(f"chain {how:10} {_share(estimate)} of {estimate.n} answers change")


def _by_step(wrong: Counter[int | None]) -> list[int | None]:
    return sorted(wrong, key=lambda step: -1 if step is None else step)


def _show_first_wrong(wrong: Counter[int | None]) -> None:
    """Of greedy texts, with which of their steps they go wrong, by a verifier."""
    total = wrong.total()
    for step in _by_step(wrong):
        low, high = interval(wrong[step], total)
        name = "no step is wrong" if step is None else f"wrong from step {step + 1}"
        click.echo(f"{name:18} {wrong[step]:4} of {total} [{low:.0%}, {high:.0%}]")
    if not total:
        click.echo("the verifier judged no beginning: there is no first wrong step to tell")


def _share(estimate: Estimate) -> str:
    low, high = estimate.interval
    interval = f" [{100 * max(low, 0):.0f}, {100 * min(high, 1):.0f}]" if estimate.n > 1 else ""
    return f"{100 * estimate.mean:5.1f} %{interval:10}"
