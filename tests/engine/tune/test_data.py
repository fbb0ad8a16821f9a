"""Rows of every form and every fault, splits, spans, packing, choices: nothing lost, no pad token trained."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.results import task_sources
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.measure.reason import problems
from likely.engine.measure.synth import inputs
from likely.engine.text.rows import training_row as rows
from likely.engine.text.rows import values
from likely.engine.text.rows.training_row import parse
from likely.engine.text.tokenizer import Tokenizer, from_gguf
from likely.engine.train.data import batches, data, row_choices, samples
from likely.engine.train.data.data import Data
from likely.engine.train.data.samples import TrainingSample
from tests.engine import hub_server
from tests.engine.vocabularies import byte_level
from tests.fakes import ByteTokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# the generation prompt opens a thought that the rendered conversation does not have: it is no prefix of it
THINKING = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")


def tokenizer(template: str | None = CHATML) -> Tokenizer:
    found = byte_level(**{"tokenizer.chat_template": template or ""})
    if template is None:
        del found["tokenizer.chat_template"]
    return from_gguf(found)


def chat(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]}


def write(path: Path, values: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def trained_text(sample: TrainingSample, t: Tokenizer) -> str:
    return "".join(
        t.piece(token).decode() if trained else "·" for token, trained in zip(sample.ids, sample.trained, strict=True)
    )


USER, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {"role": "assistant", "content": None, "tool_calls": [1]}


FORMS: list[tuple[dict[str, Any], str, tuple[Any, ...]]] = [
    ({"prompt": "q", "completion": "a"}, "prompt", (USER, SAID)),
    ({"prompt": [USER], "completion": [SAID]}, "prompt", (USER, SAID)),
    ({"question": "q", "answer": "a", "id": 3}, "question", (USER, SAID)),
    ({"prompt": "q", "answer": ["a", "b"]}, "question", (USER, SAID)),
    ({"question": "q", "answer": 3}, "question", (USER, SAID | {"content": "3"})),
    ({"instruction": "q", "output": "a"}, "alpaca", (USER, SAID)),
    ({"instruction": "q", "input": "", "output": "a", "system": ""}, "alpaca", (USER, SAID)),
    ({"instruction": "q", "input": "i", "output": "a", "system": "s"}, "alpaca",
     ({"role": "system", "content": "s"}, {"role": "user", "content": "q\n\ni"}, SAID)),
    ({"messages": [USER, SAID]}, "chat", (USER, SAID)),
    ({"messages": [USER, SAID], "tools": [{"x": 1}]}, "tools", (USER, SAID)),
    ({"messages": [USER, CALL]}, "tools", (USER, CALL)),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "sharegpt", (USER, SAID)),
    ({"conversations": [{"from": "system", "value": "s"}, {"from": "function", "value": "t"}]}, "sharegpt",
     ({"role": "system", "content": "s"}, {"role": "tool", "content": "t"})),
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference", (USER, SAID)),
    ({"chosen": "a", "rejected": "b"}, "preference", (SAID,)), ({"prompt": None, "text": "t"}, "text", ()),
]  # fmt: skip


@pytest.mark.parametrize(("value", "form", "messages"), FORMS)
def test_a_row_is_of_the_form_of_its_keys(value: dict[str, Any], form: str, messages: tuple[Any, ...]) -> None:
    found = rows.parse(value, "here")
    assert (found.form, found.messages, found.where) == (form, messages, "here")
    other = (*messages[:-1], {"role": "assistant", "content": "b"})
    assert found.rejected == (other if form == "preference" else ())
    assert found.text == value.get("text", "") and found.tools == tuple(value.get("tools", ()))


NO_ROWS: list[tuple[Any, str]] = [
    (3, "a JSON object expected"), ({}, "got no keys"), ({"x": 1}, "got x .rename by --map."),
    ({"prompt": "q", "completion": None}, r"got prompt, completion \(empty\) \(fill it"),
    ({"text": 3}, "text must be text"), ({"messages": 3}, "messages must be a list"),
    ({"messages": []}, "messages is empty"), ({"messages": ["x"]}, r"messages\[0\] must be an object"),
    ({"messages": [USER, {"role": "x", "content": "a"}]}, r"messages\[1\].role must be one of system, developer"),
    ({"messages": [{"role": "user"}]}, r"messages\[0\].content must be text"),
    ({"messages": [USER], "tools": {}}, "tools must be a list"),
    ({"messages": [{"role": "user", "content": 3}]}, "content must be text"),
    ({"prompt": 3, "completion": "a"}, "prompt must be text or a list of messages"),
    ({"prompt": "a", "completion": 3}, "completion must be text or"),
    ({"question": "q", "answer": []}, "answer must be text, a number or a list of them"),
    ({"instruction": 3, "output": "a"}, "instruction must be text"),
    ({"instruction": "a", "output": 3}, "output must be text"),
    ({"instruction": "a", "output": "b", "input": 3}, "input must be text"),
    ({"instruction": "a", "output": "b", "system": 3}, "system must be text"),
    ({"conversations": []}, "conversations is empty"),
    ({"conversations": [3]}, r"conversations\[0\] must be an object with from and value"),
    ({"conversations": [{"from": "x", "value": "a"}]}, r"conversations\[0\].from must be one of human"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": 3, "value": "a"}]},
     r"conversations\[1\].from must be"),
    ({"conversations": [{"from": "human", "value": 3}]}, "must be an object with from and value"),
    ({"prompt": "q", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "line"), NO_ROWS)
def test_what_is_no_row_is_said_with_its_place(value: Any, line: str) -> None:
    with pytest.raises(DataError, match=rf"^here: .*{line}|^here: {line}"):
        rows.parse(value, "here")


def test_a_row_s_digest_is_of_its_content_alone() -> None:
    one = rows.parse({"prompt": "q", "completion": "a"}, "x")
    assert one.digest == rows.parse({"instruction": "q", "output": "a"}, "y").digest
    for other in (
        {"prompt": "q", "completion": "b"}, {"text": "q"}, {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"messages": [USER, SAID], "tools": [1]},
    ):  # fmt: skip
        assert rows.parse(other, "x").digest != one.digest
    assert rows.parse({"a": "q", "b": "r"}, "", {"a": "prompt", "b": "completion"}).form == "prompt"
    assert rows.read_map(["a=prompt", "b b=tools", "c=input", "d=system"]) == {
        "a": "prompt", "b b": "tools", "c": "input", "d": "system",
    }  # fmt: skip
    for entry in ("a", "a=", "a=x"):
        with pytest.raises(ParameterError, match="--map must be COLUMN=NAME"):
            rows.read_map([entry])


def test_files_of_every_kind_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    values = [{"prompt": f"q, {i}", "completion": f'say "{i}"'} for i in range(5)]
    write(tmp_path / "a.jsonl", values)
    (tmp_path / "a.json").write_text(json.dumps(values))
    quoted = "".join(f'"q, {i}","say ""{i}"""\n' for i in range(5))
    (tmp_path / "a.csv").write_text("prompt,completion\n" + quoted)
    (tmp_path / "b.csv").write_text("\ufeffprompt;completion\n" + quoted.replace('","', '";"'))
    parquet.write_table(arrow.Table.from_pylist(values), tmp_path / "a.parquet")
    found = [
        [row.messages for row in data.read(tmp_path / name, valid=0).train]
        for name in ("a.jsonl", "a.json", "a.csv", "a.parquet", "b.csv")
    ]
    assert data.columns(tmp_path / "b.csv") == "prompt asks, completion is learned; semicolons part the columns"
    assert all(part == found[0] for part in found) and len(found[0]) == 5


