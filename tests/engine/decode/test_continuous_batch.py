"""Runs that join and leave a batch between two tokens: each is what it would be alone, to the token."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.decode.batch import ContinuousBatch
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Event, Waiting
from likely.engine.decode.strategies import parse
from likely.engine.errors import CacheError, ParameterError
from likely.engine.session import Session
from likely.engine.sources.checkpoint import load
from likely.engine.trace.step import Recipe
from likely.engine.transforms import RepetitionPenalty, Temperature, TopP
from tests.engine.decode.test_batch import collect, tiny
from tests.engine.sources.test_gguf_packed import WIDE
from tests.engine.tiny import weights, write_gguf

RECIPES = [
    Recipe(greedy=True), Recipe((Temperature(0.8), TopP(0.9))), Recipe((RepetitionPenalty(1.3), Temperature(1.2))),
]  # fmt: skip
TEXTS = [b"ask me", b"ask me something longer than that", b"b", b"ask me", b"and this one too"]


def taken(runs: dict[int, Iterator[Event]], leaves: dict[int, int]) -> dict[int, list[Event]]:
    """What runs give that take turns, one of which arrives at each round; `leaves`: after so many events."""
    found: dict[int, list[Event]] = {run: [] for run in runs}
    arriving, here = deque(runs), list[int]()
    while arriving or here:
        here += [arriving.popleft()] if arriving else []
        for run in list(here):
            for event in runs[run]:
                if isinstance(event, Waiting):
                    break
                found[run].append(event)
                if len(found[run]) == leaves.get(run):
                    runs[run].close()  # type: ignore[attr-defined]
                    here.remove(run)
                    break
            else:
                here.remove(run)
    return found


def native(folder: Path) -> Session:
    return Session(load(str(write_gguf(folder, "llama", WIDE, weights(WIDE), "Q8_0"))))


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
    def session() -> Session:
        return tiny() if kind == "graph" else native(tmp_path / "m.gguf")

    shared, ns = session(), (1, 1, 3, 1, 1)
    batch = ContinuousBatch(shared.model, shared.pool.step.hidden)

    def run(i: int, of: Session, batch: ContinuousBatch | None) -> Iterator[Event]:
        control = RunControl(RECIPES[i % 3])
        return of.generate(list(TEXTS[i]), control, n=ns[i], seed=7 * i, max_tokens=5 + 3 * i, batch=batch)

    found = taken({i: run(i, shared, batch) for i in range(5)}, leaves={3: 4})
    assert not batch.slots and batch.nbytes == 0
    for i in range(5):
        alone = list(run(i, session(), None))
        if i == 3:  # closed in the middle of its text
            drawn = sum(isinstance(event, Emitted) for event in found[i])
            alone = [event for event in alone if isinstance(event, Emitted)][:drawn]
        mine, theirs = (collect(e for e in events if isinstance(e, Emitted | Done)) for events in (found[i], alone))
        assert mine[0] == theirs[0]
        assert {b: end.reason for b, end in mine[1].items()} == {b: end.reason for b, end in theirs[1].items()}
        for got, want in zip(
            (e.step for e in sorted(found[i], key=lambda e: getattr(e, "branch", -1)) if isinstance(e, Emitted)),
            (e.step for e in sorted(alone, key=lambda e: getattr(e, "branch", -1)) if isinstance(e, Emitted)),
            strict=True,
        ):
            np.testing.assert_allclose(got.logprob, want.logprob, atol=1e-5)
            assert (got.token, got.rank, got.position) == (want.token, want.rank, want.position)
    # what was said in the batch is not read again: prompt and all but the last token of the answer
    ids = [*TEXTS[4], *collect(found[4])[0][0]]
    again = list(shared.generate(ids, RunControl(), max_tokens=1))
    assert next(e for e in again if isinstance(e, Done)).stats.reused_tokens == len(ids) - 1


def test_what_is_wrong_with_one_text_is_its_own() -> None:
    session = tiny()
    batch = ContinuousBatch(session.model)
    whole = list(session.generate(list(b"good"), RunControl(), max_tokens=9))
    bad = Recipe((Fails(0.9),))
    with pytest.raises(IndexError):
        list(session.generate(list(b"bug"), RunControl(Recipe((Fails(0.8),))), n=2, batch=batch))
    assert not batch.slots and batch.nbytes == 0
    runs = {
        0: session.generate(list(b"good"), RunControl(), max_tokens=9, batch=batch),
        1: session.generate(list(b"bad"), RunControl(bad), max_tokens=9, batch=batch),
    }
    found: list[Event] = []
    failed = 0
    for _ in range(9):  # side by side until one fails
        found += [event for event in islice(runs[0], 2) if not isinstance(event, Waiting)]
        try:
            next(runs[1], None)
        except ParameterError:
            failed += 1
    assert failed == 1
    found += [event for event in runs[0] if not isinstance(event, Waiting)]
    assert collect(found)[0] == collect(whole)[0]
    assert not batch.slots


def test_a_pass_that_fails_ends_all_and_leaves_nothing_behind() -> None:
    session = tiny()
    passes = iter([True, False])

    def forward(tokens: Any, cache: Any) -> Any:
        hidden = session.model.hidden(tokens, cache)
        if next(passes, True):
            return hidden
        raise RuntimeError("no memory")

    batch = ContinuousBatch(session.model, forward)

    def run() -> Iterator[Event]:
        return session.generate(list(b"ask me"), RunControl(), max_tokens=5, batch=batch)

    both = [run(), run()]
    for one in both:
        assert sum(isinstance(event, Emitted) for event in islice(one, 2)) == 1
    with pytest.raises(RuntimeError):
        list(both[0])
    late = run()
    first = [next(late), next(late)]  # joins while the other has not heard
    with pytest.raises(RuntimeError):
        list(both[1])
    assert collect([*first, *late])[0] == collect(session.generate(list(b"ask me"), RunControl(), max_tokens=5))[0]
    assert not batch.slots and batch.nbytes == 0


def test_what_cannot_be_drawn_side_by_side_is_refused() -> None:
    session = tiny()
    batch = ContinuousBatch(session.model)
    with pytest.raises(ParameterError, match="only plain sampling"):
        next(session.generate(list(b"ab"), RunControl(), strategy=parse("beam 2"), batch=batch))
    windowed = Session(session.checkpoint, window=4)
    first = session.generate(list(b"ab"), RunControl(), max_tokens=3, batch=batch)
    for _ in first:
        break
    next(first)
    with pytest.raises(CacheError, match="side by side"):
        list(windowed.generate(list(b"ab"), RunControl(), max_tokens=3, batch=batch))
