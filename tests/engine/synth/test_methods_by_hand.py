"""Methods that make rows, each way they can go; and what a pipeline says of rows that must not be trained on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import ContextOverflow, ParameterError
from engine.reason.paths import Path as Drawn
from engine.synth import inputs, pipeline, verified
from engine.synth.config import BalanceOptions, PipelineConfig, configure
from engine.synth.instruct import AttributeGrid, DocumentQuestions, Magpie, SelfInstruct
from engine.synth.method import LONG
from engine.synth.pipeline import StageYield
from engine.synth.rewriting import Augment, Rewrite
from engine.synth.row import RowSource, SynthRow
from engine.synth.verified import Preference, Verified
from tests.engine.synth.makers import PROBLEMS, write_rows
from tests.engine.synth.test_methods import Scripted, all_of, made


def drawn(branch: int, text: str, finish: str, logprob: float, tokens: int) -> Drawn:
    """A path of so many tokens, which have that log-probability together."""
    steps: Any = tuple(SimpleNamespace(logprob=logprob / tokens) for _ in range(tokens))
    return Drawn(branch, steps, text, text, finish)


SEEDS = [{"prompt": f"seed {word}", "completion": f" answer {word}"} for word in ("one", "two", "three")]


def row(job: int, text: str = "a", dropped: str = "", **more: Any) -> SynthRow:
    return SynthRow({"text": text}, RowSource("m", job, 0, 0, "p", **more), {}, dropped)


# -- what all have -----------------------------------------------------------------------------------------------------


def test_inputs_are_known_by_their_rows(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", SEEDS)
    for kind, name in (
        (SelfInstruct, "self-instruct"),
        (DocumentQuestions, "document"),
        (Rewrite, "rewrite"),
        (Augment, "augment"),
    ):
        method = made(kind, Scripted(), method=name, data=data)
        assert method.identity == inputs.identity(inputs.rows(data)) != ""
        few = made(kind, Scripted(), method=name, data=data, limit=2)
        assert few.identity != method.identity
    assert made(DocumentQuestions, Scripted(), method="document", data=data).jobs == 3
    assert made(Rewrite, Scripted(), method="rewrite", data=data, limit=2).jobs == 2
    for rows, answers, jobs in ((7, 3, 3), (6, 3, 2), (1, 8, 1)):
        assert (
            made(SelfInstruct, Scripted(), method="self-instruct", data=data, rows=rows, answers=answers).jobs == jobs
        )
        assert made(Magpie, Scripted(), method="magpie", rows=rows, answers=answers).jobs == jobs
    grid = made(AttributeGrid, Scripted(), method="grid", grid={"a": ["x", "y"], "b": ["z"]})
    assert grid.jobs == 2 and grid.identity == ""
    with pytest.raises(ParameterError, match="grid draws, so it needs a model"):
        list(made(AttributeGrid, None, method="grid", grid={"a": ["x"]}).make(0, []))
    assert grid.seed(3) != grid.seed(4) != grid.seed(4, 1) and grid.seed(3) == grid.seed(3, 0)
    assert list(grid.remarks([])) == []


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


# -- self-instruct -----------------------------------------------------------------------------------------------------


def test_self_instruct_keeps_what_is_unlike_and_asks_for_no_more_than_is_left(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "seeds.jsonl", SEEDS)
    writer = Scripted(
        " name a bird\nAnswer: a wren",
        " name a fish\nAnswer: a carp",
        "\nAnswer: x",
        " seed one\nAnswer: y",
        " go\nAnswer: ",
    )
    rows = all_of(
        made(
            SelfInstruct,
            writer,
            method="self-instruct",
            data=data,
            rows=5,
            answers=3,
            demos=9,
            own_demos=9,
            rouge=2 / 3,
        )
    )
    lacks, like = "generate: no instruction with an answer in it", "generate: too like another row"
    assert [each.dropped for each in rows] == ["", like, lacks, like, lacks]
    assert rows[1].scores["rouge_l"] == pytest.approx(2 / 3) and rows[3].scores["rouge_l"] == 1
    assert [each.source.parent for each in rows] == ["demos:0"] * 3 + ["demos:1"] * 2
    first, second = writer.asked
    assert first.count("Instruction:") == 4 and second.count("Instruction:") == 5  # the three, one of its own, the next
    assert "Instruction: name a bird\nAnswer: a wren\n\n" in second and "fish" not in second
    long = Scripted(" name a bird\nAnswer: a wren", finish="length")
    assert all_of(made(SelfInstruct, long, method="self-instruct", data=data, rows=1, answers=1))[0].dropped == LONG


def test_self_instruct_asks_a_chat_model_for_one_more(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "seeds.jsonl", SEEDS[:1])
    more_of = "\n\nWrite one more of these in the same form, and begin with "
    plain = "Instruction: seed one\nAnswer: answer one" + more_of + "Instruction:"
    turned = "Answer: answer one\nInstruction: seed one" + more_of + "Answer: good\nInstruction:"
    cases: list[tuple[dict[str, Any], str]] = [({}, plain), ({"classes": ["good"]}, turned)]
    for more, ends in cases:
        writer = Scripted(" a\nAnswer: b")
        writer.chat = True
        all_of(made(SelfInstruct, writer, method="self-instruct", data=data, rows=1, answers=1, **more))
        assert writer.asked == [ends]
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": " one "}])
    writer = Scripted("x")
    writer.chat = True
    all_of(made(SelfInstruct, writer, method="self-instruct", data=texts, rows=1, answers=1))
    assert writer.asked == ["one\n\nWrite one more of these in the same form"]


class Stops(Scripted):
    """Keeps where an answer ends."""

    def draw(self, prompt: Any, n: int, seed: int, stop: Any = ()) -> list[Drawn]:
        self.stops = [*getattr(self, "stops", []), tuple(stop)]
        return super().draw(prompt, n, seed, stop)


def test_answers_end_where_the_method_or_the_options_say(tmp_path: Path) -> None:
    pairs, texts = write_rows(tmp_path / "p.jsonl", SEEDS[:1]), write_rows(tmp_path / "t.jsonl", [{"text": "a b c"}])
    task = write_rows(tmp_path / "task.jsonl", PROBLEMS[:1])
    cases: list[tuple[Any, dict[str, Any], tuple[str, ...]]] = [
        (SelfInstruct, {"method": "self-instruct", "data": pairs, "rows": 1}, ("\nInstruction:",)),
        (SelfInstruct, {"method": "self-instruct", "data": pairs, "rows": 1, "classes": ["c"]}, ("\nAnswer:",)),
        (SelfInstruct, {"method": "self-instruct", "data": texts, "rows": 1}, ("\n\n",)),
        (DocumentQuestions, {"method": "document", "data": texts}, ("\n\n",)),
        (Rewrite, {"method": "rewrite", "data": texts}, ("\n\n",)),
        (AttributeGrid, {"method": "grid", "grid": {"a": ["x"]}}, ()),
        (Verified, {"task": task}, ("\n\n",)),
        (Preference, {"method": "preference", "task": task}, ("\n\n",)),
    ]
    for kind, options, stop in cases:
        for given, expected in (({}, stop), ({"stop": ["!"]}, ("!",))):
            answers = 2 if kind is Preference else 1
            writer = Stops("x", "y")
            all_of(made(kind, writer, answers=answers, **options, **given))
            assert writer.stops == [expected], (kind, given)


# -- others ------------------------------------------------------------------------------------------------------------


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


def test_cells_of_a_grid_are_asked_in_words(tmp_path: Path) -> None:
    writer = Scripted("one", " ", "two", "three")
    rows = all_of(
        made(AttributeGrid, writer, method="grid", grid={"topic": ["cats", "rain"], "style": ["plain"]}, answers=2)
    )
    assert writer.asked == ["Write a text (topic: cats, style: plain).", "Write a text (topic: rain, style: plain)."]
    assert [each.dropped for each in rows] == ["", "generate: an empty text", "", ""]
    assert rows[1].source.parent == "topic: cats, style: plain:1" and rows[0].content == {
        "prompt": writer.asked[0],
        "completion": "one",
    }


class Turned(Scripted):
    """A writer with a chat template, whose openings are drawn first and whose answers are the likeliest."""

    def __init__(self, *texts: str, finish: str = "eot") -> None:
        super().__init__(*texts, finish=finish)
        self.ones: list[Any] = []
        tokenizer = self.session.tokenizer
        tokenizer.chat_template = "yes"
        tokenizer.render = lambda messages, generation_prompt: f"<u>{messages[0]['content']}</u>{generation_prompt}"

    def once(self, prompt: Any, seed: int, stop: Any = ()) -> Drawn:
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


def test_rewriting_is_within_its_distances(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "r.jsonl", [{"text": "a b c d e"}])
    writer = Scripted("a b c d e", "a b c d f", "p q r s t", " ")
    rows = all_of(made(Rewrite, writer, method="rewrite", data=data, answers=4, least=0.4, most=0.9))
    assert [each.dropped for each in rows] == ["generate: too near", "", "generate: too far", "generate: an empty text"]
    assert rows[1].scores["distance"] == pytest.approx(1 - 3 / 5) and rows[1].content == {"text": "a b c d f"}
    cut = all_of(made(Rewrite, Scripted("a b c d f", finish="length"), method="rewrite", data=data, answers=1))
    assert cut[0].dropped == LONG
    words = all_of(
        made(Rewrite, Scripted("a b c d f"), method="rewrite", data=data, answers=1, measure="kl", most=9.0, least=0.0)
    )
    assert words[0].scores["distance"] != pytest.approx(0.4)


def test_augmented_rows_take_the_changes_in_turn(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "r.jsonl", [{"text": "one two three four"}])
    rows = all_of(made(Augment, None, method="augment", data=data, answers=5, rate=1.0, changes=["mask", "swap"]))
    assert [each.source.attributes["change"] for each in rows] == ["mask", "swap", "mask", "swap", "mask"]
    assert rows[0].content == {"text": "___ ___ ___ ___"} and rows[0].dropped == "" and rows[0].scores["distance"] == 1
    still = all_of(made(Augment, None, method="augment", data=data, answers=1, rate=0.0))
    assert still[0].dropped == "generate: nothing changed" and still[0].scores["distance"] == 0


# -- verified rows -----------------------------------------------------------------------------------------------------


def test_verdicts_are_by_the_program_or_the_least_of_the_scorers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = write_rows(tmp_path / "t.jsonl", [{"prompt": f"q{i}", "answer": str(i)} for i in range(9)])
    plain = made(Verified, Scripted(), task=task)
    assert isinstance(plain, Verified) and plain.jobs == 9 and plain.verifier is None
    question = plain.problems[3].bare
    assert plain.verdict(question, "3") == (1.0, "") and plain.verdict(question, "4") == (0.0, "")
    assert plain.verdict(question, "so 3") == (0.0, "")  # numeric says right, exact does not
    told: list[Any] = []

    class Given:
        def __call__(self, prompt: str, said: str, *, answers: Any, row: Any) -> float:
            told.append((prompt, said, answers, row))
            if said == "broken":
                raise verified.VerifierError("no verdict")
            return 0.75

    own = made(Verified, Scripted("broken", "x"), task=task, answers=2, limit=1)
    own.__dict__["verifier"] = Given()
    rows = all_of(own)
    assert [each.dropped for each in rows] == ["generate: no verdict (no verdict)", ""]
    assert [(each.scores["verdict"], each.scores["verified"]) for each in rows] == [(0.0, 0.0), (0.75, 1.0)]
    assert told[0] == ("q0", "broken", ("0",), {"prompt": "q0", "answer": "0"}) and rows[0].source.parent == "t:0"
    assert plain.fooled() == (0, min(8, verified.PROBED))
    plain.__dict__["verifier"] = Given()
    assert plain.fooled() == (min(8, verified.PROBED),) * 2
    paths = [Drawn(i, (), t, t, "eot") for i, t in enumerate(("a", "b", "a"))]
    told.clear()
    assert plain.verdicts(question, paths) == {"a": (0.75, ""), "b": (0.75, "")} and len(told) == 2  # each text once


def test_a_hint_is_the_answer_in_its_scorer_s_form(tmp_path: Path) -> None:
    task = write_rows(tmp_path / "t.jsonl", [{"prompt": "q", "answer": " 7 "}])
    writer = Scripted("1", "2")
    rows = all_of(made(Verified, writer, task=task, answers=1, hint=True))
    assert writer.asked[1] == "q" + verified.HINT.format(answer="7") and [each.source.branch for each in rows] == [0, 1]
    none = Scripted("1")
    assert len(all_of(made(Verified, none, task=task, answers=1))) == 1 and len(none.asked) == 1


def test_a_preference_is_between_answers_that_differ(tmp_path: Path) -> None:
    task = write_rows(tmp_path / "t.jsonl", PROBLEMS[:1])
    paths = [
        drawn(i, t, f, p, n)
        for i, (t, f, p, n) in enumerate(
            (
                ("5", "eot", -4.0, 4),
                ("6", "eot", -9.0, 3),
                ("7", "eot", -8.0, 2),
                ("7", "eot", -3.0, 3),
                ("8", "length", -99.0, 1),
            )
        )
    ]
    writer = Scripted()
    writer.draw = lambda *_: paths  # type: ignore[method-assign]
    (found,) = all_of(made(Preference, writer, method="preference", task=task, answers=5))
    assert found.content == {"prompt": "what is 0?", "chosen": "7", "rejected": "6"} and found.source.branch == 3
    assert found.scores == {"best": 1.0, "worst": 0.0}
    paths[:] = paths[4:]
    (cut,) = all_of(made(Preference, writer, method="preference", task=task, answers=5))
    assert cut.dropped == LONG and cut.content == {"prompt": "what is 0?", "completion": ""}
    paths[:] = [drawn(0, "7", "eot", 0.0, 0)]
    (alike,) = all_of(made(Preference, writer, method="preference", task=task, answers=5))
    assert alike.dropped == "generate: no answer is better than another" and alike.scores == {"best": 1.0, "worst": 1.0}


# -- what a pipeline says ----------------------------------------------------------------------------------------------


def test_a_generator_that_repeats_is_said() -> None:
    assert pipeline._repeats([]) == "nothing was drawn"
    few, share = pipeline.FEW, pipeline.REPEATS
    assert pipeline._repeats([row(i, "same") for i in range(few - 1)]) == ""
    assert "1 different rows of" in pipeline._repeats([row(i, "same") for i in range(few)])
    n = 10 * few
    most = int(share * n)
    assert pipeline._repeats([row(i, f"text {i % most}") for i in range(n)]) != ""
    assert pipeline._repeats([row(i, f"text {i % (most + 1)}") for i in range(n)]) == ""


@pytest.mark.parametrize(
    ("verdicts", "fooled", "wrong", "warning"),
    [
        ([0, 0], (0, 5), "the verifier passes none of 2 answers", ""),
        ([0, 1], (5, 5), "", ""),
        ([1, 1], (3, 5), "passes every answer, and 3 of 5 answers to other problems: it does not see", ""),
        ([1, 1], (2, 4), "and 2 of 4 answers to other problems", ""),
        ([1, 1], (2, 5), "", "the problems are easy for this model; of 5 answers to other problems it refuses 3"),
        ([1, 1], (0, 0), "", "the problems are easy for this model"),
    ],
)
def test_verdicts_that_tell_nothing_are_said(
    verdicts: list[int], fooled: tuple[int, int], wrong: str, warning: str
) -> None:
    method: Any = SimpleNamespace(fooled=lambda: fooled)
    rows = [row(i).scored(verified=v) for i, v in enumerate(verdicts)] + [
        row(9, dropped="generate: why").scored(verified=0)
    ]
    said = pipeline._blind(method, rows)
    assert (wrong in said[0] and warning in said[1]) and bool(said[0]) == bool(wrong) and bool(said[1]) == bool(warning)
    if verdicts == [0, 0]:
        assert said[0].endswith("; 1 have why")


def test_what_is_missing_is_named_up_to_a_few() -> None:
    grid = configure({"generate": {"method": "grid", "grid": {"a": [str(i) for i in range(pipeline.FEW + 3)]}}})
    rows = [row(0, attributes={"a": "0"}), row(1, dropped="x", attributes={"a": "1"})]
    lines = list(pipeline._missing(grid, rows))
    assert (
        len(lines) == pipeline.FEW + 1 and lines[0] == "no row is left for a 1" and lines[-1] == "nor for 2 cells more"
    )
    full = [row(i, attributes={"a": str(i)}) for i in range(3, pipeline.FEW + 3)]
    assert list(pipeline._missing(grid, full)) == [f"no row is left for a {i}" for i in range(3)]
    classes = PipelineConfig(balance=BalanceOptions(by="answer", classes=("a", "b")))
    assert list(pipeline._missing(classes, rows)) == ["class 'b' has no rows: it will not be learned"]


def test_yields_are_by_what_a_stage_wrote() -> None:
    rows = [
        row(0),
        row(1, dropped="filter: short"),
        row(2, dropped="filter: long"),
        row(3, dropped="filter: short"),
        row(4, dropped="generate: x"),
    ]
    assert pipeline._yield("filter", 4, rows) == StageYield("filter", 4, 1, {"short": 2, "long": 1})
    assert pipeline._yield("balance", 3, rows) == StageYield("balance", 3, 3, {})


def test_numbers_of_models_are_asked_of_the_model_that_is_named() -> None:
    def scorers(**filter_: Any) -> dict[str, str]:
        return pipeline._scorers(configure({"generate": {"task": "t", "model": "m"}, "filter": filter_}))

    assert scorers() == {} and scorers(low_tail=0.1) == {"perplexity": "m"} == scorers(high_tail=0.1)
    assert scorers(low_tail=0.1, perplexity_model="p", judge=0.5, judge_model="j") == {"perplexity": "p", "p_true": "j"}
    assert scorers(judge=0.5) == {"p_true": "m"}


def test_a_prompt_without_room_is_a_row_aside() -> None:
    class Full(AttributeGrid):
        def make(self, job: int, before: Any) -> Any:
            raise ContextOverflow("too long for it")

    method = Full(configure({"generate": {"method": "grid", "grid": {"a": ["x"]}}}))
    (found,) = pipeline._made(method, 3, [])
    assert found.content == {"text": "too long for it"} and found.dropped == "generate: the prompt is too long"
    assert (found.source.job, found.source.parent) == (3, "job:3")
