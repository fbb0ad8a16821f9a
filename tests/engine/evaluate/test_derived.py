"""Derived tasks: what each row is set against, where texts are parted, and which entities are asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import DataError
from likely.engine.measure.evaluate.tasks.conditional import ConditionedText, RestatedText
from likely.engine.measure.evaluate.tasks.derived import BLOCK, derived, halves, partnered
from likely.engine.measure.evaluate.tasks.probes import entities, probes
from likely.engine.measure.evaluate.tasks.tasks import Choices, Item, Problem, Task


def made(kind: str, rows: list[Any], tmp_path: Path) -> Task:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = derived(kind, path)
    return found


def bodies(task: Task) -> list[Any]:
    return [entry.body if isinstance(entry, Item) else entry for entry in task.items()]


@pytest.mark.parametrize("n", [2, 3, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 2])
def test_everything_has_another_beside_it_once(n: int) -> None:
    found = list(partnered(iter(range(n))))
    assert [pair[0] for pair in found if pair] == list(range(n))
    partners = [pair[1] for pair in found if pair]
    assert all(a != b for a, b in enumerate(partners))
    blocks = [partners[low : low + BLOCK] for low in range(0, n, BLOCK)]
    for i, block in enumerate(blocks):
        if len(block) > 1:
            assert sorted(block) == list(range(i * BLOCK, i * BLOCK + len(block)))  # a permutation: as many of each
    assert found == list(partnered(iter(range(n))))  # the same again
    assert n < 10 or partners != list(partnered(iter(range(n)), seed=1))


def test_what_is_odd_stays_where_it_is_and_one_alone_is_refused() -> None:
    found = list(partnered(iter([None, 1, None, 2, None])))
    assert found == [None, (1, 2), None, (2, 1), None]
    with pytest.raises(DataError, match="two rows that serve are wanted"):
        list(partnered(iter([None, 1])))


def test_texts_are_parted_between_sentences_near_the_middle() -> None:
    assert halves("One two three four five. Six seven eight nine.") == (
        "One two three four five.",
        " Six seven eight nine.",
    )
    assert halves("One. Two three four five six seven eight nine") == (
        "One. Two three four five",
        " six seven eight nine",
    )
    first, second = halves("a b c d\ne f g h")
    assert first + second == "a b c d\ne f g h" and second == "\ne f g h"
    assert "fewer than 8 words" in str(halves("a b c d e f g"))


def test_coherence_has_another_s_first_half(tmp_path: Path) -> None:
    texts = [f"The {name} is here now. It was there before me." for name in ("cat", "dog", "hen")]
    task = made("coherence", [{"text": text} for text in texts] + [{"text": "too short"}, {"text": ""}], tmp_path)
    *found, short, empty = bodies(task)
    assert task.name == "coherence:rows" and task.settings.delimiter == ""
    for text, body in zip(texts, found, strict=True):
        assert isinstance(body, ConditionedText) and body.context + body.continuation == text
        assert body.other != body.context and body.other + body.continuation in [t for t in texts if t != text]
    assert isinstance(short, Problem) and short.kind == "unanswerable" and "no two halves" in short.words
    assert isinstance(empty, Problem) and empty.kind == "empty" and empty.number == 4


def test_relevance_and_meaning_set_a_row_against_another_s(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "answer": [f"a{i}", "b"]} for i in range(3)]
    for i, body in enumerate(bodies(made("relevance", rows, tmp_path))):
        assert isinstance(body, ConditionedText) and (body.context, body.continuation) == (f"q{i}", f"a{i}")
        assert body.other in {f"q{k}" for k in range(3) if k != i}
    rows = [{"original": f"o{i}", "paraphrase": f"p{i}"} for i in range(3)]
    for i, body in enumerate(bodies(made("meaning", rows, tmp_path))):
        assert isinstance(body, RestatedText) and (body.original, body.paraphrase) == (f"o{i}", f"p{i}")
        assert body.other in {f"p{k}" for k in range(3) if k != i}
    assert [body.text for body in bodies(made("fluency", [{"text": "a"}], tmp_path))] == ["a"]


def test_names_dates_and_numbers_are_found_by_their_form() -> None:
    text = "In March 1987 the young Ada Lovelace of London met 1,200 people. "
    text += "He met Mr Gray in 2003 or on 4 May 2010, I say."
    assert [(each.kind, each.words) for each in entities(text)] == [
        ("date", "March 1987"), ("name", "Ada Lovelace of London"), ("number", "1,200"), ("name", "Mr Gray"),
        ("year", "2003"), ("date", "4 May 2010"),
    ]  # fmt: skip
    assert all(text[each.start :].startswith(each.words) for each in entities(text))


def test_probes_have_others_of_their_kind_from_other_texts(tmp_path: Path) -> None:
    names = ["Paris", "Rome", "Cairo", "Lima", "Oslo"]
    texts = [f"Once upon a time we all went to {name} in the year {1900 + i} by train" for i, name in enumerate(names)]
    task = made("probes", [{"text": text} for text in [*texts, "nothing to ask for here at all"]], tmp_path)
    *items, last = list(task.items())
    assert isinstance(last, Problem) and "others of its kind" in last.words
    assert len(items) == 10 and all(isinstance(item, Item) for item in items)
    for item in items:
        assert isinstance(item, Item) and isinstance(item.body, Choices)
        text = texts[int(item.cluster or "")]
        right = item.body.choices[item.body.gold]
        assert text.startswith(f"{item.body.context} {right}") and len(set(item.body.choices)) == 4
        kind = names if right in names else [str(1900 + i) for i in range(5)]
        assert set(item.body.choices) <= set(kind)
        assert all(choice not in text for choice in item.body.choices if choice != right)
    golds = {item.body.gold for item in items if isinstance(item, Item) and isinstance(item.body, Choices)}
    assert len(golds) > 1
    assert len(list(probes(iter([(0, "We saw 1 2 3 4 5 6 and then 7 8 9 10 things")])))) == 1  # all its own


def test_rows_of_another_form_are_refused_in_one_line(tmp_path: Path) -> None:
    for kind, row, said in (
        ("coherence", {"good": "a", "bad": "b"}, "coherence is made of rows with text: rows has good, bad"),
        ("relevance", {"text": "a"}, "relevance is made of rows with prompt, answer: rows has text"),
        ("meaning", {"text": "a", "paraphrase": "b"}, "no column 'original' for prompt, only text, paraphrase"),
    ):
        with pytest.raises(DataError, match=said):
            bodies(made(kind, [row, row], tmp_path))


def test_of_one_text_no_more_than_four_are_asked() -> None:
    many = " ".join(f"a b c d e {name}" for name in ("Ada", "Bob", "Cid", "Dan", "Eve", "Fay"))
    others = [(i, f"a b c d e {name} x") for i, name in enumerate(("Gus", "Hal", "Ida"), 1)]
    assert sum(at == 0 for at, _ in probes(iter([(0, many), *others]))) == 4
