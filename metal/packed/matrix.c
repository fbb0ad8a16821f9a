/* Packing, unpacking and multiplying: what is the same on every processor. No libc but memcpy and memset. */

#include "packed.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

EXPORT const char likely_packed_sha256[] = SOURCE_SHA256;

static const kernels_t *kernels = &likely_plain;
static void (*helped)(part_t run, void *context, int parts);

const kernels_t *likely_kernels(void) {
    return kernels;
}

void share(part_t run, void *context, int parts) {
    if (helped && parts > 1)
        helped(run, context, parts);
    else
        for (int part = 0; part < parts; part++)
            run(context, part);
}

/* Threads from now on: a function that runs every part once and returns when all are done; none: the caller alone. */
EXPORT void likely_packed_threads(void (*threads)(part_t run, void *context, int parts)) {
    helped = threads;
}

#if defined(__x86_64__)
/* 0: neither, 1: AVX2, FMA and F16C, 2: AVX-512 too. */
static int level(void) {
    enum { FMA = 1 << 12, XSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29, AVX2 = 1 << 5, YMM = 6, ZMM = 0xe6 };
    const unsigned wide = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, words = 1 << 11; /* F, DQ, BW, VL; VNNI */
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (FMA | XSAVE | AVX | F16C)) != (FMA | XSAVE | AVX | F16C))
        return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & YMM) != YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & AVX2))
        return 0;
    return (saved & ZMM) == ZMM && (b & wide) == wide && (c & words) ? 2 : 1;
}
#endif

/* Chooses the best kernels that this processor has, up to `most` (0: plain, 1: AVX2, 2: AVX-512), and says which. */
EXPORT const char *likely_packed_init(int most) {
    kernels = &likely_plain;
#if defined(__x86_64__)
    int have = level();
    have = have < most ? have : most;
    kernels = have == 2 ? &likely_avx512 : have == 1 ? &likely_avx2 : &likely_plain;
#endif
    return kernels->name;
}

/* --- layouts ---------------------------------------------------------------------------------------------------- */

/* Of GGUF's: columns and bytes of a block, bytes of the scales and the codes of a block of 16 rows, and where in a
 * block the words of codes are, in two runs. */
static const struct {
    int block, bytes, scales, codes, first, words, second, more;
} FILES[] = {
    [Q4_0] = {32, 18, 32, 256, 2, 4, 0, 0},
    [Q4_1] = {32, 20, 64, 256, 4, 4, 0, 0},
    [Q5_0] = {32, 22, 32, 320, 6, 4, 2, 1},
    [Q5_1] = {32, 24, 64, 320, 8, 4, 4, 1},
    [Q8_0] = {32, 34, 32, 512, 2, 8, 0, 0},
    [Q4_K] = {256, 144, 320, 2048, 16, 32, 0, 0},
    [Q5_K] = {256, 176, 320, 2560, 48, 32, 16, 8},
    [Q6_K] = {256, 210, 288, 3072, 0, 32, 128, 16},
};

static long rounded(long bytes) {
    return (bytes + 63) / 64 * 64;
}

/* Fills in how a matrix lies in memory, from its layout, number, group, rows and columns. Returns the bytes of its
 * data, 0 if there is no such matrix. */
EXPORT long likely_layout(matrix_t *m) {
    int size = m->number == FLOAT32 ? 4 : 2;
    if (m->rows < 1 || m->columns < 1 || m->rows > 1 << 28 || m->columns > 1 << 24)
        return 0;
    if (m->layout == AFFINE4 || m->layout == AFFINE8) {
        int bits = m->layout == AFFINE4 ? 4 : 8;
        if ((m->group != 32 && m->group != 64 && m->group != 128) || m->number < FLOAT32 || m->number > BFLOAT16)
            return 0;
        m->block = m->group;
        m->block_scales = 2 * LANES * size;
        m->block_codes = m->group * bits * LANES / 8;
    } else if (m->layout == FLOAT) {
        m->number = FLOAT32;
        m->block = 1, m->block_scales = 0, m->block_codes = 4 * LANES;
    } else if (m->layout >= Q4_0 && m->layout <= Q6_K) {
        m->number = 0; /* the only one */
        m->block = FILES[m->layout].block;
        m->block_scales = FILES[m->layout].scales;
        m->block_codes = FILES[m->layout].codes;
    } else
        return 0;
    if (m->columns % m->block)
        return 0;
    m->blocks = m->columns / m->block;
    m->panel = rounded((long)m->blocks * block_bytes(m));
    return (m->rows + LANES - 1) / LANES * m->panel;
}

