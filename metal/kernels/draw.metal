// Joins a row's chunks: log-sum-exp, entropy, the KEPT most likely tokens in order, and a draw from the first K of
// them. If OBSERVED also the edges of the histogram of those that are not kept.
//
// The draw: temperature, then top-k, then top-p of what that left, then min-p, or the temperature, top-k or both after
// the others; then the inverse of the distribution function at two uniform numbers, in the order of ids: a row of ROW
// of them by its mass, then one of the row. `spilled` says that what may be drawn does not end within the K, or that
// the logits are no numbers or none is possible; then there is no token.
#include "vocab.h"

constant constexpr int ROW = 256;
constant constexpr int NOBODY = numeric_limits<int>::max();  // behind every id

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
threadgroup float kept[KEPT];
threadgroup int kept_ids[KEPT];
threadgroup float sorted[KEPT];
threadgroup int sorted_ids[KEPT];
threadgroup float chances[K];
#if OBSERVED
threadgroup float parts[SIMDGROUPS];
#endif

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
  if (stats[at + 1] != 0.0f) {  // also where it is no number
    float factor = metal::precise::exp(below);
    sum.x = fma(factor, stats[at + 1], sum.x);
    sum.y = fma(factor, fma(below, stats[at + 1], stats[at + 2]), sum.y);
    sum.z = fma(metal::precise::exp(below * sharp), stats[at + 3], sum.z);
  }
}
const float norm = peak + metal::precise::log(sum.x);

