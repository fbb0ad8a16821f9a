"""Methods that make rows, with a writer whose texts are given: what is asked, what becomes a row, what not."""

import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.decode.prompt import Prompt, single_turn
from likely.engine.measure.reason.paths import ReasoningPath
from likely.engine.measure.synth import report
from likely.engine.measure.synth.config import configure
from likely.engine.measure.synth.instruct import (
    AttributeGrid,
    DocumentQuestions,
    Magpie,
    SelfInstruct,
    nearest_rouge,
    rouge_l,
)
from likely.engine.measure.synth.method import LONG, RowMethod
from likely.engine.measure.synth.report import GridCoverage
from likely.engine.measure.synth.rewriting import Augment, Rewrite, change, ngram_distance, word_kl
from likely.engine.measure.synth.row import SynthRow, of_value
from likely.engine.measure.synth.verified import Preference, VerifiedProblems
from likely.engine.sampling.trace.step import SamplingConfig
from tests.engine.synth.makers import PROBLEMS, PlainTokenizer, write_rows


class Scripted:
    """A writer that says what it is given, in order, and keeps what it was asked and where answers may end."""

    chat = False
    recipe = SamplingConfig()

    def __init__(self, *texts: str, finish: str = "eot") -> None:
        self.texts, self.finish = list(texts), finish
        self.session = SimpleNamespace(info=SimpleNamespace(name="scripted"), tokenizer=PlainTokenizer(), ranks=None)
        self.asked: list[str] = []
        self.seeds: list[int] = []
        self.stops: set[tuple[str, ...]] = set()

    def prompt(self, text: str) -> Prompt:
        return single_turn(text, self.session.tokenizer, raw=True)

    def draw(self, prompt: Prompt, n: int, seed: int, stop: Sequence[str] = ()) -> list[ReasoningPath]:
        self.asked.append("".join(str(part) for part in prompt.parts) or str(prompt.messages))
        self.seeds.append(seed)
        self.stops.add(tuple(stop))
        texts = [self.texts.pop(0) for _ in range(n)]
        return [ReasoningPath(i, (), text, text, self.finish) for i, text in enumerate(texts)]

    def once(self, prompt: Prompt, seed: int, stop: Sequence[str] = ()) -> ReasoningPath:
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


def test_self_instruct_of_classes_gives_the_answer_first(tmp_path: Path) -> None:
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
    assert report.coverage(rows[:1], config.attributes) == GridCoverage(1, 2, {"class": {"good": 1, "bad": 0}})


def test_magpie_needs_a_chat_template() -> None:
    with pytest.raises(ParameterError, match="this model has none"):
        all_of(made(Magpie, Scripted(), method="magpie", rows=1, answers=1))


@pytest.mark.real
def test_magpie_draws_a_user_turn_and_its_answer() -> None:
    from likely.engine.decode.session import Session
    from likely.engine.decode.strategy_table import PLAIN
    from likely.engine.measure.synth.writer import Writer
    from likely.engine.weights.sources.checkpoint import load

    session = Session(load("smollm2"))
    method = Magpie(configure({"generate": {"method": "magpie", "rows": 2, "answers": 2}}))
    method.writer = Writer(session, SamplingConfig(), PLAIN, 12, chat=True)
    (ids,) = method.opening.parts
    assert session.tokenizer.detokenizer(special=True).push(ids[-1]) == "\n"  # type: ignore[index]
    text = "".join(session.tokenizer.piece(token).decode() for token in ids)  # type: ignore[union-attr, arg-type]
    assert text.endswith("<|im_start|>user\n") and text.count("user") == 1
    rows = all_of(method)
    assert len(rows) == 2 and all(row.dropped in ("", LONG) for row in rows)
    assert rows[0].content["messages"][0]["content"] != rows[1].content["messages"][0]["content"]


def test_a_grid_asks_for_every_cell() -> None:
    grid = {"topic": ["cats", "rain"], "style": ["plain", "rhymed"]}
    writer = Scripted(*"abcd")
    template = "A {style} text on {topic}:"
    rows = all_of(made(AttributeGrid, writer, method="grid", grid=grid, template=template, answers=1))
    assert writer.asked == [f"A {style} text on {topic}:" for topic in grid["topic"] for style in grid["style"]]
    assert rows[1].source.attributes == {"topic": "cats", "style": "rhymed"}
    with pytest.raises(ParameterError, match=r"must have \{topic\} in it"):
        all_of(made(AttributeGrid, writer, method="grid", grid=grid, template="A {style} text:", answers=1))


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