INLINE uint32_t word_at(const uint8_t *at) {
    uint32_t word;
    __builtin_memcpy(&word, at, 4);
    return word;
}

INLINE void copy(uint8_t *to, const uint8_t *from, int size) {
    for (int i = 0; i < size; i++)
        to[i] = from[i];
}

/* Words of one row into their places, 64 bytes apart. */
INLINE void words(uint8_t *to, const uint8_t *from, int count) {
    for (int w = 0; w < count; w++) {
        uint32_t word = word_at(from + 4 * w);
        __builtin_memcpy(to + 64 * w, &word, 4);
    }
}

/* The 6-bit scales and minima of Q4_K and Q5_K: the upper bits of the last four are the first four's top bits. */
static void k_scales(uint8_t *to, const uint8_t *at) {
    for (int g = 0; g < 4; g++) {
        to[LANES * g] = at[g] & 63;
        to[LANES * (g + 4)] = (at[8 + g] & 15) | (at[g] >> 6) << 4;
        to[128 + LANES * g] = at[4 + g] & 63;
        to[128 + LANES * (g + 4)] = (at[8 + g] >> 4) | (at[4 + g] >> 6) << 4;
    }
}

/* The fifth bits of 32 codes as the kernels want them: of each four codes those of a bit of the four bytes. */
static uint32_t fifth_bits(uint32_t bits) {
    uint32_t out = 0;
    for (int t = 0; t < 8; t++)
        out |= ((bits >> 4 * t & 15) * 0x00204081 & 0x01010101) << t; /* a nibble's bits, one a byte */
    return out;
}

static void pack_row(const matrix_t *m, int row, const uint8_t *from) {
    int lane = row % LANES;
    uint8_t *scales = m->data + row / LANES * m->panel, *codes = scales + m->block_scales + 4 * lane;
    if (m->layout == FLOAT) {
        words(codes, from, m->columns);
        return;
    }
    for (int b = 0; b < m->blocks; b++) {
        const uint8_t *block = from + (long)b * FILES[m->layout].bytes;
        switch (m->layout) {
        case Q4_1:
            copy(scales + 32 + 2 * lane, block + 2, 2);
            copy(scales + 2 * lane, block, 2);
            words(codes, block + 4, 4);
            break;
        case Q4_0:
            copy(scales + 2 * lane, block, 2);
            words(codes, block + 2, 4);
            break;
        case Q5_0:
        case Q5_1: {
            uint32_t fifth = fifth_bits(word_at(block + FILES[m->layout].second));
            if (m->layout == Q5_1)
                copy(scales + 32 + 2 * lane, block + 2, 2);
            copy(scales + 2 * lane, block, 2);
            words(codes, block + FILES[m->layout].first, 4);
            words(codes + 64 * 4, (const uint8_t *)&fifth, 1);
            break;
        }
        case Q8_0:
            copy(scales + 2 * lane, block, 2);
            words(codes, block + 2, 8);
            break;
        case Q6_K:
            copy(scales + 2 * lane, block + 208, 2);
            for (int g = 0; g < 16; g++)
                scales[32 + LANES * g + lane] = block[192 + g];
            words(codes, block, 32);
            words(codes + 64 * 32, block + 128, 16);
            break;
        default: /* Q4_K, Q5_K */
            copy(scales + 2 * lane, block, 2);
            copy(scales + 32 + 2 * lane, block + 2, 2);
            k_scales(scales + 64 + lane, block + 4);
            words(codes, block + FILES[m->layout].first, 32);
            if (m->layout == Q5_K)
                words(codes + 64 * 32, block + 16, 8);
        }
        scales += block_bytes(m), codes += block_bytes(m);
    }
}

