"""Masks: the rules one pair at a time, what they reach, and what contradicts itself, on both sides of each border."""

from dataclasses import replace

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.errors import KernelError
from likely.metal.mask import CAUSAL, FAR, FULL, Mask
from tests.metal import oracle

TREE = mx.zeros((2, 9, 1), dtype=mx.uint32)
DOCUMENTS = mx.zeros((1, 9), dtype=mx.int32)
ALSO = mx.zeros((1, 9, 9), dtype=mx.bool_)


@pytest.mark.parametrize(
    "mask",
    [
        CAUSAL, FULL, Mask(window=1, keep=1, prefix=1, block=1, block_start=1),
        Mask(causal=False, window=3, keep=2), Mask(noised=True, block=2),
        Mask(noised=True, block=2, documents=DOCUMENTS, lengths=(4, 5)),
        Mask(also=ALSO), Mask(also=mx.zeros((2, 9, 9), dtype=mx.bool_)),
        Mask(also=ALSO, window=1, block=2, prefix=3), Mask(documents=DOCUMENTS),
        Mask(documents=mx.zeros((2, 40), dtype=mx.int32)), Mask(tree=TREE), Mask(tree=TREE, window=9),
    ],
)  # fmt: skip
def test_rules_that_go_together_are_taken(mask: Mask) -> None:
    mask.check(2, 9)


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        *((Mask(**{"window": 1, name: -1}), f"mask.{name} must be 0 or more, got -1")  # type: ignore[arg-type]
          for name in ("window", "keep", "prefix", "block", "block_start")),
        (Mask(causal=False, prefix=1), "widen a causal mask"),
        (Mask(causal=False, block=1), "widen a causal mask"),
        (Mask(causal=False, also=ALSO), "widen a causal mask"),
        (Mask(noised=True), "mask.noised goes with a block"),
        (Mask(noised=True, block=2, window=1), "mask.noised goes with a block"),
        (Mask(noised=True, block=2, prefix=1), "mask.noised goes with a block"),
        (Mask(noised=True, block=2, block_start=1), "mask.noised goes with a block"),
        (Mask(also=mx.zeros((3, 9, 9), dtype=mx.bool_)), r"mask.also must be \[2, 9, 9\], got \(3, 9, 9\)"),
        (Mask(also=mx.zeros((2, 9, 8), dtype=mx.bool_)), "mask.also must be"),
        (Mask(also=mx.zeros((1, 8, 9), dtype=mx.bool_)), "mask.also must be"),
        (Mask(keep=1), "mask.keep needs a window, got keep=1 and window=0"),
        (Mask(documents=mx.zeros((3, 9), dtype=mx.int32)), "mask.documents must be"),
        (Mask(documents=mx.zeros((9,), dtype=mx.int32)), "mask.documents must be"),
        (Mask(documents=mx.zeros((1, 9), dtype=mx.uint32)), "mask.documents must be int32"),
        (Mask(documents=DOCUMENTS, lengths=(4, 4)), "mask.lengths must add up"),
        (Mask(lengths=(4, 5)), "mask.lengths must add up"),
        (replace(Mask.of_documents((4, 5)), after=(1, -1)), r"an earlier one that is first, got \(1, -1\)"),
        (replace(Mask.of_documents((4, 5), (-1, 0)), also=ALSO), "mask.after goes with causal attention"),
        (Mask(tree=mx.zeros((2, 9, 2), dtype=mx.uint32)), r"mask.tree must be uint32 \(2, 9, 1\)"),
        (Mask(tree=mx.zeros((1, 9, 1), dtype=mx.uint32)), "mask.tree must be uint32"),
        (Mask(tree=mx.zeros((2, 9, 1), dtype=mx.int32)), "mask.tree must be uint32"),
        (Mask(tree=TREE, causal=False), "mask.tree goes with causal attention"),
        (Mask(tree=TREE, prefix=1), "mask.tree goes with causal attention"),
        (Mask(tree=TREE, block=1), "mask.tree goes with causal attention"),
        (Mask(tree=TREE, also=ALSO), "mask.tree goes with causal attention"),
        (Mask(tree=TREE, documents=DOCUMENTS), "mask.tree goes with causal attention"),
        (Mask(tree=TREE, window=8), "mask.window must be at least the tree's 9 nodes, got 8"),
    ],
)  # fmt: skip
def test_rules_that_contradict_each_other_are_named(mask: Mask, line: str) -> None:
    with pytest.raises(KernelError, match=line):
        mask.check(2, 9)


