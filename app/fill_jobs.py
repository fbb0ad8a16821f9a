"""Jobs of a diffusion model: a canvas laid, filled pass by pass, and the bound on its likelihood. Imports no mlx."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

from likely.app import requests as r
from likely.engine.decode.control import RunControl
from likely.engine.prompt import Encoding
from likely.engine.statistics.estimates import Estimate
from likely.engine.trace.unmasking import DenoisingStep, Unmasking


class Filler(Protocol):
    """A loaded model, as far as it fills canvases."""

    @property
    def facts(self) -> r.ModelFacts: ...
    @property
    def tokenizer(self) -> Encoding: ...
    def canvas(self, text: str) -> "list[int] | None":
        """The ids of a text with gaps; None for one without."""
        ...

    def answer_canvas(self, prompt: Sequence[int], prefill: Sequence[int], masks: int, block: int) -> list[int]:
        """A prompt with an answer of so many tokens after it, masks but for the first ones, 0 for as many as are
        usual, or fewer where no more have room."""
        ...

    def fill(
        self, ids: Sequence[int], first: int, how: Unmasking, control: RunControl, *, seed: int
    ) -> Iterator[DenoisingStep]:
        """Tokens for the masks of a canvas, pass by pass, by the control's recipe as it is before each. An answer that
        begins at `first` may be over before all of them are known; 0 for a canvas that is none."""
        ...

    def bounding(self, ids: Sequence[int], free: Sequence[int]) -> Generator[int, None, Estimate]:
        """The bound on -log p of the free positions, in nats, in the end; how many masked canvases each pass reads."""
        ...


def lay(engine: Filler, request: r.Fill) -> r.Laid:
    """The canvas of a request. ContextOverflow where it has no room, ParameterError for an autoregressive model and
    for a gap of no number of tokens."""
    special = frozenset(i for i in (engine.facts.mask, *engine.facts.eos) if i is not None)
    if request.ids:
        return r.Laid(request.ids, 0, special)
    ids = engine.canvas(request.text) if request.text else None
    if ids is not None:
        return r.Laid(tuple(ids), 0, special)
    prompt = request.prompt.ids(engine.tokenizer)
    begins = engine.tokenizer.encode(request.prefill)
    ids = engine.answer_canvas(prompt, begins, request.masks or 0, request.how.block)
    return r.Laid(tuple(ids), len(prompt), special)


def fill(engine: Filler, request: r.Fill) -> Iterator[Any]:
    """The events of a `Fill`; None for a turn in which it is paused."""
    laid, control = lay(engine, request), request.control
    yield laid
    passes = engine.fill(laid.ids, laid.first, request.how, control, seed=request.seed)
    spent_s = 0.0
    while not control.cancelled:
        if control.paused:
            yield None
            continue
        began = perf_counter()
        step = next(passes, None)
        spent_s += perf_counter() - began
        if step is None:
            break
        pieces = engine.facts.vocabulary
        tokens = tuple(
            replace(
                each,
                token=replace(
                    each.token,
                    piece=pieces[each.token.token],
                    special=each.token.token in laid.special,
                    elapsed_s=spent_s,
                ),
            )
            for each in step.unmasked
        )
        yield r.Denoised(replace(step, unmasked=tokens), spent_s)
    yield r.FillEnded(control.cancelled)


def bound(engine: Filler, request: r.AskBound) -> Iterator[r.Bounding | r.Bounded]:
    """The events of an `AskBound`: it is over where it is cancelled."""
    passes, read = engine.bounding(request.ids, request.free), 0
    while not request.control.cancelled:
        try:
            read += next(passes)
        except StopIteration as end:
            yield r.Bounded(end.value, len(request.free))
            return
        yield r.Bounding(read)
