"""Adapters on experts, the embedding and the head: mlx-lm's layers and loader as the oracle, and the laws of all."""

import json
from pathlib import Path
from typing import Any

import pytest

import likely.engine.adapters.lora as lora
from likely.engine.adapters import adapters, peft, sites
from likely.engine.adapters.config import Config
from likely.engine.errors import CheckpointError, ParameterError
from likely.engine.sources import checkpoint
from likely.engine.tune import fusion, objectives, trainer
from likely.engine.tune.samples import TrainingSample
from likely.metal import mx
from likely.models import Transformer
from likely.models.layers import Embedding, Linear
from likely.models.mlp import Mixture
from likely.models.weights import Packed
from tests.engine import tiny as files
from tests.engine.tune.tiny import config, worst
from tests.models.oracle import difference, flat, ours, reference, tokens
from tests.models.test_families import SAME

X = tokens(2, 40, 101)  # enough choices that they are sorted by expert
EVERYWHERE = ("*", "embed_tokens", "lm_head")
NAMES = ["mixtral", "qwen3 moe", "granite moe", "llama", "llama wide heads", "gemma 2"]


def load_adapters(peer: Any, folder: str) -> Any:
    """mlx-lm's loader; imported late, so that metal's BLAS comes before mlx.core."""
    from mlx_lm.tuner.utils import load_adapters

    return load_adapters(peer, folder)


def moved(m: Transformer, patterns: tuple[str, ...], layers: int = -1, seed: int = 0) -> lora.Adapter:
    """An attached adapter with random factors."""
    known = {site.name.rsplit(".", 1)[-1] for site in sites.sites(m)}
    there = [p for p in patterns if p == "*" or p in known]
    adapter = lora.create(sites.choose(sites.sites(m), layers, there, m.config.layers), rank=3, scale=2.0)
    lora.attach(adapter)
    adapter.set(
        {
            n: p + 0.05 * mx.random.normal(p.shape, key=mx.random.key(100 * seed + i))
            for i, (n, p) in enumerate(adapter.parameters().items())
        }
    )
    return adapter


@pytest.mark.parametrize("name", NAMES)
def test_mlx_lm_reads_what_is_written_and_computes_the_same(name: str, tmp_path: Path) -> None:
    m = ours(SAME[name], reference(SAME[name]))
    base = m(X)
    adapter = moved(m, EVERYWHERE, layers=3)
    attached = m(X)
    assert difference(attached, base) > 1e-2
    adapters.save(tmp_path, adapter, m, {"kind": "lora"})
    peer = load_adapters(reference(SAME[name]), str(tmp_path))
    peer.eval()
    assert difference(attached, peer(X)) <= 2e-5
    with lora.off(
        m
    ):  # some BLAS kernels round a product that adds to the residual stream otherwise than the sum of both
        assert difference(m(X), base) <= 2e-6
    lora.detach(adapter)
    assert difference(m(X), base) == 0
    assert not lora.adapter_layers(m) and type(m.embed) is Embedding
    lora.attach(adapter)
    lora.merge(m, adapter)
    assert difference(m(X), attached) <= 2e-5 and not lora.adapter_layers(m)


@pytest.mark.parametrize("name", ["mixtral", "qwen3 moe", "llama"])
def test_what_mlx_lm_writes_is_read(name: str, tmp_path: Path) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers

    peer = reference(SAME[name])
    peer.freeze()
    keys = {"self_attn.q_proj", "model.embed_tokens", "lm_head"}
    keys |= {f"{at}.switch_mlp.{part}_proj" for at in ("mlp", "block_sparse_moe") for part in ("gate", "down")}
    settings = {"rank": 3, "scale": 7.0, "dropout": 0.0, "keys": sorted(keys)}
    linear_to_lora_layers(peer, 4, settings)
    trained = flat(peer.trainable_parameters())
    assert any(p.ndim == 3 for p in trained.values()) == (name != "llama") and "model.embed_tokens.lora_a" in trained
    trained = {n: p + 0.1 * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in enumerate(trained.items())}
    mx.save_safetensors(str(tmp_path / adapters.WEIGHTS), trained)
    (tmp_path / adapters.CONFIG).write_text(
        json.dumps({"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": settings})
    )
    peer.load_weights(list(trained.items()), strict=False)
    peer.eval()
    m = ours(SAME[name], reference(SAME[name]))
    read = adapters.place(m, adapters.read(tmp_path))
    assert isinstance(read, lora.Adapter)
    lora.attach(read)
    assert difference(m(X), peer(X)) <= 2e-5


