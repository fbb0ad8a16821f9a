/* A forward pass: tokens of one or several texts in, their keys and values appended, hidden states out.
 *
 * Everything that threads share is cut at fixed places: products at panels, attention at every PART positions of a text
 * whatever spans they are in. Parts are put together in their order. So a row's result is the same, to the bit, alone
 * or beside others, read at once or token by token, on one thread or several. */

#include "forward.h"

enum { PART = 256, QUERIES = 16, WIDEST = 256 }; /* positions of a part; queries of a task at most; the widest head */

typedef struct {
    const model_t *m;
    const layer_t *layer;
    int index, rows, parts;        /* of the layer; new rows; parts of the longest text */
    const int *text, *position;    /* of each row */
    const text_t *texts;
    int tasks;                     /* blocks of rows that share their keys */
    const int *first, *count;      /* rows of each */
    float *qkv, *attended, *found; /* [rows, (heads + 2 kv_heads) size], [rows, heads size]; each part's result */
    float *x, *normed, *hidden;    /* what other jobs work on */
    const float *weight;
} pass_t;

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

/* --- rows ------------------------------------------------------------------------------------------------------- */

static void norm_part(void *context, int row) {
    const pass_t *p = context;
    long n = p->m->width;
    likely_kernels()->norm(p->x + row * n, p->weight, n, p->m->eps, p->normed + row * n);
}

/* x += a product's output y, normed if there is a weight for that. */
static void onto_part(void *context, int row) {
    const pass_t *p = context;
    long n = p->m->width;
    float *x = p->x + row * n, *y = p->normed + row * n;
    if (p->weight)
        likely_kernels()->norm(y, p->weight, n, p->m->eps, y);
    for (int i = 0; i < n; i++)
        x[i] += y[i] * p->m->residual_scale;
}

static void gate_part(void *context, int row) {
    const pass_t *p = context;
    long n = p->m->mlp_width;
    const float *gate = p->hidden + 2 * n * row;
    likely_kernels()->gate(gate, gate + n, n, p->m->activation, p->normed + row * n);
}

/* Where a head's numbers begin in the layer's part of a span, at a position. */
static long place_of(const pass_t *p, const span_t *span, int head, int position) {
    return (((long)p->index * p->m->kv_heads + head) * span->capacity + position) * p->m->size;
}

/* A row's queries and keys are normed and turned, and its keys and values go to their places. */
static void append_part(void *context, int row) {
    const pass_t *p = context;
    const model_t *m = p->m;
    const layer_t *layer = p->layer;
    int size = m->size, both = m->heads + m->kv_heads;
    float *qkv = p->qkv + (long)row * (both + m->kv_heads) * size;
    const float *turns = layer->turns ? layer->turns + 2L * p->position[row] * m->pairs : 0;
    for (int h = 0; h < both; h++) {
        float *head = qkv + h * size;
        if (layer->q_norm)
            likely_kernels()->norm(head, h < m->heads ? layer->q_norm : layer->k_norm, size, m->eps, head);
        if (turns)
            likely_kernels()->turn(head, m->pairs, m->neighbours, turns, turns + m->pairs);
    }
    for (int i = 0; i < m->heads * size; i++)
        qkv[i] *= m->scale;
    const text_t *text = p->texts + p->text[row];
    const span_t *span = text->spans + text->count - 1;
    int at = p->position[row] - text->before;
    for (int h = 0; h < m->kv_heads; h++) {
        long place = place_of(p, span, h, 0), own = place + (long)at / LANES * LANES * size + at % LANES;
        const float *key = qkv + (m->heads + h) * size, *value = qkv + (both + h) * size;
        if (span->number == FLOAT16) {
            uint16_t halves[WIDEST], *keys = (uint16_t *)span->keys + own;
            likely_kernels()->narrow(key, size, halves);
            for (int d = 0; d < size; d++)
                keys[d * LANES] = halves[d];
            likely_kernels()->narrow(value, size, (uint16_t *)span->values + place + (long)at * size);
        } else {
            float *keys = (float *)span->keys + own;
            for (int d = 0; d < size; d++)
                keys[d * LANES] = key[d];
            __builtin_memcpy((float *)span->values + place + (long)at * size, value, size * sizeof(float));
        }
    }
}

