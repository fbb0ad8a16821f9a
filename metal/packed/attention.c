/* Attention of new rows: a row's queries and keys are turned, keys and values put away, and what they attend to is
 * mixed.
 *
 * It is cut at every PART positions of a text whatever spans they are in, and the parts are put together in their
 * order. Texts side by side that go on from the same frozen spans look at those together: there a key is read and
 * widened once for several of their queries. No bit goes by that. */

#include "attention.h"

enum { PART = 256, QUERIES = 16, WIDEST = 256 }; /* positions of a part; queries of a task at most; the widest head */

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static int group_of(const model_t *m) { /* heads that share their keys */
    return m->heads / m->kv_heads;
}

int likely_parts(int positions) {
    return (positions - 1) / PART + 1;
}

/* --- keys and values put away ----------------------------------------------------------------------------------- */

/* Where a head's numbers begin in the layer's part of a span, at a position. */
static long place_of(const attention_t *a, const span_t *span, int head, int position) {
    return (((long)a->index * a->m->kv_heads + head) * span->capacity + position) * a->m->size;
}

/* A row's queries and keys are normed and turned, and its keys and values go to their places. */
void likely_append(const attention_t *a, int row) {
    const model_t *m = a->m;
    const layer_t *layer = a->layer;
    int size = m->size, both = m->heads + m->kv_heads;
    float *qkv = a->qkv + (long)row * (both + m->kv_heads) * size;
    const float *turns = layer->turns ? layer->turns + 2L * a->position[row] * m->pairs : 0;
    for (int h = 0; h < both; h++) {
        float *head = qkv + h * size;
        if (layer->q_norm)
            likely_kernels()->norm(head, h < m->heads ? layer->q_norm : layer->k_norm, size, m->eps, head);
        if (turns)
            likely_kernels()->turn(head, m->pairs, m->neighbours, turns, turns + m->pairs);
    }
    for (int i = 0; i < m->heads * size; i++)
        qkv[i] *= m->scale;
    const text_t *text = a->texts + a->text[row];
    const span_t *span = text->spans + text->count - 1;
    int at = a->position[row] - text->before;
    for (int h = 0; h < m->kv_heads; h++) {
        long place = place_of(a, span, h, 0), own = place + (long)at / LANES * LANES * size + at % LANES;
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

/* --- tasks ------------------------------------------------------------------------------------------------------ */

static int has_one_row(const attention_t *a, int row) {
    return (row == 0 || a->text[row - 1] != a->text[row]) && (row + 1 == a->rows || a->text[row + 1] != a->text[row]);
}

/* Whether two texts are the same but for their last spans. */
static int shares(const text_t *a, const text_t *b) {
    int same = a->count == b->count && a->count > 1;
    for (int i = 0; same && i < a->count - 1; i++)
        same = a->spans[i].keys == b->spans[i].keys && a->spans[i].length == b->spans[i].length;
    return same;
}

/* Rows of one text, or one of each of several that share, as many to each task. */
void likely_tasks(attention_t *a) {
    int most = larger(1, QUERIES / group_of(a->m));
    a->tasks = 0;
    for (int row = 0, n; row < a->rows; row += n) {
        n = 1;
        if (has_one_row(a, row)) {
            while (row + n < a->rows && has_one_row(a, row + n) &&
                   shares(a->texts + a->text[row], a->texts + a->text[row + n]))
                n++;
            n = (n - 1) / ((n - 1) / most + 1) + 1;
        } else
            while (n < most && row + n < a->rows && a->text[row + n] == a->text[row])
                n++;
        a->first[a->tasks] = row, a->count[a->tasks++] = n;
    }
}

/* Of a head the largest score of each query in a part, behind those the sums of their weights, and what these mix:
 * [rows group] [rows group] [rows group, size]. */
static float *found_at(const attention_t *a, int head, int part) {
    long each = (2L + a->m->size) * a->rows * group_of(a->m);
    return a->found + ((long)head * a->parts + part) * each;
}

long likely_found(const model_t *m, int rows, int parts) {
    return (2L + m->size) * rows * m->heads * parts;
}

/* --- attention -------------------------------------------------------------------------------------------------- */

/* Positions low..high-1 of a span lie in a part of a text that is read up to `end`. */
typedef struct {
    const span_t *span;
    int begin, low, high; /* begin: where the span does in its text */
} reach_t;

static reach_t reach_of(const text_t *text, int i, int begin, int start, int end) {
    const span_t *span = text->spans + i;
    int held = i + 1 < text->count ? span->length : span->capacity;
    return (reach_t){span, begin, larger(start - begin, 0), smaller(smaller(start + PART, end) - begin, held)};
}

/* Scores of so many queries [queries, size] at what is reached, to the places of their weights [queries, PART]. */
static void score(const attention_t *a, reach_t at, int head, int start, const float *q, int queries, float *weights) {
    int number = at.span->number, bytes = number == FLOAT32 ? 4 : 2;
    if (at.low >= at.high)
        return;
    int from = at.low / LANES * LANES;
    long place = place_of(a, at.span, head, from) * bytes;
    const uint8_t *keys = (const uint8_t *)at.span->keys + place, *values = (const uint8_t *)at.span->values + place;
    likely_kernels()->scores(q, queries, a->m->size, keys, number, values - keys, at.low - from, at.high - at.low,
                             weights + at.begin + at.low - start, PART);
}

/* mixed [queries, size] += their weights by the values that are reached; what lies at `after` is fetched meanwhile. */
static void mix(const attention_t *a, reach_t at, int head, int start, const float *weights, int queries,
                const uint8_t *after, float *mixed) {
    int number = at.span->number;
    if (at.low >= at.high)
        return;
    long place = place_of(a, at.span, head, at.low) * (number == FLOAT32 ? 4 : 2);
    const uint8_t *values = (const uint8_t *)at.span->values + place;
    likely_kernels()->mix(weights + at.begin + at.low - start, PART, queries, at.high - at.low, values, number,
                          a->m->size, after ? after - values : 0, mixed);
}

/* The first keys that a part reads of the text of one of its rows, none before position `from`; none past the last. */
static const uint8_t *keys_of(const attention_t *a, int index, int row, int from) {
    int task = index % a->tasks, part = index / a->tasks % a->parts, head = index / a->tasks / a->parts;
    row = a->first[task] + smaller(row, a->count[task] - 1);
    const text_t *text = a->texts + a->text[row];
    int at = larger(larger(part * PART, from), a->layer->window ? a->position[row] + 1 - a->layer->window : 0);
    for (int i = 0; head < a->m->kv_heads && i < text->count; at -= text->spans[i++].length) {
        const span_t *span = text->spans + i;
        if (at < span->length || i + 1 == text->count)
            return (const uint8_t *)span->keys +
                   place_of(a, span, head, at / LANES * LANES) * (span->number == FLOAT32 ? 4 : 2);
    }
    return 0;
}

/* The parts of one task's queries of a head, in their order, onto each other. */
static void join(const attention_t *a, int task, int head) {
    const model_t *m = a->m;
    int group = group_of(m), size = m->size, all = a->rows * group;
    const float *found = found_at(a, head, 0);
    long next = found_at(a, 1, 0) - found_at(a, 0, 0);
    next /= a->parts;
    for (int i = a->first[task] * group; i < (a->first[task] + a->count[task]) * group; i++)
        likely_kernels()->join(found + i, found + all + i, found + 2L * all + (long)i * size, next, a->parts, size,
                               a->attended + ((long)(i / group) * m->heads + head * group + i % group) * size);
}

static void attend_part(void *context, int index) {
    const attention_t *a = context;
    const model_t *m = a->m;
    int task = index % a->tasks, part = index / a->tasks % a->parts, head = index / a->tasks / a->parts;
    int group = group_of(m), size = m->size, first = a->first[task], rows = a->count[task], start = part * PART;
    int of_one = a->text[first] == a->text[first + rows - 1] ? rows : 1; /* rows of each text */
    float *most = found_at(a, head, part) + first * group, *total = most + a->rows * group;
    float *mixed = found_at(a, head, part) + 2L * a->rows * group + (long)first * group * size;
    int seen = 0;
    for (int r = 0; r < rows; r++) {
        int at = a->position[first + r];
        seen |= at >= start && (!a->layer->window || at + 1 - a->layer->window < start + PART);
    }
    for (int i = 0; i < rows * group; i++)
        most[i] = -__builtin_inff(), total[i] = 0;
    if (!seen)
        return;
    float q[QUERIES * WIDEST] __attribute__((aligned(64))), weights[QUERIES * PART] __attribute__((aligned(64)));
    for (int r = 0; r < rows; r++)
        __builtin_memcpy(q + r * group * size,
                         a->qkv + ((first + r) * (m->heads + 2L * m->kv_heads) + (long)head * group) * size,
                         group * size * sizeof(float));
    const text_t *texts = a->texts, *text = texts + a->text[first];
    for (int i = 0, begin = 0; i < text->count - 1; begin += text->spans[i++].length)
        score(a, reach_of(text, i, begin, start, start + PART), head, start, q, rows * group, weights);
    for (int r = 0; r < rows; r += of_one) {
        const text_t *own = texts + a->text[first + r];
        int end = a->position[first + r + of_one - 1] + 1,
            padded = smaller(PART, (end - start + LANES - 1) / LANES * LANES);
        score(a, reach_of(own, own->count - 1, own->before, start, end), head, start, q + r * group * size,
              of_one * group, weights + r * group * PART);
        for (int i = r * group; i < (r + of_one) * group; i++) {
            int at = a->position[first + i / group];
            int lowest = a->layer->window ? larger(0, at + 1 - a->layer->window - start) : 0;
            most[i] =
                likely_kernels()->soften(weights + i * PART, lowest, smaller(at + 1 - start, PART), padded, total + i);
        }
    }
    for (int i = 0; i < rows * group * size; i++)
        mixed[i] = 0;
    for (int i = 0, begin = 0; i < text->count - 1; begin += text->spans[i++].length)
        mix(a, reach_of(text, i, begin, start, start + PART), head, start, weights, rows * group,
            keys_of(a, index + 1, 0, begin), mixed);
    for (int r = 0; r < rows; r += of_one) {
        const text_t *own = texts + a->text[first + r];
        int end = a->position[first + r + of_one - 1] + 1;
        mix(a, reach_of(own, own->count - 1, own->before, start, end), head, start, weights + r * group * PART,
            of_one * group, keys_of(a, index + 1, r, text->count > 1 ? text->before : 0), mixed + r * group * size);
    }
    if (a->parts == 1)
        join(a, task, head);
}

static void join_part(void *context, int index) {
    const attention_t *a = context;
    join(a, index % a->tasks, index / a->tasks);
}

/* What each row attends to: [rows, heads size]. */
void likely_attend(const attention_t *a) {
    int jobs = a->tasks * a->m->kv_heads;
    share(attend_part, (void *)a, jobs * a->parts);
    for (int i = 0; a->parts > 1 && a->tasks == 1 && i < jobs; i++)
        join_part((void *)a, i);
    if (a->parts > 1 && a->tasks > 1)
        share(join_part, (void *)a, jobs);
}
