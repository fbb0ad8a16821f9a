"""A text as token ids on disk: made once by reading it twice, and mapped into memory afterwards, however long it is.

A folder with the tokenizer, `train.bin` and `valid.bin` (ids of documents one after another, little-endian, 2 or 4
bytes), the documents' lengths beside each (`.len`, 4 bytes), and `corpus.json`, which is written last. Which documents
are set aside follows from a hash of their text alone. Runs with the same text and tokenizer may share the folder.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path

import numpy as np

from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.base.files.foreign_json import read as read_json
from likely.engine.base.files.home import expanded
from likely.engine.base.files.lock import claimed
from likely.engine.text.tokenizer import Tokenizer, from_folder
from likely.engine.train.data.samples import text_end
from likely.engine.train.data.token_rows import TokenRows
from likely.engine.train.pretrain import vocabulary
from likely.engine.train.pretrain.config import TOKENIZERS, PretrainConfig
from likely.engine.train.pretrain.documents import CorpusDocument, documents, sources
from likely.engine.weights.adapters.stored import copy_whole, write_json
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.engine.weights.sources.model_info import fingerprint

FILE = "corpus.json"
PARTS = ("train", "valid")
KEY = ("text", "tokenizer", "vocab", "valid")
SHARE = 1 << 16
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


@dataclass(frozen=True)
class CorpusFacts:
    """Facts of a corpus: its making and its amounts. `unigram` are the held-out bits a byte by frequencies alone."""

    text: str  # fingerprint of the files
    tokenizer: str  # kind, or a hash of the folder it came from
    vocab: int  # that were asked for; 0: by the text
    valid: float
    tokens: int  # entries of the tokenizer
    documents: int
    train_tokens: int
    valid_tokens: int
    train_bytes: int
    valid_bytes: int
    unigram: float
    unigram_of_bytes: float

    @property
    def key(self) -> list[str | int | float]:
        """Text and options that it was asked for with, by which it is known."""
        return [getattr(self, name) for name in KEY]


SCHEMA = {f.name: f.type for f in fields(CorpusFacts)}


@dataclass(frozen=True)
class Corpus:
    """A corpus in its folder."""

    folder: Path
    facts: CorpusFacts
    tokenizer: Tokenizer

    def rows(self, part: str, length: int) -> TokenRows:
        """Samples of at most `length` ids of a part; nothing is read yet. DataError where a file is damaged."""
        kind = np.dtype(_kind(self.facts.tokens))
        path = self.folder / f"{part}.bin"
        try:
            lengths = np.fromfile(path.with_suffix(".len"), "<u4").astype(np.int64)
            ids = np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}; remove {self.folder}, it is made again") from error
        if lengths.sum() != len(ids):
            raise DataError(f"{path} is damaged: {len(ids)} ids for {lengths.sum()}; remove {self.folder}")
        if len(ids) and (most := int(ids.max())) >= self.facts.tokens:
            raise DataError(f"{path} is damaged: it has token {most} of {self.facts.tokens}; remove {self.folder}")
        return TokenRows(ids, lengths, length, part)

    @property
    def bytes_a_token(self) -> float:
        """Bytes a token of the text that is set aside."""
        return self.facts.valid_bytes / max(1, self.facts.valid_tokens)


def corpus(
    config: PretrainConfig, parameters: float = math.inf, progress: Report = silent, *, unused: bool = False
) -> Corpus:
    """The text of the options as tokens: what lies in the folder, or made there.

    `parameters` bound the vocabulary where its size is not asked for. What is `unused` gives way to another: a plan, or
    a text that was too short, has left it, and no model has read it. DataError for a text that is empty, is none, or is
    not the one in the folder.
    """
    if not config.data:
        raise ParameterError("give DATA: a file or a folder of text")
    folder = expanded(config.corpus or Path(config.out) / "corpus")
    files = sources(config.data)
    text = hashlib.sha256("\n".join([fingerprint(files), *(f.suffix for f in files)]).encode()).hexdigest()
    key = (text, _identity(config.tokenizer), config.vocab, config.valid)
    if (there := _there(folder, key, config, unused)) is not None:
        return there
    if config.tokenizer in ("bpe", "unigram") and 0 < config.vocab < vocabulary.SMALLEST:
        raise ParameterError(f"vocab must be {vocabulary.SMALLEST} or more, got {config.vocab}")
    hashes = _survey(files, progress)
    aside = _set_aside(hashes, config)
    option = "--corpus" if config.corpus else "--out"
    # not before: a text that is refused leaves no folder
    with claimed(folder, "pretrain", option, wait=lambda held: progress(f"waiting: {held}", 0, 0)):
        if (there := _there(folder, key, config, unused)) is not None:  # by whoever was waited for
            return there
        (folder / FILE).unlink(missing_ok=True)  # what follows is whole once this is there again
        texts = (d.text for d, out in zip(_all(files), aside, strict=True) if not out)
        progress("learning a tokenizer", 0, 0)
        if config.tokenizer in TOKENIZERS:
            size = config.vocab or vocabulary.size_for(sum(n for _, n in hashes), parameters)
            tokenizer = vocabulary.train(config.tokenizer, size, texts, folder)
        else:
            tokenizer = _copied(expanded(config.tokenizer), folder)
        facts = _encoded(files, aside, tokenizer, folder, key, progress)
        write_json(folder / FILE, asdict(facts))
    return Corpus(folder, facts, tokenizer)


def _there(folder: Path, key: tuple[str, str, int, float], config: PretrainConfig, unused: bool) -> Corpus | None:
    """The corpus that lies in the folder, if any; where it is not the one asked for None if unused, else DataError."""
    if not (folder / FILE).exists():
        return None
    facts = CorpusFacts(**read_json(folder / FILE, SCHEMA))
    for name, there, mine in zip(KEY, facts.key, key, strict=True):
        if there != mine and unused:
            return None
        if there != mine:
            raise DataError(
                f"{folder} holds another corpus: its {name} is not the one asked for; give another --corpus"
                + ("" if config.corpus else " or --out")
            )
    return Corpus(folder, facts, from_folder(folder))


def _kind(tokens: int) -> str:
    """How an id of a vocabulary of so many is written."""
    return "<u2" if tokens <= 1 << 16 else "<u4"


def _all(files: Sequence[Path]) -> Iterator[CorpusDocument]:
    return chain.from_iterable(map(documents, files))


def _survey(files: Sequence[Path], progress: Report) -> list[tuple[int, int]]:
    """The first two bytes of each document's hash, and its length in bytes."""
    hashes = []
    total = sum(file.stat().st_size for file in files)
    read = 0
    for document in _all(files):
        data = document.text.encode()
        hashes.append((int.from_bytes(hashlib.sha256(data).digest()[:2], "big"), len(data)))
        read += len(data)
        progress("reading the text", min(read, total), total)
    if not hashes:
        raise DataError(f"there is no text in {', '.join(str(file) for file in files[:4])}: nothing but blanks")
    return hashes


