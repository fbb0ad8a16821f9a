"""Attention heads: what each reads at each position, and what kind of head that makes it.

A layer's weights are computed again from its scores, in one pass that keeps no more than one layer's at a time. Scores
of kind are mean attention, 0 to 1: to the token before, to the same token earlier (duplicate), to what followed that
(induction, Olsson et al. 2022), to the first token. Attention shows what is read, not what it causes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.inside.questions import HeadScores
from likely.engine.inside.subject import InspectedText
from likely.metal import mx
from likely.metal.attention import Emit
from likely.models.transformer import Transformer

RANDOM, TEXTS = 30, 4  # tokens that are repeated, and texts of them


def entropies(subject: InspectedText) -> np.ndarray:
    """The entropy of every head's attention at each position, nats, float32 [layers, H, N]."""
    tapped, rows = subject.open(), []
    for index in range(len(subject.model.blocks)):
        report = tapped.layer(index, emit=Emit(entropy=True))
        assert report is not None
        rows.append(report.entropy)
    mx.eval(rows)
    return np.stack([np.array(x[0]) for x in rows])  # type: ignore[index]


def pattern(subject: InspectedText, layer: int, hidden: Sequence[mx.array] = ()) -> np.ndarray:
    """The attention of one layer's heads, float32 [H, N, T]: row i sums to 1 over the positions that it reads.

    The layers above are not run, nor those below where their `states` are given as `hidden`. ParameterError where there
    is no such layer.
    """
    check(subject.model, layer)
    return next(_patterns(subject, range(layer, layer + 1), hidden))


def check(model: Transformer, layer: int, head: int = 0) -> None:
    """ParameterError where the model has no such layer and head."""
    layers, heads = len(model.blocks), model.config.heads
    if not (0 <= layer < layers and 0 <= head < heads):
        raise ParameterError(
            f"no head {layer}.{head}: this model has layers 0 to {layers - 1} and heads 0 to {heads - 1}"
        )


def _patterns(subject: InspectedText, layers: range, hidden: Sequence[mx.array] = ()) -> Iterator[np.ndarray]:
    """The weights [H, N, T] of these layers, one after another."""
    tapped, t = subject.open(), len(subject.ids)
    if hidden:
        tapped.x = hidden[layers.start]
    for index in range(layers.start if hidden else 0, layers.stop):
        if index not in layers:
            tapped.layer(index)
            continue
        report = tapped.layer(index, emit=Emit(lse=True, scores=True))
        assert report is not None and report.scores is not None and report.lse is not None
        weights = mx.exp(report.scores[0].astype(mx.float32) - report.lse[0, ..., None])
        mx.eval(weights, tapped.x)
        cache = tapped.caches[index]
        gone = 0 if cache is None else cache.gone  # what a layer that slides has let go of, no position here sees
        yield np.pad(np.array(weights[..., : t - gone]), ((0, 0), (0, 0), (gone, 0)))


def score(subject: InspectedText) -> HeadScores:
    """Scores of all heads over the positions that are looked at, position 0 left out.

    A text that repeats nothing has no duplicates: those scores are NaN. ParameterError for a text of one token.
    """
    if len(subject.ids) < 2:
        raise ParameterError("heads are told apart by what they read: give a text of two tokens or more")
    ids, at = np.array(subject.ids), np.arange(len(subject.ids))
    places = at[max(1, subject.first) :]
    earlier = at[None] < places[:, None]
    same = ((ids[places][:, None] == ids[None]) & earlier).astype(np.float32)  # [N, T]: j is what stands at i, earlier
    after = np.pad(same[:, :-1], ((0, 0), (1, 0)))
    back = (places[:, None] - at[None]).astype(np.float32)
    repeats = same.any(axis=1)
    by_kind: dict[str, list[np.ndarray]] = {field.name: [] for field in fields(HeadScores)}
    for weights in _patterns(subject, range(len(subject.model.blocks))):
        w = weights[:, -len(places) :]
        by_kind["previous"].append(_mean(w[:, np.arange(len(places)), places - 1]))
        by_kind["first"].append(_mean(w[..., 0]))
        by_kind["duplicate"].append(_mean(np.einsum("hnt,nt->hn", w, same)[:, repeats]))
        by_kind["induction"].append(_mean(np.einsum("hnt,nt->hn", w, after)[:, repeats]))
        by_kind["distance"].append(_mean(np.einsum("hnt,nt->hn", w, back * earlier)))
        by_kind["entropy"].append(_mean(-np.einsum("hnt,hnt->hn", w, np.log(np.where(w > 0, w, 1)))))
    return HeadScores(**{name: np.array(rows, np.float32) for name, rows in by_kind.items()})


def _mean(x: np.ndarray) -> np.ndarray:
    """Over positions [H, N] -> [H]; NaN where there are none."""
    return np.asarray(x.mean(axis=1)) if x.shape[1] else np.full(x.shape[0], np.nan)


def kinds(
    model: Transformer,
    *,
    bos: Sequence[int] = (),
    length: int = RANDOM,
    texts: int = TEXTS,
    seed: int = 0,
    vocabulary: Sequence[int] | None = None,
) -> HeadScores:
    """Scores on random tokens that come twice, where nothing but the repetition can be known: the mean of `texts`.

    `bos` stands before them; `vocabulary` are the ids that are drawn from, all if left out. Only the second time counts
    for duplicate and induction, all positions for the rest.
    """
    random = np.random.default_rng(seed)
    ids = np.arange(model.config.vocab_size) if vocabulary is None else np.array(vocabulary)
    samples = []
    for _ in range(texts):
        drawn = [int(i) for i in random.choice(ids, length, replace=len(ids) < length)]
        samples.append(score(InspectedText(model, (*bos, *drawn, *drawn))))
    mean = {f.name: np.mean([getattr(scores, f.name) for scores in samples], axis=0) for f in fields(HeadScores)}
    return HeadScores(**mean)


def rolled_out(subject: InspectedText) -> np.ndarray:
    """The rollout of all layers' mean heads over a text, [T, T]; ParameterError where its beginning is not seen."""
    if subject.first:
        raise ParameterError(
            f"rollout goes from the first token to the last, and {len(subject.ids)} are too many to be seen together: "
            f"the last {len(subject.positions)} are; shorten the text"
        )
    return rollout(weights.mean(axis=0) for weights in _patterns(subject, range(len(subject.model.blocks))))


def rollout(patterns: Iterable[np.ndarray]) -> np.ndarray:
    """Attention rollout of layers' mean heads [T, T], from the first layer up: the product of (A + I) / 2
    (arXiv:2005.00928), whose rows sum to 1."""
    total: np.ndarray | None = None
    for weights in patterns:
        step = (weights + np.eye(len(weights))) / 2
        total = step if total is None else step @ total
    if total is None:
        raise ParameterError("there is no attention to follow: give the patterns of a layer or more")
    return total
