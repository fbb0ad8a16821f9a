"""Adaptation of an autoregressive model to masked diffusion (DiffuLLaMA, arXiv:2410.17891): its start and its folder.

The model gets a row for the mask, the mean of its embedding, and keeps its logits where they are: at i - 1 for
position i. So with causal attention it says what it said; how that becomes attention both ways is in `masked`. What is
written is a whole model: an adapter of the base has no place for the row, and the base is one of another factorisation.
Knows nothing of losses.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from likely.engine.base.errors import ParameterError
from likely.engine.weights.adapters import lora, sites
from likely.engine.weights.adapters.stored import write_arrays, write_json
from likely.engine.weights.sources.checkpoint import Checkpoint
from likely.engine.weights.sources.hf_folder import FLOATS
from likely.engine.weights.write import fuse
from likely.metal import mx
from likely.models.configuration.config import MaskedDiffusion
from likely.models.errors import ConfigError
from likely.models.families import registry
from likely.models.transformer import Transformer

if TYPE_CHECKING:
    from likely.engine.train.run.run import TrainingRun


def adapted(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with a mask and shifted logits, its config saying so; the model itself is changed.

    ParameterError where its layers are not ours or its config does not say its vocabulary at the top.
    """
    model, config = sites.trainable(checkpoint.model), dict(checkpoint.config)
    mask = model.config.vocab_size
    config |= {"vocab_size": mask + 1, "mask_token_id": mask, "shifted_logits": True}
    config["tie_word_embeddings"] = model.config.tied
    try:
        shape = registry.configure(config)
    except ConfigError as error:
        raise ParameterError(f"{checkpoint.info.name} cannot become a diffusion model: {error}") from None
    if shape.vocab_size != mask + 1:
        raise ParameterError(f"{checkpoint.info.name} cannot become a diffusion model: its config nests its vocabulary")
    add_mask(model)
    return replace(checkpoint, model=model, config=config)


def add_mask(model: Transformer) -> None:
    """Make an autoregressive model one of masked diffusion, whose mask is the id behind its last."""
    mask = model.config.vocab_size
    for part in model.parts():
        if part.role not in ("embed", "head"):
            continue
        rows = part.numbers()
        new = mx.mean(rows.astype(mx.float32), axis=0, keepdims=True)  # of a head it is never looked at
        bias = None if part.bias is None else mx.concatenate([part.bias, mx.zeros_like(part.bias[:1])])
        whole = mx.concatenate([rows, new.astype(rows.dtype)])
        mx.eval(whole)
        model.put(replace(part, heights=(part.height + 1,)), whole, bias)
    model.config = replace(model.config, vocab_size=mask + 1, diffusion=MaskedDiffusion(mask, shifted=True))


def folder_writer(checkpoint: Checkpoint) -> "Callable[[TrainingRun, Path], None]":
    """Writer of the model as it is now, as a folder like any other: in the base's dtype, not packed."""
    dtype = fuse.base_dtype(checkpoint.info)

    def write(run: "TrainingRun", folder: Path) -> None:
        weights, _ = fuse.arrays(run.model, plain=True)
        if isinstance(run.trained, lora.Adapter):
            weights |= {f"{path}.weight": lora.merged(f) for path, f in run.trained.factors.items()}
        arrays = registry.spelled(checkpoint.config, weights)
        arrays = {n: mx.contiguous(a.astype(dtype) if a.dtype in FLOATS else a) for n, a in arrays.items()}
        if not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            fuse.write_tokenizer(checkpoint, folder)
        write_arrays(folder / "model.safetensors", arrays, {"format": "mlx"})
        config = registry.common(checkpoint.config)
        plain = {k: v for k, v in config.items() if k not in ("quantization", "quantization_config")}
        write_json(folder / "config.json", {**plain, "torch_dtype": str(dtype).rpartition(".")[2]})

    return write