/* Rows first..first+count-1 of a matrix from `raw`, rows of `bytes` each as GGUF has them (or floats, for FLOAT).
 * `order` says which row of `raw` each is, or is null. */
EXPORT void likely_pack(const matrix_t *m, const uint8_t *raw, long bytes, const int *order, int first, int count) {
    for (int i = 0; i < count; i++)
        pack_row(m, first + i, raw + (order ? order[i] : i) * bytes);
}

/* The same for AFFINE4 and AFFINE8, from mlx's arrays: codes [rows, columns * bits / 32], scales and offsets
 * [rows, columns / group]. */
EXPORT void likely_pack_affine(const matrix_t *m, const uint8_t *codes, const uint8_t *scales, const uint8_t *offsets,
                               int first, int count) {
    int size = m->number == FLOAT32 ? 4 : 2, of_block = m->block_codes / 64;
    for (int i = 0; i < count; i++) {
        int lane = (first + i) % LANES;
        uint8_t *to = m->data + (first + i) / LANES * m->panel;
        for (int b = 0; b < m->blocks; b++, to += block_bytes(m)) {
            long at = (long)i * m->blocks + b;
            copy(to + size * lane, scales + at * size, size);
            copy(to + size * (LANES + lane), offsets + at * size, size);
            words(to + m->block_scales + 4 * lane, codes + at * of_block * 4, of_block);
        }
    }
}