def test_stacked_adapters_on_the_same_experts_and_embedding_add_up() -> None:
    m = ours(SAME["mixtral"], reference(SAME["mixtral"]))
    one, two = moved(m, EVERYWHERE, seed=1), moved(m, EVERYWHERE, seed=2)
    both = m(X)
    lora.rescale(two, 0.0)
    alone = m(X)
    lora.merge(m, two)
    assert difference(m(X), alone) <= 1e-6
    lora.merge(m, one)
    assert difference(m(X), alone) <= 2e-5 and difference(both, alone) > 1e-3


def samples() -> list[TrainingSample]:
    rows = [X[0].tolist(), X[1, :23].tolist()]
    return [
        TrainingSample(tuple(ids), (False, *(i % 3 > 0 for i in range(1, len(ids)))), str(k))
        for k, ids in enumerate(rows)
    ]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mixtral", "qwen3 moe", "llama", "llama wide heads"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kl", [0.0, 0.7])
def test_gradients_are_those_of_the_plain_loss(name: str, checkpointing: bool, kl: float) -> None:
    m = ours(SAME[name], reference(SAME[name]))
    frozen = m(X[:1]), m(X[1:, :23])  # the base's
    adapter = moved(m, EVERYWHERE, layers=3)
    items, settings = samples(), config(checkpointing=checkpointing, kl=kl)
    real = adapter.parameters()

    def loss(parameters: dict[str, mx.array]) -> mx.array:
        adapter.set(parameters)
        total = mx.array(0.0)
        for s, base in zip(items, frozen, strict=True):
            logp, before = (
                z - mx.logsumexp(z, axis=-1, keepdims=True) for z in (m(mx.array([s.ids[:-1]]))[0], base[0, :-1])
            )
            picked = mx.take_along_axis(logp, mx.array(s.ids[1:])[:, None], axis=-1)[:, 0]
            apart = mx.sum(mx.exp(logp) * (logp - before), axis=-1)
            total = total + mx.sum((kl * apart - picked) * mx.array(s.trained[1:]))
        return total

    expected = mx.grad(loss)(real)
    adapter.set(real)
    got = objectives.gradient(m, adapter, items, settings)[1]
    assert worst(got, expected) <= 5e-5


def test_training_reaches_experts_embedding_and_head(tmp_path: Path) -> None:
    m = ours(SAME["mixtral"], reference(SAME["mixtral"]))
    base = m(X)
    settings = config(modules=list(EVERYWHERE), optimiser="muon", rank=4, dropout=0.1, l2_sp=1e-4, quantize=0, steps=6)
    run = trainer.prepare(m, settings, trainer.Set(samples()), tmp_path)
    steps = [e for e in trainer.train(run) if isinstance(e, trainer.Stepped)]
    assert steps[-1].loss < steps[0].loss
    moved = [n for n, p in run.trained.parameters().items() if n.endswith("lora_b") and float(mx.max(mx.abs(p))) > 0]
    assert len(moved) == len([n for n in run.trained.parameters() if n.endswith("lora_b")])
    after = m(X)
    peer = load_adapters(reference(SAME["mixtral"]), str(tmp_path))
    peer.eval()
    assert difference(after, peer(X)) <= 5e-5 and difference(after, base) > 1e-3


