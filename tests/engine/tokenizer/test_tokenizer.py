"""Text to ids and back for byte-level vocabularies, against an encoder of the test's own and the libraries' own."""

import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.decode.searches.spelling import spelling
from likely.engine.text.tokenizer import Tokenizer, from_folder, from_gguf
from likely.engine.text.tokenizer.pretokenizers import PRETOKENIZERS
from likely.engine.text.tokenizer.words import by_library, cutter
from likely.engine.weights.write import gguf_tokenizer
from tests.engine import slow_bpe
from tests.engine.vocabularies import AWKWARD, CONTROL, PIECES, TEXT, byte_level, folder, scored

texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return from_gguf(byte_level())


@pytest.mark.slow
@given(texts, st.booleans())
@settings(max_examples=150)
def test_equals_byte_pair_encoding_by_definition(text: str, turned: bool) -> None:
    """Short texts by the merges themselves, long ones by the library; with the control tokens by the library alone.
    Ids go up as the merges do, or `turned` down."""
    metadata = byte_level()
    if turned:
        metadata["tokenizer.ggml.tokens"][259:-2] = reversed(metadata["tokenizer.ggml.tokens"][259:-2])
    tokenizer, expected = from_gguf(metadata), slow_bpe.encode(metadata, text, [r"\p{N}", slow_bpe.GPT2])
    special = tokenizer.encode(text, special=True)
    assert tokenizer.encode(text) == expected
    assert tokenizer.encoder.ends(text)[0] == special
    assert tokenizer.encode(text) == expected


def test_a_token_is_made_by_its_merge_alone() -> None:
    metadata = byte_level()
    metadata["tokenizer.ggml.tokens"][259:] = ["bc", "ab", "abc", "cc"]
    metadata |= {
        "tokenizer.ggml.token_type": [3] * 3 + [1] * 260,
        "tokenizer.ggml.merges": ["b c", "a b", "ab c", "c c"],
    }
    ids = from_gguf(metadata).encode("abc abcc")
    assert ids == slow_bpe.encode(metadata, "abc abcc", [r"\p{N}", slow_bpe.GPT2])


@pytest.mark.slow
@given(texts)
@settings(max_examples=300)
def test_every_text_comes_back(text: str) -> None:
    tokenizer = from_gguf(byte_level("llama-bpe"))
    for special in (False, True):
        ids = tokenizer.encode(text, special=special)
        assert tokenizer.decode(ids, special=True) == text
        assert b"".join(map(tokenizer.piece, ids)) == text.encode()


@pytest.mark.parametrize("pre", PRETOKENIZERS)
def test_every_rule_cuts_as_another_regex_engine_does(pre: str) -> None:
    """Oniguruma, through the library, against the `regex` module."""
    rule = PRETOKENIZERS[pre]
    cuts = [tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in rule.patterns]
    library = tokenizers.pre_tokenizers.Sequence(cuts)
    for text in [*AWKWARD, TEXT, *PIECES, " ".join(PIECES), "".join(PIECES)]:
        words = [text]
        for pattern in rule.patterns:
            words = [piece for word in words for piece in slow_bpe.isolated(pattern, word)]
        assert [word for word, _ in library.pre_tokenize_str(text)] == words, text


@pytest.mark.parametrize("pre", PRETOKENIZERS)
def test_every_rule_cuts_ascii_as_the_library_does(pre: str) -> None:
    """Python's `re` against Oniguruma, and what is not ASCII by Oniguruma itself."""
    rule, random = PRETOKENIZERS[pre], Random(0)
    cut, library = cutter(rule), by_library(rule)
    alphabets = "".join(map(chr, range(128))), "ab AB'19 \n\r\t.,sSTtllvere-_", "aB1 '\n.$[(é漢"
    for i in range(120):
        text = "".join(random.choices(alphabets[i % 3], k=random.randrange(40)))
        assert cut(text) == [word for word, _ in library.pre_tokenize_str(text)], text
    assert cut("") == [] and cut("<sentinel:12>ABCIMGIMGAZ") == [
        word for word, _ in library.pre_tokenize_str("<sentinel:12>ABCIMGIMGAZ")
    ]