def test_a_tree_has_a_word_for_32_nodes() -> None:
    for t, words in ((31, 1), (32, 1), (33, 2), (64, 2), (65, 3)):
        Mask(tree=mx.zeros((1, t, words), dtype=mx.uint32)).check(1, t)
        for other in (words - 1, words + 1):
            with pytest.raises(KernelError):
                Mask(tree=mx.zeros((1, t, other), dtype=mx.uint32)).check(1, t)


def array(mask: Mask, first: int, t: int, n: int) -> np.ndarray:
    """bool [T, N] for T queries from position `first` on and N keys."""
    p, k = (mx.arange(low, high, dtype=mx.int32)[None] for low, high in ((first, first + t), (0, n)))
    return np.array(mask.visible(p, k, mx.array([[first]], dtype=mx.int32)))[0]


PAIRS = {
    "causal": CAUSAL, "full": FULL, "window": Mask(window=3), "window, one": Mask(window=1),
    "window and first": Mask(window=3, keep=2), "both sides": Mask(causal=False, window=3),
    "both sides and first": Mask(causal=False, window=2, keep=1),
    "prefix": Mask(prefix=9), "prefix, window": Mask(prefix=9, window=4), "blocks": Mask(block=4),
    "blocks from 3": Mask(block=4, block_start=3),
    "blocks and a prefix": Mask(block=3, block_start=1, prefix=10),
    "blocks and a window": Mask(block=4, window=5),
    "documents": Mask(documents=mx.array([[0] * 5 + [1] * 3 + [2] * 6], dtype=mx.int32)),
    "tree": Mask(tree=mx.array([[[1 | 1 << t | 1 << t // 2] for t in range(6)]], dtype=mx.uint32)),
    "tree and a window": Mask(tree=mx.array([[[1 | 1 << t] for t in range(6)]], dtype=mx.uint32), window=6),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("first", [0, 5, 6, 8])
def test_every_pair_is_seen_as_the_rules_say(name: str, first: int) -> None:
    mask, t, n = PAIRS[name], 6, 14
    want = [[oracle.visible(mask, first + i, k, first, 0, i) for k in range(n)] for i in range(t)]
    assert np.array_equal(array(mask, first, t, n), want)


@pytest.mark.parametrize("name", [name for name in PAIRS if "tree" not in name])
def test_nothing_is_seen_outside_of_what_a_mask_reaches(name: str) -> None:
    """And for one query there is something at both ends, where nothing else narrows it."""
    mask, n = PAIRS[name], 14
    seen = np.array([[oracle.visible(mask, p, k, 0, 0, p) for k in range(n)] for p in range(n)])
    for first in range(n):
        for last in range(first, n):
            low, high = mask.bounds(first, last, n)
            reached = np.flatnonzero(seen[first : last + 1].any(0))
            reached = reached[reached >= mask.keep]
            assert 0 <= low <= high <= n
            assert not reached.size or (low <= reached[0] and reached[-1] < high)
            narrowed = mask.documents is not None or (mask.window and mask.keep and reached.size < mask.window)
            if not narrowed and reached.size:
                assert (low, high) == (
                    reached[0] if mask.window and not mask.keep else min(low, reached[0]),
                    reached[-1] + 1,
                )


def test_what_more_is_seen_of_new_rows_reaches_to_the_end() -> None:
    rules = np.array([[0, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=bool)
    mask = Mask(also=mx.array(rules[None]))
    want = np.tril(np.ones((3, 7), dtype=bool), 4)
    want[:, 4:] |= rules
    assert np.array_equal(array(mask, 4, 3, 7), want)
    assert mask.bounds(4, 4, 7) == (0, 7) and replace(mask, window=2).bounds(4, 4, 7) == (3, 7)
    every = Mask(also=mx.ones((1, 3, 3), dtype=mx.bool_))  # nothing of rows before the new ones
    windowed = array(replace(every, window=2), 4, 3, 7)
    assert windowed.astype(int).tolist() == [[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1]]


def test_each_of_b_sees_by_its_own_rules() -> None:
    rules = mx.array([[[0, 1], [0, 0]], [[0, 0], [0, 0]]], dtype=mx.bool_)
    at, base = mx.array([[3, 4], [5, 6]], dtype=mx.int32), mx.array([[3], [5]], dtype=mx.int32)
    keys = mx.broadcast_to(mx.arange(7, dtype=mx.int32)[None], (2, 7))
    seen = np.array(Mask(also=rules).visible(at, keys, base)).astype(int)
    assert seen[0, :, :5].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]  # it has no more rows
    assert seen[1].tolist() == [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]]
    documents = Mask(documents=mx.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1]], dtype=mx.int32))
    seen = np.array(documents.visible(at, keys, base)).astype(int)
    assert seen[:, 0].tolist() == [[0, 0, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]]
    assert seen[:, 1].tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]]


def test_a_position_behind_all_documents_belongs_to_the_last() -> None:
    mask = Mask(documents=mx.array([[0, 0, 1]], dtype=mx.int32))
    assert array(mask, 4, 1, 5).astype(int).tolist() == [[0, 0, 1, 1, 1]]


@pytest.mark.parametrize("lengths", [(4,), (5,), (4, 6), (3, 4, 2)])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_noised_text_sees_its_block_and_the_text_itself_before_it(lengths: tuple[int, ...], block: int) -> None:
    """The rule of block diffusion's training, one pair at a time (arXiv:2503.09573)."""
    mask = Mask.of_noised(lengths, block)
    places = [(document, clean, i // block) for document, n in enumerate(lengths) for clean in (0, 1) for i in range(n)]
    want = np.zeros((len(places), len(places)), dtype=bool)
    for p, (text, clean, own) in enumerate(places):
        for k, (other, as_is, its) in enumerate(places):
            noised = not clean and not as_is and its == own
            before = as_is and its < own
            itself = clean and as_is and its == own
            want[p, k] = text == other and (noised or before or itself)
    n = len(places)
    assert np.array_equal(array(mask, 0, n, n), want) and mask.bounds(0, 3, n) == (0, n)
    assert (mask.block, mask.noised, mask.causal, mask.window, mask.prefix) == (block, True, True, 0, 0)
    assert mask.lengths == tuple(2 * length for length in lengths) and mask.documents is not None
    assert mask.documents.tolist() == [[i for i, length in enumerate(lengths) for _ in range(2 * length)]]
    assert mask.documents.dtype == mx.int32
    if len(lengths) == 1:
        alone = Mask(block=block, noised=True)
        assert np.array_equal(array(alone, 0, n, n), want)


def test_documents_side_by_side_are_numbered() -> None:
    assert Mask.of_documents((5,)) is CAUSAL
    mask = Mask.of_documents((2, 1, 3))
    assert mask.lengths == (2, 1, 3) and mask.documents is not None and mask.documents.dtype == mx.int32
    assert mask.documents.tolist() == [[0, 0, 1, 2, 2, 2]]
    assert mask == replace(Mask(), documents=mask.documents, lengths=(2, 1, 3))


@pytest.mark.parametrize(
    ("mine", "theirs", "window", "keep"),
    [(0, (7, 2), 7, 2), (9, (7, 2), 7, 2), (7, (7, 2), 7, 0), (5, (7, 2), 5, 0), (5, (0, 0), 5, 0), (0, (0, 0), 0, 0)],
)
def test_the_narrower_window_counts(mine: int, theirs: tuple[int, int], window: int, keep: int) -> None:
    mask = Mask(window=mine, prefix=3).within(Mask(window=theirs[0], keep=theirs[1]))
    assert (mask.window, mask.keep, mask.prefix) == (window, keep, 3)


def test_a_full_mask_sees_beyond_every_context() -> None:
    at = mx.array([[0]], dtype=mx.int32)
    keys = mx.array([[FAR, FAR - 1]], dtype=mx.int32)
    assert Mask(causal=False).visible(at, keys, at).tolist() == [[[True, True]]]
    assert FULL.bounds(0, 3, 90) == (0, 90) and Mask(causal=False, window=4).bounds(6, 8, 90) == (3, 12)
    assert Mask(causal=False, window=4).bounds(6, 8, 10) == (3, 10)
