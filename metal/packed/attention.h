/* Attention of new rows over the keys and values of their texts, in one layer. */

#ifndef ATTENTION_H
#define ATTENTION_H

#include "forward.h"

typedef struct {
    const model_t *m;
    const layer_t *layer;
    int index, rows, parts;      /* of the layer; new rows; parts of the longest text */
    const int *text, *position;  /* of each row */
    const text_t *texts;
    int tasks;                   /* blocks of rows that are looked at together */
    int *first, *count;          /* rows of each */
    float *qkv, *attended, *found; /* [rows, (heads + 2 kv_heads) size], [rows, heads size]; each part's result */
} attention_t;

void likely_tasks(attention_t *a);
long likely_found(const model_t *m, int rows, int parts); /* floats of `found` */
int likely_parts(int positions);
void likely_append(const attention_t *a, int row);
void likely_attend(const attention_t *a);

#endif