def test_control_tokens_are_text_unless_asked_for(tokenizer: Tokenizer) -> None:
    text = "a<|im_end|>b"
    assert 2 not in tokenizer.encode(text)
    assert tokenizer.encode(text, special=True) == [*tokenizer.encode("a"), 2, *tokenizer.encode("b")]
    assert tokenizer.decode(tokenizer.encode(text, special=True)) == "ab"
    assert tokenizer.decode(tokenizer.encode(text, special=True), special=True) == text
    assert tokenizer.is_special(2) and tokenizer.piece(2) == b"<|im_end|>"
    think = tokenizer.vocabulary.ids["<think>"]
    assert tokenizer.encode("<think>") == [think] and not tokenizer.is_special(think)


def test_ids_without_a_token_have_no_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.piece(tokenizer.vocab_size + 7) == b"" and not tokenizer.is_special(tokenizer.vocab_size + 7)
    with pytest.raises(IndexError):
        tokenizer.piece(-1)


def test_what_cannot_be_spelled_is_refused(tokenizer: Tokenizer) -> None:
    for encode in (tokenizer.encode, partial(spelling, tokenizer)):
        with pytest.raises(DataError, match="surrogate pair at character 2"):
            encode("ab\ud800")
    metadata = byte_level()
    lacking = slow_bpe.CHARACTER[4]
    metadata["tokenizer.ggml.tokens"] = ["(gone)" if t == lacking else t for t in metadata["tokenizer.ggml.tokens"]]
    with pytest.raises(DataError, match=r"0x04.*at character 3"):
        from_gguf(metadata).encode("né \x04")


def test_a_fingerprint_is_of_meaning_not_of_format(tmp_path: Path) -> None:
    metadata = byte_level()
    tokenizer = from_gguf(metadata)
    assert from_folder(folder(tmp_path)).fingerprint == tokenizer.fingerprint
    padded = {**metadata, "tokenizer.ggml.tokens": [*metadata["tokenizer.ggml.tokens"], "[PAD525]"]}
    padded["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 5]
    assert from_gguf(padded).fingerprint == tokenizer.fingerprint
    swapped = {**metadata, "tokenizer.ggml.tokens": [*metadata["tokenizer.ggml.tokens"]]}
    tokens = swapped["tokenizer.ggml.tokens"]
    tokens[300], tokens[301] = tokens[301], tokens[300]
    swapped["tokenizer.ggml.merges"] = []
    assert from_gguf(swapped).fingerprint != tokenizer.fingerprint


# -- folders ----------------------------------------------------------------------------------------------------


def test_a_folder_gives_what_its_gguf_gives(tmp_path: Path) -> None:
    ours, gguf = from_folder(folder(tmp_path)), from_gguf(byte_level())
    assert (ours.bos, ours.add_bos, ours.eos, ours.chat_template) == (gguf.bos, False, gguf.eos, gguf.chat_template)
    for text in [*AWKWARD, TEXT]:
        for special in (False, True):
            assert ours.encode(text, special=special) == gguf.encode(text, special=special)


def test_the_newest_chat_template_counts(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("new")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools | length }} tools")
    tokenizer = from_folder(tmp_path)
    assert tokenizer.chat_template == "new"
    assert tokenizer.render([], tools=[{}, {}]) == "2 tools"
    config = {"chat_template": [{"name": "default", "template": "listed"}]}
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert from_folder(tmp_path).chat_template == "listed"


