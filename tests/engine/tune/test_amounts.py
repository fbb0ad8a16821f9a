"""How much is trained of how many rows: batches, passes and steps where nobody says them."""

from likely.engine.adapters.config import Config, configure
from likely.engine.tune.amounts import chosen, per_epoch, steps_of
from likely.engine.tune.samples import TrainingSample


def sample(length: int, targets: int = 1, first: int = 0) -> TrainingSample:
    trained = [False] + [i < targets for i in range(length - 1)]
    return TrainingSample(tuple(range(first, first + length)), tuple(trained), f"row:{length}")


def test_small_data_are_read_in_small_batches_and_often() -> None:
    config = Config(length=32, steps=0, epochs=0.0)
    items = [sample(8)] * 40
    found, why = chosen(config, items)
    assert (found.batch, found.packing, found.epochs) == (2, False, 5.0)  # 20 batches, so 5 passes for 100 steps
    assert why.startswith("batches of 2 and 5 passes: 40 samples make 20 batches, so 100 steps; fewer than 100")
    assert [chosen(config, [sample(8)] * n)[0].batch for n in (1, 16, 31, 32, 63, 64, 200)] == [1, 1, 1, 2, 3, 4, 4]
    many = [sample(32)] * 400  # as many tokens as 100 steps of 4 samples are
    found, why = chosen(config, many)
    assert (found.batch, found.packing, found.epochs, why) == (4, True, 1.0, "")
    assert chosen(config, many[1:])[1] != ""
    own, why = chosen(Config(length=32, batch=3, epochs=2.0), items)
    assert (own.batch, own.epochs, why) == (3, 2.0, "")
    some, why = chosen(Config(length=32, steps=7), items)
    assert (some.batch, some.epochs, some.steps) == (2, 0.0, 7) and why.startswith("batches of 2: 40 samples make")
    passes, why = chosen(Config(length=32, batch=40, packing=False), items)
    assert passes.epochs == 100 and why.startswith("100 passes: 40 samples make 1 batches, so 100 steps")
    slow, _ = chosen(Config(length=32, batch=40, packing=False, accumulate=2), items)
    assert slow.epochs == 200


def test_steps_are_those_asked_for_or_whole_passes() -> None:
    items = [sample(8)] * 10
    config = Config(batch=4, packing=False)
    assert per_epoch(config, items) == 3
    for options, steps in (
        ({"steps": 9}, 9), ({"epochs": 1.0}, 3), ({"epochs": 1.5}, 5), ({"epochs": 2.0, "accumulate": 4}, 2),
        ({"epochs": 0.01}, 1), ({}, 1),
    ):  # fmt: skip
        assert steps_of(configure({"batch": 4, "packing": False, **options}), items) == steps
    assert per_epoch(Config(batch=2, length=16, packing=True), items) == 3
