"""Filters, duplicates, contamination, balance and split: each against what can be counted by hand or simulated."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.decode.session import Session
from likely.engine.measure.synth import filters, pipeline, stages
from likely.engine.measure.synth.config import (
    BalanceOptions,
    DecontaminateOptions,
    DeduplicateOptions,
    FilterOptions,
    SplitOptions,
)
from likely.engine.measure.synth.duplicates import duplicates, jaccard, shingles
from likely.engine.measure.synth.row import RowSource, SynthRow
from tests.engine.synth.makers import PlainTokenizer, config, run, session, table, write_rows
from tests.fakes import FakeCheckpoint, MarkovModel, random_table


def row(job: int, text: str, asks: str = "", dropped: str = "", **attributes: str) -> SynthRow:
    content = {"prompt": asks, "completion": text} if asks else {"text": text}
    return SynthRow(content, RowSource("grid", job, 0, job, f"parent {job}", attributes=attributes), {}, dropped)


def reasons(rows: list[SynthRow]) -> list[str]:
    return [each.dropped.partition(": ")[2] for each in rows]


def test_perplexity_is_that_of_the_table() -> None:
    law = random_table(3)
    logp = law - np.logaddexp.reduce(law, axis=1, keepdims=True)
    found = filters.perplexities(session(law), [row(0, "ab", "x"), row(1, "abc"), row(2, " ", "x")])
    asked = [logp[ord(a), ord(b)] for a, b in ("xa", "ab")]
    assert found["000000-000"]["perplexity"] == pytest.approx(math.exp(-np.mean(asked)), rel=1e-4)
    alone = [logp[ord(a), ord(b)] for a, b in ("ab", "bc")]  # this tokenizer puts nothing before a text
    assert found["000001-000"]["perplexity"] == pytest.approx(math.exp(-np.mean(alone)), rel=1e-4)
    assert "000002-000" not in found


def test_numbers_of_models_are_asked_for_once_and_of_the_model_that_is_named(tmp_path: Path) -> None:
    fair = table({"7": 0.5, "5": 0.5})

    def made(folder: Path, **more: Any) -> tuple[int, set[str]]:
        """How many tokens were read, and by which models."""
        models: dict[str, MarkovModel] = {}

        def opened(name: str, adapters: Any) -> Session:
            model = models.setdefault(name, MarkovModel(fair))
            return Session(FakeCheckpoint(model, PlainTokenizer()))  # type: ignore[arg-type]

        stages_ = {"filter": {"low_tail": 0.1, **more}, "deduplicate": {"near": False}}
        list(pipeline.run(config(folder, {"answers": 4, "model": "m"}, **stages_), opened))
        return sum(model.read for model in models.values()), set(models)

    first, asked = made(tmp_path / "made")
    files = {name: (tmp_path / "made" / name).read_bytes() for name in ("scored.jsonl", "train.jsonl")}
    assert asked == {"m"} and made(tmp_path / "made")[0] == 0
    (tmp_path / "made" / "scored.jsonl").write_bytes(files["scored.jsonl"][: len(files["scored.jsonl"]) * 2 // 3])
    again, _ = made(tmp_path / "made")
    assert 0 < again < first
    assert {name: (tmp_path / "made" / name).read_bytes() for name in files} == files
    assert made(tmp_path / "other", perplexity_model="p")[1] == {"m", "p"}
    assert made(tmp_path / "judged", judge=0.01, judge_model="j")[1] == {"m", "j"}


def pair(shared: int, own: int, name: int) -> tuple[str, str]:
    """Two texts of words that no other has; their shingles of one word have Jaccard shared / (shared + 2 own)."""
    common = [f"c{name}x{i}" for i in range(shared)]
    return tuple(" ".join([*common, *(f"{side}{name}x{i}" for i in range(own))]) for side in "ab")  # type: ignore[return-value]


@pytest.mark.parametrize(("shared", "own"), [(40, 20), (60, 10)])
def test_banding_meets_pairs_as_often_as_it_should(shared: int, own: int) -> None:
    similar, runs = shared / (shared + 2 * own), 400
    options = DeduplicateOptions(shingle=1, bands=20, per_band=5, jaccard=similar - 1e-9)
    met = sum(duplicates(pair(shared, own, i), options)[1] is not None for i in range(runs))
    p = 1 - (1 - similar**5) ** 20  # of two sets that share a band
    assert abs(met / runs - p) <= 4 * math.sqrt(p * (1 - p) / runs) + 1e-9


def test_near_duplicates_are_those_of_all_pairs() -> None:
    """Against comparing every row with every one before it that was new."""
    chance, options = random.Random(1), DeduplicateOptions()
    texts = [" ".join(chance.choice("abcdefghijkl") * 3 for _ in range(40)) for _ in range(60)]
    for i in range(0, 60, 2):  # every second is the one before it with some words changed
        said = texts[i].split()
        for _ in range(chance.randrange(6)):
            said[chance.randrange(40)] = "zzz"
        texts[i + 1] = " ".join(said)
    sets, new = [frozenset(shingles(text, 5)) for text in texts], []
    wanted = []
    for number, own in enumerate(sets):
        best = max(((jaccard(own, sets[other]), -other) for other in new), default=(0.0, 0))
        if best[0] >= options.jaccard:
            wanted.append((-best[1], best[0]))
        else:
            wanted.append(None)
            new.append(number)
    assert duplicates(texts, options) == wanted and 5 < sum(each is not None for each in wanted) < 30


def test_equal_rows_and_known_ones_are_found_without_the_library(tmp_path: Path) -> None:
    known = write_rows(tmp_path / "known.jsonl", [{"text": "Known  TEXT."}])
    rows = [row(0, "a text"), row(1, "A text!"), row(2, "known text"), row(3, "b")]
    found = stages.deduplicate(rows, DeduplicateOptions(near=False, against=(known,)))
    assert reasons(found) == ["", "equal to another", "equal to a known row", ""]


WORDS = [f"w{i}" for i in range(40)]


def test_rows_with_what_is_evaluated_in_them_are_kept_aside(tmp_path: Path) -> None:
    task = write_rows(tmp_path / "eval.jsonl", [{"prompt": "What is 3 + 4?", "answer": "7"}])
    book = write_rows(tmp_path / "book.jsonl", [{"text": " ".join(WORDS)}])
    rows = [
        row(0, "it is 7", "what is 3 + 4"), row(1, "other " + " ".join(WORDS[5:18])),
        row(2, "other " + " ".join(WORDS[5:17])), row(3, "7", "what is 3 + 5?"),
    ]  # fmt: skip
    found = stages.decontaminate(rows, DecontaminateOptions(against=(task, book)))
    assert reasons(found) == ["asks what is evaluated", "shares 13 words", "", ""]
    assert reasons(stages.decontaminate(rows, DecontaminateOptions())) == [""] * 4


def test_generated_tasks_can_be_stayed_away_from() -> None:
    from likely.engine.measure.synth import inputs

    asks, says = inputs.pairs("copying:items=3,seed=0,size=4")[0]
    found = stages.decontaminate([row(0, says, asks), row(1, says, asks + " x")],
                                 DecontaminateOptions(against=("copying:items=3,seed=0,size=4",)))  # fmt: skip
    assert reasons(found) == ["asks what is evaluated", ""]


def test_classes_are_balanced_and_empty_ones_told() -> None:
    rows = [row(i, "x", kind="a" if i < 6 else "b" if i < 8 else "c") for i in range(9)]
    options = BalanceOptions(by="kind", classes=("a", "b", "d"))
    found = stages.balance(rows, options, 0)
    kept = [each.source.attributes["kind"] for each in found if not each.dropped]
    assert sorted(kept) == ["a", "a", "b", "b"] and found[8].dropped == "balance: of no class"
    assert stages.empty_classes(rows, options) == ["d"]
    assert found == stages.balance(rows, options, 0) and found != stages.balance(rows, options, 1)
    three = stages.balance(rows, BalanceOptions(by="kind", most=3), 0)
    assert sum(not each.dropped for each in three) == 6
    with pytest.raises(DataError, match=r"balance\.by = 'kinds' is no attribute of these rows"):
        stages.balance(rows, BalanceOptions(by="kinds"), 0)
    answers = [row(i, text, "?") for i, text in enumerate((" Yes.", "no", "yes", "perhaps"))]
    by_answer = BalanceOptions(by="answer", classes=("yes", "no"), most=9)
    assert reasons(stages.balance(answers, by_answer, 0)) == ["", "", "", "of no class"]


def test_of_each_problem_only_so_many_are_kept() -> None:
    rows = [SynthRow({"text": f"{i}"}, RowSource("verified", i, 0, 0, f"problem {i % 3}")) for i in range(12)]
    found = stages.balance(rows, BalanceOptions(per_parent=2), 0)
    kept = [each.source.parent for each in found if not each.dropped]
    assert sorted(kept) == [f"problem {i}" for i in (0, 0, 1, 1, 2, 2)]


def test_rows_of_one_parent_are_on_one_side() -> None:
    rows = [SynthRow({"text": f"{i}"}, RowSource("verified", i, 0, 0, f"problem {i % 200}")) for i in range(600)]
    sides = stages.split(rows, SplitOptions(valid=0.2, test=0.1), 0)
    parents = [{each.source.parent for each in found} for found in sides.values()]
    assert sum(map(len, parents)) == 200
    assert [len(found) for found in sides.values()] == [3 * len(found) for found in parents]
    for found, p in zip(parents, (0.7, 0.2, 0.1), strict=True):
        assert abs(len(found) - 200 * p) <= 4 * math.sqrt(200 * p * (1 - p))


def test_a_class_and_a_cell_without_rows_are_told(tmp_path: Path) -> None:
    from likely.engine.measure.synth.pipeline import RowsWarned

    def told(name: str, generate: dict[str, Any], **stages_: Any) -> list[str]:
        events = run(config(tmp_path / name, generate, **stages_), session(law))
        return [event.line for event in events if isinstance(event, RowsWarned)]

    law = table({"7": 0.5, "5": 0.5})
    generate = {"method": "grid", "grid": {"n": ["7", "8"]}, "template": "say {n}?", "answers": 4, "max_tokens": 4}
    balance = {"by": "answer", "classes": ["7", "8"], "most": 9}
    lines = told("made", generate, balance=balance, deduplicate={"near": False})
    assert lines == ["class '8' has no rows: it will not be learned"]
    letters = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter != "t"]
    for letter in ("8", *letters):  # after which nothing is said
        law[ord(letter)] = law[ord(" ")]
    law[ord("7")] = law[ord("?")]
    cells = {**generate, "template": "say {n}"}
    assert told("cells", cells) == ["no row is left for n 8"]
    many = told("many", {**cells, "grid": {"n": ["7", *letters]}})
    assert (many[0], many[-1]) == ("no row is left for n a", f"nor for {25 - pipeline.FEW} cells more")
    assert len(many) == pipeline.FEW + 1
    law[ord("?")] = -np.inf
    law[ord("?"), ord("5")] = 0
    with pytest.raises(DataError, match="no row is left of 8"):
        told("none", generate, balance=balance)


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
        "", "filter: low perplexity", "filter: high perplexity", "filter: low perplexity", "", "", "x",
    ]  # fmt: skip
    assert filters.tails(rows, FilterOptions()) == rows
    assert [bool(each.dropped) for each in filters.tails(rows, FilterOptions(high_tail=0.2))] == [0, 0, 1, 0, 0, 0, 1]
    judged = [row(i, "a").scored(p_true=p) for i, p in enumerate((0.4, 0.5, 0.6))] + [
        row(3, "a"),
        row(4, "a", dropped="x"),
    ]
    found = filters.tails(judged, FilterOptions(judge=0.5))
    assert [each.dropped for each in found] == ["filter: judge", "", "", "", "x"]


def test_shingles_and_jaccard_by_their_definitions() -> None:
    assert shingles("a b c d", 3) == ["a b c", "b c d"] and shingles("a b", 3) == ["a b"]
    assert shingles("a b c", 3) == ["a b c"] and shingles(" ", 2) == []
    one, other = frozenset("abc"), frozenset("bcd")
    assert jaccard(one, other) == 0.5 and jaccard(frozenset(), frozenset()) == 0
    assert jaccard(one, frozenset()) == 0


def test_equal_texts_name_the_first_one_before_them() -> None:
    options = DeduplicateOptions(near=False)
    assert duplicates(["x", "A b", "a, b", "x"], options, ["x", "y"]) == [(-2, 1.0), None, (1, 1.0), (-2, 1.0)]
    near = DeduplicateOptions(shingle=1, jaccard=0.5, bands=64, per_band=1)
    texts = ["a b c d", "a b c e", "a b x y", "c d e f"]  # 3/5, then 2/6 and 2/6
    found = duplicates(texts, near)
    assert found[0] is None and found[1] == (0, 0.6) and found[2] is None and found[3] is None
    exact = duplicates(["a b c", "a b d"], DeduplicateOptions(shingle=1, jaccard=0.5, bands=64, per_band=1))
    assert exact[1] == (0, 0.5)  # at the threshold


def test_rows_are_in_a_language() -> None:
    rows = [row(0, "Das ist ein längerer Satz über einen Hund im Garten", "what?")]
    for languages, why in ((("en",), ["language"]), (("de", "en"), [""])):
        assert reasons(list(filters.alone(rows, FilterOptions(languages=languages)))) == why
