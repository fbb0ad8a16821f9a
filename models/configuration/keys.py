"""A Hugging Face configuration, read: every key once, none guessed. Imports no mlx and knows no family."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from likely.metal.errors import nearest_names
from likely.models.errors import CheckpointError, ConfigError

MOST = 10_000  # layers, or experts of one: published models have 126 and 2,048 at the most
# Keys that say nothing about the function: training, generation, provenance, how a library should load it.
IGNORED = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _flash_attn_2_enabled _name_or_path _num_labels
    _sliding_window_pattern add_cross_attention architectures attention_dropout attn_implementation attn_pdrop
    auto_map aux_loss_alpha bad_words_ids begin_suppress_tokens bos_token_id cache_implementation
    chunk_size_feed_forward classifier_dropout cross_attention_hidden_size decoder_start_token_id diversity_penalty
    do_sample dtype early_stopping embd_pdrop embedding_dropout encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing
    hidden_dropout hybrid_kernel id2label initializer_factor initializer_range is_decoder is_encoder_decoder
    is_llama_config label2id length_penalty max_length min_length model_name neftune_noise_alpha
    no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences output_attentions
    output_hidden_states output_router_logits output_scores pad_token pad_token_id prefix problem_type pruned_heads
    quantization quantization_config remove_invalid_values repetition_penalty resid_pdrop residual_dropout
    return_dict return_dict_in_generate router_aux_loss_coef router_jitter_noise sep_token_id summary_activation
    summary_first_dropout summary_proj_to_labels summary_type summary_use_proj suppress_tokens task_specific_params
    temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript
    transformers.js_config transformers_version typical_p unsloth_fixed unsloth_version use_bfloat16 use_cache
    use_mamba_kernels use_return_dict
    """.split()  # noqa: SIM905
)

# Ends of the names of tensors that say nothing either: they follow from the configuration.
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")

# the names that configurations use -> ours
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

_REQUIRED: Any = object()


class Keys:
    """A configuration from which every key is taken once; what is left at the end is an error."""

    def __init__(self, config: Mapping[str, Any], where: str = "config") -> None:
        self._unread = {key: value for key, value in config.items() if value is not None}
        self._taken: set[str] = set()
        self.where = where

    def bad(self, what: str) -> ConfigError:
        """An error that says where; to be raised."""
        return ConfigError(f"{self.where}: {what}")

    def assume(self, **values: Any) -> None:
        """Set the values that a family's configuration means where it says nothing."""
        self._unread = values | self._unread

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """The value of `name` as it stands; `default` where it is missing or null."""
        self._taken.add(name)
        value = self._unread.pop(name, default)
        if value is _REQUIRED:
            raise self.bad(f"{name} is missing")
        return value

    def _typed(self, name: str, default: Any, kinds: tuple[type, ...], expected: str) -> Any:
        value = self.take(name, default)
        if value is not default and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise self.bad(f"{name} must be {expected}, got {value!r}")
        return value

    def integer(self, name: str, default: Any = _REQUIRED) -> Any:
        return self._typed(name, default, (int,), "an integer")

    def layers(self, name: str) -> int:
        """A number of layers: what is made for each is made at once."""
        count: int = self.integer(name)
        if count > MOST:
            raise self.bad(f"{name} must be at most {MOST:,}, got {count:,}")
        return count

    def number(self, name: str, default: Any = _REQUIRED) -> Any:
        value = self._typed(name, default, (int, float), "a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.bad(f"{name} must be a number, got {value}")
        return float(value) if isinstance(value, int) else value

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers; none where it is missing."""
        values = self.sequence(name) or []
        inner = Keys({str(i): value for i, value in enumerate(values)}, f"{self.where}: {name}")
        return tuple(inner.number(str(i)) for i in range(len(values)))

    def flag(self, name: str, default: Any = _REQUIRED) -> Any:
        return self._typed(name, default, (bool,), "true or false")

    def text(self, name: str, default: Any = _REQUIRED) -> Any:
        return self._typed(name, default, (str,), "a string")

    def table(self, name: str) -> dict[str, Any]:
        return dict(self._typed(name, {}, (dict,), "a table"))

    def sequence(self, name: str) -> list[Any] | None:
        value: list[Any] | None = self._typed(name, None, (list, tuple), "a list")
        return value

    def fixed(self, name: str, *allowed: Any) -> None:
        """`name`, if it is there, is one of `allowed`: other values are known to exist and not built here."""
        value = self.take(name, allowed[0])
        if value not in allowed:
            raise self.bad(f"{name} must be {' or '.join(map(repr, allowed))} here, got {value!r}")

    def activation(self, name: str = "hidden_act", default: Any = _REQUIRED) -> str:
        value = self.text(name, default)
        if value not in ACTIVATIONS:
            raise self.bad(f"{name} must be one of {', '.join(ACTIVATIONS)}, got {value!r}")
        return ACTIVATIONS[value]

    def done(self) -> None:
        """Refuse what nobody took: a key that could change the function may not be dropped in silence."""
        unknown = sorted(key for key in self._unread if key not in IGNORED)
        if unknown:
            near = nearest_names(unknown[0], self._taken)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self.bad(f"unknown key {unknown[0]} = {self._unread[unknown[0]]!r}{hint}")


def refuse_left(shapes: Mapping[str, Sequence[int]]) -> None:
    """CheckpointError for tensors, of these shapes, that no part of a model took."""
    unread = sorted(name for name in shapes if not name.endswith(BUFFERS))
    if unread:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        raise CheckpointError(f"weights: {unread[0]} {list(shapes[unread[0]])}{more} has no place in the model")
