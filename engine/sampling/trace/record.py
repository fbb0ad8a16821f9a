"""Record of a run of diffusion in a trace: every pass, with what it drew, what it drew anew, and the masks it left.

`rows` and `from_rows` are a line a pass of the trace's file; what no run can have left is ValueError, of one line
(`check`). Knows no model and no file.
"""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

import numpy as np

from likely.engine.base.files.foreign_json import check as check_schema
from likely.engine.base.options import changes
from likely.engine.sampling.trace.row import CLOSE
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.trace.unmasking import DenoisingStep, Disagreement, OpenMask, Unmasked, Unmasking

HEADER = {"mask": int, "start": int, "options": {str: object}, "passes": int}
_ARRAYS = {"positions": "<i4", "entropies": "<f8", "ids": "<i4", "logprobs": "<f4"}
_DISAGREEMENT = {"masks": int, "other": int, "kl": float}
_PASS = {
    "before": [(int, None)],
    "open": dict.fromkeys(_ARRAYS, str),
    "disagreement?": _DISAGREEMENT,
    "elapsed_s?": float,
}


@dataclass(frozen=True)
class DenoisingRecord:
    """How a canvas, the trace's `prompt`, was filled; the trace's `steps` are what the passes drew, in their order."""

    mask: int
    start: int  # where the answer begins; 0 of a text whose holes were filled
    how: Unmasking
    passes: tuple[DenoisingStep, ...]

    @property
    def steps(self) -> tuple[TokenStep, ...]:
        """All tokens, those that were drawn anew too, in the order of the passes."""
        return tuple(one.token for step in self.passes for one in step.unmasked)

    @property
    def candidates(self) -> set[int]:
        """All tokens that it says anything of."""
        opened = (np.unique(mask.ids) for step in self.passes for mask in step.open)
        shown = (step.snapshot.ids for step in self.steps if step.snapshot is not None)
        return {int(i) for ids in (*opened, *shown) for i in ids}


def canvases(canvas: Sequence[int], passes: Sequence[DenoisingStep]) -> Iterator[list[int]]:
    """The canvas after each pass."""
    now = list(canvas)
    for step in passes:
        for one in step.unmasked:
            now[one.token.position] = one.token.token
        yield list(now)


def header(record: DenoisingRecord) -> dict[str, Any]:
    """Its entry in the header of a file, by `HEADER`."""
    options = {name: getattr(record.how, name) for name in get_type_hints(Unmasking)}
    return {"mask": record.mask, "start": record.start, "options": options, "passes": len(record.passes)}


def rows(record: DenoisingRecord) -> Iterator[dict[str, Any]]:
    """A row a pass. Its tokens are the trace's next steps, one for each of `before`."""
    for step in record.passes:
        width = max((len(mask.ids) for mask in step.open), default=0)
        assert all(len(mask.ids) == width for mask in step.open)
        arrays = {
            "positions": [mask.position for mask in step.open],
            "entropies": [mask.entropy for mask in step.open],
            "ids": [mask.ids for mask in step.open],
            "logprobs": [mask.logprobs for mask in step.open],
        }
        text = {name: _text(np.array(arrays[name], kind)) for name, kind in _ARRAYS.items()}
        measured = {} if step.disagreement is None else {"disagreement": asdict(step.disagreement)}
        before = [one.before for one in step.unmasked]
        yield {"before": before, "open": text, **measured, "elapsed_s": step.elapsed_s}


def from_rows(head: Mapping[str, Any], passes: Sequence[Any], steps: Sequence[TokenStep]) -> DenoisingRecord:
    """The record that `header` and `rows` were made of; ValueError or ParameterError where they are damaged."""
    how = Unmasking(**changes(head["options"], get_type_hints(Unmasking))).checked()
    passes_read, used = [], 0
    for number, row in enumerate(passes, 1):
        check_schema(row, _PASS)
        drawn = steps[used : used + len(row["before"])]
        used += len(row["before"])
        if used > len(steps):
            raise ValueError(f"pass {number} has more tokens than the run")
        unmasked = tuple(Unmasked(number, token, before) for token, before in zip(drawn, row["before"], strict=True))
        off = (
            Disagreement(**{name: row["disagreement"][name] for name in _DISAGREEMENT})
            if "disagreement" in row
            else None
        )
        spent_s = float(row.get("elapsed_s", 0.0))
        _that(spent_s >= 0, f"{spent_s} seconds")
        passes_read.append(DenoisingStep(number, unmasked, _open(number, row["open"]), off, spent_s))
    if used < len(steps):
        raise ValueError(f"{len(steps) - used} of {len(steps)} tokens came of no pass")
    return DenoisingRecord(head["mask"], head["start"], how, tuple(passes_read))


