"""The verb that evaluates, and figures beside a task's own: scaled, of columns, judged, varied; texts against texts."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from app.cli import eval as verb
from app.cli import eval_further, eval_judged, eval_samples, eval_variations
from app.cli.eval_variations import VariedTask
from app.evaluations import Evaluations, Row
from app.scoreboard import Measurement
from app.task_sources import Sourced, TextFile
from engine.errors import DataError, ParameterError
from engine.evaluate.estimates import Estimate
from engine.evaluate.figures import Tally
from engine.evaluate.tasks import Problem, Task, TaskSettings
from tests.app.results import evaluation, fill, store_in

Captured = pytest.CaptureFixture[str]
FOUND = Estimate(0.5, 0.1)


@pytest.fixture
def store(tmp_path: Path) -> Evaluations:
    return store_in(tmp_path)


def session(masked: bool = False) -> Any:
    info = SimpleNamespace(weights="w", name="hub/m")
    return SimpleNamespace(masked=masked, info=info, tokenizer=None, model=SimpleNamespace(dtype="f32"))


def task(name: str = "t", shots: int = 0, **more: Any) -> Task:
    rows = [{"prompt": str(i), "answer": "a"} for i in range(5)]
    return Task(name, lambda: iter(rows), f"id {name}", TaskSettings(shots=shots, **more))


# -- the verb --------------------------------------------------------------------------------------------------------


def test_progress_has_the_figure_and_the_time(store: Evaluations) -> None:
    done = fill(store)
    choose = done[0].evaluation
    tally = store.tally(choose)
    said = "choose one 0.5000 0.1876 to 0.8124 (6)"
    for left, words in (
        (None, ""),
        (0.0, " 0 s left"),
        (-3.0, " 0 s left"),
        (90.0, " 90 s left"),
        (91.0, " 2 min left"),
    ):
        assert verb._line(choose, tally, left) == said + words
    assert verb._line(choose, Tally(), None) == "choose one (0)"
    bounded = Tally()
    bounded.add(0, None, {"nats_at_most": 2.0, "tokens": 1.0, "bytes": 1.0, "draw_variance": 0.1})
    bounded.add(1, None, {"nats_at_most": 3.0, "tokens": 1.0, "bytes": 1.0, "draw_variance": 0.1})
    assert verb._line(choose, bounded, None).startswith("choose one <= 12.18 ")


def test_a_run_shows_its_line_once_a_second(
    store: Evaluations, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (first, *_), now, shown = fill(store), [0.0], []
    events = [
        (0.0, replace(first, known=4, total=9)), (0.5, Problem(1, "a", "b")), (0.9, item(7)),
        (1.0, item(8)), (1.5, item(9)),
        (2.0, item(10)),
    ]  # fmt: skip

    def run(sources: Any, models: Any) -> Iterator[Any]:
        for at, event in events:
            now[0] = at
            yield event
        raise KeyboardInterrupt

    monkeypatch.setattr(verb.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(verb.Progress, "show", lambda self, *args: shown.append(args))
    for quiet, said in ((False, "choose, one: 4 items are known from before\n"), (True, "")):
        made = verb._Run(SimpleNamespace(run=run, store=store), quiet=quiet)  # type: ignore[arg-type]
        assert made.all([], []) == [events[0][1]] and made.stopped and capsys.readouterr().err == said
    assert [(line.rpartition(" (")[2], done, total) for line, done, total in shown[:2]] == [
        ("8) 0 s left", 8, 9), ("10) 0 s left", 10, 9),
    ]  # fmt: skip


def item(number: int) -> Any:
    return SimpleNamespace(number=number, cluster=None, values={"acc": 1.0, "confidence": 0.5})


def test_earlier_results_are_in_the_order_of_the_models(store: Evaluations) -> None:
    with pytest.raises(DataError, match="nothing was measured yet of these"):
        verb._stored(store, [], [])
    fill(store)
    found = verb._stored(store, [], ["two", "one"])
    assert [(each.evaluation.task, each.evaluation.model) for each in found] == [
        ("ask", "two"), ("ask", "one"), ("choose", "two"), ("choose", "one"), ("read", "two"), ("read", "one"),
    ]  # fmt: skip
    (one,) = verb._stored(store, ["folder/ask.jsonl.gz"], ["one"])
    assert one.below is None and one.protocol == {"form": "questions", "chat": False, "seed": 3}
    assert [each.evaluation.task for each in verb._stored(store, ["read.csv", "choose"], ["one"])] == ["choose", "read"]


def test_validation_items_are_other_choices() -> None:
    choices = Task("v", lambda: iter([{"context": "c", "choices": ["a", "b"], "gold": 0}]), "v")
    held, questions = Sourced(choices, {}), Sourced(task(), {})
    verb._check_held([], [questions]), verb._check_held([held], [questions])
    for some, reported, line in (
        ([questions], [], "wants a task of choices"),
        ([Sourced(TextFile(Path("x")), {})], [], "wants a task of choices"),
        ([held, held], [], "wants one task, and other items"), ([held], [held], "wants one task, and other items"),
        ([held], [Sourced(replace(choices, identity="w"), {})], "two tasks are called v"),
    ):  # fmt: skip
        with pytest.raises(click.UsageError, match=line):
            verb._check_held(some, reported)


# -- figures beside a task's own -------------------------------------------------------------------------------------


def test_choices_are_scaled_by_their_own_model(store: Evaluations, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.evaluate import scaling

    done = fill(store)
    seen: list[Any] = []
    monkeypatch.setattr(scaling, "fit", lambda items: seen.append(list(items)) or 1.5)
    monkeypatch.setattr(
        scaling, "scaled", lambda items, temperature: {"acc": Estimate(temperature, 0.0, n=len(list(items)))}
    )
    (figure,) = eval_further.scaled(store, done[0], [done[3], replace(done[0], below=2)])
    assert (figure.task, figure.model, figure.measure, figure.estimate.mean, figure.estimate.n) == (
        "choose",
        "one",
        "acc",
        1.5,
        6,
    )
    assert figure.protocol["temperature"] == 1.5 and figure.protocol["fitted_on"] == "choose"
    assert [(each.number, each.gold) for each in seen[0]] == [(0, 0), (1, 0)] and seen[0][0].loglikelihoods == [
        -1.0,
        -2.0,
    ]
    assert eval_further.scaled(store, done[0], [done[3]]) == [] == eval_further.scaled(store, done[1], [done[0]])


def test_training_text_is_looked_for_in_the_tasks_that_were_asked(
    store: Evaluations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from engine.evaluate import contamination

    (tmp_path / "t.txt").write_text("a\n\nb\n")
    done = fill(store)
    seen: list[Any] = []
    monkeypatch.setattr(contamination, "known", list)
    monkeypatch.setattr(contamination, "seen", lambda source, known: seen.append((source.name, known)) or {1})
    monkeypatch.setattr(
        contamination, "figures", lambda tally, told, least: {"clean": Estimate(len(least), len(tally.numbers))}
    )
    asked_for = [Sourced(task("choose"), {}), Sourced(TextFile(tmp_path / "t.txt"), {})]
    found = eval_further.contaminated(store, done, asked_for, tmp_path / "t.txt")
    assert seen == [("choose", ["a", "b"])] and [(each.task, each.model) for each in found] == [
        ("choose", "one"),
        ("choose", "two"),
    ]
    assert found[0].estimate == Estimate(6, 6) and found[0].protocol["training"] == str(tmp_path / "t.txt")
    assert found[0].protocol["run"] == contamination.RUN


def test_columns_and_positions_are_of_what_has_them(store: Evaluations, monkeypatch: pytest.MonkeyPatch) -> None:
    import app.task_sources
    from engine.evaluate import subgroups, token_paths

    done = fill(store)
    with pytest.raises(DataError, match="choose is not where it was when it was measured: --by reads its rows again"):
        list(eval_further.by_column(done[:1], store, "c"))
    monkeypatch.setattr(app.task_sources, "again", lambda place, source: source)
    monkeypatch.setattr(subgroups, "by_column", lambda tally, task, column: {("acc", f"{column}=x"): FOUND})
    nowhere = replace(done[2], evaluation=replace(done[2].evaluation, place={}))
    (figure,) = eval_further.by_column([nowhere, done[0]], store, "c")
    assert (figure.task, figure.name, figure.estimate) == ("choose", "acc c=x", FOUND)
    with pytest.raises(click.UsageError, match="--positions is of texts"):
        list(eval_further.by_position(done[:2], store))
    with pytest.raises(click.UsageError, match="one is a diffusion model"):
        list(eval_further.by_position([replace(done[2], protocol={"form": "documents", "draws": 16})], store))
    text = evaluation("long", "m", "text")
    store.begin(text)
    details = [{"positions": [1]}, {}, {"positions": [2], "marginal": 3.0}]
    store.keep(text, [Row(i, None, {"nats": 1.0 + i, "bytes": 2.0}, detail) for i, detail in enumerate(details)])
    measured = Measurement(text, None, {"form": "text"})
    seen: list[Any] = []
    monkeypatch.setattr(
        subgroups, "by_position", lambda rows: seen.append(list(rows)) or {("perplexity", "0 to 1"): FOUND}
    )
    monkeypatch.setattr(token_paths, "figures", lambda drawn: seen.append(drawn) or {"bits": FOUND})
    (figure,) = eval_further.by_position([done[0], measured], store)
    assert figure.name == "perplexity 0 to 1" and seen == [[(0, None, [1]), (2, None, [2])]]
    (figure,) = eval_further.ambiguity([done[0], measured], store)
    assert figure.measure == "bits" and seen[1] == [(2, None, 3.0, 2.0, 3.0)]


def test_answers_are_set_against_the_first_models(store: Evaluations, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.evaluate import judging

    done = fill(store)
    ask = Sourced(task("ask"), {})
    for models, asked_for, line in (
        (["a"], [ask], "compares two models' answers"),
        (["a", "b"], [], "is of answers that are drawn"),
    ):
        with pytest.raises(click.UsageError, match=line):
            eval_judged.check(asked_for, models)
    eval_judged.check([Sourced(TextFile(Path("x")), {}), ask], ["a", "b"])
    seen: list[Any] = []
    monkeypatch.setattr(
        judging,
        "pairs",
        lambda source, models, answers, identity: seen.append((models, list(answers()), identity)) or source,
    )
    choices = Task("choose", lambda: iter([{"context": "c", "choices": ["a", "b"], "gold": 0}]), "v")
    (found,) = eval_judged.pairs(store, done, [Sourced(TextFile(Path("x")), {}), Sourced(choices, {}), ask])
    assert found.place == {} and seen == [
        (("one", "two"), [(i, f"it is {i}\n<b>", f"it is {i}\n<b>") for i in range(3)],
         f"{done[1].evaluation.id} {done[4].evaluation.id}"),
    ]  # fmt: skip
    assert eval_judged.pairs(store, [replace(done[1], below=0), done[4]], [ask]) == []


def test_variations_are_planned_a_kind_at_a_time() -> None:
    rows = [{"context": "c", "choices": ["a", "b"], "gold": 0}]
    choices = Sourced(Task("v", lambda: iter(rows), "v"), {})
    found = eval_variations.planned([choices], ["choices", "typos", "choices"], 3, 7)
    assert [(each.kind, len(each.base), len(each.variants), len(each.contexts)) for each in found] == [
        ("choices", 1, 3, 0),
        ("typos", 0, 3, 0),
    ]
    assert [(way.number, way.seed) for way in found[0].ways] == [(1, 7), (2, 7), (3, 7)] and len(found[0].sources) == 4
    (asked_,) = eval_variations.planned([Sourced(task(), {})], ["typos"], 2, 7)
    assert (len(asked_.variants), len(asked_.contexts), len(asked_.sources), asked_.by) == (2, 2, 4, "")
    with pytest.raises(ParameterError, match="--vary is of TASKS"):
        eval_variations.planned([Sourced(TextFile(Path("x")), {})], ["typos"], 2, 7)
    assert eval_variations.planned([Sourced(TextFile(Path("x")), {})], [], 2, 7) == []
    with pytest.raises(click.UsageError, match="--paraphraser goes with --vary paraphrase"):
        eval_variations.plan([choices], ["typos"], 2, 7, None, "p", lambda name: session())


def test_a_model_paraphrases_before_the_others_load(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.evaluate import paraphrase

    seen: list[Any] = []

    def paraphrases(session: Any, task: Task, variants: int, *, limit: int | None, seed: int) -> Iterator[Any]:
        seen.append((task.name, variants, limit, seed))
        yield 0, ("x", "y")
        yield 2, ("z", "w")

    monkeypatch.setattr(paraphrase, "paraphrases", paraphrases)
    shown: list[Any] = []
    said = eval_variations.paraphrased(
        session(), [Sourced(TextFile(Path("x")), {}), Sourced(task(), {})], 2, 7, 9, lambda *a: shown.append(a)
    )
    assert said == {"t": {0: ("x", "y"), 2: ("z", "w")}} and seen == [("t", 2, 9, 7)]
    assert shown == [("t in other words", 1, 0), ("t in other words", 2, 0)]
    (found,) = eval_variations.plan([Sourced(task(), {})], ["paraphrase"], 2, 7, 9, "p", lambda name: session())
    assert found.by == "p" and len(found.variants) == 2


def test_robustness_is_of_the_items_that_all_have(
    store: Evaluations, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from engine.evaluate import robustness
    from engine.evaluate.variations import Variation

    done = fill(store)
    names = [f"choose typos {i}" for i in (1, 2)]
    aside = []
    for name, count in zip(names, (6, 4), strict=True):
        each = evaluation(name, "one", "choices")
        store.begin(each)
        store.keep(each, [Row(i, None, {"acc": 1.0}, {"loglikelihoods": [-1.0, -2.0]}) for i in range(count)])
        store.keep(
            each,
            [],
            [Problem(9, "example", "e"), Problem(4, "empty", "nothing to change"), Problem(5, "odd", "w", True)],
        )
        aside.append(Measurement(each, None, {"form": "choices"}))
    plans = [
        VariedTask(
            task("choose"),
            "typos",
            (),
            [Sourced(task(name), {}) for name in names],
            (),
            [Variation("typos", i, 7) for i in (1, 2)],
        )
    ]
    seen: list[Any] = []

    def figures(first: Any, items: Any, kind: str, scores: Any) -> Any:
        seen.append((len(first), [len(each) for each in items], kind, scores))
        return {"flips": FOUND}

    monkeypatch.setattr(robustness, "figures", figures)
    (figure,) = eval_variations.figures(store, done[:1], aside, plans)
    assert (figure.task, figure.model, figure.measure, figure.estimate) == ("choose", "one", "flips", FOUND)
    assert {name: figure.protocol[name] for name in ("vary", "variants", "seed")} == {
        "vary": "typos",
        "variants": 2,
        "seed": 7,
    }
    assert "paraphraser" not in figure.protocol and seen == [(6, [6, 4], "typos", ("acc", "acc_norm"))]
    assert capsys.readouterr().err == "choose, one: typos of 4 of 6 items: nothing to change\n"
    (figure,) = eval_variations.figures(store, done[:1], aside, [replace(plans[0], by="p")])
    assert figure.protocol["paraphraser"] == "p"
    assert list(eval_variations.figures(store, done[:1], aside[:1], plans)) == [], "it was stopped before"
    assert list(eval_variations.figures(store, done[3:4], aside, plans)) == [], "another model"
    assert list(eval_variations.figures(store, done[:1], aside, [replace(plans[0], task=task("other"))])) == []
    base = [Sourced(task("choose base"), {})]
    assert list(eval_variations.figures(store, done[:1], aside, [replace(plans[0], base=base)])) == []
    monkeypatch.setattr(robustness, "moved", lambda tallies, kind: {"moved": Estimate(len(tallies), 0.0)})
    contexts = replace(plans[0], contexts=plans[0].variants)
    assert [each.measure for each in eval_variations.figures(store, done[:1], aside, [contexts])] == ["flips", "moved"]
    assert [
        each.measure
        for each in eval_variations.figures(
            store, done[:1], aside, [replace(contexts, contexts=[*contexts.contexts[:1], *base])]
        )
    ] == ["flips"]
    assert eval_variations._scores(done[0], "choices", {}) == ("acc",)
    items = {0: SimpleNamespace(values={"f1": 1, "x y": 2}), 1: SimpleNamespace(values={"em": 1, "f1": 0})}
    assert eval_variations._scores(done[1], "typos", items) == ["f1", "em"]  # type: ignore[arg-type]


def test_choices_in_another_order_are_put_back(store: Evaluations) -> None:
    from engine.evaluate.variations import Variation, order

    each = evaluation("moved", "m", "choices")
    store.begin(each)
    logs = [-1.0, -2.0, -3.0]
    way = Variation("choices", 1, 3)
    places = order(way, 4, 3)
    store.keep(each, [Row(4, "c", {"acc": 1.0}, {"loglikelihoods": [logs[i] for i in places]})])
    measured = Measurement(each, None, {})
    assert list(eval_variations._items(store, measured, way)[4].loglikelihoods) == logs
    assert places != [0, 1, 2]
    typos = eval_variations._items(store, measured, Variation("typos", 1, 3))[4]
    assert list(typos.loglikelihoods) == [logs[i] for i in places] and typos.cluster == "c"


def test_texts_are_rows_or_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": " "}\n{"text": "y"}\n')
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "a.txt").write_text("x\n\n y\n")
    assert [list(eval_samples.texts(tmp_path / f"a.{kind}")) for kind in ("jsonl", "csv", "txt")] == [
        ["x", "y"],
        ["x"],
        ["x", " y"],
    ]
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n{"other": "y"}\n')
    (tmp_path / "c.txt").write_text(" \n")
    for name, line in (("b.jsonl", r"b.jsonl, row 2: expected a text, got other"), ("c.txt", "has no texts")):
        with pytest.raises(DataError, match=line):
            eval_samples.texts(tmp_path / name)
    (tmp_path / "a.txt").write_text("".join(f"a {i} b\n" for i in range(10)))
    (tmp_path / "r.txt").write_text("".join(f"a b {i}\n" for i in range(11)))
    found = eval_samples.measured(tmp_path / "a.txt", tmp_path / "r.txt", None, None, lambda name: session())
    said = found[0][2]
    assert said["texts"] == [10, 11] and said["known"] == str(tmp_path / "r.txt") and said["features"] == "bigrams"
    other = eval_samples.measured(
        tmp_path / "a.txt", tmp_path / "r.txt", tmp_path / "a.txt", None, lambda name: session()
    )
    assert other[0][2]["known"] == str(tmp_path / "a.txt") and json.dumps(said) and not math.isnan(found[0][1].mean)
