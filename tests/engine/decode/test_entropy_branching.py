"""Branches at high entropy: where they part, and that two ways are drawn without replacement."""

import math
from typing import Any

import numpy as np
import pytest

from likely.engine.decode.control import RunControl
from likely.engine.decode.entropy_branching import EntropyBranching
from likely.engine.decode.events import Done, Emitted, Event, Forked
from likely.engine.decode.strategies import parse
from likely.engine.decode.strategy import Strategy
from likely.engine.trace.step import Recipe
from tests.engine.decode.test_beam import PROMPT, few, markov
from tests.engine.decode.test_without_replacement import chi_square_bound, plackett_luce
from tests.fakes import EOS, VOCAB

RUNS = 400


def parting() -> np.ndarray:
    """Three ways at first (1.49 bits), one way behind two of them, and two (1 bit) behind the third."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[PROMPT[-1], [97, 98, 99]] = np.log([0.5, 0.3, 0.2])
    table[97, 100] = table[98, 100] = table[100, EOS] = table[101, EOS] = 0.0
    table[99, [100, 101]] = np.log([0.5, 0.5])
    return table


def drawn(strategy: Strategy, table: np.ndarray, **more: Any) -> dict[int, list[int]]:
    """The ids of each branch."""
    found: dict[int, list[int]] = {0: []}
    recipe = more.pop("recipe", Recipe())
    for event in markov(table).generate(PROMPT, RunControl(recipe), strategy=strategy, max_tokens=8, **more):
        match event:
            case Emitted(branch, step):
                found[branch].append(step.token)
            case Forked(parent, child):
                found[child] = list(found[parent])
    return found


@pytest.mark.slow
def test_two_ways_are_drawn_without_replacement() -> None:
    want = plackett_luce(np.array([0.5, 0.3, 0.2]), 2)
    counts = dict.fromkeys(want, 0)
    for seed in range(RUNS):
        found = drawn(EntropyBranching(2, bits=1.2), parting(), seed=seed)
        counts[found[0][0] - 97, found[1][0] - 97] += 1
    chi = sum((counts[pair] - RUNS * p) ** 2 / (RUNS * p) for pair, p in want.items())
    assert chi < chi_square_bound(len(want))


def test_it_parts_where_the_entropy_is_reached_and_as_often_as_it_may() -> None:
    assert len(drawn(EntropyBranching(8, bits=1.6), parting(), seed=3)) == 1
    every = [drawn(EntropyBranching(8, bits=0.9), parting(), seed=seed) for seed in range(12)]
    assert {len(found) for found in every} == {2, 3}  # three where one of the two ways parts again
    for found in every:
        assert all(ids[-1] == EOS for ids in found.values())
        assert len({tuple(ids) for ids in found.values()}) == len(found)
    wide = drawn(EntropyBranching(5, bits=0.0), few(1), seed=2)
    assert len(wide) == 5


def test_with_a_threshold_that_nothing_reaches_it_is_sampling() -> None:
    alone = drawn(EntropyBranching(8, bits=60.0), few(4), seed=9)
    assert alone == drawn(parse("sample"), few(4), seed=9)


def test_a_greedy_recipe_goes_on_with_the_two_likeliest() -> None:
    found = drawn(EntropyBranching(2, bits=1.2), parting(), recipe=Recipe(greedy=True))
    assert found == {0: [97, 100, EOS], 1: [98, 100, EOS]}


def test_its_numbers_are_those_of_the_distribution_that_it_was_drawn_from() -> None:
    steps = [
        event.step
        for event in markov(parting()).generate(PROMPT, RunControl(), strategy=parse("entropy 2 1.2"), max_tokens=8)
        if isinstance(event, Emitted) and event.step.position == len(PROMPT)
    ]
    assert [math.exp(step.logprob or 0) for step in steps] == pytest.approx(
        [{97: 0.5, 98: 0.3, 99: 0.2}[step.token] for step in steps], abs=1e-5
    )


def test_one_branch_can_be_given_up_alone() -> None:
    def run(give_up: bool) -> list[Event]:
        control, events = RunControl(), []
        for event in markov(few(3)).generate(PROMPT, control, n=2, seed=5, max_tokens=12):
            events.append(event)
            if give_up and isinstance(event, Emitted) and event.branch == 0:
                control.given_up.add(0)
        return events

    def ids(events: list[Event], branch: int) -> list[int]:
        return [e.step.token for e in events if isinstance(e, Emitted) and e.branch == branch]

    whole, cut = run(False), run(True)
    ends = {event.branch: event.reason for event in cut if isinstance(event, Done)}
    assert ends[0] == "cancelled" and ids(cut, 0) == ids(whole, 0)[:1] and len(ids(whole, 0)) > 1
    assert ends[1] != "cancelled" and ids(cut, 1) == ids(whole, 1)


@pytest.mark.parametrize(("most", "paths"), [(1, 2), (3, 3)])  # a path parts once a token
def test_every_path_has_as_many_tokens_as_it_may(most: int, paths: int) -> None:
    session = markov(few(5), frozenset())
    events = list(session.generate(PROMPT, RunControl(), strategy=EntropyBranching(3, bits=0.0), max_tokens=most))
    counts = [sum(isinstance(e, Emitted) and e.branch == b for e in events) for b in range(paths)]
    done = {e.branch: e.reason for e in events if isinstance(e, Done)}
    assert done == dict.fromkeys(range(paths), "length") and counts[0] == most
    parted = {e.child: e.parent for e in events if isinstance(e, Forked)}
    assert sorted(parted) == [*range(1, paths)] and all(0 < count <= most for count in counts)
