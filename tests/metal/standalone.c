/* Runs attention.c without Python or libc: `_start` writes the scores of 5 queries for 1,030 keys of 70 numbers, and
 * what they mix of as many values of 44. For machines that only an emulator is at hand for. */
#include "attention.h"
#include "standalone.h"

enum { QUERY_ROWS = 5, N = 1030, KEY = 70, VALUE = 44 };
static float q[QUERY_ROWS * KEY], keys[N * KEY], values[N * VALUE], scores[QUERY_ROWS * N], mixed[QUERY_ROWS * VALUE];

static void fill(float *x, int count) {
    for (int i = 0; i < count; i++)
        x[i] = (float)(i * 37 % 101) / 50 - 1;
}

START void _start(void) {
    int found = likely_attention_init(0);
    fill(q, QUERY_ROWS * KEY);
    fill(keys, N * KEY);
    fill(values, N * VALUE);
    product_t score = {QUERY_ROWS, N, KEY, 1, 0, q, keys, KEY, 1, KEY, N, scores};
    product_t mix = {QUERY_ROWS, VALUE, N, 0, 0, scores, values, N, 1, VALUE, VALUE, mixed};
    likely_scores(&score);
    likely_mix(&mix);
    call(WRITE, 1, (long)scores, sizeof scores);
    call(WRITE, 1, (long)mixed, sizeof mixed);
    call(LEAVE, found ? 0 : 1, 0, 0);
}
