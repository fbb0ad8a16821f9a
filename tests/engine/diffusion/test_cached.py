"""Caches of denoisers: exact of finished blocks, approximate where a model sees both ways; guidance beside them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.diffusion.cached import ApproximateDenoiser, BlockDenoiser, denoiser_of
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasking, fill
from likely.metal import mx
from likely.models import Transformer
from tests.engine import tiny
from tests.support.everyday import everyday

MASK = 286
CANVAS = [5, 6, 200, 7, 9, MASK, MASK, MASK, MASK, MASK, 31, MASK, MASK, MASK]


def made(**further: Any) -> Transformer:
    config = {**tiny.LLAMA, "mask_token_id": MASK, **further}
    model = models.build(config, {name: mx.array(6 * array) for name, array in tiny.weights(config).items()})
    assert isinstance(model, Transformer)
    return model


def passes(denoiser: ModelDenoiser, how: Unmasking, ids: list[int] = CANVAS) -> Iterator[DenoisingStep]:
    own = denoiser.diffusion.block
    yield from fill(denoiser.logits, ids, MASK, how, SamplingConfig(), seed=3, own=own, begin=denoiser.begin)


class Both(ModelDenoiser):
    """Two denoisers whose logits are compared at every pass; the tokens that the first reads are counted."""

    def __init__(self, one: ModelDenoiser, other: ModelDenoiser) -> None:
        super().__init__(one.model)
        self.one, self.other, self.worst, self.passes = one, other, 0.0, 0

    def begin(self, places: np.ndarray) -> None:
        self.one.begin(places)
        self.other.begin(places)

    def logits(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        a, b = self.one.logits(ids, places), self.other.logits(ids, places)
        keep = np.arange(a.shape[1]) != MASK
        assert (a[:, MASK] == -np.inf).all() and (b[:, MASK] == -np.inf).all()
        self.worst = max(self.worst, float(np.abs(a[:, keep] - b[:, keep]).max() / np.abs(b[:, keep]).max()))
        self.passes += 1
        return b


class Counted:
    """An embedding that counts the tokens of every pass."""

    def __init__(self, embed: Any) -> None:
        self.embed, self.read = embed, list[int]()

    def __call__(self, tokens: mx.array) -> mx.array:
        self.read.append(tokens.shape[1])
        return self.embed(tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.embed, name)


@pytest.mark.parametrize(("shifted", "guidance"), everyday([(True, 1.5), (False, 0.0), (True, 0.0), (False, 1.5)], 2))
def test_finished_blocks_are_read_once_and_nothing_is_lost(shifted: bool, guidance: float) -> None:
    model = made(block_size=4, shifted_logits=shifted)
    given = np.array(CANVAS) != MASK
    for how in (Unmasking(), Unmasking(threshold=0.5), Unmasking(revise=2), Unmasking(remask=0.5)):
        exact = BlockDenoiser(model, given=given, guidance=guidance)
        both = Both(exact, ModelDenoiser(model, given=given, guidance=guidance))
        filled = list(CANVAS)
        for each in passes(both, how):
            for one in each.unmasked:
                filled[one.token.position] = one.token.token
        assert both.worst < 2e-5 and both.passes >= 3 and MASK not in filled
        other = np.array(CANVAS)
        other[1] = 8
        for ids, places in ((CANVAS, [4, 5, 7]), (filled, [12, 13]), (CANVAS, [4, 7]), (other, [11, 13])):
            twice = (
                each.logits(np.array(ids), np.array(places)) for each in (exact, both.other)
            )  # none follows another
            np.testing.assert_allclose(*(np.delete(x, MASK, 1) for x in twice), rtol=1e-4, atol=1e-4)
    model.embed = counted = Counted(model.embed)  # type: ignore[assignment]
    list(passes(BlockDenoiser(model), Unmasking()))
    assert max(counted.read) == 8 and counted.read.count(4) >= 4  # the finished block with the first pass of the next


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_of_one_layer_what_stands_outside_of_the_block_is_exact_and_of_two_the_difference_is_measured(
    dual: bool, shifted: bool
) -> None:
    given = np.array(CANVAS) != MASK
    for guidance in (0.0, 1.0):  # the keys of the only layer are of its own token
        one = made(num_hidden_layers=1, shifted_logits=shifted)
        fast = ApproximateDenoiser(one, given=given, guidance=guidance, dual=dual)
        both = Both(fast, ModelDenoiser(one, given=given, guidance=guidance))
        assert len(list(passes(both, Unmasking(block=4)))) == both.passes == 8 and both.worst < 2e-5
    two = made(shifted_logits=shifted)
    fast = ApproximateDenoiser(two, dual=dual, check=True)
    canvas, places, plain = np.array(CANVAS), np.array([5, 6, 7, 8]), ModelDenoiser(two)
    fast.begin(places)
    np.testing.assert_allclose(fast.logits(canvas, places), plain.logits(canvas, places), rtol=1e-4, atol=1e-4)
    assert fast.disagreement is None
    canvas[6] = 17
    p, q = (arrays.logprobs(each.logits(canvas, places[2:]), np) for each in (plain, fast))
    found = fast.disagreement
    assert found is not None and found.masks == 2 and found.kl > 1e-6
    assert found.kl == pytest.approx(float(arrays.kl(p, q, np).sum()), rel=1e-3)
    assert found.other == (p.argmax(axis=1) != q.argmax(axis=1)).sum()


def test_guidance_is_away_from_the_canvas_whose_given_tokens_are_masked() -> None:
    model, given, places = made(), np.array(CANVAS) != MASK, np.array([5, 13])
    plain, guided = ModelDenoiser(model), ModelDenoiser(model, given=given, guidance=2.0)
    c = plain.logits(np.array(CANVAS), places).astype(np.float64)
    un = plain.logits(np.full(len(CANVAS), MASK), places).astype(np.float64)
    keep = np.arange(c.shape[1]) != MASK
    wanted = un[:, keep] + 3 * (c[:, keep] - un[:, keep])
    np.testing.assert_allclose(guided.logits(np.array(CANVAS), places)[:, keep], wanted, rtol=1e-3, atol=1e-3)
    drawn = np.array(CANVAS)
    drawn[6] = 9  # a token that was drawn is not given: it stays in both
    un = plain.logits(np.where(given, MASK, drawn), places).astype(np.float64)
    c = plain.logits(drawn, places).astype(np.float64)
    wanted = un[:, keep] + 3 * (c[:, keep] - un[:, keep])
    np.testing.assert_allclose(guided.logits(drawn, places)[:, keep], wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(ParameterError, match="the canvas has nothing but masks"):
        ModelDenoiser(model, given=np.zeros(4, bool), guidance=1.0)


def test_a_cache_that_a_model_cannot_have_is_refused_by_name() -> None:
    given = np.array(CANVAS) != MASK
    for model, how, line in (
        (made(), Unmasking(cache="exact"), "m sees both ways"),
        (made(block_size=4), Unmasking(cache="dual", block=4), "choose --cache exact"),
    ):
        with pytest.raises(ParameterError, match=line):
            denoiser_of(model, "m", how, given)
    assert isinstance(denoiser_of(made(block_size=4), "m", Unmasking(cache="exact"), given), BlockDenoiser)
    with pytest.raises(ParameterError, match="this model fills blocks of 4 positions, got --block 2"):
        list(passes(ModelDenoiser(made(block_size=4)), Unmasking(block=2)))
    with pytest.raises(ParameterError, match="4 steps are not divisible by the 3 blocks of 4 positions"):
        list(passes(ModelDenoiser(made(block_size=4)), Unmasking(steps=4)))
    steps = list(passes(ModelDenoiser(made(block_size=4)), Unmasking(steps=3)))
    assert [sorted(u.token.position for u in each.unmasked) for each in steps] == [[5, 6, 7], [8, 9, 11], [12, 13]]
