"""A model as one GGUF file that llama.cpp loads, read again, and what the writing cost: measured as a quantisation is.

Knows not how the file is laid out: `engine.write.gguf` does.
"""

import os
from pathlib import Path

import numpy as np

from likely.engine.base.files.lock import aside
from likely.engine.base.files.whole_file import check_new_file
from likely.engine.base.statistics.comparison import Comparison
from likely.engine.weights.adapters import sites
from likely.engine.weights.quantize import measure
from likely.engine.weights.quantize.measure import QuantizationReport
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.fetch.progress import Report as Progress
from likely.engine.weights.sources.fetch.progress import disk_errors, require_space, silent
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.model_info import ModelInfo, weight_bytes
from likely.engine.weights.write import gguf
from likely.metal import mx


def write_one_file(
    info: ModelInfo, target: Path, kind: str, *, text: str | None = None, progress: Progress = silent
) -> QuantizationReport:
    """Write the model of `info` to the new file `target` in blocks of `kind` (f16, q8_0, q4_0); what that costs.

    The file is compared in float32 with the model, on half of the text's windows as `quantize` does. DataError
    where `target` exists, CheckpointError for what the form cannot hold; then nothing is written.
    """
    check_new_file(target, "--to")
    plain = Precision(mx.float32, packed=False)
    checkpoint = load(info.path, progress, precision=plain)
    tokens = measure.windows(checkpoint.tokenizer, checkpoint.model.config, text)[1::2]
    with disk_errors(target.parent, "--to"), aside(target, "quantize", "--to") as partial:
        check_new_file(target, "--to")  # by another process
        require_space(target.parent, info.nbytes, "--to")
        progress(f"writing {target.name}", 0, 0)
        gguf.write(checkpoint, partial / "model.gguf", kind)
        progress("reading it again", 0, 0)
        theirs = load(partial / "model.gguf", precision=plain).model
        score = Comparison(["reverse_kl", "same_top"])
        for window in tokens:
            p, q = (measure.logprobs(model(window[None])[0]) for model in (checkpoint.model, theirs))
            score.add(p, q, np.asarray(window))
        nbytes = (partial / "model.gguf").stat().st_size
        os.replace(partial / "model.gguf", target)
    kl = score.estimate("reverse_kl")
    weights = sum(a.size for part in sites.trainable(checkpoint.model).parts() for a in part.arrays().values())
    before = weight_bytes(info)
    return QuantizationReport(
        target, 8 * nbytes / weights, nbytes, before, score.tokens, score.predicted, kl.mean,
        kl.within(0.0).interval, 1 - score.estimate("same_top").mean, score.perplexity[1],
        score.perplexity[0], score.cost,
    )  # fmt: skip
