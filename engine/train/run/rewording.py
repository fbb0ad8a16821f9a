"""Rewording of a run's questions: the words that are near each of theirs in the table of the model as it was.

Near is by the cosine of embeddings, less what all words have in common. Knows nothing of what is done with a row.
"""

from collections.abc import Sequence

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.train.data.paraphrases import WORD, Rewording, frame_of, function_words
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.run import rehearsal
from likely.engine.train.run.probes import as_before
from likely.engine.train.run.run import TrainingRun
from likely.engine.weights.adapters.sites import trainable
from likely.metal import mx
from likely.models import Transformer

NEAR, SHARP = 5, 0.1  # words that may stand for another, and the cosine that makes one of them e times as likely
AT_ONCE = 4096  # rows of the table


def check(run: TrainingRun) -> None:
    """ParameterError for a run without a tokenizer, and for one none of whose rows asks a question in words."""
    if run.session is None:
        raise ParameterError("reword needs a tokenizer: give the run a session")
    found = frame_of(run.session.tokenizer)
    if not any(can for item in run.rows.train if isinstance(item, TrainingSample) for _, can in found.words(item)):
        raise ParameterError(
            "reword is of rows with one question and one answer, and of words that the answer does not repeat; there "
            "is none here: leave it out"
        )


def begin(run: TrainingRun) -> Rewording:
    """The rewording of a run, by the table of the model as it was."""
    check(run)
    assert run.session is not None
    tokenizer = run.session.tokenizer
    found = frame_of(tokenizer)
    asked = {word[0] for item in run.rows.train if isinstance(item, TrainingSample)
             for word, can in found.words(item) if can and len(word) == 1}  # fmt: skip
    spelled = {t: found.text([t]) for t in range(run.model.config.vocab_size)}
    every = [t for t, text in spelled.items() if WORD.fullmatch(text)]
    tokens = sorted(asked)
    base, around = as_before(run)
    with around():
        alike = cosines(trainable(base.model), tokens, every)
    near = {}
    for token, row in zip(tokens, alike, strict=True):
        others = [
            (float(row[i]), every[i])
            for i in np.argsort(-row, kind="stable")[: 8 * NEAR]
            if spelled[every[i]].strip().lower() != spelled[token].strip().lower()
            and spelled[every[i]].startswith(" ") == spelled[token].startswith(" ")
        ][:NEAR]
        if others:
            p = np.exp((np.array([alike for alike, _ in others]) - others[0][0]) / SHARP)
            near[token] = tuple(t for _, t in others), tuple((p / p.sum()).tolist())
    rows = [item for item in run.rows.train if isinstance(item, TrainingSample) and any(found.words(item))]
    return Rewording(found, run.config.reword, run.config.seed, near, function_words(rehearsal.QUESTIONS), rows)


def cosines(model: Transformer, tokens: Sequence[int], others: Sequence[int]) -> np.ndarray:
    """The cosine between the embeddings of tokens and of others, less what all of these have in common [n, m]."""

    def rows(some: Sequence[int]) -> np.ndarray:
        return np.asarray(model.embed(mx.array(list(some), mx.int32)).astype(mx.float32))

    parts = [others[i : i + AT_ONCE] for i in range(0, len(others), AT_ONCE)]
    mean = sum(rows(part).sum(0) for part in parts) / max(1, len(others))
    ours = rows(tokens) - mean
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    found = []
    for part in parts:
        theirs = rows(part) - mean
        found.append(ours @ (theirs / np.maximum(np.linalg.norm(theirs, axis=1, keepdims=True), 1e-12)).T)
    return np.concatenate(found, 1)
