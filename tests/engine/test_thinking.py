"""Ways of thinking that look at what they have said: by steps, by asking the model, by reflection; chains changed."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from likely.engine.answers.extraction import Extraction
from likely.engine.answers.program import Verifier
from likely.engine.decode.control import RunControl
from likely.engine.evaluate.tasks import Question
from likely.engine.reason import chains, problems
from likely.engine.reason.belief import p_true
from likely.engine.reason.paths import Path
from likely.engine.reason.reasoning import Reasoning
from likely.engine.reason.reflection import Flips
from likely.engine.reason.step_beam import StepBeam
from likely.engine.reason.thought import Thought
from likely.engine.session import Session
from likely.engine.trace.step import Recipe, TokenStep
from tests.fakes import EOS, VOCAB, ByteTokenizer, FakeCheckpoint, MarkovModel

PROMPT = list(b"?")


def table(**rows: dict[str, float]) -> np.ndarray:
    """Shares of what follows a character (`q` stands for the question mark); all others end."""
    found = np.full((VOCAB, VOCAB), -np.inf)
    found[:, EOS] = 0.0
    for name, shares in rows.items():
        at = ord({"q": "?", "line": "\n"}.get(name, name[-1]))
        found[at] = -np.inf
        for text, share in shares.items():
            found[at, ord(text) if text else EOS] = np.log(share)
    return found


def session(rows: np.ndarray) -> Session:
    return Session(FakeCheckpoint(MarkovModel(rows)))  # type: ignore[arg-type]


def found(texts: np.ndarray, beam: StepBeam, value: Any, seed: int = 0) -> list[Path]:
    return beam.search(session(texts), PROMPT, RunControl(Recipe()), value, extract=Extraction("number"), seed=seed)


# -- steps -----------------------------------------------------------------------------------------------------------


def test_with_one_step_it_is_the_best_of_all_ways() -> None:
    """An exact verifier, answers that end at once: as sure to have the right one as so many samples."""
    rows = table(q={str(d): 0.1 for d in range(10)})
    for seed in range(6):
        paths = found(rows, StepBeam(3, 12), lambda text, steps, whole: float(text == "7"), seed)
        events = session(rows).generate(PROMPT, RunControl(Recipe()), n=12, seed=seed)
        samples = {event.step.text for event in events if hasattr(event, "step") and event.step.text}  # type: ignore[union-attr]
        assert (paths[0].text == "7") == ("7" in samples)
        assert paths[0].drawn == 24 and len({path.text for path in paths}) == len(paths) <= 3


def test_a_value_leads_it_through_steps_that_are_unlikely() -> None:
    """Each line is a or b, b one time in ten; three lines of b are one text in a thousand, and are found."""
    rows = table(q={"a": 0.9, "b": 0.1}, a={"\n": 1.0}, b={"\n": 1.0}, line={"a": 0.9, "b": 0.1})

    def value(text: str, steps: Sequence[TokenStep], whole: bool) -> float:
        return text.count("b")

    paths = found(rows, StepBeam(2, 16, max_tokens=6), value)
    assert paths[0].text == "b\nb\nb" and paths[0].finish == "length" and paths[0].drawn > 3 * 2 * 16


def test_a_verifier_without_a_verdict_leaves_the_texts() -> None:
    way = Reasoning(Thought(), Extraction("number"), "steps", 4, verifier=Verifier(("/no/such",)), raw=True, beams=2)
    paths = list(way.draw(session(table(q={"4": 0.5, "5": 0.5})), PROMPT, RunControl(Recipe()), 0, "?"))
    outcome = way.choose(session(table()), paths, "?", 0, lambda path, line: None)
    assert {path.answer for path in paths} <= {"4", "5"} and outcome.answer in {"4", "5"}


def test_a_program_may_judge_beginnings() -> None:
    code = "import json; print(json.loads(input())['said'].count('7'))"
    way = Reasoning(Thought(), Extraction("number"), "steps", 16, verifier=Verifier((sys.executable, "-c", code)),
                    raw=True, beams=1)  # fmt: skip
    paths = list(way.draw(session(table(q={"4": 0.7, "7": 0.3})), PROMPT, RunControl(Recipe()), 0, "?"))
    assert [path.answer for path in paths] == ["7"]


# -- what the model believes -----------------------------------------------------------------------------------------


class Words(ByteTokenizer):
    """Without a chat template."""

    chat_template = None


def believing(yes: float) -> Session:
    """A model that says Y or y with a share, N or n else, whatever it is asked."""
    rows = np.full((VOCAB, VOCAB), -30.0)
    for text, share in (("Y", yes * 0.7), ("y", yes * 0.3), ("N", (1 - yes) * 0.6), ("n", (1 - yes) * 0.4)):
        rows[:, ord(text)] = np.log(share * 0.5)
    return Session(FakeCheckpoint(MarkovModel(rows), Words()))  # type: ignore[arg-type]


def test_belief_is_the_share_of_yes() -> None:
    for yes in (0.1, 0.5, 0.9):
        assert p_true(believing(yes), "1+1?", "2") == pytest.approx(yes, abs=1e-5)


def test_the_best_by_belief() -> None:
    way = Reasoning(Thought(), Extraction("number"), "best", 2, believes=True)
    paths = [Path(0, (), "4", "4", "eot"), Path(1, (), "5", "5", "eot")]
    outcome = way.choose(believing(0.8), paths, "?", 0, lambda path, line: None)
    assert outcome.scores == pytest.approx([0.8, 0.8], abs=1e-5) and outcome.answer == "4"


# -- reflection ------------------------------------------------------------------------------------------------------


def test_a_reflection_asks_again_and_its_last_answer_counts() -> None:
    """The question ends in `e:` (a chat's last turn): of 4 and 5; every turn draws anew."""
    asked = [Question(f"{i}?", ("4",)) for i in range(30)]
    rows = np.full((VOCAB, VOCAB), -np.inf)
    rows[:, EOS] = 0.0
    rows[ord(":")] = -np.inf
    rows[ord(":"), [ord("4"), ord("5")]] = np.log([0.7, 0.3])
    way = Reasoning(Thought(), Extraction("number"), "reflect", 3, max_tokens=4)
    done = list(problems.attempt(session(rows), asked, way, RunControl(Recipe()), 3, lambda path, line: None))
    gain = problems.gain(done, "reflect")
    first = [each.outcome.paths[0].answer == "4" for each in done]
    last = [each.outcome.paths[-1].answer == "4" for each in done]
    assert gain.flips == Flips(
        sum(a and not b for a, b in zip(first, last, strict=True)),
        sum(b and not a for a, b in zip(first, last, strict=True)),
        sum(a == b for a, b in zip(first, last, strict=True)),
    )
    assert gain.flips.right_to_wrong and gain.flips.wrong_to_right and gain.method.mean == np.mean(last)
    assert gain.curve == () and all(len(each.outcome.paths) == 3 for each in done)


# -- chains ----------------------------------------------------------------------------------------------------------


def test_a_chain_is_cut_corrupted_and_exchanged() -> None:
    chain = chains.units("2+3=5\n5+4=9\nso it is ")
    assert chain == ["2+3=5\n", "5+4=9\n", "so it is "]
    assert chains.changed(chain, "cut", ()) == "2+3=5\n" and chains.changed(chain, "kept", ()) == "".join(chain)
    assert chains.changed(chain, "corrupted", ()) == "2+3=5\n5+4=10\nso it is "
    assert chains.changed(chain, "exchanged", ["x"]) == "x" and chains.changed(chain, "exchanged", chain) is None
    assert chains.changed(["no number"], "corrupted", ()) is None
    assert chains.units("One. Two? Three") == ["One. ", "Two? ", "Three"] and chains.units("a b") == ["a ", "b"]


def test_an_answer_that_is_read_off_its_chain_changes_with_it() -> None:
    """A model that says again the digit it has said: all depends on the chain. One that always ends on 7: nothing."""
    rows = np.full((VOCAB, VOCAB), -np.inf)
    rows[:, EOS] = 0.0
    for d in range(10):
        rows[ord(str(d))] = -np.inf
        rows[ord(str(d)), ord(str(d))] = 0.0
    way = Reasoning(Thought(), Extraction(r"\d"), n=1, max_tokens=3, raw=True)

    def attempted(digit: str, text: str) -> problems.Attempt:
        path = Path(0, (), text, digit, "eot")
        return problems.Attempt(Question("?", (digit,)), path, problems.VoteOutcome(digit, {}, (path,), path))

    attempts = [attempted("4", "4\n4"), attempted("6", "6\n6"), attempted("8", "8\n8")]
    share = {how: each.mean for how, each in chains.sensitivity(session(rows), way, attempts).items()}
    assert share["kept"] == 0 and share["corrupted"] == share["exchanged"] == 1
    always = table(q={"7": 1.0}, line={"7": 1.0})
    same = [attempted("7", "1\n2\n7")]
    never = chains.sensitivity(session(always), way, same)
    assert never["kept"].mean == 0 and never["corrupted"].mean == 0 and never["exchanged"].n == 0


def test_the_first_wrong_step() -> None:
    text = "2+3=5\n5+4=8\n8+1=9"
    assert chains.first_wrong(text, lambda said: float("=8" not in said)) == 1
    assert chains.first_wrong(text, lambda said: 1.0) is None and chains.first_wrong("", lambda said: 0.0) is None
