/* One-row products on the fast path.
 *
 * mlx calls cblas_sgemm for every float32 matmul. With one row of activations, which is all that decoding ever does,
 * OpenBLAS's x86 gemm packs the whole weight matrix first and moves it three times; its gemv reads it once. This
 * library stands in front of both: a row goes to gemv, everything else to the gemm that would have been called.
 *
 * Loaded by metal/blas/__init__.py, built by `make metal/blas`, no libc. */

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

typedef void (*gemm_t)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                       const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*gemv_t)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x,
                       int incx, float beta, float *y, int incy);

static gemm_t gemm;
static gemv_t gemv;

#define EXPORT __attribute__((visibility("default")))

EXPORT const char likely_source_sha256[] = SOURCE_SHA256;
EXPORT long likely_rows_to_gemv = 0; /* how often the fast path was taken: a test asks */

EXPORT void likely_blas_init(gemm_t real_gemm, gemv_t real_gemv) {
    gemm = real_gemm;
    gemv = real_gemv;
}

EXPORT void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                        const float *b, int ldb, float beta, float *c, int ldc) {
    if (order == ROW_MAJOR && m == 1) {
        /* c [1, n] = a [1, k] op(b); op(b) = b [k, n] or the transpose of b [n, k] */
        likely_rows_to_gemv++;
        if (tb == NO_TRANS)
            gemv(order, TRANS, k, n, alpha, b, ldb, a, ta == NO_TRANS ? 1 : lda, beta, c, 1);
        else
            gemv(order, NO_TRANS, n, k, alpha, b, ldb, a, ta == NO_TRANS ? 1 : lda, beta, c, 1);
        return;
    }
    gemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
