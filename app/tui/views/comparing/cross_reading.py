"""Reading of each column's text by the others: asked for once all have theirs, shown in a pane, broken off."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Failed
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.inspecting import crossing
from likely.app.tui.chat.inspecting.crossing import LETTERS, ComparedColumn, CrossPerplexity
from likely.app.tui.chat.inspecting.formulas import of_divergence
from likely.app.tui.widgets.figures.crossing_pane import CrossPerplexityPane
from likely.app.tui.widgets.transcript.column import Column
from likely.app.words import heat
from likely.engine.base.statistics.difference import Pair

if TYPE_CHECKING:
    from likely.app.tui.widgets.host import ViewHost


READING = "each text is being read by each column …"


class CrossReading:
    """Figures that a pane shows of some columns, and their job. `turned`: which of a column's KLs is shown."""

    def __init__(self, host: "ViewHost", pane: CrossPerplexityPane) -> None:
        self.host, self.pane, self.turned = host, pane, 0
        self.drawn: bool | None = None  # what the laws are to be
        self._asked: CrossPerplexity | None = None
        self._columns: list[Column] = []
        self._of: object = None  # the texts and laws that it is of
        self._job = -1

    def read(self, columns: Sequence[Column], given: bool, text: str) -> None:
        """Ask for what is not known yet of these columns; nothing is, while one is being written."""
        engine = self.host.engine
        busy = any(column.busy for column in columns)
        of = [(id(c), c.answer, len(c.steps), c.chat.facts, c.chat.sampling.recipe) for c in columns]
        laws = [self.drawn, *(engine.adapters.get(c.chat.conversation.model) for c in columns)]
        if not busy and (of, laws) == self._of:
            return
        self.stop()
        self._of = None if busy else (of, laws)
        compared = [ComparedColumn(c.chat, c.label, self._adapters(c)) for c in columns]
        self._asked = asked = crossing.crossing(compared, given, self.drawn)
        self._columns = [*columns]
        absent = [name for column in columns if (name := column.chat.conversation.model) not in engine.models]
        waits = ""
        if not busy and any(column.steps or column.canvas for column in columns):
            waits = " · ".join(asked.notes)
            if asked.places[1:] and absent:
                waits = f"{absent[0]} is not loaded: ⏎ in the prompt loads it and runs again"
            elif asked.places[1:]:
                self._job = engine.submit(crossing.request(asked, [c.chat for c in columns], text), self._heard)
                waits = READING
        self.pane.show(None, self.host.names_of(columns[0].chat.conversation.model), waits)
        self.pane.display = bool(waits)

    def _adapters(self, column: Column) -> str:
        """The adapters that are on a column's model by now, in words."""
        on = self.host.engine.adapters.get(column.chat.conversation.model, ())
        return " + ".join(f"{adapter.name} {adapter.weight:g}" for adapter in on if adapter.weight)

    def _heard(self, job: int, events: list[Any]) -> None:
        asked = self._asked
        if job != self._job or asked is None:
            return
        for event in events:
            match event:
                case r.Crossed(differences):
                    places = asked.places
                    read = {(places[a], places[b]): each for (a, b), each in differences.items()}
                    self._job, self._asked = -1, replace(asked, differences=read)
                    self.pane.show(self._asked, self.pane.names)
                    self._tint(self._asked)
                case r.Progressed(_, _, done, total):
                    self.pane.show(None, self.pane.names, f"{READING} {100 * done // total} %")
                case Failed(line):
                    self._job = -1
                    self.pane.show(None, self.pane.names, line)
        self.pane.post_message(CrossPerplexityPane.CrossingChanged())

    def _tint(self, read: CrossPerplexity) -> None:
        """A text that was given is tinted by how far each model is from the first."""
        first, *others = read.places
        for other in others if read.given else ():
            levels = [heat.level(kl) for kl in read.kls((first, other))]
            self._columns[other].tint(levels, f"tinted by KL({LETTERS[first]}‖{LETTERS[other]})")

    def stop(self) -> None:
        """Break off what is being read: it is asked for again."""
        if self._job >= 0:
            self.host.engine.worker.stop(self._job)
            self._job, self._of = -1, None

    def turn_law(self) -> bool:
        """Read by q in the place of p, or the other way round; False where nothing is read yet."""
        if self._asked is None or not self._asked.differences:
            return False
        self.drawn = not self._asked.drawn
        return True

    @property
    def law(self) -> str:
        """The name of the laws that the columns are read by."""
        return "q" if self._asked is not None and self._asked.drawn else "p"

    def formula(self) -> Formula | None:
        """The KL that is shown, at the token that is looked at and over the text; None where none is."""
        way, read = self.pane.way, self.of(self.pane.place)
        position = read.position(way, self.pane.token) if read is not None and way in read.differences else None
        if read is None or position is None:
            return None
        a, b = (f"{self.law}_{LETTERS[place]}" for place in way)
        mean = read.means[way]
        return of_divergence(a, b, position.metrics["reverse_kl"], self.pane.token + 1, mean, crossing.interval(mean))

    def of(self, place: int) -> CrossPerplexity | None:
        """The figures of the column at a place, where there are any."""
        read = self._asked
        return read if read is not None and read.differences and place in read.places else None

    def ways(self, place: int) -> list[Pair]:
        """The KLs that there are of a column."""
        read = self.of(place)
        return read.ways(place) if read is not None else []

    def _pair(self, place: int) -> Pair:
        """A column, and the one that it is looked at beside."""
        ways = self.ways(place)
        a, b = ways[self.turned % len(ways)]
        return (a, b) if a == place else (b, a)

    def look(self, place: int, cursor: TokenPlace | None) -> None:
        """Show a column's token under the cursor as another column has it, by default the fork that is first."""
        if (read := self.of(place)) is not None:
            ways = read.ways(place)
            token = cursor.token if cursor is not None else read.fork(self._pair(place))
            self.pane.look_at(ways[self.turned % len(ways)], place, token)

    def fork(self, place: int, cursor: TokenPlace | None, by: int) -> int | str:
        """The next fork of a column after its cursor, or before it; else why there is none."""
        read = self.of(place)
        if read is None:
            return "forks are known once every column has its text, and each was read by each"
        pair = self._pair(place)
        here = cursor.token if cursor is not None else -1
        ahead = [at for at in read.forks(pair) if (at > here if by > 0 else at < here)]
        if not ahead:
            a, b = (LETTERS[each] for each in pair)
            return f"no fork of {a} and {b} {'after' if by > 0 else 'before'} this token"
        return ahead[0] if by > 0 else ahead[-1]
