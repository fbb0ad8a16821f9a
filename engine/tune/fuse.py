"""An adapter made part of its model: as a folder in Hugging Face's layout, in the base's own precision or quantised.

Rounding can erase a small change, so the fused model is compared with the base and with the adapter on the same text
before anything is written: KL(adapter || base), KL(fused || adapter), KL(fused || base).
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import diff
from engine.checkpoint import Checkpoint
from engine.errors import CheckpointError
from engine.quantize.source import Source
from engine.tune import adapters, full, lora, sites
from metal import mx
from models import Transformer
from models.families import family
from models.layers import Linear, QuantizedLinear
from models.weights import Packed

LOST = 0.5  # share of the adapter's effect that a fused model may lose


@dataclass(frozen=True)
class Kept:
    """Mean KL in nats a token over a text."""

    adapter: float  # of the adapter to the base: what was learned
    fused: float  # of the fused model to the base
    error: float  # of the fused model to the adapter: what rounding did

    @property
    def lost(self) -> bool:
        """Whether the fused model is nearer to the base than to the adapter."""
        return self.error > LOST * self.adapter


def fuse(
    model: Transformer,
    adapter: "lora.Adapter | full.Weights",
    texts: Sequence[Sequence[int]],
    *,
    bits: int = 0,
    group_size: int = 64,
    force: bool = False,
) -> Kept:
    """Merge an attached adapter into `model`; `bits` re-quantises the products (0: plain).

    Products that were packed are packed again as they were. CheckpointError where the change is lost, unless forced;
    the model has been changed then all the same.
    """
    if not texts:
        raise CheckpointError("fusing is checked on rows of text: give --data")
    if isinstance(adapter, full.Weights):
        return Kept(0.0, 0.0, 0.0)  # whole weights are in place: nothing was merged
    tokens = [mx.array([list(ids)]) for ids in texts]
    with lora.off(model):
        base = [_logp(model, t) for t in tokens]
    attached = [_logp(model, t) for t in tokens]
    layouts = {
        path: linear.packed.layout for path, linear in model.linears.items() if isinstance(linear, QuantizedLinear)
    }
    lora.merge(model, adapter)
    for path, layout in layouts.items():
        linear = model.linears[path]
        if isinstance(linear, Linear):
            sites.replace(model, path, sites.packed(linear, layout.bits, layout.group_size))
    if bits:
        sites.pack(model, bits, group_size)
    fused = [_logp(model, t) for t in tokens]
    kept = Kept(_kl(attached, base), _kl(fused, base), _kl(fused, attached))
    if kept.lost and not force:
        raise CheckpointError(
            f"the fused model has lost the adapter: KL to the base {kept.adapter:.3g} with it, {kept.fused:.3g} fused, "
            f"{kept.error:.3g} apart; fuse into more bits, or keep the adapter beside the base (--force writes anyway)"
        )
    return kept


def _logp(model: Transformer, tokens: mx.array) -> mx.array:
    found = mx.concatenate(list(diff.logits(model)(tokens)))
    mx.eval(found)
    return found


def _kl(of: Sequence[mx.array], to: Sequence[mx.array]) -> float:
    total = sum(float(mx.sum(diff.divergence(a, b))) for a, b in zip(of, to, strict=True))
    return total / sum(a.shape[0] for a in of)


def arrays(model: Transformer, *, plain: bool = False) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """The model's tensors under its checkpoint's names, and the `quantization` entry of its config.

    The joined products come apart again; `plain` expands what is packed.
    """

    def parts(product: Linear | QuantizedLinear) -> dict[str, mx.array]:
        whole = {"weight": product.rows()} | ({} if product.bias is None else {"bias": product.bias})
        return whole if plain else product.arrays()

    kind = family(model.config.family)
    if model.config.experts is not None:
        raise CheckpointError("writing a mixture of experts is not supported")
    found: dict[str, mx.array] = {}
    settings: dict[str, Any] = {}

    def matrix(path: str, of: Mapping[str, mx.array], row: int, rows: int) -> None:
        for name, array in of.items():
            found[f"{path}.{name}"] = array[row : row + rows]

    for site in sites.sites(model):
        matrix(site.path, parts(site.linear), site.row, site.height)
        if isinstance(site.linear, QuantizedLinear) and not plain:
            layout = site.linear.packed.layout
            settings[site.path] = {"group_size": layout.group_size, "bits": layout.bits, "mode": layout.mode}
    top = kind.top
    table = model.embed.arrays()
    if plain and isinstance(model.embed.table, Packed):
        table = {"weight": model.embed.table.floats(mx.float32)}
    for name, array in table.items():
        found[f"{top['embed']}.{name}"] = array
    if not model.config.tied:
        for name, array in parts(model.out).items():
            found[f"{top['head']}.{name}"] = array
    if model.positions is not None:
        for name, array in model.positions.arrays().items():
            found[f"{top['positions']}.{name}"] = array
    found |= full.norms(model)
    for path, part in ((top["embed"], model.embed.table), (top["head"], getattr(model.out, "packed", None))):
        if isinstance(part, Packed) and not plain:
            settings[path] = {"group_size": part.layout.group_size, "bits": part.layout.bits, "mode": part.layout.mode}
    if settings:
        first = next(iter(settings.values()))
        settings = {**first, **settings}
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
    found, settings = arrays(checkpoint.model)
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
