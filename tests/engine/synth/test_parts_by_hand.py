"""Reports, filters, splits and inputs of made rows by loops and by hand, at both ends of each threshold."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError, ParameterError
from engine.evaluate import sample_metrics, samples
from engine.evaluate.contamination import words
from engine.evaluate.estimates import jackknife, mean, share
from engine.synth import collapse, duplicates, filters, inputs, instruct, rewriting, stages
from engine.synth import report as reports
from engine.synth.config import BalanceOptions, DeduplicateOptions, FilterOptions, SplitOptions
from engine.synth.report import (
    GridCoverage,
    Runs,
    histogram,
    nearest,
    neighbours,
    privacy,
    report,
    template,
    top_template,
)
from engine.synth.row import RowSource, SynthRow, digest, of_value, sides
from engine.tune.rows import parse


def row(job: int, says: str, asks: str = "", parent: str = "p", dropped: str = "", **attributes: str) -> SynthRow:
    content = {"prompt": asks, "completion": says} if asks else {"text": says}
    return SynthRow(content, RowSource("m", job, 0, 0, parent, attributes=attributes), {}, dropped)


# -- a row -------------------------------------------------------------------------------------------------------------


def test_a_row_has_its_number_its_sides_and_what_is_beside_it() -> None:
    made = row(12, " b c", "a").scored(x=1.0).scored(y=math.nan).out("filter: why")
    assert (made.id, made.sides, made.text, made.said) == ("000012-000", ("a", " b c"), "a\n b c", " b c")
    assert row(1, "b").text == "b" and row(1, "b").sides == ("", "b")
    value = made.value()
    assert value["id"] == "000012-000" and value["dropped"] == "filter: why" and set(value["scores"]) == {"x", "y"}
    again = of_value(json.loads(json.dumps(value)))
    assert (again.content, again.source, again.dropped) == (made.content, made.source, made.dropped)
    assert "dropped" not in row(1, "b").value()
    with pytest.raises(ValueError, match="scores are numbers"):
        of_value({**value, "scores": {"x": "1"}})
    several = parse(
        {
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "r"},
                {"role": "user", "content": "s"},
                {"role": "assistant", "content": "t"},
            ]
        },
        "",
    )
    assert sides(several) == ("q\nr\ns", "t")
    assert digest("A, b!") == digest("a b") == hashlib.sha256(b"a b").hexdigest()[:16]


# -- filters -----------------------------------------------------------------------------------------------------------


def test_rows_are_filtered_at_their_thresholds() -> None:
    options = FilterOptions(least_words=2, most_words=4, repetition=0.5)
    said = {"a": "too short", "a b": "", "a b c d": "", "a b c d e": "too long"}
    for text, why in said.items():
        (found,) = filters.alone([row(0, text)], options)
        assert found.dropped == (f"filter: {why}" if why else "") and found.scores["words"] == len(text.split())
    repeated = FilterOptions(repetition=0.5)
    for text, share_ in (("a b c", 0.0), ("a a a a", 0.5), ("a a a a a", 2 / 3), ("a b", 0.0)):
        (found,) = filters.alone([row(0, text)], repeated)
        assert found.scores["repetition"] == pytest.approx(share_) and bool(found.dropped) == (share_ > 0.5)
    assert next(filters.alone([row(0, "a").scored(verified=0)], FilterOptions())).dropped == "filter: verifier"
    assert next(filters.alone([row(0, "a").scored(verified=1)], FilterOptions())).dropped == ""
    aside = row(0, "", dropped="x")
    assert list(filters.alone([aside, row(1, "b")], FilterOptions())) == [
        aside,
        row(1, "b").scored(words=1, repetition=0.0),
    ]


def test_tails_are_shares_of_the_rows_that_have_a_perplexity() -> None:
    rows = [row(i, "a").scored(perplexity=p) for i, p in enumerate((5.0, 1.0, 9.0, 3.0, 7.0))]
    rows += [row(5, "a"), row(6, "a", dropped="x").scored(perplexity=0.1)]
    found = filters.tails(rows, FilterOptions(low_tail=0.4, high_tail=0.39))
    assert [each.dropped for each in found] == [
        "",
        "filter: low perplexity",
        "filter: high perplexity",
        "filter: low perplexity",
        "",
        "",
        "x",
    ]
    assert filters.tails(rows, FilterOptions()) == rows
    assert [bool(each.dropped) for each in filters.tails(rows, FilterOptions(high_tail=0.2))] == [0, 0, 1, 0, 0, 0, 1]
    judged = [row(i, "a").scored(p_true=p) for i, p in enumerate((0.4, 0.5, 0.6))] + [
        row(3, "a"),
        row(4, "a", dropped="x"),
    ]
    found = filters.tails(judged, FilterOptions(judge=0.5))
    assert [each.dropped for each in found] == ["filter: judge", "", "", "", "x"]


# -- duplicates, classes, sides ----------------------------------------------------------------------------------------


def test_shingles_and_jaccard_by_their_definitions() -> None:
    assert duplicates.shingles("a b c d", 3) == ["a b c", "b c d"] and duplicates.shingles("a b", 3) == ["a b"]
    assert duplicates.shingles("a b c", 3) == ["a b c"] and duplicates.shingles(" ", 2) == []
    one, other = frozenset("abc"), frozenset("bcd")
    assert duplicates.jaccard(one, other) == 0.5 and duplicates.jaccard(frozenset(), frozenset()) == 0
    assert duplicates.jaccard(one, frozenset()) == 0


def test_equal_texts_name_the_first_one_before_them() -> None:
    options = DeduplicateOptions(near=False)
    assert duplicates.duplicates(["x", "A b", "a, b", "x"], options, ["x", "y"]) == [
        (-2, 1.0),
        None,
        (1, 1.0),
        (-2, 1.0),
    ]
    near = DeduplicateOptions(shingle=1, jaccard=0.5, bands=64, per_band=1)
    texts = ["a b c d", "a b c e", "a b x y", "c d e f"]  # 3/5, then 2/6 and 2/6
    found = duplicates.duplicates(texts, near)
    assert found[0] is None and found[1] == (0, 0.6) and found[2] is None and found[3] is None
    exact = duplicates.duplicates(["a b c", "a b d"], DeduplicateOptions(shingle=1, jaccard=0.5, bands=64, per_band=1))
    assert exact[1] == (0, 0.5)  # at the threshold


def test_classes_are_kept_to_the_smallest_or_to_so_many() -> None:
    rows = [row(i, says, parent=f"p{i % 2}", kind=says) for i, says in enumerate(["x", "x", "x", "y", "y", "z"])]

    def kept(options: BalanceOptions, seed: int = 1) -> list[str]:
        return [each.said for each in stages.balance(rows, options, seed) if not each.dropped]

    assert sorted(kept(BalanceOptions(by="kind"))) == ["x", "y", "z"]
    assert sorted(kept(BalanceOptions(by="answer", most=2))) == ["x", "x", "y", "y", "z"]
    assert sorted(kept(BalanceOptions(by="kind", classes=("x", "Y")))) == ["x", "x", "x"]
    assert sorted(kept(BalanceOptions(by="answer", classes=("X!", "y")))) == ["x", "x", "y", "y"]
    assert len(kept(BalanceOptions(per_parent=1))) == 2 and len(kept(BalanceOptions(per_parent=3))) == 6
    assert kept(BalanceOptions()) == [each.said for each in rows]
    first = stages.balance(rows, BalanceOptions(by="kind", most=1), 1)
    ranked = sorted(rows[:3], key=lambda r: hashlib.sha256(f"1 {r.id}".encode()).hexdigest())
    assert [each.id for each in first if each.said == "x" and not each.dropped] == [ranked[0].id]
    assert {each.dropped for each in first} == {"", "balance: enough of this class"}
    with pytest.raises(DataError, match=r"balance.by = 'size' is no attribute of these rows \(kind\)"):
        stages.balance(rows, BalanceOptions(by="size"), 1)
    assert stages.empty_classes(rows[:3], BalanceOptions(by="kind", classes=("x", "y"))) == ["y"]
    assert stages.empty_classes(rows, BalanceOptions()) == []


def test_sides_are_by_the_parent_s_hash() -> None:
    rows = [row(i, "a", parent=f"p{i // 2}", dropped="x" if i == 7 else "") for i in range(60)]
    found = stages.split(rows, SplitOptions(valid=0.25, test=0.25), 3)
    for side, low, high in (("valid", 0.0, 0.25), ("test", 0.25, 0.5), ("train", 0.5, 1.0)):
        places = [
            int(hashlib.sha256(f"3 {each.source.parent}".encode()).hexdigest()[:12], 16) / 2**48 for each in found[side]
        ]
        assert places and all(low <= place < high for place in places)
    assert sum(map(len, found.values())) == 59
    assert len(stages.split(rows, SplitOptions(valid=0.0), 3)["train"]) == 59


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_sources_are_rows_of_training_or_tasks(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n{"text": "c"}\n')
    assert inputs.pairs(str(rows)) == [("a", "b"), ("", "c")]
    items = tmp_path / "items.jsonl"
    items.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "c", "answer": ["d", "e"]}\n')
    assert inputs.pairs(str(items)) == [("a", " b"), ("c", " d")]
    assert [each.where for each in inputs.training_rows(str(items))] == [f"{items}:0", f"{items}:1"]
    choices = tmp_path / "choices.csv"
    choices.write_text("context,choices,gold\nwhy,so|no,1\nhow,a|b,0\n")
    assert inputs.pairs(str(choices)) == [("", "why no"), ("", "how a")]
    toml = tmp_path / "t.toml"
    toml.write_text('data = "items.jsonl"\nshots = 1\n')
    assert inputs.pairs(str(toml)) == [("a", " b"), ("c", " d")]  # without the examples before it
    assert len(inputs.pairs("arithmetic:items=3,shots=0")) == 3
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "c"}\n')
    assert inputs.pairs(str(folder)) == [("", "c")]
    assert inputs._is_task(toml) and not inputs._is_task(folder) and not inputs._is_task(tmp_path / "a.txt")
    with pytest.raises(DataError, match="there is no task nothing"):
        inputs.task_of("nothing")
    toml.write_text('tasks = ["items.jsonl", "items.jsonl"]\n')
    with pytest.raises(DataError, match="is a suite of 2 tasks: name one of them"):
        inputs.task_of(str(toml))
    assert inputs.texts([("a", "b"), ("", "c")]) == ["a\nb", "c"]
    three = inputs.rows(str(rows)), inputs.rows(str(rows), 1)
    assert [len(each) for each in three] == [2, 1] and inputs.identity(three[0]) != inputs.identity(three[1])
    one = parse({"prompt": "A b.", "completion": " C, d"}, "")
    assert inputs.KIND_OF["answer"](one) == "c d" and inputs.KIND_OF["opening"](one) == "a b"
    assert inputs.KIND_OF["row"](one) == digest("a b c d")


def test_problems_are_asked_with_their_examples_and_trained_on_without(tmp_path: Path) -> None:
    task = inputs.task_of("sorting:items=4,shots=2")
    found = inputs.problems(task)
    assert [each.number for each in found] == [2, 3, 4, 5]
    for each in found:
        assert each.asked.prompt.endswith(each.bare.prompt) and each.asked.prompt.count("Sort") == 3
        assert each.bare.prompt.count("Sort") == 1
    assert [each.number for each in inputs.problems(task, 2)] == [2, 3]
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="problems are rows with prompt and answer, not documents"):
        inputs.problems(inputs.task_of(str(path)))
    path.write_text('{"prompt": "", "answer": "b"}\n')
    with pytest.raises(DataError, match="no problem is in it"):
        inputs.problems(inputs.task_of(str(path)))


# -- the report --------------------------------------------------------------------------------------------------------


def test_made_rows_are_set_against_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    letters = list("abcdef")

    def some(n: int) -> list[tuple[str, str]]:
        return [(" ".join(random.choice(letters, 9)), str(random.choice(letters[:3]))) for _ in range(n)]

    real, held = some(14), some(12)
    made = [row(i, says, asks, topic=says) for i, (asks, says) in enumerate(some(16))]
    found = report(made, real, heldout=held, grid={"topic": ["a", "b", "c", "z"]})
    ours, theirs = ([words(f"{a}\n{b}") for a, b in each] for each in ([m.sides for m in made], real))
    kept = [words(f"{a}\n{b}") for a, b in held]
    assert (found.made, found.real) == (16, 14) and found.asked == reports.coverage(
        made, {"topic": ["a", "b", "c", "z"]}
    )
    assert found.asked is not None and found.asked.filled == len({m.said for m in made}) and found.asked.cells == 4
    x, y, z = (samples.spectrum(each) for each in (ours, theirs, kept))
    chance = np.random.default_rng(0)
    picked = [each[np.sort(chance.permutation(len(each))[:14])] for each in (x, y)]
    expected = {**sample_metrics.of_features(*picked), **sample_metrics.of_texts(ours, theirs)}
    assert {name: found.figures[name] for name in expected} == expected
    near, runs = nearest(x, y), Runs(theirs)
    shared = [len(runs.shared(text)) for text in ours]
    assert found.figures["nearest"] == mean(near[0].tolist()) and found.figures["longest_run"] == mean(shared)
    told = privacy(near[0], shared, nearest(z, y)[0], [len(runs.shared(text)) for text in kept])
    assert {name: found.figures[name] for name in told} == told
    assert (
        found.labels == tuple(histogram([m.said for m in made], [b for _, b in real])) and "label_js" in found.figures
    )
    assert found.lengths == (("from 8", 1.0, 1.0),) and found.figures["length_js"].mean == pytest.approx(0)
    assert found.notes == ("distances, precision and recall are of 14 rows of each, by chance",)
    assert len(found.beside) == 16 and found.template == top_template(ours, theirs)
    without = report(made[:14], real)
    assert without.notes == ("no held-out rows (report.heldout): nothing is said of privacy against them",)
    assert "nearer" not in without.figures and without.asked is None


def test_labels_are_few_kinds_of_answers() -> None:
    assert reports.LABELS >= 2
    many = [row(i, f"answer {i % 6}", "a b c") for i in range(12)]
    real = [("a b c", f"answer {i % 6}") for i in range(12)]
    assert report(many, real).labels != () and report(many, [*real[:11], ("a", "other")]).labels == ()


def test_histograms_openings_and_runs_at_their_edges() -> None:
    assert histogram([1, 1, 2], [3]) == [(1, 2 / 3, 0.0), (2, 1 / 3, 0.0), (3, 0.0, 1.0)] and histogram([1], []) == [
        (1, 1.0, 0.0)
    ]
    same = reports.divergence([("a", 0.5, 0.5), ("b", 0.5, 0.5)])
    assert same.mean == pytest.approx(0) and same.n == 2 and math.isnan(same.error)
    apart = reports.divergence([("a", 1.0, 0.0), ("b", 0.0, 1.0)])
    assert apart.mean == pytest.approx(math.log(2))
    middle = reports.divergence([("a", 0.75, 0.25), ("b", 0.25, 0.75)])
    assert middle.mean == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    text = [f"w{i}" for i in range(20)]
    assert template(text).split() == ["w#" if i < 10 else "w##" for i in range(reports.OPENING)]
    top, ours, theirs = top_template([["a"], ["a"], ["b"]], [["a"], ["c"], ["c"], ["c"]])
    assert (top, ours, theirs) == ("a", 2 / 3, 0.25) and top_template([["a"]], []) == ("a", 1.0, 0.0)
    assert [reports._bin(["x"] * n) for n in (0, 1, 2, 3, 4, 7, 8)] == [0, 1, 2, 2, 4, 4, 8]
    runs = Runs([list("abcde"), list("xbcdy")])
    assert runs.shared(list("zbcdz")) == tuple("bcd") and runs.shared(list("abcde")) == tuple("abcde")
    assert runs.shared(list("qq")) == () and runs.shared([]) == () and runs.shared(list("qa")) == ("a",)


def test_the_nearest_point_is_found_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 11, 3))
    exact = np.linalg.norm(x[:, None] - y[None], axis=-1)
    for block in (1, 4, 100):
        monkeypatch.setattr(reports, "BLOCK", block)
        far, at = nearest(x, y)
        assert far == pytest.approx(exact.min(1)) and at.tolist() == exact.argmin(1).tolist()


def test_privacy_counts_what_is_beyond_nineteen_of_twenty() -> None:
    held, theirs = np.arange(1.0, 22.0), list(range(21))  # the edges are 2 and 19
    found = privacy(np.array([1.9, 2.1, 5.0, 0.5]), [19, 20, 3], held, theirs)
    assert found == {
        "nearest_heldout": mean(held.tolist()),
        "longest_run_heldout": mean(theirs),
        "nearer": share([1.0, 0, 0, 1]),
        "shares_more": share([0.0, 1.0, 0.0]),
    }
    made, real = [row(i, f"t{i}") for i in range(3)], [("q", "r"), ("", "s")]
    near = np.array([0.5, 0.25, 0.1234567]), np.array([0, 1, 1])
    shown = list(neighbours(made, real, near, [("a",), ("a", "b"), ("c",)]))
    assert shown == [
        {"id": "000001-000", "longest_run": 2, "words": "a b", "nearest": 0.25, "real": "s"},
        {"id": "000002-000", "longest_run": 1, "words": "c", "nearest": 0.123457, "real": "s"},
        {"id": "000000-000", "longest_run": 1, "words": "a", "nearest": 0.5, "real": "q\nr"},
    ]


def test_a_grid_is_covered_by_its_cells() -> None:
    grid = {"a": ["x", "y"], "b": ["1", "2"]}
    rows = [row(0, "t", a="x", b="1"), row(1, "t", a="x", b="1"), row(2, "t", a="y", b="2"), row(3, "t", a="y")]
    counts = {"a": {"x": 2, "y": 2}, "b": {"1": 2, "2": 1}}
    assert reports.coverage(rows, grid) == GridCoverage(2, 4, counts) and reports.coverage(rows, {}) is None
    assert instruct.cells(grid) == [{"a": a, "b": b} for a in "xy" for b in "12"]


# -- texts -------------------------------------------------------------------------------------------------------------


def test_templates_are_filled_and_lack_nothing() -> None:
    assert instruct.filled("{a} and {b}", {"a": "1", "b": "{c}"}) == "1 and {c}"
    with pytest.raises(ParameterError, match=r"the template must have .b. in it"):
        instruct.filled("{a}", {"a": "1", "b": "2"})


def test_rouge_is_by_the_longest_common_subsequence_of_the_nearest() -> None:
    assert instruct.rouge_l("abcd", "axbyd") == pytest.approx(2 * 3 / 9) and instruct.rouge_l("", "a") == 0
    assert (
        instruct.rouge_l("a", "") == 0 and instruct.rouge_l("ab", "ba") == 0.5 and instruct.rouge_l("aab", "ab") == 0.8
    )
    assert instruct.nearest_rouge("a b c d", ["d c b a", "a b x d", ""]) == pytest.approx(0.75)
    assert instruct.nearest_rouge("", ["a"]) == 0 == instruct.nearest_rouge("a", [])


def test_distances_of_texts_by_their_words() -> None:
    assert rewriting.ngram_distance("a b c", "a b d") == pytest.approx(1 - 1 / 3)
    assert rewriting.ngram_distance("a", "a b") == pytest.approx(0.5) and rewriting.ngram_distance("", "") == 0
    assert rewriting.ngram_distance("a b", "") == 1 and rewriting.ngram_distance("a b c", "a b d", 1) == pytest.approx(
        0.5
    )

    assert rewriting.word_kl("a a", "a b") == pytest.approx(
        sum(u * math.log(u / v) for u, v in zip([1.5 / 3, 1.5 / 3], [2.5 / 3, 0.5 / 3], strict=True))
    )
    assert rewriting.word_kl("", "") == 0


def test_what_is_left_of_diversity_is_what_drift_leaves() -> None:
    assert collapse.diversity("aabc") == pytest.approx(1 - (4 + 1 + 1) / 16) and collapse.diversity("") == 0
    assert collapse.kept_share(3, 10, 20, "replace") == 0.9
    assert collapse.kept_share(3, 10, 20, "accumulate") == pytest.approx(1 - 10 / 50**2)

    class Same(collapse.Frequencies[str]):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[int, int, int]] = []

        def draw(self, n: int, seed: int) -> list[str]:
            self.asked.append((len(self._rows), n, seed))
            return ["a"] * n

    for way, sizes in (("replace", [4, 3, 3]), ("accumulate", [4, 7, 10])):
        learner = Same()
        found = list(collapse.generations(list("abcd"), learner, 2, way, str, n=3, seed=5))
        assert [each.rows for each in found] == sizes and [each.number for each in found] == [0, 1, 2]
        assert learner.asked == [(sizes[0], 3, 6), (sizes[1], 3, 7)]
        assert found[0].expected == found[0].diversity.mean == 0.75 and found[0].kinds == 4
        expected = 0.75 * collapse.kept_share(1, 3, 4, way)
        assert found[1].expected == pytest.approx(expected)
        assert found[2].expected == pytest.approx(expected * collapse.kept_share(2, 3, 4, way))
        assert found[1].kinds == (1 if way == "replace" else 4)
    plain = list(collapse.generations(list("abcd"), Same(), 1, "replace", str))
    assert plain[1].rows == 4 and plain[0].diversity == jackknife(4, lambda kept: 1 - 1 / len(kept))
    learner = collapse.Frequencies[str]()
    learner.fit(list("xyz"))
    drawn = learner.draw(6, 2)
    assert drawn == [list("xyz")[i] for i in np.random.default_rng(2).integers(0, 3, 6)]


def test_texts_are_changed_by_chance_one_way_at_a_time() -> None:
    class Told:
        """Chances that are given."""

        def __init__(self, *draws: float) -> None:
            self.draws = list(draws)

        def random(self) -> float:
            return self.draws.pop(0)

        def randrange(self, n: int) -> int:
            assert n == 3
            return 1

        def choice(self, of: str) -> str:
            assert of == "abcdefghijklmnopqrstuvwxyz"
            return "z"

    def changed(kind: str, *draws: float) -> Any:
        return rewriting.change("one two six", kind, 0.5, Told(*draws))  # type: ignore[arg-type]

    assert changed("mask", 0.4, 0.5, 0.9) == "___ two six" and changed("drop", 0.4, 0.5, 0.1) == "two"
    assert changed("noise", 0.6, 0.4, 0.9) == "one tzo six" and changed("swap", 0.4, 0.4) == "two six one"
    assert changed("swap", 0.5, 0.4) == "one six two" and changed("drop", 0.1, 0.1, 0.1) == "one two six"
