"""Matrices into mlx's layouts, and the scaling of channels that makes them lose less. Knows no files."""

from collections.abc import Callable, Mapping

from engine.quantize.source import Arrays
from metal import mx
from models.block import Block
from models.config import ModelConfig
from models.weights import PackedLayout

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

    def __init__(self, product: Callable[[mx.array], mx.array]) -> None:
        self.product = product
        self.rows: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        self.rows = x.reshape(-1, x.shape[-1])
        return self.product(x)


def record(block: Block) -> dict[str, Recorder]:
    """Make the products of a block remember their inputs, by our name of the first matrix that reads each."""
    found = {"q": Recorder(block.qkv)}
    block.qkv = found["q"]
    for name in ("gate_up", "up", "down"):
        product = getattr(block.mlp, name, None)
        if callable(product):
            found[name] = Recorder(product)
            setattr(block.mlp, name, found[name])
    return found


def scale_channels(
    arrays: Arrays, names: Mapping[str, str], config: ModelConfig, inputs: Mapping[str, Recorder], layout: PackedLayout
) -> None:
    """Scale input channels up by how active they are, and what makes them down by the same: the function stays.

    arXiv:2306.00978, with the exponent that leaves the smallest error of the outputs, which may be none. Channels come
    from a norm, or, for the last product of a gated MLP, from the rows of `up`.
    """
    shared = config.parallel and names.get("attn_norm") == names.get("mlp_norm")
    for norm, readers, key in (
        ("attn_norm", ("qkv", "q", "k", "v"), "q"),
        ("mlp_norm", ("gate_up", "gate", "up"), "gate_up"),
    ):
        paths = [f"{names[r]}.weight" for r in readers if r in names and f"{names[r]}.weight" in arrays]
        rows = inputs[key].rows if key in inputs else inputs["up"].rows if key == "gate_up" and "up" in inputs else None
        if (
            norm not in names
            or shared
            or rows is None
            or not paths
            or not all(packable(arrays[p], layout) for p in paths)
        ):
            continue
        scales = best([arrays[p] for p in paths], rows, layout)
        for path in paths:
            arrays[path] = (arrays[path].astype(mx.float32) * scales).astype(arrays[path].dtype)
        _divide_norm(arrays, names[norm], scales, config.norm)
    if config.gated and {"up", "down"} <= set(names) and f"{names['up']}.weight" in arrays:
        up, down, rows = f"{names['up']}.weight", f"{names['down']}.weight", inputs["down"].rows
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
