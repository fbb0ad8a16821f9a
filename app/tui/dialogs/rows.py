"""`RowsScreen`: rows of a data set to be looked through, each with its source, scores and surprisal, kept or dropped.

What is chosen is written beside the rows at once (`engine.tune.choices`); the rows' files are never written to. Files
are opened and ordered on a thread of their own, so the screen stays as quick for a hundred thousand rows as for ten.
"""

from asyncio import to_thread
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.tui.base import keys
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.block import MessageBlock, ShownToken
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.training import browser as browsing
from likely.app.tui.training import drift
from likely.app.tui.training.browser import RowBrowser
from likely.app.tui.widgets.bars import Hints
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.host import ViewHost
from likely.app.tui.widgets.lists.overlays import Read
from likely.app.tui.widgets.lists.row_table import RowTable, figure, unit
from likely.app.tui.widgets.transcript.heat_view import HeatView
from likely.app.words.heat import heat_level
from likely.engine.base.errors import DataError
from likely.engine.decode.prompt import Prompt
from likely.engine.text.rows.training_row import TrainingRow
from likely.engine.train.data.row_file import FileRow

TICK_S = 1.0  # between two looks at whether the file is another
SHOWN = 4000  # characters of a turn below the table; all of it is read by enter
WHOLE = 200_000  # characters that are laid out to be read
LINES = (
    ("↑ ↓  pgup pgdn  home end", "another row"), ("[ ]", "another file of the data set"),
    ("d", "drop the row, or take that back"), ("k", "keep what is dropped, or take that back"),
    ("o", "order by the next number, the largest first"), ("m", "measure the row with the chat's model"),
    ("enter", "the whole row"), ("r", "read the file again"), ("tab", "from the table to the text"), ("esc", "back"),
)  # fmt: skip


