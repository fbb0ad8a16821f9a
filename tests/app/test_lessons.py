"""The course as data: each chapter walked to its end, its worked numbers by a second way, and what is refused."""

import math
import re
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from likely.app.lessons import course, guessed_distribution, marking
from likely.app.lessons.chapter import Chapter, read
from likely.app.lessons.expression import ExpressionError, value
from likely.app.lessons.lesson import Lesson
from likely.app.lessons.lesson_views import LESSON_VIEWS
from likely.app.lessons.tutor import Tutor
from likely.engine.base.errors import DataError, ParameterError

CHAPTERS = course.read().chapters
SEEN = {  # numbers that a view measures
    "tokens": 11.0, "characters": 45.0, "text": "The cat sat", "bits": 48.4, "predicted": 11.0, "perplexity": 21.1,
    "dearest": "·cat", "dearest_bits": 13.09, "layers": 30.0, "settled": 26.0, "page": "lens", "step": 0.0,
    "loss": 2.17, "columns": 2.0, "first": "·a", "second": "·blue", "p_first": 0.149,
    "p_second": 0.0945, "cold_first": 0.573, "entropy": 7.15, "cold_entropy": 2.27, "min_p": 0.1, "order": "top-p, T",
    "kept_top_p_first": 15.0, "kept_temperature_first": 1.0, "answers": 1.0, "answer_bits": 20.0, "answer_tokens": 9.0,
    "items": 0.0, "mean": 0.6, "half": 0.1, "part": "scores", "compute": 1e18,
    "size": 1e8, "data": 2e9, "e": 1.7, "a": 400.0, "b": 410.0,
    "alpha": 0.34, "beta": 0.28, "layer": 23.0, "head": 4.0, "d": 64.0, "silent": 0.0, "read": "·France",
    "read_score": 4.88, "read_share": 0.903, "start": "The", "start_score": 2.28, "start_share": 0.067,
    "target": "·Paris", "p": 0.773, "p_without": 0.141, "x_in": 274.0, "attn": 100.0, "mlp": 90.0, "x_out": 336.0,
    "texts": 300.0, "orders": 24.0, "drawn": 0.0, "left_to_right": 11.12,
    "right_to_left": 9.88, "rank": 13.0, "least": 9.53, "most": 13.0, "bound": 11.17, "mixture": 10.77,
    "kl": 0.12, "language": 2.056, "steps": 1000.0, "rate": 0.3, "last_loss": 2.06, "width": 1.0,
    "greedy": "se∎", "p_greedy": 0.0459, "best": "te∎", "p_best": 0.0882, "beam": "te∎", "p_beam": 0.0882,
    "price": 1.0, "reward": 2.11, "base_reward": 0.85, "q_best": 0.458, "kl_one": 0.908, "kl_half": 2.164,
    "guesses": 0.0, "word": "·the", "your_bits": 2.32, "its_bits": 6.69, "your_mean": 2.32, "its_mean": 6.69,
    "ways": 1.0, "spread": 0.05,
    "measured": 0.0, "growth": 3.9, "saved": 0.22, "kl_8": 0.003, "kl_4": 0.67, "kl_3": 2.6,
    "beam_rank": 1.0, "draws": 0.0, "answer": "3", "p_answer": 0.565,
}  # fmt: skip
DONE = {"text": "the same in capitals", "page": "attention", "step": 5.0, "silent": 1.0, "tokens": 12.0, "drawn": 1.0,
        "order": "T, top-p", "answers": 2.0, "items": 20.0, "part": "differ", "compute": 1e19, "answered": 1.0,
        "width": 2.0, "measured": 1.0, "price": 0.5, "guesses": 1.0, "ways": 8.0}  # fmt: skip
