"""What our kernels are launched with: names of the file, the groups, macros and template arguments, shapes of outputs.

Nothing is compiled or run: the launches are written down, and what they would give is zeros.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import e, log2
from typing import Any

import pytest

from metal import kernel, metal_attention, mx, row, vocab
from metal.errors import KernelError
from metal.kv import KV, Quantized
from metal.mask import CAUSAL, FULL, Mask
from metal.merge import States, merge
from metal.metal_attention import Geometry, tile_rows
from metal.reference import Emit
from metal.vocab import DrawPlan

F16, BF16, F32 = mx.float16, mx.bfloat16, mx.float32


@dataclass
class Launched:
    """One launch."""

    file: str
    inputs: dict[str, mx.array]
    outputs: dict[str, tuple[tuple[int, ...], mx.Dtype]]
    grid: tuple[int, int, int]
    threads: int
    defines: dict[str, int] = field(default_factory=dict)
    template: dict[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> list[int]:
        return self.inputs["params"].tolist()  # type: ignore[no-any-return]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Launched]]:
    found: list[Launched] = []

    def note(file: str, inputs: Any, outputs: Any, **options: Any) -> dict[str, mx.array]:
        options = {name: value for name, value in options.items() if value is not None}
        found.append(Launched(file, dict(inputs), dict(outputs), **options))
        return {name: mx.zeros(shape, dtype) for name, (shape, dtype) in outputs.items()}

    monkeypatch.setattr(kernel, "launch", note)
    yield found


def rows(b: int, heads: int, n: int, d: int, dtype: mx.Dtype = F16) -> mx.array:
    return mx.zeros((b, heads, n, d), dtype)


def packed(b: int, heads: int, n: int, d: int, bits: int, group: int = 64, scales: mx.Dtype = BF16) -> Quantized:
    shape = (b, heads, n, d // group)
    codes = mx.zeros((b, heads, n, d * bits // 32), mx.uint32)
    return Quantized(codes, mx.zeros(shape, scales), mx.zeros(shape, scales), group, bits)


def kv(keys: Any, values: Any = None, length: int = 5, **more: Any) -> KV:
    values = keys if values is None else values
    return KV(keys, values, mx.full((keys.shape[0],), length, dtype=mx.int32), length, **more)


def attend(q: mx.array, held: KV, mask: Mask = CAUSAL, scale: float = 0.25, **more: Any) -> Any:
    return metal_attention.attention(q, held, scale=scale, mask=mask, **more)


def as_bits(x: float) -> int:
    return int(struct.unpack("<i", struct.pack("<f", x))[0])


PLAIN = {"SOFTCAP": 0, "STATS": 0, "RING": 0, "DOCS": 0, "TREE": 0}
SIXTEEN = {"K_BITS": 16, "K_GROUP": 0, "V_BITS": 16, "V_GROUP": 0}


def test_a_token_goes_through_decode_and_a_merge(launched: list[Launched]) -> None:
    out, seen = attend(rows(2, 6, 1, 64), kv(rows(2, 2, 256, 64), length=200))
    one, two = launched
    assert (one.file, one.grid, one.threads) == ("decode.metal", (1, 4, 1), 256)
    assert one.outputs == {"partial": ((2, 6, 1, 1, 64), F32), "stats": ((2, 6, 1, 1, 4), F32)}
    assert one.defines == PLAIN | SIXTEEN
    template = {"T": F16, "D": 64, "E": F16, "LPK": 4, "VEC": 8, "ROWS": 4, "NSG": 8, "UNROLL": 2}
    assert one.template == template
    assert set(one.inputs) == {"q", "lengths", "ends", "offsets", "params", "keys", "values"}
    assert one.inputs["lengths"].tolist() == one.inputs["ends"].tolist() == [200, 200]
    assert one.inputs["offsets"].tolist() == [0]
    base = as_bits(0.25 * log2(e))
    assert one.params == [base, 0, 0, 2, 3, 1, 256, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert (two.file, two.grid, two.threads) == ("merge.metal", (1, 12, 1), 64)
    assert two.outputs == {"out": ((2, 6, 1, 64), F16)} and two.params == [1, 1, 6, base]
    assert two.defines == {"STATS": 0, "SINKS": 0, "TOP": 0} and two.template == {"T": F16, "D": 64}
    assert out.shape == (2, 6, 1, 64)
    assert (seen.lse, seen.entropy, seen.positions, seen.weights, seen.scores) == (None,) * 5


@pytest.mark.parametrize(
    ("d", "lanes", "vector", "served"),
    [(64, 4, 8, 4), (80, 4, 4, 4), (96, 8, 4, 4), (128, 4, 8, 2), (256, 8, 8, 2)],
)
def test_every_head_size_has_its_lanes_a_key(
    d: int, lanes: int, vector: int, served: int, launched: list[Launched]
) -> None:
    attend(rows(1, 8, 1, d), kv(rows(1, 2, 256, d)))
    template = launched[0].template
    assert (template["LPK"], template["VEC"], template["ROWS"]) == (lanes, vector, served)
    assert launched[0].grid == (1, 2 * (4 // served), 1) and launched[1].threads == {80: 96}.get(d, d)


@pytest.mark.parametrize(
    ("heads", "t", "asked", "served", "groups"),
    [(2, 1, None, 1, 2), (4, 1, None, 2, 2), (6, 1, None, 4, 2), (2, 3, None, 4, 2), (10, 1, None, 4, 4),
     (8, 1, 2, 2, 4), (8, 1, 1, 1, 8), (8, 1, 8, 4, 2), (4, 1, 8, 2, 2)],
)  # fmt: skip
def test_a_load_serves_as_many_query_rows_as_there_are_up_to_four(
    heads: int, t: int, asked: int | None, served: int, groups: int, launched: list[Launched]
) -> None:
    attend(rows(1, heads, t, 64), kv(rows(1, 2, 256, 64)), geometry=Geometry(rows=asked))
    assert launched[0].template["ROWS"] == served and launched[0].grid == (1, groups, 1)


@pytest.mark.parametrize(("architecture", "served"), [("applegpu_g14s", 1), ("applegpu_g15s", 4), ("", 4)])
def test_older_chips_gain_nothing_from_one_load(
    architecture: str, served: int, launched: list[Launched], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metal.device import Device

    monkeypatch.setattr(metal_attention, "device", lambda: Device("a chip", True, architecture=architecture))
    attend(rows(1, 8, 1, 64), kv(rows(1, 2, 256, 64)))
    assert launched[0].template["ROWS"] == served


@pytest.mark.parametrize(
    ("q", "held", "splits"),
    [
        ((1, 1, 1, 64), (1, 1, 1023, 64), 1),
        ((1, 1, 1, 64), (1, 1, 1024, 64), 2),
        ((1, 1, 1, 64), (1, 1, 16384, 64), 32),
        ((1, 1, 1, 64), (1, 1, 65536, 64), 32),
        ((1, 8, 1, 64), (1, 1, 4096, 64), 8),  # 0.04 * 4096 * 256 / (8 * 8 * 68) = 9.6 is more than 4096 / 512
        ((1, 15, 1, 64), (1, 1, 4096, 64), 5),  # 0.04 * 4096 * 256 / (8 * 15 * 68) = 5.1
        ((1, 8, 32, 64), (1, 1, 4096, 64), 1),
        ((1, 8, 4, 64), (1, 2, 4096, 64), 4),
    ],
)
def test_keys_are_cut_into_parts_that_fill_a_chip_and_cost_little(
    q: tuple[int, ...], held: tuple[int, ...], splits: int, launched: list[Launched]
) -> None:
    attend(rows(*q), kv(rows(*held)))
    assert launched[0].grid[2] == launched[0].params[7] == splits


def test_many_heads_fill_a_chip_without_a_cut(launched: list[Launched]) -> None:
    attend(rows(1, 63, 32, 64), kv(rows(1, 63, 16384, 64)))
    attend(rows(1, 64, 32, 64), kv(rows(1, 64, 16384, 64)))
    attend(rows(1, 32, 33, 64), kv(rows(1, 32, 16384, 64)))
    assert [(one.file, one.grid[2]) for one in launched if one.file == "tiles.metal"] == [
        ("tiles.metal", 9),  # 0.04 * 16384 * 256 / (8 * 32 * 68) = 9.6
        ("tiles.metal", 1),
        ("tiles.metal", 1),
    ]


def test_packed_rows_are_so_few_bytes_that_fewer_parts_pay(launched: list[Launched]) -> None:
    """Bytes of a row of 128: 256 as it comes, 136 and 72 packed by 64; a part's state is 132 float32 a query row."""
    q = rows(1, 8, 1, 128)
    attend(q, kv(rows(1, 1, 8192, 128)))
    for bits, other in ((8, 8), (4, 4), (8, 4)):
        attend(q, kv(packed(1, 1, 8192, 128, bits), packed(1, 1, 8192, 128, other)))
    attend(q, kv(packed(1, 1, 8192, 128, 8, 32, F32), packed(1, 1, 8192, 128, 8, 32, F32)))
    parts = [one for one in launched if one.file == "decode.metal"]
    sizes = (512, 2 * 136, 2 * 72, 136 + 72, 2 * 160)
    assert [one.grid[2] for one in parts] == [min(16, int(0.04 * 8192 * size / (8 * 8 * 132))) for size in sizes]
    assert [one.grid[2] for one in parts] == [16, 10, 5, 8, 12]
    assert parts[1].defines == PLAIN | {"K_BITS": 8, "K_GROUP": 64, "V_BITS": 8, "V_GROUP": 64}
    assert parts[3].defines == PLAIN | {"K_BITS": 8, "K_GROUP": 64, "V_BITS": 4, "V_GROUP": 64}
    assert parts[1].template["S"] == BF16 and parts[4].template["S"] == F32 and "E" not in parts[1].template
    names = {f"{name}_{part}" for name in ("key", "value") for part in ("codes", "scales", "biases")}
    assert set(parts[1].inputs) == {"q", "lengths", "ends", "offsets", "params"} | names


