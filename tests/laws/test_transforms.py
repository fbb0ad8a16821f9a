"""Every transform against a float64 reference and mlx-lm; what the pipeline removed; the law of the draw."""

import math
from functools import cache, partial
from itertools import product

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.sampling.transforms import (
    DRY,
    STAYS,
    XTC,
    DynamicTemperature,
    FrequencyPenalty,
    LogitBias,
    MinP,
    MirostatV2,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Typical,
    advance,
    change,
    draw,
    edited_ids,
    run,
    start,
    uniform,
)
from likely.metal import mx
from tests.laws import by_definition as reference
from tests.support.everyday import everyday

KEY = (7, 11)
KINDS = ("numpy float64", "numpy float32", "mlx float32")


class Letters:
    """A vocabulary: the token of each byte, one break, one end."""

    eos = frozenset({3})

    def encode(self, text):
        return list(text.encode())

    def piece(self, token):
        return bytes([token % 256])


SHAPES = {  # by a random generator
    # a few likely tokens above a bell of unlikely ones
    "language": lambda r: peaked(r, r.normal(0, 2, 700), 12, 4, 12), "flat": lambda r: r.normal(0, 0.1, 500),
    "ties": lambda r: np.round(r.normal(0, 1.5, 400) * 2) / 2, "equal": lambda r: np.full(300, 1.25),
    "impossible": lambda r: np.where(r.random(400) < 0.5, -np.inf, r.normal(0, 3, 400)),
    "one-hot": lambda r: np.where(np.arange(200) == 17, 3.0, -np.inf),
    "certain": lambda r: 60.0 * (np.arange(200) == 150), "huge": lambda r: r.normal(0, 1, 300) * 1e3 + 1e4,
    "negative": lambda r: -np.abs(r.normal(0, 4, 300)) - 20, "one": lambda r: np.array([0.3]),
    "two": lambda r: np.array([-1.0, 0.5]), "wide": lambda r: peaked(r, r.normal(0, 2.2, 150_000), 30, 5, 14),
    "wide flat": lambda r: r.normal(0, 0.5, 150_000),
}  # fmt: skip


def peaked(random, z, count, low, high):
    z[random.integers(0, len(z), count)] += random.uniform(low, high, count)
    return z


@cache
def logits_of(name):
    z = SHAPES[name](np.random.default_rng(sum(map(ord, name))))
    return z.astype(np.float32).astype(np.float64)


TRUNCATIONS = {
    **{f"top-k {k}": (TopK(k), partial(reference.top_k, k=k)) for k in (1, 40)},
    **{f"top-p {p}": (TopP(p), partial(reference.top_p, p=p)) for p in (0.1, 0.9, 0.999)},
    **{f"min-p {p}": (MinP(p), partial(reference.min_p, p=p)) for p in (0.05, 1.0)},
    "min-p, 5 at least": (MinP(0.9, 5), partial(reference.min_p, p=0.9, least=5)),
    **{f"typical {p}": (Typical(p), partial(reference.typical, p=p)) for p in (0.2, 0.9)},
    **{f"n-sigma {n}": (TopNSigma(n), partial(reference.top_n_sigma, n=n)) for n in (1.0, 0.1)},
    **{f"xtc {t}": (XTC(1.0, t), partial(reference.xtc, threshold=t)) for t in (0.1, 0.0)},
    **{f"mirostat {tau}": (MirostatV2(tau), partial(reference.mirostat, mu=2 * tau)) for tau in (3.0, 0.2)},
}


@cache
def margins_of(logits, truncation):
    return np.asarray(TRUNCATIONS[truncation][1](logits_of(logits)))


def as_kind(z, kind):
    """The logits, their namespace, and how far rounding can move a mass or a logit."""
    scale = max(1.0, np.abs(z[np.isfinite(z)]).max())
    if kind == "numpy float64":
        return z, np, 1e-11 * scale
    # mlx sums in float32, one after the other
    slack = 1e-6 if kind == "numpy float32" else max(2e-6, 2e-9 * len(z))
    single = z.astype(np.float32)
    return (single, np, slack * scale) if kind == "numpy float32" else (mx.array(single), mx, slack * scale)


