/* Products of a few rows on the fast path.
 *
 * mlx calls cblas_sgemm for every float32 matmul. With few rows of activations, which is all that decoding ever has,
 * OpenBLAS's x86 gemm packs the whole weight matrix first and moves it three times. This library stands in front of it.
 * Up to FEW rows go to few.c, which reads a weight once for all of them; where a processor has not what that wants, to
 * OpenBLAS's gemv, a block of the weight at a time, which the first row brings into the cache of a core for the others.
 * As few rows of short sums, which are queries and keys, and a product by LEAST, which stands for the softmax of its
 * first matrix, go to attention.c; everything else to the gemm that would have been called. A row comes out the same,
 * to the bit, however many are beside it (by gemv on one thread: blocks are multiples of the rows that it takes at
 * once).
 *
 * Loaded by metal/blas/__init__.py, built by `make metal/blas`, no libc. */

#include "attention.h"

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
#define LEAST -0x1.fffffep127f /* of the finite numbers: nobody's factor, so metal/host.py can give it a meaning */
enum { FEW = 8, BLOCK = 512 * 1024 / sizeof(float), TOGETHER = 32 }; /* measured: docs/decisions/blas.md */

typedef void (*gemm_t)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                       const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*gemv_t)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x,
                       int incx, float beta, float *y, int incy);

static gemm_t gemm;
static gemv_t gemv;

#define EXPORT __attribute__((visibility("default")))

EXPORT const char likely_source_sha256[] = SOURCE_SHA256;
EXPORT long likely_rows_to_gemv = 0; /* how often the fast path was taken: a test asks */

static int attention;

/* Whether attention's products have a path of their own on this processor. */
EXPORT int likely_blas_init(gemm_t real_gemm, gemv_t real_gemv, long (*libc_syscall)(long, ...)) {
    gemm = real_gemm;
    gemv = real_gemv;
    return attention = likely_attention_init(libc_syscall);
}

EXPORT void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                        const float *b, int ldb, float beta, float *c, int ldc) {
    long next = ta == NO_TRANS ? lda : 1; /* from one row of a to the next, and from one of its numbers to the next */
    int step = ta == NO_TRANS ? 1 : lda;
    if (attention && order == ROW_MAJOR && m <= QUERIES) {
        product_t p = {m, n, k, alpha, beta, a, b, next, step, ldb, ldc, c};
        if (alpha == LEAST && tb == NO_TRANS && n <= WIDTH) {
            likely_mix(&p);
            return;
        }
        if (tb == TRANS && k <= WIDTH && m <= FEW) {
            likely_scores(&p);
            return;
        }
    }
    if (order == ROW_MAJOR && m == 1 && tb == NO_TRANS) { /* b [k, n] */
        likely_rows_to_gemv++;
        gemv(order, TRANS, k, n, alpha, b, ldb, a, step, beta, c, 1);
        return;
    }
    if (order == ROW_MAJOR && m <= FEW && tb == TRANS) { /* b [n, k]: a weight */
        likely_rows_to_gemv += m;
        if (attention && step == 1 && n > 0) {
            product_t p = {m, n, k, alpha, beta, a, b, next, step, ldb, ldc, c};
            likely_few(&p);
            return;
        }
        int block = m == 1 || k < 1 ? n : BLOCK / k / TOGETHER * TOGETHER;
        if (block < TOGETHER)
            block = TOGETHER;
        for (int j = 0; j < n; j += block)
            for (int i = 0; i < m; i++)
                gemv(order, NO_TRANS, n - j < block ? n - j : block, k, alpha, b + (long)j * ldb, ldb, a + i * next,
                     step, beta, c + (long)i * ldc + j, 1);
        return;
    }
    gemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
