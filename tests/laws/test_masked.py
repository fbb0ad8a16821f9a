"""Masked diffusion in training: the mean of its loss is the bound, its masks are by brute force, and its ends known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base.errors import ConfigError, ParameterError
from likely.engine.diffusion.bound import exact
from likely.engine.diffusion.denoiser import ModelDenoiser
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.losses import batch_losses, losses, masked
from likely.engine.train.open_run import Tuning, open_run
from likely.engine.train.run import adaptation, probes, trainer
from likely.engine.train.run.run import Set, prepare
from likely.engine.weights.adapters.config import Config, configure
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from likely.metal.attention import CAUSAL, FULL, KV, Mask, attention
from likely.metal.dispatch import forced
from likely.models import Transformer
from likely.models.configuration.config import MaskedDiffusion
from tests.engine import tiny
from tests.support.decoding import log_softmax

CONFIG: dict[str, Any] = {**tiny.LLAMA, "mask_token_id": 286}


def made(**changes: Any) -> Transformer:
    config = CONFIG | changes
    built: Transformer = models.build(config, {name: mx.array(4 * a) for name, a in tiny.weights(config).items()})
    return built


def sample(ids: list[int], prompt: int = 0) -> TrainingSample:
    return TrainingSample(tuple(ids), tuple(i >= prompt for i in range(len(ids))), "x")


def settings(block: int) -> Config:
    return Config(kind="full", objective="block" if block else "mdlm", batch=4, length=64)


def lost(model: Any, items: list[TrainingSample], block: int) -> tuple[Any, np.ndarray]:
    """A batch, and the loss of each of its samples."""
    batch = batch_losses.batch_of(model, items, settings(block), (1, 2))
    found = losses.nll(model.head, batch_losses.read(model, batch), batch.targets)
    return batch, np.array(batch_losses.by_sample(batch_losses.weighed(found, batch), batch))


# -- the loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("block", [0, 3])
def test_the_mean_of_the_loss_is_the_bound_and_documents_are_alone(block: int, shifted: bool) -> None:
    """By enumeration of what may be masked."""
    model, n = made(shifted_logits=shifted, **({"block_size": block} if block else {})), 400
    denoiser = ModelDenoiser(model)
    for item in (sample([5, 6, 200, 7, 9], 1), sample([5, 6, 200, 7, 9, 8, 31]), sample([5, 6, 7, 9, 11, 8], 3)):
        free = np.array(item.trained)
        truth = exact(denoiser.log_probabilities, item.ids, 286, free.tolist(), **({"block": block} if block else {}))
        batch, found = lost(model, [item] * n, block)
        assert batch.trained == n * free.sum() and len(found) == n
        read = np.asarray(batch.tokens)[0].reshape(n, 2 if block else 1, -1)
        noised, clean = read[:, 0], read[:, 1:]
        assert (clean == np.array(item.ids)).all() and (noised[:, ~free] == np.array(item.ids)[~free]).all()
        assert (noised[:, free] == 286).any(axis=0).all()
        error = found.std() / n**0.5
        assert abs(found.mean() - truth) < 4 * error + 1e-4 * truth and error < 0.03 * truth


def test_blocks_of_one_are_the_autoregressive_likelihood_and_one_block_is_mdlm() -> None:
    item = sample([5, 6, 200, 7, 9, 8, 31])

    def loss(**further: Any) -> np.ndarray:
        return lost(made(**further), [item, sample([7, 9, 4])], further.get("block_size", 0))[1]

    causal = models.build(dict(tiny.LLAMA), {n: mx.array(4 * a) for n, a in tiny.weights(tiny.LLAMA).items()})
    ids = np.array(item.ids)
    logits = np.array(causal(mx.array(ids[None])))[0].astype(np.float64)
    logits[:, 286] = -np.inf  # which a diffusion model never says
    alone = ModelDenoiser(made(shifted_logits=True, block_size=1)).log_probabilities(np.array([[286]]))
    wanted = -log_softmax(logits)[np.arange(6), ids[1:]].sum() - alone[0, 0, 5]  # the first is said of a mask alone
    assert loss(block_size=1, shifted_logits=True)[0] == pytest.approx(wanted, rel=1e-5)
    one = ModelDenoiser(made(block_size=1))  # it also reads the mask in whose place it says a token
    each = [one.log_probabilities(np.array([[*ids[:i], 286]]))[0, i, ids[i]] for i in range(7)]
    assert loss(block_size=1)[0] == pytest.approx(-sum(each), rel=1e-5)
    np.testing.assert_allclose(loss(block_size=7), loss(), rtol=1e-5)


@pytest.mark.parametrize(("block", "shifted"), [(0, False), (0, True), (3, False), (3, True)])
def test_masked_batches_hold_their_targets_where_the_model_says_them(block: int, shifted: bool) -> None:
    diffusion = MaskedDiffusion(mask=99, block=block, shifted=shifted)
    rows = [sample(list(range(10, 18)), 2), sample([1, 2, 3])]
    batch = masked.collate(rows, diffusion, (7, 1))
    ids = np.array(batch.tokens)[0]
    at, targets, weights = np.array(batch.at), np.array(batch.targets), np.array(batch.weights)
    start, taken = 0, 0
    for i, row in enumerate(rows):
        n = len(row.ids)
        noised = ids[start : start + n]
        if block:
            assert ids[start + n : start + 2 * n].tolist() == list(row.ids)
        places = np.flatnonzero(noised == 99)
        assert all(row.trained[p] for p in places)
        assert [noised[p] for p in range(n) if p not in places] == [row.ids[p] for p in range(n) if p not in places]
        expected = []
        for p in places.tolist():
            where = max(p - 1, 0) if shifted else p
            where += n if shifted and block and p % block == 0 and p > 0 else 0
            expected.append((start + where, row.ids[p]))
        own = slice(taken, taken + len(places))
        assert sorted(zip(at[own].tolist(), targets[own].tolist(), strict=True)) == sorted(expected)
        free = np.flatnonzero(row.trained)
        groups = [free[free // block == b] for b in sorted({*(free // block)})] if block else [free]
        sizes = [(len(g), int(np.isin(g, places).sum())) for g in groups]
        assert weights[own] == pytest.approx([full / k for full, k in sizes for _ in range(k)])
        assert min(k for _, k in sizes) and batch.counts[i] == sum(full for full, _ in sizes)
        taken, start = taken + len(places), start + n * (2 if block else 1)
    assert start == len(ids) and batch.block == block and batch.also is None
    assert batch.documents == ((8, 8, 3, 3) if block else (8, 3))
    for key, same in (((7, 1), True), ((7, 2), False)):
        assert (np.array(masked.collate(rows, diffusion, key).tokens).tolist() == ids[None].tolist()) == same


@pytest.mark.parametrize(("block", "prompt", "even"), [(0, 4, [0] + [1] * 12), (4, 0, [0, 12, 12, 12, 12])])
def test_times_are_even_over_samples_or_blocks(block: int, prompt: int, even: list[int]) -> None:
    """Of 12 samples with 12 tokens to train, as many have one masked as have two."""
    batch = masked.collate([sample(list(range(10, 26)), prompt)] * 12, MaskedDiffusion(286, block=block), (0, 7))
    group = np.asarray(batch.sample)
    if block:
        group = group * 4 + np.asarray(batch.at) % 32 // block
    sizes = np.bincount(group)
    assert np.bincount(sizes).tolist() == even
    assert np.allclose(np.asarray(batch.weights), ((block or 12) / sizes)[group])


# -- what is seen ------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("lengths", [(6,), (5, 5, 5), (4, 7), (6, 5, 1)])
@pytest.mark.parametrize("kind", ["noised", "also"])
def test_what_sees_what_is_by_brute_force(kind: str, lengths: tuple[int, ...]) -> None:
    """Of block diffusion's two halves; and of what is seen besides, on the way from causal to both ways."""
    random, n = np.random.default_rng(0), sum(lengths) * (2 if kind == "noised" else 1)
    if kind == "noised":
        mask = Mask.of_noised(lengths, 2)
        wanted = np.array([[sees(q, k, lengths, 2) for k in range(n)] for q in range(n)])
        at = mx.arange(n)[None]
        assert (np.array(mask.visible(at, at, mx.zeros((1, 1), dtype=mx.int32)))[0] == wanted).all()
    else:
        also, document = random.random((n, n)) < 0.4, np.repeat(np.arange(len(lengths)), lengths)
        mask = replace(Mask.of_documents(lengths), also=mx.array(also[None]))
        wanted = (np.tril(np.ones((n, n), bool)) | also) & (document[:, None] == document)
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


