"""Extraction, scorers, votes, verifiers and templates, against values that are known or can be counted."""

import math
import sys
from dataclasses import replace
from pathlib import Path as File

import numpy as np
import pytest

from likely.engine.answers import vote
from likely.engine.answers.extraction import Extraction, canonical
from likely.engine.answers.program import Verifier, VerifierError
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Stats
from likely.engine.errors import DataError, ParameterError
from likely.engine.reason import scorers
from likely.engine.reason.paths import Path, PathCollector, by_vote
from likely.engine.reason.reasoning import Reasoning
from likely.engine.reason.thought import THOUGHTS, Thought, thought
from likely.engine.trace.observe import observe
from likely.engine.trace.step import Recipe, TokenStep
from tests.fakes import EOS, VOCAB
from tests.support.decoding import PROMPT
from tests.support.decoding import session as markov


def step(p: list[float], token: int = 0) -> TokenStep:
    return observe(np.log(np.array(p, np.float32)), token, recipe=Recipe(), position=0)


# -- extraction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "text", "answer"),
    [
        ("number", "17 * 23 is 391.", "391"), ("number", "It is 1,234.50 in all", "2469/2"), ("number", "−5", "-5"),
        ("number", "3/4 of it", "3/4"), ("number", "none", None), ("answer", "So the answer is: Rome.\nBye", "rome"),
        ("answer", "I do not know", None), ("choice", "It is (B), not (A)... so (B)", "b"),
        ("boxed", r"\boxed{x^{2}}", "x^{2}"),
        ("boxed", r"\boxed{1} then \boxed{ 7 }", "7"), ("boxed", r"\boxed{open", None),
        ("line", "a\n\nLast  one \n", "last one"),
        (r"= (\w+)", "x = one, y = Two", "two"), ("all", "  A b ", "a b"),
    ],
)  # fmt: skip
def test_the_answer_in_a_text(rule: str, text: str, answer: str | None) -> None:
    assert Extraction(rule)(text) == answer


def test_equal_answers_are_equal() -> None:
    assert len({canonical(text) for text in ("7", "7.0", " 7 ", "7.", "7.00", "14/2")}) == 1
    assert canonical("1/0") == "1/0"


@pytest.mark.parametrize(
    ("rule", "line"), [("nubmer", "is no rule of extraction: one of number"), ("(a", "is no regular")]
)
def test_what_is_no_rule_is_said(rule: str, line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        Extraction(rule)


# -- scorers ---------------------------------------------------------------------------------------------------------


def test_the_published_certainties_and_confidences() -> None:
    assert scorers.self_certainty([step([0.25] * 4)] * 3) == pytest.approx(0, abs=1e-6)
    assert scorers.self_certainty([step([0.97, 0.01, 0.01, 0.01])]) == pytest.approx(2.075198, abs=1e-5)
    assert scorers.confidences([step([0.97, 0.01, 0.01, 0.01])], 2)[0] == pytest.approx(2.317815, abs=1e-5)
    assert scorers.confidences([step([0.25] * 4)])[0] == pytest.approx(1.386294, abs=1e-5)


# -- votes -----------------------------------------------------------------------------------------------------------


def test_an_interval_of_a_share() -> None:
    """Wilson's for 8 of 10, by solving |p - x| = z sqrt(x (1 - x) / n); never outside [0, 1]."""
    for end in vote.interval(8, 10):
        assert abs(0.8 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 10), abs=1e-6)
    assert vote.interval(0, 5)[0] == 0 and vote.interval(0, 0) == (0, 1)


# -- paths -----------------------------------------------------------------------------------------------------------


def path(branch: int, answer: str | None, p: float = 0.5, finish: str = "eot") -> Path:
    return Path(branch, (step([p, 1 - p]),), "", answer, finish)


def test_a_constant_confidence_is_a_plain_majority() -> None:
    paths = [path(i, a, 0.9) for i, a in enumerate("aabbb")]
    for name in scorers.SCORERS:
        votes = by_vote(paths, scorers.scorer(name)).votes
        assert list(votes) == ["b", "a"] and votes["b"] / votes["a"] == pytest.approx(1.5), name


