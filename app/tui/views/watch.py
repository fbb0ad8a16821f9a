"""Watch: the requests of a server as they run, and each opened token by token with what the model said there."""

from collections.abc import Iterator
from dataclasses import replace
from time import monotonic
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Label

from likely.app.jobs.worker import Closed, Failed, Worker
from likely.app.serve.watch.address import ServerAddress
from likely.app.serve.watch.child_server import ChildServer
from likely.app.serve.watch.client import ServerLost, WatchControl, WatchJobs, WatchServer
from likely.app.serve.watch.lines import WatchBegan
from likely.app.tui.base import keys
from likely.app.tui.base.answer_settings import AnswerSettings
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.chat_session import ChatSession, SessionUpdate
from likely.app.tui.chat.inspecting.inspection import Subject
from likely.app.tui.chat.inspecting.inspections import Inspections
from likely.app.tui.chat.inspecting.watched import WatchedRequest, WatchedRequests
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, InspectorLine, TopBar
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.input.sampler import Sliders
from likely.app.tui.widgets.inspector import Inspector
from likely.app.tui.widgets.lists.candidates import Candidates
from likely.app.tui.widgets.request_table import RequestTable
from likely.app.tui.widgets.transcript.token_view import TokenView
from likely.app.tui.widgets.transcript.tree import TreePane
from likely.app.words.heat import BITS, HEATS
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.step import SamplingConfig

TICK_S = 0.1
FIGURES_S = 0.25  # between two looks at figures that change with every token
NOTHING = (
    "no server is watched",
    "",
    "n         another server's address",
    "^p        server: Start, for the model that is loaded",
    "           or: likely chat --server http://127.0.0.1:8080",
)


