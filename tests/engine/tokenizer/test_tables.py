"""Tables of tokens and what is built on them: spelling, kinds, tokens matched whole, merges by scores."""

from itertools import pairwise, product
from typing import Any

import tokenizers

from likely.engine.tokenizer.encoder import Added
from likely.engine.tokenizer.sentencepiece import SentencePiece
from likely.engine.tokenizer.special import ends_of_text, ends_of_turn
from likely.engine.tokenizer.turns import turns
from likely.engine.tokenizer.vocabulary import BYTE_LEVEL, Kind, TokenTable, byte_level_bytes, sentencepiece_bytes

N, U, C, D, X, B = (
    int(kind) for kind in (Kind.NORMAL, Kind.UNKNOWN, Kind.CONTROL, Kind.USER_DEFINED, Kind.UNUSED, Kind.BYTE)
)


def table(*tokens: tuple[str | None, int], spelling: Any = sentencepiece_bytes) -> TokenTable:
    return TokenTable([text for text, _ in tokens], bytes(kind for _, kind in tokens), spelling)


def test_bytes_have_gpt2s_characters() -> None:
    library = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_LEVEL) == library and sorted(BYTE_LEVEL.values()) == list(range(256))
    cut = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for byte in (*range(128), 0xC3, 0xA9):
        text = chr(byte) if byte < 128 else "é"
        assert "".join(c for c, b in BYTE_LEVEL.items() if b == byte) in cut.pre_tokenize_str(text)[0][0]
    for kind, want in ((N, b" a"), (B, b" a"), (X, b" a"), (C, "Ġa".encode()), (U, "Ġa".encode()), (D, "Ġa".encode())):
        assert byte_level_bytes("Ġa", kind) == want
    assert byte_level_bytes("a b", N) == b"a b" and byte_level_bytes("Ċ", N) == b"\n"
    for text, kind, want in (
        ("▁a▁", N, b" a "), ("<0x0A>", B, b"\n"), ("<0xff>", B, b"\xff"), ("<0x0A>", N, b"<0x0A>"),
        ("<0x0A>x", B, b"<0x0A>x"), ("▁", B, b" "),
    ):  # fmt: skip
        assert sentencepiece_bytes(text, kind) == want


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


# -- where messages stand --------------------------------------------------------------------------------------------


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
