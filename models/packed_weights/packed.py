"""A Llama-shaped model on packed weights: a forward pass is one call of `metal.packed`, on a CPU.

The arithmetic is that of `models.transformer` in float32, with the same weights to the bit: RMS norms, rotary
positions, grouped-query attention, a gated MLP. `refusal` says which configurations it does not know; those take the
graph. Its cache is `models.packed_cache`'s. Knows neither mlx nor files.
"""

import copy
import ctypes
import sys
import threading
from array import array
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.metal import packed
from likely.metal.packed import EIGHT, FEW_BITS, FULL, PackedMatrix
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import refuse_left
from likely.models.configuration.rope import Rope
from likely.models.errors import CacheError, CheckpointError, ConfigError, ContextOverflow
from likely.models.packed_weights.additions import EMBED, HEAD, PRODUCTS, PackedAdditions
from likely.models.packed_weights.cache import FIRST, PackedCache, RowShape, described

if TYPE_CHECKING:
    from likely.models.modules.parts import TensorNames

CHUNK = 256  # tokens of one call: what is between two products stays in the processor's cache
WIDEST, GROUP = 256, 16  # numbers of a head, and heads that share their keys, at most (forward.c)
ACTIVATIONS = ("silu", "gelu_tanh")
BATCH = CHUNK  # texts side by side: a token of each in one call

READ = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj")

Weights = Mapping[str, "PackedMatrix | np.ndarray"]


def in_order(name: str) -> tuple[int, int]:
    """A key that sorts tensors, by name, as a pass reads them: what lies behind another is fetched with it."""
    parts = name.split(".")
    layer = next((int(part) for part in parts if part.isdigit()), sys.maxsize)
    return layer, next((READ.index(part) for part in parts if part in READ), len(READ))


def refusal(c: ModelConfig) -> str | None:
    """The part of this configuration that the call does not know, in a few words; None if it knows all."""
    dims = {(rope.dims, rope.traditional) for rope in c.ropes if rope is not None}
    reasons = {
        f"norms of the kind {c.norm!r}": c.norm not in ("rms", "rms+1"),
        "an MLP without a gate": not c.gated,
        f"the activation {c.activation}": c.activation not in ACTIVATIONS,
        "experts": c.experts is not None,
        "attention both ways": c.diffusion is not None,
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
    return next((reason for reason, applies in reasons.items() if applies), None)


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
        *((name, ctypes.c_int) for name in ("pairs", "neighbours", "activation", "activation_bits")),
        *((name, ctypes.c_float) for name in ("eps", "scale", "embed_scale", "residual_scale")),
        *((name, ctypes.c_void_p) for name in ("layer", "norm", "embed", "head")),
        *((name, ctypes.c_void_p) for name in ("additions", "beside_embed", "beside_head")),
    )