def test_augmenting_needs_no_model_and_keeps_the_answer(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", SEEDS)
    rows = all_of(made(Augment, None, method="augment", data=data, answers=4, rate=0.5))
    assert rows == all_of(made(Augment, None, method="augment", data=data, answers=4, rate=0.5))
    assert len(rows) == 12 and {row.content["completion"] for row in rows} == {s["completion"] for s in SEEDS}
    assert any(not row.dropped for row in rows) and rows[0].source.attributes == {"change": "mask"}


def test_a_hint_is_given_where_nothing_is_right_and_not_trained_on(tmp_path: Path) -> None:
    task = write_rows(tmp_path / "own.jsonl", PROBLEMS[:2])
    writer = Scripted("6", "5", "7", "the hint says 7", "7", "5")
    rows = all_of(made(VerifiedProblems, writer, task=task, answers=2, hint=True))
    assert writer.asked == ["what is 0?", "what is 0? (hint: 7)", "what is 1?"]
    assert [row.scores["verified"] for row in rows] == [0, 0, 1, 0, 1, 0]
    assert {row.content["prompt"] for row in rows} == {"what is 0?", "what is 1?"}
    assert [dict(row.source.attributes) for row in rows[1:3]] == [{}, {"hint": "yes"}]
    assert rows[3].dropped == "generate: speaks of the hint"
    assert len(set(writer.seeds)) == 3


def test_few_shot_examples_are_asked_with_and_not_trained_on() -> None:
    writer = Scripted(*["x"] * 2)
    rows = all_of(made(VerifiedProblems, writer, task="copying:items=2,shots=3,size=2", answers=1))
    assert all(text.count("Copy") == 4 for text in writer.asked)
    assert all(row.content["prompt"].count("Copy") == 1 for row in rows)


def test_an_answer_that_was_cut_is_no_row(tmp_path: Path) -> None:
    task = write_rows(tmp_path / "own.jsonl", PROBLEMS[:1])
    (row,) = all_of(made(VerifiedProblems, Scripted("7", finish="length"), task=task, answers=1))
    assert row.dropped == LONG


WORDS = [{"prompt": f"seed {word}", "completion": f" answer {word}"} for word in ("one", "two", "three")]


def drawn(branch: int, text: str, finish: str, logprob: float, tokens: int) -> ReasoningPath:
    """A path of so many tokens, which have that log-probability together."""
    steps: Any = tuple(SimpleNamespace(logprob=logprob / tokens) for _ in range(tokens))
    return ReasoningPath(branch, steps, text, text, finish)


def test_a_row_says_which_model_drew_it_and_how_sure_it_was() -> None:
    method = made(AttributeGrid, Scripted(), method="grid", grid={"a": ["x"]}, adapters=["one", "two"])
    path = drawn(2, "t", "eot", -6.0, 3)
    found = method.row({"text": "t"}, 4, 2, "p", path=path)
    assert found.source.model == "scripted + one + two" and found.source.seed == method.seed(4) + 2
    assert found.scores == {"logprob": -2.0, "tokens": 3} and found.dropped == ""
    cut = method.row({"text": "t"}, 4, 2, "p", path=drawn(2, "t", "length", 0.0, 0), seed=9)
    assert cut.dropped == LONG and cut.source.seed == 9 and cut.scores == {"logprob": 0.0, "tokens": 0}
    named = made(AttributeGrid, Scripted(), method="grid", grid={"a": ["x"]}, model="mine")
    assert named.row({"text": "t"}, 0, 0, "p").source.model == "mine" and named.recipe == {}
    assert made(AttributeGrid, None, method="grid", grid={"a": ["x"]}).row({"text": "t"}, 0, 0, "p").source.model == ""


def test_self_instruct_keeps_what_is_unlike_and_asks_for_no_more_than_is_left(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "seeds.jsonl", WORDS)
    writer = Scripted(
        " name a bird\nAnswer: a wren", " name a fish\nAnswer: a carp", "\nAnswer: x", " seed one\nAnswer: y",
        " go\nAnswer: ",
    )  # fmt: skip
    rows = all_of(
        made(
            SelfInstruct, writer, method="self-instruct", data=data, rows=5, answers=3, demos=9, own_demos=9,
            rouge=2 / 3,
        )
    )  # fmt: skip
    lacks, like = "generate: no instruction with an answer in it", "generate: too like another row"
    assert [each.dropped for each in rows] == ["", like, lacks, like, lacks]
    assert rows[1].scores["rouge_l"] == pytest.approx(2 / 3) and rows[3].scores["rouge_l"] == 1
    assert [each.source.parent for each in rows] == ["demos:0"] * 3 + ["demos:1"] * 2
    first, second = writer.asked
    assert first.count("Instruction:") == 4 and second.count("Instruction:") == 5  # the three, one of its own, the next
    assert "Instruction: name a bird\nAnswer: a wren\n\n" in second and "fish" not in second
    long = Scripted(" name a bird\nAnswer: a wren", finish="length")
    assert all_of(made(SelfInstruct, long, method="self-instruct", data=data, rows=1, answers=1))[0].dropped == LONG


def test_a_question_of_a_document_has_both_sides(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", [{"prompt": "the head", "completion": " the body"}])
    writer = Scripted("Question: why?\nAnswer: so", "\nAnswer: so", "why?\nAnswer:", "why")
    rows = all_of(made(DocumentQuestions, writer, method="document", data=data, answers=4))
    assert rows[0].content == {"prompt": "the head\n the body\n\nwhy?", "completion": " so"}
    lacks = "generate: no question with an answer in it"
    assert [each.dropped for each in rows] == ["", lacks, lacks, lacks]
    assert (
        all_of(made(DocumentQuestions, Scripted("why", finish="length"), method="document", data=data, answers=1))[
            0
        ].dropped
        == LONG
    )


class Turned(Scripted):
    """A writer with a chat template, whose openings are drawn first and whose answers are the likeliest."""

    def __init__(self, *texts: str, finish: str = "eot") -> None:
        super().__init__(*texts, finish=finish)
        self.ones: list[Any] = []
        tokenizer = self.session.tokenizer
        tokenizer.chat_template = "yes"
        tokenizer.render = lambda messages, generation_prompt: f"<u>{messages[0]['content']}</u>{generation_prompt}"

    def once(self, prompt: Any, seed: int, stop: Any = ()) -> ReasoningPath:
        self.ones.append((prompt.messages, seed, stop))
        return drawn(0, " said " if prompt.messages[0]["content"] != "c" else " ", "eot", -3.0, 3)


def test_magpie_draws_the_user_s_turn_and_then_the_likeliest_answer() -> None:
    writer = Turned(" a ", "c", "  ")
    method = made(Magpie, writer, method="magpie", rows=3, answers=8, stop=["!"])
    rows = all_of(method)
    assert list(method.opening.parts) == [tuple(b"<u>")] and method.opening.whole  # type: ignore[attr-defined]
    assert [each.dropped for each in rows] == ["", "generate: an empty answer", "generate: an empty instruction"]
    assert rows[0].content == {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "said"}]}
    assert rows[2].content["messages"][1] == {"role": "assistant", "content": ""}
    assert [seed for _, seed, _ in writer.ones] == [method.seed(0, 1)] * 2 and writer.ones[0][2] == ("!",)
    assert [each.source.seed for each in rows] == [method.seed(0) + i for i in range(3)]
    assert rows[1].source.parent == "template:0-1" and rows[0].scores["logprob"] == -1.0
    assert all_of(made(Magpie, Turned("a", finish="length"), method="magpie", rows=1))[0].dropped == LONG