def test_a_prompt_goes_through_tiles_in_one_launch(launched: list[Launched]) -> None:
    out, seen = attend(rows(1, 4, 20, 64), kv(rows(1, 2, 256, 64)), emit=Emit(lse=True))
    (one,) = launched
    assert (one.file, one.grid, one.threads) == ("tiles.metal", (1, 4, 1), 128)
    assert one.outputs == {"out": ((1, 4, 20, 64), F16), "lse": ((1, 4, 20), F32), "entropy": ((1, 4, 20), F32)}
    assert one.defines == PLAIN | SIXTEEN | {"STATS": 1, "PARTIAL": 0, "SINKS": 0}
    assert one.template == {"T": F16, "D": 64, "E": F16, "C": F16, "BK": 32, "NSG": 4}
    assert out.shape == (1, 4, 20, 64) and seen.lse is not None and seen.entropy is None


def test_a_prompt_over_many_rows_is_cut_and_merged(launched: list[Launched]) -> None:
    sinks = mx.zeros((4,))
    attend(rows(1, 4, 33, 64), kv(rows(1, 2, 4096, 64)), sinks=sinks, geometry=Geometry(splits=3))
    one, two = launched
    assert (one.file, one.grid) == ("tiles.metal", (1, 6, 3)) and "sinks" not in one.inputs
    assert one.outputs == {"partial": ((1, 4, 33, 3, 64), F32), "stats": ((1, 4, 33, 3, 4), F32)}
    assert (one.defines["PARTIAL"], one.defines["SINKS"], two.defines["SINKS"]) == (1, 0, 1)
    assert two.grid == (1, 132, 1) and two.inputs["sinks"] is sinks
    launched.clear()
    attend(rows(1, 4, 33, 64), kv(rows(1, 2, 256, 64)), sinks=sinks)
    assert launched[0].inputs["sinks"] is sinks and launched[0].defines["SINKS"] == 1


