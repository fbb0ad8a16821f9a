"""Which keys a query may see, as a function of positions, never as an array of T x T.

A query at position p sees the key at position k if lower(p) <= k <= upper(p), k may be one of the first `keep`, both
belong to the same document, and the tree allows it. The kernels evaluate the same rules and skip what they exclude.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from likely.metal import mx
from likely.metal.errors import KernelError

FAR = 2**30  # a position beyond every context


@dataclass(frozen=True, slots=True)
class Mask:
    """The rules, combined with "and"; the default is plain causal attention.

    `prefix`, `block` and `also` widen what a causal query sees; `window`, `documents` and `tree` narrow it. `noised` is
    the rule of block diffusion's training (arXiv:2503.09573): documents are a text noised and then the text itself.
    """

    causal: bool = True  # k <= p
    window: int = 0  # the last `window` positions, the query's own included (both sides if not causal); 0: all
    keep: int = 0  # the first `keep` positions stay visible outside the window (arXiv:2309.17453)
    prefix: int = 0  # prefix-LM: the first `prefix` positions are seen by every query
    block: int = 0  # block-causal: a query sees to the end of its block of `block` positions
    block_start: int = 0  # the position where a block begins
    documents: mx.array | None = None  # int32 [B, positions]: the document of each position
    lengths: tuple[int, ...] = ()  # of the documents, where the host knows that they fill one row in their order
    after: tuple[int, ...] = ()  # the earlier document that each goes on from and sees whole, or -1; that one has none
    noised: bool = False  # of each document the first half sees its own block there, and blocks before in the second
    also: mx.array | None = None  # bool [B or 1, T, T]: what each of T new rows sees besides, later ones too
    tree: mx.array | None = None  # uint32 [B, T, words]: bit j of query t: it sees the j-th of the T new rows

    @staticmethod
    def of_documents(lengths: Sequence[int], after: Sequence[int] = ()) -> "Mask":
        """Causal attention within each of the documents of these lengths, which stand one after another in one row.

        `after` says for each which earlier one it goes on from, as answers to a prompt that stands there once, or -1.
        """
        if len(lengths) == 1:
            return CAUSAL
        ids = [i for i, length in enumerate(lengths) for _ in range(length)]
        return Mask(documents=mx.array([ids], dtype=mx.int32), lengths=tuple(lengths), after=tuple(after))

    @staticmethod
    def of_noised(lengths: Sequence[int], block: int) -> "Mask":
        """The rule for texts of these lengths, each noised and then itself, 2 L, one after another in one row.

        A noised position sees its own block, noised, and the blocks before as they are; the text itself is read by
        blocks: its own, and those before.
        """
        ids = [i for i, length in enumerate(lengths) for _ in range(2 * length)]
        twice = tuple(2 * length for length in lengths)
        return Mask(block=block, noised=True, documents=mx.array([ids], dtype=mx.int32), lengths=twice)

    def within(self, other: "Mask") -> "Mask":
        """These rules in the window of `other`, its first positions kept."""
        if not other.window or (self.window and self.window <= other.window):
            return self
        return replace(self, window=other.window, keep=other.keep)

    def check(self, b: int, t: int) -> None:
        """Refuse rules that contradict each other or do not fit B rows of T queries."""
        for name in ("window", "keep", "prefix", "block", "block_start"):
            if getattr(self, name) < 0:
                raise KernelError(f"mask.{name} must be 0 or more, got {getattr(self, name)}")
        if not self.causal and (self.prefix or self.block or self.also is not None):
            raise KernelError("mask: prefix, block and also widen a causal mask, got causal=False")
        if self.noised and (not self.block or self.window or self.prefix or self.block_start):
            raise KernelError("mask.noised goes with a block, and with no window, prefix nor start of blocks")
        if self.also is not None and self.also.shape not in ((1, t, t), (b, t, t)):
            raise KernelError(f"mask.also must be [{b}, {t}, {t}], got {self.also.shape}")
        if self.keep and not self.window:
            raise KernelError(f"mask.keep needs a window, got keep={self.keep} and window=0")
        if self.documents is not None and (self.documents.ndim != 2 or self.documents.shape[0] not in (1, b)):
            raise KernelError(f"mask.documents must be [{b}, positions], got {self.documents.shape}")
        if self.documents is not None and self.documents.dtype != mx.int32:
            raise KernelError(f"mask.documents must be int32, got {self.documents.dtype}")
        if self.lengths and (self.documents is None or sum(self.lengths) != self.documents.shape[1]):
            raise KernelError(f"mask.lengths must add up to the positions of mask.documents, got {self.lengths}")
        if self.after:
            self._check_after()
        if self.tree is None:
            return
        want = (b, t, (t + 31) // 32)
        if self.tree.shape != want or self.tree.dtype != mx.uint32:
            raise KernelError(f"mask.tree must be uint32 {want}, got {self.tree.dtype} {self.tree.shape}")
        if not self.causal or self.prefix or self.block or self.also is not None or self.documents is not None:
            raise KernelError("mask.tree goes with causal attention and a window only")
        if self.window and self.window < t:
            raise KernelError(f"mask.window must be at least the tree's {t} nodes, got {self.window}")

    def _check_after(self) -> None:
        first = [i < 0 for i in self.after]
        if len(first) != len(self.lengths) or any(
            of >= i or not first[of] for i, of in enumerate(self.after) if of >= 0
        ):
            raise KernelError(
                f"mask.after must name, for each document, an earlier one that is first, got {self.after}"
            )
        if not self.causal or self.prefix or self.block or self.keep or self.also is not None or self.tree is not None:
            raise KernelError("mask.after goes with causal attention and a window only")

    def bounds(self, first: int, last: int, total: int) -> tuple[int, int]:
        """Positions [low, high) outside of which no query at `first`..`last` sees a key, `keep` left aside."""
        low = max(0, first - self.window + 1) if self.window else 0
        if self.noised:
            return 0, total
        if not self.causal:
            return low, min(total, last + self.window) if self.window else total
        if self.also is not None:
            return low, total
        high = last
        if self.block:
            high = (high - self.block_start) // self.block * self.block + self.block + self.block_start - 1
        return low, min(total, max(high + 1, self.prefix))

    def visible(self, p: mx.array, k: mx.array, base: mx.array) -> mx.array:
        """bool [B, T, N] for queries at `p` [B, T] and keys at `k` [B, N]; `base` [B, 1]: where the new rows begin."""
        if self.noised:
            return self._visible_noised(p, k)
        p, k = p[..., :, None], k[..., None, :]
        upper = p if self.causal else p + (self.window - 1 if self.window else FAR)
        if self.block:
            upper = mx.floor_divide(p - self.block_start, self.block) * self.block + (self.block + self.block_start - 1)
        if self.prefix:
            upper = mx.maximum(upper, self.prefix - 1)
        visible = k <= upper
        if self.also is not None:
            visible = visible | self._besides(p, k, base)
        if self.window:
            near = p - k < self.window
            visible = visible & ((near | (k < self.keep)) if self.keep else near)
        if self.documents is not None:
            ids = self.documents
            last = ids.shape[1] - 1
            of_p, of_k = (mx.take_along_axis(ids, mx.clip(x.reshape(x.shape[0], -1), 0, last), 1) for x in (p, k))
            visible = visible & (of_p[..., :, None] == of_k[..., None, :])
        if self.tree is not None:
            node = k - base[..., None]
            t = self.tree.shape[1]
            index = mx.broadcast_to(mx.clip(node, 0, t - 1), (self.tree.shape[0], t, k.shape[-1]))
            words = mx.take_along_axis(self.tree, index // 32, axis=2)
            bits = (words >> (index % 32).astype(mx.uint32)) & 1
            visible = mx.where(node < 0, visible, (node < t) & (bits == 1))
        return visible

    def _visible_noised(self, p: mx.array, k: mx.array) -> mx.array:
        """bool [B, T, N] for whole rows, each a noised text and the text: a position by document, half, block."""
        halves = [length // 2 for length in self.lengths or (k.shape[-1],)]
        sides = [(i, clean, n) for i, n in enumerate(halves) for clean in (0, 1)]
        blocks = mx.concatenate([mx.floor_divide(mx.arange(n), self.block) for n in halves for _ in "12"])
        text = mx.concatenate([mx.full((n,), i, dtype=mx.int32) for i, _, n in sides])
        clean = mx.concatenate([mx.full((n,), bool(side)) for _, side, n in sides])
        (bp, bk), (tp, tk), (cp, ck) = ((x[p][..., :, None], x[k][..., None, :]) for x in (blocks, text, clean))
        visible: mx.array = (tp == tk) & (((bp == bk) & (cp == ck)) | ((bk < bp) & ck))
        return visible

    def _besides(self, p: mx.array, k: mx.array, base: mx.array) -> mx.array:
        """`also` at queries [B, T, 1] and keys [B, 1, N]; nothing of rows before the new ones."""
        assert self.also is not None
        t = self.also.shape[1]
        row, column = (mx.clip(at - base[..., None], 0, t - 1) for at in (p, k))
        b = mx.arange(self.also.shape[0])[:, None, None]
        return self.also[b, row, column] & (k >= base[..., None])


CAUSAL = Mask()
FULL = Mask(causal=False)
