"""The driver of screen tests: keys go in; what a person has of them comes out.

    def test_a_message_is_answered(screen: Screen) -> None:
        screen.type("Why is the sky blue?")
        screen.press("enter")
        assert "Rayleigh" in screen.text

`screen` is a fixture, a chat of 120 x 40 with one scripted model; `with Screen(tmp_path, size=(80, 24)) as screen` is
another one. It is the whole program, without a thread and without waiting:

in      `press("ctrl+p", "down")` keys one after another, each after all that the one before has brought about
        `burst("ctrl+p", "down", "enter")` the same as they come over a slow line: all at once
        `do("Why")` the key that the screen itself names for it; `key("Why")` is that key
        `type("text")`, `say("text", ...)` and enter, `paste("text")`, `click("Words on the screen")`, `resize(60, 20)`,
        `go("ladders")`
time    `wait(seconds)` moves the clock, which stands still otherwise: a press takes `PRESS_S` of it
        `hold(after=5)` lets the models draw five tokens more (or a training make five steps), `release()` all the rest
out     `text`, what is on the screen; `lines`; `ink("Words")`, how they are drawn, and `inked(ink)`, what is drawn so
        `kept`, the conversations on disk, newest first; `said`, the messages of the first; `clipboard`;
        `folder`, where the program was started, and `home`, the folder it keeps its own things in
        `running`, and `left`, what the program gave when it was left

What the model says is the test's: `ScriptedEngine(scripts=["the first answer", "the second"])` has answers in this
order, with a distribution behind every token; see `tests.support.model`. So are the trainer, the evaluator, and a
server that is watched.

Whatever ends the program by a mistake of ours is raised from the press that did it. A server that is started from here
is a process of its own, which no clock here moves: it is tested in a terminal.
"""

import os
import re
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, chdir
from itertools import count
from pathlib import Path
from signal import Signals, raise_signal
from typing import Any, Self
from unittest.mock import patch

from textual.css.model import RuleSet
from textual.css.parse import parse
from textual.css.tokenizer import Token
from textual.css.types import CSSLocation
from textual.driver import Driver

from likely.app.jobs.worker import Executor, Worker
from likely.app.lessons import course as courses
from likely.app.lessons.tutor import Tutor
from likely.app.serve.watch.address import ServerAddress
from likely.app.store.store import Store
from likely.app.tui.app import LikelyApp
from likely.app.tui.base.view_table import VIEWS
from likely.app.tui.chat.start import Start
from likely.engine.chat.conversation import Conversation
from likely.engine.weights.adapters.config import Config
from tests.support.clock import MovedLoop
from tests.support.evaluator import ScriptedEvaluator
from tests.support.model import ScriptedEngine, ScriptedShop
from tests.support.server import ScriptedServer
from tests.support.terminal import Terminal
from tests.support.trainer import ScriptedTrainer
from tests.support.worker import Pace, TurnedWorker

PRESS_S = 0.1  # of the clock that moves, until what a key did is seen
FRAME_S = 1 / 60  # for each key of a burst
LEAVING_S = 10.0
BEGAN = 1e9  # of the clock on the wall, in seconds since 1970
MOST = 400  # frames until what was begun has ended
NAMES = {"⏎": "enter", "↑": "up", "↓": "down", "←": "left", "→": "right"}  # of keys that are a sign
TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}  # what it says of itself
CLOCKS = tuple(
    f"likely.app.tui.{at}" for at in ("views.chatting.chat", "views.runs", "views.watch", "widgets.inspector")
)


