"""A canvas in detail: every step of it beside one that was read, a session that fills it, and its rows of text."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from app import requests as r
from app.tui.chat import denoising_layout as layout
from app.tui.chat import diffusing
from app.tui.chat.candidates import Names
from app.tui.chat.denoising import CanvasCell, Denoising, texts, words
from app.tui.chat.denoising_layout import Piece
from app.tui.sampling import Sampling
from app.tui.tokens.layout import TokenPlace
from engine.conversation import Fork
from engine.diffusion.unmasking import Unmasking
from engine.errors import ParameterError
from engine.trace.trace import Recipe
from tests.pictures import assert_picture
from tests.support.diffuser import ScriptedDiffusion
from tests.tui.bench import Bench, heard_of, state, text_of
from tests.tui.test_denoising import IDS, LAID, MASK, PIECES, passes


def cell_of(cell: CanvasCell) -> str:
    token = "_" if cell.token is None else str(cell.token)
    guess = "" if cell.guess is None else f"?{cell.guess}"
    when = "" if cell.step is None else f"@{cell.step}"
    entropy = "" if cell.entropy is None else f"~{cell.entropy:.2f}"
    return f"{token}{guess}{when}{entropy}{'' if cell.was is None else f'<{cell.was}'}{'!' * cell.by_person}"


def told(canvas: Denoising) -> Iterator[str]:
    yield f"planned {canvas.planned} of {canvas.steps}, scale {canvas.scale}, shown {canvas.shown}, free {canvas.free}"
    for step in range(canvas.steps + 1):
        yield f"  {step}: {' '.join(map(cell_of, canvas.cells(step)))}"
        open_ = f"{canvas.open_entropy(step):.3f} nats open, {len(canvas.until_end(step))} until the end"
        yield f"    {open_}, whole {canvas.whole(step)}, taken back {dict(canvas.times_revised(step))}"
    seconds = " ".join(f"{each:.2f}" for each in canvas.seconds)
    yield f"  decided {canvas.decided}, most {canvas.most()}, seconds {seconds}, order {canvas.order()}"
    yield f"  taken back {[(t.step, t.position, t.before, t.after) for t in canvas.revised]}"
    yield f"  by columns {[canvas.per_step(width) for width in (1, 3, 4, 99)]}"
    for position in canvas.shown:
        guesses = [f"{g.token} {g.p:.3f}{' cut' * g.cut}" for g in canvas.guesses(position, canvas.steps)[:3]]
        found = [f"{when}:{id} {p:.3f} {h:.2f}" for when, id, p, h in canvas.candidates(position, canvas.steps)]
        drawn = canvas.drawn(position, canvas.steps)
        yield f"  {position}: {', '.join(guesses)} | {' '.join(found)} | {'' if drawn is None else drawn.token}"
    yield f"  told {text_of(canvas.token_steps(PIECES, Recipe()))!r}"


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("revised", Unmasking(steps=6, block=6, revise=2)), ("remasked", Unmasking(remask=0.5, steps=6)),
        ("by-threshold", Unmasking(threshold=0.3)), ("one-a-pass", Unmasking()),
    ],
)  # fmt: skip
def test_steps_are_as_they_were_read(name: str, how: Unmasking) -> None:
    canvas = Denoising.of(LAID, MASK, how, "m")
    lines = list(told(canvas))
    for step in passes(how):
        canvas.add(step, step.step / 10)
    lines += told(canvas)
    half = canvas.steps // 2
    other = canvas.parted(half, 3, 7)
    lines += ["a person's word", *told(other)]
    other.add(replace(passes(how)[-1]), 0.5)
    again = other.parted(half + 1, 3, None)
    lines += ["and masked again", *told(again), *told(canvas.parted(0, 4, 2))]
    assert_picture(f"tui/pictures/texts/canvas-{name}.txt", lines)


@pytest.mark.parametrize(
    ("how", "planned"),
    [
        (Unmasking(), 12), (Unmasking(steps=5), 5), (Unmasking(threshold=0.5), 0), (Unmasking(remask=0.5), 0),
        (Unmasking(block=6), 12), (Unmasking(block=5), 0), (Unmasking(block=6, steps=4), 4),
        (Unmasking(revise=3), 15), (Unmasking(block=4, revise=2), 18),
    ],
)  # fmt: skip
def test_passes_are_known_where_no_threshold_decides_them(how: Unmasking, planned: int) -> None:
    assert Denoising.of(LAID, MASK, how).planned == planned
    assert Denoising.of(r.Laid((1, 2), 0, frozenset()), MASK, how).planned == 0


def test_cells_are_kept_for_all_who_look_until_more_comes() -> None:
    canvas = Denoising.of(LAID, MASK, Unmasking())
    steps = passes(Unmasking())
    for step in steps[:11]:
        canvas.add(step, 0.1)
    first = canvas.cells(0)
    assert all(canvas.cells(step) is canvas.cells(step) for step in range(11))
    assert len(canvas.looked_at) <= 8 and canvas.cells(0) == first
    canvas.add(steps[11], 0.2)
    assert not canvas.looked_at


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Unmasking(), "diffusion · by confidence"), (Unmasking(threshold=0.9), "diffusion · threshold 0.90"),
        (Unmasking(by="entropy", steps=8, block=4), "diffusion · by entropy · 8 steps · blocks of 4"),
        (Unmasking(revise=2), "diffusion · by confidence · revises 2x"),
        (Unmasking(remask=0.25, guidance=1.5), "diffusion · by confidence · remasks below 0.25 · guidance 1.5"),
        (Unmasking(cache="dual", block=4), "diffusion · by confidence · blocks of 4 · cache dual"),
        (Unmasking(cache="dual", check=True), "diffusion · by confidence · cache dual, checked"),
    ],
)  # fmt: skip
def test_an_order_in_words(how: Unmasking, said: str) -> None:
    assert words(how) == said


def test_characters_of_several_tokens_are_told_with_the_last_of_them() -> None:
    assert texts([b"\xe6", b"\x97", b"\xa5x", b"\xff", b"\xc3"]) == ["", "", "日x", "�", "�"]
    assert texts([]) == []


NAMES = Names(PIECES)
SAID = [
    layout.CanvasText(position, text)
    for position, text in enumerate((" a", " bc", "def", " ", "\n", "  日本", "x\ty", "long" * 4, "  z", "\n\n", "end"))
]


@pytest.mark.parametrize("width", [1, 2, 5, 8, 40])
def test_rows_of_a_canvas_are_as_they_were_looked_at(width: int) -> None:
    laid = layout.rows(SAID, width)
    lines = []
    for row in laid:
        shown = "".join(piece.text for piece in row)
        owners = "".join(("." if piece.blank else f"{piece.position:x}") * len(piece.text) for piece in row)
        under = [layout.position_at(row, column) for column in range(-1, 8)]
        lines += [f"  |{shown}|", f"  |{owners}| {' '.join('-' if at is None else f'{at:x}' for at in under)}"]
    lines.append(f"  places {[layout.place_of(laid, position) for position in range(12)]}")
    assert_picture(f"tui/pictures/texts/canvas-rows-{width}.txt", lines)
    if width > 1:
        assert all(sum(len(p.text) for p in row) <= width + 4 for row in laid)


def test_masks_are_shaded_as_wide_as_their_guess() -> None:
    cells = [
        CanvasCell(0, None), CanvasCell(1, None), CanvasCell(2, 1), CanvasCell(3, None, guess=8),
        CanvasCell(4, None, guess=6), CanvasCell(5, 3), CanvasCell(6, None), CanvasCell(7, None, guess=3),
        CanvasCell(8, 6), CanvasCell(9, MASK), CanvasCell(10, None, guess=7),
    ]  # fmt: skip
    said = layout.spoken(cells, NAMES, LAID.special)
    assert [each.text for each in said] == [
        "░░░", " ░░░", " b", " ░░░░", " ░░░", "\n", "░░░", "░", "∎", "∎", "░░",
    ]  # fmt: skip
    assert [each.position for each in said] == list(range(11))
    assert layout.spoken([], NAMES, LAID.special) == []


def test_words_that_are_no_canvas_are_wrapped() -> None:
    assert layout.wrapped("some words to wrap\n  and more", 7) == ["some", "words", "to wrap", "  and", "more"]
    assert layout.wrapped("", 7) == [""] and layout.position_at([], 0) is None
    assert layout.position_at([Piece(" ", 0, True)], 0) is None
    near = [Piece("ab", 1), Piece("  ", 2, True), Piece("cd", 3)]
    assert [layout.position_at(near, column) for column in range(7)] == [1, 1, 1, 3, 3, 3, 3]


def test_an_answer_is_filled_and_changed() -> None:
    bench = Bench(ScriptedDiffusion())
    session, lines = bench.session, []
    session.max_tokens = 20
    session.unmasking = Unmasking(steps=7, block=4, cache="dual")
    session.submit("Why is the sky blue?")
    bench.show()

    def tell(about: str) -> None:
        lines.extend([about, *state(bench)])
        request = bench.asked[-1]
        assert isinstance(request, r.Fill)
        asked = (request.seed, request.text, request.prefill, request.masks, len(request.ids), words(request.how))
        lines.append(f"  asked {len(bench.asked)}: {asked}")
        for node, canvas in session.denoisings.items():
            shown = " ".join(map(cell_of, canvas.cells(canvas.steps)))
            facts = f"{canvas.steps} of {canvas.planned}, offset {canvas.offset}, spent {canvas.spent_s > 0}"
            lines.append(f"  {node}: {facts}, {shown}")

    tell("asked")
    tell(heard_of(bench.hear(3)))
    assert not session.resume() and not session.branch(TokenPlace(1, 0)) and not session.step_on()
    session.look(0)
    assert len(bench.asked) == 1
    tell(heard_of(bench.hear()))
    leaf = session.conversation.leaf
    assert leaf is not None and session.canvas("none") is None
    canvas = session.canvas(leaf.id)
    assert canvas is not None
    at = canvas.laid.first + 2
    assert not session.place(leaf.id, canvas.steps, at, canvas.cell(at, canvas.steps).token)
    assert session.place(leaf.id, 2, at, bench.ids(" tint")[0])
    bench.show()
    tell("a word placed")
    tell(heard_of(bench.hear(3)))
    assert session.stop()
    bench.show()
    tell("stopped")
    session.answer(Fork("n1"), force=" The sky")
    bench.show()
    tell(f"with words, {heard_of(bench.hear())}")
    session.unmasking = Unmasking(steps=5)
    session.submit("The [MASK:3] is blue")
    bench.show()
    tell(f"gaps, {heard_of(bench.hear())}")
    del bench.jobs.engines[bench.facts.name]
    session.regenerate()
    bench.show()
    tell(heard_of(bench.hear()))
    session.ready(replace(bench.facts, name="other"))
    assert session.canvas(leaf.id) is None
    assert_picture("tui/pictures/texts/canvas-session.txt", lines)


def test_transforms_that_need_an_order_stay_off() -> None:
    bench = Bench(ScriptedDiffusion())
    with pytest.raises(ParameterError, match="it stays off"):
        diffusing.check(bench.session, Sampling().with_value("mirostat_tau", 5.0))
    diffusing.check(bench.session, Sampling().with_value("top_k", 5))
    bench.session.facts = None
    diffusing.check(bench.session, Sampling().with_value("mirostat_tau", 5.0))


def test_an_answer_that_was_kept_is_a_canvas_of_no_steps() -> None:
    bench = Bench(ScriptedDiffusion())
    bench.session.max_tokens = 6
    bench.say("Why?")
    leaf = bench.session.conversation.leaf
    assert leaf is not None
    kept = Denoising.kept(leaf, bench.facts)
    assert kept is not None and kept.steps == 0 and kept.laid.first == 0
    assert kept.laid.special == frozenset({bench.facts.mask, *bench.facts.eos})
    assert kept.ids(0) == tuple(step.token for step in leaf.steps)
    assert [cell.step for cell in kept.cells(0)] == [0] * 6 and not kept.ends(kept.cells(0)[-1])
    assert Denoising.kept(leaf, replace(bench.facts, mask=None)) is None
    assert Denoising.kept(replace(leaf, steps=()), bench.facts) is None
    given = replace(leaf, steps=(replace(leaf.steps[0], origin="given"), *leaf.steps[1:]))
    found = Denoising.kept(given, bench.facts)
    assert found is not None and [cell.step for cell in found.cells(0)] == [None, 0, 0, 0, 0, 0]
    short = replace(bench.facts, vocabulary=bench.facts.vocabulary[: leaf.steps[0].token])
    assert Denoising.kept(leaf, short) is None
    exact = max(step.token for step in leaf.steps) + 1
    assert Denoising.kept(leaf, replace(bench.facts, vocabulary=bench.facts.vocabulary[:exact])) is not None
    assert np.isfinite(kept.guesses(0, 0)[0].p) and len(IDS) == 15
