"""Tasks from files, what is odd about their rows, and the verifiers of answers."""

import gzip
import json
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from likely.engine.answers.extraction import canonical, number
from likely.engine.answers.program import VerifierError
from likely.engine.errors import DataError, ParameterError
from likely.engine.evaluate.evaluation import answer_measures
from likely.engine.evaluate.task_files import read
from likely.engine.evaluate.tasks import Choices, Document, Item, MinimalPair, Problem, Question, Task, TaskSettings
from likely.engine.evaluate.verifiers import check as check_settings
from likely.engine.evaluate.verifiers import judge, normalised


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


def test_odd_rows_are_listed_and_none_is_dropped_in_silence(tmp_path: Path) -> None:
    good = {"context": "c", "choices": ["x", "y"], "gold": 0}
    rows = [
        good, good, good | {"gold": 2}, good | {"gold": "z"}, good | {"gold": "9" * 5000}, good | {"gold": True},
        good | {"choices": ["x"]}, good | {"choices": ["x", " "]}, good | {"context": None},
        {"context": "c", "choices": ["x", "y"]},
    ]  # fmt: skip
    entries = list(one(write(tmp_path / "t.jsonl", rows)).items())
    problems = [entry for entry in entries if isinstance(entry, Problem)]
    assert [(p.number, p.kind, p.scored) for p in problems] == [
        (1, "duplicate", True), (2, "unanswerable", False), (3, "unanswerable", False), (4, "unanswerable", False),
        (5, "unanswerable", False), (6, "unanswerable", False), (7, "empty", False), (8, "empty", False),
        (9, "unanswerable", False),
    ]  # fmt: skip
    assert "one of the choices or its number from 0, got 2" in problems[1].words
    assert [entry.number for entry in entries if isinstance(entry, Item)] == [0, 1]
    pairs = one(
        write(tmp_path / "p.jsonl", [{"good": "a", "bad": "b"}, {"good": "a", "bad": "a"}, {"good": "", "bad": "b"}])
    )
    assert [entry.kind for entry in pairs.items() if isinstance(entry, Problem)] == ["unanswerable", "empty"]
    asked = one(write(tmp_path / "q.jsonl", [{"prompt": "p", "answer": None}, {"prompt": " ", "answer": "x"}]))
    assert [entry.kind for entry in asked.items() if isinstance(entry, Problem)] == ["unanswerable", "empty"]


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
        ("t.jsonl", "", "t has no rows"),
        ("t.jsonl", '{"a": 1}\n', r"row 1: expected the keys of one form .*good, bad.*, got a"),
        ("t.jsonl", '{"good"\n', r"t.jsonl:1: no JSON"),
        ("t.jsonl", "[1]\n", r"t.jsonl:1: expected an object, got list"),
        ("t.txt", "x", "must be a .jsonl, .csv or .toml file"),
        ("t.toml", 'data = "r.jsonl"\nshotz = 3', "t.toml: unknown option shotz; did you mean shots"),
        ("t.toml", "shots = 3", "data must name"),
        ("t.toml", 'data = "r.jsonl"\nshots = "3"', "shots must be a whole number, got '3'"),
        ("t.toml", 'data = "r.jsonl"\nprompt = "{x}"\nanswer = "{q}"', "no column 'x' for prompt, only q"),
        ("t.toml", 'data = "r.jsonl"\nprompt = "{q}"\nanswer = "{q}"\ncluster = "u"', "there is no column 'u' in"),
        ("t.toml", "= 3", "t.toml: not TOML"),
        ("t.toml", f"shots = {'3' * 5000}", "t.toml: not TOML"),
    ],
)
def test_a_malformed_task_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path / "r.jsonl", [{"q": "x"}])
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        for task in read(tmp_path / name):
            list(task.items())
    with pytest.raises(DataError, match="there is no file"):
        read(tmp_path / "none.jsonl")


