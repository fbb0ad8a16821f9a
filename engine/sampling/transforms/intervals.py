"""Intervals of the logits of a snapshot, through any number of transforms. numpy, float64; knows no transform.

The items are single tokens (the candidates first) and then the bins of the rest. Each has bounds of its logits and of
how many of its tokens are left. Logits are relative to the largest raw one, which is a candidate, so no bin's is above
0. A bin's tokens are only ever scaled: the mass of one follows from its raw mass and the scale.
"""

from collections.abc import Callable

import numpy as np

from likely.engine.sampling.transforms.snapshot import Snapshot

# Masses are summed in float32 when a token is drawn: a decision closer than this may have gone either way.
SLACK = 1e-6
NEVER = -1e9  # a logit without mass
TINY = 1e-300

Pair = tuple[np.ndarray, np.ndarray]
Interval = tuple[float, float]
Decision = tuple[np.ndarray, np.ndarray]  # bool [N] of the items: surely stays, surely goes


class Intervals:
    """Bounds of the logits and of the tokens left; every pair is (lower bound, upper bound)."""

    def __init__(self, snapshot: Snapshot, edited_ids: np.ndarray) -> None:
        """`edited_ids`: ids, each once, that change one by one; what the snapshot lacks is an item of unknown logit."""
        top = float(snapshot.logits.max())
        edited_ids = edited_ids[edited_ids < snapshot.vocab]  # who edits others says so when it is applied
        full = snapshot.counts > 0
        self.counts = snapshot.counts[full].astype(np.float64)
        self.lses = snapshot.lses[full].astype(np.float64) - top
        self.edges = tuple(edges[full].astype(np.float64) - top for edges in (snapshot.edges[:-1], snapshot.edges[1:]))
        foreign_files = np.empty(0, np.int64)
        if len(edited_ids) and full.any():
            foreign_files = edited_ids[~np.isin(edited_ids, snapshot.ids)]
        unknown = np.ones(len(foreign_files))
        raw = np.where(snapshot.logits > -np.inf, snapshot.logits.astype(np.float64) - top, NEVER)
        possible = (raw > NEVER).astype(np.float64)

        self.vocab = snapshot.vocab
        self.ids = np.concatenate([snapshot.ids, foreign_files])
        self.points = len(self.ids)
        self.low = np.concatenate([raw, unknown * self.edges[0].min(initial=0)])
        self.high = np.concatenate([raw, unknown * self.edges[1].max(initial=NEVER)])
        # how many tokens are left; a stranger is also counted in some bin
        self.least = np.concatenate([possible, 0 * unknown, np.maximum(self.counts - len(foreign_files), 0)])
        self.most = np.concatenate([possible, unknown, self.counts])
        self.scale: Interval = (1.0, 1.0)
        self.zero: Interval = (top, top)  # the logit that 0 stands for
        # sums over the rest of the raw logits and of their squares
        total = possible.sum() + self.counts.sum()
        mean = snapshot.mean - top
        sums = (
            total * mean - raw[possible > 0].sum(),
            total * (snapshot.variance + mean**2) - (raw[possible > 0] ** 2).sum(),
        )
        self.rest_sums = sums if len(self.counts) else (0.0, 0.0)

    # -- what is known -----------------------------------------------------------------------------------------------

    def logits(self) -> Pair:
        """Bounds of the logits of each item's tokens, [N]."""
        low, high = self.edges[0] * self.scale[1], self.edges[1] * self.scale[0]
        return np.concatenate([self.low, low]), np.concatenate([self.high, high])

    def largest(self) -> Interval:
        """The largest logit left."""
        low, high = self.logits()
        sure = self.least > 0
        return low[sure].max(initial=NEVER), high[self.most > 0].max(initial=NEVER)

    def masses(self) -> Pair:
        """sum exp(logit - largest) of each item's tokens left, [N]; the largest is the upper bound."""
        low, high = self.logits()
        top = self.largest()[1]
        one = np.exp(np.minimum(high - top, 0))
        whole_low = np.exp(np.minimum(low - top, 0))
        whole_high = one.copy()
        b, n = slice(self.points, None), self.counts
        whole_low[b] = (
            n * np.exp(np.minimum(self.edges[1] * self.scale[1] - top, 0)) * self._mean_power(self.scale[1])[0]
        )
        whole_high[b] = n * one[b] * self._mean_power(self.scale[0])[1]
        all_of = np.concatenate([np.ones(self.points), n])
        least = np.maximum(whole_low - (all_of - self.least) * one, 0)
        most = np.maximum(np.minimum(whole_high, self.most * one), TINY)  # what is left may be likely, however small
        return least, np.where(self.most > 0, most, 0)

    def _mean_power(self, power: float) -> Pair:
        """The mean of y^power over a bin, with y = exp(logit - upper edge), from the mean of y.

        A token that moves towards the mean raises the mean of a concave function and lowers that of a convex one: the
        extremes are all tokens at the mean, and as many as the mean asks for on either edge.
        """
        least = np.exp(self.edges[0] - self.edges[1])
        mean = np.clip(np.exp(self.lses - self.edges[1]) / self.counts, least, 1)
        together = mean**power
        share = np.divide(mean - least, 1 - least, out=np.ones_like(mean), where=least < 1)
        apart = share + (1 - share) * least**power
        return np.minimum(together, apart), np.maximum(together, apart)

    def kept(self) -> tuple[int, int]:
        """How many tokens are left."""
        return int(self.least.sum()), int(self.most.sum())

    def total(self) -> Interval:
        """The mass of all tokens left: the least and the largest that it can be."""
        low, high = self.masses()
        return low.sum(), high.sum()

    def depth(self) -> Interval:
        """How far below the largest a logit lies on average, under the distribution."""
        low, high = self.logits()
        top = self.largest()[1]
        near, far = np.maximum(top - high, 0), np.maximum(top - low, 0)
        least, most = self.masses()
        # of one token: its depth u times exp(-u), which is largest at u = 1
        ends = near * np.exp(-near), far * np.exp(-far)
        peak = np.where((near < 1) & (far > 1), np.exp(-1.0), np.maximum(*ends))
        below = np.maximum(least * near, self.least * np.minimum(*ends))
        above = np.minimum(most * far, self.most * peak)
        # of many tokens deeper than 1, where -m log m is concave and rises: all alike, or all on the edges
        a, b = np.exp(-far), np.exp(-near)
        deep = (near >= 1) & (most > 0)
        above[deep] = np.minimum(above[deep], most[deep] * (np.log(self.most[deep]) - np.log(most[deep])))
        deep &= b > a
        slope = (ends[0] - ends[1])[deep] / (b - a)[deep]
        apart = self.least[deep] * (ends[1][deep] - a[deep] * slope) + slope * least[deep]
        below[deep] = np.maximum(below[deep], apart)
        total = least.sum(), most.sum()
        deepest = float(far[self.most > 0].max(initial=0))
        return below.sum() / total[1], min(above.sum() / total[0], deepest) if total[0] > 0 else deepest

    def entropy(self) -> Interval:
        """The entropy of the distribution, nats: the least and the largest that it can be."""
        depth, total = self.depth(), self.total()
        return max(depth[0] + np.log(max(total[0], 1e-300)), 0.0), depth[1] + np.log(total[1])

    def deviation(self) -> Interval:
        """The standard deviation of the logits left."""
        points, bins = slice(None, self.points), slice(self.points, None)
        possible = self.most[points] > 0
        sure = (self.least == self.most)[points].all() and (self.low == self.high)[possible].all()
        whole, gone = (self.least[bins] == self.counts).all(), (self.most[bins] == 0).all()
        if sure and (gone or (whole and self.scale[0] == self.scale[1])):
            values = self.low[possible]
            count, first, second = len(values), values.sum(), (values**2).sum()
            if not gone:
                count += self.counts.sum()
                first += self.scale[0] * self.rest_sums[0]
                second += self.scale[0] ** 2 * self.rest_sums[1]
            sigma = float(np.sqrt(max(second / count - (first / count) ** 2, 0.0)))
            return sigma, sigma
        low, high = self.logits()
        # no spread is more than half of the range
        return 0.0, (high[self.most > 0].max() - low[self.most > 0].min()) / 2

    def probabilities(self) -> Pair:
        """The probability of each item's tokens together, [N]: the least and the largest that it can be."""
        return _shares(*self.masses(), self.most)

    def rest(self, size: int) -> Interval:
        """The probability of all but the first `size` items."""
        least, most, count = (
            np.array([bound[:size].sum(), bound[size:].sum()]) for bound in (*self.masses(), self.most)
        )
        low, high = _shares(least, most, count)
        return float(low[1]), float(high[1])

    # -- what is decided of the items --------------------------------------------------------------------------------

    def all(self) -> Decision:
        """The decision that every item stays."""
        every = np.ones(len(self.most), bool)
        return every, ~every

    def reaches(self, threshold: Interval) -> Decision:
        """Which items surely reach a logit, as the largest always does, and which surely do not: bool [N] each."""
        low, high = self.logits()
        return (low >= threshold[1] + SLACK) | (low >= self.largest()[1]), high < threshold[0] - SLACK

    def first(self, k: int) -> Decision:
        """Which items are surely among the k largest, and which surely are not; of equals the lower id goes first."""
        low, high = self.logits()
        high[self.points :] = np.nextafter(high[self.points :], np.inf)  # a bin's token may equal a candidate
        ahead_low, ahead_high = self._ahead((low, high), (self.least, self.most))
        ids, exact = self.ids, np.flatnonzero((self.low == self.high) & (self.most[: self.points] > 0))
        exact = exact[np.lexsort((ids[exact], -low[exact]))]
        for bound, counts in ((ahead_low, self.least), (ahead_high, self.most)):
            running = np.cumsum(counts[exact]) - counts[exact]
            begins = np.searchsorted(-low[exact], -low[exact])  # the first of each group of equals
            bound[exact] += running - running[begins]
        return ahead_high < k, ahead_low >= k

    def nucleus(self, score: Pair, share: float) -> Decision:
        """Which items are surely in the smallest set of highest scores that holds `share`, and which surely are not."""
        masses = self.masses()
        ahead_low, ahead_high = self._ahead(score, masses)
        return ahead_high < share * masses[0].sum() * (1 - SLACK), ahead_low >= share * masses[1].sum() * (1 + SLACK)

    def _ahead(self, score: Pair, weight: Pair) -> Pair:
        """For each item, the weight of the tokens with a higher score."""
        low, high = score
        surely, possibly = _above(high, low, weight[0]), _above(low, high, weight[1])
        # a single token is not ahead of itself; one of a bin's may be ahead of another
        itself = (high > low) * weight[1]
        itself[self.points :] = 0
        return surely, possibly - itself

    # -- what is done to them ----------------------------------------------------------------------------------------

    def keep(self, stays: np.ndarray, goes: np.ndarray) -> None:
        """Take out what goes; what neither goes nor stays may be there or not."""
        self.most = np.where(goes, 0, self.most)
        self.least = np.where(stays, self.least, 0)

    def divide(self, least: float, most: float) -> None:
        """Divide every logit by a temperature between `least` and `most`."""
        self.low = np.minimum(self.low / least, self.low / most)
        self.high = np.maximum(self.high / least, self.high / most)
        self.scale = self.scale[0] / most, self.scale[1] / least
        ends = [zero / t for zero in self.zero for t in (least, most)]
        self.zero = min(ends), max(ends)

    def change(self, apply: Callable[[np.ndarray], np.ndarray], edited_ids: np.ndarray) -> None:
        """Pass the edited ids through a function of the logits [V] that raises and lowers each by itself."""
        places = np.flatnonzero(np.isin(self.ids, edited_ids))
        ids, dense = self.ids[places], np.zeros(self.vocab)

        def moved(logits: np.ndarray) -> np.ndarray:
            dense[ids] = logits
            return np.asarray(apply(dense)[ids])

        low, high = self.low[places], self.high[places]
        least, most = low + self.zero[0], high + self.zero[1]
        ends = moved(least), moved(most)
        # by how much a logit moves is largest and smallest at the ends, or where its sign changes
        middle = np.clip(0, least, most)
        moves = np.stack([ends[0] - least, ends[1] - most, moved(middle) - middle])
        self.low[places], self.high[places] = low + moves.min(axis=0), high + moves.max(axis=0)
        wide = most > least
        self.low[places[wide]] = np.maximum(self.low[places], ends[0] - self.zero[1])[wide]
        self.high[places[wide]] = np.minimum(self.high[places], ends[1] - self.zero[0])[wide]


def _above(threshold: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """For each threshold the weight of the scores that are larger."""
    order = np.argsort(-score, kind="stable")
    running = np.append(0.0, np.cumsum(weight[order]))
    return running[np.searchsorted(-score[order], -threshold)]


def _shares(least: np.ndarray, most: np.ndarray, count: np.ndarray) -> Pair:
    """Bounds of each part of the whole, where something is always left: with nothing else, a part is all."""
    alone = (count > 0) & (_others(count) == 0)
    low = np.divide(least, least + _others(most), out=np.zeros_like(least), where=least > 0)
    high = np.divide(most, most + _others(least), out=np.zeros_like(most), where=most > 0)
    return np.where(alone, 1.0, low), np.where(alone, 1.0, high)


def _others(parts: np.ndarray) -> np.ndarray:
    """For each part the sum of the others, added up rather than taken from the whole, which may be far larger."""
    before, after = np.append(0.0, np.cumsum(parts)[:-1]), np.append(np.cumsum(parts[::-1])[-2::-1], 0.0)
    return np.asarray(before + after)
