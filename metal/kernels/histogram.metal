// One chunk of a row of logits: how many of those that are neither among the most likely nor apart are in each of BINS
// bins, and their mass. A logit on an edge is in the bin above. Also the logits of those apart, and how many are larger
// than that of the first one, the token.
//
// Masses are whole numbers, so that they add up to the same in any order: exp(logit - the bin's upper edge) in units of
// 2^-18, of which a chunk has no more than 2^31. The first bin may reach far down: there it is the bin's largest logit.
#include "vocab.h"

constant constexpr float UNIT = 262144.0f;
//: body
threadgroup float borders[BINS + 1];
threadgroup atomic_uint bins[BINS];
threadgroup atomic_uint sums[BINS];
threadgroup atomic_uint marked[EACH * 8];  // a bit a logit: it stands apart
threadgroup float parts[SIMDGROUPS];
threadgroup uint counts[SIMDGROUPS];

const uint tid = thread_index_in_threadgroup;
const uint lane = thread_index_in_simdgroup;
const uint sg = simdgroup_index_in_threadgroup;
const int chunk = int(threadgroup_position_in_grid.x);
const int row = int(threadgroup_position_in_grid.y);
const int vocab = params[0];
const int chunks = params[1];
const int others = params[2];
const float last = best[row * C + C - 1];
const int last_id = best_ids[row * C + C - 1];  // -1: there are no others
const size_t from = size_t(row) * size_t(vocab);
const float chosen = float(logits[from + size_t(max(apart[row * others], 0))]);  // there is none where the draw spilled
if (tid <= uint(BINS)) {
  borders[tid] = edges[row * (BINS + 1) + int(tid)];
}
if (tid < uint(BINS)) {
  atomic_store_explicit(&bins[tid], 0u, memory_order_relaxed);
  atomic_store_explicit(&sums[tid], 0u, memory_order_relaxed);
}
if (tid < uint(EACH * 8)) {
  atomic_store_explicit(&marked[tid], 0u, memory_order_relaxed);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = int(tid); i < others; i += 256) {
  int id = apart[row * others + i];
  int within = id - chunk * EACH * 256;
  if (within >= 0 && within < EACH * 256) {
    atomic_fetch_or_explicit(&marked[within / 32], 1u << uint(within % 32), memory_order_relaxed);
  }
  if (chunk == max(id, 0) / (EACH * 256)) {
    apart_logits[row * others + i] = float(logits[from + size_t(max(id, 0))]);
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);

float held[EACH];
int bin[EACH];
float low = -INFINITY;
uint more = 0u;
FULLY
for (int i = 0; i < EACH; i++) {
  int id = (chunk * EACH + i) * 256 + int(tid);
  held[i] = id < vocab ? float(logits[from + size_t(id)]) : -INFINITY;
  more += uint(held[i] > chosen);
  uint bits = atomic_load_explicit(&marked[i * 8 + int(tid) / 32], memory_order_relaxed);
  bool in = held[i] > -INFINITY && last_id >= 0 && ((bits >> (tid % 32u)) & 1u) == 0u;
  in = in && (held[i] < last || (held[i] == last && id > last_id));
  int at = 0;
  for (int step = BINS / 2; step > 0; step /= 2) {
    at += held[i] >= borders[at + step] ? step : 0;
  }
  bin[i] = in ? at : -1;
  low = bin[i] == 0 ? max(low, held[i]) : low;
}
low = max_all(low, parts, sg, lane);
more = sum_all(more, counts, sg, lane);
FULLY
for (int i = 0; i < EACH; i++) {
  if (bin[i] >= 0) {
    float top = bin[i] == 0 ? low : borders[bin[i] + 1];
    float mass = metal::precise::exp(held[i] - top);
    atomic_fetch_add_explicit(&bins[bin[i]], 1u, memory_order_relaxed);
    atomic_fetch_add_explicit(&sums[bin[i]], uint(metal::precise::rint(mass * UNIT)), memory_order_relaxed);
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
const size_t base = size_t(row) * size_t(chunks) + size_t(chunk);
if (tid < uint(BINS)) {
  filled[base * BINS + tid] = atomic_load_explicit(&bins[tid], memory_order_relaxed);
  masses[base * BINS + tid] = atomic_load_explicit(&sums[tid], memory_order_relaxed);
}
if (tid == 0u) {
  lows[base] = low;
  larger[base] = int(more);
}
