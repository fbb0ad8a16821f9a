"""Rows of every form and what is said of those that are none; parts of a data set; samples of rows, cut and split."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DataError, ParameterError
from engine.tune import choices, data, samples
from engine.tune.batches import collate
from engine.tune.data import Data
from engine.tune.rows import TrainingRow, parse, read_map
from engine.tune.samples import Pair, TrainingSample, encode, fit, prepare
from tests.fakes import ByteTokenizer

USER, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("value", "form", "messages"),
    [
        ({"prompt": "q", "completion": "a"}, "prompt", (USER, SAID)),
        ({"prompt": [USER], "completion": [SAID]}, "prompt", (USER, SAID)),
        ({"instruction": "q", "output": "a"}, "alpaca", (USER, SAID)),
        ({"instruction": "q", "input": "", "output": "a", "system": ""}, "alpaca", (USER, SAID)),
        (
            {"instruction": "q", "input": "i", "output": "a", "system": "s"},
            "alpaca",
            ({"role": "system", "content": "s"}, {"role": "user", "content": "q\n\ni"}, SAID),
        ),
        ({"messages": [USER, SAID]}, "chat", (USER, SAID)),
        ({"messages": [USER, SAID], "tools": [{"x": 1}]}, "tools", (USER, SAID)),
        (
            {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [1]}]},
            "tools",
            (USER, {"role": "assistant", "content": None, "tool_calls": [1]}),
        ),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "sharegpt", (USER, SAID)),
        (
            {"conversations": [{"from": "system", "value": "s"}, {"from": "function", "value": "t"}]},
            "sharegpt",
            ({"role": "system", "content": "s"}, {"role": "tool", "content": "t"}),
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference", (USER, SAID)),
        ({"chosen": "a", "rejected": "b"}, "preference", (SAID,)),
        ({"prompt": None, "text": "t"}, "text", ()),
    ],
)
def test_a_row_is_of_the_form_of_its_keys(value: dict[str, Any], form: str, messages: tuple[Any, ...]) -> None:
    found = parse(value, "here")
    assert (found.form, found.messages, found.where) == (form, messages, "here")
    if form == "preference":
        assert found.rejected == (*messages[:-1], {"role": "assistant", "content": "b"})
    else:
        assert found.rejected == ()
    assert found.text == value.get("text", "") and found.tools == tuple(value.get("tools", ()))


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (3, "a JSON object expected"),
        ({}, "got no keys"),
        ({"x": 1}, "got x .rename by --map."),
        ({"text": 3}, "text must be text"),
        ({"messages": 3}, "messages must be a list"),
        ({"messages": []}, "messages is empty"),
        ({"messages": ["x"]}, r"messages\[0\] must be an object"),
        ({"messages": [USER, {"role": "x", "content": "a"}]}, r"messages\[1\].role must be one of system, developer"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content must be text"),
        ({"messages": [USER], "tools": {}}, "tools must be a list"),
        ({"messages": [{"role": "user", "content": 3}]}, "content must be text"),
        ({"prompt": 3, "completion": "a"}, "prompt must be text or a list of messages"),
        ({"prompt": "a", "completion": 3}, "completion must be text or"),
        ({"instruction": 3, "output": "a"}, "instruction must be text"),
        ({"instruction": "a", "output": 3}, "output must be text"),
        ({"instruction": "a", "output": "b", "input": 3}, "input must be text"),
        ({"instruction": "a", "output": "b", "system": 3}, "system must be text"),
        ({"conversations": []}, "conversations is empty"),
        ({"conversations": [3]}, r"conversations\[0\] must be an object with from and value"),
        ({"conversations": [{"from": "x", "value": "a"}]}, r"conversations\[0\].from must be one of human"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": 3, "value": "a"}]},
            r"conversations\[1\].from must be",
        ),
        ({"conversations": [{"from": "human", "value": 3}]}, "must be an object with from and value"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same"),
    ],
)
def test_what_is_no_row_is_said_with_its_place(value: Any, line: str) -> None:
    with pytest.raises(DataError, match=rf"^here: .*{line}|^here: {line}"):
        parse(value, "here")


def test_a_row_s_digest_is_of_its_content_alone() -> None:
    one = parse({"prompt": "q", "completion": "a"}, "x")
    assert one.digest == parse({"instruction": "q", "output": "a"}, "y").digest
    for other in (
        {"prompt": "q", "completion": "b"},
        {"text": "q"},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"messages": [USER, SAID], "tools": [1]},
    ):
        assert parse(other, "x").digest != one.digest
    assert parse({"a": "q", "b": "r"}, "", {"a": "prompt", "b": "completion"}).form == "prompt"
    assert read_map(["a=prompt", "b b=tools", "c=input", "d=system"]) == {
        "a": "prompt",
        "b b": "tools",
        "c": "input",
        "d": "system",
    }
    for entry in ("a", "a=", "a=x"):
        with pytest.raises(ParameterError, match="--map must be COLUMN=NAME"):
            read_map([entry])


# -- files -------------------------------------------------------------------------------------------------------------


def write(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_parts_of_a_folder_are_by_their_names(tmp_path: Path) -> None:
    names = {
        "train": ["train.jsonl", "train-00001.csv", "data/train.json", "sub/train-0.parquet"],
        "valid": ["valid.jsonl", "validation.json", "val-1.csv", "dev.jsonl"],
        "test": ["test.jsonl", "test-9.json"],
    }
    for some in names.values():
        for name in some:
            write(tmp_path / name, ["a"])
    for name in ("training.jsonl", "trainer-1.txt", "valid.txt", "mytest.jsonl", "val.md"):
        write(tmp_path / name, ["a"])
    found = data.files(tmp_path)
    assert {part: {str(p.relative_to(tmp_path)) for p in some} for part, some in found.items()} == {
        part: set(some) for part, some in names.items()
    }
    assert all(some == sorted(some) for some in found.values())


def test_rows_are_set_aside_by_their_hash(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    path = write(tmp_path / "rows.jsonl", texts)
    for share in (0.05, 0.3, 0.9):
        found = data.read(path, valid=share)
        aside = [int(parse({"text": t}, "").digest.hex()[:4], 16) < share * 65536 for t in texts]
        assert [row.text for row in found.valid] == [t for t, out in zip(texts, aside, strict=True) if out]
        assert [row.text for row in found.train] == [t for t, out in zip(texts, aside, strict=True) if not out]
        assert found.split and found.overlap == 0 and found.test == () and found.forms == {"text": 40}
    assert data.read(path).valid == data.read(path, valid=0.05).valid
    none = data.read(path, valid=0.0)
    assert len(none.train) == 40 and none.valid == () and not none.split
    two = write(tmp_path / "two.jsonl", ["a", "b", "a"])
    least = min("ab", key=lambda t: parse({"text": t}, "").digest)
    few = data.read(two, valid=0.0001)
    assert (
        {row.text for row in few.valid} == {least}
        and least not in {row.text for row in few.train}
        and few.duplicates == 1
    )
    once = data.read(two, valid=0.0, keep_duplicates=False)
    assert [row.text for row in once.train] == ["a", "b"] and once.duplicates == 1
    one = data.read(write(tmp_path / "one.jsonl", ["a"]), valid=0.0001)
    assert len(one.train) == 1 and one.valid == ()
    with pytest.raises(DataError, match="its rows are all the same, so none can be set aside"):
        data.read(write(tmp_path / "same.jsonl", ["a", "a"]), valid=0.0001)


def test_a_folder_s_own_parts_are_taken_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "f" / "train.jsonl", ["a", "b", "c", "a"])
    write(tmp_path / "f" / "valid.jsonl", ["b", "x"])
    write(tmp_path / "f" / "test.jsonl", ["a", "y", "a"])
    found = data.read(tmp_path / "f", valid=0.9)
    assert (len(found.train), len(found.valid), len(found.test)) == (4, 2, 3) and not found.split
    assert (found.duplicates, found.overlap, found.forms, found.left_out) == (1, 3, {"text": 9}, 0)
    dropped = parse({"text": "a"}, "")
    choices.choose(
        choices.beside(tmp_path / "f"), {choices.key(dropped): False, choices.key(parse({"text": "b"}, "")): True}
    )
    again = data.read(tmp_path / "f")
    assert ([r.text for r in again.train], [r.text for r in again.test]) == (["b", "c"], ["y"]) and again.left_out == 4
    assert again.fingerprint != found.fingerprint
    choices.choose(choices.beside(tmp_path / "f"), {choices.key(parse({"text": t}, "")): False for t in "abc"})
    with pytest.raises(DataError, match="every row of it was dropped by hand"):
        data.read(tmp_path / "f")
    (tmp_path / "f" / "train.jsonl").unlink()
    with pytest.raises(DataError, match="has no train file"):
        data.read(tmp_path / "f")
    mixed = tmp_path / "m.jsonl"
    mixed.write_text('{"text": "a"}\n{"chosen": "a", "rejected": "b"}\n')
    with pytest.raises(DataError, match="mixes preference pairs with other rows"):
        data.read(mixed, valid=0.0)
    row = TrainingRow("text", "", "a")
    orders = [
        Data(t, v, (), {}, 0, 0, False).fingerprint for t, v in (((row,), ()), ((), (row,)), ((row, row), ()), ((), ()))
    ]
    assert len(set(orders)) == 4 and Data((), (), (), {}, 0, 0, False).left_out == 0


def test_places_of_what_is_malformed_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n\n{"text" 3}\n')
    with pytest.raises(DataError, match=r"a.jsonl:3:9: one JSON object a line expected: .*, got '3\}'"):
        list(data.rows(path))
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"},\n {"text": "b"}]')
    assert [(r.text, r.where) for r in data.rows(path)] == [("a", f"{path}[0]"), ("b", f"{path}[1]")]
    for text, line in (
        ('[{"text": "a"},\n]', r"a.json:2:\d+: a JSON list"),
        ('{"text": "a"}', "a.json:1:1: a JSON list of objects expected"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=line):
            list(data.rows(path))
    table = tmp_path / "a.csv"
    table.write_text('prompt,completion,tools\nq,a,\n"x\ny",b,"[1]"\n"[z",{,\n')
    found = list(data.rows(table))
    assert [(r.messages[0]["content"], r.tools, r.where) for r in found] == [
        ("q", (), f"{table}:2"),
        ("x\ny", (1,), f"{table}:4"),
        ("[z", (), f"{table}:5"),
    ]
    for text in ("prompt,completion\nq\n", "prompt,completion\nq,a,b\n"):
        table.write_text(text)
        with pytest.raises(DataError, match=r"a.csv:2: expected 2 columns as in the first line"):
            list(data.rows(table))
    with pytest.raises(DataError, match=r"expected a file that ends with .jsonl"):
        list(data.rows(tmp_path / "a.png"))
    (tmp_path / "t" / "s").mkdir(parents=True)
    (tmp_path / "t" / "b.md").write_text("B")
    (tmp_path / "t" / "s" / "c.txt").write_text("C")
    (tmp_path / "t" / "a.txt").write_text(" \n")
    assert [row.text for row in data.texts(tmp_path / "t")] == ["B", "C"] and len(
        data.read(tmp_path / "t", valid=0.0).train
    ) == 2
    for name in ("a", "a/b/c", "./a", "~a/b", "/a/b", "a/b.jsonl", "../b"):
        with pytest.raises(DataError, match="expected a file, a folder, or the id owner/name of a hub data set"):
            data.read(f"{name}")


# -- samples -----------------------------------------------------------------------------------------------------------


def test_long_samples_are_split_with_one_token_of_context_or_cut_or_dropped() -> None:
    sample = TrainingSample(tuple(range(10)), (False, False, *[True] * 8), "w")
    parts = fit(sample, 4, "split")
    assert [part.ids for part in parts] == [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8, 9)]
    assert sum(part.targets for part in parts) == sample.targets == 8 and all(part.where == "w" for part in parts)
    assert [part.ids for part in fit(sample, 5, "split")] == [(0, 1, 2, 3, 4), (4, 5, 6, 7, 8), (8, 9)]
    (cut,) = fit(sample, 4, "cut")
    assert (cut.ids, cut.trained) == ((0, 1, 2, 3), (False, False, True, True)) and fit(sample, 4, "drop") == []
    assert len(fit(sample, 10, "split")) == 1
    pair = Pair(sample, cut)
    assert pair.ids == sample.ids + cut.ids and pair.targets == 10


def test_rows_become_samples_and_what_was_done_is_counted() -> None:
    rows = [parse({"prompt": "q" * n, "completion": "a" * m}, f"r{n}") for n, m in ((2, 3), (4, 12), (12, 1))]
    tokenizer: Any = ByteTokenizer()
    tokenizer.chat_template = None
    tokenizer.end = 256
    whole = [len(encode(row.messages, row, tokenizer, "completion").ids) for row in rows]
    split = prepare(rows, tokenizer, length=max(whole) - 1, loss="completion")
    assert split.too_long == 1 and split.lost == 0 and split.pieces == 2 and split.untrained == ()
    exact = prepare(rows, tokenizer, length=max(whole), loss="completion")
    assert (exact.too_long, exact.pieces, len(exact.samples)) == (0, 0, 3)
    cut = prepare(rows, tokenizer, length=8, loss="completion", too_long="cut")
    assert (
        cut.too_long == sum(n > 8 for n in whole) and cut.lost == sum(max(0, n - 8) for n in whole) and cut.pieces == 0
    )
    assert cut.untrained == ("r12",)  # of it the prompt alone is left
    dropped = prepare(rows, tokenizer, length=8, loss="completion", too_long="drop")
    assert dropped.lost == sum(n for n in whole if n > 8) and len(dropped.samples) == 1
    with pytest.raises(DataError, match=r"r4: \d+ tokens where 8 are allowed: raise --length"):
        prepare(rows, tokenizer, length=8, too_long="refuse")
    with pytest.raises(DataError, match="none of the 1 rows has a token to train on: the first is r12"):
        prepare(rows[2:], tokenizer, length=8, loss="completion", too_long="cut")
    assert prepare([], tokenizer, length=8).samples == ()
    pairs = [parse({"prompt": "q", "chosen": "a" * n, "rejected": "b"}, f"p{n}") for n in (2, 30)]
    both = prepare(pairs, tokenizer, length=12)
    assert len(both.pairs) == 1 and both.too_long == 1 and both.samples == ()
    sizes = [len(encode(m, pairs[1], tokenizer, "completion").ids) for m in (pairs[1].messages, pairs[1].rejected)]
    assert both.lost == sum(sizes)
    with pytest.raises(DataError, match=rf"p30: {max(sizes)} tokens where 12 are allowed"):
        prepare(pairs, tokenizer, length=12, too_long="refuse")
    assert samples.Samples(()).pairs == () and collate([both.pairs[0].chosen]).trained == both.pairs[0].chosen.targets