def test_experts_are_packed_for_qlora_and_packed_again_when_fused(tmp_path: Path) -> None:
    c = checkpoint.load(files.random_folder(tmp_path / "base", MOE))
    m = c.model
    sites.pack(m, 8, 32)
    assert isinstance(m.blocks[0].mlp, Mixture) and isinstance(m.blocks[0].mlp.down, Packed)
    assert isinstance(m.out, Linear)
    adapter = moved(m, EVERYWHERE)
    attached = m(X)
    lora.detach(adapter)
    scale = next(iter(adapter.factors.values())).scale
    stored = adapters.StoredAdapter("lora", adapter.parameters(), scale, -1, 0.0, "")
    kept = fusion.fuse_to(tmp_path / "fused", c, stored, [X[0].tolist()])  # type: ignore[list-item]
    assert kept.error < 0.05 * kept.adapter and isinstance(m.blocks[0].mlp, Mixture)
    assert isinstance(m.blocks[0].mlp.down, Packed)
    again = checkpoint.load(tmp_path / "fused").model
    assert difference(again(X), m(X)) <= 1e-4 and difference(again(X), attached) < 0.1

    from mlx_lm.utils import load_model

    assert difference(load_model(tmp_path / "fused")[0](X), m(X)) <= 1e-4


MOE: dict[str, Any] = files.LLAMA | {
    "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip


def test_peft_has_the_embedding_and_no_experts(tmp_path: Path) -> None:
    m = ours(SAME["llama wide heads"], reference(SAME["llama wide heads"]))
    adapter = moved(m, EVERYWHERE)
    peft.write(tmp_path, adapter, m)
    raw: dict[str, mx.array] = mx.load(str(tmp_path / "adapter_model.safetensors"))  # type: ignore[assignment]
    a = raw["base_model.model.model.embed_tokens.lora_embedding_A"]  # PEFT: [r, V], and B is [C, r]
    b = raw["base_model.model.model.embed_tokens.lora_embedding_B"]
    assert difference(2.0 * (b @ a).T, adapter.factors["model.embed_tokens"].delta()) <= 1e-6
    other = ours(SAME["llama wide heads"], reference(SAME["llama wide heads"]))
    read = adapters.place(other, adapters.read(tmp_path))
    assert isinstance(read, lora.Adapter)
    lora.attach(read)
    assert difference(other(X), m(X)) <= 1e-6
    experts = moved(ours(SAME["mixtral"], reference(SAME["mixtral"])), ("*",))
    with pytest.raises(ParameterError, match=r"PEFT's files have no place for the experts at model\.layers\.0"):
        peft.write(tmp_path / "other", experts, m)


def test_embedding_and_head_are_chosen_by_name_alone() -> None:
    m = ours(SAME["llama wide heads"], reference(SAME["llama wide heads"]))
    every = sites.sites(m)

    def chosen(*patterns: str, layers: int = -1) -> set[str]:
        return {site.name for site in sites.choose(every, layers, patterns, m.config.layers)}

    assert not chosen("*") & {"model.embed_tokens", "lm_head"}
    assert chosen("q_proj", "embed*", layers=1) == {"self_attn.q_proj", "model.embed_tokens"}
    assert chosen("lm_head") == {"lm_head"}
    assert Config().modules == ("*",)
    for options, line in (
        ({"kind": "dora"}, "kind = dora goes with matrices, and model.embed_tokens is an embedding"),
        ({"init": "pissa"}, "init = pissa goes with matrices, and model.embed_tokens is an embedding"),
    ):
        with pytest.raises(ParameterError, match=line):
            lora.create(sites.choose(every, -1, ["embed_tokens"], m.config.layers), rank=2, scale=1.0, **options)


def test_an_adapter_of_another_layout_is_named(tmp_path: Path) -> None:
    m = ours(SAME["mixtral"], reference(SAME["mixtral"]))
    adapter = lora.create(sites.choose(sites.sites(m), -1, ["down_proj"], m.config.layers), rank=3, scale=2.0)
    adapters.save(tmp_path, adapter, m, {"kind": "lora"})
    other = ours(SAME["mixtral"] | {"num_local_experts": 4}, reference(SAME["mixtral"] | {"num_local_experts": 4}))
    line = r"model\.layers\.0\S+switch_mlp\.down_proj\.lora_a is \[5, 3, 72\] where this one needs \[4, 3, 72\]"
    with pytest.raises(CheckpointError, match=line):
        adapters.place(other, adapters.read(tmp_path))
