"""The tensors of a GGUF file as mlx arrays under Hugging Face's names, one at a time.

Tensors are expanded or packed by a second thread, in numpy, while this one reads and sets aside room for the next: the
peak is the weights and the few tensors on their way. Every mlx array is made in the calling thread.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.gguf import partial_read
from likely.engine.weights.sources.gguf.blocks import FLOATS, expand, pack, packed_bits
from likely.engine.weights.sources.gguf.header import TYPES, Header, TensorInfo
from likely.engine.weights.sources.gguf.mapping import (
    IN_CONFIG,
    Architecture,
    is_interleaved,
    is_shifted,
    weight_name,
)
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import mx

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from likely.models.parallel.shard import Cut, Sharding

BLOCK_BYTES = {name: nbytes for name, _, nbytes in TYPES.values()}
BLOCK = {name: values for name, values, _ in TYPES.values()}
AHEAD = 3  # tensors on their way
REQUANTISED = (32, 8)  # group size and bits for blocks that mlx has no layout for, where they have to stay small

Finish = Callable[[], Iterator[tuple[str, mx.array]]]  # waits for a tensor that was begun, and gives its arrays


def read_values(header: Header, name: str) -> np.ndarray:
    """The values of one tensor as float32 in numpy."""
    info = header.tensors[name]
    with open(header.path, "rb") as file:
        raw, _ = _read(file, info)
    out = np.empty(info.shape, np.float32)
    expand(raw, info.type, BLOCK_BYTES[info.type], out.reshape(-1))
    return out


class StackedTensor:
    """A matrix or a vector whose parts are tensors of their own in the file: they are expanded into its rows."""

    def __init__(self, name: str, parts: Sequence[tuple[str, TensorInfo]]) -> None:
        self.name = name
        ends = list(accumulate(info.shape[0] for _, info in parts))
        self.rows = {part: slice(end - info.shape[0], end) for (part, info), end in zip(parts, ends, strict=True)}
        self.shape = (ends[-1], *parts[0][1].shape[1:])
        self.missing = len(parts)
        self.array, self.view = mx.array(0.0), np.empty(0)

    def room(self, part: str) -> np.ndarray:
        """Where a part goes; room for all is set aside with the first."""
        if not self.view.size:
            self.array, self.view = _allocate(self.shape, mx.float32)
        return self.view[self.rows[part]]


def _wholes(header: Header, arch: Architecture, joins: Mapping[str, Sequence[str]]) -> dict[str, StackedTensor]:
    """By each part's name, the whole that it goes into, where all its parts are there and as wide."""
    named = {weight_name(info.name, arch): info for info in header.tensors.values()}
    stacks: dict[str, StackedTensor] = {}
    for path, parts in joins.items():
        for kind in (".weight", ".bias"):
            tensors = [(f"{part}{kind}", named[f"{part}{kind}"]) for part in parts if f"{part}{kind}" in named]
            if len(tensors) == len(parts) and len({info.shape[1:] for _, info in tensors}) == 1:
                stacks |= dict.fromkeys((name for name, _ in tensors), StackedTensor(f"{path}{kind}", tensors))
    return stacks


