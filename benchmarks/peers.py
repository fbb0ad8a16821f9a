"""SmolLM2 as a folder that mlx-lm reads, from the packaged GGUF: the same weights for both sides of a comparison."""

import json
from pathlib import Path


def export(folder: Path, dtype: str) -> Path:
    """Write config, weights in `dtype` and tokenizer to folder/dtype, once; gives that folder."""
    target = folder / dtype
    if (target / "config.json").exists():
        return target
    from likely.engine.weights.quantize.source import Source
    from likely.engine.weights.sources import gguf, store
    from likely.engine.weights.sources.gguf import mapping, weights
    from likely.engine.weights.sources.gguf.precision import choose
    from likely.metal import mx

    info = store.pull("smollm2")
    header = gguf.read_header(info.path)
    config = mapping.config(header, lambda tensor: weights.read_values(header, tensor))
    heads = config["num_attention_heads"], config["num_key_value_heads"]
    precision = choose(info.parameters, config["model_type"])
    arrays = dict(weights.read_weights(header, mapping.architecture(header), heads, precision))
    target.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(
        str(target / "model.safetensors"),
        {name: array.astype(getattr(mx, dtype)) for name, array in arrays.items()},
        metadata={"format": "pt"},
    )
    Source(info).write_tokenizer(target)
    (target / "config.json").write_text(json.dumps(config))
    return target
