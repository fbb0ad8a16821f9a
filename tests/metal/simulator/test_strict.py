"""The strict gate refuses what Metal's compiler would, names the line, and lets correct kernels through."""

import re

import pytest

from likely.metal import mx
from likely.metal.simulator import SimKernel
from likely.metal.simulator.strict import StrictError, verify
from tests.metal.build import launched
from tests.support.everyday import everyday

KERNEL = """{header}kernel void f(const device float* a, device float* b, constant int& n, device bfloat* c,
                            uint i [[thread_position_in_grid]]) {{
  threadgroup float s[4];
  {body}
}}
"""

# (what is wrong, text before the kernel, text in it); the first that has a `// here` is where the message points.
REFUSED = {
    "device pointer to a pointer of the lane": ("", "thread const float* p = a;  // here"),
    "device pointer without a space": ("", "const float* p = a;  // here"),
    "threadgroup pointer to a device pointer": ("", "device float* p = s;  // here"),
    "pointer to constant memory as a device pointer": ("", "const device int* p = &n;  // here"),
    "cast that changes the space": ("", "b[0] = ((thread float*)a)[0];  // here"),
    "write through const": ("", "a[0] = 1;  // here"),
    "double": ("", "double x = a[0]; b[0] = x;  // here"),
    "long double": ("", "long double x = 1;  // here"),
    "parameter that is a pointer without a space": ("float g(const float* x) { return x[0]; }  // here\n", ""),
    "parameter that is a reference without a space": ("void g(float& x) { x = 1; }  // here\n", ""),
    "the same in a template": ("template <typename T>\nT g(const T* x) { return x[0]; }  // here\n", ""),
    "a function that calls itself": (
        "float g(float x) {  // here\n  return x > 1 ? g(x - 1) : x;\n}\n",
        "b[0] = g(a[0]);",
    ),
    "functions that call each other": (
        "float h(float x);\nfloat g(float x) { return x > 1 ? h(x - 1) : x; }  // here\n"
        "float h(float x) { return g(x) + 1; }\n",
        "b[0] = g(a[0]);",
    ),
    "float to bfloat": ("", "c[0] = a[0];  // here"),
    "half and bfloat": ("", "b[0] = c[0] + half(a[0]);  // here"),
    "half to bfloat": ("", "half h = half(a[0]); c[0] = h;  // here"),
    "max of a float and an int": ("", "b[0] = max(a[0], 0);  // here"),
    "float4 and half4": ("", "float4 v = float4(1) + half4(2);  // here"),
    "int4 to float4": ("", "int4 v = int4(1); float4 w = v;  // here"),
    "three components for a float4": ("", "float4 v = float4(1, 2, 3);"),
    "method of the lane on a device object": (
        "struct A { float x; float get() { return x; } };\n",
        "b[0] = ((device A*)b)->get();  // here",
    ),
    "virtual function": ("struct A {\n  virtual void f();  // here\n};\n", ""),
    "static variable": ("", "static int z; z++;  // here"),
    "variable of the program": ("float g = 1;  // here\n", ""),
    "pointer to a function": ("float g(float x) { return x; }\n", "float (*p)(float) = g;  // here"),
    "new": ("", "thread int* p = new int;  // here"),
    "throw": ("", "throw 1;  // here"),
    "goto": ("", "goto end; end: return;  // here"),
    "the standard library": ("", "std::vector<int> v;  // here"),
    "array of a size that is not constant": ("", "float v[n];  // here"),
    "a variable read before it has a value": ("", "float v; b[0] = v;  // here"),
    "a variable that has a value on one way only": ("", "float v; if (n > 1) { v = 1; }  // here\n b[0] = v;"),
    "a threadgroup variable in a function": (
        "float g(float x) {\n  threadgroup float t[4];  // here\n  t[0] = x; return t[0];\n}\n",
        "b[0] = g(a[0]);",
    ),
    "a lambda": ("", "auto twice = [&](float x) { return x * 2 + n; };  // here\n b[i] = twice(a[i]);"),
    "a limit that Metal does not promise": ("", "b[0] = INT_MAX;  // here"),
}


# Every line that ends in `// here` is refused, and no other.
ALL = """#line 7 "g.h"
template <typename T> T one(T* x) { return x[0]; }  // here
struct P { float a; float get(thread int& x) const { return a; } };
struct kernel_like {};
void f(int* a, const device float& b) {}  // here
void g() { threadgroup float s[4]; }  // here
auto h(int& a) -> int { return a; }  // here
T get(int& a) const { return 1; }  // here
void p(int (*q)(float)); int my_goto, a_double; // goto
#line 40
threadgroup float s;  // here
kernel void k(device float* a [[buffer(0)]], constant T &n [[ buffer(9) ]]) {
  threadgroup float t[4];
  a[0] = a[1] + f(a * b) + g(&c) + vec<int, 2>[4];
  if (a * b) { }
  for (; a & b;) { } while (a * b) { } switch (a * b) { }
  return (a * b) ; decltype(a * b) { }
  auto l = [&](float x) { return x; };  // here
  l(
    [] { return 1; });  // here
  dynamic_cast<int>(x); typeid(x);  // here
  register int r; asm("");  // here
  try { } catch (...) { }  // here
  thread_local int z; double y; goto end;  // here
}
[[kernel]] void k2(device int* a) { threadgroup float t; return [x](int y) { return y; }; }  // here
#line 2 "h.h"
goto e;  // here
"""


