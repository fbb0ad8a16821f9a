"""A training on the command line: a line of progress, and what is said at its end."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from likely.app.cli.options.opening import Progress, on_terminal
from likely.app.cli.options.table_options import options
from likely.app.results.training_command import going_on
from likely.app.results.training_plan import duration
from likely.app.words.interruption import INTERRUPTED
from likely.app.words.units import PER_TOKEN, bits, json_line, margin
from likely.engine.base.errors import LikelyError
from likely.engine.base.objectives import Objective

if TYPE_CHECKING:
    from likely.app.results.training_kind import TrainingConfig
    from likely.engine.train.control import Ended
    from likely.engine.train.run.run import TrainingRun


training_options = options(
    click.argument("data", required=False),
    click.option("--config", "-c", type=click.Path(path_type=Path, dir_okay=False), help="Options from a TOML file."),
    click.option("--resume", is_flag=True, help="Go on with the run in --out, with the options that it began with."),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and stop."),
    click.option("--screen", is_flag=True, help="Watch it on the full screen, instead of a line of progress."),
    click.option("--json", "as_json", is_flag=True, help="One object an event on stdout."),
)


def watch(config: "TrainingConfig", resume: bool) -> NoReturn:
    """Train on the full screen, and exit as it does. UsageError where there is no terminal."""
    if not on_terminal():
        raise click.UsageError("the full screen needs a terminal; without --screen there is a line of progress")
    from likely.app.tui import tune

    sys.exit(tune(config, resume))


def sign_of(objective: Objective) -> str:
    """The sign before losses of an objective: those of diffusion are bounds, by random masks."""
    return "<= " if objective.bound else ""


def follow(
    events: Iterable[Any], leads: bool, as_json: bool, progress: Progress, sign: str = "", per: str = "token"
) -> Iterator[tuple[Any, str]]:
    """The events of a training, shown as they come by the rank that leads, each with the last validation in words.

    `sign` stands before a loss of rows that were held out; a loss is the mean of a `per`, token or pair. Of rewards,
    whose loss is 0 by construction, their mean is shown in its place.
    """
    from likely.app.results.training_verdict import as_json as verdict_json
    from likely.app.words import reward_text
    from likely.engine.train.control import Ended, Saved, Stepped, Validated
    from likely.engine.train.rewards.figures import ExpertIteration, HeldOut, Rewarded
    from likely.engine.train.rewards.reward_history import RewardWarning
    from likely.engine.train.verdict import TrainingVerdict

    article = "an" if per == "answer" else "a"
    drawn = list[Rewarded]()
    done, valid, left, losses = (
        False,
        "",
        "",
        dict.fromkeys(("loss", "smooth", "low", "high", "by_position"), f"nats {article} {per}"),
    )
    unit = f" bits a {per}"
    for event in events:
        if leads and isinstance(event, Ended):
            progress.show("", 0, 0)
        elif isinstance(event, ExpertIteration):
            pass  # its figures stand at the end
        elif leads and as_json and isinstance(event, HeldOut):
            click.echo(json_line({"event": "held_out", "step": event.step, **reward_text.as_json(event)}))
        elif leads and isinstance(event, HeldOut):
            progress.show("", 0, 0)
            if not done:  # at the end its figures are said whole
                click.echo(f"step {event.step} · {reward_text.held_out(event)}", err=True)
        elif leads and isinstance(event, RewardWarning):
            line, unit_of = reward_text.warning(event), {"entropy": PER_TOKEN, "length": "tokens"}.get(event.name)
            if as_json:
                units = dict.fromkeys(("before", "now"), unit_of) if unit_of else {}
                click.echo(json_line({"event": "warning", **asdict(event), "line": line}, **units))
            else:
                progress.show("", 0, 0)
                click.echo(f"step {event.step} · warning: {line}", err=True)
        elif leads and as_json and isinstance(event, Rewarded):
            units = {"kl": "nats an answer", "entropy": PER_TOKEN}
            click.echo(json_line({"event": "rewarded", **asdict(event)}, **units))
        elif leads and as_json and isinstance(event, TrainingVerdict):
            units = dict.fromkeys(("loss_before", "loss", "cost", "kl"), PER_TOKEN) | {"regret": "nats"}
            click.echo(json_line({"event": "verdict", **verdict_json(event)}, **units))
        elif leads and as_json:
            click.echo(json_line({"event": type(event).__name__.lower(), **asdict(event)}, **losses))
        elif leads and isinstance(event, Rewarded):
            drawn.append(event)
            progress.show(f"step {event.step}{left} · {reward_text.rewarded(drawn)}", 0, 0)
        elif leads and isinstance(event, Stepped):
            done, rest = event.step == event.steps, event.elapsed_s / event.step * (event.steps - event.step)
            left = "" if done else f" · {duration(rest)} left"  # after the last step there is what is no step
            line = (
                f"loss {bits(event.smooth):.3f}{valid or unit} · {event.tokens_per_s:,.0f} tokens/s · "
                f"{event.memory / 1e9:.2f} GB{left}"
            )
            if per != "answer":  # of which the rewards are told
                progress.show(f"step {event.step} · {line}", event.step, event.steps)
        elif leads and isinstance(event, Saved):
            progress.show("looking at what it has learned" if done else "saved", 0, 0)
        elif isinstance(event, Validated):
            valid = f" · valid {sign}{margin(event.loss, event.high, unit)}"
            if leads:
                progress.show("", 0, 0)
                density = "" if event.bits_per_byte is None else f" · {sign}{event.bits_per_byte:.3f} bits a byte"
                click.echo(f"step {event.step}{valid}{density}{' · best' if event.best else ''}", err=True)
        yield event, valid


def leave(end: "Ended", run: "TrainingRun", verb: str, note: str = "") -> None:
    """Say how to go on, or what is left, where a run did not come to its end. LikelyError where it failed."""
    if end.reason in ("nan", "diverged"):
        raise LikelyError(f"{end.why}; the weights of step {run.saved} are in {run.folder}{note}")
    if end.reason == "stopped":
        click.echo(f"stopped after step {end.step}; go on with: {going_on(verb, str(run.folder))}", err=True)
        sys.exit(INTERRUPTED)
