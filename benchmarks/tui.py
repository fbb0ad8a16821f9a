"""What the screen costs: its thread's time a batch of tokens, with every panel and bare, and of Markdown rendered and
raw; until the first paint; the opening and the scrolling of a long conversation; and the speed of an answer beside
`likely run`'s.

Headless at 120x40, with the encoding of escape sequences that a terminal would get. Batches of 4 tokens are 120 tokens
a second at 30 frames. What is compared takes turns in one run, for these machines stall at random. One JSON line.

    python benchmarks/tui.py [--batches 200] [--starts 5] [--answers 20]

`--answers` draws from a real model (SmolLM2, in the model store).
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TERM", "xterm-256color")
os.environ.setdefault("COLORTERM", "truecolor")
sys.path.insert(0, str(Path(__file__).parents[1]))

from textual.app import App, ComposeResult
from textual.drivers.headless_driver import HeadlessDriver

from likely.app.jobs import requests as r
from likely.app.jobs.local import local_models
from likely.app.store.store import Store
from likely.app.tui.app import LikelyApp
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.text.block import MessageBlock, ShownToken
from likely.app.tui.base.theme import DARK, GLYPHS, look
from likely.app.tui.chat.live_run import LiveRun
from likely.app.tui.views.chatting import chat as chat_view
from likely.app.tui.views.chatting.chat import ChatScreen
from likely.app.tui.widgets import inspector
from likely.app.tui.widgets.transcript.token_view import TokenView
from likely.app.words.heat import heat_level
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.transforms import run, start

ROOT = Path(__file__).parents[1]
BATCH = 4
FRAME_S = 1 / 30
VOCAB = 49_152
WORDS = ("the", "sky", "looks", "blue", "because", "air", "molecules", "scatter", "short", "wavelengths", "of", "light")


def steps(count: int = 64) -> Sequence[TokenStep]:
    """Different steps with distributions over a vocabulary of a real size."""
    rng = np.random.default_rng(0)
    recipe = Sampling().recipe
    tokens = []
    for i in range(count):
        raw = rng.normal(0, 2.2, VOCAB).astype(np.float32)
        raw[: 50 + i] += rng.exponential(3, 50 + i).astype(np.float32)
        states = start(recipe.transforms, None, [], np)
        after, removed_by = run(recipe.transforms, raw, states, (0, i), np)
        token = int(np.argmax(after)) if i % 5 else int(np.argsort(after)[-3])
        step = observe(raw, token, after=after, removed_by=removed_by, recipe=recipe, position=i)
        word = " " + WORDS[i % len(WORDS)] + (".\n\n" if i % 40 == 39 else "")
        tokens.append(replace(step, piece=word.encode(), text=word, elapsed_s=i / 120))
    return tokens


MARKDOWN = """## Why the sky is blue

