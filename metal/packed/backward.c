/* The way back through a model: from the gradient of its last hidden states to those of the low ranks beside its
 * products. A layer is computed once more from its input, and then gone back through. The weights have no gradient, and
 * of their matrices a few rows at a time are floats. 
 *
 * Rows are those of whole texts, one after the other, each from position 0. */

#include "forward.h"

enum { QUERIES = 128 };      /* of a head, at once */
enum { CHUNK = 256 };        /* rows of a product forward: what it arranges stays in a cache */
enum { DEEP = 256, TALL = 96 }; /* of a product's inner numbers, and rows of it, at a time: those stay in a cache */

/* Where the numbers of a matrix lie: how far apart from row to row and from column to column. */
typedef struct {
    const float *at;
    long row, column;
} view_t;

static view_t plain(const float *at, long next) {
    return (view_t){at, next, 1};
}

static view_t turned(const float *at, long next) {
    return (view_t){at, 1, next};
}

/* The gradients of what stands beside a product: of `down` [ranks, columns], and of each of its ups, as they follow one
 * another, transposed: [ranks, outputs]. */
typedef struct {
    float *down, *ups;
} gradient_t;

/* Of a layer. */
typedef struct {
    gradient_t qkv, out, gate_up, down;
} gradients_t;

/* Texts side by side in a layer. */
typedef struct {
    const model_t *m;
    const layer_t *layer;
    int rows, texts;
    const int *lengths;
    float *x, *y, *out; /* what a job of rows works on */
    const float *weight;
    long next;
    int place, turned; /* of queries and keys: whether they are turned back */
} rows_t;

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static float *take(float **work, long count) {
    float *room = *work;
    *work += (count + LANES - 1) / LANES * LANES;
    return room;
}

/* --- products --------------------------------------------------------------------------------------------------- */

typedef struct {
    view_t a;
    const float *b; /* packed */
    int rows, columns, deep;
    float *c;
    long next;
    int add;
} gemm_t;

static void gemm_part(void *context, int part) {
    const gemm_t *g = context;
    const kernels_t *kernels = likely_kernels();
    int first = part * TALL, rows = smaller(TALL, g->rows - first);
    for (int column = 0; column < g->columns; column += kernels->wide)
        kernels->gemm(rows, g->deep, g->a.at + first * g->a.row, g->a.row, g->a.column, g->b + (long)column * g->deep,
                      g->c + first * g->next + column, g->next, smaller(kernels->wide, g->columns - column), g->add);
}

static long packed(int columns) {
    return (long)DEEP * ((columns + 63) / 64 * 64);
}

/* c [rows, next] (+)= a b; a [rows, k], b [k, columns]. `work`: `packed` numbers. */
static void gemm(int rows, int columns, int k, view_t a, view_t b, int add, float *c, long next, float *work) {
    const kernels_t *kernels = likely_kernels();
    for (int first = 0; first < k; first += DEEP, add = 1) {
        int deep = smaller(DEEP, k - first), wide = kernels->wide;
        for (int column = 0; column < columns; column += wide)
            kernels->gemm_pack(deep, b.at + first * b.row + column * b.column, b.row, b.column,
                               smaller(wide, columns - column), work + (long)column * deep);
        gemm_t g = {{a.at + first * a.column, a.row, a.column}, work, rows, columns, deep, c, next, add};
        share(gemm_part, &g, (rows + TALL - 1) / TALL);
    }
}

typedef struct {
    const matrix_t *m;
    int first, count;
    float *out;
} unpack_t;

static void unpack_part(void *context, int part) {
    const unpack_t *u = context;
    for (int row = part * LANES; row < smaller(u->count, (part + 1) * LANES); row++) {
        int id = u->first + row;
        likely_rows(u->m, &id, 1, u->out + (long)row * u->m->columns);
    }
}

static long unpacked(const matrix_t *m) {
    return (long)DEEP * m->columns + packed(m->columns);
}

