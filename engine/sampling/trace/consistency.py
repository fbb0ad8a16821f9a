"""Consistency of a step and a run that come from a file: numbers that no model can have given are refused.

A probability is at most 1, a rank at least that of the tokens that are known to be likelier, a token's own numbers
follow from the logits beside it. Raises ValueError, of one line. Knows no file; a run that was drawn here is not
looked at.
"""

import math
from collections.abc import Sequence

import numpy as np

from likely.engine.sampling.trace.row import CLOSE
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.transforms.snapshot import Snapshot

ORIGINS = ("drawn", "forced", "given")
LARGEST = 1 << 31  # what numpy's and mlx's int32 hold


def check_snapshot(snapshot: Snapshot) -> None:
    """Of a snapshot whose arrays have the right lengths."""
    s, k = snapshot, len(snapshot.ids)
    _that(0 < s.vocab < LARGEST, f"a vocabulary of {s.vocab}")
    _that(k > 0 and s.ids.min() >= 0 and s.ids.max() < s.vocab, f"candidates that are no tokens of {s.vocab}")
    _that(len(np.unique(s.ids)) == k, "a candidate that comes twice")
    top = float(s.logits.max())
    _that(math.isfinite(top), "a candidate whose logit is no number")
    _that(math.isfinite(s.lse) and -CLOSE <= s.lse - top <= math.log(s.vocab) + CLOSE, f"logits that sum up to {s.lse}")
    _that(math.isfinite(s.mean) and s.mean <= top + CLOSE and 0 <= s.variance < math.inf, "moments that are none")
    _that(bool(np.isfinite(s.edges).all() and (np.diff(s.edges) >= 0).all()), "a histogram whose edges do not ascend")
    _that(bool((s.counts >= 0).all()) and int(s.counts.sum(dtype=np.int64)) <= s.vocab, "a histogram of other counts")
    _that(bool((s.lses <= s.lse + CLOSE).all()), "a bin that is likelier than all tokens together")


def check_step(step: TokenStep) -> None:
    """Of one step, with its snapshot if it has one."""
    _that(0 <= step.token < LARGEST, f"the token {step.token}")
    _that(0 <= step.position < LARGEST, f"the position {step.position}")
    _that(step.origin in ORIGINS, "an origin that is none")
    _that(0 <= step.elapsed_s < math.inf, f"{step.elapsed_s} seconds")
    for logprob in (step.logprob, step.logprob_after, step.logprob_allowed, step.logprob_combined):
        _that(logprob is None or logprob <= CLOSE, f"a log-probability of {logprob}, above 0")
    for entropy in (step.entropy, step.entropy_after):
        _that(entropy is None or -CLOSE <= entropy < math.inf, f"an entropy of {entropy}")
    _that(step.rank is None or 1 <= step.rank < LARGEST, f"the rank {step.rank}")
    _that(0 <= step.kept < LARGEST, f"{step.kept} tokens kept")
    if step.snapshot is None:
        return
    check_snapshot(step.snapshot)
    s, at = step.snapshot, np.flatnonzero(step.snapshot.ids == step.token)
    _that(len(at) == 1, f"the token {step.token}, which is not among the candidates")
    logit = float(s.logits[at[0]])
    expected = logit - s.lse
    combined = step.logprob_combined is not None  # then the snapshot is not of the model's own logits
    logprob = step.logprob_combined if combined else step.logprob
    agrees = logprob == expected or (logprob is not None and abs(logprob - expected) <= CLOSE)
    _that(agrees, f"a log-probability of {logprob} for token {step.token}, whose logit gives {expected:.4f}")
    ahead = int(np.count_nonzero(s.logits > logit))
    _that(
        step.rank is not None and (combined or ahead < step.rank) and step.rank <= s.vocab,
        f"the rank {step.rank}, with {ahead} tokens before it",
    )
    most = math.log(s.vocab) + CLOSE
    _that(max(step.entropy or 0, step.entropy_after or 0) <= most, "more entropy than there are tokens")
    _that(step.kept <= s.vocab, f"{step.kept} tokens kept of {s.vocab}")
    removed_by = step.removed_by
    _that(
        removed_by is None or bool((removed_by >= -1).all() and (removed_by <= len(step.recipe.transforms)).all()),
        "a candidate that was removed by no transform of its recipe",
    )


def check_run(trace: Trace) -> None:
    """Of a run whose steps are each consistent."""
    vocabs = {step.snapshot.vocab for step in trace.steps if step.snapshot is not None}
    _that(len(vocabs) <= 1, "steps of several vocabularies")
    tokens = (*trace.prompt, *(step.token for step in trace.steps))
    _that(all(0 <= token < min(vocabs, default=LARGEST) for token in tokens), "tokens that are beyond its vocabulary")
    pieces = trace.lexicon.pieces
    for before, step in zip((None, *trace.steps), trace.steps, strict=False):
        ordered = before is None or before.position <= step.position or trace.denoising is not None
        _that(ordered, f"position {step.position} after a later one")
        same = pieces.get(step.token, step.piece) == step.piece
        _that(same, f"the token {step.token} at position {step.position} with the bytes of another")


def check_changes(runs: Sequence[Trace]) -> None:
    """Of runs that filled one canvas, which a person has changed between two."""
    records = [run.denoising for run in runs]
    places = {(record.mask, record.start, len(run.prompt)) for run, record in zip(runs, records, strict=True) if record}
    _that(None not in records and len(places) == 1, "passes over several canvases")


def _that(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"no run has {what}")
