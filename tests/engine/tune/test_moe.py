"""Mixtures of experts in training: gradients by differences, and what is trained as mlx-lm computes it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.engine.adapters.lora as lora
from likely.engine.adapters import adapters, sites
from likely.engine.sources.checkpoint import load
from likely.engine.tune import fusion, objectives, trainer
from likely.metal import mx
from tests.engine import tiny as files
from tests.engine.tune.tiny import config, samples
from tests.models.oracle import difference

KINDS: dict[str, dict[str, Any]] = {
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {
        "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
    },
}  # fmt: skip
X = mx.array([[3, 14, 15, 92, 65, 35, 89, 79, 32, 38]])


def base(folder: Path, kind: str) -> Any:
    settings = files.LLAMA | KINDS[kind]
    return load(files.random_folder(folder, settings))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_experts_is_that_of_differences(kind: str, tmp_path: Path) -> None:
    m = base(tmp_path / "base", kind).model
    chosen = sites.choose(sites.sites(m), -1, ["*"], m.config.layers)
    adapter = lora.create(chosen, rank=2, scale=2.0)
    lora.attach(adapter)
    named = adapter.parameters().items()
    start = {n: 0.1 * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in enumerate(named)}
    adapter.set(start)
    rows, settings = samples(4), config()
    _, gradients = objectives.gradient(m, adapter, rows, settings)
    experts = [n for n in start if "switch_mlp" in n and "layers.1" in n]
    assert len(experts) == 6
    for number, name in enumerate(experts):
        way = mx.random.normal(start[name].shape, key=mx.random.key(100 + number))
        step, ends = 2e-2, []
        for side in (step, -step):
            adapter.set(start | {name: start[name] + side * way})
            ends.append(float(objectives.value(m, adapter, rows, settings).lost))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float(mx.sum(gradients[name] * way)), rel=0.05, abs=2e-2), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_trained_is_what_mlx_lm_computes_and_what_is_fused(kind: str, tmp_path: Path) -> None:
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    checkpoint = base(tmp_path / "base", kind)
    settings = config(rank=4, steps=20, rate=3e-2, modules=["*", "lm_head"])
    run = trainer.prepare(checkpoint.model, settings, trainer.Set(samples(24)), tmp_path / "adapter")
    losses = [e.loss for e in trainer.train(run) if isinstance(e, trainer.Stepped)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    trained = checkpoint.model(X)
    peer = load_adapters(load_model(tmp_path / "base")[0], str(tmp_path / "adapter"))
    peer.eval()
    assert difference(peer(X), trained) <= 5e-5
    stored = adapters.read(tmp_path / "adapter")
    for name, form in (("folder", fusion.Form()), ("fused.gguf", fusion.Form(gguf="f16"))):
        kept = fusion.fuse_to(tmp_path / name, load(tmp_path / "base"), stored, [X[0].tolist()], form)  # type: ignore[list-item]
        assert kept.adapter > 1e-3 and kept.error < 1e-3 * kept.adapter
    assert difference(load_model(tmp_path / "folder")[0](X), trained) <= 1e-4


def test_dropout_by_its_statistics(tmp_path: Path) -> None:
    """Each input is left out with its share, the rest is scaled up, and no two places, steps or batches agree."""
    m = base(tmp_path / "base", "qwen3_moe").model
    chosen = sites.choose(sites.sites(m), -1, ["q_proj", "o_proj"], m.config.layers)
    lora.attach(lora.create(chosen, rank=2, scale=1.0))
    layers, ones, share = lora.adapter_layers(m), mx.ones((200, 64)), 0.3
    seen: list[np.ndarray] = []
    for step, batch in ((1, 0), (2, 0), (1, 1)):
        objectives.set_dropout(m, share, 7, step, batch)
        seen += [np.array(layer.dropped(ones)) for layer in layers]
    size = ones.size
    for kept in seen:
        assert set(np.unique(kept)) == {0.0, np.float32(1 / (1 - share))}
        assert abs((kept == 0).mean() - share) < 4 * (share * (1 - share) / size) ** 0.5
        assert abs(kept.mean() - 1) < 4 * (share / (1 - share) / size) ** 0.5
    for i, one in enumerate(seen):
        for other in seen[:i]:  # independent: both left out as often as by chance
            both = ((one == 0) & (other == 0)).mean()
            assert abs(both - share**2) < 4 * (share**2 * (1 - share**2) / size) ** 0.5
    objectives.set_dropout(m, share, 7, 1, 0)
    assert all(np.array_equal(np.array(layer.dropped(ones)), kept) for layer, kept in zip(layers, seen, strict=False))
    objectives.set_dropout(m, 0.0, 7, 1, 0)
    assert all(np.array_equal(np.array(layer.dropped(ones)), np.array(ones)) for layer in layers)
