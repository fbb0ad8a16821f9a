"""Shapes, starts and rates by hand, and texts: how they are cut, which are set aside, and what their ids say."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.train.pretrain import parametrization as widths
from likely.engine.train.pretrain.config import configure
from likely.engine.train.pretrain.corpus import Corpus, CorpusFacts, corpus
from likely.engine.train.pretrain.documents import LONG, SHORT, CorpusDocument, documents, sources
from likely.engine.train.pretrain.parametrization import Parametrisation, peak
from likely.engine.train.pretrain.shape import (
    ModelShape,
    check_family,
    config_of,
    counts,
    parameters_of,
    read_shape,
    shape_of,
)
from likely.engine.train.pretrain.vocabulary import size_for
from likely.models.families import registry

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4, "intermediate_size": 160, "max_position_embeddings": 32, "head_dim": 16,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip


def test_a_shape_is_a_configuration_in_its_family_s_words() -> None:
    plain = ModelShape(layers=3, width=64, heads=4)
    assert config_of(plain, 100, 32) == LLAMA
    other = ModelShape("llama", 3, 64, 4, kv_heads=2, mlp_width=48, tied=True, further={"rope_theta": 5.0})
    changed = {"num_key_value_heads": 2, "intermediate_size": 48, "tie_word_embeddings": True, "rope_theta": 5.0}
    assert config_of(other, 100, 32) == LLAMA | changed
    assert config_of(ModelShape(width=96, heads=2), 100, 32)["intermediate_size"] == 256  # 8/3, in sixteens
    assert config_of(ModelShape(width=92, heads=2), 100, 32)["intermediate_size"] == 240
    gpt2 = config_of(ModelShape("gpt2", 3, 64, 4), 100, 32)
    assert gpt2 == {
        "model_type": "gpt2", "vocab_size": 100, "n_embd": 64, "n_head": 4, "n_layer": 3, "n_positions": 32,
        "n_ctx": 32, "n_inner": 256, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
    }  # fmt: skip
    neox = config_of(ModelShape("gpt_neox", 3, 64, 4), 100, 32)
    assert neox["intermediate_size"] == 256 and not {"rope_theta", "num_key_value_heads", "head_dim"} & set(neox)
    assert (neox["layer_norm_eps"], neox["rotary_emb_base"], neox["rotary_pct"]) == (1e-5, 10000.0, 0.25)
    assert neox["tie_word_embeddings"] is False and "rms_norm_eps" not in neox
    for family in ("gemma2", "gemma3_text"):
        gemma = config_of(ModelShape(family, 3, 64, 4), 100, 32)
        assert gemma["query_pre_attn_scalar"] == 16.0 and gemma["tie_word_embeddings"] is True
    granite = config_of(ModelShape("granite", 3, 64, 4), 100, 32)
    assert granite["attention_multiplier"] == 0.25 and granite["rms_norm_eps"] == 1e-5


@pytest.mark.parametrize(("width", "heads"), [(65, 4), (64, 3), (36, 4), (4, 4)])
def test_heads_have_an_even_size(width: int, heads: int) -> None:
    with pytest.raises(ParameterError, match=f"a width of {width} does not make {heads} heads of an even size"):
        config_of(ModelShape(width=width, heads=heads), 100, 32)


def test_what_cannot_be_trained_from_nothing_is_refused() -> None:
    check_family("qwen3")
    for family in ("mixtral", "llada", "nothing"):
        with pytest.raises(ParameterError, match=f"family must be one of .*, got '{family}'"):
            check_family(family)
    with pytest.raises(ParameterError, match="no such shape"):
        config_of(ModelShape(heads=2, kv_heads=3), 100, 32)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [("300k", 3e5), ("1.5M", 1.5e6), ("2b", 2e9), (" 12 ", 12.0), ("10 K", 1e4), ("a.toml", math.inf)],
)
def test_a_size_is_a_number_of_parameters(size: str, wanted: float) -> None:
    assert parameters_of(size) == wanted


@pytest.mark.parametrize("size", ["30k", "100k", "1M", "10M"])
def test_the_nearest_shape_to_a_size_is_of_even_heads_and_no_odd_depth(size: str) -> None:
    """About a layer for 32 of width, heads of 32, of narrow models 8 and of wide ones 64."""
    found = shape_of(size, "llama", 300, 32)
    assert counts(found, 300, 32)[0] == pytest.approx(parameters_of(size), rel=0.15)
    assert found.width // found.heads == (8 if found.width < 64 else 32 if found.width < 512 else 64)
    assert abs(found.layers - max(1, round(found.width / 32))) <= 2
    tied = shape_of(size, "llama", 300, 32, tied=True)
    assert tied.tied and not found.tied and counts(tied, 300, 32)[0] == pytest.approx(parameters_of(size), rel=0.15)


def test_a_size_that_no_shape_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ParameterError, match=r"no llama with 5,000 tokens has about 20k parameters: the nearest has"
    ) as said:
        shape_of("20k", "llama", 5000, 32)
    assert "160,000 of them embeddings" in str(said.value)  # of the narrowest, in and out


def test_a_file_says_a_shape(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('family = "qwen3"\nlayers = 4\nwidth = 128\nheads = 4\nkv_heads = 2\n[further]\nrope_theta = 1.0\n')
    assert read_shape(str(path)) == ModelShape("qwen3", 4, 128, 4, 2, further={"rope_theta": 1.0})
    assert shape_of(str(path), "llama", 9, 32) == read_shape(str(path))
    for text, line in (
        ("width = 0", "width must be 1 or more, got 0"), ("layers = 0", "layers must be 1 or more"),
        ("heads = -1", "heads must be 1 or more"), ("kv_heads = -1", "kv_heads and mlp_width must be 0 or more"),
        ("mlp_width = -2", "kv_heads and mlp_width must be 0 or more"), ("widht = 3", "did you mean width"),
        ("further = 3", "further must be a table"), ("width = 1.5", "s.toml: width must be a whole number"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ParameterError, match=line):
            read_shape(str(path))


def test_the_rate_where_none_is_given() -> None:
    assert [peak(configure({}), w) for w in (32, 64, 256)] == [2**-7] * 3
    standard = configure({"parametrisation": "standard"})
    assert [peak(standard, w) for w in (32, 64, 128, 256)] == [2**-7, 2**-7, 2**-8, 2**-9]
    muon = configure({"parametrisation": "standard", "optimiser": "muon"})
    assert peak(muon, 256) == peak(configure({"optimiser": "muon"}), 64) == 2**-5.5


def test_weights_begin_by_the_seed_at_their_deviations() -> None:
    model = registry.blank(config_of(ModelShape("gpt2", 2, 64, 4), 300, 32))
    chosen = Parametrisation("standard", 1.0)
    widths.start(model, chosen, 3)
    first = {name: np.array(a) for name, a in model.arrays.items()}
    for each in model.parts():
        weight = np.array(each.numbers())
        if each.kind == "norm":
            assert (weight == 1).all()
        else:
            inner = 1 / math.sqrt(each.width * (4 if each.role in ("o", "down") else 1))  # of two layers' two sums
            wanted = 0.02 if each.role in ("embed", "positions") else inner
            assert weight.std() == pytest.approx(wanted, rel=0.06), each.path
        if each.bias is not None:
            assert (np.array(each.bias) == 0).all()
    widths.start(model, chosen, 3)
    assert all((np.array(a) == first[name]).all() for name, a in model.arrays.items())
    table = next(each for each in model.parts() if each.role == "embed")
    before = np.array(table.numbers())
    widths.start(model, chosen, 4)
    assert (np.array(table.numbers()) != before).any()
    own = registry.blank(config_of(ModelShape("llama", 1, 64, 2), 300, 32))
    widths.start(own, Parametrisation("mup", 1.0), 0)
    (head,) = (each for each in own.parts() if each.role == "head")
    assert (np.array(head.numbers()) == 0).all()
    matrices = [np.array(each.numbers()) for each in own.parts() if each.kind == "matrix" and each.role != "head"]
    assert len({float(m[0, 0]) for m in matrices}) == len(matrices)  # each has a key of its own


@pytest.mark.parametrize(
    ("nbytes", "tokens"),
    [(0, 512), (10_000, 512), (262_143, 512), (262_144, 1024), (1_048_575, 1024), (1_048_576, 2048), (10**12, 1 << 15)],
)
def test_a_vocabulary_is_about_twice_the_root(nbytes: int, tokens: int) -> None:
    assert size_for(nbytes) == tokens == size_for(10**13, nbytes)


def cut(path: Path, text: str) -> list[CorpusDocument]:
    path.write_text(text)
    return list(documents(path))


def test_a_text_is_cut_at_paragraphs_lines_or_words(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert cut(path, "short") == [CorpusDocument("short")] and cut(path, " \n ") == []
    assert cut(path, "x" * 2 * SHORT) == [CorpusDocument("x" * 2 * SHORT)]
    one, rest = cut(path, "x" * (2 * SHORT + 1))
    assert (len(one.text), one.ends, len(rest.text), rest.ends) == (SHORT, False, SHORT + 1, True)
    filler = "y" * 3 * SHORT
    for marks, at in (
        ({1500: "\n\n", 1800: "\n", 1900: " "}, 1502),  # a paragraph before a line before a word
        ({1500: " ", 1700: "\n"}, 1701),
        ({1500: " ", 1900: " "}, 1901),
        ({1000: "\n\n", 1500: " "}, 1501),  # none in the first half
        ({1024: "\n"}, 1025),
        ({2046: "\n\n"}, 2048),
        ({2047: "\n"}, 2048),
        ({2048: "\n"}, 2048),
    ):
        text = list(filler)
        for place, mark in marks.items():
            text[place : place + len(mark)] = mark
        assert len(cut(path, "".join(text))[0].text) == at, marks
    long = cut(path, "z" * 64 * 3000)
    assert len(long[0].text) == 3000 and "".join(each.text for each in long) == "z" * 64 * 3000
    assert len(cut(path, "z" * 64 * (LONG + 9))[0].text) == LONG
    blank = cut(path, " " * 3 * SHORT + "end")
    assert [each.text.strip() for each in blank] == ["end"]


def test_sources_are_texts_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", ".hidden.txt", "c.png", "d.jsonl"):
        (tmp_path / name).write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "e.py").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "f.txt").write_text("x")
    assert [str(p.relative_to(tmp_path)) for p in sources(tmp_path)] == ["a.md", "b.txt", "d.jsonl", "sub/e.py"]
    assert sources(tmp_path / "c.png") == [tmp_path / "c.png"]
    with pytest.raises(DataError, match="there is no"):
        sources(tmp_path / "none")
    (tmp_path / "sub" / "e.py").unlink()
    with pytest.raises(DataError, match="has no text: expected files that end"):
        sources(tmp_path / "sub")


FACTS = {"text": "t", "tokenizer": "bytes", "vocab": 0, "valid": 0.5, "tokens": 257, "documents": 2, "train_tokens": 5,
         "valid_tokens": 4, "train_bytes": 5, "valid_bytes": 6, "unigram": 1.0, "unigram_of_bytes": 1.0}  # fmt: skip


def test_ids_are_read_as_they_were_written_and_damage_is_said(tmp_path: Path) -> None:
    made = Corpus(tmp_path, CorpusFacts(**FACTS), None)  # type: ignore[arg-type]
    assert made.bytes_a_token == 1.5 and made.facts.key == ["t", "bytes", 0, 0.5]

    def stored(ids: list[int], lengths: list[int], kind: str = "<u2") -> None:
        np.array(ids, kind).tofile(tmp_path / "train.bin")
        np.array(lengths, "<u4").tofile(tmp_path / "train.len")

    stored([1, 256, 3, 4, 5], [2, 3])
    assert [row.ids for row in made.rows("train", 9)] == [(1, 256), (3, 4, 5)]
    for ids, lengths, line in (
        ([1, 256, 3, 4, 5], [2, 4], "is damaged: 5 ids for 6"), ([1, 257, 3], [3], "it has token 257 of 257"),
    ):  # fmt: skip
        stored(ids, lengths)
        with pytest.raises(DataError, match=line):
            made.rows("train", 9)
    with pytest.raises(DataError, match="cannot be read"):
        made.rows("valid", 9)
    wide = Corpus(tmp_path, CorpusFacts(**FACTS | {"tokens": 65537}), None)  # type: ignore[arg-type]
    stored([1, 65536, 3], [3], "<u4")
    assert [row.ids for row in wide.rows("train", 9)] == [(1, 65536, 3)]


def test_a_corpus_is_made_once_and_says_what_it_is_of(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    texts = [f"text {i} of many" for i in range(12)]
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    told: list[Any] = []
    config = configure({"data": str(data), "out": str(tmp_path / "m"), "tokenizer": "bytes", "valid": 0.25})
    made = corpus(config, progress=lambda *said: told.append(said))
    hashes = [int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) for text in texts]
    aside = [h < 0.25 * 65536 for h in hashes]
    assert 0 < sum(aside) < 12
    held = [text for text, out in zip(texts, aside, strict=True) if out]
    rest = [text for text, out in zip(texts, aside, strict=True) if not out]
    facts = made.facts
    assert (facts.documents, facts.tokens, facts.tokenizer, facts.vocab, facts.valid) == (12, 257, "bytes", 0, 0.25)
    assert (facts.train_bytes, facts.valid_bytes) == (sum(map(len, rest)), sum(map(len, held)))
    assert facts.train_tokens == facts.train_bytes + len(rest) and facts.valid_tokens == facts.valid_bytes + len(held)
    assert told[-1] == ("reading it as tokens", 12, 12) and ("learning a tokenizer", 0, 0) in told
    assert corpus(config).facts == facts
    with pytest.raises(DataError, match="its valid is not the one asked for; give another --corpus or --out"):
        corpus(configure({"valid": 0.3}, config))
    with pytest.raises(ParameterError, match=r"or a folder with a tokenizer\.json, got 'nowhere'"):
        corpus(configure({"data": str(data), "tokenizer": "nowhere", "out": str(tmp_path / "n")}))
    assert not (tmp_path / "n").exists()
