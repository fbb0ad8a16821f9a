"""Drawn tokenisations against all of them, enumerated."""

import math
from pathlib import Path

import numpy as np
import pytest

from likely.engine.decode.session import Session
from likely.engine.inside.tokenization import tokenisation
from likely.engine.measure.evaluate.evaluation import document
from likely.engine.measure.evaluate.scoring.likelihood import Likelihood, Request
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.scoring.token_paths import ROWS, PathSampler, figures
from tests.engine import tiny


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    from likely.engine.weights.sources.checkpoint import load

    folder: Path = tmp_path_factory.mktemp("model")
    return Session(load(str(tiny.random_folder(folder / "model"))))


def test_the_mean_weight_is_the_sum_over_all_ways(session: Session) -> None:
    """Within three standard errors, which are as wide as estimates from other seeds lie apart."""
    exact = tokenisation(session, "ababab", before="x", most=4096)
    assert exact.complete and exact.logprob - exact.own.logprob > 0.01
    x = session.tokenizer.encode("x")
    read = Request(((*x, *exact.own.ids),), (len(x),)), Likelihood(np.array([exact.own.logprob]), False)
    found = [PathSampler(session, 64, seed).marginal(0, [read]) for seed in range(8)]
    for nats, error in found:
        assert abs(nats + exact.logprob) < 4 * error
    errors, spread = [error for _, error in found], np.std([nats for nats, _ in found], ddof=1)
    assert 0.4 < spread / np.mean(errors) < 2
    few = [PathSampler(session, 16, seed).marginal(0, [read])[1] for seed in range(8)]
    assert np.mean(few) / np.mean(errors) == pytest.approx(2, rel=0.3)  # as many ways are drawn as were asked
    many = PathSampler(session, 4 * ROWS + 1, 1).marginal(0, [read])
    assert abs(many[0] + exact.logprob) < 4 * many[1]
    two = PathSampler(session, 64, 0).marginal(0, [read, read])
    assert two[0] == pytest.approx(-2 * exact.logprob, abs=4 * two[1]) and two[1] > found[0][1]


def test_a_document_s_ambiguity_is_in_bits_a_byte(session: Session) -> None:
    text = "abab abba " * 3
    (row,) = document(session, text, Protocol(prefix="0", window=64, paths=50))
    marginal, error = row.detail["marginal"]
    found = figures([(0, None, row.values["nats"], row.values["bytes"], (marginal, error))])
    bits = math.log(2) * len(text)
    assert found["ambiguity"].mean == pytest.approx((row.values["nats"] - marginal) / bits)
    assert found["ambiguity"].error == pytest.approx(error / bits) and found["bits_per_byte_marginal"].n == 1
    several = figures((i, None, 10.0 + i, 8.0, (9.0 + i / 2, 0.1)) for i in range(5))
    assert several["ambiguity"].mean == pytest.approx(sum(1 + i / 2 for i in range(5)) / 40 / math.log(2))
    assert 0 < several["ambiguity"].error < several["ambiguity"].mean
