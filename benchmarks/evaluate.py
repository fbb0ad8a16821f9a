"""Log-likelihoods as `likely eval` reads them beside mlx_lm.evaluate's, on the same weights, dtype, device and BLAS.

    python benchmarks/evaluate.py [--items 12] [--shots 10] [--rounds 2]

`choices`: questions with four choices each after the same examples; `rolling`: documents of 50 to 400 tokens, scored
whole. LIKELY_PACKED=off has ours by the graph, as mlx-lm's is; else it may be packed. They take turns, in processor
time, of which the median is taken. Every score is compared, and the first few with mlx-lm's where that sums over the
vocabulary in stages, without which it is up to 1e-4 nats a token off on a CPU. The harness itself is not needed:
mlx-lm's class is called with requests. One JSON line at the end.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))

SUMMED = 4  # scores that are compared with an exact sum
FIRST = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo")
THINGS = ("a red lamp", "two old books", "the green bottle", "a wooden chair", "some fresh bread", "the blue kite")
PLACES = ("in the kitchen", "behind the house", "on the second floor", "at the market", "under the bridge")


def questions(count: int) -> list[tuple[str, list[str], int]]:
    """Questions with four choices, one of which is right."""
    items = []
    for i in range(count):
        who, what, where = FIRST[i % 8], THINGS[i % 6], PLACES[(i // 2) % 5]
        others = [PLACES[(i // 2 + k) % 5] for k in range(4)]
        gold = i % 4
        others[0], others[gold] = others[gold], others[0]
        extra = " and then went home" * (i % 3)
        items.append((f"{who} left {what} {where}{extra}. Question: where is {what} now?\nAnswer:", others, gold))
    return items


def peer(model: Any, tokenizer: Any) -> Any:
    """mlx-lm's evaluator around a model that is there already."""
    for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model", "lm_eval.api.registry"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules["lm_eval.api.model"].LM = object  # type: ignore[attr-defined]
    sys.modules["lm_eval.api.registry"].register_model = lambda _: lambda c: c  # type: ignore[attr-defined]
    from mlx_lm.evaluate import MLXLM

    wrapped = MLXLM.__new__(MLXLM)
    wrapped._model, wrapped.tokenizer = model, tokenizer
    wrapped._max_tokens, wrapped._batch_size, wrapped.use_chat_template = None, 8, False
    return wrapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    from benchmarks.decode import prompt
    from likely.engine.base.arrays import logsumexp
    from likely.engine.decode.session import Session
    from likely.engine.measure.evaluate.evaluation import evaluate
    from likely.engine.measure.evaluate.scoring.likelihood import Request, loglikelihoods
    from likely.engine.measure.evaluate.scoring.protocol import Protocol
    from likely.engine.measure.evaluate.tasks.tasks import Task
    from likely.engine.weights.mlx_lm_baseline import MlxLm
    from likely.engine.weights.sources.checkpoint import load
    from likely.metal import mx
    from likely.models import Transformer

    checkpoint = load("smollm2")
    tokenizer = checkpoint.tokenizer
    other = MlxLm(checkpoint.info, checkpoint.precision.dtype).model
    graph = load("smollm2", precision=replace(checkpoint.precision, native=False)).model
    assert isinstance(graph, Transformer)  # its very arrays; what mlx-lm reads by itself is rounded to 16 bits
    other.load_weights(list(graph.arrays.items()), strict=False)
    theirs = peer(
        other,
        SimpleNamespace(encode=lambda text, add_special_tokens: tokenizer.encode(text)),
    )
    questioned = questions(options.items + options.shots)
    before = "".join(f"{q} {choices[gold]}\n\n" for q, choices, gold in questioned[: options.shots])
    rows = [{"context": before + q, "choices": c, "gold": g} for q, c, g in questioned[options.shots :]]
    requests = [SimpleNamespace(args=(row["context"], f" {choice}")) for row in rows for choice in row["choices"]]
    ids = prompt(400 + 30 * options.documents)
    lengths = [50 + 350 * i // max(1, options.documents - 1) for i in range(options.documents)]
    texts = [tokenizer.decode(ids[30 * i : 30 * i + length]) for i, length in enumerate(lengths)]

    def ours_choices() -> list[float]:
        task = Task("places", lambda: iter(rows), "")
        protocol = Protocol(unconditional=False)
        results = sorted(evaluate(Session(checkpoint), task, protocol), key=lambda result: result.number)
        return [x for result in results for x in result.detail["loglikelihoods"]]

    def ours_rolling() -> list[float]:  # as theirs: no prefix token, the first token unscored
        read = (Request((tuple(tokenizer.encode(text)),), (1,)) for text in texts)
        return [likelihood.total for (likelihood,) in loglikelihoods(checkpoint.model, read)]

    def their_choices(first: int | None = None) -> list[float]:
        return [score for score, _ in theirs.loglikelihood(requests[:first])]

    def their_rolling(first: int | None = None) -> list[float]:
        return list(theirs.loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in texts[:first]]))

    ways = {"choices": (ours_choices, their_choices), "rolling": (ours_rolling, their_rolling)}
    figures: dict[str, float] = {}
    for name, pair in ways.items():
        seconds: tuple[list[float], list[float]] = ([], [])
        scores: list[list[float]] = [[], []]
        for _ in range(options.rounds):
            for side in (0, 1):
                began = time.process_time()
                scores[side] = pair[side]()
                seconds[side].append(time.process_time() - began)
        figures[f"{name}_s"], figures[f"{name}_peer_s"] = median(seconds[0]), median(seconds[1])
        figures[f"{name}_ratio"] = figures[f"{name}_peer_s"] / figures[f"{name}_s"]
        figures[f"{name}_difference"] = max(abs(a - b) for a, b in zip(*scores, strict=True))
        with patch("mlx.nn.log_softmax", lambda x: x - logsumexp(x, mx, exact=True)[..., None]):
            exact = pair[1](SUMMED)
        figures[f"{name}_difference_exact"] = max(abs(a - b) for a, b in zip(scores[0], exact, strict=False))
    print(
        json.dumps(
            {
                "benchmark": "evaluate",
                "model": "smollm2",
                "way": type(checkpoint.model).__name__,
                **vars(options),
                **figures,
            }
        )
    )


if __name__ == "__main__":
    main()
