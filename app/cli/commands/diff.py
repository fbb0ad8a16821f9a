"""`likely diff`: how two models or adapters differ on a text, token by token."""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.generate.own_answer import MOST, own_answer
from likely.app.cli.options import name_completion
from likely.app.cli.options.opening import Progress, read_text
from likely.app.words import heat
from likely.app.words.tables import Columns
from likely.app.words.units import NATS, bits, finite, json_line, predicted
from likely.engine.base.statistics.estimates import block_length
from likely.engine.base.statistics.measures import measure

if TYPE_CHECKING:
    from likely.engine.base.statistics.difference import Difference, Pair, Shift, TokenSequence
    from likely.engine.base.statistics.estimates import Estimate
    from likely.engine.text.tokenizer import Tokenizer
    from likely.engine.weights.sources.checkpoint import Checkpoint

NAMED = dict.fromkeys(("before", "now", "next", "estimates", "cross_surprisal"), NATS)  # units of this verb's keys


@click.command()
@click.argument("model_a", shell_complete=name_completion.both)
@click.argument("model_b", shell_complete=name_completion.both)
@click.argument("text", required=False)
@click.option("--chat", is_flag=True, help="TEXT is a question, by the chat template: compare what both answer.")
@click.option(
    "--top", default=3, show_default=True, type=click.IntRange(1, 50), help="How many tokens that rose or fell."
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Show js, tv or another measure too; repeatable."
)
@click.option(
    "--answers",
    metavar="TOKENS",
    type=click.IntRange(1, 100_000),
    help=f"Longest answer with --chat, in tokens, each the likeliest; implies --chat. Default: {MOST}.",
)
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def command(
    model_a: str,
    model_b: str,
    text: str | None,
    chat: bool,
    top: int,
    metrics: tuple[str, ...],
    answers: int | None,
    as_json: bool,
) -> None:
    """Compare MODEL_A (before) with MODEL_B (now) on TEXT or standard input; either may be an adapter's directory.

    \b
    likely diff smollm2 my-adapter "The capital of France is"
    likely diff smollm2 my-adapter "Why is the sky blue?" --chat    what each answers, and what it costs the other
    likely diff one-adapter another-adapter --json < essay.txt
    """
    from likely.engine.base.concurrency.resumable import whole
    from likely.engine.base.statistics import compare
    from likely.engine.train.tuned_models import open_model

    words = read_text(text, "TEXT")
    with Progress() as progress:
        opened = [open_model(name, progress.show) for name in (model_a, model_b)]
    names = model_a, model_b
    tokenizer = opened[0].tokenizer
    compare.check_vocabularies(tokenizer, opened[1].tokenizer, names)
    laws = [compare.logits(one.model, name=name) for one, name in zip(opened, names, strict=True)]
    asked = tuple(dict.fromkeys((*metrics, "reverse_kl")))
    if chat or answers:
        passages = [_answer(one, words, answers or MOST) for one in opened]
        read = whole(compare.crossed(laws, passages, names, top=top, metrics=asked))
        show = _answers_object if as_json else _show_answers
        show(read, passages, tokenizer, metrics)
        return
    ids = tokenizer.encode(words, bos=True)
    difference = compare.compare(laws[0], laws[1], ids, names, top=top, metrics=asked)
    if as_json:
        click.echo(json_line(_object(difference, tokenizer), **NAMED))
    else:
        _show(difference, tokenizer, metrics)
        click.echo(_both_ways(difference, difference.estimate("reverse_kl"), difference.estimate(), names))
        click.echo(_better(difference, names))


def _answer(checkpoint: "Checkpoint", question: str, most: int) -> "TokenSequence":
    """A model's own answer to a question, behind the prompt."""
    from likely.engine.base.statistics.difference import TokenSequence
    from likely.engine.decode.session import Session

    prompt, drawn = own_answer(Session(checkpoint), question, most)
    return TokenSequence((*prompt, *drawn), len(prompt) - 1, ended=True)


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
        "estimates": {
            "kl": _estimate(difference.estimate()),
            "reverse_kl": _estimate(difference.estimate("reverse_kl")),
            "nll": [_estimate(cost) for cost in difference.costs],
            "excess": _estimate(difference.excess),
        },
        "forks": list(difference.forks),
        "risen": [_shift(s, tokenizer) for s in difference.risen],
        "fallen": [_shift(s, tokenizer) for s in difference.fallen],
        "positions": positions,
    }


