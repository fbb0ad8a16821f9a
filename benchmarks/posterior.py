"""Posteriors of an adapter: what they cost, and whether they know what they do not know.

    python benchmarks/posterior.py draw ADAPTER...              members drawn in one batch beside one, by turns
    python benchmarks/posterior.py fit ADAPTER                  Laplace's passes beside an epoch of training
    python benchmarks/posterior.py knows ADAPTER SAME OTHER     rows of the trained kind and of another: epistemic bits,
                                                                NLL and ECE before and after averaging

Each prints one JSON line. ADAPTER directories as `likely tune` writes them; `knows` wants a posterior beside it.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.base.statistics import estimates
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.figures import calibration
from likely.engine.train.attach.stack import Stack
from likely.engine.train.data import batches, data, samples
from likely.engine.train.losses import batch_losses
from likely.engine.train.posterior import fit
from likely.engine.train.posterior.averaged import AveragedModel, UncertainText
from likely.engine.train.posterior.curvature_pass import collect
from likely.engine.train.posterior.posterior import Ensemble
from likely.metal import mx

TURNS, DRAWN = 5, 16
LN2 = float(np.log(2))


def drawn(model: Any, prompt: list[int]) -> float:
    """Processor seconds of greedy drawing after a prompt that has been read."""
    place = Branches(model, model.make_cache())
    list(place.read(prompt))
    mx.eval(place.logits())
    began = time.process_time()
    for _ in range(DRAWN):
        token = int(mx.argmax(place.logits()[0]))
        place.feed([token])
        place.settle([token])
    mx.eval(place.logits())
    return time.process_time() - began


def draw(folders: list[Path]) -> dict[str, Any]:
    """All members as one batch beside the first alone, by turns."""
    opened = fit.open_adapter(folders[0])
    own = {name: np.asarray(array) for name, array in opened.adapter.parameters().items()}
    members = [
        fit.open_adapter(folder, str(opened.checkpoint.info.path)).adapter.parameters() for folder in folders[1:]
    ]
    stacked = {n: np.stack([a, *(np.asarray(m[n]) for m in members)]) for n, a in own.items()}
    several = AveragedModel(opened.model, opened.adapter, Ensemble(stacked))
    prompt = opened.checkpoint.tokenizer.encode(
        "The sky is blue because the air scatters short wavelengths of light, and"
    )
    pairs = [(drawn(opened.model, prompt), drawn(several, prompt)) for _ in range(TURNS)]
    ratios = sorted(b / a for a, b in pairs)
    return {
        "figure": "members in one batch / one",
        "members": len(folders),
        "ratio": ratios[len(ratios) // 2],
        "turns": ratios,
    }


def fitted(folder: Path) -> dict[str, Any]:
    """Processor seconds of Laplace's passes and of an epoch of training, and of one forward pass, by turns."""
    opened = fit.open_adapter(folder)
    rows = fit.read_rows(opened, "", (), lambda *_: None).samples[:16]
    config = replace(opened.config, batch=4)
    plan = batches.plan(rows, size=4, length=config.length, packing=False, seed=0, epoch=0)

    def epoch() -> None:
        for indices in plan:
            mx.eval(batch_losses.gradient(opened.model, opened.adapter, [rows[i] for i in indices], config)[1])

    def forward() -> None:
        for indices in batches.plan(rows, size=1, length=256, packing=True, seed=0, epoch=0):
            batch = batches.collate([rows[i] for i in indices])
            mx.eval(opened.model.head(opened.model.hidden(batch.tokens, documents=batch.documents)[0][batch.at]))

    ways: dict[str, Any] = {
        "epoch": epoch,
        "forward": forward,
        "last": lambda: collect(opened.model, opened.adapter, rows, last=True),
        "kron": lambda: collect(opened.model, opened.adapter, rows),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2):
        for name, way in ways.items():
            began = time.process_time()
            way()
            took[name].append(time.process_time() - began)
    low = {name: min(times) for name, times in took.items()}
    return {
        "figure": "processor time of a fit",
        "rows": len(rows),
        "kron / epoch": low["kron"] / low["epoch"],
        "last / epoch": low["last"] / low["epoch"],
        "last / forward": low["last"] / low["forward"],
    }


