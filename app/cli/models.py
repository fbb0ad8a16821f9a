"""`likely models`: which models are here."""

import json
from dataclasses import asdict

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One array of objects.")
def command(as_json: bool) -> None:
    """List the models that are here: size, where from, family, quantisation.

    \b
    likely models
    likely pull smollm2
    """
    from engine.sources import store

    here = store.list()
    if as_json:
        click.echo(json.dumps([{**asdict(info), "path": str(info.path)} for info in here]))
        return
    if not here:
        click.echo("no model is here yet; `likely pull smollm2` fetches one of 98 MB")
        return
    click.echo(f"{'model':<34} {'size':>9}  {'family':<10} {'weights':<12} from")
    for info in here:
        click.echo(
            f"{info.name:<34} {info.nbytes / 1e6:>6,.0f} MB  {info.family:<10} {info.quantization:<12} {info.source}"
        )
