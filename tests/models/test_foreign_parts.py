"""mlx-lm's class behind our protocol, with things of our own in its place: what is told apart, described and kept."""

from typing import Any

import pytest

from metal import mx
from models import foreign
from models.errors import CacheError, ConfigError
from models.foreign import ForeignCache, ForeignModel, known


class Body:
    """The body of a model: 2 x as hidden states."""

    def __init__(self, gain: float = 2.0) -> None:
        self.gain = gain
        self.embed_tokens = Table()

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        return self.gain * tokens.astype(mx.float32)[..., None] * mx.ones((3,))


class Table:
    def as_linear(self, x: mx.array) -> mx.array:
        return x * 10


class Model:
    """A model of a body and a head; `whole` stands for what it does between them."""

    def __init__(self, head: Any = None, whole: float = 1.0) -> None:
        self.model, self.whole = Body(), whole
        if head is not None:
            self.lm_head = head

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        head: Any = getattr(self, "lm_head", self.model.embed_tokens.as_linear)
        return head(self.model(tokens)) * self.whole  # type: ignore[no-any-return]

    def parameters(self) -> dict[str, Any]:
        return {"a": [{"weight": mx.ones((2,), mx.float16)}, (mx.ones((1,)),)], "scales": mx.ones((1,)), "n": 3}


class Outer:
    def __init__(self, inner: Model) -> None:
        self.language_model = inner

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        return self.language_model(tokens)


def test_a_head_is_told_apart_where_one_after_the_other_gives_the_whole() -> None:
    tied, own = Model(), Model(lambda x: x + 1)
    assert foreign._split(tied, 9) == (tied.model, tied.model.embed_tokens.as_linear)
    assert foreign._split(own, 9) == (own.model, own.lm_head)
    assert foreign._split(Outer(own), 9) == (own.model, own.lm_head)
    for other in (Model(whole=2.0), Model(3)):  # what stands between them, and a head that cannot be called
        assert foreign._split(other, 9) == (other, foreign._same)
    x = mx.ones((2,))
    assert foreign._same(x) is x

    class Fails(Model):
        def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
            raise ValueError

    fails = Fails()
    assert foreign._split(fails, 9) == (fails, foreign._same)


def test_tokens_that_are_tried_are_of_the_vocabulary() -> None:
    seen: list[list[int]] = []

    class Noted(Model):
        def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
            seen.append(tokens.tolist()[0])
            return super().__call__(tokens)

    foreign._split(Noted(), 9)
    foreign._split(Noted(), 3)
    assert seen == [[0, 1, 2, 3], [0, 1, 2, 0]]


def test_a_configuration_is_described_as_far_as_all_have_one() -> None:
    least = foreign._describe({"model_type": "x"})
    assert (least.family, least.vocab_size, least.width, least.layers, least.heads, least.kv_heads) == (
        "x",
        1,
        1,
        1,
        1,
        1,
    )
    assert (least.head_size, least.mlp_width, least.context, least.eps, least.scale) == (1, 4, 2048, 1e-5, 1.0)
    assert (least.windows, least.ropes, least.tied) == ((0,), (None,), False)
    said = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 5, "intermediate_size": 7, "max_position_embeddings": 99,
            "tie_word_embeddings": True}  # fmt: skip
    full = foreign._describe({"model_type": "x"} | said)
    assert (full.vocab_size, full.width, full.layers, full.heads, full.kv_heads) == (50, 24, 3, 4, 2)
    assert (full.head_size, full.mlp_width, full.context, full.tied) == (5, 7, 99, True)
    assert full.windows == (0, 0, 0) and full.ropes == (None,) * 3
    other = foreign._describe({"model_type": "x", "n_layer": 2, "n_head": 3, "n_embd": 12, "n_positions": 8})
    assert (other.layers, other.heads, other.kv_heads, other.width) == (2, 3, 3, 12)
    assert (other.head_size, other.mlp_width, other.context) == (4, 48, 8)
    last = foreign._describe({"model_type": "x", "n_layers": 2, "d_model": 9, "max_sequence_length": 7, "n_embd": None})
    assert (last.layers, last.width, last.context) == (2, 9, 7)
    assert foreign._describe({"model_type": "x", "seq_length": 6}).context == 6


