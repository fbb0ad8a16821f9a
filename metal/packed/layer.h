/* The parts of a layer between its products. */

/* x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467). */
static void norm(const float *x, const float *weight, int n, float eps, float *y) {
    F squares = {0};
    float rest = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        squares += LOAD(F, x + i) * LOAD(F, x + i);
    for (int j = i; j < n; j++)
        rest += x[j] * x[j];
    float factor = 1 / __builtin_sqrtf((sum(squares) + rest) / n + eps);
    for (i = 0; i + LANES <= n; i += LANES)
        *(F *)(y + i) = LOAD(F, x + i) * factor * LOAD(F, weight + i);
    for (; i < n; i++)
        y[i] = x[i] * factor * weight[i];
}

/* Turns the pairs of a head, (i, i + pairs) or with `neighbours` (2 i, 2 i + 1) (arXiv:2104.09864). */
static void turn(float *x, int pairs, int neighbours, const float *cosines, const float *sines) {
    int i = 0;
    if (!neighbours)
        for (; i + LANES <= pairs; i += LANES) {
            F a = LOAD(F, x + i), b = LOAD(F, x + pairs + i), c = LOAD(F, cosines + i), s = LOAD(F, sines + i);
            *(F *)(x + i) = a * c - b * s;
            *(F *)(x + pairs + i) = b * c + a * s;
        }
    for (; i < pairs; i++) {
        float *a = x + (neighbours ? 2 * i : i), *b = neighbours ? a + 1 : a + pairs, was = *a;
        *a = was * cosines[i] - *b * sines[i];
        *b = *b * cosines[i] + was * sines[i];
    }
}

/* y = activation(gate) * up: silu or gelu by tanh, each a product with a sigmoid. */
INLINE F gated(F x, F up, int activation) {
    F inner = activation == SILU ? x : 1.5957691216f * (x + 0.044715f * x * x * x); /* 2 sqrt(2 / pi) */
    return x / (1 + power_of_e(-inner)) * up;
}

static void gate_by(const float *gate, const float *up, int n, int activation, float *y) {
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        *(F *)(y + i) = gated(LOAD(F, gate + i), LOAD(F, up + i), activation);
    for (; i < n; i++)
        y[i] = gated(all(gate[i]), all(up[i]), activation)[0];
}

/* What is added to the gradient of x, where y = norm(x) has the gradient dy: with f = 1 / sqrt(mean(x^2) + eps),
 * f (w dy - x f^2 mean(w dy x)). `out` may be dy. */
static void norm_back(const float *x, const float *weight, const float *dy, int n, float eps, float *out) {
    F squares = {0}, along = {0};
    float rest = 0, more = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        F v = LOAD(F, x + i);
        squares += v * v, along += v * LOAD(F, weight + i) * LOAD(F, dy + i);
    }
    for (int j = i; j < n; j++)
        rest += x[j] * x[j], more += x[j] * weight[j] * dy[j];
    float factor = 1 / __builtin_sqrtf((sum(squares) + rest) / n + eps);
    float share = factor * factor * (sum(along) + more) / n;
    for (i = 0; i + LANES <= n; i += LANES)
        *(F *)(out + i) = factor * (LOAD(F, weight + i) * LOAD(F, dy + i) - share * LOAD(F, x + i));
    for (; i < n; i++)
        out[i] = factor * (weight[i] * dy[i] - share * x[i]);
}

/* The gradients of gate and up take their places, where gated(gate, up) has the gradient dy. */
INLINE void gated_back(F *gate, F *up, F dy, int activation) {
    F x = *gate, square = x * x;
    F inner = activation == SILU ? x : 1.5957691216f * (x + 0.044715f * square * x);
    F slope = activation == SILU ? all(1) : 1.5957691216f * (1 + 3 * 0.044715f * square);
    F sigmoid = 1 / (1 + power_of_e(-inner));
    *gate = dy * *up * (sigmoid + x * sigmoid * (1 - sigmoid) * slope);
    *up = dy * x * sigmoid;
}

static void gate_back(float *gate, float *up, const float *dy, int n, int activation) {
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        gated_back((F *)(gate + i), (F *)(up + i), LOAD(F, dy + i), activation);
    for (; i < n; i++) {
        F a = all(gate[i]), b = all(up[i]);
        gated_back(&a, &b, all(dy[i]), activation);
        gate[i] = a[0], up[i] = b[0];
    }
}