Sunlight holds **every colour** of the rainbow. Air molecules are far smaller than its wavelengths, and *particles that
small* scatter `short` waves much more than long ones, as [Rayleigh](https://a.b/c) found.

- **Blue** is scattered about six times as strongly as red, so it comes to your eye from every corner of the sky.
  - Violet even more, but the Sun emits less of it.
- At sunset the light crosses some forty times as much air.

1. The first point, with *one* word in italics.
2. The second point, with `code` in it.

```python
def scatter(wavelength: float) -> float:
    # how strongly light is scattered
    return 1 / wavelength**4

print([scatter(x / 100) for x in range(40, 70)], "of red")
```

| colour | wavelength | scattered |
|---|--:|:-:|
| violet | 400 nm | 9.4 |
| blue | 450 nm | 5.9 |
| green | 530 nm | 3.0 |
| red | 700 nm | 1.0 |

> With no air nothing is scattered, so the sky of the Moon is black at noon.

"""


def written(steps: Sequence[TokenStep], text: str) -> list[TokenStep]:
    """A text as tokens of some words and signs, with the numbers of the steps in turn."""
    words = re.findall(r"\n\n|\n| ?\w+| ?[^\w\s]+|\s", text)
    turns = itertools.cycle(steps)
    return [replace(step, piece=word.encode(), text=word) for step, word in zip(turns, words, strict=False)]


class Bare(App[None]):
    """A transcript and nothing else."""

    CSS = "TokenView { height: 1fr; overflow-x: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self.look, self.glyphs = look(DARK.variables, "true"), GLYPHS

    def compose(self) -> ComposeResult:
        yield TokenView()


async def bare(stream: Iterator[TokenStep], tokens: int, batches: int, rendered: bool = False) -> list[float]:
    """Milliseconds of the screen's thread for each batch, after so many tokens; `rendered` as Markdown."""
    app = Bare()
    async with app.run_test(size=(120, 40)) as pilot:
        view = app.query_one(TokenView)
        view.show([MessageBlock("a", "model", scored=True, rendered=rendered, growing=True)], follow=True)

        def batch(size: int) -> None:
            view.extend(ShownToken(step.text, heat_level(step, "surprisal")) for step in itertools.islice(stream, size))

        batch(tokens)
        return await timed(pilot, lambda: batch(BATCH), batches)


async def full(stream: Iterator[TokenStep], tokens: int, batches: int) -> tuple[list[float], float]:
    """Milliseconds a batch of tokens with candidates, entropy, sliders, tree and status; and strips drawn a batch."""
    app = LikelyApp(_Nothing, Path(tempfile.mkdtemp()))
    async with app.run_test(size=(120, 40)) as pilot:
        while app.session is None:
            await pilot.pause(0.01)
        chat, talk = opened(app), app.session
        talk.conversation = talk.conversation.add(Node("u", Fork(), "user", text="Why is the sky blue?"))
        talk.conversation = talk.conversation.add(Node("a", Fork("u"), "assistant"))
        talk.run = LiveRun("a", RunControl(talk.sampling.recipe), str)
        talk.job = 10**6
        talk.transcript.markdown = False  # as the bare one
        chat.reshow(follow=True)

        def batch(size: int) -> None:
            chat.take_events(10**6, [Emitted(0, step) for step in itertools.islice(stream, size)])

        batch(tokens)
        await pilot.pause()
        before = chat.pane.view.strips_rendered
        spent = await timed(pilot, lambda: batch(BATCH), batches)
        drawn = (chat.pane.view.strips_rendered - before) / batches
        talk.run = None
        return spent, drawn


clock_s = itertools.count(1000.0, FRAME_S)
frame_s = next(clock_s)  # now, for what looks a few times a second: so often a batch, however slow the machine


def framed() -> float:
    return frame_s


async def timed(pilot: Any, batch: Any, batches: int) -> list[float]:
    global frame_s
    inspector.monotonic = chat_view.monotonic = framed  # type: ignore[attr-defined]
    spent = []
    for _ in range(batches):
        frame_s = next(clock_s)
        began = time.thread_time()
        batch()
        await asyncio.sleep(FRAME_S)  # at the pace of frames, as what is limited by time must see them
        spent.append((time.thread_time() - began) * 1e3)
    return spent


def opened(app: LikelyApp) -> ChatScreen:
    """The chat view."""
    return next(view for view in app.views if isinstance(view, ChatScreen))


class _Nothing:
    """A shop that never opens: the screen alone is measured."""

    def choose(self, prefer: Sequence[str]) -> str:
        return "none"

    def opening(self, model: str, progress: object) -> Generator[None, None, Any]:
        while True:
            yield None

    def offers(self) -> Sequence[r.ModelOffer]:
        return ()


async def long(count: int = 20_000) -> dict[str, float]:
    """Milliseconds of the screen's thread to read, open and scroll a conversation, and what was laid out of it."""
    home = Path(tempfile.mkdtemp())
    kinds = [replace(step, snapshot=None, removed_by=None) for step in steps()]
    talk = Conversation("long").add(Node("u", Fork(), "user", text="Why is the sky blue?"))
    talk = talk.add(Node("a", Fork("u"), "assistant"))
    talk = talk.extend("a", tuple(itertools.islice(itertools.cycle(kinds), count)), "stop")
    store = Store(home / "sessions.db")
    store.save(talk)
    store.close()
    app = LikelyApp(_Nothing, home)
    async with app.run_test(size=(120, 40)) as pilot:
        while app.session is None:
            await pilot.pause(0.01)
        view, marks = opened(app).pane.view, [time.thread_time()]
        assert app.store is not None
        talk = app.store.load("long")
        marks.append(time.thread_time())
        opened(app).open(talk)
        await pilot.pause()
        marks.append(time.thread_time())
        laid = view.blocks[1].laid
        rows = await timed(pilot, lambda: view.scroll_relative(y=-1), 60)
        read, shown = (1e3 * (after - before) for before, after in itertools.pairwise(marks))
        return {
            "read_ms": round(read, 1),
            "open_and_paint_ms": round(shown, 1),
            "scroll_a_row_ms": round(statistics.median(rows), 2),
            "tokens_laid_out_to_open": laid,
            "and_to_scroll_60_rows": view.blocks[1].laid - laid,
        }


PROMPT = "Why is the sky blue? Answer at length."
TOKENS = 48
ALONE = 1  # the seed of a round that the screen sees only the end of


class Alternating:
    """A shop whose model draws either for the screen, or as `likely run` does: in one loop, written to nowhere."""

    def __init__(self) -> None:
        self.shop = local_models()

    def choose(self, prefer: Sequence[str]) -> str:
        return self.shop.choose(prefer)

    def offers(self) -> Sequence[r.ModelOffer]:
        return ()

    def opening(self, model: str, progress: Any) -> Generator[Any, None, Any]:
        from likely.app.cli.generate.text_chat import stream

        engine: Any = yield from self.shop.opening(model, progress)
        draw = engine.generate

        def generate(ids: Sequence[int], control: RunControl, *, seed: int = 0, **options: Any) -> Iterator[Event]:
            events = draw(ids, control, seed=7, **options)
            if seed != ALONE:
                yield from events
                return
            with open(os.devnull, "w") as nowhere:
                yield stream(events, nowhere)[1]

        engine.generate = generate
        return engine


async def answers(rounds: int) -> dict[str, list[float]]:
    """Milliseconds a token of the same answer by turns: in the chat, every panel on, and as `likely run` draws it."""
    drawn: dict[str, list[float]] = {"run": [], "chat": []}
    app = LikelyApp(Alternating, Path(tempfile.mkdtemp()), model="smollm2")
    async with app.run_test(size=(120, 40)) as pilot:
        while app.session is None or app.engine.current is None:
            await pilot.pause(0.05)
        talk = app.session
        opened(app).composer.take(f"/max {TOKENS}")
        await pilot.press("enter")
        talk.conversation = replace(talk.conversation, title="not to be named by the model")
        for round in range(2 * rounds + 1):
            name, seed = ("run", ALONE) if round % 2 else ("chat", 0)
            talk.new_seed = lambda seed=seed: seed
            opened(app).composer.take(PROMPT) if not round else None
            before = talk.stats
            await pilot.press("ctrl+r" if round else "enter")
            while talk.running or talk.stats in (None, before):  # a key may be heard later
                await asyncio.sleep(0.05)
            assert talk.stats is not None and talk.stats.tokens == TOKENS
            if round:  # the first reads the prompt, and warms up
                drawn[name].append(1e3 / talk.stats.tokens_per_s)
    return drawn


FIRST_PAINT = """
import time, sys, os
sys.path.insert(0, {root!r})
{imports}
from textual.app import App
class Probe({base}):
    def _display(self, screen, renderable):
        super()._display(screen, renderable)
        if {ready}:
            print(time.monotonic(), file=sys.stderr); sys.stderr.flush(); os._exit(0)
Probe({args}).run(headless=True)
"""


def first_paint(kind: str) -> float:
    """Seconds from the start of a process until its first whole paint."""
    root = str(ROOT)
    if kind == "empty":
        code = FIRST_PAINT.format(root=root, imports="", base="App", ready="True", args="")
    else:
        imports = "from likely.app.tui.app import LikelyApp\nfrom pathlib import Path\nimport tempfile"
        code = FIRST_PAINT.format(
            root=root, imports=imports, base="LikelyApp", args="lambda: time.sleep(99), Path(tempfile.mkdtemp())",
            ready="screen.query('PromptInput')",
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "probe.py"
        script.write_text(code, encoding="utf-8")
        began = time.monotonic()
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
        return float(done.stderr.strip().splitlines()[-1]) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--answers", type=int, default=0)
    wanted = parser.parse_args()
    HeadlessDriver.is_headless = property(lambda self: False)  # type: ignore[assignment,method-assign]
    kinds = steps()
    answer = written(kinds, MARKDOWN)
    spent: dict[str, list[float]] = {"bare": [], "raw": [], "markdown": [], "full": [], "full_long": []}
    strips = {}
    for _ in range(3):
        part = wanted.batches // 3
        spent["bare"] += asyncio.run(bare(itertools.cycle(kinds), 2000, part))
        for name, rendered in (("raw", False), ("markdown", True)):
            spent[name] += asyncio.run(bare(itertools.cycle(answer), 2000, part, rendered))
        for name, tokens in (("full", 2000), ("full_long", 20_000)):
            times_ms, strips[name] = asyncio.run(full(itertools.cycle(kinds), tokens, part))
            spent[name] += times_ms
    paints: dict[str, list[float]] = {"empty": [], "likely": []}
    for _ in range(wanted.starts):
        for kind, times in paints.items():
            times.append(first_paint(kind))
    drawn = asyncio.run(answers(wanted.answers)) if wanted.answers > 1 else {}
    quartile = {name: statistics.quantiles(times)[0] for name, times in drawn.items()}
    # the least of the runs' means, for the machine stalls at random; every batch of a run counts
    part = wanted.batches // 3
    mean = {name: min(statistics.mean(v[i : i + part]) for i in range(0, 3 * part, part)) for name, v in spent.items()}
    median = {name: statistics.median(values) for name, values in spent.items()}
    paint = {name: min(times) for name, times in paints.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(
        json.dumps(
            {
                "benchmark": "tui",
                "commit": commit,
                "machine": f"{platform.system()} {platform.machine()} {os.cpu_count()} cores",
                "batch_tokens": BATCH,
                "ms_a_batch_mean": {name: round(value, 2) for name, value in mean.items()},
                "ms_a_batch_median": {name: round(value, 2) for name, value in median.items()},
                "full_over_bare": round(mean["full"] / mean["bare"], 2),
                "full_over_bare_median": round(median["full"] / median["bare"], 2),
                "markdown_over_raw": round(mean["markdown"] / mean["raw"], 2),
                "markdown_over_raw_median": round(median["markdown"] / median["raw"], 2),
                "growth_from_2000_to_20000": round(mean["full_long"] / mean["full"], 2),
                "strips_a_batch": {name: round(value, 1) for name, value in strips.items()},
                "first_paint_s": {name: round(value, 3) for name, value in paint.items()},
                "first_paint_over_empty": round(paint["likely"] / paint["empty"], 2),
                "conversation_of_20000_tokens": asyncio.run(long()),
                "answer_ms_a_token": {name: round(value, 2) for name, value in quartile.items()},
                "chat_over_run_tokens_per_s": round(quartile["run"] / quartile["chat"], 3) if quartile else None,
            }
        )
    )


if __name__ == "__main__":
    main()
