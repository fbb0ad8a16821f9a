// Merges the splits of a row into its output: out = sum w_s o_s / sum w_s total_s with w_s = 2^(unit (peak_s - peak)).
//
// One threadgroup a row, a thread a column. Sinks join the sum here, once a row.
#include "rows.h"
#include "scores.h"
#include "top.h"
//: body
const int lane = int(thread_index_in_simdgroup);
const int column = int(thread_position_in_threadgroup.x);
const int row = int(threadgroup_position_in_grid.y);
const int splits = params[0];
const float unit = as_type<float>(params[3]);

Peak peak = {LEAST, 0.0f};
for (int s = row * splits + lane; s < (row + 1) * splits; s += 32) {
  Peak other = {stats[s * 4], stats[s * 4 + 1]};
  peak = larger(peak, other);
}
peak = largest<1, 32, true>(peak);
#if SINKS
const Peak sink = {float(sinks[row / params[1] % params[2]]) * (LOG2E / unit), 0.0f};
peak = larger(peak, sink);
#endif
float total = 0.0f, mean = 0.0f, x = 0.0f, rest = 0.0f;
for (int base = 0; base < splits; base += 32) {
  float factor = 0.0f;
  if (base + lane < splits) {
    int s = row * splits + base + lane;
    float shift = depth(stats[s * 4], stats[s * 4 + 1], peak, unit);
    factor = metal::fast::exp2(shift);
    total = fma(factor, stats[s * 4 + 2], total);
    mean = fma(factor, fma(stats[s * 4 + 2], shift, stats[s * 4 + 3]), mean);
  }
  for (int i = 0; i < min(32, splits - base); i++) {
    float weight = simd_shuffle(factor, ushort(i));
    if (column < D) {
      x = add_product(x, weight, partial[(size_t(row) * size_t(splits) + size_t(base + i)) * D + size_t(column)], rest);
    }
  }
}
total = simd_sum(total);
#if STATS
mean = simd_sum(mean);
#endif
#if SINKS
const float below = depth(sink.s, 0.0f, peak, unit);
const float sunk = metal::fast::exp2(below);
total += sunk;
mean += sunk > 0.0f ? sunk * below : 0.0f;  // a sink may be -inf
#endif
if (column < D) {
  out[size_t(row) * D + size_t(column)] = T(total > 0.0f ? (x + rest) / total : 0.0f);
}
#if STATS
if (column == 0) {
  lse[row] = log_sum(peak, total, unit);
  entropy[row] = entropy_of(total, mean);
}
#endif
#if TOP
if (column < 32) {
  Found list[TOP];
  FULLY
  for (int i = 0; i < TOP; i++) {
    list[i] = nothing();
  }
  for (int i = row * splits * TOP + lane; i < (row + 1) * splits * TOP; i += 32) {
    Found found = {tops[i], top_at[i]};
    insert<TOP>(list, found);
  }
  for (int k = 0; k < TOP; k++) {
    Found best = take<TOP, 1>(list);
    if (lane == 0) {
      top_positions[row * TOP + k] = best.at;
      top_weights[row * TOP + k] = best.at >= 0 ? metal::fast::exp2((best.score - peak.s) * unit) / total : 0.0f;
    }
  }
}
#endif
