"""`likely models`: which models are here, and which is used where none is named."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options import name_completion
from likely.app.cli.options.opening import RuledCommand
from likely.app.words.heat import sanitize_line
from likely.app.words.tables import Columns
from likely.engine.base.files import artifacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from likely.engine.base.files.artifacts import Artifact
    from likely.engine.weights.sources.model_info import ModelInfo


@click.command("models", cls=RuledCommand)
@click.option("--json", "as_json", is_flag=True, help="One array of objects.")
@click.option(
    "--default",
    "chosen",
    metavar="NAME",
    shell_complete=name_completion.models,
    help="Use this model where none is named.",
)
@click.option(
    "--add",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look for models in this folder too, from now on (also: LIKELY_MODELS, as PATH has it).",
)
@click.option("--known", is_flag=True, help="The catalogue: short names, sizes, licences, what each is good for.")
def command(as_json: bool, chosen: str | None, folder: Path | None, known: bool) -> None:
    """List the models and adapters that are here: size, family, quantisation, where each lives.

    Looked through: what likely has fetched or made, the hub's cache (as mlx-lm fills it), LM Studio's folders, yours.
    A star marks the one that is used where none is named.

    \b
    likely models
    likely models --known
    likely models --default qwen3-4b
    likely models --add ~/models
    """
    from likely.engine.base.errors import CheckpointError
    from likely.engine.base.files import preferences
    from likely.engine.weights.sources import store

    if known:
        _catalogue(as_json)
        return
    if folder is not None:
        preferences.add_folder(folder)
    if chosen is not None:
        info = store.resolve(chosen)
        if info is None:
            raise CheckpointError(f"{chosen} is not on this machine yet: `likely pull {chosen}` fetches it")
        preferences.choose(info.name)
    here, used, adapters = (
        store.list(),
        store.default(),
        [one for one in artifacts.all() if one.kind == artifacts.ADAPTER],
    )
    lost = [one for one in artifacts.all() if not one.there]
    used_name = used.name if used is not None else ""
    if damage := artifacts.damage():
        click.echo(sanitize_line(f"likely: {damage}"), err=True)
    if as_json:
        models = [{**info.as_dict(), "default": info.name == used_name} for info in here]
        click.echo(json.dumps([*models, *map(_object, dict.fromkeys((*adapters, *lost)))]))
        return
    if not here:
        click.echo("no model is here yet: `likely models --known` lists what `likely pull NAME` can fetch")
    else:
        _table(here, used_name)
    _adapters([one for one in adapters if one.there])
    for one in lost:
        click.echo(sanitize_line(f"  {artifacts.gone(one)}"))


def _object(one: "Artifact") -> dict[str, Any]:
    """An adapter, or what is gone, as an object of JSON."""
    nbytes = one.nbytes if one.there else 0
    facts = {"name": one.name, "path": str(one.path), "made": one.kind, "base": one.base}
    return {**facts, "nbytes": nbytes, "gone": not one.there}


def _adapters(here: "Sequence[Artifact]") -> None:
    """The table of adapters that were made here, and of which of them there are the best weights too."""
    if not here:
        return
    columns = Columns("{adapter:<34} {size:>9}  {of:<23} {where}")
    click.echo(f"\n  {columns.heading}")
    for one in here:
        row = columns.line(one.name, f"{one.nbytes / 1e6:,.0f} MB", one.base, str(one.path))
        click.echo(sanitize_line(f"  {row}"))
    if best := next((one for one in here if (one.path / artifacts.BEST).is_dir()), None):
        last, least = (shlex.quote(name) for name in (best.name, f"{best.name}/{artifacts.BEST}"))
        click.echo(
            sanitize_line(f"  -A {last} takes the last weights, -A {least} those that did best on what was held out")
        )


def _table(here: "Sequence[ModelInfo]", used_name: str) -> None:
    """The table of models."""
    columns = Columns("{model:<34} {size:>9}  {family:<10} {weights:<12} {where}")
    click.echo(f"  {columns.heading}")
    for info in here:
        mark, size = "*" if info.name == used_name else " ", f"{info.nbytes / 1e6:,.0f} MB"
        row = columns.line(info.name, size, info.family, info.quantization, str(info.path))
        click.echo(sanitize_line(f"{mark} {row}"))


def _catalogue(as_json: bool) -> None:
    """The table of short names."""
    from likely.app.cli.options.choosing import gigabytes
    from likely.engine.base.machine import hardware
    from likely.engine.weights.sources.fetch import catalogue

    if as_json:
        keys = ("name", "title", "license", "nbytes", "memory_gb", "good_for", "checked")
        click.echo(json.dumps([{key: getattr(known, key) for key in keys} for known in catalogue.KNOWN.values()]))
        return
    memory = hardware.memory()
    columns = Columns("{model:<14} {size:>8}  {licence:<10} {memory:>6}  {good for}")
    click.echo(f"  {columns.heading}")
    for known in catalogue.KNOWN.values():
        size = gigabytes(known.nbytes) + ("" if known.checked else "?")
        mark = " " if catalogue.suits(known, memory) else "-"
        row = columns.line(known.name, size, known.license, f"{known.memory_gb} GB", known.good_for)
        click.echo(f"{mark} {row}")
    click.echo(f"\n- wants more memory than there is here   ? computed on {catalogue.DATE}, compared at the first pull")
