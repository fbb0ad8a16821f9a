"""Fusing, writing folders and GGUF files, and the comparison of two models."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import likely.engine.weights.adapters.lora as lora
from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.base.statistics import compare
from likely.engine.train.losses import fusion
from likely.engine.train.tuned_models import open_model
from likely.engine.weights.adapters import adapters, sites
from likely.engine.weights.quantize import Settings, quantize
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.engine.weights.write import fuse, gguf
from likely.metal import mx
from likely.models.configuration.rope_scaling import RopeScaling
from tests.engine import tiny as files
from tests.engine.sources.test_gguf_packed import EXACT
from tests.models.oracle import difference

TEXTS = [[3, 14, 15, 92, 65, 35, 89, 79, 32, 38], [38, 32, 79, 89, 35, 65, 92, 15, 14, 3]]
X = mx.array(TEXTS[:1])


def folder(path: Path, **changes: Any) -> Checkpoint:
    config = files.LLAMA | changes
    return load(files.random_folder(path, config))


def moved(checkpoint: Checkpoint, size: float = 0.2) -> lora.Adapter:
    m = checkpoint.model
    adapter = lora.create(sites.choose(sites.sites(m), -1, ["*"], m.config.layers), rank=4, scale=2.0)
    keys = enumerate(adapter.parameters().items())
    adapter.set({n: size * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in keys})
    lora.attach(adapter)
    return adapter


def detached(adapter: lora.Adapter) -> adapters.StoredAdapter:
    """The adapter off its model, as a directory holds it."""
    lora.detach(adapter)
    return adapters.StoredAdapter("lora", adapter.parameters(), 2.0, -1, 0.0, "")


def test_a_fused_folder_is_the_model_with_its_adapter_here_and_in_mlx_lm(tmp_path: Path) -> None:
    from mlx_lm.utils import load_model

    checkpoint = folder(tmp_path / "base")
    adapter = moved(checkpoint)
    attached = checkpoint.model(X)
    kept = fusion.fuse_to(tmp_path / "fused", checkpoint, detached(adapter), TEXTS)
    assert kept.adapter > 1e-3 and kept.fused == pytest.approx(kept.adapter, rel=1e-3) and kept.error < 1e-6
    assert difference(load(tmp_path / "fused").model(X), attached) <= 1e-5
    assert difference(load_model(tmp_path / "fused")[0](X), attached) <= 1e-5
    with pytest.raises(DataError, match="is not empty"):
        fuse.write(checkpoint, tmp_path / "fused")
    with pytest.raises(DataError, match="is not empty"):
        fusion.fuse_to(tmp_path / "fused", checkpoint, detached(adapter), TEXTS)


@pytest.mark.parametrize("rope", ["yarn:2", "ntk:2", "linear:2"])
def test_a_longer_rope_is_written_in_the_words_of_others(rope: str, tmp_path: Path) -> None:
    from mlx_lm.utils import load_model

    longer = folder(tmp_path / "base", max_position_embeddings=8).with_rope(RopeScaling.read(rope))
    fuse.write(longer, tmp_path / "fused")
    for model in (load(tmp_path / "fused").model, load_model(tmp_path / "fused")[0]):
        assert difference(model(X), longer.model(X)) < 1e-4
    quantize(longer.info, tmp_path / "small", Settings(group_size=32))
    for name in ("fused", "small"):
        assert 'max_position_embeddings": 16' in (tmp_path / name / "config.json").read_text()


def test_a_gguf_base_becomes_a_folder_with_its_tokenizer(tmp_path: Path) -> None:
    checkpoint = base_file(tmp_path / "base.gguf")
    adapter = moved(checkpoint)
    attached = checkpoint.model(X)
    fusion.fuse_to(tmp_path / "fused", checkpoint, detached(adapter), TEXTS)
    again = load(tmp_path / "fused")
    assert difference(again.model(X), attached) <= 1e-5
    assert again.tokenizer.fingerprint == checkpoint.tokenizer.fingerprint
    assert again.tokenizer.encode("ab don't 123") == checkpoint.tokenizer.encode("ab don't 123")
    assert again.tokenizer.eos == checkpoint.tokenizer.eos


@pytest.mark.parametrize("changes", [{}, files.MOE], ids=["plain", "experts"])
def test_a_packed_model_says_what_rounding_cost_and_is_read_by_mlx_lm(changes: dict[str, Any], tmp_path: Path) -> None:
    from mlx_lm.utils import load_model

    checkpoint = folder(tmp_path / "base", **{"intermediate_size": 128, **changes})
    if changes:
        sites.pack(checkpoint.model, 8, 32)  # and packed again as it was
    stored, form = detached(moved(checkpoint)), fusion.Form() if changes else fusion.Form(8, 32)
    kept = fusion.fuse_to(tmp_path / "fused", checkpoint, stored, TEXTS, form)
    assert 0 < kept.error < 0.1 * kept.adapter and not kept.lost
    for again in (load(tmp_path / "fused").model, load_model(tmp_path / "fused")[0]):
        assert difference(again(X), checkpoint.model(X)) <= 1e-4
    settings = json.loads((tmp_path / "fused" / "config.json").read_text())["quantization"]
    assert settings["model.layers.0.self_attn.q_proj"] == {"group_size": 32, "bits": 8, "mode": "affine"}


def test_an_adapter_that_rounding_erases_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: fusing into few bits can silently give the base again."""
    checkpoint = folder(tmp_path / "base", intermediate_size=128)
    sites.pack(checkpoint.model, 4, 32)
    adapter = moved(checkpoint, size=0.003)
    with monkeypatch.context() as little, pytest.raises(CheckpointError, match=r"not enough disk space: .* --out"):
        little.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        fusion.fuse_to(tmp_path / "fused", checkpoint, detached(adapter), TEXTS, fusion.Form(8, 32))
    told = list[str]()
    with pytest.raises(fusion.AdapterLost, match=r"has lost the adapter: KL to the base .* with it, .* fused"):
        fusion.fuse_to(
            tmp_path / "fused", checkpoint, detached(adapter), TEXTS, progress=lambda stage, *_: told.append(stage)
        )
    assert not any("writing" in stage for stage in told), "a minute later on a real model"
    assert list(tmp_path.iterdir()) == [tmp_path / "base"]
    kept = fusion.fuse_to(tmp_path / "fused", checkpoint, detached(adapter), TEXTS, force=True)
    assert kept.lost and (tmp_path / "fused" / "model.safetensors").exists()


