"""How often 95 % intervals of a fitted law hold the planted one, and how long a fit takes, on ladders of known laws.

python benchmarks/scaling_fit.py                     500 ladders of 60 runs, and 500 of 16
"""

import argparse
import json
import time

import numpy as np

from likely.engine.measure.scaling import fitted
from likely.engine.measure.scaling.report import report
from likely.engine.measure.scaling.scaling_law import FLOP, ScalingLaw
from likely.engine.measure.scaling.sweep import ScalingSweep

LAW = ScalingLaw(1.69, 406.4, 410.7, 0.34, 0.28)


def ladder(budgets: int, sizes: int, sd: float, seed: int) -> ScalingSweep:
    computes = np.geomspace(1e17, 1e21, budgets)
    n = np.concatenate([LAW.best(c)[0] * np.geomspace(1 / 6, 6, sizes) for c in computes])
    d = np.repeat(computes, sizes) / FLOP / n
    noise = np.exp(np.random.default_rng(seed).normal(0, sd, len(n)))
    return ScalingSweep(n, d, LAW.loss(n, d) * noise, np.arange(len(n)) + 2)


def held(budgets: int, sizes: int, sd: float, worlds: int, count: int) -> dict[str, float]:
    inside = dict.fromkeys(fitted.NAMES, 0)
    for seed in range(worlds):
        law = fitted.fit(ladder(budgets, sizes, sd, seed))
        for name, (low, high) in fitted.intervals(fitted.refits(law, count, seed=seed)).items():
            if name in inside:
                inside[name] += low <= getattr(LAW, name) <= high
    return {name: hits / worlds for name, hits in inside.items()}


parser = argparse.ArgumentParser()
parser.add_argument("--worlds", type=int, default=500)
parser.add_argument("--refits", type=int, default=300)
parser.add_argument("--sd", type=float, default=0.01, help="of log-losses")
options = parser.parse_args()

for budgets, sizes in ((6, 10), (4, 4)):
    shares = held(budgets, sizes, options.sd, options.worlds, options.refits)
    print(json.dumps({"runs": budgets * sizes, "worlds": options.worlds, "sd": options.sd, "held": shares}))
before = time.process_time()
report(ladder(7, 35, options.sd, 0), [])
print(json.dumps({"runs": 245, "whole report, processor seconds": round(time.process_time() - before, 2)}))
