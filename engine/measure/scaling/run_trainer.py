"""The trainer of a ladder's runs: `engine.pretrain`, each run from random weights, all on the tokens of one corpus."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from platform import node
from shutil import rmtree
from tempfile import TemporaryDirectory

import numpy as np

from likely.engine.base.files.whole_file import make_folder
from likely.engine.measure.scaling.cost import SpeedProbe
from likely.engine.measure.scaling.plan import ScalingRun, SweepPlan
from likely.engine.measure.scaling.running import ScalingRunProgress, ScalingRunResult, SizeFacts
from likely.engine.train.control import Stepped, TrainControl
from likely.engine.train.pretrain.config import FILE, PretrainConfig, configure
from likely.engine.train.pretrain.corpus import corpus
from likely.engine.train.pretrain.pretraining import (
    Pretrained,
    PretrainingPlan,
    check_architecture,
    pretrain,
    shape_for,
)
from likely.engine.train.pretrain.shape import counts, parameters_of

STEPS = 12  # of a probe, of which the first two are warm-up
STILL = 1e-9  # its rate: it learns nothing and so never diverges, and a step takes as long
UNLESS_SAID = {"eval_every": 0, "sample_tokens": 0}  # a run's loss is that of its end, and nobody reads samples


class PretrainingRuns:
    """Trains the runs of a plan; the tokenizer and the tokens are made once, beside them."""

    def __init__(self, plan: SweepPlan) -> None:
        self.plan = plan
        self.corpus = plan.out / "corpus"

    def facts(self, size: str) -> SizeFacts:
        config = self._config(size, self.plan.out, 0, 0)
        check_architecture(config)  # before there is a folder, and a text is read
        make_folder(self.plan.out, "out")
        text = corpus(config, parameters_of(size))
        return SizeFacts(counts(*shape_for(config, text), config.context)[0], text.facts.train_tokens)

    def probe(self, size: str) -> SpeedProbe:
        began = time.perf_counter()
        with TemporaryDirectory() as folder:
            config = self._config(size, Path(folder) / "run", 0, 0)
            tokens = config.context * config.batch * config.accumulate * STEPS
            config = replace(config, tokens=tokens, rate=STILL)
            events = pretrain(config)
            prepared = next(events)
            assert isinstance(prepared, PretrainingPlan)
            steps = [event for event in events if isinstance(event, Stepped)]
        times = np.diff([step.elapsed_s for step in steps])[1:]
        a_step = steps[-1].tokens / steps[-1].step
        beside = time.perf_counter() - began - steps[-1].elapsed_s
        return SpeedProbe(prepared.parameters, float(np.median(times)) / a_step, beside, prepared.memory)

    def train(
        self, rung: ScalingRun, folder: Path, control: TrainControl
    ) -> Iterator[ScalingRunProgress | ScalingRunResult]:
        config = self._config(rung.size, folder, rung.tokens, rung.seed)
        last: object = None
        begun = (folder / FILE).exists()
        if folder.exists() and not begun:  # killed while it was being made: nothing was learned
            rmtree(folder)
        for event in pretrain(config, control, resume=begun):
            last = event
            if isinstance(event, Stepped):
                yield ScalingRunProgress(rung, event.tokens, event.smooth)
        assert isinstance(last, Pretrained)
        if last.reason == "stopped":
            return
        sound = last.reason not in ("diverged", "nan")
        loss, low, high = (last.loss, last.low, last.high) if sound else (None, None, None)
        yield ScalingRunResult(
            run=rung.name, parameters=last.parameters,
            embedding=last.parameters - last.parameters_without_embedding, tokens=last.tokens,
            unique=last.unique_tokens, loss=loss, low=low, high=high, seconds=last.seconds, seed=rung.seed,
            machine=node(),
        )  # fmt: skip

    def _config(self, size: str, out: Path, tokens: int, seed: int) -> PretrainConfig:
        ours = {
            "size": size,
            "out": str(out),
            "corpus": str(self.corpus),
            "tokens": tokens,
            "seed": seed,
            "patience": 0,
        }
        return configure({**UNLESS_SAID, **self.plan.training, **ours})
