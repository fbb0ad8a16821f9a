"""`likely bench`: how fast a model runs on this machine."""

import json
from typing import TYPE_CHECKING

import click

from likely.app.cli.options.opening import Progress, RuledCommand, default_model, model_option
from likely.app.words.tables import Columns
from likely.engine.base.errors import ParameterError

if TYPE_CHECKING:
    from likely.engine.decode.bench import Bench


@click.command("bench", cls=RuledCommand)
@click.argument("what", type=click.Choice(["model", "kernels"]), default="model")
@model_option
@click.option("--rounds", type=click.IntRange(2), default=5, show_default=True, help="Runs of each measurement.")
@click.option("--tokens", type=click.IntRange(2), default=32, show_default=True, help="Tokens decoded in a run.")
@click.option("--contexts", default="64,256,1024", show_default=True, help="Tokens that stand before the decoded ones.")
@click.option("--answers", "-n", type=click.IntRange(1, 256), default=8, show_default=True, help="Answers in a batch.")
@click.option("--against", type=click.Choice(["mlx-lm"]), help="Take turns with mlx-lm on the same weights.")
@click.option("--case", default="", metavar="TEXT", help="Only the kernel cases whose name contains this.")
@click.option("--json", "as_json", is_flag=True, help="Everything as one object.")
def command(
    what: str,
    model: str,
    rounds: int,
    tokens: int,
    contexts: str,
    answers: int,
    against: str | None,
    case: str,
    as_json: bool,
) -> None:
    """Measure prefill, decode, batch, load and memory of a model, or our Metal kernels beside mlx's own.

    \b
    likely bench
    likely bench kernels
    likely bench -M ./my-model --against mlx-lm --json
    """
    if what == "kernels":
        from likely.app.cli.reports.kernel_table import show_kernels

        show_kernels(case, as_json=as_json)
        return
    from likely.engine.decode.bench import run, timed
    from likely.engine.decode.session import Session
    from likely.engine.weights.sources.checkpoint import load

    try:
        lengths = [int(part) for part in contexts.split(",")]
        if min(lengths) < 1:
            raise ValueError
    except ValueError:
        raise ParameterError(f"--contexts must be numbers such as 64,1024, got {contexts!r}") from None
    name = model or default_model()
    with Progress() as progress:
        checkpoint, load_s = timed(lambda: load(name, progress=progress.show))
        peer = None
        if against is not None:
            from likely.engine.weights.mlx_lm_baseline import MlxLm

            peer = MlxLm(checkpoint.info, checkpoint.precision.dtype)
        bench = run(
            Session(checkpoint),
            peer,
            rounds=rounds,
            tokens=tokens,
            contexts=lengths,
            branches=answers,
            prefill=min(512, checkpoint.model.config.context - tokens),
            load_s=load_s,
            progress=progress.show,
        )
    if as_json:
        click.echo(json.dumps(bench.as_dict()))
        return
    for line in table(bench):
        click.echo(line)
    if against is not None:
        from likely.app.cli.commands.doctor import kernels

        precision = str(checkpoint.precision.dtype).removeprefix("mlx.core.")
        for line in block(bench, precision + (" packed" if checkpoint.precision.packed else ""), kernels()):
            click.echo(line)


def block(bench: "Bench", precision: str, kernels: str) -> list[str]:
    """The measurements beside the other's, short, to be pasted into an issue; `kernels` is their state here."""
    machine, versions = bench.machine, bench.machine["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("likely", "mlx", "mlx-lm"))
    lines = [f"{machine['chip']}, {machine['memory'] / 2**30:.0f} GB, {machine['system']}", named]
    sizes = f"weights {bench.weights_nbytes / 1e6:.0f} MB, peak {bench.peak_nbytes / 1e6:.0f} MB"
    lines += [f"{bench.model}: {precision}, {sizes}", f"kernels: {kernels}"]
    for name in dict.fromkeys(rate.name for rate in bench.rates):
        both = [rate for rate in bench.rates if rate.name == name]
        speeds = ", ".join(f"{rate.contestant} {rate.median:.1f} (±{rate.spread / 2:.0%})" for rate in both)
        ratio = bench.ratio(name)
        lines.append(f"{name:<16} {speeds} {both[0].unit}" + ("" if ratio is None else f": {ratio:.2f}x"))
    return ["", "to paste into an issue:", "", "```", *lines, "```"]


def table(bench: "Bench") -> list[str]:
    """The measurements as a person reads them."""
    from likely.engine.decode.bench import plot

    lines = [f"{bench.model} · {bench.machine['chip']} · {bench.machine['device']} · {bench.bandwidth:.1f} GB/s", ""]
    units = ", ".join(dict.fromkeys(rate.unit for rate in bench.rates))
    columns = Columns(f"{{{units}:<22}} " + "{:<8} {median:>10} {quartile:>10} {spread:>7} {of limit:>9}  {ratio}")
    lines.append(columns.heading)
    last = ""
    for rate in bench.rates:
        share = "" if rate.share is None else f"{rate.share:.0%}"
        ratio = bench.ratio(rate.name) if rate.name != last else None
        name = rate.name if rate.name != last else ""
        speeds = f"{rate.median:.1f}", f"{rate.lower:.1f}", f"{rate.spread:.0%}"
        times = "" if ratio is None else f"{ratio:.2f}x"
        lines.append(columns.line(name, rate.contestant, *speeds, share, times).rstrip())
        last = rate.name
    held = ", ".join(f"{nbytes / 1e6:.1f} MB at {context}" for context, nbytes in bench.cache_nbytes.items())
    lines += ["", f"weights {bench.weights_nbytes / 1e6:.1f} MB · cache {held} · peak {bench.peak_nbytes / 1e6:.0f} MB"]
    if bench.load_s is not None:
        lines.append(f"loaded in {bench.load_s:.2f} s")
    lines += ["", "milliseconds a token against context"]
    for name, token_ms in bench.token_ms.items():
        lines += [f"  {name}", *plot(token_ms)]
        if (growth := bench.growth.get(name)) is not None:
            lines.append(
                f"  each token of context adds {growth.slope_us:.2f} µs, its bytes alone {growth.bound_us:.2f} µs; "
                f"a line explains {growth.r2:.1%}"
            )
    return lines
