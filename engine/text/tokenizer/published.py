"""A tokenizer as Hugging Face folders have it: tokenizer.json and tokenizer_config.json, which mlx-lm reads.

A SentencePiece vocabulary, which is cut by its scores alone, becomes pairs to merge in the order of the scores.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import CheckpointError
from likely.engine.base.files.whole_file import write_whole
from likely.engine.text.tokenizer.encoder import LibraryEncoder, SentencePieceEncoder
from likely.engine.text.tokenizer.vocabulary import Kind

if TYPE_CHECKING:
    import tokenizers

    from likely.engine.text.tokenizer.tokenizer import Tokenizer

_SPACE = "\u2581"


def write(tokenizer: "Tokenizer", folder: Path, eos: int | None = None) -> None:
    """Write both files; `eos` is the end of text among several. CheckpointError where the format cannot say it."""
    twin = library(tokenizer)
    bos = None if tokenizer.bos is None else tokenizer.piece(tokenizer.bos).decode()
    if tokenizer.add_bos:
        from tokenizers import processors

        twin.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, tokenizer.bos)])
    write_whole(folder / "tokenizer.json", [twin.to_str(pretty=True)])
    eos = min(tokenizer.eos, default=None) if eos is None else eos
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": None if eos is None else tokenizer.piece(eos).decode(),
        "chat_template": tokenizer.chat_template,
    }
    known = {key: value for key, value in settings.items() if value is not None}
    write_whole(folder / "tokenizer_config.json", [json.dumps(known, indent=2)])


def library(tokenizer: "Tokenizer") -> "tokenizers.Tokenizer":
    """A tokenizer of the `tokenizers` package that gives the same ids. CheckpointError where there is none."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders

    encoder = tokenizer.encoder
    if isinstance(encoder, LibraryEncoder):
        twin = Library.from_str(encoder.library.to_str())
        twin.decoder = twin.decoder or decoders.ByteLevel()  # what a GGUF file does not need
        return twin
    assert isinstance(encoder, SentencePieceEncoder)
    return _merging(tokenizer, encoder)


def _merging(tokenizer: "Tokenizer", encoder: SentencePieceEncoder) -> "tokenizers.Tokenizer":
    from tokenizers import AddedToken, decoders, models, normalizers
    from tokenizers import Tokenizer as Library

    vocabulary, pieces, prefix = tokenizer.vocabulary, encoder.pieces, encoder.prefix
    whole = [text for text, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True) if kind == Kind.USER_DEFINED]
    if whole and prefix:
        raise CheckpointError(
            f"tokenizer.json cannot both put a blank before a text and match {whole[0]!r} in it: use the original model"
        )
    unknown = None if pieces.unknown is None else vocabulary.tokens[pieces.unknown]
    model = models.BPE(
        vocabulary.ids,
        _merges(pieces.ids, pieces.scores),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=bool(pieces.lone),
    )
    twin = Library(model)
    blanks = normalizers.Replace(" ", _SPACE)
    twin.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), blanks]) if prefix else blanks
    parts = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    twin.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefix else parts)
    twin.add_tokens([AddedToken(text, normalized=True, special=False) for text in whole])
    control = [(text, token) for text, token in encoder.control.ids.items()]
    twin.add_special_tokens(
        [
            AddedToken(text, normalized=False, special=True, rstrip=token in encoder.control.rstrip)
            for text, token in control
        ]
    )
    return twin


def _merges(ids: Any, scores: Any) -> list[tuple[str, str]]:
    """Every pair of pieces whose union is a piece, the best union first."""
    merges = []
    for piece, token in ids.items():
        halves = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        pairs = [(left, right) for left, right in halves if left in ids and right in ids]
        merges += [(-scores[token], ids[left], ids[right], left, right) for left, right in pairs]
    return [(left, right) for *_, left, right in sorted(merges)]
