"""Quantising: what is written is what mlx-lm reads, what is reported is so, and memory holds one layer."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.weights.quantize import RECIPES, Settings, measure, pack, quantize, widths
from likely.engine.weights.quantize.pack import rounded
from likely.engine.weights.quantize.plan import BITS, allocate, lowest
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.model_info import describe
from likely.engine.weights.write.one_file import write_one_file
from likely.metal import mx
from likely.models.modules.weights import PackedLayout
from tests.engine.tiny import LLAMA, weights, write_folder, write_gguf
from tests.models.oracle import flat, reference
from tests.support.decoding import log_softmax
from tests.support.everyday import everyday

CONFIG = LLAMA | {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32, "num_hidden_layers": 3}
TEXT = "It rained, and the road was a river; nobody minded. " * 24
QWEN3 = CONFIG | {"model_type": "qwen3", "tie_word_embeddings": True}
MOE = QWEN3 | {
    "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
}  # fmt: skip

PLAIN = Precision(mx.float32, packed=False)


def original(folder: Path, config: dict[str, Any] = CONFIG, seed: int = 0) -> Path:
    arrays = {name: mx.array(w).astype(mx.float16) for name, w in weights(config, seed).items()}
    return write_folder(folder / "original", config, arrays)


def peer_logits(folder: Path, tokens: mx.array) -> mx.array:
    """What mlx-lm's own loader makes of a folder, computed in float32."""
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    return model(tokens)


def ours(folder: Path) -> Any:
    return load(folder, precision=Precision(mx.float32, packed=True)).model


TOKENS = mx.array([[5, 70, 200, 31, 8, 99, 150, 3]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (CONFIG, Settings()), (CONFIG, Settings(bits=3, group_size=32)), (CONFIG, Settings(mode="mxfp4")),
        (CONFIG, Settings(mode="nvfp4")), (CONFIG, Settings(mode="mxfp8")),
        (QWEN3, Settings(recipe="mixed_3_6", group_size=32)), (QWEN3, Settings(bits=4, group_size=32, awq=True)),
        (CONFIG, Settings(bits=4, group_size=32, recipe="auto")), (MOE, Settings(bits=4, group_size=32)),
    ],
)  # fmt: skip
def test_mlx_lm_loads_what_is_written_and_says_the_same(
    tmp_path: Path, config: dict[str, Any], settings: Settings
) -> None:
    report = quantize(describe(original(tmp_path, config)), tmp_path / "small", settings, text=TEXT)
    logits = ours(tmp_path / "small")(TOKENS)
    peer = peer_logits(tmp_path / "small", TOKENS)
    assert mx.max(mx.abs(logits - peer)) < 1e-4 * mx.max(mx.abs(peer))
    assert report.kl > 0 and report.kl_interval[0] <= report.kl <= report.kl_interval[1]
    files = list((tmp_path / "small").glob("*.safetensors"))
    held = sum(a.nbytes for file in files for a in mx.load(str(file)).values())  # type: ignore[union-attr]
    assert report.nbytes == held


GPT2 = {
    "model_type": "gpt2", "vocab_size": 288, "n_embd": 128, "n_head": 4, "n_layer": 3, "n_positions": 256, "n_ctx": 256,
    "layer_norm_epsilon": 1e-5,
}  # fmt: skip
NEOX = {
    "model_type": "gpt_neox", "vocab_size": 288, "hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 3,
    "intermediate_size": 512, "max_position_embeddings": 256, "layer_norm_eps": 1e-5, "rotary_emb_base": 10000,
    "rotary_pct": 0.25, "hidden_act": "gelu_new", "use_parallel_residual": True,
}  # fmt: skip
GEMMA3 = CONFIG | {
    "model_type": "gemma3_text", "sliding_window": 32, "sliding_window_pattern": 2, "query_pre_attn_scalar": 32,
    "rope_local_base_freq": 1e4, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
}  # fmt: skip
EYED = {
    "model_type": "gemma3", "text_config": {k: v for k, v in GEMMA3.items() if k != "tie_word_embeddings"},
    "vision_config": {"hidden_size": 8}, "mm_tokens_per_image": 4,
}  # fmt: skip


