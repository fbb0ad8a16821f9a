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

/* All of `out` of a row, and the sums of exp(x - max) of each ROW logits, [n / ROW, rounded up]. */
static void totals(const float *x, int n, scan_t *out, float *masses) {
    const float infinity = __builtin_inff();
    float rest[CHUNK];
    F top = all(-infinity), bottom = all(infinity);
    I possible = {0}, usable = all(0) == all(0);
    for (int i = 0; i < n; i += CHUNK) {
        const float *part = chunk_of(x, i, n, rest);
#pragma unroll
        for (int j = 0; j < CHUNK; j += LANES) {
            F z = LOAD(F, part + j);
            I some = z > -infinity;
            usable &= z < infinity;
            possible += some;
            top = largest(z, top);
            bottom = least((F)((some & (I)z) | (~some & (I)all(infinity))), bottom);
        }
    }
    out->unusable = count_of(usable) != LANES;
    out->possible = count_of(possible);
    out->max = -infinity, out->least = infinity;
    for (int i = 0; i < LANES; i++) {
        out->max = top[i] > out->max ? top[i] : out->max;
        out->least = bottom[i] < out->least ? bottom[i] : out->least;
    }
    if (out->unusable || !out->possible)
        return;
    D8 all_masses = {0}, weighted = {0}, sums = {0}, squares = {0};
    for (int first = 0; first < n; first += ROW) {
        F of_row = {0};
        for (int i = first; i < first + ROW && i < n; i += CHUNK) {
            const float *part = chunk_of(x, i, n, rest);
            F some_masses = {0}, some_weighted = {0}; /* of a chunk, in floats */
#pragma unroll
            for (int j = 0; j < CHUNK; j += LANES) {
                F z = LOAD(F, part + j);
                I some = z > -infinity;
                F below = (F)(some & (I)(z - out->max));
                F mass = (F)(some & (I)power_of_e(below));
                some_masses += mass, some_weighted += mass * below;
                sums += low(below) + high(below);
                squares += low(below) * low(below) + high(below) * high(below);
            }
            of_row += some_masses;
            all_masses += low(some_masses) + high(some_masses);
            weighted += low(some_weighted) + high(some_weighted);
        }
        *masses++ = sum(of_row);
    }
    double mean = sum_wide(sums) / out->possible;
    out->sum = sum_wide(all_masses), out->weighted = sum_wide(weighted);
    out->mean = out->max + mean;
    out->variance = sum_wide(squares) / out->possible - mean * mean;
}

/* How many logits are larger than `bar`; the largest of each CHUNK go to `most`. */
static int larger_than(const float *x, int n, float bar, float *most) {
    float rest[CHUNK];
    I larger = {0};
    for (int i = 0; i < n; i += CHUNK) {
        const float *part = chunk_of(x, i, n, rest);
        F best = all(-__builtin_inff());
#pragma unroll
        for (int j = 0; j < CHUNK; j += LANES) {
            F z = LOAD(F, part + j);
            larger += z > bar;
            best = largest(z, best);
        }
        float one = best[0];
        for (int j = 1; j < LANES; j++)
            one = best[j] > one ? best[j] : one;
        most[i / CHUNK] = one;
    }
    return count_of(larger);
}

