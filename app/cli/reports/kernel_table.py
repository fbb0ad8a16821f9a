"""`likely bench kernels`: what our Metal kernels take beside mlx's own; ready to paste into a report.

On a Mac these are times; elsewhere the simulator's exact counts of bytes and operations, which say nothing of time.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from likely.app.words.tables import Columns

if TYPE_CHECKING:
    from likely.metal.autotune import KernelTimings


def show_kernels(only: str, *, as_json: bool) -> None:
    """Measure the kernels whose case contains `only`, and print a table, or one object."""
    from likely.metal import autotune

    bench = autotune.bench(only=only)
    if as_json:
        click.echo(json.dumps(asdict(bench)))
        return
    for line in _times(bench) if bench.kind == "metal" else _counts(bench):
        click.echo(line)


def _times(bench: "KernelTimings") -> Iterator[str]:
    limit = "bandwidth unknown" if bench.bandwidth is None else f"{bench.bandwidth:.0f} GB/s"
    yield f"{bench.machine} · {limit}"
    columns = Columns("{case:<56} {ours:>10} {GB/s:>7} {of limit:>9} {stock:>10}  {stock/ours}")
    yield columns.heading
    for t in bench.timings:
        share = t.share(bench.bandwidth)
        ours, stock = (f"{1e6 * seconds:.0f} us" for seconds in (t.ours_s, t.stock_s))
        reached = "" if share is None else f"{share:.0%}"
        speed, ratio = f"{t.nbytes / t.ours_s / 1e9:.0f}", f"{t.stock_s / t.ours_s:.2f}"
        yield columns.line(t.case, ours, speed, reached, stock, ratio)


def _counts(bench: "KernelTimings") -> Iterator[str]:
    yield "no Metal here: counts of the simulator, bytes and operations, not times"
    columns = Columns("{case:<36} {bytes:>12} {of least:>9} {K/V asked:>12} {of stock:>9} {targets:>8}")
    yield columns.heading
    for row in bench.counts:
        stock = row.stock
        share = f"{row.ours.requested / stock.requested:.2f}" if stock is not None and stock.requested else ""
        reached = f"{sum(t.reached for t in row.targets)}/{len(row.targets)}"
        least, asked = f"{row.ours.distinct / row.minimum:.3f}", f"{row.ours.requested:,}"
        yield columns.line(row.case, f"{row.ours.distinct:,}", least, asked, share, reached)
