"""Jobs that read a ladder's table and find its law, for the screen: numpy takes its time in a thread of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from likely.app.jobs.worker import Tell
from likely.engine.base.files.whole_file import refuse_pipe
from likely.engine.measure.scaling.forecast import rate
from likely.engine.measure.scaling.report import SweepReport, report
from likely.engine.measure.scaling.running import TABLE
from likely.engine.measure.scaling.sweep import read_runs

REFITS = 1000


@dataclass(frozen=True, slots=True)
class ReadSweep:
    """Read a table of runs, or the folder of a ladder."""

    path: Path


@dataclass(frozen=True)
class SweepRead:
    """The law of a table, and FLOP a second of this machine where the table has times."""

    path: Path
    report: SweepReport
    rate: float | None


@dataclass(frozen=True, slots=True)
class WriteSweep:
    """Write the pictures of a ladder: an SVG and an HTML page."""

    ladder: SweepRead
    svg: Path
    page: Path


def table_of(path: Path) -> Path:
    """The table itself, where the folder of a ladder is given."""
    return path / TABLE if path.is_dir() else path


class SweepJobs:
    """The executor of one screen's ladders."""

    def execute(self, request: ReadSweep | WriteSweep, tell: Tell) -> Iterator[SweepRead | Path]:
        if isinstance(request, ReadSweep):
            table = table_of(request.path)
            refuse_pipe(table)
            runs, excluded = read_runs(table, {})
            result = report(runs, excluded, count=REFITS)
            yield SweepRead(request.path, result, rate(result.fitted.runs))
        else:
            from likely.app.results import scaling_figures
            from likely.engine.base.files.whole_file import write_whole

            it = request.ladder
            write_whole(request.svg, [scaling_figures.svg(it.report, it.rate)])
            write_whole(request.page, [scaling_figures.page(it.path.name, it.report, it.rate)])
            yield request.page

    def close(self) -> None:
        """Does nothing: there is nothing to free."""
