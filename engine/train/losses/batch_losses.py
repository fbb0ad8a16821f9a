"""The sum of losses over a batch and its gradient, for each objective. Sums, not means: batches are weighed by tokens.

The count that a sum is to be divided by is the number of trained tokens, or of pairs for preferences.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from likely.engine.base.objectives import Pairs
from likely.engine.train.data.batches import Batch, alike, collate
from likely.engine.train.data.samples import Pair, RewardedAnswer, TrainingSample
from likely.engine.train.losses import losses, masked
from likely.engine.train.losses.activation_memory import checkpointed
from likely.engine.train.rewards.advantages import clipped
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.adapters.full import FullWeights
from likely.engine.weights.adapters.lora import Adapter, adapter_layers, disabled
from likely.metal import mx
from likely.models import Transformer
from likely.models.native_path.reading import PackedReading, packed_of, reading

Array = mx.array
Trained = Adapter | FullWeights
Parameters = losses.Parameters
KEPT = 1 << 29  # bytes of a pass over packed weights that stay for the way back


@dataclass(frozen=True)
class Sums:
    """Sums over a batch. For preferences `lost` is of the objective and `right` counts pairs ranked as wanted.
    `each` [M]: -log p of every target, or its smoothed loss."""

    lost: Array
    count: int
    kl: Array
    right: Array
    each: Array


def samples_of(items: Sequence[TrainingSample | Pair]) -> list[TrainingSample]:
    """Samples, or for pairs all chosen and then all rejected answers."""
    pairs = [item for item in items if isinstance(item, Pair)]
    if not pairs:
        return [item for item in items if isinstance(item, TrainingSample)]
    return [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]


def targets_of(sample: TrainingSample, config: Config) -> tuple[bool, ...]:
    """For each id whether its loss counts; from left to right never that of the first."""
    return sample.trained if config.goal.bound else (False, *sample.trained[1:])


def batch_of(
    model: Transformer,
    items: Sequence[TrainingSample | Pair],
    config: Config,
    key: Sequence[int] = (0,),
    ratio: float = 1.0,
) -> Batch:
    """The items as one row; what the objective draws of them is a function of the key. `ratio`: `masked.ratio`."""
    if not config.goal.bound:
        return row_of(model, samples_of(items))
    assert model.config.diffusion is not None
    return masked.collate(samples_of(items), model.config.diffusion, key, ratio)


def row_of(model: Transformer, samples: Sequence[TrainingSample]) -> Batch:
    """One row of the samples; answers to one prompt share it, and others what all of them begin with, where the model
    reads it alike before each."""
    answers, longest = [s for s in samples if isinstance(s, RewardedAnswer)], max(len(s.ids) for s in samples)
    if not answers:
        return collate(samples, begin=beginning(model, samples))
    return collate(samples, apart=not all(model.continues(s.answer_at, longest) for s in answers))


def beginning(model: Transformer, samples: Sequence[TrainingSample]) -> int:
    """How many ids that samples begin with alike are read once; 0 where the model turns a longer text otherwise."""
    begin = alike(samples)
    return begin if begin and model.continues(begin, max(len(s.ids) for s in samples)) else 0


def value(model: Transformer, trained: Trained, items: Sequence[TrainingSample | Pair], config: Config) -> Sums:
    """The sums without a gradient."""
    batch = batch_of(model, items, config)
    return _sums(model, trained, batch, len(items), config, _reference(model, trained, batch, config))


def gradient(
    model: Transformer,
    trained: Trained,
    items: Sequence[TrainingSample | Pair],
    config: Config,
    anchors: Sequence[TrainingSample] = (),
    anchor_weight: float = 0.0,
    key: Sequence[int] = (0,),
    ratio: float = 1.0,
) -> tuple[Sums, Parameters]:
    """The sums and the gradient of lost + kl * KL. `anchors` are rows whose KL counts instead, each token as much as
    `anchor_weight`. What is drawn for a batch is a function of the `key`."""
    batch = batch_of(model, items, config, key, ratio)
    rows = (
        collate([TrainingSample(s.ids, (False, *(True,) * (len(s.ids) - 1)), s.where) for s in anchors])
        if anchors
        else None
    )
    real, keep = trained.parameters(), 0 if config.checkpointing else KEPT
    reference = _reference(model, trained, batch, config)
    anchored = None if rows is None else base_logits(model, trained, rows)

    def total(parameters: Parameters) -> tuple[Array, ...]:
        trained.set(parameters)
        sums = _sums(model, trained, batch, len(items), config, reference, keep)
        goal = sums.lost
        if rows is not None:
            kl = mx.sum(_losses(model, trained, rows, anchored, keep=keep)[1])
            return goal + config.kl * anchor_weight * kl, sums.lost, kl * anchor_weight, sums.right, sums.each
        return goal + config.kl * sums.kl, sums.lost, sums.kl, sums.right, sums.each

    with reading_again(model, trained, config):
        (_, lost, kl, right, each), gradients = mx.value_and_grad(total)(real)
    trained.set(real)
    count = len(items) if config.goal.of_pairs else batch.trained
    return Sums(lost, count, kl, right, each), gradients


def reading_again(model: Transformer, trained: Trained, config: Config) -> AbstractContextManager[None]:
    """Context in which activations are computed again going back, where that is asked for and no native call does."""
    return checkpointed(model, trained) if config.checkpointing and not packed_of(model) else nullcontext()


def _reference(model: Transformer, trained: Trained, batch: Batch, config: Config) -> losses.Base | None:
    """The base's logits at the targets, where the objective asks for them."""
    needed = config.goal.reference or (config.kl and not config.kl_data)
    return base_logits(model, trained, batch) if needed else None


