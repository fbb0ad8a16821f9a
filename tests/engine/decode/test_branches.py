"""Places in the tree by scripted models: what one says, where it goes back to, and pairs of them, against tables."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.decode import branches as branches_module
from engine.decode.branches import Branches
from engine.decode.control import RunControl
from engine.decode.depths import Depths, read_again
from engine.decode.draft import NOTHING, Draft, Guess, PromptLookup
from engine.decode.draft_length import DraftLength
from engine.decode.events import Forked, Pruned, Waiting
from engine.decode.pair import PairedBranches, contrasted, guided, plausible, second
from engine.decode.sampler import Sampler
from engine.decode.speculative import Speculative, fit, reject, verify
from engine.errors import ContextOverflow, ParameterError
from engine.trace.trace import Recipe
from engine.transforms import Temperature, TopK, draw, uniform
from metal import mx
from tests.fakes import VOCAB, FakeCache, MarkovModel, random_table


def logp(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    found: np.ndarray = x - np.logaddexp.reduce(x, axis=-1, keepdims=True)
    return found


def at(model: Any, ids: list[int]) -> Branches:
    place = Branches(model, model.make_cache())
    for _ in place.read(ids):
        pass
    return place


TABLE = random_table(3, 1.0)


# -- one place or several ----------------------------------------------------------------------------------------------


def test_a_text_is_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches_module, "CHUNK", 4)
    for ahead, told in ((False, [4, 8, 9]), (True, [0, 4, 8, 9])):
        monkeypatch.setattr(branches_module, "ahead", lambda ahead=ahead: ahead)
        place = Branches(MarkovModel(TABLE), FakeCache())  # type: ignore[arg-type]
        assert list(place.read(list(range(9)))) == told and place.ids == [list(range(9))] and place.length == 9
        assert list(place.read([7])) == [1] and place.length == 10
        assert list(place.read([])) == [] and place.cache.expected == 10
    monkeypatch.setattr(branches_module, "ahead", lambda: True)
    stopped = Branches(MarkovModel(TABLE), FakeCache())  # type: ignore[arg-type]
    reading = stopped.read(list(range(9)))
    assert next(reading) == 0 and stopped.ids == [list(range(4))]  # a chunk is in flight, and none has been read
    assert next(reading) == 4 and stopped.ids == [list(range(8))] and list(reading) == [8, 9]


def test_a_wide_memory_reads_wide_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory, size in ((16 << 30, 2048), ((16 << 30) - 1, 512), (0, 512)):
        monkeypatch.setattr(branches_module, "device", lambda memory=memory: SimpleNamespace(memory=memory))
        assert branches_module.chunk() == size


def test_no_more_is_read_than_there_are_positions() -> None:
    place = at(MarkovModel(TABLE, context=5), [1, 2, 3])
    with pytest.raises(ContextOverflow, match="the text has 6 tokens and this model reads at most 5"):
        list(place.read([4, 5, 6]))
    assert place.length == 3 and list(place.read([4, 5])) == [2]


def test_logits_of_every_position_can_be_had_again() -> None:
    place = at(MarkovModel(TABLE), [5, 6, 7])
    list(place.read([8, 9]))
    ids = [5, 6, 7, 8, 9]
    np.testing.assert_allclose(np.array(place.logits_at(0, 5))[0], TABLE[ids], rtol=1e-6)
    for start, end in ((0, 1), (2, 4), (4, 5), (3, 5), (1, 3)):
        np.testing.assert_allclose(np.array(place.logits_at(start, end))[0], TABLE[ids[start:end]], rtol=1e-6)
    np.testing.assert_allclose(np.array(place.logits())[0], TABLE[9], rtol=1e-6)
    place.feed([[1, 2]])
    np.testing.assert_allclose(np.array(place.last_logits(2))[0], TABLE[[1, 2]], rtol=1e-6)
    scores = np.array(place.score())[0]
    np.testing.assert_allclose(scores, [logp(TABLE[a])[b] for a, b in itertools.pairwise(ids)], rtol=1e-4)
    np.testing.assert_allclose(np.array(place.score(2, 4))[0], scores[1:3], rtol=1e-5)
    assert place.score(0, 1).shape == (1, 0) and np.array(place.score(0, 2)).shape == (1, 1)


def test_scores_are_those_of_all_positions_however_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(0, VOCAB, 30).tolist()
    place = at(MarkovModel(TABLE), ids)
    want = [logp(TABLE[a])[b] for a, b in itertools.pairwise(ids)]
    for size in (1, 7, 64):
        monkeypatch.setattr(branches_module, "SCORED_AT_ONCE", size)
        np.testing.assert_allclose(np.array(place.score())[0], want, rtol=1e-4)


def test_going_back_forgets_what_stood_behind() -> None:
    place = at(MarkovModel(TABLE), [5, 6, 7])
    for token in (8, 9):
        place.feed([token])
        place.settle([token])
    for length in (5, 6, 4, 2, 2, 0):
        place.rewind(length)
        kept = min(length, 5)
        assert place.length == place.cache.length == kept and place.ids == [[5, 6, 7, 8, 9][:kept]]
        if kept:
            np.testing.assert_allclose(np.array(place.logits())[0], TABLE[place.ids[0][-1]], rtol=1e-6)
            np.testing.assert_allclose(np.array(place.logits_at(0, kept))[0], TABLE[place.ids[0]], rtol=1e-6)
    assert place.straight


def test_what_was_read_in_one_go_is_straight() -> None:
    place = Branches(MarkovModel(TABLE), FakeCache())  # type: ignore[arg-type]
    assert place.straight
    list(place.read([1, 2, 3]))
    assert place.straight and place.fork().straight
    place.rewind(3)
    assert place.straight
    place.rewind(2)
    assert not place.straight and not place.fork().straight
    place.rewind(0)
    list(place.read([1]))
    assert place.straight
    place.feed([4])
    assert not place.straight


def test_branches_keep_their_numbers_and_new_ones_have_new() -> None:
    place = at(MarkovModel(TABLE), [1, 2])
    place.select([0])
    assert place.numbers == [0] and place.trunk is None
    assert list(place.part([0, 0, 0])) == [Forked(0, 1), Forked(0, 2)] and place.numbers == [0, 1, 2]
    trunk = place.trunk
    assert trunk is not None and trunk.ids == [[1, 2]] and len(trunk) == 1 and len(place) == 3
    place.feed([3, 4, 5])
    place.settle([3, 4, 5])
    np.testing.assert_allclose(np.array(place.logits()), TABLE[[3, 4, 5]], rtol=1e-6)
    assert list(place.part([2, 1, 1])) == [Forked(1, 3), Pruned(0)] and place.numbers == [2, 1, 3]
    assert place.ids == [[1, 2, 5], [1, 2, 4], [1, 2, 4]] and place.trunk is trunk
    np.testing.assert_allclose(np.array(place.logits()), TABLE[[5, 4, 4]], rtol=1e-6)
    np.testing.assert_allclose(np.array(place.logits_at(0, 3)), TABLE[[[1, 2, 5], [1, 2, 4], [1, 2, 4]]], rtol=1e-6)
    assert place.name() == 4 and place.name() == 5
    place.feed([[6, 7], [8, 9], [10, 11]])
    np.testing.assert_allclose(np.array(place.last_logits(1))[:, 0], TABLE[[7, 9, 11]], rtol=1e-6)
    mixed = place.fork()
    mixed.feed([7, mx.array(8), 9])
    np.testing.assert_allclose(np.array(mixed.logits()), TABLE[[7, 8, 9]], rtol=1e-6)
    twin = place.fork()
    assert twin.numbers == [2, 1, 3] and twin.name() == 6 and place.name() == 6 and twin.ids == place.ids
    place.select([0])
    assert twin.ids[1] == [1, 2, 4] and list(place.part([0, 0])) == [Forked(2, 7)]


def test_a_place_can_stand_behind_what_was_fed_elsewhere() -> None:
    place, model = at(MarkovModel(TABLE), [1, 2]), MarkovModel(TABLE)
    other = FakeCache(4)
    place.moved(other, [3, 4], model.hidden(mx.array([[3, 4]]), FakeCache()))  # type: ignore[arg-type]
    assert place.ids == [[1, 2, 3, 4]] and place.length == 4 and place.cache is other and not place.straight
    np.testing.assert_allclose(np.array(place.logits())[0], TABLE[4], rtol=1e-6)
    fresh = Branches(model, FakeCache(2))  # type: ignore[arg-type]
    fresh.resume([7, 8], model.hidden(mx.array([[7, 8]]), FakeCache())[0])  # type: ignore[arg-type]
    assert fresh.ids == [[7, 8]] and fresh.length == 2
    np.testing.assert_allclose(np.array(fresh.logits_at(0, 2))[0], TABLE[[7, 8]], rtol=1e-6)


class Turning(MarkovModel):
    """Keys of texts of more than four tokens are turned otherwise."""

    def crosses(self, cache: FakeCache, length: int) -> bool:
        return cache.length <= 4 < length and cache.length > 0


def test_what_was_turned_for_a_shorter_text_is_read_again() -> None:
    model = Turning(TABLE)
    place = at(model, [1, 2, 3])
    assert list(place.read([4, 5])) == [2] and place.ids == [[1, 2, 3, 4, 5]] and model.read == 3 + 5
    again = Turning(TABLE)
    place = at(again, [1, 2, 3, 4])
    place.feed([5])
    assert again.read == 4 + 4 + 1 and place.ids == [[1, 2, 3, 4]] and place.length == 5 and place.cache.expected == 5
    near = Turning(TABLE)
    at(near, [1, 2, 3]).feed([4])
    assert near.read == 4


def test_a_cache_goes_back_as_far_as_it_has_room() -> None:
    place = at(MarkovModel(TABLE), [1, 2, 3, 4])

    class Short(FakeCache):
        room = 2  # type: ignore[assignment]

    place.cache = Short(4)  # type: ignore[assignment]
    assert [place.reaches(n) for n in range(6)] == [False, False, True, True, True, True]


# -- two places --------------------------------------------------------------------------------------------------------


def test_formulas_of_two_distributions() -> None:
    a, b = (logp(random_table(seed, 2.0, 6)[:4].reshape(2, 2, 6)) for seed in (1, 2))
    x, y = (mx.array(z.astype(np.float32)) for z in (a, b))
    for least in (0.05, 0.5, 1.0):
        want = a >= a.max(axis=-1, keepdims=True) + np.log(least)
        assert np.array_equal(np.array(plausible(x, least)), want)
        found = np.array(contrasted(0.7, least)(x, y))
        np.testing.assert_allclose(found, np.where(want, 1.7 * a - 0.7 * b, -np.inf), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.array(guided(2.5)(x, y)), b + 2.5 * (a - b), rtol=1e-4, atol=1e-5)
    holes = mx.array([[-np.inf, -1.0, -2.0]])
    other = mx.array([[-1.0, -np.inf, -0.5]])
    assert np.array(guided(2.0)(holes, other))[0].tolist() == [-np.inf, -1.0, -3.5]


def paired() -> PairedBranches:
    """Behind `1 2 3` and `9`: both as their own last token has it."""
    other = MarkovModel(random_table(4, 1.0), context=9)
    return PairedBranches(at(MarkovModel(TABLE), [1, 2, 3]), at(other, [9]), guided(2.0))  # type: ignore[arg-type]


def combined(first: list[int], then: list[int]) -> np.ndarray:
    a, b = logp(TABLE[first]), logp(random_table(4, 1.0)[then])
    found: np.ndarray = b + 2.0 * (a - b)
    return found


def test_a_pair_goes_on_and_back_together() -> None:
    pair = paired()
    close = {"rtol": 1e-4, "atol": 1e-5}
    assert len(pair) == 1 and pair.length == 3 and pair.ids == [[1, 2, 3]]
    np.testing.assert_allclose(np.array(pair.logits()), combined([3], [9]), **close)
    assert pair.logits() is pair.logits()
    pair.feed([4])
    pair.settle([4])
    np.testing.assert_allclose(np.array(pair.logits()), combined([4], [4]), **close)
    np.testing.assert_allclose(np.array(pair.logits_at(2, 4))[0], combined([3, 4], [9, 4]), **close)
    assert pair.other.ids == [[9, 4]] and pair.first.ids == [[1, 2, 3, 4]]
    twin = pair.fork()
    twin.select([0, 0])
    twin.feed([5, 6])
    np.testing.assert_allclose(np.array(twin.logits()), combined([5, 6], [5, 6]), **close)
    assert len(twin) == 2 and len(pair) == 1 and twin.numbers == [0, 1] and twin.name() == 2
    twin.select([1])
    np.testing.assert_allclose(np.array(twin.logits()), combined([6], [6]), **close)
    pair.rewind(3)
    assert pair.length == 3 and pair.other.length == 1
    np.testing.assert_allclose(np.array(pair.logits()), combined([3], [9]), **close)
    assert pair.reaches(3) and pair.reaches(2)
    for _ in range(8):
        pair.feed([1])
    with pytest.raises(ContextOverflow, match="no room for more than 9 tokens"):
        pair.feed([1])
    with pytest.raises(NotImplementedError):
        pair.read([1])


def test_a_second_model_stands_as_often_as_the_first() -> None:
    reading = second(MarkovModel(TABLE), [4, 9], 2)  # type: ignore[arg-type]
    assert next(reading) == Waiting(), "others have a turn while it reads"
    with pytest.raises(StopIteration) as end:
        next(reading)
    twice: Branches = end.value.value
    assert twice.ids == [[4, 9], [4, 9]] and np.array(twice.logits()).shape == (2, VOCAB)


def test_a_pair_reaches_where_both_do() -> None:
    class Short(FakeCache):
        room = 1  # type: ignore[assignment]

    for name in ("first", "other"):
        pair = paired()
        pair.feed([4])
        pair.feed([5])
        getattr(pair, name).cache = Short(5)
        assert [pair.reaches(n) for n in (5, 4, 3)] == [True, True, False]


def test_layers_below_are_every_second_one() -> None:
    model: Any = SimpleNamespace(config=SimpleNamespace(layers=6), name="m")
    for below, layers in ((0, (0, 2)), (1, (0,)), (2, (0,)), (3, (0, 2)), (5, (0, 2, 4)), (6, (0, 2, 4))):
        found = Depths.of(model, below, 0.25)
        assert found.layers == layers and found.least == 0.25 and found.name == "m"
    assert Depths.of(SimpleNamespace(config=SimpleNamespace(layers=1)), 0, 0.1).layers == (0,)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="has 6 layers, so there are none below 7"):
        Depths.of(model, 7, 0.1)


class Stacked(MarkovModel):
    """Its lower layers say what tables of their own do."""

    def inspect(self, tokens: mx.array, cache: Any) -> Any:
        final = self.hidden(tokens, cache)
        return SimpleNamespace(final=final, hidden={0: final + 1000, 2: final + 2000})

    def lens(self, hidden: mx.array) -> mx.array:
        at = hidden[..., 0].astype(mx.int32)
        return mx.array(np.stack([random_table(seed, 1.0).astype(np.float32) for seed in (0, 7, 8)]))[
            at // 1000, at % 1000
        ]


def test_the_layer_that_differs_most_is_contrasted() -> None:
    deep = Depths(Stacked(TABLE), (0, 2), 0.1)  # type: ignore[arg-type]
    place = read_again(at(Stacked(TABLE), [1, 2, 3]), deep)
    assert place.ids == [[1, 2, 3]] and place.length == place.cache.length == 3 and place.numbers == [0]

    def want(token: int) -> np.ndarray:
        p = logp(TABLE[token])
        below = [logp(random_table(seed, 1.0)[token]) for seed in (7, 8)]

        def js(q: np.ndarray) -> float:
            m = np.logaddexp(p, q) - np.log(2)
            return float((np.exp(p) * (p - m)).sum() + (np.exp(q) * (q - m)).sum()) / 2

        found: np.ndarray = np.where(p >= p.max() + np.log(0.1), p - max(below, key=js), -np.inf)
        return found

    for token in (3, 40, 41, 42, 43):
        if token > 3:
            place.feed([token])
            place.settle([token])
        np.testing.assert_allclose(np.array(place.logits())[0], want(token), rtol=1e-3, atol=1e-4)

    place.select([0, 0])
    place.feed([50, 51])
    np.testing.assert_allclose(np.array(place.logits()), [want(50), want(51)], rtol=1e-3, atol=1e-4)
    ids = place.ids[0]
    rows = np.array(place.logits_at(3, 8))
    assert rows.shape == (2, 5, 258)
    for i, token in enumerate([40, 41, 42, 43]):
        np.testing.assert_allclose(rows[:, i], [want(token)] * 2, rtol=1e-3, atol=1e-4)
    assert ids[:3] == [1, 2, 3]

    class Stuck(FakeCache):
        room = 0  # type: ignore[assignment]

        def fork(self) -> FakeCache:
            return self

    stuck = at(Stacked(TABLE), [1, 2])
    stuck.cache = Stuck(2)  # type: ignore[assignment]
    with pytest.raises(ParameterError, match="cannot go back by a token"):
        read_again(stuck, deep)


# -- guesses -----------------------------------------------------------------------------------------------------------


def looked(ids: list[int], count: int = 3, **more: Any) -> list[int]:
    return PromptLookup(**more).propose(ids, count, None).tokens  # type: ignore[arg-type]


def test_a_lookup_says_what_followed_the_longest_end() -> None:
    assert looked([1, 2, 3, 4, 5, 2, 3]) == [4, 5, 2] and looked([1, 2, 3, 4, 5, 2, 3], 1) == [4]
    assert looked([7, 2, 3, 8, 2, 3, 9, 2, 3]) == [9, 2, 3]  # the newest
    assert looked([7, 2, 3, 8, 2, 3, 9, 7, 2, 3]) == [8, 2, 3]  # three in common go before two
    assert (
        looked([1, 2, 3, 4, 1]) == []
        and looked([1, 2, 3, 4, 1], least=1) == [2, 3, 4]
        and looked([]) == [] == looked([1])
    )
    assert looked([5, 1, 2, 3, 4, 9, 6, 1, 2, 3, 4, 8, 5, 1, 2, 3, 4]) == [8, 5, 1]  # no more than four count
    assert looked([5, 1, 2, 3, 4, 9, 6, 1, 2, 3, 4, 8, 5, 1, 2, 3, 4], most=5) == [9, 6, 1]
    assert PromptLookup().propose([1, 2], 3, None) is NOTHING  # type: ignore[arg-type]
    one = PromptLookup()
    assert one.propose([1, 2, 3, 1, 2], 2, None) == Guess([3, 1])  # type: ignore[arg-type]
    assert one.propose([1, 2, 3, 1, 2, 4, 1, 2], 2, None).tokens == [4, 1]  # type: ignore[arg-type]
    assert one.propose([9, 8, 1, 2], 2, None) is NOTHING  # type: ignore[arg-type]  # another text: what was seen is gone
    assert one.propose([9, 8, 1, 2, 7, 9, 8], 1, None).tokens == [1]  # type: ignore[arg-type]


def sampler(recipe: Recipe, texts: list[list[int]], seed: int = 5) -> Sampler:
    return Sampler.start(recipe, texts, seed=seed, xp=np)


def test_a_draft_reads_what_is_new_and_draws_with_a_seed_of_its_own() -> None:
    model = MarkovModel(TABLE, context=20)
    draft = Draft(model)  # type: ignore[arg-type]
    for ids, read in (([1, 2, 3], 3 + 2), ([1, 2, 3], 1 + 2), ([1, 2, 3, 4, 5], 2 + 2), ([1, 9], 1 + 2)):
        before = model.read
        guess = draft.propose(ids, 3, sampler(Recipe(), [ids]))
        last, want = ids[-1], []
        for n in range(3):
            row = TABLE[last].astype(np.float32)
            last = int(draw(row, (5 ^ (1 << 63), len(ids) + n), np))
            want.append(last)
        assert guess.tokens == want and guess.rows is not None and len(guess.rows) == 3
        np.testing.assert_allclose(guess.rows[0], TABLE[ids[-1]], rtol=1e-6)
        assert model.read - before == read and draft._place.ids == [[*ids, *guess.tokens[:-1]]]
    greedy = draft.propose([1, 2], 2, sampler(Recipe(greedy=True), [[1, 2]]))
    assert greedy.rows is None and greedy.tokens == [int(TABLE[2].argmax()), int(TABLE[TABLE[2].argmax()].argmax())]
    assert draft.propose(list(range(17)), 3, sampler(Recipe(), [[0]])).tokens and model.read
    assert draft.propose(list(range(18)), 3, sampler(Recipe(), [[0]])) is NOTHING


def test_a_draft_that_cannot_go_back_begins_again_and_goes_on_from_there() -> None:
    class Stuck(FakeCache):
        room = 0  # type: ignore[assignment]

    model = MarkovModel(TABLE)
    draft = Draft(model)  # type: ignore[arg-type]
    draft._place.cache = Stuck()  # type: ignore[assignment]
    for ids, read in (([1, 2, 3], 3), ([1, 2, 9], 3), ([1, 2, 9, 4], 1), ([1, 2, 9, 4], 1)):
        before = model.read
        draft.propose(ids, 1, sampler(Recipe(), [ids]))
        assert model.read - before == read
    assert DraftLength(Draft.hope).rate == 0.75 and DraftLength(PromptLookup.hope).rate == 0.25


def test_a_guess_is_taken_with_the_share_that_p_has_of_q() -> None:
    """And else a token of what q falls short of."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    by = sampler(Recipe(), [[0]], 3)
    counts = np.zeros((3, 3))
    for position in range(100):
        for guess in range(3):
            key = (3, position)
            drawn = reject(np.log(p).astype(np.float32), guess, np.log(q).astype(np.float32), by, position)
            taken = uniform(key, "accept") < p[guess] / q[guess]
            rest = np.maximum(p - q, 0)
            with np.errstate(divide="ignore"):
                other = int(draw(np.log(rest).astype(np.float32), key, np))
            assert drawn.token == (guess if taken else other) and drawn.key == key and drawn.origin == "drawn"
            counts[guess, drawn.token] += 1
    assert counts[0, 0] == 100 and counts[1, 1] == 100 and counts[2, 2] > 10 and counts[2, 0] > counts[2, 1] > 0
    same = reject(np.log(p).astype(np.float32), 1, np.log(p).astype(np.float32), by, 0)
    assert same.token == 1
    beyond = reject(np.log(p).astype(np.float32), 3, np.log(np.array([0.1, 0.1, 0.1, 0.7])).astype(np.float32), by, 0)
    assert beyond.token in (0, 1, 2)
    cut = reject(np.log(p).astype(np.float32), 2, np.log(q).astype(np.float32), sampler(Recipe((TopK(1),)), [[0]]), 7)
    assert cut.token == 0 and cut.after is not None and np.isneginf(cut.after[1:]).all()


