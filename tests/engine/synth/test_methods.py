"""Methods that make rows, with a writer whose texts are given: what is asked, what becomes a row, what not."""

import random
from collections.abc import Sequence
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import ParameterError
from engine.prompt import Prompt, asked
from engine.reason.paths import Path
from engine.synth import pipeline, report
from engine.synth.config import configure
from engine.synth.instruct import AttributeGrid, DocumentQuestions, Magpie, SelfInstruct, rouge_l
from engine.synth.method import LONG, RowMethod
from engine.synth.report import GridCoverage
from engine.synth.rewriting import Augment, Rewrite, change, ngram_distance, word_kl
from engine.synth.row import SynthRow, of_value
from engine.synth.verified import Preference, Verified
from engine.trace.trace import Recipe
from tests.engine.synth.makers import PROBLEMS, PlainTokenizer, write_rows


class Scripted:
    """A writer that says what it is given, in order, and keeps what it was asked."""

    chat = False
    recipe = Recipe()

    def __init__(self, *texts: str, finish: str = "eot") -> None:
        self.texts, self.finish = list(texts), finish
        self.session = SimpleNamespace(info=SimpleNamespace(name="scripted"), tokenizer=PlainTokenizer(), ranks=None)
        self.asked: list[str] = []
        self.seeds: list[int] = []

    def prompt(self, text: str) -> Prompt:
        return asked(text, self.session.tokenizer, raw=True)

    def draw(self, prompt: Prompt, n: int, seed: int, stop: Sequence[str] = ()) -> list[Path]:
        self.asked.append("".join(str(part) for part in prompt.parts) or str(prompt.messages))
        self.seeds.append(seed)
        texts = [self.texts.pop(0) for _ in range(n)]
        return [Path(i, (), text, text, self.finish) for i, text in enumerate(texts)]

    def once(self, prompt: Prompt, seed: int, stop: Sequence[str] = ()) -> Path:
        return self.draw(prompt, 1, seed, stop)[0]


def made(kind: type[RowMethod], writer: Scripted | None, **generate: Any) -> RowMethod:
    return kind(configure({"seed": 5, "generate": generate}), writer)  # type: ignore[arg-type]


def all_of(method: RowMethod) -> list[SynthRow]:
    rows: list[SynthRow] = []
    for job in range(method.jobs):
        rows += list(method.make(job, rows))
    assert len({row.id for row in rows}) == len(rows)
    assert [of_value(row.value()) for row in rows] == rows  # nothing is lost in a file
    return rows


SEEDS = [{"prompt": f"seed number {word}", "completion": f"answer {word}"} for word in ("one", "two", "three")]


def test_self_instruct_shows_examples_of_the_data_and_its_own(tmp_path: FilePath) -> None:
    data = write_rows(tmp_path / "seeds.jsonl", SEEDS)
    writer = Scripted(
        " name a bird\nAnswer: a wren", " what is a bird\nno answer here",
        " name a bird now\nAnswer: an owl", " count to four\nAnswer: 1 2 3 4",
    )  # fmt: skip
    rows = all_of(made(SelfInstruct, writer, method="self-instruct", data=data, rows=4, answers=2, demos=2))
    assert [row.dropped.partition(": ")[2] for row in rows] == [
        "", "no instruction with an answer in it", "too like another row", "",
    ]  # fmt: skip
    assert dict(rows[0].content) == {"prompt": "name a bird", "completion": " a wren"}
    assert rows[2].scores["rouge_l"] == pytest.approx(6 / 7)  # three words of three and four in common
    first, second = writer.asked
    assert sum(f"Instruction: {seed['prompt']}\n" in first for seed in SEEDS) == 2 and first.endswith(
        "\n\nInstruction:"
    )
    assert "Instruction: name a bird\nAnswer: a wren\n\n" in second and "what is a bird" not in second


def test_self_instruct_of_classes_gives_the_answer_first(tmp_path: FilePath) -> None:
    data = write_rows(tmp_path / "seeds.jsonl", SEEDS)
    writer = Scripted(" i like it", " i do not")
    options = {"method": "self-instruct", "data": data, "rows": 2, "answers": 1, "classes": ["good", "bad"]}
    rows = all_of(made(SelfInstruct, writer, **options))
    assert [dict(row.content) for row in rows] == [
        {"prompt": "i like it", "completion": " good"}, {"prompt": "i do not", "completion": " bad"},
    ]  # fmt: skip
    assert [row.source.attributes for row in rows] == [{"class": "good"}, {"class": "bad"}]
    assert writer.asked[1].endswith("Answer: bad\nInstruction:")
    config = configure({"generate": options})  # counted against what was asked for, as a grid is
    assert report.coverage(rows[:1], config.asked) == GridCoverage(1, 2, {"class": {"good": 1, "bad": 0}})
    assert list(pipeline._missing(config, rows[:1])) == ["no row is left for class bad"]
    assert not list(pipeline._missing(config, rows))