WEIGHTS = np.exp(np.array([[1, 0], [2, 0]], np.float64)) / 2  # p e^(r/β), by β
TILTED = WEIGHTS / WEIGHTS.sum(1, keepdims=True)
SPELLINGS = sum(
    "".join(cut) == "cat" for n in (1, 2, 3) for cut in product(("c", "a", "t", "ca", "at", "cat"), repeat=n)
)
P = np.array([0.149, 0.0945])
ANSWERS: dict[int, list[float]] = {  # by a second way: fractions, numpy, enumeration
    1: [float(Fraction(45, 11)), SPELLINGS],
    2: [np.log2(8), float(np.exp2(-48.4))],
    3: [float(np.divide(*np.exp([4.88, 2.28]))), float(sum(map(Fraction, ("2", "-1/2", "5/4"))))],
    4: [float(np.log(6) / np.log(2)), float(np.log(6) / np.log(2)) - 2.056],
    5: [float(TILTED[0, 0]), float(TILTED[1, 0])],
    6: [float(np.divide(*(P**2 / (P**2).sum()))), float(np.divide(*(np.sqrt(P) / np.sqrt(P).sum())))],
    7: [float(Fraction(28, 100) * Fraction(70, 100) * Fraction(45, 100)), float(Fraction(115, 1000))],
    8: [float(0.58 / math.sqrt(200) * 1.96), float((0.58 * 1.96 / (0.58 * 1.96 / math.sqrt(200) / 2)) ** 2)],
    9: [float(np.log2(0.866) - np.log2(0.0104)), float(np.log2(2) / 2 - np.log2(1.5) / 2)],
    10: [float(Fraction(5, 8)), float(np.std([1] * 5 + [0] * 3) / math.sqrt(8))],
    11: [float(Fraction("11.12") + Fraction("9.88")) / 2, float(-np.log2(np.mean(np.exp2([-12.0, -14.0]))))],
    12: [0.4 / 100**0.3, 1.2e18],
}  # fmt: skip


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.title)
def test_a_chapter_is_walked_to_its_end(chapter: Chapter) -> None:
    numbers = {name: SEEN[name] for name in LESSON_VIEWS[chapter.view].numbers if name in SEEN}
    lesson = Lesson(chapter).seen(numbers)
    assert lesson.stage == lesson.guessed("  ").stage == "predict" and "guess first" in lesson.guessed("").news
    wrong = lesson.guessed("quite another word").seen(numbers).standing
    assert wrong.right is False and wrong.truth and lesson.passed().seen(numbers).standing.right is None
    truth = value(chapter.predict.answer, {**chapter.numbers, **numbers})
    said = {True: "Yes", False: " no."}[truth] if isinstance(truth, bool) else str(truth).strip("·")
    lesson = lesson.guessed(said).seen(numbers)
    assert lesson.standing.right is True and lesson.stage == "do" and lesson.passed().standing.done is False
    assert lesson.seen(numbers).stage == lesson.did().stage == "do"  # nothing has changed in the view
    then = {name: DONE.get(name, found) for name, found in numbers.items()}
    at_once = replace(lesson, was=None, numbers={}).seen(then).standing  # by a view that was worked in before
    assert at_once.done is (None if "was_" in chapter.do.done else True)
    lesson = lesson.seen(then).seen(numbers)
    assert lesson.standing.done is True
    assert len(chapter.check) == len(ANSWERS[chapter.number])
    for wanted in ANSWERS[chapter.number]:
        assert lesson.question and lesson.answered("").news == "type the number, or ? for a hint"
        for bad in (f"{wanted * 1.03!r}", "none", "-1"):
            assert lesson.answered(bad).wrong and lesson.answered(bad).stage == "check"
        told = lesson.passed().passed()
        assert told.wrong and told.steps and lesson.passed().hint
        last = re.split("[=:,]", re.sub("[−–]", "-", told.steps[-1]))
        shown = [found for each in last if (found := marking.number(each.strip())) is not None]
        assert any(found == pytest.approx(wanted, rel=0.02) for found in shown), told.steps
        lesson = lesson.answered(f"{wanted * 1.01:.12g}")
    assert lesson.stage == "end" and lesson.standing.clean == len(chapter.check) and lesson.question == ""
    assert all(lesson.standing.yours) and lesson.again().stage == "predict"


