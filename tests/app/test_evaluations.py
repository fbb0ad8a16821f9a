"""Results of items as they are kept, read and compared; the evaluator without a model; sources of items."""

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from likely.app.results.evaluator import Evaluator, files, is_adapter
from likely.app.results.task_sources import TaskSource, TextFile, again, sources
from likely.app.store.evaluations import Evaluation, Evaluations, asked_of
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.tasks.tasks import Problem, Result, Task, TaskSettings
from tests.app.results import evaluation, store_in
from tests.fakes import FakeCheckpoint, MarkovModel, certain_table
from tests.support.limits import file_size_limit

ONE = evaluation("t", "m", "choices")


@pytest.fixture
def store(tmp_path: Path) -> Evaluations:
    return store_in(tmp_path)


def row(number: int, **measures: float) -> Result:
    return Result(number, None, measures or {"acc": 1.0}, {})


def test_results_come_back_and_are_replaced(store: Evaluations) -> None:
    assert store.begin(ONE) == set()
    rows = [Result(2, "c", {"acc": 1, "x": 0.5}, {"a": [1]}), Result(0, None, {"acc": 0.0}, {})]
    store.keep(ONE, rows, [Problem(5, "odd", "words", True), Problem(3, "odd", "w")])
    assert list(store.rows(ONE)) == rows[::-1] and [each.number for each in store.rows(replace(ONE, below=2))] == [0]
    assert store.problems(ONE) == [Problem(3, "odd", "w", False), Problem(5, "odd", "words", True)]
    assert [each.number for each in store.problems(replace(ONE, below=5))] == [3]
    assert (
        store.begin(ONE) == {0, 2}
        and store.tally(ONE).numbers == [0, 2]
        and store.tally(replace(ONE, below=1)).numbers == [0]
    )
    store.keep(ONE, [row(0)])
    assert next(store.rows(ONE)).values == {"acc": 1.0}
    assert store.begin(ONE, fresh=True) == set() and store.problems(ONE) == []


def test_items_of_two_are_joined_by_their_numbers(store: Evaluations) -> None:
    other = evaluation("t", "n", "choices")
    for each, numbers in ((ONE, (0, 2, 3, 7)), (other, (1, 2, 3, 4, 7, 9))):
        store.begin(each)
        store.keep(each, [row(number) for number in numbers])
    assert [(a.number, b.number) for a, b in store.common(ONE, other)] == [(2, 2), (3, 3), (7, 7)]
    assert [a.number for a, _ in store.common(replace(other, below=7), ONE)] == [2, 3]


