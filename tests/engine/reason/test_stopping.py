"""Paths that are stopped, given up or left, and the templates that they are asked by."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.decode.answers import vote
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Stats
from likely.engine.measure.reason import scorers
from likely.engine.measure.reason.paths import PathCollector, ReasoningPath, by_vote
from likely.engine.measure.reason.reasoning import Reasoning
from likely.engine.measure.reason.thought import THOUGHTS, Thought, thought
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from tests.fakes import EOS, VOCAB
from tests.support.decoding import PROMPT, rows, session

STATS = Stats(1, 0, 1, 0.0, 0.0)


def step(*p: float) -> TokenStep:
    return observe(np.log(np.array(p, np.float32)), 0, recipe=SamplingConfig(), position=0)


def test_a_constant_confidence_is_a_plain_majority_and_a_share_has_an_interval() -> None:
    """Wilson's for 8 of 10, by solving |p - x| = z sqrt(x (1 - x) / n); never outside [0, 1]."""
    paths = [ReasoningPath(i, (step(0.9, 0.1),), "", a, "eot") for i, a in enumerate("aabbb")]
    for name in scorers.SCORERS:
        votes = by_vote(paths, scorers.scorer(name)).votes
        assert list(votes) == ["b", "a"] and votes["b"] / votes["a"] == pytest.approx(1.5), name
    for end in vote.interval(8, 10):
        assert abs(0.8 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 10), abs=1e-6)
    assert vote.interval(0, 5)[0] == 0 and vote.interval(0, 0) == (0, 1)


def test_a_run_is_stopped_when_its_vote_is_decided() -> None:
    """Texts that end at once say the same; those that go on are stopped, and what they cost is counted."""
    made, control = session(rows({PROMPT[-1]: {97: 0.9, 98: 0.1}, 97: {EOS: 1.0}, 98: {98: 1.0}})), RunControl()
    sampling = PathCollector(Extraction("all"), 64, control, 0.95)
    done = list(sampling.watch(made.generate(PROMPT, control, n=64, seed=1, max_tokens=200)))
    assert len(done) == 64 and control.cancelled and by_vote(done).tokens >= 64
    assert {path.whole for path in done} == {True, False}


def test_a_path_is_given_up_once_a_group_is_less_confident_than_the_first_ones() -> None:
    sure, unsure = step(0.9, 0.1), step(0.5, 0.5)
    low, high = (float(scorers.confidences([each])[0]) for each in (unsure, sure))
    control = RunControl()
    sampling = PathCollector(Extraction("all"), 8, control)
    warm = [[unsure] * 10 + [sure] * 30, [sure] * 40, [sure] * 40, [sure] * 40]
    for b, steps in enumerate(warm):
        list(sampling.watch([*(Emitted(b, s) for s in steps), Done(b, "eot", STATS)]))
    assert not control.given_up
    sampling.despair(0.25)
    assert sampling.doubt == pytest.approx(np.quantile([(10 * low + 22 * high) / 32, high, high, high], 0.25))
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
    paths = list(way.draw(session(table), PROMPT, RunControl(), 4))
    given_up = [path for path in paths if not path.whole]
    assert sorted(path.branch for path in paths) == list(range(24))
    assert given_up and all(path.text[0] == "b" and path.tokens == scorers.WINDOW for path in given_up)
    assert all(path.whole for path in paths if path.branch < 12) and by_vote(paths).tokens < 24 * 60
    assert all(path.text[0] == "a" for path in paths if path.whole and path.branch >= 12)


@pytest.mark.slow(1)
def test_an_expression_that_never_ends_is_left_and_said() -> None:
    endless = Extraction("(a|aa)+$")
    collector = PathCollector(endless, 1, RunControl())
    (found,) = collector.watch([Emitted(0, replace(step(0.9, 0.1), text="a" * 60 + "b")), Done(0, "eot", STATS)])
    assert found.whole and found.answer is None and "was not done with a text of 61 characters" in found.trouble
    assert endless("baa") == "a"


def test_templates_by_name_and_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('before = "Q: "\nextract = "line"\n[[examples]]\nquestion = "1?"\nanswer = "one"\n')
    mine = thought(str(file))
    assert mine.ask("2?", chat=True).turns == (("user", "Q: 1?"), ("assistant", "one"), ("user", "Q: 2?"))
    assert mine.ask("2?", chat=False).parts == ("Question: Q: 1?\nAnswer: one\n\nQuestion: Q: 2?\nAnswer:",)
    assert all(thought(name).ask("x", chat=True).turns[-1][0] == "user" for name in THOUGHTS)
    for text, line in (
        ("befor = 'x'", "unknown key 'befor': did you mean before"), ("before = 3", "before must be a text"),
        ("[[examples]]\nquestion = 'x'", "must have a question and an answer"), ("= 2", "not TOML"),
        ("extract = 'nubmer'", "is no rule of extraction"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises((DataError, ParameterError), match=line):
            thought(str(file))
    with pytest.raises(ParameterError, match="'x' is no template: one of plain"):
        thought("x")
