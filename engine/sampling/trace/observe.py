"""Observation: from the logits before and after the transforms, every number of a `TokenStep`. numpy, on the host.

It runs while the next step is being computed, so that looking costs no extra wait. Knows nothing of text: piece and
text are filled in by whoever has the tokenizer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.sampling.trace.row import RowStatistics, kept_of, measured, sums
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import STAYS
from likely.metal.packed.statistics import ScannedRow

STAYING = np.full(1024, STAYS, np.int8)  # which steps share that nothing was removed from
STAYING.flags.writeable = False


@dataclass(frozen=True, slots=True)
class KernelStats:
    """Statistics of the pass that drew the token on the device, where no host saw the logits."""

    kept: int  # the most likely tokens, from which one was drawn
    sharp: float  # 1 / temperature
    removed_by: np.ndarray  # int8: which transform removed each token of the snapshot


def observe(
    row: np.ndarray | RowStatistics,
    token: int,
    *,
    after: np.ndarray | None = None,
    left: ScannedRow | None = None,
    removed_by: np.ndarray | None = None,
    kernel: KernelStats | None = None,
    recipe: SamplingConfig,
    edited_ids: Sequence[int] | np.ndarray = (),
    position: int,
    origin: str = "drawn",
) -> TokenStep:
    """The step that took `token`, without its text. `row`: raw logits, float32 [V], or what is known of them.

    `after` float32 [V] and `removed_by` int8 [V] say what the transforms made of them (`left`: a scan of that, if there
    was one), or `kernel` does; without, nothing was transformed. `edited_ids` are kept in the snapshot besides the most
    likely ones and the token itself, unless `row` has it. NotFinite where the logits are no numbers.
    """
    if not isinstance(row, RowStatistics):
        row = measured(row, token, edited_ids)
    snapshot = row.snapshot
    kept, chosen, lse_after, entropy_after = row.possible, row.logit, snapshot.lse, row.entropy
    removed = _all_stay(len(snapshot.ids)) if removed_by is None else removed_by[snapshot.ids]
    if after is not None:
        chosen = float(after[token])
        kept, lse_after, entropy_after = kept_of(after) if left is None else (left.possible, left.lse, left.entropy)
    elif kernel is not None:
        kept, chosen = kernel.kept, row.logit * kernel.sharp
        lse_after, entropy_after = sums(snapshot.logits[:kept] * np.float32(kernel.sharp))
        removed = kernel.removed_by
    return TokenStep(
        token=token,
        piece=b"",
        text="",
        logprob=row.logit - snapshot.lse,
        logprob_after=chosen - lse_after,
        entropy=row.entropy,
        entropy_after=entropy_after,
        rank=row.rank,
        kept=kept,
        recipe=recipe,
        snapshot=snapshot,
        removed_by=removed,
        position=position,
        origin=origin,
    )


def _all_stay(count: int) -> np.ndarray:
    """int8 [count], not to be written: that no transform removed any."""
    return STAYING[:count] if count <= len(STAYING) else np.full(count, STAYS, np.int8)
