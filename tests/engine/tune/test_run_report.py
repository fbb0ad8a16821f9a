"""The report of a run before it begins: counts, seconds and bytes by hand for shapes that are small numbers."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from likely.engine.base.errors import OutOfMemory
from likely.engine.base.machine.hardware import gflops
from likely.engine.train.assess import report
from likely.engine.train.assess.report import examples, inside, products, reading_s, refuse_if_too_large, seconds
from likely.engine.train.control import Memory
from likely.engine.train.data.samples import Pair, TrainingSample
from likely.engine.weights.adapters.config import Config, configure
from likely.models.modules.linear import GPU
from tests.support.trainer import plan

SHAPE: dict[str, Any] = {"width": 8, "head_size": 4, "heads": 4, "kv_heads": 2, "mlp_width": 12, "gated": True,
                         "experts": None, "layers": 5, "vocab_size": 50}  # fmt: skip
KEPT = 6 * 8 + 5 * (4 + 2 * 2) * 4 + 4 * 12  # floats a token
EXPERTS = SimpleNamespace(active=2, width=5)
SPEED = 2 * 768**3 / 0.5  # operations a second: a product of the machine's measurement takes half a second here


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One whose clock goes on by half a second whenever it is read, and of whose speed nothing is remembered."""
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks) / 2)
    monkeypatch.setattr("time.process_time", itertools.count(0, 1 << 40).__next__)  # of both the smaller counts
    gflops.cache_clear()
    yield
    gflops.cache_clear()


def model(**changed: Any) -> Any:
    arrays = {"a": SimpleNamespace(nbytes=1000), "b": SimpleNamespace(nbytes=234)}
    shape = SimpleNamespace(**SHAPE | changed)
    return SimpleNamespace(config=shape, arrays=arrays, packed=None, continues=lambda length, longer: True)


def sample(length: int, targets: int) -> TrainingSample:
    trained = [False] + [i < targets for i in range(length - 1)]
    return TrainingSample(tuple(range(length, 2 * length)), tuple(trained), f"row:{length}")


ROWS = [sample(5, 3), sample(16, 10), sample(17, 4), sample(40, 1), sample(300, 200), sample(9000, 2)]


def run(
    config: Config, rows: Any = ROWS, planned: Any = ([0, 1], [2, 3], [4], [5]), lowest: int = 2, **shape: Any
) -> Any:
    parameters = {"x": SimpleNamespace(size=70), "y": SimpleNamespace(size=30)}
    return SimpleNamespace(
        rows=SimpleNamespace(train=rows), config=config, per_epoch=6, steps=12, planned=planned, model=model(**shape),
        counters=SimpleNamespace(step=3), session=None,
        trained=SimpleNamespace(parameters=lambda: parameters, lowest=lowest),
    )  # fmt: skip


def scores(*lengths: int) -> int:
    """Floats that attention keeps for so long rows: none on a GPU, where it has a kernel."""
    return 0 if GPU else 2 * 4 * sum(n * n for n in lengths)


def test_a_token_is_multiplied_with_the_matrices_of_a_layer() -> None:
    attention = 8 * 4 * (2 * 4 + 2 * 2)
    for shape, mlp in (({}, 3 * 8 * 12), ({"gated": False}, 2 * 8 * 12), ({"experts": EXPERTS}, 3 * 8 * 10)):
        assert products(model(**shape)) == attention + mlp
    assert inside(model(), [3, 5]) == (KEPT, scores(3, 5))
    assert inside(model(experts=EXPERTS), [1]) == (KEPT - 4 * 12 + 4 * 10, scores(1))


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, 5 + 3), ({"kind": "full"}, 5 + 2 * 3), ({"checkpointing": True}, 5 + 3 + 3), ({"kl": 0.1}, 5 + 3 + 5),
        ({"objective": "dpo"}, 5 + 3 + 5), ({"objective": "orpo"}, 5 + 3),
        ({"kind": "full", "checkpointing": True, "kl": 0.1}, 5 + 6 + 3 + 5),
    ],
)  # fmt: skip
def test_a_pass_takes_its_products_and_what_is_done_to_each_activation(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], passes: int
) -> None:
    found = seconds(model(), configure(options), [3, 5], 6, 2)
    both = 2 if "kl" in options or options.get("objective") == "dpo" else 1  # models whose logits are asked for
    flops = 2 * 8 * 672 * passes + 2 * 6 * 50 * 8 * (1 + both)
    elementwise = both * 6 * 50 * 12e-9 + passes * (8 * KEPT * 4e-9 + 2 * 4 * (9 + 25) / 2 * 12e-9)
    assert found == pytest.approx(flops / SPEED + (0 if GPU else elementwise), rel=1e-9)
    forth = 6 * 50 * 12e-9 + 5 * (8 * KEPT * 4e-9 + 2 * 4 * (9 + 25) / 2 * 12e-9)
    flops = 2 * 8 * 672 * 5 + 2 * 6 * 50 * 8
    read = reading_s(model(), configure(options), [3, 5], 6)
    assert read == pytest.approx(flops / SPEED + (0 if GPU else forth), rel=1e-9)
    monkeypatch.setattr("time.perf_counter", itertools.count().__next__)  # a machine that others keep busy by now
    assert seconds(model(), configure(options), [3, 5], 6, 2) == found, "of two plans one is the longer for no reason"


