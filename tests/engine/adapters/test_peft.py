"""PEFT's adapters, as PEFT itself wrote them: the logits are transformers' (tests/data/peft/make.py).

What was written here was computed by PEFT too, within 9e-7 (`make.py BASES EXPORTED`).
"""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import likely.engine.weights.adapters.lora as lora
import likely.models as models
from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.train.losses import fusion
from likely.engine.weights.adapters import adapters, peft, sites
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.metal import mx
from tests.data.peft.bases import write as write_base
from tests.engine import tiny
from tests.engine.tiny import MOE
from tests.models.oracle import difference
from tests.models.test_transformer import Exact

FOLDER = Path(__file__).parents[2] / "data" / "peft"
CASES = sorted(path.name for path in FOLDER.iterdir() if (path / "logits.npy").exists())
X = mx.array([[3, 14, 15, 92, 65, 35, 89, 79, 32, 38]])


def base_of(case: str, tmp_path: Path) -> Checkpoint:
    return load(write_base(tmp_path, adapters.read(FOLDER / case).model))


def placed(checkpoint: Checkpoint, folder: Path) -> lora.Adapter:
    found = adapters.build(checkpoint.model, adapters.read(folder))
    assert isinstance(found, lora.Adapter)
    return found


@pytest.mark.parametrize("case", CASES)
def test_what_peft_wrote_computes_what_peft_computes(case: str, tmp_path: Path) -> None:
    """The faults: tied tables by 12.4 in the logits, PiSSA by 2.67, and what common recipes save was no LoRA factor."""
    checkpoint = base_of(case, tmp_path)
    base = checkpoint.model(X)
    wanted = mx.array(np.load(FOLDER / case / "logits.npy"))[None]
    adapter = placed(checkpoint, FOLDER / case)
    lora.attach(adapter)
    assert difference(checkpoint.model(X), wanted) <= 2e-5 < 1e-3 < difference(base, wanted)
    with lora.off(checkpoint.model):  # type: ignore[arg-type]
        assert difference(checkpoint.model(X), base) == 0
    lora.detach(adapter)
    assert difference(checkpoint.model(X), base) == 0


@pytest.mark.parametrize("case", ["embedding-tied", "saved-embedding-tied", "saved-head", "patterns", "pissa", "bias"])
def test_what_was_read_is_fused(case: str, tmp_path: Path) -> None:
    checkpoint = base_of(case, tmp_path)
    fusion.fuse_to(tmp_path / "out", checkpoint, adapters.read(FOLDER / case), [X[0].tolist()])  # type: ignore[list-item]
    wanted = mx.array(np.load(FOLDER / case / "logits.npy"))[None]
    assert difference(load(tmp_path / "out").model(X), wanted) <= 2e-5


@pytest.mark.parametrize("case", ["embedding", "head", "saved-embedding"])
def test_half_of_a_shared_table_is_not_fused(case: str, tmp_path: Path) -> None:
    checkpoint = base_of(case, tmp_path)
    with pytest.raises(ParameterError, match="is changed alone, and embedding and head are one table"):
        fusion.fuse_to(tmp_path / "out", checkpoint, adapters.read(FOLDER / case), [X[0].tolist()])  # type: ignore[list-item]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", [case for case in CASES if "bias" not in case])
def test_what_was_read_is_written_and_read_again(case: str, tmp_path: Path) -> None:
    checkpoint = base_of(case, tmp_path)
    wanted = mx.array(np.load(FOLDER / case / "logits.npy"))[None]
    adapter = placed(checkpoint, FOLDER / case)
    peft.write(tmp_path / "again", adapter, checkpoint.model, name="base")  # type: ignore[arg-type]
    lora.attach(placed(checkpoint, tmp_path / "again"))
    assert difference(checkpoint.model(X), wanted) <= 2e-5


def test_an_embedding_that_is_the_head_is_written_as_both(tmp_path: Path) -> None:
    """The fault: what PEFT made of the export was off by 0.1, as it left the head alone."""
    checkpoint = load(write_base(tmp_path, "tied"))
    m = checkpoint.model
    chosen = sites.choose(sites.sites(m), -1, ["*", "embed_tokens"], m.config.layers)  # type: ignore[arg-type]
    adapter = lora.create(chosen, rank=2, scale=2.0)
    named = adapter.parameters().items()
    adapter.set({n: 0.2 * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in enumerate(named)})
    peft.write(tmp_path / "out", adapter, m)  # type: ignore[arg-type]
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    arrays: dict[str, mx.array] = mx.load(str(tmp_path / "out" / "adapter_model.safetensors"))  # type: ignore[assignment]
    table, head = "base_model.model.model.embed_tokens.lora_embedding_", "base_model.model.lm_head.lora_"
    assert settings["ensure_weight_tying"] is True
    assert difference(arrays[f"{head}A.weight"], arrays[f"{table}B"].T) == 0
    assert difference(arrays[f"{head}B.weight"], arrays[f"{table}A"].T) == 0


@pytest.mark.parametrize(
    "patterns", [["*"], ["model.layers.0.*", "down_proj"], ["q_proj", "embed_tokens"], ["model.layers.1.mlp.*"]]
)
def test_peft_is_told_to_adapt_what_is_in_the_file_and_no_more(patterns: list[str], tmp_path: Path) -> None:
    """The fault: 21 modules were adapted there where the file has 9, with a warning that keys are missing."""
    m = load(write_base(tmp_path, "llama")).model
    every = sites.sites(m)  # type: ignore[arg-type]
    peft.write(tmp_path / "out", lora.create(sites.choose(every, -1, patterns, m.config.layers), rank=2, scale=2.0), m)  # type: ignore[arg-type]
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    names, layers = settings["target_modules"], settings.get("layers_to_transform")
    adapted = {  # by PEFT's rule: the end of a path, and the number after `layers`
        site.path for site in every
        if any(f".{site.path}".endswith(f".{name}") for name in names)
        and (layers is None or int(site.path.split("layers.")[-1].split(".")[0]) in layers)
    }  # fmt: skip
    arrays = mx.load(str(tmp_path / "out" / "adapter_model.safetensors"))
    there = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in arrays}
    assert adapted == there


