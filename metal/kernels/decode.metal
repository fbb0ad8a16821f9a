// Decode attention: one split of the stored keys for up to ROWS query rows that share a key/value head.
//
// LPK lanes read one key together, so that 32 / LPK keys are in flight in a simdgroup and a score costs log2(LPK) shuffles
// for all of them. Each such slot keeps its own running maximum and sum; they are merged once, after the last key.
// Scores are scaled after the maximum is taken off, so that large ones lose nothing. Writes for each row and split: the
// unnormalised output, the largest score and the sum of weights.
#include "rows.h"

// Sums N values over the slots of a simdgroup. Every step halves what a lane holds while that comes out even, so that the
// lanes end with different values: `first` is the index of the lane's first one, `kept` how many it has.
template <int N, int STEP, int LPK>
struct Scatter {
  static inline void sum(thread float* o, uint lane, thread int& first) {
    if (N % 2 == 0) {
      bool high = (lane & uint(STEP)) != 0;
      FULLY
      for (int i = 0; i < N / 2; i++) {
        float send = high ? o[i] : o[i + N / 2];
        float keep = high ? o[i + N / 2] : o[i];
        o[i] = keep + simd_shuffle_xor(send, ushort(STEP));
      }
      first += high ? N / 2 : 0;
    } else {
      FULLY
      for (int i = 0; i < N; i++) {
        o[i] += simd_shuffle_xor(o[i], ushort(STEP));
      }
    }
    Scatter<(N % 2 == 0 ? N / 2 : N), (STEP > LPK ? STEP / 2 : 0), LPK>::sum(o, lane, first);
  }
  static constant constexpr int kept = Scatter<(N % 2 == 0 ? N / 2 : N), (STEP > LPK ? STEP / 2 : 0), LPK>::kept;
  // Lanes with one of these bits hold copies.
  static constant constexpr uint copies =
      (N % 2 == 0 ? 0u : uint(STEP)) | Scatter<(N % 2 == 0 ? N / 2 : N), (STEP > LPK ? STEP / 2 : 0), LPK>::copies;
};
template <int N, int LPK>
struct Scatter<N, 0, LPK> {
  static inline void sum(thread float*, uint, thread int&) {}
  static constant constexpr int kept = N;
  static constant constexpr uint copies = 0u;
};

// a + b, and what that rounds off added to `rest`.
inline float add(float a, float b, thread float& rest) {
  float sum = a + b;
  float part = sum - a;
  rest += (a - (sum - part)) + (b - part);
  return sum;
}

// sum + q k over N values; with WIDE, what that rounds off is added to `rest`. Else four sums side by side, joined as a
// tree: one long sum would round more than stock's, which spreads a row over 32 lanes.
template <int N, bool WIDE>
inline float dot(threadgroup const float* q, thread const float* k, float sum, thread float& rest) {
  if (WIDE) {
    FULLY
    for (int i = 0; i < N; i++) {
      float product = q[i] * k[i];
      rest += fma(q[i], k[i], -product);
      sum = add(sum, product, rest);
    }
    return sum;
  }
  float4 four = float4(q[0], q[1], q[2], q[3]) * float4(k[0], k[1], k[2], k[3]);
  FULLY
  for (int i = 4; i < N; i += 4) {
    four = fma(float4(q[i], q[i + 1], q[i + 2], q[i + 3]), float4(k[i], k[i + 1], k[i + 2], k[i + 3]), four);
  }
  return sum + ((four.x + four.y) + (four.z + four.w));
}

// Keeps (value, index) in a list sorted from the largest value; equal values keep the smaller index first.
template <int N>
inline void insert(thread float* values, thread int* indices, float value, int index) {
  FULLY
  for (int i = 0; i < N; i++) {
    bool before = value > values[i] || (value == values[i] && uint(index) < uint(indices[i]));
    float v = values[i];
    int at = indices[i];
    values[i] = before ? value : v;
    indices[i] = before ? index : at;
    value = before ? v : value;
    index = before ? at : index;
  }
}

