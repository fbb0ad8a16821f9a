/* A forward pass of a Llama-shaped model, all layers in one call. */

#ifndef FORWARD_H
#define FORWARD_H

#include "packed.h"

/* A product that may be made of several matrices with one input, whose outputs stand side by side. */
typedef struct {
    const matrix_t *parts[3];
    int count;
    const float *bias; /* or null */
} linear_t;

/* Outputs start.. of a product: `up` [outputs, ranks] times the inner numbers from `first` on. */
typedef struct {
    const matrix_t *up;
    int start, first;
} up_t;

/* What stands beside a product, low ranks of one adapter or several: y = gain (W x + up (scales * down x)) + bias +
 * shift. */
typedef struct {
    const float *down;         /* [ranks, columns]; beside the embedding [vocabulary, ranks] */
    const float *scales;       /* [ranks] */
    const up_t *ups;           /* [count] */
    const float *gain, *shift; /* [outputs], or null */
    int ranks, count;
} addition_t;

/* Of a layer; each may be null. */
typedef struct {
    const addition_t *qkv, *out, *gate_up, *down;
    const float *heads; /* [heads]: what the output of each is multiplied by */
    const float *shift; /* [width]: onto the residual stream after it */
} additions_t;

typedef struct {
    linear_t qkv, out, gate_up, down;
    const float *attn_norm, *mlp_norm;           /* [width] */
    const float *attn_post_norm, *mlp_post_norm; /* [width], or null */
    const float *q_norm, *k_norm;                /* [size], or null: of each head */
    const float *turns;                          /* [positions, 2, pairs]: cosines and sines, or null */
    int window;                                  /* how many positions back it sees, its own included; 0: all */
} layer_t;

typedef struct {
    int layers, width, heads, kv_heads, size, mlp_width;
    int pairs, neighbours; /* that turn, of a head; whether a pair is (2 i, 2 i + 1) */
    int activation, activation_bits; /* 8, 16 or 24 */
    float eps, scale, embed_scale, residual_scale;
    const layer_t *layer;
    const float *norm; /* [width]: the last one */
    const matrix_t *embed, *head;
    const additions_t *additions; /* of each layer, or null */
    const addition_t *beside_embed, *beside_head; /* or null */
} model_t;

/* Rows of keys and values of all layers, those of `length` positions valid: keys [layers, kv_heads, capacity / 16,
 * size, 16], 16 positions side by side; values [layers, kv_heads, capacity, size]. All are floats or halves, by their
 * `number`; what is made of them is summed in floats. */
typedef struct {
    void *keys, *values;
    int capacity, length, number;
} span_t;

/* One text: the spans of its rows in their order, of which the last takes the new ones. */
typedef struct {
    const span_t *spans;
    int count, before; /* positions in the spans but the last */
} text_t;

int likely_ranks(const model_t *m); /* the most beside a product */
int likely_widest(const model_t *m);

#endif
