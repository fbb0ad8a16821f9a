"""Commands that are typed, picked and pressed: what each does to a chat, told to a screen that only writes it down."""

from dataclasses import is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.tui.chat import commands, decoding, diffusing, slash, stepping
from app.tui.chat.steering import Steering
from app.tui.sampling import Sampling
from app.tui.tokens.layout import TokenPlace
from engine.conversation import Fork
from engine.decode.strategies import parse
from engine.diffusion.unmasking import Unmasking
from engine.errors import ParameterError
from engine.tune.attached import Attached
from tests.pictures import assert_picture
from tests.support.diffuser import ScriptedDiffusion
from tests.tui.bench import Bench
from tests.tui.test_session_stories import ASK, short


class Noted:
    """Everything that is called on it, or on what hangs on it, is written down."""

    def __init__(self, log: list[str], name: str = "", **facts: Any) -> None:
        self.__dict__.update(facts)
        self.log_, self.name_ = log, name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Noted(self.log_, f"{self.name_}.{name}".lstrip("."))

    def __call__(self, *args: Any, **options: Any) -> None:
        said = [_said(arg) for arg in args] + [f"{name}={_said(value)}" for name, value in options.items()]
        self.log_.append(f"{self.name_}({', '.join(said)})")


def _said(value: Any) -> str:
    if isinstance(value, Sampling):
        return f"sampling {value.recipe.transforms}"
    if callable(value) and not isinstance(value, type):
        return "a function"
    plain = (is_dataclass(value) and len(repr(value)) > 99) or " at 0x" in repr(value)
    return type(value).__name__ if plain else repr(value)


class Desk:
    """A chat's screen that is none: its session is real."""

    def __init__(self, bench: Bench, home: Path) -> None:
        self.log: list[str] = []
        self.bench, self.home = bench, home
        attached = (Attached("calm", Path("calm"), 1.0, "lora", 8, 2.0, ("q",), 10, "m"),)
        engine = Noted(
            self.log,
            "engine",
            models={"m": bench.facts, "other": replace(bench.facts, name="other")},
            attached=attached,
            current=None,
        )
        engine.current = engine.models["m"]
        host = Noted(self.log, "host", engine=engine, home=home, store=None, clock=lambda: 5.0)
        pane = Noted(
            self.log, "pane", shown=bench.session.transcript.shown, cursor=TokenPlace(1, 0), place=TokenPlace(1, 2)
        )
        app = Noted(self.log, "app", available_themes={"likely-dark": None})
        self.pushed: list[tuple[Any, Any]] = []
        app.push_screen = lambda screen, then=None: self.pushed.append((screen, then))
        self.screen: Any = Noted(
            self.log, "screen", talk=bench.session, names=lambda: bench.names, host=host, pane=pane, app=app,
            set_sampling=self.set_sampling, size=SimpleNamespace(width=200),
        )  # fmt: skip

    def set_sampling(self, sampling: Sampling) -> None:
        self.bench.session.sampling = sampling
        moved = {name: value for name, value in sampling.values.items() if value != Sampling().values[name]}
        self.log.append(f"set {dict(sampling.bias)} {moved} {sampling.order_name}")

    def take(self) -> list[str]:
        found, self.log[:] = list(self.log), []
        return [f"  {line.replace(str(self.home), 'HOME')}" for line in found]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    bench = Bench(short())
    bench.say(ASK)
    return Desk(bench, tmp_path)


