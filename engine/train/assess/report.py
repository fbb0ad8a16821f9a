"""Report on a run before it begins: the numbers of its plan, and a few of its samples.

Time and memory are estimates from the shapes: products at the measured speed of this machine, activations by what one
token of each trained layer keeps for the way back.
"""

import math
from collections.abc import Sequence

from likely.engine.base.errors import OutOfMemory
from likely.engine.base.files.home import expanded
from likely.engine.base.machine.hardware import gflops, held_memory
from likely.engine.train.assess import examination
from likely.engine.train.control import Memory, TrainingPlan
from likely.engine.train.data import batches
from likely.engine.train.data.samples import Pair, TrainingSample
from likely.engine.train.data.token_rows import TokenRows
from likely.engine.train.losses.batch_losses import KEPT, beginning, samples_of
from likely.engine.train.losses.losses import rows_at_once
from likely.engine.train.run import rehearsal
from likely.engine.train.run.run import TrainingRun
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.sources.fetch.progress import require_space
from likely.engine.weights.sources.gguf.precision import available_memory
from likely.models import Transformer
from likely.models.modules.linear import GPU
from likely.models.native_path.reading import packed_of
from likely.models.packed_weights.texts import PackedTexts

BINS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 1 << 30)
LOGIT_S = 12e-9  # of a CPU, for one logit's exponential and what goes with it
FLOAT_S = 4e-9  # of a CPU, for what elementwise operations do to one activation
AHEAD = 4  # chunks of logits that a CPU's queue holds
COMPARED = 12  # chunks of logits, at most, that stand where two models are compared: the look in the end
SLOTS = {"adamw": 2, "lion": 1, "sgd": 1, "muon": 1, "adafactor": 0}  # the optimiser's arrays a parameter


Largest = tuple[Sequence[int], int]  # lengths that are read at once, and how many of these tokens are targets


def report(run: TrainingRun, largest: Largest | None = None) -> TrainingPlan:
    """The plan of a prepared run, as far as it is numbers. `largest`: what is read at once where it is not its rows."""
    items, c = run.rows.train, run.config
    rows = items if isinstance(items, TokenRows) else samples_of(items)
    lengths = batches.lengths(rows).tolist()
    counts = [(high, sum(low < n <= high for n in lengths)) for low, high in zip((0, *BINS), BINS, strict=False)]
    trained = batches.targets(items)
    tokens = sum(lengths)
    passes = (run.steps - run.counters.step) * c.accumulate / run.per_epoch  # that are left
    far = isinstance(items, TokenRows)  # too many to be looked at
    read, targets = [_times(c) * n for n in lengths] if far else _read(run, run.planned), trained
    if c.rehearsal > 0:  # beside rows, answers of the base
        targets += rehearsal.ANSWER * sum(rehearsal.beside(len(indices)) for indices in run.planned)
    needed = memory(run, largest)
    return TrainingPlan(
        samples=len(items),
        tokens=tokens,
        trained=trained,
        histogram=tuple((high, n) for high, n in counts if n),
        longest=max(lengths),
        batches=run.per_epoch,
        steps=run.steps,
        parameters=sum(p.size for p in run.trained.parameters().values()),
        seconds=passes * seconds(run.model, c, read, targets, max(0, run.trained.lowest)),
        memory=needed,
        available=available_memory(),
        program=max(0, held_memory() - needed.base),
        looking=_compared(run),
    )


def _read(run: TrainingRun, planned: Sequence[Sequence[int]]) -> list[int]:
    """Lengths of the texts that the model reads in some batches, answers of the base beside the rows: what all of a
    batch begin with is a text."""
    items, c, found = run.rows.train, run.config, list[int]()
    unsaid = (-1,) * rehearsal.ANSWER
    asked = rehearsal.asked(run, rehearsal.count(run)) if c.rehearsal > 0 else []
    again = [TrainingSample((*ids, *unsaid), (), question) for question, ids in asked]
    for k, indices in enumerate(planned):
        many = rehearsal.beside(len(indices)) * bool(again)
        beside = [again[(k * many + i) % len(again)] for i in range(many)]
        samples = [*samples_of([items[i] for i in indices]), *beside]
        begin = 0 if c.goal.bound or c.goal.drawn else beginning(run.model, samples)
        found += [begin] * (begin > 0) + [(len(s.ids) - begin) * _times(c) for s in samples]
    return found


def _times(config: Config) -> int:
    """How often each sample stands in a batch: in block diffusion noised and then as it is."""
    return 2 if config.goal.blocks else 1


def products(model: Transformer) -> int:
    """Numbers in the matrices of one layer that a token is multiplied with."""
    c = model.config
    attention = c.width * c.head_size * (2 * c.heads + 2 * c.kv_heads)
    width = c.mlp_width if c.experts is None else c.experts.active * c.experts.width
    return attention + c.width * width * (3 if c.gated else 2)


def inside(model: Transformer, lengths: Sequence[int]) -> tuple[int, int]:
    """Activations kept for the way back by a layer: floats a token, and the floats of attention without a kernel."""
    shape = model.config
    heads = (shape.heads + 2 * shape.kv_heads) * shape.head_size
    width = shape.mlp_width if shape.experts is None else shape.experts.active * shape.experts.width
    scores = 0 if GPU else 2 * shape.heads * sum(k * k for k in lengths)
    return 6 * shape.width + 5 * heads + 4 * width, scores


