"""A Llama-shaped model on packed weights: a forward pass is one call of `metal.packed`, on a CPU.

The arithmetic is that of `models.transformer` in float32, with the same weights to the bit: RMS norms, rotary
positions, grouped-query attention, a gated MLP. `refusal` says which configurations it does not know; those take the
graph. Its cache lives in numpy, in an order that suits the kernels, and keeps the contract of `models.cache`: fork,
select, rewind, freeze. Knows neither mlx nor files.
"""

import ctypes
import math
import mmap
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metal import packed
from metal.packed import LANES, PackedMatrix
from models.checkpoint.keys import refuse_left
from models.config import ModelConfig
from models.errors import CacheError, CheckpointError, ConfigError, ContextOverflow
from models.rope import Rope

if TYPE_CHECKING:
    from models.parts import TensorNames

CHUNK = 256  # tokens of one call: what is between two products stays in the processor's cache
FIRST = 256  # rows of a new buffer
LARGE = 8 << 20  # bytes of a buffer that goes back to the system as soon as it is outgrown
WIDEST, GROUP = 256, 16  # numbers of a head, and heads that share their keys, at most (forward.c)
ACTIVATIONS = ("silu", "gelu_tanh")
BATCH = CHUNK  # texts side by side: a token of each in one call

Weights = Mapping[str, "PackedMatrix | np.ndarray"]


def refusal(c: ModelConfig) -> str | None:
    """The part of this configuration that the call does not know, in a few words; None if it knows all."""
    dims = {(rope.dims, rope.traditional) for rope in c.ropes if rope is not None}
    reasons = {
        f"norms of the kind {c.norm!r}": c.norm not in ("rms", "rms+1"),
        "an MLP without a gate": not c.gated,
        f"the activation {c.activation}": c.activation not in ACTIVATIONS,
        "experts": c.experts is not None,
        "attention beside the MLP": c.parallel,
        "biases past q, k and v": c.out_bias or c.mlp_bias,
        "a cap on scores": c.softcap is not None,
        "a table of positions": bool(c.learned_positions),
        "a norm over all heads": c.qk_norm == "all",
        "rotations of several kinds": len(dims) > 1,
        "frequencies that follow the length": any(rope is not None and rope.varies for rope in c.ropes),
        f"heads of {c.head_size} numbers": c.head_size > WIDEST,
        f"{c.heads // c.kv_heads} heads to a key": c.heads // c.kv_heads > GROUP,
    }
    return next((reason for reason, found in reasons.items() if found), None)


class _Linear(ctypes.Structure):
    """`linear_t` of forward.h."""

    _fields_ = (("parts", ctypes.c_void_p * 3), ("count", ctypes.c_int), ("bias", ctypes.c_void_p))


class _Layer(ctypes.Structure):
    """`layer_t` of forward.h."""

    _fields_ = (
        *((name, _Linear) for name in ("qkv", "out", "gate_up", "down")),
        *((name, ctypes.c_void_p) for name in ("attn_norm", "mlp_norm", "attn_post_norm", "mlp_post_norm")),
        *((name, ctypes.c_void_p) for name in ("q_norm", "k_norm", "turns")),
        ("window", ctypes.c_int),
    )