TYPED = (
    "help", "model", "model other", "adapter", "adapter calm off", "adapter calm only", "adapter calm 0.5",
    "adapter calm", "adapter dir 2", "adapter some dir", "adapter 2", "adapter none off", "adapter new only",
    "steer calm: Be calm. ; Well. | Hurry! @ 12", "steer calm: a | b", "steer calm a | b", "steer calm: a",
    "steer calm: a | ", "steer calm: a | b | c", "reload", "system", "system Be brief.", "new", "sessions",
    "title A name ", "find", "find blue", "mark", "mark here", "marks", "restore", "redo", "redo 1.2",
    "redo temp 0.5 top_k 40", "redo x", "continue", "step", "seed 7", "seed x", "seed", "max 5", "max 0", "max x",
    "preset", "preset wild", "preset none", "save-preset", "save-preset mine", "preset mine", "order llama.cpp",
    "order none", "set temp 0.5", "set temp 1 top_p 1 min_p 0", "set", "ban", "ban glow", "ban xyz", "ban",
    "bias glow 3", "bias glow", "bias glow 101", "bias glow -100", "bias tint -2.5", "bias 3", "allow glow", "allow",
    "allow none", "heat entropy", "heat 3.5", "heat none", "specials", "strategy", "strategy beam 3",
    "strategy plain", "strategy ngram", "strategy draft gone", "strategy draft other", "strategy none", "copy",
    "copy answer", "copy code", "copy tokens", "copy none", "export", "export none", "import none.jsonl", "theme",
    "theme dark", "quit", "unmask", "prefill The", "compare", "text", "nothing", "rr", "zz", "exit", "q", "clear",
    "?", "save", "", "bye now", "redo  0.5 ",
)  # fmt: skip


def test_commands_do_what_was_read(desk: Desk) -> None:
    lines = []
    for text in TYPED:
        slash.run(desk.screen, f"/{text}")
        lines += [f"/{text}", *desk.take()]
        lines += [f"  asks {type(screen).__name__}" for screen, _ in desk.pushed]
        desk.pushed.clear()
    assert_picture("tui/pictures/texts/commands.txt", lines)
    assert desk.bench.session.run is not None and desk.bench.asked[-1].force == "The"  # type: ignore[union-attr]


def test_a_running_answer_is_decoded_otherwise_from_the_next_on(desk: Desk) -> None:
    desk.bench.session.regenerate()
    slash.run(desk.screen, "/strategy beam 3")
    assert desk.take()[-1].endswith("of the sampler only bans and biases act · from the next answer on')")
    assert desk.bench.session.strategy == parse("beam 3")
    with pytest.raises(ParameterError, match="needs none, which is not loaded"):
        decoding.choose(desk.screen, parse("draft none"))


def test_an_answer_begins_with_given_words(desk: Desk) -> None:
    bench = desk.bench
    slash.run(desk.screen, "/prefill So")
    assert bench.session.conversation.leaf is not None and bench.session.conversation.leaf.fork == Fork("n1")
    bench.session.stop()
    bench.session.submit("More")
    bench.session.stop()
    bench.session.change(lambda talk: talk.prune(Fork("n4"), "n5"))
    bench.show()
    desk.screen.pane.shown = bench.session.transcript.shown
    assert bench.session.transcript.shown[-1].message.role == "user"
    slash.run(desk.screen, "/prefill So")
    assert bench.session.conversation.leaf.fork.node == bench.session.transcript.shown[-1].message.last.id
    desk.screen.pane.shown = []
    slash.run(desk.screen, "/prefill So")
    assert desk.take()[-1] == "  screen.hints.say('say something first: /prefill begins the answer to it')"


def test_a_name_is_asked_for(desk: Desk) -> None:
    slash.run(desk.screen, "/title")
    ((_, named),) = desk.pushed
    named(None)
    named("  ")
    assert not desk.take()
    named(" A\x1b name ")
    assert desk.take()[0] == "  screen.rename('A␛ name')"


def test_files_are_written_and_read(desk: Desk, tmp_path: Path) -> None:
    lines = []
    for text in (
        "export markdown",
        "export jsonl talk.jsonl",
        "export html no/such/folder/x.html",
        "import talk.jsonl",
        "export page.html",
    ):
        slash.run(desk.screen, f"/{text}")
        lines += [
            f"/{text}",
            *(line if "open(" not in line else "  screen.open(a conversation)" for line in desk.take()),
        ]
    assert_picture("tui/pictures/texts/commands-files.txt", lines)
    assert (tmp_path / "likely-c.md").exists() and (tmp_path / "talk.jsonl").exists()
    wide = len(f"exported to {tmp_path.absolute() / 'b.md'}")
    for width, asks in ((wide + 1, False), (wide, True)):
        desk.screen.size.width = width
        slash.run(desk.screen, "/export markdown b.md")
        if desk.pushed and type(desk.pushed[-1][0]).__name__ == "Pick":
            desk.pushed.pop()[1]("over")
        assert bool(desk.pushed) is asks and bool(desk.take()) is not asks
    assert [type(screen).__name__ for screen, _ in desk.pushed] == ["Read"]


