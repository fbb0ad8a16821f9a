/* Products of P panels of each layout by R rows, in the numbers that whoever includes this has defined: SUM,
 * ADD_NIBBLES, ADD_BYTES, SUMMED_UP, how many numbers ACTIVATIONS are and where their scales are, for OF_LAYOUTS, under
 * a name. */

#include "blocks.h"

INLINE void NAMED(affine)(TEMPLATE, const int bits, int number, int group, OF_BLOCKS) {
    F all[P * R];
    float before[R];
    BOTH(i) all[i] = (F){0};
    EACH(r) before[r] = 0;
#pragma nounroll
    for (int part = 0; part < group / SUMMED; part++, x += ACTIVATIONS(SUMMED) * R, codes += 8 * bits * 8L) {
        BEGIN(sum, part)
#pragma unroll
        for (int c = 0; c < bits; c++) {
            I w[P];
            EVERY(p) w[p] = WORD(c, p), FETCH(c, p);
            if (bits == 4)
                ADD_NIBBLES(sum, w, c, 0)
            else
                ADD_BYTES(sum, w, 0, c)
        }
        BOTH(i) all[i] += SUMMED_UP(sum, i, part);
        EACH(r) before[r] += sums[part * R + r];
    }
    EVERY(p) {
        const uint8_t *of = scales + p * apart;
        F scale = wide(of, number), offset = wide(of + (number == FLOAT32 ? 64 : 32), number);
        EACH(r) total[p * R + r] += all[p * R + r] * scale;
        EACH(r) total[p * R + r] += offset * before[r];
    }
}

/* P panels by R rows; `layout` is known to the compiler. */
INLINE void NAMED(panels)(TEMPLATE, const int layout, const matrix_t *m, const uint8_t *scales, const float *x,
                          F *total) {
    const uint8_t *codes = scales + m->block_scales;
    long apart = m->panel;
    BOTH(i) total[i] = (F){0};
    if (layout == FLOAT) {
        for (int c = 0; c < m->columns; c++, codes += 4 * LANES)
            EVERY(p) {
                F v = LOAD(F, codes + p * apart);
                __builtin_prefetch(codes + (p + P) * apart, 0, 3);
                EACH(r) total[p * R + r] += v * x[(long)c * R + r];
            }
        return;
    }
    const float *sums = x + ACTIVATIONS((long)m->columns) * R, *factors = SCALES_OF(sums, m->columns);
    const int *less = (const int *)(factors + m->columns / SUMMED * R); /* where words go in pairs */
    int of_block = layout == AFFINE4 || layout == AFFINE8 ? m->block : layout >= Q4_K ? 256 : 32;
#pragma nounroll
    for (int b = 0; b < m->blocks; b++) {
#define AT scales, codes, apart, x, sums, total, factors, less
        EVERY(p) for (int i = 0; i < m->block_scales; i += 64)
            FETCH_FROM(scales + i, p);
        if (layout == Q4_0 || layout == Q4_1)
            NAMED(q4)(P, R, layout == Q4_1, AT);
        if (layout == Q5_0 || layout == Q5_1)
            NAMED(q5)(P, R, layout == Q5_1, AT);
        if (layout == Q8_0)
            NAMED(q8)(P, R, AT);
        if (layout == Q4_K || layout == Q5_K)
            NAMED(k45)(P, R, layout == Q5_K, AT);
        if (layout == Q6_K)
            NAMED(k6)(P, R, AT);
        if (layout == AFFINE4 || layout == AFFINE8)
            NAMED(affine)(P, R, layout == AFFINE4 ? 4 : 8, m->number, m->group, AT);
        scales += block_bytes(m), codes += block_bytes(m);
        x += ACTIVATIONS(of_block) * R, sums += of_block / SUMMED * R;
        if (FACTORS)
            factors += of_block / SUMMED * R, less += of_block / SUMMED * R;
    }
}

#define BLOCK_OF(P, R, layout)                                                                                         \
    static void NAMED(block_##layout##_##P##_##R)(const matrix_t *m, const uint8_t *at, const float *x, int count,     \
                                                  float *y, long next, int add) {                                      \
        F total[P * R];                                                                                                \
        NAMED(panels)(P, R, layout, m, at, x, total);                                                                  \
        store(P, R, total, count, y, next, add);                                                                       \
    }
#define ENTRY_OF(P, R, layout) [layout] = NAMED(block_##layout##_##P##_##R),
#define BLOCKS_OF(P, R) OF_LAYOUTS(BLOCK_OF, P, R)
#define ROW_OF(P, R) {OF_LAYOUTS(ENTRY_OF, P, R)}

/* For 1, 2, 4 and 8 rows, as far as the registers go, by one panel. */
BLOCKS_OF(1, 1)
#if MOST >= 2
BLOCKS_OF(1, 2)
#endif
#if MOST >= 4
BLOCKS_OF(1, 4)
#endif
#if MOST == 8
BLOCKS_OF(1, 8)
#endif
static const block_t NAMED(blocks)[][LAYOUTS] = {
    ROW_OF(1, 1),
#if MOST >= 2
    ROW_OF(1, 2),
#endif
#if MOST >= 4
    ROW_OF(1, 4),
#endif
#if MOST == 8
    ROW_OF(1, 8),
#endif
};
