"""A tokenizer from a GGUF file's metadata: the keys `tokenizer.ggml.*` and `tokenizer.chat_template*`."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import CheckpointError
from likely.engine.text.tokenizer.byte_pairs import BytePairs
from likely.engine.text.tokenizer.encoder import (
    AddedTokens,
    Encoder,
    LibraryEncoder,
    SentencePieceEncoder,
    ShortEncoder,
)
from likely.engine.text.tokenizer.pretokenizers import Pretokenizer, pretokenizer
from likely.engine.text.tokenizer.sentencepiece import SentencePiece
from likely.engine.text.tokenizer.template import ChatTemplate
from likely.engine.text.tokenizer.tokenizer import Tokenizer
from likely.engine.text.tokenizer.vocabulary import Kind, TokenTable, byte_level_bytes, sentencepiece_bytes
from likely.engine.text.tokenizer.words import by_library, cutter

if TYPE_CHECKING:
    import tokenizers

__all__ = ["build"]

_PREFIX = "tokenizer.ggml."
_TEMPLATE = "tokenizer.chat_template"


def build(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that the metadata, plain Python values, describes.

    Raises CheckpointError where it is missing, inconsistent or of an unknown kind.
    """
    model = metadata.get(_PREFIX + "model")
    if model is None:
        raise CheckpointError(
            "the GGUF file has no tokenizer (tokenizer.ggml.model): it may be an adapter or a part of a model"
        )
    if model not in ("gpt2", "llama"):
        raise CheckpointError(
            f"expected a GGUF tokenizer of kind gpt2 or llama, got {model!r}: use the model's Hugging Face folder"
        )
    byte_level = model == "gpt2"
    tokens = _strings(metadata, "tokens")
    if tokens is None:
        raise CheckpointError(
            "the GGUF file has no vocabulary (tokenizer.ggml.tokens): it is damaged or not a whole model"
        )
    kinds = _column(metadata, "token_type", len(tokens), int) or [Kind.NORMAL] * len(tokens)
    if not set(kinds) <= set(Kind):
        raise CheckpointError(
            f"expected token types (tokenizer.ggml.token_type) of 1 to 6, got {max(set(kinds) - set(Kind))}"
        )
    vocabulary = TokenTable(tokens, bytes(kinds), byte_level_bytes if byte_level else sentencepiece_bytes)
    rule = pretokenizer(metadata.get(_PREFIX + "pre")) if byte_level else Pretokenizer((), bos=True)
    prefix = bool(metadata.get(_PREFIX + "add_space_prefix", True)) and not byte_level
    encoder: Encoder = _byte_level(metadata, vocabulary, rule) if byte_level else _scored(metadata, vocabulary, prefix)
    named = {name: token for name in _NAMED if (token := _token(metadata, name, len(tokens))) is not None}
    if not byte_level:  # what llama.cpp takes where such a file does not say
        named = {name: token for name, token in _SENTENCEPIECE_DEFAULTS.items() if token < len(tokens)} | named
    texts = {f"{_NAMED[name]}_token": tokens[token] for name, token in named.items()}
    return Tokenizer(
        vocabulary,
        encoder,
        bos=named.get("bos"),
        add_bos=bool(metadata.get(_PREFIX + "add_bos_token", rule.bos)),
        add_eos=bool(metadata.get(_PREFIX + "add_eos_token", False)),
        eos=[named[name] for name in ("eos", "eot", "eom") if name in named],
        strip_space=prefix,
        templates={
            key.removeprefix(_TEMPLATE).removeprefix(".") or "default": ChatTemplate(source, texts)
            for key, source in metadata.items()
            if (key == _TEMPLATE or key.startswith(_TEMPLATE + ".")) and isinstance(source, str)
        },
    )


# GGUF's name of a special token -> the variable that chat templates know it by, less "_token".
_NAMED = {name: name for name in ("bos", "eos", "eot", "eom")} | {"unknown": "unk", "padding": "pad"}
_SENTENCEPIECE_DEFAULTS = {"bos": 1, "eos": 2, "unknown": 0}


ADDED = re.compile(bytes([ord("["), *(Kind.CONTROL, Kind.UNKNOWN, Kind.USER_DEFINED), ord("]")]))


