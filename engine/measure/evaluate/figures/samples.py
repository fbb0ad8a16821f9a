"""Two sets of samples set against each other, and one against itself: distances, coverage, diversity, novelty. No mlx.

Points are features [n, d], fixed and named by whoever computes them: mean-pooled hidden states of a named model, or the
n-gram spectra here. No number of these can be set beside one of other features, another n or other settings.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np

CLOSE = 1 + 1e-9  # an edge is in its ball, whatever rounding says
PERMUTATIONS = 500

Texts = Sequence[Sequence[object]]  # words or tokens


def spectrum(texts: Texts, n: int = 2, size: int = 512) -> np.ndarray:
    """Features without a model: how often each n-gram stands in a text, hashed to `size` places, of length 1."""
    counts = np.zeros((len(texts), size))
    for row, text in zip(counts, texts, strict=True):
        for gram in grams(text, n):
            row[_place(gram, size)] += 1
    return _on_sphere(counts)


def _on_sphere(points: np.ndarray) -> np.ndarray:
    """Each point [n, d] at length 1; one at 0 stays there."""
    units: np.ndarray = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    return units


def _place(gram: tuple[object, ...], size: int) -> int:
    return crc32(repr(gram).encode()) % size  # the same in every process


def grams(text: Sequence[object], n: int) -> list[tuple[object, ...]]:
    """A text's n-grams, in order."""
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances [n, m]."""
    squares: np.ndarray = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * x @ y.T
    np.maximum(squares, 0.0, out=squares)
    return squares


# -- maximum mean discrepancy ---------------------------------------------------------------------------------------


def pooled(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The squared distances of every two points of both [n + m, n + m], those of x first."""
    points = np.concatenate([np.asarray(x, np.float64), np.asarray(y, np.float64)])
    return distances(points, points)


def mmd(kernel: np.ndarray, n: int, *, permutations: int = PERMUTATIONS, seed: int = 0) -> tuple[float, float]:
    """MMD^2 without bias, which can be below 0 (Gretton et al. 2012, eq. 3), and the share of permutations that are as
    far apart: of a kernel with 0 on its diagonal, the first n of whose points are one side."""
    m = len(kernel) - n
    sides = np.zeros((permutations + 1, n + m))
    sides[0, :n] = 1
    random = np.random.default_rng(seed)
    for row in sides[1:]:
        row[random.permutation(n + m)[:n]] = 1
    a = sides @ kernel  # of each point, to those of the first side
    within = (a * sides).sum(1)
    across = (a * (1 - sides)).sum(1)
    other = kernel.sum() - within - 2 * across
    statistics = within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * across / (n * m)
    return float(statistics[0]), (1 + int((statistics[1:] >= statistics[0] - 1e-12).sum())) / (permutations + 1)


def gaussian(squares: np.ndarray, width: float) -> np.ndarray:
    """exp(-d^2 / 2 l^2) from squared distances [n, n], 0 of a point with itself."""
    kernel: np.ndarray = np.exp(squares / (-2 * width * width))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def median(squares: np.ndarray) -> float:
    """The median distance of two points; 1 where that is 0."""
    above = squares[np.triu_indices(len(squares), 1)]
    return math.sqrt(float(np.median(above))) or 1.0


# -- coverage -------------------------------------------------------------------------------------------------------


