"""Ways of thinking over a scripted session: when a run is stopped, what is chosen of its paths, and what is gained."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.answers.program import VerifierError
from likely.engine.measure.evaluate.tasks.tasks import Question
from likely.engine.measure.reason import problems
from likely.engine.measure.reason.belief import p_true
from likely.engine.measure.reason.paths import ReasoningPath, VoteOutcome, by_vote
from likely.engine.measure.reason.reasoning import Reasoning
from likely.engine.measure.reason.reflection import flips
from likely.engine.measure.reason.scorers import scorer
from likely.engine.measure.reason.thought import Thought
from tests.fakes import ByteTokenizer
from tests.laws.test_votes import step


class Plain(ByteTokenizer):
    """Of a model without a chat template."""

    chat_template = None


def way(method: str = "vote", n: int = 8, **more: Any) -> Reasoning:
    return Reasoning(Thought(), more.pop("extract", Extraction("number")), method, n, **more)


def test_settings_out_of_range_are_refused() -> None:
    for settings, line in (
        ({"n": 0}, r"in \[1, 256\], got 0"), ({"n": 257}, "got 257"), ({"method": "power", "alpha": 0.0}, "alpha"),
        ({"method": "entropy", "bits": 65.0}, "entropy"), ({"method": "steps", "beams": 0}, "beams and ways"),
        ({"method": "steps", "step_end": ""}, "a step must end"),
        ({"method": "steps", "n": 4}, "--beams 4, such as 8, got 4"),  # one way each chooses nothing
        ({"method": "steps", "n": 10, "beams": 3}, "--beams 3, such as 9, got 10"),
        ({"method": "reflect", "n": 1}, "2 answers or more, got 1"),
        ({"method": "reflect", "raw": True}, "drop --raw"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=line):
            way(**settings)  # type: ignore[arg-type]
    for settings in ({"n": 1}, {"n": 256}, {"method": "reflect", "n": 2}, {"raw": True}):
        way(**settings)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="no rule of extraction"):
        Thought(extract="nubmer")


def said(*answers: str | None, trouble: str = "") -> list[ReasoningPath]:
    return [ReasoningPath(i, (), f" {a} ", a, "eot", trouble=trouble) for i, a in enumerate(answers)]


def chosen(
    how: Reasoning, paths: list[ReasoningPath], session: Any = None, seed: int = 0
) -> tuple[VoteOutcome, list[str]]:
    heard: list[str] = []
    return how.choose(session, paths, "q?", seed, lambda path, line: heard.append(f"{path.branch} {line}")), heard


def test_a_search_takes_its_first_answer_and_a_reflection_its_last() -> None:
    for method, answer, branch in (("steps", "1", 1), ("reflect", "3", 3)):
        outcome, _ = chosen(way(method, raw=False), said(None, "1", "2", "3", None))
        assert outcome.answer == answer and outcome.chosen is not None and outcome.chosen.branch == branch
        assert outcome.votes == {"1": 1.0, "2": 1.0, "3": 1.0}
        nothing, _ = chosen(way(method), said(None))
        assert nothing.answer is None and nothing.chosen is None


def test_a_vote_is_by_its_seed_and_weights_and_troubles_are_told() -> None:
    tied = said("1", "2")
    for seed in range(6):
        assert chosen(way(), tied, seed=seed)[0] == by_vote(tied, seed=seed)
    steps = [replace(path, steps=(step([p, 1 - p]),)) for path, p in zip(tied, (0.5, 0.25), strict=True)]
    assert chosen(way(weigh=scorer("mean")), steps)[0].votes == {"1": 1.0, "2": pytest.approx(0.5)}
    assert chosen(way(), said("1", None, trouble="slow"))[1] == ["0 slow", "1 slow"]


def test_the_best_is_judged_by_a_program_or_by_tokens() -> None:
    def program(question: str, text: str, *, answer: str | None) -> float:
        assert question == "q?" and text == f" {answer} "
        if answer == "9":
            raise VerifierError("no verdict")
        return float(answer or 0)

    outcome, heard = chosen(way("best", verifier=program), said("9", "1", "5", None))
    assert outcome.answer == "5" and outcome.scores == (None, 1.0, 5.0, None) and heard == ["0 no verdict"]
    likely = [
        ReasoningPath(i, (step([p, 1 - p]),) * n, "", str(i), "eot") for i, (p, n) in enumerate(((0.6, 1), (0.7, 3)))
    ]
    assert chosen(way("best"), likely)[0].answer == "1"  # by the mean, the sum says otherwise
    assert chosen(way("best", weigh=scorer("logprob")), likely)[0].answer == "0"


def test_belief_needs_first_tokens_that_tell_yes_from_no() -> None:
    for forms in ({"yes": 1, "no": 1}, {"no": 1, "No": 2}, {"yes": 1, "Yes": 2}):
        words = {w: forms.get(w, 1) for w in ("yes", "Yes", " yes", " Yes", "no", "No", " no", " No")}

        class Few(Plain):
            table = words

            def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
                return [self.table.get(text, 5), 7]

        session = SimpleNamespace(tokenizer=Few(), logits_after=lambda ids: np.zeros(9))
        with pytest.raises(ParameterError, match="take another scorer"):
            p_true(session, "q", "a")  # type: ignore[arg-type]


def attempt(right: str, greedy: str | None, *answers: str | None, answer: str | None = None, tokens: int = 1) -> Any:
    steps = (step([0.5, 0.5]),) * tokens
    paths = tuple(ReasoningPath(i, steps, "", a, "eot") for i, a in enumerate(answers))
    return problems.Attempt(
        Question("q?", (right,)), ReasoningPath(0, steps[:1], "", greedy, "eot"), VoteOutcome(answer, {}, paths, None)
    )


def test_the_gain_of_scripted_attempts() -> None:
    """Four problems, four paths each: the curve has every power of two and the whole, by pass@k and maj@k."""
    found = [
        attempt("1", "1", "1", "1", "1", "2", answer="1", tokens=2), attempt("1", "2", "1", "2", "2", None, answer="2"),
        attempt("1", None, "1", "1", "3", "3", answer="1"), attempt("1", "1", None, None, "2", "2", "1", answer="2"),
    ]  # fmt: skip
    gain = problems.gain(found)
    assert (gain.greedy.mean, gain.method.mean, gain.change.estimate.mean) == (0.5, 0.5, 0.0) and gain.p == 4
    assert gain.greedy_tokens == 1 and gain.tokens == (8 + 4 + 4 + 5) / 4 and gain.unanswered == 3
    assert gain.plurality == 0.25 and gain.flips is None
    assert [s.paths for s in gain.curve] == [1, 2, 4] and [s.tokens for s in gain.curve] == [1.25, 2.5, 5.0]
    assert [s.one.mean for s in gain.curve] == pytest.approx([
        (3 / 4 + 1 / 4 + 2 / 4 + 1 / 5) / 4, (1 + 1 / 2 + 5 / 6 + 2 / 5) / 4, (1 + 1 + 1 + 4 / 5) / 4,
    ])  # fmt: skip
    for spent in gain.curve:
        votes = [problems.maj_at(spent.paths, each.answers(), "right") for each in found]
        assert spent.vote.mean == pytest.approx(np.mean(votes))
    flipped = problems.gain(
        [attempt("1", "1", "1", "2"), attempt("1", "1", "2", None, "1"), attempt("1", "1", None)], "reflect"
    )
    assert flipped.flips == flips([(True, False), (False, True)])
