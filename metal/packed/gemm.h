/* Products of floats: c (+)= a b. Both are packed for it, so that what is read next lies next: b once for all rows,
 * WIDE columns side by side, a few rows of a as they are needed. Every number of c is summed in the order of the inner
 * ones, whatever stands beside it. */

#if MOST == 8
enum { TALL = 12, ACROSS = 2 }; /* rows of a and vectors of b at once, as far as the registers go */
#elif MOST >= 2
enum { TALL = 6, ACROSS = 1 };
#else
enum { TALL = 3, ACROSS = 1 };
#endif
enum { WIDE = ACROSS * LANES, INNER = 256 }; /* INNER: numbers of a's rows that are packed at once */

/* 16 vectors, the i-th numbers of all of which become the i-th vector. */
INLINE void transpose(F *x) {
#define EVERY_LANE(X, s)                                                                                               \
    X(s, 0) X(s, 1) X(s, 2) X(s, 3) X(s, 4) X(s, 5) X(s, 6) X(s, 7) X(s, 8) X(s, 9) X(s, 10) X(s, 11) X(s, 12)         \
    X(s, 13)                                                                                                           \
        X(s, 14)
#define LOW(s, i) ((i) & s ? LANES + (i) - s : (i)),
#define HIGH(s, i) ((i) & s ? LANES + (i) : (i) + s),
#define STEP(s)                                                                                                        \
    _Pragma("unroll") for (int i = 0; i < LANES; i++) if (!(i & s)) {                                                  \
        F a = x[i], b = x[i + s];                                                                                      \
        x[i] = __builtin_shufflevector(a, b, EVERY_LANE(LOW, s) LANES + LANES - 1 - s);                                \
        x[i + s] = __builtin_shufflevector(a, b, EVERY_LANE(HIGH, s) LANES + LANES - 1);                               \
    }
    STEP(8) STEP(4) STEP(2) STEP(1)
}

/* a's first `rows`, `row` apart, of `k` numbers, `column` apart, become out [k, LANES]. */
INLINE void pack_rows(int rows, int k, const float *a, long row, long column, float *out) {
    int j = 0;
    for (; column == 1 && j + LANES <= k; j += LANES) {
        F x[LANES];
        for (int r = 0; r < LANES; r++)
            x[r] = r < rows ? LOAD(F, a + r * row + j) : (F){0};
        transpose(x);
        for (int i = 0; i < LANES; i++)
            *(F *)(out + (j + i) * LANES) = x[i];
    }
    for (; j < k; j++)
        for (int r = 0; r < TALL; r++)
            out[j * LANES + r] = r < rows ? a[r * row + j * column] : 0;
}

/* `rows` of c, R at most, and `columns`, WIDE at most. */
INLINE void gemm_tile(const int R, int rows, int k, const float *a, const float *b, float *c, long next, int columns,
                      int add) {
    F sums[R][ACROSS];
    EACH(r) OVER(i, ACROSS) sums[r][i] = (F){0};
    for (int j = 0; j < k; j++, a += LANES, b += WIDE) {
        F v[ACROSS];
        OVER(i, ACROSS) v[i] = LOAD(F, b + LANES * i);
        EACH(r) OVER(i, ACROSS) sums[r][i] += v[i] * a[r];
    }
    EACH(r) if (r < rows) {
        float *to = c + r * next;
        if (columns == WIDE)
            OVER(i, ACROSS) *(F *)(to + LANES * i) = add ? LOAD(F, to + LANES * i) + sums[r][i] : sums[r][i];
        else
            for (int i = 0; i < columns; i++)
                to[i] = add ? to[i] + sums[r][i / LANES][i % LANES] : sums[r][i / LANES][i % LANES];
    }
}

/* c [rows, next], `columns` of it, (+)= a b. a's numbers lie `row` and `column` apart; b is packed, [k, WIDE] of the
 * first columns, and `apart` numbers further the next. */
static void gemm(int rows, int k, const float *a, long row, long column, const float *b, long apart, float *c,
                 long next, int columns, int add) {
    float packed[INNER * LANES] __attribute__((aligned(64)));
    for (int r = 0; r < rows; r += TALL)
        for (int j = 0; j < k; j += INNER) {
            int some = rows - r < TALL ? rows - r : TALL, inner = k - j < INNER ? k - j : INNER, more = add || j;
            float *to = c + r * next;
            const float *from = b + (long)j * WIDE;
            pack_rows(some, inner, a + r * row + j * column, row, column, packed);
            for (int i = 0; i < columns; i += WIDE, from += apart) {
                int wide = columns - i < WIDE ? columns - i : WIDE;
                if (some > TALL * 2 / 3)
                    gemm_tile(TALL, some, inner, packed, from, to + i, next, wide, more);
                else if (some > TALL / 3)
                    gemm_tile(TALL * 2 / 3, some, inner, packed, from, to + i, next, wide, more);
                else
                    gemm_tile(TALL / 3, some, inner, packed, from, to + i, next, wide, more);
            }
        }
}

/* `columns` of b [k, *], WIDE at most, as `gemm` wants them; its numbers lie `row` and `column` apart. */
static void gemm_pack(int k, const float *b, long row, long column, int columns, float *out) {
    for (int j = 0; j < k; j++, b += row, out += WIDE) {
        if (columns == WIDE && column == 1)
            OVER(i, ACROSS) *(F *)(out + LANES * i) = LOAD(F, b + LANES * i);
        else
            for (int i = 0; i < WIDE; i++)
                out[i] = i < columns ? b[i * column] : 0;
    }
}
