// Atomics. Lanes take turns only at collectives, so plain loads and stores are atomic already; the order between lanes
// is that of their indices, which no kernel may rely on.
#pragma once
#include "simd.h"

#ifdef MSL_STRICT  // OpenCL has atomics of these names, without template
#define atomic_int msl_atomic_int
#define atomic_uint msl_atomic_uint
#define atomic_ulong msl_atomic_ulong
#define atomic_float msl_atomic_float
#define atomic_bool msl_atomic_bool
#define memory_order msl_memory_order
#define memory_order_relaxed msl_memory_order_relaxed
#define memory_order_acquire msl_memory_order_acquire
#define memory_order_release msl_memory_order_release
#define memory_order_acq_rel msl_memory_order_acq_rel
#define memory_order_seq_cst msl_memory_order_seq_cst
#endif

namespace metal {

enum memory_order {
  memory_order_relaxed, memory_order_acquire, memory_order_release, memory_order_acq_rel, memory_order_seq_cst
};

template <class T>
struct atomic { T value; };
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<ulong> atomic_ulong;
typedef atomic<float> atomic_float;
typedef atomic<bool> atomic_bool;

#ifdef MSL_STRICT
#define MSL_ATOMIC_CHANGE(space, name)  \
  template <class T>                    \
  T atomic_fetch_##name##_explicit(volatile space atomic<T>* at, same_as_t<T> by, memory_order);
#define MSL_ATOMICS(space)                                                                              \
  template <class T> T atomic_load_explicit(const volatile space atomic<T>* at, memory_order);          \
  template <class T> void atomic_store_explicit(volatile space atomic<T>* at, same_as_t<T> v, memory_order); \
  template <class T> T atomic_exchange_explicit(volatile space atomic<T>* at, same_as_t<T> v, memory_order); \
  template <class T> bool atomic_compare_exchange_weak_explicit(                                        \
      volatile space atomic<T>* at, MSL_THREAD T* expected, same_as_t<T> v, memory_order, memory_order); \
  MSL_ATOMIC_CHANGE(space, add) MSL_ATOMIC_CHANGE(space, sub) MSL_ATOMIC_CHANGE(space, max)             \
  MSL_ATOMIC_CHANGE(space, min) MSL_ATOMIC_CHANGE(space, and) MSL_ATOMIC_CHANGE(space, or) MSL_ATOMIC_CHANGE(space, xor)
MSL_ATOMICS(MSL_DEVICE)
MSL_ATOMICS(MSL_THREADGROUP)
#else
template <class T>
MSL_UNTRACED inline T atomic_load_explicit(const volatile atomic<T>* at, memory_order MSL_AT) {
  MSL_ATOMIC(site, at, 0);
  return at->value;
}
template <class T>
MSL_UNTRACED inline void atomic_store_explicit(volatile atomic<T>* at, same_as_t<T> v, memory_order MSL_AT) {
  MSL_ATOMIC(site, at, 1);
  at->value = v;
}
template <class T>
MSL_UNTRACED inline T atomic_exchange_explicit(volatile atomic<T>* at, same_as_t<T> v, memory_order MSL_AT) {
  MSL_ATOMIC(site, at, 2);
  T old = at->value;
  at->value = v;
  return old;
}
template <class T>
MSL_UNTRACED inline bool atomic_compare_exchange_weak_explicit(
    volatile atomic<T>* at, T* expected, same_as_t<T> v, memory_order, memory_order MSL_AT) {
  MSL_ATOMIC(site, at, 2);
  T old = at->value;
  if (__builtin_memcmp(&old, expected, sizeof(T)) == 0) {
    at->value = v;
    return true;
  }
  *expected = old;
  return false;
}
#define MSL_ATOMIC_CHANGE(name, expression)                                                        \
  template <class T>                                                                               \
  MSL_UNTRACED inline T atomic_fetch_##name##_explicit(volatile atomic<T>* at, same_as_t<T> by, memory_order MSL_AT) { \
    MSL_ATOMIC(site, at, 2);                                                                       \
    T old = at->value;                                                                             \
    at->value = T(expression);                                                                     \
    return old;                                                                                    \
  }
MSL_ATOMIC_CHANGE(add, old + by)
MSL_ATOMIC_CHANGE(sub, old - by)
MSL_ATOMIC_CHANGE(max, old < by ? by : old)
MSL_ATOMIC_CHANGE(min, by < old ? by : old)
MSL_ATOMIC_CHANGE(and, old & by)
MSL_ATOMIC_CHANGE(or, old | by)
MSL_ATOMIC_CHANGE(xor, old ^ by)
#endif
MSL_INLINE void atomic_thread_fence(mem_flags, memory_order) {}

}  // namespace metal
