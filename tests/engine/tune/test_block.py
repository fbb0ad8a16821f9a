"""The loss of block diffusion: its mask by brute force, its mean the bound by blocks, and both of its ends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.adapters.config import Config
from likely.engine.diffusion.bound import exact
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.errors import ConfigError, ParameterError
from likely.engine.pretrain import config as pretraining
from likely.engine.tune import losses, masked, objectives
from likely.engine.tune.run import Set, prepare
from likely.metal import mx
from likely.metal.attention import KV, Mask, attention
from likely.metal.dispatch import forced
from likely.models.config import MaskedDiffusion
from tests.engine import tiny
from tests.engine.tune.test_masked import CONFIG, made, sample

SETTINGS = Config(kind="full", objective="block", batch=4, length=64)


def sees(query: int, key: int, lengths: tuple[int, ...], block: int) -> bool:
    """By the words of the paper: block-diagonal, offset block-causal, block-causal (arXiv:2503.09573, fig. 3)."""

    def place(at: int) -> tuple[int, bool, int]:
        for i, n in enumerate(lengths):
            if at < 2 * n:
                return i, at >= n, at % n // block
            at -= 2 * n
        raise AssertionError

    (text, clean, of), (other, is_clean, at) = place(query), place(key)
    diagonal = of == at and clean == is_clean
    offset = of > at and is_clean and not clean
    causal = of >= at and clean and is_clean
    return text == other and (diagonal or offset or causal)


@pytest.mark.parametrize("lengths", [(6,), (6, 5, 1)])
def test_what_sees_what_is_as_the_paper_has_it(lengths: tuple[int, ...]) -> None:
    n, mask = 2 * sum(lengths), Mask.of_noised(lengths, 2)
    at = mx.arange(n)[None]
    found = np.array(mask.visible(at, at, mx.zeros((1, 1), dtype=mx.int32)))[0]
    wanted = np.array([[sees(q, k, lengths, 2) for k in range(n)] for q in range(n)])
    assert (found == wanted).all()
    random = np.random.default_rng(0)
    q, k, v = (mx.array(random.normal(size=(1, heads, n, 16)).astype(np.float32)) for heads in (4, 2, 2))

    def out(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return attention(q, KV(k, v, mx.array([n], dtype=mx.int32), n), scale=0.25, mask=mask)

    scores = np.einsum("bhtd,bhsd->bhts", np.array(q), np.repeat(np.array(k), 2, axis=1)) / 4
    share = np.exp(np.where(wanted, scores, -np.inf))
    by_hand = share / share.sum(axis=-1, keepdims=True) @ np.repeat(np.array(v), 2, axis=1)
    np.testing.assert_allclose(np.array(out(q, k, v)), by_hand, atol=2e-6)
    gradients = mx.grad(lambda *x: (out(*x) ** 2).sum(), argnums=(0, 1, 2))
    mine = gradients(q, k, v)
    with forced("reference"):
        np.testing.assert_allclose(np.array(out(q, k, v)), by_hand, atol=2e-6)
        for a, b in zip(mine, gradients(q, k, v), strict=True):
            np.testing.assert_allclose(np.array(a), np.array(b), atol=2e-5)


@pytest.mark.parametrize("shifted", [False, True])
def test_the_mean_of_the_loss_is_the_bound_by_blocks(shifted: bool) -> None:
    model = made({**CONFIG, "shifted_logits": shifted, "block_size": 3})
    denoiser = ModelDenoiser(model)
    for item in (sample([5, 6, 200, 7, 9, 8, 31]), sample([5, 6, 200, 7, 9, 11, 250, 12, 13], prompt=4)):
        free = np.array(item.trained)
        truth = exact(denoiser.log_probabilities, item.ids, 286, free.tolist(), block=3)
        batch = objectives.batch_of(model, [item] * 300, SETTINGS, (1, 2))
        lost = losses.nll(model.head, objectives.read(model, batch), batch.targets)
        found = np.array(objectives.by_sample(objectives.weighed(lost, batch), batch))
        assert batch.trained == 300 * free.sum() and len(found) == 300
        noised, clean = np.asarray(batch.tokens)[0].reshape(300, 2, -1).swapaxes(0, 1)
        assert (clean == np.array(item.ids)).all() and (noised[:, ~free] == np.array(item.ids)[~free]).all()
        assert (noised[:, free] == 286).any(axis=0).all()
        assert abs(found.mean() - truth) < 4 * found.std() / 300**0.5 + 1e-4 * truth, (found.mean(), truth)
        assert found.std() / 300**0.5 < 0.03 * truth


def test_blocks_of_one_are_the_autoregressive_likelihood_and_one_block_is_mdlm() -> None:
    item = sample([5, 6, 200, 7, 9, 8, 31])

    def lost(**further: Any) -> np.ndarray:
        model = made({**CONFIG, **further})
        objective = "block" if "block_size" in further else "mdlm"
        batch = objectives.batch_of(model, [item, sample([7, 9, 4])], Config(kind="full", objective=objective), (1, 2))
        found = losses.nll(model.head, objectives.read(model, batch), batch.targets)
        return np.array(objectives.by_sample(objectives.weighed(found, batch), batch))

    causal = models.build(dict(tiny.LLAMA), {n: mx.array(4 * a) for n, a in tiny.weights(tiny.LLAMA).items()})
    ids = np.array(item.ids)
    logits = np.array(causal(mx.array(ids[None])))[0].astype(np.float64)
    logits[:, 286] = -np.inf  # which a diffusion model never says
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    alone = ModelDenoiser(made({**CONFIG, "shifted_logits": True, "block_size": 1})).log_probabilities(
        np.array([[286]])
    )
    wanted = -logp[np.arange(6), ids[1:]].sum() - alone[0, 0, 5]  # the first token is said of a mask alone
    assert lost(block_size=1, shifted_logits=True)[0] == pytest.approx(wanted, rel=1e-5)
    one = ModelDenoiser(made({**CONFIG, "block_size": 1}))  # it also reads the mask in whose place it says a token
    each = [one.log_probabilities(np.array([[*ids[:i], 286]]))[0, i, ids[i]] for i in range(7)]
    assert lost(block_size=1)[0] == pytest.approx(-sum(each), rel=1e-5)
    np.testing.assert_allclose(lost(block_size=7), lost(), rtol=1e-5)


def test_times_are_even_over_blocks_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    batch = masked.collate([sample(list(range(10, 26)))] * 12, MaskedDiffusion(286, block=4), (0, 7))
    places = np.asarray(batch.at) % 32
    sizes = np.bincount(np.asarray(batch.sample) * 4 + places // 4)
    assert np.bincount(sizes).tolist() == [0, 12, 12, 12, 12]
    assert np.allclose(np.asarray(batch.weights), (4 / sizes)[np.asarray(batch.sample) * 4 + places // 4])
    with pytest.raises(ParameterError, match="of blocks of 4, it learns by objective block, got mdlm"):
        prepare(made({**CONFIG, "block_size": 4}), Config(objective="mdlm"), Set([sample([5, 6, 7])]), tmp_path)
    with pytest.raises(ParameterError, match="context 100 is not divisible into blocks of 8"):
        pretraining.configure({"objective": "block", "context": 100})
    with pytest.raises(ParameterError, match="block_size goes with objective = block"):
        pretraining.configure({"objective": "mdlm", "block_size": 4})
    with pytest.raises(ConfigError, match="block_size must be 1 or more, got -1"):
        models.configure({**CONFIG, "block_size": -1})
