"""Attention by our own kernels: the launches, their geometry, and what they refuse.

Each segment of a chain is one launch that leaves unnormalised states (`decode.metal` for few query rows,
`tiles.metal` for many); `merge.metal` makes them one. A single segment in tiles and one split skips the merge. Shapes
depend on the caches' capacity, never on how much of it is filled, so that one compiled step serves a whole capacity.
"""

from dataclasses import dataclass, replace
from math import e, log2
from typing import Literal

from likely.metal import kernel, mx, reference
from likely.metal.device import device
from likely.metal.errors import KernelError
from likely.metal.kernel import Constant
from likely.metal.kv import KV, QuantizedRows
from likely.metal.mask import Mask
from likely.metal.merge import States, merge, reported
from likely.metal.reference import AttentionReport, Emit

SIZES = (64, 80, 96, 128, 256)  # head sizes
FEW = 16  # query rows of one key/value head below which a tile of 8x8 products is mostly empty
TOP = 16  # the most positions that a lane lists in registers; more are picked from the row of scores
CONSTANT = 8  # elements below which mlx hands an input over in another address space
PARTIALS = 0.04  # of the key/value bytes: how much the splits' states may add, written and read

Kind = Literal["decode", "tiles"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """A knob that changes no result: the parts that the keys are cut into."""

    splits: int | None = None


@dataclass(frozen=True, slots=True)
class _LaunchSegment:
    kv: KV
    ends: mx.array  # int32 [B or 1]: one past the last query's position
    offsets: mx.array  # int32 [B or 1]: the position of row 0
    shared: int  # rows of B that read the same rows


def refusal(q: mx.array, kv: KV) -> str | None:
    """Why our kernels cannot take this, as a line that names the argument; None if they can."""
    d = q.shape[3]
    if d not in SIZES:
        return f"head size must be one of {SIZES}, got {d}"
    for part in kv.chain():
        for name, x in (("keys", part.keys), ("values", part.values)):
            if isinstance(x, QuantizedRows) and x.group_size > d:
                return f"{name}.group_size must divide head size {d}, got {x.group_size}"
            if isinstance(x, QuantizedRows) and x.scales.size < CONSTANT:
                return f"{name}.scales must be {CONSTANT} or more, got {x.scales.size}: give the cache more capacity"
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
) -> tuple[mx.array, AttentionReport]:
    """Attention [B, H, T, D] and what it saw, by the kernels; `reference.attention` is their oracle.

    KernelError for what they cannot take."""
    if (why := refusal(q, kv)) is not None:
        raise KernelError(why)
    emit = emit or Emit()
    many = emit.top > TOP
    what = replace(emit, lse=True, top=0, scores=True) if many else emit
    call = _Call(q, scale, mask, softcap, sinks, what, geometry or Geometry())
    out, emitted = call.over(_segments(kv, q.shape[0]))
    return out, _picked(emitted, kv, emit) if many else emitted


def _picked(emitted: AttentionReport, kv: KV, emit: Emit) -> AttentionReport:
    """The reports of `emit`, with the most attended positions picked from the rows of scores."""
    assert emitted.scores is not None and emitted.lse is not None
    weights = mx.where(emitted.scores == -mx.inf, 0.0, mx.exp(emitted.scores - emitted.lse[..., None]))
    positions, weights = reference.top(weights, reference.positions(kv, len(weights)), emit.top)
    lse, scores = emitted.lse if emit.lse else None, emitted.scores if emit.scores else None
    return AttentionReport(lse, emitted.entropy, positions, weights, scores)