@pytest.mark.slow
def test_equals_transformers(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    ours, theirs = from_folder(folder(tmp_path)), PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    for text in [*AWKWARD, TEXT]:
        assert ours.encode(text, special=True) == theirs.encode(text, add_special_tokens=False), text
        ids = ours.encode(text, special=True)
        for special in (False, True):
            assert ours.decode(ids, special=special) == theirs.decode(ids, skip_special_tokens=not special)
    messages = [{"role": "user", "content": "hi <|im_end|> there"}, {"role": "assistant", "content": "yes"}]
    assert ours.chat(messages) == theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


@pytest.mark.slow
def test_equals_transformers_own_rules() -> None:
    from transformers import GPT2Tokenizer, Qwen2Tokenizer

    metadata = byte_level()
    vocab = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    for pre, kind in (("gpt-2", GPT2Tokenizer), ("qwen2", Qwen2Tokenizer)):
        ours, theirs = from_gguf(byte_level(pre)), kind(vocab=vocab, merges=merges)
        for text in [*AWKWARD, TEXT, *PIECES]:
            if not any(token in text for token in (*CONTROL, "<think>", " " * 8, "e\u0301")):  # Qwen's folder composes
                assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), (pre, text)


# -- what can be wrong with a file ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"model": None}, "has no tokenizer"), ({"model": "t5"}, "'t5'"), ({"tokens": None}, "no vocabulary"),
        ({"tokens": [1, 2]}, "list of strings"), ({"token_type": [1, 2, 3]}, "of int, one for each"),
        ({"token_type": ["1"] * 522}, "of int, one for each"), ({"token_type": [9] * 522}, "got 9"),
        ({"merges": None}, "no merges"), ({"merges": ["ab"]}, "do not fit"), ({"merges": ["x yzzy"]}, "do not fit"),
        ({"pre": None}, "tokenizer.ggml.pre"), ({"pre": "qwen3"}, "'qwen3'.*nearest: qwen"),
    ],
)  # fmt: skip
def test_gguf_faults_are_one_line(change: dict[str, Any], line: str) -> None:
    metadata = byte_level(**{f"tokenizer.ggml.{key}": value for key, value in change.items()})
    with pytest.raises(CheckpointError, match=line) as caught:
        from_gguf({key: value for key, value in metadata.items() if value is not None})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("tokenizer.json", None, "expected a tokenizer.json"), ("tokenizer.json", "{", "damaged"),
        ("tokenizer.json", '{"model": 3}', "damaged"), ("tokenizer_config.json", "{]", "cannot read"),
        ("tokenizer_config.json", "[]", "an object expected, got a list"),
        ("generation_config.json", "\x00", "cannot read"),
    ],
)  # fmt: skip
def test_folder_faults_are_one_line(tmp_path: Path, name: str, content: str | None, line: str) -> None:
    folder(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=line) as caught:
        from_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_text_without_end_is_as_long_as_transformers_writes_it(tmp_path: Path) -> None:
    """The fault: "a whole number has at most 20 digits", of what `save_pretrained` writes where no length is set."""
    folder(tmp_path)
    plain = from_folder(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"model_max_length": int(1e30)}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert "1000000000000000019884624838656" in (tmp_path / "tokenizer_config.json").read_text()
    again = from_folder(tmp_path)
    assert again.eos == plain.eos and again.chat_template == plain.chat_template
    rows = len(plain.vocabulary)
    assert gguf_tokenizer.metadata(again, tmp_path, rows)["tokenizer.ggml.eos_token_id"] in plain.eos


def test_a_vocabulary_of_another_kind_is_refused(tmp_path: Path) -> None:
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="byte-level or SentencePiece-like"):
        from_folder(tmp_path)


def test_merges_without_the_prefix_that_pieces_go_on_with_are_refused(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE({"a": 0, "##b": 1, "a##b": 2}, [], continuing_subword_prefix="##")
    )
    told = json.loads(made.to_str())
    for merges in (["a b"], [["a", "b"]]):
        (tmp_path / "tokenizer.json").write_text(json.dumps({**told, "model": {**told["model"], "merges": merges}}))
        with pytest.raises(CheckpointError, match="a merge goes on with 'b', without the prefix '##'"):
            from_folder(tmp_path)


