"""Items of each form as their rows make them, what training holds of them, entities to be asked for, and files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.errors import DataError
from likely.engine.evaluate import contamination, task_files
from likely.engine.evaluate.conditional import ChangedContext, Conditioned, JudgedPair, Restated
from likely.engine.evaluate.contamination import text_of
from likely.engine.evaluate.figures import Tally
from likely.engine.evaluate.tasks import (
    Choices,
    Document,
    Item,
    KnownLaw,
    MinimalPair,
    Problem,
    Question,
    Task,
    TaskSettings,
)
from likely.engine.statistics.estimates import bootstrap, share


def bodies(rows: list[dict[str, Any]], **more: Any) -> list[Any]:
    made = Task("t", lambda: iter(rows), "t", **more)
    return [entry.body if isinstance(entry, Item) else f"{entry.kind}: {entry.words}" for entry in made.items()]


def test_rows_of_choices_have_a_right_one() -> None:
    good = {"context": "c", "choices": ["x", "y", "z"]}
    for gold, index in ((1, 1), ("y", 1), ("C", 2), ("0", 0), (" 2 ", 2)):
        assert bodies([{**good, "gold": gold}]) == [Choices("c", ("x", "y", "z"), index)]
    for gold in (3, -1, True, None, "D", "9", "w", 1.0, "1234567890"):
        (odd,) = bodies([{**good, "gold": gold}])
        assert odd.startswith("unanswerable: gold must be one of the choices"), gold
    for row, line in (
        ({"choices": []}, "empty: context must be a text"), ({"context": 3}, "empty: context must be a text"),
        ({"choices": 5}, "empty: context"), ({"choices": ["x", " "]}, "empty: a choice is empty"),
        ({"choices": ["x"]}, "unanswerable: there is one choice"),
    ):  # fmt: skip
        assert bodies([{**good, "gold": 0, **row}])[0].startswith(line)
    assert bodies(
        [{"context": "c", "choices": "x|y", "gold": 0}, {"context": "c", "choices": '["p", "q"]', "gold": 1}]
    ) == [Choices("c", ("x", "y"), 0), Choices("c", ("p", "q"), 1)]
    assert bodies([{"context": "c", "choices": "A|B", "gold": "B"}]) == [Choices("c", ("A", "B"), 1)]


def test_rows_of_laws_sum_to_one_and_none_begins_another() -> None:
    for law, line in (
        ({"a": 0.5, "b": 0.5}, ""), ({"a": 1}, ""), ({"a": 0.5, "b": 0.5000009}, ""),
        ({"a": 0.5, "b": 0.500002}, "must sum to 1, got 1"), ({"a": 0.5, "ab": 0.5}, "'a' begins another text"),
        ({"a": 0.0, "b": 1.0}, "above 0 and at most 1"), ({"a": 1.5}, "above 0 and at most 1"),
        ({"a": True}, "above 0"), ({}, "law an object"), ({"": 1.0}, "law an object"), ([1], "law an object"),
    ):  # fmt: skip
        (found,) = bodies([{"context": "c", "law": law}])
        assert line in found if line else found == KnownLaw("c", tuple((k, float(v)) for k, v in law.items())), law  # type: ignore[union-attr]


def test_rows_of_questions_documents_and_pairs() -> None:
    assert bodies([{"prompt": "p", "answer": 7}, {"prompt": "p", "answer": ["a", 2]}]) == [
        Question("p", ("7",), {"prompt": "p", "answer": 7}),
        Question("p", ("a", "2"), {"prompt": "p", "answer": ["a", 2]}),
    ]
    for answer in (None, [], "", " ", {}, [["a"]], ["a", ""]):
        assert bodies([{"prompt": "p", "answer": answer}])[0].startswith("unanswerable: there is no answer")
    assert bodies([{"prompt": " ", "answer": "a"}]) == ["empty: prompt must be a text"]
    assert bodies([{"text": " "}, {"text": ""}, {"text": 3}]) == [Document(" "), *["empty: text must be a text"] * 2]
    assert bodies([{"good": "a", "bad": "b"}, {"good": "a", "bad": "a"}, {"good": " ", "bad": "a"}]) == [
        MinimalPair("a", "b"), "unanswerable: good and bad are the same text", "empty: good and bad must be texts",
    ]  # fmt: skip
    assert bodies([{"text": "a"}, {"other": 1}]) == [Document("a"), "unanswerable: lacks text, which the first row has"]


def test_examples_stand_before_items_with_their_answers() -> None:
    rows = [{"prompt": f"q{i}", "answer": [f"a{i}", "b"]} for i in range(4)]
    settings = TaskSettings(shots=2, separator="|", delimiter="=")
    made = Task("t", lambda: iter(rows), "t", settings)
    found = list(made.items())
    assert [type(entry) for entry in found] == [Problem, Problem, Item, Item] and made.aside == 2
    assert made.bare.aside == 0
    assert [entry.body.prompt for entry in found if isinstance(entry, Item)] == ["q0=a0|q1=a1|q2", "q0=a0|q1=a1|q3"]  # type: ignore[union-attr]
    assert len(list(made.items(1))) == 3 and len(list(made.bare.items(1))) == 1
    other = Task("t", lambda: iter(rows), "t", settings, examples=lambda: iter([{"prompt": "e", "answer": "f"}] * 2))
    assert other.aside == 0 and [e.body.prompt for e in other.items(1)] == ["e=f|e=f|q0"]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="2 examples are wanted, 1 of the first 2 rows serve"):
        list(
            Task(
                "t", lambda: iter(rows), "t", settings,
                examples=lambda: iter([{"prompt": "e", "answer": "f"}, {"prompt": ""}]),
            ).items()
        )  # fmt: skip
    with pytest.raises(DataError, match="examples go before choices and questions, not before documents"):
        list(Task("t", lambda: iter([{"text": "a"}, {"text": "b"}]), "t", TaskSettings(shots=1)).items())
    choices = [{"context": f"c{i}", "choices": ["x", "y"], "gold": i} for i in range(2)]
    (_, shown) = Task("t", lambda: iter(choices), "t", TaskSettings(shots=1)).items()
    assert isinstance(shown, Item) and shown.body == Choices("c0 x\n\nc1", ("x", "y"), 1)
    clustered = Task(
        "t", lambda: iter([{"text": "a", "of": 3}, {"text": "b", "of": None}]), "t", TaskSettings(cluster="of")
    )
    assert [e.cluster for e in clustered.items() if isinstance(e, Item)] == ["3", "None"]
    said = TaskSettings()
    assert (said.shots, said.separator, said.delimiter, said.seconds, said.max_tokens, said.stop) == (
        0, "\n\n", " ", 10.0, 256, ("\n\n",),
    )  # fmt: skip


def test_columns_become_forms_by_templates() -> None:
    row = {"q": "why", "opts": ["a", "b"], "right": 1, "n": 3}
    columns = {"context": "{q}? {n}", "choices": "opts", "gold": "right"}
    assert bodies([row], columns=columns) == [Choices("why? 3", ("a", "b"), 1)]
    assert bodies([row], columns={**columns, "choices": ["{q}", "{n}x"], "gold": "{right}"}) == [
        Choices("why? 3", ("why", "3x"), 1)
    ]
    with pytest.raises(DataError, match="row 1: no column 'z' for context, only q, opts, right, n"):
        bodies([row], columns={**columns, "context": "{z}"})
    with pytest.raises(DataError, match="row 1: expected the keys of one form"):
        bodies([{"x": 1}])
    with pytest.raises(DataError, match="t has no rows"):
        bodies([])


# -- what training holds -----------------------------------------------------------------------------------------------


def test_an_item_is_a_text_with_its_right_answer() -> None:
    forms = [
        (Question("p", ("a", "b")), "p a"), (Choices("c", ("x", "y"), 1), "c y"), (MinimalPair("g", "b"), "g"),
        (Conditioned("c", "d", "o"), "c d"), (JudgedPair("p", "x", "y"), "p"), (Restated("o", "p", "q"), "o"),
        (ChangedContext("c", "d"), "c"), (Document("t"), "t"), (KnownLaw("c", (("a", 1.0),)), "c"),
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
    rows = np.array([[1.0, -1.0], [1.0, -3.0], [0.0, -3.0], [0.0, -4.0]])

    def auc(rows: np.ndarray) -> float:
        """How often what was seen is the likelier of two, a tie half; of one kind alone a half."""
        seen, other = rows[rows[:, 0] == 1, 1], rows[rows[:, 0] == 0, 1]
        pairs = [(a > b) + (a == b) / 2 for a in seen for b in other]
        return float(np.mean(pairs)) if pairs else 0.5

    assert found["min_20_auc"] == bootstrap(rows, auc, samples=500)
    assert found["min_20_auc"].mean == (1 + 1 + 0.5 + 1) / 4
    assert "min_20_auc" not in contamination.figures(tally, dict.fromkeys(told, True), least)
    assert "min_20_auc" not in contamination.figures(tally, dict.fromkeys(told, False), least)
    every = contamination.figures(tally, dict.fromkeys(range(6), True), {})
    assert list(every) == ["contaminated"] and "min_20_auc" not in contamination.figures(tally, told, {0: -1.0})


# -- probes ------------------------------------------------------------------------------------------------------------


# -- tokenisations, files ----------------------------------------------------------------------------------------------


def test_settings_of_a_file_have_their_kinds(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    (tmp_path / "r.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    path.write_text(
        'data = "r.jsonl"\nname = "N"\nscorer = "exact"\nstop = "x"\nseconds = 3\nshots = 0\nprogram = ["a", "b"]\n'
    )
    (found,) = task_files.read(path)
    assert (found.name, found.settings) == (
        "N",
        TaskSettings(scorers=("exact",), stop=("x",), seconds=3.0, program=("a", "b")),
    )
    for line, said in (
        ("shots = -1", "shots must be a whole number"), ("shots = true", "shots must be a whole number"),
        ("seconds = 0", "seconds must be a number above 0"), ("seconds = true", "seconds must be a number above 0"),
        ("stop = 3", "stop must be a text or a list of them"), ("stop = [3]", "stop must be a text"),
        ("pattern = 3", "pattern must be a text"), ("context = 3", "context must be a column or a template"),
        ("sotp = 'x'", "did you mean stop"),
    ):  # fmt: skip
        path.write_text(f'data = "r.jsonl"\n{line}\n')
        with pytest.raises(DataError, match=said):
            task_files.read(path)
    path.write_text("name = 'x'\n")
    with pytest.raises(DataError, match=r"data must name a .jsonl or .csv file beside it"):
        task_files.read(path)
    first = task_files.read(tmp_path / "r.jsonl")[0].identity
    (tmp_path / "r.jsonl").write_text('{"prompt": "a", "answer": "c"}\n\n \n')
    assert task_files.read(tmp_path / "r.jsonl")[0].identity != first
    assert len(list(task_files.rows(tmp_path / "r.jsonl"))) == 1
    for text, said in (("{\n", ":1: no JSON"), ('{"a": 1}\n[1]\n', ":2: expected an object, got list")):
        (tmp_path / "r.jsonl").write_text(text)
        with pytest.raises(DataError, match=said):
            list(task_files.rows(tmp_path / "r.jsonl"))
    (tmp_path / "r.csv").write_text("a,b\n1,2,3\n4\n")
    assert list(task_files.rows(tmp_path / "r.csv")) == [{"a": "1", "b": "2"}, {"a": "4", "b": None}]