def test_the_latest_comes_first_and_only_what_can_be_compared(
    store: Evaluations, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def kept(each: Evaluation) -> None:
        now[0] += 1
        store.begin(each)
        store.keep(each, [row(0)])

    a, b = evaluation("t", "a", "x"), evaluation("t", "b", "x")
    other = replace(b, model="c", asked={**b.asked, "source": "y", "weights": "c"})
    kept(a), kept(other), kept(b)
    empty = evaluation("u", "a", "x")
    store.begin(empty)
    assert [each.model for each in store.all()] == ["b", "c", "a"]
    store.keep(empty, [], [Problem(0, "odd", "w")])
    assert [each.task for each in store.all()].count("u") == 1
    assert [each.model for each in store.all(["t"])] == ["b", "c", "a"] and store.all(["none"]) == []
    latest = lambda *names: [each.model for each in store.latest(["t"], *names)]  # noqa: E731
    assert latest() == ["b", "a"] and latest(["c"]) == ["c"]
    kept(replace(a, command=("other",)))
    assert store.latest(["t"])[0].model == "a" and store.all(["t"])[0].place == a.place
    assert store.all(["t"])[0].command == list(a.command), "of the command that began it"
    shorter = replace(a, model="d", asked={**a.asked, "weights": "d", "protocol": {"chat": True}})
    kept(shorter)
    assert latest() == ["d"]
    alike = {"weights": "e", "protocol": {"chat": True, "unconditional": False}}
    kept(replace(a, model="e", asked={**shorter.asked, **alike}))
    assert latest() == ["e", "d"], "which choices are read alone changes no item"


def test_what_a_score_depends_on_is_its_name() -> None:
    assert ONE.id == replace(ONE, model="other", command=(), place={}).id and len(ONE.id) == 32
    assert ONE.id != replace(ONE, task="u").id != replace(ONE, asked={}).id
    said = asked_of(Protocol(seed=3), form="x")
    assert said["form"] == "x" and said["protocol"]["seed"] == 3 and "draws" not in said["protocol"]
    assert asked_of(Protocol(draws=16))["protocol"]["draws"] == 16


def test_a_database_that_cannot_be_kept_is_in_memory(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").write_text("x")
    store = Evaluations(tmp_path / "file" / "e.db", said.append)
    store.begin(ONE), store.keep(ONE, [row(1)])
    assert not store.kept and store.begin(ONE) == {1} and len(said) == 1
    assert said[0].startswith(f"results are not kept in {tmp_path}/file/e.db (") and "set LIKELY_HOME" in said[0]
    store.close()
    path = tmp_path / "e.db"
    whole = Evaluations(path, said.append)
    whole.begin(ONE), whole.keep(ONE, [row(1), row(2)])
    whole.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
        db.execute("PRAGMA user_version = 9")
    other = Evaluations(path, said.append)
    assert not other.kept and "it was written by another version, 9" in said[1] and other.begin(ONE) == set()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    full = Evaluations(path, said.append)
    assert full.begin(ONE) == {1, 2}
    most = max(file.stat().st_size for file in tmp_path.iterdir() if file.is_file())
    with file_size_limit(most):
        full.keep(ONE, [Result(3, None, {"acc": 1.0}, {"said": "long " * 20_000})])
    assert not full.kept and full.begin(ONE) == {1, 2, 3} and len(said) == 3
    assert Evaluations(path).begin(ONE) == {1, 2}, "the file stays as it was"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        *((f"UPDATE result SET {each}", r"is damaged \(.*\): move it away, and measure again") for each in (
            "measures = '[]'", """measures = '{"acc": "x"}'""", """measures = '{"acc": true}'""", "measures = '{'",
            "detail = '3'")),
        ("UPDATE evaluation SET asked = 'x'", "is damaged"), ("DROP TABLE result", "cannot be read"),
    ],
)  # fmt: skip
def test_damage_is_a_line(tmp_path: Path, store: Evaluations, damage: str, said: str) -> None:
    store.begin(ONE), store.keep(ONE, [row(1)], [Problem(1, "a", "b")])
    with closing(sqlite3.connect(tmp_path / "evaluations.db")) as db:
        db.execute(damage)
        db.commit()
    with pytest.raises(DataError, match=said):
        store.all(), list(store.rows(ONE))


# -- the evaluator ---------------------------------------------------------------------------------------------------


def session(text: bytes = b"ab") -> Session:
    """A model that says a byte's next one, of these, for nearly certain."""
    return Session(FakeCheckpoint(MarkovModel(certain_table(text))))  # type: ignore[arg-type]


def task(name: str = "t", shots: int = 0, rows: int = 4) -> Task:
    """Choices of which the first is the likely one, and a row that is none."""
    good = [{"context": "xa", "choices": ["b", "c"], "gold": i % 2} for i in range(rows)]
    return Task(name, lambda: iter([*good, {"odd": 1}]), f"id {name}", TaskSettings(shots=shots, delimiter=""))


