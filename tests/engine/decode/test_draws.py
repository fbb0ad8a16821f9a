"""Draws, searches and walks piece by piece: keys, orders, bounds and scores by hand, on rows that are scripted."""

import math
from collections import Counter, deque
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.decode import sampler as sampler_module
from engine.decode.batch import BatchSlot
from engine.decode.beam import GNMT, Beam, DiverseBeam
from engine.decode.branches import Branches
from engine.decode.control import RunControl
from engine.decode.entropy_branching import EntropyBranching, _rest
from engine.decode.events import Emitted, Forked, Prefilled, Pruned, Rated, Revised, Stats
from engine.decode.exact import Beginning, Children, go
from engine.decode.infill import Holes, Infill
from engine.decode.kernel_draw import _nucleus, cuts, places
from engine.decode.lockstep import _line, _told
from engine.decode.power import Power, Walk, effective
from engine.decode.sampler import Draw, Sampler
from engine.decode.search import Group, NextTokens, SearchNode, Text, searching
from engine.decode.stochastic_beam import StochasticBeam, below, expected, inclusion
from engine.errors import NotFinite, ParameterError
from engine.pace import whole
from engine.trace.trace import Recipe
from engine.transforms import (
    DRY,
    STAYS,
    LogitBias,
    MinP,
    MirostatV2,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    draw,
    run,
    start,
)
from metal import mx
from tests.fakes import EOS, ByteTokenizer, FakeCache, MarkovModel, random_table

TABLE = random_table(11, 1.0)


def at(ids: list[int], rows: int = 1) -> Branches:
    model = MarkovModel(TABLE)
    place = Branches(model, model.make_cache())  # type: ignore[arg-type]
    list(place.read(ids))
    place.select([0] * rows)
    return place


