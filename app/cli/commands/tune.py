"""`likely tune`: fine-tune a model on rows of text, and show what it did."""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options.opening import Progress, RuledCommand, chosen_model
from likely.app.cli.options.table_options import table_options
from likely.app.cli.options.training import follow, leave, sign_of, training_options, watch
from likely.app.results.awake import kept_awake
from likely.app.results.training_command import command as command_of
from likely.app.results.training_kind import TUNE, options_of
from likely.app.results.training_plan import describe, outcome
from likely.app.results.training_verdict import advice, has_learned, lines, sentence
from likely.app.words import heat, reward_text
from likely.app.words.interruption import stopped_by_signals
from likely.app.words.units import PER_TOKEN, json_line, plain
from likely.engine.base.files import artifacts
from likely.engine.base.options import read_toml
from likely.engine.weights.adapters.config import NEEDS, RENAMED, Config

if TYPE_CHECKING:
    from likely.engine.train.control import Ended
    from likely.engine.train.data.samples import TrainingSample
    from likely.engine.train.open_run import Tuning
    from likely.engine.train.rewards.figures import ExpertIteration, HeldOut
    from likely.engine.train.verdict import TrainingVerdict


@click.command("tune", cls=RuledCommand)
@training_options
@click.option(
    "--search",
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    help="Choose options by cross-validation over the [grid] of a TOML file, then train on all rows with them.",
)
@table_options(Config, RENAMED, NEEDS)
def command(
    data: str | None, config: Path | None, resume: bool, search: Path | None, dry_run: bool, screen: bool,
    as_json: bool, **values: Any,
) -> None:  # fmt: skip
    """Fine-tune a model on DATA: a file of rows, a folder, or the id of a hub data set.

    \b
    likely tune rows.jsonl --dry-run                 what would be trained, for how long, in how much memory
    likely tune rows.jsonl --out my-adapter          an adapter (LoRA); rank, rate and steps chosen by the data
    likely tune rows.jsonl --screen                  curves, answers, and what moved, on the full screen
    likely tune rows.jsonl -c tune.toml --rank 16    options from a file, and over them from flags
    likely tune --out my-adapter --resume            go on where a run was stopped or killed, with its options
    likely tune rows.jsonl --search grid.toml        penalties by cross-validation; the winner on all rows
    """
    flags = {name: value for name, value in values.items() if value is not None and value != ()}
    from_file = read_toml(config) if config is not None else {}
    named = {**flags, **({"data": data} if data else {})}
    if not (resume or "model" in flags or "model" in from_file) and (model := chosen_model()):
        named["model"] = model
    settings = options_of(TUNE, named, from_file, resume=resume)
    assert isinstance(settings, Config)
    if screen:
        watch(settings, resume)
    words = shlex.split(command_of(settings))[1:] if resume else sys.argv[1:]
    if search is not None:
        from likely.app.cli.reports.tune_search import as_one_training, chosen

        winner = chosen(settings, search, [*from_file, *flags], dry_run=dry_run, as_json=as_json)
        if winner is None:
            return
        settings, resume, won = winner
        words = as_one_training(words, won)
    from likely.engine.measure.evaluate.tasks.problems import read
    from likely.engine.train.assess.report import examples, refuse_if_too_large
    from likely.engine.train.open_run import open_run

    with Progress() as progress:
        opened = open_run(settings, progress.show, resume=resume, read=read)
        plan = opened.plan  # of rewards it draws
    if dry_run:
        if as_json:
            click.echo(json.dumps(_object(opened), default=plain))
        else:
            for line in describe(opened):
                click.echo(heat.sanitize_line(line))
            for sample in examples(opened.run.rows.train):
                click.echo(_painted(opened, sample))
        return
    refuse_if_too_large(plan, opened.run.config)
    if as_json and opened.run.leads:
        click.echo(json.dumps({"event": "prepared", **_object(opened)}, default=plain))
    elif opened.run.leads:
        for line in describe(opened):
            click.echo(heat.sanitize_line(line), err=True)
    end = _run(opened, as_json, words)
    if not opened.run.leads:
        return
    leave(end, opened.run, "tune")