def judged(one: Any, two: Any) -> float:
    """KL(two || one) in nats a token over TEXTS, by numpy."""
    total = 0.0
    for ids in TEXTS:
        a, b = (np.array(m(mx.array([ids]))[0], np.float64) for m in (one, two))
        a, b = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (a, b))
        total += float((np.exp(b) * (b - a)).sum())
    return total / sum(map(len, TEXTS))


@pytest.mark.parametrize("form", [fusion.Form(4, 32), fusion.Form(gguf="q4_0"), fusion.Form(gguf="q8_0")], ids=str)
def test_what_is_said_of_a_file_is_true_of_the_file(form: fusion.Form, tmp_path: Path) -> None:
    """The fault: --gguf compared before it quantised, so that a file far from the adapter was said to be it."""
    checkpoint = folder(tmp_path / "base", intermediate_size=128)
    base, adapter = load(tmp_path / "base").model, moved(checkpoint, size=0.05)
    stored = detached(adapter)
    other = load(tmp_path / "base").model
    lora.attach(adapters.build(other, stored))  # type: ignore[arg-type]
    out = tmp_path / ("out.gguf" if form.gguf else "out")
    kept = fusion.fuse_to(out, checkpoint, stored, TEXTS, form, force=True)
    with pytest.raises(DataError, match="exists already" if form.gguf else "is not empty"):
        fusion.fuse_to(out, checkpoint, stored, TEXTS, form, force=True)
    written = load(out).model
    truth = judged(base, other), judged(base, written), judged(other, written)
    assert (kept.adapter, kept.fused, kept.error) == pytest.approx(truth, rel=1e-2, abs=1e-7)
    assert kept.error > 1e-3 * kept.adapter