static float float_of(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

static float number_at(const uint8_t *at, int number) {
    uint32_t bits = number == FLOAT32 ? word_at(at) : at[0] | at[1] << 8;
    if (number == FLOAT32)
        return float_of(bits);
    if (number == BFLOAT16)
        return float_of(bits << 16);
    float size = float_of((bits & 0x7fff) << 13) * 0x1p112f;
    uint32_t sign = (bits & 0x8000) << 16, unsigned_;
    __builtin_memcpy(&unsigned_, &size, 4);
    return float_of(((bits & 0x7c00) == 0x7c00 ? 0x7f800000 | unsigned_ : unsigned_) | sign);
}

/* The numbers of one row, rounded as a product and a sum of floats are: what the file's own dequantiser gives. */
static void unpack_row(const matrix_t *m, int row, float *out) {
#pragma clang fp contract(off)
    int lane = row % LANES, size = m->number == FLOAT32 ? 4 : 2;
    const uint8_t *scales = m->data + row / LANES * m->panel, *codes = scales + m->block_scales + 4 * lane;
#define CODE(n) word_at(codes + 64L * (n))
#define BYTE(n) (CODE((n) / 4) >> 8 * ((n) % 4) & 255)
    for (int b = 0; b < m->blocks; b++, scales += block_bytes(m), codes += block_bytes(m), out += m->block) {
        float scale = m->block_scales ? number_at(scales + 2 * lane, FLOAT16) : 0;
        switch (m->layout) {
        case FLOAT:
            out[0] = float_of(CODE(0));
            break;
        case Q4_0:
            for (int i = 0; i < 16; i++) {
                int pair = BYTE(i);
                out[i] = scale * ((pair & 15) - 8), out[i + 16] = scale * ((pair >> 4) - 8);
            }
            break;
        case Q4_1: {
            float offset = number_at(scales + 32 + 2 * lane, FLOAT16);
            for (int i = 0; i < 16; i++) {
                int pair = BYTE(i);
                out[i] = scale * (pair & 15) + offset, out[i + 16] = scale * (pair >> 4) + offset;
            }
            break;
        }
        case Q5_0:
        case Q5_1: {
            float offset = m->layout == Q5_1 ? number_at(scales + 32 + 2 * lane, FLOAT16) : 0;
            for (int i = 0; i < 32; i++) {
                int code = (BYTE(i % 16) >> 4 * (i / 16) & 15) | (BYTE(16 + i % 4) >> i / 4 & 1) << 4;
                out[i] = m->layout == Q5_1 ? scale * code + offset : scale * (code - 16);
            }
            break;
        }
        case Q8_0:
            for (int i = 0; i < 32; i++)
                out[i] = scale * (int8_t)BYTE(i);
            break;
        case Q4_K:
        case Q5_K: {
            float offset = number_at(scales + 32 + 2 * lane, FLOAT16);
            for (int g = 0; g < 8; g++) {
                float one = scale * scales[64 + LANES * g + lane], less = offset * scales[192 + LANES * g + lane];
                for (int i = 0; i < 32; i++) {
                    int code = BYTE(32 * (g / 2) + i) >> 4 * (g & 1) & 15;
                    if (m->layout == Q5_K)
                        code |= (BYTE(128 + i) >> g & 1) << 4;
                    out[32 * g + i] = one * code - less;
                }
            }
            break;
        }
        case Q6_K:
            for (int g = 0; g < 16; g++) {
                float one = scale * (int8_t)scales[32 + LANES * g + lane];
                int h = g / 8, part = g / 2 % 4;
                for (int i = 16 * (g & 1); i < 16 * (g & 1) + 16; i++) {
                    int code = BYTE(64 * h + 32 * (part & 1) + i) >> 4 * (part >> 1) & 15;
                    code |= (BYTE(128 + 32 * h + i) >> 2 * part & 3) << 4;
                    out[128 * h + 32 * part + i] = one * (code - 32);
                }
            }
            break;
        default: { /* AFFINE4, AFFINE8 */
            float one = number_at(scales + size * lane, m->number);
            float offset = number_at(scales + size * (LANES + lane), m->number);
            for (int i = 0; i < m->block; i++) {
                int code = m->layout == AFFINE8 ? BYTE(i) : CODE(i / 8) >> 4 * (i % 8) & 15;
                out[i] = one * code + offset;
            }
        }
        }
    }
}

/* The rows `ids` of a matrix as floats, out [count, columns]. */
EXPORT void likely_rows(const matrix_t *m, const int *ids, int count, float *out) {
    for (int i = 0; i < count; i++)
        unpack_row(m, ids[i], out + (long)i * m->columns);
}

/* --- products --------------------------------------------------------------------------------------------------- */

static long of_term(int rows, int columns) {
    return (long)rows * (columns + columns / SUMMED);
}

EXPORT long likely_arranged(int rows, int columns) {
    return TERMS * of_term(rows, columns) + (long)rows * columns;
}

typedef struct {
    const float *x;
    long next;
    int rows, columns, order, each; /* each: rows of a part */
    float *left, *out; /* left: where what 16 bits leave of x is put, to be arranged instead; or null */
} arrange_t;

static void arrange_part(void *context, int part) {
    const arrange_t *a = context;
    int first = part * a->each, left = a->rows - first;
    int rows = left < a->each ? left : a->each;
    for (int row = first; a->left && row < first + rows; row++)
        kernels->left_over(a->x + row * a->next, a->columns, a->left + (long)row * a->columns);
    kernels->arrange(a->left ? a->left : a->x, a->left ? a->columns : a->next, first, rows, a->columns, a->order,
                     a->out);
}

/* How a matrix wants its activations. Those of 8 bits are for codes of at most 5: wider ones gain nothing by them. */
static int order_of(const matrix_t *m, int bits) {
    static const int few[LAYOUTS] = {[Q4_0] = HALVES8, [Q4_1] = HALVES8, [Q5_0] = BYTES8,     [Q5_1] = BYTES8,
                                     [Q4_K] = BYTES8,  [Q5_K] = BYTES8,  [AFFINE4] = NIBBLES8};
    static const int orders[LAYOUTS] = {[Q4_0] = HALVES, [Q4_1] = HALVES,     [Q5_0] = BYTES, [Q5_1] = BYTES,
                                        [Q8_0] = SIGNED, [Q4_K] = BYTES,      [Q5_K] = BYTES, [Q6_K] = SIGNED,
                                        [AFFINE4] = NIBBLES, [AFFINE8] = BYTES};
    return bits == 8 && few[m->layout] ? few[m->layout] : orders[m->layout];
}

/* Whether two matrices want the same activations. */
int likely_alike(const matrix_t *a, const matrix_t *b) {
    return order_of(a, 16) == order_of(b, 16) && order_of(a, 8) == order_of(b, 8);
}

static activations_t arranged(const float *x, long next, int rows, int columns, int order, float *left, float *out) {
    arrange_t all = {x, next, rows, columns, order, rows > 16 ? 16 : rows, left, out};
    share(arrange_part, &all, (rows - 1) / all.each + 1);
    return (activations_t){out, rows, columns, order};
}

/* x [rows, next] as a matrix wants it in 8, 16 or 24 `bits`, put into `work` (`likely_arranged`). Returns how many
 * terms it has. */
int likely_arrange(const matrix_t *m, const float *x, long next, int rows, int bits, float *work,
                   activations_t *terms) {
    int order = order_of(m, bits), columns = m->columns;
    terms[0] = arranged(x, next, rows, columns, order, 0, work);
    if (bits != 24 || order == PLAIN || !kernels->left_over)
        return 1;
    work += of_term(rows, columns);
    terms[1] = arranged(x, next, rows, columns, order_of(m, 8), work + of_term(rows, columns), work);
    return 2;
}

enum { PART = 32 * 1024, MOST_PARTS = 64, ROUND = 4 }; /* bytes of a part, about; parts; panels that go together */
enum { TOGETHER = 3 };                                 /* matrices of one input */

typedef struct {
    const matrix_t *const *m;
    const activations_t *terms;
    int of; /* how many terms */
    float *const *y;
    const long *next;
    int add, count, starts[TOGETHER + 1], panels[TOGETHER]; /* the first part of each matrix, and panels of a part */
} multiply_t;

static void multiply_part(void *context, int part) {
    const multiply_t *a = context;
    int i = 0;
    while (part >= a->starts[i + 1])
        i++;
    int first = (part - a->starts[i]) * a->panels[i], end = (a->m[i]->rows + LANES - 1) / LANES;
    if (first + a->panels[i] < end)
        end = first + a->panels[i];
    for (int t = 0; t < a->of; t++) /* the panels are in a cache by the second */
        kernels->multiply(a->m[i], a->terms + t, first, end, a->y[i], a->next[i], a->add || t);
}

/* y[i] [rows, next[i]] = x m[i]^T for up to TOGETHER matrices of one input, the sum `of` so many terms; added to what
 * is there with `add`. */
void likely_multiply(const matrix_t *const *m, int count, const activations_t *terms, int of, float *const *y,
                     const long *next, int add) {
    multiply_t all = {m, terms, of, y, next, add, count, {0}, {0}};
    for (int i = 0; i < count; i++) {
        int panels = (m[i]->rows + LANES - 1) / LANES;
        long parts = m[i]->panel * panels / PART;
        parts = parts < 1 ? 1 : parts > MOST_PARTS ? MOST_PARTS : parts;
        all.panels[i] = ((panels + parts - 1) / parts + ROUND - 1) / ROUND * ROUND;
        all.starts[i + 1] = all.starts[i] + (panels - 1) / all.panels[i] + 1;
    }
    share(multiply_part, &all, all.starts[count]);
}

/* y [rows, next_y] = x m^T for x [rows, next_x], its activations in 8, 16 or 24 `bits`; `work` has room for them
 * (`likely_arranged`). */
EXPORT void likely_product(const matrix_t *m, const float *x, long next_x, int rows, float *y, long next_y, int add,
                           int bits, float *work) {
    activations_t terms[TERMS];
    int of = likely_arrange(m, x, next_x, rows, bits, work, terms);
    likely_multiply(&m, 1, terms, of, &y, &next_y, add);
}
