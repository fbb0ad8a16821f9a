"""The whole way on a tiny model: it learns a rule that it could not follow, and the KL term keeps what it could."""

import json
from pathlib import Path

import numpy as np
import pytest

import likely.engine.weights.adapters.lora as lora
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.run import trainer
from likely.metal import mx
from likely.models import Transformer
from tests.engine.tune.tiny import config, finish, model

TAG, NUMBERS = 60, 20  # the base counts up by 1; after the tag it is to say two numbers in reverse


def counting(first: int, length: int = 8) -> TrainingSample:
    ids = tuple((first + j) % TAG for j in range(length))
    return TrainingSample(ids, tuple(i > 0 for i in range(length)), f"from {first}")


def swapped(a: int, b: int) -> TrainingSample:
    return TrainingSample((TAG, a, b, b, a), (False, False, False, True, True), f"{a} {b}")


def exact(m: Transformer, rows: list[TrainingSample]) -> float:
    """The share of rows, equally long, that are continued without a fault, greedily: where each argmax is the row's."""
    ids, trained = np.array([row.ids for row in rows]), np.array([row.trained for row in rows])[:, 1:]
    said = np.array(mx.argmax(m(mx.array(ids)), axis=-1))[:, :-1]
    return float(((said == ids[:, 1:]) | ~trained).all(axis=1).mean())


@pytest.mark.slow(15)
def test_a_rule_is_learned_and_the_kl_term_keeps_the_base(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    m = model()
    base = [counting(f) for f in range(TAG)]
    settings = config(kind="full", steps=100, batch=16, length=8)
    finish(trainer.prepare(m, settings, trainer.Set(base), tmp_path / "base"))
    pairs = random.permutation([(a, b) for a in range(NUMBERS) for b in range(NUMBERS) if a != b]).tolist()
    taught, held = [swapped(*pair) for pair in pairs[:300]], [swapped(*pair) for pair in pairs[300:]]
    assert exact(m, base) >= 0.95 and exact(m, held) <= 0.1

    kept = {}
    for kl in (0.0, 4.0):
        settings = config(
            steps=170, batch=16, length=8, rank=16, rate=1.5e-2, kl=kl, kl_data="base" if kl else "", warmup=5
        )
        data = trainer.Set(taught, held, anchors=base if kl else ())
        run = trainer.prepare(m, settings, data, tmp_path / str(kl))
        finish(run)
        assert exact(m, held) >= 0.9
        kept[kl] = exact(m, base)
        assert isinstance(run.trained, lora.Adapter)
        lora.detach(run.trained)
    assert kept[4.0] >= 0.95 and kept[0.0] <= 0.8
    metrics = [json.loads(line) for line in (tmp_path / "4.0" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["event"] == "validated" and metrics[-1]["low"] < metrics[-1]["loss"] < metrics[-1]["high"]