def published(config: dict[str, Any]) -> tuple[dict[str, mx.array], Any]:
    """A model of mlx-lm's as its authors publish it: their names, their order, tensors that nobody reads; and it."""
    model = reference(GEMMA3 if config is EYED else config)
    model.sanitize({})  # without a head of its own, Gemma's is the embedding
    arrays = {}
    for name, array in flat(model.parameters()).items():
        if config is EYED:
            arrays[f"model.language_model.{name.removeprefix('model.')}"] = array
        elif config is GPT2:
            turned = array.T if array.ndim == 2 and ".h." in name else array
            arrays[f"transformer.{name.removeprefix('model.')}"] = turned
        else:
            plain = name.removeprefix("model.").replace("h.", "layers.", 1) if ".h." in name else name[len("model.") :]
            arrays[plain if plain.startswith("embed_out") else f"gpt_neox.{plain}"] = array
    surplus = {"gpt2": "transformer.h.0.attn.bias", "gpt_neox": "gpt_neox.layers.0.attention.bias"}
    arrays[surplus.get(config["model_type"], "model.vision_tower.a.weight")] = mx.ones((1, 1, 8, 8))
    return arrays, model


@pytest.mark.slow
@pytest.mark.parametrize("settings", [Settings(), Settings(group_size=32, awq=True), Settings(recipe="auto")])
@pytest.mark.parametrize("config", [GPT2, NEOX, EYED])
def test_families_that_mlx_lm_lays_out_otherwise(tmp_path: Path, config: dict[str, Any], settings: Settings) -> None:
    arrays, whole = published(config)
    folder = write_folder(tmp_path / "original", config, {n: a.astype(mx.float16) for n, a in arrays.items()})
    report = quantize(describe(folder), tmp_path / "small", settings, text=TEXT)
    logits, peer = ours(tmp_path / "small")(TOKENS), peer_logits(tmp_path / "small", TOKENS)
    assert mx.max(mx.abs(logits - peer)) < 1e-4 * mx.max(mx.abs(peer))
    assert report.kl > 0
    eighth = quantize(describe(folder), tmp_path / "eighth", Settings(bits=8, group_size=32), text=TEXT)
    assert eighth.kl < report.kl / 20
    close = peer_logits(tmp_path / "eighth", TOKENS)
    assert mx.max(mx.abs(close - whole(TOKENS))) < 0.15 * mx.max(mx.abs(close))


