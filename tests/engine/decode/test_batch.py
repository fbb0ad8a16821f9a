"""Branches of one prompt and runs that join and leave a batch: each is what it would be alone, to the token."""

import gc
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.concurrency.pace import Pace
from likely.engine.base.errors import CacheError, ParameterError
from likely.engine.decode.drafts.pair import PairedBranches, guided
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event, Waiting
from likely.engine.decode.sampled.batch import ContinuousBatch
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import parse
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import DRY, RepetitionPenalty, Temperature, TopP
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.engine.tiny import WIDE, weights, write_gguf
from tests.fakes import EOS, random_table
from tests.support.decoding import Found, at, endless, run, session, transformer

PROMPT = list(b"ask me")
RECIPES = [
    SamplingConfig(greedy=True), SamplingConfig((Temperature(0.8), TopP(0.9))),
    SamplingConfig((RepetitionPenalty(1.3), DRY(0.8), Temperature(1.2))),
]  # fmt: skip
TEXTS = [b"ask me", b"ask me something longer than that", b"b", b"ask me", b"and this one too"]


@pytest.mark.usefixtures("either_device")
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", ["table", "transformer"])
def test_each_branch_draws_what_it_would_draw_alone(kind: str, recipe: SamplingConfig) -> None:
    """Branches end at different tokens, so that rows leave the batch on the way; a transformer shares a prefix."""
    table = random_table(3, scale=1.0)
    table[:, EOS] += 2.0
    n, most = (6, 40) if kind == "table" else (4, 12)
    of: Any = table if kind == "table" else transformer()
    found = run(of, recipe, prompt=PROMPT, n=n, seed=4, max_tokens=most)
    assert recipe.greedy or kind != "table" or len(set(map(len, found.steps.values()))) > 2
    for branch in range(n):
        alone = run(of, recipe, prompt=PROMPT, seed=4 + branch, max_tokens=most)
        assert found.tokens[branch] == alone.tokens[0] and found.reasons[branch] == alone.reasons[0]
        assert found.ends[branch].stats.tokens == alone.ends[0].stats.tokens


def test_branches_kept_twice_and_dropped_go_on_as_the_texts_they_are() -> None:
    model = transformer()
    batch = at(model, PROMPT)
    batch.select([0] * 3)
    for tokens in ([5, 6, 7], [8, 9, 10]):
        batch.feed(tokens)
        batch.settle(tokens)
    batch.select([2, 0, 2])
    batch.feed([11, 12, 13])
    batch.settle([11, 12, 13])
    assert batch.ids == [[*PROMPT, 7, 10, 11], [*PROMPT, 5, 8, 12], [*PROMPT, 7, 10, 13]]
    want = np.stack([np.asarray(model(mx.array([ids]))[0, -1]) for ids in batch.ids])
    np.testing.assert_allclose(np.asarray(batch.logits()), want, atol=1e-4)
    root = batch.trunk
    assert root is not None and root.ids == [PROMPT] and root.cache.length == len(PROMPT)


@pytest.mark.linux
@pytest.mark.parametrize("paired", [False, True])
def test_many_that_go_on_in_groups_stand_where_one_pass_leads(tmp_path: Path, paired: bool) -> None:
    """Others have turns between groups; who is stopped there has gone nowhere."""
    model = load(str(write_gguf(tmp_path / "m.gguf", "llama", WIDE, weights(WIDE), "Q8_0"))).model
    tokens = np.random.default_rng(5).integers(3, 256, (3, 40)).tolist()

    def begun(prompt: list[int], paced: bool) -> Branches:
        place = Branches(model, model.make_cache(), pace=Pace() if paced else None)
        list(place.read(prompt))
        place.select([0] * 40)
        return place

    def both(paced: bool) -> Branches:
        first = begun(PROMPT, paced)
        return PairedBranches(first, begun(PROMPT[2:], paced), guided(1.5)) if paired else first

    whole, parted = both(paced=False), both(paced=True)
    whole.feed(tokens[0])
    stopped = parted.fork()
    turns = stopped.descend(tokens[0])
    assert next(turns) == Waiting()
    turns.close()  # type: ignore[attr-defined]
    assert stopped.length == len(PROMPT) and stopped.cache.each is None
    stopped.feed(tokens[0])
    np.testing.assert_allclose(np.array(stopped.logits()), np.array(whole.logits()), atol=1e-5)
    assert len(list(parted.descend(tokens[0]))) > 1
    for more in tokens[1:]:
        np.testing.assert_allclose(np.array(parted.logits()), np.array(whole.logits()), atol=1e-5)
        for place in (whole, parted):
            list(place.descend(more))
    np.testing.assert_allclose(np.array(parted.logits()), np.array(whole.logits()), atol=1e-5)


