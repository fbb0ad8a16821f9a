"""SmolLM3: Llama where every fourth layer knows no positions."""

from likely.models.configuration.config import ModelConfig
from likely.models.configuration.keys import Keys
from likely.models.configuration.rope import read_rope
from likely.models.families import llama

NAMES = llama.NAMES


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = llama.common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-6))
    layers, size = fields["layers"], fields["head_size"]
    keys.fixed("pretraining_tp", 1, 2)
    every = keys.integer("no_rope_layer_interval", 4)
    turned = keys.sequence("no_rope_layers")  # 1 where positions are known
    if turned is None:
        turned = [int((i + 1) % every != 0) for i in range(layers)]
    if len(turned) != layers:
        raise keys.bad(f"no_rope_layers has {len(turned)} entries for {layers} layers")
    rope = read_rope(keys, size, fields["context"], theta=2e6)
    return ModelConfig(
        **fields,
        **llama.biased(keys),
        windows=llama.read_switched_windows(keys, layers),
        ropes=tuple(rope if turn else None for turn in turned),
        scale=size**-0.5,
        tied=keys.flag("tie_word_embeddings", True),
    )
