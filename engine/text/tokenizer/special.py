"""Tokens that end a text or a turn, known by how they are spelled: checkpoints name one, and models emit others.

The names are facts about published models, gathered from their configurations and llama.cpp's list of end-of-generation
tokens.
"""

from collections.abc import Iterable

from likely.engine.text.tokenizer.vocabulary import Kind, TokenTable

__all__ = ["ends_of_text", "ends_of_turn"]

_END = "<|end|>"  # of an answer in Phi, of one message among several in Harmony, which ends answers otherwise
_HARMONY = ("<|return|>", "<|call|>")
_ENDS = (
    "<|endoftext|>",  # GPT-2, Qwen, SmolLM
    "<|end_of_text|>",  # Llama 3, Granite
    "<|im_end|>",  # ChatML
    "<|eot_id|>",  # Llama 3
    "<|eom_id|>",
    "<|eot|>",  # Llama 4
    "<|eom|>",
    "</s>",  # Llama 2, Mistral
    "<eos>",  # Gemma
    "<end_of_turn>",
    "<turn|>",  # Gemma 4
    "<|tool_response>",  # behind its calls
    "<\uff5cend\u2581of\u2581sentence\uff5c>",  # DeepSeek
    "<|END_OF_TURN_TOKEN|>",  # Command R
    "<end_of_utterance>",  # SmolVLM
    "[EOS]",  # Kimi K2
    "[EOT]",
    "[|endofturn|]",  # EXAONE
    "[e~[",  # MiniMax
    "<seed:eos>",
    "<SPECIAL_12>",  # Nemotron Nano 2
    "<EOT>",
    *_HARMONY,
)


def ends_of_text(vocabulary: TokenTable) -> frozenset[int]:
    """The control tokens after which nothing of the answer comes."""
    harmony = all(name in vocabulary.ids for name in _HARMONY)
    return _control(vocabulary, _ENDS if harmony else (*_ENDS, _END))


def ends_of_turn(vocabulary: TokenTable) -> frozenset[int]:
    """The control tokens that close a message, whether or not the model stops there."""
    return _control(vocabulary, (*_ENDS, _END))


def _control(vocabulary: TokenTable, names: Iterable[str]) -> frozenset[int]:
    ids = ((name, vocabulary.ids.get(name)) for name in names)
    return frozenset(token for name, token in ids if token is not None and _steers(name, vocabulary.kinds[token]))


def _steers(name: str, kind: int) -> bool:
    # Gemma has the text token </s>, which is HTML; what stands in <|...|> is no text, whatever a checkpoint says of it.
    return kind == Kind.CONTROL or (kind == Kind.USER_DEFINED and name.startswith("<|"))