def test_verifiers() -> None:
    def right(said: str, *answers: str, **settings: Any) -> dict[str, float]:
        return judge(Question("p", answers), said, TaskSettings(**settings))

    assert right(" The Cat. \n", "cat") == {"exact": 0, "normalised": 1}
    assert right("cat\n", "dog", "cat") == {"exact": 1, "normalised": 1}
    assert right("so 3 + 4 = 7", "7") == {"exact": 0, "normalised": 0, "numeric": 1}
    assert right("#### 1,234.50 because 9", "1234.5")["numeric"] == 1
    assert right("x = 12", "(12)", scorers=("regex",), pattern=r"= (\d+)")["regex"] == 0
    assert right("x = 1, y = 12", "12", scorers=("regex",), pattern=r"= (\d+)")["regex"] == 1
    assert normalised("A  Dog, an “apple”!") == "dog apple"
    assert right("9" * 4000 + "e999", "7") == {"exact": 0, "normalised": 0, "numeric": 0}
    assert canonical("9" * 4000 + "e999") == "9" * 4000 + "e999"  # whose value Python does not spell
    assert [number(t) for t in ("none", "-3", "3/4", "1e3", "$1,000,000.", "The answer is 5, not 6", "1/0")] == [
        None, -3, Fraction(3, 4), 1000, 1_000_000, 5, None,
    ]  # fmt: skip


@pytest.mark.slow
def test_answers_are_the_same_mathematics_or_not() -> None:
    """By math-verify, in a process that is ended where it does not end: 10^10^10 is never written out."""
    settings = TaskSettings(scorers=("math",), seconds=30.0)
    for said, answer, same in (
        ("so it is $\\frac{1}{2}$.", "0.5", 1), ("\\boxed{\\frac{2}{4}}", "\\frac12", 1),
        ("$x^2+2x+1$", "(x+1)^2", 1), ("$\\{1, 2\\}$", "\\{2, 1\\}", 1), ("3\\sqrt{2}", "3\\sqrt{2}", 1),
        ("3", "3\\sqrt{2}", 0), ("3\\sqrt{2}", "3", 0), ("the answer is 8", "7", 0), ("nothing", "7", 0),
    ):  # fmt: skip
        assert judge(Question("p", (answer,)), said, settings) == {"math": same}, (said, answer)
    with pytest.raises(VerifierError, match=r"no verdict within 0\.3 s: it was stopped"):
        judge(Question("p", ("7",)), "$10^{10^{10}}$", replace(settings, seconds=0.3))
    assert judge(Question("p", ("7",)), "7", settings) == {"math": 1}  # another one was started


def test_without_math_verify_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ParameterError, match="pip install math-verify"):
        check_settings(TaskSettings(scorers=("math",)))


def test_pass_and_majority_of_any_k() -> None:
    """Of five answers 7, 7, 8, 9 and none: every subset by hand."""
    said = ["7", "7", "8", "9", "?"]
    votes = [{"numeric": float(text == "7")} for text in said]
    found = answer_measures(Question("p", ("7",)), said, votes, Task("t", lambda: iter(()), "t"))
    assert found["numeric"] == pytest.approx(0.4)
    for k in (2, 4, 5):
        subsets = list(combinations(said, k))
        passed, won = 0.0, 0.0
        for some in subsets:
            passed += "7" in some
            counts = Counter(text for text in some if text != "?")
            most = [text for text, count in counts.items() if count == max(counts.values())]
            won += ("7" in most) / len(most)
        assert found[f"numeric pass@{k}"] == pytest.approx(passed / len(subsets))
        assert found[f"numeric maj@{k}"] == pytest.approx(won / len(subsets))
    assert found["numeric maj@5"] == 1


@pytest.mark.slow
def test_a_program_judges_and_one_that_hangs_is_ended(tmp_path: Path) -> None:
    check = tmp_path / "check.py"
    check.write_text(
        "import json, subprocess, sys, time\nasked = json.load(sys.stdin)\nsaid = asked['said']\n"
        "if said == 'hang':\n    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    time.sleep(60)\n"
        "if said == 'fail': sys.exit(3)\nsys.exit(said not in asked['answers'])\n"
    )
    settings = TaskSettings(scorers=("program",), program=(sys.executable, str(check)), seconds=1.0)
    question = Question("p", ("yes",), {"more": 1})
    assert judge(question, "yes", settings) == {"program": 1} and judge(question, "no", settings) == {"program": 0}
    with pytest.raises(VerifierError, match="ended with 3"):
        judge(question, "fail", settings)
    with pytest.raises(VerifierError, match="within 1 s"):
        judge(question, "hang", settings)
    with pytest.raises(ParameterError, match="cannot start"):
        check_settings(TaskSettings(scorers=("program",), program=("/none",)))


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