def test_tiles_hold_what_fits_the_memory_of_a_group() -> None:
    assert [tile_rows(d, False) for d in (64, 96, 97, 128, 256)] == [32, 32, 16, 16, 16]
    assert [tile_rows(d, True) for d in (64, 65, 128, 129, 256)] == [32, 16, 16, 8, 8]


def test_a_tile_of_packed_rows_is_of_the_queries_kind(launched: list[Launched]) -> None:
    attend(rows(1, 4, 20, 128, F32), kv(packed(1, 2, 256, 128, 8)))
    attend(rows(1, 4, 20, 128, F32), kv(rows(1, 2, 256, 128, BF16)))
    attend(rows(1, 4, 20, 128, F16), kv(packed(1, 2, 256, 128, 8), rows(1, 2, 256, 128, F32)))
    tiles = [(one.template["C"], one.template["BK"]) for one in launched]
    assert tiles == [(F32, 16), (BF16, 16), (F16, 16)]


@pytest.mark.parametrize(
    ("heads", "t", "emit", "file"),
    [
        (2, 15, None, "decode.metal"),
        (2, 16, None, "tiles.metal"),
        (4, 8, None, "tiles.metal"),
        (4, 7, None, "decode.metal"),
        (2, 16, Emit(top=1), "decode.metal"),
        (2, 16, Emit(scores=True), "decode.metal"),
        (2, 16, Emit(lse=True, entropy=True), "tiles.metal"),
    ],
)
def test_tiles_are_for_as_many_query_rows_as_fill_them(
    heads: int, t: int, emit: Emit | None, file: str, launched: list[Launched]
) -> None:
    attend(rows(1, heads, t, 64), kv(rows(1, 2, 256, 64)), emit=emit)
    assert launched[0].file == file


