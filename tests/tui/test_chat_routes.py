"""What the chat's screen does when something is heard, pressed or chosen, told to panes that only write it down."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import requests as r
from app.tui.chat.chat_session import Heard
from app.tui.chat.live_run import LiveRun
from app.tui.sampling import Sampling
from app.tui.tokens.block import ShownToken
from app.tui.tokens.layout import TokenPlace
from app.tui.views.chat import ChatScreen
from app.tui.widgets.place_editor import SYSTEM
from app.worker import Failed
from engine.conversation import Conversation, Fork, Node
from engine.decode.control import RunControl
from engine.errors import DataError, ParameterError
from tests.pictures import assert_picture
from tests.support.diffuser import ScriptedDiffusion
from tests.tui.bench import Bench
from tests.tui.test_session_stories import ASK, short
from tests.tui.test_slash_commands import Noted

TOKEN = ShownToken("a")


class Routes:
    """A chat's screen whose session is real and whose panes write down what they are told."""

    def __init__(self, home: Path, bench: Bench | None = None) -> None:
        self.log: list[str] = []
        self.bench = bench or Bench(short())
        note = lambda name, **facts: Noted(self.log, name, **facts)  # noqa: E731
        self.engine = note("engine", current=self.bench.facts, loading=None, attached=(), stop_loading=lambda: False)
        self.hints = note("hints", alarm=False, news="")
        self.composer = note("composer", has_focus=True, drop=lambda: False, list=note("list", display=False))
        self.pane = note("pane", cursor=None, place=None, shown=self.bench.session.transcript.shown)
        self.candidates = note("candidates", has_focus=False)
        self.inspector = note("inspector", candidates=self.candidates, close=lambda: False, table=lambda: None)
        self.host = note(
            "host",
            engine=self.engine,
            home=home,
            keeper=None,
            store=None,
            session=None,
            clock=lambda: 5.0,
            resume="",
            store_news="",
        )
        self.screen: Any = note(
            "", talk=self.bench.session, session=self.bench.session, host=self.host, hints=self.hints,
            composer=self.composer, pane=self.pane, inspector=self.inspector,
            diffusion=note("diffusion", leave=lambda: False), focused=None, _progress="", _status_s=0.0, _saved_s=0.0,
            is_mounted=True, titler=note("titler"),
        )  # fmt: skip

    def told(self, about: str, name: str, *args: Any, **options: Any) -> list[str]:
        """What a method of the screen does."""
        self.log.clear()
        found = getattr(ChatScreen, name)(self.screen, *args, **options)
        said = [line.replace(str(self.host.home), "HOME") for line in self.log]
        return [
            f"{about}: {name} -> {found if isinstance(found, bool | None) else type(found).__name__}",
            *(f"  {line}" for line in said),
        ]


def set_heard(routes: Routes, heard: Heard, run: LiveRun | None = None, before: LiveRun | None = None) -> None:
    """What the session makes of the next events, and its run before and after them."""
    talk = routes.bench.session

    def take(job: int, events: list[Any]) -> Heard:
        talk.run = run
        return heard

    talk.run = before
    talk.take = take  # type: ignore[method-assign,assignment]


def a_run(read: tuple[int, int] | None = None, steps: int = 0) -> LiveRun:
    run = LiveRun("n2", RunControl(), lambda: "n9")
    run.read, run.steps = read, [None] * steps  # type: ignore[list-item]
    return run


@pytest.fixture
def routes(tmp_path: Path) -> Routes:
    return Routes(tmp_path)


def test_what_is_heard_goes_to_the_panes(routes: Routes) -> None:
    lines, running = [], a_run()
    for about, heard, run, before in (
        ("nothing", Heard(), None, None), ("tokens", Heard([TOKEN]), running, running),
        ("the last ones", Heard([TOKEN, TOKEN], ended=True), None, running),
        ("another lineage", Heard(reshow=True, branched=True), running, running),
        ("more branches", Heard(branched=True), running, running), ("measured", Heard(scored=True), None, None),
        ("not to be measured", Heard(scored=False), None, None), ("a canvas", Heard(denoised=True), running, running),
        ("a canvas's end", Heard(denoised=True, ended=True), None, running),
        ("a failure", Heard(failure=Failed("gone"), ended=True), None, running),
        ("news", Heard(news="reloaded"), running, running), ("reading", Heard(), a := a_run((3, 9)), a),
        ("a new run reads", Heard(), a_run((3, 9)), None),
    ):  # fmt: skip
        set_heard(routes, heard, run, before)
        lines += routes.told(about, "take_events", 4, ["event"])
    routes.hints.news = "reading the prompt · 3 of 9 tokens"
    set_heard(routes, Heard(), running, running)
    lines += routes.told("it has read", "take_events", 4, [])
    set_heard(routes, Heard(failure=Failed("gone")), None, running)
    lines += routes.told("it failed while it read", "take_events", 4, [])
    routes.hints.news = "other news"
    set_heard(routes, Heard(), running, running)
    lines += routes.told("other news stay", "take_events", 4, [])
    assert_picture("tui/pictures/texts/routes-heard.txt", lines)