def held_out(folder: Path) -> mx.array:
    """The windows of the text that a report is of: every second."""
    ids = load(folder, precision=PLAIN).tokenizer.encode(TEXT)
    return mx.array(ids[: len(ids) // 128 * 128]).reshape(-1, 128)[1::2]


def agrees(report: Any, before: Any, after: Any, held: mx.array) -> None:
    """Every number of the report again, from the whole models."""
    p, q = (log_softmax(model(held)) for model in (before, after))
    assert report.kl == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean(), rel=1e-3)
    assert 0 <= report.kl_interval[0] <= report.kl <= report.kl_interval[1]
    assert report.flips == pytest.approx((p.argmax(-1) != q.argmax(-1)).mean(), abs=1e-9)
    surprisals = [-np.take_along_axis(x[:, :-1], np.asarray(held)[:, 1:, None], -1).mean() for x in (p, q)]
    assert (report.perplexity_before, report.perplexity) == pytest.approx(tuple(np.exp(surprisals)), rel=1e-4)
    assert report.cost.mean == pytest.approx(surprisals[1] - surprisals[0], abs=4e-5) and report.tokens == held.size
    numbers = sum(w.size for w in weights(CONFIG).values())
    assert report.weight_bits == pytest.approx(8 * report.nbytes / numbers)


def test_the_report_is_what_the_two_models_say(tmp_path: Path) -> None:
    folder = original(tmp_path)
    report = quantize(describe(folder), tmp_path / "small", Settings(bits=3, group_size=32), text=TEXT)
    before, after, held = load(folder, precision=PLAIN), ours(tmp_path / "small"), held_out(folder)
    agrees(report, before.model, after, held)
    files = [mx.load(str(file)) for file in (tmp_path / "small").glob("*.safetensors")]
    assert report.nbytes == sum(a.nbytes for arrays in files for a in arrays.values())  # type: ignore[union-attr]
    assert report.nbytes_before == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    whole: Any = before.model
    x = whole.embed(held)
    for i, error in enumerate(report.errors.values()):  # each of the original's inputs
        layers: list[Any] = [SimpleNamespace(block=m.blocks[i], rotations=m.rotations) for m in (whole, after)]
        y, z = (measure.forward(layer, x) for layer in layers)
        lost, added = (np.linalg.norm(np.asarray(part, np.float64)) for part in (z - y, y - x))
        assert error == pytest.approx(lost / added, rel=1e-3)
        x = y


def test_the_report_of_one_file_is_what_the_two_models_say(tmp_path: Path) -> None:
    folder, target = original(tmp_path), tmp_path / "new" / "m.gguf"
    told: list[str] = []
    report = write_one_file(describe(folder), target, "q4_0", text=TEXT, progress=lambda what, *_: told.append(what))
    assert {"writing m.gguf", "reading it again"} <= set(told) and list(target.parent.iterdir()) == [target]
    agrees(report, load(folder, precision=PLAIN).model, load(target, precision=PLAIN).model, held_out(folder))
    size = (folder / "model.safetensors").stat().st_size
    assert (report.path, report.nbytes, report.nbytes_before) == (target, target.stat().st_size, size)
    assert report.flips > 0


def test_a_file_that_another_process_has_made_meanwhile_stays(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    with pytest.raises(DataError, match="exists"):
        write_one_file(describe(original(tmp_path)), target, "q4_0", progress=lambda *_: target.write_text("theirs"))
    assert target.read_text() == "theirs"


def test_a_gguf_file_becomes_a_folder(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", CONFIG, weights(CONFIG))
    quantize(describe(path), tmp_path / "small", Settings(bits=8, group_size=32), text=TEXT)
    whole = load(path, precision=PLAIN)
    small = load(tmp_path / "small", precision=Precision(mx.float32, packed=True))
    logits = whole.model(TOKENS)
    assert mx.max(mx.abs(small.model(TOKENS) - logits)) < 0.05 * mx.max(mx.abs(logits))
    assert small.tokenizer.encode("what?") == whole.tokenizer.encode("what?")


def test_more_bits_cost_less(tmp_path: Path) -> None:
    info = describe(original(tmp_path))
    found = [quantize(info, tmp_path / f"b{bits}", Settings(bits=bits, group_size=32), text=TEXT) for bits in (2, 4, 8)]
    assert found[0].kl > 4 * found[1].kl > 16 * found[2].kl
    for i in range(3):  # of each layer's output, relative to what it adds
        worst, middle, least = (report.errors[f"layer {i}"] for report in found)
        assert 1 > worst > 2 * middle > 8 * least > 0
    assert all(len(report.errors) == 3 for report in found)
    told = widths(info, Settings(group_size=32), text=TEXT)
    assert [report.bits for report in told] == list(BITS)
    assert [replace(told[BITS.index(one.bits)], path=one.path) for one in found] == found


@pytest.mark.slow(5)
@pytest.mark.parametrize("tied", [False, True])
def test_auto_spends_by_the_divergence_of_models_with_one_matrix_rounded(tmp_path: Path, tied: bool) -> None:
    """Each written as a folder of its own, loaded whole, and read in the windows of the text that are not held out."""
    config = LLAMA | {"num_hidden_layers": 2, "tie_word_embeddings": tied}
    settings = Settings(bits=4, group_size=32, recipe="auto")
    low = lowest(settings.layout)
    arrays = {name: mx.array(w) for name, w in weights(config, 3).items()}

    def written(name: str, **changed: mx.array) -> Any:
        return load(write_folder(tmp_path / name, config, arrays | changed), precision=PLAIN)

    plain = written("plain")
    window = measure.windows(plain.tokenizer, plain.model.config, TEXT)[::2]
    p, costs, sizes = log_softmax(plain.model(window)), dict[str, float](), dict[str, int]()
    for i, (name, array) in enumerate((name, array) for name, array in arrays.items() if array.ndim == 2):
        q = log_softmax(written(str(i), **{name: rounded(array, low)}).model(window))
        path = name.removesuffix(".weight")
        costs[path], sizes[path] = float((np.exp(p) * (p - q)).sum(-1).mean()), array.size
    quantize(describe(tmp_path / "plain"), tmp_path / "auto", settings, text=TEXT)
    told = json.loads((tmp_path / "auto" / "config.json").read_text())["quantization"]
    assert len(costs) == 2 * 7 + (1 if tied else 2)
    assert {path: told.get(path, told)["bits"] for path in costs} == {
        path: how.bits for path, how in allocate(costs, sizes, settings.layout).items()
    }


@pytest.mark.parametrize("family", everyday(["llama", "gemma2", "phi3", "qwen2"], 3))
def test_scaling_changes_no_function(tmp_path: Path, family: str) -> None:
    """At 8 bits nothing is lost but by the scaling, if that were wrong."""
    extra = {
        "query_pre_attn_scalar": 32, "sliding_window": 64, "attn_logit_softcapping": 50.0, "tie_word_embeddings": True,
        "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh",
    }  # fmt: skip
    info = describe(original(tmp_path, CONFIG | {"model_type": family} | (extra if family == "gemma2" else {})))
    plain, scaled = (
        quantize(info, tmp_path / str(awq), Settings(bits=8, group_size=32, awq=awq), text=TEXT).kl
        for awq in (False, True)
    )
    assert scaled < 3 * plain + 1e-5


def test_recipes_are_those_of_mlx_lm() -> None:
    """The same layout for the same path as its predicate chooses."""
    from mlx_lm.convert import QUANT_RECIPES, mixed_quant_predicate_builder

    assert sorted(RECIPES) == sorted(QUANT_RECIPES)

    class Model:
        layers = range(16)

        def named_modules(self) -> list[tuple[str, Any]]:
            return [("model.layers.0.mlp.down_proj", None)]

    roles = {"self_attn.v_proj": "v", "self_attn.q_proj": "q", "mlp.down_proj": "down", "mlp.up_proj": "up"}
    for recipe in RECIPES:
        predicate = mixed_quant_predicate_builder(recipe, Model(), 64)  # type: ignore[arg-type]
        settings = Settings(recipe=recipe)
        for layer in range(16):
            for name, role in roles.items():
                path = f"model.layers.{layer}.{name}"
                assert predicate(path, None)["bits"] == settings.choose(path, layer, 16, role).bits  # type: ignore
        assert predicate("lm_head", None)["bits"] == settings.choose("lm_head", None, 16, "head").bits  # type: ignore


def test_what_cannot_be_quantised_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """What a killed run has left is cleared."""
    info = describe(original(tmp_path))
    for name in (".small.partial", ".small.kept", ".other.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model-00001-of-00004.safetensors").write_bytes(b"half")
    (tmp_path / ".small.lock").write_text("of a process that is gone")
    quantize(info, tmp_path / "small", Settings(), text=TEXT)
    left = {"original", "small", ".small.kept", ".other.partial"}
    assert {path.name for path in tmp_path.iterdir()} == left
    with pytest.raises(ParameterError, match="exists already"):
        quantize(info, tmp_path / "small", Settings(), text=TEXT)
    with pytest.raises(CheckpointError, match="quantised already"):
        quantize(describe(tmp_path / "small"), tmp_path / "twice", Settings(), text=TEXT)
    for number, text in enumerate((None, [1])):  # an eye without a text model
        folder = write_folder(tmp_path / f"eye {number}", EYED | {"text_config": text}, published(EYED)[0])
        with pytest.raises(CheckpointError, match="text_config must be a table"):
            quantize(describe(folder), tmp_path / "twice", Settings(), text=TEXT)
    assert {path.name for path in tmp_path.iterdir()} == left | {"eye 0", "eye 1"}


MEMORY = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from likely.engine.weights.sources.model_info import describe
from likely.engine.base.machine.hardware import peak_memory
from likely.engine.weights.write.one_file import write_one_file
from likely.engine.weights.quantize import Settings, quantize
before = peak_memory()
quantize(describe(Path({source!r})), Path({target!r}), Settings(bits=4), text={text!r})
print(peak_memory() - before)
"""


@pytest.mark.slow(5)
def test_memory_holds_a_layer_and_not_the_model(tmp_path: Path) -> None:
    """Twice as many layers take no more: the growth is below a layer's bytes, where the model grows by 12 layers."""
    peaks = []
    for layers in (4, 16):
        config = CONFIG | {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": layers}
        source = original(tmp_path / str(layers), config)
        script = MEMORY.format(
            root=str(Path(__file__).parents[2]), source=str(source), target=str(tmp_path / f"q{layers}"), text=TEXT
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    layer = 4 * (3 * 512 * 2048 + 2 * 512 * 128 + 2 * 512 * 64)
    assert peaks[1] - peaks[0] < layer


def test_the_scale_is_the_power_of_activity_that_loses_least() -> None:
    rng, layout = np.random.default_rng(0), PackedLayout(32, 2, "affine")
    rows = rng.normal(size=(40, 32)) * np.exp(rng.normal(size=32) * 2)
    matrices = [rng.normal(size=(16, 32)), rng.normal(size=(8, 32))]
    x, ws = mx.array(rows.astype(np.float32)), [mx.array(w.astype(np.float32)) for w in matrices]
    found, activity, tried = np.array(pack.best(ws, x, layout)), np.abs(rows).mean(axis=0), []
    for share in (0.0, 0.25, 0.5, 0.75):
        scales = activity**share
        scales = scales / np.sqrt(scales.max() * scales.min())
        small = [np.array(rounded(mx.array((w * scales).astype(np.float32)), layout), np.float64) for w in matrices]
        lost = [(((rows / scales) @ s.T - rows @ w.T) ** 2).sum() for s, w in zip(small, matrices, strict=True)]
        tried.append((float(sum(lost)), scales))
    np.testing.assert_allclose(found, min(tried, key=lambda each: each[0])[1], rtol=1e-3)
    assert not np.allclose(found, 1)
    np.testing.assert_allclose(np.array(pack.best(ws, mx.ones((3, 32)), layout)), np.ones(32), rtol=1e-5)
    many = mx.concatenate([x] * 20)  # 800 rows: every third decides
    np.testing.assert_allclose(np.array(pack.best(ws, many, layout)), np.array(pack.best(ws, many[::3], layout)))


def greedy(costs: dict[str, float], sizes: dict[str, int], layout: PackedLayout) -> dict[str, int]:
    """`allocate` by looking at every matrix again before each step; one whose step is too dear stays as it is."""
    low = lowest(layout).bits
    bits, open_ = dict.fromkeys(costs, low), {path for path in costs if low < BITS[-1]}
    while open_:
        gains = {}
        for path in open_:
            then = BITS[BITS.index(bits[path]) + 1]
            saved = costs[path] * (4.0 ** (low - bits[path]) - 4.0 ** (low - then))
            gains[path] = (saved / (sizes[path] * (then - bits[path])), then)
        path = max(open_, key=lambda p: gains[p][0])
        raised = bits | {path: gains[path][1]}
        if sum(sizes[p] * b for p, b in raised.items()) > layout.bits * sum(sizes.values()):
            open_.remove(path)
            continue
        bits = raised
        open_ -= {path} if bits[path] == BITS[-1] else set()
    return bits


@pytest.mark.parametrize("budget", BITS)
def test_the_budget_goes_step_by_step_to_what_saves_most_a_bit(budget: int) -> None:
    random, layout = np.random.default_rng(budget), PackedLayout(32, budget, "affine")
    for _ in range(20):
        costs = {f"m{i}": float(cost) for i, cost in enumerate(np.exp(random.normal(size=9) * 2))}
        sizes = {path: int(random.integers(1, 40)) * 32 for path in costs}
        assert {path: how.bits for path, how in allocate(costs, sizes, layout).items()} == greedy(costs, sizes, layout)
