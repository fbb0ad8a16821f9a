"""Contrast: a start of an adapter at what sets its rows apart from other texts, which it then hardly changes.

Of each product, with R the second moment of what it reads of the rows and G that of other questions and the base's own
answers, A are the leading solutions of R a = l (G + ridge) a: directions in which the rows are large and the others
small. B begins at 0 and alone is trained, so that whatever else the model reads hardly comes through A. Null spaces of
G alone: LoRA-Null (arXiv:2503.02659); a fixed A: LoRA-FA (arXiv:2308.03303).
"""

from collections.abc import Sequence

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.train.data import batches
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.losses import batch_losses
from likely.engine.train.run import rehearsal
from likely.engine.train.run.run import TrainingRun
from likely.engine.train.run.validation import drawn
from likely.engine.weights.adapters.lora import Adapter
from likely.engine.weights.adapters.observed import observed
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.metal import mx

ROWS = 128  # rows that are read
RIDGE = 0.03  # of the mean of G's diagonal
ROUNDS, BESIDE = 12, 8  # of the iteration, and directions that it carries beside those that are asked for


def check(run: TrainingRun) -> None:
    """ParameterError for a run that cannot begin so: with an adapter of more than matrices, or without a tokenizer."""
    assert isinstance(run.trained, Adapter)
    if other := next((f for f in run.trained.factors.values() if f.site.kind != "matrix"), None):
        raise ParameterError(
            f"init = contrast goes with matrices, not with {other.site.path}: choose others by modules"
        )
    if run.session is None:
        raise ParameterError("init = contrast needs a tokenizer: give the run a session")


def begin(run: TrainingRun, progress: Report = silent) -> None:
    """Set A of each factor of a fresh run."""
    check(run)
    assert isinstance(run.trained, Adapter)
    factors = list(run.trained.factors.values())
    others = rehearsal.answers(run, progress=progress)
    rows = batch_losses.samples_of(drawn(run.rows.train, ROWS))
    ours, theirs = (moments(run, some, progress) for some in (rows, others))
    known: dict[tuple[int, str], np.ndarray] = {}
    for number, f in enumerate(factors):
        progress("finding what sets the rows apart", number, len(factors))
        key = id(f.site.owner), f.site.slot
        if key not in known:
            known[key] = directions(ours[key], theirs[key], f.a.shape[1], run.config.seed)
        f.a = mx.array(known[key].astype(np.float32))


def moments(
    run: TrainingRun, items: Sequence[TrainingSample], progress: Report = silent
) -> dict[tuple[int, str], np.ndarray]:
    """The mean of x x^T [in, in] over the tokens of samples, of what each adapted layer reads, by owner and slot."""
    assert isinstance(run.trained, Adapter)
    sums: dict[tuple[int, str], np.ndarray] = {}
    count = 0
    for at in range(0, len(items), 16):
        progress("reading", at, len(items))
        batch = batches.collate([TrainingSample(s.ids, (True,) * len(s.ids), s.where) for s in items[at : at + 16]])
        with observed(list(run.trained.factors.values())) as layers:
            mx.eval(run.model.hidden(batch.tokens, documents=batch.documents)[0])
            squares = {}
            for key, layer in layers.items():
                assert layer.read is not None
                x = layer.read[0].astype(mx.float32)
                squares[key] = x.T @ x
            mx.eval(squares)
        for key, square in squares.items():
            sums[key] = sums.get(key, 0.0) + np.asarray(square, np.float64)
        count += batch.tokens.size
    return {key: total / count for key, total in sums.items()}


def directions(ours: np.ndarray, theirs: np.ndarray, rank: int, seed: int = 0) -> np.ndarray:
    """A [in, rank]: the directions of the largest a^T ours a / a^T (theirs + ridge) a, each as large over the rows as
    those of an ordinary start are in the mean. Found by subspace iteration (Golub and Van Loan, sec. 8.2)."""
    n = len(ours)
    metric = theirs + RIDGE * np.trace(theirs) / n * np.eye(n)
    step = np.linalg.inv(metric) @ ours
    space = np.random.default_rng(seed).standard_normal((n, min(n, rank + BESIDE)))
    for _ in range(ROUNDS):
        space, _ = np.linalg.qr(step @ space)
    within = np.linalg.inv(np.linalg.cholesky(space.T @ metric @ space))
    _, turns = np.linalg.eigh(within @ (space.T @ ours @ space) @ within.T)
    found = space @ (within.T @ turns[:, -rank:])
    size: np.ndarray = np.sqrt(np.trace(ours) / (3 * n) / np.maximum((found * (ours @ found)).sum(0), 1e-30))
    whole: np.ndarray = found * size
    return whole