def _byte_level(metadata: Mapping[str, Any], vocabulary: TokenTable, rule: Pretokenizer) -> LibraryEncoder:
    merges = _strings(metadata, "merges")
    if merges is None:
        raise CheckpointError(
            "the GGUF file has no merges (tokenizer.ggml.merges), without which text cannot be cut into its tokens"
        )
    ids = vocabulary.ids
    try:
        byte_pairs = BytePairs(vocabulary, merges, cutter(rule), rule.whole_words)
    except ValueError as error:
        raise CheckpointError(f"the GGUF file's merges do not fit its vocabulary: {error}") from error
    whole: dict[str, int] = {}
    control: dict[str, int] = {}
    for found in re.finditer(ADDED, vocabulary.kinds):
        if text := vocabulary.tokens[found.start()]:
            (whole if found[0][0] == Kind.USER_DEFINED else control)[text] = ids[text]

    def library() -> "tokenizers.Tokenizer":
        import tokenizers
        from tokenizers import models

        pairs = [(left, right) for left, right in (merge.split(" ", 1) for merge in merges)]
        try:
            made = tokenizers.Tokenizer(models.BPE(ids, pairs, ignore_merges=rule.whole_words))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"the GGUF file's merges do not fit its vocabulary: {error}") from error
        made.pre_tokenizer = by_library(rule)
        added = [(text, True) for text in control] + [(text, False) for text in whole]
        made.add_tokens([tokenizers.AddedToken(text, special=special, normalized=False) for text, special in added])
        return made

    return LibraryEncoder(library, short=ShortEncoder(byte_pairs, whole, control))


def _scored(metadata: Mapping[str, Any], vocabulary: TokenTable, prefix: bool) -> SentencePieceEncoder:
    scores = _column(metadata, "scores", len(vocabulary), float)
    if scores is None:
        raise CheckpointError(
            "the GGUF file has no token scores (tokenizer.ggml.scores), which its kind of tokenizer cuts text by"
        )
    ids: dict[str, int] = {}
    whole: dict[str, int] = {}
    control: dict[str, int] = {}
    lone: dict[int, int] = {}
    for token, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        if kind == Kind.NORMAL:
            ids.setdefault(text or "", token)
        elif kind == Kind.BYTE and len(piece := vocabulary.piece(token)) == 1:
            lone[piece[0]] = token
        elif text and kind == Kind.USER_DEFINED:
            whole.setdefault(text.replace("\u2581", " "), token)
        elif text and kind in (Kind.CONTROL, Kind.UNKNOWN):
            control.setdefault(text, token)
    if lone and len(lone) < 256:
        raise CheckpointError(f"expected 256 byte tokens in the GGUF file's vocabulary, got {len(lone)}")
    unknown = _token(metadata, "unknown", len(vocabulary))
    pieces = SentencePiece(
        ids, scores, [lone[byte] for byte in range(256)] if lone else [], 0 if unknown is None else unknown
    )
    # Phi-3's control tokens swallow the blanks behind them, which the format has no field for.
    name = str(metadata.get("general.name", "")).lower()
    unstripped = ("<unk>", "<s>", "<|endoftext|>")
    swallow = "phi-3" in name or "phi3" in name
    rstrip = [token for text, token in control.items() if text not in unstripped] if swallow else []
    return SentencePieceEncoder(pieces, AddedTokens(whole), AddedTokens(control, rstrip), prefix=prefix)


def _strings(metadata: Mapping[str, Any], key: str) -> list[str] | None:
    values = metadata.get(_PREFIX + key)
    if values is not None and not (isinstance(values, list) and set(map(type, values)) <= {str}):
        raise CheckpointError(f"expected {_PREFIX}{key} to be a list of strings, got {type(values).__name__}")
    return values


def _column(metadata: Mapping[str, Any], key: str, n: int, of: type) -> list[Any] | None:
    values = metadata.get(_PREFIX + key)
    if values is None:
        return None
    column = list(values) if isinstance(values, Sequence) else []
    if len(column) != n or not set(map(type, column)) <= {int, of}:
        raise CheckpointError(f"expected {_PREFIX}{key} to be {n} of {of.__name__}, one for each token")
    return column


def _token(metadata: Mapping[str, Any], name: str, n: int) -> int | None:
    token = metadata.get(f"{_PREFIX}{name}_token_id")
    return int(token) if isinstance(token, int) and 0 <= token < n else None
