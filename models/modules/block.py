"""One layer of a transformer, whatever its family: attention and an MLP beside a residual stream.

Flat on purpose: it runs for every layer of every token.
"""

from dataclasses import dataclass, field

from likely.metal import mx, qkv_prepare
from likely.metal.attention import CAUSAL, KV, AttentionReport, Emit, Mask, Masks, QuantizedRows, attention
from likely.models.caches.layer_cache import KVCache, NewRows
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.rotation import Rotation, Turns
from likely.models.modules.linear import Norm, Product, onto
from likely.models.modules.mlp import MLP

Array = mx.array


@dataclass(frozen=True, slots=True)
class RowRotation:
    """How our kernel turns the new rows: the position of the first, int32 [1 or B], and each rotation's frequencies."""

    offsets: Array
    rotaries: list[qkv_prepare.Rotary]


@dataclass(slots=True)
class ForwardContext:
    """The context of one forward pass, which all its blocks share."""

    turns: list[Turns]  # for each rotation of the model, the angles of the new positions
    lengths: Array  # without a cache: T for each of B
    mask: Mask | None = None  # what positions see of each other, in place of what came before
    turn: RowRotation | None = None  # new rows are for our kernel, in the layers that it fits
    emit: Emit | None = None
    reports: list[AttentionReport] = field(default_factory=list)
    masks: Masks = field(default_factory=dict)  # arrays of what is seen, made once for all layers


