// Merges the splits of a row into its output: out = sum w_s o_s / sum w_s total_s with w_s = 2^(unit (peak_s - peak)).
//
// One threadgroup a row, a thread a column. Sinks join the sum here, once a row.
#include "rows.h"
//: body
const int lane = int(thread_index_in_simdgroup);
const int column = int(thread_position_in_threadgroup.x);
const int row = int(threadgroup_position_in_grid.y);
const int splits = params[0];
const float unit = as_type<float>(params[3]);

float peak = LEAST;
for (int s = lane; s < splits; s += 32) {
  peak = max(peak, stats[(row * splits + s) * 3]);
}
peak = simd_max(peak);
#if SINKS
const float sink = float(sinks[row / params[1] % params[2]]) * (LOG2E / unit);
peak = max(peak, sink);
#endif
float total = 0.0f, mean = 0.0f, x = 0.0f;
for (int base = 0; base < splits; base += 32) {
  float factor = 0.0f;
  int s = base + lane;
  if (s < splits) {
    float below = (stats[(row * splits + s) * 3] - peak) * unit;
    float sum = stats[(row * splits + s) * 3 + 1];
    factor = metal::fast::exp2(below);
    total = fma(factor, sum, total);
#if STATS
    mean = fma(factor, fma(sum, below, stats[(row * splits + s) * 3 + 2]), mean);
#endif
  }
  for (int i = 0; i < min(32, splits - base); i++) {
    float weight = simd_shuffle(factor, ushort(i));
    if (column < D) {
      x = fma(weight, partial[(size_t(row) * size_t(splits) + size_t(base + i)) * D + size_t(column)], x);
    }
  }
}
total = simd_sum(total);
#if STATS
mean = simd_sum(mean);
#endif
#if SINKS
const float sunk = (sink - peak) * unit;
total += metal::fast::exp2(sunk);
#if STATS
mean += metal::fast::exp2(sunk) * sunk;
#endif
#endif
if (column < D) {
  out[size_t(row) * D + size_t(column)] = T(total > 0.0f ? x / total : 0.0f);
}
#if STATS
if (column == 0) {
  lse[row] = total > 0.0f ? fma(peak, unit, metal::precise::log2(total)) * LN2 : -INFINITY;
  entropy[row] = total > 0.0f ? (metal::precise::log2(total) - mean / total) * LN2 : 0.0f;
}
#endif
#if TOP
if (column < 32) {
  int taken = -1;
  float taken_value = INFINITY;
  for (int k = 0; k < TOP; k++) {
    // The best that comes after what was taken: smaller, or equal with a larger position.
    float value = -INFINITY;
    int index = -1;
    for (int i = lane; i < splits * TOP; i += 32) {
      float v = tops[row * splits * TOP + i];
      int at = top_at[row * splits * TOP + i];
      bool left = v < taken_value || (v == taken_value && at > taken);
      bool better = v > value || (v == value && uint(at) < uint(index));
      bool take = left && better && at >= 0;
      value = take ? v : value;
      index = take ? at : index;
    }
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      float v = simd_shuffle_xor(value, ushort(lanes));
      int at = simd_shuffle_xor(index, ushort(lanes));
      bool other = v > value || (v == value && uint(at) < uint(index));
      value = other ? v : value;
      index = other ? at : index;
    }
    taken_value = value;
    taken = index;
    if (lane == 0) {
      top_positions[row * TOP + k] = index;
      top_weights[row * TOP + k] = index >= 0 ? metal::fast::exp2((value - peak) * unit) / total : 0.0f;
    }
  }
}
#endif
