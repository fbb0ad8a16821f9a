// The Metal math library: one template a name, over scalars and vectors of one floating type. `fast` and `precise` are
// the same functions here: both more exact than a GPU's. bfloat overloads stand for those that MLX's preamble adds.
#pragma once
#include "types.h"

#ifdef MSL_CHECKED
extern "C" __attribute__((visibility("hidden"))) unsigned long msl_exponentials;
#define MSL_COUNT_EXP(n) (msl_exponentials += (n))
#else
#define MSL_COUNT_EXP(n) ((void)0)
#endif

namespace metal {

template <class T>
using if_floating = enable_if_t<is_floating_point_v<element_t<T>>, T>;
template <class T>
using if_integral = enable_if_t<is_integral_v<element_t<T>>, T>;

// Computed in float for the 16-bit types, rounded once at the end.
template <class T>
struct wide { typedef float type; };
template <class T, int N>
struct wide<vec<T, N>> { typedef vec<float, N> type; };
template <class T>
using wide_t = typename wide<T>::type;
template <class To, class From>
MSL_INLINE constexpr To msl_cast(From x) {
  if constexpr (is_same_v<To, From>) return x;
  else if constexpr (count_v<From> == 1) return To(x);
  else return __builtin_convertvector(x, To);
}

#define MSL_UNARY(name, builtin) \
  template <class T>             \
  MSL_INLINE if_floating<T> name(T x) { return msl_cast<T>(builtin(msl_cast<wide_t<T>>(x))); }
#define MSL_EXPONENTIAL(name, builtin)  \
  template <class T>                    \
  MSL_INLINE if_floating<T> name(T x) { \
    MSL_COUNT_EXP(count_v<T>);          \
    return msl_cast<T>(builtin(msl_cast<wide_t<T>>(x))); \
  }
#define MSL_BINARY(name, builtin) \
  template <class T>              \
  MSL_INLINE if_floating<T> name(T x, T y) { \
    return msl_cast<T>(builtin(msl_cast<wide_t<T>>(x), msl_cast<wide_t<T>>(y))); \
  }

MSL_EXPONENTIAL(exp, __builtin_elementwise_exp)
MSL_EXPONENTIAL(exp2, __builtin_elementwise_exp2)
MSL_UNARY(log, __builtin_elementwise_log)
MSL_UNARY(log2, __builtin_elementwise_log2)
MSL_UNARY(log10, __builtin_elementwise_log10)
MSL_UNARY(sqrt, __builtin_elementwise_sqrt)
MSL_UNARY(sin, __builtin_elementwise_sin)
MSL_UNARY(cos, __builtin_elementwise_cos)
MSL_UNARY(floor, __builtin_elementwise_floor)
MSL_UNARY(ceil, __builtin_elementwise_ceil)
MSL_UNARY(trunc, __builtin_elementwise_trunc)
MSL_UNARY(round, __builtin_elementwise_round)
MSL_UNARY(rint, __builtin_elementwise_rint)
MSL_UNARY(fabs, __builtin_elementwise_abs)
MSL_BINARY(pow, __builtin_elementwise_pow)
MSL_BINARY(powr, __builtin_elementwise_pow)
MSL_BINARY(copysign, __builtin_elementwise_copysign)
MSL_BINARY(fmax, __builtin_elementwise_max)
MSL_BINARY(fmin, __builtin_elementwise_min)

template <class T>
MSL_INLINE if_floating<T> rsqrt(T x) { return msl_cast<T>(1.0f / __builtin_elementwise_sqrt(msl_cast<wide_t<T>>(x))); }
template <class T>
MSL_INLINE if_floating<T> fract(T x) { return x - floor(x); }
template <class T>
MSL_INLINE if_floating<T> divide(T x, T y) { return x / y; }
// One rounding in the type itself: float16 products are exact in float, so a float fma rounded to half is right to the
// last bit but for ties.
template <class T>
MSL_INLINE if_floating<T> fma(T a, T b, T c) {
  return msl_cast<T>(__builtin_elementwise_fma(msl_cast<wide_t<T>>(a), msl_cast<wide_t<T>>(b), msl_cast<wide_t<T>>(c)));
}

// Those that older clangs have for single numbers only.
#define MSL_EACH(name, before)                                  \
  template <class T>                                            \
  MSL_INLINE if_floating<T> name(T x) {                         \
    if constexpr (count_v<T> == 1) {                            \
      before;                                                   \
      return T(__builtin_##name##f(float(x)));                  \
    } else {                                                    \
      for (int i = 0; i < count_v<T>; i++) x[i] = name(x[i]);   \
      return x;                                                 \
    }                                                           \
  }
#define MSL_EACH_OF_TWO(name)                                       \
  template <class T>                                                \
  MSL_INLINE if_floating<T> name(T x, T y) {                        \
    if constexpr (count_v<T> == 1) {                                \
      return T(__builtin_##name##f(float(x), float(y)));            \
    } else {                                                        \
      for (int i = 0; i < count_v<T>; i++) x[i] = name(x[i], y[i]); \
      return x;                                                     \
    }                                                               \
  }
MSL_EACH(exp10, MSL_COUNT_EXP(1))
MSL_EACH(tan, )
MSL_EACH(asin, )
MSL_EACH(acos, )
MSL_EACH(atan, )
MSL_EACH(sinh, )
MSL_EACH(cosh, )
MSL_EACH(tanh, )
MSL_EACH(asinh, )
MSL_EACH(acosh, )
MSL_EACH(atanh, )
MSL_EACH_OF_TWO(atan2)
MSL_EACH_OF_TWO(fmod)

// ---- comparison and choice ----
template <class T>
MSL_INLINE T max(T a, T b) {
  if constexpr (is_integral_v<element_t<T>>) return __builtin_elementwise_max(a, b);
  else return fmax(a, b);
}
template <class T>
MSL_INLINE T min(T a, T b) {
  if constexpr (is_integral_v<element_t<T>>) return __builtin_elementwise_min(a, b);
  else return fmin(a, b);
}
template <class T>
MSL_INLINE enable_if_t<(count_v<T> > 1), T> max(T a, element_t<T> b) { return max(a, T(b)); }
template <class T>
MSL_INLINE enable_if_t<(count_v<T> > 1), T> min(T a, element_t<T> b) { return min(a, T(b)); }
template <class T>
MSL_INLINE T max3(T a, T b, T c) { return max(max(a, b), c); }
template <class T>
MSL_INLINE T min3(T a, T b, T c) { return min(min(a, b), c); }
template <class T>
MSL_INLINE T median3(T a, T b, T c) { return max(min(a, b), min(max(a, b), c)); }
template <class T>
MSL_INLINE T clamp(T x, T low, T high) { return min(max(x, low), high); }
template <class T>
MSL_INLINE enable_if_t<(count_v<T> > 1), T> clamp(T x, element_t<T> low, element_t<T> high) {
  return min(max(x, T(low)), T(high));
}
template <class T>
MSL_INLINE if_floating<T> saturate(T x) { return clamp(x, T(element_t<T>(0)), T(element_t<T>(1))); }
template <class T>
MSL_INLINE if_floating<T> mix(T a, T b, T t) { return a + (b - a) * t; }
template <class T>
MSL_INLINE if_floating<T> sign(T x) {
  if constexpr (count_v<T> == 1) return x > T(0) ? T(1) : x < T(0) ? T(-1) : T(0);
  else { T r = x; for (int i = 0; i < count_v<T>; i++) r[i] = sign(x[i]); return r; }
}
template <class T>
MSL_INLINE T abs(T x) {
  if constexpr (is_floating_point_v<element_t<T>>) return fabs(x);
  else if constexpr (__is_unsigned(element_t<T>)) return x;
  else return __builtin_elementwise_abs(x);
}
// select(a, b, c) is c ? b : a.
template <class T>
MSL_INLINE enable_if_t<count_v<T> == 1, T> select(T a, T b, bool c) { return c ? b : a; }
template <class T, class C>
MSL_INLINE enable_if_t<(count_v<T> > 1 && count_v<C> == count_v<T>), T> select(T a, T b, C c) {
  for (int i = 0; i < count_v<T>; i++) a[i] = c[i] ? b[i] : a[i];
  return a;
}
template <class T>
MSL_INLINE T step(T edge, T x) { return select(T(element_t<T>(1)), T(element_t<T>(0)), x < edge); }
template <class C>
MSL_INLINE bool any(C c) {
  if constexpr (count_v<C> == 1) return bool(c);
  else { bool r = false; for (int i = 0; i < count_v<C>; i++) r = r || c[i]; return r; }
}
template <class C>
MSL_INLINE bool all(C c) {
  if constexpr (count_v<C> == 1) return bool(c);
  else { bool r = true; for (int i = 0; i < count_v<C>; i++) r = r && c[i]; return r; }
}
template <class T>
MSL_INLINE auto isnan(T x) { return x != x; }
template <class T>
MSL_INLINE auto isinf(T x) { return fabs(x) == T(numeric_limits<element_t<T>>::infinity()); }
template <class T>
MSL_INLINE auto isfinite(T x) { return fabs(x) < T(numeric_limits<element_t<T>>::infinity()); }
template <class T>
MSL_INLINE bool signbit(T x) { return __builtin_signbit(float(x)); }

// ---- geometry ----
template <class T>
MSL_INLINE element_t<T> dot(T a, T b) {
  element_t<T> s = a[0] * b[0];
  for (int i = 1; i < count_v<T>; i++) s += a[i] * b[i];
  return s;
}
template <class T>
MSL_INLINE element_t<T> length_squared(T a) { return dot(a, a); }
template <class T>
MSL_INLINE element_t<T> length(T a) { return sqrt(dot(a, a)); }
template <class T>
MSL_INLINE T normalize(T a) { return a * T(rsqrt(dot(a, a))); }
template <class T>
MSL_INLINE element_t<T> distance(T a, T b) { return length(a - b); }

// ---- integers ----
template <class T>
MSL_INLINE if_integral<T> popcount(T x) {
  if constexpr (count_v<T> == 1) return T(__builtin_popcountll(ulong(x) & (~0ul >> (64 - sizeof(T) * 8))));
  else { for (int i = 0; i < count_v<T>; i++) x[i] = popcount(x[i]); return x; }
}
template <class T>
MSL_INLINE if_integral<T> reverse_bits(T x) { return __builtin_elementwise_bitreverse(x); }
template <class T>
MSL_INLINE enable_if_t<count_v<T> == 1 && is_integral_v<T>, T> clz(T x) {
  int n = 0;
  for (int i = sizeof(T) * 8 - 1; i >= 0 && !((x >> i) & 1); i--) n++;
  return T(n);
}
template <class T>
MSL_INLINE enable_if_t<count_v<T> == 1 && is_integral_v<T>, T> ctz(T x) {
  int n = 0;
  while (n < int(sizeof(T) * 8) && !((x >> n) & 1)) n++;
  return T(n);
}
MSL_INLINE uint clz(uint x) { return x ? uint(__builtin_clz(x)) : 32u; }
MSL_INLINE uint ctz(uint x) { return x ? uint(__builtin_ctz(x)) : 32u; }
template <class T>
MSL_INLINE T rotate(T x, T by) {
  const int bits = sizeof(T) * 8, n = int(by) & (bits - 1);
  return n ? T((x << n) | (x >> (bits - n))) : x;
}
template <class T>
MSL_INLINE T extract_bits(T x, uint offset, uint bits) {
  return bits == 0 ? T(0) : T(T(x << (sizeof(T) * 8 - bits - offset)) >> (sizeof(T) * 8 - bits));
}
template <class T>
MSL_INLINE T insert_bits(T base, T x, uint offset, uint bits) {
  T mask = bits >= sizeof(T) * 8 ? T(~T(0)) : T((T(1) << bits) - 1);
  return T((base & ~T(mask << offset)) | T((x & mask) << offset));
}
MSL_INLINE uint mulhi(uint a, uint b) { return uint((ulong(a) * b) >> 32); }
MSL_INLINE int mulhi(int a, int b) { return int((long(a) * b) >> 32); }
template <class T>
MSL_INLINE T mul24(T a, T b) { return a * b; }
template <class T>
MSL_INLINE T mad24(T a, T b, T c) { return a * b + c; }
template <class T>
MSL_INLINE if_integral<T> absdiff(T a, T b) { return a > b ? T(a - b) : T(b - a); }
template <class T>
MSL_INLINE if_integral<T> addsat(T a, T b) { return __builtin_elementwise_add_sat(a, b); }
template <class T>
MSL_INLINE if_integral<T> subsat(T a, T b) { return __builtin_elementwise_sub_sat(a, b); }

#define MSL_SAME                                                                                      \
  using metal::exp; using metal::exp2; using metal::exp10; using metal::log; using metal::log2; using metal::log10; \
  using metal::sqrt; using metal::rsqrt; using metal::sin; using metal::cos; using metal::tan; using metal::asin; \
  using metal::acos; using metal::atan; using metal::sinh; using metal::cosh; using metal::tanh; using metal::asinh; \
  using metal::acosh; using metal::atanh; using metal::floor; using metal::ceil; using metal::trunc; \
  using metal::round; using metal::rint; using metal::fabs; using metal::abs; using metal::pow; using metal::powr; \
  using metal::atan2; using metal::fmod; using metal::copysign; using metal::fmax; using metal::fmin; \
  using metal::fma; using metal::divide; using metal::fract; using metal::max; using metal::min; using metal::clamp; \
  using metal::saturate; using metal::mix; using metal::sign; using metal::length; using metal::normalize; \
  using metal::distance;
namespace fast { MSL_SAME }
namespace precise { MSL_SAME }

}  // namespace metal
