"""How much is trained of how many rows: batches, passes and steps where nobody says them."""

from likely.engine.train.data.hyperparameters import chosen, per_epoch, steps_of
from likely.engine.train.data.samples import TrainingSample
from likely.engine.weights.adapters.config import Config, configure


def sample(length: int, targets: int = 1, first: int = 0) -> TrainingSample:
    trained = [False] + [i < targets for i in range(length - 1)]
    return TrainingSample(tuple(range(first, first + length)), tuple(trained), f"row:{length}")


def test_small_data_are_read_in_small_batches_often_and_fast() -> None:
    config = Config(length=32)
    items = [sample(8)] * 40
    how = [chosen(c, items, layers=30) for c in (config, Config(length=32, steps=19), Config(length=32, kl=1.0))]
    assert [(c.layers, c.rank, c.rehearsal) for c, _ in how] == [(18, 16, 2.0), (-1, 8, -1.0), (-1, 8, -1.0)]
    assert ", rate 0.0007, layers 18, rank 16, rehearsal 2: 40 samples make" in how[0][1]
    said = chosen(config, items, layers=30, rewords=True)[0]  # twice as many passes; 0.002 over the root of 4
    assert (said.reword, said.epochs, said.rate, said.layers, said.rank) == (0.35, 20.0, 1e-3, 10, 32)
    texts = chosen(config, [sample(8, targets=7)] * 40, layers=30)[0]  # fast, they would be learned by heart alone
    assert (texts.epochs, texts.rate, texts.rehearsal) == (10.0, 2e-4, 2.0)
    found, why = chosen(config, items)
    # 20 batches; 8 passes over 60 rows are 9.8 over 40; the rate of 100 steps over the root of 2
    assert (found.batch, found.packing, found.epochs, found.rate) == (2, False, 10.0, 7e-4)
    assert why.startswith("batches of 2, 10 passes, rate 0.0007: 40 samples make 20 batches, so 200 steps; ")
    assert [chosen(config, [sample(8)] * n)[0].batch for n in (1, 16, 31, 32, 63, 64, 200)] == [1, 1, 1, 2, 3, 4, 4]
    known = [chosen(config, [sample(8)] * n)[0] for n in (1, 15, 60, 240, 960)]
    assert [c.epochs for c in known] == [100, 16, 8, 4, 2] and [c.rate for c in known] == [1e-3, 6e-4, 8e-4, 6e-4, 5e-4]
    long = chosen(Config(), [sample(640)] * 6)[0]  # of as many tokens as 60 rows of 64
    assert (long.epochs, long.batch) == (17.0, 1)
    many = [sample(32)] * 400  # as many tokens as 100 steps of 4 samples are
    found, why = chosen(config, many)
    assert (found.batch, found.packing, found.epochs, found.rate, why) == (4, True, 1.0, 2e-4, "")
    assert chosen(config, many[1:])[1] != ""
    own, why = chosen(Config(length=32, batch=3, epochs=2.0, rate=0.5), items)
    assert (own.batch, own.epochs, own.rate, why) == (3, 2.0, 0.5, "")
    some, why = chosen(Config(length=32, steps=7), items)
    assert (some.batch, some.epochs, some.steps, some.rate) == (2, 0.0, 7, 1e-3) and "so 7 steps" not in why
    for other in (Config(kind="full", length=32), Config(objective="mdlm", length=32)):
        assert (chosen(other, items)[0].rate, chosen(other, items)[0].epochs) == (2e-4, 5.0)  # 100 steps
    drawn, why = chosen(Config(length=32, objective="reward"), items)  # as many steps, whatever the problems
    assert (drawn.batch, drawn.steps, drawn.rate, why[:31]) == (4, 100, 2e-4, "100 steps of 4 problems, 8 answ")
    assert chosen(Config(length=32, objective="reward", epochs=2.0), many)[0].steps == 0
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
