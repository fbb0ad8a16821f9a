"""`likely pretrain`: train a model from random weights on a person's own text."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.awake import kept_awake
from app.cli.opening import Progress, Ruled
from app.cli.training import follow, leave, table_options
from app.heat import one_line
from app.interruption import stopped_by_signals
from app.training_plan import duration
from engine.options import read_toml
from engine.pretrain.config import PretrainConfig, configure

if TYPE_CHECKING:
    from engine.pretrain.pretraining import Pretraining


@click.command("pretrain", cls=Ruled)
@click.argument("data", required=False)
@click.option("--config", "-c", type=click.Path(path_type=Path, dir_okay=False), help="Options from a TOML file.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
@click.option("--json", "as_json", is_flag=True, help="One object an event on stdout.")
@table_options(PretrainConfig)
def command(data: str | None, config: Path | None, resume: bool, dry_run: bool, as_json: bool, **values: Any) -> None:
    """Train a model from random weights on DATA: a file or a folder of text.

    \b
    likely pretrain novels/ --dry-run                what would be trained, for how long, in how much memory
    likely pretrain novels/ --size 10M --out mine    a tokenizer, a model, and its training
    likely pretrain novels/ --tokenizer bytes        no vocabulary but the bytes
    likely pretrain novels/ --out mine --resume      go on where a run was stopped or killed
    likely chat -M mine                              the result is a model like any other
    """
    given = {name: value for name, value in values.items() if value is not None}
    from_file = read_toml(config) if config is not None else {}
    settings = configure({**given, **({"data": data} if data else {})}, configure(from_file))
    from engine.pretrain.pretraining import open_run

    with Progress() as progress:
        opened = open_run(settings, progress.show, resume=resume)
    if opened.run.leads and as_json:
        click.echo(json.dumps({"event": "prepared", **_object(opened)}, default=str))
    elif opened.run.leads:
        for line in plan(opened):
            click.echo(one_line(line), err=not dry_run)
    if not dry_run:
        _run(opened, as_json)


def _run(opened: "Pretraining", as_json: bool) -> None:
    from engine.pretrain.pretraining import Pretrained, train
    from engine.tune.control import Completion, Ended, TrainControl

    run, control = opened.run, TrainControl()
    end: Ended | None = None
    with kept_awake(), stopped_by_signals(control.stop), Progress() as progress:
        for event, _ in follow(train(opened, control), run.leads, as_json, progress):
            if isinstance(event, Ended):
                end = event
            elif not run.leads or as_json:
                continue
            elif isinstance(event, Completion):
                click.echo(f"  {one_line(event.request.text + event.text)}", err=True)
            elif isinstance(event, Pretrained) and event.reason in ("done", "patience") and event.bits_per_byte:
                autoregressive = opened.config.objective == "autoregressive"
                sign, verb = ("", "chat") if autoregressive else ("<= ", "fill TEXT")  # a bound, by random masks
                figures = f"{sign}{event.loss:.4f} nats a token, {sign}{event.bits_per_byte:.4f} bits a byte"
                click.echo(
                    f"{event.reason}, {event.tokens:,} tokens: {figures}; likely {verb} -M {event.folder}", err=True
                )
    assert end is not None
    if run.leads:
        best = run.folder / "best"
        leave(end, run, sys.argv[1:], f", the best so far in {best}" if best.exists() else "")


def _object(opened: "Pretraining") -> dict[str, Any]:
    return {**asdict(opened.prepared), "corpus": asdict(opened.corpus.facts)}


def plan(opened: "Pretraining") -> Iterator[str]:
    """The plan in lines for a person."""
    p, facts, c = opened.prepared, opened.corpus.facts, opened.config
    yield (
        f"text      {facts.train_bytes + facts.valid_bytes:,} bytes in {facts.documents:,} pieces; "
        f"{facts.valid_bytes / (facts.train_bytes + facts.valid_bytes):.0%} set aside by hash"
    )
    yield (
        f"tokenizer {c.tokenizer}, {p.vocab:,} tokens, {opened.corpus.bytes_a_token:.2f} bytes each; by their "
        f"frequencies alone {facts.unigram:.2f} bits a byte (by those of bytes {facts.unigram_of_bytes:.2f})"
    )
    s = p.shape
    yield (
        f"model     {s.family}, {s.layers} layers of width {s.width} with {s.heads} heads: {p.parameters:,} "
        f"parameters, {p.parameters_without_embedding:,} without embeddings"
    )
    passes = p.tokens / max(1, p.train_tokens)
    yield (
        f"training  {p.tokens:,} tokens in {p.steps:,} steps, {passes:.1f} passes over {p.train_tokens:,}; "
        f"{c.optimiser} at {p.rate:.4g}, {c.schedule}, {c.parametrisation}"
    )
    yield f"estimate  {duration(p.seconds)}; peak {p.memory / 1e9:.2f} GB, {p.available / 1e9:.1f} GB free"