class Block:
    """One layer. A part that the family does not have is None."""

    def __init__(
        self,
        config: ModelConfig,
        index: int,
        *,
        qkv: Product,
        out: Product,
        mlp: MLP,
        norms: dict[str, Norm],
        rotation: Rotation | None,
        turn: int,
    ) -> None:
        self.qkv, self.out, self.mlp = qkv, out, mlp
        self.attn_norm, self.attn_post_norm = norms.get("attn_norm"), norms.get("attn_post_norm")
        self.mlp_norm, self.mlp_post_norm = norms.get("mlp_norm"), norms.get("mlp_post_norm")
        self.q_norm, self.k_norm = norms.get("q_norm"), norms.get("k_norm")
        self.heads, self.kv_heads, self.size = config.heads, config.kv_heads, config.head_size
        self.rotated = config.heads + config.kv_heads
        self.width, self.eps = config.width, config.eps
        self.norm_offset = 1.0 if config.norm == "rms+1" else 0.0  # a checkpoint stores weights that much less
        self.norm: qkv_prepare.Norm | None = None  # of each head of q and k
        self.per_head: Array | None = None  # its weights side by side [H + Hkv, 1, D]
        self.norm_each = config.qk_norm == "head"
        self.renew()
        self.turned(rotation, turn)
        window = config.windows[index]
        self.mask = Mask(window=window) if window else CAUSAL
        self.scale, self.softcap = config.scale, config.softcap
        self.residual_scale = config.residual_scale
        self.parallel = config.parallel

    def renew(self) -> None:
        """Make what is made of the norms of q and k, which are others now."""
        if self.norm_each and self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm.weight, self.k_norm.weight
            parts = [mx.repeat(w[None, None], n, axis=0) for w, n in ((q, self.heads), (k, self.kv_heads))]
            self.per_head, self.norm = mx.concatenate(parts), qkv_prepare.Norm(q, k, self.eps)

    def turned(self, rotation: Rotation | None, turn: int) -> None:
        """Turn by this rotation, the one numbered `turn` of the model's."""
        self.rotation, self.turn = rotation, turn
        # what our kernel does in one launch; it has no gain, and where nothing turns there is nothing to win
        self.prepared = rotation is not None and rotation.rope.attention_factor == 1

    def __call__(self, x: Array, step: ForwardContext, cache: KVCache | None, place: NewRows | None) -> Array:
        a = self.attend(x if self.attn_norm is None else self.attn_norm(x), step, cache, place)
        if self.attn_post_norm is None and self.residual_scale == 1:
            h = onto(x, self.out, a)
        else:
            h = x + self.scaled(self.out(a), self.attn_post_norm)
        source = x if self.parallel else h
        if self.mlp_norm is not None:
            source = self.mlp_norm(source)
        if self.mlp_post_norm is None and self.residual_scale == 1:
            return self.mlp.onto(h, source)
        return h + self.scaled(self.mlp(source), self.mlp_post_norm)

    def scaled(self, y: Array, norm: Norm | None) -> Array:
        """The addition of a part to the residual stream."""
        if norm is not None:
            y = norm(y)
        return y if self.residual_scale == 1 else y * self.residual_scale

    def attend(self, x: Array, step: ForwardContext, cache: KVCache | None, place: NewRows | None) -> Array:
        """Attention over x [B, T, C], [B, T, H D]: the input of `out`."""
        b, t, _ = x.shape
        q, keys, values = self.projected(x, step, cache)
        mask = self.mask
        if cache is None:
            kv = KV(keys, values, step.lengths, t)
        else:
            kv = cache.append(keys, values, place)
            mask = cache.mask or mask
        if step.mask is not None:
            mask = step.mask.within(mask)
        if step.emit is None:
            out = attention(q, kv, scale=self.scale, mask=mask, softcap=self.softcap, masks=step.masks)
        else:
            kv = kv if cache is None else cache.located(kv)
            out, emitted = attention(q, kv, scale=self.scale, mask=mask, softcap=self.softcap, emit=step.emit)
            step.reports.append(emitted)
        if t > 1:
            out = out.swapaxes(1, 2)
        return out.reshape(b, t, self.heads * self.size)

    def projected(
        self, x: Array, step: ForwardContext, cache: KVCache | None
    ) -> tuple[Array, Array | QuantizedRows, Array | QuantizedRows]:
        """Queries [B, H, T, D], keys and values [B, Hkv, T, D], normed and turned, of the attention's input [B, T, C].

        By our kernel they are packed too, where the cache takes them so.
        """
        y = self.qkv(x)
        if self.q_norm is not None and self.k_norm is not None and not self.norm_each:
            q, k, v = mx.split(y, [self.heads * self.size, self.rotated * self.size], axis=-1)
            y = mx.concatenate([self.q_norm(q), self.k_norm(k), v], axis=-1)
        if step.turn is not None and self.prepared:
            b, t, _ = y.shape
            heads = y.reshape(b, t, -1, self.size)
            rotary, offsets = step.turn.rotaries[self.turn], step.turn.offsets
            formats = () if cache is None else cache.formats(t)
            new = qkv_prepare.ProjectedTokens(heads, self.kv_heads, offsets, rotary, self.norm, *formats)
            rows = qkv_prepare.prepare(new)
            return rows.queries, rows.keys, rows.values
        qk, v = self._apart(y)
        if self.rotation is not None:
            qk = self.rotation(qk, step.turns[self.turn])
        q, k = mx.split(qk, [self.heads], axis=1)
        return q, k, v

    def warm(self, turn: RowRotation, dtype: mx.Dtype) -> Array:
        """Our kernel run on zeros, under a norm of zeros where there is one."""
        rows = mx.zeros((1, 1, self.rotated + self.kv_heads, self.size), dtype)
        zeros = mx.zeros((self.size,), dtype)
        norm = self.norm and qkv_prepare.Norm(zeros, zeros, self.norm.eps)
        new = qkv_prepare.ProjectedTokens(rows, self.kv_heads, turn.offsets, turn.rotaries[self.turn], norm)
        return qkv_prepare.prepare(new).queries

    def _apart(self, y: Array) -> tuple[Array, Array]:
        """Queries and keys [B, H + Hkv, T, D], normed and not turned yet, and values [B, Hkv, T, D]."""
        b, t, _ = y.shape
        y = y.reshape(b, -1, 1, self.size) if t == 1 else y.reshape(b, t, -1, self.size).swapaxes(1, 2)
        qk, v = mx.split(y, [self.rotated], axis=1)
        if self.per_head is not None:
            qk = mx.fast.rms_norm(qk, None, self.eps) * self.per_head
        return qk, v