class Screen:
    """A running program, from the first paint to its end."""

    def __init__(
        self,
        folder: Path,
        *models: ScriptedEngine,
        size: tuple[int, int] = (120, 40),
        start: Start | None = None,
        resume: str = "",
        tune: Config | tuple[Config, bool] | None = None,
        ladder: Path | None = None,
        course: Path | None = None,
        proof: str | None = None,
        trainer: ScriptedTrainer | None = None,
        evaluator: ScriptedEvaluator | None = None,
        shop: ScriptedShop | None = None,
        server: ScriptedServer | None = None,
        typed: Sequence[str | Signals] = "",
        turns: int = 0,
        environ: Mapping[str, str] | None = None,
        mac: bool = False,
    ) -> None:
        """The first of `models` is loaded, the others can be; or those of a `shop`. A `server` is
        watched from the beginning. `typed` are keys that are pressed, and signals that come, while the program starts,
        all at once, so many `turns` of its loop after the first paint. `environ` is added to what a terminal of all
        colours says; on a `mac` some keys are others. A `course`
        is a folder of chapters. The rest is what the application is begun with."""
        self.folder, self.home = folder, folder / "home"
        self.models = models or (ScriptedEngine(),)
        self._size, self._environ, self._early = size, dict(environ or {}), deque(typed)
        self._turns, self._mac = turns, mac
        self._shop, self._server = shop or ScriptedShop(*self.models), server
        self._pace = Pace()
        self._workers: list[TurnedWorker] = []
        self._loop = MovedLoop(self._writes, self._press_early)
        self._around = ExitStack()
        self._begin: Callable[[], Begun] = lambda: Begun(
            lambda: self._shop,
            self.home,
            resume=resume,
            trainer=lambda: trainer or ScriptedTrainer(),
            evaluator=lambda: evaluator or ScriptedEvaluator(),
            tune=(tune, False) if isinstance(tune, Config) else tune,
            ladder=ladder,
            tutor=None if course is None else Tutor(courses.read(course), self.home),
            proof=proof,
            server=None if server is None else ServerAddress.read("127.0.0.1:8080", self.home),
            start=start or Start(seed=0),
            environ=self._environ,
            clock=lambda: BEGAN + self._loop.time(),
            worker=self._worker,
        )

    # -- in ----------------------------------------------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Press keys one after another: a name ("enter", "ctrl+p", "shift+left"), or a character."""
        for key in keys:
            self.burst(key)

    def burst(self, *keys: str) -> None:
        """Press keys so fast that the program has seen none of them before the last."""
        for key in keys:
            self.terminal.press(key)
        self.wait(PRESS_S + FRAME_S * len(keys))

    def key(self, does: str, arrow: int = -1) -> str:
        """The key that the screen names for something: `^g Sampler` in its last line, `⏎ do it` in a palette, a key and
        what it is for on the empty chat. Of several arrows it is the last."""
        named: list[str] = [
            each for line in reversed(self.lines) for each in re.findall(rf"(\S+) +{re.escape(does)}", line)
        ]
        assert named, f"no key does {does!r}:\n{self.text}"
        name = named[0].lstrip("(")
        return NAMES.get(name[arrow], name.replace("^", "ctrl+"))

    def do(self, *does: str) -> None:
        """Press the keys that the screen names for what they do, each as the one before has left the screen."""
        for each in does:
            self.press(self.key(each))

    def type(self, text: str) -> None:
        """Write a text, a key for each character, as fast as it goes."""
        self.burst(*text)

    def say(self, *texts: str) -> str:
        """Write texts one after another, each with enter; gives what is said at the bottom."""
        for text in texts:
            self.type(text)
            self.press("enter")
        return self.foot

    def paste(self, text: str) -> None:
        self.terminal.paste(text)
        self.wait(PRESS_S)

    def click(self, words: str) -> None:
        """Click on the first place where these words are seen."""
        assert self.terminal.click(words), f"{words!r} is not on the screen:\n{self.text}"
        self.wait(PRESS_S)

    def go(self, view: str) -> None:
        """To another view, by its key; by the palette where it has none."""
        key = VIEWS[view].key
        self.burst(*((key,) if key else ("ctrl+p", *f"view: {view}", "enter")))

    def resize(self, width: int, height: int) -> None:
        self.terminal.resize(width, height)
        self.wait(PRESS_S)

    # -- time --------------------------------------------------------------------------------------------------------

    def wait(self, seconds: float = 1.0) -> None:
        """Move the clock so far, and on until what was asked of the models has come (unless it is held)."""
        for _ in range(MOST):
            self._move(seconds)
            worked = [worker.work() for worker in self._workers]
            if not self.running or not any(worked):
                return
            seconds = PRESS_S
        raise AssertionError(f"it does not come to an end:\n{self.text}")

    def hold(self, after: int = 0) -> None:
        """Let no more than so many tokens, passes or steps come from now on."""
        self._pace.left = after

    def release(self) -> None:
        """Let all come that was held."""
        self._pace.left = None
        self.wait(PRESS_S)

    # -- out ---------------------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        return self.terminal.text

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @property
    def foot(self) -> str:
        """What is said at the bottom, in as many rows as it takes; the last line of what has no room for news."""
        open_ = self.app.screen_stack
        rows = [hints.region.height for hints in open_[-1].query("Hints")] if open_ else []
        return " ".join(line.strip() for line in self.lines[-max(rows, default=1) :])

    def ink(self, words: str) -> str:
        """How the first place is drawn where these words are seen: inks can be compared."""
        own = self.terminal.ink(words)
        assert own is not None, f"{words!r} is not on the screen:\n{self.text}"
        return own

    def inked(self, ink: str) -> list[str]:
        """All that is drawn so, from the top."""
        return self.terminal.inked(ink)

    @property
    def clipboard(self) -> str:
        """What was copied through the terminal last."""
        return self.terminal.clipboard

    @property
    def kept(self) -> list[Conversation]:
        """The conversations on disk, the one that was changed last first."""
        store = Store(self.home / "sessions.db")
        try:
            return [store.load(summary.id) for summary in store.sessions()]
        finally:
            store.close()

    @property
    def said(self) -> list[str]:
        """The messages of the one that was changed last."""
        return [message.text for message in self.kept[0].messages()]

    @property
    def running(self) -> bool:
        return not self._task.done()

    @property
    def left(self) -> str | None:
        """What the program gave at its end: the conversation to come back to."""
        return self._task.result() if self._task.done() else None

    # -- a program's life --------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        around, environ = self._around, TERMINAL | self._environ
        self.home.mkdir(parents=True, exist_ok=True)
        around.enter_context(chdir(self.folder))
        around.enter_context(patch.dict(os.environ, environ))
        for name in ("NO_COLOR", "FORCE_COLOR", "TEXTUAL_COLOR_SYSTEM", "TMUX", "DISPLAY", "WAYLAND_DISPLAY"):
            if name not in environ:
                os.environ.pop(name, None)
        around.enter_context(patch("likely.app.tui.base.keys.MAC", self._mac))
        around.enter_context(patch("textual._time.get_time", self._loop.time))
        around.enter_context(
            patch("likely.app.jobs.jobs.gc")
        )  # a collection looks at all that was ever loaded for other tests
        around.enter_context(patch("textual.css.stylesheet.parse", READ_ONCE))
        around.enter_context(patch("textual.css.model.RuleSet.__hash__", object.__hash__))  # in C
        for module in CLOCKS:
            around.enter_context(patch(f"{module}.monotonic", self._loop.time))
        for jobs in ("likely.app.jobs.jobs", "likely.app.jobs.calls"):
            ticks = count()
            around.enter_context(patch(f"{jobs}.perf_counter", lambda ticks=ticks: next(ticks) / 100))
        self.app = self._begin()
        self._task = self._loop.create_task(self.app.run_async(size=self._size))
        self.wait(2 * PRESS_S)
        return self

    def _press_early(self) -> None:
        """Press what is written while the program starts, when it is time."""
        if self._early and self.app.terminal is not None and self.app.terminal.painted:
            self._turns -= 1
            while self._early and self._turns < 0:
                early = self._early.popleft()
                if isinstance(early, Signals):
                    raise_signal(early)
                else:
                    self.terminal.press(early)

    def __exit__(self, *error: object) -> None:
        try:
            if self.running:
                self.app.exit()
                self._loop.move(LEAVING_S)
                assert self._task.done(), "the program does not end"
        finally:
            self._loop.close()
            self._around.close()

    def _move(self, seconds: float) -> None:
        out = sys.stdout, sys.stderr  # which the program takes for itself while it runs
        try:
            self._loop.move(seconds)
        finally:
            if self.running:
                sys.stdout, sys.stderr = out
        if (fault := self.app.fault) is not None:
            raise fault

    def _worker(self, executor: Callable[[], Executor], name: str) -> Worker:
        watched = self._server if name == "watching" else None
        self._workers.append(TurnedWorker(executor if watched is None else lambda: watched, self._pace))
        return self._workers[-1]

    def _writes(self) -> bool:
        """Whether a conversation is on its way to the disk."""
        return self.app.keeper is not None and not self.app.keeper.idle

    @property
    def terminal(self) -> Terminal:
        terminal = self.app.terminal
        assert terminal is not None, "the program has not begun"
        return terminal


