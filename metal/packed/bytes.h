/* Codes of at most 5 bits times activations of 8 bits, four in a word, whose sums are whole numbers. AVX2 adds pairs of
 * products in 16 bits: 8 of 15 * 127 * 2, or 4 of 31 * 127 * 2, stay below 2^15. */

#if WORDS == 256
typedef struct {
    W pairs;
    I whole;
} eight_t;

/* All that was summed, in whole words. */
INLINE I whole_of(eight_t sum) {
    static const int ones = 0x00010001;
    return dot(sum.whole, (I)sum.pairs, &ones, 0);
}

/* sum + the four codes of each word times those of `four`; with `full` there is no room for more pairs. */
INLINE eight_t dot_bytes(eight_t sum, I codes, int four, const int full) {
    typedef char __attribute__((vector_size(32))) C;
    typedef int __attribute__((vector_size(32))) O;
    I all = (I){0} + four;
    O low = (O)__builtin_ia32_pmaddubsw256((C)OF_EIGHT(0, codes), (C)OF_EIGHT(0, all));
    O high = (O)__builtin_ia32_pmaddubsw256((C)OF_EIGHT(8, codes), (C)OF_EIGHT(8, all));
    sum.pairs += (W)__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if (full) {
        sum.whole = whole_of(sum);
        sum.pairs = (W){0};
    }
    return sum;
}
#else
typedef struct {
    I whole;
} eight_t;

INLINE I whole_of(eight_t sum) {
    return sum.whole;
}

INLINE eight_t dot_bytes(eight_t sum, I codes, int four, const int full) {
#if WORDS == 512
    typedef int __attribute__((vector_size(64))) T;
    sum.whole = (I)__builtin_ia32_vpdpbusd512((T)sum.whole, (T)codes, (T)((I){0} + four));
#else
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum.whole += (codes >> 8 * i & 0xff) * (int)(int8_t)(four >> 8 * i);
#endif
    return sum;
}
#endif

#define NAMED(kind) kind##_8
#define OF_LAYOUTS OF_FEW_BITS
#define SUM eight_t
#define FACTORS 1
#define ACTIVATIONS(columns) ((columns) / 4)
#define SCALES_OF(sums, all) ((sums) + (all) / SUMMED * R)
#define ADD(sum, value, at, full)                                                                                      \
    EVERY(p) {                                                                                                         \
        I v = value;                                                                                                   \
        EACH(r) sum[p * R + r] = dot_bytes(sum[p * R + r], v, ((const int *)x)[(long)(at) * R + r], full);             \
    }
#define ADD_NIBBLES(sum, w, n, halves)                                                                                 \
    _Pragma("unroll") for (int j = 0; j < 2; j++) ADD(sum, (w[p] >> 4 * j) & 0x0f0f0f0f, 2 * (n) + j, 0)
#define ADD_BYTES(sum, w, sign, n) ADD(sum, w[p], n, ((n) & 3) == 3)
#define SUMMED_UP(sum, i, g) (FLOATS(whole_of(sum[i])) * factors[(g) * R + (i) % R])
#include "panels.h"
#undef NAMED
#undef OF_LAYOUTS
#undef SUM
#undef FACTORS
#undef ACTIVATIONS
#undef SCALES_OF
#undef ADD
#undef ADD_NIBBLES
#undef ADD_BYTES
#undef SUMMED_UP
