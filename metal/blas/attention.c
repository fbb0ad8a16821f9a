/* Scores of a few queries, and the mix of values by their softmax: both bound by memory, so each key and each value is
 * read once for all queries of its group, and the exponentials cost next to nothing beside it.
 *
 * Vectors are 8 floats: AVX2 with FMA on x86-64, two NEON registers on aarch64. Long products are cut into parts of
 * fixed size, which the calling thread and any that wait in `likely_worker` take one at a time; sums over parts are
 * added in order, so that a result is the same to the bit however many threads there were. Of libc it takes memset,
 * memcpy and the call to the kernel for a futex. */

#include "attention.h"

#if defined(__x86_64__)
#include <cpuid.h>
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define PAUSE() __asm__ volatile("pause")
enum { SYS_FUTEX = 202 };
#else
#define PAUSE() __asm__ volatile("isb")
enum { SYS_FUTEX = 98 };
#endif

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

typedef float V __attribute__((vector_size(32), aligned(4), may_alias));
typedef int I __attribute__((vector_size(32)));
typedef float V4 __attribute__((vector_size(16), aligned(4), may_alias));

enum { LANES = 8, KEYS = 4, ROWS = 3, BLOCK = 128 }; /* of a vector; of a tile; keys whose weights are made at once */
#define LOWEST -0x1.fffffep127f /* of the finite numbers */

enum { PART = 512, PARTS = 16, AHEAD = 16 }; /* rows of a part at least; parts at most; keys fetched ahead */
enum { LINE = 32 };                          /* floats of two cache lines, which are fetched together */

/* --- shared work ------------------------------------------------------------------------------------------------ */

static long (*libc_syscall)(long, ...);

/* A number that threads wait to see changed, and how many of them sleep. */
typedef struct {
    int value, asleep;
} gate_t;

static gate_t turn, inside, busy; /* jobs so far; threads that are at one; whether one is being done */
static int workers;
static long left; /* the parts that nobody has taken: the first, and 2^32 times the one after the last */
static struct {
    part_t run;
    void *context;
} job;

enum { WAIT = 128, WAKE = 129, ALL = 1 << 30 }; /* FUTEX_WAIT and FUTEX_WAKE, private; whom to wake */
enum { SPINS = 20000 }; /* looks before a thread sleeps: 1 ms. With a tenth of that tokens took 1.1 times as long */

static void wait_while(gate_t *gate, int value) {
    for (int spins = 0; __atomic_load_n(&gate->value, __ATOMIC_SEQ_CST) == value;)
        if (++spins < SPINS)
            PAUSE();
        else {
            __atomic_add_fetch(&gate->asleep, 1, __ATOMIC_SEQ_CST);
            libc_syscall(SYS_FUTEX, &gate->value, WAIT, value, (void *)0, (void *)0, 0);
            __atomic_sub_fetch(&gate->asleep, 1, __ATOMIC_SEQ_CST);
        }
}

static void wake(gate_t *gate) {
    if (__atomic_load_n(&gate->asleep, __ATOMIC_SEQ_CST))
        libc_syscall(SYS_FUTEX, &gate->value, WAKE, ALL, (void *)0, (void *)0, 0);
}

/* Takes parts until none is left: a caller from the first on, its helpers from the last, so that each finds in its
 * cache what it wrote there a moment ago. */
