"""A posterior's file: what is written is read, and each thing that can be wrong with it is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError
from likely.engine.train.posterior import stored
from likely.engine.train.posterior.kronecker import Kronecker, Spectrum
from likely.engine.train.posterior.moments import Swag
from likely.engine.train.posterior.posterior import Ensemble, Laplace, Posterior, SwagPosterior
from likely.engine.train.posterior.stored import FitFacts
from likely.metal import mx

SHAPES = {"x.lora_a": (6, 2), "x.lora_b": (2, 5)}
FACTS: dict[str, Any] = {"adapter": "aaaa", "base": "bbbb"}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, 1, shape).astype(np.float32)


def side(size: int, kept: int) -> Spectrum:
    return Spectrum(normal(size, kept), np.arange(kept, dtype=np.float64), 0.5)


def laplace() -> Laplace:
    kept = {"x.lora_a": (3, 2), "x.lora_b": (2, 5)}
    parts = {n: Kronecker(*(side(s, k) for s, k in zip(SHAPES[n], kept[n], strict=True))) for n in SHAPES}
    return Laplace(parts, 2.5)


def swag(count: int = 3) -> SwagPosterior:
    parts = {n: Swag(normal(*s), np.abs(normal(*s)), normal(count, *s)) for n, s in SHAPES.items()}
    parts["x.lora_a"].diagonal[0, 0] = 0.0
    return SwagPosterior(parts)


def ensemble(count: int = 2) -> Ensemble:
    return Ensemble({n: normal(count, *s) for n, s in SHAPES.items()})


def read(folder: Path, **changed: str) -> tuple[Posterior, FitFacts]:
    return stored.read(folder, SHAPES, **{**FACTS, **changed})


@pytest.mark.parametrize("posterior", [laplace(), swag(), swag(2), ensemble(), ensemble(7)], ids=lambda p: p.KIND)
def test_what_is_written_is_read(posterior: Posterior, tmp_path: Path) -> None:
    assert not stored.has(tmp_path)
    precision = 2.5 if isinstance(posterior, Laplace) else None
    facts = FitFacts(posterior.KIND, "aaaa", "bbbb", precision, -3.25, 12, 340)
    stored.write(tmp_path, posterior, facts)
    assert stored.has(tmp_path) and [file.name for file in tmp_path.iterdir()] == ["posterior.safetensors"]
    found, said = read(tmp_path)
    assert said == facts and type(found) is type(posterior) and found.parts.keys() == posterior.parts.keys()
    trained = {name: normal(*shape) for name, shape in SHAPES.items()}
    for name in SHAPES:
        assert found.draw(trained, 1, 1)[name] == pytest.approx(posterior.draw(trained, 1, 1)[name], abs=1e-5)
        for mine, theirs in zip(found.gaussian(trained), posterior.gaussian(trained), strict=True):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5)


def rewrite(folder: Path, posterior: Posterior, arrays: dict[str, Any], **said: Any) -> None:
    """The file with some arrays (None: left out) and facts changed."""
    precision = 2.5 if isinstance(posterior, Laplace) else None
    stored.write(folder, posterior, FitFacts(posterior.KIND, "aaaa", "bbbb", precision))
    path = str(folder / stored.FILE)
    found, metadata = mx.load(path, return_metadata=True)  # type: ignore[misc]
    facts = json.loads(metadata["posterior"]) | said  # type: ignore[index]
    held = {**found, **arrays}  # type: ignore[dict-item]
    held = {name: mx.array(array) for name, array in held.items() if array is not None}
    mx.eval(held)
    (folder / stored.FILE).unlink()
    mx.save_safetensors(path, held, {"posterior": json.dumps(facts)})


NO_PLACE, NOT_FIT = "has no place in a posterior of this adapter", "do not fit it or each other"
FEW = "holds no samples, or not as many of each array"


@pytest.mark.parametrize(
    ("posterior", "arrays", "said", "line"),
    [
        (laplace(), {}, {"kind": "guess"}, "kind must be one of laplace, swag, ensemble, got 'guess'"),
        (laplace(), {}, {"adapter": "a"}, "of another adapter than the one beside it"),
        (laplace(), {}, {"base": "b"}, "of this adapter on another base"),
        *((laplace(), {}, {"precision": p}, "precision must be above 0") for p in (None, 0.0, -1.0)),
        (laplace(), {}, {"rows": "many"}, "is not a posterior"),
        (laplace(), {"y.lora_a.left": normal(2, 2)}, {}, f"y.lora_a.left {NO_PLACE}"),
        (laplace(), {"x.lora_a.left": np.full((6, 3), np.nan, np.float32)}, {}, "holds numbers that are none"),
        (laplace(), {"x.lora_a.left": None}, {}, f"x.lora_a {NOT_FIT}"),
        (laplace(), {"x.lora_a.left": normal(5, 3)}, {}, NOT_FIT),
        (laplace(), {"x.lora_a.left_values": np.ones(3, np.float32)}, {}, NOT_FIT),
        (laplace(), {"x.lora_b.right_values": np.array([1, -0.1, 1, 1, 1, 1], np.float32)}, {}, NOT_FIT),
        (laplace(), {"x.lora_a.right": normal(2, 3), "x.lora_a.right_values": np.ones(4, np.float32)}, {}, NOT_FIT),
        (swag(), {"x.lora_a.diagonal": normal(2, 6)}, {}, NOT_FIT),
        (swag(), {"x.lora_a.diagonal": np.full((6, 2), -1e-3, np.float32)}, {}, NOT_FIT),
        (swag(), {"x.lora_b.deviations": normal(4, 2, 5)}, {}, FEW),
        (swag(1), {}, {}, FEW),
        (ensemble(1), {}, {}, FEW),
        (ensemble(), {"x.lora_a.members": normal(3, 6, 2)}, {}, FEW),
        (ensemble(), {"x.lora_a.members": None, "x.lora_b.members": None, "x.lora_a": normal(2)}, {}, NO_PLACE),
    ],
)
def test_a_file_that_is_damaged_or_another_s_is_one_line(
    posterior: Posterior, arrays: dict[str, Any], said: dict[str, Any], line: str, tmp_path: Path
) -> None:
    rewrite(tmp_path, posterior, arrays, **said)
    with pytest.raises(CheckpointError, match=line) as error:
        read(tmp_path)
    assert str(tmp_path / stored.FILE) in str(error.value)


def test_numbers_at_their_bounds_are_read(tmp_path: Path) -> None:
    rewrite(tmp_path, laplace(), {"x.lora_a.left_values": np.zeros(4, np.float32)}, precision=1e-9)
    found, _ = read(tmp_path)
    assert isinstance(found, Laplace) and found.precision == 1e-9 and found.parts["x.lora_a"].left.rest == 0
    half = {name: mx.array(normal(4, *shape)).astype(mx.float16) for name, shape in SHAPES.items()}
    rewrite(tmp_path, ensemble(), {f"{name}.members": array for name, array in half.items()})
    members, _ = read(tmp_path)
    assert isinstance(members, Ensemble) and members.members == 4 and members.parts["x.lora_b"].dtype == np.float32


def test_a_posterior_of_only_some_arrays_is_one_and_of_none_is_not(tmp_path: Path) -> None:
    lacking = {f"x.lora_a.{leaf}": None for leaf in stored.LEAVES["laplace"]}
    rewrite(tmp_path, laplace(), lacking)
    found, _ = read(tmp_path)
    assert set(found.parts) == {"x.lora_b"}
    with pytest.raises(CheckpointError, match="holds no posterior: likely posterior makes one"):
        read(tmp_path / "other")
    path = tmp_path / stored.FILE
    path.unlink()
    mx.save_safetensors(str(path), {"x.lora_a.members": mx.zeros((2, 6, 2))})
    with pytest.raises(CheckpointError, match="is not a posterior"):
        read(tmp_path)


def test_draws_are_by_seed_number_and_array() -> None:
    trained = {name: normal(*shape) for name, shape in SHAPES.items()}
    for posterior in (laplace(), swag()):
        one = posterior.draw(trained, 3, 5)
        assert all(array.dtype == np.float32 for array in one.values())
        for other in (posterior.draw(trained, 4, 5), posterior.draw(trained, 3, 6)):
            assert all((other[name] != one[name]).any() for name in SHAPES)
    members = ensemble(3)
    assert members.members == 3 and (members.draw({}, 9, 1)["x.lora_a"] == members.parts["x.lora_a"][1]).all()
