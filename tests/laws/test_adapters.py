"""Adapters of every kind on every kind of model: B = 0 is the base, merged is attached, mlx-lm computes the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.engine.weights.adapters.lora as lora
from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.losses import batch_losses
from likely.engine.train.run import trainer
from likely.engine.weights.adapters import adapters, full, sites
from likely.metal import mx
from likely.models import Transformer
from likely.models.modules.linear import Embedding, JoinedProducts
from likely.models.modules.parts import ModelPart
from tests.engine.tune.tiny import LLAMA, config, model, same, worst
from tests.models.oracle import difference, flat, ours, reference, tokens
from tests.models.test_families import SAME
from tests.support.everyday import everyday

X = tokens(2, 40, 61)  # enough choices that they are sorted by expert
EVERYWHERE = ("*", "embed_tokens", "lm_head")
# a product that adds to the residual stream is another than the sum of both, and some BLAS kernels round it otherwise
ROUNDING = 2e-6
FAMILIES: dict[str, dict[str, Any]] = {"tiny": LLAMA} | {
    name: SAME[name] for name in ("mixtral", "qwen3 moe", "granite moe", "llama", "llama wide heads", "gemma 2")
}
CASES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [  # family, options, modules
    ("tiny", {}, ("*",)), ("tiny", {"kind": "dora"}, ("*",)), ("tiny", {"init": "pissa"}, ("*",)),
    *((name, {}, EVERYWHERE) for name in FAMILIES if name != "tiny"),
]  # fmt: skip


def made(family: str) -> Transformer:
    built: Transformer = ours(FAMILIES[family], reference(FAMILIES[family]))
    return built


def peer_of(family: str, folder: Path) -> Any:
    """mlx-lm's model with an adapter directory by its own loader."""
    from mlx_lm.tuner.utils import load_adapters

    peer = load_adapters(reference(FAMILIES[family]), str(folder))
    peer.eval()
    return peer


def there(m: Transformer, patterns: tuple[str, ...]) -> list[str]:
    known = {site.name.rsplit(".", 1)[-1] for site in sites.sites(m)}
    return [p for p in patterns if p == "*" or p in known]


def chosen(m: Transformer, patterns: tuple[str, ...] = ("*",), layers: int = -1) -> list[ModelPart]:
    return sites.choose(sites.sites(m), layers, there(m, patterns), m.config.layers)


def moved(
    m: Transformer, patterns: tuple[str, ...] = ("*",), layers: int = -1, seed: int = 0, **options: Any
) -> lora.Adapter:
    """An attached adapter with random factors."""
    adapter = lora.create(chosen(m, patterns, layers), rank=3, scale=2.0, **options)
    lora.attach(adapter)
    named = adapter.parameters().items()
    keys = (mx.random.key(100 * seed + i) for i in range(len(named)))
    adapter.set({n: p + 0.05 * mx.random.normal(p.shape, key=key) for (n, p), key in zip(named, keys, strict=True)})
    return adapter


@pytest.mark.parametrize(("family", "options", "modules"), CASES)
def test_untrained_off_detached_merged_and_read_by_mlx_lm(
    family: str, options: dict[str, Any], modules: tuple[str, ...], tmp_path: Path
) -> None:
    m = made(family)
    base = m(X)
    plain = lora.create(chosen(m, modules), rank=3, scale=2.0, **options)
    lora.attach(plain)
    assert difference(m(X), base) <= ROUNDING
    lora.detach(plain)
    adapter = moved(m, modules, 3, **options)
    attached = m(X)
    assert difference(attached, base) > 1e-2
    adapters.save(tmp_path, adapter, m, {"kind": options.get("kind", "lora")})
    assert difference(attached, peer_of(family, tmp_path)(X)) <= 2e-5
    with lora.off(m):
        assert difference(m(X), base) <= ROUNDING
    lora.detach(adapter)
    assert difference(m(X), base) == 0 and not lora.adapter_layers(m) and type(m.embed) is Embedding
    if options.get("init") != "pissa":  # whose base was changed
        lora.attach(adapter)
        lora.merge(m, adapter)
        assert difference(m(X), attached) <= 2e-5 and not lora.adapter_layers(m)


