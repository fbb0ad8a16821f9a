"""A trace as a file: what is saved is what is loaded, and nothing damaged is loaded."""

import base64
import dataclasses
import json
import math

import numpy as np
import pytest

from likely.engine.errors import DataError
from likely.engine.trace.file import load, save
from likely.engine.trace.observe import observe
from likely.engine.trace.replay import replay, states_at
from likely.engine.trace.step import Lexicon, Recipe
from likely.engine.trace.trace import Trace
from likely.engine.transforms import (
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
    Recipe(
        (LogitBias({4: 1.5}), DRY(0.8, breakers=("\n", "–")), RepetitionPenalty(1.1, 8), TopP(0.5), Temperature(0.7))
    ),
    Recipe((XTC(0.5, 0.02), MinP(0.01, 3))),
    Recipe(greedy=True),
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
        lexicon=Lexicon({7: b"\xf0\x9f", 8: b"\n"}, frozenset({2, 1})),
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
    """Name, what is done to the lines, and the line that is blamed."""
    header, first, second = (json.loads(line) for line in lines[:3])

    def put(number, row):
        return [*lines[: number - 1], json.dumps(row) if row is not None else "", *lines[number:]]

    snapshot = second["snapshot"]
    yield "another version", put(1, header | {"version": 2}), 1
    yield "another file", put(1, {"a": 1}), 1
    yield "not JSON", ["hello", *lines[1:]], 1
    yield "a list", ["[]", *lines[1:]], 1
    yield "no header", lines[1:], 1
    yield "nothing", [], 1
    yield (
        "unknown transform",
        put(1, header | {"recipes": [{"greedy": False, "transforms": [{"transform": "Magic"}]}]}),
        1,
    )
    yield (
        "out of range",
        put(1, header | {"recipes": [{"greedy": False, "transforms": [{"transform": "MinP", "p": 3}]}]}),
        1,
    )
    yield (
        "unknown field",
        put(1, header | {"recipes": [{"greedy": False, "transforms": [{"transform": "TopK", "q": 3}]}]}),
        1,
    )
    yield "no seed", put(1, {k: v for k, v in header.items() if k != "seed"}), 1
    yield "a list of pieces", put(1, header | {"pieces": []}), 1
    yield "cut short", lines[:-2], len(lines) - 1
    yield "cut within a line", [*lines[:-1], lines[-1][:50]], len(lines)
    yield "a step too many", [*lines, lines[-1]], len(lines) + 1
    yield "a second run, cut short", [*lines, *lines[:-1]], 2 * len(lines)
    yield "a second run of another version", [*lines, json.dumps(header | {"version": 2}), *lines[1:]], len(lines) + 1
    yield "an empty line", put(3, None), 3
    yield "a number", put(3, 5), 3
    yield "no token", put(3, {k: v for k, v in second.items() if k != "token"}), 3
    yield "recipe beyond", put(3, second | {"recipe": 3}), 3
    yield "negative recipe", put(3, second | {"recipe": -1}), 3
    yield "a word for a number", put(3, second | {"entropy": "high"}), 3
    yield "a word for a token", put(3, second | {"token": "7"}), 3
    yield "no rank", put(3, second | {"rank": 1.5}), 3
    yield "a broken seed", put(1, header | {"seed": None}), 1
    yield "a broken prompt", put(1, header | {"prompt": ["a"]}), 1
    yield "broken base64", put(3, second | {"snapshot": snapshot | {"ids": snapshot["ids"][:-3]}}), 3
    yield "not base64", put(3, second | {"snapshot": snapshot | {"ids": "*" * 8}}), 3
    yield "fewer logits", put(3, second | {"snapshot": snapshot | {"logits": snapshot["logits"][:-8]}}), 3
    yield "fewer bins", put(3, second | {"snapshot": snapshot | {"counts": snapshot["counts"][:-8]}}), 3
    yield "fewer cuts", put(3, second | {"cut": second["cut"][:-8]}), 3
    yield "no lse", put(3, second | {"snapshot": {k: v for k, v in snapshot.items() if k != "lse"}}), 3
    yield "pieces of text", put(2, first | {"piece": "é"}), 2


def test_damage_is_named_with_file_and_line(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    cases = list(damage(lines))
    assert len(cases) > 25
    for name, broken, number in cases:
        path.write_text("".join(line + "\n" for line in broken), encoding="utf-8")
        with pytest.raises(DataError) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(f"{path}:{number}: "), (name, message)
        assert "\n" not in message, name


def test_bytes_that_are_not_text(path):
    path.write_bytes(path.read_bytes()[:100] + b"\xff\xfe" + path.read_bytes()[100:])
    with pytest.raises(DataError, match=r"run\.jsonl must be UTF-8: .* byte 100"):
        load(path)


def test_where_it_cannot_be_written_or_read(tmp_path):
    with pytest.raises(DataError, match="was not written"):
        save([made()], tmp_path / "missing" / "run.jsonl")
    with pytest.raises(DataError, match="cannot read"):
        load(tmp_path / "run.jsonl")


def test_a_snapshot_is_small():
    snapshot = made().steps[1].snapshot
    arrays = [getattr(snapshot, f.name) for f in dataclasses.fields(Snapshot)]
    assert sum(a.nbytes for a in arrays if isinstance(a, np.ndarray)) < 3000


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_carries_a_checksum_and_older_ones_open(path):
    header, *steps = rows_of(path)
    assert len(header["sha256"]) == 64
    again = path.with_name("again.jsonl")
    for changed in ({"model": "other"}, {"meta": {}}, {"seed": 6}):
        again.write_text("\n".join(map(json.dumps, [header | changed, *steps])) + "\n")
        with pytest.raises(DataError, match=r"again\.jsonl:1: .*checksum is of other lines"):
            load(again)
    harmless = steps[3] | {"elapsed_s": 0.5}  # nothing contradicts it
    again.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in [header, *steps[:3], harmless, *steps[4:]])
    )
    with pytest.raises(DataError, match="checksum"):
        load(again)
    del header["sha256"]
    again.write_text("\n".join(map(json.dumps, [header, *steps])) + "\n")
    assert same(tuple(load(again)), tuple(load(path)))


