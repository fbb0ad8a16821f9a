"""Words, brackets and parameters of Metal text, and the C++ that calls a kernel with its parameters."""

import pytest

from likely.metal.errors import KernelError
from likely.metal.simulator.signature import KernelParameter, parameters
from likely.metal.simulator.tokens import closing, join, tokenize


def kinds(text: str) -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokenize(text)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a_1 b", [("word", "a_1"), ("space", " "), ("word", "b")]),
        ("x// y\nz", [("word", "x"), ("space", "// y"), ("space", "\n"), ("word", "z")]),
        ("/* a\nb */c", [("space", "/* a\nb */"), ("word", "c")]),
        ("#if A \\\n B\nx", [("directive", "#if A \\\n B"), ("space", "\n"), ("word", "x")]),
        (r'"a\"b"', [("string", r'"a\"b"')]), (r"'\''", [("string", r"'\''")]), ("0x1Fu", [("number", "0x1Fu")]),
        ("1'000.5e-3h", [("number", "1'000.5e-3h")]), (".5f", [("number", ".5f")]), ("1.", [("number", "1.")]),
        ("2e+4bf", [("number", "2e+4bf")]),
        ("a<<=b", [("word", "a"), ("mark", "<<="), ("word", "b")]),
        ("[[x]]", [("mark", "[["), ("word", "x"), ("mark", "]"), ("mark", "]")]),
        ("a->b::c", [("word", "a"), ("mark", "->"), ("word", "b"), ("mark", "::"), ("word", "c")]),
        ("x...", [("word", "x"), ("mark", "...")]), ("#@", [("directive", "#@")]),
        ("é$", [("mark", "é"), ("mark", "$")]),
    ],
)  # fmt: skip
def test_a_text_is_parted_into_its_words(text: str, tokens: list[tuple[str, str]]) -> None:
    assert kinds(text) == tokens and join(tokenize(text)) == text


def test_a_token_knows_the_line_it_begins_on_and_whether_it_is_code() -> None:
    tokens = tokenize("a\n\n#x\\\ny\n/*\n*/ b")
    assert [(token.text, token.line) for token in tokens if token.kind != "space"] == [
        ("a", 1),
        ("#x\\\ny", 3),
        ("b", 6),
    ]
    assert [token.text for token in tokens if token.solid] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "at", "end"),
    [
        ("(a(b)c)d", 0, 6), ("(a(b)c)d", 2, 4), ("[x[0]]y", 0, 5), ("{({[]})}z", 0, 7), ("[[a[0]]]z", 0, 6),
        ("(a", 0, 1), ("(')')x", 0, 2),
    ],
)  # fmt: skip
def test_a_bracket_is_closed_by_its_own(text: str, at: int, end: int) -> None:
    assert closing(tokenize(text), at) == end


SOURCE = """
void helper(device float* k);
kernel void k(
    const device T* a [[buffer(3)]], device float* b, constant int& n, constant S &s [[ buffer( 9 ) ]],
    uint3 at [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]], device uint* last [[buffer(1)]] [[maybe_unused]]) {
  k(1);
}
"""


def test_parameters_are_buffers_by_their_number_and_positions() -> None:
    assert parameters(SOURCE, "k") == [
        KernelParameter("a", 3, True, ""),
        KernelParameter("b", 4, True, ""),
        KernelParameter("n", 5, False, ""),
        KernelParameter("s", 9, False, ""),
        KernelParameter("at", None, False, "thread_position_in_grid"),
        KernelParameter("lane", None, False, "thread_index_in_simdgroup"),
        KernelParameter("last", 1, True, ""),
    ]
    assert parameters("kernel void k() {}", "k") == []
    assert parameters("kernel void k(uint i [[thread_position_in_grid]], device int* a) {}", "k")[1].index == 0


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("void k(device float* a);", "kernel 'k': expected its definition in the source, found none"),
        ("int k = 3;", "kernel 'k': expected its definition in the source, found none"),
        ("k", "kernel 'k': expected its definition in the source, found none"),
        ("void k(threadgroup float* s) {}", "parameter 's': expected a buffer, got threadgroup memory"),
        ("void k(uint i) {}", "parameter 'i': unknown attribute none"),
        ("void k(uint i [[stage_in]]) {}", r"parameter 'i': unknown attribute \[\[stage_in\]\]"),
        ("void k(device T* t, uint i [[stage_in]]) {}", "parameter 'i': unknown attribute"),
    ],
)
def test_a_kernel_that_cannot_be_called_is_named(source: str, line: str) -> None:
    with pytest.raises(KernelError, match=line):
        parameters(source, "k")
