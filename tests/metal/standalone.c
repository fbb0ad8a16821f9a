/* Runs attention.c without Python or libc: `_start` writes the scores of 5 queries for 1,030 keys of 70 numbers, and what
 * they mix of as many values of 44. For machines that only an emulator is at hand for. */
#include "attention.h"

enum { QUERY_ROWS = 5, N = 1030, KEY = 70, VALUE = 44 };
static float q[QUERY_ROWS * KEY], keys[N * KEY], values[N * VALUE], scores[QUERY_ROWS * N], mixed[QUERY_ROWS * VALUE];

void *memset(void *at, int value, unsigned long n) {
    for (unsigned long i = 0; i < n; i++)
        ((volatile unsigned char *)at)[i] = (unsigned char)value;
    return at;
}

void *memcpy(void *to, const void *from, unsigned long n) {
    for (unsigned long i = 0; i < n; i++)
        ((volatile unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    return to;
}

static long call(long number, long a, long b, long c) {
#if defined(__aarch64__)
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
#else
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
#endif
}

static void fill(float *x, int count) {
    for (int i = 0; i < count; i++)
        x[i] = (float)(i * 37 % 101) / 50 - 1;
}

#if defined(__x86_64__)
__attribute__((force_align_arg_pointer))
#endif
void _start(void) {
#if defined(__aarch64__)
    const long write = 64, leave = 93;
#else
    const long write = 1, leave = 60;
#endif
    int found = likely_attention_init(0);
    fill(q, QUERY_ROWS * KEY);
    fill(keys, N * KEY);
    fill(values, N * VALUE);
    product_t score = {QUERY_ROWS, N, KEY, 1, 0, q, keys, KEY, 1, KEY, N, scores};
    product_t mix = {QUERY_ROWS, VALUE, N, 0, 0, scores, values, N, 1, VALUE, VALUE, mixed};
    likely_scores(&score);
    likely_mix(&mix);
    call(write, 1, (long)scores, sizeof scores);
    call(write, 1, (long)mixed, sizeof mixed);
    call(leave, found ? 0 : 1, 0, 0);
}
