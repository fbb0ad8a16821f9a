"""Vocabulary statistics, one pass over a row of logits: log-sum-exp, entropy, the most likely tokens, and a draw.

The randomness is an argument: two uniform numbers in [0, 1) for each row of logits. Natural logarithms. Knows nothing
of tokens' text, nor of transforms beyond the four that the kernel takes; where those need more than the `TOP` most
likely tokens it says so, and the caller goes the exact way.
"""

from dataclasses import dataclass

from likely.metal import kernel, mx
from likely.metal.errors import KernelError

TOP = 64
CANDIDATES, BINS = 256, 64  # of an observed row
EACH = 32  # logits a thread holds
CHUNK = 256 * EACH
ROW = 256  # tokens that a draw takes together at first
BITS = {mx.float32: 32, mx.float16: 19, mx.bfloat16: 16}  # bits of a float32 that the dtype can tell apart


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """How to draw, in this order: temperature, top-k, top-p of what that leaves, min-p. 0 and 1 mean off.

    `temperature_last`, `top_k_last`: after the others instead.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    temperature_last: bool = False
    top_k_last: bool = False


@dataclass(frozen=True, slots=True)
class KernelDraw:
    """A token for each row [N], or -1 where `spilled`: what may be drawn does not end within the `TOP`, or the row
    has no law: it holds NaN or +inf, or nothing but -inf."""

    token: mx.array  # int32
    kept: mx.array  # int32: tokens that may be drawn
    spilled: mx.array  # bool
    logprob: mx.array  # float32: the model's own
    logprob_after: mx.array  # float32: of the distribution drawn from
    lse: mx.array  # float32: log-sum-exp of all logits over the temperature


@dataclass(frozen=True, slots=True)
class Observed:
    """Observation of raw logits [N, V] in K chunks, beside their statistics. What is -inf is only counted."""

    edges: mx.array  # float32 [N, BINS + 1], of a histogram of all that is possible and not among the candidates
    moments: mx.array  # float32 [N, K, 5]: largest, smallest, largest past the candidates; mean and squares past it
    possible: mx.array  # int32 [N, K]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of raw logits [N, V]: float32 `lse` and `entropy` [N], the `best` of them [N, TOP]; int32 their `ids`.

    CANDIDATES if `observed`, the largest first, equal ones in the order of their ids; where V has no more -1 and
    -inf. `lse` and `entropy` of a row that holds NaN or +inf are NaN.
    """

    lse: mx.array
    entropy: mx.array
    ids: mx.array
    best: mx.array
    drawn: KernelDraw | None = None
    observed: Observed | None = None

    @property
    def logprobs(self) -> mx.array:
        """Of `ids`, float32."""
        return self.best - self.lse[:, None]


def statistics(
    logits: mx.array, draw: DrawPlan | None = None, uniform: mx.array | None = None, *, observed: bool = False
) -> Statistics:
    """Statistics of logits [N, V], and a token for each row if told how to draw it. By our kernel where there is Metal.

    `uniform`: float32 [N, 2] in [0, 1): for the row of `ROW` tokens, and for the token in it. `observed`: our kernel
    tells who looks on more of the row. Raises KernelError naming the argument that does not fit.
    """
    _check(logits, draw, uniform)
    if kernel.available() and kernel.enabled("scan", logits.dtype):
        return by_kernel(logits, draw, uniform, observed=observed)
    return by_reference(logits, draw, uniform)


def _check(logits: mx.array, draw: DrawPlan | None, uniform: mx.array | None) -> None:
    if logits.ndim != 2 or 0 in logits.shape:
        raise KernelError(f"logits must be [N, V] with N, V >= 1, got {logits.shape}")
    if logits.dtype not in BITS:
        raise KernelError(f"logits must be float32, float16 or bfloat16, got {logits.dtype}")
    if (draw is None) != (uniform is None):
        raise KernelError("draw and uniform go together, got only one of them")
    if draw is None or uniform is None:
        return
    if uniform.shape != (logits.shape[0], 2) or uniform.dtype != mx.float32:
        raise KernelError(f"uniform must be float32 [{logits.shape[0]}, 2], got {uniform.dtype} {uniform.shape}")
    if not draw.temperature > 0:
        raise KernelError(f"draw.temperature must be greater than 0, got {draw.temperature}; top_k=1 is greedy")
    if draw.top_k < 0:
        raise KernelError(f"draw.top_k must be 0 or more, got {draw.top_k}")
    if not 0 < draw.top_p <= 1:
        raise KernelError(f"draw.top_p must be in (0, 1], got {draw.top_p}")
    if not 0 <= draw.min_p <= 1:
        raise KernelError(f"draw.min_p must be in [0, 1], got {draw.min_p}")