/* The order of floats as that of whole numbers; -0 is 0. */
INLINE I order_of_floats(F x) {
    I bits = (I)(x + 0.0f);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

/* How many of `n` numbers, a multiple of 16, are at least `bar`. */
INLINE int at_least(const int *numbers, int n, int bar) {
    I hits = {0};
    for (int i = 0; i < n; i += LANES)
        hits += LOAD(I, numbers + i) >= bar;
    return count_of(hits);
}

/* Fills up with what is least, to a multiple of 16, whose number is returned. */
INLINE int filled_up(int *numbers, int n) {
    for (; n % LANES; n++)
        numbers[n] = -0x7fffffff - 1;
    return n;
}

/* The count-th largest of numbers. */
INLINE int largest_but(const int *numbers, int n, int count) {
    int bar = at_least(numbers, n, 0) >= count ? 0 : -0x7fffffff - 1;
    for (int bit = 1 << 30; bit; bit >>= 1)
        bar += at_least(numbers, n, bar + bit) >= count ? bit : 0;
    return bar;
}

/* The `count` largest of the possible logits, their `ids` descending, equal ones by id; returns how many there are.
 * `most` are the largest of each chunk; `work` has room for 2 (n + 16) numbers and as many as there are chunks and
 * 16. */
static int most_likely(const float *x, int n, const float *most, int count, int *ids, int *work) {
    const float infinity = __builtin_inff();
    int chunks = (n + CHUNK - 1) / CHUNK, found = 0, *place = work, *number = work + n + LANES,
        *tops = number + n + LANES;
    float rest[CHUNK], least = -infinity;
    if (chunks >= count) { /* as many chunks have a logit that is at least `least`: nothing less is asked for */
        for (int i = 0; i < chunks; i++)
            tops[i] = order_of_floats(all(most[i]))[0];
        I bar = (I){0} + largest_but(tops, filled_up(tops, chunks), count);
        least = ((F)(bar ^ ((bar >> 31) & 0x7fffffff)))[0];
    }
    for (int c = 0; c < chunks; c++)
        if (most[c] >= least && most[c] > -infinity) {
            const float *part = chunk_of(x, c * CHUNK, n, rest);
            for (int j = 0; j < CHUNK; j += LANES) {
                F z = LOAD(F, part + j);
                I hits = (z >= least) & (z > -infinity), numbers = order_of_floats(z);
                if (__builtin_reduce_min(hits)) /* a hit is -1 */
                    for (int i = 0; i < LANES; i++) {
                        place[found] = c * CHUNK + j + i, number[found] = numbers[i];
                        found -= hits[i];
                    }
            }
        }
    if (found > count) {
        int bar = largest_but(number, filled_up(number, found), count), more = 0, kept = 0;
        for (int i = 0; i < found; i++)
            more += number[i] > bar;
        for (int i = 0, equal = count - more; i < found; i++)
            if (number[i] > bar || (number[i] == bar && equal-- > 0))
                place[kept] = place[i], number[kept++] = number[i];
        found = kept;
    }
    int all_of = filled_up(number, found);
    for (int i = 0; i < found; i++)
        ids[i] = -1;
    for (int i = 0; i < found; i++) {
        int rank = at_least(number, all_of, number[i] + 1);
        while (ids[rank] >= 0)
            rank++;
        ids[rank] = place[i];
    }
    return found;
}

/* The index at which the running mass passes `share` of the total; never one without mass, as share < 1 is 24 bits. */
INLINE int inverted(const float *masses, int n, float share) {
    float total = 0, running = 0;
    for (int i = 0; i < n; i++)
        total += masses[i];
    float bound = share * total;
    int at = 0;
    for (; at < n - 1 && (running += masses[at]) <= bound; at++)
        ;
    return at;
}

/* The inverse of the distribution function at two shares: the first chooses ROW logits by their `masses`, relative to
 * `top`, the second one of them. */
static int inverse(const float *x, int n, float top, const float *masses, const float *shares) {
    int first = inverted(masses, (n + ROW - 1) / ROW, shares[0]) * ROW, count = n - first < ROW ? n - first : ROW;
    float own[ROW] __attribute__((aligned(64))), rest[CHUNK];
    for (int i = 0; i < count; i += CHUNK) {
        const float *part = chunk_of(x, first + i, n, rest);
        for (int j = 0; j < CHUNK; j += LANES)
            *(F *)(own + i + j) = power_of_e(LOAD(F, part + j) - top);
    }
    return first + inverted(own, count, shares[1]);
}

/* The weight of all numbers that are at least `bar`. */
INLINE double weight_from(const float *x, const float *weights, int n, float bar) {
    float rest[CHUNK], others[CHUNK];
    D8 whole = {0};
    for (int i = 0; i < n; i += CHUNK) {
        const float *part = chunk_of(x, i, n, rest), *own = chunk_of(weights, i, n, others);
        F some = {0};
#pragma unroll
        for (int j = 0; j < CHUNK; j += LANES)
            some += (F)((LOAD(F, part + j) >= bar) & LOAD(I, own + j));
        whole += low(some) + high(some);
    }
    return sum_wide(whole);
}

enum { HALVINGS = 8 }; /* of the range, before what is left of it is put together */

/* The largest bar above which, itself included, numbers x [n] have `goal` of their weight; the least of those > -inf
 * where all have less. Found by halving what it can be. `left` has room for 2 (n + 16) numbers. */
static float nucleus(const float *x, const float *weights, int n, double goal, float *left) {
    float rest[CHUNK], *of_left = left + n + LANES;
    F top = all(-__builtin_inff()), bottom = all(__builtin_inff());
    for (int i = 0; i < n; i += CHUNK) {
        const float *part = chunk_of(x, i, n, rest);
        for (int j = 0; j < CHUNK; j += LANES) {
            F z = LOAD(F, part + j);
            I some = z > -__builtin_inff();
            top = largest(z, top), bottom = least((F)((some & (I)z) | (~some & (I)all(__builtin_inff()))), bottom);
        }
    }
    float high = top[0], low = bottom[0];
    for (int i = 1; i < LANES; i++)
        high = top[i] > high ? top[i] : high, low = bottom[i] < low ? bottom[i] : low;
    if (!(low < high) || !(weight_from(x, weights, n, high) < goal)) /* also where the goal is no number */
        return high;
    for (int turn = 0; turn < HALVINGS; turn++) {
        float middle = low / 2 + high / 2; /* high - low may be more than a float holds */
        if (weight_from(x, weights, n, middle) >= goal)
            low = middle;
        else
            high = middle;
    }
    double above = weight_from(x, weights, n, high);
    int count = 0;
    for (int i = 0; i < n; i += LANES) {
        float own[LANES] __attribute__((aligned(64)));
        int some = n - i < LANES ? n - i : LANES;
        if (some == LANES) {
            F z = LOAD(F, x + i);
            if (!__builtin_reduce_min((z >= low) & (z < high)))
                continue;
        }
        __builtin_memcpy(own, x + i, some * sizeof *own);
        for (int j = 0; j < some; j++) {
            left[count] = own[j], of_left[count] = weights[i + j];
            count += own[j] >= low && own[j] < high;
        }
    }
    int from = order_of_floats(all(low))[0], to = order_of_floats(all(high))[0];
    while (to - 1 > from) { /* to - from may be more than an int holds */
        int middle = (from & to) + ((from ^ to) >> 1);
        float bar = ((F)((I){0} + (middle ^ ((middle >> 31) & 0x7fffffff))))[0];
        if (above + weight_from(left, of_left, count, bar) >= goal)
            from = middle;
        else
            to = middle;
    }
    return ((F)((I){0} + (from ^ ((from >> 31) & 0x7fffffff))))[0];
}

typedef float pair_t __attribute__((vector_size(8)));
enum { TABLES = 8, WHOLE = 256 }; /* so that an addition need not wait for the one before; chunks added up in floats */

INLINE int bin_of(float z, int bin, const float *edges) {
    while (bin > 0 && z < edges[bin])
        bin--;
    while (bin < BINS - 1 && z >= edges[bin + 1])
        bin++;
    return bin;
}

/* How many logits below `top` are in each of BINS bins, those at the ascending ids `apart` left out, and the
 * sums of their exp(x - top); counts[BINS] those that are equal to it. */
static void bins(const float *x, int n, float top, const int *apart, int count, const float *edges, int *counts,
                 double *sums) {
    const float infinity = __builtin_inff();
    float width = (edges[BINS - 1] - edges[1]) / (BINS - 2), start = edges[1] - width, scale = 1 / width, rest[CHUNK];
    float size = edges[BINS] > -edges[1] ? edges[BINS] : -edges[1];
    float error = 5e-7f * (BINS + size * scale); /* of a place, in bins: four times what rounding can do */
    int even = width > 0 && error < 0.25f;
    pair_t table[TABLES][BINS + 1]; /* mass and number */
    __builtin_memset(table, 0, sizeof table);
    for (int bin = 0; bin < BINS; bin++)
        sums[bin] = 0, counts[bin] = 0;
    I equal = {0};
    for (int i = 0, next = 0; i < n; i += CHUNK) {
        const float *part = chunk_of(x, i, n, rest);
        float masses[CHUNK] __attribute__((aligned(64)));
        int places[CHUNK] __attribute__((aligned(64)));
        I looked = (I){0} - !even;
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
            looked |= some & unsure;
            *(I *)(places + j) = (some & bin) | (~some & BINS);
        }
        for (; next < count && apart[next] < i + CHUNK; next++)
            places[apart[next] - i] = BINS, masses[apart[next] - i] = 0, equal[0] += x[apart[next]] == top;
        if (__builtin_reduce_min(looked)) /* near an edge */
            for (int j = 0; j < CHUNK; j++)
                if (places[j] < 0 || (!even && places[j] != BINS))
                    places[j] = bin_of(part[j], even ? ~places[j] : 0, edges);
        for (int j = 0; j < CHUNK; j += TABLES)
#pragma unroll
            for (int t = 0; t < TABLES; t++)
                table[t][places[j + t]] += (pair_t){masses[j + t], 1};
        if (i / CHUNK % WHOLE == WHOLE - 1 || i + CHUNK >= n) {
            for (int t = 0; t < TABLES; t++)
                for (int bin = 0; bin < BINS; bin++)
                    sums[bin] += table[t][bin][0], counts[bin] += (int)table[t][bin][1];
            __builtin_memset(table, 0, sizeof table);
        }
    }
    counts[BINS] = count_of(equal);
}
