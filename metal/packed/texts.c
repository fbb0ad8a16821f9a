/* Texts forth and back through a model: their hidden states, and from the gradient of those to the gradients of the low
 * ranks beside its products. On the way back a layer is computed once more from its input. The weights have no gradient,
 * and of their matrices a few panels at a time are floats. 
 *
 * Rows are those of whole texts, one after the other, each from position 0. */

#include "forward.h"

enum { QUERIES = 128 };      /* of a head, at once */
enum { DEEP = 256, TALL = 96, FLOATS = 1 << 17 }; /* inner numbers of a product, its rows, and numbers of a matrix at once */

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
    int add, apart; /* apart: rows of b from one group of columns to the next, if more than deep */
} gemm_t;

static void gemm_part(void *context, int part) {
    const gemm_t *g = context;
    int first = part * TALL, rows = smaller(TALL, g->rows - first), apart = larger(g->deep, g->apart);
    likely_kernels()->gemm(rows, g->deep, g->a.at + first * g->a.row, g->a.row, g->a.column, g->b,
                           (long)apart * likely_kernels()->wide, g->c + first * g->next, g->next, g->columns, g->add);
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
        gemm_t g = {{a.at + first * a.column, a.row, a.column}, work, rows, columns, deep, c, next, add, 0};
        share(gemm_part, &g, (rows + TALL - 1) / TALL);
    }
}

/* Panels of a matrix as floats, a few at a time. */
typedef struct {
    const matrix_t *m;
    int first, deep; /* panel; rows of those for the way back */
    float *out;
} floats_t;

static void columns_part(void *context, int part) {
    const floats_t *f = context;
    int across = likely_kernels()->wide / LANES;
    long each = (long)f->m->columns * across * LANES;
    likely_kernels()->columns_of(f->m, f->first + part, f->out + part / across * each + part % across * LANES);
}

static void rows_part(void *context, int part) {
    const floats_t *f = context;
    long wide = likely_kernels()->wide;
    likely_kernels()->rows_of(f->m, f->first + part, f->deep * wide, f->out + part * LANES * wide);
}

static int panels(const matrix_t *m) {
    return (m->rows + LANES - 1) / LANES;
}

/* Panels that are floats at once on the way forward: of `FLOATS` numbers, about. */
static int some_panels(const matrix_t *m) {
    return larger(1, FLOATS / (4 * LANES * m->columns)) * 4;
}

/* Numbers that `forth` and `back` work with. */
static long floats(const matrix_t *m) {
    long forward = (long)some_panels(m) * LANES * m->columns, backward = packed(m->columns);
    return forward > backward ? forward : backward;
}

/* y [rows, next_y] (+)= x [rows, next_x] m^T. `work`: `floats` numbers. */
static void forth(const matrix_t *m, const float *x, long next_x, int rows, float *y, long next_y, int add, float *work) {
    for (int first = 0, count; first < panels(m); first += count) {
        count = smaller(some_panels(m), panels(m) - first);
        floats_t f = {m, first, 0, work};
        share(columns_part, &f, count);
        int outputs = smaller(count * LANES, m->rows - first * LANES);
        gemm_t g = {plain(x, next_x), work, rows, outputs, m->columns, y + first * LANES, next_y, add};
        share(gemm_part, &g, (rows + TALL - 1) / TALL);
    }
}

/* dx [rows, next_dx] (+)= dy [rows, next_dy] m, where y = x m^T. `work`: `floats` numbers. */
static void back(const matrix_t *m, const float *dy, long next_dy, int rows, float *dx, long next_dx, int add,
                 float *work) {
    for (int first = 0; first < m->rows; first += DEEP, add = 1) {
        int deep = smaller(DEEP, m->rows - first);
        floats_t f = {m, first / LANES, (deep + LANES - 1) / LANES * LANES, work};
        share(rows_part, &f, f.deep / LANES);
        gemm_t g = {plain(dy + first, next_dy), work, rows, m->columns, deep, dx, next_dx, add, f.deep};
        share(gemm_part, &g, (rows + TALL - 1) / TALL);
    }
}