class _Model(ctypes.Structure):
    """`model_t` of forward.h."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("layers", "width", "heads", "kv_heads", "size", "mlp_width")),
        *((name, ctypes.c_int) for name in ("pairs", "neighbours", "activation")),
        *((name, ctypes.c_float) for name in ("eps", "scale", "embed_scale", "residual_scale")),
        *((name, ctypes.c_void_p) for name in ("layer", "norm", "embed", "head")),
    )


class _Span(ctypes.Structure):
    """`span_t` of forward.h."""

    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("capacity", ctypes.c_int),
        ("length", ctypes.c_int),
    )


class _CText(ctypes.Structure):
    """`text_t` of forward.h."""

    _fields_ = (("spans", ctypes.c_void_p), ("count", ctypes.c_int), ("before", ctypes.c_int))


class _PackedSegment:
    """Keys and values of all layers for some positions of a text; texts that fork share them until they differ."""

    __slots__ = ("__weakref__", "capacity", "holders", "keys", "used", "values")

    def __init__(self, shape: tuple[int, int, int], capacity: int) -> None:
        layers, heads, size = shape
        self.capacity = -(-capacity // LANES) * LANES
        self.keys = _room(layers, heads, self.capacity // LANES, size, LANES)
        self.values = _room(layers, heads, self.capacity, size)
        self.used = 0  # rows that somebody wrote
        self.holders: weakref.WeakSet[_Sequence] = weakref.WeakSet()

    def copied(self, rows: int, capacity: int, shape: tuple[int, int, int]) -> "_PackedSegment":
        """The first `rows` in a buffer of their own."""
        twin = _PackedSegment(shape, capacity)
        panels = -(-rows // LANES)
        twin.keys[:, :, :panels] = self.keys[:, :, :panels]
        twin.values[:, :, :rows] = self.values[:, :, :rows]
        twin.used = rows
        return twin


class _Sequence:
    """One text: frozen spans, which are never written again, and rows of its own behind them."""

    __slots__ = ("__weakref__", "own", "prefix", "rows")

    def __init__(self) -> None:
        self.prefix: tuple[tuple[_PackedSegment, int], ...] = ()
        self.own: _PackedSegment | None = None
        self.rows = 0  # of its own

    @property
    def before(self) -> int:
        return sum(length for _, length in self.prefix)

    @property
    def length(self) -> int:
        return self.before + self.rows

    def fork(self) -> "_Sequence":
        twin = _Sequence()
        twin.prefix, twin.own, twin.rows = self.prefix, self.own, self.rows
        if self.own is not None:
            self.own.holders.add(twin)
        return twin

    def reserve(self, count: int, first: int, shape: tuple[int, int, int]) -> None:
        """Room for `count` more rows that nobody else sees."""
        end = self.rows + count
        if self.own is None:
            self._take(_PackedSegment(shape, max(first, -(-end // FIRST) * FIRST)))
        own = self.own
        assert own is not None
        if len(own.holders) == 1:
            own.used = self.rows
        if end > own.capacity or own.used > self.rows:
            capacity = own.capacity if end <= own.capacity else max(2 * own.capacity, -(-end // FIRST) * FIRST)
            self._take(own.copied(self.rows, capacity, shape))
        assert self.own is not None
        self.own.used = end

    def _take(self, rows: _PackedSegment | None) -> None:
        if self.own is not None:
            self.own.holders.discard(self)
        self.own = rows
        if rows is not None:
            rows.holders.add(self)

    def freeze(self) -> None:
        if self.own is not None and self.rows:
            self.prefix = (*self.prefix, (self.own, self.rows))
            self._take(None)
        self.rows = 0

    def rewind(self, n: int) -> None:
        own = min(n, self.rows)
        self.rows, n = self.rows - own, n - own
        spans = list(self.prefix)
        while n:
            rows, length = spans.pop()
            if n < length:
                spans.append((rows, length - n))
            n -= min(n, length)
        self.prefix = tuple(spans)


class PackedCache:
    """Cache of a `PackedModel`: keys and values of the tokens it has read, of B texts side by side."""

    def __init__(self, shape: tuple[int, int, int], capacity: int = FIRST) -> None:
        """`shape`: layers, Hkv and D."""
        self.shape, self._first = shape, capacity
        self.texts = [_Sequence()]

    @property
    def length(self) -> int:
        """Positions read, the maximum over B."""
        return max(text.length for text in self.texts)

    @property
    def each(self) -> list[int] | None:
        """Positions held by each of B, where they differ."""
        lengths = [text.length for text in self.texts]
        return lengths if min(lengths) != max(lengths) else None

    @property
    def room(self) -> int:
        """How many positions one text can go back."""
        return min(text.length for text in self.texts)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, each once; frozen ones are shared and count for nobody."""
        own = {id(text.own): text.own for text in self.texts if text.own is not None}
        return sum(rows.keys.nbytes + rows.values.nbytes for rows in own.values())

    def spread(self, b: int) -> None:
        """Be B texts, where it was one."""
        if len(self.texts) == 1 and b > 1:
            self.select([0] * b)
        if len(self.texts) != b:
            raise CacheError(f"the cache holds {len(self.texts)} texts, {b} were to be read")

    def select(self, rows: Sequence[int]) -> None:
        """Keep these of B, in this order; a text may be taken several times."""
        self.texts = [self.texts[i].fork() for i in rows]

    def rewind(self, n: int | Sequence[int]) -> None:
        """Forget the last n positions, or as many of each of B; CacheError, with nothing touched, if that cannot be."""
        back = [n] * len(self.texts) if isinstance(n, int) else list(n)
        if len(back) != len(self.texts):
            raise CacheError(f"rewind needs a number for each of {len(self.texts)} rows, got {len(back)}")
        for count, text in zip(back, self.texts, strict=True):
            if not 0 <= count <= text.length:
                raise CacheError(f"cannot go back {count} positions: {text.length} are held")
        for count, text in zip(back, self.texts, strict=True):
            text.rewind(count)

    def fork(self) -> "PackedCache":
        """A second cache with the same content; the first to write past the common rows keeps the buffer."""
        twin = PackedCache(self.shape, self._first)
        twin.texts = [text.fork() for text in self.texts]
        return twin

    def freeze(self) -> None:
        """Turn what is held into a prefix that is never written again, so that forks of it and `select` share it."""
        if self.each is not None:
            raise CacheError("rows of different lengths cannot be frozen into one prefix")
        for text in self.texts:
            text.freeze()

    def reserve(self, t: int) -> None:
        """Room for T more rows of each of B."""
        for text in self.texts:
            text.reserve(t, self._first, self.shape)

    def needs(self, positions: int) -> int:
        """Bytes that it holds at most when a text of so many positions was read."""
        layers, heads, size = self.shape
        capacity = max(self._first, LANES)
        while capacity < positions:
            capacity *= 2
        return 2 * layers * heads * size * 4 * (-(-capacity // FIRST) * FIRST)

    def taken(self, start: int, end: int, text: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the keys and values [layers, Hkv, end - start, D] of a text's positions start..end-1."""
        layers, heads, size = self.shape
        keys, values = (np.empty((layers, heads, end - start, size), np.float32) for _ in range(2))
        held, begin = self.texts[text], 0
        spans = held.prefix if held.own is None else (*held.prefix, (held.own, held.rows))
        for rows, length in spans:
            low, high = max(start - begin, 0), min(end - begin, length)
            if low < high:
                out = slice(begin + low - start, begin + high - start)
                first, last = low // LANES, -(-high // LANES)
                panels = rows.keys[:, :, first:last].swapaxes(3, 4).reshape(layers, heads, -1, size)
                keys[:, :, out] = panels[:, :, low - first * LANES : high - first * LANES]
                values[:, :, out] = rows.values[:, :, low:high]
            begin += length
        return keys, values

    def put(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Hold these [layers, Hkv, n, D], as `taken` gave them: a text from its beginning. For a cache without one."""
        layers, heads, n, size = keys.shape
        text = self.texts[0]
        assert len(self.texts) == 1 and not text.length
        text.reserve(n, self._first, self.shape)
        assert text.own is not None
        panels = -(-n // LANES)
        padded = np.zeros((layers, heads, panels * LANES, size), np.float32)
        padded[:, :, :n] = keys
        text.own.keys[:, :, :panels] = padded.reshape(layers, heads, panels, LANES, size).swapaxes(3, 4)
        text.own.values[:, :, :n] = values
        text.rows = n


class PackedModel:
    """p(x_i | x_<i) as logits, of packed weights: `hidden`, `head` and, in one call, `step`."""

    def __init__(self, config: ModelConfig, names: "TensorNames", weights: Weights) -> None:
        """`weights` by the checkpoint's names of tensors, matrices packed, vectors float32.

        ConfigError where `refusal` has a reason, CheckpointError where a tensor is missing, has another shape or no
        place.
        """
        if (reason := refusal(config)) is not None:
            raise ConfigError(f"packed weights: {reason} is not known to the decode call")
        self.config = config
        self._weights, self._names = weights, names
        self._kept: list[Any] = []  # what the structs point to
        self._taken: set[str] = set()
        self._tables: dict[Rope, np.ndarray] = {}
        self._ropes = tuple(dict.fromkeys(rope for rope in config.ropes if rope is not None))
        self._turning = threading.Lock()  # twins in other threads share the tables
        c = config
        ropes = [rope for rope in c.ropes if rope is not None]
        self.embed = self._matrix(names.path("embed"), c.vocab_size, c.width)
        self.out = self.embed if c.tied else self._matrix(names.path("head"), c.vocab_size, c.width)
        self._layers = (_Layer * c.layers)(*map(self._layer, range(c.layers)))
        self._struct = _Model(
            c.layers,
            c.width,
            c.heads,
            c.kv_heads,
            c.head_size,
            c.mlp_width,
            ropes[0].dims // 2 if ropes else 0,
            int(bool(ropes) and ropes[0].traditional),
            ACTIVATIONS.index(c.activation),
            c.eps,
            c.scale,
            c.embed_scale,
            c.residual_scale,
            ctypes.addressof(self._layers),
            self._vector(names.path("norm"), c.width),
            ctypes.addressof(self.embed.struct),
            ctypes.addressof(self.out.struct),
        )
        self._done()
        library = packed.load()
        assert library is not None
        self._forward = library.handle.likely_forward
        self._floats = library.handle.likely_forward_floats
        self._forward.restype, self._floats.restype = None, ctypes.c_long

    def make_cache(self, capacity: int = FIRST) -> PackedCache:
        """An empty cache of one text."""
        c = self.config
        return PackedCache((c.layers, c.kv_heads, c.head_size), capacity)

    def __call__(self, tokens: np.ndarray, cache: PackedCache) -> np.ndarray:
        """Logits float32 [B, T, V] after each of `tokens` [B, T], which follow what `cache` holds."""
        b, t = tokens.shape
        return self._run(tokens, cache, range(t)).reshape(b, t, -1)

    def step(self, tokens: np.ndarray, cache: PackedCache) -> np.ndarray:
        """Logits [B, V] after the last of `tokens` [B, T]."""
        return self._run(tokens, cache, [tokens.shape[1] - 1])[:, 0]

    def hidden(self, tokens: np.ndarray, cache: PackedCache) -> np.ndarray:
        """Hidden states, float32 [B, T, C], that `head` takes: after each of `tokens` [B, T], which follow `cache`."""
        b, t = tokens.shape
        out = np.empty((b, t, self.config.width), np.float32)
        for first, part in self._parts(tokens, cache):
            rows = np.empty((*part.shape, self.config.width), np.float32)
            self._call(part, cache, hidden=rows)
            out[:, first : first + part.shape[1]] = rows
        return out

    def head(self, hidden: np.ndarray) -> np.ndarray:
        """Logits [..., V] of hidden states [..., C]."""
        rows = np.ascontiguousarray(hidden, np.float32).reshape(-1, self.config.width)
        return self._scaled(self.out.product(rows)).reshape(*hidden.shape[:-1], -1)

    def _run(self, tokens: np.ndarray, cache: PackedCache, wanted: Sequence[int]) -> np.ndarray:
        """Logits [B, wanted, V]; a long text is read CHUNK rows at a time."""
        c = self.config
        b = len(tokens)
        out = np.empty((b, len(wanted), c.vocab_size), np.float32)
        at = {position: i for i, position in enumerate(wanted)}
        for first, part in self._parts(tokens, cache):
            found = [i for i in range(part.shape[1]) if first + i in at]
            rows = [text * part.shape[1] + i for text in range(b) for i in found]
            logits = np.empty((len(rows), c.vocab_size), np.float32)
            self._call(part, cache, rows, logits)
            if found:
                out[:, [at[first + i] for i in found]] = logits.reshape(b, len(found), -1)
        return self._scaled(out)

    def _parts(self, tokens: np.ndarray, cache: PackedCache) -> Iterator[tuple[int, np.ndarray]]:
        """Tokens [B, n] that one call reads, and the number of the first of T; what cannot be read is refused."""
        b, t = tokens.shape
        if b > BATCH:
            raise CacheError(f"at most {BATCH} texts side by side, got {b}")
        if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.config.vocab_size:
            raise ContextOverflow(
                f"tokens below {self.config.vocab_size} expected, got {tokens.min()} to {tokens.max()}"
            )
        cache.spread(b)
        share = max(1, CHUNK // b)
        for first in range(0, t, share):
            yield first, np.ascontiguousarray(tokens[:, first : first + share], np.int32)

    def _scaled(self, logits: np.ndarray) -> np.ndarray:
        """The same logits as the model wants them, in place."""
        c = self.config
        if c.logit_scale != 1:
            logits *= np.float32(c.logit_scale)
        if c.logit_softcap is not None:
            logits /= np.float32(c.logit_softcap)
            np.tanh(logits, out=logits)
            logits *= np.float32(c.logit_softcap)
        return logits

    def _call(
        self,
        tokens: np.ndarray,
        cache: PackedCache,
        wanted: Sequence[int] = (),
        logits: np.ndarray | None = None,
        hidden: np.ndarray | None = None,
    ) -> None:
        b, t = tokens.shape
        starts = [text.length for text in cache.texts]
        self._turn(max(starts) + t)
        cache.reserve(t)
        spans = [list(_spans(text)) for text in cache.texts]
        flat = (_Span * sum(map(len, spans)))(*(span for some in spans for span in some))
        texts, at = (_CText * b)(), 0
        for i, (some, text) in enumerate(zip(spans, cache.texts, strict=True)):
            texts[i] = _CText(ctypes.addressof(flat) + at * ctypes.sizeof(_Span), len(some), text.before)
            at += len(some)
        text_of = np.repeat(np.arange(b, dtype=np.int32), t)
        position = (np.array(starts, np.int32)[:, None] + np.arange(t, dtype=np.int32)).reshape(-1)
        rows, model = b * t, ctypes.byref(self._struct)
        picked = np.array(wanted, np.int32)
        tasks = np.empty(2 * rows, np.int32)
        work = np.empty(self._floats(model, rows, int(position.max()) + 1), np.float32)
        self._forward(
            model,
            rows,
            _at(tokens),
            _at(text_of),
            _at(position),
            ctypes.byref(texts),
            None if hidden is None else _at(hidden),
            _at(picked),
            len(wanted),
            None if logits is None else _at(logits),
            _at(tasks),
            _at(work),
        )
        for text in cache.texts:
            text.rows += t

    def _turn(self, length: int) -> None:
        """Angles for positions below `length`. A table that is outgrown is kept: another thread may be reading it."""
        with self._turning:
            self._grow_tables(length)

    def _grow_tables(self, length: int) -> None:
        for rope in self._ropes:
            have = self._tables.get(rope)
            if have is not None and len(have) >= length:
                continue
            positions = np.arange(max(1024, 1 << (length - 1).bit_length()), dtype=np.float32)
            frequencies = np.array([1 / period for period in rope.periods(length)], np.float32)
            angles = positions[:, None] * frequencies
            table = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.float32(rope.attention_factor)
            self._tables[rope] = table = np.ascontiguousarray(table, np.float32)
            self._kept.append(table)
            for layer, own in zip(self._layers, self.config.ropes, strict=True):
                if own == rope:
                    layer.turns = table.ctypes.data

    def _layer(self, index: int) -> _Layer:
        c, names = self.config, self._names
        q, kv = c.heads * c.head_size, c.kv_heads * c.head_size

        def norm(name: str, width: int) -> int | None:
            return self._vector(names.path(name, index), width) if names.has(name) else None

        def joined(whole: str, parts: Mapping[str, int]) -> dict[str, int]:
            """Paths and outputs of a product that a family may keep as one matrix."""
            sizes = {whole: sum(parts.values())} if names.has(whole) else parts
            return {names.path(part, index): rows for part, rows in sizes.items()}

        return _Layer(
            qkv=self._linear(joined("qkv", {"q": q, "k": kv, "v": kv}), c.width, c.qkv_bias),
            out=self._linear({names.path("o", index): c.width}, q),
            gate_up=self._linear(joined("gate_up", {"gate": c.mlp_width, "up": c.mlp_width}), c.width),
            down=self._linear({names.path("down", index): c.width}, c.mlp_width),
            attn_norm=norm("attn_norm", c.width),
            mlp_norm=norm("mlp_norm", c.width),
            attn_post_norm=norm("attn_post_norm", c.width),
            mlp_post_norm=norm("mlp_post_norm", c.width),
            q_norm=norm("q_norm", c.head_size) if c.qk_norm else None,
            k_norm=norm("k_norm", c.head_size) if c.qk_norm else None,
            window=c.windows[index],
        )

    def _linear(self, parts: Mapping[str, int], columns: int, bias: bool = False) -> _Linear:
        found = [self._matrix(path, rows, columns) for path, rows in parts.items()]
        made = _Linear(count=len(found))
        for i, matrix in enumerate(found):
            made.parts[i] = ctypes.addressof(matrix.struct)
        if bias:
            joined = np.concatenate([self._numbers(f"{path}.bias", rows) for path, rows in parts.items()])
            self._kept.append(joined)
            made.bias = joined.ctypes.data
        return made

    def _matrix(self, path: str, rows: int, columns: int) -> PackedMatrix:
        found = self._weights.get(f"{path}.weight")
        if not isinstance(found, PackedMatrix) or found.shape != (rows, columns):
            have = "nothing" if found is None else f"{type(found).__name__} {list(found.shape)}"
            raise CheckpointError(f"weights: {path}.weight must be a packed matrix [{rows}, {columns}], got {have}")
        self._kept.append(found)
        self._taken.add(f"{path}.weight")
        return found

    def _vector(self, path: str, width: int) -> int:
        numbers = self._numbers(f"{path}.weight", width)
        if self.config.norm == "rms+1":
            numbers = numbers + np.float32(1)
        self._kept.append(numbers)
        return int(numbers.ctypes.data)

    def _numbers(self, name: str, width: int) -> np.ndarray:
        found = self._weights.get(name)
        if not isinstance(found, np.ndarray) or found.shape != (width,):
            have = "nothing" if found is None else f"{type(found).__name__} {list(found.shape)}"
            raise CheckpointError(f"weights: {name} must be [{width}] by the config, got {have}")
        self._taken.add(name)
        return np.ascontiguousarray(found, np.float32)

    def _done(self) -> None:
        """Refuse tensors that no part of the model took, as the graph does."""
        head = f"{self._names.path('head')}." if self.config.tied else None
        left = self._weights.keys() - self._taken
        refuse_left({name: self._weights[name].shape for name in left if head is None or not name.startswith(head)})


def _room(*shape: int) -> np.ndarray:
    """Float32 that begins at a cache line. What is in it is no row, and no row is made of it.

    What is large has pages of its own: the allocator would keep those of every buffer that a text has outgrown.
    """
    nbytes = 4 * math.prod(shape)
    if nbytes < LARGE:
        return packed.aligned(nbytes).view(np.float32).reshape(shape)
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, np.float32).reshape(shape)


def _spans(text: _Sequence) -> Iterator[_Span]:
    assert text.own is not None
    for rows, length in (*text.prefix, (text.own, text.rows)):
        yield _Span(rows.keys.ctypes.data, rows.values.ctypes.data, rows.capacity, length)


def _at(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
