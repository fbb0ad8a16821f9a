// Scalars, vectors and casts of the Metal Shading Language, on clang's own extended vectors (swizzles included). Two
// readings of the same text: the run (C++17, address spaces erased) and the strict gate (C++ for OpenCL, where they are
// real).
#pragma once

#ifdef MSL_STRICT
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define MSL_DEVICE __global
#define MSL_CONSTANT __constant
#define MSL_THREADGROUP __local
#define MSL_THREAD __private
#else
#define MSL_DEVICE
#define MSL_CONSTANT
#define MSL_THREADGROUP
#define MSL_THREAD
typedef _Float16 half;
#endif
// Without debug places of their own, so that what is reported inside them is reported where they are called.
#define MSL_INLINE inline __attribute__((always_inline, nodebug))
// Runs on behalf of all lanes: its memory accesses are not the kernel's.
#define MSL_UNTRACED __attribute__((no_sanitize("kernel-address", "array-bounds", "alignment"), nodebug))

typedef __bf16 bfloat;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef uchar uint8_t;
typedef ushort uint16_t;
typedef uint uint32_t;
typedef ulong uint64_t;
typedef ulong size_t;
typedef long ptrdiff_t;

#define MSL_VECTORS(name, type)                               \
  typedef type name##2 __attribute__((ext_vector_type(2)));   \
  typedef type name##3 __attribute__((ext_vector_type(3)));   \
  typedef type name##4 __attribute__((ext_vector_type(4)));
MSL_VECTORS(char, char)
MSL_VECTORS(uchar, uchar)
MSL_VECTORS(short, short)
MSL_VECTORS(ushort, ushort)
MSL_VECTORS(int, int)
MSL_VECTORS(uint, uint)
MSL_VECTORS(long, long)
MSL_VECTORS(ulong, ulong)
MSL_VECTORS(half, half)
MSL_VECTORS(bfloat, bfloat)
MSL_VECTORS(float, float)
// What a comparison of float or int vectors yields in clang: -1 or 0 in each component.
typedef int4 bool4;
typedef int3 bool3;
typedef int2 bool2;

namespace metal {

template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));

// ---- traits ----
template <class A, class B>
struct is_same { static constexpr MSL_CONSTANT bool value = false; };
template <class A>
struct is_same<A, A> { static constexpr MSL_CONSTANT bool value = true; };
template <class A, class B>
static constexpr MSL_CONSTANT bool is_same_v = is_same<A, B>::value;

template <bool C, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> { typedef T type; };
template <bool C, class T = void>
using enable_if_t = typename enable_if<C, T>::type;

template <bool C, class A, class B>
struct conditional { typedef A type; };
template <class A, class B>
struct conditional<false, A, B> { typedef B type; };
template <bool C, class A, class B>
using conditional_t = typename conditional<C, A, B>::type;

template <class T, T v>
struct integral_constant {
  static constexpr MSL_CONSTANT T value = v;
  typedef T value_type;
  constexpr operator T() const { return v; }
};
template <bool v>
using bool_constant = integral_constant<bool, v>;
typedef integral_constant<bool, true> true_type;
typedef integral_constant<bool, false> false_type;

template <class T>
struct remove_cv { typedef T type; };
template <class T>
struct remove_cv<const T> { typedef T type; };
template <class T>
struct remove_reference { typedef T type; };
template <class T>
struct remove_reference<T&> { typedef T type; };
template <class T>
using remove_addrspace_t = typename remove_cv<T>::type;
template <class T>
using remove_cv_t = typename remove_cv<T>::type;
template <class T>
using remove_reference_t = typename remove_reference<T>::type;

template <class T>
static constexpr MSL_CONSTANT bool is_integral_v = __is_integral(T);
template <class T>
static constexpr MSL_CONSTANT bool is_floating_point_v =
    is_same_v<T, float> || is_same_v<T, half> || is_same_v<T, bfloat>;
template <class T>
static constexpr MSL_CONSTANT bool is_arithmetic_v = is_integral_v<T> || is_floating_point_v<T>;
template <class T>
struct is_integral : integral_constant<bool, __is_integral(T)> {};
template <class T>
struct is_floating_point : integral_constant<bool, is_floating_point_v<T>> {};
template <class T>
struct is_arithmetic : integral_constant<bool, is_arithmetic_v<T>> {};
template <class T>
struct is_unsigned : integral_constant<bool, __is_unsigned(T)> {};
template <class T>
struct is_signed : integral_constant<bool, __is_signed(T)> {};
template <class T>
static constexpr MSL_CONSTANT bool is_unsigned_v = __is_unsigned(T);
template <class T>
static constexpr MSL_CONSTANT bool is_signed_v = __is_signed(T);
template <class A, class B>
static constexpr MSL_CONSTANT bool is_convertible_v = __is_convertible(A, B);

// What a vector (or scalar) is made of.
template <class T>
struct parts { typedef T element; static constexpr MSL_CONSTANT int count = 1; };
template <class T, int N>
struct parts<vec<T, N>> { typedef T element; static constexpr MSL_CONSTANT int count = N; };
template <class T>
using element_t = typename parts<T>::element;
template <class T>
static constexpr MSL_CONSTANT int count_v = parts<T>::count;

// A scalar argument type from which nothing is deduced: `clamp(half4, 0, 1)`.
template <class T>
struct same_as { typedef T type; };
template <class T>
using same_as_t = typename same_as<T>::type;

