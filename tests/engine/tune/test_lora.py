"""Adapters: laws (B = 0 is the base, merge = attach), mlx-lm's loader and layers as the oracle, PEFT's layout."""

import json
from pathlib import Path
from typing import Any

import pytest

import likely.engine.adapters.lora as lora
from likely.engine.adapters import adapters, full, peft, sites
from likely.engine.errors import CheckpointError, ParameterError
from likely.metal import mx
from likely.models.layers import Joined
from likely.models.parts import ModelPart
from tests.engine.tune.tiny import LLAMA, V, model, same
from tests.models.oracle import difference, flat, reference, tokens
from tests.models.test_families import SAME

X = tokens(2, 9, V)


def load_adapters(peer: Any, folder: str) -> Any:
    """mlx-lm's loader; imported late, so that metal's BLAS comes before mlx.core."""
    from mlx_lm.tuner.utils import load_adapters

    return load_adapters(peer, folder)


def every(m: Any) -> list[ModelPart]:
    return sites.choose(sites.sites(m), -1, ["*"], m.config.layers)


# a product that adds to the residual stream is another than the sum of both, and some BLAS kernels round it otherwise
ROUNDING = 2e-6


def moved(m: Any, parts: list[ModelPart] | None = None, **options: Any) -> lora.Adapter:
    """An attached adapter with random factors, on everything in the layers if nothing is said."""
    adapter = lora.create(parts or every(m), rank=4, scale=2.0, **options)
    lora.attach(adapter)
    keys = mx.random.split(mx.random.key(5), len(adapter.parameters()))
    adapter.set(
        {
            n: p + 0.1 * mx.random.normal(p.shape, key=k)
            for (n, p), k in zip(adapter.parameters().items(), keys, strict=True)
        }
    )
    return adapter


@pytest.mark.parametrize("options", [{}, {"kind": "dora"}, {"init": "pissa"}])
def test_an_untrained_adapter_is_the_base(options: dict[str, str]) -> None:
    m = model()
    base = m(X)
    lora.attach(lora.create(every(m), rank=4, scale=2.0, **options))
    assert difference(m(X), base) <= ROUNDING


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_off_detached_and_merged(kind: str) -> None:
    m = model()
    base = m(X)
    adapter = moved(m, kind=kind)
    attached = m(X)
    assert difference(attached, base) > 0.1
    with lora.off(m):
        assert difference(m(X), base) <= ROUNDING
    lora.detach(adapter)
    assert difference(m(X), base) == 0
    lora.attach(adapter)
    lora.merge(m, adapter)
    assert difference(m(X), attached) <= 1e-5


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_mlx_lm_reads_what_is_written_and_computes_the_same(kind: str, tmp_path: Path) -> None:
    m = model()
    adapter = moved(m, kind=kind)
    adapters.save(tmp_path, adapter, m, {"kind": kind})
    peer = load_adapters(reference(LLAMA), str(tmp_path))
    peer.eval()
    assert difference(m(X), peer(X)) <= 1e-5


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_what_mlx_lm_writes_is_read(kind: str, tmp_path: Path) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers

    peer = reference(LLAMA)
    peer.freeze()
    settings = {"rank": 3, "scale": 7.0, "dropout": 0.0}
    linear_to_lora_layers(peer, 2, settings, use_dora=kind == "dora")
    trained = flat(peer.trainable_parameters())
    trained = {n: p + 0.1 * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in enumerate(trained.items())}
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), trained)
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"fine_tune_type": kind, "num_layers": 2, "lora_parameters": settings})
    )
    peer.load_weights(list(trained.items()), strict=False)
    peer.eval()
    m = model()
    read = adapters.place(m, adapters.read(tmp_path))
    assert isinstance(read, lora.Adapter) and read.lowest == 1
    lora.attach(read)
    assert difference(m(X), peer(X)) <= 1e-5
    again = tmp_path / "again"
    adapters.save(again, read, m, {"kind": kind})
    assert same(mx.load(str(again / "adapters.safetensors")), trained)  # type: ignore[arg-type]


def test_pissa_is_written_as_a_change_of_the_original_weights(tmp_path: Path) -> None:
    m = model()
    adapter = moved(m, init="pissa")
    adapters.save(tmp_path, adapter, m, {"kind": "lora"})
    peer = load_adapters(reference(LLAMA), str(tmp_path))
    peer.eval()
    assert difference(m(X), peer(X)) <= 1e-5


@pytest.mark.parametrize("rslora", [False, True])
def test_peft_both_ways_with_factors_that_could_be_read_untransposed(rslora: bool, tmp_path: Path) -> None:
    """q_proj is [32, 32] and the rank is 32, so every factor is square: an untransposed one would load in silence."""
    m = model()
    chosen = [site for site in every(m) if site.name == "self_attn.q_proj"]
    adapter = lora.create(chosen, rank=32, scale=0.5)
    adapter.set({n: mx.random.normal(p.shape, key=mx.random.key(7)) * 0.1 for n, p in adapter.parameters().items()})
    lora.attach(adapter)
    peft.write(tmp_path, adapter, m, rslora=rslora)
    raw: dict[str, mx.array] = mx.load(str(tmp_path / "adapter_model.safetensors"))  # type: ignore[assignment]
    f = adapter.factors["model.layers.0.self_attn.q_proj"]
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    # PEFT: delta = scale * lora_B @ lora_A, with lora_A [r, in] and lora_B [out, r]
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    scale = settings["lora_alpha"] / settings["r"] ** (0.5 if rslora else 1)
    assert difference(scale * raw[f"{prefix}.lora_B.weight"] @ raw[f"{prefix}.lora_A.weight"], f.delta()) <= 1e-6
    other = model()
    lora.attach(adapters.place(other, adapters.read(tmp_path)))  # type: ignore[arg-type]
    assert difference(other(X), m(X)) <= 1e-6