# -- from an autoregressive model --------------------------------------------------------------------------------------


def base(folder: Path, **changes: Any) -> Path:
    return tiny.random_folder(folder, tiny.LLAMA | changes, times=4)


def test_with_causal_attention_it_says_exactly_what_it_said(tmp_path: Path) -> None:
    ids = mx.array([[5, 6, 200, 7, 9, 11, 250]])
    for tied in (True, False):
        checkpoint = load(str(base(tmp_path / f"{tied}", tie_word_embeddings=tied)))
        before, vocab = checkpoint.model(ids), checkpoint.model.config.vocab_size
        model = adaptation.adapted(checkpoint).model
        assert model.config.diffusion == MaskedDiffusion(vocab, shifted=True)
        after = model.head(model.hidden(ids, mask=CAUSAL))
        assert mx.array_equal(after[..., :vocab], before) and bool(mx.all(after[..., vocab] == -mx.inf))
        both = model.head(model.hidden(ids, mask=FULL))
        assert not mx.allclose(both[:, 0, :vocab], before[:, 0], atol=1e-3)


def test_the_share_of_later_positions_goes_from_none_to_all() -> None:
    assert [masked.ratio(t, 100, 0.5) for t in (1, 26, 51, 100)] == [0.0, 0.5, 1.0, 1.0] and masked.ratio(1, 9, 0) == 1
    items = [sample(list(range(20)), 1)] * 3
    batches = [masked.collate(items, MaskedDiffusion(286, shifted=True), (0, 1), share) for share in (0.0, 0.3, 1.0)]
    assert mx.array_equal(batches[0].tokens, batches[2].tokens)  # what is masked is the same
    none, some, every = (batch.mask for batch in batches)
    assert none is not None and none.also is not None and not bool(mx.any(none.also))
    assert some is not None and some.causal and some.also is not None
    assert 0.2 < int(mx.sum(some.also)) / (3 * 20 * 20) < 0.4
    document = np.repeat(np.arange(3), 20)
    assert not np.array(some.also)[0][document[:, None] != document].any()
    assert every is not None and every.also is None and not every.causal