def _segments(kv: KV, b: int) -> list[_LaunchSegment]:
    """Each segment with what positions need; the arrays are the caches' own wherever nothing precedes."""
    chain, offsets, before = kv.chain(), [kernel.int32(0)], None
    for part in chain:
        if part.positions is None:
            before = part.lengths if before is None else before + part.lengths
        else:
            valid = mx.arange(part.capacity, dtype=mx.int32)[None] < part.lengths[:, None]
            end = mx.max(mx.where(valid, part.positions, -1), axis=1) + 1
            before = end if before is None else mx.maximum(before, end)
        offsets.append(before)
    return [
        _LaunchSegment(part, offsets[-1], at, b // part.keys.shape[0]) for part, at in zip(chain, offsets, strict=False)
    ]


@dataclass(frozen=True)
class _Call:
    """One call of attention: the operands that its launches share, and the launches."""

    q: mx.array
    scale: float
    mask: Mask
    softcap: float | None
    sinks: mx.array | None
    emit: Emit
    geometry: Geometry

    @property
    def base(self) -> float:
        """A weight is 2^(base * score); a score is q k, or what the cap makes of scale * q k."""
        return log2(e) if self.softcap is not None else self.scale * log2(e)

    @property
    def stats(self) -> bool:
        return self.emit.lse or self.emit.entropy

    def over(self, segments: list[_LaunchSegment]) -> tuple[mx.array, AttentionReport]:
        """The output and the report over all segments."""
        kinds = [self.kind(s) for s in segments]
        if kinds == ["tiles"] and self.splits(segments[0], "tiles") == 1:
            return self.whole(segments[0])
        states = [self.decode(s) if k == "decode" else self.tiles(s) for s, k in zip(segments, kinds, strict=True)]
        out, emitted = merge(states, self.q.dtype, self.base, self.sinks, self.emit)
        if self.emit.scores:
            rows = [x.scores[..., : s.kv.length] for x, s in zip(states, segments, strict=True) if x.scores is not None]
            emitted = replace(emitted, scores=mx.concatenate(rows, axis=-1))
        return out, emitted

    def kind(self, s: _LaunchSegment) -> Kind:
        """Which kernel reads a segment: tiles where they fill, unless only the other can say what is asked for."""
        rows = self.q.shape[1] // s.kv.keys.shape[1] * self.q.shape[2] * s.shared
        apart = s.shared > 1 and s.offsets.shape[0] > 1  # one segment at several places
        return "decode" if rows < FEW or self.emit.top or self.emit.scores or apart else "tiles"

    def decode(self, s: _LaunchSegment) -> States:
        """Few query rows: `decode.metal`."""
        b, h, t, d = self.q.shape
        heads = s.kv.keys.shape[1]
        rows = self._served(h // heads * t)
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
        grid = (1, b * heads * -(-(h // heads * t) // rows), splits)
        got = kernel.launch("decode.metal", inputs, outputs, grid=grid, threads=256, defines=defines, template=template)
        return States(**got)

    def tiles(self, s: _LaunchSegment) -> States:
        """Many query rows, to be merged: `tiles.metal`."""
        return States(**self._tiled(s, partial=True))

    def whole(self, s: _LaunchSegment) -> tuple[mx.array, AttentionReport]:
        """Many query rows over a single segment in one go: `tiles.metal`."""
        got = self._tiled(s, partial=False)
        return got["out"], reported(got, self.emit)

    def _tiled(self, s: _LaunchSegment, *, partial: bool) -> dict[str, mx.array]:
        q = self.q
        b, h, t, d = q.shape
        kb, heads = s.kv.keys.shape[:2]
        splits = self.splits(s, "tiles") if partial else 1
        inputs, defines, template = self._operands(s, splits)
        sunk = self.sinks is not None and not partial
        defines |= {"PARTIAL": int(partial), "SINKS": int(sunk)}
        if self.sinks is not None and sunk:
            inputs["sinks"] = self.sinks
        outputs = self._partials(splits) if partial else {"out": (q.shape, q.dtype)}
        if self.stats and not partial:
            outputs |= {"lse": ((b, h, t), mx.float32), "entropy": ((b, h, t), mx.float32)}
        plain = isinstance(s.kv.keys, mx.array) and isinstance(s.kv.values, mx.array)
        tile = template["E"] if plain else q.dtype
        template |= {"C": tile, "BK": tile_rows(d, tile == mx.float32), "NSG": 4}
        rows = h // heads * t * s.shared
        grid = (1, kb * heads * -(-rows // 32), splits)
        return kernel.launch("tiles.metal", inputs, outputs, grid=grid, threads=128, defines=defines, template=template)

    def splits(self, s: _LaunchSegment, kind: Kind) -> int:
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
        affordable = int(PARTIALS * bytes_kv / (2 * 4 * rows * (d + 4)))
        return max(1, min(32, capacity // 512, affordable))

    def _served(self, rows: int) -> int:
        """How many of these query rows one load of a key serves in `decode.metal`."""
        most = (4 if self.q.shape[3] <= 96 else 2) if device().shares_loads else 1
        return min(most, rows if rows <= 2 else 4)

    def _partials(self, splits: int) -> dict[str, tuple[tuple[int, ...], mx.Dtype]]:
        b, h, t, d = self.q.shape
        return {"partial": ((b, h, t, splits, d), mx.float32), "stats": ((b, h, t, splits, 4), mx.float32)}

    def _operands(
        self, s: _LaunchSegment, splits: int
    ) -> tuple[dict[str, mx.array], dict[str, int], dict[str, Constant]]:
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
        defines = {"SOFTCAP": int(cap != 0), "STATS": int(self.stats)}
        template: dict[str, Constant] = {"T": q.dtype, "D": q.shape[3]}
        for macro, name, array in (
            ("RING", "positions", kv.positions),
            ("DOCS", "documents", documents),
            ("TREE", "tree", mask.tree),
        ):
            defines[macro] = int(array is not None)
            if array is not None:
                inputs[name] = array
        for letter, name, rows in (("K", "key", kv.keys), ("V", "value", kv.values)):
            if isinstance(rows, QuantizedRows):
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
        return 8 if d > 128 else 16 if d > 64 else 32
    return 16 if d > 96 else 32


def _row_bytes(rows: mx.array | QuantizedRows) -> float:
    d = rows.shape[3]
    if isinstance(rows, QuantizedRows):
        return d * rows.bits / 8 + 2 * d / rows.group_size * rows.scales.dtype.size
    return d * rows.dtype.size
