// Tiled attention: 8 * NSG query rows that share a key/value head against the tiles of keys that one of them can see.
//
// The rows of a head are its query heads, its T positions and, where a prefix is shared, the N sequences that share it,
// so that N samples or a tree of drafts read the keys once. A tile that no row sees is never loaded; only tiles on an
// edge of a mask evaluate it. Scores are scaled after the maximum is taken off, so that large ones lose nothing.
// 8x8 products in float32; a lane holds two neighbours in a row of each 8x8 matrix.
#include "rows.h"
#include <metal_simdgroup_matrix>

typedef simdgroup_matrix<float, 8, 8> Matrix;

// c += a b for 8x8 matrices of which the lane holds two elements each.
inline void multiply_add(thread float2& c, float2 a, float2 b) {
  Matrix left, right, sum;
  reinterpret_cast<thread float2&>(left.thread_elements()) = a;
  reinterpret_cast<thread float2&>(right.thread_elements()) = b;
  reinterpret_cast<thread float2&>(sum.thread_elements()) = c;
  simdgroup_multiply_accumulate(sum, left, right, sum);
  c = reinterpret_cast<thread float2&>(sum.thread_elements());
}
//: body
constexpr int BQ = 8 * NSG;
constexpr int TD = D / 8;
constexpr int TK = BK / 8;
constexpr int LD = D + 16 / int(sizeof(C));  // padded, so that the lanes of a column hit different banks
constexpr bool IN_REGISTERS = D <= 128;

threadgroup C key_tile[BK * LD];
threadgroup C value_tile[BK * LD];
threadgroup int lows[BQ];
threadgroup int highs[BQ];
#if RING || DOCS
threadgroup int key_marks[BK];
#endif
#if DOCS
threadgroup int row_marks[BQ];
#endif

const int tid = int(thread_index_in_threadgroup);
const int lane = int(thread_index_in_simdgroup);
const int sg = int(simdgroup_index_in_threadgroup);
const int split = int(threadgroup_position_in_grid.z);
const int group = params[GROUP];
const int queries = params[QUERIES];
const int heads = params[HEADS];
const int shared = params[SHARED];
const int rows = shared * group * queries;
const int blocks = (rows + BQ - 1) / BQ;
const int head = int(threadgroup_position_in_grid.y) / blocks % heads;
const int batch = int(threadgroup_position_in_grid.y) / blocks / heads;  // of the keys
const int block_row = int(threadgroup_position_in_grid.y) % blocks * BQ;

const int count = lengths[batch * params[LENGTHS_STEP]];
const int offset = offsets[batch * params[OFFSETS_STEP]];
const size_t stored = (size_t(batch) * size_t(heads) + size_t(head)) * size_t(params[CAPACITY]);

// What each row sees, in stored rows (in positions for a ring).
for (int i = tid; i < BQ; i += NSG * 32) {
  int m = min(block_row + i, rows - 1);
  int b = batch * shared + m / (group * queries);
  int first = ends[b * params[ENDS_STEP]] - queries;
  int p = first + m % (group * queries) / group;
  int low = lower(p, params[WINDOW]);
#if TREE
  int high = first + queries - 1;
#else
  int high = upper(p, params[CAUSAL], params[WINDOW], params[PREFIX], params[BLOCK], params[START]);
#endif
#if RING
  lows[i] = low;
  highs[i] = high;
#else
  lows[i] = max(low - offset, 0);
  highs[i] = min(high - offset, count - 1);
#endif
#if DOCS
  row_marks[i] = documents[b * params[DOCUMENTS_STEP] + clamp(p, 0, params[DOCUMENTS] - 1)];
#endif
}
threadgroup_barrier(mem_flags::mem_threadgroup);
int low_min = FAR, low_max = -FAR, high_min = FAR, high_max = -FAR;
#if DOCS
int mark_min = INT_MAX, mark_max = INT_MIN;
#endif
for (int i = lane; i < BQ; i += 32) {
  low_min = min(low_min, lows[i]);
  low_max = max(low_max, lows[i]);
  high_min = min(high_min, highs[i]);
  high_max = max(high_max, highs[i]);
#if DOCS
  mark_min = min(mark_min, row_marks[i]);
  mark_max = max(mark_max, row_marks[i]);
#endif
}
low_min = simd_min(low_min);
low_max = simd_max(low_max);
high_min = simd_min(high_min);
high_max = simd_max(high_max);
#if DOCS
mark_min = simd_min(mark_min);
mark_max = simd_max(mark_max);
#endif