def test_stacked_adapters_with_weights_and_a_hot_scale() -> None:
    m = model()
    base = m(X)
    one = moved(m)
    alone = m(X)
    lora.detach(one)
    two = lora.create(every(m)[:3], rank=2, scale=1.0, seed=3)
    two.set({n: mx.random.normal(p.shape, key=mx.random.key(3)) * 0.1 for n, p in two.parameters().items()})
    lora.attach(two, weight=0.5)
    lora.attach(one)
    both = m(X)
    lora.rescale(one, 0.0)
    only_two = m(X)
    lora.merge(m, one)
    assert difference(m(X), only_two) <= 1e-6
    lora.merge(m, two)
    assert difference(m(X), only_two) <= 1e-5
    assert difference(both, alone) > 1e-3 and difference(only_two, base) > 1e-3
    dora = lora.create(every(m)[:1], rank=2, scale=1.0, kind="dora")
    lora.attach(dora)
    with pytest.raises(ParameterError, match="stacked"):
        lora.attach(lora.create(every(m)[:1], rank=2, scale=1.0))
    with pytest.raises(ParameterError, match="weight must be 1"):
        lora.rescale(dora, 0.5)


def test_over_packed_weights_the_adapter_is_the_same_change() -> None:
    m = model(hidden_size=64, num_attention_heads=4, intermediate_size=64)
    sites.pack(m, 4, 32)
    assert all(site.layout is not None for site in sites.sites(m) if 0 <= site.layer < m.config.layers)
    base = m(X)
    adapter = lora.create(every(m), rank=4, scale=2.0)
    lora.attach(adapter)
    assert difference(m(X), base) == 0
    adapter.set({n: mx.random.normal(p.shape, key=mx.random.key(3)) * 0.1 for n, p in adapter.parameters().items()})
    attached = m(X)
    lora.merge(m, adapter)
    assert difference(m(X), attached) <= 1e-5


def test_every_family_has_sites_that_mlx_lm_knows() -> None:
    from tests.models.oracle import ours

    for name in ("llama biased", "qwen3", "gemma 2", "phi 3", "starcoder 2"):
        config = SAME[name]
        peer = reference(config)
        m = ours(config, peer)
        linear = {n for n, p in flat(peer.parameters()).items() if p.ndim == 2}
        found = sites.sites(m)
        assert all(f"{site.path}.weight" in linear for site in found), name
        x = tokens(1, 7, 101)
        base = m(x)
        lora.attach(lora.create(found, rank=2, scale=1.0))
        assert difference(m(x), base) == 0, name


def test_parts_of_the_model_split_by_name_compute_the_same() -> None:
    m = model()
    base = m(X)
    m.split()
    assert isinstance(m.blocks[0].qkv, Joined) and len(m.blocks[0].qkv.parts) == 3
    assert difference(m(X), base) <= 1e-6


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma 3"])
def test_full_weights_have_the_checkpoints_names_and_values(family: str, tmp_path: Path) -> None:
    from tests.models.oracle import ours

    config = SAME[family]
    peer = reference(config)
    m = ours(config, peer)
    weights = full.weights(m)
    expected = {n: p for n, p in flat(peer.parameters()).items() if not n.startswith("lm_head") or not m.config.tied}
    stored = weights.stored(weights.parameters())
    assert set(stored) == set(expected)
    assert max(difference(stored[n], expected[n]) for n in stored) <= 1e-6
    x = tokens(1, 7, 101)
    before = m(x)
    changed = {n: p * 1.1 for n, p in weights.parameters().items()}
    weights.set(changed)
    assert difference(m(x), before) > 1e-2
    adapters.save(tmp_path, weights, m, {"kind": "full"})
    peer.load_weights(str(tmp_path / "adapters.safetensors"), strict=False)
    assert difference(m(x), peer(x)) <= 1e-4


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    m = model()
    with pytest.raises(ParameterError, match=r"rank must be 1 to 16 for model.layers.0.self_attn.k_proj"):
        lora.create(every(m), rank=17, scale=1.0)
    with pytest.raises(ParameterError, match="layers must be -1"):
        sites.choose(sites.sites(m), 16, ["*"], 3)  # more layers than the model has
    with pytest.raises(ParameterError, match=r"no module matches 'wq'; here: self_attn.q_proj"):
        sites.choose(sites.sites(m), -1, ["wq"], 3)
    adapters.save(tmp_path, moved(m), m, {"kind": "lora", "model": "tiny"})
    with pytest.raises(CheckpointError, match=r"another model: model.layers.0.mlp.down_proj.lora_a is \[48, 4\] where"):
        adapters.place(model(intermediate_size=64), adapters.read(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"another model: model.layers.2\S+ .* has no place here \(it was trained on"
    ):
        adapters.place(model(num_hidden_layers=2), adapters.read(tmp_path))
    with pytest.raises(CheckpointError, match="no adapter directory"):
        adapters.read(tmp_path / "nowhere")


def test_detaching_from_the_table_of_an_untied_model_leaves_its_head() -> None:
    m = model(tie_word_embeddings=False)
    base, head, table = m(X), m.out, m.embed
    adapter = moved(m, sites.choose(sites.sites(m), -1, ["embed_tokens", "lm_head"], m.config.layers))
    assert any(f.site.kind == "table" for f in adapter.factors.values())
    assert difference(m(X), base) > 0.1
    lora.detach(adapter)
    assert m.out is head and m.embed is table and difference(m(X), base) == 0
