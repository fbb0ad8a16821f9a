"""Numbers that no model can have given, at both sides of what is allowed; and tables of a step's fields."""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from engine.trace.consistency import CLOSE, check_run, check_snapshot, check_step
from engine.trace.fields import FIELDS, _field, step_object
from engine.trace.observe import observe
from engine.trace.replay import Replayed
from engine.trace.trace import Lexicon, Recipe, TokenStep, Trace
from engine.transforms import MirostatV2, Snapshot, Temperature, TopK

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
        s,
        lone,
        replace(s, vocab=BIG - 1),
        replace(s, vocab=int(s.ids.max()) + 1, lse=TOP, counts=s.counts * 0, lses=s.lses),
        replace(s, lse=TOP - CLOSE * 0.99, lses=np.full(64, -99.0, np.float32)),
        replace(s, lse=TOP + math.log(VOCAB) + CLOSE * 0.99),
        replace(s, mean=TOP + CLOSE * 0.99),
        replace(s, variance=0.0),
        replace(s, counts=set_at(s.counts * 0, 3, VOCAB)),
        replace(s, edges=s.edges * 0),
        replace(s, lses=set_at(s.lses, 0, s.lse + CLOSE * 0.9)),
        replace(s, logits=set_at(s.logits, 5, -np.inf)),
        replace(s, ids=set_at(s.ids, 0, 0) if 0 not in s.ids else s.ids),
    ):
        check_snapshot(good)
    for bad, line in (
        (replace(s, vocab=0), "a vocabulary of 0"),
        (replace(s, vocab=BIG), f"a vocabulary of {BIG}"),
        (replace(s, ids=s.ids[:0], logits=s.logits[:1]), "candidates that are no tokens"),
        (replace(s, ids=set_at(s.ids, 1, -1)), "candidates that are no tokens of 300"),
        (replace(s, ids=set_at(s.ids, 1, VOCAB)), "candidates that are no tokens"),
        (replace(s, ids=set_at(s.ids, 1, s.ids[0])), "a candidate that comes twice"),
        (replace(s, logits=set_at(s.logits, 0, np.inf)), "whose logit is no number"),
        (replace(s, logits=set_at(s.logits, 0, np.nan)), "whose logit is no number"),
        (replace(s, lse=TOP - CLOSE * 1.01), "logits that sum up to"),
        (replace(s, lse=math.inf), "logits that sum up to inf"),
        (replace(s, lse=TOP + math.log(VOCAB) + CLOSE * 1.01), "logits that sum up to"),
        (replace(s, mean=TOP + CLOSE * 1.01), "moments"),
        (replace(s, mean=-math.inf), "moments"),
        (replace(s, variance=-1e-9), "moments"),
        (replace(s, variance=math.inf), "moments"),
        (replace(s, edges=s.edges[::-1].copy()), "edges do not ascend"),
        (replace(s, edges=set_at(s.edges, 3, np.nan)), "edges"),
        (replace(s, edges=set_at(s.edges, 64, np.inf)), "edges"),
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
        STEP,
        bare,
        replace(bare, token=0, position=0),
        replace(bare, token=BIG - 1, position=BIG - 1, kept=BIG - 1, rank=BIG - 1),
        replace(bare, kept=0, rank=1),
        replace(bare, origin="given", logprob=None, entropy=None, rank=None, entropy_after=None),
        replace(bare, elapsed_s=0.0, logprob=CLOSE, logprob_after=CLOSE),
        replace(bare, entropy=-CLOSE, entropy_after=-CLOSE),
        replace(bare, origin="forced", logprob_after=-math.inf, entropy=99.0),
        replace(STEP, logprob=STEP.logprob + CLOSE * 0.99),
        replace(STEP, logprob=STEP.logprob - CLOSE * 0.99),
        replace(unlikely, rank=300),
        replace(STEP, entropy=math.log(300) + CLOSE * 0.99),
        replace(STEP, entropy=None, entropy_after=math.log(300) + CLOSE * 0.99),
        replace(STEP, kept=300),
        replace(STEP, removed_by=None),
        replace(STEP, removed_by=np.full(len(SNAPSHOT.ids), 1, np.int8)),
        replace(STEP, removed_by=np.full(len(SNAPSHOT.ids), -1, np.int8)),
    ):
        check_step(good)
    impossible = replace(SNAPSHOT, logits=set_at(SNAPSHOT.logits, list(SNAPSHOT.ids).index(7), -np.inf))
    check_step(replace(STEP, snapshot=impossible, logprob=-math.inf, rank=300))
    for bad, line in (
        (replace(bare, token=-1), "the token -1"),
        (replace(bare, token=BIG), f"the token {BIG}"),
        (replace(bare, position=-1), "the position -1"),
        (replace(bare, position=BIG), "the position"),
        (replace(bare, origin="made"), "an origin"),
        (replace(bare, elapsed_s=-0.1), "-0.1 seconds"),
        (replace(bare, elapsed_s=math.inf), "inf seconds"),
        (replace(bare, logprob=CLOSE * 1.01), "above 0"),
        (replace(bare, logprob_after=CLOSE * 1.01), "above 0"),
        (replace(bare, logprob_allowed=CLOSE * 1.01), "above 0"),
        (replace(bare, logprob=math.nan), "nan, above 0"),
        (replace(bare, entropy=-CLOSE * 1.01), "an entropy of"),
        (replace(bare, entropy_after=math.inf), "an entropy of inf"),
        (replace(bare, rank=0), "the rank 0"),
        (replace(bare, rank=BIG), "the rank"),
        (replace(bare, kept=-1), "-1 tokens kept"),
        (replace(bare, kept=BIG), "tokens kept"),
        (replace(STEP, token=-3), "the token"),
        (replace(STEP, token=int(np.setdiff1d(np.arange(300), SNAPSHOT.ids)[0])), "which is not among the candidates"),
        (replace(STEP, logprob=STEP.logprob + CLOSE * 1.01), "whose logit gives"),
        (replace(STEP, logprob=None), "None for token 7"),
        (replace(STEP, logprob=STEP.logprob - CLOSE * 1.01), "whose logit gives"),
        (replace(STEP, rank=None), "the rank None"),
        (replace(unlikely, rank=200), "the rank 200, with 200 tokens before it"),
        (replace(STEP, rank=301), "the rank 301"),
        (replace(STEP, entropy=math.log(300) + CLOSE * 1.01), "more entropy"),
        (replace(STEP, kept=301), "301 tokens kept of 300"),
        (replace(STEP, entropy_after=math.log(300) + CLOSE * 1.01), "more entropy"),
        (replace(STEP, removed_by=np.full(len(SNAPSHOT.ids), 2, np.int8)), "no transform of its recipe"),
        (replace(STEP, removed_by=np.full(len(SNAPSHOT.ids), -2, np.int8)), "no transform of its recipe"),
        (replace(STEP, snapshot=replace(SNAPSHOT, vocab=0)), "a vocabulary of 0"),
    ):
        refused(check_step, bad, line)