def _losses(
    model: Transformer,
    trained: Trained,
    batch: Batch,
    reference: losses.Base | None,
    smoothing: float = 0.0,
    keep: int = 0,
) -> tuple[Array, Array]:
    """-log p [M] of the batch's targets, or their smoothed loss, and KL [M] to the reference there."""
    hidden, reader = read(model, batch, keep), reading(model)
    if reference is None and isinstance(reader, PackedReading):
        lost = reader.losses(hidden, batch.targets, smoothing)
        if lost is not None:
            return lost, mx.zeros_like(lost)
    names = trained.head(model)

    def head(hidden: Array, parameters: Parameters) -> Array:
        before = trained.parameters()
        trained.set(parameters)
        logits = reader.head(hidden)
        trained.set({name: before[name] for name in parameters})
        return logits

    now = trained.parameters()
    own = {name: now[name] for name in names}
    return losses.token_losses(
        head, own, hidden, batch.targets, reference, smoothing=smoothing, at_once=packed_of(model) is not None
    )


def _sums(
    model: Transformer,
    trained: Trained,
    batch: Batch,
    items: int,
    config: Config,
    reference: losses.Base | None,
    keep: int = 0,
) -> Sums:
    zero = mx.array(0.0)
    lost, kl = _losses(model, trained, batch, reference if config.kl else None, config.label_smoothing, keep)
    goal = config.goal
    if goal.of_pairs is None:
        return Sums(mx.sum(weighed(lost, batch)), batch.trained, mx.sum(kl), zero, lost)
    counts = mx.array([float(c) for c in batch.counts]).reshape(2, -1)
    policy = -by_sample(lost, batch).reshape(2, -1)
    before = None
    if goal.reference:
        assert reference is not None
        before = -by_sample(losses.of_logits(reference, batch.targets), batch).reshape(2, -1)
    loss, margin = goal.of_pairs(Pairs(policy, before, counts), config.beta, mx)
    return Sums(mx.sum(loss), items, zero, mx.sum(margin > 0).astype(mx.float32), lost)


def read(model: Transformer, batch: Batch, keep: int = 0) -> Array:
    """Hidden states [M, C] from which the batch's targets are said; `keep` as `models.packed_reading` has it."""
    read = reading(model, keep).hidden(batch.tokens, documents=batch.documents, after=batch.after, mask=batch.mask)
    hidden: Array = read[0][batch.at]
    return hidden


def nll(model: Transformer, hidden: Array, targets: Array, smoothing: float = 0.0) -> Array:
    """-log p of targets [M] after hidden states [M, C], by a head that is not trained; differentiable in `hidden`."""
    reader = reading(model)
    lost = reader.losses(hidden, targets, smoothing) if isinstance(reader, PackedReading) else None
    return losses.nll(reader.head, hidden, targets, smoothing=smoothing) if lost is None else lost


def constant(model: Transformer, batch: Batch) -> tuple[Array, Array]:
    """-log p of the batch's targets [M], and whether another token is likelier, 0 or 1 [M]; without a gradient."""
    hidden, head = read(model, batch), reading(model).head
    mx.eval(hidden)
    return losses.greedy(lambda rows: head(hidden[rows]), batch.targets)


def weighed(lost: Array, batch: Batch) -> Array:
    """The losses [M] by what they count."""
    lost = lost if batch.weights is None else lost * batch.weights
    if batch.worth is None:
        return lost
    return lost * batch.worth if batch.before is None else clipped(-lost - batch.before, batch.worth, mx)


def by_sample(lost: Array, batch: Batch) -> Array:
    """The sum over each sample's targets."""
    return mx.zeros((len(batch.counts),)).at[batch.sample].add(lost)


@contextmanager
def _as_begun(trained: Trained) -> Iterator[None]:
    """Context in which the trained weights are those of before training, for as long as the block runs."""
    assert trained.start is not None
    now = trained.parameters()
    trained.set(trained.start)
    try:
        yield
    finally:
        trained.set(now)


def base(model: Transformer, trained: Trained | None) -> Callable[[], AbstractContextManager[None]]:
    """Context in which the model is as before training, for as long as a block runs, again and again.

    That is the adapters off, or the weights that were kept, or the adapter that it went on from.
    """
    if isinstance(trained, FullWeights) or (trained is not None and trained.start is not None):
        return partial(_as_begun, trained)
    layers = adapter_layers(model)
    return lambda: disabled(layers)


def base_logits(model: Transformer, trained: Trained, batch: Batch) -> losses.Base:
    """The base's logits [n, V] at any of the batch's targets; its hidden states there are computed now."""
    before = base(model, trained)
    with before():
        hidden = read(model, batch)
    mx.eval(hidden)

    def logits(rows: slice) -> Array:
        with before():
            return reading(model).head(hidden[rows])

    return logits


def set_dropout(model: Transformer, share: float, seed: int, step: int, batch: int) -> None:
    """Which inputs are left out is a function of these numbers and of the product alone; share 0 leaves none out."""
    for index, part in enumerate(adapter_layers(model)):
        part.keep = 1 - share
        part.key = mx.random.key(hash((seed, step, batch, index)) & 0xFFFFFFFF) if share else None
