// Tiled attention: 8 * NSG query rows that share a key/value head against the tiles of keys that one of them can see.
//
// The rows of a head are its query heads, its T positions and, where a prefix is shared, the N sequences that share it,
// so that N samples or a tree of drafts read the keys once. A tile that no row sees is never loaded; only tiles on an
// edge of a mask evaluate it. Scores are scaled after the peak is taken off, so that large ones lose nothing.
// 8x8 products in float32; a lane holds two neighbours in a row of each 8x8 matrix.
#include "rows.h"
#include "scores.h"
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

// x rounded to about a thousandth of `most`, the largest there is. Of two such matrices the 8x8 product is exact: it
// sums 8 products of integers up to 2^10, which 24 bits hold. What is left of x is small, and so is what its products
// lose.
inline float2 coarse(float2 x, float most) {
  float2 shift = float2(12288.0f * most);
  return (x + shift) - shift;
}
//: body
constexpr int BQ = 8 * NSG;
constexpr int TD = D / 8;
constexpr int TK = BK / 8;
constexpr int LD = D + 16 / int(sizeof(C));  // padded, so that the lanes of a column hit different banks
constexpr bool IN_REGISTERS = D <= 128;
constexpr bool WIDE = sizeof(T) == 4;  // float32 queries: scores carry what their sums round off

threadgroup C key_tile[BK * LD];
threadgroup C value_tile[BK * LD];
threadgroup float mosts[NSG * 8];
threadgroup int lows[BQ];
threadgroup int highs[BQ];
#if RING
threadgroup int places[BK];
#endif
#if DOCS
threadgroup int marks[BQ];
#endif

const int tid = int(thread_index_in_threadgroup);
const int lane = int(thread_index_in_simdgroup);
const int sg = int(simdgroup_index_in_threadgroup);
const int split = int(threadgroup_position_in_grid.z);
const int group = params[GROUP];
const int queries = params[QUERIES];
const int heads = params[HEADS];
const int shared = params[SHARED];
const int own_rows = group * queries;
const int rows = shared * own_rows;
const int blocks = (rows + BQ - 1) / BQ;
const int head = int(threadgroup_position_in_grid.y) / blocks % heads;
const int batch = int(threadgroup_position_in_grid.y) / blocks / heads;  // of the keys
const int block_row = int(threadgroup_position_in_grid.y) % blocks * BQ;

const int count = lengths[batch * params[LENGTHS_STEP]];
const int offset = offsets[batch * params[OFFSETS_STEP]];
const int keep = params[KEEP];
const size_t stored = (size_t(batch) * size_t(heads) + size_t(head)) * size_t(params[CAPACITY]);

