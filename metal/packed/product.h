/* Products of a few rows of activations with the panels of a matrix: in floats, or with WORDS in 16-bit numbers, or
 * where they are asked for in 8-bit ones (`bytes.h`).
 *
 * P panels by R rows at once: for each pair one vector of sums over a block, in the order of the codes, and one over
 * the row, to which a block's sums come with its scale. So a row's result is the same, to the bit, whatever stands
 * beside it. Panels of codes go one after the other: memory is fastest in one stream, and while a block's sums wait for
 * each other the processor has those of the next under way. Floats are summed over the whole row, so they want several
 * panels at once, and so do codes that are multiplied as floats. What comes next is fetched meanwhile. */

#define EACH(r) _Pragma("unroll") for (int r = 0; r < R; r++)
#define EVERY(p) _Pragma("unroll") for (int p = 0; p < P; p++)
#define BOTH(i) _Pragma("unroll") for (int i = 0; i < P * R; i++)

#define OF_BLOCK const uint8_t *scales, const uint8_t *codes, long apart, const float *x, const float *sums, F *total
#define TEMPLATE const int P, const int R

enum { FURTHER = 8 * 1024 }; /* bytes: 32 GB/s come 2 kB ahead, 39 this far, no more further on */

/* Word n of each panel's block, and what is fetched meanwhile: what lies further on, or what will stand there when the
 * next panels come. */
#define WORD(n, p) LOAD(I, codes + (p) * apart + (n) * 64L)
#define FETCH(n, p) FETCH_FROM(codes + (n) * 64L, p)
#define FETCH_FROM(at, p) __builtin_prefetch((at) + (p) * apart + (P == 1 ? FURTHER : P * apart), 0, 3)

/* total[p, r] += what `sum` came to, of columns whose activations have scale g, times a vector that may name `p`. */
#define SCALED(total, sum, g, scale)                                                                                   \
    EVERY(p) {                                                                                                         \
        F s = scale;                                                                                                   \
        EACH(r) total[p * R + r] += SUMMED_UP(sum, p * R + r, g) * s;                                                  \
    }
#define SHIFTED(total, g, offset)                                                                                      \
    EVERY(p) {                                                                                                         \
        F o = offset;                                                                                                  \
        EACH(r) total[p * R + r] += o * sums[(g) * R + r];                                                             \
    }

#define K(p) (scales + (p) * apart) /* each panel's scales of a block */
#define OF_BLOCKS OF_BLOCK, const float *factors, const int *less
#define BEGIN(sum, g)                                                                                                  \
    SUM sum[P * R];                                                                                                    \
    BOTH(i) sum[i] = (SUM){0};

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

#define OF_FEW_BITS(X, P, R)                                                                                           \
    X(P, R, Q4_0) X(P, R, Q4_1) X(P, R, Q5_0) X(P, R, Q5_1) X(P, R, Q4_K) X(P, R, Q5_K) X(P, R, AFFINE4)
#include "bytes.h"

/* A run of sums: `sum` begins at zero, takes words, and is `summed`, [P, R] floats, in the end. */
#if WORDS
/* Codes and activations are 16-bit numbers, two in a word; the activations of SUMMED columns share a scale. */
#define SUM I
#define FACTORS 1
#define ACTIVATIONS(columns) ((columns) / 2)
#define SCALES_OF(sums, all) ((sums) + (all) / SUMMED * R)
#define ADD(sum, value, at)                                                                                            \
    EVERY(p) {                                                                                                         \
        I v = value;                                                                                                   \
        EACH(r) sum[p * R + r] = dot(sum[p * R + r], v, (const int *)x + (long)(at) * R + r, R > 1);                   \
    }
#define ADD_NIBBLES(sum, w, n, halves)                                                                                 \
    _Pragma("unroll") for (int j = 0; j < 4; j += 2)                                                                   \
        ADD_TWO(sum, (I)((U)w[p] >> 4 * j) & 0x000f000f, (I)((U)w[p] >> 4 * (j + 1)) & 0x000f000f, 4 * (n) + j)
#define ADD_BYTES(sum, w, sign, n)                                                                                     \
    ADD_TWO(sum, pair_of_bytes(w[p], 0, sign), pair_of_bytes(w[p], 1, sign), 2 * (n))
