/* The two products of attention for a few queries, each reading its keys or values once. What gemv.c sends there. */

typedef struct {
    int m, n, k;         /* rows of a, columns of c, what is summed over */
    float alpha, beta;   /* of the scores */
    const float *a, *b;  /* a [m, k]; b [n, k] for the scores, [k, n] for the mix */
    long next, step;     /* from one row of a to the next, and from one of its numbers to the next */
    long ldb, ldc;
    float *c;            /* [m, n] */
} product_t;

enum { QUERIES = 32, WIDTH = 256 }; /* the most rows of a, and the widest key or value */

typedef void (*part_t)(void *context, int part);

void likely_share(part_t run, void *context, int parts);    /* on the threads there are */
int likely_attention_init(long (*libc_syscall)(long, ...)); /* whether this processor has the instructions */
void likely_scores(const product_t *p);                     /* c = alpha * a b^T + beta * c */
void likely_mix(const product_t *p);                        /* c = softmax(a) b */
void likely_few(const product_t *p); /* c = alpha * a b^T + beta * c, b a weight, a's numbers in rows */
