"""Jobs of a diffusion model, a tiny random one: what the screen is told of its canvases, and what is refused."""

import re
from typing import Any

import numpy as np
import pytest

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.jobs import ModelJobs
from likely.app.jobs.model_provider import LocalModelProvider
from likely.app.jobs.worker import WORKED
from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import Unmasking
from likely.engine.sampling.transforms import DRY, Temperature
from likely.metal import mx
from tests.engine import tiny

CONFIG: dict[str, Any] = {**tiny.LLAMA, "mask_token_id": 286, "max_position_embeddings": 48}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A diffusion model, and the same weights as an autoregressive one."""
    arrays = {name: mx.array(array) for name, array in tiny.weights(CONFIG).items()}
    folder = tmp_path_factory.mktemp("fill")
    plain = {name: value for name, value in CONFIG.items() if name != "mask_token_id"}
    return tuple(str(tiny.write_folder(folder / n, c, arrays)) for n, c in (("d", CONFIG), ("a", plain)))  # type: ignore[return-value]


def done(jobs: ModelJobs, request: r.ModelRequest) -> list[Any]:
    return [event for event in jobs.execute(request, lambda event: None) if event is not WORKED]


def test_a_canvas_is_laid_filled_by_the_recipe_of_the_moment_and_bounded(names: tuple[str, str]) -> None:
    jobs = ModelJobs(LocalModelProvider())
    (loaded,), (other,) = (done(jobs, r.Load(name)) for name in names)
    assert loaded.facts.mask == 286 and other.facts.mask is None
    name = loaded.facts.name

    def fill(control: RunControl | None = None, **more: Any) -> r.Call:
        return call(calls.fill, name, Prompt(parts=("xyz",)), control or RunControl(), 3, **more)

    def ids(text: str) -> tuple[int, ...]:
        found: tuple[int, ...] = done(jobs, call(calls.tokens, name, text))[0]
        return found

    gaps = fill(text="xy[MASK:5]z", how=Unmasking(steps=3))
    laid, *passes, end = done(jobs, gaps)
    assert laid.ids == (*ids("xy"), *[286] * 5, *ids("z")) and laid.first == 0 and end == r.FillEnded(False)
    places = [u.token.position for each in passes for u in each.unmasked]
    assert sorted(places) == [2, 3, 4, 5, 6] and [len(each.open) for each in passes] == [3, 1, 0]
    assert all(u.token.piece == loaded.facts.vocabulary[u.token.token] for p in passes for u in p.unmasked)
    assert 0 < passes[0].elapsed_s < passes[-1].elapsed_s
    answer = done(jobs, fill(masks=6))[0]
    assert answer.first == 3 and answer.ids == (*ids("xyz"), *[286] * 6)
    begun = done(jobs, fill(prefill="The", masks=9))[0]
    assert begun.first == 3 and begun.ids == (*ids("xyz"), *ids("The"), *[286] * (9 - len(ids("The"))))
    assert done(jobs, fill())[0].ids.count(286) == 45  # as many as the context has room for
    again = done(jobs, fill(ids=(97, 286, 98)))
    assert again[0].ids == (97, 286, 98) and len(again) == 3

    control = RunControl()
    run = jobs.execute(fill(control, masks=4), lambda event: None)
    next(run), next(run)
    control.recipe = SamplingConfig((Temperature(0.5),))
    assert next(run).unmasked[0].token.recipe == control.recipe  # a slider acts at the next pass
    control.cancel()
    assert list(run) == [r.FillEnded(True)]

    read, found = done(jobs, call(calls.bound, name, (97, 98, 99), (1, 2), RunControl()))
    assert read == r.Bounding(3)  # two places: all masks
    assert found.tokens == 2 and found.bound.error == 0 and np.isfinite(found.bound.mean)
    control = RunControl()
    long = call(calls.bound, name, tuple(range(40)), tuple(range(40)), control)
    measuring = jobs.execute(long, lambda event: None)
    assert [next(measuring), next(measuring)] == [r.Bounding(8), r.Bounding(16)]  # others have their turn in between
    control.cancel()
    assert list(measuring) == []
    for wrong, error, line in (
        (
            call(calls.fill, name, Prompt(parts=("xyz" * 16,)), RunControl()),
            ContextOverflow,
            "leaves no room for an answer",
        ),
        (fill(text="a [MASK:x]"), ParameterError, "write \\[MASK:x] for the text"),
        (fill(masks=7, how=Unmasking(block=2)), ParameterError, "7 masks are not divisible into blocks of 2"),
        (call(calls.fill, other.facts.name, Prompt(), RunControl()), ParameterError, "is autoregressive"),
        (
            call(calls.shift, name, Prompt(parts=("xyz",))),
            ParameterError,
            "and d fills masks",
        ),
    ):
        with pytest.raises(error, match=re.escape(line)):
            done(jobs, wrong)
    dry = fill(RunControl(SamplingConfig((DRY(0.8),))), masks=4)
    with pytest.raises(ParameterError, match="DRY needs tokens in the order of the text"):
        done(jobs, dry)
