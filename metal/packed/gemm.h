/* Products of floats: c (+)= a b for a few columns of b, which lie packed in a cache, [k, WIDE], zeros where c has no
 * column. Every number of c is summed in the order of k, whatever stands beside it. */

#if MOST == 8
enum { TALL = 12, ACROSS = 2 }; /* rows of a and vectors of b at once, as far as the registers go */
#elif MOST >= 2
enum { TALL = 6, ACROSS = 1 };
#else
enum { TALL = 3, ACROSS = 1 };
#endif
enum { WIDE = ACROSS * LANES };

INLINE void gemm_rows(const int R, int k, const float *a, long row, long column, const float *b, float *c, long next,
                      int columns, int add) {
    F sums[R][ACROSS];
    EACH(r) OVER(i, ACROSS) sums[r][i] = (F){0};
    for (int j = 0; j < k; j++, a += column, b += WIDE) {
        F v[ACROSS];
        OVER(i, ACROSS) v[i] = LOAD(F, b + LANES * i);
        EACH(r) OVER(i, ACROSS) sums[r][i] += v[i] * a[r * row];
    }
    EACH(r) {
        float *to = c + r * next;
        if (columns == WIDE)
            OVER(i, ACROSS) *(F *)(to + LANES * i) = add ? LOAD(F, to + LANES * i) + sums[r][i] : sums[r][i];
        else
            for (int i = 0; i < columns; i++)
                to[i] = add ? to[i] + sums[r][i / LANES][i % LANES] : sums[r][i / LANES][i % LANES];
    }
}

/* c [rows, next], `columns` of it at most WIDE, (+)= a b, where a's numbers lie `row` and `column` apart. */
static void gemm(int rows, int k, const float *a, long row, long column, const float *b, float *c, long next,
                 int columns, int add) {
    for (; rows >= TALL; rows -= TALL, a += TALL * row, c += TALL * next)
        gemm_rows(TALL, k, a, row, column, b, c, next, columns, add);
    for (; rows >= 3; rows -= 3, a += 3 * row, c += 3 * next)
        gemm_rows(3, k, a, row, column, b, c, next, columns, add);
    for (; rows > 0; rows--, a += row, c += next)
        gemm_rows(1, k, a, row, column, b, c, next, columns, add);
}

/* Columns first.. of b [k, *] as `gemm` wants them; its numbers lie `row` and `column` apart. */
static void gemm_pack(int k, const float *b, long row, long column, int columns, float *out) {
    for (int j = 0; j < k; j++, b += row, out += WIDE) {
        if (columns == WIDE && column == 1)
            OVER(i, ACROSS) *(F *)(out + LANES * i) = LOAD(F, b + LANES * i);
        else
            for (int i = 0; i < WIDE; i++)
                out[i] = i < columns ? b[i * column] : 0;
    }
}