@pytest.mark.parametrize(
    ("family", "kind"), [("tiny", "dora"), ("mixtral", "lora"), ("qwen3 moe", "lora"), ("llama", "lora")]
)
def test_what_mlx_lm_writes_is_read(family: str, kind: str, tmp_path: Path) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers

    peer = reference(FAMILIES[family])
    peer.freeze()
    settings: dict[str, Any] = {"rank": 3, "scale": 7.0, "dropout": 0.0}
    if kind == "lora":
        keys = {f"{at}.switch_mlp.{part}_proj" for at in ("mlp", "block_sparse_moe") for part in ("gate", "down")}
        settings["keys"] = sorted(keys | {"self_attn.q_proj", "model.embed_tokens", "lm_head"})
    linear_to_lora_layers(peer, 4 if kind == "lora" else 2, settings, use_dora=kind == "dora")
    trained = flat(peer.trainable_parameters())
    assert any(p.ndim == 3 for p in trained.values()) == (family in ("mixtral", "qwen3 moe"))
    trained = {n: p + 0.1 * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in enumerate(trained.items())}
    mx.save_safetensors(str(tmp_path / adapters.WEIGHTS), trained)
    said = {"fine_tune_type": kind, "num_layers": 4 if kind == "lora" else 2, "lora_parameters": settings}
    (tmp_path / adapters.CONFIG).write_text(json.dumps(said))
    peer.load_weights(list(trained.items()), strict=False)
    peer.eval()
    m = made(family)
    read = adapters.build(m, adapters.read(tmp_path))
    assert isinstance(read, lora.Adapter)
    lora.attach(read)
    assert difference(m(X), peer(X)) <= 2e-5
    adapters.save(tmp_path / "again", read, m, {"kind": kind})
    assert same(mx.load(str(tmp_path / "again" / adapters.WEIGHTS)), trained)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["tiny", "mixtral"])
def test_stacked_adapters_add_up_by_their_weights(family: str) -> None:
    m = made(family)
    base = m(X)
    one = moved(m, EVERYWHERE, seed=1)
    alone = m(X)
    two = lora.create(chosen(m, EVERYWHERE), rank=2, scale=1.0, seed=3)
    two.set({n: mx.random.normal(p.shape, key=mx.random.key(3)) * 0.1 for n, p in two.parameters().items()})
    lora.attach(two, weight=0.5)
    both = m(X)
    lora.rescale(one, 0.0)
    only_two = m(X)
    lora.merge(m, one)
    assert difference(m(X), only_two) <= 1e-6
    lora.merge(m, two)
    assert difference(m(X), only_two) <= 2e-5
    assert min(difference(both, alone), difference(only_two, base)) > 1e-3
    dora = lora.create(chosen(m)[:1], rank=2, scale=1.0, kind="dora")
    lora.attach(dora)
    with pytest.raises(ParameterError, match="stacked"):
        lora.attach(lora.create(chosen(m)[:1], rank=2, scale=1.0))
    with pytest.raises(ParameterError, match="weight must be 1"):
        lora.rescale(dora, 0.5)


def test_over_packed_weights_the_adapter_is_the_same_change() -> None:
    m = model(hidden_size=64, num_attention_heads=4, intermediate_size=64)
    sites.pack(m, 4, 32)
    assert all(site.layout is not None for site in sites.sites(m) if 0 <= site.layer < m.config.layers)
    base = m(X)
    adapter = lora.create(chosen(m), rank=4, scale=2.0)
    lora.attach(adapter)
    assert difference(m(X), base) == 0
    adapter.set({n: mx.random.normal(p.shape, key=mx.random.key(3)) * 0.1 for n, p in adapter.parameters().items()})
    attached = m(X)
    lora.merge(m, adapter)
    assert difference(m(X), attached) <= 1e-5


