/* Texts forth and back through a model: their hidden states, and from the gradient of those to the gradients of the low
 * ranks beside its products. On the way back a layer is computed once more from its input. The weights have no
 * gradient, and of their matrices a few panels at a time are floats (floats.h).
 *
 * Rows are those of whole texts, one after the other, each from position 0, or from the end of an earlier one that it
 * goes on from: several answers to a prompt that is read once. */

#include "floats.h"
#include "forward.h"

enum { QUERIES = 128 }; /* of a head, at once */

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
    const int *lengths, *after; /* the earlier text that each goes on from, or -1; that one begins at position 0 */
    float *x, *y, *out; /* what a job of rows works on */
    const float *weight;
    long next; /* numbers of a row of queries, keys and values */
} rows_t;

/* Where a text begins: among positions, and its first row. */
static int begins(const rows_t *p, int text) {
    return p->after[text] < 0 ? 0 : p->lengths[p->after[text]];
}

static long row_of(const rows_t *p, int text) {
    long row = 0;
    for (int i = 0; i < text; i++)
        row += p->lengths[i];
    return row;
}

static float *take(float **work, long count) {
    float *room = *work;
    *work += (count + LANES - 1) / LANES * LANES;
    return room;
}

/* --- products --------------------------------------------------------------------------------------------------- */

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

/* dx [rows, columns] = the gradient of a product's input x, from that of its output dy; those of what stands beside
 * it. */
static void linear_back(const linear_t *l, const addition_t *a, const gradient_t *g, const float *x, int rows,
                        const float *dy, float *dx, float *work) {
    int columns = l->parts[0]->columns, all = 0, ranks = a ? a->ranks : 0;
    for (int i = 0; i < l->count; i++)
        all += l->parts[i]->rows;
    for (int i = 0, at = 0; i < l->count; at += l->parts[i++]->rows)
        likely_go_back(l->parts[i], dy + at, all, rows, dx, columns, i > 0, work);
    if (!a)
        return;
    float *z = take(&work, (long)rows * ranks), *dz = take(&work, (long)rows * ranks), *ups = g->ups;
    likely_gemm(rows, ranks, columns, plain(x, columns), turned(a->down, columns), 0, z, ranks, work);
    scale_columns(z, rows, ranks, a->scales);
    for (int i = 0; i < a->count; i++) {
        const up_t *u = a->ups + i;
        const float *own = dy + u->start;
        int outputs = u->up->rows, some = u->up->columns;
        likely_gemm(some, outputs, rows, turned(z + u->first, ranks), plain(own, all), 0, ups, outputs, work);
        likely_go_back(u->up, own, all, rows, dz + u->first, ranks, 0, work);
        ups += (long)some * outputs;
    }
    scale_columns(dz, rows, ranks, a->scales);
    likely_gemm(ranks, columns, rows, turned(dz, ranks), plain(x, columns), 0, g->down, columns, work);
    likely_gemm(rows, columns, ranks, plain(dz, ranks), plain(a->down, columns), 1, dx, columns, work);
}

/* y [rows, all] = x l^T with its bias and what stands beside it; a gain it has not. */
static void linear(const linear_t *l, const addition_t *a, const float *x, int rows, float *y, float *work) {
    int columns = l->parts[0]->columns, all = 0, ranks = a ? a->ranks : 0;
    for (int i = 0; i < l->count; i++)
        all += l->parts[i]->rows;
    for (int i = 0, at = 0; i < l->count; at += l->parts[i++]->rows)
        likely_forth(l->parts[i], x, columns, rows, y + at, all, 0, work);
    if (a) {
        float *z = take(&work, (long)rows * ranks);
        likely_gemm(rows, ranks, columns, plain(x, columns), turned(a->down, columns), 0, z, ranks, work);
        scale_columns(z, rows, ranks, a->scales);
        for (int i = 0; i < a->count; i++)
            likely_forth(a->ups[i].up, z + a->ups[i].first, ranks, rows, y + a->ups[i].start, all, 1, work);
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
        likely_forth(m->head, hidden + first * columns, columns, count, logits, next, 0, work);
        said_t said = {m->head->rows, next, logits, targets + first, smoothing, found + FOUND * first};
        share(said_part, &said, count);
        likely_go_back(m->head, logits, next, count, slope + first * columns, columns, 0, work);
    }
}