def sums(folder: Path) -> str:
    rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(4) for b in range(4)]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "sums.jsonl")


def test_what_is_written_is_the_model_that_was_trained_and_a_run_goes_on(tmp_path: Path) -> None:
    asked = {"model": str(base(tmp_path / "base")), "data": sums(tmp_path), "objective": "mdlm", "rate": 0.02,
             "anneal": 0.5, "eval_every": 0, "save_every": 2, "steps": 4}  # fmt: skip

    def opened(out: str, resume: bool = False, **more: Any) -> Tuning:
        return open_run(configure({**asked, "out": str(tmp_path / out), **more}), resume=resume)

    def canvas(model: Any) -> np.ndarray:
        ids = np.array([5, 6, model.config.diffusion.mask, 9])
        return ModelDenoiser(model).logits(ids, np.arange(4))[:, :-1]

    for kind, parameters in (("lora", {}), ("full", {"rate": 0.002})):
        whole = opened(kind, kind=kind, **parameters)
        before = canvas(whole.run.model)
        *_, end = trainer.train(whole.run)
        assert isinstance(end, trainer.Ended) and end.reason == "done"
        now, written = canvas(whole.run.model), load(str(tmp_path / kind))
        assert np.abs(now - before).max() > 0.01
        np.testing.assert_allclose(canvas(written.model), now, atol=2e-4)
        assert written.tokenizer.encode("1+1") == whole.checkpoint.tokenizer.encode("1+1")
    next(event for event in trainer.train(opened("halves").run) if isinstance(event, trainer.Saved))
    gone_on = opened("halves", resume=True)
    assert gone_on.run.counters.step == 2
    list(trainer.train(gone_on.run))
    halves, whole_ = (load(str(tmp_path / name)).model.arrays for name in ("halves", "lora"))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert mx.array_equal(halves[name], whole_[name])


def test_a_diffusion_model_learns_from_answers_and_what_cannot_be_is_refused(tmp_path: Path) -> None:
    folder = tiny.random_folder(tmp_path / "m", CONFIG)
    asked = {"model": str(folder), "data": sums(tmp_path), "out": str(tmp_path / "a"), "steps": 6, "rate": 0.01}
    opened = open_run(configure({**asked, "objective": "mdlm", "eval_every": 3}))
    found = [e.loss for e in trainer.train(opened.run) if isinstance(e, trainer.Validated)]
    assert len(found) == 2 and found[1] < found[0] and (tmp_path / "a" / "adapters.safetensors").exists()
    assert probes.moved(opened.run) is None  # there is no next token whose law could have moved
    asked["out"] = str(tmp_path / "b")
    one = Set([sample([5, 6, 7])])
    for call, error, line in (
        (lambda: open_run(configure(asked)), ParameterError, "it learns by objective mdlm, got sft"),
        (lambda: open_run(configure({**asked, "objective": "mdlm", "anneal": 0.5})), ParameterError,
         "m sees both ways already"),
        (lambda: prepare(made(block_size=4), Config(objective="mdlm"), one, tmp_path), ParameterError,
         "of blocks of 4, it learns by objective block, got mdlm"),
        (lambda: models.configure({**CONFIG, "block_size": -1}), ConfigError, "block_size must be 1 or more, got -1"),
    ):  # fmt: skip
        with pytest.raises(error, match=line):
            call()