def test_commands_of_a_diffusion_model(tmp_path: Path) -> None:
    bench = Bench(ScriptedDiffusion())
    bench.say(ASK)
    desk = Desk(bench, tmp_path)
    lines = []
    for text in (
        "strategy beam 3",
        "max 1",
        "max 5",
        "max 0",
        "unmask",
        "unmask steps 4 by entropy",
        "unmask off",
        "unmask x",
    ):
        slash.run(desk.screen, f"/{text}")
        lines += [f"/{text}", *desk.take()]
    stepping.turn(desk.screen)
    lines += desk.take()
    assert_picture("tui/pictures/texts/commands-diffusion.txt", lines)
    assert bench.session.unmasking == Unmasking()
    assert set(diffusing.options()) >= {"steps", "by", "block", "threshold"} and diffusing.options()["steps"] == 0


def test_commands_are_completed(desk: Desk) -> None:
    desk.bench.session.sampling = Sampling().banned(desk.bench.ids(" glow")[0])
    lines = []
    for text in (
        "/",
        "/s",
        "/ex",
        "/preset ",
        "/preset w",
        "/order ",
        "/set t",
        "/heat ",
        "/model ",
        "/adapter ",
        "/allow ",
        "/strategy b",
        "/copy ",
        "/export ",
        "/theme ",
        "/unmask s",
        "/none ",
        "/help x",
        "/zzz",
        "/ark",
    ):
        lines += [f"{text} -> {each}" for each in slash.suggest(desk.screen, text)]
    assert_picture("tui/pictures/texts/completions.txt", lines)
    assert slash.usage("help") == "/help" and slash.usage("seed") == "/seed n"
    assert [slash.may_end(name) for name in ("help", "seed", "title", "compare")] == [True, False, True, True]
    lines = slash.help_text().split("\n")
    assert (
        len(lines) == len(slash.table())
        and len({line.index(slash.table()[name].about) for name, line in zip(slash.table(), lines, strict=True)}) == 1
    )


def test_step_mode_is_entered_and_left(desk: Desk) -> None:
    bench = desk.bench
    bench.session.facts = None
    stepping.turn(desk.screen)
    assert desk.take() == ["  screen.begun(False, 'step mode needs a message to answer, and a model')"]
    bench.session.facts = bench.facts
    stepping.peeked(desk.screen)
    assert not desk.take()
    stepping.turn(desk.screen)
    assert desk.take() == [
        "  screen.begun(True, 'step mode needs a message to answer, and a model')",
        f"  screen.hints.say({stepping.NEWS!r})", "  screen.inspector.open()",
    ]  # fmt: skip
    bench.hear()
    assert bench.session.peek is not None
    panel = desk.screen.__dict__.setdefault(
        "inspector", Noted(desk.log, "inspector", candidates=Noted(desk.log, "candidates", picked=9))
    )
    stepping.peeked(desk.screen)
    assert panel.candidates.picked == 0 and desk.take() == [
        "  candidates.focus()",
        f"  screen.hints.say({stepping.NEWS!r})",
    ]
    stepping.turn(desk.screen)
    assert not bench.session.stepping
    assert desk.take() == [
        "  screen.hints.say('')",
        "  screen.reshow()",
        "  screen.save()",
        "  screen.composer.focus()",
    ]