def _set_aside(hashes: Sequence[tuple[int, int]], config: PretrainConfig) -> list[bool]:
    """Which documents are validated on: that with the smallest hash in any case, and that with the largest in none."""
    if len({first for first, _ in hashes}) < 2:
        raise DataError(f"{config.data} is too short: a part is trained on and another set aside, and it is one piece")
    limit = config.valid * SHARE
    least, most = min(first for first, _ in hashes), max(first for first, _ in hashes)
    return [(first < limit or first == least) and first != most for first, _ in hashes]


def _encoded(
    files: Sequence[Path],
    aside: Sequence[bool],
    tokenizer: Tokenizer,
    folder: Path,
    key: tuple[str, str, int, float],
    progress: Report,
) -> CorpusFacts:
    """Write the ids of both parts; what they are."""
    kind = _kind(tokenizer.vocab_size)
    end = text_end(tokenizer)
    lengths: dict[str, list[int]] = {part: [] for part in PARTS}
    nbytes = dict.fromkeys(PARTS, 0)
    ids_seen = {part: np.zeros(tokenizer.vocab_size) for part in PARTS}
    bytes_seen = {part: np.zeros(256) for part in PARTS}

    try:  # FILE says when both are whole
        with (folder / "train.bin").open("wb") as train, (folder / "valid.bin").open("wb") as valid:
            for i, document in enumerate(_all(files)):
                part = PARTS[aside[i]]
                ids = tokenizer.encode(document.text)
                ids += [end] if document.ends and end is not None else []
                (valid if aside[i] else train).write(np.asarray(ids, kind).tobytes())
                lengths[part].append(len(ids))
                data = np.frombuffer(document.text.encode(), np.uint8)
                nbytes[part] += len(data)
                ids_seen[part] += np.bincount(ids, minlength=tokenizer.vocab_size)
                bytes_seen[part] += np.bincount(data, minlength=256)
                progress("reading it as tokens", i + 1, len(aside))
        for part in PARTS:
            np.asarray(lengths[part], "<u4").tofile(folder / f"{part}.len")
    except OSError as error:
        raise DataError(f"{folder} was not written: {error.strerror}; make room or choose another --corpus") from error
    valid_bytes = nbytes["valid"]
    return CorpusFacts(
        *key,
        tokens=tokenizer.vocab_size,
        documents=len(aside),
        train_tokens=sum(lengths["train"]),
        valid_tokens=sum(lengths["valid"]),
        train_bytes=nbytes["train"],
        valid_bytes=valid_bytes,
        unigram=_bits(ids_seen) / valid_bytes,
        unigram_of_bytes=_bits(bytes_seen) / valid_bytes,
    )


def _bits(rows: dict[str, np.ndarray]) -> float:
    """Bits of the held-out symbols by their frequencies in the training part, each once more than it was seen."""
    counts = rows["train"] + 1
    return float(-(rows["valid"] * np.log2(counts / counts.sum())).sum())


def _identity(name: str) -> str:
    """A kind by its name, a folder by its tokenizer."""
    if name in TOKENIZERS:
        return name
    file = expanded(name) / "tokenizer.json"
    if not file.is_file():
        raise ParameterError(
            f"tokenizer must be {', '.join(TOKENIZERS)} or a folder with a tokenizer.json, got {name!r}"
        )
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _copied(source: Path, folder: Path) -> Tokenizer:
    """The tokenizer of another model's folder, in this one."""
    copy_tokenizer(source, folder)
    try:
        return from_folder(folder)
    except CheckpointError:
        (folder / "tokenizer.json").unlink(missing_ok=True)
        raise


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put the files of a folder's tokenizer into another."""
    for name in TOKENIZER:
        if (source / name).is_file():
            copy_whole(source / name, folder / name)
