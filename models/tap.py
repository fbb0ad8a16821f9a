"""A tapped forward pass: the blocks one after another, with every activation handed out and open to be replaced.

The arithmetic is that of `models.block`, with its sums taken apart; the plain pass knows nothing of it.
Activations have these names, `layers` counted from 0:

    embedding            [B, T, C]     input of the first block, learned positions included
    layers.3.heads       [B, T, H, D]  what each head read, before the product that mixes them
    layers.3.attention   [B, T, C]     what attention adds to the residual stream
    layers.3.mlp         [B, T, C]     what the MLP adds to it
    layers.3.residual    [B, T, C]     the residual stream after the layer

Knows nothing of what is made of them.
"""

from collections.abc import Callable

from likely.metal import mx
from likely.metal.attention import AttentionReport, Emit
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import KVCache
from likely.models.model import LanguageModel
from likely.models.modules.block import Block, ForwardContext
from likely.models.modules.linear import bare
from likely.models.native_path.native import NativeModel
from likely.models.transformer import Transformer

Array = mx.array
Tap = Callable[[str, Array], Array]  # (name, activation) -> the activation, or what is to stand in its place
CHUNK = 256  # tokens of a text that are read at once before those that are looked at


class TappedPass:
    """One pass over tokens [B, T] that is taken layer by layer: `x` is the residual stream [B, T, C] so far.

    With a cache the tokens follow what it holds, and are added to it. `dtype` is that of the activations, if it is not
    to be the model's own. ConfigError for a diffusion model: attention is causal.
    """

    def __init__(
        self, model: Transformer, tokens: Array, cache: Cache | None = None, *, dtype: mx.Dtype | None = None
    ) -> None:
        model.require_causal()
        self.model = model
        b, t = tokens.shape
        longest = model.admit(cache, t)
        offset = 0 if cache is None else cache.length if cache.each is None else cache.lengths
        self.x, self.step = model.enter(tokens, offset, longest, prepare=False)
        if dtype is not None:
            self.x = self.x.astype(dtype)
        self.step.lengths = mx.array([t] * b, dtype=mx.int32)
        self.caches: list[KVCache | None] = [*cache.layers] if cache is not None else [None] * len(model.blocks)

    def run(self, tap: Tap, layers: range | None = None) -> Array:
        """The residual stream after these layers, all if left out; `embedding` is tapped before layer 0."""
        layers = range(len(self.model.blocks)) if layers is None else layers
        if layers.start == 0:
            self.x = tap("embedding", self.x)
        for index in layers:
            self.layer(index, tap)
        return self.x

    def layer(self, index: int, tap: Tap | None = None, emit: Emit | None = None) -> AttentionReport | None:
        """Take `x` through one layer; with `emit`, what its heads attended to."""
        self.step.emit = emit
        block, cache = self.model.blocks[index], self.caches[index]
        if tap is None:
            self.x = block(self.x, self.step, cache, None)
        else:
            self.x = _tapped(block, self.x, self.step, cache, index, tap)
        self.step.emit = None
        return self.step.reports.pop() if emit is not None else None


def _tapped(block: Block, x: Array, step: ForwardContext, cache: KVCache | None, index: int, tap: Tap) -> Array:
    """`Block.__call__` with its activations handed to `tap`."""
    core: Block = bare(block)
    name = f"layers.{index}"
    heads = core.attend(x if core.attn_norm is None else core.attn_norm(x), step, cache, None)
    apart = heads.reshape(*heads.shape[:2], core.heads, core.size)
    heads = tap(f"{name}.heads", apart).reshape(heads.shape)
    h = x + tap(f"{name}.attention", core.scaled(core.out(heads), core.attn_post_norm))
    source = x if core.parallel else h
    if core.mlp_norm is not None:
        source = core.mlp_norm(source)
    y = h + tap(f"{name}.mlp", core.scaled(core.mlp(source), core.mlp_post_norm))
    around = block
    while around is not core:  # what stands around a block changes what it gives (a steering vector)
        y, around = around.onto(y), around.base  # type: ignore[attr-defined]
    return tap(f"{name}.residual", y)


def after(model: LanguageModel, layers: int, tokens: Array, cache: Cache | None = None) -> Array:
    """The residual stream [B, T, C] after so many layers, 0: before the first.

    Those above are not read, but in a model of mlx-lm's class: whoever reads on from the cache asks for as many again.
    """
    if isinstance(model, NativeModel):
        return model.inspect(tokens, cache, layers=max(layers, 1)).hidden[layers]
    if not isinstance(model, Transformer):
        return model.inspect(tokens, cache).hidden[layers]
    tapped = TappedPass(model, tokens, cache)
    hidden = tapped.x
    for index in range(max(layers, 1)):  # one at least: by it the cache knows how far it is
        tapped.layer(index)
    return tapped.x if layers else hidden
