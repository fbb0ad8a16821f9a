"""Values of other packages for the sample metrics, written beside this file; run where they are installed.

    pip install prdc vendi-score scikit-learn sacrebleu && pip install --no-deps mauve-text
    python tests/data/samples/peers.py

They are no dependencies of ours. mauve-text wants faiss for its buckets, which are not compared:
its divergence curve is.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np

sys.modules.setdefault("faiss", ModuleType("faiss"))


def points(seed: int, n: int, d: int, shift: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def texts() -> list[str]:
    random = np.random.default_rng(5)
    words = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "then", "slept"]
    return [" ".join(random.choice(words, int(random.integers(4, 12)))) for _ in range(30)]


def main() -> None:
    import mauve

    compute_mauve = sys.modules[mauve.compute_mauve.__module__]
    from prdc import compute_prdc
    from sacrebleu import sentence_bleu
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import log_loss
    from sklearn.metrics.pairwise import rbf_kernel
    from vendi_score import vendi

    found: dict[str, object] = {}
    cases = [(0, 120, 6, 0.0), (1, 200, 16, 0.3), (2, 90, 3, 1.0)]
    found["prdc"] = [
        {"case": case, "k": 5, **compute_prdc(points(100, case[1], case[2], 0.0), points(*case), nearest_k=5)}
        for case in cases
    ]
    mmds = []
    for case in cases:
        x, y = points(100, case[1], case[2], 0.0), points(*case)
        gamma = 1 / (2 * 1.5**2)
        n, m = len(x), len(y)
        kx, ky, kxy = rbf_kernel(x, x, gamma), rbf_kernel(y, y, gamma), rbf_kernel(x, y, gamma)
        value = (kx.sum() - n) / (n * (n - 1)) + (ky.sum() - m) / (m * (m - 1)) - 2 * kxy.mean()
        mmds.append({"case": case, "width": 1.5, "squared": float(value)})
    found["mmd"] = mmds
    curves = []
    random = np.random.default_rng(3)
    for size in (2, 5, 20, 100):
        p, q = (random.dirichlet(np.ones(size)) for _ in range(2))
        mixtures = np.linspace(1e-6, 1 - 1e-6, 25)
        curve = compute_mauve.get_divergence_curve_for_multinomials(p, q, mixtures, 5.0)
        x, y = curve.T
        order = np.argsort(x)
        area = float(np.trapezoid(y[order], x[order]))
        curves.append({"p": p.tolist(), "q": q.tolist(), "mauve": area})
    found["mauve"] = curves
    found["vendi"] = [{"case": case, "value": float(vendi.score_X(points(*case), normalize=True))} for case in cases]
    said = texts()
    scores = [
        sentence_bleu(each, said[:i] + said[i + 1 :], tokenize="none", use_effective_order=True).score / 100
        for i, each in enumerate(said)
    ]
    found["self_bleu"] = {"texts": said, "scores": scores}
    confidence = np.random.default_rng(4).uniform(0.01, 0.99, 500)
    right = (np.random.default_rng(6).uniform(0, 1, 500) < confidence**1.5).astype(int)
    accuracy, means = calibration_curve(right, confidence, n_bins=15)
    adaptive, adaptive_means = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    found["calibration"] = {
        "confidence": confidence.tolist(), "right": right.tolist(),
        "accuracy": accuracy.tolist(), "means": means.tolist(),
        "adaptive_accuracy": adaptive.tolist(), "adaptive_means": adaptive_means.tolist(),
        "nll": float(log_loss(right, confidence)),
    }  # fmt: skip
    names = ("prdc", "mauve-text", "vendi-score", "scikit-learn", "sacrebleu", "numpy")
    found["versions"] = {name: version(name) for name in names}
    Path(__file__).with_name("peers.json").write_text(json.dumps(found) + "\n")


main()
