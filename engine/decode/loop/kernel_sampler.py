"""Drawing by the vocabulary kernel: where there is Metal, one pass over the logits gives the token and its numbers.

`plan` says what a recipe asks of the kernel, where it asks no more than that can. The token is the one that
`engine.transforms.draw` takes for the same key: the same two numbers of the same hash, inverted in the same order.
Where the kernel's most likely tokens do not hold all that may be drawn the token is negative, and the caller draws
otherwise. Knows nothing of models and branches.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from likely.engine.decode.loop import kernel_row
from likely.engine.sampling.trace.observe import KernelStats
from likely.engine.sampling.trace.row import RowStatistics
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import STAYS, Key, MinP, Temperature, TopK, TopP, Truncation, uniform
from likely.engine.sampling.transforms.snapshot import CANDIDATES
from likely.metal import kernel, mx
from likely.metal.row import RowScan, scan
from likely.metal.row import available as scans
from likely.metal.vocab import TOP, DrawPlan, KernelDraw, Statistics, statistics

HEAD = 1024  # a nucleus is hardly ever larger


def plan(recipe: SamplingConfig, vocabulary: int, dtype: mx.Dtype) -> DrawPlan | None:
    """How the kernel draws from logits of a dtype, or None: it is not there, or the recipe is more than it can do.

    It knows temperature, top-k, top-p and min-p, each once, min-p after top-p, and the temperature before both or
    after. Without a truncation there is nothing that would end within its most likely tokens.
    """
    if not (kernel.available() and kernel.enabled("scan", dtype)):
        return None
    if recipe.greedy:
        known = all(isinstance(t, Temperature) or (isinstance(t, Truncation) and not t.hard) for t in recipe.transforms)
        return DrawPlan(top_k=1) if known else None
    kinds = [type(t) for t in recipe.transforms]
    at = {kind: kinds.index(kind) for kind in kinds}
    if len(at) < len(kinds) or not at.keys() <= {Temperature, TopK, TopP, MinP}:
        return None
    last = len(kinds)
    temperature, top_k, top_p, min_p = (at.get(kind, last) for kind in (Temperature, TopK, TopP, MinP))
    thresholds = [i for i in (top_p, min_p) if i < last]
    if top_p < last and min_p < top_p:
        return None
    early = temperature == last or all(temperature < i for i in thresholds)
    if not early and not all(i < temperature for i in thresholds):
        return None
    draw = DrawPlan(
        temperature=next((t.temperature for t in recipe.transforms if isinstance(t, Temperature)), 1.0),
        top_k=next((int(t.k) for t in recipe.transforms if isinstance(t, TopK)), 0),
        top_p=next((t.p for t in recipe.transforms if isinstance(t, TopP)), 1.0),
        min_p=next((t.p for t in recipe.transforms if isinstance(t, MinP)), 0.0),
        temperature_last=not early,
        top_k_last=top_p < top_k < last,
    )
    if any(isinstance(t, MinP) and t.least != 1 for t in recipe.transforms):
        return None
    few = 0 < draw.top_k <= TOP
    beyond = TOP < draw.top_k < vocabulary and draw.top_p < 1 and not draw.top_k_last
    return draw if few or (not beyond and (draw.top_p < 1 or draw.min_p > 0)) or vocabulary <= TOP else None


@dataclass(frozen=True, slots=True)
class Pass:
    """Findings of the kernel for one row of logits, evaluated or not."""

    how: DrawPlan
    by: Statistics
    row: int
    scanned: tuple[RowScan, mx.array] | None = None  # the row as an observer needs it, and the tokens apart in it

    @property
    def drawn(self) -> KernelDraw:
        assert self.by.drawn is not None
        return self.by.drawn

    @property
    def token(self) -> mx.array:
        """A scalar; negative where the kernel could not draw."""
        return self.drawn.token[self.row]

    @property
    def arrays(self) -> list[mx.array]:
        """Arrays that `stats` reads."""
        return [self.by.lse, self.by.entropy, self.drawn.lse, self.drawn.kept]

    @property
    def observed(self) -> list[mx.array]:
        """Arrays that `statistics` reads."""
        return [] if self.scanned is None else [*self.scanned[0].arrays, self.scanned[1]]

    def statistics(self, vocab: int, token: int) -> RowStatistics | None:
        """Statistics of the row by the device, if it looked; waits for it. NotFinite where the logits are no numbers.

        Reads what was queued with the draw: anything new would wait for the step behind it.
        """
        if self.scanned is None:
            return None
        lse, entropy = (float(np.asarray(x)[self.row]) for x in (self.by.lse, self.by.entropy))
        return kernel_row.measured(*self.scanned, self.row, vocab, lse=lse, entropy=entropy, token=token)

    def stats(self, recipe: SamplingConfig, row: RowStatistics, whole: Callable[[], np.ndarray]) -> KernelStats:
        """Numbers of the row's draw on the device; waits for it. `whole` gives all raw logits, if they are needed."""
        lse, _, tempered, kept = (float(np.asarray(x)[self.row]) for x in self.arrays)
        cut = partial(cuts, recipe, lse=lse, lse_tempered=tempered, kept=int(kept), possible=row.possible)
        top_logits = row.snapshot.logits
        best = top_logits[:CANDIDATES][top_logits[:CANDIDATES] > -np.inf]
        removed = cut(best, places(top_logits, best))
        if removed is None:
            best = np.sort(whole())[::-1][: row.possible]
            removed = cut(best, places(top_logits, best))
            assert removed is not None
        return KernelStats(int(kept), 1 / self.how.temperature, removed)


