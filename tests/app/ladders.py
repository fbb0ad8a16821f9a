"""Ladders of runs made by hand: their law is known, and so is every figure of a report on them."""

from dataclasses import replace

import numpy as np

from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.scaling.alternatives import BrokenFit, RepetitionLaw
from likely.engine.measure.scaling.fitted import FittedLaw
from likely.engine.measure.scaling.forecast import Purchase, RunForecast
from likely.engine.measure.scaling.frontier import IsoFlop
from likely.engine.measure.scaling.report import LeftOutFit, SweepReport
from likely.engine.measure.scaling.scaling_law import ScalingLaw
from likely.engine.measure.scaling.sweep import LeftOut, ScalingSweep

LAW = ScalingLaw(1.5, 40.0, 60.0, 0.5, 0.5)
SIZES = (1e3, 2e3, 4e3, 8e3)
RUNS = ScalingSweep(
    parameters=np.array([*SIZES, *SIZES]),
    tokens=np.array([8e4, 4e4, 2e4, 1e4, 8e5, 4e5, 2e5, 1e5]),
    loss=np.array([2.99, 2.7, 2.55, 2.56, 2.85, 2.48, 2.30, 2.14]),
    row=np.arange(2, 10),
    seconds=np.array([np.nan, 2, 2, 2, 16, 16, 32, 16]),
)
FITTED = FittedLaw(LAW, RUNS, np.zeros(5), 0.00125)
LAWS = np.array([[1.4, 38.0, 58.0, 0.5, 0.5], [1.5, 40.0, 60.0, 0.5, 0.5], [1.6, 42.0, 62.0, 0.5, 0.5]])
REPORT = SweepReport(
    fitted=FITTED,
    laws=LAWS,
    intervals={
        "E": (1.4, 1.6),
        "A": (38, 42),
        "B": (58, 62),
        "alpha": (0.45, 0.55),
        "beta": (0.4, 0.65),
        "a": (0.4, 0.6),
    },
    coverage={"E": 0.91, "A": 0.9, "B": 0.89, "alpha": 0.94, "beta": 0.93, "a": 0.95},
    left_out=[LeftOut(3, "loss is no number", "one & two"), LeftOut(11, "diverged")],
    sensitivity=[
        LeftOutFit("without row 2", 0.51, 0.49, 0.4900),
        LeftOutFit("without the 5 highest losses", 0.6, 0.4, 0.4),
    ],
    iso_flop=[
        IsoFlop(4.8e8, SIZES, (2.99, 2.7, 2.55, 2.56), 5200.0, 2.54),
        IsoFlop(4.8e9, SIZES, (2.85, 2.48, 2.30, 2.14), None, None),
    ],
    by_parabolas=Estimate(0.52, 0.02, bounds=(0.48, 0.56), n=2),
    by_envelope=Estimate(0.45, 0.05, bounds=(0.35, 0.55), n=3),
    foretold=[RunForecast(8, 4.8e9, 2.29, 2.2, 2.38, 2.30), RunForecast(9, 4.8e9, 2.2, 2.16, 2.24, 2.14)],
    broken=BrokenFit(0.12, 0.08, 1e9, 0.001, (), 0.0),
    repeated=RepetitionLaw(ScalingLaw(1.5, 40.0, 60.0, 0.52, 0.48), 15.3, 0.0011, 4.0),
    without_embedding=replace(FITTED, law=ScalingLaw(1.5, 40.0, 60.0, 0.48, 0.52)),
    purchases=[
        Purchase(
            4.8e9, 1.0, 3464.0, 230_940.0, 2.3, {"parameters": (3e3, 4e3), "tokens": (2e5, 3e5), "loss": (2.2, 2.4)}
        ),
        Purchase(4.8e11, 100.0, 34_641.0, 2_309_401.0, 1.75, None),
    ],
)
BARE = replace(
    REPORT, coverage=None, left_out=[], iso_flop=[], by_parabolas=None, by_envelope=None, foretold=[], broken=None,
    repeated=None, without_embedding=None,
)  # fmt: skip
