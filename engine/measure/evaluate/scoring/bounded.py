"""Bounds on the likelihoods of given texts by masked diffusion, as an evaluation asks for them, with their errors.

A diffusion model gives no exact log p of a text, but at least so much: masks are drawn (`engine.diffusion.bound`).
Measures say so by name: nats_at_most, and acc_by_bound of choices that are taken by bounds. The texts of one question
are masked alike as far as they can be, and a text always so.
"""

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.errors import NotFinite, ParameterError
from likely.engine.base.numerics import damaged
from likely.engine.base.statistics.scores import AT_MOST, BOUNDED, BY_BOUND
from likely.engine.diffusion.bound import DRAWS, bound, check_draws
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.measure.evaluate.scoring.likelihood import Gather, Reader, Request
from likely.engine.measure.evaluate.scoring.protocol import Protocol, diffuses
from likely.engine.measure.evaluate.tasks.tasks import Choices, Document, Item, MinimalPair, Task
from likely.metal import mx

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.models.model import LanguageModel

FORMS = (Document, MinimalPair, Choices)  # of items that bounds can answer


@dataclass(frozen=True, slots=True)
class LikelihoodBound:
    """A text's scored tokens have this log-probability or more, nats, up to the error of the draws."""

    total: float
    error: float  # standard error
    count: int  # of scored tokens


class ModelLosses:
    """Losses of masked canvases by a diffusion model; logits of a few positions at a time."""

    def __init__(self, model: "LanguageModel", name: str) -> None:
        self.denoiser = ModelDenoiser(model, name)

    def lost(self, ids: np.ndarray, masked: np.ndarray) -> np.ndarray:
        """sum over masked positions of -log p(x_i | what is not masked), [B], for ids [T] and masked bool [B, T]."""
        model = self.denoiser.model
        canvases = np.where(masked, self.denoiser.diffusion.mask, ids).astype(np.int32)
        hidden = model.hidden(mx.array(canvases), mask=self.denoiser.mask)
        rows, at = np.nonzero(masked)
        sources = self.denoiser.sources(at)
        gather = Gather(model)
        gather.score(hidden.reshape(-1, hidden.shape[-1]), (rows * len(ids) + sources).tolist(), ids[at].tolist())
        losses: np.ndarray = np.bincount(rows, -np.concatenate(gather.logprobs), len(masked))
        return losses


class BoundReader:
    """A diffusion model that bounds the likelihoods of requests, `draws` masks for each text."""

    def __init__(self, model: "LanguageModel", *, draws: int, seed: int, name: str = "the model") -> None:
        self.model, self.draws, self.seed, self.name = model, draws, seed, name
        check_draws(draws)
        self.losses = ModelLosses(model, name)

    def read(self, requests: Iterable[Request]) -> Iterator[tuple[int, tuple[LikelihoodBound, ...]]]:
        """The number of a request and its texts' bounds, in order. NotFinite where the model gives no numbers."""
        for number, request in enumerate(requests):
            seed = zlib.crc32(np.array(request.texts[0], np.int64).tobytes(), self.seed)
            pairs = zip(request.texts, request.starts, strict=True)
            yield number, tuple(self._bound(text, start, seed) for text, start in pairs)

    def _bound(self, text: Sequence[int], start: int, seed: int) -> LikelihoodBound:
        diffusion = self.losses.denoiser.diffusion
        free = [i >= start for i in range(len(text))]
        try:
            nll = bound(self.losses, text, diffusion.mask, free, block=diffusion.block, draws=self.draws, seed=seed)
        except NotFinite:
            raise damaged(self.name, self.model, text) from None
        return LikelihoodBound(-nll.mean, nll.error, len(text) - start)


def reach(session: "Session") -> int:
    """Tokens of a text before its last, at most; a diffusion model reads the last too."""
    return session.context - (diffuses(session))


def reader(session: "Session", protocol: Protocol) -> "Reader | BoundReader":
    """Who scores texts, or bounds them. ParameterError for what bounds cannot have: other paths."""
    name = session.info.name
    if not diffuses(session):
        return Reader(session.model, name=name)
    if protocol.paths:
        raise ParameterError(f"{name} is a diffusion model, whose tokens have no order: leave out --paths")
    return BoundReader(session.model, draws=protocol.draws or DRAWS, seed=protocol.seed, name=name)


def check(task: Task, name: str) -> None:
    """ParameterError for a task that bounds cannot answer."""
    if task.form not in FORMS:
        raise ParameterError(
            f"{task.name} asks for {task.form.NAME}, and {name} is a diffusion model, whose likelihoods are bounds: it "
            f"can be asked for {', '.join(form.NAME for form in FORMS)}"
        )


def of_texts(texts: Sequence[LikelihoodBound], size: int) -> dict[str, float]:
    """Measures of a text of `size` bytes by the bounds of its windows, which add up."""
    return {
        f"nats{AT_MOST}": -math.fsum(one.total for one in texts),
        "tokens": float(sum(one.count for one in texts)),
        "bytes": float(size),
        BOUNDED: math.fsum(one.error**2 for one in texts),
    }


def of_item(item: Item, bounds: Sequence[LikelihoodBound]) -> tuple[dict[str, float], dict[str, Any]]:
    """Measures of an item by the bounds of its texts, and what else is kept: of a pair or a question which text is
    taken, not how sure that is."""
    body, totals = item.body, [one.total for one in bounds]
    detail: dict[str, Any] = {"loglikelihoods_at_least": totals, "draw_errors": [one.error for one in bounds]}
    if isinstance(body, Document):
        return of_texts(bounds, len(body.text.encode())), detail
    if isinstance(body, MinimalPair):
        return {f"acc{BY_BOUND}": float(totals[0] > totals[1])}, detail
    assert isinstance(body, Choices)
    logp = np.asarray(totals)
    sizes = [len(choice) for choice in body.choices], [len(choice.encode()) for choice in body.choices]
    by = {"acc": logp, "acc_norm": logp / sizes[0], "acc_bytes": logp / sizes[1]}
    return {f"{name}{BY_BOUND}": float(np.argmax(of) == body.gold) for name, of in by.items()}, detail
