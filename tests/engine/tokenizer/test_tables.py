"""Tables of tokens and what is built on them: spelling, kinds, tokens matched whole, merges by scores."""

import hashlib
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
import tokenizers

from engine.errors import DataError
from engine.tokenizer import Tokenizer
from engine.tokenizer.detokenizer import Detokenizer, _unfinished
from engine.tokenizer.encoder import Added, SentencePieceEncoder
from engine.tokenizer.published import _merges
from engine.tokenizer.sentencepiece import SentencePiece
from engine.tokenizer.special import ends_of_text, ends_of_turn
from engine.tokenizer.template import ChatTemplate
from engine.tokenizer.turns import _marked, _shared, _Where, turns
from engine.tokenizer.vocabulary import (
    BYTE_LEVEL,
    Kind,
    TokenTable,
    _byte_level_alphabet,
    byte_level_bytes,
    sentencepiece_bytes,
)

N, U, C, D, X, B = (
    int(kind) for kind in (Kind.NORMAL, Kind.UNKNOWN, Kind.CONTROL, Kind.USER_DEFINED, Kind.UNUSED, Kind.BYTE)
)


def table(*tokens: tuple[str | None, int], spelling: Any = sentencepiece_bytes) -> TokenTable:
    return TokenTable([text for text, _ in tokens], bytes(kind for _, kind in tokens), spelling)


def test_kinds_are_numbered_as_files_number_them() -> None:
    assert (N, U, C, D, X, B) == (1, 2, 3, 4, 5, 6)


def test_bytes_have_gpt2s_characters() -> None:
    library = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_LEVEL) == library and sorted(BYTE_LEVEL.values()) == list(range(256))
    assert _byte_level_alphabet() == BYTE_LEVEL
    cut = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for byte in (*range(128), 0xC3, 0xA9):
        text = chr(byte) if byte < 128 else "é"
        assert "".join(c for c, b in BYTE_LEVEL.items() if b == byte) in cut.pre_tokenize_str(text)[0][0]
    for kind, want in ((N, b" a"), (B, b" a"), (X, b" a"), (C, "Ġa".encode()), (U, "Ġa".encode()), (D, "Ġa".encode())):
        assert byte_level_bytes("Ġa", kind) == want
    assert byte_level_bytes("a b", N) == b"a b" and byte_level_bytes("Ċ", N) == b"\n"
    for text, kind, want in (
        ("▁a▁", N, b" a "),
        ("<0x0A>", B, b"\n"),
        ("<0xff>", B, b"\xff"),
        ("<0x0A>", N, b"<0x0A>"),
        ("<0x0A>x", B, b"<0x0A>x"),
        ("▁", B, b" "),
    ):
        assert sentencepiece_bytes(text, kind) == want


def test_a_table_says_what_its_ids_are() -> None:
    made = table(("a", N), (None, N), ("b", C), ("a", N), ("?", U), ("w", D))
    assert len(made) == 6 and made.ids == {"a": 0, "b": 2, "?": 4, "w": 5}
    assert [made.piece(i) for i in range(8)] == [b"a", b"", b"b", b"a", b"?", b"w", b"", b""]
    assert [made.is_special(i) for i in range(-1, 8)] == [False, False, False, True, False, True, False, False, False]
    with pytest.raises(IndexError, match="got -1"):
        made.piece(-1)
    assert made.missing_bytes is None and table(("x", C)).is_special(0)
    whole = table(*((character, N) for character in BYTE_LEVEL), spelling=byte_level_bytes)
    assert whole.missing_bytes is None
    lacking = table(*((c, N) for c, byte in BYTE_LEVEL.items() if byte not in (4, 0x5D)), spelling=byte_level_bytes)
    assert lacking.missing_bytes is not None
    assert [bool(lacking.missing_bytes.search(bytes([b]))) for b in (3, 4, 5, 0x5C, 0x5D)] == [
        False,
        True,
        False,
        False,
        True,
    ]


def test_a_fingerprint_is_a_hash_of_ids_and_bytes() -> None:
    made = table(("▁a", N), (None, N), ("gone", X), ("b", C))
    assert made.fingerprint == hashlib.sha256(b"0 2  a3 1 b").hexdigest()
    assert table((" a", D), ("x", X), (None, C), ("b", N), (None, N)).fingerprint == made.fingerprint
    assert table(("b", N), ("▁a", N)).fingerprint != table(("▁a", N), ("b", N)).fingerprint


def test_ends_are_control_tokens_of_known_names() -> None:
    made = table(("<eos>", C), ("</s>", N), ("<|end|>", C), ("<|im_end|>", C), ("x", C), ("[EOT]", D))
    assert ends_of_text(made) == {0, 2, 3} and ends_of_turn(made) == {0, 2, 3}
    harmony = table(("<|end|>", C), ("<|return|>", C), ("<|call|>", C))
    assert ends_of_text(harmony) == {1, 2} and ends_of_turn(harmony) == {0, 1, 2}
    assert ends_of_text(table(("<|end|>", C), ("<|return|>", C))) == {0, 1}


