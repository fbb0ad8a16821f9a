"""Pictures of the README: real screens on the real SmolLM2, with fixed seeds, by keys.

python docs/pictures.py [name ...]    writes docs/*.svg and, where resvg-py is installed, docs/*.png
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.effect import WORDS, rule
from likely.app.jobs.local_trainer import LocalTrainer
from likely.app.jobs.model_provider import LocalModelProvider
from likely.engine.weights.adapters.config import configure
from tests.support.screen import Screen

FOLDER = Path(__file__).parent
MODEL = "smollm2"
FONT, TITLE = "DejaVu Sans Mono", "DejaVu Sans"
ASK = "Why is the sky blue?"
SENTENCE = "When the sun sets over the sea, the sky turns red, and the capital of France is"


class Provider(LocalModelProvider):
    """The models of this machine, of which MODEL is taken, whichever was chosen last here."""

    def choose(self, prefer: Sequence[str]) -> str:
        return super().choose((MODEL,))


def until(screen: Screen, seen: Callable[[], bool]) -> None:
    """Wait for what threads of the program's bring about: weights that are read, above all."""
    for _ in range(3000):
        if seen():
            return
        time.sleep(0.02)
        screen.wait(0.1)
    raise TimeoutError(screen.text)


def chat(screen: Screen) -> None:
    """An answer with two branches, the cursor on a token that could have been another."""
    screen.say("/max 110", ASK)
    screen.wait(8)
    for back, option in ((70, "2"), (60, "3")):
        screen.press("tab", *["left"] * back, option)
        screen.wait(8)
    screen.press("tab", *["left"] * 40)
    screen.wait(2)


def why(screen: Screen) -> None:
    """Why an answer has the word that it has, and not another."""
    screen.say("/max 60", ASK)
    screen.wait(8)
    screen.press("tab", *["left"] * 30, "w")
    until(screen, lambda: "rest <" in screen.text)


def palette(screen: Screen) -> None:
    """What can be done, by a person's words."""
    screen.press("ctrl+p")
    screen.type("several answers")


def compare(screen: Screen) -> None:
    """Settings side by side, and what each thinks of the others' answers."""
    screen.say("/max 60")
    screen.press("f3")
    screen.say(ASK)
    until(screen, lambda: "CROSS-SURPRISAL" in screen.text)


def text(screen: Screen) -> None:
    """A text that is being written."""
    screen.press("f4")
    screen.type("The sky looks blue because air molecules scatter short wavelengths")
    screen.wait(5)


def inside(screen: Screen) -> None:
    """What each layer would say at every word of a sentence."""
    screen.press("f6", "n")
    screen.type(SENTENCE)
    screen.press("enter")
    until(screen, lambda: "W_U" in screen.text)
    screen.wait(5)


def tune(screen: Screen) -> None:
    """A rule of answering, learned from 150 rows in 40 steps, and what it has changed."""
    until(screen, lambda: "ended" in screen.lines[0])
    screen.wait(3)


PICTURES: dict[str, tuple[Callable[[Screen], None], tuple[int, int], str]] = {
    "chat": (chat, (120, 40), "dark"),
    "chat-80x24": (chat, (80, 24), "dark"),
    "chat-light": (chat, (120, 40), "light"),
    "why": (why, (120, 40), "dark"),
    "why-light": (why, (160, 50), "light"),
    "compare": (compare, (160, 50), "dark"),
    "palette": (palette, (120, 40), "dark"),
    "text": (text, (120, 40), "dark"),
    "inside": (inside, (120, 40), "dark"),
    "tune": (tune, (120, 40), "dark"),
}


def draw(name: str) -> None:
    """Draw one picture as SVG and PNG."""
    scene, size, theme = PICTURES[name]
    with tempfile.TemporaryDirectory() as at:
        folder, more = Path(at), dict[str, Any]()
        if scene is tune:
            rows = folder / "rows.jsonl"
            rows.write_text("".join(json.dumps(rule(word)) + "\n" for word in WORDS), encoding="utf-8")
            values = {"steps": 40, "layers": 10, "rate": 1e-3, "length": 64, "eval_every": 5, "batch": 4, "rank": 8}
            config = configure({"data": str(rows), "out": str(folder / "tagger"), "model": MODEL, **values})
            more = {"tune": config, "trainer": LocalTrainer()}
        shop: Any = Provider()
        with Screen(folder, shop=shop, size=size, environ={"LIKELY_THEME": theme}, **more) as screen:
            until(screen, lambda: "loading" not in screen.lines[0])
            scene(screen)
            svg = screen.app.export_screenshot(title="likely")
    # with the fonts of the web the columns drift where they are not installed
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", FONT)
    svg = svg.replace("font-family: arial", f"font-family: arial, {TITLE}")
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
        draw(name)
