"""Tokens drawn by the vocabulary kernel, in the simulator: those that the host draws, with the same numbers."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from likely.engine.decode import kernel_draw
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted
from likely.engine.session import Session
from likely.engine.trace.step import Recipe, TokenStep
from likely.engine.transforms import DRY, LogitBias, MinP, RepetitionPenalty, Temperature, TopK, TopP, Typical
from likely.metal import kernel, mx
from likely.metal.simulator import simulated
from likely.metal.vocab import DrawPlan
from tests.fakes import EOS, FakeCheckpoint, MarkovModel, random_table
from tests.metal.test_whole_models import counted, model

PROMPT = [7, 43, 60]
RECIPES = [
    Recipe(greedy=True),
    Recipe((Temperature(0.5), TopP(0.9)), greedy=True),
    Recipe((TopP(0.8), MinP(0.05), Temperature(0.8))),  # as mlx-lm orders them
    Recipe((TopP(0.9), MinP(0.02), TopK(9), Temperature(1.3))),
    Recipe((TopK(40), TopP(0.7), MinP(0.1), Temperature(0.6))),  # llama.cpp
    Recipe((Temperature(0.7), TopK(12), TopP(0.9))),  # Hugging Face
    Recipe((Temperature(1.5), MinP(0.2))),
    Recipe((TopK(5),)),
]


def spread(scale: float, *, ties: bool = False) -> Session:
    """A Markov chain whose rows are normal numbers of that scale; its texts do not end."""
    table = random_table(1, scale)
    table[:, EOS] = -50
    return Session(FakeCheckpoint(MarkovModel(np.round(2 * table) / 2 if ties else table)))  # type: ignore[arg-type]


def transformer() -> Session:
    return Session(FakeCheckpoint(model()))  # type: ignore[arg-type]


def steps(session: Session, recipe: Recipe, *, tokens: int = 8, force: dict[int, int] | None = None) -> list[TokenStep]:
    control, found = RunControl(recipe), []
    for event in session.generate(PROMPT, control, seed=7, max_tokens=tokens):
        if isinstance(event, Emitted):
            found.append(event.step)
            if force and len(found) in force:
                control.force([force[len(found)]])
    return found


def same(got: list[TokenStep], expected: list[TokenStep]) -> None:
    """The same tokens; every number of a step but for rounding."""
    assert [s.token for s in got] == [s.token for s in expected]
    for a, b in zip(got, expected, strict=True):
        assert (a.rank, a.kept, a.origin, a.position) == (b.rank, b.kept, b.origin, b.position)
        for name in ("logprob", "logprob_after", "entropy", "entropy_after"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=2e-5), name
        assert a.removed_by is not None and b.removed_by is not None and a.removed_by.tolist() == b.removed_by.tolist()
        assert a.snapshot is not None and b.snapshot is not None
        for field in fields(a.snapshot):
            assert getattr(a.snapshot, field.name) == pytest.approx(getattr(b.snapshot, field.name), abs=2e-5)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("ties", [False, True], ids=["apart", "equals"])
def test_tokens_and_numbers_are_those_of_the_host(recipe: Recipe, ties: bool) -> None:
    expected = steps(spread(2.0, ties=ties), recipe)
    with counted() as launches:
        got = steps(spread(2.0, ties=ties), recipe)
    same(got, expected)
    assert launches["scan"] >= len(got) and launches["scan"] == launches["draw"]


@pytest.mark.parametrize("recipe", [RECIPES[0], RECIPES[2]], ids=str)
def test_a_transformer_draws_every_token_in_one_pass(recipe: Recipe) -> None:
    """And looks at it there."""
    expected = steps(transformer(), recipe)
    with counted() as launches:
        got = steps(transformer(), recipe)
    same(got, expected)
    assert launches["scan"] == launches["draw"] == launches["row"] == launches["histogram"] == 8


@pytest.mark.usefixtures("either_device")
def test_what_the_kernel_cannot_draw_is_drawn_otherwise() -> None:
    """Nuclei beyond the kernel's tokens, some of them: the token that was queued without a token is taken back."""
    recipe, session = Recipe((TopP(0.9), Temperature(0.9))), spread(1.9)
    expected = steps(spread(1.9), recipe, tokens=40)
    assert len({s.kept > 64 for s in expected}) == 2
    with counted() as launches:
        got = steps(session, recipe, tokens=40)
    same(got, expected)
    assert 0 < launches["scan"] < 40
    place = session.pool.places[-1]
    assert place.length == place.cache.length == len(place.ids[0]) == len(PROMPT) + 39