def test_a_run_is_of_steps_that_go_together() -> None:
    first, then = replace(seen(7), piece=b"a"), replace(seen(9), position=6, piece=b"b")

    def run(*steps: TokenStep, prompt: tuple[int, ...] = (1, 299), pieces: Any = None, **more: Any) -> Trace:
        return Trace("m", "0", {}, 0, prompt, steps, lexicon=Lexicon(pieces or {}), **more)

    bare = replace(first, snapshot=None, token=5000)
    other = replace(then, snapshot=replace(SNAPSHOT, vocab=301))
    for good in (
        run(),
        run(first),
        run(first, then),
        run(first, replace(then, position=5)),
        run(first, then, pieces={7: b"a", 8: b"z"}),
        run(bare, prompt=(BIG - 1, 0)),
        run(then, first, denoising=object()),
    ):
        check_run(good)
    for bad, line in (
        (run(first, other), "steps of several vocabularies"),
        (run(first, prompt=(300,)), "tokens that are beyond"),
        (run(first, prompt=(-1,)), "tokens that are beyond"),
        (run(first, bare), "tokens that are beyond"),
        (run(bare, prompt=(BIG,)), "tokens that are beyond"),
        (run(then, first), "position 5 after a later one"),
        (run(first, then, pieces={9: b"c"}), "the token 9 at position 6 with the bytes of another"),
    ):
        refused(check_run, bad, line)


