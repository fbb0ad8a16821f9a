"""`likely scale toy`: a learner whose exponent follows from a cause, trained here, prediction beside outcome."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.cli.options.float_range import FloatRange

if TYPE_CHECKING:
    from likely.engine.measure.scaling.toy_problems import Toy

NAMES = ("quanta", "manifold", "features", "bigrams")
WITH_ALPHA = ("quanta", "features")


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(2, 1000), help="Trainings of each size.")
@click.option("--alpha", type=FloatRange(0.2, 1.5), help="The exponent that is planted: quanta, features.")
@click.option(
    "--text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The text of bigrams. Default: Python's own help.",
)
@click.option("--json", "as_json", is_flag=True, help="One object a scale on stdout.")
def toy(name: str, seeds: int, alpha: float | None, text: Path | None, as_json: bool) -> None:
    """Train the toy NAME at growing sizes, and set the exponent that is found beside the one that its cause predicts.

    \b
    quanta     skills of Zipf frequencies, each a sparse parity; by size and by examples
    manifold   a smooth function on a manifold of 2, 3 and 4 dimensions
    features   random-feature regression on a spectrum that is a power; by features and by examples
    bigrams    a bigram model of a text, by its width
    """
    if alpha is not None and name not in WITH_ALPHA:
        raise click.UsageError(
            f"--alpha is planted in {' and '.join(WITH_ALPHA)}: {name} has its exponent from its data"
        )
    if text is not None and name != "bigrams":
        raise click.UsageError(f"--text is for bigrams: {name} makes its own data")
    from likely.engine.measure.scaling.toy_problems import measure

    for problem in _toys(name, alpha, text):
        result = measure(problem, seeds)
        low, high = result.exponent.interval
        if as_json:
            fields = {
                "toy": problem.name, "along": problem.along, "predicted": problem.predicted,
                "exponent": result.exponent.mean, "interval": [low, high] if math.isfinite(low) else None,
                "seeds": seeds, "cause": problem.cause,
                "scale": problem.scale.tolist(), "losses": result.losses.tolist(),
            }  # fmt: skip
            click.echo(json.dumps(fields))
            continue
        click.echo(f"{problem.name}, by {problem.along}: {problem.cause}")
        for size, loss in zip(problem.scale, result.losses.mean(0), strict=True):
            click.echo(f"  {size:>10,}  {loss:.6g}")
        span = f"[{low:.4f}, {high:.4f}], {seeds} seeds"
        click.echo(
            f"  predicted {problem.predicted:.4f}   found {result.exponent.mean:.4f} {span}   off {result.off:+.4f}\n"
        )


def _toys(name: str, alpha: float | None, text: Path | None) -> "list[Toy]":
    from likely.engine.base.files.whole_file import read_whole
    from likely.engine.measure.scaling import toy_problems

    planted = {} if alpha is None else {"alpha": alpha}
    if name == "quanta":
        return toy_problems.quanta(**planted)
    if name == "features":
        return toy_problems.features(**planted)
    if name == "manifold":
        return toy_problems.manifold()
    if text is not None:
        return toy_problems.bigrams(read_whole(text))
    from pydoc_data.topics import topics

    return toy_problems.bigrams("\n".join(topics.values()))
