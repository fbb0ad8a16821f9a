"""`Prefixes`: what a model remembers of texts that it has read, so that the next with the same beginning starts there.

A text is cut into segments, the last of which may be shorter. A segment is known by a hash of the model, the adapter,
the kind of cache and every token up to its end, so the segments form a trie that no node has to point through: a
child's name follows from its parent's. Segments stand in memory, and in files if a folder is given, each under a budget
of bytes; the least recently used leave first, ends before beginnings. Knows nothing of text and of who asks.

A text that goes on from here gets the very tokens that it would get without. Windows let rows go, so segments are taken
while a text is being read, and hold all their rows. Where rows are packed, when they were packed decides what later
tokens see: segments are as long as what is read at once, and are taken only from texts that were read in one go. Keys
turned with frequencies that depend on the text's length are known by those, too.
"""

import hashlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from likely.engine.base.errors import CacheError, CheckpointError
from likely.engine.base.files import foreign_json
from likely.engine.decode.loop.branches import Branches, ahead, chunk
from likely.engine.weights.sources import array_file
from likely.metal import mx
from likely.models.caches.kv_cache import Cache

SEGMENT = 64  # tokens, where rows are what they were whatever was read with them; else what is read at once
VERSION = "3"
MEMORY = 256 << 20  # bytes
DISK = 1 << 30


@dataclass(frozen=True, slots=True)
class PrefixSegment:
    """Keys and values of all layers at some positions, and the model's last hidden states there."""

    arrays: dict[str, mx.array]  # [layers, Hkv, rows, ...] by "class.name"; "hidden" [T, C]
    regime: tuple[int, ...] | None  # which frequencies its keys were turned with

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def tokens(self) -> int:
        return self.arrays["hidden"].shape[0]


@dataclass(frozen=True, slots=True)
class TrieEntry:
    """A segment's entry in the trie."""

    name: str
    start: int
    tokens: list[int]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


