// Joins a row's chunks: log-sum-exp, entropy, the K most likely tokens in order, and a draw from them.
//
// The draw: temperature, then top-k, then top-p of what that left, then min-p, then the inverse of the cumulative
// distribution at `uniform`. `spilled` says that what may be drawn does not end within the K; then there is no token.
#include "vocab.h"

// The sum of what 64 places hold up to and including each of a lane's two: `lane` and `lane + 32`.
inline float2 cumulative(float2 p) {
  float2 sum = float2(simd_prefix_inclusive_sum(p.x), simd_prefix_inclusive_sum(p.y));
  sum.y += simd_sum(p.x);
  return sum;
}

// The first of the 64 places where `yes` does not hold.
inline int length(bool yes, bool yes_32, int lane) {
  int first = yes ? (yes_32 ? K : lane + 32) : lane;
  return simd_min(first);
}
//: body
threadgroup uint counts[SIMDGROUPS];
threadgroup float kept[K];
threadgroup int kept_ids[K];
threadgroup float sorted[K];
threadgroup int sorted_ids[K];

const uint tid = thread_index_in_threadgroup;
const uint lane = thread_index_in_simdgroup;
const uint sg = simdgroup_index_in_threadgroup;
const int row = int(threadgroup_position_in_grid.y);
const int vocab = params[0];
const int chunks = params[1];
const float sharp = recipe[row * params[2]];

float peak = -INFINITY;
for (int c = 0; c < chunks; c++) {
  peak = max(peak, stats[(row * chunks + c) * 4]);
}
float3 sum = float3(0.0f);
for (int c = 0; c < chunks; c++) {
  int at = (row * chunks + c) * 4;
  float below = stats[at] - peak;
  if (stats[at + 1] > 0.0f) {
    float factor = metal::precise::exp(below);
    sum.x = fma(factor, stats[at + 1], sum.x);
    sum.y = fma(factor, fma(below, stats[at + 1], stats[at + 2]), sum.y);
    sum.z = fma(metal::precise::exp(below * sharp), stats[at + 3], sum.z);
  }
}
const float norm = peak + metal::precise::log(sum.x);

// The K largest of the chunks' K largest.
float held[EACH];
uint keys[EACH];
int ids[EACH];
FULLY
for (int i = 0; i < EACH; i++) {
  int at = i * 256 + int(tid);
  bool there = at < chunks * K;
  held[i] = there ? values[row * chunks * K + at] : -INFINITY;
  ids[i] = there ? value_ids[row * chunks * K + at] : -1;
  keys[i] = ordered<BITS>(held[i]);
}
const uint want = uint(min(K, vocab));
uint mask = largest<EACH, BITS>(keys, ids, want, vocab, counts, sg, lane);
uint to = place(popcount(mask), counts, sg, lane);
FULLY
for (int i = 0; i < EACH; i++) {
  if (((mask >> uint(i)) & 1u) == 1u) {
    kept[to] = held[i];
    kept_ids[to] = ids[i];
    to++;
  }
}
if (tid >= want && tid < uint(K)) {
  kept[tid] = -INFINITY;
  kept_ids[tid] = INT_MAX;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (tid < uint(K)) {
  float value = kept[tid];
  int id = kept_ids[tid];
  int rank = 0;
  for (int i = 0; i < K; i++) {
    bool before = kept[i] > value || (kept[i] == value && (kept_ids[i] < id || (kept_ids[i] == id && i < int(tid))));
    rank += int(before);
  }
  sorted[rank] = value;
  sorted_ids[rank] = id == INT_MAX ? -1 : id;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (tid < uint(K)) {
  top_ids[row * K + int(tid)] = sorted_ids[tid];
  top_logprobs[row * K + int(tid)] = sorted[tid] - norm;
}
if (tid == 0u) {
  lse[row] = norm;
  entropy[row] = sum.x > 0.0f ? metal::precise::log(sum.x) - sum.y / sum.x : 0.0f;
}
#if DRAW
if (sg == 0u) {
  const int top_k = int(recipe[row * params[2] + 1]);
  const float top_p = recipe[row * params[2] + 2];
  const float min_p = recipe[row * params[2] + 3];
  const int place_0 = int(lane);
  float2 p = float2(
      metal::precise::exp((sorted[lane] - peak) * sharp), metal::precise::exp((sorted[lane + 32u] - peak) * sharp));
  int left = int(want);
  bool open = vocab > K;  // there are more than the K that may be drawn
  const bool lost = top_k > K && top_k < vocab && top_p < 1.0f;  // top-p of a sum that the K do not hold
  if (top_k > 0 && top_k <= K) {
    left = min(left, top_k);
    open = false;
  }
  p = float2(place_0 < left ? p.x : 0.0f, place_0 + 32 < left ? p.y : 0.0f);
  float2 below = cumulative(p);
  const float total = open ? sum.z : simd_shuffle(below.y, ushort(31));
  if (top_p < 1.0f) {
    float bar = top_p * total;
    open = open && simd_shuffle(below.y, ushort(31)) < bar;
    bool first = place_0 == 0;
    left = min(left, length(first || below.x - p.x < bar, below.y - p.y < bar, place_0));
  }
  if (min_p > 0.0f) {
    float bar = min_p * simd_broadcast_first(p.x);
    int enough = length(p.x >= bar, p.y >= bar, place_0);
    open = open && enough >= left;
    left = min(left, enough);
  }
  open = open || lost;
  left = min(left, length(p.x > 0.0f, p.y > 0.0f, place_0));  // never what is impossible, however close to 1 `uniform` is
  p = float2(place_0 < left ? p.x : 0.0f, place_0 + 32 < left ? p.y : 0.0f);
  below = cumulative(p);
  const float all = simd_shuffle(below.y, ushort(31));
  const float bar = uniform[row] * all;
  const int chosen = min(length(below.x <= bar, below.y <= bar, place_0), left - 1);
  if (lane == 0u) {
    drawn[row * 3] = open ? -1 : sorted_ids[chosen];
    drawn[row * 3 + 1] = left;
    drawn[row * 3 + 2] = int(open);
    logprobs[row * 2] = open ? -INFINITY : sorted[chosen] - norm;
    logprobs[row * 2 + 1] = open ? -INFINITY : (sorted[chosen] - peak) * sharp - metal::precise::log(all);
  }
}
#endif