def test_a_shared_prefix_is_read_once_for_all_texts(launched: list[Launched]) -> None:
    prefix = kv(rows(1, 2, 128, 64), length=100)
    attend(rows(8, 4, 1, 64), kv(rows(8, 2, 64, 64), length=7, prefix=prefix))
    shared, own, joined = launched
    assert (shared.file, shared.grid, shared.params[8]) == ("tiles.metal", (1, 2, 1), 8)  # 16 rows of a head
    assert (own.file, own.grid, own.params[8]) == ("decode.metal", (1, 16, 1), 1)
    assert (shared.inputs["offsets"].tolist(), own.inputs["offsets"].tolist()) == ([0], [100])
    assert shared.inputs["ends"].tolist() == own.inputs["ends"].tolist() == [107] * 8
    assert shared.params[15:18] == [0, 1, 0] and own.params[15:18] == [1, 1, 0]
    assert joined.params[0] == 2 and joined.inputs["partial"].shape == (8, 4, 1, 2, 64)
    launched.clear()
    attend(rows(7, 4, 1, 64), kv(rows(7, 2, 64, 64), length=7, prefix=prefix))
    assert [one.file for one in launched] == ["decode.metal"] * 2 + ["merge.metal"]


def test_a_segment_that_stands_at_several_places_goes_by_decode(launched: list[Launched]) -> None:
    """Of three segments the middle one is shared and stands behind rows of different lengths."""
    first = KV(rows(8, 2, 64, 64), rows(8, 2, 64, 64), mx.arange(8, dtype=mx.int32), 7, ragged=True)
    middle = kv(rows(1, 2, 64, 64), length=9, prefix=first)
    attend(rows(8, 4, 1, 64), kv(rows(8, 2, 64, 64), length=3, prefix=middle))
    assert [one.file for one in launched] == ["decode.metal"] * 3 + ["merge.metal"]
    assert [one.inputs["offsets"].tolist() for one in launched[:3]] == [[0], [*range(8)], [*range(9, 17)]]
    assert [one.params[17] for one in launched[:3]] == [0, 1, 1]


def test_rows_of_a_ring_end_where_their_positions_do(launched: list[Launched]) -> None:
    at = mx.array([[7, 8, 3, 4, 5, 6, 99, 99]], dtype=mx.int32)
    ring = kv(rows(1, 2, 8, 64), length=6, positions=at)
    attend(rows(1, 2, 1, 64), kv(rows(1, 2, 8, 64), length=2, prefix=ring))
    attend(rows(1, 2, 1, 64), kv(rows(1, 2, 8, 64), length=6, positions=at, prefix=kv(rows(1, 2, 8, 64), length=4)))
    ringed, own, _, before, after, _ = launched
    assert ringed.defines["RING"] == 1 and ringed.inputs["positions"] is at and own.defines["RING"] == 0
    assert own.inputs["offsets"].tolist() == [9] and own.inputs["ends"].tolist() == [11]
    assert (before.inputs["ends"].tolist(), after.inputs["ends"].tolist()) == ([9], [9])


