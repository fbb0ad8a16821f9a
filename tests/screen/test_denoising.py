"""A canvas step by step, without a screen: any step looked back at is what a replay of the passes gives."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from likely.app.jobs import requests as r
from likely.app.jobs.requests import CanvasLaid
from likely.app.jobs.worker import Failed
from likely.app.tui.base.text import cells
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.denoising import CanvasCell, Denoising, Retraction, texts, words
from likely.app.tui.chat.inspecting import denoising_layout as layout
from likely.app.tui.chat.inspecting.likelihood_bounds import LikelihoodBounds
from likely.app.tui.views.chatting import diffusing
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.chat.conversation import Fork, Node
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Disagreement, Unmasking, fill

MASK = 9
PIECES = (b"a", b" b", b" c", b"\n", b" \xc3", b"\xa4", b"<eos>", b"dd", b" eeee", b"<mask>")
IDS = (0, 1, *[MASK] * 6, 2, *[MASK] * 6)
LAID = CanvasLaid(IDS, 1, frozenset({6, MASK}))


def facts_of(pieces: tuple[bytes, ...]) -> r.ModelFacts:
    return r.ModelFacts("m", 64, pieces, False, eos=frozenset({6}), mask=MASK)


def passes(how: Unmasking) -> list[DenoisingStep]:
    def predict(ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(ids.tolist())
        found = rng.normal(size=(len(places), MASK + 1)).astype(np.float32)
        found[:, MASK] = -np.inf
        return found

    return list(fill(predict, IDS, MASK, how, SamplingConfig(), seed=5))


def test_every_step_is_what_a_replay_gives_and_a_person_parts_from_any() -> None:
    how = Unmasking(steps=6, block=6, revise=2)
    steps = passes(how)
    canvas = Denoising.of(LAID, MASK, how)
    assert canvas.planned == len(steps) == 10
    for step in steps:
        canvas.add(replace(step, elapsed_s=step.step / 10))
    assert canvas.revised, "nothing was taken back: it shows nothing of revisions"
    ids, when, seen = list(IDS), dict[int, int](), dict[int, tuple[int, float]]()
    for step in steps:
        was = dict[int, int]()
        for mask in step.open:
            seen[mask.position] = int(mask.ids[0]), mask.entropy
        for each in step.unmasked:
            at = each.token.position
            ids[at], when[at] = each.token.token, step.step
            if each.before is not None:
                was[at] = each.before
        assert canvas.ids(step.step) == tuple(ids)
        for cell in canvas.cells(step.step):
            at = cell.position
            token = None if ids[at] == MASK else ids[at]
            assert (cell.token, cell.step, cell.was) == (token, when.get(at), was.get(at))
            if token is None:
                assert (cell.guess, cell.entropy) == seen.get(at, (None, None))
        assert {t.position: t.before for t in canvas.revised if t.step == step.step} == was
    assert sum(canvas.decided) == 12 and canvas.order() == sorted(when.items())
    assert canvas.ids(0) == IDS and canvas.open_entropy(len(steps)) == 0

    other = canvas.parted(4, 3, None)
    assert other.ids(4) == (*canvas.ids(4)[:3], MASK, *canvas.ids(4)[4:]) and canvas.ids(4)[3] != MASK
    assert other.steps == other.offset == 4 and all(isinstance(t, Retraction) and t.step <= 4 for t in other.revised)
    other.go_on(how, 0)
    other.add(DenoisingStep(1, steps[-1].unmasked, (), elapsed_s=1.0))
    assert other.steps == 5 and other.seconds[-1] == 1.4 and other.ids(4)[3] == MASK
    kept = Denoising.of_traces(other.traces(facts_of(PIECES[:8]), "length"))  # of fewer words than the model has rows
    assert all(kept.cells(step) == other.cells(step) for step in range(6)) and kept.seconds == other.seconds
    chosen = canvas.parted(10, 3, 7).cell(3, 10)
    assert chosen == CanvasCell(3, 7, 10, by_person=True) and canvas.cell(3, 10).token != 7

    told = canvas.token_steps(PIECES, SamplingConfig())
    ends = [i for i, token in enumerate(canvas.ids(10)[1:]) if token == 6]
    assert len(told) == (ends[0] + 1 if ends else len(IDS) - 1)
    assert [step.token for step in told] == list(canvas.ids(10)[1 : 1 + len(told)])
    assert told[0].origin == "given" and told[1].logprob is not None
    whole = tuple(replace(step, piece=PIECES[step.token]) for step in told)
    node, facts = Node("n", Fork("u"), "assistant", steps=whole, label=words(how)), facts_of(PIECES)
    kept = Denoising.of_steps(node, facts)
    assert kept is not None and kept.ids(0) == tuple(step.token for step in told) and kept.steps == 0
    assert kept.guesses(1, 0)[0].p >= kept.guesses(1, 0)[1].p > 0
    assert Denoising.of_steps(replace(node, label="T 0.80"), facts) is None  # it was drawn from left to right
    assert Denoising.of_steps(node, facts_of((b"z", *PIECES[1:]))) is None  # by a model with other tokens
    assert Denoising.of_steps(node, facts_of(PIECES[:2])) is None
    stopped = Denoising.of(LAID, MASK, how)
    assert [s.special for s in stopped.token_steps(PIECES, SamplingConfig())] == [token == MASK for token in IDS[1:]]


def test_disagreement_of_a_cache_is_summed_until_a_step() -> None:
    canvas = Denoising.of(LAID, MASK, Unmasking())
    steps = passes(Unmasking(steps=3))
    for step, off in zip(steps, (None, Disagreement(8, 1, 0.5), Disagreement(4, 2, 0.25)), strict=True):
        canvas.add(replace(step, disagreement=off))
    assert canvas.disagreement(1) is None and canvas.disagreement(3) == Disagreement(12, 3, 0.75)
    parted = canvas.parted(2, 3, None)
    assert parted.disagreement(3) == Disagreement(8, 1, 0.5)


def test_options_as_a_person_types_them() -> None:
    how = diffusing.read("block=8, cache dual check on", Unmasking(by="entropy"))
    assert how == Unmasking(by="entropy", block=8, cache="dual", check=True)
    assert not diffusing.read("check off", how).check and diffusing.read("off", how) == Unmasking()
    for text, line in (
        ("threshold", "each with its value once"),
        ("steps 4 steps 2", "each with its value once"),
        ("check yes", "numbers, and on or off"),
        ("steps x", "numbers, and on or off"),
        ("check on", "check goes with cache"),
        ("threshold nan", "must be 0 to 1"),
    ):
        with pytest.raises(ParameterError, match=line):
            diffusing.read(text, Unmasking())


def test_what_the_model_masks_again_and_draws_as_it_was_stands_in_the_end() -> None:
    how = Unmasking(remask=0.5, steps=6)
    canvas = Denoising.of(LAID, MASK, how)
    steps, ids = passes(how), list(IDS)
    opened = set[int]()
    for step in steps:
        opened |= {mask.position for mask in step.open if ids[mask.position] != MASK}
        canvas.add(step)
        for each in step.unmasked:
            ids[each.token.position] = each.token.token
    assert opened and canvas.ids(canvas.steps) == tuple(ids), "nothing was masked again for more than a pass"
    assert canvas.open_entropy(canvas.steps) == 0


def test_masks_are_as_wide_as_their_guesses_and_rows_hold_all_positions() -> None:
    names = Names(PIECES)
    shown = [CanvasCell(i, token) for i, token in enumerate((0, 1, 7, 4, 5, 3, 2, 8, 1, 6))]
    said = layout.spoken(shown, names, LAID.special)
    assert "".join(each.text for each in said) == "a bdd ä\n c eeee b∎"
    masked = [CanvasCell(c.position, None, guess=c.token) for c in shown]
    shades = layout.spoken(masked, names, LAID.special)
    assert [cells.width(s.text.strip()) for s in shades] == [1, 1, 2, 1, 1, 1, 1, 4, 1, 3]
    assert [s.text[0] == " " for s in shades] == [False, True, False, True, False, False, True, True, True, True]
    for width in (4, 7, 12, 40):
        rows = layout.rows(said, width)
        assert all(sum(cells.width(p.text) for p in row) <= width for row in rows)
        joined = "".join("".join(p.text for p in row if not p.blank) for row in rows)
        assert joined == "abddäceeeeb∎"
    place = layout.place_of(layout.rows(said, 12), 7)
    assert place == (1, 3) and layout.position_at(layout.rows(said, 12)[1], 3) == 7
    assert texts([b"\xc3", b"\xa4", b"", b"\xc3"]) == ["", "ä", "", "�"]


def test_bounds_are_asked_for_once_and_broken_off() -> None:
    asked: list[tuple[r.Call, Callable[[int, list[Any]], None]]] = []
    said: list[str] = []
    bounds = LikelihoodBounds(said.append)
    for key in "aab":
        bounds.ask(lambda *each: asked.append(each), key, "m", (1, 2), (1,))
    (_, first), (request, second) = asked
    first(0, [r.Bounding(8), r.Bounded(Estimate(2.0, 0.1, n=16), 1)])
    second(1, [r.Bounding(8)])
    assert isinstance(bounds.known["a"], r.Bounded) and bounds.known["b"] == r.Bounding(8)
    assert bounds.stop() and request.args[-1].cancelled and [*bounds.known] == ["a"] and not bounds.stop()
    second(1, [Failed("m was unloaded")])  # what comes of it afterwards is no news
    assert not any(said) and [*bounds.known] == ["a"]
    bounds.ask(lambda *each: asked.append(each), "b", "m", (1, 2), (1,))
    asked[-1][1](2, [Failed("no numbers")])
    assert said[-1] == "no numbers" and "b" not in bounds.known and not bounds.stop()