// The larger of the lane's pair and its partner's.
inline void best(thread float& value, thread int& index, ushort step) {
  float v = simd_shuffle_xor(value, step);
  int at = simd_shuffle_xor(index, step);
  bool other = v > value || (v == value && uint(at) < uint(index));
  value = other ? v : value;
  index = other ? at : index;
}
//: body
constexpr int SLOTS = 32 / LPK;
constexpr int OWN = D / LPK;
constexpr int CHUNKS = OWN / VEC;
constexpr bool WIDE = sizeof(T) == 4;  // float32 queries: scores carry what their sums round off

threadgroup float shared_q[ROWS * D];
threadgroup float sums[NSG * ROWS * D];
threadgroup float peaks[NSG * ROWS];
threadgroup float totals[NSG * ROWS];
#if STATS
threadgroup float means[NSG * ROWS];
#endif
#if TOP
threadgroup float top_values[NSG * ROWS * TOP];
threadgroup int top_indices[NSG * ROWS * TOP];
#endif

const uint tid = thread_index_in_threadgroup;
const uint lane = thread_index_in_simdgroup;
const int sg = int(simdgroup_index_in_threadgroup);
const int split = int(threadgroup_position_in_grid.z);
const int group = params[GROUP];
const int queries = params[QUERIES];
const int heads = params[HEADS];
const int rows = group * queries;
const int blocks = (rows + ROWS - 1) / ROWS;
const int head = int(threadgroup_position_in_grid.y) / blocks % heads;
const int b = int(threadgroup_position_in_grid.y) / blocks / heads;
const int block_row = int(threadgroup_position_in_grid.y) % blocks * ROWS;

const int count = lengths[b * params[LENGTHS_STEP]];
const int first = ends[b * params[ENDS_STEP]] - queries;
const int offset = offsets[b * params[OFFSETS_STEP]];
const size_t stored = (size_t(b / params[SHARED]) * size_t(heads) + size_t(head)) * size_t(params[CAPACITY]);

const float unit = as_type<float>(params[BASE]);

