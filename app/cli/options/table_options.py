"""Flags that several verbs have: given as a list, or made of a table of options (`engine.options`)."""

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import click

from likely.app.cli.options import name_completion
from likely.app.cli.options.float_range import FloatRange

Command = TypeVar("Command", bound=Callable[..., Any])


def options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator; help lists them in this order."""

    def add(command: Command) -> Command:
        for option in reversed(decorators):
            command = option(command)
        return command

    return add


class AdapterPlace(click.ParamType):
    """An adapter's folder, by its path or by the name of one that was made here."""

    name = "adapter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from likely.engine.base.files import artifacts

        return artifacts.place(value)


map_option = click.option(
    "--map", "mapped", multiple=True, metavar="THEIRS=OURS", help="Read their column THEIRS as OURS; repeatable."
)


def table_options(
    table: type, renamed: Mapping[str, str] = {}, needs: Mapping[str, tuple[Any, str]] = {}, *, ranged: bool = False
) -> Callable[[Command], Command]:
    """A flag for each option of a table but `data`, with its default, and what it goes with where the table's `needs`
    say that; a value that is not given stays None. `ranged`: of a table that does not check itself, ranges are checked
    here."""
    hints = get_type_hints(table)

    def add(command: Command) -> Command:
        for f in reversed(fields(table)):
            if f.metadata and f.name != "data":
                _, need = needs.get(f.name, (None, ""))
                command = _option(f, hints[f.name], need.partition(":")[0], ranged=ranged)(command)
        for old, name in renamed.items():
            flag = f"--{old.replace('_', '-')}"
            both = f"{flag}/--no-{flag[2:]}" if hints[name] is bool else flag
            command = click.option(both, old, type=hints[name], default=None, hidden=True)(command)
        return command

    return add


def _option(f: "Field[Any]", kind: Any, need: str, *, ranged: bool) -> Callable[[Command], Command]:
    meta, default = f.metadata, f.default
    shown = meta["usual"] or (", ".join(default) if isinstance(default, tuple) else default)
    text = f"{meta['help'][0].upper()}{meta['help'][1:]}." + (f" Goes with {need}." if need else "")
    flag = meta["flag"] or f"--{f.name.replace('_', '-')}"
    settings: dict[str, Any] = {"type": kind, "metavar": meta["metavar"]}
    if kind is bool:
        flag, shown = f"{flag}/--no-{flag[2:]}", "on" if default else "off"
    elif kind == tuple[str, ...]:
        settings = {"multiple": True, "metavar": "TEXT"}
    elif meta["choices"]:
        settings["type"] = click.Choice(meta["choices"])
    elif ranged and meta["low"] is not None:
        settings["type"] = (click.IntRange if kind is int else FloatRange)(meta["low"], meta["high"])
    text += "" if shown == "" else f" [default: {shown}]"
    names = [flag, "-M"] if f.name == "model" else [flag]
    if f.name == "model":
        settings["shell_complete"] = name_completion.models
    return click.option(*names, f.name, default=None, help=text, **settings)