class Panels(Steering):
    """The part of a chat that hears its panels, with nothing around it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.pane, self.inspector, self.diffusion = (
            Noted(desk.log, name) for name in ("pane", "inspector", "diffusion")
        )  # type: ignore[assignment]

    @property
    def talk(self) -> Any:
        return self.desk.bench.session

    @property
    def hints(self) -> Any:
        return Noted(self.desk.log, "hints")

    def names(self) -> Any:
        return self.desk.bench.names

    def status(self) -> None:
        self.desk.log.append("status")

    def begun(self, begun: bool, why_not: str = "") -> None:
        self.desk.log.append(f"begun {begun} {why_not}")

    def command(self, text: str) -> None:
        self.desk.log.append(text)

    def set_sampling(self, sampling: Sampling) -> None:
        self.desk.log.append(f"sampling {sampling.preset_name}")


def test_panels_are_heard(desk: Desk) -> None:
    panels, bench = Panels(desk), desk.bench
    event = lambda **facts: SimpleNamespace(**facts)  # type: ignore[arg-type]  # noqa: E731
    sky = bench.ids(" sky")[0]
    panels.pane.place = TokenPlace(1, 2)  # type: ignore[misc]
    panels.on_transcript_pane_banned(event(token=3))  # type: ignore[arg-type]
    panels.on_candidates_picked(event(token=sky, verb="branch"))  # type: ignore[arg-type]
    panels.on_candidates_picked(event(token=sky, verb="force"))  # type: ignore[arg-type]
    panels.pane.place = None  # type: ignore[misc]
    panels.on_candidates_picked(event(token=sky, verb="branch"))  # type: ignore[arg-type]
    panels.on_entropy_row_pointed(event(token=4))  # type: ignore[arg-type]
    panels.pane.place = TokenPlace(1, 2)  # type: ignore[misc]
    panels.on_entropy_row_pointed(event(token=4))  # type: ignore[arg-type]
    panels.on_sliders_changed(event(sampling=Sampling().preset("wild")))  # type: ignore[arg-type]
    panels.on_sliders_strategy_chosen(event(strategy="beam 3"))  # type: ignore[arg-type]
    panels.on_diffusion_pane_cell_changed(event(node="n2", step=1, position=2, token=3))  # type: ignore[arg-type]
    panels.on_diffusion_pane_answer_turned(event(fork=Fork("n1"), option="n2"))  # type: ignore[arg-type]
    panels.on_diffusion_pane_step_looked()
    panels.on_tree_pane_checked_out(event(fork=Fork("n1"), option="n2"))  # type: ignore[arg-type]
    panels.on_tree_pane_put_away(event(fork=Fork("n1"), option="n2"))  # type: ignore[arg-type]
    panels.on_tree_pane_brought_back()
    bench.session.regenerate()
    panels.on_candidates_picked(event(token=sky, verb="force"))  # type: ignore[arg-type]
    assert bench.session.run is not None and list(bench.session.run.control.forced) == [sky]
    bench.session.step_on()
    bench.hear()
    panels.on_candidates_picked(event(token=sky, verb="force"))  # type: ignore[arg-type]
    panels.on_candidates_picked(event(token=sky, verb="branch"))  # type: ignore[arg-type]
    assert bench.session.run is not None
    assert_picture("tui/pictures/texts/panels.txt", desk.take())


def test_the_palette_offers_what_applies(desk: Desk) -> None:
    bench, lines = desk.bench, []

    def entry() -> list[str]:
        return [f"  {name}: {about}" for name, about, _ in commands.offered(desk.screen) if not name.startswith("/")]

    lines += ["an answer", *entry()]
    bench.session.sampling = Sampling().preset("wild").banned(bench.ids(" glow")[0]).biased(bench.ids(" tint")[0], 1.0)
    bench.session.transcript.heat = "rank"
    bench.session.conversation = bench.session.conversation.mark("n1", 0, "x")
    bench.session.branch(TokenPlace(1, 1))
    lines += ["while it runs", *entry()]
    bench.hear()
    bench.session.change(lambda talk: talk.prune(Fork("n2", 1), "n3"))
    bench.show()
    desk.screen.host.store, desk.screen.host.engine.current = object(), None
    desk.screen.pane.cursor = None
    lines += ["with what was put away, no model", *entry()]
    empty = Desk(Bench(short()), desk.home)
    desk.screen = empty.screen
    lines += ["nothing said", *entry()]
    assert_picture("tui/pictures/texts/palette.txt", lines)
    for name, _, do in commands.offered(empty.screen):
        if name.startswith(("sample", "heat: E", "heat: F", "/help", "/seed", "model", "view: R")):
            do()
            assert empty.take(), name


def test_keys_are_those_of_what_has_the_focus() -> None:
    shown = [commands.keys(kind.__new__(kind)) for kind in commands.KEYS]
    assert shown == list(commands.KEYS.values())
    assert commands.keys(None) == commands.ELSEWHERE and commands.keys(None, diffuses=True) == commands.DIFFUSES
