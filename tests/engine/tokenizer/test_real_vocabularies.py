"""SmolLM2's own tokenizer, from the metadata of its GGUF file."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.text.tokenizer import Tokenizer, from_gguf
from likely.engine.weights.sources.gguf import read_header
from likely.engine.weights.sources.model_info import ModelInfo
from tests.engine import slow_bpe
from tests.engine.vocabularies import AWKWARD, PIECES, TEXT

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def metadata(smollm2: ModelInfo) -> dict[str, Any]:
    return read_header(smollm2.path).metadata


@pytest.fixture(scope="module")
def tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    return from_gguf(metadata)


def test_equals_byte_pair_encoding_by_definition(metadata: dict[str, Any], tokenizer: Tokenizer) -> None:
    for text in [*AWKWARD, TEXT, "".join(PIECES)]:
        assert tokenizer.encode(text) == slow_bpe.encode(metadata, text, [r"\p{N}", slow_bpe.GPT2]), text


def test_every_text_that_it_has_bytes_for_comes_back(tokenizer: Tokenizer) -> None:
    """The vocabulary lacks six control characters, and the lead bytes of planes that hold no assigned text."""
    lacking = "".join(map(chr, (0x04, 0x06, 0x13, 0x14, 0x16, 0x1D)))

    @given(st.text(st.characters(max_codepoint=0x1FFFF, exclude_categories=("Cs",), exclude_characters=lacking)))
    @settings(max_examples=200)
    def comes_back(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    comes_back()


def test_a_conversation_is_what_it_was_trained_on(tokenizer: Tokenizer) -> None:
    assert (tokenizer.vocab_size, tokenizer.bos, tokenizer.add_bos, tokenizer.eos) == (49152, 1, False, {0, 2})
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    ids, spans = tokenizer.spans(messages)
    text = tokenizer.decode(ids, special=True)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n")
    assert tokenizer.decode((ids[i] for i in spans[1]), special=True) == "Hello.<|im_end|>"
    assert tokenizer.chat(messages[:1]) == ids[: spans[1].start]
