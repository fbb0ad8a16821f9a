// Operations between the lanes of a simdgroup or a quad, and barriers. Inactive lanes take no part in a reduction; a
// shuffle from one gives all-ones bytes (NaN for every float type). Up and down keep the lane's own value where there
// is no lane to shuffle from; so do the others, whose index must be one of a lane.
#pragma once
#include "math.h"
#ifndef MSL_STRICT
#include "runtime.h"
#define MSL_AT , MSL_HERE
#define MSL_AT0 MSL_HERE
#else
#define MSL_AT
#define MSL_AT0
#endif

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4,
                       mem_threadgroup_imageblock = 8, mem_object_data = 16, mem_device_and_threadgroup = 3 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(int(a) | int(b)); }

struct simd_vote {
  typedef ulong vote_t;
  vote_t bits;
  simd_vote() = default;
  constexpr explicit simd_vote(vote_t v) : bits(v) {}
  constexpr operator vote_t() const { return bits; }
  bool all() const { return uint(bits) == 0xffffffffu; }
  bool any() const { return bits != 0; }
};

#ifdef MSL_STRICT
template <class T> T msl_any_lane(T x) { return x; }
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);
#define MSL_REDUCTION(name, ...) template <class T> T simd_##name(T x); template <class T> T quad_##name(T x);
#define MSL_PREFIX(name, ...) template <class T> T name(T x);
#define MSL_SHUFFLING(name, ...) \
  template <class T> T simd_##name(T x, ushort by); template <class T> T quad_##name(T x, ushort by);
template <class T> T simd_shuffle_and_fill_up(T x, T fill, ushort by);
template <class T> T simd_shuffle_and_fill_down(T x, T fill, ushort by);
simd_vote simd_ballot(bool x);
simd_vote quad_ballot(bool x);
simd_vote simd_active_threads_mask();
bool simd_all(bool x);
bool simd_any(bool x);
bool quad_all(bool x);
bool quad_any(bool x);
bool simd_is_first();
bool quad_is_first();
bool simd_is_helper_thread();
#else
MSL_INLINE void threadgroup_barrier(mem_flags flags MSL_AT) { msl_barrier(site, msl_u32(flags)); }
MSL_INLINE void simdgroup_barrier(mem_flags flags MSL_AT) { msl_simd_barrier(site, msl_u32(flags)); }

// ---- reductions: a tree over lane distance 1, 2, 4, ... as a butterfly of shuffles would do it ----
template <class T, class F, int width>
MSL_UNTRACED void msl_reduce(void* const* payload, msl_u32 mask) {
  for (int base = 0; base < 32; base += width) {
    T value[width];
    bool active[width], some = false;
    for (int i = 0; i < width; i++) {
      active[i] = (mask >> (base + i)) & 1;
      if (active[i]) { value[i] = *(T*)payload[base + i]; some = true; }
    }
    if (!some) continue;
    for (int half_width = width / 2; half_width > 0; half_width /= 2)
      for (int i = 0; i < half_width; i++) {
        if (active[i] && active[i + half_width]) value[i] = F::of(value[i], value[i + half_width]);
        else if (active[i + half_width]) { value[i] = value[i + half_width]; active[i] = true; }
      }
    for (int i = 0; i < width; i++)
      if ((mask >> (base + i)) & 1) *(T*)payload[base + i] = value[0];
  }
}
#define MSL_REDUCTION(name, expression)                                                              \
  struct msl_of_##name { template <class T> MSL_INLINE static T of(T a, T b) { return expression; } }; \
  template <class T>                                                                                 \
  MSL_INLINE T simd_##name(T x MSL_AT) {                                                             \
    msl_collective(site, MSL_REDUCE, &x, msl_reduce<T, msl_of_##name, 32>);                          \
    return x;                                                                                        \
  }                                                                                                  \
  template <class T>                                                                                 \
  MSL_INLINE T quad_##name(T x MSL_AT) {                                                             \
    msl_collective(site, MSL_QUAD_REDUCE, &x, msl_reduce<T, msl_of_##name, 4>);                      \
    return x;                                                                                        \
  }

