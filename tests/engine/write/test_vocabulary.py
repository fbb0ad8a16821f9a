"""A folder's tokenizer as GGUF metadata: cut as tokenizer.json cuts, by rules found and by scores made."""

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from likely.engine.base.errors import CheckpointError
from likely.engine.text.tokenizer import Tokenizer, from_folder, from_gguf
from likely.engine.text.tokenizer.pretokenizers import PRETOKENIZERS
from likely.engine.weights.write import gguf_tokenizer
from tests.engine import vocabularies
from tests.engine.vocabularies import AWKWARD, PIECES, TEXT

TEXTS = [*AWKWARD, TEXT, "".join(PIECES)]


def ruled(path: Path, rule: str) -> Path:
    """A byte-level folder cut by one of the known rules, as its tokenizer.json would say it."""
    vocabularies.folder(path)
    program = json.loads((path / "tokenizer.json").read_text())
    library = tokenizers.Tokenizer.from_str(json.dumps(program))
    found = PRETOKENIZERS[rule]
    cuts = [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in found.patterns]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([*cuts, last])
    program = json.loads(library.to_str())
    program["model"]["ignore_merges"] = found.whole_words
    (path / "tokenizer.json").write_text(json.dumps(program))
    return path


def written(path: Path, rows: int = 600) -> tuple[Tokenizer, dict[str, Any]]:
    ours = from_folder(path)
    said = gguf_tokenizer.metadata(ours, path, rows)
    return ours, said


@pytest.mark.parametrize("rule", ["gpt-2", "smollm", "llama-bpe", "qwen2", "gpt-4o", "deepseek-v3", "tekken"])
def test_the_rule_is_found_by_what_it_does(rule: str, tmp_path: Path) -> None:
    ours, said = written(ruled(tmp_path, rule))
    found = PRETOKENIZERS[said["tokenizer.ggml.pre"]]
    assert (found.patterns, found.whole_words) == (PRETOKENIZERS[rule].patterns, PRETOKENIZERS[rule].whole_words)
    theirs = from_gguf(said)
    for text in TEXTS:
        assert theirs.encode(text) == ours.encode(text), text
        assert theirs.encode(text, special=True) == ours.encode(text, special=True), text


def test_single_digits_in_another_spelling_are_smollms_rule(tmp_path: Path) -> None:
    _, said = written(vocabularies.folder(tmp_path))  # the library's Digits, not a pattern
    assert said["tokenizer.ggml.pre"] == "smollm"


def test_special_tokens_kinds_padding_and_templates(tmp_path: Path) -> None:
    ours, said = written(vocabularies.folder(tmp_path, bos=True))
    theirs = from_gguf(said)
    assert (theirs.bos, theirs.add_bos, theirs.eos) == (ours.bos, True, ours.eos) and ours.bos is not None
    assert theirs.chat([{"role": "user", "content": "hi"}]) == ours.chat([{"role": "user", "content": "hi"}])
    kinds = said["tokenizer.ggml.token_type"]
    assert kinds[:3] == [3, 3, 3] and kinds[ours.vocab_size - 1] == 4 and kinds[599] == 5
    assert len(said["tokenizer.ggml.tokens"]) == 600 == len(set(said["tokenizer.ggml.tokens"]))
    with pytest.raises(CheckpointError, match="tokens and the model 100"):
        gguf_tokenizer.metadata(ours, tmp_path, 100)


@pytest.mark.parametrize("prefix", [False, True], ids=["gemma", "llama 2"])
def test_scores_made_of_merges_cut_as_sentencepiece_does(prefix: bool, tmp_path: Path) -> None:
    library = sentencepiece.SentencePieceProcessor(model_proto=vocabularies.sentencepiece_model(prefix))
    pieces = [library.id_to_piece(i) for i in range(library.vocab_size())]
    ids = {piece: i for i, piece in enumerate(pieces)}
    merges = []  # every way to make each token of two, the best token first: as it is converted elsewhere
    for piece in sorted(pieces, key=lambda p: -library.get_score(ids[p])):
        if not (library.is_byte(ids[piece]) or library.is_control(ids[piece]) or piece in ("<think>", "\n", "<unk>")):
            splits = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
            merges += [split for split in splits if all(part in ids for part in split)]
    made = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    made.add_special_tokens(["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    if not prefix:  # of tokens that are matched whole: behind one, a folder's tokenizer would put a blank anew
        made.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in ("<think>", "\n")])
    made.save(str(tmp_path / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(special))
    _, said = written(tmp_path, 710)
    theirs = from_gguf(said)
    assert said["tokenizer.ggml.add_space_prefix"] is prefix and said["tokenizer.ggml.token_type"][0] == 2
    for text in (text for text in TEXTS if not prefix or "<think>" not in text):
        assert theirs.encode(text) == library.encode(text), text


def test_what_no_file_can_say_is_refused(tmp_path: Path) -> None:
    ours = from_folder(vocabularies.folder(tmp_path))
    program = json.loads((tmp_path / "tokenizer.json").read_text())
    library = tokenizers.Tokenizer.from_str(json.dumps(program))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex("the"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="cuts text as none of the rules that GGUF knows does"):
        written(tmp_path)
    program["model"] = {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(program))
    with pytest.raises(CheckpointError, match="a Unigram tokenizer is not written as GGUF, only BPE"):
        gguf_tokenizer.metadata(ours, tmp_path, 600)


@pytest.mark.slow
def test_whether_an_end_is_added_and_the_end_where_none_is_named_are_written(tmp_path: Path) -> None:
    folder = vocabularies.folder(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    ours = from_folder(folder)
    for add in (True, False):
        ours.add_eos = add
        assert gguf_tokenizer.metadata(ours, folder, 600)["tokenizer.ggml.add_eos_token"] is add
    del config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    said = gguf_tokenizer.metadata(ours, folder, 600)
    assert said["tokenizer.ggml.eos_token_id"] == min(ours.eos) and from_gguf(said).eos == ours.eos