static void take(int helper) {
    for (long some = __atomic_load_n(&left, __ATOMIC_SEQ_CST);;) {
        int first = some & 0xffffffff, end = some >> 32;
        if (first >= end)
            return;
        long rest = helper ? some - (1L << 32) : some + 1;
        if (__atomic_compare_exchange_n(&left, &some, rest, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            job.run(job.context, helper ? end - 1 : first);
            some = __atomic_load_n(&left, __ATOMIC_SEQ_CST);
        }
    }
}

/* Runs every part on the threads there are; one caller's at a time. For metal/packed too. */
EXPORT void likely_share(part_t run, void *context, int parts) {
    if (!workers || parts < 2) {
        for (int part = 0; part < parts; part++)
            run(context, part);
        return;
    }
    while (__atomic_exchange_n(&busy.value, 1, __ATOMIC_SEQ_CST))
        wait_while(&busy, 1);
    job.run = run, job.context = context;
    __atomic_store_n(&left, (long)parts << 32, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&turn.value, 1, __ATOMIC_SEQ_CST);
    wake(&turn);
    take(0);
    for (int still; (still = __atomic_load_n(&inside.value, __ATOMIC_SEQ_CST));)
        wait_while(&inside, still);
    __atomic_store_n(&busy.value, 0, __ATOMIC_SEQ_CST);
    wake(&busy);
}

/* A thread that helps for as long as the process lives. One that comes late finds nothing left: `inside` is raised
 * before a part is taken, so that nobody sets up the next job while it works on this one. */
EXPORT void likely_worker(void) {
    __atomic_add_fetch(&workers, 1, __ATOMIC_SEQ_CST);
    for (int seen = 0;;) {
        wait_while(&turn, seen);
        seen = __atomic_load_n(&turn.value, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&inside.value, 1, __ATOMIC_SEQ_CST);
        take(1);
        __atomic_sub_fetch(&inside.value, 1, __ATOMIC_SEQ_CST);
        wake(&inside);
    }
}

EXPORT int likely_workers(void) {
    return __atomic_load_n(&workers, __ATOMIC_SEQ_CST);
}

/* After a fork: the helpers stayed behind. */
EXPORT void likely_alone(void) {
    workers = busy.value = busy.asleep = inside.value = inside.asleep = turn.asleep = 0;
    left = 0;
}

/* OpenBLAS's own jobs, which it hands to these threads instead of ones that spin for as long as it likes. The jobs of a
 * gemm wait for each other, so there have to be as many threads as it was told to use. */
typedef struct {
    void (*run)(int thread, void *job, int data);
    char *jobs;
    unsigned long size;
    int data;
} blas_jobs_t;

static void blas_job(void *context, int part) {
    blas_jobs_t *all = context;
    all->run(part, all->jobs + part * all->size, all->data);
}

EXPORT void likely_blas_jobs(int wait, void (*run)(int, void *, int), int count, unsigned long size, void *jobs,
                             int data) {
    blas_jobs_t all = {run, jobs, size, data};
    likely_share(blas_job, &all, count);
}

typedef struct {
    const product_t *p;
    int rows, size, parts; /* of all, of a part but the last, and how many */
    float *floats;         /* of the queries, or of every part's result */
} work_t;

/* Where a part ends does not depend on what follows, so a query's sums are the same beside later keys that it must not
 * see; only where PARTS of them would not do, parts grow. */
static work_t work_of(const product_t *p, int rows, float *floats) {
    int size = ((rows - 1) / (PART * PARTS) + 1) * PART;
    return (work_t){p, rows, size, (rows - 1) / size + 1, floats};
}

static int end_of(const work_t *work, int part) {
    return part + 1 < work->parts ? (part + 1) * work->size : work->rows;
}

/* The last few rows of b with zeros after them: a tile of KEYS must not read what may not be there. */
static const float *padded(const float *rows, int count, long ldb, int width, float few[KEYS * WIDTH]) {
    for (int j = 0; j < KEYS; j++)
        for (int d = 0; d < width; d++)
            few[j * width + d] = j < count ? rows[j * ldb + d] : 0;
    return few;
}

/* --- scores ----------------------------------------------------------------------------------------------------- */

/* The sums of four vectors. */
INLINE V4 sums(V a, V b, V c, V d) {
#define EVEN(x, y) __builtin_shufflevector(x, y, 0, 8, 2, 10, 4, 12, 6, 14)
#define ODD(x, y) __builtin_shufflevector(x, y, 1, 9, 3, 11, 5, 13, 7, 15)
    V ab = EVEN(a, b) + ODD(a, b), cd = EVEN(c, d) + ODD(c, d); /* a, b, a, b, ...: pairs of neighbours */
    V all = __builtin_shufflevector(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) +
            __builtin_shufflevector(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15); /* a, b, c, d, a, b, c, d */
    return __builtin_shufflevector(all, all, 0, 1, 2, 3) + __builtin_shufflevector(all, all, 4, 5, 6, 7);
}

/* Four keys by `rows` queries, a known number to the compiler. `q` [rows, k] without gaps. */
INLINE void dots(const int rows, int fetch, const float *q, const float *keys, long ldb, int k, V4 out[ROWS]) {
    V acc[ROWS][KEYS] = {0};
    int d = 0;
    for (; d + LANES <= k; d += LANES) {
#pragma unroll
        for (int j = 0; j < KEYS; j++) {
            V key = *(const V *)(keys + j * ldb + d);
            if (fetch && !(d & 15))
                __builtin_prefetch(keys + (j + AHEAD) * ldb + d, 0, 2);
#pragma unroll
            for (int r = 0; r < rows; r++)
                acc[r][j] += key * *(const V *)(q + (long)r * k + d);
        }
    }
#pragma unroll
    for (int r = 0; r < rows; r++)
        out[r] = sums(acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
    for (; d < k; d++)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < KEYS; j++)
                out[r][j] += keys[j * ldb + d] * q[(long)r * k + d];
}

static void scores_part(void *context, int part) {
    const work_t *work = context;
    const product_t *p = work->p;
    const float *q = work->floats;
    float few[KEYS * WIDTH];
    int end = end_of(work, part);
    for (int j = part * work->size; j < end; j += KEYS) {
        int count = end - j < KEYS ? end - j : KEYS;
        long ldb = count < KEYS ? p->k : p->ldb;
        const float *keys = p->b + j * p->ldb;
        if (count < KEYS)
            keys = padded(keys, count, p->ldb, p->k, few);
        for (int r = 0; r < p->m; r += ROWS) {
            V4 out[ROWS];
            int rows = p->m - r < ROWS ? p->m - r : ROWS;
            if (rows == 3)
                dots(3, r == 0, q + (long)r * p->k, keys, ldb, p->k, out);
            else if (rows == 2)
                dots(2, r == 0, q + (long)r * p->k, keys, ldb, p->k, out);
            else
                dots(1, r == 0, q + (long)r * p->k, keys, ldb, p->k, out);
            for (int i = 0; i < rows; i++)
                for (int x = 0; x < count; x++) {
                    float *c = p->c + (r + i) * p->ldc + j + x;
                    *c = p->beta ? p->alpha * out[i][x] + p->beta * *c : p->alpha * out[i][x];
                }
        }
    }
}

void likely_scores(const product_t *p) {
    float q[QUERIES * WIDTH];
    for (int r = 0; r < p->m; r++)
        for (int d = 0; d < p->k; d++)
            q[r * p->k + d] = p->a[r * p->next + d * p->step];
    work_t work = work_of(p, p->n, q);
    likely_share(scores_part, &work, work.parts);
}

/* --- the mix ---------------------------------------------------------------------------------------------------- */

/* e^x for x <= 0 (a NaN stays one): 2^n e^r with |r| <= ln(2) / 2, whose series is cut after r^7, an error of 5e-9. */
INLINE V exponential(V x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to a whole number */
    V n = (x * 1.44269504f + magic) - magic;
    V r = (x - n * 0.693359375f) - n * -2.12194440e-4f; /* ln 2 in two pieces, the first with few bits */
    V y = 1.0f / 5040 * r + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    I power = (__builtin_convertvector(n, I) + 127) << 23;
    I small = x < -87.0f; /* below that 2^n would leave the exponent */
    return (V)(~small & (I)(y * (V)power));
}

/* `rows` of out [rows, n] += their weights of KEYS values times these. */
INLINE void weigh(const int rows, int fetch, float (*w)[BLOCK], const float *values, long ldb, float *out, int n) {
    int c = 0;
    for (; c + LANES <= n; c += LANES) {
        V value[KEYS];
#pragma unroll
        for (int j = 0; j < KEYS; j++) {
            value[j] = *(const V *)(values + j * ldb + c);
            if (fetch && !(c & 15))
                __builtin_prefetch(values + (j + AHEAD) * ldb + c, 0, 2);
        }
#pragma unroll
        for (int r = 0; r < rows; r++) {
            V sum = *(V *)(out + (long)r * n + c);
#pragma unroll
            for (int j = 0; j < KEYS; j++)
                sum += w[r][j] * value[j];
            *(V *)(out + (long)r * n + c) = sum;
        }
    }
    for (; c < n; c++)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < KEYS; j++)
                out[(long)r * n + c] += w[r][j] * values[j * ldb + c];
}