def test_no_forced_token_is_lost_behind_one_that_was_not_drawn() -> None:
    """It may come a token later than without a token in flight, but it comes."""
    session, force = spread(1.9), {n: 5 + n for n in range(1, 26, 2)}
    with counted() as launches:
        got = steps(session, Recipe((TopP(0.9),)), tokens=30, force=force)
    assert [s.token for s in got if s.origin == "forced"] == list(force.values())
    assert launches["scan"] and any(s.kept > 64 for s in got if s.origin == "drawn")


def test_who_removed_a_token_is_known_where_the_candidates_end_before_what_was_left() -> None:
    """A nucleus larger than a snapshot, of which top-k leaves few: then all logits are read after all."""
    recipe = Recipe((TopP(0.98), TopK(9)))
    expected = steps(spread(0.5), recipe)
    assert any(step.removed_by is not None and {0, 1} <= set(step.removed_by.tolist()) for step in expected)
    with counted() as launches:
        got = steps(spread(0.5), recipe)
    same(got, expected)
    assert launches["row"] >= len(got)


def test_branches_are_drawn_in_one_pass_together() -> None:
    def branches(session: Session) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in range(4)]
        for event in session.generate(PROMPT, RunControl(RECIPES[2]), n=4, seed=3, max_tokens=6):
            if isinstance(event, Emitted):
                found[event.branch].append(event.step.token)
        return found

    expected = branches(spread(2.0))
    with counted() as launches:
        assert branches(spread(2.0)) == expected
    assert launches["scan"] == 6


@pytest.mark.slow
@pytest.mark.usefixtures("either_device")
def test_branches_that_the_kernel_cannot_draw_are_drawn_otherwise() -> None:
    """Where one branch's nucleus is beyond the kernel's tokens, all have read one that is taken back."""
    recipe = Recipe((TopP(0.9), Temperature(0.9)))

    def branches() -> list[list[TokenStep]]:
        found: list[list[TokenStep]] = [[] for _ in range(3)]
        for event in spread(1.7).generate(PROMPT, RunControl(recipe), n=3, seed=3, max_tokens=30):
            if isinstance(event, Emitted):
                found[event.branch].append(event.step)
        return found

    expected = branches()
    assert {s.kept > 64 for steps in expected for s in steps} == {False, True}
    with counted() as launches:
        for got, want in zip(branches(), expected, strict=True):
            same(got, want)
    assert 0 < launches["scan"] < 30


def test_what_a_recipe_asks_of_the_kernel() -> None:
    assert kernel_draw.plan(RECIPES[2], 600, mx.float32) is None  # there is no Metal
    with simulated():
        plan: Callable[..., DrawPlan | None] = lambda *transforms: kernel_draw.plan(Recipe(transforms), 600, mx.float32)  # noqa: E731
        assert plan(TopP(0.8), MinP(0.1), Temperature(2.0)) == DrawPlan(2.0, 0, 0.8, 0.1, temperature_last=True)
        assert plan(TopP(0.8), TopK(7)) == DrawPlan(1.0, 7, 0.8, top_k_last=True)
        assert plan(TopK(7), Temperature(2.0), TopP(0.8)) == DrawPlan(2.0, 7, 0.8)
        for more in (
            (), (Temperature(0.5),), (TopK(65), TopP(0.9)), (TopK(65),), (MinP(0.1), TopP(0.9)),
            (TopP(0.9), Temperature(0.5), MinP(0.1)), (MinP(0.1, least=2),), (TopK(5), TopK(4)),
            (TopK(5), Typical(0.5)), (RepetitionPenalty(1.1), TopK(5)),
        ):  # fmt: skip
            assert plan(*more) is None, more
        assert kernel_draw.plan(Recipe((Temperature(0.5),)), 64, mx.float32) == DrawPlan(
            0.5
        )  # all are within its tokens
        for penalty in (LogitBias({3: 1.0}), DRY(0.8)):
            assert kernel_draw.plan(Recipe((penalty,), greedy=True), 600, mx.float32) is None
        kernel.switch_off("scan float32", "a test")
        assert plan(TopK(7)) is None
        del kernel.switched_off["scan float32"]