def test_arrays_are_named_by_their_paths() -> None:
    assert [*foreign._flat(Model().parameters())] == ["a.0.weight", "a.1.0", "scales"]
    one = mx.ones((1,))
    assert foreign._flat(one, "x") == {"x": one} and foreign._flat(3) == {}


def made(**config: Any) -> ForeignModel:
    return ForeignModel({"model_type": "x", "vocab_size": 9} | config, Model())


def test_its_text_s_configuration_wins_and_its_numbers_are_of_what_is_not_packed() -> None:
    assert made(text_config={"vocab_size": 5}).config.vocab_size == 5 and made(text_config=None).config.vocab_size == 9
    net = made()
    assert net.dtype == mx.float16 and net(mx.array([[1, 2]])).tolist() == [[[20.0] * 3, [40.0] * 3]]
    assert net.hidden(mx.array([[1]])).tolist() == [[[2.0] * 3]] and not net.crosses(ForeignCache([], "x"), 9)
    net.model.parameters = lambda: {"a.scales": mx.ones((1,), mx.float16), "n": mx.ones((1,), mx.int32)}
    assert net.dtype == mx.float32
    for act in (lambda: net.inspect(mx.array([[1]])), lambda: net.lens(mx.ones((1,)))):
        with pytest.raises(ConfigError, match="the inside of a x cannot be seen"):
            act()
    with pytest.raises(CacheError, match="a x takes no mask"):
        net.hidden(mx.array([[1]]), mask=foreign.Mask())
    with pytest.raises(CacheError, match="needs the cache that its own make_cache gives"):
        net.hidden(mx.array([[1]]), foreign.Cache([]))


class Layer:
    """A cache of mlx-lm's: a number of rows, that can be trimmed or not."""

    def __init__(self, trims: bool, rows: int = 0) -> None:
        self.trims, self.rows = trims, rows
        self.state = {"k": mx.zeros((4,)), "v": [mx.zeros((2,))]}

    def is_trimmable(self) -> bool:
        return self.trims

    def trim(self, n: int) -> None:
        self.rows -= n


def test_what_can_be_trimmed_goes_back_and_a_state_by_one_token() -> None:
    both = [Layer(True, 5), Layer(False, 5)]
    cache = ForeignCache(list(both), "x", 5)
    assert (cache.length, cache.each, cache.joins, cache.room, cache.nbytes) == (5, None, False, 0, 2 * 24)
    cache.begin(1)
    for layer in cache.inner:
        layer.rows += 1
    assert (cache.length, cache.room) == (6, 1)
    twin = cache.fork()
    assert (twin.length, twin.room) == (6, 1) and twin.inner[1] is not cache.inner[1]
    cache.rewind(0)
    assert cache.room == 1
    cache.rewind(1)
    assert cache.length == 5 and [layer.rows for layer in cache.inner] == [5, 5] and cache.room == 0
    with pytest.raises(CacheError, match="cannot go back 1 positions: the cache of a x allows 0"):
        cache.rewind(1)
    twin.rewind(1)
    assert [layer.rows for layer in twin.inner] == [5, 5]
    twin.begin(2)
    assert twin.room == 0 and twin.length == 7
    plain = ForeignCache([Layer(True, 5)], "x", 5)
    assert plain.room == 5
    plain.rewind(3)
    assert plain.inner[0].rows == 2 and plain.length == 2
    for n in (-1, 3):
        with pytest.raises(CacheError, match=f"cannot go back {n} positions: .* allows 2"):
            plain.rewind(n)
    for act, line in (
        (lambda: plain.rewind([1]), "cannot go back by themselves"), (lambda: plain.select([0]), "cannot be chosen"),
        (lambda: plain.freeze(), "cannot be shared"), (lambda: plain.needs(1, None, 1), "is not known beforehand"),
    ):  # fmt: skip
        with pytest.raises(CacheError, match=line):
            act()


@pytest.mark.parametrize("name", ["bits", "group_size", "window", "sinks"])
def test_kinds_of_cache_that_mlx_lm_has_not_are_refused(name: str) -> None:
    with pytest.raises(CacheError, match=f"^{name} is not there for a x: it runs by mlx-lm's class and cache$"):
        made().make_cache(**{name: 4})


def test_only_names_are_looked_for_in_mlx_lm() -> None:
    assert known({"model_type": "llama"}) and known({"model_type": "mistral"})
    for name in ("../llama", "no_such_model", 3, None, ""):
        assert not known({"model_type": name})
