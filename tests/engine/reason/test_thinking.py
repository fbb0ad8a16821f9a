"""Ways of thinking that look at what they have said: by steps, by asking the model, by reflection; chains changed."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.answers.program import Verifier
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.tasks.tasks import Question
from likely.engine.measure.reason import chains, problems
from likely.engine.measure.reason.belief import p_true
from likely.engine.measure.reason.paths import ReasoningPath
from likely.engine.measure.reason.reasoning import Reasoning
from likely.engine.measure.reason.reflection import Flips
from likely.engine.measure.reason.step_beam import StepBeam
from likely.engine.measure.reason.thought import Thought
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from tests.fakes import EOS, VOCAB, ByteTokenizer, FakeCheckpoint, MarkovModel
from tests.support.decoding import rows, run, session

PROMPT = list(b"?")
DIGITS = range(48, 58)


def following(shares: dict[str, dict[str, float]]) -> np.ndarray:
    """Shares of what follows a character; all others end."""
    told = {ord(at): {ord(text): share for text, share in then.items()} for at, then in shares.items()}
    return rows({token: told.get(token, {EOS: 1.0}) for token in range(VOCAB)})


def steps_of(table: np.ndarray, beam: StepBeam, value: Any, seed: int = 0) -> list[ReasoningPath]:
    extract = Extraction("number")
    return beam.search(session(table), PROMPT, RunControl(SamplingConfig()), value, extract=extract, seed=seed)


def test_with_one_step_it_is_the_best_of_all_ways() -> None:
    """An exact verifier, answers that end at once: as sure to have the right one as so many samples."""
    table = following({"?": {str(d): 0.1 for d in range(10)}})
    for seed in range(6):
        paths = steps_of(table, StepBeam(3, 12), lambda text, steps, whole: float(text == "7"), seed)
        samples = set(run(table, prompt=PROMPT, n=12, seed=seed).text.values())
        assert (paths[0].text == "7") == ("7" in samples)
        assert paths[0].drawn == 24 and len({path.text for path in paths}) == len(paths) <= 3


def test_a_value_leads_it_through_steps_that_are_unlikely() -> None:
    """Each line is a or b, b one time in ten; three lines of b are one text in a thousand, and are found."""
    ab = {"a": 0.9, "b": 0.1}

    def value(text: str, steps: Sequence[TokenStep], whole: bool) -> float:
        return text.count("b")

    table = following({"?": ab, "a": {"\n": 1.0}, "b": {"\n": 1.0}, "\n": ab})
    best, *_ = steps_of(table, StepBeam(2, 16, max_tokens=6), value)
    assert best.text == "b\nb\nb" and best.finish == "length" and best.drawn > 3 * 2 * 16


def test_a_program_may_judge_beginnings_and_one_without_a_verdict_leaves_the_texts() -> None:
    code = "import json; print(json.loads(input())['said'].count('7'))"
    for program, wanted in (((sys.executable, "-c", code), {"7"}), (("/no/such",), {"4", "7"})):
        verifier = Verifier(program)
        way = Reasoning(Thought(), Extraction("number"), "steps", 16, verifier=verifier, raw=True, beams=1)
        made = session(following({"?": {"4": 0.7, "7": 0.3}}))
        paths = list(way.draw(made, PROMPT, RunControl(SamplingConfig()), 0, "?"))
        assert {path.answer for path in paths} <= wanted
        assert way.choose(made, paths, "?", 0, lambda path, line: None).answer in wanted


class Words(ByteTokenizer):
    """Without a chat template."""

    chat_template = None


def believing(yes: float) -> Session:
    """A model that says Y or y with a share, N or n else, whatever it is asked."""
    table = np.full((VOCAB, VOCAB), -30.0)
    for text, share in (("Y", yes * 0.7), ("y", yes * 0.3), ("N", (1 - yes) * 0.6), ("n", (1 - yes) * 0.4)):
        table[:, ord(text)] = np.log(share * 0.5)
    return Session(FakeCheckpoint(MarkovModel(table), Words()))  # type: ignore[arg-type]


def test_belief_is_the_share_of_yes_and_the_best_is_by_it() -> None:
    for yes in (0.1, 0.5, 0.9):
        assert p_true(believing(yes), "1+1?", "2") == pytest.approx(yes, abs=1e-5)
    way = Reasoning(Thought(), Extraction("number"), "best", 2, believes=True)
    paths = [ReasoningPath(0, (), "4", "4", "eot"), ReasoningPath(1, (), "5", "5", "eot")]
    outcome = way.choose(believing(0.8), paths, "?", 0, lambda path, line: None)
    assert outcome.scores == pytest.approx([0.8, 0.8], abs=1e-5) and outcome.answer == "4"


def test_a_reflection_asks_again_and_its_last_answer_counts() -> None:
    """The question ends in `e:` (a chat's last turn): of 4 and 5; every turn draws anew."""
    asked = [Question(f"{i}?", ("4",)) for i in range(30)]
    way = Reasoning(Thought(), Extraction("number"), "reflect", 3, max_tokens=4)
    made = session(following({":": {"4": 0.7, "5": 0.3}}))
    done = list(problems.attempt(made, asked, way, RunControl(SamplingConfig()), 3, lambda path, line: None))
    gain = problems.gain(done, "reflect")
    first, last = (np.array([each.outcome.paths[i].answer == "4" for each in done]) for i in (0, -1))
    assert gain.flips == Flips(int((first & ~last).sum()), int((last & ~first).sum()), int((first == last).sum()))
    assert gain.flips.right_to_wrong and gain.flips.wrong_to_right and gain.method.mean == np.mean(last)
    assert gain.curve == () and all(len(each.outcome.paths) == 3 for each in done)


def test_a_chain_is_cut_corrupted_and_exchanged() -> None:
    chain = chains.units("2+3=5\n5+4=9\nso it is ")
    assert chain == ["2+3=5\n", "5+4=9\n", "so it is "]
    for how, others, text in (
        ("cut", (), "2+3=5\n"), ("kept", (), "".join(chain)), ("corrupted", (), "2+3=5\n5+4=10\nso it is "),
        ("exchanged", ["x"], "x"), ("exchanged", chain, None),
    ):  # fmt: skip
        assert chains.changed(chain, how, others) == text
    assert chains.changed(["no number"], "corrupted", ()) is None
    text = "2+3=5\n5+4=8\n8+1=9"
    assert chains.first_wrong(text, lambda said: float("=8" not in said)) == 1
    assert chains.first_wrong(text, lambda said: 1.0) is None and chains.first_wrong("", lambda said: 0.0) is None


def test_an_answer_that_is_read_off_its_chain_changes_with_it() -> None:
    """A model that says again the digit it has said: all depends on the chain. One that always ends on 7: nothing."""
    way = Reasoning(Thought(), Extraction(r"\d"), n=1, max_tokens=3, raw=True)

    def shares(table: np.ndarray, *said: tuple[str, str]) -> dict[str, tuple[float, int]]:
        attempts = []
        for digit, text in said:
            path = ReasoningPath(0, (), text, digit, "eot")
            outcome = problems.VoteOutcome(digit, {}, (path,), path)
            attempts.append(problems.Attempt(Question("?", (digit,)), path, outcome))
        return {how: (each.mean, each.n) for how, each in chains.sensitivity(session(table), way, attempts).items()}

    again = shares(following({chr(d): {chr(d): 1.0} for d in DIGITS}), ("4", "4\n4"), ("6", "6\n6"), ("8", "8\n8"))
    assert again["kept"][0] == 0 and again["corrupted"][0] == again["exchanged"][0] == 1
    always = shares(following({"?": {"7": 1.0}, "\n": {"7": 1.0}}), ("7", "1\n2\n7"))
    assert always["kept"][0] == always["corrupted"][0] == 0 and always["exchanged"][1] == 0
