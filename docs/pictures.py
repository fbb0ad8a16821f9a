"""Draws the README's pictures: real screens on the real SmolLM2, with fixed seeds.

python docs/pictures.py            writes docs/*.svg and, where resvg-py is installed, docs/*.png
"""

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
os.environ.pop("NO_COLOR", None)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.effect import WORDS, rule
from likely.app.local import local_models
from likely.app.tui.app import LikelyApp
from likely.app.tui.base.layout import TokenPlace
from likely.app.tui.views.inside import InsideScreen
from likely.app.tui.views.tune import TuneScreen
from likely.engine.adapters.config import configure
from likely.engine.prompt import Prompt
from tests.tui.conftest import Stage

FOLDER = Path(__file__).parent
FONT = "DejaVu Sans Mono"
ASK = "Why is the sky blue?"


async def chat(stage: Stage) -> None:
    """An answer with two branches, the cursor on a token that could have been another."""
    await stage.ask(ASK)
    stage.chat.pane.view.focus()
    for place, number in ((TokenPlace(1, 10), "2"), (TokenPlace(1, 24), "3")):
        stage.chat.pane.view.move_to(place)
        nodes = len(stage.chat.talk.conversation.nodes)
        await stage.pilot.press(number)
        await stage.until(lambda n=nodes: stage.ended and len(stage.chat.talk.conversation.nodes) > n)
    fork = stage.chat.talk.conversation.forks()[0]
    stage.chat.talk.change(lambda talk: talk.choose(fork, None))
    stage.chat.reshow()
    stage.chat.pane.view.move_to(surprising(stage))


def surprising(stage: Stage) -> TokenPlace:
    """A token with several candidates that were cut and several that were not."""
    steps = stage.chat.talk.transcript.shown[1].steps
    found = [i for i, step in enumerate(steps) if step.rank and 2 <= step.rank <= 6 and 5 <= step.kept <= 8]
    return TokenPlace(1, found[len(found) // 2] if found else len(steps) // 2)


async def compare(stage: Stage) -> None:
    """Three columns."""
    await stage.pilot.press("f3")
    screen = stage.app.screen
    for number, column in enumerate(screen.columns):  # type: ignore[attr-defined]
        column.talk.new_seed = lambda number=number: number % 2
    screen.prompt.take(ASK)  # type: ignore[attr-defined]
    await stage.pilot.press("enter")
    await stage.until(lambda: all(c.talk.transcript.shown and not c.talk.running for c in screen.columns))  # type: ignore[attr-defined]


async def text(stage: Stage) -> None:
    """A text that is being written."""
    await stage.pilot.press("f4")
    screen = stage.app.screen
    screen.buffer.insert("The sky looks blue because air molecules scatter short wavelengths")  # type: ignore[attr-defined]
    await stage.until(lambda: screen.next_logits is not None and screen.steps)  # type: ignore[attr-defined]


async def inside(stage: Stage) -> None:
    """What each layer would say at every word of a sentence."""
    await stage.pilot.press("f6")
    screen = stage.app.screen
    assert isinstance(screen, InsideScreen)
    screen.read(Prompt(parts=("When the sun sets over the sea, the sky turns red, and the capital of France is",)))
    await stage.until(lambda: screen.reading.lenses and screen.reading.opened and not screen._flying)


async def tune(stage: Stage) -> None:
    """A rule of answering, learned from 150 rows in 40 steps; after 30 of them."""
    folder = stage.app.home
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(rule(word)) + "\n" for word in WORDS), encoding="utf-8")
    await stage.pilot.press("f5")
    screen = stage.app.screen
    assert isinstance(screen, TuneScreen)
    values = {"model": "smollm2", "steps": 40, "layers": 10, "rate": 1e-3, "length": 64, "eval_every": 5}
    screen.start(configure({"data": str(rows), "out": str(folder / "tagger"), **values}), False)
    await stage.until(lambda: screen.course.step >= 30)
    await stage.pilot.press("space")
    screen.try_out("Tag: rocket")
    await stage.until(lambda: screen.watching.answers.drawn and not screen.watching.pending)
    screen.watching.look()
    await stage.until(lambda: not screen.watching.pending)
    await stage.pilot.press("space")
    await stage.until(lambda: screen.course.step >= 31)


PICTURES: dict[str, tuple[Callable[[Stage], Awaitable[None]], tuple[int, int], str]] = {
    "chat": (chat, (120, 40), "dark"),
    "chat-80x24": (chat, (80, 24), "dark"),
    "chat-light": (chat, (120, 40), "light"),
    "compare": (compare, (120, 30), "dark"),
    "text": (text, (120, 40), "dark"),
    "inside": (inside, (120, 40), "dark"),
    "tune": (tune, (120, 40), "dark"),
}


async def draw(name: str) -> None:
    """Draw one picture as SVG and PNG."""
    scene, size, theme = PICTURES[name]
    with tempfile.TemporaryDirectory() as home:
        app = LikelyApp(local_models, Path(home), model="smollm2", environ={"LIKELY_THEME": theme})
        async with app.run_test(size=size) as pilot:
            stage = Stage(app, pilot, None, None, 0.1, 1200)
            await stage.until(lambda: app.session is not None and app.engine.current is not None)
            stage.chat.talk.new_seed = lambda: 0
            await scene(stage)
            await pilot.pause(0.2)
            svg = app.export_screenshot(title="likely")
        if app.training is not None and app.training.busy:  # a thread that is cut off in a step aborts the process
            app.training.close()
            app.training.wait()
    # with the fonts of the web the columns drift where they are not installed
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", FONT)
    svg = re.sub(r"terminal-\d+", "terminal", svg)  # the same file every time
    (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")
    try:
        import resvg_py
    except ImportError:
        return
    png = resvg_py.svg_to_bytes(svg_string=svg, font_family=FONT, monospace_family=FONT)
    (FOLDER / f"{name}.png").write_bytes(bytes(png))


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        asyncio.run(draw(name))