def test_self_instruct_of_texts_makes_texts(tmp_path: FilePath) -> None:
    data = write_rows(tmp_path / "texts.jsonl", [{"text": "a first text"}, {"text": "another one"}])
    rows = all_of(made(SelfInstruct, Scripted(" a new thing "), method="self-instruct", data=data, rows=1, answers=1))
    assert [dict(row.content) for row in rows] == [{"text": "a new thing"}]


def longest(a: Sequence[str], b: Sequence[str]) -> int:
    """By the definition."""
    if not a or not b:
        return 0
    return 1 + longest(a[1:], b[1:]) if a[0] == b[0] else max(longest(a[1:], b), longest(a, b[1:]))


def test_rouge_l_is_by_the_longest_common_subsequence() -> None:
    chance = random.Random(0)
    for _ in range(60):
        a, b = ([chance.choice("abc") for _ in range(chance.randrange(1, 7))] for _ in range(2))
        assert rouge_l(a, b) == pytest.approx(2 * longest(a, b) / (len(a) + len(b)))


def test_magpie_needs_a_chat_template() -> None:
    with pytest.raises(ParameterError, match="this model has none"):
        all_of(made(Magpie, Scripted(), method="magpie", rows=1, answers=1))


@pytest.mark.real
def test_magpie_draws_a_user_turn_and_its_answer() -> None:
    from engine.decode.strategies import PLAIN
    from engine.session import Session
    from engine.sources.checkpoint import load
    from engine.synth.writer import Writer

    session = Session(load("smollm2"))
    method = Magpie(configure({"generate": {"method": "magpie", "rows": 2, "answers": 2}}))
    method.writer = Writer(session, Recipe(), PLAIN, 12, chat=True)
    (ids,) = method.opening.parts
    assert session.tokenizer.detokenizer(special=True).push(ids[-1]) == "\n"  # type: ignore[index]
    text = "".join(session.tokenizer.piece(token).decode() for token in ids)  # type: ignore[union-attr, arg-type]
    assert text.endswith("<|im_start|>user\n") and text.count("user") == 1
    rows = all_of(method)
    assert len(rows) == 2 and all(row.dropped in ("", LONG) for row in rows)
    assert rows[0].content["messages"][0]["content"] != rows[1].content["messages"][0]["content"]


def test_a_document_gives_questions_with_itself_before_them(tmp_path: FilePath) -> None:
    data = write_rows(tmp_path / "docs.jsonl", [{"text": "Rome is old."}])
    writer = Scripted(" How old is Rome?\nAnswer: Very.", " How old?")
    rows = all_of(made(DocumentQuestions, writer, method="document", data=data, answers=2))
    assert dict(rows[0].content) == {"prompt": "Rome is old.\n\nHow old is Rome?", "completion": " Very."}
    assert rows[1].dropped and writer.asked[0].startswith("Rome is old.")


def test_a_grid_asks_for_every_cell() -> None:
    grid = {"topic": ["cats", "rain"], "style": ["plain", "rhymed"]}
    writer = Scripted(*"abcd")
    template = "A {style} text on {topic}:"
    rows = all_of(made(AttributeGrid, writer, method="grid", grid=grid, template=template, answers=1))
    assert writer.asked == [f"A {style} text on {topic}:" for topic in grid["topic"] for style in grid["style"]]
    assert rows[1].source.attributes == {"topic": "cats", "style": "rhymed"}
    with pytest.raises(ParameterError, match=r"must have \{topic\} in it"):
        all_of(made(AttributeGrid, writer, method="grid", grid=grid, template="A {style} text:", answers=1))


def test_rewriting_goes_there_and_back_within_a_distance(tmp_path: FilePath) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"prompt": "the cat sat on the mat", "completion": "yes"}])
    writer = Scripted("le chat", "die katze", "das", "a cat sat on the mat", "the cat sat on the mat", "dogs")
    via = ["French: {text}", "English: {text}"]
    rows = all_of(made(Rewrite, writer, method="rewrite", data=data, via=via, answers=3))
    assert writer.asked == ["French: the cat sat on the mat", "English: le chat", "English: die katze", "English: das"]
    assert [row.dropped.partition(": ")[2] for row in rows] == ["", "too near", "too far"]
    assert dict(rows[0].content) == {"prompt": "a cat sat on the mat", "completion": "yes"}
    # five bigrams on a side, four of them in both: 1 - 4 / 6
    assert rows[0].scores["distance"] == pytest.approx(1 / 3) and len(set(writer.seeds)) == 4


