// Decode attention: one split of the stored keys for up to ROWS query rows that share a key/value head.
//
// LPK lanes read one key together, so that 32 / LPK keys are in flight in a simdgroup and a score costs log2(LPK)
// shuffles for all of them. Each such slot keeps its own peak and sums; they are merged once, after the last key.
// Scores are scaled after the peak is taken off, so that large ones lose nothing. Writes for each row and split its
// state: the unnormalised output, the peak and the sums.
#include "rows.h"
#include "scores.h"
#include "scatter.h"
#include "top.h"
//: body
constexpr int SLOTS = 32 / LPK;
constexpr int OWN = D / LPK;
constexpr int CHUNKS = OWN / VEC;
constexpr bool WIDE = sizeof(T) == 4;  // float32 queries: scores carry what their sums round off

threadgroup float shared_q[ROWS * D];
threadgroup float sums[NSG * ROWS * D];
threadgroup float peaks[NSG * ROWS];
threadgroup float rests[NSG * ROWS];
threadgroup float totals[NSG * ROWS];
#if STATS
threadgroup float means[NSG * ROWS];
#endif
#if TOP
threadgroup float top_scores[NSG * ROWS * TOP];
threadgroup int top_places[NSG * ROWS * TOP];
#endif

const uint tid = thread_index_in_threadgroup;
const uint lane = thread_index_in_simdgroup;
const int sg = int(simdgroup_index_in_threadgroup);
const int split = int(threadgroup_position_in_grid.z);
const int group = params[GROUP];
const int queries = params[QUERIES];
const int heads = params[HEADS];
const int capacity = params[CAPACITY];
const int rows = group * queries;
const int blocks = (rows + ROWS - 1) / ROWS;
const int head = int(threadgroup_position_in_grid.y) / blocks % heads;
const int b = int(threadgroup_position_in_grid.y) / blocks / heads;
const int block_row = int(threadgroup_position_in_grid.y) % blocks * ROWS;

const int batch = b / params[SHARED];  // of the keys
const int count = lengths[b * params[LENGTHS_STEP]];
const int first_new = ends[b * params[ENDS_STEP]] - queries;
const int offset = offsets[b * params[OFFSETS_STEP]];
const int keep = params[KEEP];
const size_t stored = (size_t(batch) * size_t(heads) + size_t(head)) * size_t(capacity);

const float unit = as_type<float>(params[BASE]);