def test_all_that_is_no_part_of_metal_is_told_by_its_file_and_line() -> None:
    with pytest.raises(StrictError) as caught:
        verify(ALL, "k", "f.metal")
    rule = r"^(\w\.h):(\d+): ('.*' is no part of Metal|a threadgroup variable|a lambda|parameter .* names no address)"
    told = {(m[1], int(m[2])) for m in re.finditer(rule, str(caught.value), re.MULTILINE)}
    file, number, want = "", 0, set()
    for line in ALL.splitlines():
        if match := re.match(r'#line (\d+)(?: "(.*)")?', line):
            file, number = match[2] or file, int(match[1])
            continue
        want |= {(file, number)} if line.endswith("// here") else set()
        number += 1
    assert told == want


@pytest.mark.parametrize("name", everyday(REFUSED, 3))
def test_refused(name: str) -> None:
    header, body = REFUSED[name]
    text = KERNEL.format(header=header, body=body)
    with pytest.raises(StrictError) as caught:
        verify(text, "f", "f.metal")
    lines = {int(n) for n in re.findall(r"^f\.metal:(\d+)", str(caught.value), re.MULTILINE)}
    marked = [n for n, line in enumerate(text.splitlines(), 1) if "// here" in line]
    assert not marked or marked[0] in lines, caught.value


PASSED = {
    "spaces said": (
        "template <typename T>\nT g(const device T* p, thread T& x, threadgroup T* s) { return s[0] + (x += p[0]); }\n",
        "float y = 1; b[i] = g(a, y, s);",
    ),
    "bfloat by a cast, and back by itself": ("", "c[i] = bfloat(a[i] * 2); float y = c[i]; b[i] = y * c[i];"),
    "vectors": ("", "float4 v = *(const device float4*)a; half4 h = half4(v.wzyx * 2); b[i] = dot(v, float4(h));"),
    "structs, copied and returned": (
        "struct S { float m, l; };\nS merge(S x, S y) { S z; z.m = max(x.m, y.m); z.l = x.l + y.l; return z; }\n",
        "S x = {a[0], 1}; S y = x; x = merge(x, y); x = S{1, 2}; b[i] = x.m;",
    ),
    "a struct with a constructor": (
        "struct S {\n  float m;\n  S(float x) : m(x) {}\n  float twice() const { return m * 2; }\n};\n",
        "S x(a[0]); x = S(3); b[i] = x.twice() + S(2).twice();",
    ),
    "a struct in constant memory": (
        "struct P { int t; float scale; };\n",
        "constant P* p = (constant P*)&n; b[i] = p->scale;",
    ),
    "recursion of templates": (
        "template <int n>\nfloat power(float x) { if constexpr (n == 0) return 1; else return x * power<n - 1>(x); }\n",
        "b[i] = power<5>(a[i]);",
    ),
    "overloads that call each other": (
        "float g(float x, float y) { return x + y; }\nfloat g(float x) { return g(x, 1); }\n",
        "b[i] = g(a[i]);",
    ),
    "a table in constant memory": ("constant float table[4] = {1, 2, 3, 4};\n", "b[i] = table[i % 4];"),
    "matrices": (
        "#include <metal_simdgroup_matrix>\n",
        "simdgroup_float8x8 p, q, r = make_filled_simdgroup_matrix<float, 8, 8>(0.0); simdgroup_load(p, a, 8);"
        " simdgroup_load(q, s, 2); simdgroup_multiply_accumulate(r, p, q, r); simdgroup_store(r, b, 8);",
    ),
    "atomics": (
        "",
        "threadgroup atomic_uint t; atomic_store_explicit(&t, 0u, memory_order_relaxed);"
        " auto d = (device atomic<float>*)b; atomic_fetch_add_explicit(d, 1.0f, memory_order_relaxed);",
    ),
    "votes": ("", "ulong m = ulong(simd_ballot(a[i] > 0)); b[i] = popcount(uint(m)) + (simd_any(a[i] > 0) ? 1 : 0);"),
    "loops unrolled": ("", "#pragma clang loop unroll(full)\n  for (int j = 0; j < 4; j++) b[j] = s[j];"),
}


@pytest.mark.parametrize("name", PASSED)
def test_passed(name: str) -> None:
    header, body = PASSED[name]
    verify(KERNEL.format(header=header, body=body), "f", "f.metal")


def test_a_checked_kernel_goes_through_the_gate() -> None:
    kernel = SimKernel("gate", ["a"], ["out"], "const float* p = a; out[0] = p[0];", checked=True)
    with pytest.raises(StrictError, match=r"^gate\.metal:\d+:\d+: error: cannot initialize"):
        launched(kernel, mx.ones(8), size=1)
