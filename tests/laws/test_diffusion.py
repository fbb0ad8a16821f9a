"""Sampling by masked diffusion with the exact denoiser: whose law it has, and what it never does."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Predict, Unmasked, Unmasking, fill
from likely.engine.sampling.transforms import DRY, MirostatV2, RepetitionPenalty, Temperature
from tests.laws import small_law as laws
from tests.support.decoding import chi_square_bound
from tests.support.everyday import everyday

BLANK = [laws.MASK] * laws.LENGTH
RECIPE = SamplingConfig()


def predict(p: np.ndarray) -> Predict:
    """The exact denoiser, each canvas computed once."""
    denoise = laws.exact(p)
    known: dict[tuple[int, ...], np.ndarray] = {}

    def at(ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        key = tuple(ids.tolist())
        if key not in known:
            known[key] = denoise(ids[None])[0].astype(np.float32)
        return known[key][places]

    return at


def unmasked(passes: Iterable[DenoisingStep]) -> list[Unmasked]:
    return [event for each in passes for event in each.unmasked]


def filled(
    by: Predict, how: Unmasking, ids: Sequence[int] = BLANK, seed: int = 0, recipe: SamplingConfig = RECIPE
) -> list[int]:
    canvas = list(ids)
    for event in unmasked(fill(by, ids, laws.MASK, how, recipe, seed=seed)):
        canvas[event.token.position] = event.token.token
    return canvas


def distance(counts: "Counter[tuple[int, ...]]", expected: np.ndarray) -> float:
    """Chi-square over its bound; texts that are expected less than five times are one cell."""
    n = sum(counts.values())
    wanted, seen = n * expected, np.array([counts[tuple(text)] for text in laws.TEXTS.tolist()])
    rare = wanted < 5
    if rare.any():
        wanted, seen = np.append(wanted[~rare], wanted[rare].sum()), np.append(seen[~rare], seen[rare].sum())
    return float(((seen - wanted) ** 2 / wanted).sum() / chi_square_bound(len(wanted)))


@pytest.mark.parametrize("how", everyday([{"by": "confidence"}, {"by": "entropy"}, {"by": "random"}, {"block": 2}], 3))
def test_one_at_a_time_is_the_law_itself(how: dict[str, Any]) -> None:
    p, n = laws.drawn(), 600
    by = predict(p)
    found = Counter(tuple(filled(by, Unmasking(**how), seed=seed)) for seed in range(n))
    assert distance(found, p) < 1 and distance(found, laws.alone(p)) > 2


def test_all_at_once_is_the_product_of_marginals() -> None:
    p, n = laws.drawn(), 600
    by = predict(p)
    found = Counter(tuple(filled(by, Unmasking(steps=1), seed=seed)) for seed in range(n))
    assert distance(found, laws.alone(p)) < 1 and distance(found, p) > 2


def test_ancestral_passes_leave_as_many_masks_as_the_schedule_says() -> None:
    by, n = predict(laws.drawn()), 400
    for noise, share in (("linear", 0.5), ("cosine", 1 - np.cos(np.pi / 4))):
        how = Unmasking(by="ancestral", steps=2, noise=noise)
        events = [unmasked(fill(by, BLANK, laws.MASK, how, RECIPE, seed=seed)) for seed in range(n)]
        late = sum(event.step == 2 for each in events for event in each) / (4 * n)
        assert abs(late - share) < 4 * np.sqrt(share * (1 - share) / (4 * n))
        assert all(sorted(e.token.position for e in each) == [0, 1, 2, 3] for each in events)


def test_a_pass_says_what_the_model_thinks_of_each_mask_that_it_leaves() -> None:
    p, canvas = laws.drawn(), list(BLANK)
    for each in fill(predict(p), BLANK, laws.MASK, Unmasking(steps=2), RECIPE, seed=5):
        said = laws.exact(p)(np.array([canvas]))[0]
        assert len(each.unmasked) == 2 and len(each.open) == 4 - 2 * each.step
        for left in each.open:
            assert canvas[left.position] == laws.MASK and left.ids.tolist() == np.argsort(-said[left.position]).tolist()
            want = said[left.position][left.ids]
            np.testing.assert_allclose(left.logprobs, want, rtol=1e-5)
            real = want[np.isfinite(want)]
            assert left.entropy == pytest.approx(-np.sum(np.exp(real) * real), abs=1e-5)
        for event in each.unmasked:
            canvas[event.token.position] = event.token.token


def test_what_is_known_is_never_rewritten_unless_revision_is_asked_for() -> None:
    by, revised = predict(laws.drawn()), 0
    for seed in range(30):
        for how in (Unmasking(), Unmasking(steps=2), Unmasking(by="ancestral", steps=3), Unmasking(threshold=0.5)):
            events = unmasked(fill(by, [3, 1, 3, 3], laws.MASK, how, RECIPE, seed=seed))
            assert sorted(e.token.position for e in events) == [0, 2, 3] and all(e.before is None for e in events)
        canvas = [3, 1, 3, 3]
        for event in unmasked(fill(by, canvas, laws.MASK, Unmasking(steps=1, revise=3), RECIPE, seed=seed)):
            place = event.token.position
            assert event.before == (None if canvas[place] == laws.MASK else canvas[place]) != event.token.token
            canvas[place], revised = event.token.token, revised + (event.before is not None)
        assert canvas[1] == 1 and laws.MASK not in canvas
    assert revised > 10


def test_revising_a_text_that_was_drawn_at_once_brings_it_nearer_to_the_law() -> None:
    p = np.zeros(len(laws.TEXTS))
    p[[np.flatnonzero((digit == laws.TEXTS).all(axis=1))[0] for digit in range(3)]] = 1 / 3  # 0000, 1111 or 2222
    by = predict(p + 1e-6)

    def share(revise: int) -> float:
        return float(
            np.mean([len(set(filled(by, Unmasking(steps=2, revise=revise), seed=s))) == 1 for s in range(100)])
        )

    assert share(0) < 0.4 < 0.9 < share(8)


def test_tokens_that_the_rest_of_their_block_makes_unlikely_are_masked_again_once() -> None:
    p = np.zeros(len(laws.TEXTS))
    p[[np.flatnonzero((digit == laws.TEXTS).all(axis=1))[0] for digit in range(3)]] = 1 / 3  # 0000, 1111 or 2222
    by, revised, ends = predict(p + 1e-6), 0, []
    for seed in range(60):
        canvas, steps = list(BLANK), 0
        for each in fill(by, BLANK, laws.MASK, Unmasking(steps=2, remask=0.5), RECIPE, seed=seed):
            steps += 1
            assert each.step == steps
            for one in each.unmasked:
                place = one.token.position
                assert one.before == (None if canvas[place] == laws.MASK else canvas[place]) != one.token.token
                canvas[place], revised = one.token.token, revised + (one.before is not None)
        ends.append(len(set(canvas)) == 1)
        assert laws.MASK not in canvas and steps <= 2 + 4 * 2 + 4
    once = [len(set(filled(by, Unmasking(steps=2), seed=seed))) == 1 for seed in range(60)]
    assert np.mean(once) < 0.4 < 0.55 < np.mean(ends) and revised > 10
    sure = predict(np.eye(len(laws.TEXTS))[40] + 1e-9)
    assert [len(e.unmasked) for e in fill(sure, BLANK, laws.MASK, Unmasking(steps=1, remask=0.5), RECIPE)] == [4, 0, 0]


def two_masks(p: np.ndarray) -> np.ndarray:
    """The law of tokens 0 and 2 [3, 3] where 1 and 0 stand at 1 and 3."""
    here = (laws.TEXTS[:, 1] == 1) & (laws.TEXTS[:, 3] == 0)
    q = p[here].reshape(3, 3)
    return np.asarray(q / q.sum())


def after(q: np.ndarray, revise: int, remask: float) -> np.ndarray:
    """The law of two tokens that are drawn one a pass, the surer place first, then as options say masked and drawn anew
    from the exact conditional, by every way that this can go."""
    given = (q / q.sum(0), q / q.sum(1)[:, None])  # of either, by the other
    found = np.zeros((3, 3))

    def redrawn(text: tuple[int, int], place: int) -> Iterable[tuple[tuple[int, int], float]]:
        of = given[place][:, text[1]] if place == 0 else given[place][text[0]]
        return [((t, text[1]) if place == 0 else (text[0], t), float(chance)) for t, chance in enumerate(of)]

    def revised(text: tuple[int, int], p: tuple[float, float], left: int, mass: float) -> None:
        if not left:
            found[text] += mass
            return
        worst = int(p[1] < p[0])
        for new, chance in redrawn(text, worst):
            revised(new, (chance, p[1]) if worst == 0 else (p[0], chance), left - 1, mass * chance)

    def remasked(text: tuple[int, int], left: tuple[int, ...], mass: float) -> None:
        doubted = [place for place in left if dict(redrawn(text, place))[text] < remask]
        if len(doubted) == 2:  # both are drawn as at first
            np.add(found, mass * q, out=found)
        elif doubted:
            for new, chance in redrawn(text, doubted[0]):
                remasked(new, tuple(place for place in left if place not in doubted), mass * chance)
        else:
            found[text] += mass

    alone = (q.sum(1), q.sum(0))
    first = int(alone[1].max() > alone[0].max())
    for a in range(3):
        for b in range(3):
            at = (a, b)[first]
            ps = float(alone[first][at]), float(q[a, b] / alone[first][at])
            if remask:
                remasked((a, b), (0, 1), float(q[a, b]))
            else:
                revised((a, b), ps if first == 0 else ps[::-1], revise, float(q[a, b]))
    return found


def test_masking_again_sharpens_even_where_the_denoiser_is_exact() -> None:
    """By enumeration of two masks: one a pass is the law itself, and what is masked again since it was unlikely comes
    back likelier, in the mean by a tenth of a nat and more, the more of it the further from the law; and so it is
    drawn."""
    p, n = laws.drawn(8), 120
    q, by = two_masks(p), predict(p)
    moved: list[float] = []
    for revise, remask in ((0, 0.0), (1, 0.0), (4, 0.0), (0, 0.5)):
        law = after(q, revise, remask)
        assert law.sum() == pytest.approx(1)
        moved.append(float(np.abs(law - q).sum() / 2))
        sharper = float((law * np.log(q)).sum() - (q * np.log(q)).sum())
        assert sharper > 0.1 if revise or remask else moved == [pytest.approx(0)]
        how, drawn = Unmasking(revise=revise, remask=remask), np.zeros((3, 3))
        for seed in range(n):
            text = filled(by, how, [laws.MASK, 1, laws.MASK, 0], seed)
            drawn[text[0], text[2]] += 1
        assert ((drawn - n * law) ** 2 / np.maximum(n * law, 1)).sum() < chi_square_bound(9)
    assert 0.1 < moved[1] < moved[2]


def test_transforms_move_what_is_drawn_at_each_position() -> None:
    by = predict(laws.drawn())
    cold = [filled(by, Unmasking(), recipe=SamplingConfig((Temperature(1e-3),)), seed=seed) for seed in range(5)]
    greedy = filled(by, Unmasking(), recipe=SamplingConfig(greedy=True))
    assert all(each == greedy for each in cold)
    even = predict(np.full(len(laws.TEXTS), 1 / len(laws.TEXTS)))
    once = unmasked(
        fill(even, [0, 3, 3, 3], laws.MASK, Unmasking(), SamplingConfig((RepetitionPenalty(10.0),)), seed=1)
    )
    assert {e.token.token for e in once[:2]} == {1, 2}  # each token that is known is all but ruled out
    for transform in (DRY(1.0), MirostatV2(5.0)):
        with pytest.raises(ParameterError, match=f"{type(transform).__name__} needs tokens in the order"):
            list(fill(by, BLANK, laws.MASK, Unmasking(), SamplingConfig((transform,))))
