"""`likely fuse`: make an adapter part of its model, and say whether it survived the rounding."""

import json
from pathlib import Path

import click

from app.cli.opening import Progress
from engine.errors import ParameterError

KINDS = ("f16", "q8_0", "q4_0")


@click.command()
@click.argument("adapter", type=click.Path(path_type=Path))
@click.option("--model", "-M", help="The base model. Default: the one that the adapter names.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="A folder, or a file that ends with .gguf.")
@click.option("--data", "-d", required=True, help="Rows on which the fused model is compared with the adapter.")
@click.option("--rows", default=8, show_default=True, type=click.IntRange(1), help="How many of them.")
@click.option("--bits", default=0, type=click.Choice(["0", "2", "3", "4", "5", "6", "8"]), help="Quantise the result.")
@click.option("--group-size", default="64", show_default=True, type=click.Choice(["32", "64", "128"]))
@click.option("--gguf", "kind", type=click.Choice(KINDS), help="Block type of a .gguf file. Default: f16.")
@click.option("--peft", type=click.Path(path_type=Path), help="Only write the adapter in PEFT's form, to this folder.")
@click.option("--force", is_flag=True, help="Write the model even where the adapter is lost.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def command(
    adapter: Path,
    model: str | None,
    out: Path | None,
    data: str,
    rows: int,
    bits: str,
    group_size: str,
    kind: str | None,
    peft: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Fuse the adapter in the directory ADAPTER into its base model.

    \b
    likely fuse my-adapter --data rows.jsonl --out my-model             a folder, in the base's precision
    likely fuse my-adapter --data rows.jsonl --out my.gguf --gguf q8_0  one file, for llama.cpp too
    likely fuse my-adapter --data rows.jsonl --peft for-peft            the adapter alone, for PEFT
    """
    if (out is None) == (peft is None):
        raise click.UsageError("give --out for a model, or --peft for the adapter alone")
    to_file = out is not None and out.suffix == ".gguf"
    if kind and not to_file:
        raise ParameterError(f"--gguf goes with an --out that ends with .gguf, got {out}")
    from engine.sources.checkpoint import load
    from engine.tune import adapters, fuse, gguf, lora, samples
    from engine.tune import data as sources

    stored = adapters.read(adapter)
    base = model or stored.model
    if not base:
        raise ParameterError(f"{adapter} does not say which model it is for: give --model")
    found = sources.read(data)
    with Progress() as progress:
        checkpoint = load(base, progress.show)
        placed = adapters.place(checkpoint.model, stored, str(adapter))
        if peft is not None:
            if not isinstance(placed, lora.Adapter):
                raise ParameterError("whole weights are no PEFT adapter: give --out")
            adapters.write_peft(peft, placed, model=base, dropout=stored.dropout)
            click.echo(f"wrote {peft}")
            return
        assert out is not None
        held = (found.test or found.valid or found.train)[:rows]
        texts = [s.ids for s in samples.prepare(held, checkpoint.tokenizer, length=512, loss="all").samples[:rows]]
        if isinstance(placed, lora.Adapter):
            lora.attach(placed)
        progress.show("fusing", 0, 0)
        kept = fuse.fuse(checkpoint.model, placed, texts, bits=int(bits), group_size=int(group_size), force=force)
        if to_file:
            gguf.write(checkpoint, out, kind or "f16")
        else:
            fuse.write(checkpoint, out)
    report = {"out": str(out), "kl_adapter": kept.adapter, "kl_fused": kept.fused, "kl_apart": kept.error}
    if as_json:
        click.echo(json.dumps({**report, "lost": kept.lost}))
    else:
        click.echo(f"wrote {out}")
        click.echo(
            f"KL to the base in nats a token: {kept.adapter:.4g} with the adapter, {kept.fused:.4g} fused; "
            f"{kept.error:.3g} from the adapter to the fused model"
        )
