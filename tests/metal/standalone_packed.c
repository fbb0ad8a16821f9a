/* Runs metal/packed without Python or libc, for machines that only an emulator is at hand for: reads a request from its
 * input, writes floats. A matrix and activations give its numbers and their product; logits what a scan says of them; a
 * small model and tokens its logits. */
#include "forward.h"
#include "standalone.h"

#if defined(__aarch64__)
enum { READ = 63 };
#else
enum { READ = 0 };
#endif

const char *likely_packed_init(int most);
long likely_layout(matrix_t *m);
void likely_pack(const matrix_t *m, const uint8_t *raw, long bytes, const int *order, int first, int count);
void likely_pack_affine(const matrix_t *m, const uint8_t *codes, const uint8_t *scales, const uint8_t *offsets,
                        int first, int count);
void likely_product(const matrix_t *m, const float *x, long next_x, int rows, float *y, long next_y, int add,
                    int bits, float *work);
void likely_scan(const float *x, int rows, int n, scan_t *out, float *masses);
int likely_look(int rows, const float *const *x, int n, const scan_t *const *found, const int *tokens, const int *apart,
                const int *counts, float span, look_t *out, int *ids, float *logits, long next, int *work);
long likely_forward_floats(const model_t *m, int rows, int positions);
void likely_forward(const model_t *m, int rows, const int *tokens, const int *text, const int *position,
                    const text_t *texts, float *hidden, float *states, int *tasks, float *work);
void likely_head(const model_t *m, const float *hidden, int rows, float *logits, float *work);

static uint8_t arena[64 << 20] __attribute__((aligned(64)));
static long used;

static void *room(long bytes) {
    void *at = arena + used;
    used += (bytes + 63) / 64 * 64;
    if (used > (long)sizeof arena)
        call(LEAVE, 3, 0, 0);
    return at;
}

static void *in(long bytes) {
    uint8_t *at = room(bytes);
    for (long have = 0, got; have < bytes; have += got)
        if ((got = call(READ, 0, (long)at + have, bytes - have)) <= 0)
            call(LEAVE, 2, 0, 0);
    return at;
}

static int number(void) {
    return *(int *)in(4);
}

static void out(const void *at, long bytes) {
    for (long have = 0; have < bytes;)
        have += call(WRITE, 1, (long)at + have, bytes - have);
}

static void matrix(void) {
    matrix_t m = {.layout = number(), .number = number(), .group = number(), .rows = number(), .columns = number()};
    int bytes = number(), rows = number(), size = m.number == FLOAT32 ? 4 : 2;
    m.data = room(likely_layout(&m));
    if (m.layout == AFFINE4 || m.layout == AFFINE8) {
        uint8_t *codes = in((long)m.rows * bytes), *scales = in((long)m.rows * m.blocks * size);
        likely_pack_affine(&m, codes, scales, in((long)m.rows * m.blocks * size), 0, m.rows);
    } else
        likely_pack(&m, in((long)m.rows * bytes), bytes, 0, 0, m.rows);
    const float *x = in((long)rows * m.columns * 4);
    int *ids = room(m.rows * 4);
    for (int i = 0; i < m.rows; i++)
        ids[i] = i;
    float *numbers = room((long)m.rows * m.columns * 4), *y = room((long)rows * m.rows * 4);
    likely_rows(&m, ids, m.rows, numbers);
    out(numbers, (long)m.rows * m.columns * 4);
    for (int bits = 16; bits >= 8; bits -= 8) {
        likely_product(&m, x, m.columns, rows, y, m.rows, 0, bits, room(likely_arranged(rows, m.columns) * 4));
        out(y, (long)rows * m.rows * 4);
    }
}

static void scan(void) {
    int n = number(), token = number();
    scan_t *found = room(sizeof *found);
    look_t *look = room(sizeof *look);
    const float *x = in(n * 4L);
    const scan_t *one = found;
    int none = 0, *ids = room(CANDIDATES * 4L);
    likely_scan(x, 1, n, found, room(n / 64 + 4));
    likely_look(1, &x, n, &one, &token, &token, &none, 1e9f, look, ids, room(CANDIDATES * 4L), CANDIDATES,
                room(n * 8L + n / 16 + 256));
    out(found, sizeof *found);
    out(look, sizeof *look);
    out(ids, CANDIDATES * 4L);
}

/* A matrix as its layout, the bytes of a row and these say. */
static const matrix_t *weights(int rows, int columns) {
    matrix_t *m = room(sizeof *m);
    *m = (matrix_t){.layout = number(), .rows = rows, .columns = columns};
    int bytes = number();
    m->data = room(likely_layout(m));
    likely_pack(m, in((long)rows * bytes), bytes, 0, 0, rows);
    return m;
}

/* What stands beside a product. */
static const addition_t *beside(int outputs, int columns) {
    addition_t *a = room(sizeof *a);
    up_t *up = room(sizeof *up);
    a->ranks = number(), a->count = 1, a->ups = up;
    a->down = in((long)a->ranks * columns * 4), a->scales = in(a->ranks * 4), a->gain = in(outputs * 4);
    up->start = up->first = 0, up->up = weights(outputs, a->ranks);
    return a;
}

static void forward(void) {
    int vocabulary = number();
    model_t m = {.layers = number(), .width = number(), .heads = number(), .kv_heads = number(), .size = number()};
    m.mlp_width = number(), m.eps = 1e-5f, m.scale = *(float *)in(4), m.embed_scale = m.residual_scale = 1;
    m.pairs = m.size / 2;
    int held = number(), rows = number(), q = m.heads * m.size, kv = m.kv_heads * m.size;
    const int *tokens = in(rows * 4);
    const float *turns = in((long)rows * m.size * 4);
    m.embed = m.head = weights(vocabulary, m.width);
    layer_t *layers = room(m.layers * sizeof *layers);
    additions_t *additions = room(m.layers * sizeof *additions);
    for (int i = 0; i < m.layers; i++) {
        layers[i] = (layer_t){
            .qkv = {{weights(q, m.width), weights(kv, m.width), weights(kv, m.width)}, 3},
            .out = {{weights(m.width, q)}, 1},
            .gate_up = {{weights(m.mlp_width, m.width), weights(m.mlp_width, m.width)}, 2},
            .down = {{weights(m.width, m.mlp_width)}, 1},
            .attn_norm = in(m.width * 4),
            .mlp_norm = in(m.width * 4),
            .turns = turns,
        };
        additions[i] = (additions_t){.down = beside(m.width, m.mlp_width), .shift = in(m.width * 4)};
    }
    m.layer = layers, m.additions = additions, m.norm = in(m.width * 4);
    int capacity = (rows + 15) / 16 * 16, *texts = room(rows * 4), *positions = room(rows * 4);
    long cache = (long)m.layers * m.kv_heads * capacity * m.size * 4;
    span_t span = {room(cache), room(cache), capacity, 0, held};
    text_t text = {&span, 1, 0};
    for (int i = 0; i < rows; i++)
        texts[i] = 0, positions[i] = i;
    float *hidden = room((long)rows * m.width * 4), *logits = room((long)rows * vocabulary * 4);
    likely_forward(&m, rows, tokens, texts, positions, &text, hidden, 0, room(rows * 8),
                   room(likely_forward_floats(&m, rows, rows) * 4));
    likely_head(&m, hidden, rows, logits, room(likely_arranged(rows, m.width) * 4));
    out(logits, (long)rows * vocabulary * 4);
}

START void _start(void) {
    likely_packed_init(number());
    int what = number();
    what == 0 ? matrix() : what == 1 ? scan() : forward();
    call(LEAVE, 0, 0, 0);
}
