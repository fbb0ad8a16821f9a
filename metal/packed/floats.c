#include "floats.h"

/* Inner numbers of a product and rows of it at a time, and numbers of a matrix that are floats at once, about: those
 * stay in a cache. */
enum { DEEP = 256, TALL = 96, FLOATS = 1 << 17 };

typedef struct {
    view_t a;
    const float *b; /* packed */
    int rows, columns, deep;
    float *c;
    long next;
    int add, apart; /* apart: rows of b from one group of columns to the next, if more than deep */
} gemm_t;

static void gemm_part(void *context, int part) {
    const gemm_t *g = context;
    int first = part * TALL, rows = smaller(TALL, g->rows - first), apart = larger(g->deep, g->apart);
    likely_kernels()->gemm(rows, g->deep, g->a.at + first * g->a.row, g->a.row, g->a.column, g->b,
                           (long)apart * likely_kernels()->wide, g->c + first * g->next, g->next, g->columns, g->add);
}

long likely_gemm_floats(int columns) {
    return (long)DEEP * ((columns + 63) / 64 * 64);
}

void likely_gemm(int rows, int columns, int k, view_t a, view_t b, int add, float *c, long next, float *work) {
    const kernels_t *kernels = likely_kernels();
    for (int first = 0; first < k; first += DEEP, add = 1) {
        int deep = smaller(DEEP, k - first), wide = kernels->wide;
        for (int column = 0; column < columns; column += wide)
            kernels->gemm_pack(deep, b.at + first * b.row + column * b.column, b.row, b.column,
                               smaller(wide, columns - column), work + (long)column * deep);
        gemm_t g = {{a.at + first * a.column, a.row, a.column}, work, rows, columns, deep, c, next, add, 0};
        share(gemm_part, &g, (rows + TALL - 1) / TALL);
    }
}

/* Panels of a matrix as floats, a few at a time. */
typedef struct {
    const matrix_t *m;
    int first, deep; /* panel; rows of those for the way back */
    float *out;
} floats_t;

static void columns_part(void *context, int part) {
    const floats_t *f = context;
    int across = likely_kernels()->wide / LANES;
    long each = (long)f->m->columns * across * LANES;
    likely_kernels()->columns_of(f->m, f->first + part, f->out + part / across * each + part % across * LANES);
}

static void rows_part(void *context, int part) {
    const floats_t *f = context;
    long wide = likely_kernels()->wide;
    likely_kernels()->rows_of(f->m, f->first + part, f->deep * wide, f->out + part * LANES * wide);
}

static int panels(const matrix_t *m) {
    return (m->rows + LANES - 1) / LANES;
}

/* Panels that are floats at once on the way forward: of `FLOATS` numbers, about. */
static int some_panels(const matrix_t *m) {
    return larger(1, FLOATS / (4 * LANES * m->columns)) * 4;
}

long likely_floats(const matrix_t *m) {
    long forward = (long)some_panels(m) * LANES * m->columns, backward = likely_gemm_floats(m->columns);
    return forward > backward ? forward : backward;
}

void likely_forth(const matrix_t *m, const float *x, long next_x, int rows, float *y, long next_y, int add,
                  float *work) {
    for (int first = 0, count; first < panels(m); first += count) {
        count = smaller(some_panels(m), panels(m) - first);
        floats_t f = {m, first, 0, work};
        share(columns_part, &f, count);
        int outputs = smaller(count * LANES, m->rows - first * LANES);
        gemm_t g = {plain(x, next_x), work, rows, outputs, m->columns, y + first * LANES, next_y, add};
        share(gemm_part, &g, (rows + TALL - 1) / TALL);
    }
}

void likely_go_back(const matrix_t *m, const float *dy, long next_dy, int rows, float *dx, long next_dx, int add,
                 float *work) {
    for (int first = 0; first < m->rows; first += DEEP, add = 1) {
        int deep = smaller(DEEP, m->rows - first);
        floats_t f = {m, first / LANES, (deep + LANES - 1) / LANES * LANES, work};
        share(rows_part, &f, f.deep / LANES);
        gemm_t g = {plain(dy + first, next_dy), work, rows, m->columns, deep, dx, next_dx, add, f.deep};
        share(gemm_part, &g, (rows + TALL - 1) / TALL);
    }
}

/* The same for whoever has a matrix alone; `work` has room for `likely_back_floats`. */
EXPORT void likely_back(const matrix_t *m, const float *dy, int rows, float *dx, float *work) {
    likely_go_back(m, dy, m->rows, rows, dx, m->columns, 0, work);
}

EXPORT long likely_back_floats(const matrix_t *m) {
    return likely_floats(m);
}
