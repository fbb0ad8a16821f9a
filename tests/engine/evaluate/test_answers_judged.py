"""What an answer is and whether it is right, by hand: numbers, rules, programs, verifiers."""

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.decode.answers.extraction import Extraction, canonical, number, sought, value
from likely.engine.decode.answers.program import MEMORY, MOST, Verifier, VerifierError
from likely.engine.measure.evaluate.tasks import verifiers
from likely.engine.measure.evaluate.tasks.conditional import check_judge
from likely.engine.measure.evaluate.tasks.tasks import Question, TaskSettings
from likely.engine.measure.evaluate.tasks.verifiers import final, judge


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1 and 2", 2), ("#### 3 and 4", 3), ("#### none, 4", 4), ("\\boxed{5} of 6", 5),
        ("the answer is 7 not 8", 7), ("Answer: 9 or 10", 9), ("answer is: 11, 12", 11),
        ("ANSWER IS 1 then #### 2 or 3", 2), ("1,234", 1234), ("12,34", 34), ("-3.5", Fraction(-7, 2)), ("−2", -2),
        ("+4", 4), (".5", Fraction(1, 2)), ("3 / 4", Fraction(3, 4)), ("3/0", None), ("2e3", 2000),
        ("2E-2", Fraction(1, 50)), ("none", None), ("", None), ("- /", None),
    ],
)  # fmt: skip
def test_the_number_of_an_answer(text: str, found: Any) -> None:
    assert number(text) == found


def test_a_number_is_looked_for_in_what_follows_a_mark_closely() -> None:
    assert number("7 #### " + "x" * 199 + "8") == 8 and number("7 #### " + "x" * 200 + "8") == 8
    assert number("5 answer: " + "x" * 199 + "6 9") == 6 and number("5 answer: " + "x" * 200 + "6 9") == 9
    assert value("9" * 3000) == int("9" * 3000) and value("9" * 3001) is None
    assert (value("1,000/3"), value("1/ 2"), value("x"), value("1/0")) == (
        Fraction(1000, 3), Fraction(1, 2), None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "text", "found"),
    [
        ("number", "so 1,000.50", "2001/2"), ("answer", "the answer is Blue. \nanswer = red, ", "red"),
        ("choice", "(A) no, (B)", "b"), ("choice", "C. it is", "c"), ("choice", "so D", "d"),
        ("choice", "An apple", None), ("boxed", "\\boxed{a{b}c} d", "a{b}c"), ("boxed", "\\boxed{1} \\boxed{2", None),
        ("boxed", "none", None), ("line", "a\n b \n\n", "b"), ("line", " \n", None),
        ("all", " It  is\tSO. ", "it is so"), ("all", " ", None), (r"= (\d+)", "x = 1, y = 22", "22"),
        (r"\d+", "1 and 333", "333"), (r"(a)|(b)", "a b", "b"), (r"z+", "a", None),
    ],
)  # fmt: skip
def test_rules_give_answers_in_one_form(rule: str, text: str, found: str | None) -> None:
    assert Extraction(rule)(text) == found


def test_forms_that_mean_the_same_are_one() -> None:
    for text, form in (
        (" The  Cat!", "the cat"), ("0.50", "1/2"), ("$5.00", "5"), ("−3", "-3"), ("ＡＢ", "ab"), ("1,000", "1000"),
        ("2 3", "2 3"), ("", ""),
    ):  # fmt: skip
        assert canonical(text) == form, text
    with pytest.raises(ParameterError, match="'numbers' is no rule of extraction: one of number, answer"):
        Extraction("numbers")
    with pytest.raises(ParameterError, match="is no regular expression"):
        sought("(")


def test_answers_of_a_vote_are_in_the_scorer_s_form() -> None:
    plain = TaskSettings(pattern=r"= (\w+)")
    for scorer, said, found in (
        ("numeric", "so 0.50", "1/2"), ("numeric", "none", ""), ("math", "so \\boxed{A B}", "a b"),
        ("math", " X. ", "x"), ("regex", "y = abc", "abc"), ("regex", "none", ""), ("normalised", "The cat!", "cat"),
        ("exact", " a ", "a"),
    ):  # fmt: skip
        assert final(said, scorer, plain) == found, (scorer, said)


def test_answers_are_right_by_each_scorer() -> None:
    for said, answer, right in (
        ("1000000", "1000001", 1), ("1000000", "1000002", 0), ("0.000001", "0", 1), ("0.0000011", "0", 0),
        ("x", "1", 0), ("1", "x", 0), ("-5", "-5.0", 1),
    ):  # fmt: skip
        assert judge(Question("p", (answer,)), said, TaskSettings(scorers=("numeric",))) == {"numeric": right}, (
            said,
            answer,
        )
    assert judge(Question("p", ("7", "8")), "8", TaskSettings()) == {"exact": 1, "normalised": 1, "numeric": 1}
    for answer, scored in (("$7.50", 1), ("x = 3 #### 7", 1), ("It weighs 412 grams.", 0), ("7 of 9", 0), ("-", 0)):
        assert ("numeric" in judge(Question("p", (answer,)), "8", TaskSettings())) == scored, answer
    assert judge(Question("p", ("!",)), "?", TaskSettings(scorers=("normalised",))) == {
        "normalised": 0
    }  # nothing is no answer
    told = "[a['answers'], a['row']['k']] == [['7'], 1]"
    script = f"import json, sys; a = json.load(sys.stdin); print(a['said'] if {told} else 9)"
    settings = TaskSettings(scorers=("program",), program=(sys.executable, "-c", script), seconds=30.0)
    for said, right in (("0.5", 1), ("0.49", 0)):
        assert judge(Question("p", ("7",), {"k": 1}), said, settings) == {"program": right}


