"""Log-probabilities of many texts, against one pass over each alone, a float64 sum, and a table whose law is known."""

from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.measure.evaluate.scoring.likelihood import Likelihood, Reader, Request, loglikelihoods, windows
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import VOCAB, MarkovModel, random_table


def tiny(**changes: Any) -> Any:
    config = LLAMA | {"vocab_size": VOCAB} | changes
    return models.build(config, {name: mx.array(w) for name, w in weights(config).items()})


def alone(model: Any, text: tuple[int, ...], start: int) -> np.ndarray:
    """One pass over one text, the sum over the vocabulary in float64."""
    logits = np.array(model(mx.array([text[:-1]])).astype(mx.float32), np.float64)[0]
    logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return logprobs[np.arange(start - 1, len(text) - 1), text[start:]]


def requests(seed: int, shots: int, n: int) -> list[Request]:
    """Questions of several lengths after the same examples, each with choices of several lengths."""
    random = np.random.default_rng(seed)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(random.integers(0, 250, random.integers(low, high)).tolist())

    examples, found = some(shots, shots + 1), []
    for _ in range(n):
        context = examples + some(1, 20)
        texts = tuple(context + some(1, 7) for _ in range(random.integers(1, 5)))
        found.append(Request(texts, (len(context),) * len(texts)))
    return found


@pytest.mark.parametrize("shots", [1, 40])
def test_every_text_is_worth_what_it_is_alone(shots: int) -> None:
    model, asked = tiny(), requests(shots, shots, 30)
    asked.append(Request((*asked[0].texts, (*asked[0].texts[0], 3, 4)), (*asked[0].starts, asked[0].starts[0])))
    asked.append(Request(((5, 6, 7, 8), (9, 6, 7)), (1, 1)))  # these begin with nothing in common
    found = list(loglikelihoods(model, asked))
    assert len(found) == len(asked)
    for request, got in zip(asked, found, strict=True):
        for text, start, likelihood_ in zip(request.texts, request.starts, got, strict=True):
            assert np.abs(likelihood_.tokens - alone(model, text, start)).max() < 2e-5
            assert likelihood_.total == pytest.approx(likelihood_.tokens.sum())


@pytest.mark.parametrize("family", ["gemma3_text", "qwen3"])
def test_other_families_and_their_caches(family: str) -> None:
    changes = {"model_type": family}
    if family == "gemma3_text":
        changes |= {"sliding_window": 8, "sliding_window_pattern": 2, "rope_local_base_freq": 1e4}
        changes |= {"query_pre_attn_scalar": 16, "tie_word_embeddings": True}
    model = tiny(**changes)
    asked = requests(5, 40, 12)
    for request, got in zip(asked, loglikelihoods(model, asked), strict=True):
        for text, start, likelihood_ in zip(request.texts, request.starts, got, strict=True):
            assert np.abs(likelihood_.tokens - alone(model, text, start)).max() < 2e-5


def test_a_large_vocabulary_is_summed_as_in_float64() -> None:
    """mlx's own float32 sum over 49,152 logits on a CPU is 1e-4 off."""
    table = np.random.default_rng(0).normal(0, 1, (8, 49_152)).astype(np.float32)
    model = MarkovModel(table)
    text = (0, 1, 2, 3, 4, 5, 6, 7, 40_000)
    ((got,),) = loglikelihoods(model, [Request((text,), (1,))])  # type: ignore[arg-type]
    exact = table.astype(np.float64) - np.logaddexp.reduce(table.astype(np.float64), axis=-1, keepdims=True)
    assert np.abs(got.tokens - exact[list(text[:-1]), list(text[1:])]).max() < 2e-6


