"""Looks inside a model: each is exact, or causal, or says what it is not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.decode.session import Session
from likely.engine.inside import heads, saved
from likely.engine.inside.activations import replaced
from likely.engine.inside.attribution import attribution
from likely.engine.inside.embeddings import EmbeddingTable
from likely.engine.inside.layer import layer_pass
from likely.engine.inside.lens import lens, states
from likely.engine.inside.patching import PARTS, PromptPair, ablate, pair, patch
from likely.engine.inside.sink import without_first
from likely.engine.inside.subject import InspectedText, subject
from likely.metal import mx
from likely.models.tap import TappedPass
from tests.engine import tiny
from tests.engine.inside import built
from tests.fakes import FakeCheckpoint, MarkovModel, certain_table
from tests.models.oracle import ours, reference, tokens
from tests.models.test_families import LONGROPE, PHI, SAME, V
from tests.support.everyday import everyday

LOOKED_AT = ["llama", "llama sliding", "gemma 2", "gemma 3", "gpt-2", "gpt-neox", "olmo 2", "granite", "qwen3 moe"]
Q4 = SAME["llama"] | {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}


def model_of(name: str) -> Any:
    if name == "quantised":
        return ours(Q4, reference(Q4, quantization={"group_size": 32, "bits": 4}))
    if name == "phi 3 longrope":  # long frequencies from its 17th token on
        config = PHI | {"model_type": "phi3", "partial_rotary_factor": 0.5, "max_position_embeddings": 64}
        config |= {"original_max_position_embeddings": 16}
        return ours(config | {"rope_scaling": LONGROPE | {"type": "longrope"}}, reference(config))
    return ours(SAME[name], reference(SAME[name]))


def look_at(name: str, t: int = 23) -> InspectedText:
    return InspectedText(model_of(name), tuple(tokens(1, t, V)[0].tolist()))


@pytest.mark.parametrize("name", [*LOOKED_AT, "quantised"])
def test_the_last_row_of_the_lens_is_the_model(name: str) -> None:
    seen = look_at(name)
    logits = np.array(seen.model(mx.array([seen.ids]))[0])
    hidden = states(seen)
    assert np.max(np.abs(np.array(seen.model.lens(hidden[-1])[0]) - logits)) < 1e-4
    found = lens(seen)
    assert len(found.top) == seen.model.config.layers + 1
    p = np.exp(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    assert np.array_equal(found.top[-1], logits.argmax(-1)) and np.allclose(found.p[-1], p.max(-1), atol=1e-5)
    assert np.all(found.kl[-1] == 0) and np.all(found.rank[-1] == 1)
    said = [*seen.ids[1:], logits[-1].argmax()]
    for kl, rank, next_rank, h in zip(found.kl, found.rank, found.said, hidden, strict=True):
        q = np.array(seen.model.lens(h)[0], np.float64)
        q -= np.log(np.exp(q).sum(-1, keepdims=True))
        assert np.allclose(kl, (p * (np.log(p) - q)).sum(-1), atol=1e-4)
        for ranks, ids in ((rank, p.argmax(-1)), (next_rank, said)):
            assert np.array_equal(ranks, 1 + (q > q[np.arange(23), ids][:, None]).sum(-1))


@pytest.mark.parametrize("name", [*LOOKED_AT, "quantised"])
def test_attribution_is_complete(name: str) -> None:
    seen = look_at(name)
    logits = np.array(seen.model(mx.array([seen.ids]))[0, -1])
    found = attribution(seen)
    assert found.token == logits.argmax() and abs(found.logit - logits.max()) < 1e-4
    assert abs(found.sum - found.logit) < 1e-4
    assert np.allclose(found.attention, found.heads.sum(1))
    foil = attribution(seen, against=7)
    assert abs(foil.logit - (logits.max() - logits[7])) < 1e-4 and abs(foil.sum - foil.logit) < 1e-4
    assert np.abs(found.heads).max() > 1e-3


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_layer_taken_apart_adds_up(name: str) -> None:
    seen, layer = look_at(name), 2
    found, hidden = layer_pass(seen, layer), [np.array(h[0, -1], np.float64) for h in states(seen)]
    weights = heads.pattern(seen, layer)[:, -1]
    assert found.head == weights[:, 1:-1].max(axis=1).argmax() and found.target == lens(seen).top[-1, -1]
    assert np.allclose(found.weights, weights[found.head], atol=1e-6)
    in_sight = np.isfinite(found.scores)
    products = found.scale * (found.keys.astype(np.float64) @ found.query)
    if name != "gemma 2":  # whose scores are capped
        assert np.allclose(found.scores[in_sight], products[in_sight], atol=1e-5)
    assert np.allclose(found.mixed, weights[found.head].astype(np.float64) @ found.values, atol=1e-6)
    assert np.allclose(found.states[[0, 1, 3, 4]], [hidden[i] for i in (0, layer, layer + 1, -1)], atol=1e-5)
    assert np.allclose(found.states[2], hidden[layer] + found.attention, atol=1e-5)
    assert np.allclose(hidden[layer + 1], hidden[layer] + found.attention + found.mlp, atol=1e-5)
    without = layer_pass(seen, layer, found.head, found.target, silent=True)
    silenced = replaced(seen, {f"layers.{layer}.heads": lambda z: z * (np.arange(z.shape[1]) != found.head)[:, None]})
    for each, at in ((found, np.array(seen.model.lens(mx.array(found.states[None])))[0]), (without, silenced[None])):
        logp = at[-1].astype(np.float64) - np.log(np.exp(at[-1].astype(np.float64)).sum())
        assert abs(each.logp[-1] - logp[found.target]) < 1e-4
        assert each.rank[-1] == 1 + (logp > logp[found.target]).sum()
    assert not without.mixed.any() and not np.allclose(without.attention, found.attention)


@pytest.mark.parametrize("name", ["llama", "gpt-2"])
def test_ablation_changes_the_logit_by_what_attribution_says(name: str) -> None:
    """Where nothing follows the head but a zero MLP, and the norm's scale cannot move (its epsilon drowns the rest)."""
    eps = {"rms_norm_eps": 1e6} if name == "llama" else {"layer_norm_epsilon": 1e6}
    config = SAME[name] | eps
    model = ours(config, reference(config))
    last = model.config.layers - 1
    part = next(p for p in model.parts() if p.role == "down" and p.layer == last)
    model.put(part, mx.zeros_like(part.matrix), None if part.bias is None else mx.zeros_like(part.bias))
    part = next(p for p in model.parts() if p.role == "norm")  # the logits are of a size again
    model.put(part, part.matrix * 1e3)
    seen = InspectedText(model, tuple(tokens(1, 17, V)[0].tolist()))
    found = attribution(seen)
    effects = [ablate(seen, last, head).effect for head in range(model.config.heads)]
    assert np.abs(effects).max() > 1e-5
    assert np.allclose(effects, -found.heads[last], rtol=1e-2, atol=1e-6)


