"""The sum of losses over a batch and its gradient, for each objective. Sums, not means: batches are weighed by tokens.

The count that a sum is to be divided by is the number of trained tokens, or of pairs for preferences.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from engine.tune import losses
from engine.tune.batches import Batch, collate
from engine.tune.config import Config
from engine.tune.full import Weights
from engine.tune.lora import Adapter, off, products
from engine.tune.memory import checkpointed
from engine.tune.samples import Pair, Sample
from metal import mx
from models import Transformer
from models.layers import Linear

Array = mx.array
Trained = Adapter | Weights
Parameters = dict[str, Array]


@dataclass(frozen=True)
class Sums:
    """Sums over a batch. For preferences `lost` is of the objective and `right` counts pairs ranked as wanted."""

    lost: Array
    count: int
    kl: Array
    right: Array


def samples_of(items: Sequence[Sample | Pair]) -> list[Sample]:
    """Samples, or for pairs all chosen and then all rejected answers."""
    pairs = [item for item in items if isinstance(item, Pair)]
    if not pairs:
        return [item for item in items if isinstance(item, Sample)]
    return [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]


def value(model: Transformer, trained: Trained, items: Sequence[Sample | Pair], config: Config) -> Sums:
    """The sums without a gradient."""
    batch = collate(samples_of(items))
    return _sums(model, trained, batch, len(items), config, _reference(model, batch, config), None)


def gradient(
    model: Transformer,
    trained: Trained,
    items: Sequence[Sample | Pair],
    config: Config,
    anchors: Sequence[Sample] = (),
    anchor_weight: float = 0.0,
) -> tuple[Sums, Parameters]:
    """The sums and the gradient of lost + kl * KL. `anchors` are rows whose KL counts instead, each token as much as
    `anchor_weight`."""
    batch = collate(samples_of(items))
    rows = collate([Sample(s.ids, (False, *(True,) * (len(s.ids) - 1)), s.where) for s in anchors]) if anchors else None
    real = trained.parameters()
    base = _reference(model, batch, config)
    anchored = None if rows is None else base_hidden(model, rows)

    def total(parameters: Parameters) -> tuple[Array, ...]:
        trained.set(parameters)
        sums = _sums(model, trained, batch, len(items), config, base, parameters)
        goal = sums.lost
        if rows is not None:
            hidden = model.hidden(rows.tokens, documents=rows.documents)[0][rows.at]
            kl = mx.sum(losses.token_losses(model.head, hidden, rows.targets, anchored)[1])
            return goal + config.kl * anchor_weight * kl, sums.lost, kl * anchor_weight, sums.right
        return goal + config.kl * sums.kl, sums.lost, sums.kl, sums.right

    with checkpointed(model, trained) if config.checkpointing else nullcontext():
        (_, lost, kl, right), gradients = mx.value_and_grad(total)(real)
    trained.set(real)
    count = batch.trained if config.objective == "sft" else len(items)
    return Sums(lost, count, kl, right), gradients


def _reference(model: Transformer, batch: Batch, config: Config) -> Array | None:
    """The base's hidden states at the targets, where the objective asks for them."""
    asked = config.objective == "dpo" or (config.kl and not config.kl_data)
    return base_hidden(model, batch) if asked else None


def _sums(
    model: Transformer,
    trained: Trained,
    batch: Batch,
    items: int,
    config: Config,
    base: Array | None,
    parameters: Parameters | None,
) -> Sums:
    zero = mx.array(0.0)
    hidden = model.hidden(batch.tokens, documents=batch.documents)[0][batch.at]
    head, name = _head(model, trained) if isinstance(trained, Weights) else (None, "")
    if head is not None and name and parameters is not None:
        lost, kl = losses.nll_with_head(head, hidden, parameters[name], batch.targets), zero
    else:
        lost, kl = losses.token_losses(model.head, hidden, batch.targets, base if config.kl else None)
    if config.objective == "sft":
        return Sums(mx.sum(lost), batch.trained, mx.sum(kl), zero)
    sums = by_sample(lost, batch)
    counts = mx.array([float(c) for c in batch.counts]).reshape(2, -1)
    logp = -sums.reshape(2, -1)
    if config.objective == "dpo":
        assert base is not None
        reference = -by_sample(losses.nll(model.head, base, batch.targets), batch).reshape(2, -1)
        goal = losses.dpo(logp, reference, config.beta)
        margin = (logp[0] - logp[1]) - (reference[0] - reference[1])
    else:
        mean = logp / counts
        goal = -mean[0] + config.beta * losses.odds_ratio(mean)
        margin = mean[0] - mean[1]
    return Sums(mx.sum(goal), items, zero, mx.sum(margin > 0).astype(mx.float32))


def by_sample(lost: Array, batch: Batch) -> Array:
    """The sum over each sample's targets."""
    return mx.zeros((len(batch.documents),)).at[batch.sample].add(lost)


def base_hidden(model: Transformer, batch: Batch) -> Array:
    """The base's hidden states at the targets, from the same weights with the adapters off."""
    with off(model):
        hidden = model.hidden(batch.tokens, documents=batch.documents)[0][batch.at]
    mx.eval(hidden)
    return hidden


def _head(model: Transformer, trained: Weights) -> tuple[Callable[[Array, Array], Array], str]:
    """The head as a function of its weight, and that weight's name; "" where it is not trained."""
    out = model.out
    assert isinstance(out, Linear)
    names = [n for n in trained.slots if n.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight"))]
    tied = model.config.tied
    heads = [n for n in trained.slots if n.rsplit(".", 1)[0] in ("lm_head", "embed_out")]
    name = next(iter(names if tied else heads), "")

    def head(hidden: Array, weight: Array) -> Array:
        before = out.columns
        out.columns = weight.T
        logits = model.head(hidden)
        out.columns = before
        return logits

    return head, name


def set_dropout(model: Transformer, share: float, seed: int, step: int, batch: int) -> None:
    """Which inputs are left out is a function of these numbers and of the product alone; share 0 leaves none out."""
    for index, product in enumerate(products(model)):
        product.keep = 1 - share
        product.key = mx.random.key(hash((seed, step, batch, index)) & 0xFFFFFFFF) if share else None
