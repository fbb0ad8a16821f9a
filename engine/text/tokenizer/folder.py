"""A tokenizer from a Hugging Face folder: tokenizer.json, and special tokens and chat templates from beside it."""

import json
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import read_whole
from likely.engine.text.tokenizer import normalizers, unpublished
from likely.engine.text.tokenizer.encoder import LibraryEncoder
from likely.engine.text.tokenizer.template import ChatTemplate
from likely.engine.text.tokenizer.tokenizer import Tokenizer
from likely.engine.text.tokenizer.vocabulary import Kind, TokenTable, byte_level_bytes, sentencepiece_bytes

if TYPE_CHECKING:
    import tokenizers

__all__ = ["read"]

_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_TOKEN = (str, None, dict)
SCHEMA = dict.fromkeys([f"{name}_token?" for name in _SPECIAL], _TOKEN) | {
    "add_bos_token?": (bool, None),
    "add_eos_token?": (bool, None),
    "eos_token_id?": (int, [int], None),
    "chat_template?": (str, [{"name": str, "template": str}], None),
    "model_type?": (str, None),
}
MOST = 1 << 22  # ids: the largest published vocabularies have a sixteenth of it
LARGEST = 1 << 27  # bytes: the longest published tokenizer.json has a fourth of it
DIGITS = 31  # of a whole number: transformers writes int(1e30) as the model_max_length of a text without end
PREFIXED = re.compile(r'"continuing_subword_prefix"\s*:\s*"[^"]')


def read(path: "str | PathLike[str]") -> Tokenizer:
    """The tokenizer of a folder. Raises CheckpointError for files that are missing, damaged or of an unknown kind."""
    folder = Path(path)
    library, growth = _library(folder / "tokenizer.json")
    config = {**settings(folder / "special_tokens_map.json"), **settings(folder / "tokenizer_config.json")}
    decoders = list(_parts(json.loads(library.decoder.__getstate__()) if library.decoder else {}))
    vocabulary = _vocabulary(library, decoders, folder)
    texts = {f"{name}_token": text for name in _SPECIAL if (text := _text(config.get(f"{name}_token")))}
    before, after = _frame(library)
    bos = vocabulary.ids.get(texts.get("bos_token", ""), before[0] if len(before) == 1 else None)
    return Tokenizer(
        vocabulary,
        LibraryEncoder(lambda: library, growth),
        bos=bos,
        add_bos=bool(config["add_bos_token"] if config.get("add_bos_token") is not None else before),
        add_eos=bool(config["add_eos_token"] if config.get("add_eos_token") is not None else after),
        eos=_eos(folder, vocabulary, texts),
        strip_space=any(
            (part["type"] == "Strip" and part.get("start", 0) > 0)
            or (part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never")
            for part in decoders
        ),
        templates={name: ChatTemplate(source, texts) for name, source in _templates(folder, config)},
    )


def _library(path: Path) -> tuple["tokenizers.Tokenizer", int]:
    """The library's tokenizer, and how many bytes its normalizer makes of one at most."""
    import tokenizers

    if not path.is_file():
        older = (path.parent / "tokenizer.model").is_file()
        mend = "convert its tokenizer.model with `mlx_lm.convert`" if older else "fetch the model again, whole"
        raise CheckpointError(f"expected a tokenizer.json in {path.parent}, found none: {mend}")
    try:
        text = read_whole(path, largest=LARGEST)
        if PREFIXED.search(text):
            _check_prefix(foreign_json.parse(text, largest=LARGEST)["model"])
        growth = normalizers.growth(text)
        return tokenizers.Tokenizer.from_str(text), growth
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(
            f"{path} is damaged or of a kind not known here: {' '.join(str(error).split())}"
        ) from error


def _check_prefix(model: Any) -> None:
    """ValueError for merges that the library would panic at: it cuts the prefix off whatever a piece begins with."""
    prefix = model.get("continuing_subword_prefix")
    for merge in (model.get("merges") or ()) if prefix else ():
        second = merge[1] if isinstance(merge, list) else merge.partition(" ")[2]
        if not second.startswith(prefix):
            raise ValueError(f"a merge goes on with {second[:40]!r}, without the prefix {prefix[:40]!r}")


def settings(path: Path) -> dict[str, Any]:
    """Settings in a JSON file beside tokenizer.json; nothing where there is no such file."""
    if not path.is_file():
        return {}
    values: dict[str, Any] = foreign_json.read(path, SCHEMA, error=CheckpointError, digits=DIGITS)
    return values


def _parts(decoder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if decoder.get("type") == "Sequence":
        for part in decoder["decoders"]:
            yield from _parts(part)
    elif decoder:
        yield decoder


def _vocabulary(library: "tokenizers.Tokenizer", decoders: list[Mapping[str, Any]], folder: Path) -> TokenTable:
    kinds = {part["type"] for part in decoders}
    byte_level = "ByteLevel" in kinds
    if not byte_level and not kinds & {"ByteFallback", "Metaspace"}:
        raise CheckpointError(
            f"expected {folder / 'tokenizer.json'} to be byte-level or SentencePiece-like, "
            f"got a decoder of {', '.join(sorted(kinds)) or 'no kind'}"
        )
    spelled = library.get_vocab(with_added_tokens=True)
    if (last := max(spelled.values(), default=-1)) >= MOST:
        raise CheckpointError(f"{folder / 'tokenizer.json'}: at most {MOST:,} ids expected, got one of {last:,}")
    tokens: list[str | None] = [None] * (last + 1)
    for text, token in spelled.items():
        tokens[token] = text
    kind = bytearray([Kind.NORMAL]) * len(tokens)
    if not byte_level and "ByteFallback" in kinds:
        for byte in range(256):
            if (lone := spelled.get(f"<0x{byte:02X}>")) is not None:
                kind[lone] = Kind.BYTE
    for token, added in library.get_added_tokens_decoder().items():
        kind[token] = Kind.CONTROL if added.special else Kind.USER_DEFINED
    return TokenTable(tokens, bytes(kind), byte_level_bytes if byte_level else sentencepiece_bytes)


def _frame(library: "tokenizers.Tokenizer") -> tuple[list[int], list[int]]:
    """The ids that tokenizer.json itself puts before and after a text."""
    whole, bare = library.encode("a").ids, library.encode("a", add_special_tokens=False).ids
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def _text(token: Any) -> str | None:
    """A special token as tokenizer_config.json writes it: a string, or an object with its `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _eos(folder: Path, vocabulary: TokenTable, texts: Mapping[str, str]) -> Iterator[int]:
    if (token := vocabulary.ids.get(texts.get("eos_token", ""))) is not None:
        yield token
    for name in ("generation_config.json", "config.json"):
        named = settings(folder / name).get("eos_token_id")
        yield from named if isinstance(named, list) else [] if named is None else [named]


def _templates(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, source): those of tokenizer_config.json first, replaced by the newer files of their own; ours before them
    for a model whose makers have written it as a program."""
    if (ours := unpublished.TEMPLATES.get(settings(folder / "config.json").get("model_type") or "")) is not None:
        yield "default", ours
    listed = settings(folder / "chat_template.json").get("chat_template", config.get("chat_template"))
    if isinstance(listed, str):
        yield "default", listed
    elif isinstance(listed, list):
        yield from ((entry["name"], entry["template"]) for entry in listed)
    files = [("default", folder / "chat_template.jinja")]
    files += [(path.stem, path) for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))]
    for name, path in files:
        if path.is_file():
            try:
                yield name, read_whole(path, largest=foreign_json.LARGEST)
            except DataError as error:
                raise CheckpointError(str(error)) from error
