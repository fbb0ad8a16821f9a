/* Products of a few rows of activations with the panels of a matrix.
 *
 * P panels by R rows at once: for each pair one vector of sums over a block, in the order of the codes, and one over the
 * row, to which a block's sums come with its scale. So a row's result is the same, to the bit, whatever stands beside
 * it, and P is only there to have enough additions under way. The panels after these are fetched meanwhile. */

#define EACH(r) _Pragma("unroll") for (int r = 0; r < R; r++)
#define EVERY(p) _Pragma("unroll") for (int p = 0; p < P; p++)
#define BOTH(i) _Pragma("unroll") for (int i = 0; i < P * R; i++)

/* sum[p, r] += value[p] * the activation in column `at` of r, where `value` may name `p` */
#define ADD(sum, value, at)                                                                                            \
    EVERY(p) {                                                                                                         \
        F v = value;                                                                                                   \
        EACH(r) sum[p * R + r] += v * x[(long)(at) * R + r];                                                           \
    }

/* Word n of each panel's block, and the one that will stand there when the next panels come. */
#define WORD(n, p) LOAD(I, codes + (p) * apart + (n) * 64L)
#define FETCH(n, p) __builtin_prefetch(codes + ((p) + P) * apart + (n) * 64L, 0, 2)

/* Eight columns of a word: as they follow each other, or as GGUF has them, halves of a block in low and high bits. */
#define ADD_NIBBLES(sum, n, at, halves)                                                                                \
    {                                                                                                                  \
        I w[P];                                                                                                        \
        EVERY(p) w[p] = WORD(n, p), FETCH(n, p);                                                                       \
        _Pragma("unroll") for (int j = 0; j < 8; j++)                                                                  \
            ADD(sum, cut(w[p], j, 4), halves ? (at) + (j >> 1) + 16 * (j & 1) : (at) + j)                             \
    }

#define ADD_BYTES(sum, w, sign, at)                                                                                    \
    {                                                                                                                  \
        _Pragma("unroll") for (int j = 0; j < 4; j++)                                                                  \
            ADD(sum, sign ? signed_byte(w[p], j) : cut(w[p], j, 8), (at) + j)                                         \
    }

#define SCALED(total, sum, scale)                                                                                      \
    EVERY(p) {                                                                                                         \
        F s = scale;                                                                                                   \
        EACH(r) total[p * R + r] += sum[p * R + r] * s;                                                                \
    }

#define TEMPLATE const int P, const int R
#define OF_BLOCK const uint8_t *scales, const uint8_t *codes, long apart, const float *x, const float *sums, F *total

/* Q4_1, or without an offset Q4_0, whose codes are 8 more than they say. */
INLINE void q4(TEMPLATE, const int offset, OF_BLOCK) {
    F sum[P * R];
    BOTH(i) sum[i] = (F){0};
#pragma unroll
    for (int c = 0; c < 4; c++)
        ADD_NIBBLES(sum, c, 4 * c, 1)
    EVERY(p) {
        F scale = wide(scales + p * apart, FLOAT16);
        F less = offset ? wide(scales + p * apart + 32, FLOAT16) : -8 * scale;
        EACH(r) total[p * R + r] += sum[p * R + r] * scale;
        EACH(r) total[p * R + r] += less * sums[r];
    }
}

INLINE void q8(TEMPLATE, OF_BLOCK) {
    F sum[P * R];
    BOTH(i) sum[i] = (F){0};
#pragma unroll
    for (int c = 0; c < 8; c++) {
        I w[P];
        EVERY(p) w[p] = WORD(c, p), FETCH(c, p);
        ADD_BYTES(sum, w, 1, 4 * c)
    }
    SCALED(total, sum, wide(scales + p * apart, FLOAT16) * (1 / SIGNED))
}

