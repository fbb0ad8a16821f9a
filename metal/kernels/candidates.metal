// Joins a row's chunks: the C most likely tokens in order, the edges of the histogram of the others, and the logits of
// the tokens that stand apart.
#include "vocab.h"

constant constexpr uint C = 256u;
constant constexpr int BINS = 64;
constant constexpr float SPAN = 32.0f;  // nats below the most likely of the others that the histogram resolves
//: body
threadgroup uint counts[SIMDGROUPS];
threadgroup float parts[SIMDGROUPS];
threadgroup float kept[C];
threadgroup int kept_ids[C];

const uint tid = thread_index_in_threadgroup;
const uint lane = thread_index_in_simdgroup;
const uint sg = simdgroup_index_in_threadgroup;
const int row = int(threadgroup_position_in_grid.y);
const int vocab = params[0];
const int chunks = params[1];
const int others = params[2];

float most = -INFINITY, least = INFINITY;  // of those that are not kept; of all
int possible = 0;
for (int c = 0; c < chunks; c++) {
  int at = row * chunks + c;
  least = min(least, stats[at * 5 + 1]);
  most = max(most, stats[at * 5 + 2]);
  possible += counted[at * 3];
}

// EACH - 1 chunks at a time, beside what is kept of those before.
kept[tid] = -INFINITY;
kept_ids[tid] = -1;
for (int first = 0; first < chunks; first += EACH - 1) {
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float held[EACH];
  uint keys[EACH];
  int ids[EACH];
  uint mine = 0u;
  FULLY
  for (int i = 0; i < EACH; i++) {
    bool there = i > 0 && first + i - 1 < chunks;
    size_t at = (size_t(row) * size_t(chunks) + size_t(there ? first + i - 1 : 0)) * C + size_t(tid);
    held[i] = i == 0 ? kept[tid] : there ? values[at] : -INFINITY;
    ids[i] = i == 0 ? kept_ids[tid] : there ? value_ids[at] : -1;
    keys[i] = ordered<BITS>(held[i]);
    mine += uint(ids[i] >= 0);
  }
  uint want = min(sum_all(mine, counts, sg, lane), C);
  uint mask = largest<EACH, BITS>(keys, ids, want, vocab, counts, sg, lane);
  uint to = place(popcount(mask), counts, sg, lane);
  FULLY
  for (int i = 0; i < EACH; i++) {
    bool in = ((mask >> uint(i)) & 1u) == 1u;
    if (in) {
      kept[to] = held[i];
      kept_ids[to] = ids[i];
      to++;
    }
    most = in ? most : max(most, held[i]);
  }
  if (tid >= want) {
    kept[tid] = -INFINITY;
    kept_ids[tid] = -1;
  }
}
most = simd_max(most);
if (lane == 0u) {
  parts[sg] = most;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint g = 0u; g < SIMDGROUPS; g++) {
  most = max(most, parts[g]);
}

const float value = kept[tid];
const int id = kept_ids[tid];
int rank = 0;
for (int i = 0; i < int(C); i++) {
  bool before = kept[i] > value || (kept[i] == value && (kept_ids[i] < id || (kept_ids[i] == id && i < int(tid))));
  rank += int(before);
}
const int to = row * int(C) + rank;
best[to] = value;
best_ids[to] = value > -INFINITY ? id : -1;

if (tid <= uint(BINS)) {
  bool some = possible > int(C);
  float start = max(least, most - SPAN);
  float step = (most - start) / float(BINS);
  float rise = float(tid) * step;
  float edge = tid == 0u ? least : tid == uint(BINS) ? most : rise + start;
  edges[row * (BINS + 1) + int(tid)] = some ? edge : 0.0f;
}
for (int i = int(tid); i < others; i += 256) {
  int at = max(apart[row * others + i], 0);
  apart_logits[row * others + i] = float(logits[size_t(row) * size_t(vocab) + size_t(at)]);
}
