"""The loss of masked diffusion: its mean is the bound, and what is not trained is never masked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.adapters.config import Config, configure
from likely.engine.diffusion.bound import exact
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.errors import ParameterError
from likely.engine.tune import losses, masked, objectives, probes, trainer
from likely.engine.tune.open_run import open_run
from likely.engine.tune.samples import TrainingSample
from likely.metal import mx
from likely.models import Transformer
from likely.models.config import MaskedDiffusion
from tests.engine import tiny

CONFIG: dict[str, Any] = {**tiny.LLAMA, "mask_token_id": 286}
SETTINGS = Config(kind="full", objective="mdlm", batch=4, length=64)


def made(config: dict[str, Any] = CONFIG) -> Transformer:
    model = models.build(config, {name: mx.array(4 * array) for name, array in tiny.weights(config).items()})
    assert isinstance(model, Transformer)
    return model


def sample(ids: list[int], prompt: int = 0) -> TrainingSample:
    return TrainingSample(tuple(ids), tuple(i >= prompt for i in range(len(ids))), "x")


@pytest.mark.parametrize("shifted", [False, True])
def test_the_mean_of_the_loss_is_the_bound_and_documents_are_alone(shifted: bool) -> None:
    model = made({**CONFIG, "shifted_logits": shifted})
    denoiser = ModelDenoiser(model)
    for item in (sample([5, 6, 200, 7, 9], prompt=1), sample([5, 6, 200, 7]), sample([5, 6, 7, 9, 11, 8], prompt=3)):
        free = np.array(item.trained)
        truth = exact(denoiser.log_probabilities, item.ids, 286, free.tolist())
        batch = objectives.batch_of(model, [item] * 400, SETTINGS, (1, 2))
        lost = losses.nll(model.head, objectives.read(model, batch), batch.targets)
        found = np.array(objectives.by_sample(objectives.weighed(lost, batch), batch))
        assert batch.trained == 400 * free.sum()
        kept = np.asarray(batch.tokens)[0].reshape(400, -1)
        assert (kept[:, ~free] == np.array(item.ids)[~free]).all() and (kept[:, free] == 286).any(axis=0).all()
        assert abs(found.mean() - truth) < 4 * found.std() / 20, (found.mean(), truth)
        assert found.std() / 20 < 0.03 * truth


def test_exactly_k_of_a_sample_are_masked_and_times_are_even() -> None:
    items = [sample(list(range(10, 26)), prompt=4)] * 12
    batch = masked.collate(items, MaskedDiffusion(286), (0, 7))
    again, other = (masked.collate(items, MaskedDiffusion(286), key) for key in ((0, 7), (0, 8)))
    assert mx.array_equal(batch.tokens, again.tokens) and not mx.array_equal(batch.tokens, other.tokens)
    owner, weight = np.asarray(batch.sample), np.asarray(batch.weights)
    sizes = np.bincount(owner)
    assert sorted(sizes.tolist()) == list(range(1, 13))  # 12 trained tokens, 12 samples
    assert np.allclose(weight, 12 / sizes[owner]) and (np.asarray(batch.targets) >= 14).all()


@pytest.mark.parametrize(("block", "shifted"), [(0, False), (0, True), (3, False), (3, True)])
def test_masked_batches_hold_their_targets_where_the_model_says_them(block: int, shifted: bool) -> None:
    diffusion = MaskedDiffusion(mask=99, block=block, shifted=shifted)
    rows = [
        TrainingSample(tuple(range(10, 18)), (False, False, *[True] * 6), "a"),
        TrainingSample((1, 2, 3), (True,) * 3, "b"),
    ]
    batch = masked.collate(rows, diffusion, (7, 1))
    ids = np.array(batch.tokens)[0]
    at, targets, weights = np.array(batch.at), np.array(batch.targets), np.array(batch.weights)
    start, taken = 0, 0
    for i, row in enumerate(rows):
        n = len(row.ids)
        noised = ids[start : start + n]
        if block:
            assert ids[start + n : start + 2 * n].tolist() == list(row.ids)
        places = np.flatnonzero(noised == 99)
        assert all(row.trained[p] for p in places)
        assert [noised[p] for p in range(n) if p not in places] == [row.ids[p] for p in range(n) if p not in places]
        expected = []
        for p in places.tolist():
            where = max(p - 1, 0) if shifted else p
            if shifted and block and p % block == 0 and p > 0:
                where += n
            expected.append((start + where, row.ids[p]))
        own = slice(taken, taken + len(places))
        assert sorted(zip(at[own].tolist(), targets[own].tolist(), strict=True)) == sorted(expected)
        groups = [np.flatnonzero(row.trained)]
        if block:
            groups = [
                np.array([p for p in groups[0] if p // block == b]) for b in sorted({p // block for p in groups[0]})
            ]
        sizes = [(len(g), int(np.isin(g, places).sum())) for g in groups]
        assert weights[own] == pytest.approx([full / k for full, k in sizes for _ in range(k)])
        assert min(k for _, k in sizes)
        assert batch.counts[i] == sum(full for full, _ in sizes)
        taken += len(places)
        start += n * (2 if block else 1)
    assert start == len(ids) and batch.block == block and batch.also is None
    assert batch.documents == ((8, 8, 3, 3) if block else (8, 3))
    other = masked.collate(rows, diffusion, (7, 2))
    assert np.array(other.tokens).tolist() != ids[None].tolist()
    assert np.array(masked.collate(rows, diffusion, (7, 1)).tokens).tolist() == ids[None].tolist()


def test_a_diffusion_model_learns_from_answers(tmp_path: Path) -> None:
    rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(4) for b in range(4)]
    data = tmp_path / "sums.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    folder = tiny.random_folder(tmp_path / "m", CONFIG)
    asked = {"model": str(folder), "data": str(data), "out": str(tmp_path / "a"), "steps": 6, "rate": 0.01}
    opened = open_run(configure({**asked, "objective": "mdlm", "eval_every": 3}))
    events = list(trainer.train(opened.run))
    losses = [e.loss for e in events if isinstance(e, trainer.Validated)]
    assert len(losses) == 2 and losses[1] < losses[0] and (tmp_path / "a" / "adapters.safetensors").exists()
    assert probes.moved(opened.run) is None  # there is no next token whose law could have moved
    with pytest.raises(ParameterError, match="it learns by objective mdlm, got sft"):
        open_run(configure({**asked, "out": str(tmp_path / "b")}))
    with pytest.raises(ParameterError, match="m sees both ways already"):
        open_run(configure({**asked, "out": str(tmp_path / "b"), "objective": "mdlm", "anneal": 0.5}))
    with pytest.raises(ParameterError, match="kl goes with objective = sft"):
        configure({"objective": "mdlm", "kl": 0.1})