/* dx [rows, next_dx] (+)= dy [rows, next_dy] m, where y = x m^T. `work`: `unpacked` numbers. */
static void back(const matrix_t *m, const float *dy, long next_dy, int rows, float *dx, long next_dx, int add,
                 float *work) {
    for (int first = 0; first < m->rows; first += DEEP, add = 1) {
        unpack_t u = {m, first, smaller(DEEP, m->rows - first), work};
        share(unpack_part, &u, (u.count + LANES - 1) / LANES);
        gemm(rows, m->columns, u.count, plain(dy + first, next_dy), plain(work, m->columns), add, dx, next_dx,
             work + (long)DEEP * m->columns);
    }
}

/* The same for whoever has a matrix alone; `work` has room for `likely_back_floats`. */
EXPORT void likely_back(const matrix_t *m, const float *dy, int rows, float *dx, float *work) {
    back(m, dy, m->rows, rows, dx, m->columns, 0, work);
}

EXPORT long likely_back_floats(const matrix_t *m) {
    return unpacked(m);
}

static void scale_columns(float *z, int rows, int columns, const float *scales) {
    for (long r = 0; r < rows; r++)
        for (int i = 0; i < columns; i++)
            z[r * columns + i] *= scales[i];
}

/* dx [rows, columns] = the gradient of a product's input x, from that of its output dy; those of what stands beside it. */
static void linear_back(const linear_t *l, const addition_t *a, const gradient_t *g, const float *x, int rows,
                        const float *dy, float *dx, float *work) {
    int columns = l->parts[0]->columns, all = 0, ranks = a ? a->ranks : 0;
    for (int i = 0; i < l->count; i++)
        all += l->parts[i]->rows;
    for (int i = 0, at = 0; i < l->count; at += l->parts[i++]->rows)
        back(l->parts[i], dy + at, all, rows, dx, columns, i > 0, work);
    if (!a)
        return;
    float *z = take(&work, (long)rows * ranks), *dz = take(&work, (long)rows * ranks), *ups = g->ups;
    gemm(rows, ranks, columns, plain(x, columns), turned(a->down, columns), 0, z, ranks, work);
    scale_columns(z, rows, ranks, a->scales);
    for (int i = 0; i < a->count; i++) {
        const up_t *u = a->ups + i;
        const float *own = dy + u->start;
        int outputs = u->up->rows, some = u->up->columns;
        gemm(some, outputs, rows, turned(z + u->first, ranks), plain(own, all), 0, ups, outputs, work);
        back(u->up, own, all, rows, dz + u->first, ranks, 0, work);
        ups += (long)some * outputs;
    }
    scale_columns(dz, rows, ranks, a->scales);
    gemm(ranks, columns, rows, turned(dz, ranks), plain(x, columns), 0, g->down, columns, work);
    gemm(rows, columns, ranks, plain(dz, ranks), plain(a->down, columns), 1, dx, columns, work);
}

static void forward(const linear_t *l, const addition_t *a, const float *x, int rows, float *y, float *work) {
    long columns = l->parts[0]->columns, all = 0;
    for (int i = 0; i < l->count; i++)
        all += l->parts[i]->rows;
    for (long row = 0; row < rows; row += CHUNK)
        likely_linear(l, a, x + row * columns, smaller(CHUNK, rows - row), y + row * all, 0, 24, work);
}

/* --- rows ------------------------------------------------------------------------------------------------------- */

static void norm_part(void *context, int row) {
    const rows_t *p = context;
    long at = (long)row * p->m->width;
    likely_kernels()->norm(p->x + at, p->weight, p->m->width, p->m->eps, p->out + at);
}

static void norm_back_part(void *context, int row) {
    const rows_t *p = context;
    long at = (long)row * p->m->width;
    likely_kernels()->norm_back(p->x + at, p->weight, p->y + at, p->m->width, p->m->eps, p->out + at);
}

