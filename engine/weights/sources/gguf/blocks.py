"""Block formats of GGUF tensors: floats, or blocks of integer codes with a scale and an offset. Numpy only.

Most formats are affine, value = scale * code + bias over a group of 16 or 32 values, which is also how mlx keeps
quantised weights: one function a format finds codes, scales and biases, and both the expansion to floats and the
packing for mlx start from those, so that neither loses anything. The rarer formats (codebooks, ternary, three-bit)
go through the dequantisers of the `gguf` package. Layouts: ggml's ggml-common.h.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
CHUNK = 1 << 17  # bytes read at once: the intermediates stay in the processor's cache


class Affine(NamedTuple):
    """Groups of codes, each with its scale and bias: value = scale * code + bias."""

    codes: np.ndarray  # uint8 [groups, group size]
    scales: np.ndarray  # float32 [groups, 1]
    biases: np.ndarray  # float32 [groups, 1]


def expand(raw: np.ndarray, type_: str, block_bytes: int, out: np.ndarray) -> None:
    """Write the values of a tensor's bytes `raw` (uint8, flat) to `out` (float32, flat)."""
    if type_ in FLOATS:
        values = raw.view(FLOATS[type_])
        if type_ == "BF16":  # the upper half of a float32
            np.left_shift(values, 16, out=out.view("<u4"), dtype=np.uint32)
        else:
            out[...] = values
        return
    at = 0
    with np.errstate(all="ignore"):  # a damaged block may hold any float
        for chunk in _chunks(raw.reshape(-1, block_bytes), block_bytes):
            if type_ in AFFINE:
                codes, scales, biases = AFFINE[type_][1](chunk)
                part = out[at : at + codes.size].reshape(codes.shape)
                np.multiply(codes, scales, out=part, dtype=np.float32)
                part += biases
            else:
                part = _expand_rare(chunk, type_)
                out[at : at + part.size] = part
            at += part.size


def pack(
    raw: np.ndarray, type_: str, block_bytes: int, codes: np.ndarray, scales: np.ndarray, biases: np.ndarray
) -> None:
    """Write the same values in mlx's layout, exactly; for the types that `packed_bits` names.

    Flat outputs: `codes` uint32, lowest bits first; `scales` and `biases` float32, one a group of 32 values.
    """
    bits = packed_bits(type_)
    assert bits is not None
    packed, at = codes.view(np.uint8).reshape(-1, 4 * bits), 0
    with np.errstate(all="ignore"):
        for chunk in _chunks(raw.reshape(-1, block_bytes), block_bytes):
            part = AFFINE[type_][1](chunk)
            end = at + len(part.codes)
            packed[at:end] = _pack_codes(part.codes, bits)
            scales[at:end], biases[at:end] = part.scales[:, 0], part.biases[:, 0]
            at = end


def packed_bits(type_: str) -> int | None:
    """Bits a code where mlx has a layout for this type (affine groups of 32), else None."""
    return AFFINE[type_][0] if type_ in AFFINE else None


