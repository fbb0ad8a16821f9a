/* A weight by a few rows of activations, read from memory once for all of them.
 *
 * An output is a sum of vectors of 8 in the order of the columns, then what does not fill a vector, whatever rows and
 * weights it is computed beside: so a row is the same to the bit alone or beside others, on one thread or several. */

#include "attention.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float V __attribute__((vector_size(32), aligned(4), may_alias));

enum { LANES = 8, TILE = 12 };  /* of a vector; outputs that stay in a cache for all rows */
enum { PART = 64 * 1024 };      /* numbers of what a thread takes at once, about */

/* W outputs of X rows; `fetch`: those TILE further on are wanted next. */
INLINE void tile(const int W, const int X, const int fetch, const product_t *p, const float *w, const float *x,
                 float *y) {
    V sums[W * X];
    int i = 0;
    for (int s = 0; s < W * X; s++)
        sums[s] = (V){0};
#define STEP(i)                                                                                                        \
    {                                                                                                                  \
        V some[W];                                                                                                     \
        _Pragma("unroll") for (int j = 0; j < W; j++) some[j] = *(const V *)(w + j * p->ldb + (i));                    \
        _Pragma("unroll") for (int r = 0; r < X; r++) {                                                                \
            V v = *(const V *)(x + r * p->next + (i));                                                                 \
            _Pragma("unroll") for (int j = 0; j < W; j++) sums[r * W + j] += some[j] * v;                              \
        }                                                                                                              \
    }
    for (; i + 2 * LANES <= p->k; i += 2 * LANES) { /* a cache line of each */
        if (fetch)
#pragma unroll
            for (int j = 0; j < W; j++)
                __builtin_prefetch(w + (j + TILE) * p->ldb + i, 0, 2);
        STEP(i)
        STEP(i + LANES)
    }
    if (i + LANES <= p->k) {
        STEP(i)
        i += LANES;
    }
    for (int r = 0; r < X; r++)
        for (int j = 0; j < W; j++) {
            V s = sums[r * W + j];
            float sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
            for (int c = i; c < p->k; c++)
                sum += w[j * p->ldb + c] * x[r * p->next + c];
            float *out = y + r * p->ldc + j;
            *out = p->beta ? p->alpha * sum + p->beta * *out : p->alpha * sum;
        }
}

/* `count` outputs of X rows, W at once. */
#define OUTPUTS(W, X)                                                                                                  \
    static void outputs_##X(const product_t *p, int fetch, const float *w, int count, const float *x, float *y) {      \
        int j = 0;                                                                                                     \
        for (; j + W <= count; j += W)                                                                                 \
            if (fetch)                                                                                                 \
                tile(W, X, 1, p, w + j * p->ldb, x, y + j);                                                            \
            else                                                                                                       \
                tile(W, X, 0, p, w + j * p->ldb, x, y + j);                                                            \
        for (; j < count; j++)                                                                                         \
            tile(1, X, 0, p, w + j * p->ldb, x, y + j);                                                                \
    }
OUTPUTS(4, 1) OUTPUTS(4, 2) OUTPUTS(3, 4)

static int outputs_of_part(const product_t *p) {
    int tiles = PART / TILE / (p->k > 0 ? p->k : 1);
    return (tiles > 1 ? tiles : 1) * TILE;
}

static void few_part(void *context, int part) {
    const product_t *p = context;
    int each = outputs_of_part(p), end = p->n - part * each < each ? p->n : (part + 1) * each;
    for (int j = part * each; j < end; j += TILE) {
        int count = end - j < TILE ? end - j : TILE;
        const float *w = p->b + j * p->ldb;
        for (int r = 0, rows; r < p->m; r += rows) {
            const float *x = p->a + r * p->next;
            float *y = p->c + r * p->ldc + j;
            rows = p->m - r >= 4 ? 4 : p->m - r >= 2 ? 2 : 1;
            (rows == 4 ? outputs_4 : rows == 2 ? outputs_2 : outputs_1)(p, r == 0, w, count, x, y);
        }
    }
}

#if defined(__x86_64__)
#pragma clang attribute pop
#endif

void likely_few(const product_t *p) {
    likely_share(few_part, (void *)p, (p->n - 1) / outputs_of_part(p) + 1);
}