/* --- attention -------------------------------------------------------------------------------------------------- */

/* The results of one task and head for one part: of each query the largest score, the sum of the weights and what they
 * mix, [queries] [queries] [queries, size]. */
static float *found_at(const pass_t *p, int task, int head, int part) {
    long each = (2L + p->m->size) * QUERIES;
    return p->found + (((long)task * p->m->kv_heads + head) * p->parts + part) * each;
}

static int bytes_of(const span_t *span) { /* of a number */
    return span->number == FLOAT32 ? 4 : 2;
}

/* The first keys that a part reads, none past the last. */
static const uint8_t *keys_of(const pass_t *p, int index) {
    int task = index % p->tasks, part = index / p->tasks % p->parts, head = index / p->tasks / p->parts;
    const text_t *text = p->texts + p->text[p->first[task]];
    int at = larger(part * PART, p->layer->window ? p->position[p->first[task]] + 1 - p->layer->window : 0);
    for (int i = 0; head < p->m->kv_heads && i < text->count; at -= text->spans[i++].length) {
        const span_t *span = text->spans + i;
        if (at < span->length || i + 1 == text->count)
            return (uint8_t *)span->keys + place_of(p, span, head, at / LANES * LANES) * bytes_of(span);
    }
    return 0;
}

static void attend_part(void *context, int index) {
    const pass_t *p = context;
    const model_t *m = p->m;
    const kernels_t *kernels = likely_kernels();
    int task = index % p->tasks, part = index / p->tasks % p->parts, head = index / p->tasks / p->parts;
    int group = m->heads / m->kv_heads, size = m->size, first = p->first[task], rows = p->count[task];
    int queries = rows * group, start = part * PART;
    const text_t *text = p->texts + p->text[first];
    int end = smaller(start + PART, p->position[first + rows - 1] + 1);
    float *most = found_at(p, task, head, part), *total = most + QUERIES, *mixed = most + 2 * QUERIES;
    for (int i = 0; i < queries; i++)
        most[i] = -__builtin_inff(), total[i] = 0;
    int least = larger(0, p->layer->window ? p->position[first] + 1 - p->layer->window : 0);
    if (end <= start || least >= end)
        return;
    float q[QUERIES * WIDEST] __attribute__((aligned(64))), arranged[QUERIES * (WIDEST + WIDEST / SUMMED)];
    float weights[QUERIES * PART] __attribute__((aligned(64))), scores[QUERIES * (PART + LANES)];
    long next = (m->heads + 2L * m->kv_heads) * size;
    for (int r = 0; r < rows; r++)
        __builtin_memcpy(q + r * group * size, p->qkv + (first + r) * next + (long)head * group * size,
                         group * size * sizeof(float));
    int asked = queries, full = queries > kernels->most ? kernels->most : queries % 4 == 3 ? smaller(4, kernels->most) : 1;
    for (; asked % full; asked++) /* zeros, which fill up the registers */
        for (int d = 0; d < size; d++)
            q[asked * size + d] = 0;
    kernels->arrange(q, size, 0, asked, size, PLAIN, arranged);
    activations_t x = {arranged, asked, size, PLAIN};
    for (int i = 0, begin = 0; i < text->count; begin += text->spans[i++].length) {
        const span_t *span = text->spans + i;
        int held = i + 1 < text->count ? span->length : span->capacity;
        int low = larger(start - begin, 0), high = smaller(end - begin, held);
        if (low >= high)
            continue;
        int from = low / LANES, panels = (high - 1) / LANES + 1 - from, bytes = bytes_of(span);
        matrix_t keys = {.rows = panels * LANES, .columns = size, .block = 1, .blocks = size};
        keys.layout = span->number == FLOAT32 ? FLOAT : HALF;
        keys.block_codes = LANES * bytes, keys.panel = LANES * size * bytes;
        long place = place_of(p, span, head, from * LANES) * bytes;
        keys.data = (uint8_t *)span->keys + place;
        keys.fetch = (uint8_t *)span->values + place - keys.data;
        kernels->multiply(&keys, &x, 0, panels, scores, PART + LANES, 0);
        for (int r = 0; r < queries; r++)
            __builtin_memcpy(weights + r * PART + begin + low - start, scores + r * (PART + LANES) + low - from * LANES,
                             (high - low) * sizeof(float));
    }
    int padded = (end - start + LANES - 1) / LANES * LANES;
    for (int i = 0; i < queries; i++) {
        int at = p->position[first + i / group];
        int lowest = p->layer->window ? larger(0, at + 1 - p->layer->window - start) : 0;
        most[i] = kernels->soften(weights + i * PART, lowest, smaller(at + 1 - start, end - start), padded, total + i);
    }
    const uint8_t *after = keys_of(p, index + 1);
    for (int i = 0; i < queries * size; i++)
        mixed[i] = 0;
    for (int i = 0, begin = 0; i < text->count; begin += text->spans[i++].length) {
        const span_t *span = text->spans + i;
        int held = i + 1 < text->count ? span->length : span->capacity;
        int low = larger(start - begin, 0), high = smaller(end - begin, held);
        if (low >= high)
            continue;
        const uint8_t *values = (const uint8_t *)span->values + place_of(p, span, head, low) * bytes_of(span);
        kernels->mix(weights + begin + low - start, PART, queries, high - low, values, span->number, size,
                     after ? after - values : 0, mixed);
    }
}

