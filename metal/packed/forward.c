/* A forward pass: tokens of one or several texts in, their keys and values appended, hidden states out.
 *
 * Everything that threads share is cut at fixed places: products at panels, attention at every PART positions of a text
 * whatever spans they are in. Parts are put together in their order. So a row's result is the same, to the bit, alone
 * or beside others, read at once or token by token, on one thread or several. */

#include "attention.h"

typedef struct {
    const model_t *m;
    attention_t attention;
    int rows;
    float *x, *normed, *hidden; /* what jobs work on */
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

static void append_part(void *context, int row) {
    likely_append(&((const pass_t *)context)->attention, row);
}

static void gate_part(void *context, int row) {
    const pass_t *p = context;
    long n = p->m->mlp_width;
    const float *gate = p->hidden + 2 * n * row;
    likely_kernels()->gate(gate, gate + n, n, p->m->activation, p->normed + row * n);
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
    likely_kernels()->dots(p->x, p->rows, p->columns, p->a->down + (long)first * p->columns,
                           smaller(DOTS, ranks - first), p->a->scales + first, p->z + first, ranks);
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
    long wide = likely_widest(m), found = likely_found(m, rows, likely_parts(positions));
    return rows * (m->width + 2 * wide + (m->heads + 2L * m->kv_heads) * m->size + m->heads * (long)m->size) +
           likely_arranged(rows, (int)wide) + found + 1024;
}

/* Reads `rows` tokens, each at its position of its text, those of one text one after another and ascending; their keys
 * and values are appended to the last span, which has room. hidden [rows, width]: after the last norm; states
 * [layers + 1, rows, width]: before the first layer and after each, if not null. `tasks` has room for 2 rows numbers,
 * `work` for `likely_forward_floats`. One caller at a time for what the last spans share. */
EXPORT void likely_forward(const model_t *m, int rows, const int *tokens, const int *text, const int *position,
                           const text_t *texts, float *hidden, float *states, int *tasks, float *work) {
    pass_t p = {
        .m = m, .rows = rows, .attention = {m, .rows = rows, .text = text, .position = position, .texts = texts}};
    attention_t *at = &p.attention;
    int longest = 0;
    for (int row = 0; row < rows; row++)
        longest = larger(longest, position[row] + 1);
    at->parts = likely_parts(longest), at->first = tasks, at->count = tasks + rows;
    likely_tasks(at);
    long wide = likely_widest(m);
    p.x = work, work += (long)rows * m->width;
    p.normed = work, work += rows * wide;
    p.hidden = work, work += rows * wide;
    at->qkv = work, work += rows * (m->heads + 2L * m->kv_heads) * m->size;
    at->attended = work, work += rows * (long)m->heads * m->size;
    at->found = work, work += likely_found(m, rows, at->parts);
    embed(m, tokens, rows, p.x, work);
    long stream = (long)rows * m->width;
    if (states)
        __builtin_memcpy(states, p.x, stream * sizeof(float));
    for (int i = 0; i < m->layers; i++) {
        static const additions_t none;
        const additions_t *beside = m->additions ? m->additions + i : &none;
        const layer_t *layer = at->layer = m->layer + i;
        at->index = i;
        p.weight = layer->attn_norm;
        each_row(norm_part, &p);
        product(&layer->qkv, beside->qkv, p.normed, rows, at->qkv, 0, m->activation_bits, work);
        each_row(append_part, &p);
        likely_attend(at);
        for (long j = 0; beside->heads && j < (long)rows * m->heads * m->size; j++)
            at->attended[j] *= beside->heads[j / m->size % m->heads];
        add_product(&layer->out, beside->out, layer->attn_post_norm, at->attended, &p, work);
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