@pytest.mark.slow(2)
def test_an_expression_without_end_is_given_up() -> None:
    with pytest.raises(VerifierError, match=r"was not done with a text of 40 characters in 1 s"):
        sought(r"(a|aa)+$")("a" * 39 + "b")
    settings = TaskSettings(scorers=("regex",), pattern=r"(a|aa)+$")
    assert final("a" * 39 + "b", "regex", settings) == ""


def test_scorers_that_lack_what_they_need_are_refused() -> None:
    for settings, line in (
        ({"scorers": ("exactly",)}, "there is no scorer 'exactly'"), ({"scorers": ("program",)}, "needs a program"),
        ({"scorers": ("program",), "program": ("/none",)}, "cannot start the verifier /none"),
        ({"scorers": ("regex",)}, "the scorer regex needs a pattern"),
        ({"judge": "{first}"}, "judge must hold {second}"), ({"pattern": "("}, "is no regular expression"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=line.replace("{", "[{]")):
            verifiers.check(TaskSettings(**settings))  # type: ignore[arg-type]
    verifiers.check(TaskSettings(scorers=("program", "regex", "exact"), program=(sys.executable,), pattern="a"))
    assert check_judge("") is None and check_judge("{first}{second}") is None
    assert check_judge("x") == "judge must hold {first} and {second}, where the answers stand"


SHELL = "read line; "


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("exit 0", 1.0),
        ("exit 1", 0.0),
        ("echo 0.25", 0.25),
        ("sleep 60 & echo 1", 1.0),  # what it leaves behind holds its output, and is not waited for
        ("yes >&2 & echo 1", 1.0),
        ("exec >&- 2>&-; exit 1", 0.0),
        ("echo 1; echo 2", r"must print one number, or yes or no, got '1\\n2'"),
        ("echo '{\"score\": 1}'", "must print one number"),
        ("printf '\\033[2J'", r"got '\\x1b\[2J'"),
        ("printf '\\033[2Jbad\\n' >&2; exit 3", r"ended with 3: \[2Jbad$"),
        ("kill -9 $$", "ended with -9"),
        # its bounds: open files, a file's size, an empty folder, and nothing of our environment
        ("echo $(ulimit -n) $(ls -A | wc -l) [$TOKEN] >&2; exit 3", r"ended with 3: 64 0 \[\]$"),
        ("head -c 20000000 /dev/zero > big; test -s big && test $(wc -c < big) -lt 19999999", 1.0),
        ("exit 2", "ended with 2: it said nothing"),
        ("echo no >&2; echo; exit 1", "ended with 1: no"),
        ("echo 1; exit 3", "ended with 3: it said nothing"),
        ("echo a >&2; echo b >&2; exit 4", "ended with 4: b"),
        *(
            (f"echo {word}", verdict)
            for word, verdict in (
                ("1", 1.0), (" -0.5", -0.5), ("YES", 1.0), ("wrong", 0.0), ("True", 1.0), ("false", 0.0),
                ("right", 1.0), ("no", 0.0),
            )
        ),
        *((f"echo {word}", "must print one number, or yes or no, .*got '?" + word) for word in ("hm", "nan", "1e400")),
    ],
)  # fmt: skip
def test_a_program_s_output_or_its_end_is_the_verdict(script: str, found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    verifier = Verifier(("/bin/sh", "-c", SHELL + script), 20.0)
    if isinstance(found, float):
        assert verifier("p", "s") == found
        return
    with pytest.raises(VerifierError, match=found):
        verifier("p", "s")


def test_a_program_is_told_all_and_has_room_for_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    verifier = Verifier.of(f"/bin/sh -c 'cat > {told}; echo 1'", 20.0)
    assert verifier("p", "x" * 100_000, answer="a", answers=("a", "b"), row={"k": Path("x")}) == 1
    assert json.loads(told.read_text()) == {
        "prompt": "p", "said": "x" * 100_000, "answer": "a", "answers": ["a", "b"], "row": {"k": "x"},
    }  # fmt: skip
    assert Verifier.of("sh 'b c'").words == ("sh", "b c")
    with pytest.raises(VerifierError, match="printed more than 65,536 bytes"):
        Verifier(("/bin/sh", "-c", f"head -c {MOST + 1} /dev/zero"), 20.0)("p", "s")
    with pytest.raises(VerifierError, match=r"gave no verdict within 0\.05 s"):
        Verifier(("/bin/sh", "-c", "exec sleep 5"), 0.05)("p", "s")
    with pytest.raises(VerifierError, match="cannot start the verifier /none: there is no such program"):
        Verifier(("/none",))("p", "s")
    for command, line in (
        ("'", "is no command"), (" ", "is an empty command"), ("/none", "there is no such program"),
        (str(told), "cannot be run .chmod"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=line):
            Verifier.of(command)
    monkeypatch.chdir(tmp_path)  # it begins in another folder, and finds what is named in this one
    (tmp_path / "check.sh").write_text("cat told")
    with pytest.raises(VerifierError, match="told: No such file"):
        Verifier.of("sh check.sh", 20.0)("p", "s")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS takes no bound of memory")
def test_a_program_has_so_much_memory() -> None:
    with pytest.raises(VerifierError, match="MemoryError"):
        Verifier((sys.executable, "-SEc", f"bytearray({MEMORY})"), 60.0)("p", "s")