/* The parts of one task, in their order, onto each other (arXiv:1805.02867). */
static void join_part(void *context, int task) {
    const pass_t *p = context;
    const model_t *m = p->m;
    int group = m->heads / m->kv_heads, size = m->size, first = p->first[task], rows = p->count[task];
    for (int head = 0; head < m->kv_heads; head++)
        for (int i = 0; i < rows * group; i++) {
            float *out = p->attended + ((long)(first + i / group) * m->heads + head * group + i % group) * size;
            float most = -__builtin_inff(), sum = 0;
            for (int d = 0; d < size; d++)
                out[d] = 0;
            for (int part = 0; part < p->parts; part++) {
                const float *found = found_at(p, task, head, part), *mixed = found + 2 * QUERIES + i * size;
                float total = found[QUERIES + i];
                if (total == 0) /* none of it was seen */
                    continue;
                float best = found[i] > most ? found[i] : most;
                float old = sum ? likely_kernels()->exponential(most - best) : 0;
                float new = likely_kernels()->exponential(found[i] - best);
                most = best, sum = sum * old + total * new;
                for (int d = 0; d < size; d++)
                    out[d] = out[d] * old + mixed[d] * new;
            }
            for (int d = 0; d < size; d++)
                out[d] /= sum;
        }
}

/* --- all layers ------------------------------------------------------------------------------------------------- */

typedef struct {
    const addition_t *a;
    const float *x;
    int rows, columns;
    float *z;
} inner_t;

enum { DOTS = 4, INNER = 8 * 1024 }; /* ranks of a part; numbers of a matrix from which threads pay, about */

static void inner_part(void *context, int part) {
    const inner_t *p = context;
    int ranks = p->a->ranks, first = part * DOTS;
    likely_kernels()->dots(p->x, p->rows, p->columns, p->a->down + (long)first * p->columns, smaller(DOTS, ranks - first),
                           p->a->scales + first, p->z + first, ranks);
}

/* y [rows, all] += what `a` makes of its inner numbers z [rows, ranks]. */
static void add_ups(const addition_t *a, const float *z, int rows, float *y, long all, float *work) {
    for (int i = 0; i < a->count; i++) {
        const up_t *u = a->ups + i;
        activations_t terms[TERMS];
        float *to = y + u->start;
        int of = likely_arrange(u->up, z + u->first, a->ranks, rows, 24, work, terms);
        likely_multiply(&u->up, 1, terms, of, &to, &all, 1);
    }
}

