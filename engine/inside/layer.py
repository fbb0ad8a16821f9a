"""One layer of a transformer taken apart: what a head looks for, finds and reads, and what is added to the sum.

x_out = x_in + attn + MLP, attn the sum over heads of softmax(scale q·k) v W_O (arXiv:1706.03762, eq. 1). In float32, at
the last position of a text. Knows nothing of how it is shown.
"""

import numpy as np

from likely.engine.base import arrays
from likely.engine.inside.heads import check
from likely.engine.inside.questions import LayerPass
from likely.engine.inside.subject import InspectedText
from likely.metal import mx
from likely.metal.attention import Emit
from likely.models.modules.linear import bare
from likely.models.modules.mlp import Mixture

BEST = 3  # tokens of each point


def layer_pass(
    text: InspectedText, layer: int, head: int = -1, target: int | None = None, silent: bool = False
) -> LayerPass:
    """Take a layer apart; head -1 is the one that reads most of one word, neither the first nor the last; the target is
    the model's favourite if left out. ParameterError where there is no such layer or head."""
    check(text.model, layer, max(head, 0))
    model, t = text.model, len(text.ids)
    core, name = bare(model.blocks[layer]), f"layers.{layer}"
    tapped, kept = text.whole(), {}

    def tap(at: str, x: mx.array) -> mx.array:
        if at == f"{name}.heads" and silent:
            x = mx.where(mx.arange(core.heads)[:, None] == head, 0, x).astype(x.dtype)
        kept[at] = x[:, -1]
        return x

    embedding = tapped.x[:, -1]
    x_in = tapped.run(tap, range(layer))
    normed = x_in if core.attn_norm is None else core.attn_norm(x_in)
    queries, keys, values = core.projected(normed, tapped.step, None)
    report = tapped.layer(layer, emit=Emit(lse=True, scores=True))
    assert report is not None and report.scores is not None and report.lse is not None
    scores = np.array(report.scores[0, :, -1, :t].astype(mx.float32))
    weights = np.exp(scores - np.array(report.lse[0, :, -1, None].astype(mx.float32)))
    if head < 0:
        head = int(np.argmax(weights[:, 1:-1].max(axis=1) if t > 2 else weights[:, 0]))
    tapped.x = x_in
    tapped.layer(layer, tap)
    attention, x_out = kept[f"{name}.attention"], tapped.x[:, -1]
    end = tapped.run(tap, range(layer + 1, len(model.blocks)))[:, -1]
    between = x_in[:, -1] + attention
    source = x_in[:, -1] if core.parallel else between
    neurons = mx.zeros((1, 0))
    if not isinstance(core.mlp, Mixture):
        neurons = core.mlp.neurons((source if core.mlp_norm is None else core.mlp_norm(source))[:, None])[:, 0]
    own = core.heads // keys.shape[1]  # heads that share a key
    value = np.array(values[0, head // own, :t].astype(mx.float32))
    mixed = weights[head] @ value
    alone = np.zeros((1, core.heads, core.size), np.float32)
    alone[0, head] = mixed
    nothing = core.out(mx.zeros((1, 1, core.heads * core.size)))
    addition = core.out(mx.array(alone.reshape(1, 1, -1))) - nothing
    states = mx.concatenate([embedding, x_in[:, -1], between, x_out, end])
    logits = np.array(model.lens(mx.concatenate([states, addition[0]])[None])[0].astype(mx.float32))
    says, logits = logits[-1], logits[:-1]
    target = int(np.argmax(logits[-1])) if target is None else target
    lse = np.asarray(arrays.logsumexp(logits, np))
    best = np.asarray(arrays.top(logits, min(BEST, logits.shape[-1]), np))
    return LayerPass(
        ids=text.ids, layer=layer, head=head, silent=silent, scale=core.scale,
        query=np.array(queries[0, head, -1].astype(mx.float32)),
        keys=np.array(keys[0, head // own, :t].astype(mx.float32)), values=value,
        scores=scores[head], weights=weights[head], mixed=0 * mixed if silent else mixed,
        says=tuple(int(id) for id in np.asarray(arrays.top(says[None], min(BEST, len(says)), np))[0]),
        attention=np.array(attention[0]), neurons=np.array(neurons[0].astype(mx.float32)),
        mlp=np.array(kept[f"{name}.mlp"][0]), states=np.array(states), target=target, best=best.astype(np.int32),
        shares=np.exp(np.take_along_axis(logits, best, axis=-1) - lse[:, None]),
        rank=(logits > logits[:, target : target + 1]).sum(axis=-1).astype(np.int32) + 1,
        logp=logits[:, target] - lse,
    )  # fmt: skip