def test_masks_and_caps_are_data(launched: list[Launched]) -> None:
    documents, tree = mx.zeros((1, 9), mx.int32), mx.zeros((2, 3, 1), mx.uint32)
    q, held = rows(2, 2, 3, 64), kv(rows(2, 2, 64, 64))
    attend(q, held, Mask(window=9, keep=2), softcap=20.0)
    attend(q, held, Mask(prefix=4, block=5, block_start=3))
    attend(q, held, FULL)
    attend(q, held, Mask(documents=documents))
    attend(q, held, Mask(documents=mx.zeros((2, 9), mx.int32)))
    attend(q, held, Mask(tree=tree))
    capped, blocks, full, docs, apart, branched = launched[::2]
    base = log2(e)
    assert capped.params[:3] == [as_bits(base), as_bits(0.25 / 20), as_bits(20.0)]
    assert capped.defines["SOFTCAP"] == 1 and launched[1].params[3] == as_bits(base)
    assert capped.params[9:15] == [1, 9, 2, 0, 0, 0] and blocks.params[9:15] == [1, 0, 0, 4, 5, 3]
    assert full.params[9:15] == [0] * 6
    assert docs.params[18:] == [0, 9, 0] and docs.defines["DOCS"] == 1 and docs.inputs["documents"] is documents
    assert apart.params[18:] == [9, 9, 0]
    assert branched.params[18:] == [0, 0, 1] and branched.defines["TREE"] == 1 and branched.inputs["tree"] is tree


@pytest.mark.parametrize(("top", "listed"), [(1, 8), (8, 8), (9, 16), (16, 16)])
def test_a_lane_lists_eight_or_sixteen_positions(top: int, listed: int, launched: list[Launched]) -> None:
    _, seen = attend(rows(1, 2, 1, 64), kv(rows(1, 2, 64, 64)), emit=Emit(top=top, entropy=True))
    one, two = launched
    assert one.outputs["tops"] == ((1, 2, 1, 1, listed), F32) and one.outputs["top_at"][1] == mx.int32
    assert one.defines["TOP"] == two.defines["TOP"] == listed and two.defines["STATS"] == 1
    assert two.outputs["top_positions"] == ((1, 2, 1, listed), mx.int32)
    assert two.outputs["top_weights"] == ((1, 2, 1, listed), F32)
    assert seen.positions is not None and seen.positions.shape == (1, 2, 1, top) == seen.weights.shape
    assert seen.lse is None and seen.entropy is not None and seen.scores is None


def test_more_positions_are_picked_from_the_row_of_scores(launched: list[Launched]) -> None:
    for emit in (Emit(top=17), Emit(top=17, lse=True, scores=True)):
        _, seen = attend(rows(1, 2, 1, 64), kv(rows(1, 2, 64, 64), length=40), emit=emit)
        assert seen.positions is not None and seen.positions.shape == (1, 2, 1, 17)
        assert (seen.lse is not None, seen.scores is not None) == (emit.lse, emit.scores)
    one, two, *_ = launched
    assert "tops" not in one.outputs and one.outputs["scores"] == ((1, 2, 1, 64), F32)
    assert one.defines["SCORES"] == 1 and "TOP" not in one.defines and two.defines["STATS"] == 1
    assert seen.scores is not None and seen.scores.shape == (1, 2, 1, 40)


def test_what_the_kernels_cannot_take_is_refused_at_its_border() -> None:
    for d in (64, 80, 96, 128, 256):
        assert metal_attention.refusal(rows(1, 2, 1, d), kv(rows(1, 2, 8, d))) is None
    for d in (63, 65, 72, 112, 512):
        want = f"head size must be one of (64, 80, 96, 128, 256), got {d}"
        assert metal_attention.refusal(rows(1, 2, 1, d), kv(rows(1, 2, 8, d))) == want
        with pytest.raises(KernelError):
            attend(rows(1, 2, 1, d), kv(rows(1, 2, 8, d)))
    q = rows(1, 1, 1, 64)
    wide = Quantized(mx.zeros((1, 1, 8, 16), mx.uint32), mx.zeros((1, 1, 8, 1)), mx.zeros((1, 1, 8, 1)), 128, 8)
    assert metal_attention.refusal(q, kv(wide, rows(1, 1, 8, 64))) == (
        "keys.group_size must divide head size 64, got 128"
    )
    assert metal_attention.refusal(q, kv(packed(1, 1, 8, 64, 8))) is None
    few = "values.scales must be 8 or more, got 7: give the cache more capacity"
    assert metal_attention.refusal(q, kv(rows(1, 1, 7, 64), packed(1, 1, 7, 64, 8))) == few
    behind = kv(rows(1, 1, 8, 64), prefix=kv(rows(1, 1, 7, 64), packed(1, 1, 7, 64, 8)))
    assert metal_attention.refusal(q, behind) == few


