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

/* The j-th part of `bits` bits of each word, from 0, where it stands; the last one, whose upper bit is a sign's, shifted. */
INLINE F cut(I word, const int j, const int bits) {
    const int at = j * bits, mask = (1 << bits) - 1;
    return at + bits == 32 ? FLOATS((I)((U)word >> at)) : FLOATS(word & mask << at);
}

/* Byte j of each word, from -128, times SIGNED. */
INLINE F signed_byte(I word, const int j) {
#if defined(__x86_64__)
#define SIGNED 0x1p24f
#define TO_TOP(i)                                                                                                      \
    (I) __builtin_shufflevector((B64)word, (B64){0}, 64, 64, 64, i, 64, 64, 64, 4 + i, 64, 64, 64, 8 + i, 64, 64, 64,  \
                                12 + i, 64, 64, 64, 16 + i, 64, 64, 64, 20 + i, 64, 64, 64, 24 + i, 64, 64, 64,        \
                                28 + i, 64, 64, 64, 32 + i, 64, 64, 64, 36 + i, 64, 64, 64, 40 + i, 64, 64, 64,        \
                                44 + i, 64, 64, 64, 48 + i, 64, 64, 64, 52 + i, 64, 64, 64, 56 + i, 64, 64, 64, 60 + i)
    return FLOATS(j == 0 ? TO_TOP(0) : j == 1 ? TO_TOP(1) : j == 2 ? TO_TOP(2) : word & (I)((U){0} + 0xff000000u));
#else
#define SIGNED 1.0f
    return FLOATS((word << (24 - 8 * j)) >> 24);
#endif
}

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
