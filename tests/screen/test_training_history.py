"""The history of a training: its pictures and words, compared with values worked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from likely.app.tui.base.drawing.plot import Curve, Picture
from likely.app.tui.base.theme import GLYPHS
from likely.app.tui.training.history import TrainingHistory, count, power, size
from likely.app.words.units import LN2
from likely.engine.train.control import Stepped, Validated

STEP = Stepped(1, 40, 0.05, 3.5, 3.25, 2e-4, 1.5, 100, 1204.6, 0.0, 0.0, 1_310_000_000, 2.0)


def step(number: int, **more: object) -> Stepped:
    """A step with numbers that follow from it."""
    values = {
        "loss": (3 + number / 10) * LN2, "smooth": (4 - number / 100) * LN2,
        "rate": number * 1e-5, "norm": number % 3 + 0.5,
        "tokens": 100 * number, "elapsed_s": 2.0 * number, "epoch": number / 20,
    }  # fmt: skip
    return replace(STEP, step=number, **(values | more))  # type: ignore[arg-type]


def valid(number: int, loss: float, **more: object) -> Validated:
    """A validation of so many bits."""
    made = Validated(number, loss * LN2, (loss - 0.5) * LN2, (loss + 0.25) * LN2, False, 0.0)
    return replace(made, **more)  # type: ignore[arg-type]


def nats(bits: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(each * LN2 for each in bits)


def history(steps: int, *validated: Validated, **more: object) -> TrainingHistory:
    found = TrainingHistory(**more)  # type: ignore[arg-type]
    for number in range(1, steps + 1):
        found.take(step(number))
    for each in validated:
        found.take(each)
    return found


def curves(picture: Picture) -> list[tuple[list[float], list[float], str, bool, bool]]:
    """Curves as lists; nan as -1."""
    return [
        (
            list(map(float, c.xs)),
            np.nan_to_num(np.asarray(c.ys, float), nan=-1).round(9).tolist(),
            c.ink,
            c.loose,
            c.dotted,
        )
        for c in picture.curves
    ]


def test_a_step_that_is_told_again_takes_the_place_of_those_from_it_on() -> None:
    it = history(6, valid(2, 3.0), valid(4, 2.0), valid(6, 1.0))
    assert it.steps == [1, 2, 3, 4, 5, 6] and it.step == 6 and it.left_s == 2.0 * 34
    it.take(step(4, loss=9.0 * LN2))
    assert it.steps == [1, 2, 3, 4] and it.step == 4 and curves(it.loss(GLYPHS))[0][1][-1] == 9.0
    it.take(valid(4, 5.0))
    assert [(v.step, v.loss / LN2) for v in it.validated] == [(2, 3.0), (4, 5.0)]
    assert it.best is it.validated[0]
    it.take(valid(5, 3.0))
    assert it.best is it.validated[0]  # the first of two that are alike
    assert history(1).left_s == 2.0 * 39 and history(40).left_s == 0


def test_the_loss_is_drawn_with_its_validations() -> None:
    it = history(3, valid(1, 3.0), valid(3, 2.0))
    loss = it.loss(GLYPHS)
    assert curves(loss) == [
        ([1, 2, 3], [3.1, 3.2, 3.3], "bar_cut", True, False),
        ([1, 3], [3.0, 2.0], "chosen", False, True),
        ([1, 2, 3], [3.99, 3.98, 3.97], "bar", False, False),
    ]
    marks = [(mark.x, *(round(y, 9) for y in (mark.y, mark.low, mark.high)), mark.best) for mark in loss.marks]
    assert marks == [(1, 3.0, 2.5, 3.25, False), (3, 2.0, 1.5, 2.25, True)]
    assert (loss.left, loss.right, loss.axis, loss.floor) == (0.0, 3.0, True, None)
    assert loss.heading == [
        ("LOSS", "heading"), (" bits a token", "faint"), ("  ─ train 3.970", "bar"),
        ("  ● valid 2.000 ± 0.250", "chosen"),
    ]  # fmt: skip
    it.take(valid(1200, 2.5, bits_per_byte=1.2345))
    assert list(it.loss(GLYPHS).heading)[3:] == [
        ("  ● valid 2.500 ± 0.250", "chosen"), ("  1.234 bits/byte", "chosen"), ("  ◆ best 2.000 at 3", "chosen"),
    ]  # fmt: skip
    alone = history(3, valid(2, 2.0, low=None, high=None)).loss(GLYPHS)
    assert ("  ● valid 2.000 (one row: no interval)", "chosen") in alone.heading
    assert [(m.low, m.y, m.high) for m in alone.marks] == [pytest.approx((2.0, 2.0, 2.0))]
    bound = history(0, valid(2, 2.0, bits_per_byte=1.5), per="pair", bounded=True).loss(GLYPHS)
    assert bound.heading == [
        ("LOSS", "heading"), (" bits a pair", "faint"), ("  ● valid ≤ 2.000 ± 0.250", "chosen"),
        ("  ≤ 1.500 bits/byte", "chosen"),
    ]  # fmt: skip
    best = history(1, valid(1200, 1.0), valid(1201, 2.0)).loss(GLYPHS).heading
    assert list(best)[-1] == ("  ◆ best 1.000 at 1,200", "chosen")


def test_closer_is_the_last_quarter_or_twenty_steps() -> None:
    for steps, left in [(5, 1), (20, 1), (21, 1), (22, 2), (80, 60), (83, 63), (84, 63), (120, 90)]:
        it = history(steps, valid(left, 2.0), valid(steps, 3.0))
        if left > 1:
            it.validated.insert(0, valid(left - 1, 1.0))
        loss = it.loss(GLYPHS, close=True)
        assert (loss.left, loss.right) == (left, max(steps, left + 1))
        assert list(loss.curves[0].xs) == list(range(left, steps + 1))
        assert [mark.x for mark in loss.marks] == [left, steps]
        for small in (it.rate(close=True), it.norm(close=True), it.bits(close=True), it.noise(close=True)):
            assert (small.left, small.right) == (left, steps)
        assert it.rate().left == 0.0 and list(it.rate().curves[0].xs) == list(range(1, steps + 1))


def test_rate_and_gradient_are_small_and_stand_on_zero() -> None:
    it = history(5)
    assert curves(it.rate()) == [([1, 2, 3, 4, 5], [round(n * 1e-5, 9) for n in range(1, 6)], "bar", True, False)]
    assert it.rate().heading == [("RATE", "heading"), ("  5.0e-5", "text"), ("  peak 5.0e-5", "faint")]
    assert it.norm().heading == [("GRADIENT", "heading"), ("  2.5", "text"), ("  peak 2.5", "faint")]
    it.take(step(6, norm=0.123456, rate=0.0))
    assert it.norm().heading == [("GRADIENT", "heading"), ("  0.123", "text"), ("  peak 2.5", "faint")]
    assert it.rate().heading[1:] == [("  0", "text"), ("  peak 5.0e-5", "faint")]
    assert (it.norm().axis, it.norm().floor, it.norm().marks) == (False, 0.0, ())


def test_bits_a_byte_are_those_of_the_validations_that_know_them() -> None:
    validated = [valid(n, 2.0, bits_per_byte=b) for n, b in ((10, 2.5), (20, None), (30, 1.5), (1040, 1.25))]
    it = history(50, *validated)
    bits = it.bits()
    assert curves(bits) == [([10, 30, 1040], [2.5, 1.5, 1.25], "chosen", False, False)]
    assert bits.heading == [("BITS A BYTE", "heading"), ("  1.250 at step 1,040", "chosen")]
    assert list(bits.points) == [(1040.0, 1.25, "●", "chosen")] and (bits.left, bits.right) == (0.0, 50.0)
    assert curves(it.bits(close=True)) == [([30, 1040], [1.5, 1.25], "chosen", False, False)]


def test_positions_are_octaves_of_the_last_validation_and_of_the_first() -> None:
    first, last = (4.0, 3.5, 3.0), (3.0, 2.5, 2.25, 2.0, 1.5)
    assert TrainingHistory().positions().curves == ()
    it = history(1, valid(10, 2.0, by_position=nats(last)), valid(20, 2.0))
    alone = it.positions()
    assert alone.heading == [("BY POSITION", "heading"), ("  3.00 → 1.50 bits", "bar")]
    assert curves(alone) == [([0, 1, 2, 3, 4], list(last), "bar", False, False)]
    assert (alone.along, alone.left, alone.right, alone.across) == ("token", 0.0, 4, [(1.0, "1"), (3.0, "4")])
    it = history(1, valid(5, 2.0, by_position=nats(first)), valid(1010, 2.0, by_position=nats(last)))
    both = it.positions()
    assert list(both.heading)[1:] == [("  3.00 → 1.50 bits", "bar"), ("  step 5: 4.00 → 3.00", "faint")]
    assert [c[2] for c in curves(both)] == ["bar_cut", "bar"] and curves(both)[0][:2] == ([0, 1, 2], list(first))
    short = history(1, valid(5, 2.0, by_position=(4.0,))).positions()
    assert (short.right, short.across) == (1, [])
    long = history(1, valid(5, 2.0, by_position=tuple([1.0] * 18))).positions()
    assert long.across == [
        (1.0, "1"), (3.0, "4"), (5.0, "16"), (7.0, "64"), (9.0, "256"), (11.0, "1,024"), (13.0, "4,096"),
        (15.0, "16k"), (17.0, "66k"),
    ]  # fmt: skip


def test_the_noise_scale_is_in_powers_of_ten_beside_the_tokens_of_a_step() -> None:
    it = TrainingHistory()
    for number, scale in ((1, None), (2, 50.0), (3, -1.0), (4, 2000.0)):
        it.take(step(number, noise_scale=scale))
    noise = it.noise()
    assert noise.heading == [("NOISE SCALE", "heading"), ("  2,000 tokens", "text"), ("  a step 100", "faint")]
    line, measured = noise.curves
    assert list(line.xs) == [0.0, 4.0] and line.ys == [2.0, 2.0] and (line.ink, line.dotted) == ("faint", True)
    assert list(measured.xs) == [1, 2, 3, 4] and (measured.ink, measured.loose) == ("bar", True)
    assert np.asarray(measured.ys)[[1, 3]] == pytest.approx([math.log10(50), math.log10(2000)])
    assert np.isnan(np.asarray(measured.ys)[[0, 2]]).all()
    assert (noise.floor, noise.up) == (1, [(1.0, "10"), (2.0, "100"), (3.0, "1,000"), (4.0, "10k")])
    it.take(step(5, noise_scale=1e4, tokens=50_000))
    assert it.noise().up == [(1.0, "10"), (2.0, "100"), (3.0, "1,000"), (4.0, "10k"), (5.0, "100k")]
    assert it.noise().heading[2] == ("  a step 10k", "faint")
    it.take(step(6, noise_scale=3e5, tokens=6 * 5))
    assert it.noise().floor == 0 and [power for power, _ in it.noise().up or ()] == [0, 1, 2, 3, 4, 5, 6]
    silent = history(3)
    assert silent.noise().curves == () and silent.noise().heading == [("NOISE SCALE", "heading")]
    it = TrainingHistory()
    it.take(step(1, noise_scale=0.0))
    assert it.noise().curves == ()


def test_facts_are_the_cost_of_a_step() -> None:
    it = history(20)
    assert it.facts() == ["epoch 1.00", "1,205 tok/s", "1.31 GB", "2,000 tokens trained"]
    it.take(step(21, kl=math.log(2) / 4, memory=999_000_000))
    assert it.facts() == ["epoch 1.05", "1,205 tok/s", "999 MB", "2,100 tokens trained", "KL to the base 0.250 bits"]


def test_the_formula_is_the_loss_of_the_last_step() -> None:
    it = history(0)
    it.take(step(1200, loss=3.1234 * LN2, smooth=3.0 * LN2, rate=1.2e-4, norm=0.98765))
    found = it.formula()
    assert found is not None and found.map == "metric"
    assert found.parts == [
        ("L = −(1/n) Σ log₂ p(xᵢ | x<i) = ", False), ("3.123 bits", True), ("   smoothed ", False), ("3.000", True),
        ("   perplexity 2^L = ", False), (f"{2**3.1234:.2f}", True),
    ]  # fmt: skip
    assert found.note == "step 1,200: θ ← θ − η·update, η = 1.2e-4, gradient's norm 0.988"
    pairs = history(1, per="pair").formula()
    assert pairs is not None and pairs.parts[0] == ("L = mean loss of a pair = ", False) and len(pairs.parts) == 4
    bound = history(1, bounded=True).formula()
    assert bound is not None and bound.parts[0] == ("L = −(1/n) Σ (l/k) log₂ p(xᵢ | unmasked) = ", False)


def test_numbers_are_said_shortly() -> None:
    assert [power(x) for x in (0, 2e-4, 1.26e-10, 3, 45)] == ["0", "2.0e-4", "1.3e-10", "3.0e0", "4.5e1"]
    assert [size(x) for x in (0, 1e6, 999.4e6, 1e9, 1.306e9)] == ["0 MB", "1 MB", "999 MB", "1.00 GB", "1.31 GB"]
    said = [count(x) for x in (0, 999, 9_999, 10_000, 12_600, 999_400, 1_000_000, 1_260_000, 10**9, 2_550_000_000)]
    assert said == ["0", "999", "9,999", "10k", "13k", "999k", "1.0M", "1.3M", "1.0G", "2.5G"]
    assert Curve((), (), "bar").ink == "bar"