def _estimate(estimate: "Estimate") -> dict[str, Any]:
    low, high = estimate.interval
    return {"mean": finite(estimate.mean), "low": finite(low), "high": finite(high), "tokens": estimate.n}


def _answers_object(
    read: "dict[Pair, Difference]", passages: "Sequence[TokenSequence]", tokenizer: "Tokenizer", metrics: Sequence[str]
) -> None:
    """Print each answer as the other model reads it, and what each pays for each, in one line."""
    answers = [
        {"text": _answer_text(passage, tokenizer), **_object(read[pair], tokenizer)}
        for pair, passage in zip(((0, 1), (1, 0)), passages, strict=True)
    ]
    costs = [[_estimate(cost) for cost in row] for row in _costs(read)]
    models = list(read[0, 1].names)
    click.echo(json_line({"models": models, "cross_surprisal": costs, "answers": answers}, **NAMED))


def _costs(read: "dict[Pair, Difference]") -> "list[list[Estimate]]":
    """Costs of a token: a row for each model that writes, in it each one's answer."""
    (a_by_a, a_by_b), (b_by_b, b_by_a) = read[0, 1].costs, read[1, 0].costs
    return [[a_by_a, b_by_a], [a_by_b, b_by_b]]


def _answer_text(passage: "TokenSequence", tokenizer: "Tokenizer") -> str:
    return tokenizer.decode(passage.ids[passage.start + 1 :])


def _shift(shift: "Shift", tokenizer: "Tokenizer") -> dict[str, Any]:
    return {**asdict(shift), "text": _text(tokenizer, shift.token)}


def _show_answers(
    read: "dict[Pair, Difference]", passages: "Sequence[TokenSequence]", tokenizer: "Tokenizer", metrics: Sequence[str]
) -> None:
    """Print each answer as the other model reads it, then what each pays for each."""
    names = read[0, 1].names
    for pair, passage in zip(((0, 1), (1, 0)), passages, strict=True):
        click.echo(f"{names[pair[0]]} answers: {heat.visible(_answer_text(passage, tokenizer))}")
        _show(read[pair], tokenizer, metrics)
        click.echo()
    columns = Columns("{bits a token to write …:<26} {:>24} {:>24}")
    click.echo(columns.line("bits a token to write …", *(f"{name}'s answer" for name in names)))
    for name, row in zip(names, _costs(read), strict=True):
        click.echo(columns.line(name, *(f"{bits(cost.mean):.3f}" for cost in row)))
    click.echo(columns.line("what the other pays more", *(_spread(read[pair].excess) for pair in ((0, 1), (1, 0)))))
    kls = read[0, 1].estimate("reverse_kl"), read[1, 0].estimate("reverse_kl")
    click.echo(_both_ways(read[0, 1], *kls, names))


def _both_ways(difference: "Difference", a_b: "Estimate", b_a: "Estimate", names: tuple[str, str]) -> str:
    """Mean KL either way, with intervals."""
    ways = [f"KL({x} || {y}) {_spread(kl)}" for (x, y), kl in ((names, a_b), (names[::-1], b_a))]
    forks = f"{len(difference.forks)} forks"
    return f"{' · '.join(ways)} bits a token, 95 % by blocks of {block_length(a_b.n)} tokens · {forks}"


def _better(difference: "Difference", names: tuple[str, str]) -> str:
    """Which of two writes the text for less."""
    excess = difference.excess
    if not excess.n:
        return "no token is predicted: a text of one token does not tell which writes it for less"
    better = excess.better(*names)
    if not excess.mean and not excess.error:
        return "both write the text for the same"
    if not better:
        return f"not seen which writes the text for less: {names[1]} pays {_spread(excess)} bits a token more"
    return f"{better} writes the text for less: {names[1]} pays {_spread(excess)} bits a token more"


def _spread(estimate: "Estimate") -> str:
    """A mean and its interval in bits."""
    low, high = (bits(end) for end in estimate.interval)
    return f"{bits(estimate.mean):.4f}" + (f" ({low:.4f} to {high:.4f})" if math.isfinite(low + high) else "")


def _show(difference: "Difference", tokenizer: "Tokenizer", metrics: Sequence[str]) -> None:
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
    more = "".join(f" · {name} {_metric(name, value)}" for name, value in difference.metrics.items() if name in metrics)
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
