/* Products of many rows with a panel: a tile of its codes is unpacked once, to 16-bit numbers in the first cache, for
 * all rows. The sums are those of `product.h`, in its order, so a row's result is the same to the bit either way. */

enum { TILE = 512, MANY = 16 }; /* columns; from how many rows on it pays */

typedef struct {
    I words[TILE / 2];      /* pairs of columns */
    F scales[TILE / 16];    /* of each run of 32 columns, in Q6_K of 16 */
    F offsets[TILE / SUMMED];
} tile_t;

#undef NAMED
#undef SUM
#undef ADD
#undef SCALED
#undef SHIFTED
#undef OF_BLOCKS
#define NAMED(kind) unpack_##kind
#define SUM int
#define ADD(sum, value, at) EVERY(p) words[at] = value;
#define SCALED(total, sum, g, scale) EVERY(p) *of++ = scale;
#define SHIFTED(total, g, offset) EVERY(p) *by++ = offset;
#define OF_BLOCKS const uint8_t *scales, const uint8_t *codes, long apart, I *words, F *of, F *by
#include "blocks.h"

/* `count` blocks of a panel, from block `first`. */
static void unpack(const matrix_t *m, const uint8_t *panel, int first, int count, tile_t *tile) {
    const uint8_t *scales = panel + (long)first * block_bytes(m), *codes = scales + m->block_scales;
    I *words = tile->words;
    F *of = tile->scales, *by = tile->offsets;
    int shifted = m->layout != Q8_0 && m->layout != Q6_K, runs = m->layout == Q6_K ? 16 : m->block / SUMMED;
    for (int b = 0; b < count; b++) {
#define INTO 1, 1
#define OF_IT scales, codes, m->panel, words, of, by
        switch (m->layout) {
        case Q4_0:
            unpack_q4(INTO, 0, OF_IT);
            break;
        case Q4_1:
            unpack_q4(INTO, 1, OF_IT);
            break;
        case Q5_0:
            unpack_q5(INTO, 0, OF_IT);
            break;
        case Q5_1:
            unpack_q5(INTO, 1, OF_IT);
            break;
        case Q8_0:
            unpack_q8(INTO, OF_IT);
            break;
        case Q4_K:
            unpack_k45(INTO, 0, OF_IT);
            break;
        case Q5_K:
            unpack_k45(INTO, 1, OF_IT);
            break;
        default:
            unpack_k6(INTO, OF_IT);
        }
        scales += block_bytes(m), codes += block_bytes(m), words += m->block / 2, of += runs;
        by += shifted ? m->block / SUMMED : 0;
    }
}

/* Adds to the totals of R rows what `columns` of the tile come to. `run` and `shifted` are known to the compiler. */
INLINE void some_rows(const int R, const int run, const int shifted, const tile_t *tile, int columns, const float *x,
                      const float *sums, const float *factors, F *total) {
    const F *scale = tile->scales;
    const I *words = tile->words;
    F all[R];
    EACH(r) all[r] = total[r];
#pragma nounroll
    for (int g = 0; g < columns / SUMMED; g++, sums += R, factors += R)
#pragma nounroll
        for (int at = 0; at < SUMMED; at += run, words += run / 2, x += run / 2 * R) {
            I sum[R];
            EACH(r) sum[r] = (I){0};
#pragma clang loop unroll_count(2) /* all at once, the compiler takes half a vector after the other */
            for (int j = 0; j < run / 2; j++) {
                I v = words[j];
                EACH(r) sum[r] = dot(sum[r], v, (const int *)x + (long)j * R + r, 0);
            }
            F s = *scale++;
            EACH(r) all[r] += FLOATS(sum[r]) * factors[r] * s;
            if (shifted) {
                F o = tile->offsets[g];
                EACH(r) all[r] += o * sums[r];
            }
        }
    EACH(r) total[r] = all[r];
}

#define ROWS_OF(R)                                                                                                     \
    static void rows_##R(int layout, const tile_t *tile, int columns, const float *x, const float *sums,               \
                         const float *factors, F *total) {                                                             \
        if (layout == Q6_K)                                                                                            \
            some_rows(R, 16, 0, tile, columns, x, sums, factors, total);                                               \
        else if (layout == Q8_0)                                                                                       \
            some_rows(R, 32, 0, tile, columns, x, sums, factors, total);                                               \
        else                                                                                                           \
            some_rows(R, 32, 1, tile, columns, x, sums, factors, total);                                               \
    }
ROWS_OF(1) ROWS_OF(2) ROWS_OF(4)

/* Panel p by rows some..last-1, AT_ONCE at most. */
static void by_tiles(const matrix_t *m, int p, const activations_t *x, int some, int last, float *y, long next,
                     int add) {
    typedef void (*rows_t)(int, const tile_t *, int, const float *, const float *, const float *, F *);
    static const rows_t rows[] = {rows_1, rows_2, rows_4};
    tile_t tile __attribute__((aligned(64)));
    F totals[AT_ONCE] __attribute__((aligned(64)));
    for (int r = 0; r < last - some; r++)
        totals[r] = (F){0};
    int columns = x->columns, of_tile = TILE / m->block;
    long each = columns + columns / SUMMED;
    for (int b = 0, count, which; b < m->blocks; b += of_tile) {
        int blocks = m->blocks - b < of_tile ? m->blocks - b : of_tile;
        unpack(m, m->data + p * m->panel, b, blocks, &tile);
        for (int r = some; r < last; r += count) {
            count = together(x->rows - r, &which);
            const float *from = x->values + r * each, *sums = from + (long)columns / 2 * count;
            const float *factors = sums + columns / SUMMED * count;
            long at = (long)b * m->block;
            rows[which](m->layout, &tile, blocks * m->block, from + at / 2 * count, sums + at / SUMMED * count,
                        factors + at / SUMMED * count, totals + r - some);
        }
    }
    int left = m->rows - p * LANES, outputs = left < LANES ? left : LANES;
    for (int r = some; r < last; r++)
        store(1, 1, totals + r - some, outputs, y + r * next + p * LANES, next, add);
}
