"""What the database's rows hold, as values that sqlite takes and back: a step, its snapshot, a vocabulary."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.trace.trace import Recipe, TokenStep
from engine.transforms.snapshot import BINS, Snapshot

STEP = (
    "token, piece, text, logprob, logprob_after, entropy, entropy_after, rank, kept, recipe, position, origin, special,"
    " elapsed_s"
)


def step_row(step: TokenStep, recipe: int) -> tuple[Any, ...]:
    return (
        step.token, step.piece, step.text, step.logprob, step.logprob_after, step.entropy, step.entropy_after,
        step.rank, step.kept, recipe, step.position, step.origin, step.special, step.elapsed_s,
    )  # fmt: skip


def step_from(values: Sequence[Any], recipes: Mapping[int, Recipe]) -> TokenStep:
    (token, piece, text, logprob, logprob_after, entropy, entropy_after, rank, kept, recipe, position, origin) = values[
        :12
    ]
    special, elapsed_s = values[12:]
    return TokenStep(
        token, piece, text, logprob, logprob_after, entropy, entropy_after, rank, kept, recipes[recipe], None, None,
        position, origin, bool(special), elapsed_s,
    )  # fmt: skip


_ARRAYS: Mapping[str, Any] = {"ids": "<i4", "logits": "<f4", "edges": "<f4", "counts": "<i4", "lses": "<f4"}


def pack(step: TokenStep) -> bytes:
    """A step's snapshot, and what removed each of its tokens, as bytes."""
    snapshot = step.snapshot
    assert snapshot is not None
    removed_by = np.full(len(snapshot.ids), -1, np.int8) if step.removed_by is None else step.removed_by
    head = np.array([snapshot.vocab, len(snapshot.ids)], "<i4").tobytes()
    head += np.array([snapshot.lse, snapshot.mean, snapshot.variance], "<f8").tobytes()
    arrays = b"".join(np.asarray(getattr(snapshot, name), kind).tobytes() for name, kind in _ARRAYS.items())
    return head + arrays + np.asarray(removed_by, np.int8).tobytes()


def unpack(data: bytes) -> tuple[Snapshot, np.ndarray]:
    """What `pack` made; ValueError where it is damaged."""
    vocab, k = (int(value) for value in np.frombuffer(data, "<i4", 2))
    lse, mean, variance = (float(value) for value in np.frombuffer(data, "<f8", 3, 8))
    at, arrays = 32, {}
    for name, kind in _ARRAYS.items():
        count = k if name in ("ids", "logits") else BINS + (name == "edges")
        arrays[name] = np.frombuffer(data, kind, count, at)
        at += 4 * count
    return Snapshot(vocab=vocab, lse=lse, mean=mean, variance=variance, **arrays), np.frombuffer(data, np.int8, k, at)


def pack_pieces(pieces: Sequence[bytes]) -> bytes:
    """The pieces of a vocabulary as bytes."""
    lengths = np.array([len(piece) for piece in pieces], np.uint16).tobytes()
    return zlib.compress(len(pieces).to_bytes(4, "little") + lengths + b"".join(pieces), 1)


def unpack_pieces(packed: bytes) -> tuple[bytes, ...]:
    """What `pack_pieces` made."""
    data = zlib.decompress(packed)
    count = int.from_bytes(data[:4], "little")
    ends = np.cumsum(np.frombuffer(data, np.uint16, count, 4), dtype=np.int64)
    joined = data[4 + 2 * count :]
    starts = [0, *ends[:-1].tolist()]
    return tuple(joined[start:end] for start, end in zip(starts, ends.tolist(), strict=True))
