"""`likely pretrain`: train a model from random weights on a person's own text."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options.opening import Progress, RuledCommand
from likely.app.cli.options.table_options import table_options
from likely.app.cli.options.training import follow, leave, sign_of, training_options, watch
from likely.app.results.awake import kept_awake
from likely.app.results.training_kind import PRETRAIN, look_at, options_of
from likely.app.results.training_plan import describe_pretraining
from likely.app.words.heat import sanitize_line
from likely.app.words.interruption import stopped_by_signals
from likely.app.words.units import bits
from likely.engine.base.files import artifacts
from likely.engine.base.options import read_toml
from likely.engine.train.pretrain.config import NEEDS, PretrainConfig

if TYPE_CHECKING:
    from likely.engine.train.pretrain.pretraining import Pretraining


@click.command("pretrain", cls=RuledCommand)
@training_options
@table_options(PretrainConfig, needs=NEEDS)
def command(
    data: str | None, config: Path | None, resume: bool, dry_run: bool, screen: bool, as_json: bool, **values: Any
) -> None:  # fmt: skip
    """Train a model from random weights on DATA: a file or a folder of text.

    \b
    likely pretrain novels/ --dry-run                what would be trained, for how long, in how much memory
    likely pretrain novels/ --size 10M --out mine    a tokenizer, a model, and its training
    likely pretrain novels/ --screen                 curves, bits a byte, samples as it learns, on the full screen
    likely pretrain novels/ --tokenizer bytes        no vocabulary but the bytes
    likely pretrain --out mine --resume              go on where a run was stopped or killed
    likely chat -M mine                              the result is a model like any other
    """
    flags = {name: value for name, value in values.items() if value is not None}
    from_file = read_toml(config) if config is not None else {}
    named = {**flags, **({"data": data} if data else {})}
    settings = options_of(PRETRAIN, named, from_file, resume=resume)
    assert isinstance(settings, PretrainConfig)
    if screen:
        watch(settings, resume)
    from likely.engine.train.pretrain.pretraining import open_run

    with Progress() as progress:
        opened = open_run(settings, progress.show, resume=resume)
    opened.run.made_as = artifacts.PRETRAINED
    if opened.run.leads and as_json:
        click.echo(json.dumps({"event": "prepared", **_object(opened)}, default=str))
    elif opened.run.leads:
        for line in describe_pretraining(opened):
            click.echo(sanitize_line(line), err=not dry_run)
    if not dry_run:
        _run(opened, as_json)


def _run(opened: "Pretraining", as_json: bool) -> None:
    from likely.engine.train.control import Completion, Ended, Refused, TrainControl
    from likely.engine.train.pretrain.pretraining import Pretrained, train

    run, control = opened.run, TrainControl()
    end: Ended | None = None
    sign = sign_of(opened.config.goal)
    with kept_awake(), stopped_by_signals(control.stop), Progress() as progress:
        for event, _ in follow(train(opened, control), run.leads, as_json, progress, sign):
            if isinstance(event, Ended):
                end = event
            elif not run.leads or as_json:
                continue
            elif isinstance(event, Completion):
                click.echo(f"  {sanitize_line(event.request.text + event.text)}", err=True)
            elif isinstance(event, Refused):
                click.echo(f"  no sample: {sanitize_line(event.why)}", err=True)
            elif isinstance(event, Pretrained) and event.reason in ("done", "patience") and event.bits_per_byte:
                figures = (
                    f"{sign}{bits(event.loss or 0.0):.4f} bits a token, {sign}{event.bits_per_byte:.4f} bits a byte"
                )
                after = look_at(opened.config, str(event.folder))
                click.echo(f"{event.reason}, {event.tokens:,} tokens: {figures}; {after}", err=True)
    assert end is not None
    if run.leads:
        best = run.folder / "best"
        leave(end, run, "pretrain", f", the best so far in {best}" if best.exists() else "")


def _object(opened: "Pretraining") -> dict[str, Any]:
    return {**asdict(opened.prepared), "corpus": asdict(opened.corpus.facts)}
