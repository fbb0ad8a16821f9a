"""Architectures that mlx-lm's own classes run, behind our protocol."""

from typing import Any

import pytest
from mlx_lm.models.cache import make_prompt_cache

import likely.models as models
from likely.metal import mx
from likely.metal.attention import Emit, Mask
from likely.models.errors import CacheError, ConfigError
from likely.models.foreign import ForeignModel
from tests.models.oracle import difference, flat, reference, tokens

V = 64
SMALL = {
    "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
STABLELM = SMALL | {
    "model_type": "stablelm",
    "rope_theta": 10000.0,
    "use_qkv_bias": False,
    "partial_rotary_factor": 0.25,
    "layer_norm_eps": 1e-5,
}
SEED = SMALL | {"model_type": "seed_oss", "head_dim": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e4}
COHERE = SMALL | {"model_type": "cohere", "num_key_value_heads": 4, "logit_scale": 0.5, "layer_norm_bias": False}
MAMBA = {
    "model_type": "mamba", "vocab_size": V, "hidden_size": 32, "intermediate_size": 64, "state_size": 8,
    "num_hidden_layers": 2, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4,
}  # fmt: skip

FALCON = SMALL | {
    "model_type": "falcon_h1", "attention_bias": False, "head_dim": 8, "hidden_act": "silu", "mamba_chunk_size": 8,
    "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_head": 8, "mamba_d_ssm": 32, "mamba_d_state": 8,
    "mamba_expand": 1, "mamba_n_groups": 1, "mamba_n_heads": 4, "mamba_norm_before_gate": False,
    "mamba_proj_bias": False, "mamba_rms_norm": False, "mamba_use_mlp": True, "mlp_bias": False,
    "projectors_bias": False, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "rope_traditional": False, "rope_scaling": None,
}  # fmt: skip
GEMMA3N = {
    "model_type": "gemma3n",
    "text_config": SMALL | {
        "model_type": "gemma3n_text", "num_hidden_layers": 4, "head_dim": 8, "rms_norm_eps": 1e-6, "laurel_rank": 4,
        "num_kv_shared_layers": 2, "vocab_size_per_layer_input": V, "hidden_size_per_layer_input": 8,
        "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2, "rope_theta": 1e6,
        "rope_local_base_freq": 1e4, "final_logit_softcapping": 30.0, "activation_sparsity_pattern": [0.0] * 4,
        "altup_num_inputs": 2, "altup_coef_clip": 120.0, "altup_correct_scale": True, "altup_active_idx": 0,
    },
}  # fmt: skip
BIGCODE = {"model_type": "gpt_bigcode", "vocab_size": V, "n_embd": 32, "n_layer": 2, "n_inner": 64, "n_head": 4,
           "n_positions": 96, "layer_norm_epsilon": 1e-5}  # fmt: skip


def build(config: dict[str, Any]) -> tuple[Any, ForeignModel]:
    theirs = reference(config)
    return theirs, ForeignModel(config, theirs)


@pytest.mark.parametrize("config", [STABLELM, SEED, COHERE, MAMBA, BIGCODE], ids=lambda c: str(c["model_type"]))
def test_the_same_protocol(config: dict[str, Any]) -> None:
    theirs, model = build(config)
    x = tokens(1, 12, V)
    want = theirs(x)
    assert difference(model(x), want) < 1e-5
    cache = model.make_cache()
    parts = [model.head(model.hidden(x[:, a:b], cache)) for a, b in ((0, 7), (7, 8), (8, 12))]
    assert difference(mx.concatenate(parts, axis=1), want) < 1e-4
    assert cache.length == 12 and cache.nbytes > 0
    assert {name: a.shape for name, a in model.arrays.items()} == {
        n: a.shape for n, a in flat(theirs.parameters()).items()
    }


def test_what_an_architecture_says_of_itself_is_read_under_any_of_the_usual_names() -> None:
    for config in (STABLELM, BIGCODE, STABLELM | {"vocab_size": 9, "text_config": {"vocab_size": V}}):
        found = ForeignModel(config, reference(config | {"vocab_size": V})).config
        assert (found.vocab_size, found.layers, found.heads, found.width, found.head_size) == (V, 2, 4, 32, 8)
    assert build(STABLELM)[1].config.context == 128 and build(BIGCODE)[1].config.context == 96
    assert build(STABLELM)[1].config.kv_heads == 2 and build(BIGCODE)[1].config.kv_heads == 4


def test_its_head_is_told_apart_where_that_is_right() -> None:
    assert build(SEED)[1].hidden(tokens(1, 3, V)).shape == (1, 3, 32)
    assert build(COHERE)[1].hidden(tokens(1, 3, V)).shape == (1, 3, V)  # its logits are scaled after the head


def test_fork_and_rewind() -> None:
    _, model = build(STABLELM)
    x = tokens(1, 12, V)
    cache = model.make_cache()
    model(x[:, :8], cache)
    twin = cache.fork()
    model(x[:, :4], twin)
    cache.rewind(3)
    assert (cache.length, twin.length) == (5, 12)
    assert difference(model(x[:, 5:], cache), model(x)[:, 5:]) < 1e-4
    with pytest.raises(CacheError, match="cannot go back 13 positions: the cache of a stablelm allows 12"):
        twin.rewind(13)


WINDOWED = SMALL | {
    "model_type": "exaone4",
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "rope_scaling": None,
    "sliding_window": 8,
    "sliding_window_pattern": "LG",
    "tie_word_embeddings": True,
}


def test_a_window_that_has_just_filled_goes_back() -> None:
    _, model = build(WINDOWED)
    x = tokens(1, 9, V)
    cache = model.make_cache()
    model(x[:, :7], cache)
    for i in (7, 7, 7):
        got = model(x[:, i : i + 1], cache)
        cache.rewind(1)
    assert difference(got, model(x)[:, 7:8]) < 1e-4


@pytest.mark.parametrize("config", [MAMBA, WINDOWED, FALCON], ids=lambda c: str(c["model_type"]))
def test_one_token_can_be_taken_back_where_there_is_a_state(config: dict[str, Any]) -> None:
    """A state has no rows to trim; but a step that was queued ahead of a stop has to be undone, behind a prompt too."""
    _, model = build(config)
    x, other = tokens(1, 14, V), tokens(1, 1, V, seed=4)
    cache = model.make_cache()
    want = model(x)
    model(x[:, :11], cache)
    assert cache.room == 0
    model(other, cache)
    cache.rewind(1)
    model(x[:, 11:12], cache)
    model(other, cache)
    twin = cache.fork()
    for c in (cache, twin):
        assert c.room == 1
        c.rewind(1)
        assert (c.room, c.length) == (0, 12)
        got = [model(x[:, i : i + 1], c) for i in (12, 13)]
        assert difference(mx.concatenate(got, axis=1), want[:, 12:]) < 1e-4


def test_a_window_is_held_once() -> None:
    """What goes back by a token is a row of it, 2 KB here where the window takes 1 MB."""
    _, model = build(WINDOWED | {"sliding_window": 512, "num_key_value_heads": 4, "head_dim": 64})
    cache, one = model.make_cache(), tokens(1, 1, V)
    mx.eval(model(tokens(1, 600, V), cache))
    for _ in range(3):
        mx.eval(model(one, cache))
    nbytes, held = cache.nbytes, mx.get_active_memory()
    assert nbytes > 1 << 20 and cache.room == 1
    del cache
    assert held - mx.get_active_memory() < 1.1 * nbytes


def test_without_a_cache_it_is_the_same_model() -> None:
    """mlx-lm's Gemma 3n is another one then: layers that share keys have their own."""
    theirs, model = build(GEMMA3N)
    x, cache = tokens(1, 12, V), make_prompt_cache(theirs)
    want = mx.concatenate([theirs(x[:, i : i + 1], cache=cache) for i in range(12)], axis=1)
    assert difference(model(x), want) < 1e-5


def test_what_it_cannot_give_says_so() -> None:
    _, model = build(MAMBA)
    x = tokens(1, 4, V)
    cache = model.make_cache()
    model(x, cache)
    assert cache.room == 0
    for refused, line in (
        (lambda: cache.rewind(1), "cannot go back 1 positions: the cache of a mamba allows 0"),
        (lambda: cache.rewind([1]), "cannot go back by themselves"),
        (lambda: cache.select([0, 0]), "cannot be chosen"),
        (cache.freeze, "cannot be shared"),
        (lambda: cache.needs(1, None, 1), "is not known beforehand"),
        *(
            (lambda o=o: model.make_cache(**{o: 4}), f"^{o} is not there")
            for o in ("bits", "group_size", "window", "sinks")
        ),
        (lambda: model(x, models.Cache([])), "needs the cache that its own make_cache gives"),
        (lambda: model.hidden(x, mask=Mask()), "takes no mask"),
    ):
        with pytest.raises(CacheError, match=line):
            refused()
    for seen in (lambda: model.inspect(x, emit=Emit(entropy=True)), lambda: model.lens(model.hidden(x))):
        with pytest.raises(ConfigError, match="the inside of a mamba cannot be seen"):
            seen()