def test_a_check_whose_numbers_a_model_lacks_is_left_out_and_the_others_are_not() -> None:
    lesson = Lesson(CHAPTERS[2]).guessed("France").seen({}, "it is blind").passed("it is blind")
    assert lesson.stage == "check" and lesson.passed().hinted and "not to be measured" in lesson.standing.truth
    lesson = lesson.passed("it is blind")
    assert lesson.stage == "check" and lesson.news == "left out: it is blind" and "x_in is 2.0" in lesson.question
    assert lesson.passed("it is blind").hinted  # this one can be reckoned
    lesson = lesson.answered("2.75")
    assert lesson.stage == "end" and lesson.standing.clean == 1


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("3", 3), (" = 3 bits", 3), ("2^-3", 0.125), ("2⁻³", 0.125), ("2**-3", 0.125), ("1/8", 0.125), ("⅛", 0.125),
        ("12.5 %", 0.125), ("12,5 per cent", 0.125), ("49,152", 49152), ("2⁻⁴⁸·⁴", 2**-48.4), ("2^-48", 2**-48.4),
        ("1.2·10^18", 1.2e18), ("√2", 2**0.5), ("e^2.6", math.exp(2.6)), ("2.5 ×", 2.5), ("−3", -3), ("0", 0),
    ],
)  # fmt: skip
def test_a_number_is_read_as_it_is_written(said: str, wanted: float) -> None:
    assert marking.right(said, wanted) and not marking.right(said, wanted * 1.5 + 1)


@pytest.mark.parametrize("said", ["", "three", "9**9**9", "__import__('os')", "(1", "1e999", "2^", "'3'", "1/0"])
def test_what_is_no_number_is_none(said: str) -> None:
    assert marking.number(said) is None and not marking.right(said, 3)


def test_words_and_shares_are_answers_too() -> None:
    assert marking.right(" Cat.", "·cat") and not marking.right("dog", "·cat")
    assert marking.right("73 %", 73.1, "%") and marking.right("73", 73.1, "%") and not marking.right("y", False)
    for text in (
        "x.real",
        "[1]",
        "lambda: 1",
        "open('x')",
        "min(1, key=2)",
        "1 if x else",
        "f'{1}'",
        "1 << 9",
        "True.x",
    ):
        with pytest.raises(ExpressionError):
            value(text, {"x": 1.0})


A_CHAPTER = Path(__file__).parents[1] / "data/course/2-text.toml"
GOOD = A_CHAPTER.read_text()


