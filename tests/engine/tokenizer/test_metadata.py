"""Tokenizers by what files say, of either kind, and what is written for those who read folders."""

import json
from pathlib import Path
from typing import Any

import pytest

from likely.engine.errors import CheckpointError
from likely.engine.tokenizer import Tokenizer, from_folder, from_gguf
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
    assert made.decode(made.encode("the")) == "the"
    assert from_gguf(byte_level()).decode(from_gguf(byte_level()).encode(" a")) == " a"


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
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "u",
    }  # fmt: skip
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|im_start|>", "pad_token": "p"}))
    assert written().end == 2 and written(eos_token="-").end == 1
    assert written().templates["default"].tokens["pad_token"] == "p"
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
