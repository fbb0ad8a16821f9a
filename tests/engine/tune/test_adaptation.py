"""An autoregressive model that becomes one of masked diffusion: what it says before, how it sees, what is written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.adapters.config import configure
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.errors import ParameterError
from likely.engine.sources.checkpoint import Checkpoint, load
from likely.engine.tune import adaptation, masked, trainer
from likely.engine.tune.open_run import Opened, open_run
from likely.engine.tune.samples import TrainingSample
from likely.metal import mx
from likely.metal.attention import CAUSAL, FULL, KV, Mask, attention
from likely.models.config import MaskedDiffusion
from tests.engine import tiny


def base(folder: Path, **changes: Any) -> Path:
    config = tiny.LLAMA | changes
    return tiny.random_folder(folder, config, times=4)


def test_with_causal_attention_it_says_exactly_what_it_said(tmp_path: Path) -> None:
    ids = mx.array([[5, 6, 200, 7, 9, 11, 250]])
    for tied in (True, False):
        checkpoint: Checkpoint = load(str(base(tmp_path / f"{tied}", tie_word_embeddings=tied)))
        before = checkpoint.model(ids)
        vocab = checkpoint.model.config.vocab_size
        made = adaptation.adapted(checkpoint)
        assert made.model.config.diffusion == MaskedDiffusion(vocab, shifted=True)
        after = made.model.head(made.model.hidden(ids, mask=CAUSAL))
        assert mx.array_equal(after[..., :vocab], before) and bool(mx.all(after[..., vocab] == -mx.inf))
        both = made.model.head(made.model.hidden(ids, mask=FULL))
        assert not mx.allclose(both[:, 0, :vocab], before[:, 0], atol=1e-3)


def test_the_share_of_later_positions_goes_from_none_to_all() -> None:
    assert [masked.ratio(t, 100, 0.5) for t in (1, 26, 51, 100)] == [0.0, 0.5, 1.0, 1.0]
    assert masked.ratio(1, 9, 0.0) == 1
    items = [TrainingSample(tuple(range(20)), (False, *(True,) * 19), "x")] * 3
    batches = [masked.collate(items, MaskedDiffusion(286, shifted=True), (0, 1), share) for share in (0.0, 0.3, 1.0)]
    assert mx.array_equal(batches[0].tokens, batches[2].tokens)  # what is masked is the same
    sights = [batch.mask for batch in batches]
    seen = [0 if sight is None or sight.also is None else int(mx.sum(sight.also)) for sight in sights]
    assert seen[0] == 0 and 0.2 < seen[1] / (3 * 20 * 20) < 0.4
    assert sights[1] is not None and sights[1].also is not None
    document = np.repeat(np.arange(3), 20)
    assert not np.array(sights[1].also)[0][document[:, None] != document].any()
    assert sights[2] is not None and sights[2].also is None and [s.causal for s in sights if s] == [True, True, False]


@pytest.mark.parametrize("lengths", [(5, 5, 5), (4, 7)])
def test_what_is_seen_besides_is_by_brute_force(lengths: tuple[int, ...]) -> None:
    n, random = sum(lengths), np.random.default_rng(0)
    also = random.random((n, n)) < 0.4
    document = np.repeat(np.arange(len(lengths)), lengths)
    seen = (np.tril(np.ones((n, n), bool)) | also) & (document[:, None] == document)
    q, k, v = (random.standard_normal((2, n, 8)) for _ in range(3))
    scores = np.where(seen, q @ k.swapaxes(1, 2) * 0.3, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    wanted = weights / weights.sum(-1, keepdims=True) @ v
    mask = replace(Mask.packed(lengths), also=mx.array(also[None]))
    q_, k_, v_ = (mx.array(x[None].astype(np.float32)) for x in (q, k, v))
    found = attention(q_, KV(k_, v_, mx.array([n]), n), scale=0.3, mask=mask)
    np.testing.assert_allclose(np.array(found)[0], wanted, atol=1e-5)


def test_what_is_written_is_the_model_that_was_trained_and_a_run_goes_on(tmp_path: Path) -> None:
    rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(4) for b in range(4)]
    data = tmp_path / "sums.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    asked = {"model": str(base(tmp_path / "base")), "data": str(data), "objective": "mdlm", "rate": 0.02, "anneal": 0.5,
             "eval_every": 0, "save_every": 2}  # fmt: skip

    def opened(out: str, resume: bool = False, **more: Any) -> Opened:
        return open_run(configure({**asked, "out": str(tmp_path / out), **more}), resume=resume)

    def canvas(model: Any) -> np.ndarray:
        ids = np.array([5, 6, model.config.diffusion.mask, 9])
        return ModelDenoiser(model).logits(ids, np.arange(4))[:, :-1]

    for kind, parameters in (("lora", {}), ("full", {"rate": 0.002})):
        whole = opened(f"{kind} whole", kind=kind, steps=4, **parameters)
        before = canvas(whole.run.model)
        *_, end = trainer.train(whole.run)
        assert isinstance(end, trainer.Ended) and end.reason == "done"
        now = canvas(whole.run.model)
        written = load(str(tmp_path / f"{kind} whole"))
        assert np.abs(now - before).max() > 0.01
        np.testing.assert_allclose(canvas(written.model), now, atol=2e-4)
        assert written.tokenizer.encode("1+1") == whole.checkpoint.tokenizer.encode("1+1")
    begun = opened("halves", steps=4)
    for event in trainer.train(begun.run):
        if isinstance(event, trainer.Saved):
            break
    gone_on = opened("halves", resume=True, steps=4)
    assert gone_on.run.counters.step == 2
    list(trainer.train(gone_on.run))
    assert mx.array_equal(
        load(str(tmp_path / "halves")).model.arrays["model.layers.0.self_attn.q_proj.weight"],
        load(str(tmp_path / "lora whole")).model.arrays["model.layers.0.self_attn.q_proj.weight"],
    )
    with pytest.raises(ParameterError, match="anneal goes with objective = mdlm"):
        configure({"anneal": 0.5})