// The tiles to visit: those of `keep`, then those between the first and the last key that a row sees.
#if RING
const int kept = params[KEEP];
const int head_tiles = 0;
const int start_tile = 0;
const int visits = (count + BK - 1) / BK;
#else
const int kept = clamp(params[KEEP] - offset, 0, count);
const int head_tiles = (min(kept, low_min) + BK - 1) / BK;
const int start_tile = max(low_min / BK, head_tiles);
const int visits = head_tiles + max(high_max / BK - start_tile + 1, 0) * int(high_max >= 0);
#endif
const int each = (visits + params[SPLITS] - 1) / params[SPLITS];
const int begin = split * each;
const int stop = min(visits, begin + each);

// This lane's place in an 8x8 matrix: row y, columns x and x + 1.
const int quad = lane / 4;
const int y = (quad & 4) + lane / 2 % 4;
const int x = (quad & 2) * 2 + lane % 2 * 2;
const int mine = sg * 8 + y;
const int m = min(block_row + mine, rows - 1);
const int b = batch * shared + m / (group * queries);
const int t = m % (group * queries) / group;
const size_t row = (size_t(b) * size_t(heads * group) + size_t(head * group + m % group)) * size_t(queries) + size_t(t);
const int low = lows[mine];
const int high = highs[mine];
const float unit = as_type<float>(params[BASE]);
const device T* query = q + row * D;

float2 held[IN_REGISTERS ? TD : 1];
if (IN_REGISTERS) {
  FULLY
  for (int d = 0; d < TD; d++) {
    held[d] = float2(float(query[d * 8 + x]), float(query[d * 8 + x + 1]));
  }
}
float2 o[TD];
FULLY
for (int d = 0; d < TD; d++) {
  o[d] = float2(0.0f);
}
float peak = LEAST, total = 0.0f;
#if STATS
float mean = 0.0f;
#endif

