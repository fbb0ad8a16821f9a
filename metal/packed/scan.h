/* What one row of logits has to say: sums over all of them, and a histogram of those that are not the most likely. */

enum { CHUNK = 64 };

/* 64 logits from x + i, those past the end impossible. */
INLINE const float *chunk_of(const float *x, int i, int n, float rest[CHUNK]) {
    if (i + CHUNK <= n)
        return x + i;
    for (int j = 0; j < CHUNK; j++)
        rest[j] = i + j < n ? x[i + j] : -__builtin_inff();
    return rest;
}

INLINE int count_of(I hits) { /* a hit is -1 */
    int count = 0;
    for (int i = 0; i < LANES; i++)
        count -= hits[i];
    return count;
}

/* All of `out` but the candidates; `out->rank` is the token at first. The maximum of each chunk goes to `most`. */
static void statistics(const float *x, int n, scan_t *out, float *most) {
    const float infinity = __builtin_inff();
    float rest[CHUNK], token = x[out->rank];
    F top = all(-infinity), bottom = all(infinity);
    I possible = {0}, larger = {0}, usable = all(0) == all(0);
    for (int i = 0; i < n; i += CHUNK) {
        const float *part = chunk_of(x, i, n, rest);
        F best = all(-infinity);
#pragma unroll
        for (int j = 0; j < CHUNK; j += LANES) {
            F z = LOAD(F, part + j);
            I some = z > -infinity;
            usable &= z < infinity;
            possible += some;
            larger += z > token;
            best = largest(z, best);
            bottom = least((F)((some & (I)z) | (~some & (I)all(infinity))), bottom);
        }
        float one = best[0];
        for (int j = 1; j < LANES; j++)
            one = best[j] > one ? best[j] : one;
        most[i / CHUNK] = one;
        top = largest(best, top);
    }
    out->unusable = count_of(usable) != LANES;
    out->possible = count_of(possible);
    out->rank = 1 + count_of(larger);
    out->max = -infinity, out->least = infinity;
    for (int i = 0; i < LANES; i++) {
        out->max = top[i] > out->max ? top[i] : out->max;
        out->least = bottom[i] < out->least ? bottom[i] : out->least;
    }
    if (out->unusable || !out->possible)
        return;
    D8 masses = {0}, weighted = {0}, sums = {0}, squares = {0};
    for (int i = 0; i < n; i += CHUNK) {
        const float *part = chunk_of(x, i, n, rest);
#pragma unroll
        for (int j = 0; j < CHUNK; j += LANES) {
            F z = LOAD(F, part + j);
            I some = z > -infinity;
            F below = (F)(some & (I)(z - out->max));
            F mass = (F)(some & (I)power_of_e(below));
            F both = mass * below;
            masses += low(mass) + high(mass);
            weighted += low(both) + high(both);
            sums += low(below) + high(below);
            squares += low(below) * low(below) + high(below) * high(below);
        }
    }
    double mean = sum_wide(sums) / out->possible;
    out->sum = sum_wide(masses), out->weighted = sum_wide(weighted);
    out->mean = out->max + mean;
    out->variance = sum_wide(squares) / out->possible - mean * mean;
}

typedef double pair_t __attribute__((vector_size(16)));

INLINE int bin_of(float z, int bin, const float *edges) {
    while (bin > 0 && z < edges[bin])
        bin--;
    while (bin < BINS - 1 && z >= edges[bin + 1])
        bin++;
    return bin;
}

/* How many logits below `found->second` are in each of BINS bins, those at the ascending ids `apart` left out, and the
 * sums of their exp(x - second); counts[BINS] those that are equal to it. */
static void bins(const float *x, int n, const scan_t *found, const int *apart, int count, const float *edges,
                 int *counts, double *sums) {
    const float infinity = __builtin_inff(), top = found->second;
    float width = (edges[BINS - 1] - edges[1]) / (BINS - 2), start = edges[1] - width, scale = 1 / width, rest[CHUNK];
    float size = edges[BINS] > -edges[1] ? edges[BINS] : -edges[1];
    float error = 5e-7f * (BINS + size * scale); /* of a place, in bins: four times what rounding can do */
    int even = width > 0 && error < 0.25f;
    pair_t table[4][BINS + 1]; /* mass and number; four, so that an addition need not wait for the one before */
    for (int i = 0; i < 4; i++)
        for (int bin = 0; bin <= BINS; bin++)
            table[i][bin] = (pair_t){0};
    I equal = {0};
    for (int i = 0, next = 0; i < n; i += CHUNK) {
        const float *part = chunk_of(x, i, n, rest);
        float masses[CHUNK] __attribute__((aligned(64)));
        int places[CHUNK] __attribute__((aligned(64)));
#pragma unroll
        for (int j = 0; j < CHUNK; j += LANES) {
            F z = LOAD(F, part + j);
            I some = (z > -infinity) & (z < top);
            equal += z == top;
            F mass = power_of_e(z - top);
            *(F *)(masses + j) = (F)(some & (I)mass);
            F at = largest(least((z - start) * scale, all(BINS - 0.5f)), all(0)); /* a NaN becomes one of the two */
            I bin = __builtin_convertvector(at, I);
            F within = at - __builtin_convertvector(bin, F);
            I unsure = (within < error) | (within > 1 - error);
            bin = (unsure & ~bin) | (~unsure & bin);
            *(I *)(places + j) = (some & bin) | (~some & BINS);
        }
        for (; next < count && apart[next] < i + CHUNK; next++)
            places[apart[next] - i] = BINS, masses[apart[next] - i] = 0, equal[0] += x[apart[next]] == top;
        for (int j = 0; j < CHUNK; j++) {
            int bin = places[j];
            if (__builtin_expect(bin < 0 || (!even && bin != BINS), 0))
                bin = bin_of(part[j], even ? ~bin : 0, edges);
            table[j & 3][bin] += (pair_t){masses[j], 1};
        }
    }
    counts[BINS] = count_of(equal);
    for (int bin = 0; bin < BINS; bin++) {
        pair_t both = (table[0][bin] + table[1][bin]) + (table[2][bin] + table[3][bin]);
        sums[bin] = both[0], counts[bin] = (int)both[1];
    }
}
