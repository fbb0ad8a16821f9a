"""Metal text becomes C++ text line by line: what is not different stays, and no line moves."""

import pytest

from likely.metal.simulator import compiler
from likely.metal.simulator.rewrite import rewrite, threadgroup_declarations
from likely.metal.simulator.tokens import join, tokenize

HEADERS = sorted((compiler.mlx_headers() / "mlx" / "backend" / "metal" / "kernels").rglob("*.h"))


@pytest.mark.slow
def test_tokens_joined_give_the_text_back() -> None:
    for path in HEADERS:
        text = path.read_text()
        lines, tokens = text.split("\n"), tokenize(text)
        assert join(tokens) == text
        assert all(token.text in lines[token.line - 1] for token in tokens if token.solid)


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_no_line_of_any_mlx_header_moves(strict: bool) -> None:
    for path in HEADERS:
        text = path.read_text()
        assert rewrite(text, strict=strict).count("\n") == text.count("\n"), path


SAME = [
    "threadgroup float* p = s;", "threadgroup float& x = s[0];",
    "void f(threadgroup float* s, const threadgroup T& x);", "threadgroup_barrier(mem_flags::mem_threadgroup);",
    "int a = b < c && d > (e);", "uint x = 0x1F + 10u + 3ul;", "float x = 1.0f + 2e3f;", "operator float4() const;",
    "float4 v = w.float4(1);", "static_cast<float>(x);", 'const char* s = "1.0 [[x]] float4(1)";',
]  # fmt: skip


@pytest.mark.parametrize("text", SAME)
def test_what_is_the_same_in_both_languages_stays(text: str) -> None:
    assert rewrite(text) == text


CHANGED = {
    "x = 1.0 + .5 + 1e-3;": "x = 1.0f + .5f + 1e-3f;",
    "x = 0.5h + 2bf;": "x = half(0.5f) + bfloat(2.0f);",
    "float4(a, b)": "msl_make<float4>(a, b)",
    "metal::float2(1)": "metal::msl_make<float2>(1)",
    "vec<T, 4>(x)": "msl_make<metal::vec<T, 4>>(x)",
    "static_cast<half4>(x)": "msl_make<half4>(x)",
    "using V = vec<float, 2>; V(1, 2);": "using V = vec<float, 2>; msl_make<V>(1, 2);",
    "void f(device T* a [[buffer(0)]]);": "void f(device T* a );",
    "#include <metal_stdlib>": "// include <metal_stdlib>",
    "#define C(x) float4(x, 1.0)": "#define C(x) msl_make<float4>(x, 1.0f)",
    "constant int n [[function_constant(7)]];": (
        "static constexpr constant int n = int(msl_function_constant<7>::value);"
    ),
}


@pytest.mark.parametrize("text", CHANGED)
def test_what_differs_is_changed(text: str) -> None:
    assert rewrite(text) == CHANGED[text]


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("threadgroup float a, b[2];", [("float", "a", ""), ("float", "b", "[2]")]),
        ("threadgroup\n  vec<T, 4> v [N] [2];", [("vec<T, 4>", "v", "[N] [2]")]),
        ("alignas(4) threadgroup half h[f(1, 2)];", None),
        ("static threadgroup int i;", [("int", "i", "")]),
        ("x; threadgroup int i;", [("int", "i", "")]),
        ("{ threadgroup int i; }", [("int", "i", "")]),
        ("} threadgroup int i;", [("int", "i", "")]),
        ("(threadgroup int i);", None),
        ("x threadgroup int i;", None),
        ("threadgroup int i = 3;", None),
        ("threadgroup int& i;", None),
        ("threadgroup int* i;", None),
        ("threadgroup f(x);", None),
        ("threadgroup i;", None),
    ],
)  # fmt: skip
def test_a_declaration_of_threadgroup_variables_is_told_from_other_uses(
    text: str, declared: list[tuple[str, str, str]] | None
) -> None:
    code = rewrite(text)
    assert code.count("\n") == text.count("\n")
    if declared is None:
        assert code == text
        return
    line = text[: text.index("threadgroup")].count("\n") + 1
    for i, (kind, name, extent) in enumerate(declared):
        unique = f"{line}_{i}"
        one = f"typedef {kind} msl_type_{unique}{extent}; static void* msl_slot_{unique}; msl_type_{unique}& {name} = "
        assert f'{one}msl_threadgroup<msl_type_{unique}>(msl_slot_{unique}, "{name}", __FILE__, __LINE__);' in code
        space = f"typedef {kind} msl_type_{unique}{extent}; __local msl_type_{unique}& {name} = "
        assert f"{space}*(__local msl_type_{unique}*)nullptr;" in rewrite(text, strict=True)
    start = next(i for i, token in enumerate(tokenize(text)) if token.text == "threadgroup")
    assert list(threadgroup_declarations(tokenize(text))) == [start]
