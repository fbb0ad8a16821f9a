"""Jobs of a diffusion model: a canvas laid, filled pass by pass, and the bound on its likelihood. Imports no mlx."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

from app import requests as r
from engine.decode.control import RunControl
from engine.diffusion.unmasking import DenoisingStep, Unmasking
from engine.errors import ContextOverflow, LikelyError
from engine.evaluate.estimates import Estimate
from engine.prompt import Encoding


class Filler(Protocol):
    """A loaded model, as far as it fills canvases."""

    @property
    def facts(self) -> r.ModelFacts: ...
    @property
    def tokenizer(self) -> Encoding: ...
    def canvas(self, text: str) -> "list[int] | None":
        """The ids of a text with gaps; None for one without."""
        ...

    def fill(self, ids: Sequence[int], how: Unmasking, control: RunControl, *, seed: int) -> Iterator[DenoisingStep]:
        """Tokens for the masks of a canvas, pass by pass, by the control's recipe as it is before each."""
        ...

    def bound(self, ids: Sequence[int], free: Sequence[int], control: RunControl) -> Estimate:
        """The bound on -log p of the free positions, in nats."""
        ...


def lay(engine: Filler, request: r.Fill) -> r.Laid:
    """The canvas of a request. ContextOverflow where the prompt leaves no room for an answer, ParameterError for an
    autoregressive model and for a gap of no number of tokens."""
    special = frozenset(i for i in (engine.facts.mask, *engine.facts.eos) if i is not None)
    if request.ids:
        return r.Laid(request.ids, 0, special)
    ids = engine.canvas(request.text) if request.text else None
    if ids is not None:
        return r.Laid(tuple(ids), 0, special)
    if engine.facts.mask is None:
        raise LikelyError(f"{engine.facts.name} is autoregressive: it writes from left to right and fills no masks")
    ids = request.prompt.ids(engine.tokenizer)
    room = engine.facts.context - len(ids)
    if room < (request.masks or 1):
        raise ContextOverflow(
            f"the conversation has {len(ids)} tokens, and this model's canvas {engine.facts.context} positions: "
            f"{max(room, 0)} are left for {request.masks or r.ANSWER} masks of an answer: /max n asks for fewer, "
            "^n begins anew"
        )
    return r.Laid((*ids, *[engine.facts.mask] * (request.masks or min(r.ANSWER, room))), len(ids), special)


def fill(engine: Filler, request: r.Fill) -> Iterator[Any]:
    """The events of a `Fill`; None for a turn in which it is paused."""
    laid, control = lay(engine, request), request.control
    yield laid
    passes = engine.fill(laid.ids, request.how, control, seed=request.seed)
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


def bound(engine: Filler, request: r.AskBound) -> r.Bounded:
    """The answer to `AskBound`."""
    return r.Bounded(engine.bound(request.ids, request.free, request.control), len(request.free))