def test_rows_of_other_lengths_are_fit() -> None:
    row = np.array([1.0, 2.0, 3.0])
    assert (
        fit(row, 3).tolist() == [1, 2, 3]
        and fit(row, 2).tolist() == [1, 2]
        and fit(row, 4).tolist() == [1, 2, 3, -np.inf]
    )


def test_guesses_are_accepted_up_to_the_first_that_is_wrong() -> None:
    best = TABLE.argmax(axis=1)
    chain = [3]
    for _ in range(3):
        chain.append(int(best[chain[-1]]))
    rows = TABLE[chain].astype(np.float32)
    greedy = Recipe(greedy=True)

    def verified(
        tokens: list[int], control: RunControl | None = None, recipe: Recipe = greedy, given: Any = None
    ) -> list[Any]:
        return verify(
            rows[: 1 + len(tokens)], Guess(tokens, given), control or RunControl(), sampler(recipe, [[3]], 2), 4
        )

    right = [d.token for d in verified(chain[1:])]
    assert right == [*chain[1:], int(best[chain[3]])] and [d.key for d in verified(chain[1:])] == [
        (2, 4 + i) for i in range(4)
    ]
    assert [d.token for d in verified([chain[1], 0, 5])] == chain[1:3] and [d.token for d in verified([])] == [chain[1]]
    control = RunControl()
    control.force([7, 8])
    forced = verified([7, chain[2], 1], control)
    assert [(d.token, d.origin) for d in forced] == [(7, "forced"), (8, "forced")]
    sampled = verified([5, 6], recipe=Recipe((Temperature(1.0),)), given=[rows[0], rows[1]])
    assert [d.token for d in sampled][:2] == [5, 6] and len(sampled) == 3  # q is p: all are taken


