"""Record of a run of a session, as it is saved and as the API gives it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import TokenStep, TokenStrings

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.sampling.trace.record import DenoisingRecord


def run_trace(
    session: "Session",
    ids: Sequence[int],
    steps: Sequence[TokenStep],
    seed: int,
    finish: str,
    denoising: "DenoisingRecord | None" = None,
) -> Trace:
    """A run as it is saved; of one by diffusion `ids` are the canvas, and `steps` those of its record."""
    from likely.engine.base.machine.hardware import versions

    ids_shown = {*ids, *(int(i) for step in steps if step.snapshot is not None for i in step.snapshot.ids)}
    ids_shown |= set() if denoising is None else denoising.candidates
    return Trace(
        model=session.info.name,
        weights=session.info.weights,
        versions=versions(),
        seed=seed,
        prompt=tuple(ids),
        steps=tuple(steps),
        finish=finish,
        lexicon=TokenStrings({i: session.tokenizer.piece(i) for i in ids_shown}, session.tokenizer.eos),
        denoising=denoising,
    )