#if WORDS == 512
/* Of every four words the last two go in a pair where two panels go by eight rows: a b + c d =
 * (a + d) (c + b) - a c - b d, so that half of the products are sums, which the processor has other units for
 * (Winograd, A New Algorithm for Inner Product, 1968). What all a c come to is known of the activations, and `less`;
 * b d of the codes is `crossed`, and common to all rows. Whole numbers are the same whichever way, and wrap
 * meanwhile. */
#define PAIRED (P == 2 && R == 8)
#undef BEGIN
#define BEGIN(sum, g)                                                                                                  \
    I sum[P * R], crossed[2];                                                                                          \
    EVERY(p) crossed[p] = (I){0};                                                                                      \
    BOTH(i) sum[i] = PAIRED ? (I){0} + less[(g) * R + (i) % R] : (I){0};
#define ADD_TWO(sum, first, second, at)                                                                                \
    if (PAIRED && ((at) & 2)) {                                                                                        \
        I one[2], two[2];                                                                                              \
        EVERY(p) {                                                                                                     \
            one[p] = first, two[p] = second;                                                                           \
            crossed[p] = dot_of(crossed[p], one[p], two[p]);                                                           \
        }                                                                                                              \
        EACH(r) {                                                                                                      \
            const int *pair = (const int *)x + (long)(at) * R + r;                                                     \
            I a = (I){0} + pair[0], c = (I){0} + pair[R];                                                              \
            EVERY(p) sum[p * R + r] = dot_of(sum[p * R + r], (I)((W)a + (W)two[p]), (I)((W)c + (W)one[p]));            \
        }                                                                                                              \
    } else {                                                                                                           \
        ADD(sum, first, at)                                                                                            \
        ADD(sum, second, (at) + 1)                                                                                     \
    }
#define SUMMED_UP(sum, i, g) (FLOATS(PAIRED ? sum[i] - crossed[(i) / R] : sum[i]) * factors[(g) * R + (i) % R])
#else
#define ADD_TWO(sum, first, second, at)                                                                                \
    {                                                                                                                  \
        ADD(sum, first, at)                                                                                            \
        ADD(sum, second, (at) + 1)                                                                                     \
    }
#define SUMMED_UP(sum, i, g) (FLOATS(sum[i]) * factors[(g) * R + (i) % R])
#endif
#else
/* Floats, the codes where they stand in their word. */
#define SUM F
#define FACTORS 0
#define ACTIVATIONS(columns) (columns)
#define SCALES_OF(sums, all) (sums) /* none */
#define ADD(sum, value, at)                                                                                            \
    EVERY(p) {                                                                                                         \
        F v = value;                                                                                                   \
        EACH(r) sum[p * R + r] += v * x[(long)(at) * R + r];                                                           \
    }
#define ADD_NIBBLES(sum, w, n, halves)                                                                                 \
    _Pragma("unroll") for (int j = 0; j < 8; j++)                                                                      \
        ADD(sum, cut(w[p], j, 4), halves ? 4 * (n) + (j >> 1) + 16 * (j & 1) : 8 * (n) + j)
#define ADD_BYTES(sum, w, sign, n)                                                                                     \
    _Pragma("unroll") for (int j = 0; j < 4; j++)                                                                      \
        ADD(sum, sign ? signed_byte(w[p], j) : cut(w[p], j, 8), 4 * (n) + j)
#define SUMMED_UP(sum, i, g) (sum[i])
#endif

#define NAMED(kind) kind
#define OF_FLOATS(X, P, R) X(P, R, FLOAT)
#define OF_LAYOUTS(X, P, R) OF_FEW_BITS(X, P, R) X(P, R, Q8_0) X(P, R, Q6_K) X(P, R, AFFINE8) OF_FLOATS(X, P, R)
#include "panels.h"

/* For 1, 2, 4 and 8 rows: how many panels at once, where there are several. */
#if WORDS
#define OF_SEVERAL OF_FLOATS
#else
#define OF_SEVERAL OF_LAYOUTS
#endif
#define SEVERAL_OF(P, R) {OF_SEVERAL(ENTRY_OF, P, R)}
#if MOST == 8
static const int many[] = {4, 4, 2, 2};
#define OF_PAIRED(X, P, R) OF_FEW_BITS(X, P, R) X(P, R, Q8_0) X(P, R, AFFINE8)
OF_SEVERAL(BLOCK_OF, 4, 1) OF_SEVERAL(BLOCK_OF, 4, 2) OF_SEVERAL(BLOCK_OF, 2, 4) OF_PAIRED(BLOCK_OF, 2, 8)
static const block_t several[4][LAYOUTS] = {
    SEVERAL_OF(4, 1), SEVERAL_OF(4, 2), SEVERAL_OF(2, 4), {OF_PAIRED(ENTRY_OF, 2, 8)}};