@pytest.mark.parametrize(
    ("found", "instead", "words"),
    [
        ("number = 2", "number 2", "not TOML"), ("sentence =", "sentense =", "unknown option sentense"),
        ('view = "text"', 'view = "txt"', "view must be one of"), ("number = 2", "number = '2'", "a whole number"),
        ("number = 2", "number = 0", "1 or more"), ('answer = "dearest"', "", "[predict] lacks the key answer"),
        ('answer = "dearest"', 'answer = "dear"', "predict.answer: dear has no number; the view text has text,"),
        ("{bits:.1f} bits for", "{bit:.1f} bits for", "formula: bit has no number"),
        ("{bits:.1f} bits for", "{bits:q} bits for", "no form of a number"),
        ("{bits:.1f} bits for", "{bits:999999999.1f} bits for", "no form of a number"),
        ('part = "the', 'part = "\\u001b[2J', "part must have no control characters"),
        ("{bits:.1f} bits for", "{bits", "a brace is open"),
        ("-log2(0.125)", "log(0.125", "check.answer: 'log(0.125' is no expression"),
        ("[do]", "[[do]]", "[do] must be a table"),
        ('text = "The cat', 'page = "The cat', "state.page is none of the view text: it takes text"),
    ],
)  # fmt: skip
def test_a_chapter_that_is_wrong_says_so_in_one_line(tmp_path: Path, found: str, instead: str, words: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    assert course.read(tmp_path).chapters == [read(A_CHAPTER)]
    assert found in GOOD
    file.write_text(GOOD.replace(found, instead, 1))
    with pytest.raises(DataError, match=re.escape(words)) as error:
        course.read(tmp_path)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


def test_a_folder_is_a_course(tmp_path: Path) -> None:
    for folder, words in ((tmp_path / "none", "is no folder"), (tmp_path, "has no chapter")):
        with pytest.raises(DataError, match=words):
            course.read(folder)
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(GOOD)
    with pytest.raises(DataError, match=r"b.toml: number 2 is a.toml's too"):
        course.read(tmp_path)
    (tmp_path / "b.toml").write_text(GOOD.replace("number = 2", "number = 13"))
    assert [each.number for each in course.read(tmp_path).chapters] == [2, 13]


def test_progress_is_of_a_model_and_a_seed(tmp_path: Path) -> None:
    def tutor(seed: int = 0, model: str = "one") -> Tutor:
        made = Tutor(course.read(), tmp_path, seed)
        made.with_model(model)
        return made

    first = tutor()
    first.open(CHAPTERS[0])
    assert first.lesson is not None and first.place == "learn"
    assert first.take(first.lesson.guessed("moon")) == "" and first.place == "inside"
    other = tutor()  # another program, at the same time
    other.open(CHAPTERS[7])
    assert other.lesson is not None and other.take(other.lesson.passed()) == ""
    kept = tutor().standings
    assert (
        kept[1].guess == "moon" and kept[8].guess == "" and not tutor(1).standings and not tutor(model="two").standings
    )
    first.with_model("two")
    assert "those with one are kept" in first.lesson.news and first.lesson.stage == "predict"
    file = tmp_path / "learned.json"
    file.write_text(file.read_text().replace('"guess": "moon"', '"guess": 3'))
    assert set(tutor().standings) == {8}  # what is damaged is not there
    file.write_text("{")
    assert not tutor().standings
    blocked = replace(first.lesson.standing, guess="x")
    first.home = tmp_path / "learned.json" / "no"
    assert "your progress is not kept" in first.take(replace(first.lesson, standing=blocked))


WORDS = {"rain": 5, "sun": 7, ",": 2}


@pytest.mark.parametrize(
    ("said", "shares"),
    [
        ("rain 50, sun 20", {5: 50, 7: 20}), ("sun 12,5 %; , 4%", {7: 12.5, 2: 4}), ("rain=30 sun: 70", {5: 30, 7: 70}),
        ("", {}), ("rain 0", {5: 0}), ("rain 33.4, sun 33.3, , 33.3", {5: 33.4, 7: 33.3, 2: 33.3}),
    ],
)  # fmt: skip
def test_a_guessed_law_gives_what_is_left_to_all_others(said: str, shares: dict[int, float]) -> None:
    law = guessed_distribution.read(said, WORDS.get, 10)
    rest = Fraction(100) - sum(Fraction(str(share)) for share in shares.values())
    wanted = [Fraction(str(shares[i])) if i in shares else rest / (10 - len(shares)) for i in range(10)]
    assert [law.p(i) for i in range(10)] == pytest.approx([float(share / 100) for share in wanted], rel=1e-9)
    assert [law.bits(i) for i in range(10)] == pytest.approx(
        [math.log2(100 / share) if share else math.inf for share in wanted], rel=1e-9
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("rain", "got 'rain'"), ("rain 50, 20", "got '20'"), ("rain -5", "rain 50, sun 20; got 'rain -5'"),
        ("rain 60, sun 50", "100 at most, got 110"), ("rain 1, rain 2", "named twice"), ("snow 5", "'snow' is more"),
        ("rain 1e9", "got 'rain 1e9'"), (f"rain {'9' * 400}", "100 at most, got inf"), ("rain nan", "got 'rain nan'"),
    ],
)  # fmt: skip
def test_a_guess_that_is_none_is_refused(said: str, words: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(words)):
        guessed_distribution.read(said, WORDS.get, 10)