static float largest(const float *x, int count, long step) {
    float most = x[0];
    if (step == 1 && count >= LANES) {
        V best = *(const V *)x;
        for (int i = LANES; i + LANES <= count; i += LANES) {
            V next = *(const V *)(x + i);
            I more = next > best;
            best = (V)((more & (I)next) | (~more & (I)best));
        }
        for (int i = 0; i < LANES; i++)
            most = best[i] > most ? best[i] : most;
    }
    for (int i = step == 1 ? count / LANES * LANES : 0; i < count; i++)
        most = x[i * step] > most ? x[i * step] : most;
    return most;
}

/* From one part's result to the next: no cache line is two threads'. */
static long apart(const product_t *p) {
    return ((2L + p->n) * p->m + LINE - 1) / LINE * LINE;
}

/* One part's largest score of each row out[0:m], its weights' sums out[m:2m], and what they mix, [m, n] behind them. */
static void mix_part(void *context, int part) {
    const work_t *work = context;
    const product_t *p = work->p;
    float *out = work->floats + apart(p) * part, *sum = out + p->m, *acc = out + 2 * p->m;
    int first = part * work->size, end = end_of(work, part);
    for (int r = 0; r < p->m; r++) {
        out[r] = largest(p->a + r * p->next + first * p->step, end - first, p->step);
        sum[r] = 0;
    }
    for (int i = 0; i < p->n * p->m; i++)
        acc[i] = 0;
    for (int j = first; j < end; j += BLOCK) {
        float w[QUERIES][BLOCK], few[KEYS * WIDTH];
        int count = end - j < BLOCK ? end - j : BLOCK;
        const float *b = p->b + j * p->ldb;
        for (int r = 0; r < p->m; r++) {
            const float *a = p->a + r * p->next + j * p->step;
            float shift = out[r] < LOWEST ? 0 : out[r]; /* all of them -inf: weights of 0 */
            V total = {0};
            for (int i = 0; i < BLOCK; i += LANES) {
                V x;
                if (p->step == 1 && i + LANES <= count)
                    x = *(const V *)(a + i);
                else
                    for (int l = 0; l < LANES; l++)
                        x[l] = i + l < count ? a[(i + l) * p->step] : 2 * LOWEST;
                total += *(V *)(w[r] + i) = exponential(x - shift);
            }
            for (int l = 0; l < LANES; l++)
                sum[r] += total[l];
        }
        for (int i = 0; i < count; i += KEYS) {
            const float *values = b + i * p->ldb;
            long ldb = count - i < KEYS ? p->n : p->ldb;
            if (count - i < KEYS)
                values = padded(values, count - i, p->ldb, p->n, few);
            for (int r = 0; r < p->m; r += ROWS) {
                float(*some)[BLOCK] = (float(*)[BLOCK])(w[r] + i), *mixed = acc + (long)r * p->n;
                if (p->m - r >= 3)
                    weigh(3, r == 0, some, values, ldb, mixed, p->n);
                else if (p->m - r == 2)
                    weigh(2, r == 0, some, values, ldb, mixed, p->n);
                else
                    weigh(1, r == 0, some, values, ldb, mixed, p->n);
            }
        }
    }
}

