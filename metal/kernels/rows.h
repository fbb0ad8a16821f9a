// How stored rows are read, and how a query's reach is computed. Shared by every attention kernel.
#include <metal_stdlib>
#include <metal_simdgroup>
using namespace metal;

// Before a loop over an array that lives in registers: indexed by anything but constants it would live in memory.
#define FULLY _Pragma("clang loop unroll(full)")

constant constexpr float LOG2E = 1.44269504088896340736f;
constant constexpr float LN2 = 0.69314718055994530942f;
constant constexpr float LEAST = -1.0e30f;  // below every score, and finite: LEAST - LEAST is 0
constant constexpr int FAR = 1 << 30;       // beyond every position

// The int32 array that every attention kernel takes as `params`.
enum Param {
  BASE,       // bits of a float: a weight is 2^(BASE * score), where a score is q k unless capped
  SCALE, CAP, // bits of floats: a capped score is CAP * tanh(SCALE * q k)
  HEADS,      // key/value heads
  GROUP,      // query heads that share one of them
  QUERIES,    // T
  CAPACITY,   // stored rows a head
  SPLITS,     // parts that the keys are cut into
  SHARED,     // rows of B that read the same key/value rows
  CAUSAL,     // 0 or 1
  WINDOW,     // 0: none
  KEEP,
  PREFIX,
  BLOCK,      // 0: none
  START,      // where a block begins
  LENGTHS_STEP, ENDS_STEP, OFFSETS_STEP, DOCUMENTS_STEP,  // 0 where all of B share the one entry
  DOCUMENTS,  // positions that have a document
  WORDS,      // 32-bit words of a tree row
};

// N consecutive values of a plain row.
template <typename E, int N>
inline void read_plain(const device E* row, thread float* out) {
  const device vec<E, 4>* packs = (const device vec<E, 4>*)row;
  FULLY
  for (int i = 0; i < N / 4; i++) {
    vec<E, 4> x = packs[i];
    out[4 * i] = float(x.x);
    out[4 * i + 1] = float(x.y);
    out[4 * i + 2] = float(x.z);
    out[4 * i + 3] = float(x.w);
  }
}

// N consecutive values from column `at` of a quantised row: scale * code + bias. N divides the group.
template <typename S, int BITS, int GROUP_SIZE, int N>
inline void read_codes(
    const device uint* codes, const device S* scales, const device S* biases, int at, thread float* out) {
  float scale = float(scales[at / GROUP_SIZE]);
  float bias = float(biases[at / GROUP_SIZE]);
  constexpr uint low = (1u << BITS) - 1u;
  constexpr int bits = BITS * N;
  if (bits >= 32) {
    FULLY
    for (int w = 0; w < bits / 32; w++) {
      uint word = codes[at * BITS / 32 + w];
      FULLY
      for (int i = 0; i < 32 / BITS; i++) {
        out[w * (32 / BITS) + i] = fma(scale, float((word >> uint(BITS * i)) & low), bias);
      }
    }
  } else {
    uint word = uint(((const device ushort*)codes)[at * BITS / 16]);
    FULLY
    for (int i = 0; i < N; i++) {
      out[i] = fma(scale, float((word >> uint(BITS * i)) & low), bias);
    }
  }
}

// N values of a stored row (its number among those of all heads) from column `at`, into registers.
#if K_BITS == 16
#define READ_KEY(N, row, at, out) read_plain<E, N>(keys + (row) * D + size_t(at), out)
#else
#define READ_KEY(N, row, at, out)                                                                \
  read_codes<S, K_BITS, K_GROUP, N>(                                                             \
      key_codes + (row) * (D * K_BITS / 32), key_scales + (row) * (D / K_GROUP),                 \
      key_biases + (row) * (D / K_GROUP), at, out)
#endif
#if V_BITS == 16
#define READ_VALUE(N, row, at, out) read_plain<E, N>(values + (row) * D + size_t(at), out)
#else
#define READ_VALUE(N, row, at, out)                                                              \
  read_codes<S, V_BITS, V_GROUP, N>(                                                             \
      value_codes + (row) * (D * V_BITS / 32), value_scales + (row) * (D / V_GROUP),             \
      value_biases + (row) * (D / V_GROUP), at, out)
#endif

// The last position that a query at position p sees, leaving documents and trees aside.
inline int upper(int p, int causal, int window, int prefix, int block, int start) {
  if (causal == 0) {
    return window > 0 ? p + window - 1 : FAR;
  }
  int last = p;
  if (block > 0) {
    int from = p - start;
    int index = from >= 0 ? from / block : -((block - 1 - from) / block);
    last = index * block + block + start - 1;
  }
  return max(last, prefix - 1);
}

// The first position that it sees, `keep` left aside.
inline int lower(int p, int window) {
  return window > 0 ? p - window + 1 : 0;
}

// The number of the row that the m-th query of a key/value head has among all: those of one position stand together.
inline int query_row(int b, int heads, int head, int group, int queries, int m) {
  return (b * heads * group + head * group + m % group) * queries + m / group;
}

// The document of position `at` in a row that has `positions` of them; past its end, the last one's.
template <typename P>
inline int document(P row, int positions, int at) {
  return row[clamp(at, 0, positions - 1)];
}

// Whether the query with this row of the tree sees the node-th new key. What stands before those (node < 0) it does
// see.
template <typename P>
inline bool connected(P row, int node) {
  return node < 0 || ((row[node / 32] >> uint(node % 32)) & 1u) == 1u;
}