def check(record: DenoisingRecord, canvas: Sequence[int], finish: str) -> None:
    """ValueError where no run can have left this record of this canvas: what is given was rewritten, say."""
    vocab = min((s.snapshot.vocab for s in record.steps if s.snapshot is not None), default=1 << 31)
    _that(0 <= record.mask < vocab, f"the mask token {record.mask}")
    _that(0 <= record.start < max(len(canvas), 1), f"an answer that begins at {record.start} of {len(canvas)}")
    now, again = list(canvas), record.how.revise > 0 or record.how.remask > 0
    for step in record.passes:
        places = [one.token.position for one in step.unmasked]
        _that(places == sorted(set(places)), f"a pass {step.step} that draws in another order")
        _that(bool(places) or again, f"a pass {step.step} that draws nothing")
        for one in step.unmasked:
            at, token = one.token.position, one.token.token
            _that(at < len(canvas) and canvas[at] == record.mask, f"a token at {at}, where one was given or none is")
            _that(token != record.mask, f"the mask token drawn at {at}")
            stood = None if now[at] == record.mask else now[at]
            _that(one.before == stood, f"{one.before} before {token} at {at}, where {stood} stood")
            _that(one.before is None or again, f"a token drawn anew at {at}, without --revise")
            _that(one.before != token, f"a revision at {at} that changes nothing")
            now[at] = token
        positions = [mask.position for mask in step.open]
        _that(positions == sorted(set(positions)), f"open masks of pass {step.step} in another order")
        for mask in step.open:
            here = 0 <= mask.position < len(canvas) and canvas[mask.position] == record.mask
            here = here and (record.how.remask > 0 or now[mask.position] == record.mask)  # or masked again by now
            _that(here, f"an open mask at {mask.position} after pass {step.step}")
            _check_open(mask, vocab)
        if (off := step.disagreement) is not None:
            _that(record.how.check and 0 <= off.other <= off.masks, f"a pass {step.step} that was measured so")
            _that(off.kl >= -CLOSE, f"a divergence of {off.kl}")
    _that(finish != "length" or record.mask not in now, "masks that are left where it went to its end")


def _check_open(mask: OpenMask, vocab: int) -> None:
    where, ids, logp = f"at {mask.position}", mask.ids, mask.logprobs.astype(np.float64)
    _that(len(ids) > 0 and int(ids.min()) >= 0 and int(ids.max()) < vocab, f"candidates {where} that are no tokens")
    _that(len(np.unique(ids)) == len(ids), f"a candidate {where} that comes twice")
    _that(not np.isnan(logp).any() and bool((logp[1:] <= logp[:-1]).all()), f"candidates {where} that do not descend")
    known = np.exp(np.minimum(logp, 1.0))
    mass = float(known.sum())
    _that(mass <= 1 + CLOSE, f"candidates {where} of a mass of {mass:.4f}")
    least = -math.fsum(p * q for p, q in zip(known.tolist(), logp.tolist(), strict=True) if p > 0)
    rest, others = max(1 - mass, 0.0), max(vocab - len(ids), 1)
    most = least + (rest * (math.log(others) - math.log(rest)) if rest > 0 else 0.0)
    close = CLOSE * (1 + math.log(others))  # the mass of the rest is a difference of numbers in float32
    consistent = math.isfinite(mask.entropy) and least - close <= mask.entropy <= most + close
    _that(consistent, f"an entropy of {mask.entropy} {where}, whose candidates give {least:.4f} to {most:.4f}")


def _open(number: int, row: Mapping[str, str]) -> tuple[OpenMask, ...]:
    columns = {name: np.frombuffer(base64.b64decode(row[name], validate=True), kind) for name, kind in _ARRAYS.items()}
    count, sizes = len(columns["positions"]), {name: len(array) for name, array in columns.items()}
    width = sizes["ids"] // max(count, 1)
    if sizes != {"positions": count, "entropies": count, "ids": count * width, "logprobs": count * width}:
        raise ValueError(f"the open masks of pass {number} have arrays of lengths {sizes}")
    return tuple(
        OpenMask(int(at), float(h), ids, logprobs)
        for at, h, ids, logprobs in zip(
            *(columns["positions"], columns["entropies"]),
            *(columns[name].reshape(count, width) for name in ("ids", "logprobs")),
            strict=True,
        )
    )


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _that(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"no run has {what}")
