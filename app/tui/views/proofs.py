"""Live proofs: what the samplers and searches draw on a model small enough to list, beside what they should."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from likely.app.jobs.proof_jobs import DrawOn, ListProofs, ProofJobs, ProofsListed
from likely.app.jobs.worker import Closed, Failed
from likely.app.tui.base import keys
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.figures import proof
from likely.app.tui.widgets.figures.chart import Chart
from likely.app.tui.widgets.figures.proof_picture import ProofPicture
from likely.app.words.proof_text import fit_words
from likely.engine.measure.proofs.claim import PAGES, Bracketed, Centred, Claim, Evidence

if TYPE_CHECKING:
    from likely.app.lessons.expression import Value

TICK_S = 0.1
WIDE = 110  # columns
FIRST, MORE = 2000, 1000  # draws of a law that is looked at, and those that a key adds
FORMULA = """\
Every outcome x is listed with its probability p(x), and drawn n times by the code that a chat draws with:

    χ² = Σ (drawn(x) − n p(x))² / (n p(x))        on (cells − 1) degrees of freedom

Cells that expect less than 5 draws are one cell. p is the probability of a χ² as large where the law is right: uniform
then, and next to nothing soon where it is not. A law is refused under 10⁻⁴."""


class ProofsScreen(View):
    """A law at a time, drawn in a thread of its own; what was drawn stays until it is begun anew."""

    NAME = "proofs"
    STAYS = True
    NEEDS_MODEL = False
    AUTO_FOCUS = ""  # keys are the view's own
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "law(1)", "Law", id="proofs.next", tooltip="the next law"),
        Binding("shift+tab", "law(-1)", "Law", id="proofs.previous", tooltip="the law before"),
        Binding("right", "page(1)", "Page", id="proofs.next_page", tooltip="the next page of laws"),
        Binding("left", "page(-1)", "Page", id="proofs.previous_page", tooltip="the page before"),
        Binding("space", "draw_on", "Draw on", id="proofs.draw_on", tooltip="draw on, or hold"),
        Binding("plus", "more", "1,000 more", id="proofs.more", tooltip="1,000 draws more"),
        Binding("r", "anew", "From 0", id="proofs.anew", tooltip="forget the draws, and begin with another seed"),
        Binding("v", "root", "√p or p", id="proofs.root", tooltip="heights are p, or its root"),
        Binding("a", "all", "All", id="proofs.all", tooltip="draw for all laws of the page"),
        Binding("t", "numbers", "Numbers", id="proofs.numbers", tooltip="the numbers, where the screen is small"),
        Binding("escape", "back", "Back", id="proofs.back", tooltip="back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.claims: tuple[Claim, ...] = ()
        self.found: dict[str, Evidence] = {}
        self.chosen = ""
        self.rooted = True
        self.seed = 0
        self._goal = 0  # draws of the chosen law at which it rests
        self._endless = False
        self._queue: list[str] = []  # laws that are drawn for after this one
        self._job, self._drawing = -1, ""
        self._failure = ""

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        yield Caption(id="proof-tabs")
        with Horizontal(id="proof"):
            with Vertical(id="proof-drawn"):
                yield ProofPicture(id="proof-picture")
                yield Chart(id="proof-chart")
                yield Chart(id="proof-track")
                yield Caption(id="proof-verdict")
            yield Caption(id="proof-numbers")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self._worker = self.host.worker(ProofJobs, "proofs")
        self._worker.start()
        self._job = self._worker.submit(ListProofs())
        self.set_interval(TICK_S, self.tick)
        self.reshow()

    def on_unmount(self) -> None:
        self._worker.close()

    def on_resize(self) -> None:
        super().on_resize()
        self.call_after_refresh(self.reshow)

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if self.is_mounted:
            self.host.restyle()
            self.reshow()

    def leave(self) -> None:
        """Go on to the end of what was begun; stop what would have none."""
        if self._endless:
            self._hold()

    # -- drawing -----------------------------------------------------------------------------------------------------

    @property
    def claim(self) -> Claim | None:
        """The law that is looked at."""
        return next((claim for claim in self.claims if claim.name == self.chosen), None)

    @property
    def evidence(self) -> Evidence | None:
        """The draws for it so far."""
        claim = self.claim
        return None if claim is None else self.found.get(claim.name, Evidence(claim))

    def tick(self) -> None:
        came = False
        for job, event in self._worker.drain():
            if job == self._job:
                came = True
                self._take(event)
        if came:
            self.reshow()

    def _take(self, event: Any) -> None:
        match event:
            case ProofsListed(claims):
                self.claims, self._job = claims, -1
                self.look_at(self.host.proof or "")
            case Evidence():
                self.found[event.claim.name] = event
            case Failed(line):
                self._failure, self._endless, self._queue = line, False, []
                self.hints.say(line, alarm=True)
            case Closed():
                self._job, self._drawing = -1, ""
                self._go_on()

    def look_at(self, name: str) -> None:
        """Another law, by its name or its page's; it is drawn for at once, if it was not yet."""
        if not self.claims:  # they are on their way
            self.host.proof = name
            return
        self._stop()
        self.chosen = next((claim.name for claim in self.claims if name in (claim.name, claim.page)), "")
        self.chosen = self.chosen or self.claims[0].name
        self._failure, self._endless, self._queue = "", False, []
        self._goal = FIRST
        self._go_on()
        self.reshow()

    def _go_on(self) -> None:
        """Draw for the law that is looked at until its goal, then for those that wait."""
        if self._job >= 0 or self.evidence is None or self._failure:
            return
        if self._needs(self.evidence, self._goal):
            self._submit(self.evidence, self._goal)
        elif self._endless:
            self._goal += MORE
            self._submit(self.evidence, self._goal)
        elif self._queue:
            name = self._queue.pop(0)
            claim = next(claim for claim in self.claims if claim.name == name)
            evidence = self.found.get(name, Evidence(claim))
            if self._needs(evidence, FIRST):
                self._submit(evidence, FIRST)
            else:
                self._go_on()

    @staticmethod
    def _needs(evidence: Evidence, goal: int) -> bool:
        return not evidence.bounds if isinstance(evidence.claim, Bracketed) else evidence.draws < goal

    def _submit(self, evidence: Evidence, goal: int) -> None:
        self._drawing = evidence.claim.name
        self._job = self._worker.submit(DrawOn(evidence, goal - evidence.draws, self.seed))

    def _stop(self) -> None:
        """End the job; what it has told stays."""
        if self._job >= 0 and self._drawing:
            self._worker.stop(self._job)
            self._job, self._drawing = -1, ""

    def _hold(self) -> None:
        self._stop()
        self._endless, self._queue = False, []
        if self.evidence is not None:
            self._goal = self.evidence.draws
        self.reshow()

    # -- beside a lesson ---------------------------------------------------------------------------------------------

    def set_state(self, state: Mapping[str, str]) -> None:
        """A law, or a page of them."""
        self.look_at(state.get("law", ""))

    def numbers(self) -> "Mapping[str, Value]":
        """Of the law that is looked at, once it has a p; nothing while that may still be another."""
        evidence = self.evidence
        if evidence is None or self._drawing or evidence.result.chi2 is None or evidence.result.p is None:
            return {}
        result = evidence.result
        assert result.chi2 is not None and result.df is not None and result.p is not None
        return {
            "law": result.law, "draws": float(result.draws), "chi2": result.chi2, "df": float(result.df), "p": result.p,
        }  # fmt: skip

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_law(self, step: int) -> None:
        if self.claims:
            names = [claim.name for claim in self.claims]
            self.look_at(names[(names.index(self.chosen) + step) % len(names)])

    def action_page(self, step: int) -> None:
        if self.claim is not None:
            pages = [*PAGES]
            page = pages[(pages.index(self.claim.page) + step) % len(pages)]
            self.look_at(next(claim.name for claim in self.claims if claim.page == page))

    def action_draw_on(self) -> None:
        """Draw without an end; again: hold."""
        if self.claim is None:
            return
        if self._drawing:
            self._hold()
        elif isinstance(self.claim, Bracketed):
            self.hints.say("nothing is drawn here: a bound decides")
            return
        else:
            self._failure, self._endless = "", True
            self._go_on()
        self.hints.say("")
        self.reshow()

    def action_more(self) -> None:
        evidence = self.evidence
        if evidence is None or isinstance(evidence.claim, Bracketed):
            return
        self._failure = ""
        self._goal = max(self._goal, evidence.draws) + MORE
        self._go_on()
        self.reshow()

    def action_anew(self) -> None:
        """Forget all draws of this law, and begin with other seeds."""
        if self.claim is not None:
            self._failure = ""
            self.seed += 1
            self._stop()
            self.found.pop(self.chosen, None)
            self.look_at(self.chosen)

    def action_root(self) -> None:
        self.rooted = not self.rooted
        self.reshow()

    def action_all(self) -> None:
        if self.claim is not None:
            self._queue = [claim.name for claim in self._page if claim.name != self.chosen]
            self._endless = False
            self._go_on()
            self.reshow()

    def action_numbers(self) -> None:
        self.toggle_class("-listed")
        self.call_after_refresh(self.reshow)

    def action_back(self) -> None:
        if self.has_class("-listed") and self.room.width < WIDE:
            self.action_numbers()
        else:
            self.back()

    # -- showing -----------------------------------------------------------------------------------------------------

    @property
    def _page(self) -> list[Claim]:
        """The laws of the page that is open."""
        claim = self.claim
        return [each for each in self.claims if claim is not None and each.page == claim.page]

    def reshow(self) -> None:
        """Everything as it is now."""
        if not self.is_mounted:
            return
        evidence, tabs = self.evidence, self.query_one("#proof-tabs", Caption)
        state = "drawing" if self._drawing else "at rest"
        self.top.show("six letters", (state, f"seed {self.seed}", "no model"))
        self._hint()
        if evidence is None:
            tabs.show(((f" {self._failure or 'the texts are being listed…'}", "alarm" if self._failure else "faint"),))
            return
        claim, wide = evidence.claim, self.room.width >= WIDE
        pages, laws = proof.page_tabs(claim.page), proof.law_tabs(self._page, claim, self.room.width)
        said = ((f" {proof.sentence(claim)}", "faint"),)
        tabs.show(*([pages, said, (), laws, ()] if wide else [pages, laws, ()]))
        curve = isinstance(claim, Centred) or claim.page == "mode"
        picture, chart = self.query_one("#proof-picture", ProofPicture), self.query_one("#proof-chart", Chart)
        track = self.query_one("#proof-track", Chart)
        picture.display, chart.display = not curve, curve
        track.display = not isinstance(claim, Bracketed)
        if curve:
            chart.show(proof.chart_picture(evidence))
        else:
            picture.show(evidence, self.rooted)
        track.show(proof.track_picture(evidence))
        self.query_one("#proof-verdict", Caption).show(*proof.verdict_rows(evidence))
        numbers = self.query_one("#proof-numbers", Caption)
        width, height = numbers.content_size
        numbers.show(*proof.number_rows(evidence, self.found, self._page, width, height))

    def _hint(self) -> None:
        small = () if self.room.width >= WIDE else (("t", "Numbers"),)
        self.hints.show((
            ("tab", "Law"), ("space", "Hold" if self._drawing else "Draw on"), ("+", "1,000 more"), ("r", "From 0"),
            *small,
            ("←→", "Page"), ("v", "√p or p"), ("a", "All"), ("=", "Formula"), (keys.help_key(), "Keys"),
        ))  # fmt: skip

    def formula(self) -> Formula | None:
        evidence = self.evidence
        if evidence is None or not evidence.draws:
            return None
        return Formula("metric", ((f"{evidence.claim.exact}: ", False), (fit_words(evidence), True)), FORMULA)

    def commands(self) -> Iterator[Command]:
        yield "proof: Draw on", "or hold", self.action_draw_on
        yield "proof: From 0", "with another seed", self.action_anew
        yield "proof: All", "draw for every law of the page", self.action_all
        for claim in self.claims:
            yield f"proof: {claim.title}", claim.page, partial(self.look_at, claim.name)
