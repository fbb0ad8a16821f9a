"""Questions to a model in training, what has moved since its base, and how both are shown; scripted events."""

import math
from dataclasses import replace

import numpy as np
import pytest

from app.requests import TrainingPlan
from app.tui.chat.candidates import LN2, Candidate, Names
from app.tui.theme import GLYPHS
from app.tui.tokens.block import ShownToken
from app.tui.tokens.layout import TokenPlace
from app.tui.training import drift
from app.tui.training.answers import Answers
from app.tui.training.probes import NOT_YET, Probes
from engine.evaluate.difference import Difference, Position, Shift
from engine.trace.observe import observe
from engine.trace.trace import Recipe, TokenStep
from engine.tune.control import Compare, Compared, Complete, Completion, Ended, Refused, Request, Validated

PIECES = (b"a", b" b", "日".encode()[:2], "日".encode()[2:], b"\n", b" sky", b" red")
NAMES = Names(PIECES)
VALID = Validated(10, 2.0, 1.9, 2.1, True, 0.0)


def shift(token: int, before: float, now: float) -> Shift:
    return Shift(token, math.log(before), math.log(now))


def position(token: int, kl: float = 0.0, likely: tuple[Shift, ...] = ()) -> Position:
    return Position(token, kl, (2 * LN2, 1.5 * LN2), None, (0, 0), (), (), likely)


def compared(request: Compare, *positions: Position, step: int = 30) -> Compared:
    return Compared(step, request, Difference(("base", "now"), positions), {})


PLACES = (
    position(0, 2 * LN2, (shift(5, 0.5, 0.25), shift(1, 0.125, 0.5), shift(6, 0.25, 0.25))),
    position(1, 0.5 * LN2, tuple(shift(n % 7, 0.9 / (n + 1), 0.01 + n / 99) for n in range(12))),
    position(2, 0.0, (shift(6, 0.5, 0.5),)),
)


# -- drift ------------------------------------------------------------------------------------------------------------


def test_a_token_is_seen_with_what_it_was_predicted_from() -> None:
    difference = Difference(("base", "now"), PLACES)
    first = drift.view(difference, 0, NAMES)
    assert (first.title, first.name, first.numbers, first.rows, first.live) == (
        "TOKEN",
        "a",
        "nothing before it",
        (),
        True,
    )
    second = drift.view(difference, 1, NAMES, live=False)
    assert (second.title, second.name, second.numbers, second.live) == ("TOKEN", "·b", "KL 2.000 bits", False)
    assert [(r.token, r.name, r.chosen) for r in second.rows] == [
        (1, "·b", True), (5, "·sky", False), (6, "·red", False),
    ]  # fmt: skip
    assert [(r.before, r.after) for r in second.rows] == [
        pytest.approx((0.125, 0.5)), pytest.approx((0.5, 0.25)), pytest.approx((0.25, 0.25)),
    ]  # fmt: skip
    assert second.summary(GLYPHS) == "entropy 2.0 → 1.5 bits" and second.words == second.summary(GLYPHS)
    assert second.exact and (second.vocab, second.kept, second.mass, second.cut_by) == (0, (0, 0), (0.0, 0.0), "")
    after = drift.view(difference, 3, NAMES)
    assert (after.title, after.name, after.numbers, after.live) == ("NEXT", "", "KL 0.000 bits", True)
    assert not any(row.chosen for row in after.rows)
    nothing = drift.view(Difference(("base", "now"), ()), 0, NAMES)
    assert (nothing.title, nothing.numbers) == ("NEXT", "nothing before it")
    assert (drift.NOTHING.title, drift.NOTHING.live, drift.NOTHING.rows) == ("NEXT", False, ())


def test_the_most_likely_before_or_now_are_shown_by_what_they_are_now() -> None:
    rows = drift.view(Difference(("base", "now"), PLACES), 2, NAMES).rows
    assert len(rows) == 10
    larger = sorted((max(0.9 / (n + 1), 0.01 + n / 99) for n in range(12)), reverse=True)[:10]
    assert sorted((max(r.before, r.after or 0) for r in rows), reverse=True) == pytest.approx(larger)
    now = [r.after or 0 for r in rows]
    assert now == sorted(now, reverse=True)


def test_the_heat_of_a_text_lies_on_what_was_predicted_otherwise() -> None:
    request = Compare("a text")
    made = drift.block(compared(request, *PLACES, step=1200), NAMES, "held out")
    assert (made.key, made.who, made.scored) == ("held out", "held out", True)
    assert made.note == "mean KL 0.833 bits · step 1,200"
    assert [(t.text, t.level) for t in made.tokens] == [("a", 0), (" b", 3), ("�", 2), (" …", 0)]


