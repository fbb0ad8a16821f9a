"""The tuned lens: exact where the layers above are affine, measured on what it has not seen, honest where it fails."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.inside import tuned_lens
from likely.engine.inside.lens import rows, states
from likely.engine.inside.steering import SteeredBlock
from likely.engine.inside.subject import InspectedText
from likely.metal import mx
from tests.engine.inside.test_inside import model_of
from tests.models.oracle import tokens
from tests.models.test_families import V


def text(t: int, seed: int = 1) -> list[int]:
    return tokens(1, t, V, seed)[0].tolist()  # type: ignore[no-any-return]


def affine(change: mx.array, bias: mx.array) -> Any:
    """A model whose last layer is h -> h + (h change + bias), whatever stands before it."""
    model = model_of("llama")
    for role in ("o", "down"):
        for part in [p for p in model.parts() if p.role == role and p.layer == 3]:
            model.put(part, mx.zeros_like(part.matrix))
    model.blocks[3] = Affine(model.blocks[3], change, bias)
    return model


class Affine(SteeredBlock):
    """A block that adds an affine map of what it gives."""

    def __init__(self, base: Any, change: mx.array, bias: mx.array) -> None:
        super().__init__(base, bias, 1.0)
        self.change = change

    def onto(self, y: mx.array) -> mx.array:
        return y + y @ self.change + self.vector


def test_it_is_exact_where_what_follows_is_affine_of_its_rank() -> None:
    key = mx.random.key(4)
    a, b, bias = (0.3 * mx.random.normal(shape, key=key) for shape in ((48, 3), (3, 48), (48,)))
    model = affine(a @ b, bias)
    found = tuned_lens.fit(model, text(3000), rank=3, length=64)
    assert found.before[3] > 0.05 and found.after[3] < 1e-3 * found.before[3] and 3 not in found.worse
    h = mx.random.normal((5, 48), key=mx.random.key(9))
    assert np.allclose(np.array(found.translators[3](h)), np.array(h + h @ a @ b + bias), atol=3e-2)


@pytest.mark.slow
def test_on_text_that_it_has_not_seen_the_kl_falls() -> None:
    model = model_of("llama")
    found = tuned_lens.fit(model, text(6000), rank=16, length=64)
    assert found.worse == () and all(new < old for old, new in zip(found.before, found.after, strict=True))
    subject = InspectedText(model, tuple(text(64, seed=77)))
    hidden = states(subject)
    plain = list(rows(subject, hidden))
    tuned = list(rows(subject, found.translate(hidden)))
    assert np.array_equal(plain[0].top, tuned[0].top) and np.all(tuned[0].kl == 0)
    assert all(b.kl.mean() < a.kl.mean() for a, b in zip(plain[1:], tuned[1:], strict=True))


def test_a_layer_that_it_does_not_help_keeps_the_plain_lens() -> None:
    """Fit to one token again and again, it knows nothing of the others that are held out."""
    model = model_of("llama")
    ids = [i for piece in range(16) for i in ([5] * 16 if piece % 8 != 7 else text(16, piece))]
    found = tuned_lens.fit(model, ids, rank=4, length=16)
    assert found.worse
    hidden = states(InspectedText(model, tuple(text(9))))
    for i in found.worse:
        assert mx.array_equal(found.translate(hidden)[i], hidden[i])


def test_it_is_kept_in_a_file(tmp_path: Path) -> None:
    model = model_of("llama")
    found = tuned_lens.fit(model, text(1200), rank=4, length=64)
    tuned_lens.save(tmp_path / "a" / "lens.safetensors", found)
    again = tuned_lens.read(tmp_path / "a" / "lens.safetensors")
    assert (again.before, again.after) == (found.before, found.after)
    hidden = states(InspectedText(model, tuple(text(9))))
    assert all(map(mx.array_equal, again.translate(hidden), found.translate(hidden)))
    with pytest.raises(CheckpointError, match="for 4 layers, the model has 3"):
        again.translate(hidden[:-1])
    with pytest.raises(ParameterError, match="1024 tokens or more"):
        tuned_lens.fit(model, text(100))
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no lens that can be read"):
        tuned_lens.read(tmp_path / "b.safetensors")