def test_every_family_has_sites_that_mlx_lm_knows_and_parts_split_compute_the_same() -> None:
    for name in ("llama biased", "qwen3", "gemma 2", "phi 3", "starcoder 2"):
        peer = reference(SAME[name])
        m = ours(SAME[name], peer)
        linear = {n for n, p in flat(peer.parameters()).items() if p.ndim == 2}
        assert all(f"{site.path}.weight" in linear for site in sites.sites(m)), name
        x = tokens(1, 7, 61)
        base = m(x)
        lora.attach(lora.create(sites.sites(m), rank=2, scale=1.0))
        assert difference(m(x), base) == 0, name
    m = model()
    base = m(X)
    m.split()
    assert (
        isinstance(m.blocks[0].qkv, JoinedProducts)
        and len(m.blocks[0].qkv.parts) == 3
        and difference(m(X), base) <= 1e-6
    )


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma 3"])
def test_full_weights_have_the_checkpoints_names_and_values(family: str, tmp_path: Path) -> None:
    peer = reference(SAME[family])
    m = ours(SAME[family], peer)
    weights = full.weights(m)
    expected = {n: p for n, p in flat(peer.parameters()).items() if not n.startswith("lm_head") or not m.config.tied}
    stored = weights.stored(weights.parameters())
    assert set(stored) == set(expected)
    assert max(difference(stored[n], expected[n]) for n in stored) <= 1e-6
    before = m(X)
    weights.set({n: p * 1.1 for n, p in weights.parameters().items()})
    assert difference(m(X), before) > 1e-2
    adapters.save(tmp_path, weights, m, {"kind": "full"})
    peer.load_weights(str(tmp_path / "adapters.safetensors"), strict=False)
    assert difference(m(X), peer(X)) <= 1e-4


# -- training them -----------------------------------------------------------------------------------------------------


def rows() -> list[TrainingSample]:
    return [
        TrainingSample(tuple(ids), (False, *(i % 3 > 0 for i in range(1, len(ids)))), str(k))
        for k, ids in enumerate((X[0].tolist(), X[1, :23].tolist()))
    ]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "options"),
    everyday([
        *((name, {}) for name in ("mixtral", "qwen3 moe", "llama", "llama wide heads")), ("tiny", {"kind": "dora"}),
        ("tiny", {"kind": "full"}), ("tiny", {"quantize": 4, "group_size": 32}),
    ], 3),
)  # fmt: skip
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kl", [0.0, 0.7])
def test_gradients_are_those_of_the_plain_loss(
    family: str, options: dict[str, Any], checkpointing: bool, kl: float, tmp_path: Path
) -> None:
    """By mx.grad of the loss written down: each row alone, all logits, masked."""
    wide = {"hidden_size": 64, "intermediate_size": 64} if "quantize" in options else {}
    m = model(**wide) if family == "tiny" else made(family)
    if options.get("kind") != "full":
        options = {"rank": 3, "modules": there(m, ("*",) if family == "tiny" else EVERYWHERE), **options}
    settings = config(checkpointing=checkpointing, kl=kl, layers=-1 if wide else 2, **options)
    items = rows()
    run = trainer.prepare(m, settings, trainer.Set(items), tmp_path)
    frozen = [m(mx.array([s.ids]))[0] for s in items]  # the base's
    real = {
        n: p + 0.05 * mx.random.normal(p.shape, key=mx.random.key(i))
        for i, (n, p) in enumerate(run.trained.parameters().items())
    }

    def loss(parameters: dict[str, mx.array]) -> mx.array:
        run.trained.set(parameters)
        total = mx.array(0.0)
        for s, base in zip(items, frozen, strict=True):
            logp, before = (
                z - mx.logsumexp(z, axis=-1, keepdims=True) for z in (m(mx.array([s.ids[:-1]]))[0], base[:-1])
            )
            picked = mx.take_along_axis(logp, mx.array(s.ids[1:])[:, None], axis=-1)[:, 0]
            apart = mx.sum(mx.exp(logp) * (logp - before), axis=-1)
            total = total + mx.sum((kl * apart - picked) * mx.array(s.trained[1:]))
        return total

    expected = mx.grad(loss)(real)
    run.trained.set(real)
    sums, got = batch_losses.gradient(m, run.trained, items, settings)
    assert worst(got, expected) <= 5e-5 and sums.count == sum(s.targets for s in items)


@pytest.mark.parametrize("family", ["mixtral", "qwen3 moe"])
def test_training_reaches_experts_embedding_and_head_and_mlx_lm_computes_it(family: str, tmp_path: Path) -> None:
    m = made(family)
    base = m(X)
    settings = config(modules=there(m, EVERYWHERE), optimiser="muon", rank=4, dropout=0.1, l2_sp=1e-4, steps=6)
    run = trainer.prepare(m, settings, trainer.Set(rows()), tmp_path)
    steps = [e for e in trainer.train(run) if isinstance(e, trainer.Stepped)]
    assert steps[-1].loss < steps[0].loss
    assert all(float(mx.max(mx.abs(p))) > 0 for n, p in run.trained.parameters().items() if n.endswith("lora_b"))
    assert difference(m(X), peer_of(family, tmp_path)(X)) <= 5e-5 and difference(m(X), base) > 1e-3


