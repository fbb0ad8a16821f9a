"""Looks inside in a terminal: grids and bars in its width and colours."""

import sys
from collections.abc import Iterator

import click

from likely.app.words import heat
from likely.app.words.tables import LABEL, Grid, Values, cut

SHARES = (0.05, 0.25, 0.5, 0.75)  # the levels 1 to 4 of heat begin here
BAR = 24
SHOWN = 12  # named values


def show(result: Grid | Values) -> None:
    """Print in the terminal's width and colours."""
    mode = heat.colour_mode(sys.stdout)
    width = heat.columns(mode)
    click.echo(result.title)
    for line in _grid(result, mode, width) if isinstance(result, Grid) else _bars(result):
        click.echo(line)
    if result.note:
        click.echo(result.note)


def _grid(grid: Grid, mode: str, width: int) -> Iterator[str]:
    """The last columns that fit."""
    fit = max(1, (width - LABEL) // grid.cell)
    hidden = max(0, len(grid.columns) - fit)
    if hidden:
        yield f"{'':<{LABEL}}← {hidden} more"
    yield f"{'':<{LABEL}}" + "".join(cut(name, grid.cell) for name in grid.columns[hidden:])
    for label, shares, texts in zip(grid.rows, grid.shares, grid.texts, strict=True):
        cells = zip(shares[hidden:], texts[hidden:], strict=True)
        yield cut(label, LABEL) + "".join(_tinted(text, share, grid.cell, mode) for share, text in cells)


def _tinted(text: str, share: float, width: int, mode: str) -> str:
    cell = cut(text, width)
    return heat.paint(cell[:-1], sum(share >= least for least in SHARES), mode) + cell[-1]


def _bars(values: Values) -> Iterator[str]:
    shown = values.rows[:SHOWN]
    most = max((abs(value) for _, value in shown if value), default=1)
    for name, value in shown:
        eighths = round(abs(value) / most * BAR * 8)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8]
        yield f"{cut(name, 20)}{value:>10.4f}  {bar.rstrip()}"
    if len(values.rows) > len(shown):
        yield f"{len(values.rows) - len(shown)} smaller ones are left out here: --csv and --json have all"
