"""Evidence of a Laplace approximation: the marginal likelihood of a prior's strength, and the strength that it chooses.

With a prior N(0, I / precision) on P weights w, at their maximum, and eigenvalues h of the curvature there, of which
those that are left out are 0:

    log p(D) = log p(D | w) - precision / 2 |w|^2 + P / 2 log precision - 1 / 2 sum log(h + precision)

(MacKay 1992, eq. 2.4.) Its derivative by log precision is 1/2 (sum h / (h + precision) - precision |w|^2), which only
falls: there is one maximum, and it is bisected. float64.
"""

import math

import numpy as np

from likely.engine.base.errors import ParameterError

LOWEST, HIGHEST = 1e-8, 1e12  # of a precision: past them it says that weights are free, or 0


def log_evidence(log_likelihood: float, square: float, curvature: np.ndarray, precision: float) -> float:
    """In nats. `square` is |w|^2, `curvature` the eigenvalues of the Hessian of -log p(D | w) that are not 0."""
    h = np.asarray(curvature, np.float64)
    return log_likelihood - 0.5 * precision * square - 0.5 * float(np.log1p(h / precision).sum())


def best_precision(square: float, curvature: np.ndarray) -> float:
    """The precision of the most evidence; ParameterError where none has: weights, or curvature, that are 0."""
    h = np.asarray(curvature, np.float64)
    if not square > 0 or not h.max(initial=0.0) > 0:
        what = "the weights are 0" if not square > 0 else "the data do not depend on the weights"
        raise ParameterError(f"no prior has the most evidence, for {what}: give --prior-precision")
    low, high = math.log(LOWEST), math.log(HIGHEST)
    while high - low > 1e-10:
        middle = (low + high) / 2
        precision = math.exp(middle)
        if float((h / (h + precision)).sum()) > precision * square:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