def test_verdicts_are_by_the_program_or_the_least_of_the_scorers(tmp_path: Path) -> None:
    task = write_rows(tmp_path / "t.jsonl", [{"prompt": f"q{i}", "answer": str(i)} for i in range(9)])
    plain = made(VerifiedProblems, Scripted(), task=task)
    assert isinstance(plain, VerifiedProblems) and plain.jobs == 9
    question = plain.problems[3].bare
    assert plain.verdict(question, "3") == (1.0, "") and plain.verdict(question, "4") == (0.0, "")
    assert plain.verdict(question, "so 3") == (0.0, "")  # numeric says right, exact does not
    told = "print(0.75 if a['said'] == 'x' and [a['answers'], a['row']['answer']] == [['0'], '0'] else 'maybe')"
    program = f'{sys.executable} -c "import json, sys; a = json.load(sys.stdin); {told}"'
    rows = all_of(made(VerifiedProblems, Scripted("broken", "x"), task=task, answers=2, limit=1, verifier=program))
    assert rows[0].dropped.startswith("generate: no verdict (") and rows[1].dropped == ""
    assert [(each.scores["verdict"], each.scores["verified"]) for each in rows] == [(0.0, 0.0), (0.75, 1.0)]
    assert rows[0].source.parent == "t:0"