def test_the_fields_of_a_step_are_a_table() -> None:
    assert [field.column for field in FIELDS] == [
        "token INTEGER NOT NULL",
        "piece BLOB NOT NULL",
        "text TEXT NOT NULL",
        "logprob REAL",
        "logprob_after REAL",
        "entropy REAL",
        "entropy_after REAL",
        "rank INTEGER",
        "kept INTEGER NOT NULL",
        "position INTEGER NOT NULL",
        "origin TEXT NOT NULL DEFAULT 'drawn'",
        "special INTEGER NOT NULL DEFAULT 0",
        "elapsed_s REAL NOT NULL DEFAULT 0.0",
        "logprob_allowed REAL",
    ]
    found = [_field(f.name, f.type, f.default) for f in fields(TokenStep)]
    assert [field for field in found if field is not None] == list(FIELDS)
    by = {field.name: field for field in FIELDS}
    row = {field.name: field.to_json(getattr(STEP, field.name)) for field in FIELDS}
    assert all(field.of_json(row) == getattr(STEP, field.name) for field in FIELDS)
    for name, value, told in (
        ("piece", b"\xff\x00", "/wA="),
        ("logprob", -math.inf, "-inf"),
        ("logprob", -1.5, -1.5),
        ("logprob", None, None),
        ("special", True, True),
        ("text", "é", "é"),
        ("elapsed_s", math.inf, "inf"),
    ):
        assert by[name].to_json(value) == told and by[name].of_json({name: told}) == value
    assert by["origin"].of_json({}) == "drawn" and by["special"].of_json({}) is False
    assert by["logprob"].of_json({"logprob": -2}) == -2.0 and type(by["logprob"].of_json({"logprob": -2})) is float
    assert by["special"].of_column(1) is True and by["special"].of_column(0) is False and by["kept"].of_column(1) == 1
    for name, row, error in (
        ("token", {}, KeyError),
        ("token", {"token": "1"}, TypeError),
        ("token", {"token": True}, TypeError),
        ("token", {"token": None}, TypeError),
        ("piece", {"piece": "!"}, ValueError),
        ("special", {"special": 1}, TypeError),
        ("logprob", {"logprob": "x"}, ValueError),
        ("logprob", {"logprob": False}, TypeError),
        ("rank", {"rank": 1.0}, TypeError),
    ):
        with pytest.raises(error):
            by[name].of_json(row)


def test_what_is_printed_of_a_step() -> None:
    step = replace(STEP, piece=b"\xc3", text="x")
    drawn, plain = step_object(step), step_object(step, drawn=False)
    assert list(drawn) == [
        "id",
        "bytes",
        "text",
        "logprob",
        "logprob_after",
        "entropy",
        "entropy_after",
        "rank",
        "kept",
        "origin",
        "logprob_allowed",
    ]
    assert list(plain) == ["id", "bytes", "text", "logprob", "entropy", "rank"]
    assert drawn["bytes"] == "c3" and drawn["id"] == 7 and drawn["kept"] == step.kept


def test_bounds_that_meet_are_one_number() -> None:
    def between(low: float, high: float) -> Replayed:
        return Replayed(np.array([1]), np.array([low]), np.array([high]), np.array([-1], np.int8), (1, 1), (0.0, 0.0))

    assert between(0.25, 0.75).middle.tolist() == [0.5] and not between(0.25, 0.75).exact
    assert between(0.5, 0.5 + 0.9e-6).exact and not between(0.5, 0.5 + 1.1e-6).exact and between(0.5, 0.5).exact
    none = Replayed(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.int8), (0, 0), (0.0, 0.0))
    assert none.exact


def test_a_lexicon_knows_what_the_trace_knows() -> None:
    words = Lexicon({3: b"ab", 4: b"c", 5: b"ab"}, frozenset({9}))
    assert words.piece(3) == b"ab" and words.piece(8) == b"" and words.encode("ab") == [3] and words.encode("x") == []


def test_a_greedy_step_has_what_transforms_left() -> None:
    """Under mirostat the surprisal is that of what was left; a step that was forced beyond it has none to give."""
    raw = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    after = np.array([-1.0, -2.0, -np.inf], np.float32)
    removed = np.array([-1, -1, 1], np.int8)
    step = observe(
        raw, 1, after=after, removed_by=removed, recipe=Recipe((Temperature(0.5), MirostatV2(3.0))), position=0
    )
    assert step.kept == 2 and step.rank == 2 and step.logprob == pytest.approx(math.log(0.3), abs=1e-6)
    p = np.exp([-1.0, -2.0]) / np.exp([-1.0, -2.0]).sum()
    assert step.logprob_after == pytest.approx(math.log(p[1]), abs=1e-6)
    assert step.entropy_after == pytest.approx(-(p * np.log(p)).sum(), abs=1e-6)
    assert step.entropy == pytest.approx(-(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2)), abs=1e-6)
    assert step.removed_by is not None and step.removed_by.tolist() == [-1, -1, 1] and step.origin == "drawn"
    plain = observe(raw, 2, recipe=Recipe(), position=4, origin="given")
    assert (plain.kept, plain.rank, plain.position, plain.origin) == (3, 3, 4, "given")
    assert plain.removed_by is not None and plain.removed_by.tolist() == [-1] * 3
    assert plain.logprob_after == plain.logprob and plain.entropy_after == plain.entropy
