"""Rows of every form and every fault, splits, spans, packing: nothing lost in silence, no pad token trained."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError, ParameterError
from engine.tokenizer import Tokenizer, from_gguf
from engine.tune import batches, data, rows, samples, validation
from engine.tune.config import Config
from engine.tune.run import Set
from engine.tune.samples import TrainingSample
from tests.engine import hub_server
from tests.engine.vocabularies import byte_level

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


FORMS: dict[str, dict[str, Any]] = {
    "text": {"text": "once"},
    "prompt": {"prompt": "2+2", "completion": "4"},
    "chat": chat("2+2", "4"),
    "tools": {**chat("2+2", "4"), "tools": [{"type": "function", "function": {"name": "add"}}]},
    "alpaca": {"instruction": "Add.", "input": "2+2", "output": "4"},
    "sharegpt": {"conversations": [{"from": "human", "value": "2+2"}, {"from": "gpt", "value": "4"}]},
    "preference": {"prompt": "2+2", "chosen": "4", "rejected": "5"},
}


def test_every_form_is_known_row_by_row_not_from_the_first() -> None:
    parsed = {form: rows.parse(value, "f:1") for form, value in FORMS.items()}
    assert {form: row.form for form, row in parsed.items()} == {form: form for form in FORMS}
    for form in ("prompt", "chat", "sharegpt"):
        assert parsed[form].messages == parsed["chat"].messages
    assert parsed["alpaca"].messages[0]["content"] == "Add.\n\n2+2"
    assert parsed["preference"].rejected[-1]["content"] == "5"


def test_columns_are_renamed_and_unknown_names_refused() -> None:
    names = rows.read_map(["question=prompt", "answer=completion"])
    row = rows.parse({"question": "2+2", "answer": "4"}, "f:1", names)
    assert row.form == "prompt"
    with pytest.raises(ParameterError, match="--map must be COLUMN=NAME"):
        rows.read_map(["question=ask"])


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([1], r"f:3: a JSON object expected, got a list"),
        ({"body": "x"}, r"f:3: expected a row with messages; .* got body \(rename by --map\)"),
        ({"text": 5}, r"f:3: text must be text, got a whole number \(5\)"),
        ({"messages": "hi"}, r"f:3: messages must be a list, got text"),
        ({"messages": []}, r"f:3: messages is empty"),
        (
            {"messages": [{"role": "bot", "content": "x"}]},
            r"\[0\].role must be one of system, .* got text \(bot\)",
        ),
        ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\].content must be text, got a whole number"),
        ({"conversations": [{"from": "x", "value": "y"}]}, r"conversations\[0\].from must be one of human"),
        ({"chosen": "a", "rejected": "a"}, r"chosen and rejected are the same"),
    ],
)
def test_malformed_rows_are_named(value: Any, line: str) -> None:
    with pytest.raises(DataError, match=line):
        rows.parse(value, "f:3")


def test_malformed_json_has_file_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b",, }\n')
    with pytest.raises(DataError, match=r"rows.jsonl:2:14: one JSON object a line expected.*got ', }'"):
        data.read(path)
    (tmp_path / "rows.json").write_text('[{"text": "a"}\n {"text": "b"}]')
    with pytest.raises(DataError, match=r"rows.json:2:2: a JSON list"):
        data.read(tmp_path / "rows.json")
    (tmp_path / "rows.csv").write_text("prompt,completion\na,b,c\n")
    with pytest.raises(DataError, match=r"rows.csv:2: expected 2 columns"):
        data.read(tmp_path / "rows.csv")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9"}\n')
    with pytest.raises(DataError, match=r"latin.jsonl must be UTF-8"):
        data.read(tmp_path / "latin.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no rows"):
        data.read(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="there is no nowhere"):
        data.read("nowhere")
    (tmp_path / "rows.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="is not a Parquet file"):
        data.read(tmp_path / "rows.parquet")


def test_files_of_every_kind_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    values = [{"prompt": f"q, {i}", "completion": f'say "{i}"'} for i in range(5)]
    write(tmp_path / "a.jsonl", values)
    (tmp_path / "a.json").write_text(json.dumps(values))
    quoted = "".join(f'"q, {i}","say ""{i}"""\n' for i in range(5))
    (tmp_path / "a.csv").write_text("prompt,completion\n" + quoted)
    parquet.write_table(arrow.Table.from_pylist(values), tmp_path / "a.parquet")
    found = [
        [row.messages for row in data.read(tmp_path / f"a.{kind}", valid=0).train]
        for kind in ("jsonl", "json", "csv", "parquet")
    ]
    assert all(part == found[0] for part in found) and len(found[0]) == 5


