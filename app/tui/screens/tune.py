"""A training as it goes: its curves, what the model says by now, and what has moved since the base."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen

from app.plan import duration
from app.tui import moved
from app.tui import tuning as t
from app.tui.answers import Answers
from app.tui.candidates import Names
from app.tui.commands import Entry
from app.tui.course import Course
from app.tui.tuning import Tuning
from app.tui.widgets.bars import Hints, TopBar
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.chart import Chart
from app.tui.widgets.gauge import Gauge
from app.tui.widgets.heat_view import HeatView
from app.tui.widgets.overlays import Ask, Read
from app.tui.widgets.prompt import Prompt
from app.tui.widgets.swing import Swing
from app.tui.widgets.tune_form import TuneForm
from app.tui.widgets.watched import Watched
from engine.tune.config import Config
from engine.tune.control import Compare, Compared, Draw, Drawn, Ended, Refused, Request, Stepped, Validated

if TYPE_CHECKING:
    from app.tui.app import LikelyApp

TICK_S = 0.15
TOP = 10  # tokens named at each place
VIEWS = ("loss", "moved", "answers")
SLIM = 76  # columns: below them what moved stands in one column
TALL = 30  # rows: below them the small curves have one row less
NOT_YET = "measured at every validation, and with w"


class TuneScreen(Screen[None]):
    """A form, or the run that it has started. Stays as it is while another screen is looked at."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause", show=False, id="tune.pause"),
        Binding("s", "stop", "Stop and keep", show=False, id="tune.stop"),
        Binding("c", "go_on", "Go on", show=False, id="tune.go_on"),
        Binding("t", "try", "Try", show=False, id="tune.try"),
        Binding("r", "repeat(False)", "Ask again", show=False, id="tune.again"),
        Binding("b", "repeat(True)", "Ask the base", show=False, id="tune.base"),
        Binding("w", "look", "What moved", show=False, id="tune.look"),
        Binding("left_square_bracket", "turn(-1)", "Prompt", show=False, id="tune.previous"),
        Binding("right_square_bracket", "turn(1)", "Prompt", show=False, id="tune.next"),
        Binding("p", "watch", "Watch a prompt", show=False, id="tune.watch"),
        Binding("h", "hold", "Held-out text", show=False, id="tune.hold"),
        Binding("z", "close_up", "Closer", show=False, id="tune.closer"),
        Binding("l", "view('loss')", "Loss", show=False, id="tune.loss"),
        Binding("a", "view('answers')", "Answers", show=False, id="tune.answers"),
        Binding("i", "plan", "Plan", show=False, id="tune.plan"),
        Binding("y", "copy_command", "Copy command", show=False, id="tune.copy"),
        Binding("n", "new", "New run", show=False, id="tune.new"),
        Binding("enter", "chat", "Chat with it", show=False, id="tune.chat"),
        Binding("q", "interrupt", "Stop, keep, leave", show=False, id="tune.leave"),
        Binding("escape", "back", "Back", show=False, id="tune.back"),
        Binding("f1", "keys", "Keys", show=False, id="tune.keys"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.tuning: Tuning | None = None
        self.names = Names()
        self._clear()

    def _clear(self) -> None:
        self.course = Course()
        self.answers = Answers()
        self.prompts: list[Compare] = []
        self.prompt_at = 0
        self.text = Compare(top=TOP)
        self.found: dict[Compare, Compared] = {}
        self.pending: set[Request] = set()
        self.chat_prompts = True
        self.always = False  # ask again at every validation
        self.closer = False
        self.stage = ""

    @property
    def likely(self) -> "LikelyApp":
        return cast("LikelyApp", self.app)

    def compose(self) -> ComposeResult:
        yield TopBar("tune", id="top")
        yield TuneForm(id="form")
        with Vertical(id="run"):
            yield Gauge(id="gauge")
            with Horizontal(id="body"):
                with Vertical(id="curves"):
                    yield Chart(id="loss")
                    with Horizontal(id="small"):
                        yield Chart(id="rate")
                        yield Chart(id="norm")
                    yield HeatView(id="answers")
                with Vertical(id="moved"):
                    with Vertical(id="place"):
                        yield Watched(id="watched")
                        yield Candidates(id="outlook")
                    with Vertical(id="along"):
                        yield Swing(id="swing")
                        yield HeatView(id="text")
            yield Prompt(placeholder="Ask the model as it is now  (enter)", id="prompt")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.hints = self.query_one(Hints)
        self.prompt = self.query_one(Prompt)
        self.query_one(Candidates).can_focus = False
        self.action_view("loss")
        self.set_interval(TICK_S, self.tick)
        order = self.likely.tune_order
        if order is not None:
            self.start(*order)
        else:
            self._show_form()

    def on_screen_resume(self) -> None:
        self.likely.restyle()  # another theme may have been chosen elsewhere
        self.reshow()

    def on_resize(self) -> None:
        self.set_class(self.size.width < SLIM, "-slim")
        self.set_class(self.size.height < TALL, "-short")

    # -- a run -------------------------------------------------------------------------------------------------------

    def _show_form(self) -> None:
        self.set_class(True, "-form")
        form = self.query_one(TuneForm)
        current = self.likely.current
        if current is not None and not form.field("model").value:
            form.field("model").value = current.name
        form.field("data").focus()
        self.reshow()

    def on_tune_form_started(self, event: TuneForm.Started) -> None:
        self.start(event.config, event.resume)

    def start(self, config: Config, resume: bool) -> None:
        """Open a run and train."""
        if self.tuning is not None:
            self.tuning.close()
        self._clear()
        self.tuning = self.likely.tuning = Tuning(self.likely.trainer, config, resume=resume)
        self.set_class(False, "-form")
        self.set_focus(None)
        self.stage = "opening"
        self.reshow()

    def tick(self) -> None:
        """Take in what was reported, and show it at once."""
        if self.tuning is None:
            return
        reports = self.tuning.drain()
        for report in reports:
            self._take(report)
        if reports and self.is_current:
            self.reshow()

    def _take(self, report: t.Report) -> None:
        match report:
            case t.Opening(stage, done, total):
                self.stage = f"{stage} {done / total:.0%}" if total else stage
            case t.Plan():
                self._planned(report)
            case Stepped():
                self.course.take(report)
            case Validated():
                self.course.take(report)
                self.look()
                if self.always and self.answers.asked is not None:
                    self._ask(self.answers.asked)
            case Drawn(_, request):
                self.pending.discard(request)
                self.answers.take(report)
                self.query_one("#answers", HeatView).show(self.answers.blocks(), follow=True)
            case Compared(_, request):
                self.pending.discard(request)
                self.found[request] = report
            case Refused(_, request, why):
                self.pending.discard(request)
                self.hints.say(why, alarm=True)
            case Ended():
                self.look()
            case t.Failed(line) if self.tuning is not None and self.tuning.plan is None:
                self._give_up(line)

    def _planned(self, plan: t.Plan) -> None:
        for event in plan.past:
            self.course.take(event)
        self.names = Names(plan.vocabulary)
        self.chat_prompts = plan.chat
        self.prompts = [Compare(text, plan.chat, TOP) for text in plan.prompts]
        self.look()

    # -- asking ------------------------------------------------------------------------------------------------------

    def _ask(self, request: Request) -> None:
        if self.tuning is not None and request not in self.pending:
            self.pending.add(request)
            self.tuning.ask(request)

    def look(self) -> None:
        """Measure what has moved, after the step that is being taken."""
        if self.prompts:
            self._ask(self.prompts[self.prompt_at])
        self._ask(self.text)
        self.reshow()

    def on_prompt_sent(self, event: Prompt.Sent) -> None:
        if not event.text.strip():
            return
        self.prompt.prompts.append(event.text)
        self.prompt.take("")
        self.try_out(event.text)

    def try_out(self, text: str) -> None:
        """Have the model answer as it is now."""
        if self.tuning is None or self.tuning.plan is None:
            self.hints.say("there is no model to ask yet")
            return
        self.answers.asked = Draw(text, chat=self.chat_prompts)
        self._ask(self.answers.asked)
        self.action_view("answers")

    def action_repeat(self, base: bool) -> None:
        """Ask the last question again, or ask it of the base."""
        if self.answers.asked is None:
            self.action_try()
            return
        self._ask(replace(self.answers.asked, base=base))
        self.action_view("answers")

    def action_try(self) -> None:
        self.prompt.focus()

    def action_look(self) -> None:
        self.look()
        self.action_view("moved")

    def action_turn(self, by: int) -> None:
        """Another of the watched prompts."""
        if self.prompts:
            self.prompt_at = (self.prompt_at + by) % len(self.prompts)
            if self.prompts[self.prompt_at] not in self.found:
                self._ask(self.prompts[self.prompt_at])
            self.query_one("#text", HeatView).move_to(None)
            self.action_view("moved")

    def action_watch(self) -> None:
        last = self.answers.asked.text if self.answers.asked is not None else ""

        def named(text: str | None) -> None:
            if text and text.strip():
                self.prompts.append(Compare(text, self.chat_prompts, TOP))
                self.prompt_at = len(self.prompts) - 1
                self.action_look()

        if self.tuning is not None:
            self.app.push_screen(Ask("watch the next token after a prompt", last), named)

    def action_hold(self) -> None:
        def named(text: str | None) -> None:
            if text is not None:
                self.text = Compare(text, False, TOP)
                self.action_look()

        if self.tuning is not None:
            title = "what moved along which text? (empty: the first row that is set aside)"
            self.app.push_screen(Ask(title, self.text.text), named)

    def toggle_chat(self) -> None:
        """Prompts through the chat template, or as plain beginnings of a text."""
        self.chat_prompts = not self.chat_prompts
        self.prompts = [replace(prompt, chat=self.chat_prompts) for prompt in self.prompts]
        self.look()
        self.hints.say("prompts go through the chat template" if self.chat_prompts else "prompts are plain text")

    def toggle_always(self) -> None:
        self.always = not self.always
        self.hints.say("asks again at every validation" if self.always else "asks only when told to")

    # -- the run's keys ----------------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        if self.tuning is not None and self.tuning.busy:
            self.tuning.pause()
            self.reshow()

    def action_stop(self) -> None:
        """Finish the step, save, and tell how to go on."""
        if self.tuning is None:
            return
        opening = self.tuning.state == "opening"
        self.tuning.stop()
        if opening:
            self._give_up()
        self.reshow()

    def _give_up(self, line: str = "") -> None:
        """Back to the form, as it was filled in."""
        assert self.tuning is not None
        form = self.query_one(TuneForm)
        form.fill(self.tuning.config)
        form.say(line.replace("--resume goes on with it", "^r goes on with it"))
        self.tuning = self.likely.tuning = None
        self._show_form()

    def action_go_on(self) -> None:
        if self.tuning is not None and self.tuning.go_on():
            self.reshow()

    def action_interrupt(self) -> None:
        """Stop and keep; and leave, where this is all that the program was started for."""
        if self.likely.tune_order is not None:
            self.likely.run_worker(self.likely.action_quit())
        elif self.tuning is not None and (self.tuning.busy or self.tuning.state == "opening"):
            self.action_stop()
        else:
            self.likely.action_go("chat")

    def action_back(self) -> None:
        """Out of the field that is being written in; else to the chat, while the run goes on."""
        if self.focused is not None and not self.has_class("-form"):
            self.set_focus(None)
        elif self.likely.tune_order is None:
            self.likely.action_go("chat")

    def action_new(self) -> None:
        """The form, for another run."""
        if self.tuning is None or not (self.tuning.busy or self.tuning.state == "opening"):
            self._show_form()
        else:
            self.hints.say("a run is under way: s stops and keeps it")

    @property
    def chats(self) -> bool:
        """Whether what was learned can be put on the chat's model: the run is over, and it made an adapter."""
        return self.tuning is not None and self.tuning.ended is not None and self.tuning.config.kind != "full"

    def action_chat(self) -> None:
        if self.chats and self.tuning is not None and self.tuning.plan is not None:
            self.likely.chat_with(self.tuning.config.model, self.tuning.plan.folder)

    def action_plan(self) -> None:
        if self.tuning is not None and self.tuning.plan is not None:
            lines = [*self.tuning.plan.lines, "", t.command(self.tuning.config, resume=self.tuning.resume)]
            self.app.push_screen(Read("what this run does", "\n".join(lines)))

    def action_copy_command(self) -> None:
        if self.tuning is not None:
            self.likely.copy(t.command(self.tuning.config, resume=True), "command to go on")

    def action_keys(self) -> None:
        from app.tui.help import keys_text

        self.app.push_screen(Read("keys", keys_text(self)))

    def action_close_up(self) -> None:
        self.closer = not self.closer
        self.reshow()

    def action_view(self, name: str) -> None:
        """Which part fills a screen that is too narrow for all of them."""
        for each in VIEWS:
            self.set_class(each == name, f"-{each}")
        self.reshow()

    # -- showing -----------------------------------------------------------------------------------------------------

    def reshow(self) -> None:
        """Everything as it is now; what did not change draws nothing."""
        if not self.is_mounted:
            return
        glyphs, tuning = self.likely.glyphs, self.tuning
        self.query_one("#loss", Chart).show(self.course.loss(glyphs, close=self.closer))
        self.query_one("#rate", Chart).show(self.course.rate(close=self.closer))
        self.query_one("#norm", Chart).show(self.course.norm(close=self.closer))
        self.set_class(bool(self.answers.drawn), "-answered")
        answers = self.query_one("#answers", HeatView)
        answers.styles.max_height = answers.layout_.height + 1  # no more of the curves' rows than it fills
        self._gauge()
        self._panel()
        self._hint()
        plan = tuning.plan if tuning is not None else None
        name = f"{Path(plan.model).name} → {Path(plan.folder).name}" if plan is not None else "fine-tuning"
        self.query_one(TopBar).show(name, (tuning.state,) if tuning is not None else ())

    def _gauge(self) -> None:
        gauge, tuning, course, last = self.query_one(Gauge), self.tuning, self.course, self.course.last
        if tuning is None:
            return
        if tuning.state == "opening" or tuning.plan is None:
            gauge.show(f"{self.stage}…", None, "", ())
            return
        glyphs, plan = self.likely.glyphs, tuning.plan
        steps = last.steps if last is not None else plan.steps
        at = f"step {course.step:,}/{steps:,}"
        share, facts = course.step / max(steps, 1), course.facts()
        left = f"{duration(course.left_s)} left" if course.left_s is not None else ""
        match tuning.state:
            case "training" if tuning.control.paused:
                words = f"{glyphs.held} pausing after this step · {at}"
            case "training":
                words = f"{glyphs.live} {at}"
            case "paused":
                words = f"{glyphs.held} paused · {at}"
            case "stopping":
                words = f"{glyphs.live} finishing this step, then saving · {at}"
            case "failed":
                assert tuning.failure is not None
                gauge.show(f"▲ {tuning.failure.line}", None, "", self._kept(), alarm=True)
                return
            case _:
                gauge.show(*self._over(share))
                return
        gauge.show(words, share, left, facts)

    def _over(self, share: float) -> tuple[str, float | None, str, list[str], bool]:
        assert self.tuning is not None and self.tuning.ended is not None and self.tuning.plan is not None
        end, course = self.tuning.ended, self.course
        took = duration(course.last.elapsed_s) if course.last is not None else ""
        best = f", best {course.best.loss:.3f} at {course.best.step:,}" if course.best is not None else ""
        if end.reason in ("nan", "diverged"):
            before = f"the weights before it, of step {end.step:,}, are kept in {self.tuning.plan.folder}"
            return f"▲ {end.why or end.reason}", None, "", [before], True
        words = {"done": "done", "patience": "stopped: validation no longer gets better", "stopped": "stopped"}
        line = f"∎ {words.get(end.reason, end.reason)} after step {end.step:,}{best}"
        return line, share if end.reason == "stopped" else None, took, self._kept(), False

    def _kept(self) -> list[str]:
        """Where the run is, and how to go on."""
        tuning = self.tuning
        assert tuning is not None and tuning.plan is not None
        folder = tuning.plan.folder
        if tuning.state == "failed":
            here = f"{folder} is at step {tuning.saved:,}" if tuning.saved else "nothing is saved yet"
            return ["nothing is lost", f"c goes on from step {self.course.step:,}", "s saves", here]
        if tuning.unfinished:
            return [f"kept in {folder}", t.command(tuning.config, resume=True)]
        return [f"kept in {folder}", f"likely diff {tuning.config.model} {folder} TEXT"]

    def _panel(self) -> None:
        """What moved: at the token under the cursor in a text or an answer, else after the watched prompt."""
        outlook, text_view = self.query_one(Candidates), self.query_one("#text", HeatView)
        answers_view = self.query_one("#answers", HeatView)
        of_text = self.found.get(self.text)
        prompt = self.prompts[self.prompt_at] if self.prompts else None
        of_prompt = self.found.get(prompt) if prompt is not None else None
        self.query_one(Swing).show(of_text.difference if of_text is not None else None, self.names)
        if of_text is not None and text_view.shown is not of_text:
            text_view.shown = of_text
            who = "text" if self.text.text else "held out"
            text_view.show([moved.block(of_text, self.names, who)], follow=False)
        watched = self.query_one(Watched)
        if answers_view.cursor is not None and answers_view.has_focus:
            watched.show("answer", "as the model drew it", None, False)
            outlook.show(self.answers.view(answers_view.cursor, self.names))
        elif text_view.cursor is not None and of_text is not None:
            at = text_view.cursor.token
            before = "".join(token.text for token in text_view.blocks[0].tokens[:at])
            watched.show("along the text", before, of_text.step, self.text in self.pending)
            outlook.show(moved.view(of_text.difference, at, self.names, live=False))
        elif of_prompt is not None and prompt is not None:
            number = f"prompt {self.prompt_at + 1}/{len(self.prompts)}"
            watched.show(number, prompt.text, of_prompt.step, prompt in self.pending)
            places = of_prompt.difference.positions
            outlook.show(moved.view(of_prompt.difference, len(places), self.names))
        elif of_text is not None:
            watched.show("after the text", "", of_text.step, self.text in self.pending)
            outlook.show(moved.view(of_text.difference, len(of_text.difference.positions), self.names))
        else:
            watched.show("", "" if self.pending else NOT_YET, None, bool(self.pending))
            outlook.show(moved.NOTHING)

    def on_token_view_cursor_moved(self) -> None:
        self.reshow()

    def on_descendant_focus(self) -> None:
        self.call_later(self.reshow)

    def on_descendant_blur(self) -> None:
        self.call_later(self.reshow)

    def on_token_view_chosen(self) -> None:
        """There is nothing to branch in a training."""

    def on_key(self) -> None:
        self.hints.say("")

    def _hint(self) -> None:
        tuning = self.tuning
        if self.has_class("-form"):
            self.hints.show((("⏎", "Start"), ("↑↓", "Field"), ("^r", "Resume"), ("esc", "Back"), ("f1", "Keys")))
            return
        if self.focused is self.prompt:
            self.hints.show((("⏎", "Ask"), ("esc", "Back to the run"), ("f1", "Keys")))
            return
        state = tuning.state if tuning is not None else ""
        own: tuple[tuple[str, str], ...] = (("w", "What moved"), ("t", "Try"), ("l", "Loss"))
        if state in ("training", "paused"):
            pausing = tuning is not None and tuning.control.paused
            own = (("space", "Go on" if pausing else "Pause"), ("s", "Stop and keep"), *own)
        elif state in ("ended", "failed"):
            more: tuple[tuple[str, str], ...] = (("c", "Go on"),) if tuning and tuning.unfinished else ()
            more += (("s", "Save"),) if state == "failed" else ()
            more += (("⏎", "Chat with it"),) if self.chats else ()
            own = (*more, *own, ("n", "New run"))
        self.hints.show((*own, ("[ ]", "Prompt"), ("z", "Closer"), ("f1", "Keys")))

    def palette(self) -> Iterator[Entry]:
        """What the palette offers here, as things are."""
        tuning = self.tuning
        if tuning is not None and tuning.busy:
            paused = tuning.control.paused
            yield f"tune: {'Go on' if paused else 'Pause'}", "after the step that is being taken", self.action_pause
            yield "tune: Stop and keep", "finishes the step and saves", self.action_stop
        elif tuning is None or tuning.state != "opening":
            yield "tune: New run…", "data, model, adapter", self.action_new
        if tuning is not None and tuning.plan is not None:
            if tuning.unfinished:
                yield "tune: Go on", "from where the run is", self.action_go_on
            if self.chats:
                yield "tune: Chat with it", "the adapter on the chat's model", self.action_chat
            yield "tune: Try a prompt", "the model answers as it is now", self.action_try
            if self.answers.asked is not None:
                yield "tune: Ask again", "the same question", lambda: self.action_repeat(False)
                yield "tune: Ask the base", "the same question, before training", lambda: self.action_repeat(True)
            yield "tune: Ask at every validation", "on or off", self.toggle_always
            yield "tune: What moved", "measured now", self.action_look
            yield "tune: Watch a prompt…", "the next token before and now", self.action_watch
            yield "tune: Held-out text…", "along which KL is measured", self.action_hold
            as_is = "as plain text" if self.chat_prompts else "through the chat template"
            yield f"tune: Prompts {as_is}", "how questions are put", self.toggle_chat
            yield "tune: Show the plan", "rows, tokens, steps, memory", self.action_plan
            yield "tune: Closer or all", "the last quarter of the curves", self.action_close_up

    def on_top_bar_screen_asked(self, event: TopBar.ScreenAsked) -> None:
        self.likely.action_go(event.name)