@pytest.mark.parametrize(
    ("case", "changes", "line"),
    [
        ("patterns", {"init_lora_weights": "olora"}, "init_lora_weights = 'olora' changed the base"),
        ("patterns", {"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = 'pissa_niter_4' changed the base"),
        ("patterns", {"peft_type": "LOHA"}, "peft_type must be LORA, got 'LOHA'"),
        ("patterns", {"target_parameters": ["experts"]}, "target_parameters is not supported"),
        ("patterns", {"trainable_token_indices": [1]}, "trainable_token_indices is not supported"),
        ("patterns", {"alpha_pattern": {"(a|b)+": 2}}, "is more than a name"),
        ("patterns", {"alpha_pattern": {"a.*b.*c.*d": 2}}, "is more than a name"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(
    case: str, changes: dict[str, object], line: str, tmp_path: Path
) -> None:
    shutil.copytree(FOLDER / case, tmp_path / "adapter")
    settings = json.loads((FOLDER / case / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings | changes))
    with pytest.raises(CheckpointError, match=line):
        adapters.read(tmp_path / "adapter")


def test_an_adapter_of_another_base_is_told_by_the_embedding_it_saved(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "embedding", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    arrays: dict[str, mx.array] = dict(mx.load(str(file)))  # type: ignore[arg-type]
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    mx.save_safetensors(str(tmp_path / "whole.safetensors"), arrays | {name: arrays[name] + 0.1})
    shutil.move(tmp_path / "whole.safetensors", file)
    checkpoint = base_of("embedding", tmp_path)
    with pytest.raises(CheckpointError, match=r"another base: its model.embed_tokens is not the one of this model"):
        placed(checkpoint, tmp_path / "adapter")


def test_the_base_is_named_as_transformers_finds_it(tmp_path: Path) -> None:
    folder = write_base(tmp_path, "llama")
    assert peft.base_name("owner/name", folder) == ("owner/name", "")
    assert peft.base_name("smollm2-bf16", folder) == ("mlx-community/SmolLM2-135M-Instruct", "")
    assert peft.base_name(str(folder), folder)[0] == str(folder.resolve())
    file = tmp_path / "base.gguf"
    name, line = peft.base_name("smollm2", file)
    assert name == str(file.resolve()) and "put the original model's name there" in line


def test_experts_have_no_place_in_its_files(tmp_path: Path) -> None:
    mixture = models.build(MOE, {name: mx.array(array) for name, array in tiny.weights(MOE).items()})
    adapter = lora.create(sites.choose(sites.sites(mixture), -1, ["*"], mixture.config.layers), rank=2, scale=2.0)
    with pytest.raises(ParameterError, match=r"PEFT's files have no place for the experts at model\.layers\.0"):
        peft.write(tmp_path / "other", adapter, mixture)


@pytest.mark.parametrize("rslora", [False, True])
def test_what_is_written_computes_the_same_by_the_formula_of_peft(rslora: bool, tmp_path: Path) -> None:
    """W + s B A in float64 from the files alone: s = lora_alpha / r, of rsLoRA lora_alpha / sqrt(r) (arXiv:2312.03732),
    by module where a pattern names it."""
    m = load(write_base(tmp_path, "llama")).model
    assert isinstance(m, models.Transformer)
    exact, factors = Exact(m), {}
    for name, rank, scale in (("q_proj", 2, 3.0), ("o_proj", 8, 3.0), ("down_proj", 8, 0.7)):
        chosen = sites.choose(sites.sites(m), -1, [name], m.config.layers)
        factors |= lora.create(chosen, rank=rank, scale=scale).factors
    adapter = lora.Adapter(factors)
    named = adapter.parameters().items()
    adapter.set({n: 0.2 * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in enumerate(named)})
    peft.write(tmp_path / "out", adapter, m, rslora=rslora)
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    arrays: dict[str, mx.array] = mx.load(str(tmp_path / "out" / "adapter_model.safetensors"))  # type: ignore[assignment]
    assert settings["use_rslora"] is rslora
    adapted = 0
    for part in m.parts():
        key = f"base_model.model.{part.path}.lora_"
        if f"{key}A.weight" not in arrays:
            continue
        a, b = (np.array(arrays[f"{key}{factor}.weight"], np.float64) for factor in "AB")
        r, alpha = (
            next((value for end, value in settings[pattern].items() if re.match(rf"(.*\.)?({end})$", part.path)), other)
            for pattern, other in (("rank_pattern", settings["r"]), ("alpha_pattern", settings["lora_alpha"]))
        )
        assert r == len(a)
        weight, bias = exact.parts[part.layer, part.role]
        exact.parts[part.layer, part.role] = weight + alpha / (math.sqrt(r) if rslora else r) * b @ a, bias
        adapted += 1
    assert adapted == len(factors) == len(arrays) // 2
    lora.attach(adapter)
    wanted = exact.head(exact.hidden(X[0].tolist())[-1])
    assert np.abs(np.array(m(X)[0]) - wanted).max() <= 2e-5 * np.abs(wanted).max()
