/* Attention: scores of queries at keys, their weights, and what those mix. */

/* Scores of R queries [R, size] at P panels of keys: those of positions from.. to out [R, next], `count` of them. What
 * lies `fetch` bytes from the keys is fetched meanwhile. */
INLINE void scores_of(TEMPLATE, const int number, const float *q, int size, const uint8_t *keys, long fetch, int from,
                      int count, float *out, long next) {
    const long apart = (long)BYTES_OF(number) * LANES * size;
    F total[P * R];
    BOTH(i) total[i] = (F){0};
    for (int d = 0; d < size; d++, keys += BYTES_OF(number) * LANES)
        EVERY(p) {
            F v = wide(keys + p * apart, number);
            __builtin_prefetch(keys + p * apart + fetch, 0, 3);
            EACH(r) total[p * R + r] += v * q[r * size + d];
        }
    EVERY(p) EACH(r) {
        float *to = out + r * next - from;
        F all_of = total[p * R + r];
        if (from <= p * LANES && from + count >= (p + 1) * LANES)
            *(F *)(to + p * LANES) = all_of;
        else
            for (int i = 0; i < LANES; i++)
                if (from <= p * LANES + i && p * LANES + i < from + count)
                    to[p * LANES + i] = all_of[i];
    }
}

/* The same for some panels, as many at once as there are registers for. */
INLINE void scores_by(const int P, const int R, const int number, const float *q, int size, const uint8_t *keys,
                      long fetch, int from, int count, float *out, long next) {
    const long apart = (long)BYTES_OF(number) * LANES * size;
    while (count > 0) {
        int panels = (from + count + LANES - 1) / LANES, some = panels >= P ? P : P == 4 && panels >= 2 ? 2 : 1;
        int taken = some * LANES - from < count ? some * LANES - from : count;
        if (some == P)
            scores_of(P, R, number, q, size, keys, fetch, from, taken, out, next);
        else if (P == 4 && some == 2)
            scores_of(2, R, number, q, size, keys, fetch, from, taken, out, next);
        else
            scores_of(1, R, number, q, size, keys, fetch, from, taken, out, next);
        keys += some * apart, out += taken, count -= taken, from = 0;
    }
}

typedef void (*scores_t)(const float *, int, const uint8_t *, long, int, int, float *, long);

#define SCORES_OF_NUMBER(P, R, number)                                                                                 \
    static void scores_##R##_##number(const float *q, int size, const uint8_t *keys, long fetch, int from, int count,  \
                                      float *out, long next) {                                                         \
        scores_by(P, R, number, q, size, keys, fetch, from, count, out, next);                                         \
    }
#define SCORES_OF(P, R) SCORES_OF_NUMBER(P, R, FLOAT32) SCORES_OF_NUMBER(P, R, FLOAT16)
#define SCORES_BY(R) {scores_##R##_FLOAT32, scores_##R##_FLOAT16}

/* For how many queries at once. */
#if MOST == 8
SCORES_OF(4, 1) SCORES_OF(4, 2) SCORES_OF(4, 3) SCORES_OF(4, 4) SCORES_OF(2, 8)
static const scores_t by_queries[][2] = {SCORES_BY(1), SCORES_BY(2), SCORES_BY(3), SCORES_BY(4), [7] = SCORES_BY(8)};
#elif MOST >= 2
SCORES_OF(4, 1) SCORES_OF(2, 2) SCORES_OF(1, 3) SCORES_OF(1, 4)
static const scores_t by_queries[][2] = {SCORES_BY(1), SCORES_BY(2), SCORES_BY(3), SCORES_BY(4)};
#else
SCORES_OF(2, 1) SCORES_OF(1, 2)
static const scores_t by_queries[][2] = {SCORES_BY(1), SCORES_BY(2)};
#endif

enum { PANELS = 4 }; /* that stay in the first cache for all queries */

/* out [rows, next] = queries [rows, size] by the keys of `count` positions, of which the first is the from-th of a
 * panel. */
static void scores(const float *q, int rows, int size, const void *keys, int number, long fetch, int from, int count,
                   float *out, long next) {
    const int most = sizeof by_queries / sizeof *by_queries;
    const uint8_t *at = keys;
    for (int n; count > 0; at += (long)PANELS * BYTES_OF(number) * LANES * size, out += n, count -= n, from = 0) {
        n = PANELS * LANES - from < count ? PANELS * LANES - from : count;
        for (int r = 0, some; r < rows; r += some) {
            some = rows - r >= most ? most : rows - r > 4 ? 4 : rows - r;
            by_queries[some - 1][number](q + (long)r * size, size, at, fetch, from, n, out + r * next, next);
        }
    }
}

/* The parts of a query's attention in their order onto each other (arXiv:1805.02867): the largest score, the sum of the
 * weights and what they mix, of each `next` floats from the one before. */