def draw(
    logits: mx.array, how: DrawPlan, keys: Sequence[Key], apart: Callable[[mx.array], mx.array] | None = None
) -> list[Pass]:
    """A token for each row of logits [N, V], by its key (seed, position).

    `apart`, of the tokens [N] that are drawn those that snapshots hold besides, has the device look at the rows too.
    """
    chances = [[uniform(key, "row"), uniform(key, "token")] for key in keys]
    by = statistics(logits, how, mx.array(chances), observed=apart is not None and scans(logits.dtype))
    scanned = None
    if apart is not None and by.observed is not None and by.drawn is not None:
        at = apart(by.drawn.token)
        scanned = scan(logits, by, at), at
    return [Pass(how, by, row, scanned) for row in range(len(keys))]


def places(top_logits: np.ndarray, best: np.ndarray) -> np.ndarray:
    """The place of each of a snapshot's logits among the `best`, descending: how many are larger, for those behind."""
    first = min(CANDIDATES, len(best))
    behind = len(best) - np.searchsorted(best[::-1], top_logits[first:], side="right")
    return np.append(np.arange(first), behind)


def cuts(
    recipe: SamplingConfig,
    best: np.ndarray,
    places: np.ndarray,
    *,
    lse: float,
    lse_tempered: float,
    kept: int,
    possible: int,
) -> np.ndarray | None:
    """Which transform removed the token at each of `places` in the order of likelihood, int8 [K]; STAYS for the rest.

    `best` are the largest of `possible` logits, descending; `lse` and `lse_tempered` the log-sum-exp of all, and of all
    over the temperature; `kept` how many tokens stayed in the end. None where what a transform left reaches beyond
    `best`.
    """
    removed_by = np.full(len(places), STAYS, np.int8)
    if recipe.greedy:
        removed_by[places >= 1] = len(recipe.transforms)
        return removed_by
    sharp, total, last = 1.0, lse, STAYS
    remaining = possible + 1  # the impossible ones stand behind all others
    for index, transform in enumerate(recipe.transforms):
        stays = remaining
        match transform:
            case Temperature(t):
                sharp, total = 1 / t, lse_tempered
            case TopK(k):
                stays = min(int(k), possible)
            case TopP(p) if p < 1:
                stays = _nucleus(best[:remaining] * sharp - total, p, 1.0 if remaining >= possible else None)
            case MinP(p):
                stays = int(np.count_nonzero(best * sharp >= best[0] * sharp + math.log(p)))
        if stays < remaining:
            if len(best) <= stays < possible:
                return None
            removed_by[(places >= stays) & (removed_by == STAYS)] = index
            remaining, last = stays, index
    # where rounding decided, the kernel has the last word on who stays
    removed_by[places < kept] = STAYS
    removed_by[(places >= kept) & (removed_by == STAYS)] = last
    return removed_by


def _nucleus(logprobs: np.ndarray, share: float, total: float | None) -> int:
    """How many of the tokens, most likely first, hold `share` of the mass, those that equal the last one included."""
    goal = share * (float(np.exp(logprobs).sum()) if total is None else total)
    for size in (HEAD, len(logprobs)):
        mass = np.cumsum(np.exp(logprobs[:size]), dtype=np.float64)
        if mass[-1] >= goal:
            break
    inside = 1 + int(np.count_nonzero(mass[:-1] < goal))
    return int(np.count_nonzero(logprobs >= logprobs[inside - 1]))