#elif MOST == 4
static const int many[] = {2, 1, 1, 1};
OF_SEVERAL(BLOCK_OF, 2, 1)
static const block_t several[4][LAYOUTS] = {SEVERAL_OF(2, 1)};
#elif MOST == 2
static const int many[] = {2, 1};
OF_SEVERAL(BLOCK_OF, 2, 1)
static const block_t several[4][LAYOUTS] = {SEVERAL_OF(2, 1)};
#else
static const int many[] = {1};
static const block_t several[4][LAYOUTS] = {{0}};
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

#if WORDS == 256
#include "tile.h"
#endif

/* Panels first..end-1 by all rows. */
static void multiply(const matrix_t *m, const activations_t *x, int first, int end, float *y, long next, int add) {
    long each = x->columns + x->columns / SUMMED; /* floats of a row */
    const int bytes = x->order >= HALVES8;
    const block_t(*one)[LAYOUTS] = bytes ? blocks_8 : blocks;
    for (int some = 0, last; some < x->rows; some = last) {
        last = some + AT_ONCE < x->rows ? some + AT_ONCE : x->rows;
        int which, most;
#if WORDS == 256
        if (last - some >= MANY && m->layout <= Q6_K && !bytes) {
            for (int p = first; p < end; p++)
                by_tiles(m, p, x, some, last, y, next, add);
            continue;
        }
#endif
        together(last - some, &which);
        most = several[which][m->layout] && !bytes ? many[which] : 1;
        for (int p = first, n; p < end; p += n) {
            n = p + most <= end ? most : 1;
            const uint8_t *at = m->data + p * m->panel;
            int left = m->rows - p * LANES, outputs = left < n * LANES ? left : n * LANES;
            for (int r = some, count; r < last; r += count) {
                count = together(x->rows - r, &which);
                float *to = y + r * next + p * LANES;
                const float *from = x->values + r * each;
                if (n > 1 && n == many[which] && several[which][m->layout])
                    several[which][m->layout](m, at, from, outputs, to, next, add);
                else
                    for (int i = 0; i < n; i++) {
                        int rest = outputs - i * LANES;
                        one[which][m->layout](m, at + i * m->panel, from, rest < LANES ? rest : LANES,
                                                            to + i * LANES, next, add);
                    }
            }
        }
    }
}

enum { MOST_WHOLE = 32767 - 255 }; /* of 16 bits: a code that is added to it leaves room */

/* The size of floats as a whole number, in their order. */
INLINE I sizes(F x) {
    return (I)x & 0x7fffffff;
}

INLINE I larger_of(I a, I b) {
    I more = a > b;
    return (more & a) | (~more & b);
}

/* What activations are multiplied by to be whole numbers up to `limit`, by the largest; 0 for those below 1e-34, which
 * are as good as none. */
INLINE F scale_of(F most, float limit) {
    F scale = limit / most;
    return (F)((scale < __builtin_inff()) & (most > 0) & (I)scale);
}

/* What their numbers are multiplied by. What is no number stays none. */
INLINE F factor_of(F most, float limit) {
    return most * (1 / limit) + 0 * most;
}

INLINE I whole_numbers(F x, F scale) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to a whole number */
    return __builtin_convertvector((x * scale + magic) - magic, I);
}

/* SUMMED activations as whole numbers up to `limit`, what they are multiplied by, and their sum as rounded: a code's
 * offset then weighs what its number weighs. */
INLINE void rounded(const float *x, float limit, I *low, I *high, float *factor, float *total) {
    F a = LOAD(F, x), b = LOAD(F, x + LANES);
    int size = __builtin_reduce_max(larger_of(sizes(a), sizes(b)));
    F most = (F)((I){0} + size), scale = scale_of(most, limit);
    *factor = factor_of(most, limit)[0];
    *low = whole_numbers(a, scale);
    *high = whole_numbers(b, scale);
    *total = sum(FLOATS(*low + *high)) * *factor; /* whole numbers below 2^21: exact */
}