def test_a_merge_has_whole_simdgroups_of_threads(launched: list[Launched]) -> None:
    for d, threads in ((32, 32), (33, 64), (64, 64), (80, 96), (96, 96)):
        states = States(mx.zeros((2, 3, 5, 4, d)), mx.zeros((2, 3, 5, 4, 4)))
        out, seen = merge([states], BF16, 0.5, None, Emit(entropy=True))
        one = launched[-1]
        assert (one.threads, one.grid, one.params) == (threads, (1, 30, 1), [4, 5, 3, as_bits(0.5)])
        assert out.shape == (2, 3, 5, d) and seen.lse is None and seen.entropy is not None
    merge([states, states], BF16, 0.5, None, Emit())
    assert launched[-1].inputs["partial"].shape == (2, 3, 5, 8, 96) and "lse" not in launched[-1].outputs


def test_a_vocabulary_is_scanned_in_chunks_and_joined(launched: list[Launched]) -> None:
    """8,192 logits a chunk, of which 64 go on: the threads of the second launch hold ceil(chunks * 64 / 256) each."""
    for n, v, chunks, each in ((1, 8192, 1, 1), (2, 8193, 2, 1), (1, 32768, 4, 1), (3, 32769, 5, 2), (1, 65537, 9, 3)):
        launched.clear()
        vocab.by_kernel(mx.zeros((n, v), F16), None, None)
        scan, draw = launched
        assert (scan.file, scan.grid, scan.threads) == ("scan.metal", (chunks, n, 1), 256)
        assert scan.outputs == {
            "values": ((n, chunks, 64), F32),
            "value_ids": ((n, chunks, 64), mx.int32),
            "stats": ((n, chunks, 4), F32),
        }
        assert scan.params == [v, chunks, 0] and scan.template == {"EACH": 32, "BITS": 19}
        assert scan.inputs["recipe"].tolist() == [1, 0, 1, 0, 0, 0]
        assert (draw.file, draw.grid, draw.threads) == ("draw.metal", (1, n, 1), 256)
        assert draw.defines == {"DRAW": 0} and draw.template == {"EACH": each, "BITS": 19}
        assert draw.outputs == {
            "lse": ((n,), F32),
            "entropy": ((n,), F32),
            "top_ids": ((n, 64), mx.int32),
            "top_logprobs": ((n, 64), F32),
        }
        assert set(draw.inputs) == {"values", "value_ids", "stats", "params", "recipe"}


def test_a_draw_has_its_recipe_and_its_numbers(launched: list[Launched], monkeypatch: pytest.MonkeyPatch) -> None:
    uniform = mx.zeros((2, 2))
    plan = DrawPlan(0.5, 40, 0.75, 0.125, True, True)
    drawn = vocab.by_kernel(mx.zeros((2, 100), BF16), plan, uniform).drawn
    scan, draw = launched
    assert scan.inputs["recipe"].tolist() == [2, 40, 0.75, 0.125, 1, 1] and scan.template["BITS"] == 16
    assert draw.inputs["uniform"] is uniform and draw.defines == {"DRAW": 1}
    assert draw.outputs["drawn"] == ((2, 3), mx.int32) and draw.outputs["logprobs"] == ((2, 3), F32)
    assert drawn is not None and drawn.token.shape == (2,)

    def told(file: str, inputs: Any, outputs: Any, **_: Any) -> dict[str, mx.array]:
        given = {name: mx.zeros(shape, dtype) for name, (shape, dtype) in outputs.items()}
        if file == "draw.metal":
            given["drawn"] = mx.array([[5, 6, 1], [8, 9, 0]], dtype=mx.int32)
            given["logprobs"] = mx.array([[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]])
        return given

    monkeypatch.setattr(kernel, "launch", told)
    found = vocab.by_kernel(mx.zeros((2, 100)), plan, uniform).drawn
    assert found is not None
    assert (found.token.tolist(), found.kept.tolist(), found.spilled.tolist()) == ([5, 8], [6, 9], [True, False])
    numbers = found.logprob.tolist(), found.logprob_after.tolist(), found.lse.tolist()
    assert numbers == ([0.5, 3.5], [1.5, 4.5], [2.5, 5.5])