def seconds(model: Transformer, config: Config, lengths: Sequence[int], trained: int, lowest: int) -> float:
    """One pass over samples of these lengths on this machine."""
    c = model.config
    above = c.layers - lowest
    passes = c.layers + above * (2 if config.kind == "full" else 1) + above * config.checkpointing
    base = trained if config.kl or config.goal.reference else 0  # logits of it, which no native call has
    passes += c.layers if base else 0
    again = 0.0 if GPU else base * c.vocab_size * LOGIT_S
    return _seconds(model, config, lengths, passes, 2 * trained + base, trained) + again


def reading_s(model: Transformer, config: Config, lengths: Sequence[int], said: int) -> float:
    """One pass over samples of these lengths without a way back, with so many rows of logits."""
    return _seconds(model, config, lengths, model.config.layers, said, said)


def _seconds(model: Transformer, config: Config, lengths: Sequence[int], passes: int, heads: int, logits: int) -> float:
    """Seconds in which samples go through so many layers, and `heads` rows through the head, of which `logits` are
    exponentiated."""
    c = model.config
    flops = 2 * sum(lengths) * products(model) * passes + 2 * heads * c.vocab_size * c.width
    numbers, scores = inside(model, lengths)
    elementwise = logits * c.vocab_size * LOGIT_S + passes * (sum(lengths) * numbers * FLOAT_S + scores / 2 * LOGIT_S)
    native = _packed(model, config) is not None
    return flops / (gflops(3) * 1e9) + (0.0 if GPU or native else elementwise)


def _packed(model: Transformer, config: Config) -> PackedTexts | None:
    """The native call that takes its steps; None where the graph does."""
    return None if config.dropout else packed_of(model)


def _largest(run: TrainingRun) -> Largest:
    """The largest batch of a run."""
    sizes = batches.lengths(run.rows.train)
    batch = max(run.planned, key=lambda b: sizes[b].sum())
    return _read(run, [batch]), sum(run.rows.train[i].targets for i in batch)


def memory(run: TrainingRun, largest: Largest | None = None) -> Memory:
    """The peak of the largest batch."""
    model, c, shape = run.model, run.config, run.model.config
    lengths, targets = largest or _largest(run)
    n = sum(lengths)
    numbers, scores = inside(model, lengths)
    if c.kind == "full":  # the inputs of every product and norm, whose weights have gradients too
        numbers += 4 * shape.width
    layers = shape.layers - max(0, run.trained.lowest)
    layer = n * numbers
    activations = layers * n * shape.width + layer if c.checkpointing else layers * layer
    kept, inner = 4 * activations, 4 * (layer + scores)
    if fast := _packed(model, c):
        kept, inner = fast.room(lengths, 0 if c.checkpointing else KEPT)
    parameters = sum(p.size for p in run.trained.parameters().values())
    full = c.kind == "full"  # the parameters are the base itself
    trained = 4 * parameters * (2 + SLOTS[c.optimiser] + (c.keeps_start if full else 1))
    chunk = min(rows_at_once(shape.vocab_size), targets)
    queues = not (GPU or fast)  # a CPU's graph sets room aside for what is queued
    ahead = min(AHEAD, math.ceil(targets / chunk)) if queues else 1
    # at the top of a step the logits stand beside what is kept, on the way back one layer's inside does
    head = max(inner, 4 * (6 if c.kl else 3) * ahead * chunk * shape.vocab_size)
    base = fast.model.nbytes if fast else sum(a.nbytes for a in model.arrays.values())
    return Memory(base, trained, kept, head)


def _compared(run: TrainingRun) -> int:
    """Bytes of the logits of two models that are compared in the end."""
    goal = run.config.goal
    if not run.config.verdict or run.session is None or goal.bound or goal.drawn:
        return 0
    vocab, answers = run.model.config.vocab_size, examination.ANSWER * len(examination.OTHERS)
    return 4 * COMPARED * vocab * min(rows_at_once(vocab), answers)


def refuse_if_too_large(
    plan: TrainingPlan, config: Config, *, length: str = "--length", lighter: str = "--kind lora", there: bool = True
) -> None:
    """OutOfMemory, before the first step, with what would fit; CheckpointError where the disk has no room for it.

    `length` and `lighter` are the options that say so, `there` whether the weights are in memory already.
    """
    free = plan.available
    need = plan.memory.total - (plan.memory.base if there else 0)
    if need <= free:
        out = expanded(config.out).absolute()
        # weights, the best of them and the optimiser's state take no more than what is trained does in memory
        require_space(next(folder for folder in (out, *out.parents) if folder.exists()), plan.memory.trained, "--out")
        return
    ways = []
    if not config.checkpointing:
        ways.append("--checkpointing")
    if config.batch > 1:
        ways.append(f"--batch {max(1, int(config.batch * free / need))} --accumulate {config.accumulate * 2}")
    if config.length > 128:
        ways.append(f"{length} {config.length // 2}")
    if config.kind == "full":
        ways.append(lighter)
    beside = " beside the weights" if there else ""
    raise OutOfMemory(
        f"a step needs about {need / 1e9:.1f} GB{beside} and {free / 1e9:.1f} GB are free: try {', or '.join(ways)}"
    )


def examples(items: Sequence[TrainingSample | Pair], count: int = 2) -> list[TrainingSample]:
    """The first few samples, to be looked at."""
    return samples_of(items[:count])
