"""The shares of ranks by hand: which rows and columns of each role, and where a share cannot be."""

from typing import Any

import pytest

from models.errors import CheckpointError, ConfigError
from models.families.registry import configure
from models.parallel import shard
from models.parallel.shard import Cut, share
from tests.models.test_families import SAME
from tests.models.test_transformer import built


def names(name: str, **changes: Any) -> list[str]:
    model = built(name, **changes)
    return [f"{part.path}.{leaf}" for part in model.parts() for leaf in part.stored()]


@pytest.mark.parametrize(
    ("ranges", "stored", "want"),
    [(((0, 32),), 64, [(0, 32)]), (((0, 32), (64, 96)), 16, [(0, 4), (8, 12)]), (((32, 64),), 8, [(2, 4)])],
)
def test_ranges_are_counted_in_what_is_stored(
    ranges: tuple[tuple[int, int], ...], stored: int, want: list[tuple[int, int]]
) -> None:
    length = {64: 64, 16: 128, 8: 128}[stored]
    assert Cut(-1, length, ranges).within("w", stored) == want


def test_a_unit_is_not_cut_through() -> None:
    with pytest.raises(CheckpointError, match="w is stored in groups of 16, which the ranks' parts cut through"):
        Cut(-1, 128, ((0, 40),)).within("w", 8)


@pytest.mark.parametrize(
    ("count", "ranks", "parts"), [(8, 2, [(0, 4), (4, 8)]), (101, 3, [(0, 33), (33, 67), (67, 101)])]
)
def test_things_are_shared_evenly(count: int, ranks: int, parts: list[tuple[int, int]]) -> None:
    assert [shard._part(count, rank, ranks) for rank in range(ranks)] == parts


LLAMA = SAME["llama biased"]  # 6 heads of 8, 2 of keys, 48 wide, 72 hidden units, 101 words
ROLES = {
    "self_attn.q_proj": (-2, -1, 48, [(0, 24), (24, 48)]), "self_attn.k_proj": (-2, -1, 16, [(0, 8), (8, 16)]),
    "self_attn.v_proj": (-2, -1, 16, [(0, 8), (8, 16)]), "self_attn.o_proj": (-1, None, 48, [(0, 24), (24, 48)]),
    "mlp.gate_proj": (-2, -1, 72, [(0, 36), (36, 72)]), "mlp.up_proj": (-2, -1, 72, [(0, 36), (36, 72)]),
    "mlp.down_proj": (-1, None, 72, [(0, 36), (36, 72)]),
}  # fmt: skip


@pytest.mark.parametrize("rank", [0, 1])
def test_a_tensor_share_has_its_heads_and_hidden_units(rank: int) -> None:
    part = share(LLAMA, names("llama biased"), "tensor", rank, 2)
    c = part.config
    assert (c.heads, c.kv_heads, c.mlp_width, c.layers, part.rows, part.takes_tokens) == (
        3,
        1,
        36,
        4,
        [50, 51][rank],
        True,
    )
    for module, (axis, bias, length, ranges) in ROLES.items():
        name = f"model.layers.2.{module}"
        assert part.place(f"{name}.weight") == (f"{name}.weight", Cut(axis, length, (ranges[rank],)))
        placed = part.place(f"{name}.bias")
        assert placed == (f"{name}.bias", None if bias is None else Cut(bias, length, (ranges[rank],)))
        assert part.place(f"{name}.global_scale") == (f"{name}.global_scale", None)
    for whole in ("model.embed_tokens.weight", "model.norm.weight", "model.layers.1.input_layernorm.weight"):
        assert part.place(whole) == (whole, None)
    words = (0, 50) if rank == 0 else (50, 101)
    assert part.place("lm_head.weight") == ("lm_head.weight", Cut(-2, 101, (words,)))
    assert part.place("lm_head.global_scale") == ("lm_head.global_scale", None)


