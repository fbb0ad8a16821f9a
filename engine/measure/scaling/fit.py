"""The fit of a form to runs: the least Huber loss of log-losses, for many starts, weights or outcomes at a time.

min over theta of sum w Huber_1e-3(log L_theta - log L) (Hoffmann et al., arXiv:2203.15556, eq. 3). A quasi-Newton
search stops early in the flat valley of this objective, where all gradients are small (Besiroglu et al.,
arXiv:2404.10102); damped Gauss-Newton steps under the weights of the Huber loss do not see its scale. Knows nothing of
what a form means.
"""

from typing import Protocol

import numpy as np

DELTA = 1e-3  # runs further than 0.1 % from the law count by their distance, not by its square
ROUNDS = 300


class LossForm(Protocol):
    """A family of laws at n runs, by P numbers."""

    def log_loss(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log L [R, n] of theta [R, P], and its gradient [R, n, P]."""


def huber(residuals: np.ndarray) -> np.ndarray:
    """Half the square up to DELTA, then the line that goes on from there (Huber 1964)."""
    far = np.abs(residuals)
    loss: np.ndarray = np.where(far <= DELTA, far * far / 2, DELTA * (far - DELTA / 2))
    return loss


def descend(
    form: LossForm,
    theta: np.ndarray,
    log_losses: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    rounds: int = ROUNDS,
    shortest: float = 1e-7,
) -> tuple[np.ndarray, np.ndarray]:
    """Where each of theta [R, P] comes to, and its objective [R]; log_losses and weights are [n] or [R, n].

    It ends where a step is `shortest` in every number of theta. Every accepted step lowers the objective
    (Levenberg 1944; the weights of the Huber loss majorise it).
    """
    best = np.array(theta, np.float64)
    value, slope = form.log_loss(best)
    target = np.broadcast_to(log_losses, value.shape)
    weight = np.broadcast_to(1.0 if weights is None else weights, value.shape)
    off = value - target
    cost = (weight * huber(off)).sum(-1)
    damping = np.full(len(best), 1e-3)
    live = np.arange(len(best))  # problems that still move; `off` and `slope` are theirs
    for _ in range(rounds):
        pull = weight[live] * np.minimum(1.0, DELTA / np.maximum(np.abs(off), DELTA))
        lean = (slope * pull[..., None]).swapaxes(-1, -2)
        curve = lean @ slope
        scale = np.einsum("rii->ri", curve)  # a view of the diagonals
        scale += damping[live, None] * scale + 1e-14 * scale.max(-1, keepdims=True) + 1e-300
        step = np.linalg.solve(curve, -lean @ off[..., None])[..., 0]
        tried = best[live] + step
        with np.errstate(all="ignore"):  # a step too far gives no number, and is not taken
            value, gradient = form.log_loss(tried)
            distance = value - target[live]
            gain = cost[live] - (weight[live] * huber(distance)).sum(-1)
            better = gain >= 0
        ended = (better & (np.abs(step).max(-1) < shortest)) | (damping[live] > 1e12)
        best[live[better]] = tried[better]
        cost[live[better]] -= gain[better]
        damping[live] = np.where(better, np.maximum(damping[live] / 5, 1e-12), damping[live] * 6)
        off = np.where(better[:, None], distance, off)[~ended]
        slope = np.where(better[:, None, None], gradient, slope)[~ended]
        live = live[~ended]
        if not len(live):
            break
    return best, cost
