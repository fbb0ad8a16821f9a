"""Hooks of the compiler's text that are told their places, one line of text at a time."""

import pytest

from metal.simulator.places import placed

DEBUG = """
!1 = !DILocation(line: 7, column: 3, scope: !4)
!2 = distinct !DILocation(line: 9, scope: !5, inlinedAt: !3)
!3 = distinct !DILocation(line: 20, column: 1, scope: !4, inlinedAt: !1)
!4 = distinct !DISubprogram(name: "k", scope: !6, file: !6, line: 5)
!5 = distinct !DILexicalBlock(scope: !4, file: !8, line: 8)
!6 = !DIFile(filename: "k.metal", directory: "/d")
!8 = !DIFile(filename: "x.h", directory: "")
"""
LOAD = "  call void @__asan_load4_noabort(i64 %1), !dbg !1"
PLACE = "ptr @msl_place_1"


def lines(*text: str) -> list[str]:
    """What becomes of these lines."""
    return placed("\n".join(text) + "\n" + DEBUG).splitlines()[: len(text)]


@pytest.mark.parametrize(
    ("following", "hook", "align"),
    [
        ("  %2 = load float, ptr %1, align 4, !dbg !1", "load", "4"),
        ("  %2 = load <4 x float>, ptr %1, align 16", "load", "16"),
        ("  %2 = add i32 1, 2", "load", "1"),
        ("", "load", "1"),
    ],
)
def test_an_access_relies_on_the_alignment_of_what_follows(following: str, hook: str, align: str) -> None:
    assert lines(LOAD, following)[0] == f"  call void @msl_{hook}(i64 %1, i64 4, i64 {align}, {PLACE}), !dbg !1"


def test_a_hook_at_the_end_relies_on_nothing() -> None:
    last = placed(DEBUG + LOAD).split("\n\ndeclare")[0].splitlines()[-1]
    assert last == f"  call void @msl_load(i64 %1, i64 4, i64 1, {PLACE}), !dbg !1"


def test_the_line_before_the_last_relies_on_the_last() -> None:
    text = DEBUG + LOAD + "\n  %2 = load float, ptr %1, align 4"
    assert f"@msl_load(i64 %1, i64 4, i64 4, {PLACE})" in placed(text)


def test_a_component_that_is_put_into_a_vector_may_have_no_value_yet() -> None:
    load = "  %2 = load float, ptr %1, align 8"
    for use, hook in (
        ("  %3 = insertelement <4 x float> %2, float %8, i64 1", "load_part"),
        ("  %3 = insertelement <4 x float> %22, float %8, i64 1", "load"),
        ("  %3 = fadd float %2, %8", "load"),
    ):
        assert f"@msl_{hook}(i64 %1, i64 4, i64 8," in lines(LOAD, load, use)[0]


@pytest.mark.parametrize(
    ("following", "hook"),
    [
        ("  store float %2, ptr %1, align 4, !dbg !1", "store"),
        ("  store i32 1, ptr %1, align 4, !annotation !9", "fill"),
    ],
)
def test_what_fills_a_variable_without_a_value_is_told_from_a_store(following: str, hook: str) -> None:
    found = lines("  call void @__asan_store4_noabort(i64 %1), !dbg !1", following)
    assert found == [f"  call void @msl_{hook}(i64 %1, i64 4, i64 4, {PLACE}), !dbg !1", following]


def test_an_access_of_any_size_has_it_already() -> None:
    found = lines("  call void @__asan_loadN_noabort(i64 %1, i64 %2) #3, !dbg !1", "")
    assert found[0] == f"  call void @msl_load(i64 %1, i64 %2, i64 1, {PLACE}) #3, !dbg !1"


def test_accesses_of_the_program_s_own_variables_lose_their_hooks() -> None:
    own = "  call void @__asan_load8_noabort(i64 ptrtoint (ptr @count to i64)), !dbg !1"
    assert placed(f"{own}\nx\n").splitlines()[0] == "x"


@pytest.mark.parametrize("name", ["memcpy", "memmove", "memset"])
def test_moves_of_memory_are_told_their_places(name: str) -> None:
    found = lines(f"  %5 = call ptr @__asan_{name}(ptr %1, ptr %2, i64 12), !dbg !1")
    assert found == [f"  %5 = call ptr @msl_{name}(ptr %1, ptr %2, i64 12, {PLACE}), !dbg !1"]


@pytest.mark.parametrize(
    ("kind", "pattern", "hook"),
    [("[4 x float]", 255, "vacate"), ("[4 x half]", 255, "vacate"), ("double", 255, "vacate"),
     ("[4 x float]", 170, "memset"), ("[4 x i32]", 170, "vacate"), ("[4 x i32]", 255, "memset"), ("i32", 0, "memset")],
)  # fmt: skip
def test_the_pattern_of_a_variable_without_a_value_is_that_of_its_type(kind: str, pattern: int, hook: str) -> None:
    local = f"  %x.1 = alloca {kind}, align 16, !dbg !1"
    fill = f"  %5 = call ptr @__asan_memset(ptr %x.1, i32 {pattern}, i64 16), !dbg !1"
    found = lines("define void @f() {", local, fill)
    assert found[:2] == ["define void @f() {", local]
    assert found[2] == f"  %5 = call ptr @msl_{hook}(ptr %x.1, i32 {pattern}, i64 16, {PLACE}), !dbg !1"
    other = lines("define void @f() {", local, "define void @g() {", fill)
    assert "@msl_memset(" in other[3]  # a variable of another function


def test_components_of_a_vector_of_bool_can_be_read_back() -> None:
    chosen = placed("x\n  %3 = select i8 %1, i1 %2, i1 0\n").splitlines()
    assert chosen[:3] == ["x", "  %msl_bit_1 = trunc i8 %1 to i1", "  %3 = select i1 %msl_bit_1, i1 %2, i1 0"]
    one = placed("  %4 = insertelement <2 x i1> poison, i8 %3, i64 0\nx\n").splitlines()
    assert one[:3] == [
        "  %msl_bit_0 = trunc i8 %3 to i1",
        "  %4 = insertelement <2 x i1> poison, i1 %msl_bit_0, i64 0",
        "x",
    ]
    phi = "  %5 = phi <2 x i1> [ <i8 0, i8 1>, %a ], [ %4, %b ]"
    assert placed(phi).splitlines()[0] == "  %5 = phi <2 x i1> [ <i1 false, i1 true>, %a ], [ %4, %b ]"


def test_a_place_names_its_file_its_line_and_its_callers() -> None:
    text = placed("\n".join(LOAD.replace("!1", f"!{i}") for i in (1, 2, 1)) + DEBUG)
    kind = "private unnamed_addr constant { ptr, ptr, i32, i32 }"
    for constant in (
        f"@msl_place_1 = {kind} {{ ptr @msl_text_0, ptr @msl_text_1, i32 7, i32 0 }}",
        f"@msl_place_2 = {kind} {{ ptr @msl_text_2, ptr @msl_text_3, i32 9, i32 0 }}",
        '@msl_text_0 = private unnamed_addr constant [8 x i8] c"k.metal\\00"',
        '@msl_text_1 = private unnamed_addr constant [1 x i8] c"\\00"',
        '@msl_text_2 = private unnamed_addr constant [4 x i8] c"x.h\\00"',
        '@msl_text_3 = private unnamed_addr constant [23 x i8] c"k.metal:20 < k.metal:7\\00"',
    ):
        assert text.splitlines().count(constant) == 1
    assert "declare void @msl_load(i64, i64, i64, ptr)" in text.splitlines()