def _chunks(blocks: np.ndarray, block_bytes: int) -> Iterator[np.ndarray]:
    step = max(1, CHUNK // block_bytes)
    for at in range(0, len(blocks), step):
        yield blocks[at : at + step]


def _pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes [n, 32] as bytes [n, 4 * bits], lowest bits first."""
    if bits == 8:
        return codes
    if bits == 4:
        pairs: np.ndarray = codes[:, 0::2] | codes[:, 1::2] << 4
        return pairs
    eights = codes.reshape(-1, 8).astype("<u8")
    words: np.ndarray = np.bitwise_or.reduce(eights << (np.arange(8, dtype="<u8") * np.uint64(bits)), axis=1)
    return np.ascontiguousarray(words.view(np.uint8).reshape(-1, 8)[:, :bits]).reshape(len(codes), -1)


def _expand_rare(blocks: np.ndarray, type_: str) -> np.ndarray:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    return np.asarray(dequantize(blocks, GGMLQuantizationType[type_]), np.float32).reshape(-1)


def _halves(blocks: np.ndarray, at: int) -> np.ndarray:
    """The float16 at byte `at` of each block, as float32 [n, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """Bytes [n, m] -> codes [n, 2 m]: the low halves first, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _fifth_bits(blocks: np.ndarray, at: int) -> np.ndarray:
    """The 32 bits at byte `at` of each block as uint8 [n, 32] of 0 or 16."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << 4


def _q4_0(blocks: np.ndarray) -> Affine:
    scale = _halves(blocks, 0)
    return Affine(_nibbles(blocks[:, 2:]), scale, -8 * scale)


def _q4_1(blocks: np.ndarray) -> Affine:
    return Affine(_nibbles(blocks[:, 4:]), _halves(blocks, 0), _halves(blocks, 2))


def _q5_0(blocks: np.ndarray) -> Affine:
    scale = _halves(blocks, 0)
    return Affine(_nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2), scale, -16 * scale)


def _q5_1(blocks: np.ndarray) -> Affine:
    return Affine(_nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4), _halves(blocks, 0), _halves(blocks, 2))


def _q8_0(blocks: np.ndarray) -> Affine:
    scale = _halves(blocks, 0)
    return Affine(blocks[:, 2:] ^ 0x80, scale, -128 * scale)  # int8 shifted to 0..255


def _q4_k(blocks: np.ndarray) -> Affine:
    return Affine(_paired_nibbles(blocks[:, 16:]), *_k_scales(blocks))


def _q5_k(blocks: np.ndarray) -> Affine:
    high = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1  # bit j is group j's fifth bit
    return Affine(_paired_nibbles(blocks[:, 48:]) | high.reshape(-1, 32) << 4, *_k_scales(blocks))


def _paired_nibbles(packed: np.ndarray) -> np.ndarray:
    """Bytes [n, 128] -> codes [8 n, 32]: each run of 32 bytes holds one group low and the next one high."""
    runs = packed.reshape(-1, 4, 1, 32)
    return np.concatenate([runs & 15, runs >> 4], axis=2).reshape(-1, 32)


def _k_scales(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales and biases [8 n, 1] of Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima in 12 bytes."""
    low, middle, high = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6) << 4], axis=1)
    minima = np.concatenate([middle & 63, (high >> 4) | (middle >> 6) << 4], axis=1)
    return (
        (_halves(blocks, 0) * scales).reshape(-1, 1),
        (-_halves(blocks, 2) * minima).reshape(-1, 1),
    )


def _q6_k(blocks: np.ndarray) -> Affine:
    """Two halves of 128 values: 64 bytes of low nibbles, 32 bytes of high bit pairs, 8 signed scales each."""
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3
    codes = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32) | high << 4
    scales = _halves(blocks, 208) * blocks[:, 192:208].view(np.int8)
    scales = scales.reshape(-1, 1)
    return Affine(codes.reshape(-1, 16), scales, -32 * scales)


def _iq4_nl(blocks: np.ndarray) -> Affine:
    scale = _halves(blocks, 0)
    return Affine(IQ4_VALUES[_nibbles(blocks[:, 2:])], scale, -128 * scale)


# the 16 steps of IQ4_NL, shifted by 128 (ggml-common.h, kvalues_iq4nl)
IQ4_VALUES = np.array([1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241], np.uint8)

# type: (bits a code in mlx's layout, None where its groups are smaller than 32; the reader)
AFFINE: dict[str, tuple[int | None, Callable[[np.ndarray], Affine]]] = {
    "Q4_0": (4, _q4_0),
    "Q4_1": (4, _q4_1),
    "Q5_0": (5, _q5_0),
    "Q5_1": (5, _q5_1),
    "Q8_0": (8, _q8_0),
    "Q4_K": (4, _q4_k),
    "Q5_K": (5, _q5_k),
    "Q6_K": (None, _q6_k),
    "IQ4_NL": (8, _iq4_nl),
}
