"""Attention by our own kernels: the launches, their geometry, and what they refuse.

Each segment of a chain is one launch that leaves unnormalised states (`decode.metal` for few query rows,
`tiles.metal` for many); `merge.metal` makes them one. A single segment in tiles and one split skips the merge. Shapes
depend on the caches' capacity, never on how much of it is filled, so that one compiled step serves a whole capacity.
"""

from dataclasses import dataclass
from math import e, log2
from typing import Literal

from metal import kernel, mx
from metal.device import device
from metal.errors import KernelError
from metal.kernel import Constant
from metal.kv import KV, Quantized
from metal.mask import Mask
from metal.merge import States, merge, reported
from metal.reference import Emit, Seen

SIZES = (64, 80, 96, 128, 256)  # head sizes
FEW = 16  # query rows of one key/value head below which a tile of 8x8 products is mostly empty
TOP = 16  # the most positions that the decode kernel can report
PARTIALS = 0.04  # of the key/value bytes: how much the splits' states may add, written and read

Kind = Literal["decode", "tiles"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What may be tuned without changing a result: query rows a load serves, and the parts the keys are cut into."""

    rows: int | None = None
    splits: int | None = None


@dataclass(frozen=True, slots=True)
class _Segment:
    kv: KV
    ends: mx.array  # int32 [B or 1]: one past the last query's position
    offsets: mx.array  # int32 [B or 1]: the position of row 0
    shared: int  # rows of B that read the same rows


def refusal(q: mx.array, kv: KV, mask: Mask, emit: Emit | None) -> str | None:
    """Why our kernels cannot take this, as a line that names the argument; None if they can."""
    b, _, _, d = q.shape
    if d not in SIZES:
        return f"head size must be one of {SIZES}, got {d}"
    if emit is not None and emit.top > TOP:
        return f"emit.top must be at most {TOP}, got {emit.top}"
    chain = kv.chain()
    marked = mask.documents is not None or mask.tree is not None
    if marked and emit is not None and (emit.top or emit.scores):
        return "emit: top and scores do not go with mask.documents or mask.tree"
    for i, part in enumerate(chain):
        if part.keys.shape[0] == 1 < b and i > 0 and chain[i - 1].keys.shape[0] != 1:
            return "prefix: a shared segment must come before those of single rows"
        if part.keys.shape[0] == 1 < b and mask.documents is not None:
            return "mask.documents does not go with a shared prefix"
        if part.positions is not None and (marked or len(chain) > 1):
            return "positions: a ring cache has no prefix, documents or tree"
        for name, x in (("keys", part.keys), ("values", part.values)):
            if isinstance(x, Quantized) and x.group_size > d:
                return f"{name}.group_size must divide head size {d}, got {x.group_size}"
    return None


def attention(
    q: mx.array,
    kv: KV,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    sinks: mx.array | None = None,
    emit: Emit | None = None,
    geometry: Geometry | None = None,
) -> tuple[mx.array, Seen]:
    """What `reference.attention` gives, by the kernels. Raises KernelError for what they cannot take."""
    if (why := refusal(q, kv, mask, emit)) is not None:
        raise KernelError(why)
    emit, geometry = emit or Emit(), geometry or Geometry()
    segments = _segments(kv, q.shape[0])
    kinds = [_kind(q, s, mask, emit) for s in segments]
    call = _Call(q, scale, mask, softcap, emit, geometry)
    if kinds == ["tiles"] and call.splits(segments[0], "tiles") == 1:
        return call.whole(segments[0], sinks)
    states = [call.decode(s) if k == "decode" else call.tiles(s) for s, k in zip(segments, kinds, strict=True)]
    out, seen = merge(states, q.dtype, call.base, sinks, emit)
    if not emit.scores:
        return out, seen
    rows = [
        s.scores if s.scores is None else s.scores[..., : part.kv.length]
        for s, part in zip(states, segments, strict=True)
    ]
    scores = [x for x in rows if x is not None]
    joined = scores[0] if len(scores) == 1 else mx.concatenate(scores, axis=-1)
    return out, Seen(seen.lse, seen.entropy, seen.positions, seen.weights, joined)


def _segments(kv: KV, b: int) -> list[_Segment]:
    """Each segment with what positions need; the arrays are the caches' own wherever nothing precedes."""
    chain = kv.chain()
    if kv.positions is not None:
        index = mx.arange(kv.capacity, dtype=mx.int32)[None]
        held = mx.where(index < kv.lengths[:, None], kv.positions, -1)
        ends = mx.max(held, axis=1) + 1
        return [_Segment(kv, ends, kernel.int32(0), 1)]
    offsets, before = [], kernel.int32(0)
    for part in chain:
        offsets.append(before)
        before = part.lengths if len(offsets) == 1 else before + part.lengths
    return [
        _Segment(part, before, offset, b // part.keys.shape[0]) for part, offset in zip(chain, offsets, strict=True)
    ]


def _kind(q: mx.array, s: _Segment, mask: Mask, emit: Emit) -> Kind:
    if mask.documents is not None or mask.tree is not None:
        return "tiles"
    if emit.top or emit.scores:
        return "decode"
    rows = q.shape[1] // s.kv.keys.shape[1] * q.shape[2] * s.shared
    return "decode" if rows < FEW else "tiles"


@dataclass(frozen=True)
class _Call:
    """One call's operands, and the launch of a segment by either kernel."""

    q: mx.array
    scale: float
    mask: Mask
    softcap: float | None
    emit: Emit
    geometry: Geometry

    @property
    def base(self) -> float:
        """A weight is 2^(base * score); a score is q k, or what the cap makes of scale * q k."""
        return log2(e) if self.softcap is not None else self.scale * log2(e)

    @property
    def stats(self) -> bool:
        return self.emit.lse or self.emit.entropy

    def decode(self, s: _Segment) -> States:
        """Few query rows: `decode.metal`."""
        b, h, t, d = self.q.shape
        heads = s.kv.keys.shape[1]
        rows = self._rows(h // heads * t, d)
        splits = self.splits(s, "decode")
        inputs, defines, template = self._operands(s, splits)
        outputs = self._partials(splits)
        if self.emit.top:
            top = defines["TOP"] = 8 if self.emit.top <= 8 else TOP
            outputs |= {"tops": ((b, h, t, splits, top), mx.float32), "top_at": ((b, h, t, splits, top), mx.int32)}
        if self.emit.scores:
            defines["SCORES"] = 1
            outputs["scores"] = ((b, h, t, s.kv.capacity), mx.float32)
        lanes = 8 if d in (96, 256) else 4
        template |= {"LPK": lanes, "VEC": 8 if d // lanes % 8 == 0 else 4, "ROWS": rows, "NSG": 8, "UNROLL": 2}
        got = kernel.launch(
            "decode.metal",
            inputs,
            outputs,
            grid=(1, b * heads * -(-(h // heads * t) // rows), splits),
            threads=256,
            defines=defines,
            template=template,
        )
        return States(**got)

    def tiles(self, s: _Segment) -> States:
        """Many query rows, to be merged: `tiles.metal`."""
        return States(**self._tiled(s, None, partial=True))

    def whole(self, s: _Segment, sinks: mx.array | None) -> tuple[mx.array, Seen]:
        """Many query rows over a single segment in one go: `tiles.metal`."""
        got = self._tiled(s, sinks, partial=False)
        return got["out"], reported(got, self.emit)

    def _tiled(self, s: _Segment, sinks: mx.array | None, *, partial: bool) -> dict[str, mx.array]:
        q, mask = self.q, self.mask
        b, h, t, d = q.shape
        kb, heads = s.kv.keys.shape[:2]
        splits = self.splits(s, "tiles") if partial else 1
        inputs, defines, template = self._operands(s, splits)
        defines |= {"PARTIAL": int(partial), "SINKS": int(sinks is not None)}
        defines |= {"DOCS": int(mask.documents is not None), "TREE": int(mask.tree is not None)}
        if sinks is not None:
            inputs["sinks"] = sinks
        if mask.documents is not None:
            inputs["documents"] = mask.documents
        if mask.tree is not None:
            inputs["tree"] = mask.tree
        outputs = self._partials(splits) if partial else {"out": (q.shape, q.dtype)}
        if self.stats and not partial:
            outputs |= {"lse": ((b, h, t), mx.float32), "entropy": ((b, h, t), mx.float32)}
        plain = isinstance(s.kv.keys, mx.array) and isinstance(s.kv.values, mx.array)
        tile = template["E"] if plain else q.dtype
        template |= {"C": tile, "BK": tile_rows(d, tile == mx.float32), "NSG": 4}
        rows = h // heads * t * s.shared
        grid = (1, kb * heads * -(-rows // 32), splits)
        return kernel.launch("tiles.metal", inputs, outputs, grid=grid, threads=128, defines=defines, template=template)

    def splits(self, s: _Segment, kind: Kind) -> int:
        """Parts that the keys are cut into: enough to fill a chip, not so many that their states cost."""
        if self.geometry.splits is not None:
            return self.geometry.splits
        _, h, t, d = self.q.shape
        kb, heads, capacity, _ = s.kv.keys.shape
        rows = h // heads * t * s.shared
        groups = kb * heads * (-(-rows // 32) if kind == "tiles" else 1)
        if kind == "tiles" and groups >= 64:
            return 1
        bytes_kv = capacity * (_row_bytes(s.kv.keys) + _row_bytes(s.kv.values))
        affordable = int(PARTIALS * bytes_kv / (2 * 4 * rows * (d + 3)))
        return max(1, min(32, capacity // 512, affordable))

    def _rows(self, rows: int, d: int) -> int:
        most = self.geometry.rows or ((4 if d <= 96 else 2) if device().shares_loads else 1)
        return 1 if rows == 1 else min(most, 2 if rows == 2 else 4)

    def _partials(self, splits: int) -> dict[str, tuple[tuple[int, ...], mx.Dtype]]:
        b, h, t, d = self.q.shape
        return {"partial": ((b, h, t, splits, d), mx.float32), "stats": ((b, h, t, splits, 3), mx.float32)}

    def _operands(self, s: _Segment, splits: int) -> tuple[dict[str, mx.array], dict[str, int], dict[str, Constant]]:
        """Inputs, macros and template arguments that both kernels take."""
        q, kv, mask = self.q, s.kv, self.mask
        heads = kv.keys.shape[1]
        cap = self.softcap or 0.0
        documents = mask.documents
        params = kernel.int32(
            kernel.bits(self.base),
            kernel.bits(self.scale / cap if cap else 0.0),
            kernel.bits(cap),
            heads,
            q.shape[1] // heads,
            q.shape[2],
            kv.capacity,
            splits,
            s.shared,
            int(mask.causal),
            mask.window,
            mask.keep,
            mask.prefix,
            mask.block,
            mask.block_start,
            *(int(x.shape[0] > 1) for x in (kv.lengths, s.ends, s.offsets)),
            0 if documents is None or documents.shape[0] == 1 else documents.shape[1],
            0 if documents is None else documents.shape[1],
            0 if mask.tree is None else mask.tree.shape[2],
        )
        inputs = {"q": q, "lengths": kv.lengths, "ends": s.ends, "offsets": s.offsets, "params": params}
        defines = {"RING": int(kv.positions is not None), "SOFTCAP": int(cap != 0), "STATS": int(self.stats)}
        template: dict[str, Constant] = {"T": q.dtype, "D": q.shape[3]}
        if kv.positions is not None:
            inputs["positions"] = kv.positions
        for letter, name, rows in (("K", "key", kv.keys), ("V", "value", kv.values)):
            if isinstance(rows, Quantized):
                inputs |= {f"{name}_codes": rows.codes, f"{name}_scales": rows.scales, f"{name}_biases": rows.biases}
                defines |= {f"{letter}_BITS": rows.bits, f"{letter}_GROUP": rows.group_size}
                template["S"] = rows.scales.dtype
            else:
                inputs[f"{name}s"] = rows
                defines |= {f"{letter}_BITS": 16, f"{letter}_GROUP": 0}
                template["E"] = rows.dtype
        return inputs, defines, template


def tile_rows(d: int, wide: bool) -> int:
    """Keys a tile, so that a key and a value tile take about 16 KB of threadgroup memory."""
    if wide:
        return 8 if d > 128 else 16
    return 16 if d > 96 else 32


def _row_bytes(rows: mx.array | Quantized) -> float:
    d = rows.shape[3]
    if isinstance(rows, Quantized):
        return d * rows.bits / 8 + 2 * d / rows.group_size * rows.scales.dtype.size
    return d * rows.dtype.size
