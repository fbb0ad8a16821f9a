"""What is measured on rows that are held back: which rows, their losses by row and by place, bits a byte."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from likely.engine.base.statistics.estimates import ratio
from likely.engine.train.data.samples import Pair, TrainingSample
from likely.engine.train.open_run import open_run
from likely.engine.train.run import metrics, trainer, validation
from likely.engine.weights.adapters.config import configure
from likely.metal import mx
from likely.models import Transformer
from tests.engine import tiny
from tests.engine.tune.tiny import model, samples


def surprisals(built: Transformer, sample: TrainingSample) -> np.ndarray:
    """-log p of a row's targets, float64."""
    logits = np.array(built(mx.array([sample.ids[:-1]]))[0], np.float64)
    logp = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return -logp[np.arange(len(sample.ids) - 1), sample.ids[1:]][np.array(sample.trained[1:])]


def test_rows_that_are_measured_are_those_of_the_least_hash() -> None:
    for n, most in ((10, 3), (100, 7), (50, 49)):
        hashes = sorted(range(n), key=lambda i: i * 0x9E3779B97F4A7C15 % 2**64)
        assert list(validation.drawn(range(n), most)) == sorted(hashes[:most])
    assert validation.drawn(range(5), 0) == validation.drawn(range(5), 5) == validation.drawn(range(5), 9) == range(5)


def test_a_validation_is_by_row_and_by_place() -> None:
    built, items = model(), samples(7, seed=1)
    config = configure({"batch": 2, "length": 20})
    found = validation.evaluate(built, None, items, config)
    lost = [surprisals(built, item) for item in items]
    wanted = ratio([(float(each.sum()), len(each)) for each in lost])
    assert (found.estimate.mean, found.estimate.error) == pytest.approx((wanted.mean, wanted.error), rel=1e-5)
    assert found.nats == pytest.approx(sum(each.sum() for each in lost), rel=1e-5) and found.right == 0
    places = [(0, 1), (1, 2), (2, 4), (4, 8), (8, 16)]  # targets that stand before: octaves
    each = [np.concatenate([row[low:high] for row in lost]) for low, high in places]
    assert found.by_position == pytest.approx([part.mean() for part in each if part.size], rel=1e-5)
    one = validation.evaluate(built, None, items, configure({"batch": 2, "length": 20, "eval_rows": 1}))
    assert one.nats == pytest.approx(lost[0].sum(), rel=1e-5)


def test_pairs_that_are_ranked_as_wanted_are_counted(tmp_path: Path) -> None:
    good, bad = samples(6, seed=3), samples(6, seed=4)
    pairs = [Pair(one, other) for one, other in zip(good, bad, strict=True)]
    asked = configure({"objective": "orpo", "beta": 0.0, "batch": 2, "length": 64, "steps": 1})
    a = trainer.prepare(model(), asked, trainer.Set(pairs), tmp_path)
    found = validation.evaluate(a.model, a.trained, pairs, asked)
    means = [(surprisals(a.model, p.chosen).mean(), surprisals(a.model, p.rejected).mean()) for p in pairs]
    assert found.right == np.mean([chosen < rejected for chosen, rejected in means]) and 0 < found.right < 1
    assert found.nats == pytest.approx(sum(chosen for chosen, _ in means), rel=1e-4) and found.by_position == ()


@pytest.mark.parametrize("length", [64, 12], ids=["whole", "in pieces"])
def test_bits_a_byte_are_of_the_bytes_that_the_targets_spell(length: int, tmp_path: Path) -> None:
    folder = tiny.random_folder(tmp_path / "m")
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.add_special_tokens([tiny.PIECES[tiny.EOS]])  # it steers the model and spells nothing
    library.save(str(folder / "tokenizer.json"))
    texts = ["abab and so on, ab", "zwölf", "a longer text that ends here"]
    (tmp_path / "rows").mkdir()
    for part, some in (("train", ["other text"]), ("valid", texts)):
        rows = "".join(json.dumps({"text": text}) + "\n" for text in some)
        (tmp_path / "rows" / f"{part}.jsonl").write_text(rows)
    asked = {"model": str(tmp_path / "m"), "data": str(tmp_path / "rows"), "out": str(tmp_path / "out"), "steps": 1}
    opened = open_run(configure({**asked, "length": length, "batch": 2}))
    (said,) = (event for event in trainer.train(opened.run) if isinstance(event, trainer.Validated))
    nats = sum(surprisals(opened.run.model, row).sum() for row in opened.run.rows.valid)  # type: ignore[arg-type]
    first = sum(len(opened.checkpoint.tokenizer.piece(opened.checkpoint.tokenizer.encode(t)[0])) for t in texts)
    spelled = sum(len(text.encode()) for text in texts) - first
    assert said.bits_per_byte == pytest.approx(nats / math.log(2) / spelled, rel=1e-4)
    assert said.low is not None and said.high is not None and said.low < said.loss < said.high and said.best
    (tmp_path / "rows" / "valid.jsonl").write_text(json.dumps({"text": texts[0]}) + "\n")
    alone = open_run(configure({**asked, "out": str(tmp_path / "alone"), "length": 64}))
    validated = [event for event in trainer.train(alone.run) if isinstance(event, trainer.Validated)]
    assert len(alone.run.rows.valid) == 1 and (validated[-1].low, validated[-1].high) == (None, None)
    assert validated[-1] in metrics.read(alone.run.folder)
