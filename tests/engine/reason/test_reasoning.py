"""Ways of thinking over a scripted session: what is asked of it, with which seeds, and what becomes of what it says."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.decode.control import RunControl
from engine.decode.entropy_branching import EntropyBranching
from engine.decode.events import Done, Emitted, Event, Forked, Rated, Stats
from engine.decode.power import Power
from engine.errors import ParameterError
from engine.evaluate.extraction import Extraction
from engine.evaluate.program import VerifierError
from engine.evaluate.tasks import Question
from engine.prompt import Prompt
from engine.reason import chains, problems
from engine.reason.belief import p_true
from engine.reason.paths import Path, VoteOutcome, by_vote
from engine.reason.reasoning import Reasoning
from engine.reason.reflection import CHECK, again, ends, flips
from engine.reason.scorers import scorer
from engine.reason.thought import Thought
from engine.trace.trace import Recipe
from tests.engine.reason.test_vote import step
from tests.fakes import ByteTokenizer

STATS = Stats(1, 0, 1, 0.0, 0.0)


class Plain(ByteTokenizer):
    """Of a model without a chat template."""

    chat_template = None


class Script:
    """A session that says, of each branch of a run, the next of these texts, and remembers what it was asked."""

    def __init__(self, *texts: str, tokenizer: Any = None) -> None:
        self.texts, self.asked = list(texts), list[dict[str, Any]]()
        self.tokenizer = tokenizer or ByteTokenizer()

    def generate(self, ids: Sequence[int], control: RunControl, *, n: int = 1, **more: Any) -> Iterator[Event]:
        self.asked.append({"ids": bytes(ids).decode(), "n": n, "greedy": control.recipe.greedy, **more})
        for branch in range(n):
            text = self.texts.pop(0)
            for i, letter in enumerate(text):
                yield Emitted(branch, replace(step([0.5, 0.5]), text=letter, piece=letter.encode(), position=i))
            yield Done(branch, "cancelled" if control.cancelled else "eot", STATS)


def way(method: str = "vote", n: int = 2, **more: Any) -> Reasoning:
    return Reasoning(Thought(), more.pop("extract", Extraction("number")), method, n, **more)


def drawn(how: Reasoning, session: Any, control: RunControl | None = None, seed: int = 10) -> list[Path]:
    return list(how.draw(session, list(b"q?"), control or RunControl(), seed, "q?"))


# -- what a session is asked -------------------------------------------------------------------------------------------


def test_paths_are_drawn_side_by_side() -> None:
    session = Script("1", "2", "3")
    paths = drawn(way(n=3, max_tokens=7, stop=(";",)), session)
    assert [(p.branch, p.answer) for p in paths] == [(0, "1"), (1, "2"), (2, "3")]
    assert session.asked == [
        {"ids": "q?", "n": 3, "greedy": False, "seed": 10, "max_tokens": 7, "stop": (";",), "strategy": None}
    ]


def test_the_second_half_follows_the_first_where_hopeless_paths_are_given_up() -> None:
    for n, first, second in ((5, 3, 2), (4, 2, 2), (2, 1, 1)):
        session = Script(*map(str, range(n)))
        paths = drawn(way(n=n, hopeless=0.5), session)
        assert [(p.branch, p.answer) for p in paths] == [(i, str(i)) for i in range(n)]
        assert [(a["n"], a["seed"]) for a in session.asked] == [(first, 10), (second, 10 + first)]
    one = Script("1")
    assert len(drawn(way(n=1, hopeless=0.5), one)) == 1 and len(one.asked) == 1
    cut, control = Script("1", "2", "3", "4"), RunControl()
    control.cancel()
    assert [p.finish for p in drawn(way(n=4, hopeless=0.5), cut, control)] == ["cancelled"] * 2


def test_only_a_vote_is_decided_before_its_end() -> None:
    for method, stopped in (("vote", True), ("best", False)):
        control = RunControl()
        drawn(way(method, 9, confidence=0.9), Script(*"1" * 9), control)
        assert control.cancelled == stopped


def test_powers_are_drawn_one_after_another_and_branches_as_one() -> None:
    session = Script("1", "2", "3")
    paths = drawn(way("power", 3, alpha=2.5), session)
    assert [(p.branch, p.answer) for p in paths] == [(0, "1"), (1, "2"), (2, "3")]
    assert [(a["n"], a["seed"], a["strategy"]) for a in session.asked] == [(1, 10 + i, Power(2.5)) for i in range(3)]
    one = Script("4")
    drawn(way("entropy", 3, bits=1.5), one)
    assert [(a["n"], a["seed"], a["strategy"]) for a in one.asked] == [(1, 10, EntropyBranching(3, bits=1.5))]


def test_events_that_are_of_no_branch_stay_as_they_are() -> None:
    session = Script()
    events = [Forked(0, 1), Rated(0, {"score": 1.0}), Done(0, "eot", STATS)]
    session.generate = lambda *_, **__: iter(events)  # type: ignore[method-assign]
    found = list(way("power", 2)._events(session, [1], RunControl(), 0, 2))  # type: ignore[arg-type]
    assert found == [*events, Forked(0, 1), replace(events[1], branch=1), replace(events[2], branch=1)]  # type: ignore[type-var]


def test_a_question_is_asked_through_the_template_or_as_it_is() -> None:
    asked = Reasoning(Thought(before="Q: ", system="be"), Extraction("all"))
    assert bytes(asked.ids(Script(), "a?")).decode() == "s:be;u:Q: a?;a:"  # type: ignore[arg-type]
    assert bytes(asked.ids(Script(tokenizer=Plain()), "a?")).decode() == "be\n\nQuestion: Q: a?\nAnswer:"  # type: ignore[arg-type]
    assert bytes(replace(asked, raw=True).ids(Script(), "a?")).decode() == "a?"  # type: ignore[arg-type]


def test_once_is_a_plain_answer() -> None:
    full = way("best", 8, confidence=0.9, hopeless=0.5, verifier=object(), weigh=scorer("tail"), max_tokens=3)
    assert full.once == way("vote", 1, weigh=scorer("tail"), max_tokens=3)


def test_settings_out_of_range_are_refused() -> None:
    for settings, line in (
        ({"n": 0}, r"in \[1, 256\], got 0"), ({"n": 257}, "got 257"), ({"method": "power", "alpha": 0.0}, "alpha"),
        ({"method": "entropy", "bits": 65.0}, "entropy"), ({"method": "steps", "beams": 0}, "beams and ways"),
        ({"method": "steps", "step_end": ""}, "a step must end"),
        ({"method": "reflect", "n": 1}, "2 answers or more, got 1"),
        ({"method": "reflect", "raw": True}, "drop --raw"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=line):
            way(**settings)  # type: ignore[arg-type]
    for settings in ({"n": 1}, {"n": 256}, {"method": "reflect", "n": 2}, {"raw": True}):
        way(**settings)  # type: ignore[arg-type]
    plain = Reasoning(Thought(), Extraction("all"))
    assert plain == Reasoning(
        Thought(), Extraction("all"), "vote", 16, None, None, None, None, 4.0, 512, (), False, False, 4, "\n", 3.0
    )
    with pytest.raises(ParameterError, match="no rule of extraction"):
        Thought(extract="nubmer")


def test_a_search_shares_its_ways_among_its_beams() -> None:
    for n, beams, ways in ((16, 4, 4), (7, 2, 3), (3, 4, 1)):
        found = way("steps", n, beams=beams, step_end=";", max_tokens=9, stop=("x",))._search()
        assert (found.beams, found.ways, found.end, found.max_tokens, found.stop) == (beams, ways, ";", 9, ("x",))


# -- what is chosen ----------------------------------------------------------------------------------------------------


def said(*answers: str | None, trouble: str = "") -> list[Path]:
    return [Path(i, (), f" {a} ", a, "eot", trouble=trouble) for i, a in enumerate(answers)]


def chosen(how: Reasoning, paths: list[Path], session: Any = None, seed: int = 0) -> tuple[VoteOutcome, list[str]]:
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
    asked: list[Any] = []

    def program(question: str, text: str, *, answer: str | None) -> float:
        asked.append((question, text, answer))
        if answer == "9":
            raise VerifierError("no verdict")
        return float(answer or 0)

    outcome, heard = chosen(way("best", verifier=program), said("9", "1", "5", None))
    assert outcome.answer == "5" and outcome.scores == (None, 1.0, 5.0, None) and heard == ["0 no verdict"]
    assert asked == [("q?", " 9 ", "9"), ("q?", " 1 ", "1"), ("q?", " 5 ", "5")]
    likely = [Path(i, (step([p, 1 - p]),) * n, "", str(i), "eot") for i, (p, n) in enumerate(((0.6, 1), (0.7, 3)))]
    assert chosen(way("best"), likely)[0].answer == "1"  # by the mean, the sum says otherwise
    assert chosen(way("best", weigh=scorer("logprob")), likely)[0].answer == "0"


# -- belief and reflection ---------------------------------------------------------------------------------------------


def test_belief_asks_by_the_template_where_there_is_one() -> None:
    asked: list[str] = []
    rows = np.full(258, -30.0)
    rows[[ord("Y"), ord("n")]] = np.log([0.3, 0.1])

    def session(tokenizer: Any) -> Any:
        def logits_after(ids: list[int]) -> np.ndarray:
            asked.append(bytes(ids).decode())
            return rows.astype(np.float32)

        return SimpleNamespace(tokenizer=tokenizer, logits_after=logits_after)

    assert p_true(session(ByteTokenizer()), "1+1?", "2") == pytest.approx(0.75, abs=1e-6)
    assert p_true(session(Plain()), "1+1?", "2") == pytest.approx(0.75, abs=1e-6)
    text = "Question: 1+1?\nProposed answer: 2\nIs the proposed answer right? Say Yes or No."
    assert asked == [f"u:{text};a:", f"{text}\nReply:"]


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


def test_a_reflection_shows_all_that_was_said() -> None:
    asks = Thought(after="!", system="be")
    turns = again(asks, "q?", ["one", "two"], chat=True)
    check = ("user", CHECK + "!")
    assert turns == Prompt((("user", "q?!"), ("assistant", "one"), check, ("assistant", "two"), check), system="be")
    text = again(asks, "q?", [" one ", "two"], chat=False)
    assert text.turns == () and text.parts == (
        f"be\n\nQuestion: q?!\nAnswer: one\n\n{CHECK}\nAnswer: two\n\n{CHECK}\nAnswer:",
    )
    session = Script("5", "6", "7")
    paths = list(way("reflect", 3).draw(session, list(b"u:q?;a:"), RunControl(), 4, "q?"))  # type: ignore[arg-type]
    assert [(p.branch, p.answer) for p in paths] == [(0, "5"), (1, "6"), (2, "7")]
    assert [a["seed"] for a in session.asked] == [4, 5, 6] and {a["n"] for a in session.asked} == {1}
    assert session.asked[2]["ids"] == f"u:q?;a:5;u:{CHECK};a:6;u:{CHECK};a:"
    base = Script("5", "6", tokenizer=Plain())
    list(way("reflect", 2).draw(base, list(b"q"), RunControl(), 0, "q?"))  # type: ignore[arg-type]
    assert base.asked[1]["ids"] == f"Question: q?\nAnswer: 5\n\n{CHECK}\nAnswer:"
    control = RunControl()
    stopped = way("reflect", 3).draw(Script("1", "2"), [1], control, 0, "q?")  # type: ignore[arg-type]
    next(stopped)
    control.cancel()
    assert list(stopped) == []


def test_flips_and_ends() -> None:
    found = flips([(True, False)] * 3 + [(False, True)] * 2 + [(True, True), (False, False)])
    assert (found.right_to_wrong, found.wrong_to_right, found.kept) == (3, 2, 2)
    assert [p.answer for p in ends(said(None, "1", "2", "3", None))] == ["1", "3"]
    assert [p.answer for p in ends(said("1"))] == ["1", "1"] and list(ends(said(None))) == []


# -- problems and chains -----------------------------------------------------------------------------------------------


def attempt(right: str, greedy: str | None, *answers: str | None, answer: str | None = None, tokens: int = 1) -> Any:
    steps = (step([0.5, 0.5]),) * tokens
    paths = tuple(Path(i, steps, "", a, "eot") for i, a in enumerate(answers))
    return problems.Attempt(
        Question("q?", (right,)), Path(0, steps[:1], "", greedy, "eot"), VoteOutcome(answer, {}, paths, None)
    )


def test_an_answer_is_right_in_its_one_form() -> None:
    one = attempt("7.0", None, "7", "8", None, "7", answer="7")
    assert one.known == {"7"} and one.solved and one.answers() == ["right", "8", None, "right"]
    assert not one.right(one.greedy) and one.right(one.outcome.paths[0]) and not one.right(one.outcome.paths[1])
    assert not attempt("7", "7", answer="8").solved and not attempt("7", "7", answer=None).solved
    assert one.plurality and not attempt("7", None, "7", "8").plurality and not attempt("7", None, "8", None).plurality


def test_the_gain_of_scripted_attempts() -> None:
    """Four problems, four paths each: the curve has every power of two and the whole, by pass@k and maj@k."""
    found = [
        attempt("1", "1", "1", "1", "1", "2", answer="1", tokens=2),
        attempt("1", "2", "1", "2", "2", None, answer="2"),
        attempt("1", None, "1", "1", "3", "3", answer="1"),
        attempt("1", "1", None, None, "2", "2", "1", answer="2"),
    ]
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
    assert [s.paths for s in problems.gain(found[1:3] * 2).curve] == [1, 2, 4]
    assert [s.paths for s in problems.gain([attempt("1", "1", *"123456")]).curve] == [1, 2, 4, 6]
    for method in ("entropy", "steps", "reflect"):
        assert problems.gain(found, method).curve == ()
    for method in ("vote", "best", "power"):
        assert len(problems.gain(found, method).curve) == 3
    gone = replace(found[0].outcome.paths[0], finish="cancelled")
    cut = replace(found[0], outcome=replace(found[0].outcome, paths=(gone, *found[0].outcome.paths[1:])))
    assert problems.gain([cut, *found[1:]]).curve == ()
    flipped = problems.gain(
        [attempt("1", "1", "1", "2"), attempt("1", "1", "2", None, "1"), attempt("1", "1", None)], "reflect"
    )
    assert flipped.flips == flips([(True, False), (False, True)])


def test_each_problem_draws_with_seeds_of_its_own() -> None:
    session = Script("1", "1", "2", "3", "4", "5")
    control = RunControl(Recipe())
    asked = [Question("a?", ("1",)), Question("b?", ("5",))]
    found = list(problems.attempt(session, asked, way(n=2, raw=True), control, 7, lambda path, line: None))  # type: ignore[arg-type]
    assert [(a["ids"], a["seed"], a["greedy"], a["n"]) for a in session.asked] == [
        ("a?", 7, True, 1), ("a?", 7, False, 2), ("b?", 7, True, 1), ("b?", 9, False, 2),
    ]  # fmt: skip
    assert [[p.answer for p in each.outcome.paths] for each in found] == [["1", "2"], ["4", "5"]]
    assert [each.greedy.answer for each in found] == ["1", "3"] and found[0].outcome == by_vote(
        found[0].outcome.paths, seed=7
    )
    assert found[1].outcome == by_vote(found[1].outcome.paths, seed=8)


def test_a_problem_that_is_stopped_ends_its_run_and_is_left_out() -> None:
    session = Script("1", "1", "2", "3", "4")
    control, seen = RunControl(Recipe()), list[bool]()

    def generate(ids: Sequence[int], own: RunControl, *, n: int = 1, **more: Any) -> Iterator[Event]:
        for event in Script.generate(session, ids, own, n=n, **more):
            yield event
            seen.append(own.cancelled)
            if isinstance(event, Done) and n > 1:
                control.cancel()

    session.generate = generate  # type: ignore[method-assign]
    asked = [Question("a?", ("1",))] * 2
    assert list(problems.attempt(session, asked, way(n=3, raw=True), control, 0, lambda path, line: None)) == []  # type: ignore[arg-type]
    assert seen == [False] * 5 + [True] * 3


def test_a_search_by_steps_asks_the_program_for_whole_texts_answers() -> None:
    from tests.engine.reason.test_step_beam import Table

    asked: list[Any] = []

    def program(question: str, text: str, *, answer: str | None) -> float:
        asked.append((question, text, answer))
        if text == "5":
            raise VerifierError(f"no verdict {len(asked)}")
        return float(text.count("4"))

    table = Table({"": [("4\n", "stop"), ("5", "eot")], "4\n": [("6", "eot"), ("44", "eot")]})
    how = way("steps", 2, beams=1, verifier=program, max_tokens=9)
    paths = list(how.draw(table, list(b"?"), RunControl(), 0, "q?"))  # type: ignore[arg-type]
    assert [(p.text, p.answer, p.trouble) for p in paths] == [("4\n44", "44", "no verdict 1")]
    assert asked == [("q?", "5", "5"), ("q?", "4\n", None), ("q?", "4\n44", "44"), ("q?", "4\n6", "6")]


def test_belief_chooses_the_best_by_the_answer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr("engine.reason.reasoning.p_true", lambda *given: heard.append(given) or float(given[2]))
    outcome, _ = chosen(way("best", believes=True), said("2", "7", "5"), session="s")
    assert outcome.answer == "7" and heard == [("s", "q?", text) for text in ("2", "7", "5")]


def test_chains_are_changed_in_their_middle() -> None:
    chain = ["1+1=2\n", "no\n", "2+2=4 or 5\n", "4+5=9\n"]
    assert chains.changed(chain, "corrupted", ()) == "1+1=2\nno\n2+2=4 or 6\n4+5=9\n"
    assert chains.changed(chain, "cut", ()) == "1+1=2\nno\n" and chains.changed(chain[:3], "cut", ()) == "1+1=2\n"
    assert chains.changed(chain, "exchanged", []) is None and chains.changed(chain, "kept", ["x"]) == "".join(chain)
    assert chains.changed(["9\n"], "corrupted", ()) == "10\n"
    assert chains.changed(["1 2\n", "3 4\n"], "corrupted", ()) == "1 2\n3 5\n"


def test_sensitivity_asks_for_the_rest_of_each_changed_chain() -> None:
    """Of two that are answered in several steps; a third has one step, a fourth no answer."""
    texts = ("1\n2\n7", "3\n4\n8", "5", "6\n7")
    attempts = [
        replace(attempt("7", a), greedy=Path(0, (), text, a, "eot"))
        for text, a in zip(texts, ("7", "8", "5", None), strict=True)
    ]
    session = Script("7", "7", "1", "2", "8", "1", "8", "1")
    shares = chains.sensitivity(session, way(raw=True, n=4), attempts)  # type: ignore[arg-type]
    assert [a["ids"] for a in session.asked] == [
        "q?1\n2\n", "q?1\n", "q?1\n3\n", "q?3\n4\n", "q?3\n4\n", "q?3\n", "q?3\n5\n", "q?1\n2\n",
    ]  # fmt: skip
    assert all(a["greedy"] and a["n"] == 1 and a["seed"] == 0 for a in session.asked)
    assert {how: (s.mean, s.n) for how, s in shares.items()} == {
        "kept": (0.0, 2), "cut": (0.5, 2), "corrupted": (0.5, 2), "exchanged": (1.0, 2),
    }  # fmt: skip


def test_a_chain_of_one_step_and_an_answer_is_asked_about() -> None:
    one = replace(attempt("7", "7"), greedy=Path(0, (), "4\n7", "7", "eot"))
    session = Script("7", "7", "5")
    shares = chains.sensitivity(session, way(raw=True), [one])  # type: ignore[arg-type]
    assert [a["ids"] for a in session.asked] == ["q?4\n", "q?", "q?5\n"]
    assert {how: (s.mean, s.n) for how, s in shares.items() if s.n} == {
        "kept": (0.0, 1), "cut": (0.0, 1), "corrupted": (1.0, 1),
    }  # fmt: skip


def test_the_first_wrong_step_is_that_of_the_first_verdict_below_a_half() -> None:
    judged: list[str] = []

    def judge(text: str) -> float:
        judged.append(text)
        return 0.5 if len(judged) < 3 else 0.49

    assert chains.first_wrong("a\nb\nc\nd", judge) == 2 and judged == ["a\n", "a\nb\n", "a\nb\nc\n"]
    asked: list[Any] = []

    def verifier(prompt: str, text: str, **more: Any) -> float:
        asked.append((prompt, text, more))
        if text == "x":
            raise VerifierError("no verdict")
        return float(text != "a\nb")

    one = replace(attempt("7", "7"), greedy=Path(0, (), "a\nb", "7", "eot"))
    heard: list[str] = []
    counts = chains.first_wrong_steps(
        [one, replace(one, greedy=Path(0, (), "x", "1", "eot")), replace(one, greedy=Path(0, (), "ok", "2", "eot"))],
        verifier, lambda path, line: heard.append(f"{path.text}: {line}"),
    )  # type: ignore[arg-type]  # fmt: skip
    assert counts == {1: 1, None: 1} and heard == ["x: no verdict"]
    assert [(text, more["answer"]) for _, text, more in asked] == [
        ("a\n", None),
        ("a\nb", "7"),
        ("x", "1"),
        ("ok", "2"),
    ]
    assert asked[0][0] == "q?" and asked[0][2]["answers"] == ("7",)