def test_products_that_are_stored_as_one_are_cut_in_their_parts() -> None:
    config = SAME["phi 3"]
    part = share(config, names("phi 3"), "tensor", 1, 2)
    at = "model.layers.0."
    assert part.place(f"{at}self_attn.qkv_proj.weight") == (
        f"{at}self_attn.qkv_proj.weight", Cut(-2, 80, ((24, 48), (56, 64), (72, 80))),
    )  # fmt: skip
    assert part.place(f"{at}mlp.gate_up_proj.weight") == (
        f"{at}mlp.gate_up_proj.weight", Cut(-2, 144, ((36, 72), (108, 144))),
    )  # fmt: skip
    neox = share(SAME["gpt-neox"], names("gpt-neox"), "tensor", 1, 2)
    placed = neox.place("layers.0.attention.query_key_value.weight")
    assert placed is not None and placed[1] is not None
    c = configure(SAME["gpt-neox"])
    q = c.heads * c.head_size
    assert placed[1] == Cut(-2, 3 * q, ((3 * q // 2, 3 * q),))
    turned = share(SAME["gpt-2"], names("gpt-2"), "tensor", 0, 2).place("h.0.mlp.c_proj.weight")
    assert turned is not None and turned[1] is not None and turned[1].axis == -2  # stored [in, out]


@pytest.mark.parametrize(("rank", "first", "layers"), [(0, 0, 1), (1, 1, 1), (2, 2, 2)])
def test_a_rank_of_a_pipeline_holds_its_layers(rank: int, first: int, layers: int) -> None:
    part = share(SAME["gemma 3"], names("gemma 3"), "pipeline", rank, 3)
    c, whole = part.config, part.whole
    assert (part.first, c.layers) == (first, layers) and c.windows == whole.windows[first : first + layers]
    assert c.ropes == whole.ropes[first : first + layers]
    assert part.takes_tokens == (rank == 0) and c.tied == (rank == 0) and (c.embed_scale == 1) == (rank > 0)
    placed = [part.place(f"model.layers.{i}.mlp.up_proj.weight") for i in range(4)]
    want = [
        (f"model.layers.{i - first}.mlp.up_proj.weight", None) if first <= i < first + layers else None
        for i in range(4)
    ]
    assert placed == want
    words = [(0, 33), (33, 67), (67, 101)][rank]
    table = part.place("model.embed_tokens.weight")
    head = ("lm_head.weight", Cut(-2, 101, (words,)))
    assert table == (("model.embed_tokens.weight", None) if rank == 0 else head)
    assert part.place("lm_head.weight") is None and part.place("model.norm.weight") == ("model.norm.weight", None)


def test_only_the_first_rank_of_a_pipeline_has_positions() -> None:
    first, second = (share(SAME["gpt-2"], names("gpt-2"), "pipeline", rank, 2) for rank in (0, 1))
    assert first.place("wpe.weight") == ("wpe.weight", None) and second.place("wpe.weight") is None
    assert first.config.learned_positions and not second.config.learned_positions


def test_settings_of_a_quantisation_go_with_their_modules() -> None:
    part = share(LLAMA, names("llama biased"), "pipeline", 1, 2)
    said = {"bits": 4, "mode": "affine", "model.layers.2.mlp.up_proj": {"bits": 8}, "model.layers.0.mlp.up_proj": False,
            "lm_head": False}  # fmt: skip
    assert part.settings(said) == {
        "bits": 4,
        "mode": "affine",
        "model.layers.0.mlp.up_proj": {"bits": 8},
        "lm_head": False,
    }


@pytest.mark.parametrize(
    ("name", "way", "ranks", "unit", "line"),
    [
        (
            "llama",
            "tensor",
            3,
            1,
            "llama has 2 key/value heads, which 3 ranks cannot share evenly: start 2 ranks, or use",
        ),
        ("olmo 2", "tensor", 2, 1, "norms q and k over all heads at once"),
        ("llama", "tensor", 2, 32, "groups of 32, and 48 columns of attention do not divide into 2 parts"),
        ("llama", "tensor", 2, 24, None),
        ("llama", "tensor", 2, 12, None),
        ("llama", "pipeline", 5, 1, "llama has 4 layers, too few for 5 ranks: start fewer"),
        ("llama", "pipeline", 4, 1, None),
    ],
)
def test_what_ranks_cannot_share_is_said(name: str, way: str, ranks: int, unit: int, line: str | None) -> None:
    given = names(name)
    if line is None:
        assert share(SAME[name], given, way, 0, ranks, unit).ranks == ranks
        return
    with pytest.raises(ConfigError, match=line):
        share(SAME[name], given, way, 0, ranks, unit)


@pytest.mark.parametrize(
    ("width", "unit", "ranks", "parts"),
    [(72, 24, 3, [(0, 24), (24, 48), (48, 72)]), (96, 32, 2, [(0, 32), (32, 96)]), (5, 1, 2, [(0, 2), (2, 5)])],
)
def test_hidden_units_are_shared_in_whole_groups(
    width: int, unit: int, ranks: int, parts: list[tuple[int, int]]
) -> None:
    assert [shard._hidden(width, rank, ranks, unit) for rank in range(ranks)] == parts
    for bad in ((width + 1, ranks), (width, width // unit + 1)):
        if bad[0] % unit or bad[1] != ranks:
            with pytest.raises(ConfigError, match="do not give each of"):
                shard._hidden(bad[0], 0, bad[1], unit)


def test_advice_names_the_ranks_that_would_fit() -> None:
    assert shard._fitting(12) == "start 2 or 3 or 4 or 6 or 12 ranks, or " and shard._fitting(1) == ""
    assert shard._fitting(128).endswith("32 or 64 ranks, or ")
