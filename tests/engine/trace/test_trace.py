"""A trace as a file: what is saved is what is loaded, and nothing damaged is loaded."""

import base64
import dataclasses
import json
import math

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.sampling.trace.file import load, save
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.replay import replay, states_at
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStrings
from likely.engine.sampling.transforms import (
    DRY,
    XTC,
    LogitBias,
    MinP,
    RepetitionPenalty,
    Snapshot,
    Temperature,
    TopP,
    run,
    start,
)

RECIPES = (
    SamplingConfig(
        (LogitBias({4: 1.5}), DRY(0.8, breakers=("\n", "–")), RepetitionPenalty(1.1, 8), TopP(0.5), Temperature(0.7))
    ),
    SamplingConfig((XTC(0.5, 0.02), MinP(0.01, 3))),
    SamplingConfig(greedy=True),
)


def made():
    """Three recipes, a token that was forced though removed, split characters, a first token without a distribution."""
    rng, steps, prompt = np.random.default_rng(0), [], (7, 8, 7)
    for position in range(3, 12):
        recipe = RECIPES[position % 3]
        raw = rng.normal(0, 3, 600).astype(np.float32)
        raw[9] = -np.inf
        states = start(recipe.transforms, None, prompt, np)
        after, removed_by = run(recipe.transforms, raw, states, (5, position), np, greedy=recipe.greedy)
        token = int(raw.argmin()) if position == 5 else int(after.argmax())
        step = observe(
            raw, token, after=after, removed_by=removed_by, recipe=recipe, edited_ids=[4, 7, 9], position=position
        )
        steps.append(
            dataclasses.replace(step, piece=bytes([200, position]), text="né\n", special=position == 4, elapsed_s=0.25)
        )
    first = dataclasses.replace(
        steps[0], logprob=None, logprob_after=None, entropy=None, entropy_after=None, rank=None, snapshot=None,
        removed_by=None,
    )  # fmt: skip
    return Trace(
        model="tiny", weights="ab" * 32, versions={"likely": "0.1.0", "mlx": "1"}, seed=5, prompt=prompt,
        steps=(first, *steps), finish="length", meta={"prompt": "a “quoted” line\n"},
        lexicon=TokenStrings({7: b"\xf0\x9f", 8: b"\n"}, frozenset({2, 1})),
    )  # fmt: skip


def same(a, b):
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture
def path(tmp_path):
    save([made()], tmp_path / "run.jsonl")
    return tmp_path / "run.jsonl"


def test_what_is_saved_is_loaded(path):
    trace = made()
    assert any(step.logprob_after == -math.inf for step in trace.steps)
    assert same(tuple(load(path)), (trace,))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 1 + len(trace.steps)
    assert len(lines[0]["recipes"]) == 3
    assert [file.name for file in path.parent.iterdir()] == ["run.jsonl"]


def test_runs_that_were_drawn_together_stand_in_one_file(tmp_path):
    traces = [dataclasses.replace(made(), seed=seed, steps=made().steps[:seed]) for seed in (3, 0, 10)]
    save(traces, tmp_path / "runs.jsonl")
    assert same(tuple(load(tmp_path / "runs.jsonl")), tuple(traces))


def test_a_loaded_trace_replays_what_was_drawn(path):
    (trace,) = load(path)
    for place, step in enumerate(trace.steps):
        if step.snapshot is None:
            continue
        states = start(step.recipe.transforms, None, trace.prompt, np)
        seen = replay(
            step.snapshot, step.recipe.transforms, states, (trace.seed, step.position), greedy=step.recipe.greedy
        )
        assert (seen.removed_by[seen.removed_by >= 0] == step.removed_by[seen.removed_by >= 0]).all()
        at = seen.ids.tolist().index(step.token)
        assert seen.low[at] - 1e-6 <= math.exp(step.logprob_after) <= seen.high[at] + 1e-6
        assert len(states_at(step.recipe.transforms, trace.lexicon, trace.prompt, trace.steps[:place])) == len(states)


def test_the_lexicon_is_what_transforms_ask_for():
    lexicon = made().lexicon
    assert lexicon.piece(7) == b"\xf0\x9f"
    assert lexicon.piece(99) == b""
    assert lexicon.encode("\n") == [8]
    assert lexicon.encode("x") == []
    (exempt,) = start((XTC(0.5),), lexicon, [], np)
    assert exempt == (1, 2, 8)