# -- tokens that are matched whole -----------------------------------------------------------------------------------


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
        added = Added(ids, rstrip)
        for text in [*["".join(letters) for letters in product("<a> b]", repeat=5)][::7], "", "<a>  <a  b \n", "aaa"]:
            assert list(added.split(text)) == by_hand(text, ids, rstrip), text
    assert list(Added({}).split("abc")) == [("abc", None)] and list(Added({}).split("")) == []


# -- merging by scores -----------------------------------------------------------------------------------------------

PIECES = ["▁", "a", "b", "c", "ab", "bc", "▁a", "abc", "▁ab", "aa"]


def slow(text: str, ids: dict[str, int], scores: list[float]) -> list[tuple[int, int]]:
    """Of all neighbours whose union is a token the best, of equals the leftmost, until there are none."""
    parts = list(text.replace(" ", "▁"))
    while True:
        unions = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ids]
        if not unions:
            return [(ids.get(part, -1), len(part)) for part in parts]
        _, i = min(unions)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def test_pieces_are_joined_by_their_scores() -> None:
    ids = {piece: i for i, piece in enumerate(PIECES)}
    for scores in ([0, 0, 0, 0, 3, 4, 2, 1, 5, 3], [0, 0, 0, 0, 4, 3, 5, 6, 1, 2], [0.0] * 10):
        made = SentencePiece(ids, [float(s) for s in scores], [], None)
        for letters in product("abc ", repeat=5):
            text = "".join(letters)
            assert made.encode(text) == slow(text, ids, [float(s) for s in scores]), (text, scores)


def test_what_has_no_token_is_bytes_or_unknown() -> None:
    ids = {"a": 0, "▁": 1}
    lone = [100 + byte for byte in range(256)]
    assert SentencePiece(ids, [0.0] * 2, lone, 7).encode("aé a") == [
        (0, 1),
        (100 + 0xC3, 1),
        (100 + 0xA9, 0),
        (1, 1),
        (0, 1),
    ]
    assert SentencePiece(ids, [0.0] * 2, [], 7).encode("aé") == [(0, 1), (7, 1)]
    assert SentencePiece(ids, [0.0] * 2, [], None).encode("aéa") == [(0, 1), (0, 1)]


def test_an_encoder_puts_a_blank_before_and_counts_characters() -> None:
    ids = {piece: i for i, piece in enumerate(PIECES)}
    pieces = SentencePiece(ids, [0, 0, 0, 0, 3, 4, 2, 1, 5, 3], [], None)
    plain, prefixed = (
        SentencePieceEncoder(pieces, Added({"W": 50}), Added({"<s>": 60}), prefix=prefix) for prefix in (False, True)
    )
    assert plain.encode("ab", special=False) == [4] and prefixed.encode("ab", special=False) == [8]
    assert prefixed.encode("", special=False) == [] == plain.encode("", special=True)
    assert prefixed.encode("ab<s>ab", special=True) == [8, 60, 8] and plain.encode("<s>", special=True) == [60]
    assert prefixed.ends("ab<s>ab") == ([8, 60, 8], [2, 5, 7]) and plain.ends("aWb") == ([1, 50, 2], [1, 2, 3])
    assert prefixed.ends("cW") == ([0, 3, 50], [0, 1, 2]) and prefixed.encode("Wa", special=False) == [0, 50, 1]


def test_scores_become_merges_of_which_the_best_come_first() -> None:
    ids, scores = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4}, [0.0, 0.0, -1.0, -1.0, -0.5]
    assert _merges(ids, scores) == [("a", "ba"), ("ab", "a"), ("a", "b"), ("b", "a")]


# -- text as it comes ------------------------------------------------------------------------------------------------


def test_no_more_is_held_than_the_next_character_may_need() -> None:
    d, e = "\U0001f1e9", "\U0001f1ff"
    for text, held in (
        ("", 0),
        ("a", 0),
        ("\u200d", 1),
        ("a\u200d", 1),
        ("\u200da", 0),
        (d, 1),
        (d + e, 0),
        (d * 3, 1),
        ("a" + d, 1),
        ("\U0001f1e6", 1),
        ("\U0001f1e5", 0),
        ("\U0001f200", 0),
        (e, 1),
        (d + "a", 0),
    ):
        assert _unfinished(text) == held, text


def test_a_fork_of_a_detokenizer_goes_on_alone() -> None:
    pieces = [b" a", b"\xf0\x9f", b"\x91\x8d", b"", b"\xe2\x80\x8d", b"b"]
    one = Detokenizer(pieces.__getitem__, strip_space=True)
    assert one.push(3) == "" and one.push(0) == "a" and one.push(1) == ""
    twin = one.fork()
    assert one.push(2) == "👍" and twin.flush() == "\ufffd" and twin.push(0) == " a"
    assert one.push(4) == "" and one.fork().push(5) == "\u200db" and one.flush() == "\u200d" and one.push(0) == " a"
    fresh = Detokenizer(pieces.__getitem__, strip_space=True).fork()
    assert fresh.push(0) == "a" and fresh.push(0) == " a"


