"""Small vocabularies trained on the spot, as GGUF metadata and as a Hugging Face folder."""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

TEXT = """The quick brown fox jumps over the lazy dog, and the dog doesn't care; it's 12 o'clock in 2024.
    def main():\n\treturn {"héllo": [1, 2, 345], 'wörld': None}  # naïve café\n\n
Привет, мир! Γειά σου Κόσμε. 你好，世界。こんにちは世界 안녕하세요 مرحبا بالعالم नमस्ते 👩‍👧 🇫🇷 ½ e\u0301
Language models assign probabilities to the next token; the token is drawn, and the next one follows from it.
WE'RE HERE, They'LL see   what   they'd   done\r\n\r\nand   what's left   >>> x += 1 <<< $100.00 50% a_b-c\u00a0d\u3000e
"""

# Texts that pre-tokenisers disagree about, and pieces to draw such texts from.
# fmt: off
AWKWARD = [
    "", " ", "  x", "x  ", "\n\n\n", "\r\n x", "a\tb", "don't DON'T I'LL we'Ve", "12345 1,234.5", "½²ⅷ٣", "中文123测试",
    "e\u0301e", "<|im_end|>", "a<|im_start|>b", " <think> x", "foo_bar->baz::<T>()", "👩\u200d👧🇫🇷", "नमस्ते",
    "MixedCaseWord HTTPServer", "\u00a0x\u3000y",
]
PIECES = [
    "a", "the", "Z", "É", "ñ", " ", "  ", "\n", "\r", "\t", "'s", "'LL", "'", "1", "23", "½", "中", "あ", "न", "म्",
    "\u0301", "👩", "\u200d", ".", ",", "!?", "<", ">", "/", "_", "-", "$", "<|im_end|>", "(",
    "你好", "Привет", "İ", "ß",
]
# fmt: on

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
EOS = {"__type": "AddedToken", "content": "<|im_end|>", "special": True, **PLAIN}
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<think>", "        "]


@cache
def _trained() -> dict[str, Any]:
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=520, initial_alphabet=alphabet, special_tokens=CONTROL, show_progress=False
    )
    library.train_from_iterator([TEXT] * 2, trainer)
    model: dict[str, Any] = json.loads(library.to_str())["model"]
    return model


def byte_level(pre: str = "smollm", **overrides: Any) -> dict[str, Any]:
    """GGUF metadata of a byte-level vocabulary with control tokens at 0 to 2 and user-defined ones at the end."""
    model = _trained()
    tokens = [*sorted(model["vocab"], key=model["vocab"].get), *USER_DEFINED]
    kinds = [3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL) - len(USER_DEFINED)) + [4] * len(USER_DEFINED)
    metadata = {
        "model": "gpt2", "pre": pre, "tokens": tokens, "token_type": kinds,
        "merges": [" ".join(merge) for merge in model["merges"]], "bos_token_id": 1, "eos_token_id": 2,
        "add_bos_token": False,
    }  # fmt: skip
    named = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    return {**named, "tokenizer.chat_template": CHATML, **overrides}


@cache
def sentencepiece_model(prefix: bool = True, byte_fallback: bool = True) -> bytes:
    """A SentencePiece BPE model file."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((TEXT * 3).splitlines()), model_writer=stream, model_type="bpe",
        vocab_size=700 if byte_fallback else 420, byte_fallback=byte_fallback, add_dummy_prefix=prefix,
        remove_extra_whitespaces=False, normalization_rule_name="identity", character_coverage=0.98,
        control_symbols=["<|im_start|>", "<|im_end|>"], user_defined_symbols=["<think>", "\n"], minloglevel=2,
    )  # fmt: skip
    return stream.getvalue()


def scored(prefix: bool = True, byte_fallback: bool = True) -> dict[str, Any]:
    """GGUF metadata of that model, as llama.cpp's converter writes it."""
    library = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(prefix, byte_fallback))
    ids = range(library.vocab_size())

    def kind(token: int) -> int:
        if library.is_unknown(token):
            return 2
        if library.is_control(token):
            return 3
        if library.is_byte(token):
            return 6
        return 4 if library.id_to_piece(token) in ("<think>", "\n") else 1

    metadata = {
        "model": "llama", "tokens": [library.id_to_piece(token) for token in ids],
        "scores": [library.get_score(token) for token in ids], "token_type": [kind(token) for token in ids],
        "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0, "add_space_prefix": prefix,
    }  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}


def folder(path: Path, *, bos: bool = False) -> Path:
    """The byte-level vocabulary as a Hugging Face folder, cut as GPT-2 does after single digits."""
    model = _trained()
    library = tokenizers.Tokenizer(models.BPE(model["vocab"], [tuple(merge) for merge in model["merges"]]))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(CONTROL)
    library.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in USER_DEFINED])
    if bos:
        library.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    library.save(str(path / "tokenizer.json"))
    config = {"bos_token": "<|im_start|>", "eos_token": EOS, "chat_template": CHATML}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path