def logp(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    found: np.ndarray = x - np.logaddexp.reduce(x, axis=-1, keepdims=True)
    return found


# -- a sampler ---------------------------------------------------------------------------------------------------------


def test_branch_b_draws_with_the_key_of_its_number_and_position() -> None:
    place = at([1, 2, 3], 3)
    by = Sampler.start(Recipe((Temperature(0.5),)), place.ids, seed=7, xp=np)
    drawn = by.draw(place)
    want = [int(draw((TABLE[3] / 0.5).astype(np.float32), (7 + b, 3), np)) for b in range(3)]
    assert [d.token for d in drawn] == want and [d.key for d in drawn] == [(7, 3), (8, 3), (9, 3)]
    assert all(d.origin == "drawn" and not d.spilled and d.recipe is by.recipe for d in drawn)
    forced = by.draw(place, 9)
    assert [(d.token, d.origin) for d in forced] == [(9, "forced")] * 3 and by.redraw(forced) == forced
    alone = by.choose(TABLE[3].astype(np.float32), 3)
    assert alone.token == want[0] and by.choose(TABLE[3].astype(np.float32), 3, 4).token == 4
    greedy = Sampler.start(Recipe(greedy=True), [[1]], xp=np).choose(TABLE[3].astype(np.float32), 0)
    assert greedy.token == TABLE[3].argmax()
    on_mlx = Sampler.start(Recipe(), place.ids, seed=7, xp=mx)
    same = on_mlx.draw(place)
    assert [int(d.token) for d in same] == [int(draw(TABLE[3].astype(np.float32), (7 + b, 3), np)) for b in range(3)]
    assert (
        on_mlx.on_host(place.ids).xp is np and by.on_host(place.ids) is by and Sampler.start(Recipe(), [[1]]).seed == 0
    )
    with pytest.raises(NotFinite):
        by.choose(np.array([np.nan, 1.0], np.float32), 0)
    assert len(same[0].arrays) == 4 and same[0].arrays[1] is same[0].logits


def test_a_step_has_the_last_tokens_in_its_snapshot() -> None:
    ids = list(range(80))
    by = Sampler.start(Recipe((LogitBias({250: 1.0}),)), [ids], xp=np)
    raw = -np.arange(600, dtype=np.float32) / 10
    step = by.choose(raw, 80).step([*range(300, 380)])
    assert step.snapshot is not None and step.position == 80
    kept = set(step.snapshot.ids.tolist())
    assert {*range(256), *range(316, 380)} <= kept and not kept & set(range(256, 316)) - {step.token}
    plain = Sampler.start(Recipe(), [ids], xp=np).choose(raw, 80)
    assert plain.after is plain.logits and plain.step([1]).logprob == plain.step([1]).logprob_after


def test_a_sampler_goes_on_with_what_its_transforms_remember() -> None:
    by = Sampler.start(Recipe((RepetitionPenalty(2.0, 3), MirostatV2(3.0))), [[1, 2], [5]], seed=1, xp=np)
    drawn = [by.choose(TABLE[0].astype(np.float32), 2, token) for token in (7, 8)]
    then = by.advance([replace(d, states=s) for d, s in zip(drawn, by.states, strict=True)])
    assert [s[0].tolist() for s in then.states] == [[1, 2, 7], [5, 8]] and by.states[0][0].tolist() == [1, 2]
    assert then.states[0][1] != 6.0 and then.select([1, 1]).states == (then.states[1], then.states[1])
    control = RunControl(by.recipe)
    assert by.follow(control, [[1], [2]]) is by
    control.recipe = Recipe(by.recipe.transforms, greedy=True)
    assert by.follow(control, [[1], [2]]) == replace(by, recipe=control.recipe)
    control.recipe = Recipe((MirostatV2(3.0), RepetitionPenalty(1.5, 2)))
    changed = then.follow(control, [[1, 2, 7], [5, 8]])
    assert changed.states[0][0] is then.states[0][1] and changed.states[0][1].tolist() == [2, 7]
    control.adapters = ("a=1",)
    assert by.follow(control, [[1], [2]]).recipe.adapters == ("a=1",)
    assert by.ahead(drawn, RunControl(by.recipe)) is None  # known tokens are none in flight
    flying = Sampler.start(Recipe((Temperature(0.5),)), [[1]], xp=mx)
    (one,) = flying.draw(at([1]))
    assert flying.ahead([one], RunControl(flying.recipe)) is not None and flying.ahead([one], RunControl()) is None
    dry = Sampler.start(Recipe((DRY(1.0),)), [[1]], xp=mx)
    assert dry.ahead([one], RunControl(dry.recipe)) is None
    assert searching(by) is by
    eager = replace(by, recipe=replace(by.recipe, greedy=True))
    assert searching(eager).recipe == by.recipe and sampler_module.namespace() is np


def test_a_control_is_read_between_tokens() -> None:
    control = RunControl()
    control.force([1, 2])
    assert control.take_forced() == 1
    control.put_back(1)
    assert [control.take_forced() for _ in range(3)] == [1, 2, None]
    assert control.drawn_by is control.recipe and not control.paused
    control.pause(True)
    assert control.paused
    control.pause(False)
    assert not control.paused
    control.pause(True)
    control.cancel()
    assert control.cancelled and not control.paused
    stats = Stats(5, 2, 11, 1.0, 2.0)
    assert (
        stats.tokens_per_s == 5.0
        and replace(stats, tokens=1).tokens_per_s == 0
        and replace(stats, tokens=2).tokens_per_s == 0.5
    )
    assert replace(stats, decode_s=0.0).tokens_per_s == 0 and replace(stats, tokens=0).tokens_per_s == 0


def test_a_slot_takes_what_is_forced_and_keeps_its_own_trouble() -> None:
    by = Sampler.start(Recipe(), [[1, 2]], seed=3, xp=np)
    slot = BatchSlot(4, [1, 2], by, RunControl(), deque([9]))
    row = TABLE[2].astype(np.float32)
    slot.logits = row
    slot.draw()
    assert slot.token == 9 and not slot.forced and slot.drawn[0].origin == "forced" and slot.drawn[0].position == 2
    slot.ids.append(9)
    slot.logits = row
    slot.draw()
    assert slot.token == int(draw(row, (3, 3), np)) and len(slot.drawn) == 2 and slot.error is None
    slot.logits = np.full(3, np.nan, np.float32)
    slot.draw()
    assert isinstance(slot.error, NotFinite) and len(slot.drawn) == 2


# -- searches ----------------------------------------------------------------------------------------------------------


def node(total: float, row: int = 0, token: int = 5) -> SearchNode:
    return SearchNode(total, total, row, token)


def test_texts_are_scored_by_their_length() -> None:
    assert Beam(penalty=1.0).score(node(-6.0), 3) == -2.0 and Beam(penalty=0.0).score(node(-6.0), 3) == -6.0
    assert Beam(penalty=2.0).score(node(-6.0), 2) == -1.5 and GNMT(penalty=1.0).score(node(-6.0), 7) == -3.0
    assert GNMT(penalty=0.5).score(node(-4.0), 19) == -2.0 and StochasticBeam().score(node(-6.0), 3) == -6.0


def group(*ended: float, nodes: tuple[float, ...] = (-2.0,), beams: int = 2) -> Group:
    return Group(beams, [node(n) for n in nodes], [Text(node(s), 1, s, None) for s in ended])


def test_a_search_is_over_as_its_rule_says() -> None:
    """The best beginning, of 4 tokens, has -2: -0.5 a token now, -0.2 at the longest."""
    for early, ended, over in (
        ("false", (-0.1, -0.4), True),
        ("false", (-0.1, -0.5), True),
        ("false", (-0.1, -0.6), False),
        ("false", (-0.1,), False),
        ("true", (-0.1, -9.0), True),
        ("true", (-0.1,), False),
        ("never", (-0.1, -0.2), True),
        ("never", (-0.1, -0.3), False),
    ):
        assert Beam(2, early=early).settled(group(*ended), 4, 10) == over, (early, ended)
    assert not Beam(2, early="true").settled(group(-0.1, -0.2, nodes=()), 4, 10)
    assert Beam(2, penalty=0.0, early="never").settled(group(-0.1, -2.0), 4, 10) and not Beam(
        2, penalty=0.0, early="never"
    ).settled(group(-0.1, -2.1), 4, 10)
    assert not StochasticBeam(2).settled(group(-0.1, -0.2), 4, 10)


def test_ends_of_text_count_among_the_best_alone() -> None:
    nodes = [node(-1.0, token=1), node(-2.0, token=2), node(-3.0, token=3), node(-4.0, token=4)]
    held = group()
    assert Beam(2).sift(held, nodes, [False, True, False, False]) == [nodes[1]] and held.nodes == [nodes[0], nodes[2]]
    assert Beam(2).sift(held, nodes, [False, False, True, False]) == [] and held.nodes == nodes[:2]
    assert Beam(2).sift(held, nodes, [True, True, True, True]) == nodes[:2] and held.nodes == []
    stochastic = group(-1.5, nodes=())
    assert StochasticBeam(2).sift(stochastic, nodes, [False, True, False, False]) == []
    assert stochastic.nodes == [nodes[0]] and stochastic.beyond == -2.0 and StochasticBeam(2).room(stochastic) == 1
    more = group(nodes=())
    assert (
        StochasticBeam(2).sift(more, nodes[:2], [True, False]) == [nodes[0]]
        and more.beyond == -math.inf
        and more.nodes == [nodes[1]]
    )
    StochasticBeam(2).dropped(more, 1)
    assert more.beams == 1 and StochasticBeam(3).figures(node(-2.0), -1.0) == {"score": -1.0, "perturbed": -2.0}
    told = StochasticBeam(2).verdict(replace(more, beyond=-3.0), Text(SearchNode(-1.0, -2.5, 0, 5), 1, -1.0, None))
    assert told == {"score": -1.0, "perturbed": -1.0, "inclusion": pytest.approx(1 - math.exp(-math.exp(0.5)))}


def test_children_are_the_best_of_all_beams() -> None:
    place = at([1, 2], 2)
    place.feed([3, 4])
    place.settle([3, 4])
    by = Sampler.start(Recipe(), place.ids, xp=np)
    found = NextTokens.at(place, by)
    assert (
        found.keys == [(0, 3), (1, 3)]
        and len(found.rows(1, 1)) == 1
        and [r.tolist() for r in found.removed_by] == [[STAYS] * 258] * 2
    )
    rows = logp(TABLE[[3, 4]].astype(np.float32))
    held = Group(2, [SearchNode(-1.0, -1.0, 0, 3), SearchNode(-2.5, -2.5, 1, 4)])
    totals = rows + np.array([[-1.0], [-2.5]])
    order = [divmod(int(i), 258) for i in np.argsort(-totals, axis=None, kind="stable")]
    for ends, count in ((0, 4), (1, 4), (2, 6)):
        got = Beam(2).children(held, found, ends, Counter())
        assert [(n.row, n.token) for n in got] == order[:count]
        assert [n.total for n in got] == pytest.approx([totals[r, t] for r, t in order[:count]], abs=1e-4)
        assert all(n.order == n.total for n in got)
    first = order[0][1]
    repelled = totals.copy()
    repelled[:, first] -= 2 * 0.75
    again = [divmod(int(i), 258) for i in np.argsort(-repelled, axis=None, kind="stable")][:4]
    others = Counter({first: 2})
    assert [(n.row, n.token) for n in DiverseBeam(2, apart=2, diversity=0.75).children(held, found, 0, others)] == again
    assert [g.beams for g in DiverseBeam(6, apart=3).groups()] == [2, 2, 2] and [g.beams for g in Beam(3).groups()] == [
        3
    ]
    cut = NextTokens.at(place, Sampler.start(Recipe((TopK(1),)), place.ids, xp=np))
    assert len(Beam(2).children(held, cut, 0, Counter())) == 2 and (np.isfinite(cut.rows(0, 2)).sum(axis=1) == 1).all()
    drawn = found.draw(SearchNode(0.0, 0.0, 1, 9), "forced")
    assert (drawn.token, drawn.origin, drawn.key) == (9, "forced", (1, 3)) and np.allclose(
        drawn.logits, rows[1], atol=1e-5
    )


def test_gumbel_sums_under_their_largest() -> None:
    """Appendix B.3 against the formula itself, in float64 where that keeps its digits."""
    sums = np.array([0.5, -1.0, 2.0, -3.0, 1.9])
    for largest in (-2.0, 0.0, 3.0):
        z = sums.max()
        want = -np.log(np.exp(-largest) - np.exp(-z) + np.exp(-sums))
        np.testing.assert_allclose(below(largest, sums), want, rtol=1e-9)
    assert below(1.0, np.array([5.0]))[0] == pytest.approx(1.0) and below(1.0, np.array([5.0, -np.inf]))[1] == -np.inf
    for logprob, threshold in ((-1.0, -2.0), (-5.0, 1.0), (-0.1, -0.1)):
        assert inclusion(logprob, threshold) == pytest.approx(1 - math.exp(-math.exp(logprob - threshold)))
    assert (
        inclusion(-1.0, -math.inf) == 1.0
        and inclusion(-800.0, 0.0) == 0.0
        and inclusion(-20.0, 0.0) == pytest.approx(math.exp(-20), rel=1e-6)
    )
    mean, error = expected([1.0, 3.0], [math.log(0.5), math.log(0.2)], [0.8, 0.4])
    assert mean == pytest.approx(0.5 / 0.8 + 3 * 0.2 / 0.4) and error == pytest.approx(
        math.sqrt(0.2 * 0.625**2 + 0.6 * 1.5**2)
    )


def test_bounds_and_ways_of_a_best_first_search() -> None:
    children = Children(Beginning((1,), -1.5, ()), np.array([4, 5]), np.array([-0.5, -2.0]), 0.0)
    assert children.bound(0) == -2.0 and children.bound(1) == -3.5
    place = at([1, 2])
    model: Any = place.model
    for path, read in (((3, 4), 2), ((3, 4), 0), ((3,), 0), ((3, 5, 6), 2), ((), 0), ((7,), 1)):
        before = model.read
        go(place, 2, path)
        assert place.ids == [[1, 2, *path]] and model.read - before == read

    class Stuck(FakeCache):
        room = 0  # type: ignore[assignment]

    place.cache = Stuck(place.length)  # type: ignore[assignment]
    go(place, 2, (7,))
    with pytest.raises(ParameterError, match="cannot go back so far"):
        go(place, 2, (8,))


# -- walks -------------------------------------------------------------------------------------------------------------


class Scripted:
    """A generator whose numbers are known."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)


def test_a_walk_draws_from_sharpened_tokens() -> None:
    place = at([1, 2])
    by = Sampler.start(Recipe(), place.ids, vocabulary=ByteTokenizer(), xp=np)
    walk = Walk(place, 2, 2.0, [by])
    assert not walk.over and whole(walk.draw(Scripted(0.3, 0.9), 2)) == 2  # type: ignore[arg-type]
    last, tokens = 2, []
    for share in (0.3, 0.9):
        row = logp(TABLE[last].astype(np.float32))
        sharp = logp(2 * row)
        last = int(np.searchsorted(np.cumsum(np.exp(sharp)), share, side="right"))
        tokens.append(last)
        assert walk.p[len(tokens) - 1] == pytest.approx(row[last], abs=1e-5) and walk.q[
            len(tokens) - 1
        ] == pytest.approx(sharp[last], abs=1e-5)
    assert walk.tokens == tokens and len(walk.samplers) == 3
    assert (
        walk.merit == pytest.approx(2.0 * sum(walk.p) - sum(walk.q) - math.log(2))
        and whole(walk.draw(Scripted(), 2)) == 0
    )  # type: ignore[arg-type]
    short = walk.cut(1)
    assert (
        short.tokens == tokens[:1]
        and short.p == walk.p[:1]
        and short.q == walk.q[:1]
        and len(short.samplers) == 2
        and short.place is not place
    )
    assert short.alpha == 2.0 and short.start == 2
    walk.tokens[-1] = EOS
    assert (
        walk.over
        and whole(walk.draw(Scripted(), 9)) == 0
        and not Walk(place, 2, 2.0, [replace(by, vocabulary=None)], [EOS]).over
    )  # type: ignore[arg-type]


def test_how_many_draws_a_chain_is_worth() -> None:
    assert effective([1.0]) == 1.0 and effective([2.0, 2.0, 2.0]) == 1.0
    for values in ([0.0, 1.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]):
        x = np.array(values) - np.mean(values)
        n, variance = len(x), (x @ x) / len(x)
        rho = [sum(x[i] * x[i + k] for i in range(n - k)) / n / variance for k in range(n)]
        total = -1.0
        for k in range(0, n - 1, 2):
            if rho[k] + rho[k + 1] <= 0:
                break
            total += 2 * (rho[k] + rho[k + 1])
        assert effective(values) == pytest.approx(n / max(total, 1.0))
    assert Power(2.5).words == "p to the power of 2.5" and Power() == Power(4.0, 10, 32)


def test_a_hole_is_drawn_by_the_running_mass() -> None:
    asked: list[Any] = []
    p = np.array([0.2, 0.5, 0.3])

    class Says:
        def logits_after(self, ids: list[int]) -> np.ndarray:
            asked.append(tuple(ids))
            return np.log(p)

        def score(self, ids: list[int], *, start: int) -> list[Any]:
            return [
                SimpleNamespace(logprob=None if at == start and ids[0] == 7 else -float(at))
                for at in range(start, len(ids))
            ]

    holes = Holes(Says(), (0, 9, 1, 9), 9, Recipe())  # type: ignore[arg-type]
    assert holes.free == (1, 3)
    for shares, want in (((0.1, 0.9), (0, 0, 1, 2)), ((0.2, 0.69), (0, 1, 1, 1)), ((0.71, 0.0), (0, 2, 1, 0))):
        found = holes._draw(holes.canvas, 1, Scripted(*shares))  # type: ignore[arg-type]
        assert found == Infill(want, 1, (-1.0, -2.0, -3.0)) and found.total == -6.0 and found.of_given((1, 3)) == -2.0
    assert asked[:2] == [(0,), (0, 0, 1)]
    assert holes._draw((0, 2, 1, 2), 3, Scripted(0.1)).ids == (0, 2, 1, 0)  # type: ignore[arg-type]
    first = Holes(Says(), (7, 9), 9, Recipe())._draw((7, 9), 1, Scripted(0.1))  # type: ignore[arg-type]
    assert first.total == -math.inf


def test_the_widest_distributions_part_first_and_what_is_left_has_lost_its_token() -> None:
    steps: Any = [SimpleNamespace(entropy=e) for e in (1.0, None, 2.0, 2.0 * math.log(2), 3.0)]
    assert EntropyBranching(8, bits=2.0)._wide(steps) == [4, 2, 3] and EntropyBranching(8, bits=0.0)._wide(steps) == [
        4,
        2,
        3,
        0,
        1,
    ]
    by = Sampler.start(Recipe((TopK(2),)), [[1]], seed=1, xp=np)
    row = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    one = by.choose(row, 0, 0)
    assert np.isfinite(_rest(one)).tolist() == [False, True, False]  # type: ignore[arg-type]
    greedy = replace(by, recipe=Recipe((TopK(2),), greedy=True)).choose(row, 0)
    left = _rest(greedy)
    assert greedy.token == 0 and left is not None and np.isneginf(left[0]) and np.isfinite(left[1])
    lone = Sampler.start(Recipe((TopK(1),)), [[1]], xp=np).choose(row, 0, 0)
    assert _rest(lone) is None


# -- the kernel's numbers ----------------------------------------------------------------------------------------------


def test_who_removed_a_token_is_known_from_the_best_alone() -> None:
    """Against the transforms run over the whole row."""
    rng = np.random.default_rng(6)
    for recipe in (
        Recipe((TopK(5),)),
        Recipe((TopP(0.7), MinP(0.1), Temperature(0.8))),
        Recipe((Temperature(0.7), TopK(12), TopP(0.9))),
        Recipe((Temperature(1.5), MinP(0.2))),
        Recipe((TopK(40), TopP(0.7), MinP(0.1), Temperature(0.6))),
        Recipe((TopP(0.9), TopK(3))),
        Recipe(greedy=True),
        Recipe((Temperature(0.5), TopP(0.9)), greedy=True),
    ):
        raw = rng.normal(size=60).astype(np.float32) * 2
        raw[7] = -np.inf
        states = start(recipe.transforms, None, [], np)
        after, removed = run(recipe.transforms, raw, states, (0, 0), np, greedy=recipe.greedy)
        order = np.argsort(-raw, kind="stable")
        best = raw[order][:59]
        sharp = next((1 / t.temperature for t in recipe.transforms if isinstance(t, Temperature)), 1.0)
        lse, tempered = (float(np.logaddexp.reduce(best.astype(np.float64) * s)) for s in (1.0, sharp))
        got = cuts(
            recipe, best, np.arange(60), lse=lse, lse_tempered=tempered, kept=int(np.isfinite(after).sum()), possible=59
        )
        want = removed[order]
        assert got is not None and got[:59].tolist() == want[:59].tolist(), recipe
    few = cuts(Recipe((TopK(5),)), np.arange(4, 0, -1.0), np.arange(4), lse=5.0, lse_tempered=5.0, kept=5, possible=60)
    assert few is None
    whole = cuts(Recipe((TopK(9),)), np.arange(4, 0, -1.0), np.arange(6), lse=5.0, lse_tempered=5.0, kept=4, possible=4)
    assert whole is not None and whole.tolist() == [STAYS] * 4 + [0, 0]


def test_places_and_nuclei() -> None:
    best = np.array([5.0, 4.0, 4.0, 1.0])
    assert places(np.array([5.0, 4.0, 4.0, 1.0, 4.5, 1.0, 0.5, -np.inf]), best).tolist() == [0, 1, 2, 3, 1, 3, 4, 4]
    p = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    for share, count in ((0.1, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.95, 4)):
        assert _nucleus(p, share, None) == count == _nucleus(p, share, 1.0)
    assert (
        _nucleus(np.log(np.array([0.4, 0.2, 0.2, 0.2])), 0.5, None) == 4 and _nucleus(p - math.log(2), 0.5, None) == 2
    )
    even = np.full(3000, -math.log(3000.0))
    assert _nucleus(even - np.arange(3000) * 1e-9, 0.5, 1.0) == pytest.approx(1500, abs=2)


def test_what_ranks_say_of_an_event() -> None:
    step: Any = SimpleNamespace(token=7, position=4)
    assert (
        _told(Emitted(2, step)) == [2, 7]
        and _told(Revised(1, 3, step)) == [1, 3, 7]
        and _told(Forked(0, 2)) == [0, 2]
        and _told(Pruned(3)) == [3]
    )
    with pytest.raises(TypeError, match="a strategy gives no Prefilled"):
        _told(Prefilled(1, 2))
    assert _line(Emitted(0, step), [0, 7], [0, 9]).startswith("position 4: token 7 was drawn here and 9 on rank 0")
    assert _line(Emitted(2, step), [2, 7], [2, 9]).startswith("position 4 of branch 2: token 7")
    assert _line(Emitted(2, step), [2, 7], [3, 7]).startswith(
        "Emitted [2, 7] came of the run here and [3, 7] on rank 0"
    )
    assert _line(Emitted(2, step), [2, 7], [2]).startswith("Emitted") and _line(Rated(1, {}), [1], [2]).startswith(
        "Rated [1]"
    )
    assert isinstance(Draw(1, None, None, None, Recipe(), (), (0, 0), "drawn").arrays, list)
