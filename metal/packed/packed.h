/* Weights that stay packed: what they look like in memory, and what can be done with them.
 *
 * A matrix [rows, columns] is kept in panels of 16 rows. A panel holds its blocks one after another, each its scales
 * and then its codes, word by word: 32 bits of each of the 16 rows side by side. So one vector holds the same columns
 * of 16 rows, products need no sums across a vector, and memory is read from one end to the other. The bits of a word
 * are as the file has them: to pack is to transpose words. */

#ifndef PACKED_H
#define PACKED_H

#include <stdint.h>

enum { LANES = 16 };  /* rows of a panel */
enum { SUMMED = 32 }; /* columns whose activations are summed, for what has an offset */

enum layout { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, AFFINE4, AFFINE8, FLOAT, LAYOUTS };
enum number { FLOAT32, FLOAT16, BFLOAT16 }; /* of the scales of AFFINE4 and AFFINE8; keys and values: the first two */

typedef struct {
    int layout, number, group; /* group: columns that share a scale in AFFINE4 and AFFINE8 */
    int rows, columns;
    int block, blocks;               /* columns of a block, and how many a row has */
    int block_scales, block_codes;   /* bytes of a block in a panel */
    long panel;                      /* bytes of a panel, rounded up */
    uint8_t *data;                   /* [panels, panel], aligned to 64 bytes */
} matrix_t;

static inline int block_bytes(const matrix_t *m) { /* from one block of a panel to the next */
    return m->block_scales + m->block_codes;
}

/* How codes lie in a word: as floats not at all, as nibbles in GGUF's halves of a block or one after another, as bytes
 * without or with a sign. Activations are arranged for it: pairs of 16-bit numbers in the order in which codes come, or
 * floats that make up for a code being taken where it stands, a power of two too large, which changes no bit. */
enum order { PLAIN, HALVES, NIBBLES, BYTES, SIGNED, ORDERS, HALVES8 = ORDERS, NIBBLES8, BYTES8 }; /* 8: in 8 bits */

/* Activations as a product reads them: blocks of rows side by side, [columns, r] of r rows and the sums of each SUMMED
 * columns behind them, [columns / SUMMED, r]; or in 16 bits [columns / 2, r] words, then sums, then what the numbers
 * are multiplied by; in 8 bits [columns / 4, r] words, and the same. r is the most that a processor's registers hold,
 * less at the end.
 *
 * Those of 24 bits, as many as a float32 has, are the sum of two terms, each multiplied for itself: 16 bits, and 8 of
 * what those leave, or 16 where codes are too wide for 8. */
typedef struct {
    const float *values;
    int rows, columns, order;
} activations_t;

enum { TERMS = 2 };

typedef struct {
    float max, least;         /* of the possible logits: the largest, the smallest */
    int possible, unusable;   /* how many are > -inf; NaN or +inf was found: nothing else is set */
    double sum, weighted;     /* of exp(x - max), and of exp(x - max) (x - max) */
    double mean, variance;    /* of the possible ones */
} scan_t;

enum { CANDIDATES = 256, BINS = 64, ROW = 256 }; /* ROW: logits whose masses are added up */

/* What else is to be known of a row of logits. */
typedef struct {
    float edges[BINS + 1], lses[BINS];    /* of a histogram; log-sum-exp of each bin, -inf for an empty one */
    int rank, candidates, others;         /* 1 + how many are larger than the token's; how many ids are of each kind */
    int counts[BINS];
} look_t;

enum activation { SILU, GELU_TANH };

/* What is compiled once for each kind of processor. */
typedef struct {
    const char *name;
    int most; /* rows of activations at once */
    void (*arrange)(const float *x, long next, int first, int rows, int columns, int order, float *out);
    void (*left_over)(const float *x, int columns, float *out); /* or null: activations stay floats, in one term */
    void (*multiply)(const matrix_t *m, const activations_t *x, int first, int end, float *y, long next, int add);
    void (*totals)(const float *x, int n, scan_t *out, float *masses);
    int (*larger_than)(const float *x, int n, float bar, float *most);
    int (*most_likely)(const float *x, int n, const float *most, int count, int *ids, int *work);
    int (*inverse)(const float *x, int n, float top, const float *masses, const float *shares);
    float (*nucleus)(const float *x, const float *weights, int n, double goal, float *left);
    void (*bins)(const float *x, int n, float top, const int *apart, int count, const float *edges, int *counts,
                 double *sums);
    void (*norm)(const float *x, const float *weight, int n, float eps, float *y);
    void (*turn)(float *x, int pairs, int neighbours, const float *cosines, const float *sines);
    void (*gate)(const float *gate, const float *up, int n, int activation, float *y);
    float (*soften)(float *scores, int first, int n, int padded, float *total);
    void (*norm_back)(const float *x, const float *weight, const float *dy, int n, float eps, float *out);
    void (*gate_back)(float *gate, float *up, const float *dy, int n, int activation);
    void (*soften_back)(const float *weights, float *gradients, int n);
    void (*dots)(const float *x, int rows, int columns, const float *a, int count, const float *scales, float *out,
                 long next);
    void (*scores)(const float *q, int rows, int size, const void *keys, int number, long fetch, int from, int count,
                   float *out, long next);
    void (*mix)(const float *weights, long next, int rows, int count, const void *values, int number, int size,
                long fetch, float *out);
    void (*join)(const float *best, const float *sums, const float *mixed, long next, int parts, int size, float *out);
    void (*narrow)(const float *x, int n, uint16_t *out);
    float (*exponential)(float x);
    void (*logarithms)(const float *x, int n, float *out);
    int wide; /* columns of b that gemm has side by side */
    void (*gemm)(int rows, int k, const float *a, long row, long column, const float *b, long apart, float *c,
                 long next, int columns, int add);
    void (*gemm_pack)(int k, const float *b, long row, long column, int columns, float *out);
    void (*columns_of)(const matrix_t *m, int p, float *out);
    void (*rows_of)(const matrix_t *m, int p, long apart, float *out);
} kernels_t;

extern const kernels_t likely_plain;
#if defined(__x86_64__)
extern const kernels_t likely_avx2, likely_avx512;
#endif

typedef void (*part_t)(void *context, int part);

const kernels_t *likely_kernels(void);
void likely_rows(const matrix_t *m, const int *ids, int count, float *out);
int likely_alike(const matrix_t *a, const matrix_t *b);
int likely_arrange(const matrix_t *m, const float *x, long next, int rows, int bits, float *work, activations_t *terms);
void share(part_t run, void *context, int parts); /* on the threads there are */
long likely_arranged(int rows, int columns);             /* floats of activations */
void likely_multiply(const matrix_t *const *m, int count, const activations_t *terms, int of, float *const *y,
                     const long *next, int add);

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

#endif