template <class T, class F, int width, bool inclusive>
MSL_UNTRACED void msl_prefix(void* const* payload, msl_u32 mask) {
  for (int base = 0; base < 32; base += width) {
    T sum = F::identity(T());
    for (int i = base; i < base + width; i++) {
      if (!((mask >> i) & 1)) continue;
      T own = *(T*)payload[i];
      T with = F::of(sum, own);
      *(T*)payload[i] = inclusive ? with : sum;
      sum = with;
    }
  }
}
struct msl_prefix_sum {
  template <class T> static T of(T a, T b) { return T(a + b); }
  template <class T> static T identity(T) { return T(element_t<T>(0)); }
};
struct msl_prefix_product {
  template <class T> static T of(T a, T b) { return T(a * b); }
  template <class T> static T identity(T) { return T(element_t<T>(1)); }
};
#define MSL_PREFIX(name, kind, F, width, inclusive) \
  template <class T>                                \
  MSL_INLINE T name(T x MSL_AT) { msl_collective(site, kind, &x, msl_prefix<T, F, width, inclusive>); return x; }

// ---- shuffles ----
template <class T>
struct msl_passed { T value; T fill; int from; T result; const void* site; };
template <class T>
MSL_UNTRACED void msl_pass(void* const* payload, msl_u32 mask) {
  for (int i = 0; i < 32; i++) {
    if (!((mask >> i) & 1)) continue;
    msl_passed<T>& p = *(msl_passed<T>*)payload[i];
    const int from = p.from < -1 ? -2 - p.from : p.from;
    if (from == -1) p.result = p.value;
    else if ((mask >> from) & 1)
      p.result = p.from < 0 ? ((msl_passed<T>*)payload[from])->fill : ((msl_passed<T>*)payload[from])->value;
    else {
      __builtin_memset(&p.result, 0xff, sizeof(T));
      MSL_FAULT(p.site, "inactive-lane", from);
    }
  }
}
template <class T>
MSL_INLINE T msl_shuffle(const void* site, msl_u32 kind, T x, T fill, int from) {
  msl_passed<T> p = {x, fill, from, x, site};
  msl_collective(site, kind, &p, msl_pass<T>);
  return p.result;
}
MSL_INLINE int msl_lane_index() { return int(msl.current->index & 31); }
// Each shuffle: how the source lane follows from the lane `l` and the argument `n`, in a group of `w` lanes; and
// whether there may be none.
#define MSL_SHUFFLING(name, source, edges)                                               \
  template <class T>                                                                     \
  MSL_INLINE T simd_##name(T x, ushort by MSL_AT) {                                      \
    const int l = msl_lane_index(), n = by, w = 32; (void)l; (void)w;                    \
    const int from = source;                                                             \
    if (!edges && (from < 0 || from >= w)) MSL_FAULT(site, "no-such-lane", from);        \
    return msl_shuffle(site, MSL_SHUFFLE, x, x, from >= 0 && from < w ? from : -1);      \
  }                                                                                      \
  template <class T>                                                                     \
  MSL_INLINE T quad_##name(T x, ushort by MSL_AT) {                                      \
    const int q = msl_lane_index() & ~3, l = msl_lane_index() & 3, n = by, w = 4; (void)l; (void)w; \
    const int from = source;                                                             \
    if (!edges && (from < 0 || from >= w)) MSL_FAULT(site, "no-such-lane", from);        \
    return msl_shuffle(site, MSL_QUAD_SHUFFLE, x, x, from >= 0 && from < w ? q + from : -1); \
  }
// Past the end, the filling's lanes follow: of the lane `from` of `fill` where the source is -2 - from.
template <class T>
MSL_INLINE T simd_shuffle_and_fill_up(T x, T fill, ushort by MSL_AT) {
  const int from = msl_lane_index() - int(by);
  return msl_shuffle(site, MSL_SHUFFLE, x, fill, from < 0 ? -2 - (from & 31) : from);
}
template <class T>
MSL_INLINE T simd_shuffle_and_fill_down(T x, T fill, ushort by MSL_AT) {
  const int from = msl_lane_index() + int(by);
  return msl_shuffle(site, MSL_SHUFFLE, x, fill, from > 31 ? -2 - (from & 31) : from);
}

