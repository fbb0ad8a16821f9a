"""What a record of passes may hold, at both sides of every bound, and that it is read as it was written."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.diffusion import record
from engine.diffusion.record import DenoisingRecord
from engine.diffusion.unmasking import DenoisingStep, Disagreement, OpenMask, Unmasking
from engine.trace.consistency import CLOSE
from tests.engine.diffusion.test_passes import MASK, drawn

CANVAS = (4, MASK, MASK, MASK)


def opened(position: int, **new: Any) -> OpenMask:
    logp = np.log(np.array([0.5, 0.3, 0.1], np.float32))
    known = float(-(np.exp(logp) * logp).sum())
    return replace(OpenMask(position, known + 0.25, np.array([2, 0, 5], np.int32), logp), **new)


PASSES = (
    DenoisingStep(1, (drawn(1, 2),), (opened(2), opened(3))),
    DenoisingStep(2, (drawn(2, 3, 2), drawn(3, 0, 2)), ()),
)


def run(
    how: Unmasking | None = None, passes: Sequence[DenoisingStep] = PASSES, mask: int = MASK, start: int = 1
) -> DenoisingRecord:
    return DenoisingRecord(mask, start, how or Unmasking(), tuple(passes))


def changed(number: int, how: Unmasking | None = None, **new: Any) -> DenoisingRecord:
    passes = list(PASSES)
    passes[number] = replace(passes[number], **new)
    return run(how, passes)


REVISE, REMASK, CHECK = Unmasking(revise=1), Unmasking(remask=0.5), Unmasking(cache="dual", block=3, check=True)


def test_what_a_run_can_have_left_is_let_through() -> None:
    rest = 0.1 * (math.log(7) - math.log(0.1))
    least = opened(2).entropy - 0.25
    slack = CLOSE * (1 + math.log(7))
    again = (*PASSES, DenoisingStep(3, (drawn(1, 3, 3, 2),), ()))
    for good in (
        run(), run(start=3), run(start=0), run(REVISE, again), run(REMASK, again),
        run(REVISE, (*PASSES, DenoisingStep(3, (), ()))), changed(0, REMASK, open=(opened(1), opened(2))),
        changed(0, CHECK, disagreement=Disagreement(3, 3, 0.0)),
        changed(0, CHECK, disagreement=Disagreement(3, 0, -CLOSE)),
        changed(0, open=(opened(2, entropy=least - slack * 0.99), opened(3, entropy=least + rest + slack * 0.99))),
        changed(0, open=(opened(2, ids=np.array([0, 9, 5], np.int32)),)),
        changed(0, open=(opened(2, logprobs=np.log(np.full(3, 0.3, np.float32)), entropy=1.4),)),
    ):  # fmt: skip
        record.check(good, CANVAS, "length")
    lone = OpenMask(2, 0.75, np.array([2], np.int32), np.log(np.array([0.8], np.float32)))
    record.check(changed(0, open=(lone,)), CANVAS, "length")
    record.check(run(passes=(), mask=(1 << 31) - 1), CANVAS, "cancelled")
    with pytest.raises(ValueError, match=f"the mask token {1 << 31}"):
        record.check(run(passes=(), mask=1 << 31), CANVAS, "cancelled")
    record.check(run(passes=PASSES[:1]), CANVAS, "cancelled")
    record.check(run(passes=(), start=0), (), "cancelled")


def test_what_no_run_can_have_left_is_refused_by_its_place() -> None:
    rest = 0.1 * (math.log(7) - math.log(0.1))
    least = opened(2).entropy - 0.25
    slack = CLOSE * (1 + math.log(7))
    mass = np.log(np.array([0.5, 0.3, 0.2 + CLOSE * 1.1], np.float32))
    for bad, line in (
        (run(mask=-1), "the mask token -1"),
        (run(start=-1), "begins at -1"),
        (changed(1, unmasked=(drawn(2, 3), drawn(2, 3))), "in another order"),
        (run(passes=(*PASSES, DenoisingStep(3, (), ()))), "draws nothing"),
        (changed(1, unmasked=(drawn(4, 2),)), "a token at 4"),
        (changed(0, unmasked=(drawn(1, MASK),)), "the mask token drawn at 1"),
        (run(REVISE, (*PASSES, DenoisingStep(3, (drawn(1, 3, 3, 5),), ()))), "5 before 3 at 1, where 2 stood"),
        (run(REVISE, (*PASSES, DenoisingStep(3, (drawn(1, 3, 3),), ()))), "None before 3 at 1, where 2 stood"),
        (run(REVISE, (*PASSES, DenoisingStep(3, (drawn(1, 2, 3, 2),), ()))), "changes nothing"),
        (changed(0, open=(opened(2), opened(2))), "another order"),
        (changed(0, open=(opened(1),)), "an open mask at 1 after pass 1"),
        (changed(0, REMASK, open=(opened(0),)), "an open mask at 0"),
        (changed(0, CHECK, disagreement=Disagreement(3, 4, 0.0)), "measured so"),
        (changed(0, CHECK, disagreement=Disagreement(3, -1, 0.0)), "measured so"),
        (changed(0, CHECK, disagreement=Disagreement(3, 1, -CLOSE * 1.1)), "a divergence of"),
        (changed(0, open=(opened(2, ids=np.array([2, 0, 10], np.int32)),)), "candidates at 2 that are no tokens"),
        (changed(0, open=(opened(2, ids=np.zeros(0, np.int32)),)), "no tokens"),
        (changed(0, open=(opened(2, logprobs=np.array([np.nan, -1, -2], np.float32)),)), "do not descend"),
        (changed(0, open=(opened(2, logprobs=mass),)), "of a mass of 1.01"),
        (changed(0, open=(opened(2, entropy=least - slack * 1.01),)), "an entropy of"),
        (changed(0, open=(opened(2, entropy=math.nan),)), "an entropy of nan"),
        (changed(0, open=(opened(2, entropy=least + rest + slack * 1.01),)), "whose candidates give"),
    ):
        with pytest.raises(ValueError, match=f"^no run has .*{line}"):
            record.check(bad, CANVAS, "length")