@pytest.mark.parametrize("bits", [0, 3])
def test_whole_weights_are_judged_and_quantised_as_asked(bits: int, tmp_path: Path) -> None:
    """The fault: --bits was passed over for a run of kind full, and 0 was reported."""
    checkpoint = folder(tmp_path / "base", intermediate_size=128)
    named = {f"{part.path}.weight": part.stored()["weight"] for part in checkpoint.model.parts()}
    moving = {n: a + 0.3 * mx.random.normal(a.shape, key=mx.random.key(i)) for i, (n, a) in enumerate(named.items())}
    base = load(tmp_path / "base").model
    stored = adapters.StoredAdapter("full", moving, 1.0, -1, 0.0, "")
    kept = fusion.fuse_to(tmp_path / "out", checkpoint, stored, TEXTS, fusion.Form(bits, 32), force=True)
    written = load(tmp_path / "out")
    assert kept.adapter > 1e-2 and kept.fused == pytest.approx(judged(base, written.model), rel=1e-2)
    assert kept.error > 1e-4 if bits else kept.error < 1e-6
    settings = json.loads((tmp_path / "out" / "config.json").read_text()).get("quantization", {})
    assert settings.get("model.layers.0.mlp.down_proj", {}).get("bits", 0) == bits


@pytest.mark.slow(4)
@pytest.mark.parametrize(("dtype", "name"), [(mx.bfloat16, "BF16"), (mx.float16, "F16")])
def test_a_fused_folder_keeps_the_bases_precision(dtype: mx.Dtype, name: str, tmp_path: Path) -> None:
    """The fault: bfloat16 and float16 became float32 on a machine that computes in it."""
    arrays = {n: mx.array(a).astype(dtype) for n, a in files.weights(files.LLAMA).items()}
    files.write_folder(tmp_path / "base", files.LLAMA, arrays)
    for bits, wanted in ((0, dtype), (32, mx.float32)):
        checkpoint = fusion.open_base(str(tmp_path / "base"))
        fusion.fuse_to(tmp_path / f"out{bits}", checkpoint, detached(moved(checkpoint)), TEXTS, fusion.Form(bits))
        assert {a.dtype for a in stored(tmp_path / f"out{bits}").values()} == {wanted}


def test_what_was_packed_is_packed_as_it_was_and_what_was_not_touched_is_the_same(tmp_path: Path) -> None:
    """The fault: a base of 4 bits became float32 numbers."""
    config = files.LLAMA | {"intermediate_size": 128}
    base = files.write_gguf(tmp_path / "base.gguf", "llama", config, files.weights(config), "Q4_1")
    checkpoint = fusion.open_base(str(base))
    adapter = lora.create(sites.choose(sites.sites(checkpoint.model), 1, ["q_proj"], 2), rank=4, scale=2.0)
    adapter.set({n: mx.random.normal(p.shape, key=mx.random.key(3)) for n, p in adapter.parameters().items()})
    before = fuse.arrays(checkpoint.model)[0]  # type: ignore[arg-type]
    kept = fusion.fuse_to(tmp_path / "out", checkpoint, detached(adapter), TEXTS)
    assert 0 < kept.error < 0.5 * kept.adapter
    now = stored(tmp_path / "out")
    assert set(now) == set(before)
    differing = {n for n in now if difference(now[n].astype(mx.float32), before[n].astype(mx.float32))}
    assert differing and all("norm" in n or n.startswith("model.layers.1.self_attn.q_proj.") for n in differing)
    assert sum(a.nbytes for a in now.values()) < 1.5 * base.stat().st_size
    path = "model.layers.0.mlp.down_proj"
    assert [now[f"{path}.{name}"].dtype for name in ("weight", "scales")] == [mx.uint32, mx.float16]