def test_a_row_is_shown_as_the_model_sees_it() -> None:
    row = ((0, False), (1, True), (2, True), (3, True), (4, False))
    made = drift.row(TrainingPlan((), "m", "out", 4, vocabulary=PIECES, row=row))
    assert (made.key, made.who) == ("row", "row") and made.scored and made.specials
    assert made.note == "as the model sees it · 3 of 5 tokens are trained: tinted"
    assert [(t.text, t.level) for t in made.tokens] == [("a", 0), (" b", 3), ("", 3), ("日", 3), ("\n", 0)]
    assert drift.text((), NAMES) == [] and drift.text((2, 0), NAMES) == ["", "�a"]


# -- answers ----------------------------------------------------------------------------------------------------------


def step(token: int, logprob: float | None = -LN2, *, at: int = 3, special: bool = False) -> TokenStep:
    raw = np.array([0.0, 1.0, 2.0, 3.0, 0.5, 0.25, 0.125], np.float32)
    found = observe(raw, token, recipe=Recipe(greedy=True), position=at, origin="drawn")
    return replace(
        found, piece=PIECES[token], text=PIECES[token].decode(errors="replace"), logprob=logprob, special=special
    )


def answer(text: str, at: int, *steps: TokenStep, base: bool = False, reason: str = "eot") -> Completion:
    return Completion(at, Complete(text, base=base), steps, reason)


def test_a_question_stands_once_over_its_answers() -> None:
    it = Answers()
    assert it.blocks() == [] and it.asked is None
    it.take(answer("one two", 1200, step(5), step(6, -3 * LN2, special=True)))
    it.take(answer("one two", 1200, base=True, reason="length"))
    it.take(answer("other", 7, step(0, None)))
    it.take(answer("one two", 8, step(0)))
    blocks = it.blocks()
    assert [(b.key, b.who, b.note) for b in blocks] == [
        ("asked one two", "you", ""),
        ("answer 1200 model", "model", "step 1,200 · 2 tok · ppl 4.0"),  # 2 bits in the mean
        ("answer 1200 base", "base", "before training · 0 tok · cut at the limit"),
        ("asked other", "you", ""),
        ("answer 7 model", "model", "step 7 · 1 tok"),
        ("asked one two", "you", ""),
        ("answer 8 model", "model", "step 8 · 1 tok · ppl 2.0"),
    ]
    assert [b.scored for b in blocks] == [False, True, True, False, True, False, True]
    assert blocks[0].tokens == [ShownToken("one", given=True), ShownToken(" two", given=True)]
    assert blocks[1].tokens == [ShownToken(" sky", 0), ShownToken(" red", 1, True)]


def test_the_last_fifty_answers_are_looked_back_on() -> None:
    it = Answers()
    for number in range(52):
        it.take(answer("a", number))
    assert [drawn.step for drawn in it.drawn] == list(range(2, 52))


def test_a_token_of_an_answer_has_the_candidates_it_was_drawn_from() -> None:
    it = Answers()
    it.take(answer("a", 1, step(5), step(3)))
    found = it.view(TokenPlace(1, 1), NAMES)
    assert (
        found is not None
        and found.title == "TOKEN"
        and [row.token for row in found.rows if row.chosen] == [3]
        and not found.live
    )
    assert found.rows[0].token == 3  # the most likely
    for place in (TokenPlace(0, 0), TokenPlace(1, 2), TokenPlace(2, 0), TokenPlace(9, 0)):
        assert it.view(place, NAMES) is None
    assert it.view(TokenPlace(1, 0), NAMES) is not None


# -- probes -----------------------------------------------------------------------------------------------------------

PLAN = TrainingPlan((), "m", "out", 40, prompts=("why", "what"), chat=False, vocabulary=PIECES)
WHY, WHAT, HELD = Compare("why", False, 10), Compare("what", False, 10), Compare("", False, 10)


def probes(**more: object) -> tuple[Probes, list[Request]]:
    sent: list[Request] = []
    return Probes(sent.append, **more), sent  # type: ignore[arg-type]