/* A row's weights, `n` of them, a multiple of 16, and their gradients, which become those of its scores. */
static void soften_back(const float *weights, float *gradients, int n) {
    F along = {0};
    for (int i = 0; i < n; i += LANES)
        along += LOAD(F, weights + i) * LOAD(F, gradients + i);
    float mean = sum(along);
    for (int i = 0; i < n; i += LANES)
        *(F *)(gradients + i) = LOAD(F, weights + i) * (LOAD(F, gradients + i) - mean);
}

enum { SUMS = 64 }; /* vectors that are added up in floats: a vocabulary's would lose what is small */

/* The first `n` of each row's scores become their exponentials relative to the largest, others up to `padded`, a
 * multiple of 16, 0. Before `first` too. Returns the largest, and their sum. */
static float soften(float *scores, int first, int n, int padded, float *total) {
    F best = all(-__builtin_inff());
    for (int i = 0; i < first && i < padded; i++)
        scores[i] = -__builtin_inff();
    for (int i = n > 0 ? n : 0; i < padded; i++)
        scores[i] = -__builtin_inff();
    for (int i = 0; i < padded; i += LANES)
        best = largest(LOAD(F, scores + i), best);
    float most = best[0];
    for (int i = 1; i < LANES; i++)
        most = best[i] > most ? best[i] : most;
    float shift = most > -__builtin_inff() ? most : 0;
    double whole = 0;
    for (int i = 0, end; i < padded; i = end) {
        F sums = {0};
        end = i + SUMS * LANES < padded ? i + SUMS * LANES : padded;
        for (int j = i; j < end; j += LANES) {
            F weight = power_of_e(LOAD(F, scores + j) - shift);
            sums += weight;
            *(F *)(scores + j) = weight;
        }
        whole += sum(sums);
    }
    *total = whole;
    return most;
}

/* out[k] = x . a_k scales[k] for K rows of `a`, side by side. */
INLINE void dots_of(const int K, const float *x, int columns, const float *a, const float *scales, float *out) {
#define ROWS(k) _Pragma("unroll") for (int k = 0; k < K; k++)
    F sums[K];
    float rest[K];
    ROWS(k) sums[k] = (F){0}, rest[k] = 0;
    int i = 0;
    for (; i + LANES <= columns; i += LANES) {
        F v = LOAD(F, x + i);
        ROWS(k) sums[k] += v * LOAD(F, a + (long)k * columns + i);
    }
    for (; i < columns; i++)
        ROWS(k) rest[k] += x[i] * a[(long)k * columns + i];
    ROWS(k) out[k] = (sum(sums[k]) + rest[k]) * scales[k];
}

/* out [rows, next] = (x a^T) scales, for a few rows of `a` [count, columns], which stay in a cache. */
static void dots(const float *x, int rows, int columns, const float *a, int count, const float *scales, float *out,
                 long next) {
    for (int r = 0; r < rows; r++, x += columns, out += next) {
        int k = 0;
        for (; k + 4 <= count; k += 4)
            dots_of(4, x, columns, a + (long)k * columns, scales + k, out + k);
        for (; k < count; k++)
            dots_of(1, x, columns, a + (long)k * columns, scales + k, out + k);
    }
}

static void narrow(const float *x, int n, uint16_t *out) {
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        *(H *)(out + i) = halves(LOAD(F, x + i));
    for (; i < n; i++)
        out[i] = halves(all(x[i]))[0];
}

static float exponential(float x) {
    return power_of_e(all(x))[0];
}

/* Natural logarithms, -inf of 0; not for subnormal numbers. x is 2^n m with m from 1 / sqrt(2) on, and ln m is
 * 2 artanh((m - 1) / (m + 1)), whose series is cut after the ninth power, an error of 2e-9. */
static void logarithms(const float *x, int n, float *out) {
    for (int i = 0; i < n; i += LANES) {
        F v = LOAD(F, x + i);
        I bits = (I)v - 0x3f3504f3, whole = bits >> 23;
        F m = (F)((bits & 0x7fffff) + 0x3f3504f3), s = (m - 1) / (m + 1), z = s * s;
        F y = s * (2 + z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7 + z * (2.0f / 9)))));
        F log = y + FLOATS(whole) * -2.12194440e-4f + FLOATS(whole) * 0.693359375f; /* ln 2 in two pieces */
        I there = v > 0;
        *(F *)(out + i) = (F)((there & (I)log) | (~there & (I)all(-__builtin_inff())));
    }
}
