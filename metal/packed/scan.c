/* Rows of logits, read without sorting them: sums, a draw, the most likely tokens, and a histogram of the others. */

#include "packed.h"

enum { CHUNK = 64 };

/* Tokens that are not among the most likely `ids`, ascending, each once; returns how many. */
static int others_of(const int *ids, int candidates, const int *tokens, int count, int *out) {
    int n = 0;
    for (int i = 0; i < count; i++) {
        int known = 0, at = n;
        for (int j = 0; j < candidates; j++)
            known |= ids[j] == tokens[i];
        while (at > 0 && out[at - 1] > tokens[i])
            at--;
        if (known || (at > 0 && out[at - 1] == tokens[i]))
            continue;
        for (int j = n++; j > at; j--)
            out[j] = out[j - 1];
        out[at] = tokens[i];
    }
    return n;
}

/* Edges from the least to the most likely of the rest, evenly from `span` below that on. */
static void edges_of(float least, float most, float span, float *edges) {
#pragma clang fp contract(off)
    float start = most - span;
    start = least > start ? least : start;
    float width = (most - start) / BINS;
    for (int i = 1; i < BINS; i++)
        edges[i] = i * width + start;
    edges[0] = least, edges[BINS] = most;
}

/* The histogram of what is not among the most likely `ids`, nor at the ascending ones behind them, below `second`: how
 * many logits are in each of BINS bins, and their log-sum-exp. A logit on an edge is in the bin above. */
static void bins_of(const float *x, int n, const int *ids, float second, look_t *look) {
    const int *apart = ids + look->candidates, count = look->others;
    const float *edges = look->edges;
    int all[BINS + 1], equal = 0, *counts = look->counts;
    double sums[BINS];
    float masses[BINS], base = second;
    likely_kernels()->bins(x, n, second, apart, count, edges, all, sums);
    for (int i = 0; i < look->candidates; i++)
        equal += x[ids[i]] == second;
    all[BINS - 1] += all[BINS] - equal, sums[BINS - 1] += all[BINS] - equal;
    for (int bin = 0; bin < BINS; bin++)
        counts[bin] = all[bin];
    if (counts[0] && sums[0] < 1e-30) { /* of the first bin, which may reach far down, relative to its largest */
        base = -__builtin_inff();
        for (int turn = 0; turn < 2; turn++)
            for (int i = 0, next = 0; i < n; i++) {
                int left_out = next < count && apart[next] == i;
                next += left_out;
                if (left_out || !(x[i] > -__builtin_inff()) || x[i] >= edges[1])
                    continue;
                if (turn)
                    sums[0] += likely_kernels()->exponential(x[i] - base);
                else if (x[i] > base)
                    base = x[i];
            }
    }
    for (int bin = 0; bin < BINS; bin++)
        masses[bin] = sums[bin];
    likely_kernels()->logarithms(masses, BINS, look->lses);
    for (int bin = 0; bin < BINS; bin++)
        look->lses[bin] += bin ? second : base;
}

/* What is to be done with rows of logits, a row by each thread that is free. */
typedef struct {
    const float *x, *const *rows;
    int n;
    scan_t *scanned;
    float *masses;
    const scan_t *const *found;
    const int *tokens, *apart, *counts;
    float span;
    look_t *out;
    int *ids;
    float *logits;
    long next;
    int *work;
} rows_t;

static int rows_of_masses(int n) {
    return (n + ROW - 1) / ROW;
}

static void scan_part(void *context, int row) {
    const rows_t *p = context;
    float *masses = p->masses + (long)row * rows_of_masses(p->n);
    likely_kernels()->totals(p->x + (long)row * p->n, p->n, p->scanned + row, masses);
}

/* What all logits x [rows, n] of each row come to; `masses` [rows, n / ROW, rounded up] as `totals` has them. */
EXPORT void likely_scan(const float *x, int rows, int n, scan_t *out, float *masses) {
    rows_t all = {.x = x, .n = n, .scanned = out, .masses = masses};
    share(scan_part, &all, rows);
}

/* A token of each row by two `shares` in [0, 1), from what a scan gave of it. */
EXPORT void likely_draw(int rows, const float *const *x, int n, const scan_t *const *found, const float *const *masses,
                        const float *shares, int *out) {
    for (int row = 0; row < rows; row++)
        out[row] = likely_kernels()->inverse(x[row], n, found[row]->max, masses[row], shares + 2 * row);
}

static long looking(int n) { /* numbers of room for a row */
    return 2L * n + n / CHUNK + 4 * LANES;
}

static void look_part(void *context, int row) {
    const rows_t *p = context;
    const float *x = p->rows[row];
    const int *apart = p->apart;
    for (int i = 0; i < row; i++)
        apart += p->counts[i];
    int n = p->n, *work = p->work + row * looking(n), *ids = p->ids + row * p->next;
    float *most = (float *)(work + 2 * (n + LANES)), *logits = p->logits + row * p->next;
    look_t *out = p->out + row;
    *out = (look_t){.rank = 1 + likely_kernels()->larger_than(x, n, x[p->tokens[row]], most)};
    int best[CANDIDATES + 1], some = likely_kernels()->most_likely(x, n, most, CANDIDATES + 1, best, work);
    out->candidates = some < CANDIDATES ? some : CANDIDATES;
    __builtin_memcpy(ids, best, out->candidates * sizeof(int));
    out->others = others_of(ids, out->candidates, apart, p->counts[row], ids + out->candidates);
    for (int i = 0; i < out->candidates + out->others; i++)
        logits[i] = x[ids[i]];
    for (int bin = 0; bin < BINS; bin++)
        out->lses[bin] = -__builtin_inff();
    if (some <= CANDIDATES)
        return;
    float second = x[best[CANDIDATES]];
    edges_of(p->found[row]->least, second, p->span, out->edges);
    bins_of(x, n, ids, second, out);
}

EXPORT long likely_look_numbers(int rows, int n) { /* that `work` has room for */
    return rows * looking(n);
}

/* All of `out` [rows] for logits [n] of rows that were scanned and a token of each. counts[row] of `apart`, one row's
 * behind another's, are in no bin. To `ids` [rows, next], which have room for CANDIDATES and those, go the most likely,
 * descending, and those that are apart and not among them; their logits to `logits`. Bins are `span` wide together, the
 * first, which may reach further down, excepted. Returns how many tokens are none of n, and looks at nothing then. */
EXPORT int likely_look(int rows, const float *const *x, int n, const scan_t *const *found, const int *tokens,
                       const int *apart, const int *counts, float span, look_t *out, int *ids, float *logits,
                       long next, int *work) {
    rows_t all = {.rows = x, .n = n, .found = found, .tokens = tokens, .apart = apart, .counts = counts, .span = span,
                  .out = out, .ids = ids, .logits = logits, .next = next, .work = work};
    int given = 0, none = 0;
    for (int row = 0; row < rows; given += counts[row++])
        none += (unsigned)tokens[row] >= (unsigned)n;
    for (int i = 0; i < given; i++)
        none += (unsigned)apart[i] >= (unsigned)n;
    if (!none)
        share(look_part, &all, rows);
    return none;
}

/* As the kernel of this name; `left` has room for 2 (n + 16) numbers. */
EXPORT float likely_nucleus(const float *x, const float *weights, int n, double goal, float *left) {
    return likely_kernels()->nucleus(x, weights, n, goal, left);
}