def test_a_tokenizer_begins_and_ends_texts_as_it_was_told() -> None:
    made = table(("a", N), ("<s>", C), ("</s>", C), ("b", N), ("<eos>", C))

    class Letters:
        def encode(self, text: str, *, special: bool) -> list[int]:
            return [{"a": 0, "b": 3}[c] for c in text]

    def told(**more: Any) -> Tokenizer:
        return Tokenizer(made, Letters(), **more)  # type: ignore[arg-type]

    plain = told()
    assert (plain.bos, plain.add_bos, plain.add_eos, plain.end, plain.eos) == (None, False, False, None, {2, 4})
    assert (
        plain.encode("ab", bos=True) == [0, 3]
        and plain.vocab_size == 5
        and plain.id("b") == 3
        and plain.id("z") is None
    )
    begun = told(bos=1, add_bos=True, add_eos=True, eos=(3, 2))
    assert begun.encode("ab", bos=True) == [1, 0, 3] and begun.encode("ab") == [0, 3] and begun.end == 3
    assert begun.eos == {2, 3, 4} and begun.add_eos and begun.add_bos
    assert not told(add_bos=True).add_bos and told(bos=1).encode("a", bos=True) == [0]
    assert begun.decode([1, 0, 2, 3]) == "ab" and begun.decode([1, 0, 2, 3], special=True) == "<s>a</s>b"
    assert plain.fingerprint == made.fingerprint and plain.templates == {} and plain.chat_template is None
    named = told(templates={"default": ChatTemplate("x"), "tool_use": ChatTemplate("y{{ tools }}")})
    assert named.chat_template == "x" and set(named.templates) == {"default", "tool_use"}


# -- where messages stand --------------------------------------------------------------------------------------------


def test_what_two_texts_begin_with() -> None:
    for a, b, shared in (
        ("", "", 0),
        ("a", "", 0),
        ("ab", "ac", 1),
        ("ab", "ab", 2),
        ("abc", "ab", 2),
        ("xb", "ab", 0),
    ):
        assert _shared(a, b) == _shared(b, a) == shared
    for at in range(0, 70, 3):
        assert _shared("a" * 70, "a" * at + "b" + "a" * 9) == at


def test_a_mark_stands_inside_of_blanks_and_of_no_structure() -> None:
    mark = "\ue0f1\ue0f2"
    message = {
        "role": "user",
        "content": " hi\n",
        "id": "7",
        "n": 3,
        "empty": "  ",
        "list": ["a", ("b",)],
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": "y", "n": 1}}}],
    }
    end = _marked(message, _Where(end=True))
    assert end == {
        "role": "user",
        "content": f" hi{mark}\n",
        "id": "7",
        "n": 3,
        "empty": "  ",
        "list": [f"a{mark}", [f"b{mark}"]],
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": f"y{mark}", "n": 1}}}],
    }
    assert _marked(message, _Where(end=False))["content"] == f" {mark}hi\n"
    named = _marked(message, _Where(end=True, names=True))["tool_calls"][0]
    assert named == {"type": "function", "function": {"name": f"f{mark}", "arguments": {"x": f"y{mark}", "n": 1}}}


def test_messages_stand_where_a_template_puts_them() -> None:
    def render(messages: Any, prompt: bool) -> str:
        told = "".join(f"[{m['role'][0]}:{m['content'].strip()}]" for m in messages if m["role"] != "system")
        return told + ("[a:" if prompt else "")

    talk = [
        {"role": r, "content": c}
        for r, c in (("system", "s"), ("user", " one"), ("assistant", "1"), ("user", ""), ("assistant", "22"))
    ]
    text, found = turns(render, talk)
    assert text == "[u:one][a:1][u:][a:22]"
    assert [(t.start, t.stop) for t in found] == [(0, 0), (3, 6), (10, 11), (11, 11), (19, 21)]

    def calls(messages: Any, prompt: bool) -> str:
        return "".join(f"<{m['name_']}>" if "name_" in m else f"({m['f']['name']})" for m in messages)

    _, only = turns(calls, [{"role": "assistant", "f": {"name": "sum"}}])
    assert [(t.start, t.stop) for t in only] == [(1, 4)]


def test_bytes_that_no_token_spells_are_named_by_their_character() -> None:
    lacking = table(*((c, N) for c, byte in BYTE_LEVEL.items() if byte != 4), spelling=byte_level_bytes)

    class Any_:
        def encode(self, text: str, *, special: bool) -> list[int]:
            return []

    made = Tokenizer(lacking, Any_())  # type: ignore[arg-type]
    assert made.encode("né") == []
    for text, line in (
        ("né\x04", r"byte 0x04, in '\\x04' at character 2"),
        ("\ud800", "at character 0"),
        ("ab\udc00", "at character 2"),
    ):
        with pytest.raises(DataError, match=line):
            made.encode(text)
    assert replace(lacking, spelling=sentencepiece_bytes).missing_bytes is None
