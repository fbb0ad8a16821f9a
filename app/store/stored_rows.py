"""Rows of the database as values that sqlite takes, and back: a step, its snapshot, a run, a vocabulary."""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.base.files.foreign_json import parse
from likely.engine.chat.tools.tool import ToolDistribution
from likely.engine.chat.tools.tool_prompt import CallField, ToolChoice
from likely.engine.inside.questions import Attribution
from likely.engine.inside.why import Omission, Reason, Why
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.fields import FIELDS
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms.snapshot import ARRAYS, BINS, Snapshot

STEP = ", ".join([*(field.name for field in FIELDS), "recipe"])  # the columns of a step


def step_row(step: TokenStep, recipe: int) -> tuple[Any, ...]:
    """The values of `STEP`."""
    return (*(getattr(step, field.name) for field in FIELDS), recipe)


def step_from(values: Sequence[Any], recipes: Mapping[int, SamplingConfig]) -> TokenStep:
    """The step whose row has the values of `STEP`, without its snapshot."""
    *plain, recipe = values
    known = {field.name: field.of_column(value) for field, value in zip(FIELDS, plain, strict=True)}
    return TokenStep(recipe=recipes[recipe], snapshot=None, removed_by=None, **known)


def figures_row(figures: Mapping[str, float]) -> dict[str, float | str]:
    """A rating as JSON takes it: what is not finite as a word."""
    return {name: value if math.isfinite(value) else str(value) for name, value in figures.items()}


def figures_from(row: Mapping[str, Any]) -> Mapping[str, float]:
    """The inverse of `figures_row`."""
    return MappingProxyType({name: float(v) if isinstance(v, str) else v for name, v in row.items()})


def pack_prompt(ids: Sequence[int]) -> bytes:
    """Ids as bytes."""
    return zlib.compress(np.array(ids, "<i4").tobytes(), 1)


def unpack_prompt(data: bytes) -> tuple[int, ...]:
    """The inverse of `pack_prompt`; none where the bytes are damaged."""
    with suppress(zlib.error, ValueError, TypeError):
        return tuple(np.frombuffer(zlib.decompress(data), "<i4").tolist())
    return ()


def pack_denoising(runs: Sequence[Trace]) -> bytes:
    """The runs that filled a canvas as bytes."""
    return zlib.compress("".join(file.lines(runs)).encode(errors="surrogatepass"), 1)


def unpack_denoising(data: bytes, name: str) -> tuple[Trace, ...]:
    """The inverse of `pack_denoising`; none where the bytes of this name are damaged."""
    with suppress(zlib.error, ValueError, TypeError, DataError):
        return file.read_denoising(zlib.decompress(data).decode(errors="surrogatepass"), name)
    return ()


def reason_row(found: Reason) -> dict[str, Any]:
    """An answer to why as JSON takes it, in nats: what the screen shows of it, so of attention what each head reads."""
    why, wrote = found.why, found.why.wrote
    layers, heads = wrote.heads.shape
    reads = [[[list(read) for read in why.reads(layer, head)] for head in range(heads)] for layer in range(layers)]
    return {
        "ids": list(why.ids), "target": why.target, "foil": why.foil, "logprobs": list(why.logprobs),
        "ranks": why.ranks.tolist(), "embedding": wrote.embedding, "bias": wrote.bias, "logit": wrote.logit,
        "heads": _rounded(wrote.heads), "mlp": _rounded(wrote.mlp), "reads": reads,
        "left_out": [[omission.start, omission.stop, omission.nats] for omission in found.omissions],
    }  # fmt: skip


def reason_from(row: Mapping[str, Any]) -> Reason:
    """The inverse of `reason_row`, but for attention of which nothing is read. ValueError for what is none."""
    heads, ids = np.array(row["heads"], np.float32), tuple(row["ids"])
    attention = np.zeros((*heads.shape, len(ids)), np.float32)
    for layer, of_layer in enumerate(row["reads"]):
        for head, reads in enumerate(of_layer):
            for position, weight in reads:
                attention[layer, head, position] = weight
    target, foil, (first, second) = row["target"], row["foil"], row["logprobs"]
    mlp, ranks = np.array(row["mlp"], np.float32), np.array(row["ranks"], np.int32)
    wrote = Attribution(target, foil, row["embedding"], heads, mlp, row["bias"], row["logit"])
    why = Why(ids, target, foil, (first, second), ranks, wrote, attention)
    left_out = tuple(Omission(*omission) for omission in row["left_out"])
    whole = ranks.shape == (len(heads) + 1, 2) and mlp.shape == (len(heads),) and bool((ranks > 0).all())
    if not whole or min(target, foil, *ids) < 0 or not all(0 <= o.start < o.stop <= len(ids) for o in left_out):
        raise ValueError("an answer to why a token was said that is not whole")
    return Reason(why, left_out)


