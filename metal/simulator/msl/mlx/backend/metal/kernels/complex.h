// Stands for MLX's header of this name, whose constructors exist once for each address space. Enough for its other
// headers; no kernel here computes with complex numbers.
#pragma once

using namespace metal;

template <typename T>
struct complex_t {
  T real, imag;
  complex_t() = default;
  constexpr complex_t(T r, T i = T(0)) : real(r), imag(i) {}
  explicit constexpr operator T() const { return real; }
};
typedef complex_t<half> complex32_t;
typedef complex_t<float> complex64_t;
template <typename T>
static constexpr constant bool is_complex_v = false;
template <typename T>
static constexpr constant bool is_complex_v<complex_t<T>> = true;
template <typename T>
constexpr complex_t<T> operator+(complex_t<T> a, complex_t<T> b) {
  return {a.real + b.real, a.imag + b.imag};
}
template <typename T>
constexpr complex_t<T> operator-(complex_t<T> a, complex_t<T> b) {
  return {a.real - b.real, a.imag - b.imag};
}
template <typename T>
constexpr complex_t<T> operator*(complex_t<T> a, complex_t<T> b) {
  return {a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real};
}