class PackedModel:
    """p(x_i | x_<i) as logits, of packed weights: `hidden`, `head` and, in one call, `step`."""

    def __init__(self, config: ModelConfig, names: "TensorNames", weights: Weights) -> None:
        """`weights` by the checkpoint's names of tensors, matrices packed, vectors float32; activations are FULL.

        ConfigError where `refusal` has a reason; CheckpointError where a tensor is missing, has another shape or no
        place.
        """
        if (reason := refusal(config)) is not None:
            raise ConfigError(f"packed weights: {reason} is not known to the decode call")
        self.config, self.activation_bits = config, FULL
        self._weights, self._names = weights, names
        self._kept: list[Any] = []  # what the structs point to
        self._taken: set[str] = set()
        self._tables: dict[Rope, np.ndarray] = {}
        self._ropes = tuple(dict.fromkeys(rope for rope in config.ropes if rope is not None))
        self._turned = 0  # positions that the tables are known to have
        self._turning = threading.Lock()  # twins in other threads share the tables
        c = config
        self.embed = self._matrix(names.path("embed"), c.vocab_size, c.width)
        self.out = self.embed if c.tied else self._matrix(names.path("head"), c.vocab_size, c.width)
        self._norm = self._weights_of(names.path("norm"), c.width)
        self._layers = (_Layer * c.layers)(*map(self._layer, range(c.layers)))
        self._struct = _Model(
            c.layers,
            c.width,
            c.heads,
            c.kv_heads,
            c.head_size,
            c.mlp_width,
            self._ropes[0].dims // 2 if self._ropes else 0,
            int(bool(self._ropes) and self._ropes[0].traditional),
            ACTIVATIONS.index(c.activation),
            self.activation_bits,
            c.eps,
            c.scale,
            c.embed_scale,
            c.residual_scale,
            ctypes.addressof(self._layers),
            self._norm.ctypes.data,
            ctypes.addressof(self.embed.struct),
            ctypes.addressof(self.out.struct),
        )
        self._done()
        library = packed.load()
        assert library is not None
        self._forward = library.handle.likely_forward
        self._floats, self._head = library.handle.likely_forward_floats, library.handle.likely_head
        self._arranged = library.handle.likely_arranged
        self._forward.restype, self._floats.restype, self._head.restype = None, ctypes.c_long, None
        self.additions: PackedAdditions | None = None

    def with_activations(self, bits: int) -> "PackedModel":
        """The model with activations of so many bits over these weights.

        ConfigError where EIGHT gain nothing: on this processor, or with none of these weights.
        """
        layouts = {matrix.layout for matrix in self._weights.values() if isinstance(matrix, PackedMatrix)}
        if bits == EIGHT and not layouts & {*FEW_BITS}:
            raise ConfigError(
                f"8-bit activations are for weights of 4 and 5 bits, and this model has none (it has "
                f"{', '.join(sorted(layouts))}): leave its activations exact"
            )
        library = packed.load()
        if bits == EIGHT and library is not None and not library.rounds:
            raise ConfigError(
                "8-bit activations are for processors with AVX2 or AVX-512's VNNI, and products here are "
                f"{library.kernels}'s: leave activations exact"
            )
        twin = self._twin()
        twin.activation_bits = twin._struct.activation_bits = bits
        return twin

    def with_additions(self, additions: PackedAdditions | None) -> "PackedModel":
        """The model with these additions beside its weights, in the place of others; None: the weights alone."""
        twin = self._twin()
        twin.additions = additions
        for field, of in (("additions", "layers"), ("beside_embed", "embed"), ("beside_head", "head")):
            setattr(twin._struct, field, additions and getattr(additions, of))
        return twin

    @property
    def outputs(self) -> dict[str, int]:
        """Of each product, as additions name them."""
        c = self.config
        sizes = (c.heads + 2 * c.kv_heads) * c.head_size, c.width, 2 * c.mlp_width, c.width
        return dict(zip(PRODUCTS, sizes, strict=True)) | {EMBED: c.width, HEAD: c.vocab_size}

    def make_cache(self, capacity: int = FIRST) -> PackedCache:
        """An empty cache of one text; its numbers are float32 where activations are FULL, float16 else."""
        c = self.config
        dtype = np.dtype(np.float32 if self.activation_bits == FULL else np.float16)
        return PackedCache(RowShape(c.layers, c.kv_heads, c.head_size, dtype), capacity)

    def __call__(self, tokens: np.ndarray, cache: PackedCache) -> np.ndarray:
        """Logits float32 [B, T, V] after each of `tokens` [B, T], which follow what `cache` holds."""
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: np.ndarray, cache: PackedCache) -> np.ndarray:
        """Hidden states, float32 [B, T, C], that `head` takes: after each of `tokens` [B, T], which follow `cache`."""
        return self._read(tokens, cache)

    def states(self, tokens: np.ndarray, cache: PackedCache) -> tuple[np.ndarray, np.ndarray]:
        """The residual stream [layers + 1, B, T, C], before the first layer and after each, and `hidden`."""
        states = np.empty((self._struct.layers + 1, *tokens.shape, self.config.width), np.float32)
        return states, self._read(tokens, cache, states)

    @property
    def struct(self) -> Any:
        """The model as the library's functions take it."""
        return ctypes.byref(self._struct)

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        return sum(matrix.nbytes for matrix in self._weights.values())

    def _read(self, tokens: np.ndarray, cache: PackedCache, states: np.ndarray | None = None) -> np.ndarray:
        """`hidden`, and `states` filled."""
        out = np.empty((*tokens.shape, self.config.width), np.float32)
        for first, part in self._parts(tokens, cache):
            whole = part.shape == tokens.shape
            rows = out if whole else np.empty((*part.shape, self.config.width), np.float32)
            below = None if states is None else np.empty((len(states), *rows.shape), np.float32)
            self._call(part, cache, rows, below)
            end = first + part.shape[1]
            if not whole:
                out[:, first:end] = rows
            if states is not None:
                states[:, :, first:end] = below
        return out

    def lower(self, layers: int) -> "PackedModel":
        """The first layers alone: of a cache that it read none of the others can read on."""
        twin = self._twin()
        twin._struct.layers = layers
        return twin

    def _twin(self) -> "PackedModel":
        """A second one with a struct of its own; layers and tables of angles are shared."""
        twin = copy.copy(self)
        twin._struct = _Model.from_buffer_copy(self._struct)
        return twin

    def lens(self, hidden: np.ndarray) -> np.ndarray:
        """Logits [..., V] as if the layers after `hidden` [..., C] did nothing."""
        square = np.mean(np.square(hidden), axis=-1, keepdims=True)
        return self.head(hidden / np.sqrt(square + np.float32(self.config.eps)) * self._norm)

    def head(self, hidden: np.ndarray) -> np.ndarray:
        """Logits [..., V] of hidden states [..., C]."""
        rows = np.ascontiguousarray(hidden, np.float32).reshape(-1, self.config.width)
        logits = np.empty((len(rows), self.config.vocab_size), np.float32)
        if len(rows):
            wide = max(self.config.width, self.additions.head_ranks if self.additions else 0)
            work = np.empty(self._arranged(len(rows), wide), np.float32)
            self._head(ctypes.byref(self._struct), address(rows), len(rows), address(logits), address(work))
        return self._scaled(logits).reshape(*hidden.shape[:-1], -1)

    def _parts(self, tokens: np.ndarray, cache: PackedCache) -> Iterator[tuple[int, np.ndarray]]:
        """Tokens [B, n] that one call reads, and the number of the first of T; what cannot be read is refused."""
        b, t = tokens.shape
        if b > BATCH:
            raise CacheError(f"at most {BATCH} texts side by side, got {b}")
        self.check(tokens)
        cache.spread(b)
        share = max(1, CHUNK // b)
        for first in range(0, t, share):
            yield first, np.ascontiguousarray(tokens[:, first : first + share], np.int32)

    def check(self, tokens: np.ndarray) -> None:
        """ContextOverflow where one is none of the vocabulary."""
        ids = tokens.reshape(-1).tolist()
        if ids and not 0 <= min(ids) <= max(ids) < self.config.vocab_size:
            raise ContextOverflow(f"tokens below {self.config.vocab_size} expected, got {min(ids)} to {max(ids)}")

    def _scaled(self, logits: np.ndarray) -> np.ndarray:
        """The logits with the model's scale and cap, in place."""
        c = self.config
        if c.logit_scale != 1:
            logits *= np.float32(c.logit_scale)
        if c.logit_softcap is not None:
            logits /= np.float32(c.logit_softcap)
            np.tanh(logits, out=logits)
            logits *= np.float32(c.logit_softcap)
        return logits

    def _call(
        self, tokens: np.ndarray, cache: PackedCache, hidden: np.ndarray, states: np.ndarray | None = None
    ) -> None:
        b, t = tokens.shape
        starts = [text.length for text in cache.texts]
        positions = max(starts) + t
        self.turn(positions)
        cache.reserve(t)
        texts, _spans = described(cache.texts)  # `_spans` are what `texts` point to
        rows, model = b * t, ctypes.byref(self._struct)
        text_of = array("i", [i for i in range(b) for _ in range(t)])
        position = array("i", [start + i for start in starts for i in range(t)])
        tasks = (ctypes.c_int * (2 * rows))()
        work = np.empty(self._floats(model, rows, positions), np.float32)
        self._forward(
            model,
            rows,
            address(tokens),
            ctypes.c_void_p(text_of.buffer_info()[0]),
            ctypes.c_void_p(position.buffer_info()[0]),
            texts,
            address(hidden),
            None if states is None else address(states),
            tasks,
            address(work),
        )
        for text in cache.texts:
            text.rows += t

    def turn(self, length: int) -> None:
        """Angles for positions below `length`. A table that is outgrown is kept: another thread may be reading it."""
        if length > self._turned:
            with self._turning:
                self._grow_tables(length)
            self._turned = min((len(self._tables[rope]) for rope in self._ropes), default=length)

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
        matrices = [self._matrix(path, rows, columns) for path, rows in parts.items()]
        linear = _Linear(count=len(matrices))
        for i, matrix in enumerate(matrices):
            linear.parts[i] = ctypes.addressof(matrix.struct)
        if bias:
            joined = np.concatenate([self._numbers(f"{path}.bias", rows) for path, rows in parts.items()])
            self._kept.append(joined)
            linear.bias = joined.ctypes.data
        return linear

    def _matrix(self, path: str, rows: int, columns: int) -> PackedMatrix:
        stored = self._weights.get(f"{path}.weight")
        if not isinstance(stored, PackedMatrix) or stored.shape != (rows, columns):
            have = "nothing" if stored is None else f"{type(stored).__name__} {list(stored.shape)}"
            raise CheckpointError(f"weights: {path}.weight must be a packed matrix [{rows}, {columns}], got {have}")
        self._kept.append(stored)
        self._taken.add(f"{path}.weight")
        return stored

    def _vector(self, path: str, width: int) -> int:
        return int(self._weights_of(path, width).ctypes.data)

    def _weights_of(self, path: str, width: int) -> np.ndarray:
        """Of a norm."""
        numbers = self._numbers(f"{path}.weight", width)
        if self.config.norm == "rms+1":
            numbers = numbers + np.float32(1)
        self._kept.append(numbers)
        return numbers

    def _numbers(self, name: str, width: int) -> np.ndarray:
        array = self._weights.get(name)
        if not isinstance(array, np.ndarray) or array.shape != (width,):
            have = "nothing" if array is None else f"{type(array).__name__} {list(array.shape)}"
            raise CheckpointError(f"weights: {name} must be [{width}] by the config, got {have}")
        self._taken.add(name)
        return np.ascontiguousarray(array, np.float32)

    def _done(self) -> None:
        """Refuse tensors that no part of the model took, as the graph does."""
        head = f"{self._names.path('head')}." if self.config.tied else None
        unread = self._weights.keys() - self._taken
        refuse_left({name: self._weights[name].shape for name in unread if head is None or not name.startswith(head)})


def address(array: np.ndarray) -> ctypes.c_void_p:
    """Where its numbers lie."""
    return ctypes.c_void_p(array.ctypes.data)