def neighbourhoods(squares: np.ndarray, reals: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether a made point lies in a real one's ball to its k-th neighbour, the edge included [real, made], and whether
    a real point lies in any made one's [real]: from the squared distances of all of them, the real ones first.

    Of these are precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020). The first two
    depend on how many points there are: compare equal numbers. ValueError where k is not below both.
    """
    if not 1 <= k < min(reals, len(squares) - reals):
        raise ValueError(f"k must be between 1 and {min(reals, len(squares) - reals) - 1}, got {k}")
    across = squares[:reals, reals:]
    inside = across <= _radii(squares[:reals, :reals], k)[:, None] * CLOSE
    return inside, reached(across, squares[reals:, reals:], k)


def reached(across: np.ndarray, made: np.ndarray, k: int) -> np.ndarray:
    """Whether each real point lies in the ball of any made one, [real]: from the squared distances [real, made] and
    [made, made]."""
    return np.asarray(np.any(across <= _radii(made, k)[None] * CLOSE, axis=1))


def _radii(squares: np.ndarray, k: int) -> np.ndarray:
    """The squared distance of each point to its k-th neighbour."""
    squares = squares.copy()
    np.fill_diagonal(squares, np.inf)
    radii: np.ndarray = np.partition(squares, k - 1, axis=1)[:, k - 1]
    return radii


# -- MAUVE ----------------------------------------------------------------------------------------------------------


def bucket_count(n: int) -> int:
    """How many buckets n points on a side are put into."""
    return max(2, n // 10)


def buckets(x: np.ndarray, y: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """The bucket of each point of both, those of x first."""
    points = _on_sphere(np.concatenate([np.asarray(x, np.float64), np.asarray(y, np.float64)]))
    points = points - points.mean(axis=0)
    values, axes = np.linalg.eigh(points.T @ points)
    values, axes = values[::-1], axes[:, ::-1]
    share = np.cumsum(values) / max(float(values.sum()), 1e-300)
    points = points @ axes[:, : int(np.searchsorted(share, 0.9)) + 1]
    return _kmeans(points.astype(np.float32), count, seed)


def mauve_in(x: np.ndarray, y: np.ndarray, count: int, scale: float = 5.0, smooth: float = 0.5) -> float:
    """MAUVE (Pillutla et al. 2021) of points by their buckets, with `smooth` more in each: 1 for one law, down to 0."""
    p, q = (np.bincount(side, minlength=count) + smooth for side in (x, y))
    return mauve_of(p / p.sum(), q / q.sum(), scale)


def mauve_of(p: np.ndarray, q: np.ndarray, scale: float = 5.0) -> float:
    """The area under the divergence curve of two histograms, points of equal x in the order of falling y."""
    curve = [(0.0, 1.0), (1.0, 0.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, 25):
        r = weight * p + (1 - weight) * q
        curve.append((math.exp(-scale * _kl(q, r)), math.exp(-scale * _kl(p, r))))
    curve.sort(key=lambda point: (point[0], -point[1]))
    areas = ((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve))
    return math.fsum(areas)


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    there = p > 0
    return max(0.0, float((p[there] * np.log(p[there] / q[there])).sum()))


def _kmeans(points: np.ndarray, count: int, seed: int, restarts: int = 5, rounds: int = 50) -> np.ndarray:
    """The label of each point (Lloyd, from k-means++; the best of several)."""
    random = np.random.default_rng(seed)
    best, least = np.zeros(len(points), int), math.inf
    for _ in range(restarts):
        centres = points[[random.integers(len(points))]]
        near = distances(points, centres)[:, 0].astype(np.float64)
        while len(centres) < count:
            total = near.sum()
            at = int(random.choice(len(points), p=near / total) if total > 0 else random.integers(len(points)))
            centres = np.concatenate([centres, points[[at]]])
            near = np.minimum(near, distances(points, points[[at]])[:, 0])
        labels = np.full(len(points), -1)
        for _ in range(rounds):
            squares = distances(points, centres)
            nearest_centre = squares.argmin(axis=1)
            if (nearest_centre == labels).all():
                break
            labels = nearest_centre
            sides = np.zeros((count, len(points)), points.dtype)
            sides[labels, np.arange(len(points))] = 1
            sizes = sides.sum(axis=1, keepdims=True)
            centres = np.where(sizes > 0, sides @ points / np.maximum(sizes, 1), centres)
        cost = float(distances(points, centres).min(axis=1).sum())
        if cost < least:
            best, least = labels, cost
    return best


# -- diversity of texts ---------------------------------------------------------------------------------------------


def self_bleus(texts: Texts, n: int = 4) -> list[float]:
    """The BLEU of each text that is not empty against all others (Zhu et al. 2018), 0 to 1: smoothed as sacrebleu's
    `exp`, of as many orders as the text has."""
    counts = [[Counter(grams(text, order)) for text in texts] for order in range(1, n + 1)]
    most = [_most(counts_of) for counts_of in counts]
    lengths = [len(text) for text in texts]
    scores = []
    for i in range(len(texts)):
        if len(texts) < 2 or not lengths[i]:
            continue
        logs, zeros = [], 0
        for order in range(n):
            total = max(0, lengths[i] - order)
            if not total:
                break
            hits = 0
            for gram, count in counts[order][i].items():
                largest, owner, second = most[order][gram]
                hits += min(count, second if owner == i else largest)
            if not hits:
                zeros += 1
            logs.append(math.log(hits / total if hits else 1 / (2**zeros * total)))
        nearest = min((abs(size - lengths[i]), size) for j, size in enumerate(lengths) if j != i)[1]
        brevity = min(0.0, 1 - nearest / lengths[i])
        score = math.exp(brevity + math.fsum(logs) / len(logs))
        scores.append(0.0 if zeros == len(logs) else score)
    return scores


def _most(counts: Sequence[Counter[tuple[object, ...]]]) -> dict[tuple[object, ...], tuple[int, int, int]]:
    """Of each n-gram: how often it stands in one text at most, in which, and at most in any other."""
    by_gram: dict[tuple[object, ...], tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, count in own.items():
            largest, owner, second = by_gram.get(gram, (0, -1, 0))
            by_gram[gram] = (count, i, largest) if count > largest else (largest, owner, max(second, count))
    return by_gram


def vendi_of(features: np.ndarray) -> float:
    """How many different ones there are (Friedman and Dieng 2023, eq. 2): exp of the entropy of the eigenvalues of
    K / n, K the cosines of features [n, d]; its eigenvalues are those of d by d products."""
    rows = _on_sphere(np.asarray(features, np.float64))
    products = rows.T @ rows if rows.shape[1] < len(rows) else rows @ rows.T
    return _effective(np.linalg.eigvalsh(products / len(rows)))


def _effective(values: np.ndarray) -> float:
    """exp of the entropy of eigenvalues: how many of them there are, as it were."""
    values = values[values > 1e-12]
    return math.exp(-float((values * np.log(values)).sum()))


def ngrams(texts: Texts, n: int) -> set[tuple[object, ...]]:
    """Every n-gram of texts."""
    return {gram for text in texts for gram in grams(text, n)}


def new(text: Sequence[object], known: set[tuple[object, ...]], n: int) -> tuple[int, int]:
    """How many n-grams of a text are not known, and how many it has."""
    own = grams(text, n)
    return sum(gram not in known for gram in own), len(own)
