"""The Llama family against mlx-lm on the same random weights."""

import pytest

from likely.metal import mx
from tests.models.oracle import difference, pair, tokens

TINY = {
    "model_type": "llama",
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "intermediate_size": 80,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 97,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize("b", [1, 3])
def test_logits_equal_mlx_lm(b: int) -> None:
    theirs, model = pair(TINY)
    x = tokens(b, 17, 97)
    assert difference(model(x), theirs(x)) < 1e-5


def test_cached_is_uncached() -> None:
    _, model = pair(TINY)
    x = tokens(3, 17, 97)
    cache = model.make_cache()
    parts = [model(x[:, :9], cache), *(model(x[:, i : i + 1], cache) for i in range(9, 17))]
    assert cache.length == 17
    assert difference(mx.concatenate(parts, axis=1), model(x)) < 1e-5
