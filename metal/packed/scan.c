/* One row of logits, read without sorting it: sums, the most likely tokens, and a histogram of the others. */

#include "packed.h"

enum { CHUNK = 64 };

/* Order as of (-x, id): a number whose ascending order is that. */
static uint64_t key_of(float x, int id) {
    uint32_t bits;
    x += 0.0f; /* -0 becomes 0: they are equal */
    __builtin_memcpy(&bits, &x, 4);
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
    return (uint64_t)~bits << 32 | (uint32_t)id;
}

static void swap(uint64_t *a, uint64_t *b) {
    uint64_t was = *a;
    *a = *b, *b = was;
}

/* Moves the `count` smallest of all `n` to the front (Hoare's selection, the pivot the median of three). */
static void select_least(uint64_t *keys, int n, int count) {
    for (int low = 0, high = n - 1; low < high;) {
        int middle = low + (high - low) / 2;
        if (keys[middle] < keys[low])
            swap(keys + middle, keys + low);
        if (keys[high] < keys[low])
            swap(keys + high, keys + low);
        if (keys[high] < keys[middle])
            swap(keys + high, keys + middle);
        uint64_t pivot = keys[middle];
        int i = low, j = high;
        while (i <= j) {
            while (keys[i] < pivot)
                i++;
            while (keys[j] > pivot)
                j--;
            if (i <= j)
                swap(keys + i++, keys + j--);
        }
        if (count - 1 <= j)
            high = j;
        else if (count - 1 >= i)
            low = i;
        else
            return;
    }
}

static void sort(uint64_t *keys, int n) { /* Shell's, for a few hundred */
    static const int gaps[] = {132, 57, 23, 10, 4, 1};
    for (int g = 0; g < 6; g++)
        for (int i = gaps[g]; i < n; i++) {
            uint64_t key = keys[i];
            int j = i;
            for (; j >= gaps[g] && keys[j - gaps[g]] > key; j -= gaps[g])
                keys[j] = keys[j - gaps[g]];
            keys[j] = key;
        }
}

/* Whatever `scan_t` says of logits x [n], and the ids [CANDIDATES] of the most likely tokens, descending, equal ones by
 * id. `out->rank` is a token at first. `work` has room for n numbers and n / 64 + 1 floats behind them. */
EXPORT void likely_scan(const float *x, int n, scan_t *out, int *ids, uint64_t *work) {
    float *most = (float *)(work + n), least = -__builtin_inff();
    int chunks = (n + CHUNK - 1) / CHUNK, count = 0;
    likely_kernels()->statistics(x, n, out, most);
    out->candidates = 0, out->second = least;
    if (out->unusable || !out->possible)
        return;
    if (chunks > CANDIDATES) { /* as many chunks have a logit that is at least `least`: no candidate is less */
        for (int i = 0; i < chunks; i++)
            work[i] = key_of(most[i], i);
        select_least(work, chunks, CANDIDATES + 1);
        least = most[(uint32_t)work[0]];
        for (int i = 1; i <= CANDIDATES; i++)
            least = most[(uint32_t)work[i]] < least ? most[(uint32_t)work[i]] : least;
    }
    for (int c = 0; c < chunks; c++)
        if (most[c] >= least)
            for (int i = c * CHUNK, end = i + CHUNK < n ? i + CHUNK : n; i < end; i++)
                if (x[i] >= least && x[i] > -__builtin_inff())
                    work[count++] = key_of(x[i], i);
    if (count > CANDIDATES) {
        select_least(work, count, CANDIDATES + 1);
        sort(work, CANDIDATES + 1);
        out->second = x[(uint32_t)work[CANDIDATES]];
    } else
        sort(work, count);
    out->candidates = count < CANDIDATES ? count : CANDIDATES;
    for (int i = 0; i < out->candidates; i++)
        ids[i] = (uint32_t)work[i];
}

/* The histogram of what is not among the `found->candidates` in `ids`, nor at the ascending ids `apart` [count]
 * besides: how many logits are in each of BINS bins, whose edges [BINS + 1] ascend, and the sums of their exp(x - base), where
 * base is `found->second`, but for the first bin *base. A logit on an edge is in the bin above. */
EXPORT void likely_bins(const float *x, int n, const scan_t *found, const int *ids, const int *apart, int count,
                        const float *edges, int *counts, double *sums, float *base) {
    int all[BINS + 1], equal = 0;
    likely_kernels()->bins(x, n, found, apart, count, edges, all, sums);
    for (int i = 0; i < found->candidates; i++)
        equal += x[ids[i]] == found->second;
    all[BINS - 1] += all[BINS] - equal, sums[BINS - 1] += all[BINS] - equal;
    for (int bin = 0; bin < BINS; bin++)
        counts[bin] = all[bin];
    *base = found->second;
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
    *base = best;
}
