"""`likely fuse`: make an adapter part of its model, and say whether it survived the rounding."""

from pathlib import Path

import click

from likely.app.cli.options import name_completion
from likely.app.cli.options.opening import Progress, RuledCommand, tell
from likely.app.cli.options.table_options import AdapterPlace, map_option
from likely.app.words import units
from likely.app.words.heat import sanitize_line
from likely.engine.base.errors import ParameterError
from likely.engine.base.files.whole_file import check_new_file, check_new_folder

KINDS = ("f16", "q8_0", "q4_0")
BITS = ("0", "2", "3", "4", "5", "6", "8", "16", "32")


@click.command("fuse", cls=RuledCommand)
@click.argument("adapter", type=AdapterPlace(), shell_complete=name_completion.adapters)
@click.option("--model", "-M", help="The base model. Default: the one that the adapter names.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="A folder, or a file that ends with .gguf.")
@click.option("--data", "-d", help="Rows on which the result is compared with the adapter. Default: those it saw.")
@map_option
@click.option("--rows", default=8, show_default=True, type=click.IntRange(1), help="How many of them.")
@click.option(
    "--bits",
    default="0",
    type=click.Choice(BITS),
    help="Quantise anew; 16, 32: not at all. Default: as is, or the fewest of 8 and 16 that keep the adapter.",
)
@click.option("--group-size", default="64", show_default=True, type=click.Choice(["32", "64", "128"]))
@click.option("--gguf", "kind", type=click.Choice(KINDS), help="Block type of a .gguf file. Default: f16.")
@click.option("--peft", type=click.Path(path_type=Path), help="Only write the adapter in PEFT's form, to this folder.")
@click.option("--lora", type=click.Path(path_type=Path), help="Only write the adapter as GGUF, for llama.cpp --lora.")
@click.option("--force", is_flag=True, help="Write the model even where the adapter is lost.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def command(
    adapter: Path,
    model: str | None,
    out: Path | None,
    data: str | None,
    mapped: tuple[str, ...],
    rows: int,
    bits: str,
    group_size: str,
    kind: str | None,
    peft: Path | None,
    lora: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Fuse the adapter in the directory ADAPTER into its base model.

    The file is read again, and what it has kept of the adapter is measured on rows of text.

    \b
    likely fuse my-adapter --out my-model                 a folder, in the base's own precision
    likely fuse my-adapter --out my.gguf --gguf q8_0      one file, for llama.cpp too
    likely fuse my-adapter --peft for-peft                the adapter alone, for PEFT
    likely fuse my-adapter --lora my-adapter.gguf         the adapter alone, for llama.cpp
    """
    if sum(place is not None for place in (out, peft, lora)) != 1:
        raise click.UsageError("give --out for a model, or --peft or --lora for the adapter alone")
    to_file = out is not None and out.suffix == ".gguf"
    if kind and not to_file:
        raise ParameterError(f"--gguf goes with an --out that ends with .gguf, got {out}")
    if to_file and bits != "0":
        raise ParameterError(f"--bits is of a folder; a .gguf file is written by --gguf {', '.join(KINDS)}")
    for option, place, check in (
        ("--out", out, check_new_file if to_file else check_new_folder),
        ("--peft", peft, check_new_folder),
    ):
        if place is not None:
            check(place, option)  # before a model is loaded
    if (adapter / "config.json").is_file() and not (adapter / "adapter_config.json").is_file():
        raise ParameterError(
            f"{adapter} is a whole model, no adapter: likely quantize {adapter} --gguf f16 makes it a file"
        )
    from likely.engine.base.files import artifacts
    from likely.engine.text.rows.training_row import check_map, read_map
    from likely.engine.train.data import data as sources
    from likely.engine.train.losses import fusion
    from likely.engine.weights.adapters import adapters, sites
    from likely.engine.weights.adapters import peft as forms
    from likely.engine.weights.adapters.lora import Adapter
    from likely.engine.weights.write import gguf_adapter

    stored = adapters.read(adapter)
    base = model or stored.model
    if not base:
        raise ParameterError(f"{adapter} does not say which model it is for: give --model")
    with Progress() as progress:
        if out is None:
            checkpoint = fusion.open_base(base, progress.show)
            placed = adapters.build(checkpoint.model, stored, str(adapter))
            if not isinstance(placed, Adapter):
                raise ParameterError("whole weights are no adapter: give --out")
            if lora is not None:
                gguf_adapter.write(lora, placed, checkpoint)
                click.echo(sanitize_line(f"wrote {lora}"))
                return
            assert peft is not None
            name, line = forms.base_name(base, checkpoint.info.path)
            forms.write(peft, placed, sites.trainable(checkpoint.model), name=name, dropout=stored.dropout)
            click.echo(sanitize_line(f"wrote {peft}" + (f"; {line}" if line else "")))
            return
        if not (data or stored.data):
            raise ParameterError(f"{adapter} does not say what it was trained on: give --data with rows to judge by")
        names = read_map(mapped or stored.map)
        data_rows = sources.read(data or stored.data, names=names, valid=0, progress=progress.show)
        if mapped:  # those that it was trained with need not be of this file
            check_map(names, data_rows.keys)
        held = data_rows.test or data_rows.valid or data_rows.train
        checkpoint = fusion.open_base(base, progress.show)
        texts = fusion.texts(held[:rows], checkpoint.tokenizer)
        gguf = (kind or "f16") if to_file else ""
        widths = fusion.WIDER if bits == "0" and not to_file and not force else (int(bits),)
        for width in widths:
            form = fusion.Form(width, int(group_size), gguf)
            try:
                loss = fusion.fuse_to(out, checkpoint, stored, texts, form, force=force, progress=progress.show)
                break
            except fusion.AdapterLost:
                if width == widths[-1]:
                    raise
                tell(f"{f'{width} bits' if width else 'the bits of the base'} would lose the adapter: more are tried")
                checkpoint = fusion.open_base(base, progress.show)
    artifacts.note(out, artifacts.FUSED, base)
    report = {"out": str(out), "kl_adapter": loss.adapter, "kl_fused": loss.fused, "kl_apart": loss.error}
    if as_json:
        far = dict.fromkeys(("kl_adapter", "kl_fused", "kl_apart"), units.PER_TOKEN)
        click.echo(units.json_line({**report, "lost": loss.lost, "rows": min(rows, len(held))}, **far))
    else:
        click.echo(sanitize_line(f"wrote {out}, and read it again on {min(rows, len(held))} rows"))
        adapted, fused, apart = (units.bits(kl) for kl in (loss.adapter, loss.fused, loss.error))
        click.echo(
            f"KL to the base in bits a token: {adapted:.4g} with the adapter, {fused:.4g} fused; "
            f"{apart:.3g} from the adapter to the fused model"
        )
