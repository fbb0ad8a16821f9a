"""`Prefixes`: what a model remembers of texts that it has read, so that the next with the same beginning starts there.

Texts are cut into segments of `SEGMENT` tokens. A segment is known by a hash of the model, the adapter and every token
up to its end, so the segments form a trie that no node has to point through: a child's name follows from its parent's.
Segments stand in memory, and in files if a folder is given, each under a budget of bytes; the least recently used leave
first, ends before beginnings. Knows nothing of text and of who asks.
"""

import hashlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import safetensors
from engine.decode.cursor import Cursor
from engine.errors import CacheError, CheckpointError
from metal import mx
from models.cache import Cache, KVCache

SEGMENT = 64  # tokens
VERSION = "1"
MEMORY = 256 << 20  # bytes
DISK = 1 << 30


@dataclass(frozen=True, slots=True)
class Segment:
    """What all layers hold of `SEGMENT` positions, and the model's last hidden states there."""

    keys: mx.array  # [layers, Hkv, SEGMENT, D]
    values: mx.array
    hidden: mx.array  # [SEGMENT, C]

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + self.hidden.nbytes


class Prefixes:
    """The segments that are kept for one model with one adapter.

    `model` and `adapter` are hashes; `folder`, if given, is shared by all models.
    """

    def __init__(
        self, model: str, adapter: str = "", *, folder: Path | None = None, memory: int = MEMORY, disk: int = DISK
    ) -> None:
        self.model, self.adapter, self.folder = model, adapter, folder
        self.memory, self.disk = memory, disk
        self._segments: OrderedDict[str, Segment] = OrderedDict()  # the most recently used last

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(segment.nbytes for segment in self._segments.values())

    def restore(self, ids: Sequence[int], cursor: Cursor) -> int:
        """Bring a cursor that has read nothing to the longest known beginning of `ids`; how many tokens that is.

        CacheError where a file is damaged or of something else.
        """
        if not suits(cursor.cache):
            return 0
        found: list[Segment] = []
        for name, tokens in self._names(ids):
            segment = self._segments.get(name) or self._load(name, tokens)
            if segment is None:
                break
            found.append(segment)
        if found:
            keys, values = (mx.concatenate([getattr(s, part) for s in found], axis=2) for part in ("keys", "values"))
            for i, layer in enumerate(cursor.cache.layers):
                layer.append(keys[i][None], values[i][None])
            count = SEGMENT * len(found)
            cursor.resume(ids[:count], mx.concatenate([s.hidden for s in found]))
            self._touch(list(self._names(ids[:count])), found)
        return SEGMENT * len(found)

    def keep(self, cursor: Cursor) -> None:
        """Remember what a cursor has read, in whole segments; in vain where its cache forgets or packs what is old."""
        if not suits(cursor.cache):
            return
        names = list(self._names(cursor.ids))
        segments = []
        for i, (name, tokens) in enumerate(names):
            segment = self._segments.get(name)
            if segment is None:
                segment = _cut(cursor, i * SEGMENT)
            if self.folder is not None and not self._file(name).exists():
                self._save(name, segment, tokens)
            segments.append(segment)
        self._touch(names, segments)
        self._bound()

    def _names(self, ids: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
        """Name and tokens of each whole segment of a text."""
        digest = hashlib.blake2b(f"{VERSION} {self.model} {self.adapter}".encode(), digest_size=16)
        for start in range(0, len(ids) - SEGMENT + 1, SEGMENT):
            tokens = list(ids[start : start + SEGMENT])
            digest.update(b"".join(token.to_bytes(4, "little") for token in tokens))
            yield digest.hexdigest(), tokens

    def _touch(self, names: list[tuple[str, list[int]]], segments: list[Segment]) -> None:
        """Mark a path as used, its beginning last, so that ends leave first; in memory as far as the budget goes."""
        now = time.time_ns()  # counted on by hand: a file system's clock is coarse
        for i, ((name, _), segment) in enumerate(zip(reversed(names), reversed(segments), strict=True)):
            self._segments[name] = segment
            self._segments.move_to_end(name)
            if self.folder is not None and (file := self._file(name)).exists():
                os.utime(file, ns=(now + i, now + i))
        while self._segments and self.nbytes > self.memory:
            self._segments.popitem(last=False)

    # -- files ---------------------------------------------------------------------------------------

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"

    def _save(self, name: str, segment: Segment, tokens: list[int]) -> None:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {"format": "likely prefix", "version": VERSION, "model": self.model, "adapter": self.adapter}
        arrays = {"keys": segment.keys, "values": segment.values, "hidden": segment.hidden}
        partial = self.folder / f".{name}.{os.getpid()}.safetensors"
        try:
            mx.save_safetensors(str(partial), arrays, {**metadata, "tokens": json.dumps(tokens)})
            os.replace(partial, self._file(name))
        finally:
            partial.unlink(missing_ok=True)

    def _load(self, name: str, tokens: list[int]) -> Segment | None:
        if self.folder is None or not self._file(name).exists():
            return None
        return read(self._file(name), tokens, model=self.model, adapter=self.adapter)

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


def read(path: Path, tokens: Sequence[int], *, model: str, adapter: str = "") -> Segment:
    """The segment in a file; CacheError if it is damaged, or of another version, model, adapter or text."""
    try:
        safetensors.read_header(path)
        loaded: Any = mx.load(str(path), format="safetensors", return_metadata=True)
    except (CheckpointError, RuntimeError) as error:
        raise CacheError(f"{path} is damaged, remove it: {error}") from error
    arrays, metadata = loaded
    if metadata.get("format") != "likely prefix" or {"keys", "values", "hidden"} - set(arrays):
        raise CacheError(f"{path} is not a prefix written here: remove it")
    wanted = {"version": VERSION, "model": model, "adapter": adapter, "tokens": json.dumps(list(tokens))}
    for name, want in wanted.items():
        if (got := metadata.get(name)) != want:
            of = f"expected {want or 'none'}, got {got or 'none'}" if name != "tokens" else "its tokens are others"
            raise CacheError(f"{path} is of another {name.removesuffix('s')}, remove it: {of}")
    return Segment(arrays["keys"], arrays["values"], arrays["hidden"])


def suits(cache: Cache) -> bool:
    """Whether every position that was read can be taken out of the cache and put into another.

    Not where rows are forgotten, packed or shared, nor where keys were turned by frequencies that depend on the length.
    """
    layers = getattr(cache, "layers", ())  # a model class that is not ours has a cache of its own
    plain = all(type(layer) is KVCache and layer.prefix is None and layer.each is None for layer in layers)
    return bool(layers) and plain and not cache.regime


def _cut(cursor: Cursor, start: int) -> Segment:
    """Positions start..start+SEGMENT of a cursor's cache, in arrays of their own."""

    def rows(part: str) -> mx.array:
        held = [getattr(layer, part)[0, :, start : start + SEGMENT] for layer in cursor.cache.layers]
        return mx.stack(held)

    segment = Segment(rows("keys"), rows("values"), mx.array(cursor.hidden(start, start + SEGMENT)))
    mx.eval(segment.keys, segment.values, segment.hidden)
    return segment
