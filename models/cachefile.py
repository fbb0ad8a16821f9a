"""A cache in a file: its arrays with what they belong to, so that it is never read into another model.

The file is safetensors; its metadata names the format's version, the model's hash, the adapter and the tokens that the
cache stands for. A cache is written to a temporary file first and lands whole or not at all.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metal import mx
from metal.attention import KV, Quantized
from models.cache import Cache, KVCache
from models.errors import CacheError
from models.tail import QuantizedCache, WindowCache

VERSION = "1"
KINDS: dict[str, type[KVCache]] = {kind.__name__: kind for kind in (KVCache, WindowCache, QuantizedCache)}


def save(path: Path, cache: Cache, tokens: Sequence[int], *, model: str, adapter: str = "") -> None:
    """Write `cache`, which holds `tokens`, for a model of this hash with this adapter."""
    if len(tokens) != cache.length:
        raise CacheError(f"the cache holds {cache.length} tokens, got {len(tokens)} to name them")
    arrays: dict[str, mx.array] = {}
    layers = [_describe(layer, str(i), arrays) for i, layer in enumerate(cache.layers)]
    about = {"layers": layers, "regime": cache.regime, "tokens": list(tokens), "names": sorted(arrays)}
    metadata = {"format": "likely cache", "version": VERSION, "model": model, "adapter": adapter}
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.safetensors")
    try:
        mx.save_safetensors(str(temporary), arrays, {**metadata, "about": json.dumps(about)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, *, model: str, adapter: str = "") -> tuple[Cache, list[int]]:
    """The cache in a file and its tokens; CacheError if it is damaged or of another model, adapter or version."""
    metadata = _header(path)
    if metadata.get("format") != "likely cache":
        raise CacheError(f"{path.name} is not a cache written here")
    for name, want in (("version", VERSION), ("model", model), ("adapter", adapter)):
        if (got := metadata.get(name)) != want:
            raise CacheError(f"{path.name} is of another {name}: expected {want or 'none'}, got {got or 'none'}")
    about = json.loads(metadata["about"])
    arrays: Any = mx.load(str(path), format="safetensors")
    if sorted(arrays) != about["names"]:
        raise CacheError(f"{path.name} is damaged: its tensors are not those it names")
    cache = Cache([_restore(fields, str(i), arrays) for i, fields in enumerate(about["layers"])])
    cache.regime = None if about["regime"] is None else tuple(about["regime"])
    return cache, about["tokens"]


def _header(path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file whose tensors all lie inside it: mlx trusts their offsets."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                raise ValueError("truncated")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        if any(not 0 <= a <= b <= size - 8 - length for a, b in (x["data_offsets"] for x in header.values())):
            raise ValueError("truncated")
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{path.name} is damaged or not a cache file") from error
    return dict(metadata)


def _describe(layer: KVCache, at: str, arrays: dict[str, mx.array]) -> dict[str, Any]:
    """A layer's plain fields; its arrays go into `arrays` under names that begin with `at`."""
    if layer.keys is not None and layer.values is not None:
        arrays[f"{at}.keys"], arrays[f"{at}.values"] = layer.keys[:, :, : layer.rows], layer.values[:, :, : layer.rows]
    segments = {}
    for name in layer.SEGMENTS:
        kv: KV | None = getattr(layer, name)
        chain = () if kv is None else kv.chain()
        segments[name] = [_segment(part, f"{at}.{name}{i}", arrays) for i, part in enumerate(chain)]
    plain = {"rows": layer.rows, "each": layer.each, "gone": layer.gone}
    return {"kind": type(layer).__name__, "options": layer.options, "plain": plain, "segments": segments}


def _segment(kv: KV, at: str, arrays: dict[str, mx.array]) -> dict[str, Any]:
    arrays[f"{at}.lengths"] = kv.lengths
    if kv.positions is not None:
        arrays[f"{at}.positions"] = kv.positions[:, : kv.length]
    layout: dict[str, Any] = {"length": kv.length}
    for name, rows in (("keys", kv.keys), ("values", kv.values)):
        if isinstance(rows, Quantized):
            layout[name] = [rows.group_size, rows.bits]
            for part in ("codes", "scales", "biases"):
                arrays[f"{at}.{name}.{part}"] = getattr(rows, part)[:, :, : kv.length]
        else:
            arrays[f"{at}.{name}"] = rows[:, :, : kv.length]
    return layout


def _restore(fields: dict[str, Any], at: str, arrays: dict[str, mx.array]) -> KVCache:
    kind = KINDS.get(fields["kind"])
    if kind is None:
        raise CacheError(f"the file has a cache of an unknown kind {fields['kind']!r}")
    layer = kind(**fields["options"])
    for name, value in fields["plain"].items():
        setattr(layer, name, value)
    layer.keys, layer.values = arrays.get(f"{at}.keys"), arrays.get(f"{at}.values")
    for name in layer.SEGMENTS:
        kv: KV | None = None
        for i, layout in enumerate(fields["segments"][name]):
            kv = _load_segment(layout, f"{at}.{name}{i}", arrays, kv)
        setattr(layer, name, kv)
    return layer


def _load_segment(layout: dict[str, Any], at: str, arrays: dict[str, mx.array], before: KV | None) -> KV:
    def rows(name: str) -> mx.array | Quantized:
        if name not in layout:
            return arrays[f"{at}.{name}"]
        codes, scales, biases = (arrays[f"{at}.{name}.{part}"] for part in ("codes", "scales", "biases"))
        return Quantized(codes, scales, biases, *layout[name])

    lengths, positions = arrays[f"{at}.lengths"], arrays.get(f"{at}.positions")
    return KV(rows("keys"), rows("values"), lengths, layout["length"], False, positions, before)