def _rounded(values: np.ndarray) -> Any:
    return values.astype(np.float64).round(6).tolist()


def choice_row(choice: ToolChoice) -> dict[str, Any]:
    """A choice of a tool as JSON takes it, in nats."""
    return asdict(choice)


def choice_from(row: Mapping[str, Any]) -> ToolChoice:
    """The inverse of `choice_row`. ValueError, KeyError or TypeError for what is none."""
    law = row["law"]
    if law is not None:
        law = ToolDistribution(**law | {"tools": tuple((str(name), float(p)) for name, p in law["tools"])})
    calls = tuple((str(name), tuple(map(_field, fields))) for name, fields in row["calls"])
    numbers = [] if law is None else [p for _, p in law.tools] + [law.other, law.none, law.undecided]
    numbers += [field.logprob for _, fields in calls for field in fields]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a choice of a tool without numbers")
    return ToolChoice(law, int(row["at"]), calls)


def _field(row: Mapping[str, Any]) -> CallField:
    first, last = row["tokens"]
    return CallField(str(row["name"]), str(row["text"]), (int(first), int(last)), float(row["logprob"]))


def read_choice(text: str) -> ToolChoice | None:
    """A choice in a row of the database; None where it is damaged."""
    with suppress(ValueError, TypeError, KeyError, IndexError):
        return choice_from(parse(text))
    return None


def pack_reasons(reasons: Sequence[Reason]) -> bytes:
    """Answers to why as bytes."""
    return zlib.compress(json.dumps([reason_row(found) for found in reasons]).encode(), 1)


def unpack_reasons(data: bytes) -> tuple[Reason, ...]:
    """The inverse of `pack_reasons`; none where the bytes are damaged."""
    with suppress(zlib.error, ValueError, TypeError, KeyError, IndexError):
        return tuple(map(reason_from, json.loads(zlib.decompress(data))))
    return ()


def pack(step: TokenStep) -> bytes:
    """A step's snapshot, and what removed each of its tokens, as bytes."""
    snapshot = step.snapshot
    assert snapshot is not None
    removed_by = np.full(len(snapshot.ids), -1, np.int8) if step.removed_by is None else step.removed_by
    head = np.array([snapshot.vocab, len(snapshot.ids)], "<i4").tobytes()
    head += np.array([snapshot.lse, snapshot.mean, snapshot.variance], "<f8").tobytes()
    arrays = b"".join(np.asarray(getattr(snapshot, name), kind).tobytes() for name, kind in ARRAYS.items())
    return head + arrays + np.asarray(removed_by, np.int8).tobytes()


def unpack(data: bytes) -> tuple[Snapshot, np.ndarray]:
    """The inverse of `pack`; ValueError where the bytes are damaged."""
    vocab, k = (int(value) for value in np.frombuffer(data, "<i4", 2))
    lse, mean, variance = (float(value) for value in np.frombuffer(data, "<f8", 3, 8))
    at, arrays = 32, {}
    for name, kind in ARRAYS.items():
        count = k if name in ("ids", "logits") else BINS + (name == "edges")
        arrays[name] = np.frombuffer(data, kind, count, at)
        at += 4 * count
    return Snapshot(vocab=vocab, lse=lse, mean=mean, variance=variance, **arrays), np.frombuffer(data, np.int8, k, at)


def pack_pieces(pieces: Sequence[bytes]) -> bytes:
    """The pieces of a vocabulary as bytes."""
    lengths = np.array([len(piece) for piece in pieces], np.uint16).tobytes()
    return zlib.compress(len(pieces).to_bytes(4, "little") + lengths + b"".join(pieces), 1)


def unpack_pieces(compressed: bytes) -> tuple[bytes, ...]:
    """The inverse of `pack_pieces`."""
    data = zlib.decompress(compressed)
    count = int.from_bytes(data[:4], "little")
    ends = np.cumsum(np.frombuffer(data, np.uint16, count, 4), dtype=np.int64)
    joined = data[4 + 2 * count :]
    return tuple(joined[start:end] for start, end in pairwise([0, *ends.tolist()]))