def test_the_peak_is_that_of_the_largest_batch() -> None:
    def found(planned: Any = ([0],), lowest: int = 2, **options: Any) -> Memory:
        return report.memory(run(configure(options), planned=planned, lowest=lowest))

    layer = 300 * KEPT
    most = found(([0, 1], [2, 3], [4]), batch=2)
    assert most == Memory(1234, 4 * 100 * (2 + 2 + 1), 4 * 3 * layer, 4 * (layer + 2 * 4 * 300**2))
    assert most.total == sum((most.base, most.trained, most.activations, most.head))
    first, layer = found(([0, 1], [2, 3]), -1, batch=2), 57 * KEPT  # lengths 17 and 40
    assert (first.activations, first.head) == (4 * 5 * layer, 4 * (layer + 8 * (17**2 + 40**2)))
    assert found(checkpointing=True).activations == 4 * (3 * 5 * 8 + 5 * KEPT)
    assert found(kind="full").activations == 4 * 3 * 5 * (KEPT + 4 * 8)
    assert found(objective="block").activations == 4 * 3 * 10 * KEPT  # noised and as it is
    for options, slots in (
        ({"optimiser": "adamw"}, 5), ({"optimiser": "lion"}, 4), ({"optimiser": "sgd"}, 4), ({"optimiser": "muon"}, 4),
        ({"optimiser": "adafactor"}, 3), ({"kind": "full"}, 4), ({"kind": "full", "kl": 0.1}, 5),
    ):  # fmt: skip
        assert found(**options).trained == 4 * 100 * slots  # type: ignore[arg-type]
    large = 1 << 20
    for targets, queued in ((3, 3), (16, 16), (17, 32), (64, 64), (200, 64)):  # 16 rows at a time, four in flight
        for kl, copies in ((0.0, 3), (0.5, 6)):
            one = report.memory(run(configure({"kl": kl}), [sample(201, targets)], ([0],), vocab_size=large))
            assert one.head == 4 * copies * queued * large


def test_the_report_counts_rows_lengths_and_passes() -> None:
    config = configure({"accumulate": 2})
    found, lengths = report.report(run(config)), [5, 16, 17, 40, 300, 9000]
    assert (found.samples, found.tokens, found.trained, found.longest) == (6, sum(lengths), 220, 9000)
    assert found.histogram == ((16, 2), (32, 1), (64, 1), (512, 1), (1 << 30, 1))
    assert (found.batches, found.steps, found.parameters) == (6, 12, 100) and found.available > 1 << 20
    assert found.memory == report.memory(run(config))
    edges = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
    binned = report.report(run(config, [sample(n, 1) for edge in edges for n in (edge, edge + 1)], ([0],))).histogram
    assert binned == ((16, 1), *((edge, 2) for edge in edges[1:]), (1 << 30, 1))
    block = configure({"objective": "block", "accumulate": 2})
    for told, rows, lowest in ((config, lengths, 2), (config, lengths, -1), (block, [2 * n for n in lengths], 2)):
        wanted = 9 * 2 / 6 * seconds(model(), told, rows, 220, max(lowest, 0))
        assert report.report(run(told, lowest=lowest)).seconds == pytest.approx(wanted)
    alike = [
        TrainingSample((*range(20), *(i * n for i in range(1, n))), (*(False,) * (n + 18), True), "") for n in (5, 9)
    ]
    once = report.report(run(config, alike, ([0, 1],))).seconds
    assert once == pytest.approx(9 * 2 / 6 * seconds(model(), config, [20, 4, 8], 2, 2)), "their beginning is read once"
    pairs = [Pair(sample(5, 2), sample(7, 3)), Pair(sample(4, 1), sample(4, 1))]
    of_pairs = report.report(run(configure({"objective": "dpo"}), pairs, ([0, 1],)))
    assert (of_pairs.samples, of_pairs.tokens, of_pairs.trained, of_pairs.longest) == (2, 20, 7, 7)
    assert examples(pairs, 1) == [pairs[0].chosen, pairs[0].rejected] and examples(ROWS) == ROWS[:2]


def test_what_is_too_large_is_refused_with_what_would_fit() -> None:
    config = configure({"batch": 4, "length": 512})
    full = configure({"kind": "full", "batch": 1, "length": 128, "checkpointing": True, "accumulate": 3})
    lora = replace(full, kind="lora", batch=4, length=129)

    def refused(total: int, available: int, of: Config = config, base: int = 0, **more: Any) -> str:
        needed = plan(memory=Memory(base, total - base, 0, 0), available=available)
        try:
            refuse_if_too_large(needed, of, **more)
        except OutOfMemory as error:
            return str(error)
        return ""

    assert refused(100, 100) == refused(150, 100, base=50) == ""
    assert refused(8_000_000_000, 3_000_000_000) == (
        "a step needs about 8.0 GB beside the weights and 3.0 GB are free: try --checkpointing, or "
        "--batch 1 --accumulate 2, or --length 256"
    )
    assert "--batch 2 " in refused(151, 100, base=50, there=False) and refused(101, 100, there=False)
    assert refused(100, 99, full, lighter="--light").endswith("try --light")
    assert refused(100, 99, lora, length="--context").endswith("--batch 3 --accumulate 6, or --context 64")