for (int visit = begin; visit < stop; visit++) {
  const int base = (visit < head_tiles ? visit : visit - head_tiles + start_tile) * BK;
  bool whole = base >= low_max && base + BK - 1 <= high_min;
#if RING || DOCS
  // Does any row see any of these keys? Every simdgroup comes to the same answer.
  bool wanted = false;
  int mark = INT_MIN;
  if (lane < BK && base + lane < count) {
#if RING
    mark = positions[batch * params[CAPACITY] + base + lane];
    wanted = mark >= 0 && mark <= high_max && (mark >= low_min || mark < kept);
#else
    mark = documents[batch * params[DOCUMENTS_STEP] + clamp(base + lane + offset, 0, params[DOCUMENTS] - 1)];
    wanted = mark >= mark_min && mark <= mark_max;
#endif
  }
  whole = false;
  if (!simd_any(wanted)) {
    continue;
  }
#endif
#if TREE
  whole = whole && base + BK - 1 + offset < ends[b * params[ENDS_STEP]] - queries;
#endif
  threadgroup_barrier(mem_flags::mem_threadgroup);
#if RING || DOCS
  if (sg == 0 && lane < BK) {
    key_marks[lane] = mark;
  }
#endif
  for (int i = tid; i < BK * (D / 8); i += NSG * 32) {
    int r = i / (D / 8), at = i % (D / 8) * 8;
    float k[8], v[8];
    if (base + r < count) {
      size_t from = stored + size_t(base + r);
#if K_BITS == 16
      read_plain<E, 8>(keys + from * D + size_t(at), k);
#else
      read_codes<S, K_BITS, K_GROUP, 8>(
          key_codes + from * (D * K_BITS / 32), key_scales + from * (D / K_GROUP), key_biases + from * (D / K_GROUP),
          at, k);
#endif
#if V_BITS == 16
      read_plain<E, 8>(values + from * D + size_t(at), v);
#else
      read_codes<S, V_BITS, V_GROUP, 8>(
          value_codes + from * (D * V_BITS / 32), value_scales + from * (D / V_GROUP),
          value_biases + from * (D / V_GROUP), at, v);
#endif
    } else {
      for (int j = 0; j < 8; j++) {
        k[j] = 0.0f;
        v[j] = 0.0f;
      }
    }
    for (int j = 0; j < 8; j++) {
      key_tile[r * LD + at + j] = C(k[j]);
      value_tile[r * LD + at + j] = C(v[j]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  float2 s[TK];
  FULLY
  for (int j = 0; j < TK; j++) {
    s[j] = float2(0.0f);
  }
  FULLY
  for (int d = 0; d < TD; d++) {
    float2 a = held[IN_REGISTERS ? d : 0];
    if (!IN_REGISTERS) {
      a = float2(float(query[d * 8 + x]), float(query[d * 8 + x + 1]));
    }
    FULLY
    for (int j = 0; j < TK; j++) {
      int at = (j * 8 + x) * LD + d * 8 + y;  // transposed: a column of the matrix is a key
      multiply_add(s[j], a, float2(float(key_tile[at]), float(key_tile[at + LD])));
    }
  }
#if SOFTCAP
  FULLY
  for (int j = 0; j < TK; j++) {
    s[j] *= as_type<float>(params[SCALE]);
    s[j] = as_type<float>(params[CAP]) * float2(metal::precise::tanh(s[j].x), metal::precise::tanh(s[j].y));
  }
#endif
  if (!whole) {
    FULLY
    for (int j = 0; j < TK; j++) {
      FULLY
      for (int e = 0; e < 2; e++) {
        int key = base + j * 8 + x + e;
        int at = key;
        bool seen = key < count;
#if RING
        at = key_marks[j * 8 + x + e];
        seen = seen && at >= 0;
#endif
        seen = seen && at <= high && (at >= low || at < kept);
#if DOCS && !RING
        seen = seen && key_marks[j * 8 + x + e] == row_marks[mine];
#endif
#if TREE
        int node = key + offset - (ends[b * params[ENDS_STEP]] - queries);
        if (node >= 0 && node < queries) {
          uint word = tree[(b * queries + t) * params[WORDS] + node / 32];
          seen = seen && ((word >> uint(node % 32)) & 1u) == 1u;
        }
#endif
        s[j][e] = seen ? s[j][e] : -INFINITY;
      }
    }
  }

  float higher = peak;
  FULLY
  for (int j = 0; j < TK; j++) {
    higher = max(higher, max(s[j].x, s[j].y));
  }
  higher = max(higher, simd_shuffle_xor(higher, ushort(1)));
  higher = max(higher, simd_shuffle_xor(higher, ushort(8)));
  float shift = (peak - higher) * unit;
  float factor = metal::fast::exp2(shift);
#if STATS
  mean = factor * fma(total, shift, mean);
#endif
  total *= factor;
  FULLY
  for (int j = 0; j < TK; j++) {
    float2 below = (s[j] - higher) * unit;
    s[j] = float2(metal::fast::exp2(below.x), metal::fast::exp2(below.y));
    total += s[j].x + s[j].y;
#if STATS
    mean += (s[j].x > 0.0f ? s[j].x * below.x : 0.0f) + (s[j].y > 0.0f ? s[j].y * below.y : 0.0f);
#endif
  }
  peak = higher;
  FULLY
  for (int d = 0; d < TD; d++) {
    o[d] *= factor;
    FULLY
    for (int j = 0; j < TK; j++) {
      int at = (j * 8 + y) * LD + d * 8 + x;
      multiply_add(o[d], s[j], float2(float(value_tile[at]), float(value_tile[at + 1])));
    }
  }
}

total += simd_shuffle_xor(total, ushort(1));
total += simd_shuffle_xor(total, ushort(8));
#if STATS
mean += simd_shuffle_xor(mean, ushort(1));
mean += simd_shuffle_xor(mean, ushort(8));
#endif
if (block_row + mine < rows) {
#if PARTIAL
  size_t at = row * size_t(params[SPLITS]) + size_t(split);
  FULLY
  for (int d = 0; d < TD; d++) {
    partial[at * D + size_t(d * 8 + x)] = o[d].x;
    partial[at * D + size_t(d * 8 + x + 1)] = o[d].y;
  }
  if (x == 0) {
    stats[at * 3] = peak;
    stats[at * 3 + 1] = total;
#if STATS
    stats[at * 3 + 2] = mean;
#else
    stats[at * 3 + 2] = 0.0f;
#endif
  }
#else
#if SINKS
  float sink = float(sinks[head * group + m % group]) * (LOG2E / unit);
  float lift = max(peak, sink);
  float shift = (peak - lift) * unit, sunk = (sink - lift) * unit;
  float shrink = metal::fast::exp2(shift);
#if STATS
  mean = shrink * fma(total, shift, mean) + metal::fast::exp2(sunk) * sunk;
#endif
  total = fma(total, shrink, metal::fast::exp2(sunk));
  peak = lift;
  float norm = shrink / total;
#else
  float norm = total > 0.0f ? 1.0f / total : 0.0f;
#endif
  FULLY
  for (int d = 0; d < TD; d++) {
    out[row * D + size_t(d * 8 + x)] = T(o[d].x * norm);
    out[row * D + size_t(d * 8 + x + 1)] = T(o[d].y * norm);
  }
#if STATS
  if (x == 0) {
    lse[row] = total > 0.0f ? fma(peak, unit, metal::precise::log2(total)) * LN2 : -INFINITY;
    entropy[row] = total > 0.0f ? (metal::precise::log2(total) - mean / total) * LN2 : 0.0f;
  }
#endif
#endif
}
