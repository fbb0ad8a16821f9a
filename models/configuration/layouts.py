"""4-bit checkpoints that AWQ and GPTQ tools wrote, turned into mlx's affine layout without a change of any number.

Both keep codes of 4 bits in int32 words, zeros as codes, and a scale for each group of a column:
w = (code - zero) * scale, which mlx writes as code * scale + bias. They differ in the axis and the order of packing.
"""

from collections.abc import Mapping
from typing import Any

from likely.metal import mx
from likely.models.errors import CheckpointError, ConfigError

AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # where in a word the value of a column stands
TRANSLATED = ("awq", "gptq")


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The quantisation that a configuration names in mlx's terms; empty for another tool's, which the tensors say."""
    own, published = (config.get(name) or {} for name in ("quantization", "quantization_config"))
    for table in (own, published):
        if not isinstance(table, Mapping):
            raise ConfigError(f"config: quantization must be a table, got {table!r}")
    method = published.get("quant_method")
    if own or not published or method is None:
        return dict(own or published)
    if method not in TRANSLATED:
        return {}
    if published.get("bits", 4) != 4:
        raise ConfigError(f"config: {method} with 4 bits can be read, got {published['bits']}")
    if method == "awq" and str(published.get("version", "gemm")).lower() != "gemm":
        raise ConfigError(f"config: awq in version gemm can be read, got {published['version']!r}")
    return {}


def translate(config: Mapping[str, Any], weights: dict[str, mx.array]) -> None:
    """Replace `.qweight`, `.qzeros`, `.scales` of AWQ and GPTQ by `.weight`, `.scales`, `.biases`; else change nothing.

    CheckpointError where a GPTQ model reordered its columns (act-order), for which mlx has no layout, and for what
    other tools packed in ways of their own.
    """
    published = config.get("quantization_config") or {}
    method = published.get("quant_method") if isinstance(published, Mapping) else None
    if method not in TRANSLATED:
        if method is not None and not any(name.endswith(".scales") for name in weights):
            raise CheckpointError(
                f"weights: {method} packed them in a way that a {config.get('model_type')} is not read in here, nor by "
                "mlx-lm: take the original model, or what mlx-lm made of it"
            )
        return
    for name in [name for name in weights if name.endswith(".qweight")]:
        path = name.removesuffix(".qweight")
        qweight, scales, qzeros = (weights.pop(f"{path}.{part}", None) for part in ("qweight", "scales", "qzeros"))
        order = weights.pop(f"{path}.g_idx", None)
        if qweight is None or scales is None:
            raise CheckpointError(f"weights: {path} lacks its scales")
        words = qweight.view(mx.uint32)
        if method == "awq":
            codes = _unpack(words, AWQ_ORDER)  # [in, out]
            zeros = _unpack(qzeros.view(mx.uint32), AWQ_ORDER) if qzeros is not None else None
        else:
            codes = _unpack(words.T, range(8)).T
            zeros = _unpack(qzeros.view(mx.uint32), range(8)) if qzeros is not None else None
            if zeros is not None and published.get("checkpoint_format", "gptq") == "gptq":
                zeros = (zeros + 1) % 16  # the first format stores them less one
            group = codes.shape[0] // scales.shape[0]
            if order is not None and not mx.array_equal(order, mx.arange(codes.shape[0]) // group):
                raise CheckpointError(
                    f"weights: {path} has reordered columns (act-order); use a model without desc_act"
                )
        middle = mx.array(8.0) if zeros is None else zeros.astype(mx.float32)
        biases = -middle * scales.astype(mx.float32)
        weights[f"{path}.weight"] = _pack(codes.T)
        weights[f"{path}.scales"] = mx.contiguous(scales.T)
        weights[f"{path}.biases"] = mx.contiguous(mx.broadcast_to(biases, scales.shape).T.astype(scales.dtype))


def _unpack(words: mx.array, order: Any) -> mx.array:
    """Codes [n, 8 m] of words [n, m]."""
    shifts = mx.array([4 * place for place in order], dtype=mx.uint32)
    return ((words[..., None] >> shifts) & 15).reshape(words.shape[0], -1)


def _pack(codes: mx.array) -> mx.array:
    """Words [n, m / 8] of codes [n, m], the first in the lowest bits."""
    shifts = mx.arange(0, 32, 4, dtype=mx.uint32)
    return mx.sum(codes.reshape(codes.shape[0], -1, 8) << shifts, axis=-1).astype(mx.uint32)
