"""Features of texts by a model."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.errors import DataError
from likely.engine.evaluate.features import pooled
from likely.metal import mx
from tests.engine.evaluate.test_likelihood import tiny
from tests.fakes import ByteTokenizer


def test_the_mean_of_the_last_hidden_states_over_a_texts_tokens() -> None:
    model, tokenizer = tiny(), ByteTokenizer()
    given: Any = SimpleNamespace(model=model, tokenizer=tokenizer, context=16)
    texts = ["a cat", "the dog", "x" * 30]
    for row, text in zip(pooled(given, texts), texts, strict=True):
        hidden = np.array(model.hidden(mx.array([tokenizer.encode(text, bos=True)[:16]]))[0])
        assert row == pytest.approx(hidden.mean(axis=0), abs=1e-5)
    given.tokenizer = SimpleNamespace(encode=lambda text, bos: [])
    with pytest.raises(DataError, match="text 1 has no token"):
        pooled(given, ["?"])
