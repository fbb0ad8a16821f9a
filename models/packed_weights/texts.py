"""Texts forth and back through packed weights (`texts.c`): hidden states, losses, and the gradients of low ranks.

A pass over whole texts needs no cache. What it leaves is for one way back. Knows neither mlx nor files.
"""

import copy
import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from likely.metal import packed
from likely.models.errors import CacheError
from likely.models.packed_weights.additions import PackedAdditions, PackedGradients
from likely.models.packed_weights.packed import PackedModel, address


@dataclass
class ReadTexts:
    """Texts that were read, for the way back."""

    lengths: tuple[int, ...]
    after: tuple[int, ...]  # the earlier text that each goes on from, or -1
    states: np.ndarray  # [layers + 1, N, C]: the residual stream before the first layer and after each
    hidden: np.ndarray  # [N, C], which `head` takes
    above: int  # the layer from which on the inside is `kept`
    kept: np.ndarray


class PackedTexts:
    """Passes of a packed model over whole texts."""

    def __init__(self, model: PackedModel) -> None:
        self.model = model
        self._spare: dict[str, np.ndarray] | None = None  # room that passes have left, while it is used again
        library = packed.load()
        assert library is not None
        self._library = library.handle
        for name in ("texts", "losses", "kept"):
            getattr(self._library, f"likely_{name}_floats").restype = ctypes.c_long

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: nobody writes the weights."""
        return self

    def with_additions(self, additions: PackedAdditions | None) -> "PackedTexts":
        """The same with these beside the weights, those of products of layers, without gains."""
        twin = copy.copy(self)
        twin.model = self.model.with_additions(additions)
        return twin

    def read(self, tokens: np.ndarray, lengths: Sequence[int], keep: int = 0, after: Sequence[int] = ()) -> "ReadTexts":
        """Texts of these lengths, which stand in `tokens` [N], read as exactly as with FULL activations.

        `after` as `metal.mask.Mask` has it: the earlier text that each goes on from, or -1.
        Without what is beside the embedding or after layers, and gains. The inside of the uppermost layers is kept, as
        far as `keep` bytes go.
        """
        ids = np.ascontiguousarray(tokens, np.int32)
        self.model.check(ids)
        if sum(lengths) != len(ids) or min(lengths) < 1:
            raise CacheError(f"texts whose lengths add up to {len(ids)} tokens expected, got {sum(lengths)}")
        each, layers = self._library.likely_kept_floats(self.model.struct, len(ids)), self.model.config.layers
        above, stream = min(layers, keep // (4 * each)), len(ids) * self.model.config.width
        read = ReadTexts(
            tuple(lengths),
            tuple(after) or (-1,) * len(lengths),
            self._room("states", (layers + 1) * stream).reshape(layers + 1, len(ids), -1),
            np.empty((len(ids), self.model.config.width), np.float32),
            layers - above,
            self._room("kept", above * each),
        )
        with self._of_texts(read) as (given, work):
            self._library.likely_texts(*given, address(ids), address(read.states), address(read.hidden), address(work))
        return read

    def back(self, read: "ReadTexts", slope: np.ndarray, found: PackedGradients) -> None:
        """From the gradient `slope` [N, C] of the texts' `hidden` to those of the low ranks that are beside; once."""
        slope, gradients = np.array(slope, np.float32), ctypes.c_void_p(found.layers)
        with self._of_texts(read) as (given, work):
            self._library.likely_texts_back(
                *given, found.lowest, address(read.states), address(slope), gradients, address(work)
            )
        self._leave(states=read.states, kept=read.kept)
        read.states = read.kept = np.empty(0, np.float32)

    @contextmanager
    def _of_texts(self, read: "ReadTexts") -> Iterator[tuple[list[Any], np.ndarray]]:
        """Arguments of a pass over texts, and room for it."""
        rows, texts, model = sum(read.lengths), len(read.lengths), self.model.struct
        continued = [n + read.lengths[of] for n, of in zip(read.lengths, read.after, strict=True) if of >= 0]
        longest = max(*read.lengths, *continued, 0)
        self.model.turn(longest)
        each = ctypes.c_int * texts
        work = self._room("work", self._library.likely_texts_floats(model, rows, longest, max(continued, default=0)))
        yield [model, rows, texts, each(*read.lengths), each(*read.after), read.above, address(read.kept)], work
        self._leave(work=work)

    @contextmanager
    def reusing(self) -> Iterator[None]:
        """Let passes over texts take the memory of those before, for as long as the block runs: new pages cost."""
        self._spare = {}
        try:
            yield
        finally:
            self._spare = None

    def _room(self, name: str, count: int) -> np.ndarray:
        """So many floats; of the room that was left by this name, if that is enough."""
        if self._spare is None:
            return np.empty(count, np.float32)
        spare = self._spare.pop(name, None)
        if spare is None or spare.size < count:
            spare = np.empty(4 * count, np.float32)  # what nobody writes is not there
        return spare[:count]

    def _leave(self, **rooms: np.ndarray) -> None:
        if self._spare is not None:
            self._spare |= {name: room.base for name, room in rooms.items() if room.base is not None}

    def losses(self, hidden: np.ndarray, targets: np.ndarray, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
        """-log p of `targets` [n] after `hidden` [n, C], nats, and its gradient; logits have no cap.

        Of each target a share, `smoothing`, is spread over all tokens.
        """
        scale, model = np.float32(self.model.config.logit_scale), self.model.struct
        rows, wanted = np.ascontiguousarray(hidden * scale, np.float32), np.ascontiguousarray(targets, np.int32)
        found, slope = np.empty((len(rows), 4), np.float32), np.empty_like(rows)
        work = np.empty(self._library.likely_losses_floats(model, len(rows)), np.float32)
        given = address(rows), len(rows), address(wanted), ctypes.c_float(smoothing)
        self._library.likely_losses(model, *given, address(found), address(slope), address(work))
        most, total, said, sums = found.T.astype(np.float64)
        lost = most + np.log(total) - (1 - smoothing) * said - smoothing / self.model.config.vocab_size * sums
        return lost.astype(np.float32), slope * scale

    def room(self, lengths: Sequence[int], keep: int = 0) -> tuple[int, int]:
        """Bytes that stay of such texts until they are gone back through, and those of the way back itself."""
        rows, model, layers = sum(lengths), self.model.struct, self.model.config.layers
        each = 4 * self._library.likely_kept_floats(model, rows)
        stream = 4 * rows * self.model.config.width
        inside = 4 * self._library.likely_texts_floats(model, rows, max(lengths), 0) + stream
        return (layers + 2) * stream + min(layers, keep // each) * each, inside