class Prefixes:
    """The segments that are kept for one model with one adapter.

    `model` and `adapter` are hashes; `folder`, if given, is shared by all models. Where it cannot be written, `tell`
    hears so once, and only memory is used from then on.
    """

    def __init__(
        self,
        model: str,
        adapter: str = "",
        *,
        folder: Path | None = None,
        memory: int = MEMORY,
        disk: int = DISK,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._tell = tell
        self.model, self.adapter, self.folder = model, adapter, folder
        self.memory, self.disk = memory, disk
        self._segments: OrderedDict[str, PrefixSegment] = OrderedDict()  # the most recently used last
        self._flying: list[tuple[TrieEntry, PrefixSegment]] = []  # not in a file yet: writing would wait for them

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(segment.nbytes for segment in self._segments.values())

    def forget(self) -> None:
        """Keep nothing that is in memory, nor what was on its way to a file."""
        self._segments.clear()
        self._flying.clear()

    def restore(self, ids: Sequence[int], branch: Branches) -> int:
        """Bring a branch that has read nothing to the longest known beginning of `ids`; how many tokens that is.

        A file that is damaged or of something else counts as none, is said once, and is written anew.
        """
        path, segments = [], []
        for entry in self._entries(ids, branch, len(ids)):
            segment = self._segments.get(entry.name) or self._load(entry)
            if segment is None:
                break
            path.append(entry)
            segments.append(segment)
        if not segments:
            return 0
        count = path[-1].end
        _paste(segments, branch.cache)
        branch.resume(ids[:count], mx.concatenate([segment.arrays["hidden"] for segment in segments]))
        for entry, segment in zip(path, segments, strict=True):
            self._segments[entry.name] = segment
        self._used(path)
        return count

    def keep(self, branch: Branches) -> None:
        """Remember what a branch has read of the text that it is reading; to be called after each chunk."""
        if not branch.straight and not branch.free:
            return
        path, fresh = [], []
        for entry in self._entries(branch.ids[0], branch, branch.cache.expected):
            if entry.name not in self._segments and not self._stored(entry):
                segment = _cut(branch, entry)
                if segment is None:
                    break
                self._segments[entry.name] = segment
                fresh.append((entry, segment))
            path.append(entry)
        ready, self._flying = self._flying, fresh
        if not ahead() or len(branch.ids[0]) >= branch.cache.expected:
            ready, self._flying = [*ready, *fresh], []
        with self._files():
            for entry, segment in ready:
                self._save(entry, segment)
        self._used(path)
        with self._files():
            self._bound()

    def _entries(self, ids: Sequence[int], branch: Branches, total: int) -> Iterator[TrieEntry]:
        """The segments of a text of `total` tokens that begins with `ids`, as far as that is whole segments."""
        layers = getattr(branch.cache, "layers", ())  # a model class that is not ours has a cache of its own
        if not layers:
            return
        kinds = [f"{type(layer).__name__} {layer.kind}" for layer in layers]
        regimes = [rotation.rope.regime(total) for rotation in branch.model.rotations]
        size = SEGMENT if all(layer.EXACT for layer in layers) else chunk()
        digest = hashlib.blake2b(
            json.dumps([VERSION, self.model, self.adapter, kinds, regimes]).encode(), digest_size=16
        )
        for start in range(0, len(ids), size):
            tokens = list(ids[start : start + size])
            if len(tokens) < size and len(ids) < total:
                return
            digest.update(np.asarray(tokens, np.uint32).tobytes())
            yield TrieEntry(digest.hexdigest(), start, tokens)

    def _used(self, path: Sequence[TrieEntry]) -> None:
        """Mark a path as used, its beginning last, so that ends leave first; in memory as far as the budget goes."""
        now = time.time_ns()  # counted on by hand: a file system's clock is coarse
        for i, entry in enumerate(reversed(path)):
            if entry.name in self._segments:
                self._segments.move_to_end(entry.name)
            with self._files():
                if self._stored(entry):
                    os.utime(self._file(entry), ns=(now + i, now + i))
        while self._segments and self.nbytes > self.memory:
            self._segments.popitem(last=False)

    # -- files ---------------------------------------------------------------------------------------

    @contextmanager
    def _files(self) -> Iterator[None]:
        """No answer is lost for files that only save time: where they cannot be written they are left alone."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # RuntimeError: mlx's own writer
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            folder, self.folder = self.folder, None
            self._tell(f"prefixes are not kept from here on: {folder} cannot be written ({reason})")

    def _file(self, entry: TrieEntry) -> Path:
        assert self.folder is not None
        return self.folder / f"{entry.name}.safetensors"

    def _stored(self, entry: TrieEntry) -> bool:
        return self.folder is not None and os.path.exists(self._file(entry))  # False where it may not be looked at

    def _save(self, entry: TrieEntry, segment: PrefixSegment) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {"format": "likely prefix", "version": VERSION, "model": self.model, "adapter": self.adapter}
        metadata |= {"tokens": json.dumps(entry.tokens), "regime": json.dumps(segment.regime)}
        partial = self.folder / f".{entry.name}.{os.getpid()}.safetensors"
        try:
            mx.save_safetensors(str(partial), segment.arrays, metadata)
            os.replace(partial, self._file(entry))
        finally:
            partial.unlink(missing_ok=True)

    def _load(self, entry: TrieEntry) -> PrefixSegment | None:
        if not self._stored(entry):
            return None
        try:
            return read(self._file(entry), entry.tokens, model=self.model, adapter=self.adapter)
        except CacheError as error:
            self._tell(f"a prefix is read again: {error}")
            with self._files():
                self._file(entry).unlink(missing_ok=True)
            return None

    def _bound(self) -> None:
        """Delete the files that were not used for longest until the folder is within its budget."""
        if self.folder is None or not self.folder.exists():
            return
        files = sorted(self.folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
        total = sum(file.stat().st_size for file in files)
        for file in files:
            if total <= self.disk:
                return
            total -= file.stat().st_size
            file.unlink()


def read(path: Path, tokens: Sequence[int], *, model: str, adapter: str = "") -> PrefixSegment:
    """The segment in a file; CacheError if it is damaged, or of another version, model, adapter or text."""
    try:
        arrays, metadata = array_file.read(path)
    except CheckpointError as error:
        raise CacheError(f"{path} is damaged, remove it") from error
    if metadata.get("format") != "likely prefix":
        raise CacheError(f"{path} is not a prefix written here: remove it")
    wanted = {"version": VERSION, "model": model, "adapter": adapter, "tokens": json.dumps(list(tokens))}
    for name, want in wanted.items():
        if (got := metadata.get(name)) != want:
            of = f"expected {want or 'none'}, got {got or 'none'}" if name != "tokens" else "its tokens are others"
            raise CacheError(f"{path} is of another {name.removesuffix('s')}, remove it: {of}")
    try:
        regime = foreign_json.parse(metadata["regime"], (None, [int]))
        if arrays["hidden"].shape[:1] != (len(tokens),):
            raise ValueError("its hidden states are of other tokens")
    except (KeyError, ValueError) as error:
        raise CacheError(f"{path} is damaged, remove it") from error
    return PrefixSegment(arrays, None if regime is None else tuple(regime))


def _cut(branch: Branches, entry: TrieEntry) -> PrefixSegment | None:
    """A segment of what a branch has read, in arrays of its own; None where its cache does not hold it."""
    by_name: dict[str, list[mx.array]] = {}
    for layer in branch.cache.layers:
        part = layer.cut(entry.start, entry.end)
        if part is None:
            return None
        for name, array in part.items():
            by_name.setdefault(f"{type(layer).__name__}.{name}", []).append(array)
    arrays = {name: mx.concatenate(parts) for name, parts in by_name.items()}
    arrays["hidden"] = mx.array(branch.hidden(entry.start, entry.end)[0])
    (mx.async_eval if ahead() else mx.eval)(list(arrays.values()))
    return PrefixSegment(arrays, branch.cache.regime)


def _paste(segments: Sequence[PrefixSegment], cache: Cache) -> None:
    """Put the segments of a text into an empty cache."""
    ends = np.cumsum([segment.tokens for segment in segments]).tolist()
    counts: dict[str, int] = {}
    for layer in cache.layers:
        kind = type(layer).__name__
        i = counts[kind] = counts.get(kind, -1) + 1  # the layers of a kind stand in one array
        parts = [
            {
                name.removeprefix(f"{kind}."): a[i : i + 1]
                for name, a in segment.arrays.items()
                if name.startswith(f"{kind}.")
            }
            for segment in segments
        ]
        layer.paste(parts, ends)
    cache.regime = segments[0].regime
