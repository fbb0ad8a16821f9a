"""`likely scale show`: a ladder on the screen, or its pictures as files."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from likely.app.cli.options.opening import RuledCommand, on_terminal
from likely.engine.base.errors import DataError
from likely.engine.base.machine.installation import adding


class Speed(click.ParamType):
    """Floating-point operations a second, above 0."""

    name = "flop/s"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from likely.engine.base.errors import ParameterError
        from likely.engine.measure.scaling.plan import amount

        try:
            return amount("--rate", value)
        except ParameterError as error:
            self.fail(str(error), param, ctx)


mapped_option = click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="NAME=COLUMN[*NUMBER]",
    help="Where parameters, tokens, loss, compute, unique, embedding or seconds is, and its unit; repeatable.",
)


@click.command(cls=RuledCommand)
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Write all pictures to this file.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="The same as pixels; wants resvg-py.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="A page with the pictures and numbers.")
@mapped_option
@click.option("--rate", type=Speed(), help="FLOP a second that hours are of, in a file; default: by the runs' seconds.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Seed of the refits, in a file.")
def show(
    runs: Path, svg: Path | None, png: Path | None, html: Path | None, mapped: tuple[str, ...], rate: float | None,
    seed: int,
) -> None:  # fmt: skip
    """Show RUNS, a table or the folder of a ladder: on the screen, or as files.

    \b
    likely scale show plays                       losses, parabolas, the law, what hours buy
    likely scale show plays --svg plays.svg       loss against compute, parabolas, residuals, exponents
    likely scale show theirs.csv --html page.html --rate 5e13
    """
    if svg is None and png is None and html is None:
        if not on_terminal():
            raise click.UsageError("the screen needs a terminal: --svg, --png or --html write files, scale fit prints")
        from likely.app.tui import ladder

        raise SystemExit(ladder(runs))
    if png is not None and find_spec("resvg_py") is None:
        raise DataError(f"--png wants the package resvg-py: {adding('resvg-py')}, or --svg")
    from likely.app.jobs.scaling_jobs import table_of
    from likely.app.results import scaling_figures
    from likely.engine.base.files.whole_file import write_whole
    from likely.engine.measure.scaling import forecast
    from likely.engine.measure.scaling.report import report
    from likely.engine.measure.scaling.sweep import mapping, read_runs

    read, excluded = read_runs(table_of(runs), mapping(mapped))
    result = report(read, excluded, seed=seed)
    speed = rate or forecast.rate(result.fitted.runs)
    pictures = scaling_figures.svg(result, speed)
    if svg is not None:
        write_whole(svg, [pictures])
    if png is not None:
        _write_pixels(png, pictures)
    if html is not None:
        write_whole(html, [scaling_figures.page(runs.name, result, speed)])


def _write_pixels(path: Path, svg: str) -> None:
    import sys

    import resvg_py

    from likely.engine.base.files.whole_file import put_whole

    font = "Helvetica" if sys.platform == "darwin" else "DejaVu Sans"
    pixels = bytes(resvg_py.svg_to_bytes(svg_string=svg, font_family=font, sans_serif_family=font))
    put_whole(path, lambda to: to.write_bytes(pixels))
