"""Two ranks of one model as two threads: what they exchange, and that together they are the whole model."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.metal import mx
from likely.models.modules.linear import Embedding, Linear, RMSNorm
from likely.models.parallel.exchange import ForwardedNorm, GatheredHead, RankSum, ReceivedStates, connect
from likely.models.parallel.shard import share
from tests.models.oracle import difference, flat, reference, tokens
from tests.models.shared import taken
from tests.models.test_families import SAME


class Ring:
    """What stands for `mx.distributed`: each collective of one rank meets the same one of the others."""

    def __init__(self, ranks: int) -> None:
        self.ranks, self.barrier = ranks, threading.Barrier(ranks)
        self.given: dict[int, np.ndarray] = {}
        self.sent: dict[tuple[int, int], list[np.ndarray]] = {}
        self.there = threading.Condition()
        self.log: list[str] = []

    def give_up(self) -> None:
        """Let nobody wait for a rank that has failed."""
        self.barrier.abort()
        with self.there:
            self.there.notify_all()

    def met(self, x: mx.array, rank: int) -> list[np.ndarray]:
        self.given[rank] = np.array(x)
        self.barrier.wait()
        found = [self.given[i] for i in range(self.ranks)]
        self.barrier.wait()
        return found

    def all_sum(self, x: mx.array, *, group: "Rank") -> mx.array:
        self.log.append(f"{group.number} sum")
        return mx.array(sum(self.met(x, group.number)))

    def all_gather(self, x: mx.array, *, group: "Rank") -> mx.array:
        self.log.append(f"{group.number} gather")
        return mx.array(np.concatenate(self.met(x, group.number)))

    def send(self, x: mx.array, to: int, *, group: "Rank") -> mx.array:
        self.log.append(f"{group.number} send {to}")
        with self.there:
            self.sent.setdefault((group.number, to), []).append(np.array(x))
            self.there.notify_all()
        return x

    def recv(self, shape: Sequence[int], dtype: mx.Dtype, source: int, *, group: "Rank") -> mx.array:
        self.log.append(f"{group.number} receive {source}")
        key = source, group.number
        with self.there:
            assert self.there.wait_for(lambda: self.sent.get(key) or self.barrier.broken)
            found = self.sent[key].pop(0)
        assert found.shape == tuple(shape)
        return mx.array(found).astype(dtype)


class Rank:
    def __init__(self, number: int) -> None:
        self.number = number


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Ring]]:
    def made(ranks: int) -> Ring:
        found = Ring(ranks)
        for name in ("all_sum", "all_gather", "send", "recv"):
            monkeypatch.setattr(f"mlx.core.distributed.{name}", getattr(found, name))
        return found

    yield made


def together(ring: Ring, work: Callable[[Rank], Any]) -> list[Any]:
    """What each rank's thread gives."""
    ranks = ring.ranks
    found: list[Any] = [None] * ranks
    failed: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            with mx.stream(mx.new_stream(mx.cpu)):
                found[rank] = work(Rank(rank))
        except BaseException as error:
            failed.append(error)
            ring.give_up()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found


@pytest.mark.parametrize("way", ["tensor", "pipeline"])
@pytest.mark.parametrize("name", ["llama", "llama biased", "qwen3 moe plain", "gpt-2"])
def test_two_ranks_are_the_whole_model(name: str, way: str, ring: Callable[[int], Ring]) -> None:
    config = SAME[name]
    mx.random.seed(0)
    weights = flat(reference(config).parameters())
    whole = models.build(config, dict(weights))
    x = tokens(2, 7, config["vocab_size"])
    cache = whole.make_cache()
    want = np.array(mx.concatenate([whole(x[:, :5], cache), whole(x[:, 5:], cache)], axis=1))
    arrays = {key: np.array(value) for key, value in weights.items()}
    made = ring(2)

    def work(rank: Rank) -> np.ndarray:
        own = {key: mx.array(value) for key, value in arrays.items()}
        part = share(config, own, way, rank.number, 2)
        model = connect(models.build(config, taken(part, own), share=part), part, rank)
        held, read = model.make_cache(), mx.array(np.array(x))
        return np.array(mx.concatenate([model(read[:, :5], held), model(read[:, 5:], held)], axis=1))

    one, two = together(made, work)
    assert np.array_equal(one, two) and difference(mx.array(one), mx.array(want)) < 1e-5


