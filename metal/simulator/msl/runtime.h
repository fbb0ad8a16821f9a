// What a kernel and the scheduler share: lanes, sites, collectives, the arena of threadgroup memory. Knows no MSL
// names.
#pragma once

typedef unsigned int msl_u32;

// Where in the source a call stands; one object a call site, so sites are compared by address. The layout is clang's.
struct msl_site {
  const char* file;
  const char* function;
  msl_u32 line, column;
};
namespace std {
struct source_location {
  struct __impl { const char* _M_file_name; const char* _M_function_name; unsigned _M_line, _M_column; };
};
}  // namespace std
#define MSL_HERE const void* site = __builtin_source_location()

enum msl_kind { MSL_REDUCE = 0, MSL_SHUFFLE = 1, MSL_QUAD_REDUCE = 2, MSL_QUAD_SHUFFLE = 3, MSL_MATRIX = 4,
                MSL_VOTE = 5, MSL_SIMD_BARRIER = 6, MSL_KINDS = 7 };

// Combines the payloads of the lanes in `mask`; the others' pointers are stale.
typedef void (*msl_combine)(void* const* payload, msl_u32 mask);

struct msl_lane {
  void* stack_pointer;
  const void* site;
  msl_combine combine;
  msl_u32 kind, flags;         // flags: of a barrier
  msl_u32 index;               // in the threadgroup
  msl_u32 position[3];         // in the threadgroup
};

// One simdgroup. `payload` is apart from the lanes so that a combine sees one dense array.
struct msl_simdgroup {
  void* payload[32];
  msl_u32 runnable, waiting, at_barrier, live;  // bit masks of lanes
};

struct msl_world {
  msl_lane* current;
  void* const* buffers;
  msl_u32 grid[3], threadgroup[3], threadgroups[3];  // threadgroup: as asked for, edge groups are smaller
  msl_u32 group[3], group_size[3], lanes, simdgroups;
  unsigned char* arena;
  msl_u32 arena_used, arena_size;
};

#ifdef __cplusplus
extern "C" {
#endif
#define MSL_HIDDEN __attribute__((visibility("hidden")))
extern MSL_HIDDEN msl_world msl;
MSL_HIDDEN void msl_collective(const void* site, msl_u32 kind, void* payload, msl_combine combine);
MSL_HIDDEN void msl_simd_barrier(const void* site, msl_u32 flags);
MSL_HIDDEN void msl_barrier(const void* site, msl_u32 flags);
// Space for one threadgroup variable, the same for all lanes; the first lane to come allots it.
MSL_HIDDEN void* msl_allot(void** slot, unsigned long size, unsigned long align, const char* name, const char* file,
                            int line);
// An atomic access of `size` bytes, for the checked build. order: 0 read, 1 write, 2 both.
MSL_HIDDEN void msl_atomic(const void* site, const volatile void* address, unsigned long size, int order);
MSL_HIDDEN void msl_fault(const void* site, const char* kind, long value);
#ifdef __cplusplus
}
#endif

#ifdef MSL_CHECKED
#define MSL_FAULT(site, kind, value) msl_fault(site, kind, value)
#define MSL_ATOMIC(site, address, order) msl_atomic(site, address, sizeof(*(address)), order)
#else
#define MSL_FAULT(site, kind, value) ((void)0)
#define MSL_ATOMIC(site, address, order) ((void)(site))
#endif

template <class T>
inline __attribute__((always_inline, nodebug)) T& msl_threadgroup(void*& slot, const char* name, const char* file,
                                                                     int line) {
  if (__builtin_expect(slot != nullptr, 1)) return *(T*)slot;
  return *(T*)msl_allot(&slot, sizeof(T), alignof(T), name, file, line);
}