def test_ablation_is_the_model_with_columns_of_its_product_at_zero() -> None:
    seen = look_at("llama")
    model = seen.model
    before = model(mx.array([seen.ids]))[0, -1]
    found, other = ablate(seen, 1, 2), ablate(seen, 1, 2, token=7)
    part = next(p for p in model.parts() if p.role == "o" and p.layer == 1)
    size = model.config.head_size
    mask = mx.arange(part.width) // size == 2
    model.put(part, mx.where(mask[None], 0, part.matrix))
    after = model(mx.array([seen.ids]))[0, -1]
    assert found.token == int(mx.argmax(before)) and abs(found.logit - float(mx.max(before))) < 1e-4
    assert abs(found.effect - float(after[found.token] - before[found.token])) < 1e-4
    assert other.token == 7 and abs(other.effect - float(after[7] - before[7])) < 1e-4
    with pytest.raises(ParameterError, match=r"no head 9\.0: this model has layers 0 to 3 and heads 0 to 5"):
        ablate(seen, 9, 0)


@pytest.mark.parametrize("name", LOOKED_AT)
def test_attention_rows_sum_to_one_and_give_what_the_kernel_gives(name: str) -> None:
    """The output of each head, by the kernel without a report, is these weights times the values."""
    seen = look_at(name)
    kept: dict[str, mx.array] = {}
    TappedPass(seen.model, mx.array([seen.ids])).run(lambda at, x: kept.setdefault(at, x))
    for layer, block in enumerate(seen.model.blocks):
        weights = heads.pattern(seen, layer)
        assert np.max(np.abs(weights.sum(-1) - 1)) < 1e-5 and np.all(np.triu(weights, 1) == 0)
        below = kept["embedding" if layer == 0 else f"layers.{layer - 1}.residual"]
        y = block.qkv(below if block.attn_norm is None else block.attn_norm(below))
        values = np.array(y[0, :, block.rotated * block.size :]).reshape(23, block.kv_heads, block.size)
        values = np.repeat(values, block.heads // block.kv_heads, axis=1)
        want = np.einsum("hqk,khd->qhd", weights, values)
        assert np.max(np.abs(np.array(kept[f"layers.{layer}.heads"][0]) - want)) < 1e-4


@pytest.mark.parametrize("name", ["llama", "llama sliding", "gemma 2", "gpt-2", "llama dynamic"])
def test_a_window_of_rows_is_the_end_of_the_whole(name: str) -> None:
    t = 150 if name == "llama sliding" else 23
    whole = look_at(name, t)
    part = InspectedText(whole.model, whole.ids, t - 9)
    assert part.positions == range(t - 9, t)
    for layer in range(whole.model.config.layers):
        a, b = heads.pattern(whole, layer), heads.pattern(part, layer)
        assert b.shape == (whole.model.config.heads, 9, t) and np.allclose(a[:, -9:], b, atol=1e-5)
    assert np.allclose(heads.entropies(whole)[..., -9:], heads.entropies(part), atol=1e-4)
    x, y = lens(whole), lens(part)
    assert np.array_equal(x.top[:, -9:], y.top) and np.allclose(x.kl[:, -9:], y.kl, atol=1e-4) and y.start == t - 9


def test_a_model_built_to_induce_scores_one() -> None:
    model = built.induction()
    found = heads.kinds(model, bos=[0], length=11, vocabulary=range(1, built.V))
    assert found.previous[0, 0] == pytest.approx(1, abs=1e-4) and found.kind(0, 0) == "previous"
    assert found.induction[1, 0] == pytest.approx(1, abs=1e-4) and found.kind(1, 0) == "induction"
    assert found.distance[0, 0] == pytest.approx(1, abs=1e-3)
    assert found.induction[0, 0] < 0.05 and found.previous[1, 0] < 0.5 and found.duplicate[1, 0] < 0.05


def test_scores_by_their_definition() -> None:
    seen = InspectedText(model_of("llama"), (5, 9, 5, 7, 9, 5, 5))
    found = heads.score(seen)
    ids = seen.ids
    for layer in (0, 3):
        for head, w in enumerate(heads.pattern(seen, layer)):
            same = [[j for j in range(i) if ids[j] == ids[i]] for i in range(7)]
            repeats = [i for i in range(7) if same[i]]
            assert found.previous[layer, head] == pytest.approx(np.mean([w[i, i - 1] for i in range(1, 7)]), abs=1e-5)
            assert found.first[layer, head] == pytest.approx(w[1:, 0].mean(), abs=1e-5)
            duplicate = np.mean([sum(w[i, j] for j in same[i]) for i in repeats])
            induction = np.mean([sum(w[i, j + 1] for j in same[i]) for i in repeats])
            assert found.duplicate[layer, head] == pytest.approx(duplicate, abs=1e-5)
            assert found.induction[layer, head] == pytest.approx(induction, abs=1e-5)
            far = np.mean([sum(w[i, j] * (i - j) for j in range(i)) for i in range(1, 7)])
            assert found.distance[layer, head] == pytest.approx(far, abs=1e-4)
    with pytest.raises(ParameterError, match="two tokens or more"):
        heads.score(InspectedText(seen.model, (5,)))


def test_rollout_and_sinks() -> None:
    a = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    want = [[1, 0, 0], [0.4375, 0.5625, 0], [0.2125, 0.225, 0.5625]]
    assert np.allclose(heads.rollout([a, a]), want)
    assert np.allclose(without_first(a), [[0, 0, 0], [0, 1, 0], [0, 0.375, 0.625]])


def brute(texts: PromptPair, part: str) -> np.ndarray:
    """Every patch as a pass of its own."""
    kept: dict[str, mx.array] = {}
    TappedPass(texts.model, mx.array([texts.clean])).run(lambda at, x: kept.setdefault(at, x))
    columns = texts.model.config.heads if part == "heads" else len(texts.clean)
    table = np.zeros((len(texts.model.blocks), columns))
    for layer in range(table.shape[0]):
        for i in range(table.shape[1]):
            name = f"layers.{layer}.{part}"

            def tap(at: str, x: mx.array, name: str = name, i: int = i) -> mx.array:
                cut = (slice(None),) * (2 if part == "heads" else 1)
                given = [x[(*cut, slice(i))], kept[at][(*cut, slice(i, i + 1))], x[(*cut, slice(i + 1, None))]]
                return mx.concatenate(given, axis=len(cut)) if at == name else x

            x = TappedPass(texts.model, mx.array([texts.corrupted])).run(tap)
            logits = texts.model.lens(x[:, -1])[0]
            table[layer, i] = float(logits[texts.answer] - logits[texts.foil])
    return table


PATCHED = ["llama", "llama sliding", "gemma 2", "gpt-2", "gpt-neox", "olmo 2", "quantised"]


@pytest.mark.parametrize(("name", "part"), everyday(((name, part) for name in PATCHED for part in PARTS), 3))
def test_patching_is_what_single_passes_give(name: str, part: str) -> None:
    clean = look_at(name, 14)
    other = list(clean.ids)
    other[3], other[6] = (other[3] + 1) % V, (other[6] + 1) % V
    texts = pair(clean, InspectedText(clean.model, tuple(other)), answer=11, foil=12)
    found = patch(texts, part)
    moved = found.clean - found.corrupted  # logits, of which effects are shares: it may be small
    assert np.max(np.abs(found.effects * moved - (brute(texts, part) - found.corrupted))) < 1e-4
    assert found.estimates is not None and found.estimates.shape == found.effects.shape
    if part != "heads":
        assert np.all(found.effects[:, :3] == 0) and np.allclose(found.estimates[:, :3], 0)  # before they differ


def test_the_estimate_is_exact_where_the_model_is_linear() -> None:
    """After the last layer only the norm is left, whose scale is held by its epsilon."""
    config = SAME["llama"] | {"rms_norm_eps": 1e6}
    model = ours(config, reference(config))
    clean = tuple(tokens(1, 8, V)[0].tolist())
    texts = pair(
        InspectedText(model, clean), InspectedText(model, (*clean[:-1], (clean[-1] + 1) % V)), answer=11, foil=12
    )
    found = patch(texts)
    assert found.estimates is not None and found.correlation is not None
    assert np.allclose(found.effects[-1], found.estimates[-1], atol=1e-3) and found.correlation > 0.99


def test_patching_recovers_a_planted_circuit() -> None:
    """What followed the token last time goes from its place, after layer 0, to the end, in layer 1."""
    model = built.induction()
    clean, corrupted = (0, 3, 7, 5, 2, 7), (0, 3, 7, 6, 2, 7)
    found = patch(pair(InspectedText(model, clean), InspectedText(model, corrupted)))
    assert (found.answer, found.foil) == (5, 6)
    want = np.zeros((2, 6))
    want[0, 3] = want[1, 5] = 1
    assert np.allclose(found.effects, want, atol=1e-3)
    by_head = patch(pair(InspectedText(model, clean), InspectedText(model, corrupted)), "heads")
    assert np.allclose(by_head.effects, [[0], [1]], atol=1e-3)  # what says the answer is the head of layer 1


def test_texts_that_cannot_be_compared() -> None:
    a = look_at("llama", 9)
    with pytest.raises(ParameterError, match="as many tokens, got 9 and 8"):
        pair(a, InspectedText(a.model, a.ids[:-1]))
    with pytest.raises(ParameterError, match="both texts are answered by token 4"):
        pair(a, InspectedText(a.model, (*a.ids[:-1], (a.ids[-1] + 1) % V)), answer=4, foil=4)
    with pytest.raises(ParameterError, match="residual, attention, mlp, heads, got head"):
        patch(pair(a, InspectedText(a.model, (*a.ids[:-1], (a.ids[-1] + 1) % V)), answer=4, foil=5), "head")


@pytest.mark.parametrize("name", ["llama", "quantised", "llama wide heads"])
@pytest.mark.parametrize("centred", [False, True])
def test_neighbours_by_their_definition(name: str, centred: bool) -> None:
    model = model_of(name)
    table = EmbeddingTable(model)
    rows = np.array(model.embed(mx.arange(V)), np.float64)
    rows -= rows.mean(0) if centred else 0
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = units @ units[17]
    order = [i for i in np.argsort(-cosines) if i != 17][:10]
    found = table.neighbours(17, centred=centred)
    assert [near.id for near in found] == order
    assert np.allclose([near.cosine for near in found], cosines[order], atol=1e-4)
    assert np.allclose(table.norms(centred=centred), np.linalg.norm(rows, axis=1), atol=1e-4)
    total = units[3] - units[4] + units[5]
    cosines = units @ total / np.linalg.norm(total)
    found = table.sum_neighbours([3, 5], [4], 4, centred=centred)
    assert [near.id for near in found] == [i for i in np.argsort(-cosines) if i not in (3, 4, 5)][:4]
    assert table.sum_neighbours([3], inputs=True, centred=centred)[0].id == 3
    with pytest.raises(ParameterError, match=f"0 to {V - 1}"):
        table.neighbours(V)


def test_activations_in_a_file(tmp_path: Path) -> None:
    seen = look_at("llama")
    names = saved.save(tmp_path / "a.safetensors", seen, ["layers.1.*", "logits", "embedding"], "tiny")
    found, metadata = mx.load(str(tmp_path / "a.safetensors"), return_metadata=True)
    assert sorted(found) == sorted(names) and json.loads(metadata["ids"]) == list(seen.ids)
    assert found["embedding"].shape == (23, 48) and found["layers.1.heads"].shape == (23, 6, 8)
    assert np.allclose(np.array(found["layers.1.pattern"]), heads.pattern(seen, 1), atol=1e-6)
    assert np.allclose(np.array(found["logits"]), np.array(seen.model(mx.array([seen.ids]))[0]), atol=1e-4)
    with pytest.raises(ParameterError, match=r"nothing is called layers\.9\.mlp"):
        saved.save(tmp_path / "b.safetensors", seen, ["layers.9.mlp"])
    with pytest.raises(ParameterError, match=r"saved as \.safetensors"):
        saved.save(tmp_path / "b.npz", seen, ["logits"])


def test_what_cannot_be_looked_into() -> None:
    markov = Session(FakeCheckpoint(MarkovModel(certain_table(b"abc"), context=8)))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="fake runs as MarkovModel, whose layers and heads cannot be seen"):
        subject(markov, [1, 2])
    with pytest.raises(ParameterError, match="the text is empty"):
        subject(markov, [])
    with pytest.raises(ContextOverflow, match="9 tokens and this model reads at most 8"):
        subject(markov, [1] * 9)


def test_no_more_rows_are_looked_at_than_memory_allows() -> None:
    config = tiny.LLAMA | {"max_position_embeddings": 600, "num_hidden_layers": 1}
    model = models.build(config, {name: mx.array(array) for name, array in tiny.weights(config).items()})
    session = Session(FakeCheckpoint(model))  # type: ignore[arg-type]
    for count, first in ((600, 88), (512, 0), (3, 0), (513, 1)):
        found = subject(session, range(count))
        assert found.first == first and found.positions == range(first, count) and found.ids == tuple(range(count))
    assert subject(session, range(9), rows=4).first == 5
