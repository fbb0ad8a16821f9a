"""A real effect of LoRA on SmolLM2: a rule that it does not know, and a base capability kept by the KL term.

    python benchmarks/effect.py [--steps 50] [--rate 1e-3] [--kl 2]

The rule: "Tag: WORD" is answered by the word between brackets and a mark, and nothing else: `[[cat]] => tagged`. Rows
are generated; the held-out ones have other words. Measured before and after, with 95 % intervals: exact
greedy answers on held-out rows, and the base capability, the surprisal of short factual answers in nats a token. Two
adapters are trained on the upper 10 layers, without and with the KL term on general questions (answered by the base
itself). One JSON line at the end.
"""

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

WORDS = """apple arrow badge basil beach birch bread brick broom cabin camel candy canoe cedar chair chalk cliff cloud
clover coast cobra coral crane crown daisy delta diary donkey dragon drum eagle earth elbow ember engine fable falcon
feather fence field flame flute forest fossil fox garden ghost giant ginger glass glove grape guitar hammer harbor
hawk hazel helmet honey horse island ivory jacket jungle kettle kite ladder lagoon lamp lantern lemon lily lion lizard
magnet maple marble meadow melon mirror moon mountain nest needle night ocean olive onion orange otter owl oyster
paddle palace panda paper parrot peach pearl pencil pepper piano pigeon pillow pine planet plum pocket pony puzzle
rabbit radio rain raven ribbon river robot rocket rose ruby saddle sailor salmon shadow shell silver spider spoon
spring squirrel stone storm sugar summer sun swan table teapot thunder tiger tower tree tulip turtle valley velvet
violin wagon walnut water whale wheat willow window winter wolf yarn zebra""".split()  # noqa: SIM905
FACTS = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("What is the capital of Egypt?", "The capital of Egypt is Cairo."),
    ("What is the largest planet?", "The largest planet in our solar system is Jupiter."),
    ("What do bees make?", "Bees make honey."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What colour is the sky?", "The sky is blue."),
    ("What is water made of?", "Water is made of hydrogen and oxygen."),
    ("Who wrote Romeo and Juliet?", "Romeo and Juliet was written by William Shakespeare."),
    ("What is two plus two?", "Two plus two is four."),
]
GENERAL = [
    "Name a river in Europe.", "What is a cat?", "How do I boil an egg?", "Why does it rain?", "What is a noun?",
    "Write a sentence about the sea.", "What is the capital of Spain?", "What is the smallest planet?",
    "How many months are in a year?", "What do cows eat?", "What is the opposite of big?", "What is ice?",
    "Who painted the Mona Lisa?", "What is three plus three?", "What colour is grass?",
    "What is the capital of Greece?",
]  # fmt: skip


def rule(word: str) -> dict[str, Any]:
    answer = f"[[{word}]] => tagged"
    return {"messages": [{"role": "user", "content": f"Tag: {word}"}, {"role": "assistant", "content": answer}]}


def answer(session: Any, question: str, tokens: int) -> str:
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Emitted
    from likely.engine.sampling.trace.step import SamplingConfig

    ids = session.tokenizer.chat([{"role": "user", "content": question}])
    events = session.generate(ids, RunControl(SamplingConfig(greedy=True)), max_tokens=tokens)
    return "".join(e.step.text for e in events if isinstance(e, Emitted)).strip()


def exact(session: Any, words: list[str]) -> dict[str, float]:
    """The share of exact answers with Wilson's interval."""
    session.forget()
    right = sum(answer(session, f"Tag: {word}", 14) == rule(word)["messages"][1]["content"] for word in words)
    n, z = len(words), 1.96
    p = right / n
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    return {"exact": round(p, 3), "low": round(middle - half, 3), "high": round(middle + half, 3)}


def facts(checkpoint: Any) -> dict[str, float]:
    """Surprisal of the facts' answers in nats a token, with its interval clustered by row."""
    from likely.engine.text.rows import training_row as rows
    from likely.engine.train.data import samples
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters.config import Config

    rows_read = [
        rows.parse({"prompt": question, "completion": reply}, f"fact {i}") for i, (question, reply) in enumerate(FACTS)
    ]
    prepared = samples.prepare(rows_read, checkpoint.tokenizer, length=128)
    estimate = trainer.evaluate(checkpoint.model, None, prepared.samples, Config()).estimate  # type: ignore[arg-type]
    low, high = estimate.interval
    return {"nats": round(estimate.mean, 3), "low": round(low, 3), "high": round(high, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--kl", type=float, default=2.0)
    options = parser.parse_args()
    import numpy as np

    from likely.engine.decode.session import Session
    from likely.engine.text.rows.training_row import parse
    from likely.engine.train import open_run
    from likely.engine.train.data import data
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters import lora
    from likely.engine.weights.adapters.config import configure
    from likely.engine.weights.sources.checkpoint import load

    words = list(np.random.default_rng(0).permutation(WORDS))
    held, taught = [str(w) for w in words[:40]], [str(w) for w in words[40:]]
    root = Path(tempfile.gettempdir()) / "likely-bench-effect"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    checkpoint = load("smollm2")
    session = Session(checkpoint)
    figures: dict[str, Any] = {"base": {**exact(session, held), "facts": facts(checkpoint)}}
    print("base", json.dumps(figures["base"]), flush=True)
    session.forget()
    anchors = [parse({"prompt": q, "completion": answer(session, q, 20)}, f"general {q}") for q in GENERAL]
    dataset = data.Data(tuple(parse(rule(w), w) for w in taught), (), (), {"chat": len(taught)}, 0, 0, False)
    for name, kl in (("without", 0.0), ("with", options.kl)):
        settings = configure(
            {"out": str(root / name), "steps": options.steps, "rate": options.rate, "batch": 8, "length": 64,
             "layers": 10,
             "warmup": 5, "save_every": 0, "eval_every": 0, "rank": 8, "kl": kl, "kl_data": "general" if kl else ""}
        )  # fmt: skip
        opened = open_run.assemble(checkpoint, settings, dataset, tuple(anchors) if kl else ())
        began = time.perf_counter()
        for event in trainer.train(opened.run):
            if isinstance(event, trainer.Stepped) and event.step % 20 == 0:
                print(f"  {name} kl: step {event.step} loss {event.loss:.3f} kl {event.kl:.4f}", flush=True)
        seconds = time.perf_counter() - began
        figures[name] = {**exact(session, held), "facts": facts(checkpoint), "seconds": round(seconds)}
        print(name, json.dumps(figures[name]), flush=True)
        assert isinstance(opened.run.trained, lora.Adapter)
        lora.detach(opened.run.trained)
    print(json.dumps({"model": "smollm2", "steps": options.steps, "kl": options.kl, **figures}))


if __name__ == "__main__":
    main()