/* The same for whoever has a matrix alone; `work` has room for `likely_back_floats`. */
EXPORT void likely_back(const matrix_t *m, const float *dy, int rows, float *dx, float *work) {
    back(m, dy, m->rows, rows, dx, m->columns, 0, work);
}

EXPORT long likely_back_floats(const matrix_t *m) {
    return floats(m);
}

/* y += x scale */
static void add_scaled(const float *x, float scale, long count, float *y) {
    for (long i = 0; i < count; i++)
        y[i] += x[i] * scale;
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

/* y [rows, all] = x l^T with its bias and what stands beside it; a gain it has not. */
static void linear(const linear_t *l, const addition_t *a, const float *x, int rows, float *y, float *work) {
    int columns = l->parts[0]->columns, all = 0, ranks = a ? a->ranks : 0;
    for (int i = 0; i < l->count; i++)
        all += l->parts[i]->rows;
    for (int i = 0, at = 0; i < l->count; at += l->parts[i++]->rows)
        forth(l->parts[i], x, columns, rows, y + at, all, 0, work);
    if (a) {
        float *z = take(&work, (long)rows * ranks);
        gemm(rows, ranks, columns, plain(x, columns), turned(a->down, columns), 0, z, ranks, work);
        scale_columns(z, rows, ranks, a->scales);
        for (int i = 0; i < a->count; i++)
            forth(a->ups[i].up, z + a->ups[i].first, ranks, rows, y + a->ups[i].start, all, 1, work);
    }
    for (long r = 0; l->bias && r < rows; r++)
        add_scaled(l->bias, 1, all, y + r * all);
}

/* --- losses ----------------------------------------------------------------------------------------------------- */

enum { SAID = 128, FOUND = 4 }; /* rows of logits at once; numbers that are found of a row */

typedef struct {
    int outputs, padded;
    float *logits;
    const int *targets;
    float smoothing, *found;
} said_t;

/* A row of logits becomes the gradient of its loss; the largest, the sum of exponentials relative to it, the target's
 * and the sum of all are found. */
static void said_part(void *context, int row) {
    const said_t *p = context;
    float *x = p->logits + (long)row * p->padded, *found = p->found + FOUND * row;
    double sum = 0;
    for (int i = 0; p->smoothing > 0 && i < p->outputs; i++)
        sum += x[i];
    found[2] = x[p->targets[row]], found[3] = sum;
    found[0] = likely_kernels()->soften(x, 0, p->outputs, p->padded, found + 1);
    float share = 1 / found[1], each = p->smoothing / p->outputs;
    for (int i = 0; i < p->outputs; i++)
        x[i] = x[i] * share - each;
    x[p->targets[row]] -= 1 - p->smoothing;
}

static int padded(int outputs) {
    return (outputs + LANES - 1) / LANES * LANES;
}

/* What is said of the targets after hidden states [rows, width]: found [rows, FOUND], as said_part has them, and the
 * gradient of the states. `work` has room for `likely_losses_floats`. */
EXPORT void likely_losses(const model_t *m, const float *hidden, int rows, const int *targets, float smoothing,
                          float *found, float *slope, float *work) {
    long next = padded(m->head->rows), columns = m->width;
    float *logits = take(&work, next * smaller(rows, SAID));
    for (long first = 0; first < rows; first += SAID) {
        int count = smaller(SAID, rows - first);
        forth(m->head, hidden + first * columns, columns, count, logits, next, 0, work);
        said_t said = {m->head->rows, next, logits, targets + first, smoothing, found + FOUND * first};
        share(said_part, &said, count);
        back(m->head, logits, next, count, slope + first * columns, columns, 0, work);
    }
}

EXPORT long likely_losses_floats(const model_t *m, int rows) {
    return (long)smaller(rows, SAID) * padded(m->head->rows) + LANES + floats(m->head);
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

/* What is between a layer's input and its output, of all rows. */
typedef struct {
    float *normed, *raw, *qkv, *attended, *added, *mid, *both, *gated;
} inside_t;

static long inside_floats(const model_t *m, long rows) {
    long queries = (long)m->heads * m->size, next = queries + 2L * m->kv_heads * m->size;
    return rows * (3L * m->width + 2 * next + queries + 3L * m->mlp_width) + 8 * LANES;
}

static inside_t take_inside(const rows_t *p, float **work) {
    const model_t *m = p->m;
    long rows = p->rows, wide = rows * m->width, inner = rows * m->mlp_width;
    return (inside_t){take(work, wide), take(work, rows * p->next), take(work, rows * p->next),
                      take(work, rows * m->heads * m->size), take(work, wide), take(work, wide), take(work, 2 * inner),
                      take(work, inner)};
}

/* From a layer's input to the input of its last product; `normed` is that of the MLP, and `scratch` a stream. */
static void layer_forth(rows_t *p, const additions_t *beside, float *x, const inside_t *in, float *scratch, float *work) {
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    long rows = p->rows, wide = rows * m->width, queries = (long)m->heads * m->size;
    norm_rows(p, x, layer->attn_norm, in->normed);
    linear(&layer->qkv, beside->qkv, in->normed, rows, in->raw, work);
    __builtin_memcpy(in->qkv, in->raw, rows * p->next * sizeof(float));
    for (long i = 0, row = 0; i < p->texts; row += p->lengths[i++]) {
        turn_heads(p, in->qkv + row * p->next, 0, p->lengths[i], 0);
        attend(p, in->qkv + row * p->next, p->lengths[i], in->attended + row * queries, work);
    }
    linear(&layer->out, beside->out, in->attended, rows, in->added, work);
    __builtin_memcpy(in->mid, x, wide * sizeof(float));
    if (layer->attn_post_norm)
        norm_rows(p, in->added, layer->attn_post_norm, scratch);
    add_scaled(layer->attn_post_norm ? scratch : in->added, m->residual_scale, wide, in->mid);
    norm_rows(p, in->mid, layer->mlp_norm, in->normed);
    linear(&layer->gate_up, beside->gate_up, in->normed, rows, in->both, work);
    p->x = in->both, p->out = in->gated;
    share(gate_part, p, rows);
}

/* dy [rows, width], the gradient of a layer's output, becomes that of its input x. */
static void layer_back(rows_t *p, const additions_t *beside, const gradients_t *g, float *x, float *dy, float *work) {
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    long rows = p->rows, wide = rows * m->width, queries = (long)m->heads * m->size;
    inside_t in = take_inside(p, &work);
    float *mixed = take(&work, wide), *gradients = take(&work, rows * p->next);
    float *inner = take(&work, rows * larger(m->mlp_width, queries));
    layer_forth(p, beside, x, &in, mixed, work);

    for (long i = 0; i < wide; i++)
        mixed[i] = dy[i] * m->residual_scale;
    if (layer->mlp_post_norm) {
        float *given = take(&work, wide);
        linear(&layer->down, beside->down, in.gated, rows, given, work);
        norm_rows_back(p, given, layer->mlp_post_norm, mixed);
    }
    linear_back(&layer->down, beside->down, &g->down, in.gated, rows, mixed, inner, work);
    p->x = in.both, p->y = inner;
    share(gate_back_part, p, rows);
    linear_back(&layer->gate_up, beside->gate_up, &g->gate_up, in.normed, rows, in.both, mixed, work);
    norm_rows_back(p, in.mid, layer->mlp_norm, mixed);
    add_scaled(mixed, 1, wide, dy);

    for (long i = 0; i < wide; i++)
        mixed[i] = dy[i] * m->residual_scale;
    if (layer->attn_post_norm)
        norm_rows_back(p, in.added, layer->attn_post_norm, mixed);
    linear_back(&layer->out, beside->out, &g->out, in.attended, rows, mixed, inner, work);
    for (long i = 0, row = 0; i < p->texts; row += p->lengths[i++]) {
        attend_back(p, in.qkv + row * p->next, p->lengths[i], inner + row * queries, gradients + row * p->next, work);
        turn_heads(p, gradients + row * p->next, in.raw + row * p->next, p->lengths[i], 1);
    }
    norm_rows(p, x, layer->attn_norm, in.normed);
    linear_back(&layer->qkv, beside->qkv, &g->qkv, in.normed, rows, gradients, mixed, work);
    norm_rows_back(p, x, layer->attn_norm, mixed);
    add_scaled(mixed, 1, wide, dy);
}

/* --- all layers ------------------------------------------------------------------------------------------------- */

/* Floats that a pass forth or back needs for so many rows, the longest of whose texts has `longest`. */
EXPORT long likely_texts_floats(const model_t *m, int rows, int longest) {
    long queries = (long)m->heads * m->size, next = queries + 2L * m->kv_heads * m->size, wide = likely_widest(m);
    long scores = 2L * QUERIES * (longest + LANES) + packed(longest), products = packed(wide) + 2L * rows * likely_ranks(m);
    for (int i = 0; i < m->layers; i++) {
        const linear_t *every[] = {&m->layer[i].qkv, &m->layer[i].out, &m->layer[i].gate_up, &m->layer[i].down};
        for (int j = 0; j < 4; j++)
            for (int k = 0; k < every[j]->count; k++) {
                long most = floats(every[j]->parts[k]) + 2L * rows * likely_ranks(m);
                products = products > most ? products : most;
            }
    }
    return inside_floats(m, rows) + rows * (2L * m->width + next + larger(m->mlp_width, queries)) +
           (scores > products ? scores : products) + 1024;
}

static const additions_t *beside_of(const model_t *m, int layer) {
    static const additions_t none;
    return m->additions ? m->additions + layer : &none;
}

/* Reads `texts` of so many `lengths`, whose tokens stand in `rows`: states [layers + 1, rows, width], before the first
 * layer and after each; hidden [rows, width], after the last norm. */
EXPORT void likely_texts(const model_t *m, int rows, int texts, const int *lengths, const int *tokens, float *states,
                         float *hidden, float *work) {
    rows_t p = {.m = m, .rows = rows, .texts = texts, .lengths = lengths};
    p.next = (m->heads + 2L * m->kv_heads) * m->size;
    long stream = (long)rows * m->width;
    inside_t in = take_inside(&p, &work);
    float *given = take(&work, stream);
    likely_rows(m->embed, tokens, rows, states);
    for (long i = 0; i < stream; i++)
        states[i] *= m->embed_scale;
    for (int i = 0; i < m->layers; i++) {
        const additions_t *beside = beside_of(m, i);
        float *x = states + i * stream, *y = x + stream;
        const layer_t *layer = p.layer = m->layer + i;
        layer_forth(&p, beside, x, &in, given, work);
        linear(&layer->down, beside->down, in.gated, rows, given, work);
        if (layer->mlp_post_norm)
            norm_rows(&p, given, layer->mlp_post_norm, given);
        __builtin_memcpy(y, in.mid, stream * sizeof(float));
        add_scaled(given, m->residual_scale, stream, y);
    }
    norm_rows(&p, states + m->layers * stream, m->norm, hidden);
}

/* The gradients of all that stands beside the products of layers from `lowest` on; `states` as `likely_texts` gives
 * them. dy [rows, width], the gradient of the last hidden states, becomes that of the input of layer `lowest`. */
EXPORT void likely_texts_back(const model_t *m, int lowest, int rows, int texts, const int *lengths, float *states,
                              float *dy, const gradients_t *gradients, float *work) {
    rows_t p = {.m = m, .rows = rows, .texts = texts, .lengths = lengths};
    p.next = (m->heads + 2L * m->kv_heads) * m->size;
    long stream = (long)rows * m->width;
    norm_rows_back(&p, states + m->layers * stream, m->norm, dy);
    for (int i = m->layers - 1; i >= lowest; i--) {
        p.layer = m->layer + i;
        layer_back(&p, beside_of(m, i), gradients + i, states + i * stream, dy, work);
    }
}
