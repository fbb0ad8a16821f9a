"""Words, brackets and parameters of Metal text, and the C++ that calls a kernel with its parameters."""

import pytest

from likely.metal.errors import KernelError
from likely.metal.simulator import signature
from likely.metal.simulator.signature import KernelParameter, entry, parameters, split
from likely.metal.simulator.tokens import after, closing, closing_angle, join, tokenize


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


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("<a>b", 2), ("<a<b>>c", 5), ("<a<b> >c", 6), ("<(a > b)>c", 8), ("<a[x > 1]>c", 9), ("<a;b>", None),
        ("<a && b>", None), ("<a || b>", None), ("<a}>", None), ("<{a}>", 4), ("<a", None),
    ],
)  # fmt: skip
def test_an_angle_is_a_bracket_where_it_is_closed_before_a_statement_ends(text: str, end: int | None) -> None:
    assert closing_angle(tokenize(text), 0) == end


def test_the_next_word_is_past_spaces_and_directives_either_way() -> None:
    tokens = tokenize("a /* x */\n#y\nb")
    last = len(tokens) - 1
    assert after(tokens, 0) == last and after(tokens, last, -1) == 0
    assert after(tokens, last) is None and after(tokens, 0, -1) is None
    assert after(tokenize(" a"), -1) == 1 and after(tokenize("a b"), 0) == 2


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a, b", ["a", " b"]), ("", [""]),
        ("f(a, b), c[1, 2], {d, e}", ["f(a, b)", " c[1, 2]", " {d, e}"]),
        ("vec<T, 4> x, y", ["vec<T, 4> x", " y"]), ("a < b, c", ["a < b", " c"]),
        ("x [[buffer(0), y]], z", ["x [[buffer(0), y]]", " z"]), ("',', b", ["','", " b"]), (",", ["", ""]),
    ],
)  # fmt: skip
def test_only_commas_outside_of_brackets_part(text: str, parts: list[str]) -> None:
    assert [join(part) for part in split(tokenize(text))] == parts


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


def test_every_position_of_metal_is_known() -> None:
    names = ["thread_position_in_grid", "threadgroup_position_in_grid", "thread_position_in_threadgroup"]
    names += ["threads_per_threadgroup", "simdgroup_index_in_threadgroup", "thread_index_in_simdgroup"]
    given = ", ".join(f"uint p{i} [[{name}]]" for i, name in enumerate(names))
    assert [p.position for p in parameters(f"kernel void k({given}) {{}}", "k")] == names
    assert len(signature.POSITIONS) == 17


def test_the_entry_calls_the_kernel_with_its_buffers_in_their_places() -> None:
    given = [
        KernelParameter("a", 3, True),
        KernelParameter("n", 5, False),
        KernelParameter("i", None, False, "thread_index_in_simdgroup"),
    ]
    text = entry("k<float, 4>", given)
    assert "  k<float, 4>(msl_pointer{b[3]}, msl_reference{b[5]}, msl_thread_index_in_simdgroup());\n" in text
    assert text.startswith('\n#line 1 "entry"\nextern "C"') and text.count("\n") == 6
    assert "void msl_kernel() {\n  void* const* b = msl.buffers; (void)b;\n" in text and text.endswith("}\n")