def tampered(steps):
    """What may be done to the steps of a file without a checksum, and what is said of it."""
    one, two = steps[1], steps[2]
    yield "a log-probability above 0", [steps[0], one | {"logprob": 5.0}, *steps[2:]], "above 0"
    yield "one that is none", [steps[0], one | {"logprob_after": "nan"}, *steps[2:]], "above 0"
    yield "another one", [steps[0], one | {"logprob": one["logprob"] - 1}, *steps[2:]], "whose logit gives"
    yield "a token that was not drawn", [steps[0], one | {"token": one["token"] ^ 1}, *steps[2:]], "token"
    yield "swapped steps", [steps[0], two, one, *steps[3:]], "after a later one"
    yield "a rank of the best", [*steps[:3], *[steps[3] | {"rank": 1}], *steps[4:]], "the rank 1, with"
    yield "a rank beyond", [steps[0], one | {"rank": 601}, *steps[2:]], "the rank 601"
    yield "more kept than there are", [steps[0], one | {"kept": 601}, *steps[2:]], "kept of 600"
    yield "more entropy than there is", [steps[0], one | {"entropy": 9.0}, *steps[2:]], "more entropy"
    yield "an origin", [steps[0], one | {"origin": "\x1b[2J"}, *steps[2:]], "origin"
    snapshot = one["snapshot"]
    yield "a mean above all", [steps[0], one | {"snapshot": snapshot | {"mean": 99.0}}, *steps[2:]], "moments"
    yield "a sum below its parts", [steps[0], one | {"snapshot": snapshot | {"lse": -9.0}}, *steps[2:]], "sum up to"
    yield "a vocabulary", [steps[0], one | {"snapshot": snapshot | {"vocab": 10}}, *steps[2:]], "no tokens of 10"

    def held(name, at, value, kind=np.float32):
        array = np.frombuffer(base64.b64decode(snapshot[name]), kind).copy()
        array[at] = value
        return [steps[0], one | {"snapshot": snapshot | {name: base64.b64encode(array.tobytes()).decode()}}, *steps[2:]]

    first = np.frombuffer(base64.b64decode(snapshot["ids"]), np.int32)[0]
    yield "a candidate twice", held("ids", 1, first, np.int32), "a candidate that comes twice"
    yield "a logit that is none", held("logits", 0, np.nan), "whose logit is no number"
    yield "edges", held("edges", 3, np.inf), "edges do not ascend"
    yield "counts", held("counts", 0, -1, np.int32), "other counts"
    yield "a bin above all", held("lses", 0, 99.0), "a bin that is likelier"
    yield "a spread below none", [steps[0], one | {"snapshot": snapshot | {"variance": -1.0}}, *steps[2:]], "moments"
    yield "seconds", [steps[0], one | {"elapsed_s": -1.0}, *steps[2:]], "-1.0 seconds"
    yield "a position", [steps[0] | {"position": -1}, *steps[1:]], "the position -1"


def test_numbers_that_no_model_gives_are_refused(path):
    header, *steps = rows_of(path)
    del header["sha256"]
    assert steps[3]["rank"] > 1
    cases = list(tampered(steps))
    for name, changed, line in cases:
        path.write_text("\n".join(map(json.dumps, [header, *changed])) + "\n")
        with pytest.raises(DataError) as caught:
            load(path)
        assert line in str(caught.value), (name, str(caught.value))
    path.write_text("\n".join(map(json.dumps, [header | {"prompt": [600]}, *steps])) + "\n")
    with pytest.raises(DataError, match="beyond its vocabulary"):
        load(path)
    pieces = header["pieces"] | {str(steps[1]["token"]): "AAAA"}
    path.write_text("\n".join(map(json.dumps, [header | {"pieces": pieces}, *steps])) + "\n")
    with pytest.raises(DataError, match="with the bytes of another"):
        load(path)
