"""Tasks: rows of each form and what is odd about them, examples, templates, files, and what training holds of them."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import share
from likely.engine.measure.evaluate.figures import contamination
from likely.engine.measure.evaluate.figures.contamination import text_of
from likely.engine.measure.evaluate.figures.figures import Tally
from likely.engine.measure.evaluate.tasks import task_files
from likely.engine.measure.evaluate.tasks.conditional import ChangedContext, ConditionedText, JudgedPair, RestatedText
from likely.engine.measure.evaluate.tasks.task_files import read
from likely.engine.measure.evaluate.tasks.tasks import (
    Choices,
    Document,
    Item,
    KnownDistribution,
    MinimalPair,
    Problem,
    Question,
    Task,
    TaskSettings,
)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one(path: Path) -> Task:
    (task,) = read(path)
    return task


def bodies(task: Task) -> list[Any]:
    return [entry.body for entry in task.items() if isinstance(entry, Item)]


def test_the_form_is_known_by_the_keys(tmp_path: Path) -> None:
    rows = {
        "pairs": ({"good": "a", "bad": "b", "uid": 1}, MinimalPair("a", "b")),
        "choices": ({"context": "c", "choices": ["x", "y"], "gold": 1}, Choices("c", ("x", "y"), 1)),
        "documents": ({"text": "t"}, Document("t")),
    }
    for name, (row, body) in rows.items():
        task = one(write(tmp_path / f"{name}.jsonl", [row]))
        assert task.name == name and name == task.form.NAME and bodies(task) == [body]
    asked = one(write(tmp_path / "q.jsonl", [{"prompt": "p", "answer": 3}]))
    assert bodies(asked) == [Question("p", ("3",), {"prompt": "p", "answer": 3})]
    table = tmp_path / "table.csv"
    table.write_text('context,choices,gold\n"a, b",x|y,B\nc,"[""p"", ""q|r""]",q|r\n')
    assert bodies(one(table)) == [Choices("a, b", ("x", "y"), 1), Choices("c", ("p", "q|r"), 1)]
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"good": "a", "bad": "b"}\n'))
    assert one(packed).name == "pairs" and bodies(one(packed)) == [MinimalPair("a", "b")]


def test_a_toml_file_describes_a_task_of_columns(tmp_path: Path) -> None:
    write(
        tmp_path / "rows.jsonl",
        [{"q": f"{i}?", "options": ["no", "yes"], "right": i % 2, "of": i // 2} for i in range(5)],
    )
    (tmp_path / "t.toml").write_text(
        'name = "mine"\ndata = "rows.jsonl"\ncontext = "Q: {q}\\nA:"\nchoices = "options"\ngold = "right"\n'
        'shots = 2\nseparator = "\\n\\n"\ncluster = "of"\n'
    )
    task = one(tmp_path / "t.toml")
    entries = list(task.items())
    assert task.name == "mine" and [entry.kind for entry in entries[:2]] == ["example", "example"]
    assert entries[2] == Item(2, Choices("Q: 0?\nA: no\n\nQ: 1?\nA: yes\n\nQ: 2?\nA:", ("no", "yes"), 0), "1")
    assert [entry.number for entry in task.items(limit=1)] == [0, 1, 2]
    write(tmp_path / "shots.jsonl", [{"q": "s", "options": ["no", "yes"], "right": 1}])
    text = (tmp_path / "t.toml").read_text().replace("shots = 2", 'shots = 1\nexamples = "shots.jsonl"')
    (tmp_path / "other.toml").write_text(text)
    other = one(tmp_path / "other.toml")
    assert len(bodies(other)) == 5 and bodies(other)[0].context.startswith("Q: s\nA: yes\n\nQ: 0?")
    assert other.identity != task.identity
    (tmp_path / "suite.toml").write_text('tasks = ["t.toml", "rows.toml"]')
    (tmp_path / "rows.toml").write_text('data = "rows.jsonl"\nprompt = "{q}"\nanswer = "{right}"\nscorer = "numeric"')
    assert [task.name for task in read(tmp_path / "suite.toml")] == ["mine", "rows"]
    assert read(tmp_path / "suite.toml")[1].settings.scorers == ("numeric",)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.jsonl", "", "t has no rows"), ("t.jsonl", '{"a": 1}\n', "row 1: expected the keys of one form .*, got a"),
        ("t.jsonl", '{"good"\n', r"t.jsonl:1:8: one JSON object a line expected"),
        ("t.jsonl", "[1]\n", "jsonl:1:1: a JSON object expected, got a list"),
        ("t.txt", "x", "must be a .jsonl, .json, .csv, .parquet or .toml file"), ("t.toml", "= 3", "t.toml: not TOML"),
        ("t.toml", f"shots = {'3' * 5000}", "t.toml: not TOML"), ("t.toml", "shots = 3", "data must name"),
        *(("t.toml", f'data = "r.jsonl"\n{line}', said) for line, said in (
            ("shotz = 3", "t.toml: unknown option shotz; did you mean shots"),
            ('shots = "3"', "shots must be a whole number, got '3'"), ("shots = -1", "shots must be a whole number"),
            ("shots = true", "shots must be a whole number"), ("seconds = 0", "seconds must be a number above 0"),
            ("stop = 3", "stop must be a text or a list of them"), ("stop = [3]", "stop must be a text"),
            ("pattern = 3", "pattern must be a text"), ("context = 3", "context must be a column or a template"),
            ('prompt = "{x}"\nanswer = "{q}"', "no column 'x' for prompt, only q"),
            ('prompt = "{q}"\nanswer = "{q}"\ncluster = "u"', "there is no column 'u' in"),
        )),
    ],
)  # fmt: skip
def test_a_malformed_task_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path / "r.jsonl", [{"q": "x"}])
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        for task in read(tmp_path / name):
            list(task.items())
    with pytest.raises(DataError, match="there is no file"):
        read(tmp_path / "none.jsonl")


def test_a_suite_in_itself_a_damaged_archive_and_a_device_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('tasks = ["b.toml"]')
    (tmp_path / "b.toml").write_text('tasks = ["a.toml"]')
    whole = gzip.compress(b'{"good": "a b", "bad": "b a"}\n' * 50)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-12])
    (tmp_path / "bad.jsonl.gz").write_bytes(whole[:20] + bytes(byte ^ 255 for byte in whole[20:30]) + whole[30:])
    (tmp_path / "endless.jsonl").symlink_to("/dev/zero")
    for name, words in {
        "a.toml": "listed in itself, by .*b.toml", "cut.jsonl.gz": "cannot read .*cut",
        "bad.jsonl.gz": "cannot read .*bad", "endless.jsonl": "it is a device",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=words):
            [*read(tmp_path / name)[0].rows()]


def made(rows: list[dict[str, Any]], **more: Any) -> list[Any]:
    task = Task("t", lambda: iter(rows), "t", **more)
    return [entry.body if isinstance(entry, Item) else f"{entry.kind}: {entry.words}" for entry in task.items()]


def test_rows_of_choices_have_a_right_one() -> None:
    good = {"context": "c", "choices": ["x", "y", "z"]}
    for gold, index in ((1, 1), ("y", 1), ("C", 2), ("0", 0), (" 2 ", 2)):
        assert made([{**good, "gold": gold}]) == [Choices("c", ("x", "y", "z"), index)]
    for gold in (3, -1, True, None, "D", "9", "w", 1.0, "1234567890"):
        (odd,) = made([{**good, "gold": gold}])
        assert odd.startswith("unanswerable: gold must be one of the choices"), gold
    for row, line in (
        ({"choices": []}, "empty: context must be a text"), ({"context": 3}, "empty: context must be a text"),
        ({"choices": 5}, "empty: context"), ({"choices": ["x", " "]}, "empty: a choice is empty"),
        ({"choices": ["x"]}, "unanswerable: there is one choice"),
    ):  # fmt: skip
        assert made([{**good, "gold": 0, **row}])[0].startswith(line)
    assert made(
        [{"context": "c", "choices": "x|y", "gold": 0}, {"context": "c", "choices": '["p", "q"]', "gold": 1}]
    ) == [Choices("c", ("x", "y"), 0), Choices("c", ("p", "q"), 1)]
    assert made([{"context": "c", "choices": "A|B", "gold": "B"}]) == [Choices("c", ("A", "B"), 1)]


def test_rows_of_laws_sum_to_one_and_none_begins_another() -> None:
    for law, line in (
        ({"a": 0.5, "b": 0.5}, ""), ({"a": 1}, ""), ({"a": 0.5, "b": 0.5000009}, ""),
        ({"a": 0.5, "b": 0.500002}, "must sum to 1, got 1"), ({"a": 0.5, "ab": 0.5}, "'a' begins another text"),
        ({"a": 0.0, "b": 1.0}, "above 0 and at most 1"), ({"a": 1.5}, "above 0 and at most 1"),
        ({"a": True}, "above 0"), ({}, "law an object"), ({"": 1.0}, "law an object"), ([1], "law an object"),
    ):  # fmt: skip
        (found,) = made([{"context": "c", "law": law}])
        assert (
            line in found if line else found == KnownDistribution("c", tuple((k, float(v)) for k, v in law.items()))
        ), law  # type: ignore[union-attr]


def test_rows_of_questions_documents_and_pairs() -> None:
    assert made([{"prompt": "p", "answer": 7}, {"prompt": "p", "answer": ["a", 2]}]) == [
        Question("p", ("7",), {"prompt": "p", "answer": 7}),
        Question("p", ("a", "2"), {"prompt": "p", "answer": ["a", 2]}),
    ]
    for answer in (None, [], "", " ", {}, [["a"]], ["a", ""]):
        assert made([{"prompt": "p", "answer": answer}])[0].startswith("unanswerable: there is no answer")
    assert made([{"prompt": " ", "answer": "a"}]) == ["empty: prompt must be a text"]
    assert made([{"text": " "}, {"text": ""}, {"text": 3}]) == [Document(" "), *["empty: text must be a text"] * 2]
    assert made([{"good": "a", "bad": "b"}, {"good": "a", "bad": "a"}, {"good": " ", "bad": "a"}]) == [
        MinimalPair("a", "b"), "unanswerable: good and bad are the same text", "empty: good and bad must be texts",
    ]  # fmt: skip
    assert made([{"text": "a"}, {"other": 1}]) == [Document("a"), "unanswerable: lacks text, which the first row has"]


def test_examples_stand_before_items_with_their_answers() -> None:
    rows = [{"prompt": f"q{i}", "answer": [f"a{i}", "b"]} for i in range(4)]
    settings = TaskSettings(shots=2, separator="|", delimiter="=")
    task = Task("t", lambda: iter(rows), "t", settings)
    found = list(task.items())
    assert [type(entry) for entry in found] == [Problem, Problem, Item, Item]
    assert (task.aside, task.bare.aside) == (2, 0)
    assert [entry.body.prompt for entry in found if isinstance(entry, Item)] == ["q0=a0|q1=a1|q2", "q0=a0|q1=a1|q3"]  # type: ignore[union-attr]
    assert len(list(task.items(1))) == 3 and len(list(task.bare.items(1))) == 1
    shot = {"prompt": "e", "answer": "f"}
    other = Task("t", lambda: iter(rows), "t", settings, examples=lambda: iter([shot] * 2))
    assert other.aside == 0 and [e.body.prompt for e in other.items(1)] == ["e=f|e=f|q0"]  # type: ignore[union-attr]
    for of, examples, line in (
        (rows, [shot, {"prompt": ""}], "2 examples are wanted, 1 of the first 2 rows serve"),
        ([{"text": "a"}] * 3, None, "examples go before choices and questions, not before documents"),
    ):
        more: Any = {} if examples is None else {"examples": lambda examples=examples: iter(examples)}
        with pytest.raises(DataError, match=line):
            list(Task("t", lambda of=of: iter(of), "t", settings, **more).items())  # type: ignore[misc]
    choices = [{"context": f"c{i}", "choices": ["x", "y"], "gold": i} for i in range(2)]
    assert made(choices, settings=TaskSettings(shots=1))[1] == Choices("c0 x\n\nc1", ("x", "y"), 1)
    clustered = Task("t", lambda: iter([{"text": "a", "of": 3}, {"text": "b"}]), "t", TaskSettings(cluster="of"))
    assert [e.cluster for e in clustered.items(1) if isinstance(e, Item)] == ["3"]


def test_columns_become_forms_by_templates() -> None:
    row = {"q": "why", "opts": ["a", "b"], "right": 1, "n": 3}
    columns = {"context": "{q}? {n}", "choices": "opts", "gold": "right"}
    assert made([row], columns=columns) == [Choices("why? 3", ("a", "b"), 1)]
    assert made([row], columns={**columns, "choices": ["{q}", "{n}x"], "gold": "{right}"}) == [
        Choices("why? 3", ("why", "3x"), 1)
    ]
    with pytest.raises(DataError, match="row 1: no column 'z' for context, only q, opts, right, n"):
        made([row], columns={**columns, "context": "{z}"})
    with pytest.raises(DataError, match="row 1: expected the keys of one form"):
        made([{"x": 1}])
    with pytest.raises(DataError, match="t has no rows"):
        made([])


def test_an_item_is_a_text_with_its_right_answer() -> None:
    forms = [
        (Question("p", ("a", "b")), "p a"), (Choices("c", ("x", "y"), 1), "c y"), (MinimalPair("g", "b"), "g"),
        (ConditionedText("c", "d", "o"), "c d"), (JudgedPair("p", "x", "y"), "p"), (RestatedText("o", "p", "q"), "o"),
        (ChangedContext("c", "d"), "c"), (Document("t"), "t"), (KnownDistribution("c", (("a", 1.0),)), "c"),
    ]  # fmt: skip
    for body, text in forms:
        assert text_of(Item(0, body)) == text  # type: ignore[arg-type]


def test_the_share_that_was_seen_and_whether_it_shows() -> None:
    tally = Tally()
    for n in range(6):
        tally.add(n, None, {"nats": n + 1.0, "tokens": 2.0, "bytes": 3.0})
    told, least = {0: True, 1: True, 2: False, 3: False}, {0: -1.0, 1: -3.0, 2: -3.0, 3: -4.0, 4: -1.0}
    found = contamination.figures(tally, told, least)
    assert found["contaminated"] == share([1.0, 1.0, 0.0, 0.0])
    assert found["bits_per_byte_clean"] == tally.only({2, 3, 4, 5}).estimate("bits_per_byte")
    assert found["min_20_auc"].mean == (1 + 1 + 0.5 + 1) / 4  # how often what was seen is the likelier, a tie half
    for said, of in ((dict.fromkeys(told, True), least), (dict.fromkeys(told, False), least), (told, {0: -1.0})):
        assert "min_20_auc" not in contamination.figures(tally, said, of)
    assert list(contamination.figures(tally, dict.fromkeys(range(6), True), {})) == ["contaminated"]


def test_a_row_that_stands_twice_is_scored_twice_and_said() -> None:
    row = {"context": "c", "choices": ["x", "y"], "gold": 0}
    first, *others = Task("t", lambda: iter([row, row, row | {"gold": "9" * 5000}]), "t").items()
    assert isinstance(first, Item) and first.number == 0
    said = [(each.number, each.kind, each.scored) for each in others if isinstance(each, Problem)]
    assert said == [(1, "duplicate", True), (2, "unanswerable", False)]
    assert [each.number for each in others if isinstance(each, Item)] == [1]


def test_a_task_is_known_by_its_rows_and_its_file_s_settings(tmp_path: Path) -> None:
    rows, path = write(tmp_path / "r.jsonl", [{"prompt": "a", "answer": "b"}]), tmp_path / "t.toml"
    path.write_text('data = "r.jsonl"\nname = "N"\nscorer = "exact"\nstop = "x"\nseconds = 3\nprogram = ["a", "b"]\n')
    settings = TaskSettings(scorers=("exact",), stop=("x",), seconds=3.0, program=("a", "b"))
    assert (one(path).name, one(path).settings) == ("N", settings)
    first = one(rows).identity
    rows.write_text('{"prompt": "a", "answer": "c"}\n\n \n')
    assert one(rows).identity != first and len(list(task_files.rows(rows))) == 1
    (tmp_path / "r.csv").write_text("a,b\n1,2,3\n4\n1,2\n")
    with pytest.raises(DataError, match="2 of its 3 rows cannot be read: 2, 3: expected 2 columns as in the first"):
        read(tmp_path / "r.csv")


def test_rows_to_train_on_are_asked_for_what_they_teach(tmp_path: Path) -> None:
    """The form of training stands in the row's own words; the oracle is a row with the task's own keys."""
    asked, turns = Question("q", ("a",)), [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    for row in (
        {"prompt": "q", "completion": "a"}, {"question": "q", "answer": "a"}, {"instruction": "q", "output": "a"},
        {"messages": turns}, {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"frage": "q", "antwort": "a"},
    ):  # fmt: skip
        (task,) = read(write(tmp_path / "r.jsonl", [row]), names={"frage": "prompt", "antwort": "answer"})
        assert [replace(body, row={}) for body in bodies(task)] == [asked], row
    assert [body.answers for body in made([{"question": "q", "answer": ["a", 3]}])] == [("a", "3")]
    assert made([{"chosen": "g", "rejected": "b"}]) == [MinimalPair("g", "b")]
    assert made([{"prompt": "q", "chosen": "g", "rejected": "b"}, {"prompt": "q", "chosen": 3, "rejected": "b"}]) == [
        Choices("q", ("g", "b"), 0), "unanswerable: chosen must be text or a list of messages, got a whole number (3)",
    ]  # fmt: skip


WORDS = [f"w{i}" for i in range(400)]


def text(first: int, n: int = 20) -> str:
    return " ".join(WORDS[first : first + n])


def task(rows: list[dict[str, object]], **settings: object) -> Task:
    return Task("t", lambda: iter(rows), "t", TaskSettings(**settings))  # type: ignore[arg-type]


def test_a_run_of_thirteen_words_is_found_and_twelve_are_not() -> None:
    training = contamination.known([text(0, 60)])
    rows: list[dict[str, object]] = [
        {"text": f"{text(100, 9)} {text(5, 13)} {text(120, 9)}"},
        {"text": f"{text(100, 9)} {text(5, 12)} {text(120, 9)}"},
        {"text": text(30, 8).upper().replace(" ", ", ")},  # all of it, however it is written
        {"text": f"{text(30, 7)} other"},
        {"text": text(30, 7)},  # too short to tell
    ]
    assert contamination.seen(task(rows), training) == {0: True, 1: False, 2: True, 3: False}


def test_the_examples_before_an_item_do_not_count_as_its_own() -> None:
    shot = {"prompt": text(0), "answer": "yes"}
    rows: list[dict[str, object]] = [shot, {"prompt": text(200), "answer": "no"}, {"prompt": text(3), "answer": "no"}]
    found = contamination.seen(task(rows, shots=1), contamination.known([text(0, 60)]))
    assert found == {0: True, 1: False, 2: True}


def test_a_model_that_knows_a_text_by_heart_gives_it_away_and_one_that_does_not_is_not_accused() -> None:
    random = np.random.default_rng(0)
    for shift, low, high in ((0.0, 0.3, 0.7), (3.0, 0.9, 1.0)):
        tally, least = Tally(), {}
        for number in range(80):
            tally.add(number, None, {"nats": 9.0, "tokens": 3.0, "bytes": 9.0})
            logs = random.normal(-4 + shift * (number < 40), 1, 50)
            least[number] = contamination.least_likely(logs)
            assert least[number] == pytest.approx(np.sort(logs)[:10].mean())
        assert np.isnan(contamination.least_likely(np.zeros(0)))  # of no token nothing is known
        found = contamination.figures(tally, {number: number < 40 for number in range(80)}, least)
        assert low < found["min_20_auc"].mean <= high and "bits_per_byte_clean" in found
        assert (found["min_20_auc"].interval[0] > 0.5) == bool(shift)