def test_each_model_is_asked_each_task_and_what_came_is_kept(store: Evaluations, tmp_path: Path) -> None:
    opened: list[str] = []

    def opens(name: str) -> Any:
        opened.append(name)
        return session(), f"weights {name}"

    (tmp_path / "x.txt").write_text("ababab" * 9)
    run = Evaluator(store, opens, Protocol(seed=5, window=8), 3, command=("likely",))
    asked_for = [TaskSource(task(), {"task": "p"}), TaskSource(TextFile(tmp_path / "x.txt"), {"text": "q"})]
    heads = [event for event in run.run(asked_for, ["a", ""]) if isinstance(event, Evaluation)]
    assert opened == ["a", ""] and [(head.task, head.model) for head in heads] == [
        ("t", "a"), ("x.txt", "a"), ("t", "fake"), ("x.txt", "fake"),
    ]  # fmt: skip
    assert [(head.known, head.total) for head in heads[:2]] == [(0, 3), (0, 0)]
    assert heads[0].place == {"task": "p"} and heads[0].command == ("likely",)
    rows = list(store.rows(heads[0]))
    assert [each.number for each in rows] == [0, 1, 2] and [each.values["acc"] for each in rows] == [1.0, 0.0, 1.0]
    assert heads[0].protocol["form"] == "choices"
    text = heads[1].protocol
    assert (text["form"], text["window"], text["items"]) == ("text", 8, "windows") and "samples" not in text

    def known(**changes: Any) -> int:
        head = next(replace(run, **changes).run(asked_for[:1], ["a"]))
        assert isinstance(head, Evaluation)
        return head.known

    assert known() == 3 and known(fresh=True) == 0
    list(replace(run, limit=None).run(asked_for[:1], ["a"]))
    assert known(limit=None) == 4
    assert 4 in [problem.number for problem in store.problems(replace(heads[0], below=None))]


def test_what_came_before_the_end_is_kept(store: Evaluations) -> None:
    run = Evaluator(store, lambda name: (session(), "w"), Protocol())
    events = run.run([TaskSource(task("u"), {})], ["a"])
    while isinstance(next(events), Evaluation | Problem):
        pass
    events.close()
    assert [each.number for each in store.rows(store.all(["u"])[0])] == [0]


def test_what_came_is_kept_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another program sees it, by a clock that is moved: nothing within the second, all of it after."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    mine, other = store_in(tmp_path), store_in(tmp_path)
    events = Evaluator(mine, lambda name: (session(), "w"), Protocol()).run([TaskSource(task("u", rows=6), {})], ["a"])
    begun = next(events)
    assert isinstance(begun, Evaluation)
    while isinstance(next(events), Problem):  # rows that are odd come first, then the first result
        pass
    seen = []
    for pause_s in (0.9, 0.2, 0.0, 0.9, 0.2):
        now[0] += pause_s
        next(events)
        seen.append([each.number for each in other.rows(begun)])
    assert seen == [[], [0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3, 4, 5]]
    events.close()


def test_draws_are_of_diffusion_models(store: Evaluations) -> None:
    run = Evaluator(store, lambda name: (session(), "w"), Protocol(draws=16))
    with pytest.raises(ParameterError, match="--draws is of diffusion models, and none of these is one"):
        list(run.run([], ["0", "2"]))


def test_an_adapter_is_a_folder_with_its_settings(tmp_path: Path) -> None:
    assert not is_adapter("") and not is_adapter(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    assert is_adapter(str(tmp_path))
    first = files(tmp_path)
    (tmp_path / "note.txt").write_text("x")
    assert files(tmp_path) == first
    (tmp_path / "a.safetensors").write_text("x")
    assert files(tmp_path) != first


# -- sources of items ------------------------------------------------------------------------------------------------


def test_sources_are_found_and_found_again(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "answer": "b", "c": 1}\n')
    (tmp_path / "x.txt").write_text("words")
    found = sources([str(rows), "arithmetic"], tmp_path / "x.txt", 2, "c")
    assert [each.source.name for each in found] == ["rows", "arithmetic", "x.txt"]
    places = [found[0].place, found[2].place]
    assert places == [{"task": str(rows), "shots": 2, "cluster": "c"}, {"text": str(tmp_path / "x.txt")}]
    first, (plain,) = found[0].source, sources([str(rows)])
    assert isinstance(first, Task) and isinstance(plain.source, Task)
    assert (first.settings.shots, first.settings.cluster, plain.source.settings.shots) == (2, "c", 0)
    assert first.identity == f"{plain.source.identity} 2 c"
    assert again(found[0].place, first.identity) is not None and again(found[0].place, "other") is None
    for place in ({"text": "x"}, {"task": "nowhere.jsonl", "shots": None, "cluster": None}):
        assert again(place, "y") is None
    for names, line in (
        ([str(rows), str(rows)], "two tasks are called rows"),
        (["nothing"], r"there is no task nothing: give a file \(.jsonl"),
    ):
        with pytest.raises((DataError, ParameterError), match=line):
            sources(names)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"empty.txt is empty: there is nothing to measure"):
        sources([], tmp_path / "empty.txt")
