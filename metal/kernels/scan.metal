// One chunk of a row of logits: its maximum, sums for the log-sum-exp, the entropy and the tempered log-sum-exp, and
// its KEPT largest, in no order. If OBSERVED, for who looks on, also how many logits are possible (not -inf), the least
// of these, their mean and squares relative to the maximum, and the largest that is not kept. One read of the logits;
// the rest stays in registers.
#include "vocab.h"
//: body
threadgroup uint counts[SIMDGROUPS];
threadgroup float parts[SIMDGROUPS];
threadgroup float3 sums[SIMDGROUPS];

const uint tid = thread_index_in_threadgroup;
const uint lane = thread_index_in_simdgroup;
const uint sg = simdgroup_index_in_threadgroup;
const int chunk = int(threadgroup_position_in_grid.x);
const int row = int(threadgroup_position_in_grid.y);
const int vocab = params[0];
const int chunks = params[1];
const float sharp = recipe[row * params[2]];  // 1 / temperature

float held[EACH];
uint keys[EACH];
int ids[EACH];
float peak = -INFINITY;
FULLY
for (int i = 0; i < EACH; i++) {
  int id = (chunk * EACH + i) * 256 + int(tid);
  bool there = id < vocab;
  float logit = there ? float(logits[size_t(row) * size_t(vocab) + size_t(id)]) : -INFINITY;
  held[i] = isnan(logit) ? INFINITY : logit;  // which ranks, and leaves no sum a number either
  keys[i] = ordered<BITS>(held[i]);
  ids[i] = there ? i * 256 + int(tid) : -1;
  peak = max(peak, held[i]);
}
peak = max_all(peak, parts, sg, lane);

// x: sum of exp(s - peak); y: of (s - peak) exp(s - peak); z: of exp((s - peak) / temperature)
float3 sum = float3(0.0f);
FULLY
for (int i = 0; i < EACH; i++) {
  if (held[i] > -INFINITY) {
    float below = held[i] - peak;
    float e = metal::precise::exp(below);
    sum += float3(e, e * below, metal::precise::exp(below * sharp));
  }
}
sum = float3(simd_sum(sum.x), simd_sum(sum.y), simd_sum(sum.z));
if (lane == 0u) {
  sums[sg] = sum;
}
#if OBSERVED
float least = INFINITY, mean = 0.0f, squares = 0.0f;
uint possible = 0u;
FULLY
for (int i = 0; i < EACH; i++) {
  bool some = held[i] > -INFINITY;
  least = some ? min(least, held[i]) : least;
  mean += some ? held[i] - peak : 0.0f;
  possible += uint(some);
}
possible = sum_all(possible, counts, sg, lane);
least = -max_all(-least, parts, sg, lane);
mean = sum_all(mean, parts, sg, lane) / float(max(possible, 1u));
FULLY
for (int i = 0; i < EACH; i++) {
  float off = held[i] - peak - mean;
  squares += held[i] > -INFINITY ? off * off : 0.0f;
}
squares = sum_all(squares, parts, sg, lane);
float other = -INFINITY;
#endif

const uint want = uint(min(vocab - chunk * EACH * 256, KEPT));
uint mask = largest<EACH, BITS>(keys, ids, want, EACH * 256, counts, sg, lane);
uint at = place(popcount(mask), counts, sg, lane);
const size_t base = size_t(row) * size_t(chunks) + size_t(chunk);
FULLY
for (int i = 0; i < EACH; i++) {
  bool in = ((mask >> uint(i)) & 1u) == 1u;
  if (in) {
    values[base * KEPT + at] = held[i];
    value_ids[base * KEPT + at] = ids[i] + chunk * EACH * 256;
    at++;
  }
#if OBSERVED
  other = in ? other : max(other, held[i]);
#endif
}
if (tid >= want && tid < uint(KEPT)) {
  values[base * KEPT + tid] = -INFINITY;
  value_ids[base * KEPT + tid] = -1;
}
#if OBSERVED
other = max_all(other, parts, sg, lane);
if (tid == 0u) {
  moments[base * 5] = peak;
  moments[base * 5 + 1] = least;
  moments[base * 5 + 2] = other;
  moments[base * 5 + 3] = mean;
  moments[base * 5 + 4] = squares;
  counted[base] = int(possible);
}
#endif
if (tid == 0u) {
  for (uint g = 1u; g < SIMDGROUPS; g++) {
    sum += sums[g];
  }
  stats[base * 4] = peak;
  stats[base * 4 + 1] = sum.x;
  stats[base * 4 + 2] = sum.y;
  stats[base * 4 + 3] = sum.z;
}