/* One part's sums onto those of the parts before it, `most` the largest score so far (arXiv:1805.02867). */
static void add(const product_t *p, const float *part, float *most, float *sum) {
    for (int r = 0; r < p->m; r++) {
        float larger = part[r] > most[r] ? part[r] : most[r];
        V shares = exponential((V){most[r], part[r]} - (larger < LOWEST ? 0 : larger));
        sum[r] = sum[r] * shares[0] + part[p->m + r] * shares[1];
        most[r] = larger;
        for (int c = 0; c < p->n; c++) {
            float *sum = p->c + r * p->ldc + c;
            *sum = *sum * shares[0] + part[2 * p->m + (long)r * p->n + c] * shares[1];
        }
    }
}

void likely_mix(const product_t *p) {
    float most[QUERIES], sum[QUERIES];
    float parts[PARTS * ((2 + WIDTH) * QUERIES + LINE)] __attribute__((aligned(LINE * sizeof(float))));
    work_t work = work_of(p, p->k, parts);
    likely_share(mix_part, &work, work.parts);
    for (int r = 0; r < p->m; r++) {
        most[r] = parts[r], sum[r] = 0;
        for (int c = 0; c < p->n; c++)
            p->c[r * p->ldc + c] = 0;
    }
    for (int part = 0; part < work.parts; part++)
        add(p, parts + apart(p) * part, most, sum);
    for (int r = 0; r < p->m; r++)
        for (int c = 0; c < p->n; c++)
            p->c[r * p->ldc + c] /= sum[r];
}

#if defined(__x86_64__)
#pragma clang attribute pop
#endif

int likely_attention_init(long (*real_syscall)(long, ...)) {
    libc_syscall = real_syscall;
#if defined(__x86_64__)
    enum { FMA = 1 << 12, XSAVE = 1 << 27, AVX = 1 << 28, AVX2 = 1 << 5, YMM = 6 };
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (FMA | XSAVE | AVX)) != (FMA | XSAVE | AVX))
        return 0;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & YMM) == YMM && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & AVX2);
#else
    return 1;
#endif
}
