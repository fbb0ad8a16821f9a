"""A folder's tokenizer as GGUF's metadata: `tokenizer.ggml.*` and the chat templates.

GGUF has no place for tokenizer.json's program: it names a rule by which text is cut into words, or gives each token a
score. Which rule it is, is found by experiment on texts that rules disagree about; and what is written is read again
and has to cut those texts as the folder's tokenizer does.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError
from likely.engine.base.files import foreign_json
from likely.engine.text.tokenizer import Tokenizer, from_gguf
from likely.engine.text.tokenizer.folder import settings
from likely.engine.text.tokenizer.pretokenizers import PRETOKENIZERS
from likely.engine.text.tokenizer.vocabulary import Kind, byte_level_bytes
from likely.engine.text.tokenizer.words import by_library

LARGEST = 1 << 27  # bytes: Gemma's has a fourth of them
PROBES = (
    "Hello, world! The quick brown fox doesn't jump; it's 12 o'clock.",
    "don't DON'T I'LL we'Ve 'tis",
    "12345 1,234.56 007 3.14159 ½ ²³ ⅷ ٣٤",
    "   three blanks,\ttabs\t\tand\n\nnew lines \r\n\r\n  \n end  ",
    "def main(args):\n    return {'key': [1, 2, 345], \"other\": None}  # comment\n",
    "foo_bar->baz::<T>() >>> x += 1 <<< $100.00 50% a/b\\c user@example.org",
    "MixedCaseWord HTTPServer camelCase ALLCAPS Ünïcödé naïve café",
    "你好，世界。中文123测试 こんにちは世界 カタカナ 안녕하세요",
    "Привет, мир! Γειά σου Κόσμε. مرحبا بالعالم नमस्ते שלום",
    "👩\u200d👧 🇫🇷 e\u0301e \u00a0x\u3000y … — “quotes” ‘single’",
    "a  b   c    d        e",
    "!!! ??? ... --- === *** ((( ))) [[x]] {{y}}",
)
SPECIAL = ("bos", "eos", "unk", "pad")
THEIRS = {"unk": "unknown", "pad": "padding"}


def metadata(tokenizer: Tokenizer, folder: Path, rows: int) -> dict[str, Any]:
    """Metadata of the tokenizer of `folder`, for a model whose embedding has so many `rows`.

    CheckpointError where no metadata would make the tokenizer that the folder has.
    """
    program: dict[str, Any] = foreign_json.read(folder / "tokenizer.json", error=CheckpointError, largest=LARGEST)
    model = program.get("model") or {}
    if model.get("type") != "BPE":
        raise CheckpointError(
            f"{folder / 'tokenizer.json'}: a {model.get('type')} tokenizer is not written as GGUF, only BPE"
        )
    merges = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    common = _common(tokenizer, folder, rows)
    byte_level = tokenizer.vocabulary.spelling is byte_level_bytes
    ways = _ruled(program, merges) if byte_level else _scored(common["tokenizer.ggml.tokens"], merges)
    for way in ways:
        fields = common | way
        if _same(tokenizer, from_gguf(fields)):
            return fields
    raise CheckpointError(
        f"{folder / 'tokenizer.json'} cuts text as none of the rules that GGUF knows does: llama.cpp could not run it"
    )


def _common(tokenizer: Tokenizer, folder: Path, rows: int) -> dict[str, Any]:
    """Tokens, kinds, special tokens and templates."""
    vocabulary = tokenizer.vocabulary
    if len(vocabulary) > rows:
        raise CheckpointError(f"the tokenizer has {len(vocabulary):,} tokens and the model {rows:,}")
    tokens = [*vocabulary.tokens, *[None] * (rows - len(vocabulary))]
    kinds = [int(kind) for kind in vocabulary.kinds] + [int(Kind.UNUSED)] * (rows - len(vocabulary))
    config = settings(folder / "tokenizer_config.json")
    named: dict[str, int] = {} if tokenizer.bos is None else {"bos": tokenizer.bos}
    for name in SPECIAL:
        text = config.get(f"{name}_token")
        text = text.get("content") if isinstance(text, dict) else text
        token = vocabulary.ids.get(text) if isinstance(text, str) else None
        if token is not None:
            named.setdefault(name, token)
    ends = sorted(tokenizer.eos)
    if ends:
        named.setdefault("eos", ends[0])
        if others := [token for token in ends if token != named["eos"]]:
            named["eot"] = others[-1]  # those that are known by spelling need no name
    if "unk" in named and vocabulary.spelling is not byte_level_bytes:
        kinds[named["unk"]] = int(Kind.UNKNOWN)
    for i, text in enumerate(tokens):
        if text is None:
            kinds[i] = int(Kind.UNUSED)
    fields: dict[str, Any] = {
        "tokenizer.ggml.tokens": [f"[PAD{i}]" if text is None else text for i, text in enumerate(tokens)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_bos_token": tokenizer.add_bos,
        "tokenizer.ggml.add_eos_token": tokenizer.add_eos,
        **{f"tokenizer.ggml.{THEIRS.get(name, name)}_token_id": token for name, token in named.items()},
    }
    for name, template in tokenizer.templates.items():
        fields["tokenizer.chat_template" + ("" if name == "default" else f".{name}")] = template.source
    return fields


def _ruled(program: dict[str, Any], merges: Sequence[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """For a byte-level vocabulary: the rules that cut the probes as tokenizer.json does, the likeliest first."""
    import tokenizers

    library = tokenizers.Tokenizer.from_str(json.dumps(program))
    texts = [text if library.normalizer is None else library.normalizer.normalize_str(text) for text in PROBES]
    cut = library.pre_tokenizer
    wanted = [[piece for piece, _ in cut.pre_tokenize_str(text)] for text in texts] if cut else None
    whole = bool((program.get("model") or {}).get("ignore_merges"))
    matches = [
        (rule.whole_words != whole, name)
        for name, rule in PRETOKENIZERS.items()
        if [[piece for piece, _ in by_library(rule).pre_tokenize_str(text)] for text in texts] == wanted
    ]
    for _, name in sorted(matches, key=lambda pair: pair[0]):
        yield {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": name,
            "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        }


def _scored(tokens: Sequence[str], merges: Sequence[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """For a SentencePiece vocabulary: scores that rank unions as the merges do, without and with a leading blank."""
    rank: dict[str, int] = {}
    for i, merge in enumerate(merges):
        rank.setdefault("".join(merge), i)
    scores = [-float(rank.get(text, len(merges) + i)) for i, text in enumerate(tokens)]
    for prefix in (False, True):
        yield {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.scores": scores,
            "tokenizer.ggml.add_space_prefix": prefix,
        }


def _same(ours: Tokenizer, theirs: Tokenizer) -> bool:
    """Whether both cut the probes into the same tokens, and the templates are those."""
    alike = all(ours.encode(text, bos=bos) == theirs.encode(text, bos=bos) for text in PROBES for bos in (False, True))
    return alike and ours.fingerprint == theirs.fingerprint and ours.chat_template == theirs.chat_template
