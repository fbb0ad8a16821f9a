"""What each of several ranks holds of a model, and that together they are the model."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import likely.models as models
from likely.metal import mx
from likely.models.errors import CheckpointError, ConfigError
from likely.models.families.registry import configure
from likely.models.parallel.shard import Cut, share
from tests.engine import tiny
from tests.models.oracle import difference, flat, reference
from tests.models.shared import CASES, taken
from tests.models.test_families import SAME
from tests.processes import finish, start
from tests.support.everyday import everyday

NORMED_ACROSS = ("olmo 2", "olmo 2 biased")  # what tensor parallelism cannot split
TURNS = (pytest.mark.slow(5), pytest.mark.soak, pytest.mark.soak, pytest.mark.slow(5))  # one way of each family here


def check(ranks: int, folder: Path, way: str, names: list[str]) -> None:
    """The ranks' logits are the whole model's, and the same on each."""
    for code, out, err in finish(start(ranks, folder, ["-m", "tests.models.shared", way, *names])):
        assert code == 0, err
        found = [json.loads(line) for line in out.splitlines()]
        assert [one["name"] for one in found] == names
        for one in found:
            assert one["alike"] and one["off"] <= 2e-5, one


@pytest.mark.parametrize(
    ("way", "part"),
    [
        pytest.param(*case, marks=marks)
        for case, marks in zip(product(("tensor", "pipeline"), (0, 1)), TURNS, strict=True)
    ],
)
def test_two_ranks_are_one_model_in_every_family(way: str, part: int, tmp_path: Path) -> None:
    check(2, tmp_path, way, [name for name in list(CASES)[part::2] if way == "pipeline" or name not in NORMED_ACROSS])


@pytest.mark.slow
def test_three_ranks_share_layers_and_words_unevenly(tmp_path: Path) -> None:
    check(3, tmp_path, "pipeline", ["llama", "gemma 2", "gpt-2"])


LLAMA = SAME["llama biased"]
TENSORS = ("model.embed_tokens.weight", "lm_head.weight")


@pytest.mark.parametrize(
    ("name", "way", "ranks"), everyday(product(sorted(SAME), ["tensor", "pipeline"], [2, 3, 4]), 5)
)
def test_every_value_of_every_tensor_is_held_by_one_rank_or_by_all(name: str, way: str, ranks: int) -> None:
    arrays = flat(reference(SAME[name]).parameters())
    try:
        parts = [share(SAME[name], arrays, way, rank, ranks) for rank in range(ranks)]
    except ConfigError:
        assert way == "tensor" or ranks > configure(SAME[name]).layers
        return
    for tensor, array in arrays.items():
        held, whole = np.zeros(array.shape, int), 0
        for part in parts:
            if (placed := part.place(tensor)) is None:
                continue
            if (cut := placed[1]) is None:
                whole += 1
                continue
            assert cut.length == array.shape[cut.axis] and all(first < end for first, end in cut.ranges)
            values = np.moveaxis(held, cut.axis, 0)
            for first, end in cut.ranges:
                values[first:end] += 1
        if held.any() and whole:  # tied, in a pipeline: the first rank has the table, the others their rows of the head
            assert way == "pipeline" and parts[0].whole.tied and whole == 1
            held[slice(*parts[0].vocabulary(0))] += 1
        assert np.all(held == 1) if held.any() else whole in (1, ranks), tensor
    if way == "tensor":
        c, own = parts[0].whole, [part.config for part in parts]
        assert sum(one.heads for one in own) == c.heads and sum(one.kv_heads for one in own) == c.kv_heads
        assert sum(one.mlp_width for one in own) == c.mlp_width and {one.layers for one in own} == {c.layers}
    else:
        assert sum(part.config.layers for part in parts) == parts[0].whole.layers
        assert [window for part in parts for window in part.config.windows] == [*parts[0].whole.windows]
        assert [part.takes_tokens for part in parts] == [True, *[False] * (ranks - 1)]
    edges = [part.vocabulary(part.rank) for part in parts]
    assert [start for start, _ in edges] == [0, *(end for _, end in edges[:-1])] and edges[-1][1] == parts[
        0
    ].whole.vocab_size


def test_hidden_units_are_shared_in_whole_groups() -> None:
    """Of 96 hidden units in groups of 32 one of two ranks has one group, the other two."""
    config = SAME["llama"] | {"intermediate_size": 96, "num_attention_heads": 8, "head_dim": 8}
    arrays = flat(reference(config).parameters())
    parts = [share(config, arrays, "tensor", rank, 2, 32) for rank in range(2)]
    assert [part.hidden["mlp"] for part in parts] == [(0, 32), (32, 96)]
    assert [part.config.mlp_width for part in parts] == [32, 64]
    with pytest.raises(ConfigError, match="do not give each of"):
        share(config | {"intermediate_size": 32}, arrays, "tensor", 0, 2, 32)


def test_a_rank_of_a_pipeline_holds_its_layers_and_its_words() -> None:
    first, last = (share(SAME["llama"], (), "pipeline", rank, 2) for rank in range(2))
    assert first.place("model.layers.2.mlp.up_proj.weight") is None
    assert last.place("model.layers.2.mlp.up_proj.weight") == ("model.layers.0.mlp.up_proj.weight", None)
    assert first.place("model.embed_tokens.weight") == ("model.embed_tokens.weight", None)
    assert last.place("model.embed_tokens.weight") == ("lm_head.weight", Cut(-2, 101, ((50, 101),)))  # tied
    assert last.settings(
        {"bits": 4, "model.layers.0.mlp.up_proj": {"bits": 8}, "model.layers.3.mlp.up_proj": False}
    ) == {
        "bits": 4,
        "model.layers.1.mlp.up_proj": False,
    }


@pytest.mark.parametrize(("tied", "path"), [(False, "lm_head"), (True, "model.embed_tokens")])
def test_a_head_in_nvfp4_is_parted_by_rows_its_one_scale_whole(tied: bool, path: str) -> None:
    """The rows that each rank holds are those of the whole head: the scale of a whole matrix has no rows to part."""
    config = tiny.LLAMA | {"tie_word_embeddings": tied, "quantization": {"group_size": 16, "bits": 4, "mode": "nvfp4"}}
    weights = {name: mx.array(array) for name, array in tiny.weights(config).items()}
    matrix = weights.pop(f"{path}.weight")
    whole = mx.max(mx.abs(matrix)) * 2
    codes, scales = mx.quantize(matrix, 16, 4, mode="nvfp4", global_scale=whole)[:2]
    weights |= {f"{path}.weight": codes, f"{path}.scales": scales, f"{path}.global_scale": whole}
    x = mx.random.normal((1, 3, config["hidden_size"]), key=mx.random.key(0))
    want = models.build(config, dict(weights)).out(x)
    for way, rank in (("pipeline", 1),) if tied else (("tensor", 0), ("tensor", 1), ("pipeline", 0), ("pipeline", 1)):
        part = share(config, weights, way, rank, 2, 16)
        got = models.build(config, taken(part, weights), share=part).out(x)
        assert difference(got, want[..., slice(*part.vocabulary(rank))]) < 1e-6


@pytest.mark.parametrize(
    ("name", "way", "ranks", "unit", "line"),
    [
        ("llama", "tensor", 3, 1, "llama has 2 key/value heads, which 3 ranks cannot share evenly: start 2 ranks, "
         "or use --parallel pipeline"),
        ("olmo 2", "tensor", 2, 1, "olmo2 norms q and k over all heads at once, which cannot be split: use --parallel "
         "pipeline"),
        ("llama", "tensor", 2, 32, "the weights come in groups of 32, and 48 columns of attention do not divide into 2 "
         "parts of whole groups: use --parallel pipeline"),
        ("packed llama", "tensor", 2, 96, None),
        ("llama", "pipeline", 5, 1, "llama has 4 layers, too few for 5 ranks: start fewer"),
    ],
)  # fmt: skip
def test_what_ranks_cannot_share_is_refused_before_anything_is_read(
    name: str, way: str, ranks: int, unit: int, line: str | None
) -> None:
    with pytest.raises(ConfigError) as refused:
        share(CASES[name], (), way, 0, ranks, unit)
    assert "\n" not in str(refused.value)
    assert line is None or str(refused.value) == line


def test_foreign_architectures_and_foreign_packings_are_refused() -> None:
    with pytest.raises(ConfigError, match="mamba runs by mlx-lm's own class"):
        share({"model_type": "mamba"}, (), "pipeline", 0, 2)
    with pytest.raises(ConfigError, match="the packing of awq cannot be split"):
        share(LLAMA | {"quantization_config": {"quant_method": "awq"}}, TENSORS, "tensor", 0, 2)


def test_a_group_of_values_that_share_a_scale_is_not_parted() -> None:
    assert Cut(-1, 128, ((0, 64),)).within("w", 2) == [(0, 1)]
    with pytest.raises(CheckpointError, match="w is stored in groups of 64, which the ranks' parts cut through"):
        Cut(-1, 128, ((0, 32),)).within("w", 2)