def test_three_ranks_share_layers_and_words_unevenly(ring: Callable[[int], Ring]) -> None:
    """4 layers as 1, 1 and 2, and 101 words as 33, 34 and 34; each rank hears of every state in its turn."""
    config = SAME["llama"]
    weights = flat(reference(config).parameters())
    x = tokens(1, 3, 101)
    want = models.build(config, dict(weights))(x)
    mx.eval(want, x)  # here: a thread has streams of its own
    arrays = {key: np.array(value) for key, value in weights.items()}
    made = ring(3)

    def work(rank: Rank) -> np.ndarray:
        own = {key: mx.array(value) for key, value in arrays.items()}
        part = share(config, own, "pipeline", rank.number, 3)
        return np.array(connect(models.build(config, taken(part, own), share=part), part, rank)(mx.array(np.array(x))))

    found = together(made, work)
    assert all(np.array_equal(one, found[0]) for one in found) and difference(mx.array(found[0]), want) < 1e-5
    each = [[line[2:] for line in made.log if line[0] == str(rank)] for rank in range(3)]
    assert each == [
        ["send 1", "sum", "gather"],
        ["receive 0", "send 2", "sum", "gather"],
        ["receive 1", "sum", "gather"],
    ]


def test_a_bias_of_what_is_summed_counts_once(ring: Callable[[int], Ring]) -> None:
    config = SAME["llama biased"]
    weights = {key: np.array(value) for key, value in flat(reference(config).parameters()).items()}

    def biases(rank: int) -> list[bool]:
        own = {key: mx.array(value) for key, value in weights.items()}
        part = share(config, own, "tensor", rank, 2)
        model = connect(models.build(config, taken(part, own), share=part), part, Rank(rank))
        block = model.blocks[0]
        assert isinstance(block.out, RankSum) and isinstance(block.mlp.down, RankSum)  # type: ignore[union-attr]
        return [layer.base.bias is not None for layer in (block.out, block.mlp.down)]  # type: ignore[union-attr]

    assert biases(0) == [True, True] and biases(1) == [False, False]


class Noted:
    """An exchange that notes what it is asked for, and adds a rank of ones."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def sum(self, x: mx.array) -> mx.array:
        self.asked.append(("sum", x.tolist()))
        return x + 1

    def gather(self, x: mx.array) -> mx.array:
        self.asked.append(("gather", x.shape))
        return mx.stack([x, mx.ones_like(x)])

    def send(self, x: mx.array, rank: int) -> None:
        self.asked.append(("send", x.tolist(), rank))

    def receive(self, shape: Sequence[int], dtype: mx.Dtype, rank: int) -> mx.array:
        self.asked.append(("receive", tuple(shape), dtype, rank))
        return mx.full(shape, 7.0, dtype)


@pytest.mark.parametrize(
    ("sizes", "want"), [([3, 3], [0, 0, 0, 1, 1, 1]), ([2, 3], [0, 0, 1, 1, 1]), ([3, 2], [0, 0, 0, 1, 1])]
)
def test_logits_of_all_ranks_stand_in_their_order(sizes: list[int], want: list[float]) -> None:
    exchange: Any = Noted()
    head = GatheredHead(Linear(mx.zeros((sizes[0], 4))), sizes, exchange)
    for shape in ((4,), (5, 4), (2, 5, 4)):
        got = head(mx.ones(shape))
        assert got.shape == (*shape[:-1], sum(sizes)) and got.reshape(-1, sum(sizes))[-1].tolist() == want
        assert exchange.asked[-1] == ("gather", (*shape[:-1], 3))


def test_hidden_states_come_from_the_rank_before_and_go_to_the_one_behind() -> None:
    exchange: Any = Noted()
    received = ReceivedStates(6, mx.float16, 2, exchange)
    got = received(mx.zeros((3, 5), dtype=mx.int32))
    assert got.shape == (3, 5, 6) and exchange.asked == [("receive", (3, 5, 6), mx.float16, 2)]
    assert isinstance(received, Embedding) and received.dtype == mx.float16 and received.matrix.shape == (0, 6)
    norm = RMSNorm(mx.ones((2,)), 0.0)
    exchange.asked.clear()
    x = mx.array([[3.0, -1.0]])
    assert np.allclose(np.array(ForwardedNorm(norm, None, exchange)(x)), np.array([[4, 0]]) / np.sqrt(8))
    assert exchange.asked == [("sum", [[3, -1]])]
    exchange.asked.clear()
    assert np.allclose(np.array(ForwardedNorm(norm, 1, exchange)(x)), [[1, 1]])
    assert exchange.asked == [("send", [[3, -1]], 1), ("sum", [[0, 0]])]