def test_a_run_is_stopped_when_its_vote_is_decided() -> None:
    """Texts that end at once say the same; those that go on are stopped, and what they cost is counted."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[PROMPT[-1], 97:99] = np.log([0.9, 0.1])
    table[97, EOS] = table[98, 98] = 0.0
    control = RunControl()
    sampling = PathCollector(Extraction("all"), 64, control, 0.95)
    session = markov(table)
    done = list(sampling.watch(session.generate(PROMPT, control, n=64, seed=1, max_tokens=200)))
    verdict = by_vote(done)
    assert len(done) == 64 and control.cancelled
    assert verdict.tokens >= 64 and any(not p.whole for p in done) and any(p.whole for p in done)


def test_a_path_is_given_up_once_a_group_is_less_confident_than_the_first_ones() -> None:
    sure, unsure = step([0.9, 0.1]), step([0.5, 0.5])
    low, high = (float(scorers.confidences([each])[0]) for each in (unsure, sure))
    assert low < high
    control = RunControl()
    sampling = PathCollector(Extraction("all"), 8, control)
    stats = Stats(1, 0, 1, 0.0, 0.0)
    warm = [[unsure] * 10 + [sure] * 30, [sure] * 40, [sure] * 40, [sure] * 40]
    events = [
        event for b, steps in enumerate(warm) for event in [*(Emitted(b, s) for s in steps), Done(b, "eot", stats)]
    ]
    list(sampling.watch(events))
    assert not control.given_up
    sampling.despair(0.25)
    lows = [(10 * low + 22 * high) / 32, high, high, high]
    assert sampling.doubt == pytest.approx(np.quantile(lows, 0.25))
    doubtful = [Emitted(0, s) for s in [sure] * 8 + [unsure] * 24]
    list(sampling.watch([*doubtful[:-1], *(Emitted(1, sure) for _ in range(40))]))
    assert not control.given_up  # no group of tokens is whole yet
    list(sampling.watch(doubtful[-1:]))
    assert control.given_up == {0}


def test_hopeless_paths_cost_less_and_do_not_vote() -> None:
    """What begins with one letter is sure of every token, what begins with the other of none; most begin with the
    first."""
    table = np.full((VOCAB, VOCAB), -40.0)
    table[PROMPT[-1], 97:99] = np.log([0.7, 0.3])
    table[97, 97] = 0.0
    table[98:106, 98:106] = math.log(0.125)
    way = Reasoning(Thought(), Extraction("all"), n=24, hopeless=0.6, max_tokens=60, raw=True)
    paths = list(way.draw(markov(table), PROMPT, RunControl(), 4))
    given_up = [path for path in paths if not path.whole]
    assert sorted(path.branch for path in paths) == list(range(24))
    assert all(path.whole for path in paths if path.branch < 12)
    assert given_up and all(path.text[0] == "b" and path.tokens == scorers.WINDOW for path in given_up)
    assert all(path.text[0] == "a" for path in paths if path.whole and path.branch >= 12)
    assert by_vote(paths).tokens < 24 * 60


@pytest.mark.slow(1)
def test_an_expression_that_never_ends_is_left_and_said() -> None:
    endless = Extraction("(a|aa)+$")
    stats = Stats(1, 0, 1, 0.0, 0.0)
    collector = PathCollector(endless, 1, RunControl())
    (found,) = collector.watch([Emitted(0, replace(step([0.9, 0.1]), text="a" * 60 + "b")), Done(0, "eot", stats)])
    assert found.whole and found.answer is None and "was not done with a text of 61 characters" in found.trouble
    assert endless("baa") == "a"


# -- verifiers -------------------------------------------------------------------------------------------------------


def program(code: str) -> str:
    return f'{sys.executable} -c "{code}"'


def test_a_verifier_reads_an_answer_and_prints_a_number() -> None:
    judge = Verifier.of(program("import json; print(float(json.loads(input())['answer']) * 2)"))
    assert judge("q", "t", answer="21") == 42
    assert Verifier.of(program("print('Yes')"))("q", "t") == 1.0


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (program("import sys; sys.exit('no such rule')"), "ended with 1: no such rule"),
        (program("import time; time.sleep(60)"), "gave no verdict within 0.3 s: it was stopped"),
        (program("print('maybe so')"), "must print one number, or yes or no, got 'maybe so'"),
        (program("print('nan')"), "must print one number"),
        (program("import sys; sys.exit(2)"), "ended with 2: it said nothing"),
        ("yes", "printed more than 65,536 bytes: it must print one number"),
        ("/no/such/program", "cannot start the verifier /no/such/program: No such file"),
    ],
)
def test_a_verifier_that_gives_no_verdict_is_said_in_one_line(command: str, line: str) -> None:
    with pytest.raises(VerifierError, match=line) as error:
        Verifier.of(command, 0.3 if "sleep" in command else 20.0)("q", "t", answer="1")
    assert "\n" not in str(error.value)


def test_a_command_that_is_none_is_said() -> None:
    for command in ("", "  ", "'open"):
        with pytest.raises(ParameterError, match="verifier"):
            Verifier.of(command)


# -- templates -------------------------------------------------------------------------------------------------------


def test_templates_by_name_and_file(tmp_path: File) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('before = "Q: "\nextract = "line"\n[[examples]]\nquestion = "1?"\nanswer = "one"\n')
    mine = thought(str(file))
    assert mine.ask("2?", chat=True).turns == (("user", "Q: 1?"), ("assistant", "one"), ("user", "Q: 2?"))
    assert mine.ask("2?", chat=False).parts == ("Question: Q: 1?\nAnswer: one\n\nQuestion: Q: 2?\nAnswer:",)
    assert all(thought(name).ask("x", chat=True).turns[-1][0] == "user" for name in THOUGHTS)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("befor = 'x'", "unknown key 'befor': did you mean before"), ("before = 3", "before must be a text"),
        ("[[examples]]\nquestion = 'x'", "must have a question and an answer"), ("= 2", "not TOML"),
        ("extract = 'nubmer'", "is no rule of extraction"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_template_is_said(tmp_path: File, text: str, line: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises((DataError, ParameterError), match=line):
        thought(str(tmp_path / "t.toml"))
    with pytest.raises(ParameterError, match="'x' is no template: one of plain"):
        thought("x")
