"""Vocabulary trained on a text, as a tokenizer's folder: byte-level BPE and unigram, bytes, characters.

None of them meets a text that it cannot spell: the first three have every byte, characters fall back to bytes.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.engine.base.files.whole_file import write_whole
from likely.engine.text.tokenizer import Tokenizer, from_folder
from likely.engine.text.tokenizer.vocabulary import BYTE_LEVEL

if TYPE_CHECKING:
    import tokenizers

END = "<|endoftext|>"
SPACE = "\u2581"
LEAST, MOST = 512, 1 << 15  # tokens, where none are asked for
SMALLEST = 258  # every byte, the end, and one more


def size_for(nbytes: int, parameters: float = math.inf) -> int:
    """Tokens for a text of so many bytes and a model of so many parameters: a power of two, about twice the root."""
    root = 2 * math.sqrt(min(nbytes, parameters))
    return min(MOST, 1 << int(math.log2(max(LEAST, root))))


def train(kind: str, vocab: int, texts: Iterable[str], folder: Path) -> Tokenizer:
    """Train a tokenizer of `kind` on texts, write it into `folder`, and give it as every model's is read.

    A text that has fewer different words than that gives fewer tokens than `vocab`. DataError where it cannot be
    written.
    """
    trained = {"bpe": _bpe, "unigram": _unigram, "bytes": _bytes, "characters": _characters}[kind](texts, vocab)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "tokenizer.json", [trained.to_str(pretty=True)])
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    write_whole(folder / "tokenizer_config.json", [json.dumps(settings, indent=2) + "\n"])
    return from_folder(folder)


def _bpe(texts: Iterable[str], vocab: int) -> "tokenizers.Tokenizer":
    from tokenizers import models, trainers

    return _trained(models.BPE(), trainers.BpeTrainer, texts, vocab)


def _unigram(texts: Iterable[str], vocab: int) -> "tokenizers.Tokenizer":
    from tokenizers import models, trainers

    return _trained(models.Unigram(), trainers.UnigramTrainer, texts, vocab)


def _trained(model: Any, trainer: Any, texts: Iterable[str], vocab: int) -> "tokenizers.Tokenizer":
    tokenizer = _byte_level(model)
    alphabet = {"special_tokens": [END], "initial_alphabet": sorted(BYTE_LEVEL)}
    tokenizer.train_from_iterator(texts, trainer(vocab_size=vocab, show_progress=False, **alphabet))
    return tokenizer


def _byte_level(model: Any) -> "tokenizers.Tokenizer":
    """Text cut into words as GPT-2 does, whose rule every program knows, and spelled by bytes."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, pre_tokenizers

    tokenizer = Library(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _bytes(texts: Iterable[str], vocab: int) -> "tokenizers.Tokenizer":
    from tokenizers import models

    tokenizer = _byte_level(models.BPE(vocab={text: i for i, text in enumerate([END, *sorted(BYTE_LEVEL)])}, merges=[]))
    tokenizer.add_special_tokens([END])
    return tokenizer


def _characters(texts: Iterable[str], vocab: int) -> "tokenizers.Tokenizer":
    """A token for each character of the texts; of others, their bytes."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers

    there: set[str] = set()
    for text in texts:
        there.update(text)
    spelled = [END, *(f"<0x{byte:02X}>" for byte in range(256)), SPACE, *sorted(there - {" ", SPACE})]
    model = models.BPE(vocab={text: i for i, text in enumerate(spelled)}, merges=[], byte_fallback=True)
    tokenizer = Library(model)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([END])
    return tokenizer