def base_file(path: Path, architecture: str = "llama", **changes: Any) -> Checkpoint:
    config = files.LLAMA | {"intermediate_size": 128} | changes
    return load(files.write_gguf(path, architecture, config, files.weights(config)), precision=EXACT)


def kl(a: mx.array, b: mx.array) -> float:
    """KL(a || b) of logits, in nats a place."""
    p, q = (x - mx.logsumexp(x, axis=-1, keepdims=True) for x in (a, b))
    return float(mx.mean(mx.sum(mx.exp(p) * (p - q), axis=-1)))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma"])
@pytest.mark.parametrize(("kind", "worst"), [("f16", 1e-5), ("q8_0", 1e-3), ("q4_0", 0.5)])
def test_gguf_files_are_read_again_by_the_gguf_package_and_by_us(
    architecture: str, kind: str, worst: float, tmp_path: Path
) -> None:
    from gguf import GGUFReader

    changes: dict[str, Any] = {} if architecture == "llama" else {"model_type": architecture}
    if architecture == "gemma":
        changes["tie_word_embeddings"] = True
    checkpoint = base_file(tmp_path / "base.gguf", architecture, **changes)
    adapter = moved(checkpoint)
    lora.merge(checkpoint.model, adapter)
    gguf.write(checkpoint, tmp_path / "out.gguf", kind)
    again = load(tmp_path / "out.gguf", precision=EXACT)
    assert kl(checkpoint.model(X), again.model(X)) <= worst
    assert again.tokenizer.fingerprint == checkpoint.tokenizer.fingerprint
    reader = GGUFReader(str(tmp_path / "out.gguf"))
    base = GGUFReader(str(tmp_path / "base.gguf"))
    assert {t.name for t in reader.tensors} == {t.name for t in base.tensors}
    kinds = {t.name: t.tensor_type.name for t in reader.tensors}
    assert kinds["blk.0.ffn_down.weight"] == kind.upper() and kinds["output_norm.weight"] == "F32"
    assert kinds["token_embd.weight"] == {"q4_0": "Q8_0"}.get(kind, "F16")
    assert set(base.fields) - set(reader.fields) <= {"general.file_type"}


