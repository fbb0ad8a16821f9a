"""Matrices into mlx's layouts, and the scaling of channels that makes them lose less. Knows no files."""

from collections.abc import Callable, Mapping, Sequence

from likely.engine.weights.quantize.source import Arrays
from likely.metal import mx
from likely.models.configuration.config import ModelConfig
from likely.models.modules.block import Block
from likely.models.modules.parts import ModelPart
from likely.models.modules.weights import PackedLayout

SHARES = (0.0, 0.25, 0.5, 0.75)  # exponents of a channel's activity that are tried as its scale
SAMPLED = 256  # rows of inputs that decide


def packable(array: mx.array, layout: PackedLayout) -> bool:
    """Whether a tensor is a matrix that the layout can hold."""
    return array.ndim >= 2 and array.shape[-1] % layout.group_size == 0


def pack(path: str, weight: mx.array, layout: PackedLayout) -> Arrays:
    """`weight` as the tensors that mlx-lm stores for it."""
    parts = mx.quantize(weight, group_size=layout.group_size, bits=layout.bits, mode=layout.mode)
    packed = {f"{path}.{name}": part for name, part in zip(("weight", "scales", "biases"), parts, strict=False)}
    mx.eval(list(packed.values()))
    return packed


def rounded(weight: mx.array, layout: PackedLayout) -> mx.array:
    """The numbers that `weight` becomes, float32."""
    packed = mx.quantize(weight, group_size=layout.group_size, bits=layout.bits, mode=layout.mode)
    biases = packed[2] if len(packed) > 2 else None
    group, bits, mode = layout.group_size, layout.bits, layout.mode
    return mx.dequantize(packed[0], packed[1], biases, group, bits, mode, dtype=mx.float32).astype(mx.float32)


class Recorder:
    """A product that remembers the rows it was given."""

    def __init__(self, base: Callable[[mx.array], mx.array]) -> None:
        self.base = base
        self.rows: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        self.rows = x.reshape(-1, x.shape[-1])
        return self.base(x)


def record(block: Block) -> dict[str, Recorder]:
    """Make the products of a block that read what a norm or another product gave remember it, by their slots."""
    recorders = {}
    for owner, slots in ((block, ("qkv",)), (block.mlp, ("gate_up", "up", "down"))):
        for slot in slots:
            product = getattr(owner, slot, None)
            if callable(product):
                recorders[slot] = Recorder(product)
                setattr(owner, slot, recorders[slot])
    return recorders


def scale_channels(
    arrays: Arrays,
    parts: Sequence[ModelPart],
    config: ModelConfig,
    inputs: Mapping[str, Recorder],
    layout: PackedLayout,
) -> None:
    """Scale input channels up by how active they are, and what makes them down by the same: the function stays.

    arXiv:2306.00978, with the exponent that leaves the smallest error of the outputs, which may be none. Channels come
    from a norm, or, for the last product of a gated MLP, from the rows of `up`.
    """
    path = {part.role: part.path for part in parts}
    shared = config.parallel and path.get("attn_norm") == path.get("mlp_norm")
    for norm, slots in (("attn_norm", ("qkv",)), ("mlp_norm", ("gate_up", "up"))):
        readers = [part for part in parts if part.kind == "matrix" and part.slot in slots]
        if norm not in path or shared or not readers:
            continue
        names = [f"{part.path}.weight" for part in readers]
        rows = inputs[readers[0].slot].rows
        if rows is None or not all(packable(arrays[name], layout) for name in names):
            continue
        scales = best([arrays[name] for name in names], rows, layout)
        for name in names:
            arrays[name] = (arrays[name].astype(mx.float32) * scales).astype(arrays[name].dtype)
        _divide_norm(arrays, path[norm], scales, config.norm)
    if config.gated and {"up", "down"} <= set(path):
        up, down, rows = f"{path['up']}.weight", f"{path['down']}.weight", inputs["down"].rows
        if rows is not None and packable(arrays[down], layout) and not config.mlp_bias:
            scales = best([arrays[down]], rows, layout)
            arrays[down] = (arrays[down].astype(mx.float32) * scales).astype(arrays[down].dtype)
            arrays[up] = (arrays[up].astype(mx.float32) / scales[:, None]).astype(arrays[up].dtype)
    mx.eval(list(arrays.values()))


def best(matrices: list[mx.array], rows: mx.array, layout: PackedLayout) -> mx.array:
    """The scales [in] with which the products of `rows` [n, in] with the matrices [out, in] lose least."""
    rows = rows[:: max(1, len(rows) // SAMPLED)].astype(mx.float32)
    activity = mx.maximum(mx.mean(mx.abs(rows), axis=0), 1e-8)
    whole = [m.astype(mx.float32) for m in matrices]
    exact = [rows @ w.T for w in whole]
    least, chosen = None, mx.ones(rows.shape[-1])
    for share in SHARES:
        scales = activity**share
        scales = mx.clip(scales / mx.sqrt(mx.max(scales) * mx.min(scales)), 1e-3, 1e3)
        divided = rows / scales
        lost = sum(
            float(mx.sum((divided @ rounded(w * scales, layout).T - y) ** 2)) for w, y in zip(whole, exact, strict=True)
        )
        if least is None or lost < least:
            least, chosen = lost, scales
    return chosen


def _divide_norm(arrays: Arrays, path: str, scales: mx.array, kind: str) -> None:
    weight = arrays[f"{path}.weight"]
    numbers = weight.astype(mx.float32)
    divided = (1 + numbers) / scales - 1 if kind == "rms+1" else numbers / scales
    arrays[f"{path}.weight"] = divided.astype(weight.dtype)
    if (bias := arrays.get(f"{path}.bias")) is not None:
        arrays[f"{path}.bias"] = (bias.astype(mx.float32) / scales).astype(bias.dtype)