#if MOST == 8
#define FOLDED(fold, a, b, n)                                                                                          \
    fold(__builtin_shufflevector(a, b, LEFT_OF_##n), __builtin_shufflevector(a, b, RIGHT_OF_##n))
#define LEFT_OF_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define RIGHT_OF_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define LEFT_OF_4 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define RIGHT_OF_4 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#define LEFT_OF_2 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29
#define RIGHT_OF_2 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31
#define LEFT_OF_1 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define RIGHT_OF_1 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define SUM_OF(a, b) ((a) + (b))
#define EIGHT_FOLDED(fold, x)                                                                                          \
    I two[4], four[2], of_eight;                                                                                       \
    _Pragma("unroll") for (int i = 0; i < 4; i++) two[i] = FOLDED(fold, x[2 * i], x[2 * i + 1], 8);                    \
    _Pragma("unroll") for (int i = 0; i < 2; i++) four[i] = FOLDED(fold, two[2 * i], two[2 * i + 1], 4);               \
    of_eight = FOLDED(fold, four[0], four[1], 2);                                                                      \
    return FOLDED(fold, of_eight, of_eight, 1);

/* The largest of each of eight vectors, and their sums, in the first eight places. */
INLINE I largest_of_eight(const I *x) {
    EIGHT_FOLDED(larger_of, x)
}

INLINE I sums_of_eight(const I *x) {
    EIGHT_FOLDED(SUM_OF, x)
}

/* `rounded` for eight rows `next` apart: the same numbers. */
INLINE void eight_rounded(const float *x, long next, float limit, I *low, I *high, float *factors, float *totals) {
    I most[8], both[8];
    float scales[LANES] __attribute__((aligned(64)));
#pragma unroll
    for (int r = 0; r < 8; r++)
        most[r] = larger_of(sizes(LOAD(F, x + r * next)), sizes(LOAD(F, x + r * next + LANES)));
    F largest = (F)largest_of_eight(most), factor = factor_of(largest, limit);
    *(F *)scales = scale_of(largest, limit);
#pragma unroll
    for (int r = 0; r < 8; r++) {
        low[r] = whole_numbers(LOAD(F, x + r * next), all(scales[r]));
        high[r] = whole_numbers(LOAD(F, x + r * next + LANES), all(scales[r]));
        both[r] = low[r] + high[r];
    }
    *(F8 *)factors = HALF(0, factor);
    F total = FLOATS(sums_of_eight(both)) * factor;
    *(F8 *)totals = HALF(0, total);
}
#endif

/* Whole numbers of SUMMED columns as 8-bit ones, four in a word, in the order in which codes come: words `count`
 * apart. */
INLINE void put_bytes(I low, I high, int order, int count, int *to) {
#define FOUR_OF(a, step) a, a + step, a + 2 * (step), a + 3 * (step)
    typedef int8_t all_t __attribute__((vector_size(SUMMED)));
    S a = __builtin_convertvector(low, S), b = __builtin_convertvector(high, S);
    all_t all;
    if (order == HALVES8)
        all = __builtin_shufflevector(a, b, FOUR_OF(0, 1), FOUR_OF(16, 1), FOUR_OF(4, 1), FOUR_OF(20, 1), FOUR_OF(8, 1),
                                      FOUR_OF(24, 1), FOUR_OF(12, 1), FOUR_OF(28, 1));
    else if (order == NIBBLES8)
        all = __builtin_shufflevector(a, b, FOUR_OF(0, 2), FOUR_OF(1, 2), FOUR_OF(8, 2), FOUR_OF(9, 2), FOUR_OF(16, 2),
                                      FOUR_OF(17, 2), FOUR_OF(24, 2), FOUR_OF(25, 2));
    else
        all = __builtin_shufflevector(a, b, FOUR_OF(0, 1), FOUR_OF(4, 1), FOUR_OF(8, 1), FOUR_OF(12, 1), FOUR_OF(16, 1),
                                      FOUR_OF(20, 1), FOUR_OF(24, 1), FOUR_OF(28, 1));
    int words[SUMMED / 4];
    __builtin_memcpy(words, &all, sizeof words);
    for (int i = 0; i < SUMMED / 4; i++)
        to[i * count] = words[i];
}

static void arrange_bytes(const float *x, int columns, int order, int count, int r, float *out) {
    float *sums = out + (long)columns / 4 * count, *scales = sums + columns / SUMMED * count;
    for (int g = 0; g < columns / SUMMED; g++, x += SUMMED) {
        I low, high;
        rounded(x, 127, &low, &high, scales + g * count + r, sums + g * count + r);
        put_bytes(low, high, order, count, (int *)out + (long)g * (SUMMED / 4) * count + r);
    }
}

#if WORDS

/* Which columns of SUMMED are in the low halves of the words, in the order in which codes come; n more: in the high. */
#define IN_HALVES(n)                                                                                                   \
    0 + n, 16 + n, 1 + n, 17 + n, 4 + n, 20 + n, 5 + n, 21 + n,                                                        \
        8 + n, 24 + n, 9 + n, 25 + n, 12 + n, 28 + n, 13 + n, 29 + n
#define IN_NIBBLES(n)                                                                                                  \
    0 + n, 1 + n, 2 + n, 3 + n, 8 + n, 9 + n, 10 + n, 11 + n,                                                          \
        16 + n, 17 + n, 18 + n, 19 + n, 24 + n, 25 + n, 26 + n, 27 + n
#define IN_BYTES(n)                                                                                                    \
    0 + n, 1 + n, 4 + n, 5 + n, 8 + n, 9 + n, 12 + n, 13 + n,                                                          \
        16 + n, 17 + n, 20 + n, 21 + n, 24 + n, 25 + n, 28 + n, 29 + n

/* Whole numbers of SUMMED columns as 16-bit ones, two in a word. */
INLINE I words_of(I low, I high, int order) {
#define TAKE(columns) __builtin_shufflevector(low, high, columns)
    I first, second;
    if (order == HALVES)
        first = TAKE(IN_HALVES(0)), second = TAKE(IN_HALVES(2));
    else if (order == NIBBLES)
        first = TAKE(IN_NIBBLES(0)), second = TAKE(IN_NIBBLES(4));
    else
        first = TAKE(IN_BYTES(0)), second = TAKE(IN_BYTES(2));
    return (first & 0xffff) | second << 16;
}

/* What 16 bits leave of activations. */
static void left_over(const float *x, int columns, float *out) {
    for (int c = 0; c < columns; c += SUMMED) {
        I low, high;
        float factor, total;
        rounded(x + c, MOST_WHOLE, &low, &high, &factor, &total);
        *(F *)(out + c) = LOAD(F, x + c) - FLOATS(low) * factor;
        *(F *)(out + c + LANES) = LOAD(F, x + c + LANES) - FLOATS(high) * factor;
    }
}

static void arrange_words(const float *x, int columns, int order, int count, int r, float *out) {
    float *sums = out + (long)columns / 2 * count, *scales = sums + columns / SUMMED * count;
    for (int g = 0; g < columns / SUMMED; g++, x += SUMMED) {
        I low, high;
        rounded(x, MOST_WHOLE, &low, &high, scales + g * count + r, sums + g * count + r);
        I words = words_of(low, high, order);
        int *to = (int *)out + (long)g * LANES * count + r;
        if (count == 1)
            *(I *)to = words;
        else
            for (int i = 0; i < LANES; i++)
                to[i * count] = words[i];
    }
}

#if MOST == 8
/* Eight rows `next` apart, in 8 bits or 16. */
static void arrange_eight(const float *x, long next, int columns, int order, float *out) {
    int bytes = order >= HALVES8, of_row = SUMMED / (bytes ? 4 : 2); /* words */
    float *sums = out + (long)columns / SUMMED * of_row * 8, *scales = sums + columns / SUMMED * 8;
    float *less = scales + columns / SUMMED * 8;
    for (int g = 0; g < columns / SUMMED; g++, x += SUMMED, sums += 8, scales += 8) {
        I low[8], high[8], words[8], mixed[8], *to = (I *)out + (long)g * 8;
        eight_rounded(x, next, bytes ? 127 : MOST_WHOLE, low, high, scales, sums);
        if (bytes) {
            for (int r = 0; r < 8; r++)
                put_bytes(low[r], high[r], order, 8, (int *)out + (long)g * of_row * 8 + r);
            continue;
        }
#pragma unroll
        for (int r = 0; r < 8; r++)
            words[r] = words_of(low[r], high[r], order);
#pragma unroll
        for (int turn = 0; turn < 3; turn++) { /* each makes a row's bit the last of a word's place */
#pragma unroll
            for (int r = 0; r < 4; r++) {
                mixed[2 * r] = __builtin_shufflevector(words[r], words[r + 4], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                                       6, 22, 7, 23);
                mixed[2 * r + 1] = __builtin_shufflevector(words[r], words[r + 4], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                                           13, 29, 14, 30, 15, 31);
            }
#pragma unroll
            for (int r = 0; r < 8; r++)
                words[r] = mixed[r];
        }
        I all_less = {0};
#pragma unroll
        for (int r = 0; r < 8; r++) {
            to[r] = words[r];
            if (r & 1) /* a vector holds two words of eight rows */
                all_less = dot_of(all_less, words[r], __builtin_shufflevector(words[r], words[r], 8, 9, 10, 11, 12, 13,
                                                                              14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
        }
        all_less = -all_less;
        *(F8 *)less = HALF(0, (F)all_less);
        less += 8;
    }
}
#endif

#else

/* What a column's activation is multiplied by, so that its code may stand where it does: 2^-at. */
static const float *factors_of(int order) {
#define NIBBLE(j) ((j) == 7 ? 1 : 1.0f / (1 << 4 * ((j) % 7)))
#define FOUR(odd) NIBBLE(odd), NIBBLE(2 + odd), NIBBLE(4 + odd), NIBBLE(6 + odd)
#define EIGHT NIBBLE(0), NIBBLE(1), NIBBLE(2), NIBBLE(3), NIBBLE(4), NIBBLE(5), NIBBLE(6), NIBBLE(7)
#define BYTE 1, 0x1p-8f, 0x1p-16f, 1
#define ONES 1, 1, 1, 1, 1, 1, 1, 1
    static const float table[ORDERS][SUMMED] = {
        [PLAIN] = {ONES, ONES, ONES, ONES},
        [HALVES] = {FOUR(0), FOUR(0), FOUR(0), FOUR(0), FOUR(1), FOUR(1), FOUR(1), FOUR(1)},
        [NIBBLES] = {EIGHT, EIGHT, EIGHT, EIGHT},
        [BYTES] = {BYTE, BYTE, BYTE, BYTE, BYTE, BYTE, BYTE, BYTE},
        [SIGNED] = {ONES, ONES, ONES, ONES},
    };
    return table[order];
}

#endif

static void arrange_floats(const float *x, int columns, int order, int count, int r, float *out) {
#if WORDS
    static const float *by = 0;
#else
    const float *by = order == PLAIN || order == SIGNED ? 0 : factors_of(order);
#endif
    float *sums = out + (long)columns * count;
    if (by)
        for (int c = 0; c < columns; c++)
            out[(long)c * count + r] = x[c] * by[c % SUMMED];
    else if (count == 1)
        __builtin_memcpy(out, x, columns * sizeof(float));
    else
        for (int c = 0; c < columns; c++)
            out[(long)c * count + r] = x[c];
    for (int g = 0; g < columns / SUMMED; g++)
        sums[g * count + r] = sum(LOAD(F, x + SUMMED * g) + LOAD(F, x + SUMMED * g + LANES));
}

/* Rows first.. of x [*, next] as activations; `first` is a multiple of MOST. */
static void arrange(const float *x, long next, int first, int rows, int columns, int order, float *out) {
    long each = columns + columns / SUMMED;
    for (int row = first, which, count; row < first + rows; row += count) {
        count = together(first + rows - row, &which);
#if MOST == 8
        if (count == 8 && order != PLAIN) {
            arrange_eight(x + row * next, next, columns, order, out + row * each);
            continue;
        }
#endif
        for (int r = 0; r < count; r++)
            if (order >= HALVES8)
                arrange_bytes(x + (row + r) * next, columns, order, count, r, out + row * each);
            else
#if WORDS
            if (order != PLAIN)
                arrange_words(x + (row + r) * next, columns, order, count, r, out + row * each);
            else
#endif
                arrange_floats(x + (row + r) * next, columns, order, count, r, out + row * each);
    }
}
