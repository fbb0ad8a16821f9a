"""`likely quantize`: a model in fewer bits, and what that costs."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.cli.options import name_completion
from likely.app.cli.options.opening import Progress, RuledCommand, tell
from likely.app.words.heat import sanitize_line
from likely.app.words.tables import Columns
from likely.app.words.units import PER_TOKEN, json_line, plain, predicted
from likely.app.words.units import bits as bits_of
from likely.engine.base.errors import ParameterError
from likely.engine.base.files.whole_file import read_whole

if TYPE_CHECKING:
    from likely.engine.weights.quantize import QuantizationReport

KINDS = ("f16", "q8_0", "q4_0")
NAMED = dict.fromkeys(("cost", "kl", "kl_interval"), PER_TOKEN)  # units of this verb's keys
APART = 0.06  # share of flips from which on answers are seen to differ
NOTICED = (  # from which share of flips on
    (0.5, "another model"), (0.15, "often other words"), (APART, "now and then other words"),
    (0.02, "hardly told apart"), (0.0, "as the original"),
)  # fmt: skip
PLAIN = ("F64", "F32", "F16", "BF16", "none")  # forms of weights that nobody has rounded to few bits


@click.command("quantize", cls=RuledCommand)
@click.argument("model", shell_complete=name_completion.models)
@click.option(
    "--to", "--out", "target", type=click.Path(path_type=Path), help="Default: MODEL-4bit or MODEL-f16.gguf here."
)
@click.option(
    "--bits",
    type=click.Choice(["2", "3", "4", "5", "6", "8", "all"]),
    help="Bits a weight. Default: 4. all: a table of what each would take and cost; nothing is written.",
)
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
@click.option("--json", "as_json", is_flag=True, help="One object, of --bits all one for each.")
def command(
    model: str,
    target: Path | None,
    bits: str | None,
    group: int | None,
    mode: str,
    recipe: str | None,
    kind: str | None,
    awq: bool,
    text: Path | None,
    as_json: bool,
) -> None:
    """Write MODEL in fewer bits, in the layout that mlx-lm and LM Studio load, and say what was lost.

    \b
    likely quantize smollm2
    likely quantize smollm2 --bits all --text mine.txt     how many bits? bytes, KL, perplexity, in words
    likely quantize ./my-model --bits 4 --group 32 --recipe auto --awq
    likely quantize ./my-model --gguf q8_0 --to my-model.gguf
    """
    from likely.engine.base.files import artifacts
    from likely.engine.weights.quantize import Settings, quantize, widths
    from likely.engine.weights.sources import store
    from likely.engine.weights.write.one_file import write_one_file

    if target is not None and (target.suffix == ".gguf") != bool(kind):
        raise ParameterError(
            f"a .gguf file is written by --gguf {', '.join(KINDS)}, anything else is a folder: --to {target}"
        )
    settings = Settings(int(bits) if bits and bits != "all" else None, group, mode, recipe or "", awq)
    words = None if text is None else read_whole(text)
    with Progress() as progress:
        info = store.resolve(model) or store.pull(model, progress.show)
        name = info.name.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
        if bits == "all":
            reports = widths(info, settings, text=words, progress=progress.show)
        elif kind:
            to = target or Path(f"{name}-{kind}.gguf")
            reports = [write_one_file(info, to, kind, text=words, progress=progress.show)]
        else:
            to = target or Path(f"{name}-{recipe or f'{settings.layout.bits}bit'}")
            reports = [quantize(info, to, settings, text=words, progress=progress.show)]
    for report in reports:
        if report.path is not None:
            artifacts.note(report.path, artifacts.QUANTISED, info.name)
    if info.quantization not in PLAIN:
        tell(f"{info.name} was {info.quantization} and is quantised again: what that had cost is not counted here")
    if as_json:
        for report in reports:
            click.echo(json_line({**plain(report), "cost": report.cost.mean, "words": in_words(report)}, **NAMED))
        return
    for line in table(reports) if bits == "all" else lines(reports[0]):
        click.echo(sanitize_line(line))


def in_words(report: "QuantizationReport") -> str:
    """Words for what a person notices of it, by how many of the likeliest next tokens are others."""
    return next(words for least, words in NOTICED if report.flips >= least)


def table(reports: "Sequence[QuantizationReport]") -> "Iterator[str]":
    """A line for each width, and which has the fewest bits of those that are hardly told from the model."""
    columns = Columns("{bits:>4} {MB:>8} {KL, bits a token:>16} {95 %:>18} {flips:>6} {perplexity:>10}  {in words}")
    yield columns.heading
    for report in reports:
        low, high = map(bits_of, report.kl_interval)
        larger = "; larger than it is now" * (report.nbytes > report.nbytes_before)
        yield columns.line(
            f"{report.bits}", f"{report.nbytes / 1e6:,.1f}", f"{bits_of(report.kl):.4f}", f"{low:.4f} to {high:.4f}",
            f"{report.flips:.1%}", f"{report.perplexity:.2f}", in_words(report) + larger,
        )  # fmt: skip
    first = reports[0]
    yield f"as it is: {first.nbytes_before / 1e6:,.1f} MB, perplexity {first.perplexity_before:.2f}"
    yield f"flips: of {first.tokens:,} tokens held out, those after which another token is the likeliest"
    good = [one for one in reports if one.flips < APART and one.nbytes < one.nbytes_before]
    if good:
        again = shlex.join(sys.argv[1:]).replace("--bits all", f"--bits {good[0].bits}")
        yield f"likely {again} writes the smallest that is hardly told apart"
    else:
        yield "none is both smaller than it is now and hardly told from it: a file of few bits is best left as it is"


def lines(report: "QuantizationReport") -> list[str]:
    """The report as a person reads it."""
    (low, high), rise = report.kl_interval, report.cost.interval
    worst = ", ".join(f"{name} {error:.1%}" for name, error in report.worst)
    rows = [
        f"{report.path}",
        f"size          {report.nbytes / 1e6:,.1f} MB, {report.weight_bits:.2f} bits a weight "
        f"({report.nbytes_before / 1e6:,.1f} MB before{', so it is larger' * (report.nbytes > report.nbytes_before)})",
        f"KL            {bits_of(report.kl):.4f} bits a token ({bits_of(low):.4f} to {bits_of(high):.4f}; 95 %, "
        f"{report.tokens:,} tokens held out)",
        f"top-1 flips   {report.flips:.1%}",
        f"perplexity    {report.perplexity_before:.2f} before, {report.perplexity:.2f} after "
        f"({bits_of(report.cost.mean):+.4f} bits a token, {bits_of(rise[0]):+.4f} to {bits_of(rise[1]):+.4f}); "
        f"{predicted(report.predicted, report.tokens)}",
    ]
    return [*rows, f"worst layers  {worst} (error of what the layer adds)"] if worst else rows
