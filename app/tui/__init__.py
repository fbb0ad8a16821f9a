"""The full-screen terminal program, built with Textual. It never imports mlx: models run in a worker's thread.

Read first: app.py. Uses: jobs, lessons, results, serve, store, tools, words.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.app.jobs.local import local_models
from likely.engine.base.files.home import home as data_home

if TYPE_CHECKING:
    from likely.app.jobs.jobs import ModelProvider
    from likely.app.lessons.tutor import Tutor
    from likely.app.results.training_kind import TrainingConfig
    from likely.app.serve.watch.address import ServerAddress
    from likely.app.tui.app import LikelyApp
    from likely.app.tui.chat.start import Start

PATIENCE_S = 0.3  # a wait that needs no words


def run(
    model: str | None = None,
    resume: str | None = None,
    home: Path | None = None,
    adapters: Sequence[tuple[str, float]] = (),
    start: "Start | None" = None,
    activation_bits: int | None = None,
    context: int | None = None,
) -> int:
    """Open the chat with a model (None: the default) and, if named, a conversation. Gives the exit code.

    `adapters` are directories and weights, to be put on the model as soon as it is there. `start` is what conversations
    begin with; `activation_bits` are of all models that are talked to, and so is the bound on their `context`.

    Says on the way out how to come back to the conversation that was open.
    """
    models = partial(local_models, activation_bits, context)
    app = _begun(home, models, model=model or "", resume=resume or "", adapters=adapters, start=start)
    return _ended(app, app.run())


def tune(config: "TrainingConfig", resume: bool = False, home: Path | None = None) -> int:
    """Open a training and watch it. Gives the exit code: 130 where it was stopped, as for the command without it."""
    model = getattr(config, "model", "")  # of a pretraining there is none
    app = _begun(home, model=model, tune=(config, resume))
    app.run()
    return _ended(app)


def ladder(path: Path, home: Path | None = None) -> int:
    """Open the law of a table of runs, or of the folder that has one. Gives the exit code."""
    app = _begun(home, ladder=path)
    app.run()
    return _ended(app)


def prove(name: str, home: Path | None = None) -> int:
    """Open the proof of a law, or of the first of a page; the first of all where none is named. Gives the exit code."""
    app = _begun(home, proof=name)
    app.run()
    return _ended(app)


def learn(tutor: "Tutor", model: str | None = None, home: Path | None = None) -> int:
    """Open a course. Gives the exit code."""
    app = _begun(home, model=model or "", tutor=tutor)
    app.run()
    return _ended(app)


def watch(server: "ServerAddress", home: Path | None = None) -> int:
    """Watch the requests of a server. Gives the exit code."""
    app = _begun(home, server=server)
    app.run()
    return _ended(app)


def _begun(home: Path | None, models: "Callable[[], ModelProvider]" = local_models, **options: Any) -> "LikelyApp":
    """The application with its options; light or dark as the terminal's ground is, where nobody has said which."""
    gc.disable()  # what modules make stays: searching it for garbage took a tenth of the time to the first paint
    try:
        from likely.app.tui.app import LikelyApp
    finally:
        gc.freeze()
        gc.enable()

    environ, typed = os.environ.copy(), b""
    if "LIKELY_THEME" not in environ and sys.stdin.isatty() and sys.stderr.isatty():
        from likely.app.tui.base.input.terminal_codes import ground

        light, typed = ground(sys.stdin.fileno(), sys.stderr.fileno())
        if light is not None:
            environ["LIKELY_THEME"] = "light" if light else "dark"
    app = LikelyApp(models, home or data_home(), environ=environ, **options)
    app.typed = typed.decode(errors="replace")
    return app


def _ended(app: "LikelyApp", ending: str | None = None) -> int:
    """Keep what is under way, say what is lost, or how to come back to the conversation of `ending`; gives the exit
    code."""
    code, keeper = app.return_code or _finished(app), app.keeper
    if keeper is not None and keeper.unsaved:
        print(f"likely: {keeper.trouble}: what was said is lost", file=sys.stderr)
        return code or 1
    if ending:
        print(f"likely chat --resume {ending}")
    return code


def _finished(app: "LikelyApp") -> int:
    """Wait until a run that was under way has saved, and say where it is and how to go on; gives the exit code."""
    training = app.training
    if training is None:
        return 0
    training.drain()
    if training.busy and not training.wait(PATIENCE_S):
        print("finishing the step, then saving…", file=sys.stderr)
        training.wait()
    code, lines = training.parting()
    for line in lines:
        print(line, file=sys.stderr)
    return code