def test_metadata_names_tokens_and_ends() -> None:
    def told(**more: Any) -> Tokenizer:
        return from_gguf(byte_level(**{f"tokenizer.ggml.{key}": value for key, value in more.items()}))

    plain = told()
    last = plain.vocab_size - 1
    assert (plain.bos, plain.add_bos, plain.add_eos, plain.eos) == (1, False, False, {0, 2})  # 0 by its name
    assert told(eos_token_id=9, eot_token_id=8, eom_token_id=7).end == 9 and told(eos_token_id=9).eos == {0, 2, 9}
    assert {7, 8} < told(eot_token_id=8, eom_token_id=7).eos and told(add_eos_token=True).add_eos
    for id, bos in ((10**6, None), (-1, None), (0, 0), (last, last), (last + 1, None)):
        assert told(bos_token_id=id).bos == bos
    assert (
        told(add_bos_token=True).encode("a", bos=True) == [1, *plain.encode("a")] == [1, *plain.encode("a", bos=True)]
    )
    assert from_gguf({k: v for k, v in byte_level("tekken").items() if "add_bos" not in k}).add_bos
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert plain.templates["default"].tokens == tokens
    more = {"unk_token": "<|endoftext|>", "pad_token": "<|im_end|>"}
    assert told(unknown_token_id=0, padding_token_id=2).templates["default"].tokens == tokens | more
    named = from_gguf({**byte_level(), "tokenizer.chat_template.tool_use": "t", "tokenizer.chat_templates": ["x"]})
    assert set(named.templates) == {"default", "tool_use"}

    def harmony(*names: str) -> Tokenizer:
        metadata = byte_level()
        metadata["tokenizer.ggml.tokens"] += names
        metadata["tokenizer.ggml.token_type"] += [3] * len(names)
        return from_gguf(metadata)

    phi, oss = harmony("<|end|>"), harmony("<|end|>", "<|return|>", "<|call|>")  # which ends messages, not answers
    assert phi.vocabulary.ids["<|end|>"] in phi.eos and oss.vocabulary.ids["<|end|>"] not in oss.eos
    assert {oss.vocabulary.ids["<|return|>"], oss.vocabulary.ids["<|call|>"]} < oss.eos


def test_what_scores_say_where_metadata_say_nothing() -> None:
    ends = ("bos_token_id", "eos_token_id", "unknown_token_id")
    bare = {key: value for key, value in scored().items() if not key.endswith(ends)}
    made = from_gguf(bare)
    assert (made.bos, made.add_bos, made.end) == (1, True, 2) and made.encode("a", bos=True)[0] == 1
    assert from_gguf({**bare, "tokenizer.ggml.add_bos_token": False}).add_bos is False
    without = {key: value for key, value in bare.items() if not key.endswith("add_space_prefix")}
    assert from_gguf(without).encode("the") == made.encode("the")
    assert from_gguf({**bare, "tokenizer.ggml.add_space_prefix": False}).encode("the") != made.encode("the")
    assert made.decode(made.encode("the")) == "the"


def test_a_folders_settings_count(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 9]}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 11}')
    folder(tmp_path, bos=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())

    def written(**more: Any) -> Tokenizer:
        told = {k: v for k, v in {**config, **more}.items() if v != "-"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
        return from_folder(tmp_path)

    assert (
        written().eos == {0, 2, 9, 11} and written().encode("a", bos=True)[0] == 1 and len(written().encode("a")) == 1
    )
    assert written().add_bos and written(add_bos_token=None).add_bos and not written(add_bos_token=False).add_bos
    assert not written().add_eos and written(add_eos_token=True).add_eos
    for name, bos in (("-", 1), ("<|im_end|>", 2), ("unheard", 1)):
        assert written(bos_token=name).bos == bos
    named = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "u"}
    assert written(unk_token="u").templates["default"].tokens == named
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
