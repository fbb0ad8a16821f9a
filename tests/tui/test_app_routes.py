"""What the application and every view do when they are asked, told to screens and workers that only write it down."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from textual.binding import Binding
from textual.widgets import TextArea

import app.tui as tui
from app import requests as r
from app.tui import palette
from app.tui.app import KEPT_S, LikelyApp, view_bindings
from app.tui.formula import Formula, low, path
from app.tui.view import BROAD, View
from app.tui.views import VIEWS
from engine.conversation import Conversation, Fork, Node
from engine.errors import DataError
from engine.sources import preferences
from tests.pictures import assert_picture
from tests.tui.test_slash_commands import Noted

FACTS = r.ModelFacts("m", 100, (b"a", b"b"), chat=True, nbytes=1_234_000_000)


class Frame:
    """An application, or a view of one, whose parts write down what they are told."""

    def __init__(self, kind: type[Any], home: Path) -> None:
        self.kind, self.log = kind, list[str]()
        self.note = lambda name="", **facts: Noted(self.log, name, **facts)
        self.engine = self.note("engine", current=FACTS, loading=None)
        self.view = self.note(
            "chat view", NAME="chat", NEEDS_MODEL=True, is_mounted=True, query=lambda kind: [1], interrupt=lambda: False
        )
        self.it: Any = self.note(
            engine=self.engine, home=home, views=[self.view], screen=self.view, screen_stack=[self.view], store=None,
            keeper=None, wanted="wanted", resume="", names={}, child=None, training=None, environ={},
            _ticker=self.note("ticker"), _used_last=lambda: ("used",), store_news="",
        )  # fmt: skip

    def told(self, about: str, name: str, *args: Any, **options: Any) -> list[str]:
        self.log.clear()
        found = getattr(self.kind, name)(self.it, *args, **options)
        said = found if isinstance(found, bool | int | str | set | tuple | None) else type(found).__name__
        return [f"{about}: {name} -> {said}", *(f"  {line}" for line in self.log)]


@pytest.fixture
def frame(tmp_path: Path) -> Frame:
    return Frame(LikelyApp, tmp_path)


def test_views_are_gone_to_and_left(frame: Frame) -> None:
    it, lines = frame.it, []
    lines += frame.told("the same", "go", "chat")
    text = frame.note("text view", NAME="text", NEEDS_MODEL=True, is_mounted=True)
    tune = frame.note("tune view", NAME="tune", NEEDS_MODEL=False, is_mounted=True)
    made = {"text": text, "tune": tune}

    def push(view: Any) -> None:
        frame.log.append(f"push {view.NAME}")
        it.views.append(view)
        it.screen = view

    def pop() -> None:
        frame.log.append("pop")
        if it.screen is it.views[-1]:
            it.views.pop()
        it.screen = it.views[-1]

    it.push_screen, it.pop_screen, it._installed = push, pop, lambda name: made[name]
    lines += frame.told("another", "go", "text") + frame.told("a third", "go", "tune")
    frame.engine.current = None
    lines += frame.told("one that needs no model", "go", "tune") + frame.told("back", "go", "chat")
    frame.engine.loading = object()
    lines += frame.told("a model is loading", "go", "text")
    it.screen = frame.note("dialog")
    lines += frame.told("from a dialog", "go", "chat")
    it._ticker = None
    lines += frame.told("before all is there", "go", "text") + frame.told("a key", "action_go", "text")
    it._ticker, it.go = frame.note("ticker"), lambda name: frame.log.append(f"go {name}")
    for kind in ("chat", "text", "compare"):
        lines += frame.told(kind, "open", Conversation("c", kind=kind))
    it.screen = frame.note("dialog")
    assert LikelyApp.check_action(it, "go", ("text",)) is False
    assert_picture("tui/pictures/texts/app-views.txt", lines)


def test_a_view_that_stays_is_made_once(frame: Frame) -> None:
    it, installed = frame.it, dict[str, Any]()
    it.is_screen_installed = lambda name: name in installed
    it.install_screen = lambda view, name: installed.update({name: view})
    it.get_screen = lambda name, kind: installed[name]
    for stays in (True, False):
        kind: Any = type("Kind", (), {"STAYS": stays})
        entry = SimpleNamespace(load=lambda kind=kind: kind)
        with patch.dict("app.tui.app.VIEWS", {"x": entry}):
            installed.clear()
            first, second = LikelyApp._installed(it, "x"), LikelyApp._installed(it, "x")
            assert isinstance(first, kind) and (first is second) is stays and bool(installed) is stays


def test_models_are_switched_and_known(frame: Frame, tmp_path: Path) -> None:
    it, lines = frame.it, []
    lines += frame.told("the same", "switch_model", "m") + frame.told("another", "switch_model", "other")
    lines += frame.told("again", "reload_model")
    lines += frame.told("with what it has learned", "chat_with", "m", "") + frame.told(
        "with an adapter", "chat_with", "m", "dir"
    )
    lines += frame.told("another with one", "chat_with", "other", "dir")
    frame.engine.current = None
    lines += frame.told("the first", "switch_model", "m") + frame.told("the wanted", "reload_model")
    lines += frame.told("with an adapter", "chat_with", "m", "dir") + frame.told("adapters", "choose_adapters")
    lines += frame.told("no model", "models_changed")
    assert not preferences.chosen(tmp_path)
    frame.engine.current = FACTS
    lines += frame.told("a model", "models_changed")
    assert preferences.chosen(tmp_path) == "m"
    frame.view.query = lambda kind: []
    lines += frame.told("a view without hints", "models_changed")
    frame.view.query, frame.view.is_mounted = lambda kind: [1], False
    lines += frame.told("a view that is not there yet", "models_changed") + frame.told("adapters", "adapters_changed")
    kept: list[Any] = []
    lines += frame.told("known", "model_known", FACTS)
    it.keeper = SimpleNamespace(do=kept.append, save=kept.append)
    lines += frame.told("known", "model_known", FACTS)
    remembered: list[Any] = []
    kept.pop()(SimpleNamespace(remember_vocabulary=lambda *args: remembered.append(args)))
    assert remembered == [("m", FACTS.vocabulary)] and it.names["m"].pieces == FACTS.vocabulary
    assert LikelyApp.names_of(it, "m") is it.names["m"] and LikelyApp.names_of(it, "old").pieces == ()
    it.store = SimpleNamespace(
        vocabulary=lambda name: (name.encode(),), models=lambda id: ("one", "two") if id else ("three",)
    )
    assert LikelyApp.names_of(it, "older").pieces == (b"older",) and LikelyApp.names_of(it, "old").pieces == ()
    assert LikelyApp._used_last(it) == ("m", "three")
    it.resume = "c"
    assert LikelyApp._used_last(it) == ("one", "two")
    it.store = None
    assert LikelyApp._used_last(it) == ()
    frame.view.models_in_use = lambda: {"a"}
    it.views = [frame.view, SimpleNamespace(models_in_use=lambda: {"b"})]
    assert LikelyApp.models_in_use(it) == {"a", "b"}
    lines += frame.told("offered", "models_offered", ("x",))
    LikelyApp.save(it, Conversation("c"))
    assert kept == [Conversation("c")]
    it.keeper = None
    LikelyApp.save(it, Conversation("c"))
    with patch("app.tui.dialogs.models.Models", lambda *args: args):
        pushed: list[Any] = []
        it.push_screen = lambda *args: pushed.append(args)
        LikelyApp.choose_model(it, ("offer",))
    ((_, offers), named) = pushed.pop()
    frame.log.clear()
    named(None)
    named("chosen")
    assert offers == ("offer",) and frame.log == ["switch_model('chosen')"]
    with patch("app.tui.dialogs.adapters.Adapters", lambda app: "adapters"):
        LikelyApp.choose_adapters(it)
    assert pushed == [("adapters",)]
    assert_picture("tui/pictures/texts/app-models.txt", lines)


def test_small_services(frame: Frame, tmp_path: Path) -> None:
    it, lines = frame.it, []
    hints = frame.note("hints")
    it.screen_stack = [SimpleNamespace(query=lambda kind: [hints]), SimpleNamespace(query=lambda kind: [])]
    lines += frame.told("a line", "say", "news") + frame.told("an alarm", "say", "news", True)
    it.available_themes = {"likely-dark": 1, "likely-light": 1, "nord": 1}
    for name, wanted in (("dark", "likely-dark"), ("light", "likely-light"), ("nord", "nord")):
        LikelyApp.choose_theme(it, name)
        assert it.theme == wanted
    lines += frame.told("no theme", "choose_theme", "none") + frame.told("no theme", "choose_theme")
    copied: list[Any] = []
    with patch("app.tui.clipboard.copy", lambda text, write, environ: copied.append((text, environ)) or "copied"):
        it._driver = None
        lines += frame.told("copied", "copy", "text", "answer")
    assert copied == [("text", {})] and it._clipboard == "text"
    lines += frame.told("copied", "copy_to_clipboard", "text")
    it.screen.focused, it.screen.get_selected_text = None, lambda: "selected"
    lines += frame.told("selected", "action_copy_selection")
    it.screen.get_selected_text = lambda: ""
    lines += frame.told("nothing is selected", "action_copy_selection")
    frame.view.interrupt = lambda: True
    lines += frame.told("interrupted", "action_copy_selection")
    it.screen = SimpleNamespace(focused=TextArea.__new__(TextArea), get_selected_text=lambda: "")
    with patch.object(TextArea, "selected_text", "in the field"):
        lines += frame.told("in a field", "action_copy_selection")
    with patch.object(TextArea, "selected_text", ""):
        lines += frame.told("in a dialog", "action_copy_selection")
    it.export_screenshot = lambda title: f"<svg {title}>"
    with patch("app.tui.app.time.strftime", lambda form: "now"):
        lines += [line.replace(str(tmp_path), "HOME") for line in frame.told("a picture", "screenshot")]
    assert (tmp_path / "likely-now.svg").read_text() == "<svg likely>"
    it.child = frame.note("child")
    lines += (
        frame.told("one is there", "start_server")
        + frame.told("stopped", "stop_server")
        + frame.told("none", "stop_server")
    )
    assert it.child is None
    with patch("app.watch.child_server.ChildServer", lambda *args: args):
        lines += [line.replace(str(tmp_path), "HOME") for line in frame.told("started", "start_server")]
        assert it.child == ("m", tmp_path)
        it.child, frame.engine.current = None, None
        lines += frame.told("no model", "start_server")
    assert_picture("tui/pictures/texts/app-services.txt", lines)


def test_the_end_closes_what_there_is(frame: Frame) -> None:
    it, lines = frame.it, []
    it._ticker = None
    lines += frame.told("nothing is there yet", "on_unmount")
    for name in ("training", "child", "keeper", "store", "_ticker"):
        setattr(it, name, frame.note(name))
    lines += frame.told("all", "on_unmount")
    frame.view.resumable = lambda: ""
    lines += frame.told("nothing to resume", "_end")
    it.views = [
        frame.view,
        frame.note("other view", resumable=lambda: "c"),
        frame.note("third view", resumable=lambda: "d"),
    ]
    lines += frame.told("one to resume", "_end")
    it.is_running = False
    lines += frame.told("at the end", "drain")
    it.is_running, frame.engine.drain = True, lambda: True
    lines += frame.told("busy", "drain")
    frame.engine.drain = lambda: False
    lines += frame.told("idle", "drain")
    it._ticker = None
    lines += frame.told("idle, no timer", "drain")
    asked: list[Any] = []
    it.push_screen, it._parting = lambda *args: asked.append(args), False
    with patch("app.tui.dialogs.overlays.Pick", lambda title, options: (title, [id for id, _ in options])):
        LikelyApp._ask(it, "the disk is full")
    ((said, options), chosen) = asked.pop()
    assert said == "the disk is full · leave all the same?" and options == ["stay", "lose"] and it._parting
    frame.log.clear()
    chosen("stay")
    assert not it._parting and not frame.log
    chosen("lose")
    assert frame.log == ["_end()"]
    assert_picture("tui/pictures/texts/app-end.txt", lines)


def test_the_store_and_the_keys_are_opened(frame: Frame, tmp_path: Path) -> None:
    it = frame.it
    it.clock, it.key_table = lambda: KEPT_S + 5.0, lambda: {"chat.redo": "ctrl+r"}
    LikelyApp._open_store(it)
    swept: list[float] = []
    assert it.store_news == "" and it.keeper is not None
    with patch.object(type(it.store), "sweep", lambda store, before: swept.append(before)):
        it.keeper.do(lambda store: store.sweep(it.clock() - KEPT_S))
        it.keeper.close()
    it.store.close()
    assert swept[-1] == 5.0 and KEPT_S == 30 * 24 * 3600
    it.keeper = it.store = None
    LikelyApp._remap(it)
    (tmp_path / "keys.toml").write_text('"chat.redo" = "ctrl+y"\n')
    assert frame.told("keys", "_remap")[1:] == ["  set_keymap({'chat.redo': 'ctrl+y'})"]
    (tmp_path / "keys.toml").write_text('"chat.none" = "ctrl+y"\n')
    it.store_news = ""
    LikelyApp._remap(it)
    assert "there is no action chat.none" in it.store_news
    it.store_news = "not saved"
    LikelyApp._remap(it)
    assert it.store_news == "not saved"
    (tmp_path / "sessions.db").unlink()
    (tmp_path / "sessions.db").mkdir()
    LikelyApp._open_store(it)
    assert it.store_news.startswith("not saved: ") and it.store is None
    it._keymap = {"chat.redo": "x"}
    assert LikelyApp.keys_of(it, "chat.redo", "d") == "x" and LikelyApp.keys_of(it, "chat.new", "d") == "d"
    it._keymap = {}
    assert LikelyApp.keys_of(it, "chat.redo") == "ctrl+r"
    assert [binding.key for binding in view_bindings()] == [entry.key for entry in VIEWS.values()]
    assert all(binding.priority for binding in view_bindings())


# -- every view --------------------------------------------------------------------------------------------------------


def test_what_every_view_does(tmp_path: Path) -> None:
    frame = Frame(View, tmp_path)
    it, lines = frame.it, []
    talk = Conversation("c").add(Node("u", Fork(), "user", text="x"))
    host = frame.note("host", store=None, keeper=None, sidebar=False)
    it.host, it.hints, it.current, it.app = host, frame.note("hints"), lambda: talk, frame.note("app")
    it.formula, it._going, it.has_class = lambda: None, False, lambda name: False
    lines += frame.told("no store", "action_sessions") + frame.told("no number", "action_formula")
    assert View.resumable(it) == ""
    host.keeper, host.store = "keeper", SimpleNamespace(load=lambda id: f"loaded {id}")
    assert View.resumable(it) == "c" and View._open_id(it) == "c"
    with patch("app.tui.dialogs.sessions.SessionsDialog", lambda *args, **options: "dialog"):
        lines += frame.told("a dialog", "action_sessions")
    with patch("app.tui.dialogs.formula.FormulaSheet", lambda found: found):
        it.formula = lambda: "formula"
        lines += frame.told("a number", "action_formula")
    lines += frame.told("nothing", "_open_kept", None) + frame.told("one", "_open_kept", "c")

    def broken(id: str) -> Any:
        raise DataError("it is broken")

    host.store.load = broken
    lines += frame.told("a broken one", "_open_kept", "c")
    lists: list[Any] = []
    listed = frame.note("list", has_focus_within=False)

    class Found(list[Any]):
        def first(self, kind: Any = None) -> Any:
            return self[0]

        def remove(self) -> None:
            frame.log.append("removed")

    it.query = lambda name: Found(lists)
    it.has_class = lambda name: name == BROAD
    it.mount = lambda widget: (lists.append(listed), frame.log.append("mounted"))
    it._beside = lambda: View._beside(it)
    with patch("app.tui.view.SessionList", lambda *args, **options: "list"):
        lines += frame.told("beside", "action_sessions")
        assert host.sidebar is True
        lines += frame.told("to the list", "action_sessions")
        assert host.sidebar is True
        listed.has_focus_within = True
        lines += frame.told("gone", "action_sessions")
    assert host.sidebar is False
    lists.clear()
    lines += frame.told("as it was", "on_screen_resume")
    lines += frame.told("picked", "on_session_list_session_picked", SimpleNamespace(session="c"))
    lines += frame.told("left", "on_session_list_abandoned")
    lists.append(frame.note("field"))
    lines += frame.told("to where one writes", "_to_field")
    lines += frame.told("a tab", "on_top_bar_view_asked", SimpleNamespace(name="text"))
    for number in (1, len(VIEWS), len(VIEWS) + 1):
        lines += frame.told("not asked", "went", number)
        lines += frame.told("a number is next", "action_goto") + frame.told("a number", "went", number)
        assert it._going is False
    it.current = lambda: None
    assert View._open_id(it) == "" == View.resumable(it)
    it.current = lambda: Conversation("empty")
    assert View.resumable(it) == ""
    defaults = View.models_in_use(it), View.formula(it), list(View.commands(it)), View.interrupt(it), View.current(it)
    assert defaults == (set(), None, [], False, None)
    assert_picture("tui/pictures/texts/view.txt", lines)


def test_the_palette_has_what_the_view_and_the_program_offer(tmp_path: Path) -> None:
    frame = Frame(View, tmp_path)
    host = frame.note("host", child=None, engine=frame.engine)
    with patch("app.tui.palette.host", lambda screen: host):
        plain = palette.entries(frame.note("screen"))  # type: ignore[arg-type]
        lines = [f"{name}: {about}" for name, about, _ in plain]
        host.child = SimpleNamespace(address="here:1")
        lines += ["a server", *(f"{name}: {about}" for name, about, _ in palette.entries(frame.it))]
        host.child.address = ""
        lines += [f"{name}: {about}" for name, about, _ in palette.entries(frame.it) if name.startswith("server")]
        host.child, frame.engine.current = None, None
        lines += [f"{name}: {about}" for name, about, _ in palette.entries(frame.it) if name.startswith("server")]
        for name, _, do in palette.entries(frame.it):
            if name.startswith(("view: T", "app")):
                do()
    assert_picture("tui/pictures/texts/palette-everywhere.txt", [*lines, *frame.log])


def test_keys_of_the_parts_that_are_there_are_offered() -> None:
    def part(name: str) -> type[Any]:
        return type(name, (), {"BINDINGS": [Binding("x", "do", name, id=f"{name}.do", tooltip=f"does {name}")]})

    absent, there = part("absent"), part("there")
    kind = type(
        "Kind", (), {"BINDINGS": [Binding("y", "go", "go", id="kind.go", tooltip="goes"), ("z", "bare", "bare")]}
    )
    view: Any = kind()
    view.PARTS = (absent, there)
    view.host = SimpleNamespace(keys_of=lambda id, keys: keys)
    view.query = lambda wanted: [wanted()] if wanted is there else []
    assert [(name, about) for name, about, _ in palette.keyed(view)] == [
        ("key y: goes", "kind.go"), ("key x: does there", "there.do"),
    ]  # fmt: skip


def test_formulas_in_ink() -> None:
    assert Formula("model", (("p = ", False), ("0.5", True))).words() == [("p = ", "text"), ("0.5", "chosen")]
    assert path("model", whole=False) == [("model", "model")]
    assert path("model", whole=True) == [
        ("tokenizer", "cut"), (" → ", "cut"), ("model", "model"), (" → ", "cut"), ("decoder", "cut"), (" → ", "cut"),
        ("metric", "cut"),
    ]  # fmt: skip
    assert low(1234567890) == "₁₂₃₄₅₆₇₈₉₀"


# -- the program -------------------------------------------------------------------------------------------------------


class Ended:
    """An application that has ended."""

    made: ClassVar[dict[str, Any]] = {}
    facts: ClassVar[dict[str, Any]] = {}

    def __init__(self, provider: Any, home: Any, **options: Any) -> None:
        Ended.made = {"home": home, **options}
        self.keeper, self.training, self.return_code = None, None, 0
        self.__dict__.update(Ended.facts)

    def run(self) -> str:
        return str(Ended.facts.get("left", ""))


def ended(**facts: Any) -> None:
    Ended.facts = facts


def test_the_program_says_how_to_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keeper = SimpleNamespace(unsaved=(), trouble="the disk is full")
    with patch("app.tui.app.LikelyApp", Ended), patch("app.tui.data_home", lambda: tmp_path / "default"):
        ended(left="c1", keeper=keeper)
        assert tui.run("m", "c0", tmp_path, [("dir", 1.0)]) == 0
        assert capsys.readouterr().out == "likely chat --resume c1\n"
        assert (Ended.made["home"], Ended.made["model"], Ended.made["resume"]) == (tmp_path, "m", "c0")
        assert Ended.made["adapters"] == [("dir", 1.0)]
        ended(return_code=3)
        assert tui.run() == 3 and not any(capsys.readouterr())
        assert (Ended.made["home"], Ended.made["model"], Ended.made["resume"]) == (tmp_path / "default", "", "")
        keeper.unsaved = (1,)
        for code, wanted in ((0, 1), (4, 4)):
            ended(left="c1", keeper=keeper, return_code=code)
            assert tui.run() == wanted
        assert capsys.readouterr().err == "likely: the disk is full: what was said is lost\n" * 2
        ended(return_code=2)
        assert tui.ladder(tmp_path / "t.csv", tmp_path) == 2 and Ended.made["ladder"] == tmp_path / "t.csv"
        assert tui.watch("server", tmp_path) == 2 and Ended.made["server"] == "server"  # type: ignore[arg-type]
        ended()
        assert tui.ladder(tmp_path) == 0 == tui.watch("s") and Ended.made["home"] == tmp_path / "default"  # type: ignore[arg-type]


def test_a_training_under_way_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log: list[str] = []

    def training(busy: bool, quick: bool) -> Any:
        waits = lambda seconds=None: log.append(f"wait {seconds}") or quick  # type: ignore[func-returns-value]  # noqa: E731
        ends = lambda: (130, ["saved in x"])  # noqa: E731
        return SimpleNamespace(drain=lambda: log.append("drain"), busy=busy, wait=waits, parting=ends)

    kind = SimpleNamespace(model=lambda config: "base")
    with patch("app.tui.app.LikelyApp", Ended), patch("app.training_kind.kind_of", lambda config: kind):
        finishing = "finishing the step, then saving…\n"
        cases = (
            (False, False, [], ""),
            (True, True, ["wait 0.3"], ""),
            (True, False, ["wait 0.3", "wait None"], finishing),
        )
        for busy, quick, waited, said in cases:
            log.clear()
            ended(training=training(busy, quick))
            assert tui.tune("config", True, tmp_path) == 130  # type: ignore[arg-type]
            assert log == ["drain", *waited] and capsys.readouterr().err == f"{said}saved in x\n"
        assert Ended.made["tune"] == ("config", True) and Ended.made["model"] == "base"
        keeper = SimpleNamespace(unsaved=(1,), trouble="the disk is full")
        ways: tuple[Callable[[], int], ...] = (
            tui.run, lambda: tui.tune("config"), lambda: tui.ladder(tmp_path), lambda: tui.watch("s"),  # type: ignore[arg-type]
        )  # fmt: skip
        for way in ways:  # whatever was opened first, both may have been begun from there
            log.clear()
            ended(training=training(False, False), keeper=keeper)
            assert way() == 130 and log == ["drain"]
            assert capsys.readouterr().err == "saved in x\nlikely: the disk is full: what was said is lost\n"
        ended(return_code=5)
        assert tui.tune("config") == 5 and Ended.made["tune"] == ("config", False)  # type: ignore[arg-type]
