"""Problems with answers: figures of a method against what is known of tables, and a file through the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli import likely as program
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.answers.program import Verifier
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.tasks.tasks import Question
from likely.engine.measure.reason import problems
from likely.engine.measure.reason.paths import ReasoningPath
from likely.engine.measure.reason.reasoning import Reasoning
from likely.engine.measure.reason.thought import Thought
from likely.engine.sampling.trace.step import SamplingConfig
from tests.fakes import EOS, VOCAB, FakeCheckpoint, MarkovModel
from tests.serve.served import write_model

SHARES = {"?": {"7": 0.6, "5": 0.4}, "!": {"3": 0.3, "4": 0.45, "5": 0.25}}  # of the answers to the two questions


def table() -> np.ndarray:
    """After `?` or `!` a digit with those shares, and then the end."""
    found = np.full((VOCAB, VOCAB), -np.inf)
    found[:, EOS] = 0.0
    for asked, answers in SHARES.items():
        found[ord(asked)] = -np.inf
        for answer, share in answers.items():
            found[ord(asked), ord(answer)] = np.log(share)
    return found


def session() -> Session:
    return Session(FakeCheckpoint(MarkovModel(table())))  # type: ignore[arg-type]


def way(**settings: Any) -> Reasoning:
    return Reasoning(Thought(), Extraction("number"), max_tokens=4, raw=True, **settings)


ASKED = [*[Question(f"{i}?", ("7.0",)) for i in range(12)], *[Question(f"{i}!", ("3",)) for i in range(12)]]


def attempts(how: Reasoning, **more: Any) -> list[problems.Attempt]:
    control = more.pop("control", RunControl(SamplingConfig()))
    return list(problems.attempt(session(), ASKED, how, control, 5, more.pop("complain", lambda path, line: None)))


@pytest.mark.slow
def test_figures_are_those_of_the_shares() -> None:
    """Greedy is right on the first half alone. A vote of many tends to that too: the second half's plurality is wrong,
    though three paths in ten are right."""
    found = attempts(way(n=64))
    gain = problems.gain(found)
    assert gain.greedy.mean == 0.5 and gain.greedy_tokens == 2 and gain.tokens == 128 and gain.p == 24
    one = {spent.paths: spent.one.mean for spent in gain.curve}
    assert list(one) == [1, 2, 4, 8, 16, 32, 64]
    band = 4 * (0.25 / (24 * 64)) ** 0.5
    for k in (1, 2):
        expected = (1 - 0.4**k + 1 - 0.7**k) / 2
        assert one[k] == pytest.approx(expected, abs=k * band)
    vote = [spent.vote.mean for spent in gain.curve]
    assert vote[0] == pytest.approx(one[1], abs=0.02) and abs(vote[-1] - 0.5) < 0.1
    assert 0 <= vote[-1] - gain.plurality < 0.05  # of a tie, half is right
    assert [spent.tokens for spent in gain.curve] == [2 * k for k in one]
    assert gain.change.estimate.mean == pytest.approx(gain.method.mean - 0.5) and gain.unanswered == 0


def test_paths_without_an_answer_are_counted_and_are_not_right() -> None:
    no = Reasoning(Thought(), Extraction("boxed"), n=3, max_tokens=4, raw=True)
    gain = problems.gain(attempts(no))
    assert gain.unanswered == 3 * 24 and gain.method.mean == 0 and gain.curve[0].one.mean == 0


def test_a_verifier_that_gives_no_verdict_leaves_the_search_as_it_is() -> None:
    said: list[str] = []

    def complain(path: ReasoningPath, line: str) -> None:
        said.append(line)

    found = attempts(way(n=2, method="best", verifier=Verifier(("/no/such",))), complain=complain)
    assert len(found) == 24 and all("cannot start the verifier" in line for line in said) and said
    assert all(each.outcome.answer is None and len(each.outcome.paths) == 2 for each in found)


def test_stopping_keeps_the_problems_so_far() -> None:
    control = RunControl(SamplingConfig())
    found = []
    for one in problems.attempt(session(), ASKED, way(n=2), control, 5, lambda path, line: None):
        found.append(one)
        if len(found) == 3:
            control.cancel()
    assert len(found) == 3


def test_power_counts_what_it_rejected() -> None:
    (one, *_) = attempts(way(n=1, method="power"))
    assert one.outcome.tokens > one.outcome.paths[0].tokens


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('{"prompt": "1?", "answer": "7"}\n{"prompt": "2?"}\n', r"p.jsonl:2:1: expected a row with .*; got prompt \("),
        ('{"good": "a", "bad": "b"}\n', "problems are rows with prompt and answer, not pairs"),
        ('{"prompt": "1?", "answer": "7"}\n{"prompt": 2, "answer": "2"}\n{"answer": "2"}\n',
         "p.jsonl: 2 of its 3 rows cannot be read: 2:2: prompt must be .*; 3:1: expected a row with .*; got answer"),
        ('{"prompt": "1?", "answer": "7"}\n{"prompt": "2?", "answer": ""}\n', "row 2: there is no answer to compare"),
        ("", "no"), ("rubbish\n", "1"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_said_in_one_line(tmp_path: Path, rows: str, line: str) -> None:
    (tmp_path / "p.jsonl").write_text(rows)
    with pytest.raises(DataError, match=line) as error:
        problems.read(tmp_path / "p.jsonl")
    assert "\n" not in str(error.value)


def test_no_paths_are_refused() -> None:
    for n in (0, 257):
        with pytest.raises(ParameterError, match="the number of paths must be in"):
            way(n=n)


def test_the_command_reads_a_file(tmp_path: Path) -> None:
    """On a tiny random model: a line a problem and the figures of all, or one object."""
    rows = [{"prompt": each.prompt, "answer": each.answers[0]} for each in ASKED[:3]]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--file", str(tmp_path / "p.jsonl"), "-M", str(write_model(tmp_path / "tiny")), "-n", "4", "-m", "4"]
    shown = CliRunner().invoke(program, ["reason", *options, "--seed", "3"])
    assert shown.exit_code == 0, shown.output
    assert "[3] 2? ·" in shown.output and "over greedy, paired" in shown.output
    told = json.loads(CliRunner().invoke(program, ["reason", *options, "--seed", "3", "--json"]).stdout)
    assert told["problems"] == 3 and [c["paths"] for c in told["curve"]] == [1, 2, 4]
    assert told["curve"][0]["maj"]["mean"] == told["curve"][0]["pass"]["mean"]
    for extra in (["why?"], ["--confidence", "0.9"]):
        assert CliRunner().invoke(program, ["reason", *options, *extra]).exit_code == 2