class RowsScreen(Screen[None]):
    """A table of rows, and below it the one where a person stands."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "choose(False)", "Drop", id="rows.drop"),
        Binding("k", "choose(True)", "Keep", id="rows.keep"),
        Binding("left_square_bracket", "file(-1)", "File before", id="rows.previous"),
        Binding("right_square_bracket", "file(1)", "Next file", id="rows.next"),
        Binding("o", "sort", "Order", id="rows.order"),
        Binding("m", "measure", "Measure", id="rows.measure"),
        Binding("r", "again", "Read again", id="rows.again"),
        Binding("enter", "read", "Whole row", id="rows.read"),
        Binding(f"{keys.HELP},question_mark", "keys", "Keys", id="rows.keys"),
        Binding("escape,q", "dismiss(None)", "Back", id="rows.back"),
    ]

    def __init__(self, host: ViewHost, source: str, names: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.host, self.names = host, names
        self.browser = RowBrowser(source)
        self.measured: tuple[str, str, r.Scored] | None = None  # of a row, by a model
        self.busy = ""  # what the thread does

    def compose(self) -> ComposeResult:
        yield Caption(id="rows-title")
        yield RowTable(self.browser, id="rows")
        yield Caption(id="row-facts")
        yield HeatView(id="row", top=True)
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.query_one(RowTable).focus()
        self.set_interval(TICK_S, self._look)
        self.open_file()

    # -- files -------------------------------------------------------------------------------------------------------

    def _aside(self, what: str, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Have a thread do something, the newest alone; what fails is why there is nothing."""
        self.busy = what

        async def do() -> None:
            try:
                result, why = await to_thread(work), ""
            except (DataError, OSError, ValueError, MemoryError) as error:
                result, why = None, str(error) or "there is not enough memory for it"
            self.busy = ""
            if why:
                self.browser.fail(why)
            else:
                done(result)
            self._show()

        self.run_worker(do(), exclusive=True, exit_on_error=False)
        self._show()

    def open_file(self) -> None:
        path, beside = self.browser.path, self.browser.beside
        if path is None:
            self.browser.fail(self.browser.why)
            self._show()
            return
        self._aside(f"reading {path.name}", lambda: browsing.opened(path, self.names, beside), self.browser.show)

    def action_again(self) -> None:
        """Look for the files, and open the one that is shown, again."""
        self.browser.relist()
        self.open_file()

    def action_file(self, by: int) -> None:
        if len(self.browser.files) > 1:
            self.browser.file = (self.browser.file + by) % len(self.browser.files)
            self.open_file()

    def action_sort(self) -> None:
        """Order by the next number that the rows have."""
        browser, by = self.browser, self.browser.next_order
        if not browser.numbers:
            self.query_one(Hints).say("these rows have no numbers to be ordered by")
        elif not by or browser.columns:
            browser.sort(by)
            self._show()
        else:
            rows, names = browser.rows, browser.numbers

            def ordered(numbers: dict[str, np.ndarray]) -> None:
                browser.columns = numbers
                browser.sort(by)

            self._aside(f"ordering by {by}", lambda: browsing.columns(rows, names), ordered)

    def _look(self) -> None:
        if self.is_current and not self.busy and self.browser.changed:
            self.query_one(Hints).say("the file is another by now: r reads it again")

    # -- choosing ----------------------------------------------------------------------------------------------------

    def action_choose(self, keep: bool) -> None:
        before, hints = self.browser.opened, self.query_one(Hints)
        try:
            news, alarm = self.browser.choose(keep), False
        except DataError as error:
            news, alarm = str(error), True
        if self.browser.opened is not before:
            self.browser.go(self.browser.at + 1)
        self._show()
        hints.say(news, alarm=alarm)

    # -- looking -----------------------------------------------------------------------------------------------------

    def action_measure(self) -> None:
        """The surprisal of every token of the row under the model of the chat."""
        row, facts, hints = self.browser.here, self.host.engine.current, self.query_one(Hints)
        if row is None or row.row is None:
            hints.say("there is no row here")
            return
        if facts is None:
            hints.say("there is no model: the chat's measures a row")
            return
        where, messages = row.where, turns(row.row)
        prompt = Prompt(parts=(row.row.text,)) if row.row.form == "text" else Prompt(tuple(messages))

        def scored(job: int, events: list[Any]) -> None:
            for event in events if self.is_attached else ():
                match event:
                    case r.Scored():
                        self.measured = where, facts.name, event
                        hints.say("")
                        self._show()
                    case Failed(line):
                        hints.say(line, alarm=True)

        hints.say(f"measuring with {facts.name}")
        self.host.engine.submit(call(calls.score, facts.name, prompt, tuple(text for _, text in messages)), scored)

    def action_read(self) -> None:
        row = self.browser.here
        if row is not None:
            messages = [] if row.row is None else [f"{who}\n{text[:WHOLE]}" for who, text in turns(row.row)]
            source = [f"{name} {text}" for name, text in row.source.items()]
            numbers = [f"{name} {value:g}" for name, value in row.scores.items()]
            parts = (row.error, row.dropped, *messages, "\n".join(source), "\n".join(numbers))
            self.app.push_screen(Read(row.where, cells.clean("\n\n".join(part for part in parts if part))))

    def action_keys(self) -> None:
        self.app.push_screen(Read("rows", "\n".join(f"  {key:<26} {about}" for key, about in LINES)))

    def on_row_table_row_looked_at(self) -> None:
        self.query_one(Hints).say("")
        self._show()

    def _show(self) -> None:
        browser, row = self.browser, self.browser.here
        self.query_one("#rows-title", Caption).show(self._title())
        self.query_one(RowTable).redraw()
        self.query_one("#row-facts", Caption).show(*(self._facts(row) if row is not None else ()))
        self.query_one(HeatView).show(self._blocks(row) if row is not None else [], follow=False)
        many = (("[ ]", "File"),) if len(browser.files) > 1 else ()
        own = (
            (("d", "Drop"), ("k", "Keep"), ("o", "Order"), ("m", "Measure"), ("⏎", "Whole")) if row is not None else ()
        )
        self.query_one(Hints).show((*own, *many, ("esc", "Back")))

    def _title(self) -> list[tuple[str, str]]:
        browser = self.browser
        name = browser.path.name if browser.path is not None else "rows"
        words: list[tuple[str, str]] = [(f" {name}", "model")]
        if len(browser.files) > 1:
            words.append((f"  file {browser.file + 1} of {len(browser.files)}", "faint"))
        if self.busy:
            return [*words, (f"  {self.busy} …", "faint")]
        if len(browser.rows):
            words.append((f"  row {browser.at + 1:,} of {len(browser.rows):,}", "text"))
            words.append((f"  by {unit(browser.by)}" if browser.by else "", "faint"))
            out, back = browser.by_hand
            words.append((f"  {out:,} dropped, {back:,} kept by hand" if out or back else "", "accent"))
        return words

    def _facts(self, row: FileRow) -> list[list[tuple[str, str]]]:
        """Where the row came from, its numbers, and what becomes of it."""
        source = row.source
        order = ("method", "parent", "model", "strategy", "recipe", "seed", "job", "branch", "attributes")
        words = " · ".join(
            text if name in ("method", "parent", "model", "strategy") else f"{name} {text}"
            for name in order if (text := source.get(name, ""))
        )  # fmt: skip
        bits = [] if row.surprisal is None else [f"{row.surprisal:.2f} bits a token"]
        numbers = " · ".join([*bits, *(f"{name} {figure(x)}" for name, x in row.scores.items() if name != "logprob")])
        if self.measured is not None and self.measured[0] == row.where:
            numbers = f"{self._surprise()}{' · ' if numbers else ''}{numbers}"
        choice = self.browser.choice(row)
        fate = {True: ("kept by hand", "better"), False: ("dropped by hand", "alarm"), None: ("", "text")}[choice]
        aside = f"dropped: {row.dropped}" if row.dropped else ""
        return [
            [(f" {words or row.where}", "faint")], [(f" {numbers}", "text")],
            [(f" {fate[0]}{'  ' if fate[0] else ''}", fate[1]), (aside, "faint")],
        ]  # fmt: skip

    def _surprise(self) -> str:
        """The mean under the model of the chat, over the last turn where there are turns."""
        assert self.measured is not None
        _, model, score = self.measured
        span = score.spans[-1] if score.spans else None
        steps = score.steps if span is None else score.steps[span[0] : span[1]]
        known = [-step.logprob / LN2 for step in steps if step.logprob is not None]
        return f"{sum(known) / len(known):.2f} bits a token under {model}" if known else ""

    def _blocks(self, row: FileRow) -> list[MessageBlock]:
        """The row's turns; as tokens with their heat where it was measured."""
        if row.row is None:
            block = MessageBlock("error", "no row", "", scored=True)
            block.fill([ShownToken(row.error)])
            return [block]
        if self.measured is not None and self.measured[0] == row.where:
            _, model, score = self.measured
            texts = drift.text([step.token for step in score.steps], self.host.names_of(model))
            block = MessageBlock("measured", "row", f"as {model} reads it, tinted by surprise", scored=True)
            block.specials = True
            block.fill(
                ShownToken(text, heat_level(step, "surprisal")) for text, step in zip(texts, score.steps, strict=True)
            )
            return [block]
        blocks = []
        for number, (who, text) in enumerate(turns(row.row)):
            block = MessageBlock(str(number), who, "", scored=True)
            block.fill([ShownToken(text[:SHOWN])])
            blocks.append(block)
        return blocks


def turns(row: TrainingRow) -> list[tuple[str, str]]:
    """Who says what; a rejected answer last."""
    if row.form == "text":
        return [("text", row.text)]
    messages = [(str(message["role"]), str(message.get("content") or "")) for message in row.messages]
    return [*messages, ("rejected", str(row.rejected[-1].get("content") or ""))] if row.rejected else messages