def texts_of(path: Path, texts: list[str]) -> Path:
    return write(path, [{"text": text} for text in texts])


def test_parts_of_a_folder_are_by_their_names(tmp_path: Path) -> None:
    names = {
        "train": ["train.jsonl", "train-00001.csv", "data/train.json", "sub/train-0.parquet"],
        "valid": ["valid.jsonl", "validation.json", "val-1.csv", "dev.jsonl"],
        "test": ["test.jsonl", "test-9.json"],
    }
    for some in names.values():
        for name in some:
            texts_of(tmp_path / name, ["a"])
    for name in ("training.jsonl", "trainer-1.txt", "valid.txt", "mytest.jsonl", "val.md"):
        texts_of(tmp_path / name, ["a"])
    found = data.files(tmp_path)
    assert {part: {str(p.relative_to(tmp_path)) for p in some} for part, some in found.items()} == {
        part: set(some) for part, some in names.items()
    }
    assert all(some == sorted(some) for some in found.values())
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"has neither train\.jsonl"):
        data.read(tmp_path / "nothing")


def test_rows_are_set_aside_by_their_hash(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    path = texts_of(tmp_path / "rows.jsonl", texts)
    for share in (0.05, 0.3, 0.9):
        found = data.read(path, valid=share)
        aside = [int(rows.parse({"text": t}, "").digest.hex()[:4], 16) < share * 65536 for t in texts]
        assert [row.text for row in found.valid] == [t for t, out in zip(texts, aside, strict=True) if out]
        assert [row.text for row in found.train] == [t for t, out in zip(texts, aside, strict=True) if not out]
        assert found.split and found.overlap == 0 and found.test == () and found.forms == {"text": 40}
    assert data.read(path).valid == data.read(path, valid=0.05).valid
    none = data.read(path, valid=0.0)
    assert len(none.train) == 40 and none.valid == () and not none.split
    two = texts_of(tmp_path / "two.jsonl", ["a", "b", "a"])
    least = min("ab", key=lambda t: rows.parse({"text": t}, "").digest)
    few = data.read(two, valid=0.0001)
    assert {row.text for row in few.valid} == {least} and least not in {row.text for row in few.train}
    assert few.duplicates == 1
    once = data.read(two, valid=0.0, keep_duplicates=False)
    assert [row.text for row in once.train] == ["a", "b"] and once.duplicates == 1
    one = data.read(texts_of(tmp_path / "one.jsonl", ["a"]), valid=0.0001)
    assert len(one.train) == 1 and one.valid == ()
    with pytest.raises(DataError, match="its rows are all the same, so none can be set aside"):
        data.read(texts_of(tmp_path / "same.jsonl", ["a", "a"]), valid=0.0001)


def test_a_folder_s_own_parts_are_taken_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    for part, texts in (("train", "abca"), ("valid", "bx"), ("test", "aya")):
        texts_of(folder / f"{part}.jsonl", [*texts])
    found = data.read(folder, valid=0.9)
    assert (len(found.train), len(found.valid), len(found.test)) == (4, 2, 3) and not found.split
    assert (found.duplicates, found.overlap, found.forms, found.left_out) == (1, 3, {"text": 9}, 0)

    def choose(**kept: bool) -> Data:
        keys = {row_choices.key(rows.parse({"text": text}, "")): keep for text, keep in kept.items()}
        row_choices.choose(row_choices.beside(folder), keys)
        return data.read(folder)

    again = choose(a=False, b=True)
    assert ([r.text for r in again.train], [r.text for r in again.test]) == (["b", "c"], ["y"]) and again.left_out == 4
    assert again.fingerprint != found.fingerprint
    with pytest.raises(DataError, match="every row of it was dropped by hand"):
        choose(a=False, b=False, c=False)
    (folder / "train.jsonl").unlink()
    with pytest.raises(DataError, match="has no train file"):
        data.read(folder)
    with pytest.raises(DataError, match="mixes preference pairs with other rows"):
        data.read(write(tmp_path / "m.jsonl", [{"text": "a"}, {"chosen": "a", "rejected": "b"}]), valid=0.0)
    row = rows.TrainingRow("text", "", "a")
    parts = (((row,), ()), ((), (row,)), ((row, row), ()), ((), ()))
    assert len({Data(t, v, (), {}, 0, 0, False).fingerprint for t, v in parts}) == 4


MALFORMED = [
    ("a.jsonl", b'{"text": "a"}\n\n{"text" 3}\n', r"a.jsonl:3:9: one JSON object a line expected: .*, got '3\}'"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "b",, }\n', r"a.jsonl:2:14: one JSON object a line expected.*got ', }'"),
    ("a.json", b'[{"text": "a"},\n]', r"a.json:2:\d+: a JSON list"),
    ("a.json", b'[{"text": "a"}\n {"text": "b"}]', r"a.json:2:2: a JSON list"),
    ("a.json", b'{"text": "a"}', "a.json:1:1: a JSON list of objects expected"),
    ("a.csv", b"prompt;completion\nq;\n", r"a.csv:2: expected a row with .*; got prompt, completion \(empty\) \(fill"),
    ("a.csv", b"prompt,completion\nq\n", r"a.csv:2: expected 2 columns as in the first line"),
    ("a.csv", b"prompt,completion\nq,a,b\n", r"a.csv:2: expected 2 columns as in the first line"),
    ("a.jsonl", b'{"text": "\xe9"}\n', r"a.jsonl must be UTF-8"), ("a.jsonl", b"\n", "has no rows"),
    ("a.parquet", b"not parquet", "is not a Parquet file"), ("a.png", b"x", r"expected a file that ends with .jsonl"),
]  # fmt: skip


