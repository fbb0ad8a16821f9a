"""A training as it goes: its curves, what the model says by now, and what has moved since the base it began as."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from likely.app.jobs.jobs import TrainingJobs
from likely.app.jobs.requests import Progressed
from likely.app.jobs.worker import Failed, Worker
from likely.app.lessons.expression import Value
from likely.app.results.training_kind import KINDS, TrainingConfig, TrainingKind, chat_with
from likely.app.tui.base import keys
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.training import drift, hints
from likely.app.tui.training.history import TrainingHistory
from likely.app.tui.training.probes import Probes
from likely.app.tui.training.reward_history import RewardHistory
from likely.app.tui.training.run import Training
from likely.app.tui.training.status import standing, told
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.figures.chart import Chart
from likely.app.tui.widgets.figures.drift import MovedPanel
from likely.app.tui.widgets.figures.learned import LearnedPanel
from likely.app.tui.widgets.figures.rewarded import RewardedPanel
from likely.app.tui.widgets.gauge import Gauge
from likely.app.tui.widgets.input.prompt import PromptInput
from likely.app.tui.widgets.lesson.lesson_pane import LessonPane
from likely.app.tui.widgets.lists.overlays import Ask, Read
from likely.app.tui.widgets.lists.row_table import RowTable
from likely.app.tui.widgets.transcript.heat_view import HeatView
from likely.app.tui.widgets.tune_form import TuneForm
from likely.app.words.reward_text import warning
from likely.engine.base.errors import LikelyError
from likely.engine.text.rows.training_row import read_map
from likely.engine.train.control import Completion, Refused, Stepped, TrainingPlan, Validated
from likely.engine.train.rewards.figures import ExpertIteration, HeldOut, Rewarded
from likely.engine.train.rewards.reward_history import RewardWarning
from likely.engine.weights.adapters.config import Config

TICK_S = 0.15
VIEWS = ("loss", "moved", "answers")
SLIM = 76  # columns: below them what moved stands in one column
TALL = 30  # rows: below them the small curves have one row less
NO_BASE = "it begins at random weights: there is no base to compare with or to ask"
OF_REWARDS = "rewards are watched by answers: w shows a held-out problem's, before and now"

OF_A_RUN = (
    "pause", "stop", "go_on", "try", "repeat", "look", "turn", "watch", "hold", "close_up", "view", "plan",
    "copy_command", "new", "chat", "interrupt",
)  # fmt: skip


class TuneScreen(View):
    """A form, or the run that it has started. Stays as it is while another screen is looked at."""

    NAME = "tune"
    PARTS = (TuneForm, RowTable)
    STAYS = True
    NEEDS_MODEL = False
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause", id="tune.pause"),
        Binding("s", "stop", "Stop and keep", id="tune.stop"),
        Binding("c", "go_on", "Go on", id="tune.go_on"),
        Binding("t", "try", "Try", id="tune.try"),
        Binding("r", "repeat(False)", "Ask again", id="tune.again"),
        Binding("b", "repeat(True)", "Ask the base", id="tune.base"),
        Binding("w", "look", "What moved", id="tune.look"),
        Binding("left_square_bracket", "turn(-1)", "Prompt", id="tune.previous"),
        Binding("right_square_bracket", "turn(1)", "Prompt", id="tune.next"),
        Binding("p", "watch", "Watch a prompt", id="tune.watch"),
        Binding("h", "hold", "Held-out text", id="tune.hold"),
        Binding("z", "close_up", "Closer", id="tune.closer"),
        Binding("l", "view('loss')", "Loss", id="tune.loss"),
        Binding("a", "view('answers')", "Answers", id="tune.answers"),
        Binding("i", "plan", "Plan", id="tune.plan"),
        Binding("ctrl+l", "rows", "Rows of the data", id="tune.rows"),
        Binding("y", "copy_command", "Copy command", id="tune.copy"),
        Binding("n", "new", "New run", id="tune.new"),
        Binding("enter", "chat", "Chat with it", id="tune.chat"),
        Binding("q", "interrupt", "Stop, keep, leave", id="tune.leave"),
        Binding("escape", "back", "Back", id="tune.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.training: Training | None = None
        self.worker: Worker | None = None  # of the run or of the one before, which may still be ending
        self.course = TrainingHistory()
        self.watching = Probes()
        self.stage = ""  # of a run that is being opened
        self.closer = False
        self.doing, self.began_s = "", 0.0  # what it does that is no step, or the first; and since when

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        yield TuneForm(id="form")
        with Vertical(id="run"):
            yield Gauge(id="gauge")
            with Horizontal(id="body"):
                with Vertical(id="curves"):
                    yield Chart(id="loss")
                    yield Chart(id="groups")
                    with Horizontal(id="small"):
                        for name in ("rate", "norm", "lengths"):
                            yield Chart(id=name)
                    yield HeatView(id="answers")
                yield MovedPanel()
                yield LearnedPanel()
                yield RewardedPanel()
            yield PromptInput(placeholder="Ask the model as it is now  (enter)", id="prompt")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.prompt = self.query_one(PromptInput)
        self.gauge = self.query_one(Gauge)
        self.panel, self.learned = self.query_one(MovedPanel), self.query_one(LearnedPanel)
        self.rewarded = self.query_one(RewardedPanel)
        self.answers = self.query_one("#answers", HeatView)
        self.action_view("loss")
        self.set_interval(TICK_S, self.tick)
        config, resume = self.host.tune_start or (None, False)
        if config is not None and config.data:
            self.start(config, resume)
        else:
            self._show_form(config)

    def on_screen_resume(self) -> None:
        self.host.restyle()  # another theme may have been chosen elsewhere
        self.reshow()

    def on_resize(self) -> None:
        self.set_class(self.room.width < SLIM, "-slim")
        self.set_class(self.room.height < TALL, "-short")

    # -- a run -------------------------------------------------------------------------------------------------------

    def _show_form(self, config: TrainingConfig | None = None) -> None:
        self.set_class(True, "-form")
        form = self.query_one(TuneForm)
        if config is not None:
            form.fill(config)
        current = self.host.engine.current
        if current is not None and not form.field("model").value:
            form.field("model").value = current.name
        form.field("data").focus()
        self.reshow()

    def on_tune_form_started(self, event: TuneForm.Started) -> None:
        self.start(event.config, event.resume)

    def on_tune_form_kind_chosen(self) -> None:
        self.reshow()

    def start(self, config: TrainingConfig, resume: bool) -> None:
        """Open a run and train, as soon as the one before has let its files and its model go."""
        if self.training is not None:
            self.training.close()
        before = self.worker, self.query_one(TuneForm).cost.stop()

        def jobs() -> TrainingJobs:
            for one in filter(None, before):
                one.join()
            return TrainingJobs(self.host.trainer())

        self.worker = self.host.worker(jobs, "trainer")
        self.training = self.host.training = training = Training(self.worker, config, resume=resume)
        drawn = training.kind.drawn
        self.course = TrainingHistory(config.goal.unit, config.goal.bound, RewardHistory() if drawn else None)
        self.watching = Probes(training.ask, training.kind.base and not drawn)
        self.set_class(not training.kind.base, "-baseless")
        self.set_class(drawn, "-drawn")
        self.answers.show([])
        self.set_class(False, "-form")
        self.prompt.focus()
        self.stage, self.closer = "opening", False
        self.reshow()

    def tick(self) -> None:
        """Take in what was reported, and show it at once."""
        if self.training is None:
            return
        for event in (events := self.training.drain()):
            self._take(event)
        it = self.training
        if it is not None and it.control.stage != self.doing:
            self.doing, self.began_s = it.control.stage, self.host.clock()
        waits = it is not None and it.busy and (self.course.last is None or bool(it.control.stage))
        if (events or waits) and self.is_current:
            self.reshow()

    def _take(self, event: Any) -> None:
        self.watching.take(event)
        match event:
            case Progressed(_, stage, done, total):
                self.stage = f"{stage} {done / total:.0%}" if total else stage
            case TrainingPlan(past=past):
                self.began_s = self.host.clock()
                if event.row and self.course.rewards is None:
                    self.answers.show([drift.row(event)], follow=False)
                for known in past:
                    self._take(known)
            case Stepped() | Validated() | Rewarded() | HeldOut() | ExpertIteration():
                self.course.take(event)
            case RewardWarning():
                self.course.take(event)
                self.hints.say(warning(event), alarm=True)
            case Completion():
                self.answers.show(self.watching.answers.blocks(), follow=True)
            case Refused(_, _, why):
                self.hints.say(why, alarm=True)
            case Failed(line) if self.training is not None and self.training.plan is None:
                self._give_up(self.training.config, line)

    # -- asking ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is a model to be asked."""
        return self.training is not None and self.training.plan is not None

    def on_prompt_input_sent(self, event: PromptInput.Sent) -> None:
        if event.text.strip():
            self.prompt.prompts.append(event.text)
            self.prompt.take("" if self.ready else event.text)
            self.try_out(event.text)

    def try_out(self, text: str) -> None:
        """Have the model answer as it is now."""
        if not self.ready:
            self.hints.say("there is no model to ask yet")
            return
        self.watching.question(text)
        self.action_view("answers")

    def action_try(self) -> None:
        self.prompt.focus()

    def action_repeat(self, base: bool) -> None:
        """Ask the last question again, or ask it of the base."""
        if base and self.training is not None and not self.training.kind.base:
            self.hints.say(NO_BASE)
            return
        if self.watching.repeat(base):
            self.action_view("answers")
        else:
            self.action_try()

    def action_look(self) -> None:
        """Measure what has moved by now."""
        if self.ready:
            self.watching.compare()
            self.action_view("moved")

    def _compares(self) -> bool:
        """Whether what moved since the base is measured; where not, say so."""
        if not self.watching.base:
            self.hints.say(NO_BASE if self.course.rewards is None else OF_REWARDS)
        return self.watching.base

    def action_turn(self, by: int) -> None:
        """Another of the watched prompts, or of the held-out problems."""
        if self.course.rewards is not None:
            self.course.rewards.turn(by)
            self.action_view("moved")
            return
        if not self._compares():
            return
        self.watching.turn(by)
        self.panel.text.move_to(None)
        self.action_view("moved")

    def action_watch(self) -> None:
        question = self.watching.answers.question
        self._type("watch the next token after a prompt", question.text if question is not None else "", self._watch)

    def _watch(self, text: str) -> None:
        if text.strip():
            self.watching.watch(text)

    def action_hold(self) -> None:
        title = "what moved along which text? (empty: the first row that is set aside)"
        self._type(title, self.watching.text.text, self.watching.hold)

    def _type(self, title: str, value: str, do: Callable[[str], None]) -> None:
        """Have a person type a text, and look at what moved there."""

        def typed(text: str | None) -> None:
            if text is not None:
                do(text)
                self.action_view("moved")

        if self.ready and self._compares():
            self.app.push_screen(Ask(title, value), typed)

    def reframe(self) -> None:
        """Prompts through the chat template, or as plain beginnings of a text."""
        self.watching.reframe()
        self.hints.say(f"prompts go {'through the chat template' if self.watching.chat else 'in as plain text'}")

    def toggle_always(self) -> None:
        self.watching.always = not self.watching.always
        self.hints.say("asks again at every validation" if self.watching.always else "asks only when told to")

    # -- the run's keys ----------------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        if self.training is not None and self.training.busy:
            self.training.pause()
            self.reshow()

    def action_stop(self) -> None:
        """Finish the step, save, and tell how to go on."""
        if self.training is None:
            return
        opening = self.training.state == "opening"
        self.training.stop()
        if opening:
            self._give_up(self.training.config)
        self.reshow()

    def _give_up(self, config: TrainingConfig, line: str = "") -> None:
        """Back to the form, as it was filled in."""
        self.training = self.host.training = None
        self.query_one(TuneForm).say(line.replace("--resume goes on with it", "^r goes on with it"))
        self._show_form(config)

    def action_go_on(self) -> None:
        if self.training is not None and self.training.go_on():
            self.reshow()

    def action_interrupt(self) -> None:
        self.interrupt()

    def interrupt(self) -> bool:
        """Stop and keep; and leave, where this is all that the program was started for."""
        if self.host.tune_start is not None:
            self.host.quit()
        elif self.training is not None and (self.training.busy or self.training.state == "opening"):
            self.action_stop()
        else:
            self.back()
        return True

    def action_back(self) -> None:
        """From the field that is being written in to the run and its keys; else to the chat, while the run goes on."""
        if self.focused is not self.gauge and not self.has_class("-form"):
            self.gauge.focus()
        elif self.host.tune_start is None:
            self.back()

    def action_new(self, kind: TrainingKind | None = None) -> None:
        """The form, for another run."""
        if self.training is None or not (self.training.busy or self.training.state == "opening"):
            if kind is not None:
                self.query_one(TuneForm).choose(kind)
            self._show_form()
        else:
            self.hints.say("a run is under way: s stops and keeps it")

    @property
    def result(self) -> tuple[str, str] | None:
        """The model and the adapter to chat with, once the run is over."""
        it = self.training
        over = it is not None and it.plan is not None and it.ended is not None
        return chat_with(it.config, it.plan.folder) if it and it.plan and over else None

    def action_chat(self) -> None:
        if self.result is not None:
            model, adapter = self.result
            self.host.chat_with(model, *(((adapter, 1.0),) if adapter else ()))

    def action_plan(self) -> None:
        if self.training is not None and self.training.plan is not None:
            self.app.push_screen(Read("what this run does", "\n".join(told(self.training, self.course))))

    def action_rows(self) -> None:
        """The rows of the data that the form names, or that the run was started with."""
        from likely.app.tui.dialogs.rows import RowsScreen

        form, running = self.query_one(TuneForm), None if self.has_class("-form") else self.training
        try:
            config = form.read() if running is None else running.config
            if isinstance(config, Config):
                self.app.push_screen(RowsScreen(self.host, config.data, read_map(config.map)))
            else:
                self.hints.say("a text is read whole: it has no rows to keep or drop")
        except LikelyError as error:
            form.say(str(error))

    def action_copy_command(self) -> None:
        if self.training is not None:
            self.host.copy(self.training.again, "command to go on")

    def action_close_up(self) -> None:
        self.closer = not self.closer
        self.reshow()

    def action_view(self, name: str) -> None:
        """Which part fills a screen that is too narrow for all of them."""
        for view in VIEWS:
            self.set_class(view == name, f"-{view}")
        self.reshow()

    # -- showing -----------------------------------------------------------------------------------------------------

    def reshow(self) -> None:
        """Everything as it is now; what did not change draws nothing."""
        if not self.is_mounted:
            return
        glyphs, training, course = self.host.glyphs, self.training, self.course
        for name, picture in course.pictures(glyphs, close=self.closer).items():
            self.query_one(f"#{name}", Chart).show(picture)
        self.set_class(bool(self.answers.blocks), "-answered")
        self.answers.styles.max_height = self.answers.layout_.height + 1  # no more of the curves' rows than it fills
        if course.rewards is not None:
            self.rewarded.show(course.rewards)
        elif self.watching.base:
            self.panel.show(self.watching, self.answers.cursor if self.answers.has_focus else None)
        else:
            self.learned.show(course, close=self.closer)
        if training is not None:
            self.gauge.show(standing(training, course, self.stage, glyphs, self.host.clock() - self.began_s))
        plan = training.plan if training is not None else None
        kind = training.kind if training is not None else self.query_one(TuneForm).kind
        name = f"{Path(plan.model).name} → {Path(plan.folder).name}" if plan is not None else kind.doing
        self.top.show(name, (training.state,) if training is not None else ())
        self._hint()

    def numbers(self) -> Mapping[str, Value]:
        return self.course.numbers()

    def formula(self) -> Formula | None:
        return self.course.formula()

    def on_token_view_cursor_moved(self) -> None:
        self.reshow()

    def on_descendant_focus(self) -> None:
        self.call_later(self.reshow)

    def on_descendant_blur(self) -> None:
        self.call_later(self.reshow)

    def on_token_view_chosen(self) -> None:
        """There is nothing to branch in a training."""

    def on_key(self, event: events.Key) -> None:
        self.hints.say("")
        if not event.is_printable or isinstance(self.focused, Input | LessonPane):
            return
        if not self.has_class("-form"):
            if self.focused is None:  # a page with a field gives typing to it
                event.stop()
                self.prompt.focus()
                self.prompt.insert(event.character or "")
        else:
            event.stop()
            field = self.query_one(TuneForm).field("data")
            field.select_on_focus = False  # or the next letter takes the place of this one
            field.focus()
            field.insert_text_at_cursor(event.character or "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of a run do not act on the form, nor where nothing has the focus: what is typed is a question."""
        return action not in OF_A_RUN or (not self.has_class("-form") and self.focused is not None)

    def _hint(self) -> None:
        if self.has_class("-form"):
            shown = hints.FORM
        elif self.focused is self.prompt:
            shown = hints.ASKING
        else:
            alone = self.has_class("-narrow") or self.has_class("-tiny")  # a part at a time
            curves = not alone or not (self.has_class("-moved") or self.has_class("-answers"))
            shown = hints.of_run(self.training, curves=curves, chats=self.result is not None)
        self.hints.show((*shown, (keys.help_key(), "Keys")))

    def commands(self) -> Iterator[Command]:
        training = self.training
        yield "tune: Rows of the data", "source, scores, surprisal; drop and keep", self.action_rows
        if training is not None and training.busy:
            paused = training.control.paused
            yield f"tune: {'Go on' if paused else 'Pause'}", "after the step that is being taken", self.action_pause
            yield "tune: Stop and keep", "finishes the step and saves", self.action_stop
        elif training is None or training.state != "opening":
            for kind in KINDS:
                label = f"tune: {kind.title.capitalize()}…"
                yield label, kind.about, partial(self.action_new, kind)
        if training is not None and training.plan is not None:
            if training.unfinished:
                yield "tune: Go on", "from where the run is", self.action_go_on
            if self.result is not None:
                yield "tune: Chat with it", "the model with what it has learned", self.action_chat
            yield "tune: Try a prompt", "the model answers as it is now", self.action_try
            if self.watching.answers.question is not None:
                yield "tune: Ask again", "the same question", lambda: self.action_repeat(False)
                if training.kind.base:
                    yield "tune: Ask the base", "the same question, before training", lambda: self.action_repeat(True)
            yield "tune: Ask at every validation", "on or off", self.toggle_always
            if self.watching.base:
                yield "tune: What moved", "measured now", self.action_look
                yield "tune: Watch a prompt…", "the next token before and now", self.action_watch
                yield "tune: Held-out text…", "along which KL is measured", self.action_hold
                other = "as plain text" if self.watching.chat else "through the chat template"
                yield f"tune: Prompts {other}", "how questions are put", self.reframe
            elif self.course.rewards is not None:
                yield "tune: Answers before and now", "pass@k, and a held-out problem's answers", self.action_look
            else:
                yield "tune: Bits, position, noise", "bits a byte, loss by position, noise scale", self.action_look
            yield "tune: Show the plan", "rows, tokens, steps, memory", self.action_plan
            yield "tune: Closer or all", "the last quarter of the curves", self.action_close_up