static void norm_rows(rows_t *p, float *x, const float *weight, float *out) {
    p->x = x, p->weight = weight, p->out = out;
    share(norm_part, p, p->rows);
}

/* `dy`, of what norm_rows gives, becomes the gradient of x. */
static void norm_rows_back(rows_t *p, float *x, const float *weight, float *dy) {
    p->x = x, p->weight = weight, p->y = p->out = dy;
    share(norm_back_part, p, p->rows);
}

/* y += x scale */
static void add_scaled(const float *x, float scale, long count, float *y) {
    for (long i = 0; i < count; i++)
        y[i] += x[i] * scale;
}

static void gate_part(void *context, int row) {
    const rows_t *p = context;
    long n = p->m->mlp_width;
    const float *gate = p->x + 2 * n * row;
    likely_kernels()->gate(gate, gate + n, n, p->m->activation, p->out + n * row);
}

static void gate_back_part(void *context, int row) {
    const rows_t *p = context;
    long n = p->m->mlp_width;
    float *gate = p->x + 2 * n * row;
    likely_kernels()->gate_back(gate, gate + n, p->y + n * row, n, p->m->activation);
}

/* Queries and keys of a text [length, next], `first` to be turned, after their norms. */
static void turn_heads(rows_t *p, float *qkv, const float *raw, int length, int backward) {
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    const kernels_t *kernels = likely_kernels();
    float sines[LANES * 64];
    int size = m->size, both = m->heads + m->kv_heads;
    for (int row = 0; row < length; row++) {
        const float *turns = layer->turns ? layer->turns + 2L * row * m->pairs : 0;
        float *x = qkv + row * p->next;
        for (int i = 0; turns && i < m->pairs; i++)
            sines[i] = backward ? -turns[m->pairs + i] : turns[m->pairs + i];
        for (int h = 0; h < both; h++, x += size) {
            const float *weight = h < m->heads ? layer->q_norm : layer->k_norm;
            for (int i = 0; backward && h < m->heads && i < size; i++)
                x[i] *= m->scale;
            if (weight && !backward)
                kernels->norm(x, weight, size, m->eps, x);
            if (turns)
                kernels->turn(x, m->pairs, m->neighbours, turns, sines);
            for (int i = 0; !backward && h < m->heads && i < size; i++)
                x[i] *= m->scale;
            if (weight && backward)
                kernels->norm_back(raw + row * p->next + h * size, weight, x, size, m->eps, x);
        }
    }
}

/* --- attention -------------------------------------------------------------------------------------------------- */

/* What queries [first, end) of a head see, from key *low on: weights [end - first, *padded]. */
static void weigh(const rows_t *p, const float *q, const float *keys, int first, int end, float *weights, int *low,
                  int *padded, float *work) {
    int window = p->layer->window, next = p->next;
    *low = window ? larger(0, first + 1 - window) : 0;
    int count = end - *low;
    *padded = (count + LANES - 1) / LANES * LANES;
    gemm(end - first, count, p->m->size, plain(q + (long)first * next, next), turned(keys + (long)*low * next, next), 0,
         weights, *padded, work);
    for (int i = first; i < end; i++) {
        float total, *row = weights + (long)(i - first) * *padded;
        int lowest = window ? larger(0, i + 1 - window - *low) : 0;
        likely_kernels()->soften(row, lowest, i + 1 - *low, *padded, &total);
        for (int j = 0; j < *padded; j++)
            row[j] *= 1 / total;
    }
}