def knows(folder: Path, kinds: dict[str, Path], count: int) -> dict[str, Any]:
    """Of each kind of rows the mean epistemic bits of the answers' tokens; NLL and ECE with and without averaging."""
    opened = fit.open_adapter(folder)
    session = Session(opened.checkpoint)
    fit.lora.detach(opened.adapter)
    Stack(session).add(folder)
    assert session.average is not None
    averaged = session.average(0)
    text = UncertainText(averaged)
    figures: dict[str, Any] = {
        "figure": "known and unknown",
        "posterior": averaged.posterior.KIND,
        "samples": averaged.samples,
    }
    epistemic: dict[str, list[float]] = {}
    for kind, path in kinds.items():
        rows = samples.prepare(data.read(path, valid=0).train, opened.checkpoint.tokenizer, length=256).samples[:count]
        nll: dict[str, list[float]] = {"trained": [], "averaged": []}
        reliable: dict[str, list[tuple[float, bool]]] = {"trained": [], "averaged": []}
        doubts, spread = [], []
        for row in rows:
            ids, first = list(row.ids), row.trained.index(True)
            list(text.read(ids[:-1]))
            logp = text.distributions(first - 1, len(ids) - 1)
            mean = np.asarray(mx.logsumexp(logp, axis=0) - np.log(averaged.samples))
            one = np.asarray(session.model(mx.array([ids[:-1]]))[0, first - 1 :].astype(mx.float32), np.float64)
            one = (
                one
                - np.log(np.exp(one - one.max(-1, keepdims=True)).sum(-1, keepdims=True))
                - one.max(-1, keepdims=True)
            )
            for name, predicted in (("trained", one), ("averaged", mean)):
                nll[name].append(-float(np.mean([predicted[i, t] for i, t in enumerate(ids[first:])])))
                reliable[name] += [
                    (float(np.exp(r.max())), int(r.argmax()) == t) for r, t in zip(predicted, ids[first:], strict=True)
                ]
            parts = text.after(first - 1, len(ids) - 1, [[t] for t in ids[first:]])
            doubts.append(float(np.mean([u.epistemic for u in parts])) / LN2)
            spread.append(float(np.mean([u.aleatoric for u in parts])) / LN2)
        epistemic[kind] = doubts
        change = estimates.paired(nll["trained"], nll["averaged"])
        errors = {
            n: calibration.ece(calibration.reliability(*map(list, zip(*s, strict=True)))) for n, s in reliable.items()
        }
        figures[kind] = {
            "rows": len(rows),
            "epistemic": _told(estimates.mean(doubts)),
            "aleatoric": _told(estimates.mean(spread)),
            "nll": {name: _told(estimates.mean(values)) for name, values in nll.items()},
            "nll_change": _told(change),
            "ece": errors,
        }
    a, b = (np.array(epistemic[kind]) for kind in kinds)
    half = 1.96 * float(np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))
    figures["epistemic: other - same"] = [
        float(b.mean() - a.mean()),
        float(b.mean() - a.mean()) - half,
        float(b.mean() - a.mean()) + half,
    ]
    return figures


def _told(estimate: estimates.Estimate) -> list[float]:
    return [round(estimate.mean, 4), *(round(edge, 4) for edge in estimate.interval)]


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    folders = [Path(path) for path in paths if not path.isdigit()]
    if what == "draw":
        print(json.dumps(draw(folders)))
    elif what == "fit":
        print(json.dumps(fitted(folders[0])))
    else:
        print(
            json.dumps(
                knows(folders[0], {"same": folders[1], "other": folders[2]}, int(paths[3]) if len(paths) > 3 else 150)
            )
        )
