"""The report of a run before it begins: counts, seconds and bytes by hand for shapes that are small numbers."""

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from likely.engine.adapters.config import Config, configure
from likely.engine.errors import OutOfMemory
from likely.engine.tune import report
from likely.engine.tune.report import Memory, RunReport, examples, inside, products, refuse_if_too_large, seconds
from likely.engine.tune.samples import Pair, TrainingSample
from likely.models.layers import GPU

SHAPE: dict[str, Any] = {"width": 8, "head_size": 4, "heads": 4, "kv_heads": 2, "mlp_width": 12, "gated": True,
                         "experts": None, "layers": 5, "vocab_size": 50}  # fmt: skip
KEPT = 6 * 8 + 5 * (4 + 2 * 2) * 4 + 4 * 12  # floats a token
PRODUCTS = 8 * 4 * (2 * 4 + 2 * 2) + 3 * 8 * 12


def model(**changed: Any) -> Any:
    arrays = {"a": SimpleNamespace(nbytes=1000), "b": SimpleNamespace(nbytes=234)}
    return SimpleNamespace(config=SimpleNamespace(**SHAPE | changed), arrays=arrays)


def sample(length: int, targets: int) -> TrainingSample:
    trained = [False] + [i < targets for i in range(length - 1)]
    return TrainingSample(tuple(range(length)), tuple(trained), f"row:{length}")


ROWS = [sample(5, 3), sample(16, 10), sample(17, 4), sample(40, 1), sample(300, 200), sample(9000, 2)]


def run(config: Config, rows: Any = ROWS, planned: Any = ([0, 1], [2, 3], [4]), lowest: int = 2, **shape: Any) -> Any:
    parameters = {"x": SimpleNamespace(size=70), "y": SimpleNamespace(size=30)}
    return SimpleNamespace(
        rows=SimpleNamespace(train=rows), config=config, per_epoch=6, steps=9, planned=planned, model=model(**shape),
        trained=SimpleNamespace(parameters=lambda: parameters, lowest=lowest),
    )  # fmt: skip


