"""SentencePiece vocabularies against the sentencepiece library, which trained them."""

from itertools import pairwise, product

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.base.errors import CheckpointError
from likely.engine.decode.searches.spelling import spelling
from likely.engine.text.tokenizer import from_gguf
from likely.engine.text.tokenizer.encoder import AddedTokens
from likely.engine.text.tokenizer.sentencepiece import SentencePiece
from likely.engine.text.tokenizer.vocabulary import Kind, byte_level_bytes, sentencepiece_bytes
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
    @settings(max_examples=150)
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
    @settings(max_examples=300)
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
    start, end = tokenizer.vocabulary.ids["<|im_start|>"], tokenizer.vocabulary.ids["<|im_end|>"]
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


def test_faults_are_one_line() -> None:
    for key in ("scores", "byte"):
        metadata = scored()
        if key == "scores":
            del metadata["tokenizer.ggml.scores"]
        else:
            kinds = metadata["tokenizer.ggml.token_type"]
            kinds[kinds.index(6)] = 1
        with pytest.raises(CheckpointError, match=key):
            from_gguf(metadata)


def by_hand(text: str, ids: dict[str, int], rstrip: set[int]) -> list[tuple[str, int | None]]:
    """At each place the longest, from the left, one character after another."""
    out: list[tuple[str, int | None]] = []
    at, plain = 0, ""
    while at < len(text):
        match = max((name for name in ids if text.startswith(name, at)), key=len, default=None)
        if match is None:
            plain, at = plain + text[at], at + 1
            continue
        if plain:
            out.append((plain, None))
        end = at + len(match)
        while ids[match] in rstrip and end < len(text) and text[end].isspace():
            end += 1
        out.append((text[at:end], ids[match]))
        at, plain = end, ""
    return [*out, (plain, None)] if plain else out


def test_the_longest_token_is_matched_at_each_place() -> None:
    ids = {"<a>": 1, "<a": 2, "aa": 3, "b": 4, "]": 5, "<": 6}
    for rstrip in (set(), {1, 4}):
        added = AddedTokens(ids, rstrip)
        for text in [*["".join(letters) for letters in product("<a> b]", repeat=5)][::7], "", "<a>  <a  b \n", "aaa"]:
            assert list(added.split(text)) == by_hand(text, ids, rstrip), text
    assert list(AddedTokens({}).split("abc")) == [("abc", None)] and list(AddedTokens({}).split("")) == []


def test_what_has_no_token_is_bytes_or_unknown() -> None:
    lone = [100 + byte for byte in range(256)]
    for text, bytes_, unknown, want in (
        ("aé a", lone, 7, [(0, 1), (100 + 0xC3, 1), (100 + 0xA9, 0), (1, 1), (0, 1)]),
        ("aé", [], 7, [(0, 1), (7, 1)]), ("aéa", [], None, [(0, 1), (0, 1)]),
    ):  # fmt: skip
        assert SentencePiece({"a": 0, "▁": 1}, [0.0] * 2, bytes_, unknown).encode(text) == want


def test_pieces_are_spelled_by_their_kind() -> None:
    for text, kind, want in (
        ("▁a▁", Kind.NORMAL, b" a "), ("<0x0A>", Kind.BYTE, b"\n"), ("<0xff>", Kind.BYTE, b"\xff"),
        ("<0x0A>", Kind.NORMAL, b"<0x0A>"), ("<0x0A>x", Kind.BYTE, b"<0x0A>x"), ("▁", Kind.BYTE, b" "),
    ):  # fmt: skip
        assert sentencepiece_bytes(text, int(kind)) == want
    for kind, want in ((Kind.NORMAL, b" a"), (Kind.BYTE, b" a"), (Kind.UNUSED, b" a"), (Kind.CONTROL, "Ġa".encode())):
        assert byte_level_bytes("Ġa", int(kind)) == want
    assert byte_level_bytes("a b", int(Kind.NORMAL)) == b"a b"