def test_guesses_are_made_where_they_pay_and_there_is_room() -> None:
    asked: list[int] = []

    class Says:
        hope = (1.0, 1.0)

        def __init__(self, free: bool) -> None:
            self.free = free

        def propose(self, ids: Any, count: int, sampler: Any) -> Guess:
            asked.append(count)
            return Guess([1] * count)

    def proposed(room: int, length: int | None, free: bool, pays: int = 0) -> tuple[int, int]:
        strategy = Speculative(Says(free), length)  # type: ignore[arg-type]
        strategy.pace = SimpleNamespace(length=lambda: pays)  # type: ignore[assignment]
        guess, unread = strategy._propose([1], room, None)  # type: ignore[arg-type]
        return len(guess.tokens), len(unread.tokens)

    assert proposed(5, 3, False) == (3, 0) and proposed(2, 3, False) == (2, 0) and proposed(0, 3, True) == (0, 0)
    assert (
        proposed(5, None, False) == (0, 0) and proposed(5, None, True) == (0, 1) and proposed(0, None, True) == (0, 0)
    )
    assert (
        proposed(1, None, True) == (0, 1) and proposed(9, None, False, 4) == (4, 0) and proposed(-1, 2, True) == (0, 0)
    )
    assert proposed(5, 1, True) == (1, 0) and proposed(5, 1, False) == (1, 0)
    assert asked == [3, 2, 1, 1, 4, 1, 1] and isinstance(Speculative(Says(True)).pace, DraftLength)  # type: ignore[arg-type]