SPEED = 2 * 768**3 / 0.5  # operations a second: a product of the machine's measurement takes half a second here


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose clock goes on by half a second whenever it is read."""
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks) / 2)


def scores(*lengths: int) -> int:
    """Floats that attention keeps for so long rows: none on a GPU, where it has a kernel."""
    return 0 if GPU else 2 * 4 * sum(n * n for n in lengths)


def test_a_token_is_multiplied_with_the_matrices_of_a_layer() -> None:
    assert products(model()) == PRODUCTS == 672
    assert products(model(gated=False)) == 384 + 2 * 96
    experts = SimpleNamespace(active=2, width=5)
    assert products(model(experts=experts)) == 384 + 3 * 8 * 10
    assert inside(model(), [3, 5]) == (KEPT, scores(3, 5)) and KEPT == 256
    assert inside(model(experts=experts), [1]) == (48 + 160 + 40, scores(1))


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, 5 + 3), ({"kind": "full"}, 5 + 2 * 3), ({"checkpointing": True}, 5 + 3 + 3), ({"kl": 0.1}, 5 + 3 + 5),
        ({"objective": "dpo"}, 5 + 3 + 5), ({"objective": "orpo"}, 5 + 3),
        ({"kind": "full", "checkpointing": True, "kl": 0.1}, 5 + 6 + 3 + 5),
    ],
)  # fmt: skip
def test_a_pass_takes_its_products_and_what_is_done_to_each_activation(options: dict[str, Any], passes: int) -> None:
    found = seconds(model(), configure(options), [3, 5], 6, 2)
    flops = 2 * 8 * 672 * passes + 2 * 6 * 50 * 8 * 2
    elementwise = 6 * 50 * 12e-9 + passes * (8 * 256 * 4e-9 + 2 * 4 * (9 + 25) / 2 * 12e-9)
    assert found == pytest.approx(flops / SPEED + (0 if GPU else elementwise), rel=1e-9)


def test_the_peak_is_that_of_the_largest_batch() -> None:
    config = configure({"batch": 2})
    found = report.memory(run(config, planned=([0, 1], [2, 3], [4])))
    layer = 300 * KEPT
    assert found == Memory(1234, 4 * 100 * (2 + 2 + 1), 4 * 3 * layer, 4 * (layer + 2 * 4 * 300**2))
    assert found.total == sum((found.base, found.trained, found.activations, found.head))
    first = report.memory(run(config, planned=([0, 1], [2, 3]), lowest=-1))  # lengths 17 and 40
    layer = 57 * KEPT
    assert first.activations == 4 * 5 * layer
    assert first.head == 4 * (layer + 8 * (17**2 + 40**2))
    lean = report.memory(run(configure({"checkpointing": True, "optimiser": "adafactor"}), planned=([0],)))
    assert lean.activations == 4 * (3 * 5 * 8 + 5 * KEPT) and lean.trained == 4 * 100 * 3
    for name, slots in (("adamw", 2), ("lion", 1), ("sgd", 1), ("muon", 1)):
        assert report.memory(run(configure({"optimiser": name}))).trained == 4 * 100 * (3 + slots)
    full = configure({"kind": "full"})
    assert report.memory(run(full, planned=([0],))).trained == 4 * 100 * 4
    assert report.memory(run(full, planned=([0],))).activations == 4 * 3 * 5 * (KEPT + 4 * 8)
    assert report.memory(run(replace(full, kl=0.1), planned=([0],))).trained == 4 * 100 * 5
    block = report.memory(run(configure({"objective": "block"}), planned=([0],)))
    assert block.activations == 4 * 3 * 10 * KEPT  # noised and as it is


@pytest.mark.parametrize(
    ("targets", "chunks", "rows"), [(3, 1, 3), (16, 1, 16), (17, 2, 16), (64, 4, 16), (200, 4, 16)]
)
def test_the_head_holds_as_many_chunks_as_are_queued(targets: int, chunks: int, rows: int) -> None:
    """Logits of a large vocabulary are made 16 rows at a time."""
    large = 1 << 20
    items = [sample(201, targets)]
    for kl, copies in ((0.0, 3), (0.5, 6)):
        found = report.memory(run(configure({"kl": kl}), items, ([0],), vocab_size=large))
        assert found.head == 4 * copies * chunks * rows * large


def test_the_report_counts_rows_lengths_and_passes() -> None:
    config = configure({"accumulate": 2})
    found = report.report(run(config))
    lengths = [5, 16, 17, 40, 300, 9000]
    assert (found.samples, found.tokens, found.trained, found.longest) == (6, sum(lengths), 220, 9000)
    assert found.available > 1 << 20
    assert found.histogram == ((16, 2), (32, 1), (64, 1), (512, 1), (1 << 30, 1))
    assert (found.batches, found.steps, found.parameters, found.available) == (6, 9, 100, found.available)
    once = seconds(model(), config, lengths, 220, 2)
    assert found.seconds == pytest.approx(9 * 2 / 6 * once) and found.memory == report.memory(run(config))
    edges = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
    items = [sample(n, 1) for edge in edges for n in (edge, edge + 1)]
    binned = report.report(run(config, items, ([0],))).histogram
    assert binned == ((16, 1), *((edge, 2) for edge in edges[1:]), (1 << 30, 1))
    below = report.report(run(config, lowest=-1))
    assert below.seconds == pytest.approx(3 * seconds(model(), config, lengths, 220, 0))
    block = configure({"objective": "block", "accumulate": 2})
    doubled = seconds(model(), block, [2 * n for n in lengths], 220, 2)
    assert report.report(run(block)).seconds == pytest.approx(3 * doubled)
    assert report.report(run(block)).tokens == sum(lengths)
    pairs = [Pair(sample(5, 2), sample(7, 3)), Pair(sample(4, 1), sample(4, 1))]
    of_pairs = report.report(run(configure({"objective": "dpo"}), pairs, ([0, 1],)))
    assert (of_pairs.samples, of_pairs.tokens, of_pairs.trained, of_pairs.longest) == (2, 20, 7, 7)
    assert examples(pairs, 1) == [pairs[0].chosen, pairs[0].rejected] and len(examples(pairs)) == 4
    assert examples(ROWS) == ROWS[:2] and examples(ROWS, 3) == ROWS[:3]


def needing(total: int, available: int, base: int = 0) -> RunReport:
    memory = Memory(base, total - base, 0, 0)
    return RunReport(1, 1, 1, (), 1, 1, 1, 1, 1.0, memory, available)


def test_what_is_too_large_is_refused_with_what_would_fit() -> None:
    config = configure({"batch": 4, "length": 512})
    refuse_if_too_large(needing(100, 100), config)
    refuse_if_too_large(needing(150, 100, base=50), config)
    with pytest.raises(OutOfMemory) as error:
        refuse_if_too_large(needing(8_000_000_000, 3_000_000_000), config)
    assert str(error.value) == (
        "a step needs about 8.0 GB beside the weights and 3.0 GB are free: try --checkpointing, or "
        "--batch 1 --accumulate 2, or --length 256"
    )
    with pytest.raises(OutOfMemory) as error:
        refuse_if_too_large(needing(151, 100, base=50), config, there=False)
    assert "0.0 GB and" in str(error.value) and "--batch 2 " in str(error.value)
    with pytest.raises(OutOfMemory):
        refuse_if_too_large(needing(101, 100), config, there=False)
    full = configure({"kind": "full", "batch": 1, "length": 128, "checkpointing": True, "accumulate": 3})
    with pytest.raises(OutOfMemory) as error:
        refuse_if_too_large(needing(100, 99), full, lighter="--light")
    assert str(error.value).endswith("try --light")
    with pytest.raises(OutOfMemory, match=r"--batch 3 --accumulate 6, or --context 64$"):
        refuse_if_too_large(needing(100, 99), replace(full, kind="lora", batch=4, length=129), length="--context")
