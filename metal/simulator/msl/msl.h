// The Metal Shading Language, as far as kernels use it. Comes before every kernel, as a precompiled header.
#pragma once
#include "types.h"
#include "math.h"
#include "simd.h"
#include "atomic.h"
#include "matrix.h"

#ifndef MSL_STRICT
// How the generated entry hands over arguments: a kernel's parameter converts from these whatever its exact type.
struct msl_pointer {
  void* at;
  template <class T>
  MSL_INLINE operator T*() const { return (T*)at; }
};
struct msl_reference {
  void* at;
  template <class T>
  MSL_INLINE operator T&() const { return *(T*)at; }
};
struct msl_triple {
  uint x, y, z;
  MSL_INLINE operator uint() const { return x; }
  MSL_INLINE operator ushort() const { return ushort(x); }
  MSL_INLINE operator uint2() const { return uint2{x, y}; }
  MSL_INLINE operator ushort2() const { return ushort2{ushort(x), ushort(y)}; }
  MSL_INLINE operator uint3() const { return uint3{x, y, z}; }
  MSL_INLINE operator ushort3() const { return ushort3{ushort(x), ushort(y), ushort(z)}; }
};
#define MSL_TRIPLE(name, a) MSL_INLINE msl_triple msl_##name() { return {(a)[0], (a)[1], (a)[2]}; }
#define MSL_SINGLE(name, e) MSL_INLINE msl_triple msl_##name() { return {uint(e), 0, 0}; }
MSL_TRIPLE(thread_position_in_threadgroup, msl.current->position)
MSL_TRIPLE(threadgroup_position_in_grid, msl.group)
MSL_TRIPLE(threads_per_threadgroup, msl.group_size)
MSL_TRIPLE(dispatch_threads_per_threadgroup, msl.threadgroup)
MSL_TRIPLE(threads_per_grid, msl.grid)
MSL_TRIPLE(threadgroups_per_grid, msl.threadgroups)
MSL_SINGLE(thread_index_in_threadgroup, msl.current->index)
MSL_SINGLE(thread_index_in_simdgroup, msl.current->index & 31)
MSL_SINGLE(simdgroup_index_in_threadgroup, msl.current->index >> 5)
MSL_SINGLE(simdgroups_per_threadgroup, msl.simdgroups)
MSL_SINGLE(dispatch_simdgroups_per_threadgroup,
           (msl.threadgroup[0] * msl.threadgroup[1] * msl.threadgroup[2] + 31) / 32)
MSL_SINGLE(threads_per_simdgroup, 32)
MSL_SINGLE(thread_execution_width, 32)
MSL_SINGLE(thread_index_in_quadgroup, msl.current->index & 3)
MSL_SINGLE(quadgroup_index_in_threadgroup, msl.current->index >> 2)
MSL_SINGLE(quadgroup_index_in_simdgroup, (msl.current->index & 31) >> 2)
MSL_INLINE msl_triple msl_thread_position_in_grid() {
  const msl_u32* p = msl.current->position;
  return {msl.group[0] * msl.threadgroup[0] + p[0], msl.group[1] * msl.threadgroup[1] + p[1],
          msl.group[2] * msl.threadgroup[2] + p[2]};
}
#endif

#define __METAL__ 1
#define __METAL_VERSION__ 310
#define __HAVE_BFLOAT__ 1
#define METAL_FUNC inline __attribute__((always_inline))
#define METAL_INTERNAL inline
// MSL's qualifiers, last: no header of ours may use these words.
#ifndef MSL_STRICT
#define constant
#endif
#define device MSL_DEVICE
#define threadgroup MSL_THREADGROUP
#define thread MSL_THREAD
#define kernel