def test_distances_of_rewriting() -> None:
    assert ngram_distance("a b c", "a b c") == 0 and ngram_distance("a b", "c d") == 1 and ngram_distance("a", "a") == 0
    assert word_kl("a b c", "c b a") == 0
    # counts and a half: (1.5, .5) of a text "a", (.5, 1.5) of "b"
    import math

    assert word_kl("a", "b") == pytest.approx(0.5 * math.log(3))


def test_changes_by_chance_do_what_they_are_called() -> None:
    text = "one two three four five six seven eight"
    for seed in range(20):
        chance = random.Random(seed)
        assert sorted(change(text, "swap", 0.5, chance).split()) == sorted(text.split())
        masked = change(text, "mask", 0.5, chance).split()
        assert len(masked) == 8 and all(a in ("___", b) for a, b in zip(masked, text.split(), strict=True))
        assert set(change(text, "drop", 0.5, chance).split()) <= set(text.split())
        noisy = change(text, "noise", 0.5, chance)
        assert len(noisy) == len(text) and noisy.count(" ") == 7
    assert change("all of it", "drop", 1.0, random.Random(0)) == "all of it"  # nothing left is no text


def test_augmenting_needs_no_model_and_keeps_the_answer(tmp_path: FilePath) -> None:
    data = write_rows(tmp_path / "rows.jsonl", SEEDS)
    rows = all_of(made(Augment, None, method="augment", data=data, answers=4, rate=0.5))
    assert rows == all_of(made(Augment, None, method="augment", data=data, answers=4, rate=0.5))
    assert len(rows) == 12 and {row.content["completion"] for row in rows} == {s["completion"] for s in SEEDS}
    assert any(not row.dropped for row in rows) and rows[0].source.attributes == {"change": "mask"}


# -- problems ---------------------------------------------------------------------------------------------------------


def test_a_hint_is_given_where_nothing_is_right_and_not_trained_on(tmp_path: FilePath) -> None:
    task = write_rows(tmp_path / "own.jsonl", PROBLEMS[:2])
    writer = Scripted("6", "5", "7", "the hint says 7", "7", "5")
    rows = all_of(made(Verified, writer, task=task, answers=2, hint=True))
    assert writer.asked == ["what is 0?", "what is 0? (hint: 7)", "what is 1?"]
    assert [row.scores["verified"] for row in rows] == [0, 0, 1, 0, 1, 0]
    assert {row.content["prompt"] for row in rows} == {"what is 0?", "what is 1?"}
    assert [dict(row.source.attributes) for row in rows[1:3]] == [{}, {"hint": "yes"}]
    assert rows[3].dropped == "generate: speaks of the hint"
    assert len(set(writer.seeds)) == 3


def test_few_shot_examples_are_asked_with_and_not_trained_on() -> None:
    writer = Scripted(*["x"] * 2)
    rows = all_of(made(Verified, writer, task="copying:items=2,shots=3,size=2", answers=1))
    assert all(text.count("Copy") == 4 for text in writer.asked)
    assert all(row.content["prompt"].count("Copy") == 1 for row in rows)


def test_a_preference_is_the_best_and_the_worst_answer(tmp_path: FilePath) -> None:
    task = write_rows(tmp_path / "own.jsonl", PROBLEMS[:2])
    rows = all_of(made(Preference, Scripted("5", "7", "6", "8", "9", "9"), method="preference", task=task, answers=3))
    assert dict(rows[0].content) == {"prompt": "what is 0?", "chosen": "7", "rejected": rows[0].content["rejected"]}
    assert rows[0].content["rejected"] in "56" and rows[0].scores["best"] == 1 and rows[0].scores["worst"] == 0
    assert rows[1].dropped == "generate: no answer is better than another"


def test_an_answer_that_was_cut_is_no_row(tmp_path: FilePath) -> None:
    task = write_rows(tmp_path / "own.jsonl", PROBLEMS[:1])
    (row,) = all_of(made(Verified, Scripted("7", finish="length"), task=task, answers=1))
    assert row.dropped == LONG