def test_tokens_are_looked_at_now_and_then(routes: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, now = [], [100.0]
    monkeypatch.setattr("app.tui.views.chat.monotonic", lambda: now[0])
    routes.bench.session.keep = lambda: routes.log.append("keep")  # type: ignore[method-assign,assignment]
    for about, at, steps, cursor in (
        ("the first", 100.0, 1, None), ("soon after", 100.4, 15, None), ("half a second", 100.5, 16, None),
        ("a while", 100.9, 17, None), ("sixteen of eighteen", 100.95, 18, None),
        ("under a cursor", 101.0, 40, TokenPlace(1, 0)), ("later", 101.9, 40, TokenPlace(1, 0)),
    ):  # fmt: skip
        now[0], routes.pane.cursor, routes.bench.session.run = at, cursor, a_run(steps=steps)
        lines += routes.told(about, "_drawn", 2)
    routes.bench.session.run, routes.bench.session.peek = None, routes.bench.engine.score([1, 2])[1]
    lines += routes.told("a peek", "_drawn", 1)
    assert_picture("tui/pictures/texts/routes-drawn.txt", lines)


def test_an_end_is_saved_and_shown(routes: Routes) -> None:
    talk, lines = routes.bench.session, []
    lines += routes.told("an end", "_finished")
    routes.candidates.has_focus = True
    lines += routes.told("in the candidates", "_finished")
    talk.peek = routes.bench.engine.score([1, 2])[1]
    lines += routes.told("with a peek", "_finished")
    talk.stepping = True
    lines += routes.told("in step mode", "_finished")
    assert_picture("tui/pictures/texts/routes-ended.txt", lines)


def test_escape_leaves_what_is_nearest(routes: Routes) -> None:
    talk, lines = routes.bench.session, []
    lines += routes.told("in the prompt", "action_stop")
    routes.composer.has_focus = False
    lines += routes.told("elsewhere", "action_stop")
    routes.composer.drop = lambda: True
    lines += routes.told("something attached", "action_stop")
    routes.inspector.close = lambda: True
    lines += routes.told("a sheet is open", "action_stop")
    talk.stop = lambda hear=False: hear  # type: ignore[method-assign]
    lines += routes.told("a run", "action_stop")
    routes.screen.diffusion.leave = lambda: True
    lines += routes.told("on the canvas", "action_stop")
    routes.engine.stop_loading = lambda: True
    lines += routes.told("a download", "action_stop")
    talk.stepping = True
    lines += routes.told("step mode", "action_stop")
    routes.composer.list.display = True
    lines += routes.told("a list", "action_stop")
    assert_picture("tui/pictures/texts/routes-escape.txt", lines)


def test_interruptions_stop_a_run_alone(routes: Routes) -> None:
    talk, lines = routes.bench.session, []
    lines += routes.told("nothing runs", "interrupt")
    talk.run = a_run()
    lines += routes.told("a run", "interrupt")
    talk.stepping = True
    lines += routes.told("step mode", "interrupt")
    routes.composer.has_focus = False
    talk.pick = lambda token: routes.log.append(f"pick {token}")  # type: ignore[method-assign,assignment]
    lines += routes.told("step mode", "key_space")
    routes.composer.has_focus = True
    lines += routes.told("a space in the prompt", "key_space")
    talk.stepping, routes.composer.has_focus = False, False
    lines += routes.told("no step mode", "key_space")
    assert_picture("tui/pictures/texts/routes-interrupted.txt", lines)


def test_models_come_and_go(routes: Routes) -> None:
    talk, lines = routes.bench.session, []
    ready: list[str] = []
    talk.ready = lambda facts: ready.append(facts.name)  # type: ignore[method-assign,assignment]
    lines += routes.told("as it was", "models_changed")
    talk.facts = None
    routes.engine.attached = (SimpleNamespace(name="calm", weight=1.0),)
    lines += routes.told("a model", "models_changed")
    assert ready == ["scripted"] and talk.adapters == "calm 1"
    talk.facts, routes.engine.loading = routes.bench.facts, r.Progressed("m", "downloading m", 1, 4)
    lines += routes.told("loading", "models_changed")
    routes.hints.news, routes.engine.loading = routes.screen._progress, None
    lines += routes.told("loaded", "models_changed")
    routes.hints.alarm, routes.engine.loading = True, r.Progressed("m", "loading")
    lines += routes.told("under an alarm", "models_changed")
    routes.screen.session = None
    lines += routes.told("without a session", "models_changed")
    talk.transcript.scores["n1"] = []
    routes.screen.session = talk
    lines += routes.told("adapters", "adapters_changed")
    assert not talk.transcript.scores
    assert_picture("tui/pictures/texts/routes-models.txt", lines)


def test_hints_are_of_what_has_the_focus(routes: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.tui.keys.MAC", False)
    talk, lines = routes.bench.session, []
    lines += routes.told("at rest", "_show_keys") + routes.told("at rest", "_hint")
    talk.run = a_run()
    lines += routes.told("a run", "_show_keys")
    routes.engine.current = r.ModelFacts("base", 10, (b"a",), chat=False)
    lines += routes.told("a base model", "_hint")
    routes.pane.shown = [1]
    lines += routes.told("a base model with words", "_hint")
    routes.pane.shown, routes.hints.alarm = [], True
    lines += routes.told("under an alarm", "_hint")
    routes.hints.alarm, talk.stepping = False, True
    lines += routes.told("in step mode", "_hint") + routes.told("a key in step mode", "on_key")
    talk.stepping, routes.hints.news = False, "news"
    lines += routes.told("a key", "on_key")
    routes.hints.news = ""
    lines += routes.told("a key without news", "on_key")
    lines += routes.told("a command", "compose_command", "seed")
    assert_picture("tui/pictures/texts/routes-hints.txt", lines)


def test_messages_are_said_and_edited(routes: Routes) -> None:
    talk, lines = routes.bench.session, []
    said = lambda **facts: SimpleNamespace(**{"text": ASK, "news": "", **facts})  # noqa: E731
    lines += routes.told("said", "on_composer_said", said())
    talk.stop()
    talk.conversation = Conversation("d", title="named")
    lines += routes.told("with news", "on_composer_said", said(news="a file was not there"))
    talk.stop()
    talk.facts = None
    lines += routes.told("no model", "on_composer_said", said())
    routes.engine.loading = r.Progressed("m", "loading")
    lines += routes.told("a model is loading", "on_composer_said", said())
    talk.facts = routes.bench.facts
    edited: list[Any] = []
    talk.edit = lambda *args, **options: edited.append((args, options))  # type: ignore[method-assign,assignment]
    kept = lambda index, go_on=False: SimpleNamespace(index=index, text="words", go_on=go_on)  # noqa: E731
    routes.pane.shown = [1, 2]
    lines += routes.told("the system prompt", "on_place_editor_kept", kept(SYSTEM))
    lines += routes.told("a message", "on_place_editor_kept", kept(1, True))
    lines += routes.told("one that is gone", "on_place_editor_kept", kept(2))
    assert edited == [((1, "words"), {"go_on": True})]
    lines += routes.told("a system prompt", "instruct", "Be brief.") + routes.told("none", "instruct", "  ")
    routes.pane.shown = []
    lines += routes.told("before anything was said", "instruct", "Be brief.")
    assert_picture("tui/pictures/texts/routes-said.txt", lines)


def test_runs_begin_or_say_why_not(routes: Routes) -> None:
    talk, lines = routes.bench.session, []
    lines += routes.told("begun", "begun", True, "why") + routes.told("not begun", "begun", False, "why")
    lines += routes.told("again", "action_redo") + routes.told("go on", "action_resume")
    steered = SimpleNamespace(place=TokenPlace(1, 0), token=None, force="")
    lines += routes.told("a branch", "on_transcript_pane_steered", steered)
    routes.bench.say(ASK)
    lines += routes.told("again", "action_redo", Sampling(), 3) + routes.told(
        "a branch", "on_transcript_pane_steered", steered
    )
    talk.stop()
    routes.bench.show()
    lines += routes.told("go on", "action_resume")

    def change(how: Any, news: str = "", fork: Fork | None = None) -> SimpleNamespace:
        return SimpleNamespace(change=how, keeps_run=False, fork=fork, news=news)

    routes.pane.cursor = TokenPlace(0, 0)
    prune = lambda talk: talk.prune(Fork("n1"), talk.leaf.fork.node if talk.leaf.joins else talk.leaf.id)  # noqa: E731
    lines += routes.told("a change", "on_transcript_pane_altered", change(prune, "put away", Fork("n1")))
    assert routes.pane.cursor is not None
    lines += routes.told("nothing changes", "on_transcript_pane_altered", change(lambda talk: talk))
    assert routes.pane.cursor is None
    keeps = SimpleNamespace(change=lambda talk: talk, keeps_run=True, fork=None, news="")
    lines += routes.told("nothing is shown anew", "on_transcript_pane_altered", keeps)
    lines += routes.told("settings", "set_sampling", Sampling().preset("wild"))
    assert talk.sampling.preset_name == "wild"
    talk.run = a_run()
    lines += routes.told("settings of a run", "set_sampling", Sampling())
    assert_picture("tui/pictures/texts/routes-runs.txt", lines)


def test_a_digit_takes_a_candidate_or_goes_to_a_view(routes: Routes) -> None:
    lines = []
    row = lambda token: SimpleNamespace(token=token)  # noqa: E731
    routes.screen.went = lambda number: number == 9
    lines += routes.told("a view", "action_take", 9) + routes.told("nothing is looked at", "action_take", 1)
    routes.inspector.table = lambda: SimpleNamespace(rows=(row(5), row(6)))
    lines += routes.told("no place", "action_take", 1)
    routes.pane.place = TokenPlace(1, 2)
    for number in (1, 2, 3):
        lines += routes.told("a candidate", "action_take", number)
    lines += routes.told("sliders", "action_sampler") + routes.told("panel", "action_panel")
    assert_picture("tui/pictures/texts/routes-digits.txt", lines)


def test_a_diffusion_model_says_otherwise(tmp_path: Path) -> None:
    routes = Routes(tmp_path, Bench(ScriptedDiffusion()))
    lines = (
        routes.told("go on", "action_resume")
        + routes.told("sliders", "action_sampler")
        + routes.told("a hint", "_hint")
    )
    lines += routes.told("a name", "_name_it") + routes.told("a formula", "formula")
    with pytest.raises(ParameterError, match="it stays off"):
        ChatScreen.set_sampling(routes.screen, Sampling().with_value("mirostat_tau", 5.0))
    assert_picture("tui/pictures/texts/routes-diffusion.txt", lines)


def test_a_conversation_is_opened_and_left(routes: Routes) -> None:
    lines = []
    routes.host.start = SimpleNamespace(max_tokens=7, new_seed=None, of=lambda talk: talk)
    routes.bench.session.transcript.heat, routes.bench.session.transcript.least = "rank", 3.0
    talk = Conversation("e").add(Node("u", Fork(), "user", text="x"))
    lines += routes.told("another", "open", talk)
    opened = routes.screen.session
    assert (
        opened is not routes.bench.session and routes.host.session is opened and opened.conversation.nodes == talk.nodes
    )
    assert (opened.max_tokens, opened.transcript.heat, opened.transcript.least, opened.facts) == (
        7,
        "rank",
        3.0,
        routes.bench.facts,
    )
    assert routes.screen.look.session is opened and opened.clock() == 5.0
    routes.screen.session = None
    routes.engine.current, routes.host.start.new_seed = None, lambda: 5
    lines += routes.told("the first", "open", talk)
    opened = routes.screen.session
    assert (opened.transcript.heat, opened.facts, opened.new_seed()) == ("surprisal", None, 5)
    routes.screen.talk.settle = lambda: routes.log.append("settle")
    lines += routes.told("leave", "leave")
    routes.screen.talk.stepping = True
    routes.screen.talk.run = a_run()
    routes.screen.talk.run.nodes = {}
    lines += routes.told("leave step mode", "leave")
    assert routes.screen.talk.run is None and not routes.screen.talk.stepping
    routes.screen.session = None
    lines += routes.told("nothing is open", "leave")
    assert ChatScreen.current(routes.screen) is None
    routes.screen.session = opened
    assert ChatScreen.current(routes.screen) is opened.conversation
    lines += routes.told("a name", "rename", "x" * 70)
    assert routes.screen.talk.conversation.title == "x" * 59 + "…"
    lines += routes.told("a new one", "fresh") + routes.told("a new one", "action_new")
    assert_picture("tui/pictures/texts/routes-opened.txt", lines)


def test_the_palette_has_the_commands_of_a_chat(routes: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.tui.chat.commands.offered", lambda screen: iter([screen]))
    assert list(ChatScreen.commands(routes.screen)) == [routes.screen]


def test_once_a_second_is_saved_what_was_drawn(routes: Routes) -> None:
    talk, lines = routes.bench.session, []
    lines += routes.told("nothing runs", "tick")
    talk.run = a_run()
    talk.keep = lambda: routes.log.append("keep")  # type: ignore[method-assign,assignment]
    routes.host.keeper = SimpleNamespace(report=lambda: "")
    lines += routes.told("a run", "tick")
    talk.run, routes.host.keeper = None, SimpleNamespace(report=lambda: "the disk is full")
    lines += routes.told("trouble", "tick")
    named: list[Any] = []
    routes.screen.titler.ask = lambda *args: named.append(args)
    lines += routes.told("a name is asked for", "_name_it")
    assert named[0][:2] == (talk.conversation, routes.bench.facts)
    named[0][2]("A name")
    routes.screen.session = None
    named[0][2]("of another")
    assert routes.log == ["rename('A name')"]
    talk.run = a_run()
    ChatScreen._name_it(routes.screen)
    talk.run, routes.engine.current = None, None
    ChatScreen._name_it(routes.screen)
    assert len(named) == 1
    assert_picture("tui/pictures/texts/routes-tick.txt", lines)


def test_the_first_conversation_is_the_one_that_was_asked_for(routes: Routes) -> None:
    lines = []
    routes.host.start = SimpleNamespace(of=lambda talk: f"{talk.id} as asked")
    kinds = {"chat": Conversation("c1"), "text": Conversation("t1", kind="text")}

    def load(id: str) -> Conversation:
        if id not in kinds:
            raise DataError(f"there is no {id}")
        return kinds[id]

    for wanted in ("", "chat", "text", "none"):
        routes.host.resume, routes.host.store = wanted, SimpleNamespace(load=load)
        lines += routes.told(wanted or "nothing", "_open_first")
        lines.append(f"  news {routes.host.store_news!r}")
    routes.host.resume, routes.host.store, routes.host.store_news = "chat", None, ""
    lines += routes.told("no store", "_open_first")
    assert_picture("tui/pictures/texts/routes-first.txt", lines)


def test_the_number_that_is_looked_at(routes: Routes) -> None:
    routes.bench.say(ASK)
    routes.pane.shown = routes.bench.session.transcript.shown
    routes.inspector.formula = lambda: "of the token"
    found = ChatScreen.formula(routes.screen)
    assert found is not None and found.map == "tokenizer" and ("15", True) in found.parts  # type: ignore[union-attr]
    routes.composer.has_focus = False
    assert ChatScreen.formula(routes.screen) == "of the token"  # type: ignore[comparison-overlap]
    routes.pane.shown = []
    assert getattr(ChatScreen.formula(routes.screen), "map", "") == "tokenizer"
    routes.engine.current = None
    assert ChatScreen.formula(routes.screen) == "of the token"  # type: ignore[comparison-overlap]
    lines = routes.told("smaller", "on_resize")
    routes.screen.is_mounted = False
    lines += routes.told("not there yet", "on_resize")
    looked: list[int] = []
    routes.bench.session.look = looked.append  # type: ignore[method-assign,assignment]
    routes.pane.shown = [1, 2]
    for place in (TokenPlace(1, 0), TokenPlace(2, 0), None):
        lines += routes.told(str(place), "on_token_view_cursor_moved", SimpleNamespace(place=place))
    assert looked == [1]
    lines += routes.told("rendered", "on_transcript_pane_rendered") + routes.told("anew", "reshow", follow=True)
    assert_picture("tui/pictures/texts/routes-looks.txt", lines)