def test_forced_tokens_and_a_stop_are_of_all_and_the_session_goes_on() -> None:
    made, control = session(endless(8)), RunControl()
    control.force([65, 66])

    def cancelled() -> Iterator[Event]:
        for event in made.generate(PROMPT, control, n=3):
            yield event
            if isinstance(event, Emitted) and event.step.position == len(PROMPT) + 3:
                control.cancel()

    found = Found(cancelled())
    assert all(ids[:2] == [65, 66] for ids in found.tokens.values())
    assert len(set(map(tuple, found.ids))) == 3 and set(found.reasons.values()) == {"cancelled"}
    assert [end.stats.tokens for end in found.ends.values()] == [4] * 3 and made.pool.leased == []
    assert run(made, prompt=PROMPT, max_tokens=2).ends[0].stats.reused_tokens == len(PROMPT)


# -- runs that take turns ----------------------------------------------------------------------------------------------


def taken(runs: dict[int, Iterator[Event]], leaves: dict[int, int]) -> dict[int, list[Event]]:
    """What runs give that take turns, one of which arrives at each round; `leaves`: after so many events."""
    found: dict[int, list[Event]] = {name: [] for name in runs}
    arriving, here = deque(runs), list[int]()
    while arriving or here:
        here += [arriving.popleft()] if arriving else []
        for name in list(here):
            for event in runs[name]:
                if isinstance(event, Waiting):
                    break
                found[name].append(event)
                if len(found[name]) == leaves.get(name):
                    runs[name].close()  # type: ignore[attr-defined]
                    here.remove(name)
                    break
            else:
                here.remove(name)
    return found


class Fails(TopP):
    """A transform that gives up at the third token, or has a bug at the first."""

    def keep(self, logits: Any, state: Any, key: Any, xp: Any) -> Any:
        if self.p == 0.8:
            raise IndexError("a bug")
        if key[1] >= len(b"bad") + 2:
            raise ParameterError("no more")
        return super().keep(logits, state, key, xp)


@pytest.mark.parametrize("kind", ["graph", pytest.param("native", marks=pytest.mark.linux)])
def test_each_run_is_what_it_would_be_alone(kind: str, tmp_path: Path) -> None:
    def made() -> Session:
        if kind == "graph":
            return session(transformer())
        return Session(load(str(write_gguf(tmp_path / "m.gguf", "llama", WIDE, weights(WIDE), "Q8_0"))))

    shared, ns = made(), (1, 1, 3, 1, 1)
    batch = ContinuousBatch(shared.model, shared.pool.step.hidden)

    def begun(i: int, of: Session, batch: ContinuousBatch | None) -> Iterator[Event]:
        control = RunControl(RECIPES[i % 3])
        return of.generate(list(TEXTS[i]), control, n=ns[i], seed=7 * i, max_tokens=5 + 3 * i, batch=batch)

    events = taken({i: begun(i, shared, batch) for i in range(5)}, leaves={3: 4})
    assert not batch.slots
    found = {i: Found(some) for i, some in events.items()}
    for i in range(5):
        alone = Found(begun(i, made(), None))
        if i != 3:  # closed in the middle of its text
            assert found[i].tokens == alone.tokens and found[i].reasons == alone.reasons
        for branch, steps in found[i].steps.items():
            for got, want in zip(steps, alone.steps[branch], strict=i != 3):
                np.testing.assert_allclose(got.logprob, want.logprob, atol=1e-5)
                assert (got.token, got.rank, got.position) == (want.token, want.rank, want.position)
    # what was said in the batch is not read again: prompt and all but the last token of the answer
    ids = [*TEXTS[4], *found[4].tokens[0]]
    assert run(shared, prompt=ids, max_tokens=1).ends[0].stats.reused_tokens == len(ids) - 1