@pytest.mark.parametrize(("logits", "kind"), everyday(product(SHAPES, KINDS), 4))
def test_truncations_keep_what_the_reference_keeps(logits, kind):
    z = logits_of(logits)
    x, xp, slack = as_kind(z, kind)
    for name, (transform, _) in TRUNCATIONS.items():
        after, removed_by = map(np.asarray, run([transform], x, start([transform], None, [], xp), KEY, xp))
        margin = margins_of(logits, name)
        sure = (np.abs(margin) > slack) & (z > -np.inf)
        kept = after > -np.inf
        assert (kept == (margin >= 0))[sure].all() and kept.any(), name
        assert (after[kept] == z[kept].astype(after.dtype)).all(), name
        assert ((removed_by == STAYS) == kept)[z > -np.inf].all(), name
        if isinstance(transform, TopK):
            assert kept.sum() == min(transform.k, (z > -np.inf).sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("possible", [1.0, 0.3])
def test_of_a_tie_top_k_drops_the_higher_ids(kind, possible):
    """By a stable sort; min-p's least number of tokens goes by the same rule."""
    random = np.random.default_rng(8)
    for k in (1, 2, 7, 30):
        z = np.where(random.random(200) < possible, random.integers(0, 4, 200), -np.inf)
        x, xp, _ = as_kind(z, kind)
        first = np.argsort(-z, kind="stable")[:k]
        for transform in (TopK(k), MinP(1.0, k)):
            after, _ = run([transform], x, (None,), KEY, xp)
            expected = first if isinstance(transform, TopK) else np.union1d(first, np.flatnonzero(z == z.max()))
            assert np.flatnonzero(np.asarray(after) > -np.inf).tolist() == sorted(expected.tolist()), transform


FAR = {  # by a random generator: of each size that float32 has, impossible ones, and equal ones
    "one far below": lambda r: np.append(r.normal(0, 2, 400), -(10 ** r.uniform(3, 38))),
    "both signs": lambda r: np.round(r.choice([-64.0, 64], 400) * np.exp(r.uniform(-3, 3, 400))) / 64,
    "ties": lambda r: np.append(np.round(r.normal(0, 1.5, 400)), [-1e4, -3.4e38, -np.inf]),
    "any finite": lambda r: r.choice([-1.0, 1], 400) * 2 ** r.uniform(-149, 127, 400),
    "largest and least": lambda r: r.choice([3.4e38, 3.4e38, -3.4e38, 1e-45, 0, -0.0, -np.inf], 60),
}


@pytest.mark.filterwarnings("ignore:overflow encountered in subtract:RuntimeWarning")
@pytest.mark.parametrize("name", FAR)
def test_a_nucleus_of_logits_far_apart_is_that_of_float64(name):
    """Float64 takes numpy's own sort; where a share ends within the rounding of a mass either set is right."""
    random = np.random.default_rng(sum(map(ord, name)))
    compared = 0
    for _ in range(40):
        z = FAR[name](random).astype(np.float32)
        z[0] = max(z[0], 0)  # one at least is possible
        p = random.uniform(0.05, 0.99)
        for transform, margin in ((TopP(p), reference.top_p), (Typical(p), reference.typical)):
            kept, expected = (np.isfinite(run([transform], x, (None,), KEY, np)[0]) for x in (z, z.astype(np.float64)))
            sure = np.abs(margin(z.astype(np.float64), p)) > 1e-5
            assert (kept == expected)[sure].all(), (transform, kept.sum(), expected.sum())
            compared += sure.all()
    assert compared > 20


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("xp", [np, mx], ids=["numpy", "mlx"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nucleus_of_an_infinite_logit_is_that_one(dtype, xp):
    for z in ([1, math.inf, 2, -1e5], [math.inf, -math.inf, 3.4e38, math.inf, 0]):
        after, _ = run([TopP(0.5)], xp.array(np.array(z, dtype if xp is np else np.float32)), (None,), KEY, xp)
        assert np.flatnonzero(np.asarray(after) > -np.inf).tolist() == [i for i, v in enumerate(z) if v == math.inf]


IDS = [5, 0, 5, 7, 1, 0, 5]

REWEIGHTINGS = {
    "temperature": (Temperature(0.7), lambda z: [v / 0.7 for v in z]),
    "temperature 1": (Temperature(1.0), list),
    "dynamic": (DynamicTemperature(1.0, 0.5, 1.3), lambda z: reference.dynamic_temperature(z, 1.0, 0.5, 1.3)),
    "dynamic to 0": (DynamicTemperature(0.5, 0.5), lambda z: reference.dynamic_temperature(z, 0.5, 0.5, 1.0)),
    "repetition": (RepetitionPenalty(1.3, 4), lambda z: reference.penalised(z, IDS, 4, repetition=1.3)),
    "presence": (PresencePenalty(0.7, 100), lambda z: reference.penalised(z, IDS, 100, presence=0.7)),
    "frequency": (FrequencyPenalty(-0.4, 3), lambda z: reference.penalised(z, IDS, 3, frequency=-0.4)),
    "bias": (LogitBias({3: 2.5, 0: -100}), lambda z: [v + {3: 2.5, 0: -100}.get(i, 0) for i, v in enumerate(z)]),
}


@pytest.mark.parametrize(
    ("logits", "kind"), everyday(product([n for n in SHAPES if n not in ("one", "two")], KINDS), 4)
)
def test_reweightings_equal_the_reference(logits, kind):
    z = logits_of(logits)
    x, xp, _ = as_kind(z, kind)
    for name, (transform, expected) in REWEIGHTINGS.items():
        after, removed_by = run([transform], x, start([transform], None, IDS, xp), KEY, xp)
        tolerance = 1e-9 if kind == "numpy float64" else 1e-4 if isinstance(transform, DynamicTemperature) else 1e-5
        np.testing.assert_allclose(np.asarray(after), expected(z), rtol=tolerance, atol=tolerance, err_msg=name)
        assert (np.asarray(removed_by) == STAYS).all()
        assert (np.asarray(x) == z).all(), f"{name} changed its argument"


@pytest.mark.parametrize("xp", [np, mx], ids=["numpy", "mlx"])
def test_a_window_moves_with_the_text_and_takes_a_lazy_token(xp):
    transforms = (RepetitionPenalty(1.2, 3), FrequencyPenalty(0.3, 2))
    z = np.random.default_rng(0).normal(size=20).astype(np.float32)
    states = first = start(transforms, None, [4, 4], xp)
    ids = [4, 4]
    for token in (9, 4, 2, 2, 9):
        states = advance(transforms, states, xp.array(token) + 0, xp.array(z), xp)
        ids.append(token)
        after, _ = run(transforms, xp.array(z), states, KEY, xp)
        expected = reference.penalised(reference.penalised(z, ids, 3, repetition=1.2), ids, 2, frequency=0.3)
        np.testing.assert_allclose(np.asarray(after), expected, rtol=1e-5, atol=1e-6)
    assert np.asarray(first[0]).tolist() == [4, 4], "a state is never changed"
    assert edited_ids(transforms, states).tolist() == [2, 9]


def test_dry_equals_the_quadratic_reference():
    rng = np.random.default_rng(1)
    for _ in range(150):
        ids = rng.integers(97, 97 + rng.integers(2, 5), rng.integers(1, 40)).tolist()
        for place in rng.integers(0, len(ids), 2):
            ids[place] = 10 if rng.random() < 0.3 else ids[place]
        transform = DRY(0.8, 1.5, int(rng.integers(1, 4)))
        z = rng.normal(size=128)
        after, _ = run([transform], z, start([transform], Letters(), ids, np), KEY, np)
        expected = reference.dry(z, ids, 0.8, 1.5, transform.allowed, lambda token: token == 10)
        np.testing.assert_allclose(after, expected, rtol=1e-12)


def test_dry_breakers_may_spread_over_tokens_and_a_run_starts_after_them():
    transform = DRY(1.0, 2.0, 1, breakers=("--",))
    text = list(b"xab--abc xab--ab")  # after the breaker "ab" is repeated: n = 2, and 7 tokens without it
    (state,) = start([transform], Letters(), text, np)
    assert transform.penalties(state) == {ord("c"): 2.0, ord("-"): 2.0}
    assert DRY(1.0, 2.0, 1, breakers=()).penalties(state)[ord("c")] == 2.0**6


def test_xtc_spares_breaks_and_ends_and_flips_a_coin_for_each_token():
    z = np.zeros(40, np.float32)
    z[[3, 10, 20]] = 5, 6, 7
    transform = XTC(1.0, 0.05)
    for xp in (np, mx):
        states = start([transform], Letters(), [], xp)
        after, _ = run([transform], xp.array(z), states, KEY, xp)
        assert np.flatnonzero(np.isinf(np.asarray(after))).tolist() == [20]
    often = sum(XTC(0.3).acts((0, position)) for position in range(4000)) / 4000
    assert abs(often - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)
    assert not any(XTC(0.0).acts((0, position)) for position in range(100))
    assert all(XTC(1.0).acts((0, position)) for position in range(100))


@pytest.mark.parametrize("xp", [np, mx], ids=["numpy", "mlx"])
def test_mirostat_steers_by_the_surprisal_of_what_was_left(xp):
    transform = MirostatV2(3.0, 0.2)
    rng = np.random.default_rng(3)
    (mu,) = states = start([transform], None, [], xp)
    assert mu == 6.0
    expected = 6.0
    for token in range(5):
        z = np.sort(rng.normal(0, 2, 50))[::-1].astype(np.float32)
        after, _ = run([transform], xp.array(z), states, KEY, xp)
        left = [v for v, m in zip(z.tolist(), reference.mirostat(z.tolist(), expected), strict=True) if m >= 0]
        surprisal = -math.log2(reference.softmax(left)[token])
        expected -= 0.2 * (surprisal - 3.0)
        states = advance([transform], states, xp.array(token), after, xp)
        assert float(states[0]) == pytest.approx(expected, abs=1e-4)


def test_a_changed_recipe_keeps_the_states_of_what_stays():
    before = (MirostatV2(3.0), RepetitionPenalty(1.1, 4))
    states = advance(before, start(before, None, [1, 2], np), 5, np.zeros(8, np.float32), np)
    after = (RepetitionPenalty(1.1, 4), Temperature(0.5), MirostatV2(3.0), PresencePenalty(0.5, 2))
    changed = change(after, before, states, None, [1, 2, 5], np)
    assert changed[0] is states[1]
    assert changed[2] is states[0]
    assert changed[3].tolist() == [2, 5]


@pytest.mark.parametrize("xp", [np, mx], ids=["numpy", "mlx"])
def test_a_draw_inverts_the_distribution_function_in_two_steps(xp):
    """A row of 256 tokens by its mass, then a token in it, each by the hash of the key, in float64; what has no mass is
    never drawn, wherever it stands."""
    random = np.random.default_rng(4)
    for size in (1, 5, 256, 257, 1000):
        z = random.normal(0, 3, size).astype(np.float32)
        z[random.random(size) < 0.5] = -np.inf
        z[size // 2] = 1.0
        rows = np.zeros(-(-size // 256) * 256)
        rows[:size] = np.exp(z.astype(np.float64))
        rows = rows.reshape(-1, 256)
        for position in range(100):
            mass = np.cumsum(rows.sum(axis=1))
            row = int((mass <= uniform((9, position), "row") * mass[-1]).sum())
            mass = np.cumsum(rows[row])
            want = row * 256 + int((mass <= uniform((9, position), "token") * mass[-1]).sum())
            assert int(draw(xp.array(z), (9, position), xp)) == want
            assert z[want] > -np.inf


def test_draws_have_the_law():
    """Of 20,000 keys: chi-square, 7 degrees of freedom, above 31.9 with probability 4e-5."""
    p = np.array([1, 0, 3, 4, 0, 0, 0, 0, 8, 0, 16, 0, 24, 8]) / 64
    with np.errstate(divide="ignore"):
        z = np.log(p).astype(np.float32)
    counts = np.bincount([int(draw(z, (0, i), np)) for i in range(20_000)], minlength=len(p))
    assert not counts[p == 0].any()
    assert ((counts - 20_000 * p)[p > 0] ** 2 / (20_000 * p[p > 0])).sum() < 31.9


def test_uniform_is_uniform():
    n, bins = 20_000, 20
    for purpose in ("row", "token", "xtc"):
        values = np.array([uniform((3, i), purpose) for i in range(n)])
        counts = np.histogram(values, bins, (0, 1))[0]
        # chi-square, 19 degrees of freedom: above 55 with probability 2e-5
        assert ((counts - n / bins) ** 2 / (n / bins)).sum() < 55
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / math.sqrt(n)
    assert uniform((-1, 0), "row") != uniform((1, 0), "row")


REFUSED = [
    (MinP, (1.2,), "min-p must be in (0, 1], got 1.2"),
    (MinP, (0.1, 0), "min-tokens-to-keep must be a whole number in [1, inf), got 0"),
    (TopK, (0,), "top-k must be a whole number in [1, inf), got 0"),
    (TopK, (2.5,), "top-k must be a whole number in [1, inf), got 2.5"), (TopP, (0,), "top-p must be in (0, 1], got 0"),
    (TopP, (math.nan,), "top-p must be in (0, 1], got nan"), (TopP, (True,), "top-p must be in (0, 1], got True"),
    (Typical, (1.5,), "typical-p must be in (0, 1], got 1.5"),
    (TopNSigma, (-1,), "top-n-sigma must be in (0, 100], got -1"),
    (XTC, (1.5,), "xtc-probability must be in [0, 1], got 1.5"),
    (XTC, (0.5, 0.6), "xtc-threshold must be in [0, 0.5], got 0.6"),
    (Temperature, (0,), "temperature must be in (0, 100], got 0"),
    (DynamicTemperature, (1, -1), "dynamic temperature range must be in [0, 100], got -1"),
    (MirostatV2, (0,), "mirostat-tau must be in (0, 100], got 0"),
    (DRY, (-1,), "dry-multiplier must be in [0, 100], got -1"),
    (RepetitionPenalty, (0,), "repetition penalty must be in (0, 10], got 0"),
    (RepetitionPenalty, (1, 0), "penalty window must be a whole number in [1, inf), got 0"),
    (LogitBias, ({3: math.inf},), "the logit bias of token 3 must be in [-100, 100], got inf"),
    (LogitBias, ({-3: 1},), "a logit bias's token id must be a whole number in [0, inf), got -3"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "message"), REFUSED)
def test_a_value_out_of_range_is_refused_with_the_range(kind, given, message):
    with pytest.raises(ParameterError) as caught:
        kind(*given)
    assert str(caught.value) == message
    with pytest.raises(ParameterError, match=r"must be in \[0, 4\] for this model, got 9"):
        run([LogitBias({9: 1.0})], np.zeros(5, np.float32), [None], KEY, np)


def test_no_more_of_a_text_than_a_transform_reaches_is_asked_for_its_state():
    """What it says it looks back on is enough, as long as that is told."""
    ids = np.random.default_rng(0).integers(0, 50, 300).tolist()
    known = {
        RepetitionPenalty(1.2, 64): 64, FrequencyPenalty(0.5): 20, DRY(0.8, window=100): 100, LogitBias({3: 1.0}): 0,
        TopP(0.5): 0, XTC(0.5): 0, MirostatV2(3.0): math.inf,
    }  # fmt: skip
    for transform, reach in known.items():
        assert transform.reach == reach
        if reach < math.inf:
            whole, last = (transform.init(None, text, np) for text in (ids, ids[len(ids) - reach :]))
            z = np.random.default_rng(1).normal(size=50).astype(np.float32)
            np.testing.assert_array_equal(*(transform.apply(z, state, (0, 0), np) for state in (whole, last)))


@pytest.mark.slow
@pytest.mark.parametrize("logits", ["language", "flat", "ties", "equal", "certain", "negative", "wide"])
def test_mlx_lm_agrees(logits):
    from mlx_lm import sample_utils as theirs

    z = logits_of(logits)
    x = mx.array(z.astype(np.float32))
    logprobs = (x - mx.logsumexp(x))[None]

    def kept(transform):
        return np.isfinite(np.asarray(run([transform], x, start([transform], None, [], mx), KEY, mx)[0]))

    for p in (0.1, 0.5, 0.95):
        same = kept(TopP(p)) == np.isfinite(np.asarray(theirs.apply_top_p(logprobs, p))[0])
        assert same[np.abs(reference.top_p(z, p)) > 1e-4].all()
        same = kept(MinP(p)) == np.isfinite(np.asarray(theirs.apply_min_p(logprobs, p))[0])
        assert same[np.abs(reference.min_p(z, p)) > 1e-5].all()
    for threshold in (0.0, 0.02, 0.1):
        same = kept(XTC(1.0, threshold)) == np.isfinite(np.asarray(theirs.apply_xtc(logprobs, 1.0, threshold, []))[0])
        assert same[np.abs(reference.xtc(z, threshold)) > 1e-7].all()
    for k in (1, 40, 199):
        # which of several equal tokens is kept is mlx-lm's own affair; how many, and how likely they are, is not
        mine, other = kept(TopK(k)), np.isfinite(np.asarray(theirs.apply_top_k(logprobs, k))[0])
        assert sorted(z[mine]) == sorted(z[other])
    if logits != "wide":
        ids = [5, 0, 5, 7, 1, 0, 5] * 5
        transforms = (LogitBias({3: 2.5, 8: -1}), RepetitionPenalty(1.3), PresencePenalty(0.4), FrequencyPenalty(0.2))
        after, _ = run(transforms, x, start(transforms, None, ids, mx), KEY, mx)
        expected = x[None]
        for process in theirs.make_logits_processors({3: 2.5, 8: -1}, 1.3, 20, 0.4, 20, 0.2, 20):
            expected = process(mx.array(ids), expected)
        np.testing.assert_allclose(np.asarray(after), np.asarray(expected)[0], atol=2e-6, rtol=1e-6)


def test_the_hash_is_the_same_everywhere():
    """Stored runs are drawn again from it: these values never change."""
    keys = (((0, 0), "row"), ((0, 0), "token"), ((1, 0), "row"), ((0, 1), "row"), ((-1, 0), "row"))
    assert [round(uniform(*key) * 2**24) for key in keys] == [3182541, 643539, 4583763, 16177388, 9543398]
    assert uniform((-1, 0), "row") == uniform((2**64 - 1, 0), "row")


@pytest.mark.parametrize("xp", [np, mx], ids=["numpy", "mlx"])
@pytest.mark.parametrize(
    ("p", "transforms", "ids", "greedy", "removed"),
    [
        # the first that removed a token is named
        (np.exp([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]), (TopK(4), Temperature(2.0), MinP(0.5), TopP(0.2)), [], False,
         [-1, 3, 2, 2, 0, 0]),
        # the most likely after penalties is taken, whatever is truncated
        (np.exp([3.0, 2.0, 1.0]), (XTC(1.0, 0.01), FrequencyPenalty(2.0)), [0], True, [2, -1, 2]),
        # a token at 0.3 of the likeliest is at 0.09 after a temperature of 0.5
        ([1.0, 0.3, 0.01], (MinP(0.1), Temperature(0.5)), [], False, [-1, -1, 0]),
        ([1.0, 0.3, 0.01], (Temperature(0.5), MinP(0.1)), [], False, [-1, 1, 1]),
    ],
)  # fmt: skip
def test_what_was_removed_is_by_whom(p, transforms, ids, greedy, removed, xp):
    z = xp.array(np.log(p).astype(np.float32))
    after, removed_by = run(transforms, z, start(transforms, None, ids, xp), KEY, xp, greedy=greedy)
    assert np.asarray(removed_by).tolist() == removed and np.asarray(removed_by).dtype == np.int8
    assert np.isfinite(np.asarray(after)).tolist() == [by < 0 for by in removed]
    assert removed[int(draw(after, KEY, xp))] < 0
