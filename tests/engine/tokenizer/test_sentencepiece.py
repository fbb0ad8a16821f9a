"""SentencePiece vocabularies against the sentencepiece library, which trained them."""

from itertools import pairwise

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.decode.spelling import spelling
from likely.engine.errors import CheckpointError
from likely.engine.tokenizer import from_gguf
from likely.engine.tokenizer.sentencepiece import SentencePiece
from tests.engine.vocabularies import AWKWARD, PIECES, TEXT, scored, sentencepiece_model

# U+2581 is a blank to these vocabularies, so that a text with one does not come back; NUL ends a text to the library.
texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\u2581\x00")),
    st.lists(st.sampled_from(PIECES)).map("".join),
)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("byte_fallback", [True, False])
def test_equals_sentencepiece(prefix: bool, byte_fallback: bool) -> None:
    tokenizer = from_gguf(scored(prefix, byte_fallback))
    library = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(prefix, byte_fallback))

    @given(texts)
    @settings(max_examples=150, deadline=None)
    def equal(text: str) -> None:
        ours = tokenizer.encode(text)
        assert joined(ours) == library.encode(text)
        if byte_fallback:
            assert tokenizer.decode(ours) == text

    def joined(ids: list[int]) -> list[int]:
        # Neighbouring unknown characters are one unknown token to the library.
        return [token for i, token in enumerate(ids) if not (token == 0 and i and ids[i - 1] == 0)]

    equal()
    for text in ["the", " the", "ab c", "\n", "  x"]:  # where it goes on another text, no blank is put before it
        assert not byte_fallback or b"".join(map(tokenizer.piece, spelling(tokenizer, text))) == text.encode()
    for text in [*AWKWARD, *TEXT.splitlines()]:
        if text:
            equal.hypothesis.inner_test(text)


def test_words_are_cut_where_no_token_reaches_over() -> None:
    """Against the same merging without words, on a vocabulary with tokens that hold a blank in the middle."""
    pieces = [piece.replace(" ", "\u2581") for piece in (" ", "a", "b", "a ", " a", "a b", "  ", "b  ", "ab", "   ")]
    ids = {piece: i for i, piece in enumerate(pieces)}

    def slow(text: str, scores: list[float]) -> list[int]:
        parts = list(text.replace(" ", "\u2581"))
        while True:
            unions = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ids]
            if not unions:
                return [ids[part] for part in parts]
            _, i = min(unions)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]

    @given(st.text("ab ", max_size=24), st.permutations(range(len(pieces))))
    @settings(max_examples=300, deadline=None)
    def equal(text: str, order: list[int]) -> None:
        scores = [float(rank // 2) for rank in order]  # with ties
        assert [token for token, _ in SentencePiece(ids, scores, [], None).encode(text)] == slow(text, scores)

    equal()


def test_a_long_line_takes_no_more_than_its_length() -> None:
    """A line without blanks is one word: 40,000 characters would take minutes if each union looked at all of them."""
    tokenizer = from_gguf(scored())
    assert tokenizer.decode(tokenizer.encode("thequick" * 5000)) == "thequick" * 5000


def test_control_tokens_and_blanks() -> None:
    tokenizer = from_gguf(scored())
    start, end = tokenizer.id("<|im_start|>"), tokenizer.id("<|im_end|>")
    assert tokenizer.encode("", bos=True) == [1] and tokenizer.encode("") == []
    ids = tokenizer.encode("<|im_start|>the dog<|im_end|>", special=True)
    assert ids == [start, *tokenizer.encode("the dog"), end]
    assert tokenizer.decode(ids) == "the dog"
    assert tokenizer.eos == {2, end}
    assert start not in tokenizer.encode("<|im_start|>")
    continued = tokenizer.detokenizer(at_start=False)
    assert "".join(map(continued.push, tokenizer.encode("dog"))) == " dog"


def test_phi3_swallows_blanks_behind_its_control_tokens() -> None:
    metadata = scored()
    plain, phi = from_gguf(metadata), from_gguf({**metadata, "general.name": "Phi-3 mini"})
    text = "<|im_end|>\n the"
    assert phi.encode(text, special=True) == plain.encode("<|im_end|>the", special=True)
    assert phi.encode(text, special=True) != plain.encode(text, special=True)
    assert phi.encode("<s> the", special=True) == plain.encode("<s> the", special=True)


@pytest.mark.parametrize("key", ["scores", "byte"])
def test_faults_are_one_line(key: str) -> None:
    metadata = scored()
    if key == "scores":
        del metadata["tokenizer.ggml.scores"]
    else:
        kinds = metadata["tokenizer.ggml.token_type"]
        kinds[kinds.index(6)] = 1
    with pytest.raises(CheckpointError, match=key):
        from_gguf(metadata)