// ---- votes ----
struct msl_ballot_box { bool vote; msl_u32 votes, active; };
template <int width>
MSL_UNTRACED inline void msl_count_votes(void* const* payload, msl_u32 mask) {
  msl_u32 votes = 0;
  for (int i = 0; i < 32; i++)
    if (((mask >> i) & 1) && ((msl_ballot_box*)payload[i])->vote) votes |= 1u << i;
  for (int i = 0; i < 32; i++) {
    if (!((mask >> i) & 1)) continue;
    const int shift = width == 32 ? 0 : i & ~3;
    const msl_u32 window = width == 32 ? 0xffffffffu : 0xfu;
    ((msl_ballot_box*)payload[i])->votes = (votes >> shift) & window;
    ((msl_ballot_box*)payload[i])->active = (mask >> shift) & window;
  }
}
template <int width>
MSL_INLINE msl_ballot_box msl_ballot(bool x, const void* site) {
  msl_ballot_box b = {x, 0, 0};
  msl_collective(site, MSL_VOTE, &b, msl_count_votes<width>);
  return b;
}
MSL_INLINE simd_vote simd_ballot(bool x MSL_AT) { return simd_vote(msl_ballot<32>(x, site).votes); }
MSL_INLINE simd_vote quad_ballot(bool x MSL_AT) { return simd_vote(msl_ballot<4>(x, site).votes); }
MSL_INLINE simd_vote simd_active_threads_mask(MSL_AT0) { return simd_vote(msl_ballot<32>(true, site).active); }
MSL_INLINE bool simd_all(bool x MSL_AT) { msl_ballot_box b = msl_ballot<32>(x, site); return b.votes == b.active; }
MSL_INLINE bool simd_any(bool x MSL_AT) { return msl_ballot<32>(x, site).votes != 0; }
MSL_INLINE bool quad_all(bool x MSL_AT) { msl_ballot_box b = msl_ballot<4>(x, site); return b.votes == b.active; }
MSL_INLINE bool quad_any(bool x MSL_AT) { return msl_ballot<4>(x, site).votes != 0; }
MSL_INLINE bool simd_is_first(MSL_AT0) { return __builtin_ctz(msl_ballot<32>(true, site).active) == msl_lane_index(); }
MSL_INLINE bool quad_is_first(MSL_AT0) {
  return __builtin_ctz(msl_ballot<4>(true, site).active) == (msl_lane_index() & 3);
}
MSL_INLINE bool simd_is_helper_thread() { return false; }
#endif

MSL_REDUCTION(sum, T(a + b))
MSL_REDUCTION(product, T(a * b))
MSL_REDUCTION(max, max(a, b))
MSL_REDUCTION(min, min(a, b))
MSL_REDUCTION(and, T(a & b))
MSL_REDUCTION(or, T(a | b))
MSL_REDUCTION(xor, T(a ^ b))
MSL_PREFIX(simd_prefix_inclusive_sum, MSL_REDUCE, msl_prefix_sum, 32, true)
MSL_PREFIX(simd_prefix_exclusive_sum, MSL_REDUCE, msl_prefix_sum, 32, false)
MSL_PREFIX(simd_prefix_inclusive_product, MSL_REDUCE, msl_prefix_product, 32, true)
MSL_PREFIX(simd_prefix_exclusive_product, MSL_REDUCE, msl_prefix_product, 32, false)
MSL_PREFIX(quad_prefix_inclusive_sum, MSL_QUAD_REDUCE, msl_prefix_sum, 4, true)
MSL_PREFIX(quad_prefix_exclusive_sum, MSL_QUAD_REDUCE, msl_prefix_sum, 4, false)
MSL_SHUFFLING(shuffle, n, false)
MSL_SHUFFLING(broadcast, n, false)
MSL_SHUFFLING(shuffle_xor, l ^ n, false)
MSL_SHUFFLING(shuffle_up, l - n, true)
MSL_SHUFFLING(shuffle_down, l + n, true)
MSL_SHUFFLING(shuffle_rotate_up, (l - n) & (w - 1), false)
MSL_SHUFFLING(shuffle_rotate_down, (l + n) & (w - 1), false)
#ifdef MSL_STRICT
template <class T> T simd_broadcast_first(T x);
template <class T> T quad_broadcast_first(T x);
#else
template <class T, int width>
MSL_UNTRACED void msl_first(void* const* payload, msl_u32 mask) {
  for (int base = 0; base < 32; base += width) {
    int first = base;
    while (first < base + width && !((mask >> first) & 1)) first++;
    for (int i = first + 1; i < base + width; i++)
      if ((mask >> i) & 1) *(T*)payload[i] = *(T*)payload[first];
  }
}
template <class T>
MSL_INLINE T simd_broadcast_first(T x MSL_AT) { msl_collective(site, MSL_SHUFFLE, &x, msl_first<T, 32>); return x; }
template <class T>
MSL_INLINE T quad_broadcast_first(T x MSL_AT) { msl_collective(site, MSL_QUAD_SHUFFLE, &x, msl_first<T, 4>); return x; }
#endif

}  // namespace metal
