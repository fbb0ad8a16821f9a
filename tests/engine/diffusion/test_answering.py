"""An answer by diffusion: where it ends, how long its canvas is, and that stopping early changes nothing of it."""

from typing import Any

import pytest

from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.decode.session import Session
from likely.engine.diffusion.answering import AnswerCanvas, DiffusedAnswer, answer, answer_canvas, read_answer
from likely.engine.diffusion.infilling import infill
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasking
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.engine import tiny

CONFIG: dict[str, Any] = {**tiny.LLAMA, "mask_token_id": 286, "max_position_embeddings": 32}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    arrays = {name: mx.array(array) for name, array in tiny.weights(CONFIG).items()}
    return Session(load(tiny.write_folder(tmp_path_factory.mktemp("answering") / "m", CONFIG, arrays)))


def test_the_answer_ends_at_the_first_end_of_text_and_stopping_there_changes_nothing(session: Session) -> None:
    tokenizer = session.tokenizer
    canvas = answer_canvas(session, [72, 105], prefill=[33], max_tokens=13)
    assert canvas == AnswerCanvas((72, 105, 33, *[286] * 12), 2, 286) and canvas.masks == 12
    how, shorter = Unmasking(by="random"), 0
    for seed in range(6):
        whole = list(infill(session, list(canvas.ids), how, SamplingConfig(), seed=seed))
        drawn = {u.token.position: u.token.token for each in whole for u in each.unmasked}
        found = [drawn[at] for at in sorted(drawn)]
        middle = found[5]
        tokenizer.eos, before = frozenset({middle}), tokenizer.eos
        try:
            steps = list(answer(session, canvas, how, SamplingConfig(), seed=seed))
            got = read_answer(canvas, steps, tokenizer)
            end = found.index(middle)
            assert [t.token for t in got.tokens] == [33, *found[: end + 1]] and got.finish == "eot"
            assert [t.position for t in got.tokens] == list(range(2, end + 4)) and got.tokens[-1].text == ""
            assert got.tokens[0].origin == "given" and got.passes[0] is None and None not in got.passes[1:]
            assert [s.step for s in steps] == [s.step for s in whole[: len(steps)]]
            shorter += len(steps) < len(whole)
            part = read_answer(canvas, steps[:-1], tokenizer)  # before its last pass a mask stands before its end
            assert part.finish == "cancelled" and len(part.tokens) < len(got.tokens)
            stop = spelled(got)[1:3]
            stopped = read_answer(canvas, steps, tokenizer, [stop])
            assert stopped.finish == "stop" and spelled(stopped) == spelled(got).partition(stop)[0]
        finally:
            tokenizer.eos = before
    assert 0 < shorter < 6


def spelled(answer: DiffusedAnswer) -> str:
    return "".join(token.text for token in answer.tokens) + answer.rest


def test_a_canvas_is_as_long_as_the_context_has_room_for(session: Session) -> None:
    assert answer_canvas(session, [1] * 30).masks == 2 and answer_canvas(session, [1], max_tokens=9).masks == 9
    assert answer_canvas(session, [1] * 5, block=8).masks == 24  # of 27 positions
    for prompt, given, error, line in (
        (
            32, {}, ContextOverflow,
            "has 32 tokens and this model's canvas has 32 positions, which leaves no room for an",
        ),
        (30, {"block": 4}, ContextOverflow, "no room for a block of 4"),
        (3, {"prefill": [1, 2], "max_tokens": 2}, ParameterError, "begins with 2 tokens and may have 2"),
    ):  # fmt: skip
        with pytest.raises(error, match=line):
            answer_canvas(session, [1] * prompt, **given)  # type: ignore[arg-type]


def test_a_text_that_never_ends_has_the_length_of_its_canvas(session: Session) -> None:
    canvas = answer_canvas(session, [72], max_tokens=8, block=4)
    steps: list[DenoisingStep] = list(answer(session, canvas, Unmasking(block=4, revise=2), SamplingConfig(), seed=1))
    got = read_answer(canvas, steps, session.tokenizer)
    assert got.finish == "length" and len(got.tokens) == 8 and len(steps) == 12
    for revision in got.revisions:
        assert revision.before != revision.token.token and revision.token.elapsed_s > 0 and revision.token.piece
