"""`likely quantize`: a model in fewer bits, and what that costs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.cli.opening import Progress, RuledCommand, tell
from likely.app.heat import one_line
from likely.app.units import bits, predicted
from likely.engine.errors import ParameterError
from likely.engine.whole_file import read_whole

if TYPE_CHECKING:
    from likely.engine.quantize import QuantizationReport

KINDS = ("f16", "q8_0", "q4_0")
PLAIN = ("F64", "F32", "F16", "BF16", "none")  # forms of weights that nobody has rounded to few bits


@click.command("quantize", cls=RuledCommand)
@click.argument("model")
@click.option("--to", "target", type=click.Path(path_type=Path), help="Default: MODEL-4bit or MODEL-f16.gguf here.")
@click.option("--bits", type=int, help="Bits a weight: 2, 3, 4, 5, 6 or 8. Default: 4.")
@click.option("--group", type=int, help="Weights that share a scale: 32, 64 or 128. Default: 64.")
@click.option("--mode", type=click.Choice(["affine", "mxfp4", "nvfp4", "mxfp8"]), default="affine", show_default=True)
@click.option(
    "--recipe",
    type=click.Choice(["mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6", "auto"]),
    help="More bits for some matrices; auto finds out which, in the same bytes.",
)
@click.option("--gguf", "kind", type=click.Choice(KINDS), help="One .gguf file, for llama.cpp too.")
@click.option("--awq", is_flag=True, help="Scale channels by how active they are on the text.")
@click.option(
    "--text", type=click.Path(path_type=Path, dir_okay=False), help="Calibrate and measure on this file. Default: ours."
)
def command(
    model: str,
    target: Path | None,
    bits: int | None,
    group: int | None,
    mode: str,
    recipe: str | None,
    kind: str | None,
    awq: bool,
    text: Path | None,
) -> None:
    """Write MODEL in fewer bits, in the layout that mlx-lm and LM Studio load, and say what was lost.

    \b
    likely quantize smollm2
    likely quantize ./my-model --bits 4 --group 32 --recipe auto --awq
    likely quantize ./my-model --gguf q8_0 --to my-model.gguf
    """
    from likely.engine import made
    from likely.engine.quantize import Settings, quantize
    from likely.engine.sources import store
    from likely.engine.write.one_file import write_one_file

    if target is not None and (target.suffix == ".gguf") != bool(kind):
        raise ParameterError(
            f"a .gguf file is written by --gguf {', '.join(KINDS)}, anything else is a folder: --to {target}"
        )
    settings = Settings(bits, group, mode, recipe or "", awq)
    words = None if text is None else read_whole(text)
    with Progress() as progress:
        info = store.resolve(model) or store.pull(model, progress.show)
        name = info.name.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
        if kind:
            to = target or Path(f"{name}-{kind}.gguf")
            report = write_one_file(info, to, kind, text=words, progress=progress.show)
        else:
            to = target or Path(f"{name}-{recipe or f'{settings.layout.bits}bit'}")
            report = quantize(info, to, settings, text=words, progress=progress.show)
    made.note(to, made.QUANTISED, info.name)
    if info.quantization not in PLAIN:
        tell(f"{info.name} was {info.quantization} and is quantised again: what that had cost is not counted here")
    for line in lines(report):
        click.echo(one_line(line))


def lines(report: "QuantizationReport") -> list[str]:
    """The report as a person reads it."""
    (low, high), rise = report.kl_interval, report.cost.interval
    worst = ", ".join(f"{name} {error:.1%}" for name, error in report.worst)
    rows = [
        f"{report.path}",
        f"size          {report.nbytes / 1e6:,.1f} MB, {report.weight_bits:.2f} bits a weight "
        f"({report.nbytes_before / 1e6:,.1f} MB before{', so it is larger' * (report.nbytes > report.nbytes_before)})",
        f"KL            {bits(report.kl):.4f} bits a token ({bits(low):.4f} to {bits(high):.4f}; 95 %, "
        f"{report.tokens:,} tokens held out)",
        f"top-1 flips   {report.flips:.1%}",
        f"perplexity    {report.perplexity_before:.2f} before, {report.perplexity:.2f} after "
        f"({bits(report.cost.mean):+.4f} bits a token, {bits(rise[0]):+.4f} to {bits(rise[1]):+.4f}); "
        f"{predicted(report.predicted, report.tokens)}",
    ]
    return [*rows, f"worst layers  {worst} (error of what the layer adds)"] if worst else rows
