// One chunk of a row of logits, for who looks on: its C most likely tokens, in no order, the largest of the others, and
// what is counted: logits that are possible (not -inf), larger than the token's, or no numbers. Mean and squares are of
// the possible ones, relative to the chunk's largest.
#include "vocab.h"

constant constexpr uint C = 256u;  // tokens kept of a row: a thread each
//: body
threadgroup uint counts[SIMDGROUPS];
threadgroup float2 ends[SIMDGROUPS];
threadgroup float parts[SIMDGROUPS];

const uint tid = thread_index_in_threadgroup;
const uint lane = thread_index_in_simdgroup;
const uint sg = simdgroup_index_in_threadgroup;
const int chunk = int(threadgroup_position_in_grid.x);
const int row = int(threadgroup_position_in_grid.y);
const int vocab = params[0];
const int chunks = params[1];
const size_t from = size_t(row) * size_t(vocab);
const int token = max(apart[row * params[2]], 0);  // there is none where the draw spilled
const float chosen = float(logits[from + size_t(token)]);

float held[EACH];
uint keys[EACH];
int ids[EACH];
float most = -INFINITY, least = INFINITY;
uint possible = 0u, larger = 0u, bad = 0u;
FULLY
for (int i = 0; i < EACH; i++) {
  int id = (chunk * EACH + i) * 256 + int(tid);
  bool there = id < vocab;
  float logit = there ? float(logits[from + size_t(id)]) : -INFINITY;
  bad += uint(!(logit < INFINITY));
  held[i] = isnan(logit) ? -INFINITY : logit;  // which nothing could be ordered by
  keys[i] = ordered<BITS>(held[i]);
  ids[i] = there ? i * 256 + int(tid) : -1;
  bool some = held[i] > -INFINITY;
  most = max(most, held[i]);
  least = some ? min(least, held[i]) : least;
  possible += uint(some);
  larger += uint(held[i] > chosen);
}
possible = sum_all(possible, counts, sg, lane);
larger = sum_all(larger, counts, sg, lane);
bad = sum_all(bad, counts, sg, lane);
float2 both = float2(simd_max(most), simd_min(least));
if (lane == 0u) {
  ends[sg] = both;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint g = 0u; g < SIMDGROUPS; g++) {
  both = float2(max(both.x, ends[g].x), min(both.y, ends[g].y));
}

float sum = 0.0f;
FULLY
for (int i = 0; i < EACH; i++) {
  sum += held[i] > -INFINITY ? held[i] - both.x : 0.0f;
}
sum = simd_sum(sum);
if (lane == 0u) {
  parts[sg] = sum;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
sum = 0.0f;
for (uint g = 0u; g < SIMDGROUPS; g++) {
  sum += parts[g];
}
const float mean = possible > 0u ? sum / float(possible) : 0.0f;
float squares = 0.0f;
FULLY
for (int i = 0; i < EACH; i++) {
  float off = held[i] - both.x - mean;
  squares += held[i] > -INFINITY ? off * off : 0.0f;
}
squares = simd_sum(squares);
threadgroup_barrier(mem_flags::mem_threadgroup);
if (lane == 0u) {
  parts[sg] = squares;
}

const uint want = uint(min(vocab - chunk * EACH * 256, int(C)));
uint mask = largest<EACH, BITS>(keys, ids, want, EACH * 256, counts, sg, lane);
uint at = place(popcount(mask), counts, sg, lane);
const size_t base = size_t(row) * size_t(chunks) + size_t(chunk);
float other = -INFINITY;
FULLY
for (int i = 0; i < EACH; i++) {
  bool in = ((mask >> uint(i)) & 1u) == 1u;
  if (in) {
    values[base * C + at] = held[i];
    value_ids[base * C + at] = ids[i] + chunk * EACH * 256;
    at++;
  }
  other = in ? other : max(other, held[i]);
}
if (tid >= want) {
  values[base * C + tid] = -INFINITY;
  value_ids[base * C + tid] = -1;
}
other = simd_max(other);
threadgroup_barrier(mem_flags::mem_threadgroup);
if (lane == 0u) {
  ends[sg] = float2(other, 0.0f);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (tid == 0u) {
  squares = 0.0f;
  for (uint g = 0u; g < SIMDGROUPS; g++) {
    squares += parts[g];
    other = max(other, ends[g].x);
  }
  stats[base * 5] = both.x;
  stats[base * 5 + 1] = both.y;
  stats[base * 5 + 2] = other;
  stats[base * 5 + 3] = mean;
  stats[base * 5 + 4] = squares;
  counted[base * 3] = int(possible);
  counted[base * 3 + 1] = int(larger);
  counted[base * 3 + 2] = int(bad);
}