/* attended [length, heads size] of a text's queries, keys and values. */
static void attend(const rows_t *p, const float *qkv, int length, float *attended, float *work) {
    const model_t *m = p->m;
    int size = m->size, next = p->next, group = m->heads / m->kv_heads, width = m->heads * size;
    float *weights = take(&work, (long)QUERIES * (length + LANES));
    for (int h = 0; h < m->heads; h++) {
        const float *keys = qkv + (m->heads + h / group) * size, *values = keys + m->kv_heads * size;
        for (int first = 0, low, padded; first < length; first += QUERIES) {
            int end = smaller(first + QUERIES, length);
            weigh(p, qkv + h * size, keys, first, end, weights, &low, &padded, work);
            gemm(end - first, size, end - low, plain(weights, padded), plain(values + (long)low * next, next), 0,
                 attended + (long)first * width + h * size, width, work);
        }
    }
}

/* The gradients of queries, keys and values, `out` [length, next], from that of what they attended, dy. */
static void attend_back(const rows_t *p, const float *qkv, int length, const float *dy, float *out, float *work) {
    const model_t *m = p->m;
    int size = m->size, next = p->next, group = m->heads / m->kv_heads, width = m->heads * size;
    for (long i = 0; i < (long)length * next; i++)
        out[i] = 0;
    float *weights = take(&work, (long)QUERIES * (length + LANES)), *gradients = take(&work, (long)QUERIES * (length + LANES));
    for (int h = 0; h < m->heads; h++) {
        int key = (m->heads + h / group) * size, value = key + m->kv_heads * size;
        for (int first = 0, low, padded; first < length; first += QUERIES) {
            int end = smaller(first + QUERIES, length), rows = end - first, at;
            weigh(p, qkv + h * size, qkv + key, first, end, weights, &low, &padded, work);
            at = end - low;
            const float *own = dy + (long)first * width + h * size, *q = qkv + (long)first * next + h * size;
            long from = (long)low * next;
            for (int i = 0; i < rows; i++)
                for (int j = at; j < padded; j++)
                    gradients[(long)i * padded + j] = 0;
            gemm(rows, at, size, plain(own, width), turned(qkv + from + value, next), 0, gradients, padded, work);
            gemm(at, size, rows, turned(weights, padded), plain(own, width), 1, out + from + value, next, work);
            for (int i = 0; i < rows; i++)
                likely_kernels()->soften_back(weights + (long)i * padded, gradients + (long)i * padded, padded);
            gemm(rows, size, at, plain(gradients, padded), plain(qkv + from + key, next), 0,
                 out + (long)first * next + h * size, next, work);
            gemm(at, size, rows, turned(gradients, padded), plain(q, next), 1, out + from + key, next, work);
        }
    }
}

/* --- a layer ---------------------------------------------------------------------------------------------------- */