@pytest.mark.slow
def test_memory_depends_neither_on_tokens_times_vocabulary_nor_on_items() -> None:
    """The most that mlx holds, over the table: less than half of the logits of one text, for one such text or three."""
    table = np.random.default_rng(0).normal(0, 1, (8, 49_152)).astype(np.float32)
    model = MarkovModel(table)
    text = tuple(np.random.default_rng(1).integers(0, 8, 401).tolist())

    def peak(count: int) -> int:
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        for _ in loglikelihoods(model, (Request((text[i:],), (1,)) for i in range(count))):  # type: ignore[arg-type]
            pass
        return mx.get_peak_memory() - before

    one, several = peak(1), peak(3)
    assert one < 0.5 * 400 * table.shape[1] * 4
    assert several < 1.1 * one


def test_whether_a_text_is_the_most_likely_one() -> None:
    table = random_table(1)
    best = table.argmax(-1)
    text = [7]
    for _ in range(5):
        text.append(int(best[text[-1]]))
    other = [*text[:-1], (text[-1] + 1) % VOCAB]
    ((yes, no),) = loglikelihoods(MarkovModel(table), [Request((tuple(text), tuple(other)), (1, 1))])  # type: ignore
    assert yes.greedy and not no.greedy


def test_windows_are_those_of_the_harness() -> None:
    """The example of its documentation: ten tokens, windows of four, and without a prefix token."""

    def shown(found: list[Request]) -> list[tuple[list[int], list[int]]]:
        return [(list(r.texts[0][:-1]), list(r.texts[0][r.starts[0] :])) for r in found]

    assert shown(list(windows(range(10), 4, 99))) == [
        ([99, 0, 1, 2], [0, 1, 2, 3]), ([3, 4, 5, 6], [4, 5, 6, 7]), ([5, 6, 7, 8], [8, 9]),
    ]  # fmt: skip
    assert shown(list(windows(range(10), 4, 99, 2))) == [  # its context_len of 3
        ([99, 0, 1, 2], [0, 1, 2, 3]),
        ([1, 2, 3, 4], [4, 5]),
        ([3, 4, 5, 6], [6, 7]),
        ([5, 6, 7, 8], [8, 9]),
    ]
    plain = shown(list(windows(range(10), 4, None)))
    assert [token for _, scored in plain for token in scored] == list(range(1, 10))
    assert all(len(read) <= 4 for read, _ in plain)
    assert shown(list(windows([5], 4, None))) == [] and shown(list(windows([5], 4, 1))) == [([1], [5])]
    for n in range(1, 30):
        for length, stride in ((2, 0), (3, 1), (7, 7), (7, 3)):
            scored = [t for _, part in shown(list(windows(range(n), length, 99, stride))) for t in part]
            assert scored == list(range(n))


def test_what_cannot_be_scored() -> None:
    model = tiny()
    with pytest.raises(ContextOverflow, match="a text has 130 tokens and this model reads at most 128"):
        list(loglikelihoods(model, [Request((tuple(range(130)),), (1,))]))
    with pytest.raises(ParameterError, match="from its second on"):
        list(loglikelihoods(model, [Request(((1, 2),), (0,))]))
    with pytest.raises(ParameterError, match="window"):
        list(windows([1, 2], 1, None))
    with pytest.raises(ParameterError, match="a window of 4 tokens moves on by 1 to 4 of them, got 5"):
        list(windows([1, 2], 4, None, 5))


def beside(*texts: str, start: int = 1) -> Request:
    return Request(tuple(tuple(text.encode()) for text in texts), (start,) * len(texts))


def test_a_reader_keeps_what_it_has_read_for_those_that_come_next() -> None:
    model: Any = MarkovModel(random_table(0))
    reader = Reader(model, rows=3)
    shared = "q" * 40
    first = list(reader.read([beside(f"{shared}{c}x", start=41) for c in "abcd"]))
    once = model.read
    assert once < 40 + 4 * 3 and sorted(number for number, _ in first) == [0, 1, 2, 3]
    again = dict(reader.read([beside(f"{shared}{c}y", start=41) for c in "efgh"]))
    assert model.read - once < 4 * 3 and set(again) == {0, 1, 2, 3}
    assert Likelihood(np.array([-1.0, -2.5]), True).total == -3.5
    with pytest.raises(ParameterError, match="from its second on"):
        list(reader.read([Request(((1, 2), (1, 2)), (1, 0))]))
