"""Jobs that read a ladder's table and find its law, for the screen: numpy takes its time in a thread of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from likely.app.worker import Tell
from likely.engine.scaling.forecast import rate
from likely.engine.scaling.ladder import read_runs
from likely.engine.scaling.report import LadderReport, report
from likely.engine.scaling.running import TABLE
from likely.engine.whole_file import refuse_pipe

REFITS = 1000


@dataclass(frozen=True, slots=True)
class ReadLadder:
    """Read a table of runs, or the folder of a ladder."""

    path: Path


@dataclass(frozen=True)
class LadderRead:
    """The law of a table, and FLOP a second of this machine where the table has times."""

    path: Path
    report: LadderReport
    rate: float | None


@dataclass(frozen=True, slots=True)
class WriteLadder:
    """Write the pictures of a ladder: an SVG and an HTML page."""

    ladder: LadderRead
    svg: Path
    page: Path


def table_of(path: Path) -> Path:
    """The table itself, where the folder of a ladder is given."""
    return path / TABLE if path.is_dir() else path


class LadderJobs:
    """The executor of one screen's ladders."""

    def execute(self, request: ReadLadder | WriteLadder, tell: Tell) -> Iterator[LadderRead | Path]:
        if isinstance(request, ReadLadder):
            table = table_of(request.path)
            refuse_pipe(table)
            runs, excluded = read_runs(table, {})
            result = report(runs, excluded, count=REFITS)
            yield LadderRead(request.path, result, rate(result.fitted.runs))
        else:
            from likely.app import ladder_figures
            from likely.engine.whole_file import write_whole

            it = request.ladder
            write_whole(request.svg, [ladder_figures.svg(it.report, it.rate)])
            write_whole(request.page, [ladder_figures.page(it.path.name, it.report, it.rate)])
            yield request.page

    def close(self) -> None:
        """Does nothing: there is nothing to free."""