/* y [rows, all] as a product gives it becomes what it is with `a` beside it, its bias excepted. */
static void add_beside(const addition_t *a, const float *x, int rows, int columns, float *y, int all, float *work) {
    inner_t inner = {a, x, rows, columns, work};
    int parts = (a->ranks + DOTS - 1) / DOTS;
    if ((long)rows * a->ranks * columns >= INNER)
        share(inner_part, &inner, parts);
    else
        for (int part = 0; part < parts; part++)
            inner_part(&inner, part);
    add_ups(a, inner.z, rows, y, all, work + (long)rows * a->ranks);
    for (int r = 0; a->gain && r < rows; r++)
        for (int i = 0; i < all; i++)
            y[(long)r * all + i] *= a->gain[i];
}

static void add_vector(const float *vector, int rows, long n, float *y) {
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < n; i++)
            y[r * n + i] += vector[i];
}

/* y [rows, all parts' rows] (+)= x l^T + bias and what stands beside it, with so many bits of activations. One with a
 * gain is not added. */
static void product(const linear_t *l, const addition_t *a, const float *x, int rows, float *y, int add, int bits,
                    float *work) {
    int columns = l->parts[0]->columns, all = 0;
    float *outs[3];
    long next[3];
    for (int i = 0; i < l->count; i++)
        outs[i] = y + all, all += l->parts[i]->rows;
    for (int i = 0; i < l->count; i++)
        next[i] = all;
    for (int i = 0, n; i < l->count; i += n) { /* those that want the activations as this one does go with it */
        activations_t terms[TERMS];
        int of = likely_arrange(l->parts[i], x, columns, rows, bits, work, terms);
        for (n = 1; i + n < l->count && likely_alike(l->parts[i], l->parts[i + n]); n++)
            ;
        likely_multiply(l->parts + i, n, terms, of, outs + i, next, add);
    }
    if (a)
        add_beside(a, x, rows, columns, y, all, work);
    if (l->bias)
        add_vector(l->bias, rows, all, y);
    if (a && a->shift)
        add_vector(a->shift, rows, all, y);
}

enum { SHARED_ROWS = 8 }; /* from how many a job a row pays */

static void each_row(part_t run, pass_t *p) {
    if (p->rows >= SHARED_ROWS)
        share(run, p, p->rows);
    else
        for (int row = 0; row < p->rows; row++)
            run(p, row);
}

static void add_product(const linear_t *l, const addition_t *a, const float *post_norm, const float *x, pass_t *p,
                        float *work) {
    if (!post_norm && p->m->residual_scale == 1 && !(a && a->gain)) {
        product(l, a, x, p->rows, p->x, 1, p->m->activation_bits, work);
        return;
    }
    product(l, a, x, p->rows, p->normed, 0, p->m->activation_bits, work);
    p->weight = post_norm;
    each_row(onto_part, p);
}

static int ranks_of(const addition_t *a) {
    return a ? a->ranks : 0;
}

int likely_ranks(const model_t *m) {
    int most = larger(ranks_of(m->beside_embed), ranks_of(m->beside_head));
    for (int i = 0; m->additions && i < m->layers; i++) {
        const additions_t *a = m->additions + i;
        most = larger(most, larger(ranks_of(a->qkv), ranks_of(a->out)));
        most = larger(most, larger(ranks_of(a->gate_up), ranks_of(a->down)));
    }
    return most;
}

int likely_widest(const model_t *m) {
    int wide = larger(larger(m->width, 2 * m->mlp_width), (m->heads + 2 * m->kv_heads) * m->size);
    return larger(wide, likely_ranks(m));
}

static void embed(const model_t *m, const int *tokens, int rows, float *x, float *work) {
    likely_rows(m->embed, tokens, rows, x);
    const addition_t *a = m->beside_embed;
    if (a) {
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < a->ranks; i++)
                work[(long)r * a->ranks + i] = a->down[(long)tokens[r] * a->ranks + i] * a->scales[i];
        add_ups(a, work, rows, x, m->width, work + (long)rows * a->ranks);
    }
    if (m->embed_scale != 1)
        for (long i = 0; i < (long)rows * m->width; i++)
            x[i] *= m->embed_scale;
}

/* Floats that a pass needs besides its results: for so many rows, the longest of whose texts has `positions` then. */
EXPORT long likely_forward_floats(const model_t *m, int rows, int positions) {
    long parts = (positions - 1) / PART + 1, wide = likely_widest(m);
    long found = rows * m->kv_heads * parts * (2L + m->size) * QUERIES;
    return rows * (m->width + 2 * wide + (m->heads + 2L * m->kv_heads) * m->size + m->heads * (long)m->size) +
           likely_arranged(rows, (int)wide) + found + 1024;
}