/* Q4_K, and with a fifth bit Q5_K: in four runs of eight words one group has the low bits and the next the high ones. */
INLINE void k45(TEMPLATE, const int fifth, OF_BLOCK) {
#pragma nounroll
    for (int t = 0; t < 4; t++)
#pragma nounroll
        for (int odd = 0; odd < 2; odd++) {
            int g = 2 * t + odd;
            F sum[P * R];
            BOTH(i) sum[i] = (F){0};
#pragma unroll
            for (int c = 0; c < 8; c++) {
                I w[P];
                EVERY(p) w[p] = WORD(8 * t + c, p) >> 4 * odd;
                if (!odd)
                    EVERY(p) FETCH(8 * t + c, p);
                EVERY(p) w[p] &= 0x0f0f0f0f;
                if (fifth)
                    EVERY(p) w[p] |= ((WORD(32 + c, p) >> g) & 0x01010101) << 4;
                ADD_BYTES(sum, w, 0, 32 * g + 4 * c)
            }
            EVERY(p) {
                const uint8_t *of = scales + p * apart;
                F one = wide(of, FLOAT16) * FLOATS(LOAD(B, of + 64 + 16 * g));
                F less = wide(of + 32, FLOAT16) * FLOATS(LOAD(B, of + 192 + 16 * g));
                EACH(r) total[p * R + r] += sum[p * R + r] * one;
                EACH(r) total[p * R + r] -= less * sums[g * R + r];
            }
        }
}

/* In two halves of 128 columns 16 words of low bits, those of two quarters under those of the other two, and 8 words of
 * high ones, of which each quarter has a pair. */
INLINE void k6(TEMPLATE, OF_BLOCK) {
#pragma nounroll
    for (int h = 0; h < 2; h++)
#pragma nounroll
        for (int part = 0; part < 4; part++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                F sum[P * R];
                BOTH(i) sum[i] = (F){0};
#pragma unroll
                for (int c = 4 * half; c < 4 * half + 4; c++) {
                    I w[P];
                    EVERY(p) {
                        I lower = (WORD(16 * h + 8 * (part & 1) + c, p) >> 4 * (part >> 1)) & 0x0f0f0f0f;
                        I upper = (WORD(32 + 8 * h + c, p) >> 2 * part) & 0x03030303;
                        w[p] = (I)((B64)(lower | upper << 4) - 32);
                        if (part < 2)
                            FETCH(16 * h + 8 * part + c, p);
                        else if (part == 2)
                            FETCH(32 + 8 * h + c, p);
                    }
                    ADD_BYTES(sum, w, 1, 128 * h + 32 * part + 4 * c)
                }
                EVERY(p) {
                    const uint8_t *of = scales + p * apart;
                    F one = wide(of, FLOAT16) * (1 / SIGNED) * FLOATS(LOAD(S, of + 32 + 16 * (8 * h + 2 * part + half)));
                    EACH(r) total[p * R + r] += sum[p * R + r] * one;
                }
            }
}

INLINE void affine(TEMPLATE, const int bits, int number, int group, OF_BLOCK) {
    F sum[P * R];
    float before[R];
    BOTH(i) sum[i] = (F){0};
    EACH(r) before[r] = 0;
#pragma nounroll
    for (int part = 0; part < group / SUMMED; part++, x += SUMMED * R, codes += 8 * bits * 8L) {
#pragma unroll
        for (int c = 0; c < bits; c++) {
            if (bits == 4)
                ADD_NIBBLES(sum, c, 8 * c, 0)
            else {
                I w[P];
                EVERY(p) w[p] = WORD(c, p), FETCH(c, p);
                ADD_BYTES(sum, w, 0, 4 * c)
            }
        }
        EACH(r) before[r] += sums[part * R + r];
    }
    SCALED(total, sum, wide(scales + p * apart, number))
    EVERY(p) {
        F less = wide(scales + p * apart + (number == FLOAT32 ? 64 : 32), number);
        EACH(r) total[p * R + r] += less * before[r];
    }
}