/* dy [rows, width], the gradient of a layer's output, becomes that of its input x. */
static void layer_back(rows_t *p, const additions_t *beside, const gradients_t *g, float *x, float *dy, float *work) {
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    long rows = p->rows, wide = rows * m->width, queries = (long)m->heads * m->size;
    float *normed = take(&work, wide), *mid = take(&work, wide), *added = take(&work, wide), *mixed = take(&work, wide);
    float *qkv = take(&work, rows * p->next), *raw = take(&work, rows * p->next), *gradients = take(&work, rows * p->next);
    float *attended = take(&work, rows * queries), *both = take(&work, rows * 2 * m->mlp_width);
    float *gated = take(&work, rows * m->mlp_width), *inner = take(&work, rows * larger(m->mlp_width, queries));

    norm_rows(p, x, layer->attn_norm, normed);
    forward(&layer->qkv, beside->qkv, normed, rows, raw, work);
    __builtin_memcpy(qkv, raw, rows * p->next * sizeof(float));
    for (long i = 0, row = 0; i < p->texts; row += p->lengths[i++]) {
        turn_heads(p, qkv + row * p->next, 0, p->lengths[i], 0);
        attend(p, qkv + row * p->next, p->lengths[i], attended + row * queries, work);
    }
    forward(&layer->out, beside->out, attended, rows, added, work);
    __builtin_memcpy(mid, x, wide * sizeof(float));
    if (layer->attn_post_norm)
        norm_rows(p, added, layer->attn_post_norm, mixed);
    add_scaled(layer->attn_post_norm ? mixed : added, m->residual_scale, wide, mid);
    norm_rows(p, mid, layer->mlp_norm, normed);
    forward(&layer->gate_up, beside->gate_up, normed, rows, both, work);
    p->x = both, p->out = gated;
    share(gate_part, p, rows);

    for (long i = 0; i < wide; i++)
        mixed[i] = dy[i] * m->residual_scale;
    if (layer->mlp_post_norm) {
        float *given = take(&work, wide);
        forward(&layer->down, beside->down, gated, rows, given, work);
        norm_rows_back(p, given, layer->mlp_post_norm, mixed);
    }
    linear_back(&layer->down, beside->down, &g->down, gated, rows, mixed, inner, work);
    p->x = both, p->y = inner;
    share(gate_back_part, p, rows);
    linear_back(&layer->gate_up, beside->gate_up, &g->gate_up, normed, rows, both, mixed, work);
    norm_rows_back(p, mid, layer->mlp_norm, mixed);
    add_scaled(mixed, 1, wide, dy);

    for (long i = 0; i < wide; i++)
        mixed[i] = dy[i] * m->residual_scale;
    if (layer->attn_post_norm)
        norm_rows_back(p, added, layer->attn_post_norm, mixed);
    linear_back(&layer->out, beside->out, &g->out, attended, rows, mixed, inner, work);
    for (long i = 0, row = 0; i < p->texts; row += p->lengths[i++]) {
        attend_back(p, qkv + row * p->next, p->lengths[i], inner + row * queries, gradients + row * p->next, work);
        turn_heads(p, gradients + row * p->next, raw + row * p->next, p->lengths[i], 1);
    }
    norm_rows(p, x, layer->attn_norm, normed);
    linear_back(&layer->qkv, beside->qkv, &g->qkv, normed, rows, gradients, mixed, work);
    norm_rows_back(p, x, layer->attn_norm, mixed);
    add_scaled(mixed, 1, wide, dy);
}

/* Floats that `likely_backward` needs for so many rows, the longest of whose texts has `longest`. */
EXPORT long likely_backward_floats(const model_t *m, int rows, int longest) {
    long queries = (long)m->heads * m->size, next = queries + 2L * m->kv_heads * m->size, wide = likely_widest(m);
    long each = 5 * m->width + 3 * next + queries + 3 * m->mlp_width + larger(m->mlp_width, queries);
    long scores = 2L * QUERIES * (longest + LANES) + packed(longest), product = likely_arranged(smaller(rows, CHUNK), wide);
    long numbers = DEEP * wide + packed(wide) + 2 * rows * likely_ranks(m);
    product += CHUNK * wide;
    long most = scores > product ? scores : product;
    return rows * each + (most > numbers ? most : numbers) + 1024;
}

/* The gradients of all that stands beside the products of layers from `lowest` on. `texts` of so many `lengths` stand
 * in `rows`; states [layers + 1, rows, width] as `likely_forward` gives them; dy [rows, width], the gradient of the last
 * hidden states, becomes that of the input of layer `lowest`. */
EXPORT void likely_backward(const model_t *m, int lowest, int rows, int texts, const int *lengths, float *states, float *dy,
                            const gradients_t *gradients, float *work) {
    static const additions_t none;
    rows_t p = {.m = m, .rows = rows, .texts = texts, .lengths = lengths};
    p.next = (m->heads + 2L * m->kv_heads) * m->size;
    long stream = (long)rows * m->width;
    norm_rows_back(&p, states + m->layers * stream, m->norm, dy);
    for (int i = m->layers - 1; i >= lowest; i--) {
        p.layer = m->layer + i;
        layer_back(&p, m->additions ? m->additions + i : &none, gradients + i, states + i * stream, dy, work);
    }
}
