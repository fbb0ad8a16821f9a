"""Generated tasks: the same from the same seed, right by an oracle of their own, of the entropy that they state."""

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.measure.evaluate.tasks.generated import MAKERS, generated
from likely.engine.measure.evaluate.tasks.tasks import Document, Item, Problem, Question, Task, TaskSettings
from likely.engine.measure.evaluate.tasks.verifiers import judge


def task(text: str) -> Task:
    found = generated(text)
    assert found is not None
    return found


def questions(text: str) -> list[Question]:
    return [e.body for e in task(text).items() if isinstance(e, Item) and isinstance(e.body, Question)]


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_seed_makes_the_same_items_and_another_others(name: str) -> None:
    rows = list(task(f"{name}:items=20").rows())
    assert rows == list(task(f"{name}:items=20,seed=0").rows()) != list(task(f"{name}:items=20,seed=1").rows())
    assert task(f"{name}:seed=1").identity != task(name).identity
    entries = list(task(f"{name}:items=20").items())
    assert sum(isinstance(entry, Item) for entry in entries) == 20
    assert all(entry.kind in ("example", "duplicate") for entry in entries if isinstance(entry, Problem))


def test_the_law_of_what_follows_is_that_of_the_texts() -> None:
    """Over many contexts of one chain, the letters before each law's own are those that the others were drawn from."""
    rows = list(task("markov-law:items=300,size=30").rows())
    laws = {row["context"][-1]: row["law"] for row in rows}
    assert len(laws) == 8 and all(row["law"] == laws[row["context"][-1]] for row in rows)
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for a, b in pairwise(row["context"].split()):
            seen[a][f" {b}"] += 1
    for letter, counts in seen.items():
        assert set(counts) == set(laws[letter])
        assert all(abs(counts[b] / counts.total() - p) < 0.08 for b, p in laws[letter].items())


def test_answers_are_right() -> None:
    def last(question: Question) -> str:
        return question.prompt.splitlines()[-1]

    for q in questions("arithmetic:size=4"):
        a, b = map(int, re.findall(r"\d+", last(q)))
        assert q.answers[0].endswith(f"The answer is {a + b}") and len(q.prompt.splitlines()) == 4
        assert judge(q, f"so, The answer is {a + b}", task("arithmetic").settings) == {"numeric": 1}
        assert judge(q, f"{a + b + 1}", task("arithmetic").settings) == {"numeric": 0}
    for q in questions("last-letters"):
        assert q.answers[0] == "".join(re.findall(r"(\w)\b", last(q).removeprefix("Last letters of")))
    for q in questions("sorting"):
        assert q.answers[0].split() == sorted(re.findall(r"\d+", last(q)), key=int)
    for q in questions("copying"):
        assert last(q) == f"Copy {q.answers[0]}:"
    for q in questions("needle:size=5"):
        assert f"is {q.answers[0]}." in q.prompt and q.prompt.count(".") == 6
    for q in questions("lookup"):
        key = re.search(r"value of (\w+) is$", last(q))
        assert key is not None and f"{key[1]}: {q.answers[0]}" in last(q)
    for q in questions("brackets"):
        whole = "".join(last(q).removeprefix("Close").removesuffix("with").split()) + q.answers[0].replace(" ", "")
        while whole != (whole := re.sub(r"\(\)|\[\]|\{\}", "", whole)):
            pass
        assert whole == ""


def test_markov_texts_have_the_entropy_that_they_state() -> None:
    made = task("markov:size=100,items=300")
    follow: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in made.items():
        assert isinstance(entry, Item) and isinstance(entry.body, Document)
        for a, b in pairwise(entry.body.text.split()):
            follow[a][b] += 1
    n = sum(counts.total() for counts in follow.values())
    measured = -sum(k * math.log(k / counts.total()) for counts in follow.values() for k in counts.values()) / n
    assert measured == pytest.approx(1.75 * math.log(2), rel=0.01)
    assert made.entropy == pytest.approx((math.log(8) + 99 * 1.75 * math.log(2)) / 100)


def test_other_names_and_wrong_options() -> None:
    assert generated("pairs.jsonl") is None and generated("nothing") is None
    for text in ("arithmetic:digits=3", "arithmetic:size=x", "sorting:items=0", "markov:shots=2"):
        with pytest.raises(ParameterError):
            generated(text)


GENERATED: dict[str, tuple[int, str, int, int, str, str]] = {
    "arithmetic": (3, "numeric", 3, 48, "87179c765eb7", "ab28d9b5b147"),
    "last-letters": (3, "normalised", 3, 48, "81a83d644acd", "71e14510f25c"),
    "sorting": (5, "exact", 3, 48, "3ca595fffdce", "4fea8bf90543"),
    "copying": (8, "exact", 3, 48, "560a3df1051b", "0dacd5d47c4a"),
    "needle": (20, "numeric", 0, 12, "e4a21abcfea3", "54e26709ba27"),
    "lookup": (8, "numeric", 3, 12, "3b081bd48dbb", "1fd1b4f1606f"),
    "brackets": (10, "exact", 3, 48, "a397c28884df", "f0fbd22ca898"),
    "tools": (3, "", 0, 256, "ba39c4c8cd16", "618654e85bce"),
    "markov": (200, "", 0, 48, "1d6b8e6cab76", "a2d89b96e218"),
    "markov-law": (100, "", 0, 48, "14b6e8ef2ae8", "71b0251691a9"),
}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_items_of_a_seed_are_those_of_every_version(name: str) -> None:
    """Scores of one version are set beside another's: what they are of must not move."""
    size, scorer, shots, longest, usual, other = GENERATED[name]
    for text, digest in ((f"{name}:items=12", usual), (f"{name}:items=5,size=4,seed=3,shots=0", other)):
        made = generated(text)
        assert made is not None
        rows = list(made.rows())
        assert hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12] == digest
        assert len(rows) == (12 + shots if "items=12" in text else 5)
    plain = generated(name)
    assert plain is not None and plain.settings == TaskSettings(
        shots=shots,
        separator="\n",
        scorers=(scorer,) if scorer else (),
        max_tokens=longest,
        stop=() if name == "tools" else ("\n",),
    )
    assert len(list(plain.rows())) == 200 + shots
    assert f"('items', 200), ('seed', 0), ('shots', {shots}), ('size', {size})" in plain.identity