// Query rows to threadgroup memory.
for (int i = int(tid); i < ROWS * D; i += NSG * 32) {
  int m = block_row + i / D;
  shared_q[i] = m < rows ? float(q[size_t(query_row(b, heads, head, group, queries, m)) * D + size_t(i % D)]) : 0.0f;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

// The positions that each row sees, and the stored rows that the block has to read.
int low[ROWS], high[ROWS];
int low_min = FAR, high_max = -1;
FULLY
for (int r = 0; r < ROWS; r++) {
  int p = first_new + min(block_row + r, rows - 1) / group;
  low[r] = lower(p, params[WINDOW]);
#if TREE
  high[r] = first_new + queries - 1;
#else
  high[r] = upper(p, params[CAUSAL], params[WINDOW], params[PREFIX], params[BLOCK], params[START]);
#endif
  low_min = min(low_min, low[r]);
  high_max = max(high_max, high[r]);
}
#if DOCS
const int own_documents = b * params[DOCUMENTS_STEP];
int marks[ROWS];
FULLY
for (int r = 0; r < ROWS; r++) {
  int p = first_new + min(block_row + r, rows - 1) / group;
  marks[r] = document(documents + own_documents, params[DOCUMENTS], p);
}
#endif
const int from = RING ? 0 : max(low_min - offset, 0);
const int to = RING ? count - 1 : min(high_max - offset, count - 1);
const int skip = min(clamp(keep - offset, 0, count), from);  // kept ones, read ahead of the window
const int gap = from - skip;
const int reach = max(to - from + 1, 0) + skip;
const int step = NSG * SLOTS;
const int each = ((reach + params[SPLITS] - 1) / params[SPLITS] + step - 1) / step * step;
const int begin = split * each;
const int stop = min(reach, begin + each);

#if SCORES
// Rows that no split visits are unseen.
for (int i = split * NSG * 32 + int(tid); i < capacity; i += params[SPLITS] * NSG * 32) {
  if (i >= skip && (i < skip + gap || i >= reach + gap)) {
    for (int m = block_row; m < min(rows, block_row + ROWS); m++) {
      scores[size_t(query_row(b, heads, head, group, queries, m)) * size_t(capacity) + size_t(i)] = -INFINITY;
    }
  }
}
#endif

Peak peak[ROWS];
float total[ROWS], o[ROWS][OWN];
#if STATS
float mean[ROWS];
#endif
FULLY
for (int r = 0; r < ROWS; r++) {
  peak[r].s = LEAST;
  peak[r].rest = 0.0f;
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
Found list[TOP];  // of row `part`
FULLY
for (int i = 0; i < TOP; i++) {
  list[i] = nothing();
}
#endif

for (int base = begin + sg * SLOTS * UNROLL; base < stop; base += step * UNROLL) {
  int key[UNROLL], at[UNROLL];  // a stored row and its position
  bool there[UNROLL], live[UNROLL];
  float s[UNROLL][ROWS], rest[UNROLL][ROWS];
  FULLY
  for (int u = 0; u < UNROLL; u++) {
    int i = base + u * SLOTS + slot;
    there[u] = i < stop;
    key[u] = i < skip ? i : i + gap;
    at[u] = key[u] + offset;
    live[u] = there[u];
#if RING
    at[u] = there[u] ? positions[batch * capacity + key[u]] : -1;
    live[u] = at[u] >= 0;
#endif
#if DOCS
    int mark = document(documents + own_documents, params[DOCUMENTS], at[u]);
    bool wanted = false;
    FULLY
    for (int r = 0; r < ROWS; r++) {
      wanted = wanted || mark == marks[r];
    }
    live[u] = live[u] && wanted;
#endif
    FULLY
    for (int r = 0; r < ROWS; r++) {
      s[u][r] = 0.0f;
      rest[u][r] = 0.0f;
    }
  }
  FULLY
  for (int c = 0; c < CHUNKS; c++) {
    int column = (c * LPK + part) * VEC;
    float k[UNROLL][VEC];
    FULLY
    for (int u = 0; u < UNROLL; u++) {
      if (live[u]) {
        READ_KEY(VEC, stored + size_t(key[u]), column, k[u]);
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
        s[u][r] = dot<VEC, WIDE>(shared_q + r * D + column, k[u], s[u][r], rest[u][r]);
      }
    }
  }
  FULLY
  for (int u = 0; u < UNROLL; u++) {
    FULLY
    for (int r = 0; r < ROWS; r++) {
      float x = s[u][r];
      for (int lanes = 1; lanes < LPK; lanes *= 2) {
        x = add_lane<WIDE>(x, x, rest[u][r], rest[u][r], lanes);
      }
#if SOFTCAP
      x = as_type<float>(params[CAP]) * metal::precise::tanh((x + rest[u][r]) * as_type<float>(params[SCALE]));
      rest[u][r] = 0.0f;
#endif
      bool seen = live[u] && at[u] <= high[r] && (at[u] >= low[r] || at[u] < keep);
#if DOCS
      seen = seen && document(documents + own_documents, params[DOCUMENTS], at[u]) == marks[r];
#endif
#if TREE
      int t = min(block_row + r, rows - 1) / group;
      seen = seen && connected(tree + (b * queries + t) * params[WORDS], at[u] - first_new);
#endif
      s[u][r] = seen ? x : -INFINITY;
#if SCORES
      int m = block_row + r;
      if (there[u] && m < rows && part == r % LPK) {
        size_t row = size_t(query_row(b, heads, head, group, queries, m));
        scores[row * size_t(capacity) + size_t(key[u])] = s[u][r] * (unit * LN2);
      }
#endif
    }
#if TOP
    if (part < ROWS) {
      Found found = {s[u][0], at[u]};
      FULLY
      for (int r = 1; r < ROWS; r++) {
        found.score = part == r ? s[u][r] : found.score;
      }
      if (found.score > list[TOP - 1].score) {
        insert<TOP>(list, found);
      }
    }
#endif
  }
  FULLY
  for (int r = 0; r < ROWS; r++) {
    Peak higher = peak[r];
    FULLY
    for (int u = 0; u < UNROLL; u++) {
      bool more = s[u][r] > higher.s;
      higher.s = more ? s[u][r] : higher.s;
      higher.rest = more ? rest[u][r] : higher.rest;
    }
    float shift = depth(peak[r].s, peak[r].rest, higher, unit);
    float factor = metal::fast::exp2(shift);
#if STATS
    mean[r] = factor * fma(total[r], shift, mean[r]);
#endif
    total[r] *= factor;
    FULLY
    for (int u = 0; u < UNROLL; u++) {
      float below = depth(s[u][r], rest[u][r], higher, unit);
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
    FULLY
    for (int u = 0; u < UNROLL; u++) {
      if (live[u]) {
        float v[VEC];
        READ_VALUE(VEC, stored + size_t(key[u]), (c * LPK + part) * VEC, v);
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
typedef Scatter<OWN, 16, LPK, WIDE> Slots;
FULLY
for (int r = 0; r < ROWS; r++) {
  Peak higher = largest<LPK, 32, WIDE>(peak[r]);
  float shift = depth(peak[r].s, peak[r].rest, higher, unit);
  float factor = metal::fast::exp2(shift);
  float sum = total[r] * factor, sum_rest = 0.0f;
#if STATS
  float mean_sum = factor * fma(total[r], shift, mean[r]);
#endif
  for (int lanes = LPK; lanes < 32; lanes *= 2) {
    sum = add_lane<WIDE>(sum, sum, sum_rest, sum_rest, lanes);
#if STATS
    mean_sum += simd_shuffle_xor(mean_sum, ushort(lanes));
#endif
  }
  float o_rest[OWN];
  FULLY
  for (int i = 0; i < OWN; i++) {
    o[r][i] *= factor;
    o_rest[i] = 0.0f;
  }
  int start = 0;
  Slots::sum(o[r], o_rest, lane, start);
  if ((lane & Slots::copies) == 0u) {
    FULLY
    for (int i = 0; i < Slots::kept; i++) {
      int own = start + i;
      sums[(sg * ROWS + r) * D + (own / VEC * LPK + part) * VEC + own % VEC] = o[r][i] + o_rest[i];
    }
  }
  if (lane == 0u) {
    peaks[sg * ROWS + r] = higher.s;
    rests[sg * ROWS + r] = higher.rest;
    totals[sg * ROWS + r] = sum + sum_rest;
#if STATS
    means[sg * ROWS + r] = mean_sum;
#endif
  }
}
#if TOP
for (int k = 0; k < TOP; k++) {
  Found best = take<TOP, LPK>(list);
  if (slot == 0 && part < ROWS) {
    top_scores[(sg * ROWS + part) * TOP + k] = best.score;
    top_places[(sg * ROWS + part) * TOP + k] = best.at;
  }
}
#endif
threadgroup_barrier(mem_flags::mem_threadgroup);

// The simdgroups become one state.
for (int i = int(tid); i < ROWS * D; i += NSG * 32) {
  int r = i / D, m = block_row + r;
  if (m < rows) {
    Peak higher = {LEAST, 0.0f};
    for (int g = 0; g < NSG; g++) {
      Peak other = {peaks[g * ROWS + r], rests[g * ROWS + r]};
      higher = larger(higher, other);
    }
    float sum = 0.0f, sum_rest = 0.0f, x = 0.0f, x_rest = 0.0f, mean_sum = 0.0f;
    for (int g = 0; g < NSG; g++) {
      float shift = depth(peaks[g * ROWS + r], rests[g * ROWS + r], higher, unit);
      float factor = metal::fast::exp2(shift);
      x = add_product(x, factor, sums[(g * ROWS + r) * D + i % D], x_rest);
      sum = add_product(sum, factor, totals[g * ROWS + r], sum_rest);
#if STATS
      mean_sum = fma(factor, fma(totals[g * ROWS + r], shift, means[g * ROWS + r]), mean_sum);
#endif
    }
    size_t row = size_t(query_row(b, heads, head, group, queries, m)) * size_t(params[SPLITS]) + size_t(split);
    partial[row * D + size_t(i % D)] = x + x_rest;
    if (i % D == 0) {
      stats[row * 4] = higher.s;
      stats[row * 4 + 1] = higher.rest;
      stats[row * 4 + 2] = sum + sum_rest;
      stats[row * 4 + 3] = mean_sum;
    }
  }
}
#if TOP
for (int r = sg; r < ROWS; r += NSG) {
  int m = block_row + r;
  constexpr int MINE = NSG * TOP / 32;
  Found mine[MINE];
  FULLY
  for (int i = 0; i < MINE; i++) {
    mine[i] = nothing();
  }
  for (int e = int(lane); e < NSG * TOP; e += 32) {
    int from_list = (e / TOP * ROWS + r) * TOP + e % TOP;
    Found found = {top_scores[from_list], top_places[from_list]};
    insert<MINE>(mine, found);
  }
  for (int k = 0; k < TOP; k++) {
    Found best = take<MINE, 1>(mine);
    if (lane == 0u && m < rows) {
      size_t row = size_t(query_row(b, heads, head, group, queries, m)) * size_t(params[SPLITS]) + size_t(split);
      tops[row * TOP + size_t(k)] = best.score;
      top_at[row * TOP + size_t(k)] = best.at;
    }
  }
}
#endif
