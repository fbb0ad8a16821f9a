"""Numbers that no model can have given, at both sides of what is allowed."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.trace.consistency import CLOSE, check_run, check_snapshot, check_step
from engine.trace.observe import observe
from engine.trace.trace import Lexicon, Recipe, TokenStep, Trace
from engine.transforms import Snapshot, TopK

BIG = 1 << 31
VOCAB = 300


def seen(token: int = 7, recipe: Recipe | None = None) -> TokenStep:
    raw = np.random.default_rng(0).normal(size=VOCAB).astype(np.float32)
    return observe(raw, token, recipe=recipe or Recipe((TopK(3),)), position=5)


STEP = seen()
SNAPSHOT: Snapshot = STEP.snapshot  # type: ignore[assignment]
TOP = float(SNAPSHOT.logits.max())


def refused(check: Any, value: Any, line: str) -> None:
    with pytest.raises(ValueError, match=f"^no run has .*{line}") as error:
        check(value)
    assert "\n" not in str(error.value)


def set_at(array: np.ndarray, index: int, value: float) -> np.ndarray:
    found = array.copy()
    found[index] = value
    return found


def test_a_snapshot_is_of_numbers_that_logits_can_give() -> None:
    s = SNAPSHOT
    lone = replace(s, ids=s.ids[:1], logits=s.logits[:1])
    for good in (
        s, lone, replace(s, vocab=int(s.ids.max()) + 1, lse=TOP, counts=s.counts * 0, lses=s.lses),
        replace(s, lse=TOP - CLOSE * 0.99, lses=np.full(64, -99.0, np.float32)),
        replace(s, lse=TOP + math.log(VOCAB) + CLOSE * 0.99), replace(s, mean=TOP + CLOSE * 0.99),
        replace(s, counts=set_at(s.counts * 0, 3, VOCAB)), replace(s, lses=set_at(s.lses, 0, s.lse + CLOSE * 0.9)),
        replace(s, logits=set_at(s.logits, 5, -np.inf)),
    ):  # fmt: skip
        check_snapshot(good)
    for bad, line in (
        (replace(s, vocab=0), "a vocabulary of 0"),
        (replace(s, ids=s.ids[:0], logits=s.logits[:1]), "candidates that are no tokens"),
        (replace(s, ids=set_at(s.ids, 1, -1)), "candidates that are no tokens of 300"),
        (replace(s, ids=set_at(s.ids, 1, s.ids[0])), "a candidate that comes twice"),
        (replace(s, logits=set_at(s.logits, 0, np.inf)), "whose logit is no number"),
        (replace(s, lse=TOP - CLOSE * 1.01), "logits that sum up to"),
        (replace(s, lse=TOP + math.log(VOCAB) + CLOSE * 1.01), "logits that sum up to"),
        (replace(s, mean=TOP + CLOSE * 1.01), "moments"),
        (replace(s, variance=-1e-9), "moments"),
        (replace(s, edges=s.edges[::-1].copy()), "edges do not ascend"),
        (replace(s, edges=set_at(s.edges, 3, np.nan)), "edges"),
        (replace(s, counts=set_at(s.counts, 0, -1)), "other counts"),
        (replace(s, counts=set_at(s.counts * 0, 3, VOCAB + 1)), "other counts"),
        (replace(s, lses=set_at(s.lses, 0, s.lse + CLOSE * 1.1)), "a bin that is likelier"),
    ):
        refused(check_snapshot, bad, line)


def test_a_step_is_of_numbers_that_go_with_its_snapshot() -> None:
    bare = replace(STEP, snapshot=None, removed_by=None)
    unlikely = seen(int(SNAPSHOT.ids[200]))
    rank = unlikely.rank
    assert rank == 201
    for good in (
        STEP, bare, replace(bare, token=BIG - 1, position=BIG - 1, kept=BIG - 1, rank=BIG - 1),
        replace(bare, origin="given", logprob=None, entropy=None, rank=None, entropy_after=None),
        replace(bare, entropy=-CLOSE, entropy_after=-CLOSE),
        replace(bare, origin="forced", logprob_after=-math.inf, entropy=99.0),
        replace(STEP, logprob=STEP.logprob + CLOSE * 0.99), replace(STEP, logprob=STEP.logprob - CLOSE * 0.99),
        replace(unlikely, rank=300), replace(STEP, entropy=math.log(300) + CLOSE * 0.99),
        replace(STEP, entropy=None, entropy_after=math.log(300) + CLOSE * 0.99), replace(STEP, kept=300),
        replace(STEP, removed_by=None), replace(STEP, removed_by=np.full(len(SNAPSHOT.ids), 1, np.int8)),
        replace(STEP, removed_by=np.full(len(SNAPSHOT.ids), -1, np.int8)),
    ):  # fmt: skip
        check_step(good)
    impossible = replace(SNAPSHOT, logits=set_at(SNAPSHOT.logits, list(SNAPSHOT.ids).index(7), -np.inf))
    check_step(replace(STEP, snapshot=impossible, logprob=-math.inf, rank=300))
    for bad, line in (
        (replace(bare, token=-1), "the token -1"), (replace(bare, position=BIG), "the position"),
        (replace(bare, origin="made"), "an origin"), (replace(bare, elapsed_s=-0.1), "-0.1 seconds"),
        (replace(bare, logprob=CLOSE * 1.01), "above 0"), (replace(bare, logprob=math.nan), "nan, above 0"),
        (replace(bare, entropy=-CLOSE * 1.01), "an entropy of"), (replace(bare, rank=0), "the rank 0"),
        (replace(bare, kept=-1), "-1 tokens kept"),
        (replace(STEP, token=int(np.setdiff1d(np.arange(300), SNAPSHOT.ids)[0])), "which is not among the candidates"),
        (replace(STEP, logprob=STEP.logprob + CLOSE * 1.01), "whose logit gives"),
        (replace(STEP, logprob=STEP.logprob - CLOSE * 1.01), "whose logit gives"),
        (replace(unlikely, rank=200), "the rank 200, with 200 tokens before it"),
        (replace(STEP, entropy=math.log(300) + CLOSE * 1.01), "more entropy"),
        (replace(STEP, entropy_after=math.log(300) + CLOSE * 1.01), "more entropy"),
        (replace(STEP, removed_by=np.full(len(SNAPSHOT.ids), 2, np.int8)), "no transform of its recipe"),
        (replace(STEP, removed_by=np.full(len(SNAPSHOT.ids), -2, np.int8)), "no transform of its recipe"),
    ):  # fmt: skip
        refused(check_step, bad, line)


def test_a_run_is_of_steps_that_go_together() -> None:
    first, then = replace(seen(7), piece=b"a"), replace(seen(9), position=6, piece=b"b")

    def run(*steps: TokenStep, prompt: tuple[int, ...] = (1, 299), pieces: Any = None, **more: Any) -> Trace:
        return Trace("m", "0", {}, 0, prompt, steps, lexicon=Lexicon(pieces or {}), **more)

    bare = replace(first, snapshot=None, token=5000)
    other = replace(then, snapshot=replace(SNAPSHOT, vocab=301))
    for good in (
        run(), run(first), run(first, then), run(first, replace(then, position=5)),
        run(first, then, pieces={7: b"a", 8: b"z"}), run(bare, prompt=(BIG - 1, 0)),
        run(then, first, denoising=object()),
    ):  # fmt: skip
        check_run(good)
    for bad, line in (
        (run(first, other), "steps of several vocabularies"),
        (run(first, prompt=(300,)), "tokens that are beyond"),
        (run(first, bare), "tokens that are beyond"),
        (run(then, first), "position 5 after a later one"),
        (run(first, then, pieces={9: b"c"}), "the token 9 at position 6 with the bytes of another"),
    ):
        refused(check_run, bad, line)
