"""The inside view: pages on what a model does between a text and its next word, one cursor in all of them.

It holds a `Reading` and the pages, asks the engine for what the page that is shown wants, and hands on what comes. What
was asked for is broken off when the view is left, or another text is taken; what is known by then stays.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.timer import Timer

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.interpretability import Inside, InsideQuestion, question
from likely.app.jobs.worker import Failed
from likely.app.lessons.expression import Value
from likely.app.store import export
from likely.app.tui.base import context, keys
from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text.formula import Formula, path
from likely.app.tui.chat.inspecting.inspection import InspectedPrompt
from likely.app.tui.dialogs.export_file import export_as
from likely.app.tui.inside.attention_page import AttentionPage
from likely.app.tui.inside.causes_page import CausesPage
from likely.app.tui.inside.lens_page import LensPage
from likely.app.tui.inside.map_page import MapPage
from likely.app.tui.inside.page import TALL, WIDE, Page
from likely.app.tui.inside.reading import Reading
from likely.app.tui.inside.tokens_page import TokensPage
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.lists.overlays import Ask
from likely.app.words import inside_tables
from likely.engine.base.files.whole_file import write_whole
from likely.engine.chat.conversation import Fork
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt

SETTLE_S = 0.3  # how long the cursor rests before the engine is asked for what costs much
OPENED = question(Inside.opened)
EMPTY = (
    "There is no text to look into yet.",
    "n takes one; or say something in the chat, and press i on a token of the answer.",
)

KEYS = (
    ("left", "move(-1, 0)", "left", "the token before"),
    ("right", "move(1, 0)", "right", "the next token"),
    ("up", "move(0, -1)", "up", "layer or head above; on the map, up"),
    ("down", "move(0, 1)", "down", "layer or head below"),
    ("pageup,comma", "move(-8, 0)", "page_up", "eight tokens back"),
    ("pagedown,full_stop", "move(8, 0)", "page_down", "eight tokens on"),
    ("home,0", "move(-100000, 0)", "first", "the first token"),
    ("end,greater_than_sign", "move(100000, 0)", "last", "the last token"),
    ("tab", "page(1)", "next_page", "the next page"),
    ("shift+tab", "page(-1)", "previous_page", "the page before"),
    ("n", "new", "new", "look into another text"),
    ("c", "show('causes')", "causes", "what caused this token"),
    ("k", "press('kl')", "kl", "lens: tint by KL, or by p"),
    ("z,enter", "press('fold')", "fold", "lens: all layers; else: the picture"),
    ("t", "press('tuned')", "tuned", "lens: the tuned one, or the plain"),
    ("left_square_bracket", "press('previous')", "layer_before", "attention: the layer before"),
    ("right_square_bracket", "press('next')", "next_layer", "attention: the next layer"),
    ("g", "press('score')", "score", "attention: what tints the heads"),
    ("s", "press('sink')", "sink", "attention: without the first token"),
    ("r", "press('rollout')", "rollout", "attention: through all layers"),
    ("x", "press('ablate')", "silence", "silence this head, or those that wrote most"),
    ("plus", "press('closer')", "closer", "map: closer"),
    ("minus", "press('farther')", "farther", "map: farther"),
    ("i", "press('table')", "table", "map: input or output; causes: each word"),
    ("slash", "press('find')", "find", "map: stand on a word"),
    ("a", "press('arithmetic')", "sum", "map: a sum of words"),
    ("f", "press('foil')", "foil", "causes: over another token"),
    ("p", "press('patch')", "patch", "causes: patch into another text"),
    ("o", "press('other')", "other", "of the word said, or of the favourite"),
    ("w", "press('part')", "part", "causes: what is patched"),
    ("e", "export", "export", "write what the page shows: JSON, CSV, SVG"),
    ("escape", "back", "back", "back to the chat"),
)  # keys, action, its name in keys.toml, and what it does in words


class PageCanvas(LineWidget):
    """Draws what its view draws."""

    paint: Callable[[Canvas], None] | None = None

    def lines(self, width: int, height: int) -> Sequence[Line]:
        sheet = Canvas(width, height, self.look, self.glyphs)
        if self.paint is not None and width > 2 and height > 2:
            self.paint(sheet)
        return sheet.lines()


class InsideScreen(View):
    """A text, and five ways to look at what the model does with it."""

    NAME = "inside"
    STAYS = True
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, action, about.capitalize(), id=f"inside.{name}", tooltip=about)
        for key, action, name, about in KEYS
    ]

    def __init__(self) -> None:
        super().__init__()
        self.reading: Reading | None = None
        self.pages: tuple[Page, ...] = (LensPage(), AttentionPage(), MapPage(), CausesPage(), TokensPage())
        self.page: Page = self.pages[0]
        self._flying: dict[
            InsideQuestion[Any], tuple[InsideQuestion[Any], RunControl]
        ] = {}  # what was asked for, by what it answers
        self._settle: Timer | None = None
        self._spots: list[tuple[int, int, str]] = []  # of the pages' names

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        yield PageCanvas(id="page")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.canvas = self.query_one(PageCanvas)
        self.canvas.paint = self.paint
        self._arrive()

    def on_screen_resume(self) -> None:
        if self.is_mounted:
            self.host.restyle()  # another theme may have been chosen elsewhere
            self._arrive()

    def on_resize(self) -> None:
        self.call_after_refresh(self.reshow)

    # -- the text that is looked into --------------------------------------------------------------------------------

    def _arrive(self) -> None:
        """Take what another view has given to look into; else what was there; else the conversation that is open."""
        subject, self.host.looked_into = self.host.looked_into, None
        if subject is not None:
            self.read(subject.prompt, subject.after)
            self._begin(subject)
        elif self.reading is None and self.host.session is not None:
            talk = self.host.session.conversation
            if talk.leaf is not None:
                self.read(context.before(talk, Fork(talk.leaf.id)))
        self.models_changed()

    def _begin(self, subject: InspectedPrompt) -> None:
        """On the page, at the head and with the foil that were asked for."""
        for page in self.pages:
            if isinstance(page, AttentionPage) and subject.head is not None:
                page.layer, page.head = subject.head
            elif isinstance(page, CausesPage):
                page.against = subject.foil
            if subject.page == page.NAME:
                self.page = page
        self.reshow()

    def read(self, prompt: Prompt, after: int = 0) -> None:
        """Look into another text; `after` tokens stand behind the one to begin at."""
        facts = self.host.engine.current
        self._drop()
        name = facts.name if facts is not None else ""
        by_favourite = self.reading is not None and self.reading.by_favourite
        self.reading = Reading(name, prompt, self.host.names_of(name), after, by_favourite)
        for page in self.pages:
            page.restart()
        self.reshow()

    def models_changed(self) -> None:
        """Another model reads the same words."""
        facts, at = self.host.engine.current, self.reading
        if at is not None and facts is not None and at.model != facts.name:
            text = b"".join(at.names.piece(token) for token in at.ids).decode(errors="replace")
            whole = at.prompt.whole and bool(at.model)
            self.read(Prompt(parts=(text,)) if whole else at.prompt, at.after)
        self.reshow()

    def adapters_changed(self) -> None:
        """The model computes something else."""
        if self.reading is not None:
            self.read(self.reading.prompt, len(self.reading.ids) - 1 - self.reading.position if self.reading.ids else 0)

    def action_new(self) -> None:
        def typed(text: str | None) -> None:
            if text is not None and text.strip():
                self.read(Prompt(parts=(text,)))

        self.app.push_screen(Ask("look into which text? it is read as it is", ""), typed)

    def action_back(self) -> None:
        self.back()

    def leave(self) -> None:
        """Break off what is being computed for this view."""
        self._drop()

    def _drop(self) -> None:
        for _, control in self._flying.values():
            control.cancel()
        self._flying.clear()

    # -- the engine --------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask for what the page wants to know next, unless that is under way."""
        at, facts = self.reading, self.host.engine.current
        if at is None or facts is None or at.model != facts.name or not self.is_current:
            return
        wanted: InsideQuestion[Any] | None = OPENED
        if at.opened is not None:
            wanted = self.page.wants(at, *self._room())
        elif OPENED in at.refused:
            wanted = None
        if wanted is None:
            return
        flying = self._flying.get(wanted.key)
        if flying is not None:
            if flying[0] == wanted or wanted.method != "lens" or self._coming(flying[0], wanted):
                return
            flying[1].cancel()  # another part of the text is on the screen: it comes first
        control = RunControl()
        self._flying[wanted.key] = wanted, control
        request = call(calls.look, at.model, at.prompt, wanted, control)
        self.host.engine.submit(request, partial(self._heard, at, wanted.key, control))

    @staticmethod
    def _coming(flying: InsideQuestion[Any], wanted: InsideQuestion[Any]) -> bool:
        """Whether of a lens what is on the screen is known, or was asked for first."""
        _, low, high, _ = flying.args
        _, start, stop, known = wanted.args
        return all(position in known or low <= position < high for position in range(start, stop))

    def _heard(self, at: Reading, key: InsideQuestion[Any], control: RunControl, job: int, found: list[Any]) -> None:
        """Events of a job: of another text or of one that was broken off, they are not wanted."""
        if at is not self.reading or control.cancelled:
            return
        for event in found:
            if isinstance(event, Failed):
                at.refused[key] = event.line
                self._flying.pop(key, None)
            else:
                at.take(key, event)
        if at.has(key):
            self._flying.pop(key, None)
        if self.is_attached:
            self.reshow()

    def ask_soon(self) -> None:
        """Ask, once the cursor rests where that costs much."""
        if self._settle is not None:
            self._settle.stop()
        if self.page.SETTLES:
            self._settle = self.set_timer(SETTLE_S, self.ask)
        else:
            self.ask()

    # -- keys --------------------------------------------------------------------------------------------------------

    def on_key(self) -> None:
        self.hints.say("")

    def action_move(self, dx: int, dy: int) -> None:
        if self.reading is not None and self.reading.opened is not None:
            self.page.move(self.reading, dx, dy)
            self.canvas.redraw()
            self.ask_soon()

    def action_page(self, by: int) -> None:
        self.action_show(self.pages[(self.pages.index(self.page) + by) % len(self.pages)].NAME)

    def action_show(self, name: str) -> None:
        self.page = next(page for page in self.pages if name == page.NAME)
        self.reshow()

    def action_press(self, name: str) -> None:
        """A key of the page that is shown; of another one it does nothing."""
        at = self.reading
        if at is None or at.opened is None:
            self.hints.say("there is no text yet: n takes one")
        elif name in self.page.ASKS:
            page, reading = self.page, at

            def typed(text: str | None) -> None:
                if text is not None and reading is self.reading:
                    self.hints.say(page.told(name, reading, text))
                    self.reshow()

            self.app.push_screen(Ask(page.ASKS[name]), typed)
        elif name in self.page.DOES:
            self.hints.say(self.page.does(name, at))
            self.reshow()

    def action_export(self) -> None:
        at, page = self.reading, self.page
        table = page.export(at) if at is not None and at.opened is not None else None
        if at is None or table is None:
            self.hints.say("there is nothing to write yet: it is not all known")
            return

        def write(path: Path) -> None:
            write_whole(path, [inside_tables.written(path.suffix, at.names, at.ids, at.first, *table)])

        path = export.free(self.host.home / f"inside-{page.NAME}.json")
        export_as(self.app, "to which file? .json, .csv, or .svg of a grid", path, write, self.hints)

    def formula(self) -> Formula | None:
        at = self.reading
        parts = self.page.formula(at) if at is not None and at.opened is not None else ()
        return Formula(self.page.MAP, parts, self.page.SENTENCE) if parts else None

    def lacks(self) -> str:
        return self.reading.refused.get(OPENED, "") if self.reading is not None else super().lacks()

    def set_state(self, state: Mapping[str, str]) -> None:
        """Look into a text, on a page."""
        self.action_show(next((page.NAME for page in self.pages if state.get("page") == page.NAME), self.page.NAME))
        self.read(Prompt(parts=(state.get("text", ""),)))

    def numbers(self) -> Mapping[str, Value]:
        """Of the text that is read, once it is."""
        at = self.reading
        if at is None or at.opened is None:
            return {}
        text, own = at.written
        whole: dict[str, Value] = {
            "text": text,
            "tokens": float(len(own)),
            "characters": float(len(text)),
            "page": self.page.NAME,
        }
        lens = at.lenses.get(False)
        settled: dict[str, Value] = (
            {"settled": float(lens.decided()[-1])} if lens is not None and lens.known[-1] else {}
        )
        return {**whole, "layers": float(at.opened.layers), "token": at.running(at.position), **settled}

    def commands(self) -> Iterator[Command]:
        yield "inside: Another text…", "as it is, without a chat template", self.action_new
        for page in self.pages:
            if page is not self.page:
                yield f"inside: {page.NAME.capitalize()}", page.SHORT, partial(self.action_show, page.NAME)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def reshow(self) -> None:
        """Everything as it is now; what is missing is asked for."""
        at, facts = self.reading, self.host.engine.current
        name = (facts.title or facts.name) if facts is not None else "no model"
        self.top.show(name, self.page.facts(at) if at is not None else ())
        self.hints.show(
            (
                *self.page.keys(at, self._room()[0]),
                ("tab", "Page"),
                ("n", "Text"),
                ("e", "Export"),
                ("=", "Formula"),
                (keys.help_key(), "Keys"),
            )
        )
        self.canvas.redraw()
        self.ask()

    def _room(self) -> tuple[int, int]:
        """Columns and rows that a page has."""
        width, height = self.canvas.size
        return max(width - 2, 0), max(height - (5 if self._roomy(width, height) else 3), 0)

    @staticmethod
    def _roomy(width: int, height: int) -> bool:
        return height >= TALL and width >= WIDE

    def paint(self, sheet: Canvas) -> None:
        look, roomy = sheet.look, self._roomy(sheet.width, sheet.height)
        x, self._spots = 1, []
        for page in self.pages:
            ink = look.accent + Style(bold=True, underline=True) if page is self.page else look.faint
            end = sheet.put(x, 0, page.NAME, ink)
            self._spots.append((x, end, page.NAME))
            x = end + 3
        if roomy:
            sheet.words(1, 1, (self.page.SENTENCE, look.faint))
        elif sheet.width - x > len(self.page.SHORT):
            sheet.words(x, 0, (self.page.SHORT, look.faint))
        width, height = self._room()
        body = sheet.part(1, 3 if roomy else 2, width, height)
        at, facts = self.reading, self.host.engine.current
        if facts is None:
            loading = self.host.engine.loading is not None
            self._say(body, "the model is being loaded…" if loading else "there is no model yet: /model in the chat")
        elif at is None:
            self._say(body, *EMPTY)
        elif at.opened is None:
            why = at.refused.get(OPENED)
            self._say(body, why or "the text is being read…")
        else:
            self.page.draw(at, body)
        self._formula(sheet, sheet.height - 1)

    @staticmethod
    def _say(sheet: Canvas, *sentences: str) -> None:
        rows = [row for sentence in sentences for row in fold(sentence, sheet.width)]
        for y, row in enumerate(rows):
            sheet.put(0, y, row, sheet.look.text)

    def _formula(self, sheet: Canvas, y: int) -> None:
        """The map of p that the page's numbers belong to, and its formula with the present values."""
        x, formula = 1, self.formula()
        name = formula.map if formula is not None else self.page.MAP
        whole = sheet.width >= WIDE
        words = [*path(name, whole=whole), (f" {sheet.glyphs.tick} " if whole else "  ", "rule")]
        for text, ink in [*words, *(formula.beside(words, sheet.width - 2) if formula is not None else ())]:
            x = sheet.words(x, y, (text, getattr(sheet.look, ink)))

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._spots:
            if event.screen_y == 1 and start <= event.screen_x < end:
                self.action_show(name)