def test_all_broken_rows_are_told_at_once_the_first_ten_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = ['{"id": 1, "frage": 2, "a": "b"}', '{"frage": "q", "a": "b"}', '{"x": 1', *['{"q": 1}'] * 11]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        list(data.rows(path, {"frage": "prompt", "a": "completion"}))
    head, *faults = caught.value.lines
    assert head == f"{path}: 13 of its 14 rows cannot be read"
    assert faults[0] == "  1:11: prompt must be text or a list of messages, got a whole number (2)"
    assert faults[1].startswith("  3:8: one JSON object a line expected")
    assert faults[2].startswith(f"  {', '.join(f'{n}:1' for n in range(4, 12))}: expected a row with messages; ")
    assert faults[3:] == ["  and 3 more"]


def test_a_training_an_evaluation_problems_and_a_pipeline_say_the_same_of_a_broken_file(tmp_path: Path) -> None:
    """The fault: an evaluation told what is no JSON alone, then asked the rest and listed them by kind."""
    path = tmp_path / "a.jsonl"
    lines = ['{"x": 1}', '{"question": "q", "answer": "a"}', '{"question": 2, "answer": "a"}', '{"question": "q"}', "["]
    path.write_text("\n".join(lines))
    said = []
    readers: list[Callable[[], object]] = [
        lambda: data.read(path), lambda: task_sources.sources([str(path)]), lambda: problems.read(path),
        lambda: inputs.training_rows(str(path)),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(values.BrokenRows) as caught:
            read()
        said.append(caught.value.lines)
    assert said[0] == said[1] == said[2] == said[3] and said[0][0].endswith("4 of its 5 rows cannot be read")
    assert [line.split(": ")[0] for line in said[0][1:]] == ["  1:1", "  3:2", "  4:1", "  5:2"]
    pairs = tmp_path / "pairs.jsonl"  # of no training: what is odd about a row is told beside the items
    pairs.write_text('{"good": "a", "bad": "b"}\n{"good": "c"}\n')
    (source,) = task_sources.sources([str(pairs)])
    assert source.source.name == "pairs"


def test_places_of_what_is_malformed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content, line in MALFORMED:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=line):
            data.read(tmp_path / name)
    path, table = tmp_path / "a.json", tmp_path / "a.csv"
    path.write_text('[{"text": "a"},\n {"text": "b"}]')
    assert [(r.text, r.where) for r in data.rows(path)] == [("a", f"{path}[0]"), ("b", f"{path}[1]")]
    table.write_text('prompt,completion,tools\nq,a,\n"x\ny",b,"[1]"\n"[z",{,\n')
    assert [(r.messages[0]["content"], r.tools, r.where) for r in data.rows(table)] == [
        ("q", (), f"{table}:2"), ("x\ny", (1,), f"{table}:4"), ("[z", (), f"{table}:5"),
    ]  # fmt: skip
    (tmp_path / "t" / "s").mkdir(parents=True)
    for name, text in (("b.md", "B"), ("s/c.txt", "C"), ("a.txt", " \n")):
        (tmp_path / "t" / name).write_text(text)
    assert [row.text for row in data.texts(tmp_path / "t")] == ["B", "C"]
    assert len(data.read(tmp_path / "t", valid=0.0).train) == 2
    monkeypatch.chdir(tmp_path / "t" / "s")  # where none of these is
    for name in ("a", "a/b/c", "./a", "~a/b", "/a/b", "a/b.jsonl", "../b"):
        with pytest.raises(DataError, match="expected a file, a folder, or the id owner/name of a hub data set"):
            data.read(name)


