/* One row of logits, read without sorting it: sums, the most likely tokens, and a histogram of the others. */

#include "packed.h"

enum { CHUNK = 64 };

/* Tokens that are not among the most likely ones, ascending, each once; returns how many. */
static int others_of(const look_t *look, const int *tokens, int count, int *out) {
    int n = 0;
    for (int i = 0; i < count; i++) {
        int known = 0, at = n;
        for (int j = 0; j < look->found.candidates; j++)
            known |= look->ids[j] == tokens[i];
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
static void edges_of(const scan_t *found, float span, float *edges) {
#pragma clang fp contract(off)
    float start = found->second - span, most = found->second;
    start = found->least > start ? found->least : start;
    float width = (most - start) / BINS;
    for (int i = 1; i < BINS; i++)
        edges[i] = i * width + start;
    edges[0] = found->least, edges[BINS] = most;
}

/* The histogram of what is not among the most likely tokens, nor at the ascending ids `apart`: how many logits are in
 * each of BINS bins, and the sums of their exp(x - base). A logit on an edge is in the bin above. */
static void bins_of(const float *x, int n, const int *apart, look_t *look) {
    const scan_t *found = &look->found;
    const int *ids = look->ids, count = look->others;
    const float *edges = look->edges;
    int all[BINS + 1], equal = 0, *counts = look->counts;
    double *sums = look->sums;
    likely_kernels()->bins(x, n, found, apart, count, edges, all, sums);
    for (int i = 0; i < found->candidates; i++)
        equal += x[ids[i]] == found->second;
    all[BINS - 1] += all[BINS] - equal, sums[BINS - 1] += all[BINS] - equal;
    for (int bin = 0; bin < BINS; bin++)
        counts[bin] = all[bin];
    look->base = found->second;
    if (!counts[0] || sums[0] >= 1e-30)
        return;
    float best = -__builtin_inff(); /* the masses of the first bin, which may reach far down, relative to its largest */
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0, next = 0; i < n; i++) {
            int left_out = next < count && apart[next] == i;
            next += left_out;
            if (left_out || !(x[i] > -__builtin_inff()) || x[i] >= edges[1])
                continue;
            if (turn)
                sums[0] += likely_kernels()->exponential(x[i] - best);
            else if (x[i] > best)
                best = x[i];
        }
    look->base = best;
}

EXPORT void likely_totals(const float *x, int n, scan_t *out, float *work) {
    out->rank = 0;
    likely_kernels()->statistics(x, n, out, work);
}

/* All of `out` for logits x [n] and the first of `tokens` [count]. The others are in no bin; of them those that are not
 * among the most likely go to `others`. Bins are `span` wide together, the first, which may reach further down,
 * excepted. `work` has room for 2 n + n / 64 + 50 numbers. */
EXPORT void likely_look(const float *x, int n, const int *tokens, int count, float span, look_t *out, int *others,
                        int *work) {
    scan_t *found = &out->found;
    float *most = (float *)(work + 2 * (n + LANES));
    found->rank = tokens[0], found->candidates = out->others = 0, found->second = out->base = 0;
    likely_kernels()->statistics(x, n, found, most);
    if (found->unusable || !found->possible)
        return;
    int ids[CANDIDATES + 1], some = likely_kernels()->most_likely(x, n, most, CANDIDATES + 1, ids, work);
    found->candidates = some < CANDIDATES ? some : CANDIDATES;
    __builtin_memcpy(out->ids, ids, found->candidates * sizeof(int));
    out->others = others_of(out, tokens + 1, count - 1, others);
    __builtin_memset(out->sums, 0, sizeof out->sums);
    __builtin_memset(out->edges, 0, sizeof out->edges);
    __builtin_memset(out->counts, 0, sizeof out->counts);
    if (some <= CANDIDATES)
        return;
    found->second = x[ids[CANDIDATES]];
    edges_of(found, span, out->edges);
    bins_of(x, n, others, out);
}

/* exp(x - top) of each `each` logits, a multiple of 16, added up: [n / each, rounded up]. Returns top, the largest. */
EXPORT float likely_masses(const float *x, int n, int each, float *out) {
    return likely_kernels()->masses(x, n, each, out);
}
