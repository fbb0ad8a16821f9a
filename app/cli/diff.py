"""`likely diff`: how two models or adapters differ on a text, token by token."""

import math
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from likely.app import heat
from likely.app.cli.opening import Progress, read_text
from likely.app.tables import Columns
from likely.app.units import NATS, bits, json_line, predicted
from likely.engine.statistics.measures import measure

if TYPE_CHECKING:
    from likely.engine.statistics.difference import Difference, Shift
    from likely.engine.tokenizer import Tokenizer


@click.command()
@click.argument("model_a")
@click.argument("model_b")
@click.argument("text", required=False)
@click.option("--chat", is_flag=True, help="TEXT is a question: compare the answers' beginnings by the chat template.")
@click.option("--top", default=3, show_default=True, type=click.IntRange(1, 50), help="Tokens that rose and fell.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Also js, tv or another; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def command(
    model_a: str, model_b: str, text: str | None, chat: bool, top: int, metrics: tuple[str, ...], as_json: bool
) -> None:
    """Compare MODEL_A (before) with MODEL_B (now) on TEXT or standard input; either may be an adapter's directory.

    \b
    likely diff smollm2 my-adapter "The capital of France is"
    likely diff one-adapter another-adapter --json < essay.txt
    """
    from likely.engine.statistics import compare
    from likely.engine.tune.tuned import open_model

    words = read_text(text, "TEXT")
    with Progress() as progress:
        a, b = open_model(model_a, progress.show), open_model(model_b, progress.show)
    names = model_a, model_b
    compare.check_vocabularies(a.tokenizer, b.tokenizer, names)
    tokenizer = a.tokenizer
    ids = tokenizer.chat([{"role": "user", "content": words}]) if chat else tokenizer.encode(words, bos=True)
    one, two = (compare.logits(x.model, name=name) for x, name in zip((a, b), names, strict=True))
    comparison = compare.compare(one, two, ids, names, top=top, metrics=metrics)
    if as_json:
        click.echo(json_line(_object(comparison, tokenizer), before=NATS, now=NATS, next=NATS))
    else:
        _show(comparison, tokenizer)


def _text(tokenizer: "Tokenizer", token: int) -> str:
    return tokenizer.piece(token).decode(errors="replace")


def _object(difference: "Difference", tokenizer: "Tokenizer") -> dict[str, Any]:
    positions = []
    for p in difference.positions:
        entry = asdict(p)
        entry |= entry.pop("metrics")
        entry["text"] = _text(tokenizer, p.token)
        for side in ("risen", "fallen", "likely"):
            entry[side] = [_shift(s, tokenizer) for s in getattr(p, side)]
        positions.append(entry)
    a, b = difference.nll
    return {
        "models": list(difference.names),
        "kl": difference.kl,
        "same_top": difference.same_top,
        **difference.metrics,
        "spread": difference.spread,
        "nll": None if a != a else [a, b],
        "risen": [_shift(s, tokenizer) for s in difference.risen],
        "fallen": [_shift(s, tokenizer) for s in difference.fallen],
        "positions": positions,
    }


def _shift(shift: "Shift", tokenizer: "Tokenizer") -> dict[str, Any]:
    return {**asdict(shift), "text": _text(tokenizer, shift.token)}


def _show(difference: "Difference", tokenizer: "Tokenizer") -> None:
    mode = heat.colour_mode(sys.stdout)
    width = heat.columns(mode)
    columns = Columns("{after:<18} {KL, bits:>8}  {what rose and fell in the next token}")
    click.echo(f"{columns.heading}, from {difference.names[0]} to {difference.names[1]}")
    for p in difference.positions:
        name = heat.visible(repr(_text(tokenizer, p.token))[1:-1]) or "''"
        moves = [(s, "↑") for s in p.risen] + [(s, "↓") for s in p.fallen]
        moves.sort(key=lambda move: -abs(move[0].change))
        shown = "  ".join(
            f"{arrow}{heat.visible(repr(_text(tokenizer, s.token))[1:-1])} {_share(s.before)}→{_share(s.now)}"
            for s, arrow in moves[: len(p.risen)]
        )
        row = columns.line(name, f"{bits(p.kl):.4f}", shown)[: max(width, 38, 20 + len(name))]
        click.echo(heat.paint(name, heat.moved_level(p.kl), mode) + row[len(name) :])
    a, b = difference.nll
    known = predicted(sum(p.next is not None for p in difference.positions), len(difference.positions))
    cost = "" if a != a else f" · {known}, which cost {bits(a):.3f} and {bits(b):.3f} bits each"
    more = "".join(f" · {name} {_metric(name, value)}" for name, value in difference.metrics.items())
    wide = {name: bits(value) for name, value in difference.spread["kl"].items()}
    kl = f"mean KL {wide['mean']:.4f} bits a token (median {wide['median']:.4f}, p99 {wide['p99']:.4f})"
    click.echo(f"{kl} · same most likely token at {difference.same_top:.0%}{cost}{more}")


def _metric(name: str, value: float) -> str:
    """A measure as it is read, with its unit."""
    entry = measure(name)
    value, unit = (bits(value), " bits") if entry.unit == NATS else (value, "")
    return f"{value:{entry.form or '.4f'}}{unit}"


def _share(logprob: float) -> str:
    return f"{math.exp(logprob):.1%}"