// The positions that each row sees.
for (int i = tid; i < BQ; i += NSG * 32) {
  int m = min(block_row + i, rows - 1);
  int b = batch * shared + m / own_rows;
  int first_new = ends[b * params[ENDS_STEP]] - queries;
  int p = first_new + m % own_rows / group;
  lows[i] = lower(p, params[WINDOW]);
#if TREE
  highs[i] = first_new + queries - 1;
#else
  highs[i] = upper(p, params[CAUSAL], params[WINDOW], params[PREFIX], params[BLOCK], params[START]);
#endif
#if DOCS
  marks[i] = document(documents + b * params[DOCUMENTS_STEP], params[DOCUMENTS], p);
#endif
}
threadgroup_barrier(mem_flags::mem_threadgroup);
int low_min = FAR, low_max = -FAR, high_min = FAR, high_max = -FAR;
#if DOCS
int mark_min = numeric_limits<int>::max(), mark_max = numeric_limits<int>::min();
#endif
for (int i = lane; i < BQ; i += 32) {
  low_min = min(low_min, lows[i]);
  low_max = max(low_max, lows[i]);
  high_min = min(high_min, highs[i]);
  high_max = max(high_max, highs[i]);
#if DOCS
  mark_min = min(mark_min, marks[i]);
  mark_max = max(mark_max, marks[i]);
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
const int from = RING ? 0 : max(low_min - offset, 0);
const int to = RING ? count - 1 : min(high_max - offset, count - 1);
const int head_tiles = (min(clamp(keep - offset, 0, count), from) + BK - 1) / BK;
const int start_tile = max(from / BK, head_tiles);
const int visits = head_tiles + (to >= 0 ? max(to / BK - start_tile + 1, 0) : 0);
const int each = (visits + params[SPLITS] - 1) / params[SPLITS];
const int begin = split * each;
const int stop = min(visits, begin + each);

// This lane's place in an 8x8 matrix: row y, columns x and x + 1.
const int quad = lane / 4;
const int y = (quad & 4) + lane / 2 % 4;
const int x = (quad & 2) * 2 + lane % 2 * 2;
const int mine = sg * 8 + y;
const int m = min(block_row + mine, rows - 1);
const int b = batch * shared + m / own_rows;
const size_t row = size_t(query_row(b, heads, head, group, queries, m % own_rows));
const int first_new = ends[b * params[ENDS_STEP]] - queries;
const int low = lows[mine];
const int high = highs[mine];
const float unit = as_type<float>(params[BASE]);
const device T* query = q + row * D;

float2 held[IN_REGISTERS ? TD : 1];
float most = 0.0f;  // the largest absolute value of the row
FULLY
for (int d = 0; d < TD; d++) {
  float2 a = float2(float(query[d * 8 + x]), float(query[d * 8 + x + 1]));
  held[IN_REGISTERS ? d : 0] = a;
  most = max(most, max(abs(a.x), abs(a.y)));
}
if (WIDE) {
  most = max(most, simd_shuffle_xor(most, ushort(1)));
  most = max(most, simd_shuffle_xor(most, ushort(8)));
}
float2 o[TD];
FULLY
for (int d = 0; d < TD; d++) {
  o[d] = float2(0.0f);
}
Peak peak = {LEAST, 0.0f};
float total = 0.0f, mean = 0.0f;

for (int visit = begin; visit < stop; visit++) {
  const int base = (visit < head_tiles ? visit : visit - head_tiles + start_tile) * BK;
  bool whole = base + offset >= low_max && base + BK - 1 + offset <= high_min && base + BK <= count;
#if RING || DOCS
  // Does any row see any of these keys? Every simdgroup comes to the same answer.
  whole = false;
  bool wanted = lane < BK && base + lane < count;
  int place = base + lane + offset;
#if RING
  place = wanted ? positions[batch * params[CAPACITY] + base + lane] : -1;
  wanted = place >= 0 && place <= high_max && (place >= low_min || place < keep);
#endif
#if DOCS
  bool same = false;
  for (int c = block_row / own_rows; c <= min(block_row + BQ - 1, rows - 1) / own_rows; c++) {
    int mark = document(documents + (batch * shared + c) * params[DOCUMENTS_STEP], params[DOCUMENTS], place);
    same = same || (mark >= mark_min && mark <= mark_max);
  }
  wanted = wanted && same;
#endif
  if (!simd_any(wanted)) {
    continue;
  }
#endif
#if TREE
  whole = whole && base + BK - 1 + offset < first_new;
#endif
  threadgroup_barrier(mem_flags::mem_threadgroup);
#if RING
  if (sg == 0 && lane < BK) {
    places[lane] = place;
  }
#endif
  float key_most = 0.0f;  // the largest of the tile
  for (int i = tid; i < BK * (D / 8); i += NSG * 32) {
    int r = i / (D / 8), at = i % (D / 8) * 8;
    float k[8], v[8];
    if (base + r < count) {
      READ_KEY(8, stored + size_t(base + r), at, k);
      READ_VALUE(8, stored + size_t(base + r), at, v);
    } else {
      for (int j = 0; j < 8; j++) {
        k[j] = 0.0f;
        v[j] = 0.0f;
      }
    }
    for (int j = 0; j < 8; j++) {
      key_most = max(key_most, abs(k[j]));
      key_tile[r * LD + at + j] = C(k[j]);
      value_tile[r * LD + at + j] = C(v[j]);
    }
  }
  if (WIDE) {
    key_most = quad_max(key_most);
    if (lane % 4 == 0) {
      mosts[tid / 4] = key_most;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = 0; WIDE && i < NSG * 8; i++) {
    key_most = max(key_most, mosts[i]);
  }

  float2 s[TK], rest[TK];
  FULLY
  for (int j = 0; j < TK; j++) {
    s[j] = float2(0.0f);
    rest[j] = float2(0.0f);
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
      float2 k = float2(float(key_tile[at]), float(key_tile[at + LD]));
      if (WIDE) {
        float2 a_coarse = coarse(a, most), k_coarse = coarse(k, key_most), product = float2(0.0f);
        multiply_add(product, a_coarse, k_coarse);
        multiply_add(rest[j], a - a_coarse, k);
        multiply_add(rest[j], a_coarse, k - k_coarse);
        s[j] = add(s[j], product, rest[j]);
      } else {
        multiply_add(s[j], a, k);
      }
    }
  }
  if (WIDE) {
    FULLY
    for (int j = 0; j < TK; j++) {
      float2 lost = float2(0.0f);
      s[j] = add(s[j], rest[j], lost);
      rest[j] = lost;
    }
  }
#if SOFTCAP
  FULLY
  for (int j = 0; j < TK; j++) {
    s[j] = (s[j] + rest[j]) * as_type<float>(params[SCALE]);
    s[j] = as_type<float>(params[CAP]) * float2(metal::precise::tanh(s[j].x), metal::precise::tanh(s[j].y));
    rest[j] = float2(0.0f);
  }
#endif
  if (!whole) {
    FULLY
    for (int j = 0; j < TK; j++) {
      FULLY
      for (int e = 0; e < 2; e++) {
        int key = base + j * 8 + x + e;
#if RING
        int at = places[j * 8 + x + e];
        bool seen = at >= 0 && at <= high && (at >= low || at < keep);
#else
        int at = key + offset;
        bool seen = key < count && at <= high && (at >= low || at < keep);
#endif
#if DOCS
        seen = seen && document(documents + b * params[DOCUMENTS_STEP], params[DOCUMENTS], at) == marks[mine];
#endif
#if TREE
        seen = seen && connected(tree + (b * queries + m % own_rows / group) * params[WORDS], at - first_new);
#endif
        s[j][e] = seen ? s[j][e] : -INFINITY;
      }
    }
  }

  Peak higher = peak;
  FULLY
  for (int j = 0; j < TK; j++) {
    FULLY
    for (int e = 0; e < 2; e++) {
      Peak other = {s[j][e], rest[j][e]};
      higher = larger(higher, other);
    }
  }
  higher = largest<8, 16, WIDE>(largest<1, 2, WIDE>(higher));
  float shift = depth(peak.s, peak.rest, higher, unit);
  float factor = metal::fast::exp2(shift);
#if STATS
  mean = factor * fma(total, shift, mean);
#endif
  total *= factor;
  FULLY
  for (int j = 0; j < TK; j++) {
    FULLY
    for (int e = 0; e < 2; e++) {
      float below = depth(s[j][e], rest[j][e], higher, unit);
      s[j][e] = metal::fast::exp2(below);
      total += s[j][e];
#if STATS
      mean += s[j][e] > 0.0f ? s[j][e] * below : 0.0f;
#endif
    }
  }
  peak = higher;
  FULLY
  for (int d = 0; d < TD; d++) {
    o[d] *= factor;
    FULLY
    for (int j = 0; j < TK; j++) {
      int at = (j * 8 + y) * LD + d * 8 + x;
      float2 v = float2(float(value_tile[at]), float(value_tile[at + 1]));
      if (WIDE) {
        float2 product = float2(0.0f);
        multiply_add(product, s[j], v);
        o[d] += product;
      } else {
        multiply_add(o[d], s[j], v);
      }
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
    stats[at * 4] = peak.s;
    stats[at * 4 + 1] = peak.rest;
    stats[at * 4 + 2] = total;
    stats[at * 4 + 3] = mean;
  }
#else
  float lift = 1.0f;
#if SINKS
  Peak sink = {float(sinks[head * group + m % group]) * (LOG2E / unit), 0.0f};
  Peak higher = larger(peak, sink);
  float shift = depth(peak.s, peak.rest, higher, unit), below = depth(sink.s, 0.0f, higher, unit);
  float sunk = metal::fast::exp2(below);
  lift = metal::fast::exp2(shift);
  mean = fma(lift, fma(total, shift, mean), sunk > 0.0f ? sunk * below : 0.0f);  // a sink may be -inf
  total = fma(total, lift, sunk);
  peak = higher;
#endif
  FULLY
  for (int d = 0; d < TD; d++) {
    out[row * D + size_t(d * 8 + x)] = T(total > 0.0f ? o[d].x * lift / total : 0.0f);
    out[row * D + size_t(d * 8 + x + 1)] = T(total > 0.0f ? o[d].y * lift / total : 0.0f);
  }
#if STATS
  if (x == 0) {
    lse[row] = log_sum(peak, total, unit);
    entropy[row] = entropy_of(total, mean);
  }
#endif
#endif
}