def damage(lines):
    """What is done to the lines, and the line that is blamed."""
    header, first, second = (json.loads(line) for line in lines[:3])
    snapshot = second["snapshot"]

    def put(number, row):
        return [*lines[: number - 1], json.dumps(row) if row is not None else "", *lines[number:]], number

    def without(row, name):
        return {k: v for k, v in row.items() if k != name}

    for transform in ({"transform": "Magic"}, {"transform": "MinP", "p": 3}, {"transform": "TopK", "q": 3}):
        yield put(1, header | {"recipes": [{"greedy": False, "transforms": [transform]}]})
    for row in ({"version": 2}, {"pieces": []}, {"seed": None}, {"prompt": ["a"]}):
        yield put(1, header | row)
    yield put(1, without(header, "seed"))
    yield put(1, {"a": 1})
    yield from (([first, *lines[1:]], 1) for first in ("hello", "[]"))
    yield lines[1:], 1
    yield [], 1
    yield lines[:-2], len(lines) - 1
    yield [*lines[:-1], lines[-1][:50]], len(lines)
    yield [*lines, lines[-1]], len(lines) + 1
    yield [*lines, *lines[:-1]], 2 * len(lines)  # a second run, cut short
    yield [*lines, json.dumps(header | {"version": 2}), *lines[1:]], len(lines) + 1
    for row in (None, 5, without(second, "token"), second | {"cut": second["cut"][:-8]}):
        yield put(3, row)
    for name, value in (("recipe", 3), ("recipe", -1), ("entropy", "high"), ("token", "7"), ("rank", 1.5)):
        yield put(3, second | {name: value})
    parts = [(name, snapshot[name][:-8]) for name in ("logits", "counts")]
    for name, value in (("ids", snapshot["ids"][:-3]), ("ids", "*" * 8), *parts):  # neither base64 nor so many
        yield put(3, second | {"snapshot": snapshot | {name: value}})
    yield put(3, second | {"snapshot": without(snapshot, "lse")})
    yield put(2, first | {"piece": "é"})


def test_damage_is_named_with_file_and_line(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    cases = list(damage(lines))
    assert len(cases) == 33
    for broken, number in cases:
        path.write_text("".join(line + "\n" for line in broken), encoding="utf-8")
        with pytest.raises(DataError) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(f"{path}:{number}: ") and "\n" not in message, message
    path.write_bytes(b"\n" * 100 + b"\xff\xfe")
    with pytest.raises(DataError, match=r"run\.jsonl must be UTF-8: .* byte 100"):
        load(path)
    with pytest.raises(DataError, match="was not written"):
        save([made()], path.parent / "missing" / "run.jsonl")
    with pytest.raises(DataError, match="cannot read"):
        load(path.parent / "none.jsonl")


def test_a_snapshot_is_small():
    snapshot = made().steps[1].snapshot
    arrays = [getattr(snapshot, f.name) for f in dataclasses.fields(Snapshot)]
    assert sum(a.nbytes for a in arrays if isinstance(a, np.ndarray)) < 3000


def test_a_file_carries_a_checksum_and_older_ones_open(path):
    header, *steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(header["sha256"]) == 64
    again = path.with_name("again.jsonl")
    for changed in ({"model": "other"}, {"meta": {}}, {"seed": 6}):
        with pytest.raises(DataError, match=r"again\.jsonl:1: .*checksum is of other lines"):
            read_again(again, header | changed, steps)
    with pytest.raises(DataError, match="checksum"):  # nothing else contradicts it
        read_again(again, header, [*steps[:3], steps[3] | {"elapsed_s": 0.5}, *steps[4:]])
    del header["sha256"]
    assert same(read_again(again, header, steps), tuple(load(path)))


def test_numbers_that_no_model_gives_are_refused(path):
    header, *steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    del header["sha256"]
    one, snapshot = steps[1], steps[1]["snapshot"]
    assert steps[3]["rank"] > 1

    def held(name, at, value, kind=np.float32):
        array = np.frombuffer(base64.b64decode(snapshot[name]), kind).copy()
        array[at] = value
        return {name: base64.b64encode(array.tobytes()).decode()}

    changes = [(1, "token", one["token"] ^ 1, "token"), (3, "rank", 1, "the rank 1, with"), (0, "position", -1, "n -1")]
    for name, value, said in (
        ("logprob", 5.0, "above 0"), ("logprob_after", "nan", "above 0"), ("logprob", one["logprob"] - 1, "logit gi"),
        ("rank", 601, "the rank 601"), ("kept", 601, "kept of 600"), ("entropy", 9.0, "more entropy"),
        ("origin", "\x1b[2J", "origin"), ("elapsed_s", -1.0, "-1.0 seconds"),
    ):  # fmt: skip
        changes.append((1, name, value, said))
    first = np.frombuffer(base64.b64decode(snapshot["ids"]), np.int32)[0]
    for part, said in (
        ({"mean": 99.0}, "moments"), ({"variance": -1.0}, "moments"), ({"lse": -9.0}, "sum up to"),
        ({"vocab": 10}, "no tokens of 10"), (held("ids", 1, first, np.int32), "a candidate that comes twice"),
        (held("logits", 0, np.nan), "whose logit is no number"), (held("edges", 3, np.inf), "edges do not ascend"),
        (held("counts", 0, -1, np.int32), "other counts"), (held("lses", 0, 99.0), "a bin that is likelier"),
    ):  # fmt: skip
        changes.append((1, "snapshot", snapshot | part, said))
    cases = [(header, [*steps[:at], steps[at] | {name: value}, *steps[at + 1 :]], said)
             for at, name, value, said in changes]  # fmt: skip
    pieces = header["pieces"] | {str(one["token"]): "AAAA"}
    for wrong, order, said in (
        *cases, (header, [steps[0], steps[2], one, *steps[3:]], "after a later one"),
        (header | {"prompt": [600]}, steps, "beyond its vocabulary"),
        (header | {"pieces": pieces}, steps, "with the bytes of another"),
    ):  # fmt: skip
        with pytest.raises(DataError) as caught:
            read_again(path, wrong, order)
        assert said in str(caught.value), (said, str(caught.value))


def read_again(path, header, steps):
    path.write_text("\n".join(map(json.dumps, [header, *steps])) + "\n")
    return tuple(load(path))
