"""Writes this folder's files with commit f9b4f4f, whose modules it imports; kept to say how they were made.

git worktree add ../previous f9b4f4f && cd ../previous && PYTHONPATH=$PWD python .../tests/data/previous/write.py
"""

import dataclasses
import json
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np

from likely.app import export
from likely.app.store import Store
from likely.engine import tracefile
from likely.engine.adapters import adapters
from likely.engine.conversation import Conversation, Fork, Node
from likely.engine.observe import observe
from likely.engine.replay import replay, states_at
from likely.engine.trace import Lexicon, Recipe, Step, Trace
from likely.engine.transforms import (
    DRY,
    XTC,
    LogitBias,
    MinP,
    RepetitionPenalty,
    Temperature,
    TopP,
    run,
    start,
    touched,
)
from likely.engine.tune import trainer
from likely.engine.tune.control import Stepped
from tests.engine.tune import tiny

HERE = Path(__file__).parent
RECIPES = (
    Recipe((LogitBias({4: 1.5}), DRY(0.8), RepetitionPenalty(1.1, 8), TopP(0.5), Temperature(0.7))),
    Recipe((XTC(0.5, 0.02), MinP(0.01, 3))),
    Recipe(greedy=True),
)
SEED, PROMPT = 5, (7, 8, 7)


def step(position: int) -> Step:
    recipe = RECIPES[position % 3]
    raw = np.random.default_rng(position).normal(0, 3, 400).astype(np.float32)
    states = start(recipe.transforms, None, PROMPT, np)
    after, cut = run(recipe.transforms, raw, states, (SEED, position), np, greedy=recipe.greedy)
    found = observe(
        raw, int(after.argmax()), after=after, cut=cut, recipe=recipe, touched=touched(recipe.transforms, states),
        position=position,
    )  # fmt: skip
    text = f" w{position}"
    return dataclasses.replace(found, piece=text.encode(), text=text, special=position == 6, elapsed_s=position / 10)


def numbers(of: Step) -> dict[str, Any]:
    plain = {f.name: getattr(of, f.name) for f in dataclasses.fields(of)}
    for name in ("snapshot", "cut", "recipe"):
        del plain[name]
    assert of.snapshot is not None and of.cut is not None
    return plain | {
        "piece": of.piece.hex(),
        "transforms": repr(of.recipe),
        "removed_by": of.cut.tolist(),
        "ids": of.snapshot.ids.tolist(),
        "lse": of.snapshot.lse,
    }


def main() -> None:
    steps = tuple(map(step, range(3, 7)))
    lexicon = Lexicon({7: b"\xf0\x9f", 8: b"\n"}, frozenset({2, 1}))
    first = dataclasses.replace(
        steps[0], logprob=None, logprob_after=None, entropy=None, entropy_after=None, rank=None, snapshot=None, cut=None
    )
    trace = Trace("tiny", "ab" * 32, {"likely": "0.1.0"}, SEED, PROMPT, (first, *steps), "length", {"a": "b"}, lexicon)
    tracefile.save([trace], HERE / "trace.jsonl")
    seen = []
    for n, each in enumerate(trace.steps[1:], 1):
        states = states_at(each.recipe.transforms, lexicon, PROMPT, trace.steps[1:n])
        again = replay(each.snapshot, each.recipe.transforms, states, (SEED, each.position), greedy=each.recipe.greedy)
        seen.append({"kept": list(again.kept), "low": again.low.sum(), "high": again.high.sum()})

    talk = Conversation(
        "c", title="Sky", model="m", system="Be brief", recipe=RECIPES[0], seed=3, created=1.0, updated=2.0
    )
    talk = talk.add(Node("u", Fork(), "user", text="Why is the sky blue?"))
    talk = talk.add(Node("a", Fork("u"), "assistant", steps=steps, finish="eot"))
    talk = talk.add(Node("b", Fork("a", 2), "assistant", steps=(step(9),), joins=True, seed=9, finish="stop"))
    talk = talk.add(Node("d", Fork("u"), "assistant", steps=(step(10),), seed=11, finish="length"))
    talk = talk.mark("a", 1, "here").prune(Fork("a", 2), "b")
    export.write(talk, "jsonl", HERE / "conversation.jsonl")
    database = HERE / "sessions.db"
    database.unlink(missing_ok=True)
    store = Store(database)
    store.save(talk)
    store.remember_vocabulary("m", [b"a", b"\xff", b"cd"])
    store.close()
    with sqlite3.connect(database, isolation_level=None) as db:  # the same rows in smaller pages
        db.executescript("PRAGMA journal_mode=DELETE; PRAGMA page_size=512; VACUUM; PRAGMA journal_mode=WAL")
    db.close()

    options: dict[str, Any] = {"rank": 2, "steps": 6, "save_every": 3, "modules": ["q_proj"], "layers": 1}
    losses = [e.loss for e in tiny.finish(tiny.run(HERE / "whole", **options)) if isinstance(e, Stepped)]
    shutil.rmtree(HERE / "whole")
    a = tiny.run(HERE / "adapter", **options)
    for event in trainer.train(a):
        if isinstance(event, Stepped) and event.step == 4:  # the state is that of step 3
            break
    adapters.save(HERE / "adapter", a.trained, a.model, {"kind": "lora", "model": "tiny", "rank": 2})
    sums = {name: float(array.sum()) for name, array in adapters.read(HERE / "adapter").arrays.items()}
    known = {
        "steps": [numbers(s) for s in steps],
        "replayed": seen,
        "losses": losses,
        "adapter": sums,
        "texts": [[m.role, m.text] for m in talk.messages()],
        "marks": [[node, unit, words] for (node, unit), words in talk.marks.items()],
    }
    (HERE / "known.json").write_text(json.dumps(known, sort_keys=True) + "\n")
    print(sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file()), "bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
