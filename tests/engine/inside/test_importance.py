"""Which tokens mattered: leave-one-out as separate readings, the gradient as finite differences."""

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.inside.importance import importance
from likely.engine.inside.subject import InspectedText
from likely.metal import mx
from likely.models.tap import TappedPass
from tests.engine.inside import built
from tests.engine.inside.test_inside import look_at


@pytest.mark.parametrize(
    "name",
    [pytest.param("llama", marks=pytest.mark.slow), "llama sliding", "phi 3 longrope", "gemma 2", "gpt-2", "quantised"],
)
def test_leaving_one_out_is_reading_without_it(name: str) -> None:
    seen = look_at(name, 17 if name == "phi 3 longrope" else 12)
    model, ids = seen.model, list(seen.ids)

    def logprob(ids: list[int]) -> np.ndarray:
        row = np.array(model(mx.array([ids]))[0, -1], np.float64)
        return np.asarray(row - np.log(np.exp(row).sum()))

    found = importance(seen)
    whole = logprob(ids)
    assert found.token == whole.argmax() and found.logprob == pytest.approx(whole.max(), abs=1e-4)
    want = [whole[found.token] - logprob(ids[:i] + ids[i + 1 :])[found.token] for i in range(len(ids))]
    assert np.allclose(found.left_out, want, atol=1e-4) and np.abs(want).max() > 1e-2
    assert importance(seen, 3).token == 3


def test_the_gradient_is_that_of_a_longer_embedding() -> None:
    seen = look_at("llama", 9)
    found, step = importance(seen), 1e-2

    def logprob(i: int, scale: float) -> float:
        grow = mx.where(mx.arange(9)[:, None] == i, 1 + scale, 1.0)
        x = TappedPass(seen.model, mx.array([seen.ids])).run(lambda at, x: x * grow if at == "embedding" else x)
        row = np.array(seen.model.lens(x[:, -1])[0], np.float64)
        return float(row[found.token] - np.log(np.exp(row).sum()))

    slopes = [(logprob(i, step) - logprob(i, -step)) / (2 * step) for i in range(9)]
    assert np.allclose(found.gradient, slopes, atol=2e-3) and np.abs(slopes).max() > 0.02
    assert found.agreement is not None and -1 <= found.agreement <= 1


def test_what_followed_last_time_matters() -> None:
    found = importance(InspectedText(built.induction(), (0, 3, 7, 5, 2, 7)))
    assert found.token == 5 and int(np.argmax(found.left_out)) == 3


def test_what_cannot_be_left_out() -> None:
    with pytest.raises(ParameterError, match="one token"):
        importance(look_at("llama", 1))
    with pytest.raises(ParameterError, match="must be 0 to 100, got 101"):
        importance(look_at("llama", 4), 101)
