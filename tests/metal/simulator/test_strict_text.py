"""What the strict gate reads in a text by itself, and in what a compiler says of it; no compiler runs."""

from pathlib import Path
from typing import Any

import pytest

from metal.simulator import compiler, strict
from metal.simulator.strict import StrictError


def found(source: str, label: str = "f.metal") -> list[str]:
    return list(strict._unwelcome(source, label))


@pytest.mark.parametrize(
    "word", ["goto", "dynamic_cast", "typeid", "thread_local", "register", "asm", "try", "catch", "double"]
)
def test_words_that_metal_lacks_are_named_by_line(word: str) -> None:
    assert found(f"a;\n\n{word} x;") == [f"f.metal:3: {word!r} is no part of Metal"]
    assert found(f"my_{word} x; // {word}") == []


def test_line_directives_say_which_line_of_which_file_it_is() -> None:
    source = 'goto a;\n#line 7 "g.h"\nx; goto b;\n\ngoto c;\n#line 40\ngoto d;\n#line 2 "h.h"\ngoto e;'
    lines = ["f.metal:1", "g.h:7", "g.h:9", "g.h:40", "h.h:2"]
    assert found(source) == [f"{line}: 'goto' is no part of Metal" for line in lines]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("kernel void k() {\n threadgroup float s[4];\n}", []),
        ("void f() {\n threadgroup float s[4];\n}", [2]),
        ("threadgroup float s;\nkernel void k() { threadgroup float t; }", [1]),
        ("kernel void k() { if (x) { threadgroup float t; } }\nvoid f() { threadgroup int u; }", [2]),
        ("void f(){threadgroup int u;} kernel void k(){threadgroup int u;}", [1]),
        ("struct kernel_like {};\nvoid f() { threadgroup int u; }", [2]),
        ("[[kernel]] void k(device int* a) { threadgroup float t; }", []),
    ],
)
def test_threadgroup_variables_stand_in_kernels_alone(source: str, lines: list[int]) -> None:
    assert found(source) == [f"f.metal:{n}: a threadgroup variable outside of a kernel" for n in lines]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("auto f = [&](float x) { return x; };", [1]),
        ("g(\n[] { return 1; });", [2]),
        ("kernel void k() { return [x](int y) { return y; }; }", [1]),
        ("a[0] = b[1][2] + f(x)[3] + vec<int, 2>[4];", []),
        ("[x]", []),
        ("device int* a [[buffer(0)]];", []),
    ],
)
def test_a_bracket_where_an_expression_begins_is_a_lambda(source: str, lines: list[int]) -> None:
    text = "a lambda, which Metal has from 3.2 on"
    assert [line for line in found(source) if "lambda" in line] == [f"f.metal:{n}: {text}" for n in lines]


@pytest.mark.parametrize(
    ("source", "parameters"),
    [
        ("void f(device int* a, constant T& b, threadgroup float* c, thread int& d) {}", []),
        ("void f(int* a, const  float&\n b) {}", ["int* a", "const float& b"]),
        ("void f(int a, float b) {}", []),
        ("void f(int* a);", []),
        ("x = f(a * b) + g(&c);", []),
        ("if (a * b) { }", []),
        ("for (; a & b;) { } while (a * b) { } switch (a * b) { }", []),
        ("return (a * b) ; decltype(a * b) { }", []),
        ("T get(int& a) const { return 1; }", ["int& a"]),
        ("T get(int& a) thread const noexcept { return 1; }", ["int& a"]),
        ("auto f(int& a) -> int { return a; }", ["int& a"]),
        ("void f(int (*p)(float)) {}", []),
        ("void f(*) {}", []),
        ("A(int& a) : b(a) { }", []),
    ],
)  # fmt: skip
def test_a_parameter_that_points_says_into_which_space(source: str, parameters: list[str]) -> None:
    want = [f"f.metal:1: parameter {text!r} names no address space" for text in parameters]
    assert found(source) == want


NOTE = "f.metal:1: note: candidate (the implicit copy constructor) not viable"


@pytest.mark.parametrize(
    ("diagnostics", "kept"),
    [
        ([], []),
        (["f:1: error: a", "f:1: note: b"], ["f:1: error: a"]),
        (["f:1: warning: a", "f:2: error: b"], ["f:2: error: b"]),
        (["fatal error: a"], ["fatal error: a"]),
        (["note: before", "f:1: error: a"], ["f:1: error: a"]),
        (["f:1: error: a", NOTE, "f:2: error: b"], ["f:2: error: b"]),
        (["f:1: error: 'this' object is in default address space, but"], []),
        (["f:1: error: cannot be used to construct an object in address space unqualified"], []),
        (["f:1: error: x", "note: object parameter of type 'A' with an expression of type 'B'"], []),
        (["f:1: error: x", "note: object parameter of type 'A' with an expression of type '__global B'"],
         ["f:1: error: x"]),
    ],
)  # fmt: skip
def test_errors_of_clang_s_own_limits_are_none(diagnostics: list[str], kept: list[str]) -> None:
    assert strict._errors(diagnostics) == kept


