// What the scheduler tells the checker; nothing at all in the plain build.
#pragma once
#include "runtime.h"

extern "C" MSL_HIDDEN void msl_abort();  // ends the dispatch from inside a lane; does not return to it

#ifdef MSL_CHECKED
enum { MSL_RED_ZONE = 64 };
void check_begin(void* state, unsigned char* stacks, unsigned long size);
void check_end();
void check_threadgroup();
void check_allot(void* at, unsigned long size, const char* name, const char* file, int line);
void check_collective(const msl_lane& lane, const msl_simdgroup& g, msl_u32 together);
void check_barrier(const msl_lane* lanes, const msl_simdgroup* groups);
#else
enum { MSL_RED_ZONE = 0 };
static inline void check_begin(void*, unsigned char*, unsigned long) {}
static inline void check_end() {}
static inline void check_threadgroup() {}
static inline void check_allot(void*, unsigned long, const char*, const char*, int) {}
static inline void check_collective(const msl_lane&, const msl_simdgroup&, msl_u32) {}
static inline void check_barrier(const msl_lane*, const msl_simdgroup*) {}
#endif