/* P panels by R rows; `layout` is known to the compiler. */
INLINE void panels(TEMPLATE, const int layout, const matrix_t *m, const uint8_t *scales, const float *x,
                   F *total) {
    const uint8_t *codes = scales + m->scales;
    const float *sums = x + (long)m->columns * R;
    long apart = m->panel;
    BOTH(i) total[i] = (F){0};
    if (layout == FLOAT) {
        for (int c = 0; c < m->columns; c++, codes += 64)
            ADD(total, LOAD(F, codes + p * apart), c)
        return;
    }
    int of_block = layout == AFFINE4 || layout == AFFINE8 ? m->block : layout >= Q4_K ? 256 : 32;
#pragma nounroll
    for (int b = 0; b < m->blocks; b++) {
#define AT scales, codes, apart, x, sums, total
        EVERY(p) for (int i = 0; i < m->block_scales; i += 64)
            __builtin_prefetch(scales + (p + P) * apart + i, 0, 2);
        if (layout == Q4_0 || layout == Q4_1)
            q4(P, R, layout == Q4_1, AT);
        if (layout == Q8_0)
            q8(P, R, AT);
        if (layout == Q4_K || layout == Q5_K)
            k45(P, R, layout == Q5_K, AT);
        if (layout == Q6_K)
            k6(P, R, AT);
        if (layout == AFFINE4 || layout == AFFINE8)
            affine(P, R, layout == AFFINE4 ? 4 : 8, m->number, m->group, AT);
        scales += m->block_scales, codes += m->block_codes;
        x += of_block * R, sums += of_block / SUMMED * R;
    }
}

/* `count` of the 16 P outputs of R rows, y [R, next]. */
INLINE void store(TEMPLATE, F *total, int count, float *y, long next, int add) {
    EVERY(p) EACH(r) {
        float *to = y + r * next + p * LANES;
        F out = total[p * R + r];
        if (count >= (p + 1) * LANES)
            *(F *)to = add ? LOAD(F, to) + out : out;
        else
            for (int i = 0; i < count - p * LANES; i++)
                to[i] = add ? to[i] + out[i] : out[i];
    }
}

typedef void (*block_t)(const matrix_t *m, const uint8_t *at, const float *x, int count, float *y, long next, int add);

#define BLOCK_OF(P, R, layout)                                                                                         \
    static void block_##layout##_##P##_##R(const matrix_t *m, const uint8_t *at, const float *x, int count, float *y,  \
                                           long next, int add) {                                                       \
        F total[P * R];                                                                                                \
        panels(P, R, layout, m, at, x, total);                                                                         \
        store(P, R, total, count, y, next, add);                                                                       \
    }

#define BLOCKS_OF(P, R)                                                                                                \
    BLOCK_OF(P, R, Q4_0) BLOCK_OF(P, R, Q4_1) BLOCK_OF(P, R, Q8_0) BLOCK_OF(P, R, Q4_K) BLOCK_OF(P, R, Q5_K)           \
    BLOCK_OF(P, R, Q6_K) BLOCK_OF(P, R, AFFINE4) BLOCK_OF(P, R, AFFINE8) BLOCK_OF(P, R, FLOAT)

