"""What a look inside costs beside reading the text: lens, patches of all pairs, their estimate, a repaint.

    python benchmarks/inside.py -M smollm2 [--tokens 200] [--rounds 3]

Processor time, by turns, the least of the rounds, as multiples of a plain pass of the same text in the same model;
patches beside passes one at a time, of which a few are measured. One JSON line.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

TEXT = Path(__file__).parent.parent / "engine" / "weights" / "quantize" / "text.txt"
ON_SCREEN = 8  # positions at 120 columns
PATCHED = 40  # positions
SINGLE = 4  # passes that are measured, of layers x positions


def spent(do: Callable[[], Any]) -> float:
    begin = time.process_time()
    do()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", "-M", default="smollm2")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    from likely.engine.decode.session import Session
    from likely.engine.inside import patching
    from likely.engine.inside.lens import rows, states
    from likely.engine.inside.subject import subject
    from likely.engine.weights.sources.checkpoint import load
    from likely.metal import mx
    from likely.models.tap import TappedPass

    session = Session(load(options.model))
    tokenizer = session.tokenizer
    ids = tokenizer.encode(TEXT.read_text(), bos=True)[: options.tokens]
    text = subject(session, ids)
    model, last = text.model, len(ids)

    def plain() -> None:
        mx.eval(model(mx.array([ids])))

    def picture() -> None:
        list(rows(text, states(text), slice(last - ON_SCREEN, last), 5))

    def whole() -> None:
        list(rows(text, states(text), slice(None), 5))

    short = ids[:PATCHED]
    other = [*short[:10], *tokenizer.encode(" red"), *short[11:]][:PATCHED]
    clean, corrupted = subject(session, short), subject(session, other)
    pair = patching.PromptPair(model, tuple(short), tuple(other), 1, 2)
    runs: dict[str, Callable[[], Any]] = {"plain": plain, "picture": picture, "whole": whole}
    times: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, do in runs.items():
            times[name] = min(times.get(name, float("inf")), spent(do))

    def single() -> None:
        for position in range(SINGLE):
            run = TappedPass(model, mx.array([corrupted.ids]), dtype=mx.float32)
            x = run.run(lambda name, x, p=position: x + 0.0 * p)
            mx.eval(model.head(model.norm(x[:, -1])))

    def one() -> None:
        mx.eval(model(mx.array([clean.ids])))

    patched: list[Any] = []
    parts = {"single": single, "one": one, "patches": lambda: patched.append(patching.patch(pair)),
             "estimate": lambda: patching.estimate(pair)}  # fmt: skip
    for _ in range(options.rounds):
        for name, do in parts.items():
            times[name] = min(times.get(name, float("inf")), spent(do))
    layers = len(model.blocks)
    figures = {
        "first picture / plain pass": times["picture"] / times["plain"],
        "whole lens / plain pass": times["whole"] / times["plain"],
        "all patches / as many passes": (times["patches"] - times["estimate"])
        / (times["single"] / SINGLE * layers * PATCHED),
        "estimate / one pass": times["estimate"] / times["one"],
        "correlation of the estimate": patched[-1].correlation,
        "repaint, ms": repaint(len(ids), layers),
    }
    limits = {"first picture / plain pass": 1.5, "whole lens / plain pass": 12, "all patches / as many passes": 0.25,
              "estimate / one pass": 5, "repaint, ms": 50}  # fmt: skip
    print(json.dumps({"benchmark": "inside", "tokens": len(ids), "figures": figures, "limits": limits, "s": times}))


def repaint(n: int, layers: int) -> dict[str, float]:
    """Milliseconds to draw each page anew at 120 columns, all of it known: the cursor moved, or another head."""
    import numpy as np

    from likely.app.jobs.interpretability import Inside, question
    from likely.app.tui.base import theme
    from likely.app.tui.base.drawing.canvas import Canvas
    from likely.app.tui.chat.candidates import Names
    from likely.app.tui.inside.attention_page import AttentionPage
    from likely.app.tui.inside.lens_page import LensPage
    from likely.app.tui.inside.page import Page
    from likely.app.tui.inside.reading import Reading
    from likely.engine.decode.prompt import Prompt
    from likely.engine.inside.questions import HeadScores, InspectedModel, Lens

    rng, heads = np.random.default_rng(0), 9
    names = Names(tuple(f" w{i}".encode() for i in range(5000)))
    at = Reading("m", Prompt(), names)
    at.take(question(Inside.opened), InspectedModel(tuple(range(n)), 0, layers, heads, 3, 64, 576, True, False))
    shape = (layers + 1, n)
    ints, floats = rng.integers(0, 5000, shape).astype(np.int32), rng.random(shape).astype(np.float32)
    best = rng.integers(0, 5000, (*shape, 5)).astype(np.int32)
    at.take(question(Inside.lens, False), Lens(ints, floats, floats, ints + 1, best, best / 5000, ints + 1))
    at.take(question(Inside.pattern, 0), rng.random((heads, n, n)).astype(np.float32))
    kinds = ("induction", "duplicate", "previous", "first", "distance", "entropy")
    at.take(question(Inside.kinds), HeadScores(**{name: rng.random((layers, heads)) for name in kinds}))
    pages: dict[str, Page] = {"lens": LensPage(), "attention": AttentionPage()}
    look, times_ms = theme.look(theme.DARK.variables | {"background": "#101214"}, "true"), {}
    for name, page in pages.items():
        times = []
        for step in range(40):
            page.move(at, -1, step % 3 - 1)

            def draw(page: Page = page) -> None:
                sheet = Canvas(118, 34, look, theme.GLYPHS)
                page.draw(at, sheet)
                sheet.lines()

            times.append(1e3 * spent(draw))
        times_ms[name] = round(sorted(times)[len(times) // 2], 2)
    return times_ms


if __name__ == "__main__":
    main()
