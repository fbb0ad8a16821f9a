"""Metal text becomes C++ text line by line: what is not different stays, and no line moves."""

import pytest

from metal.simulator import compiler
from metal.simulator.rewrite import rewrite, threadgroup_declarations
from metal.simulator.tokens import join, tokenize

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
    "threadgroup float* p = s;",
    "threadgroup float& x = s[0];",
    "void f(threadgroup float* s, const threadgroup T& x);",
    "threadgroup_barrier(mem_flags::mem_threadgroup);",
    "int a = b < c && d > (e);",
    "uint x = 0x1F + 10u + 3ul;",
    "float x = 1.0f + 2e3f;",
    "operator float4() const;",
    "float4 v = w.float4(1);",
    "static_cast<float>(x);",
    'const char* s = "1.0 [[x]] float4(1)";',
]


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


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threadgroup_variables_of_one_statement(count: int) -> None:
    names = ", ".join(f"v{i}[N * {i + 1}]" for i in range(count))
    code = rewrite(f"void f() {{ threadgroup metal::vec<T, 4> {names}; }}")
    for i in range(count):
        assert f"typedef metal::vec<T, 4> msl_type_1_{i}[N * {i + 1}];" in code
        assert f'& v{i} = msl_threadgroup<msl_type_1_{i}>(msl_slot_1_{i}, "v{i}", __FILE__, __LINE__);' in code


def test_a_declaration_that_does_not_end_is_none() -> None:
    assert list(threadgroup_declarations(tokenize("threadgroup float x[4];"))) == [0]
    assert list(threadgroup_declarations(tokenize("threadgroup float x[4]"))) == []