def read_weights(
    header: Header,
    arch: Architecture,
    heads: tuple[int, int],
    precision: Precision,
    share: "Sharding | None" = None,
    joins: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[tuple[str, mx.array]]:
    """Names and arrays. `heads` are the numbers of query and of key heads, which undo the interleaving.

    With `share` one rank's, by the names that they have there, and its heads; nothing else is read. `joins` are paths
    whose matrices come as one, by the path of that: in float32, what stays quantised excepted.

    A matrix that stays quantised yields `weight`, `scales` and `biases`, in mlx's affine layout.
    """
    from concurrent.futures import ThreadPoolExecutor  # which weights that stay packed as they are do without

    wholes = _wholes(header, arch, joins or {})
    on_their_way: deque[Finish] = deque()
    with open(header.path, "rb") as file, ThreadPoolExecutor(1) as worker:
        for info in header.tensors.values():
            name = weight_name(info.name, arch)
            if name is None:
                if info.name in IN_CONFIG:
                    continue
                raise CheckpointError(f"{header.path.name}: no place for tensor {info.name!r} in a {arch.model_type}")
            cut = None
            if share is not None:
                placed = share.place(name)
                if placed is None:
                    continue
                name, cut = placed
            raw, info = _read(file, info, cut)
            if is_interleaved(info.name, arch):
                raw = _untangle(raw, info, heads["attn_k" in info.name], header)
            if precision.packed and _stays_packed(info):
                on_their_way.append(_packed(worker, name, info, raw, precision))
            elif name in wholes:
                on_their_way.append(_into(worker, wholes[name], name, info, raw))
            else:
                offset = arch.norm_offset if is_shifted(info.name, arch) else 0.0
                on_their_way.append(_expanded(worker, name, info, raw, precision, offset))
            if len(on_their_way) > AHEAD:
                yield from on_their_way.popleft()()
        for rest in on_their_way:
            yield from rest()


def packed_config(header: Header, arch: Architecture) -> dict[str, object]:
    """The `quantization` entry of a config for what `read_weights` keeps quantised: an entry a module."""
    entries: dict[str, object] = {"group_size": 32, "bits": 4, "mode": "affine"}
    for info in header.tensors.values():
        name = weight_name(info.name, arch)
        if name and _stays_packed(info):
            bits = packed_bits(info.type) or REQUANTISED[1]
            entries[name.removesuffix(".weight")] = {"group_size": 32, "bits": bits, "mode": "affine"}
    return entries


def _stays_packed(info: TensorInfo) -> bool:
    return len(info.shape) > 1 and info.type not in FLOATS


def whole_groups(header: Header) -> int:
    """How many values of a row belong together in the matrices whose columns ranks would share."""
    shared = ("attn_output", "ffn_down", "ffn_down_exps")
    return max(BLOCK[info.type] for info in header.tensors.values() if info.name.split(".")[-2] in shared)


def _read(file: BinaryIO, info: TensorInfo, cut: "Cut | None" = None) -> tuple[np.ndarray, TensorInfo]:
    """The bytes of a tensor, or of a rank's part of it, and what they are."""
    block = BLOCK[info.type]
    units = [*info.shape[:-1], info.shape[-1] // block]
    axis, ranges = (0, None) if cut is None else (cut.axis, cut.within(info.name, units[cut.axis]))
    raw = partial_read.read(file, info.name, info.offset, units, BLOCK_BYTES[info.type], axis, ranges)
    if ranges is not None:
        units[axis] = sum(end - start for start, end in ranges)
    return raw, replace(info, shape=(*units[:-1], units[-1] * block), nbytes=raw.size)


def _untangle(raw: np.ndarray, info: TensorInfo, heads: int, header: Header) -> np.ndarray:
    """Rows [H, D / 2, 2] back to [H, 2, D / 2]."""
    rows = info.shape[0]
    if rows % (2 * heads):
        raise CheckpointError(f"{header.path.name}: {rows} rows of {info.name!r} do not divide into {heads} heads")
    return np.ascontiguousarray(raw.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2)).reshape(-1)


def _expanded(
    worker: "Executor", name: str, info: TensorInfo, raw: np.ndarray, precision: Precision, offset: float
) -> Finish:
    if info.type == "BF16" and precision.dtype == mx.bfloat16 and not offset:
        exact = mx.array(raw.view(np.uint16).reshape(info.shape)).view(mx.bfloat16)
        return lambda: iter([(name, exact)])
    array, view = _allocate(info.shape, mx.float32)

    def fill() -> None:
        expand(raw, info.type, BLOCK_BYTES[info.type], view.reshape(-1))
        if offset:
            np.subtract(view, np.float32(offset), out=view)

    filled = worker.submit(fill)

    def finish() -> Iterator[tuple[str, mx.array]]:
        filled.result()
        yield name, _cast(array, precision.dtype)

    return finish


def _into(worker: "Executor", whole: StackedTensor, name: str, info: TensorInfo, raw: np.ndarray) -> Finish:
    filled = worker.submit(expand, raw, info.type, BLOCK_BYTES[info.type], whole.room(name).reshape(-1))

    def finish() -> Iterator[tuple[str, mx.array]]:
        filled.result()
        whole.missing -= 1
        if not whole.missing:
            yield whole.name, whole.array

    return finish


def _packed(worker: "Executor", name: str, info: TensorInfo, raw: np.ndarray, precision: Precision) -> Finish:
    *lead, columns = info.shape
    stem = name.removesuffix("weight")
    bits = packed_bits(info.type)
    if not bits:
        whole = _expanded(worker, name, info, raw, Precision(mx.float32, packed=False), 0.0)

        def requantise() -> Iterator[tuple[str, mx.array]]:
            codes, scales, biases = mx.quantize(next(whole())[1], *REQUANTISED)
            mx.eval(codes, scales, biases)
            yield name, codes
            yield f"{stem}scales", _cast(scales, precision.dtype)
            yield f"{stem}biases", _cast(biases, precision.dtype)

        return requantise
    codes, codes_view = _allocate((*lead, columns * bits // 32), mx.uint32)
    scales, scales_view = _allocate((*lead, columns // 32), mx.float32)
    biases, biases_view = _allocate((*lead, columns // 32), mx.float32)
    views = [view.reshape(-1) for view in (codes_view, scales_view, biases_view)]
    filled = worker.submit(pack, raw, info.type, BLOCK_BYTES[info.type], *views)

    def finish() -> Iterator[tuple[str, mx.array]]:
        filled.result()
        yield name, codes
        yield f"{stem}scales", _cast(scales, precision.dtype)
        yield f"{stem}biases", _cast(biases, precision.dtype)

    return finish


def _allocate(shape: tuple[int, ...], dtype: mx.Dtype) -> tuple[mx.array, np.ndarray]:
    """An array, and a numpy view to fill it through: safe while nothing has been computed from it."""
    array = mx.zeros(shape, dtype)
    mx.eval(array)
    return array, np.asarray(array)


def _cast(array: mx.array, dtype: mx.Dtype) -> mx.array:
    """The array in `dtype`, computed now, so that the one it came from can be let go."""
    if array.dtype != dtype:
        array = array.astype(dtype)
        mx.eval(array)
    return array
