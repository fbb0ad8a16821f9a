"""Passes of diffusion one by one: which masks become tokens, in which, and what their record may hold."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.diffusion.infilling import canvas, filled, lone_space, pieces
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasked, Unmasking, fill
from likely.engine.sampling.transforms import uniform
from tests.fakes import EOS, ByteTokenizer

MASK, VOCAB = 9, 10
GREEDY = SamplingConfig(greedy=True)


def test_a_plan_comes_out_even() -> None:
    for how, masks, want in (
        ({}, 6, (6, 6)), ({"steps": 3}, 6, (6, 3)), ({"steps": 6}, 6, (6, 6)), ({"block": 2}, 6, (2, 2)),
        ({"block": 3, "steps": 4}, 6, (3, 2)), ({"block": 6, "steps": 1}, 6, (6, 1)),
        ({"block": 2, "steps": 3}, 6, (2, 1)),
    ):  # fmt: skip
        assert Unmasking(**how).plan(masks) == want  # type: ignore[arg-type]
    for how, line in (
        ({"block": 4}, "6 masks are not divisible into blocks of 4"),
        ({"steps": 7}, "at most 6 steps, got 7"),
        ({"block": 2, "steps": 4}, "4 steps are not divisible by 3 blocks"),
        ({"block": 3, "steps": 8}, "at most 6 steps, got 8"),
    ):
        with pytest.raises(ParameterError, match=line):
            Unmasking(**how).plan(6)  # type: ignore[arg-type]


PEAKS = [4.0, 1.0, 3.0, 2.0, 5.0, 0.5]  # by position: how sure of token 0 a model is that sees nothing


def peaked(ids: np.ndarray, places: np.ndarray) -> np.ndarray:
    found = np.zeros((len(places), VOCAB), np.float32)
    found[:, 0] = np.array(PEAKS)[places]
    found[:, MASK] = -np.inf
    return found


def taken(
    how: Unmasking, seed: int = 0, predict: Any = peaked, ids: Sequence[int] = (MASK,) * 6, **more: Any
) -> list[Any]:
    return [
        (each.step, [u.token.position for u in each.unmasked], [o.position for o in each.open])
        for each in fill(predict, ids, MASK, how, GREEDY, seed=seed, **more)
    ]


def test_the_surest_masks_come_first() -> None:
    assert taken(Unmasking(steps=3)) == [(1, [0, 4], [1, 2, 3, 5]), (2, [2, 3], [1, 5]), (3, [1, 5], [])]
    assert [places for _, places, _ in taken(Unmasking())] == [[4], [0], [2], [3], [1], [5]]
    assert [places for _, places, _ in taken(Unmasking(steps=4))] == [[0, 4], [2, 3], [1], [5]]
    assert [p for _, p, _ in taken(Unmasking(block=3))] == [[0], [2], [1], [4], [3], [5]]
    assert [p for _, p, _ in taken(Unmasking(steps=2, block=3))] == [[0, 1, 2], [3, 4, 5]]
    assert [p for _, p, _ in taken(Unmasking(), ids=(MASK, 3, MASK, 4, 5, MASK))] == [[0], [2], [5]]
    assert taken(Unmasking(), ids=(1, 2)) == []


def test_a_threshold_takes_all_that_are_surer_and_one_at_least() -> None:
    p = np.exp(PEAKS) / (np.exp(PEAKS) + 8)
    assert [places for _, places, _ in taken(Unmasking(threshold=float(p[2] * 0.999)))] == [[0, 2, 4], [3], [1], [5]]
    assert [places for _, places, _ in taken(Unmasking(threshold=float(p[2] * 1.001)))] == [[0, 4], [2], [3], [1], [5]]
    assert [places for _, places, _ in taken(Unmasking(threshold=0.01))] == [[0, 1, 2, 3, 4, 5]]


def test_ancestral_masks_stay_with_the_share_of_the_schedule() -> None:
    for noise, schedule in (("linear", lambda t: t), ("cosine", lambda t: 1 - math.cos(t * math.pi / 2))):
        left, want = list(range(6)), []
        for number in range(3):
            stay = schedule(1 - (number + 1) / 3) / schedule(1 - number / 3)
            now = [at for at in left if uniform((5, 6 * (number + 1) + at), "order") >= stay]
            want.append(left if number == 2 else now)
            left = [at for at in left if at not in now]
        assert [places for _, places, _ in taken(Unmasking(by="ancestral", noise=noise, steps=3), 5)] == want


def test_a_text_with_holes_is_cut_into_pieces() -> None:
    for text, want in (
        ("a[MASK:2]b", ["a", 2, "b"]), ("[MASK:1][MASK:12]", [1, 12]), ("", []), ("abc", ["abc"]),
        ("\\[MASK:3]", ["[MASK:3]"]), ("x\\[MASK:0]y[MASK:1048576]", ["x[MASK:0]y", 1 << 20]), ("[MASK]", ["[MASK]"]),
    ):  # fmt: skip
        assert list(pieces(text)) == want
    for text in ("[MASK:0]", "[MASK:-1]", "[MASK:]", "[MASK:1.5]", "[MASK:1048577]", "[MASK:00000001]", "[MASK:٣]"):
        with pytest.raises(ParameterError, match="stands for N tokens, a whole number from 1"):
            list(pieces(text))


class Bytes(ByteTokenizer):
    """Texts that begin with no token of their own."""

    add_bos = False


def test_a_canvas_has_masks_for_its_holes() -> None:
    def made(text: str, context: int = 9, **more: Any) -> list[int]:
        return canvas(text, Bytes(), MASK, context, **more)  # type: ignore[arg-type]

    assert made("ab[MASK:3]c") == [97, 98, MASK, MASK, MASK, 99] and made("[MASK:9]") == [MASK] * 9
    assert made("a[MASK:1]", whole=True) == [97, MASK, EOS] and made("[MASK:8]", whole=True) == [MASK] * 8 + [EOS]
    for text, error, line in (
        ("abc", ParameterError, "nothing to fill"),
        ("a[MASK:9]", ContextOverflow, "has 1 tokens and 9 masks, .* has 9 positions"),
        ("[MASK:1000000]", ContextOverflow, "0 tokens and 1000000 masks"),
    ):
        with pytest.raises(error, match=line):
            made(text)

    class Endless(Bytes):
        eos = frozenset[int]()

    with pytest.raises(ParameterError, match="leave out --whole"):
        canvas("[MASK:1]", Endless(), MASK, 9, whole=True)  # type: ignore[arg-type]

    class Words(Bytes):
        def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
            return [len(text)]

    assert lone_space("a [MASK:2] b [MASK:x", Words()) == "a[MASK:2] b [MASK:x"  # type: ignore[arg-type]
    assert lone_space("a[MASK:2]", Words()) is None and lone_space("a [MASK:2]", Bytes()) is None  # type: ignore[arg-type]


def drawn(position: int, token: int, step: int = 1, before: int | None = None, vocab: int = VOCAB) -> Unmasked:
    raw = np.random.default_rng(position).normal(size=vocab).astype(np.float32)
    return Unmasked(step, observe(raw, token, recipe=SamplingConfig(), position=position), before)


def test_a_canvas_after_passes_is_text_with_its_revisions() -> None:
    passes = [
        DenoisingStep(1, (drawn(1, 98, vocab=301), drawn(3, 99, vocab=301)), ()),
        DenoisingStep(2, (drawn(1, 100, 2, 98, 301),), ()),
    ]
    found = filled([97, 300, 300, 300, 0xC3], 300, passes, Bytes())  # type: ignore[arg-type]
    assert found.text == "adc\ufffd" and [t.id for t in found.tokens] == [97, 100, 300, 99, 0xC3]
    assert [(t.step, t.given, t.logprob is None) for t in found.tokens] == [
        (None, True, True), (2, False, False), (None, False, True), (1, False, False), (None, True, True),
    ]  # fmt: skip
    told = found.as_dict()
    assert told["ids"] == [97, 100, 300, 99, 0xC3]
    assert told["revisions"] == [{"position": 1, "step": 2, "from": 98, "to": 100}]
    assert told["tokens"][1]["position"] == 1 and told["tokens"][1]["text"] == "d"
