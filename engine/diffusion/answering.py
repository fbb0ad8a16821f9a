"""Answering: a prompt to a canvas whose end is masks, and what stands there in the end to the tokens of an answer.

The answer ends at its first end of text; what stands behind it is none of it (arXiv:2502.09992, app. B). Ends of
text and stop strings are those of every run (`TextStream`). Knows no strategy and no screen.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Stats
from likely.engine.decode.loop.text_stream import TextStream, with_text
from likely.engine.diffusion.denoiser import of_model
from likely.engine.diffusion.infilling import infill
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasked, Unmasking

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.text.tokenizer import Tokenizer

SEQUENTIAL = Unmasking()  # a mask a pass
TOKENS = 128  # masks of an answer where nobody says how many: each costs a pass over the whole canvas


@dataclass(frozen=True, slots=True)
class AnswerCanvas:
    """The prompt, the words that the answer begins with, and masks for the rest of it."""

    ids: tuple[int, ...]
    start: int  # where the answer begins
    mask: int

    @property
    def masks(self) -> int:
        return self.ids.count(self.mask)


@dataclass(frozen=True, slots=True)
class DiffusedAnswer:
    """An answer after passes: its tokens in their order, those that are given among them, up to its end or first mask.

    `passes` has, for each, the pass that it came of, None where it was given.
    """

    tokens: tuple[TokenStep, ...]
    passes: tuple[int | None, ...]
    revisions: tuple[Unmasked, ...]
    finish: str  # eot, stop or length; cancelled where a mask stands before its end
    rest: str  # what the detokeniser held back


def answer_canvas(
    session: "Session", prompt: Sequence[int], *, prefill: Sequence[int] = (), max_tokens: int = 0, block: int = 0
) -> AnswerCanvas:
    """A canvas for an answer of so many tokens at most, TOKENS by default, `prefill` among them, and no more than the
    context has room for, in whole blocks of masks.

    ParameterError for an autoregressive model and where nothing is left to answer, ContextOverflow for a prompt that
    leaves no room.
    """
    mask = of_model(session.model, session.info.name).mask
    length = (max_tokens or TOKENS) - len(prefill)
    if length < 1:
        raise ParameterError(f"the answer begins with {len(prefill)} tokens and may have {max_tokens}: allow it more")
    room = session.context - len(prompt) - len(prefill)
    masks = length
    if room < length:
        masks = room - room % block if block else room
    if masks < 1:
        raise ContextOverflow(
            f"the prompt has {len(prompt) + len(prefill)} tokens and this model's canvas has {session.context} "
            f"positions, which leaves no room for {f'a block of {block}' if block else 'an answer'}: shorten it"
        )
    return AnswerCanvas((*prompt, *prefill, *[mask] * masks), len(prompt), mask)


def answer(
    session: "Session",
    canvas: AnswerCanvas,
    how: Unmasking,
    recipe: SamplingConfig | Callable[[], SamplingConfig],
    *,
    seed: int = 0,
) -> Iterator[DenoisingStep]:
    """Passes over the canvas, their tokens with pieces and times, until the answer is there; raises what `fill` does.

    Where nothing is revised, that is as soon as its end and all before it are known: nothing can change them then.
    """
    known = {at: token for at, token in enumerate(canvas.ids) if token != canvas.mask}
    passes = infill(session, list(canvas.ids), how, recipe, seed=seed)
    for step in with_texts(passes, session.tokenizer, session.pool.precision):
        yield step
        known |= {one.token.position: one.token.token for one in step.unmasked}
        if not (how.revise or how.remask) and _over(known, canvas, session.tokenizer.eos):
            return


def read_answer(
    canvas: AnswerCanvas, passes: Iterable[DenoisingStep], tokenizer: "Tokenizer", stop: Sequence[str] = ()
) -> DiffusedAnswer:
    """The answer as it is after passes."""
    last: dict[int, Unmasked] = {}
    revisions = []
    for one in (unmasked for step in passes for unmasked in step.unmasked):
        last[one.token.position] = one
        if one.before is not None:
            revisions.append(one)
    stream = TextStream(tokenizer, stop)
    tokens: list[TokenStep] = []
    reached = len(canvas.ids)
    for at in range(canvas.start, len(canvas.ids)):
        if at not in last and canvas.ids[at] == canvas.mask:
            reached = at
            break
        token = last[at].token if at in last else given(canvas.ids[at], at)
        tokens.extend(stream.push(token, token.elapsed_s))
        if stream.reason:
            break
    tokens.extend(stream.flush())
    return DiffusedAnswer(
        tokens=tuple(tokens),
        passes=tuple(last[t.position].step if t.position in last else None for t in tokens),
        revisions=tuple(revisions),
        finish=stream.reason or ("length" if reached == len(canvas.ids) else "cancelled"),
        rest=stream.rest,
    )


def answered(
    session: "Session",
    prompt: Sequence[int],
    control: RunControl,
    how: Unmasking = SEQUENTIAL,
    *,
    seed: int = 0,
    max_tokens: int = 0,
    stop: Sequence[str] = (),
) -> Iterator[Emitted | Done]:
    """An answer as the events of one that is drawn from left to right: its tokens come when all of it is there.

    ParameterError where several processes share the model.
    """
    if session.ranks is not None:
        raise ParameterError(
            f"{session.info.name} is a diffusion model, which one process runs: start without mlx.launch"
        )
    canvas = answer_canvas(session, prompt, max_tokens=max_tokens, block=how.block)
    began, passes = time.perf_counter(), []
    for step in answer(session, canvas, how, control.recipe, seed=seed):
        passes.append(step)
        if control.cancelled:
            break
    text = read_answer(canvas, passes, session.tokenizer, stop)
    for token in text.tokens:
        yield Emitted(0, token)
    stats = Stats(len(prompt), 0, len(text.tokens), 0.0, time.perf_counter() - began)
    yield Done(0, text.finish, stats, text.rest)


def given(token: int, position: int) -> TokenStep:
    """A token of the canvas that nobody drew: it has no distribution."""
    return TokenStep(
        token, b"", "", None, None, None, None, None, 0, SamplingConfig(), None, None, position, origin="given"
    )


def with_texts(passes: Iterable[DenoisingStep], tokenizer: "Tokenizer", precision: str) -> Iterator[DenoisingStep]:
    """The passes, each token with what it stands for alone, the precision of its numbers, and the time since the first
    was asked for."""
    began = time.perf_counter()
    for step in passes:
        now, unmasked = time.perf_counter() - began, []
        for one in step.unmasked:
            text = tokenizer.piece(one.token.token).decode(errors="replace")
            unmasked.append(replace(one, token=with_text(tokenizer, one.token, text, now, precision)))
        yield replace(step, unmasked=tuple(unmasked), elapsed_s=now)


def _over(known: dict[int, int], canvas: AnswerCanvas, eos: frozenset[int]) -> bool:
    """Whether the answer's end is known and all that stands before it."""
    for at in range(canvas.start, len(canvas.ids)):
        if at not in known:
            return False
        if known[at] in eos:
            return True
    return True