# -- what is trained ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [CHATML, THINKING], ids=["chatml", "prompt is no prefix"])
def test_every_assistant_turn_is_trained_whole(template: str) -> None:
    """The fault: masking up to the last message trains 1 of 3 turns; an offset past the end trains none (0 / 0)."""
    t = tokenizer(template)
    row = rows.parse(chat("one?", "first", "two?", "second", "three?", "third"), "f:1")

    def trained(loss: str) -> list[str]:
        (found,) = samples.prepare([row], t, length=512, loss=loss).samples
        return [part for part in trained_text(found, t).split("·") if part]

    assert trained("answers") == ["first<|im_end|>", "second<|im_end|>", "third<|im_end|>"]
    assert trained("completion") == ["third<|im_end|>"]
    every = samples.prepare([row], t, length=512, loss="all").samples[0]
    assert every.targets == len(every.ids) - 1
    bare = tokenizer(None)  # a base model gets text after text and an end
    for side, text in (("completion", "2+24"), ("answer", "2+2 4")):  # an answer is asked after a blank, as in a task
        (found,) = samples.prepare([rows.parse({"prompt": "2+2", side: "4"}, "f:1")], bare, length=512).samples
        assert bare.decode(found.ids) == text and found.ids[-1] in bare.eos
        assert sum(found.trained) == len(text) - len("2+2") + 1
    with pytest.raises(DataError, match="no chat template"):
        samples.prepare([row], bare, length=512)


