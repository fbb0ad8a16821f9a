/* Vectors of 16 floats, one for each row of a panel, in whatever registers this kind of processor has. */

#include "packed.h"

typedef float F __attribute__((vector_size(64), aligned(4), may_alias));
typedef int I __attribute__((vector_size(64), aligned(4), may_alias));
typedef double D8 __attribute__((vector_size(64), aligned(8), may_alias));
typedef float F8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint8_t B __attribute__((vector_size(16), aligned(1), may_alias));
typedef int8_t S __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t H __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint8_t B64 __attribute__((vector_size(64), aligned(4), may_alias));

#define LOAD(type, at) (*(const type *)(at))
#define FLOATS(x) __builtin_convertvector(x, F)

typedef unsigned U __attribute__((vector_size(64), aligned(4), may_alias));

/* The j-th part of `bits` bits of each word, from 0, where it stands; the last, whose upper bit is a sign's,
 * shifted. */
INLINE F cut(I word, const int j, const int bits) {
    const int at = j * bits, mask = (1 << bits) - 1;
    return at + bits == 32 ? FLOATS((I)((U)word >> at)) : FLOATS(word & mask << at);
}

/* Byte j of each word, from -128. */
INLINE F signed_byte(I word, const int j) {
    return FLOATS((word << (24 - 8 * j)) >> 24);
}

#if WORDS
typedef int16_t W __attribute__((vector_size(64), aligned(4), may_alias));

/* sum + the two 16-bit numbers of each word times those of `pair`. AVX-512 with VNNI has one instruction for it, which
 * the compiler would part into two to have one row's sums sooner; with `several` sums under way it takes them one by
 * one. */
INLINE I dot(I sum, I word, const int *pair, const int several) {
    I both = (I){0} + *pair;
#if WORDS == 512
    typedef int __attribute__((vector_size(64))) T;
    if (!several)
        return (I)__builtin_ia32_vpdpwssd512((T)sum, (T)word, (T)both);
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(word), "m"(*pair));
    return sum;
#else
    typedef short __attribute__((vector_size(32))) T;
    typedef int __attribute__((vector_size(32))) O;
#define OF_EIGHT(n, x) __builtin_shufflevector(x, x, n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7)
    O low = (O)__builtin_ia32_pmaddwd256((T)OF_EIGHT(0, word), (T)OF_EIGHT(0, both));
    O high = (O)__builtin_ia32_pmaddwd256((T)OF_EIGHT(8, word), (T)OF_EIGHT(8, both));
    return sum + (I)__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

#if WORDS == 512
/* sum + the two 16-bit numbers of each word times those of another's; it wraps. */
INLINE I dot_of(I sum, I a, I b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
#endif

/* Bytes 0 and 2 of each word, or 1 and 3, as 16-bit numbers. */
INLINE I pair_of_bytes(I word, const int odd, const int sign) {
    if (!sign)
        return (odd ? (I)((U)word >> 8) : word) & 0x00ff00ff;
    return (I)((odd ? (W)word : (W)word << 8) >> 8);
}
#endif

INLINE F wide(const uint8_t *at, const int number) {
    if (number == FLOAT32)
        return LOAD(F, at);
    I bits = __builtin_convertvector(LOAD(H, at), I);
    if (number == BFLOAT16)
        return (F)(bits << 16);
#if defined(__F16C__) || defined(__AVX512F__) || defined(__aarch64__)
    typedef __fp16 T __attribute__((vector_size(32), aligned(2), may_alias));
    return FLOATS(LOAD(T, at));
#else /* the exponent's bias by a product, which small numbers survive; past the largest are infinity and NaN */
    I big = (bits & 0x7c00) == 0x7c00;
    F size = (F)((bits & 0x7fff) << 13) * 0x1p112f;
    return (F)((I)size | (big & 0x7f800000) | (bits & 0x8000) << 16);
#endif
}

#define BYTES_OF(number) ((number) == FLOAT32 ? 4 : 2)

INLINE float wide_one(const uint8_t *at, const int number) {
    uint8_t alone[64] = {0};
    __builtin_memcpy(alone, at, BYTES_OF(number));
    return wide(alone, number)[0];
}

INLINE F largest(F a, F b) { /* b where a is NaN */
    I more = a > b;
    return (F)((more & (I)a) | (~more & (I)b));
}

INLINE F least(F a, F b) {
    I less = a < b;
    return (F)((less & (I)a) | (~less & (I)b));
}

INLINE F all(float x) {
    return x - (F){0};
}

/* The nearest halves, of two the even one; what is larger than the largest becomes that. A NaN stays one. */
INLINE H halves(F x) {
    const float most = 65504;
    x = largest(all(-most), least(all(most), x));
#if defined(__F16C__) || defined(__AVX512F__) || defined(__aarch64__)
    typedef __fp16 T __attribute__((vector_size(32)));
    return (H)__builtin_convertvector(x, T);
#else
    I bits = (I)x, sizes = bits & 0x7fffffff, nan = sizes > 0x7f800000;
    I usual = (sizes - (112 << 23) + 0xfff + ((sizes >> 13) & 1)) >> 13;
    I small = (I)((F)sizes + 0.5f) - (126 << 23); /* the last bit of a half's smallest is that of 0.5's float */
    I tiny = (F)sizes < 0x1p-14f;
    I out = (tiny & small) | (~tiny & usual);
    out = (nan & 0x7e00) | (~nan & out);
    return __builtin_convertvector(out | ((bits >> 16) & 0x8000), H);
#endif
}

INLINE float sum(F x) {
#define HALF(n, x) __builtin_shufflevector(x, x, n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7)
    F8 eight = HALF(0, x) + HALF(8, x);
    float s[4];
    for (int i = 0; i < 4; i++)
        s[i] = eight[i] + eight[i + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

INLINE double sum_wide(D8 x) {
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

INLINE D8 low(F x) {
    return __builtin_convertvector(HALF(0, x), D8);
}

INLINE D8 high(F x) {
    return __builtin_convertvector(HALF(8, x), D8);
}

/* e^x, 0 below -87: 2^n e^r with |r| <= ln(2) / 2, whose series is cut after r^7, an error of 5e-9. A NaN stays one. */
INLINE F power_of_e(F x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to a whole number */
    I small = x < -87.0f, big = x > 88.0f;
    x = (F)((~big & (I)x) | (big & (I)all(88.0f)));
    F n = (x * 1.44269504f + magic) - magic;
    F r = (x - n * 0.693359375f) - n * -2.12194440e-4f; /* ln 2 in two pieces, the first with few bits */
    F y = 1.0f / 5040 * r + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    I power = (__builtin_convertvector(n, I) + 127) << 23;
    return (F)(~small & (I)(y * (F)power));
}
