"""Tokens drawn by the vocabulary kernel, in the simulator: those that the host draws, with the same numbers."""

from dataclasses import fields
from itertools import product
from typing import Any

import numpy as np
import pytest

from likely.engine.decode.loop import kernel_sampler
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import (
    DRY,
    LogitBias,
    MinP,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
)
from likely.metal import kernel, mx
from likely.metal.simulator import simulated
from likely.metal.vocab import DrawPlan
from tests.metal.test_whole_models import counted, model
from tests.support.decoding import Found, endless, run, session
from tests.support.everyday import everyday

PROMPT = [7, 43, 60]
RECIPES = [
    SamplingConfig(greedy=True), SamplingConfig((Temperature(0.5), TopP(0.9)), greedy=True),
    SamplingConfig((TopP(0.8), MinP(0.05), Temperature(0.8))),  # as mlx-lm orders them
    SamplingConfig((TopP(0.9), MinP(0.02), TopK(9), Temperature(1.3))),
    SamplingConfig((TopK(40), TopP(0.7), MinP(0.1), Temperature(0.6))),  # llama.cpp
    SamplingConfig((Temperature(0.7), TopK(12), TopP(0.9))),  # Hugging Face
    SamplingConfig((Temperature(1.5), MinP(0.2))), SamplingConfig((TopK(5),)),
]  # fmt: skip
BEYOND = SamplingConfig((TopP(0.9), Temperature(0.9)))  # of flat rows more tokens than the kernel has


def drawn(of: Any, recipe: SamplingConfig, tokens: int = 8, **more: Any) -> Found:
    return run(of, recipe, prompt=PROMPT, seed=7, max_tokens=tokens, **more)


def same(got: list[TokenStep], expected: list[TokenStep]) -> None:
    """The same tokens; every number of a step but for rounding."""
    assert [s.token for s in got] == [s.token for s in expected]
    for a, b in zip(got, expected, strict=True):
        assert (a.rank, a.kept, a.origin, a.position) == (b.rank, b.kept, b.origin, b.position)
        for name in ("logprob", "logprob_after", "entropy", "entropy_after"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=2e-5), name
        assert a.removed_by is not None and b.removed_by is not None and a.removed_by.tolist() == b.removed_by.tolist()
        for field in fields(a.snapshot):  # type: ignore[arg-type]
            assert getattr(a.snapshot, field.name) == pytest.approx(getattr(b.snapshot, field.name), abs=2e-5)


@pytest.mark.parametrize(
    ("kind", "recipe"),
    everyday([*product(["apart", "equals"], RECIPES), ("transformer", RECIPES[0]), ("transformer", RECIPES[2])], 3),
)
def test_tokens_and_numbers_are_those_of_the_host(kind: str, recipe: SamplingConfig) -> None:
    """A transformer draws every token in one pass, and looks at it there."""
    table = endless(1)
    of = model() if kind == "transformer" else np.round(2 * table) / 2 if kind == "equals" else table
    expected = drawn(of, recipe)
    with counted() as launches:
        got = drawn(of, recipe)
    same(got.steps[0], expected.steps[0])
    assert launches["scan"] >= len(got.steps[0]) and launches["scan"] == launches["draw"]
    if kind == "transformer":
        assert launches["scan"] == launches["histogram"] == 8


@pytest.mark.usefixtures("either_device")
@pytest.mark.parametrize("n", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_what_the_kernel_cannot_draw_is_drawn_otherwise(n: int) -> None:
    """Nuclei beyond the kernel's tokens, some of them: what was queued without a token is taken back, of all."""
    made, tokens = session(endless(1, 1.9 if n == 1 else 1.7)), 40
    expected = drawn(endless(1, 1.9 if n == 1 else 1.7), BEYOND, tokens, n=n)
    assert {s.kept > 64 for steps in expected.steps.values() for s in steps} == {False, True}
    with counted() as launches:
        got = drawn(made, BEYOND, tokens, n=n)
    for branch, steps in expected.steps.items():
        same(got.steps[branch], steps)
    assert 0 < launches["scan"] < tokens
    place = made.pool.branches[-1]
    assert n > 1 or place.length == place.cache.length == len(place.ids[0]) == len(PROMPT) + tokens - 1


def test_no_forced_token_is_lost_behind_one_that_was_not_drawn() -> None:
    """It may come a token later than without a token in flight, but it comes."""
    control, got, force = (
        RunControl(SamplingConfig((TopP(0.9),))),
        list[TokenStep](),
        {n: 5 + n for n in range(1, 26, 2)},
    )
    with counted() as launches:
        for event in session(endless(1, 1.9)).generate(PROMPT, control, seed=7, max_tokens=30):
            if isinstance(event, Emitted):
                got.append(event.step)
                control.force([force[len(got)]] if len(got) in force else [])
    assert [s.token for s in got if s.origin == "forced"] == list(force.values())
    assert launches["scan"] and any(s.kept > 64 for s in got if s.origin == "drawn")


def test_who_removed_a_token_is_known_where_the_candidates_end_before_what_was_left() -> None:
    """A nucleus larger than a snapshot, of which top-k leaves few: then all logits are read after all."""
    recipe = SamplingConfig((TopP(0.98), TopK(9)))
    expected = drawn(endless(1, 0.5), recipe).steps[0]
    assert any(step.removed_by is not None and {0, 1} <= set(step.removed_by.tolist()) for step in expected)
    with counted() as launches:
        same(drawn(endless(1, 0.5), recipe).steps[0], expected)
    assert launches["histogram"] >= 8


def test_branches_are_drawn_in_one_pass_together() -> None:
    expected = drawn(endless(1), RECIPES[2], 6, n=4)
    with counted() as launches:
        assert drawn(endless(1), RECIPES[2], 6, n=4).tokens == expected.tokens
    assert launches["scan"] == 6


def test_what_a_recipe_asks_of_the_kernel() -> None:
    def plan(*transforms: Any, vocabulary: int = 600, greedy: bool = False) -> DrawPlan | None:
        return kernel_sampler.plan(SamplingConfig(transforms, greedy), vocabulary, mx.float32)

    assert plan(TopP(0.8)) is None  # there is no Metal
    with simulated():
        assert plan(TopP(0.8), MinP(0.1), Temperature(2.0)) == DrawPlan(2.0, 0, 0.8, 0.1, temperature_last=True)
        assert plan(TopP(0.8), TopK(7)) == DrawPlan(1.0, 7, 0.8, top_k_last=True)
        assert plan(TopK(7), Temperature(2.0), TopP(0.8)) == DrawPlan(2.0, 7, 0.8)
        for more in (
            (), (Temperature(0.5),), (TopK(65), TopP(0.9)), (TopK(65),), (MinP(0.1), TopP(0.9)),
            (TopP(0.9), Temperature(0.5), MinP(0.1)), (MinP(0.1, least=2),), (TopK(5), TopK(4)),
            (TopK(5), Typical(0.5)), (RepetitionPenalty(1.1), TopK(5)),
        ):  # fmt: skip
            assert plan(*more) is None, more
        assert plan(Temperature(0.5), vocabulary=64) == DrawPlan(0.5)  # all are within its tokens
        assert plan(LogitBias({3: 1.0}), greedy=True) is plan(DRY(0.8), greedy=True) is None
        kernel.switch_off("scan float32", "a test")
        assert plan(TopK(7)) is None
        del kernel.switched_off["scan float32"]