def _run(opened: "Tuning", as_json: bool, words: Sequence[str]) -> "Ended":
    from likely.engine.train.assess.examination import examined
    from likely.engine.train.control import Ended, TrainControl
    from likely.engine.train.rewards.figures import ExpertIteration, HeldOut
    from likely.engine.train.run.trainer import train
    from likely.engine.train.verdict import TrainingVerdict

    run, control, verdict, passed, expert = opened.run, TrainControl(), None, None, None
    began, sign = run.counters.step, sign_of(run.config.goal)
    with kept_awake(), stopped_by_signals(control.stop), Progress() as progress:
        control.report = progress.show
        events = examined(train(run, control), run, control)
        for event, valid in follow(events, run.leads, as_json, progress, sign, run.config.goal.unit):
            if isinstance(event, TrainingVerdict):
                verdict = event
            if isinstance(event, HeldOut):
                passed = event
            if isinstance(event, ExpertIteration):
                expert = event
            if isinstance(event, Ended):
                if run.leads:
                    _ended(opened, event, began, valid, as_json, words, verdict, passed, expert)
                return event
    raise AssertionError("a run ends with Ended")


def _ended(
    opened: "Tuning", event: "Ended", began: int, valid: str, as_json: bool, words: Sequence[str],
    verdict: "TrainingVerdict | None", passed: "HeldOut | None", expert: "ExpertIteration | None",
) -> None:  # fmt: skip
    """Say how a run ended, how far it has moved the model, and what it has learned."""
    from likely.engine.train.run.probes import moved

    run, well = opened.run, event.reason in ("done", "patience")
    far = moved(run) if well else None
    if as_json:
        held = {} if passed is None else {"measured_at": passed.step, **reward_text.as_json(passed, expert)}
        click.echo(json_line({"event": "ended", **asdict(event), "moved": far, **held}, moved=PER_TOKEN))
    elif well:
        why = f" ({event.why})" if event.why else ""
        click.echo(f"{event.reason} after step {event.step}{why}: {run.folder}{valid}", err=True)
        if began == event.step:
            click.echo("nothing was left to do: --resume with more --epochs or --steps goes on", err=True)
        if run.counters.best_step not in (0, event.step) and (run.folder / artifacts.BEST).is_dir():
            place, best = shlex.quote(str(run.folder)), shlex.quote(str(run.folder / artifacts.BEST))
            what = "the most held-out pass@1" if run.config.goal.drawn else "the least validation loss"
            least = f"-A {best} those of step {run.counters.best_step}, {what}"
            click.echo(heat.sanitize_line(f"-A {place} takes the weights of step {event.step}, {least}"), err=True)
        said = (*lines(verdict), sentence(verdict)) if verdict is not None else ()
        said = (*said, *reward_text.lines(passed)) if passed is not None else said
        said = (*said, *reward_text.expert_lines(expert)) if expert is not None else said
        learned = verdict is not None and has_learned(verdict)
        came = list(outcome(far, event.step, run.config.rate, words, learned=learned))
        enough = len(came) == (far is not None)  # nothing is to be changed for having done next to nothing
        changes = advice(verdict, run.config, words) if verdict is not None and enough else ()
        for line in (*said, *came, *changes):
            click.echo(heat.sanitize_line(line), err=True)


def _painted(opened: "Tuning", sample: "TrainingSample") -> str:
    """A sample's text, its trained tokens coloured, or in brackets where there are no colours."""
    from likely.engine.train.losses.batch_losses import targets_of

    mode, tokenizer = heat.colour_mode(sys.stdout), opened.checkpoint.tokenizer
    width = shutil.get_terminal_size().columns
    out, inside = [f"\n{heat.sanitize_line(sample.where)}\n"], False
    for token, trained in zip(sample.ids[: 8 * width], targets_of(sample, opened.run.config), strict=False):
        piece = heat.visible(tokenizer.piece(token).decode(errors="replace"))
        if mode in ("none", "plain"):
            out.append(("⟦" if trained and not inside else "⟧" if inside and not trained else "") + piece)
            inside = trained
        else:
            out.append(heat.paint(piece, 3 if trained else 0, mode))
    return "".join(out) + ("⟧" if inside else "")


def _object(opened: "Tuning") -> dict[str, Any]:
    rows = opened.data
    return {
        "model": opened.run.config.model,
        "forms": dict(rows.forms),
        "rows": {"train": len(rows.train), "valid": len(rows.valid), "test": len(rows.test)},
        "duplicates": rows.duplicates,
        "overlap": rows.overlap,
        "too_long": opened.train.too_long,
        "untrained": list(opened.train.untrained),
        **plain(opened.plan),
        "asking_s": opened.beside.asking_s,
        "looking_s": opened.beside.looking_s,
        "trial_s": opened.trial_s,
    }
