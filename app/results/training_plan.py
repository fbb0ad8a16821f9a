"""Plan of a training in lines for a person, before it begins; and times in words. No mlx."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from likely.app.results import awake
from likely.app.results.training_command import beside, resumed
from likely.app.words.units import bits
from likely.engine.train.data import row_choices
from likely.engine.weights.adapters.config import FLOOR

if TYPE_CHECKING:
    from likely.engine.train.open_run import Tuning
    from likely.engine.train.pretrain.pretraining import Pretraining

HIGH = 0.05  # a rate above which an optimiser that divides by the gradient's size does not learn
FEW = 20  # steps, fewer than which are worth a word
STILL = 1e-3  # nats a token: a model that moved less answers as it did


def describe(opened: "Tuning") -> Iterator[str]:
    """The model, rows, tokens, parameters and steps, and what time and memory they should take."""
    rows, plan, c = opened.data, opened.plan, opened.run.config
    yield f"model     {c.model}, {'trained into' if c.kind == 'full' else 'an adapter in'} {c.out}"
    forms = ", ".join(f"{count:,} {form}" for form, count in rows.forms.items())
    split = f" (set aside by hash, {c.valid:.0%})" if rows.split else ""
    yield f"rows      {forms}; {len(rows.train):,} train, {len(rows.valid):,} valid{split}, {len(rows.test):,} test"
    if rows.columns:
        yield f"          {rows.columns}"
    if rows.left_out:
        yield f"          {rows.left_out:,} dropped by hand ({row_choices.NAME}), left out"
    if rows.duplicates:
        yield f"          {rows.duplicates:,} duplicates{'' if c.duplicates else ', left out'}"
    if rows.overlap:
        yield f"          {rows.overlap:,} validation or test rows are in train too: their loss will flatter"
    for name, part in (("train", opened.train), ("valid", opened.valid)):
        if part.too_long:
            done = {"split": f"split into {part.pieces:,}", "cut": "cut", "drop": "dropped"}[c.too_long]
            lost = f", {part.lost:,} tokens lost" if part.lost else ""
            yield f"          {name}: {part.too_long:,} rows longer than {c.length} tokens, {done}{lost}"
        if part.untrained:
            count, first = len(part.untrained), part.untrained[0]
            yield f"          {name}: {count:,} rows without a trained token, left out: {first}"
    share = plan.trained / max(1, plan.tokens)
    yield f"tokens    {plan.tokens:,}, of which trained {plan.trained:,} ({share:.0%}); longest {plan.longest:,}"
    most = max(count for _, count in plan.histogram)
    for high, count in plan.histogram:
        label = f"<= {high:,}" if high < 1 << 30 else "more"
        yield f"          {label:>8} {'█' * max(1, round(24 * count / most))} {count:,}"
    if plan.batches == 1:
        yield f"          one batch holds all {plan.samples:,} samples: every step is a pass over the data"
    what = "full" if c.kind == "full" else f"{c.kind} rank {c.rank} x {c.multiplier:g}"
    way = ", on packed weights as they are" if opened.run.native else ""
    yield f"training  {what}, {plan.parameters:,} parameters{way}"
    if opened.run.adapts_experts:
        yield "          experts too, which PEFT's files have no place for: --modules 'self_attn.*' leaves them out"
    if c.rate > HIGH and c.optimiser in ("adamw", "lion", "adafactor"):
        yield f"          rate {c.rate:g} is far above what {c.optimiser} learns at, 1e-5 to 1e-2: it will diverge"
    if opened.adapts:
        sight = "both ways at once"
        if c.anneal:
            sight = f"causal, both ways after {math.ceil(c.anneal * plan.steps):,} steps"
        yield f"          becomes masked diffusion: a row for the mask, attention {sight}; a whole model is written"
    yield f"          {plan.batches:,} batches an epoch, {plan.steps:,} steps"
    if opened.run.chosen:
        yield f"          chosen {opened.run.chosen}"
    memory = plan.memory
    yield (
        f"estimate  {_whole(opened)}; peak {plan.peak / 1e9:.2f} GB (weights {memory.base / 1e9:.2f}, "
        f"trained {memory.trained / 1e9:.2f}, activations {memory.activations / 1e9:.2f}, "
        f"logits {(memory.head + plan.looking) / 1e9:.2f}, the program {plan.program / 1e9:.2f}), "
        f"{plan.available / 1e9:.1f} GB free"
    )
    if held := awake.words():
        yield f"          {held}"


def _whole(opened: "Tuning") -> str:
    """The time of all of a training in words, and what of it are no steps."""
    beside, words = opened.beside, []
    if round(beside.asking_s):
        words.append(f"{duration(beside.asking_s)} asking the base first")
    if round(beside.looking_s):
        words.append(f"{duration(beside.looking_s)} looking at what it learns")
    more = f"; {duration(opened.trial_s)} more if it hardly learns" if round(opened.trial_s) else ""
    return duration(opened.whole_s) + (f", of it {' and '.join(words)}" if words else "") + more


def describe_pretraining(opened: "Pretraining") -> Iterator[str]:
    """Text, tokenizer, model and steps of a pretraining, and what time and memory they should take."""
    p, facts, c = opened.prepared, opened.corpus.facts, opened.config
    yield (
        f"text      {facts.train_bytes + facts.valid_bytes:,} bytes in {facts.documents:,} pieces; "
        f"{facts.valid_bytes / (facts.train_bytes + facts.valid_bytes):.0%} set aside by hash"
    )
    yield (
        f"tokenizer {c.tokenizer}, {p.vocab:,} tokens, {opened.corpus.bytes_a_token:.2f} bytes each; by their "
        f"frequencies alone {facts.unigram:.2f} bits a byte (by those of bytes {facts.unigram_of_bytes:.2f})"
    )
    s = p.shape
    yield (
        f"model     {s.family}, {s.layers} layers of width {s.width} with {s.heads} heads: {p.parameters:,} "
        f"parameters, {p.parameters_without_embedding:,} without embeddings"
    )
    passes = p.tokens / max(1, p.train_tokens)
    yield (
        f"training  {p.tokens:,} tokens in {p.steps:,} steps, {passes:.1f} passes over {p.train_tokens:,}; "
        f"{c.optimiser} at {p.rate:.4g}, {c.schedule}, {c.parametrisation}"
    )
    yield f"estimate  {duration(p.seconds)}; peak {p.memory / 1e9:.2f} GB, {p.available / 1e9:.1f} GB free"


def pace(opened: "Tuning | Pretraining") -> tuple[str, ...]:
    """Cost of a run, how rows become steps (`60 rows, batch 4: 15 batches, 15 steps an epoch`), and what one costs;
    the most wanted first, as a narrow screen leaves out the rest."""
    plan, c = opened.plan, opened.run.config
    steps = math.ceil(plan.batches / c.accumulate)
    rows = f"{plan.samples:,} rows, batch {c.batch}: {plan.batches:,} batches, {steps:,} steps an epoch"
    if not plan.steps or not math.isfinite(plan.seconds):
        return (rows,)
    a_step = plan.seconds / max(1, plan.steps - opened.run.counters.step)
    cost = f"about {duration(opened.whole_s)} and {plan.peak / 1e9:.1f} GB in all"
    return cost, rows, f"a step takes about {f'{a_step:.1f} s' if a_step < 10 else duration(a_step)}"


def outcome(
    moved: float | None, steps: int, rate: float, words: Sequence[str], *, learned: bool = False
) -> Iterator[str]:
    """Outcome of a run that has ended, and where it did little the command that would do more: not where its rows are
    `learned`, by the verdict. `words`: of this one."""
    if moved is not None:
        yield f"moved {bits(moved):.4f} bits a token from the base (KL, on rows of the data)"
    if learned:
        return
    if steps < FEW:
        yield f"{steps} step{'s teach' if steps > 1 else ' teaches'} little: {resumed(words)} --steps {FLOOR}"
    elif moved is not None and moved < STILL:
        yield f"that is next to nothing: {beside(words, rate=10 * rate)}"


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
