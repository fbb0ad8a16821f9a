/* Products of floats, and such of packed matrices with many rows, forth and back: a few panels at a time are floats. */

#ifndef FLOATS_H
#define FLOATS_H

#include "packed.h"

/* Where the numbers of a matrix lie: how far apart from row to row and from column to column. */
typedef struct {
    const float *at;
    long row, column;
} view_t;

INLINE view_t plain(const float *at, long next) {
    return (view_t){at, next, 1};
}

INLINE view_t turned(const float *at, long next) {
    return (view_t){at, 1, next};
}

INLINE int smaller(int a, int b) {
    return a < b ? a : b;
}

INLINE int larger(int a, int b) {
    return a > b ? a : b;
}

/* c [rows, next] (+)= a b; a [rows, k], b [k, columns]. `work` has room for `likely_gemm_floats`. */
void likely_gemm(int rows, int columns, int k, view_t a, view_t b, int add, float *c, long next, float *work);
long likely_gemm_floats(int columns);

/* y [rows, next_y] (+)= x [rows, next_x] m^T, and dx [rows, next_dx] (+)= dy [rows, next_dy] m. `work` has room for
 * `likely_floats`. */
void likely_forth(const matrix_t *m, const float *x, long next_x, int rows, float *y, long next_y, int add,
                  float *work);
void likely_go_back(const matrix_t *m, const float *dy, long next_dy, int rows, float *dx, long next_dx, int add,
                    float *work);
long likely_floats(const matrix_t *m);

#endif
