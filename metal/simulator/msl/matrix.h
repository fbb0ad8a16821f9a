// simdgroup_matrix: 8x8, two neighbouring elements of a row in each lane. Which two is not written in the
// specification; the layout here is the one that MLX's kernels (steel/attn/mma.h, get_coord) rely on. Products
// accumulate in float, rounded once.
#pragma once
#include "simd.h"

namespace metal {

template <class T, int Rows, int Columns>
struct simdgroup_matrix {
  static_assert(Rows == 8 && Columns == 8, "simdgroup_matrix is 8x8");
  vec<T, 2> elements;
#ifdef MSL_STRICT
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T diagonal);
  MSL_THREAD vec<T, 2>& thread_elements() MSL_THREAD;
#else
  // Written by halves, so not left vacant.
  MSL_INLINE simdgroup_matrix() : elements(vec<T, 2>(T(__builtin_nanf("")))) {}
  explicit simdgroup_matrix(T diagonal) {
    int row, column;
    place(row, column);
    elements[0] = row == column ? diagonal : T(0);
    elements[1] = row == column + 1 ? diagonal : T(0);
  }
  vec<T, 2>& thread_elements() { return elements; }
  const vec<T, 2>& thread_elements() const { return elements; }
  static MSL_INLINE void place(int& row, int& column) { place(msl_lane_index(), row, column); }
  static MSL_INLINE void place(int lane, int& row, int& column) {
    const int quad = lane / 4;
    row = (quad & 4) + (lane / 2) % 4;
    column = (quad & 2) * 2 + (lane % 2) * 2;
  }
#endif
};

typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

#ifdef MSL_STRICT
template <class T, int R, int C>
simdgroup_matrix<T, R, C> make_filled_simdgroup_matrix(T value);
#define MSL_MATRIX_MEMORY(space)                                                                                       \
  template <class T>                                                                                                   \
  void simdgroup_load(MSL_THREAD simdgroup_matrix<T, 8, 8>& d, const space T* from, ulong row = 8,                     \
                      ulong2 origin = 0, bool t = false);                                                              \
  template <class T>                                                                                                   \
  void simdgroup_store(MSL_THREAD const simdgroup_matrix<T, 8, 8>& a, space T* to, ulong row = 8,                      \
                       ulong2 origin = 0, bool t = false);
MSL_MATRIX_MEMORY(MSL_DEVICE)
MSL_MATRIX_MEMORY(MSL_THREADGROUP)
template <class D, class A, class B>
void simdgroup_multiply(MSL_THREAD simdgroup_matrix<D, 8, 8>& d, MSL_THREAD simdgroup_matrix<A, 8, 8>& a,
                        MSL_THREAD simdgroup_matrix<B, 8, 8>& b);
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(MSL_THREAD simdgroup_matrix<D, 8, 8>& d, MSL_THREAD simdgroup_matrix<A, 8, 8>& a,
                                   MSL_THREAD simdgroup_matrix<B, 8, 8>& b, MSL_THREAD simdgroup_matrix<C, 8, 8>& c);
#else
template <class T, int R, int C>
MSL_INLINE simdgroup_matrix<T, R, C> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, R, C> m;
  m.elements = vec<T, 2>(value);
  return m;
}

template <class T>
MSL_INLINE const T* msl_element(const T* base, ulong row_length, ulong2 origin, bool transpose, int row, int column) {
  const ulong y = origin.y + (transpose ? column : row), x = origin.x + (transpose ? row : column);
  return base + y * row_length + x;
}
template <class T>
MSL_INLINE void simdgroup_load(simdgroup_matrix<T, 8, 8>& d, const T* from, ulong row_length = 8, ulong2 origin = 0,
                               bool transpose = false) {
  int row, column;
  d.place(row, column);
  for (int i = 0; i < 2; i++) d.elements[i] = *msl_element(from, row_length, origin, transpose, row, column + i);
}
template <class T>
MSL_INLINE void simdgroup_store(const simdgroup_matrix<T, 8, 8>& a, T* to, ulong row_length = 8, ulong2 origin = 0,
                                bool transpose = false) {
  int row, column;
  a.place(row, column);
  for (int i = 0; i < 2; i++) *(T*)msl_element(to, row_length, origin, transpose, row, column + i) = a.elements[i];
}

template <class D, class A, class B, class C>
struct msl_product { vec<A, 2> a; vec<B, 2> b; vec<C, 2> c; vec<D, 2> d; };
template <class D, class A, class B, class C>
MSL_UNTRACED void msl_multiply(void* const* payload, msl_u32 mask) {
  typedef msl_product<D, A, B, C> P;
  float a[8][8] = {}, b[8][8] = {};
  for (int lane = 0; lane < 32; lane++) {
    if (!((mask >> lane) & 1)) continue;
    const P& p = *(const P*)payload[lane];
    int row, column;
    simdgroup_float8x8::place(lane, row, column);
    for (int i = 0; i < 2; i++) {
      a[row][column + i] = float(p.a[i]);
      b[row][column + i] = float(p.b[i]);
    }
  }
  for (int lane = 0; lane < 32; lane++) {
    if (!((mask >> lane) & 1)) continue;
    P& p = *(P*)payload[lane];
    int row, column;
    simdgroup_float8x8::place(lane, row, column);
    for (int i = 0; i < 2; i++) {
      float sum = float(p.c[i]);
      for (int k = 0; k < 8; k++) sum = __builtin_fmaf(a[row][k], b[k][column + i], sum);
      p.d[i] = D(sum);
    }
  }
}
template <class D, class A, class B, class C>
MSL_INLINE void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                              const simdgroup_matrix<B, 8, 8>& b,
                                               const simdgroup_matrix<C, 8, 8>& c MSL_AT) {
  msl_product<D, A, B, C> p = {a.elements, b.elements, c.elements, vec<D, 2>(D(0))};
  msl_collective(site, MSL_MATRIX, &p, msl_multiply<D, A, B, C>);
  d.elements = p.d;
}
template <class D, class A, class B>
MSL_INLINE void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                   const simdgroup_matrix<B, 8, 8>& b MSL_AT) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0)), site);
}
template <class T>
MSL_INLINE simdgroup_matrix<T, 8, 8> operator*(const simdgroup_matrix<T, 8, 8>& a, const simdgroup_matrix<T, 8, 8>& b) {
  simdgroup_matrix<T, 8, 8> d;
  simdgroup_multiply(d, a, b);
  return d;
}
#endif

}  // namespace metal
