"""An adapter as a GGUF file by itself, which llama.cpp loads beside a base and swaps while it runs (--lora).

The form is that of llama.cpp's convert_lora_to_gguf: for every tensor of the base `<name>.lora_a` [r, in] and
`<name>.lora_b` [out, r] in float32, rows of q and k in the base's order there, and one alpha; its runtime adds
alpha / r x B A. An embedding's A is kept [V, r], as rows of it are looked up.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from likely.engine.base.errors import ParameterError
from likely.engine.weights.adapters.factors import Factors
from likely.engine.weights.adapters.lora import Adapter
from likely.engine.weights.adapters.stored import write_whole
from likely.engine.weights.sources.checkpoint import Checkpoint
from likely.engine.weights.sources.gguf import mapping
from likely.engine.weights.write import gguf


def write(path: Path, adapter: Adapter, checkpoint: Checkpoint) -> None:
    """Write an adapter of the checkpoint's model; the file lands whole.

    ParameterError for what llama.cpp has no place for; CheckpointError for a family that it does not have.
    """
    first = next(iter(adapter.factors.values()))
    alpha = first.scale * first.rank
    architecture, arch = gguf.target(checkpoint)
    config = checkpoint.model.config
    names = gguf.names(arch, config.layers)
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}
    for site, f in adapter.factors.items():
        if f.m is not None or f.shift is not None:
            what = "DoRA" if f.m is not None else "bias beside the factors"
            raise ParameterError(f"llama.cpp has no {what}, and {site} has one: fuse the adapter instead")
        if config.tied and f.site.role in ("embed", "head"):
            raise ParameterError(
                f"llama.cpp cannot adapt {site} where embedding and head are one table: leave it out by modules, or "
                "fuse it"
            )

    def tensors(name: str, f: Factors) -> Iterator[tuple[str, np.ndarray]]:
        a, b = (np.array(factor, np.float32) for factor in f.whole())
        if f.site.kind != "experts":
            a, b = a if f.site.kind == "table" else a.T, b.T
        b = b * np.float32(f.scale * f.rank / alpha)
        if mapping.is_interleaved(name, arch):
            b = gguf.tangled(b, heads[name.split(".")[-2]])
        yield f"{name}.lora_a", np.ascontiguousarray(a)
        yield f"{name}.lora_b", np.ascontiguousarray(b)

    def fill(beside: Path) -> None:
        writer = GGUFWriter(str(beside), architecture)
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        for site, f in adapter.factors.items():
            for name, numbers in tensors(names[f"{site}.weight"], f):
                writer.add_tensor(name, numbers)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_whole(path, fill)