EXPORT long likely_losses_floats(const model_t *m, int rows) {
    return (long)smaller(rows, SAID) * padded(m->head->rows) + LANES + likely_floats(m->head);
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

/* Queries and keys of a text [length, next] from position `start` on, turned after their norms. */
static void turn_heads(rows_t *p, float *qkv, const float *raw, int start, int length, int backward) {
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    const kernels_t *kernels = likely_kernels();
    float sines[LANES * 64];
    int size = m->size, both = m->heads + m->kv_heads;
    for (int row = 0; row < length; row++) {
        const float *turns = layer->turns ? layer->turns + 2L * (start + row) * m->pairs : 0;
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
    likely_gemm(end - first, count, p->m->size, plain(q + (long)first * next, next),
                turned(keys + (long)*low * next, next), 0, weights, *padded, work);
    for (int i = first; i < end; i++) {
        float total, *row = weights + (long)(i - first) * *padded;
        int lowest = window ? larger(0, i + 1 - window - *low) : 0;
        likely_kernels()->soften(row, lowest, i + 1 - *low, *padded, &total);
        for (int j = 0; j < *padded; j++)
            row[j] *= 1 / total;
    }
}

/* attended [length - from, heads size] of queries, keys and values [length, next]: by the queries from that row on. */
static void attend(const rows_t *p, const float *qkv, int from, int length, float *attended, float *work) {
    const model_t *m = p->m;
    int size = m->size, next = p->next, group = m->heads / m->kv_heads, width = m->heads * size;
    float *weights = take(&work, (long)QUERIES * (length + LANES));
    for (int h = 0; h < m->heads; h++) {
        const float *keys = qkv + (m->heads + h / group) * size, *values = keys + m->kv_heads * size;
        for (int first = from, low, padded; first < length; first += QUERIES) {
            int end = smaller(first + QUERIES, length);
            weigh(p, qkv + h * size, keys, first, end, weights, &low, &padded, work);
            likely_gemm(end - first, size, end - low, plain(weights, padded), plain(values + (long)low * next, next), 0,
                        attended + (long)(first - from) * width + h * size, width, work);
        }
    }
}

/* The gradients of queries, keys and values, `out` [length, next], from that of what those from row `from` on attended,
 * dy [length - from, heads size]. */
static void attend_back(const rows_t *p, const float *qkv, int from, int length, const float *dy, float *out,
                        float *work) {
    const model_t *m = p->m;
    int size = m->size, next = p->next, group = m->heads / m->kv_heads, width = m->heads * size;
    for (long i = 0; i < (long)length * next; i++)
        out[i] = 0;
    float *weights = take(&work, (long)QUERIES * (length + LANES)),
          *gradients = take(&work, (long)QUERIES * (length + LANES));
    for (int h = 0; h < m->heads; h++) {
        int key = (m->heads + h / group) * size, value = key + m->kv_heads * size;
        for (int first = from, low, padded; first < length; first += QUERIES) {
            int end = smaller(first + QUERIES, length), rows = end - first, at;
            weigh(p, qkv + h * size, qkv + key, first, end, weights, &low, &padded, work);
            at = end - low;
            const float *own = dy + (long)(first - from) * width + h * size, *q = qkv + (long)first * next + h * size;
            long reached = (long)low * next;
            for (int i = 0; i < rows; i++)
                for (int j = at; j < padded; j++)
                    gradients[(long)i * padded + j] = 0;
            likely_gemm(rows, at, size, plain(own, width), turned(qkv + reached + value, next), 0, gradients, padded,
                        work);
            likely_gemm(at, size, rows, turned(weights, padded), plain(own, width), 1, out + reached + value, next,
                        work);
            for (int i = 0; i < rows; i++)
                likely_kernels()->soften_back(weights + (long)i * padded, gradients + (long)i * padded, padded);
            likely_gemm(rows, size, at, plain(gradients, padded), plain(qkv + reached + key, next), 0,
                        out + (long)first * next + h * size, next, work);
            likely_gemm(at, size, rows, turned(gradients, padded), plain(q, next), 1, out + reached + key, next, work);
        }
    }
}

/* A text's queries, keys and values with those of the text that it goes on from before them, [start + length, next]. */
static float *joined(const rows_t *p, const float *qkv, int text, int start, float **work) {
    long before = start * p->next, own = p->lengths[text] * p->next;
    if (!start)
        return (float *)qkv + row_of(p, text) * p->next;
    float *both = take(work, before + own);
    __builtin_memcpy(both, qkv + row_of(p, p->after[text]) * p->next, before * sizeof(float));
    __builtin_memcpy(both + before, qkv + row_of(p, text) * p->next, own * sizeof(float));
    return both;
}

/* The attention of all texts; queries and keys, as their products gave them, are turned before. */
static void attend_texts(rows_t *p, float *qkv, float *attended, float *work) {
    long row = 0;
    for (int i = 0; i < p->texts; row += p->lengths[i++]) {
        int start = begins(p, i);
        turn_heads(p, qkv + row * p->next, 0, start, p->lengths[i], 0);
        float *room = work, *both = joined(p, qkv, i, start, &room);
        attend(p, both, start, start + p->lengths[i], attended + row * p->m->heads * p->m->size, room);
    }
}

/* The gradients of what the products gave, `raw` [rows, next], from that of what was attended. */
static void attend_texts_back(rows_t *p, const float *qkv, const float *raw, const float *dy, float *gradients,
                              float *work) {
    long row = 0, queries = (long)p->m->heads * p->m->size;
    for (int i = 0; i < p->texts; row += p->lengths[i++]) {
        int start = begins(p, i), length = start + p->lengths[i];
        float *room = work, *both = joined(p, qkv, i, start, &room), *own = gradients + row * p->next;
        float *found = start ? take(&room, length * p->next) : own;
        attend_back(p, both, start, length, dy + row * queries, found, room);
        if (start) {
            add_scaled(found, 1, start * p->next, gradients + row_of(p, p->after[i]) * p->next);
            __builtin_memcpy(own, found + start * p->next, p->lengths[i] * p->next * sizeof(float));
        }
    }
    row = 0;
    for (int i = 0; i < p->texts; row += p->lengths[i++])
        turn_heads(p, gradients + row * p->next, raw + row * p->next, begins(p, i), p->lengths[i], 1);
}

/* --- a layer ---------------------------------------------------------------------------------------------------- */

/* What is between a layer's input and its output, of all rows: what may be kept until the way back, and what is cheaply
 * made again. */
typedef struct {
    /* raw: before the norms of heads; added: before that of the output */
    float *qkv, *raw, *attended, *added, *mid, *both;
    float *normed, *gated;
} inside_t;

static inside_t take_inside(const rows_t *p, float **kept, float **work) {
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    long rows = p->rows, wide = rows * m->width, inner = rows * m->mlp_width;
    inside_t in = {take(kept, rows * p->next), 0, take(kept, rows * m->heads * m->size), 0, take(kept, wide),
                   take(kept, 2 * inner), take(work, wide), take(work, inner)};
    in.raw = layer->q_norm ? take(kept, rows * p->next) : in.qkv;
    in.added = take(layer->attn_post_norm ? kept : work, wide);
    return in;
}

/* Floats of a layer that may be kept, for so many rows. */
EXPORT long likely_kept_floats(const model_t *m, int rows) {
    long queries = (long)m->heads * m->size, next = queries + 2L * m->kv_heads * m->size;
    long each = next * (m->layer->q_norm ? 2 : 1) + queries + m->width * (m->layer->attn_post_norm ? 2L : 1L);
    return rows * (each + 2L * m->mlp_width) + 8 * LANES;
}

static void gate_rows(rows_t *p, const inside_t *in) {
    p->x = in->both, p->out = in->gated;
    share(gate_part, p, p->rows);
}

/* From a layer's input to the input of its last product; `normed` is that of the MLP, and `scratch` a stream. */
static void layer_forth(rows_t *p, const additions_t *beside, float *x, const inside_t *in, float *scratch,
                        float *work) {
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    long rows = p->rows, wide = rows * m->width;
    norm_rows(p, x, layer->attn_norm, in->normed);
    linear(&layer->qkv, beside->qkv, in->normed, rows, in->raw, work);
    if (in->raw != in->qkv)
        __builtin_memcpy(in->qkv, in->raw, rows * p->next * sizeof(float));
    attend_texts(p, in->qkv, in->attended, work);
    linear(&layer->out, beside->out, in->attended, rows, in->added, work);
    __builtin_memcpy(in->mid, x, wide * sizeof(float));
    if (layer->attn_post_norm)
        norm_rows(p, in->added, layer->attn_post_norm, scratch);
    add_scaled(layer->attn_post_norm ? scratch : in->added, m->residual_scale, wide, in->mid);
    norm_rows(p, in->mid, layer->mlp_norm, in->normed);
    linear(&layer->gate_up, beside->gate_up, in->normed, rows, in->both, work);
    gate_rows(p, in);
}

/* dy [rows, width], the gradient of a layer's output, becomes that of its input x. `kept`: its inside, or null. */
static void layer_back(rows_t *p, const additions_t *beside, const gradients_t *g, float *x, float *dy, float *kept,
                       float *work) {
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    long rows = p->rows, wide = rows * m->width, queries = (long)m->heads * m->size;
    inside_t in = take_inside(p, kept ? &kept : &work, &work);
    float *mixed = take(&work, wide), *gradients = take(&work, rows * p->next);
    float *inner = take(&work, rows * larger(m->mlp_width, queries));
    if (kept) {
        norm_rows(p, in.mid, layer->mlp_norm, in.normed);
        gate_rows(p, &in);
    } else
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
    attend_texts_back(p, in.qkv, in.raw, inner, gradients, work);
    norm_rows(p, x, layer->attn_norm, in.normed);
    linear_back(&layer->qkv, beside->qkv, &g->qkv, in.normed, rows, gradients, mixed, work);
    norm_rows_back(p, x, layer->attn_norm, mixed);
    add_scaled(mixed, 1, wide, dy);
}

/* --- all layers ------------------------------------------------------------------------------------------------- */

/* Floats that a pass forth or back needs for so many rows, the longest of whose texts has `longest`, and the longest of
 * those that go on from another `continued`, with that. */
EXPORT long likely_texts_floats(const model_t *m, int rows, int longest, int continued) {
    long queries = (long)m->heads * m->size, next = queries + 2L * m->kv_heads * m->size, wide = likely_widest(m);
    long beside = 2L * rows * likely_ranks(m), products = likely_gemm_floats(wide) + beside;
    long scores = 2L * QUERIES * (longest + LANES) + likely_gemm_floats(larger(longest, m->size)) +
                  2L * (continued * next + LANES);
    for (int i = 0; i < m->layers; i++) {
        const linear_t *every[] = {&m->layer[i].qkv, &m->layer[i].out, &m->layer[i].gate_up, &m->layer[i].down};
        for (int j = 0; j < 4; j++)
            for (int k = 0; k < every[j]->count; k++) {
                long most = likely_floats(every[j]->parts[k]) + beside;
                products = products > most ? products : most;
            }
    }
    return likely_kept_floats(m, rows) + rows * (5L * m->width + m->mlp_width + next + larger(m->mlp_width, queries)) +
           (scores > products ? scores : products) + 1024;
}

static const additions_t *beside_of(const model_t *m, int layer) {
    static const additions_t none;
    return m->additions ? m->additions + layer : &none;
}

/* Reads `texts` of so many `lengths`, `after` others, whose tokens stand in `rows`: states [layers + 1, rows, width],
 * before the first layer and after each; hidden [rows, width], after the last norm. `kept`: room for the inside of
 * layers from `from` on. */
EXPORT void likely_texts(const model_t *m, int rows, int texts, const int *lengths, const int *after, int from,
                         float *kept, const int *tokens, float *states, float *hidden, float *work) {
    rows_t p = {.m = m, .rows = rows, .texts = texts, .lengths = lengths, .after = after};
    p.next = (m->heads + 2L * m->kv_heads) * m->size;
    long stream = (long)rows * m->width;
    float *given = take(&work, stream);
    likely_rows(m->embed, tokens, rows, states);
    for (long i = 0; i < stream; i++)
        states[i] *= m->embed_scale;
    for (int i = 0; i < m->layers; i++) {
        const additions_t *beside = beside_of(m, i);
        float *x = states + i * stream, *y = x + stream;
        const layer_t *layer = p.layer = m->layer + i;
        float *room = work, *inside = i >= from ? kept + (i - from) * likely_kept_floats(m, rows) : 0;
        inside_t in = take_inside(&p, inside ? &inside : &room, &room);
        layer_forth(&p, beside, x, &in, given, room);
        linear(&layer->down, beside->down, in.gated, rows, given, room);
        if (layer->mlp_post_norm)
            norm_rows(&p, given, layer->mlp_post_norm, given);
        __builtin_memcpy(y, in.mid, stream * sizeof(float));
        add_scaled(given, m->residual_scale, stream, y);
    }
    norm_rows(&p, states + m->layers * stream, m->norm, hidden);
}

/* The gradients of all that stands beside the products of layers from `lowest` on; `states` and what is `kept`, which
 * is spoilt, as `likely_texts` gives them. dy [rows, width], the gradient of the last hidden states, becomes that of
 * the input of layer `lowest`. */
EXPORT void likely_texts_back(const model_t *m, int rows, int texts, const int *lengths, const int *after, int from,
                              float *kept, int lowest, float *states, float *dy, const gradients_t *gradients,
                              float *work) {
    rows_t p = {.m = m, .rows = rows, .texts = texts, .lengths = lengths, .after = after};
    p.next = (m->heads + 2L * m->kv_heads) * m->size;
    long stream = (long)rows * m->width;
    norm_rows_back(&p, states + m->layers * stream, m->norm, dy);
    for (int i = m->layers - 1; i >= lowest; i--) {
        p.layer = m->layer + i;
        float *inside = i >= from ? kept + (i - from) * likely_kept_floats(m, rows) : 0;
        layer_back(&p, beside_of(m, i), gradients + i, states + i * stream, dy, inside, work);
    }
}