def test_rows_become_samples_and_what_was_done_is_counted() -> None:
    t: Any = ByteTokenizer()
    t.chat_template = None
    given = [rows.parse({"prompt": "q" * n, "completion": "a" * m}, f"r{n}") for n, m in ((2, 3), (4, 12), (12, 1))]
    pairs = [rows.parse({"prompt": "q", "chosen": "a" * n, "rejected": "b"}, f"p{n}") for n in (2, 30)]
    whole = [len(samples.encode(row.messages, row, t, "completion").ids) for row in given]

    def counted(some: Any, length: int, too_long: str = "split") -> tuple[Any, ...]:
        made = samples.prepare(some, t, length=length, loss="completion", too_long=too_long)
        return len(made.samples), made.too_long, made.lost, made.pieces, made.untrained

    over = sum(n > 8 for n in whole)
    assert counted(given, max(whole) - 1)[1:] == (1, 0, 2, ()) and counted(given, max(whole)) == (3, 0, 0, 0, ())
    assert counted(given, 8, "cut")[1:] == (over, sum(max(0, n - 8) for n in whole), 0, ("r12",))  # its prompt is left
    assert counted(given, 8, "drop")[:3] == (1, over, sum(n for n in whole if n > 8)) and counted([], 8)[0] == 0
    both = samples.prepare(pairs, t, length=12)
    sizes = [len(samples.encode(m, pairs[1], t, "completion").ids) for m in (pairs[1].messages, pairs[1].rejected)]
    assert (len(both.pairs), both.too_long, both.samples, both.lost) == (1, 1, (), sum(sizes))
    assert batches.collate([both.pairs[0].chosen]).trained == both.pairs[0].chosen.targets
    for some, length, too_long, line in (
        (given, 8, "refuse", r"r4: \d+ tokens where 8 are allowed: raise --length"),
        (pairs, 12, "refuse", rf"p30: {max(sizes)} tokens where 12 are allowed"),
        (given[2:], 8, "cut", "none of the 1 rows has a token to train on: the first is r12"),
    ):
        with pytest.raises(DataError, match=line):
            samples.prepare(some, t, length=length, loss="completion", too_long=too_long)


# -- batches -----------------------------------------------------------------------------------------------


def made(lengths: list[int]) -> list[TrainingSample]:
    return [TrainingSample(tuple(range(n)), (False, *(True,) * (n - 1)), f"r{i}") for i, n in enumerate(lengths)]


LENGTHS = np.random.default_rng(0).integers(2, 60, 103).tolist()


@pytest.mark.parametrize("packing", [True, False])
def test_every_sample_is_in_an_epoch_once_the_last_batch_too(packing: bool) -> None:
    """Packed they fill their batches, else they are of like length; none of what pads is trained."""
    items = made(LENGTHS)

    def plan(epoch: int) -> list[list[int]]:
        return batches.plan(items, size=4, length=64, packing=packing, seed=1, epoch=epoch)

    planned = plan(0)
    assert sorted(i for batch in planned for i in batch) == list(range(len(items)))
    assert planned == plan(0) != plan(1)
    lengths = [[LENGTHS[i] for i in batch] for batch in planned]
    if packing:
        assert max(map(sum, lengths)) <= 256 and np.mean([*map(sum, lengths)]) >= 0.85 * 256
    else:
        assert max(max(b) - min(b) for b in lengths) <= 8 and sorted(map(len, planned)) == [3, *[4] * 25]
    batch = batches.collate(made([5, 3, 51]))
    assert batch.trained == 4 + 2 + 50 == batch.targets.size == batch.at.size
    assert batch.tokens.shape == (1, 4 + 2 + 50) and batch.documents == (4, 2, 50)
    assert batch.targets.tolist() == [*range(1, 5), *range(1, 3), *range(1, 51)]