/* Reads `rows` tokens, each at its position of its text, those of one text one after another and ascending; their keys
 * and values are appended to the last span, which has room. hidden [rows, width]: after the last norm; states
 * [layers + 1, rows, width]: before the first layer and after each, if not null. `tasks` has room for 2 rows numbers,
 * `work` for `likely_forward_floats`. One caller at a time for what the last spans share. */
EXPORT void likely_forward(const model_t *m, int rows, const int *tokens, const int *text, const int *position,
                           const text_t *texts, float *hidden, float *states, int *tasks, float *work) {
    int group = m->heads / m->kv_heads, together = larger(1, QUERIES / group), longest = 0;
    pass_t p = {.m = m, .rows = rows, .text = text, .position = position, .texts = texts};
    p.first = tasks, p.count = tasks + rows;
    for (int row = 0, n; row < rows; row += n, p.tasks++) {
        for (n = 1; n < together && row + n < rows && text[row + n] == text[row]; n++)
            ;
        tasks[p.tasks] = row, tasks[rows + p.tasks] = n;
    }
    for (int row = 0; row < rows; row++)
        longest = larger(longest, position[row] + 1);
    p.parts = (longest - 1) / PART + 1;
    long wide = likely_widest(m);
    p.x = work, work += (long)rows * m->width;
    p.normed = work, work += rows * wide;
    p.hidden = work, work += rows * wide;
    p.qkv = work, work += rows * (m->heads + 2L * m->kv_heads) * m->size;
    p.attended = work, work += rows * (long)m->heads * m->size;
    p.found = work, work += (long)p.tasks * m->kv_heads * p.parts * (2L + m->size) * QUERIES;
    embed(m, tokens, rows, p.x, work);
    long stream = (long)rows * m->width;
    if (states)
        __builtin_memcpy(states, p.x, stream * sizeof(float));
    for (int i = 0; i < m->layers; i++) {
        static const additions_t none;
        const additions_t *beside = m->additions ? m->additions + i : &none;
        const layer_t *layer = p.layer = m->layer + i;
        p.index = i;
        p.weight = layer->attn_norm;
        each_row(norm_part, &p);
        product(&layer->qkv, beside->qkv, p.normed, rows, p.qkv, 0, m->activation_bits, work);
        each_row(append_part, &p);
        share(attend_part, &p, p.tasks * m->kv_heads * p.parts);
        if (p.tasks > 1)
            share(join_part, &p, p.tasks);
        else
            join_part(&p, 0);
        for (long j = 0; beside->heads && j < (long)rows * m->heads * m->size; j++)
            p.attended[j] *= beside->heads[j / m->size % m->heads];
        add_product(&layer->out, beside->out, layer->attn_post_norm, p.attended, &p, work);
        p.weight = layer->mlp_norm;
        each_row(norm_part, &p);
        product(&layer->gate_up, beside->gate_up, p.normed, rows, p.hidden, 0, m->activation_bits, work);
        each_row(gate_part, &p);
        float *gated = p.normed;
        p.normed = p.hidden; /* where a product goes that is normed */
        add_product(&layer->down, beside->down, layer->mlp_post_norm, gated, &p, work);
        p.hidden = p.normed, p.normed = gated;
        if (beside->shift)
            add_vector(beside->shift, rows, m->width, p.x);
        if (states)
            __builtin_memcpy(states + (i + 1) * stream, p.x, stream * sizeof(float));
    }
    p.weight = m->norm;
    each_row(norm_part, &p);
    __builtin_memcpy(hidden, p.normed, stream * sizeof(float));
}

/* Logits [rows, vocabulary] of hidden states; `work` has room as `likely_arranged` says for the larger of the width and
 * the ranks beside the head. */
EXPORT void likely_head(const model_t *m, const float *hidden, int rows, float *logits, float *work) {
    linear_t head = {{m->head}, 1, 0};
    product(&head, m->beside_head, hidden, rows, logits, 0, m->activation_bits, work);
}