// Query rows to threadgroup memory.
for (int i = int(tid); i < ROWS * D; i += NSG * 32) {
  int m = block_row + i / D;
  float x = 0.0f;
  if (m < rows) {
    int row = (b * heads * group + head * group + m % group) * queries + m / group;
    x = float(q[size_t(row) * D + size_t(i % D)]);
  }
  shared_q[i] = x;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

// What each row sees, in stored rows (in positions for a ring), and the range that the block has to read.
int low[ROWS], high[ROWS];
int from = FAR, to = -1;
FULLY
for (int r = 0; r < ROWS; r++) {
  int m = min(block_row + r, rows - 1);
  int p = first + m / group;
  low[r] = lower(p, params[WINDOW]);
  high[r] = upper(p, params[CAUSAL], params[WINDOW], params[PREFIX], params[BLOCK], params[START]);
#if !RING
  low[r] = max(low[r] - offset, 0);
  high[r] = min(high[r] - offset, count - 1);
#endif
  from = min(from, low[r]);
  to = max(to, high[r]);
}
#if RING
const int kept = params[KEEP];
const int skip = 0;
const int gap = 0;
const int reach = count;
#else
const int kept = clamp(params[KEEP] - offset, 0, count);  // these stay visible before every window
const int skip = min(kept, from);                         // read first, ahead of the window
const int gap = from - skip;
const int reach = max(to - from + 1, 0) + skip;
#endif
const int step = NSG * SLOTS;
const int each = ((reach + params[SPLITS] - 1) / params[SPLITS] + step - 1) / step * step;
const int begin = split * each;
const int stop = min(reach, begin + each);

#if SCORES
// Rows that no split visits are unseen.
for (int i = split * NSG * 32 + int(tid); i < params[CAPACITY]; i += params[SPLITS] * NSG * 32) {
  if (i >= skip && (i < skip + gap || i >= reach + gap)) {
    FULLY
    for (int r = 0; r < ROWS; r++) {
      int m = block_row + r;
      if (m < rows) {
        int row = (b * heads * group + head * group + m % group) * queries + m / group;
        scores[size_t(row) * size_t(params[CAPACITY]) + size_t(i)] = -INFINITY;
      }
    }
  }
}
#endif

float peak[ROWS], total[ROWS], o[ROWS][OWN];
#if STATS
float mean[ROWS];
#endif
FULLY
for (int r = 0; r < ROWS; r++) {
  peak[r] = LEAST;
  total[r] = 0.0f;
#if STATS
  mean[r] = 0.0f;
#endif
  FULLY
  for (int i = 0; i < OWN; i++) {
    o[r][i] = 0.0f;
  }
}
const int part = int(lane) % LPK;
const int slot = int(lane) / LPK;
#if TOP
float list_values[TOP];
int list_indices[TOP];
FULLY
for (int i = 0; i < TOP; i++) {
  list_values[i] = -INFINITY;
  list_indices[i] = -1;
}
#endif

for (int base = begin + sg * SLOTS * UNROLL; base < stop; base += step * UNROLL) {
  int key[UNROLL];
  bool live[UNROLL];
  float s[UNROLL][ROWS], rest[UNROLL][ROWS];
  FULLY
  for (int u = 0; u < UNROLL; u++) {
    int i = base + u * SLOTS + slot;
    live[u] = i < stop;
    key[u] = i < skip ? i : i + gap;
    FULLY
    for (int r = 0; r < ROWS; r++) {
      s[u][r] = 0.0f;
      rest[u][r] = 0.0f;
    }
  }
  FULLY
  for (int c = 0; c < CHUNKS; c++) {
    int at = (c * LPK + part) * VEC;
    float k[UNROLL][VEC];
    FULLY
    for (int u = 0; u < UNROLL; u++) {
      if (live[u]) {
#if K_BITS == 16
        read_plain<E, VEC>(keys + (stored + size_t(key[u])) * D + size_t(at), k[u]);
#else
        size_t at_row = stored + size_t(key[u]);
        read_codes<S, K_BITS, K_GROUP, VEC>(
            key_codes + at_row * (D * K_BITS / 32), key_scales + at_row * (D / K_GROUP),
            key_biases + at_row * (D / K_GROUP), at, k[u]);
#endif
      } else {
        FULLY
        for (int v = 0; v < VEC; v++) {
          k[u][v] = 0.0f;
        }
      }
    }
    FULLY
    for (int r = 0; r < ROWS; r++) {
      FULLY
      for (int u = 0; u < UNROLL; u++) {
        s[u][r] = dot<VEC, WIDE>(shared_q + r * D + at, k[u], s[u][r], rest[u][r]);
      }
    }
  }
  FULLY
  for (int u = 0; u < UNROLL; u++) {
    int at = key[u];
#if RING
    at = live[u] ? positions[b * params[CAPACITY] + key[u]] : 0;
    live[u] = live[u] && at >= 0;
#endif
    FULLY
    for (int r = 0; r < ROWS; r++) {
      float x = s[u][r];
      for (int lanes = 1; lanes < LPK; lanes *= 2) {
        float other = simd_shuffle_xor(x, ushort(lanes));
        if (WIDE) {
          rest[u][r] += simd_shuffle_xor(rest[u][r], ushort(lanes));
          x = add(x, other, rest[u][r]);
        } else {
          x += other;
        }
      }
#if SOFTCAP
      x = as_type<float>(params[CAP]) * metal::precise::tanh((x + rest[u][r]) * as_type<float>(params[SCALE]));
      rest[u][r] = 0.0f;
#endif
      bool seen = live[u] && at <= high[r] && (at >= low[r] || at < kept);
      s[u][r] = seen ? x : -INFINITY;
#if SCORES
      int m = block_row + r;
      if (live[u] && m < rows && part == r % LPK) {
        int row = (b * heads * group + head * group + m % group) * queries + m / group;
        scores[size_t(row) * size_t(params[CAPACITY]) + size_t(key[u])] = s[u][r] * (unit * LN2);
      }
#endif
    }
#if TOP
    if (part < ROWS) {
      float mine = s[u][0];
      FULLY
      for (int r = 1; r < ROWS; r++) {
        mine = part == r ? s[u][r] : mine;
      }
      if (mine > list_values[TOP - 1]) {
#if RING
        insert<TOP>(list_values, list_indices, mine, at);
#else
        insert<TOP>(list_values, list_indices, mine, at + offset);
#endif
      }
    }
#endif
  }
  FULLY
  for (int r = 0; r < ROWS; r++) {
    float higher = peak[r];
    FULLY
    for (int u = 0; u < UNROLL; u++) {
      higher = max(higher, s[u][r]);
    }
    float shift = (peak[r] - higher) * unit;
    float factor = metal::fast::exp2(shift);
#if STATS
    mean[r] = factor * fma(total[r], shift, mean[r]);
#endif
    total[r] *= factor;
    FULLY
    for (int u = 0; u < UNROLL; u++) {
      float below = ((s[u][r] - higher) + rest[u][r]) * unit;
      s[u][r] = metal::fast::exp2(below);
      total[r] += s[u][r];
#if STATS
      mean[r] += s[u][r] > 0.0f ? s[u][r] * below : 0.0f;
#endif
    }
    peak[r] = higher;
    FULLY
    for (int i = 0; i < OWN; i++) {
      o[r][i] *= factor;
    }
  }
  FULLY
  for (int c = 0; c < CHUNKS; c++) {
    int at = (c * LPK + part) * VEC;
    FULLY
    for (int u = 0; u < UNROLL; u++) {
      if (live[u]) {
        float v[VEC];
#if V_BITS == 16
        read_plain<E, VEC>(values + (stored + size_t(key[u])) * D + size_t(at), v);
#else
        size_t at_row = stored + size_t(key[u]);
        read_codes<S, V_BITS, V_GROUP, VEC>(
            value_codes + at_row * (D * V_BITS / 32), value_scales + at_row * (D / V_GROUP),
            value_biases + at_row * (D / V_GROUP), at, v);
#endif
        FULLY
        for (int r = 0; r < ROWS; r++) {
          FULLY
          for (int i = 0; i < VEC; i++) {
            o[r][c * VEC + i] = fma(s[u][r], v[i], o[r][c * VEC + i]);
          }
        }
      }
    }
  }
}

// The slots of a simdgroup become one state.
typedef Scatter<OWN, 16, LPK> Slots;
FULLY
for (int r = 0; r < ROWS; r++) {
  float higher = peak[r];
  for (int lanes = LPK; lanes < 32; lanes *= 2) {
    higher = max(higher, simd_shuffle_xor(higher, ushort(lanes)));
  }
  float shift = (peak[r] - higher) * unit;
  float factor = metal::fast::exp2(shift);
  float sum = total[r] * factor;
#if STATS
  float mean_sum = factor * fma(total[r], shift, mean[r]);
#endif
  for (int lanes = LPK; lanes < 32; lanes *= 2) {
    sum += simd_shuffle_xor(sum, ushort(lanes));
#if STATS
    mean_sum += simd_shuffle_xor(mean_sum, ushort(lanes));
#endif
  }
  FULLY
  for (int i = 0; i < OWN; i++) {
    o[r][i] *= factor;
  }
  int start = 0;
  Slots::sum(o[r], lane, start);
  if ((lane & Slots::copies) == 0u) {
    FULLY
    for (int i = 0; i < Slots::kept; i++) {
      int own = start + i;
      sums[(sg * ROWS + r) * D + (own / VEC * LPK + part) * VEC + own % VEC] = o[r][i];
    }
  }
  if (lane == 0u) {
    peaks[sg * ROWS + r] = higher;
    totals[sg * ROWS + r] = sum;
#if STATS
    means[sg * ROWS + r] = mean_sum;
#endif
  }
}
#if TOP
for (int k = 0; k < TOP; k++) {
  float value = list_values[0];
  int index = list_indices[0];
  for (int lanes = LPK; lanes < 32; lanes *= 2) {
    best(value, index, ushort(lanes));
  }
  if (index >= 0 && list_indices[0] == index) {
    FULLY
    for (int i = 1; i < TOP; i++) {
      list_values[i - 1] = list_values[i];
      list_indices[i - 1] = list_indices[i];
    }
    list_values[TOP - 1] = -INFINITY;
    list_indices[TOP - 1] = -1;
  }
  if (slot == 0 && part < ROWS) {
    top_values[(sg * ROWS + part) * TOP + k] = value;
    top_indices[(sg * ROWS + part) * TOP + k] = index;
  }
}
#endif
threadgroup_barrier(mem_flags::mem_threadgroup);

// The simdgroups become one state.
for (int i = int(tid); i < ROWS * D; i += NSG * 32) {
  int r = i / D, m = block_row + r;
  if (m < rows) {
    float higher = LEAST, sum = 0.0f, x = 0.0f;
    for (int g = 0; g < NSG; g++) {
      higher = max(higher, peaks[g * ROWS + r]);
    }
#if STATS
    float mean_sum = 0.0f;
#endif
    for (int g = 0; g < NSG; g++) {
      float below = (peaks[g * ROWS + r] - higher) * unit;
      float factor = metal::fast::exp2(below);
      x = fma(factor, sums[(g * ROWS + r) * D + i % D], x);
      sum = fma(factor, totals[g * ROWS + r], sum);
#if STATS
      mean_sum = fma(factor, fma(totals[g * ROWS + r], below, means[g * ROWS + r]), mean_sum);
#endif
    }
    int row = (b * heads * group + head * group + m % group) * queries + m / group;
    size_t at = size_t(row) * size_t(params[SPLITS]) + size_t(split);
    partial[at * D + size_t(i % D)] = x;
    if (i % D == 0) {
      stats[at * 3] = higher;
      stats[at * 3 + 1] = sum;
#if STATS
      stats[at * 3 + 2] = mean_sum;
#else
      stats[at * 3 + 2] = 0.0f;
#endif
    }
  }
}
#if TOP
FULLY
for (int r = sg; r < ROWS; r += NSG) {
  int m = block_row + r;
  constexpr int MINE = NSG * TOP / 32;
  float mine_values[MINE];
  int mine_indices[MINE];
  FULLY
  for (int i = 0; i < MINE; i++) {
    int e = i * 32 + int(lane);
    mine_values[i] = top_values[(e / TOP * ROWS + r) * TOP + e % TOP];
    mine_indices[i] = top_indices[(e / TOP * ROWS + r) * TOP + e % TOP];
  }
  for (int k = 0; k < TOP; k++) {
    float value = mine_values[0];
    int index = mine_indices[0];
    FULLY
    for (int i = 1; i < MINE; i++) {
      bool other = mine_values[i] > value || (mine_values[i] == value && uint(mine_indices[i]) < uint(index));
      value = other ? mine_values[i] : value;
      index = other ? mine_indices[i] : index;
    }
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      best(value, index, ushort(lanes));
    }
    FULLY
    for (int i = 0; i < MINE; i++) {
      bool taken = index >= 0 && mine_indices[i] == index;
      mine_values[i] = taken ? -INFINITY : mine_values[i];
      mine_indices[i] = taken ? -1 : mine_indices[i];
    }
    if (lane == 0u && m < rows) {
      int row = (b * heads * group + head * group + m % group) * queries + m / group;
      size_t at = (size_t(row) * size_t(params[SPLITS]) + size_t(split)) * TOP + size_t(k);
      tops[at] = value;
      top_at[at] = index;
    }
  }
}
#endif