def test_folders(tmp_path: Path) -> None:
    write(tmp_path / "split" / "train.jsonl", [{"text": f"t{i}"} for i in range(4)])
    write(tmp_path / "split" / "validation.jsonl", [{"text": "v"}, {"text": "t1"}])
    found = data.read(tmp_path / "split")
    assert (len(found.train), len(found.valid), found.overlap, found.split) == (4, 2, 1, False)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one")
    (tmp_path / "texts" / "b.md").write_text("two")
    assert [row.text for row in data.read(tmp_path / "texts", valid=0).train] == ["one", "two"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"has neither train\.jsonl"):
        data.read(tmp_path / "nothing")


def test_the_split_is_by_content_and_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    values = [{"text": f"row {i}"} for i in range(200)]
    values += values[:10]
    one = data.read(write(tmp_path / "a.jsonl", values), valid=0.2)
    other = data.read(write(tmp_path / "b.jsonl", values[::-1]), valid=0.2)
    assert {row.text for row in one.valid} == {row.text for row in other.valid}
    assert 20 <= len(one.valid) <= 65 and one.duplicates == 10 and one.overlap == 0
    assert len(data.read(tmp_path / "a.jsonl", valid=0, keep_duplicates=False).train) == 200


# -- what is trained ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [CHATML, THINKING], ids=["chatml", "prompt is no prefix"])
def test_every_assistant_turn_is_trained_whole(template: str) -> None:
    """The fault: masking up to the last message trains 1 of 3 turns; an offset past the end trains none (0 / 0)."""
    t = tokenizer(template)
    value = chat("one?", "first", "two?", "second", "three?", "third")
    prepared = samples.prepare([rows.parse(value, "f:1")], t, length=512)
    text = trained_text(prepared.samples[0], t)
    assert [part for part in text.split("·") if part] == ["first<|im_end|>", "second<|im_end|>", "third<|im_end|>"]
    last = samples.prepare([rows.parse(value, "f:1")], t, length=512, loss="completion").samples[0]
    assert [part for part in trained_text(last, t).split("·") if part] == ["third<|im_end|>"]
    every = samples.prepare([rows.parse(value, "f:1")], t, length=512, loss="all").samples[0]
    assert every.targets == len(every.ids) - 1


def test_a_base_model_gets_text_after_text_and_an_end() -> None:
    t = tokenizer(None)
    row = samples.prepare([rows.parse(FORMS["prompt"], "f:1")], t, length=512).samples[0]
    assert t.decode(row.ids) == "2+24" and row.ids[-1] in t.eos and sum(row.trained) == 2
    with pytest.raises(DataError, match="no chat template"):
        samples.prepare([rows.parse(chat("a", "b", "c", "d"), "f:1")], t, length=512)


def test_rows_without_a_target_are_named_not_averaged_into_nan() -> None:
    t = tokenizer()
    good, bad = rows.parse(chat("a", "b"), "f:1"), rows.parse({"messages": [{"role": "user", "content": "a"}]}, "f:2")
    prepared = samples.prepare([good, bad], t, length=512)
    assert len(prepared.samples) == 1 and prepared.untrained == ("f:2",)
    with pytest.raises(DataError, match=r"none of the 1 rows has a token to train on: the first is f:2"):
        samples.prepare([bad], t, length=512)
    long = rows.parse(chat("a" * 100, "b"), "f:3")  # a prompt longer than the limit, cut
    assert samples.prepare([good, long], t, length=50, too_long="cut").untrained == ("f:3",)