def test_what_is_wrong_with_one_text_is_its_own() -> None:
    made = session(transformer())
    batch = ContinuousBatch(made.model)
    whole = run(made, prompt=list(b"good"), max_tokens=9)
    with pytest.raises(IndexError):
        list(made.generate(list(b"bug"), RunControl(SamplingConfig((Fails(0.8),))), n=2, batch=batch))
    assert not batch.slots
    good = made.generate(list(b"good"), RunControl(), max_tokens=9, batch=batch)
    bad = made.generate(list(b"bad"), RunControl(SamplingConfig((Fails(0.9),))), max_tokens=9, batch=batch)
    found: list[Event] = []
    failed = 0
    for _ in range(9):  # side by side until one fails
        found += islice(good, 2)
        try:
            next(bad, None)
        except ParameterError:
            failed += 1
    assert failed == 1
    assert Found([*found, *good]).tokens == whole.tokens and not batch.slots


def test_a_pass_that_fails_ends_all_and_leaves_nothing_behind() -> None:
    made, passes = session(transformer()), iter([True, False])

    def forward(tokens: Any, cache: Any) -> Any:
        if next(passes, True):
            return made.model.hidden(tokens, cache)
        raise RuntimeError("no memory")

    batch = ContinuousBatch(made.model, forward)
    both, late = (
        [made.generate(PROMPT, RunControl(), max_tokens=5, batch=batch) for _ in range(n)] for n in (2, 1)
    )  # fmt: skip
    for one in both:
        assert sum(isinstance(event, Emitted) for event in islice(one, 2)) == 1
    with pytest.raises(RuntimeError):
        list(both[0])
    first = list(islice(late[0], 2))  # joins while the other has not heard
    with pytest.raises(RuntimeError):
        list(both[1])
    assert Found([*first, *late[0]]).tokens == run(made, prompt=PROMPT, max_tokens=5).tokens
    assert not batch.slots


def test_what_cannot_be_drawn_side_by_side_is_refused() -> None:
    made = session(transformer())
    batch = ContinuousBatch(made.model)
    with pytest.raises(ParameterError, match="only plain sampling"):
        next(made.generate(list(b"ab"), RunControl(), strategy=parse("beam 2"), batch=batch))
    first = made.generate(list(b"ab"), RunControl(), max_tokens=3, batch=batch)
    list(islice(first, 2))
    with pytest.raises(CacheError, match="side by side"):
        list(Session(made.checkpoint, window=4).generate(list(b"ab"), RunControl(), max_tokens=3, batch=batch))


@pytest.mark.slow(5)
def test_what_is_remembered_of_a_batch_is_the_rows_of_those_who_left_it() -> None:
    """Bytes that the device holds, and those that the pool says it has, of all that the batch had."""
    made = session(transformer())
    batch = ContinuousBatch(made.model, made.pool.step.hidden)
    run(made, prompt=PROMPT, max_tokens=1)
    made.forget()
    gc.collect()
    before = mx.get_active_memory()
    runs = {i: made.generate([i, *PROMPT], RunControl(), max_tokens=12 + i, batch=batch) for i in range(12)}
    taken(runs, leaves={})
    del runs
    gc.collect()
    mx.synchronize()
    assert 0 < made.pool.nbytes <= mx.get_active_memory() - before < 1.2 * made.pool.nbytes