def by_kernel(
    logits: mx.array, draw: DrawPlan | None, uniform: mx.array | None, *, observed: bool = False
) -> Statistics:
    """Two launches: `scan.metal` reads each chunk once, `draw.metal` joins them."""
    n, vocab = logits.shape
    chunks, kept = -(-vocab // CHUNK), CANDIDATES if observed else TOP
    params = kernel.int32(vocab, chunks, 0)
    recipe = _recipe(draw or DrawPlan())
    defines, template = {"OBSERVED": int(observed)}, {"BITS": BITS[logits.dtype], "KEPT": kept}
    scans: dict[str, tuple[tuple[int, ...], mx.Dtype]] = {
        "values": ((n, chunks, kept), mx.float32),
        "value_ids": ((n, chunks, kept), mx.int32),
        "stats": ((n, chunks, 4), mx.float32),
    }
    joins: dict[str, tuple[tuple[int, ...], mx.Dtype]] = {
        "lse": ((n,), mx.float32),
        "entropy": ((n,), mx.float32),
        "best": ((n, kept), mx.float32),
        "best_ids": ((n, kept), mx.int32),
    }
    if observed:
        scans |= {"moments": ((n, chunks, 5), mx.float32), "counted": ((n, chunks), mx.int32)}
        joins["edges"] = ((n, BINS + 1), mx.float32)
    scanned = kernel.launch(
        "scan.metal",
        {"logits": logits, "params": params, "recipe": recipe},
        scans,
        grid=(chunks, n, 1),
        threads=256,
        defines=defines,
        template=template | {"EACH": EACH},
    )
    inputs = {**scanned, "params": params, "recipe": recipe}
    if uniform is not None:
        inputs["uniform"] = uniform
        joins |= {"drawn": ((n, 3), mx.int32), "logprobs": ((n, 3), mx.float32)}
    got = kernel.launch(
        "draw.metal",
        inputs,
        joins,
        grid=(1, n, 1),
        threads=256,
        defines=defines | {"DRAW": int(uniform is not None)},
        template=template | {"EACH": min(1 << (-(-chunks * kept // 256)).bit_length(), EACH)},
    )
    drawn = row = None
    if uniform is not None:
        token, logprobs = got["drawn"], got["logprobs"]
        drawn = KernelDraw(token[:, 0], token[:, 1], token[:, 2] == 1, logprobs[:, 0], logprobs[:, 1], logprobs[:, 2])
    if observed:
        row = Observed(got["edges"], scanned["moments"], scanned["counted"])
    return Statistics(got["lse"], got["entropy"], got["best_ids"], got["best"], drawn, row)


def by_reference(logits: mx.array, draw: DrawPlan | None, uniform: mx.array | None) -> Statistics:
    """Statistics and draw of each row of logits [N, V] in plain mlx operations: the reference of `by_kernel`."""
    vocab = logits.shape[1]
    x = logits.astype(mx.float32)
    below = x - mx.max(x, axis=-1, keepdims=True)
    weights = mx.exp(below)
    total = row_sums(weights)
    lse = mx.max(x, axis=-1) + mx.log(total)
    entropy = mx.log(total) - row_sums(mx.where(weights > 0, weights * below, 0.0)) / total
    count = min(TOP, vocab)
    ids = most_likely(x, count)
    top = mx.take_along_axis(x, ids, axis=-1)
    drawn = None
    if draw is not None and uniform is not None:
        drawn = _drawn(x, ids, top, lse, draw, uniform)
    if count < TOP:
        rest = [(0, 0), (0, TOP - count)]
        ids = mx.pad(ids, rest, constant_values=-1)
        top = mx.pad(top, rest, constant_values=-mx.inf)
    return Statistics(lse, entropy, ids, top, drawn)


def most_likely(x: mx.array, count: int) -> mx.array:
    """Ids int32 [N, count] of the largest, equal ones by id: those above the bar, then the first that equal it."""
    vocab = x.shape[1]
    if count == vocab:
        return mx.argsort(-x, axis=-1).astype(mx.int32)
    bar = mx.partition(x, vocab - count, axis=-1)[:, vocab - count, None]
    # Above the bar: all; at it: the first ids. Of -vocab..vocab the smallest keys are taken, so a partition suffices.
    index = mx.arange(vocab, dtype=mx.int32)[None]
    key = mx.where(x > bar, index - vocab, mx.where(x == bar, index, 2 * vocab))
    ids = mx.sort(mx.partition(key, count - 1, axis=-1)[:, :count] % vocab, axis=-1)
    order = mx.argsort(-mx.take_along_axis(x, ids, axis=-1), axis=-1)
    return mx.take_along_axis(ids, order, axis=-1).astype(mx.int32)


def _drawn(x: mx.array, ids: mx.array, top: mx.array, lse: mx.array, draw: DrawPlan, uniform: mx.array) -> KernelDraw:
    n, vocab = x.shape
    count = ids.shape[1]
    place = mx.arange(count, dtype=mx.int32)[None]
    sharp = 1 / draw.temperature
    early = 1.0 if draw.temperature_last else sharp  # what the truncations see
    all_sharp = row_sums(mx.exp((x - top[:, :1]) * sharp))[:, None]
    p = mx.exp((top - top[:, :1]) * early)
    open_ = mx.full((n, 1), vocab > count)
    if 0 < draw.top_k <= count and not draw.top_k_last:
        p = mx.where(place < draw.top_k, p, 0.0)
        open_ = mx.zeros_like(open_)
        total, most = mx.sum(p, axis=-1, keepdims=True), draw.top_k
    else:
        total, most = all_sharp if early == sharp else row_sums(mx.exp(x - top[:, :1]))[:, None], count
    survivors = mx.full((n, 1), most, dtype=mx.int32)
    if draw.top_p < 1:
        below = mx.cumsum(p, axis=-1)
        inside = mx.sum((below - p < draw.top_p * total) | (place == 0), axis=-1, keepdims=True)
        edge = mx.take_along_axis(top, mx.minimum(inside, survivors) - 1, axis=-1)
        inside = mx.sum(top >= edge, axis=-1, keepdims=True)  # those that equal the last one stay with it
        open_ = open_ & ((below[:, -1:] < draw.top_p * total) | (inside == count))
        survivors = mx.minimum(survivors, inside)
    if draw.min_p > 0:
        enough = mx.sum(p >= draw.min_p * p[:, :1], axis=-1, keepdims=True)
        open_ = open_ & (enough >= survivors)
        survivors = mx.minimum(survivors, enough)
    if draw.top_k_last and 0 < draw.top_k <= count:
        survivors, open_ = mx.minimum(survivors, draw.top_k), mx.zeros_like(open_)
    if count < draw.top_k < vocab and draw.top_p < 1 and not draw.top_k_last:
        open_ = mx.ones_like(open_)  # top-p of a sum that these tokens do not hold
    survivors = mx.minimum(survivors, mx.sum(p > 0, axis=-1, keepdims=True))
    open_ = open_ | (survivors == 0) | mx.isnan(lse)[:, None]
    chance = mx.where(place < survivors, mx.exp((top - top[:, :1]) * sharp), 0.0)
    chosen = _chosen(ids, chance, uniform)
    token, logit = mx.take_along_axis(ids, chosen, axis=-1), mx.take_along_axis(top, chosen, axis=-1)
    after = (logit - top[:, :1]) * sharp - mx.log(mx.sum(chance, axis=-1, keepdims=True))
    columns = (
        mx.where(open_, -1, token),
        survivors,
        open_,
        mx.where(open_, -mx.inf, logit - lse[:, None]),
        mx.where(open_, -mx.inf, after),
        top[:, :1] * sharp + mx.log(all_sharp),
    )
    return KernelDraw(*(column[:, 0] for column in columns))


def _chosen(ids: mx.array, chance: mx.array, uniform: mx.array) -> mx.array:
    """Places int32 [N, 1] of the ids drawn: by the first number a row of the vocabulary, by the second one of it."""
    row = ids // ROW

    def mass(of: mx.array) -> mx.array:
        """The mass of each place's others [N, place, other], together."""
        return mx.sum(mx.where(of, chance[:, None], 0.0), axis=-1)

    same = row[:, None] == row[:, :, None]
    before, ahead = mass(row[:, None] < row[:, :, None]), mass(same & (ids[:, None] < ids[:, :, None]))
    bar = uniform[:, :1] * mx.sum(chance, axis=-1, keepdims=True)
    drawn_row = mx.max(mx.where((chance > 0) & (before <= bar), row, -1), axis=-1, keepdims=True)
    inside = (chance > 0) & (row == drawn_row) & (ahead <= uniform[:, 1:] * mass(same))
    return mx.argmax(mx.where(inside, ids, -1), axis=-1, keepdims=True)


def row_sums(x: mx.array) -> mx.array:
    """Sums of rows [N, V] in two steps: on a CPU mlx adds one value after another, and loses digits at V = 10^5."""
    n, vocab = x.shape
    return mx.sum(mx.sum(mx.pad(x, [(0, 0), (0, -vocab % 256)]).reshape(n, -1, 256), axis=-1), axis=-1)


def _recipe(draw: DrawPlan) -> mx.array:
    last = float(draw.temperature_last), float(draw.top_k_last)
    return mx.array([1 / draw.temperature, draw.top_k, draw.top_p, draw.min_p, *last], dtype=mx.float32)
