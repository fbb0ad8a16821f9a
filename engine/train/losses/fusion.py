"""Fusion: an adapter merged into its model, written in a form that was asked for, and judged by the file itself.

Rounding can erase a small change, and it happens where the file is written. So the file is read again, and what it
computes is compared with the base and with the adapter: KL(adapter || base), KL(file || adapter), KL(file || base).
A file that has lost the adapter is not put in its place. Knows no form by itself: see `fuse` and `gguf`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from likely.engine.base.arrays import kl
from likely.engine.base.errors import CheckpointError
from likely.engine.base.files.lock import aside
from likely.engine.base.files.whole_file import check_new_file, check_new_folder
from likely.engine.base.statistics import compare
from likely.engine.text.rows.training_row import TrainingRow
from likely.engine.text.tokenizer import Tokenizer
from likely.engine.train.data.samples import encode
from likely.engine.weights.adapters import adapters, lora, sites
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.engine.weights.sources.fetch.progress import Report, require_space, silent
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.write import fuse, gguf
from likely.metal import mx
from likely.models import LanguageModel, Transformer

LOST = 0.5  # share of the adapter's effect that a fused model may lose
GGUF_BITS = {"f16": 16.0, "q8_0": 8.5, "q4_0": 4.5}  # of a weight, by the kind of a file's blocks
LENGTH = 256  # tokens of a row that are compared
WIDE = 8  # bits, in which an adapter is hardly ever lost
FORESEEN = 2  # rows that are read before all the rest
SURELY = 0.75  # share of the effect lost on these, beyond which the rest is not read


WIDER = (0, 8, 16)  # bits that are tried one after another where none are asked for: as the base is, then more


class AdapterLost(CheckpointError):
    """A fused model whose rounding has moved it further than the adapter did."""


@dataclass(frozen=True)
class Form:
    """Form of what is written: a folder, or with `gguf` a file of such blocks. `bits` as `fuse.merge` takes it."""

    bits: int = 0
    group_size: int = 64
    gguf: str = ""  # f16, q8_0 or q4_0


@dataclass(frozen=True)
class FusionError:
    """Mean KL in nats a token over a text; the fused model is what was read again from its file."""

    adapter: float  # of the adapter to the base: what was learned
    fused: float  # of the fused model to the base
    error: float  # of the fused model to the adapter: what rounding did

    @property
    def lost(self) -> bool:
        """Whether rounding moved the model more than half as far as the adapter did."""
        return self.error > LOST * self.adapter


def open_base(name: str, progress: Report = silent) -> Checkpoint:
    """The base as its file has it: what is packed there is packed here, and stays so where nothing changes it."""
    precision = Precision(mx.float32, packed=True) if mx.default_device() == mx.cpu else None  # a GPU's is packed
    return load(name, progress, precision=precision)


def texts(rows: Sequence[TrainingRow], tokenizer: Tokenizer) -> list[list[int]]:
    """The ids that two models are compared on: every row's beginning, of a preference both answers'."""
    answers = [
        (row, messages)
        for row in rows
        for messages in ((row.messages, row.rejected) if row.form == "preference" else (row.messages,))
    ]
    encoded = [list(encode(messages, row, tokenizer, "all").ids[:LENGTH]) for row, messages in answers]
    return [ids for ids in encoded if ids]


def fuse_to(
    out: Path,
    checkpoint: Checkpoint,
    stored: adapters.StoredAdapter,
    texts: Sequence[Sequence[int]],
    form: Form = Form(),
    *,
    force: bool = False,
    progress: Report = silent,
) -> FusionError:
    """Merge a stored adapter, or whole weights, into `checkpoint` and write that to `out`; what the file has kept.

    AdapterLost where the file has lost the change (unless forced: it is written then), CheckpointError for what the
    form cannot hold; DataError where `out` is in use, or another process makes it. Nothing is written at `out` then.
    The model of `checkpoint` is changed all the same.
    """
    if not texts:
        raise CheckpointError("fusing is judged on rows of text: give --data")
    check = check_new_file if form.gguf else check_new_folder
    check(out, "--out")
    with aside(out, "fuse", "--out") as partial:
        check(out, "--out")  # by another process
        model = sites.trainable(checkpoint.model)
        require_space(out.absolute().parent, _nbytes(checkpoint, form), "--out")
        if not (form.gguf or force) and 0 < _fewest(model, form) < WIDE:
            progress("what the bits keep", 0, 0)
            foreseen = _foreseen(checkpoint, stored, texts[:FORESEEN], form)
            if foreseen.error > SURELY * foreseen.adapter:
                raise _lost(foreseen, ", by its first rows and before it is written,")
        progress("the base", 0, 0)
        before = [_logprobs(model, ids) for ids in texts]
        trained = adapters.build(model, stored)
        if isinstance(trained, lora.Adapter):
            lora.attach(trained)
        progress("the adapter", 0, 0)
        attached = [_logprobs(model, ids) for ids in texts]
        fuse.merge(model, trained, bits=16 if form.gguf else form.bits, group_size=form.group_size)
        progress(f"writing {out.name}", 0, 0)
        written = partial / "fused.gguf" if form.gguf else partial
        if form.gguf:
            gguf.write(checkpoint, written, form.gguf)
        else:
            fuse.write(checkpoint, partial, dtype=fuse.PLAIN.get(form.bits))
        progress("reading it again", 0, 0)
        comparison = _judge(before, attached, open_base(str(written)).model, texts)
        if comparison.lost and not force:
            raise _lost(comparison)
        os.replace(written, out)
    return comparison


def _fewest(model: Transformer, form: Form) -> int:
    """The fewest bits that something is packed in, as asked or as the base is; 0 where nothing is."""
    return form.bits or min((layout.bits for site in sites.sites(model) if (layout := site.layout)), default=0)


def _lost(found: FusionError, when: str = "") -> AdapterLost:
    return AdapterLost(
        f"the fused model{when} has lost the adapter: KL to the base {found.adapter:.3g} with it, "
        f"{found.fused:.3g} fused, {found.error:.3g} apart; fuse into more bits, or keep the adapter beside "
        "the base (--force writes anyway)"
    )


def _foreseen(
    checkpoint: Checkpoint, stored: adapters.StoredAdapter, texts: Sequence[Sequence[int]], form: Form
) -> FusionError:
    """Effect that packing keeps on a few texts, in memory alone, by a model of its own: `checkpoint` stays as it is."""
    model = sites.trainable(checkpoint.twin().model)
    before = [_logprobs(model, ids) for ids in texts]
    trained = adapters.build(model, stored)
    if isinstance(trained, lora.Adapter):
        lora.attach(trained)
    attached = [_logprobs(model, ids) for ids in texts]
    fuse.merge(model, trained, bits=form.bits, group_size=form.group_size)
    return _judge(before, attached, model, texts)


def _nbytes(checkpoint: Checkpoint, form: Form) -> int:
    """The bytes of a file's matrices, about."""
    if not form.gguf and not form.bits:
        return checkpoint.info.nbytes
    width = GGUF_BITS[form.gguf] if form.gguf else form.bits + 0.5 * (form.bits not in fuse.PLAIN)
    return int(sum(site.numbers().size for site in sites.sites(sites.trainable(checkpoint.model))) * width / 8)


def _judge(
    before: Sequence[mx.array], attached: Sequence[mx.array], model: LanguageModel, texts: Sequence[Sequence[int]]
) -> FusionError:
    sums = [0.0, 0.0, 0.0]
    for base, now, ids in zip(before, attached, texts, strict=True):
        fused = _logprobs(model, ids)
        pairs = ((now, base), (fused, base), (fused, now))
        sums = [total + float(mx.sum(kl(a, b, mx))) for total, (a, b) in zip(sums, pairs, strict=True)]
    count = sum(a.shape[0] for a in before)
    return FusionError(*(max(0.0, total / count) for total in sums))


def _logprobs(model: LanguageModel, ids: Sequence[int]) -> mx.array:
    logits = mx.concatenate(list(compare.logits(model)(ids, 0)))
    mx.eval(logits)
    return logits