GEMMA: dict[str, Any] = {"tie_word_embeddings": True, "query_pre_attn_scalar": 16, "sliding_window": 64}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
FOLDERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama 3": {"rope_scaling": LLAMA3, "rope_theta": 500_000.0},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "mistral": {"model_type": "mistral", "sliding_window": 128},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "rope_theta": 1e6},
    "qwen3_moe": {
        "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "norm_topk_prob": True,
    },
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma": {"model_type": "gemma", "tie_word_embeddings": True},
    "gemma2": {"model_type": "gemma2", **GEMMA, "num_hidden_layers": 4},
    "gemma3": {"model_type": "gemma3_text", **GEMMA, "num_hidden_layers": 7, "rope_theta": 1e6},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_becomes_a_gguf_file_that_the_gguf_package_and_we_read(name: str, tmp_path: Path) -> None:
    from gguf import GGUFReader

    checkpoint = folder(tmp_path / "base", **FOLDERS[name])
    gguf.write(checkpoint, tmp_path / "out.gguf", "f16")
    again = load(tmp_path / "out.gguf", precision=EXACT)
    ids = mx.array([list(range(60, 250, 2))])  # past the windows
    assert kl(checkpoint.model(ids), again.model(ids)) <= 1e-5
    assert again.tokenizer.encode("ab don't 123") == checkpoint.tokenizer.encode("ab don't 123")
    assert again.tokenizer.eos == checkpoint.tokenizer.eos
    reader = GGUFReader(str(tmp_path / "out.gguf"))
    architecture = reader.fields["general.architecture"].contents()
    assert reader.fields[f"{architecture}.context_length"].contents() == 128
    assert reader.fields["tokenizer.ggml.pre"].contents() == "gpt-2"


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    checkpoint = base_file(tmp_path / "base.gguf")
    with pytest.raises(ParameterError, match="f16, q8_0, q4_0, got 'q9'"):
        gguf.write(checkpoint, tmp_path / "out.gguf", "q9")
    for changes, line in (
        ({"model_type": "olmo2"}, "a olmo2 is not written as GGUF; known: llama"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic rotary positions are not written"),
        ({"model_type": "mistral", "sliding_window": 32}, r"windows is \[32, 32\] and would be read as \[0, 0\]"),
        ({"model_type": "gemma2", **GEMMA, "query_pre_attn_scalar": 64}, "scale is 0.125 and would be read as"),
    ):
        with pytest.raises(CheckpointError, match=line):
            gguf.write(folder(tmp_path / str(line), **changes), tmp_path / "out.gguf", "f16")
    assert not (tmp_path / "out.gguf").exists()


def test_a_difference_by_numpy(tmp_path: Path) -> None:
    checkpoint = folder(tmp_path / "base")
    m = checkpoint.model
    base = np.array(m(X)[0], np.float64)
    moved(checkpoint)
    now = np.array(m(X)[0], np.float64)
    ids = TEXTS[0]
    found = compare.compare(compare.logits(m, lambda: lora.off(m)), compare.logits(m), ids, ("base", "adapter"), top=4)
    a, b = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (base, now))
    kl = (np.exp(b) * (b - a)).sum(-1)
    assert np.allclose([p.kl for p in found.positions], kl, rtol=1e-3, atol=1e-6)
    assert found.kl == pytest.approx(kl.mean(), rel=1e-3)
    moves = np.exp(b[4]) - np.exp(a[4])
    position = found.positions[4]
    assert [s.token for s in position.risen] == np.argsort(-moves)[:4].tolist()
    assert [s.token for s in position.fallen] == np.argsort(moves)[:4].tolist()
    assert position.next == pytest.approx((a[4, ids[5]], b[4, ids[5]]), rel=1e-3)
    assert found.positions[-1].next is None
    assert found.nll[0] == pytest.approx(-np.mean([a[i, ids[i + 1]] for i in range(9)]), rel=1e-4)
    same = compare.compare(compare.logits(m), compare.logits(m), ids, ("a", "a"))
    assert same.kl == 0 and same.same_top == 1 and not same.positions[0].risen


def test_an_adapter_directory_opens_on_the_model_it_names(tmp_path: Path) -> None:
    checkpoint = folder(tmp_path / "base")
    adapter = moved(checkpoint)
    adapters.save(tmp_path / "adapter", adapter, checkpoint.model, {"kind": "lora", "model": str(tmp_path / "base")})
    opened = open_model(str(tmp_path / "adapter"))
    assert difference(opened.model(X), checkpoint.model(X)) <= 1e-6


def stored(path: Path) -> dict[str, mx.array]:
    return mx.load(str(path / "model.safetensors"))  # type: ignore[return-value]


def test_what_a_file_says_is_kept_from_file_to_file(tmp_path: Path) -> None:
    gguf.write(folder(tmp_path / "base", **FOLDERS["llama 3"]), tmp_path / "one.gguf", "f16")
    gguf.write(load(tmp_path / "one.gguf", precision=EXACT), tmp_path / "two.gguf", "q8_0")
    assert load(tmp_path / "two.gguf").model.config.ropes[0].factor == 8.0  # type: ignore[union-attr]
    checkpoint = base_file(tmp_path / "base.gguf")
    sites.pack(checkpoint.model, 8, 32)
    gguf.write(checkpoint, tmp_path / "out.gguf", "f16")
    assert difference(load(tmp_path / "out.gguf", precision=EXACT).model(X), checkpoint.model(X)) <= 1e-2