class WatchScreen(View):
    """The list of a server's requests, or one of them. The server is listened to in a thread of its own, which goes on
    while another view is looked at."""

    NAME = "watch"
    PARTS = (RequestTable, TokenView, Candidates, Sliders, TreePane)
    STAYS = True
    NEEDS_MODEL = False
    AUTO_FOCUS = "RequestTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="watch.back", tooltip="to the list; there, to the chat"),
        Binding("n", "ask", "Watch", id="watch.ask", tooltip="another server, by its address"),
        Binding("ctrl+t", "heat", "Heat", id="watch.heat", tooltip="tint: surprisal, entropy, rank, off"),
        Binding("ctrl+g", "sampler", "Sampler", id="watch.sampler", tooltip="to the sliders"),
        Binding("vertical_line", "panel", "Panel", id="watch.panel", tooltip="the panel's next part"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.address: ServerAddress | None = None
        self.version = ""  # of the server, while it is seen
        self.news = ""  # why it is not
        self.requests = WatchedRequests(lambda: self.host.clock())
        self.row: WatchedRequest | None = None  # the one that is open
        self.inspections: Inspections | None = None
        self.sampling: Sampling | None = None  # that a person has set: another than the token was drawn by
        self._worker: Worker | None = None
        self._child: ChildServer | None = None  # the server started from here that was turned to
        self._control = WatchControl()
        self._figures_s = 0.0
        self._stale = False  # something was heard that the figures do not show yet

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        yield Caption(id="watch-line")
        yield Label(id="watch-news", markup=False)
        yield Input(placeholder="http://127.0.0.1:8080, and a key's file where it is another's", id="watch-address")
        yield RequestTable(id="requests")
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield TokenView(id="transcript")
            yield Inspector(id="inspector")
        yield InspectorLine(id="glance")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.table, self.view = self.query_one(RequestTable), self.query_one(TokenView)
        self.inspector = self.query_one(Inspector)
        self.inspector.subject = self.subject
        self.inspector.sampler.names = lambda token: self.names().name(token)
        self._address.display = False
        self._show_list()
        if self.host.server is not None:
            self.watch_server(self.host.server)
        self.set_interval(TICK_S, self.tick)

    def on_unmount(self) -> None:
        self._stop()

    def on_screen_resume(self) -> None:
        if self.is_mounted:
            self.host.restyle()
            self.reshow()

    @property
    def _address(self) -> Input:
        return self.query_one("#watch-address", Input)

    # -- the server --------------------------------------------------------------------------------------------------

    def watch_server(self, address: ServerAddress) -> None:
        """Watch a server from now on, and no other."""
        self._stop()
        self._shut()
        self.host.server, self.address = address, address
        self.version, self.news = "", f"looking for {address}…"
        self.requests = WatchedRequests(lambda: self.host.clock())
        self._control = WatchControl()
        self._worker = self.host.worker(WatchJobs, "watching")
        self._worker.submit(WatchServer(address, self._control))
        self._worker.start()
        self.reshow()

    def _stop(self) -> None:
        """Stop watching the server."""
        self._control.stop()
        if self._worker is not None:
            self._worker.close(0.0)
            self._worker = None

    def tick(self) -> None:
        """Hear what the server said since the last time; of the one started from here, whether it listens."""
        child = self.host.child
        if child is not None and child.address and child is not self._child:
            self._child = child
            self.watch_server(ServerAddress.read(child.address, self.host.home))
        elif child is not None and (failure := child.failure):
            self.host.stop_server()
            self.hints.say(failure, alarm=True)
            self._stale = True
        if self._worker is not None and (reported := [event for _, event in self._worker.drain()]):
            self._take(reported)
        self._stale = self._stale or bool(self._starting())
        now = monotonic()
        if self._stale and now - self._figures_s >= FIGURES_S:
            self._stale, self._figures_s = False, now
            self.reshow()

    def _starting(self) -> str:
        """The server that is being started from here, in a line; "" where none is."""
        child = self.host.child
        if child is None or child.address:
            return ""
        facts = self.host.engine.models.get(child.model)
        size = f": a copy of its {facts.nbytes / 1e9:.2g} GB" if facts is not None else ""
        return f"a server of {child.model} is being started{size}"

    def _take(self, reported: list[object]) -> None:
        batch = []
        for event in reported:
            match event:
                case WatchBegan(version):
                    self.version, self.news = version, ""
                    batch.append(event)
                case ServerLost(line) | Failed(line):
                    self.version, self.news = "", line
                    self._hear(self.requests.take(batch))
                    batch = []
                    self.requests.lost()
                case Closed():
                    pass
                case _:
                    batch.append(event)  # type: ignore[arg-type]
        self._hear(self.requests.take(batch))
        self._stale = True

    def _hear(self, heard: dict[WatchedRequest, SessionUpdate]) -> None:
        """Show of the open request what is new."""
        update = heard.get(self.row) if self.row is not None else None
        if update is None or self.row is None or self.row.session is None:
            return
        if update.tokens:
            transcript = self.row.session.transcript
            self.view.extend(update.tokens)
            self.view.renote(len(transcript.shown) - 1, transcript.notes(len(transcript.shown) - 1))
        if update.reshow or update.ended:
            self._relay()
        elif update.branched:
            self.inspector.show_tree(self.row.session.conversation)
        if update.tokens and self.view.cursor is None:
            self.inspector.inspect_soon()

    def action_ask(self) -> None:
        self._address.display = True
        self._address.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        url, _, key = event.value.strip().partition(" ")
        try:
            address = ServerAddress.read(url, self.host.home, key.strip()) if url else None
        except ParameterError as error:
            self.hints.say(str(error), alarm=True)
            return
        self._close_address()
        if address is not None:
            self.watch_server(address)

    def _close_address(self) -> None:
        self._address.display = False
        (self.view if self.row is not None else self.table).focus()

    # -- one request -------------------------------------------------------------------------------------------------

    def on_request_table_request_opened(self, event: RequestTable.RequestOpened) -> None:
        self.open_request(event.row)

    def open_request(self, row: WatchedRequest) -> None:
        """Show a request's tokens, from the newest on."""
        if row.run is None or (not row.request.turns and not row.tokens):
            self.hints.say("its tokens were let go: only so many are kept" if row.run is None else "nothing to show")
            return
        self._shut()
        self.row, self.sampling = row, None
        session = row.open(self.host.clock)
        self.inspections = Inspections(session, None)
        self.inspector.forget()
        self.view.cursor = None
        self.remove_class("-listed")
        self._relay(follow=True)
        self.inspector.sampler.show(AnswerSettings(Sampling.of(self._drawn_by(session))))
        self.view.focus()

    def _drawn_by(self, session: ChatSession) -> SamplingConfig:
        """By what the newest token was drawn."""
        place = self.view.newest()
        step = session.transcript.step_at(place) if place is not None else None
        return step.recipe if step is not None else SamplingConfig()

    def _shut(self) -> None:
        if self.row is not None:
            self.row.shut()
        self.row = self.inspections = None
        self._show_list()

    def _show_list(self) -> None:
        self.add_class("-listed")
        self.query_one(InspectorLine).display = False
        if not self._address.display:
            self.table.focus()

    def _relay(self, *, follow: bool | None = None) -> None:
        """Show the open request's lineage anew."""
        if self.row is None or self.row.session is None or self.inspections is None:
            return
        self.inspections.forget()
        self.view.show(self.row.session.transcript.blocks(), follow=follow)
        self.inspector.show_tree(self.row.session.conversation)
        self.inspector.inspect()
        self.reshow()

    def names(self) -> Names:
        """The vocabulary of the open request's model, as its server has told it."""
        model = self.row.model if self.row is not None else ""
        return self.requests.names.get(model) or self.host.names_of(model)

    def subject(self) -> Subject:
        """The token that is looked at, under what it was drawn by, or what a person has set."""
        if self.row is None or self.row.session is None or self.inspections is None:
            return Subject()
        current = self.host.engine.current
        if self.inspector.near and (current is None or current.name != self.row.model):
            self.inspector.near = False  # the chat's model would be asked, which is another
            self.call_later(self.hints.say, f"tokens that lie nearest want {self.row.model} to be loaded here")
        place: TokenPlace | None = self.view.cursor or self.view.newest()
        subject = self.inspections.subject(place, self.view.cursor, self.names(), None)
        if subject.at is None or subject.at.step is None:
            return subject
        recipe = subject.at.step.recipe if self.sampling is None else self.sampling.recipe
        return replace(subject, at=replace(subject.at, recipe=recipe))

    def on_token_view_cursor_moved(self) -> None:
        self.inspector.inspect()

    def on_token_view_chosen(self) -> None:
        self.inspector.open()
        self.inspector.candidates.focus()

    def on_token_view_fold_toggled(self, event: TokenView.FoldToggled) -> None:
        block = self.view.blocks[event.block]
        block.fold(not block.folded)
        self.view.relay()

    def on_sliders_changed(self, event: Sliders.Changed) -> None:
        self.sampling = event.settings.sampling
        self.inspector.inspect()

    def on_candidates_picked(self) -> None:
        self.hints.say("it is the server's request: it is watched, not steered")

    def on_tree_pane_checked_out(self, event: TreePane.CheckedOut) -> None:
        """Another of its texts."""
        session = self.row.session if self.row is not None else None
        if session is not None:
            session.change(lambda talk: talk.choose(event.fork, event.option), keeps_run=True)
            self._relay(follow=True)

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        if self._address.display:
            self._close_address()
        elif self.row is not None and (self.inspector.close() or not self.view.has_focus):
            self.view.focus()
        elif self.row is not None:
            self._shut()
            self.reshow()
        else:
            self.back()

    def action_heat(self) -> None:
        if self.row is not None and self.row.session is not None:
            transcript = self.row.session.transcript
            transcript.recolour(HEATS[(HEATS.index(transcript.heat) + 1) % len(HEATS)], transcript.least)
            self.view.redraw()
            self.reshow()

    def action_sampler(self) -> None:
        if self.row is not None:
            self.inspector.to_sampler(self.view)

    def action_panel(self) -> None:
        if self.row is not None:
            self.inspector.next_face()

    def on_key(self) -> None:
        if self.hints.news:
            self.hints.say("")

    def on_resize(self) -> None:
        if self.is_mounted and self.row is not None:
            self.call_after_refresh(self.inspector.inspect)

    # -- showing -----------------------------------------------------------------------------------------------------

    def reshow(self) -> None:
        """Everything as it is now."""
        if not self.is_mounted:
            return
        requests, row = self.requests, self.row
        version = f"likely {self.version}" if self.version else ""
        counts = (f"{requests.running} running", f"{requests.total:,} in all")
        name = f"{self.address.host}:{self.address.port}" if self.address is not None else "no server"
        self.top.show(name, (*counts, version) if version else ())
        heat = row.session.transcript if row is not None and row.session is not None else None
        self.top.tint(heat.heat if heat is not None else "off", heat.least if heat is not None else BITS[0])
        told, news = self.query_one("#watch-line", Caption), self.query_one("#watch-news", Label)
        told.display, news.display = row is not None or not self.news, bool(self.news)
        news.update(cells.clean(self.news))
        if row is None:
            starting = self._starting()
            watched = f" requests of {self.address}, as they run" if self.address is not None else ""
            told.show(((f" {starting}" if starting else watched, "faint"),))
            waiting = ("nothing was asked yet",) if self.version else ()
            self.table.show(requests.rows, waiting if self.address is not None or starting else NOTHING)
            self.hints.show((("⏎", "Open"), ("n", "Server"), ("esc", "Chat"), (keys.help_key(), "Keys")))
            return
        figures = [
            row.request.kind,
            row.model,
            f"{row.tokens:,} token{'s' * (row.tokens != 1)}",
            f"{row.tokens_per_s:.1f}/s",
            row.state,
            row.why,
            "from its middle on" if row.request.late else "",
        ]
        words = " · ".join(figure for figure in figures if figure)
        told.show(((f" {words}", "alarm" if row.why else "faint"),))
        self.hints.show(
            (("←→", "Token"), ("⏎", "Candidates"), ("^g", "Sampler"), ("esc", "List"), (keys.help_key(), "Keys"))
        )

    def formula(self) -> Formula | None:
        return self.inspector.formula() if self.row is not None else None

    def commands(self) -> Iterator[Command]:
        yield "server: Watch…", "another server, by its address", self.action_ask
