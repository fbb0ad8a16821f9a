"""Tokenizers by what files say, of either kind, and what is written for those who read folders."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from engine.errors import CheckpointError
from engine.tokenizer import Tokenizer, from_folder, from_gguf, published
from engine.tokenizer.folder import _check_prefix, _frame, _text
from engine.tokenizer.pretokenizers import PRETOKENIZERS, pretokenizer
from tests.engine import slow_bpe
from tests.engine.vocabularies import byte_level, folder, scored


def test_metadata_names_tokens_and_ends() -> None:
    def told(**more: Any) -> Tokenizer:
        return from_gguf(byte_level(**{f"tokenizer.ggml.{key}": value for key, value in more.items()}))

    assert told(eos_token_id=9, eot_token_id=8, eom_token_id=7).end == 9 and told(eos_token_id=9).eos == {0, 2, 9}
    assert told(bos_token_id=10**6).bos is None and told(bos_token_id=-1).bos is None and told(bos_token_id=0).bos == 0
    last = told().vocab_size - 1
    assert told(bos_token_id=last).bos == last and told(bos_token_id=last + 1).bos is None
    assert told(add_eos_token=True).add_eos and not told().add_eos
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert told().templates["default"].tokens == tokens
    assert told(unknown_token_id=0, padding_token_id=2).templates["default"].tokens == tokens | {
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }
    named = from_gguf({**byte_level(), "tokenizer.chat_template.tool_use": "t", "tokenizer.chat_templates": ["x"]})
    assert set(named.templates) == {"default", "tool_use"}
    sentence = {
        key: value
        for key, value in scored().items()
        if not key.endswith(("bos_token_id", "eos_token_id", "unknown_token_id"))
    }
    made = from_gguf(sentence)
    assert (made.bos, made.add_bos, made.end) == (1, True, 2) and made.encode("a", bos=True)[0] == 1
    assert from_gguf({**sentence, "tokenizer.ggml.add_bos_token": False}).add_bos is False
    without = {key: value for key, value in sentence.items() if not key.endswith("add_space_prefix")}
    assert from_gguf(without).encode("the") == made.encode("the")
    assert from_gguf({**sentence, "tokenizer.ggml.add_space_prefix": False}).encode("the") != made.encode("the")
    assert (
        made.decode(made.encode("the")) == "the"
        and from_gguf(byte_level()).decode(from_gguf(byte_level()).encode(" a")) == " a"
    )


def test_text_is_cut_by_the_rule_alone() -> None:
    for pre in ("qwen2", "smollm", "deepseek-coder"):
        metadata = byte_level(pre)
        made = from_gguf(metadata)
        for text in ("don'T I'LL 12345", "a  b\n\n c", "MixedCaseWord HTTPServer", " <think> x$1.5_y"):
            assert made.encode(text) == slow_bpe.encode(metadata, text, list(PRETOKENIZERS[pre].patterns)), (pre, text)
    bare = {key: value for key, value in byte_level().items() if not key.endswith("token_type")}
    assert from_gguf(bare).is_special(2) is False and from_gguf(bare).encode("the") == from_gguf(byte_level()).encode(
        "the"
    )


def test_rules_have_names_and_some_begin_texts() -> None:
    assert {name for name, rule in PRETOKENIZERS.items() if rule.bos} == {
        "llama-bpe",
        "llama3",
        "llama-v3",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
        "tekken",
        "chameleon",
    }
    begin = {name for name, rule in PRETOKENIZERS.items() if rule.bos}
    assert {name for name, rule in PRETOKENIZERS.items() if rule.whole_words} == {*begin, "minicpm5", "youtu"} - {
        "chameleon"
    }
    assert (
        PRETOKENIZERS["jais-2"].patterns[0].count(r"\s{") == 9
        and r"\s{512}(?!\S)" in PRETOKENIZERS["jais-2"].patterns[0]
    )
    assert r"\s{4}(?!\S)" in PRETOKENIZERS["jais-2"].patterns[0] and pretokenizer("gpt-2").patterns
    for name, line in (
        (None, r"tokenizer\.ggml\.pre"),
        ("gpt2", r"'gpt2' is not known here \(nearest: gpt-2\)"),
        ("zzz", "not known here:"),
    ):
        with pytest.raises(CheckpointError, match=line):
            pretokenizer(name)


def test_a_folder_says_what_frames_a_text() -> None:
    def library(single: str, *names: str) -> Any:
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<s>": 1, "</s>": 2}, unk_token="a"))
        tokens = [("<s>", 1), ("</s>", 2)]
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single, special_tokens=[t for t in tokens if t[0] in names]
        )
        return made

    assert _frame(library("$A")) == ([], []) and _frame(library("<s> $A", "<s>")) == ([1], [])
    assert _frame(library("$A </s>", "</s>")) == ([], [2]) and _frame(library("<s> $A </s>", "<s>", "</s>")) == (
        [1],
        [2],
    )
    assert _frame(library("<s> <s> $A", "<s>")) == ([1, 1], [])
    assert _text("x") == "x" and _text({"content": "y"}) == "y" and _text({}) is None and _text(None) is None


def test_a_folders_settings_count(tmp_path: Path) -> None:
    folder(tmp_path, bos=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())

    def written(**more: Any) -> Tokenizer:
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({k: v for k, v in {**config, **more}.items() if v != "-"})
        )
        return from_folder(tmp_path)

    assert written().add_bos and written(add_bos_token=None).add_bos and not written(add_bos_token=False).add_bos
    assert not written().add_eos and written(add_eos_token=True).add_eos and written(bos_token="-").bos == 1
    assert written(bos_token="<|im_end|>").bos == 2 and written(bos_token="unheard").bos == 1
    assert written(unk_token="u").templates["default"].tokens == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "u",
    }
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|im_start|>", "pad_token": "p"}))
    assert (
        written().end == 2
        and written(eos_token="-").end == 1
        and written().templates["default"].tokens["pad_token"] == "p"
    )
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "own"}))
    assert written().chat_template == "own"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": [{"name": "rag", "template": "r"}]}))
    assert set(written().templates) == {"rag"}
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="fetch the model again, whole"):
        from_folder(tmp_path)
    (tmp_path / "tokenizer.model").write_text("")
    with pytest.raises(CheckpointError, match=r"convert its tokenizer\.model"):
        from_folder(tmp_path)


def test_merges_without_the_prefix_that_pieces_go_on_with_are_refused() -> None:
    for good in (
        {"merges": ["a b"]},
        {"continuing_subword_prefix": "", "merges": ["a b"]},
        {"continuing_subword_prefix": "##"},
        {"continuing_subword_prefix": "##", "merges": ["a ##b", ["a", "##c"]]},
    ):
        _check_prefix(good)
    for bad in (["a b"], [["a", "b"]], ["a ##b", "a b"]):
        with pytest.raises(ValueError, match="a merge goes on with 'b', without the prefix '##'"):
            _check_prefix({"continuing_subword_prefix": "##", "merges": bad})


def test_a_tokenizer_is_written_as_readers_of_folders_have_it(tmp_path: Path) -> None:
    for made in (from_gguf(byte_level(**{"tokenizer.ggml.add_bos_token": True})), from_gguf(scored(False))):
        published.write(made, tmp_path)
        told = json.loads((tmp_path / "tokenizer_config.json").read_text())
        assert told["tokenizer_class"] == "PreTrainedTokenizerFast" and made.id(told["bos_token"]) == made.bos
        assert made.id(told["eos_token"]) == min(made.eos) and ("chat_template" in told) == (
            made.chat_template is not None
        )
        again = from_folder(tmp_path)
        assert again.add_bos and again.encode(" the dog", bos=True) == made.encode(" the dog", bos=True)
        assert again.decode(made.encode(" the dog")) == made.decode(made.encode(" the dog"))
    published.write(from_gguf(byte_level()), tmp_path, eos=1)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "<|im_start|>"
    blank = scored(True)
    blank["tokenizer.ggml.token_type"] = [1 if kind == 4 else kind for kind in blank["tokenizer.ggml.token_type"]]
    made = from_gguf(blank)
    published.write(made, tmp_path)
    assert from_folder(tmp_path).encode("the dog") == made.encode("the dog")
    again = from_folder(tmp_path)
    assert again.decode(made.encode("the dog")) == "the dog"
    byte = again.id("<0x0A>")
    assert byte is not None and again.piece(byte) == b"\n" and again.decode(made.encode("a\n b")) == "a\n b"
