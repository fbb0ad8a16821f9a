"""Stored posterior: `posterior.safetensors` beside an adapter's files, read with everything in it checked.

Its metadata hold one JSON text, `posterior`: the kind, the hash of the adapter's files and of the base's weights, the
prior's precision, the log evidence, and of what it was fitted (rows, tokens). The arrays, by the adapter's names:

    laplace    NAME.left, NAME.right [n, k] eigenvectors, NAME.left_values, NAME.right_values [k + 1] with the rest last
    swag       NAME.mean, NAME.diagonal [...], NAME.deviations [K, ...]
    ensemble   NAME.members [M, ...]
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from likely.engine.base.errors import CheckpointError
from likely.engine.base.files import foreign_json
from likely.engine.train.posterior.kronecker import Kronecker, Spectrum
from likely.engine.train.posterior.moments import Swag
from likely.engine.train.posterior.posterior import Ensemble, Laplace, Posterior, SwagPosterior
from likely.engine.weights.adapters.stored import write_arrays
from likely.engine.weights.sources import array_file
from likely.metal import mx

FILE, META = "posterior.safetensors", "posterior"
LEAVES = {
    Laplace.KIND: ("left", "right", "left_values", "right_values"),
    SwagPosterior.KIND: ("mean", "diagonal", "deviations"),
    Ensemble.KIND: ("members",),
}
SCHEMA = {
    "kind": str,
    "adapter": str,
    "base": str,
    "precision": (float, None),
    "log_evidence": (float, None),
    "rows": int,
    "tokens": int,
}
Leaves = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class FitFacts:
    """Facts of a fit: the adapter and the base that it is of, its prior and its rows."""

    kind: str
    adapter: str  # hash of the adapter's files
    base: str  # hash of the base's weights
    precision: float | None = None  # of the prior
    log_evidence: float | None = None  # nats
    rows: int = 0
    tokens: int = 0  # targets


def has(folder: Path) -> bool:
    """Whether an adapter's directory holds a posterior."""
    return (folder / FILE).exists()


def write(folder: Path, posterior: Posterior, facts: FitFacts) -> None:
    """Write it beside the adapter, whole or not at all; DataError where that cannot be."""
    arrays: dict[str, np.ndarray] = {}
    for name, part in posterior.parts.items():
        arrays |= {f"{name}.{leaf}": array for leaf, array in _leaves(part).items()}
    stored = {name: mx.array(array.astype(np.float32)) for name, array in arrays.items()}
    write_arrays(folder / FILE, stored, {META: json.dumps(asdict(facts))})


def _leaves(part: Kronecker | Swag | np.ndarray) -> Leaves:
    if isinstance(part, Kronecker):
        both = {"left": part.left, "right": part.right}
        vectors = {side: spectrum.vectors for side, spectrum in both.items()}
        return vectors | {f"{side}_values": np.append(s.values, s.rest) for side, s in both.items()}
    if isinstance(part, Swag):
        return {"mean": part.mean, "diagonal": part.diagonal, "deviations": part.deviations}
    return {"members": part}


def read(folder: Path, shapes: Mapping[str, tuple[int, ...]], *, adapter: str, base: str) -> tuple[Posterior, FitFacts]:
    """The posterior in an adapter's directory; `shapes` of the adapter's arrays, `adapter` and `base` as in `FitFacts`.

    CheckpointError for a file that is missing, damaged, or of another adapter or base.
    """
    path = folder / FILE
    if not path.exists():
        raise CheckpointError(f"{folder} holds no posterior: likely posterior makes one")
    arrays, metadata = array_file.read(path)
    try:
        facts = FitFacts(**{name: foreign_json.parse(metadata.get(META, ""), SCHEMA)[name] for name in SCHEMA})
    except ValueError as error:
        raise CheckpointError(f"{path} is not a posterior: {error}") from None
    again = "fit it again (likely posterior), or delete it"
    if facts.kind not in LEAVES:
        raise CheckpointError(f"{path}: its kind must be one of {', '.join(LEAVES)}, got {facts.kind!r}")
    if facts.adapter != adapter:
        raise CheckpointError(f"{path} is the posterior of another adapter than the one beside it: {again}")
    if facts.base != base:
        raise CheckpointError(f"{path} is the posterior of this adapter on another base: {again}")
    precision = facts.precision
    if facts.kind == Laplace.KIND and not (precision is not None and precision > 0):
        raise CheckpointError(f"{path}: the prior's precision must be above 0, got {precision}")
    by_name: dict[str, Leaves] = {}
    for name, array in arrays.items():
        whole, _, leaf = name.rpartition(".")
        if whole not in shapes or leaf not in LEAVES[facts.kind] or not mx.issubdtype(array.dtype, mx.floating):
            raise CheckpointError(f"{path}: {name} has no place in a posterior of this adapter: {again}")
        held = np.asarray(array.astype(mx.float32))
        if not np.isfinite(held).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are none (NaN or infinity): {again}")
        by_name.setdefault(whole, {})[leaf] = held
    parts = {}
    for name, leaves in by_name.items():
        if set(leaves) != set(LEAVES[facts.kind]) or not _fit(facts.kind, leaves, shapes[name]):
            raise CheckpointError(f"{path}: the arrays of {name} do not fit it or each other: {again}")
        parts[name] = leaves
    counts = {len(leaves[LEAVES[facts.kind][-1]]) for leaves in parts.values()}
    if not parts or (facts.kind != Laplace.KIND and (len(counts) > 1 or min(counts) < 2)):
        raise CheckpointError(f"{path} holds no samples, or not as many of each array: {again}")
    return _posterior(facts, parts), facts


def _fit(kind: str, leaves: Leaves, shape: tuple[int, ...]) -> bool:
    """Whether the arrays of one name have the shapes and signs that they must."""
    if kind == Ensemble.KIND:
        return bool(leaves["members"].shape[1:] == shape)
    if kind == SwagPosterior.KIND:
        same = leaves["mean"].shape == leaves["diagonal"].shape == leaves["deviations"].shape[1:] == shape
        return bool(same and (leaves["diagonal"] >= 0).all())
    for side, size in zip(("left", "right"), shape, strict=True):
        vectors, values = leaves[side], leaves[f"{side}_values"]
        fits = vectors.ndim == 2 and vectors.shape[0] == size and values.shape == (vectors.shape[1] + 1,)
        if not fits or vectors.shape[1] > size or (values < 0).any():
            return False
    return True


def _posterior(facts: FitFacts, parts: Mapping[str, Leaves]) -> Posterior:
    if facts.kind == Ensemble.KIND:
        return Ensemble({name: leaves["members"] for name, leaves in parts.items()})
    if facts.kind == SwagPosterior.KIND:
        return SwagPosterior({name: Swag(**leaves) for name, leaves in parts.items()})
    assert facts.precision is not None
    return Laplace(
        {
            name: Kronecker(*(_spectrum(leaves[side], leaves[f"{side}_values"]) for side in ("left", "right")))
            for name, leaves in parts.items()
        },
        facts.precision,
    )


def _spectrum(vectors: np.ndarray, values: np.ndarray) -> Spectrum:
    return Spectrum(vectors.astype(np.float64), values[:-1].astype(np.float64), float(values[-1]))