// ---- constructors: `float4(a.xy, b, 1)` reaches these as `msl_make<float4>(a.xy, b, 1)` ----
template <class V, class T>
MSL_INLINE constexpr void msl_put(MSL_THREAD V& v, MSL_THREAD int& at, T x) {
  if constexpr (count_v<T> == 1) {
    v[at++] = element_t<V>(x);
  } else {
    for (int i = 0; i < count_v<T>; i++) v[at++] = element_t<V>(x[i]);
  }
}

template <class V, class T>
MSL_INLINE constexpr V msl_make(T x) {
  if constexpr (count_v<T> == 1) {
    return V(element_t<V>(x));
  } else {
    static_assert(count_v<T> == count_v<V>, "a vector converts to one of the same size");
    return __builtin_convertvector(x, V);
  }
}
template <class V>
MSL_INLINE constexpr V msl_make() { return V(element_t<V>(0)); }
template <class V, class A, class B, class... R>
MSL_INLINE constexpr V msl_make(A a, B b, R... rest) {
  static_assert(count_v<A> + count_v<B> + (0 + ... + count_v<R>) == count_v<V>, "components of a vector constructor");
  V v = V(element_t<V>(0));
  int at = 0;
  msl_put(v, at, a);
  msl_put(v, at, b);
  (msl_put(v, at, rest), ...);
  return v;
}

template <class To, class From>
MSL_INLINE constexpr To as_type(From x) {
  static_assert(sizeof(To) == sizeof(From), "as_type keeps the size");
  return __builtin_bit_cast(To, x);
}

#define MSL_PACKED(name, type, n, V)                                     \
  struct name {                                                          \
    type at[n];                                                          \
    name() = default;                                                    \
    name(V v) { for (int i = 0; i < n; i++) at[i] = v[i]; }              \
    operator V() const { V v = V(type(0)); for (int i = 0; i < n; i++) v[i] = at[i]; return v; } \
  };
#ifdef MSL_STRICT  // the type check needs no layout
#undef MSL_PACKED
#define MSL_PACKED(name, type, n, V) typedef V name;
#endif
MSL_PACKED(packed_float2, float, 2, float2)
MSL_PACKED(packed_float3, float, 3, float3)
MSL_PACKED(packed_float4, float, 4, float4)
MSL_PACKED(packed_half2, half, 2, half2)
MSL_PACKED(packed_half3, half, 3, half3)
MSL_PACKED(packed_half4, half, 4, half4)
MSL_PACKED(packed_uchar4, uchar, 4, uchar4)
MSL_PACKED(packed_uint2, uint, 2, uint2)
MSL_PACKED(packed_uint4, uint, 4, uint4)

// ---- limits ----
template <class T>
struct numeric_limits {
  static constexpr T max() {
    return __is_unsigned(T) ? T(~T(0)) : T(T(1) << (sizeof(T) * 8 - 2)) - T(1) + T(T(1) << (sizeof(T) * 8 - 2));
  }
  static constexpr T min() { return __is_unsigned(T) ? T(0) : T(-max() - T(1)); }
  static constexpr T lowest() { return min(); }
  static constexpr MSL_CONSTANT int digits = sizeof(T) * 8 - (__is_signed(T) ? 1 : 0);
};
#define MSL_LIMITS(type, bits, top, smallest, step, infinite, nan, n)       \
  template <>                                                               \
  struct numeric_limits<type> {                                             \
    static constexpr type make(bits b) { return __builtin_bit_cast(type, b); } \
    static constexpr type max() { return make(top); }                       \
    static constexpr type lowest() { return -make(top); }                   \
    static constexpr type min() { return make(smallest); }                  \
    static constexpr type epsilon() { return make(step); }                  \
    static constexpr type infinity() { return make(infinite); }             \
    static constexpr type quiet_NaN() { return make(nan); }                 \
    static constexpr MSL_CONSTANT int digits = n;                           \
  };
MSL_LIMITS(float, uint, 0x7f7fffffu, 0x00800000u, 0x34000000u, 0x7f800000u, 0x7fc00000u, 24)
MSL_LIMITS(half, ushort, 0x7bff, 0x0400, 0x1400, 0x7c00, 0x7e00, 11)
MSL_LIMITS(bfloat, ushort, 0x7f7f, 0x0080, 0x3c00, 0x7f80, 0x7fc0, 8)

}  // namespace metal

// Stand in partial specialisations for pointers to the other address spaces, which are all one in the run.
template <class T>
struct msl_device_pointer;
template <class T>
struct msl_constant_pointer;
template <class T>
struct msl_threadgroup_pointer;

// `constant bool b [[function_constant(3)]];` has the value that the program gives for 3, else 0.
template <int index>
struct msl_function_constant { static constexpr MSL_CONSTANT int value = 0; };

using metal::as_type;
using metal::msl_make;

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define HUGE_VALF __builtin_inff()
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define HALF_MAX half(65504.0f)
#define M_PI_F 3.14159265358979f
#define M_PI_2_F 1.57079632679490f
#define M_1_PI_F 0.318309886183791f
#define M_2_PI_F 0.636619772367581f
#define M_E_F 2.71828182845905f
#define M_LN2_F 0.693147180559945f
#define M_LN10_F 2.30258509299405f
#define M_LOG2E_F 1.44269504088896f
#define M_LOG10E_F 0.434294481903252f
#define M_SQRT2_F 1.41421356237310f
#define M_SQRT1_2_F 0.707106781186548f