static void join(const float *best, const float *sums, const float *mixed, long next, int parts, int size, float *out) {
    float most = -__builtin_inff(), whole = 0;
    for (int d = 0; d < size; d++)
        out[d] = 0;
    for (int part = 0; part < parts; part++, best += next, sums += next, mixed += next) {
        if (*sums == 0) /* none of it was seen */
            continue;
        float top = *best > most ? *best : most;
        float old = whole ? power_of_e(all(most - top))[0] : 0, new = power_of_e(all(*best - top))[0];
        most = top, whole = whole * old + *sums * new;
        for (int d = 0; d < size; d++)
            out[d] = out[d] * old + mixed[d] * new;
    }
    for (int d = 0; d < size; d++)
        out[d] /= whole;
}

enum { CACHED = 4096 }; /* numbers that stay in the first cache */

/* out [R, size] += weights [R, next] by `count` values [*, size] of this number, in their order: `width` vectors of a
 * value at once, as many as there are registers for. What lies `fetch` bytes from them is fetched meanwhile. */
#define OVER(i, width) _Pragma("unroll") for (int i = 0; i < width; i++)
INLINE int mix_some(const int R, const int width, const int number, const float *weights, long next, int count,
                    const uint8_t *values, int size, long fetch, float *out, int d) {
    for (; d + width * LANES <= size; d += width * LANES) {
        F sums[R][width];
        EACH(r) OVER(i, width) sums[r][i] = LOAD(F, out + r * size + d + LANES * i);
        for (int j = 0; j < count; j++) {
            const uint8_t *value = values + ((long)j * size + d) * BYTES_OF(number);
            OVER(i, width) {
                F v = wide(value + BYTES_OF(number) * LANES * i, number);
                __builtin_prefetch(value + fetch + BYTES_OF(number) * LANES * i, 0, 3);
                EACH(r) sums[r][i] += weights[r * next + j] * v;
            }
        }
        EACH(r) OVER(i, width) *(F *)(out + r * size + d + LANES * i) = sums[r][i];
    }
    return d;
}

INLINE void mix_rows(const int R, const int width, const int number, const float *weights, long next, int count,
                     const uint8_t *values, int size, long fetch, float *out) {
    int d = mix_some(R, width, number, weights, next, count, values, size, fetch, out, 0);
    d = width > 1 ? mix_some(R, 1, number, weights, next, count, values, size, fetch, out, d) : d;
    for (; d < size; d++)
        for (int j = 0; j < count; j++) {
            float v = wide_one(values + ((long)j * size + d) * BYTES_OF(number), number);
            EACH(r) out[r * size + d] += weights[r * next + j] * v;
        }
}

#define MIX_OF_NUMBER(R, width, number)                                                                                \
    static void mix_##R##_##number(const float *weights, long next, int count, const uint8_t *values, int size,        \
                                   long fetch, float *out) {                                                           \
        mix_rows(R, width, number, weights, next, count, values, size, fetch, out);                                    \
    }
#define MIX_OF(R, width) MIX_OF_NUMBER(R, width, FLOAT32) MIX_OF_NUMBER(R, width, FLOAT16)
#define MIXES_OF(R) {mix_##R##_FLOAT32, mix_##R##_FLOAT16}

typedef void (*mix_t)(const float *, long, int, const uint8_t *, int, long, float *);
#if MOST == 8
MIX_OF(1, 4) MIX_OF(2, 4) MIX_OF(3, 4) MIX_OF(4, 4)
static const mix_t mixes[][2] = {MIXES_OF(1), MIXES_OF(2), MIXES_OF(3), MIXES_OF(4)};
#elif MOST >= 2
MIX_OF(1, 4) MIX_OF(2, 2) MIX_OF(3, 2) MIX_OF(4, 1)
static const mix_t mixes[][2] = {MIXES_OF(1), MIXES_OF(2), MIXES_OF(3), MIXES_OF(4)};
#else
MIX_OF(1, 4)
static const mix_t mixes[][2] = {MIXES_OF(1)};
#endif

/* Some values stay in the first cache for all rows: their sums are put aside meanwhile, which changes no bit. */
static void mix(const float *weights, long next, int rows, int count, const void *values, int number, int size,
                long fetch, float *out) {
    int most = sizeof mixes / sizeof *mixes, together = rows > most ? CACHED / size : count;
    for (int j = 0, n; j < count; j += n) {
        n = count - j < together ? count - j : together;
        const uint8_t *from = (const uint8_t *)values + (long)j * size * BYTES_OF(number);
        for (int r = 0, some; r < rows; r += some) {
            some = rows - r < most ? rows - r : most;
            mixes[some - 1][number](weights + r * next + j, next, n, from, size, fetch, out + (long)r * size);
        }
    }
}