def test_dropout_by_its_statistics() -> None:
    """Each input is left out with its share, the rest is scaled up, and no two places, steps or batches agree."""
    m = made("qwen3 moe")
    lora.attach(lora.create(chosen(m, ("q_proj", "o_proj")), rank=2, scale=1.0))
    layers, share = lora.adapter_layers(m), 0.3
    ones = [mx.ones((200, 48))] * len(layers)
    seen: list[np.ndarray] = []
    for step, batch in ((1, 0), (2, 0), (1, 1)):
        batch_losses.set_dropout(m, share, 7, step, batch)
        seen += [np.array(layer.dropped(one)) for layer, one in zip(layers, ones, strict=True)]
    size = min(kept.size for kept in seen)
    for kept in seen:
        assert set(np.unique(kept)) == {0.0, np.float32(1 / (1 - share))}
        assert abs((kept == 0).mean() - share) < 4 * (share * (1 - share) / size) ** 0.5
        assert abs(kept.mean() - 1) < 4 * (share / (1 - share) / size) ** 0.5
    for i, one in enumerate(seen):
        for other in seen[:i]:  # independent: both left out as often as by chance
            both = ((one == 0) & (other == 0)).mean()
            assert abs(both - share**2) < 4 * (share**2 * (1 - share**2) / size) ** 0.5
    batch_losses.set_dropout(m, share, 7, 1, 0)
    again = [np.array(layer.dropped(one)) for layer, one in zip(layers, ones, strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(again, seen, strict=False))
    batch_losses.set_dropout(m, 0.0, 7, 1, 0)
    assert all(np.array_equal(layer.dropped(one), one) for layer, one in zip(layers, ones, strict=True))


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_embedding_and_head_are_chosen_by_name_alone_and_what_does_not_fit_is_named(tmp_path: Path) -> None:
    m = made("llama wide heads")
    every = sites.sites(m)

    def names(*patterns: str, layers: int = -1) -> set[str]:
        return {site.name for site in sites.choose(every, layers, patterns, m.config.layers)}

    assert not names("*") & {"model.embed_tokens", "lm_head"} and names("lm_head") == {"lm_head"}
    assert names("q_proj", "embed*", layers=1) == {"self_attn.q_proj", "model.embed_tokens"}
    table = sites.choose(every, -1, ["embed_tokens"], m.config.layers)
    small, experts = model(), made("mixtral")
    adapters.save(tmp_path / "tiny", moved(small), small, {"kind": "lora", "model": "tiny"})
    of_experts = lora.create(chosen(experts, ("down_proj",)), rank=3, scale=2.0)
    adapters.save(tmp_path / "moe", of_experts, experts, {"kind": "lora"})
    fewer = SAME["mixtral"] | {"num_local_experts": 4}
    for call, error, line in (
        (lambda: lora.create(table, rank=2, scale=1.0, kind="dora"), ParameterError, "kind = dora goes with matrices"),
        (lambda: lora.create(table, rank=2, scale=1.0, init="pissa"), ParameterError, "pissa goes with matrices"),
        (lambda: lora.create(chosen(small), rank=17, scale=1.0), ParameterError, r"rank must be 1 to 16 for .*k_proj"),
        (lambda: sites.choose(sites.sites(small), 16, ["*"], 3), ParameterError, "layers must be -1"),
        (lambda: sites.choose(sites.sites(small), -1, ["wq"], 3), ParameterError, "no module matches 'wq'; here:"),
        (lambda: adapters.build(model(intermediate_size=64), adapters.read(tmp_path / "tiny")), CheckpointError,
         r"another model: model.layers.0.mlp.down_proj.lora_a is \[48, 3\] where"),
        (lambda: adapters.build(model(num_hidden_layers=2), adapters.read(tmp_path / "tiny")), CheckpointError,
         r"another model: model.layers.2\S+ .* has no place here \(it was trained on"),
        (lambda: adapters.build(ours(fewer, reference(fewer)), adapters.read(tmp_path / "moe")), CheckpointError,
         r"switch_mlp\.down_proj\.lora_a is \[5, 3, 72\] where this one needs \[4, 3, 72\]"),
    ):  # fmt: skip
        with pytest.raises(error, match=line):
            call()
