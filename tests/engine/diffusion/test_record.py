"""The record of a run by diffusion: written and read alike, and what no run can have left is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.record import DenoisingRecord, canvases
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStrings
from likely.engine.sampling.trace.unmasking import DenoisingStep, Disagreement, Unmasking, fill
from likely.engine.sampling.transforms import Temperature

MASK, CANVAS = 30, (4, 30, 30, 7, 30, 30, 30)


REVISED = Unmasking(steps=3, revise=3)


def run(how: Unmasking = REVISED) -> Trace:
    random = np.random.default_rng(1)
    logits = random.normal(size=(31, 31)).astype(np.float32) * 2
    logits[:, MASK] = -np.inf

    def predict(ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.asarray(logits[places] + logits[int(ids.sum()) % 31])

    passes = tuple(fill(predict, CANVAS, MASK, how, SamplingConfig((Temperature(0.8),)), seed=3))
    record = DenoisingRecord(MASK, 0, how, passes)
    return Trace("m", "0", {}, 3, CANVAS, record.steps, "length", lexicon=TokenStrings({}), denoising=record)


@pytest.mark.parametrize("how", [REVISED, Unmasking(steps=3, remask=0.2)])
def test_every_pass_and_revision_is_read_as_it_was_written(tmp_path: Path, how: Unmasking) -> None:
    trace = run(how)
    if how.remask:
        trace = changed(run(replace(how, cache="dual", block=5, check=True)), 0, disagreement=Disagreement(5, 1, 0.25))
    assert trace.denoising is not None
    assert any(one.before is not None for p in trace.denoising.passes for one in p.unmasked)
    file.save([trace, trace], tmp_path / "a")
    found, twin = file.load(tmp_path / "a")
    file.save([found, twin], tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert found.denoising is not None and found.denoising.how == trace.denoising.how
    assert [p.disagreement for p in found.denoising.passes] == [p.disagreement for p in trace.denoising.passes]
    for a, b in zip(found.denoising.passes, trace.denoising.passes, strict=True):
        assert (a.step, [(u.step, u.before, u.token.token, u.token.logprob) for u in a.unmasked]) == (
            b.step,
            [(u.step, u.before, u.token.token, u.token.logprob) for u in b.unmasked],
        )
        assert [(m.position, m.entropy, m.ids.tolist(), m.logprobs.tolist()) for m in a.open] == [
            (m.position, m.entropy, m.ids.tolist(), m.logprobs.tolist()) for m in b.open
        ]
    *_, last = canvases(CANVAS, found.denoising.passes)
    assert MASK not in last and (last[0], last[3]) == (4, 7)


def changed(trace: Trace, number: int, **new: Any) -> Trace:
    """The run with another pass."""
    assert trace.denoising is not None
    passes = list(trace.denoising.passes)
    passes[number] = replace(passes[number], **new)
    record = replace(trace.denoising, passes=tuple(passes))
    return replace(trace, denoising=record, steps=record.steps)


def test_what_no_run_can_have_left_is_refused(tmp_path: Path) -> None:
    trace = run()
    record = trace.denoising
    assert record is not None
    first = record.passes[0]
    mask, one = first.open[0], first.unmasked[0]

    def opened(**new: Any) -> Trace:
        return changed(trace, 0, open=(replace(mask, **new), *first.open[1:]))

    def drawn(**new: Any) -> Trace:
        return changed(trace, 0, unmasked=(replace(one, **new), *first.unmasked[1:]))

    moved = [replace(u, token=replace(u.token, position=3)) for u in first.unmasked[:1]]
    wrong: dict[str, Trace] = {
        "an entropy of 9": opened(entropy=9.0), "an entropy of 0.001": opened(entropy=0.001),
        "an open mask at 3": opened(position=3), "an open mask at 99|in another order": opened(position=99),
        "that comes twice": opened(ids=np.repeat(mask.ids[:1], len(mask.ids))),
        "that do not descend": opened(logprobs=mask.logprobs[::-1].copy()),
        "of a mass of": opened(logprobs=mask.logprobs + 2), "that are no tokens": opened(ids=mask.ids + 31),
        "in another order": changed(trace, 0, unmasked=first.unmasked[::-1]),
        "where one was given": changed(trace, 0, unmasked=(*moved, *first.unmasked[1:])),
        "before .* stood": drawn(before=5),
        "masks that are left": replace(trace, denoising=replace(record, passes=(first,)), steps=first_steps(first)),
        "without --revise": replace(trace, denoising=replace(record, how=Unmasking(steps=3))),
        "an answer that begins at 7": replace(trace, denoising=replace(record, start=7)),
        "the mask token 31": replace(trace, denoising=replace(record, mask=31)),
        "that was measured so": changed(trace, 0, disagreement=Disagreement(5, 1, 0.25)),
        "an entropy of nan": opened(entropy=float("nan")),
        "of pass 1 in another order": changed(trace, 0, open=first.open[::-1]),
        "came of no pass": replace(trace, denoising=replace(record, passes=record.passes[:-1])),
    }  # fmt: skip
    for line, damaged in wrong.items():
        file.save([damaged], tmp_path / "t")
        with pytest.raises(DataError, match=line):
            file.load(tmp_path / "t")


def first_steps(step: DenoisingStep) -> tuple[Any, ...]:
    return tuple(one.token for one in step.unmasked)


def test_a_file_that_was_cut_or_changed_is_noticed(tmp_path: Path) -> None:
    file.save([run()], tmp_path / "t")
    lines = (tmp_path / "t").read_text().splitlines()
    head, row = json.loads(lines[0]), json.loads(lines[-1])
    passes = len(lines) - 1 - head["steps"]
    assert head["denoising"]["passes"] == passes == 6
    damaged: list[tuple[list[str], str]] = [(lines[:-n], r"promises .* steps and 6 passes") for n in (1, passes)]
    for field, value, line in (
        ("before", ["x"], "before"), ("open", {}, "positions"), ("open", {**row["open"], "ids": "!"}, "base64|padding"),
        ("open", {**row["open"], "positions": "AAAA"}, "multiple of element size"),
        ("open", {**row["open"], "positions": "AAAAAA=="}, "arrays of lengths"),
    ):  # fmt: skip
        damaged.append(([*lines[:-1], json.dumps({**row, field: value})], line))
    for options, line in (({"steps": "x"}, "whole number"), ({"spin": 1}, "unknown option spin")):
        other = {**head, "denoising": {**head["denoising"], "options": options}}
        damaged.append(([json.dumps(other), *lines[1:]], line))
    damaged.append(([lines[0].replace('"model": "m"', '"model": "n"'), *lines[1:]], "checksum"))
    for changed_, line in damaged:
        (tmp_path / "t").write_text("\n".join(changed_) + "\n")
        with pytest.raises(DataError, match=line):
            file.load(tmp_path / "t")