def test_a_vocabulary_ends_where_a_thread_could_not_hold_more(launched: list[Launched]) -> None:
    most = 32 * 256 // 64 * 8192
    vocab.by_kernel(mx.zeros((1, most), BF16), None, None)
    assert launched[1].template["EACH"] == 32
    with pytest.raises(KernelError, match=f"^logits must have at most {most} columns, got {most + 1}$"):
        vocab.by_kernel(mx.zeros((1, most + 1), BF16), None, None)


def test_a_row_is_scanned_joined_and_binned(launched: list[Launched]) -> None:
    for v, chunks, each in ((8192, 1, 2), (8193, 2, 4), (24577, 4, 8), (57345, 8, 16), (8192 * 15, 15, 16)):
        launched.clear()
        found = row.scan(mx.zeros((2, v), BF16), mx.zeros((2, 3), mx.int32))
        one, two, three = launched
        assert [launch.file for launch in launched] == ["row.metal", "candidates.metal", "histogram.metal"]
        assert [launch.grid for launch in launched] == [(chunks, 2, 1), (1, 2, 1), (chunks, 2, 1)]
        assert {launch.threads for launch in launched} == {256}
        assert [launch.params for launch in launched] == [[v, chunks, 3]] * 3
        assert one.template == {"EACH": 32, "BITS": 16} and two.template == {"EACH": each, "BITS": 16}
        assert three.template == {"EACH": 32}
        assert one.outputs == {
            "values": ((2, chunks, 256), F32),
            "value_ids": ((2, chunks, 256), mx.int32),
            "stats": ((2, chunks, 5), F32),
            "counted": ((2, chunks, 3), mx.int32),
        }
        assert two.outputs == {
            "best": ((2, 256), F32),
            "best_ids": ((2, 256), mx.int32),
            "edges": ((2, 65), F32),
            "apart_logits": ((2, 3), F32),
        }
        assert three.outputs == {
            "filled": ((2, chunks, 64), mx.uint32),
            "masses": ((2, chunks, 64), mx.uint32),
            "lows": ((2, chunks), F32),
        }
        assert set(three.inputs) == {"logits", "params", "apart", "best", "best_ids", "edges"}
        shapes = [array.shape for array in found.arrays]
        wide = [(2, chunks, n) for n in (5, 3, 64, 64)]
        assert shapes == [(2, 256), (2, 256), (2, 3), (2, 65), *wide, (2, chunks)]
    launched.clear()
    row.scan(mx.zeros((1, 8192 * 64)), mx.zeros((1, 1), mx.int32))
    assert launched[1].template["EACH"] == 32


@pytest.mark.parametrize(
    ("logits", "apart", "line"),
    [
        (mx.zeros((4,)), mx.zeros((1, 1), mx.int32), "logits must be"),
        (mx.zeros((0, 4)), mx.zeros((0, 1), mx.int32), "logits must be"),
        (mx.zeros((1, 4), mx.int32), mx.zeros((1, 1), mx.int32), "logits must be"),
        (mx.zeros((1, 4)), mx.zeros((1,), mx.int32), "apart must be"),
        (mx.zeros((1, 4)), mx.zeros((2, 1), mx.int32), "apart must be"),
        (mx.zeros((1, 4)), mx.zeros((1, 0), mx.int32), "apart must be"),
        (mx.zeros((1, 4)), mx.zeros((1, 1)), "apart must be"),
    ],
)
def test_a_row_that_cannot_be_scanned_is_named(
    logits: mx.array, apart: mx.array, line: str, launched: list[Launched]
) -> None:
    with pytest.raises(KernelError, match=line):
        row.scan(logits, apart)
    assert not launched