def test_long_rows_are_split_without_losing_a_target_or_cut_and_counted() -> None:
    ids = tuple(range(100))
    whole = TrainingSample(ids, tuple(i % 3 != 0 for i in ids), "f:1")
    pieces = samples.fit(whole, 16, "split")
    assert max(len(p.ids) for p in pieces) <= 16
    assert sum(p.targets for p in pieces) == whole.targets
    targets = [i for p in pieces for i, trained in zip(p.ids[1:], p.trained[1:], strict=True) if trained]
    assert targets == [i for i in ids[1:] if whole.trained[i]]
    t = tokenizer()
    runs = (SimpleNamespace(config=Config(), rows=Set(part, part), session=SimpleNamespace(tokenizer=t))
            for part in ([whole], pieces))  # fmt: skip
    assert len({validation._bytes(run) for run in runs}) == 1  # type: ignore[arg-type]
    row = rows.parse({"text": "x" * 100}, "f:1")
    cut = samples.prepare([row], t, length=20, too_long="cut")
    assert cut.too_long == 1 and cut.lost == 81 and len(cut.samples[0].ids) == 20
    with pytest.raises(DataError, match=r"f:1: 101 tokens where 20 are allowed"):
        samples.prepare([row], t, length=20, too_long="refuse")


# -- batches -----------------------------------------------------------------------------------------------


def made(lengths: list[int]) -> list[TrainingSample]:
    return [TrainingSample(tuple(range(n)), (False, *(True,) * (n - 1)), f"r{i}") for i, n in enumerate(lengths)]


LENGTHS = np.random.default_rng(0).integers(2, 60, 103).tolist()


@pytest.mark.parametrize("packing", [True, False])
def test_every_sample_is_in_an_epoch_once_the_last_batch_too(packing: bool) -> None:
    items = made(LENGTHS)
    planned = batches.plan(items, size=4, length=64, packing=packing, seed=1, epoch=0)
    assert sorted(i for batch in planned for i in batch) == list(range(len(items)))
    assert planned == batches.plan(items, size=4, length=64, packing=packing, seed=1, epoch=0)
    assert planned != batches.plan(items, size=4, length=64, packing=packing, seed=1, epoch=1)
    sizes = [sum(LENGTHS[i] for i in batch) for batch in planned]
    if packing:
        assert max(sizes) <= 256 and np.mean(sizes) >= 0.85 * 256


def test_batches_are_of_like_length() -> None:
    """The fault: sorting by the number of a row's fields leaves the rows in their order, and pads them."""
    planned = batches.plan(made(LENGTHS), size=4, length=64, packing=False, seed=1, epoch=0)
    spread = [max(LENGTHS[i] for i in b) - min(LENGTHS[i] for i in b) for b in planned]
    assert max(spread) <= 8


def test_only_real_targets_are_counted() -> None:
    """The fault: one pad token a padded row is trained (5 targets for a row of 5 tokens, which has 4)."""
    items = made([5, 3, 51])
    batch = batches.collate(items)
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


def test_processes_share_a_batch() -> None:
    assert [batches.share([5, 6, 7], rank, 2) for rank in range(2)] == [[5, 7], [6]]


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
    assert [row.text for row in found.train] == ["one", "two"] and [row.text for row in found.valid] == [
        "three",
        "four",
    ]
    assert not found.split and "README.md" not in hub.downloads()
    count = len(hub.downloads())
    assert data.read("me/rows").fingerprint == found.fingerprint and len(hub.downloads()) == count  # it is here now
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        (404, "RepoNotFound", "the hub has no data set 'me/rows' that you may read"),
        (403, "GatedRepo", "me/rows is gated: accept its licence"),
        (500, "", "the hub answered 500"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub: hub_server.HubServer, status: int, code: str, line: str) -> None:
    hub.status = status, code
    with pytest.raises(DataError, match=f"there is no me/rows here: {line}") as caught:
        data.read("me/rows")
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DataError, match="the hub cannot be reached for me/elsewhere") as caught:
        data.read("me/elsewhere")
    assert "\n" not in str(caught.value)
