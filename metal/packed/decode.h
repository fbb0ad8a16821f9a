/* Panels as floats: how they lie for a product forward, 16 rows of a column side by side, and for the way back, 16
 * columns of a row. */

#undef NAMED
#undef BEGIN
#undef ADD_NIBBLES
#undef ADD_BYTES
#undef SCALED
#undef SHIFTED
#undef OF_BLOCKS
#define NAMED(kind) decode_##kind
#define BEGIN(sum, g)
#define CODES(count, column, value)                                                                                    \
    _Pragma("unroll") for (int j = 0; j < count; j++) out[column] = FLOATS(value);                                     \
    ready += count;
#define ADD_NIBBLES(sum, w, n, halves)                                                                                 \
    CODES(8, halves ? 4 * (n) + (j >> 1) + 16 * (j & 1) : 8 * (n) + j, (I)((U)w[0] >> 4 * j) & 15)
#define ADD_BYTES(sum, w, sign, n)                                                                                     \
    CODES(4, 4 * (n) + j, sign ? (w[0] << (24 - 8 * j)) >> 24 : (w[0] >> 8 * j) & 255)
#define SCALED(total, sum, g, scale)                                                                                   \
    EVERY(p) for (F s = scale; done < ready; done++) out[done] *= s;
#define SHIFTED(total, g, offset) EVERY(p) {                                                                           \
        F o = offset;                                                                                                  \
        for (int i = done - SUMMED; i < done; i++)                                                                     \
            out[i] += o;                                                                                               \
    }
#define OF_BLOCKS const uint8_t *scales, const uint8_t *codes, long apart, F *out, int ready, int done
#include "blocks.h"

INLINE void decode_affine(const int bits, int number, int group, const uint8_t *scales, const uint8_t *codes, F *out) {
    int ready = 0;
    F scale = wide(scales, number), offset = wide(scales + (number == FLOAT32 ? 64 : 32), number);
    for (int part = 0; part < group / SUMMED; part++, codes += 64 * bits, out += SUMMED) {
        for (int c = 0; c < bits; c++) {
            I w[] = {LOAD(I, codes + 64 * c)};
            if (bits == 4) {
                ADD_NIBBLES(0, w, c, 0)
            } else {
                ADD_BYTES(0, w, 0, c)
            }
        }
        for (int i = 0; i < SUMMED; i++)
            out[i] = out[i] * scale + offset;
    }
}

/* `count` columns of a panel from `first`, whole blocks: out [count], 16 rows of each. */
static void decode(const matrix_t *m, int panel, int first, int count, F *out) {
    const uint8_t *at = m->data + panel * m->panel;
    const uint8_t *scales = at + (long)first / m->block * block_bytes(m), *codes = scales + m->block_scales;
    if (m->layout == FLOAT) {
        __builtin_memcpy(out, codes, count * sizeof(F));
        return;
    }
    for (int b = 0; b < count; b += m->block, out += m->block) {
#define DECODE(layout, kind, ...)                                                                                      \
    case layout:                                                                                                       \
        decode_##kind(1, 1, ##__VA_ARGS__, scales, codes, m->panel, out, 0, 0);                                        \
        break;
        switch (m->layout) {
            DECODE(Q4_0, q4, 0)
            DECODE(Q4_1, q4, 1)
            DECODE(Q5_0, q5, 0)
            DECODE(Q5_1, q5, 1)
            DECODE(Q8_0, q8)
            DECODE(Q4_K, k45, 0)
            DECODE(Q5_K, k45, 1)
            DECODE(Q6_K, k6)
        case AFFINE4:
            decode_affine(4, m->number, m->group, scales, codes, out);
            break;
        default:
            decode_affine(8, m->number, m->group, scales, codes, out);
        }
        scales += block_bytes(m), codes += block_bytes(m);
    }
}

enum { AT_A_TIME = 256 }; /* columns of a panel: a block of any layout, or several */

/* Rows of panel p for a product forward: out [columns, ACROSS] vectors, of which these are each ACROSS-th. */
static void columns_of(const matrix_t *m, int p, float *out) {
    F some[AT_A_TIME];
    for (int c = 0, n; c < m->columns; c += n) {
        n = m->columns - c < AT_A_TIME ? m->columns - c : AT_A_TIME;
        decode(m, p, c, n, some);
        for (int i = 0; i < n; i++)
            *(F *)(out + (long)(c + i) * WIDE) = some[i];
    }
}

/* Rows of panel p for a product back, WIDE columns of each side by side and `apart` numbers after them the next:
 * zeros where the matrix has no column. */
static void rows_of(const matrix_t *m, int p, long apart, float *out) {
    F some[AT_A_TIME];
    for (int c = 0, n; c < m->columns; c += n) {
        n = m->columns - c < AT_A_TIME ? m->columns - c : AT_A_TIME;
        decode(m, p, c, n, some);
        int whole = (n + WIDE - 1) / WIDE * WIDE;
        for (int i = n; i < whole; i++)
            some[i] = (F){0};
        for (int i = 0; i < whole; i += LANES) {
            float *to = out + (c + i) / WIDE * apart + (c + i) % WIDE;
            transpose(some + i);
            for (int r = 0; r < LANES; r++)
                *(F *)(to + (long)r * WIDE) = some[i + r];
        }
    }
}