def test_a_preference_is_between_answers_that_differ(tmp_path: Path) -> None:
    task = write_rows(tmp_path / "t.jsonl", PROBLEMS[:1])
    said = (("5", "eot", -4.0, 4), ("6", "eot", -9.0, 3), ("7", "eot", -8.0, 2), ("7", "eot", -3.0, 3),
            ("8", "length", -99.0, 1))  # fmt: skip
    paths = [drawn(i, *each) for i, each in enumerate(said)]
    writer = Scripted()
    writer.draw = lambda *_: paths  # type: ignore[method-assign]

    def made_of(some: list[ReasoningPath]) -> SynthRow:
        paths[:] = some
        (found,) = all_of(made(Preference, writer, method="preference", task=task, answers=5))
        return found

    found, cut, alike = (made_of(some) for some in (list(paths), paths[4:], [drawn(0, "7", "eot", 0.0, 0)]))
    assert found.content == {"prompt": "what is 0?", "chosen": "7", "rejected": "6"} and found.source.branch == 3
    assert found.scores == {"best": 1.0, "worst": 0.0}
    assert cut.dropped == LONG and cut.content == {"prompt": "what is 0?", "completion": ""}
    assert alike.dropped == "generate: no answer is better than another" and alike.scores == {"best": 1.0, "worst": 1.0}


def test_rouge_is_by_the_longest_common_subsequence_of_the_nearest() -> None:
    assert rouge_l("abcd", "axbyd") == pytest.approx(2 * 3 / 9) and rouge_l("", "a") == 0
    assert rouge_l("a", "") == 0 and rouge_l("ab", "ba") == 0.5 and rouge_l("aab", "ab") == 0.8
    assert nearest_rouge("a b c d", ["d c b a", "a b x d", ""]) == pytest.approx(0.75)
    assert nearest_rouge("", ["a"]) == 0 == nearest_rouge("a", [])


def test_distances_of_texts_by_their_words() -> None:
    assert ngram_distance("a b c", "a b d") == pytest.approx(1 - 1 / 3)
    assert ngram_distance("a", "a b") == pytest.approx(0.5) and ngram_distance("", "") == 0
    assert ngram_distance("a b", "") == 1 and ngram_distance("a b c", "a b d", 1) == pytest.approx(0.5)

    assert word_kl("a a", "a b") == pytest.approx(
        sum(u * math.log(u / v) for u, v in zip([1.5 / 3, 1.5 / 3], [2.5 / 3, 0.5 / 3], strict=True))
    )
    assert word_kl("", "") == 0


def test_answers_end_where_the_method_or_the_options_say(tmp_path: Path) -> None:
    pairs, texts = write_rows(tmp_path / "p.jsonl", WORDS[:1]), write_rows(tmp_path / "t.jsonl", [{"text": "a b c"}])
    cases: list[tuple[Any, dict[str, Any], tuple[str, ...]]] = [
        (SelfInstruct, {"method": "self-instruct", "data": pairs, "rows": 1}, ("\nInstruction:",)),
        (SelfInstruct, {"method": "self-instruct", "data": pairs, "rows": 1, "classes": ["c"]}, ("\nAnswer:",)),
        (DocumentQuestions, {"method": "document", "data": texts}, ("\n\n",)),
        (AttributeGrid, {"method": "grid", "grid": {"a": ["x"]}}, ()),
        (VerifiedProblems, {"task": write_rows(tmp_path / "task.jsonl", PROBLEMS[:1])}, ("\n\n",)),
    ]
    for kind, options, stop in cases:
        for given, expected in (({}, stop), ({"stop": ["!"]}, ("!",))):
            all_of(made(kind, writer := Scripted("x"), answers=1, **options, **given))
            assert writer.stops == {expected}, (kind, given)


def test_rewriting_goes_there_and_back_within_its_distances(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "r.jsonl", [{"text": "a b c d e"}])
    writer = Scripted(*"wxyz", "a b c d e", "a b c d f", "p q r s t", " ")
    how = {"via": ["French: {text}", "English: {text}"], "answers": 4, "least": 0.4, "most": 0.9}
    rows = all_of(made(Rewrite, writer, method="rewrite", data=data, **how))
    assert writer.asked == ["French: a b c d e", *(f"English: {text}" for text in "wxyz")]
    assert [each.dropped for each in rows] == ["generate: too near", "", "generate: too far", "generate: an empty text"]
    assert rows[1].scores["distance"] == pytest.approx(1 - 3 / 5) and rows[1].content == {"text": "a b c d f"}
    cut = all_of(made(Rewrite, Scripted("a b c d f", finish="length"), method="rewrite", data=data, answers=1))
    assert cut[0].dropped == LONG
    kl = {"measure": "kl", "most": 9.0, "least": 0.0, "answers": 1}
    (words,) = all_of(made(Rewrite, Scripted("a b c d f"), method="rewrite", data=data, **kl))
    assert words.scores["distance"] == pytest.approx(word_kl("a b c d e", "a b c d f"))
