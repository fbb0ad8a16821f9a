"""An adapter made part of its model: as a folder in Hugging Face's layout, in the base's own precision or quantised.

Rounding can erase a small change, so the fused model is compared with the base and with the adapter on the same text
before anything is written: KL(adapter || base), KL(fused || adapter), KL(fused || base).
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.arrays import kl
from engine.errors import CheckpointError
from engine.evaluate import compare
from engine.quantize.source import Source
from engine.sources.checkpoint import Checkpoint
from engine.tune import adapters, full, lora, sites
from metal import mx
from models import LanguageModel, Transformer

LOST = 0.5  # share of the adapter's effect that a fused model may lose


@dataclass(frozen=True)
class FusionError:
    """Mean KL in nats a token over a text."""

    adapter: float  # of the adapter to the base: what was learned
    fused: float  # of the fused model to the base
    error: float  # of the fused model to the adapter: what rounding did

    @property
    def lost(self) -> bool:
        """Whether the fused model is nearer to the base than to the adapter."""
        return self.error > LOST * self.adapter


def fuse(
    base: LanguageModel,
    adapter: "lora.Adapter | full.FullWeights",
    texts: Sequence[Sequence[int]],
    *,
    bits: int = 0,
    group_size: int = 64,
    force: bool = False,
) -> FusionError:
    """Merge an attached adapter into its model `base`; `bits` re-quantises the products (0: plain).

    Products that were packed are packed again as they were. CheckpointError where the change is lost, unless forced;
    the model has been changed then all the same.
    """
    if not texts:
        raise CheckpointError("fusing is checked on rows of text: give --data")
    if isinstance(adapter, full.FullWeights):
        return FusionError(0.0, 0.0, 0.0)  # whole weights are in place: nothing was merged
    model = sites.trainable(base)
    tokens = [mx.array([list(ids)]) for ids in texts]
    with lora.off(model):
        before = [_logp(model, t) for t in tokens]
    attached = [_logp(model, t) for t in tokens]
    layouts = {site.path: layout for site in sites.sites(model) if (layout := site.layout) is not None}
    lora.merge(model, adapter)
    for site in sites.sites(model):  # what was packed is packed again as it was
        if site.layout is None and (layout := layouts.get(site.path)) is not None:
            model.put(site, sites.packed(site.matrix, layout))
    model.unite()
    if bits:
        sites.pack(model, bits, group_size)
    fused = [_logp(model, t) for t in tokens]
    kept = FusionError(_kl(attached, before), _kl(fused, before), _kl(fused, attached))
    if kept.lost and not force:
        raise CheckpointError(
            f"the fused model has lost the adapter: KL to the base {kept.adapter:.3g} with it, {kept.fused:.3g} fused, "
            f"{kept.error:.3g} apart; fuse into more bits, or keep the adapter beside the base (--force writes anyway)"
        )
    return kept


def _logp(model: Transformer, tokens: mx.array) -> mx.array:
    found = mx.concatenate(list(compare.logits(model)(tokens)))
    mx.eval(found)
    return found


def _kl(of: Sequence[mx.array], to: Sequence[mx.array]) -> float:
    total = sum(float(mx.sum(kl(a, b, mx))) for a, b in zip(of, to, strict=True))
    return total / sum(a.shape[0] for a in of)


def arrays(model: Transformer, *, plain: bool = False) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """The model's tensors under its checkpoint's names, and the `quantization` entry of its config.

    The joined products come apart again; `plain` expands what is packed.
    """
    found: dict[str, mx.array] = {}
    settings: dict[str, Any] = {}
    for part in model.parts():
        unpacked = plain and part.role != "positions"
        found |= {f"{part.path}.{name}": array for name, array in part.stored(plain=unpacked).items()}
        if (layout := part.layout) is not None and not plain:
            settings[part.path] = {"group_size": layout.group_size, "bits": layout.bits, "mode": layout.mode}
    if settings:
        settings = {**next(iter(settings.values())), **settings}
    return found, settings


def write(checkpoint: Checkpoint, folder: Path, *, dtype: mx.Dtype | None = None) -> None:
    """The model as a folder that mlx-lm and `likely` read. `dtype`: of what is not packed; None: as in memory.

    The tokenizer's files are those of the base's folder, or made of a GGUF file's metadata. CheckpointError where those
    cannot be said in a tokenizer.json (export to GGUF instead), and where the directory is in use.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(checkpoint, folder)
    found, settings = arrays(sites.trainable(checkpoint.model))
    if dtype is not None:
        found = {n: a if a.dtype == mx.uint32 else a.astype(dtype) for n, a in found.items()}
    config = {k: v for k, v in checkpoint.config.items() if k not in ("quantization", "quantization_config")}
    if settings:
        config |= {"quantization": settings, "quantization_config": settings}
    adapters.write_arrays(
        folder / "model.safetensors", {n: mx.contiguous(a) for n, a in found.items()}, {"format": "mlx"}
    )
    adapters.write_whole(folder / "config.json", lambda beside: beside.write_text(json.dumps(config, indent=1)))


def _write_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    source = checkpoint.info.path
    if source.is_file():
        try:
            Source(checkpoint.info).write_tokenizer(folder)
        except CheckpointError:
            folder.rmdir()
            raise CheckpointError(
                f"the tokenizer of {checkpoint.info.name} cannot be written for a folder: export with --gguf"
            ) from None
        return
    for file in source.iterdir():
        copied = file.suffix in (".json", ".jinja", ".model", ".txt") and not file.name.startswith("model.safetensors")
        if file.is_file() and copied and file.name != "config.json":
            shutil.copy(file, folder / file.name)