// The KEPT largest of the chunks' KEPT largest: EACH - 1 values a thread at a time, beside what is kept of those
// before.
const bool keeps = tid < uint(KEPT);
if (keeps) {
  kept[tid] = -INFINITY;
  kept_ids[tid] = -1;
}
float most = -INFINITY;  // of those that are not kept
for (int first = 0; first < chunks * KEPT; first += (EACH - 1) * 256) {
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float held[EACH];
  uint keys[EACH];
  int ids[EACH];
  uint mine = 0u;
  FULLY
  for (int i = 0; i < EACH; i++) {
    int at = first + (i - 1) * 256 + int(tid);
    bool there = i > 0 && at < chunks * KEPT;
    size_t from = size_t(row) * size_t(chunks * KEPT) + size_t(there ? at : 0);
    held[i] = i == 0 && keeps ? kept[tid] : there ? values[from] : -INFINITY;
    ids[i] = i == 0 && keeps ? kept_ids[tid] : there ? value_ids[from] : -1;
    keys[i] = ordered<BITS>(held[i]);
    mine += uint(ids[i] >= 0);
  }
  uint want = min(sum_all(mine, counts, sg, lane), uint(KEPT));
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
  if (tid >= want && keeps) {
    kept[tid] = -INFINITY;
    kept_ids[tid] = -1;
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (keeps) {
  float value = kept[tid];
  int id = kept_ids[tid] < 0 ? NOBODY : kept_ids[tid];
  int rank = 0;
  for (int i = 0; i < KEPT; i++) {
    int other = kept_ids[i] < 0 ? NOBODY : kept_ids[i];
    bool before = kept[i] > value || (kept[i] == value && (other < id || (other == id && i < int(tid))));
    rank += int(before);
  }
  sorted[rank] = value;
  sorted_ids[rank] = kept_ids[tid];
  best[row * KEPT + rank] = value;
  best_ids[row * KEPT + rank] = kept_ids[tid];
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (tid == 0u) {
  lse[row] = norm;
  entropy[row] = sum.x != 0.0f ? metal::precise::log(sum.x) - sum.y / sum.x : 0.0f;
}
#if OBSERVED
float least = INFINITY;
int possible = 0;
for (int c = 0; c < chunks; c++) {
  int at = row * chunks + c;
  least = min(least, moments[at * 5 + 1]);
  most = max(most, moments[at * 5 + 2]);
  possible += counted[at];
}
most = max_all(most, parts, sg, lane);
if (tid <= uint(BINS)) {
  float start = max(least, most - SPAN);
  float step = (most - start) / float(BINS);
  float rise = float(tid) * step;
  float edge = tid == 0u ? least : tid == uint(BINS) ? most : rise + start;
  edges[row * (BINS + 1) + int(tid)] = possible > KEPT ? edge : 0.0f;
}
#endif
#if DRAW
if (sg == 0u) {
  const int how = row * params[2];
  const int top_k = int(recipe[how + 1]);
  const float top_p = recipe[how + 2];
  const float min_p = recipe[how + 3];
  const bool temper_last = recipe[how + 4] != 0.0f;
  const bool top_k_last = recipe[how + 5] != 0.0f;
  const int place_0 = int(lane);
  const float2 x = float2(sorted[lane], sorted[lane + 32u]);
  const float2 sharpened = float2(metal::precise::exp((x.x - peak) * sharp), metal::precise::exp((x.y - peak) * sharp));
  float2 p = temper_last ? float2(metal::precise::exp(x.x - peak), metal::precise::exp(x.y - peak)) : sharpened;
  int left = min(K, vocab);
  bool open = vocab > K;  // there are more than the K that may be drawn
  const bool lost = !top_k_last && top_k > K && top_k < vocab && top_p < 1.0f;  // top-p of a sum that the K do not hold
  if (!top_k_last && top_k > 0 && top_k <= K) {
    left = min(left, top_k);
    open = false;
  }
  p = float2(place_0 < left ? p.x : 0.0f, place_0 + 32 < left ? p.y : 0.0f);
  const float2 below = cumulative(p);
  const float held_mass = simd_shuffle(below.y, ushort(31));
  if (top_p < 1.0f) {
    float bar = top_p * (open ? (temper_last ? sum.x : sum.z) : held_mass);
    bool first = place_0 == 0;
    int inside = length(first || below.x - p.x < bar, below.y - p.y < bar, place_0);
    // those that equal the last one stay with it
    float edge = sorted[min(inside, left) - 1];
    inside = length(x.x >= edge, x.y >= edge, place_0);
    open = open && (held_mass < bar || inside == K);
    left = min(left, inside);
  }
  if (min_p > 0.0f) {
    float bar = min_p * simd_broadcast_first(p.x);
    int enough = length(p.x >= bar, p.y >= bar, place_0);
    open = open && enough >= left;
    left = min(left, enough);
  }
  if (top_k_last && top_k > 0 && top_k <= K) {
    left = min(left, top_k);
    open = false;
  }
  left = min(left, length(p.x > 0.0f, p.y > 0.0f, place_0));  // never what is impossible
  open = open || lost || left == 0;
  const float2 chance = float2(place_0 < left ? sharpened.x : 0.0f, place_0 + 32 < left ? sharpened.y : 0.0f);
  const float all = simd_sum(chance.x + chance.y);
  chances[lane] = chance.x;
  chances[lane + 32u] = chance.y;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  // Of the two inversions, one over rows of the vocabulary and one within a row: what stands before each place.
  float2 before = float2(0.0f), ahead = float2(0.0f), mass = float2(0.0f);
  const int2 id = int2(sorted_ids[lane], sorted_ids[lane + 32u]);
  const int2 line = int2(id.x / ROW, id.y / ROW);
  for (int i = 0; i < left; i++) {
    int other = sorted_ids[i];
    float c = chances[i];
    before += float2(other / ROW < line.x ? c : 0.0f, other / ROW < line.y ? c : 0.0f);
    mass += float2(other / ROW == line.x ? c : 0.0f, other / ROW == line.y ? c : 0.0f);
    ahead += float2(
        other / ROW == line.x && other < id.x ? c : 0.0f, other / ROW == line.y && other < id.y ? c : 0.0f);
  }
  const float bar = uniform[row * 2] * all;
  bool2 in = bool2(chance.x > 0.0f && before.x <= bar, chance.y > 0.0f && before.y <= bar);
  const int drawn_line = simd_max(max(in.x ? line.x : -1, in.y ? line.y : -1));
  const float share = uniform[row * 2 + 1];
  in.x = chance.x > 0.0f && line.x == drawn_line && ahead.x <= share * mass.x;
  in.y = chance.y > 0.0f && line.y == drawn_line && ahead.y <= share * mass.y;
  const int token = simd_max(max(in.x ? id.x : -1, in.y ? id.y : -1));
  const int chosen = simd_max(max(id.x == token ? place_0 : -1, id.y == token ? place_0 + 32 : -1));
  if (lane == 0u) {
    drawn[row * 3] = open ? -1 : token;
    drawn[row * 3 + 1] = left;
    drawn[row * 3 + 2] = int(open);
    logprobs[row * 3] = open ? -INFINITY : sorted[chosen] - norm;
    logprobs[row * 3 + 1] = open ? -INFINITY : (sorted[chosen] - peak) * sharp - metal::precise::log(all);
    logprobs[row * 3 + 2] = peak * sharp + metal::precise::log(sum.z);
  }
}
#endif
