"""Direct logit attribution: which part of the model wrote how much of a logit (Elhage et al. 2021).

The residual stream is a sum, and the head reads it linearly once the last norm's scale is held where it was: so the
logit of a token is a sum over the embedding, each attention head, each MLP and the biases. What a family's norm after
attention does to the sum of its heads is taken apart in the same way. Of a capped logit (Gemma) every addend is scaled
by what the cap left of the sum. A logit has a free constant: the difference to another token has none.

An addend says what a part wrote, not what the rest would be without it: `engine.inside.patching` measures that.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from likely.engine.inside.last_position import LastPosition, last_position
from likely.engine.inside.questions import Attribution
from likely.engine.inside.subject import InspectedText
from likely.metal import mx
from likely.models.modules.linear import LayerNorm, Norm, bare

Array = mx.array
Linear = Callable[[Array], Array]  # [..., C] -> [..., C]


def attribution(text: InspectedText, *, token: int | None = None, against: int | None = None) -> Attribution:
    """Attribute the logit of `token` (the most likely one if left out) after the last position, in float32.

    ParameterError for an id that the model has not.
    """
    return attributed(last_position(text), token, against)


def attributed(last: LastPosition, token: int | None = None, against: int | None = None) -> Attribution:
    """`attribution` of a pass that was made."""
    model = last.model
    for name, id in (("the token", token), ("the token to compare with", against)):
        if id is not None:
            last.check(id, name)
    token = last.favourite if token is None else token
    wanted = [token] if against is None else [token, against]
    logits, final = mx.array(last.logits), last.states[-1]
    inner, constant = linearised(model.norm, final)
    # the head's rows, whatever stands around it: the gradient of its outputs
    zero = mx.zeros_like(final)
    base = model.out(zero[None])[0]
    slopes = [mx.grad(lambda x, t=t: model.out(x[None])[0, t])(zero) for t in wanted]
    products = model.out(model.norm(final[None]))[0]
    scales = [_share(logits[t], products[t]) for t in wanted]
    signs = [1.0, -1.0]
    direction = sum(sign * scale * slope for sign, scale, slope in zip(signs, scales, slopes, strict=False))
    bias = sum(sign * scale * base[t] for sign, scale, t in zip(signs, scales, wanted, strict=False))

    def written(x: Array) -> Array:
        """Contribution of x [..., C] in the residual stream to the logit, [...]."""
        addend: Array = inner(x.astype(mx.float32)) @ direction
        return addend

    heads, mlp = [], []
    bias = bias + constant @ direction
    for block, z, added in zip(model.blocks, last.heads, last.mlp, strict=True):
        core = bare(block)
        apart = mx.eye(core.heads)[:, :, None] * z[None]  # [H, H, D]: each head alone
        nothing = core.out(mx.zeros((1, core.heads * core.size)))
        alone = core.out(apart.reshape(core.heads, -1)) - nothing
        through, offset = linearised(core.attn_post_norm, core.out(z.reshape(1, -1))[0])
        heads.append(written(through(alone) * core.residual_scale))
        bias = bias + written((through(nothing[0]) + offset) * core.residual_scale)
        mlp.append(written(added))
        around: Any = block
        while around is not core:  # a direction that steers
            bias, around = bias + written(around.shift), around.base
    embedding = written(last.states[0])
    logit = float(last.logits[token]) - (float(last.logits[against]) if against is not None else 0.0)
    by_head, by_mlp = mx.stack(heads), mx.stack(mlp)
    mx.eval(by_head, by_mlp, embedding, bias)
    return Attribution(token, against, float(embedding), np.array(by_head), np.array(by_mlp), float(bias), logit)


def linearised(norm: Norm | None, x: Array) -> tuple[Linear, Array]:
    """`norm` with its scale held where it is for x [C]: norm(y) = f(y) + b for y = x, and f is linear; f and b [C]."""
    nothing = mx.zeros(x.shape, mx.float32)
    if norm is None:
        return (lambda y: y), nothing
    kind, x = bare(norm), x.astype(mx.float32)
    weight = kind.weight.astype(mx.float32)
    if isinstance(kind, LayerNorm):
        gain = weight * mx.rsqrt(mx.var(x) + kind.eps)
        bias = nothing if kind.bias is None else kind.bias.astype(mx.float32)
        return (lambda y: (y - mx.mean(y, axis=-1, keepdims=True)) * gain), bias
    gain = weight * mx.rsqrt(mx.mean(mx.square(x)) + kind.eps)
    return (lambda y: y * gain), nothing


def _share(logit: Array, product: Array) -> Array:
    """The share of the head's product that the scale and the cap of logits left."""
    return mx.where(product == 0, 1.0, logit / mx.where(product == 0, 1.0, product))
