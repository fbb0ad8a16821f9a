// Keeping the K largest of the values that a group of threads holds. Shared by the vocabulary kernels.
#include <metal_stdlib>
#include <metal_simdgroup>
using namespace metal;

// Before a loop over an array that lives in registers: indexed by anything but constants it would live in memory.
#define FULLY _Pragma("clang loop unroll(full)")

constant constexpr int K = 64;           // tokens that may be drawn: the most likely
constant constexpr uint SIMDGROUPS = 8;  // of a group of 256 threads
// For who looks on at a row:
constant constexpr int C = 256;          // tokens kept, a thread each
constant constexpr int BINS = 64;        // of the histogram of the others
constant constexpr float SPAN = 32.0f;   // nats below the most likely of the others that it resolves

// An integer that orders as the float does, -0 as 0, of the BITS that the dtype it came from can tell apart.
template <int BITS>
inline uint ordered(float x) {
  uint bits = as_type<uint>(x + 0.0f);
  return ((bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u) >> uint(32 - BITS);
}

// The sum of `mine` over the group's threads, for every thread.
template <typename N>
inline N sum_all(N mine, threadgroup N* parts, uint sg, uint lane) {
  N sum = simd_sum(mine);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 0u) {
    parts[sg] = sum;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  N all = N(0);
  for (uint g = 0u; g < SIMDGROUPS; g++) {
    all += parts[g];
  }
  return all;
}

// The largest of `mine`, likewise.
inline float max_all(float mine, threadgroup float* parts, uint sg, uint lane) {
  float most = simd_max(mine);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 0u) {
    parts[sg] = most;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint g = 0u; g < SIMDGROUPS; g++) {
    most = max(most, parts[g]);
  }
  return most;
}

// Which of a thread's N values are among the `want` largest of the group, as a bit mask; equal values go by the smaller
// id. Ids are distinct and non-negative; a negative one marks a value that is not there. At least `want` are there.
template <int N, int BITS>
inline uint largest(
    thread const uint* keys, thread const int* ids, uint want, int most, threadgroup uint* counts, uint sg, uint lane) {
  uint bar = 0u;  // the want-th largest key, from its highest bit down
  bool exact = false;
  for (int bit = BITS - 1; bit >= 0 && !exact; bit--) {
    uint higher = bar | (1u << uint(bit));
    uint mine = 0u;
    FULLY
    for (int i = 0; i < N; i++) {
      mine += uint(ids[i] >= 0 && keys[i] >= higher);
    }
    uint all = sum_all(mine, counts, sg, lane);
    bar = all >= want ? higher : bar;
    exact = all == want;
  }
  uint mask = 0u;
  uint above = 0u;
  FULLY
  for (int i = 0; i < N; i++) {
    bool in = ids[i] >= 0 && (exact ? keys[i] >= bar : keys[i] > bar);
    mask |= uint(in) << uint(i);
    above += uint(in);
  }
  if (exact) {
    return mask;
  }
  // Of those that equal it, the ones with ids up to the smallest `last` that makes them enough.
  uint need = want - sum_all(above, counts, sg, lane);
  int last = -1;
  for (int bit = 1 << (31 - int(clz(uint(most)))); bit > 0; bit >>= 1) {
    uint mine = 0u;
    FULLY
    for (int i = 0; i < N; i++) {
      mine += uint(ids[i] >= 0 && keys[i] == bar && ids[i] <= last + bit);
    }
    last = sum_all(mine, counts, sg, lane) < need ? last + bit : last;
  }
  FULLY
  for (int i = 0; i < N; i++) {
    mask |= uint(ids[i] >= 0 && keys[i] == bar && ids[i] <= last + 1) << uint(i);
  }
  return mask;
}

// Where the first of a thread's `mine` values goes, when the group's threads write theirs one after another.
inline uint place(uint mine, threadgroup uint* counts, uint sg, uint lane) {
  uint before = simd_prefix_exclusive_sum(mine);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 31u) {
    counts[sg] = before + mine;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint g = 0u; g < sg; g++) {
    before += counts[g];
  }
  return before;
}