class Begun(LikelyApp):
    """The application on a terminal of ours."""

    terminal: Terminal | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # a script stands for no more than it is asked for

    def get_driver_class(self) -> type[Driver]:
        begun = self

        class Own(Terminal):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                begun.terminal = self

        return Own

    @property
    def fault(self) -> Exception | None:
        """The error that ended it."""
        return self._exception


class ReadOnce:
    """A parser of style sheets: what is the same was read before."""

    def __init__(self) -> None:
        self._rules: dict[tuple[object, ...], list[RuleSet]] = {}
        self._names: dict[frozenset[object], frozenset[object]] = {}
        self._last: tuple[dict[str, list[Token]], frozenset[object]] = {}, frozenset()

    def __call__(
        self, scope: str, css: str, at: CSSLocation, *, variable_tokens: dict[str, list[Token]], **more: Any
    ) -> list[RuleSet]:
        if variable_tokens is not self._last[0]:
            names = frozenset((name, tuple(tokens)) for name, tokens in variable_tokens.items())
            self._last = variable_tokens, self._names.setdefault(names, names)
        known = scope, css, at, self._last[1], *more.values()
        if known not in self._rules:
            self._rules[known] = list(parse(scope, css, at, variable_tokens=variable_tokens, **more))
        return self._rules[known]


READ_ONCE = ReadOnce()