def test_a_run_is_looked_at_when_it_begins_at_validations_and_at_its_end() -> None:
    it, sent = probes()
    assert (it.base, it.at, it.chat, it.always, it.text) == (True, 0, True, False, HELD)
    it.take(PLAN)
    assert sent == [WHY, HELD] and it.pending == {WHY, HELD} and not it.chat and it.prompts == [WHY, WHAT]
    assert it.names.pieces == PIECES
    it.take(VALID)
    assert sent == [WHY, HELD]  # once, until they are answered
    it.take(compared(WHY, *PLACES))
    assert it.pending == {HELD} and it.found[WHY].step == 30
    it.take(Refused(3, HELD, "no"))
    assert it.pending == set() and HELD not in it.found
    it.take(VALID)
    assert sent == [WHY, HELD] * 2
    it.pending.clear()
    it.take(Ended("done", 40))
    assert sent == [WHY, HELD] * 3
    baseless, sent = probes(base=False)
    for event in (PLAN, VALID, Ended("done", 40)):
        baseless.take(event)
    assert sent == []


def test_a_question_is_asked_again_when_told_or_at_every_validation() -> None:
    it, sent = probes(base=False)
    it.take(PLAN)
    assert not it.repeat() and not it.repeat(base=True) and sent == []
    it.question("one")
    asked = Complete("one", chat=False)
    assert sent == [asked] and it.answers.asked == asked
    assert it.repeat() and sent == [asked]  # it is not answered yet
    assert it.repeat(base=True) and sent == [asked, replace(asked, base=True)]
    it.take(Completion(3, asked, (), "eot"))
    assert it.pending == {replace(asked, base=True)} and [d.request for d in it.answers.drawn] == [asked]
    it.take(VALID)
    assert sent[2:] == []
    it.always = True
    it.take(VALID)
    assert sent[2:] == [asked]


def test_prompts_and_the_text_are_chosen() -> None:
    it, sent = probes()
    it.turn(1)
    assert it.at == 0 and sent == []
    it.take(PLAN)
    sent.clear()
    it.turn(1)
    assert it.at == 1 and sent == [WHAT]
    it.pending.clear()
    it.found[WHY] = compared(WHY, *PLACES)
    it.turn(1)
    assert it.at == 0 and sent == [WHAT]  # it is known
    it.turn(-1)
    assert it.at == 1 and sent == [WHAT, WHAT]
    it.pending.clear()
    it.watch("other")
    other = Compare("other", False, 10)
    assert it.at == 2 and it.prompts == [WHY, WHAT, other] and sent[2:] == [other, HELD]
    it.pending.clear()
    it.hold("a text")
    assert it.text == Compare("a text", False, 10) and sent[4:] == [other, it.text]
    it.pending.clear()
    it.reframe()
    assert it.chat and [p.chat for p in it.prompts] == [True] * 3 and sent[6:] == [replace(other, chat=True), it.text]
    it.reframe()
    assert not it.chat and [p.chat for p in it.prompts] == [False] * 3


def test_what_is_seen_is_under_a_cursor_or_follows_the_prompt() -> None:
    it, _ = probes()
    nothing = it.outlook(None, None)
    assert (nothing.what, nothing.before, nothing.step, nothing.pending, nothing.view) == (
        "", NOT_YET, None, False, drift.NOTHING,
    )  # fmt: skip
    assert it.block() is None and it.along is None
    it.take(PLAN)
    waits = it.outlook(None, None)
    assert (waits.before, waits.pending) == ("", True)
    it.take(compared(HELD, *PLACES, step=31))
    after = it.outlook(None, None)
    assert (after.what, after.before, after.step, after.pending) == ("after the text", "", 31, False)
    assert after.view is not None and after.view.title == "NEXT" and after.view.live
    it.take(compared(WHY, *PLACES[:1], step=32))
    prompt = it.outlook(None, None)
    assert (prompt.what, prompt.before, prompt.step, prompt.pending) == ("prompt 1/2", "why", 32, False)
    assert prompt.view is not None and prompt.view.title == "NEXT" and prompt.view.numbers == "KL 2.000 bits"
    it.look()
    assert it.outlook(None, None).pending
    along = it.outlook(TokenPlace(0, 1), None)
    assert (along.what, along.before, along.step, along.pending) == ("along the text", "a", 31, True)
    assert along.view is not None and (along.view.name, along.view.live) == ("·b", False)
    it.take(Completion(4, Complete("one", chat=False), (step(5),), "eot"))
    drawn = it.outlook(TokenPlace(0, 1), TokenPlace(1, 0))
    assert (drawn.what, drawn.before, drawn.step, drawn.pending) == ("answer", "as the model drew it", None, False)
    assert drawn.view is not None and drawn.view.name == "·sky"
    block = it.block()
    assert block is not None and block.who == "held out"
    it.text = Compare("mine", False, 10)
    it.found[it.text] = compared(it.text, *PLACES)
    block = it.block()
    assert block is not None and block.who == "text"
    assert isinstance(drawn.view.rows[0], Candidate)