#define ROW_OF(P, R)                                                                                                   \
    {block_Q4_0_##P##_##R, block_Q4_1_##P##_##R,    block_Q8_0_##P##_##R,    block_Q4_K_##P##_##R, block_Q5_K_##P##_##R, \
     block_Q6_K_##P##_##R, block_AFFINE4_##P##_##R, block_AFFINE8_##P##_##R, block_FLOAT_##P##_##R} /* as in packed.h */

/* For 1, 2, 4 and 8 rows, as far as the registers go: how many panels at once, and the functions for them and for one. */
#if MOST == 8
BLOCKS_OF(4, 1) BLOCKS_OF(4, 2) BLOCKS_OF(2, 4) BLOCKS_OF(1, 1) BLOCKS_OF(1, 2) BLOCKS_OF(1, 4) BLOCKS_OF(1, 8)
static const int many[] = {4, 4, 2, 1};
static const block_t wide_blocks[][LAYOUTS] = {ROW_OF(4, 1), ROW_OF(4, 2), ROW_OF(2, 4), ROW_OF(1, 8)};
static const block_t blocks[][LAYOUTS] = {ROW_OF(1, 1), ROW_OF(1, 2), ROW_OF(1, 4), ROW_OF(1, 8)};
#elif MOST == 2
BLOCKS_OF(2, 1) BLOCKS_OF(1, 1) BLOCKS_OF(1, 2)
static const int many[] = {2, 1};
static const block_t wide_blocks[][LAYOUTS] = {ROW_OF(2, 1), ROW_OF(1, 2)};
static const block_t blocks[][LAYOUTS] = {ROW_OF(1, 1), ROW_OF(1, 2)};
#else
BLOCKS_OF(1, 1)
static const int many[] = {1};
static const block_t wide_blocks[][LAYOUTS] = {ROW_OF(1, 1)};
static const block_t blocks[][LAYOUTS] = {ROW_OF(1, 1)};
#endif

/* How many of `rows` go together next, and which row of `blocks` takes them. */
INLINE int together(int rows, int *which) {
    int r = MOST;
    *which = MOST == 8 ? 3 : MOST == 4 ? 2 : MOST == 2 ? 1 : 0;
    while (r > rows)
        r /= 2, --*which;
    return r;
}

enum { AT_ONCE = 64 }; /* rows of activations that stay in the second cache while all panels pass */

/* Panels first..end-1 by all rows. */
static void multiply(const matrix_t *m, const activations_t *x, int first, int end, float *y, long next, int add) {
    long each = x->columns + x->columns / SUMMED; /* floats of a row */
    for (int some = 0, last; some < x->rows; some = last) {
        last = some + AT_ONCE < x->rows ? some + AT_ONCE : x->rows;
        int which, most;
        together(last - some, &which);
        most = many[which];
        for (int p = first, n; p < end; p += n) {
            n = p + most <= end ? most : 1;
            const uint8_t *at = m->data + p * m->panel;
            int left = m->rows - p * LANES, outputs = left < n * LANES ? left : n * LANES;
            for (int r = some, count; r < last; r += count) {
                count = together(x->rows - r, &which);
                float *to = y + r * next + p * LANES;
                const float *from = x->values + r * each;
                if (n == many[which])
                    (n > 1 ? wide_blocks : blocks)[which][m->layout](m, at, from, outputs, to, next, add);
                else
                    for (int i = 0; i < n; i++) {
                        int rest = outputs - i * LANES;
                        blocks[which][m->layout](m, at + i * m->panel, from, rest < LANES ? rest : LANES,
                                                            to + i * LANES, next, add);
                    }
            }
        }
    }
}

/* What a column's activation is multiplied by, so that its code may stand where it does: 2^-at. */
static const float *factors(int order) {
#define NIBBLE(j) ((j) == 7 ? 1 : 1.0f / (1 << 4 * ((j) % 7)))
#define FOUR(odd) NIBBLE(odd), NIBBLE(2 + odd), NIBBLE(4 + odd), NIBBLE(6 + odd)
#define EIGHT NIBBLE(0), NIBBLE(1), NIBBLE(2), NIBBLE(3), NIBBLE(4), NIBBLE(5), NIBBLE(6), NIBBLE(7)
#define BYTE 1, 0x1p-8f, 0x1p-16f, 1
    static const float table[ORDERS][SUMMED] = {
        [HALVES] = {FOUR(0), FOUR(0), FOUR(0), FOUR(0), FOUR(1), FOUR(1), FOUR(1), FOUR(1)},
        [NIBBLES] = {EIGHT, EIGHT, EIGHT, EIGHT},
        [BYTES] = {BYTE, BYTE, BYTE, BYTE, BYTE, BYTE, BYTE, BYTE},
    };
    return table[order];
}

/* Rows first.. of x [*, next] as activations; `first` is a multiple of MOST. */
static void arrange(const float *x, long next, int first, int rows, int columns, int order, float *out) {
    long each = columns + columns / SUMMED;
    const float *by = factors(order);
    for (int row = first, which, count; row < first + rows; row += count) {
        count = together(first + rows - row, &which);
        float *to = out + row * each, *sums = to + (long)columns * count;
        for (int r = 0; r < count; r++) {
            const float *from = x + (row + r) * next;
            if (order == PLAIN && count == 1)
                __builtin_memcpy(to, from, columns * sizeof(float));
            else if (order == PLAIN)
                for (int c = 0; c < columns; c++)
                    to[(long)c * count + r] = from[c];
            else if (count == 1)
                for (int c = 0; c < columns; c += LANES)
                    *(F *)(to + c) = LOAD(F, from + c) * LOAD(F, by + c % SUMMED);
            else
                for (int c = 0; c < columns; c++)
                    to[(long)c * count + r] = from[c] * by[c % SUMMED];
            for (int g = 0; g < columns / SUMMED; g++)
                sums[g * count + r] = sum(LOAD(F, from + SUMMED * g) + LOAD(F, from + SUMMED * g + LANES));
        }
    }
}