def test_a_stream_skips_to_where_a_run_was() -> None:
    items = made(LENGTHS)
    options: dict[str, Any] = {"size": 4, "length": 64, "packing": True, "seed": 3}
    stream = batches.stream(items, **options)
    taken = [next(stream) for _ in range(40)]
    assert len({epoch for epoch, _ in taken}) > 1
    later = batches.stream(items, **options, skip=33)
    assert [next(later) for _ in range(7)] == taken[33:]


# -- the hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hub_server.HubServer]:
    import io

    import pyarrow as pa
    from pyarrow import parquet

    shard = io.BytesIO()
    parquet.write_table(pa.table({"text": ["three", "four"]}), shard)
    files = {
        "README.md": b"not data",
        "train.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
        "data/validation-00000-of-00001.parquet": shard.getvalue(),
    }
    with hub_server.serve("me/rows", files, "datasets") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def test_a_data_set_of_the_hub_by_its_id(hub: hub_server.HubServer, capfd: pytest.CaptureFixture[str]) -> None:
    found = data.read("me/rows")
    assert [row.text for row in found.train] == ["one", "two"]
    assert [row.text for row in found.valid] == ["three", "four"]
    assert not found.split and "README.md" not in hub.downloads()
    count = len(hub.downloads())
    assert data.read("me/rows").fingerprint == found.fingerprint and len(hub.downloads()) == count  # it is here now
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        (404, "RepoNotFound", "the hub has no data set 'me/rows' that you may read"),
        (403, "GatedRepo", "me/rows is gated: accept its licence"), (500, "", "the hub answered 500"),
        (0, "", "the hub cannot be reached for me/rows"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_is_one_line(
    hub: hub_server.HubServer, status: int, code: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = status, code
    if not status:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=f"there is no me/rows here: {line}") as caught:
        data.read("me/rows")
    assert "\n" not in str(caught.value)


def test_long_rows_are_split_without_losing_a_target() -> None:
    ids = tuple(range(100))
    whole = TrainingSample(ids, tuple(i % 3 != 0 for i in ids), "f:1")
    pieces = samples.fit(whole, 16, "split")
    assert max(len(p.ids) for p in pieces) <= 16
    targets = [i for p in pieces for i, trained in zip(p.ids[1:], p.trained[1:], strict=True) if trained]
    assert targets == [i for i in ids[1:] if whole.trained[i]] and sum(p.targets for p in pieces) == whole.targets


def test_choices_are_added_taken_back_and_kept_by_the_row_s_content(tmp_path: Path) -> None:
    path = row_choices.beside(tmp_path)
    assert path == tmp_path / "choices.jsonl" == row_choices.beside(tmp_path / "rows.jsonl")
    assert row_choices.choose(path, {"a": None}) == {} and not path.exists()
    assert row_choices.choose(path, {"a": True, "b": False}) == {"a": True, "b": False} == row_choices.read(path)
    assert row_choices.choose(path, {"a": None, "b": True, "c": False}) == {"b": True, "c": False}
    assert path.read_text() == '{"row": "b", "keep": true}\n{"row": "c", "keep": false}\n'
    assert row_choices.choose(path, {"b": None, "c": None}) == {} and path.read_text() == ""
    path.write_text('{"row": "b", "keep": true}\n\n{"row": 3}\n')
    with pytest.raises(Exception, match=r"choices\.jsonl:3: a choice of a row expected"):
        row_choices.read(path)
    one, other = (parse({"text": text}, "") for text in ("a", "b"))
    assert row_choices.key(one) == one.digest.hex()[:32] != row_choices.key(other) and len(row_choices.key(one)) == 32
    for dropped in ("filter: short", "balance: x", "deduplicate: y"):
        assert row_choices.can_come_back(dropped) is True
    for dropped in ("generate: z", "decontaminate: q", ""):
        assert row_choices.can_come_back(dropped) is False
