"""SmolLM2 as a folder that mlx-lm reads, from the packaged GGUF: the same weights for both sides of a comparison."""

import json
from pathlib import Path

CHATML = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"


def export(folder: Path, dtype: str) -> Path:
    """Write config, weights in `dtype` and tokenizer to folder/dtype, once; gives that folder."""
    target = folder / dtype
    if (target / "config.json").exists():
        return target
    from engine import gguf, store
    from engine.gguf import mapping, weights
    from engine.precision import choose
    from metal import mx

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
    _tokenizer(header, target)
    (target / "config.json").write_text(json.dumps(config))
    return target


def _tokenizer(header, target: Path) -> None:
    """tokenizer.json and tokenizer_config.json of the GGUF's vocabulary."""
    from engine.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_gguf(header.metadata)
    tokenizer._encoder._library.save(str(target / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": tokenizer.chat_template or CHATML,
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
