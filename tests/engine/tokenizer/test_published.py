"""A tokenizer written for Hugging Face's readers says the same there as here."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.base.errors import CheckpointError
from likely.engine.text.tokenizer import from_folder, from_gguf, published
from tests.engine.vocabularies import AWKWARD, PIECES, TEXT, scored

texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\u2581\x00")),
    st.lists(st.sampled_from(PIECES)).map("".join),
)


def metadata(prefix: bool, **more: Any) -> dict[str, Any]:
    made = scored(prefix) | {f"tokenizer.ggml.{key}": value for key, value in more.items()}
    if prefix:  # nothing that is matched whole
        made["tokenizer.ggml.token_type"] = [1 if kind == 4 else kind for kind in made["tokenizer.ggml.token_type"]]
    return made


@pytest.mark.parametrize("prefix", [True, False])
def test_scores_become_merges(prefix: bool, tmp_path: Path) -> None:
    ours = from_gguf(metadata(prefix))
    published.write(ours, tmp_path)
    again = from_folder(tmp_path)

    @given(texts)
    @settings(max_examples=150)
    def equal(text: str) -> None:
        ids = ours.encode(text)
        assert again.encode(text) == ids and again.decode(ids) == ours.decode(ids)
        assert again.encode(text, special=True) == ours.encode(text, special=True)

    equal()
    for text in [*AWKWARD, *TEXT.splitlines(), "<s>a</s> b <think> c<think>"]:
        equal.hypothesis.inner_test(text)
    assert again.fingerprint == ours.fingerprint and again.eos == ours.eos and again.bos == ours.bos


@pytest.mark.parametrize("add_bos", [True, False])
def test_transformers_begins_texts_as_we_do(add_bos: bool, tmp_path: Path) -> None:
    ours = from_gguf(metadata(False, add_bos_token=add_bos))
    published.write(ours, tmp_path)
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    assert theirs.encode("It rained") == ours.encode("It rained", bos=True)
    assert theirs.decode(ours.encode("It rained")) == "It rained" and theirs.eos_token_id == 2


def test_a_blank_before_and_tokens_matched_whole_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot both put a blank before a text and match '<think>' in it"):
        published.write(from_gguf(scored(True)), tmp_path)
    assert not list(tmp_path.iterdir())