CODE = """
define void @f(i32 %0) !dbg !4 {
  call void @g(i32 1)
}
define void @"g.x"() { }
define i32 @g(i32 %0) #1 !dbg !5 {
  %2 = call i32 @h(i32 %0), !dbg !9
}
define i32 @h() !dbg !6 {
  %1 = tail call fast float @"g"(i32 2)
  call void @outside()
}
define void @own() {
  call void @own()
}
!4 = distinct !DISubprogram(name: "f", file: !7, line: 3)
!5 = distinct !DISubprogram(name: "g", file: !7, line: 12, type: !1)
!6 = distinct !DISubprogram(name: "h", scope: !8)
!7 = !DIFile(filename: "k.metal", directory: "/")
"""


def test_a_function_that_reaches_itself_is_found_by_its_place() -> None:
    said = ": recursion: a function calls itself"
    assert strict._recursion(CODE) == [f"k.metal:12{said}", f"?:?{said}", f"?{said}"]
    assert strict._recursion("define void @f() {\n call void @g()\n}\ndefine void @g() {\n}\n") == []
    assert strict._recursion("call void @g()\n") == []


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the type check says, by its extensions, and what it was given."""
    said: dict[str, Any] = {"texts": [], "said": {}, "code": ""}

    def typecheck(text: str, extensions: str) -> tuple[str, list[str]]:
        said["texts"].append((text, extensions))
        return said["code"], said["said"].get("generic" in extensions, [])

    monkeypatch.setattr(compiler, "typecheck", typecheck)
    monkeypatch.setattr(compiler, "remembered", lambda *text: tmp_path / "good")
    return said


def test_a_kernel_is_checked_with_a_generic_space_and_without(told: dict[str, Any], tmp_path: Path) -> None:
    strict.verify("kernel void k() {}", "k<float>", "f.metal")
    (one, wide), (two, narrow) = told["texts"]
    assert (wide, narrow) == ("+cl_khr_fp16,+__opencl_c_generic_address_space", "+cl_khr_fp16") and one == two
    assert one == '#line 1 "f.metal"\nkernel void k() {}\n#line 1 "entry"\ntemplate decltype(k<float>) k<float>;\n'
    assert (tmp_path / "good").exists()
    strict.verify("goto x;", "k", "f.metal")  # which was found good before
    assert len(told["texts"]) == 2
    (tmp_path / "good").unlink()
    strict.verify("kernel void k() {}", "k", "f.metal")
    assert told["texts"][-1][0].endswith('#line 1 "entry"\n')


@pytest.mark.parametrize(
    ("source", "said", "lines"),
    [
        ("goto x;", {}, ["f.metal:1: 'goto' is no part of Metal"]),
        ("", {True: ["a: error: one"], False: ["a: error: two"]}, ["a: error: one"]),
        ("", {False: ["a: error: two"]}, ["a: error: two"]),
        ("", {True: ["a: warning: other"]}, []),
        ("", {True: ["a: warning: 'float' to 'bfloat'"]}, ["a: warning: 'float' to 'bfloat'"]),
        ("", {True: ["a: warning: 'bfloat4' to 'half'"]}, ["a: warning: 'bfloat4' to 'half'"]),
        ("", {True: ["a: warning: 'half' to 'float'"]}, []),
        ("goto x;", {True: ["a: error: one"]}, ["f.metal:1: 'goto' is no part of Metal", "a: error: one"]),
    ],
)
def test_all_that_is_found_is_told(
    source: str, said: dict[bool, list[str]], lines: list[str], told: dict[str, Any], tmp_path: Path
) -> None:
    told["said"] = said
    if not lines:
        strict.verify(source, "k", "f.metal")
        assert (tmp_path / "good").exists()
        return
    with pytest.raises(StrictError) as caught:
        strict.verify(source, "k", "f.metal")
    assert str(caught.value).splitlines() == lines and not (tmp_path / "good").exists()


def test_recursion_is_told_too(told: dict[str, Any]) -> None:
    told["code"] = "define void @f() {\n  call void @f()\n}\n"
    with pytest.raises(StrictError, match=r"^\?: recursion: a function calls itself$"):
        strict.verify("", "f", "f.metal")
